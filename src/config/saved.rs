//! Connections as a run resolved them, kept beside its plan: a rollback needs no config file, no environment variable
//! and no lint of a newer program.

use std::collections::BTreeMap;

use serde_json::Value;

use super::connections::{Aws, Connections, Credentials, Endpoints, StoreConnection};
use crate::domain::plan::{CONTROL, NEW, OLD, Stores, other_control};

/// What can be read of the connections a run was opened with. The parts do not depend on each other: one that cannot be
/// read keeps nobody from using the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedConnections {
    /// AWS; `None` inside when the run named none. The error says why it cannot be read.
    pub aws: Result<Option<Aws>, String>,
    /// Stores that tables go to, by name, each with how it is reached or why that cannot be read.
    pub targets: BTreeMap<String, Result<StoreConnection, String>>,
    /// Which of them is home.
    pub home: String,
    /// Stores that tables come from and that have connections of their own. A run whose tables come from the DynamoDB of
    /// `aws` alone has none.
    pub sources: BTreeMap<String, Result<StoreConnection, String>>,
    /// Further regions and accounts where switches stand.
    pub controls: BTreeMap<String, Result<Aws, String>>,
}

impl From<&Connections> for SavedConnections {
    fn from(c: &Connections) -> Self {
        let read = |stores: &BTreeMap<String, StoreConnection>| {
            stores.iter().map(|(name, store)| (name.clone(), Ok(store.clone()))).collect()
        };
        Self {
            aws: Ok(c.aws.clone()),
            targets: read(&c.targets),
            home: c.home.clone(),
            sources: read(&c.sources),
            controls: c.controls.iter().map(|(name, aws)| (name.clone(), Ok(aws.clone()))).collect(),
        }
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
        let targets = BTreeMap::from([(NEW.to_owned(), Err(why.to_owned()))]);
        Self {
            aws: Err(why.to_owned()),
            targets,
            home: NEW.to_owned(),
            sources: BTreeMap::new(),
            controls: BTreeMap::new(),
        }
    }

    /// How a store is reached that tables go to.
    ///
    /// # Errors
    /// Why that cannot be read.
    pub fn target(&self, store: &str) -> Result<StoreConnection, String> {
        self.targets.get(store).cloned().unwrap_or_else(|| Err(format!("it says nothing of the store `{store}`")))
    }

    /// What a target is called in what is said: by its name where there are several.
    #[must_use]
    pub fn target_words(&self, store: &str) -> String {
        if self.targets.len() > 1 { format!("the store {store}") } else { "the target".to_owned() }
    }

    /// How a store is reached that tables come from.
    ///
    /// # Errors
    /// Why that cannot be read.
    pub fn source(&self, store: &str) -> Result<StoreConnection, String> {
        match (self.sources.get(store), &self.aws) {
            (Some(source), _) => source.clone(),
            (None, Err(why)) => Err(why.clone()),
            (None, Ok(Some(aws))) if store == OLD && self.sources.is_empty() => {
                Ok(StoreConnection::Dynamodb(aws.clone()))
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
        let read = |name: &String, store: &Result<StoreConnection, String>, called: String| match store {
            Ok(store) => Ok((name.clone(), store.clone())),
            Err(why) => Err(of(&called, why)),
        };
        let targets = self.targets.iter().map(|(name, store)| read(name, store, self.target_words(name)));
        let targets = targets.collect::<Result<_, _>>()?;
        let sources = self.sources.iter().map(|(name, store)| read(name, store, format!("the store {name}")));
        let sources = sources.collect::<Result<_, _>>()?;
        let mut controls = BTreeMap::new();
        for (name, control) in &self.controls {
            let control = control.clone().map_err(|why| of(&control_words(name), &why))?;
            controls.insert(name.clone(), control);
        }
        Ok(Connections { aws, targets, home: self.home.clone(), sources, controls })
    }

    /// What cannot be read, each with why.
    #[must_use]
    pub fn unread(&self) -> Vec<(String, String)> {
        let mut unread = Vec::new();
        unread.extend(self.aws.as_ref().err().map(|why| ("AWS".to_owned(), why.clone())));
        let targets = self.targets.iter();
        unread.extend(targets.filter_map(|(name, t)| Some((self.target_words(name), t.as_ref().err()?.clone()))));
        let sources = self.sources.iter();
        unread.extend(sources.filter_map(|(name, s)| Some((format!("the store {name}"), s.as_ref().err()?.clone()))));
        let controls = self.controls.iter();
        unread.extend(controls.filter_map(|(name, c)| Some((control_words(name), c.as_ref().err()?.clone()))));
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
        let home = document.get("target").and_then(Value::as_str).unwrap_or(NEW).to_owned();
        let mut targets = stores(&document, "targets", &home);
        if document.get("postgres").is_some_and(|postgres| !postgres.is_null()) || !targets.contains_key(&home) {
            let postgres = part("postgres")
                .and_then(|v| serde_json::from_value(v.clone()).map_err(|e| wrong("postgres", &e)))
                .map(StoreConnection::Postgresql);
            targets.insert(home.clone(), postgres);
        }
        Self {
            aws: part("aws").and_then(|v| serde_json::from_value(v.clone()).map_err(|e| wrong("aws", &e))),
            targets,
            home,
            sources: stores(&document, "sources", OLD),
            controls: controls(&document),
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
        // A text that cannot be read at all does not say what its targets are called.
        let named = self.targets.values().any(Result::is_ok) || self.targets.keys().eq(other.targets.keys());
        let (home, mut targets) = if named { (self.home, self.targets) } else { (other.home.clone(), BTreeMap::new()) };
        for (name, theirs) in &other.targets {
            match targets.remove(name) {
                Some(ours) => {
                    targets.insert(name.clone(), ours.or_else(|why| theirs.clone().map_err(|_| why)));
                }
                // A name that is only guessed adds no target.
                None if theirs.is_ok() || targets.is_empty() => {
                    targets.insert(name.clone(), theirs.clone());
                }
                None => {}
            }
        }
        let mut controls = self.controls;
        for (name, theirs) in &other.controls {
            let ours = controls.remove(name).unwrap_or_else(|| Err(format!("no `controls.{name}` in it")));
            controls.insert(name.clone(), ours.or_else(|why| theirs.clone().map_err(|_| why)));
        }
        Self { aws: self.aws.or_else(|why| other.aws.clone().map_err(|_| why)), targets, home, sources, controls }
    }

    /// What a plan itself says of the connections: where AWS is reached, with the usual chain of credentials. It does
    /// not know how to sign in to the target.
    #[must_use]
    pub fn from_stores(stores: &Stores) -> Self {
        let nowhere = || "the plan does not say it".to_owned();
        let at = |store: &str, service: &str| stores.get(store)?.endpoints.get(service).cloned();
        let named = |name: &str| {
            let control = stores.get(name)?;
            Some(Aws {
                region: control.region.clone().unwrap_or_default(),
                profile: control.profile.clone(),
                account: control.account.clone(),
                credentials: Credentials::Chain,
                endpoints: Endpoints {
                    dynamodb: at(OLD, "dynamodb"),
                    streams: at(OLD, "streams"),
                    ssm: at(name, "ssm"),
                    apigateway: at(name, "apigateway"),
                    cloudwatch: at(name, "cloudwatch"),
                    ..Endpoints::default()
                },
            })
        };
        let further = stores.keys().filter(|name| other_control(name).is_some());
        Self {
            aws: named(CONTROL).map(Some).ok_or_else(nowhere),
            targets: BTreeMap::from([(NEW.to_owned(), Err(nowhere()))]),
            home: NEW.to_owned(),
            sources: BTreeMap::new(),
            controls: further.filter_map(|name| Some((name.clone(), Ok(named(name)?)))).collect(),
        }
    }
}

/// What a further control plane is called in what is said.
fn control_words(name: &str) -> String {
    format!("AWS of [{name}]")
}

/// Further control planes by name.
fn controls(document: &Value) -> BTreeMap<String, Result<Aws, String>> {
    let found = document.get("controls").and_then(Value::as_object);
    let read = |(name, v): (&String, &Value)| {
        let aws = serde_json::from_value(v.clone()).map_err(|e| format!("`controls.{name}` in it: {e}"));
        (name.clone(), aws)
    };
    found.into_iter().flatten().map(read).collect()
}

/// Stores by name under one key of what was kept. Where it is no table nothing in it can be read, and that is said of the
/// store that is understood.
fn stores(document: &Value, key: &str, understood: &str) -> BTreeMap<String, Result<StoreConnection, String>> {
    let Some(found) = document.get(key) else { return BTreeMap::new() };
    let Some(found) = found.as_object() else {
        return BTreeMap::from([(understood.to_owned(), Err(format!("`{key}` in it is no table")))]);
    };
    let read = |(name, v): (&String, &Value)| {
        let store = serde_json::from_value(v.clone()).map_err(|e| format!("`{key}.{name}` in it: {e}"));
        (name.clone(), store)
    };
    found.iter().map(read).collect()
}
