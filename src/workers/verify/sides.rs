//! Reading both sides whole, in parallel parts, each row handed over with its digests.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use super::keys::{KeyColumns, child_weight};
use crate::domain::mapping::{Mapped, TableMapping, read_key};
use crate::domain::plan::Table;
use crate::domain::value::{Cell, Key, OwnedRow, Record};
use crate::domain::verify::{Digest, SideDigest, bucket, digest_cells};
use crate::ports::{ErrorKind, Partition, PortError, PortResult};
use crate::workers::context::WorkerContext;

/// Parts of one side that are read at the same time.
const AT_ONCE: u32 = 4;
/// Most items the mapping refuses and the ledger does not know that are read by key; more are only counted.
const UNEXPLAINED: usize = 100_000;

/// What a comparison needs of a table, shared by the readers of its parts.
pub struct Subject {
    /// The workers.
    pub ctx: Arc<WorkerContext>,
    /// The table.
    pub table: Table,
    /// Its mapping.
    pub mapping: Arc<TableMapping>,
    /// Its keys.
    pub keys: KeyColumns,
    /// Keys the ledger holds: read one by one, whatever the sums say.
    pub listed: HashSet<Digest>,
}

/// A key under suspicion.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The key as people read it.
    pub text: String,
    /// The source's key attributes.
    pub item: Record<'static>,
    /// The target's key cells; empty when the key cannot be a row's key there.
    pub cells: OwnedRow,
}

/// An item as it was read.
enum Seen<'s, 'p> {
    /// Through the mapping. Digests of the key and of the row with its children are absent where that refuses the item.
    Mapped(&'s Mapped<'p>, Option<(Digest, Digest)>),
    /// As it is, because nothing is mapped.
    Cells(&'s [Cell<'p>], (Digest, Digest)),
}

impl Seen<'_, '_> {
    /// Digests of the key and of the row with its children.
    const fn digests(&self) -> Option<(Digest, Digest)> {
        match self {
            Self::Mapped(_, digests) => *digests,
            Self::Cells(_, digests) => Some(*digests),
        }
    }

    /// It as one to be read by key; `None` where its key leads nowhere.
    fn candidate(&self, subject: &Subject) -> Option<Candidate> {
        match self {
            Self::Mapped(mapped, _) => candidate(subject, mapped),
            Self::Cells(row, _) => candidate_of_row(subject, subject.keys.cells(row)),
        }
    }
}

/// What the source gave besides its sums.
#[derive(Default)]
pub struct Rest {
    /// Items, markers left out.
    pub items: u64,
    /// Items the mapping refuses and the ledger explains.
    pub explained: u64,
    /// Items the mapping refuses and the ledger does not know, beyond those among the candidates.
    pub unexplained: u64,
    /// Keys to read one by one.
    pub candidates: Vec<Candidate>,
}

/// Sums of both sides, read at the same time.
pub async fn sums(subject: &Arc<Subject>) -> PortResult<(SideDigest, SideDigest, Rest)> {
    let ours = Arc::new(Mutex::new((SideDigest::default(), Rest::default())));
    let theirs = Arc::new(Mutex::new((SideDigest::default(), Vec::new())));
    let (source, target) = (Arc::clone(&ours), Arc::clone(&theirs));
    let of = subject.ctx.plan.verify.segments.max(1);
    let source = parts(of, |part| sum_segment(Arc::clone(subject), part, Arc::clone(&source)));
    let target = parts(target_parts(subject), |part| sum_rows(Arc::clone(subject), part, Arc::clone(&target)));
    tokio::try_join!(source, target)?;
    let (source, mut rest) = std::mem::take(&mut *ours.lock().unwrap_or_else(PoisonError::into_inner));
    let (target, listed) = std::mem::take(&mut *theirs.lock().unwrap_or_else(PoisonError::into_inner));
    // Rows that are in the target although the ledger holds their key.
    rest.candidates.extend(listed.into_iter().filter_map(|cells| candidate_of_row(subject, cells)));
    Ok((source, target, rest))
}

fn target_parts(subject: &Subject) -> u32 {
    subject.ctx.plan.verify.segments.clamp(1, AT_ONCE)
}

/// Runs every part on its own task, a few at a time; dropping the future ends them all.
async fn parts<F>(of: u32, part: impl Fn(Partition) -> F) -> PortResult<()>
where
    F: Future<Output = PortResult<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut next = 0;
    loop {
        while next < of && running.len() < AT_ONCE as usize {
            running.spawn(part(Partition { index: next, of }));
            next += 1;
        }
        match running.join_next().await {
            None => return Ok(()),
            Some(Ok(done)) => done?,
            Some(Err(e)) => return Err(PortError::new(ErrorKind::Internal, "compare", "a part", e.to_string())),
        }
    }
}

async fn sum_segment(subject: Arc<Subject>, part: Partition, side: Arc<Mutex<(SideDigest, Rest)>>) -> PortResult<()> {
    let mut tally = SideDigest::default();
    let mut rest = Rest::default();
    let mut cursor = None;
    loop {
        let mut refused: Vec<(Key, Candidate)> = Vec::new();
        let before = rest.items;
        cursor = page(&subject, part, cursor, &mut |seen| {
            rest.items += 1;
            match seen.digests() {
                Some((key, _)) if subject.listed.contains(&key) => rest.candidates.extend(seen.candidate(&subject)),
                Some((key, row)) => tally.row(key, row),
                None => match seen.candidate(&subject) {
                    Some(candidate) => refused.push((Key(candidate.text.clone()), candidate)),
                    // Its key cannot even be said: it is in no ledger, and in no row.
                    None => rest.unexplained += 1,
                },
            }
        })
        .await?;
        let keys: Vec<Key> = refused.iter().map(|(key, _)| key.clone()).collect();
        let ledger = subject.ctx.ports.target.parked_since(&subject.table, &keys).await?;
        for ((_, candidate), known) in refused.into_iter().zip(ledger) {
            match known {
                Some(_) => rest.explained += 1,
                None if rest.candidates.len() < UNEXPLAINED => rest.candidates.push(candidate),
                None => rest.unexplained += 1,
            }
        }
        let read = rest.items - before;
        subject.ctx.latest.table(&subject.table.id, |g| g.verified_rows += read);
        if cursor.is_none() {
            break;
        }
    }
    let mut side = side.lock().unwrap_or_else(PoisonError::into_inner);
    let (all, sum) = &mut *side;
    all.merge(&tally);
    sum.items += rest.items;
    sum.explained += rest.explained;
    sum.unexplained += rest.unexplained;
    sum.candidates.append(&mut rest.candidates);
    Ok(())
}

async fn sum_rows(
    subject: Arc<Subject>,
    part: Partition,
    side: Arc<Mutex<(SideDigest, Vec<OwnedRow>)>>,
) -> PortResult<()> {
    let mut tally = SideDigest::default();
    let mut listed = Vec::new();
    let (target, table, keys) = (&subject.ctx.ports.target, &subject.table, &subject.keys);
    let mut row = |row: &[Cell<'_>]| {
        let key = keys.digest(row);
        if subject.listed.contains(&key) {
            listed.push(keys.cells(row));
        } else {
            tally.row(key, digest_cells(row));
        }
    };
    target.scan_part(table, None, part, &mut row).await?;
    for child in 0..table.children.len() {
        let mut row = |row: &[Cell<'_>]| {
            let key = keys.parent(child, row);
            if !subject.listed.contains(&key) {
                tally.part(key, child_weight(child, row));
            }
        };
        target.scan_part(table, Some(child), part, &mut row).await?;
    }
    let mut side = side.lock().unwrap_or_else(PoisonError::into_inner);
    side.0.merge(&tally);
    side.1.append(&mut listed);
    Ok(())
}

/// Reads one page of a segment within the read budget and hands every item that is not a marker to `each`.
async fn page(
    subject: &Subject,
    part: Partition,
    cursor: Option<crate::ports::Cursor>,
    each: &mut (dyn FnMut(Seen<'_, '_>) + Send),
) -> PortResult<Option<crate::ports::Cursor>> {
    let ctx = &subject.ctx;
    ctx.unpaused().await;
    ctx.limits.budget.wait().await;
    let page = ctx.ports.source(&subject.table).page(&subject.table, part, cursor.as_ref()).await?;
    let source = ctx.ports.source(&subject.table);
    let as_it_is = source.cells(&subject.table, &page, &mut |row| {
        each(Seen::Cells(row, (subject.keys.digest(row), digest_cells(row))));
    })?;
    let end = if let Some(end) = as_it_is {
        end
    } else {
        let mut mapped = Mapped::default();
        source.read(&page, &mut |item| {
            if subject.mapping.marker(item).is_some() {
                return;
            }
            let fits = subject.mapping.map(item, &mut mapped).is_ok();
            let digests = fits.then(|| {
                let children = mapped
                    .children
                    .iter()
                    .enumerate()
                    .flat_map(|(child, rows)| rows.iter().map(move |row| child_weight(child, row)));
                let row = children.fold(digest_cells(&mapped.row), Digest::wrapping_add);
                (subject.keys.digest(&mapped.row), row)
            });
            each(Seen::Mapped(&mapped, digests));
        })?
    };
    if let Some(units) = end.capacity {
        ctx.limits.budget.spend(units);
    }
    Ok(end.next)
}

fn candidate(subject: &Subject, mapped: &Mapped<'_>) -> Option<Candidate> {
    let item = read_key(&mapped.key_json)?;
    let cells = subject.mapping.row_key(&item).unwrap_or_default();
    Some(Candidate { text: mapped.key.clone(), item, cells })
}

/// A target row's key as a candidate; `None` when it does not lead back to a key of the source.
pub fn candidate_of_row(subject: &Subject, cells: OwnedRow) -> Option<Candidate> {
    let item = subject.keys.item(&cells)?;
    let text = subject.mapping.key(&item).map_or_else(|_| "?".to_owned(), |(key, _)| key.0);
    Some(Candidate { text, item, cells })
}

/// Rows of some buckets, one by one.
#[derive(Default)]
pub struct Rows {
    /// By key digest: the row's digest and its key.
    pub source: std::collections::HashMap<Digest, (Digest, Candidate)>,
    /// By key digest: the row's digest, and its key cells if the main row is there.
    pub target: std::collections::HashMap<Digest, (Digest, Option<OwnedRow>)>,
    /// Rows of the source that cannot be read by their key, which is beyond what is understood of its type: key digest and
    /// row digest.
    pub unreadable: std::collections::HashMap<Digest, Digest>,
    /// Items whose row another item has already.
    pub collisions: Vec<Candidate>,
}

/// Reads both sides again and keeps the rows of these buckets.
pub async fn rows(subject: &Arc<Subject>, wanted: HashSet<usize>) -> PortResult<Rows> {
    let wanted = Arc::new(wanted);
    let found = Arc::new(Mutex::new(Rows::default()));
    let of = subject.ctx.plan.verify.segments.max(1);
    let source = parts(of, |part| keep_segment(Arc::clone(subject), part, Arc::clone(&wanted), Arc::clone(&found)));
    let target = parts(target_parts(subject), |part| {
        keep_rows(Arc::clone(subject), part, Arc::clone(&wanted), Arc::clone(&found))
    });
    tokio::try_join!(source, target)?;
    Ok(std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner)))
}

async fn keep_segment(
    subject: Arc<Subject>,
    part: Partition,
    wanted: Arc<HashSet<usize>>,
    found: Arc<Mutex<Rows>>,
) -> PortResult<()> {
    let mut cursor = None;
    loop {
        let (mut kept, mut unreadable) = (Vec::new(), Vec::new());
        cursor = page(&subject, part, cursor, &mut |seen| {
            if let Some((key, row)) = seen.digests()
                && wanted.contains(&bucket(key))
                && !subject.listed.contains(&key)
            {
                match seen.candidate(&subject) {
                    Some(candidate) if !candidate.cells.is_empty() => kept.push((key, row, candidate)),
                    Some(_) | None => unreadable.push((key, row)),
                }
            }
        })
        .await?;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found.unreadable.extend(unreadable);
        for (key, row, candidate) in kept {
            // The same item may be read twice while its table changes; another item is a collision.
            if let Some((_, other)) = found.source.insert(key, (row, candidate.clone()))
                && other.text != candidate.text
            {
                found.collisions.push(candidate);
            }
        }
        if cursor.is_none() {
            return Ok(());
        }
    }
}

async fn keep_rows(
    subject: Arc<Subject>,
    part: Partition,
    wanted: Arc<HashSet<usize>>,
    found: Arc<Mutex<Rows>>,
) -> PortResult<()> {
    let (target, table, keys) = (&subject.ctx.ports.target, &subject.table, &subject.keys);
    let keeps = |key: Digest| wanted.contains(&bucket(key)) && !subject.listed.contains(&key);
    let mut kept: Vec<(Digest, Digest, Option<OwnedRow>)> = Vec::new();
    let mut row = |row: &[Cell<'_>]| {
        let key = keys.digest(row);
        if keeps(key) {
            kept.push((key, digest_cells(row), Some(keys.cells(row))));
        }
    };
    target.scan_part(table, None, part, &mut row).await?;
    for child in 0..table.children.len() {
        let mut row = |row: &[Cell<'_>]| {
            let key = keys.parent(child, row);
            if keeps(key) {
                kept.push((key, child_weight(child, row), None));
            }
        };
        target.scan_part(table, Some(child), part, &mut row).await?;
    }
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    for (key, weight, cells) in kept {
        let (sum, known) = found.target.entry(key).or_default();
        *sum = sum.wrapping_add(weight);
        *known = known.take().or(cells);
    }
    Ok(())
}
