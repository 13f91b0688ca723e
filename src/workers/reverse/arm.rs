//! Arming the reverse flow: captured and exercised in both halves before anything is switched.

use std::sync::Arc;

use super::{ReverseApplier, learn, sequences};
use crate::domain::mapping::{TableMapping, inverse_gaps};
use crate::domain::plan::Table;
use crate::domain::run::{Evidence, StepError};
use crate::ports::ReversePorts;
use crate::workers::context::WorkerContext;
use crate::workers::trouble::{evidence, step_error, world};

/// Starts capturing and proves the whole path: a touched row leaves its record and can be read, and a marker goes
/// through trigger, outbox and reverse applier into an item of each old table and is removed again.
pub async fn arm(ctx: &Arc<WorkerContext>) -> Result<Vec<Evidence>, StepError> {
    let mut found = Vec::new();
    let Some(ports) = ctx.reverse_ports() else { return Ok(found) };
    let at = ctx.wall();
    let mut blocked = false;
    for table in &ctx.plan.tables {
        for why in inverse_gaps(table, ctx.plan.kind(&table.from)).blocks {
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
    for capture in ports.outbox.arm(&ctx.plan.tables).await.map_err(|e| fails(&e))? {
        let how = if capture.exercised { "a touched row left its record" } else { "empty, not touched" };
        let value = format!("{} captured, {how}", capture.tables.join(", "));
        found.push(evidence(format!("outbox {}", capture.table), value, at, "outbox"));
    }
    for table in &ctx.plan.tables {
        found.push(keys(ctx, &ports, table).await?);
    }
    let applier = ReverseApplier::new(&ports);
    for table in ctx.plan.tables.iter().filter(|t| !t.marker_prefix.is_empty()) {
        let nonce = uuid::Uuid::new_v4().to_string();
        let began = ctx.mono();
        ports.outbox.put_marker(table, &nonce).await.map_err(|e| fails(&e))?;
        let through = applier.markers(table).await.map_err(|e| fails(&e))?;
        if !through.contains(&nonce) {
            let message = format!("{}: the reverse marker did not come through", table.id);
            return Err(world(message, "see whether another process carries changes back, then try again"));
        }
        let value = format!("written to {}, read back and removed in {}ms", table.source, ctx.mono() - began);
        found.push(evidence(format!("reverse marker {}", table.id), value, ctx.wall(), "outbox"));
    }
    found.extend(sequences::arm(ctx, &ports).await?);
    Ok(found)
}

/// Items must keep the key they have when they are written back.
async fn keys(ctx: &Arc<WorkerContext>, ports: &ReversePorts, table: &Table) -> Result<Evidence, StepError> {
    let mapping = TableMapping::new(table);
    let (kinds, lost, unmatched) = learn(ports, table, &mapping).await.map_err(|e| step_error(&e))?;
    if let Some(key) = unmatched {
        return Err(world(
            format!("{}: the key {} would come back written another way", table.id, key.0),
            "give the key column the type text, or set enabled = false under [reverse]",
        ));
    }
    let mut value = format!("{} items come back under their keys", kinds.items());
    let gaps = inverse_gaps(table, ctx.plan.kind(&table.from));
    let notes: Vec<String> = gaps.notes.into_iter().chain(lost.into_iter().take(5)).collect();
    if !notes.is_empty() {
        value.push_str(&format!("; new items come without: {}", notes.join(", ")));
    }
    Ok(evidence(format!("inverse {}", table.id), value, ctx.wall(), "first page of the source"))
}
