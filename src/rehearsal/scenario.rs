//! The days that can be rehearsed. Everything that differs between them is asked of [`Scenario`].

use std::borrow::Cow;

use super::fault::Fault;
use super::gradual::gradual;
use super::oracle::Side;

/// The shop's plan.
const SHOP: &str = include_str!("../../assets/rehearsal.toml");

/// One of the days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scenario {
    /// A shop moves from DynamoDB to PostgreSQL.
    #[default]
    Cloudshelf,
    /// A payments application moves from one PostgreSQL server to another, and from DynamoDB tables to others.
    V1ToV2,
    /// The shop, whose reads go over to the new side share by share before its writes do.
    AuroraGradual,
}

impl Scenario {
    /// Every scenario, in the order of the help text.
    pub const ALL: [Self; 3] = [Self::Cloudshelf, Self::V1ToV2, Self::AuroraGradual];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cloudshelf => "cloudshelf",
            Self::V1ToV2 => "v1-to-v2",
            Self::AuroraGradual => "aurora-gradual",
        }
    }

    /// What is started for it, in words.
    #[must_use]
    pub const fn starts(self) -> &'static str {
        match self {
            Self::Cloudshelf | Self::AuroraGradual => {
                "a private PostgreSQL, an embedded DynamoDB, a control plane and a shop"
            }
            Self::V1ToV2 => {
                "two private PostgreSQL servers, an embedded DynamoDB, a control plane and a payments application"
            }
        }
    }

    /// The plan of the day, with variables for what is started.
    #[must_use]
    pub fn plan(self) -> Cow<'static, str> {
        match self {
            Self::Cloudshelf => SHOP.into(),
            Self::V1ToV2 => include_str!("../../assets/rehearsal-v1-to-v2.toml").into(),
            Self::AuroraGradual => gradual(SHOP).into(),
        }
    }

    /// The name of the plan's file, for what is said about it.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Cloudshelf | Self::AuroraGradual => "rehearsal.toml",
            Self::V1ToV2 => "rehearsal-v1-to-v2.toml",
        }
    }

    /// The faults that have something to hit here.
    #[must_use]
    pub const fn faults(self) -> &'static [Fault] {
        match self {
            Self::AuroraGradual => &Fault::ALL,
            // No share of the reads is there to be taken back.
            Self::Cloudshelf => &[
                Fault::SlowNew,
                Fault::ErrorsNew,
                Fault::SsmRefuse,
                Fault::SsmSlow,
                Fault::SsmLostReply,
                Fault::GatewayRefuse,
            ],
            // No stage variable is switched.
            Self::V1ToV2 => &[Fault::SlowNew, Fault::ErrorsNew, Fault::SsmRefuse, Fault::SsmSlow, Fault::SsmLostReply],
        }
    }

    /// The namespace of the application's metrics.
    #[must_use]
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::Cloudshelf | Self::AuroraGradual => "CloudShelf",
            Self::V1ToV2 => "Payments",
        }
    }

    /// What a side's stores are called in a verdict.
    #[must_use]
    pub const fn stores(self, side: Side) -> &'static str {
        match (self, side) {
            (Self::Cloudshelf | Self::AuroraGradual, Side::Old) => "DynamoDB",
            (Self::Cloudshelf | Self::AuroraGradual, Side::New) => "PostgreSQL",
            (Self::V1ToV2, Side::Old) => "PostgreSQL v1 and DynamoDB v1",
            (Self::V1ToV2, Side::New) => "PostgreSQL v2 and DynamoDB v2",
        }
    }

    /// The scenario of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == name)
    }
}
