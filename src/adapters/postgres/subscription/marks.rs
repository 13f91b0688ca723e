//! The table of ours that is part of the publication: a marker is a row in it, and takes the way of every change.

use tokio_postgres::Error;

use super::Called;
use crate::adapters::postgres::connect::{Ask, Object};
use crate::adapters::postgres::names::{ident, qualified};
use crate::adapters::postgres::trouble;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult};

/// What is said of our schema at a source where we made it: then it goes with the last that stands in it.
const MADE: &str = "cutover: made for markers";

/// The statement that makes the table, in a schema that is there.
pub(super) fn create(marks: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (table_id text NOT NULL, nonce text NOT NULL,
         at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (table_id, nonce))",
        qualified(marks)
    )
}

/// Makes the table at the source, readable for whoever the subscriber signs in as.
pub(super) async fn at_source(client: &Object, marks: &str, reader: &str) -> Result<(), Error> {
    let schema = format!(
        "DO $$ BEGIN IF to_regnamespace('cutover') IS NULL THEN
             CREATE SCHEMA cutover; COMMENT ON SCHEMA cutover IS '{MADE}';
         END IF; END $$"
    );
    let own: bool = client.query_one("SELECT current_user::text = $1", &[&reader]).await?.try_get(0)?;
    let grant = if own {
        String::new()
    } else {
        format!("GRANT USAGE ON SCHEMA cutover TO {0}; GRANT SELECT ON {1} TO {0}", ident(reader), qualified(marks))
    };
    client.batch_execute(&format!("{schema}; {}; {grant}", create(marks))).await
}

/// Removes the table from the source, and our schema where we made it and nothing else stands in it.
pub(super) async fn gone_from_source(client: &Object, marks: &str) -> Result<(), Error> {
    client.batch_execute(&format!("DROP TABLE IF EXISTS {}", qualified(marks))).await?;
    let schema = format!(
        "DO $$ BEGIN
             IF obj_description(to_regnamespace('cutover')::oid, 'pg_namespace') = '{MADE}' THEN DROP SCHEMA cutover; END IF;
         EXCEPTION WHEN dependent_objects_still_exist THEN NULL; END $$"
    );
    client.batch_execute(&schema).await
}

/// What an error of the table means, where it is not there: nothing was made yet, or it was removed.
fn said(e: &Error, tried: &str, table: &Table) -> PortError {
    let said = trouble::error(e, tried, &table.source);
    if said.kind == ErrorKind::NotFound {
        return said.advise("the capture step makes the table of markers; start it first");
    }
    said
}

/// Writes a marker of a table at the source.
pub(in crate::adapters::postgres) async fn put_mark(
    client: &Object,
    plan: &str,
    table: &Table,
    nonce: &str,
) -> PortResult<()> {
    let marks = qualified(&Called::of(plan, &table.from).marks);
    let sql = format!("INSERT INTO {marks} (table_id, nonce) VALUES ($1, $2)");
    let put = client.execute(&sql, &[&table.id, &nonce]).await;
    put.map(drop).map_err(|e| said(&e, "write a marker for", table))
}

/// Removes a marker of a table at the source.
pub(in crate::adapters::postgres) async fn delete_mark(
    client: &Object,
    plan: &str,
    table: &Table,
    nonce: &str,
) -> PortResult<()> {
    let marks = qualified(&Called::of(plan, &table.from).marks);
    let sql = format!("DELETE FROM {marks} WHERE table_id = $1 AND nonce = $2");
    match client.execute(&sql, &[&table.id, &nonce]).await.map_err(|e| said(&e, "remove a marker of", table)) {
        // It went with its table.
        Err(e) if e.kind == ErrorKind::NotFound => Ok(()),
        done => done.map(drop),
    }
}

/// Whether a marker of a table has arrived at the target.
pub(in crate::adapters::postgres) async fn mark_stands(
    client: &Object,
    plan: &str,
    table: &Table,
    nonce: &str,
) -> PortResult<bool> {
    let marks = qualified(&Called::of(plan, &table.from).marks);
    let sql = format!("SELECT FROM {marks} WHERE table_id = $1 AND nonce = $2");
    let found = client.ask_one(&sql, &[&table.id, &nonce]).await;
    found.map(|row| row.is_some()).map_err(|e| said(&e, "read markers of", table))
}
