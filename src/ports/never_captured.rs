//! The outbox of a store in which what customers write is not captured: nothing waits there, and nothing can.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{
    CaptureGap, CaptureState, ErrorKind, OpenWrite, Outbox, PortError, PortResult, ReverseCounts, Sequence, Taken,
    Waiting,
};
use crate::domain::mapping::Resolution;
use crate::domain::plan::Table;
use crate::domain::value::Key;

/// Captures nothing, for this reason.
pub struct NeverCaptured(pub &'static str);

impl NeverCaptured {
    fn refused<T>(&self, tried: &str, on: &str) -> PortResult<T> {
        let advice = "say enabled = false under [reverse]: a rollback then leaves writes behind";
        Err(PortError::new(ErrorKind::Invalid, tried, on, self.0).advise(advice))
    }
}

#[async_trait]
impl Outbox for NeverCaptured {
    async fn arm(&self, _: &[Table]) -> PortResult<Vec<CaptureState>> {
        self.refused("capture", "the target")
    }

    async fn armed(&self, _: &[Table]) -> PortResult<bool> {
        Ok(false)
    }

    async fn gaps(&self, _: &[Table]) -> PortResult<Vec<CaptureGap>> {
        Ok(Vec::new())
    }

    async fn disarm(&self, _: &[Table]) -> PortResult<()> {
        Ok(())
    }

    async fn mark_rolled_back(&self, _: &str, _: &[Table]) -> PortResult<()> {
        Ok(())
    }

    async fn settle(&self, _: &str, _: &[Table]) -> PortResult<()> {
        Ok(())
    }

    async fn put_marker(&self, table: &Table, _: &str) -> PortResult<()> {
        self.refused("put a marker in", &table.target)
    }

    async fn take(&self, _: &Table, _: u32) -> PortResult<Option<Box<dyn Taken>>> {
        Ok(None)
    }

    async fn waiting(&self, tables: &[Table]) -> PortResult<BTreeMap<String, Waiting>> {
        Ok(tables.iter().map(|table| (table.id.clone(), Waiting::default())).collect())
    }

    async fn sequences(&self, _: &[Table]) -> PortResult<Vec<Sequence>> {
        Ok(Vec::new())
    }

    async fn open_writes(&self, _: &[Table]) -> PortResult<Vec<OpenWrite>> {
        Ok(Vec::new())
    }

    async fn tally(&self, tables: &[Table]) -> PortResult<BTreeMap<String, ReverseCounts>> {
        Ok(tables.iter().map(|table| (table.id.clone(), ReverseCounts::default())).collect())
    }

    async fn conflicts(&self, _: &Table) -> PortResult<Vec<(Key, Resolution)>> {
        Ok(Vec::new())
    }

    async fn own_writes(&self, _: &Table, images: &[(Key, u128)]) -> PortResult<Vec<bool>> {
        Ok(vec![false; images.len()])
    }
}
