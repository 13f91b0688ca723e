//! What is said before a rehearsal starts, and whole days.

use clap::Parser as _;

use super::super::args::{Cli, Command};
use super::*;

#[test]
fn a_fault_is_held_against_the_plan_before_anything_starts() {
    let shop = Scenario::Cloudshelf;
    let ids = steps(shop).unwrap();
    let at = planned("errors-new@smoke-tests", shop, &ids).unwrap();
    assert_eq!(at, FaultAt { fault: Fault::ErrorsNew, step: Some("smoke-tests".to_owned()) });
    let wrong = |text: &str| planned(text, shop, &ids).unwrap_err();
    let said = wrong("errors-new@smoke-test");
    assert!(said.starts_with("did you mean smoke-tests? no step is called `smoke-test`; there are "), "{said}");
    let said = wrong("error-new@smoke-tests");
    assert!(said.starts_with("did you mean errors-new? no fault is called `error-new`"), "{said}");
    assert!(wrong("errors-new@").contains("names no step"));
    assert!(!wrong("zzz").contains("did you mean"));
}

#[test]
fn a_fault_that_hits_nothing_in_a_scenario_is_refused() {
    let ids = steps(Scenario::V1ToV2).unwrap();
    for fault in Scenario::V1ToV2.faults() {
        planned(&format!("{fault}@switch"), Scenario::V1ToV2, &ids).unwrap();
    }
    let said = planned("gateway-refuse@switch", Scenario::V1ToV2, &ids).unwrap_err();
    assert_eq!(
        said,
        "gateway-refuse has nothing to hit in v1-to-v2; there are slow-new, errors-new, ssm-refuse, ssm-slow, ssm-lost-reply"
    );
}

#[test]
fn a_scenario_and_its_sizes_are_known_by_name() {
    for known in Scenario::ALL {
        assert_eq!(scenario(known.name()).unwrap(), known);
        assert_eq!((Amounts::usual(known).scenario(), Amounts::few(known).scenario()), (known, known));
    }
    let said = scenario("v1-to-v3").unwrap_err();
    let words = said.words();
    assert!(words.contains("did you mean v1-to-v2? no scenario is called `v1-to-v3`"), "{words}");
    assert!(amounts(Scenario::V1ToV2, Some("30,90,20,10")).unwrap().is_some());
    let words = amounts(Scenario::V1ToV2, Some("30,90")).unwrap_err().words();
    assert!(words.contains("--sizes 30,90: ") && words.contains("is not ACCOUNTS,PAYMENTS,SESSIONS,LIMITS"), "{words}");
}

#[test]
fn a_saved_config_can_be_read_without_its_variables() {
    for scenario in Scenario::ALL {
        let vars = anywhere(scenario);
        let (text, file) = (filled(&scenario.plan(), &vars), scenario.file());
        let read = config::load_str(file, &text, Path::new(""), &BTreeMap::new());
        let asked = config::load_str(file, &scenario.plan(), Path::new(""), &vars);
        assert_eq!(read.unwrap().plan.hash(), asked.unwrap().plan.hash());
    }
}

#[test]
fn a_fault_that_never_struck_and_a_lost_row_have_codes_of_their_own() {
    for (ending, clean, struck, code) in [
        (Ending::Finished, true, true, 0),
        (Ending::Finished, true, false, 9),
        (Ending::Finished, false, false, 5),
        (Ending::RolledBack, true, true, 3),
        (Ending::RolledBack, true, false, 9),
        (Ending::RolledBack, false, true, 5),
        (Ending::GateNotMet, false, false, 4),
        (Ending::Paused, true, false, 75),
    ] {
        assert_eq!(exit(ending, clean, struck) as u8, code, "{ending:?} {clean} {struck}");
    }
}

/// A short day of the payments application by this plan, with these arguments besides. It ends with
/// [`Exit::VerificationFailed`] when anything was lost on the side in charge, whatever else happened.
async fn a_day(plan: &str, more: &[&str]) -> Exit {
    let dir = tempfile::tempdir().unwrap();
    let args = ["cutover", "rehearse", "v1-to-v2", "--headless", "--yes", "--speed", "600", "--sizes", "80,300,60,60"];
    let cli = Cli::try_parse_from(args.iter().chain(more)).unwrap();
    let Command::Rehearse { scenario, drive, speed, seed, fault, sizes, mover, alerts, .. } = cli.command else {
        panic!("another command than asked for");
    };
    let (sizes, mover, alerts) = (sizes.as_deref(), mover.as_deref(), alerts.as_deref());
    let asked = Rehearsal { scenario: &scenario, speed, seed, faults: &fault, sizes, alerts, mover };
    let lived = Box::pin(live(&drive, &asked, Scenario::V1ToV2, plan, dir.path())).await;
    lived.unwrap_or_else(|failure| panic!("{}", failure.words()))
}

#[test]
fn a_mover_is_one_that_the_scenario_has() {
    let of = |scenario: Scenario, mover: Option<&str>| moved(scenario, mover).map_err(|failure| failure.words());
    assert_eq!(of(Scenario::Cloudshelf, None).unwrap(), Scenario::Cloudshelf.plan());
    assert!(of(Scenario::V1ToV2, Some("subscription")).unwrap().contains("mover = \"subscription\""));
    let said = of(Scenario::V1ToV2, Some("subscribtion")).unwrap_err();
    assert!(said.contains("did you mean subscription?"), "{said}");
    let said = of(Scenario::Cloudshelf, Some("subscription")).unwrap_err();
    assert!(said.contains("no table of cloudshelf goes from one PostgreSQL server to another"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_moved_by_subscription_come_to_the_end_of_their_day() {
    let plan = moved(Scenario::V1ToV2, Some("subscription")).unwrap();
    assert_eq!(a_day(&plan.replace("< 500\"", "< 60000\""), &[]).await, Exit::Finished);
}

/// Customers have written on the new side by then: all of it must be on the old one at the end. A gate that is not met is
/// waited for at wall speed, so these are not given twelve minutes. At this speed the first one may be met by what was
/// measured before customers were let in; the second one sees the errors. The day that goes well, and a fault before the thaw,
/// are in `tests/e2e/day.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn payments_made_on_the_new_side_come_back_with_a_rollback() {
    let plan = Scenario::V1ToV2.plan();
    let hurried = plan.replace("hold = \"10m\"\ngive_up = \"12m\"", "hold = \"2s\"\ngive_up = \"30s\"");
    let later = "hold = \"10m\"\n\n[[gates]]\nid = \"success\"";
    assert!(hurried != plan && hurried.contains(later));
    let rolls_back = "hold = \"2s\"\ngive_up = \"30s\"\non_fail = \"roll_back\"\n\n[[gates]]\nid = \"success\"";
    let hurried = hurried.replace(later, rolls_back);
    // How fast a busy machine answers is not what is tried here.
    let hurried = hurried.replace("< 500\"", "< 60000\"");
    assert_eq!(a_day(&hurried, &["--fault", "errors-new@thaw"]).await, Exit::RolledBack);
}
