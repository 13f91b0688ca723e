//! What tables rest on of extensions, and what others made of a database, as the server's catalogue has it.

use std::sync::Arc;

use super::log::settings_of;
use super::neighbours::{connect_once_up, own_server};
use super::{column, key};
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::domain::plan::{ColumnType, Table};
use crate::ports::{Changes as _, Source as _};

const RESTS: &str = "
CREATE SCHEMA util;
CREATE EXTENSION citext SCHEMA util; CREATE EXTENSION \"uuid-ossp\"; CREATE EXTENSION pg_trgm; CREATE EXTENSION btree_gist;
CREATE EXTENSION hstore; CREATE EXTENSION pgcrypto; CREATE EXTENSION fuzzystrmatch;
CREATE DOMAIN mail AS util.citext;
CREATE TYPE pair AS (a int, b hstore);
CREATE FUNCTION salt() RETURNS text LANGUAGE sql RETURN gen_salt('bf');
CREATE TABLE plain (id int PRIMARY KEY);
CREATE TABLE by_domain (id int PRIMARY KEY, m mail);
CREATE TABLE by_array (id int PRIMARY KEY, m util.citext[]);
CREATE TABLE by_fields (id int PRIMARY KEY, p pair);
CREATE TABLE by_default (id uuid PRIMARY KEY DEFAULT uuid_generate_v4());
CREATE TABLE by_function (id int PRIMARY KEY, s text DEFAULT salt());
CREATE TABLE by_index (id int PRIMARY KEY, t text); CREATE INDEX ON by_index USING gin (t gin_trgm_ops);
CREATE TABLE by_exclusion (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (id WITH =, r WITH &&));
CREATE TABLE by_check (id int PRIMARY KEY, t text CHECK (levenshtein(t, 'x') > 1));
CREATE TABLE parts (id int, m mail, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parts DEFAULT";

const OTHERS: &str = "
CREATE PUBLICATION feed FOR ALL TABLES;
CREATE SUBSCRIPTION prices CONNECTION 'host=nowhere.invalid dbname=x' PUBLICATION p WITH (connect = false);
SELECT pg_create_logical_replication_slot('debezium', 'pgoutput');
CREATE SCHEMA cron; CREATE TABLE cron.job (jobid bigint, schedule text, command text, active boolean, jobname text);
INSERT INTO cron.job VALUES (1, '0 3 * * *', 'SELECT secret()', true, 'nightly'), (2, '@hourly', 'x', false, 'off'),
                            (3, '5 * * * *', 'y', true, NULL)";

#[tokio::test]
async fn what_tables_rest_on_and_what_stays_behind_is_known_by_name() {
    let server = own_server().await;
    let sql = connect_once_up(&server.url()).await;
    sql.batch_execute(RESTS).await.unwrap();
    let settings = settings_of(&server);
    let source = Arc::new(PgSource::new(&settings, super::PLAN).unwrap());
    let found = source.surroundings().await.unwrap().unwrap();
    let uses: Vec<String> = found.uses.iter().map(|u| format!("{} {} {}", u.extension, u.table, u.by)).collect();
    assert_eq!(
        uses,
        [
            "btree_gist public.by_exclusion an index",
            "citext public.by_array a column",
            "citext public.by_domain a column",
            "citext public.parts a column",
            "fuzzystrmatch public.by_check a constraint",
            "hstore public.by_fields a column",
            "pg_trgm public.by_index an index",
            "pgcrypto public.by_function a default",
            "uuid-ossp public.by_default a default",
        ]
    );
    let citext = found.extensions.iter().find(|e| e.name == "citext").unwrap();
    assert!(citext.schema == "util" && !citext.version.is_empty(), "{citext:?}");
    assert!(
        found.available.iter().any(|name| name == "bloom") && !found.available.iter().any(|name| name == "postgis")
    );
    assert!(found.tables.contains(&"public.parts".to_owned()) && !found.tables.contains(&"public.part".to_owned()));
    assert_eq!(found.beside, crate::ports::Beside::default(), "nobody made anything else");

    for one in OTHERS.split(";\n") {
        sql.batch_execute(one).await.unwrap();
    }
    let books = Table {
        key: vec!["id".into()],
        columns: vec![key("id", ColumnType::Bigint), column("t", ColumnType::Text)],
        ..Table::watched("by_index", "public.by_index")
    };
    let changes = PgChanges::new(Arc::clone(&source), settings, vec![books.clone()]);
    changes.enable(&books).await.unwrap();
    let beside = source.surroundings().await.unwrap().unwrap().beside;
    assert_eq!(
        (beside.publications.as_slice(), beside.subscriptions.as_slice()),
        (&["feed".to_owned()][..], &["prices".to_owned()][..])
    );
    assert_eq!(beside.slots, ["debezium (pgoutput, nobody reads it)"], "ours is left out");
    assert_eq!(beside.jobs.as_deref(), Some(&["job 3 (5 * * * *)".to_owned(), "nightly (0 3 * * *)".to_owned()][..]));
    changes.close().await.unwrap();
}
