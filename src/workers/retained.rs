//! The log that the servers of PostgreSQL sources keep for us: measured, told before it is lost, and said by `check`.
//!
//! Nothing is spooled here: what customers write while tables load, or while a run is paused, waits in the source's own
//! log, because our slot has not confirmed it. What that costs is room on the source's disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::context::{Ports, WorkerContext};
use super::preflight::{CheckRow, Missing};
use crate::domain::at::{At, brief};
use crate::domain::gauge::{LogPace, RetainedLog, WalStatus, size};
use crate::domain::plan::Plan;
use crate::domain::run::{Event, Level};
use crate::ports::{LogLook, LogWritten, RetainingSlot};

/// How often a server is asked.
const EVERY: Duration = Duration::from_secs(2);
/// Log of a shorter while says nothing of the hours that a load takes, in seconds.
const LEAST_S: f64 = 1.0;

/// Measures what one source keeps for us, for as long as this process works on the run: while tables load, while changes
/// are followed, and while the run is paused.
pub(super) async fn watch(ctx: Arc<WorkerContext>, store: String) {
    let (mut pace, mut told) = (LogPace::default(), BTreeMap::new());
    loop {
        match ctx.ports.changes.named(&store).retained_log(false).await {
            Ok(Some(look)) => {
                let at = ctx.wall();
                if let Some(end) = look.end {
                    pace.push(at, end);
                }
                let found = gauge(&look, pace.bytes_a_second(), at);
                ctx.latest.put(|m| match found {
                    Some(log) => drop(m.retained.insert(store.clone(), log)),
                    None => drop(m.retained.remove(&store)),
                });
                tell(&ctx, &store, &look, &mut told).await;
            }
            Ok(None) => return,
            // The old number stays, and grows stale.
            Err(e) => tracing::debug!(store, error = %e, "the log that the source keeps was not read"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The worst over all slots of ours; `None` while there is none.
fn gauge(look: &LogLook, pace: Option<f64>, at: At) -> Option<RetainedLog> {
    let slots = &look.slots;
    let status = slots.iter().map(|slot| slot.status).max()?;
    // Of a slot that is lost the server says nothing; what another one keeps is not what is kept for all.
    let bytes: Option<Vec<u64>> = slots.iter().map(|slot| slot.bytes).collect();
    Some(RetainedLog {
        bytes: bytes.and_then(|all| all.into_iter().max()),
        status,
        left: slots.iter().filter_map(|slot| slot.left).min(),
        limit: look.limit_bytes,
        pace,
        at,
    })
}

/// States once of each slot that it is about to be lost, and that it is.
async fn tell(ctx: &Arc<WorkerContext>, store: &str, look: &LogLook, told: &mut BTreeMap<String, WalStatus>) {
    for slot in &look.slots {
        let before = told.insert(slot.name.clone(), slot.status).unwrap_or_default();
        let Some((level, text)) = trouble(store, look, slot).filter(|_| before != slot.status) else { continue };
        let note = Event::Note { level, source: "capture".to_owned(), text };
        if let Err(e) = ctx.facts.state(note).await {
            tracing::error!(store, error = %e, "what became of a slot was not recorded");
            told.remove(&slot.name);
        }
    }
}

/// What is wrong with a slot, with what to do; nothing while its log is kept.
fn trouble(store: &str, look: &LogLook, slot: &RetainingSlot) -> Option<(Level, String)> {
    let limit = look.limit.as_deref().map_or_else(String::new, |limit| format!(", max_slot_wal_keep_size = {limit}"));
    let name = &slot.name;
    match slot.status {
        WalStatus::Unreserved => Some((
            Level::Warn,
            format!(
                "the server of {store} is about to give up the slot {name} (wal_status = unreserved{limit}): at one of its next \
                 checkpoints part of the log that was not read may be removed; raise max_slot_wal_keep_size there now (ALTER \
                 SYSTEM SET, then SELECT pg_reload_conf()), or the tables have to be loaded anew"
            ),
        )),
        WalStatus::Lost => {
            let reason = slot.reason.as_ref().map_or_else(String::new, |reason| format!(", {reason}"));
            Some((
                Level::Error,
                format!(
                    "the server of {store} has given up the slot {name} (wal_status = lost{reason}{limit}): part of the log that \
                     was not read is removed, and what customers wrote in it never arrives; the tables have to be loaded anew, \
                     with a larger max_slot_wal_keep_size there"
                ),
            ))
        }
        WalStatus::Reserved | WalStatus::Extended | WalStatus::Unknown => None,
    }
}

/// Of each source that keeps its log for us: how much it may keep, and how much a load of so many seconds may take.
pub(super) async fn rows(plan: &Plan, ports: &Ports, missing: &Missing, loads: &BTreeMap<&str, f64>) -> Vec<CheckRow> {
    let mut rows = Vec::new();
    for store in plan.stores_that_retain_log() {
        let what = format!("log {store}");
        // Its tables have said so.
        if missing.store(plan, store, &what).is_some() {
            continue;
        }
        match ports.changes.named(store).retained_log(true).await {
            Ok(None) => {}
            Err(e) => rows.push(CheckRow::port(what, &e)),
            Ok(Some(look)) => {
                let lost = look.slots.iter().find_map(|slot| match trouble(store, &look, slot) {
                    Some((Level::Error, text)) => Some(text),
                    Some((Level::Info | Level::Warn, _)) | None => None,
                });
                rows.push(match lost {
                    Some(wrong) => CheckRow::bad(what, wrong, "`cutover release`, then begin anew"),
                    None => CheckRow::ok(what, words(&look, loads.get(store).copied().unwrap_or_default())),
                });
            }
        }
    }
    rows
}

/// What a source keeps, may keep, and will have to keep.
fn words(look: &LogLook, load_s: f64) -> String {
    let kept = look.slots.iter().filter_map(|slot| slot.bytes).max();
    let kept = kept.map_or_else(String::new, |bytes| format!("{} are kept for us now; ", size(bytes)));
    let most = match &look.limit {
        None => {
            "without a limit (max_slot_wal_keep_size = -1), so until its disk is full: see that it has room".to_owned()
        }
        Some(limit) => format!(
            "up to max_slot_wal_keep_size = {limit}; beyond that it gives up the slot, and the tables have to be loaded anew"
        ),
    };
    format!(
        "{kept}from the capture step on the server keeps every byte of its log until we have read it, the whole load long, \
         {most}; {}; the slot is on this server alone and not on its standbys, so after a failover of the source the tables are \
         loaded anew",
        takes(look, load_s)
    )
}

/// What the load takes up at the pace of the log since the server's last checkpoint.
fn takes(look: &LogLook, load_s: f64) -> String {
    let Some(LogWritten { bytes, seconds }) = look.written.filter(|written| written.seconds >= LEAST_S) else {
        return "how fast its log grows is not known: the run measures it".to_owned();
    };
    let pace = bytes / seconds;
    let since = brief((seconds * 1000.0) as i64);
    let grows = format!("its log grew {}/s since its last checkpoint {since} ago", size(pace as u64));
    if load_s <= 0.0 {
        return grows;
    }
    let load = pace * load_s;
    let about = format!("{grows}, about {} in a load of {}", size(load as u64), brief((load_s * 1000.0) as i64));
    match look.limit_bytes {
        Some(limit) if load > limit as f64 => format!("{about}: MORE THAN THE LIMIT"),
        Some(_) | None => about,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn slot(name: &str, status: WalStatus, bytes: Option<u64>) -> RetainingSlot {
        RetainingSlot { name: name.to_owned(), bytes, status, ..RetainingSlot::default() }
    }

    #[test]
    fn the_worst_slot_is_what_is_kept_and_what_one_does_not_say_is_not_known() {
        let mut look = LogLook {
            slots: vec![
                slot("a", WalStatus::Reserved, Some(5)),
                RetainingSlot { left: Some(9), ..slot("b", WalStatus::Extended, Some(70)) },
            ],
            ..LogLook::default()
        };
        let found = gauge(&look, Some(2.0), At(3)).unwrap();
        assert_eq!((found.bytes, found.status, found.left), (Some(70), WalStatus::Extended, Some(9)));
        look.slots.push(slot("c", WalStatus::Lost, None));
        let found = gauge(&look, None, At(3)).unwrap();
        assert_eq!((found.bytes, found.status), (None, WalStatus::Lost), "never the smaller number");
        look.slots.clear();
        assert_eq!(gauge(&look, None, At(3)), None, "no slot of ours is not nothing kept");
    }

    #[test]
    fn check_says_the_limit_and_what_a_load_takes_of_it() {
        let mut look =
            LogLook { written: Some(LogWritten { bytes: 600.0 * MB as f64, seconds: 300.0 }), ..LogLook::default() };
        let said = words(&look, 3_600.0);
        for part in [
            "max_slot_wal_keep_size = -1",
            "2.0 MB/s since its last checkpoint 5m00s ago",
            "7.0 GB in a load of 1h00m; the slot is on this server alone",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("LIMIT"), "{said}");
        (look.limit, look.limit_bytes) = (Some("1GB".to_owned()), Some(1024 * MB));
        assert!(words(&look, 3_600.0).contains(": MORE THAN THE LIMIT;"), "{}", words(&look, 3_600.0));
        assert!(!words(&look, 60.0).contains("MORE"), "{}", words(&look, 60.0));
        look.written = None;
        assert!(words(&look, 60.0).contains("is not known: the run measures it"));
    }

    #[test]
    fn a_slot_is_in_trouble_only_once_its_log_may_be_removed() {
        let look = LogLook { limit: Some("1MB".to_owned()), ..LogLook::default() };
        let of = |status| trouble("old", &look, &slot("cutover_shop_1", status, None));
        for fine in [WalStatus::Reserved, WalStatus::Extended, WalStatus::Unknown] {
            assert_eq!(of(fine), None);
        }
        let (level, text) = of(WalStatus::Unreserved).unwrap();
        assert!(level == Level::Warn && text.contains("unreserved, max_slot_wal_keep_size = 1MB"), "{text}");
        let (level, text) = of(WalStatus::Lost).unwrap();
        assert!(level == Level::Error && text.contains("cutover_shop_1 (wal_status = lost"), "{text}");
    }
}
