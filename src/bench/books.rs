//! The workload: books of about 556 bytes on the wire, as pre-rendered scan pages and as the table they go into.

use std::fmt::Write as _;

use bytes::Bytes;

/// The table at the source.
pub(super) const SOURCE: &str = "CloudShelf-Books";
/// Bytes of a page's items: DynamoDB ends a page at 1 MB.
const PAGE: usize = 1024 * 1024;
/// Columns that are written, in order.
pub(super) const COLUMNS: &str =
    "id, title, author, description, price, category, isbn, stock_quantity, created_at, updated_at";

/// The table with its key and the constraint that may refuse rows.
pub(super) const TABLE: &str = "
CREATE TABLE books (
    id uuid PRIMARY KEY,
    title varchar(255) NOT NULL,
    author varchar(255) NOT NULL,
    description text,
    price numeric(10,2) NOT NULL,
    category varchar(100),
    isbn varchar(20) UNIQUE,
    stock_quantity integer DEFAULT 0,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);";
/// The secondary indexes.
pub(super) const INDEXES: &str = "
CREATE INDEX idx_books_category ON books (category);
CREATE INDEX idx_books_author ON books (author);";

/// A day of one table; `{region}` and so on are filled in by [`config`].
const CONFIG: &str = r#"
name = "bench"
production = false
[aws]
region = "us-east-1"
credentials = "emulator"
endpoint = "{source}"
[postgres]
host = "{host}"
port = {port}
database = "{database}"
user = "{user}"
sslmode = "disable"
pool = 16
[load]
segments = {segments}
workers = {segments}
defer_indexes = {defer}
[follow]
poll = "{poll}ms"
batch = 1000
marker_every = "5s"
[verify]
settle = "1s"
segments = {segments}
[[tables]]
id = "books"
source = "CloudShelf-Books"
target = "books"
key = ["bookId"]
[tables.columns]
id = { from = "bookId", type = "uuid", key = true }
title = { from = "title", type = "varchar(255)", required = true }
author = { from = "author", type = "varchar(255)", required = true }
description = { from = "description", type = "text", default = "" }
price = { from = "price", type = "numeric(10,2)", required = true }
category = { from = "category", type = "varchar(100)", default = "General" }
isbn = { from = "isbn", type = "varchar(20)" }
stock_quantity = { from = "stockQuantity", type = "integer", default = 0 }
created_at = { from = "createdAt", type = "timestamptz" }
updated_at = { from = "updatedAt", type = "timestamptz", unit = "ms" }
[[switches]]
id = "db"
parameter = "/cloudshelf/db"
to = "postgres"
[[switches]]
id = "host"
parameter = "/cloudshelf/host"
to = "new"
[[switches]]
id = "secret"
parameter = "/cloudshelf/secret"
secure = true
to = { env = "CUTOVER_BENCH_SECRET" }
"#;

/// The steps of a bench's day.
pub(super) const STEPS: &str = r#"
[[steps]]
id = "preflight"
kind = "preflight"
owner = "bench"
at = "T-00:10"
[[steps]]
id = "setup"
kind = "set_up"
owner = "bench"
at = "T-00:10"
[[steps]]
id = "capture"
kind = "capture"
owner = "bench"
at = "T-00:10"
[[steps]]
id = "load"
kind = "load"
owner = "bench"
at = "T-00:10"
[[steps]]
id = "catchup"
kind = "catch_up"
owner = "bench"
at = "T-00:10"
[[steps]]
id = "verify"
kind = "verify"
owner = "bench"
at = "T-00:10"
"#;

/// What [`config`] is made for.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The DynamoDB endpoint.
    pub source: String,
    /// The database.
    pub target: tokio_postgres::Config,
    /// Segments, all read at once.
    pub segments: u32,
    /// Whether indexes are built after the rows.
    pub defer: bool,
    /// Pause between two reads of an idle shard.
    pub poll_ms: u64,
}

/// The first host of a database's address, or the folder of its socket.
pub(super) fn host(target: &tokio_postgres::Config) -> String {
    match target.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(tokio_postgres::config::Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    }
}

/// The config of a bench's day.
pub(super) fn config(s: &Settings) -> String {
    [CONFIG, STEPS]
        .concat()
        .replace("{source}", &s.source)
        .replace("{host}", &host(&s.target))
        .replace("{port}", &s.target.get_ports().first().copied().unwrap_or(5432).to_string())
        .replace("{database}", s.target.get_dbname().unwrap_or("postgres"))
        .replace("{user}", s.target.get_user().unwrap_or("postgres"))
        .replace("{segments}", &s.segments.to_string())
        .replace("{defer}", &s.defer.to_string())
        .replace("{poll}", &s.poll_ms.to_string())
}

/// One rendered page.
#[derive(Clone, Debug)]
pub(super) struct RawPage {
    /// `{"Count":…,"ScannedCount":…,"Items":[…]`, without what follows the items.
    pub head: Bytes,
    /// Items in it.
    pub items: u32,
    /// Where, in each item, the last four digits of the key and the last four of the isbn stand.
    pub fresh: Vec<(u32, u32)>,
}

const WORDS: &[&str] = &[
    "river",
    "winter",
    "glass",
    "shadow",
    "garden",
    "silent",
    "northern",
    "lighthouse",
    "salt",
    "paper",
    "morning",
    "forgotten",
    "island",
    "letters",
    "clockmaker",
    "harbour",
    "thread",
    "atlas",
    "copper",
    "mirror",
    "storm",
    "orchard",
    "hidden",
    "years",
    "house",
    "road",
    "night",
    "cartographer",
    "violin",
    "daughter",
    "bridge",
    "café",
];
const CATEGORIES: &[&str] = &["Fiction", "History", "Science", "Children", "Poetry", "Travel", "Cooking", "Computing"];

/// Renders `items` books in pages of 1 MB: the same seed gives the same bytes.
pub(super) fn pages(items: u64, seed: u64) -> Vec<RawPage> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut pages = Vec::new();
    let (mut body, mut fresh) = (String::with_capacity(PAGE + 1024), Vec::new());
    for n in 0..items {
        if !fresh.is_empty() {
            body.push(',');
        }
        fresh.push(item(&mut body, &mut rng, n));
        if body.len() >= PAGE - 700 || n + 1 == items {
            let count = fresh.len();
            let mut head = format!("{{\"Count\":{count},\"ScannedCount\":{count},\"Items\":[");
            let shift = u32::try_from(head.len()).unwrap_or(0);
            head.push_str(&body);
            head.push(']');
            for (key, isbn) in &mut fresh {
                (*key, *isbn) = (*key + shift, *isbn + shift);
            }
            pages.push(RawPage {
                head: Bytes::from(head),
                items: u32::try_from(count).unwrap_or(u32::MAX),
                fresh: std::mem::take(&mut fresh),
            });
            body.clear();
        }
    }
    pages
}

/// Appends one book and says where its key and its isbn can be made fresh.
fn item(out: &mut String, rng: &mut fastrand::Rng, n: u64) -> (u32, u32) {
    let at = |out: &String| u32::try_from(out.len()).unwrap_or(u32::MAX);
    // The last four digits of the key and of the isbn are kept free for `fresh` copies.
    let uuid = uuid::Builder::from_random_bytes((rng.u128(..) & !0xffff).to_be_bytes()).into_uuid();
    let _ = write!(out, "{{\"bookId\":{{\"S\":\"{uuid}");
    let key = at(out) - 4;
    let words = |out: &mut String, rng: &mut fastrand::Rng, bytes: usize| {
        let end = out.len() + bytes;
        while out.len() < end {
            out.push_str(WORDS[rng.usize(..WORDS.len())]);
            out.push(' ');
        }
    };
    out.push_str("\"},\"title\":{\"S\":\"The ");
    words(out, rng, 14);
    let _ = write!(out, "{n}\"}},\"author\":{{\"S\":\"");
    words(out, rng, 8);
    let _ = write!(out, "{}\"}},\"description\":{{\"S\":\"", rng.u32(..2000));
    words(out, rng, 194);
    // One description in fifty has a character that must be escaped.
    out.push_str(if n.is_multiple_of(50) { "\\\"end\\\"" } else { "end." });
    let (units, cents) = (rng.u32(1..90), rng.u32(..100));
    let _ = write!(out, "\"}},\"price\":{{\"N\":\"{units}.{cents:02}\"}}");
    let _ = write!(out, ",\"category\":{{\"S\":\"{}\"}}", CATEGORIES[rng.usize(..CATEGORIES.len())]);
    let _ = write!(out, ",\"isbn\":{{\"S\":\"978{n:010}0000");
    let isbn = at(out) - 4;
    let _ = write!(out, "\"}},\"stockQuantity\":{{\"N\":\"{}\"}}", rng.u32(..500));
    let (day, second, ms) = (rng.u32(1..29), rng.u32(..60), rng.u32(..1000));
    let _ = write!(out, ",\"createdAt\":{{\"S\":\"2026-05-{day:02}T10:20:{second:02}.{ms:03}Z\"}}");
    let _ = write!(out, ",\"updatedAt\":{{\"S\":\"2026-06-{day:02}T11:21:{second:02}.{ms:03}Z\"}}}}");
    (key, isbn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_scan_pages_of_books_of_the_stated_size() {
        let pages = pages(5_000, 7);
        let bytes: usize = pages.iter().map(|p| p.head.len()).sum();
        let items: u32 = pages.iter().map(|p| p.items).sum();
        assert_eq!(items, 5_000);
        let each = bytes as u64 / u64::from(items);
        assert!((546..=566).contains(&each), "{each} bytes an item");
        for page in &pages {
            let whole = format!("{}}}", std::str::from_utf8(&page.head).unwrap());
            let page_value: serde_json::Value = serde_json::from_str(&whole).unwrap();
            let items = page_value["Items"].as_array().unwrap();
            assert_eq!(items.len(), page.fresh.len());
            for (item, (key, isbn)) in items.iter().zip(&page.fresh) {
                let digits = |at: u32| &whole[at as usize..at as usize + 4];
                assert!(item["bookId"]["S"].as_str().unwrap().ends_with(digits(*key)));
                assert_eq!(digits(*isbn), "0000");
            }
        }
    }
}
