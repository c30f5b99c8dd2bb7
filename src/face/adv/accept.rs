//! How an accepted statement takes the place of the one before it: one atomic act.

use super::advertisement::Statement;
use super::cursor::Cursor;
use super::refusal::{Reason, Rejection, stale};
use crate::Result;
use crate::config::Directory;
use crate::engine::Turn;
use crate::model::Millis;
use crate::store::{
    DIRECTORY, DirectoryRow, Draft, Encoded, FEDERATIONS, NODES, NODES_DUE, NodeRow, STATEMENTS,
    StatementRow,
};

/// What is told of an accepted statement, and of one that has expired.
pub(super) const ACCEPTED: &str = "adv.accepted";
pub(super) const EXPIRED: &str = "adv.expired";
/// The one row of [`DIRECTORY`].
pub(super) const ROW: u8 = 0;

/// A statement made ready to be stored, outside of the engine's thread.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) statement: Statement,
    row: Encoded<StatementRow>,
    text: String,
    forget_at: Millis,
    max_nodes: u64,
}

/// What tells a federation, or another name, from others in an index.
pub(in crate::face) fn digest(name: &str) -> [u8; 16] {
    let mut digest = [0; 16];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut digest);
    digest
}

impl Prepared {
    /// Encodes what is stored.
    pub(super) fn new(statement: Statement, text: &str, rules: &Directory) -> Result<Self> {
        let text = text.trim_ascii().to_owned();
        let row = StatementRow {
            node: *statement.node.as_bytes(),
            expires_at: statement.expires(),
            expires_text: statement.expires_text.clone(),
            sequence: statement.sequence,
            federation: statement.federation.clone(),
            text: text.clone(),
        };
        let row = STATEMENTS.encoded(&row)?;
        let forget_at = statement.outlived(rules);
        Ok(Self { statement, row, text, forget_at, max_nodes: rules.max_nodes })
    }

    /// Steps 16 to 18: stores it if it is newer than any before, and answers with its position.
    pub(super) fn accept(self, turn: &mut Turn<'_>) -> Result<u64> {
        let Self { statement, row, text, forget_at, max_nodes } = self;
        let key = *statement.node.as_bytes();
        let before = turn.get(NODES, &key)?;
        if let Some(before) = &before
            && statement.sequence <= before.sequence
        {
            return Err(stale(&statement.node_id, before.sequence, statement.sequence).into());
        }
        let mut directory = turn.get(DIRECTORY, &ROW)?.unwrap_or_else(|| DirectoryRow {
            // Zero is what a store has that was not born yet.
            born: turn.now.max(1),
            ..DirectoryRow::default()
        });
        match &before {
            Some(before) => remove(turn, key, before),
            None if directory.nodes >= max_nodes => {
                return Err(
                    Rejection::from(Reason::CapacityExhausted).error(Some(&statement.node_id))
                );
            }
            None => directory.nodes += 1,
        }
        directory.position += 1;
        let position = directory.position;
        let expires_at = statement.expires();
        let federation = statement.federation.as_deref().map(digest);
        let node = NodeRow {
            sequence: statement.sequence,
            position: Some(position),
            expires_at,
            forget_at,
            federation,
        };
        turn.put(DIRECTORY, &ROW, &directory)?;
        turn.put(NODES, &key, &node)?;
        turn.put(NODES_DUE, &(expires_at, key), &())?;
        turn.put_encoded(STATEMENTS, &position, &row);
        if let Some(federation) = federation {
            turn.put(FEDERATIONS, &(federation, position), &())?;
        }
        let cursor = Cursor { born: directory.born, position };
        let federation = serde_json::Value::from(statement.federation);
        turn.emit(Draft {
            kind: ACCEPTED,
            context_id: None,
            subject: format!("adv/{}", statement.node_id),
            group: None,
            data: format!(
                r#"{{"position":{position},"federation":{federation},"event":{{"type":"advertisement","cursor":"{cursor}","advertisement":{text}}}}}"#
            ),
        });
        Ok(position)
    }
}

/// Takes away what is stored of a node besides its row: its statement, and when something ends.
pub(super) fn remove(turn: &mut Turn<'_>, key: [u8; 32], node: &NodeRow) {
    let due = if node.position.is_some() { node.expires_at } else { node.forget_at };
    turn.remove(NODES_DUE, &(due, key));
    let Some(position) = node.position else { return };
    turn.remove(STATEMENTS, &position);
    if let Some(federation) = node.federation {
        turn.remove(FEDERATIONS, &(federation, position));
    }
}
