//! A rehearsal's plan without waits for the clock: `cutover run` knows no other speed than the real one.

use super::scenario::Scenario;

/// Where the hurried day ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// With its last step.
    Whole,
    /// With the thaw.
    Thaw,
    /// With the burn-in, whose gate is held for so many seconds.
    BurnIn(u32),
}

/// What becomes of the plan.
#[derive(Clone, Copy, Debug)]
pub struct ShortPlan {
    /// How long the gate between switch and thaw is held, in seconds, so that a test can do something meanwhile.
    pub switched: u32,
    /// Where the day ends.
    pub last: Last,
    /// Whether latencies, error rates and lag may be as high as on a busy machine: for tests that check only data.
    pub lenient: bool,
}

/// The shop's plan, shortened.
///
/// # Panics
/// As [`shortened_plan`].
#[must_use]
pub fn shortened(how: ShortPlan) -> String {
    shortened_plan(Scenario::Cloudshelf, how)
}

/// A scenario's plan with planned starts dropped and holds and settling times cut to a second. Work stays what it is.
///
/// # Panics
/// When the shipped plan does not say any more what is replaced here; a test holds the two together.
#[must_use]
pub fn shortened_plan(scenario: Scenario, how: ShortPlan) -> String {
    let file = scenario.file();
    let swap = |text: String, from: &str, to: &str| {
        assert!(text.contains(from), "assets/{file} has no {from:?} any more");
        text.replace(from, to)
    };
    let mut text = swap(scenario.plan().into_owned(), "start = \"at_planned\"\n", "");
    for hold in ["2m", "1m", "10m"] {
        text = swap(text, &format!("hold = \"{hold}\""), "hold = \"1s\"");
    }
    let pause = format!("hold = \"{}s\"\ngive_up = \"{}s\"", how.switched.max(1), how.switched + 60);
    text = swap(text, "hold = \"5s\"\ngive_up = \"30s\"", &pause);
    text = swap(text, "settle = \"3s\"", "settle = \"1s\"");
    text = swap(text, "settle = \"2s\"", "settle = \"1s\"");
    if how.lenient {
        text = swap(text, "< 500\"", "< 60000\"");
        text = swap(text, "errors < 1\"", "errors < 60\"");
        text = swap(text, "lag < 5\"", "lag < 60\"");
    }
    let after = match how.last {
        Last::Whole => return text,
        Last::Thaw => "burn-in",
        Last::BurnIn(seconds) => {
            let held = format!("hold = \"{}s\"\ngive_up = \"2h\"", seconds.max(1));
            text = swap(text, "hold = \"1s\"\ngive_up = \"12m\"", &held);
            "functional-tests"
        }
    };
    let after = format!("[[steps]]\nid = \"{after}\"");
    assert!(text.contains(&after), "assets/{file} has no step {after:?} any more");
    text.truncate(text.find(&after).unwrap_or(text.len()));
    text
}

/// `--answer` for everything that a plan asks of people, votes excepted: what a process needs besides `--yes`.
#[must_use]
pub fn answers(config: &str) -> Vec<String> {
    let steps = config.split("[[steps]]").skip(1);
    let asks = |step: &&str| {
        step.contains("\nkind = \"manual\"")
            || (step.contains("\nkind = \"go-no-go\"") && !step.contains("\nvoters = "))
    };
    let id = |step: &str| step.split("\nid = \"").nth(1)?.split('"').next().map(|id| format!("{id}=stand-in"));
    steps.filter(asks).filter_map(id).flat_map(|answer| ["--answer".to_owned(), answer]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_plan_can_be_hurried() {
        Scenario::ALL.into_iter().for_each(can_be_hurried);
    }

    fn can_be_hurried(scenario: Scenario) {
        let shortened = |how| shortened_plan(scenario, how);
        let to_thaw = shortened(ShortPlan { switched: 7, last: Last::Thaw, lenient: false });
        assert!(
            to_thaw.contains("hold = \"7s\"\ngive_up = \"67s\"") && !to_thaw.contains("[[steps]]\nid = \"burn-in\"")
        );
        assert!(!to_thaw.contains("at_planned\"\n") && !to_thaw.contains("hold = \"10m\""));
        assert_eq!(
            answers(&to_thaw),
            ["team-assembly", "communication", "go-no-go"]
                .into_iter()
                .flat_map(|id| ["--answer".to_owned(), format!("{id}=stand-in")])
                .collect::<Vec<_>>()
        );
        let to_burn_in = shortened(ShortPlan { switched: 0, last: Last::BurnIn(90), lenient: true });
        assert!(to_burn_in.contains("hold = \"90s\"\ngive_up = \"2h\""));
        assert!(!to_burn_in.contains("[[steps]]\nid = \"functional-tests\""));
        assert!(
            shortened(ShortPlan { switched: 0, last: Last::Whole, lenient: false })
                .contains("id = \"functional-tests\"")
        );
    }
}
