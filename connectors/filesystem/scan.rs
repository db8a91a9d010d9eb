//! The thread that reads and decodes the files of one worker, one after the other, in the order of their names.

use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use thalweg_connector_api::{Decoder, Piece, RateLimit, ReaderCx, SourceTable, SplitId};
use thalweg_core::{Error, Result};
use thalweg_formats::compression::Compression;
use tokio::sync::mpsc::Sender;

use crate::columns::{Assembly, FileFacts};
use crate::file::{self, FilePosition, Opened};
use crate::options::FileOptions;

/// How much is read from a file at a time.
const BLOCK_BYTES: usize = 1 << 20;
/// The longest record; what is longer is taken for a file of another kind.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// May stand before the first byte of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file that this worker reads.
#[derive(Debug, Clone)]
pub struct Assigned {
    pub id: SplitId,
    pub path: PathBuf,
    pub position: FilePosition,
}

pub enum Message {
    Piece(Piece),
    /// Nothing follows.
    Failed(Error),
    /// All files of bounded input are through.
    End,
}

/// Why a scan stops.
enum Stop {
    /// Whoever reads the pieces has gone.
    Gone,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Stop::Failed(e)
    }
}

pub struct Scan {
    table: String,
    /// In lower case.
    column_names: Vec<String>,
    format: String,
    compression: String,
    /// How often to look whether files have grown; `None`: bounded.
    follow: Option<Duration>,
    decoder: Box<dyn Decoder>,
    assembly: Assembly,
    rows_max: usize,
    bytes_max: usize,
    rate: Arc<RateLimit>,
    pieces: Sender<Message>,
    assigned: Receiver<Vec<Assigned>>,
    waiting: VecDeque<Assigned>,
    /// Read to their end, and may grow.
    followed: Vec<Assigned>,
    /// Read and not yet used up: `buffer[start..]`.
    buffer: Vec<u8>,
    start: usize,
}

/// What a scan is made of.
pub struct ScanParts<'a> {
    pub table: &'a SourceTable,
    pub options: &'a FileOptions,
    pub rate: Arc<RateLimit>,
    pub cx: &'a ReaderCx,
    /// Where pieces go.
    pub pieces: Sender<Message>,
    /// Where files come from after the start.
    pub assigned: Receiver<Vec<Assigned>>,
}

impl Scan {
    pub fn new(parts: ScanParts<'_>) -> Result<Self> {
        let ScanParts { table, options, rate, cx, pieces, assigned } = parts;
        let assembly = Assembly::new(table);
        let by_bytes = (cx.piece_bytes_max / assembly.row_bytes.max(1)).max(1);
        Ok(Scan {
            table: table.def.name.clone(),
            column_names: table.def.columns.iter().map(|c| c.column.name.to_lowercase()).collect(),
            format: options.format.clone(),
            compression: options.compression.clone(),
            follow: options.monitor_interval,
            decoder: thalweg_formats::format(&options.format)?.decoder(&table.def, &assembly.decoded)?,
            assembly,
            rows_max: rate.piece_rows(cx.piece_rows_max.min(by_bytes)),
            bytes_max: cx.piece_bytes_max.max(1),
            rate,
            pieces,
            assigned,
            waiting: VecDeque::new(),
            followed: vec![],
            buffer: vec![],
            start: 0,
        })
    }

    /// Until the reader is dropped, or something fails.
    pub fn run(mut self, files: Vec<Assigned>) {
        self.waiting.extend(files);
        if let Err(Stop::Failed(e)) = self.read_all() {
            let _ = self.pieces.blocking_send(Message::Failed(e));
        }
    }

    fn read_all(&mut self) -> Result<(), Stop> {
        loop {
            while let Some(mut file) = self.waiting.pop_front() {
                if self.follow.is_some() && file.position.bytes == 0 && !file.path.exists() {
                    let (table, path) = (&self.table, file.path.display());
                    tracing::warn!(event = "file_gone", "table {table}: {path} was removed before it was read");
                    continue;
                }
                self.read_file(&mut file)?;
                self.take_assigned()?;
                if self.follow.is_some() && self.compression_of(&file) == Compression::None {
                    self.followed.push(file);
                }
            }
            match self.follow {
                None => {
                    self.pieces.blocking_send(Message::End).map_err(|_| Stop::Gone)?;
                    let more = self.assigned.recv().map_err(|_| Stop::Gone)?;
                    self.waiting.extend(more);
                }
                Some(interval) => {
                    self.wait_until(Instant::now() + interval, true)?;
                    let grown = |f: &Assigned| match std::fs::metadata(&f.path) {
                        Ok(meta) => meta.len() != f.position.bytes,
                        // Gone: whoever removed it has read it.
                        Err(_) => false,
                    };
                    let (grown, same): (Vec<_>, Vec<_>) = self.followed.drain(..).partition(grown);
                    self.followed = same;
                    self.waiting.extend(grown);
                }
            }
        }
    }

    fn compression_of(&self, file: &Assigned) -> Compression {
        Compression::of(&self.compression, &file.path)
    }

    fn take_assigned(&mut self) -> Result<(), Stop> {
        loop {
            match self.assigned.try_recv() {
                Ok(files) => self.waiting.extend(files),
                Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(()),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Err(Stop::Gone),
            }
        }
    }

    /// Sleeps; ends when the reader is dropped. Files that are assigned meanwhile wait; with `or_assigned` they end
    /// the sleep.
    fn wait_until(&mut self, at: Instant, or_assigned: bool) -> Result<(), Stop> {
        loop {
            match self.assigned.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(files) => {
                    self.waiting.extend(files);
                    if or_assigned {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Gone),
            }
        }
    }

    /// Reads what is there of a file and was not read yet, and moves its position.
    fn read_file(&mut self, file: &mut Assigned) -> Result<(), Stop> {
        let compression = self.compression_of(file);
        let bounded = self.follow.is_none() || compression != Compression::None;
        let Opened { mut input, facts, position } =
            file::open(&file.path, file.position, compression, self.decoder.has_header())
                .map_err(|e| e.context(format_args!("table {}", self.table)))?;
        file.position = position;
        self.buffer.clear();
        self.start = 0;
        if self.decoder.has_header() && !self.read_header(file, input.as_mut(), bounded)? {
            return Ok(());
        }
        let mut at_end = false;
        let mut unsent_bytes = 0;
        let mut needs_more = true;
        // A record does not fit into a piece: look at all that is there.
        let mut long = false;
        loop {
            if !at_end && (needs_more || self.buffer.len() - self.start < BLOCK_BYTES / 4) {
                at_end = self.fill(file, input.as_mut())? == 0;
                needs_more = false;
                if file.position.bytes == 0 && self.buffer.starts_with(BYTE_ORDER_MARK) {
                    self.start = BYTE_ORDER_MARK.len();
                    file.position.bytes = BYTE_ORDER_MARK.len() as u64;
                }
            }
            let there = &self.buffer[self.start..];
            let cut = if long { there.len() } else { there.len().min(self.bytes_max) };
            let last = at_end && bounded && cut == there.len();
            let used = match self.decoder.decode(&there[..cut], last, self.rows_max) {
                Ok(used) => used,
                Err(bad) => return Err(self.bad_record(file, bad).into()),
            };
            self.start += used;
            file.position.bytes += used as u64;
            unsent_bytes += used;
            let is_full = self.decoder.rows() >= self.rows_max || unsent_bytes >= self.bytes_max;
            if is_full || (used == 0 && self.decoder.rows() > 0) {
                self.send(file, &facts)?;
                unsent_bytes = 0;
                long = false;
            } else if used == 0 {
                let there = self.buffer.len() - self.start;
                if cut < there {
                    long = true;
                } else if at_end {
                    break;
                } else if there > RECORD_BYTES_MAX {
                    return Err(self.too_long(file).into());
                } else {
                    needs_more = true;
                }
            }
        }
        if unsent_bytes > 0 {
            // Only bad or empty records at the end: the position moves all the same.
            self.send(file, &facts)?;
        }
        Ok(())
    }

    /// Whether the header is there; the buffer then begins at the file's position.
    fn read_header(&mut self, file: &mut Assigned, input: &mut (dyn Read + Send), bounded: bool) -> Result<bool, Stop> {
        let header_bytes = loop {
            let at_end = self.fill(file, input)? == 0;
            let read = self.decoder.read_header(&self.buffer, at_end && bounded);
            match read.map_err(|e| e.context(format!("table {}: {}", self.table, file.path.display())))? {
                Some(bytes) => break bytes,
                None if at_end => return Ok(false),
                None if self.buffer.len() > RECORD_BYTES_MAX => return Err(self.too_long(file).into()),
                None => {}
            }
        };
        if file.position.bytes == 0 {
            self.start = header_bytes;
            file.position.bytes = header_bytes as u64;
            file.position.records = 1;
            return Ok(true);
        }
        match usize::try_from(file.position.bytes).ok().filter(|b| *b <= self.buffer.len()) {
            Some(start) => self.start = start,
            None => {
                file::skip(input, file.position.bytes - self.buffer.len() as u64, &file.path)?;
                self.buffer.clear();
            }
        }
        Ok(true)
    }

    /// Reads a block behind what is there; how many bytes came (0: the end).
    fn fill(&mut self, file: &Assigned, input: &mut (dyn Read + Send)) -> Result<usize, Stop> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let fail = |e| {
            let e = file::failed(&file.path, e).context(format_args!("table {}", self.table));
            // A compressed stream that is broken stays so.
            if Compression::of(&self.compression, &file.path) == Compression::None { e } else { e.permanent() }
        };
        Ok(input.take(BLOCK_BYTES as u64).read_to_end(&mut self.buffer).map_err(fail)?)
    }

    /// Sends what is decoded, with the position behind it.
    fn send(&mut self, file: &mut Assigned, facts: &FileFacts) -> Result<(), Stop> {
        let first_record = file.position.records;
        file.position.records += self.decoder.records();
        let (changes, record_of) = self.decoder.finish()?;
        let rows = changes.num_rows();
        let changes = if rows == 0 {
            vec![]
        } else {
            vec![(0, self.assembly.assemble(changes, &record_of, first_record, facts)?)]
        };
        if let Some(at) = self.rate.reserve(rows as u64) {
            self.wait_until(at, false)?;
        }
        let positions = vec![(file.id.clone(), file.position.to_position())];
        self.pieces
            .blocking_send(Message::Piece(Piece { changes, positions, ..Piece::default() }))
            .map_err(|_| Stop::Gone)
    }

    fn place(&self, file: &Assigned) -> String {
        let line = file.position.records + self.decoder.records() + 1;
        format!("table {}: {}, line {line}", self.table, file.path.display())
    }

    fn bad_record(&self, file: &Assigned, bad: thalweg_connector_api::format::BadRecord) -> Error {
        let is_first = file.position.records + self.decoder.records() == 0;
        let hint = is_first.then(|| self.hint(file)).flatten();
        hint.into_iter().fold(bad.error.context(self.place(file)), Error::note)
    }

    /// What a file seems to be whose first record cannot be read.
    fn hint(&self, file: &Assigned) -> Option<String> {
        let there = &self.buffer[self.start..];
        let line = there.split(|b| *b == b'\n').next().unwrap_or_default();
        if self.compression_of(file) == Compression::None {
            let magic: [(&[u8], &str); 2] = [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd")];
            if let Some((_, name)) = magic.iter().find(|(magic, _)| there.starts_with(magic)) {
                return Some(format!("the file is compressed: 'compression' = '{name}' reads it"));
            }
        }
        if there.starts_with(b"\xff\xfe") || there.starts_with(b"\xfe\xff") {
            return Some(
                "the file is UTF-16: only UTF-8 can be read (iconv -f UTF-16 -t UTF-8 converts it)".to_owned(),
            );
        }
        match self.format.as_str() {
            "csv" if !self.decoder.has_header() => {
                let line = String::from_utf8_lossy(line).to_lowercase();
                let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
                words
                    .any(|w| self.column_names.iter().any(|n| n == w))
                    .then(|| "if the first line names the columns: 'csv.header' = 'true'".to_owned())
            }
            "csv" => None,
            _ => {
                let line = line.trim_ascii();
                let (opens, closes) = (line.first()?, line.last()?);
                let is_cut = matches!((opens, closes), (b'{', c) if *c != b'}')
                    || matches!((opens, closes), (b'[', c) if *c != b']');
                is_cut.then(|| {
                    "each line must be whole: `jq -c .` puts an object on one line, `jq -c '.[]'` each of an array"
                        .to_owned()
                })
            }
        }
    }

    fn too_long(&self, file: &Assigned) -> Error {
        let mb = RECORD_BYTES_MAX >> 20;
        Error::row(format!("{}: a record of more than {mb} MiB", self.place(file)))
            .note("is this a file of the table's format? (an unmatched quote also makes a record that does not end)")
    }
}
