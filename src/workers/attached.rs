//! What belongs to tables of the old side and stays behind, for the check.

use super::context::Ports;
use super::preflight::CheckRow;
use crate::domain::plan::{Plan, StoreKind, Table};

/// What is attached to a table, a row each. It stops nothing: whether the new side needs it is a person's to know.
pub(super) async fn rows(ports: &Ports, table: &Table) -> Vec<CheckRow> {
    let what = format!("stays behind {}", table.id);
    match ports.source(table).attached(table).await {
        Ok(None) => Vec::new(),
        Ok(Some(found)) if found.is_empty() => {
            let none = "nothing: no resource policy, Kinesis stream, contributor insights or warm throughput";
            vec![CheckRow::ok(what, none)]
        }
        Ok(Some(found)) => found.into_iter().map(|words| CheckRow::ok(&what, words)).collect(),
        Err(e) => vec![CheckRow::ok(what, format!("what is attached to it is not known: {}", e.came_back))],
    }
}

/// What is looked at in no store, with what lists it: one row for each store of such tables.
pub(super) fn not_looked_at(plan: &Plan) -> Vec<CheckRow> {
    let moves = |store: &str| plan.tables.iter().any(|table| table.from == store);
    let has_such = |kind: StoreKind| match kind {
        StoreKind::Dynamodb => true,
        StoreKind::Postgresql | StoreKind::Aws => false,
    };
    let stores = plan.stores.iter().filter(|(name, store)| has_such(store.kind) && moves(name));
    let row = |(name, store): (&String, &crate::domain::plan::Store)| {
        let region = store.region.as_deref().filter(|region| !region.is_empty());
        let region = region.map_or_else(String::new, |region| format!(" --region {region}"));
        let words = format!(
            "not looked at: auto scaling (aws application-autoscaling describe-scalable-targets --service-namespace \
             dynamodb{region}), Lambda triggers (aws lambda list-event-source-mappings{region}) and alarms (aws cloudwatch \
             describe-alarms{region})"
        );
        CheckRow::ok(format!("stays behind in {name}"), words)
    };
    stores.map(row).collect()
}
