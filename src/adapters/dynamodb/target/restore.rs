//! Tables of an export, written back as the documents they were.
//!
//! A batch has no conditions and no transaction holds a whole table, so nothing here keeps others from writing meanwhile:
//! the table has to be empty, or hold nothing but documents of this export, and it is read whole at the end.

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::batch;
use super::call::{Store, Tried, text};
use super::create::{ask, request, usable};
use super::describe::key;
use super::expiry::{Expires, expires};
use super::layout::{described, is_active};
use super::names;
use crate::adapters::dynamodb::source::DynamoSource;
use crate::adapters::dynamodb::wire::Wire;
use crate::domain::mapping::typed_record;
use crate::domain::plan::{AttributeDefinition, Definition, KeyElement, Table};
use crate::ports::{
    Budget, Cursor, ErrorKind, FoundTable, HeldTable, Partition, PortError, PortResult, Restore, Restoring,
    Source as _, TextPage,
};

/// What is tried.
const TRIED: &str = "restore";
/// Parts a table is read back in, side by side.
const PARTS: u32 = 8;

/// The DynamoDB tables of a region that an export is written back into.
pub struct DynamoRestore {
    source: std::sync::Arc<DynamoSource>,
    store: std::sync::Arc<Store>,
}

impl DynamoRestore {
    /// Over these clients. Nothing is called yet.
    pub(in crate::adapters::dynamodb) fn new(source: DynamoSource, wire: Wire) -> Self {
        Self { source: source.into(), store: Store::new(wire, Budget::new(None).into()).into() }
    }
}

#[async_trait]
impl Restore for DynamoRestore {
    async fn open(&self, tables: &[HeldTable]) -> PortResult<Box<dyn Restoring>> {
        let mut found = Vec::new();
        for table in tables {
            found.push(look(&self.store, table).await?);
        }
        let (source, store) = (std::sync::Arc::clone(&self.source), std::sync::Arc::clone(&self.store));
        Ok(Box::new(DynamoRestoring { source, store, found, parts: Vec::new() }))
    }
}

async fn look(store: &Store, table: &HeldTable) -> PortResult<FoundTable> {
    let at = (TRIED, table.name.as_str());
    let mut found = FoundTable { id: table.id.clone(), ..FoundTable::default() };
    let Some(there) = described(store, &table.name, at).await? else {
        if let Some(attribute) = definition(table)?.expires_by() {
            found.notices.push(format!(
                "expiry by {attribute} is left off: documents past it would go at once; turn it on when all is as it should \
                 be"
            ));
        }
        if table.ddl.is_none() {
            found
                .notices
                .push("it is made with its key alone: the export does not say which indexes it had".to_owned());
        }
        return Ok(found);
    };
    found.exists = true;
    let (has, wants) = (key(&there), &table.key);
    if has != *wants {
        let words = |key: &[(String, String)]| {
            key.iter().map(|(name, ty)| format!("{name} {ty}")).collect::<Vec<_>>().join(", ")
        };
        let wrong = format!("its key is ({}), and that of the export is ({})", words(&has), words(wants));
        found.problems.push((wrong, "restore it under another name (--as), or into another store".to_owned()));
    }
    if !is_active(&there) {
        let status = there.get("TableStatus").and_then(Json::as_str).unwrap_or("unknown");
        found.problems.push((format!("it is {status}"), "wait until it is ACTIVE".to_owned()));
    }
    if let Some(plan) = owned_by(store, table, at).await? {
        let advice = format!("restore it under another name (--as), or give it up: cutover release {plan}");
        found.problems.push((format!("it belongs to plan {plan}, which loads it"), advice));
    }
    let watched = Table { target: table.name.clone(), ..Table::watched(&table.id, &table.name) };
    match expires(store, &watched).await? {
        Expires::Never | Expires::Unknown => {}
        Expires::By(attribute) | Expires::Ending(attribute) => found.notices.push(format!(
            "it expires documents by {attribute}: those past it go again, and may be missed when it is read back"
        )),
    }
    let first = json!({"TableName": table.name, "Limit": 1, "ConsistentRead": true, "Select": "COUNT"});
    let first = store.call("Scan", &first, at).await?;
    found.holds = first.get("Count").and_then(Json::as_u64) != Some(0);
    Ok(found)
}

/// The plan whose target the table is, if it is one's.
async fn owned_by(store: &Store, table: &HeldTable, at: Tried<'_>) -> PortResult<Option<String>> {
    match store.get(&names::owner(&table.name), at).await {
        Ok(item) => Ok(item.and_then(|item| text(&item, "plan").map(str::to_owned))),
        // No run has begun here. Whoever may not ask writes into a table that is empty all the same.
        Err(e) if matches!(e.kind, ErrorKind::NotFound | ErrorKind::Denied) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What makes the table: as the export says it, or its key alone.
fn definition(table: &HeldTable) -> PortResult<Definition> {
    if let Some(ddl) = &table.ddl {
        return Definition::read(ddl).map_err(|why| {
            PortError::new(ErrorKind::Invalid, "make", &table.name, format!("the export's definition of it: {why}"))
                .advise("make the table yourself, then restore into it")
        });
    }
    let roles = ["HASH", "RANGE"];
    let attribute = |(name, ty): &(String, String)| AttributeDefinition {
        attribute_name: name.clone(),
        attribute_type: ty.clone(),
    };
    let element = |((name, _), role): (&(String, String), &str)| KeyElement {
        attribute_name: name.clone(),
        key_type: role.to_owned(),
    };
    Ok(Definition {
        attribute_definitions: table.key.iter().map(attribute).collect(),
        key_schema: table.key.iter().zip(roles).map(element).collect(),
        ..Definition::default()
    })
}

/// Tables that are being restored.
struct DynamoRestoring {
    source: std::sync::Arc<DynamoSource>,
    store: std::sync::Arc<Store>,
    found: Vec<FoundTable>,
    /// Parts that are being read back: each with where to read on, `None` once it is read.
    parts: Vec<Option<Option<Cursor>>>,
}

#[async_trait]
impl Restoring for DynamoRestoring {
    fn found(&self) -> &[FoundTable] {
        &self.found
    }

    fn takes_again(&self) -> bool {
        true
    }

    async fn make(&mut self, table: &HeldTable) -> PortResult<()> {
        let at = ("make", table.name.as_str());
        ask(&self.store, "CreateTable", &request(&table.name, &definition(table)?), at).await?;
        usable(&self.store, &table.name, at).await
    }

    async fn write(&mut self, table: &HeldTable, lines: &[u8]) -> PortResult<()> {
        let at = (TRIED, table.name.as_str());
        let text = std::str::from_utf8(lines)
            .map_err(|_| PortError::new(ErrorKind::Invalid, at.0, at.1, "a line of the export is no text"))?;
        let items: Vec<String> = text.lines().map(str::to_owned).collect();
        batch::put_all(&self.store, &table.name, &items, at).await
    }

    async fn written(&mut self, _: &HeldTable) -> PortResult<()> {
        // Each batch was answered.
        Ok(())
    }

    async fn page(&mut self, table: &HeldTable, cursor: Option<&Cursor>) -> PortResult<TextPage> {
        if cursor.is_none() {
            self.parts = vec![Some(None); PARTS as usize];
        }
        let watched = Table::watched(&table.id, &table.name);
        let mut reads = Vec::new();
        for (n, part) in self.parts.iter().enumerate() {
            if let Some(from) = part {
                let part = Partition { index: u32::try_from(n).unwrap_or(u32::MAX), of: PARTS };
                reads.push(read_back(std::sync::Arc::clone(&self.source), watched.clone(), n, part, from.clone()));
            }
        }
        let mut out = TextPage::default();
        for (n, (lines, records), next) in futures::future::try_join_all(reads).await? {
            out.lines.extend_from_slice(&lines);
            out.records += records;
            if let Some(part) = self.parts.get_mut(n) {
                *part = next.map(Some);
            }
        }
        // Where to read on is known here; that there is more is all that is told.
        out.next = self.parts.iter().any(Option::is_some).then(|| Cursor("more".to_owned()));
        Ok(out)
    }

    async fn keep(self: Box<Self>, tables: &[HeldTable]) -> PortResult<Vec<String>> {
        let mut said = Vec::new();
        for table in tables {
            let made = self.found.iter().any(|found| found.id == table.id && !found.exists);
            if made && definition(table)?.is_recoverable() {
                said.push(format!("{}: point-in-time recovery is off, and was on where it came from", table.name));
            }
        }
        Ok(said)
    }
}

/// The next page of a part.
async fn read_back(
    source: std::sync::Arc<DynamoSource>,
    table: Table,
    n: usize,
    part: Partition,
    from: Option<Cursor>,
) -> PortResult<(usize, (Vec<u8>, u64), Option<Cursor>)> {
    let page = source.page(&table, part, from.as_ref()).await?;
    let (lines, next) = lines_of(&source, &table.source, &page)?;
    Ok((n, lines, next))
}

/// The lines of a page with how many they are, and where to read on.
type Lines = ((Vec<u8>, u64), Option<Cursor>);

/// A page as an export would hold it.
fn lines_of(source: &DynamoSource, table: &str, page: &crate::ports::Page) -> PortResult<Lines> {
    let (mut lines, mut records, mut failed) = (Vec::new(), 0, None);
    let end = source.read(page, &mut |item| match typed_record(item) {
        Ok(line) => {
            lines.extend_from_slice(line.as_bytes());
            lines.push(b'\n');
            records += 1;
        }
        Err(reason) => failed = Some(reason),
    })?;
    match failed {
        None => Ok(((lines, records), end.next)),
        Some(reason) => {
            let why = format!("a record cannot be written as text that keeps its types: {reason}");
            Err(PortError::new(ErrorKind::Invalid, "read back", table, why))
        }
    }
}
