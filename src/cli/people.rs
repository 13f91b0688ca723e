//! `cutover approve` and `cutover vote`: what a second person does from another terminal.

use std::path::Path;
use std::time::Duration;

use super::drive::print;
use super::exit::Exit;
use super::failure::Failure;
use super::world::Seat;
use crate::domain::run::Vote;
use crate::engine::socket::{Answer, Ask, ask};
use crate::journal::RunFolder;

/// How long a live console has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// `cutover approve`.
pub async fn approve(
    run: &str,
    step: String,
    name: Option<String>,
    note: Option<String>,
    state_dir: &Path,
) -> Result<Exit, Failure> {
    let folder = RunFolder::find(state_dir, Some(run))?;
    let by = name.unwrap_or_else(|| Seat::here().operator);
    let said = format!("{step} approved by {by}; it is on record\n");
    told(&folder, Ask::Approve { step, by, note }, &said).await
}

/// `cutover vote`.
pub async fn vote(
    run: &str,
    step: String,
    vote: Vote,
    name: Option<String>,
    note: Option<String>,
    state_dir: &Path,
) -> Result<Exit, Failure> {
    let folder = RunFolder::find(state_dir, Some(run))?;
    let by = name.unwrap_or_else(|| Seat::here().operator);
    let said = format!("{by} votes {} on {step}; it is on record\n", vote.name());
    told(&folder, Ask::Vote { step, by, vote, note }, &said).await
}

/// Asks the console that drives the run. Only it writes the journal, and only once it has is the answer yes.
async fn told(folder: &RunFolder, order: Ask, said: &str) -> Result<Exit, Failure> {
    match ask(&folder.socket(), &order, PATIENCE).await {
        Some(Answer::Taken) => {
            print(said);
            Ok(Exit::Finished)
        }
        Some(Answer::Refused { why }) => Err(Failure::new(Exit::Refused, format!("not taken: {why}"))),
        Some(Answer::Status(_)) | None => {
            let text = format!(
                "no console answers for run {}: `cutover status {0}` shows where it stands; start it, then ask again",
                folder.id()
            );
            Err(Failure::new(Exit::Unexpected, text))
        }
    }
}
