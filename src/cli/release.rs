//! `cutover release`: a plan gives up its reverse flow and its tables in the target. The only way to do so.

use std::io::BufRead as _;

use super::args::ConfigArg;
use super::drive::print;
use super::exit::Exit;
use super::failure::Failure;
use super::out::say;
use super::{listing, nearest, world};
use crate::config::Connections;
use crate::ports::{Owned, OwnedTable, Target};

/// Shows what the plan has, asks for its name, and ends it. `config` says where the target is; its own plan may be
/// another.
pub async fn release(plan: &str, config: &ConfigArg) -> Result<Exit, Failure> {
    let connections = listing::connections(config).await?;
    let target = world::target_of(&(&connections).into(), plan).await;
    let target = target.map_err(|why| Failure::new(Exit::Denied, why))?;
    let owned = target.owned().await?;
    if let Some(driven) = &owned.driven {
        let why = format!("run {} of {plan} is driven by {}; pause it or let it end first", driven.run, driven.holder);
        return Err(Failure::new(Exit::Refused, why));
    }
    if owned.tables.is_empty() && owned.interrupted {
        // Its name was typed when that began, and nothing else is left of it.
        say("an earlier release of it did not come to its end: going on");
        return ended(&*target, plan, &connections).await;
    }
    if owned.tables.is_empty() {
        return Err(Failure::new(Exit::Usage, nothing(plan, &owned)));
    }
    print(&shown(plan, &owned));
    // A person types the name; no flag replaces that.
    if typed().await.trim() != plan {
        say("that is not its name: nothing was changed");
        return Ok(Exit::Refused);
    }
    // Nothing was written until here.
    ended(&*target, plan, &connections).await
}

async fn ended(target: &dyn Target, plan: &str, connections: &Connections) -> Result<Exit, Failure> {
    // First what would go on writing to tables that are nobody's any more.
    let movers = world::movers_of_stores(&connections.into(), plan).await;
    let mut left = None;
    for (_, mover) in movers.all() {
        if let Err(e) = mover.remove().await {
            mover.stop().await?;
            // Nothing of it writes any more; what is left at the other end keeps nothing from being released.
            left = left.or(Some(e));
        }
    }
    target.disown().await?;
    let kept = world::kept_at_sources(&connections.into(), plan).await;
    for (store, changes) in kept.all() {
        changes.close().await?;
        print(&format!("the store {store} keeps nothing for {plan} any more\n"));
    }
    print(&format!("{plan} has nothing in the target any more; what it captured is gone\n"));
    left.map_or(Ok(Exit::Finished), |e| Err(e.into()))
}

/// A line of standard input; empty at its end.
pub(super) async fn typed() -> String {
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    line.await.ok().and_then(Result::ok).unwrap_or_default()
}

fn nothing(plan: &str, owned: &Owned) -> String {
    let near = nearest(plan, owned.others.iter().map(String::as_str));
    match (near, owned.others.is_empty()) {
        (Some(near), _) => format!("{plan} has no tables in the target; did you mean {near}?"),
        (None, false) => format!("{plan} has no tables in the target; there are {}", owned.others.join(", ")),
        (None, true) => format!("{plan} has no tables in the target, and no other plan has"),
    }
}

fn shown(plan: &str, owned: &Owned) -> String {
    let lines: String = owned.tables.iter().map(line).collect();
    let waits: u64 = owned.tables.iter().map(|t| t.waits).sum();
    let lost = match (waits, owned.tables.iter().any(|t| t.open_to_customers.is_some())) {
        (0, false) => "They were never open to customers, or everything was carried back.".to_owned(),
        (0, true) => {
            "They were open to customers; what customers write is captured no more, and no rollback carries it."
                .to_owned()
        }
        (n, _) => format!(
            "{} writes of customers were never carried back: they stay on the new side only.",
            OwnedTable::in_words(n)
        ),
    };
    let aside = match owned.tables.iter().map(|t| t.aside).sum::<u64>() {
        0 => String::new(),
        n => format!("\n{n} indexes stepped aside for its load: they are built again first, which may take a while."),
    };
    format!(
        "{plan} has in the target:\n{lines}{lost}{aside}\nThe tables and their rows stay. Type {plan} to release them: "
    )
}

fn line(table: &OwnedTable) -> String {
    let run = if table.run.is_empty() { "an earlier run" } else { &table.run };
    let open_to_customers =
        table.open_to_customers.map_or_else(String::new, |at| format!(", open to customers since {}", at.date_clock()));
    let waits =
        if table.waits > 0 { format!(", {} writes wait", OwnedTable::in_words(table.waits)) } else { String::new() };
    format!(
        "  {:<16} {}  {run} since {}{open_to_customers}{waits}\n",
        table.id,
        table.targets.join(", "),
        table.since.date_clock()
    )
}
