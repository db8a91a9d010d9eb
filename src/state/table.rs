//! A state table over all shards of a worker.

use std::ops::ControlFlow;
use std::sync::Arc;

use thalweg_core::Result;
use thalweg_core::state::{KeyBatch, StateTable, StateTableSpec, WriteBatch, WriteOp};
use thalweg_core::stored::TableName;

use crate::options;
use crate::shard::Shard;
use crate::worker::Shards;

/// Keys in one call of RocksDB's multi-get; bounds the blocks that are pinned at a time.
const GET_KEYS_MAX: usize = 1024;
/// A larger batch is written in several: a memtable is only switched between two.
const WRITE_BYTES_MAX: usize = 1 << 20;

pub(crate) struct RocksTable {
    name: TableName,
    spec: StateTableSpec,
    shards: Arc<Shards>,
    /// Column family per shard, where there is one.
    families: Vec<Option<String>>,
}

impl RocksTable {
    pub fn new(name: TableName, spec: StateTableSpec, shards: Arc<Shards>) -> Self {
        let families = shards.list.iter().map(|s| s.column_family(&name)).collect();
        RocksTable { name, spec, shards, families }
    }

    /// The shard that owns the key group of `key`, and the table's column family in it, if it has one.
    fn shard_of(&self, key: &[u8]) -> Result<(&Shard, Option<&str>)> {
        let i = self.shards.of_key(key)?;
        Ok((&self.shards.list[i], self.families[i].as_deref()))
    }

    /// Goes through `keys` in ascending order, calling `run` with stretches that lie in one shard, as indices into
    /// `keys`.
    fn by_shard(
        &self,
        keys: &KeyBatch,
        stretch_max: usize,
        run: &mut dyn FnMut(&Shard, &str, &[u32]) -> Result<()>,
    ) -> Result<()> {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        if !keys.iter().is_sorted() {
            order.sort_unstable_by(|a, b| keys.get(*a as usize).cmp(keys.get(*b as usize)));
        }
        let mut rest = &order[..];
        while let Some(first) = rest.first() {
            let (shard, family) = self.shard_of(keys.get(*first as usize))?;
            let end = shard.groups.end.to_be_bytes();
            let len = rest[..rest.len().min(stretch_max)].partition_point(|i| keys.get(*i as usize) < &end[..]);
            if let Some(family) = family {
                run(shard, family, &rest[..len])?;
            }
            rest = &rest[len..];
        }
        Ok(())
    }

    /// Applies operations of one shard, in order.
    fn write_shard<'a>(&mut self, shard: usize, ops: impl Iterator<Item = &'a WriteOp>) -> Result<()> {
        let mut ops = ops.peekable();
        if self.families[shard].is_none() {
            // Nothing is there to be deleted.
            while ops.next_if(|op| !matches!(op, WriteOp::Put(..))).is_some() {}
            if ops.peek().is_none() {
                return Ok(());
            }
            self.families[shard] = Some(self.shards.list[shard].make_column_family(&self.name)?);
        }
        let family = self.families[shard].as_deref().expect("made above");
        let shard = &self.shards.list[shard];
        let (db, cf) = shard.open(family);
        let write = |batch| db.write_opt(batch, &shard.write).map_err(|e| shard.error("writing state", &e));
        let mut batch = rocksdb::WriteBatch::default();
        for op in ops {
            match op {
                WriteOp::Put(key, value) => batch.put_cf(&cf, key, value),
                WriteOp::Delete(key) => batch.delete_cf(&cf, key),
                WriteOp::DeleteRange(from, to) => batch.delete_range_cf(&cf, from, to),
            }
            if batch.size_in_bytes() >= WRITE_BYTES_MAX {
                write(std::mem::take(&mut batch))?;
            }
        }
        if batch.is_empty() { Ok(()) } else { write(batch) }
    }
}

impl StateTable for RocksTable {
    fn spec(&self) -> &StateTableSpec {
        &self.spec
    }

    fn is_empty(&self) -> bool {
        self.families.iter().all(Option::is_none)
    }

    fn get_many(&self, keys: &KeyBatch, found: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.by_shard(keys, GET_KEYS_MAX, &mut |shard, family, stretch| {
            let (db, cf) = shard.open(family);
            let wanted = stretch.iter().map(|i| keys.get(*i as usize));
            let values = db.batched_multi_get_cf_opt(&cf, wanted, true, &shard.read);
            for (i, value) in stretch.iter().zip(values) {
                if let Some(value) = value.map_err(|e| shard.error("reading state", &e))? {
                    found(*i as usize, &value);
                }
            }
            Ok(())
        })
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        reverse: bool,
        row: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let (shard, Some(family)) = self.shard_of(prefix)? else { return Ok(()) };
        let (lower, upper) = bounds(prefix, after, reverse);
        if upper.as_ref().is_some_and(|u| *u <= lower) {
            return Ok(());
        }
        let mut read = options::read_options();
        read.set_iterate_lower_bound(lower.as_slice());
        if let Some(upper) = upper {
            read.set_iterate_upper_bound(upper);
        }
        let (db, cf) = shard.open(family);
        let mut iter = db.raw_iterator_cf_opt(&cf, read);
        if reverse {
            iter.seek_to_last();
        } else {
            iter.seek(&lower);
        }
        while let Some((key, value)) = iter.item() {
            if row(key, value).is_break() {
                return Ok(());
            }
            if reverse {
                iter.prev();
            } else {
                iter.next();
            }
        }
        iter.status().map_err(|e| shard.error("scanning state", &e))
    }

    fn scan_many(
        &self,
        prefixes: &KeyBatch,
        row: &mut dyn FnMut(usize, &[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.by_shard(prefixes, usize::MAX, &mut |shard, family, stretch| {
            let (db, cf) = shard.open(family);
            let mut read = options::read_options();
            let last = stretch.last().expect("a stretch has at least one prefix");
            if let Some(upper) = successor(prefixes.get(*last as usize)) {
                read.set_iterate_upper_bound(upper);
            }
            // One iterator for all: making one costs more than many seeks.
            let mut iter = db.raw_iterator_cf_opt(&cf, read);
            for i in stretch {
                let prefix = prefixes.get(*i as usize);
                iter.seek(prefix);
                while let Some((key, value)) = iter.item() {
                    if !key.starts_with(prefix) || row(*i as usize, key, value).is_break() {
                        break;
                    }
                    iter.next();
                }
                iter.status().map_err(|e| shard.error("scanning state", &e))?;
            }
            Ok(())
        })
    }

    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        self.shards.gate.pass();
        let ops = &batch.ops[..];
        let order = write_order(ops);
        if let [_] = self.shards.list[..] {
            ops.iter().try_for_each(|op| self.shards.of_key(op.key()).map(|_| ()))?;
            return self.write_shard(0, order.iter().map(|i| &ops[*i as usize]));
        }
        let mut by_shard: Vec<Vec<&WriteOp>> = self.shards.list.iter().map(|_| vec![]).collect();
        for op in order.iter().map(|i| &ops[*i as usize]) {
            by_shard[self.shards.of_key(op.key())?].push(op);
        }
        for (shard, ops) in by_shard.into_iter().enumerate() {
            self.write_shard(shard, ops.into_iter())?;
        }
        Ok(())
    }
}

/// The order in which operations are applied: sorted keys go into a memtable much faster. Operations on one key keep their
/// order, which is all that counts while no range is deleted; else all keep theirs.
fn write_order(ops: &[WriteOp]) -> Vec<u32> {
    let has_ranges = ops.iter().any(|op| matches!(op, WriteOp::DeleteRange(..)));
    if has_ranges || ops.is_sorted_by(|a, b| a.key() <= b.key()) {
        return (0..ops.len() as u32).collect();
    }
    // Most comparisons are decided by the first bytes, without a look at memory elsewhere.
    let first_bytes = |key: &[u8]| {
        let mut bytes = [0; 16];
        let n = key.len().min(16);
        bytes[..n].copy_from_slice(&key[..n]);
        u128::from_be_bytes(bytes)
    };
    let mut order: Vec<(u128, u32)> = ops.iter().zip(0..).map(|(op, i)| (first_bytes(op.key()), i)).collect();
    order.sort_unstable_by(|a, b| {
        let whole = || ops[a.1 as usize].key().cmp(ops[b.1 as usize].key());
        a.0.cmp(&b.0).then_with(whole).then(a.1.cmp(&b.1))
    });
    order.into_iter().map(|(_, i)| i).collect()
}

/// First key of a scan, and the first key behind it (`None`: the end of the table).
fn bounds(prefix: &[u8], after: Option<&[u8]>, reverse: bool) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut lower, mut upper) = (prefix.to_vec(), successor(prefix));
    match after {
        None => {}
        Some(after) if reverse && upper.as_deref().is_none_or(|u| after < u) => {
            upper = Some(after.to_vec());
        }
        Some(after) if after >= prefix => {
            lower = after.to_vec();
            lower.push(0);
        }
        Some(_) => {}
    }
    (lower, upper)
}

/// The least key that is greater than all keys which begin with `prefix`; `None` if there is none.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut key = prefix[..=last].to_vec();
    key[last] += 1;
    Some(key)
}
