//! Permits to send rows of a load.
//!
//! A batch of rows has no condition, so nothing in it refuses a process that was overtaken. Instead a process may send
//! batches only while it holds a permit: an item that says until when, made in a transaction that holds only while the
//! process drives, and the table is the plan's and not open. A batch is sent only if its answer, or giving up on it,
//! comes before the permit ends. Whoever resumes, empties, opens or releases a table waits until every permit is over.

use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::call::{Stopped, Store, Tried, n, number, sk};
use super::lease::{self, CLOCKS_MS};
use super::names::{self, Of};
use super::owner;
use super::write::Write;
use crate::adapters::dynamodb::wire::BRIEF;
use crate::domain::at::At;
use crate::ports::PortResult;

/// How long a permit lasts. Longer than two answers, so that it is renewed while batches are under way.
const LASTS: Duration = Duration::from_secs(24);

/// A permit of this process.
#[derive(Clone, Debug)]
pub(super) struct Permit {
    id: String,
    /// When it ends, by a clock that nobody steps.
    until: Instant,
    /// The same by the service's clock, which goes on while this machine sleeps.
    ends: At,
}

/// Whose permit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    /// The plan.
    pub plan: &'a str,
    /// The table.
    pub of: &'a Of,
    /// The lease's epoch when the process began; absent when nobody drove then.
    pub epoch: Option<i64>,
}

impl Permit {
    /// Whether a call may begin, and another one after it.
    fn lasts(&self, now: At) -> bool {
        let twice = BRIEF * 2;
        let ms = i64::try_from(twice.as_millis()).unwrap_or(i64::MAX);
        Instant::now() + twice < self.until && now.plus(ms) < self.ends
    }

    /// That a transaction holds only while it is there.
    pub(super) fn held(&self, of: &Of) -> Write {
        Write::check(&of.permit(&self.id)).when("attribute_exists(#pk)")
    }

    /// The same, and its end: when the load of a partition is over, nothing of it is under way.
    pub(super) fn end(&self, of: &Of) -> Write {
        Write::delete(&of.permit(&self.id)).when("attribute_exists(#pk)")
    }
}

/// The permit of a flush, renewed as long as it takes.
pub(super) struct Kept<'a> {
    store: &'a Store,
    holder: Holder<'a>,
    permit: Mutex<Option<Permit>>,
}

impl<'a> Kept<'a> {
    /// With the permit that the flush before it had.
    pub(super) const fn new(store: &'a Store, holder: Holder<'a>, before: Option<Permit>) -> Self {
        Self { store, holder, permit: Mutex::const_new(before) }
    }

    /// Until when a batch may be under way that is sent now. Asks for a longer permit when this one is nearly over.
    pub(super) async fn until(&self, at: Tried<'_>) -> PortResult<Instant> {
        let mut permit = self.permit.lock().await;
        match permit.as_ref().filter(|permit| permit.lasts(self.store.now())) {
            Some(permit) => Ok(permit.until),
            None => {
                let given = give(self.store, self.holder, permit.as_ref(), at).await?;
                let until = given.until;
                *permit = Some(given);
                Ok(until)
            }
        }
    }

    /// The permit as it stands.
    pub(super) fn into_permit(self) -> Option<Permit> {
        self.permit.into_inner()
    }
}

/// Gives a permit, or renews it.
async fn give(store: &Store, holder: Holder<'_>, before: Option<&Permit>, at: Tried<'_>) -> PortResult<Permit> {
    let id = before.map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), |permit| permit.id.clone());
    let lasts = i64::try_from(LASTS.as_millis()).unwrap_or(i64::MAX);
    // Counted from before it is asked for: what others read is never earlier than what we keep to.
    let (began, until) = (Instant::now(), store.now().plus(lasts));
    let writes = [
        Write::put(&holder.of.permit(&id), json!({"until": n(until.0)})),
        owner::fence(holder.of, true),
        lease::fence_of(holder.plan, holder.epoch),
    ];
    match store.transact(&writes.iter().collect::<Vec<_>>(), at).await {
        Ok(()) => Ok(Permit { id, until: began + LASTS, ends: until }),
        Err(Stopped::Condition(2)) => Err(lease::overtaken(at)),
        Err(Stopped::Condition(_)) => {
            // Why, as it stands now.
            owner::judged(store.get(&holder.of.table(), at).await?, true, holder.plan, at)?;
            Err(lease::overtaken(at))
        }
        Err(stopped) => Err(stopped.error(at)),
    }
}

/// Waits until no batch of a load can land any more, by whomever it was sent.
pub(super) async fn quiet(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<()> {
    loop {
        let permits = store.query(&of.load(), names::PERMITS, None, None, at).await?;
        let now = store.now();
        let ends = |item| number(item, "until").unwrap_or_default() + CLOCKS_MS;
        let Some(last) = permits.iter().map(ends).max() else { return Ok(()) };
        for over in permits.iter().filter(|item| ends(item) <= now.0) {
            let place = names::Place { pk: of.load(), sk: sk(over).to_owned() };
            // Not one that was renewed since it was read.
            let until = number(over, "until").unwrap_or_default();
            let gone =
                Write::delete(&place).when("attribute_not_exists(#pk) OR #until = :until").with("until", n(until));
            match store.write(&gone, at).await {
                Ok(_) | Err(Stopped::Condition(_)) => {}
                Err(stopped) => return Err(stopped.error(at)),
            }
        }
        if last > now.0 {
            let left = u64::try_from(last - now.0).unwrap_or(0);
            tracing::info!(ms = left, "waiting until nothing that a load has sent can land any more");
            tokio::time::sleep(Duration::from_millis(left.min(2_000))).await;
        }
    }
}
