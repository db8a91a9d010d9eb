//! The stream of a server's binlog: opened behind a set of transactions, given event by event with the place in the log
//! behind each.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thalweg_core::error::ErrorCode;
use thalweg_core::mark::JobId;
use thalweg_core::{Error, Result};

use crate::binlog::event::{Checksums, Event, EventData, Header, code};
use crate::check::replica_numbers;
use crate::gtid::GtidSet;
use crate::server::{self, LogPosition, Server, ServerState};
use crate::wire::{Conn, EventStream, WireError};

/// Heartbeats that may be missed before a connection counts as lost.
const HEARTBEATS_MISSED_MAX: u32 = 3;
/// How often a replica that lags is asked again.
const LAG_POLL: Duration = Duration::from_millis(200);

/// Who reads: one number per running reader, and one UUID per job and source, by which the server knows a reader's own
/// dead connection from another's living one.
///
/// This is the number, in use in this process; free again when it is dropped.
pub struct ServerId {
    address: String,
    pub number: u32,
}

static TAKEN: Mutex<Option<HashSet<(String, u32)>>> = Mutex::new(None);

impl ServerId {
    /// The first number of the range, from a place of its own for each reader on, that nobody else has.
    async fn take(server: &Server, conn: &mut Conn, state: &ServerState, uuid: &str) -> Result<Self> {
        let (low, high) = server.options.server_ids;
        let registered = replica_numbers(conn).await;
        let address = server.address();
        let count = u64::from(high - low) + 1;
        let first = uuid.bytes().fold(0u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)) % count;
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = taken.get_or_insert_default();
        for i in 0..count {
            let number = low + ((first + i) % count) as u32;
            let is_other = |(id, other): &(u32, String)| *id == number && !other.eq_ignore_ascii_case(uuid);
            if number == state.server_id || registered.iter().any(is_other) {
                continue;
            }
            if taken.insert((address.clone(), number)) {
                return Ok(ServerId { address, number });
            }
        }
        let range = if low == high { low.to_string() } else { format!("{low}-{high}") };
        Err(Error::new(
            ErrorCode::Ownership,
            format!(
                "MySQL {address}: every number of 'server-id' = '{range}' is taken by the server or another replica"
            ),
        )
        .note("SHOW REPLICAS lists them; give this table's 'server-id' a number, or a range, that nobody else has"))
    }
}

impl Drop for ServerId {
    fn drop(&mut self) {
        if let Some(taken) = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            taken.remove(&(std::mem::take(&mut self.address), self.number));
        }
    }
}

/// A UUID that is always the same for a job's source, and no other's.
pub fn replica_uuid(job: &JobId, source: &str) -> String {
    let mut bytes = [0u8; 16];
    for (i, byte) in bytes.iter_mut().enumerate() {
        // FNV-1a, once per byte with another beginning.
        let text = job.0.bytes().chain([0, i as u8]).chain(source.bytes());
        let hash = text.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        *byte = (hash ^ (hash >> 32)).to_le_bytes()[1];
    }
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// An open stream.
pub struct BinlogStream {
    events: EventStream,
    checksums: Checksums,
    /// The server that the stream comes from.
    pub server_uuid: String,
    /// Behind the last event; within a file never ahead of what was read.
    at: LogPosition,
}

/// An event, and the place behind it.
pub struct Next<'a> {
    pub event: Event<'a>,
    pub at: &'a LogPosition,
}

impl BinlogStream {
    /// Opens the stream of what is not in `from`; `seen`: with the transactions of which a part was read.
    ///
    /// # Errors
    /// The server lacks transactions that were read (it is waited for, within the connect time-out), or has purged some
    /// that are not in `from`.
    pub async fn open(
        server: &Server,
        server_id: &mut Option<ServerId>,
        uuid: &str,
        from: &GtidSet,
        seen: &GtidSet,
    ) -> Result<Self> {
        let mut conn = server.connect().await?;
        let state = caught_up(server, &mut conn, seen).await?;
        let gone = state.purged.subtract(from);
        if !gone.is_empty() {
            return Err(purged(server, &gone.to_string()));
        }
        let number = match server_id {
            Some(taken) => taken.number,
            None => server_id.insert(ServerId::take(server, &mut conn, &state, uuid).await?).number,
        };
        introduce(server, &mut conn, uuid, number).await?;
        let opened = conn.dump_from_gtid_set(number, &from.to_bytes()).await;
        let mut events = opened.map_err(|e| server.failed("reading the binlog", e))?;
        events.set_read_timeout(server.options.heartbeat_interval * HEARTBEATS_MISSED_MAX);
        Ok(BinlogStream { events, checksums: Checksums::Unknown, server_uuid: state.uuid, at: LogPosition::default() })
    }

    /// Where the stream stands.
    pub fn at(&self) -> &LogPosition {
        &self.at
    }

    /// Whether the next event is here already.
    pub fn is_ready(&mut self) -> bool {
        self.events.is_ready()
    }

    /// The next event. Its bytes stay until the next call.
    pub async fn next(&mut self, server: &Server) -> Result<Next<'_>> {
        let bytes = match self.events.next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(server.failed("reading the binlog", WireError::Closed)),
            Err(e) => return Err(stream_failed(server, e)),
        };
        let at = &mut self.at;
        let event = Event::parse(bytes, self.checksums)
            .map_err(|e| e.context(format!("MySQL {}: the event behind {at} of the binlog", server.address())))?;
        match &event.data {
            EventData::FormatDescription(f) => self.checksums = f.checksums,
            EventData::Rotate { position, file } => {
                *at = LogPosition { file: (*file).to_owned(), pos: *position };
            }
            EventData::Heartbeat { file, position } if !file.is_empty() => move_to(at, file, *position),
            _ => {}
        }
        if !matches!(event.data, EventData::Rotate { .. } | EventData::Heartbeat { .. }) {
            advance(at, &event.header);
        }
        Ok(Next { event, at })
    }
}

/// Behind an event. Headers hold the low 32 bits only: with the event's size they tell the rest, unless the server has
/// left out events; then the position is taken as the least that it can be.
fn advance(at: &mut LogPosition, header: &Header) {
    if header.log_pos == 0 || header.is_artificial() {
        return;
    }
    let next = at.pos + u64::from(header.size);
    at.pos = if next as u32 == header.log_pos { next } else { not_below(at.pos, header.log_pos) };
}

/// The least position from `pos` on whose low 32 bits are `low`.
fn not_below(pos: u64, low: u32) -> u64 {
    let candidate = (pos & !u64::from(u32::MAX)) | u64::from(low);
    if candidate < pos { candidate + (1 << 32) } else { candidate }
}

/// A heartbeat: of older servers with 32 bits of its position.
fn move_to(at: &mut LogPosition, file: &str, position: u64) {
    if at.file != file {
        *at = LogPosition { file: file.to_owned(), pos: position };
    } else if position > u64::from(u32::MAX) || position >= at.pos {
        at.pos = at.pos.max(position);
    } else {
        at.pos = not_below(at.pos, position as u32);
    }
}

/// Tells the server how we want to be treated, and registers.
async fn introduce(server: &Server, conn: &mut Conn, uuid: &str, server_id: u32) -> Result<()> {
    let heartbeat = server.options.heartbeat_interval.as_nanos();
    // Both names of each: servers before 8.0.26 know the older one only.
    let settings = format!(
        "SET @source_heartbeat_period = {heartbeat}, @master_heartbeat_period = {heartbeat}, \
         @source_binlog_checksum = @@GLOBAL.binlog_checksum, @master_binlog_checksum = @@GLOBAL.binlog_checksum, \
         @replica_uuid = '{uuid}', @slave_uuid = '{uuid}'"
    );
    conn.execute(&settings).await.map_err(|e| server.failed("setting up the binlog's stream", e))?;
    conn.register_replica(server_id).await.map_err(|e| server.failed("registering as a replica", e))
}

/// What the server says of itself once it has all of `seen`.
async fn caught_up(server: &Server, conn: &mut Conn, seen: &GtidSet) -> Result<ServerState> {
    let deadline = tokio::time::Instant::now() + server.options.connect_timeout;
    loop {
        let state = server.state(conn).await?;
        let missing = seen.subtract(&state.executed);
        if missing.is_empty() {
            return Ok(state);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Error::io(format!(
                "MySQL {} ({}) lacks transactions that were read before: {missing}",
                server.address(),
                state.uuid
            ))
            .note("a replica that lags is waited for; one that has lost them never gets here: point the name at a server that has them")
            .note("or start with --fresh"));
        }
        tokio::time::sleep(LAG_POLL).await;
    }
}

fn purged(server: &Server, what: &str) -> Error {
    Error::new(
        ErrorCode::Checkpoint,
        format!("MySQL {} has purged transactions that were not read yet: {what}", server.address()),
    )
    .note("the position is older than the binlog: start with --fresh to read the tables again")
    .note("SET PERSIST binlog_expire_logs_seconds = … keeps the binlog for longer")
}

/// An error that ends a stream, told apart by the server's words: all have one number.
fn stream_failed(server: &Server, error: WireError) -> Error {
    let WireError::Server { code: server::code::BINLOG_FATAL, message } = &error else {
        return server.failed("reading the binlog", error);
    };
    let lower = message.to_lowercase();
    if lower.contains("purged") || lower.contains("could not find first log file") {
        return purged(server, message);
    }
    if lower.contains("same server_uuid") || lower.contains("same server_id") {
        return Error::new(
            ErrorCode::Ownership,
            format!("MySQL {}: another reader has taken this one's place: {message}", server.address()),
        )
        .note("is the same job running twice, from a copied directory? A clone (--from) has an identity of its own");
    }
    let permanent = ["max_allowed_packet", "more gtids", "gtid_mode"].iter().any(|p| lower.contains(p));
    let failed = Error::io(format!("MySQL {}: the binlog cannot be read: {message}", server.address()));
    if permanent { failed.permanent() } else { failed }
}

/// Reads a log from the beginning of `file` and gives the transactions that are before the first one for which `stop`
/// holds; with everything in earlier files.
///
/// `stop` is asked with the place where a transaction begins and the time of its commit (µs since 1970).
pub async fn executed_before(
    server: &Server,
    file: &str,
    uuid: &str,
    mut stop: impl FnMut(&LogPosition, u64) -> bool,
) -> Result<GtidSet> {
    let mut conn = server.connect().await?;
    let state = server.state(&mut conn).await?;
    let server_id = ServerId::take(server, &mut conn, &state, uuid).await?;
    introduce(server, &mut conn, uuid, server_id.number).await?;
    let opened = conn.dump_file(server_id.number, file).await;
    let mut events = opened.map_err(|e| server.failed("reading the binlog", e))?;
    events.set_read_timeout(server.options.heartbeat_interval * HEARTBEATS_MISSED_MAX);
    let mut at = LogPosition { file: file.to_owned(), pos: 4 };
    let mut checksums = Checksums::Unknown;
    let mut executed: Option<GtidSet> = None;
    loop {
        let bytes = match events.next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            Err(e) => return Err(stream_failed(server, e)),
        };
        let event = Event::parse(bytes, checksums)
            .map_err(|e| e.context(format!("MySQL {}: the event behind {at} of the binlog", server.address())))?;
        match &event.data {
            EventData::FormatDescription(f) => checksums = f.checksums,
            EventData::Rotate { position, file } => at = LogPosition { file: (*file).to_owned(), pos: *position },
            EventData::PreviousGtids(set) => match &mut executed {
                None => executed = Some(set.clone()),
                Some(known) => known.add_all(set),
            },
            EventData::Gtid(g) => {
                if stop(&at, g.immediate_commit_us) {
                    break;
                }
                if let (Some(set), Some(gtid)) = (&mut executed, &g.gtid) {
                    set.add(gtid);
                }
            }
            _ => {}
        }
        if event.header.code != code::ROTATE {
            advance(&mut at, &event.header);
        }
    }
    executed.ok_or_else(|| {
        Error::io(format!("MySQL {}: binlog {file} does not say what was executed before it", server.address()))
            .permanent()
    })
}

/// When the first event of a file was written (seconds since 1970).
pub async fn created_at(server: &Server, file: &str, uuid: &str) -> Result<u32> {
    let mut conn = server.connect().await?;
    let state = server.state(&mut conn).await?;
    let server_id = ServerId::take(server, &mut conn, &state, uuid).await?;
    introduce(server, &mut conn, uuid, server_id.number).await?;
    let mut events =
        conn.dump_file(server_id.number, file).await.map_err(|e| server.failed("reading the binlog", e))?;
    loop {
        let bytes = match events.next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(u32::MAX),
            Err(e) => return Err(stream_failed(server, e)),
        };
        let event = Event::parse(bytes, Checksums::Unknown)
            .map_err(|e| e.context(format!("MySQL {}: the begin of binlog {file}", server.address())))?;
        if matches!(event.data, EventData::FormatDescription(_)) && event.header.timestamp > 0 {
            return Ok(event.header.timestamp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(size: u32, log_pos: u32) -> Header {
        Header { timestamp: 1, code: code::XID, server_id: 1, size, log_pos, flags: 0 }
    }

    #[test]
    fn positions_go_on_beyond_four_gibibytes() {
        let mut at = LogPosition { file: "binlog.000001".to_owned(), pos: u64::from(u32::MAX) - 10 };
        advance(&mut at, &header(20, 9));
        assert_eq!(at.pos, (1 << 32) + 9);
        // Events were left out: at least there.
        advance(&mut at, &header(20, 1000));
        assert_eq!(at.pos, (1 << 32) + 1000);
        advance(&mut at, &header(20, 500));
        assert_eq!(at.pos, (2 << 32) + 500);
        // Made up for the stream: no place in the log.
        advance(&mut at, &header(20, 0));
        assert_eq!(at.pos, (2 << 32) + 500);
    }

    #[test]
    fn heartbeats_move_the_position_and_never_back() {
        let mut at = LogPosition { file: "binlog.000001".to_owned(), pos: 4 };
        move_to(&mut at, "binlog.000001", 700);
        assert_eq!(at.pos, 700);
        move_to(&mut at, "binlog.000002", 4);
        assert_eq!((at.file.as_str(), at.pos), ("binlog.000002", 4));
        move_to(&mut at, "binlog.000002", 5 << 32);
        assert_eq!(at.pos, 5 << 32);
        // 32 bits of an older server.
        move_to(&mut at, "binlog.000002", 77);
        assert_eq!(at.pos, (5 << 32) + 77);
    }

    #[test]
    fn a_jobs_source_always_has_the_same_uuid() {
        let uuid = |job: &str, source: &str| replica_uuid(&JobId(job.to_owned()), source);
        assert_eq!(uuid("a", "db:1"), uuid("a", "db:1"));
        assert_ne!(uuid("a", "db:1"), uuid("b", "db:1"));
        assert_ne!(uuid("a", "db:1"), uuid("a", "db:2"));
        assert_eq!(uuid("a", "db:1").len(), 36);
    }
}
