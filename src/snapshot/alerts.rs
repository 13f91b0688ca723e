//! Alerts that fired, for screens and reports.

use serde::{Deserialize, Serialize};

use crate::domain::alert::{About, OnScreen, Told};
use crate::domain::at::{At, brief};
use crate::domain::run::{Acknowledged, Actor, Firing, Origin, RunState};

/// One firing of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertRow {
    /// The firing.
    #[serde(flatten)]
    pub firing: Firing,
    /// How long what it fired for was so, or has been so far, in milliseconds.
    pub lasted_ms: i64,
}

impl AlertRow {
    /// Whether somebody still has to say that it was seen.
    #[must_use]
    pub const fn is_unseen(&self) -> bool {
        self.firing.is_unseen()
    }

    /// How the screen still has to tell it.
    pub fn on_screen(&self) -> impl Iterator<Item = OnScreen> {
        let waits = self.firing.is_unseen() && self.firing.is_open();
        let places = self.firing.places.iter().filter(move |(_, told)| waits && told.is_none());
        places.filter_map(|(name, _)| OnScreen::named(name))
    }

    /// `12:03:04 errors: new-errors >= 1: it is 3%.`
    #[must_use]
    pub fn headline(&self, now: At) -> String {
        let firing = &self.firing;
        format!("{} {}: {}", firing.fired.clock_on(now), firing.alert, firing.text.trim_end())
    }

    /// What became of it, a line each: how long it lasted, who was told, who has seen it.
    #[must_use]
    pub fn details(&self, now: At) -> Vec<String> {
        let firing = &self.firing;
        let mut lines = vec![match firing.cleared {
            Some(_) => format!("over after {}", brief(self.lasted_ms)),
            // What comes to be so once is never over.
            None if matches!(firing.about, About::Finished | About::RolledBack) => "it stays so".to_owned(),
            None => format!("for {} so far", brief(self.lasted_ms)),
        }];
        for (place, told) in &firing.places {
            lines.push(match told {
                Some((_, told @ Told::Delivered { .. })) => format!("{place}: {}", told.words()),
                Some((at, told @ Told::Failed { .. })) => format!("{place}: {} ({})", told.words(), at.clock_on(now)),
                None if OnScreen::named(place).is_some() => format!("{place}: not told, no screen was open"),
                None => format!("{place}: not known to be told yet"),
            });
        }
        lines.push(match &firing.acknowledged {
            Some(seen) => format!("acknowledged {} by {}", seen.at.clock_on(now), seen.words()),
            None => "not acknowledged".to_owned(),
        });
        lines
    }
}

pub(super) fn rows(state: &RunState, now: At) -> Vec<AlertRow> {
    let row = |firing: &Firing| {
        let until = firing.cleared.or(state.ended).unwrap_or(now);
        AlertRow { lasted_ms: until.since(firing.fired).max(0), firing: firing.clone() }
    };
    state.alerts.iter().map(row).collect()
}

/// `errors acknowledged by bob at another terminal, from bob@bastion pts/3 (new-errors >= 1)`.
#[must_use]
pub fn acknowledged_words(
    alert: &str,
    about: &About,
    by: &Actor,
    origin: Option<&Origin>,
    note: Option<&str>,
) -> String {
    let note = note.map(str::to_owned);
    let seen = Acknowledged { at: At::default(), by: by.clone(), origin: origin.cloned(), note };
    format!("{alert} ({}) acknowledged by {}", about.words(), seen.words())
}
