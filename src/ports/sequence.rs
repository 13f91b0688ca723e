//! Sequences that give columns of moved tables their values.

/// How the columns that a sequence feeds are scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceScan {
    /// Every column, one without an index by reading its table whole.
    Whole,
    /// Only columns that begin an index: cheap however large the table is, for moments in which customers wait.
    Indexed,
}

/// One sequence, as it was last read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Its name with its schema, quoted where needed: `public.orders_id_seq`.
    pub name: String,
    /// The columns it feeds: `orders.id`.
    pub columns: Vec<String>,
    /// The value in those columns that lies furthest in its direction, of those it could ever give; `None` when there
    /// is none, or the columns were not read.
    pub held: Option<i64>,
    /// The value it gave last; `None` when it gave none yet, may not be read, or was moved just now.
    pub given: Option<i64>,
    /// The value given out elsewhere that it must stand past, if it was told one.
    pub beyond: Option<i64>,
    /// Whether any of its columns was read; `notes` names those that were not.
    pub looked: bool,
    /// The value it gives next; `None` when it was not read.
    pub next: Option<i64>,
    /// Why it does not stand past `held`, or why that cannot be known, and what to do about it.
    pub problem: Option<(String, String)>,
    /// What is right and may still surprise.
    pub notes: Vec<String>,
}

/// A value that was given out for a column on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// The plan's id of the table.
    pub table: String,
    /// The column, as the target calls it.
    pub column: String,
    /// The value given last.
    pub value: i64,
    /// How many more may be given until the next look: left free too, where the range has room for them.
    pub ahead: i64,
}
