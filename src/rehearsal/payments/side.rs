//! One side of the payments application: rows in its database, items in its tables.

use async_trait::async_trait;

use super::item_store::ItemStore;
use super::store::RowStore;
use crate::domain::secret::Secret;
use crate::private::RehearsalResult;
use crate::rehearsal::oracle::{Listed, Outcome, Side, Stood};
use crate::rehearsal::records::{Kind, Record, RecordKey, Write};
use crate::rehearsal::shop::Store;

/// A side's stores. Nothing is connected before it is needed.
#[derive(Debug)]
pub(in crate::rehearsal) struct PaymentStore {
    rows: RowStore,
    items: ItemStore,
}

impl PaymentStore {
    /// The stores of this side; DynamoDB answers at this endpoint.
    pub(in crate::rehearsal) fn new(dynamo: &str, side: Side) -> Self {
        Self { rows: RowStore::default(), items: ItemStore::new(dynamo, side) }
    }
}

/// The connection is the database's; a side's tables are always the same.
#[async_trait]
impl Store for PaymentStore {
    async fn read(&self, to: &Secret, key: &RecordKey) -> Result<Option<Record>, String> {
        if Kind::PAYMENT_ITEMS.contains(&key.kind) {
            return self.items.read(key).await;
        }
        self.rows.read(to, key).await
    }

    async fn write(&self, to: &Secret, write: &Write) -> (Outcome, Option<Stood>) {
        if Kind::PAYMENT_ITEMS.contains(&write.key().kind) {
            return self.items.write(write).await;
        }
        self.rows.write(to, write).await
    }

    async fn list(&self, to: &Secret, kind: Kind) -> RehearsalResult<Listed> {
        if Kind::PAYMENT_ITEMS.contains(&kind) {
            return self.items.list(kind).await;
        }
        self.rows.list(to, kind).await
    }
}
