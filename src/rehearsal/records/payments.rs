//! What the payments application keeps: accounts, and payments that belong to them.

use super::{Decimal, Moment};

/// Somebody's account.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Account {
    pub id: String,
    pub holder: String,
    pub email: String,
    pub balance: Decimal,
    pub opened_at: Moment,
    pub updated_at: Moment,
}

/// A payment from an account.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Payment {
    pub id: String,
    pub account: String,
    pub amount: Decimal,
    pub currency: String,
    pub state: String,
    /// Words of whoever pays; many give none.
    pub note: Option<String>,
    pub created_at: Moment,
    pub updated_at: Moment,
}
