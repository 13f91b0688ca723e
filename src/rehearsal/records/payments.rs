//! What the payments application keeps: accounts, payments that belong to them, sessions in which customers are signed in,
//! and limits of what an account may spend on a day.

use std::collections::BTreeSet;

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

/// A session in which somebody is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Session {
    pub id: String,
    pub account: String,
    pub device: String,
    /// What the device shows to be let in again: bytes that are no text.
    pub token: Vec<u8>,
    /// What the session may do; an empty set and an absent one are the same.
    pub scopes: BTreeSet<String>,
    pub opened_at: Moment,
    pub seen_at: Moment,
}

/// What an account may spend on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Limit {
    pub account: String,
    /// Days since 1970-01-01.
    pub day: i64,
    pub most: Decimal,
    pub spent: Decimal,
    /// Why it is what it is; many say nothing.
    pub reason: Option<String>,
    pub changed_at: Moment,
}

impl Limit {
    /// Its id: the account and the day, which together are its key.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.account, self.day)
    }

    /// The account and the day of an id.
    #[must_use]
    pub fn parts(id: &str) -> Option<(&str, i64)> {
        let (account, day) = id.split_once('/')?;
        Some((account, day.parse().ok()?))
    }
}
