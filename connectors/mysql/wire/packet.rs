//! Packets of the MySQL protocol over TCP or TLS: read into one buffer and handed out in place, so that a row or an
//! event is parsed where the network put it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::WireError;

/// A packet of this length is followed by another one that belongs to it.
const PACKET_BYTES_MAX: usize = 0xff_ffff;
const HEADER_BYTES: usize = 4;
/// What is read ahead at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// A buffer that had to grow beyond this is given back when it is empty.
const BUFFER_KEPT_BYTES_MAX: usize = 4 << 20;

/// The connection below the packets.
pub enum Io {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Io::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Io::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(s) => Pin::new(s).poll_flush(cx),
            Io::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Io::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// Reads and writes packets.
pub struct Packets {
    io: Io,
    buf: Vec<u8>,
    /// `buf[head .. tail]` was read and not handed out.
    head: usize,
    tail: usize,
    /// Where the packet lies that was handed out last.
    current: Current,
    sequence: u8,
    /// The longest silence within an answer.
    pub read_timeout: Duration,
}

enum Current {
    /// In `buf`.
    Whole(std::ops::Range<usize>),
    /// Joined from several packets.
    Joined(Vec<u8>),
}

impl Packets {
    pub fn new(io: Io, read_timeout: Duration) -> Self {
        Packets {
            io,
            buf: vec![0; BUFFER_BYTES],
            head: 0,
            tail: 0,
            current: Current::Whole(0..0),
            sequence: 0,
            read_timeout,
        }
    }

    /// Takes the bare connection out, to put TLS over it; nothing may have been read ahead.
    pub fn into_tcp(self) -> Result<(TcpStream, u8), WireError> {
        match self.io {
            Io::Tcp(tcp) if self.head == self.tail => Ok((tcp, self.sequence)),
            Io::Tcp(_) => Err(WireError::Protocol("bytes before the TLS handshake".to_owned())),
            Io::Tls(_) => Err(WireError::Protocol("TLS within TLS".to_owned())),
        }
    }

    /// Goes on counting where the bare connection stopped.
    pub fn with_sequence(mut self, sequence: u8) -> Self {
        self.sequence = sequence;
        self
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self.io, Io::Tls(_))
    }

    /// A new command begins.
    pub fn restart_sequence(&mut self) {
        self.sequence = 0;
    }

    /// The packet that was read last.
    pub fn current(&self) -> &[u8] {
        match &self.current {
            Current::Whole(range) => &self.buf[range.clone()],
            Current::Joined(bytes) => bytes,
        }
    }

    /// Reads the next packet, which is then `current`.
    pub async fn read(&mut self) -> Result<(), WireError> {
        let first = self.read_part().await?;
        if first.len() < PACKET_BYTES_MAX {
            self.current = Current::Whole(first);
            return Ok(());
        }
        let mut joined = self.buf[first].to_vec();
        loop {
            let part = self.read_part().await?;
            joined.extend_from_slice(&self.buf[part.clone()]);
            if part.len() < PACKET_BYTES_MAX {
                self.current = Current::Joined(joined);
                return Ok(());
            }
        }
    }

    /// Whether the next packet can be read without waiting.
    pub fn is_ready(&mut self) -> bool {
        loop {
            let there = self.tail - self.head;
            let need = match self.header() {
                Some(length) => HEADER_BYTES + length,
                None => HEADER_BYTES,
            };
            // A packet that goes on in another one counts as there: it will not be long.
            if there >= need && there >= HEADER_BYTES {
                return true;
            }
            self.make_room(need);
            match self.io.read(&mut self.buf[self.tail..]).now_or_never() {
                Some(Ok(n @ 1..)) => self.tail += n,
                // The next read meets the same.
                Some(_) => return true,
                None => return false,
            }
        }
    }

    fn header(&self) -> Option<usize> {
        let header = self.buf[self.head..self.tail].first_chunk::<HEADER_BYTES>()?;
        Some(u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize)
    }

    async fn read_part(&mut self) -> Result<std::ops::Range<usize>, WireError> {
        self.current = Current::Whole(0..0);
        self.fill(HEADER_BYTES).await?;
        let length = self.header().expect("filled");
        let sequence = self.buf[self.head + 3];
        if sequence != self.sequence {
            return Err(WireError::Protocol(format!("packet {sequence} where packet {} was expected", self.sequence)));
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.fill(HEADER_BYTES + length).await?;
        let start = self.head + HEADER_BYTES;
        self.head = start + length;
        Ok(start..start + length)
    }

    /// Has at least `bytes` behind `head`.
    async fn fill(&mut self, bytes: usize) -> Result<(), WireError> {
        while self.tail - self.head < bytes {
            self.make_room(bytes);
            let read = self.io.read(&mut self.buf[self.tail..]);
            let n = match tokio::time::timeout(self.read_timeout, read).await {
                Ok(n) => n?,
                Err(_) => return Err(WireError::Silent(self.read_timeout)),
            };
            if n == 0 {
                return Err(WireError::Closed);
            }
            self.tail += n;
        }
        Ok(())
    }

    fn make_room(&mut self, bytes: usize) {
        if self.head == self.tail {
            (self.head, self.tail) = (0, 0);
            if self.buf.len() > BUFFER_KEPT_BYTES_MAX && bytes <= BUFFER_BYTES {
                self.buf = vec![0; BUFFER_BYTES];
            }
        }
        if self.head + bytes > self.buf.len() || self.tail == self.buf.len() {
            self.buf.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
            if self.buf.len() < bytes || self.tail == self.buf.len() {
                let grown = bytes.max(self.buf.len() * 2);
                self.buf.resize(grown, 0);
            }
        }
    }

    /// Writes one command or answer, in as many packets as it needs.
    pub async fn write(&mut self, payload: &[u8]) -> Result<(), WireError> {
        let mut rest = payload;
        loop {
            let part = &rest[..rest.len().min(PACKET_BYTES_MAX)];
            rest = &rest[part.len()..];
            let mut out = Vec::with_capacity(HEADER_BYTES + part.len());
            out.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
            out.push(self.sequence);
            out.extend_from_slice(part);
            self.sequence = self.sequence.wrapping_add(1);
            let written = async {
                self.io.write_all(&out).await?;
                self.io.flush().await
            };
            match tokio::time::timeout(self.read_timeout, written).await {
                Ok(done) => done?,
                Err(_) => return Err(WireError::Silent(self.read_timeout)),
            }
            if part.len() < PACKET_BYTES_MAX {
                return Ok(());
            }
        }
    }

    pub async fn shutdown(&mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.io.shutdown()).await;
    }
}
