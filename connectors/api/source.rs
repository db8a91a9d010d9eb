//! Sources: one reader of a physical system (a server, a cluster, a folder) with one or several output tables.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thalweg_core::table::TableDef;
use thalweg_core::{Changes, Result, Watermark};

/// Names a part of a source that is read in order and has a position of its own: `orders.json`, `topic-3`.
/// The same physical part has the same name in every attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SplitId(pub String);

impl fmt::Display for SplitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a split stands: plain data that people can read in `thalweg checkpoint inspect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position(pub serde_json::Value);

/// A split as found by `Source::splits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    pub id: SplitId,
    /// What the reader needs to open it beyond its name.
    pub detail: serde_json::Value,
}

/// One table that an instance reads from a source, with the columns that its consumers need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTable {
    pub def: TableDef,
    /// Ordinals within `def.columns` of the columns to produce, ascending: `Piece.changes` has exactly these.
    pub columns: Vec<usize>,
    /// Append a hidden `BIGINT NOT NULL` column, last: a pure function of the row's position, rising in arrival
    /// order within a split.
    pub with_order: bool,
}

/// An opened source: one physical thing to read, with the tables that one instance reads from it.
#[async_trait]
pub trait Source: Send + Sync {
    /// On the coordinator only, at start and every `discovery_interval`: what exists now. Splits that were reported
    /// before are reported again, with the same id.
    async fn splits(&self) -> Result<Vec<Split>>;

    /// Where splits that no checkpoint knows begin, found out now: what "latest" or "earliest" is at this moment. On
    /// the coordinator only, once for every new split. What it answers is durable in a checkpoint before the first row
    /// is taken, so that a restart begins at the same place; `None`: the options say it and always mean the same.
    /// `found_later`: the source has been read before, these splits came to be meanwhile.
    async fn start(&self, splits: &[Split], found_later: bool) -> Result<Vec<Option<Position>>> {
        let _ = found_later;
        Ok(vec![None; splits.len()])
    }

    /// How often to look for new splits; `None`: never (bounded input).
    fn discovery_interval(&self) -> Option<std::time::Duration> {
        None
    }

    /// A reader for the splits that one worker owns; a split without a position begins where the options say.
    fn reader(&self, splits: Vec<(Split, Option<Position>)>, cx: ReaderCx) -> Result<Box<dyn Reader>>;
}

/// What a reader is told about where it runs.
#[derive(Debug, Clone)]
pub struct ReaderCx {
    /// `pipeline.name`, else the name that messages use.
    pub job_name: String,
    pub status: Status,
    pub worker: usize,
    pub workers: usize,
    /// A piece should hold no more rows than this (one row or one whole transaction may exceed it).
    pub piece_rows_max: usize,
    /// A piece should hold no more bytes than this.
    pub piece_bytes_max: usize,
}

/// What a reader tells of itself, for the progress line and the log.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    words: String,
    purged_in_s: Option<u64>,
}

impl Status {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is busy with, in a few words: `snapshot orders 62 %`, `waits for db1:3306`. Replaces what was said before;
    /// empty: nothing worth a word.
    pub fn set(&self, words: impl Into<String>) {
        self.told().words = words.into();
    }

    pub fn get(&self) -> String {
        self.told().words.clone()
    }

    /// For how many seconds more the server keeps what was not read yet; `None`: for ever, or nobody knows.
    pub fn set_purged_in_s(&self, seconds: Option<u64>) {
        self.told().purged_in_s = seconds;
    }

    pub fn purged_in_s(&self) -> Option<u64> {
        self.told().purged_in_s
    }
}

/// Reads the splits of one worker, on tokio, ahead of the ticks.
#[async_trait]
pub trait Reader: Send {
    /// Splits found later (new files, new partitions).
    async fn assign(&mut self, splits: Vec<(Split, Option<Position>)>) -> Result<()>;

    /// The next piece; `None` when every assigned split of bounded input is through. Waits while there is nothing.
    /// Cancel-safe: a dropped future has lost nothing.
    async fn next(&mut self) -> Result<Option<Piece>>;

    /// A checkpoint with these positions is committed (a good time to commit Kafka offsets for lag monitors).
    async fn committed(&mut self, positions: &[(SplitId, Position)]) -> Result<()> {
        let _ = positions;
        Ok(())
    }
}

/// A bounded part of a source's changes.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    /// (index of the table within the source, its changes).
    pub changes: Vec<(usize, Changes)>,
    /// The next piece belongs to the same tick: a transaction goes on.
    pub continues: bool,
    /// Where each split that moved stands after this piece.
    pub positions: Vec<(SplitId, Position)>,
    pub watermark: Option<(SplitId, Watermark)>,
    /// How far the newest row's event or commit time lies behind the wall clock.
    pub event_time_lag_ms: Option<i64>,
}
