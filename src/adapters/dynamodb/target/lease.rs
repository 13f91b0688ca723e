//! Who drives: one item a plan, limited in time, with an epoch that separates its holders. The service's clock decides.

use serde_json::json;

use super::call::{Item, Stopped, Store, Tried, n, number, pause, s, text};
use super::names;
use super::write::Write;
use crate::domain::at::At;
use crate::ports::{ErrorKind, Lease, LeaseHolder, PortError, PortResult};

const ON: &str = "the lease";
/// How far two clocks that follow the service's may be apart: its answers tell whole seconds. Nobody's lease is over for
/// others before it is over for its holder.
pub(super) const CLOCKS_MS: i64 = 2_000;
/// Tries while others write it at the same moment.
const TRIES: u32 = 8;

/// What is asked for.
pub(super) struct Wanted<'a> {
    /// Run id.
    pub run: &'a str,
    /// The process that asks.
    pub holder: &'a str,
    /// For how long.
    pub ttl_ms: i64,
    /// Whether to take it from another holder of the same run whose time is not over.
    pub seize: bool,
    /// The epoch that is renewed: a driver that was suspended while another had the lease, or while its plan was
    /// released, does not get it again; 0 takes it anew.
    pub renews: i64,
}

fn lease(item: &Item) -> Lease {
    Lease {
        run: text(item, "run").unwrap_or_default().to_owned(),
        holder: text(item, "holder").unwrap_or_default().to_owned(),
        epoch: number(item, "epoch").unwrap_or_default(),
        until: At(number(item, "until").unwrap_or_default()),
    }
}

/// How long a lease is held still, for somebody else; `None` when it is not.
fn left(lease: &Lease, now: At) -> Option<i64> {
    let left = lease.until.0 + CLOCKS_MS - now.0;
    Some(left).filter(|left| *left > 0 && !lease.holder.is_empty())
}

/// The lease as it stands; `None` while nobody ever had it.
async fn stands(store: &Store, plan: &str, at: Tried<'_>) -> PortResult<Option<Lease>> {
    Ok(store.get(&names::lease(plan), at).await?.as_ref().map(lease))
}

/// The epoch of whoever drives; `None` while nobody ever did.
pub(super) fn epoch_of(item: Option<&Item>) -> Option<i64> {
    item.and_then(|item| number(item, "epoch"))
}

/// The same, asked for.
pub(super) async fn driver(store: &Store, plan: &str, at: Tried<'_>) -> PortResult<Option<i64>> {
    Ok(stands(store, plan, at).await?.map(|lease| lease.epoch))
}

/// Who drives a plan, while somebody does.
pub(super) async fn holder(store: &Store, plan: &str, at: Tried<'_>) -> PortResult<Option<LeaseHolder>> {
    let stands = stands(store, plan, at).await?;
    let held = stands.filter(|lease| left(lease, store.now()).is_some());
    Ok(held.map(|lease| LeaseHolder { run: lease.run, holder: lease.holder }))
}

/// That a transaction holds only while the lease has this epoch.
pub(super) fn fence(plan: &str, epoch: i64) -> Write {
    Write::check(&names::lease(plan)).when("#epoch = :epoch").with("epoch", n(epoch))
}

/// The same for a process that may have begun before anybody drove.
pub(super) fn fence_of(plan: &str, epoch: Option<i64>) -> Write {
    match epoch {
        Some(epoch) => fence(plan, epoch),
        None => Write::check(&names::lease(plan)).when("attribute_not_exists(#epoch)"),
    }
}

/// That a process is not the driver any more.
pub(super) fn overtaken((tried, on): Tried<'_>) -> PortError {
    let came_back = "another process has taken the lease since, or the plan was released";
    PortError::new(ErrorKind::Conflict, tried, on, came_back)
        .advise("nothing was written; attach to the run that drives now")
}

/// Takes, renews or takes over. What was read decides, and is written over only as it was read.
pub(super) async fn take(store: &Store, plan: &str, wanted: &Wanted<'_>) -> PortResult<Lease> {
    let at = (if wanted.seize { "seize" } else { "take" }, ON);
    let place = names::lease(plan);
    for tried in 0..TRIES {
        let before = stands(store, plan, at).await?;
        let now = store.now();
        let ours = |l: &Lease| l.holder == wanted.holder && l.run == wanted.run;
        let renewed = |l: &Lease| wanted.seize || wanted.renews == 0 || l.epoch == wanted.renews;
        let may = before
            .as_ref()
            .is_none_or(|l| wanted.seize && l.run == wanted.run || renewed(l) && (ours(l) || left(l, now).is_none()));
        if let (false, Some(other)) = (may, &before) {
            return Err(held(other, now, at));
        }
        let epoch = before.as_ref().map_or(1, |l| if ours(l) { l.epoch } else { l.epoch + 1 });
        let until = now.plus(wanted.ttl_ms);
        let taken = json!({"run": s(wanted.run), "holder": s(wanted.holder), "epoch": n(epoch), "until": n(until.0)});
        let write = Write::put(&place, taken);
        let write = match &before {
            None => write.when("attribute_not_exists(#pk)"),
            Some(l) => write
                .when("#epoch = :e AND #until = :u AND #holder = :h")
                .with("e", n(l.epoch))
                .with("u", n(l.until.0))
                .with("h", s(&l.holder)),
        };
        match store.write(&write, at).await {
            Ok(_) => {
                let (run, holder) = (wanted.run.to_owned(), wanted.holder.to_owned());
                return Ok(Lease { run, holder, epoch, until });
            }
            Err(Stopped::Condition(_)) => pause(tried).await,
            Err(stopped) => return Err(stopped.error(at)),
        }
    }
    let came_back = "it changed hands just now";
    Err(PortError::new(ErrorKind::Conflict, at.0, at.1, came_back).advise("attach to that run, or try again"))
}

fn held(other: &Lease, now: At, (tried, on): Tried<'_>) -> PortError {
    let conflict = |came_back: String| {
        PortError::new(ErrorKind::Conflict, tried, on, came_back)
            .advise("attach to that run, or wait until its lease is over")
    };
    let Some(left) = left(other, now) else {
        return conflict("another process had it meanwhile, or the plan was released".to_owned());
    };
    let left = crate::domain::at::brief(left);
    conflict(format!("{} holds it for run {}, for another {left}", other.holder, other.run))
        .held_by(&other.run, &other.holder)
}

/// Gives it back, and says whether we had it. The epoch stays, so that the next holder's is higher.
pub(super) async fn release(store: &Store, plan: &str, holder: &str) -> PortResult<bool> {
    let at = ("release", ON);
    let write = Write::update(&names::lease(plan), "SET #holder = :none, #until = :now")
        .when("#holder = :holder")
        .with("none", s(""))
        .with("now", n(store.now().0))
        .with("holder", s(holder));
    match store.write(&write, at).await {
        Ok(_) => Ok(true),
        Err(Stopped::Condition(_)) => Ok(false),
        Err(stopped) => Err(stopped.error(at)),
    }
}

/// Ends the lease while nobody drives. Whoever drove is refused by the epoch from then on.
pub(super) async fn end(store: &Store, plan: &str, at: Tried<'_>) -> PortResult<()> {
    for tried in 0..TRIES {
        let before = stands(store, plan, at).await?;
        let now = store.now();
        if let Some(l) = before.as_ref().filter(|l| left(l, now).is_some()) {
            return Err(driven(plan, &LeaseHolder { run: l.run.clone(), holder: l.holder.clone() }, at));
        }
        let epoch = before.as_ref().map_or(1, |l| l.epoch + 1);
        let run = before.as_ref().map_or("", |l| l.run.as_str());
        let ended = json!({"run": s(run), "holder": s(""), "epoch": n(epoch), "until": n(now.0)});
        let write = Write::put(&names::lease(plan), ended);
        let write = match &before {
            None => write.when("attribute_not_exists(#pk)"),
            Some(l) => write.when("#epoch = :e AND #until = :u").with("e", n(l.epoch)).with("u", n(l.until.0)),
        };
        match store.write(&write, at).await {
            Ok(_) => return Ok(()),
            Err(Stopped::Condition(_)) => pause(tried).await,
            Err(stopped) => return Err(stopped.error(at)),
        }
    }
    Err(PortError::new(ErrorKind::Conflict, at.0, plan, "its lease changed hands just now").advise("try again"))
}

/// That a plan is driven, so nothing of it is ended.
fn driven(plan: &str, held: &LeaseHolder, (tried, _): Tried<'_>) -> PortError {
    let came_back = format!("run {} is driven by {}", held.run, held.holder);
    PortError::new(ErrorKind::Conflict, tried, plan, came_back)
        .advise("end that run first, or wait until its lease is over")
        .held_by(&held.run, &held.holder)
}
