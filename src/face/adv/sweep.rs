//! Removes what has expired, a little at a time, and tells of it.

use std::sync::Arc;

use serde_json::json;

use super::accept::{EXPIRED, ROW, remove};
use super::cursor::Cursor;
use crate::Result;
use crate::app::App;
use crate::engine::Turn;
use crate::face::cap::sweep as capabilities;
use crate::identity::public::node_id_of_raw;
use crate::store::{DIRECTORY, Draft, NODES, NODES_DUE, NodeRow, STATEMENTS};

/// Nodes that are looked at in one turn of the engine.
const AT_ONCE: usize = 256;

/// Removes what has expired again and again, until the coordinator stops.
pub async fn run(app: Arc<App>) {
    let mut stopping = app.stopping.subscribe();
    loop {
        tokio::select! {
            () = tokio::time::sleep(app.config.directory.sweep) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        remove_due(&app, is_due, turn).await;
        remove_due(&app, capabilities::is_due, capabilities::turn).await;
    }
}

/// Removes one kind of thing while there is something due of it.
async fn remove_due(app: &App, is_due: fn(&App) -> bool, turn: fn(&mut Turn<'_>) -> Result<usize>) {
    // Asked here, so that an idle directory costs the engine nothing.
    while is_due(app) {
        match app.engine.change(turn).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(err) => {
                tracing::warn!(error = %err, "what has expired was not removed");
                break;
            }
        }
    }
}

fn is_due(app: &App) -> bool {
    let first = app.store.page(NODES_DUE, &(), None, 1);
    first.is_ok_and(|page| page.first().is_some_and(|((due, _), ())| *due <= (app.now)()))
}

/// Removes some of what is due; how many nodes that were.
fn turn(turn: &mut Turn<'_>) -> Result<usize> {
    let mut done = 0;
    for ((due, key), ()) in turn.page(NODES_DUE, &(), None, AT_ONCE)? {
        if due > turn.now {
            break;
        }
        done += 1;
        match turn.get(NODES, &key)? {
            Some(node) => end(turn, key, node)?,
            None => turn.remove(NODES_DUE, &(due, key)),
        }
    }
    Ok(done)
}

/// Ends what a node's row says is over: the statement first, much later the number.
fn end(turn: &mut Turn<'_>, key: [u8; 32], mut node: NodeRow) -> Result<()> {
    let statement = match node.position {
        Some(position) => turn.get(STATEMENTS, &position)?,
        None => None,
    };
    remove(turn, key, &node);
    if let Some(statement) = statement {
        let directory = turn.get(DIRECTORY, &ROW)?.unwrap_or_default();
        let cursor = Cursor { born: directory.born, position: directory.position };
        let id = node_id_of_raw(&key);
        let event = json!({
            "type": "expired", "cursor": cursor.to_string(), "node/id": id,
            "sequence/no": statement.sequence, "expires-at": statement.expires_text,
        });
        let data = json!({
            "position": directory.position, "federation": statement.federation, "event": event,
        });
        turn.emit(Draft {
            kind: EXPIRED,
            context_id: None,
            subject: format!("adv/{id}"),
            group: None,
            data: data.to_string(),
        });
    }
    if node.forget_at > turn.now {
        node.position = None;
        node.federation = None;
        turn.put(NODES_DUE, &(node.forget_at, key), &())?;
        turn.put(NODES, &key, &node)?;
        return Ok(());
    }
    turn.remove(NODES, &key);
    if let Some(mut directory) = turn.get(DIRECTORY, &ROW)? {
        directory.nodes = directory.nodes.saturating_sub(1);
        turn.put(DIRECTORY, &ROW, &directory)?;
    }
    Ok(())
}
