//! `cutover rollback`: from any terminal, whether the console lives, hangs or is gone.

mod by_hand;
mod disk;
mod late;
mod recorder;
mod what_if;

use std::path::Path;
use std::time::{Duration, Instant};

use self::by_hand::by_hand;
use self::disk::SavedRun;
use self::late::late;
use self::what_if::describe;
use super::args::RollbackArgs;
use super::asked;
use super::exit::Exit;
use super::failure::Failure;
use super::out::{self, print, say};
use super::select_run::select_run;
use super::world::Driver;
use crate::domain::at::{At, brief};
use crate::domain::plan::Purpose;
use crate::domain::run::{RunState, RunStatus, no_way_back, rollback_plan};
use crate::engine::socket::{Answer, Ask, ask};
use crate::journal::{RunFolder, fold, read_run};

/// How long a live console has to take the order before this terminal acts by itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a live console may report nothing before this terminal acts by itself.
const FINISH: Duration = Duration::from_secs(30);

/// What somebody at a terminal is asked.
const QUESTION: &str = "press R to roll back now, any other key leaves everything as it is: ";

/// What there is to say of a rehearsal that is over.
const ENDED_WORLD: &str =
    "this run was a rehearsal and its stores have ended with it: nothing stands anywhere that could be taken back\n";

/// `cutover rollback`.
///
/// A finished run is rolled back only with the flag for it: customers have been on the new side for good. Somebody at a
/// terminal is asked for one more key; without a terminal, or with `--yes`, it acts at once.
pub async fn rollback(args: RollbackArgs, state_dir: &Path) -> Result<Exit, Failure> {
    // A terminal that was stopped, or a reader that does not read, must not delay a switch.
    let _output = out::output_thread();
    let flags = [("--what-if", args.what_if), ("--finished", args.finished), ("--yes", args.yes)];
    let flags: Vec<&str> = flags.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag).collect();
    let (flags, asked, dir) = (flags.join(" "), args.run.clone(), state_dir.to_owned());
    let found = disk::read(move || SavedRun::read(select_run(asked.as_deref(), ("rollback", &flags), &dir)?)).await?;
    let Some(mut found) = found else { return Ok(Exit::Finished) };
    if ended_world(&found).await {
        print(ENDED_WORLD);
        return Ok(Exit::Finished);
    }
    say(&format!("run {}, {} of plan {}", found.folder.id(), found.plan.environment, found.plan.name));
    if args.what_if {
        describe(&found).await;
        return Ok(Exit::Finished);
    }
    // Nobody waits for the log to be opened.
    let of = found.folder.clone();
    drop(tokio::task::spawn_blocking(move || super::logging::into(&of)));
    if found.state.status == RunStatus::Finished && !args.finished {
        let (plan, id) = (&found.state.plan, found.folder.id());
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "run {id} of {plan} is finished: customers were left on the new side. To take it back all the same: \
                 `cutover rollback {id} --finished`, after a look at `cutover rollback {id} --what-if`"
            ),
        ));
    }
    leads_back(&found)?;
    let rolled_back = |found: &SavedRun| {
        found.state.status == RunStatus::RolledBack && rollback_plan(&found.plan, &found.state).is_empty()
    };
    if !args.yes && !rolled_back(&found) && asked::somebody_is_there() {
        describe(&found).await;
        if !asked::confirmed(QUESTION, b"Rr").await {
            print("nothing was changed\n");
            return Ok(Exit::Refused);
        }
        // The run went on while the question stood.
        found.refresh(PATIENCE).await;
        leads_back(&found)?;
    }
    if rolled_back(&found) {
        say("this run is rolled back already");
        return Ok(late(&found).await);
    }
    if found.state.status == RunStatus::RolledBack {
        say("this run is rolled back, but a driver that had been overtaken moved switches since");
    }
    let driver = Driver::here();
    let order = Ask::RollBack { by: driver.name() };
    if let Some(Answer::Taken) = ask(&found.folder.socket(), &order, PATIENCE).await {
        say("the console took the order");
        if let Some(exit) = follow(&found.folder, ended_order(&found.state)).await {
            return Ok(exit);
        }
        say("the console took the order but does not finish; rolling back from here");
        found.refresh(PATIENCE).await;
        leads_back(&found)?;
    }
    Ok(by_hand(&found, &driver).await)
}

/// Refuses once the old side is being deleted. Where the record is damaged it may not say so.
fn leads_back(found: &SavedRun) -> Result<(), Failure> {
    if let Some(why) = no_way_back(&found.plan, &found.state) {
        return Err(Failure::new(Exit::Refused, why));
    }
    if found.damaged && found.plan.jobs.iter().any(|job| job.purpose() == Purpose::Cleanup) {
        say("warning: the record is damaged, and the plan deletes the old side: see that it still stands");
    }
    Ok(())
}

/// Whether the run was a rehearsal whose world is gone: nothing listens any more where its parameters were kept.
async fn ended_world(found: &SavedRun) -> bool {
    if !found.folder.is_rehearsal() {
        return false;
    }
    let Ok(Some(aws)) = &found.connections.aws else { return false };
    let endpoint = aws.endpoints.ssm.as_ref().and_then(|url| url.parse::<http::Uri>().ok());
    let Some(at) = endpoint.as_ref().and_then(http::Uri::authority) else { return false };
    let answer = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(at.as_str())).await;
    matches!(answer, Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// When the rollback was ordered whose end stands in the record.
fn ended_order(state: &RunState) -> Option<At> {
    let ended = matches!(state.status, RunStatus::RolledBack | RunStatus::Stuck);
    state.rollback.as_ref().filter(|_| ended).map(|r| r.ordered)
}

/// Watches the journal until the rollback has ended; `None` when nothing new was recorded for a while. The end of an
/// `earlier` order is not the end of this one.
async fn follow(folder: &RunFolder, earlier: Option<At>) -> Option<Exit> {
    let mut every = tokio::time::interval(Duration::from_millis(100));
    let mut newest = (0, Instant::now());
    loop {
        every.tick().await;
        // A console that applies writes to the old side reports its progress; one that hangs reports nothing.
        let left = FINISH.checked_sub(newest.1.elapsed())?;
        let of = folder.clone();
        let read = disk::within(left, move || fold(&read_run(&of).ok()?.facts).ok()).await;
        let Some(state) = read.flatten() else { continue };
        if state.last_seq != newest.0 {
            newest = (state.last_seq, Instant::now());
        }
        if earlier.is_some() && ended_order(&state) == earlier {
            continue;
        }
        match state.status {
            RunStatus::RolledBack => {
                let took = state.rollback.as_ref().and_then(|r| r.took_ms);
                print(&format!("rolled back in {}\n", took.map_or("?".into(), brief)));
                return Some(Exit::RolledBack);
            }
            RunStatus::Stuck => {
                for line in state.rollback.iter().flat_map(|r| &r.stuck) {
                    print(&format!("{line}\n"));
                }
                return Some(Exit::Stuck);
            }
            RunStatus::Prepared
            | RunStatus::Running
            | RunStatus::Paused
            | RunStatus::RollingBack
            | RunStatus::Finished => {}
        }
    }
}

/// The exit of a rollback with this record. What is not on record is done all the same, but whoever reads the record
/// later would take the run for one that goes forward. A damaged record is resumed by nobody, so nobody has to be kept
/// from resuming it.
fn recorded(found: &SavedRun, exit: Exit, unrecorded: Option<String>) -> Exit {
    let Some(why) = unrecorded else { return exit };
    let folder = &found.folder;
    if found.damaged {
        say(&format!("warning: what is said above is done; it is on no record, for the record is damaged ({why})"));
        return exit;
    }
    say(&format!(
        "warning: what is said above is done, but it is not on record in {} ({why}); do not start the run again, and run \
         `cutover rollback {}` once more when the disk is well",
        folder.path().display(),
        folder.id()
    ));
    if exit == Exit::RolledBack { Exit::Journal } else { exit }
}
