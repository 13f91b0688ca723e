//! Items of tables that a plan made expire once customers are let in, and not before.

use std::sync::Arc;

use super::context::WorkerContext;
use super::trouble::{evidence, not_recorded};
use crate::domain::plan::{Step, Table, shell_word};
use crate::domain::run::{Action, Event, Evidence, Level, OutcomeResult, StepError};
use crate::ports::Expiry;

/// Turns expiry on where the source has it. Customers are in already, so a table that refuses keeps nobody out and takes
/// nothing back: it is named, with what to do by hand.
///
/// # Errors
/// Something could not be recorded.
pub(super) async fn turn_on(ctx: &Arc<WorkerContext>, step: &Step, attempt: u32) -> Result<Vec<Evidence>, StepError> {
    let mut found = Vec::new();
    for table in &ctx.plan.tables {
        let Some(attribute) = table.expires_by() else { continue };
        let id = format!("{}/expiry/{}/{attempt}", step.id, table.id);
        let action = Action::TurnOnExpiry { table: table.id.clone() };
        let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
        ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
        let done = ctx.ports.target.turn_on_expiry(table, &attribute).await;
        let (result, said) = match &done {
            Ok(Expiry::On(by)) => {
                let read_back = format!("items expire by {by}");
                (OutcomeResult::Done { read_back: read_back.clone(), version: None }, read_back)
            }
            Ok(Expiry::NotMadeHere) => {
                let kept = "not changed: no run of this plan made the table".to_owned();
                let said = format!("{kept}; {}", by_hand(table, &attribute));
                (OutcomeResult::Done { read_back: kept, version: None }, said)
            }
            Err(e) => {
                let said = format!("NOT on: {}; {}", e.came_back, by_hand(table, &attribute));
                (OutcomeResult::Unknown { error: e.to_string() }, said)
            }
        };
        ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
        if done.is_err() {
            let text = format!("items of {} do not expire: {said}", table.target);
            let note = Event::Note { level: Level::Warn, source: "expiry".to_owned(), text };
            ctx.facts.state(note).await.map_err(|e| not_recorded(&e))?;
        }
        found.push(evidence(format!("expiry {}", table.id), said, ctx.wall(), "DescribeTimeToLive"));
    }
    Ok(found)
}

fn by_hand(table: &Table, attribute: &str) -> String {
    format!(
        "by hand: aws dynamodb update-time-to-live --table-name {} --time-to-live-specification {}",
        shell_word(&table.target),
        shell_word(&format!("Enabled=true,AttributeName={attribute}"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Plan;
    use crate::ports::ErrorKind;
    use crate::workers::tests::faults::{Fault, Op};
    use crate::workers::tests::world::{Entry, World};

    const DDL: &str = r#"{"AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "TimeToLiveSpecification": {"AttributeName": "until", "Enabled": true}}"#;

    #[tokio::test]
    async fn a_table_that_refuses_keeps_nobody_out_and_is_named_with_what_to_do() {
        let mut plan: Plan = crate::workers::tests::plan::plan();
        for table in &mut plan.tables {
            table.ddl = Some(DDL.to_owned());
        }
        let world = World::with(plan);
        world.book("b1", "1.00");
        let ctx = world.ctx().await;
        let before = ["capture", "load", "catch-up", "verify", "arm", "freeze", "drain", "switch"];
        world.well(&ctx, &before).await;
        world.faults.put(Op::OpenToCustomers, "books", 0, 1, Fault::Refuse(ErrorKind::Denied));
        let found = world.perform(&ctx, "thaw").await.unwrap();
        assert_eq!(world.switches.now("/mode"), "open");
        let said = |name: &str| found.iter().find(|e| e.name == name).map(|e| e.value.clone()).unwrap_or_default();
        let refused = said("expiry books");
        assert!(refused.starts_with("NOT on: ") && refused.contains("aws dynamodb update-time-to-live"), "{refused}");
        let others = said("expiry authors");
        assert!(others.contains("no run of this plan made the table") && others.contains("by hand"), "{others}");
        let warned = |entry: &Entry| matches!(entry, Entry::Fact(Event::Note { level: Level::Warn, text, .. }) if text.contains("books do not expire"));
        assert!(world.journal.entries().iter().any(warned));
        ctx.stop().await;
    }
}
