//! The application's HTTP server.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Floor, StepSeen, Written};
use crate::rehearsal::Scenario;
use crate::rehearsal::records::{Kind, Record, RecordKey};

pub(super) fn open(listener: TcpListener, floor: Arc<Floor>, stop: CancellationToken) {
    let shown = match floor.scenario {
        Scenario::Cloudshelf | Scenario::AuroraGradual => "/books/{id}",
        Scenario::V1ToV2 => "/payments/{id}",
    };
    let router = Router::new()
        .route("/health", get(health))
        .route(shown, get(record))
        .route("/probe", post(probe))
        // The second region's way in.
        .route("/eu/health", get(health_eu))
        .route(&format!("/eu{shown}"), get(record_eu))
        .route("/eu/probe", post(probe_eu))
        .with_state(floor);
    let listener = listener.tap_io(|io| {
        let _ = io.set_nodelay(true);
    });
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
            tracing::warn!("the application's front door: {e}");
        }
    });
}

async fn health(floor: State<Arc<Floor>>) -> Response {
    health_in(&floor, 0)
}

async fn health_eu(floor: State<Arc<Floor>>) -> Response {
    health_in(&floor, 1)
}

fn health_in(floor: &Floor, region: usize) -> Response {
    let settings = floor.settings.any(Some(region));
    let body = json!({
        "status": "ok",
        "alias": if settings.green { "green" } else { "blue" },
        "reads": settings.reads_from().name(),
        "writes": settings.writes_to().name(),
        "mode": if settings.frozen { "frozen" } else { "open" },
    });
    Json(body).into_response()
}

fn failed() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "error": "the request failed" }))).into_response()
}

async fn record(floor: State<Arc<Floor>>, id: Path<String>) -> Response {
    record_in(&floor, &id, 0).await
}

async fn record_eu(floor: State<Arc<Floor>>, id: Path<String>) -> Response {
    record_in(&floor, &id, 1).await
}

async fn record_in(floor: &Floor, id: &str, region: usize) -> Response {
    let kind = match floor.scenario {
        Scenario::Cloudshelf | Scenario::AuroraGradual => Kind::Book,
        Scenario::V1ToV2 => Kind::Payment,
    };
    let asked = if id == "probe" {
        floor.oracle.any(kind, &mut fastrand::Rng::new())
    } else {
        // An id that is no UUID is not searched for.
        uuid::Uuid::parse_str(id).ok().map(|id| RecordKey { kind, id: id.to_string() })
    };
    let absent = || (StatusCode::NOT_FOUND, Json(json!({ "error": "it is not here" }))).into_response();
    let Some(key) = asked else { return absent() };
    match floor.read(&key, Some(region)).await {
        StepSeen::Found(record, side) => match *record {
            Record::Book(b) => Json(json!({
                "id": b.id,
                "title": b.title,
                "author": b.author,
                "price": b.price.text(),
                "stock": b.stock,
                "servedBy": side.name(),
            }))
            .into_response(),
            Record::Payment(p) => Json(json!({
                "id": p.id,
                "account": p.account,
                "amount": p.amount.text(),
                "currency": p.currency,
                "state": p.state,
                "servedBy": side.name(),
            }))
            .into_response(),
            // Another kind than was asked for.
            Record::User(_)
            | Record::Order(_)
            | Record::Cart(_)
            | Record::Account(_)
            | Record::Session(_)
            | Record::Limit(_) => failed(),
        },
        // A record that was drawn from those that exist was deleted meanwhile, or is lost. Customers see 404 either way;
        // the oracle's comparison shows which.
        StepSeen::Absent(_) => absent(),
        StepSeen::Failed => failed(),
    }
}

async fn probe(State(floor): State<Arc<Floor>>, body: Bytes) -> Response {
    probe_in(floor, &body, 0).await
}

async fn probe_eu(State(floor): State<Arc<Floor>>, body: Bytes) -> Response {
    probe_in(floor, &body, 1).await
}

async fn probe_in(floor: Arc<Floor>, body: &[u8], region: usize) -> Response {
    let nonce = serde_json::from_slice::<Value>(body).ok();
    let nonce = nonce.as_ref().and_then(|v| v.get("nonce")).and_then(Value::as_str).unwrap_or_default().to_owned();
    // In a task of its own: a customer who hangs up must not tear a write apart.
    let written = tokio::spawn(async move { floor.probe(&nonce, region).await }).await;
    match written {
        Ok(Written::Acknowledged(side)) => Json(json!({ "acknowledged": true, "side": side.name() })).into_response(),
        Ok(Written::ReadOnly) => {
            let later = [(header::RETRY_AFTER, "1")];
            (StatusCode::SERVICE_UNAVAILABLE, later, Json(json!({ "error": "read-only" }))).into_response()
        }
        Ok(Written::Failed) | Err(_) => failed(),
    }
}
