//! Holding a store against the account, value by value.

use std::collections::BTreeMap;
use std::fmt;

use super::trace::{Excuse, filled_in};
use super::{Ack, Oracle, Row, Side};
use crate::domain::secret::Secret;
use crate::private::RehearsalResult;
use crate::rehearsal::held;
use crate::rehearsal::records::{Kind, Record, RecordKey};
use crate::rehearsal::shop::Store;

/// A key that does not hold what it must. Names fields, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The key.
    pub key: RecordKey,
    /// The fields that differ; empty when the whole record is missing or should not be there.
    pub fields: Vec<&'static str>,
    /// The last acknowledged write of the key; `None` for seeded data.
    pub last: Option<Ack>,
    /// Writes of the key that the new side acknowledged and that no write of the old side has replaced.
    pub new_writes: u32,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if !self.fields.is_empty() {
            write!(f, " ({})", self.fields.join(", "))?;
        }
        match self.last {
            Some(ack) => write!(f, ", last acknowledged by the {} side", ack.side.name()),
            None => f.write_str(", as seeded"),
        }
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Keys of the account that were checked, expected absences included.
    pub checked: usize,
    /// Records that must be there and are not.
    pub lost: Vec<Mismatch>,
    /// Records that must not be there and are.
    pub extra: Vec<Mismatch>,
    /// Records that are there with another value.
    pub differing: Vec<Mismatch>,
    /// Records that cannot be written to the target and rightly are not there.
    pub parked: usize,
    /// Keys with more than one allowed value, because a write's outcome is unknown.
    pub unknown: usize,
    /// Keys where writes of the old side left a field as they had found it, by the store's own answers, while a change
    /// of the new side was on its way: nothing shows that it was written, and the new side's value stands.
    pub untold: usize,
    /// Keys where the old side set a field back to the value before a change of the new side that had been applied, and
    /// the change was applied once more. It takes a reverse applier killed between its write and clearing the record.
    pub set_back: usize,
    /// Items of the console's own, passed over.
    pub markers: usize,
}

impl Comparison {
    /// Whether the store holds exactly what it must.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.wrong() == 0
    }

    /// How many keys are wrong in any way.
    #[must_use]
    pub fn wrong(&self) -> usize {
        self.lost.len() + self.extra.len() + self.differing.len()
    }

    /// Writes that the new side acknowledged and that are missing here, over all wrong keys.
    #[must_use]
    pub fn new_side_writes_lost(&self) -> u64 {
        self.findings().map(|f| u64::from(f.new_writes)).sum()
    }

    const fn excuse(&mut self, excuse: Excuse) {
        match excuse {
            Excuse::NoTrace => self.untold += 1,
            Excuse::SetBack => self.set_back += 1,
        }
    }

    /// All findings: lost, differing, extra.
    pub fn findings(&self) -> impl Iterator<Item = &Mismatch> {
        self.lost.iter().chain(&self.differing).chain(&self.extra)
    }

    /// Adds another comparison's findings: of other kinds, or of another store.
    pub fn add(&mut self, other: Self) {
        self.checked += other.checked;
        self.lost.extend(other.lost);
        self.extra.extend(other.extra);
        self.differing.extend(other.differing);
        self.parked += other.parked;
        self.unknown += other.unknown;
        self.untold += other.untold;
        self.set_back += other.set_back;
        self.markers += other.markers;
    }
}

/// How the target writes a book's absent category; the application on the new side does the same.
pub(in crate::rehearsal) const DEFAULT_CATEGORY: &str = "General";

/// How a store writes what the application gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    AsGiven,
    /// A book without a category gets one; the lines of an order keep their titles or not.
    Shelved {
        /// Whether lines keep their titles.
        titled: bool,
    },
}

/// Everything that a store holds of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Records by id. `None` stands for one that could not be read as a record.
    pub records: BTreeMap<String, Option<Record>>,
    /// How this store writes what it is given.
    pub form: Form,
    /// Rows of the console's own that were passed over.
    pub markers: usize,
}

impl Oracle {
    /// Compares kinds with what this store of a side lists. On the old side rows that cannot be moved must be there too:
    /// it is where they stay.
    pub(in crate::rehearsal) async fn compare(
        &self,
        side: Side,
        store: &dyn Store,
        connection: &Secret,
        kinds: &[Kind],
    ) -> RehearsalResult<Comparison> {
        let mut all = Comparison::default();
        for &kind in kinds {
            all.add(self.judge(side, kind, store.list(connection, kind).await?));
        }
        Ok(all)
    }

    fn judge(&self, side: Side, kind: Kind, listed: Listed) -> Comparison {
        let Listed { mut records, form, markers } = listed;
        let ledger = held(&self.0);
        let mut found = Comparison { markers, ..Comparison::default() };
        for (key, row) in ledger.rows.iter().filter(|(k, _)| k.kind == kind) {
            let stands = records.remove(&key.id);
            let parked = side == Side::New && ledger.parked.contains_key(key);
            if parked && stands.is_none() {
                found.parked += 1;
                continue;
            }
            found.checked += 1;
            found.unknown += usize::from(row.allowed.len() > 1);
            judge(&mut found, side, key, row, stands, form);
        }
        for (id, _) in records {
            let key = RecordKey { kind, id };
            found.extra.push(Mismatch { key, fields: Vec::new(), last: None, new_writes: 0 });
        }
        for list in [&mut found.lost, &mut found.extra, &mut found.differing] {
            list.sort_by(|a, b| a.key.cmp(&b.key));
        }
        found
    }
}

fn judge(found: &mut Comparison, side: Side, key: &RecordKey, row: &Row, stands: Option<Option<Record>>, form: Form) {
    let finding = |fields| Mismatch { key: key.clone(), fields, last: row.last, new_writes: row.new_writes };
    let mut nearest: Option<Vec<&'static str>> = None;
    for allowed in &row.allowed {
        match (allowed.clone().map(|record| form.of(record)), &stands) {
            (None, None) => return,
            (Some(want), Some(Some(have))) => {
                let mut fields = want.differs(have);
                if side == Side::Old && row.filled_in && filled_in(&want, have) {
                    fields.retain(|f| *f != "category");
                }
                if fields.is_empty() {
                    return;
                }
                if side == Side::Old
                    && let Some(excuse) = row.excuse(&want, have, &fields)
                {
                    found.excuse(excuse);
                    return;
                }
                if nearest.as_ref().is_none_or(|n| fields.len() < n.len()) {
                    nearest = Some(fields);
                }
            }
            (Some(_), Some(None)) => nearest = Some(vec!["unreadable"]),
            (None, Some(Some(have))) if side == Side::Old => {
                if let Some(excuse) = row.made_again(have) {
                    found.excuse(excuse);
                    return;
                }
            }
            _ => {}
        }
    }
    match (stands, nearest) {
        (None, _) => found.lost.push(finding(Vec::new())),
        (Some(_), Some(fields)) => found.differing.push(finding(fields)),
        (Some(_), None) => found.extra.push(finding(Vec::new())),
    }
}

impl Form {
    /// A record as the store must hold it.
    fn of(self, record: Record) -> Record {
        match (self, record) {
            (Self::AsGiven, record) => record,
            (Self::Shelved { .. }, Record::Book(mut b)) => {
                b.category.get_or_insert_with(|| DEFAULT_CATEGORY.to_owned());
                Record::Book(b)
            }
            (Self::Shelved { titled: false }, Record::Order(mut o)) => {
                for line in &mut o.lines {
                    line.title.clear();
                }
                Record::Order(o)
            }
            (Self::Shelved { .. }, other) => other,
        }
    }
}

#[cfg(test)]
impl Oracle {
    /// Compares with stored records given by a test.
    pub(super) fn compare_with(&self, side: Side, kind: Kind, records: Vec<Record>) -> Comparison {
        let records = records.into_iter().map(|r| (r.key().id, Some(r))).collect();
        let form = match side {
            Side::Old => Form::AsGiven,
            Side::New => Form::Shelved { titled: true },
        };
        self.judge(side, kind, Listed { records, form, markers: 0 })
    }
}
