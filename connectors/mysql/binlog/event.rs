//! Events: header, checksum, and a borrowed view of what an event says.

use std::fmt;

use thalweg_core::{Error, Result};

use super::bytes::{Bytes, damaged};
use super::payload::Payload;
use super::rows_event::{RowsEvent, RowsKind};
use super::table_map::TableMap;
use crate::gtid::{Gtid, GtidSet, Tsid, Uuid};

/// Bytes of the header that all events share.
pub const HEADER_BYTES: usize = 19;
/// Bytes of the checksum at the end of an event.
pub const CHECKSUM_BYTES: usize = 4;
/// Header flag of an event that a reader who does not know it may skip.
const FLAG_IGNORABLE: u16 = 0x80;

/// Event type numbers, as the server's `Log_event_type` has them.
pub mod code {
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const APPEND_BLOCK: u8 = 9;
    pub const DELETE_FILE: u8 = 11;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD_QUERY: u8 = 17;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_ROWS_V1: u8 = 23;
    pub const UPDATE_ROWS_V1: u8 = 24;
    pub const DELETE_ROWS_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE_ROWS: u8 = 30;
    pub const UPDATE_ROWS: u8 = 31;
    pub const DELETE_ROWS: u8 = 32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const TRANSACTION_CONTEXT: u8 = 36;
    pub const VIEW_CHANGE: u8 = 37;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const GTID_TAGGED: u8 = 42;
}

/// Whether events end with a checksum: what the last FORMAT_DESCRIPTION event said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksums {
    /// No FORMAT_DESCRIPTION event was seen: the ROTATE event that the server makes up at the begin of a stream comes
    /// before it. A checksum is taken as one if it fits.
    #[default]
    Unknown,
    /// Also events within a transaction payload, which have none in any case.
    Off,
    Crc32,
}

/// The header of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970 when the statement began; 0 in events that the server made up for the stream.
    pub timestamp: u32,
    /// One of `code`, or one that we do not know.
    pub code: u8,
    pub server_id: u32,
    /// Bytes of the whole event, header and checksum included.
    pub size: u32,
    /// Low 32 bits of the position behind the event in its file; 0 for events made up for the stream and for those
    /// within a transaction payload.
    pub log_pos: u32,
    pub flags: u16,
}

impl Header {
    /// The event is not in the log: the server made it up for this stream (`LOG_EVENT_ARTIFICIAL_F`).
    pub fn is_artificial(&self) -> bool {
        self.flags & 0x20 != 0
    }

    /// Reads the header of an event of which at least `HEADER_BYTES` are there.
    pub fn parse(bytes: &[u8]) -> Result<Header> {
        let mut bytes = Bytes::new(bytes, 0);
        Ok(Header {
            timestamp: bytes.u32()?,
            code: bytes.u8()?,
            server_id: bytes.u32()?,
            size: bytes.u32()?,
            log_pos: bytes.u32()?,
            flags: bytes.u16()?,
        })
    }
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    pub header: Header,
    pub data: EventData<'a>,
}

/// What an event says. Bytes are given where the server promises no encoding.
#[derive(Debug, Clone)]
pub enum EventData<'a> {
    FormatDescription(FormatDescription<'a>),
    Rotate {
        /// Where in the next file the stream goes on.
        position: u64,
        /// The next file, `binlog.000042`.
        file: &'a str,
    },
    Gtid(GtidEvent),
    Query(Query<'a>),
    /// The commit of a transaction, with its number within the server.
    Xid(u64),
    TableMap(TableMap<'a>),
    Rows(RowsEvent<'a>),
    /// An update that holds only a part of a JSON document (`binlog_row_value_options = PARTIAL_JSON`).
    PartialUpdateRows {
        table_id: u64,
    },
    TransactionPayload(Payload<'a>),
    XaPrepare(XaPrepare<'a>),
    Heartbeat {
        file: &'a str,
        /// Where the server stands in the file; 64 bits since MySQL 8.0.26.
        position: u64,
    },
    /// The server says that its log lacks something.
    Incident {
        number: u16,
        message: &'a [u8],
    },
    /// The text of the statement that the following rows come from.
    RowsQuery(&'a [u8]),
    PreviousGtids(GtidSet),
    /// The server was shut down; the next file follows.
    Stop,
    /// `LOAD DATA` in statement format.
    ExecuteLoadQuery,
    /// Nothing that matters to readers of rows: values of variables for statements, blocks of loaded files, group
    /// replication's views, what is marked as ignorable.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatDescription<'a> {
    pub server_version: &'a str,
    /// What the events behind this one end with; hand it to their `parse`.
    pub checksums: Checksums,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GtidEvent {
    /// `None`: the transaction has none (`gtid_mode` is off).
    pub gtid: Option<Gtid>,
    /// Microseconds since 1970 of the commit on the server that executed the transaction first; 0: not given.
    pub original_commit_us: u64,
    /// The same for the server that this log is of.
    pub immediate_commit_us: u64,
    /// Bytes of the transaction's events in the log, this one included; 0: not given.
    pub transaction_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    pub thread_id: u32,
    /// The error that the statement ended with on the server; 0: none.
    pub error: u16,
    /// The default database of the session; not checked to be UTF-8.
    pub database: &'a [u8],
    /// The statement, in the session's character set.
    pub text: &'a [u8],
    /// The session's `sql_mode`, which decides what quotes mean.
    pub sql_mode: u64,
    /// Collation number of the session's `character_set_client`; 0: not given.
    pub client_collation: u16,
    /// The event was written by `CREATE TABLE … SELECT` or the like and its transaction goes on (`DDL_XID` given).
    pub ddl_xid: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XaPrepare<'a> {
    /// `XA COMMIT … ONE PHASE`: a commit. Otherwise the rows before it are not visible until the `XA COMMIT`, which
    /// comes as a query event in a transaction of its own.
    pub one_phase: bool,
    pub format_id: u32,
    pub gtrid: &'a [u8],
    pub bqual: &'a [u8],
}

/// As `XA RECOVER CONVERT XID` and the log print it: `X'6162',X'',1`.
impl fmt::Display for XaPrepare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
        write!(f, "X'{}',X'{}',{}", hex(self.gtrid), hex(self.bqual), self.format_id)
    }
}

impl<'a> Event<'a> {
    /// Reads one whole event. `checksums` is what the last FORMAT_DESCRIPTION event said.
    ///
    /// # Errors
    /// Bytes that are not such an event, a checksum that does not fit, an event of a kind that we do not know and that
    /// is not marked as ignorable.
    pub fn parse(bytes: &'a [u8], checksums: Checksums) -> Result<Event<'a>> {
        let header = Header::parse(bytes)?;
        if header.size as usize != bytes.len() {
            return Err(damaged(format!("its header says {} bytes, there are {}", header.size, bytes.len())));
        }
        let body = body_of(&header, bytes, checksums)?;
        let data = EventData::parse(&header, Bytes::new(body, HEADER_BYTES));
        data.map(|data| Event { header, data }).map_err(|e| e.note(format!("event type {}", header.code)))
    }
}

/// What is between header and checksum.
fn body_of<'a>(header: &Header, bytes: &'a [u8], checksums: Checksums) -> Result<&'a [u8]> {
    let (head, body) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| damaged("shorter than a header"))?;
    let Some((body, stored)) = body.split_last_chunk::<CHECKSUM_BYTES>() else {
        // Too short for a checksum.
        return match checksums {
            Checksums::Crc32 => Err(damaged("shorter than its checksum")),
            _ if header.code == code::FORMAT_DESCRIPTION => Err(damaged("shorter than its checksum")),
            _ => Ok(body),
        };
    };
    let matches = || {
        let mut crc = crc32fast::Hasher::new();
        if header.code == code::FORMAT_DESCRIPTION {
            // Computed as if the file were not in use, which is written into the event later.
            let mut head = <[u8; HEADER_BYTES]>::try_from(head).expect("split at this length");
            head[17] &= !1;
            crc.update(&head);
        } else {
            crc.update(head);
        }
        crc.update(body);
        crc.finalize() == u32::from_le_bytes(*stored)
    };
    match checksums {
        // A FORMAT_DESCRIPTION event has room for a checksum in any case; its last byte before says if it is one.
        _ if header.code == code::FORMAT_DESCRIPTION => match body.last() {
            Some(1) if !matches() => Err(wrong_checksum(header)),
            _ => Ok(body),
        },
        Checksums::Crc32 if matches() => Ok(body),
        Checksums::Crc32 => Err(wrong_checksum(header)),
        Checksums::Unknown if matches() => Ok(body),
        Checksums::Unknown | Checksums::Off => Ok(&bytes[HEADER_BYTES..]),
    }
}

#[cold]
fn wrong_checksum(header: &Header) -> Error {
    let what = format!("the checksum of its {} bytes (type {}) does not fit", header.size, header.code);
    damaged(what).note("the log is damaged on the server's disk, or the bytes were changed on their way")
}

impl<'a> EventData<'a> {
    fn parse(header: &Header, mut body: Bytes<'a>) -> Result<EventData<'a>> {
        Ok(match header.code {
            code::FORMAT_DESCRIPTION => EventData::FormatDescription(format_description(body)?),
            code::ROTATE => EventData::Rotate { position: body.u64()?, file: text(body.rest(), "file name")? },
            code::GTID | code::ANONYMOUS_GTID => EventData::Gtid(gtid(header, body)?),
            code::GTID_TAGGED => EventData::Gtid(tagged_gtid(body)?),
            code::QUERY => EventData::Query(query(body)?),
            code::XID => EventData::Xid(body.u64()?),
            code::TABLE_MAP => EventData::TableMap(TableMap::parse(body)?),
            code::WRITE_ROWS => EventData::Rows(RowsEvent::parse(RowsKind::Insert, 2, body)?),
            code::UPDATE_ROWS => EventData::Rows(RowsEvent::parse(RowsKind::Update, 2, body)?),
            code::DELETE_ROWS => EventData::Rows(RowsEvent::parse(RowsKind::Delete, 2, body)?),
            code::WRITE_ROWS_V1 => EventData::Rows(RowsEvent::parse(RowsKind::Insert, 1, body)?),
            code::UPDATE_ROWS_V1 => EventData::Rows(RowsEvent::parse(RowsKind::Update, 1, body)?),
            code::DELETE_ROWS_V1 => EventData::Rows(RowsEvent::parse(RowsKind::Delete, 1, body)?),
            code::PARTIAL_UPDATE_ROWS => EventData::PartialUpdateRows { table_id: body.u48()? },
            code::TRANSACTION_PAYLOAD => EventData::TransactionPayload(Payload::parse(body)?),
            code::XA_PREPARE => EventData::XaPrepare(xa_prepare(body)?),
            code::HEARTBEAT => {
                EventData::Heartbeat { file: text(body.rest(), "file name")?, position: u64::from(header.log_pos) }
            }
            code::HEARTBEAT_V2 => heartbeat(header, body)?,
            code::INCIDENT => {
                let number = body.u16()?;
                let length = body.u8()?;
                EventData::Incident { number, message: body.take(usize::from(length))? }
            }
            code::ROWS_QUERY => {
                // The one byte of length is what fits of it; the text goes to the end.
                body.u8()?;
                EventData::RowsQuery(body.rest())
            }
            code::PREVIOUS_GTIDS => EventData::PreviousGtids(GtidSet::from_bytes(body.rest())?),
            code::STOP => EventData::Stop,
            code::EXECUTE_LOAD_QUERY => EventData::ExecuteLoadQuery,
            code::INTVAR
            | code::RAND
            | code::USER_VAR
            | code::APPEND_BLOCK
            | code::DELETE_FILE
            | code::BEGIN_LOAD_QUERY
            | code::IGNORABLE
            | code::TRANSACTION_CONTEXT
            | code::VIEW_CHANGE => EventData::Other,
            _ if header.flags & FLAG_IGNORABLE != 0 => EventData::Other,
            code => {
                return Err(Error::unsupported(format!("the binlog holds an event of type {code}, which is unknown"))
                    .note("it is not marked as one that may be skipped, and skipping it could lose rows"));
            }
        })
    }
}

fn text<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| damaged(format!("its {what} is not text")))
}

fn format_description(mut body: Bytes<'_>) -> Result<FormatDescription<'_>> {
    let version = body.u16()?;
    if version != 4 {
        return Err(Error::unsupported(format!("the binlog has format version {version}, not 4")));
    }
    let server_version = body.take(50)?;
    let end = server_version.iter().position(|b| *b == 0).unwrap_or(50);
    let server_version = text(&server_version[..end], "server version")?;
    body.u32()?;
    if usize::from(body.u8()?) != HEADER_BYTES {
        return Err(Error::unsupported("the binlog's events have headers of another length than 19 bytes"));
    }
    // Lengths of fixed parts, one byte per event type from 1, then the byte that says how checksums are made.
    let checksums = match body.rest().last() {
        Some(0) => Checksums::Off,
        Some(1) => Checksums::Crc32,
        other => return Err(Error::unsupported(format!("the binlog has checksums of an unknown kind ({other:?})"))),
    };
    Ok(FormatDescription { server_version, checksums })
}

fn gtid(header: &Header, mut body: Bytes<'_>) -> Result<GtidEvent> {
    body.u8()?;
    let uuid = Uuid(body.take(16)?.try_into().expect("16 bytes were taken"));
    let number = body.u64()?;
    let gtid = (header.code == code::GTID).then(|| checked_gtid(uuid, String::new(), number)).transpose()?;
    let mut event = GtidEvent { gtid, original_commit_us: 0, immediate_commit_us: 0, transaction_bytes: 0 };
    if body.is_empty() || body.u8()? != 2 {
        return Ok(event);
    }
    body.u64()?;
    body.u64()?;
    if !body.is_empty() {
        const ORIGINAL_FOLLOWS: u64 = 1 << 55;
        let time = body.u56()?;
        event.immediate_commit_us = time & !ORIGINAL_FOLLOWS;
        event.original_commit_us = if time & ORIGINAL_FOLLOWS != 0 { body.u56()? } else { time };
    }
    if !body.is_empty() {
        event.transaction_bytes = body.packed()?;
    }
    Ok(event)
}

fn checked_gtid(uuid: Uuid, tag: String, number: u64) -> Result<Gtid> {
    match number {
        1..crate::gtid::GTID_NUMBER_END => Ok(Gtid { tsid: Tsid { uuid, tag }, number }),
        _ => Err(damaged(format!("{number} is not the number of a GTID"))),
    }
}

/// A message of MySQL's serialization library: format version, bytes, the last field that may not be ignored, then
/// fields as (number, value) in rising order.
fn tagged_gtid(mut body: Bytes<'_>) -> Result<GtidEvent> {
    const LAST_KNOWN_FIELD: u64 = 11;
    let version = body.varlen()?;
    body.varlen()?;
    let last_not_ignorable = body.varlen()?;
    // The version is written as 1, which as a varlen is the byte 2.
    if version != 1 || last_not_ignorable > LAST_KNOWN_FIELD + 1 {
        return Err(Error::unsupported(format!("a tagged GTID event of format {version} ({last_not_ignorable})")));
    }
    let (mut uuid, mut number, mut tag) = ([0; 16], 0, String::new());
    let (mut immediate, mut original, mut transaction_bytes) = (0, None, 0);
    while !body.is_empty() {
        match body.varlen()? {
            1 => {
                for byte in &mut uuid {
                    *byte = u8::try_from(body.varlen()?).map_err(|_| damaged("a UUID's byte is above 255"))?;
                }
            }
            2 => number = u64::try_from(body.varlen_signed()?).map_err(|_| damaged("a GTID's number is negative"))?,
            3 => {
                let length = body.varlen()?;
                let bytes = body.take(usize::try_from(length).unwrap_or(usize::MAX))?;
                text(bytes, "tag")?.clone_into(&mut tag);
            }
            6 => immediate = body.varlen()?,
            7 => original = Some(body.varlen()?),
            8 => transaction_bytes = body.varlen()?,
            // Flags, server versions and the commit group's ticket.
            0 | 9 | 10 | 11 => drop(body.varlen()?),
            // The logical clock of parallel replicas.
            4 | 5 => drop(body.varlen_signed()?),
            // Fields that came later stand behind those that we know.
            _ => break,
        }
    }
    Ok(GtidEvent {
        gtid: Some(checked_gtid(Uuid(uuid), tag, number)?),
        original_commit_us: original.unwrap_or(immediate),
        immediate_commit_us: immediate,
        transaction_bytes,
    })
}

fn query(mut body: Bytes<'_>) -> Result<Query<'_>> {
    let thread_id = body.u32()?;
    body.u32()?;
    let database_length = body.u8()?;
    let error = body.u16()?;
    let variables_length = body.u16()?;
    let offset = body.offset();
    let variables = Bytes::new(body.take(usize::from(variables_length))?, offset);
    let database = body.take(usize::from(database_length))?;
    if body.u8()? != 0 {
        return Err(damaged(format!("no zero behind the database's name, at byte {}", body.offset() - 1)));
    }
    let mut query =
        Query { thread_id, error, database, text: body.rest(), sql_mode: 0, client_collation: 0, ddl_xid: None };
    status_variables(variables, &mut query)?;
    Ok(query)
}

/// The variables come as (number, value) and are to be skipped by number; behind one that is not known nothing can be
/// read, which loses only what comes behind it: `sql_mode` and character sets come first.
fn status_variables(mut variables: Bytes<'_>, query: &mut Query<'_>) -> Result<()> {
    while !variables.is_empty() {
        match variables.u8()? {
            0 => drop(variables.u32()?), // flags2
            1 => query.sql_mode = variables.u64()?,
            2 => {
                // catalog, with a zero behind it
                let length = variables.u8()?;
                variables.take(usize::from(length) + 1)?;
            }
            3 => drop(variables.u32()?), // auto_increment
            4 => {
                query.client_collation = variables.u16()?;
                variables.u32()?;
            }
            5 | 6 => {
                // time zone, catalog
                let length = variables.u8()?;
                variables.take(usize::from(length))?;
            }
            7 | 8 => drop(variables.u16()?), // lc_time_names, character set of the database
            9 => drop(variables.u64()?),     // tables that a multi-table update changes
            10 => drop(variables.u32()?),    // length of the data in an older server's log
            11 => {
                // invoker: user and host
                for _ in 0..2 {
                    let length = variables.u8()?;
                    variables.take(usize::from(length))?;
                }
            }
            12 => {
                // databases that the statement uses, unless there are too many to say
                const TOO_MANY: u8 = 254;
                let count = variables.u8()?;
                if count != TOO_MANY {
                    for _ in 0..count {
                        let rest = variables.rest();
                        let end = rest.iter().position(|b| *b == 0).ok_or_else(|| damaged("a name without an end"))?;
                        variables.take(end + 1)?;
                    }
                }
            }
            13 => drop(variables.u24()?), // microseconds of the timestamp
            14 | 15 => return Ok(()),     // of servers that never were released
            16 => drop(variables.u8()?),  // explicit_defaults_for_timestamp
            17 => query.ddl_xid = Some(variables.u64()?),
            18 => drop(variables.u16()?),     // collation of utf8mb4
            19 | 20 => drop(variables.u8()?), // sql_require_primary_key, table encryption
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn xa_prepare(mut body: Bytes<'_>) -> Result<XaPrepare<'_>> {
    let one_phase = body.u8()? != 0;
    let format_id = body.u32()?;
    let (gtrid_length, bqual_length) = (body.u32()?, body.u32()?);
    let gtrid = body.take(gtrid_length as usize)?;
    let bqual = body.take(bqual_length as usize)?;
    Ok(XaPrepare { one_phase, format_id, gtrid, bqual })
}

/// Fields as (type, length, value): 1 the file's name, 2 the position; type 0 ends them.
fn heartbeat<'a>(header: &Header, mut body: Bytes<'a>) -> Result<EventData<'a>> {
    let (mut file, mut position) = ("", u64::from(header.log_pos));
    while !body.is_empty() {
        let field = body.packed()?;
        if field == 0 {
            break;
        }
        let offset = body.offset();
        let value = body.packed_bytes()?;
        match field {
            1 => file = text(value, "file name")?,
            2 => position = Bytes::new(value, offset).packed()?,
            _ => {}
        }
    }
    Ok(EventData::Heartbeat { file, position })
}
