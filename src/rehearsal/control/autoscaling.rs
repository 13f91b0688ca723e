//! Auto Scaling groups and the refreshes of their instances, which go on as time passes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::query::{Form, tag};
use super::{Plane, Refusal};
use crate::rehearsal::held;

/// Instances of a group.
const INSTANCES: u32 = 4;
/// How long one instance takes to be replaced: minutes on a real day.
const ONE: Duration = Duration::from_millis(150);

/// The groups, by name.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<BTreeMap<String, Vec<Refresh>>>);

#[derive(Debug)]
struct Refresh {
    id: String,
    started: jiff::Timestamp,
    began: Instant,
    /// Instances that are as the group wants them already are left alone.
    skip_matching: bool,
    /// How many instances it had replaced when it was cancelled.
    cancelled: Option<u32>,
}

impl Refresh {
    fn replaced(&self) -> u32 {
        let by_time = u32::try_from(self.began.elapsed().as_millis() / ONE.as_millis()).unwrap_or(INSTANCES);
        self.cancelled.unwrap_or(by_time).min(INSTANCES)
    }

    fn goes_on(&self) -> bool {
        self.cancelled.is_none() && self.replaced() < INSTANCES
    }

    fn status(&self) -> &'static str {
        match (self.cancelled, self.replaced()) {
            (Some(_), _) => "Cancelled",
            (None, INSTANCES) => "Successful",
            (None, 0) => "Pending",
            (None, _) => "InProgress",
        }
    }

    fn xml(&self, group: &str) -> String {
        let replaced = self.replaced();
        let mut all = [
            tag("InstanceRefreshId", &self.id),
            tag("AutoScalingGroupName", group),
            tag("Status", self.status()),
            tag("StartTime", &self.started.to_string()),
            tag("PercentageComplete", &(replaced * 100 / INSTANCES).to_string()),
            tag("InstancesToUpdate", &(INSTANCES - replaced).to_string()),
            format!("<Preferences>{}</Preferences>", tag("SkipMatching", &self.skip_matching.to_string())),
        ]
        .concat();
        if !self.goes_on() {
            all.push_str(&tag("EndTime", &jiff::Timestamp::now().to_string()));
        }
        format!("<member>{all}</member>")
    }
}

impl Groups {
    /// A group, none of whose instances was ever replaced.
    pub(super) fn put(&self, name: &str) {
        held(&self.0).entry(name.to_owned()).or_default();
    }
}

/// One action; `None` for one that is no action of this service.
pub(super) fn call(plane: &Plane, action: &str, form: &Form) -> Option<Result<String, Refusal>> {
    Some(match action {
        "DescribeAutoScalingGroups" => Ok(groups(plane, form)),
        "StartInstanceRefresh" => start(plane, form),
        "DescribeInstanceRefreshes" => refreshes(plane, form),
        "CancelInstanceRefresh" => cancel(plane, form),
        _ => return None,
    })
}

fn groups(plane: &Plane, form: &Form) -> String {
    let wanted = form.list("AutoScalingGroupNames");
    let instance = |n: u32| {
        let parts = [
            tag("InstanceId", &format!("i-{n:04}")),
            tag("AvailabilityZone", "a"),
            tag("LifecycleState", "InService"),
            tag("HealthStatus", "Healthy"),
            tag("ProtectedFromScaleIn", "false"),
        ];
        format!("<member>{}</member>", parts.concat())
    };
    let all: String = held(&plane.groups.0)
        .keys()
        .filter(|name| wanted.is_empty() || wanted.contains(&name.as_str()))
        .map(|name| {
            let parts = [
                tag("AutoScalingGroupName", name),
                tag("MinSize", "4"),
                tag("MaxSize", "8"),
                tag("DesiredCapacity", "4"),
                tag("DefaultCooldown", "300"),
                tag("HealthCheckType", "EC2"),
                tag("CreatedTime", "2026-01-01T00:00:00Z"),
                format!("<Instances>{}</Instances>", (0..INSTANCES).map(instance).collect::<String>()),
            ];
            format!("<member>{}</member>", parts.concat())
        })
        .collect();
    format!("<AutoScalingGroups>{all}</AutoScalingGroups>")
}

fn unknown(group: &str) -> Refusal {
    Refusal::new("ValidationError", format!("AutoScalingGroup name not found - AutoScalingGroup '{group}' not found"))
}

fn start(plane: &Plane, form: &Form) -> Result<String, Refusal> {
    let name = form.must("AutoScalingGroupName")?;
    let mut groups = held(&plane.groups.0);
    let refreshes = groups.get_mut(name).ok_or_else(|| unknown(name))?;
    if refreshes.iter().any(Refresh::goes_on) {
        let message = "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.";
        return Err(Refusal::new("InstanceRefreshInProgress", message));
    }
    let id = format!("{name}-{}", refreshes.len() + 1);
    let skip_matching = form.get("Preferences.SkipMatching") == Some("true");
    let (started, began) = (jiff::Timestamp::now(), Instant::now());
    refreshes.push(Refresh { id: id.clone(), started, began, skip_matching, cancelled: None });
    Ok(tag("InstanceRefreshId", &id))
}

fn refreshes(plane: &Plane, form: &Form) -> Result<String, Refusal> {
    let name = form.must("AutoScalingGroupName")?;
    let wanted = form.list("InstanceRefreshIds");
    let groups = held(&plane.groups.0);
    let all = groups.get(name).ok_or_else(|| unknown(name))?;
    if let Some(strange) = wanted.iter().find(|id| all.iter().all(|refresh| refresh.id != **id)) {
        return Err(Refusal::new("ValidationError", format!("Instance refresh {strange} not found")));
    }
    // The newest first, as the service does.
    let listed = all.iter().rev().filter(|refresh| wanted.is_empty() || wanted.contains(&refresh.id.as_str()));
    let listed: String = listed.map(|refresh| refresh.xml(name)).collect();
    Ok(format!("<InstanceRefreshes>{listed}</InstanceRefreshes>"))
}

fn cancel(plane: &Plane, form: &Form) -> Result<String, Refusal> {
    let name = form.must("AutoScalingGroupName")?;
    let mut groups = held(&plane.groups.0);
    let refreshes = groups.get_mut(name).ok_or_else(|| unknown(name))?;
    let Some(refresh) = refreshes.iter_mut().find(|refresh| refresh.goes_on()) else {
        let message = "No in progress or pending Instance Refresh found for Auto Scaling group";
        return Err(Refusal::new("ActiveInstanceRefreshNotFound", message));
    };
    refresh.cancelled = Some(refresh.replaced());
    Ok(tag("InstanceRefreshId", &refresh.id))
}
