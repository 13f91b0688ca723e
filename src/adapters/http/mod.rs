//! HTTP probes and the pooled client under them.

mod client;
mod probe;

pub use client::{HttpClient, HttpClientError, http_client};
pub use probe::HttpProbes;
