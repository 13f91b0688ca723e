//! A stand-in for exactly the calls of the control plane that a cutover makes: Parameter Store, CloudWatch, API Gateway, Auto
//! Scaling, RDS, Secrets Manager.
//!
//! It speaks the protocols of the official SDKs: JSON 1.1, CBOR, REST JSON and Query. What it does not know it refuses
//! with a typed error; nothing is silently accepted.

mod autoscaling;
mod cloudwatch;
mod gateway;
mod query;
mod rds;
mod secrets;
mod ssm;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::fault::Faults;
use crate::private::{RehearsalError, RehearsalResult};

pub use gateway::Stage;
pub use ssm::ParameterKind;

/// What the stand-in holds.
#[derive(Debug, Default)]
struct Plane {
    parameters: ssm::Parameters,
    metrics: cloudwatch::Metrics,
    stages: gateway::Stages,
    groups: autoscaling::Groups,
    databases: rds::Databases,
    secrets: secrets::Secrets,
    faults: Faults,
}

/// A running stand-in. Dropping it stops the server.
#[derive(Debug)]
pub struct ControlPlane {
    endpoint: String,
    plane: Arc<Plane>,
    _stop: oneshot::Sender<()>,
}

impl ControlPlane {
    /// Starts an empty stand-in on a free loopback port.
    pub async fn start(faults: Faults) -> RehearsalResult<Self> {
        let failed = |e| RehearsalError::new("start", "the control plane stand-in", e);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let endpoint = format!("http://{}", listener.local_addr().map_err(failed)?);
        let plane = Arc::new(Plane { faults, ..Plane::default() });
        let router = router(Arc::clone(&plane));
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = listener.tap_io(|io| {
            let _ = io.set_nodelay(true);
        });
        tokio::spawn(async move {
            let end = async {
                let _ = stopped.await;
            };
            if let Err(e) = axum::serve(listener, router).with_graceful_shutdown(end).await {
                tracing::warn!("control plane stand-in: {e}");
            }
        });
        Ok(Self { endpoint, plane, _stop: stop })
    }

    /// Where it answers: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Puts a cluster there with one instance, called as the cluster with `-1` behind it.
    pub fn put_cluster(&self, name: &str) {
        self.plane.databases.put(name);
    }

    /// Puts a secret there.
    pub fn put_secret(&self, name: &str) {
        self.plane.secrets.put(name);
    }

    /// Puts an Auto Scaling group there: creating groups is not among the calls it knows.
    pub fn put_group(&self, name: &str) {
        self.plane.groups.put(name);
    }

    /// Puts a stage there: creating APIs is not among the calls it knows.
    pub fn put_stage(&self, api: &str, stage: &str, variables: &[(&str, &str)]) {
        self.plane.stages.put(api, stage, variables);
    }
}

fn router(plane: Arc<Plane>) -> Router {
    Router::new()
        .route("/", post(json_call))
        .route("/service/{service}/operation/{operation}", post(cloudwatch::call))
        .route("/restapis/{api}/stages/{stage}", get(gateway::get_stage).patch(gateway::patch_stage))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(2 * 1024 * 1024))
        .with_state(plane)
}

async fn unknown() -> Response {
    gateway::error(StatusCode::NOT_FOUND, "UnknownOperationException", "the rehearsal's control plane has no such call")
}

/// A refusal in the JSON protocols' form.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }

    fn internal(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: "InternalServerError", message: message.into() }
    }
}

async fn json_call(State(plane): State<Arc<Plane>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if text("content-type").starts_with("application/x-www-form-urlencoded") {
        return query_call(&plane, &body).await;
    }
    let target = text("x-amz-target");
    let input =
        serde_json::from_slice::<Value>(&body).map_err(|e| Refusal::new("SerializationException", e.to_string()));
    let answer = match (target.split_once('.'), input) {
        (_, Err(wrong)) => Err(wrong),
        (Some(("AmazonSSM", operation)), Ok(input)) => ssm::call(&plane, operation, &input).await,
        (Some(("secretsmanager", operation)), Ok(input)) => secrets::call(&plane, operation, &input),
        (Some(_) | None, Ok(_)) => Err(Refusal::new("UnknownOperationException", format!("no such target: {target}"))),
    };
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(r) => (r.status, json!({ "__type": r.code, "message": r.message })),
    };
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.1")], body.to_string()).into_response()
}

/// An action of the Query protocol. Services differ in their actions.
async fn query_call(plane: &Plane, body: &[u8]) -> Response {
    let form = query::Form::read(body);
    let action = form.get("Action").unwrap_or_default().to_owned();
    let called = autoscaling::call(plane, &action, &form).or_else(|| rds::call(plane, &action, &form));
    let result = match called {
        Some(result) => result,
        None => Err(Refusal::new("InvalidAction", format!("no such action: {action}"))),
    };
    query::answer(&action, result)
}

/// Seconds since the epoch, as these services write times.
fn now() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1000.0
}

#[cfg(test)]
mod tests;
