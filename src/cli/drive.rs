//! Opening or resuming a run and driving it to its end, with a screen or without. Shared by `run` and `rehearse`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::args::{DriveArgs, ScreenArgs};
use super::exit::Exit;
use super::failure::Failure;
use super::lines::{self, Lines};
use super::opened::{keep, keep_connections, of_another_environment, refusal, settle_plan};
pub use super::out::{print, say};
use super::world::{self, Driver};
use crate::config::Config;
use crate::domain::plan::Plan;
use crate::domain::run::{Callers, Event, Policy, RunState, StepSeen, changed_accounts};
use crate::engine::{
    AlertSetup, Closed, DiskPatience, Ending, Engine, MachineClock, Opening, RunClock, Setup, StepBegan, ending,
    socket, stepped_since,
};
use crate::journal::{Header, Holder, JournalWriter, RunFolder, RunRecord, SampleWriter, boot_id, fold};
use crate::ports::Clock;
use crate::report::summary;
use crate::snapshot::Mode;
use crate::ui::{self, UiExit};

/// What is driven, and how.
pub struct Drive<'a> {
    /// The config.
    pub config: &'a Config,
    /// The config file's text, kept with the run.
    pub config_text: &'a str,
    /// Where run folders are.
    pub state_dir: &'a Path,
    /// Flags.
    pub args: &'a DriveArgs,
    /// Open a new run even when one could be resumed.
    pub new: bool,
    /// Whether tables of the plan that are there may be dropped and made again.
    pub make_anew: bool,
    /// Pause once this step is done.
    pub until: Option<String>,
    /// How the run is shown.
    pub mode: Mode,
    /// Speed of planned waits, and the longest a wait may really take.
    pub pace: (f64, Option<i64>),
    /// Called for each step as it starts.
    pub step_began: Option<StepBegan>,
    /// Who drives.
    pub driver: Driver,
}

/// How a run ended.
pub struct Driven {
    /// What its end means.
    pub ending: Ending,
    /// The closing summary.
    pub summary: String,
    /// What the run's facts add up to. A rehearsal judges by it.
    #[cfg_attr(not(feature = "rehearsal"), allow(dead_code))]
    pub state: Box<RunState>,
}

/// Drives a run until it ends, pauses, or everybody has left.
pub async fn drive(d: Drive<'_>) -> Result<Driven, Failure> {
    let plan = Arc::clone(&d.config.plan);
    let answers = super::answers::parse(&d.args.answer, &plan)?;
    let screen = shows_screen(d.args);
    // A mistake in them is told before anything begins.
    let options = if screen { Some(screen_options(&d.args.screen)?) } else { None };
    let metrics = match d.config.telling.metrics {
        Some(at) => super::metrics::listen(at).await,
        None => None,
    };
    let machine = MachineClock::default();
    let taken = if d.new { None } else { unfinished(d.state_dir, &plan)? };
    // Whose stores these are is read before anything is written.
    let ports = world::ports(&plan, &d.config.connections).await?;
    let callers = world::callers(&plan, &d.config.connections, &ports).await?;
    let folder = match taken {
        Some(folder) => folder,
        None => RunFolder::create(d.state_dir, &plan.name, machine.wall()).map_err(journal_io(d.state_dir))?,
    };
    let lock = folder.lock(&Holder::me(&d.driver.operator, &d.driver.host))?;
    super::logging::into(&folder);
    let Opened { journal, opening, clock, stepped } = open(&d, &folder, &plan, &machine, callers)?;
    let samples = SampleWriter::open(&folder.samples()).ok();
    let telling = &d.config.telling;
    let alerts = AlertSetup {
        alerts: Arc::clone(&telling.alerts),
        notices: world::notices(&telling.alerts, &d.config.connections).await?,
    };
    let setup = Setup {
        plan: Arc::clone(&plan),
        policy: Policy {
            auto_confirm: d.args.yes,
            answers,
            stand_ins: d.args.yes && matches!(d.mode, Mode::Rehearsal { .. }),
            unattended: !screen,
            until: d.until.clone(),
        },
        ports,
        rollback_ports: world::rollback_ports((&d.config.connections).into(), &plan),
        clock,
        journal,
        disk: DiskPatience::default(),
        samples,
        mode: d.mode,
        stepped,
        make_anew: d.make_anew,
        operator: d.driver.operator.clone(),
        host: d.driver.host.clone(),
        step_began: d.step_began.clone(),
        alerts,
    };
    let mut engine = Engine::open(setup, opening, folder.id(), folder.path()).await?;
    let stop = CancellationToken::new();
    socket::serve(&folder.socket(), engine.handle(), stop.clone())?;
    if let Some(listener) = metrics {
        super::metrics::serve(listener, engine.handle(), stop.clone());
    }
    let told = front(&mut engine, &plan, &d, folder.journal(), options).await;
    let mut handle = engine.handle();
    stop.cancel();
    let Closed { state, unsaved } = engine.close().await;
    drop(lock);
    let ended = told?;
    let ended = match ending(&plan, &state) {
        // Its record ends before the rollback: a process that reads it must not go on from there.
        Some(Ending::RolledBack) if unsaved > 0 => Ending::Journal,
        now => now.unwrap_or(ended),
    };
    let snapshot = handle.snapshots.borrow_and_update().clone();
    let summary = summary(&snapshot, &state, &folder.journal());
    Ok(Driven { ending: ended, summary, state: Box::new(state) })
}

/// The front end: a screen while there is one, lines after it or instead.
async fn front(
    engine: &mut Engine,
    plan: &Arc<Plan>,
    d: &Drive<'_>,
    journal: PathBuf,
    screen: Option<ui::UiOptions>,
) -> Result<Ending, Failure> {
    let facts = engine.facts();
    let ending = engine.ending();
    let mut handle = engine.handle();
    let mut lines = Lines { json: d.args.json, silent: false, plan: Arc::clone(plan), journal, seen: 0 };
    if let Some(options) = screen {
        match ui::run(handle.clone(), options).await.map_err(color_eyre::eyre::Report::from)? {
            UiExit::TerminalGone => lines.silent = true,
            UiExit::Quit | UiExit::Finished | UiExit::Terminated => {
                if let Some(ended) = *ending.borrow() {
                    return Ok(ended);
                }
                let stop = if matches!(d.mode, Mode::Rehearsal { .. }) { "ends" } else { "pauses" };
                say(&format!(
                    "the run goes on here; Ctrl-C {stop} it, `cutover rollback` takes it back from any terminal"
                ));
            }
        }
        // The person who left the screen is not here to decide any more, but nothing is decided for them either: the
        // policy stays attended, and a held step ends this process resumable.
        lines.seen = handle.snapshot().journal.last_seq;
        let fresh = facts.resubscribe();
        return lines::print(lines, &mut handle, fresh, ending).await;
    }
    lines::print(lines, &mut handle, facts, ending).await
}

/// Whether there is a screen and somebody wants it.
pub fn shows_screen(args: &DriveArgs) -> bool {
    !args.headless && !args.json && std::io::stdout().is_terminal()
}

/// What the screen flags and the person's own keys ask for.
///
/// # Errors
/// Keys that no screen could have.
pub fn screen_options(args: &ScreenArgs) -> Result<ui::UiOptions, Failure> {
    let options = ui::UiOptions::from_terminal(
        match args.color {
            super::args::ColorArg::Auto => None,
            super::args::ColorArg::Always => Some(true),
            super::args::ColorArg::Never => Some(false),
        },
        args.ascii,
        args.fps,
    );
    Ok(ui::UiOptions { keys: super::own_keys::read()?, ..options })
}

/// The newest run of this plan that is not at its end. A run of a changed plan is never resumed silently. Without one,
/// the newest folder of this plan whose process was gone before its first fact: its lease may still be held under that
/// run's name.
fn unfinished(state_dir: &Path, plan: &Plan) -> Result<Option<RunFolder>, Failure> {
    let Ok(folders) = RunFolder::list(state_dir) else { return Ok(None) };
    let mut unopened = None;
    for folder in folders {
        // A run that cannot be read may be frozen half-way: it is never passed over for a new one.
        let record = crate::journal::read_run(&folder).map_err(|e| {
            Failure::new(
                Exit::Journal,
                format!("run {}: {e}; roll it back with `cutover rollback`, or pass --new", folder.id()),
            )
        })?;
        if record.facts.is_empty() {
            if record.header.plan_hash == plan.hash() {
                unopened.get_or_insert(folder);
            }
            continue;
        }
        let state =
            fold(&record.facts).map_err(|e| Failure::new(Exit::Journal, format!("run {}: {e}", folder.id())))?;
        if state.plan != plan.name || of_another_environment(&folder, &state, plan) {
            continue;
        }
        if state.is_final() {
            break;
        }
        return refusal(&folder, &state, plan).map_or(Ok(Some(folder)), Err);
    }
    Ok(unopened)
}

fn journal_io(dir: &Path) -> impl Fn(std::io::Error) -> Failure {
    let dir = dir.display().to_string();
    move |e| Failure::new(Exit::Journal, format!("run folders in {dir} cannot be written: {e}"))
}

/// A run's journal and clock, and what the engine begins with.
struct Opened {
    journal: JournalWriter,
    opening: Opening,
    clock: Arc<RunClock>,
    /// By how much the wall clock was stepped since the last fact.
    stepped: Option<(i64, StepSeen)>,
}

fn open(
    d: &Drive<'_>,
    folder: &RunFolder,
    plan: &Plan,
    machine: &MachineClock,
    callers: Callers,
) -> Result<Opened, Failure> {
    let (speed, longest) = d.pace;
    let mut unopened = None;
    if folder.journal().exists() {
        let (journal, RunRecord { facts, torn, last_time, sides, .. }) = JournalWriter::reopen(folder)?;
        for (file, tail) in torn {
            tracing::warn!(file = %file.display(), ?tail, "a torn last line was left out");
        }
        if let Some(last) = facts.last() {
            let state = fold(&facts).map_err(|e| Failure::new(Exit::Journal, e.to_string()))?;
            // It may have been amended between reading it and locking it.
            if let Some(failure) = refusal(folder, &state, plan) {
                return Err(failure);
            }
            let changed = changed_accounts(&state.callers, &callers);
            if !changed.is_empty() {
                let text = format!(
                    "run {}: {}; it is not resumed with another account: use the credentials it was opened with",
                    folder.id(),
                    changed.join("; ")
                );
                return Err(Failure::new(Exit::Denied, text));
            }
            // A rehearsal's clock goes on where it stood; a real one never runs backwards.
            let real = speed <= 1.0;
            let boot = boot_id();
            let stepped = last_time
                .filter(|last| real && Some(last.at) == facts.last().map(|f| f.at))
                .and_then(|last| stepped_since(&last, machine, boot.as_deref()));
            let known = matches!(stepped, Some((_, StepSeen::AtStart)));
            let start = if real && (known || machine.wall() > last.at) { machine.wall() } else { last.at };
            let clock = Arc::new(RunClock::new(machine, Some(start), speed, longest));
            settle_plan(folder, &state.plan_hash, plan).map_err(journal_io(folder.path()))?;
            keep_connections(folder, &d.config.connections).map_err(journal_io(folder.path()))?;
            let sides = sides.into_iter().map(|side| (side.path, side.facts)).collect();
            let opening = Opening::Resume { state: Box::new(state), facts, sides };
            return Ok(Opened { journal, opening, clock, stepped });
        }
        unopened = Some(journal);
    }
    let now = machine.wall();
    let first = plan.steps.first().map_or(0, |s| s.at_ms);
    let t0 = plan.t0.unwrap_or_else(|| now.plus(-first));
    let header = Header::new(folder.id(), &plan.hash(), &d.driver.operator, &d.driver.host, now);
    if matches!(d.mode, Mode::Rehearsal { .. }) {
        folder.mark_rehearsal().map_err(journal_io(folder.path()))?;
    }
    keep(folder, d.config, d.config_text).map_err(journal_io(folder.path()))?;
    let journal = match unopened {
        Some(journal) => journal,
        None => JournalWriter::create(folder, &header)?,
    };
    let opened = Event::RunOpened {
        run: folder.id().to_owned(),
        plan: plan.name.clone(),
        plan_hash: plan.hash(),
        environment: plan.environment.clone(),
        operator: d.driver.operator.clone(),
        host: d.driver.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        t0,
        steps: plan.steps.iter().map(|s| s.id.clone()).collect(),
        callers,
    };
    let clock = Arc::new(RunClock::new(machine, None, speed, longest));
    Ok(Opened { journal, opening: Opening::New(Box::new(opened)), clock, stepped: None })
}
