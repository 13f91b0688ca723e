//! A rehearsal whose alert arrives once at a server, is acknowledged from another terminal, and whose numbers are read
//! meanwhile.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cutover::domain::alert::{About, Told};
use cutover::domain::run::{Event, Fact};
use cutover::journal::{RunFolder, fold, read_run};
use serde_json::Value;

use super::console::Console;

/// Bodies that a webhook's server got.
type Got = Arc<Mutex<Vec<Value>>>;

/// A webhook on loopback. Its path is a secret.
fn webhook() -> (String, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/services/s3cr3t-t0k3n", listener.local_addr().unwrap());
    let got = Got::default();
    let kept = Arc::clone(&got);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (mut text, mut some) = (String::new(), [0_u8; 4096]);
            let body = loop {
                match stream.read(&mut some) {
                    Ok(read @ 1..) => text.push_str(&String::from_utf8_lossy(&some[..read])),
                    // Somebody looked whether it is there.
                    Ok(0) | Err(_) => break None,
                }
                if let Some((_, body)) = text.split_once("\r\n\r\n")
                    && let Ok(body) = serde_json::from_str::<Value>(body)
                {
                    break Some(body);
                }
            };
            let Some(body) = body else { continue };
            kept.lock().unwrap().push(body);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
        }
    });
    (url, got)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn facts(state: &Path) -> Vec<Fact> {
    let folder = RunFolder::find(state, None).ok();
    folder.and_then(|folder| read_run(&folder).ok()).map(|record| record.facts).unwrap_or_default()
}

fn elsewhere(state: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_cutover")).arg("--state-dir").arg(state).args(args);
    command.env_remove("CUTOVER_FAILPOINT").output().expect("setsid of util-linux")
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn page(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(_, page)| page.to_owned())
}

fn crossed(event: &Event) -> bool {
    matches!(event, Event::AlertFired { about: About::Threshold { .. }, .. })
}

#[test]
fn an_alert_of_a_rehearsal_arrives_once_and_is_acknowledged_from_another_terminal() {
    let _slot = super::Slot::take();
    let dir = tempfile::tempdir().unwrap();
    let (state, port) = (dir.path().join("state"), free_port());
    let (url, got) = webhook();
    std::fs::write(dir.path().join("hook"), &url).unwrap();
    let page_file = dir.path().join("paged");
    let alerts = format!(
        "[[alerts]]\nid = \"errors\"\nthresholds = [\"read-errors >= 1\"]\non = [\"rolled_back\"]\n\
         webhooks = [{{ url = {{ file = \"hook\" }} }}]\n\
         commands = [{{ run = [\"sh\", \"-c\", \"cat >> {}\"] }}]\n\
         [metrics]\nlisten = \"127.0.0.1:{port}\"\n",
        page_file.display()
    );
    std::fs::write(dir.path().join("alerts.toml"), alerts).unwrap();
    let args = ["--state-dir", state.to_str().unwrap(), "rehearse", "--headless", "--yes", "--speed", "600"];
    let more = ["--seed", "7", "--sizes", "300,80,150,20", "--fault", "errors-new@switch", "--alerts", "alerts.toml"];
    let mut console = Console::start(dir.path(), "rehearsal", &[&args[..], &more].concat(), None);

    console.until("the numbers", || page(port).is_some_and(|page| page.contains("cutover_step_number ")));
    console.until("the alert", || facts(&state).iter().any(|fact| crossed(&fact.event)));
    let acknowledged = elsewhere(&state, &["ack", "errors", "--as", "bob", "--note", "looking"]);
    assert_eq!(acknowledged.status.code(), Some(0), "{}\n{}", words(&acknowledged), console.words());
    let again = elsewhere(&state, &["ack", "errors", "--as", "bob"]);
    assert_eq!(again.status.code(), Some(8), "{}", words(&again));
    console.expect_code(3);

    let facts = facts(&state);
    assert_eq!(facts.iter().filter(|fact| crossed(&fact.event)).count(), 1, "told once");
    let state_now = fold(&facts).unwrap();
    let [first, second] = &state_now.alerts[..] else { panic!("{:#?}", state_now.alerts) };
    assert_eq!((first.alert.as_str(), &second.about), ("errors", &About::RolledBack));
    let seen = first.acknowledged.as_ref().expect("who has seen it");
    assert_eq!((seen.by.name(), seen.note.as_deref()), ("bob", Some("looking")));
    assert!(seen.origin.as_ref().is_some_and(|origin| origin.terminal.starts_with("session ")), "{seen:?}");
    for (name, told) in first.places.iter().chain(&second.places) {
        assert!(matches!(told, Some((_, Told::Delivered { .. }))), "{name}: {told:?}\n{}", console.words());
    }
    let got = got.lock().unwrap().clone();
    let about: Vec<&str> = got.iter().filter_map(|body| body["about"].as_str()).collect();
    assert_eq!(about, ["read-errors >= 1", "rolled back"]);
    assert!(got.iter().all(|body| body["rehearsal"] == true && body["again"] == false), "{got:#?}");
    let paged = std::fs::read_to_string(&page_file).unwrap();
    assert_eq!(serde_json::Deserializer::from_str(&paged).into_iter::<Value>().flatten().count(), 2, "{paged}");

    let out = console.out();
    assert!(out.contains("ALERT       ") && out.contains("acknowledged ") && out.contains("by bob"), "{out}");
    let audit = elsewhere(&state, &["audit"]);
    assert!(words(&audit).contains("errors (read-errors >= 1) acknowledged by bob"), "{}", words(&audit));
    // Its address stands nowhere.
    let folder = RunFolder::find(&state, None).unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
        let text = std::fs::read(file.path()).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&text).contains("s3cr3t-t0k3n"), "{}", file.path().display());
    }
    assert!(!console.words().contains("s3cr3t-t0k3n"));
}
