//! The load of tables that a mover copies: it is started, and waited for until every table is in step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{failed, not_at_work, port, tell};
use crate::domain::gauge::Phase;
use crate::domain::plan::{MoverOf, Step, Table};
use crate::domain::run::{Event, Evidence, MoverOrder, StepError};
use crate::ports::{Checkpoint, MoverLook, MoverState, Partition, TableState};
use crate::workers::context::WorkerContext;
use crate::workers::load::in_order;
use crate::workers::rate::Doing;
use crate::workers::trouble::{cancelled, evidence, not_recorded, step_error, world};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(300);
/// Failed attempts without any progress after which the step fails: a person has to see to it.
const ATTEMPTS: u64 = 8;

/// Sets the indexes of empty tables aside, and lets the movers work. They go on while other tables are loaded.
pub async fn started(ctx: &Arc<WorkerContext>, step: &Step, attempt: u32) -> Result<(), StepError> {
    for of in ctx.plan.movers() {
        for table in &of.tables {
            let target = &ctx.ports.target;
            if target.positions(table).await.map_err(|e| step_error(&e))?.is_none() {
                let wrong = format!("{}: nothing is made that could move it", table.id);
                return Err(world(wrong, "run the capture step first"));
            }
            // The key stays: changes are applied to a table by it as soon as it is copied.
            let aside =
                target.begin_load(table, ctx.plan.load.defer_indexes, false).await.map_err(|e| step_error(&e))?;
            if !aside.is_empty() {
                let names: Vec<&str> = aside.iter().map(|i| i.name.as_str()).collect();
                tracing::info!(table = %table.id, indexes = ?names, "set aside until the rows are in");
            }
        }
        tell(ctx, &of, Some((step, attempt)), MoverOrder::Start).await?;
    }
    Ok(())
}

/// Waits until every table of every mover is in step with its source, and gives each what a table gets after its rows.
pub async fn loaded(ctx: &Arc<WorkerContext>, cancel: &CancellationToken) -> Result<Vec<Evidence>, StepError> {
    let mut found = Vec::new();
    for of in ctx.plan.movers() {
        let began = ctx.mono();
        in_step(ctx, &of, cancel).await?;
        for table in in_order(&of.tables) {
            found.push(finished(ctx, &of, table, began, cancel).await?);
        }
    }
    Ok(found)
}

/// How far the tables had come at most, and how many attempts had failed by then. A copy that fails and begins anew comes no
/// further than it was.
#[derive(Default)]
struct Seen {
    furthest: Option<(usize, usize, u64)>,
    errors: u64,
}

impl Seen {
    /// Takes in a look; gives how many attempts have failed since the tables came further than ever before.
    fn failed(&mut self, look: &MoverLook) -> u64 {
        let in_step = look.tables.values().filter(|t| **t == TableState::Following).count();
        let catching_up = look.tables.values().filter(|t| **t == TableState::CatchingUp).count();
        let rows = look.tables.values().map(|t| match t {
            TableState::Copying { rows, .. } => rows.unwrap_or(0),
            TableState::Waiting | TableState::CatchingUp | TableState::Following | TableState::Unknown(_) => 0,
        });
        let now = Some((in_step, in_step + catching_up, rows.sum()));
        if now > self.furthest {
            *self = Self { furthest: now, errors: look.errors };
        }
        look.errors.saturating_sub(self.errors)
    }
}

async fn in_step(ctx: &Arc<WorkerContext>, of: &MoverOf, cancel: &CancellationToken) -> Result<(), StepError> {
    let mut seen = Seen::default();
    loop {
        if *ctx.limits.paused.borrow() {
            tell(ctx, of, None, MoverOrder::Pause).await?;
            tokio::select! {
                () = cancel.cancelled() => return Err(cancelled()),
                () = ctx.unpaused() => {}
            }
            tell(ctx, of, None, MoverOrder::Start).await?;
        }
        match port(ctx, of).look(&of.tables).await {
            Ok(look) => {
                if let Some(lost) = &look.lost {
                    return Err(world(lost, "continuity is lost; open a new run, which loads again"));
                }
                if look.state == MoverState::Absent {
                    let gone = not_at_work(of, look.state).unwrap_or_default();
                    return Err(world(gone, "continuity is lost; open a new run, which loads again"));
                }
                let errors = seen.failed(&look);
                let said = (errors > 0).then(|| failed(of, errors));
                let said = said.or_else(|| look.trouble.clone()).or_else(|| not_at_work(of, look.state));
                show(ctx, of, &look, said.as_deref());
                if look.follows_all() {
                    return Ok(());
                }
                if errors >= ATTEMPTS {
                    return Err(world(
                        failed(of, errors),
                        "mend what the log names (a column, a constraint, a row that is there already), then start the step \
                         again",
                    ));
                }
            }
            Err(e) if e.kind.transient() => trouble(ctx, of, &e.to_string()),
            Err(e) => return Err(step_error(&e)),
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(cancelled()),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Shows how far each table has come.
fn show(ctx: &Arc<WorkerContext>, of: &MoverOf, look: &MoverLook, trouble: Option<&str>) {
    for table in &of.tables {
        let state = look.tables.get(&table.id);
        ctx.latest.table(&table.id, |g| {
            let (phase, done) = match state {
                Some(TableState::Waiting) | None => (Phase::Waiting, 0),
                Some(TableState::Copying { .. } | TableState::Unknown(_)) => (Phase::Loading, 0),
                Some(TableState::CatchingUp) => (Phase::Loading, 1),
                Some(TableState::Following) => (Phase::Loaded, 1),
            };
            g.phase = if trouble.is_some() && done == 0 { Phase::Retrying } else { phase };
            g.trouble = trouble.map(str::to_owned);
            g.segments = (done, 1);
            g.reading = u32::from(matches!(state, Some(TableState::Copying { .. })));
            if let Some(TableState::Copying { rows: Some(rows), .. }) = state
                && *rows != g.loaded
            {
                g.loaded = *rows;
                g.moved_at = ctx.wall();
            }
        });
    }
}

fn trouble(ctx: &Arc<WorkerContext>, of: &MoverOf, said: &str) {
    for table in &of.tables {
        ctx.latest.table(&table.id, |g| {
            g.phase = Phase::Retrying;
            g.trouble = Some(said.to_owned());
            g.retries += 1;
        });
    }
}

/// What follows a table's rows: its indexes, what the plan gives it, statistics; then it is written down as loaded.
async fn finished(
    ctx: &Arc<WorkerContext>,
    of: &MoverOf,
    table: &Table,
    began: i64,
    cancel: &CancellationToken,
) -> Result<Evidence, StepError> {
    let target = &ctx.ports.target;
    let whole = Checkpoint::are_whole(&target.checkpoints(table).await.map_err(|e| step_error(&e))?);
    let aside = target.set_aside(table).await.map_err(|e| step_error(&e))?.len();
    let doing = match aside {
        0 => "takes statistics".to_owned(),
        n => format!("builds {n} indexes, takes statistics"),
    };
    let doing = Doing::start(ctx, table, doing);
    tokio::select! {
        () = cancel.cancelled() => return Err(cancelled()),
        done = target.finish_load(table) => done.map_err(|e| step_error(&e))?,
    }
    let rows = target.count(table, true).await.map_err(|e| step_error(&e))?.rows.unwrap_or(0);
    drop(doing);
    if !whole {
        // The mover keeps its own progress; what is stored here is only that the load ended.
        let part = Partition { index: 0, of: 1 };
        let end = Checkpoint { part, cursor: None, rows, parked: 0, done: true };
        let mut bulk = target.bulk(table, part).await.map_err(|e| step_error(&e))?;
        bulk.flush(Vec::new(), &end).await.map_err(|e| step_error(&e))?;
    }
    ctx.latest.table(&table.id, |g| {
        g.phase = Phase::Loaded;
        g.loaded = rows;
        g.rate = 0.0;
        g.reading = 0;
        g.trouble = None;
        g.segments = (1, 1);
    });
    let took_ms = ctx.mono() - began;
    let fact = Event::TableLoaded { table: table.id.clone(), rows, parked: BTreeMap::new(), took_ms };
    ctx.facts.state(fact).await.map_err(|e| not_recorded(&e))?;
    let built = if aside == 0 { String::new() } else { format!(", {aside} indexes built after") };
    Ok(evidence(
        format!("loaded {}", table.id),
        format!("{rows} rows counted in the target, copied by {}{built}", of.name()),
        ctx.wall(),
        "pg_subscription_rel",
    ))
}
