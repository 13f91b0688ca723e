//! Alerts and the endpoint for Prometheus.

use super::*;
use crate::domain::alert::{Desktop, On, OnScreen, PlaceKind, WebhookForm};

fn with(alerts: &str) -> String {
    format!("{EXAMPLE}\n{alerts}")
}

fn problems_with(alerts: &str) -> Vec<String> {
    problems_of(&with(alerts)).into_iter().map(|(at, what, near)| format!("{at}: {what} {near:?}")).collect()
}

const ALERTS: &str = r#"
[[alerts]]
id = "pager"
on = ["waiting", "failed", "rolled_back", "gate"]
thresholds = ["lag > 30", "read-errors >= 1"]
for = "30s"
every = "5m"
bell = true
desktop = "osc99"
webhooks = [{ url = { env = "PAGER_URL" } }, { url = { file = "slack" }, form = "slack", timeout = "3s" }]
commands = [{ run = ["/usr/bin/page", "--now"], timeout = "20s" }]

[metrics]
listen = "127.0.0.1:9464"
"#;

#[test]
fn alerts_are_read_and_change_no_plan() {
    let plain = read(EXAMPLE).unwrap_or_else(|e| panic!("{e}"));
    let config = read(&with(ALERTS)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.plan.hash(), plain.plan.hash(), "a run goes on with alerts that were added");
    let [alert] = &config.telling.alerts[..] else { panic!("{:?}", config.telling) };
    assert_eq!(alert.on, [On::Waiting, On::Failed, On::RolledBack, On::Gate]);
    assert_eq!((alert.thresholds[0].text.as_str(), alert.thresholds[1].criterion.value), ("lag > 30", 1.0));
    assert_eq!((alert.for_ms, alert.every_ms), (30_000, 300_000));
    let names: Vec<&str> = alert.places.iter().map(|place| place.name.as_str()).collect();
    let file = "webhook 2 (file /etc/cutover/slack)";
    assert_eq!(names, ["bell", "desktop osc99", "webhook 1 (env PAGER_URL)", file, "command 1 (/usr/bin/page)"]);
    assert_eq!(alert.places[1].kind, PlaceKind::Screen(OnScreen::Desktop(Desktop::Osc99)));
    let PlaceKind::Webhook(slack) = &alert.places[3].kind else { panic!("{:?}", alert.places) };
    assert_eq!((slack.form, slack.timeout_ms), (WebhookForm::Slack, 3_000));
    assert_eq!(config.telling.metrics, Some("127.0.0.1:9464".parse().unwrap()));
    let text = format!("{:?}", config.telling);
    assert!(!text.contains("http"), "{text}");
}

#[test]
fn an_alert_for_nothing_or_nowhere_is_a_mistake() {
    let said = problems_with("[[alerts]]\nid = \"a\"\n[[alerts]]\nid = \"a\"\non = [\"failed\"]\nbell = true\n");
    assert!(said.iter().any(|s| s.contains("alerts[0]: alert `a` is for nothing")), "{said:?}");
    assert!(said.iter().any(|s| s.contains("alerts[1].id: another alert is called `a` already")), "{said:?}");
    let said = problems_with("[[alerts]]\nid = \"a\"\non = [\"failed\"]\n");
    assert!(said.iter().any(|s| s.contains("alert `a` goes nowhere")), "{said:?}");
    let said = problems_with("[[alerts]]\nid = \"a\"\non = [\"failed\"]\nfor = \"1s\"\nbell = true\n");
    assert!(said.iter().any(|s| s.contains("this alert has none")), "{said:?}");
}

#[test]
fn wrong_words_and_signals_are_named() {
    let of = |lines: &str| problems_with(&format!("[[alerts]]\nid = \"a\"\nbell = true\n{lines}\n"));
    let said = of("on = [\"wating\"]");
    assert!(said[0].contains("alerts[0].on[0]: `wating` is not one of") && said[0].contains("waiting"), "{said:?}");
    let said = of("on = [\"lag > 3\"]");
    assert!(said[0].contains("write it under `thresholds`"), "{said:?}");
    let said = of("thresholds = [\"lag\"]");
    assert!(said[0].contains("alerts[0].thresholds[0]: `lag` is not a comparison"), "{said:?}");
    let said = of("thresholds = [\"read-erors > 1\"]");
    assert!(said[0].contains("no signal is called `read-erors`") && said[0].contains("read-errors"), "{said:?}");
    let said = of("thresholds = [\"retained_log > 1\"]");
    assert!(said[0].contains("the plan does not measure `retained_log`: declare it under `signals`"), "{said:?}");
    let said = of("thresholds = [\"read-errors > baseline + 1\"]");
    assert!(said[0].contains("no step of kind `baseline` takes the baseline of `read-errors`"), "{said:?}");
    let said = of("on = [\"failed\"]\nwebhooks = [{ url = \"https://hooks.example.org/secret\" }]");
    assert!(said[0].contains("must not stand in this file") && !said[0].contains("example.org"), "{said:?}");
    let said = of("on = [\"failed\"]\ncommands = [{ run = [] }]");
    assert!(said[0].contains("it names no program"), "{said:?}");
}

#[test]
fn numbers_are_not_shown_to_other_machines_by_mistake() {
    let of = |lines: &str| problems_with(&format!("[metrics]\n{lines}\n"));
    let said = of("listen = \"0.0.0.0:9464\"");
    assert!(
        said[0].contains("0.0.0.0 is reached from other machines") && said[0].contains("beyond_loopback"),
        "{said:?}"
    );
    assert_eq!(of("listen = \"0.0.0.0:9464\"\nbeyond_loopback = true"), [""; 0]);
    assert_eq!(of("listen = \"[::1]:9464\""), [""; 0]);
    assert!(of("listen = \"localhost\"")[0].contains("is not an address with a port"));
}

#[test]
fn a_file_of_alerts_alone_is_read_for_another_files_plan() {
    let plan = read(EXAMPLE).unwrap_or_else(|e| panic!("{e}")).plan;
    let of = |text: &str| telling_of("a.toml", text, Path::new("/etc"), &BTreeMap::new(), &plan);
    assert_eq!(of(ALERTS).unwrap().alerts.len(), 1);
    let said = of("name = \"x\"").unwrap_err().to_string();
    assert!(said.contains("a.toml:1:1: unknown key `name`"), "{said}");
}
