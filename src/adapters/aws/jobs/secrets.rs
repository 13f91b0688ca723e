//! Deletions of secrets.

use aws_sdk_secretsmanager::Client;

use crate::adapters::aws::port_error;
use crate::ports::{ErrorKind, JobProgress, JobState, PortError, PortResult};

/// Whether it is there, and whether it is deleted already.
pub(super) async fn look(client: &Client, secret: &str) -> PortResult<String> {
    let asked = client.describe_secret().secret_id(secret).send().await;
    let found = asked.map_err(|e| port_error("look at", &format!("secret {secret}"), &e))?;
    if let Some(owner) = found.owning_service() {
        let why = format!("it belongs to {owner}, which deletes it itself");
        return Err(PortError::new(ErrorKind::Invalid, "look at", format!("secret {secret}"), why));
    }
    let copies: Vec<&str> = found.replication_status().iter().filter_map(|copy| copy.region()).collect();
    if !copies.is_empty() {
        let why = format!("it has copies in {}", copies.join(", "));
        let error = PortError::new(ErrorKind::Invalid, "look at", format!("secret {secret}"), why);
        return Err(error.advise("remove them first: aws secretsmanager remove-regions-from-replication"));
    }
    Ok(if found.deleted_date().is_some() { "deleted already" } else { "is there" }.to_owned())
}

/// Schedules its deletion.
pub(super) async fn delete(client: &Client, secret: &str, recovery_days: u8) -> PortResult<()> {
    let on = format!("secret {secret}");
    let asked = client.delete_secret().secret_id(secret).recovery_window_in_days(i64::from(recovery_days)).send().await;
    match asked {
        Ok(_) => Ok(()),
        Err(e) => {
            let error = port_error("delete", &on, &e);
            // One that is scheduled already is refused as one that cannot be changed.
            match deleted(client, secret).await {
                Ok(JobProgress { state: JobState::Done, .. }) => Ok(()),
                _ => Err(error),
            }
        }
    }
}

/// Whether it is deleted; until its last day it can be restored.
pub(super) async fn deleted(client: &Client, secret: &str) -> PortResult<JobProgress> {
    let asked = client.describe_secret().secret_id(secret).send().await;
    let done = |said: String| JobProgress { state: JobState::Done, percent: None, said };
    match asked {
        Ok(found) => Ok(match found.deleted_date() {
            Some(at) => done(format!("deleted; it can be restored until {at}")),
            None => JobProgress { state: JobState::Running, percent: None, said: "still there".to_owned() },
        }),
        Err(e) => match port_error("ask after", &format!("secret {secret}"), &e) {
            error if error.kind == ErrorKind::NotFound => Ok(done("gone".to_owned())),
            error => Err(error),
        },
    }
}
