//! What captures changes: a trigger on every moved table that writes the row's states into the outbox, in the
//! transaction of the change itself. Works behind any pooler, because it needs nothing of the session.

use crate::adapters::postgres::names::{ident, qualified};
use crate::adapters::postgres::native::Native;
use crate::adapters::postgres::shape::{Part, Shape};
use crate::adapters::postgres::subscription::Called;
use crate::domain::plan::{Column, MoverKind, Table};

/// Transactions that set this are ours and leave no records: `SET LOCAL cutover.origin = 'forward'`.
pub(in crate::adapters::postgres) const OURS: &str = "SELECT set_config('cutover.origin', 'forward', true)";

/// The outbox and what belongs to it. No index holds a key itself: one that the table takes may be too long for ours,
/// and then the customer's own write would fail. `part` is 0 for the main table, n for the n-th child, -1 for markers.
pub(in crate::adapters::postgres) const TABLES: &str = r#"
CREATE TABLE IF NOT EXISTS cutover.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, plan text NOT NULL, table_id text NOT NULL,
    part smallint NOT NULL, key jsonb NOT NULL, before jsonb, after jsonb,
    at timestamptz NOT NULL DEFAULT clock_timestamp());
DO $$ BEGIN
    IF to_regclass('cutover.outbox_plan_order') IS NULL THEN
        CREATE INDEX outbox_plan_order ON cutover.outbox (plan, table_id, id);
    END IF;
    IF to_regclass('cutover.outbox_markers') IS NULL THEN
        CREATE INDEX outbox_markers ON cutover.outbox (plan, table_id, id) WHERE part = -1;
    END IF;
    IF to_regclass('cutover.outbox_by_key') IS NULL THEN
        CREATE INDEX outbox_by_key ON cutover.outbox USING hash (key);
    END IF;
END $$;
CREATE TABLE IF NOT EXISTS cutover.reverse_image (
    plan text NOT NULL, table_id text NOT NULL, key_digest bytea NOT NULL, key text NOT NULL, digest text NOT NULL,
    record bigint NOT NULL, resolution text NOT NULL, at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan, table_id, key_digest, digest));
CREATE INDEX IF NOT EXISTS reverse_image_age ON cutover.reverse_image (plan, at);
CREATE TABLE IF NOT EXISTS cutover.reverse_tally (
    plan text NOT NULL, table_id text NOT NULL, carried bigint NOT NULL, merged bigint NOT NULL,
    conflicts bigint NOT NULL, PRIMARY KEY (plan, table_id));
CREATE TABLE IF NOT EXISTS cutover.reverse_conflict (
    plan text NOT NULL, table_id text NOT NULL, key_digest bytea NOT NULL, key text NOT NULL, resolution text NOT NULL,
    PRIMARY KEY (plan, table_id, key_digest));
CREATE TABLE IF NOT EXISTS cutover.reverse_marker (
    plan text NOT NULL, table_id text NOT NULL, nonce text NOT NULL, PRIMARY KEY (plan, table_id, nonce));
CREATE OR REPLACE FUNCTION cutover.capture_marker() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO cutover.outbox (plan, table_id, part, key)
    VALUES (NEW.plan, NEW.table_id, -1, jsonb_build_object('nonce', NEW.nonce));
    RETURN NULL;
END $$;
DO $$ BEGIN
    -- Without a key no row could be deleted any more once somebody publishes all tables.
    IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = 'cutover.reverse_marker'::regclass AND indisprimary) THEN
        ALTER TABLE cutover.reverse_marker ADD PRIMARY KEY (plan, table_id, nonce);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'cutover.reverse_marker'::regclass AND NOT tgisinternal) THEN
        CREATE TRIGGER cutover_capture AFTER INSERT ON cutover.reverse_marker
            FOR EACH ROW EXECUTE FUNCTION cutover.capture_marker();
    END IF;
END $$;
"#;

/// Names of the triggers on a table that capture for this plan and this id of a table: they say so in their arguments.
pub(super) const THERE: &str = "
SELECT tgname::text FROM pg_trigger
WHERE tgrelid = to_regclass($1) AND NOT tgisinternal AND tgparentid = 0 AND starts_with(tgname::text, 'cutover_capture_')
  AND tgargs = convert_to($2, getdatabaseencoding()) || '\\x00'::bytea
            || convert_to($3, getdatabaseencoding()) || '\\x00'::bytea";

/// How values are written into records, whatever the customer's session is set to: a number that is rounded would hide a
/// change, and a key that is written in two ways would be two keys.
const FORMS: &str = "SET extra_float_digits = 1 SET bytea_output = 'hex' SET timezone = 'UTC'";

/// The same for types that only the database knows.
const NATIVE_FORMS: &str = "SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET lc_monetary = 'C'";

/// Whether every trigger stands, is switched on, and says that it captures for this plan.
pub(super) const ARMED: &str = "
SELECT count(DISTINCT (w.tab, w.name)) = cardinality($1::text[])
FROM unnest($1::text[], $2::text[], $3::text[]) w(tab, name, id)
JOIN pg_trigger t ON t.tgrelid = to_regclass(w.tab) AND t.tgenabled IN ('O', 'A') AND t.tgname = w.name
 AND t.tgargs = convert_to($4, getdatabaseencoding()) || '\\x00'::bytea
             || convert_to(w.id, getdatabaseencoding()) || '\\x00'::bytea";

/// The triggers of one table: one for each row that changes, one for all that `TRUNCATE` takes away.
pub(super) struct Trigger {
    /// The captured table, quoted.
    pub on: String,
    /// The captured table, as the plan writes it.
    pub named: String,
    /// Columns it captures.
    pub columns: Vec<String>,
    /// The function they call, with its schema.
    pub calls: String,
    /// Makes that function.
    pub function: String,
    /// Their names, which change with the mapping, and what makes each.
    pub create: [(String, String); 2],
}

/// The triggers of a table and its children.
pub(super) fn triggers(table: &Table, shape: &Shape) -> Vec<Trigger> {
    let key: Vec<(&str, &str)> = table.key_columns().map(|name| (name, name)).collect();
    let mut all = vec![trigger((table, shape), 0, &shape.main, &table.columns, &key)];
    for (n, (part, child)) in shape.children.iter().zip(&table.children).enumerate() {
        let key: Vec<(&str, &str)> = part.parent_key.iter().map(String::as_str).zip(table.key_columns()).collect();
        all.push(trigger((table, shape), n + 1, part, &child.columns, &key));
    }
    all
}

/// How a trigger's function makes the JSON of a row.
struct RowWords {
    declared: &'static str,
    /// What is done first in the statement for all rows.
    find: String,
    /// Of a row `t`, in that statement.
    every: &'static str,
    old: String,
    new: String,
    /// Whether the rows before and after are the same, all of their columns.
    same: &'static str,
}

/// The server's own JSON of a row, unless there are columns whose type only the database knows: JSON has other forms for
/// arrays, for composite values and for JSON itself than the type, so that what it was made of could not be told any
/// more, and some values it has none for, which would fail the customer's write. Then the text of such a column stands in
/// place of its JSON, and no other columns are looked at.
///
/// Columns are named, which is ten times faster than to ask which there are. Once one is not as it was, they are asked
/// for: it is left out, as below.
fn row_words(shape: &Part) -> RowWords {
    if shape.natives().is_empty() {
        return RowWords {
            declared: "",
            find: String::new(),
            every: "to_jsonb(t.*)",
            old: "o := to_jsonb(OLD);".to_owned(),
            new: "n := to_jsonb(NEW);".to_owned(),
            same: "o IS NOT DISTINCT FROM n",
        };
    }
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let array = |kind: &dyn Fn(&str) -> bool| {
        let names: Vec<String> = shape.names().iter().filter(|name| kind(name)).map(|name| text(name)).collect();
        format!("ARRAY[{}]::text[]", names.join(", "))
    };
    let padded = |name: &str| shape.native(name).is_some_and(Native::padded);
    let native = |name: &str| shape.native(name).is_some();
    let find = format!(
        "f := (SELECT format('(SELECT to_jsonb(s) FROM (SELECT %s) s) || jsonb_object(ARRAY[%s]::text[], ARRAY[%s]::text[])',
            coalesce(string_agg(format('t.%I', e.name), ', ') FILTER (WHERE e.kind = 'known'), ''),
            coalesce(string_agg(quote_literal(e.name), ', ') FILTER (WHERE e.kind <> 'known'), ''),
            coalesce(string_agg(CASE e.kind WHEN 'padded' THEN format('(t.%I)::text', e.name)
                ELSE format('CASE WHEN t.%1$I IS DISTINCT FROM NULL THEN concat(t.%1$I) END', e.name) END, ', ')
                FILTER (WHERE e.kind <> 'known'), ''))
        FROM (SELECT unnest({known}), 'known' UNION ALL SELECT unnest({padded}), 'padded'
              UNION ALL SELECT unnest({plain}), 'plain') AS e(name, kind)
        WHERE EXISTS (SELECT FROM pg_attribute x
                      WHERE x.attrelid = TG_RELID AND x.attname = e.name AND x.attnum > 0 AND NOT x.attisdropped));",
        known = array(&|name| !native(name)),
        padded = array(&padded),
        plain = array(&|name| native(name) && !padded(name)),
    );
    let row = |json: &str, row: &str| {
        let of = |name: &str| format!("{row}.{}", ident(name));
        let known = shape.names().iter().filter(|name| !native(name));
        let known: Vec<String> = known.map(|name| format!("{} AS {}", of(name), ident(name))).collect();
        let read = shape.natives().iter().map(|(name, native)| native.read(&of(name)));
        let names = shape.natives().keys().map(|name| text(name));
        format!(
            "BEGIN
            {json} := (SELECT to_jsonb(s) FROM (SELECT {}) s) || jsonb_object(ARRAY[{}]::text[], ARRAY[{}]::text[]);
        EXCEPTION WHEN undefined_column OR datatype_mismatch THEN
            {find}
            EXECUTE 'SELECT ' || f || ' FROM (SELECT ($1).*) t' INTO {json} USING {row};
        END;",
            known.join(", "),
            names.collect::<Vec<_>>().join(", "),
            read.collect::<Vec<_>>().join(", ")
        )
    };
    let (old, new) = (row("o", "OLD"), row("n", "NEW"));
    RowWords {
        declared: " f text;",
        find,
        every: "$all$ || f || $all$",
        old,
        new,
        same: "OLD::text IS NOT DISTINCT FROM NEW::text",
    }
}

/// What is done first where a subscription moves the table: its changes are ours, and it cannot say so with a setting. A
/// worker of it writes as a replica, which few others do, so nobody else is asked for more.
fn ours_first(table: &Table, shape: &Shape) -> String {
    match table.mover {
        None => String::new(),
        Some(MoverKind::Subscription) => format!(
            "
    IF current_setting('session_replication_role') = 'replica' AND EXISTS (
        SELECT FROM pg_stat_subscription w WHERE w.subname = '{}' AND w.pid = pg_backend_pid()) THEN
        RETURN NULL;
    END IF;",
            Called::of(&shape.plan, &table.from).subscription
        ),
    }
}

/// `key` names the columns here and what they are called in the main table.
fn trigger(
    (table, owner): (&Table, &Shape),
    part: usize,
    shape: &Part,
    columns: &[Column],
    key: &[(&str, &str)],
) -> Trigger {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let names = columns.iter().map(|c| text(&c.name)).collect::<Vec<_>>().join(", ");
    let keys = |side: &str| {
        let each = key.iter().map(|(here, there)| format!("{}, {side} -> {}", text(there), text(here)));
        each.collect::<Vec<_>>().join(", ")
    };
    // No column is named here: one that is renamed or dropped later would fail every write of a customer. It is missing
    // in what is captured instead, and while one is missing any change of the row is a change.
    let of = |row: &str, names: &str| {
        format!(
            "(SELECT coalesce(jsonb_object_agg(e.key, e.value), '{{}}') FROM jsonb_each({row}) e WHERE e.key = ANY ({names}))"
        )
    };
    let RowWords { declared, find, every, old: old_row, new: new_row, same } = row_words(shape);
    // A trigger learns from its arguments whose record it writes.
    let body = format!(
        "DECLARE c constant text[] := ARRAY[{names}]::text[]; o jsonb; n jsonb; b jsonb; a jsonb; bk jsonb; ak jsonb;{declared}
BEGIN{ours}
    IF TG_OP = 'TRUNCATE' THEN{find_first}
        EXECUTE $all$INSERT INTO cutover.outbox (plan, table_id, part, key, before)
        SELECT $1, $2, {part}, jsonb_build_object({every_key}), r.b
        FROM (SELECT {every} AS b FROM $all$ || format('%I.%I t', TG_TABLE_SCHEMA, TG_TABLE_NAME) || ') r'
        USING TG_ARGV[0], TG_ARGV[1], c;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        {old_row}
        b := {old};
        bk := jsonb_build_object({old_key});
    END IF;
    IF TG_OP <> 'DELETE' THEN
        {new_row}
        a := {new};
        ak := jsonb_build_object({new_key});
    END IF;
    IF a IS NOT DISTINCT FROM b AND current_setting('cutover.origin', true) IS DISTINCT FROM 'exercise'
       AND ({same} OR jsonb_exists_all(a, c)) THEN
        RETURN NULL;
    END IF;
    IF bk IS NULL OR ak IS NULL OR bk = ak THEN
        INSERT INTO cutover.outbox (plan, table_id, part, key, before, after)
        VALUES (TG_ARGV[0], TG_ARGV[1], {part}, coalesce(ak, bk), b, a);
    ELSE
        INSERT INTO cutover.outbox (plan, table_id, part, key, before, after)
        VALUES (TG_ARGV[0], TG_ARGV[1], {part}, bk, b, NULL), (TG_ARGV[0], TG_ARGV[1], {part}, ak, NULL, a);
    END IF;
    RETURN NULL;
END",
        ours = ours_first(table, owner),
        old = of("o", "c"),
        new = of("n", "c"),
        old_key = keys("b"),
        new_key = keys("a"),
        find_first = if find.is_empty() { find } else { format!("\n        {find}") },
        every = of(every, "$3"),
        every_key = keys("r.b"),
    );
    let mut crc = crc32fast::Hasher::new();
    let forms = if shape.natives().is_empty() { FORMS.to_owned() } else { format!("{FORMS} {NATIVE_FORMS}") };
    for part in [owner.plan.as_str(), "\0", &owner.id, "\0", &shape.sql, &forms, &body] {
        crc.update(part.as_bytes());
    }
    let plan: String = owner.plan.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    let hash = format!("{}_{:08x}", plan.to_lowercase(), crc.finalize());
    let name = format!("cutover_capture_{hash}");
    let on = qualified(&shape.name);
    // The owner's rights: customers' roles need none on the outbox.
    let function = format!(
        "CREATE OR REPLACE FUNCTION cutover.capture_{hash}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
         SET search_path = pg_catalog, pg_temp {forms} AS $cutover$ {body} $cutover$"
    );
    let does = format!(
        "WHEN (current_setting('cutover.origin', true) IS DISTINCT FROM 'forward') \
         EXECUTE FUNCTION cutover.capture_{hash}({}, {})",
        text(&owner.plan),
        text(&owner.id)
    );
    let rows = format!("CREATE TRIGGER {name} AFTER INSERT OR UPDATE OR DELETE ON {on} FOR EACH ROW {does}");
    let whole = format!("CREATE TRIGGER {name}_all BEFORE TRUNCATE ON {on} FOR EACH STATEMENT {does}");
    let create = [(name.clone(), rows), (format!("{name}_all"), whole)];
    let columns = columns.iter().map(|c| c.name.clone()).collect();
    Trigger { on, named: shape.name.clone(), columns, calls: format!("cutover.capture_{hash}()"), function, create }
}
