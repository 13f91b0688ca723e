//! What is wrong with a plan, before it may run.

use super::Plan;

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
pub struct Finding {
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
pub fn lint(plan: &Plan) -> Vec<Finding> {
    let _ = plan;
    Vec::new()
}
