//! What an export holds, from where, and of which moment. Never holds a secret.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::ExportError;
use super::lines::Written;
use crate::domain::at::At;
use crate::domain::plan::{AfterLoad, Store};

/// The file's name.
pub(super) const MANIFEST: &str = "manifest.json";

/// What says that a manifest is ours.
const FORMAT: &str = "cutover-export";

/// The version of the layout that this program writes, and the last one that it reads.
const VERSION: u32 = 1;

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordForm {
    /// DynamoDB's own JSON, keys and sets in order: `{"id":{"S":"b1"},"price":{"N":"19.9"}}`.
    DynamodbJson,
    /// An object of a row's columns, each value as the text that PostgreSQL writes and reads for its type, or null.
    PostgresqlText,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// Its id in the plan.
    pub id: String,
    /// The store it is in, by name.
    pub store: String,
    /// Its name there.
    pub source: String,
    /// Key attributes or columns in order, with their types.
    pub key: Vec<(String, String)>,
    /// Columns in order, with their types as the store writes them. Empty where records have no fixed ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<(String, String)>,
    /// The file, in the same folder.
    pub file: String,
    /// How records are written.
    pub form: RecordForm,
    /// Records.
    pub records: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// What the records add up to in whatever order they are read, in hexadecimal. Absent in exports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What makes the table again. Absent where the store did not say it, and in exports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structure: Option<Structure>,
    /// When reading it began.
    pub began: String,
    /// When it ended.
    pub ended: String,
    /// The one moment that all records are of; absent where they were read while customers went on writing: then each
    /// is as it stood at some moment between these two, and records that came or went meanwhile may be there or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<String>,
}

/// What a table is made of, as its store said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Structure {
    /// Its place among the tables of its store: what makes it may need what makes those before it.
    pub place: usize,
    /// What makes it: statements, or the definition of a DynamoDB table as JSON.
    pub ddl: String,
    /// What is made once its records are there: foreign keys and triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_load: Vec<AfterLoad>,
}

impl TableEntry {
    /// Its file in an export's folder.
    ///
    /// # Errors
    /// The manifest names a file that leads elsewhere.
    pub(super) fn path(&self, folder: &Path) -> Result<PathBuf, ExportError> {
        if self.file.contains('/') || !self.file.ends_with(".ndjson.zst") {
            let why = format!("it names the file {:?}, which no export writes", self.file);
            return Err(ExportError::Manifest { path: folder.join(MANIFEST), why });
        }
        Ok(folder.join(&self.file))
    }

    /// The same with what was written.
    #[must_use]
    pub fn with(self, written: Written) -> Self {
        let Written { records, bytes, file_bytes, sha256, digest } = written;
        Self { records, bytes, file_bytes, sha256, digest: Some(digest), ..self }
    }
}

/// A whole export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u32,
    /// The version of the program.
    pub program: String,
    /// The plan: `cloudshelf/production`.
    pub plan: String,
    /// Its hash.
    pub plan_hash: String,
    /// When the export began.
    pub began: String,
    /// When it ended.
    pub ended: String,
    /// Stores that tables came from, by name: who they are, not how they are reached.
    pub stores: BTreeMap<String, Store>,
    /// Whom calls to them were signed as, where they are signed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signed_as: BTreeMap<String, String>,
    /// Tables.
    pub tables: Vec<TableEntry>,
    /// What belongs to the tables and is not in the export, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl Manifest {
    /// An export of this plan that holds nothing yet.
    #[must_use]
    pub fn begun(plan: &str, hash: &str, began: At) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            plan: plan.to_owned(),
            plan_hash: hash.to_owned(),
            began: began.rfc3339(),
            ended: began.rfc3339(),
            stores: BTreeMap::new(),
            signed_as: BTreeMap::new(),
            tables: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Reads the manifest of an export.
    ///
    /// # Errors
    /// There is none, it is another file, or a later version of this program wrote it.
    pub fn read(folder: &Path) -> Result<Self, ExportError> {
        let path = folder.join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && folder.is_dir() => {
                return Err(ExportError::NoManifest(folder.to_owned()));
            }
            Err(e) => return Err(ExportError::io("read", &path)(e)),
        };
        let wrong = |why: String| ExportError::Manifest { path: path.clone(), why };
        let any: serde_json::Value =
            serde_json::from_slice(&text).map_err(|e| wrong(format!("it is no JSON: {e}; it was changed or cut")))?;
        match (any["format"].as_str(), any["version"].as_u64()) {
            (Some(FORMAT), Some(version)) if version <= u64::from(VERSION) => {}
            (Some(FORMAT), Some(version)) => {
                return Err(wrong(format!("layout {version} is of a later version of this program; use that one")));
            }
            _ => return Err(wrong("it is no manifest of `cutover export`".to_owned())),
        }
        serde_json::from_value(any).map_err(|e| wrong(format!("{e}; it was changed")))
    }
}
