//! Tables that came after the plan was made and that its rules would have taken: nothing may be switched without them.

use super::context::Ports;
use super::trouble::{step_error, world};
use crate::domain::plan::Plan;
use crate::domain::run::StepError;
use crate::ports::PortResult;

/// What to do about them.
pub(super) const ADVICE: &str =
    "leave them out of the rule (`exclude`) and `cutover amend`, or begin a run that moves them";

/// The tables that the rules of the plan would take and that are not in it, each with its store.
pub(super) async fn tables(plan: &Plan, ports: &Ports) -> PortResult<Vec<String>> {
    let mut found = Vec::new();
    for store in plan.stores_of_rules() {
        let names = ports.sources.named(store).names().await?;
        found.extend(plan.unplanned(store, &names).into_iter().map(|name| format!("{store}.{name}")));
    }
    Ok(found)
}

/// Sees that there are none.
///
/// # Errors
/// There are, or a store cannot be asked.
pub(super) async fn none(plan: &Plan, ports: &Ports) -> Result<(), StepError> {
    let found = tables(plan, ports).await.map_err(|e| step_error(&e))?;
    if found.is_empty() { Ok(()) } else { Err(world(words(&found), ADVICE)) }
}

/// What is wrong, in words.
pub(super) fn words(found: &[String]) -> String {
    format!("tables that move by rule came after the plan was made: {}", found.join(", "))
}
