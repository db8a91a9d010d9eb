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
}

/// Writes to one table, applied in order. Keys begin with the key group (`key_group::PREFIX_BYTES`).
#[derive(Debug, Default)]
pub struct WriteBatch {
    pub ops: Vec<WriteOp>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum WriteOp {
    Put(Box<[u8]>, Box<[u8]>),
    Delete(Box<[u8]>),
    /// All keys in `from .. to`; both of one key group.
    DeleteRange(Box<[u8]>, Box<[u8]>),
}

impl WriteOp {
    /// The key; of a range delete its first one.
    pub fn key(&self) -> &[u8] {
        match self {
            WriteOp::Put(key, _) | WriteOp::Delete(key) | WriteOp::DeleteRange(key, _) => key,
        }
    }
}

impl WriteBatch {
    pub fn put(&mut self, key: impl Into<Box<[u8]>>, value: impl Into<Box<[u8]>>) {
        self.ops.push(WriteOp::Put(key.into(), value.into()));
    }

    pub fn delete(&mut self, key: impl Into<Box<[u8]>>) {
        self.ops.push(WriteOp::Delete(key.into()));
    }
}

/// One table of one operator on one worker: all shards that the worker owns. All keys begin with the key group,
/// big-endian, and then hold the columns in `core::key` encoding.
#[allow(clippy::type_complexity)] // An alias of a visitor's type would hide what it is called with.
pub trait StateTable {
    fn spec(&self) -> &StateTableSpec;

    /// True if certainly nothing is stored: nothing was restored and nothing written. Lets operators skip look-ups.
    fn is_empty(&self) -> bool;

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
        for op in batch.ops {
            match op {
                WriteOp::Put(k, v) => {
                    self.rows.insert(k, v);
                }
                WriteOp::Delete(k) => {
                    self.rows.remove(&k);
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
    fn scans_keep_to_the_prefix_and_go_on_after_a_key() {
        let t = table();
        assert_eq!(scanned(&t, &[0], None, false), [10, 20, 30]);
        assert_eq!(scanned(&t, &[0], None, true), [30, 20, 10]);
        assert_eq!(scanned(&t, &[0], Some(&[0, 2]), false), [30]);
        assert_eq!(scanned(&t, &[0], Some(&[0, 2]), true), [10]);
        assert_eq!(scanned(&t, &[2], None, false), Vec::<u8>::new());
    }
}
