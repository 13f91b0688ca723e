//! `cutover parked`: listed, exported, and tried again after the cause was corrected.

use serde_json::{Value, json};

use super::store_pair::{StorePair, book_id, s};

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// Six books of which two do not fit, and reviews of which all but one wait for their author.
fn parked_pair(reviews: u32) -> StorePair {
    let pair = StorePair::new("");
    pair.books(6);
    pair.book(2, &[("title", s("a title that is far too long"))]);
    pair.book(4, &[("title", s("nul \0 in it"))]);
    for n in 0..reviews {
        let author = if n == 0 { "ann" } else { "bob" };
        pair.put("Shelf-Reviews", &[("reviewId", s(&format!("r{n:04}"))), ("author", s(author))]);
    }
    pair.load();
    pair
}

#[test]
fn parked_rows_are_listed_and_exported_by_key_and_reason() {
    let pair = parked_pair(4);
    let listed = rows(&pair.cutover(&["parked", "--json"], 0));
    let mut found: Vec<(String, String)> = listed
        .iter()
        .map(|r| (r["key"].as_str().unwrap().to_owned(), r["reason"].as_str().unwrap().to_owned()))
        .collect();
    found.sort();
    let mut wanted: Vec<(String, String)> =
        [(2, "too_long"), (4, "nul")].map(|(n, r)| (book_id(n), r.to_owned())).into();
    wanted.extend((1..4).map(|n| (format!("r{n:04}"), "foreign_key".to_owned())));
    wanted.sort();
    assert_eq!(found, wanted);
    assert!(listed.iter().all(|r| r["since"].as_i64() > Some(1_700_000_000_000)), "{listed:?}");
    let book = listed.iter().find(|r| r["reason"] == "too_long").unwrap();
    assert_eq!(book["key_attributes"], json!({ "bookId": { "S": book_id(2) } }));
    assert!(!format!("{listed:?}").contains("far too long"), "a value was shown");

    pair.cutover(&["parked", "--table", "reviews", "--export", "reviews.jsonl"], 0);
    let path = pair.dir().join("reviews.jsonl");
    StorePair::expect_private(path.to_str().unwrap());
    assert_eq!(rows(&std::fs::read_to_string(&path).unwrap()).len(), 3);
    // What was exported is not written over.
    pair.cutover(&["parked", "--table", "reviews", "--export", "reviews.jsonl"], 1);
    assert!(pair.cutover(&["parked"], 0).contains("5 parked rows in all tables"));

    // Parked rows are explained, and the sums say so.
    let books = pair.verify("books", &["--full"], 0);
    assert_eq!((&books["verified"], &books["summary"]["parked"]), (&json!(true), &json!(2)), "{books:#}");
    let reviews = pair.verify("reviews", &["--full"], 0);
    assert_eq!((&reviews["summary"]["equal"], &reviews["summary"]["parked"]), (&json!(1), &json!(3)), "{reviews:#}");
    // A row the ledger does not know is lost, whatever the reason for which it does not fit.
    pair.sql("DELETE FROM cutover.parked WHERE reason = 'nul'");
    let books = pair.verify("books", &["--full"], 5);
    assert_eq!((&books["summary"]["missing"], &books["summary"]["parked"]), (&json!(1), &json!(1)), "{books:#}");
}

#[test]
fn parked_rows_go_in_once_their_cause_is_mended() {
    let pair = parked_pair(4);
    let tried = |said: &Value, table: &str| -> [u64; 3] {
        let found = said["tables"].as_array().unwrap().iter().find(|t| t["table"] == table).unwrap();
        ["tried", "went_in", "stayed"].map(|k| found[k].as_u64().unwrap())
    };
    // Nothing was corrected: nothing goes in.
    let said = pair.json(&["parked", "retry"], 0);
    assert_eq!((tried(&said, "books"), tried(&said, "reviews")), ([2, 0, 2], [3, 0, 3]));
    // A wider column in the table and in the mapping lets the long title in, but not the NUL.
    pair.sql("ALTER TABLE books ALTER title TYPE varchar(40)");
    pair.config("title = { type = \"varchar(20)\"", "title = { type = \"varchar(40)\"");
    let said = pair.json(&["parked", "retry", "--table", "books", "--reason", "too_long"], 0);
    assert_eq!(tried(&said, "books"), [1, 1, 0]);
    assert_eq!(pair.number("SELECT count(*) FROM books WHERE title LIKE '%far too long'"), 1);
    // The parent comes; an item that is gone at the source leaves the ledger without going in.
    pair.sql("INSERT INTO authors VALUES ('bob', 'Bob')");
    pair.delete("Shelf-Reviews", &[("reviewId", s("r0002"))]);
    let said = pair.json(&["parked", "retry"], 0);
    assert_eq!((tried(&said, "books"), tried(&said, "reviews")), ([1, 0, 1], [3, 3, 0]));
    assert_eq!(pair.number("SELECT count(*) FROM reviews"), 3);
    assert_eq!(rows(&pair.cutover(&["parked", "--json"], 0)).len(), 1);
    pair.cutover(&["parked", "retry", "--reason", "too_tall"], 2);
}

#[test]
fn a_ledger_of_many_pages_is_worked_off_whole() {
    let pair = parked_pair(1_203);
    assert_eq!(rows(&pair.cutover(&["parked", "--json"], 0)).len(), 1_204);
    pair.sql("INSERT INTO authors VALUES ('bob', 'Bob')");
    let said = pair.json(&["parked", "retry", "--table", "reviews"], 0);
    assert_eq!(said["tables"][0], json!({ "table": "reviews", "tried": 1_202, "went_in": 1_202, "stayed": 0 }));
    assert_eq!(pair.number("SELECT count(*) FROM reviews"), 1_203);
}

#[test]
fn one_row_that_a_trigger_objects_to_stops_no_load_and_is_named_with_what_was_raised() {
    let pair = StorePair::new("");
    let objects = r#"PRIMARY KEY (book_id, place));
CREATE FUNCTION objects() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
    IF NEW.title = 'bad' THEN
        RAISE EXCEPTION USING ERRCODE = '45000', CONSTRAINT = 'no_bad', MESSAGE = 'a secret: ' || NEW.note;
    END IF;
    RETURN NEW;
END $f$;
CREATE TRIGGER objects BEFORE INSERT OR UPDATE ON books FOR EACH ROW EXECUTE FUNCTION objects();
"""
triggers = ["objects"]"#;
    pair.config("PRIMARY KEY (book_id, place));\n\"\"\"", objects);
    pair.books(30);
    pair.book(17, &[("title", s("bad"))]);
    pair.load();
    assert_eq!(pair.number("SELECT count(*) FROM books"), 29);
    let listed = rows(&pair.cutover(&["parked", "--json"], 0));
    let [row] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((&row["key"], &row["reason"]), (&json!(book_id(17)), &json!("refused")));
    assert_eq!(row["detail"], "SQLSTATE 45000, constraint no_bad");
    let said = pair.cutover(&["parked"], 0);
    assert!(said.contains("the target refused the row (SQLSTATE 45000, constraint no_bad)"), "{said}");
    assert!(!said.contains("a note") && !pair.journal().contains("a note"), "a value was shown");
    assert!(pair.journal().contains(r#""rows":29,"parked":{"refused":1}"#), "{}", pair.journal());
    let books = pair.verify("books", &["--full"], 0);
    assert_eq!((&books["summary"]["equal"], &books["summary"]["parked"]), (&json!(29), &json!(1)), "{books:#}");
}
