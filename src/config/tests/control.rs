//! Switches of several regions and accounts.

use super::*;

/// The example with a further region, and its first switch in it.
pub(super) fn with_region(section: &str, control: &str) -> String {
    let text = EXAMPLE.replacen("\n[postgres]\n", &format!("\n{section}\n[postgres]\n"), 1);
    text.replacen("expect = \"dynamodb\"\n", &format!("expect = \"dynamodb\"\ncontrol = \"{control}\"\n"), 1)
}

#[test]
fn a_switch_stands_in_the_region_it_names_and_takes_from_aws_what_that_does_not_say() {
    let config = read(&with_region("[control.eu]\nregion = \"eu-west-1\"\naccount = \"444455556666\"", "eu")).unwrap();
    let switch = &config.plan.switches[0];
    assert_eq!((switch.control.as_str(), switch.place().as_str()), ("control.eu", "eu:/cloudshelf/prod/db/reads"));
    let eu = &config.plan.stores["control.eu"];
    assert_eq!((eu.region.as_deref(), eu.account.as_deref()), (Some("eu-west-1"), Some("444455556666")));
    assert_eq!(config.plan.stores["control"].region.as_deref(), Some("us-east-1"));
    assert_ne!(config.plan.hash(), read(EXAMPLE).unwrap().plan.hash(), "where a switch stands is part of the plan");
    // A run keeps it, and a rollback reads it from there or from the plan alone.
    let kept = SavedConnections::text(&config.connections).unwrap();
    assert_eq!(SavedConnections::read(&kept), SavedConnections::from(&config.connections));
    let alone = SavedConnections::from_stores(&config.plan.stores);
    assert_eq!(alone.controls["control.eu"].as_ref().unwrap().region, "eu-west-1");
}

#[test]
fn a_region_that_is_not_there_or_not_used_is_named() {
    let found = problems_of(&with_region("[control.europe]\nregion = \"eu-west-1\"", "erope"));
    assert!(
        found.iter().any(|(at, what, near)| at == "switches[0].control"
            && what == "there is no [control.erope]"
            && near.as_deref() == Some("europe")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|(at, what, _)| at == "control.europe"
                && what == "no switch stands in `europe`, and no job works there"),
        "{found:?}"
    );
}

#[test]
fn one_place_under_two_names_of_a_region_is_named() {
    let home = "\n[[switches]]\nid = \"reads-home\"\nparameter = \"/cloudshelf/prod/db/reads\"\nto = \"x\"\n";
    let other = with_region("[control.eu]\nregion = \"eu-west-1\"", "eu") + home;
    assert!(read(&other).is_ok(), "{:?}", problems_of(&other));
    let same = with_region("[control.here]\nregion = \"us-east-1\"", "here") + home;
    let found = problems_of(&same);
    assert!(found.iter().any(|(_, what, _)| what.contains("another switch stands at")), "{found:?}");
}

/// The example, whose customers write in a second region too.
fn in_two_regions() -> String {
    let region = with_region("[control.eu]\nregion = \"eu-west-1\"", "eu");
    let freezes = region.replacen(
        "[freeze]\nswitch = \"writes-mode\"\nprobe = \"write\"",
        "[[switches]]\nid = \"writes-mode-eu\"\nparameter = \"/cloudshelf/prod/writes-mode\"\ncontrol = \"eu\"\n\
         expect = \"open\"\nto = \"frozen\"\n\n\
         [[probes]]\nid = \"write-eu\"\nmethod = \"POST\"\nurl = \"https://eu.example.com/api/probe\"\nrefused = [503]\n\n\
         [freeze]\nswitch = [\"writes-mode\", \"writes-mode-eu\"]\nprobe = [\"write\", \"write-eu\"]",
        1,
    );
    assert_ne!(freezes, region);
    freezes
}

#[test]
fn writes_are_frozen_in_every_place_where_customers_write() {
    let text = in_two_regions();
    let plan = read(&text).unwrap_or_else(|e| panic!("{e}")).plan;
    let places: Vec<String> = plan.freeze_switches().map(crate::domain::plan::Switch::place).collect();
    assert_eq!(places, ["/cloudshelf/prod/writes-mode", "eu:/cloudshelf/prod/writes-mode"]);
    assert_eq!(plan.freeze_probes().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["write", "write-eu"]);
    // A plan is kept as it is, and one place in a list is one place.
    let kept: crate::domain::plan::Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!((kept.freeze.as_ref(), kept.hash()), (plan.freeze.as_ref(), plan.hash()));
    let one = EXAMPLE.replacen("switch = \"writes-mode\"", "switch = [\"writes-mode\"]", 1);
    assert_eq!(read(&one).unwrap().plan.hash(), read(EXAMPLE).unwrap().plan.hash());

    let wrong = |from: &str, to: &str| problems_of(&text.replacen(from, to, 1));
    let named = |found: &[(String, String, Option<String>)], at: &str, what: &str| {
        assert!(found.iter().any(|(path, said, _)| path == at && said.contains(what)), "{at} {what}: {found:?}");
    };
    let (switches, probes) =
        ("\nswitch = [\"writes-mode\", \"writes-mode-eu\"]", "\nprobe = [\"write\", \"write-eu\"]");
    let mistyped = wrong(switches, "\nswitch = [\"writes-mode\", \"writes-mode-ue\"]");
    named(&mistyped, "freeze.switch[1]", "no switch");
    named(&wrong(switches, "\nswitch = [\"writes-mode\", \"writes-mode\"]"), "freeze.switch[1]", "named twice");
    named(&wrong(probes, "\nprobe = [\"write\", \"wirte\"]"), "freeze.probe[1]", "no probe");
    named(&wrong("refused = [503]\n\n[freeze]", "\n[freeze]"), "freeze.probe[1]", "cannot prove a freeze");
    named(&wrong(probes, "\nprobe = \"write\""), "freeze.probe", "name a probe of each");
    named(&wrong(switches, "\nswitch = []"), "freeze.switch", "empty");
}
