//! The life of a flow file's flow: prepared, submitted, followed, its result printed.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::exit::{Exit, Failure, Result};
use super::flow_plan::Plan;
use super::output;
use super::peer::{Address, Peer};
use super::progress::Progress;
use super::watch::{After, Feed, latest};

/// Runner ids that are tried for a local runner.
const RUNNER_IDS: u32 = 1_000;
/// Failed jobs that are explained at the end.
const EXPLAINED: usize = 20;

/// A flow that was submitted, and where in the event log its run begins.
#[derive(Debug)]
pub(super) struct Submitted {
    since: u64,
    /// The flow as answered.
    pub(super) flow: Value,
}

/// How a flow ended.
#[derive(Debug)]
pub(super) struct Outcome {
    finished: bool,
    flow: Value,
    /// Why jobs failed, by name.
    errors: BTreeMap<String, String>,
}

/// Creates the context, the actor and a runner for the built-in one, where they are missing.
pub(super) async fn prepare(peer: &Peer, plan: &Plan) -> Result {
    let (context, caller) = (plan.context, plan.caller);
    let actor = json!({ "id": caller, "pubkey": "none", "address": ["127.0.0.1"] });
    ensure(peer, "actor", json!({ "id": caller }), json!({ "actor": actor })).await?;
    let lists = json!({
        "id": context, "admins": [caller], "readers": [caller], "executors": [caller]
    });
    ensure(peer, "context", json!({ "id": context }), json!({ "context": lists })).await?;
    ensure_local_runner(peer, context).await
}

/// Creates a runner for the built-in one, where a context or compute group has none.
pub(super) async fn ensure_local_runner(peer: &Peer, context: u32) -> Result {
    for id in 1..RUNNER_IDS {
        match peer.call("runner.load", json!({ "context_id": context, "id": id })).await {
            Ok(runner) if runner.get("local") == Some(&Value::Bool(true)) => return Ok(()),
            Ok(_) => {}
            Err(failure) if failure.is_not_found() => {
                let runner = json!({
                    "id": id, "pubkey": "none", "address": "127.0.0.1", "topic": "local", "local": true
                });
                let params = json!({ "context_id": context, "runner": runner });
                return peer.call("runner.create", params).await.map(|_| ());
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::failed(format!("context {context} has no local runner and too many others")))
}

async fn ensure(peer: &Peer, space: &str, load: Value, create: Value) -> Result {
    match peer.call(&format!("{space}.load"), load).await {
        Err(failure) if failure.is_not_found() => {
            peer.call(&format!("{space}.create"), create).await.map(|_| ())
        }
        loaded => loaded.map(|_| ()),
    }
}

/// Stores the jobs and the flow, and starts it.
pub(super) async fn submit(peer: &Peer, plan: &Plan, key: Option<&str>) -> Result<Submitted> {
    let since = latest(peer).await?;
    let mut params = plan.params.clone();
    if let (Some(key), Some(params)) = (key, params.as_object_mut()) {
        params.insert("idempotency_key".to_owned(), key.into());
    }
    let flow = peer.call("flow.submit", params).await.map_err(|refusal| named(refusal, plan))?;
    Ok(Submitted { since, flow })
}

/// A refusal goes by ids, which the file's author does not know.
fn named(mut refusal: Failure, plan: &Plan) -> Failure {
    let cycle = refusal.data.as_ref().and_then(|data| data.get("cycle")).and_then(Value::as_array);
    let ids = cycle.into_iter().flatten().filter_map(|id| id.as_u64()?.try_into().ok());
    let names: Vec<String> = ids.map(|id| plan.name(id)).collect();
    if !names.is_empty() {
        refusal.message = format!("{}: {}", refusal.message, names.join(", "));
    }
    refusal
}

/// Goes on with a flow that an earlier process left under way, if it is this one; ends any other.
pub(super) async fn take_over(peer: &Peer, plan: &Plan) -> Result<Option<Submitted>> {
    let since = latest(peer).await?;
    let ids = json!({ "context_id": plan.context, "id": plan.flow });
    let flow = match peer.call("flow.load", ids.clone()).await {
        Ok(flow) => flow,
        Err(failure) if failure.is_not_found() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    if flow.get("status").and_then(Value::as_str) != Some("Started") {
        return Ok(None);
    }
    if is_same(peer, plan, &flow).await? {
        output::note(&format!("{} was under way: going on with it", plan.title));
        return Ok(Some(Submitted { since, flow }));
    }
    let mut cancel = ids;
    if let Some(cancel) = cancel.as_object_mut() {
        cancel.insert("reason".to_owned(), "another flow file was run".into());
    }
    peer.call("flow.cancel", cancel).await?;
    Ok(None)
}

/// Whether what is stored is what the plan would submit.
async fn is_same(peer: &Peer, plan: &Plan, flow: &Value) -> Result<bool> {
    let covers = |stored: &Value, wanted: Option<&Value>| {
        let mut members = wanted.and_then(Value::as_object).into_iter().flatten();
        members.all(|(key, value)| stored.get(key) == Some(value))
    };
    if !covers(flow, plan.params.get("flow")) {
        return Ok(false);
    }
    for job in plan.params.get("jobs").and_then(Value::as_array).into_iter().flatten() {
        let id = job.get("id");
        let ids = json!({ "context_id": plan.context, "caller_id": plan.caller, "id": id });
        if !covers(&peer.call("job.load", ids).await?, Some(job)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits until the flow has ended, with progress.
pub(super) async fn wait(address: &Address, plan: &Plan, submitted: Submitted) -> Result<Outcome> {
    let peer = address.connect().await?;
    let ids = json!({ "context_id": plan.context, "id": plan.flow });
    let status = submitted.flow.get("status").and_then(Value::as_str);
    let mut finished = status == Some("Finished");
    let before = peer.call("flow.status", ids.clone()).await?;
    let before = before.get("done").and_then(Value::as_u64).unwrap_or_default();
    // What ends between the submission and now is counted by its event.
    let seen_live = if latest(&peer).await? > submitted.since { 0 } else { before };
    let mut progress = Progress::begin(plan, usize::try_from(seen_live).unwrap_or_default());
    if status == Some("Started") {
        let subject = format!("flow/{}/{}", plan.context, plan.flow);
        let feed = Feed::flow(plan.context, plan.flow);
        let followed = feed.follow(address, Some(submitted.since), |event| {
            progress.event(event);
            let its_own = event.get("subject").and_then(Value::as_str) == Some(&subject);
            let to = event.get("data").and_then(|data| data.get("to")).and_then(Value::as_str);
            let ends = its_own && matches!(to, Some("Finished" | "Error"));
            finished |= its_own && to == Some("Finished");
            Ok(if ends { After::Stop } else { After::GoOn })
        });
        let followed = followed.await;
        progress.end();
        followed?;
    }
    let flow = peer.call("flow.load", ids).await?;
    let mut errors = BTreeMap::new();
    for id in progress.failed().take(EXPLAINED) {
        let ids = json!({ "context_id": plan.context, "caller_id": plan.caller, "id": id });
        let job = peer.call("job.load", ids).await?;
        errors.insert(plan.name(id), why(&job));
    }
    Ok(Outcome { finished, flow, errors })
}

/// Why a job failed: its error or reason, and what it wrote last.
fn why(job: &Value) -> String {
    let result = |name: &str| {
        let text = job.get("result").and_then(|result| result.get(name)).and_then(Value::as_str);
        text.map(str::trim).filter(|text| !text.is_empty())
    };
    let cause = result("error").or_else(|| result("reason")).unwrap_or("no reason given");
    match result("stderr").and_then(|text| text.lines().last()) {
        Some(last) if !cause.contains(last) => format!("{cause} (last on stderr: {last})"),
        _ => cause.to_owned(),
    }
}

/// Prints the result; a flow that failed is a failure.
pub(super) fn report(plan: &Plan, outcome: &Outcome, as_json: bool) -> Result {
    let results = by_name(plan, &outcome.flow);
    if as_json {
        let member = |name: &str| outcome.flow.get(name).cloned().unwrap_or_default();
        output::line(&output::json(&json!({
            "flow": plan.title,
            "context_id": plan.context,
            "flow_id": plan.flow,
            "status": member("status"),
            "results": results,
            "errors": outcome.errors,
        })))?;
    } else if outcome.finished {
        output::line(&text(plan, &results))?;
    }
    if outcome.finished {
        return Ok(());
    }
    for (name, why) in &outcome.errors {
        output::note(&format!("{name}: {}", output::clean(why)));
    }
    Err(Failure::new(Exit::WorkFailed, format!("{} failed", plan.title)))
}

/// The flow's result, `"<job id>.<key>"`, as one object per job name.
fn by_name(plan: &Plan, flow: &Value) -> Map<String, Value> {
    let mut results = Map::new();
    for (path, value) in flow.get("result").and_then(Value::as_object).into_iter().flatten() {
        let (id, key) = path.split_once('.').unwrap_or(("", path));
        let name = id.parse::<u32>().map_or_else(|_| "flow".to_owned(), |id| plan.name(id));
        let of_job = results.entry(name).or_insert_with(|| json!({}));
        if let Some(of_job) = of_job.as_object_mut() {
            of_job.insert(key.to_owned(), value.clone());
        }
    }
    results
}

fn text(plan: &Plan, results: &Map<String, Value>) -> String {
    if let Some((id, key)) = &plan.output {
        let value = results.get(&plan.name(*id)).and_then(|of_job| of_job.get(key));
        if let Some(value) = value.and_then(Value::as_str) {
            return output::clean(value);
        }
    }
    let mut text = String::new();
    for (name, of_job) in results {
        for (key, value) in of_job.as_object().into_iter().flatten() {
            let value = output::scalar("", value);
            let dull = matches!(key.as_str(), "stdout" | "stderr" | "exit_code");
            if !dull || (key == "stdout" && !value.is_empty()) {
                text.push_str(&format!("{name}.{key} = {}\n", output::clean(value.trim_end())));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(output: Option<(u32, String)>) -> Plan {
        let names = BTreeMap::from([(1, "count[a]".to_owned()), (2, "report".to_owned())]);
        let title = "test".to_owned();
        Plan { title, context: 1, caller: 1, flow: 1, names, output, params: json!({}) }
    }

    #[test]
    fn results_go_by_the_names_of_the_file() {
        let flow = json!({ "result": {
            "1.n": "3", "1.stdout": "", "1.exit_code": "0", "2.text": "top", "2.stdout": "hi\n"
        }});
        let results = by_name(&plan(None), &flow);
        assert_eq!(results["count[a]"]["n"], "3");
        assert_eq!(
            text(&plan(None), &results),
            "count[a].n = 3\nreport.text = top\nreport.stdout = hi\n"
        );
        assert_eq!(text(&plan(Some((2, "text".into()))), &results), "top");
    }

    #[test]
    fn a_failure_is_told_with_the_last_that_was_written() {
        let job =
            json!({ "result": { "error": "exit code 1", "stderr": "Traceback\nKeyError: 'x'\n" } });
        assert_eq!(why(&job), "exit code 1 (last on stderr: KeyError: 'x')");
        assert_eq!(why(&json!({ "result": { "reason": "cancelled" } })), "cancelled");
    }
}
