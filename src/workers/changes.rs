//! What shards gave, gathered, and the rows it becomes (FEATURES A2).

use std::collections::{BTreeMap, HashMap};

use super::parked;
use super::progress::Read;
use crate::domain::mapping::{Mapped, RowError, TableMapping};
use crate::domain::plan::Table;
use crate::domain::value::{Cell, Key, OwnedRow, Record};
use crate::ports::{
    Ahead, Batch, Change, ChangeBatch, ChangeKind, CountChange, Fence, Lineage, ParkedRow, Position, RowChange,
};

/// Changes of one round, before they become rows.
#[derive(Default)]
pub(super) struct Gathered {
    /// In the order they came.
    pub changes: Vec<Change>,
    /// Which shard changes came from: its id and how many, in order.
    pub shards: Vec<(String, usize)>,
    /// The reads they came with.
    pub reads: Vec<Read>,
    /// Nonces of markers with the shard they came through.
    pub markers: Vec<(String, String)>,
    /// How far that is, by shard.
    pub positions: BTreeMap<String, Position>,
    /// Shards read to their end.
    pub finished: Vec<String>,
}

impl Gathered {
    /// Takes in what a read gave. The shard's next iterator goes to the others.
    pub(super) fn take(
        &mut self,
        mapping: &TableMapping,
        one: Read,
        read: Batch,
        iterators: &mut HashMap<String, String>,
    ) {
        let shard = one.shard.as_str();
        let inserted = read.changes.iter().filter(|c| c.image.is_some());
        let nonces = inserted.filter_map(|c| c.marker(mapping)).map(|n| (n.to_owned(), shard.to_owned()));
        self.markers.extend(nonces);
        if let Some(last) = read.changes.last() {
            self.positions.insert(shard.to_owned(), last.position.clone());
        }
        if let Some(reached) = read.reached {
            self.positions.insert(shard.to_owned(), reached);
        }
        self.shards.push((shard.to_owned(), read.changes.len()));
        self.changes.extend(read.changes);
        match read.next {
            Some(next) => drop(iterators.insert(shard.to_owned(), next)),
            None => {
                // The end of a shard is a position of its own.
                self.positions.remove(shard);
                self.finished.push(shard.to_owned());
            }
        }
        self.reads.push(one);
    }
}

/// Changes as rows: at most one per key, the last one. Changes of one key never come from two readable shards,
/// because a child is read only after its parent. What a lane had landed before is left out, and a change that came
/// before is not counted again.
pub(super) fn build(
    table: &Table,
    mapping: &TableMapping,
    gathered: Gathered,
    fence: Fence,
    ahead: &Ahead,
    lineage: &Lineage,
) -> ChangeBatch {
    let mut rows: HashMap<Key, (usize, RowChange)> = HashMap::new();
    let mut batch = ChangeBatch {
        from: lineage.stored().clone(),
        positions: gathered.positions,
        finished: gathered.finished,
        fence: Some(fence),
        ..ChangeBatch::default()
    };
    let shards = gathered.shards.iter().flat_map(|(shard, changes)| std::iter::repeat_n(shard.as_str(), *changes));
    let (mut counts, mut reached) = (Counts::default(), HashMap::new());
    for (n, (change, shard)) in gathered.changes.iter().zip(shards).enumerate() {
        let again = is_again(reached.get(shard).copied().or_else(|| lineage.position(shard)), &change.position);
        if !again {
            reached.insert(shard, &change.position);
        }
        if let Some(nonce) = change.marker(mapping) {
            if change.image.is_some() {
                batch.markers.push(nonce.to_owned());
            }
            continue;
        }
        // Counted with the positions, so not yet by a lane that is ahead.
        if !again && change.kind == (ChangeKind::Remove { expired: true }) {
            batch.expired += 1;
        }
        let row = row_change(table, mapping, change);
        if ahead.is_empty() || !ahead.landed(row.key(), fence.lanes, shard, &change.position) {
            if !again {
                counts.take(change, row.key().lane(fence.lanes));
            }
            rows.insert(row.key().clone(), (n, row));
        }
    }
    batch.counts = counts.0.into_values().collect();
    let mut rows: Vec<_> = rows.into_values().collect();
    rows.sort_by_key(|(n, _)| *n);
    batch.rows = rows.into_iter().map(|(_, row)| row).collect();
    batch
}

/// Whether a change came before: positions of a shard only grow. Where they cannot be compared, only the same one did.
fn is_again(reached: Option<&Position>, position: &Position) -> bool {
    reached.is_some_and(|reached| match position.order(reached) {
        Some(order) => order.is_le(),
        None => position == reached,
    })
}

/// Items that came and went, by lane and second.
#[derive(Default)]
struct Counts(BTreeMap<(u32, i64), CountChange>);

impl Counts {
    fn take(&mut self, change: &Change, lane: u32) {
        let (inserted, deleted) = match change.kind {
            ChangeKind::Insert => (1, 0),
            ChangeKind::Modify => return,
            ChangeKind::Remove { .. } => (0, 1),
        };
        let second = change.at.0.div_euclid(1_000);
        let of = self.0.entry((lane, second)).or_insert(CountChange { lane, second, ..CountChange::default() });
        of.inserted += inserted;
        of.deleted += deleted;
    }
}

/// One change as a row.
fn row_change(table: &Table, mapping: &TableMapping, change: &Change) -> RowChange {
    let park = |row_error| {
        let (key, key_json) = mapping.key(&change.key).unwrap_or_else(|_| (Key("?".to_owned()), "{}".to_owned()));
        RowChange::Park(ParkedRow { table: table.id.clone(), key, row_error, key_json })
    };
    match &change.image {
        // A key that no row can have is in no row: only the ledger has to forget it. What its cells would find is
        // another's.
        None => match mapping.key(&change.key) {
            Ok((key, key_json)) => {
                RowChange::Delete { key, key_json, row_key: mapping.row_key(&change.key).unwrap_or_default() }
            }
            Err(row_error) => park(row_error),
        },
        Some(image) => parked::upsert(mapping, image).unwrap_or_else(park),
    }
}

/// A mapped image that owns everything: key, key as JSON, the row, and rows by child table.
pub(super) type OwnedImage = (Key, String, OwnedRow, Vec<Vec<OwnedRow>>);

/// One image as a row, shared with retries.
pub(super) fn map_image(mapping: &TableMapping, image: &Record<'_>) -> Result<OwnedImage, RowError> {
    let mut mapped = Mapped::default();
    mapping.map(image, &mut mapped)?;
    let own = |row: Vec<Cell<'_>>| row.into_iter().map(Cell::into_owned).collect();
    Ok((
        Key(mapped.key),
        mapped.key_json,
        own(mapped.row),
        mapped.children.into_iter().map(|rows| rows.into_iter().map(own).collect()).collect(),
    ))
}
