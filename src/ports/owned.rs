//! What a plan has in a target: who drives it, which tables are its own, which are open to customers.

use super::error::LeaseHolder;
use crate::domain::at::At;

/// Who drives, as the target store knows it. `epoch` grows with every change of hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Run id.
    pub run: String,
    /// Process that holds it: `host:pid:start`.
    pub holder: String,
    /// Fencing number.
    pub epoch: i64,
    /// When it ends unless renewed, by the target's clock.
    pub until: At,
}

/// That a table of the new side is open to customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedTable {
    /// Table id.
    pub table: String,
    /// The run that did it; empty when that is not known.
    pub run: String,
    /// When, by the target's clock.
    pub at: At,
}

/// A table that belongs to a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedTable {
    /// Table id.
    pub id: String,
    /// The table and its child tables, as the target names them.
    pub targets: Vec<String>,
    /// The run that has it; empty when that is not known.
    pub run: String,
    /// Since when.
    pub since: At,
    /// When it was opened to customers, unless everything was applied to the old side since.
    pub open_to_customers: Option<At>,
    /// Customers' writes that wait to be applied to the old side, counted up to [`OwnedTable::COUNTED`].
    pub waits: u64,
    /// Indexes that were dropped for a load and are not built again yet.
    pub aside: u64,
}

impl OwnedTable {
    /// How far writes that wait are counted.
    pub const COUNTED: u64 = 100_000;

    /// Such a count in words.
    #[must_use]
    pub fn in_words(waits: u64) -> String {
        if waits >= Self::COUNTED { format!("{waits} or more") } else { waits.to_string() }
    }
}

/// What a plan has in a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// Its tables.
    pub tables: Vec<OwnedTable>,
    /// Who drives it, if anybody does.
    pub driven: Option<LeaseHolder>,
    /// Other plans that have tables here.
    pub others: Vec<String>,
    /// Whether it was released and the release did not come to its end.
    pub interrupted: bool,
}
