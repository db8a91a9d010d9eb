//! One reading thread: a consumer that assigns its partitions to itself, messages into columns, columns into pieces.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use sys::rd_kafka_resp_err_t as Code;
use thalweg_connector_api::{Piece, RateLimit, ReaderCx, SplitId};
use thalweg_core::clock::now_us;
use thalweg_core::{Error, Result};
use tokio::sync::mpsc::Sender;

use crate::assemble::Assembly;
use crate::client::{Client, EARLIEST, INVALID_OFFSET, Kind, LATEST, Partitions, Queue, Sees, take_error};
use crate::errors::{Class, Failure};
use crate::message::{Batch, Message};
use crate::options::End;
use crate::position::{Partition, PartitionPosition, recreated};
use crate::settings;
use crate::source::{Inner, gone};
use crate::topics::{Use, look_up};

/// Messages that are taken from librdkafka at once.
const BATCH_MESSAGES: usize = 4096;
/// How long a wait for messages is before commands are looked at.
const WAIT: Duration = Duration::from_millis(50);
/// Positions that moved without rows (over transaction markers) wait so long for a piece with rows.
const MOVED_WITHOUT_ROWS: Duration = Duration::from_secs(1);
/// The group of readers whose user names none. Nothing is ever committed to it.
const NO_GROUP: &str = "thalweg-no-group";

/// What comes from the thread.
pub enum Output {
    Piece(Piece),
    Failed(Error),
    /// All partitions of bounded input are through.
    End,
}

pub enum Command {
    Assign(Vec<Assigned>),
    /// These offsets are in a committed checkpoint.
    Commit(Vec<(SplitId, i64)>),
}

/// A partition to be read.
#[derive(Debug)]
pub struct Assigned {
    pub id: SplitId,
    pub partition: Partition,
    pub position: PartitionPosition,
}

pub struct ReaderParts {
    pub source: Arc<Inner>,
    pub rate: Arc<RateLimit>,
    pub cx: ReaderCx,
    pub output: Sender<Output>,
    pub commands: Receiver<Command>,
}

/// Why a thread stops.
enum Stop {
    /// Nobody listens any more.
    Gone,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Stop::Failed(e)
    }
}

struct Reading {
    id: SplitId,
    partition: Partition,
    position: PartitionPosition,
    /// Index in the list of topics.
    topic: u32,
    /// Bounded, and through.
    done: bool,
    /// Since the last piece.
    moved: bool,
}

pub struct ReaderThread {
    parts: ReaderParts,
    assembly: Assembly,
    rows_max: usize,
    bytes_max: usize,
    topics: Vec<String>,
    readings: Vec<Reading>,
    /// By topic handle and partition.
    by_handle: HashMap<(usize, i32), usize>,
    last: Option<((usize, i32), usize)>,
    newest_ms: Option<i64>,
    moved_since: Option<Instant>,
    said_down: bool,
    /// Came while the rate limit was waited for.
    later: Vec<Command>,
}

impl ReaderThread {
    pub fn new(parts: ReaderParts) -> Result<Self> {
        let source = &parts.source;
        let assembly = Assembly::new(source.flavor, &source.table, &source.layout, source.upserts)?;
        let by_bytes = (parts.cx.piece_bytes_max / assembly.row_bytes.max(1)).max(1);
        Ok(ReaderThread {
            rows_max: parts.rate.piece_rows(parts.cx.piece_rows_max.min(by_bytes)),
            bytes_max: parts.cx.piece_bytes_max.max(1),
            assembly,
            topics: source.options.topics.clone(),
            readings: vec![],
            by_handle: HashMap::new(),
            last: None,
            newest_ms: None,
            moved_since: None,
            said_down: false,
            later: vec![],
            parts,
        })
    }

    /// Until the reader is dropped, or something fails.
    pub fn run(mut self, assigned: Vec<Assigned>) {
        if let Err(Stop::Failed(e)) = self.read(assigned) {
            let _ = self.parts.output.blocking_send(Output::Failed(e));
        }
    }

    fn of(&self) -> &str {
        &self.parts.source.options.of
    }

    fn read(&mut self, assigned: Vec<Assigned>) -> Result<(), Stop> {
        let options = &self.parts.source.options;
        let group = options.properties.group.as_deref().unwrap_or(NO_GROUP);
        let client = Client::new(Kind::Consumer, &settings::consumer(options, group), &options.of)?;
        let queue = Queue::of_consumer(&client).ok_or_else(|| Error::internal("a consumer without a queue"))?;
        let mut batch = Batch::new(BATCH_MESSAGES);
        self.assign(&client, assigned)?;
        let mut ended = false;
        loop {
            if self.is_through() && !ended {
                self.send()?;
                self.output(Output::End)?;
                ended = true;
            }
            if ended || self.readings.is_empty() {
                // Nothing to read: librdkafka would have nothing to say either.
                let command = self.parts.commands.recv().map_err(|_| Stop::Gone)?;
                let more = self.readings.len();
                self.command(&client, command)?;
                ended &= self.readings.len() == more;
                continue;
            }
            self.take_commands(&client)?;
            let troubles = client.heard().troubles();
            batch.fill(&queue, WAIT.as_millis() as i32);
            if let Some(change) = client.heard().topic_changed() {
                return Err(self.topic_changed(&change).into());
            }
            for i in 0..batch.len() {
                let message = batch.get(i);
                self.message(&client, &message)?;
                if self.is_full() {
                    self.send()?;
                }
            }
            if batch.is_empty() {
                self.idle(&client)?;
            } else {
                batch.clear();
                client.heard().works_if_no_trouble_since(troubles);
                self.say(None);
            }
            if self.assembly.messages() > 0 || self.moved_since.is_some_and(|m| m.elapsed() >= MOVED_WITHOUT_ROWS) {
                self.send()?;
            }
        }
    }

    fn is_through(&self) -> bool {
        self.parts.source.options.end != End::Never && self.readings.iter().all(|r| r.done)
    }

    fn is_full(&self) -> bool {
        // What the next message becomes must still fit.
        self.assembly.messages() > 0
            && (self.assembly.rows() + self.assembly.rows_per_message > self.rows_max
                || self.assembly.bytes() >= self.bytes_max)
    }

    fn say(&mut self, down: Option<&str>) {
        if let Some(why) = down {
            self.said_down = true;
            let servers = self.parts.source.options.servers();
            self.parts.cx.status.set(format!("waits for kafka at {servers}: {why}"));
        } else if std::mem::take(&mut self.said_down) {
            self.parts.cx.status.set("");
        }
    }

    /// Nothing came for a while.
    fn idle(&mut self, client: &Client) -> Result<(), Stop> {
        // A topic without new messages does not show that its brokers are back.
        if client.heard().is_down().is_some() && client.is_answered(WAIT) {
            client.heard().works();
        }
        let down = client.heard().is_down();
        self.say(down.as_deref());
        if let Some(trouble) = client.heard().trouble()
            && matches!(trouble.class(), Class::Permanent(_) | Class::Login)
        {
            // Also credentials that were good before: a broker that comes back may not know them yet.
            return Err(trouble.to_error(self.of()).transient().into());
        }
        if !self.readings.iter().any(|r| r.position.end.is_some() && !r.done) {
            return Ok(());
        }
        // The last offsets before the end may be markers, or aborted, and no message comes behind them.
        let mut list = Partitions::new();
        for r in self.readings.iter().filter(|r| !r.done) {
            list.add(&r.partition.topic, r.partition.partition, INVALID_OFFSET, None)
                .map_err(|f| f.to_error(&r.id.0))?;
        }
        // SAFETY: client and list are valid.
        unsafe { sys::rd_kafka_position(client.rk(), list.0.as_ptr()) };
        let at: Vec<i64> = list.get().iter().map(|p| p.offset).collect();
        let open: Vec<usize> = (0..self.readings.len()).filter(|i| !self.readings[*i].done).collect();
        for (i, offset) in open.into_iter().zip(at) {
            if self.readings[i].position.end.is_some_and(|end| offset >= end) {
                self.passed(client, i, offset)?;
            }
        }
        Ok(())
    }

    fn take_commands(&mut self, client: &Client) -> Result<(), Stop> {
        for command in std::mem::take(&mut self.later) {
            self.command(client, command)?;
        }
        loop {
            match self.parts.commands.try_recv() {
                Ok(command) => self.command(client, command)?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Stop::Gone),
            }
        }
    }

    fn command(&mut self, client: &Client, command: Command) -> Result<(), Stop> {
        match command {
            Command::Assign(assigned) => self.assign(client, assigned),
            Command::Commit(offsets) => Ok(self.commit(client, &offsets)?),
        }
    }

    /// Tells the group's lag monitors where the job is. Nobody waits for it, and it is lost without harm.
    fn commit(&self, client: &Client, offsets: &[(SplitId, i64)]) -> Result<()> {
        let mut list = Partitions::new();
        for (id, offset) in offsets {
            if let Some(r) = self.readings.iter().find(|r| r.id == *id) {
                list.add(&r.partition.topic, r.partition.partition, *offset, None)
                    .map_err(|f| f.to_error(self.of()))?;
            }
        }
        if !list.get().is_empty() {
            // SAFETY: client and list are valid.
            unsafe { sys::rd_kafka_commit(client.rk(), list.0.as_ptr(), 1) };
        }
        Ok(())
    }

    fn assign(&mut self, client: &Client, assigned: Vec<Assigned>) -> Result<(), Stop> {
        let mut list = Partitions::new();
        for a in assigned {
            a.partition.check_same_topic(&a.position, self.of())?;
            let topic = match self.topics.iter().position(|t| *t == a.partition.topic) {
                Some(i) => i,
                None => {
                    self.topics.push(a.partition.topic.clone());
                    self.topics.len() - 1
                }
            };
            let done = a.position.end.is_some_and(|end| a.position.offset >= end);
            if !done {
                let Partition { topic, partition, .. } = &a.partition;
                list.add(topic, *partition, a.position.offset, None).map_err(|f| f.to_error(self.of()))?;
                if let (Some(epoch), Some(last)) = (a.position.leader_epoch, list.get().last()) {
                    // SAFETY: the element is the list's, which is not shared.
                    unsafe {
                        sys::rd_kafka_topic_partition_set_leader_epoch(std::ptr::from_ref(last).cast_mut(), epoch);
                    }
                }
            }
            let Assigned { id, partition, position } = a;
            self.readings.push(Reading { id, partition, position, topic: topic as u32, done, moved: false });
        }
        if !list.get().is_empty() {
            // SAFETY: client and list are valid; the error is taken over.
            if let Some(e) = unsafe { take_error(sys::rd_kafka_incremental_assign(client.rk(), list.0.as_ptr())) } {
                return Err(e.failure.to_error(self.of()).into());
            }
        }
        Ok(())
    }

    /// The reading that a message belongs to.
    fn reading(&mut self, message: &Message<'_>) -> Option<usize> {
        let handle = (message.topic_handle() as usize, message.partition());
        if let Some((last, i)) = self.last
            && last == handle
        {
            return Some(i);
        }
        let i = match self.by_handle.get(&handle) {
            Some(i) => *i,
            None => {
                let topic = message.topic();
                let of = |r: &Reading| r.partition.partition == handle.1 && r.partition.topic == topic;
                let i = self.readings.iter().position(of)?;
                self.by_handle.insert(handle, i);
                i
            }
        };
        self.last = Some((handle, i));
        Some(i)
    }

    fn message(&mut self, client: &Client, message: &Message<'_>) -> Result<(), Stop> {
        if message.code() != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return self.error(client, message);
        }
        let Some(i) = self.reading(message) else { return Ok(()) };
        let r = &self.readings[i];
        let offset = message.offset();
        if r.done || offset < r.position.offset {
            return Ok(());
        }
        if let Some(end) = r.position.end
            && offset >= end
        {
            return self.passed(client, i, end);
        }
        let topic = r.topic;
        if let Err(e) = self.assembly.push(message, topic) {
            let Partition { topic, partition, .. } = &self.readings[i].partition;
            return Err(e
                .context(format!("{}: topic {topic}, partition {partition}, offset {offset}", self.of()))
                .into());
        }
        let r = &mut self.readings[i];
        r.position.offset = offset + 1;
        r.moved = true;
        r.position.leader_epoch = message.leader_epoch();
        self.newest_ms = message.timestamp().0.or(self.newest_ms);
        if r.position.end == Some(offset + 1) {
            return self.passed(client, i, offset + 1);
        }
        Ok(())
    }

    /// A partition was read up to (not including) an offset, with nothing in it that is a row.
    fn passed(&mut self, client: &Client, i: usize, offset: i64) -> Result<(), Stop> {
        let r = &mut self.readings[i];
        if offset > r.position.offset {
            r.position.offset = offset;
            r.moved = true;
            self.moved_since.get_or_insert_with(Instant::now);
        }
        if r.position.end.is_some_and(|end| r.position.offset >= end) && !r.done {
            r.done = true;
            let mut list = Partitions::new();
            let Partition { topic, partition, .. } = &r.partition;
            list.add(topic, *partition, INVALID_OFFSET, None).map_err(|f| f.to_error(&r.id.0))?;
            // SAFETY: client and list are valid; the error is taken over. That it cannot be done is no harm: what comes is
            // passed over.
            let _ = unsafe { take_error(sys::rd_kafka_incremental_unassign(client.rk(), list.0.as_ptr())) };
        }
        Ok(())
    }

    fn error(&mut self, client: &Client, message: &Message<'_>) -> Result<(), Stop> {
        let code = message.code();
        let i = if message.topic_handle().is_null() { None } else { self.reading(message) };
        match code {
            Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => match i {
                Some(i) => self.passed(client, i, message.offset()),
                None => Ok(()),
            },
            // A group that nobody named needs no rights.
            Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
                if self.parts.source.options.properties.group.is_none() =>
            {
                Ok(())
            }
            Code::RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED => Ok(()),
            Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
            | Code::RD_KAFKA_RESP_ERR__LOG_TRUNCATION
            | Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
            | Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID => Err(self.lost(message, i).into()),
            _ => {
                let failure = Failure::new(code, message.error_text());
                if failure.class() == Class::Retriable {
                    tracing::debug!("{}: {}", self.of(), failure.text);
                    return Ok(());
                }
                let place = match i {
                    Some(i) => {
                        let r = &self.readings[i];
                        let Partition { topic, partition, .. } = &r.partition;
                        format!("{}: topic {topic}, partition {partition}, offset {}", self.of(), r.position.offset)
                    }
                    None => self.of().to_owned(),
                };
                Err(failure.to_error(&place).into())
            }
        }
    }

    /// What was to be read is not there: why, as far as the cluster can tell.
    fn lost(&self, message: &Message<'_>, i: Option<usize>) -> Error {
        let failure = Failure::new(message.code(), message.error_text());
        let source = &self.parts.source;
        let of = self.of();
        let look = || -> Result<Error> {
            let client = source.asking()?;
            // A topic that is gone, or another one, is said here.
            let topics = look_up(&client, &source.options, &source.options.topics, Use::Read)?;
            let i = i.ok_or_else(|| failure.to_error(of))?;
            let Reading { partition, position, .. } = &self.readings[i];
            let id = topics.into_iter().find(|t| t.name == partition.topic).and_then(|t| t.id);
            if let (Some(now), Some(before)) = (&id, &position.topic_id)
                && now != before
            {
                return Ok(recreated(of, &partition.topic, before, now));
            }
            let at = |spec, sees| {
                let wanted = [(partition.topic.as_str(), partition.partition, spec)];
                client.offsets(&wanted, sees, source.options.properties.api_timeout).map(|found| found[0])
            };
            let found = at(EARLIEST, Sees::Committed).and_then(|e| Ok((e, at(LATEST, Sees::All)?)));
            let (earliest, latest) = found.map_err(|f| f.to_error(of))?;
            if (earliest..=latest).contains(&position.offset) && failure.code != Code::RD_KAFKA_RESP_ERR__LOG_TRUNCATION
            {
                // It is there again, or is not yet known to all brokers.
                return Ok(failure.to_error(of).transient());
            }
            Ok(gone(of, partition, position.offset, earliest, latest))
        };
        look().unwrap_or_else(|e| e)
    }

    fn topic_changed(&self, words: &str) -> Error {
        let topic = self.topics.iter().find(|t| words.contains(&format!("Topic {t} "))).cloned().unwrap_or_default();
        let id = |before: &str| words.split(before).nth(1).and_then(|r| r.split_whitespace().next()).unwrap_or("?");
        recreated(self.of(), &topic, id(" from "), id(" to "))
    }

    /// Sends what is assembled, with the positions behind it.
    fn send(&mut self) -> Result<(), Stop> {
        let mut positions = vec![];
        for r in self.readings.iter_mut().filter(|r| r.moved) {
            r.moved = false;
            positions.push((r.id.clone(), r.position.to_position()));
        }
        self.moved_since = None;
        if positions.is_empty() && self.assembly.messages() == 0 {
            return Ok(());
        }
        let changes = self.assembly.finish(&self.topics)?;
        let rows = changes.num_rows();
        if let Some(at) = self.parts.rate.reserve(rows as u64) {
            self.wait_until(at)?;
        }
        let event_time_lag_ms = self.newest_ms.take().map(|ms| (now_us() / 1000 - ms).max(0));
        let changes = if rows == 0 { vec![] } else { vec![(0, changes)] };
        self.output(Output::Piece(Piece { changes, positions, event_time_lag_ms, ..Piece::default() }))
    }

    fn output(&self, output: Output) -> Result<(), Stop> {
        self.parts.output.blocking_send(output).map_err(|_| Stop::Gone)
    }

    /// Sleeps; ends when the reader is dropped. What is assigned meanwhile waits.
    fn wait_until(&mut self, at: Instant) -> Result<(), Stop> {
        while let Some(left) = at.checked_duration_since(Instant::now()) {
            match self.parts.commands.recv_timeout(left) {
                Ok(command) => self.later.push(command),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Gone),
            }
        }
        Ok(())
    }
}
