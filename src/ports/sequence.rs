//! Sequences of the target that give columns of moved tables their values.

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
    /// Whether any of its columns was read; `notes` names those that were not.
    pub looked: bool,
    /// The value it gives next; `None` when it was not read.
    pub next: Option<i64>,
    /// Why it does not stand past `held`, or why that cannot be known, and what to do about it.
    pub problem: Option<(String, String)>,
    /// What is right and may still surprise.
    pub notes: Vec<String>,
}
