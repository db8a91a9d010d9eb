//! The net changes of a tick of any size, in the order of a key: in memory up to a budget, beyond it in sorted runs
//! on disk. Stands before a sink's encoder and the shell; append-only edges do without.
//!
//! ```text
//! push ──► keys and weights in memory ──(over the budget: sort, net)──► run file, run file, …
//!                     │                                                      │
//! finish ─► sort, net └──────────────► merge, net across runs ◄──────────────┘ ──► next_batch
//! ```
//!
//! Rows are held as `RowKeys` bytes only: what is compared is what is stored, in memory and on disk, so that the
//! result does not depend on the budget.

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::SchemaRef;

use crate::changes::Changes;
use crate::consolidate::{add_weights, append_weights, net, weights_array};
use crate::error::{Error, Result};
use crate::operator::BATCH_ROWS;
use crate::row_key::RowKeys;
use crate::state::KeyBatch;
use crate::value::{append_signed, append_varint, take_signed, take_varint};

/// Runs that are merged at once; more are merged into one run first. Bounds open files and read buffers.
const RUNS_MAX: usize = 64;
/// Buffer of a run that is written or read.
const RUN_BUFFER_BYTES: usize = 128 * 1024;
/// What a row takes in memory beside its key: end, weight, sort entry, net entry.
const ROW_OVERHEAD_BYTES: usize = 8 + 8 + 16 + 16;

/// What to net, and within which bounds.
#[derive(Debug, Clone)]
pub struct NettingOptions {
    pub schema: SchemaRef,
    /// Ordinals of the columns to order by first, ascending, NULL first (the sink's key); then by all columns.
    /// Empty: the whole row is the key.
    pub sort_key: Vec<usize>,
    /// Bytes in memory before a run is written.
    pub memory_max: usize,
    /// Where runs are written; made when the first is. Nothing remains there, not even after a crash.
    pub spill_dir: PathBuf,
}

/// Collects changes, of one tick or of several, which `finish` gives back net; then it is ready for the next ones.
#[derive(Debug)]
pub struct Netting {
    keys: KeyBatch,
    weights: Vec<i64>,
    runs: Vec<Run>,
    rows_codec: Arc<RowKeys>,
    memory_max: usize,
    spill_dir: PathBuf,
}

impl Netting {
    /// # Errors
    /// A schema with a type that no SQL type lies in memory as.
    pub fn new(options: NettingOptions) -> Result<Self> {
        let NettingOptions { schema, sort_key, memory_max, spill_dir } = options;
        Ok(Netting {
            keys: KeyBatch::new(),
            weights: vec![],
            runs: vec![],
            rows_codec: Arc::new(RowKeys::new(schema, &sort_key)?),
            memory_max,
            spill_dir,
        })
    }

    /// Part of the tick's changes, of the schema given.
    ///
    /// # Errors
    /// I/O errors of the spill directory; they name the file.
    pub fn push(&mut self, changes: &Changes) -> Result<()> {
        let mut from = 0;
        while from < changes.num_rows() {
            let part = changes.slice(from, BATCH_ROWS.min(changes.num_rows() - from));
            from += part.num_rows();
            self.rows_codec.encode(&part.batch, &mut self.keys)?;
            append_weights(&part, &mut self.weights);
            // A vector that grows takes up to twice its length.
            if 2 * self.memory_bytes() > self.memory_max {
                self.spill()?;
            }
        }
        Ok(())
    }

    /// Nothing was pushed since the last `finish`.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.runs.is_empty()
    }

    /// Bytes used in memory now.
    pub fn memory_bytes(&self) -> usize {
        self.keys.bytes.len() + self.keys.len() * ROW_OVERHEAD_BYTES
    }

    /// Whether what was pushed may wait in memory for more: nothing of it is on disk, and it takes at most so many bytes.
    /// If it takes more it is netted, and then must not take more than half of them, or it would be netted too often.
    ///
    /// # Errors
    /// Weights beyond 64 bits.
    pub fn fits(&mut self, bytes_max: usize) -> Result<bool> {
        if !self.runs.is_empty() {
            return Ok(false);
        }
        if self.memory_bytes() <= bytes_max {
            return Ok(true);
        }
        let all = std::mem::replace(&mut self.keys, KeyBatch::new());
        for (row, weight) in net(&all, &std::mem::take(&mut self.weights))? {
            self.keys.push(all.get(row as usize));
            self.weights.push(weight);
        }
        Ok(self.memory_bytes() <= bytes_max / 2)
    }

    /// The net of all that was pushed since the last `finish`.
    pub fn finish(&mut self) -> Result<NetChanges> {
        let keys = std::mem::take(&mut self.keys);
        let weights = std::mem::take(&mut self.weights);
        self.keys = KeyBatch::new();
        let memory = MemoryRows::new(keys, &weights)?;
        let rows = if self.runs.is_empty() {
            NetRows::Memory(memory)
        } else {
            let runs = std::mem::take(&mut self.runs);
            NetRows::Merged(Merge::new(runs, memory)?)
        };
        Ok(NetChanges { rows, codec: self.rows_codec.clone() })
    }

    /// Writes what is in memory, sorted and net, as a run.
    fn spill(&mut self) -> Result<()> {
        let mut memory = MemoryRows::new(std::mem::replace(&mut self.keys, KeyBatch::new()), &self.weights)?;
        self.weights = vec![];
        if self.runs.len() >= RUNS_MAX {
            let merge = Merge::new(std::mem::take(&mut self.runs), MemoryRows::default())?;
            let run = write_run(&self.spill_dir, merge)?;
            self.runs.push(run);
        }
        if memory.peek().is_some() {
            self.runs.push(write_run(&self.spill_dir, std::mem::take(&mut memory))?);
        }
        Ok(())
    }
}

/// A tick's net changes, in order, in bounded batches.
#[derive(Debug)]
pub struct NetChanges {
    rows: NetRows,
    codec: Arc<RowKeys>,
}

impl NetChanges {
    /// The next batch, `None` behind the last. A weight of n counts as n rows; a batch has about `BATCH_ROWS`, and
    /// never ends between two rows of one sort key, so that a key with many rows makes a larger one. Without a sort
    /// key each row is a key of its own, and a weight beyond what a batch takes is distributed over several.
    ///
    /// # Errors
    /// I/O errors of run files, weights beyond 64 bits.
    pub fn next_batch(&mut self) -> Result<Option<Changes>> {
        match &mut self.rows {
            NetRows::Memory(rows) => next_batch(rows, &self.codec),
            NetRows::Merged(rows) => next_batch(rows, &self.codec),
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        self.codec.schema()
    }
}

fn next_batch(rows: &mut impl Rows, codec: &RowKeys) -> Result<Option<Changes>> {
    let mut keys = KeyBatch::new();
    let mut weights = vec![];
    let mut taken: u64 = 0;
    let rows_max = BATCH_ROWS as u64;
    // The sort key that must not be cut, once the batch is full.
    let mut last_group: Option<Vec<u8>> = None;
    while let Some((key, weight)) = rows.peek() {
        if taken >= rows_max {
            let group = match &mut last_group {
                Some(group) => group,
                none => none.insert(codec.sort_prefix(keys.get(keys.len() - 1))?.to_vec()),
            };
            if !codec.has_sort_columns() || !key.starts_with(group) {
                break;
            }
        }
        keys.push(key);
        let size = weight.unsigned_abs();
        if !codec.has_sort_columns() && size > rows_max - taken {
            let part = (rows_max - taken) as i64 * weight.signum();
            weights.push(part);
            rows.reduce(part);
            break;
        }
        weights.push(weight);
        taken = taken.saturating_add(size);
        rows.advance()?;
    }
    if keys.is_empty() {
        return Ok(None);
    }
    let batch = codec.decode(keys.iter().collect())?;
    Ok(Some(Changes::new(batch, weights_array(weights))))
}

#[derive(Debug)]
enum NetRows {
    Memory(MemoryRows),
    Merged(Merge),
}

/// Net rows in order: distinct keys, weights not 0.
trait Rows {
    fn peek(&self) -> Option<(&[u8], i64)>;
    /// To the next row.
    fn advance(&mut self) -> Result<()>;
    /// A part of the current row's weight is done with; some of it remains.
    fn reduce(&mut self, part: i64);
}

/// What was not written to a run.
#[derive(Debug, Default)]
struct MemoryRows {
    keys: KeyBatch,
    net: Vec<(u32, i64)>,
    at: usize,
}

impl MemoryRows {
    fn new(keys: KeyBatch, weights: &[i64]) -> Result<Self> {
        let net = net(&keys, weights)?;
        Ok(MemoryRows { keys, net, at: 0 })
    }
}

impl Rows for MemoryRows {
    fn peek(&self) -> Option<(&[u8], i64)> {
        self.net.get(self.at).map(|(row, weight)| (self.keys.get(*row as usize), *weight))
    }

    fn advance(&mut self) -> Result<()> {
        self.at += 1;
        Ok(())
    }

    fn reduce(&mut self, part: i64) {
        self.net[self.at].1 -= part;
    }
}

/// Several runs and what is in memory, as one.
#[derive(Debug)]
struct Merge {
    heads: BinaryHeap<Head>,
    key: Vec<u8>,
    /// 0: at the end.
    weight: i64,
}

/// The next row of one input of the merge.
#[derive(Debug)]
struct Head {
    key: Vec<u8>,
    weight: i64,
    rest: Input,
}

#[derive(Debug)]
enum Input {
    Run(RunReader),
    Memory(MemoryRows),
}

impl Merge {
    fn new(runs: Vec<Run>, memory: MemoryRows) -> Result<Self> {
        let mut heads = BinaryHeap::with_capacity(runs.len() + 1);
        let mut inputs = vec![Input::Memory(memory)];
        for run in runs {
            inputs.push(Input::Run(RunReader::new(run)?));
        }
        for rest in inputs {
            let mut head = Head { key: vec![], weight: 0, rest };
            if head.advance()? {
                heads.push(head);
            }
        }
        let mut merge = Merge { heads, key: vec![], weight: 0 };
        merge.advance()?;
        Ok(merge)
    }
}

impl Rows for Merge {
    fn peek(&self) -> Option<(&[u8], i64)> {
        (self.weight != 0).then_some((&self.key, self.weight))
    }

    fn advance(&mut self) -> Result<()> {
        self.weight = 0;
        while let Some(mut head) = self.heads.peek_mut() {
            if self.weight == 0 {
                self.key.clone_from(&head.key);
            } else if self.key != head.key {
                break;
            }
            self.weight = add_weights(self.weight, head.weight)?;
            if !head.advance()? {
                PeekMut::pop(head);
            }
        }
        Ok(())
    }

    fn reduce(&mut self, part: i64) {
        self.weight -= part;
    }
}

impl Head {
    /// False at the end.
    fn advance(&mut self) -> Result<bool> {
        match &mut self.rest {
            Input::Run(run) => match run.next(&mut self.key)? {
                Some(weight) => self.weight = weight,
                None => return Ok(false),
            },
            Input::Memory(rows) => match rows.peek() {
                Some((key, weight)) => {
                    self.key.clear();
                    self.key.extend_from_slice(key);
                    self.weight = weight;
                    rows.advance()?;
                }
                None => return Ok(false),
            },
        }
        Ok(true)
    }
}

/// The least key is the greatest of the heap.
impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.key.cmp(&self.key)
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Head {}

/// A run on disk: per row varint of the key's length, zigzag varint of the weight, the key; in key order. The file
/// has lost its name since it was made: it goes with the last handle, also if the process is killed.
#[derive(Debug)]
struct Run {
    file: File,
    path: PathBuf,
    rows: u64,
}

fn write_run(dir: &Path, rows: impl Rows) -> Result<Run> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!("net-{}-{number}.run", std::process::id()));
    let create = || {
        fs::create_dir_all(dir)?;
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    };
    let file = create().map_err(|e| cannot_write(&path, e))?;
    write_rows(file, path, rows)
}

fn write_rows(file: File, path: PathBuf, mut rows: impl Rows) -> Result<Run> {
    let failed = |e| cannot_write(&path, e);
    let mut out = BufWriter::with_capacity(RUN_BUFFER_BYTES, file);
    let mut head = vec![];
    let mut count = 0;
    while let Some((key, weight)) = rows.peek() {
        head.clear();
        append_varint(key.len() as u64, &mut head);
        append_signed(weight, &mut head);
        out.write_all(&head).and_then(|()| out.write_all(key)).map_err(failed)?;
        count += 1;
        rows.advance()?;
    }
    let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
    Ok(Run { file, path, rows: count })
}

#[derive(Debug)]
struct RunReader {
    input: BufReader<File>,
    path: PathBuf,
    rows_left: u64,
}

impl RunReader {
    fn new(run: Run) -> Result<Self> {
        let Run { mut file, path, rows } = run;
        file.seek(SeekFrom::Start(0)).map_err(|e| cannot_read(&path, e))?;
        Ok(RunReader { input: BufReader::with_capacity(RUN_BUFFER_BYTES, file), path, rows_left: rows })
    }

    /// Puts the next row's key into `key` and gives its weight.
    fn next(&mut self, key: &mut Vec<u8>) -> Result<Option<i64>> {
        if self.rows_left == 0 {
            return Ok(None);
        }
        self.rows_left -= 1;
        let row = self.read_row(key).map_err(|e| cannot_read(&self.path, e))?;
        Ok(Some(row))
    }

    fn read_row(&mut self, key: &mut Vec<u8>) -> io::Result<i64> {
        // As a rule the row is in the buffer.
        let mut buffer = self.input.buffer();
        let begin = buffer.len();
        if let (Some(length), Some(weight)) = (take_varint(&mut buffer), take_signed(&mut buffer))
            && let Some(bytes) = usize::try_from(length).ok().and_then(|length| buffer.get(..length))
        {
            key.clear();
            key.extend_from_slice(bytes);
            let used = begin - buffer.len() + bytes.len();
            self.input.consume(used);
            return Ok(weight);
        }
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        let length = take_varint(&mut &read_varint(&mut self.input)?[..]).ok_or_else(damaged)?;
        let weight = take_signed(&mut &read_varint(&mut self.input)?[..]).ok_or_else(damaged)?;
        key.clear();
        let read = self.input.by_ref().take(length).read_to_end(key)?;
        if read as u64 == length { Ok(weight) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

fn cannot_write(path: &Path, e: io::Error) -> Error {
    Error::from(e)
        .context(format!("cannot write the spill file {}", path.display()))
        .note("it holds sorted changes of a tick that is larger than the memory budget")
}

fn cannot_read(path: &Path, e: io::Error) -> Error {
    Error::from(e).context(format!("cannot read the spill file {}", path.display()))
}

/// The bytes of a varint, followed by zeros.
fn read_varint(input: &mut impl Read) -> io::Result<[u8; crate::value::VARINT_BYTES_MAX]> {
    let mut bytes = [0; crate::value::VARINT_BYTES_MAX];
    for i in 0..bytes.len() {
        input.read_exact(&mut bytes[i..=i])?;
        if bytes[i] < 0x80 {
            break;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consolidate::{consolidate, consolidate_by};
    use crate::testing::{changes, columns};
    use crate::types::{Column, to_schema};

    fn netting(columns: &[Column], sort_key: &[usize], memory_max: usize, dir: &Path) -> Netting {
        let (sort_key, spill_dir) = (sort_key.to_vec(), dir.to_path_buf());
        Netting::new(NettingOptions { schema: to_schema(columns), sort_key, memory_max, spill_dir }).unwrap()
    }

    fn batches(net: &mut NetChanges) -> Vec<Changes> {
        std::iter::from_fn(|| net.next_batch().unwrap()).collect()
    }

    fn numbers(rows: impl Iterator<Item = (i64, i64)>, weight: i64) -> Changes {
        let (a, b): (Vec<i64>, Vec<i64>) = rows.unzip();
        let weights = vec![weight; a.len()];
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(arrow::array::Int64Array::from(a)), Arc::new(arrow::array::Int64Array::from(b))];
        let schema = to_schema(&crate::testing::columns("I I"));
        Changes::new(arrow::array::RecordBatch::try_new(schema, columns).unwrap(), Some(weights.into()))
    }

    #[test]
    fn the_order_is_the_sort_key_and_then_the_row() {
        let c = columns("I T");
        let dir = tempfile::tempdir().unwrap();
        let mut n = netting(&c, &[1], usize::MAX, dir.path());
        n.push(&changes("+ 3 a\n- 1 b\n+ 2 b\n+ 9 .\n+ 1 a", &c)).unwrap();
        let net = batches(&mut n.finish().unwrap());
        assert_eq!(net, [changes("+ 9 .\n+ 1 a\n+ 3 a\n- 1 b\n+ 2 b", &c)]);
        assert!(n.is_empty());
        assert!(batches(&mut n.finish().unwrap()).is_empty(), "the next tick begins empty");
    }

    #[test]
    fn what_comes_again_and_again_fits() {
        let dir = tempfile::tempdir().unwrap();
        let mut n = netting(&columns("I I"), &[0], usize::MAX, dir.path());
        let rows = |from: i64| (from..from + 100).map(|i| (i, i));
        let mut largest = 0;
        for round in 0..100 {
            n.push(&numbers(rows(0), if round % 2 == 0 { 1 } else { -1 })).unwrap();
            assert!(n.fits(50_000).unwrap());
            largest = largest.max(n.memory_bytes());
        }
        assert!((25_000..=50_000).contains(&largest), "{largest}");
        n.push(&numbers(rows(7), 1)).unwrap();
        let net = batches(&mut n.finish().unwrap());
        assert_eq!(net, [Changes::inserts(numbers(rows(7), 1).batch)]);
        // What is always new does not.
        n.push(&numbers((0..1000).map(|i| (i, i)), 1)).unwrap();
        assert!(!n.fits(50_000).unwrap());
        assert_eq!(n.finish().unwrap().next_batch().unwrap().unwrap().num_rows(), 1000);
    }

    #[test]
    fn on_disk_as_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let spill = dir.path().join("deep/spill");
        let c = columns("I I");
        let mut small = netting(&c, &[1], 100_000, &spill);
        let mut parts = vec![];
        for tick in 0..20 {
            // Every second part takes back what the one before has brought, but for every tenth row.
            let base = tick / 2 * 1000;
            let rows = (0..5000).map(|i| ((i * 7919) % 5000 + base, i % 100));
            let part = if tick % 2 == 0 { numbers(rows, 1) } else { numbers(rows.filter(|r| r.0 % 10 != 0), -1) };
            small.push(&part).unwrap();
            parts.push(part);
        }
        assert!(small.runs.len() > 5);
        assert!(small.memory_bytes() <= 100_000);
        let mut net = small.finish().unwrap();
        let found = batches(&mut net);
        let expected = consolidate_by(&parts, &RowKeys::new(to_schema(&c), &[1]).unwrap()).unwrap();
        assert!(expected.num_rows() > 1000);
        let schema = to_schema(&c);
        let found_batch = arrow::compute::concat_batches(&schema, found.iter().map(|f| &f.batch)).unwrap();
        assert_eq!(found_batch, expected.batch);
        let found_weights: Vec<i64> = found.iter().flat_map(|f| (0..f.num_rows()).map(|i| f.weight(i))).collect();
        assert_eq!(found_weights, (0..expected.num_rows()).map(|i| expected.weight(i)).collect::<Vec<_>>());
        drop(net);
        assert_eq!(fs::read_dir(&spill).unwrap().count(), 0);
    }

    #[test]
    fn more_runs_than_are_merged_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let c = columns("I I");
        let mut n = netting(&c, &[], 10, dir.path());
        for i in 0..150 {
            n.push(&numbers([(i % 70, 1), (i, 2)].into_iter(), 1)).unwrap();
        }
        assert!(n.runs.len() <= RUNS_MAX + 1);
        let found = batches(&mut n.finish().unwrap());
        let rows =
            (0..70).flat_map(|i| [(i, 1, if i < 10 { 3 } else { 2 }), (i, 2, 1)]).chain((70..150).map(|i| (i, 2, 1)));
        let expected: String = rows.map(|(a, b, w)| format!("+{w} {a} {b}\n")).collect();
        assert_eq!(found, [changes(&expected, &c)]);
    }

    #[test]
    fn a_sort_key_is_never_split_between_batches() {
        let dir = tempfile::tempdir().unwrap();
        let c = columns("I I");
        let mut n = netting(&c, &[1], usize::MAX, dir.path());
        let many = 3 * BATCH_ROWS as i64;
        n.push(&numbers((0..many).map(|i| (i, i / 100)), 1)).unwrap();
        n.push(&numbers((0..many).map(|i| (i, 1_000_000)), 1)).unwrap();
        let found = batches(&mut n.finish().unwrap());
        let mut seen = std::collections::HashSet::new();
        for batch in &found {
            let keys = batch.batch.column(1);
            let keys: &arrow::array::Int64Array = arrow::array::AsArray::as_primitive(keys);
            let distinct: std::collections::HashSet<i64> = keys.values().iter().copied().collect();
            assert!(distinct.iter().all(|k| seen.insert(*k)), "a key is in two batches");
            assert!(batch.num_rows() < BATCH_ROWS + 100 || distinct.contains(&1_000_000));
        }
        assert_eq!(found.iter().map(Changes::num_rows).sum::<usize>(), 2 * many as usize);
        assert!(found.len() >= 3);
    }

    #[test]
    fn a_heavy_row_without_a_key_is_distributed() {
        let dir = tempfile::tempdir().unwrap();
        let c = columns("I");
        let mut n = netting(&c, &[], usize::MAX, dir.path());
        n.push(&changes("-20000 1\n+ 2", &c)).unwrap();
        let found = batches(&mut n.finish().unwrap());
        let sizes: Vec<i64> = found.iter().map(|f| (0..f.num_rows()).map(|i| f.weight(i).abs()).sum()).collect();
        assert_eq!(sizes, [8192, 8192, 3617]);
        assert_eq!(consolidate(&found).unwrap(), changes("-20000 1\n+ 2", &c));
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let c = columns("I");
        let e = netting(&c, &[], 1, &file).push(&changes("+ 1", &c)).unwrap_err();
        assert!(e.message().contains("file/net-"), "{e}");
    }

    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        // Linux has a device that is always full.
        if !Path::new("/dev/full").exists() {
            return;
        }
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut keys = KeyBatch::new();
        keys.push(&[1, 2, 3]);
        let e = write_rows(file, "dir/net-1.run".into(), MemoryRows::new(keys, &[1]).unwrap()).unwrap_err();
        assert!(e.is_transient(), "space may be made: {e:?}");
        assert!(e.message().contains("dir/net-1.run"), "{e}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn the_budget_does_not_show_in_the_result(
            (ty, cells) in crate::arbitrary::typed_cells(true),
            picks in prop::collection::vec((any::<prop::sample::Index>(), -2i64..3), 1..40),
        ) {
            let column = crate::arbitrary::array_of(&ty, &cells);
            let schema = to_schema(&[Column::new("a", ty, true)]);
            let batch = arrow::array::RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
            let whole = Changes::inserts(batch);
            let parts: Vec<Changes> = picks.iter().filter(|p| p.1 != 0).map(|(i, w)| {
                let row = whole.slice(i.index(cells.len()), 1);
                Changes::new(row.batch, Some(vec![*w].into()))
            }).collect();
            let dir = tempfile::tempdir().unwrap();
            let options = |memory_max| NettingOptions {
                schema: schema.clone(), sort_key: vec![0], memory_max, spill_dir: dir.path().into(),
            };
            let mut results = vec![];
            for memory_max in [1, 500, usize::MAX / 4] {
                let mut n = Netting::new(options(memory_max)).unwrap();
                parts.iter().for_each(|p| n.push(p).unwrap());
                results.push(format!("{:?}", batches(&mut n.finish().unwrap())));
            }
            prop_assert_eq!(&results[0], &results[1]);
            prop_assert_eq!(&results[0], &results[2]);
        }
    }
}
