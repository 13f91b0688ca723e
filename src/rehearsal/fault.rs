//! Faults that a rehearsal can be asked to inject when a step starts.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::held;

/// Something that goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Requests that the new code path serves take 900 ms longer.
    SlowNew,
    /// Two in five requests that the new code path serves fail.
    ErrorsNew,
    /// Two in five requests that the new side serves fail until a share of the reads is taken back.
    Breach,
    /// The Parameter Store refuses to move a traffic parameter away from its first value.
    SsmRefuse,
    /// Writing a parameter takes three seconds longer.
    SsmSlow,
    /// The Parameter Store writes a traffic parameter, then answers that it failed.
    SsmLostReply,
    /// The stage variable cannot be moved away from its first value.
    GatewayRefuse,
}

impl Fault {
    /// Every fault, in the order of the help text.
    pub const ALL: [Self; 7] = [
        Self::SlowNew,
        Self::ErrorsNew,
        Self::Breach,
        Self::SsmRefuse,
        Self::SsmSlow,
        Self::SsmLostReply,
        Self::GatewayRefuse,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowNew => "slow-new",
            Self::ErrorsNew => "errors-new",
            Self::Breach => "breach",
            Self::SsmRefuse => "ssm-refuse",
            Self::SsmSlow => "ssm-slow",
            Self::SsmLostReply => "ssm-lost-reply",
            Self::GatewayRefuse => "gateway-refuse",
        }
    }

    /// What it does, for the help text.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::SlowNew => "requests on the new side take 900 ms longer",
            Self::ErrorsNew => "two in five requests on the new side fail",
            Self::Breach => "the same until a share of the reads is taken back",
            Self::SsmRefuse => "traffic parameters cannot be moved to the new side",
            Self::SsmSlow => "writing a parameter takes 3 s longer",
            Self::SsmLostReply => "traffic parameters are written, but the answer says they were not",
            Self::GatewayRefuse => "the stage variable cannot be moved to the new side",
        }
    }

    const fn bit(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fault and the step whose start brings it; without a step it is there from the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultAt {
    /// What goes wrong.
    pub fault: Fault,
    /// Id of the step.
    pub step: Option<String>,
}

/// Text that names no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFault {
    /// The name is not one of ours.
    #[error("no fault is called `{name}`; there are {}", names().join(", "))]
    Name {
        /// What was given.
        name: String,
    },
    /// There is an `@` and nothing behind it.
    #[error("`{text}` names no step behind the @; write NAME@STEP, like slow-new@smoke-tests")]
    Step {
        /// What was given.
        text: String,
    },
}

/// The names of all faults.
#[must_use]
pub fn names() -> Vec<&'static str> {
    Fault::ALL.iter().map(|f| f.name()).collect()
}

impl FromStr for FaultAt {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let (name, step) = match text.split_once('@') {
            Some((_, "")) => return Err(BadFault::Step { text: text.to_owned() }),
            Some((name, step)) => (name, Some(step.to_owned())),
            None => (text, None),
        };
        let fault = Fault::ALL.into_iter().find(|f| f.name() == name);
        fault.map(|fault| Self { fault, step }).ok_or_else(|| BadFault::Name { name: name.to_owned() })
    }
}

/// A fault that was asked for and never did anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstruck {
    /// What was asked for.
    pub at: FaultAt,
    /// Whether its step began.
    pub began: bool,
}

impl fmt::Display for Unstruck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.at.step, self.began) {
            (Some(step), false) => write!(f, "{}@{step} never struck: the run did not get to {step}", self.at.fault),
            (Some(step), true) => {
                write!(f, "{}@{step} never struck: nothing it hits was asked for since {step}", self.at.fault)
            }
            (None, _) => write!(f, "{} never struck: nothing it hits was asked for", self.at.fault),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    planned: Vec<FaultAt>,
    /// Of each planned one, how often its fault had struck when it came.
    came: Mutex<Vec<Option<u64>>>,
    active: AtomicU64,
    hits: [AtomicU64; Fault::ALL.len()],
}

/// The faults of one rehearsal, shared by the shop and the control plane. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Inner>);

impl Faults {
    /// Faults that come with their steps. Those without a step are active at once.
    #[must_use]
    pub fn new(planned: Vec<FaultAt>) -> Self {
        let came = planned.iter().map(|p| p.step.is_none().then_some(0)).collect();
        let faults = Self(Arc::new(Inner { planned, came: Mutex::new(came), ..Inner::default() }));
        for at in faults.0.planned.iter().filter(|p| p.step.is_none()) {
            faults.bring(at.fault);
        }
        faults
    }

    /// No faults.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Every planned fault, for a check against the plan's step ids.
    #[must_use]
    pub fn planned(&self) -> &[FaultAt] {
        &self.0.planned
    }

    /// A step has begun, of whatever kind: its faults become active and stay so.
    pub fn step_began(&self, step: &str) {
        let mut came = held(&self.0.came);
        for (at, came) in self.0.planned.iter().zip(came.iter_mut()).filter(|(p, _)| p.step.as_deref() == Some(step)) {
            came.get_or_insert(self.hits(at.fault));
            self.bring(at.fault);
        }
    }

    /// What was asked for and never struck.
    #[must_use]
    pub fn unstruck(&self) -> Vec<Unstruck> {
        let came = held(&self.0.came);
        let all = self.0.planned.iter().zip(came.iter());
        let missed = all.filter(|(at, came)| came.is_none_or(|before| self.hits(at.fault) <= before));
        missed.map(|(at, came)| Unstruck { at: at.clone(), began: came.is_some() }).collect()
    }

    /// Makes a fault active now.
    pub fn bring(&self, fault: Fault) {
        self.0.active.fetch_or(1 << fault.bit(), Ordering::SeqCst);
    }

    /// Ends a fault.
    pub fn lift(&self, fault: Fault) {
        self.0.active.fetch_and(!(1 << fault.bit()), Ordering::SeqCst);
    }

    /// Whether a fault is active. Does not count as a hit.
    #[must_use]
    pub fn active(&self, fault: Fault) -> bool {
        self.0.active.load(Ordering::SeqCst) & (1 << fault.bit()) != 0
    }

    /// How often a fault has struck.
    #[must_use]
    pub fn hits(&self, fault: Fault) -> u64 {
        self.0.hits[fault.bit()].load(Ordering::Relaxed)
    }

    pub(super) fn struck(&self, fault: Fault) {
        self.0.hits[fault.bit()].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_by_its_own_name() {
        for fault in Fault::ALL {
            let at: FaultAt = format!("{fault}@smoke").parse().unwrap();
            assert_eq!(at, FaultAt { fault, step: Some("smoke".into()) });
            assert_eq!(fault.name().parse::<FaultAt>().unwrap(), FaultAt { fault, step: None });
        }
    }

    #[test]
    fn a_wrong_name_lists_the_right_ones() {
        let error = "slow@smoke".parse::<FaultAt>().unwrap_err().to_string();
        assert!(error.contains("`slow`") && error.contains("slow-new, errors-new"), "{error}");
        let error = "slow-new@".parse::<FaultAt>().unwrap_err().to_string();
        assert!(error.contains("names no step"), "{error}");
    }

    #[test]
    fn what_never_struck_is_told_with_the_reason() {
        let asked = ["slow-new@smoke", "errors-new@burn-in", "ssm-slow", "slow-new@thaw"];
        let faults = Faults::new(asked.iter().map(|f| f.parse().unwrap()).collect());
        let said = |faults: &Faults| faults.unstruck().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(said(&faults).len(), 4);
        faults.step_began("smoke");
        faults.struck(Fault::SlowNew);
        faults.struck(Fault::SsmSlow);
        faults.step_began("thaw");
        let missed = said(&faults);
        assert_eq!(missed[0], "errors-new@burn-in never struck: the run did not get to burn-in");
        assert_eq!(missed[1], "slow-new@thaw never struck: nothing it hits was asked for since thaw");
        assert_eq!(missed.len(), 2);
        faults.struck(Fault::SlowNew);
        assert_eq!(said(&faults).len(), 1, "its own step's hits count, earlier ones do not");
    }

    #[test]
    fn a_fault_comes_with_its_step_and_stays() {
        let faults = Faults::new(vec!["slow-new@smoke".parse().unwrap(), "ssm-slow".parse().unwrap()]);
        assert!(!faults.active(Fault::SlowNew));
        assert!(faults.active(Fault::SsmSlow));
        faults.step_began("load");
        assert!(!faults.active(Fault::SlowNew));
        faults.step_began("smoke");
        faults.step_began("thaw");
        assert!(faults.clone().active(Fault::SlowNew));
        faults.lift(Fault::SlowNew);
        assert!(!faults.active(Fault::SlowNew));
    }
}
