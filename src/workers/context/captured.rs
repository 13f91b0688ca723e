//! What stood at the places of switches before the run changed them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::domain::run::Attributes;
use crate::domain::secret::Secret;

/// What stood at a place before anything was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedValue {
    /// The value.
    pub value: Secret,
    /// What the place kept beside it; empty when an older version of this program captured it.
    pub attributes: Attributes,
}

/// Captured values by switch id. In memory only.
#[derive(Clone, Debug, Default)]
pub struct CapturedValues(Arc<Mutex<BTreeMap<String, CapturedValue>>>);

impl CapturedValues {
    /// Keeps a value.
    pub fn keep(&self, switch: &str, kept: CapturedValue) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(switch.to_owned(), kept);
    }

    /// A kept value.
    #[must_use]
    pub fn get(&self, switch: &str) -> Option<CapturedValue> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(switch).cloned()
    }

    /// Whether every one of these is kept.
    #[must_use]
    pub fn holds_all<'s>(&self, mut switches: impl Iterator<Item = &'s str>) -> bool {
        let kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        switches.all(|s| kept.contains_key(s))
    }
}
