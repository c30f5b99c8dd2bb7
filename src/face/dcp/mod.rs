//! The compute face: work functions over slices, and whose they are.

pub mod account;
pub mod account_param;
pub mod accounts;
pub mod accounts_credit;
pub mod api_key;
pub mod group;
pub mod identity;
mod job_body;
pub mod job_deploy;
mod job_function;
pub mod job_hold;
mod job_id;
pub mod job_list;
mod job_params;
pub mod job_result;
pub mod job_slices;
pub mod job_status;
pub mod job_subscribe;
mod job_watch;
mod key_watch;
mod keystore;
mod keystore_cache;
mod keystore_gate;
mod keystore_unlock;
mod presented;
mod results;
pub mod secret;
mod selection;
mod slice_texts;
pub mod style;
mod webhook;
pub mod webhook_courier;
mod webhook_delivery;
mod webhook_page;

use serde_json::{Map, Value};

use crate::error::Refusal;
use crate::{Code, Error};

/// A refusal with this status and one sentence about why.
pub fn refuse(status: u16, text: impl Into<String>) -> Error {
    refusal(status, text.into(), &[]).into()
}

/// The same, with one text per problem.
pub fn refuse_each(status: u16, text: impl Into<String>, messages: &[String]) -> Error {
    refusal(status, text.into(), messages).into()
}

/// No valid credentials; which of the many ways in which they are not is not told.
pub fn unauthenticated() -> Error {
    refuse(401, "valid credentials are needed: Basic with a keystore, or Bearer with an API key")
}

fn refusal(status: u16, text: String, messages: &[String]) -> Refusal {
    let mut body = Map::new();
    body.insert("error".to_owned(), Value::String(text));
    if !messages.is_empty() {
        body.insert("messages".to_owned(), messages.into());
    }
    let mut refusal = Refusal::new(code_of(status), status, body);
    match status {
        401 => refusal.challenge = Some("Basic realm=\"dcp\""),
        429 | 503 => refusal.retry_after = Some(1),
        _ => {}
    }
    refusal
}

/// The one table of codes, read from the status.
fn code_of(status: u16) -> Code {
    match status {
        401 => Code::Unauthenticated,
        403 => Code::Forbidden,
        404 => Code::NotFound,
        405 | 501 => Code::MethodNotFound,
        409 => Code::Conflict,
        410 => Code::Gone,
        413 | 429 => Code::LimitReached,
        424 => Code::FailedDependency,
        500 => Code::InternalError,
        502 | 503 => Code::Unavailable,
        _ => Code::InvalidParams,
    }
}
