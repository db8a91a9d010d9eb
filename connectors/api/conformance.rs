//! What every connector must hold, as checks that connectors run in their tests.
//!
//! A source: pieces keep to their limits; a reader can be stopped after any piece and another one, with any number
//! of workers, goes on from the positions without losing or repeating a row. A sink: what is delivered again after a
//! crash is there once.
//!
//! Every check returns what does not hold as text, so that a test reads `check(…).await.unwrap()`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use thalweg_core::mark::{JobId, Mark};
use thalweg_core::{Changes, Result};

use crate::sink::{Segment, SegmentChunks, Sink};
use crate::source::{Piece, Position, Reader, ReaderCx, Source, Split, SplitId};

/// Rows as text with their weight, sorted: what two ways of reading are compared by.
pub type Rows = Vec<(String, i64)>;

/// How a source is to be read.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub piece_rows_max: usize,
    pub piece_bytes_max: usize,
}

/// The rows of a part of changes, as text with their weight.
pub fn rows_of(table: usize, changes: &Changes) -> Rows {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = changes
        .batch
        .columns()
        .iter()
        .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).expect("every column can be shown"))
        .collect();
    (0..changes.num_rows())
        .map(|row| {
            let cells: Vec<_> = columns.iter().map(|c| c.value(row).to_string()).collect();
            (format!("{table}: {}", cells.join(" | ")), changes.weight(row))
        })
        .collect()
}

/// Reads a bounded source from the given positions with `workers` readers (splits dealt round robin), at most
/// `pieces_max` pieces from all of them together; gives the rows in the order in which they came and the positions.
pub async fn read(
    source: &Arc<dyn Source>,
    from: &BTreeMap<SplitId, Position>,
    workers: usize,
    limits: Limits,
    pieces_max: usize,
) -> Result<(Rows, BTreeMap<SplitId, Position>, Vec<Piece>)> {
    let mut owned: Vec<Vec<(Split, Option<Position>)>> = vec![vec![]; workers];
    for (i, split) in source.splits().await?.into_iter().enumerate() {
        let position = from.get(&split.id).cloned();
        owned[i % workers].push((split, position));
    }
    let mut readers: Vec<Box<dyn Reader>> = vec![];
    for (worker, splits) in owned.into_iter().enumerate() {
        let (piece_rows_max, piece_bytes_max) = (limits.piece_rows_max, limits.piece_bytes_max);
        readers.push(source.reader(
            splits,
            ReaderCx {
                job_name: "j".to_owned(),
                status: Default::default(),
                worker,
                workers,
                piece_rows_max,
                piece_bytes_max,
            },
        )?);
    }
    let (mut rows, mut positions, mut pieces) = (vec![], from.clone(), vec![]);
    let mut running: Vec<bool> = vec![true; workers];
    while running.contains(&true) && pieces.len() < pieces_max {
        for (worker, reader) in readers.iter_mut().enumerate() {
            if !running[worker] || pieces.len() >= pieces_max {
                continue;
            }
            let Some(piece) = reader.next().await? else {
                running[worker] = false;
                continue;
            };
            for (table, changes) in &piece.changes {
                rows.extend(rows_of(*table, changes));
            }
            positions.extend(piece.positions.iter().cloned());
            pieces.push(piece);
        }
    }
    Ok((rows, positions, pieces))
}

/// A bounded source: the same rows with 1, 2 and 3 workers and with any limits; limits are kept; stopped after any of
/// the first `stops` pieces and read on (by another number of workers) nothing is lost or repeated. Returns the rows,
/// sorted.
pub async fn source_resumes_anywhere(
    open: &dyn Fn() -> Arc<dyn Source>,
    limits: Limits,
    stops: usize,
) -> Result<Rows, String> {
    let say = |e: thalweg_core::Error| e.to_string();
    let none = BTreeMap::new();
    let (mut whole, _, pieces) = read(&open(), &none, 1, limits, usize::MAX).await.map_err(say)?;
    whole.sort();
    for piece in &pieces {
        let rows: usize = piece.changes.iter().map(|(_, c)| c.num_rows()).sum();
        if rows > limits.piece_rows_max && !piece.continues {
            return Err(format!("a piece of {rows} rows, limit {}", limits.piece_rows_max));
        }
        if piece.positions.is_empty() {
            return Err("a piece moved no split".to_owned());
        }
    }
    for workers in [2, 3] {
        let (mut rows, ..) = read(&open(), &none, workers, limits, usize::MAX).await.map_err(say)?;
        rows.sort();
        if rows != whole {
            return Err(format!("{workers} workers read other rows than one: {}", first_difference(&whole, &rows)));
        }
    }
    for stop in 0..stops.min(pieces.len() + 1) {
        let (before, after) = (1 + stop % 3, 1 + (stop / 3) % 3);
        let (mut rows, positions, _) = read(&open(), &none, before, limits, stop).await.map_err(say)?;
        let (rest, ..) = read(&open(), &positions, after, limits, usize::MAX).await.map_err(say)?;
        rows.extend(rest);
        rows.sort();
        if rows != whole {
            let difference = first_difference(&whole, &rows);
            return Err(format!("stopped after {stop} pieces of {before} workers, read on by {after}: {difference}"));
        }
    }
    Ok(whole)
}

fn first_difference(expected: &Rows, found: &Rows) -> String {
    let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let (lengths, a, b) = ((expected.len(), found.len()), expected.get(at), found.get(at));
    format!("{} and {} rows; first difference {a:?} against {b:?}", lengths.0, lengths.1)
}

/// A segment whose chunks are in memory.
pub fn segment(number: u64, chunks: Vec<Bytes>) -> Segment {
    struct InMemory(Vec<Bytes>);
    impl SegmentChunks for InMemory {
        fn read(&self) -> BoxStream<'_, Result<Bytes>> {
            futures::stream::iter(self.0.iter().cloned().map(Ok)).boxed()
        }
    }
    let bytes = chunks.iter().map(|c| c.len() as u64).sum();
    let rows = u64::from(bytes > 0);
    Segment { number, ticks: number..=number, rows, bytes, chunks: Box::new(InMemory(chunks)) }
}

/// An exactly-once sink: segments delivered again (after a crash before the mark was recorded elsewhere) are in the
/// target once; an older process is shut out; another job's mark is not this job's. `chunk(n)` is the encoded content
/// of segment n; `content` reads the whole target.
pub async fn sink_delivers_once(
    open: &dyn Fn(&JobId) -> Arc<dyn Sink>,
    chunk: &dyn Fn(u64) -> Bytes,
    content: &dyn Fn() -> Vec<u8>,
) -> Result<(), String> {
    let say = |e: thalweg_core::Error| e.to_string();
    let job = JobId("0123456789abcdef0123456789abcdef".to_owned());
    let mark = |segment| Mark::At { job: job.clone(), segment };
    let expect = |what: &str, found: &Mark, expected: &Mark| {
        (found == expected).then_some(()).ok_or_else(|| format!("{what}: {found:?}, not {expected:?}"))
    };
    let up_to = |n: u64| (1..=n).flat_map(|i| chunk(i).to_vec()).collect::<Vec<u8>>();
    let holds = |what: &str, n: u64| {
        let (found, expected) = (content(), up_to(n));
        let show = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (found == expected)
            .then_some(())
            .ok_or_else(|| format!("{what}: {:?}, not {:?}", show(&found), show(&expected)))
    };

    let old = open(&job);
    expect("mark of a new target", &old.fence(&job).await.map_err(say)?, &Mark::Absent)?;
    old.deliver(&[], &mark(0)).await.map_err(say)?;
    expect("mark without segments", &old.fence(&job).await.map_err(say)?, &mark(0))?;
    old.deliver(&[segment(1, vec![chunk(1)])], &mark(1)).await.map_err(say)?;
    old.deliver(&[segment(2, vec![chunk(2)]), segment(3, vec![chunk(3)])], &mark(3)).await.map_err(say)?;
    holds("after three segments", 3)?;

    let new = open(&job);
    expect("mark after a restart", &new.fence(&job).await.map_err(say)?, &mark(3))?;
    if old.deliver(&[segment(4, vec![chunk(4)])], &mark(4)).await.is_ok() {
        return Err("a process that was shut out delivered".to_owned());
    }
    holds("after a delivery that was shut out", 3)?;
    new.deliver(&[segment(3, vec![chunk(3)]), segment(4, vec![chunk(4)])], &mark(4)).await.map_err(say)?;
    holds("after a segment was delivered again", 4)?;
    new.deliver(&[segment(5, vec![])], &mark(5)).await.map_err(say)?;
    holds("after an empty segment", 4)?;
    expect("mark after all", &open(&job).fence(&job).await.map_err(say)?, &mark(5))?;

    let other = JobId("fedcba9876543210fedcba9876543210".to_owned());
    expect("mark of another job", &open(&other).fence(&other).await.map_err(say)?, &Mark::Absent)?;
    holds("after another job's fence", 4)
}
