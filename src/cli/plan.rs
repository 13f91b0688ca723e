//! `cutover plan`: what will happen, in order, with its hash, its planned times and its undo.

use std::io::{self, Write};

use crate::domain::at::{brief, t_offset};
use crate::domain::lint::{Severity, lint};
use crate::domain::plan::{Confirm, Move, Plan, Start, StepKind};
use crate::domain::run::{Left, ways_back};

/// Writes the plan for people. Warnings of the linter come first.
pub fn write(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "plan {}   environment {}{}", plan.name, plan.environment, prod(plan))?;
    writeln!(out, "hash {}", plan.hash())?;
    for finding in lint(plan).iter().filter(|f| f.severity == Severity::Warning) {
        writeln!(out, "warning: {}: {}", finding.path, finding.message)?;
    }
    writeln!(out)?;
    writeln!(out, "  #  planned    takes     kind       owner            step")?;
    for (n, step) in plan.steps.iter().enumerate() {
        let title = match &step.kind {
            StepKind::Switch { switches, to } => {
                let to = to.iter().map(|(dial, position)| format!("{dial} to {position}"));
                format!("{}  [{}]", step.title, switches.iter().cloned().chain(to).collect::<Vec<_>>().join(", "))
            }
            StepKind::Gate { gate } => format!("{}  [{}]", step.title, criteria(plan, gate)),
            StepKind::GoNoGo { gates, voters, quorum } => {
                let each: Vec<String> = gates.iter().map(|g| criteria(plan, g)).collect();
                format!(
                    "{}  [{}; {quorum} of {} votes: {}]",
                    step.title,
                    each.join("; "),
                    voters.len(),
                    voters.join(", ")
                )
            }
            _ => step.title.clone(),
        };
        writeln!(
            out,
            "{:>3}  {:<9}  {:<8}  {:<9}  {:<15}  {}{}{}{}",
            n + 1,
            t_offset(step.at_ms),
            brief(step.takes_ms),
            step.kind.name(),
            step.owner,
            title,
            if step.start == Start::AtPlanned { "  (not before its time)" } else { "" },
            match &step.confirm {
                Confirm::None => String::new(),
                Confirm::Key => "  (asks for a key)".to_owned(),
                Confirm::Word(word) => format!("  (asks for the word {word})"),
            },
            if step.two_person { "  (needs a second person)" } else { "" }
        )?;
        if !step.undo.is_empty() {
            writeln!(out, "{:>54}undo: {}", "", step.undo)?;
        }
    }
    writeln!(out)?;
    writeln!(out, "switches")?;
    for switch in plan.switches.iter().filter(|switch| plan.dial_of(&switch.id).is_none()) {
        writeln!(
            out,
            "  {:<12} {:<44} -> {}{}",
            switch.id,
            switch.place(),
            switch.to_label(),
            if plan.freezes(&switch.id) { "  (freezes writes)" } else { "" }
        )?;
    }
    positions(plan, out)?;
    back(plan, out)?;
    by_movers(plan, out)?;
    by_rule(plan, out)
}

/// Switches that have positions: who serves what in each, and what each place holds there.
fn positions(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    for dial in &plan.dials {
        writeln!(out, "\n{} ({})", dial.id, dial.title)?;
        for (at, position) in dial.positions.iter().enumerate() {
            writeln!(out, "  {:<12} {}", position.name, position.serves.words())?;
            for switch in dial.places.iter().filter_map(|id| plan.switch(id)) {
                let value = dial.value(&switch.id, at).map_or("?", |value| switch.shown(value));
                writeln!(out, "  {:<12}   {:<44} {value}", "", switch.place())?;
            }
        }
    }
    Ok(())
}

/// Where `b` and `R R` lead from where, and what that costs.
fn back(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    let all = ways_back(plan);
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nway back (how long it takes is measured on the day: `rollback --what-if`, and the screen)")?;
    writeln!(
        out,
        "  {:<20} {:<24} {:<34} writes made on the new side alone",
        "once this is done", "b leads to", "R R"
    )?;
    for way in all {
        let one = way.one_step.unwrap_or_else(|_| "-".to_owned());
        let Some(price) = way.rollback else {
            writeln!(out, "  {:<20} {one:<24} {:<34} nothing leads back", way.step.id, "-")?;
            continue;
        };
        let s = |n: usize| if n == 1 { "" } else { "s" };
        let mut does = format!("puts {} place{} back", price.places, s(price.places));
        if price.restarts > 0 {
            does.push_str(&format!(", {} restart{}", price.restarts, s(price.restarts)));
        }
        let writes = match (price.writes, price.refuses_writes) {
            (Left::None, _) => "none",
            (Left::CarriedBack, false) => "applied to the old side",
            (Left::CarriedBack, true) => "applied to the old side; writes are refused during the restarts",
            (Left::Stay, false) => "STAY THERE",
            (Left::Stay, true) => "STAY THERE; writes are refused during the restarts",
        };
        writeln!(out, "  {:<20} {one:<24} {does:<34} {writes}", way.step.id)?;
    }
    Ok(())
}

/// Which tables the console does not move itself.
fn by_movers(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    for of in plan.movers() {
        writeln!(out, "\nmoved by {} from {} to {}", of.kind.name(), of.from, of.to)?;
        for table in &of.tables {
            writeln!(out, "  {}", table.source)?;
        }
    }
    Ok(())
}

/// What the rules gave: nowhere else does the plan's text say which tables these are.
fn by_rule(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    for Move { from, to, include, exclude } in &plan.moves {
        let but = if exclude.is_empty() { String::new() } else { format!(" but {}", exclude.join(", ")) };
        let theirs: Vec<&str> = plan
            .tables
            .iter()
            .filter(|t| t.from == *from && t.to == *to && t.source == t.target)
            .map(|t| t.source.as_str())
            .collect();
        writeln!(out, "\nmoves from {from} to {to}: {}{but}", include.join(", "))?;
        for table in theirs {
            writeln!(out, "  {table}")?;
        }
    }
    Ok(())
}

fn prod(plan: &Plan) -> &'static str {
    if plan.production { "  [PROD]" } else { "" }
}

fn criteria(plan: &Plan, gate: &str) -> String {
    let Some(gate) = plan.gate(gate) else { return "?".to_owned() };
    let all: Vec<String> = gate.criteria.iter().map(|c| c.words(|v| v.to_string())).collect();
    let hold = if gate.hold_ms > 0 { format!(" for {}", brief(gate.hold_ms)) } else { String::new() };
    format!("{}{hold}", all.join(", "))
}
