//! Where an alert goes.

use crate::domain::plan::ValueRef;

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name in the record: `bell`, `webhook 1 (env SLACK_URL)`.
    pub name: String,
    /// What it is.
    pub kind: PlaceKind,
}

/// What a place is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceKind {
    /// Whoever sits at the screen.
    Screen(OnScreen),
    /// An HTTP endpoint.
    Webhook(Webhook),
    /// A program of this machine.
    Command(CommandPlace),
}

/// How the screen tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnScreen {
    /// By the terminal's bell.
    Bell,
    /// By a notification of the desktop that the terminal is shown on.
    Desktop(Desktop),
}

/// By which control sequence a terminal is asked for a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desktop {
    /// The one that the environment suggests.
    Auto,
    /// `OSC 9`: iTerm2, `WezTerm`, Ghostty, Windows Terminal and others.
    Osc9,
    /// `OSC 777`: rxvt-unicode, foot, VTE.
    Osc777,
    /// `OSC 99`: kitty.
    Osc99,
}

/// An HTTP endpoint that is told by a POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where its address is found: it is a secret, and never [`ValueRef::Literal`].
    pub url: ValueRef,
    /// How the message is written.
    pub form: WebhookForm,
    /// The longest wait for an answer, in milliseconds.
    pub timeout_ms: u64,
}

/// How a webhook's message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookForm {
    /// The message's fields.
    Json,
    /// One text, as Slack and what is compatible with it take it.
    Slack,
}

/// A program that is told on its standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandPlace {
    /// The program and its arguments; no shell reads them.
    pub run: Vec<String>,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
}

impl OnScreen {
    /// Every way.
    pub const ALL: [Self; 5] = [
        Self::Bell,
        Self::Desktop(Desktop::Auto),
        Self::Desktop(Desktop::Osc9),
        Self::Desktop(Desktop::Osc777),
        Self::Desktop(Desktop::Osc99),
    ];

    /// Its name in the record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bell => "bell",
            Self::Desktop(Desktop::Auto) => "desktop",
            Self::Desktop(Desktop::Osc9) => "desktop osc9",
            Self::Desktop(Desktop::Osc777) => "desktop osc777",
            Self::Desktop(Desktop::Osc99) => "desktop osc99",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }
}

impl Place {
    /// How long one try may take, in milliseconds.
    #[must_use]
    pub const fn timeout_ms(&self) -> u64 {
        match &self.kind {
            PlaceKind::Screen(_) => 0,
            PlaceKind::Webhook(webhook) => webhook.timeout_ms,
            PlaceKind::Command(command) => command.timeout_ms,
        }
    }

    /// Whether the screen tells it; everything else is told by the engine.
    #[must_use]
    pub const fn is_screen(&self) -> bool {
        matches!(self.kind, PlaceKind::Screen(_))
    }
}
