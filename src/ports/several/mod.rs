//! Several targets behind the ports of one: each call goes to the store its table goes to, and what concerns a store as a
//! whole goes to all of them.
//!
//! One store is *home*: its lease says who drives. The others are leased with it, because each of them refuses a process
//! that was overtaken by its own fence.

mod jobs;
mod outbox;
mod switches;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use jobs::SeveralJobs;
pub use outbox::SeveralOutboxes;
pub use switches::SeveralSwitches;
pub use target::SeveralTargets;

use super::{ErrorKind, PortError, PortResult};
use crate::domain::plan::Table;

/// Ports of the stores that a plan's tables go to, by the name of the store.
struct ByTarget<P: ?Sized> {
    home: (String, Arc<P>),
    others: BTreeMap<String, Arc<P>>,
}

impl<P: ?Sized> ByTarget<P> {
    /// Every store, home first.
    fn all(&self) -> impl Iterator<Item = (&str, &P)> {
        let home = std::iter::once((self.home.0.as_str(), &*self.home.1));
        home.chain(self.others.iter().map(|(name, port)| (name.as_str(), &**port)))
    }

    /// The store a table goes to.
    fn of(&self, tried: &str, table: &Table) -> PortResult<&P> {
        let found = self.all().find(|(name, _)| *name == table.to).map(|(_, port)| port);
        found.ok_or_else(|| {
            PortError::new(
                ErrorKind::Invalid,
                tried,
                table.target.clone(),
                format!("no store `{}` is connected", table.to),
            )
        })
    }

    /// These tables by the store they go to, home first. Stores without any are left out.
    fn parted(&self, tried: &str, tables: &[Table]) -> PortResult<Vec<(&str, &P, Vec<Table>)>> {
        for table in tables {
            self.of(tried, table)?;
        }
        let of_store = |name: &str| tables.iter().filter(|table| table.to == name).cloned().collect::<Vec<_>>();
        let all = self.all().map(|(name, port)| (name, port, of_store(name)));
        Ok(all.filter(|(_, _, tables)| !tables.is_empty()).collect())
    }
}

/// The same error with the store it came from.
fn at(store: &str) -> impl FnOnce(PortError) -> PortError {
    move |e| PortError { on: format!("{} (store {store})", e.on), ..e }
}

#[cfg(test)]
mod tests;
