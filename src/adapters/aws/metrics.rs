//! CloudWatch metrics in batches (FEATURES D1).

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_cloudwatch::types::{Dimension, Metric as SdkMetric, MetricDataQuery, MetricStat, ScanBy};
use aws_smithy_types::DateTime;

use super::error::port_error;
use crate::domain::at::At;
use crate::domain::gauge::Reading;
use crate::domain::plan::Metric;
use crate::ports::{Metrics, PortResult};

/// Most queries one `GetMetricData` call takes (API reference).
const BATCH: usize = 500;
/// How many periods back a value may lie; CloudWatch publishes late.
const PERIODS_BACK: i64 = 5;

/// Reads metrics through the official SDK.
#[derive(Clone, Debug)]
pub struct CloudWatchMetrics {
    client: aws_sdk_cloudwatch::Client,
}

impl CloudWatchMetrics {
    /// A client over one session; an endpoint overrides AWS's own.
    #[must_use]
    pub fn new(session: &SdkConfig, at: Option<&str>) -> Self {
        let mut config = aws_sdk_cloudwatch::config::Builder::from(session);
        if let Some(endpoint) = at {
            config = config.endpoint_url(endpoint);
        }
        Self { client: aws_sdk_cloudwatch::Client::from_conf(config.build()) }
    }

    async fn batch(&self, metrics: &[Metric], now: At) -> PortResult<Vec<Reading>> {
        let longest = metrics.iter().map(|m| i64::from(m.period_s)).max().unwrap_or(60);
        let queries: Vec<MetricDataQuery> = metrics.iter().enumerate().map(|(i, m)| query(i, m)).collect();
        let mut points: Vec<Vec<(At, f64)>> = vec![Vec::new(); metrics.len()];
        let mut next = None;
        loop {
            let answer = self
                .client
                .get_metric_data()
                .set_metric_data_queries(Some(queries.clone()))
                .start_time(DateTime::from_millis(now.plus(-longest * PERIODS_BACK * 1000).0))
                // The end is exclusive; the running period must be in it.
                .end_time(DateTime::from_millis(now.plus(longest * 1000).0))
                .scan_by(ScanBy::TimestampDescending)
                .set_next_token(next)
                .send()
                .await
                .map_err(|e| port_error("read metrics", "CloudWatch", &e))?;
            for result in answer.metric_data_results() {
                let index = result.id().and_then(|id| id.strip_prefix('m')).and_then(|n| n.parse::<usize>().ok());
                let Some(points) = index.and_then(|i| points.get_mut(i)) else { continue };
                let told = result.timestamps().iter().zip(result.values());
                points.extend(told.map(|(at, value)| (At(at.to_millis().unwrap_or(0)), *value)));
            }
            next = answer.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        Ok(metrics.iter().zip(&points).map(|(metric, points)| newest(metric, points, now)).collect())
    }
}

/// What a metric says now, of its periods (each with its beginning, in any order).
///
/// A value stands for its whole period: its age counts from the period's end. A sum or a maximum of the period that is under
/// way is not whole yet and can only grow, so it counts where it is more than that of the last whole one already, or where
/// there is no whole one.
fn newest(metric: &Metric, points: &[(At, f64)], now: At) -> Reading {
    let length = i64::from(metric.period_s) * 1000;
    let grows = matches!(metric.statistic.as_str(), "Sum" | "SampleCount" | "Maximum");
    let last = |whole: bool| {
        let of_them = points.iter().filter(|(at, _)| (at.plus(length) <= now) == whole);
        of_them.max_by_key(|(at, _)| *at).copied()
    };
    let (at, value) = match (last(true), last(false)) {
        (Some(whole), Some(running)) if grows && running.1 <= whole.1 => whole,
        (_, Some(running)) => running,
        (Some(whole), None) => whole,
        (None, None) => return Reading::default(),
    };
    Reading::new(value, at.plus(length).min(now))
}

fn query(index: usize, metric: &Metric) -> MetricDataQuery {
    let dimensions = metric
        .dimensions
        .iter()
        .map(|(name, value)| Dimension::builder().name(name).value(value).build())
        .collect::<Vec<_>>();
    let what = SdkMetric::builder()
        .namespace(&metric.namespace)
        .metric_name(&metric.name)
        .set_dimensions(Some(dimensions))
        .build();
    let stat = MetricStat::builder().metric(what).period(metric.period_s).stat(&metric.statistic).build();
    MetricDataQuery::builder().id(format!("m{index}")).metric_stat(stat).return_data(true).build()
}

#[async_trait]
impl Metrics for CloudWatchMetrics {
    async fn latest(&self, metrics: &[Metric], now: At) -> PortResult<Vec<Reading>> {
        let mut readings = Vec::with_capacity(metrics.len());
        for chunk in metrics.chunks(BATCH) {
            readings.extend(self.batch(chunk, now).await?);
        }
        Ok(readings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(statistic: &str) -> Metric {
        Metric {
            namespace: "AWS/ApiGateway".into(),
            name: "5XXError".into(),
            dimensions: Vec::new(),
            statistic: statistic.into(),
            period_s: 60,
        }
    }

    #[test]
    fn a_sum_that_is_under_way_counts_only_where_it_is_more_than_the_last_whole_one() {
        let now = At(150_000);
        let say = |statistic, points: &[(i64, f64)]| {
            let points: Vec<_> = points.iter().map(|(at, value)| (At(*at), *value)).collect();
            let found = newest(&metric(statistic), &points, now);
            (found.value, found.at.0)
        };
        assert_eq!(say("Sum", &[(120_000, 3.0), (60_000, 50.0), (0, 70.0)]), (Some(50.0), 120_000));
        assert_eq!(say("Sum", &[(0, 70.0), (60_000, 50.0), (120_000, 51.0)]), (Some(51.0), 150_000));
        assert_eq!(say("SampleCount", &[(60_000, 50.0), (120_000, 3.0)]), (Some(50.0), 120_000));
        assert_eq!(say("Maximum", &[(60_000, 50.0), (120_000, 3.0)]), (Some(50.0), 120_000));
        assert_eq!(say("Average", &[(60_000, 50.0), (120_000, 3.0)]), (Some(3.0), 150_000), "whole at any moment");
        assert_eq!(say("Sum", &[(120_000, 3.0)]), (Some(3.0), 150_000), "there is nothing else");
        assert_eq!(say("Sum", &[]), (None, 0));
    }
}
