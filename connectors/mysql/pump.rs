//! The task that reads one server: chunks of the snapshot as long as there are some, the stream always; with reconnects.

use std::time::Duration;

use thalweg_connector_api::{Piece, Position, ReaderCx, SplitId};
use thalweg_core::clock::now_us;
use thalweg_core::{Error, Result};
use tokio::time::Instant;

use crate::binlog::event::{Checksums, Event, EventData};
use crate::binlog::payload::PayloadReader;
use crate::binlog::stream::{BinlogStream, Next, ServerId};
use crate::captured::{ActiveChunk, Captured};
use crate::check::ServerTable;
use crate::position::{ServerPosition, TableState};
use crate::purge::{PURGE_CHECK_INTERVAL, PurgeWatch};
use crate::reader::Sender;
use crate::router::{Routed, Router};
use crate::server::{LogPosition, Server};
use crate::snapshot::chunk::{self, Answer, Ask, CHUNK_BYTES_MAX, Chunk};
use crate::snapshot::fold::Fold;
use crate::source::TableConfig;
use crate::wire::Conn;
use thalweg_core::fail_points;

/// A piece without rows, for the position alone, comes at most so often,
const POSITION_INTERVAL: Duration = Duration::from_secs(10);
/// unless so many bytes of the log were read.
const POSITION_BYTES_MAX: u64 = 64 << 20;
/// Between attempts to connect: doubled each time, up to the second.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Rows of a chunk at least, however often it was given up.
const CHUNK_ROWS_MIN: u64 = 16;

/// What a reader of one server is made of.
#[derive(Clone)]
pub struct PumpConfig {
    pub server: Server,
    pub tables: Vec<TableConfig>,
    /// What the server said of the tables when it was asked last.
    pub found: Vec<ServerTable>,
    /// `lower_case_table_names` is not 0.
    pub names_without_case: bool,
    /// By which the server knows this job's source.
    pub replica_uuid: String,
    /// Ends when every table is whole.
    pub bounded: bool,
    pub cx: ReaderCx,
}

pub struct Pump {
    config: PumpConfig,
    router: Router,
    stream: Option<BinlogStream>,
    server_id: Option<ServerId>,
    /// For chunks and questions, while there is a snapshot.
    control: Option<Conn>,
    /// Connections lost or refused since something was read.
    failures: u32,
    /// The stream has been at the end of the log since it was opened.
    is_current: bool,
    /// Per table, rows to ask for.
    chunk_rows: Vec<u64>,
    /// Per table, rows that chunks had.
    rows_read: Vec<u64>,
    last_piece: Instant,
    /// Bytes of the log that were read since.
    log_bytes: u64,
    purge: PurgeWatch,
}

impl Pump {
    /// # Errors
    /// A position that cannot be read; columns that do not fit.
    pub fn new(config: PumpConfig, split: SplitId, position: &Position) -> Result<Self> {
        let position = ServerPosition::from_stored(position)?;
        let mut tables = vec![];
        for (table, found) in config.tables.iter().zip(&config.found) {
            let stored = position.tables.get(&table.name);
            let (columns, key) = match stored {
                Some(stored) => (stored.columns.clone(), stored.primary_key.clone()),
                None => (found.columns.clone(), found.key_names()),
            };
            let layout = table.layout(found, columns, &key)?;
            let state = match stored {
                Some(stored) => stored.snapshot.clone(),
                None => table.first_state(),
            };
            tables.push(Captured::new(table.name.clone(), layout, state)?);
        }
        let chunk_rows = config.tables.iter().zip(&config.found).map(|(table, found)| {
            let by_bytes = CHUNK_BYTES_MAX as u64 / 2 / found.row_bytes.max(1);
            table.options.chunk_rows_max.min(by_bytes.max(CHUNK_ROWS_MIN))
        });
        Ok(Pump {
            chunk_rows: chunk_rows.collect(),
            rows_read: vec![0; tables.len()],
            router: Router::new(tables, config.names_without_case, position, split),
            stream: None,
            server_id: None,
            control: None,
            failures: 0,
            is_current: false,
            last_piece: Instant::now(),
            log_bytes: 0,
            purge: PurgeWatch::default(),
            config,
        })
    }

    /// Reads until a bounded source is through, or for ever.
    pub async fn run(mut self, to: &Sender) -> Result<()> {
        loop {
            match self.router.tables.iter().position(|t| t.state != TableState::Done) {
                Some(table) => self.chunk(table, to).await?,
                None if self.config.bounded => return Ok(()),
                None => {
                    if let Some(conn) = self.control.take() {
                        conn.close().await;
                        self.config.cx.status.set("");
                    }
                    self.step(to).await?;
                }
            }
        }
    }

    /// Where in the log an error is about.
    fn place(&self, e: Error, at: &LogPosition) -> Error {
        e.context(format!("MySQL {}, binlog {at}", self.config.server.address()))
    }

    // ------------------------------------------------------------------------------------------------ the stream

    /// Has the stream open, behind what was routed.
    async fn open_stream(&mut self) -> Result<BinlogStream> {
        if let Some(stream) = self.stream.take() {
            return Ok(stream);
        }
        self.is_current = false;
        loop {
            let from = self.router.position();
            let (set, seen) = (&from.gtid_set, from.seen());
            let config = &self.config;
            match BinlogStream::open(&config.server, &mut self.server_id, &config.replica_uuid, set, &seen).await {
                Ok(stream) => {
                    self.router.restart(&stream.server_uuid);
                    // It may lead to another server than the name does now.
                    self.control = None;
                    return Ok(stream);
                }
                Err(e) => self.retry(e).await?,
            }
        }
    }

    /// Waits before the next attempt, or gives up.
    async fn retry(&mut self, error: Error) -> Result<()> {
        if !error.is_transient() || u64::from(self.failures) >= self.config.server.options.connect_retries_max {
            return Err(error);
        }
        let wait = (BACKOFF_MIN * 2u32.saturating_pow(self.failures)).min(BACKOFF_MAX);
        self.failures += 1;
        tracing::warn!(
            job = %self.config.cx.job_name, event = "reconnect", attempt = self.failures,
            in_ms = wait.as_millis() as u64, "{error}"
        );
        self.config.cx.status.set(format!("waits for {}", self.config.server.address()));
        self.tell_purge();
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// What was lost, if anything was, is there again.
    fn reads_again(&mut self) {
        if self.failures == 0 {
            return;
        }
        let address = self.config.server.address();
        tracing::info!(job = %self.config.cx.job_name, event = "reconnected", "MySQL {address} answers again");
        self.failures = 0;
        self.config.cx.status.set("");
    }

    /// Takes in the next event, and emits what should not wait.
    async fn step(&mut self, to: &Sender) -> Result<()> {
        let mut stream = self.open_stream().await?;
        let asked = Instant::now();
        let next = stream.next(&self.config.server).await;
        let Next { event, at } = match next {
            Ok(next) => next,
            Err(e) => {
                drop(stream);
                return self.retry(e).await;
            }
        };
        let routed = self.take_in(&event, at, to).await?;
        self.log_bytes += u64::from(event.header.size);
        // What ends transactions, or comes when there are none; not what each stream begins with.
        let is_progress = matches!(
            event.data,
            EventData::Xid(_)
                | EventData::Query(_)
                | EventData::XaPrepare(_)
                | EventData::TransactionPayload(_)
                | EventData::Heartbeat { .. }
        );
        // At the begin of a stream heartbeats also come for what the server passes by.
        let is_silence = matches!(event.data, EventData::Heartbeat { .. })
            && asked.elapsed() >= self.config.server.options.heartbeat_interval / 2;
        self.purge.read_until(if is_silence { now_us() as u64 } else { self.router.commit_us() });
        if let Routed::Payload(payload) = routed {
            let at = at.clone();
            self.payload(payload, &at, to).await?;
        }
        if is_progress && !self.router.is_in_transaction() {
            self.reads_again();
        }
        if self.router.is_between() {
            let has_rows = self.router.waiting().1 > 0;
            // Also when there is always more to read, of other tables: what a restart repeats has a bound.
            let is_due = self.log_bytes >= POSITION_BYTES_MAX || self.last_piece.elapsed() >= POSITION_INTERVAL;
            if (has_rows && !stream.is_ready()) || (is_due && (has_rows || self.router.has_moved())) {
                self.flush(to).await?;
            }
        }
        self.stream = Some(stream);
        if self.purge.is_due() {
            self.check_purge().await;
        }
        Ok(())
    }

    /// Routes an event; emits what must not wait for it before, and what is enough for a piece behind it.
    async fn take_in(&mut self, event: &Event<'_>, at: &LogPosition, to: &Sender) -> Result<Routed> {
        if let EventData::Query(query) = &event.data
            && self.router.ends_piece(query)
        {
            self.flush(to).await?;
        }
        let routed = self.router.route(event, at).map_err(|e| self.place(e, at))?;
        let (bytes, rows) = self.router.waiting();
        let cx = &self.config.cx;
        if bytes >= cx.piece_bytes_max || rows >= cx.piece_rows_max || self.router.owes_end() {
            self.router.may_cut().map_err(|e| self.place(e, at))?;
            self.flush(to).await?;
        }
        Ok(routed)
    }

    /// The events of a compressed transaction.
    async fn payload(&mut self, mut payload: PayloadReader, at: &LogPosition, to: &Sender) -> Result<()> {
        loop {
            let bytes = payload.next_event().map_err(|e| self.place(e, at))?;
            let Some(bytes) = bytes else { return Ok(()) };
            let event = Event::parse(bytes, Checksums::Off).map_err(|e| self.place(e, at))?;
            if let Routed::Payload(_) = self.take_in(&event, at, to).await? {
                return Err(self.place(Error::changelog("a compressed transaction within another"), at));
            }
        }
    }

    async fn flush(&mut self, to: &Sender) -> Result<()> {
        loop {
            match self.router.take_piece(&self.config.server, &mut self.control).await {
                Ok(Some(piece)) => return self.send(piece, to).await,
                Ok(None) => return Ok(()),
                Err(e) => {
                    // Only questions to the server fail so; nothing is lost by asking again.
                    self.control = None;
                    self.retry(e).await?;
                }
            }
        }
    }

    async fn send(&mut self, piece: Piece, to: &Sender) -> Result<()> {
        (self.last_piece, self.log_bytes) = (Instant::now(), 0);
        let continues = piece.continues;
        loop {
            match tokio::time::timeout(PURGE_CHECK_INTERVAL, to.reserve()).await {
                Ok(Ok(permit)) => {
                    permit.send(Ok(Some(piece)));
                    break;
                }
                Ok(Err(_)) => return Err(Error::cancelled()),
                // Nobody takes it; the binlog may be purged meanwhile.
                Err(_) => self.check_purge().await,
            }
        }
        if continues {
            fail_points::pass("mysql-within-transaction")?;
        }
        Ok(())
    }

    // ---------------------------------------------------------------------------------------------- the snapshot

    /// Reads the next chunk of a table and brings it to one position; on the way, all of the stream. Whatever comes in
    /// between gives up the chunk, and nothing is lost but time.
    async fn chunk(&mut self, table: usize, to: &Sender) -> Result<()> {
        self.show_progress(table);
        self.catch_up(to).await?;
        let Some(chunk) = self.select(table).await? else { return Ok(()) };
        let rows = chunk.keys.len() as u64;
        let captured = &mut self.router.tables[table];
        captured.chunk = Some(ActiveChunk { upper: chunk.upper.clone(), fold: Fold::new(&captured.layout)? });
        while !self.stands_behind(&chunk.high) {
            self.step(to).await?;
            match &self.router.tables[table].chunk {
                None => return Ok(()),
                Some(active) if active.fold.is_too_large() => {
                    self.router.tables[table].chunk = None;
                    self.chunk_rows[table] = (self.chunk_rows[table] / 4).max(CHUNK_ROWS_MIN);
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        // What only the server can place goes into the fold too.
        self.flush(to).await?;
        fail_points::pass("mysql-chunk-folded")?;
        let captured = &mut self.router.tables[table];
        let Some(active) = captured.chunk.take() else { return Ok(()) };
        captured.state = match chunk.upper.clone() {
            Some(key) => TableState::UpTo(key),
            None => TableState::Done,
        };
        let changes = active.fold.apply(chunk)?.into_iter().map(|c| (table, c)).collect();
        let piece = self.router.piece(changes, false);
        self.send(piece, to).await?;
        fail_points::pass("mysql-chunk-emitted")?;
        // It took both connections.
        self.reads_again();
        self.rows_read[table] += rows;
        self.chunk_rows[table] = (self.chunk_rows[table] * 2).min(self.config.tables[table].options.chunk_rows_max);
        Ok(())
    }

    /// Whether everything up to a place in the log was routed, and no transaction is half.
    fn stands_behind(&self, high: &LogPosition) -> bool {
        self.router.is_between() && self.stream.as_ref().is_some_and(|s| s.at().has_reached(high))
    }

    /// Between two transactions of an open stream; after a long pause, first near the end of the log: what is behind it
    /// need not be folded.
    async fn catch_up(&mut self, to: &Sender) -> Result<()> {
        loop {
            let stream = self.open_stream().await?;
            self.stream = Some(stream);
            if !self.is_current {
                match self.end_of_log().await {
                    Ok(None) => self.at_two_servers().await?,
                    Ok(Some(end)) => {
                        while self.stream.is_some() && !self.stands_behind(&end) {
                            self.step(to).await?;
                        }
                        self.is_current = self.stream.is_some();
                    }
                    Err(e) => {
                        self.control = None;
                        self.retry(e).await?;
                    }
                }
            } else if self.router.is_between() {
                return Ok(());
            } else {
                self.step(to).await?;
            }
        }
    }

    async fn control(&mut self) -> Result<&mut Conn> {
        if self.control.is_none() {
            self.control = Some(self.config.server.connect_for_snapshot().await?);
        }
        self.control.as_mut().ok_or_else(|| Error::internal("just connected"))
    }

    /// The end of the log that the stream comes from; `None`: the name leads to another server by now.
    async fn end_of_log(&mut self) -> Result<Option<LogPosition>> {
        let server = self.config.server.clone();
        let conn = self.control().await?;
        let end = server.end_of_log(conn).await?;
        let uuid = server.value(conn, "SELECT @@GLOBAL.server_uuid").await?;
        let is_same = self.stream.as_ref().is_some_and(|s| uuid.as_deref() == Some(s.server_uuid.as_str()));
        Ok(is_same.then_some(end))
    }

    /// A proxy, or the name has moved to another server: both connections anew.
    async fn at_two_servers(&mut self) -> Result<()> {
        (self.control, self.stream) = (None, None);
        let address = self.config.server.address();
        let error = Error::io(format!("MySQL {address}: snapshot and binlog come from two servers"))
            .note("connect to one server, not through a proxy that spreads reads");
        self.retry(error).await
    }

    /// The rows of the next chunk; `None` if it has to be tried again.
    async fn select(&mut self, table: usize) -> Result<Option<Chunk>> {
        match self.try_select(table).await {
            Ok(Answer::Chunk(chunk)) => {
                let rows = chunk.keys.len() as i64;
                self.router.set_next_order(self.router.next_order() + rows);
                Ok(Some(chunk))
            }
            Ok(Answer::OtherServer) => {
                self.at_two_servers().await?;
                Ok(None)
            }
            Err(e) => {
                self.control = None;
                self.retry(e).await?;
                Ok(None)
            }
        }
    }

    async fn try_select(&mut self, table: usize) -> Result<Answer> {
        self.control().await?;
        let Some(mut conn) = self.control.take() else { return Err(Error::internal("just connected")) };
        let captured = &self.router.tables[table];
        let ask = Ask {
            layout: &captured.layout,
            after: match &captured.state {
                TableState::UpTo(key) => Some(key),
                TableState::Empty | TableState::Done => None,
            },
            rows_max: self.chunk_rows[table],
            visible: &self.router.position().gtid_set,
            server_uuid: self.stream.as_ref().map_or("", |s| s.server_uuid.as_str()),
            order: self.router.next_order(),
            batch_rows_max: self.config.cx.piece_rows_max,
        };
        let mut keep = true;
        let answer = chunk::read(&self.config.server, &mut conn, ask, &mut keep).await?;
        self.control = keep.then_some(conn);
        Ok(answer)
    }

    fn show_progress(&self, table: usize) {
        let expected = self.config.found[table].rows;
        let name = &self.config.tables[table].source.def.name;
        let share = self.rows_read[table] as f64 / expected.max(1) as f64;
        // The server only estimates how many rows there are.
        let percent = (share * 100.0).min(99.0) as u64;
        self.config.cx.status.set(format!("snapshot {name} {percent} %"));
    }

    // ------------------------------------------------------------------------------------------------- purging

    async fn check_purge(&mut self) {
        self.purge.ask(&self.config.server).await;
        self.tell_purge();
    }

    /// Tells how long the server still keeps what was not read; aloud when that is short.
    fn tell_purge(&self) {
        let left = self.purge.left(now_us() as u64);
        self.config.cx.status.set_purged_in_s(left.map(|l| l.left_s));
        if let Some(left) = left.filter(|l| l.is_short()) {
            tracing::warn!(
                job = %self.config.cx.job_name, event = "binlog_purge",
                left_s = left.left_s, lag_s = left.lag_s, kept_s = left.kept_s,
                "MySQL {} purges the binlog that is being read in about {} min: SET PERSIST binlog_expire_logs_seconds keeps it for longer",
                self.config.server.address(), left.left_s / 60
            );
        }
    }
}
