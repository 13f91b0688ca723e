//! Holding a store against the account, value by value.

use std::collections::BTreeMap;
use std::fmt;

use aws_sdk_dynamodb::Client as Dynamo;
use tokio_postgres::Client as Postgres;

use super::trace::{Excuse, filled_in};
use super::{Ack, Oracle, Row, Side};
use crate::rehearsal::error::{RehearsalError, RehearsalResult};
use crate::rehearsal::held;
use crate::rehearsal::records::{Kind, Record, RecordKey, TargetShape, from_item, key_attribute, read_all, table_name};

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
    /// Keys where writes of the old side left a field as they had found it, by DynamoDB's own answers, while a change
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
/// Keys of the console's markers begin with this.
const MARKER: &str = "cutover-marker-";

/// What a store holds of one kind. `None` stands for a record that could not be read as one.
type Records = BTreeMap<String, Option<Record>>;

impl Oracle {
    /// Compares kinds with DynamoDB. Rows that cannot be moved must be there too: it is where they stay.
    pub async fn compare_old(&self, client: &Dynamo, kinds: &[Kind]) -> RehearsalResult<Comparison> {
        let mut all = Comparison::default();
        for &kind in kinds {
            let (records, markers) = scan(client, kind).await?;
            let mut found = self.compare(Side::Old, kind, records, &|r| r);
            found.markers = markers;
            all.add(found);
        }
        Ok(all)
    }

    /// Compares kinds with PostgreSQL. Carts do not live there.
    pub async fn compare_new(&self, client: &Postgres, kinds: &[Kind]) -> RehearsalResult<Comparison> {
        let failed = |e: tokio_postgres::Error| RehearsalError::caused("compare with", "PostgreSQL", &e);
        let shape = TargetShape::of(client).await.map_err(failed)?;
        let titled = shape.line_title;
        let mut all = Comparison::default();
        for &kind in kinds.iter().filter(|k| **k != Kind::Cart) {
            let records = read_all(client, &shape, kind).await.map_err(failed)?;
            all.add(self.compare(Side::New, kind, records, &|r| as_carried(r, titled)));
        }
        Ok(all)
    }

    /// `expect` turns a record into what the store must hold of it.
    fn compare(&self, side: Side, kind: Kind, mut records: Records, expect: &dyn Fn(Record) -> Record) -> Comparison {
        let ledger = held(&self.0);
        let mut found = Comparison::default();
        for (key, row) in ledger.rows.iter().filter(|(k, _)| k.kind == kind) {
            let stands = records.remove(&key.id);
            let parked = side == Side::New && ledger.parked.contains_key(key);
            if parked && stands.is_none() {
                found.parked += 1;
                continue;
            }
            found.checked += 1;
            found.unknown += usize::from(row.allowed.len() > 1);
            judge(&mut found, side, key, row, stands, expect);
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

fn judge(
    found: &mut Comparison,
    side: Side,
    key: &RecordKey,
    row: &Row,
    stands: Option<Option<Record>>,
    expect: &dyn Fn(Record) -> Record,
) {
    let finding = |fields| Mismatch { key: key.clone(), fields, last: row.last, new_writes: row.new_writes };
    let mut nearest: Option<Vec<&'static str>> = None;
    for allowed in &row.allowed {
        match (allowed.clone().map(expect), &stands) {
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

/// A record as the target must hold it.
fn as_carried(record: Record, titled: bool) -> Record {
    match record {
        Record::Book(mut b) => {
            b.category.get_or_insert_with(|| DEFAULT_CATEGORY.to_owned());
            Record::Book(b)
        }
        Record::Order(mut o) if !titled => {
            for line in &mut o.lines {
                line.title.clear();
            }
            Record::Order(o)
        }
        other => other,
    }
}

async fn scan(client: &Dynamo, kind: Kind) -> RehearsalResult<(Records, usize)> {
    let (table, attribute) = (table_name(kind), key_attribute(kind));
    let mut records = Records::new();
    let mut markers = 0;
    let mut start = None;
    loop {
        // A limit: the embedded emulator reads the rest of the table for every page that has none.
        let page = client
            .scan()
            .table_name(table)
            .limit(2_000)
            .consistent_read(true)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|e| RehearsalError::caused("compare with", table, &e))?;
        for item in page.items() {
            let Some(id) = item.get(attribute).and_then(|v| v.as_s().ok()) else { continue };
            if id.starts_with(MARKER) {
                markers += 1;
            } else {
                records.insert(id.clone(), from_item(kind, item));
            }
        }
        start = page.last_evaluated_key.filter(|k| !k.is_empty());
        if start.is_none() {
            return Ok((records, markers));
        }
    }
}

#[cfg(test)]
impl Oracle {
    /// Compares with stored records given by a test.
    pub(super) fn compare_with(&self, side: Side, kind: Kind, records: Vec<Record>) -> Comparison {
        let records = records.into_iter().map(|r| (r.key().id, Some(r))).collect();
        match side {
            Side::Old => self.compare(side, kind, records, &|r| r),
            Side::New => self.compare(side, kind, records, &|r| as_carried(r, true)),
        }
    }
}
