//! A disk that does not fail but hangs, and a reader that does not read: no write ever returns.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cutover::domain::run::RunStatus;
use rustix::process::Signal;

use super::back::switched;
use super::console::Console;

/// Holds a kernel lease on files: opening one of them for writing waits for as long as this lives, up to
/// `/proc/sys/fs/lease-break-time`; reading goes on.
struct Hung(Child);

impl Hung {
    fn up(files: &[&Path]) -> Self {
        const HOLD: &str = "import fcntl, os, signal, sys
for path in sys.argv[1:]:
    fd = os.open(path, os.O_RDONLY)
    fcntl.fcntl(fd, 10, signal.SIGURG)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
print('held', flush=True)
sys.stdin.read()";
        let mut command = Command::new("python3");
        command.args(["-c", HOLD]).args(files).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3, as tests/run.sh needs it too");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "held");
        Self(child)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_disk_that_hangs_holds_no_switch_and_not_the_end_of_a_rollback() {
    let (stage, mut console) = switched(60);
    console.signal(Signal::KILL);
    console.expect_killed();
    let folder = stage.folder().unwrap();
    let before = std::fs::read(folder.journal()).unwrap();
    let hung = Hung::up(&[&folder.journal(), &folder.lock_path()]);
    let mut rollback = stage.start(&["rollback"], None);
    rollback.expect_code(74);
    let words = rollback.words();
    assert_eq!(std::fs::read(folder.journal()).unwrap(), before, "it waited until the disk came back:\n{words}");
    assert!(words.contains("the record could not be read again"), "{words}");
    assert!(words.contains("rolled back in ") && words.contains("is not on record"), "{words}");
    stage.expect_old_values();
    drop(hung);
    // Asked again, what happened comes on record.
    super::back::rolls_back(&stage);
}

#[test]
fn a_disk_that_hangs_once_the_record_is_open_holds_no_switch_either() {
    let (stage, mut console) = switched(60);
    console.signal(Signal::KILL);
    console.expect_killed();
    let before = stage.facts().len();
    let mut rollback = stage.start_with(&["rollback"], &[("CUTOVER_HANG", OsStr::new("rollback:append"))]);
    rollback.expect_code(74);
    let words = rollback.words();
    assert_eq!(stage.facts().len(), before, "it did not hang:\n{words}");
    assert!(words.contains("rolled back in ") && words.contains("is not on record"), "{words}");
    stage.expect_old_values();
    super::back::rolls_back(&stage);
}

#[test]
fn a_reader_that_does_not_read_holds_no_switch() {
    let (stage, mut console) = switched(60);
    console.signal(Signal::KILL);
    console.expect_killed();
    // A pipe that is full, as a terminal is that somebody stopped with Ctrl-S.
    let (_reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'.'; 65_536]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
    command.arg("--state-dir").arg(stage.dir().join("state")).arg("rollback").stdin(Stdio::null());
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut rollback = Console::watch(stage.dir(), "unread", command);
    rollback.until("the way back", || stage.state().status == RunStatus::RolledBack);
    stage.expect_old_values();
    rollback.expect_code(3);
}
