//! What a check says of movers.

use crate::domain::plan::Plan;
use crate::workers::context::Ports;
use crate::workers::preflight::{CheckRow, Missing};

/// For each mover what is in its way, or what it will move and what it does not do.
pub async fn rows(plan: &Plan, ports: &Ports, missing: &Missing) -> Vec<CheckRow> {
    let mut rows = Vec::new();
    for of in plan.movers() {
        let what = format!("mover {}", of.name());
        if missing.target.is_some() || missing.store(plan, &of.from, &what).is_some() {
            rows.push(CheckRow::denied(what, "not checked: both of its stores have to be asked", ""));
            continue;
        }
        match ports.movers.named(&of.name()).obstacles(&of.tables).await {
            Err(e) => rows.push(CheckRow::port(what, &e)),
            Ok(found) if found.is_empty() => {
                let tables =
                    if of.tables.len() == 1 { "1 table".to_owned() } else { format!("{} tables", of.tables.len()) };
                rows.push(CheckRow::ok(
                    what,
                    format!(
                        "moves {tables}; the target's server reaches the source. It parks no row: one that the target refuses \
                         stops it. Writes to the old side are not watched once customers are on the new one"
                    ),
                ));
            }
            Ok(found) => rows.extend(
                found.into_iter().map(|o| CheckRow { denied: o.rights, ..CheckRow::bad(&what, o.wrong, o.advice) }),
            ),
        }
    }
    rows
}
