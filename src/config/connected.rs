//! What connections must have beyond what each key must be.

use super::connections::{Aws, Connections, Credentials, StoreConnection};
use super::error::Sink;
use super::keys;
use super::section::Section;
use crate::domain::lint::nearest;
use crate::domain::plan::{control_called, other_control};

/// What connections must have beyond what each key must be.
pub(super) fn judge(connections: &Connections, root: &Section<'_>, sink: &mut Sink<'_>) {
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
        None if (root.has("tables") || root.has("moves")) && !root.has("stores") => {
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
    controls(connections, root, sink);
}

/// Further regions and accounts, and which switch stands in which.
fn controls(connections: &Connections, root: &Section<'_>, sink: &mut Sink<'_>) {
    let mut switches: Vec<Section<'_>> = Vec::new();
    for switch in root.list("switches", keys::SWITCHES) {
        match switch.list("places", keys::PLACES) {
            places if places.is_empty() => switches.push(switch),
            places => switches.extend(places),
        }
    }
    switches.extend(root.list("jobs", keys::JOBS));
    let used: Vec<Option<String>> = switches.iter().map(|s| s.text("control")).collect();
    for (name, section) in root.map("control", keys::CONTROL) {
        let id = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(id) {
            let message = "a region or account is called by lower letters, digits, `-` and `_`";
            sink.error(section.offset_of("region"), &section.path, message);
        }
        if connections.aws.is_none() && !section.has("region") {
            let message = "missing `region`: AWS region; there is no [aws] to take it from";
            sink.error(section.offset_of("region"), &section.path_of("region"), message);
        }
        if let Some(aws) = connections.controls.get(&control_called(&name)) {
            signs(aws, aws.endpoints.ssm.is_none(), &section, sink);
        }
        if used.iter().flatten().all(|used| *used != name) {
            sink.error(
                section.offset_of("region"),
                &section.path,
                format!("no switch stands in `{name}`, and no job works there"),
            );
        }
    }
    for (switch, control) in switches.iter().zip(&used) {
        let Some(name) = control.as_ref().filter(|name| !connections.controls.contains_key(&control_called(name)))
        else {
            continue;
        };
        let known = connections.controls.keys().filter_map(|known| other_control(known));
        let message = format!("there is no [control.{name}]");
        let near = nearest(name, known);
        sink.error_near(switch.offset_of("control"), &switch.path_of("control"), message, near);
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
