//! What captures changes: a trigger on every moved table that writes the row's states into the outbox, in the
//! transaction of the change itself. Works behind any pooler, because it needs nothing of the session.

use crate::adapters::postgres::names::{ident, qualified};
use crate::adapters::postgres::shape::{Part, Shape};
use crate::domain::plan::{Column, Table};

/// Transactions that set this are ours and leave no records: `SET LOCAL cutover.origin = 'forward'`.
pub(in crate::adapters::postgres) const OURS: &str = "SELECT set_config('cutover.origin', 'forward', true)";

/// The outbox and what belongs to it. No index holds a key itself: one that the table takes may be too long for ours, and
/// then the customer's own write would fail. `part` is 0 for the main table, n for the n-th child, -1 for markers.
pub(super) const TABLES: &str = r#"
SELECT pg_advisory_xact_lock(7162838421);
CREATE TABLE IF NOT EXISTS cutover.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, table_id text NOT NULL, part smallint NOT NULL,
    key jsonb NOT NULL, before jsonb, after jsonb, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX IF NOT EXISTS outbox_order ON cutover.outbox (table_id, id);
DROP INDEX IF EXISTS cutover.outbox_key;
CREATE INDEX IF NOT EXISTS outbox_by_key ON cutover.outbox USING hash (key);
CREATE TABLE IF NOT EXISTS cutover.reverse_turn (one boolean PRIMARY KEY);
CREATE TABLE IF NOT EXISTS cutover.reverse_back (one boolean PRIMARY KEY);
CREATE TABLE IF NOT EXISTS cutover.reverse_image (
    table_id text NOT NULL, key_digest bytea NOT NULL, key text NOT NULL, digest text NOT NULL, record bigint NOT NULL,
    clash text NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (table_id, key_digest, digest));
CREATE TABLE IF NOT EXISTS cutover.reverse_tally (
    table_id text PRIMARY KEY, carried bigint NOT NULL, merged bigint NOT NULL, conflicts bigint NOT NULL);
CREATE TABLE IF NOT EXISTS cutover.reverse_conflict (
    table_id text NOT NULL, key_digest bytea NOT NULL, key text NOT NULL, clash text NOT NULL,
    PRIMARY KEY (table_id, key_digest));
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = 'cutover.reverse_image'::regclass AND attname = 'key_digest') THEN
        ALTER TABLE cutover.reverse_image ADD COLUMN key_digest bytea;
        ALTER TABLE cutover.reverse_conflict ADD COLUMN key_digest bytea;
        UPDATE cutover.reverse_image SET key_digest = sha256(convert_to(key, 'UTF8'));
        UPDATE cutover.reverse_conflict SET key_digest = sha256(convert_to(key, 'UTF8'));
        ALTER TABLE cutover.reverse_image DROP CONSTRAINT reverse_image_pkey;
        ALTER TABLE cutover.reverse_image ADD PRIMARY KEY (table_id, key_digest, digest);
        ALTER TABLE cutover.reverse_conflict DROP CONSTRAINT reverse_conflict_pkey;
        ALTER TABLE cutover.reverse_conflict ADD PRIMARY KEY (table_id, key_digest);
    END IF;
END $$;
CREATE TABLE IF NOT EXISTS cutover.reverse_marker (table_id text NOT NULL, nonce text NOT NULL);
CREATE OR REPLACE FUNCTION cutover.capture_marker() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO cutover.outbox (table_id, part, key)
    VALUES (NEW.table_id, -1, jsonb_build_object('nonce', NEW.nonce));
    RETURN NULL;
END $$;
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'cutover.reverse_marker'::regclass AND NOT tgisinternal) THEN
        CREATE TRIGGER cutover_capture AFTER INSERT ON cutover.reverse_marker
            FOR EACH ROW EXECUTE FUNCTION cutover.capture_marker();
    END IF;
END $$;
CREATE OR REPLACE FUNCTION cutover.stop_capture() RETURNS void LANGUAGE plpgsql AS $$
DECLARE t record;
BEGIN
    FOR t IN SELECT tgname, tgrelid::regclass AS owner FROM pg_trigger
             WHERE starts_with(tgname::text, 'cutover_capture_') AND NOT tgisinternal AND tgparentid = 0 LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.owner);
    END LOOP;
    TRUNCATE cutover.outbox, cutover.reverse_image, cutover.reverse_tally, cutover.reverse_conflict,
        cutover.reverse_back;
END $$;
"#;

/// The triggers of one table: one for each row that changes, one for all that `TRUNCATE` takes away.
pub(super) struct Trigger {
    /// The captured table, quoted.
    pub on: String,
    /// The captured table, as the plan writes it.
    pub named: String,
    /// Makes the function they call.
    pub function: String,
    /// Their names, which change with the mapping, and what makes each.
    pub create: [(String, String); 2],
}

/// The triggers of a table and its children.
pub(super) fn triggers(table: &Table, shape: &Shape) -> Vec<Trigger> {
    let key: Vec<(&str, &str)> = table.key_columns().map(|name| (name, name)).collect();
    let mut all = vec![trigger(table, 0, &shape.main, &table.columns, &key)];
    for (n, (part, child)) in shape.children.iter().zip(&table.children).enumerate() {
        let key: Vec<(&str, &str)> = part.parent_key.iter().map(String::as_str).zip(table.key_columns()).collect();
        all.push(trigger(table, n + 1, part, &child.columns, &key));
    }
    all
}

/// `key` names the columns here and what they are called in the main table.
fn trigger(table: &Table, part: usize, shape: &Part, columns: &[Column], key: &[(&str, &str)]) -> Trigger {
    let all = |side: &str| columns.iter().map(|c| format!("{side}.{}", ident(&c.name))).collect::<Vec<_>>().join(", ");
    let keys = |side: &str| {
        let each = key.iter().map(|(here, there)| format!("{side}.{} AS {}", ident(here), ident(there)));
        each.collect::<Vec<_>>().join(", ")
    };
    let id = table.id.replace('\'', "''");
    let body = format!(
        "DECLARE b jsonb; a jsonb; bk jsonb; ak jsonb;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        EXECUTE $all$INSERT INTO cutover.outbox (table_id, part, key, before)
        SELECT '{id}', {part}, (SELECT to_jsonb(r) FROM (SELECT {every_key}) r), (SELECT to_jsonb(r) FROM (SELECT {every}) r)
        FROM $all$ || format('%I.%I t', TG_TABLE_SCHEMA, TG_TABLE_NAME);
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        b := (SELECT to_jsonb(r) FROM (SELECT {old}) r);
        bk := (SELECT to_jsonb(r) FROM (SELECT {old_key}) r);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        a := (SELECT to_jsonb(r) FROM (SELECT {new}) r);
        ak := (SELECT to_jsonb(r) FROM (SELECT {new_key}) r);
    END IF;
    IF a IS NOT DISTINCT FROM b AND current_setting('cutover.origin', true) IS DISTINCT FROM 'exercise' THEN
        RETURN NULL;
    END IF;
    IF bk IS NULL OR ak IS NULL OR bk = ak THEN
        INSERT INTO cutover.outbox (table_id, part, key, before, after) VALUES ('{id}', {part}, coalesce(ak, bk), b, a);
    ELSE
        INSERT INTO cutover.outbox (table_id, part, key, before, after)
        VALUES ('{id}', {part}, bk, b, NULL), ('{id}', {part}, ak, NULL, a);
    END IF;
    RETURN NULL;
END",
        old = all("OLD"),
        new = all("NEW"),
        old_key = keys("OLD"),
        new_key = keys("NEW"),
        every = all("t"),
        every_key = keys("t"),
    );
    let mut crc = crc32fast::Hasher::new();
    crc.update(shape.sql.as_bytes());
    crc.update(body.as_bytes());
    let hash = format!("{:08x}", crc.finalize());
    let name = format!("cutover_capture_{hash}");
    let on = qualified(&shape.name);
    // The owner's rights: customers' roles need none on the outbox.
    let function = format!(
        "CREATE OR REPLACE FUNCTION cutover.capture_{hash}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
         SET search_path = pg_catalog, pg_temp AS $cutover$ {body} $cutover$"
    );
    let does = format!(
        "WHEN (current_setting('cutover.origin', true) IS DISTINCT FROM 'forward') \
         EXECUTE FUNCTION cutover.capture_{hash}()"
    );
    let rows = format!("CREATE TRIGGER {name} AFTER INSERT OR UPDATE OR DELETE ON {on} FOR EACH ROW {does}");
    let whole = format!("CREATE TRIGGER {name}_all BEFORE TRUNCATE ON {on} FOR EACH STATEMENT {does}");
    let create = [(name.clone(), rows), (format!("{name}_all"), whole)];
    Trigger { on, named: shape.name.clone(), function, create }
}
