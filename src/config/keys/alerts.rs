//! Keys of alerts and of the endpoint for Prometheus.

use super::{
    Key,
    Kind::{Bool, Duration, List, OneOf, Secret, Table, Text, Texts},
    may, must,
};

pub(in crate::config) static ALERTS: &[Key] = &[
    must("id", Text, "Short name, unique."),
    may("on", Texts, "What of the run it is for: `waiting`, `failed`, `rolled_back`, `finished`, `gate`."),
    may("thresholds", Texts, "Comparisons of signals it is for, each by itself: `new-errors >= 1`."),
    may("for", Duration, "How long a threshold must be crossed without a break before it fires. Default: 0s."),
    may("every", Duration, "How soon after a firing it may fire again for the same thing. Default: 15m."),
    may("bell", Bool, "Ring the terminal's bell. Default: false."),
    may(
        "desktop",
        OneOf(DESKTOPS),
        "Ask the terminal for a notification of the desktop: `auto`, or the sequence it takes. Default: none.",
    ),
    may("webhooks", List(WEBHOOKS), "HTTP endpoints that are told."),
    may("commands", List(ALERT_COMMANDS), "Programs that are told on their standard input."),
];
pub(in crate::config) static ALERTS_OF: &[&str] = &["waiting", "failed", "rolled_back", "finished", "gate"];
static DESKTOPS: &[&str] = &["auto", "osc9", "osc777", "osc99"];

pub(in crate::config) static WEBHOOKS: &[Key] = &[
    must("url", Secret, "Where its address is found; never the address itself, which is a secret."),
    may("form", OneOf(WEBHOOK_FORMS), "`json` (default), or `slack` for what takes Slack's incoming webhooks."),
    may("timeout", Duration, "Longest wait for an answer. Default: 10s."),
];
static WEBHOOK_FORMS: &[&str] = &["json", "slack"];

pub(in crate::config) static ALERT_COMMANDS: &[Key] = &[
    must("run", Texts, "The program and its arguments; no shell reads them."),
    may("timeout", Duration, "How long it may take; then it is ended. Default: 10s."),
];

pub(in crate::config) static METRICS: &[Key] = &[
    must("listen", Text, "Address and port: `127.0.0.1:9464`."),
    may(
        "beyond_loopback",
        Bool,
        "Whether it may listen where other machines reach it: whoever does can read the run's numbers. Default: false.",
    ),
];

/// A file with alerts and nothing else.
pub(in crate::config) static ALERTS_ALONE: &[Key] = &[
    may("alerts", List(ALERTS), "Who is told of what."),
    may("metrics", Table(METRICS), "Numbers of the run for Prometheus."),
];
