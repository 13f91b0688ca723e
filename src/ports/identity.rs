//! Who the calls to a store are signed as, and where they go.

use async_trait::async_trait;

use crate::domain::run::Callers;

/// A service and where its calls go, or why that cannot be said.
pub type Address = (String, Result<String, String>);

/// Who asks. Never fails: what is not known is said with its reason.
#[async_trait]
pub trait Identity: Send + Sync {
    /// Who the calls to each store are signed as, asked of the cloud itself.
    async fn callers(&self) -> Callers;

    /// Where the calls to a store go, by service.
    fn addresses(&self, store: &str) -> Vec<Address>;

    /// By how much the cloud's clock is ahead of this machine's, in milliseconds, as last seen.
    fn clock_ahead_ms(&self) -> Option<i64>;
}
