//! Pages of a source for whoever only reads: within the read budget, tried again where that may help.

use super::pace::{ReadBudget, pause};
use crate::domain::plan::Table;
use crate::ports::{Cursor, Page, Partition, PortResult, Source};

/// Attempts at one page before it is given up.
const ATTEMPTS: u32 = 8;

/// Reads the next page once the budget allows it.
pub(super) async fn read_page(
    source: &dyn Source,
    table: &Table,
    part: Partition,
    cursor: Option<&Cursor>,
    budget: &ReadBudget,
) -> PortResult<Page> {
    let mut attempt = 1;
    loop {
        budget.wait().await;
        match source.page(table, part, cursor).await {
            Err(e) if e.kind.transient() && attempt < ATTEMPTS => {
                tracing::warn!(table = %table.id, segment = part.index, error = %e, "a page is read again");
                tokio::time::sleep(pause(attempt)).await;
                attempt += 1;
            }
            read => return read,
        }
    }
}
