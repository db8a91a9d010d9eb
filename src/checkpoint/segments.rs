//! Staged output: a sink's encoded rows, in the checkpoint storage until the target has them.
//!
//! Each worker writes **parts** (objects of a few MB); when the manifest is written the coordinator makes the parts of all
//! workers into **segments**, numbered per sink from 1 without gaps. A segment covers whole ticks.
//!
//! A part, all numbers little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `THALSEG1` |
//! | per chunk: 4 | length of the chunk's bytes |
//! | 4 | CRC-32 of the chunk's bytes |
//! | n | the bytes that one call of the sink's encoder appended |

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::stream::{self, BoxStream, StreamExt};
use serde::{Deserialize, Serialize};
use thalweg_core::{Error, Result};
use thalweg_graph::OperatorId;

use crate::attempt::AttemptId;
use crate::layout;
use crate::storage::Storage;

const MAGIC: &[u8; 8] = b"THALSEG1";
const CHUNK_HEADER_BYTES: usize = 8;

/// One worker's rows of one sink that are not stored yet.
#[derive(Debug, Clone)]
pub struct Part {
    /// What each call of the encoder appended, in the order of ticks.
    pub chunks: Vec<Bytes>,
    pub rows: u64,
    pub first_tick: u64,
    pub last_tick: u64,
}

/// A part in the checkpoint storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPart {
    pub object: String,
    pub worker: usize,
    /// Rises per worker and sink within an attempt.
    pub seq: u64,
    pub rows: u64,
    /// Of the object.
    pub bytes: u64,
    pub crc32: u32,
    pub first_tick: u64,
    pub last_tick: u64,
}

/// Output of one range of whole ticks, all workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub number: u64,
    pub first_tick: u64,
    pub last_tick: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Parts of one worker in the order in which they were written.
    pub parts: Vec<StoredPart>,
}

/// One sink in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkLog {
    pub sink: OperatorId,
    /// As the user calls it; for messages.
    pub name: String,
    /// The target is known to have all segments up to this number; 0: none. What is recorded beside the manifests may
    /// be ahead.
    pub delivered: u64,
    /// Number of the last segment that was ever staged; 0: none.
    pub last_staged: u64,
    /// All segments above `delivered`, whatever checkpoint they came from; ascending, without gaps.
    pub pending: Vec<Segment>,
    /// The last segment that may have been given to the target, where that is not `last_staged`: since the job was started
    /// the target has not said what it has, and what was staged since then was kept from it. Without it, the next start
    /// could not tell a target that is ahead of an older copy of the directory from one that was given the new segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempted: Option<u64>,
    /// What the sink found out of its target at the first start and keeps to (a number of partitions); null: nothing.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub facts: serde_json::Value,
}

impl Part {
    /// The object that it is stored as, in pieces, with its CRC-32. Nothing of the chunks is copied.
    fn to_object(&self) -> Result<(Vec<Bytes>, u32)> {
        let mut crc32 = crc32fast::Hasher::new();
        crc32.update(MAGIC);
        let mut pieces = vec![Bytes::from_static(MAGIC)];
        for chunk in self.chunks.iter().filter(|c| !c.is_empty()) {
            let length = u32::try_from(chunk.len())
                .map_err(|_| Error::row("the encoded rows of one tick's batch take more than 4 GiB"))?;
            let mut of_chunk = crc32fast::Hasher::new();
            of_chunk.update(chunk);
            let mut header = [0; CHUNK_HEADER_BYTES];
            header[..4].copy_from_slice(&length.to_le_bytes());
            header[4..].copy_from_slice(&of_chunk.clone().finalize().to_le_bytes());
            crc32.update(&header);
            crc32.combine(&of_chunk);
            pieces.extend([Bytes::copy_from_slice(&header), chunk.clone()]);
        }
        Ok((pieces, crc32.finalize()))
    }
}

/// Stores a part; its content is durable when this returns, its name when the manifest is committed.
pub async fn stage(
    storage: &Storage,
    attempt: &AttemptId,
    sink: OperatorId,
    worker: usize,
    seq: u64,
    part: &Part,
) -> Result<StoredPart> {
    let object = layout::segment_part(attempt, sink, worker, seq);
    let (pieces, crc32) = part.to_object()?;
    let bytes = pieces.iter().map(|p| p.len() as u64).sum();
    storage.put_pieces(&object, pieces).await?;
    let Part { rows, first_tick, last_tick, .. } = *part;
    Ok(StoredPart { object, worker, seq, rows, bytes, crc32, first_tick, last_tick })
}

impl SinkLog {
    pub fn new(sink: OperatorId, name: impl Into<String>) -> Self {
        SinkLog {
            sink,
            name: name.into(),
            delivered: 0,
            last_staged: 0,
            pending: vec![],
            attempted: None,
            facts: Default::default(),
        }
    }

    /// The last segment that may ever have been given to the target.
    pub fn attempted(&self) -> u64 {
        self.attempted.map_or(self.last_staged, |a| a.max(self.delivered))
    }

    /// What is staged from now on is kept from the target, which has not said what it has.
    pub fn keep_back(&mut self) {
        self.attempted = Some(self.attempted());
    }

    /// Segments up to this one may have been given to the target.
    pub fn mark_attempted(&mut self, segment: u64) {
        self.attempted = self.attempted.map(|a| a.max(segment)).filter(|a| *a < self.last_staged);
    }

    /// Takes note that the target has the segments up to `segment`; never goes back.
    pub fn mark_delivered(&mut self, segment: u64) {
        self.delivered = self.delivered.max(segment.min(self.last_staged));
        self.pending.retain(|s| s.number > self.delivered);
    }

    /// Makes segments of the parts that came since the last checkpoint. Usually one; a single tick of more than
    /// `bytes_max` makes several: `true` is returned then, since the target does not see that tick at once.
    pub fn close(&mut self, mut parts: Vec<StoredPart>, bytes_max: u64) -> bool {
        // Keeps each worker's order, since its parts begin at later and later ticks.
        parts.sort_by_key(|p| (p.first_tick, p.worker, p.seq));
        let mut cuts_a_tick = false;
        let mut open: Vec<StoredPart> = vec![];
        for part in parts {
            let bytes: u64 = open.iter().map(|p| p.bytes).sum();
            let last = open.iter().map(|p| p.last_tick).max();
            if let Some(last) = last
                && bytes + part.bytes > bytes_max
            {
                let one_tick = open.iter().all(|p| p.first_tick == last) && part.first_tick == last;
                if part.first_tick > last || one_tick {
                    cuts_a_tick |= part.first_tick == last;
                    self.add(std::mem::take(&mut open));
                }
            }
            open.push(part);
        }
        self.add(open);
        cuts_a_tick
    }

    fn add(&mut self, parts: Vec<StoredPart>) {
        let (Some(first), Some(last)) =
            (parts.iter().map(|p| p.first_tick).min(), parts.iter().map(|p| p.last_tick).max())
        else {
            return;
        };
        self.last_staged += 1;
        self.pending.push(Segment {
            number: self.last_staged,
            first_tick: first,
            last_tick: last,
            rows: parts.iter().map(|p| p.rows).sum(),
            bytes: parts.iter().map(|p| p.bytes).sum(),
            parts,
        });
    }

    /// What waits for the target, in bytes.
    pub fn pending_bytes(&self) -> u64 {
        self.pending.iter().map(|s| s.bytes).sum()
    }

    pub fn pending_rows(&self) -> u64 {
        self.pending.iter().map(|s| s.rows).sum()
    }
}

impl Segment {
    pub fn ticks(&self) -> RangeInclusive<u64> {
        self.first_tick..=self.last_tick
    }
}

/// Reads a segment's chunks in order, one part in memory at a time. A damaged, shortened or missing part is an error of
/// code `Checkpoint` that names it, before any of its chunks is given.
pub fn read(storage: Arc<Storage>, segment: &Segment) -> BoxStream<'static, Result<Bytes>> {
    let parts = stream::iter(segment.parts.clone());
    parts
        .then(move |part| {
            let storage = storage.clone();
            async move { read_part(&storage, &part).await }
        })
        .flat_map(|chunks| match chunks {
            Ok(chunks) => stream::iter(chunks.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(e) => stream::iter(vec![Err(e)]),
        })
        .boxed()
}

async fn read_part(storage: &Storage, part: &StoredPart) -> Result<Vec<Bytes>> {
    let bytes = storage.get(&part.object).await?;
    if bytes.len() as u64 != part.bytes || crc32fast::hash(&bytes) != part.crc32 {
        return Err(damaged(storage, &part.object));
    }
    chunks(bytes).ok_or_else(|| damaged(storage, &part.object))
}

fn damaged(storage: &Storage, object: &str) -> Error {
    Error::checkpoint(format!("staged output {} is damaged", storage.describe(object)))
        .note("its rows were not delivered; nothing was overwritten")
        .note("restore the file from a backup; with --fresh the job begins anew and sinks get everything again")
}

/// The chunks of a part; `None` if it is not one.
fn chunks(mut bytes: Bytes) -> Option<Vec<Bytes>> {
    if bytes.len() < MAGIC.len() || bytes.split_to(MAGIC.len()) != MAGIC[..] {
        return None;
    }
    let mut chunks = vec![];
    while !bytes.is_empty() {
        if bytes.len() < CHUNK_HEADER_BYTES {
            return None;
        }
        let (length, crc32) = (bytes.get_u32_le() as usize, bytes.get_u32_le());
        if bytes.len() < length {
            return None;
        }
        let chunk = bytes.split_to(length);
        if crc32fast::hash(&chunk) != crc32 {
            return None;
        }
        chunks.push(chunk);
    }
    Some(chunks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(worker: usize, seq: u64, ticks: RangeInclusive<u64>, bytes: u64) -> StoredPart {
        StoredPart {
            object: format!("w{worker}-{seq}"),
            worker,
            seq,
            rows: 1,
            bytes,
            crc32: 0,
            first_tick: *ticks.start(),
            last_tick: *ticks.end(),
        }
    }

    fn log() -> SinkLog {
        SinkLog::new(OperatorId([1; 16]), "out")
    }

    #[test]
    fn all_parts_of_a_checkpoint_are_one_segment() {
        let mut log = log();
        assert!(!log.close(vec![], 100));
        assert_eq!((log.last_staged, log.pending.len()), (0, 0));
        assert!(!log.close(vec![part(1, 0, 1..=5, 10), part(0, 0, 2..=3, 10), part(0, 1, 4..=5, 10)], 100));
        assert!(!log.close(vec![part(0, 2, 6..=6, 10)], 100));
        let numbers: Vec<_> = log.pending.iter().map(|s| (s.number, s.ticks(), s.rows, s.bytes)).collect();
        assert_eq!(numbers, [(1, 1..=5, 3, 30), (2, 6..=6, 1, 10)]);
        log.mark_delivered(1);
        assert_eq!(log.pending.len(), 1);
        log.mark_delivered(0);
        assert_eq!(log.delivered, 1, "delivered never goes back");
    }

    #[test]
    fn what_is_staged_while_the_target_is_silent_was_never_given_to_it() {
        let mut log = log();
        let stage = |log: &mut SinkLog, ticks: RangeInclusive<u64>| {
            for tick in ticks {
                log.close(vec![part(0, tick, tick..=tick, 10)], 100);
            }
        };
        stage(&mut log, 1..=3);
        assert_eq!(log.attempted(), 3);
        log.keep_back();
        stage(&mut log, 4..=6);
        log.keep_back();
        assert_eq!((log.attempted(), log.last_staged), (3, 6));
        let stored = serde_json::to_value(&log).unwrap();
        assert_eq!(serde_json::from_value::<SinkLog>(stored).unwrap().attempted(), 3);
        log.mark_attempted(5);
        log.mark_attempted(4);
        assert_eq!(log.attempted(), 5);
        log.mark_attempted(6);
        assert_eq!(log.attempted, None);
    }

    #[test]
    fn ticks_are_cut_only_if_one_alone_is_too_large() {
        let mut log = log();
        // Over the limit, but between ticks there is a border.
        assert!(!log.close(vec![part(0, 0, 1..=1, 60), part(0, 1, 2..=2, 60)], 100));
        assert_eq!(log.pending.len(), 2);
        // No border: two workers' ticks overlap. Kept whole.
        assert!(!log.close(vec![part(0, 2, 3..=5, 60), part(1, 0, 4..=6, 60)], 100));
        assert_eq!(log.pending.len(), 3);
        // One tick alone.
        assert!(log.close(vec![part(0, 3, 7..=7, 60), part(0, 4, 7..=7, 60), part(1, 1, 7..=7, 60)], 100));
        assert_eq!(log.pending.len(), 6);
        assert!(log.pending.iter().zip(1..).all(|(s, n)| s.number == n));
    }

    #[test]
    fn chunks_come_back_as_they_were_staged() {
        let given = ["two\nrows\n", "", "one\n"].map(|c| Bytes::from_static(c.as_bytes()));
        let part = Part { chunks: given.to_vec(), rows: 3, first_tick: 3, last_tick: 5 };
        let (pieces, crc32) = part.to_object().unwrap();
        let object: Vec<u8> = pieces.concat();
        assert_eq!(crc32, crc32fast::hash(&object));
        assert_eq!(chunks(object.into()).unwrap(), ["two\nrows\n", "one\n"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), magic: bool) {
            let mut all = if magic { MAGIC.to_vec() } else { vec![] };
            all.extend(bytes);
            let _ = chunks(all.into());
        }
    }
}
