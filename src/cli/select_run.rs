//! Which run a command means when none is named.

use std::path::Path;

use super::exit::Exit;
use super::failure::Failure;
use crate::journal::RunFolder;
use crate::report::{RunChoice, RunEntry, choose_run};

/// The run that is named; without a name, the only one that can be chosen. When there are several, `command` and
/// `flags` are printed with each name: the wrong one must not be rolled back.
pub fn select_run(run: Option<&str>, (command, flags): (&str, &str), state_dir: &Path) -> Result<RunFolder, Failure> {
    if run.is_some() {
        return Ok(RunFolder::find(state_dir, run)?);
    }
    match choose_run(state_dir, flags.contains("--finished"))? {
        RunChoice::None => Ok(RunFolder::find(state_dir, None)?),
        RunChoice::One(entry) => Ok(RunFolder::at(&entry.folder)),
        RunChoice::Several(entries) => {
            let list: String =
                entries.iter().map(|e| format!("\n  cutover {command} {} {flags}   {}", e.run, standing(e))).collect();
            Err(Failure::new(Exit::Usage, format!("more than one run could be meant; say which:{list}")))
        }
    }
}

fn standing(e: &RunEntry) -> String {
    let of = if e.plan.is_empty() { String::new() } else { format!(", {} of plan {}", e.environment, e.plan) };
    let by = if e.driven { format!(", driven by {}", e.operator) } else { String::new() };
    format!("{}{of}{by}", e.word())
}
