//! A source that keeps its changes until they are read keeps them for nobody once a run is over: its disk would fill.

use std::time::Duration;

use crate::domain::plan::Plan;
use crate::domain::run::{Action, Event, OutcomeResult};
use crate::ports::{ByStore, Changes, PortResult};

/// How long a source may take to say so. It may be asked again later, by the next run or by a release.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stores of a plan whose changes are kept until they are read, by name.
pub fn kept_for_us(plan: &Plan) -> impl Iterator<Item = &str> {
    plan.stores_that_retain_log().into_iter()
}

/// The two facts of one end, before it and after it. `pass` tells attempts apart.
pub fn intent(store: &str, pass: &str) -> (String, Event) {
    let id = format!("end-capture/{store}/{pass}");
    let action = Action::EndCapture { store: store.to_owned() };
    (id.clone(), Event::Intent { id, step: None, action })
}

/// Ends capture at one store. Gives the outcome for the record, and what is left to do where it is not known to be done.
pub async fn end(changes: &ByStore<dyn Changes>, store: &str, id: String) -> (Event, Option<String>) {
    let ended = tokio::time::timeout(PATIENCE, changes.named(store).close()).await;
    let ended: PortResult<()> = ended.unwrap_or_else(|_| Err(late(store)));
    let (result, left) = match ended {
        Ok(()) => (OutcomeResult::Done { read_back: "it keeps nothing for this plan".to_owned(), version: None }, None),
        Err(e) => (OutcomeResult::Unknown { error: e.to_string() }, Some(e.to_string())),
    };
    let left = left.map(|why| {
        format!(
            "the store {store} may still keep its log for this plan, and its disk fills: {why}; once it answers, see \
             pg_replication_slots there and drop the slot whose name begins with cutover_"
        )
    });
    (Event::Outcome { id, result }, left)
}

fn late(store: &str) -> crate::ports::PortError {
    let why = format!("no answer within {} s", PATIENCE.as_secs());
    crate::ports::PortError::new(crate::ports::ErrorKind::TimedOut, "end capture at", store, why)
}
