//! The terminal guard and the listener in a real pseudo-terminal, seen through a terminal emulator.
//!
//! The child is this test binary itself, running only [`ui_pty_child`].

use std::io::Read as _;
use std::io::Write as _;
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cutover::ui::decode::Typed;
use cutover::ui::input::{Heard, Listener};
use cutover::ui::term::{Terminal, abandon, on_screen_task};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use ratatui::crossterm::event::KeyCode;
use ratatui::widgets::Paragraph;

const SCENE: &str = "CUTOVER_UI_SCENE";
const OUTCOME: &str = "CUTOVER_UI_OUTCOME";
const LIMIT: Duration = Duration::from_secs(20);

/// Not a test of its own: what runs inside the pseudo-terminal.
#[test]
#[ignore = "runs inside a pseudo-terminal started by the other tests"]
fn ui_pty_child() {
    let Ok(scene) = std::env::var(SCENE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let said = runtime.block_on(on_screen_task(async {
        // Taking the signal is what keeps the process alive when the terminal vanishes.
        let _hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
        let mut terminal = Terminal::enter("cutover orders").unwrap();
        let mut listener = Listener::start().unwrap();
        let mut last = "nothing yet".to_owned();
        loop {
            let text = format!("last key: {last}");
            if terminal.draw(|f| f.render_widget(Paragraph::new(text), f.area())).is_err() {
                return "gone while drawing".to_owned();
            }
            match listener.next().await {
                Heard::Gone => return "gone".to_owned(),
                Heard::Typed(Typed::Paste(text), _) => last = format!("paste {text}"),
                Heard::Typed(Typed::Key(k), _) => match k.code {
                    KeyCode::Char('q') => return "quit".to_owned(),
                    KeyCode::Char('p') if scene == "panic" => panic!("the screen broke"),
                    KeyCode::Char('w') => {
                        let joined = tokio::spawn(async { panic!("a worker broke") }).await;
                        last = format!("worker panicked {}", joined.is_err());
                    }
                    code => last = format!("{code:?}"),
                },
            }
        }
    }));
    if said.starts_with("gone") {
        abandon();
        eprintln!("this panics where standard error is a dead terminal");
    }
    // The process goes on after its screen: this stands for the engine.
    if let Ok(path) = std::env::var(OUTCOME) {
        std::fs::write(path, said).unwrap();
    }
}

struct Seat {
    master: Option<Box<dyn MasterPty + Send>>,
    writer: Option<Box<dyn std::io::Write + Send>>,
    child: Box<dyn Child + Send + Sync>,
    screen: Arc<Mutex<vt100::Parser>>,
    outcome: tempfile::TempPath,
    closing: Arc<AtomicBool>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Seat {
    fn open(scene: &str) -> Self {
        let pair = native_pty_system().openpty(PtySize { rows: 30, cols: 100, ..PtySize::default() }).unwrap();
        let outcome = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
        command.args(["--exact", "ui::ui_pty_child", "--ignored", "--nocapture"]);
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
        let reader = std::thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if close.load(Ordering::SeqCst) {
                    return;
                }
                shown.lock().unwrap_or_else(PoisonError::into_inner).process(&buffer[..n]);
            }
        });
        let writer = pair.master.take_writer().unwrap();
        Self { master: Some(pair.master), writer: Some(writer), child, screen, outcome, closing, reader: Some(reader) }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&vt100::Screen) -> bool) {
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

    fn until_text(&mut self, text: &str) {
        self.until(text, |s| s.contents().contains(text));
    }

    fn until_given_back(&mut self) {
        self.until("the terminal given back", |s| !s.alternate_screen() && !s.hide_cursor() && !s.bracketed_paste());
    }

    fn press(&mut self, bytes: &[u8]) {
        let writer = self.writer.as_mut().unwrap();
        writer.write_all(bytes).unwrap();
        writer.flush().unwrap();
    }

    fn ended(&mut self) -> bool {
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
    fn vanish(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        self.press(b"x");
        self.reader.take().unwrap().join().unwrap();
        drop(self.writer.take());
        drop(self.master.take());
    }

    fn outcome(&self) -> String {
        std::fs::read_to_string(&self.outcome).unwrap()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[test]
fn the_screen_opens_answers_and_gives_the_terminal_back() {
    let mut seat = Seat::open("plain");
    seat.until("the first paint", |s| {
        s.alternate_screen() && s.hide_cursor() && s.bracketed_paste() && s.contents().contains("nothing yet")
    });
    seat.press(b"\x1b[5~");
    seat.until_text("last key: PageUp");
    seat.press(b"\x1b");
    seat.until_text("last key: Esc");
    seat.press(b"\x1b[200~RR q\x1b[201~");
    seat.until_text("last key: paste RR q");
    seat.press(b"q");
    seat.until_given_back();
    assert!(seat.ended());
    assert_eq!(seat.outcome(), "quit");
}

#[test]
fn a_panic_of_the_screen_gives_the_terminal_back_and_then_reports() {
    let mut seat = Seat::open("panic");
    seat.until_text("nothing yet");
    seat.press(b"p");
    seat.until("the report on the normal screen", |s| {
        !s.alternate_screen() && !s.hide_cursor() && s.contents().contains("the screen broke")
    });
    assert!(!seat.ended());
}

#[test]
fn a_panic_of_a_worker_leaves_the_screen_up_and_is_reported_afterwards() {
    let mut seat = Seat::open("plain");
    seat.until_text("nothing yet");
    seat.press(b"w");
    seat.until("the screen still up", |s| {
        s.alternate_screen() && s.contents().contains("worker panicked true") && !s.contents().contains("broke")
    });
    seat.press(b"q");
    seat.until_text("a worker broke");
    seat.until_given_back();
    assert!(seat.ended());
}

#[test]
fn a_vanished_terminal_ends_the_screen_and_not_the_process() {
    let mut seat = Seat::open("vanish");
    seat.until_text("nothing yet");
    seat.vanish();
    // The file is written after the screen ended, by the process that lost its terminal.
    let end = Instant::now() + LIMIT;
    while seat.outcome().is_empty() {
        assert!(Instant::now() < end, "the process wrote nothing after its terminal vanished");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(seat.outcome().starts_with("gone"), "{}", seat.outcome());
}
