//! One file, opened at a position, and the check that it still is the file that was read before.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use thalweg_connector_api::Position;
use thalweg_core::{Error, Result};
use thalweg_formats::compression::Compression;

use crate::columns::FileFacts;

/// How much of a file's beginning is remembered, to know it again.
const HEAD_BYTES_MAX: u64 = 4096;

/// How far a file was read, as it stands in checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FilePosition {
    /// Bytes used up, of the decompressed content.
    pub bytes: u64,
    /// Records (lines) used up, the header included.
    pub records: u64,
    /// Length and CRC-32 of the file's first bytes as they lay on the disk.
    pub head_bytes: u64,
    pub head_crc: u32,
}

impl FilePosition {
    pub fn of(position: Option<&Position>, file: &Path) -> Result<Self> {
        let Some(position) = position else { return Ok(FilePosition::default()) };
        serde_json::from_value(position.0.clone()).map_err(|e| {
            Error::checkpoint(format!("{}: {} is not a position in a file: {e}", file.display(), position.0))
        })
    }

    pub fn to_position(self) -> Position {
        Position(serde_json::to_value(self).expect("numbers only"))
    }
}

/// An open file, from its beginning.
pub struct Opened {
    pub input: Box<dyn Read + Send>,
    pub facts: FileFacts,
    pub position: FilePosition,
}

/// Why a file cannot be read, with its name.
pub fn failed(path: &Path, e: std::io::Error) -> Error {
    let advice = match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Some("the compressed file is cut off"),
        std::io::ErrorKind::InvalidInput if e.to_string().contains("header") => {
            Some("it is not compressed as its name says: 'compression' = 'none' reads it as it is")
        }
        std::io::ErrorKind::PermissionDenied => Some("this user may not read it"),
        _ => None,
    };
    let cut_off = e.kind() == std::io::ErrorKind::UnexpectedEof;
    let e = Error::from(e).context(format!("{} cannot be read", path.display()));
    advice.into_iter().fold(if cut_off { e.permanent() } else { e }, Error::note)
}

/// Opens a file to be read on at `position`: with `from_start` the input stands at its beginning (the header must be
/// read first), else at the position.
///
/// # Errors
/// The file is not the one that was read before: permanent.
pub fn open(path: &Path, position: FilePosition, compression: Compression, from_start: bool) -> Result<Opened> {
    let fail = |e| failed(path, e);
    let mut file = File::open(path).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    let size = meta.len();
    if size < position.head_bytes || (compression == Compression::None && size < position.bytes) {
        let before = position.bytes.max(position.head_bytes);
        return Err(changed(path, &format!("has {size} bytes, but {before} were read of it before")));
    }
    let mut head = vec![];
    (&mut file).take(HEAD_BYTES_MAX).read_to_end(&mut head).map_err(fail)?;
    let known = usize::try_from(position.head_bytes).unwrap_or(usize::MAX);
    if head.len() < known || crc32fast::hash(&head[..known]) != position.head_crc {
        return Err(changed(path, "begins with other bytes than when it was read before"));
    }
    let position = FilePosition { head_bytes: head.len() as u64, head_crc: crc32fast::hash(&head), ..position };
    let seek_to = if compression == Compression::None && !from_start { position.bytes } else { 0 };
    file.seek(SeekFrom::Start(seek_to)).map_err(fail)?;
    let mut input = compression.reader(file)?;
    if compression != Compression::None && !from_start {
        skip(input.as_mut(), position.bytes, path)?;
    }
    let modified = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let facts = FileFacts {
        path: std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)).to_string_lossy().into_owned(),
        name: path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        size: size as i64,
        modified_ms: modified.map_or(0, |d| d.as_millis() as i64),
    };
    Ok(Opened { input, facts, position })
}

/// Passes over bytes that were read before.
pub fn skip(input: &mut (dyn Read + Send), bytes: u64, path: &Path) -> Result<()> {
    let skipped =
        std::io::copy(&mut input.take(bytes), &mut std::io::sink()).map_err(|e| failed(path, e).permanent())?;
    if skipped < bytes {
        return Err(changed(path, &format!("holds {skipped} bytes, but {bytes} were read of it before")));
    }
    Ok(())
}

fn changed(path: &Path, how: &str) -> Error {
    Error::checkpoint(format!("{} {how}: it is not the same file any more", path.display()))
        .note("put the file back as it was, or begin anew with --fresh; files may only grow at their end")
}
