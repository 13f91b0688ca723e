//! Switches with versions, and the application that reads them: it answers the probes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::MODE_EU;
use super::journal::FakeJournal;
use crate::domain::plan::{Probe, Switch, SwitchKind, ValueRef};
use crate::domain::run::Attributes;
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, PortResult, ProbeOutcome, ProbeResult, Probes, SwitchValue, Switches};

/// A value and what is kept beside it.
type Held = (String, Attributes);

/// A SecureString under this key.
pub fn under_key(key: &str) -> Attributes {
    Attributes { kind: Some("SecureString".into()), key: Some(key.into()), ..Attributes::default() }
}

/// The application's settings. Cloning shares.
#[derive(Clone)]
pub struct FakeSwitches {
    /// Every value each place ever held, oldest first.
    history: Arc<Mutex<BTreeMap<String, Vec<Held>>>>,
    journal: FakeJournal,
    /// A write probe that is served in spite of a freeze: an application that does not read the switch.
    pub deaf: Arc<std::sync::atomic::AtomicBool>,
    /// The one probe that is served in spite of a freeze.
    deaf_to: Arc<Mutex<String>>,
    /// A store that puts every SecureString under its own key, whichever was asked for.
    own_key: Arc<std::sync::atomic::AtomicBool>,
    /// A place that takes no more than so many writes.
    full: Arc<Mutex<(String, usize)>>,
    /// A place, and how many more reads of it are answered from the version before.
    old_answers: Arc<Mutex<(String, u32)>>,
}

impl FakeSwitches {
    /// Places with their first values.
    pub fn new(values: &[(&str, &str)], journal: FakeJournal) -> Self {
        let first = |place: &str, value: &str| match place {
            "/writes" => (value.to_owned(), under_key("alias/orders")),
            _ => (value.to_owned(), Attributes { kind: Some("String".into()), ..Attributes::default() }),
        };
        let history = values.iter().map(|(p, v)| ((*p).to_owned(), vec![first(p, v)])).collect();
        Self {
            history: Arc::new(Mutex::new(history)),
            journal,
            deaf: Arc::default(),
            deaf_to: Arc::default(),
            own_key: Arc::default(),
            full: Arc::default(),
            old_answers: Arc::default(),
        }
    }

    /// The next reads of a place are answered from an older copy.
    pub fn answers_old(&self, place: &str, times: u32) {
        *self.old_answers.lock().unwrap() = (place.to_owned(), times);
    }

    /// From now on this probe is served whatever the switches say; an empty name ends it.
    pub fn serves(&self, probe: &str) {
        probe.clone_into(&mut self.deaf_to.lock().unwrap());
    }

    /// A place takes no more than so many writes from now on.
    pub fn takes_only(&self, place: &str, writes: usize) {
        *self.full.lock().unwrap() = (place.to_owned(), writes);
    }

    /// What stands at a place.
    pub fn now(&self, place: &str) -> String {
        self.history.lock().unwrap()[place].last().unwrap().0.clone()
    }

    /// From now on every SecureString ends under the store's own key.
    pub fn drops_keys(&self) {
        self.own_key.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// What a place keeps beside its value.
    pub fn attributes_now(&self, place: &str) -> Attributes {
        self.history.lock().unwrap()[place].last().unwrap().1.clone()
    }

    /// What a place held in a version.
    fn held(&self, switch: &Switch, version: i64) -> PortResult<SwitchValue> {
        let history = self.history.lock().unwrap();
        let values = history.get(&switch.place()).ok_or_else(|| nowhere(switch))?;
        let (value, with) = values.get(usize::try_from(version - 1).unwrap()).ok_or_else(|| nowhere(switch))?;
        let secret = with.kind.as_deref() == Some("SecureString");
        Ok(SwitchValue { value: Secret::new(value), version: Some(version), secret })
    }

    /// How often a place was written since the beginning.
    pub fn writes(&self, place: &str) -> usize {
        self.history.lock().unwrap()[place].len() - 1
    }

    /// Somebody else writes a place.
    pub fn foreign_set(&self, place: &str, value: &str) {
        let with = self.attributes_now(place);
        self.foreign_put(place, value, with);
    }

    /// Somebody else writes a place and what it keeps beside the value.
    pub fn foreign_put(&self, place: &str, value: &str, with: Attributes) {
        self.history.lock().unwrap().get_mut(place).unwrap().push((value.to_owned(), with));
    }
}

fn nowhere(switch: &Switch) -> PortError {
    PortError::new(ErrorKind::NotFound, "read", switch.place(), "no such place")
}

/// A stage keeps the value of a variable and nothing beside it.
const fn has_versions(switch: &Switch) -> bool {
    matches!(switch.kind, SwitchKind::Parameter { .. })
}

#[async_trait]
impl Switches for FakeSwitches {
    async fn read(&self, switch: &Switch) -> PortResult<SwitchValue> {
        let newest = self.history.lock().unwrap().get(&switch.place()).map(Vec::len);
        let newest = i64::try_from(newest.ok_or_else(|| nowhere(switch))?).unwrap();
        let old = {
            let mut old = self.old_answers.lock().unwrap();
            let is_old = old.0 == switch.place() && old.1 > 0;
            old.1 -= u32::from(is_old);
            is_old
        };
        let found = self.held(switch, newest - i64::from(old))?;
        Ok(SwitchValue { version: found.version.filter(|_| has_versions(switch)), ..found })
    }

    async fn read_version(&self, switch: &Switch, version: i64) -> PortResult<SwitchValue> {
        if !has_versions(switch) {
            return Err(PortError::new(ErrorKind::Invalid, "read version of", switch.place(), "it has none"));
        }
        self.held(switch, version)
    }

    async fn attributes(&self, switch: &Switch, version: Option<i64>) -> PortResult<Attributes> {
        if !has_versions(switch) {
            return Ok(Attributes::default());
        }
        let history = self.history.lock().unwrap();
        let values = history.get(&switch.place()).ok_or_else(|| nowhere(switch))?;
        let n = version.map_or(values.len(), |v| usize::try_from(v).unwrap()) - 1;
        values.get(n).map(|v| v.1.clone()).ok_or_else(|| nowhere(switch))
    }

    async fn writes_left(&self, switch: &Switch) -> PortResult<Option<usize>> {
        let full = self.full.lock().unwrap();
        Ok((full.0 == switch.place()).then_some(full.1))
    }

    async fn set(&self, switch: &Switch, value: &Secret, with: &Attributes) -> PortResult<()> {
        let mut history = self.history.lock().unwrap();
        let mut with = with.clone();
        let as_planned = if switch.secret() { "SecureString" } else { "String" };
        with.kind.get_or_insert_with(|| as_planned.to_owned());
        if self.own_key.load(std::sync::atomic::Ordering::SeqCst) {
            with.key = None;
        }
        // As the store does it: without a key it takes its own.
        if with.kind.as_deref() == Some("SecureString") {
            with.key.get_or_insert_with(|| "alias/aws/ssm".to_owned());
        }
        history.get_mut(&switch.place()).ok_or_else(|| nowhere(switch))?.push((value.reveal().to_owned(), with));
        self.journal.effect(format!("set {} {}", switch.id, value.reveal()));
        Ok(())
    }

    async fn resolve(&self, value: &ValueRef, _control: &str) -> PortResult<SwitchValue> {
        match value {
            ValueRef::Parameter(place) => {
                let (value, with) = self.history.lock().unwrap()[place].last().unwrap().clone();
                let secret = with.kind.as_deref() == Some("SecureString");
                Ok(SwitchValue { value: Secret::new(value), version: None, secret })
            }
            ValueRef::Literal(v) => Ok(SwitchValue { value: Secret::new(v), version: None, secret: false }),
            other => Err(PortError::new(ErrorKind::NotFound, "resolve", format!("{other:?}"), "only literals here")),
        }
    }
}

#[async_trait]
impl Probes for FakeSwitches {
    async fn probe(&self, probe: &Probe) -> ProbeResult {
        let deaf = self.deaf.load(std::sync::atomic::Ordering::SeqCst) || *self.deaf_to.lock().unwrap() == probe.id;
        let place = if probe.id == "write-eu" { MODE_EU } else { "/mode" };
        let frozen = self.now(place) == "frozen" && !deaf;
        let (outcome, status) = if frozen { (ProbeOutcome::Refused, 503) } else { (ProbeOutcome::Served, 200) };
        ProbeResult { outcome, status: Some(status), latency_ms: 1 }
    }
}
