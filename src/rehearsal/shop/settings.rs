//! The parameters that an application obeys, read again and again as a real application would.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_ssm::types::Parameter;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fleet::{Group, Instances, Region};
use crate::domain::secret::Secret;
use crate::private::clients;
use crate::private::{RehearsalError, RehearsalResult};
use crate::rehearsal::oracle::Side;
use crate::rehearsal::payments::PaymentPlaces;
use crate::rehearsal::records::Kind;
use crate::rehearsal::world::NEW_SECRET;

/// Longest pause between two questions how far the refreshes of a group are.
const GROUP: Duration = Duration::from_millis(100);

/// The stage variable that says which code runs.
pub const ALIAS_VARIABLE: &str = "lambdaAlias";

/// Names of the shop's parameters and of its stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Where data is read: `dynamodb` or `postgresql`.
    pub reads: String,
    /// Percent of the reads that the new side serves while the old code runs; none where there is no such parameter.
    pub share: String,
    /// Where data is written: `dynamodb` or `postgresql`.
    pub writes: String,
    /// `open` or `frozen`.
    pub mode: String,
    /// SecureString with the new side's connection.
    pub secret: String,
    /// The REST API's id.
    pub api: String,
    /// Its stage.
    pub stage: String,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            reads: "/cloudshelf/prod/db/reads".into(),
            share: "/cloudshelf/prod/db/read-share".into(),
            writes: "/cloudshelf/prod/db/writes".into(),
            mode: "/cloudshelf/prod/writes-mode".into(),
            secret: "/cloudshelf/prod/db/secret".into(),
            api: "cloudshelf".into(),
            stage: "prod".into(),
        }
    }
}

/// What an application reads to know what to do.
#[derive(Clone, Debug)]
pub enum Places {
    /// The shop's parameters and its stage.
    Shop(Names),
    /// The parameters of the payments application, whose values name one of its databases and its tables.
    Payments(PaymentPlaces),
}

/// The parameters, as read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The new code runs.
    pub green: bool,
    /// What the new code reads from.
    pub reads: Side,
    /// Percent of the reads that the new side serves, whatever else is said; absent where nothing says it.
    pub share: Option<u8>,
    /// What the new code writes to.
    pub writes: Side,
    /// Writes are refused.
    pub frozen: bool,
    /// How the database is reached that the parameters name.
    pub secret: Secret,
    /// The side of kinds that a parameter of their own places, whatever the others say.
    pub placed: BTreeMap<Kind, Side>,
}

impl Settings {
    /// The side whose code serves a request: what latency and errors are published under.
    #[must_use]
    pub const fn path(&self) -> Side {
        if self.green { Side::New } else { Side::Old }
    }

    /// The same for records of a kind.
    #[must_use]
    pub fn path_of(&self, kind: Kind) -> Side {
        self.placed.get(&kind).copied().unwrap_or_else(|| self.path())
    }

    /// The store that a read asks. The old code knows only the old one.
    #[must_use]
    pub const fn reads_from(&self) -> Side {
        if self.green { self.reads } else { Side::Old }
    }

    /// The store that a read of this kind asks. With a share of the reads each is drawn.
    #[must_use]
    pub fn reads_from_of(&self, kind: Kind) -> Side {
        match self.share {
            Some(share) if fastrand::u8(..100) < share => Side::New,
            Some(_) => Side::Old,
            None => self.placed.get(&kind).copied().unwrap_or_else(|| self.reads_from()),
        }
    }

    /// The store that a write changes.
    #[must_use]
    pub const fn writes_to(&self) -> Side {
        if self.green { self.writes } else { Side::Old }
    }

    /// The store that a write of this kind changes.
    #[must_use]
    pub fn writes_to_of(&self, kind: Kind) -> Side {
        self.placed.get(&kind).copied().unwrap_or_else(|| self.writes_to())
    }
}

/// The settings as they stand in the parameters of this region.
pub async fn read_settings(region: &Region, places: Places) -> RehearsalResult<Settings> {
    Poller::new(region, places).read().await
}

/// What parameters hold, by name.
#[derive(Debug)]
pub(in crate::rehearsal) struct Values(Vec<Parameter>);

impl Values {
    /// One of them.
    pub(in crate::rehearsal) fn of(&self, name: &str) -> RehearsalResult<&str> {
        let found = self.0.iter().find(|p| p.name() == Some(name)).and_then(|p| p.value());
        found.ok_or_else(|| RehearsalError::new("read parameter", name, "there is none"))
    }

    /// Whether the parameter of this name says that writes are frozen.
    pub(in crate::rehearsal) fn frozen(&self, name: &str) -> RehearsalResult<bool> {
        match self.of(name)? {
            "open" => Ok(false),
            "frozen" => Ok(true),
            _ => Err(RehearsalError::new("read parameter", name, "it is neither open nor frozen")),
        }
    }
}

/// Reads the parameters.
#[derive(Debug)]
pub(super) struct Poller {
    ssm: aws_sdk_ssm::Client,
    gateway: aws_sdk_apigateway::Client,
    region: Region,
    places: Places,
}

impl Poller {
    pub(super) fn new(region: &Region, places: Places) -> Self {
        let session = clients::session_in(&region.endpoint, &region.name, 2);
        let (ssm, gateway) = (aws_sdk_ssm::Client::new(&session), aws_sdk_apigateway::Client::new(&session));
        Self { ssm, gateway, region: region.clone(), places }
    }

    /// The settings as they stand.
    pub(super) async fn read(&self) -> RehearsalResult<Settings> {
        match &self.places {
            Places::Shop(names) => self.shop(names).await,
            Places::Payments(places) => {
                places.settings(&self.values(PaymentPlaces::parameters().map(str::to_owned).to_vec()).await?)
            }
        }
    }

    /// All of these in one answer: what was set together is seen together or not yet.
    async fn values(&self, names: Vec<String>) -> RehearsalResult<Values> {
        let got = self.ssm.get_parameters().set_names(Some(names)).with_decryption(true).send().await;
        let got = got.map_err(|e| RehearsalError::caused("read", "the application's parameters", &e))?;
        Ok(Values(got.parameters.unwrap_or_default()))
    }

    /// The shop's. Parameters first, then the stage: a reader that does it in reverse can take an old stage with a new
    /// freeze, and write to the old side after the thaw.
    async fn shop(&self, n: &Names) -> RehearsalResult<Settings> {
        let names = [&n.reads, &n.share, &n.writes, &n.mode, &n.secret, NEW_SECRET];
        let values = self.values(names.map(str::to_owned).to_vec()).await?;
        let side = |name: &str| match values.of(name)? {
            "dynamodb" => Ok(Side::Old),
            "postgresql" | "postgres" => Ok(Side::New),
            _ => Err(RehearsalError::new("read parameter", name, "it is neither dynamodb nor postgresql")),
        };
        let frozen = values.frozen(&n.mode)?;
        let (reads, writes) = (side(&n.reads)?, side(&n.writes)?);
        let share =
            match values.of(&n.share) {
                Ok(share) => {
                    Some(share.parse().ok().filter(|n| *n <= 100).ok_or_else(|| {
                        RehearsalError::new("read parameter", &n.share, "it is no number from 0 to 100")
                    })?)
                }
                Err(_) => None,
            };
        // Code that reads a share from the new side knows both stores.
        let secret = Secret::new(values.of(if share.is_some() { NEW_SECRET } else { &n.secret })?);
        let stage = self.gateway.get_stage().rest_api_id(&n.api).stage_name(&n.stage).send().await;
        let stage = stage.map_err(|e| RehearsalError::caused("read stage", format!("{}/{}", n.api, n.stage), &e))?;
        let green = match stage.variables().and_then(|v| v.get(ALIAS_VARIABLE)).map(String::as_str) {
            Some("blue") => false,
            Some("green") => true,
            _ => {
                return Err(RehearsalError::new("read stage variable", ALIAS_VARIABLE, "it is neither blue nor green"));
            }
        };
        Ok(Settings { green, reads, share, writes, frozen, secret, placed: BTreeMap::new() })
    }

    /// The first reading: without it there is no shop. Tried for some seconds.
    pub(super) async fn first(&self) -> RehearsalResult<Settings> {
        let mut last = None;
        for _ in 0..10 {
            match self.read().await {
                Ok(settings) => return Ok(settings),
                Err(e) => last = Some(e),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(last.unwrap_or_else(|| RehearsalError::new("read", "the shop's parameters", "no answer")))
    }

    /// Reads on until stopped, from settings that were read before. A reading that fails or cannot be understood changes nothing
    /// and is counted.
    pub(super) async fn run(
        self,
        first: Settings,
        every: Duration,
        failed: Arc<AtomicU64>,
        stop: CancellationToken,
    ) -> RehearsalResult<watch::Receiver<Instances>> {
        let mut group = match &self.region.group {
            Some(name) => Some(Group::new(&self.region, name, &first).await?),
            None => None,
        };
        let every = if group.is_some() { every.min(GROUP) } else { every };
        let now = match &mut group {
            Some(group) => group.take(&[], &first),
            None => Arc::new(vec![Arc::new(first)]),
        };
        let (sender, receiver) = watch::channel(now);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(every) => {}
                }
                match self.instances(group.as_mut()).await {
                    Ok(instances) => {
                        sender.send_if_modified(|now| {
                            let differs = *now != instances;
                            if differs {
                                *now = instances;
                            }
                            differs
                        });
                    }
                    Err(e) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!("application: {e}");
                    }
                }
            }
        });
        Ok(receiver)
    }

    /// What each instance goes by now. An instance reads its parameters once it has started, so they are read last.
    async fn instances(&self, group: Option<&mut Group>) -> RehearsalResult<Instances> {
        let Some(group) = group else { return Ok(Arc::new(vec![Arc::new(self.read().await?)])) };
        let refreshes = group.refreshes().await?;
        let latest = self.read().await?;
        Ok(group.take(&refreshes, &latest))
    }
}
