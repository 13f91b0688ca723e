//! Arming the way back: previous values are captured before anything is changed.

use std::sync::Arc;

use super::crew::{CapturedValue, Crew};
use super::sequences;
use super::switch::{another_type, exposed};
use super::trouble::{evidence, not_recorded, step_error, world};
use crate::domain::plan::{Step, Switch};
use crate::domain::run::{Event, Evidence, StepError};
use crate::ports::{Reading, SequenceLook};

/// Captures every switch, checks what must stand there, and makes sure that every new value can be had.
pub async fn perform(crew: &Arc<Crew>, step: &Step, attempt: u32) -> Result<Vec<Evidence>, StepError> {
    let reads = crew.plan.switches.iter().map(|switch| async move {
        let reading = crew.ports.switches.read(switch).await.map_err(|e| step_error(&e))?;
        let kept = crew.ports.switches.attributes(switch, reading.version).await.map_err(|e| step_error(&e))?;
        let value = crew.ports.switches.resolve(&switch.to).await.map_err(|e| step_error(&e))?;
        Ok::<_, StepError>((switch, reading, kept, value))
    });
    let all = futures::future::try_join_all(reads).await?;
    let problems: Vec<String> = all.iter().filter_map(|(s, now, _, to)| problem(s, now, to)).collect();
    if !problems.is_empty() {
        return Err(world(problems.join("; "), "see who changed it; the plan was made for another state of the world"));
    }
    let mut found = Vec::new();
    for (switch, reading, attributes, _) in all {
        crew.captured.keep(&switch.id, CapturedValue { value: reading.value.clone(), attributes: attributes.clone() });
        let value = (!switch.secret() && !reading.secret).then(|| reading.value.reveal().to_owned());
        let mut shown = match (&value, reading.version) {
            (Some(value), Some(version)) => format!("{value} (version {version})"),
            (Some(value), None) => value.clone(),
            (None, Some(version)) => format!("*** (version {version})"),
            (None, None) => "***".to_owned(),
        };
        if !attributes.is_empty() {
            shown.push_str(&format!(", {}", attributes.words()));
        }
        let captured = Event::Captured { switch: switch.id.clone(), version: reading.version, value, attributes };
        crew.facts.state(captured).await.map_err(|e| not_recorded(&e))?;
        found.push(evidence(format!("captured {}", switch.id), shown, crew.wall(), switch.place()));
    }
    // First the cheapest to mend: nothing is captured yet.
    found.extend(sequences::advance(crew, step, attempt, SequenceLook::Whole).await?);
    found.extend(super::reverse::arm(crew).await?);
    super::watch::read_way_back(crew).await;
    Ok(found)
}

/// What is wrong with a place before anything is changed. Never says a value that is secret by the plan or the store.
fn problem(switch: &Switch, now: &Reading, to: &Reading) -> Option<String> {
    let place = switch.place();
    if let Some(wrong) = another_type(switch, now).or_else(|| exposed(switch, to)) {
        return Some(wrong);
    }
    let stands = if switch.secret() || now.secret { "another value" } else { now.value.reveal() };
    match switch.expect.as_deref() {
        Some(wanted) if wanted != now.value.reveal() => {
            Some(format!("{place} holds {stands}, the plan expects {wanted}"))
        }
        _ if to.value == now.value => Some(format!("{place} holds the new value already")),
        _ => None,
    }
}
