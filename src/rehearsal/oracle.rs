//! The oracle: every acknowledged write, as the shop was told it. Never the stores' own word.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::model::{Kind, Record};

/// What a key must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// The last acknowledged state; `None` after an acknowledged delete.
    pub acked: Option<Record>,
    /// States of writes whose outcome nobody knows: any of them may stand instead.
    pub maybe: Vec<Option<Record>>,
}

/// Everything acknowledged so far.
#[derive(Clone, Debug, Default)]
pub struct Oracle(Arc<Mutex<BTreeMap<(Kind, Uuid), Known>>>);

/// What a comparison of the oracle with one side found. Keys only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Keys looked at.
    pub checked: usize,
    /// Acknowledged writes that are not there.
    pub lost: Vec<String>,
    /// Rows nobody wrote.
    pub extra: Vec<String>,
    /// Rows that do not fit the new side and are absent there, as they should be.
    pub parked: usize,
    /// Writes with unknown outcome; whatever stands of them is right.
    pub unknown: usize,
}

impl Oracle {
    fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<(Kind, Uuid), Known>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// A write was acknowledged.
    pub fn acked(&self, record: Record) {
        let key = (record.kind(), record.id());
        self.with(|all| all.insert(key, Known { acked: Some(record), maybe: Vec::new() }));
    }

    /// A delete was acknowledged.
    pub fn deleted(&self, kind: Kind, id: Uuid) {
        self.with(|all| all.insert((kind, id), Known { acked: None, maybe: Vec::new() }));
    }

    /// A write was sent and nobody knows whether it arrived.
    pub fn unknown(&self, kind: Kind, id: Uuid, state: Option<Record>) {
        self.with(|all| {
            all.entry((kind, id)).or_insert(Known { acked: None, maybe: Vec::new() }).maybe.push(state);
        });
    }

    /// What a key must hold.
    #[must_use]
    pub fn known(&self, kind: Kind, id: Uuid) -> Option<Known> {
        self.with(|all| all.get(&(kind, id)).cloned())
    }

    /// Everything.
    #[must_use]
    pub fn all(&self) -> BTreeMap<(Kind, Uuid), Known> {
        self.with(|all| all.clone())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lost, {} extra of {} keys", self.lost.len(), self.extra.len(), self.checked)?;
        if self.parked > 0 {
            write!(f, ", {} parked as expected", self.parked)?;
        }
        if self.unknown > 0 {
            write!(f, ", {} of unknown outcome", self.unknown)?;
        }
        for key in self.lost.iter().take(20) {
            write!(f, "\n  lost   {key}")?;
        }
        for key in self.extra.iter().take(20) {
            write!(f, "\n  extra  {key}")?;
        }
        Ok(())
    }
}
