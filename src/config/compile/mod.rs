//! From the checked file to the plan.

pub(super) mod alerts;
mod day;
pub(super) mod dial;
mod job;
pub(super) mod moves;
pub(super) mod table;
mod watch;

use std::path::Path;

use super::error::Sink;
use super::keys;
use super::section::Section;
use crate::domain::plan::{Follow, Gate, Load, Plan, Reverse, Stores, Verify};

/// Compiles the plan. `pool` is the target's most connections. Every list keeps its length and order, so that `steps[3]` means the same in both.
pub(super) fn plan(root: &Section<'_>, pool: usize, base: &Path, sink: &mut Sink<'_>) -> Plan {
    let name = root.must("name");
    let production = root.flag_or("production", true);
    let downtime_budget_ms = root.duration("downtime_budget").unwrap_or(300_000);
    let t0 = root.moment("t0");
    if t0 == Some(None) && !sink.reported("t0") {
        let message = "T-0 needs its offset from UTC: 2026-11-22T02:00:00Z";
        sink.error(root.offset_of("t0"), "t0", message);
    }
    let load = root.table("load", keys::LOAD);
    let follow = root.table("follow", keys::FOLLOW);
    let reverse = root.table("reverse", keys::REVERSE);
    let verify = root.table("verify", keys::VERIFY);
    let lanes = follow.count("lanes", Follow::lanes());
    let pool = u32::try_from(pool).unwrap_or(u32::MAX);
    if lanes > pool && !sink.reported("follow") {
        let target = if root.has("stores") { "the target's" } else { "[postgres]" };
        let message = format!("{lanes} lanes, but {target} pool is {pool}: each lane holds a connection");
        sink.error(follow.offset_of("lanes"), "follow.lanes", message);
    }
    let dial::Switches { places: switches, dials } = dial::switches(root, base, sink);
    let gates: Vec<Gate> = root.list("gates", keys::GATES).iter().map(|g| day::gate(g, sink)).collect();
    Plan {
        environment: root.text("environment").unwrap_or_else(|| if production { "production" } else { "test" }.into()),
        production,
        t0: t0.flatten(),
        downtime_budget_ms,
        tables: root.list("tables", keys::TABLES).iter().map(|t| table::table(t, base, sink)).collect(),
        moves: moves::rules(root),
        stays: root.list("stays", keys::STAYS).iter().map(|s| table::stays(s, sink)).collect(),
        switches,
        freeze: root.has("freeze").then(|| day::freeze(&root.table("freeze", keys::FREEZE))),
        probes: root.list("probes", keys::PROBES).iter().map(watch::probe).collect(),
        signals: watch::signals(&root.list("signals", keys::SIGNALS), &gates, downtime_budget_ms, sink),
        gates,
        steps: day::steps(&root.list("steps", keys::STEPS), &name, sink),
        load: Load {
            segments: load.has("segments").then(|| load.count("segments", 8)),
            workers: load.count("workers", Load::default().workers),
            read_budget_rcu: load.number("read_budget_rcu"),
            write_budget_wcu: load.number("write_budget_wcu"),
            defer_indexes: load.has("defer_indexes").then(|| load.flag("defer_indexes")),
            sequences_by_hand: load.texts("sequences_by_hand"),
        },
        follow: Follow {
            poll_ms: follow.millis("poll", 250),
            batch: follow.count("batch", 1000),
            lanes,
            marker_every_ms: follow.millis("marker_every", 5_000),
        },
        verify: Verify {
            floor: verify.number("floor").unwrap_or(0.999),
            settle_ms: verify.millis("settle", 5_000),
            segments: verify.count("segments", 8),
            list_limit: verify.count("list_limit", 100),
            continuous: verify.flag("continuous"),
            every_ms: verify.millis("every", Verify::default().every_ms),
            stale_ms: verify.duration("stale").unwrap_or(Verify::default().stale_ms),
        },
        reverse: Reverse {
            enabled: reverse.flag_or("enabled", true),
            poll_ms: reverse.millis("poll", 250),
            batch: reverse.count("batch", 200),
            settle_ms: reverse.millis("settle", 3_000),
            patience_ms: reverse.millis("patience", 120_000),
        },
        // Known once the connections are.
        stores: Stores::new(),
        dials,
        jobs: job::jobs(root, sink),
        name,
    }
}
