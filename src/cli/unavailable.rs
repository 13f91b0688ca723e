//! What stands in for ports that cannot be made: each call is refused with the reason, so that a rollback names what it
//! could not do and goes on with the rest.

use async_trait::async_trait;

use crate::domain::plan::{Probe, Switch, ValueRef};
use crate::domain::run::Attributes;
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, PortResult, ProbeOutcome, ProbeResult, Probes, SwitchValue, Switches};

/// Ports that cannot be made, for this reason.
pub struct Unavailable(pub String);

impl Unavailable {
    fn refused<T>(&self, tried: &str, on: String) -> PortResult<T> {
        Err(PortError::new(ErrorKind::Invalid, tried, on, self.0.clone()))
    }
}

#[async_trait]
impl Switches for Unavailable {
    async fn read(&self, switch: &Switch) -> PortResult<SwitchValue> {
        self.refused("read", switch.place())
    }

    async fn read_version(&self, switch: &Switch, _: i64) -> PortResult<SwitchValue> {
        self.refused("read the history of", switch.place())
    }

    async fn attributes(&self, switch: &Switch, _: Option<i64>) -> PortResult<Attributes> {
        self.refused("read what belongs to", switch.place())
    }

    async fn writes_left(&self, switch: &Switch) -> PortResult<Option<usize>> {
        self.refused("read the history of", switch.place())
    }

    async fn set(&self, switch: &Switch, _: &Secret, _: &Attributes) -> PortResult<()> {
        self.refused("set", switch.place())
    }

    async fn resolve(&self, _: &ValueRef) -> PortResult<SwitchValue> {
        self.refused("resolve", "a reference".to_owned())
    }
}

#[async_trait]
impl Probes for Unavailable {
    async fn probe(&self, _: &Probe) -> ProbeResult {
        ProbeResult { outcome: ProbeOutcome::Failed(self.0.clone()), status: None, latency_ms: 0 }
    }
}
