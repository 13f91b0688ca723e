//! Where an application runs: in one region or in several, each with instances that obey the parameters of their region.
//!
//! An instance of an Auto Scaling group reads what it connects to when it starts, and goes on with that until it is replaced. Whether
//! customers may write is read again and again by all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_autoscaling::types::{InstanceRefresh, InstanceRefreshStatus};
use tokio::sync::watch;

use super::settings::Settings;
use crate::private::clients;
use crate::private::{RehearsalError, RehearsalResult};

/// Instances of a group.
const INSTANCES: usize = 4;

/// One region of an application.
#[derive(Clone, Debug)]
pub struct Region {
    /// Where its Parameter Store and its other services answer.
    pub endpoint: String,
    /// What it is called.
    pub name: String,
    /// The Auto Scaling group whose instances run there; absent: one process that reads its parameters again and again.
    pub group: Option<String>,
}

/// What the instances of a region go by. One at least.
pub(super) type Instances = Arc<Vec<Arc<Settings>>>;

/// The instances of every region. Cloning shares.
#[derive(Clone, Debug)]
pub(super) struct Fleet(pub Vec<watch::Receiver<Instances>>);

impl Fleet {
    /// What the instance goes by that a request comes to: of this region, or of any.
    pub(super) fn any(&self, region: Option<usize>) -> Arc<Settings> {
        let region = region.unwrap_or_else(|| fastrand::usize(..self.0.len())).min(self.0.len() - 1);
        let instances = self.0[region].borrow();
        Arc::clone(&instances[fastrand::usize(..instances.len())])
    }

    /// What the first instance of the first region goes by.
    pub(super) fn first(&self) -> Arc<Settings> {
        Arc::clone(&self.0[0].borrow()[0])
    }

    /// What each instance goes by.
    pub(super) fn all(&self) -> Vec<Arc<Settings>> {
        self.0.iter().flat_map(|region| region.borrow().iter().map(Arc::clone).collect::<Vec<_>>()).collect()
    }
}

/// The instances of a group, replaced as its refreshes go on.
#[derive(Debug)]
pub(super) struct Group {
    client: aws_sdk_autoscaling::Client,
    name: String,
    /// How many instances each refresh has replaced.
    replaced: BTreeMap<String, usize>,
    started: Vec<Settings>,
}

impl Group {
    /// The group, all of whose instances were started with these settings. Refreshes that are on record are of the past.
    pub(super) async fn new(region: &Region, name: &str, first: &Settings) -> RehearsalResult<Self> {
        let client = aws_sdk_autoscaling::Client::new(&clients::session_in(&region.endpoint, &region.name, 2));
        let started = vec![first.clone(); INSTANCES];
        let mut group = Self { client, name: name.to_owned(), replaced: BTreeMap::new(), started };
        for refresh in group.refreshes().await? {
            group.replaced.insert(refresh.instance_refresh_id().unwrap_or_default().to_owned(), INSTANCES);
        }
        Ok(group)
    }

    /// Refreshes of the group, the oldest first.
    pub(super) async fn refreshes(&self) -> RehearsalResult<Vec<InstanceRefresh>> {
        let asked = self.client.describe_instance_refreshes().auto_scaling_group_name(&self.name).send().await;
        let answer = asked.map_err(|e| RehearsalError::caused("ask after", format!("group {}", self.name), &e))?;
        let mut all = answer.instance_refreshes.unwrap_or_default();
        all.sort_by_key(|refresh| refresh.start_time().map(|at| at.as_nanos()));
        Ok(all)
    }

    /// Starts the instances anew that refreshes have replaced meanwhile, and gives what each goes by. `latest` was read
    /// after `refreshes`.
    pub(super) fn take(&mut self, refreshes: &[InstanceRefresh], latest: &Settings) -> Instances {
        for refresh in refreshes {
            let done = match refresh.status() {
                Some(InstanceRefreshStatus::Successful) => 100,
                _ => usize::try_from(refresh.percentage_complete().unwrap_or(0)).unwrap_or(0).min(100),
            };
            let to = INSTANCES * done / 100;
            let id = refresh.instance_refresh_id().unwrap_or_default().to_owned();
            let from = self.replaced.entry(id).or_default();
            for instance in self.started.iter_mut().take(to).skip(*from) {
                *instance = latest.clone();
            }
            *from = to.max(*from);
        }
        let now = self.started.iter().map(|started| Arc::new(Settings { frozen: latest.frozen, ..started.clone() }));
        Arc::new(now.collect())
    }
}
