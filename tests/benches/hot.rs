//! The functions that run once a row, through the interfaces the workers use: `cargo bench`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use cutover::adapters::dynamodb::{self, DynamoSettings, DynamoSource};
use cutover::adapters::postgres::{PgSettings, PgTarget, SslMode};
use cutover::domain::mapping::{Mapped, TableMapping, canonical_json_text, canonical_numeric};
use cutover::domain::plan::Table;
use cutover::domain::value::Cell;
use cutover::domain::verify::digest_cells;
use cutover::ports::{Page, Partition, Source as _, Target as _};
use cutover::rehearsal::clients::{REGION, session};

const ITEMS: u64 = 1_800;

/// One scan page of books of about 556 bytes.
fn page() -> Page {
    let mut body = format!("{{\"Count\":{ITEMS},\"ScannedCount\":{ITEMS},\"Items\":[");
    for n in 0..ITEMS {
        let comma = if n == 0 { "" } else { "," };
        let text = "winter garden lighthouse ".repeat(8);
        write!(
            body,
            "{comma}{{\"bookId\":{{\"S\":\"0193f4a0-0000-4000-8000-{n:012}\"}},\"title\":{{\"S\":\"The winter garden {n}\"}},\
             \"author\":{{\"S\":\"Somebody {n}\"}},\"description\":{{\"S\":\"{text}\"}},\"price\":{{\"N\":\"{}.{:02}\"}},\
             \"category\":{{\"S\":\"Fiction\"}},\"isbn\":{{\"S\":\"978{n:010}\"}},\"stockQuantity\":{{\"N\":\"{}\"}},\
             \"createdAt\":{{\"S\":\"2026-05-02T10:20:30.123Z\"}},\"updatedAt\":{{\"S\":\"2026-06-02T10:20:30.456Z\"}}}}",
            n % 90 + 1,
            n % 100,
            n % 500
        )
        .unwrap();
    }
    body.push_str("]}");
    Page { body: body.into() }
}

/// The books table of the example config.
fn table() -> Table {
    let example = include_str!("../../config.toml.example");
    let vars = BTreeMap::from([("PGPASSWORD".to_owned(), "x".to_owned())]);
    let config = cutover::config::load_str("config.toml.example", example, Path::new("."), &vars).unwrap();
    config.plan.tables.iter().find(|t| t.id == "books").unwrap().clone()
}

fn source() -> DynamoSource {
    let nowhere = "http://127.0.0.1:9";
    dynamodb::connect(&session(nowhere, 1), &DynamoSettings::new(REGION).at(nowhere)).unwrap().0
}

fn rows(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let (page, table, source) = (page(), table(), source());
    let mapping = TableMapping::new(&table);
    let target = PgTarget::new(
        &PgSettings {
            host: "127.0.0.1".to_owned(),
            port: 9,
            database: "none".to_owned(),
            user: "none".to_owned(),
            password: None,
            password_source: None,
            sslmode: SslMode::Disable,
            ca_file: None,
            pool: 2,
        },
        "bench/bench",
    )
    .unwrap();
    let part = Partition { index: 0, of: 1 };

    let mut group = c.benchmark_group("page");
    group.throughput(Throughput::Elements(ITEMS));
    group.bench_function("read", |b| {
        b.iter(|| {
            source
                .read(black_box(&page), &mut |item| {
                    black_box(item);
                })
                .unwrap()
        })
    });
    group.bench_function("read and map", |b| {
        b.iter(|| {
            let mut mapped = Mapped::default();
            source.read(black_box(&page), &mut |item| mapping.map(item, black_box(&mut mapped)).unwrap()).unwrap()
        });
    });
    group.bench_function("read, map and encode", |b| {
        b.iter_batched(
            || runtime.block_on(target.bulk(&table, part)).unwrap(),
            |mut bulk| {
                let mut mapped = Mapped::default();
                source
                    .read(black_box(&page), &mut |item| {
                        mapping.map(item, &mut mapped).unwrap();
                        bulk.push(&mapped).unwrap();
                    })
                    .unwrap();
                bulk
            },
            criterion::BatchSize::LargeInput,
        );
    });
    group.bench_function("read, map and digest", |b| {
        b.iter(|| {
            let mut mapped = Mapped::default();
            source
                .read(black_box(&page), &mut |item| {
                    mapping.map(item, &mut mapped).unwrap();
                    black_box(digest_cells(&mapped.row));
                })
                .unwrap()
        });
    });
    group.finish();
}

fn values(c: &mut Criterion) {
    c.bench_function("number, canonical already", |b| b.iter(|| canonical_numeric(black_box("1234567.89"))));
    c.bench_function("number, rewritten", |b| b.iter(|| canonical_numeric(black_box("1.2345678900E+6"))));
    let json = r#"{"street":"1 Long Road","city":"Oslo","zip":"0150","geo":{"lat":59.91,"lon":10.75}}"#;
    c.bench_function("jsonb, canonical form", |b| b.iter(|| canonical_json_text(black_box(json))));
    let row = [Cell::Uuid([7; 16]), Cell::Text("The winter garden".into()), Cell::Int(42), Cell::Null];
    c.bench_function("digest of a small row", |b| b.iter(|| digest_cells(black_box(&row))));
}

criterion_group!(hot, rows, values);
criterion_main!(hot);
