//! Switches with several positions.

use super::*;
use crate::domain::plan::{Moves, Serves, Side, ValueRef};

/// A migration in five phases, whose application writes to both sides itself: no table moves.
pub(super) const PHASES: &str = r#"
name = "library"
production = false
[aws]
region = "us-east-1"
[postgres]
host = "db"
database = "library"
user = "cutover"
sslmode = "disable"
[[switches]]
id = "phase"
title = "phase"
effect = "15s"
positions = [
  { name = "1", reads = "old", writes = "old" },
  { name = "2", reads = "old", writes = "both" },
  { name = "3", reads = "both", writes = "both" },
  { name = "4", reads = "new", writes = "both" },
  { name = "5", reads = "new", writes = "new" },
]
places = [
  { id = "phase-flag", parameter = "/app/migration_phase", value = "{position}" },
  { parameter = "/app/dual_write_enabled", values = ["false", "true", "true", "true", "false"] },
  { parameter = "/app/read_from", values = ["mysql", "mysql", "both", "dynamodb", "dynamodb"] },
]
[[signals]]
id = "success"
cloudwatch = { namespace = "App", metric = "DualWriteSuccess" }
[[gates]]
id = "dual"
criteria = ["success >= 99"]
[[steps]]
id = "arm"
kind = "arm"
at = "T-00:30"
[[steps]]
id = "ready"
kind = "gate"
gate = "dual"
at = "T-00:20"
[[steps]]
id = "to-2"
kind = "switch"
to = { phase = "2" }
at = "T+00:00"
[[steps]]
id = "to-3"
kind = "switch"
to = { phase = "3" }
at = "T+24:00"
[[steps]]
id = "to-4"
kind = "switch"
to = { phase = "4" }
at = "T+48:00"
[[steps]]
id = "steady"
kind = "gate"
gate = "dual"
at = "T+72:00"
[[steps]]
id = "to-5"
kind = "switch"
to = { phase = "5" }
at = "T+96:00"
confirm = "word"
"#;

/// The phases with gates before the phases that need one.
pub(super) fn phases() -> String {
    let gate = |before: &str, id: &str| {
        let at = PHASES.split(before).nth(1).unwrap().split("at = \"").nth(1).unwrap().split('"').next().unwrap();
        let gate = format!("id = \"{id}\"\nkind = \"gate\"\ngate = \"dual\"\nat = \"{at}\"\n[[steps]]\n{before}");
        (before.to_owned(), gate)
    };
    [gate("id = \"to-3\"", "before-3"), gate("id = \"to-4\"", "before-4")]
        .into_iter()
        .fold(PHASES.to_owned(), |text, (before, with)| text.replacen(&before, &with, 1))
}

fn plan(text: &str) -> Plan {
    let config = read(text).unwrap_or_else(|e| panic!("{e}"));
    (*config.plan).clone()
}

#[test]
fn phases_are_a_table_of_positions_and_places() {
    let plan = plan(&phases());
    let dial = plan.dial("phase").unwrap();
    assert_eq!(dial.places, ["phase-flag", "phase-2", "phase-3"]);
    assert_eq!(dial.effect_ms, 15_000);
    let values = |place: &str| -> Vec<String> {
        let switch = plan.switch(place).unwrap();
        plan.values_of(switch).into_iter().map(|v| switch.shown(v).to_owned()).collect()
    };
    assert_eq!(values("phase-flag"), ["1", "2", "3", "4", "5"]);
    assert_eq!(values("phase-2"), ["false", "true", "true", "true", "false"]);
    let read_from = plan.switch("phase-3").unwrap();
    assert_eq!((read_from.expect.as_deref(), read_from.to_label().as_str()), (Some("mysql"), "dynamodb"));
    // Each step moves it from where the one before it left it, and only the last moves writes.
    let way: Vec<(usize, usize)> = ["to-2", "to-3", "to-4", "to-5"]
        .into_iter()
        .flat_map(|step| plan.changes(step))
        .filter_map(|change| change.moves.map(|Moves { from, to, .. }| (from, to)))
        .collect();
    assert_eq!(way, [(0, 1), (1, 2), (2, 3), (3, 4)]);
    let moves: Vec<&str> = plan.steps.iter().map(|s| s.id.as_str()).filter(|id| plan.moves_writes(id)).collect();
    assert_eq!(moves, ["to-5"]);
    // Written and read back, it is the same plan.
    let text = serde_json::to_string(&plan).unwrap();
    let again: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!((again.hash(), again), (plan.hash(), plan));
}

#[test]
fn a_ramp_is_a_share_of_the_reads_in_each_position() {
    let text = with_ramp(&ramp("all", "100 %")).replacen("ramp = [10, 100]", "ramp = [10, 50, 100]", 1);
    let found = read(&text).unwrap_or_else(|e| panic!("{e}"));
    let dial = found.plan.dial("share").unwrap();
    let names: Vec<&str> = dial.positions.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["0 %", "10 %", "50 %", "100 %"]);
    assert_eq!(dial.value("share", 1), Some(&ValueRef::Literal("10".into())));
    assert_eq!(dial.positions[1].serves, Serves { reads: Some(Side::Both), writes: None, share: Some(10) });
    assert_eq!(dial.positions[3].serves.words(), "reads new");
    // Switches behind it are named where they stand in the file.
    let wrong = text.replacen("to = { parameter = \"/cloudshelf/prod/db/secret-v2\" }", "to = \"hunter2\"", 1);
    let problems = problems_of(&wrong);
    assert!(
        problems.iter().any(|(at, what, _)| at == "switches[3].to" && what.contains("SecureString")),
        "{problems:?}"
    );
}

#[test]
fn what_is_wrong_with_positions_is_named_where_it_stands() {
    let table = [
        ("{ name = \"2\", reads", "{ name = \"1\", reads", "switches[0].positions[1].name", "called `1` already"),
        (
            "name = \"2\", reads = \"old\", writes = \"both\"",
            "name = \"2\"",
            "switches[0].positions[1]",
            "says nothing",
        ),
        (
            "name = \"2\", reads = \"old\"",
            "name = \"2\", reads = \"old\", share = 10",
            "switches[0].positions[1].share",
            "1 to 99",
        ),
        (
            "name = \"3\", reads = \"both\"",
            "name = \"3\", reads = \"both\", share = 10",
            "switches[0].positions[2].share",
            "share of the reads while",
        ),
        ("\"true\", \"false\"] }", "\"true\"] }", "switches[0].places[1].values", "4 values for 5 positions"),
        ("to = { phase = \"2\" }", "to = { phase = \"two\" }", "steps[2].to.phase", "there is no position `two`"),
        ("to = { phase = \"2\" }", "to = { phase = \"1\" }", "steps[2].to.phase", "stands in `1` already"),
        (
            "to = { phase = \"2\" }",
            "to = { fase = \"2\" }",
            "steps[2].to.fase",
            "there is no switch with positions `fase`",
        ),
        (
            "to = { phase = \"2\" }",
            "switches = [\"phase\"]",
            "steps[2].switches[0]",
            "has positions: write `to = { phase",
        ),
        ("to = { phase = \"2\" }", "switches = [\"phase-2\"]", "steps[2].switches[0]", "is a place of `phase`"),
        ("title = \"phase\"", "title = \"phase\"\nto = \"x\"", "switches[0].to", "without positions"),
        ("title = \"phase\"", "title = \"phase\"\nparameter = \"/x\"", "switches[0].parameter", "exclude each other"),
        (
            "value = \"{position}\" }",
            "value = \"{position}\", secure = true }",
            "switches[0].places[0].values[0]",
            "referred to",
        ),
        ("confirm = \"word\"", "", "steps[8].confirm", "ask for a typed word"),
        (
            "id = \"arm\"\nkind = \"arm\"",
            "id = \"arm\"\nkind = \"manual\"\nwhat = \"x\"",
            "steps[2].kind",
            "must be captured first",
        ),
        (
            "id = \"before-3\"\nkind = \"gate\"\ngate = \"dual\"",
            "id = \"before-3\"\nkind = \"manual\"\nwhat = \"look\"",
            "steps[4].kind",
            "no gate since the change before",
        ),
        (
            "id = \"before-4\"\nkind = \"gate\"\ngate = \"dual\"",
            "id = \"before-4\"\nkind = \"manual\"\nwhat = \"look\"",
            "steps[6].kind",
            "no gate since the change before",
        ),
    ];
    for (from, to, at, says) in table {
        let text = phases().replacen(from, to, 1);
        assert_ne!(text, phases(), "{from}");
        let found = problems_of(&text);
        assert!(found.iter().any(|(path, what, _)| path == at && what.contains(says)), "{to}: {found:#?}");
    }
}

#[test]
fn a_position_that_is_not_there_is_the_only_thing_that_is_wrong() {
    for (some, all) in [("10", "100 %"), ("10 %", "100")] {
        let found = problems_of(&with_ramp(&(ramp("some", some) + &ramp("all", all))));
        let unknown: Vec<&str> = found.iter().map(|(_, what, _)| what.as_str()).collect();
        assert!(
            matches!(unknown.as_slice(), [only] if only.contains("there is no position")),
            "{some}, {all}: {found:#?}"
        );
    }
}

fn ramp(id: &str, to: &str) -> String {
    format!("[[steps]]\nid = \"{id}\"\nkind = \"switch\"\nto = {{ share = \"{to}\" }}\nat = \"T-00:00:30\"\n")
}

/// The shipped day, with a ramp of the reads in front of the freeze.
fn with_ramp(step: &str) -> String {
    let text = EXAMPLE.replacen(
        "[[switches]]\nid = \"reads\"\n",
        "[[switches]]\nid = \"share\"\nparameter = \"/cloudshelf/prod/db/share\"\nramp = [10, 100]\n\n[[switches]]\nid = \"reads\"\n",
        1,
    );
    let freeze = text.find("kind = \"freeze\"").unwrap();
    let at = text[..freeze].rfind("[[steps]]").unwrap();
    format!("{}{step}\n{}", &text[..at], &text[at..])
}

#[test]
fn readers_see_the_new_side_only_once_it_was_loaded_followed_and_compared() {
    let well = with_ramp(&(ramp("some", "10 %") + &ramp("all", "100 %")));
    assert_eq!(problems_of(&well), [], "no freeze is asked for while writes stay where they are");
    let half = with_ramp(&ramp("some", "10 %"));
    let found = problems_of(&half);
    assert!(found.iter().any(|(_, what, _)| what.contains("readers of the old side would not see")), "{found:#?}");
    let config = read(&well).unwrap();
    for (kind, says) in [
        ("catch_up", "what is long changed"),
        ("verify", "are answered the same"),
        ("load", "would find nothing"),
        ("arm", "must be captured first"),
    ] {
        let mut plan = (*config.plan).clone();
        plan.steps.retain(|s| s.kind.name() != kind);
        let found: Vec<String> = crate::domain::lint::lint(&plan).into_iter().map(|f| f.message).collect();
        assert!(found.iter().any(|m| m.starts_with("`some`") && m.contains(says)), "without {kind}: {found:#?}");
    }
}

#[test]
fn an_application_that_writes_to_both_sides_is_refused_beside_tables_that_this_program_moves() {
    let text = with_ramp("[[steps]]\nid = \"both\"\nkind = \"switch\"\nto = { share = \"2\" }\nat = \"T-00:00:30\"\n");
    let positions = "positions = [{ name = \"1\", reads = \"old\", writes = \"old\" }, { name = \"2\", reads = \"old\", writes = \"both\" }]";
    let found = problems_of(&text.replacen("ramp = [10, 100]", positions, 1));
    assert!(found.iter().any(|(_, what, _)| what.contains("an older change would overwrite")), "{found:#?}");
    // Nor may a plan begin there: what is carried would still overwrite it.
    let begins = "positions = [{ name = \"1\", reads = \"old\", writes = \"both\" }, { name = \"2\", reads = \"new\", writes = \"new\" }]";
    let found = problems_of(&text.replacen("ramp = [10, 100]", begins, 1));
    for says in ["an older change would overwrite", "has no `freeze` step", "has no `drain` step"] {
        assert!(found.iter().any(|(_, what, _)| what.contains(says)), "{says}: {found:#?}");
    }
}

#[test]
fn what_is_compared_with_before_has_to_be_measured_before() {
    let step = |at: &str, signals: &str| {
        format!("[[steps]]\nid = \"before\"\nkind = \"baseline\"\nsignals = [{signals}]\nat = \"{at}\"\n")
    };
    let healthy = "criteria = [\"read-p95 < 500\", \"read-errors < 1\"]";
    assert!(EXAMPLE.contains(healthy));
    let asks = |text: &str, criterion: &str| text.replacen(healthy, &format!("criteria = [\"{criterion}\"]"), 1);
    let ramps = ramp("some", "10 %") + &ramp("all", "100 %");
    let with = |step: &str, criterion: &str| problems_of(&asks(&with_ramp(&format!("{step}{ramps}")), criterion));
    let early = step("T-00:00:40", "\"read-p95\", \"read-errors\"");
    assert_eq!(with(&early, "read-p95 <= baseline + 20%"), []);
    let says = |found: &[(String, String, Option<String>)], what: &str| {
        assert!(found.iter().any(|(_, message, _)| message.contains(what)), "{what}: {found:#?}");
    };
    says(&with("", "read-p95 <= baseline"), "which no step before takes");
    says(&with(&early, "read-p95 <= baseline(new-p95)"), "which no step before takes");
    says(&with(&early, "read-p95 <= baseline(read-errors)"), "they cannot be compared");
    says(&with(&step("T-00:00:40", "\"read-p95\", \"lag\""), "read-p95 <= baseline"), "this program's own number");
    let late = format!("{ramps}{}", step("T-00:00:29", "\"read-p95\""));
    says(&problems_of(&asks(&with_ramp(&late), "read-p95 <= baseline")), "is not how it was before");
    says(&with(&early, "read-p95 <= baseline + 2x"), "is not a comparison");
}
