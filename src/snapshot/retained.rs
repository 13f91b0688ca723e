//! What sources keep of their logs for us, in words.

use super::build::Context;
use super::words::{length, minutes};
use super::{Health, RetainedRow};
use crate::domain::gauge::{RetainedLog, WalStatus, size};

/// Older than this a number is not known any more, in milliseconds.
const STALE_MS: i64 = 15_000;
/// Shares of the server's limit from which it needs attention, and is red, in percent.
const WARN_FROM: f64 = 50.0;
const FAIL_FROM: f64 = 90.0;

/// One row for each source that keeps anything for us, in the order of their names.
pub(super) fn rows(cx: &Context<'_>) -> Vec<RetainedRow> {
    let each = cx.measured.retained.iter();
    each.map(|(store, log)| row(store, log, cx.measured.at.since(log.at).saturating_abs() > STALE_MS)).collect()
}

fn row(store: &str, log: &RetainedLog, stale: bool) -> RetainedRow {
    let log = log.clone();
    // That a slot is lost does not change any more, however long ago it was seen.
    if log.status == WalStatus::Lost {
        return RetainedRow {
            store: store.to_owned(),
            log,
            text: "the source has given up our slot: load the tables anew".to_owned(),
            brief: "slot LOST: load anew".to_owned(),
            health: Health::Fail,
        };
    }
    let kept = log.bytes.filter(|_| !stale).map_or_else(|| "?".to_owned(), size);
    let written = match log.pace.filter(|_| !stale) {
        Some(pace) => format!("{}/s are written", size(pace as u64)),
        None => "?/s are written".to_owned(),
    };
    let short = |ms: i64| if ms < 3_600_000 { minutes(ms.max(0)) } else { length(ms) };
    let end = match (log.limit, log.left, log.lost_in_ms()) {
        _ if stale => None,
        _ if log.status == WalStatus::Unreserved => Some("ABOUT TO BE LOST".to_owned()),
        (None, ..) => None,
        (Some(_), _, Some(ms)) => Some(format!("full in {}", short(ms))),
        (Some(_), Some(left), None) => Some(format!("{} left", size(left))),
        (Some(_), None, None) => Some("? left".to_owned()),
    };
    let health = match log.used() {
        _ if log.status == WalStatus::Unreserved => Health::Fail,
        _ if stale || log.bytes.is_none() => Health::Unknown,
        Some(used) if used >= FAIL_FROM => Health::Fail,
        Some(used) if used >= WARN_FROM => Health::Warn,
        Some(_) | None if log.status == WalStatus::Extended => Health::Watch,
        Some(_) | None => Health::Ok,
    };
    let ends = |so: &str| end.as_ref().map_or_else(String::new, |end| format!("{so}{end}"));
    RetainedRow {
        store: store.to_owned(),
        text: format!("the source keeps {kept} of log for us, {written}{}", ends("; ")),
        brief: format!("log {kept}{}", ends(", ")),
        log,
        health,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::at::At;

    const GB: u64 = 1 << 30;

    fn log() -> RetainedLog {
        RetainedLog {
            bytes: Some(3 * GB),
            status: WalStatus::Reserved,
            pace: Some(2.0 * (1 << 20) as f64),
            at: At(1),
            ..RetainedLog::default()
        }
    }

    #[test]
    fn what_is_kept_is_said_with_its_pace_and_without_an_end_that_nobody_knows() {
        let said = row("old", &log(), false);
        assert_eq!(said.text, "the source keeps 3.0 GB of log for us, 2.0 MB/s are written");
        assert_eq!((said.brief.as_str(), said.health), ("log 3.0 GB", Health::Ok));
        let bounded = RetainedLog { limit: Some(4 * GB), left: Some(GB), ..log() };
        let said = row("old", &bounded, false);
        assert_eq!(said.text, "the source keeps 3.0 GB of log for us, 2.0 MB/s are written; full in 08:32");
        assert_eq!((said.brief.as_str(), said.health), ("log 3.0 GB, full in 08:32", Health::Warn));
        let full = RetainedLog { left: Some(GB / 100), ..bounded };
        assert_eq!(row("old", &full, false).health, Health::Fail);
    }

    #[test]
    fn what_is_old_or_was_not_said_is_not_known() {
        let said = row("old", &log(), true);
        assert_eq!(
            (said.text.as_str(), said.health),
            ("the source keeps ? of log for us, ?/s are written", Health::Unknown)
        );
        let said = row("old", &RetainedLog { bytes: None, pace: None, ..log() }, false);
        assert_eq!((said.brief.as_str(), said.health), ("log ?", Health::Unknown));
    }

    #[test]
    fn a_slot_that_is_about_to_be_lost_or_is_lost_is_red_however_old_that_is() {
        let near = RetainedLog { status: WalStatus::Unreserved, limit: Some(GB), left: Some(0), ..log() };
        assert_eq!(row("old", &near, false).brief, "log 3.0 GB, ABOUT TO BE LOST");
        assert_eq!(row("old", &near, true).health, Health::Fail);
        let lost = RetainedLog { status: WalStatus::Lost, bytes: None, ..near };
        let said = row("old", &lost, true);
        assert_eq!((said.brief.as_str(), said.health), ("slot LOST: load anew", Health::Fail));
    }
}
