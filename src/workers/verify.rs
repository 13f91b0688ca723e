//! Full comparison, key by key and field by field (FEATURES B3, B4, B5).
//!
//! Both sides are read whole and brought to the same canonical cells; 128-bit digests decide. Keys that differ are
//! read again from both sides once the lag has passed, and only differences that stand count. The verifier shares
//! no skip filter with the load: a source item that the mapping refuses counts as parked only if the ledger has it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::crew::Crew;
use super::follow::map_image;
use super::parked::key_item;
use super::trouble::{evidence, not_recorded, step_error};
use crate::domain::gauge::{Count, Phase};
use crate::domain::mapping::{Mapped, TableMapping};
use crate::domain::plan::{ColumnSource, Table};
use crate::domain::run::{ErrorClass, Event, Evidence, StepError, VerifySummary};
use crate::domain::value::{Attr, Cell, Item, OwnedRow};
use crate::domain::verify::{Digest, compare, digest_cells};
use crate::ports::{Partition, PortError, PortResult};

/// Rounds in which a key that keeps changing may be caught equal.
const ROUNDS: u32 = 8;
/// Pause between two looks at the target while it catches up.
const LOOK: Duration = Duration::from_millis(40);
/// Keys read again at a time.
const CHUNK: usize = 100;
/// Most parked rows the ledger is asked for.
const LEDGER: u32 = 1_000_000;

/// Compares every table; fails when one is under the floor.
pub async fn perform(crew: &Arc<Crew>) -> Result<Vec<Evidence>, StepError> {
    let mut found = Vec::new();
    let mut under = Vec::new();
    for table in &crew.plan.tables {
        let before = crew.board.table(&table.id, |g| std::mem::replace(&mut g.phase, Phase::Verifying));
        let summary = one(crew, table).await.map_err(|e| step_error(&e));
        crew.board.table(&table.id, |g| g.phase = before);
        let summary = summary?;
        let verified = Event::Verified { table: table.id.clone(), summary: summary.clone() };
        crew.facts.state(verified).await.map_err(|e| not_recorded(&e))?;
        let value = format!(
            "{} equal, {} missing, {} extra, {} mismatched, {} parked ({:.3}%)",
            summary.equal,
            summary.missing,
            summary.extra,
            summary.mismatched,
            summary.parked,
            summary.rate() * 100.0
        );
        if summary.rate() < crew.plan.verify.floor {
            under.push(format!("{}: {value}", table.id));
        }
        found.push(evidence(format!("compared {}", table.id), value, crew.wall(), "full read of both sides"));
    }
    if under.is_empty() {
        return Ok(found);
    }
    Err(StepError {
        class: ErrorClass::Verification,
        message: format!("under the floor of {}: {}", crew.plan.verify.floor, under.join("; ")),
        advice: "look at the named keys in the verification view, mend the cause, then verify again".to_owned(),
    })
}

/// What the source says, by key digest.
#[derive(Default)]
struct SourceSide {
    rows: HashMap<Digest, Digest>,
    /// Keys of items the mapping refuses.
    refused: Vec<String>,
    items: u64,
}

async fn one(crew: &Arc<Crew>, table: &Table) -> PortResult<VerifySummary> {
    let began = crew.mono();
    crew.board.table(&table.id, |g| g.verified_rows = 0);
    let mapping = crew.mapping(table);
    let keys = KeyColumns::of(table);
    let target = read_target(crew, table, &keys).await?;
    let source = read_source(crew, table, &mapping, &keys).await?;
    let ledger = crew.ports.target.parked(table, LEDGER).await?;
    let parked: HashSet<&str> = ledger.iter().map(|r| r.key.0.as_str()).collect();
    let parked_rows: HashSet<Digest> = ledger
        .iter()
        .filter_map(|r| mapping.row_key(&key_item(&r.key_json)?).ok())
        .map(|cells| digest_cells(&cells))
        .collect();

    let mut suspects: HashSet<Digest> = HashSet::new();
    let mut equal = 0;
    // Explained: in the ledger, and at the source.
    let mut explained = source.refused.iter().filter(|k| parked.contains(k.as_str())).count() as u64;
    for (key, row) in &source.rows {
        if target.get(key) == Some(row) {
            equal += 1;
        } else if !target.contains_key(key) && parked_rows.contains(key) {
            explained += 1;
        } else {
            suspects.insert(*key);
        }
    }
    suspects.extend(target.keys().filter(|k| !source.rows.contains_key(*k)));
    let unexplained = source.refused.iter().filter(|k| !parked.contains(k.as_str())).count() as u64;
    let mut summary = VerifySummary {
        equal,
        missing: unexplained,
        parked: explained,
        keys: source.refused.iter().filter(|k| !parked.contains(k.as_str())).take(10).cloned().collect(),
        ..VerifySummary::default()
    };
    // Two items that become one row would hide one of them.
    summary.missing += source.items.saturating_sub((source.rows.len() + source.refused.len()) as u64);
    let wall = crew.wall();
    let still =
        suspects.is_empty().then(|| (Count::exact(source.items, wall), Count::exact(target.len() as u64, wall)));
    drop((source, target));
    if !suspects.is_empty() {
        settle(crew, table, &mapping, &keys, suspects, &mut summary).await?;
    }
    // Both sides as of the moment each key was last looked at: while both change, two plain counts taken one after
    // the other would differ by what was written in between.
    let wall = crew.wall();
    let both = summary.equal + summary.mismatched;
    let derived =
        (Count::derived(both + summary.missing + summary.parked, wall), Count::derived(both + summary.extra, wall));
    (summary.source, summary.target) = still.unwrap_or(derived);
    summary.took_ms = crew.mono() - began;
    Ok(summary)
}

/// Places of the key columns, and how a row's key leads back to the source's key.
struct KeyColumns {
    places: Vec<usize>,
    /// Per key column: the source attribute.
    attributes: Vec<Option<String>>,
    /// Per child table: places of the parent's key.
    children: Vec<Vec<usize>>,
}

impl KeyColumns {
    fn of(table: &Table) -> Self {
        let keyed: Vec<_> = table.columns.iter().enumerate().filter(|(_, c)| c.key).collect();
        let children = table
            .children
            .iter()
            .map(|child| {
                child.parent_key.iter().filter_map(|k| child.columns.iter().position(|c| c.name == *k)).collect()
            })
            .collect();
        Self {
            places: keyed.iter().map(|(i, _)| *i).collect(),
            attributes: keyed
                .iter()
                .map(|(_, c)| match &c.from {
                    ColumnSource::Attribute(path) => path.first().cloned(),
                    _ => None,
                })
                .collect(),
            children,
        }
    }

    fn digest(&self, row: &[Cell<'_>]) -> Digest {
        let cells: Vec<Cell<'_>> = self.places.iter().filter_map(|i| row.get(*i).cloned()).collect();
        digest_cells(&cells)
    }

    fn cells(&self, row: &[Cell<'_>]) -> OwnedRow {
        self.places.iter().filter_map(|i| row.get(*i).cloned().map(Cell::into_owned)).collect()
    }

    fn parent(&self, child: usize, row: &[Cell<'_>]) -> Digest {
        let places = self.children.get(child).map_or(&[][..], Vec::as_slice);
        let cells: Vec<Cell<'_>> = places.iter().filter_map(|i| row.get(*i).cloned()).collect();
        digest_cells(&cells)
    }

    /// The source's key attributes, from the cells of a target row's key. Text keys that the target keeps in
    /// another form (an upper-case uuid) do not lead back; such keys are found from the source's side.
    fn item(&self, key: &[Cell<'_>]) -> Option<Item<'static>> {
        let attrs = self
            .attributes
            .iter()
            .zip(key)
            .filter_map(|(name, cell)| name.as_ref().map(|n| (n, cell)))
            .map(|(name, cell)| {
                let attr = match cell {
                    Cell::Text(s) => Attr::Str(s.to_string().into()),
                    Cell::Uuid(u) => Attr::Str(uuid::Uuid::from_bytes(*u).to_string().into()),
                    Cell::Numeric(n) => Attr::Num(n.to_string().into()),
                    Cell::Int(i) => Attr::Num(i.to_string().into()),
                    Cell::Bytes(b) => Attr::Bin(b.to_vec().into()),
                    _ => return None,
                };
                Some((name.clone().into(), attr))
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Item { attrs })
    }
}

/// A child row's weight in its parent's digest: order does not matter, which table does.
fn child_weight(child: usize, row: &[Cell<'_>]) -> Digest {
    digest_cells(row).wrapping_mul(2 * child as u128 + 3)
}

async fn read_target(crew: &Arc<Crew>, table: &Table, keys: &KeyColumns) -> PortResult<HashMap<Digest, Digest>> {
    let mut rows: HashMap<Digest, Digest> = HashMap::new();
    let target = &crew.ports.target;
    target
        .scan(table, &mut |row| {
            rows.insert(keys.digest(row), digest_cells(row));
        })
        .await?;
    for child in 0..table.children.len() {
        target
            .scan_child(table, child, &mut |row| {
                // A child without parent cannot pass unseen: it becomes a key the source does not have.
                let weight = rows.entry(keys.parent(child, row)).or_insert(0);
                *weight = weight.wrapping_add(child_weight(child, row));
            })
            .await?;
    }
    Ok(rows)
}

async fn read_source(
    crew: &Arc<Crew>,
    table: &Table,
    mapping: &TableMapping,
    keys: &KeyColumns,
) -> PortResult<SourceSide> {
    let of = crew.plan.verify.segments.max(1);
    let parts = stream::iter((0..of).map(|index| read_segment(crew, table, mapping, keys, Partition { index, of })));
    let sides: Vec<SourceSide> = parts.buffer_unordered(4).try_collect().await?;
    Ok(sides.into_iter().fold(SourceSide::default(), |mut all, side| {
        all.rows.extend(side.rows);
        all.refused.extend(side.refused);
        all.items += side.items;
        all
    }))
}

async fn read_segment(
    crew: &Arc<Crew>,
    table: &Table,
    mapping: &TableMapping,
    keys: &KeyColumns,
    part: Partition,
) -> PortResult<SourceSide> {
    let mut side = SourceSide::default();
    let mut cursor = None;
    loop {
        crew.unpaused().await;
        let page = crew.ports.source.page(table, part, cursor.as_ref()).await?;
        let before = side.items;
        let end = {
            let mut mapped = Mapped::default();
            crew.ports.source.read(&page, &mut |item| {
                if mapping.marker(item).is_some() {
                    return;
                }
                side.items += 1;
                match mapping.map(item, &mut mapped) {
                    Ok(()) => {
                        let children = mapped
                            .children
                            .iter()
                            .enumerate()
                            .flat_map(|(child, rows)| rows.iter().map(move |row| child_weight(child, row)));
                        let digest = children.fold(digest_cells(&mapped.row), Digest::wrapping_add);
                        side.rows.insert(keys.digest(&mapped.row), digest);
                    }
                    Err(_) => side.refused.push(mapped.key.clone()),
                }
            })?
        };
        let read = side.items - before;
        crew.board.table(&table.id, |g| g.verified_rows += read);
        cursor = end.next;
        if cursor.is_none() {
            return Ok(side);
        }
    }
}

/// Reads differing keys again until they settle; what stands is counted, named and explained.
async fn settle(
    crew: &Arc<Crew>,
    table: &Table,
    mapping: &TableMapping,
    keys: &KeyColumns,
    suspects: HashSet<Digest>,
    summary: &mut VerifySummary,
) -> PortResult<()> {
    let mut candidates = name(crew, table, mapping, keys, &suspects).await?;
    let named: HashSet<Digest> = candidates.iter().map(|c| digest_cells(&c.cells)).collect();
    let unnamed: Vec<&Digest> = suspects.iter().filter(|d| !named.contains(*d)).collect();
    let mut settled: Vec<(Candidate, Verdict)> = Vec::new();
    let mut standing = Vec::new();
    for _ in 0..ROUNDS {
        standing.clear();
        let mut left = Vec::new();
        for chunk in candidates.chunks(CHUNK) {
            for (candidate, verdict) in chunk.iter().zip(look(crew, table, mapping, chunk).await?) {
                match verdict {
                    Verdict::Equal => summary.equal += 1,
                    Verdict::Gone => {}
                    Verdict::Parked => summary.parked += 1,
                    // The source stood still and the target still differs: it counts.
                    Verdict::Missing | Verdict::Extra | Verdict::Differs(_) => {
                        standing.push((candidate.clone(), verdict));
                    }
                    Verdict::Moving => left.push(candidate.clone()),
                }
            }
        }
        settled.append(&mut standing);
        candidates = left;
        if candidates.is_empty() {
            break;
        }
    }
    // A key that never stood still and was never caught equal counts against us, not for us.
    settled.extend(candidates.into_iter().map(|c| (c, Verdict::Differs(vec!["keeps changing".to_owned()]))));
    // A key that cannot be named was removed on both sides meanwhile, or nobody at the source knows it: rows of a
    // child table without parent, keys of a form the source does not have.
    if !unnamed.is_empty() {
        let target = read_target(crew, table, keys).await?;
        let there = unnamed.iter().filter(|d| target.contains_key(**d)).count() as u64;
        summary.extra += there;
        if there > 0 {
            summary.keys.push(format!("{there} rows without a key at the source"));
        }
    }
    let limit = crew.plan.verify.list_limit as usize;
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    for (candidate, verdict) in settled {
        match verdict {
            Verdict::Missing => summary.missing += 1,
            Verdict::Extra => summary.extra += 1,
            Verdict::Differs(fields) => {
                summary.mismatched += 1;
                for field in fields {
                    *causes.entry(field).or_default() += 1;
                }
            }
            Verdict::Equal | Verdict::Gone | Verdict::Parked | Verdict::Moving => {}
        }
        if summary.keys.len() < limit {
            summary.keys.push(candidate.text);
        }
    }
    summary.causes = causes;
    Ok(())
}

/// A key under suspicion.
#[derive(Clone)]
struct Candidate {
    text: String,
    item: Item<'static>,
    cells: OwnedRow,
}

/// Finds the keys behind digests by reading both sides' keys once more.
async fn name(
    crew: &Arc<Crew>,
    table: &Table,
    mapping: &TableMapping,
    keys: &KeyColumns,
    suspects: &HashSet<Digest>,
) -> PortResult<Vec<Candidate>> {
    let mut found: HashMap<Digest, Candidate> = HashMap::new();
    let of = crew.plan.verify.segments.max(1);
    for index in 0..of {
        let mut cursor = None;
        loop {
            let page = crew.ports.source.page(table, Partition { index, of }, cursor.as_ref()).await?;
            let end = crew.ports.source.read(&page, &mut |item| {
                if mapping.marker(item).is_some() {
                    return;
                }
                if let (Ok(cells), Ok((key, json))) = (mapping.row_key(item), mapping.key(item)) {
                    let digest = digest_cells(&cells);
                    if suspects.contains(&digest)
                        && let Some(item) = key_item(&json)
                    {
                        found.insert(digest, Candidate { text: key.0, item, cells });
                    }
                }
            })?;
            cursor = end.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    let target = &crew.ports.target;
    target
        .scan(table, &mut |row| {
            let digest = keys.digest(row);
            if suspects.contains(&digest) && !found.contains_key(&digest) {
                let cells = keys.cells(row);
                if let Some(item) = keys.item(&cells) {
                    let text = mapping.key(&item).map_or_else(|_| "?".to_owned(), |(key, _)| key.0);
                    found.insert(digest, Candidate { text, item, cells });
                }
            }
        })
        .await?;
    Ok(found.into_values().collect())
}

/// What one more look at a key says.
enum Verdict {
    Equal,
    Gone,
    Parked,
    Missing,
    Extra,
    Differs(Vec<String>),
    /// The source changed while it was looked at, and the target was never caught equal to what it was.
    Moving,
}

/// Looks at keys again: the source first, then the target until it shows what the source showed or the settling time
/// is over, then the source once more. Only a key whose source stood still meanwhile gets a final verdict.
async fn look(
    crew: &Arc<Crew>,
    table: &Table,
    mapping: &TableMapping,
    chunk: &[Candidate],
) -> Result<Vec<Verdict>, PortError> {
    let items: Vec<Item<'static>> = chunk.iter().map(|c| c.item.clone()).collect();
    let cells: Vec<OwnedRow> = chunk.iter().map(|c| c.cells.clone()).collect();
    let before = crew.ports.source.get(table, &items).await?;
    let ledger: HashSet<String> = crew.ports.target.parked(table, LEDGER).await?.into_iter().map(|r| r.key.0).collect();
    let settle = i64::try_from(crew.plan.verify.settle_ms).unwrap_or(i64::MAX);
    let began = crew.mono();
    let mut verdicts: Vec<Verdict> = chunk.iter().map(|_| Verdict::Moving).collect();
    loop {
        let target = crew.ports.target.fetch(table, &cells).await?;
        for (n, found) in target.into_iter().enumerate() {
            if matches!(verdicts[n], Verdict::Equal | Verdict::Gone | Verdict::Parked) {
                continue;
            }
            let parked = ledger.contains(&chunk[n].text);
            verdicts[n] = judge(table, mapping, before[n].as_ref(), found.as_ref(), parked);
        }
        let open = verdicts.iter().any(|v| !matches!(v, Verdict::Equal | Verdict::Gone | Verdict::Parked));
        // While customers are kept out nothing moves, and nothing needs to settle.
        let frozen = crew.frozen.load(std::sync::atomic::Ordering::Acquire);
        if !open || frozen || crew.mono() - began >= settle {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let after = crew.ports.source.get(table, &items).await?;
    for (n, verdict) in verdicts.iter_mut().enumerate() {
        if matches!(verdict, Verdict::Missing | Verdict::Extra | Verdict::Differs(_)) && before[n] != after[n] {
            *verdict = Verdict::Moving;
        }
    }
    Ok(verdicts)
}

type Found = (OwnedRow, Vec<Vec<OwnedRow>>);

fn judge(
    table: &Table,
    mapping: &TableMapping,
    source: Option<&Item<'static>>,
    target: Option<&Found>,
    parked: bool,
) -> Verdict {
    match (source, target) {
        (None, None) => Verdict::Gone,
        (None, Some(_)) => Verdict::Extra,
        (Some(_), None) if parked => Verdict::Parked,
        (Some(_), None) => Verdict::Missing,
        (Some(item), Some((row, children))) => match map_image(mapping, item) {
            Err(_) => Verdict::Differs(vec!["the source's row no longer fits".to_owned()]),
            Ok((_, _, ours, ours_children)) => differing(table, (&ours, &ours_children), (row, children)),
        },
    }
}

fn differing(
    table: &Table,
    source: (&OwnedRow, &Vec<Vec<OwnedRow>>),
    target: (&OwnedRow, &Vec<Vec<OwnedRow>>),
) -> Verdict {
    let mut causes: Vec<String> = compare(source.0, target.0)
        .into_iter()
        .map(|d| {
            let column = table.columns.get(d.column).map_or("?", |c| c.name.as_str());
            format!("{column}: {}", d.cause)
        })
        .collect();
    for (child, plan) in table.children.iter().enumerate() {
        let weigh = |rows: Option<&Vec<OwnedRow>>| {
            rows.map_or(0, |rows| rows.iter().fold(0, |sum: Digest, r| sum.wrapping_add(child_weight(child, r))))
        };
        if weigh(source.1.get(child)) != weigh(target.1.get(child)) {
            causes.push(format!("{}: child rows", plan.target));
        }
    }
    if causes.is_empty() { Verdict::Equal } else { Verdict::Differs(causes) }
}
