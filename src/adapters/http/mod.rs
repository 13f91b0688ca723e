//! HTTP probes and the pooled client under them.

mod client;
mod probe;
mod serve;

pub use client::{HttpClient, HttpClientError, http_client};
pub use probe::{HttpProbes, root_cause};
pub use serve::{MetricsForm, serve};
