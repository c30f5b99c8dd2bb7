//! Which slices are meant: ranges such as `3-7`, and a single number.

use serde_json::Value;

use super::job_params::whole;
use super::refuse;
use crate::Result;
use crate::model::numbers::Numbers;

/// Most ranges in one call.
const RANGES: usize = 100_000;

/// The slices that ranges and a single number select; none selects all.
///
/// # Errors
/// 400 for a range that is none.
pub(super) fn read(ranges: Option<&Value>, slice: Option<&Value>) -> Result<Option<Numbers>> {
    if let Some(number) = single(slice)? {
        return Ok(Some(Numbers::run(number, number)));
    }
    let texts: Vec<&str> = match ranges {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) if items.is_empty() => return Ok(None),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().ok_or_else(wrong)).collect::<Result<_>>()?
        }
        Some(_) => return Err(wrong()),
    };
    if texts.len() > RANGES {
        return Err(refuse(400, format!("range: at most {RANGES} of them")));
    }
    let runs = texts.into_iter().map(run).collect::<Result<Vec<_>>>()?;
    Ok(Some(Numbers::union(runs)))
}

/// Reads one number; also as text one that is too large for any slice.
fn single(slice: Option<&Value>) -> Result<Option<u64>> {
    match slice {
        Some(Value::String(text)) if !text.is_empty() => {
            let wrong = |_| refuse(400, "sliceNumber: must be a whole number from 1 up");
            number(text).map(Some).map_err(wrong)
        }
        slice => whole("sliceNumber", slice, 1..=u64::MAX),
    }
}

/// Reads `5`, `3-7` or `7-3`.
fn run(text: &str) -> Result<(u64, u64)> {
    let (left, right) = text.split_once('-').unwrap_or((text, text));
    let (left, right) = (number(left)?, number(right)?);
    Ok((left.min(right), left.max(right)))
}

/// Digits that are not all zero; what is too large lies beyond the last slice anyway.
fn number(digits: &str) -> Result<u64> {
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err(wrong());
    }
    match digits.parse().unwrap_or(u64::MAX) {
        0 => Err(wrong()),
        number => Ok(number),
    }
}

fn wrong() -> crate::Error {
    refuse(400, "range: must be a number from 1 up, or two of them such as 3-7")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ranges_select_their_union() {
        let runs = |ranges: Value| read(Some(&ranges), None).unwrap().unwrap().runs().to_vec();
        assert_eq!(runs(json!("3-7")), [(3, 7)]);
        assert_eq!(runs(json!("7-3")), [(3, 7)]);
        assert_eq!(runs(json!("5")), [(5, 5)]);
        assert_eq!(runs(json!("007")), [(7, 7)]);
        assert_eq!(runs(json!(["33-35", "1-10", "5-12", "13"])), [(1, 13), (33, 35)]);
        assert_eq!(runs(json!("1-99999999999999999999999")), [(1, u64::MAX)]);
        assert_eq!(read(None, None).unwrap(), None);
        assert_eq!(read(Some(&json!([])), None).unwrap(), None);
        assert_eq!(read(Some(&json!("9")), Some(&json!(4))).unwrap(), Some(Numbers::run(4, 4)));
        assert_eq!(read(None, Some(&json!("4"))).unwrap(), Some(Numbers::run(4, 4)));
        let beyond = Numbers::run(u64::MAX, u64::MAX);
        assert_eq!(read(None, Some(&json!("99999999999999999999999"))).unwrap(), Some(beyond));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for wrong in
            ["", "0", "0-3", "1-0", "-", "1-", "-1", "a", "1-2-3", "1,2", " 1", "+1", "1.5"]
        {
            assert_eq!(read(Some(&json!(wrong)), None).unwrap_err().http(), 400, "{wrong}");
        }
        for wrong in [json!(5), json!([5]), json!({})] {
            assert_eq!(read(Some(&wrong), None).unwrap_err().http(), 400, "{wrong}");
        }
        for wrong in [json!(0), json!("0"), json!(-1), json!(1.5), json!("x"), json!("")] {
            assert_eq!(read(None, Some(&wrong)).unwrap_err().http(), 400, "{wrong}");
        }
    }
}
