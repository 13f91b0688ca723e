//! The payments application: accounts, and payments that refer to them, in PostgreSQL on both sides; sessions and limits
//! in DynamoDB tables on both sides.
//!
//! Which database it uses is what two parameters say: where the database is, and which password opens it. The table of
//! sessions and that of limits have a parameter each. Another one says whether customers may write.

mod customers;
mod item_store;
mod items;
mod rows;
mod seed;
mod side;
mod store;

use super::oracle::Side;
use super::records::Kind;
use super::seed::Dataset;
use super::shop::{Settings, Values};
use super::world::PgAddress;
use crate::private::dynamo::EmbeddedDynamo;
use crate::private::{RehearsalError, RehearsalResult};

pub(super) use customers::Payers;
pub use seed::{BadPaymentSizes, PaymentSizes};
pub(super) use seed::{generate, import, probe};
pub(super) use side::PaymentStore;

/// The Auto Scaling group of the application's instances, in each region.
pub const GROUP: &str = "payments-web";
/// The old cluster, as RDS calls it.
pub const OLD_CLUSTER: &str = "payments-v1";
/// Its replica in the second region.
pub const REPLICA_CLUSTER: &str = "payments-v1-eu";
/// Where the database is: host, port and name.
pub const ENDPOINT: &str = "/payments/prod/db/endpoint";
/// Where the endpoint of the new database is kept until it is wanted.
pub const NEW_ENDPOINT: &str = "/payments/prod/db/endpoint-v2";
/// Which password opens it.
pub const PASSWORD: &str = "/payments/prod/db/password-secret";
/// The name of the table of sessions.
pub const SESSIONS: &str = "/payments/prod/dynamodb/session-table";
/// The name of the table of limits.
pub const LIMITS: &str = "/payments/prod/dynamodb/limit-table";
/// `open` or `frozen`.
pub const MODE: &str = "/payments/prod/writes-mode";
/// The password of the old database, by the name it is kept under.
pub const OLD_PASSWORD: &str = "db-password-prod";
/// The password of the new database, by the name it is kept under.
pub const NEW_PASSWORD: &str = "db-password-v2-prod";

/// The kind of store that holds accounts and payments.
pub(super) const ROWS: &str = "PostgreSQL";
/// The kind of store that holds sessions and limits.
pub(super) const ITEMS: &str = "DynamoDB";

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

/// What the parameters may name: two databases, and the tables of both sides.
#[derive(Clone, Debug)]
pub struct PaymentPlaces {
    /// Where payments come from.
    pub v1: PgAddress,
    /// Where they go.
    pub v2: PgAddress,
}

impl PaymentPlaces {
    /// The parameters that the application reads.
    #[must_use]
    pub const fn parameters() -> [&'static str; 5] {
        [ENDPOINT, PASSWORD, SESSIONS, LIMITS, MODE]
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
        // Each table is chosen by itself, so that for a moment a side may serve one and not the other.
        let placed = [(Kind::Session, SESSIONS), (Kind::Limit, LIMITS)]
            .map(|(kind, parameter)| Ok((kind, named(kind, parameter, values.of(parameter)?)?)));
        let placed = placed.into_iter().collect::<RehearsalResult<_>>()?;
        let frozen = values.frozen(MODE)?;
        let secret = self.of(side).connection();
        Ok(Settings { green: side == Side::New, reads: side, share: None, writes: side, frozen, secret, placed })
    }
}

/// The side whose table of a kind has this name.
fn named(kind: Kind, parameter: &str, name: &str) -> RehearsalResult<Side> {
    let side = [Side::Old, Side::New].into_iter().find(|side| table_of(kind, *side) == name);
    side.ok_or_else(|| RehearsalError::new("read parameter", parameter, "it names neither side's table"))
}

/// The table of a kind on a side.
pub(super) const fn table_of(kind: Kind, side: Side) -> &'static str {
    items::table(kind, side)
}

/// Creates the tables of both sides and fills those of the old one.
pub(super) async fn lay_tables(
    endpoint: &str,
    embedded: Option<&EmbeddedDynamo>,
    data: &Dataset,
) -> RehearsalResult<()> {
    let client = aws_sdk_dynamodb::Client::new(&crate::private::clients::session(endpoint, 5));
    items::create(&client).await?;
    items::fill(&client, embedded, data).await
}

/// A database's address as the parameter has it.
pub(super) fn endpoint_of(address: &PgAddress) -> String {
    format!("{}:{}/{}", address.host, address.port, address.database)
}

#[cfg(test)]
mod tests;
