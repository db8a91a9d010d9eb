//! The sink: every committed segment becomes one file, exactly once.
//!
//! In the target folder lie `part-<job>-<segment>.<ending>` and a hidden folder `.thalweg` with, per job:
//!
//! | file | what |
//! | --- | --- |
//! | `<job>.json` | the mark: the last segment that is delivered |
//! | `<job>.owner` | who delivers: written by `fence`, looked at before every step, so that an older process stops |
//! | `<job>-….tmp` | files being written; renamed when whole, removed by the next `fence` |
//!
//! A segment's file is written whole, synced, and renamed; then the mark is replaced in the same way. A crash between
//! the two leaves the file without the mark: the segment is delivered again, and the same bytes replace themselves.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use arrow::array::Array;
use async_trait::async_trait;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use thalweg_connector_api::{EncodeCx, Encoder, RowEncoder, Segment, Sink};
use thalweg_core::fold::RowChanges;
use thalweg_core::mark::{JobId, Mark};
use thalweg_core::table::{ColumnKind, Delivery, TableDef};
use thalweg_core::{Error, ErrorCode, Result, Tick};

use crate::options::FileOptions;

const HIDDEN: &str = ".thalweg";
/// Written to a file at a time.
const WRITE_BYTES: usize = 1 << 20;

pub struct FileSink {
    table: TableDef,
    folder: PathBuf,
    ending: &'static str,
    format: String,
    /// What `fence` wrote into the owner file.
    token: Mutex<Option<String>>,
}

#[derive(Serialize, Deserialize)]
struct StoredMark {
    job: String,
    segment: u64,
}

impl FileSink {
    pub fn open(table: &TableDef) -> Result<Self> {
        let options = FileOptions::of(table)?;
        options.not_partitioned(table)?;
        if !["auto", "none"].iter().any(|c| options.compression.eq_ignore_ascii_case(c)) {
            return Err(Error::unsupported(format!(
                "table {}: 'compression' = '{}' is for reading, files are written without compression",
                table.name, options.compression
            ))
            .note("leave 'compression' out of a table that is written"));
        }
        let ending = match options.format.as_str() {
            "csv" => "csv",
            "raw" => "txt",
            _ => "json",
        };
        let folder = options.path();
        Ok(FileSink { table: table.clone(), folder, ending, format: options.format, token: Mutex::new(None) })
    }

    fn row_encoder(&self) -> Result<Box<dyn RowEncoder>> {
        thalweg_formats::format(&self.format)?.encoder(&self.table)
    }

    fn hidden(&self) -> PathBuf {
        self.folder.join(HIDDEN)
    }

    fn mark_path(&self, job: &JobId) -> PathBuf {
        self.hidden().join(format!("{job}.json"))
    }

    fn owner_path(&self, job: &JobId) -> PathBuf {
        self.hidden().join(format!("{job}.owner"))
    }

    /// Files sort by name in the order of segments.
    fn part_name(&self, job: &JobId, segment: u64) -> String {
        let short = job.0.get(..8).unwrap_or(&job.0);
        format!("part-{short}-{segment:010}.{}", self.ending)
    }

    fn failed(&self, path: &Path, e: std::io::Error) -> Error {
        use std::io::ErrorKind::*;
        let advice = match e.kind() {
            PermissionDenied | ReadOnlyFilesystem => Some("this user must be able to write there"),
            StorageFull | QuotaExceeded => Some("free some space: what is to be written is kept"),
            _ => None,
        };
        let e = Error::from(e).context(format!("table {}: {} cannot be written", self.table.name, path.display()));
        advice.into_iter().fold(e, Error::note)
    }

    /// In a delivery. An older process that wakes up within its fencing takes a newer one's temporary files away; so what
    /// vanishes is not lost, and is written again.
    fn failed_to_deliver(&self, job: &JobId, path: &Path, e: std::io::Error) -> Error {
        let vanished = e.kind() == std::io::ErrorKind::NotFound;
        let e = self.failed(path, e);
        match self.still_owner(job) {
            _ if !vanished => e,
            Err(other) => other,
            Ok(()) => e.transient(),
        }
    }

    fn temporary(&self, job: &JobId, path: &Path) -> PathBuf {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        self.hidden().join(format!("{job}-{name}.tmp"))
    }

    fn read_mark(&self, job: &JobId) -> Result<Mark> {
        let path = self.mark_path(job);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Mark::Absent),
            Err(e) => {
                let place = format!("table {}: {} cannot be read", self.table.name, path.display());
                return Err(Error::from(e).context(place));
            }
        };
        let stored: StoredMark = serde_json::from_slice(&text).map_err(|e| {
            Error::checkpoint(format!("table {}: {} is damaged: {e}", self.table.name, path.display())).note(
                "it says which segments the folder holds; restore it, or begin anew with --fresh and an empty folder",
            )
        })?;
        Ok(Mark::At { job: JobId(stored.job), segment: stored.segment })
    }

    fn fence_now(&self, job: &JobId) -> Result<Mark> {
        let hidden = self.hidden();
        if self.folder.exists() && !self.folder.is_dir() {
            return Err(Error::option(format!(
                "table {}: 'path' = '{}' is a file, but output needs a folder",
                self.table.name,
                self.folder.display()
            )));
        }
        // Folders that are made here are durable only when the folders that they lie in are synced.
        let new: Vec<_> = hidden.ancestors().take_while(|p| !p.exists()).map(Path::to_owned).collect();
        fs::create_dir_all(&hidden).map_err(|e| self.failed(&hidden, e))?;
        for folder in new.iter().filter(|p| !p.as_os_str().is_empty()) {
            sync_folder(folder).map_err(|e| self.failed(folder, e))?;
        }
        let token = random_token();
        let owner = self.owner_path(job);
        replace(&self.temporary(job, &owner), &owner, token.as_bytes()).map_err(|e| self.failed(&owner, e))?;
        *self.token.lock().expect("nothing panics under this lock") = Some(token);
        let leftover = format!("{job}-");
        for entry in fs::read_dir(&hidden).map_err(|e| self.failed(&hidden, e))? {
            let path = entry.map_err(|e| self.failed(&hidden, e))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with(&leftover) && name.ends_with(".tmp") {
                fs::remove_file(&path).map_err(|e| self.failed(&path, e))?;
            }
        }
        self.read_mark(job)
    }

    /// An older process finds another's token here.
    fn still_owner(&self, job: &JobId) -> Result<()> {
        let token = self.token.lock().expect("nothing panics under this lock").clone();
        let found = fs::read(self.owner_path(job)).ok();
        match token {
            Some(token) if found.as_deref() == Some(token.as_bytes()) => Ok(()),
            _ => Err(Error::ownership(format!(
                "table {}: another process of this job delivers to {} now",
                self.table.name,
                self.folder.display()
            ))),
        }
    }

    /// Writes a segment's file under a temporary name; `None` if it has no rows. What fails leaves no half file behind:
    /// on a full disk that would be the last of its space.
    async fn write_part(&self, job: &JobId, segment: &Segment, target: &Path) -> Result<Option<PathBuf>> {
        let result = self.write_temporary(job, segment, target).await;
        if result.is_err() {
            let temporary = self.temporary(job, target);
            let _ = blocking(move || fs::remove_file(temporary)).await;
        }
        result
    }

    async fn write_temporary(&self, job: &JobId, segment: &Segment, target: &Path) -> Result<Option<PathBuf>> {
        let temporary = self.temporary(job, target);
        let mut out: Option<File> = None;
        let mut buffer: Vec<u8> = vec![];
        let mut chunks = segment.chunks.read();
        loop {
            let chunk = chunks.next().await.transpose()?;
            let at_end = chunk.is_none();
            if let Some(chunk) = chunk {
                if chunk.is_empty() {
                    continue;
                }
                if out.is_none() && buffer.is_empty() {
                    buffer = self.row_encoder()?.header().unwrap_or_default();
                }
                buffer.extend_from_slice(&chunk);
            }
            if !buffer.is_empty() && (at_end || buffer.len() >= WRITE_BYTES) {
                let (file, path, bytes) = (out.take(), temporary.clone(), std::mem::take(&mut buffer));
                let write = move || -> std::io::Result<File> {
                    let mut file = file.map_or_else(|| File::create(path), Ok)?;
                    file.write_all(&bytes)?;
                    Ok(file)
                };
                out = Some(blocking(write).await?.map_err(|e| self.failed_to_deliver(job, &temporary, e))?);
            }
            if at_end {
                break;
            }
        }
        let Some(file) = out else { return Ok(None) };
        blocking(move || file.sync_all()).await?.map_err(|e| self.failed_to_deliver(job, &temporary, e))?;
        Ok(Some(temporary))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal(format!("writing files: {e}")))
}

/// Whole content under a name, durable when this returns.
fn replace(temporary: &Path, path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    sync_folder(path)
}

/// Makes a name that was just made or changed in a folder durable.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn random_token() -> String {
    let number = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}-{}", number(), number(), std::process::id())
}

#[async_trait]
impl Sink for FileSink {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn encoder(&self, _cx: EncodeCx) -> Result<Box<dyn Encoder>> {
        let columns = self.table.columns.iter().filter(|c| c.kind == ColumnKind::Physical);
        let not_null = columns.map(|c| (!c.column.nullable).then(|| c.column.name.clone())).collect();
        Ok(Box::new(FileEncoder { rows: self.row_encoder()?, table: self.table.name.clone(), not_null }))
    }

    async fn fence(&self, job: &JobId) -> Result<Mark> {
        self.fence_now(job)
    }

    async fn deliver(&self, segments: &[Segment], mark: &Mark) -> Result<()> {
        let Mark::At { job, segment: last } = mark else {
            return Err(Error::internal("a delivery without a mark"));
        };
        self.still_owner(job)?;
        for segment in segments {
            let target = self.folder.join(self.part_name(job, segment.number));
            if let Some(temporary) = self.write_part(job, segment, &target).await? {
                self.still_owner(job)?;
                let to = target.clone();
                blocking(move || fs::rename(&temporary, &to).and_then(|()| sync_folder(&to)))
                    .await?
                    .map_err(|e| self.failed_to_deliver(job, &target, e))?;
            }
        }
        self.still_owner(job)?;
        let stored = StoredMark { job: job.0.clone(), segment: *last };
        let text = serde_json::to_vec(&stored).map_err(|e| Error::internal(e.to_string()))?;
        let path = self.mark_path(job);
        let (temporary, to) = (self.temporary(job, &path), path.clone());
        blocking(move || replace(&temporary, &to, &text)).await?.map_err(|e| self.failed_to_deliver(job, &path, e))
    }
}

struct FileEncoder {
    rows: Box<dyn RowEncoder>,
    table: String,
    /// Per column its name, if it is NOT NULL.
    not_null: Vec<Option<String>>,
}

impl Encoder for FileEncoder {
    fn encode(&mut self, _tick: &Tick, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()> {
        for (column, name) in rows.batch.columns().iter().zip(&self.not_null) {
            if let (Some(name), true) = (name, column.null_count() > 0) {
                return Err(Error::new(
                    ErrorCode::Row,
                    format!("table {}: NULL for column {name}, which is NOT NULL", self.table),
                ));
            }
        }
        self.rows.encode(rows, out).map_err(|e| e.context(format!("table {}", self.table)))
    }
}
