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
    /// The oldest transaction that is open anywhere on the server, has written, and is old enough to be in the way of a
    /// capture.
    pub oldest: Option<OpenWrite>,
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
