//! Telling places: one that hangs, one that wants to be asked again, and a process that ends.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;

use super::*;
use crate::domain::alert::{CommandPlace, On, PlaceKind};
use crate::domain::run::{Fact, apply};
use crate::ports::PortResult;
use crate::snapshot::fixture;

/// Places in the test's hands, by name.
#[derive(Default)]
struct Places {
    tries: AtomicUsize,
    /// What each try gives, the first one first; then it is told.
    answers: Mutex<Vec<NotTold>>,
    told: Mutex<Vec<(String, Message)>>,
    /// Hangs for ever.
    hangs: Option<&'static str>,
}

#[async_trait]
impl Notices for Places {
    async fn tell(&self, place: &Place, message: &Message) -> Result<String, NotTold> {
        self.tries.fetch_add(1, SeqCst);
        if self.hangs == Some(place.name.as_str()) {
            std::future::pending::<()>().await;
        }
        let answer = self.answers.lock().unwrap().pop();
        if let Some(error) = answer {
            return Err(error);
        }
        self.told.lock().unwrap().push((place.name.clone(), message.clone()));
        Ok("ok".to_owned())
    }

    async fn look(&self, _: &Place) -> PortResult<String> {
        Ok(String::new())
    }
}

fn alert(places: &[&str]) -> Alert {
    let place = |name: &&str| Place {
        name: (*name).to_owned(),
        kind: PlaceKind::Command(CommandPlace { run: vec![(*name).to_owned()], timeout_ms: 60_000 }),
    };
    Alert {
        id: "pager".into(),
        on: vec![On::Finished],
        thresholds: vec![],
        for_ms: 0,
        every_ms: 0,
        places: places.iter().map(place).collect(),
    }
}

struct Desk {
    desk: AlertDesk,
    plan: Plan,
    state: RunState,
    places: Arc<Places>,
}

impl Desk {
    fn new(names: &[&str], places: Places) -> Self {
        let places = Arc::new(places);
        let setup = AlertSetup { alerts: vec![alert(names)].into(), notices: Some(Arc::clone(&places) as _) };
        let state = RunState { run: "r1".into(), last_seq: 1, ..RunState::default() };
        Self { desk: AlertDesk::start(setup, Mode::Live), plan: fixture::plan(), state, places }
    }

    fn keep(&mut self, events: Vec<Event>) {
        for event in events {
            let fact = Fact { seq: self.state.last_seq + 1, at: At(1_000), event };
            apply(&mut self.state, &fact).unwrap();
        }
    }

    /// It fires and is on record.
    fn fires(&mut self) {
        let places = self.desk.alerts[0].places.iter().map(|place| place.name.clone()).collect();
        let (alert, about, text) = ("pager".to_owned(), About::Finished, "finished: every step is done.".to_owned());
        let events = vec![Event::AlertFired { alert, about, text, places }];
        self.keep(events.clone());
        self.desk.recorded(&self.plan, &self.state, &events);
    }

    /// What places said, once this many have.
    async fn told(&mut self, many: usize) -> Vec<(String, Told)> {
        let mut all = Vec::new();
        while all.len() < many {
            let Some(Event::AlertTold { place, result, .. }) = self.desk.told.recv().await else { panic!("told") };
            all.push((place, result));
        }
        all
    }
}

#[tokio::test]
async fn a_place_that_hangs_holds_up_no_other() {
    let mut desk = Desk::new(&["hangs", "works"], Places { hangs: Some("hangs"), ..Places::default() });
    desk.fires();
    let told = desk.told(1).await;
    assert_eq!(told, [("works".to_owned(), Told::Delivered { answer: "ok".into() })]);
    // It takes no more than its queue, and never keeps the loop.
    for _ in 0..QUEUE + 3 {
        desk.state.alerts.clear();
        desk.fires();
    }
    let full = desk.desk.unrecorded.iter().filter(
        |event| matches!(event, Event::AlertTold { place, result: Told::Failed { .. }, .. } if place == "hangs"),
    );
    assert!(full.count() >= 1);
}

#[tokio::test]
async fn a_place_is_tried_again_as_it_asks_and_not_for_ever() {
    let again = |why: &str| NotTold::for_now(why, Duration::from_millis(1));
    let answers = Mutex::new(vec![again("status 429"), again("status 500")]);
    let mut desk = Desk::new(&["pager"], Places { answers, ..Places::default() });
    desk.fires();
    assert_eq!(desk.told(1).await[0].1, Told::Delivered { answer: "ok".into() });
    assert_eq!(desk.places.tries.load(SeqCst), 3);
    *desk.places.answers.lock().unwrap() = (0..9).map(|_| again("status 500")).collect();
    desk.state.alerts.clear();
    desk.fires();
    let Told::Failed { error } = desk.told(1).await.remove(0).1 else { panic!("told") };
    assert_eq!(error, "status 500, after 3 tries");
    *desk.places.answers.lock().unwrap() = vec![NotTold::for_good("status 404")];
    desk.state.alerts.clear();
    desk.fires();
    assert_eq!(desk.told(1).await[0].1, Told::Failed { error: "status 404".into() });
    assert_eq!(desk.places.tries.load(SeqCst), 7);
}

#[tokio::test]
async fn what_somebody_has_seen_is_not_tried_again() {
    let answers = Mutex::new(vec![NotTold::for_now("status 503", Duration::from_secs(3_600))]);
    let mut desk = Desk::new(&["pager"], Places { answers, ..Places::default() });
    desk.fires();
    let by = crate::domain::run::Actor::Operator("alice".into());
    let (alert, about) = ("pager".to_owned(), About::Finished);
    desk.keep(vec![Event::AlertAcknowledged { alert, about, by, origin: None, note: None }]);
    desk.desk.look_after(&desk.plan, &desk.state);
    let Told::Failed { error } = desk.told(1).await.remove(0).1 else { panic!("told") };
    assert!(error.starts_with("status 503; not tried again: it was acknowledged"), "{error}");
}

#[tokio::test]
async fn another_process_tells_what_nobody_knows_to_be_told_and_says_so() {
    let mut first = Desk::new(&["a", "b"], Places { hangs: Some("b"), ..Places::default() });
    first.fires();
    let (place, result) = first.told(1).await.remove(0);
    assert_eq!(place, "a");
    let (alert, about) = ("pager".to_owned(), About::Finished);
    first.keep(vec![Event::AlertTold { alert, about, place, result }]);
    let mut second = Desk::new(&["a", "b"], Places::default());
    second.state = first.state.clone();
    second.desk.look_after(&second.plan, &second.state);
    second.desk.look_after(&second.plan, &second.state);
    let told = second.desk.farewell().await;
    assert_eq!(told.len(), 1, "{told:?}");
    let messages = second.places.told.lock().unwrap().clone();
    let [(place, message)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((place.as_str(), message.again, message.id.as_str()), ("b", true, "r1/pager/finished/1000"));
}
