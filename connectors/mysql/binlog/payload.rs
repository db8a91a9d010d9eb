//! Transaction payloads: the compressed events of one transaction (`binlog_transaction_compression`), read one by one
//! and never decompressed whole.

use std::io::{self, BufReader, Cursor, Read};

use thalweg_core::{Error, Result};

use super::bytes::{Bytes, damaged};
use super::event::{HEADER_BYTES, Header};

/// Bytes of one event within a payload at most: MySQL's own limit (`max_allowed_packet` is 1 GiB at most).
const INNER_EVENT_BYTES_MAX: usize = 1 << 30;
/// Base-2 logarithm of the window that zstd may ask for: 128 MiB, what its highest ordinary level uses.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Bytes that are decompressed ahead.
const READ_BYTES: usize = 64 << 10;

/// What a TRANSACTION_PAYLOAD event holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<'a> {
    pub compression: Compression,
    /// As the event says; 0: it does not.
    pub uncompressed_bytes: u64,
    pub bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Zstd,
    None,
}

impl<'a> Payload<'a> {
    /// Fields as (type, length, value): 1 payload size, 2 compression, 3 uncompressed size; type 0 ends them and the
    /// payload follows.
    pub(super) fn parse(mut body: Bytes<'a>) -> Result<Self> {
        let (mut size, mut compression, mut uncompressed_bytes) = (None, None, 0);
        loop {
            let field = body.packed()?;
            if field == 0 {
                break;
            }
            let offset = body.offset();
            let mut value = Bytes::new(body.packed_bytes()?, offset);
            match field {
                1 => size = Some(value.packed()?),
                2 => compression = Some(value.packed()?),
                3 => uncompressed_bytes = value.packed()?,
                _ => {}
            }
        }
        let bytes = body.rest();
        if size.is_some_and(|s| s != bytes.len() as u64) {
            let size = size.unwrap_or_default();
            return Err(damaged(format!("its payload is to have {size} bytes and has {}", bytes.len())));
        }
        let compression = match compression {
            Some(0) => Compression::Zstd,
            Some(255) => Compression::None,
            other => return Err(Error::unsupported(format!("a transaction compressed in an unknown way ({other:?})"))),
        };
        Ok(Payload { compression, uncompressed_bytes, bytes })
    }
}

/// Gives the events of a payload one after another. Owns its bytes, so that it can be kept while others wait.
pub struct PayloadReader {
    source: Source,
    /// Bytes given so far, and the most that may come.
    taken: u64,
    limit: u64,
    event: Vec<u8>,
}

enum Source {
    Zstd(Box<BufReader<zstd::Decoder<'static, Cursor<bytes::Bytes>>>>),
    Plain(Cursor<bytes::Bytes>),
}

impl PayloadReader {
    /// Reads the payload, of which `bytes` is a copy that can be kept (or, cheaper, a slice of the event's `Bytes`).
    pub fn new(payload: &Payload<'_>, bytes: bytes::Bytes) -> Result<Self> {
        debug_assert_eq!(bytes.len(), payload.bytes.len());
        let source = match payload.compression {
            Compression::None => Source::Plain(Cursor::new(bytes)),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(Cursor::new(bytes)).map_err(failed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(failed)?;
                Source::Zstd(Box::new(BufReader::with_capacity(READ_BYTES, decoder)))
            }
        };
        let limit = match payload.uncompressed_bytes {
            0 => u64::MAX,
            n => n,
        };
        Ok(PayloadReader { source, taken: 0, limit, event: vec![] })
    }

    /// The next event, whole, without checksum (parse it with `Checksums::Off`); `None` behind the last.
    pub fn next_event(&mut self) -> Result<Option<&[u8]>> {
        self.event.clear();
        let head = self.source.read(HEADER_BYTES, &mut self.event).map_err(failed)?;
        if head == 0 {
            return match self.limit {
                u64::MAX => Ok(None),
                limit if limit == self.taken => Ok(None),
                limit => Err(damaged(format!("{} of {limit} bytes of the transaction are there", self.taken))),
            };
        }
        if head < HEADER_BYTES {
            return Err(damaged(format!("the transaction ends within an event's header, at byte {}", self.taken)));
        }
        let size = Header::parse(&self.event)?.size as usize;
        let left = usize::try_from(self.limit - self.taken).unwrap_or(usize::MAX);
        if size < HEADER_BYTES || size > INNER_EVENT_BYTES_MAX.min(left) {
            return Err(damaged(format!("an event of {size} bytes at byte {} of the transaction", self.taken)));
        }
        let body = self.source.read(size - HEADER_BYTES, &mut self.event).map_err(failed)?;
        if body < size - HEADER_BYTES {
            return Err(damaged(format!("the transaction ends within an event, at byte {}", self.taken)));
        }
        self.taken += size as u64;
        Ok(Some(&self.event))
    }
}

impl Source {
    /// Appends up to `n` bytes; fewer only at the end. Memory grows with what is there, not with what is announced.
    fn read(&mut self, n: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Source::Zstd(reader) => reader.by_ref().take(n as u64).read_to_end(out),
            Source::Plain(reader) => reader.by_ref().take(n as u64).read_to_end(out),
        }
    }
}

#[cold]
fn failed(e: io::Error) -> Error {
    damaged(format!("the compressed transaction cannot be read ({e})"))
}
