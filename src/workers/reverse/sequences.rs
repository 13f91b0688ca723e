//! Sequences of the old side: they must stand past every value that the new side has given out, before customers insert on
//! the old side again.
//!
//! A rollback lets them in at once, while rows with values of the new side may still wait to be applied. So what counts is
//! what the new side's sequences have *given*, not what was applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::plan::{Column, Plan, Table};
use crate::domain::run::{Event, Evidence, Level, StepError};
use crate::ports::{
    Beyond, Clock, GivenFor, Items, PortError, PortResult, ReversePorts, Sequence, SequenceScan, counterpart,
};
use crate::workers::context::WorkerContext;
use crate::workers::rollback::FactSink;
use crate::workers::sequences::words;
use crate::workers::trouble::{evidence, step_error, world};

/// Pause before the store is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long one store may take. Nothing that is left of it keeps a rollback from ending.
const MOST: Duration = Duration::from_secs(30);
/// So many times what was given since the last look is left free until the next one.
const AHEAD: i64 = 3;

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
    let there = ports.outbox.sequences(&ctx.plan.tables).await.map_err(|e| step_error(&e))?;
    for (store, items, tables) in by_store(&ctx.plan, ports) {
        let mut sequences = items.sequences(&tables).await.map_err(|e| step_error(&e))?;
        // What nobody asks on the new side is given nowhere else.
        let asked = |s: &Sequence| counterpart(&s.name, there.iter().map(|t| t.name.as_str())).is_some();
        sequences.retain(|s| !s.columns.is_empty() || asked(s));
        let by_hand = |s: &Sequence| ctx.plan.load.sequences_by_hand.contains(&s.name);
        let trouble = sequences.iter().filter(|s| !by_hand(s)).find_map(|s| Some((&s.name, s.problem.as_ref()?)));
        if let Some((name, (wrong, advice))) = trouble {
            let message =
                format!("sequence {name} of the store {store} cannot be kept past rows that come back: {wrong}");
            return Err(world(message, format!("{advice}; or set enabled = false under [reverse]")));
        }
        let (left, kept): (Vec<&Sequence>, Vec<&Sequence>) = sequences.iter().partition(|s| by_hand(s));
        let names = |all: &[&Sequence]| all.iter().map(|s| s.name.clone()).collect::<Vec<_>>().join(", ");
        for (all, what) in
            [(kept, "kept past what the new side gives"), (left, "left to you after a rollback, as the plan says")]
        {
            if !all.is_empty() {
                let value = format!("{}: {what}", names(&all));
                found.push(evidence(format!("sequences of {store}"), value, ctx.wall(), "pg_sequence"));
            }
        }
    }
    Ok(found)
}

/// What the new side's sequences had given, by store and sequence, when they were looked at last.
pub(super) type Given = BTreeMap<(String, String), i64>;

/// What the new side has given out, with room for what it may give until the next look.
async fn beyond(plan: &Plan, ports: &ReversePorts, before: &mut Given) -> PortResult<Vec<Beyond>> {
    let mut all = Vec::new();
    let stores: BTreeSet<&str> = plan.tables.iter().map(|table| table.to.as_str()).collect();
    // Two stores may have sequences, and tables, of one name.
    for store in stores {
        let tables: Vec<Table> = plan.tables.iter().filter(|table| table.to == store).cloned().collect();
        for sequence in ports.outbox.sequences(&tables).await? {
            let Some(value) = sequence.given else { continue };
            let last = before.insert((store.to_owned(), sequence.name.clone()), value).unwrap_or(value);
            let ahead = value.saturating_sub(last).saturating_mul(AHEAD);
            for table in &tables {
                let place = |c: &Column| format!("{}.{}", table.target, c.name);
                let fed = table.columns.iter().filter(|c| sequence.columns.contains(&place(c)));
                let of = |c: &Column| GivenFor::Column { table: table.id.clone(), column: c.name.clone() };
                all.extend(fed.map(|c| Beyond { of: of(c), value, ahead }));
            }
            if sequence.columns.is_empty() {
                all.push(Beyond { of: GivenFor::Standalone(sequence.name), value, ahead });
            }
        }
    }
    Ok(all)
}

/// While customers are on the new side: so that a rollback, which lets them in on the old one at once, finds sequences that
/// stand past everything. Gives what is wrong, in words.
pub(super) async fn keep_past(plan: &Plan, ports: &ReversePorts, before: &mut Given) -> Vec<String> {
    let given = match beyond(plan, ports, before).await {
        Ok(given) => given,
        Err(e) => return vec![format!("what sequences of the new side have given is not known: {e}")],
    };
    let mut wrong = Vec::new();
    for (store, items, tables) in by_store(plan, ports) {
        match items.advance_sequences(&tables, SequenceScan::Indexed, &plan.load.sequences_by_hand, &given).await {
            Ok(stand) => {
                wrong.extend(stand.iter().filter_map(|s| Some(format!("{}: {}", s.name, s.problem.as_ref()?.0))))
            }
            Err(e) => wrong.push(format!("sequences of {store}: {e}")),
        }
    }
    wrong
}

/// At the beginning of a drain, whose rows customers of the old side may meet already.
pub(super) async fn first(plan: &Plan, ports: &ReversePorts) {
    let moved = tokio::time::timeout(MOST / 6, keep_past(plan, ports, &mut Given::new())).await;
    for wrong in moved.unwrap_or_else(|_| vec!["the stores did not answer in time".to_owned()]) {
        tracing::warn!(wrong, "a sequence of the old side may stand behind");
    }
}

/// After everything is applied: evidence of each. What is wrong with one is said and keeps nothing from ending: the rows are
/// where they belong.
pub(super) async fn end(plan: &Plan, ports: &ReversePorts, facts: &dyn FactSink, clock: &dyn Clock) -> Vec<Evidence> {
    let mut found = Vec::new();
    let given = patiently(|| async { beyond(plan, ports, &mut Given::new()).await }).await.unwrap_or_default();
    for (store, items, tables) in by_store(plan, ports) {
        let by_hand = &plan.load.sequences_by_hand;
        let moved = patiently(|| items.advance_sequences(&tables, SequenceScan::Whole, by_hand, &given)).await;
        let stand = moved.unwrap_or_else(|e| {
            let advice = "move them past the rows before customers insert there".to_owned();
            let unknown =
                Sequence { name: format!("of {store}"), problem: Some((e.to_string(), advice)), ..Sequence::default() };
            vec![unknown]
        });
        for sequence in stand {
            let mut line =
                evidence(format!("sequence {}", sequence.name), words(&sequence), clock.wall(), "pg_sequence");
            if let Some((wrong, advice)) = &sequence.problem {
                let text = format!(
                    "sequence {} of the old side may give values that rows have: {wrong}; {advice}",
                    sequence.name
                );
                facts.send(Event::Note { level: Level::Error, source: "reverse".to_owned(), text });
                line.value = wrong.clone();
            }
            line.good = sequence.problem.is_none() && (sequence.looked || sequence.beyond.is_some());
            found.push(line);
        }
    }
    found
}

/// Tries again what may pass, for as long as one store may take.
async fn patiently<T, F>(mut attempt: impl FnMut() -> F) -> PortResult<T>
where
    F: Future<Output = PortResult<T>>,
{
    let mut last = None::<PortError>;
    let tried = async {
        loop {
            match attempt().await {
                Err(e) if e.kind.transient() => last = Some(e),
                ended => return ended,
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    match tokio::time::timeout(MOST, tried).await {
        Ok(ended) => ended,
        Err(_) => Err(last.unwrap_or_else(|| {
            PortError::new(
                crate::ports::ErrorKind::TimedOut,
                "advance",
                "sequences",
                format!("no answer in {} s", MOST.as_secs()),
            )
        })),
    }
}
