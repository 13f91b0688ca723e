//! Baselines: what probes are answered and metrics say before the cutover (FEATURES D4).

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;

use super::context::WorkerContext;
use super::trouble::{evidence, not_recorded, too_late, world};
use crate::domain::at::At;
use crate::domain::gauge::source_words;
use crate::domain::plan::{Plan, Probe, Signal, SignalSource};
use crate::domain::run::{Baseline, Event, Evidence, StepError};
use crate::ports::ProbeOutcome;

/// How often it is looked whether a metric has a new value.
const LOOK: Duration = Duration::from_millis(200);

/// Measures each signal and states what it is: of a probe by requests of its own, at the probe's own pace, after some that
/// do not count; of a metric by the next values that are published.
pub async fn perform(
    ctx: &Arc<WorkerContext>,
    ids: &[String],
    samples: u32,
    warm_up: u32,
) -> Result<Vec<Evidence>, StepError> {
    let signals: Vec<&Signal> = ids.iter().filter_map(|id| ctx.plan.signals.iter().find(|s| s.id == *id)).collect();
    let mut of_probes = Vec::new();
    for (probe, signals) in probes(&ctx.plan, &signals) {
        of_probes.push(of_probe(ctx, probe, signals, samples, warm_up));
    }
    let mut of_metrics = Vec::new();
    for signal in signals.iter().filter(|s| matches!(s.source, SignalSource::CloudWatch(_))) {
        of_metrics.push(values(ctx, signal, samples));
    }
    let (of_probes, of_metrics) = futures::future::try_join(try_join_all(of_probes), try_join_all(of_metrics)).await?;
    let mut shown = Vec::new();
    for (signal, baseline) in of_probes.into_iter().flatten().chain(of_metrics) {
        let taken = Event::BaselineTaken { signal: signal.id.clone(), baseline };
        ctx.facts.state(taken).await.map_err(|e| not_recorded(&e))?;
        let source = source_words(&ctx.plan, signal);
        shown.push(evidence(format!("baseline {}", signal.id), baseline.words(&signal.unit), baseline.to, source));
    }
    Ok(shown)
}

/// The probes that these signals are of, each with its signals: it is asked once for all of them.
fn probes<'a>(plan: &'a Plan, signals: &[&'a Signal]) -> Vec<(&'a Probe, Vec<&'a Signal>)> {
    let mut found: Vec<(&Probe, Vec<&Signal>)> = Vec::new();
    for signal in signals {
        let (SignalSource::ProbeP95(id) | SignalSource::ProbeErrors(id)) = &signal.source else { continue };
        match found.iter_mut().find(|(probe, _)| probe.id == *id) {
            Some((_, signals)) => signals.push(signal),
            None => found.extend(plan.probe(id).map(|probe| (probe, vec![*signal]))),
        }
    }
    found
}

async fn of_probe<'a>(
    ctx: &Arc<WorkerContext>,
    probe: &'a Probe,
    signals: Vec<&'a Signal>,
    samples: u32,
    warm_up: u32,
) -> Result<Vec<(&'a Signal, Baseline)>, StepError> {
    let results = requests(ctx, probe, samples, warm_up).await;
    signals.into_iter().map(|signal| results.baseline(probe, signal).map(|found| (signal, found))).collect()
}

/// What the requests to one probe came to.
struct Results {
    latencies: Vec<f64>,
    failed: u32,
    last_failure: String,
    from: At,
    to: At,
}

async fn requests(ctx: &Arc<WorkerContext>, probe: &Probe, samples: u32, warm_up: u32) -> Results {
    let every = Duration::from_millis(probe.every_ms.max(20));
    for _ in 0..warm_up {
        ctx.ports.probes.probe(probe).await;
        tokio::time::sleep(every).await;
    }
    let from = ctx.wall();
    let mut results = Results { latencies: Vec::new(), failed: 0, last_failure: String::new(), from, to: from };
    for _ in 0..samples {
        let result = ctx.ports.probes.probe(probe).await;
        match result.outcome {
            ProbeOutcome::Served => results.latencies.push(f64::from(result.latency_ms)),
            ProbeOutcome::Refused => results.fail(format!("refused with {}", result.status.unwrap_or_default())),
            ProbeOutcome::Failed(why) => results.fail(why),
        }
        tokio::time::sleep(every).await;
    }
    results.to = ctx.wall();
    results
}

impl Results {
    fn fail(&mut self, why: String) {
        self.failed += 1;
        self.last_failure = why;
    }

    fn baseline(&self, probe: &Probe, signal: &Signal) -> Result<Baseline, StepError> {
        let requests = self.failed + u32::try_from(self.latencies.len()).unwrap_or(u32::MAX);
        let found = match &signal.source {
            SignalSource::ProbeErrors(_) => Baseline::of_errors(self.failed, requests, self.from, self.to),
            // Of a failure there is no latency, so the slowest of those served say less than they seem to.
            _ if self.failed * 20 > requests => None,
            _ => Baseline::of_latencies(&self.latencies, self.from, self.to),
        };
        found.ok_or_else(|| {
            world(
                format!(
                    "{} of {requests} requests of probe {} failed, last: {}: that is no baseline of {}",
                    self.failed, probe.id, self.last_failure, signal.id
                ),
                format!("look at {}, then start the step again", probe.place()),
            )
        })
    }
}

/// The next values of a metric. Ends when none comes for as long as it takes the signal to be stale.
async fn values<'a>(
    ctx: &Arc<WorkerContext>,
    signal: &'a Signal,
    samples: u32,
) -> Result<(&'a Signal, Baseline), StepError> {
    let mut found = Vec::new();
    let mut span = None;
    let mut last_came = ctx.mono();
    while found.len() < samples as usize {
        let measured = ctx.measured();
        let reading = measured.signals.get(&signal.id).copied().unwrap_or_default();
        let new =
            reading.fresh(measured.at, signal.stale_ms).filter(|_| span.is_none_or(|(_, last)| reading.at > last));
        if let Some(value) = new {
            found.push(value);
            span = Some((span.map_or(reading.at, |(first, _)| first), reading.at));
            last_came = ctx.mono();
        } else if ctx.mono() - last_came > signal.stale_ms {
            return Err(too_late(
                format!(
                    "{} of {samples} values of {} came, and then none for {}s",
                    found.len(),
                    signal.id,
                    signal.stale_ms / 1000
                ),
                "see that the metric is published, or take it out of the step's signals",
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
    let (from, to) = span.unwrap_or_default();
    Baseline::of(&found, from, to)
        .map(|baseline| (signal, baseline))
        .ok_or_else(|| world(format!("no value of {} was asked for", signal.id), "set `samples` to 1 or more"))
}
