//! What a checkpoint takes of a worker's state: hard links to the files of every shard, with those marked that the
//! checkpoint storage has already.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use thalweg_core::Result;
use thalweg_core::stored::{StoredFile, StoredShard, StoredTable};

use crate::errors;

/// Shared by a shard and its snapshots, so that an upload that ends beside the stream is known to the next snapshot.
pub(crate) type StoredFiles = Arc<Mutex<HashMap<String, StoredFile>>>;

/// One shard at one checkpoint. Can be sent to another thread; its files stay until the snapshot is released.
#[derive(Debug, Clone)]
pub struct ShardSnapshot {
    /// Which of the worker's shards it is; stable within an attempt.
    pub ordinal: usize,
    pub groups: Range<u16>,
    /// Where the hard links are.
    pub dir: PathBuf,
    pub files: Vec<SnapshotFile>,
    pub tables: Vec<StoredTable>,
    pub(crate) stored: StoredFiles,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    pub name: String,
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// Holds the same bytes for as long as this shard lives (within the attempt), so it is stored once. The others
    /// (`CURRENT`, `MANIFEST-…`; small) differ from snapshot to snapshot.
    pub immutable: bool,
    /// `Some`: the checkpoint storage has it, from an earlier checkpoint. `None`: to be stored.
    pub stored: Option<StoredFile>,
}

impl ShardSnapshot {
    /// Tells the shard that a file is durable in the checkpoint storage: later snapshots give it as `stored`.
    pub fn mark_stored(&self, file: StoredFile) {
        if self.files.iter().any(|f| f.immutable && f.name == file.name) {
            self.stored.lock().insert(file.name.clone(), file);
        }
    }

    /// What stands in the manifest, when `files` are all in the storage.
    pub fn to_stored(&self, files: Vec<StoredFile>) -> StoredShard {
        StoredShard { groups: self.groups.clone(), files, tables: self.tables.clone() }
    }
}

/// Where the links of a checkpoint are, within the worker's directory.
pub(crate) fn dir_of(worker_dir: &Path, checkpoint: u64) -> PathBuf {
    worker_dir.join(format!("chk-{checkpoint}"))
}

/// Removes the links of a checkpoint; none there is fine.
pub(crate) fn release(worker_dir: &Path, checkpoint: u64) -> Result<()> {
    let dir = dir_of(worker_dir, checkpoint);
    match std::fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(errors::file(&dir, "removing the snapshot", &e)),
        _ => Ok(()),
    }
}
