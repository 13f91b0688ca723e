//! `cutover rehearse --from-export`: whether a backup can be restored, and whether the config's mapping takes what it holds.
//!
//! None of the config's stores is asked or written to. Private ones of the same kinds stand in for them under the same
//! names; the export is restored where tables come from, and the plan's tables are made, loaded and compared where they go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde_json::json;

use super::super::args::DriveArgs;
use super::super::drive::{Drive, drive, print, say};
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::restore::{failed, held, lines, progress, whole};
use super::super::world::{self, Driver};
use super::super::{listing, own_keys};
use super::private::PrivateStores;
use crate::config::{self, Config};
use crate::domain::plan::{Arn, Confirm, Plan, Start, Step, StepKind, StoreKind, Table, listed_name};
use crate::domain::run::RunState;
use crate::engine::Ending;
use crate::export::{Manifest, TableEntry};
use crate::ports::HeldTable;
use crate::snapshot::Mode;
use crate::workers::{RestoredTable, restore};

/// What is tried.
#[derive(Debug)]
pub struct FromExport<'a> {
    /// The folder of the export.
    pub folder: &'a Path,
    /// The config whose plan takes it.
    pub config: PathBuf,
    /// Which environment of the config is meant.
    pub env: Option<&'a str>,
    /// How much faster planned waits run.
    pub speed: f64,
}

/// Restores, loads and compares. See [`super::rehearse`].
pub async fn from_export(args: &DriveArgs, asked: &FromExport<'_>, state_dir: &Path) -> Result<Exit, Failure> {
    if super::shows_screen(args) {
        own_keys::read()?;
    }
    let vars: BTreeMap<String, String> = std::env::vars().collect();
    let (name, base) = (asked.config.display().to_string(), config::base_of(&asked.config));
    let text = config::text_of(&asked.config)?;
    let mut draft = config::draft(&name, &text, &base, &vars, asked.env)?;
    let manifest = whole(asked.folder, args.json).await?;
    let private = PrivateStores::start(&draft.connections).await?;
    if !args.json {
        say(&format!("started {} in the place of the config's stores", private.words()));
    }
    let restored = restored(asked.folder, &manifest, &private, args.json).await?;
    draft.connections = private.connections.clone();
    // Tables that move by rule are those of the export: nothing else is there.
    let listing = if draft.stores().is_empty() { None } else { Some(listing::ask(&draft).await?) };
    let mut config = config::load_listed(&name, &text, &base, &vars, asked.env, listing.as_ref())?;
    covered(&config, &manifest)?;
    config.connections = private.connections.clone();
    // Nobody is called for a trial of a backup.
    config.telling = config::Telling::default();
    *Arc::make_mut(&mut config.plan) = reduced(&config, &manifest);
    let driven = drive(Drive {
        config: &config,
        config_text: &text,
        state_dir,
        args,
        new: true,
        make_anew: false,
        until: None,
        mode: Mode::Rehearsal { speed: asked.speed },
        pace: (asked.speed, Some(super::LONGEST_WAIT_MS)),
        step_began: None,
        driver: Driver::here(),
    })
    .await?;
    let verdict = verdict(&config.plan, &driven.state);
    if args.json {
        print(&format!("{}\n", as_json(&manifest, &restored, &verdict)));
    } else {
        print(&driven.summary);
        print(&words(&manifest, &restored, &verdict));
    }
    private.stop().await;
    Ok(match driven.ending {
        Ending::Finished if verdict.clean() => Exit::Finished,
        Ending::Finished => Exit::VerificationFailed,
        other => other.into(),
    })
}

/// Restores every table of the export into what stands in for its store.
async fn restored(
    folder: &Path,
    manifest: &Manifest,
    private: &PrivateStores,
    quiet: bool,
) -> Result<Vec<RestoredTable>, Failure> {
    let stores: BTreeSet<&str> = manifest.tables.iter().map(|table| table.store.as_str()).collect();
    let mut all = Vec::new();
    for store in stores {
        let at = world::named(&private.connections, store)?;
        let mut entries: Vec<&TableEntry> = manifest.tables.iter().filter(|table| table.store == store).collect();
        entries.sort_by_key(|table| table.structure.as_ref().map(|structure| structure.place));
        let tables = held(&entries, &[], &at)?;
        let into = private.tuned(store, world::restores(&private.connections, store).await?);
        let written = Arc::new(AtomicU64::new(0));
        let _said = progress(Arc::clone(&written), entries.iter().map(|entry| entry.records).sum());
        let source = |table: &HeldTable| lines(folder, &entries, table);
        let end = restore(&*into, &tables, &source, &written).await.map_err(|e| failed(e, &at))?;
        if !quiet {
            end.notices.iter().for_each(|notice| say(&format!("  {store}: {notice}")));
        }
        all.extend(end.tables);
    }
    Ok(all)
}

/// Refuses an export that lacks tables of the plan: what is not in it is not tried.
fn covered(config: &Config, manifest: &Manifest) -> Result<(), Failure> {
    let has = |store: &str, source: &str| {
        manifest.tables.iter().any(|e| e.store == store && config.plan.is_one_table(store, &e.source, source))
    };
    let lacks: Vec<&str> =
        config.plan.tables.iter().filter(|t| !has(&t.from, &t.source)).map(|t| t.id.as_str()).collect();
    if lacks.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the export holds no rows for {}: export every table of the plan, or rehearse with the config it was made by",
        lacks.join(", ")
    );
    Err(Failure::new(Exit::Usage, text))
}

/// The plan as far as an export can try it: tables are made, loaded and compared. Nothing of it is switched, frozen or
/// watched, and nothing is production.
fn reduced(config: &Config, manifest: &Manifest) -> Plan {
    let plan = &config.plan;
    let mut tables = plan.tables.clone();
    for table in &mut tables {
        as_exported(plan, table, manifest);
        for name in [&mut table.source, &mut table.target] {
            if let Some(own) = Arn::of(name).map(|arn| arn.table.to_owned()) {
                *name = own;
            }
        }
    }
    let mut load = plan.load.clone();
    load.read_budget_rcu = None;
    load.write_budget_wcu = None;
    let mut reverse = plan.reverse.clone();
    reverse.enabled = false;
    Plan {
        environment: "rehearsal".to_owned(),
        production: false,
        t0: None,
        tables,
        stays: Vec::new(),
        switches: Vec::new(),
        freeze: None,
        probes: Vec::new(),
        signals: Vec::new(),
        gates: Vec::new(),
        steps: steps(),
        load,
        reverse,
        stores: config.connections.stores(),
        dials: vec![],
        jobs: vec![],
        ..Plan::clone(plan)
    }
}

/// A table that the plan finds in its target is not there in the private one. Where its rows go as they are it is made as
/// the export says of the one they come from.
fn as_exported(plan: &Plan, table: &mut Table, manifest: &Manifest) {
    let same = plan.kind(&table.from) == plan.kind(&table.to);
    let fits = match plan.kind(&table.to) {
        StoreKind::Dynamodb => table.is_whole(),
        // Statements make the table of the name they say.
        StoreKind::Postgresql => {
            listed_name(StoreKind::Postgresql, &table.source) == listed_name(StoreKind::Postgresql, &table.target)
        }
        StoreKind::Aws => false,
    };
    if table.ddl.is_some() || !same || !fits {
        return;
    }
    let of = |e: &&TableEntry| e.store == table.from && plan.is_one_table(&table.from, &e.source, &table.source);
    if let Some(structure) = manifest.tables.iter().find(of).and_then(|entry| entry.structure.clone()) {
        table.ddl = Some(structure.ddl);
        table.after_load = structure.after_load;
    }
}

fn steps() -> Vec<Step> {
    const MINUTE: i64 = 60_000;
    let all = [
        ("preflight", "check the private stores", StepKind::Preflight),
        ("set-up", "make the target's tables", StepKind::SetUp),
        ("capture", "begin to capture changes", StepKind::Capture),
        ("load", "load what was restored", StepKind::Load),
        ("catch-up", "catch up with changes", StepKind::CatchUp { max_lag_ms: 10_000 }),
        ("verify", "compare both sides", StepKind::Verify),
    ];
    let first = -(all.len() as i64) * MINUTE;
    let each = all.into_iter().zip(0..).map(|((id, title, kind), n)| Step {
        id: id.to_owned(),
        title: title.to_owned(),
        at_ms: first + n * MINUTE,
        takes_ms: MINUTE,
        owner: String::new(),
        kind,
        start: Start::WhenReady,
        confirm: Confirm::None,
        two_person: false,
        undo: String::new(),
    });
    each.collect()
}

/// What became of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// Rows that are equal on both sides.
    equal: u64,
    /// Rows that differ.
    differ: u64,
    /// Rows that the mapping or the target does not take.
    parked: u64,
    /// Records past their time that the target has dropped.
    expired: u64,
    /// Tables that were not compared, or of which nothing was.
    unproven: usize,
}

impl Verdict {
    const fn clean(&self) -> bool {
        self.differ == 0 && self.parked == 0 && self.unproven == 0
    }
}

fn verdict(plan: &Plan, state: &RunState) -> Verdict {
    let mut verdict = Verdict::default();
    for table in &plan.tables {
        match state.tables.get(&table.id).and_then(|table| table.verified.as_ref()) {
            Some((_, found)) => {
                verdict.equal += found.equal;
                verdict.differ += found.differing();
                verdict.parked += found.parked;
                verdict.expired += found.expired;
                verdict.unproven += usize::from(!found.clean());
            }
            None => verdict.unproven += 1,
        }
    }
    verdict
}

fn words(manifest: &Manifest, restored: &[RestoredTable], verdict: &Verdict) -> String {
    let mut out = String::new();
    for table in restored {
        out.push_str(&format!(
            "BACKUP      {}: {} records restored and read back, digest {}\n",
            table.id,
            table.digest.records,
            table.digest.hex()
        ));
    }
    for left in &manifest.left_out {
        out.push_str(&format!("NOT IN IT   {left}\n"));
    }
    let records: u64 = restored.iter().map(|table| table.digest.records).sum();
    let Verdict { equal, differ, parked, expired, unproven } = verdict;
    let unproven =
        if *unproven == 0 { String::new() } else { format!(", {unproven} tables not proven to have arrived whole") };
    out.push_str(&format!(
        "VERDICT     the export of {} can be restored: {} tables, {records} records; of them {equal} rows arrived as they \
         should, {differ} differ, {parked} parked, {expired} expired{unproven}\n",
        manifest.began,
        restored.len()
    ));
    out
}

fn as_json(manifest: &Manifest, restored: &[RestoredTable], verdict: &Verdict) -> serde_json::Value {
    let tables: Vec<_> = restored
        .iter()
        .map(|t| json!({ "table": t.id, "records": t.digest.records, "digest": t.digest.hex() }))
        .collect();
    let Verdict { equal, differ, parked, expired, unproven } = verdict;
    json!({ "type": "verdict", "clean": verdict.clean(), "exported": manifest.began, "restored": tables, "equal": equal,
        "differ": differ, "parked": parked, "expired": expired, "unproven": unproven, "left_out": manifest.left_out })
}
