//! Switches: those with two values, and those with several positions, kept in one place or in several.

use std::path::Path;

use super::day::place_kind;
use crate::config::connections::resolve;
use crate::config::error::Sink;
use crate::config::keys;
use crate::config::section::Section;
use crate::domain::plan::{CONTROL, Dial, Position, Serves, Side, Switch, ValueRef, control_called};

/// Everything that can be switched.
#[derive(Default)]
pub(super) struct Switches {
    /// Each place, in the order of the file.
    pub places: Vec<Switch>,
    /// Switches that have positions.
    pub dials: Vec<Dial>,
}

/// Keys of a switch that has positions.
const OF_POSITIONS: [&str; 4] = ["places", "effect", "value", "values"];

/// Where the file has what the plan calls by this path: places stand among the plan's switches, and in the file in the
/// switch whose places they are.
pub(in crate::config) fn in_file(root: &Section<'_>, path: &str) -> Option<String> {
    let (list, rest) = path.split_once('[')?;
    let (n, rest) = rest.split_once(']')?;
    let n: usize = n.parse().ok()?;
    let switches = root.list("switches", keys::SWITCHES);
    let found = match list {
        "dials" => switches.iter().filter(|s| has_positions(s)).nth(n)?.path.clone(),
        "switches" => switches.iter().flat_map(paths).nth(n)?,
        _ => return None,
    };
    Some(found + rest)
}

/// The paths of a switch's places.
fn paths(s: &Section<'_>) -> Vec<String> {
    match s.list("places", keys::PLACES).iter().map(|place| place.path.clone()).collect::<Vec<_>>() {
        places if has_positions(s) && !places.is_empty() => places,
        _ => vec![s.path.clone()],
    }
}

fn has_positions(s: &Section<'_>) -> bool {
    s.has("positions") || s.has("ramp")
}

pub(super) fn switches(root: &Section<'_>, base: &Path, sink: &mut Sink<'_>) -> Switches {
    let mut all = Switches::default();
    for s in root.list("switches", keys::SWITCHES) {
        if has_positions(&s) {
            dial(&s, base, &mut all, sink);
            continue;
        }
        for key in OF_POSITIONS.into_iter().filter(|key| s.has(key)) {
            let message = format!("`{key}` is for a switch that has `positions` or a `ramp`");
            sink.error(s.offset_of(key), &s.path_of(key), message);
        }
        if !s.has("to") {
            let message = format!("missing `to`: {}", keys::TO);
            sink.error(s.offset_of("to"), &s.path_of("to"), message);
        }
        all.places.push(super::day::switch(&s, base, sink));
    }
    all
}

fn dial(s: &Section<'_>, base: &Path, all: &mut Switches, sink: &mut Sink<'_>) {
    let id = s.must("id");
    for key in ["to", "expect"].into_iter().filter(|key| s.has(key)) {
        let message =
            format!("`{key}` is for a switch without positions: what stands there is the first position's value");
        sink.error(s.offset_of(key), &s.path_of(key), message);
    }
    let mut positions = positions(s, sink);
    let listed = s.list("places", keys::PLACES);
    let own = ["parameter", "stage_variable", "secure", "control", "value", "values", "exercise"];
    if let Some(key) = own.into_iter().find(|key| s.has("places") && s.has(key)) {
        let message = format!("`{key}` and `places` exclude each other: say it of each place");
        sink.error(s.offset_of(key), &s.path_of(key), message);
    }
    let places: Vec<(String, Section<'_>)> = match listed.len() {
        0 => vec![(id.clone(), s.clone())],
        n => {
            let numbered = |at: usize| if n == 1 { id.clone() } else { format!("{id}-{}", at + 1) };
            listed.into_iter().enumerate().map(|(at, s)| (s.text("id").unwrap_or_else(|| numbered(at)), s)).collect()
        }
    };
    let title = s.text("title").unwrap_or_else(|| id.clone());
    for (place, of) in &places {
        let values = values(of, &positions, base, sink);
        let secure = of.flag("secure");
        all.places.push(Switch {
            id: place.clone(),
            title: of.text("title").unwrap_or_else(|| title.clone()),
            kind: place_kind(of, place, sink),
            control: of.text("control").map_or_else(|| CONTROL.to_owned(), |name| control_called(&name)),
            expect: match values.first() {
                Some(ValueRef::Literal(first)) if !secure => Some(first.clone()),
                _ => None,
            },
            to: values.last().cloned().unwrap_or_else(|| ValueRef::Literal(String::new())),
            exercise: of.flag_or("exercise", true),
        });
        for (position, value) in positions.iter_mut().zip(values) {
            position.values.push(value);
        }
    }
    all.dials.push(Dial {
        id,
        title,
        places: places.into_iter().map(|(place, _)| place).collect(),
        positions,
        effect_ms: s.millis("effect", 0),
    });
}

/// The positions without their values.
fn positions(s: &Section<'_>, sink: &mut Sink<'_>) -> Vec<Position> {
    let position = |name: String, serves: Serves| Position { name, serves, values: Vec::new() };
    if s.has("ramp") {
        if s.has("positions") {
            let message = "`ramp` and `positions` exclude each other";
            sink.error(s.offset_of("ramp"), &s.path_of("ramp"), message);
        }
        return [0]
            .into_iter()
            .chain(s.percents("ramp"))
            .map(|share| {
                let (reads, share_of) = match share {
                    0 => (Side::Old, None),
                    100 => (Side::New, None),
                    share => (Side::Both, Some(share)),
                };
                position(format!("{share} %"), Serves { reads: Some(reads), writes: None, share: share_of })
            })
            .collect();
    }
    let side = |of: &Section<'_>, key: &str| match of.text(key).as_deref() {
        Some("old") => Some(Side::Old),
        Some("new") => Some(Side::New),
        Some("both") => Some(Side::Both),
        _ => None,
    };
    s.list("positions", keys::POSITIONS)
        .iter()
        .map(|of| {
            let share = of.has("share").then(|| u8::try_from(of.count("share", 0)).unwrap_or(u8::MAX));
            position(of.must("name"), Serves { reads: side(of, "reads"), writes: side(of, "writes"), share })
        })
        .collect()
}

/// The value of one place in each position.
fn values(s: &Section<'_>, positions: &[Position], base: &Path, sink: &mut Sink<'_>) -> Vec<ValueRef> {
    if !s.has("values") {
        let template = s.text("value").unwrap_or_else(|| "{position}".to_owned());
        return positions.iter().map(|position| ValueRef::Literal(filled(&template, position))).collect();
    }
    if s.has("value") {
        sink.error(s.offset_of("value"), &s.path_of("value"), "`value` and `values` exclude each other");
    }
    let mut values: Vec<ValueRef> =
        s.value_refs("values").into_iter().filter_map(|value| resolve(Some(value), base)).collect();
    if values.len() != positions.len() && !sink.reported(&s.path_of("values")) {
        let message = format!("{} values for {} positions: name one for each", values.len(), positions.len());
        sink.error(s.offset_of("values"), &s.path_of("values"), message);
    }
    values.resize(positions.len(), ValueRef::Literal(String::new()));
    values
}

/// A value with the position's name and share in it. Of a ramp the name is the bare number.
fn filled(template: &str, position: &Position) -> String {
    let share = position.serves.new_reads().map_or_else(String::new, |share| share.to_string());
    let name = position.name.strip_suffix(" %").unwrap_or(&position.name);
    template.replace("{position}", name).replace("{share}", &share)
}
