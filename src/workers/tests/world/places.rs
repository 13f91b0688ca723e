//! Switches with versions, and the application that reads them: it answers the probes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::diary::Diary;
use crate::domain::plan::{Probe, Switch, ValueRef};
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, PortResult, ProbeResult, Probes, Reading, Switches, Verdict};

/// The application's settings. Cloning shares.
#[derive(Clone)]
pub struct Places {
    /// Every value each place ever held, oldest first.
    history: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    diary: Diary,
    /// A write probe that is served in spite of a freeze: an application that does not look.
    pub deaf: Arc<std::sync::atomic::AtomicBool>,
}

impl Places {
    /// Places with their first values.
    pub fn new(values: &[(&str, &str)], diary: Diary) -> Self {
        let history = values.iter().map(|(p, v)| ((*p).to_owned(), vec![(*v).to_owned()])).collect();
        Self { history: Arc::new(Mutex::new(history)), diary, deaf: Arc::default() }
    }

    /// What stands at a place.
    pub fn now(&self, place: &str) -> String {
        self.history.lock().unwrap()[place].last().unwrap().clone()
    }

    /// How often a place was written since the beginning.
    pub fn writes(&self, place: &str) -> usize {
        self.history.lock().unwrap()[place].len() - 1
    }

    /// Somebody else writes a place.
    pub fn foreign_set(&self, place: &str, value: &str) {
        self.history.lock().unwrap().get_mut(place).unwrap().push(value.to_owned());
    }
}

fn nowhere(switch: &Switch) -> PortError {
    PortError::new(ErrorKind::NotFound, "read", switch.place(), "no such place")
}

#[async_trait]
impl Switches for Places {
    async fn read(&self, switch: &Switch) -> PortResult<Reading> {
        let history = self.history.lock().unwrap();
        let values = history.get(&switch.place()).ok_or_else(|| nowhere(switch))?;
        let value = Secret::new(values.last().unwrap());
        Ok(Reading { value, version: Some(i64::try_from(values.len()).unwrap()) })
    }

    async fn read_version(&self, switch: &Switch, version: i64) -> PortResult<Secret> {
        let history = self.history.lock().unwrap();
        let values = history.get(&switch.place()).ok_or_else(|| nowhere(switch))?;
        let n = usize::try_from(version - 1).unwrap();
        values.get(n).map(Secret::new).ok_or_else(|| nowhere(switch))
    }

    async fn set(&self, switch: &Switch, value: &Secret) -> PortResult<()> {
        let mut history = self.history.lock().unwrap();
        history.get_mut(&switch.place()).ok_or_else(|| nowhere(switch))?.push(value.reveal().to_owned());
        self.diary.effect(format!("set {} {}", switch.id, value.reveal()));
        Ok(())
    }

    async fn resolve(&self, value: &ValueRef) -> PortResult<Secret> {
        match value {
            ValueRef::Literal(v) => Ok(Secret::new(v)),
            other => Err(PortError::new(ErrorKind::NotFound, "resolve", format!("{other:?}"), "only literals here")),
        }
    }
}

#[async_trait]
impl Probes for Places {
    async fn probe(&self, _probe: &Probe) -> ProbeResult {
        let deaf = self.deaf.load(std::sync::atomic::Ordering::SeqCst);
        let frozen = self.now("/mode") == "frozen" && !deaf;
        let (verdict, status) = if frozen { (Verdict::Refused, 503) } else { (Verdict::Served, 200) };
        ProbeResult { verdict, status: Some(status), latency_ms: 1 }
    }
}
