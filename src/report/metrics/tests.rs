//! The page read back by a reader of its own, as the format's description has it.

use std::collections::BTreeMap;

use super::*;
use crate::domain::alert::About;
use crate::domain::run::Firing;
use crate::snapshot::fixture::{self, Moment};
use crate::snapshot::{AlertRow, SignalRow};

/// Numbers by name and labels.
type Numbers = BTreeMap<(String, Vec<(String, String)>), f64>;

/// Reads a page strictly: help and type before a family's numbers, each family once, each number once.
fn read(page: &str) -> Numbers {
    let (mut numbers, mut families) = (Numbers::new(), Vec::new());
    let (mut helped, mut typed) = (String::new(), String::new());
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(!families.contains(&name.to_owned()), "{name} twice");
            assert!(!text.contains(['\\', '"']), "{text}");
            helped = name.to_owned();
            families.push(helped.clone());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            typed = kind.strip_suffix(" gauge").unwrap().to_owned();
        } else {
            let (name, labels, value) = sample(line);
            assert_eq!((&name, &name), (&helped, &typed), "{line}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(numbers.insert((name, labels), value), None, "{line}");
        }
    }
    numbers
}

fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = (line[..end].to_owned(), &line[end..]);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        let mut chars = inside.char_indices();
        loop {
            let key: String = chars.by_ref().map(|(_, c)| c).take_while(|c| *c != '=').collect();
            assert_eq!(chars.next().unwrap().1, '"');
            let mut value = String::new();
            loop {
                match chars.next().unwrap().1 {
                    '"' => break,
                    '\\' => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("\\{c}"),
                    }),
                    c => value.push(c),
                }
            }
            labels.push((key, value));
            match chars.next().unwrap() {
                (_, ',') => {}
                (at, '}') => {
                    rest = &inside[at + 1..];
                    break;
                }
                (_, c) => panic!("{c}"),
            }
        }
    }
    (name, labels, rest.strip_prefix(' ').unwrap().parse().unwrap())
}

fn of(numbers: &Numbers, name: &str, label: Option<(&str, &str)>) -> Vec<f64> {
    let has = |labels: &[(String, String)]| {
        label.is_none_or(|(key, value)| labels.iter().any(|(k, v)| k == key && v == value))
    };
    numbers.iter().filter(|((n, labels), _)| n == name && has(labels)).map(|(_, value)| *value).collect()
}

#[test]
fn every_moment_of_a_day_is_a_page_that_can_be_read() {
    for moment in Moment::ALL {
        let s = fixture::snapshot(moment);
        let page = metrics(&s, s.wall, false);
        let numbers = read(&page);
        assert_eq!(of(&numbers, "cutover_run_info", Some(("plan", &s.plan))), [1.0], "{page}");
        assert_eq!(of(&numbers, "cutover_run_status", None).iter().sum::<f64>(), 1.0, "{page}");
        assert_eq!(of(&numbers, "cutover_steps", None), [s.steps.len() as f64], "{page}");
        assert!(numbers.values().all(|value| value.is_finite()), "{page}");
        assert_eq!(metrics(&s, s.wall, true), format!("{page}# EOF\n"));
    }
}

#[test]
fn a_name_may_hold_anything() {
    let odd = "a\"b\\c\nd{e=\"f\"},";
    let mut s = fixture::snapshot(Moment::Switched);
    s.run = odd.to_owned();
    s.tables[0].id = odd.to_owned();
    let numbers = read(&metrics(&s, s.wall, false));
    assert_eq!(of(&numbers, "cutover_run_info", Some(("run", odd))), [1.0]);
    assert_eq!(of(&numbers, "cutover_table_rows", Some(("table", odd))).len(), 2);
}

#[test]
fn what_is_stale_or_not_known_is_absent_and_not_old() {
    let mut s = fixture::snapshot(Moment::Switched);
    let row = SignalRow {
        id: "errors".into(),
        unit: "%".into(),
        value: Some(3.5),
        at: s.wall.plus(-4_000),
        limit: Some(1.0),
        health: Health::Fail,
        series: crate::domain::gauge::Series::new(1, 1),
    };
    s.signals = vec![row.clone()];
    let errors = Some(("signal", "errors"));
    let numbers = read(&metrics(&s, s.wall, false));
    assert_eq!(of(&numbers, "cutover_signal", errors), [3.5]);
    assert_eq!(of(&numbers, "cutover_signal_known", errors), [1.0]);
    assert_eq!(of(&numbers, "cutover_signal_age_seconds", errors), [4.0]);
    s.signals = vec![SignalRow { health: Health::Unknown, ..row }];
    let numbers = read(&metrics(&s, s.wall, false));
    assert!(of(&numbers, "cutover_signal", errors).is_empty());
    assert_eq!(of(&numbers, "cutover_signal_known", errors), [0.0]);
    s.tables[0].lag.apply = Reading::new(2_500.0, s.wall);
    let lag = |s: &Snapshot| {
        of(&read(&metrics(s, s.wall, false)), "cutover_table_lag_seconds", Some(("table", &s.tables[0].id)))
    };
    assert!(lag(&s).contains(&2.5));
    s.tables[0].lag.apply.at = s.wall.plus(-LAG_MS - 1);
    assert!(!lag(&s).contains(&2.5));
    // A run that says nothing any more: none of its numbers is true.
    let page = metrics(&s, s.wall.plus(SNAPSHOT_MS + 1), false);
    let names: std::collections::BTreeSet<String> = read(&page).into_keys().map(|(name, _)| name).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["cutover_run_info", "cutover_snapshot_age_seconds"]);
    assert_eq!(metrics(&Snapshot::default(), At(0), false), "", "nothing was published yet");
}

#[test]
fn alerts_are_counted_by_what_still_holds() {
    let mut s = fixture::snapshot(Moment::Switched);
    let row = |about: About, cleared| AlertRow {
        firing: Firing {
            alert: "pager".into(),
            about,
            text: String::new(),
            fired: At(1),
            seq: 1,
            cleared,
            places: vec![],
            acknowledged: None,
        },
        lasted_ms: 0,
    };
    s.alerts = vec![row(About::Finished, None), row(About::Stuck, Some(At(2)))];
    let numbers = read(&metrics(&s, s.wall, false));
    assert_eq!(of(&numbers, "cutover_alert_firing", Some(("alert", "pager"))), [1.0]);
    assert_eq!(of(&numbers, "cutover_alerts_unacknowledged", None), [2.0]);
}
