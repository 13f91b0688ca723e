//! The control-plane stand-in: exactly the SSM, API Gateway and CloudWatch calls the console and the shop make.
//! Anything else is a typed error, never a silent success.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::fault::{Fault, Faults};
use super::metrics::{self, Metrics};

/// One version of a parameter.
#[derive(Clone, Debug)]
struct Version {
    value: String,
    secure: bool,
    at_s: f64,
}

/// What the stand-in holds.
pub(super) struct Shelf {
    parameters: Mutex<BTreeMap<String, Vec<Version>>>,
    stages: Mutex<BTreeMap<(String, String), BTreeMap<String, String>>>,
    pub(super) metrics: Mutex<Metrics>,
    faults: Faults,
}

/// A running stand-in.
pub struct ControlPlane {
    endpoint: String,
    server: JoinHandle<()>,
}

impl ControlPlane {
    /// Starts on a loopback port, empty but for one API stage.
    pub async fn start(faults: Faults) -> std::io::Result<Self> {
        let stage = (("cloudshelf".to_owned(), "prod".to_owned()), BTreeMap::from([("lambdaAlias".into(), "blue".into())]));
        let shelf = Arc::new(Shelf {
            parameters: Mutex::default(),
            stages: Mutex::new(BTreeMap::from([stage])),
            metrics: Mutex::default(),
            faults,
        });
        let app = Router::new()
            .route("/", post(ssm))
            .route("/service/{service}/operation/{operation}", post(metrics::operation))
            .route("/restapis/{api}/stages/{stage}", get(get_stage).patch(patch_stage))
            .with_state(shelf);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(async move {
            if let Err(e) = axum::serve(listener, app).await {
                tracing::error!(error = %e, "control plane stopped");
            }
        });
        Ok(Self { endpoint, server })
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}

fn ssm_error(kind: &str, message: &str) -> Response {
    let status = if kind == "InternalServerError" { 500 } else { 400 };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    json_response(status, &json!({ "__type": kind, "message": message }))
}

async fn ssm(State(shelf): State<Arc<Shelf>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|t| t.to_str().ok()).unwrap_or_default();
    let Ok(input) = serde_json::from_slice::<Value>(&body) else {
        return ssm_error("SerializationException", "the body is not JSON");
    };
    match target.strip_prefix("AmazonSSM.") {
        Some("GetParameter") => get_parameter(&shelf, &input),
        Some("PutParameter") => {
            let name = input["Name"].as_str().unwrap_or_default();
            if shelf.faults.on(Fault::SsmRefuse) && !name.ends_with("/writes-mode") {
                return ssm_error("InternalServerError", "injected: the parameter store refuses");
            }
            if shelf.faults.on(Fault::SsmSlow) {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            put_parameter(&shelf, &input)
        }
        Some("GetParameterHistory") => history(&shelf, &input),
        _ => ssm_error("UnknownOperationException", "this stand-in does not know that operation"),
    }
}

fn shown(name: &str, versions: &[Version], version: usize, decrypt: bool) -> Option<Value> {
    let v = versions.get(version.checked_sub(1)?)?;
    let value = if v.secure && !decrypt { format!("kms:alias/aws/ssm:{:x}", v.value.len()) } else { v.value.clone() };
    Some(json!({
        "Name": name,
        "Type": if v.secure { "SecureString" } else { "String" },
        "Value": value,
        "Version": version,
        "LastModifiedDate": v.at_s,
        "ARN": format!("arn:aws:ssm:us-east-1:000000000000:parameter{name}"),
        "DataType": "text",
    }))
}

fn get_parameter(shelf: &Shelf, input: &Value) -> Response {
    let selector = input["Name"].as_str().unwrap_or_default();
    let (name, version) = match selector.rsplit_once(':') {
        Some((name, version)) => (name, version.parse::<usize>().ok()),
        None => (selector, None),
    };
    let decrypt = input["WithDecryption"].as_bool().unwrap_or(false);
    let parameters = lock(&shelf.parameters);
    let Some(versions) = parameters.get(name) else {
        return ssm_error("ParameterNotFound", name);
    };
    match shown(name, versions, version.unwrap_or(versions.len()), decrypt) {
        Some(parameter) => json_response(StatusCode::OK, &json!({ "Parameter": parameter })),
        None => ssm_error("ParameterVersionNotFound", selector),
    }
}

fn put_parameter(shelf: &Shelf, input: &Value) -> Response {
    let (Some(name), Some(value)) = (input["Name"].as_str(), input["Value"].as_str()) else {
        return ssm_error("ValidationException", "Name and Value are required");
    };
    let mut parameters = lock(&shelf.parameters);
    let versions = parameters.entry(name.to_owned()).or_default();
    if !versions.is_empty() && input["Overwrite"].as_bool() != Some(true) {
        return ssm_error("ParameterAlreadyExists", "The parameter already exists.");
    }
    let secure = match input["Type"].as_str() {
        Some(kind) => kind == "SecureString",
        None => versions.last().is_some_and(|v| v.secure),
    };
    versions.push(Version { value: value.to_owned(), secure, at_s: metrics::now_s() });
    json_response(StatusCode::OK, &json!({ "Version": versions.len(), "Tier": "Standard" }))
}

fn history(shelf: &Shelf, input: &Value) -> Response {
    let name = input["Name"].as_str().unwrap_or_default();
    let decrypt = input["WithDecryption"].as_bool().unwrap_or(false);
    let parameters = lock(&shelf.parameters);
    match parameters.get(name) {
        None => ssm_error("ParameterNotFound", name),
        Some(versions) => {
            let all: Vec<Value> =
                (1..=versions.len()).filter_map(|v| shown(name, versions, v, decrypt)).collect();
            json_response(StatusCode::OK, &json!({ "Parameters": all }))
        }
    }
}

fn rest_error(status: StatusCode, kind: &'static str, message: &str) -> Response {
    (status, [("x-amzn-errortype", kind)], json!({ "message": message }).to_string()).into_response()
}

fn stage_json(stage: &str, variables: &BTreeMap<String, String>) -> Response {
    json_response(StatusCode::OK, &json!({ "stageName": stage, "deploymentId": "d1", "variables": variables }))
}

async fn get_stage(State(shelf): State<Arc<Shelf>>, Path((api, stage)): Path<(String, String)>) -> Response {
    match lock(&shelf.stages).get(&(api, stage.clone())) {
        Some(variables) => stage_json(&stage, variables),
        None => rest_error(StatusCode::NOT_FOUND, "NotFoundException", "Invalid stage identifier specified"),
    }
}

async fn patch_stage(
    State(shelf): State<Arc<Shelf>>,
    Path((api, stage)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let input: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut stages = lock(&shelf.stages);
    let Some(variables) = stages.get_mut(&(api, stage.clone())) else {
        return rest_error(StatusCode::NOT_FOUND, "NotFoundException", "Invalid stage identifier specified");
    };
    let mut next = variables.clone();
    for op in input["patchOperations"].as_array().into_iter().flatten() {
        let name = op["path"].as_str().and_then(|p| p.strip_prefix("/variables/"));
        match (op["op"].as_str(), name, op["value"].as_str()) {
            (Some("replace" | "add"), Some(name), Some(value)) => drop(next.insert(name.to_owned(), value.to_owned())),
            _ => return rest_error(StatusCode::BAD_REQUEST, "BadRequestException", "Invalid patch path or op"),
        }
    }
    *variables = next;
    stage_json(&stage, variables)
}
