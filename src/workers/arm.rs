//! Arming the way back: previous values are captured before anything is changed.

use std::sync::Arc;

use super::crew::Crew;
use super::sequences;
use super::trouble::{evidence, not_recorded, step_error, world};
use crate::domain::plan::Step;
use crate::domain::run::{Event, Evidence, StepError};
use crate::ports::SequenceLook;

/// Captures every switch, checks what must stand there, and makes sure that every new value can be had.
pub async fn perform(crew: &Arc<Crew>, step: &Step, attempt: u32) -> Result<Vec<Evidence>, StepError> {
    let reads = crew.plan.switches.iter().map(|switch| async move {
        let reading = crew.ports.switches.read(switch).await.map_err(|e| step_error(&e))?;
        let value = crew.ports.switches.resolve(&switch.to).await.map_err(|e| step_error(&e))?;
        Ok::<_, StepError>((switch, reading, value))
    });
    let all = futures::future::try_join_all(reads).await?;
    let mut problems = Vec::new();
    for (switch, reading, to) in &all {
        let stands = if switch.secret() { "another value" } else { reading.value.reveal() };
        if switch.expect.as_deref().is_some_and(|wanted| wanted != reading.value.reveal()) {
            let wanted = switch.expect.as_deref().unwrap_or_default();
            problems.push(format!("{} holds {stands}, the plan expects {wanted}", switch.place()));
        } else if *to == reading.value {
            problems.push(format!("{} holds the new value already", switch.place()));
        }
    }
    if !problems.is_empty() {
        return Err(world(problems.join("; "), "see who changed it; the plan was made for another state of the world"));
    }
    let mut found = Vec::new();
    for (switch, reading, _) in all {
        crew.captured.keep(&switch.id, reading.value.clone());
        let value = (!switch.secret()).then(|| reading.value.reveal().to_owned());
        let shown = match (&value, reading.version) {
            (Some(value), Some(version)) => format!("{value} (version {version})"),
            (Some(value), None) => value.clone(),
            (None, Some(version)) => format!("*** (version {version})"),
            (None, None) => "***".to_owned(),
        };
        let captured = Event::Captured { switch: switch.id.clone(), version: reading.version, value };
        crew.facts.state(captured).await.map_err(|e| not_recorded(&e))?;
        found.push(evidence(format!("captured {}", switch.id), shown, crew.wall(), switch.place()));
    }
    // First the cheapest to mend: nothing is captured yet.
    found.extend(sequences::advance(crew, step, attempt, SequenceLook::Whole).await?);
    found.extend(super::reverse::arm(crew).await?);
    super::watch::read_way_back(crew).await;
    Ok(found)
}
