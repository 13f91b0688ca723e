//! `cutover bench rollback`: restoring three parameters, idle and with every core loaded, against the AWS CLI.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use tokio::process::{Child, Command};

use super::books::Settings;
use super::error::{BenchError, BenchResult, Tried as _};
use super::measure::{Report, Sample, median};
use super::own_workers::plan;
use super::server::{Brief, Peers};
use super::{Options, say};
use crate::adapters::aws::AwsSwitches;
use crate::adapters::http::{HttpProbes, http_client};
use crate::domain::plan::Plan;
use crate::domain::run::{Attributes, Event, RestoreAction, RollbackPlan};
use crate::domain::secret::Secret;
use crate::engine::MachineClock;
use crate::ports::{Switches as _, Unavailable};
use crate::private::clients;
use crate::rehearsal::control::ControlPlane;
use crate::rehearsal::fault::Faults;
use crate::workers::rollback::{FactSink, Rollback};
use crate::workers::{CapturedValue, CapturedValues};

/// Rollbacks in one run of ours, of which the middle one counts.
const TIMES: u64 = 15;

/// Runs the bench.
pub(super) async fn run(options: &Options) -> BenchResult<Report> {
    let plane = ControlPlane::start(Faults::default()).await.tried("start", "the control plane")?;
    let peers = Peers::find(&options.peers, &say).await;
    let brief = Brief {
        name: "undo".to_owned(),
        source: plane.endpoint().to_owned(),
        target: "host=localhost".to_owned(),
        rows: options.rows.unwrap_or(TIMES),
        streams: 1,
        extra: 0,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut report = Report::new("rollback", format!("three parameters restored and read back; {cores} cores"));
    for run in 1..=options.runs {
        say(&format!("run {run} of {}", options.runs));
        for loaded in [false, true] {
            let _busy = if loaded { busy(cores)? } else { Vec::new() };
            let named = |name: &str| if loaded { format!("{name}, cores loaded") } else { name.to_owned() };
            report.add(&named("rollback"), brief.run().await?);
            if let Some(peers) = &peers {
                report.add(&named("aws ssm, three times"), peers.run("aws_restore.py", &brief).await?);
            }
        }
    }
    report.compare("rollback, cores loaded", "aws ssm, three times, cores loaded", 100.0);
    let took = |name: &str| report.median(name, |s| Some(s.seconds));
    if let (Some(idle), Some(loaded)) = (took("rollback"), took("rollback, cores loaded")) {
        report.answer("rollback, cores loaded", "rollback", loaded / idle, -2.0, "x");
    }
    Ok(report)
}

/// As many busy processes as there are cores; they end when the result is dropped.
fn busy(cores: usize) -> BenchResult<Vec<Child>> {
    (0..cores)
        .map(|_| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null()).kill_on_drop(true);
            command.spawn().tried("start", "a busy process")
        })
        .collect()
}

/// Facts of a bench go nowhere, at once.
struct Untold;

impl FactSink for Untold {
    fn send(&self, _event: Event) {}
}

/// The contestant: values captured, clients connected, then set and restored again and again.
pub(super) async fn contest(brief: &Brief) -> BenchResult<Option<Sample>> {
    if brief.name != "undo" {
        return Ok(None);
    }
    let settings = Settings {
        source: brief.source.clone(),
        target: "host=localhost user=nobody".parse().tried("read", "a URL")?,
        segments: 1,
        defer: true,
        poll_ms: 50,
    };
    let plan = plan(&settings)?;
    let (source, times) = (brief.source.clone(), brief.rows);
    // On a thread and a runtime of its own, as in a run.
    let thread = std::thread::Builder::new().name("rollback".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.tried("start", "a runtime")?.block_on(again_and_again(&plan, &source, times))
    });
    let joined = tokio::task::spawn_blocking(move || thread.map(std::thread::JoinHandle::join)).await;
    let result = joined.tried("wait for", "the rollback thread")?.tried("start", "the rollback thread")?;
    result.map_err(|_| BenchError::new("run", "the rollback thread", "it panicked"))?.map(Some)
}

async fn again_and_again(plan: &Arc<Plan>, endpoint: &str, times: u64) -> BenchResult<Sample> {
    let switches = AwsSwitches::new(&clients::session(endpoint, 3), None, None);
    let probes = HttpProbes::new(http_client().tried("make", "an HTTP client")?);
    let captured = CapturedValues::default();
    let mut wave = Vec::new();
    for switch in &plan.switches {
        let old = Secret::new(format!("old value of {}", switch.id));
        switches.set(switch, &old, &Attributes::default()).await.tried("set", &switch.id)?;
        let read = switches.read(switch).await.tried("read", &switch.id)?;
        let attributes = switches.attributes(switch, read.version).await.tried("read", &switch.id)?;
        captured.keep(&switch.id, CapturedValue { value: read.value.clone(), attributes: attributes.clone() });
        let value = (!switch.secret()).then(|| read.value.reveal().to_owned());
        let (switch, version) = (switch.id.clone(), read.version);
        wave.push(RestoreAction { switch, version, value, attributes, seen: version, thaw: false, captured: true });
    }
    let way = RollbackPlan { waves: vec![wave], ..RollbackPlan::default() };
    let no_jobs = Unavailable("no jobs are begun here".to_owned());
    let mut took = Vec::new();
    for time in 0..times.max(1) {
        for switch in &plan.switches {
            let new = switches.resolve(&switch.to, &switch.control).await.tried("resolve", &switch.id)?;
            let attributes = captured.get(&switch.id).map(|kept| kept.attributes).unwrap_or_default();
            switches.set(switch, &new.value, &attributes).await.tried("set", &switch.id)?;
        }
        let undo = Rollback {
            plan,
            switches: &switches,
            probes: &probes,
            clock: Arc::new(MachineClock::default()),
            captured: &captured,
            facts: &Untold,
            pass: time.to_string(),
            run: "bench",
            jobs: &no_jobs,
            tell: &|_, _| {},
        };
        let began = Instant::now();
        let done = undo.go(&way).await;
        took.push(began.elapsed().as_secs_f64());
        if !done.stuck.is_empty() || done.evidence.len() != plan.switches.len() {
            return Err(BenchError::new("go back", "three parameters", done.stuck.join("; ")));
        }
    }
    let mut sample = Sample::since(Instant::now(), 1);
    sample.seconds = median(took).unwrap_or_default();
    // Setting the new values is not part of it.
    sample.cpu_seconds = None;
    Ok(sample)
}
