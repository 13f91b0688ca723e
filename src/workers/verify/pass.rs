//! One pass over one table.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::keys::KeyColumns;
use super::settle::{Verdict, settle};
use super::sides::{self, Candidate, Subject, candidate_of_row};
use crate::domain::gauge::Count;
use crate::domain::mapping::{TableMapping, read_key};
use crate::domain::plan::Table;
use crate::domain::run::VerifySummary;
use crate::domain::verify::{Digest, Finding, FindingKind, Ttl, digest_cells};
use crate::ports::{Orphans, PortResult};
use crate::workers::context::{TableWork, WorkerContext};
use crate::workers::parked::PAGE;
use crate::workers::rate::Doing;

/// Rows of differing buckets that are in memory at a time.
const GROUP: u64 = 200_000;
/// Keys of the ledger that are read one by one; the rest is found by the sums.
const LISTED: usize = 200_000;
/// Keys that differ and can be repaired afterwards; more are found by the next pass.
const WRONG: usize = 100_000;

/// What comparing gave.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Counts, causes and the first keys.
    pub summary: VerifySummary,
    /// The first differences, at most the plan's `list_limit`.
    pub findings: Vec<Finding>,
    /// Keys a repair can be tried on.
    pub wrong: Vec<Candidate>,
}

impl Compared {
    /// Takes a finding in: counted by the caller, listed here while there is room.
    pub(super) fn list(&mut self, limit: usize, finding: Finding) {
        if self.summary.keys.len() < limit {
            self.summary.keys.push(finding.key.clone());
        }
        if self.findings.len() < limit {
            self.findings.push(finding);
        }
    }

    /// Counts one settled key.
    pub(super) fn count(&mut self, subject: &Subject, candidate: Candidate, verdict: Verdict) {
        let summary = &mut self.summary;
        let (kind, fields) = match verdict {
            Verdict::Equal => return summary.equal += 1,
            Verdict::Parked => return summary.parked += 1,
            Verdict::Expired => return summary.expired += 1,
            Verdict::ExpiredExtra => return summary.expired_extra += 1,
            Verdict::Gone => return,
            Verdict::Missing => {
                summary.missing += 1;
                (FindingKind::Missing, Vec::new())
            }
            Verdict::Extra => {
                summary.extra += 1;
                (FindingKind::Extra, Vec::new())
            }
            Verdict::Differs(fields) => {
                summary.mismatched += 1;
                for field in &fields {
                    *summary.causes.entry(field.clone()).or_default() += 1;
                }
                (FindingKind::Differs, fields)
            }
            Verdict::Moving => {
                summary.mismatched += 1;
                (FindingKind::Differs, vec!["keeps changing".to_owned()])
            }
        };
        let finding = Finding { table: subject.table.id.clone(), key: candidate.text.clone(), kind, fields };
        self.list(subject.ctx.plan.verify.list_limit as usize, finding);
        if self.wrong.len() < WRONG {
            self.wrong.push(candidate);
        }
    }
}

/// Compares a whole table.
///
/// # Errors
/// What reading either side gave: nothing is concluded from half a reading.
pub async fn compare(ctx: &Arc<WorkerContext>, table: &Table) -> PortResult<Compared> {
    let began = ctx.mono();
    let repairs = || ctx.table(&table.id).map_or(0, TableWork::repaired);
    let repaired = repairs();
    ctx.latest.table(&table.id, |g| g.verified_rows = 0);
    let (subject, ttl) = subject(ctx, table).await?;
    let (source, target, rest) = sides::sums(&subject).await?;
    let (differing, equal) = source.differing(&target);
    let wall = ctx.wall();
    let still = differing.is_empty() && rest.candidates.is_empty();
    let counted = (Count::exact(rest.items, wall), Count::exact(target.rows(), wall));
    drop((source, target));
    let mut out = Compared::default();
    out.summary.equal = equal;
    out.summary.parked = rest.explained;
    out.summary.missing = rest.unexplained;
    let mut named = HashSet::new();
    let candidates: Vec<Candidate> = rest.candidates.into_iter().filter(|c| named.insert(c.text.clone())).collect();
    let keys = candidates.len() as u64 + differing.iter().map(|(_, rows)| rows).sum::<u64>();
    let doing = Doing::start(ctx, table, format!("looks again at up to {keys} rows that differ"));
    for (candidate, verdict) in settle(&subject, ttl.as_ref(), candidates).await? {
        out.count(&subject, candidate, verdict);
    }
    for group in groups(differing) {
        buckets(&subject, ttl.as_ref(), group, &mut out).await?;
    }
    drop(doing);
    // Both sides as of the moment each key was last read: while both change, two plain counts taken one after
    // the other would differ by what was written in between.
    let s = &mut out.summary;
    let wall = ctx.wall();
    let both = s.equal + s.mismatched;
    let derived = (
        Count::derived(both + s.missing + s.parked + s.expired, wall),
        Count::derived(both + s.extra + s.expired_extra, wall),
    );
    (s.source, s.target) = if still { counted } else { derived };
    let doing = Doing::start(ctx, table, "looks for rows without a parent".to_owned());
    orphans(&subject, &mut out).await?;
    drop(doing);
    out.summary.repairs = repairs() - repaired;
    out.summary.took_ms = ctx.mono() - began;
    Ok(out)
}

/// Compares some keys of a table.
///
/// # Errors
/// What reading either side gave.
pub async fn compare_keys(ctx: &Arc<WorkerContext>, table: &Table, keys: Vec<Candidate>) -> PortResult<Compared> {
    let began = ctx.mono();
    let (subject, ttl) = subject(ctx, table).await?;
    let mut out = Compared::default();
    for (candidate, verdict) in settle(&subject, ttl.as_ref(), keys).await? {
        out.count(&subject, candidate, verdict);
    }
    out.summary.took_ms = ctx.mono() - began;
    Ok(out)
}

/// What comparing a table needs, and its time-to-live rule: the plan's, else the source's own.
pub(super) async fn subject(ctx: &Arc<WorkerContext>, table: &Table) -> PortResult<(Arc<Subject>, Option<Ttl>)> {
    let attribute = match &table.ttl {
        Some(attribute) => Some(attribute.clone()),
        None => ctx.ports.source(table).describe(table).await?.ttl,
    };
    let ttl = attribute.map(|attribute| Ttl::new(table, &attribute));
    let mapping = ctx.mapping(table);
    let listed = listed(ctx, table, &mapping).await?;
    let keys = KeyColumns::of(table, ctx.plan.kind(&table.from));
    Ok((Arc::new(Subject { ctx: Arc::clone(ctx), table: table.clone(), mapping, keys, listed }), ttl))
}

/// Key digests of what the ledger holds.
async fn listed(ctx: &Arc<WorkerContext>, table: &Table, mapping: &TableMapping) -> PortResult<HashSet<Digest>> {
    let mut found = HashSet::new();
    let mut after = None;
    loop {
        let page = ctx.ports.target.parked(table, None, after.as_ref(), PAGE).await?;
        let keys = page.iter().filter_map(|r| mapping.row_key(&read_key(&r.key_json)?).ok());
        found.extend(keys.map(|cells| digest_cells(&cells)));
        if page.len() < PAGE as usize || found.len() >= LISTED {
            return Ok(found);
        }
        after = page.into_iter().next_back().map(|r| r.key);
    }
}

/// Differing buckets in groups whose rows fit into memory.
fn groups(differing: Vec<(usize, u64)>) -> Vec<HashSet<usize>> {
    let mut groups: Vec<HashSet<usize>> = Vec::new();
    let mut room = 0;
    for (bucket, rows) in differing {
        match groups.last_mut() {
            Some(group) if rows <= room => {
                group.insert(bucket);
                room -= rows;
            }
            _ => {
                groups.push(HashSet::from([bucket]));
                room = GROUP.saturating_sub(rows);
            }
        }
    }
    groups
}

/// Compares the rows of some buckets one by one.
async fn buckets(
    subject: &Arc<Subject>,
    ttl: Option<&Ttl>,
    wanted: HashSet<usize>,
    out: &mut Compared,
) -> PortResult<()> {
    let rows = sides::rows(subject, wanted).await?;
    let limit = subject.ctx.plan.verify.list_limit as usize;
    // Two items that become one row would hide one of them.
    for candidate in rows.collisions {
        out.summary.missing += 1;
        let (table, key) = (subject.table.id.clone(), candidate.text);
        out.list(limit, Finding { table, key, kind: FindingKind::Collision, fields: Vec::new() });
    }
    let mut candidates = Vec::new();
    let mut nameless = Vec::new();
    for (key, (_, cells)) in &rows.target {
        // Child rows without a main row are orphans, which are found by a query of their own.
        let at_source = rows.source.contains_key(key) || rows.unreadable.contains_key(key);
        if let (false, Some(cells)) = (at_source, cells) {
            match candidate_of_row(subject, cells.clone()) {
                Some(candidate) => candidates.push(candidate),
                None => nameless.push(cells.clone()),
            }
        }
    }
    for (key, (row, candidate)) in rows.source {
        match rows.target.get(&key) {
            Some((other, Some(_))) if *other == row => out.summary.equal += 1,
            _ => candidates.push(candidate),
        }
    }
    // They cannot be read again to see whether they moved: what was read is what counts.
    for (key, row) in rows.unreadable {
        let (kind, count) = match rows.target.get(&key) {
            Some((other, Some(_))) if *other == row => {
                out.summary.equal += 1;
                continue;
            }
            Some((_, Some(_))) => (FindingKind::Differs, &mut out.summary.mismatched),
            Some((_, None)) | None => (FindingKind::Missing, &mut out.summary.missing),
        };
        *count += 1;
        let key = "a row whose key is beyond what is understood of its type".to_owned();
        out.list(limit, Finding { table: subject.table.id.clone(), key, kind, fields: Vec::new() });
    }
    for (candidate, verdict) in settle(subject, ttl, candidates).await? {
        out.count(subject, candidate, verdict);
    }
    // Keys of a form no key of the source can have: nobody there knows them.
    let there = subject.ctx.ports.target.fetch(&subject.table, &nameless).await?;
    let there = there.into_iter().flatten().count() as u64;
    if there > 0 {
        out.summary.extra += there;
        let key = format!("{there} rows without a key at the source");
        out.list(limit, Finding { table: subject.table.id.clone(), key, kind: FindingKind::Extra, fields: Vec::new() });
    }
    Ok(())
}

/// Rows without parent. Those that disappear within the settling time were only late.
async fn orphans(subject: &Arc<Subject>, out: &mut Compared) -> PortResult<()> {
    let (ctx, table) = (&subject.ctx, &subject.table);
    let limit = ctx.plan.verify.list_limit;
    let total = |all: &[Orphans]| all.iter().map(|o| o.rows).sum::<u64>();
    let mut found = ctx.ports.target.orphans(table, &ctx.plan.tables, limit).await?;
    if total(&found) > 0 {
        tokio::time::sleep(Duration::from_millis(ctx.plan.verify.settle_ms)).await;
        let again = ctx.ports.target.orphans(table, &ctx.plan.tables, limit).await?;
        if total(&again) < total(&found) {
            found = again;
        }
    }
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    for o in found.iter().filter(|o| o.rows > 0) {
        out.summary.orphans += o.rows;
        if o.table != table.target {
            // Child rows come with their parent: without one the source cannot have them.
            out.summary.extra += o.rows;
        }
        let cause = format!("{}.{}: no such row in {}", o.table, o.columns.join(", "), o.parent);
        for key in &o.keys {
            let fields = vec![cause.clone()];
            let finding = Finding { table: o.table.clone(), key: key.0.clone(), kind: FindingKind::Orphan, fields };
            out.list(limit as usize, finding);
        }
        *causes.entry(cause).or_default() += o.rows;
    }
    out.summary.causes.extend(causes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_what_fits_and_every_bucket_once() {
        let found = groups(vec![(1, GROUP / 2), (2, GROUP / 2), (3, 1), (4, 3 * GROUP), (5, 1)]);
        let found: Vec<Vec<usize>> = found
            .into_iter()
            .map(|g| {
                let mut g: Vec<usize> = g.into_iter().collect();
                g.sort_unstable();
                g
            })
            .collect();
        assert_eq!(found, [vec![1, 2], vec![3], vec![4], vec![5]]);
    }
}
