//! False greens: known ways in which a migration appeared to be well and was not, each of which must show red, unknown
//! or blocked here. `docs/correctness.md` lists them all, with the scenarios that live with the workers.

mod gates;
mod journal;
mod runbook;
mod values;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cutover::config::load_str;
use cutover::domain::plan::Plan;

/// The shipped plan, as a rehearsal runs it.
fn shipped() -> Arc<Plan> {
    const TEXT: &str = include_str!("../../assets/rehearsal.toml");
    let mut vars = BTreeMap::from([("PG_PORT".to_owned(), "5432".to_owned())]);
    let mut rest = TEXT;
    while let Some(at) = rest.find("${") {
        rest = &rest[at + 2..];
        let name = rest[..rest.find('}').expect("a closing brace")].to_owned();
        vars.entry(name).or_insert_with(|| "http://127.0.0.1:1".to_owned());
    }
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    load_str("rehearsal.toml", TEXT, &base, &vars).expect("the shipped plan").plan
}
