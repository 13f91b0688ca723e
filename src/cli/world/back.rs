//! What a rollback needs, with clients of its own: from what the run kept, not from the config.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::failure::Failure;
use super::movers;
use super::sources::{self, AllSources};
use super::targets::{self, TargetPorts, Targets};
use super::{aws, aws_session, failing, password, postgresql, probes, switches};
use crate::adapters::aws::AwsIdentity;
use crate::adapters::command::CommandJobs;
use crate::config::{Aws, Credentials, Postgres, SavedConnections, StoreConnection};
use crate::domain::plan::{CONTROL, Plan};
use crate::domain::run::another_account;
use crate::domain::secret::Secret;
use crate::engine::rollback::{RollbackPorts, RollbackPortsFactory};
use crate::ports::{
    Budget, ByStore, Changes, Identity as _, Jobs, Mover, Outbox, ReversePorts, SeveralJobs, SeveralOutboxes,
    SeveralSwitches, Switches, Target, Unavailable,
};

/// Both ends of the reverse flow, with clients of their own; or what of them cannot be reached. A store that cannot be
/// reached refuses each call with the reason: what waits for its tables is left, and named.
async fn reverse(saved: &SavedConnections, plan: &Plan) -> Result<ReversePorts, String> {
    let switches = own_switches(saved).await;
    let mut stores = AllSources::default();
    let from = plan.tables.iter().map(|table| table.from.as_str()).collect::<BTreeSet<_>>();
    let alone = from.len() <= 1;
    for store in from {
        let connected = match saved.source(store) {
            Ok(at) => sources::connect(store, &at, plan, &switches).await.map_err(|failure| failure.words()),
            Err(why) if saved.sources.is_empty() => Err(unread("AWS", &why)),
            Err(why) => Err(unread(&format!("the store {store}"), &why)),
        };
        match connected {
            Ok(ports) => stores.add(store, ports),
            Err(why) if alone => return Err(why),
            Err(why) => stores.add(store, sources::out_of_reach(&why)),
        }
    }
    Ok(ReversePorts { outbox: outboxes(saved, plan, &switches).await?, items: stores.items })
}

/// The outboxes of a plan's targets as one. Where one of several cannot be reached each of its calls says why.
async fn outboxes(
    saved: &SavedConnections,
    plan: &Plan,
    switches: &Arc<dyn Switches>,
) -> Result<Arc<dyn Outbox>, String> {
    let to = plan.tables.iter().map(|table| table.to.as_str()).collect::<BTreeSet<_>>();
    let alone = to.len() <= 1;
    let mut all = BTreeMap::new();
    for store in to {
        let outbox = match target_in_our_layout(saved, store, switches, &plan.key()).await {
            Ok(ports) => ports.outbox,
            Err(why) if alone => return Err(why),
            Err(why) => Arc::new(Unavailable(why)) as _,
        };
        all.insert(store.to_owned(), outbox);
    }
    let home = all.remove_entry(&saved.home).or_else(|| all.pop_first());
    home.map(|home| SeveralOutboxes::as_one(home, all)).ok_or_else(|| "the plan moves no table".to_owned())
}

/// Of what is opened aside no load writes, so nothing of it keeps to a budget.
fn no_budget() -> Arc<Budget> {
    Arc::new(Budget::new(None))
}

/// A target whose bookkeeping is of this version: another one does not become ours by waiting. Any other error may pass.
async fn target_in_our_layout(
    saved: &SavedConnections,
    store: &str,
    switches: &Arc<dyn Switches>,
    plan: &str,
) -> Result<TargetPorts, String> {
    match saved.target(store).map_err(|why| unread(&saved.target_words(store), &why))? {
        StoreConnection::Dynamodb(aws) => targets::tables(&aws, plan, &no_budget()).await.map_err(|e| e.to_string()),
        StoreConnection::Postgresql(postgres) => {
            let password = saved_password(saved, store, &postgres, switches).await?;
            let target = postgresql::target_in_our_layout(postgres, password, Arc::clone(switches), plan.to_owned());
            target.await.map_err(|e| Failure::from(e).words())
        }
    }
}

/// Switches over a session of their own: passwords may stand there. Where AWS cannot be reached each call says why.
pub(super) async fn own_switches(saved: &SavedConnections) -> Arc<dyn Switches> {
    match &saved.aws {
        Ok(named) => {
            let aws = aws(named.as_ref());
            switches(&aws_session(&aws).await, &aws.endpoints)
        }
        Err(why) => Arc::new(Unavailable(unread("AWS", why))),
    }
}

/// A target a run was opened on.
async fn saved_target(
    saved: &SavedConnections,
    store: &str,
    switches: &Arc<dyn Switches>,
    plan: &str,
) -> Result<TargetPorts, String> {
    match saved.target(store).map_err(|why| unread(&saved.target_words(store), &why))? {
        StoreConnection::Dynamodb(aws) => targets::tables(&aws, plan, &no_budget()).await.map_err(|e| e.to_string()),
        StoreConnection::Postgresql(postgres) => {
            let password = saved_password(saved, store, &postgres, switches).await?;
            let target = postgresql::target_aside(postgres, password, Arc::clone(switches), plan.to_owned());
            target.await.map_err(|e| Failure::from(e).words())
        }
    }
}

/// The password of a database a run was opened on.
async fn saved_password(
    saved: &SavedConnections,
    store: &str,
    postgres: &Postgres,
    switches: &Arc<dyn Switches>,
) -> Result<Option<Secret>, String> {
    let called = if saved.targets.len() > 1 { store } else { "target" };
    password(called, postgres, &**switches).await.map_err(|trouble| Failure::from(trouble).words())
}

/// The targets of a run of this plan as one, for its lease.
///
/// # Errors
/// In words: how one is reached cannot be read, or its password is not where it was.
pub async fn target_of(saved: &SavedConnections, plan: &str) -> Result<Arc<dyn Target>, String> {
    let switches = rollback_switches(saved).await;
    let mut all = Targets::new();
    for store in saved.targets.keys() {
        all.insert(store.clone(), saved_target(saved, store, &switches, plan).await?);
    }
    let TargetPorts { target, .. } = targets::as_one(&saved.home, all).ok_or("it does not say which target is home")?;
    Ok(target)
}

fn unread(what: &str, why: &str) -> String {
    format!("how {what} is reached cannot be read: {why}")
}

/// How long a rollback waits at most to learn whose account its calls are signed for.
const WHOSE: Duration = Duration::from_secs(2);

/// The switches of one region and account, for a rollback: not those of another account than the run's.
async fn in_the_run_s_account(aws: &Aws) -> Arc<dyn Switches> {
    let session = aws_session(aws).await;
    match elsewhere(aws, &session).await {
        None => switches(&session, &aws.endpoints),
        Some(wrong) => Arc::new(Unavailable(wrong)),
    }
}

/// Whether a run's switches would be restored in another account than it pins. An unknown account keeps nobody from
/// rolling back.
async fn elsewhere(aws: &Aws, session: &aws_config::SdkConfig) -> Option<String> {
    let pinned = aws.account.as_deref()?;
    let emulator = aws.credentials == Credentials::Emulator;
    let all = vec![(CONTROL.to_owned(), Vec::new())];
    let identity = AwsIdentity::new(session, aws.endpoints.sts.as_deref(), emulator, all);
    let callers = tokio::time::timeout(WHOSE, identity.callers()).await.ok()?;
    let caller = callers.get(CONTROL).filter(|caller| caller.account.is_some())?;
    another_account(Some(pinned), caller)
}

/// The switches of a rollback: not of another account than the run's.
async fn rollback_switches(saved: &SavedConnections) -> Arc<dyn Switches> {
    let own = async {
        match &saved.aws {
            Ok(named) => in_the_run_s_account(&aws(named.as_ref())).await,
            Err(why) => Arc::new(Unavailable(unread("AWS", why))),
        }
    };
    // Side by side: a region that does not say whose account it is keeps no other waiting.
    let others = saved.controls.iter().map(|(name, at)| async move {
        let switches = match at {
            Ok(aws) => in_the_run_s_account(aws).await,
            Err(why) => Arc::new(Unavailable(unread(&format!("AWS of [{name}]"), why))) as Arc<dyn Switches>,
        };
        (name.clone(), switches)
    });
    let (own, others) = futures::join!(own, futures::future::join_all(others));
    SeveralSwitches::as_one(own, others.into_iter().collect())
}

/// The jobs of one region and account, for a rollback: not those of another account than the run's.
async fn jobs_in_the_run_s_account(aws: &Aws) -> Arc<dyn Jobs> {
    let session = aws_session(aws).await;
    match elsewhere(aws, &session).await {
        None => super::jobs(&session, &aws.endpoints),
        Some(wrong) => Arc::new(Unavailable(wrong)),
    }
}

/// The jobs of a rollback.
async fn rollback_jobs(saved: &SavedConnections) -> Arc<dyn Jobs> {
    let own = saved.aws.as_ref().map(|named| aws(named.as_ref())).map_err(Clone::clone);
    let own = [(CONTROL.to_owned(), own)];
    let further = saved.controls.iter().map(|(name, at)| (name.clone(), at.clone()));
    let all = own.into_iter().chain(further).map(|(name, at)| async move {
        let jobs = match at {
            Ok(aws) => jobs_in_the_run_s_account(&aws).await,
            Err(why) => Arc::new(Unavailable(unread(&format!("AWS of [{name}]"), &why))) as Arc<dyn Jobs>,
        };
        (name, jobs)
    });
    let all = futures::future::join_all(all).await;
    SeveralJobs::as_one(all.into_iter().collect(), failing(Arc::new(CommandJobs::of_this_process()) as _))
}

/// The clients of a plan's rollback. They are made on its runtime, so that no connection is shared with forward work.
/// For what cannot be reached a port stands in that refuses each call with the reason, so that the rest goes on.
pub fn rollback_ports(saved: SavedConnections, plan: &Plan) -> RollbackPortsFactory {
    let plan = Arc::new(plan.clone());
    Box::new(move || {
        Box::pin(async move {
            let probes = match probes() {
                Ok(probes) => failing(Arc::new(probes) as _),
                Err(e) => Arc::new(Unavailable(e.to_string())) as _,
            };
            RollbackPorts {
                switches: rollback_switches(&saved).await,
                probes,
                jobs: rollback_jobs(&saved).await,
                // Made only once the switches are restored, so that it cannot delay them.
                reverse: Box::new(move || {
                    let (saved, plan) = (saved.clone(), Arc::clone(&plan));
                    Box::pin(async move { reverse(&saved, &plan).await })
                }),
            }
        })
    })
}

/// Stores that keep changes until they are read, for what is left there of a plan with this key.
pub async fn kept_at_sources(saved: &SavedConnections, plan: &str) -> ByStore<dyn Changes> {
    sources::kept(saved, plan, &own_switches(saved).await).await
}

/// What moved tables of a plan with this key between these stores, to be removed.
pub async fn movers_of(saved: &SavedConnections, plan: &str, ends: &[(String, String)]) -> ByStore<dyn Mover> {
    movers::saved(saved, plan, Some(ends)).await
}

/// Whatever could have moved tables of a plan with this key between any of these stores, to be removed.
pub async fn movers_of_stores(saved: &SavedConnections, plan: &str) -> ByStore<dyn Mover> {
    movers::saved(saved, plan, None).await
}
