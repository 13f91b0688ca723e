//! Sequences of the old side: they must stand past the rows that come back, before customers insert there again.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::plan::{Plan, Table};
use crate::domain::run::{Evidence, StepError};
use crate::ports::{Clock, Items, PortResult, ReversePorts, Sequence};
use crate::workers::context::WorkerContext;
use crate::workers::trouble::{evidence, step_error, world};

/// What is said when the old side does not answer in time.
pub(super) const UNKNOWN: &str = "whether sequences of the old side stand past the rows that came back is not known; run \
                                  `cutover rollback` again";

/// The stores that tables come from, each with its tables.
fn by_store<'p>(
    plan: &'p Plan,
    ports: &'p ReversePorts,
) -> impl Iterator<Item = (&'p str, &'p Arc<dyn Items>, Vec<Table>)> {
    let stores: BTreeSet<&str> = plan.tables.iter().map(|table| table.from.as_str()).collect();
    stores.into_iter().map(move |store| {
        let tables = plan.tables.iter().filter(|table| table.from == store).cloned().collect();
        (store, ports.items.named(store), tables)
    })
}

/// Before the freeze: whether they can be found and moved. Nothing is moved.
pub(super) async fn arm(ctx: &Arc<WorkerContext>, ports: &ReversePorts) -> Result<Vec<Evidence>, StepError> {
    let mut found = Vec::new();
    for (store, items, tables) in by_store(&ctx.plan, ports) {
        let sequences = items.sequences(&tables).await.map_err(|e| step_error(&e))?;
        let by_hand = |s: &Sequence| ctx.plan.load.sequences_by_hand.contains(&s.name);
        if let Some((name, (wrong, advice))) =
            sequences.iter().filter(|s| !by_hand(s)).find_map(|s| Some((&s.name, s.problem.as_ref()?)))
        {
            let message =
                format!("sequence {name} of the store {store} cannot be kept past rows that come back: {wrong}");
            return Err(world(message, format!("{advice}; or set enabled = false under [reverse]")));
        }
        if !sequences.is_empty() {
            let names: Vec<&str> = sequences.iter().map(|s| s.name.as_str()).collect();
            let value = format!("{}: kept past rows that come back", names.join(", "));
            found.push(evidence(format!("sequences of {store}"), value, ctx.wall(), "pg_sequence"));
        }
    }
    Ok(found)
}

/// Moves those of one plan past every row that is there now, with a margin for what comes; gives what does not stand past
/// it, by store.
async fn advance(plan: &Plan, items: &Arc<dyn Items>, tables: &[Table]) -> PortResult<(Vec<Sequence>, Vec<String>)> {
    let stand = items.advance_sequences(tables, &plan.load.sequences_by_hand).await?;
    let wrong = |s: &Sequence| s.problem.as_ref().map(|(wrong, advice)| format!("{}: {wrong} ({advice})", s.name));
    let troubles = stand.iter().filter_map(wrong).collect();
    Ok((stand, troubles))
}

/// While customers are on the new side: so that a rollback, which lets them in on the old one at once, finds sequences that
/// stand past what was applied.
pub(super) async fn keep_past(ctx: &Arc<WorkerContext>, ports: &ReversePorts) {
    for (store, items, tables) in by_store(&ctx.plan, ports) {
        match advance(&ctx.plan, items, &tables).await {
            Ok((_, troubles)) => {
                troubles.iter().for_each(|wrong| tracing::warn!(store, wrong, "a sequence stands behind"))
            }
            Err(e) => tracing::warn!(store, error = %e, "sequences are not kept past rows that come back"),
        }
    }
}

/// After everything is applied: the evidence, and what is left.
pub(super) async fn end(plan: &Plan, ports: &ReversePorts, clock: &dyn Clock) -> (Vec<Evidence>, Vec<String>) {
    let (mut found, mut left) = (Vec::new(), Vec::new());
    for (store, items, tables) in by_store(plan, ports) {
        let advice = "move them past the rows before customers insert there, or run `cutover rollback` again";
        match advance(plan, items, &tables).await {
            Ok((stand, troubles)) => {
                left.extend(troubles.into_iter().map(|wrong| format!("a sequence of {store} stands behind: {wrong}")));
                found.extend(stand.iter().filter(|s| s.problem.is_none()).map(|s| {
                    let next = s.next.map_or_else(|| "?".to_owned(), |next| next.to_string());
                    let value = format!("gives {next} next, past {}", s.columns.join(", "));
                    evidence(format!("sequence {}", s.name), value, clock.wall(), "pg_sequence")
                }));
            }
            Err(e) => {
                left.push(format!("sequences of {store} were not moved past the rows that came back ({e}); {advice}"))
            }
        }
    }
    (found, left)
}
