//! Where Prometheus reads the run's numbers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::out::say;
use crate::adapters::http::{self, MetricsForm};
use crate::engine::MachineClock;
use crate::engine::handle::Handle;
use crate::ports::Clock;
use crate::report::metrics;

/// Listens. A place that is taken is no reason not to drive a run: it is said, and the run goes on without.
pub async fn listen(at: SocketAddr) -> Option<TcpListener> {
    match TcpListener::bind(at).await {
        Ok(listener) => Some(listener),
        Err(e) => {
            say(&format!("warning: {}", taken(at, &e)));
            tracing::warn!(%at, error = %e, "metrics are not served");
            None
        }
    }
}

/// What is said of a place that cannot be listened on.
pub fn taken(at: SocketAddr, e: &std::io::Error) -> String {
    format!("metrics are not served: {at} cannot be listened on: {e}; name another port under [metrics]")
}

/// Serves the newest snapshot until `stop`.
pub fn serve(listener: TcpListener, handle: Handle, stop: CancellationToken) {
    let clock = MachineClock::default();
    let page = Arc::new(move |form| metrics(&handle.snapshot(), clock.wall(), form == MetricsForm::OpenMetrics));
    http::serve(listener, page, stop);
}
