//! `cutover init`: reads the stores that a config names, and writes the rest of it as a proposal; or writes a template.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::args::ConfigArg;
use super::exit::Exit;
use super::failure::Failure;
use super::out::{print, say};
use super::template::{self, Template};
use super::world;
use crate::config::{self, Connections, Started};
use crate::domain::plan::{Listed, ListedTable, StoreKind, Table, fits};
use crate::domain::propose::{SampledTable, day, moved, proposed, renamed};
use crate::ports::{Partition, PortResult, Source};

/// Parts a table is sampled in: the beginning of each is read.
const PARTS: u32 = 8;

/// What to propose, and where to write it.
#[derive(Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Write this plan, whole and commented, instead of reading stores: its environments are development, test and
    /// production.
    #[arg(long, value_name = "NAME", value_parser = template::names(),
        conflicts_with_all = ["from", "to", "tables", "sample", "env"])]
    pub template: Option<String>,
    /// The store that tables come from. Stores of the config that are neither this nor the other one are left as they are.
    #[arg(long, value_name = "STORE", default_value = crate::domain::plan::OLD)]
    pub from: String,
    /// The store they go to.
    #[arg(long, value_name = "STORE", default_value = crate::domain::plan::NEW)]
    pub to: String,
    /// Only tables whose name fits: `*` stands for any text; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    pub tables: Vec<String>,
    /// About how many items of each table are read, where tables have no schema.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: u64,
    /// Write into this file instead of to standard output. An existing file is not touched.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
}

/// Reads the stores and writes the proposal, or writes the template that was asked for.
///
/// # Errors
/// A config that names no stores, a store that cannot be asked, a file that cannot be written.
pub async fn init(args: &InitArgs) -> Result<Exit, Failure> {
    // The parser knows their names.
    if let Some(template) = args.template.as_deref().and_then(template::named) {
        return from_template(template, args.write.as_deref());
    }
    let vars: BTreeMap<String, String> = std::env::vars().collect();
    let (path, base) = (&args.config.config, config::base_of(&args.config.config));
    let text = config::text_of(path)?;
    let (file, env) = (path.display().to_string(), args.config.env.as_deref());
    named(args, &config::store_names(&file, &text, &vars, env)?)?;
    let mut started = config::started(&file, &text, &base, &vars, env, (&args.from, &args.to))?;
    world::all_built(&started.connections)?;
    world::name_endpoints(&mut started.connections).await;
    let (from, to) = (args.from.as_str(), args.to.as_str());
    let kinds = kinds(&started.connections, from, to)?;
    let one_account = may_be_one(&started.connections, from, to);
    let catalogue = world::catalogue(&started.connections, from).await?;
    let names = catalogue.names().await?;
    let wanted = wanted(&names, &args.tables, from)?;
    let listed = catalogue.listed(names, &wanted, false).await?;
    let proposal = match kinds {
        (StoreKind::Dynamodb, StoreKind::Postgresql) => sampled(args, &started, &listed).await?,
        (StoreKind::Dynamodb, StoreKind::Dynamodb) if one_account => renamed(&listed, (from, to), &mut BTreeSet::new()),
        (one, other) if one == other => moved(&listed, (from, to), &args.tables),
        (one, other) => {
            let text = format!("tables do not move from a {} to a {} store", one.name(), other.name());
            return Err(Failure::new(Exit::Usage, format!("{text}; name others with --from and --to")));
        }
    };
    let config = whole(&started, &text, &proposal);
    let next = given(&config, args.write.as_deref())?;
    say(&format!("{} tables. {next}`", wanted.len()));
    Ok(Exit::Finished)
}

/// Writes a template, and says how to go on from it.
fn from_template(template: &Template, file: Option<&Path>) -> Result<Exit, Failure> {
    let next = given(template.text, file)?;
    let rehearsal = template.rehearsal();
    say(&format!("{}: {}. {next} --env test`{rehearsal}", template.name, template.about));
    Ok(Exit::Finished)
}

/// Writes a config to where it was asked for, and says what to do with it; the command it ends with is not closed.
fn given(config: &str, file: Option<&Path>) -> Result<String, Failure> {
    match file {
        Some(file) => written(file, config)?,
        None => print(config),
    }
    let open = config.lines().filter(|line| line.starts_with("# decide:")).count();
    let file = file.map_or_else(|| "FILE".to_owned(), |file| file.display().to_string());
    Ok(format!("{open} lines begin with `# decide:`; settle them, then `cutover check -c {file}"))
}

/// Refuses a store that the config does not name. A file may name more than the two that a proposal is for.
fn named(args: &InitArgs, names: &[String]) -> Result<(), Failure> {
    for (option, name) in [("--from", &args.from), ("--to", &args.to)] {
        if !names.contains(name) {
            let there = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let text = format!(
                "{option} {name}: the config has no store `{name}`; it has {there}. A proposal is for two of them: name the one \
                 tables come from with --from, and the one they go to with --to"
            );
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    Ok(())
}

/// The kinds of both stores.
fn kinds(connections: &Connections, from: &str, to: &str) -> Result<(StoreKind, StoreKind), Failure> {
    let stores = connections.stores();
    let kind = |name: &str| {
        let unknown = || Failure::new(Exit::Usage, format!("the config does not say where the store `{name}` is"));
        stores.get(name).map(|store| store.kind).ok_or_else(unknown)
    };
    Ok((kind(from)?, kind(to)?))
}

/// Whether a table's name means the same table in both stores, so that no rule can move it.
fn may_be_one(connections: &Connections, from: &str, to: &str) -> bool {
    let stores = connections.stores();
    from == to || stores.get(from).zip(stores.get(to)).is_some_and(|(one, other)| one.may_be_tables_of(other))
}

/// The tables that fit the patterns; all of them without one.
fn wanted(names: &[String], patterns: &[String], store: &str) -> Result<Vec<String>, Failure> {
    for pattern in patterns {
        if !names.iter().any(|name| fits(pattern, name)) {
            let text = format!("--tables {pattern}: no table of the store `{store}` fits; it has {}", names.join(", "));
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    let fit = |name: &&String| patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, name));
    let wanted: Vec<String> = names.iter().filter(fit).cloned().collect();
    if wanted.is_empty() {
        return Err(Failure::new(Exit::Usage, format!("the store `{store}` has no table")));
    }
    Ok(wanted)
}

/// Reads a sample of each table.
async fn sampled(args: &InitArgs, started: &Started, listed: &Listed) -> Result<String, Failure> {
    let source = world::items(&started.connections, &args.from).await?;
    let (mut out, mut taken) = (String::new(), BTreeSet::new());
    for table in &listed.tables {
        let seen = sample(&*source, table, args.sample).await?;
        say(&format!("{}: {} items read", table.name, seen.items));
        let _ = writeln!(out, "{}", proposed(&seen, (&args.from, &args.to), &mut taken));
    }
    Ok(out)
}

async fn sample(source: &dyn Source, table: &ListedTable, items: u64) -> PortResult<SampledTable> {
    let of = Table::watched(&table.name, &table.name);
    let described = source.describe(&of).await?;
    let mut seen = SampledTable {
        name: table.name.clone(),
        key: table.columns.iter().filter(|c| c.key).map(|c| (c.name.clone(), c.ty)).collect(),
        ttl: table.ttl.clone(),
        count: described.count.rows,
        ..SampledTable::default()
    };
    for index in 0..PARTS {
        let (part, enough) = (Partition { index, of: PARTS }, items * u64::from(index + 1) / u64::from(PARTS));
        let mut cursor = None;
        while seen.items < enough {
            let page = source.page(&of, part, cursor.as_ref()).await?;
            let end = source.read(&page, &mut |record| seen.look(record))?;
            cursor = end.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(seen)
}

/// What the file says already, the tables, and a day unless it has one.
fn whole(started: &Started, text: &str, proposal: &str) -> String {
    let mut config = format!("{}\n", text.trim_end());
    config.push_str("\n# ── Tables that move ");
    config.push_str(&"─".repeat(80));
    let _ = write!(config, "\n\n{proposal}");
    if !started.has_steps {
        config.push_str(&day(&started.name));
    }
    config
}

/// Writes a new file. One that is there is left as it is.
fn written(path: &Path, text: &str) -> Result<(), Failure> {
    let tried = |e: std::io::Error| {
        Failure::new(Exit::Usage, format!("--write {}: {e}; name a file that is not there yet", path.display()))
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(tried)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(tried)
}
