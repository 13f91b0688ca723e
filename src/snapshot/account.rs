//! What became of every row, in one sentence: the same on the screen, in the closing block and in `status`.

use super::Health;
use super::build::Context;
use super::words::grouped;
use crate::domain::at::At;
use crate::domain::run::{RunStatus, VerifySummary};

/// The account of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Account {
    /// `1,502 rows at 02:14:05: 1,499 arrived, 3 parked, 0 expired, 0 left behind`.
    pub text: String,
    /// `ok` when every row arrived or expired, `look` when some are parked, `fail` when some are lost or wrong.
    pub health: Health,
}

/// Where every row is: on the new side after going forward, on the old side after a rollback.
pub(super) fn account(cx: &Context<'_>) -> Account {
    match cx.state.status {
        RunStatus::RolledBack | RunStatus::RollingBack | RunStatus::Stuck => back(cx),
        RunStatus::Prepared | RunStatus::Running | RunStatus::Paused | RunStatus::Finished => forward(cx),
    }
}

/// Rows of all tables by what became of them, as the last comparisons counted them, with the time of the oldest of
/// these.
fn forward(cx: &Context<'_>) -> Account {
    let mut sum = VerifySummary::default();
    let mut parked = Some(0);
    let mut oldest: Option<At> = None;
    for table in &cx.plan.tables {
        let Some((compared, v)) = cx.state.tables.get(&table.id).and_then(|t| t.verified.as_ref()) else {
            let text = format!("? rows: {} was never compared", table.id);
            return Account { text, health: Health::Unknown };
        };
        oldest = Some(oldest.map_or(*compared, |at| at.min(*compared)));
        sum.equal += v.equal;
        sum.mismatched += v.mismatched;
        sum.missing += v.missing;
        sum.extra += v.extra;
        sum.parked += v.parked;
        sum.expired += v.expired;
        let live = cx.measured.tables.get(&table.id).filter(|g| g.parked_at.0 > 0);
        parked = parked.zip(live).map(|(all, g)| all + g.parked.values().sum::<u64>());
    }
    let arrived = sum.equal + sum.mismatched;
    let all = arrived + sum.parked + sum.expired + sum.missing;
    let differ = if sum.mismatched > 0 { format!(" ({} differ)", grouped(sum.mismatched)) } else { String::new() };
    let mut text = format!(
        "{} rows at {}: {} arrived{differ}, {} parked, {} expired, {} left behind",
        grouped(all),
        oldest.map_or_else(|| "?".to_owned(), |at| at.clock_on(cx.now)),
        grouped(arrived),
        grouped(sum.parked),
        grouped(sum.expired),
        grouped(sum.missing)
    );
    if sum.extra > 0 {
        text.push_str(&format!(", {} that the old side has not", grouped(sum.extra)));
    }
    if let Some(now) = parked.filter(|now| *now != sum.parked) {
        text.push_str(&format!("; {} parked now", grouped(now)));
    }
    let health = match (sum.differing(), sum.parked.max(parked.unwrap_or(0))) {
        (0, 0) => Health::Ok,
        (0, _) => Health::Warn,
        _ => Health::Fail,
    };
    Account { text, health }
}

/// What customers wrote on the new side and where it is now.
fn back(cx: &Context<'_>) -> Account {
    let carried: u64 = cx.state.reverse.values().filter_map(|r| r.carried).sum();
    let told = cx.state.reverse.values().any(|r| r.carried.is_some());
    let left = if told {
        cx.state.reverse.values().filter(|r| r.carried.is_some()).map(|r| r.left).sum::<Option<u64>>()
    } else {
        super::rollback::at_risk(cx)
    };
    let text = match left {
        Some(left) => {
            format!("writes of the new side: {} carried back, {} left behind", grouped(carried), grouped(left))
        }
        None => format!("writes of the new side: {} carried back, ? left behind", grouped(carried)),
    };
    let health = match left {
        None => Health::Unknown,
        Some(0) => Health::Ok,
        Some(_) => Health::Fail,
    };
    Account { text, health }
}
