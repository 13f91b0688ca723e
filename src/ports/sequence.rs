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
    /// How far it goes; `None` for one that no column takes its values from.
    pub reach: Option<Reach>,
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

/// How far a sequence goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// What each value differs from the one before by; below 0 for one that counts down.
    pub step: i64,
    /// The last value that it may give and that each of its columns takes.
    pub end: i64,
    /// Whether it starts over after its own last value.
    pub cycles: bool,
}

impl Sequence {
    /// Of what its columns hold and what it gave the value that lies furthest in its direction.
    #[must_use]
    pub fn furthest(&self) -> Option<i64> {
        let down = self.reach.is_some_and(|reach| reach.step < 0);
        let both = self.held.into_iter().chain(self.given);
        if down { both.min() } else { both.max() }
    }

    /// Whether it has no value left past this one, of those it gives. What lies beyond its end is none of its values.
    #[must_use]
    pub fn is_used_up(&self, held: i64) -> bool {
        let Some(Reach { step, end, .. }) = self.reach else { return false };
        let left = (i128::from(end) - i128::from(held)) * i128::from(step.signum());
        (0..i128::from(step).abs()).contains(&left)
    }

    /// What is wrong with one that has no value left past this one, and what to do about it.
    #[must_use]
    pub fn used_up(&self, held: i64) -> (String, String) {
        let name = &self.name;
        let (end, cycles) = self.reach.map_or((held, false), |reach| (reach.end, reach.cycles));
        let then = if cycles { "it would start over and meet rows that are there" } else { "it has no value left" };
        (
            format!("the rows hold {held} of at most {end}: {then}"),
            format!(
                "widen the column and the sequence (ALTER SEQUENCE {name} AS bigint MAXVALUE …); or, where {held} only marks an \
                 end or is of a round before, move it yourself and name \"{name}\" in `sequences_by_hand` under [load]; then \
                 try again"
            ),
        )
    }
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
    fn one_is_used_up_where_less_than_a_step_is_left_and_not_by_what_it_never_gives() {
        let of = |step, end| Sequence { reach: Some(Reach { step, end, cycles: false }), ..Sequence::default() };
        for (step, end, held, up) in [
            (1, 9, 9, true),
            (1, 9, 8, false),
            (1, 9, 10, false),
            (5, 12, 8, true),
            (5, 13, 8, false),
            (-1, -9, -9, true),
            (-1, -9, -8, false),
            (-1, -9, -10, false),
            (1, i64::MAX, i64::MIN, false),
        ] {
            assert_eq!(of(step, end).is_used_up(held), up, "{step} {end} {held}");
        }
        assert!(!Sequence::default().is_used_up(0));
        assert_eq!(Sequence { held: Some(3), given: Some(5), ..of(1, 9) }.furthest(), Some(5));
        assert_eq!(Sequence { held: Some(-3), given: Some(-1), ..of(-1, -9) }.furthest(), Some(-3));
    }

    #[test]
    fn a_sequence_is_found_by_its_name_and_in_another_schema_where_no_other_is_called_so() {
        let of = |name: &str, there: &[&'static str]| counterpart(name, there.iter().copied()).map(str::to_owned);
        assert_eq!(of("public.invoices", &["v2.invoices", "public.invoices"]).as_deref(), Some("public.invoices"));
        assert_eq!(of("public.invoices", &["v2.invoices", "v2.orders"]).as_deref(), Some("v2.invoices"));
        assert_eq!(of("public.invoices", &["v2.invoices", "v3.invoices"]), None);
        assert_eq!(of("public.invoices", &["v2.orders"]), None);
    }
}
