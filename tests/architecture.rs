//! Folders are layers: who may import whom, and how long a file may be (`docs/architecture.md`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Layer, and the layers it may use besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("snapshot", &["domain"]),
    ("view", &["domain", "snapshot"]),
    ("journal", &["domain"]),
    ("ports", &["domain"]),
    ("workers", &["domain", "ports"]),
    ("engine", &["domain", "journal", "workers", "ports", "snapshot"]),
    ("adapters", &["domain", "ports"]),
    ("ui", &["view", "snapshot", "domain", "engine"]),
    ("report", &["snapshot", "domain", "journal"]),
    // A recording gives out the same handle as the engine does.
    ("replay", &["snapshot", "domain", "journal", "engine", "report"]),
    ("rehearsal", &["adapters", "ports", "domain"]),
    ("config", &["domain"]),
    // Like a command line of its own: it composes everything that is measured.
    ("bench", &["domain", "ports", "adapters", "rehearsal", "workers", "engine", "config", "snapshot", "view"]),
    ("telemetry", &[]),
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
    ("view", &["tokio", "crossterm::event"]),
    ("journal", &["tokio::"]),
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

/// The layers a line names: `crate::x::…` and `use crate::{x::…, y}`.
fn named(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("crate::") {
        rest = &rest[at + "crate::".len()..];
        let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut fresh = true;
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => fresh = true,
                    c if fresh && depth == 0 && c.is_alphabetic() => {
                        found.push(word(&group[i..]));
                        fresh = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.push(word(rest));
        }
    }
    found
}

#[test]
fn layers_import_only_what_the_map_allows() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in sources().iter().filter(|p| !is_test(p)) {
        let from = layer(path);
        let Some(may) = allowed.get(from.as_str()) else { continue };
        let forbidden = FORBIDDEN.iter().find(|(l, _)| *l == from).map_or(&[][..], |(_, f)| *f);
        let text = fs::read_to_string(path).expect("a readable file");
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (n, line) in shipped.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for to in named(code) {
                if to != from && allowed.contains_key(to.as_str()) && !may.contains(&to.as_str()) {
                    wrong.push(format!("{}:{} {from} -> {to} (not allowed)", path.display(), n + 1));
                }
            }
            for name in forbidden.iter().filter(|name| code.contains(*name)) {
                wrong.push(format!("{}:{} {from} names {name}", path.display(), n + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
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
    assert_eq!(named("use crate::domain::at::At;"), ["domain"]);
    assert_eq!(named("use crate::{domain::{at::At, plan}, ports, view::Theme};"), ["domain", "ports", "view"]);
    assert_eq!(named("let x = crate::engine::handle::Handle::new();"), ["engine"]);
}
