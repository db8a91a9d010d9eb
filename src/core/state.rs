//! State tables: ordered maps from key bytes to value bytes that belong to one operator, described by data.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::types::SqlType;

/// Everything that is known of a state table; stored in the manifest and compared on restore. No class, comparator
/// or generated code: nothing that could fail to match by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateTableSpec {
    /// Unique within the operator: `rows`, `left`, `groups`.
    pub name: String,
    pub key: Vec<KeyColumn>,
    pub value: Vec<ValueColumn>,
    /// How many of the first key columns route: their hash is the key group.
    pub routing_columns: usize,
    /// Of the operator's own layout in this table; raised when its meaning changes.
    pub version: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// For people: `amount`.
    pub name: String,
    pub ty: SqlType,
    pub descending: bool,
    pub nulls_first: bool,
    /// The column tells rows apart (see `core::key`). Only said where that makes a difference: of columns with floats, and
    /// of types without an order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// Hash of where the values come from: base table column or canonical expression (hex).
    pub provenance: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueColumn {
    pub name: String,
    pub ty: SqlType,
    pub provenance: String,
}

/// Bytes of many keys (or values) behind one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyBatch {
    pub bytes: Vec<u8>,
    /// One more than keys; the first is 0.
    pub ends: Vec<usize>,
}

impl KeyBatch {
    pub fn new() -> Self {
        KeyBatch { bytes: vec![], ends: vec![0] }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len().saturating_sub(1)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.ends[i]..self.ends[i + 1]]
    }

    #[inline]
    pub fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.finish_key();
    }

    /// Ends the key whose bytes were appended to `bytes`.
    #[inline]
    pub fn finish_key(&mut self) {
        if self.ends.is_empty() {
            self.ends.push(0);
        }
        self.ends.push(self.bytes.len());
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.ends.push(0);
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        self.ends.windows(2).map(|w| &self.bytes[w[0]..w[1]])
    }

    /// The numbers of all keys in ascending order of the keys, equal ones by number.
    pub fn sorted(&self) -> Vec<u32> {
        self.sorted_of((0..self.len() as u32).collect())
    }

    /// These numbers in ascending order of their keys, equal ones by number.
    pub fn sorted_of(&self, mut numbers: Vec<u32>) -> Vec<u32> {
        let key = |n: u32| self.get(n as usize);
        if numbers.is_sorted_by(|&a, &b| (key(a), a) <= (key(b), b)) {
            return numbers;
        }
        // Most comparisons are decided by the first bytes, without a look at memory elsewhere.
        let first_bytes = |key: &[u8]| match key.first_chunk::<16>() {
            Some(first) => u128::from_be_bytes(*first),
            None => key.iter().rfold((0, 128 - 8 * key.len()), |(sum, at), b| (sum | u128::from(*b) << at, at + 8)).0,
        };
        let mut order: Vec<(u128, u32)> = numbers.iter().map(|&n| (first_bytes(key(n)), n)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))).then(a.1.cmp(&b.1)));
        numbers.iter_mut().zip(order).for_each(|(number, (_, sorted))| *number = sorted);
        numbers
    }
}

/// Writes to one table, applied in order. Keys begin with the key group (`key_group::PREFIX_BYTES`). The more there are in
/// one batch, the cheaper each is: an eviction should be one batch, or a few. All bytes lie behind one another: an
/// allocation for each write would take longer than the rest.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    keys: KeyBatch,
    /// Of a put its value, of a range delete the end, of a delete nothing.
    values: KeyBatch,
    kinds: Vec<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

/// One of the writes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOp<'a> {
    Put(&'a [u8], &'a [u8]),
    Delete(&'a [u8]),
    /// All keys in `from .. to`; both of one key group.
    DeleteRange(&'a [u8], &'a [u8]),
}

impl<'a> WriteOp<'a> {
    /// The key; of a range delete its first one.
    pub fn key(self) -> &'a [u8] {
        match self {
            WriteOp::Put(key, _) | WriteOp::Delete(key) | WriteOp::DeleteRange(key, _) => key,
        }
    }
}

impl WriteBatch {
    /// Puts of all these keys, which have as many values.
    pub fn puts(keys: KeyBatch, values: KeyBatch) -> Self {
        assert_eq!(keys.len(), values.len(), "a put has a key and a value");
        let kinds = vec![Kind::Put; keys.len()];
        WriteBatch { keys, values, kinds }
    }

    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.push(Kind::Put, key.as_ref(), value.as_ref());
    }

    pub fn delete(&mut self, key: impl AsRef<[u8]>) {
        self.push(Kind::Delete, key.as_ref(), &[]);
    }

    /// All keys in `from .. to`; both of one key group.
    pub fn delete_range(&mut self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) {
        self.push(Kind::DeleteRange, from.as_ref(), to.as_ref());
    }

    fn push(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        self.keys.push(key);
        self.values.push(value);
        self.kinds.push(kind);
    }

    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    pub fn has_ranges(&self) -> bool {
        self.kinds.contains(&Kind::DeleteRange)
    }

    /// Bytes held in memory.
    pub fn bytes(&self) -> usize {
        let held = |b: &KeyBatch| b.bytes.capacity() + b.ends.capacity() * size_of::<usize>();
        held(&self.keys) + held(&self.values) + self.kinds.capacity()
    }

    /// Bytes of keys and values.
    pub fn payload_bytes(&self) -> usize {
        self.keys.bytes.len() + self.values.bytes.len()
    }

    /// The keys of all writes; of a range delete its first one.
    pub fn keys(&self) -> &KeyBatch {
        &self.keys
    }

    #[inline]
    pub fn get(&self, i: usize) -> WriteOp<'_> {
        let (key, value) = (self.keys.get(i), self.values.get(i));
        match self.kinds[i] {
            Kind::Put => WriteOp::Put(key, value),
            Kind::Delete => WriteOp::Delete(key),
            Kind::DeleteRange => WriteOp::DeleteRange(key, value),
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = WriteOp<'_>> + Clone {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// One table of one operator on one worker: all shards that the worker owns. All keys begin with the key group,
/// big-endian, and then hold the columns in `core::key` encoding.
#[allow(clippy::type_complexity)] // An alias of a visitor's type would hide what it is called with.
pub trait StateTable {
    fn spec(&self) -> &StateTableSpec;

    /// True if certainly nothing is stored: nothing was restored and nothing written. Lets operators skip look-ups.
    fn is_empty(&self) -> bool;

    /// Numbers of the given prefixes, in order, each of which may have keys that begin with it; of the others there are
    /// certainly none. The routing columns decide, which a prefix should hold whole. Without a look at storage.
    fn may_hold(&self, prefixes: &KeyBatch) -> Vec<u32> {
        (0..if self.is_empty() { 0 } else { prefixes.len() as u32 }).collect()
    }

    /// Calls `found(i, value)` for every key `keys.get(i)` that is stored, in any order.
    fn get_many(&self, keys: &KeyBatch, found: &mut dyn FnMut(usize, &[u8])) -> Result<()>;

    /// Calls `row(key, value)` in key order (or reverse) for all keys that begin with `prefix` (which holds at least
    /// the key group) and, if `after` is given, come strictly after it in the direction of the scan.
    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        reverse: bool,
        row: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()>;

    /// Forward scans of many prefixes (each holds at least the key group, in any order): calls `row(i, key, value)`
    /// for all keys that begin with `prefixes.get(i)`, one prefix after the other, each in key order. `Break` ends the
    /// scan of that prefix only. Much cheaper than a `scan` for each.
    fn scan_many(
        &self,
        prefixes: &KeyBatch,
        row: &mut dyn FnMut(usize, &[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        for (i, prefix) in prefixes.iter().enumerate() {
            self.scan(prefix, None, false, &mut |key, value| row(i, key, value))?;
        }
        Ok(())
    }

    /// From `Operator::flush` and `Operator::shrink` only.
    fn write(&mut self, batch: WriteBatch) -> Result<()>;
}

/// A state table that lives in a `BTreeMap`: for tests and models.
#[derive(Debug)]
pub struct MemoryTable {
    spec: StateTableSpec,
    rows: std::collections::BTreeMap<Box<[u8]>, Box<[u8]>>,
}

#[allow(clippy::len_without_is_empty)] // `is_empty` is the trait's.
impl MemoryTable {
    pub fn new(spec: StateTableSpec) -> Self {
        MemoryTable { spec, rows: Default::default() }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

impl StateTable for MemoryTable {
    fn spec(&self) -> &StateTableSpec {
        &self.spec
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn get_many(&self, keys: &KeyBatch, found: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        for (i, key) in keys.iter().enumerate() {
            if let Some(value) = self.rows.get(key) {
                found(i, value);
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        reverse: bool,
        row: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let in_prefix = |key: &[u8]| key.starts_with(prefix);
        if reverse {
            let upper = match after {
                Some(a) => Excluded(a.into()),
                None => Unbounded,
            };
            let rows = self.rows.range::<Box<[u8]>, _>((Included(Box::from(prefix)), upper)).rev();
            for (k, v) in rows.skip_while(|(k, _)| !in_prefix(k)).take_while(|(k, _)| in_prefix(k)) {
                if row(k, v).is_break() {
                    break;
                }
            }
        } else {
            let lower = match after {
                Some(a) => Excluded(Box::from(a)),
                None => Included(Box::from(prefix)),
            };
            for (k, v) in self.rows.range::<Box<[u8]>, _>((lower, Unbounded)).take_while(|(k, _)| in_prefix(k)) {
                if row(k, v).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: WriteBatch) -> Result<()> {
        for op in batch.iter() {
            match op {
                WriteOp::Put(k, v) => {
                    self.rows.insert(k.into(), v.into());
                }
                WriteOp::Delete(k) => {
                    self.rows.remove(k);
                }
                WriteOp::DeleteRange(from, to) => {
                    self.rows.retain(|k, _| !(**k >= *from && **k < *to));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> MemoryTable {
        let spec = StateTableSpec { name: "t".into(), key: vec![], value: vec![], routing_columns: 0, version: 1 };
        let mut t = MemoryTable::new(spec);
        let mut w = WriteBatch::default();
        for k in [[0, 1], [0, 2], [0, 3], [1, 1]] {
            w.put(k, [k[1] * 10]);
        }
        t.write(w).unwrap();
        t
    }

    fn scanned(t: &MemoryTable, prefix: &[u8], after: Option<&[u8]>, reverse: bool) -> Vec<u8> {
        let mut out = vec![];
        t.scan(prefix, after, reverse, &mut |_, v| {
            out.push(v[0]);
            ControlFlow::Continue(())
        })
        .unwrap();
        out
    }

    #[test]
    fn numbers_are_sorted_by_their_keys() {
        let mut keys = KeyBatch::new();
        let long = [[7; 16].as_slice(), &[1]].concat();
        for key in [&b"b"[..], b"", b"a\0", &long, b"a", &long[..16], b"b", b"a\0\0"] {
            keys.push(key);
        }
        assert_eq!(keys.sorted(), [1, 5, 3, 4, 2, 7, 0, 6]);
        assert_eq!(keys.sorted_of(vec![6, 0, 1]), [1, 0, 6]);
    }

    #[test]
    fn scans_keep_to_the_prefix_and_go_on_after_a_key() {
        let t = table();
        assert_eq!(scanned(&t, &[0], None, false), [10, 20, 30]);
        assert_eq!(scanned(&t, &[0], None, true), [30, 20, 10]);
        assert_eq!(scanned(&t, &[0], Some(&[0, 2]), false), [30]);
        assert_eq!(scanned(&t, &[0], Some(&[0, 2]), true), [10]);
        assert_eq!(scanned(&t, &[2], None, false), Vec::<u8>::new());
    }
}
