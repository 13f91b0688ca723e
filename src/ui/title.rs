//! The window title: readable from a task bar while another window has the focus.

use crate::domain::run::RunStatus;
use crate::snapshot::{Mode, Snapshot};

/// `cutover orders [PROD] 07/18 63%`; how the run stands replaces the step where that says more.
#[must_use]
pub fn title(snapshot: &Snapshot) -> String {
    let mut parts = vec!["cutover".to_owned()];
    parts.extend((!snapshot.plan.is_empty()).then(|| snapshot.plan.clone()));
    match snapshot.mode {
        Mode::Live => parts.extend(snapshot.production.then(|| "[PROD]".to_owned())),
        Mode::Rehearsal { .. } => parts.push("[REHEARSAL]".to_owned()),
        Mode::Replay { .. } => parts.push("[REPLAY]".to_owned()),
    }
    let step = snapshot.current.and_then(|i| snapshot.steps.get(i));
    let word = match snapshot.status {
        RunStatus::RollingBack => Some("ROLLING BACK"),
        RunStatus::Stuck => Some("STUCK"),
        RunStatus::RolledBack => Some("rolled back"),
        RunStatus::Finished => Some("finished"),
        RunStatus::Paused => Some("paused"),
        _ if step.is_some_and(|s| s.need.is_some()) => Some("WAITS"),
        _ => None,
    };
    let ended = matches!(
        snapshot.status,
        RunStatus::RollingBack | RunStatus::RolledBack | RunStatus::Finished | RunStatus::Stuck
    );
    if let Some(step) = step.filter(|_| !ended) {
        parts.push(format!("{:02}/{:02}", step.number, snapshot.steps.len()));
        if let Some((done, whole)) = step.progress.filter(|(_, whole)| *whole > 0) {
            // Rounded down: 100 % is only said when it is all.
            let percent = u128::from(done.min(whole)) * 100 / u128::from(whole);
            parts.push(format!("{percent}%"));
        }
    }
    parts.extend(word.map(str::to_owned));
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::run::Need;
    use crate::snapshot::StepRow;

    #[test]
    fn titles_say_where_the_run_stands() {
        let step = StepRow { number: 7, progress: Some((6_399, 10_000)), ..StepRow::default() };
        let mut s = Snapshot { plan: "orders".into(), steps: vec![step; 18], current: Some(6), ..Snapshot::default() };
        s.status = RunStatus::Running;
        assert_eq!(title(&s), "cutover orders 07/18 63%");
        s.production = true;
        s.steps[6].need = Some(Need::Key);
        assert_eq!(title(&s), "cutover orders [PROD] 07/18 63% WAITS");
        s.status = RunStatus::RollingBack;
        assert_eq!(title(&s), "cutover orders [PROD] ROLLING BACK");
        assert_eq!(title(&Snapshot::default()), "cutover");
    }
}
