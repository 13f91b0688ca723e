//! What moves tables in place of the console, by its name.

use std::sync::Arc;

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::back::own_switches;
use super::{password, postgresql};
use crate::config::{Connections, Postgres, SavedConnections, StoreConnection};
use crate::domain::plan::{MoverKind, MoverOf, Plan};
use crate::domain::secret::Secret;
use crate::ports::{ByStore, Mover, Switches, Unavailable};

/// The movers of a plan. One that cannot be made says why when it is asked: what only reads does without. Nothing is called
/// yet but the sources of passwords.
pub(super) async fn connect(
    plan: &Plan,
    connections: &Connections,
    switches: &Arc<dyn Switches>,
) -> ByStore<dyn Mover> {
    let mut movers = ByStore::default();
    for of in plan.movers() {
        let made = of_plan(&of, plan, connections, switches).await;
        movers = movers.with(of.name(), made.unwrap_or_else(|failure| Arc::new(Unavailable(failure.words())) as _));
    }
    movers
}

async fn of_plan(
    of: &MoverOf,
    plan: &Plan,
    connections: &Connections,
    switches: &Arc<dyn Switches>,
) -> Result<Arc<dyn Mover>, Failure> {
    match of.kind {
        MoverKind::Subscription => {
            let sources = connections.sources();
            let (Some(StoreConnection::Postgresql(source)), Some(StoreConnection::Postgresql(target))) =
                (sources.get(&of.from), connections.targets.get(&of.to))
            else {
                return Err(Failure::new(Exit::Bug, format!("{} is not between two databases", of.name())));
            };
            let of_source = password(&of.from, source, &**switches).await?;
            subscription(&plan.key(), (&of.from, source, of_source), (&of.to, target), switches).await
        }
    }
}

/// The subscription of a plan between two databases.
async fn subscription(
    plan: &str,
    (from, source, of_source): (&str, &Postgres, Option<Secret>),
    (to, target): (&str, &Postgres),
    switches: &Arc<dyn Switches>,
) -> Result<Arc<dyn Mover>, Failure> {
    let of_target = password(to, target, &**switches).await?;
    let subscriber = match &source.subscriber {
        Some(said) => {
            let as_database = Postgres { password: said.password.clone(), ..source.clone() };
            Some((said, password(&format!("subscriber of {from}"), &as_database, &**switches).await?))
        }
        None => None,
    };
    Ok(postgresql::subscription(plan, (from, source, of_source), (to, target, of_target), subscriber, switches)?)
}

/// The movers of a plan with this key between stores that a run was opened on, to be removed: between these ends, or
/// wherever there could be one. What cannot be reached says so when it is asked.
pub(super) async fn saved(
    saved: &SavedConnections,
    plan: &str,
    ends: Option<&[(String, String)]>,
) -> ByStore<dyn Mover> {
    let switches = own_switches(saved).await;
    let all =
        || saved.sources.keys().flat_map(|from| saved.targets.keys().map(|to| (from.clone(), to.clone()))).collect();
    let ends: Vec<(String, String)> = ends.map_or_else(all, <[_]>::to_vec);
    let mut movers = ByStore::default();
    for (from, to) in ends {
        for kind in MoverKind::ALL {
            match kind {
                MoverKind::Subscription => {
                    let made = match (saved.source(&from), saved.target(&to)) {
                        (Ok(StoreConnection::Postgresql(source)), Ok(StoreConnection::Postgresql(target))) => {
                            // It is removed, not made: how it reached the source does not matter any more.
                            let source = Postgres { subscriber: None, ..source };
                            // Without it the source refuses its own half, and the target's is removed all the same.
                            let of_source = password(&from, &source, &*switches).await.ok().flatten();
                            let ends = ((from.as_str(), &source, of_source), (to.as_str(), &target));
                            let made = subscription(plan, ends.0, ends.1, &switches).await;
                            made.map_err(|failure| failure.words())
                        }
                        (Err(why), _) | (_, Err(why)) => Err(why),
                        // No subscription is between them.
                        (Ok(StoreConnection::Dynamodb(_)), _) | (_, Ok(StoreConnection::Dynamodb(_))) => continue,
                    };
                    let made = made.unwrap_or_else(|why| Arc::new(Unavailable(why)) as _);
                    movers = movers.with(kind.between(&from, &to), made);
                }
            }
        }
    }
    movers
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::started;
    use crate::ports::ErrorKind;

    #[tokio::test]
    async fn what_is_removed_at_the_target_does_not_wait_for_the_password_of_the_source() {
        let text = "name = \"shop\"\n[stores.old]\nkind = \"postgresql\"\nhost = \"127.0.0.1\"\nport = 1\ndatabase = \"d\"
            user = \"u\"\nsslmode = \"disable\"\npassword = { env = \"CUTOVER_NO_SUCH_PASSWORD\" }
            [stores.new]\nkind = \"postgresql\"\nhost = \"127.0.0.1\"\nport = 1\ndatabase = \"e\"\nuser = \"u\"\nsslmode = \"disable\"";
        let begun = started("c.toml", text, Path::new("/"), &BTreeMap::new(), None, ("old", "new")).unwrap();
        let movers = saved(&SavedConnections::from(&begun.connections), "shop", None).await;
        let (_, mover) = movers.all().next().expect("one between two databases");
        // Nobody listens there: it was asked all the same.
        let e = mover.stop().await.unwrap_err();
        assert!(!e.to_string().contains("CUTOVER_NO_SUCH_PASSWORD"), "{e}");
        assert_eq!(e.kind, ErrorKind::Unreachable, "{e}");
    }
}
