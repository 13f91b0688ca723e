//! The tables of an account and region, for those that move by rule.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;

use super::source::DynamoSource;
use super::{definition, fault};
use crate::domain::plan::{Column, ColumnSource, ColumnType, Declared, Fallback, Listed, ListedTable, Table};
use crate::ports::{Catalogue, ErrorKind, PortError, PortResult, Source as _};

/// What is tried.
const TRIED: &str = "list the tables of";
/// Our own bookkeeping, which never moves.
const OURS: &str = "cutover-bookkeeping";

/// The names of all tables, in order.
pub(super) async fn names(sdk: &Client) -> PortResult<Vec<String>> {
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let asked = sdk.list_tables().set_exclusive_start_table_name(after).send().await;
        let answer = asked.map_err(|e| fault::sdk(e, TRIED, "DynamoDB"))?;
        names.extend(answer.table_names.unwrap_or_default());
        after = answer.last_evaluated_table_name;
        if after.is_none() {
            break;
        }
    }
    names.retain(|name| name != OURS);
    names.sort();
    Ok(names)
}

#[async_trait]
impl Catalogue for DynamoSource {
    async fn names(&self) -> PortResult<Vec<String>> {
        names(self.sdk()).await
    }

    async fn listed(&self, names: Vec<String>, wanted: &[String], made: bool) -> PortResult<Listed> {
        let (mut tables, mut left_out) = (Vec::new(), Vec::new());
        for name in wanted {
            let found = match self.describe(&Table::watched(name, name)).await {
                Ok(found) => found,
                Err(PortError { kind: ErrorKind::NotFound, came_back, .. }) => {
                    let unfit = vec![(came_back, "list the tables again".to_owned())];
                    tables.push(ListedTable { name: name.clone(), unfit, ..ListedTable::default() });
                    continue;
                }
                Err(e) => return Err(e),
            };
            let columns = found.key.iter().map(|(name, ty)| Column {
                name: name.clone(),
                ty: match ty.as_str() {
                    "N" => ColumnType::Numeric(None),
                    "B" => ColumnType::Bytea,
                    _ => ColumnType::Text,
                },
                from: ColumnSource::Attribute(vec![name.clone()]),
                absent: Fallback::Required,
                key: true,
                declared: Declared::default(),
            });
            let definition = if made { definition::of_table(self.wire(), name).await? } else { None };
            let ddl = definition.map(|found| {
                left_out.extend(found.left_out);
                found.definition.ddl()
            });
            tables.push(ListedTable {
                name: name.clone(),
                ddl,
                key: found.key.iter().map(|(name, _)| name.clone()).collect(),
                columns: columns.collect(),
                ttl: found.ttl,
                ..ListedTable::default()
            });
        }
        Ok(Listed { names, tables, left_out })
    }
}
