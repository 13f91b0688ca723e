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

/// One comparison of a signal with a number, or with what was measured before the cutover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// Signal id.
    pub signal: String,
    /// The comparison.
    pub op: Op,
    /// The number, in the signal's unit; beside a baseline what is added to it.
    pub value: f64,
    /// The baseline that it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<FromBaseline>,
}

/// How a limit follows from a baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FromBaseline {
    /// The signal whose baseline it is; absent: of the signal that is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Added to it, in percent of it; negative is taken away.
    pub percent: f64,
}

impl Criterion {
    /// A comparison with a number.
    #[must_use]
    pub fn with(signal: impl Into<String>, op: Op, value: f64) -> Self {
        Self { signal: signal.into(), op, value, baseline: None }
    }

    /// The signal whose baseline is needed, if one is.
    #[must_use]
    pub fn baseline_of(&self) -> Option<&str> {
        self.baseline.as_ref().map(|b| b.of.as_deref().unwrap_or(&self.signal))
    }

    /// The number that the signal is compared with, where a baseline is `before`. Nothing without the baseline.
    #[must_use]
    pub fn limit(&self, before: Option<f64>) -> Option<f64> {
        match &self.baseline {
            None => Some(self.value),
            Some(from) => before.map(|value| value * (1.0 + from.percent / 100.0) + self.value),
        }
    }

    /// As in a config: `lag < 2s`, `read-p95 <= baseline + 20% + 5ms`; `number` writes a number with its unit.
    #[must_use]
    pub fn words(&self, number: impl Fn(f64) -> String) -> String {
        let (signal, op) = (&self.signal, self.op.symbol());
        let Some(from) = &self.baseline else { return format!("{signal} {op} {}", number(self.value)) };
        let of = from.of.as_ref().map_or_else(String::new, |of| format!("({of})"));
        let sign = |v: f64| if v < 0.0 { '-' } else { '+' };
        let percent = match from.percent {
            0.0 => String::new(),
            p => format!(" {} {}%", sign(p), p.abs()),
        };
        let more = match self.value {
            0.0 => String::new(),
            v => format!(" {} {}", sign(v), number(v.abs())),
        };
        format!("{signal} {op} baseline{of}{percent}{more}")
    }
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
