//! PostgreSQL: the target's tables, and our progress beside them in schema `cutover`.
//!
//! Rows are encoded straight into `COPY … (FORMAT binary)`. Every write goes in one transaction with the checkpoint
//! or the positions it reaches. When the server refuses a batch, it is sent again in halves and halves of halves
//! until only the refused rows are left; those go to the ledger, in the same transaction.

mod after_load;
mod apply;
mod book;
mod bulk;
mod collations;
mod columns;
mod connect;
mod create;
mod ddl;
mod decode;
mod describe;
mod dump;
mod empty;
mod encode;
mod encoder;
mod ending;
mod extensions;
mod indexes;
mod keys;
mod kinds;
mod lanes;
mod layout;
mod lease;
mod ledger;
mod leftovers;
mod names;
mod native;
mod numeric;
mod open;
mod orphans;
mod outbox;
mod owner;
mod password;
mod read;
mod references;
mod refusal;
mod restore;
mod retry;
mod rights;
mod rows;
mod sequences;
mod server;
mod settings;
mod shape;
pub mod source;
mod source_count;
mod standalone;
mod stands;
mod subscription;
mod surroundings;
mod target;
mod tls;
mod trouble;
mod verbatim;
mod write;

pub use password::PasswordSource;
pub use restore::PgRestore;
pub use settings::{PgSettings, SslMode};
pub use subscription::{PgSubscription, SubscriberSettings};
pub use target::PgTarget;

#[cfg(test)]
pub(crate) mod tests;
