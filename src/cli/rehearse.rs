//! `cutover rehearse`: a whole migration day on stores of its own with a simulated application.

mod from_export;
mod private;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use from_export::{FromExport, from_export};

use super::args::DriveArgs;
use super::drive::{Drive, drive, print, say, shows_screen};
use super::exit::Exit;
use super::failure::Failure;
use super::world::Driver;
use crate::config::{self, Telling};
use crate::domain::plan::{MoverKind, Plan};
use crate::engine::Ending;
use crate::rehearsal::fault::{BadFault, Fault, FaultAt, Faults};
use crate::rehearsal::{Amounts, Scenario, Servers, World, WorldOptions, subscribed};
use crate::snapshot::Mode;

/// No planned wait of the day lasts longer than this, whatever the speed: night watches are not rehearsed.
const LONGEST_WAIT_MS: i64 = 5_000;

/// What is rehearsed, as the command line asked for it.
#[derive(Debug)]
pub struct Rehearsal<'a> {
    /// The scenario's name.
    pub scenario: &'a str,
    /// How much faster planned waits run.
    pub speed: f64,
    /// Seed of data and traffic.
    pub seed: u64,
    /// Faults with their steps; `list` alone prints them.
    pub faults: &'a [String],
    /// Records to begin with; absent means as many as make a good rehearsal.
    pub sizes: Option<&'a str>,
    /// The file that says who is told of what; absent means nobody.
    pub alerts: Option<&'a Path>,
    /// What moves the tables of PostgreSQL; absent means the console.
    pub mover: Option<&'a str>,
}

/// `cutover rehearse`.
pub async fn rehearse(args: &DriveArgs, asked: &Rehearsal<'_>, state_dir: &Path) -> Result<Exit, Failure> {
    let scenario = scenario(asked.scenario)?;
    if asked.faults.iter().any(|f| f == "list") {
        for fault in scenario.faults() {
            print(&format!("{:<16} {}\n", fault.name(), fault.words()));
        }
        return Ok(Exit::Finished);
    }
    let plan = moved(scenario, asked.mover)?;
    Box::pin(live(args, asked, scenario, &plan, state_dir)).await
}

/// The plan of a scenario, with its tables of PostgreSQL moved by what was asked for.
fn moved(scenario: Scenario, mover: Option<&str>) -> Result<Cow<'static, str>, Failure> {
    let usage = |e: String| Err(Failure::new(Exit::Usage, e));
    let Some(name) = mover else { return Ok(scenario.plan()) };
    let Some(kind) = MoverKind::ALL.into_iter().find(|kind| kind.name() == name) else {
        let names = MoverKind::ALL.map(MoverKind::name);
        return usage(format!(
            "{}--mover {name}: there is no such mover, only {}",
            near(name, &names),
            names.join(", ")
        ));
    };
    match (scenario, kind) {
        (Scenario::V1ToV2, MoverKind::Subscription) => Ok(subscribed(&scenario.plan()).into()),
        (Scenario::Cloudshelf | Scenario::AuroraGradual, MoverKind::Subscription) => {
            usage(format!("--mover {name}: no table of {} goes from one PostgreSQL server to another", scenario.name()))
        }
    }
}

/// Lives the day of this plan, the scenario's own but for what a test hurries.
async fn live(
    args: &DriveArgs,
    asked: &Rehearsal<'_>,
    scenario: Scenario,
    plan: &str,
    state_dir: &Path,
) -> Result<Exit, Failure> {
    let (speed, seed) = (asked.speed, asked.seed);
    let usage = |e: String| Failure::new(Exit::Usage, e);
    // A mistake in them is told before a server is started.
    if shows_screen(args) {
        super::own_keys::read()?;
    }
    let amounts = amounts(scenario, asked.sizes)?.unwrap_or_else(|| Amounts::usual(scenario));
    let ids = steps(scenario)?;
    let planned =
        asked.faults.iter().map(|f| planned(f, scenario, &ids).map_err(|e| usage(format!("--fault {f}: {e}"))));
    let faults = Faults::new(planned.collect::<Result<_, _>>()?);
    let told = asked.alerts.map(config::text_of).transpose()?;
    if let Some((file, text)) = asked.alerts.zip(told.as_deref()) {
        let plan = config::load_str(scenario.file(), plan, Path::new(""), &anywhere(scenario))?.plan;
        telling(file, text, &plan)?;
    }
    if !(speed.is_finite() && speed >= 1.0) {
        return Err(usage(format!("--speed {speed}: a number from 1")));
    }
    if !args.json {
        say(&format!("starting {} ...", scenario.starts()));
    }
    let servers = tokio::task::spawn_blocking(move || Servers::start(amounts, say))
        .await
        .map_err(|e| Failure::new(Exit::Bug, e.to_string()))?
        .map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))?;
    let unexpected = |e: crate::rehearsal::RehearsalError| Failure::new(Exit::Unexpected, e.to_string());
    let options = WorldOptions { seed, faults: faults.clone(), ..servers.options() };
    let world = World::start(options).await.map_err(unexpected)?;
    let mut vars = world.vars();
    // Where a rollback from another terminal finds them too.
    vars.extend(servers.passwords(None).map_err(unexpected)?);
    let mut config = config::load_str(scenario.file(), plan, Path::new(""), &vars)?;
    if let Some((file, text)) = asked.alerts.zip(told.as_deref()) {
        config.telling = telling(file, text, &config.plan)?;
    }
    let driven = drive(Drive {
        config: &config,
        config_text: &filled(plan, &vars),
        state_dir,
        args,
        new: true,
        make_anew: false,
        until: None,
        mode: Mode::Rehearsal { speed },
        pace: (speed, Some(LONGEST_WAIT_MS)),
        step_began: Some(Arc::new({
            let faults = faults.clone();
            move |step: &str| faults.step_began(step)
        })),
        driver: Driver::here(),
    })
    .await?;
    let verdict = world.verdict().await.map_err(unexpected)?;
    let unstruck = faults.unstruck();
    if args.json {
        for missed in &unstruck {
            let (fault, step) = (missed.at.fault.name(), &missed.at.step);
            let said = serde_json::json!({ "type": "fault_never_struck", "fault": fault, "step": step,
                "began": missed.began, "words": missed.to_string() });
            print(&format!("{said}\n"));
        }
        print(&format!(
            "{}\n",
            serde_json::json!({ "type": "verdict", "side": verdict.in_charge.name(), "clean": verdict.clean(),
                "checked": verdict.comparison.checked, "words": verdict.to_string() })
        ));
    } else {
        print(&driven.summary);
        for missed in &unstruck {
            print(&format!("FAULT       {missed}\n"));
        }
        print(&format!("{verdict}\n"));
    }
    world.stop().await;
    tokio::task::spawn_blocking(move || drop(servers)).await.ok();
    Ok(exit(driven.ending, verdict.clean(), unstruck.is_empty()))
}

/// Who is told of what, as a file of its own says it.
fn telling(file: &Path, text: &str, plan: &Plan) -> Result<Telling, Failure> {
    let vars = std::env::vars().collect();
    Ok(config::telling_of(&file.display().to_string(), text, &config::base_of(file), &vars, plan)?)
}

/// What a rehearsal ends with: what it proved counts only where it came to its end.
fn exit(ending: Ending, clean: bool, struck: bool) -> Exit {
    match (ending, clean, struck) {
        (Ending::Finished | Ending::RolledBack, false, _) => Exit::VerificationFailed,
        (Ending::Finished | Ending::RolledBack, true, false) => Exit::FaultNeverStruck,
        _ => ending.into(),
    }
}

/// The scenario of this name; the error names what is most like it.
///
/// # Errors
/// There is none of this name.
pub(super) fn scenario(name: &str) -> Result<Scenario, Failure> {
    let names = Scenario::ALL.map(Scenario::name);
    Scenario::named(name).ok_or_else(|| {
        let near = near(name, &names);
        Failure::new(Exit::Usage, format!("{near}no scenario is called `{name}`; there are {}", names.join(", ")))
    })
}

/// Sizes that were asked for.
///
/// # Errors
/// They are not the numbers that the scenario takes.
pub(super) fn amounts(scenario: Scenario, sizes: Option<&str>) -> Result<Option<Amounts>, Failure> {
    let parse = |text: &str| {
        Amounts::parse(scenario, text).map_err(|e| Failure::new(Exit::Usage, format!("--sizes {text}: {e}")))
    };
    sizes.map(parse).transpose()
}

/// The ids of a scenario's steps. No world is needed for them: its variables stand for addresses only.
fn steps(scenario: Scenario) -> Result<Vec<String>, Failure> {
    let config = config::load_str(scenario.file(), &scenario.plan(), Path::new(""), &anywhere(scenario))?;
    Ok(config.plan.steps.iter().map(|s| s.id.clone()).collect())
}

/// Values for a scenario's variables that name nothing: enough to read its plan.
fn anywhere(scenario: Scenario) -> BTreeMap<String, String> {
    let plan = scenario.plan();
    let names = plan.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
    // Two databases of one port would be one database.
    let mut port = 5431;
    let mut value = |name: &str| {
        if name.ends_with("_PORT") {
            port += 1;
            port.to_string()
        } else {
            "http://127.0.0.1:1".to_owned()
        }
    };
    names.map(|name| (name.to_owned(), value(name))).collect()
}

/// `did you mean ...?`, or nothing where none of the names is like it.
fn near(asked: &str, names: &[&str]) -> String {
    super::nearest(asked, names.iter().copied()).map_or_else(String::new, |near| format!("did you mean {near}? "))
}

/// A fault as it was asked for; the error names what is most like it.
fn planned(text: &str, scenario: Scenario, steps: &[String]) -> Result<FaultAt, String> {
    let faults: Vec<&str> = scenario.faults().iter().copied().map(Fault::name).collect();
    let at: FaultAt = text.parse().map_err(|e: BadFault| match &e {
        BadFault::Name { name } => {
            format!("{}no fault is called `{name}`; there are {}", near(name, &faults), faults.join(", "))
        }
        BadFault::Step { .. } => e.to_string(),
    })?;
    if !scenario.faults().contains(&at.fault) {
        let (fault, name) = (at.fault, scenario.name());
        return Err(format!("{fault} has nothing to hit in {name}; there are {}", faults.join(", ")));
    }
    match &at.step {
        Some(step) if !steps.contains(step) => {
            let ids: Vec<&str> = steps.iter().map(String::as_str).collect();
            Err(format!("{}no step is called `{step}`; there are {}", near(step, &ids), ids.join(", ")))
        }
        _ => Ok(at),
    }
}

/// The config with its variables filled in, so that a rollback from another terminal finds the same world.
pub(super) fn filled(text: &str, vars: &BTreeMap<String, String>) -> String {
    vars.iter().fold(text.to_owned(), |text, (name, value)| {
        // A port is a number: once it is no variable any more, it stands without quotes.
        let text = if name.ends_with("_PORT") { text.replace(&format!("\"${{{name}}}\""), value) } else { text };
        text.replace(&format!("${{{name}}}"), value)
    })
}

#[cfg(test)]
mod tests;
