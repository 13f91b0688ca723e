//! `cutover rollback` typed at a terminal: it shows what it would do, and asks for one more key.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use cutover::domain::run::{Event, RunStatus};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use rustix::process::Signal;

use super::back::switched;
use super::stage::Stage;

/// Types `cutover rollback` with these flags at a terminal: see [`typed`].
fn at_a_terminal(stage: &Stage, flags: &[&str], early: &[u8], press: Option<&[u8]>) -> (u32, String) {
    typed(stage.dir(), &[&["rollback"], flags].concat(), early, press.map(|keys| ("press R", keys)))
}

/// Types a command at a terminal in a folder of tests, presses keys once the terminal shows the question, and gives the
/// exit code and what the terminal showed. `early` is typed before anything is asked.
pub fn typed(dir: &Path, args: &[&str], early: &[u8], press: Option<(&str, &[u8])>) -> (u32, String) {
    let pair = native_pty_system().openpty(PtySize { rows: 40, cols: 120, ..PtySize::default() }).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_cutover"));
    command.arg("--state-dir");
    command.arg(dir.join("state"));
    command.args(args);
    command.cwd(dir);
    let mut writer = pair.master.take_writer().unwrap();
    writer.write_all(early).unwrap();
    let mut child = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let mut reader = pair.master.try_clone_reader().unwrap();
    let (said, shown) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 4096];
        while let Ok(n @ 1..) = std::io::Read::read(&mut reader, &mut buffer) {
            if said.send(String::from_utf8_lossy(&buffer[..n]).into_owned()).is_err() {
                return;
            }
        }
    });
    let (mut text, mut pressed, began) = (String::new(), false, Instant::now());
    let status = loop {
        if let Ok(more) = shown.recv_timeout(Duration::from_millis(20)) {
            text.push_str(&more);
        }
        if let (Some((question, keys)), false) = (press, pressed)
            && text.contains(question)
        {
            writer.write_all(keys).unwrap();
            pressed = true;
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(600), "still running:\n{text}");
    };
    while let Ok(more) = shown.recv_timeout(Duration::from_millis(200)) {
        text.push_str(&more);
    }
    (status.exit_code(), text)
}

#[test]
fn at_a_terminal_a_rollback_asks_for_one_more_key() {
    let (stage, mut console) = switched(120);
    let nothing_began = || stage.count(|e| matches!(e, Event::RollbackOrdered { .. })) == 0;
    // Another key, a key from before the question, and a paste that holds the right one among others.
    for (early, press) in [(&b""[..], &b"n"[..]), (b"R", b"\r"), (b"", b"RR ls\r"), (b"", b"\x03")] {
        let (code, text) = at_a_terminal(&stage, &[], early, Some(press));
        assert_eq!(code, 8, "{text}");
        assert!(text.contains("/cloudshelf/prod/db/writes"), "{text}");
        assert!(text.contains("nothing was changed"), "{text}");
        assert!(nothing_began(), "{text}");
    }
    let (code, text) = at_a_terminal(&stage, &[], b"", Some(b"R"));
    assert_eq!(code, 3, "{text}");
    console.expect_code(3);
    assert_eq!(stage.state().status, RunStatus::RolledBack);
    stage.expect_old_values();
}

#[test]
fn at_a_terminal_yes_asks_nothing() {
    let (stage, mut console) = switched(60);
    console.signal(Signal::KILL);
    console.expect_killed();
    let (code, text) = at_a_terminal(&stage, &["--yes"], b"", None);
    assert_eq!(code, 3, "{text}");
    assert!(!text.contains("press R"), "{text}");
    stage.expect_old_values();
}
