//! Arming the way back for data: captured and exercised in both halves before anything is switched.

use std::sync::Arc;

use super::{Carrier, learn};
use crate::domain::mapping::{TableMapping, survey};
use crate::domain::plan::Table;
use crate::domain::run::{Evidence, StepError};
use crate::ports::ReversePorts;
use crate::workers::crew::Crew;
use crate::workers::trouble::{evidence, step_error, world};

/// Starts capturing and proves the whole way: a touched row leaves its record and can be read, and a marker goes
/// through trigger, outbox and carrier into an item of each old table and back out again.
pub async fn arm(crew: &Arc<Crew>) -> Result<Vec<Evidence>, StepError> {
    let mut found = Vec::new();
    let Some(ports) = crew.reverse_ports() else { return Ok(found) };
    let at = crew.wall();
    let mut blocked = false;
    for table in &crew.plan.tables {
        for why in survey(table).blocks {
            blocked = true;
            let mut line = evidence(format!("reverse {}", table.id), why, at, "mapping");
            line.good = false;
            found.push(line);
        }
    }
    if blocked {
        // Going on is the operator's choice: the price of a rollback says what it would lose.
        return Ok(found);
    }
    let fails = |e: &crate::ports::PortError| StepError {
        advice: format!("{}; or set enabled = false under [reverse]: a rollback then leaves writes behind", e.advice),
        ..step_error(e)
    };
    for capture in ports.outbox.arm(&crew.plan.tables).await.map_err(|e| fails(&e))? {
        let how = if capture.exercised { "a touched row left its record" } else { "empty, not touched" };
        let value = format!("{} captured, {how}", capture.tables.join(", "));
        found.push(evidence(format!("outbox {}", capture.table), value, at, "pg_trigger"));
    }
    for table in &crew.plan.tables {
        found.push(keys(crew, &ports, table).await?);
    }
    let carrier = Carrier::open(&crew.plan, &ports).await.map_err(|e| fails(&e))?;
    for table in crew.plan.tables.iter().filter(|t| !t.marker_prefix.is_empty()) {
        let nonce = uuid::Uuid::new_v4().to_string();
        let began = crew.mono();
        ports.outbox.put_marker(table, &nonce).await.map_err(|e| fails(&e))?;
        let through = carrier.markers(table).await.map_err(|e| fails(&e))?;
        if !through.contains(&nonce) {
            let message = format!("{}: the marker of the way back did not come through", table.id);
            return Err(world(message, "see whether another process carries changes back, then try again"));
        }
        let value = format!("written to {}, read back and removed in {}ms", table.source, crew.mono() - began);
        found.push(evidence(format!("reverse marker {}", table.id), value, crew.wall(), "cutover.outbox"));
    }
    Ok(found)
}

/// Items must come back under the key they have.
async fn keys(crew: &Arc<Crew>, ports: &ReversePorts, table: &Table) -> Result<Evidence, StepError> {
    let mapping = TableMapping::new(table);
    let (kinds, lost, strange) = learn(ports, table, &mapping).await.map_err(|e| step_error(&e))?;
    if let Some(key) = strange {
        return Err(world(
            format!("{}: the key {} would come back written another way", table.id, key.0),
            "give the key column the type text, or set enabled = false under [reverse]",
        ));
    }
    let mut value = format!("{} items come back under their keys", kinds.items());
    let notes: Vec<String> = survey(table).notes.into_iter().chain(lost.into_iter().take(5)).collect();
    if !notes.is_empty() {
        value.push_str(&format!("; new items come without: {}", notes.join(", ")));
    }
    Ok(evidence(format!("inverse {}", table.id), value, crew.wall(), "first page of the source"))
}
