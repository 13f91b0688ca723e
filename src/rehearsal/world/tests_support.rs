//! What tests of the shop and of the world share.

use std::time::{Duration, Instant};

use aws_sdk_apigateway::types::{Op, PatchOperation};
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat};
use aws_smithy_types::DateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{PgAddress, Rates, Sizes, World, WorldOptions, session};

/// A small, busy world.
pub(in crate::rehearsal) fn small(pg: PgAddress) -> WorldOptions {
    WorldOptions {
        sizes: Sizes { books: 150, users: 40, orders: 60, carts: 5 },
        rates: Rates { reads: 100.0, writes: 120.0 },
        poll: Duration::from_millis(50),
        ..WorldOptions::new(pg)
    }
}

/// Waits for a condition, not for ever.
pub(in crate::rehearsal) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(180), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A request to the shop: status and body.
pub(in crate::rehearsal) async fn http(world: &World, method: &str, path: &str, body: &str) -> (u16, String) {
    let address = world.shop().url().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// The hands of somebody who flips switches.
pub(in crate::rehearsal) struct Switchboard {
    ssm: aws_sdk_ssm::Client,
    gateway: aws_sdk_apigateway::Client,
    metrics: aws_sdk_cloudwatch::Client,
}

impl Switchboard {
    pub(in crate::rehearsal) fn of(world: &World) -> Self {
        let session = session(&world.vars()["CONTROL_ENDPOINT"], 2);
        Self {
            ssm: aws_sdk_ssm::Client::new(&session),
            gateway: aws_sdk_apigateway::Client::new(&session),
            metrics: aws_sdk_cloudwatch::Client::new(&session),
        }
    }

    pub(in crate::rehearsal) async fn put(&self, name: &str, value: &str) {
        self.ssm.put_parameter().name(name).value(value).overwrite(true).send().await.unwrap();
    }

    pub(in crate::rehearsal) async fn get(&self, name: &str) -> String {
        let got = self.ssm.get_parameter().name(name).with_decryption(true).send().await.unwrap();
        got.parameter().unwrap().value().unwrap().to_owned()
    }

    pub(in crate::rehearsal) async fn alias(&self, alias: &str) {
        let patch = PatchOperation::builder().op(Op::Replace).path("/variables/lambdaAlias").value(alias).build();
        let update = self.gateway.update_stage().rest_api_id("cloudshelf").stage_name("prod");
        update.patch_operations(patch).send().await.unwrap();
    }

    /// Values over the last minutes in one period.
    pub(in crate::rehearsal) async fn metric(&self, name: &str, side: &str, statistic: &str) -> Vec<f64> {
        let side = Dimension::builder().name("Side").value(side).build();
        let metric = Metric::builder().namespace("CloudShelf").metric_name(name).dimensions(side).build();
        let stat = MetricStat::builder().metric(metric).period(86_400).stat(statistic).build();
        let now = jiff::Timestamp::now().as_second();
        let got = self
            .metrics
            .get_metric_data()
            .start_time(DateTime::from_secs(now - 300))
            .end_time(DateTime::from_secs(now + 60))
            .metric_data_queries(MetricDataQuery::builder().id("m").metric_stat(stat).build())
            .send()
            .await
            .unwrap();
        got.metric_data_results()[0].values().to_vec()
    }
}
