//! The primary key's index, which is built after the rows too where their source says itself that no key comes twice.
//!
//! A source is read while it is written: a row that is updated may be read where it was and again where it is. Without
//! the index both land, and all but one are removed before it is built. Which one stays does not matter: the update is
//! in the log, and is applied after the load.

use deadpool_postgres::Transaction;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::super::connect::Object;
use super::super::names::qualified;
use super::super::owner::Of;
use super::roomy;
use crate::domain::plan::Table;
use crate::ports::SetAside;

/// Between the statement that builds the index and the one that makes it the key.
const THEN: &str = "; ALTER TABLE ";

/// The index of the primary key of `$1` over the columns `$2`, if nothing refers to it, nothing identifies rows by it but
/// the key itself, and nothing about it is out of the ordinary. Where another index refuses rows too it stays: a row that
/// was read twice would be refused by that one, and is found by its key. So does one of a table with triggers: they would
/// fire when one of two goes.
const MOVABLE: &str = "
WITH key AS (
  SELECT i.*, x.relname, x.relnamespace, pg_get_indexdef(x.oid) AS def,
         (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n)
          FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS cols,
         (SELECT array_agg(a.attname::text ORDER BY a.attname::text)
          FROM unnest(i.indkey::int2[]) k(attnum)
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS names
  FROM pg_index i
  JOIN pg_class x ON x.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_constraint c ON c.conindid = x.oid AND c.conrelid = t.oid AND c.contype = 'p' AND c.conname = x.relname
  WHERE i.indrelid = to_regclass($1) AND t.relkind = 'r' AND NOT t.relispartition AND t.relreplident = 'd'
    AND i.indisprimary AND i.indisvalid AND i.indisready AND NOT i.indisclustered AND i.indnatts = i.indnkeyatts
    AND NOT c.condeferrable AND x.reltablespace = 0 AND x.reloptions IS NULL
    AND obj_description(x.oid, 'pg_class') IS NULL AND obj_description(c.oid, 'pg_constraint') IS NULL
    AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = t.oid OR inhrelid = t.oid)
    AND NOT EXISTS (SELECT FROM pg_index o WHERE o.indrelid = t.oid AND o.indexrelid <> x.oid
                      AND (o.indisunique OR o.indisexclusion))
    AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D')
    AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.conindid = x.oid AND f.contype = 'f')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_constraint'::regclass AND d.refobjid = c.oid
                      AND d.deptype <> 'i')
    AND NOT EXISTS (SELECT FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname
                    WHERE p.tablename = t.relname AND n.oid = t.relnamespace))
SELECT quote_ident(n.nspname) || '.' || quote_ident(key.relname), key.def, quote_ident(key.relname)
FROM key JOIN pg_namespace n ON n.oid = key.relnamespace
WHERE right(key.def, length(key.cols) + 14) = 'USING btree (' || key.cols || ')' AND key.names = $2";

/// The index that is the table's primary key and can be built later, as it is stored: how to build it, and how to make
/// it the key.
pub(super) async fn movable(client: &Transaction<'_>, table: &Table) -> Result<Option<SetAside>, Error> {
    let on = qualified(&table.target);
    let mut key: Vec<&str> = table.columns.iter().filter(|c| c.key).map(|c| c.name.as_str()).collect();
    key.sort_unstable();
    let Some(row) = client.query_opt(MOVABLE, &[&on, &key]).await? else { return Ok(None) };
    let (name, build, own): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let definition = format!("{build}{THEN}{on} ADD CONSTRAINT {own} PRIMARY KEY USING INDEX {own}");
    Ok(Some(SetAside { name, definition }))
}

/// Takes the key away from its table.
pub(super) async fn drop(client: &Transaction<'_>, key: &SetAside) -> Result<(), Error> {
    let Some(Key { on, own, .. }) = Key::of(key) else { return Ok(()) };
    client.batch_execute(&format!("ALTER TABLE {on} DROP CONSTRAINT {own}")).await
}

/// A stored definition in its parts.
struct Key<'s> {
    /// Builds the index.
    build: &'s str,
    /// Makes it the key.
    attach: &'s str,
    /// The table, and its columns, as statements name them.
    on: &'s str,
    columns: &'s str,
    /// The index's own name.
    own: &'s str,
}

impl<'s> Key<'s> {
    /// `None` for an index that is no key.
    fn of(stored: &'s SetAside) -> Option<Self> {
        let definition = stored.definition.as_str();
        let at = definition.find(THEN)?;
        let build = &definition[..at];
        let attach = &definition[at + 2..];
        let (on, rest) = definition[at + THEN.len()..].split_once(" ADD CONSTRAINT ")?;
        let (_, own) = rest.split_once(" PRIMARY KEY USING INDEX ")?;
        let (_, columns) = build.split_once(" USING btree (")?;
        Some(Self { build, attach, on, columns: columns.strip_suffix(')')?, own })
    }
}

/// Whether what is stored is a key.
pub(super) fn is_key(stored: &SetAside) -> bool {
    Key::of(stored).is_some()
}

/// Whether what is stored is the key of a table that is there.
pub(super) async fn table_is_there(client: &Object, stored: &SetAside) -> Result<bool, Error> {
    let Some(Key { on, .. }) = Key::of(stored) else { return Ok(false) };
    client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&on]).await?.try_get(0)
}

/// Whether the key of a table is set aside at this moment: then rows are only added.
pub(in crate::adapters::postgres) async fn is_aside(client: &Object, of: Of<'_>) -> Result<bool, Error> {
    Ok(super::missing(client, of).await?.iter().any(is_key))
}

/// Builds the index if it is not there. Rows that have a key twice leave one of them; says how many went.
pub(super) async fn build(client: &mut Object, stored: &SetAside) -> Result<u64, Error> {
    let Some(key) = Key::of(stored) else { return Ok(0) };
    match built(client, stored, &key).await {
        Err(e) if e.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            let tx = client.transaction().await?;
            roomy(&tx).await?;
            let Key { on, columns, .. } = key;
            let gone = format!(
                "DELETE FROM {on} WHERE ctid IN (SELECT ctid FROM (
                   SELECT ctid, row_number() OVER (PARTITION BY {columns} ORDER BY ctid DESC) AS nth FROM {on}) twice
                 WHERE nth > 1)"
            );
            let gone = tx.execute(&gone, &[]).await?;
            tx.commit().await?;
            built(client, stored, &key).await?;
            Ok(gone)
        }
        done => done.map(|()| 0),
    }
}

async fn built(client: &mut Object, stored: &SetAside, key: &Key<'_>) -> Result<(), Error> {
    let tx = client.transaction().await?;
    roomy(&tx).await?;
    if !super::locked(&tx, stored).await? {
        return Ok(());
    }
    // A person may have given the table a key meanwhile, under whatever name.
    let sql = format!("SELECT to_regclass($1) IS NOT NULL OR {HAS_KEY}");
    let row = tx.query_one(&sql, &[&stored.name, &key.on]).await?;
    if !row.try_get::<_, bool>(0)? {
        tx.batch_execute(key.build).await?;
    }
    tx.commit().await
}

/// Whether the table `$2` has a primary key.
const HAS_KEY: &str = "EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass($2) AND contype = 'p')";

/// Makes the index the key, unless it is, and forgets it. The table is locked for a moment: nobody builds another index.
pub(super) async fn attach(client: &mut Object, stored: &SetAside) -> Result<(), Error> {
    let Some(key) = Key::of(stored) else { return Ok(()) };
    let tx = client.transaction().await?;
    roomy(&tx).await?;
    if !super::locked(&tx, stored).await? {
        return Ok(());
    }
    let sql = format!(
        "SELECT {HAS_KEY}, to_regclass($1) IS NOT NULL
                AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = to_regclass($1))"
    );
    let row = tx.query_one(&sql, &[&stored.name, &key.on]).await?;
    match (row.try_get(0)?, row.try_get(1)?) {
        (false, _) => tx.batch_execute(key.attach).await?,
        // Somebody gave the table a key under another name: ours is one too many.
        (true, true) => tx.batch_execute(&format!("DROP INDEX {}", stored.name)).await?,
        (true, false) => {}
    }
    tx.execute("DELETE FROM cutover.set_aside WHERE name = $1", &[&stored.name]).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_is_read_as_it_was_written_whatever_its_names() {
        let definition = "CREATE UNIQUE INDEX \"a (b\" ON public.\"T; x\" USING btree (id, \"k)\"); ALTER TABLE public.\"T; x\" \
                          ADD CONSTRAINT \"a (b\" PRIMARY KEY USING INDEX \"a (b\"";
        let stored = SetAside { name: "public.\"a (b\"".into(), definition: definition.into() };
        let key = Key::of(&stored).unwrap();
        assert_eq!((key.on, key.columns, key.own), ("public.\"T; x\"", "id, \"k)\"", "\"a (b\""));
        assert!(key.attach.starts_with("ALTER TABLE public"));
        let index = SetAside { name: "i".into(), definition: "CREATE INDEX i ON public.t USING btree (id)".into() };
        assert!(!is_key(&index));
    }
}
