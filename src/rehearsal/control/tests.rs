//! The stand-in, driven by the official SDKs.

use std::time::{Duration, Instant};

use aws_sdk_apigateway::types::{Op, PatchOperation};
use aws_sdk_cloudwatch::types::{Dimension, DimensionFilter, Metric, MetricDataQuery, MetricDatum, MetricStat, ScanBy};
use aws_sdk_ssm::types::ParameterType;
use aws_smithy_types::DateTime;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::*;
use crate::private::clients::session;
use crate::rehearsal::fault::Fault;

struct World {
    _plane: ControlPlane,
    faults: Faults,
    ssm: aws_sdk_ssm::Client,
    metrics: aws_sdk_cloudwatch::Client,
    gateway: aws_sdk_apigateway::Client,
}

async fn world() -> World {
    let faults = Faults::none();
    let plane = ControlPlane::start(faults.clone()).await.unwrap();
    plane.put_stage("api1", "prod", &[("lambdaAlias", "blue")]);
    let session = session(plane.endpoint(), 1);
    World {
        faults,
        ssm: aws_sdk_ssm::Client::new(&session),
        metrics: aws_sdk_cloudwatch::Client::new(&session),
        gateway: aws_sdk_apigateway::Client::new(&session),
        _plane: plane,
    }
}

impl World {
    async fn put(
        &self,
        name: &str,
        value: &str,
    ) -> Result<i64, aws_sdk_ssm::operation::put_parameter::PutParameterError> {
        let put = self.ssm.put_parameter().name(name).value(value).r#type(ParameterType::String).overwrite(true);
        put.send().await.map(|a| a.version()).map_err(|e| e.into_service_error())
    }

    async fn get(&self, name: &str) -> String {
        let got = self.ssm.get_parameter().name(name).with_decryption(true).send().await.unwrap();
        got.parameter().unwrap().value().unwrap().to_owned()
    }
}

#[tokio::test]
async fn parameters_have_versions_labels_and_history() {
    let w = world().await;
    for value in ["a", "b", "c"] {
        w.put("/p/x", value).await.unwrap();
    }
    assert_eq!(w.get("/p/x").await, "c");
    assert_eq!(w.get("/p/x:1").await, "a");
    let labelled =
        w.ssm.label_parameter_version().name("/p/x").parameter_version(2).labels("before").labels("1st").send().await;
    let labelled = labelled.unwrap();
    assert_eq!((labelled.invalid_labels(), labelled.parameter_version()), (&["1st".to_owned()][..], 2));
    assert_eq!(w.get("/p/x:before").await, "b");
    w.ssm.label_parameter_version().name("/p/x").labels("before").send().await.unwrap();
    assert_eq!(w.get("/p/x:before").await, "c");

    let mut seen = Vec::new();
    let mut next = None;
    loop {
        let page = w.ssm.get_parameter_history().name("/p/x").max_results(2).set_next_token(next).send().await.unwrap();
        seen.extend(page.parameters().iter().map(|p| (p.version(), p.value().unwrap().to_owned())));
        next = page.next_token().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen, [(1, "a".to_owned()), (2, "b".to_owned()), (3, "c".to_owned())]);
}

#[tokio::test]
async fn parameter_errors_are_typed() {
    let w = world().await;
    let missing = w.ssm.get_parameter().name("/none").send().await.unwrap_err().into_service_error();
    assert!(missing.is_parameter_not_found(), "{missing:?}");
    w.put("/p/x", "a").await.unwrap();
    let version = w.ssm.get_parameter().name("/p/x:9").send().await.unwrap_err().into_service_error();
    assert!(version.is_parameter_version_not_found(), "{version:?}");
    let twice = w.ssm.put_parameter().name("/p/x").value("b").send().await.unwrap_err().into_service_error();
    assert!(twice.is_parameter_already_exists(), "{twice:?}");
    let untyped = w.ssm.put_parameter().name("/p/y").value("b").send().await.unwrap_err().into_service_error();
    assert_eq!(untyped.code(), Some("ValidationException"));
    let unknown = w.ssm.delete_parameter().name("/p/x").send().await.unwrap_err().into_service_error();
    assert_eq!(unknown.code(), Some("UnknownOperationException"));
    assert_eq!(w.get("/p/x").await, "a");
}

#[tokio::test]
async fn secure_strings_show_themselves_only_decrypted() {
    let w = world().await;
    let put = w.ssm.put_parameter().name("/p/s").value("hunter2").r#type(ParameterType::SecureString);
    put.send().await.unwrap();
    let sealed = w.ssm.get_parameter().name("/p/s").send().await.unwrap();
    let sealed = sealed.parameter().unwrap();
    assert_eq!(sealed.r#type(), Some(&ParameterType::SecureString));
    assert!(!sealed.value().unwrap().contains("hunter2") && sealed.value().unwrap().len() > 100);
    let all = w.ssm.get_parameter_history().name("/p/s").send().await.unwrap();
    assert!(!all.parameters()[0].value().unwrap().contains("hunter2"));
    assert_eq!(w.get("/p/s").await, "hunter2");
    // An overwrite without a type keeps it secure.
    w.ssm.put_parameter().name("/p/s").value("hunter3").overwrite(true).send().await.unwrap();
    let got = w.ssm.get_parameter().name("/p/s").send().await.unwrap();
    assert_ne!(got.parameter().unwrap().value(), Some("hunter3"));
}

#[tokio::test]
async fn parameters_are_found_in_groups() {
    let w = world().await;
    for name in ["/p/x", "/p/y", "/p/deep/z", "/q/x"] {
        w.put(name, "v").await.unwrap();
    }
    let many = w.ssm.get_parameters().names("/p/x").names("/none").send().await.unwrap();
    assert_eq!((many.parameters().len(), many.invalid_parameters()), (1, &["/none".to_owned()][..]));
    let names = |recursive| {
        let call = w.ssm.get_parameters_by_path().path("/p").recursive(recursive).max_results(2);
        async move {
            let pages: Vec<_> = call.into_paginator().send().collect::<Result<_, _>>().await.unwrap();
            let found = pages.iter().flat_map(|p| p.parameters()).map(|p| p.name().unwrap().to_owned());
            found.collect::<Vec<_>>()
        }
    };
    assert_eq!(names(false).await, ["/p/x", "/p/y"]);
    assert_eq!(names(true).await, ["/p/deep/z", "/p/x", "/p/y"]);
}

#[tokio::test]
async fn faults_refuse_delay_and_lose_answers() {
    let w = world().await;
    w.put("/shop/db/writes", "dynamodb").await.unwrap();
    w.put("/shop/writes-mode", "open").await.unwrap();

    w.faults.bring(Fault::SsmRefuse);
    let refused = w.put("/shop/db/writes", "postgresql").await.unwrap_err();
    assert_eq!(refused.code(), Some("InternalServerError"));
    assert_eq!(w.get("/shop/db/writes").await, "dynamodb");
    // A rollback and the freeze stay possible.
    w.put("/shop/db/writes", "dynamodb").await.unwrap();
    w.put("/shop/writes-mode", "frozen").await.unwrap();
    w.faults.lift(Fault::SsmRefuse);

    w.faults.bring(Fault::SsmLostReply);
    w.put("/shop/db/writes", "postgresql").await.unwrap_err();
    assert_eq!(w.get("/shop/db/writes").await, "postgresql");
    w.faults.lift(Fault::SsmLostReply);

    w.faults.bring(Fault::SsmSlow);
    let began = Instant::now();
    w.put("/shop/writes-mode", "open").await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert_eq!(w.faults.hits(Fault::SsmRefuse), 1);
}

fn query(id: &str, side: &str, statistic: &str, period: i32) -> MetricDataQuery {
    let metric = Metric::builder()
        .namespace("CloudShelf")
        .metric_name("Latency")
        .dimensions(Dimension::builder().name("Side").value(side).build())
        .build();
    let stat = MetricStat::builder().metric(metric).period(period).stat(statistic).build();
    MetricDataQuery::builder().id(id).metric_stat(stat).build()
}

#[tokio::test]
async fn metrics_come_back_as_statistics_in_the_order_asked_for() {
    let w = world().await;
    let base = 1_790_000_040; // the start of a minute
    for i in 0..120 {
        let datum = MetricDatum::builder()
            .metric_name("Latency")
            .dimensions(Dimension::builder().name("Side").value("old").build())
            .timestamp(DateTime::from_secs(base + i))
            .value((i % 60 + 1) as f64 + if i >= 60 { 1000.0 } else { 0.0 })
            .build();
        w.metrics.put_metric_data().namespace("CloudShelf").metric_data(datum).send().await.unwrap();
    }
    let ask = |scan: Option<ScanBy>, queries: Vec<MetricDataQuery>| {
        w.metrics
            .get_metric_data()
            .start_time(DateTime::from_secs(base))
            .end_time(DateTime::from_secs(base + 120))
            .set_scan_by(scan)
            .set_metric_data_queries(Some(queries))
            .send()
    };
    let wanted = [
        ("Average", 30.5, 1030.5),
        ("Sum", 1830.0, 61_830.0),
        ("Maximum", 60.0, 1060.0),
        ("Minimum", 1.0, 1001.0),
        ("SampleCount", 60.0, 60.0),
        ("p95", 57.0, 1057.0),
        ("p50", 30.0, 1030.0),
        ("p99.9", 60.0, 1060.0),
    ];
    let queries = wanted.iter().enumerate().map(|(i, (s, ..))| query(&format!("m{i}"), "old", s, 60)).collect();
    let got = ask(Some(ScanBy::TimestampAscending), queries).await.unwrap();
    for (result, (name, first, second)) in got.metric_data_results().iter().zip(wanted) {
        assert_eq!(result.values(), [first, second], "{name}");
        assert_eq!(result.timestamps(), [DateTime::from_secs(base), DateTime::from_secs(base + 60)], "{name}");
    }
    let newest_first = ask(None, vec![query("m", "old", "Maximum", 60)]).await.unwrap();
    assert_eq!(newest_first.metric_data_results()[0].values(), [1060.0, 60.0]);
    let fine = ask(None, vec![query("m", "old", "Maximum", 1), query("n", "new", "Maximum", 1)]).await.unwrap();
    assert_eq!(fine.metric_data_results()[0].values().len(), 120);
    assert!(fine.metric_data_results()[1].values().is_empty());

    let listed = w.metrics.list_metrics().namespace("CloudShelf");
    let listed = listed.dimensions(DimensionFilter::builder().name("Side").build()).send().await.unwrap();
    assert_eq!(listed.metrics().len(), 1);
    assert!(w.metrics.list_metrics().namespace("AWS/RDS").send().await.unwrap().metrics().is_empty());
}

#[tokio::test]
async fn metrics_that_cannot_be_computed_are_refused() {
    let w = world().await;
    let ask = |q: MetricDataQuery| {
        let call = w.metrics.get_metric_data().start_time(DateTime::from_secs(0)).end_time(DateTime::from_secs(60));
        call.metric_data_queries(q).send()
    };
    let expression = ask(MetricDataQuery::builder().id("e").expression("m*2").build()).await;
    assert_eq!(expression.unwrap_err().into_service_error().code(), Some("ValidationError"));
    assert!(ask(query("m", "old", "p950", 60)).await.is_err());
    assert!(ask(query("m", "old", "Average", 7)).await.is_err());
    let unknown = w.metrics.describe_alarms().send().await.unwrap_err().into_service_error();
    assert_eq!(unknown.code(), Some("UnknownOperationException"));
}

#[tokio::test]
async fn stages_are_read_and_patched() {
    let w = world().await;
    let patch = |op: Op, path: &str, value: Option<&str>| {
        let patch = PatchOperation::builder().op(op).path(path).set_value(value.map(str::to_owned)).build();
        w.gateway.update_stage().rest_api_id("api1").stage_name("prod").patch_operations(patch).send()
    };
    let read = || async {
        let stage = w.gateway.get_stage().rest_api_id("api1").stage_name("prod").send().await.unwrap();
        stage.variables().and_then(|v| v.get("lambdaAlias")).cloned()
    };
    assert_eq!(read().await.as_deref(), Some("blue"));
    patch(Op::Replace, "/variables/lambdaAlias", Some("green")).await.unwrap();
    assert_eq!(read().await.as_deref(), Some("green"));
    for (op, path, value) in [
        (Op::Replace, "/nonsense", Some("x")),
        (Op::Replace, "/variables/lambdaAlias", None),
        (Op::Replace, "/variables/lambdaAlias", Some("not allowed!")),
        (Op::Copy, "/variables/lambdaAlias", Some("x")),
        (Op::Remove, "/variables/none", None),
    ] {
        let refused = patch(op, path, value).await.unwrap_err().into_service_error();
        assert!(refused.is_bad_request_exception(), "{path}: {refused:?}");
    }
    let missing = w.gateway.get_stage().rest_api_id("api1").stage_name("none").send().await;
    assert!(missing.unwrap_err().into_service_error().is_not_found_exception());
    let unknown = w.gateway.get_rest_apis().send().await.unwrap_err().into_service_error();
    assert_eq!(unknown.code(), Some("UnknownOperationException"));

    w.faults.bring(Fault::GatewayRefuse);
    patch(Op::Replace, "/variables/lambdaAlias", Some("blue")).await.unwrap();
    patch(Op::Replace, "/variables/lambdaAlias", Some("green")).await.unwrap_err();
    assert_eq!(read().await.as_deref(), Some("blue"));
}
