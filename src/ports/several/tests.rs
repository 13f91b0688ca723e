//! What has no meaning for one target alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::domain::plan::{NEW, Switch};
use crate::domain::run::Attributes;
use crate::domain::secret::Secret;
use crate::ports::tests::tables;
use crate::ports::{Switches, Target, TargetServer, Unavailable};
use crate::workers::tests::faults::{Fault, Op};
use crate::workers::tests::world::{FakeTarget, HandClock, NewStore, World};

/// Two targets, of which the first is home, and both as one.
fn two() -> (Arc<FakeTarget>, Arc<FakeTarget>, Arc<dyn Target>) {
    let store = || Arc::new(FakeTarget::new(NewStore::new(&tables::all(), Arc::new(HandClock::default()))));
    let (home, other) = (store(), store());
    let others = BTreeMap::from([("other".to_owned(), Arc::clone(&other) as Arc<dyn Target>)]);
    (Arc::clone(&home), Arc::clone(&other), SeveralTargets::as_one((NEW.to_owned(), home), others))
}

#[tokio::test]
async fn a_lease_that_is_refused_at_one_store_is_held_at_none() {
    let (home, other, both) = two();
    other.prepare().await.unwrap();
    both.prepare().await.unwrap();
    other.lease("another run", "somebody", 60_000).await.unwrap();
    let refused = both.lease("run", "me", 60_000).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert!(refused.on.contains("store other"), "{refused}");
    home.lease("a third run", "a third", 60_000).await.expect("nobody holds it");
}

#[tokio::test]
async fn a_store_that_nobody_named_is_said() {
    let (_, _, both) = two();
    let mut table = tables::authors();
    table.to = "elsewhere".into();
    let refused = both.claimable(&[table]).await.unwrap_err();
    assert!(refused.came_back.contains("`elsewhere`"), "{refused}");
}

#[tokio::test]
async fn rows_go_where_their_table_goes() {
    let (home, other, both) = two();
    both.prepare().await.unwrap();
    both.lease("run", "me", 60_000).await.unwrap();
    let mut there = tables::authors();
    there.to = "other".into();
    both.claim("run", std::slice::from_ref(&there)).await.unwrap();
    both.start_positions(&there, "stream", &BTreeMap::new()).await.unwrap();
    assert!(other.positions(&there).await.unwrap().is_some());
    assert!(home.positions(&there).await.unwrap().is_none());
    assert_eq!(both.inspect().await.unwrap(), TargetServer { obstacles: Vec::new(), ..home.inspect().await.unwrap() });
}

#[tokio::test]
async fn a_store_that_cannot_be_renewed_costs_no_other_its_lease() {
    let (home, _, _) = two();
    let world = World::new();
    world.faults.put(Op::Lease, "", 0, 9, Fault::Refuse(ErrorKind::Denied));
    let others = BTreeMap::from([("other".to_owned(), world.ports().target)]);
    let both = SeveralTargets::as_one((NEW.to_owned(), Arc::clone(&home) as _), others);
    home.prepare().await.unwrap();
    let before = home.lease("run", "me", 60_000).await.unwrap().epoch;
    let refused = both.lease("run", "me", 60_000).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
    let after = home.lease("run", "me", 60_000).await.unwrap().epoch;
    assert_eq!(after, before, "it did not change hands");
}

#[tokio::test]
async fn a_switch_of_another_region_is_never_looked_for_in_the_own_one() {
    let down = |why: &str| Arc::new(Unavailable(why.to_owned())) as Arc<dyn Switches>;
    let own = |id: &str| crate::workers::tests::plan::plan().switch(id).unwrap().clone();
    let far = Switch { control: "control.eu".into(), ..own("writes") };
    let both = SeveralSwitches::as_one(down("own"), BTreeMap::from([("control.eu".to_owned(), down("far"))]));
    let of_far = both.read(&far).await.unwrap_err();
    assert!(of_far.came_back.contains("far") && of_far.on.starts_with("eu:/writes"), "{of_far}");
    let of_own = both.read(&own("writes")).await.unwrap_err();
    assert!(of_own.came_back.contains("own") && of_own.on.starts_with("/writes"), "{of_own}");
    // Where nobody knows how that region is reached, the place of the same name here is another one.
    let alone = SeveralSwitches::as_one(down("own"), BTreeMap::new());
    let refused = alone.set(&far, &Secret::new("x"), &Attributes::default()).await.unwrap_err();
    assert!(refused.came_back.contains("there is no [control.eu]"), "{refused}");
}
