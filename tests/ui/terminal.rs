//! A child in a pseudo-terminal, seen through a terminal emulator.

use std::io::Read as _;
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// Names the scene to the child.
pub const SCENE: &str = "CUTOVER_UI_SCENE";
/// Names the file the child notes to.
pub const OUTCOME: &str = "CUTOVER_UI_OUTCOME";
/// How long anything is waited for.
pub const LIMIT: Duration = Duration::from_secs(120);

pub struct TestTerminal {
    master: Option<Box<dyn MasterPty + Send>>,
    writer: Option<Box<dyn std::io::Write + Send>>,
    child: Box<dyn Child + Send + Sync>,
    screen: Arc<Mutex<vt100::Parser>>,
    outcome: tempfile::TempPath,
    closing: Arc<AtomicBool>,
    stalled: Arc<AtomicBool>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl TestTerminal {
    /// Starts a scene of this child in a pseudo-terminal of 100 by 30.
    pub fn open(child: &str, scene: &str) -> Self {
        let pair = native_pty_system().openpty(PtySize { rows: 30, cols: 100, ..PtySize::default() }).unwrap();
        let outcome = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
        command.args(["--exact", child, "--ignored", "--nocapture"]);
        command.env(SCENE, scene);
        command.env(OUTCOME, &outcome);
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let (rows, cols) = (NonZeroU16::new(30).unwrap(), NonZeroU16::new(100).unwrap());
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, cols, 0)));
        let (mut reader, shown) = (pair.master.try_clone_reader().unwrap(), Arc::clone(&screen));
        let closing = Arc::new(AtomicBool::new(false));
        let close = Arc::clone(&closing);
        let stalled = Arc::new(AtomicBool::new(false));
        let stall = Arc::clone(&stalled);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                while stall.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                if close.load(Ordering::SeqCst) {
                    return;
                }
                shown.lock().unwrap_or_else(PoisonError::into_inner).process(&buffer[..n]);
            }
        });
        let writer = pair.master.take_writer().unwrap();
        let (master, writer, reader) = (Some(pair.master), Some(writer), Some(reader));
        Self { master, writer, child, screen, outcome, closing, stalled, reader }
    }

    pub fn until(&mut self, what: &str, holds: impl Fn(&vt100::Screen) -> bool) {
        let end = Instant::now() + LIMIT;
        loop {
            let parser = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
            if holds(parser.screen()) {
                return;
            }
            assert!(Instant::now() < end, "waited for {what}, saw:\n{}", parser.screen().contents());
            drop(parser);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn until_text(&mut self, text: &str) {
        self.until(text, |s| s.contents().contains(text));
    }

    pub fn until_given_back(&mut self) {
        self.until("the terminal given back", |s| !s.alternate_screen() && !s.hide_cursor() && !s.bracketed_paste());
    }

    pub fn resize(&mut self, rows: u16, cols: u16) {
        self.master.as_ref().unwrap().resize(PtySize { rows, cols, ..PtySize::default() }).unwrap();
        let (rows, cols) = (NonZeroU16::new(rows).unwrap(), NonZeroU16::new(cols).unwrap());
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen_mut().set_size(rows, cols);
    }

    /// Sends the child a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.process_id().unwrap()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Stops taking (or takes again) what the child writes.
    pub fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Waits until the child's painter stands in a write that does not end.
    pub fn until_painter_waits(&self) {
        let end = Instant::now() + LIMIT;
        let mut still = 0;
        while still < 30 {
            assert!(Instant::now() < end, "the terminal takes everything");
            still = if self.painter_writes() { still + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn painter_writes(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.child.process_id().unwrap());
        let write = if cfg!(target_arch = "aarch64") { "64 " } else { "1 " };
        std::fs::read_dir(tasks).unwrap().flatten().any(|task| {
            let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            read("comm").trim() == "painter" && read("syscall").starts_with(write)
        })
    }

    /// Waits until the child noted this.
    pub fn until_noted(&self, what: &str) {
        let end = Instant::now() + LIMIT;
        while !self.outcome().contains(what) {
            assert!(Instant::now() < end, "waited for {what}, noted:\n{}", self.outcome());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Presses a key that counts only once the screen asked for it, as somebody does who is not heard: again, each
    /// second, until the child noted this. The frame that asks is seen here before the child knows that it was drawn.
    pub fn press_until_noted(&mut self, key: &[u8], what: &str) {
        let end = Instant::now() + LIMIT;
        while !self.outcome().contains(what) {
            assert!(Instant::now() < end, "pressed and waited for {what}, noted:\n{}", self.outcome());
            self.press(key);
            let again = Instant::now() + Duration::from_secs(1);
            while Instant::now() < again && !self.outcome().contains(what) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    pub fn press(&mut self, bytes: &[u8]) {
        let writer = self.writer.as_mut().unwrap();
        writer.write_all(bytes).unwrap();
        writer.flush().unwrap();
    }

    pub fn ended(&mut self) -> bool {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().unwrap();
        panic!("the child did not end");
    }

    /// Closes every copy of the master side, as a dying terminal does. The reader holds one: a last paint wakes it.
    pub fn vanish(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        self.press(b"x");
        self.reader.take().unwrap().join().unwrap();
        drop(self.writer.take());
        drop(self.master.take());
    }

    pub fn outcome(&self) -> String {
        std::fs::read_to_string(&self.outcome).unwrap()
    }
}

impl Drop for TestTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}
