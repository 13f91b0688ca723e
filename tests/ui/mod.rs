//! The terminal guard and the listener in a real pseudo-terminal, seen through a terminal emulator.
//!
//! The child is this test binary itself, running only [`ui_pty_child`].

mod app;
mod terminal;

use std::time::{Duration, Instant};

use cutover::ui::decode::Typed;
use cutover::ui::input::{Heard, Listener};
use cutover::ui::term::{Terminal, abandon, on_screen_task};
use ratatui::crossterm::event::KeyCode;
use ratatui::widgets::Paragraph;
use terminal::{LIMIT, OUTCOME, SCENE, TestTerminal};

const CHILD: &str = "ui::ui_pty_child";

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

#[test]
fn the_screen_opens_answers_and_gives_the_terminal_back() {
    let mut terminal = TestTerminal::open(CHILD, "plain");
    terminal.until("the first paint", |s| {
        s.alternate_screen() && s.hide_cursor() && s.bracketed_paste() && s.contents().contains("nothing yet")
    });
    terminal.press(b"\x1b[5~");
    terminal.until_text("last key: PageUp");
    terminal.press(b"\x1b");
    terminal.until_text("last key: Esc");
    terminal.press(b"\x1b[200~RR q\x1b[201~");
    terminal.until_text("last key: paste RR q");
    terminal.press(b"q");
    terminal.until_given_back();
    assert!(terminal.ended());
    assert_eq!(terminal.outcome(), "quit");
}

#[test]
fn a_panic_of_the_screen_gives_the_terminal_back_and_then_reports() {
    let mut terminal = TestTerminal::open(CHILD, "panic");
    terminal.until_text("nothing yet");
    terminal.press(b"p");
    terminal.until("the report on the normal screen", |s| {
        !s.alternate_screen() && !s.hide_cursor() && s.contents().contains("the screen broke")
    });
    assert!(!terminal.ended());
}

#[test]
fn a_panic_of_a_worker_leaves_the_screen_up_and_is_reported_afterwards() {
    let mut terminal = TestTerminal::open(CHILD, "plain");
    terminal.until_text("nothing yet");
    terminal.press(b"w");
    terminal.until("the screen still up", |s| {
        s.alternate_screen() && s.contents().contains("worker panicked true") && !s.contents().contains("broke")
    });
    terminal.press(b"q");
    terminal.until_text("a worker broke");
    terminal.until_given_back();
    assert!(terminal.ended());
}

#[test]
fn a_vanished_terminal_ends_the_screen_and_not_the_process() {
    let mut terminal = TestTerminal::open(CHILD, "vanish");
    terminal.until_text("nothing yet");
    terminal.vanish();
    // The file is written after the screen ended, by the process that lost its terminal.
    let end = Instant::now() + LIMIT;
    while terminal.outcome().is_empty() {
        assert!(Instant::now() < end, "the process wrote nothing after its terminal vanished");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(terminal.outcome().starts_with("gone"), "{}", terminal.outcome());
}
