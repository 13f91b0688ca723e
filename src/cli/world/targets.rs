//! The stores that tables go to, behind the ports of one target.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::{Trouble, aws_session, dynamodb, password, postgresql};
use crate::config::{Aws, Connections, StoreConnection};
use crate::domain::plan::ValueRef;
use crate::ports::{Budget, Outbox, PortResult, SeveralOutboxes, SeveralTargets, Switches, Target};
use crate::workers::CheckRow;

/// One store's ports, or all of them as one.
pub(super) struct TargetPorts {
    pub target: Arc<dyn Target>,
    pub outbox: Arc<dyn Outbox>,
}

/// Ports of several stores by name, until they become one.
pub(super) type Targets = BTreeMap<String, TargetPorts>;

/// All of them as one. `None` where home is not among them.
pub(super) fn as_one(home: &str, all: Targets) -> Option<TargetPorts> {
    let (mut targets, mut outboxes) = (BTreeMap::new(), BTreeMap::new());
    for (name, ports) in all {
        targets.insert(name.clone(), ports.target);
        outboxes.insert(name, ports.outbox);
    }
    let (target, outbox) = (targets.remove(home)?, outboxes.remove(home)?);
    Some(TargetPorts {
        target: SeveralTargets::as_one((home.to_owned(), target), targets),
        outbox: SeveralOutboxes::as_one((home.to_owned(), outbox), outboxes),
    })
}

/// What no config that was read brings about.
fn no_home() -> Failure {
    Failure::new(Exit::Bug, "home is not among the targets")
}

/// What a target is called in what is said: by its name where there are several.
fn called<'c>(connections: &'c Connections, store: &'c str) -> &'c str {
    if connections.targets.len() > 1 { store } else { "target" }
}

/// Ports of every target. Nothing is called yet but the sources of passwords.
///
/// # Errors
/// An address that is none, or a password that is not where the config says.
pub(super) async fn connect(
    connections: &Connections,
    switches: &Arc<dyn Switches>,
    (plan, write_budget_wcu): (&str, Option<f64>),
) -> Result<TargetPorts, Failure> {
    let budget = Arc::new(Budget::new(write_budget_wcu));
    let mut all = Targets::new();
    for (name, at) in &connections.targets {
        let ports = match at {
            StoreConnection::Postgresql(postgres) => {
                let password = password(called(connections, name), postgres, &**switches).await?;
                postgresql::target(postgres, password, switches, plan)?
            }
            StoreConnection::Dynamodb(aws) => tables(aws, plan, &budget).await?,
        };
        all.insert(name.clone(), ports);
    }
    as_one(&connections.home, all).ok_or_else(no_home)
}

/// The same for a check: a password that is missing is a row, and its store is not asked. `no_aws` says that nothing of
/// AWS can be read.
///
/// # Errors
/// An address that is none.
pub(super) async fn connect_to_check(
    connections: &Connections,
    switches: &Arc<dyn Switches>,
    plan: &str,
    no_aws: bool,
) -> Result<(TargetPorts, Option<CheckRow>), Failure> {
    let (mut all, mut missing) = (Targets::new(), None);
    for (name, at) in &connections.targets {
        let postgres = match at {
            StoreConnection::Postgresql(postgres) => postgres,
            StoreConnection::Dynamodb(aws) => {
                // A check writes nothing.
                all.insert(name.clone(), tables(aws, plan, &Budget::new(None).into()).await?);
                continue;
            }
        };
        let called = called(connections, name);
        let found = match &postgres.password {
            Some(ValueRef::Parameter(parameter)) if no_aws => {
                let wrong = format!("the password's parameter {parameter} cannot be read without AWS credentials");
                Err(Trouble { what: called.to_owned(), wrong, advice: String::new() })
            }
            _ => password(called, postgres, &**switches).await,
        };
        let password = found.unwrap_or_else(|t| {
            missing.get_or_insert(CheckRow::denied(t.what, t.wrong, t.advice));
            // Stands in its place and is not asked.
            None
        });
        all.insert(name.clone(), postgresql::target(postgres, password, switches, plan)?);
    }
    let all = as_one(&connections.home, all).ok_or_else(no_home)?;
    Ok((all, missing))
}

/// DynamoDB tables, and their own streams as the outbox. `budget` is that of the plan, for all its stores.
///
/// # Errors
/// An address that is none, or no credentials.
pub(super) async fn tables(aws: &Aws, plan: &str, budget: &Arc<Budget>) -> PortResult<TargetPorts> {
    dynamodb::target(aws, &aws_session(aws).await, plan, Arc::clone(budget))
}
