//! Outboxes.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{join_all, try_join_all};

use super::{ByTarget, at};
use crate::domain::mapping::Resolution;
use crate::domain::plan::Table;
use crate::domain::value::Key;
use crate::ports::{CaptureGap, CaptureState, OpenWrite, Outbox, PortResult, ReverseCounts, Sequence, Taken, Waiting};

/// Outboxes of several targets as one.
pub struct SeveralOutboxes(ByTarget<dyn Outbox>);

impl SeveralOutboxes {
    /// Outboxes by the names of their stores; the one of `home` alone where there are no others.
    #[must_use]
    pub fn as_one(home: (String, Arc<dyn Outbox>), others: BTreeMap<String, Arc<dyn Outbox>>) -> Arc<dyn Outbox> {
        if others.is_empty() { home.1 } else { Arc::new(Self(ByTarget { home, others })) }
    }
}

#[async_trait]
impl Outbox for SeveralOutboxes {
    async fn arm(&self, tables: &[Table]) -> PortResult<Vec<CaptureState>> {
        let mut all = Vec::new();
        for (_, outbox, tables) in self.0.parted("capture", tables)? {
            all.extend(outbox.arm(&tables).await?);
        }
        Ok(all)
    }

    async fn armed(&self, tables: &[Table]) -> PortResult<bool> {
        let all = self.0.parted("look at the capture of", tables)?;
        let armed = try_join_all(all.iter().map(|(_, outbox, tables)| outbox.armed(tables))).await?;
        Ok(armed.into_iter().all(|armed| armed))
    }

    async fn gaps(&self, tables: &[Table]) -> PortResult<Vec<CaptureGap>> {
        let all = self.0.parted("look at the capture of", tables)?;
        let gaps = try_join_all(all.iter().map(|(_, outbox, tables)| outbox.gaps(tables))).await?;
        Ok(gaps.into_iter().flatten().collect())
    }

    async fn disarm(&self, tables: &[Table]) -> PortResult<()> {
        for (_, outbox, tables) in self.0.parted("stop capturing", tables)? {
            outbox.disarm(&tables).await?;
        }
        Ok(())
    }

    async fn mark_rolled_back(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        // Each by itself: one that cannot be reached keeps no other from knowing.
        let all = self.0.parted("mark as rolled back", tables)?;
        let marked = all.iter().map(|(store, outbox, tables)| async move {
            outbox.mark_rolled_back(run, tables).await.map_err(at(store))
        });
        join_all(marked).await.into_iter().collect()
    }

    async fn settle(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        for (_, outbox, tables) in self.0.parted("settle", tables)? {
            outbox.settle(run, &tables).await?;
        }
        Ok(())
    }

    async fn put_marker(&self, table: &Table, nonce: &str) -> PortResult<()> {
        self.0.of("put a marker in", table)?.put_marker(table, nonce).await
    }

    async fn take(&self, table: &Table, limit: u32) -> PortResult<Option<Box<dyn Taken>>> {
        self.0.of("take changes of", table)?.take(table, limit).await
    }

    async fn waiting(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Waiting>> {
        let all = self.0.parted("count what waits of", tables)?;
        let waiting = try_join_all(all.iter().map(|(_, outbox, tables)| outbox.waiting(tables))).await?;
        Ok(waiting.into_iter().flatten().collect())
    }

    async fn open_writes(&self, tables: &[Table]) -> PortResult<Vec<OpenWrite>> {
        let mut all = Vec::new();
        for (store, outbox, tables) in self.0.parted("look at", tables)? {
            let open = outbox.open_writes(&tables).await.map_err(at(store))?;
            // Two databases may give one number to two transactions.
            let named = |open: OpenWrite| OpenWrite {
                id: format!("{store} {}", open.id),
                words: format!("{} (store {store})", open.words),
            };
            all.extend(open.into_iter().map(named));
        }
        Ok(all)
    }

    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>> {
        let mut all = Vec::new();
        for (store, outbox, tables) in self.0.parted("look for sequences of", tables)? {
            all.extend(outbox.sequences(&tables).await.map_err(at(store))?);
        }
        Ok(all)
    }

    async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, ReverseCounts>> {
        let all = self.0.parted("count what was applied of", tables)?;
        let tally = try_join_all(all.iter().map(|(_, outbox, tables)| outbox.tally(tables))).await?;
        Ok(tally.into_iter().flatten().collect())
    }

    async fn conflicts(&self, table: &Table) -> PortResult<Vec<(Key, Resolution)>> {
        self.0.of("read conflicts of", table)?.conflicts(table).await
    }

    async fn own_writes(&self, table: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>> {
        self.0.of("look up own writes to", table)?.own_writes(table, images).await
    }
}
