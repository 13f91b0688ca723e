//! Arming the rollback: captured values are read, and every right that is needed from here on is exercised, before
//! anything is changed.

use std::sync::Arc;

use super::context::{CapturedValue, WorkerContext};
use super::switch::{another_type, exposed, nearly_full};
use super::trouble::{evidence, not_recorded, step_error, world};
use super::{exercise, sequences, source_columns};
use crate::domain::plan::{Plan, Step, Switch};
use crate::domain::run::{Attributes, Event, Evidence, StepError};
use crate::ports::{SequenceScan, SwitchValue};

/// Captures every switch, checks that the expected values stand there, makes sure that every new value can be read, and
/// exercises each right.
pub async fn perform(ctx: &Arc<WorkerContext>, step: &Step, attempt: u32) -> Result<Vec<Evidence>, StepError> {
    source_columns::still_fit(ctx).await?;
    super::appeared::none(&ctx.plan, &ctx.ports).await?;
    super::definitions::still_fit(ctx).await?;
    let reads = ctx.plan.switches.iter().map(|switch| async move {
        let reading = ctx.ports.switches.read(switch).await.map_err(|e| step_error(&e))?;
        let kept = ctx.ports.switches.attributes(switch, reading.version).await.map_err(|e| step_error(&e))?;
        let values = ctx.plan.values_of(switch);
        let values = values.into_iter().map(|value| ctx.ports.switches.resolve(value, &switch.control));
        let values = futures::future::try_join_all(values).await.map_err(|e| step_error(&e))?;
        let left = ctx.ports.switches.writes_left(switch).await.map_err(|e| step_error(&e))?;
        let wrong = problem(&ctx.plan, switch, &reading, &values).or_else(|| nearly_full(&ctx.plan, switch, left));
        Ok::<_, StepError>((switch, reading, kept, wrong))
    });
    let all = futures::future::try_join_all(reads).await?;
    let problems: Vec<&str> = all.iter().filter_map(|(_, _, _, wrong)| wrong.as_deref()).collect();
    if !problems.is_empty() {
        return Err(world(problems.join("; "), "see who changed it; the plan was made for another state of the world"));
    }
    let mut found = Vec::new();
    for (switch, reading, attributes, _) in all {
        let kept = CapturedValue { value: reading.value.clone(), attributes: attributes.clone() };
        ctx.captured.keep(&switch.id, kept.clone());
        captured(ctx, switch, &reading, &attributes).await?;
        let exercised = exercise::switch(ctx, step, attempt, switch, &kept, &reading).await?;
        // The version that was written over may be gone from the history before a rollback asks for it.
        let reading = match exercised.now {
            Some(now) => {
                captured(ctx, switch, &now, &attributes).await?;
                now
            }
            None => reading,
        };
        let value = shown_value(switch, &reading);
        let mut shown = match (&value, reading.version) {
            (Some(value), Some(version)) => format!("{value} (version {version})"),
            (Some(value), None) => value.clone(),
            (None, Some(version)) => format!("*** (version {version})"),
            (None, None) => "***".to_owned(),
        };
        if !attributes.is_empty() {
            shown.push_str(&format!(", {}", attributes.words()));
        }
        found.push(evidence(format!("captured {}", switch.id), shown, ctx.wall(), switch.place()));
        found.push(exercised.evidence);
    }
    for table in &ctx.plan.tables {
        found.extend(exercise::markers(ctx, step, attempt, table).await?);
    }
    // First what is cheapest to correct: nothing is captured yet.
    found.extend(sequences::advance(ctx, step, attempt, SequenceScan::Whole).await?);
    found.extend(super::references::prove(ctx, false).await?);
    found.extend(super::references::fill(ctx).await?);
    found.extend(super::reverse::arm(ctx).await?);
    super::watch::read_rollback(ctx).await;
    Ok(found)
}

/// The value, where it may be shown.
fn shown_value(switch: &Switch, now: &SwitchValue) -> Option<String> {
    (!switch.secret() && !now.secret).then(|| now.value.reveal().to_owned())
}

/// Keeps on record what stands at a place.
async fn captured(
    ctx: &Arc<WorkerContext>,
    switch: &Switch,
    now: &SwitchValue,
    attributes: &Attributes,
) -> Result<(), StepError> {
    let captured = Event::Captured {
        switch: switch.id.clone(),
        version: now.version,
        value: shown_value(switch, now),
        attributes: attributes.clone(),
    };
    ctx.facts.state(captured).await.map_err(|e| not_recorded(&e))
}

/// What is wrong with a place before anything is changed: `values` are all that it may be set to. Never says a value that is
/// secret by the plan or the store.
fn problem(plan: &Plan, switch: &Switch, now: &SwitchValue, values: &[SwitchValue]) -> Option<String> {
    let place = switch.place();
    let exposed = || values.iter().find_map(|value| exposed(switch, value));
    if let Some(wrong) = another_type(switch, now).or_else(exposed) {
        return Some(wrong);
    }
    let stands = if switch.secret() || now.secret { "another value" } else { now.value.reveal() };
    if let Some(dial) = plan.dial_of(&switch.id) {
        let [first, others @ ..] = values else { return None };
        if now.value == first.value {
            return None;
        }
        let name = |at: usize| dial.positions.get(at).map_or("?", |position| position.name.as_str());
        // A value may be that of several positions.
        let stands_in: Vec<&str> = others
            .iter()
            .enumerate()
            .filter(|(_, other)| other.value == now.value)
            .map(|(at, _)| name(at + 1))
            .collect();
        return Some(if stands_in.is_empty() {
            format!("{place} holds {stands}, which is not position {} of `{}`, where the plan begins", name(0), dial.id)
        } else {
            let stands_in = stands_in.join(" or ");
            format!("{place} stands in position {stands_in} of `{}`, the plan begins in {}", dial.id, name(0))
        });
    }
    let [to] = values else { return None };
    match switch.expect.as_deref() {
        Some(wanted) if wanted != now.value.reveal() => {
            Some(format!("{place} holds {stands}, the plan expects {wanted}"))
        }
        _ if to.value == now.value => Some(format!("{place} holds the new value already")),
        _ => None,
    }
}
