//! The source: finds files, hands them to scanning threads, and passes their pieces on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thalweg_connector_api::{Piece, Position, RateLimit, Reader, ReaderCx, Source, SourceTable, Split, SplitId};
use thalweg_core::{Error, Result};
use tokio::sync::mpsc;

use crate::file::FilePosition;
use crate::glob;
use crate::options::FileOptions;
use crate::scan::{Assigned, Message, Scan, ScanParts};

/// Pieces that are read ahead.
const AHEAD_MAX: usize = 2;

pub struct FileSource {
    table: SourceTable,
    options: FileOptions,
    /// Over all workers.
    rate: Arc<RateLimit>,
}

impl FileSource {
    pub fn open(table: &SourceTable) -> Result<Self> {
        let options = FileOptions::of(&table.def)?;
        let rate = Arc::new(RateLimit::new(options.rows_per_second));
        Ok(FileSource { table: table.clone(), options, rate })
    }
}

#[async_trait]
impl Source for FileSource {
    async fn splits(&self) -> Result<Vec<Split>> {
        let (path, may_be_empty) = (self.options.path.clone(), self.options.monitor_interval.is_some());
        let found = tokio::task::spawn_blocking(move || glob::files(&path, may_be_empty))
            .await
            .map_err(|e| Error::internal(format!("listing files: {e}")))?
            .map_err(|e| e.context(format!("table {}", self.table.def.name)))?;
        let split = |f: glob::Found| Split { id: SplitId(f.id), detail: serde_json::json!({ "path": f.path }) };
        Ok(found.into_iter().map(split).collect())
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.options.monitor_interval
    }

    fn reader(&self, splits: Vec<(Split, Option<Position>)>, cx: ReaderCx) -> Result<Box<dyn Reader>> {
        let files = splits.iter().map(assigned).collect::<Result<Vec<_>>>()?;
        let (pieces_in, pieces) = mpsc::channel(AHEAD_MAX);
        let (assign, assigned) = std::sync::mpsc::channel();
        let scan = Scan::new(ScanParts {
            table: &self.table,
            options: &self.options,
            rate: self.rate.clone(),
            cx: &cx,
            pieces: pieces_in,
            assigned,
        })?;
        let name = format!("scan-{}", cx.worker);
        std::thread::Builder::new()
            .name(name)
            .spawn(move || scan.run(files))
            .map_err(|e| Error::io(format!("a thread for reading files cannot be started: {e}")))?;
        Ok(Box::new(FileReader { pieces, assign, ended: false }))
    }
}

fn assigned((split, position): &(Split, Option<Position>)) -> Result<Assigned> {
    let path = split.detail.get("path").and_then(serde_json::Value::as_str).map(PathBuf::from);
    let path = path.ok_or_else(|| Error::internal(format!("split {} has no path", split.id)))?;
    let position = FilePosition::of(position.as_ref(), &path)?;
    Ok(Assigned { id: split.id.clone(), path, position })
}

/// The end of a scanning thread that the runtime holds. The thread ends when this is dropped.
struct FileReader {
    pieces: mpsc::Receiver<Message>,
    assign: std::sync::mpsc::Sender<Vec<Assigned>>,
    ended: bool,
}

#[async_trait]
impl Reader for FileReader {
    async fn assign(&mut self, splits: Vec<(Split, Option<Position>)>) -> Result<()> {
        let files = splits.iter().map(assigned).collect::<Result<Vec<_>>>()?;
        self.ended &= files.is_empty();
        // If the thread has ended it has said why, and `next` will tell.
        let _ = self.assign.send(files);
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Piece>> {
        if self.ended {
            return Ok(None);
        }
        match self.pieces.recv().await {
            Some(Message::Piece(piece)) => Ok(Some(piece)),
            Some(Message::Failed(e)) => Err(e),
            Some(Message::End) => {
                self.ended = true;
                Ok(None)
            }
            None => Err(Error::internal("the thread that reads the files has ended").transient()),
        }
    }
}
