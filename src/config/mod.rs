//! `config.toml`: typed, compiled to a plan, and located: every problem at once, each with its place.

mod check;
mod compile;
mod connected;
mod connections;
mod environments;
mod error;
mod keys;
mod movers;
mod node;
mod saved;
mod schema;
mod section;
mod stores;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use connections::{Aws, Connections, Credentials, Endpoints, Postgres, SslMode, StoreConnection, Subscriber};
pub use error::{ConfigErrors, Located};
pub use saved::SavedConnections;
pub use schema::schema;

use crate::domain::alert::{Alert, PlaceKind};
use crate::domain::lint::{Severity, lint};
use crate::domain::plan::{Listing, Move, NEW, OLD, Plan, Stores, ValueRef};
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
    /// What stores said they have, where tables move by rule: the plan is this config over this list.
    pub listing: Option<Listing>,
    /// Who is told of what. No part of the plan: it may differ each time the run is taken up.
    pub telling: Telling,
}

/// Who is told of what, and where the run's numbers can be read.
#[derive(Clone, Debug, Default)]
pub struct Telling {
    /// Alerts.
    pub alerts: Arc<[Alert]>,
    /// Where Prometheus reads the run's numbers.
    pub metrics: Option<SocketAddr>,
}

impl Telling {
    /// Parameters of Parameter Store that hold addresses of webhooks.
    #[must_use]
    pub fn parameters(&self) -> Vec<String> {
        let places = self.alerts.iter().flat_map(|alert| &alert.places);
        let urls = places.filter_map(|place| match &place.kind {
            PlaceKind::Webhook(webhook) => Some(&webhook.url),
            PlaceKind::Screen(_) | PlaceKind::Command(_) => None,
        });
        let named = urls.filter_map(|url| match url {
            ValueRef::Parameter(name) => Some(name.clone()),
            ValueRef::Literal(_) | ValueRef::Env(_) | ValueRef::File(_) => None,
        });
        named.collect()
    }
}

/// A file before its rules are expanded: what has to be asked of which store.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The name of the plan.
    pub name: String,
    /// The environment it is for.
    pub environment: String,
    /// Whether mistakes there hurt customers.
    pub production: bool,
    /// Who the stores and the control plane are, by name.
    pub stores: Stores,
    /// The rules; none where every table stands in the file by hand.
    pub moves: Vec<Move>,
    /// Where the stores and the control plane are.
    pub connections: Connections,
    /// By store, tables that go by hand or stay.
    by_hand: BTreeMap<String, BTreeSet<String>>,
    /// By store, whether any rule wants its DDL.
    made: BTreeSet<String>,
    /// By store, tables by hand that are made as it has them.
    as_source: BTreeMap<String, BTreeSet<String>>,
}

impl Draft {
    /// The stores that have to be asked for a plan, by name: tables come from them by rule, or are made as they have them.
    pub fn stores(&self) -> BTreeSet<&str> {
        self.moves.iter().map(|rule| &rule.from).chain(self.as_source.keys()).map(String::as_str).collect()
    }

    /// Of the tables a store has, those it has to describe.
    #[must_use]
    pub fn wanted(&self, store: &str, names: &[String]) -> Vec<String> {
        let by_hand = |name: &String| self.by_hand.get(store).is_some_and(|names| names.contains(name));
        let takes = |name: &String| self.moves.iter().any(|rule| rule.from == store && rule.takes(name));
        let by_rule: Vec<String> = names.iter().filter(|name| takes(name) && !by_hand(name)).cloned().collect();
        by_rule.into_iter().chain(self.as_source.get(store).into_iter().flatten().cloned()).collect()
    }

    /// Whether tables that come from this store are made by the DDL they have there.
    #[must_use]
    pub fn makes(&self, store: &str) -> bool {
        self.made.contains(store) || self.as_source.contains_key(store)
    }
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
    load_str(&path.display().to_string(), &text_of(path)?, &base_of(path), vars)
}

/// The text of a config file.
///
/// # Errors
/// It cannot be read.
pub fn text_of(path: &Path) -> Result<String, ConfigErrors> {
    let name = path.display().to_string();
    std::fs::read_to_string(path).map_err(|e| {
        let sink = Sink::new(&name, "");
        let next = "name another with -c FILE, or begin with a copy of config.toml.example";
        ConfigErrors::new(vec![sink.at(0, "", format!("cannot read the file: {e}; {next}"), None)])
    })
}

/// Where the files are that a config names: whole paths, for a run is resumed and rolled back from other folders.
#[must_use]
pub fn base_of(path: &Path) -> PathBuf {
    std::env::current_dir().unwrap_or_default().join(path.parent().unwrap_or_else(|| Path::new("")))
}

/// Reads a config from text. `name` stands in messages; files it names are relative to `base_dir`.
pub fn load_str(
    name: &str,
    text: &str,
    base_dir: &Path,
    vars: &BTreeMap<String, String>,
) -> Result<Config, ConfigErrors> {
    load_listed(name, text, base_dir, vars, None, None)
}

/// What a config asks of its stores before it is a plan; `env` is the environment it is for, where it has several.
///
/// # Errors
/// Mistakes that can be seen in the file by itself.
pub fn draft(
    name: &str,
    text: &str,
    base_dir: &Path,
    vars: &BTreeMap<String, String>,
    env: Option<&str>,
) -> Result<Draft, ConfigErrors> {
    let mut sink = Sink::new(name, text);
    let document = node::parse(text, vars, env, &mut sink);
    let root = Section::new(&document, keys::ROOT, "");
    let (plan, connections) = compiled(&document, base_dir, &mut sink);
    let mut as_source: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (s, table) in root.list("tables", keys::TABLES).iter().zip(&plan.tables) {
        if compile::table::made_as_source(s) {
            as_source.entry(table.from.clone()).or_default().insert(table.source.clone());
        }
    }
    if !sink.items.is_empty() {
        // Without rules the whole plan is there to be judged: every mistake is named at once.
        let judged =
            (plan.moves.is_empty() && as_source.is_empty()).then(|| load_listed(name, text, base_dir, vars, env, None));
        return Err(judged.and_then(Result::err).unwrap_or_else(|| ConfigErrors::new(sink.items)));
    }
    let rules = root.list("moves", keys::MOVES);
    let made =
        plan.moves.iter().zip(&rules).filter(|(_, s)| compile::moves::made(s)).map(|(rule, _)| rule.from.clone());
    let by_hand = |store: &String| compile::moves::by_hand(store, &plan.stores, &plan.tables, &plan.stays);
    let by_hand = plan.moves.iter().map(|rule| (rule.from.clone(), by_hand(&rule.from))).collect();
    Ok(Draft {
        name: plan.name,
        environment: plan.environment,
        production: plan.production,
        stores: plan.stores,
        made: made.collect(),
        as_source,
        by_hand,
        moves: plan.moves,
        connections,
    })
}

/// A config that names its stores and may say nothing else yet.
#[derive(Clone, Debug)]
pub struct Started {
    /// The name of the plan.
    pub name: String,
    /// Where the stores and the control plane are.
    pub connections: Connections,
    /// Whether it has a runbook.
    pub has_steps: bool,
}

/// The names of the stores that tables of a config may come from and go to.
///
/// # Errors
/// A file that is no TOML, or that is for several environments of which none was named.
pub fn store_names(
    name: &str,
    text: &str,
    vars: &BTreeMap<String, String>,
    env: Option<&str>,
) -> Result<Vec<String>, ConfigErrors> {
    let mut sink = Sink::new(name, text);
    let document = node::parse(text, vars, env, &mut sink);
    if !sink.items.is_empty() {
        return Err(ConfigErrors::new(sink.items));
    }
    let root = Section::new(&document, keys::ROOT, "");
    if !root.has("stores") {
        return Ok(vec![OLD.to_owned(), NEW.to_owned()]);
    }
    Ok(root.map("stores", keys::STORE).into_iter().map(|(name, _)| name).collect())
}

/// Reads what a config says of two of its stores, whatever else is missing, as if every table went from one to the other.
/// What else it holds, tables and other stores, is looked at by itself only. `env` is the environment it is for, where it
/// has several.
///
/// # Errors
/// Mistakes in how stores are reached.
pub fn started(
    name: &str,
    text: &str,
    base_dir: &Path,
    vars: &BTreeMap<String, String>,
    env: Option<&str>,
    (from, to): (&str, &str),
) -> Result<Started, ConfigErrors> {
    let mut sink = Sink::new(name, text);
    let mut document = node::parse(text, vars, env, &mut sink);
    document.set("moves", environments::rule(from, to));
    check::check(&document, keys::ROOT, "", &mut sink);
    sink.items.retain(|item| item.path != "steps");
    environments::only_between(&mut document, from, to);
    let root = Section::new(&document, keys::ROOT, "");
    let connections = connections::read(&root, base_dir, &mut sink);
    if !sink.items.is_empty() {
        return Err(ConfigErrors::new(sink.items));
    }
    Ok(Started { name: root.must("name"), connections, has_steps: root.has("steps") })
}

/// The plan as far as the file says it, unjudged, and the connections.
fn compiled(document: &Node, base_dir: &Path, sink: &mut Sink<'_>) -> (Plan, Connections) {
    check::check(document, keys::ROOT, "", sink);
    let root = Section::new(document, keys::ROOT, "");
    let connections = connections::read(&root, base_dir, sink);
    connected::judge(&connections, &root, sink);
    let mut plan = compile::plan(&root, connections.pool(), base_dir, sink);
    plan.stores = connections.stores();
    compile::moves::judge(&root, &plan.stores, sink);
    (plan, connections)
}

/// Reads a config from text whose tables move by rule, over what the stores said they have. Pure: the same text over the
/// same list is the same plan. `env` is the environment it is for, where it has several.
///
/// # Errors
/// Every mistake of the file, and what of the list does not fit its rules.
pub fn load_listed(
    name: &str,
    text: &str,
    base_dir: &Path,
    vars: &BTreeMap<String, String>,
    env: Option<&str>,
    listing: Option<&Listing>,
) -> Result<Config, ConfigErrors> {
    let mut sink = Sink::new(name, text);
    let document = node::parse(text, vars, env, &mut sink);
    let root = Section::new(&document, keys::ROOT, "");
    let (mut plan, connections) = compiled(&document, base_dir, &mut sink);
    // Which rule a table came by: what is wrong with it is said there.
    let (by_hand, mut rules) = (plan.tables.len(), Vec::new());
    let mut asked = !plan.moves.is_empty();
    if sink.items.is_empty() {
        asked |= root.list("tables", keys::TABLES).iter().any(compile::table::made_as_source);
        compile::moves::define(&root, listing, (&plan.stores, &mut plan.tables), &mut sink);
    }
    match listing {
        Some(listing) if sink.items.is_empty() => {
            let known = (&plan.stores, plan.tables.as_slice(), plan.stays.as_slice());
            let given = compile::moves::expand(&root, listing, known, &mut sink);
            rules.extend(given.iter().map(|given| given.rule));
            plan.tables.extend(given.into_iter().map(|given| given.table));
            // What comes of tables that cannot move says nothing more.
            if !sink.items.is_empty() {
                return Err(ConfigErrors::new(sink.items));
            }
        }
        None if !plan.moves.is_empty() && sink.items.is_empty() => {
            let message = "tables move by rule, and what they are only their store can say: it was not asked here";
            sink.error(root.offset_of("moves"), "moves", message);
        }
        Some(_) | None => {}
    }
    if sink.items.is_empty() {
        movers::judge(&root, &plan, &connections, &mut sink);
    }
    let telling = compile::alerts::telling(&root, base_dir, &plan, &mut sink);
    let in_file = |path: &str| -> String {
        if let Some(switch) = compile::dial::in_file(&root, path) {
            return switch;
        }
        let inside = path.strip_prefix("tables[").and_then(|rest| rest.split_once(']'));
        let rule = inside.and_then(|(n, _)| rules.get(n.parse::<usize>().ok()?.checked_sub(by_hand)?));
        rule.map_or_else(|| path.to_owned(), |rule| format!("moves[{rule}]"))
    };

    // What was reported already is not reported again as a consequence.
    let unknown_kind = sink.items.iter().any(|i| i.path.starts_with("steps[") && i.path.ends_with(".kind"));
    let mut warnings = Vec::new();
    let mut errors = Vec::new();
    for f in lint(&plan) {
        let of_rule = in_file(&f.path);
        let reported = sink.reported(&f.path) || sink.reported(&of_rule);
        if reported || (unknown_kind && f.path.ends_with(".kind")) {
            continue;
        }
        let message = match table_of(&plan, &f.path).filter(|_| of_rule != f.path) {
            Some(id) => format!("table `{id}` of this rule: {}", f.message),
            None => f.message,
        };
        // A table that came by a rule stands nowhere in the file; everything else has a path there.
        let path = if f.path.starts_with("tables[") { &f.path } else { &of_rule };
        let item = sink.at(document.locate(&of_rule), path, message, f.nearest);
        match f.severity {
            Severity::Error => errors.push(item),
            Severity::Warning => warnings.push(item),
        }
    }
    sink.items.append(&mut errors);
    if sink.items.is_empty() {
        for (store, listed) in listing.iter().flat_map(|listing| &listing.stores) {
            let rule = plan.moves.iter().position(|rule| rule.from == *store).unwrap_or(0);
            for left in &listed.left_out {
                let message = format!("not made on the new side: {left}");
                let path = format!("moves[{rule}].include");
                warnings.push(sink.at(document.locate(&path), &path, message, None));
            }
        }
        let places = places(&plan, |path| document.locate(&in_file(path)), &sink);
        let listing = listing.filter(|_| asked).cloned();
        let (plan, path) = (Arc::new(plan), PathBuf::from(name));
        Ok(Config { plan, connections, path, warnings, places, listing, telling })
    } else {
        Err(ConfigErrors::new(sink.items))
    }
}

/// Reads a file of alerts alone, for a plan that another file holds: a rehearsal's.
///
/// # Errors
/// Mistakes in it, and signals that the plan does not have.
pub fn telling_of(
    name: &str,
    text: &str,
    base_dir: &Path,
    vars: &BTreeMap<String, String>,
    plan: &Plan,
) -> Result<Telling, ConfigErrors> {
    let mut sink = Sink::new(name, text);
    let document = node::parse(text, vars, None, &mut sink);
    check::check(&document, keys::ALERTS_ALONE, "", &mut sink);
    let root = Section::new(&document, keys::ALERTS_ALONE, "");
    let telling = compile::alerts::telling(&root, base_dir, plan, &mut sink);
    if sink.items.is_empty() { Ok(telling) } else { Err(ConfigErrors::new(sink.items)) }
}

/// The id of the table that a path is about.
fn table_of<'p>(plan: &'p Plan, path: &str) -> Option<&'p str> {
    let (n, _) = path.strip_prefix("tables[")?.split_once(']')?;
    plan.tables.get(n.parse::<usize>().ok()?).map(|table| table.id.as_str())
}

/// Where the file names each table, each of its columns and child tables.
fn places(plan: &Plan, locate: impl Fn(&str) -> usize, sink: &Sink<'_>) -> BTreeMap<String, String> {
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
        let Located { file, line, column, .. } = sink.at(locate(path), path, String::new(), None);
        format!("{file}:{line}:{column}")
    };
    paths.into_iter().map(|path| (path.clone(), place(&path))).collect()
}

#[cfg(test)]
mod tests;
