//! Gates: conditions over signals that must hold, some for a time (FEATURES E3).

use serde::{Deserialize, Serialize};

/// A set of criteria that must all hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Short name: `in-sync`.
    pub id: String,
    /// Words for the screen.
    pub title: String,
    /// All of these must hold, each with fresh evidence.
    pub criteria: Vec<Criterion>,
    /// How long they must have held without a break, in milliseconds.
    pub hold_ms: i64,
    /// When the gate gives up waiting, in milliseconds since its step started; absent waits for ever.
    pub give_up_ms: Option<i64>,
    /// What happens then, or when a criterion is broken during a burn-in.
    pub on_fail: OnFail,
}

/// One comparison of a signal with a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// Signal id.
    pub signal: String,
    /// The comparison.
    pub op: Op,
    /// The number.
    pub value: f64,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `=`
    Equals,
    /// `>=`
    AtLeast,
    /// `>`
    Above,
}

/// What a gate does when it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// Hold and wait for a person; headless runs end 4.
    Hold,
    /// Take back what switched last, where it stood before; the run waits for a person to let it go forward again.
    StepBack,
    /// Roll back. After the thaw only while rollback loses nothing.
    RollBack,
}

impl Op {
    /// Whether `now` compared with `limit` holds.
    #[must_use]
    pub fn holds(self, now: f64, limit: f64) -> bool {
        match self {
            Self::Below => now < limit,
            Self::AtMost => now <= limit,
            Self::Equals => (now - limit).abs() < f64::EPSILON,
            Self::AtLeast => now >= limit,
            Self::Above => now > limit,
        }
    }

    /// `<`, `<=`, `=`, `>=`, `>`.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Equals => "=",
            Self::AtLeast => ">=",
            Self::Above => ">",
        }
    }
}
