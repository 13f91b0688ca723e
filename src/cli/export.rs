//! `cutover export`: source tables into local files, and such files read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::args::ConfigArg;
use super::exit::Exit;
use super::failure::Failure;
use super::listing::Over;
use super::out::{print, say};
use super::record::chosen;
use super::{run, world};
use crate::config::Config;
use crate::domain::estimate::dollars;
use crate::domain::plan::{Table, listed_name};
use crate::engine::MachineClock;
use crate::export::{
    self, Checked, ExportError, ExportFolder, LinesFile, Manifest, RecordForm, Structure, TableEntry, Written,
};
use crate::ports::{ByStore, Clock as _, PointInTime, Source};
use crate::workers::{ExportLines, ExportPace, ReadBudget, export_moment, export_pages};

/// Pieces of a table that wait to be compressed.
const WAITING: usize = 4;
/// How often progress is said.
const EVERY: Duration = Duration::from_secs(5);

/// What to copy, and where to.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Only this table; may be given several times.
    #[arg(long, value_name = "TABLE")]
    pub table: Vec<String>,
    /// The folder to make; one that is there is not touched.
    #[arg(long, value_name = "DIR", required_unless_present = "verify")]
    pub to: Option<PathBuf>,
    /// Read an export again, and compare it with its manifest; no store is asked.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["to", "table"])]
    pub verify: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

impl From<ExportError> for Failure {
    fn from(e: ExportError) -> Self {
        let exit = match &e {
            ExportError::Exists(_) | ExportError::Partial(_) => Exit::Usage,
            ExportError::NoManifest(_) | ExportError::Manifest { .. } => Exit::Damaged,
            ExportError::Io { .. } => Exit::Unexpected,
        };
        Self { exit, report: e.into() }
    }
}

/// `cutover export`.
pub async fn export(args: &ExportArgs) -> Result<Exit, Failure> {
    match (&args.verify, &args.to) {
        (Some(folder), _) => verify(folder, args.json).await,
        (None, Some(to)) => {
            let (config, _) = run::load(&args.config, Over::Now).await?;
            tokio::select! {
                done = write(&config, args, to) => done,
                // What is written so far is removed on the way out.
                _ = tokio::signal::ctrl_c() => {
                    Err(Failure::new(Exit::Unexpected, "stopped by Ctrl-C; what was written of the export is removed"))
                }
            }
        }
        (None, None) => Err(Failure::new(Exit::Usage, "--to DIR: say which folder to make")),
    }
}

async fn write(config: &Config, args: &ExportArgs, to: &Path) -> Result<Exit, Failure> {
    let plan = &config.plan;
    let tables: Vec<Table> = chosen(plan, &args.table)?.into_iter().cloned().collect();
    let folder = ExportFolder::create(to)?;
    let clock = MachineClock::default();
    let (sources, callers) = world::sources_alone(plan, &config.connections).await?;
    let mut manifest = Manifest::begun(&plan.key(), &plan.hash(), clock.wall());
    let mut stores: BTreeMap<&str, Vec<Table>> = BTreeMap::new();
    for table in &tables {
        stores.entry(&table.from).or_default().push(table.clone());
    }
    let budget = Arc::new(ReadBudget::new(plan.load.read_budget_rcu));
    let mut units = None;
    for (store, tables) in stores {
        manifest.stores.extend(plan.stores.get(store).map(|identity| (store.to_owned(), identity.clone())));
        manifest.signed_as.extend(callers.get(store).map(|caller| (store.to_owned(), caller.to_string())));
        let reader = Reader { config, sources: &sources, folder: &folder, clock: &clock, budget: &budget };
        units = reader.store(store, &tables, &mut manifest, units).await?;
    }
    manifest.ended = clock.wall().rfc3339();
    folder.complete(&manifest)?;
    shown(to, &manifest, units, args.json)?;
    Ok(Exit::Finished)
}

/// Reads one store after the other.
struct Reader<'e> {
    config: &'e Config,
    sources: &'e ByStore<dyn Source>,
    folder: &'e ExportFolder,
    clock: &'e MachineClock,
    budget: &'e Arc<ReadBudget>,
}

impl Reader<'_> {
    /// Reads the tables of a store: all at one moment where it shows one.
    async fn store(
        &self,
        store: &str,
        tables: &[Table],
        manifest: &mut Manifest,
        mut units: Option<f64>,
    ) -> Result<Option<f64>, Failure> {
        let source = self.sources.named(store);
        let mut moment = source.point_in_time(tables).await?;
        for table in tables {
            let described = source.describe(table).await?;
            let (file, lines) = self.folder.table(&table.id)?;
            let entry = TableEntry {
                id: table.id.clone(),
                store: store.to_owned(),
                source: table.source.clone(),
                key: described.key,
                columns: moment.as_ref().map(|s| s.columns(table)).unwrap_or_default(),
                file,
                form: if moment.is_some() { RecordForm::PostgresqlText } else { RecordForm::DynamodbJson },
                records: 0,
                bytes: 0,
                file_bytes: 0,
                sha256: String::new(),
                digest: None,
                structure: None,
                began: self.clock.wall().rfc3339(),
                ended: String::new(),
                moment: moment.as_ref().map(|s| s.moment().to_owned()),
            };
            let segments = self.config.plan.load.segments_of(described.bytes);
            let (written, cost) = self.table(source, table, segments, moment.as_deref_mut(), lines).await?;
            units = cost.map(|cost| units.unwrap_or(0.0) + cost).or(units);
            let ended = self.clock.wall().rfc3339();
            manifest.tables.push(TableEntry { ended, ..entry }.with(written));
        }
        self.structures(store, tables, manifest).await;
        Ok(units)
    }

    /// Notes what makes the tables of a store again. What cannot be had is named: their records are in the export all the
    /// same.
    async fn structures(&self, store: &str, tables: &[Table], manifest: &mut Manifest) {
        let kind = self.config.plan.kind(store);
        let asked = async {
            let catalogue = world::catalogue(&self.config.connections, store).await?;
            let wanted: Vec<String> = tables.iter().map(|table| listed_name(kind, &table.source)).collect();
            Ok::<_, Failure>(catalogue.listed(catalogue.names().await?, &wanted, true).await?)
        };
        let listed = match asked.await {
            Ok(listed) => listed,
            Err(failure) => {
                let why = format!("what the tables of the store {store} are made of: {}", failure.words());
                manifest.left_out.push(why);
                return;
            }
        };
        manifest.left_out.extend(listed.left_out);
        let mut unknown: Vec<String> = Vec::new();
        for table in tables {
            let name = listed_name(kind, &table.source);
            let found = listed.tables.iter().enumerate().find(|(_, listed)| listed.name == name);
            match found.and_then(|(place, listed)| Some((place, listed.ddl.clone()?, listed))) {
                Some((place, ddl, listed)) => {
                    let structure = Structure { place, ddl, after_load: listed.after_load.clone() };
                    let of_table = manifest.tables.iter_mut().filter(|e| e.id == table.id && e.store == store);
                    of_table.for_each(|entry| entry.structure = Some(structure.clone()));
                }
                None => {
                    let unfit = found.and_then(|(_, listed)| listed.unfit.first());
                    unknown.extend(unfit.map(|(why, _)| format!("{name}: {why}")));
                }
            }
        }
        if manifest.tables.iter().any(|entry| entry.store == store && entry.structure.is_none()) {
            let why = if unknown.is_empty() { "the store did not say it".to_owned() } else { unknown.join("; ") };
            manifest.left_out.push(format!("what some tables of the store {store} are made of: {why}"));
        }
    }

    /// Reads one table into its file: one task reads, one thread compresses and writes.
    async fn table(
        &self,
        source: &Arc<dyn Source>,
        table: &Table,
        segments: u32,
        moment: Option<&mut (dyn PointInTime + 'static)>,
        file: LinesFile<std::fs::File>,
    ) -> Result<(Written, Option<f64>), Failure> {
        let (sink, lines) = mpsc::channel(WAITING);
        let records = Arc::new(AtomicU64::new(0));
        let _progress = progress(table.id.clone(), Arc::clone(&records));
        let writer = tokio::task::spawn_blocking(move || compressed(lines, file, &records));
        let pace = ExportPace { segments, workers: self.config.plan.load.workers };
        let read = match moment {
            Some(moment) => export_moment(moment, table, &sink).await.map(|()| None),
            None => export_pages(source, table, pace, self.budget, &sink).await,
        };
        drop(sink);
        // What the disk said comes first: a reader ends when nobody takes its lines any more.
        let written = writer.await.map_err(|e| Failure::new(Exit::Bug, format!("the writer stopped: {e}")))??;
        Ok((written, read?))
    }
}

fn compressed(
    mut lines: mpsc::Receiver<ExportLines>,
    mut file: LinesFile<std::fs::File>,
    records: &AtomicU64,
) -> Result<Written, ExportError> {
    while let Some(piece) = lines.blocking_recv() {
        file.write(&piece.lines, piece.records)?;
        records.fetch_add(piece.records, Ordering::Relaxed);
    }
    file.finish()
}

/// Says now and then how far a table has come, while the handle lives.
fn progress(table: String, records: Arc<AtomicU64>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            say(&format!("  {table}: {} records so far", records.load(Ordering::Relaxed)));
        }
    }))
}

fn shown(to: &Path, manifest: &Manifest, units: Option<f64>, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let text = serde_json::to_string_pretty(&json!({ "folder": to, "read_units": units, "manifest": manifest }));
        print(&format!("{}\n", text.map_err(std::io::Error::from)?));
        return Ok(());
    }
    for table in &manifest.tables {
        let TableEntry { id, source, records, file_bytes, .. } = table;
        let moment = match &table.moment {
            Some(moment) => format!("as of {moment}"),
            None => format!("NOT of one moment: read from {} to {}", table.began, table.ended),
        };
        print(&format!("  {id:<16} {records} records of {source}, {file_bytes} bytes, {moment}\n"));
    }
    if manifest.tables.iter().any(|table| table.moment.is_none()) {
        print(
            "  a table that is not of one moment was read while customers could write: each record is as it stood at some\n  \
             moment of the reading, and what came or went meanwhile may be there or not\n",
        );
    }
    manifest.left_out.iter().for_each(|left| print(&format!("  not in it: {left}\n")));
    if let Some(units) = units {
        print(&format!("  {units:.0} read units, ${:.2}\n", dollars(units)));
    }
    print(&format!(
        "{} tables in {}; `cutover export --verify DIR` reads them again\n",
        manifest.tables.len(),
        to.display()
    ));
    Ok(())
}

/// `cutover export --verify`.
async fn verify(folder: &Path, as_json: bool) -> Result<Exit, Failure> {
    let folder: PathBuf = folder.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut all: Vec<Checked> = Vec::new();
        export::verify(&folder, &mut |checked| {
            if !as_json {
                print(&words(checked));
            }
            all.push(checked.clone());
        })
        .map(|manifest| (manifest, all))
    });
    let (manifest, all) = read.await.map_err(|e| Failure::new(Exit::Bug, format!("the reader stopped: {e}")))??;
    let wrong = all.iter().filter(|checked| !checked.wrong.is_empty()).count();
    if as_json {
        let tables: Vec<_> = all
            .iter()
            .map(|c| json!({ "table": c.table, "records": c.records, "bytes": c.bytes, "wrong": c.wrong }))
            .collect();
        print(&format!("{}\n", json!({ "plan": manifest.plan, "whole": wrong == 0, "tables": tables })));
    } else {
        print(&format!("{} tables of {}, {wrong} not as they were written\n", all.len(), manifest.plan));
    }
    Ok(if wrong == 0 { Exit::Finished } else { Exit::Damaged })
}

/// What was found of one table, a line or several.
pub(super) fn words(checked: &Checked) -> String {
    let Checked { table, records, bytes, digest: _, wrong } = checked;
    if wrong.is_empty() {
        return format!("  ok    {table:<16} {records} records, {bytes} bytes of lines\n");
    }
    wrong.iter().map(|wrong| format!("  FAIL  {table:<16} {wrong}\n")).collect()
}
