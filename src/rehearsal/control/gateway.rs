//! API Gateway stages: REST JSON.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Plane, now};
use crate::rehearsal::fault::Fault;
use crate::rehearsal::held;

/// A stage and its variables.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Stage variables.
    pub variables: BTreeMap<String, String>,
    /// The values the variables had first.
    first: BTreeMap<String, String>,
    canary: Option<Canary>,
    description: Option<String>,
    created: f64,
    updated: f64,
}

/// A share of requests that is served from elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
struct Canary {
    percent: f64,
    overrides: BTreeMap<String, String>,
}

/// Stages by API and name.
#[derive(Debug, Default)]
pub(super) struct Stages(Mutex<BTreeMap<(String, String), Stage>>);

impl Stages {
    pub(super) fn put(&self, api: &str, stage: &str, variables: &[(&str, &str)]) {
        let variables: BTreeMap<String, String> =
            variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let now = now();
        let new =
            Stage { first: variables.clone(), variables, canary: None, description: None, created: now, updated: now };
        held(&self.0).insert((api.to_owned(), stage.to_owned()), new);
    }
}

/// An error as REST JSON has it: the type is in a header.
pub(super) fn error(status: StatusCode, code: &'static str, message: &str) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (HeaderName::from_static("x-amzn-errortype"), code)];
    (status, headers, json!({ "message": message }).to_string()).into_response()
}

fn shown(name: &str, stage: &Stage) -> Response {
    let mut value = json!({
        "stageName": name,
        "deploymentId": "rehearsal",
        "variables": stage.variables,
        "cacheClusterEnabled": false,
        "tracingEnabled": false,
        "createdDate": stage.created,
        "lastUpdatedDate": stage.updated,
    });
    if let Some(canary) = &stage.canary {
        value["canarySettings"] = json!({
            "percentTraffic": canary.percent,
            "deploymentId": "rehearsal",
            "stageVariableOverrides": canary.overrides,
            "useStageCache": false,
        });
    }
    if let Some(description) = &stage.description {
        value["description"] = json!(description);
    }
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn missing(stages: &BTreeMap<(String, String), Stage>, api: &str) -> Response {
    let what = if stages.keys().any(|(a, _)| a == api) { "stage" } else { "API" };
    error(StatusCode::NOT_FOUND, "NotFoundException", &format!("Invalid {what} identifier specified"))
}

pub(super) async fn get_stage(State(plane): State<Arc<Plane>>, Path((api, stage)): Path<(String, String)>) -> Response {
    let stages = held(&plane.stages.0);
    match stages.get(&(api.clone(), stage.clone())) {
        Some(found) => shown(&stage, found),
        None => missing(&stages, &api),
    }
}

#[derive(Deserialize)]
struct Patch {
    op: String,
    path: String,
    #[serde(default)]
    value: Option<String>,
}

pub(super) async fn patch_stage(
    State(plane): State<Arc<Plane>>,
    Path((api, stage)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let bad = |message: &str| error(StatusCode::BAD_REQUEST, "BadRequestException", message);
    let given = serde_json::from_slice::<Value>(&body)
        .and_then(|mut v| serde_json::from_value::<Vec<Patch>>(v["patchOperations"].take()));
    let Ok(patches) = given else { return bad("Invalid patch document") };
    let mut stages = held(&plane.stages.0);
    let Some(found) = stages.get(&(api.clone(), stage.clone())) else { return missing(&stages, &api) };
    // All patches or none.
    let mut changed = found.clone();
    for patch in &patches {
        if let Err(message) = apply(&mut changed, patch) {
            return bad(&message);
        }
    }
    let away = changed.variables.iter().any(|(k, v)| changed.first.get(k).is_some_and(|first| first != v));
    if away && plane.faults.active(Fault::GatewayRefuse) {
        plane.faults.struck(Fault::GatewayRefuse);
        let message = "injected: the stage was not changed";
        return error(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", message);
    }
    changed.updated = now();
    let answer = shown(&stage, &changed);
    stages.insert((api, stage), changed);
    answer
}

fn apply(stage: &mut Stage, patch: &Patch) -> Result<(), String> {
    let value = || patch.value.clone().ok_or_else(|| format!("Patch operation on {} needs a value", patch.path));
    let variable = patch.path.strip_prefix("/variables/").filter(|v| !v.is_empty() && !v.contains('/'));
    let overridden = patch.path.strip_prefix("/canarySettings/stageVariableOverrides/").filter(|v| !v.is_empty());
    match (patch.op.as_str(), variable) {
        ("replace" | "add", Some(variable)) => {
            let value = value()?;
            if !value.chars().all(|c| c.is_ascii_alphanumeric() || "-._~:/?#&=,".contains(c)) {
                return Err("Stage variable value may only hold alphanumeric characters and -._~:/?#&=,".to_owned());
            }
            stage.variables.insert(variable.to_owned(), value);
        }
        ("remove", Some(variable)) => {
            if stage.variables.remove(variable).is_none() {
                return Err(format!("Invalid patch path {}: there is no such variable", patch.path));
            }
        }
        ("replace" | "add", None) if patch.path == "/canarySettings/percentTraffic" => {
            let percent = value()?.parse().map_err(|_| "percentTraffic is no number".to_owned())?;
            stage.canary.get_or_insert_default().percent = percent;
        }
        ("replace" | "add", None) if overridden.is_some() => {
            let overrides = &mut stage.canary.get_or_insert_default().overrides;
            overrides.insert(overridden.unwrap_or_default().to_owned(), value()?);
        }
        ("remove", None) if patch.path == "/canarySettings" => stage.canary = None,
        ("replace", None) if patch.path == "/description" => stage.description = Some(value()?),
        ("replace" | "add" | "remove", None) => return Err(format!("Invalid patch path {}", patch.path)),
        (op, _) => return Err(format!("Invalid patch operation {op}")),
    }
    Ok(())
}
