//! How the REST routes of this face read requests and word their refusals.

use super::refusal;
use crate::error::Refusal;
use crate::method::{Captures, RestFault, RestStyle};
use crate::{Code, Error};

/// Any JSON up to 1 MiB is read, which is more than a keystore or thousands of ranges have,
/// pages of every origin may call, and a refusal is `{"error": "<one sentence>"}`, sometimes with
/// `messages`.
pub static STYLE: RestStyle = BASE;

/// The same for slices, up to 64 MiB: who reads them makes no tree of them, which takes fifty times
/// the memory.
pub static LARGE: RestStyle = RestStyle { max_body_bytes: |_| 64 << 20, ..BASE };

const BASE: RestStyle = RestStyle {
    max_body_bytes: |_| 1 << 20,
    any_media_type: true,
    trailing_slash: true,
    any_origin: true,
    refuse,
};

fn refuse(fault: &RestFault<'_>, _: &Captures<'_>) -> Refusal {
    let status = fault.status();
    match fault {
        RestFault::Verb(verbs) => {
            let text = format!("this path does not take that method, but {}", verbs.join(", "));
            refusal(status, text, &[])
        }
        RestFault::MediaType => refusal(status, "the body must be JSON".to_owned(), &[]),
        RestFault::TooLarge(limit) => {
            refusal(status, format!("the body is larger than {limit} bytes"), &[])
        }
        RestFault::Error(err) => of_error(err),
    }
}

/// What a failure that knows nothing of this face is called here.
pub fn of_error(err: &Error) -> Refusal {
    let status = err.http();
    match err {
        Error::Refused(refusal) => (**refusal).clone(),
        Error::Params { .. } => {
            let text = err.to_string();
            let messages = [text.clone()];
            refusal(status, text, &messages)
        }
        Error::Store(_) => {
            let mut told = refusal(status, "the change could not be stored".to_owned(), &[]);
            told.code = Code::StorageError;
            told
        }
        Error::Bug(_) => {
            // The data say under which number it was logged.
            let data = err.data();
            let incident = data.get("incident").and_then(|id| id.as_str()).unwrap_or_default();
            refusal(status, format!("internal error, logged as {incident}"), &[])
        }
        err => {
            let mut told = refusal(status, err.to_string(), &[]);
            told.code = err.code();
            told.retry_after = err.retry_after().or(told.retry_after);
            told
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::face::dcp::{refuse, unauthenticated};
    use crate::store::StoreError;

    fn worded(err: &Error) -> (Code, u16, String) {
        let told = of_error(err);
        (told.code, told.status, serde_json::to_string(&told.body).unwrap())
    }

    #[test]
    fn every_failure_is_one_sentence_under_error() {
        let cases = [
            (Error::params("jobId", "40 digits"), Code::InvalidParams, 400),
            (Error::Store(Arc::new(StoreError::Closed)), Code::StorageError, 500),
            (Error::Limit { what: "bytes in a request".into(), limit: 1 }, Code::LimitReached, 413),
            (Error::Bug("secret detail".into()), Code::InternalError, 500),
            (Error::Unavailable("stopping"), Code::Unavailable, 503),
            (refuse(409, "cancelled"), Code::Conflict, 409),
        ];
        for (err, code, status) in cases {
            let (got, http, body) = worded(&err);
            assert_eq!((got, http), (code, status), "{err:?}");
            assert!(body.starts_with("{\"error\":\""), "{body}");
            assert!(!body.contains("secret detail"), "{body}");
        }
        let (_, _, body) = worded(&Error::params("jobId", "40 digits"));
        assert_eq!(body, r#"{"error":"jobId: 40 digits","messages":["jobId: 40 digits"]}"#);
    }

    #[test]
    fn a_failed_login_carries_the_challenge() {
        let Error::Refused(refusal) = unauthenticated() else { panic!() };
        assert_eq!(refusal.challenge, Some("Basic realm=\"dcp\""));
        assert_eq!((refusal.code, refusal.status), (Code::Unauthenticated, 401));
    }
}
