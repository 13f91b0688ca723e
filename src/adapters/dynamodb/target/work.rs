//! Changes of rows as writes of a transaction.

use std::collections::HashSet;

use super::ledger;
use super::names::Of;
use super::rows::Shape;
use super::write::Write;
use crate::domain::at::At;
use crate::domain::mapping::RowError;
use crate::domain::value::{Cell, Key};
use crate::ports::{ErrorKind, ParkedRow, PortError, PortResult, RowChange};

/// What becomes of a row.
#[derive(Clone, Debug)]
enum What {
    /// The item takes its place, as JSON.
    Put(String),
    /// It goes.
    Delete,
    /// It goes into the ledger.
    Park(ParkedRow),
}

/// One change of one row.
#[derive(Clone, Debug)]
pub(super) struct Op {
    key: Key,
    key_json: String,
    /// The row's key, as JSON; absent where no row can have the key.
    row_key: Option<String>,
    what: What,
    /// Whether the row stands in the ledger.
    parked: bool,
}

/// A batch of changes, made ready.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// What is to be written.
    pub ops: Vec<Op>,
    /// Rows that no item can hold; each of them is parked by one of `ops`.
    pub refused: Vec<ParkedRow>,
}

impl Work {
    /// Makes changes ready. `standing` are keys that stand in the ledger.
    pub(super) fn new(shape: &Shape, changes: &[RowChange], standing: &HashSet<Key>) -> PortResult<Self> {
        let mut work = Self::default();
        for change in changes {
            let (key, parked) = (change.key().clone(), standing.contains(change.key()));
            let (key_json, row_key, what) = match change {
                RowChange::Upsert { key_json, row, children, .. } => {
                    if children.iter().any(|rows| !rows.is_empty()) {
                        return Err(no_children(&shape.target));
                    }
                    let cells: Vec<&Cell<'_>> = shape.key_of(row);
                    let (row_key, what) = match (shape.key_json(&cells), shape.item(row)) {
                        (Ok(row_key), Ok(item)) => (Some(row_key), What::Put(item)),
                        (row_key, item) => {
                            let row_error = row_key.as_ref().err().or(item.as_ref().err()).cloned();
                            let row_error = row_error
                                .unwrap_or_else(|| RowError::new("-", crate::domain::mapping::RowErrorReason::Refused));
                            let row = parked_row(&shape.id, &key, key_json, row_error);
                            work.refused.push(row.clone());
                            (row_key.ok(), What::Park(row))
                        }
                    };
                    (key_json.clone(), row_key, what)
                }
                // No row can have the key: only the ledger has to forget it.
                RowChange::Delete { key_json, row_key, .. } if row_key.is_empty() => {
                    (key_json.clone(), None, What::Delete)
                }
                // A key that no item has was never a row's.
                RowChange::Delete { key_json, row_key, .. } => {
                    (key_json.clone(), shape.row_key(row_key).ok(), What::Delete)
                }
                RowChange::Park(row) => {
                    (row.key_json.clone(), shape.row_key_of(&row.key_json), What::Park(row.clone()))
                }
            };
            work.ops.push(Op { key, key_json, row_key, what, parked });
        }
        // What changes nothing needs no action.
        work.ops.retain(|op| op.actions() > 0);
        Ok(work)
    }
}

/// That child tables need a store that has them.
pub(super) fn no_children(target: &str) -> PortError {
    PortError::new(ErrorKind::Invalid, "write child rows of", target, "a DynamoDB table has no child tables")
        .advise("keep the list as an attribute of the item: a column of type jsonb or document")
}

/// A row of the ledger.
pub(super) fn parked_row(table: &str, key: &Key, key_json: &str, row_error: RowError) -> ParkedRow {
    ParkedRow { table: table.to_owned(), key: key.clone(), row_error, key_json: key_json.to_owned() }
}

impl Op {
    /// Whose change it is.
    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    /// Whether it writes a row.
    pub(super) const fn upserts(&self) -> bool {
        matches!(self.what, What::Put(_))
    }

    /// The key of the row that it deletes, if it is a delete.
    pub(super) fn deletes(&self) -> Option<&str> {
        match self.what {
            What::Delete => self.row_key.as_deref(),
            What::Put(_) | What::Park(_) => None,
        }
    }

    /// Actions it takes in a transaction.
    pub(super) const fn actions(&self) -> usize {
        let row = self.row_key.is_some() as usize;
        match self.what {
            What::Put(_) | What::Delete => row + self.parked as usize,
            What::Park(_) => row + 1,
        }
    }

    /// About how many bytes it has in a transaction.
    pub(super) fn bytes(&self) -> usize {
        let item = match &self.what {
            What::Put(item) => item.len(),
            What::Delete | What::Park(_) => 0,
        };
        item + 2 * self.key_json.len() + 512
    }

    /// As writes.
    pub(super) fn writes(&self, of: &Of, shape: &Shape, now: At) -> Vec<Write> {
        let gone = || self.row_key.as_deref().map(|key| Write::delete_row(&shape.target, key));
        let forgotten = || self.parked.then(|| ledger::unpark(of, &self.key));
        match &self.what {
            What::Put(item) => [Some(Write::put_row(&shape.target, item)), forgotten()].into_iter().flatten().collect(),
            What::Delete => [gone(), forgotten()].into_iter().flatten().collect(),
            What::Park(row) => [gone(), Some(ledger::park(of, row, now))].into_iter().flatten().collect(),
        }
    }

    /// Parks the row in place of writing it.
    pub(super) fn refuse(&mut self, table: &str, row_error: RowError) -> ParkedRow {
        let row = parked_row(table, &self.key, &self.key_json, row_error);
        self.what = What::Park(row.clone());
        row
    }
}
