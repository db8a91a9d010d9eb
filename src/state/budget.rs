//! `state.memory-budget`: one number per process, shared by all jobs and workers.
//!
//! A fixed quarter of it is RocksDB's (block cache and memtables); up to three eighths go to the filters that know what was
//! evicted, as far as something is; the rest is for typed state, which operators hold in memory. Workers report what they
//! hold; when the sum is over the limit, the largest holders are told to shrink.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use rocksdb::{Cache, WriteBufferManager};

/// Below this RocksDB works badly: a few memtables and the upper index blocks must fit.
const ROCKSDB_BYTES_MIN: usize = 8 << 20;
/// Of `total_bytes`, one in this many goes to RocksDB.
const ROCKSDB_SHARE: usize = 4;
/// Of `total_bytes`, filters take at most so many eighths: what a key in memory takes serves for dozens in a filter.
const FILTER_EIGHTHS: usize = 3;
/// Of what filters may still take, one gets at most one in this many parts at a time: there are others.
const FILTER_PART: usize = 3;
/// Larger memtables do not make anything faster, but checkpoints slower.
const MEMTABLE_BYTES_MAX: usize = 64 << 20;
const MEMTABLE_BYTES_MIN: usize = 1 << 20;
/// After shrinking, this much of the limit is used at most (in eighths), so that workers do not shrink every tick.
const SHRINK_TO_EIGHTHS: usize = 7;
/// A tick's own state may take so many times a worker's part of the limit: it goes when the tick ends.
const TICK_TIMES: usize = 2;
/// Less than this is not given back within a tick.
const TICK_BYTES_MIN: usize = 32 << 20;
/// What a machine that does not say is taken to have.
const MACHINE_BYTES_UNKNOWN: u64 = 4 << 30;

/// The memory for state of a whole process.
pub struct Budget {
    total_bytes: usize,
    rocksdb: OnceLock<RocksMemory>,
    typed_bytes: AtomicUsize,
    filter_bytes: AtomicUsize,
    /// `None`: as the size of memtables says.
    bulk_bytes_min: Option<usize>,
    holders: Mutex<Vec<Weak<AtomicUsize>>>,
}

/// What all RocksDB instances of the process share.
pub(crate) struct RocksMemory {
    pub cache: Cache,
    pub write_buffers: WriteBufferManager,
    /// Size at which one memtable is written out.
    pub memtable_bytes: usize,
}

impl Budget {
    /// A budget of `total_bytes` for typed state, block cache and memtables together.
    pub fn new(total_bytes: usize) -> Arc<Self> {
        Arc::new(Budget {
            total_bytes,
            rocksdb: OnceLock::new(),
            typed_bytes: AtomicUsize::new(0),
            filter_bytes: AtomicUsize::new(0),
            bulk_bytes_min: None,
            holders: Mutex::new(vec![]),
        })
    }

    /// Half of the memory of the machine, or of the control group (version 1 or 2) that limits this process.
    pub fn default_for_machine() -> Arc<Self> {
        let bytes = memory_limit(Path::new("/")).unwrap_or(MACHINE_BYTES_UNKNOWN);
        Self::new(usize::try_from(bytes / 2).unwrap_or(usize::MAX))
    }

    pub fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// What RocksDB may use: block cache and memtables.
    pub fn rocksdb_bytes_max(&self) -> usize {
        (self.total_bytes / ROCKSDB_SHARE).max(ROCKSDB_BYTES_MIN)
    }

    /// What all workers of the process may hold as typed state.
    pub fn typed_bytes_max(&self) -> usize {
        self.total_bytes.saturating_sub(self.rocksdb_bytes_max()).saturating_sub(self.filter_bytes()).max(1 << 20)
    }

    /// What filters of evicted keys take now.
    pub fn filter_bytes(&self) -> usize {
        self.filter_bytes.load(Relaxed)
    }

    /// Room for a filter of at most so many bytes; gives how many it gets.
    pub(crate) fn take_filter_bytes(&self, wanted: usize) -> usize {
        let max = self.total_bytes / 8 * FILTER_EIGHTHS;
        let part = |held: usize| wanted.min(max.saturating_sub(held) / FILTER_PART);
        match self.filter_bytes.fetch_update(Relaxed, Relaxed, |held| Some(held + part(held))) {
            Ok(held) | Err(held) => part(held),
        }
    }

    pub(crate) fn give_filter_bytes(&self, bytes: usize) {
        self.filter_bytes.fetch_sub(bytes, Relaxed);
    }

    /// Writes of so many bytes would fill a memtable by themselves: they make a file of their own.
    pub(crate) fn bulk_bytes_min(&self) -> usize {
        self.bulk_bytes_min.unwrap_or_else(|| self.rocksdb().memtable_bytes / 4)
    }

    /// For tests: writes of so many bytes make a file of their own.
    #[cfg(test)]
    pub(crate) fn with_bulk_from(total_bytes: usize, bytes: usize) -> Arc<Self> {
        let mut budget = Arc::into_inner(Self::new(total_bytes)).expect("just made");
        budget.bulk_bytes_min = Some(bytes);
        Arc::new(budget)
    }

    /// What all workers hold as typed state now, as last reported.
    pub fn typed_bytes(&self) -> usize {
        self.typed_bytes.load(Relaxed)
    }

    /// What an operator may hold within a tick.
    pub fn tick_bytes_max(&self) -> usize {
        let workers = self.holders.lock().iter().filter(|h| h.strong_count() > 0).count();
        (self.typed_bytes_max() / workers.max(1)).saturating_mul(TICK_TIMES).max(TICK_BYTES_MIN)
    }

    /// The account of one worker of one attempt; its bytes are given back when it is dropped.
    pub fn account(self: &Arc<Self>) -> TypedBytes {
        let held = Arc::new(AtomicUsize::new(0));
        let mut holders = self.holders.lock();
        holders.retain(|h| h.strong_count() > 0);
        holders.push(Arc::downgrade(&held));
        TypedBytes { budget: self.clone(), held }
    }

    pub(crate) fn rocksdb(&self) -> &RocksMemory {
        self.rocksdb.get_or_init(|| {
            let bytes = self.rocksdb_bytes_max();
            let cache = Cache::new_lru_cache(bytes);
            // Memtables are counted in the cache: together they stay within `bytes`.
            let write_buffers =
                WriteBufferManager::new_write_buffer_manager_with_cache(bytes / 2, false, cache.clone());
            let memtable_bytes = (bytes / 8).clamp(MEMTABLE_BYTES_MIN, MEMTABLE_BYTES_MAX);
            RocksMemory { cache, write_buffers, memtable_bytes }
        })
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Budget({} bytes, {} held as typed state)", self.total_bytes, self.typed_bytes())
    }
}

/// What one worker holds as typed state.
#[derive(Debug)]
pub struct TypedBytes {
    budget: Arc<Budget>,
    held: Arc<AtomicUsize>,
}

impl TypedBytes {
    /// Reports what the worker's operators hold now.
    pub fn set(&self, bytes: usize) {
        let before = self.held.swap(bytes, Relaxed);
        // Wraps where it falls: the sum of all differences is never negative.
        self.budget.typed_bytes.fetch_add(bytes.wrapping_sub(before), Relaxed);
    }

    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// `Some(bytes)` if this worker should shrink to at most `bytes`, because the process is over its limit and this
    /// worker is one of those that hold most. Cheap while the limit is kept.
    pub fn shrink_to(&self) -> Option<usize> {
        let max = self.budget.typed_bytes_max();
        if self.budget.typed_bytes() <= max {
            return None;
        }
        let held: Vec<usize> =
            self.budget.holders.lock().iter().filter_map(Weak::upgrade).map(|h| h.load(Relaxed)).collect();
        let level = level(held, max / 8 * SHRINK_TO_EIGHTHS);
        (self.held() > level).then_some(level)
    }
}

impl Drop for TypedBytes {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The highest `level` for which the sum of `min(held, level)` is at most `max`: small holders keep what they have,
/// large ones are cut to the same level.
fn level(mut held: Vec<usize>, max: usize) -> usize {
    held.sort_unstable();
    let mut left = max;
    for (i, bytes) in held.iter().enumerate() {
        let share = left / (held.len() - i);
        if *bytes > share {
            return share;
        }
        left -= bytes;
    }
    usize::MAX
}

/// Memory that this process may use, in bytes: the least of the machine's and of all control groups that it is in.
/// `root` is `/` but in tests.
fn memory_limit(root: &Path) -> Option<u64> {
    let machine = read(root, "proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
    });
    let groups = read(root, "proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
        let (base, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return vec![],
        };
        // A limit of any group above binds too. In a container the path may be the host's: then the root counts.
        let path = Path::new(path.trim_start_matches('/'));
        path.ancestors().filter_map(|p| read(&root.join(base).join(p), file)?.trim().parse::<u64>().ok()).collect()
    });
    machine.into_iter().chain(limits).min()
}

fn read(dir: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(dir.join(file)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_holders_shrink_and_small_ones_do_not() {
        assert_eq!(level(vec![10, 100, 200], 1000), usize::MAX);
        assert_eq!(level(vec![10, 100, 200], 160), 75);
        assert_eq!(level(vec![], 0), usize::MAX);
        assert_eq!(level(vec![5, 5], 4), 2);
    }

    #[test]
    fn accounts_are_summed_and_given_back() {
        let budget = Budget::new(64 << 20);
        assert_eq!(budget.typed_bytes_max(), 48 << 20);
        let (a, b) = (budget.account(), budget.account());
        a.set(40 << 20);
        b.set(4 << 20);
        assert_eq!(a.shrink_to(), None);
        a.set(60 << 20);
        assert_eq!(budget.typed_bytes(), 64 << 20);
        assert_eq!(a.shrink_to(), Some((42 << 20) - (4 << 20)));
        assert_eq!(b.shrink_to(), None);
        drop(a);
        assert_eq!(budget.typed_bytes(), 4 << 20);
    }

    #[test]
    fn the_tightest_limit_of_machine_and_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(memory_limit(root.path()), None);
        put("proc/meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\n");
        assert_eq!(memory_limit(root.path()), Some(16_000_000 * 1024));
        put("proc/self/cgroup", "12:cpu:/x\n4:memory:/a/b\n");
        put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
        put("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "2000000\n");
        assert_eq!(memory_limit(root.path()), Some(2_000_000));
        put("proc/self/cgroup", "0::/user.slice/job\n");
        put("sys/fs/cgroup/user.slice/job/memory.max", "max\n");
        put("sys/fs/cgroup/user.slice/memory.max", "1000000\n");
        assert_eq!(memory_limit(root.path()), Some(1_000_000));
    }
}
