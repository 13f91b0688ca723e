//! `cutover approve`, `cutover vote`, `cutover ack` and `cutover step-back`: what people do from another terminal.

use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::drive::print;
use super::exit::Exit;
use super::failure::Failure;
use super::select_run::select_run;
use super::world::Driver;
use crate::domain::run::{RunStatus, Vote};
use crate::engine::MachineClock;
use crate::engine::socket::{Answer, Ask, ask};
use crate::journal::RunFolder;
use crate::ports::Clock;
use crate::report::{Offline, offline};

/// Which alert was seen, and by whom.
#[derive(Debug, Args)]
pub struct AckArgs {
    /// The alert, as `cutover status` names it; absent means all that fired.
    #[arg(value_name = "ALERT")]
    pub alert: Option<String>,
    /// Run id or a beginning of it; absent means the only run that could be chosen, and asks when there are several.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Who has seen it; absent means the user of this terminal.
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// Words for the record.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// How long a live console has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// `cutover step-back`.
pub async fn step_back(run: &str, step: String, name: Option<String>, state_dir: &Path) -> Result<Exit, Failure> {
    let folder = RunFolder::find(state_dir, Some(run))?;
    let by = name.unwrap_or_else(|| Driver::here().operator);
    let said = format!("{step} is being taken back; `cutover status {}` says when it stands there\n", folder.id());
    answer(&folder, Ask::StepBack { step, by }, &said).await
}

/// `cutover approve`.
pub async fn approve(
    run: &str,
    step: String,
    name: Option<String>,
    note: Option<String>,
    state_dir: &Path,
) -> Result<Exit, Failure> {
    let folder = RunFolder::find(state_dir, Some(run))?;
    let by = name.unwrap_or_else(|| Driver::here().operator);
    let said = format!("{step} approved by {by}; it is on record\n");
    answer(&folder, Ask::Approve { step, by, note }, &said).await
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
    let by = name.unwrap_or_else(|| Driver::here().operator);
    let said = format!("{by} votes {} on {step}; it is on record\n", vote.name());
    answer(&folder, Ask::Vote { step, by, vote, note }, &said).await
}

/// `cutover ack`.
pub async fn acknowledge(args: AckArgs, state_dir: &Path) -> Result<Exit, Failure> {
    let folder = select_run(args.run.as_deref(), ("ack --run", ""), state_dir)?;
    let by = args.name.unwrap_or_else(|| Driver::here().operator);
    let what = args.alert.as_ref().map_or_else(|| "every alert".to_owned(), |alert| format!("alert {alert}"));
    let said = format!("{what} acknowledged by {by}; it is on record\n");
    answer(&folder, Ask::Acknowledge { alert: args.alert, by, note: args.note }, &said).await
}

/// Asks the console that drives the run. Only it writes the journal, and only once it has is the answer yes.
async fn answer(folder: &RunFolder, order: Ask, said: &str) -> Result<Exit, Failure> {
    match ask(&folder.socket(), &order, PATIENCE).await {
        Some(Answer::Taken) => {
            print(said);
            Ok(Exit::Finished)
        }
        Some(Answer::Refused { why }) => Err(Failure::new(Exit::Refused, format!("not taken: {why}"))),
        Some(Answer::Status(_)) | None => {
            Err(Failure::new(Exit::Refused, format!("not taken: {}", unanswered(folder))))
        }
    }
}

/// Why no console answers, as far as the folder shows.
fn unanswered(folder: &RunFolder) -> String {
    let run = folder.id();
    match offline(folder, MachineClock::default().wall()) {
        Ok(found) if found.state.is_final() => {
            let word = if found.state.status == RunStatus::Finished { "finished" } else { "rolled back" };
            format!("run {run} is {word}: it is at its end, and no step of it waits")
        }
        Ok(Offline { unattended: Some(unattended), snapshot, .. }) => {
            format!("no console answers for run {run}: {}", unattended.words(snapshot.wall))
        }
        _ => format!("no console answers for run {run}; `cutover status {run}` shows where it stands"),
    }
}
