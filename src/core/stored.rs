//! What a checkpoint holds of state: shards of key groups, their files, their tables. `state` writes and opens them,
//! `checkpoint` keeps them in the manifest; neither sees the other.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::types::SqlType;

/// Names one state table of one job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// Id of the operator that owns it: 32 hex digits.
    pub operator: String,
    /// The operator's variant (carried columns, format).
    pub variant: u64,
    /// `StateTableSpec::name`: unique within the operator.
    pub table: String,
}

impl TableName {
    pub fn new(operator: impl Into<String>, variant: u64, table: impl Into<String>) -> Self {
        TableName { operator: operator.into(), variant, table: table.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}.{}", self.operator, self.variant, self.table)
    }
}

/// One immutable file of a shard in the checkpoint storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Within the shard: `000012.sst`, `MANIFEST-000004`, `CURRENT`.
    pub name: String,
    /// Path in the checkpoint storage, relative to its root.
    pub object: String,
    /// In bytes.
    pub size: u64,
    /// CRC-32 (IEEE) of the whole file.
    pub crc32: u32,
}

/// One table within a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTable {
    pub name: TableName,
    /// What it is called inside the shard; keeps the name of its first owner when state is matched to a new variant.
    pub column_family: String,
    /// Approximate.
    pub rows: u64,
    /// Approximate, on disk.
    pub bytes: u64,
}

/// A contiguous range of key groups with everything that opens it again. Its files may hold keys outside of `groups`
/// (left from before a split): they mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredShard {
    pub groups: Range<u16>,
    pub files: Vec<StoredFile>,
    pub tables: Vec<StoredTable>,
}

/// A stored table and the table of the new graph that goes on with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMatch {
    pub stored: TableName,
    pub table: TableName,
    /// The new graph carries fewer value columns: the values are rewritten when they are restored.
    pub narrow: Option<NarrowValues>,
}

/// How stored values become values of fewer columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarrowValues {
    /// Of the stored value columns, in order.
    pub types: Vec<SqlType>,
    /// Ordinals within them of the columns of the new values, in order.
    pub keep: Vec<usize>,
}
