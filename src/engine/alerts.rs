//! Alerts on their way: which fire, and who tells the places of them.
//!
//! The loop only judges and records. Each place is told by a task of its own from a short queue, so that one that hangs holds
//! up neither the loop nor another place; a rollback waits for none of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::alert::{About, Alert, Message, Place, Told};
use crate::domain::at::At;
use crate::domain::gauge::Measured;
use crate::domain::plan::Plan;
use crate::domain::run::{AlertWatch, Event, Firing, RunState};
use crate::ports::{NotTold, Notices};
use crate::snapshot::Mode;

/// Messages that wait for one place at most.
const QUEUE: usize = 16;
/// How often a place is tried at most.
const TRIES: u32 = 3;
/// The longest wait before another try, whatever the place asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a process that ends waits for places that are being told.
const FAREWELL: Duration = Duration::from_secs(15);

/// The alerts of a run, and who tells places of them.
#[derive(Clone, Default)]
pub struct AlertSetup {
    /// The alerts.
    pub alerts: Arc<[Alert]>,
    /// Who tells places; without it none is told.
    pub notices: Option<Arc<dyn Notices>>,
}

/// One message on its way to one place.
struct Errand {
    about: About,
    message: Message,
    /// Ends the trying: somebody has seen it.
    seen: CancellationToken,
}

/// What the loop has of alerts.
pub(super) struct AlertDesk {
    alerts: Arc<[Alert]>,
    watch: AlertWatch,
    mode: Mode,
    queues: BTreeMap<(String, String), mpsc::Sender<Errand>>,
    told: mpsc::Receiver<Event>,
    /// Facts that are not on record yet.
    unrecorded: Vec<Event>,
    /// By firing, what ends the trying.
    seen: BTreeMap<u64, CancellationToken>,
    /// Messages that places are being told of, or that wait for it.
    under_way: Arc<watch::Sender<usize>>,
    /// Whether what an earlier process left untold was taken up.
    resumed: bool,
}

impl AlertDesk {
    /// Starts a task for each place that is not the screen.
    pub(super) fn start(setup: AlertSetup, mode: Mode) -> Self {
        let AlertSetup { alerts, notices } = setup;
        let (tell, told) = mpsc::channel(64);
        let under_way = Arc::new(watch::channel(0).0);
        let mut queues = BTreeMap::new();
        for alert in alerts.iter() {
            for place in alert.places.iter().filter(|place| !place.is_screen()) {
                let Some(notices) = &notices else { continue };
                let (queue, errands) = mpsc::channel(QUEUE);
                queues.insert((alert.id.clone(), place.name.clone()), queue);
                let teller = Teller {
                    notices: Arc::clone(notices),
                    place: place.clone(),
                    told: tell.clone(),
                    under_way: Arc::clone(&under_way),
                };
                tokio::spawn(teller.run(errands));
            }
        }
        let watch = AlertWatch::new(Arc::clone(&alerts));
        let (unrecorded, seen) = (Vec::new(), BTreeMap::new());
        Self { alerts, watch, mode, queues, told, unrecorded, seen, under_way, resumed: false }
    }

    /// What an earlier process measured last.
    pub(super) fn measured_before(&mut self, plan: &Plan, state: &RunState, measured: &Measured) {
        self.watch.measured_before(plan, state, measured);
    }

    /// Facts to record now: what places were told, what fires, and what is over.
    pub(super) fn events(&mut self, plan: &Plan, state: &RunState, measured: &Measured, now: At) -> Vec<Event> {
        while let Ok(event) = self.told.try_recv() {
            self.unrecorded.push(event);
        }
        let judged = self.watch.judge(plan, state, measured, now);
        self.unrecorded.iter().cloned().chain(judged).collect()
    }

    /// They are on record: places are told of what fired.
    pub(super) fn recorded(&mut self, plan: &Plan, state: &RunState, events: &[Event]) {
        self.unrecorded.clear();
        for event in events {
            if let Event::AlertFired { alert, about, .. } = event
                && let Some(firing) = state.firing(alert, about)
            {
                self.send(plan, state, firing, false);
            }
        }
    }

    /// What has to be done whether anything fires or not: what an earlier process began to tell is told, and what
    /// somebody has seen is tried no more.
    pub(super) fn look_after(&mut self, plan: &Plan, state: &RunState) {
        if !std::mem::replace(&mut self.resumed, true) {
            for firing in state.alerts.iter().filter(|firing| firing.is_open() && firing.is_unseen()) {
                self.send(plan, state, firing, true);
            }
        }
        self.seen.retain(|seq, seen| {
            let waits = state.alerts.iter().any(|firing| firing.seq == *seq && firing.is_unseen());
            if !waits {
                seen.cancel();
            }
            waits
        });
    }

    /// Hands a firing to the places that were not told of it.
    fn send(&mut self, plan: &Plan, state: &RunState, firing: &Firing, again: bool) {
        let Some(alert) = self.alerts.iter().find(|alert| alert.id == firing.alert) else { return };
        let message = Message { again, ..message(plan, state, firing, self.mode) };
        let seen = self.seen.entry(firing.seq).or_default().clone();
        let untold = |name: &str| firing.places.iter().any(|(place, told)| place == name && told.is_none());
        for place in alert.places.iter().filter(|place| untold(&place.name)) {
            let Some(queue) = self.queues.get(&(alert.id.clone(), place.name.clone())) else { continue };
            let errand = Errand { about: firing.about.clone(), message: message.clone(), seen: seen.clone() };
            match queue.try_send(errand) {
                Ok(()) => self.under_way.send_modify(|n| *n += 1),
                Err(_) => self.unrecorded.push(Event::AlertTold {
                    alert: alert.id.clone(),
                    about: firing.about.clone(),
                    place: place.name.clone(),
                    result: Told::Failed { error: format!("{QUEUE} messages wait for this place already") },
                }),
            }
        }
    }

    /// Waits for places that are being told, each for as long as it may take, but no longer than a process that ends may
    /// wait; gives what came back.
    pub(super) async fn farewell(&mut self) -> Vec<Event> {
        let mut under_way = self.under_way.subscribe();
        let rest = async {
            while *under_way.borrow_and_update() > 0 {
                tokio::select! {
                    Some(event) = self.told.recv() => self.unrecorded.push(event),
                    changed = under_way.changed() => if changed.is_err() { return },
                }
            }
        };
        let _ = tokio::time::timeout(FAREWELL, rest).await;
        while let Ok(event) = self.told.try_recv() {
            self.unrecorded.push(event);
        }
        std::mem::take(&mut self.unrecorded)
    }
}

/// What places are told of a firing.
fn message(plan: &Plan, state: &RunState, firing: &Firing, mode: Mode) -> Message {
    let about = firing.about.words();
    let step = state.current().and_then(|i| plan.steps.get(i)).map(|step| step.id.clone());
    Message {
        id: format!("{}/{}/{about}/{}", state.run, firing.alert, firing.fired.0),
        alert: firing.alert.clone(),
        about,
        text: firing.text.clone(),
        bad: firing.about.is_bad(),
        at: firing.fired,
        time: firing.fired.rfc3339(),
        run: state.run.clone(),
        plan: plan.name.clone(),
        environment: plan.environment.clone(),
        production: plan.production,
        driver: format!("{}@{}", state.operator, state.host),
        step,
        rehearsal: matches!(mode, Mode::Rehearsal { .. }),
        trial: false,
        again: false,
    }
}

/// Tells one place.
struct Teller {
    notices: Arc<dyn Notices>,
    place: Place,
    told: mpsc::Sender<Event>,
    under_way: Arc<watch::Sender<usize>>,
}

impl Teller {
    async fn run(self, mut errands: mpsc::Receiver<Errand>) {
        while let Some(Errand { about, message, seen }) = errands.recv().await {
            let result = self.tell(&message, &seen).await;
            let (alert, place) = (message.alert, self.place.name.clone());
            // Nobody listens any more: the process ends.
            let _ = self.told.send(Event::AlertTold { alert, about, place, result }).await;
            self.under_way.send_modify(|n| *n = n.saturating_sub(1));
        }
    }

    /// Tries until it is told, somebody has seen it, or trying does not help.
    async fn tell(&self, message: &Message, seen: &CancellationToken) -> Told {
        // A port ends by itself; this is for one that does not.
        let longest = Duration::from_millis(self.place.timeout_ms()).saturating_add(Duration::from_secs(5));
        let mut tries = 1;
        loop {
            let one = tokio::time::timeout(longest, self.notices.tell(&self.place, message)).await;
            let error = match one {
                Ok(Ok(answer)) => return Told::Delivered { answer },
                Ok(Err(error)) => error,
                Err(_) => NotTold::for_good("it did not end in time"),
            };
            let why = if tries == 1 { error.why } else { format!("{}, after {tries} tries", error.why) };
            let Some(wait) = error.again.filter(|_| tries < TRIES) else { return Told::Failed { error: why } };
            tokio::select! {
                () = seen.cancelled() => return Told::Failed { error: format!("{why}; not tried again: it was acknowledged") },
                () = tokio::time::sleep(wait.min(LONGEST_WAIT)) => {}
            }
            tries += 1;
        }
    }
}

#[cfg(test)]
mod tests;
