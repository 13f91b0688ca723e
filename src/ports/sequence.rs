//! Sequences that give columns of moved tables their values, and those that stand beside these tables by themselves.

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
    /// The columns it feeds: `orders.id`. None for one that an application asks itself.
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

/// What a value was given out for on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenFor {
    /// A column.
    Column {
        /// The plan's id of the table.
        table: String,
        /// The column, as the target calls it.
        column: String,
    },
    /// Whatever an application makes of it: the name of the sequence that gave it, as the other side has it.
    Standalone(String),
}

/// Of these names of sequences the one that stands for a sequence of the other side: the same name, or, where the tables
/// are in another schema, the only one that is the same without its schema.
#[must_use]
pub fn counterpart<'s>(name: &str, there: impl Iterator<Item = &'s str> + Clone) -> Option<&'s str> {
    let bare = |name: &str| name.split_once('.').map_or_else(|| name.to_owned(), |(_, bare)| bare.to_owned());
    if let Some(same) = there.clone().find(|other| *other == name) {
        return Some(same);
    }
    let mut alike = there.filter(|other| bare(other) == bare(name));
    alike.next().filter(|_| alike.next().is_none())
}

/// A value that was given out on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// For what.
    pub of: GivenFor,
    /// The value given last.
    pub value: i64,
    /// How many more may be given until the next look: left free too, where the range has room for them.
    pub ahead: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_found_by_its_name_and_in_another_schema_where_no_other_is_called_so() {
        let of = |name: &str, there: &[&'static str]| counterpart(name, there.iter().copied()).map(str::to_owned);
        assert_eq!(of("public.invoices", &["v2.invoices", "public.invoices"]).as_deref(), Some("public.invoices"));
        assert_eq!(of("public.invoices", &["v2.invoices", "v2.orders"]).as_deref(), Some("v2.invoices"));
        assert_eq!(of("public.invoices", &["v2.invoices", "v3.invoices"]), None);
        assert_eq!(of("public.invoices", &["v2.orders"]), None);
    }
}
