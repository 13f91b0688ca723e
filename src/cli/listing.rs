//! Configs whose tables move by rule: their stores are asked what they have, once, and what they said is kept with the run.
//! A run that goes on is the plan it was opened with, whatever came to its stores since.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::args::ConfigArg;
use super::exit::Exit;
use super::failure::Failure;
use super::out::say;
use super::world;
use crate::config::{self, Config, Draft};
use crate::domain::plan::Listing;
use crate::journal::{RunFolder, fold, read_run};

/// The file in a run folder.
const LISTING: &str = "moves.json";

/// Which list a plan is made over.
pub enum Over<'a> {
    /// What the stores say now.
    Now,
    /// What they said when the unfinished run of this plan was opened; what they say now where there is none.
    UnfinishedRun(&'a Path),
}

/// Reads a config, and asks its stores where it has rules.
///
/// # Errors
/// Mistakes in it, and a store that cannot be asked.
pub async fn load(arg: &ConfigArg, over: Over<'_>) -> Result<(Config, String), Failure> {
    let (path, env) = (&arg.config, arg.env.as_deref());
    let vars: BTreeMap<String, String> = std::env::vars().collect();
    let (name, base) = (path.display().to_string(), config::base_of(path));
    let text = config::text_of(path)?;
    let mut draft = config::draft(&name, &text, &base, &vars, env)?;
    world::all_built(&draft.connections)?;
    if draft.stores().is_empty() {
        let config = config::load_listed(&name, &text, &base, &vars, env, None)?;
        return Ok((of_environment(config, env)?, text));
    }
    world::name_endpoints(&mut draft.connections).await;
    if let Over::UnfinishedRun(state_dir) = over
        && let Some((run, kept)) = unfinished(state_dir, &draft)
        // A rule that was changed may ask for what was not listed then.
        && let Ok(config) = config::load_listed(&name, &text, &base, &vars, env, Some(&kept))
    {
        tell_of_later_ones(&draft, &config, &run).await;
        return Ok((of_environment(config, env)?, text));
    }
    let listing = ask(&draft).await?;
    let config = config::load_listed(&name, &text, &base, &vars, env, Some(&listing))?;
    Ok((of_environment(config, env)?, text))
}

/// Refuses a config that is for one environment, when another one was named.
fn of_environment(config: Config, env: Option<&str>) -> Result<Config, Failure> {
    fits(&config.path, &config.plan.environment, env)?;
    Ok(config)
}

fn fits(path: &Path, is: &str, env: Option<&str>) -> Result<(), Failure> {
    match env {
        Some(env) if env != is => {
            let path = path.display();
            let text = format!("--env {env}: {path} is for `{is}` alone; several stand under [environments.NAME]");
            Err(Failure::new(Exit::Usage, text))
        }
        Some(_) | None => Ok(()),
    }
}

/// Asks every store that tables come from by rule, or are made as it has them.
pub(super) async fn ask(draft: &Draft) -> Result<Listing, Failure> {
    let mut listing = Listing::default();
    for store in draft.stores() {
        let of = |failure: Failure| {
            let text = format!(
                "tables of the store {store} move by rule, and only it can say which and what they are: {}",
                failure.words()
            );
            Failure::new(failure.exit, text)
        };
        let catalogue = world::catalogue(&draft.connections, store).await.map_err(of)?;
        let names = catalogue.names().await.map_err(|e| of(e.into()))?;
        let wanted = draft.wanted(store, &names);
        let listed = catalogue.listed(names, &wanted, draft.makes(store)).await.map_err(|e| of(e.into()))?;
        listing.stores.insert(store.to_owned(), listed);
    }
    Ok(listing)
}

/// Says which tables came since the run was opened. They keep its switch from being set; the run itself goes on.
async fn tell_of_later_ones(draft: &Draft, config: &Config, run: &str) {
    for store in draft.stores() {
        let names = match world::catalogue(&draft.connections, store).await {
            Ok(catalogue) => catalogue.names().await.map_err(|e| e.to_string()),
            Err(failure) => Err(failure.words()),
        };
        match names.map(|names| config.plan.unplanned(store, &names)) {
            Ok(later) if later.is_empty() => {}
            Ok(later) => say(&format!(
                "warning: run {run} does not move tables that came to the store {store} since: {}. It switches nothing \
                 while they are there: leave them out (`exclude`) and `cutover amend`, or begin a run that moves them",
                later.join(", ")
            )),
            Err(why) => say(&format!("warning: which tables came to the store {store} since is not known: {why}")),
        }
    }
}

/// The newest run of this plan in this environment, when it is not at its end, and what it was opened over.
fn unfinished(state_dir: &Path, draft: &Draft) -> Option<(String, Listing)> {
    for folder in RunFolder::list(state_dir).ok()? {
        let Ok(state) = read_run(&folder).map(|record| fold(&record.facts)) else { continue };
        let Ok(state) = state else { continue };
        if folder.is_rehearsal() || (&state.plan, &state.environment) != (&draft.name, &draft.environment) {
            continue;
        }
        return kept(&folder).filter(|_| !state.is_final()).map(|listing| (folder.id().to_owned(), listing));
    }
    None
}

/// What the stores said when this run was opened.
pub fn kept(folder: &RunFolder) -> Option<Listing> {
    serde_json::from_slice(&std::fs::read(folder.path().join(LISTING)).ok()?).ok()
}

/// Keeps with a run what its plan was made over.
///
/// # Errors
/// What the disk said.
pub fn keep(folder: &RunFolder, config: &Config) -> io::Result<()> {
    match &config.listing {
        Some(listing) => folder.write(LISTING, &serde_json::to_vec_pretty(listing)?),
        None => Ok(()),
    }
}

/// How stores are reached, for what needs no plan.
///
/// # Errors
/// Mistakes in the config.
pub async fn connections(arg: &ConfigArg) -> Result<config::Connections, Failure> {
    let mut draft = draft(arg)?;
    world::name_endpoints(&mut draft.connections).await;
    Ok(draft.connections)
}

/// A config as far as it says itself what it is: no store is asked.
///
/// # Errors
/// Mistakes in it.
pub fn draft(arg: &ConfigArg) -> Result<Draft, Failure> {
    let (path, env) = (&arg.config, arg.env.as_deref());
    let vars: BTreeMap<String, String> = std::env::vars().collect();
    let (name, base) = (path.display().to_string(), config::base_of(path));
    let text = config::text_of(path)?;
    let draft = config::draft(&name, &text, &base, &vars, env)?;
    world::all_built(&draft.connections)?;
    if draft.stores().is_empty() {
        // Every mistake is named, as before any other command.
        config::load_listed(&name, &text, &base, &vars, env, None)?;
    }
    fits(path, &draft.environment, env)?;
    Ok(draft)
}
