//! The target's own logical subscription as a mover: the server copies tables and applies changes, and is told and watched
//! from here.
//!
//! At the source there are a publication and a slot, made as for our own reading of the log (`source/slot.rs`); at the target a
//! subscription that was made disabled, with that slot. Beside the plan's tables the publication has one of ours, in
//! which markers stand: it has the same name on both sides, so a marker takes the way of every change. What the
//! subscription is meant to do is written down in its comment, in the transaction that makes it so: one that somebody else
//! disabled differs from it.

mod guard;
mod look;
mod marks;
mod obstacles;
mod prepare;
mod remove;
mod stop;

use std::path::Path;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Error;

use super::connect::{Ask, Object, Pool};
use super::settings::{PgSettings, SslMode};
use super::source::slot::Names;
use super::{retry, trouble};
use crate::domain::plan::Table;
use crate::domain::secret::Secret;
use crate::ports::{Mover, MoverLook, Obstacle, PortResult};

pub(super) use guard::{at_work, strangers};
pub(super) use marks::{delete_mark, mark_stands, put_mark};

/// What a comment on a subscription says: what we last told it.
mod told {
    pub(super) const PREPARED: &str = "cutover: prepared";
    pub(super) const RUNS: &str = "cutover: runs";
    pub(super) const PAUSED: &str = "cutover: paused";
    pub(super) const STOPPED: &str = "cutover: stopped";
}

/// How the target's server reaches the source.
#[derive(Clone, Debug)]
pub struct SubscriberSettings {
    /// Host name or address, as that server reaches it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User it signs in as.
    pub user: String,
    /// Password; absent where that server has it in a file of its own.
    pub password: Option<Secret>,
    /// Encryption.
    pub sslmode: SslMode,
    /// File with the certificate authority, as that server names it.
    pub ca_file: Option<String>,
}

impl SubscriberSettings {
    /// The connection string that the server keeps, password included: for its statement only, never for a log.
    fn conninfo(&self, database: &str) -> Secret {
        let value = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let sslmode = match self.sslmode {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyFull => "verify-full",
        };
        let mut all = format!(
            "host={} port={} dbname={} user={} sslmode={sslmode} connect_timeout=10",
            value(&self.host),
            self.port,
            value(database),
            value(&self.user),
        );
        if let Some(file) = &self.ca_file {
            all.push_str(&format!(" sslrootcert={}", value(&Path::new(file).to_string_lossy())));
        }
        if let Some(password) = &self.password {
            all.push_str(&format!(" password={}", value(password.reveal())));
        }
        Secret::new(all)
    }

    /// What is said of it: `replicator@10.0.0.5:5432`.
    fn place(&self) -> String {
        format!("{}@{}:{}", self.user, self.host, self.port)
    }
}

/// What a plan's subscription to a store is called in the target, and the table that has its markers on both sides.
pub(super) struct Called {
    /// The subscription: no other plan, and no other store of this plan, has one of this name.
    pub subscription: String,
    /// The table of markers, with its schema.
    pub marks: String,
}

impl Called {
    /// Of the subscription of this plan to the store that tables come from.
    pub(super) fn of(plan: &str, from: &str) -> Self {
        let word: String = plan.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        let digest = Sha256::digest(format!("subscription {plan}\0{from}").as_bytes());
        let [a, b, c, d, ..] = *digest.as_slice() else { unreachable!("a digest of 32 bytes") };
        let number = format!("{a:02x}{b:02x}{c:02x}{d:02x}");
        Self { subscription: format!("cutover_{word:.24}_{number}"), marks: format!("cutover.mark_{number}") }
    }
}

/// One end.
struct End {
    pool: Pool,
    place: String,
}

impl End {
    fn of(settings: &PgSettings) -> PortResult<Self> {
        Ok(Self { pool: settings.pool()?, place: settings.place() })
    }

    async fn client(&self) -> PortResult<Object> {
        retry::client(&self.pool, &self.place).await
    }
}

/// The subscription of a plan from one database to another.
pub struct PgSubscription {
    source: End,
    target: End,
    /// The source's database, as the subscriber names it.
    database: String,
    plan: String,
    /// Publication and slots at the source.
    names: Names,
    called: Called,
    subscriber: Option<SubscriberSettings>,
}

/// The subscription as the target's catalogue has it.
struct There {
    oid: u32,
    enabled: bool,
    /// The slot that it reads from.
    slot: String,
    /// What we last told it; something else where it is none of ours.
    told: String,
}

/// For [`There`].
const THERE: &str = "
SELECT s.oid, s.subenabled, coalesce(s.subslotname::text, ''), coalesce(obj_description(s.oid, 'pg_subscription'), '')
FROM pg_subscription s
WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";

impl PgSubscription {
    /// Of this plan ([`Plan::key`](crate::domain::plan::Plan::key)), between the stores of these names. Connects to
    /// nothing yet. Without a subscriber it can be looked at, stopped and removed, and not made.
    ///
    /// # Errors
    /// `Invalid` when TLS cannot be set up.
    pub fn new(
        plan: &str,
        (from, source): (&str, &PgSettings),
        (to, target): (&str, &PgSettings),
        subscriber: Option<SubscriberSettings>,
    ) -> PortResult<Self> {
        Ok(Self {
            source: End::of(source)?,
            target: End::of(target)?,
            database: source.database.clone(),
            plan: plan.to_owned(),
            names: Names::of(&format!("{plan}\0{to}"), &source.database),
            called: Called::of(plan, from),
            subscriber,
        })
    }

    /// What the target's catalogue has of it.
    async fn there(&self, client: &impl Ask) -> PortResult<Option<There>> {
        let name = self.called.subscription.as_str();
        let error = |e: Error| trouble::error(&e, "look for the subscription", name);
        let Some(row) = client.ask_one(THERE, &[&name]).await.map_err(error)? else { return Ok(None) };
        Ok(Some(There {
            oid: row.try_get(0).map_err(error)?,
            enabled: row.try_get(1).map_err(error)?,
            slot: row.try_get(2).map_err(error)?,
            told: row.try_get(3).map_err(error)?,
        }))
    }
}

#[async_trait]
impl Mover for PgSubscription {
    async fn obstacles(&self, tables: &[Table]) -> PortResult<Vec<Obstacle>> {
        self.all_obstacles(tables).await
    }

    async fn prepare(&self, tables: &[Table]) -> PortResult<String> {
        self.make(tables).await
    }

    async fn start(&self, tables: &[Table]) -> PortResult<()> {
        self.enable(tables).await
    }

    async fn look(&self, tables: &[Table]) -> PortResult<MoverLook> {
        self.looked(tables).await
    }

    async fn pause(&self) -> PortResult<()> {
        self.end_work(told::PAUSED).await
    }

    async fn stop(&self) -> PortResult<()> {
        self.end_work(told::STOPPED).await
    }

    async fn remove(&self) -> PortResult<()> {
        self.remove_both().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ones_that_a_server_takes_and_of_one_plan_and_store_only() {
        let long = "Shop / eu-west-1: a plan with a very long name, so long that it would not fit";
        let all = [Called::of(long, "old"), Called::of(long, "v1"), Called::of(&long[..70], "old")];
        for (n, called) in all.iter().enumerate() {
            assert!(called.subscription.len() <= 63 && called.marks.len() <= 63, "{}", called.subscription);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(called.subscription.chars().all(plain), "{}", called.subscription);
            for other in &all[n + 1..] {
                assert!(called.subscription != other.subscription && called.marks != other.marks);
            }
        }
    }

    #[test]
    fn a_connection_string_says_each_value_as_it_is() {
        let settings = SubscriberSettings {
            host: "db".into(),
            port: 5433,
            user: "it's".into(),
            password: Some(Secret::new(r"a\b' sslmode=disable")),
            sslmode: SslMode::VerifyFull,
            ca_file: Some("/etc/ca.pem".into()),
        };
        let said = settings.conninfo("shop");
        let parsed: tokio_postgres::Config = said
            .reveal()
            .replace("sslmode=verify-full ", "")
            .replace(" sslrootcert='/etc/ca.pem'", "")
            .parse()
            .unwrap();
        assert_eq!(parsed.get_user(), Some("it's"));
        assert_eq!(parsed.get_password(), Some(r"a\b' sslmode=disable".as_bytes()));
        assert!(!format!("{settings:?}").contains("disable"), "a password is not printed");
        assert_eq!(settings.place(), "it's@db:5433");
    }
}
