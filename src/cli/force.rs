//! `cutover run --force`: target tables that are there are dropped and made again, once somebody has typed the plan's name.

use std::path::Path;

use clap::Args;

use super::drive::print;
use super::exit::Exit;
use super::failure::Failure;
use super::release::typed;
use super::world;
use crate::config::Config;
use crate::domain::plan::{Plan, StepKind, Table};
use crate::domain::run::StepStatus;
use crate::journal::{RunFolder, fold, read_run};
use crate::ports::{Bookkeeping, ErrorKind, PortError, Target};

/// That target tables may go.
#[derive(Debug, Args)]
pub struct ForceArg {
    /// Drop the plan's target tables that are there, with all they hold, and make them again; those that the plan has no DDL
    /// for are emptied. Shows them and asks for the plan's name; without somebody to ask, give the name as a value. Never
    /// tables that are open to customers or another plan's, and in production only with --env.
    #[arg(long, value_name = "PLAN", num_args = 0..=1, require_equals = true, default_missing_value = "",
        conflicts_with = "dry_run")]
    pub force: Option<String>,
}

/// Whether tables may go: `word` is what was given as a value, empty when somebody is to be asked. `false` when there is
/// none to drop.
///
/// # Errors
/// They may not, or the name was not typed. Nothing was changed.
pub async fn confirmed(
    word: &str,
    env: Option<&str>,
    config: &Config,
    state_dir: &Path,
    new: bool,
) -> Result<bool, Failure> {
    let plan = &config.plan;
    if plan.production && env.is_none() {
        let text = format!(
            "--force drops tables, and {} is production: say so with --env {}",
            config.path.display(),
            plan.environment
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    if !new && let Some(run) = past_set_up(state_dir, plan) {
        let text = format!(
            "run {run} has set up its tables already, and --force would do nothing: leave it out to go on, or begin \
             another run with --new"
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    let target = world::target_of(&(&config.connections).into(), &plan.key()).await;
    let target = target.map_err(|why| Failure::new(Exit::Denied, why))?;
    let there = may_go(&*target, plan).await?;
    if there.is_empty() {
        print("--force: no table of the plan is there\n");
        return Ok(false);
    }
    let named = if word.is_empty() {
        print(&format!(
            "{}\nEverything in them is lost, whoever wrote it. Type {} to go on: ",
            there.join("\n"),
            plan.key()
        ));
        typed().await.trim().to_owned()
    } else {
        print(&format!("{}\n", there.join("\n")));
        word.to_owned()
    };
    if named == plan.key() {
        return Ok(true);
    }
    let text = format!("that is not its name, which is {}: nothing was changed", plan.key());
    Err(Failure::new(Exit::Refused, text))
}

/// The tables that are there, a line for each with what becomes of it.
async fn may_go(target: &dyn Target, plan: &Plan) -> Result<Vec<String>, Failure> {
    target.claimable(&plan.tables).await?;
    let known = match target.inspect().await?.bookkeeping {
        Bookkeeping::Absent => false,
        Bookkeeping::Older | Bookkeeping::Ready => true,
    };
    if known && let Some(opened) = target.opened_to_customers(&plan.tables).await? {
        let why = format!("customers have written to it since {}", opened.at.date_clock());
        let error = PortError::new(ErrorKind::Conflict, "make anew", opened.table, why)
            .advise("take that run back with `cutover rollback`; --force never drops what customers wrote");
        return Err(error.into());
    }
    let mut there = Vec::new();
    for table in &plan.tables {
        if target.describe(table).await?.exists {
            there.push(line(table, target.count(table, false).await?.rows));
        }
    }
    Ok(there)
}

fn line(table: &Table, rows: Option<u64>) -> String {
    let what = if table.ddl.is_some() { "is dropped and made again" } else { "is emptied: the plan has no DDL for it" };
    let rows = rows.map_or_else(|| "an unknown number of".to_owned(), |rows| format!("about {rows}"));
    format!("  {:<24} {rows} rows; it {what}", table.target)
}

/// The unfinished run of this plan that would be resumed, when its tables are set up.
fn past_set_up(state_dir: &Path, plan: &Plan) -> Option<String> {
    let steps: Vec<&str> =
        plan.steps.iter().filter(|s| matches!(s.kind, StepKind::SetUp)).map(|s| s.id.as_str()).collect();
    for folder in RunFolder::list(state_dir).ok()? {
        let Some(state) = read_run(&folder).ok().and_then(|record| fold(&record.facts).ok()) else { continue };
        if (&state.plan, &state.environment) != (&plan.name, &plan.environment) || folder.is_rehearsal() {
            continue;
        }
        let done = state.steps.iter().any(|s| s.status == StepStatus::Done && steps.contains(&s.id.as_str()));
        return (done && !state.is_final()).then(|| folder.id().to_owned());
    }
    None
}
