//! The stand-in's CloudWatch: `rpc-v2-cbor`, as the Rust SDK speaks it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ciborium::Value;

use super::control::Shelf;

/// How long samples are kept, in seconds.
const KEPT_S: f64 = 3_600.0;

/// Samples by namespace, name and dimensions.
#[derive(Debug, Default)]
pub struct Metrics(BTreeMap<String, Vec<(f64, f64)>>);

/// Seconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "the stand-in stamps as a service does")]
pub fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

fn field<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    value.as_map()?.iter().find(|(k, _)| k.as_text() == Some(name)).map(|(_, v)| v)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    field(value, name).and_then(Value::as_text).unwrap_or_default()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    field(value, name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(x) => Some(*x),
        Value::Integer(i) => Some(i128::from(*i) as f64),
        Value::Tag(1, inner) => number(inner),
        _ => None,
    }
}

fn series(namespace: &str, metric: &Value) -> String {
    let mut dimensions: Vec<String> =
        list(metric, "Dimensions").iter().map(|d| format!("{}={}", text(d, "Name"), text(d, "Value"))).collect();
    dimensions.sort_unstable();
    format!("{namespace}/{}/{}", text(metric, "MetricName"), dimensions.join(","))
}

fn reply(status: StatusCode, value: &Value) -> Response {
    let mut body = Vec::new();
    if ciborium::into_writer(value, &mut body).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    (status, [("content-type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")], body).into_response()
}

fn map(entries: Vec<(&str, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(k, v)| (Value::Text(k.to_owned()), v)).collect())
}

fn error(kind: &str, message: &str) -> Response {
    let body = map(vec![("__type", Value::Text(kind.into())), ("message", Value::Text(message.into()))]);
    reply(StatusCode::BAD_REQUEST, &body)
}

/// One CloudWatch operation.
pub async fn operation(
    State(shelf): State<Arc<Shelf>>,
    Path((_, operation)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let Ok(input) = ciborium::from_reader::<Value, _>(body.as_ref()) else {
        return error("SerializationException", "the body is not CBOR");
    };
    let mut metrics = shelf.metrics.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match operation.as_str() {
        "PutMetricData" => {
            metrics.put(&input);
            reply(StatusCode::OK, &map(vec![]))
        }
        "GetMetricData" => reply(StatusCode::OK, &metrics.get(&input)),
        _ => error("UnknownOperationException", "this stand-in does not know that operation"),
    }
}

impl Metrics {
    fn put(&mut self, input: &Value) {
        let namespace = text(input, "Namespace");
        for datum in list(input, "MetricData") {
            let at = field(datum, "Timestamp").and_then(number).unwrap_or_else(now_s);
            let samples = self.0.entry(series(namespace, datum)).or_default();
            samples.extend(field(datum, "Value").and_then(number).map(|v| (at, v)));
            samples.extend(list(datum, "Values").iter().filter_map(number).map(|v| (at, v)));
            samples.retain(|(then, _)| at - then <= KEPT_S);
        }
    }

    fn get(&self, input: &Value) -> Value {
        let start = field(input, "StartTime").and_then(number).unwrap_or(0.0);
        let end = field(input, "EndTime").and_then(number).unwrap_or(f64::MAX);
        let ascending = text(input, "ScanBy") == "TimestampAscending";
        let results = list(input, "MetricDataQueries").iter().map(|query| {
            let stat = field(query, "MetricStat").cloned().unwrap_or(Value::Null);
            let metric = field(&stat, "Metric").cloned().unwrap_or(Value::Null);
            let period = field(&stat, "Period").and_then(number).unwrap_or(60.0).max(1.0);
            let mut slots: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
            for (at, value) in self.0.get(&series(text(&metric, "Namespace"), &metric)).into_iter().flatten() {
                if *at >= start && *at < end {
                    slots.entry((at / period).floor() as i64).or_default().push(*value);
                }
            }
            let mut points: Vec<(f64, f64)> = slots
                .into_iter()
                .filter_map(|(slot, values)| Some((slot as f64 * period, statistic(text(&stat, "Stat"), values)?)))
                .collect();
            if !ascending {
                points.reverse();
            }
            map(vec![
                ("Id", Value::Text(text(query, "Id").to_owned())),
                ("Label", Value::Text(text(&metric, "MetricName").to_owned())),
                ("StatusCode", Value::Text("Complete".to_owned())),
                ("Timestamps", points.iter().map(|(at, _)| Value::Tag(1, Box::new(Value::Float(*at)))).collect::<Vec<_>>().into()),
                ("Values", points.iter().map(|(_, v)| Value::Float(*v)).collect::<Vec<_>>().into()),
            ])
        });
        map(vec![("MetricDataResults", results.collect::<Vec<_>>().into())])
    }
}

/// A statistic over the values of one period. Unknown ones have no value, as an absent metric has none.
fn statistic(name: &str, mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len() as f64;
    match name {
        "Sum" => Some(values.iter().sum()),
        "Average" => Some(values.iter().sum::<f64>() / count),
        "Maximum" => values.last().copied(),
        "Minimum" => values.first().copied(),
        "SampleCount" => Some(count),
        percentile => {
            let p: f64 = percentile.strip_prefix('p')?.parse().ok()?;
            let rank = (count * p / 100.0).ceil().max(1.0) as usize;
            values.get(rank - 1).copied()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::statistic;

    #[test]
    fn statistics_are_what_they_say() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(statistic("p95", values.clone()), Some(95.0));
        assert_eq!(statistic("Average", values.clone()), Some(50.5));
        assert_eq!(statistic("Sum", values.clone()), Some(5050.0));
        assert_eq!(statistic("nonsense", values), None);
    }
}
