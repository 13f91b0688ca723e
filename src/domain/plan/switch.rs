//! What can be switched, and how writes are frozen.

use serde::{Deserialize, Serialize};

use super::one_or_more;
use super::store::{CONTROL, other_control};

/// One switch: a place whose value decides which side is used (FEATURES C1, C2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Short name: `writes`.
    pub id: String,
    /// Words for the screen: `writes go to`.
    pub title: String,
    /// Where the value is kept.
    pub kind: SwitchKind,
    /// In which region and account: [`CONTROL`], or the name of another control plane of the plan's stores.
    #[serde(default = "control", skip_serializing_if = "is_control")]
    pub control: String,
    /// The value that must stand there before the switch, when it may be known: refuses a plan made for another world.
    pub expect: Option<String>,
    /// The value to set; of a place of a [`Dial`](super::Dial) that of its last position.
    pub to: ValueRef,
    /// Whether its value is written over itself before the freeze, to know that it can be set.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub exercise: bool,
}

fn control() -> String {
    CONTROL.to_owned()
}

fn is_control(name: &str) -> bool {
    name == CONTROL
}

const fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_yes(v: &bool) -> bool {
    *v
}

/// Where a switch's value is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwitchKind {
    /// An SSM parameter. `secure` means SecureString: its value is never shown.
    Parameter {
        /// Full name: `/cloudshelf/prod/db/writes`.
        name: String,
        /// SecureString instead of String.
        secure: bool,
    },
    /// An API Gateway (REST) stage variable.
    StageVariable {
        /// The REST API's id.
        api: String,
        /// The stage.
        stage: String,
        /// The variable.
        variable: String,
    },
}

/// A value, or where it is found. Secrets are only ever referenced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueRef {
    /// The value itself; not for secrets.
    Literal(String),
    /// An environment variable.
    Env(String),
    /// A file; a trailing newline is cut.
    File(String),
    /// Another SSM parameter, decrypted.
    Parameter(String),
}

/// How writes are frozen: switches of their own, one in each place where customers write, and the probes that prove it
/// (FEATURES C5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Ids of the switches whose `to` values freeze writes; thaw restores the captured values.
    #[serde(rename = "switch", with = "one_or_more")]
    pub switches: Vec<String>,
    /// Ids of the write probes that must all be refused before the freeze counts, and all be accepted after the thaw.
    #[serde(rename = "probe", with = "one_or_more")]
    pub probes: Vec<String>,
    /// How long writes must have been refused without a break before the freeze counts, in milliseconds.
    pub settle_ms: u64,
    /// How long to wait for the first refusal before giving up, in milliseconds.
    pub timeout_ms: u64,
}

impl Freeze {
    /// Whether it sets this switch.
    #[must_use]
    pub fn sets(&self, switch: &str) -> bool {
        self.switches.iter().any(|id| id == switch)
    }

    /// Whether it is proven by this probe, among others.
    #[must_use]
    pub fn is_proven_by(&self, probe: &str) -> bool {
        self.probes.iter().any(|id| id == probe)
    }
}

impl Switch {
    /// Whether the value must never be shown or journaled.
    #[must_use]
    pub fn secret(&self) -> bool {
        matches!(self.kind, SwitchKind::Parameter { secure: true, .. })
    }

    /// Where the switch is, for screens: the parameter's name, or `api/stage:variable`; in another region or account than
    /// the plan's own with the name of that one before it: `eu:/v2/writes`.
    #[must_use]
    pub fn place(&self) -> String {
        let place = match &self.kind {
            SwitchKind::Parameter { name, .. } => name.clone(),
            SwitchKind::StageVariable { api, stage, variable } => format!("{api}/{stage}:{variable}"),
        };
        match other_control(&self.control) {
            Some(elsewhere) => format!("{elsewhere}:{place}"),
            None => place,
        }
    }

    /// What is shown as the new value: the literal, or stars.
    #[must_use]
    pub fn to_label(&self) -> String {
        self.shown(&self.to).to_owned()
    }

    /// What people may be shown of a value that stands at this place or will: the literal, or stars.
    #[must_use]
    pub fn shown<'v>(&self, value: &'v ValueRef) -> &'v str {
        match value {
            ValueRef::Literal(text) if !self.secret() => text,
            ValueRef::Literal(_) | ValueRef::Env(_) | ValueRef::File(_) | ValueRef::Parameter(_) => "***",
        }
    }
}
