//! The rest of a proposed config: switches, freeze, probes, gates and a runbook, to be made the reader's own.

/// A day with one freeze, as text of a config. `name` is the plan's.
#[must_use]
pub fn day(name: &str) -> String {
    include_str!("../../../assets/init-day.toml").replace("@NAME@", name)
}
