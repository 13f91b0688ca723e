//! The whole screen in a real pseudo-terminal, with a scripted engine behind it.
//!
//! What is drawn here is a plain listing of what the shell knows: these tests are about the shell, and the words of
//! the real screens are tested where they are drawn.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cutover::domain::run::{Command, Need, Refusal, RunStatus};
use cutover::engine::handle::{Handle, Request};
use cutover::snapshot::{Snapshot, StepRow};
use cutover::ui::{UiExit, UiOptions, run, run_drawn_by};
use cutover::view::state::{Button, Modal, ViewState};
use cutover::view::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use rustix::process::Signal;
use tokio::sync::{mpsc, watch};

use super::terminal::{OUTCOME, SCENE, TestTerminal};

const CHILD: &str = "ui::app::ui_app_child";

fn listing(snapshot: &Snapshot, state: &ViewState, _: &Theme, area: Rect, buffer: &mut Buffer) {
    if state.view == cutover::view::state::View::Errors {
        panic!("the drawing broke");
    }
    let top = match state.top() {
        None => "none".to_owned(),
        Some(Modal::Confirm { typed, button, drawn_ms, .. }) => {
            let side = if *button == Button::Go { "go" } else { "cancel" };
            format!("confirm typed={typed} on={side} drawn={}", drawn_ms.is_some())
        }
        Some(Modal::Quit { drawn_ms, .. }) => format!("quit drawn={}", drawn_ms.is_some()),
        Some(_) => "other".to_owned(),
    };
    let mut lines = vec![
        format!("status {:?} ticks {}", snapshot.status, snapshot.version),
        format!("armed {} ordered {}", state.armed_ms().is_some(), state.ordered),
        format!("view {:?} box {top}", state.view),
        format!("size {}x{}", area.width, area.height),
    ];
    lines.extend(state.toasts.iter().map(|t| format!("said {}", t.text)));
    for (y, line) in (area.top()..area.bottom()).zip(&lines) {
        buffer.set_stringn(area.x, y, line, usize::from(area.width), Style::default());
    }
    if snapshot.environment == "flood" {
        let line = snapshot.version.to_string().repeat(usize::from(area.width));
        for y in 12..area.bottom() {
            buffer.set_stringn(area.x, y, &line, usize::from(area.width), Style::default());
        }
    }
    if area.height > 6 {
        let corner = area.right().saturating_sub(6);
        buffer.set_stringn(corner, area.bottom() - 1, "corner", 6, Style::default());
    }
}

fn note(path: &Path, line: &str) {
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

fn start(scene: &str) -> Snapshot {
    let need = matches!(scene, "word" | "real").then(|| Need::Word("orders".to_owned()));
    let step = StepRow { id: "flip".into(), number: 1, title: "Flip reads".into(), need, ..StepRow::default() };
    let status = if scene == "ended" { RunStatus::Finished } else { RunStatus::Running };
    Snapshot {
        plan: "orders".into(),
        status,
        steps: vec![step],
        current: Some(0),
        environment: scene.into(),
        ..Snapshot::default()
    }
}

/// The engine's side of the handle: publishes, answers, and notes what it was asked.
async fn engine(
    snapshots: watch::Sender<Arc<Snapshot>>,
    mut commands: mpsc::Receiver<Request>,
    mut rollback: watch::Receiver<Option<cutover::engine::handle::RollbackOrder>>,
    outcome: PathBuf,
) {
    let flood = snapshots.borrow().environment == "flood";
    let mut ticks = tokio::time::interval(Duration::from_millis(if flood { 10 } else { 50 }));
    loop {
        tokio::select! {
            Some(request) = commands.recv() => {
                note(&outcome, &format!("command {:?}", request.command));
                let answer = match request.command {
                    Command::Pause => Err(Refusal("resting already".into())),
                    Command::Confirm { .. } => {
                        snapshots.send_modify(|s| Arc::make_mut(s).steps[0].need = None);
                        Ok(())
                    }
                    _ => Ok(()),
                };
                let _ = request.reply.send(answer);
            }
            Ok(()) = rollback.changed() => {
                note(&outcome, "rollback ordered");
                snapshots.send_modify(|s| Arc::make_mut(s).status = RunStatus::RollingBack);
            }
            _ = ticks.tick() => snapshots.send_modify(|s| Arc::make_mut(s).version += 1),
        }
    }
}

/// Not a test of its own: what runs inside the pseudo-terminal.
#[test]
#[ignore = "runs inside a pseudo-terminal started by the other tests"]
fn ui_app_child() {
    let (Ok(scene), Ok(outcome)) = (std::env::var(SCENE), std::env::var(OUTCOME)) else { return };
    let outcome = PathBuf::from(outcome);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (publish, snapshots) = watch::channel(Arc::new(start(&scene)));
    let (ask, asked) = mpsc::channel(8);
    let (order, ordered) = watch::channel(None);
    let handle = Handle::new(snapshots.clone(), ask, Arc::new(order), None, "alice".to_owned());
    runtime.spawn(engine(publish, asked, ordered, outcome.clone()));
    let exit = runtime.block_on(async {
        let options = UiOptions::from_terminal(None, true, if scene == "flood" { 60 } else { 10 });
        let shown =
            if scene == "real" { run(handle, options).await } else { run_drawn_by(handle, options, listing).await };
        shown.unwrap()
    });
    if exit == UiExit::TerminalGone {
        eprintln!("this panics where standard error is a dead terminal");
    }
    note(&outcome, &format!("exit {exit:?}"));
    // The work behind the screen goes on.
    let mut snapshots = snapshots;
    let from = snapshots.borrow().version;
    runtime.block_on(async { snapshots.wait_for(|s| s.version > from + 2).await.map(drop) }).unwrap();
    note(&outcome, "work went on");
}

#[test]
fn the_first_paint_comes_and_data_moves_on_its_own() {
    let mut terminal = TestTerminal::open(CHILD, "run");
    terminal.until("the first paint", |s| {
        let text = s.contents();
        s.alternate_screen() && s.hide_cursor() && text.contains("status Running") && text.contains("corner")
    });
    terminal.until_text("ticks 20");
    terminal.press(b"2");
    terminal.until_text("view Lag");
    terminal.press(b"\x1b");
    terminal.until_text("view Home");
    terminal.press(b" ");
    terminal.until_text("said not taken: resting already");
}

/// The same through the program's main function, with the real screens.
#[test]
fn the_real_screens_stand_behind_the_same_keys() {
    let mut terminal = TestTerminal::open(CHILD, "real");
    terminal.until("home", |s| s.contents().contains("orders") && s.contents().contains("Flip reads"));
    terminal.resize(24, 80);
    terminal.until("home at 80 by 24", |s| s.rows(0, 80).nth(23).is_some_and(|r| r.contains("R rollback")));
    terminal.press(b"n");
    terminal.until_text("Type orders");
    terminal.press(b"\x12");
    terminal.until_text("ROLLBACK ARMED");
    terminal.press(b"\x1b");
    terminal.until("disarmed, the box still there", |s| {
        let text = s.contents();
        text.contains("Type orders") && !text.contains("press R again")
    });
    assert!(
        !terminal.outcome().contains("rollback") && !terminal.outcome().contains("command"),
        "{}",
        terminal.outcome()
    );
    terminal.press(b"\x1b");
    terminal.until("the box closed", |s| !s.contents().contains("Type orders"));
    terminal.press(b"?");
    terminal.until_text("Help");
    terminal.press(b"\x1b");
    terminal.until("the help closed", |s| !s.contents().contains("Help"));
    terminal.press(b":quit\r");
    terminal.until_text("LEAVE");
}

#[test]
fn the_screen_follows_the_size_of_the_terminal_and_back() {
    let mut terminal = TestTerminal::open(CHILD, "run");
    terminal.until_text("size 100x30");
    terminal.resize(24, 80);
    terminal.until("80 by 24", |s| {
        s.contents().contains("size 80x24") && s.rows(0, 80).nth(23).is_some_and(|r| r.ends_with("corner"))
    });
    terminal.resize(30, 100);
    terminal.until("100 by 30", |s| {
        let rows: Vec<String> = s.rows(0, 100).collect();
        let corners = rows.iter().filter(|r| r.contains("corner")).count();
        s.contents().contains("size 100x30") && corners == 1 && rows[29].ends_with("corner")
    });
}

#[test]
fn rollback_is_ordered_by_two_presses_and_never_by_one() {
    let mut terminal = TestTerminal::open(CHILD, "run");
    terminal.until_text("armed false ordered false");
    terminal.press(b"R");
    terminal.until_text("armed true");
    terminal.press(b"\x1b");
    terminal.until_text("armed false ordered false");
    assert!(!terminal.outcome().contains("rollback"));
    terminal.press(b"R");
    terminal.until_text("armed true");
    assert!(!terminal.outcome().contains("rollback"));
    terminal.press_until_noted(b"R", "rollback ordered");
    terminal.until_text("status RollingBack");
    assert_eq!(terminal.outcome().matches("rollback ordered").count(), 1);
}

#[test]
fn presses_in_one_packet_are_one_press() {
    let mut terminal = TestTerminal::open(CHILD, "run");
    terminal.until_text("status Running");
    // As text that is pasted where nobody brackets it.
    terminal.press(b"\x12\x12\x12");
    terminal.until_text("armed true");
    assert!(!terminal.outcome().contains("rollback"));
    terminal.press_until_noted(b"\x12", "rollback ordered");
}

#[test]
fn a_switch_takes_its_word_typed_after_the_box_stood() {
    let mut terminal = TestTerminal::open(CHILD, "word");
    terminal.until_text("said Flip reads waits for you");
    // Everything at once, as somebody who types ahead does: the box opens, the rest is dropped.
    terminal.press(b"norders\t\r");
    terminal.until_text("box confirm typed= on=cancel drawn=true");
    std::thread::sleep(Duration::from_millis(450));
    terminal.press(b"oders\t");
    terminal.until_text("typed=oders on=go");
    terminal.press(b"\r");
    terminal.until_text("said type orders exactly");
    terminal.press(b"\x1b[200~orders\x1b[201~");
    terminal.until_text("said pasting is refused");
    assert!(!terminal.outcome().contains("command"), "{}", terminal.outcome());
    terminal.press(b"\x15orders");
    terminal.until_text("typed=orders on=go");
    terminal.press(b"\r");
    terminal.until_noted("command Confirm { step: \"flip\", word: Some(\"orders\") }");
    terminal.until_text("said flip: confirmed");
    terminal.until_text("box none");
}

#[test]
fn leaving_asks_while_the_run_is_active_and_gives_the_terminal_back() {
    let mut terminal = TestTerminal::open(CHILD, "run");
    terminal.until_text("status Running");
    terminal.press(b"qy");
    terminal.until_text("box quit drawn=true");
    std::thread::sleep(Duration::from_millis(450));
    terminal.press(b"y");
    terminal.until_given_back();
    terminal.until_noted("exit Quit");
    terminal.until_noted("work went on");
    assert!(terminal.ended());
}

#[test]
fn after_the_end_the_screen_stays_until_q() {
    let mut terminal = TestTerminal::open(CHILD, "ended");
    terminal.until_text("ticks 10");
    terminal.press(b"q");
    terminal.until_noted("exit Finished");
    terminal.until_given_back();
}

#[test]
fn a_request_to_end_gives_the_terminal_back() {
    let mut terminal = TestTerminal::open(CHILD, "run");
    terminal.until_text("status Running");
    terminal.signal(Signal::TERM);
    terminal.until_given_back();
    terminal.until_noted("exit Terminated");
    terminal.until_noted("work went on");
    assert!(terminal.ended());
}

#[test]
fn an_interrupt_from_outside_counts_as_control_c() {
    let mut terminal = TestTerminal::open(CHILD, "run");
    terminal.until_text("status Running");
    terminal.signal(Signal::INT);
    terminal.until_text("said press Ctrl-C again");
    terminal.press_until_noted(b"\x03", "exit Quit");
}

#[test]
fn a_hang_up_ends_the_screen_and_the_work_goes_on() {
    let mut terminal = TestTerminal::open(CHILD, "run");
    terminal.until_text("status Running");
    terminal.signal(Signal::HUP);
    terminal.until_noted("exit TerminalGone");
    terminal.until_noted("work went on");
    assert!(terminal.ended());
}

#[test]
fn a_vanished_terminal_ends_the_screen_and_the_work_goes_on() {
    let mut terminal = TestTerminal::open(CHILD, "run");
    terminal.until_text("status Running");
    terminal.vanish();
    terminal.until_noted("exit TerminalGone");
    terminal.until_noted("work went on");
}

#[test]
fn a_terminal_that_takes_nothing_does_not_delay_an_order() {
    let mut terminal = TestTerminal::open(CHILD, "flood");
    terminal.until_text("status Running");
    terminal.stall(true);
    terminal.until_painter_waits();
    // Nothing can show that the first press armed: pressed again a second later, it counts all the same.
    for _ in 0..200 {
        if terminal.outcome().contains("rollback ordered") {
            break;
        }
        terminal.press(b"R");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    terminal.until_noted("rollback ordered");
    terminal.stall(false);
    terminal.until_text("status RollingBack");
}

#[test]
fn a_drawing_that_breaks_gives_the_terminal_back_and_the_work_goes_on() {
    let mut terminal = TestTerminal::open(CHILD, "run");
    terminal.until_text("status Running");
    terminal.press(b"3");
    terminal.until("the report on the normal screen", |s| {
        !s.alternate_screen() && !s.hide_cursor() && s.contents().contains("the drawing broke")
    });
    terminal.until_noted("exit Quit");
    terminal.until_noted("work went on");
    assert!(terminal.ended());
}
