//! `cutover amend`: the plan of a run that is under way, changed as far as that is safe, with real processes.

use cutover::domain::run::{Event, Fact};
use rustix::process::Signal;

use super::asked::typed;
#[cfg(feature = "failpoints")]
use super::back::{rolls_back, switched};
use super::store_pair::{StorePair, book_id, s};

/// Goes on to the step that waits for somebody, and rests there.
const TO_STAY: [&str; 4] = ["run", "--headless", "--until", "catch-up"];
const STAY: &str = "what = \"Stay here.\"";
const TITLE: &str = "title = { type = \"varchar(20)\"";

/// A run that rests after its load; one of its books is parked, for its title is longer than the column.
fn loaded() -> StorePair {
    let pair = StorePair::new("");
    rests(&pair);
    pair
}

/// Loads the rows, and rests.
fn rests(pair: &StorePair) {
    pair.books(6);
    pair.book(2, &[("title", s("a title that is far too long"))]);
    pair.load();
}

fn amended(pair: &StorePair) -> usize {
    pair.facts().iter().filter(|f| matches!(f.event, Event::PlanAmended(_))).count()
}

/// Runs the binary to its end; everything it said.
fn said(pair: &StorePair, args: &[&str], code: i32) -> String {
    let mut console = pair.start(args);
    console.expect_code(code);
    format!("{}{}", console.out(), console.err())
}

#[test]
fn a_mapping_mended_under_a_run_is_taken_up_and_the_parked_row_arrives() {
    let pair = StorePair::new("");
    // The last step waits for its time, half an hour ahead: a console lives until then.
    let planned = format!("{STAY}\nstart = \"at_planned\"");
    pair.config(STAY, &planned);
    rests(&pair);
    pair.config(TITLE, "title = { type = \"varchar(40)\"");
    let refused = said(&pair, &TO_STAY, 78);
    assert!(refused.contains("was opened with another plan") && refused.contains("`cutover amend`"), "{refused}");

    // The table is not altered yet: every row from here on would be refused.
    let unfit = said(&pair, &["amend", "--yes"], 8);
    let why =
        "the target does not fit the new mapping: books.title is character varying(20), the plan says varchar(40)";
    assert!(unfit.contains(why), "{unfit}");
    pair.sql("ALTER TABLE books ALTER title TYPE varchar(40)");
    // Without somebody to ask the difference is shown, and that is all.
    let facts = pair.facts().len();
    let shown = said(&pair, &["amend"], 8);
    let line = "may change  tables.books.columns.title.type: varchar(20) -> varchar(40)";
    assert!(shown.contains(line) && shown.contains("--yes amends without asking"), "{shown}");
    assert_eq!((pair.facts().len(), amended(&pair)), (facts, 0));

    let done = said(&pair, &["amend", "--yes"], 0);
    assert!(done.contains(line) && done.contains(&format!("on record as fact #{}", facts + 1)), "{done}");
    assert_eq!(amended(&pair), 1);
    assert!(said(&pair, &["amend", "--yes"], 0).contains("nothing to amend"));
    assert!(said(&pair, &["audit"], 0).contains("plan amended, 1 field by "));

    // Both write into the run's own journal: it is the run's plan.
    let tried = pair.json(&["parked", "retry", "--table", "books"], 0);
    assert_eq!(tried["tables"][0]["went_in"], 1, "{tried:#}");
    let books = pair.verify("books", &["--full"], 0);
    assert_eq!((&books["verified"], &books["summary"]["parked"]), (&true.into(), &0.into()), "{books:#}");
    let asked = pair
        .facts()
        .iter()
        .filter(|f| matches!(&f.event, Event::Note { text, .. } if text.contains("asked for")))
        .count();
    assert_eq!(asked, 2);
    let title =
        format!("SELECT count(*) FROM books WHERE id = '{}' AND title = 'a title that is far too long'", book_id(2));
    assert_eq!(pair.number(&title), 1);

    // A run is not resumed with the config from before, and the refusal says why.
    pair.config("title = { type = \"varchar(40)\"", TITLE);
    let refused = said(&pair, &TO_STAY, 78);
    assert!(refused.contains("this config is the plan before that amendment"), "{refused}");
    let back = said(&pair, &["amend", "--yes"], 8);
    assert!(back.contains("REFUSED") && back.contains("values that fitted may look different"), "{back}");
    pair.config(TITLE, "title = { type = \"varchar(40)\"");

    // Followed under the new mapping too.
    let mut console = pair.start(&["run", "--headless"]);
    pair.book(3, &[("title", s("another title that is too long"))]);
    let followed = "SELECT count(*) FROM books WHERE title LIKE 'another title%'";
    console.until("the change to arrive", || pair.number(followed) == 1);
    console.signal(Signal::INT);
    console.expect_code(75);
    // Nobody wants to wait for that time any more.
    pair.config(&planned, STAY);
    let done = said(&pair, &["amend", "--yes"], 0);
    assert!(done.contains("steps.stay.start: at_planned -> when_ready"), "{done}");
    pair.cutover(&["run", "--headless", "--answer", "stay=dora"], 0);
    assert_eq!(amended(&pair), 2);
    for command in [&["status"][..], &["audit"]] {
        let text = said(&pair, command, 0);
        assert!(!text.contains("NOT INTACT"), "{text}");
    }
    let audit = said(&pair, &["audit"], 0);
    assert!(audit.contains("intact: every byte is as it was written, and the run has ended"), "{audit}");
    let over = said(&pair, &["amend", "--run", pair.folder().id(), "--yes"], 0);
    assert!(over.contains("nothing to amend"), "{over}");
}

#[test]
fn what_rests_on_the_old_plan_is_refused_by_name_and_nothing_is_written() {
    let pair = loaded();
    pair.config("note = { type = \"text\" }", "note = { type = \"text\", from = \"remark\" }");
    pair.config("key = [\"reviewId\"]", "key = [\"id\"]");
    pair.config("id = { from = \"reviewId\"", "id = { from = \"id\"");
    pair.config(STAY, "what = \"Stay.\"");
    let before = std::fs::read_dir(pair.folder().path()).unwrap().count();
    let facts = pair.facts().len();
    let text = said(&pair, &["amend", "--yes"], 8);
    for line in [
        "REFUSED     tables.books.columns.note.from: note -> remark",
        "REFUSED     tables.reviews.key: reviewId -> id",
        "REFUSED     tables.reviews.columns.id.from: reviewId -> id",
        "may change  steps.stay.what: \"Stay here.\" -> \"Stay.\"",
        "3 of 4 changes may not be made now",
        "load anew with `cutover run --new`",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(pair.facts().len(), facts);
    assert_eq!(std::fs::read_dir(pair.folder().path()).unwrap().count(), before);
}

#[test]
fn a_run_that_is_driven_keeps_its_plan_and_somebody_at_a_terminal_is_asked() {
    let pair = StorePair::new("");
    pair.books(2);
    // Half an hour to wait for.
    pair.config(STAY, &format!("{STAY}\nstart = \"at_planned\""));
    let mut console = pair.start(&["run", "--headless"]);
    let caught_up =
        |facts: &[Fact]| facts.iter().any(|f| matches!(&f.event, Event::StepDone { step, .. } if step == "catch-up"));
    console.until("the wait for a planned time", || caught_up(&pair.facts()));
    pair.config(STAY, "what = \"Stay.\"");
    let driven = said(&pair, &["amend", "--yes"], 8);
    assert!(driven.contains("is driven by ") && driven.contains("Ctrl-C pauses it"), "{driven}");
    console.signal(Signal::INT);
    console.expect_code(75);
    let facts = pair.facts().len();
    for (early, press) in [(&b""[..], &b"n"[..]), (b"A", b"\r"), (b"", b"AA ls\r")] {
        let (code, text) = typed(pair.dir(), &["amend"], early, Some(("press A", press)));
        assert_eq!(code, 8, "{text}");
        assert!(text.contains("steps.stay.what") && text.contains("the key was not pressed"), "{text}");
    }
    assert_eq!(pair.facts().len(), facts);
    let (code, text) = typed(pair.dir(), &["amend"], b"", Some(("press A", b"A")));
    assert_eq!(code, 0, "{text}");
    assert_eq!(amended(&pair), 1);
}

/// Kills an amendment at each place between its writes: the run opens by the plan its journal says, and audits well.
#[cfg(feature = "failpoints")]
#[test]
fn an_amendment_that_is_cut_off_leaves_a_run_that_opens() {
    let pair = loaded();
    let mut what = "Stay here.".to_owned();
    let places = ["amend:kept", "amend:written", "amend:recorded", "amend:in-force"];
    for (n, place) in places.into_iter().enumerate() {
        let next = format!("Stay for {place}.");
        let swap = |from: &str, to: &str| pair.config(&format!("what = \"{from}\""), &format!("what = \"{to}\""));
        swap(&what, &next);
        let mut dying = pair.start_failing(&["amend", "--yes"], Some(place));
        dying.expect_killed();
        let recorded = n >= 2;
        assert_eq!(amended(&pair), n.saturating_sub(1), "{place}");
        for command in [&["status"][..], &["audit"], &["rollback", "--what-if"]] {
            let text = said(&pair, command, 0);
            assert!(!text.contains("warning"), "{place}: {text}");
        }
        if recorded {
            assert!(said(&pair, &["status"], 0).contains(&short_hash(&pair)), "{place}");
            swap(&next, &what);
            assert!(said(&pair, &TO_STAY, 78).contains("the plan before that amendment"), "{place}");
            swap(&what, &next);
            what = next;
        } else {
            assert!(said(&pair, &TO_STAY, 78).contains("`cutover amend`"), "{place}");
            swap(&next, &what);
        }
        // Resumed with the plan in force, whatever files were left in the folder; somebody who was asked for the step
        // is asked anew.
        let asked = held(&pair.facts());
        said(&pair, &["run", "--headless"], 75);
        assert_eq!(held(&pair.facts()), asked + usize::from(n == 0 || recorded), "{place}");
        said(&pair, &["audit"], 0);
        let stands = std::fs::read_to_string(pair.folder().plan()).unwrap();
        assert!(stands.contains(&what), "plan.json is put right when the run is taken up");
    }
    said(&pair, &["amend", "--yes"], 0);
    // The plan of an amendment is part of the record.
    let kept = pair.folder().kept_plans();
    assert!(kept.len() >= 3, "{kept:?}");
    let first = cutover::journal::read_run(&pair.folder()).unwrap().header.plan_hash;
    let path = pair.folder().plan_of(&first);
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("Stay here.", "Stay there.")).unwrap();
    let found = said(&pair, &["audit"], 7);
    assert!(found.contains("is another plan: its hash is"), "{found}");
    std::fs::remove_file(&path).unwrap();
    assert!(said(&pair, &["audit"], 7).contains("cannot be read"));
    // Nobody needs it for a rollback.
    said(&pair, &["rollback"], 3);
}

#[cfg(feature = "failpoints")]
fn held(facts: &[Fact]) -> usize {
    facts.iter().filter(|f| matches!(f.event, Event::StepHeld { .. })).count()
}

#[cfg(feature = "failpoints")]
fn short_hash(pair: &StorePair) -> String {
    let state = cutover::journal::fold(&pair.facts()).unwrap();
    state.plan_hash[..12].to_owned()
}

/// A folder with half an amendment refuses no rollback, not even with the plan of the amendment gone.
#[cfg(feature = "failpoints")]
#[test]
fn the_way_back_takes_a_half_written_amendment() {
    for (place, spoil) in [("amend:written", false), ("amend:recorded", false), ("amend:recorded", true)] {
        let (stage, mut console) = switched(60);
        console.signal(Signal::KILL);
        console.expect_killed();
        let text = stage.config();
        let thaw = text.find("kind = \"thaw\"").unwrap();
        let owner = text[..thaw].rfind("owner = ").unwrap();
        let end = owner + text[owner..].find('\n').unwrap();
        stage.write("config.toml", &format!("{}owner = \"somebody else\"{}", &text[..owner], &text[end..]));
        stage.start(&["amend", "--yes"], Some(place)).expect_killed();
        if spoil {
            let hash = stage.state().plan_hash;
            std::fs::remove_file(stage.folder().unwrap().plan_of(&hash)).unwrap();
        }
        rolls_back(&stage);
    }
}
