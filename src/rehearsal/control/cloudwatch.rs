//! CloudWatch metrics: RPC v2 with CBOR bodies.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ciborium::Value;

use super::Plane;
use crate::rehearsal::held;

/// Values kept per series. A rehearsal publishes one a second; this is more than a day.
const KEPT: usize = 100_000;
/// Longest period of one value, in seconds: a day.
const LONGEST_PERIOD: i128 = 86_400;

/// Namespace, name, and dimensions in order of name.
type SeriesId = (String, String, Vec<(String, String)>);

/// One value that was put: when, what, how many times.
#[derive(Clone, Copy, Debug)]
struct Datum {
    at: f64,
    value: f64,
    count: f64,
}

/// All series.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<BTreeMap<SeriesId, VecDeque<Datum>>>);

type Answer = Result<Value, (&'static str, String)>;

pub(super) async fn call(
    State(plane): State<Arc<Plane>>,
    Path((service, operation)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = if service != "GraniteServiceVersion20100801" {
        Err(("UnknownOperationException", format!("no such service: {service}")))
    } else if headers.contains_key(header::CONTENT_ENCODING) {
        Err(("SerializationException", "compressed bodies are not read here; send fewer values at once".to_owned()))
    } else {
        let input = if body.is_empty() { Ok(Value::Map(vec![])) } else { ciborium::from_reader(body.as_ref()) };
        match input {
            Err(e) => Err(("SerializationException", e.to_string())),
            Ok(input) => match operation.as_str() {
                "PutMetricData" => put(&plane.metrics, &input),
                "GetMetricData" => get(&plane.metrics, &input),
                "ListMetrics" => list(&plane.metrics, &input),
                other => Err(("UnknownOperationException", format!("the rehearsal has no {other}"))),
            },
        }
    };
    let (status, value) = match answer {
        Ok(value) => (StatusCode::OK, value),
        Err((code, message)) => {
            (StatusCode::BAD_REQUEST, map(vec![("__type", string(code)), ("message", string(&message))]))
        }
    };
    let mut bytes = Vec::new();
    if ciborium::into_writer(&value, &mut bytes).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let protocol = HeaderName::from_static("smithy-protocol");
    (status, [(header::CONTENT_TYPE, "application/cbor"), (protocol, "rpc-v2-cbor")], bytes).into_response()
}

fn string(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn map(fields: Vec<(&str, Value)>) -> Value {
    Value::Map(fields.into_iter().map(|(k, v)| (string(k), v)).collect())
}

fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_map()?.iter().find(|(k, _)| k.as_text() == Some(name)).map(|(_, v)| v).filter(|v| !v.is_null())
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    field(value, name)?.as_text()
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(f) => Some(*f),
        Value::Integer(i) => Some(i128::from(*i) as f64),
        Value::Tag(1, inner) => number(inner),
        _ => None,
    }
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    field(value, name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn needed<'a>(value: &'a Value, name: &str) -> Result<&'a str, (&'static str, String)> {
    text(value, name)
        .filter(|t| !t.is_empty())
        .ok_or_else(|| ("MissingParameterException", format!("The parameter {name} is required.")))
}

fn dimensions(value: &Value) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = items(value, "Dimensions")
        .iter()
        .filter_map(|d| Some((text(d, "Name")?.to_owned(), text(d, "Value")?.to_owned())))
        .collect();
    pairs.sort();
    pairs
}

fn put(metrics: &Metrics, input: &Value) -> Answer {
    let namespace = needed(input, "Namespace")?;
    let mut new = Vec::new();
    for datum in items(input, "MetricData") {
        let id = (namespace.to_owned(), needed(datum, "MetricName")?.to_owned(), dimensions(datum));
        let at = field(datum, "Timestamp").and_then(number).unwrap_or_else(super::now);
        let mut values: Vec<Datum> = Vec::new();
        if let Some(value) = field(datum, "Value").and_then(number) {
            values.push(Datum { at, value, count: 1.0 });
        }
        let counts = items(datum, "Counts");
        for (i, value) in items(datum, "Values").iter().filter_map(number).enumerate() {
            values.push(Datum { at, value, count: counts.get(i).and_then(number).unwrap_or(1.0) });
        }
        if field(datum, "StatisticValues").is_some() {
            return Err((
                "InvalidParameterValueException",
                "StatisticValues are not kept here; send values".to_owned(),
            ));
        }
        if values.is_empty() || values.iter().any(|d| !d.value.is_finite()) {
            return Err(("InvalidParameterValueException", "each datum needs finite values".to_owned()));
        }
        new.push((id, values));
    }
    let mut all = held(&metrics.0);
    for (id, values) in new {
        let series = all.entry(id).or_default();
        series.extend(values);
        while series.len() > KEPT {
            series.pop_front();
        }
    }
    Ok(map(vec![]))
}

/// What is computed over the values of a period.
#[derive(Clone, Copy)]
enum Statistic {
    Average,
    Sum,
    Minimum,
    Maximum,
    SampleCount,
    Percentile(f64),
}

impl Statistic {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "Average" => Self::Average,
            "Sum" => Self::Sum,
            "Minimum" => Self::Minimum,
            "Maximum" => Self::Maximum,
            "SampleCount" => Self::SampleCount,
            other => {
                let percent = other.strip_prefix('p')?.parse::<f64>().ok()?;
                (0.0..=100.0).contains(&percent).then_some(Self::Percentile(percent))?
            }
        })
    }

    /// `data` is not empty.
    fn of(self, data: &mut [Datum]) -> f64 {
        let count: f64 = data.iter().map(|d| d.count).sum();
        let sum: f64 = data.iter().map(|d| d.value * d.count).sum();
        match self {
            Self::Average => sum / count,
            Self::Sum => sum,
            Self::SampleCount => count,
            Self::Minimum => data.iter().map(|d| d.value).fold(f64::INFINITY, f64::min),
            Self::Maximum => data.iter().map(|d| d.value).fold(f64::NEG_INFINITY, f64::max),
            Self::Percentile(percent) => {
                data.sort_by(|a, b| a.value.total_cmp(&b.value));
                let wanted = (percent / 100.0 * count).max(f64::MIN_POSITIVE);
                let mut seen = 0.0;
                for d in data.iter() {
                    seen += d.count;
                    if seen >= wanted - 1e-9 {
                        return d.value;
                    }
                }
                data.last().map_or(f64::NAN, |d| d.value)
            }
        }
    }
}

fn get(metrics: &Metrics, input: &Value) -> Answer {
    let invalid = |message: &str| ("ValidationError", message.to_owned());
    let time = |name: &str| field(input, name).and_then(number).ok_or_else(|| invalid(&format!("{name} is required.")));
    let (start, end) = (time("StartTime")?, time("EndTime")?);
    if start >= end {
        return Err(invalid("The parameter StartTime must be less than the parameter EndTime."));
    }
    if field(input, "NextToken").is_some() {
        return Err(("InvalidNextToken", "every answer here is whole".to_owned()));
    }
    let ascending = match text(input, "ScanBy") {
        None | Some("TimestampDescending") => false,
        Some("TimestampAscending") => true,
        Some(other) => return Err(invalid(&format!("ScanBy {other} is unknown"))),
    };
    let queries = items(input, "MetricDataQueries");
    if queries.is_empty() || queries.len() > 500 {
        return Err(invalid("MetricDataQueries must hold 1 to 500 queries"));
    }
    let all = held(&metrics.0);
    let mut results = Vec::new();
    for query in queries {
        let id = needed(query, "Id")?;
        // An emulator that answers expressions with nothing would let gates pass wrongly.
        if field(query, "Expression").is_some() {
            return Err(invalid("expressions are not computed here; ask for a MetricStat"));
        }
        let stat = field(query, "MetricStat").ok_or_else(|| invalid("each query needs a MetricStat"))?;
        let metric = field(stat, "Metric").ok_or_else(|| invalid("each MetricStat needs a Metric"))?;
        let period = field(stat, "Period").and_then(Value::as_integer).map(i128::from);
        let period = period
            .filter(|p| (1..=LONGEST_PERIOD).contains(p) && (matches!(p, 1 | 5 | 10 | 20 | 30) || p % 60 == 0))
            .ok_or_else(|| invalid("Period must be 1, 5, 10, 20, 30 or a multiple of 60"))?;
        let statistic = text(stat, "Stat").and_then(Statistic::parse).ok_or_else(|| invalid("Stat is unknown"))?;
        let name = needed(metric, "MetricName")?;
        let series = (needed(metric, "Namespace")?.to_owned(), name.to_owned(), dimensions(metric));

        let mut periods: BTreeMap<i64, Vec<Datum>> = BTreeMap::new();
        for datum in all.get(&series).into_iter().flatten() {
            let bucket = (datum.at / period as f64).floor() as i64 * period as i64;
            if bucket as f64 >= (start / period as f64).floor() * period as f64 && (bucket as f64) < end {
                periods.entry(bucket).or_default().push(*datum);
            }
        }
        let mut points: Vec<(i64, f64)> = periods.into_iter().map(|(at, mut d)| (at, statistic.of(&mut d))).collect();
        if !ascending {
            points.reverse();
        }
        results.push(map(vec![
            ("Id", string(id)),
            ("Label", string(text(query, "Label").unwrap_or(name))),
            (
                "Timestamps",
                Value::Array(points.iter().map(|p| Value::Tag(1, Box::new(Value::Float(p.0 as f64)))).collect()),
            ),
            ("Values", Value::Array(points.iter().map(|p| Value::Float(p.1)).collect())),
            ("StatusCode", string("Complete")),
        ]));
    }
    Ok(map(vec![("MetricDataResults", Value::Array(results))]))
}

fn list(metrics: &Metrics, input: &Value) -> Answer {
    let filters: Vec<(&str, Option<&str>)> =
        items(input, "Dimensions").iter().filter_map(|d| Some((text(d, "Name")?, text(d, "Value")))).collect();
    let fits = |id: &SeriesId| {
        text(input, "Namespace").is_none_or(|n| n == id.0)
            && text(input, "MetricName").is_none_or(|n| n == id.1)
            && filters.iter().all(|(name, value)| id.2.iter().any(|(n, v)| n == name && value.is_none_or(|w| w == v)))
    };
    let all = held(&metrics.0);
    let found = all.keys().filter(|id| fits(id)).map(|(namespace, name, dimensions)| {
        let dimensions = dimensions.iter().map(|(n, v)| map(vec![("Name", string(n)), ("Value", string(v))])).collect();
        map(vec![
            ("Namespace", string(namespace)),
            ("MetricName", string(name)),
            ("Dimensions", Value::Array(dimensions)),
        ])
    });
    Ok(map(vec![("Metrics", Value::Array(found.collect()))]))
}
