//! Clusters, instances and snapshots of RDS, whose making and deleting take their time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use super::query::{Form, tag};
use super::{Plane, Refusal};
use crate::rehearsal::held;

/// How long a snapshot is `creating`, and anything `deleting`: minutes on a real day.
const TAKES: Duration = Duration::from_millis(400);

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Databases(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    clusters: BTreeMap<String, Thing>,
    /// Each with the cluster it belongs to.
    instances: BTreeMap<String, (String, Thing)>,
    /// Each with the cluster it is of, and when it was begun.
    snapshots: BTreeMap<String, (String, Instant)>,
}

/// Something that is there, or goes since a moment.
#[derive(Debug, Default)]
struct Thing(Option<Instant>);

impl Thing {
    fn is_gone(&self) -> bool {
        self.0.is_some_and(|since| since.elapsed() >= TAKES)
    }

    fn status(&self) -> &'static str {
        if self.0.is_some() { "deleting" } else { "available" }
    }
}

impl Databases {
    /// A cluster with one instance, called as the cluster with `-1` behind it.
    pub(super) fn put(&self, cluster: &str) {
        let mut all = held(&self.0);
        all.clusters.insert(cluster.to_owned(), Thing::default());
        all.instances.insert(format!("{cluster}-1"), (cluster.to_owned(), Thing::default()));
    }
}

fn absent(code: &'static str, what: &str, id: &str) -> Refusal {
    Refusal { status: StatusCode::NOT_FOUND, code, message: format!("{what} {id} not found.") }
}

/// One action; `None` for one that is no action of this service.
pub(super) fn call(plane: &Plane, action: &str, form: &Form) -> Option<Result<String, Refusal>> {
    let mut all = held(&plane.databases.0);
    all.clusters.retain(|_, cluster| !cluster.is_gone());
    all.instances.retain(|_, (_, instance)| !instance.is_gone());
    Some(match action {
        "DescribeDBClusters" => clusters(&all, form),
        "DescribeDBInstances" => instances(&all, form),
        "DescribeDBClusterSnapshots" => snapshots(&all, form),
        "CreateDBClusterSnapshot" => snapshot(&mut all, form),
        "DeleteDBInstance" => delete_instance(&mut all, form),
        "DeleteDBCluster" => delete_cluster(&mut all, form),
        _ => return None,
    })
}

fn cluster_xml(all: &Held, id: &str, cluster: &Thing) -> String {
    let members = all.instances.iter().filter(|(_, (of, _))| of == id);
    let members: String = members
        .map(|(id, _)| format!("<DBClusterMember>{}</DBClusterMember>", tag("DBInstanceIdentifier", id)))
        .collect();
    [
        tag("DBClusterIdentifier", id),
        tag("Status", cluster.status()),
        tag("Engine", "aurora-postgresql"),
        tag("EngineVersion", "16.4"),
        tag("DeletionProtection", "false"),
        format!("<DBClusterMembers>{members}</DBClusterMembers>"),
    ]
    .concat()
}

fn clusters(all: &Held, form: &Form) -> Result<String, Refusal> {
    let id = form.must("DBClusterIdentifier")?;
    let found = all.clusters.get(id).ok_or_else(|| absent("DBClusterNotFoundFault", "DBCluster", id))?;
    Ok(format!("<DBClusters><DBCluster>{}</DBCluster></DBClusters>", cluster_xml(all, id, found)))
}

fn instance_xml(id: &str, cluster: &str, instance: &Thing) -> String {
    [
        tag("DBInstanceIdentifier", id),
        tag("DBClusterIdentifier", cluster),
        tag("DBInstanceStatus", instance.status()),
        tag("Engine", "aurora-postgresql"),
        tag("EngineVersion", "16.4"),
        tag("DeletionProtection", "false"),
    ]
    .concat()
}

fn instances(all: &Held, form: &Form) -> Result<String, Refusal> {
    let id = form.must("DBInstanceIdentifier")?;
    let (cluster, found) = all.instances.get(id).ok_or_else(|| absent("DBInstanceNotFound", "DBInstance", id))?;
    Ok(format!("<DBInstances><DBInstance>{}</DBInstance></DBInstances>", instance_xml(id, cluster, found)))
}

fn snapshot_xml(id: &str, cluster: &str, begun: Instant) -> String {
    let done = begun.elapsed() >= TAKES;
    [
        tag("DBClusterSnapshotIdentifier", id),
        tag("DBClusterIdentifier", cluster),
        tag("Status", if done { "available" } else { "creating" }),
        tag("PercentProgress", if done { "100" } else { "40" }),
    ]
    .concat()
}

fn snapshots(all: &Held, form: &Form) -> Result<String, Refusal> {
    let id = form.must("DBClusterSnapshotIdentifier")?;
    let found = all.snapshots.get(id);
    let (cluster, begun) = found.ok_or_else(|| absent("DBClusterSnapshotNotFoundFault", "DBClusterSnapshot", id))?;
    let one = snapshot_xml(id, cluster, *begun);
    Ok(format!("<DBClusterSnapshots><DBClusterSnapshot>{one}</DBClusterSnapshot></DBClusterSnapshots>"))
}

fn snapshot(all: &mut Held, form: &Form) -> Result<String, Refusal> {
    let (cluster, id) = (form.must("DBClusterIdentifier")?, form.must("DBClusterSnapshotIdentifier")?);
    let found = all.clusters.get(cluster).ok_or_else(|| absent("DBClusterNotFoundFault", "DBCluster", cluster))?;
    if found.status() != "available" {
        let message = format!("Cluster {cluster} is in {} state", found.status());
        return Err(Refusal::new("InvalidDBClusterStateFault", message));
    }
    if all.snapshots.contains_key(id) {
        let message =
            format!("Cannot create the cluster snapshot because one with the identifier {id} already exists.");
        return Err(Refusal::new("DBClusterSnapshotAlreadyExistsFault", message));
    }
    let begun = Instant::now();
    all.snapshots.insert(id.to_owned(), (cluster.to_owned(), begun));
    Ok(format!("<DBClusterSnapshot>{}</DBClusterSnapshot>", snapshot_xml(id, cluster, begun)))
}

fn delete_instance(all: &mut Held, form: &Form) -> Result<String, Refusal> {
    let id = form.must("DBInstanceIdentifier")?;
    let (cluster, instance) =
        all.instances.get_mut(id).ok_or_else(|| absent("DBInstanceNotFound", "DBInstance", id))?;
    if instance.0.is_some() {
        return Err(Refusal::new("InvalidDBInstanceState", format!("Instance {id} is already being deleted.")));
    }
    instance.0 = Some(Instant::now());
    Ok(format!("<DBInstance>{}</DBInstance>", instance_xml(id, cluster, instance)))
}

fn delete_cluster(all: &mut Held, form: &Form) -> Result<String, Refusal> {
    let id = form.must("DBClusterIdentifier")?;
    if all.instances.values().any(|(cluster, instance)| cluster == id && instance.0.is_none()) {
        let message = "Cluster cannot be deleted, it still contains DB instances in non-deleting state.";
        return Err(Refusal::new("InvalidDBClusterStateFault", message));
    }
    let found = all.clusters.get_mut(id).ok_or_else(|| absent("DBClusterNotFoundFault", "DBCluster", id))?;
    if found.0.is_some() {
        return Err(Refusal::new("InvalidDBClusterStateFault", format!("Cluster {id} is already being deleted.")));
    }
    found.0 = Some(Instant::now());
    if let Some(last) = form.get("FinalDBSnapshotIdentifier") {
        all.snapshots.insert(last.to_owned(), (id.to_owned(), Instant::now()));
    }
    let found = &all.clusters[id];
    Ok(format!("<DBCluster>{}</DBCluster>", cluster_xml(all, id, found)))
}
