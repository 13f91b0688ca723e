//! Tables that one of two databases has and the plan does not speak of: they stay as they are.

use std::collections::BTreeSet;

use super::rights::in_schema;
use crate::domain::plan::Plan;
use crate::ports::Surroundings;
use crate::workers::preflight::CheckRow;

/// Tables named on either side.
const NAMED: usize = 10;

/// How many tables both sides have, how many move, and which of either side the plan leaves alone. Of the new side only
/// those beside tables of the plan, in the same schemas.
pub(super) fn row(plan: &Plan, (from, to): (&str, &str), old: &Surroundings, new: &Surroundings) -> CheckRow {
    let moving = plan.tables.iter().filter(|table| table.from == from && table.to == to);
    let moves: BTreeSet<String> = moving.map(|table| in_schema(&table.source)).collect();
    let stays = plan.stays.iter().filter(|table| table.from == from).map(|table| in_schema(&table.source));
    // Tables of other stores go to the new side as well.
    let known: BTreeSet<String> = plan
        .tables
        .iter()
        .filter(|table| table.from == from)
        .map(|table| in_schema(&table.source))
        .chain(stays)
        .collect();
    let into = plan.tables.iter().filter(|table| table.to == to);
    let spoken: BTreeSet<String> = into
        .flat_map(|table| std::iter::once(&table.target).chain(table.children.iter().map(|child| &child.target)))
        .map(|target| in_schema(target))
        .collect();
    let schema = |table: &str| table.split_once('.').map_or_else(String::new, |(schema, _)| schema.to_owned());
    let schemas: BTreeSet<String> = spoken.iter().map(|table| schema(table)).collect();
    let left: Vec<&String> = old.tables.iter().filter(|table| !known.contains(*table)).collect();
    let beside: Vec<&String> =
        new.tables.iter().filter(|table| !spoken.contains(*table) && schemas.contains(&schema(table))).collect();
    let mut said = format!(
        "{from} has {}, {} of them move; {to} has {}",
        count(old.tables.len()),
        old.tables.iter().filter(|table| moves.contains(*table)).count(),
        count(new.tables.len())
    );
    if !left.is_empty() {
        said.push_str(&format!("; {from} has {} the plan does not speak of: {}", count(left.len()), named(&left)));
    }
    if !beside.is_empty() {
        said.push_str(&format!(
            "; {to} has {} this plan does not move, and leaves as they are: {}",
            count(beside.len()),
            named(&beside)
        ));
    }
    CheckRow::ok(format!("tables {to}"), said)
}

fn count(tables: usize) -> String {
    if tables == 1 { "1 table".to_owned() } else { format!("{tables} tables") }
}

fn named(tables: &[&String]) -> String {
    let mut names: Vec<String> = tables.iter().take(NAMED).map(|name| (*name).clone()).collect();
    if tables.len() > NAMED {
        names.push(format!("and {} more", tables.len() - NAMED));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{NEW, OLD};

    #[test]
    fn tables_that_the_plan_does_not_speak_of_are_named_with_both_counts() {
        let mut plan = crate::workers::tests::plan::plan();
        plan.tables.truncate(1);
        plan.stays.clear();
        let table = &mut plan.tables[0];
        (table.from, table.to) = (OLD.to_owned(), NEW.to_owned());
        (table.source, table.target) = ("books".into(), "shop.books".into());
        table.children.clear();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let old = Surroundings { tables: names(&["public.books", "public.queue"]), ..Surroundings::default() };
        let mut new = Surroundings {
            tables: names(&["audit.log", "shop.books", "shop.flags", "shop.jobs"]),
            ..Surroundings::default()
        };
        let said = |new: &Surroundings| row(&plan, (OLD, NEW), &old, new).result.unwrap();
        assert_eq!(
            said(&new),
            "old has 2 tables, 1 of them move; new has 4 tables; old has 1 table the plan does not speak of: public.queue; new has \
             2 tables this plan does not move, and leaves as they are: shop.flags, shop.jobs"
        );
        new.tables.extend((0..11).map(|n| format!("shop.t{n:02}")));
        assert!(said(&new).ends_with("shop.t07, and 3 more"), "{}", said(&new));
        new.tables = names(&["shop.books"]);
        assert!(said(&new).ends_with("the plan does not speak of: public.queue"), "{}", said(&new));
    }
}
