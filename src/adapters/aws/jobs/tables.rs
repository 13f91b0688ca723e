//! Backups and deletions of DynamoDB tables.

use aws_sdk_dynamodb::types::{BackupStatus, BackupTypeFilter};

use super::AwsJobs;
use crate::adapters::aws::port_error;
use crate::ports::{ErrorKind, JobProgress, JobState, PortError, PortResult};

fn on(table: &str) -> String {
    format!("table {table}")
}

impl AwsJobs {
    /// The status of a table; `Invalid` while it is protected and shall be deleted.
    pub(super) async fn look_at(&self, table: &str, delete: bool) -> PortResult<String> {
        let asked = self.dynamodb.describe_table().table_name(table).send().await;
        let found = asked.map_err(|e| port_error("look at", &on(table), &e))?.table;
        let found = found.ok_or_else(|| PortError::new(ErrorKind::NotFound, "look at", on(table), "there is none"))?;
        if delete && found.deletion_protection_enabled() == Some(true) {
            let error = PortError::new(ErrorKind::Invalid, "look at", on(table), "deletion protection is on");
            return Err(error.advise("turn it off by hand when it may really go"));
        }
        Ok(found.table_status().map_or("?", |status| status.as_str()).to_owned())
    }

    /// The status, as DynamoDB says it.
    pub(super) async fn table_status(&self, table: &str) -> PortResult<String> {
        self.look_at(table, false).await
    }

    pub(super) async fn back_up(&self, table: &str, name: &str) -> PortResult<String> {
        let asked = self.dynamodb.create_backup().table_name(table).backup_name(name).send().await;
        let made = asked.map_err(|e| match port_error("back up", &on(table), &e) {
            busy if busy.came_back.starts_with("BackupInUse") || busy.came_back.starts_with("TableInUse") => {
                PortError { kind: ErrorKind::Conflict, ..busy }.advise("wait until the other backup has ended")
            }
            error => error,
        })?;
        made.backup_details
            .map(|details| details.backup_arn)
            .ok_or_else(|| PortError::new(ErrorKind::Internal, "back up", on(table), "the answer names no backup"))
    }

    /// The backup of this name.
    pub(super) async fn find_backup(&self, table: &str, name: &str) -> PortResult<Option<String>> {
        let mut next = None;
        loop {
            let asked = self
                .dynamodb
                .list_backups()
                .table_name(table)
                .backup_type(BackupTypeFilter::User)
                .set_exclusive_start_backup_arn(next)
                .send()
                .await;
            let page = asked.map_err(|e| port_error("list the backups of", &on(table), &e))?;
            let found = page.backup_summaries().iter().find(|backup| backup.backup_name() == Some(name));
            if let Some(arn) = found.and_then(|backup| backup.backup_arn()) {
                return Ok(Some(arn.to_owned()));
            }
            next = page.last_evaluated_backup_arn().map(str::to_owned);
            if next.is_none() {
                return Ok(None);
            }
        }
    }

    /// How far a backup is. It can be restored from once it is available.
    pub(super) async fn backup(&self, arn: &str) -> PortResult<JobProgress> {
        let asked = self.dynamodb.describe_backup().backup_arn(arn).send().await;
        let answer = asked.map_err(|e| port_error("ask after", &format!("backup {arn}"), &e))?;
        let details = answer.backup_description.and_then(|description| description.backup_details);
        let Some(details) = details else {
            return Err(PortError::new(ErrorKind::NotFound, "ask after", format!("backup {arn}"), "there is none"));
        };
        let state = match &details.backup_status {
            BackupStatus::Available => JobState::Done,
            BackupStatus::Deleted => JobState::Failed,
            _ => JobState::Running,
        };
        let said = format!("{} {}", details.backup_name, details.backup_status.as_str());
        Ok(JobProgress { state, percent: None, said })
    }

    pub(super) async fn delete_table(&self, table: &str) -> PortResult<()> {
        match self.dynamodb.delete_table().table_name(table).send().await {
            Ok(_) => Ok(()),
            Err(e) => {
                let error = port_error("delete", &on(table), &e);
                // Being deleted already, or busy with something else.
                match self.look_at(table, false).await {
                    Ok(status) if status.starts_with("DELETING") => Ok(()),
                    Ok(_) if error.came_back.starts_with("ResourceInUse") => {
                        Err(PortError { kind: ErrorKind::Conflict, ..error }.advise("wait until it is ACTIVE"))
                    }
                    _ => Err(error),
                }
            }
        }
    }
}
