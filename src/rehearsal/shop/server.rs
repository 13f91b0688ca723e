//! The shop's HTTP server.

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
use crate::rehearsal::records::{Kind, Record, RecordKey};

pub(super) fn open(listener: TcpListener, floor: Arc<Floor>, stop: CancellationToken) {
    let router = Router::new()
        .route("/health", get(health))
        .route("/books/{id}", get(book))
        .route("/probe", post(probe))
        .with_state(floor);
    let listener = listener.tap_io(|io| {
        let _ = io.set_nodelay(true);
    });
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
            tracing::warn!("the shop's front door: {e}");
        }
    });
}

async fn health(State(floor): State<Arc<Floor>>) -> Response {
    let settings = floor.settings.now();
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

async fn book(State(floor): State<Arc<Floor>>, Path(id): Path<String>) -> Response {
    let asked = if id == "probe" {
        floor.oracle.any(Kind::Book, &mut fastrand::Rng::new())
    } else {
        // An id that is no UUID is not searched for.
        uuid::Uuid::parse_str(&id).ok().map(|id| RecordKey { kind: Kind::Book, id: id.to_string() })
    };
    let absent = || (StatusCode::NOT_FOUND, Json(json!({ "error": "no such book" }))).into_response();
    let Some(key) = asked else { return absent() };
    match floor.read(&key).await {
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
            _ => failed(),
        },
        // A book that was drawn from those that exist was deleted meanwhile, or is lost. Customers see 404 either way;
        // the oracle's comparison shows which.
        StepSeen::Absent(_) => absent(),
        StepSeen::Failed => failed(),
    }
}

async fn probe(State(floor): State<Arc<Floor>>, body: Bytes) -> Response {
    let nonce = serde_json::from_slice::<Value>(&body).ok();
    let nonce = nonce.as_ref().and_then(|v| v.get("nonce")).and_then(Value::as_str).unwrap_or_default().to_owned();
    // In a task of its own: a customer who hangs up must not tear a write apart.
    let written = tokio::spawn(async move { floor.probe(&nonce).await }).await;
    match written {
        Ok(Written::Acknowledged(side)) => Json(json!({ "acknowledged": true, "side": side.name() })).into_response(),
        Ok(Written::ReadOnly) => {
            let later = [(header::RETRY_AFTER, "1")];
            (StatusCode::SERVICE_UNAVAILABLE, later, Json(json!({ "error": "read-only" }))).into_response()
        }
        Ok(Written::Failed) | Err(_) => failed(),
    }
}
