//! Switches with several positions: a traffic dial, the flags of a migration in phases.

use serde::{Deserialize, Serialize};

use super::probe::Side;
use super::switch::ValueRef;

/// A switch that stands in one of several positions. Each position says who serves reads and writes, and the value of each
/// place where it is kept (FEATURES C3, C4).
///
/// A place is a [`Switch`](super::Switch) of its own: it is captured, set, read back and restored like any other. Those of
/// one dial are set together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// Short name: `phase`.
    pub id: String,
    /// Words for the screen: `reads come from`.
    pub title: String,
    /// Ids of the switches that are its places.
    pub places: Vec<String>,
    /// Its positions in order. The first is where it stands when the run is opened.
    pub positions: Vec<Position>,
    /// How long readers may go on with the value before, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub effect_ms: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One position of a dial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Its name: `3`, `50 %`.
    pub name: String,
    /// Who serves what in it.
    #[serde(flatten)]
    pub serves: Serves,
    /// The value of each place, in the order of [`Dial::places`].
    pub values: Vec<ValueRef>,
}

/// Who serves reads and writes, as far as one switch decides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serves {
    /// Who serves reads; absent where the switch does not decide it. Both, with a share: so many percent come from the new
    /// side. Both, without one: the application reads both and compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<Side>,
    /// Who takes writes; absent where the switch does not decide it. Both: the application writes to both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<Side>,
    /// Percent of the reads that the new side serves, where both do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u8>,
}

impl Serves {
    /// What a switch without positions is taken for before it is set.
    pub const OLD: Self = Self { reads: Some(Side::Old), writes: Some(Side::Old), share: None };
    /// What a switch without positions is taken for once it is set: the most that a switch can do, so that nothing it may
    /// need is left out.
    pub const NEW: Self = Self { reads: Some(Side::New), writes: Some(Side::New), share: None };

    /// Percent of reads that the new side serves at least in part; `None` where the switch does not decide it.
    #[must_use]
    pub const fn new_reads(self) -> Option<u8> {
        match (self.reads, self.share) {
            (Some(Side::Old), _) => Some(0),
            (Some(Side::New), _) | (Some(Side::Both), None) => Some(100),
            (Some(Side::Both), Some(share)) => Some(share),
            (None, _) => None,
        }
    }

    /// In words: `reads new 10 %, writes old`.
    #[must_use]
    pub fn words(self) -> String {
        let side = |side: Side| match side {
            Side::Old => "old",
            Side::New => "new",
            Side::Both => "both",
        };
        let reads = self.reads.map(|reads| match self.share {
            Some(share) => format!("reads new {share} %"),
            None => format!("reads {}", side(reads)),
        });
        let writes = self.writes.map(|writes| format!("writes {}", side(writes)));
        reads.into_iter().chain(writes).collect::<Vec<_>>().join(", ")
    }
}

impl Dial {
    /// Which position has this name, counted from 0.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.positions.iter().position(|position| position.name == name)
    }

    /// The value of one of its places in a position.
    #[must_use]
    pub fn value(&self, place: &str, position: usize) -> Option<&ValueRef> {
        let at = self.places.iter().position(|id| id == place)?;
        self.positions.get(position)?.values.get(at)
    }
}
