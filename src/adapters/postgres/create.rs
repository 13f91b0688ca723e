//! Makes a target table by the DDL that the plan gives.

use super::connect::Object;
use super::target::PgTarget;
use super::{ddl, describe};
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult};

impl PgTarget {
    /// Makes a table by its DDL unless it is there. See [`crate::ports::Target::create`].
    pub(super) async fn create_table(&self, table: &Table) -> PortResult<bool> {
        let error = self.error("create", &table.target);
        let client = self.client().await?;
        if describe::exists(&client, &table.target).await.map_err(&error)? {
            return Ok(false);
        }
        let Some(ddl) = &table.ddl else {
            return Err(PortError::new(ErrorKind::NotFound, "create", &table.target, "the plan has no DDL for it")
                .advise("create the table, or give its DDL in the table's section"));
        };
        let ddl = ddl::sql(ddl).map_err(|e| ddl::refused(&e, &table.target))?;
        // What a dump sets for its session must not affect others: the connection leaves the pool and is closed.
        let mut own = Object::take(self.client().await?);
        let tx = own.transaction().await.map_err(&error)?;
        tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(&error)?;
        let ddl = ddl::without_schemas(&tx, &ddl).await.map_err(&error)?;
        tx.batch_execute(&ddl).await.map_err(|e| ddl::failed(&e, &ddl, &table.target))?;
        let sql = "INSERT INTO cutover.created (plan, table_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        tx.execute(sql, &[&self.plan(), &table.id]).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        drop(own);
        if describe::exists(&client, &table.target).await.map_err(&error)? {
            return Ok(true);
        }
        Err(PortError::new(ErrorKind::Invalid, "create", &table.target, "its DDL ran but created another table")
            .advise("names are case-sensitive here; make the DDL and the plan agree"))
    }
}
