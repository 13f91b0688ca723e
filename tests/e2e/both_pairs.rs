//! A new version of an application with two pairs of stores, DynamoDB to DynamoDB and PostgreSQL to PostgreSQL: one day
//! there and back, on the embedded DynamoDB and on an emulator that others wrote.

use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::ParameterType;
use cutover::domain::run::RunStatus;
use cutover::rehearsal::clients::session;
use cutover::rehearsal::control::ControlPlane;
use tokio::runtime::Runtime;

use super::samples::{DAY, MODE, door, steps};
use super::stage::independent;
use super::stores::{Databases, NOTES_V2, Notes};

/// Where the switches of the day stand, and a door that refuses writes while they say so.
struct Control {
    config: String,
    day: String,
    _plane: Option<ControlPlane>,
    _runtime: Runtime,
}

impl Control {
    /// On this emulator, or on a stand-in of its own.
    fn new(endpoint: Option<&str>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let plane = endpoint.is_none().then(|| runtime.block_on(ControlPlane::start(Default::default())).unwrap());
        let endpoint = plane.as_ref().map_or_else(|| endpoint.unwrap_or_default(), ControlPlane::endpoint);
        // The emulator is not asked by this test alone.
        let place = format!("/pairs-{:08x}/", fastrand::u32(..));
        let of_ours = |text: &str| text.replace("/samples/", &place);
        let parameters = Client::new(&session(endpoint, 3));
        let door = runtime.block_on(async {
            for (name, value) in [(MODE, "open"), ("/samples/store", "old")] {
                let put = parameters.put_parameter().name(of_ours(name)).value(value).r#type(ParameterType::String);
                put.send().await.unwrap();
            }
            door(parameters, &of_ours(MODE)).await
        });
        let config = format!("[aws]\nregion = \"us-east-1\"\ncredentials = \"emulator\"\nendpoint = \"{endpoint}\"\n");
        let day = format!("{}{}", of_ours(DAY).replace("@DOOR@", &door), steps());
        Self { config, day, _plane: plane, _runtime: runtime }
    }
}

fn there_and_back(papers: &Notes, control: &Control) {
    let (old, new) = (papers.table.clone(), format!("{}-v2", papers.table));
    let tables = NOTES_V2.replace("papers.Notes", &format!("papers.{old}"));
    let both = Databases::of_a_day(&format!("{}{}", control.config, papers.store()), &tables, &control.day);
    for table in [&old, &new] {
        both.runtime.block_on(papers.create(table));
    }
    let notes = || both.runtime.block_on(async { (papers.held(&old).await, papers.held(&new).await) });
    (0..40).for_each(|n| both.runtime.block_on(papers.put(&format!("n{n}"), "before")));
    let said = both.cutover(&["check"], 0);
    assert!(said.contains(" 0 failed"), "{said}");
    let not_looked_at = "aws application-autoscaling describe-scalable-targets";
    assert!(said.contains("stays behind") && said.contains(not_looked_at), "{said}");
    both.cutover(&["run", "--headless", "--yes", "--until", "catch_up"], 75);
    (20..60).for_each(|n| both.runtime.block_on(papers.put(&format!("n{n}"), "after")));
    both.old("UPDATE people SET name = 'renamed'; DELETE FROM visits WHERE place = 'place 3'");
    both.cutover(&["run", "--headless", "--yes", "--until", "thaw"], 75);
    assert_eq!(both.new_rows(), both.old_rows());
    let (there, here) = notes();
    assert_eq!((here.len(), &here), (60, &there));

    // Customers of the new side write into both of its stores: new rows, other rows, and rows that go.
    both.new_sql(
        "UPDATE people SET name = 'of the new side' WHERE id <= 50; INSERT INTO people VALUES (1001, 'new', NULL);
         DELETE FROM visits WHERE place = 'place 4'; INSERT INTO visits VALUES (1001, 'here', now(), '')",
    );
    both.runtime.block_on(async {
        for n in 55..75 {
            papers.put_into(&new, &format!("n{n}"), "of the new side").await;
        }
        for n in 0..5 {
            papers.delete_from(&new, &format!("n{n}")).await;
        }
    });
    let wanted = (both.new_rows(), notes().1);
    both.cutover(&["rollback", "--yes"], 3);
    assert_eq!((both.old_rows(), notes().0), wanted, "what customers wrote on the new side is on the old one");
    assert_eq!((wanted.1.len(), both.status(), both.kept()), (70, RunStatus::RolledBack, vec![]));
    both.release("people/test");
    // Nothing of the plan is left anywhere.
    both.cutover(&["release", "people/test"], 2);
}

#[test]
fn both_pairs_of_a_new_version_move_in_one_run_and_come_back() {
    there_and_back(&Notes::new(), &Control::new(None));
}

#[test]
fn both_pairs_move_in_one_run_and_come_back_on_an_independent_emulator() {
    let (endpoint, _alone) = independent();
    there_and_back(&Notes::on(&endpoint), &Control::new(Some(&endpoint)));
}
