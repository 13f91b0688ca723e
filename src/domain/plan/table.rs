//! Tables that move, with their column mappings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mover::MoverKind;
use super::moves::AfterLoad;
use super::store::{NEW, OLD};
use super::type_name::TypeName;

/// One source table and where its rows go (FEATURES A1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Short name on every screen: `books`.
    pub id: String,
    /// The store it comes from, by name.
    #[serde(default = "old", skip_serializing_if = "is_old")]
    pub from: String,
    /// The table's name at the source: `CloudShelf-Books`.
    pub source: String,
    /// The store it goes to, by name.
    #[serde(default = "new", skip_serializing_if = "is_new")]
    pub to: String,
    /// The table's name in the target, schema-qualified or not: `books`.
    pub target: String,
    /// Source attributes that make the key, in order: partition key, then sort key if any.
    pub key: Vec<String>,
    /// Target columns in insert order. The key's columns are marked.
    pub columns: Vec<Column>,
    /// Lists that become rows of their own.
    pub children: Vec<ChildTable>,
    /// References to other target tables; loads run parents first.
    pub foreign_keys: Vec<ForeignKey>,
    /// The TTL attribute at the source, epoch seconds; deletes by TTL are counted as expired.
    pub ttl: Option<String>,
    /// The key of marker items is this text followed by a nonce, as text or bytes; where it is a number, one that stands
    /// for the nonce.
    pub marker_prefix: String,
    /// DDL file or statements that create the target table; absent when it must exist already (FEATURES A9).
    pub ddl: Option<String>,
    /// Triggers of the target table and its child tables that may fire on rows we write; any other one stops the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<String>,
    /// Columns of the source that no column here reads, and that are not to move; any other such column stops the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leave_out: Vec<String>,
    /// What a table that was made by its DDL gets once its rows are in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_load: Vec<AfterLoad>,
    /// What moves its rows in place of the console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mover: Option<MoverKind>,
}

/// One target column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// The column's name in the target.
    pub name: String,
    /// Its type.
    pub ty: ColumnType,
    /// Where its value comes from.
    pub from: ColumnSource,
    /// What to do when the attribute is absent or null.
    pub absent: Fallback,
    /// Whether the column is part of the target's primary key.
    pub key: bool,
    /// What is declared of its values besides.
    #[serde(flatten)]
    pub declared: Declared,
}

/// What the config declares of a column's values, because it cannot be known from one value alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// What a number counts that stands for a moment. Without it a number is no moment and its row is parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// Moments that a number may stand for. Without it, those of [`Between::USUAL`] that no coarser unit explains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<Between>,
    /// Whether values may be rounded or cut to what the type holds. Otherwise such a row is parked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lossy: bool,
    /// Whether so few items have the attribute that a sample may show none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
}

/// What a number counts that stands for a moment, from 1970-01-01T00:00:00Z on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// Microseconds.
    #[serde(rename = "us")]
    Micros,
}

impl Unit {
    /// Every unit, coarsest first.
    pub const ALL: [Self; 3] = [Self::Seconds, Self::Millis, Self::Micros];

    /// The unit as the config writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Millis => "ms",
            Self::Micros => "us",
        }
    }

    /// Decimals that a number of this unit may have: down to the microsecond, which is what the target holds.
    #[must_use]
    pub const fn decimals(self) -> u8 {
        match self {
            Self::Seconds => 6,
            Self::Millis => 3,
            Self::Micros => 0,
        }
    }
}

/// A span of days, both included, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Between(pub i32, pub i32);

impl Between {
    /// From 1900-01-01 to 2199-12-31.
    pub const USUAL: Self = Self(-25_567, 84_005);
}

/// Where a column's value comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnSource {
    /// A path of attribute names: `["address", "city"]`.
    Attribute(Vec<String>),
    /// The same literal in every row.
    Constant(String),
    /// In a child table: the parent's key attribute.
    Parent(String),
    /// In a child table: the position in the list, from 0.
    Ordinal,
    /// In a child table of plain values: the element itself.
    Element,
    /// The whole record, every attribute it has; for a column of type [`ColumnType::Document`].
    Whole,
}

/// What stands in when an attribute is absent or null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// SQL NULL.
    Null,
    /// This literal, written as in the config: `General`, `0`.
    Literal(String),
    /// The row is parked.
    Required,
}

/// Target column types that can be written and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// `text`.
    Text,
    /// `varchar(n)`, length in characters.
    Varchar(u32),
    /// `uuid`.
    Uuid,
    /// `numeric` with precision and scale; `None` is unbounded.
    Numeric(Option<(u16, u16)>),
    /// `smallint`.
    Smallint,
    /// `integer`.
    Integer,
    /// `bigint`.
    Bigint,
    /// `double precision`.
    Double,
    /// `boolean`.
    Boolean,
    /// `timestamptz`, from ISO 8601 text, or from numbers that count the column's declared unit.
    Timestamptz,
    /// `date`.
    Date,
    /// `jsonb`.
    Jsonb,
    /// `text[]`.
    TextArray,
    /// `bytea`.
    Bytea,
    /// Any other type of PostgreSQL, by its name. Its values go there and back in the text that the server writes and
    /// reads them in, and are compared as that text.
    Native(TypeName),
    /// An item, or a map, with the type of each value: what a document store holds verbatim.
    Document,
}

/// A list attribute that becomes rows of another table, replaced as a whole with its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChildTable {
    /// The child table's name in the target.
    pub target: String,
    /// Path of the list attribute.
    pub list: Vec<String>,
    /// Columns in insert order; must hold the parent's key columns and an ordinal or own key.
    pub columns: Vec<Column>,
    /// Child columns that hold the parent's key, in the parent's key order.
    pub parent_key: Vec<String>,
    /// Whether so few items have the list that a sample may show none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
}

/// A reference from this table to another one in the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Columns here.
    pub columns: Vec<String>,
    /// Id of the table they point at.
    pub references: String,
}

/// A table that stays where it is and is only watched (FEATURES A8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaysTable {
    /// Short name on screen.
    pub id: String,
    /// The store it is in, by name.
    #[serde(default = "old", skip_serializing_if = "is_old")]
    pub from: String,
    /// Name at the source.
    pub source: String,
}

fn old() -> String {
    OLD.to_owned()
}

fn new() -> String {
    NEW.to_owned()
}

fn is_old(store: &str) -> bool {
    store == OLD
}

fn is_new(store: &str) -> bool {
    store == NEW
}

impl StaysTable {
    /// As a table that is only read.
    #[must_use]
    pub fn watched(&self) -> Table {
        Table { from: self.from.clone(), ..Table::watched(&self.id, &self.source) }
    }
}

impl Table {
    /// A table that is only read: a name at the old store and nothing else.
    #[must_use]
    pub fn watched(id: &str, source: &str) -> Self {
        Self {
            id: id.to_owned(),
            from: old(),
            source: source.to_owned(),
            to: new(),
            target: String::new(),
            key: Vec::new(),
            columns: Vec::new(),
            children: Vec::new(),
            foreign_keys: Vec::new(),
            ttl: None,
            marker_prefix: String::new(),
            ddl: None,
            triggers: vec![],
            leave_out: vec![],
            after_load: vec![],
            mover: None,
        }
    }

    /// Whether its records go as they are, with everything they hold.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.columns.iter().any(|c| c.from == ColumnSource::Whole)
    }

    /// The columns that read this column of the source, or a part of it.
    pub fn readers<'t>(&'t self, source: &'t str) -> impl Iterator<Item = &'t Column> + 't {
        let reads =
            move |c: &&Column| matches!(&c.from, ColumnSource::Attribute(p) if p.first().is_some_and(|n| n == source));
        self.columns.iter().filter(reads)
    }

    /// Names of the target's primary key columns, in column order.
    pub fn key_columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(|c| c.key).map(|c| c.name.as_str())
    }
}

impl ColumnType {
    /// Names to offer when a type is not one.
    pub const NAMES: [&str; 15] = [
        "text",
        "varchar(255)",
        "uuid",
        "numeric",
        "numeric(12,2)",
        "smallint",
        "integer",
        "bigint",
        "double precision",
        "boolean",
        "timestamptz",
        "date",
        "jsonb",
        "text[]",
        "bytea",
    ];

    /// Whether only the database knows the type.
    #[must_use]
    pub const fn is_native(self) -> bool {
        matches!(self, Self::Native(_))
    }

    /// The type of the attribute in which DynamoDB keeps a key of this type; `None` for one that can be no key there.
    #[must_use]
    pub const fn key_attribute(self) -> Option<&'static str> {
        match self {
            Self::Text | Self::Varchar(_) | Self::Uuid | Self::Timestamptz | Self::Date => Some("S"),
            Self::Numeric(_) | Self::Smallint | Self::Integer | Self::Bigint | Self::Double => Some("N"),
            Self::Bytea => Some("B"),
            Self::Boolean | Self::Jsonb | Self::TextArray | Self::Document | Self::Native(_) => None,
        }
    }

    /// The type as PostgreSQL writes it; one that only the database knows as the config writes it.
    #[must_use]
    pub fn sql(self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Varchar(n) => format!("varchar({n})"),
            Self::Uuid => "uuid".into(),
            Self::Numeric(None) => "numeric".into(),
            Self::Numeric(Some((p, s))) => format!("numeric({p},{s})"),
            Self::Smallint => "smallint".into(),
            Self::Integer => "integer".into(),
            Self::Bigint => "bigint".into(),
            Self::Double => "double precision".into(),
            Self::Boolean => "boolean".into(),
            Self::Timestamptz => "timestamptz".into(),
            Self::Date => "date".into(),
            Self::Jsonb => "jsonb".into(),
            Self::TextArray => "text[]".into(),
            Self::Bytea => "bytea".into(),
            Self::Native(name) => name.written().into(),
            // No relational type: a table that has such a column goes to a document store.
            Self::Document => "document".into(),
        }
    }
}
