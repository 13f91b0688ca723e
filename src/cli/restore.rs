//! `cutover restore`: an export, written back into a store that the config names.

use std::ops::ControlFlow;
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
use super::export::words;
use super::failure::Failure;
use super::out::{print, say};
use super::{listing, nearest, world};
use crate::config::StoreConnection;
use crate::domain::plan::Arn;
use crate::export::{self, Manifest, RecordForm, TableEntry};
use crate::ports::{ErrorKind, HeldTable, PortError, PortResult};
use crate::workers::{Before, RestoreEnd, RestoreError, restore as write_back};

/// Pieces of a table that wait to be written.
const WAITING: usize = 4;
/// How often progress is said.
const EVERY: Duration = Duration::from_secs(5);

/// What to write back, and where to.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The folder of the export.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    #[command(flatten)]
    pub config: ConfigArg,
    /// The store to write into, as the config calls it.
    #[arg(long, value_name = "STORE")]
    pub to: String,
    /// Only tables that were exported from this store.
    #[arg(long, value_name = "STORE")]
    pub from: Option<String>,
    /// Only this table; may be given several times.
    #[arg(long, value_name = "TABLE")]
    pub table: Vec<String>,
    /// Write this table under another name than it had; may be given several times.
    #[arg(long = "as", value_name = "TABLE=NAME")]
    pub name: Vec<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `cutover restore`.
pub async fn restore(args: &RestoreArgs) -> Result<Exit, Failure> {
    let draft = listing::draft(&args.config)?;
    if draft.production && args.config.env.is_none() {
        let text = format!(
            "restore writes into a store, and {} is production: say so with --env {}",
            args.config.config.display(),
            draft.environment
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    let mut connections = draft.connections;
    world::name_endpoints(&mut connections).await;
    let at = world::named(&connections, &args.to)?;
    let manifest = whole(&args.folder, args.json).await?;
    let entries = chosen(&manifest, args)?;
    let tables = held(&entries, &args.name, &at)?;
    let into = world::restores(&connections, &args.to).await?;
    let written = Arc::new(AtomicU64::new(0));
    let all = entries.iter().map(|entry| entry.records).sum();
    let _said = progress(Arc::clone(&written), all);
    let source = |table: &HeldTable| lines(&args.folder, &entries, table);
    let end = tokio::select! {
        end = write_back(&*into, &tables, &source, &written) => end.map_err(|e| failed(e, &at))?,
        // A transaction ends with its connection.
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(Exit::Unexpected, format!("stopped by Ctrl-C; {}", left(&at))));
        }
    };
    shown(args, &manifest, &end);
    Ok(Exit::Finished)
}

/// The manifest of an export of which every byte is as it was written.
///
/// # Errors
/// There is none, or something is not.
pub(super) async fn whole(folder: &Path, quiet: bool) -> Result<Manifest, Failure> {
    let (folder, name) = (folder.to_owned(), folder.display().to_string());
    let mut wrong = Vec::new();
    let read = tokio::task::spawn_blocking(move || {
        let manifest = export::verify(&folder, &mut |checked| {
            if !checked.wrong.is_empty() {
                wrong.push(words(checked));
            } else if !quiet {
                print(&words(checked));
            }
        });
        manifest.map(|manifest| (manifest, wrong))
    });
    let (manifest, wrong) = read.await.map_err(|e| Failure::new(Exit::Bug, format!("the reader stopped: {e}")))??;
    if wrong.is_empty() {
        return Ok(manifest);
    }
    let text = format!(
        "{name} is not as it was written, and nothing was restored of it:\n{}keep it as it is, and restore another copy",
        wrong.concat()
    );
    Err(Failure::new(Exit::Damaged, text))
}

/// The tables that were asked for, in the order in which they can be made.
fn chosen<'m>(manifest: &'m Manifest, args: &RestoreArgs) -> Result<Vec<&'m TableEntry>, Failure> {
    let known = || manifest.tables.iter().map(|table| table.id.as_str());
    for id in &args.table {
        if !known().any(|known| known == id) {
            let near = nearest(id, known()).map_or_else(String::new, |near| format!("; did you mean {near}?"));
            let known: Vec<&str> = known().collect();
            let text = format!("--table {id}: the export has no such table but {}{near}", known.join(", "));
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    let mut all: Vec<&TableEntry> = manifest.tables.iter().collect();
    all.retain(|table| args.table.is_empty() || args.table.contains(&table.id));
    all.retain(|table| args.from.as_ref().is_none_or(|from| *from == table.store));
    if all.is_empty() {
        let mut stores: Vec<&str> = manifest.tables.iter().map(|table| table.store.as_str()).collect();
        stores.sort_unstable();
        stores.dedup();
        let text =
            format!("no table of the export is to be restored: its tables are of the stores {}", stores.join(", "));
        return Err(Failure::new(Exit::Usage, text));
    }
    // What has no structure is made of nothing that another table would have to be made for.
    all.sort_by_key(|table| table.structure.as_ref().map(|structure| structure.place));
    Ok(all)
}

/// The tables under the names they are restored as.
pub(super) fn held(entries: &[&TableEntry], names: &[String], at: &StoreConnection) -> Result<Vec<HeldTable>, Failure> {
    let usage = |text: String| Failure::new(Exit::Usage, text);
    let mut given = Vec::new();
    for one in names {
        let (id, name) = one.split_once('=').ok_or_else(|| usage(format!("--as {one}: write it as TABLE=NAME")))?;
        if name.is_empty() || !entries.iter().any(|entry| entry.id == id) {
            return Err(usage(format!("--as {one}: no table {id} is to be restored, or it has no name")));
        }
        given.push((id, name));
    }
    let mut tables = Vec::new();
    for entry in entries {
        let (takes, fits) = match at {
            StoreConnection::Dynamodb(_) => ("DynamoDB", entry.form == RecordForm::DynamodbJson),
            StoreConnection::Postgresql(_) => ("PostgreSQL", entry.form == RecordForm::PostgresqlText),
        };
        if !fits {
            let text = format!(
                "table {} was exported from the store {} as that kind of store writes it, and the store to restore into is \
                 {takes}: choose another one, or other tables (--from, --table)",
                entry.id, entry.store
            );
            return Err(usage(text));
        }
        let own = Arn::of(&entry.source).map_or(entry.source.as_str(), |arn| arn.table);
        let name = given.iter().find(|(id, _)| *id == entry.id).map(|(_, name)| *name);
        // Statements make the table of the name they say; a definition any.
        let makes = match at {
            StoreConnection::Dynamodb(_) => true,
            StoreConnection::Postgresql(_) => name.is_none_or(|name| name == own),
        };
        let structure = entry.structure.as_ref().filter(|_| makes);
        tables.push(HeldTable {
            id: entry.id.clone(),
            name: name.unwrap_or(own).to_owned(),
            key: entry.key.clone(),
            columns: entry.columns.clone(),
            ddl: structure.map(|structure| structure.ddl.clone()),
            after_load: structure.map(|structure| structure.after_load.clone()).unwrap_or_default(),
        });
    }
    let mut known: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    known.sort_unstable();
    if let Some(twice) = known.windows(2).find(|pair| pair[0] == pair[1]) {
        let text = format!(
            "two tables would be restored as {}: choose one (--from, --table), or another name (--as)",
            twice[0]
        );
        return Err(usage(text));
    }
    Ok(tables)
}

/// The lines of a table, read on a thread of their own.
pub(super) fn lines(folder: &Path, entries: &[&TableEntry], table: &HeldTable) -> mpsc::Receiver<PortResult<Vec<u8>>> {
    let (sink, lines) = mpsc::channel(WAITING);
    let Some(entry) = entries.iter().find(|entry| entry.id == table.id) else { return lines };
    let (folder, entry) = (folder.to_owned(), TableEntry::clone(entry));
    tokio::task::spawn_blocking(move || {
        let read = export::read(&folder, &entry, &mut |piece| match sink.blocking_send(Ok(piece)) {
            Ok(()) => ControlFlow::Continue(()),
            // Nobody takes its lines any more.
            Err(_) => ControlFlow::Break(()),
        });
        if let Err(e) = read {
            let error = PortError::new(ErrorKind::Invalid, "read the export of", &entry.id, e.to_string());
            let _ = sink.blocking_send(Err(error));
        }
    });
    lines
}

/// Says now and then how far it has come, while the handle lives.
pub(super) fn progress(written: Arc<AtomicU64>, of: u64) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(EVERY).await;
            say(&format!("  {} of {of} records written", written.load(Ordering::Relaxed)));
        }
    }))
}

/// What a restore that did not come to its end leaves behind.
fn left(at: &StoreConnection) -> &'static str {
    match at {
        StoreConnection::Dynamodb(_) => "what was written of the tables stays; the same command again goes on",
        StoreConnection::Postgresql(_) => "nothing was kept: all of it is one transaction",
    }
}

/// A restore that failed, with its exit code and what it left behind.
pub(super) fn failed(e: RestoreError, at: &StoreConnection) -> Failure {
    match e {
        RestoreError::Port(e) => {
            let failure = Failure::from(e);
            Failure::new(failure.exit, format!("{}; {}", failure.words(), left(at)))
        }
        refused @ RestoreError::Refused(_) => Failure::new(Exit::Refused, refused.to_string()),
        differs @ RestoreError::Differs(_) => {
            Failure::new(Exit::VerificationFailed, format!("{differs}\n{}", left(at)))
        }
    }
}

fn shown(args: &RestoreArgs, manifest: &Manifest, end: &RestoreEnd) {
    let records: u64 = end.tables.iter().map(|table| table.digest.records).sum();
    if args.json {
        let tables: Vec<_> = end
            .tables
            .iter()
            .map(|t| {
                let (made, already) = (t.before == Before::Nothing, t.before == Before::All);
                json!({ "table": t.id, "name": t.name, "records": t.digest.records, "digest": t.digest.hex(),
                    "made": made, "already": already })
            })
            .collect();
        let said = json!({ "plan": manifest.plan, "store": args.to, "records": records, "tables": tables,
            "notices": end.notices, "left_out": manifest.left_out });
        print(&format!("{said}\n"));
        return;
    }
    for table in &end.tables {
        let (records, digest) = (table.digest.records, table.digest.hex());
        let before = match table.before {
            Before::Nothing => "made and restored".to_owned(),
            Before::Empty => "restored".to_owned(),
            Before::Some(there) => format!("restored: {there} records of it were there already"),
            Before::All => "there already, all of it".to_owned(),
        };
        print(&format!("  ok    {:<24} {records} records read back, digest {digest}: {before}\n", table.name));
    }
    end.notices.iter().for_each(|notice| print(&format!("  note  {notice}\n")));
    manifest.left_out.iter().for_each(|left| print(&format!("  note  not in the export: {left}\n")));
    print(&format!("{} tables of {} restored into {}, {records} records\n", end.tables.len(), manifest.plan, args.to));
}
