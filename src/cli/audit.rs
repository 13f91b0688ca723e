//! `cutover audit`: whether the record of a run is what was written, and who did what.

use std::path::Path;

use super::exit::Exit;
use super::failure::Failure;
use super::out;
use crate::journal::{RunFolder, audit as check};
use crate::report::{audit_json, audit_text};

/// `cutover audit`.
pub fn audit(run: Option<&str>, json: bool, head: Option<&str>, state_dir: &Path) -> Result<Exit, Failure> {
    let folder = RunFolder::find(state_dir, run)?;
    let found = check(&folder)?;
    let held = head.map(|hash| found.holds(hash));
    let mut out = out::stdout();
    if json {
        audit_json(&folder, &found, head.zip(held), &mut out)?;
    } else {
        audit_text(&folder, &found, head.zip(held), &mut out)?;
    }
    let whole = found.findings.is_empty() && held != Some(false);
    Ok(if whole { Exit::Finished } else { Exit::Damaged })
}
