//! Alerts: edges, how soon they fire again, what is not known, and what a restart does not repeat.

use super::*;
use crate::domain::alert::{About, Alert, EVERY_MS, On, OnScreen, Place, PlaceKind, Threshold, Told};

fn alert(on: &[On], threshold: Option<f64>, for_ms: i64) -> Alert {
    let criterion = |value| Criterion::with("lag", Op::Above, value);
    let threshold = threshold.map(|value| Threshold { criterion: criterion(value), text: format!("lag > {value}") });
    Alert {
        id: "pager".into(),
        on: on.to_vec(),
        thresholds: threshold.into_iter().collect(),
        for_ms,
        every_ms: EVERY_MS,
        places: vec![Place { name: "bell".into(), kind: PlaceKind::Screen(OnScreen::Bell) }],
    }
}

/// A run and what watches it.
struct Watched {
    run: Run,
    watch: AlertWatch,
}

impl Watched {
    fn new(alerts: Vec<Alert>) -> Self {
        Self { run: Run::open(Policy::default()), watch: AlertWatch::new(alerts.into()) }
    }

    /// Time passes with this lag; what fires and what is over is folded. Gives it in words.
    fn look(&mut self, ms: i64, lag_s: Option<f64>) -> Vec<String> {
        self.run.tick(ms, lag_s);
        let lag = lag_s.map_or_else(Reading::default, |s| Reading::new(s * 1000.0, self.run.now));
        self.judged(lag)
    }

    fn judged(&mut self, apply: Reading) -> Vec<String> {
        let lag = Lag { apply, ..Lag::default() };
        let tables = [("books".to_owned(), TableGauge { lag, ..TableGauge::default() })].into();
        let measured = Measured { at: self.run.now, tables, ..Measured::default() };
        let events = self.watch.judge(&self.run.plan, &self.run.state, &measured, self.run.now);
        let said = events.iter().filter_map(|event| match event {
            Event::AlertFired { about, .. } => Some(format!("fired {}", about.words())),
            Event::AlertCleared { about, .. } => Some(format!("over {}", about.words())),
            _ => None,
        });
        let said = said.collect();
        self.run.fold(events);
        said
    }

    /// Another process takes the run up: it knows what is folded, and nothing else.
    fn restart(&mut self, alerts: Vec<Alert>) {
        self.run.fold(vec![Event::RunResumed { operator: "alice".into(), host: "b".into() }]);
        self.run.state = serde_json::from_value(serde_json::to_value(&self.run.state).unwrap()).unwrap();
        self.watch = AlertWatch::new(alerts.into());
    }
}

const NONE: [&str; 0] = [];

#[test]
fn a_threshold_fires_on_its_edge_and_not_on_each_sample() {
    let mut w = Watched::new(vec![alert(&[], Some(30.0), 0)]);
    assert_eq!(w.look(0, Some(1.0)), NONE);
    assert_eq!(w.look(100, Some(31.0)), ["fired lag > 30"]);
    for _ in 0..100 {
        assert_eq!(w.look(60_000, Some(40.0)), NONE, "told once, not all night");
    }
    assert_eq!(w.look(100, Some(2.0)), ["over lag > 30"]);
    assert_eq!(w.look(100, Some(40.0)), ["fired lag > 30"], "far later than `every`");
    assert_eq!(w.run.state.alerts.len(), 2);
    assert_eq!(w.run.state.alerts[0].text, "lag > 30: it is 31s.");
}

#[test]
fn it_fires_again_only_after_it_was_over_and_not_too_soon() {
    let mut w = Watched::new(vec![alert(&[], Some(30.0), 0)]);
    assert_eq!(w.look(0, Some(31.0)), ["fired lag > 30"]);
    // It comes and goes all the time.
    let mut fired = 0;
    for n in 0..60 {
        let said = w.look(60_000, Some(if n % 2 == 0 { 1.0 } else { 31.0 }));
        fired += said.iter().filter(|said| said.starts_with("fired")).count();
    }
    assert_eq!(fired, 3, "an hour, and 15 minutes between two");
}

#[test]
fn a_threshold_that_is_crossed_for_a_moment_does_not_fire() {
    let mut w = Watched::new(vec![alert(&[], Some(30.0), 30_000)]);
    assert_eq!(w.look(0, Some(31.0)), NONE);
    assert_eq!(w.look(20_000, Some(31.0)), NONE);
    assert_eq!(w.look(5_000, Some(1.0)), NONE);
    assert_eq!(w.look(1_000, Some(31.0)), NONE, "it begins anew");
    assert_eq!(w.look(29_000, Some(31.0)), NONE);
    assert_eq!(w.look(1_000, Some(31.0)), ["fired lag > 30"]);
}

#[test]
fn what_is_not_measured_is_never_over_and_is_news_of_its_own() {
    let mut w = Watched::new(vec![alert(&[], Some(30.0), 0)]);
    // Not measured yet is no news.
    assert_eq!(w.look(600_000, None), NONE);
    assert_eq!(w.look(100, Some(31.0)), ["fired lag > 30"]);
    let stale = Reading::new(31_000.0, w.run.now);
    w.run.now = w.run.now.plus(30_000);
    assert_eq!(w.judged(stale), NONE, "stale, and not over");
    w.run.now = w.run.now.plus(70_000);
    assert_eq!(w.judged(stale), ["fired lag > 30 is not known"]);
    w.run.now = w.run.now.plus(3_600_000);
    assert_eq!(w.judged(stale), NONE, "told once");
    assert!(w.run.state.firing("pager", &About::Threshold { criterion: "lag > 30".into() }).unwrap().is_open());
    let mut said = w.look(100, Some(1.0));
    said.sort();
    assert_eq!(said, ["over lag > 30", "over lag > 30 is not known"]);
}

#[test]
fn a_restart_repeats_nothing_and_a_signal_that_stays_away_is_news() {
    let alerts = || vec![alert(&[], Some(30.0), 0)];
    let mut w = Watched::new(alerts());
    assert_eq!(w.look(0, Some(31.0)), ["fired lag > 30"]);
    w.restart(alerts());
    assert_eq!(w.look(1_000, None), NONE);
    assert_eq!(w.look(1_000, Some(31.0)), NONE, "it was told");
    assert_eq!(w.look(1_000, Some(1.0)), ["over lag > 30"]);
    w.restart(alerts());
    assert_eq!(w.look(1_000, Some(31.0)), NONE, "too soon, whoever watches");
    w.restart(alerts());
    let lag = Lag { apply: Reading::new(1.0, w.run.now), ..Lag::default() };
    let tables = [("books".to_owned(), TableGauge { lag, ..TableGauge::default() })].into();
    let before = Measured { at: w.run.now, tables, ..Measured::default() };
    w.watch.measured_before(&w.run.plan, &w.run.state, &before);
    assert_eq!(w.look(1_000, None), NONE);
    assert_eq!(w.look(120_000, None), ["fired lag > 30 is not known"]);
}

#[test]
fn an_alert_that_is_in_no_config_any_more_is_over() {
    let mut w = Watched::new(vec![alert(&[], Some(30.0), 0)]);
    assert_eq!(w.look(0, Some(31.0)), ["fired lag > 30"]);
    w.restart(vec![]);
    assert_eq!(w.look(1_000, Some(31.0)), ["over lag > 30"]);
}

#[test]
fn a_run_that_waits_or_fails_is_told_once_for_each_step() {
    let mut w = Watched::new(vec![alert(&[On::Waiting, On::Failed], None, 0)]);
    assert_eq!(w.look(0, None), NONE);
    let (step, attempt) = w.run.asked().expect("load");
    w.run.performed(&step, attempt, false);
    assert_eq!(w.look(100, None), ["fired step load failed"]);
    assert!(w.run.state.alerts[0].text.contains("step 1 load failed: no. look"), "{}", w.run.state.alerts[0].text);
    assert_eq!(w.look(3_600_000, None), NONE);
    assert_eq!(w.run.command(Command::Retry { step: "load".into() }), None);
    assert_eq!(w.look(100, None), ["over step load failed"]);
    let (step, attempt) = w.run.asked().expect("load");
    w.run.performed(&step, attempt, true);
    w.run.drive_past("in-sync");
    assert_eq!(w.look(100, Some(0.1)), ["fired step team waits"]);
    assert_eq!(w.run.confirm("team", None), None);
    assert_eq!(w.look(100, Some(0.1)), ["over step team waits"]);
}

#[test]
fn a_gate_that_breaks_is_told_and_one_that_was_never_met_only_when_it_gives_up() {
    let mut w = Watched::new(vec![alert(&[On::Gate], None, 0)]);
    w.look(0, None);
    let (step, attempt) = w.run.asked().expect("load");
    w.run.performed(&step, attempt, true);
    assert_eq!(w.look(1_000, Some(9.0)), NONE, "it waits to be met");
    assert_eq!(w.look(1_000, Some(1.0)), NONE);
    assert_eq!(w.look(1_000, Some(9.0)), ["fired gate sync"]);
    assert!(w.run.state.alerts[0].text.starts_with("gate sync is broken: lag < 2s: 9s NOT MET"));
    assert_eq!(w.look(1_000, Some(1.0)), ["over gate sync"]);
    // It gives up a minute after its step began; the alert is not due again by then, and is once it is.
    assert_eq!(w.look(1_000, Some(9.0)), NONE);
    assert_eq!(w.look(60_000, Some(9.0)), NONE);
    assert_eq!(w.run.status("in-sync"), StepStatus::Failed);
    assert_eq!(w.look(EVERY_MS, Some(9.0)), ["fired gate sync"]);
}

#[test]
fn nothing_fires_while_a_rollback_is_under_way_and_its_end_is_told() {
    let mut w = Watched::new(vec![alert(&[On::RolledBack, On::Failed], Some(30.0), 0)]);
    assert_eq!(w.look(0, Some(1.0)), NONE);
    w.run.input(&Input::Rollback(Actor::Operator("alice".into()), Cause::Asked));
    assert_eq!(w.look(1_000, Some(99.0)), NONE);
    w.run.fold(vec![Event::RollbackStuck { what: vec!["put /mode back".into()] }]);
    assert_eq!(w.look(1_000, Some(99.0)), ["fired rollback is stuck"]);
    w.run.input(&Input::Rollback(Actor::Operator("alice".into()), Cause::Asked));
    w.run.fold(vec![Event::RolledBack { took_ms: 900, evidence: vec![] }]);
    assert_eq!(w.look(1_000, Some(99.0)), ["over rollback is stuck", "fired rolled back"]);
    assert_eq!(w.look(EVERY_MS * 9, Some(99.0)), NONE, "it stays so");
}

#[test]
fn who_has_seen_what_is_on_record_and_only_what_they_were_shown() {
    let mut w = Watched::new(vec![alert(&[On::Failed], Some(30.0), 0)]);
    assert_eq!(w.look(0, Some(31.0)), ["fired lag > 30"]);
    let shown = w.run.state.alerts[0].seq;
    let (step, attempt) = w.run.asked().expect("load");
    w.run.performed(&step, attempt, false);
    assert_eq!(w.look(100, Some(31.0)), ["fired step load failed"]);
    let ack = |alert: Option<&str>, through| Command::Acknowledge {
        alert: alert.map(str::to_owned),
        through,
        note: Some("looking".into()),
        origin: None,
    };
    assert!(w.run.command(ack(Some("other"), None)).unwrap().0.contains("no alert other waits for anybody; pager do"));
    assert_eq!(w.run.command(ack(None, Some(shown))), None);
    let seen: Vec<bool> = w.run.state.alerts.iter().map(|firing| firing.acknowledged.is_some()).collect();
    assert_eq!(seen, [true, false]);
    assert_eq!(w.run.state.alerts[0].acknowledged.as_ref().unwrap().words(), "alice: looking");
    let origin = Origin { user: "bob".into(), host: "b2".into(), terminal: "pts/3".into() };
    let far = Command::Acknowledge { alert: Some("pager".into()), through: None, note: None, origin: Some(origin) };
    assert_eq!(w.run.input(&Input::Command(far, Actor::Terminal("bob".into()))), None);
    let words = w.run.state.alerts[1].acknowledged.as_ref().unwrap().words();
    assert_eq!(words, "bob at another terminal, from bob@b2 pts/3");
    assert_eq!(w.run.command(ack(None, None)).unwrap().0, "no alert waits for anybody");
    let nobody = Actor::Terminal(" ".into());
    assert!(w.run.input(&Input::Command(ack(None, None), nobody)).unwrap().0.contains("needs a name"));
}

#[test]
fn what_a_place_said_stands_with_its_firing_and_two_processes_fire_it_once() {
    let about = About::Finished;
    let fired = || Event::AlertFired {
        alert: "pager".into(),
        about: About::Finished,
        text: "finished".into(),
        places: vec!["bell".into(), "webhook 1".into()],
    };
    let mut run = Run::open(Policy::default());
    run.fold(vec![fired(), fired()]);
    assert_eq!(run.state.alerts.len(), 1);
    let told = |place: &str| {
        let (alert, about, place) = ("pager".to_owned(), About::Finished, place.to_owned());
        Command::ToldOnScreen { alert, about, place }
    };
    assert_eq!(run.command(told("bell")), None);
    assert!(run.command(told("bell")).is_some(), "once");
    assert!(run.command(told("desktop")).is_some(), "it does not go there");
    let result = Told::Failed { error: "status 500".into() };
    run.fold(vec![Event::AlertTold { alert: "pager".into(), about: about.clone(), place: "webhook 1".into(), result }]);
    let places = &run.state.firing("pager", &about).unwrap().places;
    assert!(matches!(&places[0].1, Some((_, Told::Delivered { .. }))), "{places:?}");
    assert!(matches!(&places[1].1, Some((_, Told::Failed { .. }))), "{places:?}");
}

#[test]
fn the_state_does_not_grow_with_the_nights() {
    let mut alert = alert(&[], Some(30.0), 0);
    alert.every_ms = 0;
    let mut w = Watched::new(vec![alert]);
    for _ in 0..300 {
        w.look(1_000, Some(31.0));
        w.look(1_000, Some(1.0));
    }
    assert!(w.run.state.alerts.len() <= 200, "{}", w.run.state.alerts.len());
    assert!(w.run.state.alerts.last().is_some_and(|last| !last.is_open()));
}
