//! A client of the MySQL protocol, as far as a source needs it: log in, ask, read a table's rows in the binary protocol
//! and the binlog's events as the bytes that they are.
//!
//! A general driver makes a value object per cell, decompresses whole transactions, and hides when the next event is
//! already here; so this speaks for itself.

mod auth;
mod packet;
pub mod tls;

use std::fmt;
use std::time::Duration;

use thalweg_core::secret::Secret;
use tokio::net::TcpStream;

use self::packet::{Io, Packets};
use self::tls::Tls;

/// Whom to connect to, as whom.
#[derive(Clone)]
pub struct Login {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Secret,
}

/// What can go wrong below SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireError {
    /// The network.
    Io(String),
    /// The other side has ended the connection.
    Closed,
    /// Nothing came for so long.
    Silent(Duration),
    Tls(String),
    /// We cannot show who we are in the way that the server wants.
    Login(String),
    /// An error of the server's own.
    Server {
        code: u16,
        message: String,
    },
    /// What was received is not what the protocol allows.
    Protocol(String),
}

impl WireError {
    /// The number of a server's error.
    pub fn code(&self) -> Option<u16> {
        match self {
            WireError::Server { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Io(m) => f.write_str(m),
            WireError::Closed => f.write_str("the server has closed the connection"),
            WireError::Silent(d) => write!(f, "nothing was heard for {:.1} s", d.as_secs_f64()),
            WireError::Tls(m) => write!(f, "TLS: {m}"),
            WireError::Login(m) => f.write_str(m),
            WireError::Server { code, message } => write!(f, "{message} (MySQL error {code})"),
            WireError::Protocol(m) => write!(f, "protocol: {m}"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<std::io::Error> for WireError {
    fn from(e: std::io::Error) -> Self {
        match e.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => WireError::Closed,
            _ => WireError::Io(e.to_string()),
        }
    }
}

type Result<T> = std::result::Result<T, WireError>;

/// A row of the text protocol.
pub type TextRow = Vec<Option<Vec<u8>>>;

/// What the server says of a column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultColumn {
    pub name: String,
    /// `MYSQL_TYPE_…`
    pub type_code: u8,
    pub flags: u16,
    pub charset: u16,
}

mod command {
    pub const QUIT: u8 = 0x01;
    pub const QUERY: u8 = 0x03;
    pub const BINLOG_DUMP: u8 = 0x12;
    pub const REGISTER_REPLICA: u8 = 0x15;
    pub const STMT_PREPARE: u8 = 0x16;
    pub const STMT_EXECUTE: u8 = 0x17;
    pub const STMT_CLOSE: u8 = 0x19;
    pub const BINLOG_DUMP_GTID: u8 = 0x1e;
}

/// Columns of a result at most, as in MySQL.
const COLUMNS_MAX: u64 = 4096;

/// A logged-in connection.
pub struct Conn {
    packets: Packets,
    version: String,
    /// What the last `select` was prepared as; given back before the next command.
    statement: Option<u32>,
}

impl Conn {
    /// Connects and logs in, within `timeout` in all; later answers may be silent for `read_timeout`.
    pub async fn connect(login: &Login, tls: &Tls, timeout: Duration, read_timeout: Duration) -> Result<Self> {
        let connecting = async {
            let tcp = TcpStream::connect((login.host.as_str(), login.port)).await?;
            tcp.set_nodelay(true)?;
            auth::log_in(Packets::new(Io::Tcp(tcp), timeout), login, tls).await
        };
        let (mut packets, version) = match tokio::time::timeout(timeout, connecting).await {
            Ok(connected) => connected?,
            Err(_) => return Err(WireError::Silent(timeout)),
        };
        packets.read_timeout = read_timeout;
        Ok(Conn { packets, version, statement: None })
    }

    /// As the server calls itself: `9.7.4-2`.
    pub fn version(&self) -> &str {
        &self.version
    }

    async fn send(&mut self, command: u8, body: &[u8]) -> Result<()> {
        if command != command::STMT_EXECUTE
            && let Some(statement) = self.statement.take()
        {
            let mut close = vec![command::STMT_CLOSE];
            close.extend_from_slice(&statement.to_le_bytes());
            self.packets.restart_sequence();
            // It has no answer.
            self.packets.write(&close).await?;
        }
        let mut packet = Vec::with_capacity(1 + body.len());
        packet.push(command);
        packet.extend_from_slice(body);
        self.packets.restart_sequence();
        self.packets.write(&packet).await
    }

    /// A statement whose answer is of no interest.
    pub async fn execute(&mut self, sql: &str) -> Result<()> {
        self.query(sql).await.map(|_| ())
    }

    /// All rows of an answer, as text.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        self.send(command::QUERY, sql.as_bytes()).await?;
        self.packets.read().await?;
        let columns = match self.packets.current() {
            [0x00, ..] => return Ok(vec![]),
            p @ [0xff, ..] => return Err(server_error(p, true)),
            [0xfb, ..] => return Err(WireError::Protocol("the server asks for a local file".to_owned())),
            p => column_count(p)?,
        };
        for _ in 0..columns {
            self.packets.read().await?;
        }
        let mut rows = vec![];
        loop {
            self.packets.read().await?;
            let packet = self.packets.current();
            match packet.first() {
                Some(0xff) => return Err(server_error(packet, true)),
                Some(0xfe) if packet.len() < 0xff_ffff => return Ok(rows),
                _ => {}
            }
            let mut c = Cursor::new(packet);
            let mut row = Vec::with_capacity(columns);
            for _ in 0..columns {
                row.push(if c.peek() == Some(0xfb) {
                    c.u8()?;
                    None
                } else {
                    Some(c.lenenc_bytes()?.to_vec())
                });
            }
            rows.push(row);
        }
    }

    /// Runs a SELECT in the binary protocol; its rows are read with `next_row` until there is none.
    pub async fn select(&mut self, sql: &str) -> Result<Vec<ResultColumn>> {
        self.send(command::STMT_PREPARE, sql.as_bytes()).await?;
        self.packets.read().await?;
        let packet = self.packets.current();
        if packet.first() == Some(&0xff) {
            return Err(server_error(packet, true));
        }
        let mut c = Cursor::new(packet);
        c.take(1)?;
        let statement = c.u32()?;
        self.statement = Some(statement);
        let (columns, parameters) = (c.u16()?, c.u16()?);
        for _ in 0..usize::from(columns) + usize::from(parameters) {
            self.packets.read().await?;
        }
        if parameters > 0 {
            return Err(WireError::Protocol("a statement without values asks for some".to_owned()));
        }
        let mut body = statement.to_le_bytes().to_vec();
        body.push(0); // no cursor
        body.extend_from_slice(&1u32.to_le_bytes());
        self.send(command::STMT_EXECUTE, &body).await?;
        self.packets.read().await?;
        let columns = match self.packets.current() {
            [0x00, ..] => 0,
            p @ [0xff, ..] => return Err(server_error(p, true)),
            p => column_count(p)?,
        };
        let mut described = Vec::with_capacity(columns);
        for _ in 0..columns {
            self.packets.read().await?;
            described.push(ResultColumn::parse(self.packets.current())?);
        }
        Ok(described)
    }

    /// The next row of `select`, behind its header byte: null bitmap, then values; `None` at the end.
    pub async fn next_row(&mut self) -> Result<Option<&[u8]>> {
        self.packets.read().await?;
        let packet = self.packets.current();
        match packet {
            [0x00, row @ ..] => Ok(Some(row)),
            [0xfe, ..] => Ok(None),
            [0xff, ..] => Err(server_error(packet, true)),
            _ => Err(WireError::Protocol("what comes in place of a row is none".to_owned())),
        }
    }

    /// Says who reads the binlog; shown by `SHOW REPLICAS`.
    pub async fn register_replica(&mut self, server_id: u32) -> Result<()> {
        let mut body = server_id.to_le_bytes().to_vec();
        let name = b"thalweg";
        body.push(name.len() as u8);
        body.extend_from_slice(name);
        body.extend_from_slice(&[0, 0]); // user, password
        body.extend_from_slice(&[0; 2 + 4 + 4]); // port, rank, source's id
        self.send(command::REGISTER_REPLICA, &body).await?;
        self.packets.read().await?;
        let packet = self.packets.current();
        if packet.first() == Some(&0xff) { Err(server_error(packet, true)) } else { Ok(()) }
    }

    /// Turns the connection into a stream of the events that are not in `gtid_set` (as `GtidSet` encodes it).
    pub async fn dump_from_gtid_set(mut self, server_id: u32, gtid_set: &[u8]) -> Result<EventStream> {
        let mut body = HEARTBEATS_V2.to_le_bytes().to_vec();
        body.extend_from_slice(&server_id.to_le_bytes());
        body.extend_from_slice(&0u32.to_le_bytes()); // the server finds the file
        body.extend_from_slice(&4u64.to_le_bytes());
        body.extend_from_slice(&(gtid_set.len() as u32).to_le_bytes());
        body.extend_from_slice(gtid_set);
        self.send(command::BINLOG_DUMP_GTID, &body).await?;
        Ok(EventStream { packets: self.packets })
    }

    /// Turns the connection into a stream of a file's events from its beginning to the end of the last file.
    pub async fn dump_file(mut self, server_id: u32, file: &str) -> Result<EventStream> {
        let mut body = 4u32.to_le_bytes().to_vec();
        body.extend_from_slice(&NON_BLOCKING.to_le_bytes());
        body.extend_from_slice(&server_id.to_le_bytes());
        body.extend_from_slice(file.as_bytes());
        self.send(command::BINLOG_DUMP, &body).await?;
        Ok(EventStream { packets: self.packets })
    }

    /// Ends in order. A dropped connection ends too; the server then notes it as aborted.
    pub async fn close(mut self) {
        let _ = self.send(command::QUIT, &[]).await;
        self.packets.shutdown().await;
    }
}

/// The stream ends at the end of the last file.
const NON_BLOCKING: u16 = 1;
/// Heartbeats with 64-bit positions.
const HEARTBEATS_V2: u16 = 2;

/// The binlog's events.
pub struct EventStream {
    packets: Packets,
}

impl EventStream {
    /// The next event as it lies in the binlog, header and checksum included; `None` at the end of a file that was
    /// asked for.
    pub async fn next(&mut self) -> Result<Option<&[u8]>> {
        self.packets.read().await?;
        let packet = self.packets.current();
        match packet {
            [0x00, event @ ..] => Ok(Some(event)),
            [0xfe, ..] if packet.len() < 9 => Ok(None),
            [0xff, ..] => Err(server_error(packet, true)),
            _ => Err(WireError::Protocol("what comes in place of an event is none".to_owned())),
        }
    }

    /// Whether the next event is here already.
    pub fn is_ready(&mut self) -> bool {
        self.packets.is_ready()
    }

    /// How long the server may be silent, heartbeats included.
    pub fn set_read_timeout(&mut self, timeout: Duration) {
        self.packets.read_timeout = timeout;
    }
}

impl ResultColumn {
    fn parse(packet: &[u8]) -> Result<Self> {
        let mut c = Cursor::new(packet);
        for _ in 0..4 {
            c.lenenc_bytes()?; // catalog, schema, table's alias and name
        }
        let name = String::from_utf8_lossy(c.lenenc_bytes()?).into_owned();
        c.lenenc_bytes()?;
        c.lenenc()?;
        let charset = c.u16()?;
        c.u32()?;
        let type_code = c.u8()?;
        let flags = c.u16()?;
        Ok(ResultColumn { name, type_code, flags, charset })
    }
}

fn column_count(packet: &[u8]) -> Result<usize> {
    match Cursor::new(packet).lenenc()? {
        n @ 0..=COLUMNS_MAX => Ok(n as usize),
        n => Err(WireError::Protocol(format!("a result of {n} columns"))),
    }
}

/// An error packet; before the login it has no SQL state.
fn server_error(packet: &[u8], with_state: bool) -> WireError {
    let mut c = Cursor::new(packet);
    let parsed = (|| {
        c.take(1)?;
        let code = c.u16()?;
        if with_state && c.peek() == Some(b'#') {
            c.take(6)?;
        }
        Ok::<_, WireError>(WireError::Server { code, message: String::from_utf8_lossy(c.rest()).into_owned() })
    })();
    parsed.unwrap_or_else(|e| e)
}

/// Takes a packet apart; what is missing is an error.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Cursor(bytes)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(n).ok_or_else(|| WireError::Protocol("a packet ends too early".to_owned()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into().expect("two bytes")))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    fn until_nul(&mut self) -> Result<&'a [u8]> {
        let end = self.0.iter().position(|b| *b == 0);
        let end = end.ok_or_else(|| WireError::Protocol("a text in a packet has no end".to_owned()))?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// An integer in one to nine bytes.
    fn lenenc(&mut self) -> Result<u64> {
        Ok(match self.u8()? {
            n @ 0..=0xfa => u64::from(n),
            0xfc => u64::from(self.u16()?),
            0xfd => {
                let b = self.take(3)?;
                u64::from(u32::from_le_bytes([b[0], b[1], b[2], 0]))
            }
            0xfe => self.u64()?,
            _ => return Err(WireError::Protocol("a length in a packet is none".to_owned())),
        })
    }

    fn lenenc_bytes(&mut self) -> Result<&'a [u8]> {
        let n = self.lenenc()?;
        let n = usize::try_from(n).map_err(|_| WireError::Protocol("a length in a packet is too large".to_owned()))?;
        self.take(n)
    }
}
