//! Freezing and thawing writes, in one place or in several, each proven by the write probes (FEATURES C5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{join_all, try_join_all};

use super::context::{AtThaw, CapturedValue, WorkerContext};
use super::switch::{READ_BACKS, Set, new_value, new_values, set_all};
use super::trouble::{evidence, not_recorded, step_error, too_late, world};
use super::{expiry, movers, source_columns};
use crate::domain::plan::{Freeze, Probe, Step, Switch};
use crate::domain::run::{Event, Evidence, RunState, StepError};
use crate::ports::ProbeOutcome;

/// Pause between two checks while customers are kept out.
const POLL: Duration = Duration::from_millis(50);

struct Parts<'c> {
    freeze: &'c Freeze,
    switches: Vec<&'c Switch>,
    probes: Vec<&'c Probe>,
}

fn parts(ctx: &WorkerContext) -> Result<Parts<'_>, StepError> {
    let missing = || world("the plan has no complete [freeze]", "name its switches and its probes");
    let freeze = ctx.plan.freeze.as_ref().ok_or_else(missing)?;
    let (switches, probes): (Vec<_>, Vec<_>) =
        (ctx.plan.freeze_switches().collect(), ctx.plan.freeze_probes().collect());
    let complete = switches.len() == freeze.switches.len() && probes.len() == freeze.probes.len();
    if !complete || switches.is_empty() || probes.is_empty() {
        return Err(missing());
    }
    Ok(Parts { freeze, switches, probes })
}

/// What each write probe is answered, and since when without a break, on the monotonic clock.
struct Refusals {
    /// When the first and the last request of an unbroken row of refusals were sent, by probe.
    rows: Vec<Option<(i64, i64)>>,
    /// Whether it is on record that customers are refused.
    known: bool,
}

impl Refusals {
    fn new(probes: usize, known: bool) -> Self {
        Self { rows: vec![None; probes], known }
    }

    /// Sends each probe once, at the same time. The first refusal of any begins the downtime.
    async fn ask(&mut self, ctx: &WorkerContext, probes: &[&Probe]) -> Result<(), StepError> {
        let each = probes.iter().map(|probe| async { (ctx.mono(), ctx.ports.probes.probe(probe).await.outcome) });
        let answers = join_all(each).await;
        for (row, (sent, outcome)) in self.rows.iter_mut().zip(&answers) {
            *row = match outcome {
                ProbeOutcome::Refused => Some((row.map_or(*sent, |(first, _)| first), *sent)),
                // No answer proves nothing: behind it, writes may have been served.
                ProbeOutcome::Served | ProbeOutcome::Failed(_) => None,
            };
        }
        let first =
            answers.iter().filter(|(_, outcome)| *outcome == ProbeOutcome::Refused).map(|(sent, _)| *sent).min();
        if let (Some(first), false) = (first, self.known) {
            self.known = true;
            ctx.customers.refused_since(first);
            let refused = Event::WritesRefused { at: ctx.wall() };
            ctx.facts.state(refused).await.map_err(|e| not_recorded(&e))?;
        }
        Ok(())
    }

    /// For how long every probe has been refused without a break since `set`; nothing while one is not.
    fn unbroken(&self, set: i64) -> Option<i64> {
        let rows: Option<Vec<(i64, i64)>> = self.rows.iter().copied().collect();
        let rows = rows?;
        let first = rows.iter().map(|(first, _)| *first).max()?.max(set);
        Some(rows.iter().map(|(_, last)| *last).min()? - first)
    }
}

/// Sets every switch of the freeze and waits until every write probe has been refused without a break since.
pub async fn freeze(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    state: &RunState,
) -> Result<Vec<Evidence>, StepError> {
    let Parts { freeze, switches, probes } = parts(ctx)?;
    // Before customers are kept out for a switch that could not follow.
    if state.downtime.refused.is_none() {
        source_columns::still_fit(ctx).await?;
    }
    // Nobody is locked out for a switch that would leave a table behind.
    super::appeared::none(&ctx.plan, &ctx.ports).await?;
    // Nor in one place for a value that another cannot be given.
    let changes = new_values(ctx, switches).await?;
    let mut refusals = Refusals::new(probes.len(), state.downtime.refused.is_some());
    let mut found = set_and_ask(ctx, (step, attempt), state, changes, (&mut refusals, &probes)).await?;
    let set = ctx.mono();
    let timeout = i64::try_from(freeze.timeout_ms).unwrap_or(i64::MAX);
    let settle = i64::try_from(freeze.settle_ms).unwrap_or(i64::MAX);
    loop {
        refusals.ask(ctx, &probes).await?;
        let unbroken = refusals.unbroken(set);
        if let Some(lasted) = unbroken.filter(|lasted| *lasted >= settle) {
            let value = format!("refused for {lasted}ms without a break");
            found.extend(probes.iter().map(|probe| evidence("write probe", value.clone(), ctx.wall(), probe.place())));
            return Ok(found);
        }
        let patience = if unbroken.is_some() { timeout.saturating_add(settle) } else { timeout };
        if ctx.mono() - set > patience {
            let served =
                probes.iter().zip(&refusals.rows).filter(|(_, row)| row.is_none()).map(|(probe, _)| probe.place());
            let served: Vec<String> = served.collect();
            let what = if served.is_empty() || probes.len() == 1 { "writes".to_owned() } else { served.join(", ") };
            let are = if served.len() == 1 && probes.len() > 1 { "is" } else { "are" };
            return Err(too_late(
                format!("{what} {are} not refused without a break {patience} ms after the freeze was set"),
                "see whether the application reads the freeze parameter and how often",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Sets the switches, and asks the probes meanwhile where there are several: customers of one place are kept out while
/// another is still being set.
async fn set_and_ask(
    ctx: &Arc<WorkerContext>,
    at: (&Step, u32),
    state: &RunState,
    changes: Vec<Set<'_>>,
    (refusals, probes): (&mut Refusals, &[&Probe]),
) -> Result<Vec<Evidence>, StepError> {
    let (several, all_set) = (changes.len() > 1, AtomicBool::new(false));
    let setting = async {
        let done = set_all(ctx, at, state, changes).await;
        all_set.store(true, Ordering::Release);
        done
    };
    let asking = async {
        while several && !all_set.load(Ordering::Acquire) {
            refusals.ask(ctx, probes).await?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    let (set, asked) = tokio::join!(setting, asking);
    asked.and(set)
}

/// Sees that the freeze still stands: its switches hold the new values, in the versions that the freeze wrote, and write
/// probes that are sent now are refused. Somebody may have let customers write again since it was proven, perhaps while no
/// console ran, and may have locked them out again.
///
/// # Errors
/// It does not stand, or nobody can say.
pub(super) async fn still_frozen(ctx: &Arc<WorkerContext>, state: &RunState) -> Result<Vec<Evidence>, StepError> {
    let Parts { freeze, switches, probes } = parts(ctx)?;
    let until = ctx.mono().saturating_add(i64::try_from(freeze.timeout_ms).unwrap_or(i64::MAX));
    // Every place before any probe: a write that one of them let through would be seen by no earlier one.
    let all_set = || try_join_all(switches.iter().map(|switch| still_set(ctx, state, switch, until)));
    all_set().await?;
    let found = try_join_all(probes.iter().map(|probe| still_refused(ctx, probe, until))).await?;
    if switches.len() > 1 {
        // One may have been waited for, and another opened and frozen again meanwhile.
        all_set().await?;
    }
    Ok(found)
}

const NOT_FROZEN: &str =
    "see who lets customers write; what they wrote since is not drained: roll back, then freeze again";

async fn still_set(ctx: &WorkerContext, state: &RunState, switch: &Switch, until: i64) -> Result<(), StepError> {
    let value = new_value(ctx, switch).await?;
    let written = state.switches.get(&switch.id).and_then(|s| s.version);
    let mut otherwise = 0;
    loop {
        match ctx.ports.switches.read(switch).await {
            Ok(now) if now.value == value => {
                if now.version.zip(written).is_none_or(|(now, written)| now <= written) {
                    return Ok(());
                }
                let again = format!("{} was set again since the freeze: customers may have written", switch.place());
                return Err(world(again, NOT_FROZEN));
            }
            // The store may answer from an older copy.
            Ok(_) if otherwise < READ_BACKS => {
                otherwise += 1;
                tokio::time::sleep(POLL).await;
            }
            Ok(_) => return Err(world(format!("{} does not hold the freeze any more", switch.place()), NOT_FROZEN)),
            Err(e) if e.kind.transient() && ctx.mono() <= until => tokio::time::sleep(POLL).await,
            Err(e) => return Err(step_error(&e)),
        }
    }
}

async fn still_refused(ctx: &WorkerContext, probe: &Probe, until: i64) -> Result<Evidence, StepError> {
    loop {
        let result = ctx.ports.probes.probe(probe).await;
        match result.outcome {
            ProbeOutcome::Refused => {
                return Ok(evidence("still frozen", "switch and write probe", ctx.wall(), probe.place()));
            }
            ProbeOutcome::Served => {
                return Err(world(format!("{} is served in the freeze", probe.place()), NOT_FROZEN));
            }
            ProbeOutcome::Failed(why) if ctx.mono() > until => {
                return Err(too_late(format!("whether writes are still refused is not known: {why}"), NOT_FROZEN));
            }
            ProbeOutcome::Failed(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Lifts the freeze in every place and waits until every write probe is served. The downtime clock stops there.
pub async fn thaw(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    state: &RunState,
) -> Result<Vec<Evidence>, StepError> {
    let Parts { freeze, switches, probes } = parts(ctx)?;
    let mut changes = Vec::new();
    for switch in switches {
        let Some(CapturedValue { value, .. }) = ctx.captured.get(&switch.id) else {
            return Err(world(
                format!("the value of {} from before the freeze is not known here", switch.place()),
                "set it by hand so that writes are allowed, then try again",
            ));
        };
        let version = state.switches.get(&switch.id).and_then(|s| s.captured_version);
        changes.push(Set::back(switch, value, version));
    }
    // Nothing of the old side is written by anybody from here on.
    let mut found = movers::stopped(ctx, step, attempt).await?;
    // From here on, row changes in the target are customers' writes.
    if ctx.customers.at_thaw().is_none()
        && let Ok(writes) = ctx.ports.target.writes(&ctx.plan.tables).await
    {
        ctx.customers.thaw_at(AtThaw { writes, own: super::watch::own_changes(ctx) });
    }
    // Durable in the target: what customers write from here on is nowhere else, and no later run may empty it.
    // Since the step began changes of the old side are only watched: a late one must not touch what customers write.
    super::capture::open_to_customers(ctx).await.map_err(|e| step_error(&e))?;
    ctx.ensure_reverse();
    found.extend(set_all(ctx, (step, attempt), state, changes).await?);
    let began = ctx.mono();
    let timeout = i64::try_from(freeze.timeout_ms).unwrap_or(i64::MAX);
    let mut refused = probes.clone();
    loop {
        let mut answers = join_all(refused.iter().map(|probe| ctx.ports.probes.probe(probe))).await.into_iter();
        let last = answers.as_slice().iter().map(|answer| answer.outcome.clone()).find(|o| *o != ProbeOutcome::Served);
        refused.retain(|_| answers.next().is_none_or(|answer| answer.outcome != ProbeOutcome::Served));
        let Some(outcome) = last else { break };
        if ctx.mono() - began > timeout {
            let what = match refused.as_slice() {
                [one] if probes.len() > 1 => format!("{} is", one.place()),
                _ => "writes are".to_owned(),
            };
            return Err(too_late(
                format!("{what} not accepted {timeout} ms after the thaw: {outcome:?}"),
                "look at the new side; customers cannot write: roll back if it does not mend at once",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
    // Across a restart only the wall clock knows, and the fold works it out from there.
    let refused = ctx.customers.refused_mono().filter(|_| state.resumes == 0);
    let downtime_ms = refused.map(|refused| ctx.mono() - refused);
    ctx.customers.accepted();
    let accepted = Event::WritesAccepted { at: ctx.wall(), downtime_ms };
    ctx.facts.state(accepted).await.map_err(|e| not_recorded(&e))?;
    let value = downtime_ms.map_or_else(|| "accepted".to_owned(), |ms| format!("accepted, interrupted for {ms}ms"));
    found.extend(probes.iter().map(|probe| evidence("write probe", value.clone(), ctx.wall(), probe.place())));
    // Nobody waits for it any more.
    found.extend(expiry::turn_on(ctx, step, attempt).await?);
    found.extend(movers::gone(ctx, step, attempt).await?);
    Ok(found)
}
