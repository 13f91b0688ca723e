//! What a place is told.

use serde::{Deserialize, Serialize};

use crate::domain::at::At;

/// One message. Holds no secret and no row value; its fields are the JSON that webhooks and commands get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same for every try and every place of one firing: a receiver tells by it what it has already.
    pub id: String,
    /// The alert.
    pub alert: String,
    /// What it fired for: `new-errors >= 1`.
    pub about: String,
    /// What is the matter, in a sentence.
    pub text: String,
    /// Whether something is wrong, rather than worth knowing.
    pub bad: bool,
    /// When it fired, on the run's clock.
    pub at: At,
    /// The same as RFC 3339.
    pub time: String,
    /// The run.
    pub run: String,
    /// The plan.
    pub plan: String,
    /// The environment.
    pub environment: String,
    /// Whether that is production.
    pub production: bool,
    /// Who drives, on which host.
    pub driver: String,
    /// The step the run is at.
    pub step: Option<String>,
    /// A rehearsal: nothing of it is real.
    pub rehearsal: bool,
    /// Sent to see whether it arrives.
    pub trial: bool,
    /// It may have been told before: the process that told it ended before it knew.
    pub again: bool,
}

/// What became of telling a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Told {
    /// It was told.
    Delivered {
        /// What came back.
        answer: String,
    },
    /// It was not, or nobody knows.
    Failed {
        /// What was tried, and what came back.
        error: String,
    },
}

impl Message {
    /// One line for people: `[PROD] cloudshelf: new-errors >= 1. It is 3.4%. step switch, run 20261122T…`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut marks = String::new();
        if self.trial {
            marks.push_str("[TRIAL] ");
        }
        if self.rehearsal {
            marks.push_str("[REHEARSAL] ");
        }
        match (self.production, self.environment.as_str()) {
            (true, "production" | "prod" | "") => marks.push_str("[PROD] "),
            (true, name) => marks.push_str(&format!("[PROD {name}] ")),
            (false, "") => {}
            (false, name) => marks.push_str(&format!("[{name}] ")),
        }
        let step = self.step.as_ref().map_or_else(String::new, |step| format!("step {step}, "));
        let run = if self.run.is_empty() { String::new() } else { format!(" ({step}run {})", self.run) };
        let again = if self.again { " It may have been told before." } else { "" };
        format!("{marks}{}: {}{again}{run}", self.plan, self.text)
    }
}

impl Told {
    /// `told: status 200`, `NOT TOLD: no answer in 5 s`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Delivered { answer } => format!("told: {answer}"),
            Self::Failed { error } => format!("NOT TOLD: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_at_once_what_is_not_real() {
        let message = Message {
            plan: "cloudshelf".into(),
            environment: "production".into(),
            production: true,
            text: "new-errors >= 1: it is 3%.".into(),
            run: "r1".into(),
            step: Some("switch".into()),
            ..Message::default()
        };
        assert_eq!(message.line(), "[PROD] cloudshelf: new-errors >= 1: it is 3%. (step switch, run r1)");
        let trial = Message { trial: true, rehearsal: true, ..message };
        assert!(trial.line().starts_with("[TRIAL] [REHEARSAL] [PROD] "), "{}", trial.line());
    }
}
