//! Refusals in the directory's words.

use serde_json::{Map, Value};

use crate::error::Refusal;
use crate::identity::public::is_node_id;
use crate::method::{Captures, RestFault, RestStyle};
use crate::{Code, Error};

/// Most that is read of a body of the catalogue before it is refused without a further look, bytes.
const CATALOGUE_BODY: u32 = 1 << 20;
/// Longest text for people, characters.
const DETAIL: usize = 300;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal, $status:literal, $code:literal;)+) => {
        /// Why something is refused, as clients tell it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $($(#[doc = $doc])+ $name),+ }

        impl Reason {
            /// The stable word.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }

            /// The status that REST clients see.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }

            /// The boundary code of the protocol.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }
        }
    };
}

reasons! {
    /// The route does not take the method.
    MethodNotAllowed = "method-not-allowed", 405, "E_TRANSPORT_REJECTED";
    /// The body is not said to be JSON.
    MediaType = "media-type-unsupported", 415, "E_TRANSPORT_REJECTED";
    /// The body is too large.
    TooLarge = "body-too-large", 413, "E_TRANSPORT_REJECTED";
    /// The path names no node.
    NodeIdMalformed = "node-id-malformed", 400, "E_PROTO_INVALID";
    /// The body is not JSON.
    JsonMalformed = "json-malformed", 400, "E_PROTO_INVALID";
    /// The body is nested too deeply.
    NestingTooDeep = "nesting-too-deep", 400, "E_PROTO_INVALID";
    /// An object has a key twice.
    DuplicateKey = "duplicate-key", 400, "E_PROTO_INVALID";
    /// A number does not survive.
    NumberInvalid = "number-invalid", 422, "E_PROTO_INVALID";
    /// It is not what an advertisement must be.
    SchemaViolation = "schema-violation", 422, "E_PROTO_INVALID";
    /// It is of another version of the contract.
    VersionUnsupported = "schema-version-unsupported", 422, "E_PROTO_VERSION";
    /// An endpoint has an address that cannot be used.
    EndpointInvalid = "endpoint-invalid", 422, "E_PROTO_INVALID";
    /// It is about another node than the path.
    NodeIdMismatch = "node-id-mismatch", 422, "E_PROTO_INVALID";
    /// Its key is not that of its node.
    KeyMismatch = "key-mismatch", 422, "E_PROTO_INVALID";
    /// Its key is no key.
    KeyInvalid = "key-invalid", 422, "E_PROTO_INVALID";
    /// The node did not sign this.
    SignatureInvalid = "signature-invalid", 403, "E_SIG_INVALID";
    /// Its federation is not served here.
    FederationNotServed = "federation-not-served", 403, "E_PROTO_INVALID";
    /// It expires before it is made.
    ValidityInverted = "validity-inverted", 422, "E_PROTO_INVALID";
    /// It has expired.
    Expired = "expired", 422, "E_ADV_EXPIRED";
    /// It is made in the future.
    InFuture = "advertised-in-future", 422, "E_PROTO_INVALID";
    /// It lives too long.
    TooLong = "ttl-too-long", 422, "E_PROTO_INVALID";
    /// Too many writes.
    RateLimited = "rate-limited", 429, "E_TRANSPORT_REJECTED";
    /// There is no room for another node.
    CapacityExhausted = "capacity-exhausted", 503, "E_TRANSPORT_REJECTED";
    /// It could not be stored.
    StorageUnavailable = "storage-unavailable", 503, "E_TRANSPORT_REJECTED";
    /// The cursor is none.
    CursorInvalid = "cursor-invalid", 400, "E_PROTO_INVALID";
    /// The limit is none.
    LimitInvalid = "limit-invalid", 400, "E_PROTO_INVALID";
    /// Nothing is attested here.
    AttestationUnavailable = "attestation_unavailable", 503, "E_TRANSPORT_REJECTED";
    /// The path names no capability.
    CapabilityIdMalformed = "capability-id-malformed", 400, "E_PROTO_INVALID";
    /// What is registered is about another node than the path.
    OtherNode = "node-id-mismatch", 403, "E_PROTO_INVALID";
    /// What is registered is about another capability than the path.
    OtherCapability = "capability-id-mismatch", 403, "E_PROTO_INVALID";
    /// The issuer's key is no key.
    IssuerInvalid = "issuer-invalid", 403, "E_SIG_INVALID";
    /// The issuer did not sign the passport.
    PassportSignature = "passport-signature-invalid", 403, "E_SIG_INVALID";
    /// Somebody signed in the place of the issuer.
    DelegationUnsupported = "delegation-unsupported", 403, "E_SIG_INVALID";
    /// The passport has expired.
    PassportExpired = "passport-expired", 403, "E_ADV_EXPIRED";
    /// The passport is issued in the future.
    PassportInFuture = "passport-issued-in-future", 403, "E_PROTO_INVALID";
    /// The passport expires before it is issued.
    PassportInverted = "passport-validity-inverted", 403, "E_PROTO_INVALID";
    /// The passport is revoked.
    PassportRevoked = "passport-revoked", 403, "E_SIG_INVALID";
    /// The node did not sign the advertisement of its capabilities.
    PresentationSignature = "advertisement-signature-invalid", 403, "E_SIG_INVALID";
    /// That advertisement is published in the future.
    PresentationInFuture = "advertisement-published-in-future", 403, "E_PROTO_INVALID";
    /// That advertisement is too old.
    PresentationOld = "advertisement-not-fresh", 403, "E_ADV_EXPIRED";
    /// That advertisement does not have the capability.
    NotPresented = "capability-not-presented", 403, "E_PROTO_INVALID";
    /// That advertisement has another passport for the capability.
    OtherPassport = "passport-mismatch", 403, "E_PROTO_INVALID";
    /// There is no federation root here that an endorsement could be checked with.
    RootUnknown = "endorsement-root-unknown", 403, "E_PROTO_INVALID";
    /// The node has too many capabilities.
    TooManyCapabilities = "capability-registration-limit-exceeded", 429, "E_TRANSPORT_REJECTED";
    /// Who revokes is neither the issuer nor the subject.
    NotRevocable = "revocation-not-authorised", 403, "E_SIG_INVALID";
    /// It is revoked in the future.
    RevokedInFuture = "revoked-in-future", 403, "E_PROTO_INVALID";
    /// The request cannot be read.
    RequestInvalid = "request-invalid", 400, "E_PROTO_INVALID";
    /// A bug.
    Internal = "internal-error", 500, "E_TRANSPORT_REJECTED";
}

/// A reason, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// For people; nothing that came from outside.
    pub detail: Option<String>,
}

impl From<Reason> for Rejection {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: None }
    }
}

impl Rejection {
    pub(in crate::face) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: Some(detail.into()) }
    }

    /// As it is answered; `slot` is the node in the path, unless that is malformed.
    pub(in crate::face) fn refusal(self, slot: Option<&str>) -> Refusal {
        let status = self.reason.status();
        let word = if matches!(status, 400 | 422) { "invalid" } else { "rejected" };
        let mut body = Map::new();
        let mut add = |name: &str, value: &str| body.insert(name.to_owned(), value.into());
        add("status", word);
        add("reason", self.reason.word());
        add("code", self.reason.code());
        if let Some(slot) = slot {
            add("node/id", slot);
        }
        if let Some(detail) = self.detail {
            add("detail", &detail.chars().take(DETAIL).collect::<String>());
        }
        Refusal::new(wire_code(status), status, body)
    }

    pub(in crate::face) fn error(self, slot: Option<&str>) -> Error {
        self.refusal(slot).into()
    }
}

/// A write that came too soon.
pub(in crate::face) fn rate_limited(slot: Option<&str>, wait: std::time::Duration) -> Refusal {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let seconds = u32::try_from(seconds.max(1)).unwrap_or(u32::MAX);
    let mut refusal = Rejection::from(Reason::RateLimited).refusal(slot);
    refusal.body.insert("retry-after-s".to_owned(), seconds.into());
    refusal.retry_after = Some(seconds);
    refusal
}

/// A statement that is not newer than one accepted before; exactly the published members.
pub(in crate::face) fn stale(slot: &str, current: u64, submitted: u64) -> Refusal {
    let mut body = Map::new();
    let mut add = |name: &str, value: Value| body.insert(name.to_owned(), value);
    add("status", "conflict".into());
    add("reason", "stale-sequence".into());
    add("node/id", slot.into());
    add("current/sequence-no", current.into());
    add("submitted/sequence-no", submitted.into());
    Refusal::new(Code::Conflict, 409, body)
}

/// Nothing is known of a node; exactly the published members.
pub(in crate::face) fn not_found(slot: &str) -> Refusal {
    let mut body = Map::new();
    body.insert("status".to_owned(), "not-found".into());
    body.insert("node/id".to_owned(), slot.into());
    Refusal::new(Code::NotFound, 404, body)
}

const fn wire_code(status: u16) -> Code {
    match status {
        400 | 415 | 422 => Code::InvalidParams,
        403 => Code::Forbidden,
        404 => Code::NotFound,
        405 => Code::MethodNotFound,
        409 => Code::Conflict,
        413 | 429 => Code::LimitReached,
        503 => Code::Unavailable,
        _ => Code::InternalError,
    }
}

/// What routes that take signed statements answer besides.
pub(in crate::face) const UNFIT: (u16, &str) =
    (422, "It can be read, but is wrong; `reason` says how.");

/// How the routes of advertisements read requests and word refusals.
pub(super) static STYLE: RestStyle = RestStyle {
    // Refused by its length before it has come; what is read is measured again.
    max_body_bytes: |config| config.directory.max_bytes,
    ..CATALOGUE_STYLE
};

/// The same for the catalogue beside them, whose artifacts hold several statements.
pub const CATALOGUE_STYLE: RestStyle = RestStyle {
    max_body_bytes: |config| config.directory.max_bytes.max(CATALOGUE_BODY),
    any_media_type: false,
    trailing_slash: false,
    any_origin: false,
    refuse,
};

fn refuse(fault: &RestFault<'_>, captures: &Captures<'_>) -> Refusal {
    let slot = captures.get("node_id").filter(|slot| is_node_id(slot));
    let rejection = match fault {
        RestFault::Verb(_) => Reason::MethodNotAllowed.into(),
        RestFault::MediaType => Reason::MediaType.into(),
        RestFault::TooLarge(_) => Reason::TooLarge.into(),
        RestFault::Error(Error::TooOften { wait, .. }) => {
            return rate_limited(slot.as_deref(), *wait);
        }
        RestFault::Error(err) => of_error(err),
    };
    rejection.refusal(slot.as_deref())
}

/// An error of ours in the directory's words.
pub(in crate::face) fn of_error(err: &Error) -> Rejection {
    match err {
        Error::Store(_) | Error::Unavailable(_) => Reason::StorageUnavailable.into(),
        Error::Params { field, reason } if field.is_empty() => {
            Rejection::new(Reason::RequestInvalid, reason.clone())
        }
        Error::Params { field, reason } => {
            Rejection::new(Reason::RequestInvalid, format!("{field}: {reason}"))
        }
        Error::Limit { .. } | Error::TooOften { .. } => Reason::RateLimited.into(),
        err => {
            // Logs the incident and gives its number.
            let data = err.data();
            let incident = data.get("incident").and_then(Value::as_str);
            Rejection {
                reason: Reason::Internal,
                detail: incident.map(|incident| format!("logged as {incident}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_who_calls_too_often_is_told_when_to_come_back() {
        let err = Error::TooOften { what: "calls", limit: 5, wait: Duration::from_millis(1_200) };
        let refusal = refuse(&RestFault::Error(&err), &Captures::default());
        assert_eq!((refusal.status, refusal.retry_after), (429, Some(2)));
        assert_eq!(refusal.body.get("reason"), Some(&Value::from("rate-limited")));
        assert_eq!(refusal.body.get("retry-after-s"), Some(&Value::from(2)));
    }
}
