//! What a run was opened with, kept in its folder. Rollback commands read this and nothing else: no config file, no
//! environment variable, no lint of a newer program can make them refuse.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::args::OfArg;
use super::exit::Exit;
use super::failure::Failure;
use super::listing::{self, Over};
use super::out::say;
use crate::config::{self, Config, Connections, SavedConnections};
use crate::domain::plan::{Plan, Stores, store_changes};
use crate::domain::run::RunState;
use crate::journal::{RunFolder, fold_believable, salvage_run};
use crate::report::{plan_in_force, read_plan};

/// The file with the connections.
const CONNECTIONS: &str = "connections.json";
/// The file with the environment that the copy of the config is for; runs of older programs have none.
pub const ENVIRONMENT: &str = "config.environment";

/// Keeps the plan, the connections and, for people to read, the config's text.
///
/// # Errors
/// What the disk said.
pub fn keep(folder: &RunFolder, config: &Config, config_text: &str) -> io::Result<()> {
    folder.write("plan.json", &serde_json::to_vec_pretty(&*config.plan)?)?;
    folder.write("config.toml", config_text.as_bytes())?;
    folder.write(ENVIRONMENT, config.plan.environment.as_bytes())?;
    listing::keep(folder, config)?;
    keep_connections(folder, &config.connections)
}

/// Keeps the connections: at the start, and again whenever a run is resumed with a new user, password reference, TLS or
/// pool. The stores themselves cannot have changed: they are part of the plan.
///
/// # Errors
/// What the disk said.
pub fn keep_connections(folder: &RunFolder, connections: &Connections) -> io::Result<()> {
    folder.write(CONNECTIONS, &SavedConnections::text(connections)?)
}

/// What could be read of a run's plan and connections, and what a person should know about it.
pub struct Opened {
    /// The plan.
    pub plan: Plan,
    /// The connections.
    pub connections: SavedConnections,
    /// What could not be read, and what is used instead.
    pub warnings: Vec<String>,
}

/// Reads what a run was opened with, or amended to. `plan_hash` is the one its journal says.
///
/// # Errors
/// There is no plan that can be read: nothing says which switches there are.
pub fn opened(folder: &RunFolder, plan_hash: &str) -> Result<Opened, Failure> {
    let mut warnings = Vec::new();
    let plan = match read_plan(folder, plan_hash) {
        Ok(plan) => plan,
        Err(wrong) => {
            let Some((plan, from)) = another_plan(folder, plan_hash) else { return Err(wrong.into()) };
            warnings.push(format!("{wrong}; going by {from}"));
            plan
        }
    };
    let connections = connections(folder, &plan, &mut warnings);
    Ok(Opened { plan, connections, warnings })
}

/// What a command works on: what a run was opened with when one is named, else what the config says. Unlike a rollback,
/// a comparison or a repair uses nothing that is not known to be the run's own.
///
/// # Errors
/// A config with mistakes, a run that is not there, one whose plan or connections cannot be read, or whose plan or
/// stores are not those it was opened with.
pub async fn subject(of: &OfArg, state_dir: &Path) -> Result<Config, Failure> {
    let Some(run) = &of.run else { return Ok(super::run::load(&of.config, Over::UnfinishedRun(state_dir)).await?.0) };
    let folder = RunFolder::find(state_dir, Some(run))?;
    let (record, _) = salvage_run(&folder)?;
    let (state, _) = fold_believable(&record.facts);
    let plan = read_plan(&folder, plan_in_force(&record, &state))?;
    let mut warnings = Vec::new();
    let connections = connections(&folder, &plan, &mut warnings);
    warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    let unread = |what: &str, why: String| {
        Failure::new(Exit::Journal, format!("run {}: how {what} is reached cannot be read: {why}", folder.id()))
    };
    let connections = connections.whole().map_err(|(what, why)| unread(&what, why))?;
    let path = folder.path().join(CONNECTIONS);
    let changes = if plan.stores.is_empty() { Vec::new() } else { store_changes(&plan.stores, &connections.stores()) };
    if !changes.is_empty() {
        let text = format!(
            "run {}: {} leads to other stores than it was opened on: {}; put back what stood there, or name a config \
             with -c instead of the run",
            folder.id(),
            path.display(),
            changes.join("; ")
        );
        return Err(Failure::new(Exit::Config, text));
    }
    let (warnings, places) = (Vec::new(), BTreeMap::new());
    let telling = config::Telling::default();
    Ok(Config { plan: Arc::new(plan), connections, path, warnings, places, listing: None, telling })
}

/// A plan that is not known to be the run's very own, for when that one cannot be read: the copy of the config if it
/// still gives the same plan, else a plan file whose hash is another.
fn another_plan(folder: &RunFolder, plan_hash: &str) -> Option<(Plan, &'static str)> {
    let from_config = saved_config(folder, true).ok().map(|c| Plan::clone(&c.plan));
    if let Some(plan) = from_config.filter(|plan| plan.hash() == plan_hash || stores_left_out(plan) == plan_hash) {
        return Some((plan, "the copy of the config"));
    }
    let read = |path: &Path| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
    if let Some(plan) = read(&folder.plan()) {
        return Some((plan, "what stands in it all the same"));
    }
    // No amendment changes which switches there are and where: each plan of a run says where to restore them.
    let kept = folder.kept_plans();
    kept.iter().find_map(|path| read(path)).map(|plan| (plan, "a plan the run went by before or after an amendment"))
}

/// The connections, as far as they can be read; what cannot is taken from the copy of the config, and where AWS is
/// reached from the plan.
fn connections(folder: &RunFolder, plan: &Plan, warnings: &mut Vec<String>) -> SavedConnections {
    let path = folder.path().join(CONNECTIONS);
    let kept = match std::fs::read(&path) {
        Ok(text) => SavedConnections::read(&text),
        Err(e) => SavedConnections::unreadable(&e.to_string()),
    };
    let found = if kept.unread().is_empty() {
        kept
    } else {
        // Runs of older programs have the copy only. One that names other stores now is not the run's any more.
        let copy = match saved_config(folder, !plan.stores.is_empty()) {
            Ok(copy) if plan.stores.is_empty() || copy.connections.stores() == plan.stores => {
                (&copy.connections).into()
            }
            Ok(_) => SavedConnections::unreadable("the copy of the config names other stores by now"),
            Err(why) => SavedConnections::unreadable(&why),
        };
        // A run that kept none is read from its copy, and so is the reason why it cannot be.
        let (kept, from) = if path.exists() { (kept, path.clone()) } else { (copy.clone(), folder.config()) };
        if path.exists() || !copy.unread().is_empty() {
            for (what, why) in kept.unread() {
                warnings.push(format!("how {what} is reached cannot be read from {}: {why}", from.display()));
            }
        }
        kept.or(&copy).or(&SavedConnections::from_stores(&plan.stores))
    };
    if let Some(stores) = stores_of(&found).filter(|_| !plan.stores.is_empty()) {
        let changes = store_changes(&plan.stores, &stores).join("; ");
        if !changes.is_empty() {
            warnings.push(format!("{} was changed since the run was opened: {changes}", path.display()));
        }
    }
    found
}

/// The stores that connections lead to, when all of them could be read.
fn stores_of(found: &SavedConnections) -> Option<Stores> {
    found.whole().ok().map(|connections| connections.stores())
}

/// The copy of the config a run was started with, read as a config; runs of older programs need it. `known` says that
/// what comes out is compared with what the plan says of its stores; where it is not, nothing is filled in from this
/// process's environment: that may name other stores than the run's.
fn saved_config(folder: &RunFolder, known: bool) -> Result<Config, String> {
    let text = std::fs::read_to_string(folder.config()).map_err(|e| format!("{}: {e}", folder.config().display()))?;
    let base = std::fs::read_to_string(folder.path().join("config.base")).unwrap_or_default();
    let vars = if known { std::env::vars().collect() } else { BTreeMap::new() };
    let env = std::fs::read_to_string(folder.path().join(ENVIRONMENT)).ok();
    let listing = listing::kept(folder);
    let name = folder.config().display().to_string();
    let read = config::load_listed(&name, &text, Path::new(&base), &vars, env.as_deref(), listing.as_ref());
    read.map_err(|e| {
        let first = e.items.first().map_or_else(|| e.to_string(), ToString::to_string);
        let unfilled = !known && first.contains("is not set");
        let why = "; the run's record does not say what it was, and the environment of this process is not asked";
        if unfilled { format!("{first}{why}") } else { first }
    })
}

/// The hash of a plan as programs computed it that did not know of stores.
fn stores_left_out(plan: &Plan) -> String {
    Plan { stores: Stores::new(), ..plan.clone() }.hash()
}

/// How a run stands to a config.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    /// It was opened with this very plan, on these very stores.
    Same,
    /// It was opened on other stores: each by name, with what it was and what it is now.
    OtherStores(Vec<String>),
    /// It was opened with another plan for these stores.
    OtherPlan,
}

/// Whether a run was opened with this plan on these stores. `plan_hash` is the one in its journal.
pub fn fit(folder: &RunFolder, plan_hash: &str, now: &Plan) -> Fit {
    if now.hash() == plan_hash {
        return Fit::Same;
    }
    let Ok(was) = read_plan(folder, plan_hash) else { return Fit::OtherPlan };
    let stores = if was.stores.is_empty() {
        stores_of(&connections(folder, &was, &mut Vec::new()))
    } else {
        Some(was.stores.clone())
    };
    let Some(stores) = stores else {
        return Fit::OtherStores(vec!["its folder does not say which stores it was opened on".to_owned()]);
    };
    match store_changes(&stores, &now.stores) {
        changes if !changes.is_empty() => Fit::OtherStores(changes),
        _ if was.stores.is_empty() && stores_left_out(now) == plan_hash => Fit::Same,
        _ => Fit::OtherPlan,
    }
}

/// Whether a run is of another environment than this plan, and on stores of its own: it is no run of this plan then, though
/// both have one name. On the same stores it is this plan under another name of its environment.
pub fn of_another_environment(folder: &RunFolder, state: &RunState, now: &Plan) -> bool {
    state.environment != now.environment && matches!(fit(folder, &state.plan_hash, now), Fit::OtherStores(_))
}

/// Why a run that is not at its end is not resumed with a config that does not fit; `None` when it does.
pub fn refusal(folder: &RunFolder, state: &RunState, now: &Plan) -> Option<Failure> {
    let run = folder.id();
    let back = format!(
        "take it back where it was opened with `cutover rollback {run}`, or open another run beside it with --new"
    );
    let text = match fit(folder, &state.plan_hash, now) {
        Fit::Same => return None,
        Fit::OtherStores(changes) => format!(
            "run {run} is not finished and was opened on other stores: {}. Put the config back to take it up, {back}",
            changes.join("; ")
        ),
        Fit::OtherPlan => format!("run {run} is not finished and {}, {back}", other_plan(folder, state, &now.hash())),
    };
    Some(Failure::new(Exit::Config, text))
}

/// How the plan of a run differs from the one with this hash, and what to do to take the run up.
fn other_plan(folder: &RunFolder, state: &RunState, now: &str) -> String {
    let short = |hash: &str| format!("{}..", &hash[..12.min(hash.len())]);
    let (is, now_is) = (short(&state.plan_hash), short(now));
    if let Some(a) = state.amended.iter().rev().find(|a| a.from == now) {
        return format!(
            "goes by plan {is} since {} amended it on {}; this config is the plan before that amendment ({now_is}). Use \
             the config it was amended to, a copy is {}",
            a.by.name(),
            a.at.date_clock(),
            folder.config().display()
        );
    }
    let goes_by = if state.amended.is_empty() { "was opened with another plan" } else { "was amended to another plan" };
    format!(
        "{goes_by} ({is}, now {now_is}); `cutover amend` with this config shows what differs and takes up what may \
         change by now. Restore the config to take the run up as it is"
    )
}

/// The plan a run goes by, with its stores: programs before them saved none, and they are known by its connections.
pub fn with_stores(folder: &RunFolder, plan: Plan) -> Plan {
    if !plan.stores.is_empty() {
        return plan;
    }
    let stores = stores_of(&connections(folder, &plan, &mut Vec::new())).unwrap_or_default();
    Plan { stores, ..plan }
}

/// Makes `plan.json` the plan the run goes by: an amendment that was cut off left the one before it there. `plan_hash`
/// is the one in its journal.
///
/// # Errors
/// What the disk said.
pub fn settle_plan(folder: &RunFolder, plan_hash: &str, plan: &Plan) -> io::Result<()> {
    let stands = std::fs::read(folder.plan()).ok().and_then(|text| serde_json::from_slice::<Plan>(&text).ok());
    if plan.hash() != plan_hash || stands.is_some_and(|stands| stands.hash() == plan_hash) {
        return Ok(());
    }
    folder.write("plan.json", &serde_json::to_vec_pretty(plan)?)
}

#[cfg(test)]
mod tests;
