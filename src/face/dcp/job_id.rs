//! Which job a call is about, and whether it is the caller's.

use serde_json::Value;

use super::identity::identity;
use super::refuse;
use super::secret::Secret;
use crate::Result;
use crate::app::{App, Cx};
use crate::model::address::Address;
use crate::model::work::Ledger;
use crate::store::{WORK_RUNS, WORKS, WorkRow};

/// Reads `0x` and 40 hexadecimal digits in any case; the `0x` may be left out.
///
/// # Errors
/// 400 for anything else.
pub(super) fn read(job_id: Option<&Value>) -> Result<Address> {
    let wrong = || refuse(400, "jobId: must be 0x and 40 hexadecimal digits");
    match job_id {
        None | Some(Value::Null) => Err(refuse(400, "jobId: required")),
        Some(Value::String(text)) => Address::parse(text).ok_or_else(wrong),
        Some(_) => Err(wrong()),
    }
}

/// A job of the caller.
///
/// # Errors
/// 401; 400 for a malformed id, 404 for an unknown one, 403 for a foreign one.
pub(super) async fn own_job(
    cx: &Cx,
    auth: Option<&Secret>,
    job_id: Option<&Value>,
) -> Result<(Address, WorkRow)> {
    job_of(cx, identity(cx, auth.map(|auth| &**auth)).await?.address, job_id)
}

/// A job of this identity.
///
/// # Errors
/// 400 for a malformed id, 404 for an unknown one, 403 for a foreign one.
pub(super) fn job_of(
    cx: &Cx,
    owner: Address,
    job_id: Option<&Value>,
) -> Result<(Address, WorkRow)> {
    let id = read(job_id)?;
    let row = cx.app.store.get(WORKS, &id)?;
    let row = row.ok_or_else(|| refuse(404, format!("there is no job {id}")))?;
    if row.owner == owner {
        Ok((id, row))
    } else {
        Err(refuse(403, format!("the job {id} belongs to another identity")))
    }
}

/// How a job stands.
///
/// # Errors
/// Storage errors.
pub(super) fn ledger(app: &App, number: u32) -> Result<Ledger> {
    Ok(app.store.get(WORK_RUNS, &number)?.map(|run| run.ledger).unwrap_or_default())
}

/// The JSON of an optional text in the path of a request.
pub(super) fn captured(request: &crate::method::RestRequest<'_>, name: &str) -> Option<Value> {
    request.captures.get(name).map(|text| Value::String(text.into_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_read_leniently_and_nothing_else_is() {
        let want = "0x5f0c1d5f0c1d5f0c1d5f0c1d5f0c1d5f0c1d5f0c";
        for text in [want, &want[2..], &want.to_uppercase()] {
            assert_eq!(read(Some(&json!(text))).unwrap().to_string(), want);
        }
        for wrong in
            [None, Some(json!(null)), Some(json!(5)), Some(json!(&want[..41])), Some(json!(""))]
        {
            assert_eq!(read(wrong.as_ref()).unwrap_err().http(), 400);
        }
    }
}
