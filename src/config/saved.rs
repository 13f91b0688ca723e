//! Connections as a run resolved them, kept beside its plan: a rollback needs no config file, no environment variable
//! and no lint of a newer program.

use std::collections::BTreeMap;

use serde_json::Value;

use super::connections::{Aws, Connections, Credentials, Endpoints, Postgres, SourceConnection};
use crate::domain::plan::{CONTROL, NEW, OLD, Stores};

/// What can be read of the connections a run was opened with. The parts do not depend on each other: one that cannot be
/// read keeps nobody from using the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedConnections {
    /// AWS; `None` inside when the run named none. The error says why it cannot be read.
    pub aws: Result<Option<Aws>, String>,
    /// The target database, or why it cannot be read.
    pub postgres: Result<Postgres, String>,
    /// What the target is called.
    pub target: String,
    /// Stores that tables come from and that have connections of their own. A run whose tables come from the DynamoDB of
    /// `aws` alone has none.
    pub sources: BTreeMap<String, Result<SourceConnection, String>>,
}

impl From<&Connections> for SavedConnections {
    fn from(c: &Connections) -> Self {
        let sources = c.sources.iter().map(|(name, source)| (name.clone(), Ok(source.clone()))).collect();
        Self { aws: Ok(c.aws.clone()), postgres: Ok(c.postgres.clone()), target: c.target.clone(), sources }
    }
}

impl SavedConnections {
    /// The text that is kept. Secrets stand in it as references only.
    ///
    /// # Errors
    /// None that plain data can bring about.
    pub fn text(connections: &Connections) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(connections)
    }

    /// Nothing can be read, for this reason.
    #[must_use]
    pub fn unreadable(why: &str) -> Self {
        let (target, sources) = (NEW.to_owned(), BTreeMap::new());
        Self { aws: Err(why.to_owned()), postgres: Err(why.to_owned()), target, sources }
    }

    /// How a store is reached that tables come from.
    ///
    /// # Errors
    /// Why that cannot be read.
    pub fn source(&self, store: &str) -> Result<SourceConnection, String> {
        match (self.sources.get(store), &self.aws) {
            (Some(source), _) => source.clone(),
            (None, Err(why)) => Err(why.clone()),
            (None, Ok(Some(aws))) if store == OLD && self.sources.is_empty() => {
                Ok(SourceConnection::Dynamodb(aws.clone()))
            }
            (None, Ok(_)) => Err(format!("it says nothing of the store `{store}`")),
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// What cannot be read, and why.
    pub fn whole(&self) -> Result<Connections, (String, String)> {
        let of = |what: &str, why: &String| (what.to_owned(), why.clone());
        let aws = self.aws.clone().map_err(|why| of("AWS", &why))?;
        let postgres = self.postgres.clone().map_err(|why| of("the target", &why))?;
        let source = |(name, source): (&String, &Result<SourceConnection, String>)| match source {
            Ok(source) => Ok((name.clone(), source.clone())),
            Err(why) => Err(of(&format!("the store {name}"), why)),
        };
        let sources = self.sources.iter().map(source).collect::<Result<_, _>>()?;
        Ok(Connections { aws, postgres, target: self.target.clone(), sources })
    }

    /// What cannot be read, each with why.
    #[must_use]
    pub fn unread(&self) -> Vec<(String, String)> {
        let mut unread = Vec::new();
        unread.extend(self.aws.as_ref().err().map(|why| ("AWS".to_owned(), why.clone())));
        unread.extend(self.postgres.as_ref().err().map(|why| ("the target".to_owned(), why.clone())));
        let sources = self.sources.iter();
        unread.extend(sources.filter_map(|(name, s)| Some((format!("the store {name}"), s.as_ref().err()?.clone()))));
        unread
    }

    /// Reads what was kept, part by part.
    #[must_use]
    pub fn read(text: &[u8]) -> Self {
        let document: Value = match serde_json::from_slice(text) {
            Ok(document) => document,
            Err(e) => return Self::unreadable(&e.to_string()),
        };
        let part = |name: &str| document.get(name).ok_or_else(|| format!("no `{name}` in it"));
        let wrong = |name: &str, e: &serde_json::Error| format!("`{name}` in it: {e}");
        let source = |(name, v): (&String, &Value)| {
            (name.clone(), serde_json::from_value(v.clone()).map_err(|e| wrong(&format!("sources.{name}"), &e)))
        };
        // Where it is no table nothing in it can be read, and that is said.
        let no_table = document.get("sources").filter(|s| !s.is_object());
        let unreadable = no_table.map(|_| (OLD.to_owned(), Err("`sources` in it is no table".to_owned())));
        let sources = document.get("sources").and_then(Value::as_object);
        Self {
            aws: part("aws").and_then(|v| serde_json::from_value(v.clone()).map_err(|e| wrong("aws", &e))),
            postgres: part("postgres")
                .and_then(|v| serde_json::from_value(v.clone()).map_err(|e| wrong("postgres", &e))),
            target: document.get("target").and_then(Value::as_str).unwrap_or(NEW).to_owned(),
            sources: sources.into_iter().flatten().map(source).chain(unreadable).collect(),
        }
    }

    /// The same, with what cannot be read taken from `other` where that can.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let mut sources = self.sources;
        for (name, theirs) in &other.sources {
            let ours = sources.remove(name).unwrap_or_else(|| Err(format!("no `sources.{name}` in it")));
            sources.insert(name.clone(), ours.or_else(|why| theirs.clone().map_err(|_| why)));
        }
        let target = if self.postgres.is_ok() { self.target } else { other.target.clone() };
        Self {
            aws: self.aws.or_else(|why| other.aws.clone().map_err(|_| why)),
            postgres: self.postgres.or_else(|why| other.postgres.clone().map_err(|_| why)),
            target,
            sources,
        }
    }

    /// What a plan itself says of the connections: where AWS is reached, with the usual chain of credentials. It does
    /// not know how to sign in to the target.
    #[must_use]
    pub fn from_stores(stores: &Stores) -> Self {
        let nowhere = || "the plan does not say it".to_owned();
        let aws = stores.get(CONTROL).ok_or_else(nowhere).map(|control| {
            let at = |store: &str, service: &str| stores.get(store)?.endpoints.get(service).cloned();
            Some(Aws {
                region: control.region.clone().unwrap_or_default(),
                profile: control.profile.clone(),
                account: control.account.clone(),
                credentials: Credentials::Chain,
                endpoints: Endpoints {
                    dynamodb: at(OLD, "dynamodb"),
                    streams: at(OLD, "streams"),
                    ssm: at(CONTROL, "ssm"),
                    apigateway: at(CONTROL, "apigateway"),
                    cloudwatch: at(CONTROL, "cloudwatch"),
                    sts: None,
                },
            })
        });
        Self { aws, postgres: Err(nowhere()), target: NEW.to_owned(), sources: BTreeMap::new() }
    }
}
