//! The payments application: accounts, and payments that refer to them, in PostgreSQL on both sides.
//!
//! Which database it uses is what two parameters say: where the database is, and which password opens it. A third one
//! says whether customers may write.

mod customers;
mod rows;
mod seed;
mod store;

use super::error::{RehearsalError, RehearsalResult};
use super::oracle::Side;
use super::shop::{Settings, Values};
use super::world::PgAddress;

pub(super) use customers::Payers;
pub use seed::{BadPaymentSizes, PaymentSizes};
pub(super) use seed::{generate, import, probe};
pub(super) use store::PaymentStore;

/// Where the database is: host, port and name.
pub const ENDPOINT: &str = "/payments/prod/db/endpoint";
/// Where the endpoint of the new database is kept until it is wanted.
pub const NEW_ENDPOINT: &str = "/payments/prod/db/endpoint-v2";
/// Which password opens it.
pub const PASSWORD: &str = "/payments/prod/db/password-secret";
/// `open` or `frozen`.
pub const MODE: &str = "/payments/prod/writes-mode";
/// The password of the old database, by the name it is kept under.
pub const OLD_PASSWORD: &str = "db-password-prod";
/// The password of the new database, by the name it is kept under.
pub const NEW_PASSWORD: &str = "db-password-v2-prod";

/// What both databases hold. The old one has it from the beginning; the plan creates it in the new one.
pub(super) const SCHEMA: &str = "
CREATE TABLE accounts (
    id uuid PRIMARY KEY, holder varchar(255) NOT NULL, email varchar(255) NOT NULL, balance numeric(14,2) NOT NULL,
    opened_at timestamptz NOT NULL, updated_at timestamptz NOT NULL
);
CREATE TABLE payments (
    id uuid PRIMARY KEY, account_id uuid NOT NULL REFERENCES accounts (id), amount numeric(14,2) NOT NULL,
    currency varchar(3) NOT NULL, state varchar(20) NOT NULL, note text, created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX idx_payments_account ON payments (account_id);
";

/// The two databases.
#[derive(Clone, Debug)]
pub struct Databases {
    /// Where payments come from.
    pub v1: PgAddress,
    /// Where they go.
    pub v2: PgAddress,
}

impl Databases {
    /// The parameters that the application reads.
    #[must_use]
    pub const fn parameters(&self) -> [&'static str; 3] {
        [ENDPOINT, PASSWORD, MODE]
    }

    /// The database of a side.
    #[must_use]
    pub const fn of(&self, side: Side) -> &PgAddress {
        match side {
            Side::Old => &self.v1,
            Side::New => &self.v2,
        }
    }

    /// What these values tell the application to do. While only one of the two parameters has been switched they fit no
    /// database, and it goes on as before.
    pub(super) fn settings(&self, values: &Values) -> RehearsalResult<Settings> {
        let (endpoint, password) = (values.of(ENDPOINT)?, values.of(PASSWORD)?);
        let side = if (endpoint, password) == (endpoint_of(&self.v1).as_str(), OLD_PASSWORD) {
            Side::Old
        } else if (endpoint, password) == (endpoint_of(&self.v2).as_str(), NEW_PASSWORD) {
            Side::New
        } else {
            let why = "together they open neither database";
            return Err(RehearsalError::new("read parameters", format!("{ENDPOINT} and {PASSWORD}"), why));
        };
        let frozen = values.frozen(MODE)?;
        let secret = self.of(side).connection();
        Ok(Settings { green: side == Side::New, reads: side, writes: side, frozen, secret })
    }
}

/// A database's address as the parameter has it.
pub(super) fn endpoint_of(address: &PgAddress) -> String {
    format!("{}:{}/{}", address.host, address.port, address.database)
}

#[cfg(test)]
mod tests;
