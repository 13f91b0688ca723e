mod alerts;

use super::notices::INFO_FOR;
use super::*;
use crate::domain::run::Need;
use crate::domain::run::{Refusal, StepStatus};
use crate::snapshot::StepRow;
use proptest::prelude::*;

struct TestUser {
    session: Session,
    snapshot: Arc<Snapshot>,
    now: Instant,
}

impl TestUser {
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
    let mut user = TestUser::at(running());
    assert_eq!(user.tap("R"), [Do::Bell]);
    assert_eq!(user.session.state.armed_ms(), Some(4_000));
    user.wait(3_999);
    assert_eq!(user.tap("R"), [Do::RollBack]);
    assert!(user.session.state.ordered);
    assert_eq!(user.session.state.armed_ms(), None);

    let mut user = TestUser::at(running());
    user.tap("R");
    user.wait(4_000);
    assert_eq!(user.session.state.armed_ms(), None);
    assert_eq!(user.tap("R"), [Do::Bell]);
}

/// Text pasted without brackets comes as keys of one read.
#[test]
fn a_paste_without_brackets_orders_nothing() {
    let mut user = TestUser::at(running());
    for c in "MIRROR".chars() {
        assert!(!user.tap(&c.to_string()).contains(&Do::RollBack));
    }
    assert!(user.session.state.armed_ms().is_some(), "the screen says what the next press would do");
    // The frame stands before the rest of the same read is handled.
    user.paint();
    assert_eq!(user.tap("R"), [Do::Bell]);
    user.wait(1);
    assert_eq!(user.tap("R"), [Do::RollBack], "a person who saw it");
    // Nor does Ctrl-C in it leave.
    let mut user = TestUser::at(running());
    assert_eq!((user.tap("ctrl-c"), user.tap("ctrl-c")), (vec![], vec![]));
    user.paint().wait(1);
    assert_ne!(user.tap("ctrl-c"), []);
}

#[test]
fn escape_disarms_and_closes_nothing_else() {
    let mut user = TestUser::at(running());
    user.tap("?");
    user.tap("R");
    user.tap("esc");
    assert_eq!(user.session.state.armed_ms(), None);
    assert!(matches!(user.session.state.top(), Some(Modal::Help { .. })));
    assert_eq!(user.tap("R"), [Do::Bell]);
}

#[test]
fn the_screen_is_written_anew_over_every_box_and_while_somebody_types() {
    for open in ["n", "?", ":", "/"] {
        let mut user = TestUser::at(held(Need::Word("Rx".into())));
        user.tap(open);
        assert_eq!(user.tap("ctrl-l"), [Do::Redraw], "{open}");
    }
}

#[test]
fn rollback_passes_through_every_box() {
    for open in ["n", "?", ":", "N", "q", "enter", "/"] {
        let mut user = TestUser::at(held(Need::Word("Rx".into())));
        user.tap(open);
        user.paint().wait(1_000);
        assert_eq!(user.tap("ctrl-r"), [Do::Bell], "{open}");
        user.paint().wait(1);
        assert_eq!(user.tap("ctrl-r"), [Do::RollBack], "{open}");
        assert!(user.session.state.modals.is_empty());
    }
    // Where nothing is typed the letter does too, also while the box ignores keys.
    let mut user = TestUser::at(held(Need::Key));
    user.tap("n");
    assert_eq!(user.tap("R"), [Do::Bell]);
    user.paint().wait(1);
    assert_eq!(user.tap("R"), [Do::RollBack]);
    // Where a word is typed, it is a letter of the word.
    let mut user = TestUser::at(held(Need::Word("Rx".into())));
    user.tap("n");
    user.paint().wait(400);
    user.type_in("Rx");
    assert!(user.session.state.top().unwrap().word_matches());
    assert_eq!(user.session.state.armed_ms(), None);
}

#[test]
fn a_word_is_typed_to_confirm() {
    let mut user = TestUser::at(held(Need::Word("orders".into())));
    user.tap("n");
    user.type_in("orders");
    user.paint().wait(399);
    user.type_in("orders");
    user.wait(1);
    user.type_in("wrong");
    user.tap("tab");
    assert_eq!(user.tap("enter"), [Do::Bell]);
    assert!(user.toast().contains("orders"), "{}", user.toast());
    assert_eq!(user.session.on(Typed::Paste("orders".into()), user.now, &user.snapshot), [Do::Bell]);
    user.tap("ctrl-u");
    user.type_in("orders");
    let word = Some("orders".to_owned());
    assert_eq!(user.tap("enter"), [Do::Command(Command::Confirm { step: "switch".into(), word })]);
    assert!(user.session.state.modals.is_empty());
}

#[test]
fn what_a_box_did_not_take_is_said_and_gone_with_the_next_key() {
    let mut user = TestUser::at(held(Need::Word("orders".into())));
    user.tap("n");
    user.tap("tab");
    assert!(user.toast().contains("not yet"), "{}", user.toast());
    user.paint().wait(400);
    user.type_in("orders");
    assert!(!user.toast().contains("not yet"), "{}", user.toast());
    assert_eq!(user.tap("enter"), [Do::Bell]);
    assert!(user.toast().contains("the focus is on Cancel"), "{}", user.toast());
    user.tap("tab");
    let word = Some("orders".to_owned());
    assert_eq!(user.tap("enter"), [Do::Command(Command::Confirm { step: "switch".into(), word })]);
    assert_eq!(user.toast(), "", "it stands beside what was started");
    // Enter on the button that has the focus from the beginning.
    let mut user = TestUser::at(held(Need::Key));
    user.tap("n");
    user.paint().wait(400);
    assert_eq!(user.tap("enter"), []);
    assert!(user.toast().contains("cancelled"), "{}", user.toast());
}

#[test]
fn a_frame_from_before_the_box_does_not_open_its_ears() {
    let mut user = TestUser::at(held(Need::Key));
    let before = user.session.boxes();
    user.tap("n");
    user.session.drawn(before, user.now);
    user.wait(5_000);
    user.tap("tab");
    assert_eq!(user.tap("enter"), []);
    user.paint().wait(400);
    user.tap("tab");
    assert_eq!(user.tap("enter"), [Do::Command(Command::Confirm { step: "switch".into(), word: None })]);
}

#[test]
fn a_box_whose_step_went_on_is_closed() {
    let mut user = TestUser::at(held(Need::Key));
    user.tap("n");
    user.session.saw(&running(), user.now);
    assert!(user.session.state.modals.is_empty());
    assert!(user.toast().contains("closed"));
}

#[test]
fn a_decision_can_retry_skip_or_roll_back() {
    let open = |key: &str| {
        let mut user = TestUser::at(held(Need::Decision));
        user.tap(key);
        user.paint().wait(400);
        user
    };
    let mut user = open("t");
    assert_eq!(user.tap("enter"), [], "wait is focused first");
    let mut user = open("n");
    user.tap("right");
    assert_eq!(user.tap("enter"), [Do::Command(Command::Retry { step: "switch".into() })]);
    let mut user = open("s");
    user.tap("s");
    assert_eq!(user.tap("enter"), [Do::Command(Command::Skip { step: "switch".into() })]);
    let mut user = open("n");
    assert_eq!(user.tap("R"), [Do::Bell]);
    user.paint().wait(1);
    assert_eq!(user.tap("R"), [Do::RollBack]);
}

#[test]
fn a_step_back_is_asked_once_and_done_by_the_same_key() {
    let step = StepRow { id: "to-10".into(), ..StepRow::default() };
    let step_back = crate::snapshot::StepBackRow { step: Some("to-10".into()), why: String::new() };
    let snapshot = Snapshot { steps: vec![step], step_back, ..running() };
    let back = [Do::Command(Command::StepBack { step: "to-10".into() })];
    let open = || {
        let mut user = TestUser::at(snapshot.clone());
        assert_eq!(user.tap("b"), []);
        user.paint().wait(400);
        user
    };
    assert_eq!(open().tap("b"), back);
    let mut user = open();
    assert_eq!(user.tap("enter"), [], "cancel is focused first");
    let mut user = open();
    user.tap("tab");
    assert_eq!(user.tap("enter"), back);
    let mut early = TestUser::at(snapshot.clone());
    early.tap("b");
    assert_eq!(early.tap("b"), [], "a key typed ahead does nothing");
    let mut user = TestUser::at(running());
    assert_eq!(user.tap("b"), []);
    assert!(user.session.state.modals.is_empty() && user.toast().contains("nothing to take back"), "{}", user.toast());
}

#[test]
fn a_message_that_asks_goes_when_nothing_is_asked_any_more() {
    let mut user = TestUser::at(running());
    user.session.saw(&running(), user.now);
    user.session.saw(&held(Need::Decision), user.now);
    assert!(user.toast().ends_with("to decide"), "{}", user.toast());
    user.wait(60_000);
    assert!(user.toast().ends_with("to decide"), "it stays as long as it is asked");
    let back = Snapshot { status: RunStatus::RollingBack, ..running() };
    user.session.saw(&back, user.now);
    assert!(!user.session.state.toasts.iter().any(|t| t.text.ends_with("to decide")));

    user.session.saw(&held(Need::Key), user.now);
    assert_eq!(user.toast(), "switch waits for you: n");
    user.session.saw(&running(), user.now);
    assert!(!user.session.state.toasts.iter().any(|t| t.text.contains("waits for you")), "the key was pressed");
}

#[test]
fn leaving_asks_while_a_run_is_active() {
    let mut user = TestUser::at(running());
    assert_eq!(user.tap("q"), []);
    user.paint().wait(400);
    assert_eq!(user.tap("y"), [Do::Leave]);
    let mut user = TestUser::at(Snapshot { status: RunStatus::Finished, ..running() });
    assert_eq!(user.tap("q"), [Do::Quit]);
    assert_eq!(TestUser::at(replay()).tap("q"), [Do::Quit]);
}

#[test]
fn control_c_twice_leaves_and_once_changes_nothing() {
    let mut user = TestUser::at(running());
    assert_eq!(user.tap("ctrl-c"), []);
    assert!(user.toast().contains("the run goes on"));
    user.wait(2_000);
    assert_eq!(user.toast(), "");
    assert_eq!(user.tap("ctrl-c"), []);
    user.paint().wait(1);
    assert_eq!(user.tap("ctrl-c"), [Do::Leave]);
}

#[test]
fn space_pauses_and_goes_on_and_workers_change() {
    let mut user = TestUser::at(running());
    assert_eq!(user.tap("space"), [Do::Command(Command::Pause)]);
    user.snapshot = Arc::new(Snapshot { status: RunStatus::Paused, ..running() });
    assert_eq!(user.tap("space"), [Do::Command(Command::Continue)]);
    assert_eq!(user.tap("+"), []);
    assert!(user.toast().contains("no bulk load is running"), "{}", user.toast());
    let mut loading = running();
    loading.steps[0].kind = crate::domain::plan::StepName::Load;
    loading.steps[0].status = StepStatus::Running;
    loading.workers = (2, 2);
    let mut user = TestUser::at(loading);
    assert_eq!(user.tap("+"), [Do::Command(Command::Workers { by: 1 })]);
    assert_eq!(user.tap("-"), [Do::Command(Command::Workers { by: -1 })]);
}

#[test]
fn a_recording_refuses_orders_and_takes_playback() {
    let mut user = TestUser::at(replay());
    for key in ["R", "n", "+"] {
        let out = user.tap(key);
        assert!(!out.iter().any(|d| matches!(d, Do::RollBack | Do::Command(_))), "{key}: {out:?}");
        assert!(user.toast().contains("recording"), "{key}: {}", user.toast());
    }
    assert_eq!(user.session.state.armed_ms(), None);
    assert_eq!(user.tap("space"), [Do::Playback(Playback::Toggle)]);
    assert_eq!(user.tap(">"), [Do::Playback(Playback::Faster)]);
    assert_eq!(user.tap("<"), [Do::Playback(Playback::Slower)]);
    assert_eq!(user.tap("right"), [Do::Playback(Playback::Seek(10_000))]);
    assert_eq!(user.tap("["), [Do::Playback(Playback::Seek(-10_000))]);
    let mut user = TestUser::at(running());
    user.tap(":");
    user.type_in("faster");
    assert_eq!(user.tap("enter"), []);
    assert!(user.toast().contains("not a recording"), "{}", user.toast());
}

#[test]
fn views_zoom_and_one_level_back_at_a_time() {
    let mut user = TestUser::at(running());
    for (key, view) in [("1", View::Tables), ("v", View::Verify), ("M", View::Watch), ("L", View::Log)] {
        user.tap(key);
        assert_eq!(user.session.state.view, view);
    }
    user.tap("/");
    user.type_in("RETRY q");
    assert_eq!(user.session.state.log.text, "RETRY q");
    user.tap("enter");
    assert!(!user.session.state.log.editing);
    user.tap("esc");
    assert_eq!((user.session.state.log.text.as_str(), user.session.state.view), ("", View::Log));
    user.tap("esc");
    assert_eq!(user.session.state.view, View::Home);
    user.tap("z");
    assert!(user.session.state.zoom);
    user.tap("esc");
    assert!(!user.session.state.zoom);
    assert_eq!(user.tap("esc"), []);
}

#[test]
fn a_frozen_view_shows_what_was_and_thaws_for_what_matters() {
    let mut user = TestUser::at(held(Need::Key));
    let later = Snapshot { version: 7, ..held(Need::Key) };
    user.tap("f");
    assert_eq!(user.session.shown(&later).version, 0);
    user.tap("n");
    assert_eq!(user.session.shown(&later).version, 7, "a question is asked about now");
    user.tap("esc");
    user.tap("f");
    user.session.saw(&running(), user.now);
    user.session.saw(&Snapshot { status: RunStatus::RollingBack, ..running() }, user.now);
    assert!(user.session.state.held_at.is_none());
}

#[test]
fn a_note_and_the_palette_take_text() {
    let mut user = TestUser::at(running());
    user.tap("N");
    user.type_in("Rq 1");
    assert_eq!(user.tap("enter"), [Do::Command(Command::Note { text: "Rq 1".into() })]);
    user.tap(":");
    user.type_in("view_lag");
    user.tap("enter");
    assert_eq!(user.session.state.view, View::Lag);
    user.tap(":");
    user.type_in("roll_back");
    assert_eq!(user.tap("enter"), [Do::Bell], "from the palette it only arms");
    assert!(user.session.state.armed_ms().is_some());
    user.tap(":");
    user.type_in("roll_back");
    assert_eq!(user.tap("enter"), [Do::Bell], "also while armed");
}

#[test]
fn messages_leave_by_level_and_errors_stay_until_acknowledged() {
    let mut user = TestUser::at(running());
    let now = user.now;
    user.session.say(Level::Info, "one", now);
    user.session.say(Level::Warn, "two", now);
    user.session.say(Level::Error, "three", now);
    assert_eq!(user.session.deadline(), Some(now + INFO_FOR));
    user.wait(4_000);
    assert_eq!(user.session.state.toasts.len(), 2);
    user.wait(4_000);
    assert_eq!(user.toast(), "three");
    user.wait(60_000);
    assert_eq!(user.session.state.toasts.len(), 1);
    user.tap("a");
    assert!(user.session.state.toasts.is_empty());
    user.tap("a");
    assert!(user.toast().contains("nothing to acknowledge"));
}

#[test]
fn what_needs_a_person_is_said_and_rung_once() {
    let mut user = TestUser::at(running());
    assert_eq!(user.session.saw(&running(), user.now), []);
    let waiting = held(Need::Word("orders".into()));
    assert_eq!(user.session.saw(&waiting, user.now), [Do::Bell]);
    assert_eq!(user.toast(), "switch waits for you: n");
    assert_eq!(user.session.saw(&waiting, user.now), []);
    let finished = Snapshot { status: RunStatus::Finished, ..running() };
    user.wait(9_999);
    assert_eq!(user.session.saw(&finished, user.now), [], "bells are ten seconds apart");
    assert!(user.toast().contains("finished"));
}

#[test]
fn answers_are_told() {
    let mut user = TestUser::at(running());
    let now = user.now;
    user.session.answered(&Command::Pause, Ok(()), now);
    assert!(user.toast().contains("safe point"));
    user.session.answered(&Command::Pause, Err(Refusal("already paused".into())), now);
    assert_eq!(user.toast(), "not taken: already paused");
}

#[test]
fn own_keys_move_rollback_and_cannot_remove_it() {
    let own = |keys: &[&str]| {
        BTreeMap::from([("roll_back".to_owned(), keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>())])
    };
    assert!(Session::new(&own(&[]), Instant::now()).is_err());
    let mut user = TestUser::at(running());
    user.session = Session::new(&own(&["b"]), user.now).unwrap();
    assert_eq!(user.tap("R"), []);
    assert_eq!(user.tap("b"), [Do::Bell]);
    user.paint().wait(1);
    assert_eq!(user.tap("b"), [Do::RollBack]);
}

#[test]
fn a_question_there_is_no_room_for_cannot_be_answered() {
    let mut user = TestUser::at(held(Need::Key));
    user.tap("n");
    user.paint().wait(400);
    user.tap("tab");
    user.session.resized(Rect::new(0, 0, 40, 10));
    user.paint().wait(5_000);
    assert_eq!(user.tap("enter"), []);
    user.session.resized(Rect::new(0, 0, 80, 24));
    assert_eq!(user.tap("enter"), []);
    user.paint().wait(400);
    assert_eq!(user.tap("enter"), [Do::Command(Command::Confirm { step: "switch".into(), word: None })]);
}

#[test]
fn focus_goes_only_where_there_is_room() {
    let mut user = TestUser::at(running());
    user.session.resized(Rect::new(0, 0, 200, 60));
    user.tap("tab");
    assert_eq!(user.session.state.focus, Pane::Evidence);
    user.session.resized(Rect::new(0, 0, 80, 24));
    assert_eq!(user.session.state.focus, Pane::Runbook);
    user.tap("tab");
    assert_eq!(user.session.state.focus, Pane::Log);
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
        let mut user = TestUser::at(snapshot);
        let mut armed: Option<Instant> = None;
        for (which, gap) in presses {
            user.wait(gap);
            let before = user.session.state.armed_ms().is_some();
            let out = user.tap(KEYS[which]);
            if out.contains(&Do::RollBack) {
                prop_assert!(which < 2 && before && !recording);
                prop_assert!(armed.is_some_and(|t| user.now < t + Duration::from_secs(4)));
                armed = None;
            } else if user.session.state.armed_ms() == Some(4_000) {
                // Armed just now, by the key or from the palette.
                armed = Some(user.now);
            }
            if recording {
                prop_assert!(!out.iter().any(|d| matches!(d, Do::Command(_) | Do::RollBack)));
            }
            user.paint();
        }
    }
}

#[test]
fn the_evidence_of_a_step_lets_its_question_be_asked() {
    let mut user = TestUser::at(held(Need::Key));
    user.tap("enter");
    assert!(matches!(user.session.state.top(), Some(Modal::Evidence { .. })));
    assert_eq!(user.tap("n"), []);
    assert!(matches!(user.session.state.modals[..], [Modal::Confirm { .. }]));
    // Where nothing waits the box stays, and says why.
    let mut user = TestUser::at(running());
    user.tap("enter");
    user.tap("n");
    assert!(matches!(user.session.state.modals[..], [Modal::Evidence { .. }]));
    assert!(user.toast().contains("no step waits for a person"), "{}", user.toast());
}

#[test]
fn a_question_is_drawn_anew_when_it_begins_to_listen() {
    let mut user = TestUser::at(held(Need::Key));
    user.tap("n");
    assert_eq!(user.session.deadline(), None, "not on the screen yet");
    user.paint();
    let hears = user.now + Duration::from_millis(DIALOG_DEAF_MS);
    assert_eq!(user.session.deadline(), Some(hears));
    assert!(!user.session.tick(hears - Duration::from_millis(1)));
    assert!(user.session.tick(hears), "the buttons change");
    user.now = hears;
    user.paint();
    assert_eq!(user.session.deadline(), None);
}

#[test]
fn a_run_that_publishes_nothing_turns_stale_and_is_known_again_with_the_next_snapshot() {
    let mut user = TestUser::at(Snapshot { status: RunStatus::Running, ..Snapshot::default() });
    let stale = |user: &TestUser| user.session.state.stale_ms(&user.snapshot);
    user.session.saw(&Arc::clone(&user.snapshot), user.now);
    assert_eq!(stale(user.wait(2_000)), None);
    assert_eq!(stale(user.wait(1_000)), Some(3_000));
    user.session.saw(&Arc::clone(&user.snapshot), user.now);
    assert_eq!(stale(&user), None);
}
