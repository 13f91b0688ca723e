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
/// How far back a value may lie: so many periods, and so long at least. CloudWatch publishes late.
const PERIODS_BACK: i64 = 5;
const BACK_MS: i64 = 300_000;

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
                .start_time(DateTime::from_millis(now.plus(-(longest * PERIODS_BACK * 1000).max(BACK_MS)).0))
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

/// How long after its end a period may still grow: values are published late (CloudWatch user guide, and what people
/// report of many services).
const SETTLES_MS: i64 = 120_000;

/// What a metric says now, of its periods (each with its beginning, in any order).
///
/// A value stands for its whole period: its age counts from the period's end. A sum or a maximum that is under way, or has
/// just ended, is not whole yet and can only grow: the most of these and of the last settled one before them counts.
fn newest(metric: &Metric, points: &[(At, f64)], now: At) -> Reading {
    let length = i64::from(metric.period_s) * 1000;
    let grows = matches!(metric.statistic.as_str(), "Sum" | "SampleCount" | "Maximum");
    let Some(&(at, value)) = points.iter().max_by_key(|(at, _)| *at) else { return Reading::default() };
    let newest_end = at.plus(length).min(now);
    if !grows {
        return Reading::new(value, newest_end);
    }
    // The settled one that stands right before those that are not.
    let since = now.plus(-SETTLES_MS - 2 * length);
    let most = points.iter().filter(|(at, _)| at.plus(length) > since).map(|(_, value)| *value).reduce(f64::max);
    Reading::new(most.unwrap_or(value), newest_end)
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
    fn a_sum_that_may_still_grow_does_not_hide_the_one_before_it() {
        let say = |statistic, now, points: &[(i64, f64)]| {
            let points: Vec<_> = points.iter().map(|(at, value)| (At(*at), *value)).collect();
            let found = newest(&metric(statistic), &points, At(now));
            (found.value, found.at.0)
        };
        // Under way, and just ended: both may lack most of their values.
        assert_eq!(say("Sum", 150_000, &[(120_000, 3.0), (60_000, 50.0), (0, 7.0)]), (Some(50.0), 150_000));
        assert_eq!(say("Sum", 125_000, &[(0, 50.0), (60_000, 3.0)]), (Some(50.0), 120_000));
        assert_eq!(say("Maximum", 125_000, &[(60_000, 3.0), (0, 50.0)]), (Some(50.0), 120_000));
        // More already is more.
        assert_eq!(say("SampleCount", 125_000, &[(0, 50.0), (60_000, 51.0)]), (Some(51.0), 120_000));
        // It was long ago: what came since has settled.
        let calm = [(0, 50.0), (60_000, 0.0), (120_000, 0.0), (180_000, 0.0), (240_000, 0.0)];
        assert_eq!(say("Sum", 310_000, &calm), (Some(0.0), 300_000));
        assert_eq!(
            say("Sum", 310_000, &[(0, 50.0), (240_000, 3.0)]),
            (Some(3.0), 300_000),
            "nothing stands right before it"
        );
        assert_eq!(
            say("Average", 150_000, &[(60_000, 50.0), (120_000, 3.0)]),
            (Some(3.0), 150_000),
            "whole at any moment"
        );
        assert_eq!((say("Sum", 400_000, &[(0, 9.0)]), say("Sum", 1, &[])), ((Some(9.0), 60_000), (None, 0)));
    }
}
