//! A table's DDL as people have it: what `pg_dump --schema-only` writes.

use super::TestDatabase;
use super::{column, key, table};
use crate::adapters::postgres::PgTarget;
use crate::domain::plan::{ColumnType, Table};
use crate::ports::{ErrorKind, Target as _};

fn notes(ddl: &str) -> Table {
    table("notes", vec![key("id", ColumnType::Bigint), column("body", ColumnType::Text)], ddl)
}

/// As `pg_dump` 15.18 writes it.
const DUMP: &str = r"--
-- PostgreSQL database dump
--

\restrict bUB0ZCqmwcXzLuSHkgQfvf2lcQ6HfVSs4TPFLDSxmGbFUi2Fo7yFKMhvyUnXoyU

-- Dumped from database version 15.18
-- Dumped by pg_dump version 15.18

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

CREATE TABLE public.notes (
    id bigint NOT NULL,
    body text DEFAULT '
\not a command
'::text
);

CREATE FUNCTION public.touch() RETURNS trigger
    LANGUAGE plpgsql
    AS $_$
BEGIN
\connect is no command here
    RETURN NEW;
END $_$;

ALTER TABLE ONLY public.notes
    ADD CONSTRAINT notes_pkey PRIMARY KEY (id);

--
-- PostgreSQL database dump complete
--

\unrestrict bUB0ZCqmwcXzLuSHkgQfvf2lcQ6HfVSs4TPFLDSxmGbFUi2Fo7yFKMhvyUnXoyU
";

/// What every connection of the pool is set to.
async fn settings(target: &PgTarget) -> Vec<String> {
    let clients = futures::future::join_all((0..4).map(|_| target.client())).await;
    let mut found = Vec::new();
    for client in clients {
        let sql = "SELECT concat_ws(' ', current_setting('search_path'), current_setting('statement_timeout'),
                   current_setting('row_security'), current_setting('lock_timeout'))";
        found.push(client.unwrap().query_one(sql, &[]).await.unwrap().get(0));
    }
    found.dedup();
    found
}

#[tokio::test]
async fn a_dump_makes_the_table_and_leaves_no_trace_in_the_pool() {
    let db = TestDatabase::new().await;
    let table = notes(DUMP.replace("\\not a command", "not a command").replace("\\connect", "connect").as_str());
    let before = settings(&db.target).await;
    assert_eq!(before.len(), 1, "{before:?}");
    assert!(db.create(&table).await.unwrap());
    assert_eq!(settings(&db.target).await, before);
    // Whatever name the plan gives: it is found again, and not made a second time.
    assert!(!db.create(&table).await.unwrap());
    assert!(db.target.describe(&table).await.unwrap().exists);
}

#[tokio::test]
async fn a_backslash_within_a_string_or_a_body_is_no_command() {
    let db = TestDatabase::new().await;
    let ddl = DUMP.replace("BEGIN\n\\connect is no command here", "BEGIN\n/*\n\\connect is no command here\n*/");
    assert!(db.create(&notes(&ddl)).await.unwrap());
    let default = "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'notes'::regclass";
    assert!(db.text(default).await.unwrap().contains("\\not a command"));
}

#[tokio::test]
async fn what_only_psql_can_do_is_named_with_its_line() {
    let db = TestDatabase::new().await;
    let refused = |ddl: &'static str| {
        let db = &db;
        async move {
            let table = notes(ddl);
            let error = db.create(&table).await.unwrap_err();
            (error, db.target.describe(&table).await)
        }
    };
    for (ddl, line, what) in [
        ("CREATE TABLE notes (id bigint);\n\\connect shop\n", "line 2", "\\connect"),
        ("\\i other.sql\n", "line 1", "\\i"),
        ("--\nCREATE TABLE notes (id bigint);\nCOPY public.notes (id) FROM stdin;\n1\n\\.\n", "line 3", "COPY"),
    ] {
        let (error, checked) = refused(ddl).await;
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert!(error.came_back.contains(line) && error.came_back.contains(what), "{error}");
        assert!(error.advice.contains("--schema-only"), "{error}");
        // Said by a check, long before the day.
        assert_eq!(checked.unwrap_err(), error);
        assert_eq!(db.number("SELECT count(*) FROM pg_class WHERE relname = 'notes'").await, 0);
    }
    // A newer pg_dump sets what this server does not know.
    let (error, _) = refused("--\n\nSET no_such_timeout = 0;\nCREATE TABLE notes (id bigint);\n").await;
    assert!(error.came_back.contains("line 3"), "{error}");
}

#[tokio::test]
async fn a_dump_that_makes_what_is_there_is_taken_or_says_what_to_do() {
    let db = TestDatabase::new().await;
    let begins = "--\n-- Name: public; Type: SCHEMA\n--\n\nCREATE SCHEMA public;\n\nCREATE SCHEMA extra;\n";
    assert!(db.target.create(&notes(&format!("{begins}{}", DUMP.replace("\\connect", "connect")))).await.unwrap());
    assert_eq!(db.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'extra'").await, 1);
    for (ddl, says) in [
        ("CREATE TABLE notes (id bigint);", "take its lines out"),
        (
            "CREATE SCHEMA AUTHORIZATION CURRENT_USER;\nCREATE SCHEMA IF NOT EXISTS x; CREATE SCHEMA public;",
            "IF NOT EXISTS",
        ),
        ("CREATE TYPE mood AS ENUM ('a');\nCREATE TYPE mood AS ENUM ('a');", "take its lines out"),
    ] {
        let mut table = notes(ddl);
        table.target = "elsewhere".to_owned();
        let error = db.target.create(&table).await.unwrap_err();
        assert!(error.came_back.contains("line ") && error.advice.contains(says), "{error}");
    }
}
