//! All state of one worker in one attempt: its shards, their tables, snapshots.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use thalweg_core::state::{StateTable, StateTableSpec, WriteBatch};
use thalweg_core::stored::{StoredFile, StoredShard, StoredTable, TableMatch, TableName};
use thalweg_core::{Error, Result};

use crate::budget::Budget;
use crate::shard::Shard;
use crate::snapshot::{self, ShardSnapshot};
use crate::split;
use crate::table::RocksTable;

/// `state.backend.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Nothing is evicted: typed state stays in memory whatever the budget says. Only checkpoints write.
    Memory,
    /// Typed state is evicted to RocksDB when the budget is used up.
    #[default]
    RocksDb,
}

/// Where and what a worker stores.
#[derive(Debug, Clone)]
pub struct StateConfig {
    /// Local working directory of this worker in this attempt. Nobody else's; made at the first write; the caller
    /// removes it when the attempt is over.
    pub dir: PathBuf,
    /// Key groups that the worker owns.
    pub groups: Range<u16>,
    pub max_parallelism: u16,
    pub backend: Backend,
    pub budget: Arc<Budget>,
}

/// What a worker begins with.
#[derive(Debug, Clone, Default)]
pub struct Restore {
    /// Stored shards that hold key groups of this worker, whole or in part; others are ignored.
    pub shards: Vec<RestoredShard>,
    /// Stored tables that go on. Those that are not listed are dropped.
    pub matches: Vec<TableMatch>,
}

/// A shard of a checkpoint, its files on this machine.
#[derive(Debug, Clone)]
pub struct RestoredShard {
    /// The range as stored.
    pub groups: Range<u16>,
    pub files: Vec<StoredFile>,
    /// Where each of `files` is, in the same order. They are hard-linked into the working directory if that is on the
    /// same file system, else copied; never changed.
    pub paths: Vec<PathBuf>,
    pub tables: Vec<StoredTable>,
}

impl RestoredShard {
    /// A shard as it stands in the manifest, with the local path of every object.
    pub fn new(shard: StoredShard, path: impl Fn(&StoredFile) -> PathBuf) -> Self {
        let paths = shard.files.iter().map(path).collect();
        RestoredShard { groups: shard.groups, files: shard.files, paths, tables: shard.tables }
    }
}

/// Approximate size of one table, over all shards of the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    pub name: TableName,
    pub rows: u64,
    /// On disk.
    pub bytes: u64,
}

/// All state of one worker. Dropping it waits for snapshots that are being taken: the caller removes their folder next,
/// or the process ends, and a database must do neither while it is in use.
pub struct WorkerState {
    config: StateConfig,
    shards: Arc<Shards>,
    claimed: Mutex<HashSet<TableName>>,
}

/// A snapshot that was begun.
pub struct SnapshotTask {
    shards: Arc<Shards>,
    dir: PathBuf,
    /// What was put off; `None` when it is written, or if there is nothing.
    writes: Option<Vec<(TableName, WriteBatch)>>,
    /// Dropped last: who waits for the gate finds the databases let go.
    _closed: ClosedGate,
}

/// The gate, closed for one snapshot.
struct ClosedGate(Arc<Gate>);

impl Drop for ClosedGate {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl SnapshotTask {
    /// Writes what was put off and takes the snapshot; waits for the disk. After an error of the writes the state is lost:
    /// the worker's next checkpoint, read or write gives the error too.
    pub fn run(mut self) -> Result<Vec<ShardSnapshot>> {
        self.write()?;
        let open: Vec<(usize, &Shard)> = self.shards.list.iter().enumerate().filter(|(_, s)| s.is_open()).collect();
        if open.is_empty() {
            return Ok(vec![]);
        }
        open.iter().for_each(|(_, shard)| shard.begin_flush());
        let dir = &self.dir;
        std::fs::create_dir_all(dir).map_err(|e| crate::errors::file(dir, "making the snapshot directory", &e))?;
        let snapshots = each(&open, |(i, shard)| shard.snapshot(*i, dir)).into_iter().collect::<Result<Vec<_>>>()?;
        Ok(snapshots.into_iter().flatten().collect())
    }

    /// The checkpoint was given up: takes no snapshot, but writes what was put off, for it is part of the state.
    pub fn give_up(mut self) -> Result<()> {
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        let Some(writes) = &self.writes else { return Ok(()) };
        let written = self.shards.apply(writes);
        self.writes = None;
        self.shards.gate.written(written.clone().err());
        written
    }
}

impl Drop for SnapshotTask {
    fn drop(&mut self) {
        if self.writes.is_some() {
            self.shards.gate.written(Some(Error::internal("a checkpoint's writes were dropped").transient()));
        }
    }
}

/// The shards of a worker, by key group.
pub(crate) struct Shards {
    pub list: Vec<Shard>,
    groups: Range<u16>,
    /// Per owned key group: index in `list`.
    of_group: Vec<u16>,
    pub gate: Arc<Gate>,
    put_off: Mutex<PutOff>,
    put_off_bytes_max: usize,
}

/// Of the memory budget, one in this many bytes may hold a worker's writes that are put off, so that a checkpoint after a
/// bulk load does not double its memory.
const PUT_OFF_SHARE: usize = 32;
const PUT_OFF_BYTES_MIN: usize = 4 << 20;
/// As much as a hundredth of 200 million small rows.
const PUT_OFF_BYTES_MAX: usize = 256 << 20;

/// Writes of a checkpoint that are made beside the stream.
#[derive(Default)]
struct PutOff {
    /// Operators are flushing.
    collects: bool,
    writes: Vec<(TableName, WriteBatch)>,
    bytes: usize,
}

/// Keeps writers out while snapshots are taken, and readers while writes that were put off are made.
#[derive(Default)]
pub(crate) struct Gate {
    closed: Mutex<Closed>,
    opened: Condvar,
}

#[derive(Default)]
struct Closed {
    snapshots: usize,
    /// Snapshots whose writes are not made yet.
    unwritten: usize,
    /// Writes failed: what is in the tables is no state of any moment.
    lost: Option<Error>,
}

impl Gate {
    fn close(&self, has_writes: bool) {
        let mut closed = self.closed.lock();
        closed.snapshots += 1;
        closed.unwritten += usize::from(has_writes);
    }

    fn written(&self, error: Option<Error>) {
        let mut closed = self.closed.lock();
        closed.unwritten -= 1;
        closed.lost = closed.lost.take().or(error);
        self.opened.notify_all();
    }

    fn open(&self) {
        self.closed.lock().snapshots -= 1;
        self.opened.notify_all();
    }

    fn wait(&self, while_: impl Fn(&Closed) -> bool) -> Result<()> {
        let mut closed = self.closed.lock();
        self.opened.wait_while(&mut closed, |c| while_(c));
        closed.lost.clone().map_or(Ok(()), Err)
    }

    /// Returns when no snapshot is being taken.
    pub fn pass(&self) -> Result<()> {
        self.wait(|c| c.snapshots > 0)
    }

    /// Returns when no writes wait.
    fn pass_to_read(&self) -> Result<()> {
        self.wait(|c| c.unwritten > 0)
    }
}

impl WorkerState {
    /// Opens the restored shards; neither replays nor merges. Errors of code `Checkpoint` name the missing, shortened or
    /// damaged file; transient ones the directory.
    pub fn new(config: StateConfig, restore: &Restore) -> Result<Self> {
        if config.groups.end > config.max_parallelism {
            return Err(Error::internal(format!(
                "key groups {:?} of at most {}",
                config.groups, config.max_parallelism
            )));
        }
        let matches: HashMap<&TableName, &TableMatch> = restore.matches.iter().map(|m| (&m.stored, m)).collect();
        let ranges: Vec<_> = restore.shards.iter().map(|s| s.groups.clone()).collect();
        let parts = split::parts(&config.groups, &ranges)?;
        let open = |part: &split::Part| match part.stored {
            None => Ok(Shard::fresh(&config.dir, part.groups.clone(), config.budget.clone())),
            Some(i) => {
                let (groups, budget) = (part.groups.clone(), config.budget.clone());
                Shard::restore(&config.dir, groups, budget, &restore.shards[i], &matches)
            }
        };
        let list = each(&parts, open).into_iter().collect::<Result<Vec<_>>>()?;

        let mut of_group = vec![];
        for (i, shard) in list.iter().enumerate() {
            of_group.extend(shard.groups.clone().map(|_| i as u16));
        }
        debug_assert_eq!(of_group.len(), config.groups.len());
        let shards = Arc::new(Shards {
            list,
            groups: config.groups.clone(),
            of_group,
            gate: Arc::default(),
            put_off: Mutex::default(),
            put_off_bytes_max: (config.budget.total_bytes() / PUT_OFF_SHARE)
                .clamp(PUT_OFF_BYTES_MIN, PUT_OFF_BYTES_MAX),
        });
        Ok(WorkerState { config, shards, claimed: Mutex::default() })
    }

    pub fn config(&self) -> &StateConfig {
        &self.config
    }

    /// The table of an operator, over all shards of the worker, with what was restored under this name. A second call
    /// for the same table is an error: state is never given to two nodes.
    pub fn table(&self, operator: &str, variant: u64, spec: &StateTableSpec) -> Result<Box<dyn StateTable>> {
        let name = TableName::new(operator, variant, &spec.name);
        if !self.claimed.lock().insert(name.clone()) {
            return Err(Error::internal(format!("state table {name} is given to two operators")));
        }
        Ok(Box::new(RocksTable::new(name, spec.clone(), self.shards.clone(), &self.config.budget)))
    }

    /// Writes what the tables got to disk and hard-links all files to `dir/chk-<checkpoint>`. One entry per shard that
    /// has a database: none at all if nothing was ever written.
    pub fn snapshot(&self, checkpoint: u64) -> Result<Vec<ShardSnapshot>> {
        self.begin_snapshot(checkpoint).run()
    }

    /// From here to `begin_snapshot` writes are only collected: the snapshot's task makes them, beside the stream.
    ///
    /// # Errors
    /// The writes of an earlier snapshot failed: the state is lost.
    pub fn put_off_writes(&self) -> Result<()> {
        self.shards.gate.pass_to_read()?;
        self.shards.put_off.lock().collects = true;
        Ok(())
    }

    /// The same in two steps, so that the stream goes on while the disk works: the snapshot is of this moment, and the
    /// task can be run on any other thread. Until it is through (or dropped), writes wait for it, and who reads a table
    /// with writes that were put off waits for these.
    pub fn begin_snapshot(&self, checkpoint: u64) -> SnapshotTask {
        let put_off = std::mem::take(&mut *self.shards.put_off.lock());
        let writes = Some(put_off.writes).filter(|w| !w.is_empty());
        self.shards.gate.close(writes.is_some());
        SnapshotTask {
            shards: self.shards.clone(),
            dir: snapshot::dir_of(&self.config.dir, checkpoint),
            writes,
            _closed: ClosedGate(self.shards.gate.clone()),
        }
    }

    /// Removes the links of a snapshot: it is in the checkpoint storage, or was given up. None there is fine.
    pub fn release_snapshot(&self, checkpoint: u64) -> Result<()> {
        snapshot::release(&self.config.dir, checkpoint)
    }

    /// Approximate sizes of all tables, by name.
    pub fn table_sizes(&self) -> Vec<TableSize> {
        let mut sizes: BTreeMap<TableName, TableSize> = BTreeMap::new();
        for size in self.shards.list.iter().flat_map(Shard::table_sizes) {
            let sum =
                sizes.entry(size.name.clone()).or_insert_with(|| TableSize { name: size.name, rows: 0, bytes: 0 });
            sum.rows += size.rows;
            sum.bytes += size.bytes;
        }
        sizes.into_values().collect()
    }

    /// Tells whether all databases are closed.
    #[cfg(test)]
    pub(crate) fn is_closed(&self) -> impl Fn() -> bool + use<> {
        let shards = Arc::downgrade(&self.shards);
        move || shards.strong_count() == 0
    }

    /// What the shards take on disk, in bytes; without memtables and snapshots.
    pub fn bytes_on_disk(&self) -> u64 {
        self.table_sizes().iter().map(|t| t.bytes).sum()
    }
}

impl Drop for WorkerState {
    fn drop(&mut self) {
        // What is lost is nobody's any more.
        let _ = self.shards.gate.pass();
    }
}

impl Shards {
    /// Keeps a batch for the snapshot that follows; gives it back if none does.
    pub fn put_off(&self, table: &TableName, batch: WriteBatch) -> Result<Option<WriteBatch>> {
        let full = {
            let mut p = self.put_off.lock();
            if !p.collects {
                return Ok(Some(batch));
            }
            p.bytes += batch.bytes();
            p.writes.push((table.clone(), batch));
            if p.bytes <= self.put_off_bytes_max {
                return Ok(None);
            }
            p.bytes = 0;
            std::mem::take(&mut p.writes)
        };
        self.gate.pass()?;
        self.apply(&full)?;
        Ok(None)
    }

    /// Returns when everything that was put off is written. What is only collected is written now: an operator that reads
    /// while it flushes sees its own writes.
    pub fn settle(&self) -> Result<()> {
        let collected = {
            let mut p = self.put_off.lock();
            p.bytes = 0;
            std::mem::take(&mut p.writes)
        };
        if collected.is_empty() {
            return self.gate.pass_to_read();
        }
        self.gate.pass()?;
        self.apply(&collected)
    }

    fn apply(&self, writes: &[(TableName, WriteBatch)]) -> Result<()> {
        writes.iter().try_for_each(|(table, batch)| self.write(table, batch))
    }

    /// Index of the shard that owns the key group which `key` begins with.
    pub fn of_key(&self, key: &[u8]) -> Result<usize> {
        let group = key.first_chunk::<2>().map(|g| u16::from_be_bytes(*g));
        match group {
            Some(g) if self.groups.contains(&g) => Ok(usize::from(self.of_group[usize::from(g - self.groups.start)])),
            Some(g) => Err(Error::internal(format!("key group {g} is not of this worker's {:?}", self.groups))),
            None => Err(Error::internal("a state key does not begin with a key group")),
        }
    }
}

/// Runs `f` for every item, beside one another if there are several: each is mostly waiting for the disk.
fn each<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    match items {
        [] => vec![],
        [one] => vec![f(one)],
        many => std::thread::scope(|scope| {
            let threads: Vec<_> = many.iter().map(|item| scope.spawn(|| f(item))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        }),
    }
}
