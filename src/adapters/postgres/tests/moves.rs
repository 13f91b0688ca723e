//! Whole schemas by rule: what nobody wrote down table by table moves, is followed, proven, and comes back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::day::{Day, plan_of};
use super::neighbours::until;
use super::{TestDatabase, column, key, table};
use crate::adapters::postgres::source::PgCatalogue;
use crate::config::{Config, ConfigErrors, draft, load_listed};
use crate::domain::plan::{AfterLoad, ColumnType, Fires, Listing, Plan, Table};
use crate::ports::{Catalogue as _, Outbox as _, Target as _};
use crate::workers::tests::world::World;

/// Between two databases; the addresses are not used, the stores are asked here.
const CONFIG: &str = r#"
name = "trial"
environment = "test"
production = false
[stores.old]
kind = "postgresql"
host = "db-1"
database = "shop"
user = "cutover"
[stores.new]
kind = "postgresql"
host = "db-2"
database = "shop"
user = "cutover"
[[moves]]
include = ["public.*", "shop.*"]
exclude = ["shop.scratch_*"]
like = "same"
"#;

/// What a runbook needs at least.
const STEPS: [(&str, &str); 6] = [
    ("preflight", ""),
    ("set_up", ""),
    ("capture", ""),
    ("load", ""),
    ("catch_up", "max_lag = \"10s\"\n"),
    ("verify", ""),
];

/// Beside the tables of pgbench: a table that refers to itself, types of the schema's own and of an extension, a trigger,
/// names that need quotes, and what is not a table.
const SHOP: &str = r#"
CREATE SCHEMA shop;
CREATE EXTENSION citext SCHEMA public;
CREATE TYPE shop.mood AS ENUM ('glad', 'sad');
CREATE DOMAIN shop.region AS text CHECK (VALUE ~ '^[A-Z]{2}$');
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
-- TOC entry 1 (class 1 OID 1)
    NEW.changed := shop.moment();
    RETURN NEW;
END $$;
CREATE FUNCTION shop.moment() RETURNS timestamp LANGUAGE sql AS 'SELECT clock_timestamp()::timestamp';
CREATE TABLE shop."Staff" (
    id serial PRIMARY KEY, boss integer REFERENCES shop."Staff" ON DELETE SET NULL, name citext NOT NULL UNIQUE,
    mood shop.mood DEFAULT 'glad', region shop.region, pay numeric(10,2)[], photo bytea, changed timestamp,
    rounded numeric(5,-2), tiny numeric(2,4),
    shouted text GENERATED ALWAYS AS (upper(name::text)) STORED, CHECK (id > 0));
CREATE INDEX staff_boss ON shop."Staff" (boss);
CREATE INDEX staff_mood ON shop."Staff" (mood) WHERE mood = 'sad';
COMMENT ON TABLE shop."Staff" IS 'who works; here';
CREATE TRIGGER touch BEFORE UPDATE ON shop."Staff" FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE TRIGGER never BEFORE INSERT ON shop."Staff" FOR EACH ROW EXECUTE FUNCTION shop.touch();
ALTER TABLE shop."Staff" DISABLE TRIGGER never;
CREATE TABLE shop.shifts (
    staff integer REFERENCES shop."Staff" ON DELETE CASCADE, day date, kind shop.mood, PRIMARY KEY (day, staff));
ALTER TABLE shop.shifts ENABLE ROW LEVEL SECURITY;
CREATE POLICY glad ON shop.shifts USING (kind = 'glad');
CREATE TABLE shop.scratch_1 (no_key text);
CREATE VIEW shop.glad AS SELECT * FROM shop."Staff" WHERE mood = 'glad';
CREATE VIEW shop.scratched AS SELECT * FROM shop.scratch_1;
CREATE FUNCTION shop.scratches() RETURNS SETOF shop.scratch_1 LANGUAGE sql AS 'SELECT * FROM shop.scratch_1';
CREATE FUNCTION shop.the_glad() RETURNS SETOF shop.glad LANGUAGE sql AS 'SELECT * FROM shop.glad';
CREATE MATERIALIZED VIEW shop.counted AS SELECT count(*) FROM shop.glad;
INSERT INTO shop."Staff" (boss, name, mood, region, pay, photo, rounded, tiny)
    SELECT NULL, 'Person ' || n, CASE WHEN n % 3 = 0 THEN 'sad' ELSE 'glad' END::shop.mood, 'AB', ARRAY[n / 7.0, NULL], '\x00ff',
           n * 100, (n % 99) / 10000.0
    FROM generate_series(1, 300) n;
UPDATE shop."Staff" SET boss = 301 - id;
INSERT INTO shop.shifts SELECT n % 300 + 1, '2024-01-01'::date + n / 300, 'sad' FROM generate_series(1, 900) n;
"#;

/// As pgbench's own script, for as many accounts as are left.
const SCRIPT: &str = r"
\set aid random(1, 3000)
\set bid 1
\set tid random(1, 10)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
";

fn pgbench() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin/pgbench")).find(|path| path.is_file());
    assert!(found.is_some() || std::env::var_os("CUTOVER_TEST_POSTGRES_REQUIRED").is_none(), "no pgbench here");
    found
}

fn command(program: &Path, db: &TestDatabase, arguments: &[&str]) -> tokio::process::Command {
    let (settings, mut command) = (&db.settings, tokio::process::Command::new(program));
    command.args(arguments).arg(&settings.database).kill_on_drop(true).stdout(std::process::Stdio::null());
    command.env("PGHOST", &settings.host).env("PGPORT", settings.port.to_string()).env("PGUSER", &settings.user);
    command.env("PGPASSWORD", settings.password.as_ref().unwrap().reveal()).stderr(std::process::Stdio::null());
    command
}

pub(super) fn text() -> String {
    let step = |(n, (kind, more)): (usize, &(&str, &str))| {
        let at = 60 - n;
        format!(
            "[[steps]]\nid = \"{kind}\"\ntitle = \"{kind}\"\nat = \"T-00:{at}\"\ntakes = \"1m\"\nkind = \"{kind}\"\n{more}"
        )
    };
    let steps: String = STEPS.iter().enumerate().map(step).collect();
    format!("{CONFIG}{}", steps.replace("T-00:60", "T-01:00"))
}

/// The config, over what this database has.
pub(super) async fn read(text: &str, db: &TestDatabase) -> Result<Config, ConfigErrors> {
    let (vars, base) = (BTreeMap::new(), Path::new(""));
    let draft = draft("c.toml", text, base, &vars, None)?;
    let catalogue = PgCatalogue::new(&db.settings).unwrap();
    let names = catalogue.names().await.unwrap();
    let listed = catalogue.listed(names.clone(), &draft.wanted("old", &names), draft.makes("old")).await.unwrap();
    let listing = Listing { stores: BTreeMap::from([("old".to_owned(), listed)]) };
    // As it is kept with a run.
    let kept: Listing = serde_json::from_slice(&serde_json::to_vec(&listing).unwrap()).unwrap();
    load_listed("c.toml", text, base, &vars, None, Some(&kept))
}

/// Every row of every table of the plan, in a form that is equal where the tables are.
pub(super) async fn held(db: &TestDatabase, plan: &Plan) -> Vec<String> {
    without(db, plan, "").await
}

/// The same without a column.
async fn without(db: &TestDatabase, plan: &Plan, column: &str) -> Vec<String> {
    let mut all = Vec::new();
    for table in &plan.tables {
        let (schema, name) = table.target.split_once('.').unwrap();
        let sql = format!("SELECT (to_jsonb(t) - $1)::text FROM \"{schema}\".\"{name}\" t ORDER BY 1");
        let rows = db.sql.query(&sql, &[&column]).await.unwrap();
        all.extend(rows.iter().map(|row| format!("{name} {}", row.get::<_, String>(0))));
    }
    all
}

/// What the catalogue says of the tables, so that it is equal where they are: columns, constraints, indexes, triggers,
/// comments, sequences and who owns them, types and functions.
async fn schema(db: &TestDatabase) -> Vec<String> {
    let sql = "
        SELECT concat_ws(' ', 'column', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                         pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, c.reloptions)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (c.oid, a.attnum)
        WHERE c.relkind = 'r' AND a.attnum > 0 AND c.relnamespace::regnamespace::text IN ('public', 'shop') AND c.relname NOT LIKE 'scratch%'
        UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE connamespace::regnamespace::text IN ('public', 'shop')
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname IN ('public', 'shop')
        UNION ALL SELECT concat_ws(' ', tgenabled, pg_get_triggerdef(oid)) FROM pg_trigger
        WHERE NOT tgisinternal AND tgname NOT LIKE 'cutover%'
        UNION ALL SELECT concat_ws(' ', 'comment', objoid::regclass, description) FROM pg_description
        WHERE classoid = 'pg_class'::regclass AND objoid > 16384
        UNION ALL SELECT concat_ws(' ', 'owned', d.objid::regclass, d.refobjid::regclass, d.refobjsubid, d.deptype)
        FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' AND d.deptype IN ('a', 'i')
        WHERE s.relnamespace::regnamespace::text IN ('public', 'shop')
        UNION ALL SELECT concat_ws(' ', 'policy', p.schemaname, p.tablename, p.policyname, p.qual) FROM pg_policies p
        UNION ALL SELECT concat_ws(' ', 'view', viewname, definition) FROM pg_views
        WHERE schemaname = 'shop' AND viewname <> 'scratched'
        UNION ALL SELECT concat_ws(' ', 'guarded', oid::regclass) FROM pg_class WHERE relrowsecurity
        UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace::regnamespace::text = 'shop' AND proname <> 'scratches'
        ORDER BY 1";
    db.sql.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_schema_nobody_here_designed_moves_by_rule_is_followed_and_comes_back() {
    let Some(pgbench) = pgbench() else { return };
    let (old, new) = (TestDatabase::bare().await, TestDatabase::new().await);
    assert!(command(&pgbench, &old, &["-i", "-q", "--foreign-keys"]).status().await.unwrap().success());
    old.sql.batch_execute("DELETE FROM pgbench_accounts WHERE aid > 3000").await.unwrap();
    old.sql.batch_execute(SHOP).await.unwrap();
    let said = read(&text(), &old).await.unwrap_err().to_string();
    assert!(
        said.starts_with("c.toml:16:11: public.pgbench_history cannot move by rule: it has no primary key"),
        "{said}"
    );
    old.sql
        .batch_execute("ALTER TABLE pgbench_history ADD COLUMN id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
        .await
        .unwrap();
    let config = read(&text(), &old).await.unwrap_or_else(|e| panic!("{e}"));
    let ids: Vec<&str> = config.plan.tables.iter().map(|t| t.id.as_str()).collect();
    let order =
        ["pgbench_branches", "pgbench_accounts", "pgbench_tellers", "pgbench_history", "shop-Staff", "shop-shifts"];
    assert_eq!(ids, order, "parents before those that refer to them");
    let told: Vec<&str> = config.warnings.iter().map(|w| w.message.as_str()).collect();
    let of_others = "which is of tables that do not move";
    for left in [format!("view shop.scratched, {of_others}"), format!("function shop.scratches(), {of_others}")] {
        assert!(told.contains(&format!("not made on the new side: {left}").as_str()), "{told:?}");
    }
    assert!(told.iter().any(|w| w.contains("its trigger touch fires at the source too")), "{told:?}");
    assert_eq!(read(&text(), &old).await.unwrap().plan.hash(), config.plan.hash(), "the same again");

    let base = plan_of(config.plan.tables.clone());
    let plan = Plan { moves: config.plan.moves.clone(), ..base };
    let day = Day { world: World::with(plan), old, new };
    let (world, plan) = (&day.world, &day.world.plan);
    for table in &plan.tables {
        assert!(day.new.create(table).await.unwrap_or_else(|e| panic!("{e}")), "{}", table.id);
    }
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), SCRIPT).unwrap();
    let script = script.path().to_str().unwrap();
    let writes = |db: &TestDatabase, transactions: &str| {
        command(&pgbench, db, &["-n", "-c", "2", "-t", transactions, "-f", script]).spawn().unwrap()
    };

    // Accounts are written from here on, while they are loaded and followed.
    let mut customers = writes(&day.old, "400");
    let mut ctx = day.process().await;
    world.well(&ctx, &["capture", "load"]).await;
    let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated = ";
    assert_eq!(day.new.number(&format!("{keys} false")).await, 7, "made after the load, and not proven yet");
    ctx = day.dies(ctx).await;
    ctx.ensure_following();
    day.old
        .sql
        .batch_execute(
            "UPDATE shop.\"Staff\" SET mood = 'sad', boss = NULL WHERE id % 5 = 0; DELETE FROM shop.\"Staff\" WHERE id = 44;
             INSERT INTO shop.\"Staff\" (boss, name) VALUES (7, 'Late one');
             INSERT INTO shop.shifts SELECT max(id), '2025-01-01', 'glad' FROM shop.\"Staff\"",
        )
        .await
        .unwrap();
    assert!(customers.wait().await.unwrap().success());
    world.well(&ctx, &["catch-up"]).await;
    // A delete whose children are still there is tried again once they are gone; a comparison before that names it.
    until(&day.new.sql, "NOT EXISTS (SELECT FROM shop.\"Staff\" WHERE id = 44)").await;
    world.well(&ctx, &["verify", "arm"]).await;
    assert_eq!(day.new.number(&format!("{keys} false")).await, 0, "proven before anybody is locked out");

    // Whatever would be taken by the rule and came later keeps customers where they are.
    day.old
        .sql
        .batch_execute("CREATE TABLE shop.scratch_2 (a int); CREATE TABLE shop.late (a int PRIMARY KEY)")
        .await
        .unwrap();
    let refused = world.perform(&ctx, "freeze").await.unwrap_err();
    assert!(refused.message.ends_with("came after the plan was made: old.shop.late"), "{refused:?}");
    assert_eq!(world.switches.now("/mode"), "open");
    day.old.sql.batch_execute("DROP TABLE shop.late").await.unwrap();
    world.well(&ctx, &["freeze", "drain", "switch"]).await;
    assert_eq!(held(&day.old, plan).await, held(&day.new, plan).await);
    let quiet = "SELECT count(*) FROM pg_trigger WHERE tgname IN ('touch', 'never') AND tgenabled = 'D'";
    assert_eq!(day.new.number(quiet).await, 2);
    world.well(&ctx, &["thaw"]).await;
    // What was a table there is the same table here.
    assert_eq!(schema(&day.old).await, schema(&day.new).await);

    // Customers are on the new side, with its triggers, and go back.
    let latest = "SELECT max(changed)::text FROM shop.\"Staff\"";
    let before = day.new.text(latest).await.unwrap();
    assert!(writes(&day.new, "100").wait().await.unwrap().success());
    day.new
        .sql
        .batch_execute(
            "UPDATE shop.\"Staff\" SET region = 'ZZ' WHERE id < 20; INSERT INTO shop.\"Staff\" (boss, name) VALUES (3, 'Newest');
             DELETE FROM shop.\"Staff\" WHERE id = 45",
        )
        .await
        .unwrap();
    assert_ne!(day.new.text(latest).await.unwrap(), before, "its trigger fires");
    assert_eq!(day.taken_back(&ctx).await, [""; 0]);
    // The trigger of the old side saw what was written there: what it sets is its own, as the plan has said.
    let (back, there) = (without(&day.old, plan, "changed").await, without(&day.new, plan, "changed").await);
    assert_eq!(back, there);
    ctx.stop().await;
}

#[tokio::test]
async fn what_a_table_gets_after_its_rows_is_proven_wakes_with_the_customers_and_sleeps_for_a_later_run() {
    let db = TestDatabase::new().await;
    let ddl = "CREATE TABLE notes (id bigint PRIMARY KEY, above bigint)";
    let mut notes = table("notes", vec![key("id", ColumnType::Bigint), column("above", ColumnType::Bigint)], ddl);
    notes.target = "public.notes".to_owned();
    let alone = "suppress_redundant_updates_trigger()";
    notes.after_load = vec![
        AfterLoad::ForeignKey {
            name: "up".into(),
            sql: "ALTER TABLE ONLY public.notes ADD CONSTRAINT up FOREIGN KEY (above) REFERENCES public.notes(id);"
                .into(),
            on: None,
        },
        AfterLoad::Trigger {
            name: "Same".into(),
            sql: format!(
                "CREATE TRIGGER \"Same\" BEFORE UPDATE ON public.notes FOR EACH ROW EXECUTE FUNCTION {alone};"
            ),
            fires: Fires::Always,
            on: None,
        },
    ];
    let tables = std::slice::from_ref(&notes);
    assert!(db.create(&notes).await.unwrap());
    // A child that came before its parent.
    db.sql.batch_execute("INSERT INTO notes VALUES (1, 2)").await.unwrap();
    let fires = "SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'Same'";
    for _ in 0..2 {
        db.target.finish_load(&notes).await.unwrap();
        assert_eq!(db.text(fires).await.as_deref(), Some("D"));
    }
    assert!(db.sql.batch_execute("INSERT INTO notes VALUES (3, 4)").await.is_err(), "it holds for new rows");
    let wrong = db.target.prove_references(&notes, false).await.unwrap();
    assert_eq!(wrong.as_deref(), Some("rows of public.notes have no parent, says its foreign key up"));
    db.sql.batch_execute("INSERT INTO notes VALUES (2, NULL)").await.unwrap();
    for _ in 0..2 {
        assert_eq!(db.target.prove_references(&notes, false).await.unwrap(), None);
    }
    assert_eq!(db.number("SELECT count(*) FROM pg_constraint WHERE conname = 'up' AND convalidated").await, 1);
    db.target.open_to_customers(tables).await.unwrap();
    assert_eq!(db.text(fires).await.as_deref(), Some("A"), "as the source has it");
    // Taken up again while customers write there, and once they have gone back.
    db.target.claim("run-1", tables).await.unwrap();
    assert_eq!(db.text(fires).await.as_deref(), Some("A"));
    let in_the_way = async || {
        let found = db.target.describe(&notes).await.unwrap();
        let says = |texts: &[String]| texts.iter().any(|text| text.contains("the trigger Same"));
        (says(&found.problems), says(&found.notices))
    };
    assert_eq!(in_the_way().await, (true, false), "customers are in");
    db.target.mark_rolled_back("run-1", tables).await.unwrap();
    assert_eq!(in_the_way().await, (false, true), "the next run sees to it");
    db.target.claim("run-2", tables).await.unwrap();
    assert_eq!(db.text(fires).await.as_deref(), Some("D"));

    // A table that somebody else made gets nothing.
    let other = Table { id: "other".into(), ..notes.clone() };
    db.sql.batch_execute("ALTER TABLE notes DROP CONSTRAINT up").await.unwrap();
    db.target.finish_load(&other).await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM pg_constraint WHERE conname = 'up'").await, 0);
}
