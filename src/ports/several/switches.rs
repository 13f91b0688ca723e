//! Switches of several regions and accounts behind one port.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::plan::{CONTROL, Switch, ValueRef, other_control};
use crate::domain::run::Attributes;
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, PortResult, SwitchValue, Switches};

/// Each call goes to the region and account where its switch stands.
pub struct SeveralSwitches(BTreeMap<String, Arc<dyn Switches>>);

impl SeveralSwitches {
    /// The switches of a plan's own region and account, and those of `others` by the name of the plan's store.
    #[must_use]
    pub fn as_one(own: Arc<dyn Switches>, mut others: BTreeMap<String, Arc<dyn Switches>>) -> Arc<dyn Switches> {
        others.insert(CONTROL.to_owned(), own);
        Arc::new(Self(others))
    }

    /// What came back of another region, with its name: the same place may stand in several.
    fn said<T>(control: &str, answer: PortResult<T>) -> PortResult<T> {
        answer.map_err(|e| match other_control(control) {
            Some(name) => PortError { on: format!("{name}:{}", e.on.trim_start_matches(&format!("{name}:"))), ..e },
            None => e,
        })
    }

    fn of(&self, control: &str, on: &str) -> PortResult<&dyn Switches> {
        self.0.get(control).map(|switches| &**switches).ok_or_else(|| {
            let name = other_control(control).unwrap_or(control);
            PortError::new(ErrorKind::Invalid, "reach the switch", on, format!("there is no [control.{name}]"))
        })
    }
}

#[async_trait]
impl Switches for SeveralSwitches {
    async fn read(&self, switch: &Switch) -> PortResult<SwitchValue> {
        Self::said(&switch.control, self.of(&switch.control, &switch.place())?.read(switch).await)
    }

    async fn read_version(&self, switch: &Switch, version: i64) -> PortResult<SwitchValue> {
        Self::said(&switch.control, self.of(&switch.control, &switch.place())?.read_version(switch, version).await)
    }

    async fn attributes(&self, switch: &Switch, version: Option<i64>) -> PortResult<Attributes> {
        Self::said(&switch.control, self.of(&switch.control, &switch.place())?.attributes(switch, version).await)
    }

    async fn writes_left(&self, switch: &Switch) -> PortResult<Option<usize>> {
        Self::said(&switch.control, self.of(&switch.control, &switch.place())?.writes_left(switch).await)
    }

    async fn set(&self, switch: &Switch, value: &Secret, attributes: &Attributes) -> PortResult<()> {
        Self::said(&switch.control, self.of(&switch.control, &switch.place())?.set(switch, value, attributes).await)
    }

    async fn resolve(&self, value: &ValueRef, control: &str) -> PortResult<SwitchValue> {
        Self::said(control, self.of(control, control)?.resolve(value, control).await)
    }
}
