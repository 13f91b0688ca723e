//! Faults that can be injected when a step starts: `slow-new@switch`.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The new side answers slowly.
    SlowNew,
    /// The new side fails every third request.
    ErrorsNew,
    /// The parameter store refuses to set anything but the freeze.
    SsmRefuse,
    /// The parameter store takes two seconds for each change.
    SsmSlow,
    /// The shop ignores the freeze.
    FreezeIgnored,
    /// A row changes on the new side behind everybody's back.
    CorruptNew,
}

const NAMES: [(&str, Fault, &str); 6] = [
    ("slow-new", Fault::SlowNew, "the new side answers slowly"),
    ("errors-new", Fault::ErrorsNew, "the new side fails every third request"),
    ("ssm-refuse", Fault::SsmRefuse, "the parameter store refuses to set anything but the freeze"),
    ("ssm-slow", Fault::SsmSlow, "the parameter store takes two seconds for each change"),
    ("freeze-ignored", Fault::FreezeIgnored, "the shop ignores the freeze"),
    ("corrupt-new", Fault::CorruptNew, "twenty rows change on the new side behind everybody's back"),
];

/// A fault that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no fault; write NAME@STEP with one of: {}", names())]
pub struct FaultError {
    given: String,
}

fn names() -> String {
    NAMES.map(|(name, ..)| name).join(", ")
}

impl Fault {
    /// Every fault with what it does, for help.
    pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        NAMES.iter().map(|(name, _, what)| (*name, *what))
    }
}

/// A fault and the step whose start brings it about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultAt {
    fault: Fault,
    step: String,
}

impl FromStr for FaultAt {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let wrong = || FaultError { given: text.to_owned() };
        let (name, step) = text.split_once('@').ok_or_else(wrong)?;
        let (_, fault, _) = NAMES.iter().find(|(n, ..)| *n == name).ok_or_else(wrong)?;
        Ok(Self { fault: *fault, step: step.to_owned() })
    }
}

/// The faults of one rehearsal, shared by everything that can fail.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    planned: Arc<Vec<FaultAt>>,
    active: Arc<Mutex<BTreeSet<Fault>>>,
}

impl Faults {
    /// Faults to come.
    pub fn new(texts: &[String]) -> Result<Self, FaultError> {
        let planned = texts.iter().map(|t| t.parse()).collect::<Result<_, _>>()?;
        Ok(Self { planned: Arc::new(planned), active: Arc::default() })
    }

    /// A step starts: its faults come about and stay.
    pub fn step_started(&self, step: &str) {
        let due = self.planned.iter().filter(|f| f.step == step).map(|f| f.fault);
        self.active.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(due);
    }

    /// Steps that are named, to be checked against the plan.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.planned.iter().map(|f| f.step.as_str())
    }

    /// Whether a fault is active.
    #[must_use]
    pub fn on(&self, fault: Fault) -> bool {
        self.active.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_with_their_step() {
        let faults = Faults::new(&["slow-new@switch".into()]).unwrap();
        faults.step_started("freeze");
        assert!(!faults.on(Fault::SlowNew));
        faults.step_started("switch");
        assert!(faults.on(Fault::SlowNew));
        let error = Faults::new(&["slow@switch".into()]).unwrap_err();
        assert!(error.to_string().contains("slow-new"));
    }
}
