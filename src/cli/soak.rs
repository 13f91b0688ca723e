//! `cutover soak`: migration days one after the other, under live writes, with kills and faults drawn from a seed
//! (FEATURES E5). Each day ends with a comparison of the shop's account with the side in charge.
//!
//! The console under test is this program in a process of its own, so that `kill -9` is a real one. The seed fixes
//! data, traffic, places of kills and faults; the machine's scheduling it cannot fix.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::drive::{print, say};
use super::exit::Exit;
use super::failure::Failure;
use crate::adapters::dynamodb::ITEMS_AT_ONCE;
use crate::domain::run::{RunState, RunStatus, StepStatus};
use crate::journal::{RunFolder, fold, read_run};
use crate::rehearsal::fault::{Fault, Faults};
use crate::rehearsal::oracle::Side;
use crate::rehearsal::servers::private;
use crate::rehearsal::shop::Rates;
use crate::rehearsal::short_plan::{Last, ShortPlan, shortened_plan};
use crate::rehearsal::{Amounts, Scenario, Servers, World, WorldOptions};
use crate::workers::reverse::under_way;

/// Longest a day may take to reach the thaw, kills included.
const DAY: Duration = Duration::from_secs(600);
/// Longest a rollback may take, kills included.
const BACK: Duration = Duration::from_secs(180);
/// Faults that a day survives without rolling back by itself.
const FAULTS: [Fault; 2] = [Fault::SsmSlow, Fault::SsmLostReply];

/// What a soak does.
#[derive(Clone, Debug)]
pub struct Soak {
    /// No day begins after this many minutes.
    pub minutes: f64,
    /// Where everything random comes from.
    pub seed: u64,
    /// Writes a second of the application.
    pub writes: f64,
    /// Records each day begins with, and so which day it is.
    pub amounts: Amounts,
}

/// What all days together came to.
#[derive(Debug, Default)]
struct SoakTotals {
    days: u32,
    back: u32,
    cancelled: u32,
    kills: u32,
    faults: u32,
    new_side: u64,
    written: u64,
    checked: usize,
    untold: usize,
    set_back: usize,
    unknown: usize,
    markers: usize,
    open: Duration,
}

/// `cutover soak`.
pub async fn soak(what: &Soak, state_dir: &Path) -> Result<Exit, Failure> {
    let amounts = what.amounts;
    let servers = tokio::task::spawn_blocking(move || Servers::start(amounts, say))
        .await
        .map_err(|e| Failure::new(Exit::Bug, e.to_string()))?
        .map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))?;
    let began = Instant::now();
    let mut tally = SoakTotals::default();
    while tally.days == 0 || began.elapsed().as_secs_f64() < what.minutes * 60.0 {
        let number = tally.days + 1;
        let dir = state_dir.join(format!("soak-{}-{number}", what.seed));
        std::fs::create_dir_all(&dir)?;
        let mut day = Day::open(what, number, dir, &servers).await?;
        let ended = day.live(&mut tally).await;
        match ended {
            Ok(words) => say(&format!("day {number}: {words}")),
            Err(wrong) => {
                print(&format!(
                    "FAILED on day {number} of seed {}: {wrong}\nrecords: {}\nagain: cutover soak {} --seed {} --minutes {}\n",
                    what.seed,
                    day.dir.display(),
                    amounts.scenario().name(),
                    what.seed,
                    what.minutes
                ));
                return Ok(Exit::VerificationFailed);
            }
        }
        let dir = day.dir.clone();
        day.world.stop().await;
        std::fs::remove_dir_all(&dir)?;
        tally.days = number;
    }
    let per_second = tally.written as f64 / tally.open.as_secs_f64().max(1.0);
    print(&format!(
        "0 lost in {} days ({} ended on the new side, {} rolled back after customers wrote there, {} cancelled by themselves)\n\
         {} kills of the console, {} faults, {} writes acknowledged ({per_second:.0} a second), {} of them on the new side, {} keys checked\n\
         {} of these keys were written a value that stood there already (the store's own answer) while a newer one was on its way\n\
         {} were set back after a carried change whose carrier was killed before it cleared the record\n\
         {} keys had a write whose outcome nobody knows; {} markers of ours were left in the old tables\n\
         seed {}, {:.1} minutes\n",
        tally.days,
        tally.days - tally.back - tally.cancelled,
        tally.back,
        tally.cancelled,
        tally.kills,
        tally.faults,
        tally.written,
        tally.new_side,
        tally.checked,
        tally.untold,
        tally.set_back,
        tally.unknown,
        tally.markers,
        what.seed,
        began.elapsed().as_secs_f64() / 60.0
    ));
    tokio::task::spawn_blocking(move || drop(servers)).await.ok();
    Ok(Exit::Finished)
}

/// One day under way.
struct Day {
    world: World,
    faults: Faults,
    rng: fastrand::Rng,
    dir: PathBuf,
    starts: u32,
    /// Kills until the new side was open to customers.
    kills_before: u32,
}

impl Day {
    async fn open(what: &Soak, number: u32, dir: PathBuf, servers: &Servers) -> Result<Self, Failure> {
        let unexpected = |e: String| Failure::new(Exit::Unexpected, e);
        let seed = what.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number));
        let fresh = servers.fresh(&format!("soak_{number}")).await.map_err(|e| unexpected(e.to_string()))?;
        let faults = Faults::none();
        let world = World::start(WorldOptions {
            seed,
            rates: Rates { writes: what.writes, reads: what.writes / 2.0 },
            poll: Duration::from_millis(150),
            faults: faults.clone(),
            ..fresh
        })
        .await
        .map_err(|e| unexpected(e.to_string()))?;
        let mut vars = world.vars();
        vars.extend(servers.passwords(Some(&dir)).map_err(|e| unexpected(e.to_string()))?);
        private(&dir.join("config.toml"), &filled(what.amounts.scenario(), &vars))?;
        Ok(Self { world, faults, rng: fastrand::Rng::with_seed(seed), dir, starts: 0, kills_before: 0 })
    }

    /// Runs the day; the error says what was lost or what went wrong.
    async fn live(&mut self, tally: &mut SoakTotals) -> Result<String, String> {
        let began = Instant::now();
        let result = self.lived(tally).await;
        tally.open += began.elapsed();
        let (how, side) = result?;
        let verdict = self.world.verdict().await.map_err(|e| e.to_string())?;
        if !verdict.clean() || verdict.in_charge != side || verdict.frozen {
            return Err(format!("{verdict}"));
        }
        // Each kill of a reverse applier can leave as many keys written and not cleared as are under way at a time.
        let most = (tally.kills - self.kills_before) as usize * under_way(ITEMS_AT_ONCE);
        if verdict.comparison.set_back > most {
            return Err(format!("more keys were set back than kills explain ({most}): {verdict}"));
        }
        if verdict.comparison.untold > 3 + verdict.comparison.checked / 100 {
            return Err(format!("more keys without a trace than customers write: {verdict}"));
        }
        tally.written += verdict.tally.old + verdict.tally.new;
        tally.new_side += verdict.tally.new;
        tally.checked += verdict.comparison.checked;
        tally.untold += verdict.comparison.untold;
        tally.set_back += verdict.comparison.set_back;
        tally.unknown += verdict.comparison.unknown;
        tally.markers += verdict.comparison.markers;
        Ok(format!("{how}; {}", verdict.to_string().lines().next().unwrap_or_default()))
    }

    async fn lived(&mut self, tally: &mut SoakTotals) -> Result<(&'static str, Side), String> {
        if self.rng.bool() {
            let fault = FAULTS[self.rng.usize(..FAULTS.len())];
            self.faults.bring(fault);
            tally.faults += 1;
        }
        let mut console = self.until_thawed(tally).await?;
        // The last console may have been killed just after it opened the new side to customers.
        self.kills_before = tally.kills.saturating_sub(1);
        for fault in FAULTS {
            self.faults.lift(fault);
        }
        let Some(console) = console.as_mut() else {
            tally.cancelled += 1;
            return Ok(("went back to the old side by itself", Side::Old));
        };
        // Customers write on the new side for a while, with the console there or not.
        let killed = self.rng.bool();
        if killed {
            tally.kills += 1;
            kill(console)?;
        }
        tokio::time::sleep(Duration::from_millis(self.rng.u64(3_000..12_000))).await;
        if self.rng.u8(..3) == 0 {
            if !killed {
                kill(console)?;
            }
            return Ok(("stayed on the new side", Side::New));
        }
        self.back(tally).await?;
        let _ = console.kill();
        let _ = console.wait();
        tally.back += 1;
        Ok(("rolled back after customers had written on the new side", Side::Old))
    }

    /// Runs the console, killing it at random places, until the new side is open to customers. `None` when the day
    /// rolled back by itself, which is no loss.
    async fn until_thawed(&mut self, tally: &mut SoakTotals) -> Result<Option<Child>, String> {
        let began = Instant::now();
        let mut kills = self.rng.u32(1..6);
        let mut console = self.run()?;
        let mut until = Instant::now() + Duration::from_millis(self.rng.u64(300..9_000));
        loop {
            if began.elapsed() > DAY {
                let _ = console.kill();
                return Err(format!("not thawed after {} s: {}", DAY.as_secs(), self.last_words()));
            }
            if self.state().is_some_and(|s| s.step("thaw").is_some_and(|t| t.status == StepStatus::Done)) {
                return Ok(Some(console));
            }
            if let Some(status) = console.try_wait().map_err(|e| e.to_string())? {
                match status.code() {
                    Some(3) => return Ok(None),
                    Some(75) => console = self.run()?,
                    _ => return Err(format!("the console ended with {status}: {}", self.last_words())),
                }
            }
            if kills > 0 && Instant::now() > until {
                kills -= 1;
                tally.kills += 1;
                kill(&mut console)?;
                console = self.run()?;
                until = Instant::now() + Duration::from_millis(self.rng.u64(300..9_000));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Rolls back from another terminal; that terminal is killed now and then, and the order is given again.
    async fn back(&mut self, tally: &mut SoakTotals) -> Result<(), String> {
        let began = Instant::now();
        while began.elapsed() < BACK {
            let mut terminal = self.start(&["rollback"])?;
            let dies = (self.rng.u8(..2) == 0).then(|| Instant::now() + Duration::from_millis(self.rng.u64(20..1_500)));
            let status = loop {
                if let Some(status) = terminal.try_wait().map_err(|e| e.to_string())? {
                    break Some(status);
                }
                if dies.is_some_and(|at| Instant::now() > at) {
                    tally.kills += 1;
                    kill(&mut terminal)?;
                    break None;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            match status.and_then(|s| s.code()) {
                Some(3) if self.state().is_some_and(|s| s.status == RunStatus::RolledBack) => return Ok(()),
                // Killed, or stuck for now: a rollback can always be ordered again.
                None | Some(3 | 6) => {}
                Some(code) => return Err(format!("rollback ended with {code}: {}", self.last_words())),
            }
        }
        Err(format!("not rolled back after {} s: {}", BACK.as_secs(), self.last_words()))
    }

    /// Starts the migration, or resumes it. What it asks of people is answered beforehand.
    fn run(&mut self) -> Result<Child, String> {
        let text = std::fs::read_to_string(self.dir.join("config.toml")).map_err(|e| e.to_string())?;
        let answers = crate::rehearsal::short_plan::answers(&text);
        let asked = ["run", "--headless", "--yes", "-c", "config.toml"].into_iter();
        self.start(&asked.chain(answers.iter().map(String::as_str)).collect::<Vec<_>>())
    }

    fn start(&mut self, args: &[&str]) -> Result<Child, String> {
        self.starts += 1;
        let log = std::fs::File::create(self.dir.join(format!("{}-{}.out", self.starts, args[0])));
        let log = log.map_err(|e| e.to_string())?;
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        Command::new(program)
            .arg("--state-dir")
            .arg(&self.dir)
            .args(args)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| e.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|e| e.to_string())
    }

    /// Where the newest run stands, once it can be read.
    fn state(&self) -> Option<RunState> {
        let folder = RunFolder::find(&self.dir, None).ok()?;
        fold(&read_run(&folder).ok()?.facts).ok()
    }

    /// The end of what the last process said.
    fn last_words(&self) -> String {
        let mut outs: Vec<PathBuf> = std::fs::read_dir(&self.dir)
            .map(|all| all.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "out")).collect())
            .unwrap_or_default();
        outs.sort_by_key(|p| std::fs::metadata(p).and_then(|m| m.modified()).ok());
        let text = outs.last().and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

fn kill(child: &mut Child) -> Result<(), String> {
    child.kill().map_err(|e| e.to_string())?;
    child.wait().map(|_| ()).map_err(|e| e.to_string())
}

/// The hurried plan with its variables filled in.
fn filled(scenario: Scenario, vars: &BTreeMap<String, String>) -> String {
    let text = shortened_plan(scenario, ShortPlan { switched: 1, last: Last::BurnIn(3_600), lenient: true });
    super::rehearse::filled(&text, vars)
}
