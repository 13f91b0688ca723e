//! `check --scan` and `run --dry-run`: they say what the load then does, and write nothing.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::store_pair::{StorePair, book_id, n, s};
use super::stores::{Databases, NOTES_V2, Notes};

fn table<'v>(said: &'v Value, id: &str) -> &'v Value {
    let tables = said.as_array().unwrap_or_else(|| panic!("{said:#}"));
    tables.iter().find(|t| t["table"] == id).unwrap_or_else(|| panic!("no {id}: {said:#}"))
}

/// Keys and reasons of everything that would be parked.
fn predicted(said: &Value) -> BTreeSet<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let each = said.as_array().unwrap().iter().flat_map(|t| t["parked"].as_array().unwrap());
    let each = each.flat_map(|p| p["keys"].as_array().unwrap().iter().map(|key| (text(key), text(&p["reason"]))));
    each.collect()
}

#[test]
fn a_dry_run_says_what_the_load_then_does_and_writes_nothing() {
    let pair = StorePair::new("");
    pair.books(30);
    pair.book(2, &[("title", s("a title that is far too long"))]);
    pair.book(4, &[("title", s("nul \0 in it")), ("colour", s("red"))]);
    pair.book(5, &[("colour", n(7))]);
    pair.put("Shelf-Reviews", &[("reviewId", s("r1")), ("author", s("ann")), ("stars", n(5))]);
    pair.put("Shelf-Reviews", &[("reviewId", s("r2")), ("stars", n("4.5"))]);
    pair.config("price = { type = \"numeric(12,4)\" }", "price = { type = \"numeric(12,2)\", lossy = true }");
    pair.config("price numeric(12,4)", "price numeric(12,2)");
    let before = (pair.source(), pair.catalogues());

    let said = pair.json(&["check", "--scan"], 1);
    let books = table(&said["scan"], "books");
    assert_eq!((&books["whole"], &books["records"], &books["would_be_parked"]), (&json!(true), &json!(30), &json!(2)));
    let row = |what: &str| said["checks"].as_array().unwrap().iter().find(|r| r["what"] == what).unwrap().clone();
    assert_eq!((&row("scan books")["ok"], &row("scan authors")["ok"]), (&json!(false), &json!(true)));
    // A part of it is spread, and says so.
    let few = pair.json(&["check", "--scan", "7"], 1);
    let books = table(&few["scan"], "books");
    assert_eq!((&books["whole"], &books["records"]), (&json!(false), &json!(7)), "{books:#}");

    let said = pair.json(&["run", "--dry-run", "--report", "report.json"], 5);
    StorePair::expect_private(pair.dir().join("report.json").to_str().unwrap());
    let report: Value = serde_json::from_slice(&fs::read(pair.dir().join("report.json")).unwrap()).unwrap();
    assert_eq!(report, said, "the report is what was said");
    let books = table(&said["tables"], "books");
    let unread = books["not_read"].as_array().unwrap();
    assert_eq!(unread, &[json!({ "path": "colour", "types": { "N": 1, "S": 1 }, "records": 2 })]);
    let column = |name: &str| books["columns"].as_array().unwrap().iter().find(|c| c["column"] == name).unwrap();
    let price = column("price");
    assert_eq!((&price["fit"], &price["altered"]["rounded"]["times"]), (&json!(30), &json!(30)), "{price:#}");
    assert_eq!(column("title")["refused"]["too_long"]["keys"], json!([book_id(2)]));
    assert_eq!((&column("book_tags.tag")["of"], &books["would_go_in"]), (&json!(90), &json!(28)));
    let each = books["sizes"]["total"]["stored"].as_u64().unwrap() / 28;
    assert!((150..800).contains(&each), "a book and three tags take {each} bytes");
    assert_eq!(said["steps"].as_array().unwrap().len(), 6);
    assert_eq!((&said["totals"]["records"], &said["totals"]["would_be_parked"]), (&json!(33), &json!(3)));
    assert!(said["totals"]["read_units"].as_f64() > Some(0.0), "{}", said["totals"]);

    let words = pair.cutover(&["run", "--dry-run"], 5);
    for part in
        ["capture", "would park", "colour: N 3.3 %, S 3.3 %, absent 93.3 %", "WRITTEN     nothing", "3 records would"]
    {
        assert!(words.contains(part), "no {part:?} in\n{words}");
    }
    assert!(!words.contains("far too long"), "a value was shown");
    pair.cutover(&["run", "--dry-run", "--report", "report.json"], 2);
    pair.cutover(&["run", "--dry-run", "--new"], 2);
    // No stream, no row, no table, no schema, no run.
    assert_eq!((pair.source(), pair.catalogues()), before);
    assert!(!pair.dir().join("state").exists(), "a run was opened");

    pair.load();
    let parked = pair.cutover(&["parked", "--json"], 0);
    let parked = parked.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let parked: BTreeSet<(String, String)> = parked
        .map(|row| (row["key"].as_str().unwrap().to_owned(), row["reason"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(predicted(&said["tables"]), parked, "what was said is what the load did");
}

#[test]
fn every_pair_is_judged_by_the_same_code() {
    let papers = Notes::new();
    let both = Databases::with(&format!("{}[reverse]\nenabled = false\n", papers.store()), NOTES_V2);
    for table in ["Notes", "Notes-v2"] {
        both.runtime.block_on(papers.create(table));
    }
    (0..40).for_each(|n| both.runtime.block_on(papers.put(&format!("n{n}"), "before")));
    both.old("ALTER TABLE people ADD mood text; UPDATE people SET name = repeat('x', 50), mood = 'sad' WHERE id = 7");
    let path = both.dir.path().join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("name = { type = \"text\" }", "name = { type = \"varchar(20)\" }")).unwrap();

    let said: Value = serde_json::from_str(&both.cutover(&["run", "--dry-run", "--json"], 5)).unwrap();
    let of = |id: &str| {
        let table = table(&said["tables"], id);
        ["records", "would_go_in", "would_be_parked"].map(|what| table[what].as_u64().unwrap())
    };
    assert_eq!((of("notes"), of("people"), of("visits")), ([40, 40, 0], [500, 499, 1], [3_000, 3_000, 0]));
    assert_eq!(predicted(&said["tables"]), [("7".to_owned(), "too_long".to_owned())].into());
    // A column that the plan leaves out is named; NULL is none of its values' types, and counted as one.
    let people = table(&said["tables"], "people");
    assert_eq!(people["not_read"][0]["path"], "mood", "{people:#}");
    assert_eq!(people["not_read"][0]["types"], json!({ "NULL": 499, "S": 1 }));
    // Only one of the stores sells reads.
    assert!(people["read_units"].is_null() && table(&said["tables"], "notes")["read_units"].as_f64() > Some(0.0));
    assert_eq!(both.kept(), Vec::<String>::new(), "neither a slot nor a publication");
}
