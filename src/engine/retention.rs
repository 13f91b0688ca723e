//! Keeps the pace of each table's oldest unread record, and writes it into what was measured.

use std::collections::BTreeMap;

use crate::domain::gauge::{Measured, Pace, Unread};
use crate::domain::plan::Plan;
use crate::domain::run::RunState;
use crate::domain::run::oldest_unread;

/// The pace of every table.
#[derive(Debug, Default)]
pub struct Retention(BTreeMap<String, Pace>);

impl Retention {
    /// Fills [`crate::domain::gauge::TableGauge::unread`] of every moving table.
    pub fn fill(&mut self, plan: &Plan, state: &RunState, measured: &mut Measured) {
        for table in &plan.tables {
            let gauge = measured.tables.get(&table.id);
            let Some((oldest, at)) = oldest_unread(state, &table.id, gauge) else {
                self.0.remove(&table.id);
                continue;
            };
            // A recorded start does not move and is as good as new.
            let at = if at.0 == 0 { measured.at } else { at };
            let pace = self.0.entry(table.id.clone()).or_default();
            pace.push(measured.at, oldest);
            let closing = pace.closing();
            measured.tables.entry(table.id.clone()).or_default().unread = Some(Unread { oldest, at, closing });
        }
    }
}
