//! Makes target tables by the DDL that the plan gives.

use deadpool_postgres::Transaction;

use super::connect::Object;
use super::names::qualified;
use super::target::PgTarget;
use super::{ddl, describe, lease, outbox, retry};
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
        self.run_ddl(&tx, table, &ddl).await?;
        tx.commit().await.map_err(&error)?;
        drop(own);
        if describe::exists(&client, &table.target).await.map_err(&error)? {
            return Ok(true);
        }
        Err(PortError::new(ErrorKind::Invalid, "create", &table.target, "its DDL ran but created another table")
            .advise("names are case-sensitive here; make the DDL and the plan agree"))
    }

    /// Runs DDL, and notes that the plan made the table.
    async fn run_ddl(&self, tx: &Transaction<'_>, table: &Table, sql: &str) -> PortResult<()> {
        let error = self.error("create", &table.target);
        let sql = ddl::without_schemas(tx, sql).await.map_err(&error)?;
        tx.batch_execute(&sql).await.map_err(|e| ddl::failed(&e, &sql, &table.target))?;
        let note = "INSERT INTO cutover.created (plan, table_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        tx.execute(note, &[&self.plan(), &table.id]).await.map_err(&error).map(drop)
    }

    /// See [`crate::ports::Target::make_anew`]. Tables with DDL go and come in one transaction: where one of them cannot be
    /// made again, all of them are as they were.
    pub(super) async fn make_tables_anew(&self, tables: &[Table]) -> PortResult<()> {
        let (made, emptied): (Vec<&Table>, Vec<&Table>) = tables.iter().partition(|table| table.ddl.is_some());
        let tried = "make anew";
        if let Some(first) = made.first() {
            let error = self.error(tried, &first.target);
            let client = self.client().await?;
            let mut there = Vec::new();
            for table in &made {
                for name in table.children.iter().map(|c| &c.target).chain([&table.target]) {
                    if describe::exists(&client, name).await.map_err(&error)? {
                        there.push(qualified(name));
                    }
                }
            }
            let mut own = Object::take(client);
            let tx = own.transaction().await.map_err(&error)?;
            tx.batch_execute(outbox::OURS).await.map_err(&error)?;
            tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(&error)?;
            for table in &made {
                self.may_empty(&tx, table, tried).await?;
                self.forget_load(&tx, table, tried).await?;
                for kept in ["set_aside", "created"] {
                    let sql = format!("DELETE FROM cutover.{kept} WHERE plan = $1 AND table_id = $2");
                    tx.execute(&sql, &[&self.plan(), &table.id]).await.map_err(&error)?;
                }
            }
            // All at once, for they may refer to each other. What others have that depends on them refuses it.
            if !there.is_empty() {
                tx.batch_execute(&format!("DROP TABLE {}", there.join(", "))).await.map_err(&error)?;
            }
            for table in &made {
                let Some(text) = &table.ddl else { continue };
                let sql = ddl::sql(text).map_err(|e| ddl::refused(&e, &table.target))?;
                self.run_ddl(&tx, table, &sql).await?;
                // What one dump set for its session must not affect the next.
                tx.batch_execute("RESET ALL; SET LOCAL statement_timeout = 0").await.map_err(&error)?;
            }
            let fenced = lease::fence(&tx, self.plan(), self.epoch(), (tried, &first.target)).await;
            fenced.map_err(|failure| retry::answer(failure, tried, &first.target))?;
            tx.commit().await.map_err(&error)?;
        }
        for table in emptied {
            self.empty_table(table).await?;
        }
        Ok(())
    }
}
