//! What a session says by itself: that the run waits, ended or refused, as messages and a bell.

use std::time::{Duration, Instant};

use super::Session;
use crate::domain::alert::{About, OnScreen};
use crate::domain::run::{Command, Level, Need, Refusal, RunStatus, StepStatus};
use crate::snapshot::{Mode, Snapshot};
use crate::ui::desktop::DesktopNote;
use crate::ui::session::Do;
use crate::ui::{answers, dialog};
use crate::view::action::{Action, key_label};
use crate::view::state::Toast;

/// How long an information stays.
pub(super) const INFO_FOR: Duration = Duration::from_secs(4);
/// How long a warning stays.
const WARN_FOR: Duration = Duration::from_secs(8);
/// Least time between two bells the run asks for. Bells that answer a key are not limited.
const BELL_GAP: Duration = Duration::from_secs(10);
/// Messages kept; the oldest that would leave by itself goes first.
const TOASTS: usize = 5;

impl Session {
    /// The run changed: boxes that ask for nothing any more go, and what needs a person is said.
    pub fn saw(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<Do> {
        self.tick(now);
        self.state.published_ms = Some(self.ms(now));
        let boxes = self.state.modals.len();
        self.state.modals.retain(|m| dialog::still_asked(m, snapshot));
        if self.state.modals.len() != boxes {
            self.boxes += 1;
            self.say(Level::Info, "the step does not wait any more: the box was closed", now);
        }
        let current = snapshot.current.and_then(|i| snapshot.steps.get(i));
        let waits = current.and_then(|s| Some((s.id.clone(), s.need.clone()?)));
        let seen = self.seen.replace((snapshot.status, waits.clone()));
        let (old_status, old_waits) = seen.map_or((None, None), |(s, w)| (Some(s), w));
        if matches!(snapshot.status, RunStatus::RollingBack | RunStatus::RolledBack | RunStatus::Finished)
            || (snapshot.status == RunStatus::Stuck && old_status == Some(RunStatus::RollingBack))
        {
            self.state.ordered = false;
        }
        let changed = old_status.is_some_and(|s| s != snapshot.status);
        if changed && matches!(snapshot.status, RunStatus::RollingBack | RunStatus::Stuck) {
            // This must not be missed because an older snapshot is shown.
            self.go_live();
        }
        if matches!(snapshot.mode, Mode::Replay { .. }) {
            return Vec::new();
        }
        let next = key_label(Action::Next, &self.state);
        let quit = key_label(Action::Quit, &self.state);
        let mut rings = false;
        if waits != old_waits
            && let Some(asked) = self.asked.take()
        {
            self.state.toasts.retain(|t| t.text != asked);
        }
        if let Some((_, need)) = waits.filter(|w| old_waits.as_ref() != Some(w)) {
            rings = true;
            let title = current.map_or("", |s| s.title.as_str());
            let (level, text) = match need {
                Need::Decision => {
                    let failed = current.is_some_and(|s| s.status == StepStatus::Failed);
                    let how = if failed { "failed" } else { "is unknown" };
                    (Level::Error, format!("{title} {how}: {next} to decide"))
                }
                Need::Second => (Level::Warn, format!("{title} waits for a second person")),
                Need::Key | Need::Word(_) => (Level::Warn, format!("{title} waits for you: {next}")),
            };
            self.say(level, &text, now);
            self.asked = Some(text);
        }
        if changed {
            let said = match snapshot.status {
                RunStatus::Finished => Some((Level::Info, format!("the run is finished; {quit} leaves"))),
                RunStatus::RolledBack => Some((Level::Warn, format!("rolled back; {quit} leaves"))),
                RunStatus::Stuck => Some((Level::Error, "rollback is stuck: do what the screen lists".to_owned())),
                _ => None,
            };
            if let Some((level, text)) = said {
                rings = true;
                self.say(level, &text, now);
            }
        }
        let mut out = self.alerts(snapshot, now, &mut rings);
        if rings && self.last_bell.is_none_or(|at| now.saturating_duration_since(at) >= BELL_GAP) {
            self.last_bell = Some(now);
            out.push(Do::Bell);
        }
        out
    }

    /// Tells of alerts what is for the screen to tell, once, and has the engine record it.
    fn alerts(&mut self, snapshot: &Snapshot, now: Instant, rings: &mut bool) -> Vec<Do> {
        let mut out = Vec::new();
        let list = key_label(Action::Alerts, &self.state);
        for row in &snapshot.alerts {
            let firing = &row.firing;
            for way in row.on_screen() {
                if !self.told.insert((firing.seq, way.name())) {
                    continue;
                }
                match way {
                    OnScreen::Bell => *rings = true,
                    OnScreen::Desktop(how) => {
                        let title = format!("cutover {} {}", snapshot.plan, firing.alert);
                        out.push(Do::Desktop(how, DesktopNote { title, body: firing.text.clone() }));
                    }
                }
                let (alert, about) = (firing.alert.clone(), firing.about.clone());
                out.push(Do::Command(Command::ToldOnScreen { alert, about, place: way.name().to_owned() }));
            }
            let is_new = firing.is_unseen() && firing.is_open() && self.told.insert((firing.seq, "message"));
            // What the run itself says already is not said twice.
            let said = matches!(
                firing.about,
                About::Waiting { .. } | About::Failed { .. } | About::Stuck | About::RolledBack | About::Finished
            );
            if is_new && !said {
                self.say(Level::Warn, &format!("alert {}: {} {list} lists", firing.alert, firing.text), now);
            }
        }
        out
    }

    /// The engine answered a command.
    pub fn answered(&mut self, command: &Command, answer: Result<(), Refusal>, now: Instant) {
        self.tick(now);
        match answer {
            // Nobody asked for it.
            _ if matches!(command, Command::ToldOnScreen { .. }) => {}
            Ok(()) => {
                let text = answers::taken(command);
                self.say(Level::Info, &text, now);
            }
            Err(refusal) => self.say(Level::Warn, &format!("not taken: {refusal}"), now),
        }
    }

    /// Shows a message.
    pub fn say(&mut self, level: Level, text: &str, now: Instant) {
        self.toast(level, text.to_owned(), if level == Level::Info { INFO_FOR } else { WARN_FOR }, now);
    }

    pub(super) fn toast(&mut self, level: Level, text: String, lasts: Duration, now: Instant) {
        let until_ms = (level != Level::Error).then(|| self.ms(now + lasts));
        let toasts = &mut self.state.toasts;
        // The same words again stand once, anew.
        toasts.retain(|t| t.text != text);
        toasts.push(Toast { level, text, until_ms });
        while toasts.len() > TOASTS {
            let oldest = toasts.iter().position(|t| t.until_ms.is_some()).unwrap_or(0);
            toasts.remove(oldest);
        }
    }
}
