//! The terminal guard and the listener in a real pseudo-terminal, seen through a terminal emulator.
//!
//! The child is this test binary itself, running only [`ui_pty_child`].

mod app;
mod seat;

use std::time::{Duration, Instant};

use cutover::ui::decode::Typed;
use cutover::ui::input::{Heard, Listener};
use cutover::ui::term::{Terminal, abandon, on_screen_task};
use ratatui::crossterm::event::KeyCode;
use ratatui::widgets::Paragraph;
use seat::{LIMIT, OUTCOME, SCENE, Seat};

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
    let mut seat = Seat::open(CHILD, "plain");
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
    let mut seat = Seat::open(CHILD, "panic");
    seat.until_text("nothing yet");
    seat.press(b"p");
    seat.until("the report on the normal screen", |s| {
        !s.alternate_screen() && !s.hide_cursor() && s.contents().contains("the screen broke")
    });
    assert!(!seat.ended());
}

#[test]
fn a_panic_of_a_worker_leaves_the_screen_up_and_is_reported_afterwards() {
    let mut seat = Seat::open(CHILD, "plain");
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
    let mut seat = Seat::open(CHILD, "vanish");
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
