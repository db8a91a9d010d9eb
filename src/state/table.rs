//! A state table over all shards of a worker.
//!
//! A small batch of writes goes through RocksDB's memtable. A large one, as evictions make, would only pass through it to
//! become a file: it is written as a sorted file at once. Of a table that began empty, a filter in memory knows which
//! keys were ever written; look-ups of others cost nothing more.

use std::cell::{Cell, Ref, RefCell};
use std::ops::ControlFlow;
use std::sync::Arc;

use rocksdb::AsColumnFamilyRef;
use rocksdb::properties::ESTIMATE_NUM_KEYS;
use thalweg_core::Result;
use thalweg_core::hash::hash_bytes;
use thalweg_core::key::{KeyCodec, KeyOrder};
use thalweg_core::key_group::PREFIX_BYTES;
use thalweg_core::state::{KeyBatch, KeyColumn, StateTable, StateTableSpec, WriteBatch, WriteOp};
use thalweg_core::stored::TableName;

use crate::budget::Budget;
use crate::filter::KeyFilter;
use crate::options;
use crate::shard::{Db, Shard};
use crate::worker::Shards;

/// Keys in one call of RocksDB's multi-get; bounds the blocks that are pinned at a time.
const GET_KEYS_MAX: usize = 1024;
/// Look-ups and scans of fewer keys fill the block cache.
const SCANS_CACHED_MAX: usize = 4096;
/// They pass on from row to row if there is one wanted key for so many rows of the table.
const DENSE_ROWS: u64 = 16;
/// A larger batch is written in several: a memtable is only switched between two.
const WRITE_BYTES_MAX: usize = 1 << 20;

pub(crate) struct RocksTable {
    name: TableName,
    spec: StateTableSpec,
    shards: Arc<Shards>,
    /// Column family per shard, where there is one.
    families: RefCell<Vec<Option<String>>>,
    /// Writes were put off: those who read must wait for them, and see which column families there are.
    is_behind: Cell<bool>,
    /// `None`: it was restored, and nobody knows what it holds.
    filters: Option<Filters>,
}

/// What was ever written to a table.
struct Filters {
    keys: KeyFilter,
    /// Of the keys' routing columns, if that is not all of the key.
    prefixes: Option<KeyFilter>,
    codec: KeyCodec,
    routing_columns: usize,
}

impl Filters {
    fn new(spec: &StateTableSpec, budget: &Arc<Budget>) -> Self {
        let order = |c: &KeyColumn| KeyOrder {
            ty: c.ty.clone(),
            descending: c.descending,
            nulls_first: c.nulls_first,
            exact: c.exact,
        };
        let has_prefixes = (1..spec.key.len()).contains(&spec.routing_columns);
        Filters {
            keys: KeyFilter::new(budget.clone()),
            prefixes: has_prefixes.then(|| KeyFilter::new(budget.clone())),
            codec: KeyCodec::new(spec.key.iter().map(order).collect()),
            routing_columns: spec.routing_columns,
        }
    }

    /// The part of a key, or of a prefix of one, that routes it.
    fn routing<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        let len = self.codec.encoded_prefix_len(key.get(PREFIX_BYTES..)?, self.routing_columns).ok()?;
        Some(&key[..PREFIX_BYTES + len])
    }

    fn add(&mut self, batch: &WriteBatch) {
        let put = |op| if let WriteOp::Put(key, _) = op { Some(key) } else { None };
        let keys = || batch.iter().filter_map(put);
        if self.keys.tells() {
            self.keys.add_all(&keys().map(hash_bytes).collect::<Vec<_>>());
        }
        if self.prefixes.as_ref().is_some_and(KeyFilter::tells) {
            // A key that cannot be read goes by its whole: it is found by itself only, as in the table.
            let hashes: Vec<u64> = keys().map(|key| hash_bytes(self.routing(key).unwrap_or(key))).collect();
            self.prefixes.as_mut().expect("just looked at").add_all(&hashes);
        }
    }

    fn may_hold_key(&self, hash: u64) -> bool {
        self.keys.may_hold(hash)
    }

    fn may_hold_prefix(&self, prefix: &[u8]) -> bool {
        let filter = match &self.prefixes {
            Some(filter) => filter,
            None if self.routing_columns > 0 => &self.keys,
            None => return true,
        };
        !filter.tells() || self.routing(prefix).is_none_or(|routing| filter.may_hold(hash_bytes(routing)))
    }
}

impl RocksTable {
    pub fn new(name: TableName, spec: StateTableSpec, shards: Arc<Shards>, budget: &Arc<Budget>) -> Self {
        let families = shards.column_families(&name);
        let filters = families.iter().all(Option::is_none).then(|| Filters::new(&spec, budget));
        RocksTable { name, spec, shards, families: RefCell::new(families), is_behind: Cell::new(false), filters }
    }

    /// Column families, after all writes of this table.
    fn families(&self) -> Result<Ref<'_, Vec<Option<String>>>> {
        if self.is_behind.get() {
            self.shards.settle()?;
            *self.families.borrow_mut() = self.shards.column_families(&self.name);
            self.is_behind.set(false);
        }
        Ok(self.families.borrow())
    }

    /// Goes through some of `keys` in ascending order, calling `run` with stretches that lie in one shard, as indices
    /// into `keys`.
    fn by_shard(
        &self,
        keys: &KeyBatch,
        wanted: Vec<u32>,
        run: &mut dyn FnMut(&Shard, &str, &[u32]) -> Result<()>,
    ) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let wanted = keys.sorted_of(wanted);
        let families = self.families()?;
        let mut rest = &wanted[..];
        while let Some(first) = rest.first() {
            let i = self.shards.of_key(keys.get(*first as usize))?;
            let (shard, family) = (&self.shards.list[i], families[i].as_deref());
            let end = shard.groups.end.to_be_bytes();
            let len = rest.partition_point(|i| keys.get(*i as usize) < &end[..]);
            if let Some(family) = family {
                run(shard, family, &rest[..len])?;
            }
            rest = &rest[len..];
        }
        Ok(())
    }

    /// Those of the keys that may be stored.
    fn may_be_stored(&self, keys: &KeyBatch) -> Vec<u32> {
        let all = 0..keys.len() as u32;
        match &self.filters {
            Some(filters) if filters.keys.tells() => {
                // Apart, so that look-ups do not wait for one another.
                let hashes: Vec<u64> = keys.iter().map(hash_bytes).collect();
                all.filter(|i| filters.may_hold_key(hashes[*i as usize])).collect()
            }
            _ => all.collect(),
        }
    }
}

impl Shards {
    fn column_families(&self, table: &TableName) -> Vec<Option<String>> {
        self.list.iter().map(|s| s.column_family(table)).collect()
    }

    /// Writes to a table, in the order in which it is fastest.
    pub fn write(&self, table: &TableName, batch: &WriteBatch) -> Result<()> {
        // Sorted keys go into a memtable much faster, and into a file only so. Writes of one key keep their order, which
        // is all that counts while no range is deleted; else all keep theirs.
        let order = match batch.has_ranges() {
            true => (0..batch.len() as u32).collect(),
            false => batch.keys().sorted(),
        };
        let mut by_shard: Vec<Vec<u32>> = self.list.iter().map(|_| vec![]).collect();
        for i in order {
            by_shard[self.of_key(batch.keys().get(i as usize))?].push(i);
        }
        by_shard.iter().zip(&self.list).try_for_each(|(order, shard)| write_shard(shard, table, batch, order))
    }
}

/// Applies writes of one shard, in the given order.
fn write_shard(shard: &Shard, table: &TableName, batch: &WriteBatch, mut order: &[u32]) -> Result<()> {
    let family = match shard.column_family(table) {
        Some(family) => family,
        None => {
            // Nothing is there to be deleted.
            let first = order.iter().position(|i| matches!(batch.get(*i as usize), WriteOp::Put(..)));
            let Some(first) = first else { return Ok(()) };
            order = &order[first..];
            shard.make_column_family(table)?
        }
    };
    let bytes = batch.payload_bytes() / batch.len().max(1) * order.len();
    if shard.is_bulk(bytes) && !batch.has_ranges() {
        return shard.write_file(&family, order.iter().map(|i| batch.get(*i as usize)));
    }
    let (db, cf) = shard.open(&family);
    let write = |batch| db.write_opt(batch, &shard.write).map_err(|e| shard.error("writing state", &e));
    let mut writes = rocksdb::WriteBatch::default();
    for i in order {
        match batch.get(*i as usize) {
            WriteOp::Put(key, value) => writes.put_cf(&cf, key, value),
            WriteOp::Delete(key) => writes.delete_cf(&cf, key),
            WriteOp::DeleteRange(from, to) => writes.delete_range_cf(&cf, from, to),
        }
        if writes.size_in_bytes() >= WRITE_BYTES_MAX {
            write(std::mem::take(&mut writes))?;
        }
    }
    if writes.is_empty() { Ok(()) } else { write(writes) }
}

impl StateTable for RocksTable {
    fn spec(&self) -> &StateTableSpec {
        &self.spec
    }

    fn is_empty(&self) -> bool {
        !self.is_behind.get() && self.families.borrow().iter().all(Option::is_none)
    }

    fn may_hold(&self, prefixes: &KeyBatch) -> Vec<u32> {
        if self.is_empty() {
            return vec![];
        }
        let all = 0..prefixes.len() as u32;
        match &self.filters {
            None => all.collect(),
            Some(filters) => all.filter(|i| filters.may_hold_prefix(prefixes.get(*i as usize))).collect(),
        }
    }

    fn get_many(&self, keys: &KeyBatch, found: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.by_shard(keys, self.may_be_stored(keys), &mut |shard, family, stretch| {
            let (db, cf) = shard.open(family);
            if steps_max(shard, db, &cf, stretch.len())? > 0 {
                return walk(shard, family, keys, stretch, &mut |i, key, value| {
                    if key == keys.get(i) {
                        found(i, value);
                    }
                    // Of a key there is one row.
                    ControlFlow::Break(())
                });
            }
            for part in stretch.chunks(GET_KEYS_MAX) {
                let wanted = part.iter().map(|i| keys.get(*i as usize));
                let values = db.batched_multi_get_cf_opt(&cf, wanted, true, &shard.read);
                for (i, value) in part.iter().zip(values) {
                    if let Some(value) = value.map_err(|e| shard.error("reading state", &e))? {
                        found(*i as usize, &value);
                    }
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
        let families = self.families()?;
        let i = self.shards.of_key(prefix)?;
        let (shard, Some(family)) = (&self.shards.list[i], families[i].as_deref()) else { return Ok(()) };
        if self.filters.as_ref().is_some_and(|f| !f.may_hold_prefix(prefix)) {
            return Ok(());
        }
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
        self.by_shard(prefixes, self.may_hold(prefixes), &mut |shard, family, stretch| {
            walk(shard, family, prefixes, stretch, row)
        })
    }

    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        if let Some(filters) = &mut self.filters {
            filters.add(&batch);
        }
        let Some(batch) = self.shards.put_off(&self.name, batch)? else {
            self.is_behind.set(true);
            return Ok(());
        };
        self.shards.gate.pass()?;
        self.shards.write(&self.name, &batch)?;
        let families = self.families.get_mut();
        if families.iter().any(Option::is_none) {
            *families = self.shards.column_families(&self.name);
        }
        Ok(())
    }
}

/// How many rows are passed one by one on the way to the next wanted key, before it is sought: 0 where wanted keys are few
/// among the rows of the table, so that seeking is cheaper.
fn steps_max(shard: &Shard, db: &Db, cf: &impl AsColumnFamilyRef, wanted: usize) -> Result<u64> {
    let rows = db.property_int_value_cf(cf, ESTIMATE_NUM_KEYS).map_err(|e| shard.error("reading state", &e))?;
    let is_dense = rows.unwrap_or(u64::MAX) / wanted.max(1) as u64 <= DENSE_ROWS;
    Ok(if is_dense { 4 * DENSE_ROWS } else { 0 })
}

/// Calls `row` with the rows that begin with each of some prefixes, which are in ascending order.
fn walk(
    shard: &Shard,
    family: &str,
    prefixes: &KeyBatch,
    wanted: &[u32],
    row: &mut dyn FnMut(usize, &[u8], &[u8]) -> ControlFlow<()>,
) -> Result<()> {
    let Some(last) = wanted.last() else { return Ok(()) };
    let (db, cf) = shard.open(family);
    let mut read = options::read_options();
    if let Some(upper) = successor(prefixes.get(*last as usize)) {
        read.set_iterate_upper_bound(upper);
    }
    // Many prefixes go through most blocks once: they would only push out what the cache has.
    read.fill_cache(wanted.len() < SCANS_CACHED_MAX);
    let steps_max = steps_max(shard, db, &cf, wanted.len())?;
    // One iterator for all: making one costs more than many seeks.
    let mut iter = db.raw_iterator_cf_opt(&cf, read);
    let mut previous = None;
    for i in wanted {
        let prefix = prefixes.get(*i as usize);
        // A prefix of this one has been passed with all its rows.
        let is_behind = previous.is_none_or(|p| prefix.starts_with(p));
        previous = Some(prefix);
        let mut steps = if is_behind { steps_max } else { 0 };
        while steps < steps_max && iter.key().is_some_and(|key| key < prefix) {
            iter.next();
            steps += 1;
        }
        if steps == steps_max {
            iter.seek(prefix);
        }
        while let Some((key, value)) = iter.item() {
            if !key.starts_with(prefix) || row(*i as usize, key, value).is_break() {
                break;
            }
            iter.next();
        }
        iter.status().map_err(|e| shard.error("reading state", &e))?;
    }
    Ok(())
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
