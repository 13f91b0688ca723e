//! The side that serves no more, held against the account: what must be there still, and what may be on its way.
//!
//! After the end of a day on the new side, the old one holds what it held at the freeze and, of each key that the new
//! side wrote since, one of the values that key has had. After a rollback that came once customers had written on the new
//! side, that side holds what was last written there, or what the old side had at the freeze. Anything else was written by
//! nobody.

use super::{Listed, Mismatch, Oracle, Row, Side};
use crate::rehearsal::held;
use crate::rehearsal::records::{Kind, Record, RecordKey};

/// What the side that serves no more holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// Keys that were checked.
    pub checked: usize,
    /// Keys with a value that they never had, or must not have any more.
    pub wrong: Vec<Mismatch>,
    /// Keys with an earlier value: a change of the new side is still on its way to the old one.
    pub behind: usize,
}

impl Aside {
    /// Adds another one's findings: of other kinds, or of another store.
    pub fn add(&mut self, other: Self) {
        self.checked += other.checked;
        self.wrong.extend(other.wrong);
        self.behind += other.behind;
    }
}

/// How one key stands there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    Well,
    Behind,
    Wrong,
}

impl Oracle {
    /// Whether customers have written on the new side: until then nothing is said of what it holds.
    pub(in crate::rehearsal) fn opened(&self) -> bool {
        held(&self.0).opened
    }

    /// Judges what the store of a side that is not in charge lists of a kind.
    pub(in crate::rehearsal) fn judge_aside(&self, side: Side, kind: Kind, listed: Listed) -> Aside {
        let mut records = listed.records;
        let ledger = held(&self.0);
        let mut found = Aside::default();
        let finding = |key: &RecordKey, row: Option<&Row>| Mismatch {
            key: key.clone(),
            fields: Vec::new(),
            last: row.and_then(|row| row.last),
            new_writes: row.map_or(0, |row| row.new_writes),
        };
        for (key, row) in ledger.rows.iter().filter(|(k, _)| k.kind == kind) {
            found.checked += 1;
            // What cannot be read as a record was written by nobody.
            let stands = match records.remove(&key.id) {
                None => row.stands_aside(side, None),
                Some(None) => Stands::Wrong,
                Some(Some(record)) => row.stands_aside(side, Some(record)),
            };
            match stands {
                Stands::Well => {}
                Stands::Behind => found.behind += 1,
                Stands::Wrong => found.wrong.push(finding(key, Some(row))),
            }
        }
        found.wrong.extend(records.into_keys().map(|id| finding(&RecordKey { kind, id }, None)));
        found.wrong.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }
}

impl Row {
    fn stands_aside(&self, side: Side, stands: Option<Record>) -> Stands {
        let unknown = self.allowed.len() > 1;
        match side {
            Side::Old if self.allowed.contains(&stands) => Stands::Well,
            Side::Old if self.on_new.contains(&stands) => Stands::Behind,
            Side::New if unknown && (self.allowed.contains(&stands) || self.on_new.contains(&stands)) => Stands::Well,
            Side::New if self.at_freeze().contains(&stands) => Stands::Well,
            Side::Old | Side::New => Stands::Wrong,
        }
    }

    /// What the new side was left with.
    fn at_freeze(&self) -> &[Option<Record>] {
        match (self.on_new.last(), &self.kept) {
            (Some(last), _) => std::slice::from_ref(last),
            (None, Some(kept)) => kept,
            (None, None) => &self.allowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::oracle::{Form, Outcome};
    use crate::rehearsal::payments::{PaymentSizes, generate};
    use crate::rehearsal::records::{Decimal, Moment, Write};

    fn listed(records: &[Record]) -> Listed {
        let records = records.iter().map(|r| (r.key().id, Some(r.clone()))).collect();
        Listed { records, form: Form::AsGiven, markers: 0 }
    }

    fn write(oracle: &Oracle, write: &Write, side: Side) {
        let mut claim = oracle.claim(&write.key()).unwrap();
        claim.begin(write.clone(), side);
        claim.settle(Outcome::Acknowledged);
    }

    #[test]
    fn the_side_that_serves_no_more_holds_what_it_was_left_with_and_nothing_else() {
        let data = generate(PaymentSizes { accounts: 3, payments: 0, sessions: 0, limits: 6 }, 7);
        let limits: Vec<Record> = data.records.iter().filter(|r| r.key().kind == Kind::Limit).cloned().collect();
        let oracle = Oracle::new(&data);
        let spent =
            |n: usize, cents| Write::Spent { id: limits[n].key().id, spent: Decimal::cents(cents), at: Moment(1_000) };
        let stands = |changed: &[(usize, &Write)]| {
            let mut now = limits.clone();
            for (n, write) in changed {
                now[*n] = write.apply(Some(now[*n].clone())).unwrap();
            }
            now
        };
        let judge = |side, records: &[Record]| {
            let found = oracle.judge_aside(side, Kind::Limit, listed(records));
            assert_eq!(found.checked, limits.len());
            (found.wrong.len(), found.behind)
        };
        assert!(!oracle.opened());
        let (first, second) = (spent(0, 100), spent(0, 200));
        write(&oracle, &first, Side::New);
        write(&oracle, &second, Side::New);
        assert!(oracle.opened());
        // The old side: either change may be on its way; another key must not have moved.
        assert_eq!(judge(Side::Old, &limits), (0, 1));
        assert_eq!(judge(Side::Old, &stands(&[(0, &first)])), (0, 1));
        assert_eq!(judge(Side::Old, &stands(&[(0, &second)])), (0, 0));
        assert_eq!(judge(Side::Old, &stands(&[(0, &second), (1, &spent(1, 5))])), (1, 0));
        assert_eq!(judge(Side::Old, &limits[1..]), (1, 0), "nobody removed it");
        // After a rollback the old side goes on, and the new one stands still.
        let later = spent(1, 300);
        write(&oracle, &later, Side::Old);
        write(&oracle, &spent(0, 400), Side::Old);
        assert_eq!(judge(Side::New, &stands(&[(0, &second)])), (0, 0));
        assert_eq!(judge(Side::New, &stands(&[(0, &first)])), (1, 0), "the new side's own write is gone");
        assert_eq!(judge(Side::New, &stands(&[(0, &second), (1, &later)])), (1, 0));
    }
}
