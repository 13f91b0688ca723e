//! Folders are layers: who may import whom, and how long a file may be (`docs/architecture.md`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Layer, and the layers it may use besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("snapshot", &["domain"]),
    ("view", &["domain", "snapshot"]),
    ("journal", &["domain"]),
    ("export", &["domain"]),
    ("ports", &["domain"]),
    ("workers", &["domain", "ports"]),
    ("engine", &["domain", "journal", "workers", "ports", "snapshot"]),
    ("adapters", &["domain", "ports"]),
    ("ui", &["view", "snapshot", "domain", "engine"]),
    ("report", &["snapshot", "domain", "journal"]),
    // A recording gives out the same handle as the engine does.
    ("replay", &["snapshot", "domain", "journal", "engine", "report"]),
    ("private", &["domain"]),
    ("rehearsal", &["adapters", "ports", "domain", "private"]),
    ("config", &["domain"]),
    // Like a command line of its own: it composes everything that is measured.
    (
        "bench",
        &["domain", "ports", "adapters", "private", "rehearsal", "workers", "engine", "config", "snapshot", "view"],
    ),
    ("telemetry", &[]),
    // The one composition root: nothing below may name it.
    (
        "cli",
        &[
            "domain",
            "snapshot",
            "view",
            "journal",
            "export",
            "ports",
            "workers",
            "engine",
            "adapters",
            "ui",
            "report",
            "replay",
            "private",
            "rehearsal",
            "config",
            "bench",
            "telemetry",
        ],
    ),
];

/// The same inside `domain`, whose folders are many: what each may use besides itself.
const INSIDE_DOMAIN: &[(&str, &[&str])] = &[
    ("at", &[]),
    ("estimate", &[]),
    ("secret", &[]),
    ("value", &[]),
    ("plan", &["at", "secret"]),
    ("alert", &["at", "plan"]),
    ("mapping", &["at", "plan", "value"]),
    ("verify", &["at", "mapping", "plan", "value"]),
    // Sees of a table what a mapping would see of it.
    ("propose", &["mapping", "plan", "value"]),
    ("gauge", &["at", "plan"]),
    ("run", &["alert", "at", "gauge", "plan", "secret"]),
    // Judges a whole plan, so it sees all that a plan can contain.
    ("lint", &["at", "gauge", "mapping", "plan", "run"]),
];

/// Crates a layer must not name.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "domain",
        &[
            "tokio",
            "ratatui",
            "crossterm",
            "tracing",
            "aws_sdk",
            "tokio_postgres",
            "Instant::now",
            "SystemTime::now",
            "Timestamp::now",
        ],
    ),
    ("snapshot", &["tokio", "ratatui", "crossterm"]),
    ("report", &["tokio", "ratatui", "crossterm", "aws_sdk"]),
    ("replay", &["ratatui", "crossterm", "aws_sdk", "tokio_postgres"]),
    ("config", &["tokio", "ratatui", "crossterm", "aws_sdk", "tokio_postgres"]),
    ("adapters", &["ratatui", "crossterm"]),
    ("view", &["tokio", "crossterm::event"]),
    ("journal", &["tokio::"]),
    ("export", &["tokio::"]),
    ("ports", &["aws_sdk", "tokio_postgres", "hyper"]),
    ("workers", &["aws_sdk", "tokio_postgres", "hyper", "ratatui", "SystemTime::now", "Timestamp::now"]),
    ("engine", &["aws_sdk", "tokio_postgres", "ratatui", "crossterm"]),
    ("ui", &["aws_sdk", "tokio_postgres"]),
];

/// From here on a file waits to be split along its ideas.
const LONGEST: usize = 600;

fn sources() -> Vec<PathBuf> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let mut out = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut out);
    out.sort();
    out
}

fn layer(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("under src");
    inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned()
}

/// Test modules may use what they like: they are not shipped.
fn is_test(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "tests") || path.file_name().is_some_and(|n| n == "tests.rs")
}

/// Lines that are shipped, with their numbers: an item behind `#[cfg(test)]` is left out, what follows it is not.
fn shipped(text: &str) -> Vec<(usize, &str)> {
    let mut out = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((n, line)) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            out.push((n + 1, line));
            continue;
        }
        // An item ends where its braces close on a line that ends it, as rustfmt writes it.
        let indent = line.len() - line.trim_start().len();
        for (_, line) in lines.by_ref() {
            let own = line.len() - line.trim_start().len() == indent;
            if own && (line.ends_with(['}', ';'])) {
                break;
            }
        }
    }
    out
}

/// The module a file is, from the crate's root: `["domain", "run", "decide"]`.
fn module(path: &Path) -> Vec<String> {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("under src");
    let mut parts: Vec<String> = inside.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    let last = parts.pop().unwrap_or_default();
    let stem = last.trim_end_matches(".rs");
    if stem != "mod" {
        parts.push(stem.to_owned());
    }
    parts
}

/// The paths a line names from the crate's root, two names deep: `crate::x::y`, `use crate::{x::y, z}` and `super::…`
/// in the module `here`.
fn named(line: &str, here: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        if !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            found.extend(paths(&line[at + "crate::".len()..], 2));
        }
    }
    let mut rest = line;
    while let Some(at) = rest.find("super::") {
        let mut up = 0;
        rest = &rest[at..];
        while let Some(further) = rest.strip_prefix("super::") {
            rest = further;
            up += 1;
        }
        let base = &here[..here.len().saturating_sub(up)];
        if base.len() < 2 {
            let below = paths(rest, 2 - base.len()).into_iter();
            found.extend(below.map(|p| base.iter().cloned().chain(p).collect()));
        }
    }
    found
}

/// The paths at the head of `text`, `depth` names deep, groups taken apart.
fn paths(text: &str, depth: usize) -> Vec<Vec<String>> {
    if depth == 0 {
        return vec![Vec::new()];
    }
    if let Some(group) = text.strip_prefix('{') {
        let mut out = Vec::new();
        let (mut level, mut from) = (0, 0);
        for (i, c) in group.char_indices() {
            match c {
                '{' => level += 1,
                '}' if level == 0 => {
                    out.extend(paths(group[from..i].trim(), depth));
                    break;
                }
                '}' => level -= 1,
                ',' if level == 0 => {
                    out.extend(paths(group[from..i].trim(), depth));
                    from = i + 1;
                }
                _ => {}
            }
        }
        return out;
    }
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if word.is_empty() {
        return Vec::new();
    }
    match text[word.len()..].strip_prefix("::") {
        Some(below) => {
            let below = paths(below, depth - 1);
            if below.is_empty() {
                return vec![vec![word]];
            }
            below.into_iter().map(|p| [vec![word.clone()], p].concat()).collect()
        }
        None => vec![vec![word]],
    }
}

/// Whether module `from` may name path `to`; what is in no table is free.
fn may_name(from: &[String], to: &[String]) -> bool {
    let ask = |table: &[(&str, &[&str])], from: &str, to: &str| {
        let of = |name: &str| table.iter().find(|(n, _)| *n == name).map(|(_, may)| *may);
        from == to || of(to).is_none() || of(from).is_none_or(|may| may.contains(&to))
    };
    let (Some(from_layer), Some(to_layer)) = (from.first(), to.first()) else { return true };
    let inside = match (from.get(1), to.get(1)) {
        (Some(a), Some(b)) if from_layer == "domain" && to_layer == "domain" => ask(INSIDE_DOMAIN, a, b),
        _ => true,
    };
    ask(LAYERS, from_layer, to_layer) && inside
}

#[test]
fn layers_import_only_what_the_map_allows() {
    let mut wrong = Vec::new();
    for path in sources().iter().filter(|p| !is_test(p)) {
        let (from, here) = (layer(path), module(path));
        let forbidden = FORBIDDEN.iter().find(|(l, _)| *l == from).map_or(&[][..], |(_, f)| *f);
        let text = fs::read_to_string(path).expect("a readable file");
        for (n, line) in shipped(&text) {
            let code = line.split("//").next().unwrap_or_default();
            for to in named(code, &here).iter().filter(|to| !may_name(&here, to)) {
                wrong.push(format!("{}:{n} {} -> {} (not allowed)", path.display(), here.join("::"), to.join("::")));
            }
            for name in forbidden.iter().filter(|name| code.contains(*name)) {
                wrong.push(format!("{}:{n} {from} names {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_folder_stands_in_a_table_and_none_depends_on_itself() {
    for (table, top) in [(LAYERS, &[][..]), (INSIDE_DOMAIN, &["domain".to_owned()][..])] {
        let names: BTreeSet<String> = sources()
            .iter()
            .map(|p| module(p))
            .filter(|m| m.len() > top.len() && m.starts_with(top))
            .map(|m| m[top.len()].clone())
            .filter(|n| !["lib", "main"].contains(&n.as_str()))
            .collect();
        let known: BTreeSet<String> = table.iter().map(|(n, _)| (*n).to_owned()).collect();
        assert_eq!(names, known, "folders and table differ");
        // Take away what depends on nothing that is left, until nothing is left.
        let mut left: Vec<_> = table.to_vec();
        while !left.is_empty() {
            let before = left.len();
            let open: BTreeSet<&str> = left.iter().map(|(n, _)| *n).collect();
            left.retain(|(_, may)| may.iter().any(|m| open.contains(m)));
            assert!(left.len() < before, "these go round: {left:?}");
        }
    }
}

#[test]
fn no_file_outgrows_one_idea() {
    let long: Vec<String> = sources()
        .iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(path).expect("a readable file").lines().count();
            (lines > LONGEST).then(|| format!("{} has {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "\n{}", long.join("\n"));
}

#[test]
fn the_reader_of_imports_reads_imports() {
    let here: Vec<String> = ["domain", "run", "gate"].map(str::to_owned).to_vec();
    let read = |line: &str| -> Vec<String> { named(line, &here).iter().map(|p| p.join("::")).collect() };
    assert_eq!(read("use crate::domain::at::At;"), ["domain::at"]);
    assert_eq!(
        read("use crate::{domain::{at::At, plan}, ports, view::Theme};"),
        ["domain::at", "domain::plan", "ports", "view::Theme"]
    );
    assert_eq!(read("let x = crate::engine::handle::Handle::new();"), ["engine::handle"]);
    assert_eq!(read("use super::super::gauge::{Count, Lag};"), ["domain::gauge"]);
    assert_eq!(read("use super::super::super::view;"), ["view"]);
    assert_eq!(read("use super::state::RunState;"), [""; 0]);
}

#[test]
fn only_the_test_item_is_left_out_of_what_is_shipped() {
    let text = "use a;\n#[cfg(test)]\nuse b;\nfn c() {}\n#[cfg(test)]\nmod tests {\n    fn d() {\n    }\n}\nfn e() {}";
    let lines: Vec<&str> = shipped(text).into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, ["use a;", "fn c() {}", "fn e() {}"]);
}

/// What a name in the last column of a table stands for: each is a function of that name, or a module of it.
#[test]
fn every_test_that_hazards_and_pairs_name_exists() {
    let mut functions = BTreeSet::new();
    let mut modules = BTreeSet::new();
    let mut folders = vec![PathBuf::from("src"), PathBuf::from("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder)).expect("a folder") {
            let path = folder.join(entry.expect("an entry").file_name());
            modules.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
            if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).expect("text");
                let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
                functions.extend(names.map(str::to_owned));
            } else if Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).is_dir() {
                folders.push(path);
            }
        }
    }
    let read = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("the document");
    let text = read("docs/hazards.md") + &read("docs/pairs.md");
    let (mut named, mut wrong) = (0, Vec::new());
    for line in text.lines().filter(|line| line.starts_with("| ") && line.ends_with(" |")) {
        let last = line.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        for name in last.split('`').skip(1).step_by(2) {
            named += 1;
            // A name within braces has the module before them.
            let ends = name.rsplit("::").next().unwrap_or(name).trim_matches(['{', '}']);
            for end in ends.split(", ") {
                let known = match end.strip_suffix('…') {
                    Some(begin) => functions.iter().any(|f| f.starts_with(begin)),
                    None => functions.contains(end) || modules.contains(end),
                };
                if !known {
                    wrong.push(name.to_owned());
                }
            }
        }
    }
    assert!(named > 200, "{named}");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
