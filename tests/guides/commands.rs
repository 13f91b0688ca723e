//! The commands that stand in the guides and in the other documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use cutover::cli::command;

use super::{flat, guides, root};

/// A command as it stands in a document.
#[derive(Clone, Debug)]
struct Stands {
    /// The command.
    line: String,
    /// What the comment behind it says.
    comment: String,
}

/// The commands of a document: lines of its shell blocks, and code in its sentences and tables.
fn commands(text: &str) -> Vec<Stands> {
    let (mut out, mut prose, mut block) = (Vec::new(), String::new(), None);
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            block = if block.is_some() { None } else { Some(language == "sh") };
            continue;
        }
        match block {
            Some(true) => {
                let (code, comment) = line.split_once(" #").unwrap_or((line, ""));
                let code = code.split("; ").map(str::trim).filter(|code| code.starts_with("cutover "));
                out.extend(code.map(|code| Stands { line: code.to_owned(), comment: comment.to_owned() }));
            }
            Some(false) => {}
            None => {
                prose.push_str(line);
                prose.push('\n');
            }
        }
    }
    // A span of code ends in the paragraph or row that it begins in.
    for paragraph in prose.split("\n\n").flat_map(|p| if p.starts_with('|') { p.lines().collect() } else { vec![p] }) {
        let spans = paragraph.split('`').skip(1).step_by(2).map(flat).filter(|span| span.starts_with("cutover "));
        out.extend(spans.map(|line| Stands { line, comment: String::new() }));
    }
    out
}

/// The words of a command, as a shell would part them.
fn words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => out.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quote is not closed in {line:?}");
    out.extend(word);
    out
}

/// Where a document says what all forms of a command are: it stands for no single one.
fn is_synopsis(line: &str) -> bool {
    line.contains(['[', '|', '…']) || line.contains("...")
}

/// The exit code of a command that needs no servers and no run; of another one, what it needs.
fn without_servers(words: &[String]) -> Result<i32, &'static str> {
    let given = |option: &str| words.iter().any(|word| word == option);
    match words.get(1).map_or("", String::as_str) {
        "init" if given("--template") => Ok(0),
        "plan" | "runs" | "completions" | "man" | "help" => Ok(0),
        "rehearse" | "soak" | "bench" if given("--fault") && given("list") => Ok(0),
        "rehearse" | "soak" | "bench" => Err("servers of its own"),
        "init" | "check" | "run" | "export" | "restore" | "verify" | "parked" | "release" => Err("stores"),
        "rollback" | "amend" | "step-back" | "approve" | "vote" | "audit" | "status" | "replay" => Err("a run"),
        other => panic!("say what `cutover {other}` needs to be run here"),
    }
}

/// The exit code that a comment names, as `exit code 3`.
fn named_code(comment: &str) -> Option<i32> {
    comment.split("exit code ").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Runs a command in a folder and gives its exit code and what it said.
fn run(dir: &Path, words: &[String]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
    command.args(&words[1..]).current_dir(dir).stdin(Stdio::null()).env("CUTOVER_STATE_DIR", dir.join("state"));
    for name in ["CUTOVER_FAILPOINT", "CUTOVER_CONFIG", "CUTOVER_LOG", "PGPASSWORD"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), said.concat())
}

/// Every document, with its name.
fn documents() -> Vec<(String, String)> {
    let mut out = guides();
    out.push(("README".into(), fs::read_to_string(root().join("README.md")).unwrap()));
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "md") {
            out.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    out
}

#[test]
fn every_command_of_a_document_is_one_with_all_its_options() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for (name, text) in documents() {
        for Stands { line, .. } in commands(&text).into_iter().filter(|stands| !is_synopsis(&stands.line)) {
            seen += 1;
            if let Err(e) = command().try_get_matches_from(words(&line)) {
                // A command that is only named, without what it must be given.
                let named = words(&line).len() == 2 && e.kind() == clap::error::ErrorKind::MissingRequiredArgument;
                if e.use_stderr() && !named {
                    wrong.push(format!("{name}: {line}: {e}"));
                }
            }
        }
    }
    assert!(seen > 150, "only {seen} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_each_command_needs_is_said() {
    let all = command();
    for name in all.get_subcommands().map(clap::Command::get_name) {
        let _ = without_servers(&["cutover".to_owned(), name.to_owned()]);
    }
}

/// The guides' commands in their order, each once.
#[test]
fn what_needs_no_servers_ends_as_the_guide_says() {
    let mut ran = BTreeSet::new();
    for (guide, text) in guides() {
        let dir = tempfile::Builder::new().prefix("cutover-guides-").tempdir().unwrap();
        // A command that names no environment is said of a config for one.
        let single = dir.path().join("single");
        fs::create_dir(&single).unwrap();
        fs::copy(root().join("config.toml.example"), single.join("config.toml")).unwrap();
        let config = dir.path().join("config.toml");
        let mut done = BTreeSet::new();
        for Stands { line, comment } in commands(&text) {
            let words = words(&line);
            let Ok(code) = without_servers(&words) else { continue };
            if is_synopsis(&line) || !done.insert(line.clone()) {
                continue;
            }
            let writes = words.iter().any(|word| word == "--write");
            if !config.exists() && !writes {
                let of =
                    if root().join(format!("assets/templates/{guide}.toml")).exists() { &guide } else { "cloudshelf" };
                fs::copy(root().join(format!("assets/templates/{of}.toml")), &config).unwrap();
            }
            let names = ["--env", "--write"].iter().any(|option| words.iter().any(|word| word == option));
            if writes && config.exists() {
                fs::remove_file(&config).unwrap();
            }
            let (ended, said) = run(if names { dir.path() } else { &single }, &words);
            assert_eq!(ended, Some(named_code(&comment).unwrap_or(code)), "{guide}: {line}\n{said}");
            ran.insert(line);
        }
    }
    assert!(ran.len() > 8, "{ran:?}");
}
