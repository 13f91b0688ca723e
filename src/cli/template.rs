//! Plans to begin with: one whole config for each migration that this program knows, as `cutover init --template` writes it.

use clap::builder::{PossibleValue, PossibleValuesParser};

/// A config that ships with the program.
#[derive(Debug)]
pub(super) struct Template {
    /// The name on the command line. A scenario of the same name shows the same day on private stores.
    pub name: &'static str,
    /// What moves, in a few words.
    pub about: &'static str,
    /// The config.
    pub text: &'static str,
}

/// Every template, in the order of the help text.
static ALL: &[Template] = &[
    Template {
        name: "cloudshelf",
        about: "a shop from DynamoDB to PostgreSQL, blue to green",
        text: include_str!("../../assets/templates/cloudshelf.toml"),
    },
    Template {
        name: "aurora-gradual",
        about: "the shop with reads that go over share by share before its writes do",
        text: include_str!("../../assets/templates/aurora-gradual.toml"),
    },
    Template {
        name: "v1-to-v2",
        about: "PostgreSQL clusters and DynamoDB tables to their new versions, in two regions",
        text: include_str!("../../assets/templates/v1-to-v2.toml"),
    },
];

impl Template {
    /// How the same day is rehearsed, as the end of a sentence; nothing where no scenario has this name.
    #[cfg(feature = "rehearsal")]
    pub fn rehearsal(&self) -> String {
        let scenario = crate::rehearsal::Scenario::named(self.name);
        scenario.map_or_else(String::new, |s| format!("; `cutover rehearse {}` shows such a day", s.name()))
    }

    /// Nothing: this build has no rehearsal.
    #[cfg(not(feature = "rehearsal"))]
    pub fn rehearsal(&self) -> String {
        String::new()
    }
}

/// The template of this name.
pub(super) fn named(name: &str) -> Option<&'static Template> {
    ALL.iter().find(|template| template.name == name)
}

/// Their names, for the parser: it refuses another one and lists these.
pub(super) fn names() -> PossibleValuesParser {
    ALL.iter().map(|template| PossibleValue::new(template.name).help(template.about)).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests;
