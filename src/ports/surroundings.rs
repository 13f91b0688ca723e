//! What a database says about all of its sessions and about the whole server it is on: nothing of it moves with a table.

use super::source::OpenWrite;

/// A database as its sessions find it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Its name.
    pub database: String,
    /// How its texts are encoded, as the server calls it: `UTF8`, `SQL_ASCII`.
    pub encoding: String,
    /// What it, and roles, set for each session.
    pub settings: Vec<SessionSetting>,
    /// Event triggers that fire, each with the event: `no_ddl (ddl_command_start)`.
    pub event_triggers: Vec<String>,
    /// How it sorts and tells letters where a column says nothing else.
    pub collation: Option<Collation>,
    /// Large objects in it, which are of no table.
    pub large_objects: u64,
    /// What roles may do with its tables.
    pub grants: Vec<Grant>,
    /// Roles of its server.
    pub roles: Vec<Role>,
    /// The oldest transaction that is open anywhere on the server, has written, and is old enough to be in the way of a
    /// capture.
    pub oldest: Option<OpenWrite>,
    /// Names of its tables, with their schema: ours and the server's own are left out.
    pub tables: Vec<String>,
    /// Extensions that are installed.
    pub extensions: Vec<Extension>,
    /// Names of extensions that its server could install.
    pub available: Vec<String>,
    /// What its tables rest on of its extensions.
    pub uses: Vec<ExtensionUse>,
    /// What others made of it that no table brings along.
    pub beside: Beside,
}

/// An extension that is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// Its name: `citext`.
    pub name: String,
    /// Its version, as it calls it.
    pub version: String,
    /// The schema its types and functions stand in.
    pub schema: String,
}

/// A table that an extension cannot be taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionUse {
    /// The extension.
    pub extension: String,
    /// The table, with its schema.
    pub table: String,
    /// By what the table rests on it: `a column`, `a default`, `an index`, `a constraint`.
    pub by: String,
}

/// What others made of a database besides its tables, and what reads it: it stays where it is. Ours is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Jobs of pg_cron that our role sees, each as `name (schedule)`; `None` where there is no pg_cron.
    pub jobs: Option<Vec<String>>,
    /// Publications.
    pub publications: Vec<String>,
    /// Subscriptions that bring rows in.
    pub subscriptions: Vec<String>,
    /// Logical slots, each with its plugin and whether somebody reads it: `debezium (pgoutput, read now)`.
    pub slots: Vec<String>,
}

/// How a database sorts texts and tells letters, unless a column says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collation {
    /// Who does it: `libc`, `icu`, `builtin`.
    pub provider: String,
    /// The order: `en_US.UTF-8`, `C`.
    pub order: String,
    /// What is a letter, and its other case.
    pub letters: String,
    /// The locale of a provider that has its own.
    pub locale: Option<String>,
    /// The version its indexes were made with; absent where the server keeps none.
    pub version: Option<String>,
    /// The version that sorts now.
    pub sorts_now: Option<String>,
}

/// What a role may do with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role; absent for everybody.
    pub role: Option<String>,
    /// The table, with its schema.
    pub table: String,
    /// The rights: `SELECT`, `INSERT`.
    pub rights: Vec<String>,
}

/// A role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Roles whose rights it has, directly or by another one.
    pub has: Vec<String>,
    /// Whether it may do anything: a superuser.
    pub anything: bool,
}

/// A setting that sessions begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSetting {
    /// The role whose sessions have it; absent for all of them.
    pub role: Option<String>,
    /// Whether it is for this database only; else for the role in every database.
    pub here: bool,
    /// Its name.
    pub name: String,
    /// What it is set to, as the catalogue has it. May be a secret where the name is an application's own (`app.key`).
    pub value: String,
}

impl SessionSetting {
    /// Whether the name is no server's but an extension's or an application's own, whose value is not shown.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.name.contains('.')
    }
}
