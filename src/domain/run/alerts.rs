//! What is known of alerts: which fired, where they were told, who acknowledged them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::approval::Origin;
use super::event::{Actor, Event};
use super::state::RunState;
use crate::domain::alert::{About, Told};
use crate::domain::at::At;

/// Firings that are kept in the state; the journal has them all.
const KEPT: usize = 200;

/// One firing of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    /// The alert.
    pub alert: String,
    /// What it fired for.
    pub about: About,
    /// What was the matter, in a sentence.
    pub text: String,
    /// When.
    pub fired: At,
    /// Position of the fact.
    pub seq: u64,
    /// When what it fired for was over.
    pub cleared: Option<At>,
    /// Where it goes, in the config's order, each with when it was told and what came back; nothing while it is under way.
    pub places: Vec<(String, Option<(At, Told)>)>,
    /// Who has seen it.
    pub acknowledged: Option<Acknowledged>,
}

/// Who acknowledged a firing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// When.
    pub at: At,
    /// Who, by their own word.
    pub by: Actor,
    /// From where, by the kernel's word; absent at the console itself.
    pub origin: Option<Origin>,
    /// Their words.
    pub note: Option<String>,
}

impl Firing {
    /// Whether what it fired for still is so, as far as is known.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.cleared.is_none()
    }

    /// Whether nobody has said that it was seen.
    #[must_use]
    pub const fn is_unseen(&self) -> bool {
        self.acknowledged.is_none()
    }

    fn is(&self, alert: &str, about: &About) -> bool {
        self.alert == alert && self.about == *about
    }
}

impl Acknowledged {
    /// `bob at another terminal, from bob@bastion pts/3: looked`.
    #[must_use]
    pub fn words(&self) -> String {
        let origin = self.origin.as_ref().map(|origin| format!(", from {}", origin.words())).unwrap_or_default();
        let note = self.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        format!("{}{origin}{note}", self.by.words())
    }
}

impl RunState {
    /// The newest firing of an alert for this.
    #[must_use]
    pub fn firing(&self, alert: &str, about: &About) -> Option<&Firing> {
        self.alerts.iter().rev().find(|firing| firing.is(alert, about))
    }
}

/// Takes up what a fact says of alerts.
pub(super) fn fold(state: &mut RunState, event: &Event, at: At, seq: u64) {
    match event {
        Event::AlertFired { alert, about, text, places } => {
            // Two processes may have seen the same; the first stands.
            if state.firing(alert, about).is_some_and(Firing::is_open) {
                return;
            }
            state.alerts.push(Firing {
                alert: alert.clone(),
                about: about.clone(),
                text: text.clone(),
                fired: at,
                seq,
                cleared: None,
                places: places.iter().map(|place| (place.clone(), None)).collect(),
                acknowledged: None,
            });
            forget(&mut state.alerts);
        }
        Event::AlertTold { alert, about, place, result } => {
            let Some(firing) = newest(state, alert, about) else { return };
            if let Some((_, told)) = firing.places.iter_mut().find(|(name, _)| name == place) {
                *told = Some((at, result.clone()));
            }
        }
        Event::AlertCleared { alert, about } => {
            if let Some(firing) = newest(state, alert, about) {
                firing.cleared = firing.cleared.or(Some(at));
            }
        }
        Event::AlertAcknowledged { alert, about, by, origin, note } => {
            if let Some(firing) = newest(state, alert, about) {
                let seen = Acknowledged { at, by: by.clone(), origin: origin.clone(), note: note.clone() };
                firing.acknowledged = firing.acknowledged.take().or(Some(seen));
            }
        }
        _ => {}
    }
}

fn newest<'s>(state: &'s mut RunState, alert: &str, about: &About) -> Option<&'s mut Firing> {
    state.alerts.iter_mut().rev().find(|firing| firing.is(alert, about))
}

/// Leaves out the oldest that are over, but for the newest of each: how soon it may fire again is read from it.
fn forget(alerts: &mut Vec<Firing>) {
    if alerts.len() <= KEPT {
        return;
    }
    let mut last: BTreeMap<(&str, &About), u64> = BTreeMap::new();
    for firing in alerts.iter() {
        last.insert((&firing.alert, &firing.about), firing.seq);
    }
    let newest: Vec<u64> = last.into_values().collect();
    let over = |firing: &Firing| !firing.is_open() && !newest.contains(&firing.seq);
    if let Some(oldest) = alerts.iter().position(over) {
        alerts.remove(oldest);
    }
}
