//! `cutover verify`: every cause is named, what is explained is not counted against anybody, and repair is proven by
//! the next pass.

use cutover::domain::run::{Event, VerifySummary};
use serde_json::{Value, json};

use super::store_pair::{StorePair, book_id, n, s};

fn fields(report: &Value, key: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|f| f["key"] == key).unwrap_or_else(|| panic!("{key} is not in {report:#}"));
    found["fields"].as_array().unwrap().iter().map(|f| f.as_str().unwrap().to_owned()).collect()
}

fn kinds(report: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let mut all: Vec<_> =
        report["findings"].as_array().unwrap().iter().map(|f| (text(&f["key"]), text(&f["kind"]))).collect();
    all.sort();
    all
}

#[test]
fn every_difference_is_found_with_its_cause_and_repaired() {
    let pair = StorePair::new("");
    pair.books(60);
    pair.book(20, &[("oldId", s("0193E001-7C11-7ABC-9DEF-0123456789AB"))]);
    pair.load();
    let clean = pair.verify("books", &["--full"], 0);
    assert_eq!((&clean["verified"], &clean["summary"]["equal"]), (&json!(true), &json!(60)));

    let tampered = [
        (1, "price = 19.99", "price: number precision"),
        (2, "price = 20", "price: number precision"),
        (3, "price = NULL", "price: value"),
        (4, "note = ''", "note: value"),
        (5, "note = 'a no'", "note: truncated"),
        (6, "note = 'a note  '", "note: padding"),
        (7, "added = date_trunc('milliseconds', added)", "added: timestamp precision"),
        (8, "added = added + interval '2 hours'", "added: time zone"),
        (9, "words = '{b,a}'", "words: order"),
        (10, "words = '{a}'", "words: truncated"),
        (11, "pages = 12", "pages: value"),
        (20, "old_id = lower(old_id)", "old_id: id transform"),
        (21, "extra = '{}'", "extra: null vs empty"),
    ];
    for (book, set, _) in tampered {
        pair.sql(&format!("UPDATE books SET {set} WHERE id = '{}'", book_id(book)));
    }
    pair.sql(&format!("DELETE FROM book_tags WHERE book_id = '{}' AND place = 1", book_id(30)));
    pair.sql(&format!("DELETE FROM book_tags WHERE book_id = '{0}'; DELETE FROM books WHERE id = '{0}'", book_id(31)));
    pair.sql(&format!("INSERT INTO books (id, title) VALUES ('{}', 'nobody wrote this')", book_id(900)));

    let found = pair.verify("books", &["--full"], 5);
    for (book, _, cause) in tampered {
        assert_eq!(fields(&found, &book_id(book)), [cause], "{found:#}");
    }
    assert_eq!(fields(&found, &book_id(30)), ["book_tags: child rows"]);
    let summary = &found["summary"];
    let counted = ["equal", "missing", "extra", "mismatched"].map(|k| summary[k].as_u64().unwrap());
    assert_eq!(counted, [60 - 15, 1, 1, 14], "{found:#}");
    assert_eq!((summary["source"]["rows"].as_u64(), summary["target"]["rows"].as_u64()), (Some(60), Some(60)));
    assert_eq!(kinds(&found).len(), 16);
    assert!(!found.to_string().contains("nobody wrote this"), "a value was shown");

    // One key first; the others stay as they are.
    let one = pair.verify("books", &["--repair", &book_id(1)], 0);
    assert_eq!(one["repaired"], json!({ "asked": 1, "equal": 1, "parked": 0, "left": 0 }));
    assert_eq!(pair.number(&format!("SELECT price * 1000 FROM books WHERE id = '{}'", book_id(1))), 19_999);
    assert_eq!(pair.verify("books", &["--full"], 5)["summary"]["mismatched"], 13);

    // Then all of them: the pass after the repair says whether that was enough.
    let all = pair.verify("books", &["--repair", "all"], 0);
    assert_eq!(all["repaired"]["asked"], 15, "{all:#}");
    assert_eq!((&all["verified"], &all["summary"]["equal"]), (&json!(true), &json!(60)), "{all:#}");
    assert_eq!(pair.number("SELECT count(*) FROM books"), 60);
    assert_eq!(pair.number("SELECT count(*) FROM book_tags"), 180);
}

#[test]
fn findings_are_private_and_repairs_are_on_record_before_and_after() {
    let pair = StorePair::new("");
    pair.books(5);
    pair.load();
    pair.sql("UPDATE books SET note = 'secret words'");
    let said = pair.json(&["verify", "--table", "books", "--repair", "all"], 0);
    let journal = pair.dir().join("state/runs").join(said["run"].as_str().unwrap()).join("journal.jsonl");
    let journal = std::fs::read_to_string(journal).unwrap();
    let at = |what: &str| journal.find(what).unwrap_or_else(|| panic!("no {what} in {journal}"));
    let (intent, outcome) = (at("\"kind\":\"repair\""), at("5 of 5 equal"));
    assert!(intent < outcome && at("verify --repair all") < intent);
    assert!(journal[outcome..].contains("\"type\":\"verified\""), "the next pass is on record");
    assert!(!journal.contains("secret words") && !journal.contains("a note"));

    pair.sql("UPDATE books SET note = 'other words'");
    let said = pair.json(&["verify", "--table", "books", "--full"], 5);
    let file = said["findings_file"].as_str().unwrap();
    StorePair::expect_private(&if file.starts_with('/') {
        file.to_owned()
    } else {
        format!("{}/{file}", pair.dir().display())
    });
}

#[test]
fn rows_past_their_time_are_told_apart_from_lost_ones() {
    let pair = StorePair::new("");
    pair.put("Shelf-Authors", &[("authorId", s("ann")), ("name", s("Ann"))]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let cart = |item: u32, expires: u64| {
        pair.put("Shelf-Carts", &[("userId", s("u|1")), ("itemNo", n(item)), ("expiresAt", n(expires))]);
    };
    (0..10).for_each(|item| cart(item, now + 86_400));
    (10..14).for_each(|item| cart(item, now - 60));
    pair.load();
    assert_eq!(pair.verify("carts", &["--full"], 0)["verified"], json!(true));

    // The target dropped three: two whose time was over, and one whose time was not.
    pair.sql("DELETE FROM carts WHERE item_no IN (3, 10, 11)");
    // The source dropped one whose time was over, which nobody follows now.
    pair.delete("Shelf-Carts", &[("userId", s("u|1")), ("itemNo", n(12))]);
    let found = pair.verify("carts", &["--full"], 5);
    let counted =
        ["equal", "missing", "extra", "expired", "expired_extra"].map(|k| found["summary"][k].as_u64().unwrap());
    assert_eq!(counted, [10, 1, 0, 2, 1], "{found:#}");
    assert_eq!(kinds(&found), [("u\\|1|3".to_owned(), "missing".to_owned())]);
    // source = target + parked + expired, with what is lost left over.
    let rows = |side: &str| found["summary"][side]["rows"].as_u64().unwrap();
    assert_eq!((rows("source"), rows("target")), (13, 11));

    let mended = pair.verify("carts", &["--repair", "u\\|1|3"], 0);
    assert_eq!(mended["repaired"]["equal"], 1, "{mended:#}");
    assert_eq!(pair.verify("carts", &["--full"], 0)["verified"], json!(true));
}

#[test]
fn rows_without_parent_are_found_though_no_constraint_speaks() {
    let pair = StorePair::new("");
    pair.books(6);
    pair.book(3, &[("author", s("nobody"))]);
    pair.load();
    pair.sql(&format!("INSERT INTO book_tags VALUES ('{}', 0, 'lost')", book_id(77)));
    let found = pair.verify("books", &["--full"], 5);
    assert_eq!((&found["summary"]["orphans"], &found["summary"]["extra"]), (&json!(2), &json!(1)), "{found:#}");
    assert_eq!(fields(&found, &book_id(3)), ["books.author: no such row in authors"]);
    assert_eq!(fields(&found, &format!("{}|0", book_id(77))), ["book_tags.book_id: no such row in books"]);
    pair.sql("DELETE FROM book_tags WHERE tag = 'lost'; INSERT INTO authors VALUES ('nobody', 'No One')");
    assert_eq!(pair.verify("books", &["--full"], 0)["summary"]["orphans"], json!(0));
}

#[test]
fn two_spellings_of_one_uuid_do_not_hide_each_other() {
    let pair = StorePair::new("");
    pair.books(3);
    let upper = book_id(1).to_uppercase();
    pair.put("Shelf-Books", &[("bookId", s(&upper)), ("title", s("twin"))]);
    pair.load();
    let found = pair.verify("books", &["--full"], 0);
    assert_eq!((&found["summary"]["equal"], &found["summary"]["parked"]), (&json!(3), &json!(1)), "{found:#}");
    assert!(pair.cutover(&["parked"], 0).contains(&upper));
    // Without its entry it is missing, under its own key, whatever stands under the other spelling.
    pair.sql("DELETE FROM cutover.parked");
    let found = pair.verify("books", &["--full"], 5);
    assert_eq!(kinds(&found), [(upper, "missing".to_owned())], "{found:#}");
}

#[test]
fn a_sample_finds_what_is_wrong_everywhere_and_proves_nothing() {
    let pair = StorePair::new("");
    pair.books(200);
    pair.load();
    let found = pair.verify("books", &["--sample", "40"], 0);
    let equal = found["summary"]["equal"].as_u64().unwrap();
    assert!((8..=80).contains(&equal), "{found:#}");
    assert_eq!(found["verified"], json!(false));
    pair.sql("UPDATE books SET pages = pages + 1");
    assert!(pair.verify("books", &["--sample", "40"], 5)["summary"]["causes"]["pages: value"].as_u64() > Some(7));
    pair.sql("TRUNCATE books; INSERT INTO books (id, title) SELECT gen_random_uuid(), 'x' FROM generate_series(1, 50)");
    let found = pair.verify("books", &["--sample", "1000"], 5);
    assert!(found["summary"]["extra"].as_u64() >= Some(50), "rows only the target has: {found:#}");
}

#[test]
fn a_table_that_is_not_there_and_a_key_that_is_none_are_refused() {
    let pair = StorePair::new("");
    pair.books(1);
    pair.load();
    pair.cutover(&["verify", "--table", "bocks"], 2);
    pair.cutover(&["verify", "--repair", "x"], 2);
    let mut refused = pair.start(&["verify", "--table", "carts", "--repair", "only-one-part"]);
    refused.expect_code(1);
    assert!(refused.err().contains("2 parts: userId, itemNo"), "{}", refused.words());
}

#[test]
fn nothing_is_compared_or_repaired_beside_a_console_that_drives() {
    let pair = StorePair::new("");
    pair.books(2);
    // The last step has its time in half an hour: the console waits for it and follows changes.
    pair.config("what = \"Stay here.\"", "what = \"Stay here.\"\nstart = \"at_planned\"");
    let mut console = pair.start(&["run", "--headless", "--yes"]);
    console.until("the run has caught up", || pair.journal().contains("\"step_done\",\"step\":\"catch-up\""));
    let mut refused = pair.start(&["verify", "--table", "books", "--full"]);
    refused.expect_code(8);
    assert!(refused.err().contains("driven by"), "{}", refused.words());
}

#[test]
fn what_is_found_in_other_stores_is_no_evidence_for_the_run() {
    let pair = StorePair::new("");
    pair.books(2);
    pair.load();
    let kept = |said: &serde_json::Value, place: &str| {
        pair.dir().join("state").join(place).join(said["run"].as_str().unwrap()).join("journal.jsonl").exists()
    };
    let said = pair.json(&["verify", "--table", "books", "--full"], 0);
    assert!(kept(&said, "runs"), "{said:#}");
    // The same server by another name: nothing shows that it is the same.
    pair.config("host = \"127.0.0.1\"", "host = \"localhost\"");
    let said = pair.json(&["verify", "--table", "books", "--full"], 0);
    assert!(kept(&said, "verifications/runs") && !kept(&said, "runs"), "{said:#}");
}

#[test]
fn a_run_is_compared_and_mended_by_its_folder_alone_and_that_is_logged() {
    let pair = StorePair::new("");
    pair.books(3);
    pair.put("Shelf-Reviews", &[("reviewId", s("r1")), ("author", s("bob"))]);
    pair.load();
    let folder = cutover::journal::RunFolder::list(&pair.dir().join("state")).unwrap().remove(0);
    std::fs::remove_file(pair.dir().join("config.toml")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let ask = |name: &str, args: &[&str], code: i32| {
        let state = pair.dir().join("state");
        let all = [&["--state-dir", state.to_str().unwrap()], args, &["--run", folder.id()]].concat();
        let mut console = super::console::Console::start(elsewhere.path(), name, &all, None);
        console.expect_code(code);
        console.out()
    };
    let found: Value =
        serde_json::from_str(&ask("verify", &["verify", "--table", "books", "--full", "--json"], 0)).unwrap();
    assert_eq!(found["tables"][0]["summary"]["equal"], json!(3), "{found:#}");
    assert!(ask("parked", &["parked"], 0).contains("r1"));
    pair.put("Shelf-Authors", &[("authorId", s("bob")), ("name", s("Bob"))]);
    ask("authors", &["verify", "--table", "authors", "--repair", "all"], 0);
    ask("retry", &["parked", "retry", "--table", "reviews"], 0);
    assert_eq!(pair.number("SELECT count(*) FROM reviews"), 1);
    let log = std::fs::read_to_string(folder.path().join("cutover.log")).unwrap();
    for asked in ["verify --repair all", "parked retry"] {
        assert!(log.lines().any(|l| l.contains("asked for") && l.contains(asked)), "{asked} is not in the log: {log}");
    }
}

/// What each full pass over a table found so far, oldest first.
fn passes(pair: &StorePair, table: &str) -> Vec<VerifySummary> {
    let found = pair.facts().into_iter().filter_map(|f| match f.event {
        Event::Verified { table: of, summary } if of == table => Some(summary),
        _ => None,
    });
    found.collect()
}

#[test]
fn tables_are_compared_over_and_over_while_both_sides_change() {
    let pair = StorePair::new("continuous = true\nevery = \"1s\"");
    pair.books(40);
    pair.put("Shelf-Reviews", &[("reviewId", s("r1")), ("author", s("bob"))]);
    // The last step has its time in half an hour: the console waits for it and follows changes.
    pair.config("what = \"Stay here.\"", "what = \"Stay here.\"\nstart = \"at_planned\"");
    let mut console = pair.start(&["run", "--headless", "--yes"]);
    console.until("a first pass", || !passes(&pair, "books").is_empty());
    // Changes on their way are no differences.
    let mut n_ = 0;
    console.until("three passes while books change", || {
        pair.book(n_ % 50, &[("pages", n(n_))]);
        n_ += 1;
        passes(&pair, "books").len() >= 4
    });
    for pass in passes(&pair, "books") {
        assert!(pass.clean(), "{pass:?}");
    }
    // A parent that comes lets its child in by itself.
    pair.put("Shelf-Authors", &[("authorId", s("bob")), ("name", s("Bob"))]);
    console.until("the review that waited", || pair.number("SELECT count(*) FROM reviews") == 1);
    // What somebody else changes in the target is found by the next pass, with its cause.
    pair.sql(&format!("UPDATE books SET note = 'tampered' WHERE id = '{}'", book_id(7)));
    console.until("a pass that finds it", || passes(&pair, "books").last().is_some_and(|p| p.differing() == 1));
    let found = passes(&pair, "books").pop().unwrap();
    assert_eq!((found.mismatched, found.causes["note: value"]), (1, 1), "{found:?}");
    let folder = cutover::journal::RunFolder::list(&pair.dir().join("state")).unwrap().remove(0);
    let file = folder.path().join("findings-books.json");
    StorePair::expect_private(file.to_str().unwrap());
    let listed: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(listed[0]["key"], json!(book_id(7)), "{listed:#}");
    // A later change of the same item is applied correctly, and the next pass says so.
    pair.book(7, &[]);
    console.until("a clean pass", || passes(&pair, "books").last().is_some_and(VerifySummary::clean));
}

#[test]
fn rows_nobody_of_ours_wrote_are_refused_before_anything_begins() {
    let pair = StorePair::new("");
    pair.books(2);
    pair.sql("CREATE TABLE authors (id text PRIMARY KEY, name varchar(20) NOT NULL)");
    assert!(pair.cutover(&["check"], 0).contains(" 0 failed"));
    pair.sql("INSERT INTO authors VALUES ('eve', 'Eve')");
    let said = pair.cutover(&["check"], 1);
    assert!(
        said.contains("authors holds 1 rows that no load of ours wrote") && said.contains("TRUNCATE authors"),
        "{said}"
    );
    let mut run = pair.start(&["run", "--headless", "--yes"]);
    assert_ne!(run.wait().code(), Some(0));
    assert!(!pair.journal().contains("\"capture_started\"") && pair.number("SELECT count(*) FROM authors") == 1);
    pair.sql("TRUNCATE authors");
    pair.load();
    // What our own load wrote is no reason to refuse.
    assert!(pair.cutover(&["check"], 0).contains(" 0 failed"));
}
