//! `cutover status`, `runs` and `replay`: reading what was recorded.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use super::args::ScreenArgs;
use super::drive::screen_options;
use super::exit::Exit;
use super::failure::Failure;
use super::out;
use super::select_run::select_run;
use crate::engine::MachineClock;
use crate::engine::socket::{Answer, Ask, ask};
use crate::journal::RunFolder;
use crate::ports::Clock;
use crate::report::{offline, run_entries, runs_json, runs_table, status as words, status_json};
use crate::{replay, ui};

/// What there is to say of a run whose process ended before its first fact.
pub(super) const NEVER_BEGAN: &str =
    "never began: its process ended before the first fact was written, and no step was started";
/// How long a live console has to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// `cutover status`: from the live console if there is one, else from the folder.
pub async fn status(run: Option<&str>, json: bool, state_dir: &Path) -> Result<Exit, Failure> {
    let folder = select_run(run, ("status", if json { "--json" } else { "" }), state_dir)?;
    let (snapshot, unattended) = match ask(&folder.socket(), &Ask::Status, PATIENCE).await {
        Some(Answer::Status(snapshot)) => (*snapshot, None),
        _ => {
            let found = offline(&folder, MachineClock::default().wall())?;
            if found.record.facts.is_empty() && !json && !folder.is_locked() {
                out::stdout()
                    .write_all(format!("run        {}\nstatus     {NEVER_BEGAN}\n", folder.id()).as_bytes())?;
                return Ok(Exit::Finished);
            }
            (found.snapshot, found.unattended)
        }
    };
    let mut out = out::stdout();
    if json {
        status_json(&snapshot, unattended.as_ref(), &mut out)?;
    } else {
        out.write_all(words(&snapshot, unattended.as_ref()).as_bytes())?;
    }
    Ok(Exit::Finished)
}

/// `cutover runs`.
pub fn runs(json: bool, state_dir: &Path) -> Result<Exit, Failure> {
    let entries = run_entries(state_dir)?;
    let mut out = out::stdout();
    if json {
        runs_json(&entries, &mut out)?
    } else {
        runs_table(&entries, MachineClock::default().wall(), &mut out)?
    }
    Ok(Exit::Finished)
}

/// `cutover replay`.
pub async fn replay(run: Option<&str>, speed: f64, screen: &ScreenArgs, state_dir: &Path) -> Result<Exit, Failure> {
    // Asked before anything is written: escape codes would be noise where there is no screen.
    if !std::io::stdout().is_terminal() {
        let text = "replay draws a screen, and standard output is no terminal; `cutover audit` writes lines";
        return Err(Failure::new(Exit::Usage, text));
    }
    let folder = RunFolder::find(state_dir, run)?;
    let (handle, player) = replay::open(&folder, speed).map_err(|e| Failure::new(Exit::Journal, e.to_string()))?;
    let result = ui::run(handle, screen_options(screen)?).await;
    player.abort();
    result.map_err(color_eyre::eyre::Report::from)?;
    Ok(Exit::Finished)
}
