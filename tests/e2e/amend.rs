//! `cutover amend`: the plan of a run that is under way, changed as far as that is safe, with real processes.

use cutover::domain::run::{Event, Fact};
use rustix::process::Signal;

use super::asked::typed;
#[cfg(feature = "failpoints")]
use super::back::{rolls_back, switched};
use super::shelf::{Shelf, book_id, s};

/// Goes on to the step that waits for somebody, and rests there.
const TO_STAY: [&str; 4] = ["run", "--headless", "--until", "catch-up"];
const STAY: &str = "what = \"Stay here.\"";
const TITLE: &str = "title = { type = \"varchar(20)\"";

/// A run that rests after its load; one of its books is parked, for its title is longer than the column.
fn loaded() -> Shelf {
    let shelf = Shelf::new("");
    rests(&shelf);
    shelf
}

/// Loads the shelf, and rests.
fn rests(shelf: &Shelf) {
    shelf.books(6);
    shelf.book(2, &[("title", s("a title that is far too long"))]);
    shelf.load();
}

fn amended(shelf: &Shelf) -> usize {
    shelf.facts().iter().filter(|f| matches!(f.event, Event::PlanAmended(_))).count()
}

/// Runs the binary to its end; everything it said.
fn said(shelf: &Shelf, args: &[&str], code: i32) -> String {
    let mut console = shelf.start(args);
    console.expect_code(code);
    format!("{}{}", console.out(), console.err())
}

#[test]
fn a_mapping_mended_under_a_run_is_taken_up_and_the_parked_row_arrives() {
    let shelf = Shelf::new("");
    // The last step waits for its time, half an hour ahead: a console lives until then.
    let planned = format!("{STAY}\nstart = \"at_planned\"");
    shelf.config(STAY, &planned);
    rests(&shelf);
    shelf.config(TITLE, "title = { type = \"varchar(40)\"");
    let refused = said(&shelf, &TO_STAY, 78);
    assert!(refused.contains("was opened with another plan") && refused.contains("`cutover amend`"), "{refused}");

    // The table is not altered yet: every row from here on would be refused.
    let unfit = said(&shelf, &["amend", "--yes"], 8);
    let why =
        "the target does not fit the new mapping: books.title is character varying(20), the plan says varchar(40)";
    assert!(unfit.contains(why), "{unfit}");
    shelf.sql("ALTER TABLE books ALTER title TYPE varchar(40)");
    // Without somebody to ask the difference is shown, and that is all.
    let facts = shelf.facts().len();
    let shown = said(&shelf, &["amend"], 8);
    let line = "may change  tables.books.columns.title.type: varchar(20) -> varchar(40)";
    assert!(shown.contains(line) && shown.contains("--yes amends without asking"), "{shown}");
    assert_eq!((shelf.facts().len(), amended(&shelf)), (facts, 0));

    let done = said(&shelf, &["amend", "--yes"], 0);
    assert!(done.contains(line) && done.contains(&format!("on record as fact #{}", facts + 1)), "{done}");
    assert_eq!(amended(&shelf), 1);
    assert!(said(&shelf, &["amend", "--yes"], 0).contains("nothing to amend"));
    assert!(said(&shelf, &["audit"], 0).contains("plan amended, 1 field by "));

    // Both write into the run's own journal: it is the run's plan.
    let tried = shelf.json(&["parked", "retry", "--table", "books"], 0);
    assert_eq!(tried["tables"][0]["went_in"], 1, "{tried:#}");
    let books = shelf.verify("books", &["--full"], 0);
    assert_eq!((&books["verified"], &books["summary"]["parked"]), (&true.into(), &0.into()), "{books:#}");
    let asked = shelf
        .facts()
        .iter()
        .filter(|f| matches!(&f.event, Event::Note { text, .. } if text.contains("asked for")))
        .count();
    assert_eq!(asked, 2);
    let title =
        format!("SELECT count(*) FROM books WHERE id = '{}' AND title = 'a title that is far too long'", book_id(2));
    assert_eq!(shelf.number(&title), 1);

    // The config from before is not taken up any more, and is told why.
    shelf.config("title = { type = \"varchar(40)\"", TITLE);
    let refused = said(&shelf, &TO_STAY, 78);
    assert!(refused.contains("this config is the plan before that amendment"), "{refused}");
    let back = said(&shelf, &["amend", "--yes"], 8);
    assert!(back.contains("REFUSED") && back.contains("values that fitted may look different"), "{back}");
    shelf.config(TITLE, "title = { type = \"varchar(40)\"");

    // Followed under the new mapping too.
    let mut console = shelf.start(&["run", "--headless"]);
    shelf.book(3, &[("title", s("another title that is too long"))]);
    let followed = "SELECT count(*) FROM books WHERE title LIKE 'another title%'";
    console.until("the change to arrive", || shelf.number(followed) == 1);
    console.signal(Signal::INT);
    console.expect_code(75);
    // Nobody wants to wait for that time any more.
    shelf.config(&planned, STAY);
    let done = said(&shelf, &["amend", "--yes"], 0);
    assert!(done.contains("steps.stay.start: at_planned -> when_ready"), "{done}");
    shelf.cutover(&["run", "--headless", "--answer", "stay=dora"], 0);
    assert_eq!(amended(&shelf), 2);
    for command in [&["status"][..], &["audit"]] {
        let text = said(&shelf, command, 0);
        assert!(!text.contains("NOT INTACT"), "{text}");
    }
    let audit = said(&shelf, &["audit"], 0);
    assert!(audit.contains("intact: every byte is as it was written, and the run has ended"), "{audit}");
    let over = said(&shelf, &["amend", "--run", shelf.folder().id(), "--yes"], 0);
    assert!(over.contains("nothing to amend"), "{over}");
}

#[test]
fn what_rests_on_the_old_plan_is_refused_by_name_and_nothing_is_written() {
    let shelf = loaded();
    shelf.config("note = { type = \"text\" }", "note = { type = \"text\", from = \"remark\" }");
    shelf.config("key = [\"reviewId\"]", "key = [\"id\"]");
    shelf.config("id = { from = \"reviewId\"", "id = { from = \"id\"");
    shelf.config(STAY, "what = \"Stay.\"");
    let before = std::fs::read_dir(shelf.folder().path()).unwrap().count();
    let facts = shelf.facts().len();
    let text = said(&shelf, &["amend", "--yes"], 8);
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
    assert_eq!(shelf.facts().len(), facts);
    assert_eq!(std::fs::read_dir(shelf.folder().path()).unwrap().count(), before);
}

#[test]
fn a_run_that_is_driven_keeps_its_plan_and_somebody_at_a_terminal_is_asked() {
    let shelf = Shelf::new("");
    shelf.books(2);
    // Half an hour to wait for.
    shelf.config(STAY, &format!("{STAY}\nstart = \"at_planned\""));
    let mut console = shelf.start(&["run", "--headless"]);
    let caught_up =
        |facts: &[Fact]| facts.iter().any(|f| matches!(&f.event, Event::StepDone { step, .. } if step == "catch-up"));
    console.until("the wait for a planned time", || caught_up(&shelf.facts()));
    shelf.config(STAY, "what = \"Stay.\"");
    let driven = said(&shelf, &["amend", "--yes"], 8);
    assert!(driven.contains("is driven by ") && driven.contains("Ctrl-C pauses it"), "{driven}");
    console.signal(Signal::INT);
    console.expect_code(75);
    let facts = shelf.facts().len();
    for (early, press) in [(&b""[..], &b"n"[..]), (b"A", b"\r"), (b"", b"AA ls\r")] {
        let (code, text) = typed(shelf.dir(), &["amend"], early, Some(("press A", press)));
        assert_eq!(code, 8, "{text}");
        assert!(text.contains("steps.stay.what") && text.contains("the key was not pressed"), "{text}");
    }
    assert_eq!(shelf.facts().len(), facts);
    let (code, text) = typed(shelf.dir(), &["amend"], b"", Some(("press A", b"A")));
    assert_eq!(code, 0, "{text}");
    assert_eq!(amended(&shelf), 1);
}

/// Kills an amendment at each place between its writes: the run opens by the plan its journal says, and audits well.
#[cfg(feature = "failpoints")]
#[test]
fn an_amendment_that_is_cut_off_leaves_a_run_that_opens() {
    let shelf = loaded();
    let mut what = "Stay here.".to_owned();
    let places = ["amend:kept", "amend:written", "amend:recorded", "amend:in-force"];
    for (n, place) in places.into_iter().enumerate() {
        let next = format!("Stay for {place}.");
        let swap = |from: &str, to: &str| shelf.config(&format!("what = \"{from}\""), &format!("what = \"{to}\""));
        swap(&what, &next);
        let mut dying = shelf.start_failing(&["amend", "--yes"], Some(place));
        dying.expect_killed();
        let recorded = n >= 2;
        assert_eq!(amended(&shelf), n.saturating_sub(1), "{place}");
        for command in [&["status"][..], &["audit"], &["rollback", "--what-if"]] {
            let text = said(&shelf, command, 0);
            assert!(!text.contains("warning"), "{place}: {text}");
        }
        if recorded {
            assert!(said(&shelf, &["status"], 0).contains(&short_hash(&shelf)), "{place}");
            swap(&next, &what);
            assert!(said(&shelf, &TO_STAY, 78).contains("the plan before that amendment"), "{place}");
            swap(&what, &next);
            what = next;
        } else {
            assert!(said(&shelf, &TO_STAY, 78).contains("`cutover amend`"), "{place}");
            swap(&next, &what);
        }
        // Taken up by the plan in force, whatever was left lying about; somebody who was asked for the step is asked anew.
        let asked = held(&shelf.facts());
        said(&shelf, &["run", "--headless"], 75);
        assert_eq!(held(&shelf.facts()), asked + usize::from(n == 0 || recorded), "{place}");
        said(&shelf, &["audit"], 0);
        let stands = std::fs::read_to_string(shelf.folder().plan()).unwrap();
        assert!(stands.contains(&what), "plan.json is put right when the run is taken up");
    }
    said(&shelf, &["amend", "--yes"], 0);
    // The plan of an amendment is part of the record.
    let kept = shelf.folder().kept_plans();
    assert!(kept.len() >= 3, "{kept:?}");
    let first = cutover::journal::read_run(&shelf.folder()).unwrap().header.plan_hash;
    let path = shelf.folder().plan_of(&first);
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, good.replace("Stay here.", "Stay there.")).unwrap();
    let found = said(&shelf, &["audit"], 7);
    assert!(found.contains("is another plan: its hash is"), "{found}");
    std::fs::remove_file(&path).unwrap();
    assert!(said(&shelf, &["audit"], 7).contains("cannot be read"));
    // Nobody needs it to go back.
    said(&shelf, &["rollback"], 3);
}

#[cfg(feature = "failpoints")]
fn held(facts: &[Fact]) -> usize {
    facts.iter().filter(|f| matches!(f.event, Event::StepHeld { .. })).count()
}

#[cfg(feature = "failpoints")]
fn short_hash(shelf: &Shelf) -> String {
    let state = cutover::journal::fold(&shelf.facts()).unwrap();
    state.plan_hash[..12].to_owned()
}

/// A folder with half an amendment refuses no way back, not even with the plan of the amendment gone.
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
