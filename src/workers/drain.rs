//! The drain proof: everything written before the freeze has arrived.
//!
//! A fresh nonce goes through the fenced path and is read back from the target, and two whole sweeps that began
//! after it, over a shard list that was made after it, found nothing more. A follower that is paused, stalled,
//! throttled or cut off makes no sweeps, so it cannot look drained.

use std::sync::Arc;
use std::time::Duration;

use super::crew::Crew;
use super::parked;
use super::trouble::{evidence, not_recorded, step_error, too_late};
use crate::domain::gauge::Phase;
use crate::domain::plan::{Step, Table};
use crate::domain::run::{Action, Event, Evidence, OutcomeResult, StepError};

/// How long a drain may take before customers are let back in on the old side.
const PATIENCE_MS: i64 = 60_000;

/// Proves the drain of every table at the same time.
pub async fn perform(crew: &Arc<Crew>, step: &Step, attempt: u32) -> Result<Vec<Evidence>, StepError> {
    crew.ensure_following();
    let proofs = crew.plan.tables.iter().map(|table| one(crew, step, attempt, table));
    let found = futures::future::try_join_all(proofs).await?;
    Ok(found.into_iter().flatten().collect())
}

async fn one(crew: &Arc<Crew>, step: &Step, attempt: u32, table: &Table) -> Result<Vec<Evidence>, StepError> {
    let nonce = uuid::Uuid::new_v4().to_string();
    let id = format!("{}/{}/{attempt}", step.id, table.id);
    let action = Action::WriteMarker { table: table.id.clone(), nonce: nonce.clone() };
    let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
    crew.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
    let began = crew.mono();
    let proof = async {
        crew.ports.source.put_marker(table, &nonce).await.map_err(|e| step_error(&e))?;
        let written = crew.mono();
        while crew.ports.target.marker(table, &nonce).await.map_err(|e| step_error(&e))?.is_none() {
            waited(crew, table, began, "its marker has not arrived")?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let arrived = crew.mono() - written;
        let first = sweep_after(crew, table, began, written).await?;
        // What waits for its parent has its last chance now: nothing new comes.
        parked::retry(crew, table).await.map_err(|e| step_error(&e))?;
        let second = sweep_after(crew, table, began, first).await?;
        parked::count(crew, table).await.map_err(|e| step_error(&e))?;
        Ok((arrived, second))
    };
    let proof: Result<(i64, i64), StepError> = proof.await;
    let result = match &proof {
        Ok(_) => OutcomeResult::Done { read_back: nonce.clone(), version: None },
        Err(e) => OutcomeResult::Unknown { error: e.message.clone() },
    };
    crew.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
    let (arrived, _) = proof?;
    if let Err(e) = crew.ports.source.delete_marker(table, &nonce).await {
        tracing::warn!(table = %table.id, error = %e, "drain marker not removed");
    }
    crew.board.table(&table.id, |g| g.phase = Phase::Drained);
    let at = crew.wall();
    Ok(vec![
        evidence(format!("marker {}", table.id), format!("read back after {arrived}ms"), at, "cutover.marker"),
        evidence(
            format!("sweeps {}", table.id),
            "two, begun after the marker, empty",
            at,
            "GetRecords on every open shard",
        ),
    ])
}

/// Waits for an empty sweep whose listing and reads began after `after`; gives the time its reads began.
async fn sweep_after(crew: &Arc<Crew>, table: &Table, began: i64, after: i64) -> Result<i64, StepError> {
    let Some(told) = crew.sweeps.get(&table.id) else {
        return Err(too_late(format!("{}: nobody follows it", table.id), "this is a bug; roll back"));
    };
    let mut sweeps = told.subscribe();
    loop {
        let sweep = *sweeps.borrow_and_update();
        if sweep.empty && sweep.listed_mono > after && sweep.began_mono > after {
            return Ok(sweep.began_mono);
        }
        waited(crew, table, began, "its stream has not been read to the end")?;
        let _ = tokio::time::timeout(Duration::from_millis(500), sweeps.changed()).await;
    }
}

fn waited(crew: &Arc<Crew>, table: &Table, began: i64, what: &str) -> Result<(), StepError> {
    if crew.mono() - began < PATIENCE_MS {
        return Ok(());
    }
    let trouble =
        crew.board.table(&table.id, |g| g.trouble.clone()).unwrap_or_else(|| "no trouble is known".to_owned());
    Err(too_late(
        format!("{}: {what} in {} s ({trouble})", table.id, PATIENCE_MS / 1000),
        "writes go back to the old side; see the table's trouble, then try again another time",
    ))
}
