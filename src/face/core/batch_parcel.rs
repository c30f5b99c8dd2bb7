//! What a runner of a compute group is told: batches with their functions and inputs.

use std::collections::BTreeMap;

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::app::App;
use crate::engine::{Given, GivenAttempt, Token};
use crate::model::protocol::{Attempt, Carried, CarriedJob, Inputs, Notification};
use crate::model::slices::{Slice, SliceBatch};
use crate::store::{BATCHES, INPUTS, Store, WORK_RUNS, WORK_SOURCES, WORKS};
use crate::{Error, Result};

/// Inputs after which no more slices go into one message, bytes; the runner hands the others back
/// by not reporting on them.
const INPUT_BYTES: usize = 8 << 20;

/// What goes to a runner, as far as it is stored here.
pub(super) struct Parcel {
    pub(super) message: Carried,
    pub(super) attempts: Vec<Attempt>,
    /// Of attempts with slices that have to be fetched: their place, token, and the last number that
    /// a slice to be fetched can have.
    pub(super) remote: Vec<(usize, Token, u64)>,
}

impl Parcel {
    /// The notification; none when what it was to carry has ended since.
    pub(super) fn notification(self) -> Option<Notification<Carried>> {
        let Self { message, attempts, .. } = self;
        (!attempts.is_empty()).then_some(Notification::Jobs { message, attempts })
    }
}

/// Reads what goes to a runner.
pub(super) fn batches(app: &App, given: &Given) -> Result<Parcel> {
    let (message, attempts) = (Carried::default(), Vec::with_capacity(given.attempts.len()));
    let mut parcel = Parcel { message, attempts, remote: Vec::new() };
    for one in &given.attempts {
        if let Some((job, attempt, remote)) = batch(&app.store, one)? {
            if remote > 0 {
                parcel.remote.push((parcel.attempts.len(), one.token, remote));
            }
            parcel.message.job.push(job);
            parcel.attempts.push(attempt);
        }
    }
    Ok(parcel)
}

fn batch(store: &Store, given: &GivenAttempt) -> Result<Option<(CarriedJob, Attempt, u64)>> {
    let (_, work, number) = given.token.job;
    let Some(batch) = store.get(BATCHES, &(work, number))? else { return Ok(None) };
    let Some(run) = store.get(WORK_RUNS, &work)? else { return Ok(None) };
    let (Some(row), Some(source)) = (store.get(WORKS, &run.id)?, store.get(WORK_SOURCES, &work)?)
    else {
        return Ok(None);
    };
    let mut slices = Vec::new();
    let mut room = INPUT_BYTES;
    for (first, last) in batch.open.runs() {
        read_inputs(store, work, *first, *last, &mut room, &mut slices)?;
    }
    let public = json!({
        "name": row.name, "description": row.description, "link": row.link,
    });
    let batch = SliceBatch {
        function: source.function,
        args: raw(source.args)?,
        public: to_raw_value(&public).map_err(|err| Error::Bug(err.to_string()))?,
        slice_seconds: std::time::Duration::from_millis(row.slice_millis).as_secs_f64(),
        slices,
    };
    let job = CarriedJob {
        id: number,
        caller_id: work,
        script: String::new(),
        script_type: row.language.as_str().to_owned(),
        timeout: 0,
    };
    let attempt = Attempt {
        caller_id: work,
        job_id: number,
        flow_id: None,
        attempt: given.token.attempt,
        token: given.token.to_string(),
        deadline_at: given.deadline_at,
        env_vars: BTreeMap::new(),
        inputs: Inputs::new(),
        slices: Some(Box::new(batch)),
    };
    Ok(Some((job, attempt, row.remote)))
}

/// Appends the inputs of slices in a row, as far as there is room.
fn read_inputs(
    store: &Store,
    work: u32,
    first: u64,
    last: u64,
    room: &mut usize,
    slices: &mut Vec<Slice>,
) -> Result<()> {
    use std::ops::ControlFlow::{Break, Continue};
    let mut failed = None;
    // A row is found by its last slice: the first one that does not end before `first`.
    let before = (work, first.saturating_sub(1));
    store.scan(INPUTS, &work, Some(&before), |(_, end), row| {
        for (number, text) in row.numbered(end) {
            if number < first {
                continue;
            }
            if number > last || *room == 0 {
                return Break(());
            }
            *room = room.saturating_sub(text.len());
            match raw(text.to_owned()) {
                Ok(datum) => slices.push(Slice { number, datum }),
                Err(err) => {
                    failed = Some(err);
                    return Break(());
                }
            }
        }
        if end >= last { Break(()) } else { Continue(()) }
    })?;
    failed.map_or(Ok(()), Err)
}

fn raw(text: String) -> Result<Box<RawValue>> {
    RawValue::from_string(text).map_err(|err| Error::Bug(err.to_string()))
}
