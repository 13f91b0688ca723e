//! How long a bulk load will take and what it will cost, before it is begun: the model of `docs/scaling.md`.
//!
//! Figures of the services are their published limits and list prices; the target's rate is what was measured on a
//! small machine. All of it is an estimate: the load itself shows what is true.

use serde::Serialize;

/// Bytes of one read unit.
const UNIT: f64 = 4096.0;
/// Bytes of one write unit; an item costs one at least.
const WRITE_UNIT: f64 = 1024.0;
/// Read units a second that one partition of a table gives.
const PARTITION_UNITS: f64 = 3_000.0;
/// Bytes a partition grows to before it is split.
const PARTITION_BYTES: f64 = 10e9;
/// Read units a second that an account allows a table unless it asks for more.
const TABLE_UNITS: f64 = 40_000.0;
/// Bytes a second that one worker reads: a page of 1 MB takes the service 40 ms or so.
const WORKER_BYTES: f64 = 25e6;
/// Rows and bytes a second that a small PostgreSQL (2 shared cores) takes with its indexes in place.
const TARGET_ROWS: f64 = 50_000.0;
const TARGET_BYTES: f64 = 28e6;
/// List price of a million read units on demand, in US dollars (us-east-1).
const DOLLARS: f64 = 0.125;
/// Seconds that a stream keeps its records.
const RETENTION: f64 = 24.0 * 3600.0;
/// Share of the retention that a load may take: changes must still be read after it.
const SAFE: f64 = 0.75;

/// What is known of a table and of how it will be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// Items, as the store counts them.
    pub items: u64,
    /// Bytes, as the store counts them.
    pub bytes: u64,
    /// Workers reading at once.
    pub workers: u32,
    /// What reading costs, where the store sells reads.
    pub units: Option<ReadUnits>,
    /// Write units a second that the load may take of the target; absent means no limit of ours.
    pub write_budget: Option<f64>,
}

/// How read units are spent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadUnits {
    /// Units a second that may be used; absent means no limit of ours.
    pub budget: Option<f64>,
    /// Whether reads are strongly consistent, which costs twice as much.
    pub consistent: bool,
}

/// What holds the load back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The read budget of the plan.
    Budget,
    /// The write budget of the plan.
    WriteBudget,
    /// What the table's partitions give.
    Partitions,
    /// What the account allows a table.
    Quota,
    /// The number of workers.
    Workers,
    /// What the target takes.
    Target,
}

impl Bound {
    /// In words: `the read budget`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Budget => "the read budget",
            Self::WriteBudget => "the write budget",
            Self::Partitions => "the table's partitions",
            Self::Quota => "the table's read quota",
            Self::Workers => "the number of workers",
            Self::Target => "what the target takes",
        }
    }
}

/// An estimate of one table's load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds from the first page to the last row.
    pub seconds: f64,
    /// What holds it back.
    pub bound: Bound,
    /// Read units it takes; none where the store sells none.
    pub units: f64,
    /// What they cost on demand, in US dollars.
    pub dollars: f64,
}

impl Estimate {
    /// Whether the load may outlast what the stream keeps: then changes made in its beginning are gone when they are
    /// to be applied, and an engine that reads an export is the right tool.
    #[must_use]
    pub fn outlasts_stream(&self) -> bool {
        self.seconds > RETENTION * SAFE
    }
}

/// Seconds a small PostgreSQL takes for these items and bytes with its indexes in place, whatever the source gives.
#[must_use]
pub fn target_seconds(items: f64, bytes: f64) -> f64 {
    (items / TARGET_ROWS).max(bytes / TARGET_BYTES)
}

/// What read units cost on demand, in US dollars (us-east-1).
#[must_use]
pub fn dollars(units: f64) -> f64 {
    units * DOLLARS / 1e6
}

/// Estimates a load. `None` for a table of which nothing is known, or that is empty.
#[must_use]
pub fn estimate(known: &Known) -> Option<Estimate> {
    if known.items == 0 || known.bytes == 0 {
        return None;
    }
    let (items, bytes) = (known.items as f64, known.bytes as f64);
    // A byte is read for this many units.
    let per_byte = known.units.map_or(0.0, |units| if units.consistent { 1.0 } else { 0.5 } / UNIT);
    let budget = known.units.and_then(|units| units.budget).filter(|b| *b > 0.0);
    let write_budget = known.write_budget.filter(|b| *b > 0.0);
    let partitions = (bytes / PARTITION_BYTES).ceil().max(1.0);
    let candidates = [
        (Bound::Target, target_seconds(items, bytes)),
        (Bound::Workers, bytes / (WORKER_BYTES * f64::from(known.workers.max(1)))),
        (Bound::Partitions, bytes * per_byte / (PARTITION_UNITS * partitions)),
        (Bound::Quota, bytes * per_byte / TABLE_UNITS),
        (Bound::Budget, budget.map_or(0.0, |budget| bytes * per_byte / budget)),
        (Bound::WriteBudget, write_budget.map_or(0.0, |budget| items.max(bytes / WRITE_UNIT) / budget)),
    ];
    let (bound, seconds) = candidates.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let units = bytes * per_byte;
    Some(Estimate { seconds, bound, units, dollars: dollars(units) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: ReadUnits = ReadUnits { budget: None, consistent: true };
    const BOOKS: Known =
        Known { items: 1_000_000, bytes: 520_000_000, workers: 4, units: Some(UNITS), write_budget: None };
    const HALF: Option<ReadUnits> = Some(ReadUnits { consistent: false, ..UNITS });

    fn budget(units: f64) -> Option<ReadUnits> {
        Some(ReadUnits { budget: Some(units), ..UNITS })
    }

    #[test]
    fn a_store_that_sells_no_reads_costs_nothing_and_is_held_back_by_what_does_the_work() {
        let e = estimate(&Known { units: None, ..BOOKS }).unwrap();
        assert_eq!((e.bound, e.units, e.dollars), (Bound::Target, 0.0, 0.0));
    }

    #[test]
    fn the_slowest_part_holds_the_load_back() {
        let e = |known: Known| estimate(&known).unwrap();
        assert_eq!(e(BOOKS).bound, Bound::Partitions, "half a gigabyte is one partition of 12 MB a second");
        assert!((e(BOOKS).seconds - 42.3).abs() < 0.1, "{:?}", e(BOOKS));
        assert_eq!(e(Known { units: HALF, ..BOOKS }).bound, Bound::Partitions);
        assert_eq!(e(Known { units: budget(100.0), ..BOOKS }).bound, Bound::Budget);
        let held = e(Known { write_budget: Some(1_000.0), ..BOOKS });
        assert_eq!((held.bound, held.seconds), (Bound::WriteBudget, 1_000.0), "an item costs one unit at least");
        let large = Known { items: 2_000_000_000, bytes: 1_000_000_000_000, workers: 64, ..BOOKS };
        assert_eq!(e(large).bound, Bound::Target);
        assert_eq!(e(Known { workers: 1, items: 1, ..large }).bound, Bound::Workers);
        assert_eq!(e(Known { bytes: 10_000_000_000, workers: 1, ..large }).bound, Bound::Target);
    }

    #[test]
    fn units_and_dollars_follow_the_bytes() {
        let e = estimate(&BOOKS).unwrap();
        assert!((e.units - 126_953.1).abs() < 0.1 && (e.dollars - 0.01587).abs() < 1e-4);
        let half = estimate(&Known { units: HALF, ..BOOKS }).unwrap();
        assert!((half.units * 2.0 - e.units).abs() < 1e-6);
    }

    #[test]
    fn a_load_that_outlasts_the_stream_is_told() {
        assert!(!estimate(&BOOKS).unwrap().outlasts_stream());
        assert!(estimate(&Known { units: budget(1.0), ..BOOKS }).unwrap().outlasts_stream());
        assert_eq!(estimate(&Known { items: 0, ..BOOKS }), None);
    }
}
