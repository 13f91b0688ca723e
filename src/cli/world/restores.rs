//! A store that an export is written back into: any that the config names.

use std::sync::Arc;

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::nearest;
use super::{
    OTHER_ACCOUNT_ADVICE, aws, aws_session, aws_settings, credentials, dynamodb, password, postgresql, switches,
};
use crate::adapters::aws::AwsIdentity;
use crate::config::{Connections, Credentials, StoreConnection};
use crate::domain::run::another_account;
use crate::ports::{Identity as _, Restore};

/// How the store of this name is reached.
///
/// # Errors
/// The config names no such store.
pub fn named(connections: &Connections, store: &str) -> Result<StoreConnection, Failure> {
    let mut all = connections.sources();
    all.extend(connections.targets.clone());
    all.get(store).cloned().ok_or_else(|| {
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        let near =
            nearest(store, names.iter().copied()).map_or_else(String::new, |near| format!("; did you mean {near}?"));
        Failure::new(Exit::Usage, format!("the config names no store `{store}`, but {}{near}", names.join(", ")))
    })
}

/// What restores into the store of this name. Whose calls to it are signed is asked first where the config pins an account.
///
/// # Errors
/// No such store, no password or credentials, another account than the config pins.
pub async fn restores(connections: &Connections, store: &str) -> Result<Arc<dyn Restore>, Failure> {
    match named(connections, store)? {
        StoreConnection::Dynamodb(tables) => {
            let (session, settings) = (aws_session(&tables).await, aws_settings(&tables));
            credentials(&session, &settings).await?;
            let emulator = tables.credentials == Credentials::Emulator;
            let stores = vec![(store.to_owned(), Vec::new())];
            let identity = AwsIdentity::new(&session, tables.endpoints.sts.as_deref(), emulator, stores);
            let callers = if tables.account.is_some() { identity.callers().await } else { Default::default() };
            let caller = callers.get(store).cloned().unwrap_or_default();
            if let Some(wrong) = another_account(tables.account.as_deref(), &caller) {
                let text = format!("the `{store}` store: {wrong}; nothing was begun ({OTHER_ACCOUNT_ADVICE})");
                return Err(Failure::new(Exit::Denied, text));
            }
            Ok(dynamodb::restore(&tables, &session)?)
        }
        StoreConnection::Postgresql(postgres) => {
            let control = aws(connections.aws.as_ref());
            let switches = switches(&aws_session(&control).await, &control.endpoints);
            let password = password(store, &postgres, &*switches).await?;
            Ok(postgresql::restore(&postgres, password, &switches)?)
        }
    }
}
