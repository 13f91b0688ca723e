//! Freezing and thawing writes, each proven by the write probe (FEATURES C5).

use std::sync::Arc;
use std::time::Duration;

use super::context::{AtThaw, CapturedValue, WorkerContext};
use super::switch::{READ_BACKS, known, new_value, set};
use super::trouble::{evidence, not_recorded, step_error, too_late, world};
use super::{expiry, movers, source_columns};
use crate::domain::plan::{Freeze, Probe, Step, Switch};
use crate::domain::run::{Action, Event, Evidence, RunState, StepError};
use crate::ports::ProbeOutcome;

/// Pause between two checks while customers are kept out.
const POLL: Duration = Duration::from_millis(50);

struct Parts<'c> {
    freeze: &'c Freeze,
    switch: &'c Switch,
    probe: &'c Probe,
}

fn parts(ctx: &WorkerContext) -> Result<Parts<'_>, StepError> {
    let missing = || world("the plan has no complete [freeze]", "name its switch and its probe");
    let freeze = ctx.plan.freeze.as_ref().ok_or_else(missing)?;
    let switch = ctx.plan.switch(&freeze.switch).ok_or_else(missing)?;
    let probe = ctx.plan.probe(&freeze.probe).ok_or_else(missing)?;
    Ok(Parts { freeze, switch, probe })
}

/// Sets the freeze parameter and waits until the write probe has been refused without a break.
pub async fn freeze(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    state: &RunState,
) -> Result<Vec<Evidence>, StepError> {
    let Parts { freeze, switch, probe } = parts(ctx)?;
    // Before customers are kept out for a switch that could not follow.
    if state.downtime.refused.is_none() {
        source_columns::still_fit(ctx).await?;
    }
    // Nobody is locked out for a switch that would leave a table behind.
    super::appeared::none(&ctx.plan, &ctx.ports).await?;
    let value = new_value(ctx, switch).await?;
    let action = Action::SetSwitch { switch: switch.id.clone(), to: switch.to_label() };
    let read_back = set(ctx, (step, attempt), (switch, known(state, switch)), &value, action).await?;
    let began = ctx.mono();
    let timeout = i64::try_from(freeze.timeout_ms).unwrap_or(i64::MAX);
    let settle = i64::try_from(freeze.settle_ms).unwrap_or(i64::MAX);
    let mut refused_since = None;
    let mut known = state.downtime.refused.is_some();
    loop {
        let sent = ctx.mono();
        let result = ctx.ports.probes.probe(probe).await;
        match result.outcome {
            ProbeOutcome::Refused => {
                let since = *refused_since.get_or_insert(sent);
                if !known {
                    known = true;
                    ctx.customers.refused_since(sent);
                    let refused = Event::WritesRefused { at: ctx.wall() };
                    ctx.facts.state(refused).await.map_err(|e| not_recorded(&e))?;
                }
                if sent - since >= settle {
                    let value = format!("refused for {}ms without a break", sent - since);
                    return Ok(vec![read_back, evidence("write probe", value, ctx.wall(), probe.place())]);
                }
            }
            // No answer proves nothing: behind it, writes may have been served.
            ProbeOutcome::Served | ProbeOutcome::Failed(_) => refused_since = None,
        }
        let patience = if refused_since.is_some() { timeout.saturating_add(settle) } else { timeout };
        if ctx.mono() - began > patience {
            return Err(too_late(
                format!("writes are not refused without a break {patience} ms after the freeze was set"),
                "see whether the application reads the freeze parameter and how often",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Sees that the freeze still stands: its switch holds the new value, in the version that the freeze wrote, and a write
/// probe that is sent now is refused. Somebody may have let customers write again since it was proven, perhaps while no
/// console ran, and may have locked them out again.
///
/// # Errors
/// It does not stand, or nobody can say.
pub(super) async fn still_frozen(ctx: &Arc<WorkerContext>, state: &RunState) -> Result<Evidence, StepError> {
    let Parts { freeze, switch, probe } = parts(ctx)?;
    let advice = "see who lets customers write; what they wrote since is not drained: roll back, then freeze again";
    let value = new_value(ctx, switch).await?;
    let timeout = i64::try_from(freeze.timeout_ms).unwrap_or(i64::MAX);
    let began = ctx.mono();
    let written = state.switches.get(&switch.id).and_then(|s| s.version);
    let mut otherwise = 0;
    loop {
        match ctx.ports.switches.read(switch).await {
            Ok(now) if now.value == value => {
                if now.version.zip(written).is_none_or(|(now, written)| now <= written) {
                    break;
                }
                let again = format!("{} was set again since the freeze: customers may have written", switch.place());
                return Err(world(again, advice));
            }
            // The store may answer from an older copy.
            Ok(_) if otherwise < READ_BACKS => {
                otherwise += 1;
                tokio::time::sleep(POLL).await;
            }
            Ok(_) => return Err(world(format!("{} does not hold the freeze any more", switch.place()), advice)),
            Err(e) if e.kind.transient() && ctx.mono() - began <= timeout => tokio::time::sleep(POLL).await,
            Err(e) => return Err(step_error(&e)),
        }
    }
    loop {
        let result = ctx.ports.probes.probe(probe).await;
        match result.outcome {
            ProbeOutcome::Refused => {
                return Ok(evidence("still frozen", "switch and write probe", ctx.wall(), probe.place()));
            }
            ProbeOutcome::Served => return Err(world(format!("{} is served in the freeze", probe.place()), advice)),
            ProbeOutcome::Failed(why) if ctx.mono() - began > timeout => {
                return Err(too_late(format!("whether writes are still refused is not known: {why}"), advice));
            }
            ProbeOutcome::Failed(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Lifts the freeze and waits until the write probe is served. The downtime clock stops there.
pub async fn thaw(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    state: &RunState,
) -> Result<Vec<Evidence>, StepError> {
    let Parts { freeze, switch, probe } = parts(ctx)?;
    let Some(CapturedValue { value, .. }) = ctx.captured.get(&switch.id) else {
        return Err(world(
            format!("the value of {} from before the freeze is not known here", switch.place()),
            "set it by hand so that writes are allowed, then try again",
        ));
    };
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
    let version = state.switches.get(&switch.id).and_then(|s| s.captured_version);
    let action = Action::RestoreSwitch { switch: switch.id.clone(), version };
    let read_back = set(ctx, (step, attempt), (switch, known(state, switch)), &value, action).await?;
    let began = ctx.mono();
    let timeout = i64::try_from(freeze.timeout_ms).unwrap_or(i64::MAX);
    loop {
        let result = ctx.ports.probes.probe(probe).await;
        if result.outcome == ProbeOutcome::Served {
            break;
        }
        if ctx.mono() - began > timeout {
            return Err(too_late(
                format!("writes are not accepted {timeout} ms after the thaw: {:?}", result.outcome),
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
    found.extend([read_back, evidence("write probe", value, ctx.wall(), probe.place())]);
    // Nobody waits for it any more.
    found.extend(expiry::turn_on(ctx, step, attempt).await?);
    found.extend(movers::gone(ctx, step, attempt).await?);
    Ok(found)
}
