//! `cutover run --dry-run` and `cutover check --scan`: what the load would do, and nothing written.

mod words;

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::args::ConfigArg;
use super::exit::Exit;
use super::failure::Failure;
use super::listing::Over;
use super::out::{print, say};
use super::{plan, run, world};
use crate::config::Config;
use crate::domain::plan::{StoreKind, Table};
use crate::ports::PortResult;
use crate::workers::{
    CheckRow, DryRun, DryRunProgress, Extent, Missing, Ports, ReadBudget, dry_run as read_table, parents_first,
};

/// How often progress is said.
const EVERY: Duration = Duration::from_secs(5);

/// `cutover run --dry-run`.
pub async fn dry_run(arg: &ConfigArg, as_json: bool, report: Option<&Path>) -> Result<Exit, Failure> {
    let (config, _) = run::load(arg, Over::Now).await?;
    // Before hours of reading, not after them.
    let report = report.map(|path| new_file(path).map(|file| (path, file))).transpose()?;
    let ports = world::ports(&config.plan, &config.connections).await?;
    world::callers(&config.plan, &config.connections, &ports).await?;
    if !as_json {
        plan::write(&config.plan, &mut super::out::stdout())?;
        print("\nwhat the load would do (nothing is written)\n");
    }
    let mut all = Vec::new();
    for table in parents_first(&config.plan.tables) {
        let found = one(&config, &ports, table, Extent::Whole).await?;
        if !as_json {
            print(&words::table(&found, table));
        }
        all.push((found, table));
    }
    let found = json!({
        "plan": config.plan.key(),
        "hash": config.plan.hash(),
        "steps": words::steps(&config.plan),
        "tables": all.iter().map(|(found, table)| words::as_json(found, table)).collect::<Vec<_>>(),
        "totals": words::totals(&all),
    });
    if as_json {
        print(&format!("{found}\n"));
    } else {
        print(&words::closing(&all));
    }
    if let Some((path, mut file)) = report {
        let text = serde_json::to_vec_pretty(&found).map_err(std::io::Error::from)?;
        file.write_all(&text).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all()).map_err(|e| {
            Failure::new(Exit::Unexpected, format!("write the report {}: {e}; free space there", path.display()))
        })?;
        say(&format!("the report is in {}", path.display()));
    }
    let clean = all.iter().all(|(found, _)| !found.profile.has_findings());
    Ok(if clean { Exit::Finished } else { Exit::VerificationFailed })
}

fn new_file(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|e| Failure::new(Exit::Usage, format!("--report {}: {e}; name another file", path.display())))
}

async fn one(config: &Config, ports: &Ports, table: &Table, extent: Extent) -> PortResult<DryRun> {
    let budget = Arc::new(ReadBudget::new(config.plan.load.read_budget_rcu));
    let progress = Arc::new(DryRunProgress::default());
    let _said = said(table.id.clone(), Arc::clone(&progress));
    read_table(&config.plan, ports, table, extent, &budget, &progress).await
}

/// Says now and then how far a table has come, while the handle lives.
fn said(table: String, progress: Arc<DryRunProgress>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            let (records, bytes) = (progress.records.load(Ordering::Relaxed), progress.bytes.load(Ordering::Relaxed));
            say(&format!("  {table}: {records} records read, {}", words::size(bytes)));
        }
    }))
}

/// What a sample of each table showed: a row of the check each, and everything that was found.
pub struct Scan {
    /// A row for each table.
    pub rows: Vec<CheckRow>,
    /// What is said below the check.
    pub text: String,
    /// The same as JSON.
    pub json: Vec<serde_json::Value>,
}

/// Reads about so many records of each table.
pub async fn scan(config: &Config, ports: &Ports, missing: &Missing, records: u64) -> Scan {
    let mut scan = Scan { rows: Vec::new(), text: String::new(), json: Vec::new() };
    for table in &config.plan.tables {
        let what = format!("scan {}", table.id);
        let no_aws = missing.aws.is_some() && config.plan.kind(&table.from) == StoreKind::Dynamodb;
        if no_aws || missing.stores.contains_key(&table.from) {
            scan.rows.push(CheckRow::denied(what, "not read: its store cannot be asked", ""));
            continue;
        }
        match one(config, ports, table, Extent::Sample(records)).await {
            Ok(found) => {
                scan.rows.push(words::row(what, &found));
                scan.text.push_str(&words::table(&found, table));
                scan.json.push(words::as_json(&found, table));
            }
            Err(e) => scan.rows.push(CheckRow::port(what, &e)),
        }
    }
    scan
}
