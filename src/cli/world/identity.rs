//! Whose calls these are, for the stores of a plan that AWS holds.

use async_trait::async_trait;

use super::{aws_session, watched};
use crate::adapters::aws::{AwsIdentity, Service, address};
use crate::config::{Aws, Connections, Credentials, StoreConnection};
use crate::domain::plan::{CONTROL, Plan, Purpose, SwitchKind};
use crate::domain::run::Callers;
use crate::ports::{Address, Identity};

/// One identity for each way of signing.
pub(super) struct Identities(Vec<AwsIdentity>);

/// The ways of signing that a config has: the control plane's first, then those of stores and of further control planes
/// that have another one.
pub(super) fn accounts(connections: &Connections) -> Vec<Aws> {
    let mut all: Vec<Aws> = connections.aws.iter().cloned().collect();
    for store in connections.sources().into_values().chain(connections.targets.values().cloned()) {
        match store {
            StoreConnection::Dynamodb(aws) if !all.contains(&aws) => all.push(aws),
            StoreConnection::Dynamodb(_) | StoreConnection::Postgresql(_) => {}
        }
    }
    let further = connections.controls.values().filter(|aws| !all.contains(aws)).cloned().collect::<Vec<_>>();
    for aws in further {
        if !all.contains(&aws) {
            all.push(aws);
        }
    }
    all
}

/// Identities of every store of the plan. `session` is the control plane's.
pub(super) async fn of_all(plan: &Plan, connections: &Connections, session: &aws_config::SdkConfig) -> Identities {
    let mut all = Vec::new();
    for (n, aws) in accounts(connections).into_iter().enumerate() {
        let control = n == 0 && connections.aws.is_some();
        let own = if control { session.clone() } else { aws_session(&aws).await };
        all.push(identity(plan, connections, &aws, &own, control));
    }
    Identities(all)
}

fn identity(
    plan: &Plan,
    connections: &Connections,
    aws: &Aws,
    session: &aws_config::SdkConfig,
    control: bool,
) -> AwsIdentity {
    let ends = &aws.endpoints;
    let of = |service: Service, used: bool| {
        let given = match service {
            Service::Dynamodb => &ends.dynamodb,
            Service::Streams => &ends.streams,
            Service::Ssm => &ends.ssm,
            Service::Apigateway => &ends.apigateway,
            Service::Cloudwatch => &ends.cloudwatch,
            Service::Sts => &ends.sts,
            Service::Autoscaling => &ends.autoscaling,
            Service::Rds => &ends.rds,
            Service::Secretsmanager => &ends.secretsmanager,
        };
        used.then(|| (service.name().to_owned(), address(session, service, given.as_deref())))
    };
    let mut stores = Vec::new();
    let read = connections.sources();
    let written = connections.targets.iter().filter(|(name, _)| !read.contains_key(*name));
    let written = written.map(|(name, at)| (name.clone(), at.clone(), false));
    for (name, store, streams) in read.clone().into_iter().map(|(name, at)| (name, at, true)).chain(written) {
        if plan.stores.contains_key(&name) && store == StoreConnection::Dynamodb(aws.clone()) {
            let tables = [of(Service::Dynamodb, true), of(Service::Streams, streams)];
            stores.push((name, tables.into_iter().flatten().collect()));
        }
    }
    let own = std::iter::once(CONTROL).filter(|_| control);
    let further = connections.controls.iter().filter(|(_, at)| *at == aws).map(|(name, _)| name.as_str());
    for name in own.chain(further).filter(|name| plan.stores.contains_key(*name)) {
        let here = || plan.switches.iter().filter(|s| s.control == name);
        let parameters = here().any(|s| matches!(s.kind, SwitchKind::Parameter { .. }));
        let stages = here().any(|s| matches!(s.kind, SwitchKind::StageVariable { .. }));
        let read = name == CONTROL && watched(plan);
        let restarts = plan.jobs.iter().any(|job| job.control == name && job.purpose() == Purpose::Restart);
        let all = [
            of(Service::Ssm, parameters),
            of(Service::Apigateway, stages),
            of(Service::Cloudwatch, read),
            of(Service::Autoscaling, restarts),
        ];
        stores.push((name.to_owned(), all.into_iter().flatten().collect()));
    }
    AwsIdentity::new(session, ends.sts.as_deref(), aws.credentials == Credentials::Emulator, stores)
}

#[async_trait]
impl Identity for Identities {
    async fn callers(&self) -> Callers {
        let all = futures::future::join_all(self.0.iter().map(Identity::callers)).await;
        all.into_iter().flatten().collect()
    }

    fn addresses(&self, store: &str) -> Vec<Address> {
        self.0.iter().flat_map(|one| one.addresses(store)).collect()
    }

    fn clock_ahead_ms(&self) -> Option<i64> {
        self.0.iter().find_map(Identity::clock_ahead_ms)
    }
}
