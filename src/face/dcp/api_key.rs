//! `dcp.key.*`: API keys, which stand for a keystore kept here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::account_param::keystore_text;
use super::accounts::Secretive;
use super::identity::{identity, unlock_given};
use super::presented::{KEY_DIGITS, key_digest};
use super::secret::Secret;
use super::style::STYLE;
use super::{refuse, refuse_each, unauthenticated};
use crate::app::Cx;
use crate::engine::Turn;
use crate::method::{Access, Def, Method, RestRequest, Spec, Verb};
use crate::model::address::Address;
use crate::store::{Draft, IDENTITIES, KEYSTORE_KEYS, KeystoreKeyRow};
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<Create>(), Def::call::<Revoke>()];

/// Most API keys of one identity.
const MOST_KEYS: u32 = 1_000;
/// Longest email address, bytes.
const MOST_EMAIL: usize = 320;

/// Makes an API key, which from then on stands for the keystore.
///
/// The keystore is kept as it is, encrypted; its password is not kept, but is the second half of
/// the key. Needs no credentials: the keystore must unlock.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpKeyCreateParams")]
pub struct Create {
    /// A version 3 keystore, as an object or as JSON text.
    pub keystore: Secretive,
    /// Its password.
    pub token: Secret,
    /// Where its owner can be reached.
    #[serde(default)]
    pub email: Option<String>,
    /// Not needed, and not looked at.
    #[serde(default)]
    pub auth: Option<Secret>,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpKey")]
pub struct KeyView {
    /// 20 hexadecimal digits, a dot and the keystore's password; to be sent as `Bearer <key>`.
    pub key: Secret,
}

impl Method for Create {
    type Output = KeyView;
    const SPEC: Spec = Spec::new("dcp.key.create", Access::Anyone)
        .rest(Verb::Post, "/api/v0/key", 200)
        .also(&["/api/key"])
        .style(&STYLE)
        .errors(&[Code::Unauthenticated, Code::LimitReached, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<KeyView> {
        let Self { keystore: Secretive(keystore), token, email, auth: _ } = self;
        check(&keystore, email.as_deref())?;
        let unlocked = unlock_given(&cx, &keystore, token.clone()).await?;
        let (identity, _) = unlocked.ok_or_else(unauthenticated)?;
        let keystore = keystore_text(&keystore).ok_or_else(unauthenticated)?;
        let digits = digits()?;
        let digest = key_digest(&digits).ok_or_else(|| Error::Bug("odd digits".to_owned()))?;
        let change = move |turn: &mut Turn<'_>| {
            let mut owner = turn.get(IDENTITIES, &identity)?.unwrap_or_default();
            if owner.keys >= MOST_KEYS {
                return Err(refuse(429, format!("an identity has at most {MOST_KEYS} API keys")));
            }
            owner.keys += 1;
            turn.put(IDENTITIES, &identity, &owner)?;
            let row = KeystoreKeyRow { identity, keystore, email, created_at: turn.now };
            turn.put(KEYSTORE_KEYS, &digest, &row)?;
            tell(turn, "key.created", identity);
            Ok(())
        };
        cx.app.engine.change(change).await?;
        Ok(KeyView { key: Secret::new(format!("{digits}.{}", &*token)) })
    }

    fn from_rest(request: &RestRequest<'_>) -> Option<Result<Self>> {
        Some(read(&request.body))
    }
}

/// Reads the body of a request, and says all that is wrong with it at once.
fn read(body: &[u8]) -> Result<Create> {
    let mut members: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|err| refuse(400, format!("the body must be a JSON object: {}", shape(&err))))?;
    let mut wrong = Vec::new();
    let mut text = |name: &str, required: bool| match members.remove(name) {
        Some(Value::String(text)) => Some(text),
        None | Some(Value::Null) if required => {
            wrong.push(format!("{name}: required"));
            None
        }
        None | Some(Value::Null) => None,
        Some(_) => {
            wrong.push(format!("{name}: must be text"));
            None
        }
    };
    let (token, email) = (text("token", true), text("email", false));
    let keystore = members.remove("keystore").unwrap_or_default();
    match &keystore {
        Value::Object(_) | Value::String(_) => {}
        Value::Null => wrong.push("keystore: required".to_owned()),
        _ => wrong.push("keystore: must be an object, or JSON text".to_owned()),
    }
    match token {
        Some(token) if wrong.is_empty() => {
            let (keystore, token) = (Secretive(keystore), Secret::new(token));
            Ok(Create { keystore, token, email, auth: None })
        }
        _ => Err(refuse_each(400, wrong.join("; "), &wrong)),
    }
}

/// What is wrong with the text, without what stands in it.
fn shape(err: &serde_json::Error) -> String {
    match err.classify() {
        serde_json::error::Category::Data => "it is of another type".to_owned(),
        _ => format!("line {}, column {}", err.line(), err.column()),
    }
}

fn check(keystore: &Value, email: Option<&str>) -> Result<()> {
    match keystore {
        Value::Object(_) | Value::String(_) => {}
        Value::Null => return Err(refuse(400, "keystore: required")),
        _ => return Err(refuse(400, "keystore: must be an object, or JSON text")),
    }
    match email {
        Some(email) if email.len() > MOST_EMAIL || email.chars().any(char::is_control) => {
            let text = format!("email: at most {MOST_EMAIL} bytes without control characters");
            Err(refuse(400, text))
        }
        _ => Ok(()),
    }
}

/// Digits that nobody can guess.
fn digits() -> Result<String> {
    let mut bytes = [0_u8; KEY_DIGITS / 2];
    getrandom::fill(&mut bytes).map_err(|err| Error::Bug(format!("no random bytes: {err}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Revokes an API key of the caller's identity; it ends at once.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpKeyRevokeParams")]
pub struct Revoke {
    /// The key; its first 20 digits are enough.
    pub key: Secret,
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
}

/// The answer of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpKeyRevoked")]
pub struct Revoked {
    /// Always true.
    pub revoked: bool,
}

impl Method for Revoke {
    type Output = Revoked;
    const SPEC: Spec = Spec::new("dcp.key.revoke", Access::Anyone).style(&STYLE).errors(&[
        Code::Unauthenticated,
        Code::Forbidden,
        Code::NotFound,
        Code::LimitReached,
        Code::StorageError,
    ]);

    async fn call(self, cx: Cx) -> Result<Revoked> {
        let owner = identity(&cx, self.auth.as_deref()).await?.address;
        let digits = self.key.split_once('.').map_or(&*self.key, |(digits, _)| digits);
        let bad = || refuse(400, format!("key: must be {KEY_DIGITS} hexadecimal digits"));
        let digest = key_digest(digits).ok_or_else(bad)?;
        let change = move |turn: &mut Turn<'_>| {
            let row = turn.get(KEYSTORE_KEYS, &digest)?;
            let row = row.ok_or_else(|| refuse(404, "key: there is no such key"))?;
            if row.identity != owner {
                return Err(refuse(403, "key: not a key of this identity"));
            }
            turn.remove(KEYSTORE_KEYS, &digest);
            let mut counted = turn.get(IDENTITIES, &owner)?.unwrap_or_default();
            counted.keys = counted.keys.saturating_sub(1);
            turn.put(IDENTITIES, &owner, &counted)?;
            tell(turn, "key.revoked", owner);
            Ok(Revoked { revoked: true })
        };
        cx.app.engine.change(change).await
    }
}

fn tell(turn: &mut Turn<'_>, kind: &'static str, owner: Address) {
    turn.emit(Draft {
        kind,
        context_id: None,
        subject: format!("dcp/{owner}/key"),
        group: None,
        data: json!({ "identity": owner.to_string() }).to_string(),
    });
}
