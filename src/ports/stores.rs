//! Ports of one kind by the store they are of.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::unavailable::Unavailable;
use super::{Changes, Items, Mover, Source};
use crate::domain::plan::Table;

/// The stores of a plan, or its movers, each behind the same port. Cloning shares.
pub struct ByStore<P: ?Sized> {
    stores: BTreeMap<String, Arc<P>>,
    /// Stands for a store that is not connected: refuses every call.
    absent: Arc<P>,
}

impl<P: ?Sized> Clone for ByStore<P> {
    fn clone(&self) -> Self {
        Self { stores: self.stores.clone(), absent: Arc::clone(&self.absent) }
    }
}

impl<P: ?Sized> ByStore<P> {
    /// Adds a store.
    #[must_use]
    pub fn with(mut self, store: impl Into<String>, port: Arc<P>) -> Self {
        self.stores.insert(store.into(), port);
        self
    }

    /// The store of this name.
    #[must_use]
    pub fn named(&self, store: &str) -> &Arc<P> {
        self.stores.get(store).unwrap_or(&self.absent)
    }

    /// The store a table comes from.
    #[must_use]
    pub fn of(&self, table: &Table) -> &Arc<P> {
        self.named(&table.from)
    }

    /// Every store.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Arc<P>)> {
        self.stores.iter().map(|(name, port)| (name.as_str(), port))
    }
}

/// No store yet.
macro_rules! none_yet {
    ($($port:ident),+) => {$(
        impl Default for ByStore<dyn $port> {
            fn default() -> Self {
                Self { stores: BTreeMap::new(), absent: Arc::new(Unavailable("no such store is connected".to_owned())) }
            }
        }
    )+};
}

none_yet!(Source, Changes, Items, Mover);
