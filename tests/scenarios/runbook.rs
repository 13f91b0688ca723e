//! Plans that would switch without proof, and runs that would go on without an answer.

use cutover::domain::lint::{Severity, lint};
use cutover::domain::plan::{AfterLoad, ColumnSource, Fires, Plan, Step, StepKind};

use super::shipped;

fn errors(plan: &Plan) -> Vec<String> {
    lint(plan).into_iter().filter(|f| f.severity == Severity::Error).map(|f| f.message).collect()
}

fn without(kind: &str) -> Plan {
    let mut plan = (*shipped()).clone();
    plan.steps.retain(|s| s.kind.name() != kind);
    plan
}

fn place(plan: &Plan, kind: &str) -> usize {
    plan.steps.iter().position(|s| s.kind.name() == kind).expect(kind)
}

/// The plan with a step of one kind moved behind the first of another; times follow the order.
fn moved(kind: &str, behind: &str) -> Plan {
    let mut plan = (*shipped()).clone();
    let at = place(&plan, kind);
    let step = plan.steps.remove(at);
    let to = place(&plan, behind) + 1;
    let time = plan.steps[to - 1].at_ms;
    plan.steps.insert(to, Step { at_ms: time, ..step });
    plan
}

#[test]
fn a_runbook_that_leaves_out_a_proof_may_not_run() {
    assert_eq!(errors(&shipped()), [""; 0], "the shipped plan is sound");
    for (kind, says) in [
        ("capture", "changes made during the load would be lost"),
        ("load", "no `load` step"),
        ("arm", "the values to go back to must be captured first"),
        ("freeze", "both sides would take writes"),
        ("drain", "writes made before the freeze could be missing"),
        ("thaw", "customers could never write again"),
        ("preflight", "nothing has looked at the stores yet"),
    ] {
        let found = errors(&without(kind));
        assert!(found.iter().any(|m| m.contains(says)), "without {kind}: {found:#?}");
    }
}

#[test]
fn a_runbook_in_the_wrong_order_may_not_run() {
    for (kind, behind) in [
        ("capture", "load"),
        ("drain", "switch"),
        ("freeze", "switch"),
        ("arm", "switch"),
        ("drain", "thaw"),
        ("freeze", "drain"),
    ] {
        let found = errors(&moved(kind, behind));
        assert!(!found.is_empty(), "{kind} may come after {behind}");
    }
}

#[test]
fn a_gate_may_not_ask_for_what_nothing_has_measured() {
    let mut plan = (*shipped()).clone();
    let gate = plan.steps.iter().position(|s| matches!(&s.kind, StepKind::Gate { gate } if gate == "in-sync")).unwrap();
    let step = plan.steps.remove(gate);
    plan.steps.insert(0, Step { at_ms: plan.steps[0].at_ms, ..step });
    let found = errors(&plan);
    assert!(found.iter().any(|m| m.contains("which nothing has measured")), "{found:#?}");
}

#[test]
fn a_target_key_that_a_customer_can_change_may_not_be_used() {
    // An update would leave the row under its old key behind: keys come from key attributes, which never change.
    let mut plan = (*shipped()).clone();
    let column = plan.tables[0].columns.iter_mut().find(|c| c.key).expect("a key column");
    column.from = ColumnSource::Attribute(vec!["isbn".into()]);
    let found = errors(&plan);
    assert!(found.iter().any(|m| m.contains("must come from a key attribute")), "{found:#?}");
}

#[test]
fn a_runbook_that_ends_early_says_what_its_tables_lack() {
    let warnings = |plan: &Plan| -> Vec<String> {
        lint(plan).into_iter().filter(|f| f.severity == Severity::Warning).map(|f| f.message).collect()
    };
    let lacks = ["which prove foreign keys", "which enables triggers"];
    let mut plan = (*shipped()).clone();
    let sql = String::new;
    plan.tables[0].after_load = vec![
        AfterLoad::ForeignKey { name: "k".into(), sql: sql() },
        AfterLoad::Trigger { name: "t".into(), sql: sql(), fires: Fires::Usually },
    ];
    let whole = warnings(&plan);
    assert!(!whole.iter().any(|m| lacks.iter().any(|lack| m.contains(lack))), "{whole:#?}");
    let load = place(&plan, "load");
    plan.steps.truncate(load + 1);
    let early = warnings(&plan);
    for lack in lacks {
        assert!(early.iter().any(|m| m.contains(lack)), "{lack}: {early:#?}");
    }
}
