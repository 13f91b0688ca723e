//! Nothing secret is written anywhere: every file and every line of whole runs, searched for values planted before
//! them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use super::back::rolls_back;
use super::stage::{Day, Options, Stage, independent};
use cutover::domain::run::StepStatus;

/// The old side's secret. Quotes and spaces, so that an escaped form is another text.
const OLD: &str = "planted old secret 5c1e";

/// Every file under a folder.
fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.is_file() {
            out.push(path);
        }
    }
}

/// Fails when any file of the stage holds one of these, except the files from which secrets are supposed to be read.
fn expect_nowhere(stage: &Stage, planted: &[(&str, String)], meant: &[&str]) {
    let mut all = Vec::new();
    files(stage.dir(), &mut all);
    let mut searched = 0;
    for path in &all {
        if meant.iter().any(|name| *path == stage.dir().join(name)) {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        for (what, value) in planted {
            assert!(value.len() > 6, "{what} is too short to be looked for");
            let escaped = serde_json::to_string(value).unwrap();
            let held = text.contains(value.as_str()) || text.contains(escaped.trim_matches('"'));
            assert!(!held, "{} holds {what}", path.display());
        }
        searched += 1;
    }
    assert!(searched > 5, "only {searched} files were searched");
}

fn planted(stage: &Stage) -> Vec<(&'static str, String)> {
    vec![
        ("the old side's SecureString", OLD.to_owned()),
        ("the new side's SecureString", stage.new_secret()),
        ("the database password", fs::read_to_string(stage.dir().join("password")).unwrap()),
    ]
}

/// Asks for everything that can be asked of a run; each answer is a file that is searched. Customers go on writing on
/// one side only, so that a comparison ends with 5; `checked` is what the check of the config ends with.
fn ask_everything(stage: &Stage, checked: i32) {
    let run = stage.state().run;
    let asked = [
        (&["check", "-c", "config.toml"][..], checked),
        (&["check", "-c", "config.toml", "--json"], checked),
        (&["plan", "-c", "config.toml", "--json"], 0),
        (&["status"], 0),
        (&["status", "--json"], 0),
        (&["runs", "--json"], 0),
        (&["audit", &run], 0),
        (&["audit", &run, "--json"], 0),
        (&["rollback", &run, "--what-if"], 0),
        (&["parked", "--run", &run, "--json"], 0),
        (&["verify", "--run", &run, "--full", "--json"], 5),
    ];
    let mut wrong = Vec::new();
    for (args, code) in asked {
        let mut asked = stage.start(args, None);
        let was = asked.wait().code();
        if was != Some(code) {
            wrong.push(format!("{args:?} ended with {was:?} and not {code}: {}", asked.words()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a probe sends and receives: none of it belongs on record.
const PROBED: [&str; 5] = ["planted-user", "planted-query", "planted-body", "planted-header", "planted-answer"];

/// Adds a probe with all of that, answered by a server of its own, and a query to the others.
fn probed(stage: &Stage) {
    let [user, query, body, header, answer] = PROBED;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).is_err() {
                continue;
            }
            let length = answer.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nx-token: {header}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{answer}"
            );
        }
    });
    let text = stage.config();
    let first = "[[probes]]\n";
    let probe = format!(
        "{first}id = \"planted\"\nmethod = \"POST\"\nurl = \"http://{user}@{at}/seen?token={query}\"\nbody = \
         '{{\"key\":\"{body}\"}}'\nevery = \"100ms\"\n\n"
    );
    let smoke = "probes = [\"health\", \"read\"]";
    assert!(text.contains(first) && text.contains(smoke) && text.contains("/probe\"\n"));
    let text = text.replacen(first, &format!("{probe}{first}"), 1).replace(smoke, "probes = [\"health\", \"planted\"]");
    let text = text.replace("/probe\"\n", &format!("/probe?token={query}\"\n"));
    fs::write(stage.dir().join("config.toml"), text).unwrap();
}

#[test]
fn a_whole_day_writes_no_secret_anywhere_and_leaves_it_under_its_key() {
    let stage = Stage::new(&Options { day: Day::Whole, ..Options::default() });
    stage.plant(OLD);
    probed(&stage);
    stage.run(None).expect_code(0);
    stage.expect_own_key();
    // The switches do not hold any more what a run begins with.
    ask_everything(&stage, 1);
    expect_nowhere(&stage, &planted(&stage), &["password"]);
    // What the config says of a probe stands in the config, and in what a run keeps of it for its owner's eyes.
    let run = stage.folder().unwrap();
    let kept = [run.plan(), run.config()].map(|p| p.strip_prefix(stage.dir()).unwrap().display().to_string());
    let probed: Vec<(&str, String)> = PROBED.iter().map(|p| (*p, (*p).to_owned())).collect();
    expect_nowhere(&stage, &probed, &["config.toml", &kept[0], &kept[1]]);
    let journal =
        fs::read_to_string(run.journal()).unwrap() + &fs::read_to_string(stage.dir().join("0-run.out")).unwrap();
    assert!(journal.contains("planted"), "the probe was never spoken of");
}

fn a_day_that_goes_back(options: &Options) {
    let stage = Stage::new(options);
    let mut console = stage.run(None);
    console.until("the pause after the switch", || stage.step_is("new-side-check", StepStatus::Running));
    // From a process that knows what the journal says, and nothing else.
    console.signal(rustix::process::Signal::KILL);
    console.expect_killed();
    rolls_back(&stage);
    ask_everything(&stage, 0);
    expect_nowhere(&stage, &planted(&stage)[1..], &["password"]);
}

#[test]
fn a_rollback_from_another_process_writes_no_secret_anywhere_and_leaves_it_under_its_key() {
    a_day_that_goes_back(&Options { pause: 60, ..Options::default() });
}

#[test]
fn so_it_does_on_independent_emulators() {
    let (endpoint, _one) = independent();
    a_day_that_goes_back(&Options { pause: 60, endpoint: Some(endpoint), ..Options::default() });
}

#[test]
fn a_secret_the_config_does_not_know_of_stops_the_check_and_is_not_printed() {
    let stage = Stage::new(&Options::default());
    stage.plant(OLD);
    let text = stage.config();
    assert_eq!(text.matches("secure = true ").count(), 1);
    fs::write(stage.dir().join("config.toml"), text.replace("secure = true ", "")).unwrap();
    let mut check = stage.start(&["check", "-c", "config.toml"], None);
    check.expect_code(1);
    assert!(check.out().contains("is a SecureString"), "{}", check.words());
    stage.run(None).wait();
    expect_nowhere(&stage, &planted(&stage), &["password"]);
}
