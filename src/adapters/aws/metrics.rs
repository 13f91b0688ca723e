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
        let mut readings = vec![Reading::default(); metrics.len()];
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
                let Some(reading) = index.and_then(|i| readings.get_mut(i)) else { continue };
                // Emulators disagree on the order, so the newest value is searched for.
                for (at, value) in result.timestamps().iter().zip(result.values()) {
                    let at = At(at.to_millis().unwrap_or(0));
                    if reading.value.is_none() || at > reading.at {
                        *reading = Reading::new(*value, at);
                    }
                }
            }
            next = answer.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        // A value stands for its whole period: its age counts from the period's end, not its start.
        for (reading, metric) in readings.iter_mut().zip(metrics) {
            if reading.value.is_some() {
                reading.at = reading.at.plus(i64::from(metric.period_s) * 1000).min(now);
            }
        }
        Ok(readings)
    }
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
