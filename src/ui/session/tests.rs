use super::notices::INFO_FOR;
use super::*;
use crate::domain::run::Need;
use crate::domain::run::{Refusal, StepStatus};
use crate::snapshot::StepRow;
use proptest::prelude::*;

struct Seat {
    session: Session,
    snapshot: Arc<Snapshot>,
    now: Instant,
}

impl Seat {
    fn at(snapshot: Snapshot) -> Self {
        let now = Instant::now();
        let session = Session::new(&BTreeMap::new(), now).unwrap();
        Self { session, snapshot: Arc::new(snapshot), now }
    }

    fn wait(&mut self, ms: u64) -> &mut Self {
        self.now += Duration::from_millis(ms);
        self.session.tick(self.now);
        self
    }

    /// What the shell does after a key: the frame stands on the screen.
    fn paint(&mut self) -> &mut Self {
        self.session.drawn(self.session.boxes(), self.now);
        self
    }

    fn tap(&mut self, written: &str) -> Vec<Do> {
        let (ctrl, rest) = match written.strip_prefix("ctrl-") {
            Some(rest) => (KeyModifiers::CONTROL, rest),
            None => (KeyModifiers::NONE, written),
        };
        let code = match rest {
            "esc" => KeyCode::Esc,
            "enter" => KeyCode::Enter,
            "tab" => KeyCode::Tab,
            "space" => KeyCode::Char(' '),
            "down" => KeyCode::Down,
            "right" => KeyCode::Right,
            "backspace" => KeyCode::Backspace,
            one => KeyCode::Char(one.chars().next().unwrap()),
        };
        self.session.on(Typed::Key(KeyEvent::new(code, ctrl)), self.now, &self.snapshot)
    }

    fn type_in(&mut self, text: &str) {
        for c in text.chars() {
            assert_eq!(self.tap(&c.to_string()), []);
        }
    }

    fn toast(&self) -> &str {
        self.session.state.toasts.last().map_or("", |t| t.text.as_str())
    }
}

fn running() -> Snapshot {
    let steps = ["copy", "switch"].map(|id| StepRow { id: id.into(), title: id.into(), ..StepRow::default() });
    Snapshot { status: RunStatus::Running, steps: steps.into(), current: Some(0), ..Snapshot::default() }
}

fn held(need: Need) -> Snapshot {
    let mut s = running();
    s.current = Some(1);
    s.steps[1].need = Some(need);
    s
}

fn replay() -> Snapshot {
    Snapshot { mode: Mode::Replay { speed: 8.0, paused: false }, ..held(Need::Key) }
}

#[test]
fn rollback_takes_two_presses_within_four_seconds() {
    let mut seat = Seat::at(running());
    assert_eq!(seat.tap("R"), [Do::Bell]);
    assert_eq!(seat.session.state.armed_ms(), Some(4_000));
    seat.wait(3_999);
    assert_eq!(seat.tap("R"), [Do::RollBack]);
    assert!(seat.session.state.ordered);
    assert_eq!(seat.session.state.armed_ms(), None);

    let mut seat = Seat::at(running());
    seat.tap("R");
    seat.wait(4_000);
    assert_eq!(seat.session.state.armed_ms(), None);
    assert_eq!(seat.tap("R"), [Do::Bell]);
}

/// Text pasted without brackets comes as keys of one read.
#[test]
fn a_paste_without_brackets_orders_nothing() {
    let mut seat = Seat::at(running());
    for c in "MIRROR".chars() {
        assert!(!seat.tap(&c.to_string()).contains(&Do::RollBack));
    }
    assert!(seat.session.state.armed_ms().is_some(), "the screen says what the next press would do");
    // The frame stands before the rest of the same read is handled.
    seat.paint();
    assert_eq!(seat.tap("R"), [Do::Bell]);
    seat.wait(1);
    assert_eq!(seat.tap("R"), [Do::RollBack], "a person who saw it");
    // Nor does Ctrl-C in it leave.
    let mut seat = Seat::at(running());
    assert_eq!((seat.tap("ctrl-c"), seat.tap("ctrl-c")), (vec![], vec![]));
    seat.paint().wait(1);
    assert_ne!(seat.tap("ctrl-c"), []);
}

#[test]
fn escape_disarms_and_closes_nothing_else() {
    let mut seat = Seat::at(running());
    seat.tap("?");
    seat.tap("R");
    seat.tap("esc");
    assert_eq!(seat.session.state.armed_ms(), None);
    assert!(matches!(seat.session.state.top(), Some(Modal::Help { .. })));
    assert_eq!(seat.tap("R"), [Do::Bell]);
}

#[test]
fn rollback_passes_through_every_box() {
    for open in ["n", "?", ":", "N", "q", "enter", "/"] {
        let mut seat = Seat::at(held(Need::Word("Rx".into())));
        seat.tap(open);
        seat.paint().wait(1_000);
        assert_eq!(seat.tap("ctrl-r"), [Do::Bell], "{open}");
        seat.paint().wait(1);
        assert_eq!(seat.tap("ctrl-r"), [Do::RollBack], "{open}");
        assert!(seat.session.state.modals.is_empty());
    }
    // Where nothing is typed the letter does too, also while the box is deaf.
    let mut seat = Seat::at(held(Need::Key));
    seat.tap("n");
    assert_eq!(seat.tap("R"), [Do::Bell]);
    seat.paint().wait(1);
    assert_eq!(seat.tap("R"), [Do::RollBack]);
    // Where a word is typed, it is a letter of the word.
    let mut seat = Seat::at(held(Need::Word("Rx".into())));
    seat.tap("n");
    seat.paint().wait(400);
    seat.type_in("Rx");
    assert!(seat.session.state.top().unwrap().word_matches());
    assert_eq!(seat.session.state.armed_ms(), None);
}

#[test]
fn a_word_is_typed_to_confirm() {
    let mut seat = Seat::at(held(Need::Word("orders".into())));
    seat.tap("n");
    seat.type_in("orders");
    seat.paint().wait(399);
    seat.type_in("orders");
    seat.wait(1);
    seat.type_in("wrong");
    seat.tap("tab");
    assert_eq!(seat.tap("enter"), [Do::Bell]);
    assert!(seat.toast().contains("orders"), "{}", seat.toast());
    assert_eq!(seat.session.on(Typed::Paste("orders".into()), seat.now, &seat.snapshot), [Do::Bell]);
    seat.tap("ctrl-u");
    seat.type_in("orders");
    let word = Some("orders".to_owned());
    assert_eq!(seat.tap("enter"), [Do::Command(Command::Confirm { step: "switch".into(), word })]);
    assert!(seat.session.state.modals.is_empty());
}

#[test]
fn a_frame_from_before_the_box_does_not_open_its_ears() {
    let mut seat = Seat::at(held(Need::Key));
    let before = seat.session.boxes();
    seat.tap("n");
    seat.session.drawn(before, seat.now);
    seat.wait(5_000);
    seat.tap("tab");
    assert_eq!(seat.tap("enter"), []);
    seat.paint().wait(400);
    seat.tap("tab");
    assert_eq!(seat.tap("enter"), [Do::Command(Command::Confirm { step: "switch".into(), word: None })]);
}

#[test]
fn a_box_whose_step_went_on_is_closed() {
    let mut seat = Seat::at(held(Need::Key));
    seat.tap("n");
    seat.session.saw(&running(), seat.now);
    assert!(seat.session.state.modals.is_empty());
    assert!(seat.toast().contains("closed"));
}

#[test]
fn a_decision_can_retry_skip_or_roll_back() {
    let open = |key: &str| {
        let mut seat = Seat::at(held(Need::Decision));
        seat.tap(key);
        seat.paint().wait(400);
        seat
    };
    let mut seat = open("t");
    assert_eq!(seat.tap("enter"), [], "wait is focused first");
    let mut seat = open("n");
    seat.tap("right");
    assert_eq!(seat.tap("enter"), [Do::Command(Command::Retry { step: "switch".into() })]);
    let mut seat = open("s");
    seat.tap("s");
    assert_eq!(seat.tap("enter"), [Do::Command(Command::Skip { step: "switch".into() })]);
    let mut seat = open("n");
    assert_eq!(seat.tap("R"), [Do::Bell]);
    seat.paint().wait(1);
    assert_eq!(seat.tap("R"), [Do::RollBack]);
}

#[test]
fn a_message_that_asks_goes_when_nothing_is_asked_any_more() {
    let mut seat = Seat::at(running());
    seat.session.saw(&running(), seat.now);
    seat.session.saw(&held(Need::Decision), seat.now);
    assert!(seat.toast().ends_with("to decide"), "{}", seat.toast());
    seat.wait(60_000);
    assert!(seat.toast().ends_with("to decide"), "it stays as long as it is asked");
    let back = Snapshot { status: RunStatus::RollingBack, ..running() };
    seat.session.saw(&back, seat.now);
    assert!(!seat.session.state.toasts.iter().any(|t| t.text.ends_with("to decide")));

    seat.session.saw(&held(Need::Key), seat.now);
    assert_eq!(seat.toast(), "switch waits for you: n");
    seat.session.saw(&running(), seat.now);
    assert!(!seat.session.state.toasts.iter().any(|t| t.text.contains("waits for you")), "the key was pressed");
}

#[test]
fn leaving_asks_while_a_run_is_active() {
    let mut seat = Seat::at(running());
    assert_eq!(seat.tap("q"), []);
    seat.paint().wait(400);
    assert_eq!(seat.tap("y"), [Do::Leave]);
    let mut seat = Seat::at(Snapshot { status: RunStatus::Finished, ..running() });
    assert_eq!(seat.tap("q"), [Do::Quit]);
    assert_eq!(Seat::at(replay()).tap("q"), [Do::Quit]);
    let mut seat = Seat::at(running());
    seat.session.state.read_only = Some("bob drives".into());
    assert_eq!(seat.tap("q"), [Do::Quit]);
}

#[test]
fn control_c_twice_leaves_and_once_changes_nothing() {
    let mut seat = Seat::at(running());
    assert_eq!(seat.tap("ctrl-c"), []);
    assert!(seat.toast().contains("the run goes on"));
    seat.wait(2_000);
    assert_eq!(seat.toast(), "");
    assert_eq!(seat.tap("ctrl-c"), []);
    seat.paint().wait(1);
    assert_eq!(seat.tap("ctrl-c"), [Do::Leave]);
}

#[test]
fn space_pauses_and_goes_on_and_workers_change() {
    let mut seat = Seat::at(running());
    assert_eq!(seat.tap("space"), [Do::Command(Command::Pause)]);
    seat.snapshot = Arc::new(Snapshot { status: RunStatus::Paused, ..running() });
    assert_eq!(seat.tap("space"), [Do::Command(Command::Continue)]);
    assert_eq!(seat.tap("+"), []);
    assert!(seat.toast().contains("no bulk load is running"), "{}", seat.toast());
    let mut loading = running();
    loading.steps[0].kind = "load".into();
    loading.steps[0].status = StepStatus::Running;
    loading.workers = (2, 2);
    let mut seat = Seat::at(loading);
    assert_eq!(seat.tap("+"), [Do::Command(Command::Workers { by: 1 })]);
    assert_eq!(seat.tap("-"), [Do::Command(Command::Workers { by: -1 })]);
}

#[test]
fn a_recording_refuses_orders_and_takes_playback() {
    let mut seat = Seat::at(replay());
    for key in ["R", "n", "+"] {
        let out = seat.tap(key);
        assert!(!out.iter().any(|d| matches!(d, Do::RollBack | Do::Command(_))), "{key}: {out:?}");
        assert!(seat.toast().contains("recording"), "{key}: {}", seat.toast());
    }
    assert_eq!(seat.session.state.armed_ms(), None);
    assert_eq!(seat.tap("space"), [Do::Playback(Playback::Toggle)]);
    assert_eq!(seat.tap(">"), [Do::Playback(Playback::Faster)]);
    assert_eq!(seat.tap("<"), [Do::Playback(Playback::Slower)]);
    assert_eq!(seat.tap("right"), [Do::Playback(Playback::Seek(10_000))]);
    assert_eq!(seat.tap("["), [Do::Playback(Playback::Seek(-10_000))]);
    let mut seat = Seat::at(running());
    seat.tap(":");
    seat.type_in("faster");
    assert_eq!(seat.tap("enter"), []);
    assert!(seat.toast().contains("not a recording"), "{}", seat.toast());
}

#[test]
fn views_zoom_and_one_level_back_at_a_time() {
    let mut seat = Seat::at(running());
    for (key, view) in [("1", View::Tables), ("v", View::Verify), ("M", View::Watch), ("L", View::Log)] {
        seat.tap(key);
        assert_eq!(seat.session.state.view, view);
    }
    seat.tap("/");
    seat.type_in("RETRY q");
    assert_eq!(seat.session.state.log.text, "RETRY q");
    seat.tap("enter");
    assert!(!seat.session.state.log.editing);
    seat.tap("esc");
    assert_eq!((seat.session.state.log.text.as_str(), seat.session.state.view), ("", View::Log));
    seat.tap("esc");
    assert_eq!(seat.session.state.view, View::Home);
    seat.tap("z");
    assert!(seat.session.state.zoom);
    seat.tap("esc");
    assert!(!seat.session.state.zoom);
    assert_eq!(seat.tap("esc"), []);
}

#[test]
fn a_frozen_view_shows_what_was_and_thaws_for_what_matters() {
    let mut seat = Seat::at(held(Need::Key));
    let later = Snapshot { version: 7, ..held(Need::Key) };
    seat.tap("f");
    assert_eq!(seat.session.shown(&later).version, 0);
    seat.tap("n");
    assert_eq!(seat.session.shown(&later).version, 7, "a question is asked about now");
    seat.tap("esc");
    seat.tap("f");
    seat.session.saw(&running(), seat.now);
    seat.session.saw(&Snapshot { status: RunStatus::RollingBack, ..running() }, seat.now);
    assert!(seat.session.state.frozen.is_none());
}

#[test]
fn a_note_and_the_palette_take_text() {
    let mut seat = Seat::at(running());
    seat.tap("N");
    seat.type_in("Rq 1");
    assert_eq!(seat.tap("enter"), [Do::Command(Command::Note { text: "Rq 1".into() })]);
    seat.tap(":");
    seat.type_in("view_lag");
    seat.tap("enter");
    assert_eq!(seat.session.state.view, View::Lag);
    seat.tap(":");
    seat.type_in("roll_back");
    assert_eq!(seat.tap("enter"), [Do::Bell], "from the palette it only arms");
    assert!(seat.session.state.armed_ms().is_some());
    seat.tap(":");
    seat.type_in("roll_back");
    assert_eq!(seat.tap("enter"), [Do::Bell], "also while armed");
}

#[test]
fn messages_leave_by_level_and_errors_stay_until_acknowledged() {
    let mut seat = Seat::at(running());
    let now = seat.now;
    seat.session.say(Level::Info, "one", now);
    seat.session.say(Level::Warn, "two", now);
    seat.session.say(Level::Error, "three", now);
    assert_eq!(seat.session.deadline(), Some(now + INFO_FOR));
    seat.wait(4_000);
    assert_eq!(seat.session.state.toasts.len(), 2);
    seat.wait(4_000);
    assert_eq!(seat.toast(), "three");
    seat.wait(60_000);
    assert_eq!(seat.session.state.toasts.len(), 1);
    seat.tap("a");
    assert!(seat.session.state.toasts.is_empty());
    seat.tap("a");
    assert!(seat.toast().contains("nothing to acknowledge"));
}

#[test]
fn what_needs_a_person_is_said_and_rung_once() {
    let mut seat = Seat::at(running());
    assert_eq!(seat.session.saw(&running(), seat.now), []);
    let waiting = held(Need::Word("orders".into()));
    assert_eq!(seat.session.saw(&waiting, seat.now), [Do::Bell]);
    assert_eq!(seat.toast(), "switch waits for you: n");
    assert_eq!(seat.session.saw(&waiting, seat.now), []);
    let finished = Snapshot { status: RunStatus::Finished, ..running() };
    seat.wait(9_999);
    assert_eq!(seat.session.saw(&finished, seat.now), [], "bells are ten seconds apart");
    assert!(seat.toast().contains("finished"));
}

#[test]
fn answers_are_told() {
    let mut seat = Seat::at(running());
    let now = seat.now;
    seat.session.answered(&Command::Pause, Ok(()), now);
    assert!(seat.toast().contains("safe point"));
    seat.session.answered(&Command::Pause, Err(Refusal("already paused".into())), now);
    assert_eq!(seat.toast(), "not taken: already paused");
}

#[test]
fn own_keys_move_rollback_and_cannot_remove_it() {
    let own = |keys: &[&str]| {
        BTreeMap::from([("roll_back".to_owned(), keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>())])
    };
    assert!(Session::new(&own(&[]), Instant::now()).is_err());
    let mut seat = Seat::at(running());
    seat.session = Session::new(&own(&["b"]), seat.now).unwrap();
    assert_eq!(seat.tap("R"), []);
    assert_eq!(seat.tap("b"), [Do::Bell]);
    seat.paint().wait(1);
    assert_eq!(seat.tap("b"), [Do::RollBack]);
}

#[test]
fn a_question_there_is_no_room_for_cannot_be_answered() {
    let mut seat = Seat::at(held(Need::Key));
    seat.tap("n");
    seat.paint().wait(400);
    seat.tap("tab");
    seat.session.resized(Rect::new(0, 0, 40, 10));
    seat.paint().wait(5_000);
    assert_eq!(seat.tap("enter"), []);
    seat.session.resized(Rect::new(0, 0, 80, 24));
    assert_eq!(seat.tap("enter"), []);
    seat.paint().wait(400);
    assert_eq!(seat.tap("enter"), [Do::Command(Command::Confirm { step: "switch".into(), word: None })]);
}

#[test]
fn focus_goes_only_where_there_is_room() {
    let mut seat = Seat::at(running());
    seat.session.resized(Rect::new(0, 0, 200, 60));
    seat.tap("tab");
    assert_eq!(seat.session.state.focus, Pane::Evidence);
    seat.session.resized(Rect::new(0, 0, 80, 24));
    assert_eq!(seat.session.state.focus, Pane::Runbook);
    seat.tap("tab");
    assert_eq!(seat.session.state.focus, Pane::Log);
}

proptest! {
    /// Whatever is pressed, rollback is ordered only by its key, pressed twice within the time, and a recording
    /// orders nothing.
    #[test]
    fn only_two_presses_roll_back(
        presses in proptest::collection::vec((0usize..22, 0u64..1_500), 1..80), recording in any::<bool>()
    ) {
        const KEYS: [&str; 22] = ["R", "ctrl-r", "n", "q", "y", "enter", "tab", "esc", "?", ":", "/", "N", "f", "z",
            "space", "right", "down", "o", "a", "1", "ctrl-c", "s"];
        let snapshot = if recording { replay() } else { held(Need::Word("o".into())) };
        let mut seat = Seat::at(snapshot);
        let mut armed: Option<Instant> = None;
        for (which, gap) in presses {
            seat.wait(gap);
            let before = seat.session.state.armed_ms().is_some();
            let out = seat.tap(KEYS[which]);
            if out.contains(&Do::RollBack) {
                prop_assert!(which < 2 && before && !recording);
                prop_assert!(armed.is_some_and(|t| seat.now < t + Duration::from_secs(4)));
                armed = None;
            } else if seat.session.state.armed_ms() == Some(4_000) {
                // Armed just now, by the key or from the palette.
                armed = Some(seat.now);
            }
            if recording {
                prop_assert!(!out.iter().any(|d| matches!(d, Do::Command(_) | Do::RollBack)));
            }
            seat.paint();
        }
    }
}

#[test]
fn the_evidence_of_a_step_lets_its_question_be_asked() {
    let mut seat = Seat::at(held(Need::Key));
    seat.tap("enter");
    assert!(matches!(seat.session.state.top(), Some(Modal::Evidence { .. })));
    assert_eq!(seat.tap("n"), []);
    assert!(matches!(seat.session.state.modals[..], [Modal::Confirm { .. }]));
    // Where nothing waits the box stays, and says why.
    let mut seat = Seat::at(running());
    seat.tap("enter");
    seat.tap("n");
    assert!(matches!(seat.session.state.modals[..], [Modal::Evidence { .. }]));
    assert!(seat.toast().contains("no step waits for a person"), "{}", seat.toast());
}

#[test]
fn a_question_is_drawn_anew_when_it_begins_to_listen() {
    let mut seat = Seat::at(held(Need::Key));
    seat.tap("n");
    assert_eq!(seat.session.deadline(), None, "not on the screen yet");
    seat.paint();
    let hears = seat.now + Duration::from_millis(DIALOG_DEAF_MS);
    assert_eq!(seat.session.deadline(), Some(hears));
    assert!(!seat.session.tick(hears - Duration::from_millis(1)));
    assert!(seat.session.tick(hears), "the buttons change");
    seat.now = hears;
    seat.paint();
    assert_eq!(seat.session.deadline(), None);
}
