//! Whether an old-side write left a trace: what the store itself answered to it, and nothing else, may excuse a
//! difference.
//!
//! After a rollback the old side's value wins over one of the new side that is still on its way, if the store shows
//! that somebody wrote there. The reverse applier sees the item as it stands, so a write (or a chain of them) that
//! leaves a field as it found it is invisible to it. The application asks the store for what stands there before each of
//! its writes (`ReturnValues=ALL_OLD`; of PostgreSQL the row, under its lock), so the account knows which writes were such.

use super::{DEFAULT_CATEGORY, Row};
use crate::rehearsal::records::{Record, Write};

/// One acknowledged write of the old side.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    /// What the store held before it, by its own answer.
    stood: Option<Record>,
    /// What it held after it.
    left: Option<Record>,
}

/// Why a difference is not a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Excuse {
    /// The old side's writes left the field as they had found it, while the new side's change waited to be applied.
    NoTrace,
    /// The new side's change had been applied and the old side set the field back to the value before it. Only a
    /// reverse applier that died between its write and clearing the record takes that for a change not applied yet.
    SetBack,
}

impl Trace {
    pub(super) fn of(write: &Write, stood: Option<Record>) -> Self {
        let left = write.apply(stood.clone());
        Self { stood, left }
    }
}

/// Whether the two hold the same in this field.
fn same(a: Option<&Record>, b: Option<&Record>, field: &str) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => !a.differs(b).contains(&field),
        (None, None) => true,
        _ => false,
    }
}

impl Row {
    /// Why the old side may hold the new side's last value in these fields and not `want`. `None`: it may not.
    pub(super) fn excuse(&self, want: &Record, have: &Record, fields: &[&'static str]) -> Option<Excuse> {
        let Some(Some(carried)) = self.on_new.last().filter(|_| !self.untraced) else { return None };
        let foreign = have.differs(carried);
        let mut worst = None;
        for field in fields {
            if foreign.contains(field) {
                return None;
            }
            worst = worst.max(Some(self.why(want, field)?));
        }
        worst
    }

    /// The same for a record that the old side had removed, and that stands there as the new side made it.
    pub(super) fn made_again(&self, have: &Record) -> Option<Excuse> {
        let Some(Some(carried)) = self.on_new.last().filter(|_| !self.untraced) else { return None };
        if self.traces.last()?.left.is_some() || !self.alike(have, carried) || !self.on_new.contains(&None) {
            return None;
        }
        // What the old side removed, or had changed before that, was applied: it had not been there before.
        let whole = |a: &Option<Record>, b: &Option<Record>| a == b;
        let found = self.traces[self.chain(self.traces.len() - 1, whole)].stood.as_ref()?;
        let was_carried = self.on_new[1..].iter().flatten().any(|s| self.alike(found, s));
        (was_carried && self.on_new[0].as_ref() != Some(found)).then_some(Excuse::SetBack)
    }

    /// Equal, or equal but for the category that the new side fills in.
    fn alike(&self, stored: &Record, written: &Record) -> bool {
        let differs = written.differs(stored);
        differs.is_empty() || (differs == ["category"] && self.filled_in && filled_in(written, stored))
    }

    /// The first of the writes up to this one that followed one another without anybody else's in between.
    fn chain(&self, last: usize, same: impl Fn(&Option<Record>, &Option<Record>) -> bool) -> usize {
        let mut first = last;
        while first > 0 && same(&self.traces[first].stood, &self.traces[first - 1].left) {
            first -= 1;
        }
        first
    }

    fn why(&self, want: &Record, field: &str) -> Option<Excuse> {
        let wanted = |r: &Option<Record>| same(r.as_ref(), Some(want), field);
        // The last write after which the item held the value: a later one has met something else, so somebody wrote
        // over it in between.
        let last = self.traces.iter().rposition(|t| wanted(&t.left))?;
        let first = self.chain(last, |a, b| same(a.as_ref(), b.as_ref(), field));
        let found = self.traces[first].stood.as_ref();
        if same(found, Some(want), field) {
            return Some(Excuse::NoTrace);
        }
        // Only a value that the item cannot have held before shows that something had been applied.
        let (before, after) = self.on_new.split_first()?;
        let was_carried = after.iter().any(|s| same(found, s.as_ref(), field)) && !same(found, before.as_ref(), field);
        let earlier = &self.on_new[..self.on_new.len() - 1];
        (was_carried && earlier.iter().any(wanted)).then_some(Excuse::SetBack)
    }
}

/// The new side writes a category where there was none; applied to the old side, it may stay.
pub(super) fn filled_in(want: &Record, have: &Record) -> bool {
    matches!((want, have), (Record::Book(w), Record::Book(h))
        if w.category.is_none() && h.category.as_deref() == Some(DEFAULT_CATEGORY))
}
