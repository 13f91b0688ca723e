//! Acknowledging alerts.

use super::Draft;
use crate::domain::alert::{About, Told};
use crate::domain::run::alerts::Firing;
use crate::domain::run::approval::{Origin, same_person};
use crate::domain::run::event::{Actor, Event};
use crate::domain::run::input::Refusal;

impl Draft<'_> {
    /// Somebody has seen what fired: of one alert, or of all, up to the newest that they were shown.
    pub(super) fn acknowledge(
        &mut self,
        alert: Option<&String>,
        through: Option<u64>,
        note: Option<&String>,
        origin: Option<&Origin>,
        by: &Actor,
    ) -> Result<(), Refusal> {
        if same_person(by.name(), "") || by.name().chars().any(char::is_control) {
            return Err(Refusal("an acknowledgement needs a name: --as NAME".to_owned()));
        }
        let shown = |firing: &&Firing| through.is_none_or(|through| firing.seq <= through);
        let unseen: Vec<&Firing> = self.state.alerts.iter().filter(|f| f.is_unseen()).filter(shown).collect();
        let meant: Vec<(String, About)> = unseen
            .iter()
            .filter(|firing| alert.is_none_or(|alert| firing.alert == *alert))
            .map(|firing| (firing.alert.clone(), firing.about.clone()))
            .collect();
        if meant.is_empty() {
            let mut ids: Vec<&str> = unseen.iter().map(|firing| firing.alert.as_str()).collect();
            ids.dedup();
            return Err(Refusal(match (alert, ids.is_empty()) {
                (Some(alert), false) => format!("no alert {alert} waits for anybody; {} do", ids.join(", ")),
                (Some(alert), true) => format!("no alert {alert} waits for anybody, and no other one does"),
                (None, _) => "no alert waits for anybody".to_owned(),
            }));
        }
        for (alert, about) in meant {
            let (by, origin, note) = (by.clone(), origin.cloned(), note.cloned());
            self.emit(Event::AlertAcknowledged { alert, about, by, origin, note });
        }
        Ok(())
    }

    /// The screen has told somebody.
    pub(super) fn told_on_screen(&mut self, alert: &str, about: &About, place: &str) -> Result<(), Refusal> {
        let waits = self
            .state
            .firing(alert, about)
            .is_some_and(|firing| firing.places.iter().any(|(name, told)| name == place && told.is_none()));
        if !waits {
            return Err(Refusal(format!("{alert} does not wait for the {place}")));
        }
        let result = Told::Delivered { answer: "handed to the terminal".to_owned() };
        let (alert, about, place) = (alert.to_owned(), about.clone(), place.to_owned());
        self.emit(Event::AlertTold { alert, about, place, result });
        Ok(())
    }
}
