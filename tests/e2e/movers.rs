//! The payments day with its databases moved by the new server's own subscription: checked, killed and taken up, taken back.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cutover::domain::run::RunStatus;
use cutover::rehearsal::postgres::PrivatePostgres;
use cutover::rehearsal::short_plan::Last;
use cutover::rehearsal::{Servers, subscribed};
use rustix::process::Signal;

use super::payments::{PaymentDay, started};

/// A day that goes up to this step, with both tables of PostgreSQL moved by subscription.
fn day(last: Last) -> PaymentDay {
    PaymentDay::with(last, |plan| subscribed(&plan))
}

/// What a subscription of ours left at either server.
fn left(day: &PaymentDay) -> Vec<String> {
    let (v1, v2) = servers_of_the_day();
    let ask = async |server: &PrivatePostgres, sql: &str| {
        let (client, driver) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.unwrap();
        let driver = tokio::spawn(driver);
        let rows = client.query(sql, &[]).await.unwrap();
        driver.abort();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    day.runtime.block_on(async {
        let mut all = ask(v1, "SELECT 'slot ' || slot_name FROM pg_replication_slots").await;
        all.extend(ask(v2, "SELECT 'subscription ' || subname FROM pg_subscription").await);
        all
    })
}

fn servers_of_the_day() -> (&'static PrivatePostgres, &'static PrivatePostgres) {
    match started() {
        Servers::V1ToV2 { v1, v2, .. } => (v1, v2),
        Servers::Cloudshelf { .. } => panic!("servers of another day"),
    }
}

#[test]
fn a_day_moved_by_subscription_is_checked_and_dies_around_each_order_and_finishes() {
    let mut day = day(Last::Thaw);
    let mut check = day.start(&["check", "-c", "config.toml"], None);
    check.expect_code(0);
    let said = check.out();
    assert!(said.contains("mover subscription-v1-v2") && said.contains("moves 2 tables"), "{said}");
    // It says what it would do, and has done nothing.
    assert_eq!(left(&day), [""; 0]);
    let places = [
        "before:mover.prepare",
        "after:mover.prepare",
        "after:mover.start",
        "before:mover.stop",
        "after:mover.stop",
        "after:target.open_to_customers",
        "before:mover.remove",
        "after:mover.remove",
    ];
    for place in places {
        day.run(Some(place)).expect_killed();
        assert_ne!(day.state().status, RunStatus::Finished, "{place}");
    }
    day.run(None).expect_code(0);
    day.expect_finished();
    assert_eq!(left(&day), [""; 0]);
    // A password is in no file of the run, and in nothing that was said.
    let (v1, _) = servers_of_the_day();
    let mut folders = vec![day.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.to_string_lossy().contains("password_file") {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                assert!(!text.contains(v1.password.reveal()), "{}", path.display());
            }
        }
    }
}

#[test]
fn a_day_moved_by_subscription_is_taken_back_from_another_terminal_wherever_its_console_died() {
    for place in ["after:mover.prepare", "after:mover.start", "before:mover.stop", "after:mover.stop"] {
        let mut day = day(Last::Thaw);
        day.run(Some(place)).expect_killed();
        assert!(left(&day).iter().any(|what| what.starts_with("subscription ")), "{place}");
        day.expect_rolled_back(place);
        assert_eq!(left(&day), [""; 0], "{place}");
    }
}

#[test]
fn customers_come_back_from_a_day_moved_by_subscription_with_all_they_wrote() {
    let mut day = day(Last::BurnIn(3_600));
    let mut console = day.run(None);
    let oracle = day.world().shop().oracle().clone();
    console.until("customers on the new side", || oracle.tally().new > 150);
    console.signal(Signal::KILL);
    console.expect_killed();
    let said = day.expect_rolled_back("a rollback");
    assert!(said.contains("0 wrong on the side that serves no more: PostgreSQL v2 "), "{said}");
    assert_eq!(left(&day), [""; 0]);
}

#[test]
fn a_release_removes_what_a_dead_console_left_at_work() {
    const PLAN: &str = "v1-to-v2/rehearsal";
    let mut day = day(Last::Thaw);
    day.run(Some("after:mover.start")).expect_killed();
    assert!(left(&day).iter().any(|what| what.starts_with("subscription ")));
    let began = Instant::now();
    loop {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        command.args(["--state-dir", "state", "release", PLAN, "-c", "config.toml"]).current_dir(day.dir.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Refused before it asks while the dead console's lease goes on.
        let _ = child.stdin.take().unwrap().write_all(format!("{PLAN}\n").as_bytes());
        if child.wait().unwrap().success() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "it was never released");
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(left(&day), [""; 0]);
}
