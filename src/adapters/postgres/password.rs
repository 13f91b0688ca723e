//! The password, read again when the server refuses it: it may have been rotated since.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;

use crate::domain::secret::Secret;
use crate::ports::{PortError, PortResult};

/// Reads the password from where the config says, each time it is called.
type Read = dyn Fn() -> BoxFuture<'static, PortResult<Secret>> + Send + Sync;

/// Where a password is found.
#[derive(Clone)]
pub struct PasswordSource {
    /// The place in words: `the parameter /shop/db-password`.
    name: String,
    read: Arc<Read>,
}

impl PasswordSource {
    /// A source by its name in errors and how it is read.
    pub fn new(
        name: impl Into<String>,
        read: impl Fn() -> BoxFuture<'static, PortResult<Secret>> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), read: Arc::new(read) }
    }
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PasswordSource").field(&self.name).finish()
    }
}

/// Why a refused password was not replaced.
#[derive(Debug)]
pub(super) enum Stale {
    /// Read again, and it is the one that was refused.
    Same(String),
    /// It could not be read again.
    Unreadable(String, PortError),
}

impl Stale {
    /// What to do next.
    pub(super) fn advice(&self) -> String {
        match self {
            Self::Same(name) => {
                format!(
                    "put the password that the server takes into {name}, or correct `user` in the database's section of the config"
                )
            }
            Self::Unreadable(_, e) => e.advice.clone(),
        }
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(name) => write!(f, "{name} was read again and holds the same password"),
            Self::Unreadable(name, e) => write!(f, "{name} could not be read again: {}", e.came_back),
        }
    }
}

/// The password as it was last read, for every connection of a pool.
pub(super) struct Password {
    now: Mutex<Now>,
    source: Option<PasswordSource>,
    /// Held while reading: connections that are refused together read once.
    reading: tokio::sync::Mutex<()>,
}

/// What was found when it was last read.
#[derive(Clone)]
pub(super) struct Now {
    /// The password, as long as there is one.
    pub password: Option<Secret>,
    /// How often it has been read again.
    number: u64,
    /// Why it could not be read the last time.
    trouble: Option<PortError>,
}

impl Password {
    pub(super) fn new(password: Option<Secret>, source: Option<PasswordSource>) -> Self {
        let now = Now { password, number: 0, trouble: None };
        Self { now: Mutex::new(now), source, reading: tokio::sync::Mutex::default() }
    }

    /// The password to try, to be given to [`Password::again`] when it is refused.
    pub(super) fn now(&self) -> Now {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another password after `tried` was refused; `None` when there is no place to read it from. Reads once, however
    /// many connections were refused at the same time.
    pub(super) async fn again(&self, tried: &Now) -> Result<Option<Secret>, Stale> {
        let Some(source) = &self.source else { return Ok(None) };
        let _reading = self.reading.lock().await;
        let mut now = self.now();
        if now.number == tried.number {
            let read = (source.read)().await;
            now.number += 1;
            now.trouble = None;
            match read {
                Ok(password) => now.password = Some(password),
                Err(e) => now.trouble = Some(e),
            }
            *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now.clone();
        }
        match now {
            Now { trouble: Some(e), .. } => Err(Stale::Unreadable(source.name.clone(), e)),
            Now { password, .. } if password == tried.password => Err(Stale::Same(source.name.clone())),
            Now { password, .. } => Ok(password),
        }
    }
}
