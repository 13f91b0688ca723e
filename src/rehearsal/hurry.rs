//! The rehearsal's plan without waits for the clock: `cutover run` knows no other speed than the real one.

/// The shipped rehearsal plan.
pub const PLAN: &str = include_str!("../../assets/rehearsal.toml");

/// How long the two places of the day last at which something is done to it, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// How long the gate between switch and thaw is held.
    pub switched: u32,
    /// How long the burn-in after the thaw is held; without it the day ends at the thaw.
    pub burn_in: Option<u32>,
    /// Whether latencies, error rates and lag may be what a busy machine makes of them: when data is what is looked at.
    pub lenient: bool,
}

/// The plan with planned starts dropped and holds and settling times cut to a second. Work stays what it is.
///
/// # Panics
/// When the shipped plan does not say any more what is replaced here; a test holds the two together.
#[must_use]
pub fn hurried(pauses: Pauses) -> String {
    let swap = |text: String, from: &str, to: &str| {
        assert!(text.contains(from), "assets/rehearsal.toml has no {from:?} any more");
        text.replace(from, to)
    };
    let mut text = swap(PLAN.to_owned(), "start = \"at_planned\"\n", "");
    for hold in ["2m", "1m", "10m"] {
        text = swap(text, &format!("hold = \"{hold}\""), "hold = \"1s\"");
    }
    let pause = format!("hold = \"{}s\"\ngive_up = \"{}s\"", pauses.switched.max(1), pauses.switched + 60);
    text = swap(text, "hold = \"5s\"\ngive_up = \"30s\"", &pause);
    text = swap(text, "settle = \"3s\"", "settle = \"1s\"");
    text = swap(text, "settle = \"2s\"", "settle = \"1s\"");
    if pauses.lenient {
        text = swap(text, "< 500\"", "< 60000\"");
        text = swap(text, "errors < 1\"", "errors < 60\"");
        text = swap(text, "lag < 5\"", "lag < 60\"");
    }
    match pauses.burn_in {
        None => {
            let end = text.find("[[steps]]\nid = \"burn-in\"").unwrap_or(text.len());
            text.truncate(end);
        }
        Some(seconds) => {
            let held = format!("hold = \"{}s\"\ngive_up = \"2h\"", seconds.max(1));
            text = swap(text, "hold = \"1s\"\ngive_up = \"2h\"", &held);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_plan_can_be_hurried() {
        let to_thaw = hurried(Pauses { switched: 7, burn_in: None, lenient: false });
        assert!(
            to_thaw.contains("hold = \"7s\"\ngive_up = \"67s\"")
                && !to_thaw.contains("id = \"burn-in\"\ntitle = \"watch")
        );
        assert!(!to_thaw.contains("at_planned\"\n") && !to_thaw.contains("hold = \"10m\""));
        assert!(
            hurried(Pauses { switched: 0, burn_in: Some(90), lenient: true })
                .contains("hold = \"90s\"\ngive_up = \"2h\"")
        );
    }
}
