//! Alerts and the endpoint for Prometheus. They are no part of the plan; only the plan's signals are asked for.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::connections::resolve;
use crate::config::error::Sink;
use crate::config::section::Section;
use crate::config::{Telling, keys, words};
use crate::domain::alert::{
    Alert, CommandPlace, Desktop, EVERY_MS, On, OnScreen, Place, PlaceKind, Threshold, Webhook, WebhookForm,
};
use crate::domain::lint::nearest;
use crate::domain::plan::{Plan, StepKind, ValueRef};

/// How long a webhook or a command may take, unless the file says otherwise, in milliseconds.
const TIMEOUT_MS: u64 = 10_000;

/// What the file says of alerts, for this plan.
pub(in crate::config) fn telling(root: &Section<'_>, base: &Path, plan: &Plan, sink: &mut Sink<'_>) -> Telling {
    let mut ids = BTreeSet::new();
    let mut alerts = Vec::new();
    for s in root.list("alerts", keys::ALERTS) {
        let alert = alert(&s, base, plan, sink);
        if !alert.id.is_empty() && !ids.insert(alert.id.clone()) {
            let message = format!("another alert is called `{}` already", alert.id);
            sink.error(s.offset_of("id"), &s.path_of("id"), message);
        }
        alerts.push(alert);
    }
    let metrics = root.has("metrics").then(|| listen(&root.table("metrics", keys::METRICS), sink)).flatten();
    Telling { alerts: alerts.into(), metrics }
}

fn alert(s: &Section<'_>, base: &Path, plan: &Plan, sink: &mut Sink<'_>) -> Alert {
    let id = s.must("id");
    let on = s.texts("on").into_iter().enumerate().filter_map(|(n, name)| {
        let on = On::named(&name);
        if on.is_none() && !name.is_empty() {
            let message = match words::criterion(&name) {
                Some(_) => format!("`{name}` is a comparison: write it under `thresholds`"),
                None => format!("`{name}` is not one of {}", keys::ALERTS_OF.join(", ")),
            };
            let path = format!("{}[{n}]", s.path_of("on"));
            let near = nearest(&name, keys::ALERTS_OF.iter().copied());
            sink.error_near(s.offset_of_item("on", n), &path, message, near);
        }
        on
    });
    let on: Vec<On> = on.collect();
    let texts = s.texts("thresholds");
    let thresholds: Vec<Threshold> =
        texts.iter().enumerate().filter_map(|(n, text)| threshold(s, n, text, plan, sink)).collect();
    if !s.has("on") && !s.has("thresholds") && !id.is_empty() {
        let message = format!("alert `{id}` is for nothing: give it `on`, `thresholds` or both");
        sink.error(s.offset_of("id"), &s.path, message);
    }
    if s.has("for") && !s.has("thresholds") {
        let message = "`for` is how long a threshold must be crossed: this alert has none";
        sink.error(s.offset_of("for"), &s.path_of("for"), message);
    }
    let places = places(s, base, sink);
    if places.is_empty() && !id.is_empty() && !sink.reported(&s.path) {
        let message = format!("alert `{id}` goes nowhere: give it `bell`, `desktop`, `webhooks` or `commands`");
        sink.error(s.offset_of("id"), &s.path, message);
    }
    Alert {
        id,
        on,
        thresholds,
        for_ms: s.duration("for").unwrap_or(0),
        every_ms: s.duration("every").unwrap_or(EVERY_MS),
        places,
    }
}

fn threshold(s: &Section<'_>, n: usize, text: &str, plan: &Plan, sink: &mut Sink<'_>) -> Option<Threshold> {
    let path = format!("{}[{n}]", s.path_of("thresholds"));
    let at = s.offset_of_item("thresholds", n);
    let Some(criterion) = words::criterion(text) else {
        if !sink.reported(&path) {
            let message = format!("`{text}` is not a comparison; write `lag > 30` with one of <, <=, =, >=, >");
            sink.error(at, &path, message);
        }
        return None;
    };
    if !plan.signals.iter().any(|signal| signal.id == criterion.signal) {
        // A plan has it only when the file asks for it, and an alert changes no plan.
        let message = if keys::SOURCES.contains(&criterion.signal.as_str()) {
            format!("the plan does not measure `{}`: declare it under `signals`", criterion.signal)
        } else {
            format!("no signal is called `{}`", criterion.signal)
        };
        let near = nearest(&criterion.signal, plan.signals.iter().map(|signal| signal.id.as_str()));
        sink.error_near(at, &path, message, near);
    }
    if let Some(of) = criterion.baseline_of()
        && !plan
            .steps
            .iter()
            .any(|step| matches!(&step.kind, StepKind::Baseline { signals, .. } if signals.iter().any(|s| s == of)))
    {
        let message = format!("no step of kind `baseline` takes the baseline of `{of}`");
        sink.error(at, &path, message);
    }
    Some(Threshold { criterion, text: text.trim().to_owned() })
}

fn places(s: &Section<'_>, base: &Path, sink: &mut Sink<'_>) -> Vec<Place> {
    let mut all = Vec::new();
    let screen = |way: OnScreen| Place { name: way.name().to_owned(), kind: PlaceKind::Screen(way) };
    all.extend(s.flag("bell").then(|| screen(OnScreen::Bell)));
    let desktop = s.text("desktop").and_then(|how| match how.as_str() {
        "auto" => Some(Desktop::Auto),
        "osc9" => Some(Desktop::Osc9),
        "osc777" => Some(Desktop::Osc777),
        "osc99" => Some(Desktop::Osc99),
        _ => None,
    });
    all.extend(desktop.map(|how| screen(OnScreen::Desktop(how))));
    for (n, w) in s.list("webhooks", keys::WEBHOOKS).iter().enumerate() {
        let Some(url) = resolve(w.reference("url"), base) else { continue };
        let form = match w.text("form").as_deref() {
            Some("slack") => WebhookForm::Slack,
            _ => WebhookForm::Json,
        };
        let name = format!("webhook {} ({})", n + 1, reference_words(&url));
        let webhook = Webhook { url, form, timeout_ms: w.millis("timeout", TIMEOUT_MS) };
        all.push(Place { name, kind: PlaceKind::Webhook(webhook) });
    }
    for (n, c) in s.list("commands", keys::ALERT_COMMANDS).iter().enumerate() {
        let run = c.texts("run");
        let Some(program) = run.first() else {
            if c.has("run") {
                sink.error(c.offset_of("run"), &c.path_of("run"), "it names no program");
            }
            continue;
        };
        let name = format!("command {} ({program})", n + 1);
        let command = CommandPlace { run, timeout_ms: c.millis("timeout", TIMEOUT_MS) };
        all.push(Place { name, kind: PlaceKind::Command(command) });
    }
    all
}

/// Where a value is found, in words: never the value.
fn reference_words(value: &ValueRef) -> String {
    match value {
        ValueRef::Literal(_) => "written out".to_owned(),
        ValueRef::Env(name) => format!("env {name}"),
        ValueRef::File(path) => format!("file {path}"),
        ValueRef::Parameter(name) => format!("parameter {name}"),
    }
}

fn listen(s: &Section<'_>, sink: &mut Sink<'_>) -> Option<SocketAddr> {
    let text = s.text("listen")?;
    let (at, path) = (s.offset_of("listen"), s.path_of("listen"));
    let Ok(address) = text.parse::<SocketAddr>() else {
        let message = format!("`{text}` is not an address with a port; write `127.0.0.1:9464` or `[::1]:9464`");
        sink.error(at, &path, message);
        return None;
    };
    if !address.ip().is_loopback() && !s.flag("beyond_loopback") {
        let message = format!(
            "{} is reached from other machines, and whoever reaches it reads the run's numbers without signing in: listen \
             on 127.0.0.1, or say `beyond_loopback = true`",
            address.ip()
        );
        sink.error(at, &path, message);
    }
    Some(address)
}
