//! `config.toml`: typed, compiled to a plan, and located: every problem at once, each with its place.

mod check;
mod compile;
mod connections;
mod error;
mod keys;
mod node;
mod saved;
mod schema;
mod section;
mod stores;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use connections::{Aws, Connections, Credentials, Endpoints, Postgres, SslMode, StoreConnection};
pub use error::{ConfigErrors, Located};
pub use saved::SavedConnections;
pub use schema::schema;

use crate::domain::lint::{Severity, lint};
use crate::domain::plan::Plan;
use error::Sink;
use node::Node;
use section::Section;

/// The migration as the file says it, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The linted plan.
    pub plan: Arc<Plan>,
    /// Where the stores and the control plane are.
    pub connections: Connections,
    /// The file, as given.
    pub path: PathBuf,
    /// What a person should know though the plan may run.
    pub warnings: Vec<Located>,
    /// Where the file says what a check may find wrong, `FILE:LINE:COLUMN` by path: tables, their columns and children.
    pub places: BTreeMap<String, String>,
}

impl Config {
    /// Where the file says what stands at this path, or at the nearest one around it; `None` for what no file says.
    #[must_use]
    pub fn place(&self, path: &str) -> Option<&str> {
        let mut around = Some(path).filter(|path| !path.is_empty());
        while let Some(path) = around {
            if let Some(place) = self.places.get(path) {
                return Some(place);
            }
            around = path.rfind(['.', '[']).map(|end| &path[..end]);
        }
        None
    }
}

/// Reads a config file. `vars` fill `${NAME}`. Every problem is reported at once; exit code 78.
pub fn load(path: &Path, vars: &BTreeMap<String, String>) -> Result<Config, ConfigErrors> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| {
        let sink = Sink::new(&name, "");
        let next = "name another with -c FILE, or begin with a copy of config.toml.example";
        ConfigErrors::new(vec![sink.at(0, "", format!("cannot read the file: {e}; {next}"), None)])
    })?;
    // Whole paths: a run is resumed and rolled back from other folders than this one.
    let base = std::env::current_dir().unwrap_or_default().join(path.parent().unwrap_or_else(|| Path::new("")));
    load_str(&name, &text, &base, vars)
}

/// Reads a config from text. `name` stands in messages; files it names are relative to `base_dir`.
pub fn load_str(
    name: &str,
    text: &str,
    base_dir: &Path,
    vars: &BTreeMap<String, String>,
) -> Result<Config, ConfigErrors> {
    let mut sink = Sink::new(name, text);
    let document = node::parse(text, vars, &mut sink);
    check::check(&document, keys::ROOT, "", &mut sink);
    let root = Section::new(&document, keys::ROOT, "");
    let connections = connections::read(&root, base_dir, &mut sink);
    connected(&connections, &root, &mut sink);
    let mut plan = compile::plan(&root, connections.pool(), base_dir, &mut sink);
    plan.stores = connections.stores();

    // What was reported already is not reported again as a consequence.
    let unknown_kind = sink.items.iter().any(|i| i.path.starts_with("steps[") && i.path.ends_with(".kind"));
    let mut warnings = Vec::new();
    let mut errors = Vec::new();
    for f in lint(&plan) {
        if sink.reported(&f.path) || (unknown_kind && f.path.ends_with(".kind")) {
            continue;
        }
        let item = sink.at(document.locate(&f.path), &f.path, f.message, f.nearest);
        match f.severity {
            Severity::Error => errors.push(item),
            Severity::Warning => warnings.push(item),
        }
    }
    sink.items.append(&mut errors);
    if sink.items.is_empty() {
        let places = places(&plan, &document, &sink);
        Ok(Config { plan: Arc::new(plan), connections, path: PathBuf::from(name), warnings, places })
    } else {
        Err(ConfigErrors::new(sink.items))
    }
}

/// Where the file names each table, each of its columns and child tables.
fn places(plan: &Plan, document: &Node, sink: &Sink<'_>) -> BTreeMap<String, String> {
    let mut paths = Vec::new();
    for (n, table) in plan.tables.iter().enumerate() {
        let of_table = format!("tables[{n}]");
        paths.extend(table.columns.iter().map(|c| format!("{of_table}.columns.{}", c.name)));
        for (c, child) in table.children.iter().enumerate() {
            let of_child = format!("{of_table}.children[{c}]");
            paths.extend(child.columns.iter().map(|c| format!("{of_child}.columns.{}", c.name)));
            paths.push(of_child);
        }
        paths.push(of_table);
    }
    let place = |path: &String| {
        let Located { file, line, column, .. } = sink.at(document.locate(path), path, String::new(), None);
        format!("{file}:{line}:{column}")
    };
    paths.into_iter().map(|path| (path.clone(), place(&path))).collect()
}

/// What connections must have beyond what each key must be.
fn connected(connections: &Connections, root: &Section<'_>, sink: &mut Sink<'_>) {
    let pg = root.table("postgres", keys::POSTGRES);
    match (root.has("postgres"), root.has("stores")) {
        (true, true) => {
            let message = "`postgres` and `stores` exclude each other: name the target under [stores]";
            sink.error(pg.offset_of("host"), "postgres", message);
        }
        (false, false) => {
            sink.error(root.offset_of("postgres"), "postgres", "missing `postgres`: Where the target database is.");
        }
        (true, false) | (false, true) => {}
    }
    let no_port = connections.databases().any(|postgres| postgres.port == 0);
    if no_port && root.has("postgres") && !sink.reported("postgres.port") {
        sink.error(pg.offset_of("port"), "postgres.port", "a port is from 1 to 65535");
    }
    match &connections.aws {
        None if root.has("tables") && !root.has("stores") => {
            sink.error(root.offset_of("aws"), "aws", "missing [aws]: the tables are read from DynamoDB");
        }
        None => {}
        Some(aws) => signs(aws, nowhere(aws, connections, root), &root.table("aws", keys::AWS), sink),
    }
    for (name, section) in root.map("stores", keys::STORE) {
        let store = connections.sources.get(&name).or_else(|| connections.targets.get(&name));
        if let Some(StoreConnection::Dynamodb(aws)) = store {
            signs(aws, aws.endpoints.dynamodb.is_none(), &section, sink);
        }
    }
}

/// How calls to AWS are signed, as one section says it; `nowhere` when it names no emulator.
fn signs(aws: &Aws, nowhere: bool, section: &Section<'_>, sink: &mut Sink<'_>) {
    if aws.credentials == Credentials::Emulator && nowhere {
        let message = "emulator credentials need an `endpoint`: AWS itself would refuse them";
        sink.error(section.offset_of("credentials"), &section.path_of("credentials"), message);
    }
    if aws.account.as_deref().is_some_and(|a| a.len() != 12 || !a.bytes().all(|b| b.is_ascii_digit())) {
        let message = "an account id is 12 digits, in quotes";
        sink.error(section.offset_of("account"), &section.path_of("account"), message);
    }
}

/// Whether calls would go to AWS itself: those to the tables where any are reached as this section says, else those to the
/// parameters. A store with endpoints of its own is judged by itself.
fn nowhere(aws: &Aws, connections: &Connections, root: &Section<'_>) -> bool {
    let mut stores = connections.sources.values().chain(connections.targets.values());
    let tables = !root.has("stores")
        || stores.any(|at| matches!(at, StoreConnection::Dynamodb(store) if store.endpoints == aws.endpoints));
    if tables { aws.endpoints.dynamodb.is_none() } else { aws.endpoints.ssm.is_none() }
}

#[cfg(test)]
mod tests;
