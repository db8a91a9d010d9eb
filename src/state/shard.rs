//! One shard: a range of key groups in a RocksDB of its own, opened at the first write or from a checkpoint's files.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rocksdb::properties::{BACKGROUND_ERRORS, ESTIMATE_NUM_KEYS, IS_WRITE_STOPPED, LIVE_SST_FILES_SIZE};
use rocksdb::{
    BoundColumnFamily, DBWithThreadMode, FlushOptions, IngestExternalFileOptions, MultiThreaded, Options, ReadOptions,
    SstFileWriter, WriteOptions,
};
use thalweg_core::state::WriteOp;
use thalweg_core::stored::{StoredFile, StoredTable, TableMatch, TableName};
use thalweg_core::{Error, Result};

use crate::budget::Budget;
use crate::snapshot::{ShardSnapshot, SnapshotFile, StoredFiles};
use crate::worker::{RestoredShard, TableSize};
use crate::{errors, narrow, options, split};

pub(crate) type Db = DBWithThreadMode<MultiThreaded>;

/// How long a writer sleeps between two looks at whether there is room again.
const WRITE_STOPPED_WAIT: Duration = Duration::from_millis(1);
/// After so long without room nothing is being merged any more.
const WRITE_STOPPED_MAX: Duration = Duration::from_secs(600);
/// Every RocksDB has it; nothing is stored there.
const DEFAULT_COLUMN_FAMILY: &str = "default";

pub(crate) struct Shard {
    /// Key groups that this worker owns of it. The files may hold others, which are never read.
    pub groups: Range<u16>,
    dir: PathBuf,
    budget: Arc<Budget>,
    db: OnceLock<Db>,
    /// Table → column family. Guards opening and creating too.
    tables: Mutex<BTreeMap<TableName, String>>,
    /// Local file name → where the checkpoint storage has it.
    stored: StoredFiles,
    pub read: ReadOptions,
    pub write: WriteOptions,
    /// For files that are written directly, with their count: part of their names.
    files: OnceLock<Options>,
    files_written: AtomicU64,
}

impl Shard {
    /// A shard without anything in it, not on disk either.
    pub fn fresh(worker_dir: &Path, groups: Range<u16>, budget: Arc<Budget>) -> Self {
        Shard {
            dir: worker_dir.join(format!("shard-{:05}-{:05}", groups.start, groups.end)),
            groups,
            budget,
            db: OnceLock::new(),
            tables: Mutex::default(),
            stored: StoredFiles::default(),
            read: options::read_options(),
            write: options::write_options(),
            files: OnceLock::new(),
            files_written: AtomicU64::new(0),
        }
    }

    /// Opens `restored`, keeping `groups` of it. `matches`: stored table → how it goes on; a table without is dropped.
    pub fn restore(
        worker_dir: &Path,
        groups: Range<u16>,
        budget: Arc<Budget>,
        restored: &RestoredShard,
        matches: &HashMap<&TableName, &TableMatch>,
    ) -> Result<Self> {
        let shard = Self::fresh(worker_dir, groups, budget);
        std::fs::create_dir_all(&shard.dir).map_err(|e| errors::file(&shard.dir, "making the state directory", &e))?;
        if restored.files.len() != restored.paths.len() {
            return Err(Error::internal("a restored shard has one path for every file"));
        }
        for (file, path) in restored.files.iter().zip(&restored.paths) {
            link(file, path, &shard.dir)?;
        }
        *shard.stored.lock() = restored.files.iter().map(|f| (f.name.clone(), f.clone())).collect();

        let names = || restored.tables.iter().map(|t| t.column_family.as_str());
        let families = names().chain([DEFAULT_COLUMN_FAMILY]).map(|n| (n, options::open_options(&shard.budget, false)));
        let db = Db::open_cf_with_opts(&options::open_options(&shard.budget, false), &shard.dir, families)
            .map_err(|e| shard.error("opening restored state", &e))?;
        let drop_family =
            |family: &str| db.drop_cf(family).map_err(|e| shard.error("dropping a table that is no longer used", &e));
        let mut kept = BTreeMap::new();
        for table in &restored.tables {
            match matches.get(&table.name) {
                Some(m) => {
                    kept.insert(m.table.clone(), table.column_family.clone());
                }
                None => drop_family(&table.column_family)?,
            }
        }
        split::drop_outside(&db, kept.values().map(String::as_str), &shard.groups, &restored.groups)
            .map_err(|e| shard.error("splitting a shard", &e))?;
        for m in matches.values() {
            let (Some(narrow), Some(family)) = (&m.narrow, kept.get_mut(&m.table)) else { continue };
            let narrowed = free_name(&m.table, |name| names().any(|n| n == name));
            db.create_cf(&narrowed, &options::open_options(&shard.budget, false))
                .map_err(|e| shard.error("making a state table", &e))?;
            narrow::rewrite(&db, family, &narrowed, &shard.groups, narrow)
                .map_err(|e| e.context(format!("state table {}", m.stored)))?;
            drop_family(family)?;
            *family = narrowed;
        }
        *shard.tables.lock() = kept;
        shard.db.set(db).ok().expect("just made");
        Ok(shard)
    }

    pub fn is_open(&self) -> bool {
        self.db.get().is_some()
    }

    /// The column family of a table, if this shard has one.
    pub fn column_family(&self, table: &TableName) -> Option<String> {
        self.tables.lock().get(table).cloned()
    }

    /// The column family of a table; made (and the database with it) if there is none.
    pub fn make_column_family(&self, table: &TableName) -> Result<String> {
        let mut tables = self.tables.lock();
        if let Some(name) = tables.get(table) {
            return Ok(name.clone());
        }
        if self.db.get().is_none() {
            std::fs::create_dir_all(&self.dir)
                .map_err(|e| errors::file(&self.dir, "making the state directory", &e))?;
            let db = Db::open(&options::open_options(&self.budget, true), &self.dir)
                .map_err(|e| self.error("making the state database", &e))?;
            self.db.set(db).ok().expect("opened under the lock only");
        }
        // A family keeps the name of its first table; when that table comes back as another, it needs another name.
        let name = free_name(table, |name| tables.values().any(|v| *v == name));
        let db = self.db.get().expect("opened above");
        db.create_cf(&name, &options::open_options(&self.budget, false))
            .map_err(|e| self.error("making a state table", &e))?;
        tables.insert(table.clone(), name.clone());
        Ok(name)
    }

    /// The database and the handle of a column family that this shard has.
    pub fn open(&self, column_family: &str) -> (&Db, Arc<BoundColumnFamily<'_>>) {
        let db = self.db.get().expect("a shard with a column family is open");
        (db, db.cf_handle(column_family).expect("column families of known tables are never dropped"))
    }

    /// Writes of so many bytes are better made as a file than through a memtable.
    pub fn is_bulk(&self, bytes: usize) -> bool {
        bytes >= self.budget.bulk_bytes_min()
    }

    /// Applies puts and deletes, in ascending order of their keys (of equal keys the last counts), as one new file.
    pub fn write_file<'a>(&self, column_family: &str, ops: impl Iterator<Item = WriteOp<'a>>) -> Result<()> {
        let (db, cf) = self.open(column_family);
        let number = self.files_written.fetch_add(1, Relaxed);
        let path = self.dir.with_extension(format!("new-{number}"));
        let error = |e: rocksdb::Error| self.error("writing a state file", &e);
        let mut writer = SstFileWriter::create(self.files.get_or_init(|| options::file_options(&self.budget)));
        writer.open(&path).map_err(error)?;
        let mut ops = ops.peekable();
        while let Some(op) = ops.next() {
            if ops.peek().is_some_and(|next| next.key() == op.key()) {
                continue;
            }
            match op {
                WriteOp::Put(key, value) => writer.put(key, value),
                WriteOp::Delete(key) => writer.delete(key),
                WriteOp::DeleteRange(from, to) => writer.delete_range(from, to),
            }
            .map_err(error)?;
        }
        writer.finish().map_err(error)?;
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        // No reader holds a snapshot of RocksDB's.
        ingest.set_snapshot_consistency(false);
        db.ingest_external_file_cf_opts(&cf, &ingest, vec![&path]).map_err(error)?;
        // More files than can be merged hold up their writer, as memtables do.
        let began = Instant::now();
        while db.property_int_value_cf(&cf, IS_WRITE_STOPPED).map_err(error)? == Some(1) {
            let failures = db.property_int_value_cf(&cf, BACKGROUND_ERRORS).map_err(error)?.unwrap_or(0);
            if failures > 0 || began.elapsed() >= WRITE_STOPPED_MAX {
                return Err(Error::io(format!("state files in {} are not merged any more", self.dir.display()))
                    .note("is its disk full? the job goes on from its last checkpoint"));
            }
            std::thread::sleep(WRITE_STOPPED_WAIT);
        }
        Ok(())
    }

    /// An error of RocksDB, with the object of the checkpoint storage if a restored file is named in it.
    pub fn error(&self, doing: &str, e: &rocksdb::Error) -> Error {
        let error = errors::rocks(&self.dir, doing, e);
        let stored = self.stored.lock();
        match stored.values().find(|f| e.as_ref().contains(&f.name)) {
            Some(f) => error.note(format!("in the checkpoint storage the file is {}", f.object)),
            None => error,
        }
    }

    /// Writes memtables out and hard-links all files to `snapshot_dir`; `None` if there is no database.
    pub fn snapshot(&self, ordinal: usize, snapshot_dir: &Path) -> Result<Option<ShardSnapshot>> {
        let Some(db) = self.db.get() else { return Ok(None) };
        let dir = snapshot_dir.join(self.dir.file_name().expect("a shard's directory has a name"));
        // A checkpoint that was given up leaves its links, and the next one has its number.
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(errors::file(&dir, "removing the links of a checkpoint that was given up", &e));
            }
            _ => {}
        }
        rocksdb::checkpoint::Checkpoint::new(db)
            .and_then(|c| c.create_checkpoint(&dir))
            .map_err(|e| self.error("taking a snapshot", &e))?;

        let entries = std::fs::read_dir(&dir).map_err(|e| errors::file(&dir, "listing the snapshot", &e))?;
        let mut stored = self.stored.lock();
        let mut files = vec![];
        for entry in entries {
            let entry = entry.map_err(|e| errors::file(&dir, "listing the snapshot", &e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let immutable = name.ends_with(".sst");
            // RocksDB opens without the other files: options are ours, the log is empty.
            if !immutable && name != "CURRENT" && !name.starts_with("MANIFEST-") {
                continue;
            }
            let size = entry.metadata().map_err(|e| errors::file(&dir, "listing the snapshot", &e))?.len();
            let known = if immutable { stored.get(&name).cloned() } else { None };
            files.push(SnapshotFile { path: entry.path(), name, size, immutable, stored: known });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        // Names that are gone never come back.
        stored.retain(|name, _| files.iter().any(|f| f.name == *name));
        drop(stored);

        let sizes = self.table_sizes();
        let tables = self.tables.lock();
        let tables = tables.iter().zip(sizes).map(|((name, family), size)| StoredTable {
            name: name.clone(),
            column_family: family.clone(),
            rows: size.rows,
            bytes: size.bytes,
        });
        Ok(Some(ShardSnapshot {
            ordinal,
            groups: self.groups.clone(),
            tables: tables.collect(),
            dir,
            files,
            stored: self.stored.clone(),
        }))
    }

    /// Starts writing all memtables out beside one another; the snapshot, which flushes table by table, then only waits.
    pub fn begin_flush(&self) {
        let Some(db) = self.db.get() else { return };
        let tables = self.tables.lock();
        let handles: Vec<_> = tables.values().filter_map(|family| db.cf_handle(family)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(false);
        // What goes wrong here goes wrong in the snapshot too, which tells.
        let _ = db.flush_cfs_opt(&handles.iter().collect::<Vec<_>>(), &options);
    }

    /// Approximate rows and bytes on disk of every table, in the order of their names.
    pub fn table_sizes(&self) -> Vec<TableSize> {
        let Some(db) = self.db.get() else { return vec![] };
        let tables = self.tables.lock();
        tables
            .iter()
            .map(|(name, family)| {
                let cf = db.cf_handle(family).expect("column families of known tables are never dropped");
                let property = |p| db.property_int_value_cf(&cf, p).ok().flatten().unwrap_or(0);
                let (rows, bytes) = (property(ESTIMATE_NUM_KEYS), property(LIVE_SST_FILES_SIZE));
                TableSize { name: name.clone(), rows, bytes }
            })
            .collect()
    }
}

/// A name for a table's column family that no other one has.
fn free_name(table: &TableName, is_taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|n| format!("{table}~{n}"));
    std::iter::once(table.to_string()).chain(numbered).find(|name| !is_taken(name)).expect("numbers do not end")
}

/// Puts a checkpoint's file into a shard's directory: hard-linked if it never changes, else copied.
fn link(file: &StoredFile, path: &Path, dir: &Path) -> Result<()> {
    let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::checkpoint(format!("state file {} of the checkpoint is missing", path.display()))
                .note(errors::WHAT_TO_DO)
        }
        _ => errors::file(path, "reading the state file", &e),
    })?;
    if meta.len() != file.size {
        return Err(Error::checkpoint(format!(
            "state file {} of the checkpoint has {} bytes, its manifest says {}",
            path.display(),
            meta.len(),
            file.size
        ))
        .note(errors::WHAT_TO_DO));
    }
    let local = dir.join(&file.name);
    // RocksDB never changes a finished .sst file, only unlinks it. Another file system: copied.
    if file.name.ends_with(".sst") && std::fs::hard_link(path, &local).is_ok() {
        return Ok(());
    }
    std::fs::copy(path, &local).map_err(|e| errors::file(&local, "copying the state file", &e))?;
    Ok(())
}
