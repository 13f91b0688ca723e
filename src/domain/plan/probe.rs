//! What is watched: HTTP probes and named signals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One HTTP probe (FEATURES D2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Short name: `writes`.
    pub id: String,
    /// `GET`, `POST`, ...
    pub method: String,
    /// Full URL.
    pub url: String,
    /// Request body, if any; `{nonce}` is replaced by a fresh one.
    pub body: Option<String>,
    /// Statuses that mean the request was served; empty means any 2xx.
    pub accept: Vec<u16>,
    /// Statuses that mean writes are refused on purpose (the freeze), usually 503.
    pub refused: Vec<u16>,
    /// Text the answer must hold to count as served.
    pub contains: Option<String>,
    /// Pause between two probes, in milliseconds.
    pub every_ms: u64,
    /// Longest wait for an answer, in milliseconds.
    pub timeout_ms: u64,
}

impl Probe {
    /// Where it goes, for people: scheme, host and path. What may be a secret (a user, a query) is left out.
    #[must_use]
    pub fn place(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (host, path) = rest[..end].split_at(rest[..end].find('/').unwrap_or(end));
        let host = host.rsplit('@').next().unwrap_or_default();
        if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
    }
}

/// Which side a number belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The side that is being left.
    Old,
    /// The side that is being moved to.
    New,
    /// Neither, or both.
    Both,
}

/// A number that is watched, with the limit it is judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Name used by gates and screens: `errors`, `lag`.
    pub id: String,
    /// Unit as shown: `ms`, `%`, `s`, or empty.
    pub unit: String,
    /// Where it comes from.
    pub source: SignalSource,
    /// The side it belongs to.
    pub side: Side,
    /// Above this it is red; absent means it is only shown.
    pub limit: Option<f64>,
    /// Older than this it is stale, and gates treat it as not met; milliseconds.
    pub stale_ms: i64,
}

/// Where a signal's number comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalSource {
    /// Largest apply lag over all tables, seconds.
    Lag,
    /// Largest marker round trip over all tables, seconds.
    MarkerRoundTrip,
    /// Rows that differ, are missing or extra in the last full verification.
    Mismatches,
    /// Percentage of rows that matched in the last full verification.
    MatchRate,
    /// Rows parked now.
    Parked,
    /// Rows not accounted for: `source - target - parked - expired`, after exact counts.
    Unaccounted,
    /// Share of the stream's retention that will be used up before the oldest unread record is read, percent.
    Trim,
    /// Log that the servers of PostgreSQL sources keep because a slot of ours has not confirmed it, worst source, MB.
    RetainedLog,
    /// Latency p95 of a probe over the last minute, milliseconds.
    ProbeP95(String),
    /// Share of failed probes over the last minute, percent.
    ProbeErrors(String),
    /// Measured write interruption so far, seconds.
    Downtime,
    /// Age of the oldest write of the new side that is not applied to the old side, seconds.
    ReverseLag,
    /// Writes of somebody else on the old side since customers left it.
    Strays,
    /// A CloudWatch metric (FEATURES D1).
    CloudWatch(Metric),
}

/// One CloudWatch metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// `AWS/ApiGateway`, or the application's own namespace.
    pub namespace: String,
    /// Metric name.
    pub name: String,
    /// Dimensions as name and value.
    pub dimensions: Vec<(String, String)>,
    /// `Average`, `Sum`, `Maximum`, `p95`, ...
    pub statistic: String,
    /// Period in seconds.
    pub period_s: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_holds_neither_user_nor_query() {
        let place = |url: &str| {
            let probe = Probe {
                id: "p".into(),
                method: "GET".into(),
                url: url.into(),
                body: None,
                accept: vec![],
                refused: vec![],
                contains: None,
                every_ms: 1,
                timeout_ms: 1,
            };
            probe.place()
        };
        assert_eq!(place("https://shop.example/books/1"), "https://shop.example/books/1");
        assert_eq!(place("https://me:hunter2@shop.example:8443/a/b?token=t#f"), "https://shop.example:8443/a/b");
        assert_eq!(place("http://u:p@x?token=a/b"), "http://x");
        assert_eq!(place("http://u:p%40@x"), "http://x");
    }
}
