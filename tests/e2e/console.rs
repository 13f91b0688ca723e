//! One process of the real binary: started, watched, signalled, and never left behind.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest life of any process here.
fn life() -> Duration {
    // Days of the customer's size run on slow emulators.
    Duration::from_secs(if std::env::var_os("CUTOVER_TEST_SIZES").is_some() { 1_200 } else { 300 })
}
/// A file beside the outputs once a process was killed.
pub const KILLED: &str = "killed";
/// Pause between two checks of something that is awaited.
const POLL: Duration = Duration::from_millis(20);

/// A process. Dropping it kills it.
pub struct Console {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    killed: PathBuf,
    ended: Option<ExitStatus>,
}

impl Console {
    /// Starts the binary; what it says goes to files in `dir`, named after `name`.
    pub fn start(dir: &Path, name: &str, args: &[&str], failpoint: Option<&str>) -> Self {
        let vars: Vec<_> = failpoint.map(|f| ("CUTOVER_FAILPOINT", f.as_ref())).into_iter().collect();
        Self::start_with(dir, name, args, &vars)
    }

    /// Starts the binary with these variables besides.
    pub fn start_with(dir: &Path, name: &str, args: &[&str], vars: &[(&str, &OsStr)]) -> Self {
        let (out, err) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        command.args(args).current_dir(dir).stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        // What the caller's shell holds must not decide a test.
        let ours = ["CUTOVER_FAILPOINT", "CUTOVER_FAILPOINT_TRACE"];
        for name in ours.iter().chain(&["CUTOVER_STATE_DIR", "CUTOVER_CONFIG", "CUTOVER_LOG"]) {
            command.env_remove(name);
        }
        command.envs(vars.iter().copied());
        Self { child: command.spawn().unwrap(), out, err, killed: dir.join(KILLED), ended: None }
    }

    /// Starts a command whose words go where it says.
    pub fn watch(dir: &Path, name: &str, mut command: Command) -> Self {
        let (out, err) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        Self { child: command.spawn().unwrap(), out, err, killed: dir.join(KILLED), ended: None }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Waits for its end. Panics with its last output when it runs too long.
    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(began.elapsed() < life(), "still running after {:?}:\n{}", life(), self.words());
            std::thread::sleep(POLL);
        }
    }

    /// Waits for this exit code.
    pub fn expect_code(&mut self, code: i32) {
        let status = self.wait();
        assert_eq!(status.code(), Some(code), "{status}\n{}", self.words());
    }

    /// Waits for death by SIGKILL, and nothing else.
    pub fn expect_killed(&mut self) {
        let status = self.wait();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}\n{}", self.words());
        File::create(&self.killed).unwrap();
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        assert!(self.ended().is_none(), "ended before it could be signalled:\n{}", self.words());
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Standard output so far.
    pub fn out(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Standard error so far.
    pub fn err(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// The end of both, for a failing test.
    pub fn words(&self) -> String {
        let tail = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(90)..].join("\n")
        };
        format!("--- out\n{}\n--- err\n{}", tail(self.out()), tail(self.err()))
    }

    /// Waits until something is so. Panics when it takes too long or the process ends first.
    pub fn until(&mut self, what: &str, mut so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !so() {
            if let Some(status) = self.ended() {
                panic!("{status} before {what}:\n{}", self.words());
            }
            assert!(began.elapsed() < life(), "waited in vain for {what}:\n{}", self.words());
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // SIGKILL ends a stopped process as well.
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
