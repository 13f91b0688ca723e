//! Switches with positions: what each position must say, and where steps send them.

use std::collections::{BTreeMap, BTreeSet};

use super::Diagnostics;
use crate::domain::plan::{Dial, Plan, Position, Side, StepKind, ValueRef};

pub(super) fn lint(plan: &Plan, found: &mut Diagnostics) {
    found.ids("dials", "switch", plan.dials.iter().map(|d| d.id.as_str()));
    for (n, dial) in plan.dials.iter().enumerate() {
        let path = format!("dials[{n}]");
        let other = plan.switches.iter().any(|s| s.id == dial.id && !dial.places.contains(&s.id));
        if other {
            found.error(format!("{path}.id"), format!("another switch is called `{}` already", dial.id));
        }
        positions(dial, &path, found);
        places(plan, dial, &path, found);
    }
    steps(plan, found);
}

fn positions(dial: &Dial, path: &str, found: &mut Diagnostics) {
    if dial.positions.len() < 2 {
        found.error(format!("{path}.positions"), "a switch with one position never moves: name two at least");
    }
    let mut names = BTreeSet::new();
    for (n, position) in dial.positions.iter().enumerate() {
        let path = format!("{path}.positions[{n}]");
        let Position { name, serves, values } = position;
        if !names.insert(name.trim().to_lowercase()) {
            found.error(format!("{path}.name"), format!("another position is called `{name}` already"));
        }
        match (serves.reads, serves.writes, serves.share) {
            (None, None, _) => {
                let message =
                    format!("position `{name}` says nothing: who serves `reads` in it, who takes `writes`, or both");
                found.error(&path, message);
            }
            (reads, _, Some(share)) if reads != Some(Side::Both) || !(1..=99).contains(&share) => {
                let message = "a share is from 1 to 99 percent, where both sides serve reads: `reads = \"both\"`";
                found.error(format!("{path}.share"), message);
            }
            (_, Some(Side::Both), Some(_)) => {
                let message = "a share of the reads while the application writes to both sides: which side a reader is \
                               answered by would decide what it sees; move reads before or after it";
                found.error(format!("{path}.share"), message);
            }
            (Some(_), _, _) | (_, Some(_), _) => {}
        }
        let Some(before) = n.checked_sub(1).and_then(|n| dial.positions.get(n)) else { continue };
        if *values == before.values {
            let message =
                format!("every place holds the same in `{}` and in `{name}`: nothing would switch", before.name);
            found.error(&path, message);
        }
        let decides = |p: &Position| (p.serves.reads.is_some(), p.serves.writes.is_some());
        if decides(position) != decides(before) {
            let message = format!(
                "position `{name}` says who serves what `{}` does not say: each position says it of the same",
                before.name
            );
            found.error(&path, message);
        }
    }
}

fn places(plan: &Plan, dial: &Dial, path: &str, found: &mut Diagnostics) {
    for id in &dial.places {
        let Some(at) = plan.switches.iter().position(|s| s.id == *id) else { continue };
        if plan.freezes(id) {
            let message = format!("`{id}` is a place of `{}`: writes are frozen by a switch of their own", dial.id);
            found.error("freeze.switch", message);
        }
        let values: Vec<Option<&ValueRef>> = (0..dial.positions.len()).map(|n| dial.value(id, n)).collect();
        let literal = values.iter().flatten().position(|value| matches!(value, ValueRef::Literal(_)));
        if let Some(n) = literal.filter(|_| plan.switches[at].secret()) {
            let message =
                "values of a SecureString must be referred to: { env = ... }, { file = ... } or { parameter = ... }";
            found.error(format!("switches[{at}].values[{n}]"), message);
        }
        if let Some(n) = values.iter().flatten().position(|value| **value == ValueRef::Literal(String::new())) {
            found.error(format!("switches[{at}].values[{n}]"), "this must not be empty");
        }
    }
    let twice = |id: &String| dial.places.iter().filter(|other| *other == id).count() > 1;
    if let Some(id) = dial.places.iter().find(|id| twice(id)) {
        found.error(format!("{path}.places"), format!("`{id}` is named twice"));
    }
}

/// The switches that a step sends to a position they do not have, or that are not there. The name is what is wrong and is
/// said; what the step needs follows once it is right.
pub(super) fn misnamed<'p>(plan: &'p Plan, kind: &'p StepKind) -> impl Iterator<Item = &'p str> {
    let to = if let StepKind::Switch { to, .. } = kind { Some(to) } else { None };
    let unknown = move |(id, name): &(&String, &String)| plan.dial(id).is_none_or(|dial| dial.position(name).is_none());
    to.into_iter().flatten().filter(unknown).map(|(id, _)| id.as_str())
}

/// Where steps send them.
fn steps(plan: &Plan, found: &mut Diagnostics) {
    let mut moved = BTreeSet::new();
    for (n, step) in plan.steps.iter().enumerate() {
        let StepKind::Switch { switches, to } = &step.kind else { continue };
        for (s, id) in switches.iter().enumerate() {
            let path = format!("steps[{n}].switches[{s}]");
            if plan.dial(id).is_some() {
                found.error(path, format!("`{id}` has positions: write `to = {{ {id} = \"POSITION\" }}`"));
            } else if let Some(dial) = plan.dial_of(id) {
                found.error(path, format!("`{id}` is a place of `{}`: all of them are set together, by `to`", dial.id));
            }
        }
        for (id, name) in to {
            let path = format!("steps[{n}].to.{id}");
            let Some(dial) = plan.dial(id) else {
                if plan.switch(id).is_some() {
                    found.error(path, format!("`{id}` has no positions: name it under `switches`"));
                } else {
                    found.name(path, "switch with positions", id, plan.dials.iter().map(|d| d.id.as_str()));
                }
                continue;
            };
            moved.insert(id.as_str());
            found.name(&path, "position", name, dial.positions.iter().map(|p| p.name.as_str()));
            let stands = plan.stands_before(n, dial);
            if dial.position(name) == Some(stands) {
                found.error(path, format!("`{id}` stands in `{name}` already"));
            }
        }
    }
    for (n, dial) in plan.dials.iter().enumerate() {
        if !moved.contains(dial.id.as_str()) {
            found.warn(format!("dials[{n}].id"), format!("no step switches `{}`", dial.id));
        }
    }
    together(plan, found);
}

/// Reads that stay behind when writes go: who reads would not see what customers write.
fn together(plan: &Plan, found: &mut Diagnostics) {
    for (n, step) in plan.steps.iter().enumerate().filter(|(_, step)| plan.moves_writes(&step.id)) {
        let mut left: BTreeMap<&str, &str> = BTreeMap::new();
        // Where a step before sends it nowhere, that name is what is wrong.
        let lost: BTreeSet<&str> = plan.steps[..=n].iter().flat_map(|step| misnamed(plan, &step.kind)).collect();
        for dial in plan.dials.iter().filter(|dial| !lost.contains(dial.id.as_str())) {
            let at = plan.stands_before(n + 1, dial);
            let Some(position) = dial.positions.get(at) else { continue };
            if position.serves.new_reads().is_some_and(|share| share < 100) {
                left.insert(&dial.id, &position.name);
            }
        }
        for (dial, position) in left {
            let message = format!(
                "`{}` moves writes to the new side while `{dial}` stands in `{position}`: readers of the old side would not \
                 see what customers write",
                step.id
            );
            found.error(format!("steps[{n}].kind"), message);
        }
    }
}
