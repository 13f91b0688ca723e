//! What is wrong with a plan, before it may run.

mod baselines;
mod dials;
mod jobs;
mod movers;
mod proofs;
mod steps;
mod tables;
mod watch;

use std::collections::BTreeSet;

use crate::domain::plan::Plan;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The plan must not run.
    Error,
    /// The plan may run; a person should know.
    Warning,
}

/// One thing the linter found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// Where: a path as in the config: `steps[3].gate`.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// The nearest valid name, if a name is wrong.
    pub nearest: Option<String>,
}

/// Every finding, in the order of the plan.
#[must_use]
pub fn lint(plan: &Plan) -> Vec<Diagnostic> {
    let mut found = Diagnostics::default();
    tables::lint(plan, &mut found);
    movers::lint(plan, &mut found);
    watch::lint(plan, &mut found);
    dials::lint(plan, &mut found);
    steps::lint(plan, &mut found);
    jobs::lint(plan, &mut found);
    found.0
}

/// How much alike two names are that one slip of the hand makes of each other.
const ONE_SLIP: f64 = 0.9;

/// The valid name nearest to a wrong one, when one is near enough to be what was intended.
#[must_use]
pub fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let wrong = wrong.to_lowercase();
    let alike = |name: &str| {
        let name = name.to_lowercase();
        // In a short name two letters that changed places are most of it.
        let one_slip = wrong.chars().count() > 2 && strsim::osa_distance(&wrong, &name) == 1;
        strsim::jaro_winkler(&wrong, &name).max(if one_slip { ONE_SLIP } else { 0.0 })
    };
    names
        .map(|n| (alike(n), n))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, n)| n.to_owned())
}

/// Findings as they come.
#[derive(Default)]
struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(Severity::Error, path, message, None);
    }

    fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(Severity::Warning, path, message, None);
    }

    fn push(
        &mut self,
        severity: Severity,
        path: impl Into<String>,
        message: impl Into<String>,
        nearest: Option<String>,
    ) {
        self.0.push(Diagnostic { severity, path: path.into(), message: message.into(), nearest });
    }

    /// Reports a name that is not one of `names`.
    fn name<'n>(
        &mut self,
        path: impl Into<String>,
        what: &str,
        name: &str,
        names: impl Iterator<Item = &'n str> + Clone,
    ) {
        if !names.clone().any(|n| n == name) {
            let near = nearest(name, names);
            self.push(Severity::Error, path, format!("there is no {what} `{name}`"), near);
        }
    }

    /// Reports ids that are empty, badly formed or taken.
    fn ids<'n>(&mut self, list: &str, what: &str, ids: impl Iterator<Item = &'n str>) {
        let mut seen = BTreeSet::new();
        for (n, id) in ids.enumerate() {
            let path = format!("{list}[{n}].id");
            if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                self.error(path, format!("the id `{id}` must be letters, digits, `-` and `_`"));
            } else if !seen.insert(id) {
                self.error(path, format!("another {what} is called `{id}` already"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_a_strange_one_is_not() {
        let stores = ["new", "old", "archive"];
        let near = |wrong: &str| nearest(wrong, stores.into_iter());
        assert_eq!(near("odl").as_deref(), Some("old"), "two letters changed places");
        assert_eq!(near("nwe").as_deref(), Some("new"));
        assert_eq!(near("Archiv").as_deref(), Some("archive"));
        assert_eq!((near("payments"), near("x")), (None, None));
    }
}
