//! Slices that are kept elsewhere: fetched when their batch goes to a runner, so that runners need
//! not reach where they are, and one list says what may be reached.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{StreamExt, iter};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::Semaphore;

use super::batch_parcel::Parcel;
use crate::app::App;
use crate::outbound::Url;
use crate::{Error, Result};

/// Largest slice that is fetched, bytes.
const LARGEST: usize = 16 << 20;
/// For one of them. Less than a runner has to acknowledge what it is given.
const WITHIN: Duration = Duration::from_secs(10);
/// Slices of a message that are fetched at once.
const AT_ONCE: usize = 8;
/// Messages for which slices are fetched at once: what is fetched is in memory until it is sent.
static MESSAGES: Semaphore = Semaphore::const_new(8);
/// Fetched bytes after which no more slices go into one message; the runner hands the others back
/// by not reporting on them.
const ROOM: usize = 32 << 20;

/// Puts what slices name in the place of their URLs; an attempt at one that cannot be fetched has
/// failed with that.
///
/// # Errors
/// Storage errors.
pub(super) async fn fetch(app: &Arc<App>, parcel: &mut Parcel) -> Result<()> {
    let _place = MESSAGES.acquire().await.map_err(|_| Error::Unavailable("stopping"))?;
    for (place, token, last) in std::mem::take(&mut parcel.remote) {
        let batch = parcel.attempts.get_mut(place).and_then(|attempt| attempt.slices.as_mut());
        let Some(batch) = batch else { continue };
        let slices = std::mem::take(&mut batch.slices);
        let fetched: Vec<_> = slices
            .into_iter()
            .map(|mut slice| {
                let app = Arc::clone(app);
                async move {
                    if slice.number > last {
                        return Ok(slice);
                    }
                    match load(&app, slice.datum.get()).await {
                        Ok(datum) => {
                            slice.datum = datum;
                            Ok(slice)
                        }
                        Err(reason) => Err((slice.number, reason)),
                    }
                }
            })
            .collect();
        let mut fetched = iter(fetched).buffered(AT_ONCE);
        let (mut failed, mut bytes) = (Vec::new(), 0);
        while let Some(one) = fetched.next().await {
            match one {
                Ok(slice) => {
                    bytes += slice.datum.get().len();
                    if bytes > ROOM && !batch.slices.is_empty() {
                        break;
                    }
                    batch.slices.push(slice);
                }
                Err(failure) => failed.push(failure),
            }
        }
        drop(fetched);
        if !failed.is_empty() {
            let change =
                move |turn: &mut crate::engine::Turn<'_>| turn.slices_not_fetched(token, &failed);
            app.engine.change(change).await?;
        }
    }
    Ok(())
}

/// What is at a URL, given as JSON text; or why it cannot be had.
async fn load(app: &App, url: &str) -> Result<Box<RawValue>, String> {
    let url: String = serde_json::from_str(url).map_err(|err| err.to_string())?;
    let read = Url::parse(&url).ok_or_else(|| format!("{url} is no URL"))?;
    // It was allowed when the job was deployed.
    if !app.config.compute.remote_data_allow.contain(read.origin()) {
        return Err(format!("this server fetches nothing from {}", read.origin()));
    }
    let answer = app.outbound.get(&read, LARGEST, WITHIN).await;
    let answer = answer.map_err(|err| format!("{url}: {err}"))?;
    if !answer.is_good() {
        return Err(format!("{url}: answered {}", answer.status));
    }
    datum(answer.media_type.as_deref(), &answer.body).map_err(|wrong| format!("{url}: {wrong}"))
}

/// A body as a slice: JSON as it is, where that is what it says it is, and else a text.
fn datum(media_type: Option<&str>, body: &[u8]) -> Result<Box<RawValue>, String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not text".to_owned())?;
    let kind = media_type.and_then(|kind| kind.split(';').next()).unwrap_or("json");
    if kind.trim().to_ascii_lowercase().ends_with("json") {
        return serde_json::from_str(text).map_err(|_| "it is not JSON".to_owned());
    }
    to_raw_value(text).map_err(|err: serde_json::Error| Error::Bug(err.to_string()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_json_where_it_says_so_and_else_a_text() {
        let read =
            |kind, body: &str| datum(kind, body.as_bytes()).map(|datum| datum.get().to_owned());
        for kind in [None, Some("application/json; charset=utf-8"), Some("application/geo+JSON")] {
            assert_eq!(read(kind, " {\"a\": [1]}\n").unwrap(), "{\"a\": [1]}");
            assert!(read(kind, "{").is_err());
        }
        assert_eq!(read(Some("text/csv"), "1,\"2\"\n").unwrap(), r#""1,\"2\"\n""#);
        assert!(datum(Some("text/plain"), &[0xff]).is_err());
    }
}
