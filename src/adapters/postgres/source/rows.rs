//! Messages of the log as changes of the plan's tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::as_text;
use super::hub::Place;
use super::pgoutput::{Datum, Identity, Old, Relation, RelationColumn};
use crate::adapters::postgres::decode;
use crate::adapters::postgres::native::{Native, Natives};
use crate::domain::at::At;
use crate::domain::plan::{ColumnType, Table};
use crate::domain::value::{Cell, Record, Value};
use crate::ports::{Change, ChangeKind, Position};

/// A change that waits for its table.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A row changed.
    Row {
        /// As it is handed on, but for its position.
        change: Change,
        /// Where the image lacks values that were not sent, the transaction that wrote it: the row has to be read.
        partial: Option<u32>,
    },
    /// Something that cannot be followed: the table is not read past it.
    End(String),
}

/// The transaction a change is part of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of {
    /// Its number.
    pub xid: u32,
    /// When it was committed.
    pub at: At,
}

/// A table of the plan, as the catalogue has it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The plan's table.
    pub table: Table,
    /// Whether it has partitions.
    pub partitioned: bool,
    /// Its primary key, in order.
    pub key: Vec<String>,
    /// The columns of it that the plan reads.
    pub columns: BTreeSet<String>,
    /// Those whose type only the database knows.
    pub natives: Natives,
}

/// What the columns of a table are, for as long as its definition stays.
struct Columns {
    ids: Vec<String>,
    name: String,
    columns: Vec<ColumnOf>,
    /// A column that the plan reads, and that the table does not have any more.
    missing: Option<String>,
    identity: Identity,
    /// Whether what is said of a row before has its whole primary key.
    keyed: bool,
}

struct ColumnOf {
    name: String,
    /// `None` for one whose values are not carried.
    ty: Option<ColumnType>,
    /// Whether blanks at the end of its text are none.
    padded: bool,
    type_oid: u32,
    /// Whether the plan reads it.
    needed: bool,
}

/// What a message makes of a row.
pub(super) struct Made {
    /// The plan's tables it is a change of.
    pub tables: Vec<String>,
    /// The change.
    pub entry: Entry,
    /// Whether it is the second one of its message.
    pub second: bool,
}

/// Reads rows of the log for the tables of a plan.
pub(super) struct Rows {
    /// By the number of the table in the catalogue, or of one of its partitions.
    known: HashMap<u32, Vec<Known>>,
    relations: HashMap<u32, Columns>,
    /// Published tables that are none of the plan's any more, by number, with their names.
    strangers: HashMap<u32, String>,
}

/// The type of a built-in type's number; `None` for one whose values are not carried.
const fn column_type(oid: u32) -> Option<ColumnType> {
    Some(match oid {
        25 | 1043 => ColumnType::Text,
        2950 => ColumnType::Uuid,
        1700 => ColumnType::Numeric(None),
        21 => ColumnType::Smallint,
        23 => ColumnType::Integer,
        20 => ColumnType::Bigint,
        701 => ColumnType::Double,
        16 => ColumnType::Boolean,
        1184 => ColumnType::Timestamptz,
        1082 => ColumnType::Date,
        3802 => ColumnType::Jsonb,
        1009 => ColumnType::TextArray,
        17 => ColumnType::Bytea,
        _ => return None,
    })
}

/// What becomes of a row: in the order in which it is applied.
type Changes = Vec<Made>;

impl Rows {
    pub(super) fn new(known: HashMap<u32, Vec<Known>>) -> Self {
        Self { known, relations: HashMap::new(), strangers: HashMap::new() }
    }

    /// Whether a table's number is known, as one of the plan's or a stranger's.
    pub(super) fn knows(&self, oid: u32) -> bool {
        self.known.contains_key(&oid) || self.strangers.contains_key(&oid)
    }

    /// A partition that came to a table since reading began.
    pub(super) fn partition(&mut self, table: u32, oid: u32) {
        if let Some(known) = self.known.get(&table).cloned() {
            self.known.insert(oid, known);
        }
    }

    /// A table that was a partition of one of the plan's when it was written to, and is none any more. Whose, nobody knows.
    pub(super) fn stranger(&mut self, relation: &Relation) {
        self.strangers.insert(relation.oid, format!("{}.{}", relation.schema, relation.name));
    }

    /// What becomes of a change of a stranger: no table that it could have been a part of is read past it.
    fn of_stranger(&self, name: &str) -> Changes {
        let all = self.known.values().flatten().filter(|known| known.partitioned);
        let tables: BTreeSet<String> = all.map(|known| known.table.id.clone()).collect();
        let why = format!(
            "changes of {name} stand in the log, a partition that was detached or dropped before they were read"
        );
        vec![Made { tables: tables.into_iter().collect(), entry: Entry::End(why), second: false }]
    }

    /// Takes in how a table looks from now on.
    pub(super) fn relation(&mut self, relation: Relation) {
        let Some(known) = self.known.get(&relation.oid) else { return };
        let key = known.first().map_or(&[][..], |k| k.key.as_slice());
        let flagged = |name: &String| relation.columns.iter().any(|c| c.key && c.name == *name);
        let mut needed = known.iter().flat_map(|k| &k.columns);
        let is_there = |name: &String| relation.columns.iter().any(|c| c.name == *name);
        let is_needed = |name: &String| known.iter().any(|k| k.columns.contains(name));
        let native = |name: &str| known.iter().find_map(|k| k.natives.get(name));
        let column = |c: &RelationColumn| ColumnOf {
            name: c.name.clone(),
            ty: native(&c.name).map_or_else(|| column_type(c.type_oid), |_| Some(ColumnType::Text)),
            padded: native(&c.name).is_some_and(Native::padded),
            type_oid: c.type_oid,
            needed: is_needed(&c.name),
        };
        let columns = Columns {
            ids: known.iter().map(|k| k.table.id.clone()).collect(),
            name: format!("{}.{}", relation.schema, relation.name),
            keyed: !key.is_empty() && key.iter().all(flagged),
            identity: relation.identity,
            missing: needed.find(|name| !is_there(name)).cloned(),
            columns: relation.columns.iter().map(column).collect(),
        };
        self.relations.insert(relation.oid, columns);
    }

    /// A new row.
    pub(super) fn inserted(&self, oid: u32, new: &[Datum<'_>], tx: Of) -> Changes {
        self.made(oid, |of, known| of.row(known, ChangeKind::Insert, new, tx).map(|entry| vec![entry]))
    }

    /// A changed row. One whose key changed is another row, and the one before is gone.
    pub(super) fn updated(&self, oid: u32, old: Option<&Old<'_>>, new: &[Datum<'_>], tx: Of) -> Changes {
        self.made(oid, |of, known| {
            let changed = of.row(known, ChangeKind::Modify, new, tx)?;
            let Some(old) = old else { return Ok(vec![changed]) };
            let before = of.key(known, old)?;
            let same = matches!(&changed, Entry::Row { change, .. } if change.key == before);
            if same {
                return Ok(vec![changed]);
            }
            let remove = Change { kind: ChangeKind::Remove { expired: false }, ..change(before, None, tx) };
            let Entry::Row { change: made, partial } = changed else { return Ok(vec![changed]) };
            let made = Entry::Row { change: Change { kind: ChangeKind::Insert, ..made }, partial };
            Ok(vec![Entry::Row { change: remove, partial: None }, made])
        })
    }

    /// A row that is gone.
    pub(super) fn deleted(&self, oid: u32, old: &Old<'_>, tx: Of) -> Changes {
        self.made(oid, |of, known| {
            let change =
                Change { kind: ChangeKind::Remove { expired: false }, ..change(of.key(known, old)?, None, tx) };
            Ok(vec![Entry::Row { change, partial: None }])
        })
    }

    /// Tables that were emptied at once: no change of a row says so.
    pub(super) fn emptied(&self, oids: &[u32]) -> Changes {
        if let Some(name) = oids.iter().find_map(|oid| self.strangers.get(oid)) {
            return self.of_stranger(name);
        }
        let of = oids.iter().filter_map(|oid| self.relations.get(oid));
        let emptied = |of: &Columns| Entry::End(format!("{} was emptied with TRUNCATE", of.name));
        of.map(|of| Made { tables: of.ids.clone(), entry: emptied(of), second: false }).collect()
    }

    /// A marker of one table: its nonce stands where the key stands.
    pub(super) fn marker(&self, id: &str, nonce: &str, tx: Of) -> Changes {
        let known = self.known.values().flatten().find(|known| known.table.id == id);
        let Some((known, name)) = known.and_then(|k| Some((k, k.table.key.first().or(k.key.first())?))) else {
            return Vec::new();
        };
        let text = Value::Text(format!("{}{nonce}", known.table.marker_prefix).into());
        let key = Record { fields: vec![(name.clone().into(), text)] };
        let change = Change { kind: ChangeKind::Insert, ..change(key.clone(), Some(key), tx) };
        vec![Made { tables: vec![id.to_owned()], entry: Entry::Row { change, partial: None }, second: false }]
    }

    fn made(&self, oid: u32, make: impl Fn(&Columns, &Known) -> Result<Vec<Entry>, String>) -> Changes {
        if let Some(name) = self.strangers.get(&oid) {
            return self.of_stranger(name);
        }
        let Some((known, all)) = self.known.get(&oid).and_then(|all| Some((all.first()?, all))) else {
            return Vec::new();
        };
        let Some(of) = self.relations.get(&oid) else {
            let tables = all.iter().map(|k| k.table.id.clone()).collect();
            let entry = Entry::End("a change came before the definition of its table".to_owned());
            return vec![Made { tables, entry, second: false }];
        };
        // Its rows would be taken for rows in which it is NULL.
        let gone = |name: &String| format!("column {name} is not there any more: it was renamed or dropped");
        let entries = match &of.missing {
            Some(name) => Err(gone(name)),
            None => make(of, known),
        };
        let entries = entries.unwrap_or_else(|why| vec![Entry::End(format!("{}: {why}", of.name))]);
        let made = |(n, entry)| Made { tables: of.ids.clone(), entry, second: n > 0 };
        entries.into_iter().enumerate().map(made).collect()
    }
}

fn change(key: Record<'static>, image: Option<Record<'static>>, tx: Of) -> Change {
    Change { kind: ChangeKind::Modify, key, image, mark: None, position: Position(String::new()), at: tx.at }
}

impl Columns {
    /// The values of a row by name, and whether one is missing.
    fn values(&self, row: &[Datum<'_>]) -> Result<(Record<'static>, bool), String> {
        if row.len() != self.columns.len() {
            return Err(format!("a row has {} values for {} columns", row.len(), self.columns.len()));
        }
        let (mut fields, mut partial) = (Vec::with_capacity(row.len()), false);
        for (datum, column) in row.iter().zip(&self.columns) {
            let (name, oid) = (&column.name, column.type_oid);
            let Some(ty) = column.ty else {
                if column.needed {
                    return Err(format!("values of column {name} (type number {oid}) are not carried"));
                }
                continue;
            };
            let unreadable = |_| format!("a value of column {name} is not in the form of its type");
            let cell = match datum {
                Datum::Null => Cell::Null,
                Datum::Binary(raw) => decode::cell(ty, Some(raw)).map_err(unreadable)?,
                Datum::Text(text) if column.padded => Cell::Text(text.trim_end_matches(' ').into()),
                Datum::Text(text) => as_text::cell(ty, text).map_err(unreadable)?,
                Datum::Unchanged => {
                    partial = true;
                    continue;
                }
            };
            fields.push((name.clone().into(), Value::from(cell.into_owned())));
        }
        Ok((Record { fields }, partial))
    }

    fn row(&self, known: &Known, kind: ChangeKind, row: &[Datum<'_>], tx: Of) -> Result<Entry, String> {
        let (image, partial) = self.values(row)?;
        let key = part(&image, known)?;
        let change = Change { kind, ..change(key, Some(image), tx) };
        Ok(Entry::Row { change, partial: partial.then_some(tx.xid) })
    }

    /// The primary key of a row before.
    fn key(&self, known: &Known, old: &Old<'_>) -> Result<Record<'static>, String> {
        if !self.keyed {
            return Err(format!(
                "its replica identity ({}) says nothing of the primary key; ALTER TABLE {} REPLICA IDENTITY DEFAULT",
                match self.identity {
                    Identity::PrimaryKey => "default",
                    Identity::Index => "an index",
                    Identity::Full => "full",
                    Identity::Nothing => "nothing",
                },
                self.name
            ));
        }
        let (Old::Key(row) | Old::Whole(row)) = old;
        part(&self.values(row)?.0, known)
    }
}

/// The key's columns of a row.
fn part(row: &Record<'static>, known: &Known) -> Result<Record<'static>, String> {
    let value = |name: &String| {
        let value = row.get(name).ok_or_else(|| format!("a row came without {name}, which is part of its key"))?;
        Ok((name.clone().into(), value.clone()))
    };
    Ok(Record { fields: known.key.iter().map(value).collect::<Result<_, String>>()? })
}

/// What a change takes up, roughly.
pub(super) fn weight(entry: &Entry) -> usize {
    let record =
        |record: &Record<'_>| record.fields.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>();
    match entry {
        Entry::End(why) => why.len(),
        Entry::Row { change, .. } => 128 + record(&change.key) + change.image.as_ref().map_or(0, record),
    }
}

fn size(value: &Value<'_>) -> usize {
    48 + match value {
        Value::Cell(Cell::Text(text) | Cell::Numeric(text) | Cell::Json(text)) => text.len(),
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) | Value::Cell(Cell::Bytes(bytes) | Cell::Other(bytes)) => bytes.len(),
        Value::Cell(Cell::TextArray(texts)) => texts.iter().map(|text| 24 + text.len()).sum(),
        _ => 0,
    }
}

/// A place as a position is stored, with the timeline it was read on: one number, so that the later one is the greater one.
pub(super) fn position(on: u32, place: Place) -> Position {
    Position(((u128::from(on) << 96) | (u128::from(place.commit) << 32) | u128::from(place.number)).to_string())
}

/// The same, read. The timeline is 0 where it was not noted.
pub(super) fn place(position: &Position) -> Option<(u32, Place)> {
    let number: u128 = position.0.parse().ok()?;
    let part = |shift: u32| u32::try_from((number >> shift) & 0xFFFF_FFFF).ok();
    let commit = u64::from(part(64)?) << 32 | u64::from(part(32)?);
    Some((part(96)?, Place { commit, number: part(0)? }))
}

/// Tables by their number in the catalogue.
pub(super) fn by_number(tables: impl IntoIterator<Item = (u32, Known)>) -> HashMap<u32, Vec<Known>> {
    let mut by: BTreeMap<u32, Vec<Known>> = BTreeMap::new();
    for (oid, known) in tables {
        by.entry(oid).or_default().push(known);
    }
    by.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_as_places_are_and_come_back() {
        let at = |commit, number| Place { commit, number };
        let places = [at(0, 0), at(0, 1), at(1, 0), at(1, u32::MAX), at(2, 0), at(u64::MAX, u32::MAX)];
        for two in places.windows(2) {
            assert_eq!(position(1, two[0]).order(&position(1, two[1])), Some(std::cmp::Ordering::Less));
        }
        // What was stored before timelines were noted comes before all that is noted since.
        assert_eq!(position(0, places[4]).order(&position(1, places[4])), Some(std::cmp::Ordering::Less));
        for on in [0, 1, u32::MAX] {
            assert!(places.iter().all(|p| place(&position(on, *p)) == Some((on, *p))));
        }
        assert_eq!(place(&Position("oldest@7".into())), None);
    }
}
