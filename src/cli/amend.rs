//! `cutover amend`: the plan of a run that is under way becomes what the config says now, as far as that is safe at
//! this moment. The rules are in `domain::run::amend`; what is written, and in which order, is here and in
//! `docs/amend.md`.

use std::path::Path;

use super::args::AmendArgs;
use super::asked;
use super::drive::{print, say};
use super::exit::Exit;
use super::failure::Failure;
use super::listing::{self, Over};
use super::opened::{ENVIRONMENT, Fit, fit, of_another_environment, settle_plan, with_stores};
use super::world::{self, Driver};
use crate::config::Config;
use crate::domain::plan::Plan;
use crate::domain::run::{
    Actor, AmendDecision, Amended, Change, Difference, Event, Fact, PlanChange, RunState, StepState, StepStatus, apply,
    difference,
};
use crate::engine::MachineClock;
use crate::journal::{Holder, JournalWriter, RunFolder, RunRecord, fold, read_run};
use crate::ports::Clock;
use crate::report::read_plan;

/// What somebody at a terminal is asked.
const QUESTION: &str = "press A to amend the plan, any other key leaves it as it is: ";

/// `cutover amend`.
pub async fn amend(args: &AmendArgs, state_dir: &Path) -> Result<Exit, Failure> {
    let (config, text) = super::run::load(&args.config, Over::UnfinishedRun(state_dir)).await?;
    let folder = match &args.run {
        Some(run) => RunFolder::find(state_dir, Some(run))?,
        None => unfinished(state_dir, &config.plan)?,
    };
    let run = folder.id();
    if folder.is_rehearsal() {
        return Err(refused(format!("run {run} was a rehearsal: its world ended with it, begin a new one")));
    }
    nobody_drives(&folder)?;
    let (record, state) = read(&folder)?;
    if record.facts.is_empty() {
        return Err(refused(format!("run {run} never began; `cutover run` goes by the config as it is")));
    }
    if fit(&folder, &state.plan_hash, &config.plan) == Fit::Same {
        let _lock = locked(&folder)?;
        settle_plan(&folder, &state.plan_hash, &config.plan).map_err(|e| unwritten(&folder, &e))?;
        print(&format!("run {run} goes by this plan: nothing to amend\n"));
        return Ok(Exit::Finished);
    }
    let difference = compared(&folder, &state, &config)?;
    print(&shown(&state, &config.plan.hash(), &difference));
    let (all, not_now) = (difference.changes.len(), difference.refused().count());
    if not_now > 0 {
        let text = format!(
            "{not_now} of {all} changes may not be made now; put those back and ask again. Nothing was changed"
        );
        return Err(refused(text));
    }
    ask_target(&config, &difference).await?;
    if !args.yes {
        if !asked::somebody_is_there() {
            return Err(refused("nobody is here to confirm it; --yes amends without asking. Nothing was changed"));
        }
        if !asked::confirmed(QUESTION, b"Aa").await {
            return Err(refused("the key was not pressed. Nothing was changed"));
        }
    }
    let seq = write(&folder, &config, &text, &state, difference)?;
    let path = args.config.config.display();
    let env = args.config.env.as_ref().map_or_else(String::new, |env| format!(" --env {env}"));
    print(&format!("amended, on record as fact #{seq}; `cutover run -c {path}{env}` resumes the run with it\n"));
    Ok(Exit::Finished)
}

fn refused(why: impl Into<String>) -> Failure {
    Failure::new(Exit::Refused, format!("not amended: {}", why.into()))
}

fn unwritten(folder: &RunFolder, e: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Journal, format!("{} cannot be written: {e}", folder.path().display()))
}

/// The newest run of this plan that is not at its end.
fn unfinished(state_dir: &Path, plan: &Plan) -> Result<RunFolder, Failure> {
    for folder in RunFolder::list(state_dir)?.into_iter().filter(|folder| !folder.is_rehearsal()) {
        let (record, state) = read(&folder)?;
        if record.facts.is_empty() || state.plan != plan.name || of_another_environment(&folder, &state, plan) {
            continue;
        }
        if state.is_final() {
            break;
        }
        return Ok(folder);
    }
    let name = &plan.name;
    Err(Failure::new(
        Exit::Usage,
        format!("no run of plan {name} is under way; `cutover runs` lists them, --run names one"),
    ))
}

fn read(folder: &RunFolder) -> Result<(RunRecord, RunState), Failure> {
    let of = |e: String| {
        Failure::new(Exit::Journal, format!("run {}: {e}; nothing is amended on such a record", folder.id()))
    };
    let record = read_run(folder).map_err(|e| of(e.to_string()))?;
    let state = fold(&record.facts).map_err(|e| of(e.to_string()))?;
    Ok((record, state))
}

/// A plan never changes under a console: it was shown there, and is compiled into what it does.
fn nobody_drives(folder: &RunFolder) -> Result<(), Failure> {
    let Some(holder) = folder.locked_by() else { return Ok(()) };
    Err(refused(format!(
        "run {} is driven by {holder}, and a plan does not change under a console. End that one first: Ctrl-C pauses it \
         where it runs as lines, on a screen q and then Ctrl-C; while writes are frozen it finishes or goes back",
        folder.id()
    )))
}

fn locked(folder: &RunFolder) -> Result<crate::journal::RunLock, Failure> {
    let driver = Driver::here();
    folder.lock(&Holder::me(&driver.operator, &driver.host)).map_err(|e| refused(e.to_string()))
}

fn compared(folder: &RunFolder, state: &RunState, config: &Config) -> Result<Difference, Failure> {
    let stands = with_stores(folder, read_plan(folder, &state.plan_hash)?);
    Ok(difference(&stands, &config.plan, state))
}

/// Every change in a line, and why it may not be made now or what follows from it.
fn shown(state: &RunState, to: &str, difference: &Difference) -> String {
    let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
    let mut out = format!("run {}, plan {} -> {}\n", state.run, short(&state.plan_hash), short(to));
    for Change { what, old, new, decision } in &difference.changes {
        let (mark, words) = match decision {
            AmendDecision::Allowed(effect) => ("  may change ", effect),
            AmendDecision::Refused(why) => ("  REFUSED    ", why),
        };
        out.push_str(&format!("{mark} {what}: {old} -> {new}\n"));
        if !words.is_empty() {
            out.push_str(&format!("              {words}\n"));
        }
    }
    for gate in &difference.gates {
        out.push_str(&format!("  gate {gate} begins its hold anew\n"));
    }
    let open = |s: &&StepState| !matches!(s.status, StepStatus::Done | StepStatus::Skipped);
    if state.steps.iter().filter(open).any(|s| !s.approvals.is_empty() || !s.votes.is_empty()) {
        out.push_str("  approvals and votes to go lapse: they were given on the plan before\n");
    }
    out
}

/// With a mapping that does not fit the target's tables, every row from here on would be parked or refused.
async fn ask_target(config: &Config, difference: &Difference) -> Result<(), Failure> {
    if difference.tables.is_empty() {
        return Ok(());
    }
    let ports = world::ports(&config.plan, &config.connections).await?;
    let mut problems = Vec::new();
    for table in difference.tables.iter().filter_map(|id| config.plan.table(id)) {
        let found = ports.target.describe(table).await?;
        // A table that set-up has yet to make is made as the plan says by then.
        if found.exists || table.ddl.is_none() {
            problems.extend(found.problems);
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(refused(format!(
        "the target does not fit the new mapping: {}. Change its table first (ALTER TABLE), then ask again. Nothing was \
         changed",
        problems.join("; ")
    )))
}

/// Writes the amendment: both plans by their hash, then the fact, then what people and older programs read. Whatever is
/// cut off in between leaves a run that opens, by the plan its journal says. Gives the fact's position.
fn write(
    folder: &RunFolder,
    config: &Config,
    text: &str,
    shown_for: &RunState,
    shown: Difference,
) -> Result<u64, Failure> {
    let _lock = locked(folder)?;
    super::logging::into(folder);
    // Nothing that was read before the question is kept: the run may have gone on or been rolled back meanwhile.
    let (mut journal, record) = JournalWriter::reopen(folder)?;
    let mut state = fold(&record.facts).map_err(|e| Failure::new(Exit::Journal, e.to_string()))?;
    if state.plan_hash != shown_for.plan_hash || compared(folder, &state, config)? != shown {
        return Err(refused("the run went on while the question stood; ask again. Nothing was changed"));
    }
    let failed = |e: std::io::Error| unwritten(folder, &e);
    let (from, to) = (state.plan_hash.clone(), config.plan.hash());
    let stands = read_plan(folder, &from)?;
    let pretty = |plan: &Plan| serde_json::to_vec_pretty(plan).map_err(|e| unwritten(folder, &e));
    let plan = pretty(&config.plan)?;
    folder.write(&RunFolder::plan_name(&from), &pretty(&stands)?).map_err(failed)?;
    place("amend:kept");
    folder.write(&RunFolder::plan_name(&to), &plan).map_err(failed)?;
    place("amend:written");
    let driver = Driver::here();
    let changes = shown.changes.into_iter().map(|Change { what, old, new, decision: _ }| PlanChange { what, old, new });
    let amended = Amended {
        from,
        to,
        by: Actor::Terminal(driver.operator),
        host: driver.host,
        t0: config.plan.t0.unwrap_or(state.t0),
        gates: shown.gates,
        changes: changes.collect(),
    };
    let last = record.facts.last().map_or(state.opened, |f| f.at);
    // Times in a journal never go backwards.
    let at = MachineClock::default().wall().max(last);
    let fact = Fact { seq: state.last_seq + 1, at, event: Event::PlanAmended(amended) };
    apply(&mut state, &fact).map_err(|e| refused(e.to_string()))?;
    journal.append(std::slice::from_ref(&fact)).map_err(failed)?;
    place("amend:recorded");
    // `plan.json` is only a copy: without it the run opens all the same.
    let copies = folder.write("plan.json", &plan).and_then(|()| {
        place("amend:in-force");
        listing::keep(folder, config)?;
        folder.write("config.toml", text.as_bytes())?;
        folder.write(ENVIRONMENT, config.plan.environment.as_bytes())
    });
    if let Err(e) = copies {
        say(&format!("warning: {}; the run goes by its plan of that hash all the same", unwritten(folder, &e).words()));
    }
    Ok(fact.seq)
}

/// Where a test kills the process.
fn place(name: &str) {
    #[cfg(feature = "failpoints")]
    crate::engine::failpoint::at(name);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}
