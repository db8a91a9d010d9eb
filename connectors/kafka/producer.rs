//! Writing: whole segments and the mark in one transaction, or, at least once, without.
//!
//! Values are not copied: a chunk's bytes are held until the broker has confirmed all of its messages.

use std::collections::VecDeque;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::bindings as sys;
use sys::rd_kafka_resp_err_t as Code;
use thalweg_core::fail_points::pass;
use thalweg_core::{Error, ErrorCode, Result};
use tokio::sync::mpsc::Receiver;

use crate::client::{Client, Kind, Settings, TakenError, Topic, c_string, millis, take_error};
use crate::encode::shown_key;
use crate::errors::{Class, Failure, class};
use crate::facts::made_anew;
use crate::mark::MarkOffset;
use crate::record::{Chunk, Record};
use crate::topics::MISSING;

/// Messages that are handed over in one call.
const CALL_MESSAGES: usize = 1024;
/// How long a full queue is waited for before it is tried again.
const FULL: Duration = Duration::from_millis(1);
/// A step of the wait for messages, after which it is looked whether anybody still waits for them.
const FLUSH_STEP: Duration = Duration::from_millis(100);
/// A step of a commit, after which it is looked whether anybody still waits for it.
const COMMIT_STEP: Duration = Duration::from_secs(2);
/// How long the mark is waited for before the transaction is given up; else it takes milliseconds.
const MARK_WAIT: Duration = Duration::from_secs(10);
/// A step of that wait, after which it is looked whether anybody still waits for it.
const MARK_STEP: Duration = Duration::from_millis(50);
/// A step of what may be tried again, within a transaction.
const STEP: Duration = Duration::from_secs(5);

/// What a delivery consists of.
pub enum Part {
    Chunk(Bytes),
    /// Nothing more comes. If the channel ends without it the delivery is given up.
    End,
}

/// What the call came to, and the mark.
type MarkAnswer = std::sync::mpsc::Receiver<(Option<TakenError>, MarkOffset)>;

pub struct Producer {
    /// Destroyed before `client`.
    topic: TopicHandle,
    client: Client,
    of: String,
    topic_name: String,
    /// Of the topic that the encoders looked at; old brokers give none.
    topic_id: Option<String>,
    /// Of a transactional producer: how long a transaction may be open.
    timeout: Duration,
    /// Dropped after `client`, which may read them until it is destroyed.
    held: Mutex<Held>,
}

struct TopicHandle(NonNull<sys::rd_kafka_topic_t>);

// SAFETY: topics may be used by any thread, and by several at once.
unsafe impl Send for TopicHandle {}
unsafe impl Sync for TopicHandle {}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: made by `Producer::new`, destroyed once, before its client.
        unsafe { sys::rd_kafka_topic_destroy(self.0.as_ptr()) };
    }
}

impl Producer {
    /// `timeout`: how long a transaction may be open.
    pub fn new(
        settings: &Settings,
        of: &str,
        topic: &str,
        topic_id: Option<String>,
        timeout: Duration,
    ) -> Result<Self> {
        let client = Client::new(Kind::Producer, settings, of)?;
        let name = c_string(topic)?;
        // SAFETY: the client is valid, the name is copied.
        let handle = unsafe { sys::rd_kafka_topic_new(client.rk(), name.as_ptr(), ptr::null_mut()) };
        let handle = NonNull::new(handle)
            .ok_or_else(|| Error::option(format!("{of}: '{topic}' is not a name that a topic can have")))?;
        Ok(Producer {
            topic: TopicHandle(handle),
            client,
            of: of.to_owned(),
            topic_name: topic.to_owned(),
            topic_id,
            timeout,
            held: Mutex::default(),
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shuts out every older producer of the same transactional id, and ends its transaction.
    pub fn init(&self, wait: Duration) -> Result<()> {
        let deadline = Instant::now() + wait;
        // Asked for a transaction while it is not connected, librdkafka looks again half a second later. What comes of this
        // question does not matter.
        let _ = self.client.topics(slice::from_ref(&self.topic_name), wait.min(STEP / 5));
        loop {
            self.client.poll(Duration::ZERO);
            let left = deadline.saturating_duration_since(Instant::now());
            // SAFETY: the client is valid; the error is taken over.
            let result =
                unsafe { take_error(sys::rd_kafka_init_transactions(self.client.rk(), millis(left.min(STEP / 5)))) };
            let Some(e) = result else {
                self.client.heard().works();
                return Ok(());
            };
            self.client.poll(Duration::ZERO);
            let trouble =
                self.client.heard().trouble().filter(|t| matches!(t.class(), Class::Permanent(_) | Class::Login));
            if trouble.is_some() || !e.is_retriable || left.is_zero() {
                let e = trouble.map_or(e.clone(), |failure| TakenError { failure, ..e });
                return Err(self.failed("no transactions can be made", &e));
            }
        }
    }

    /// Sends all chunks and the mark in one transaction. After an error the producer is of no use; a call that does not end
    /// may hold it for longer than the caller does.
    pub fn transaction(self: &Arc<Self>, parts: &mut Receiver<Part>, mark: MarkOffset) -> Result<()> {
        let began = Instant::now();
        // SAFETY: the client is valid; the error is taken over.
        if let Some(e) = unsafe { take_error(sys::rd_kafka_begin_transaction(self.client.rk())) } {
            return Err(self.failed("a transaction cannot be begun", &e));
        }
        // First too: while a topic is missing the mark would wait for it in silence until the transaction's time is over.
        let result = self.check_same_topic(parts).and_then(|()| self.send_all(parts)).and_then(|()| {
            pass("kafka-before-mark")?;
            self.send_mark(parts, mark)?;
            self.flush(parts)?;
            self.check_same_topic(parts)?;
            pass("kafka-before-commit")?;
            self.commit(parts)?;
            pass("kafka-after-commit")
        });
        match result {
            Ok(()) => {
                self.held().release(None);
                Ok(())
            }
            Err(e) => {
                self.give_up();
                Err(if e.is_transient() { self.with_time(e, began.elapsed()) } else { e })
            }
        }
    }

    /// The broker ends a transaction that is open for too long. Tried again, one with as many rows takes as long.
    fn with_time(&self, e: Error, took: Duration) -> Error {
        if took < self.timeout {
            return e;
        }
        e.note(format!(
            "the transaction was open for {:.1} s, and the broker ends one after {:.1} s: if it needs so long for its rows, raise 'properties.transaction.timeout.ms' = '{}' (at most the broker's transaction.max.timeout.ms)",
            took.as_secs_f64(),
            self.timeout.as_secs_f64(),
            self.timeout.as_millis()
        ))
    }

    /// Sends all chunks and waits until the broker has them.
    pub fn send(&self, parts: &mut Receiver<Part>) -> Result<()> {
        let result = self.send_all(parts).and_then(|()| {
            self.flush(parts)?;
            // Also one that waited too long for the broker is not there.
            match self.client.heard().undelivered() {
                Some(u) => Err(self.failed_with(&Failure::of(u.code), "rows were not delivered")),
                None => self.check_same_topic(parts),
            }
        });
        match result {
            Ok(()) => self.held().release(None),
            Err(_) => self.give_up(),
        }
        result
    }

    fn send_all(&self, parts: &mut Receiver<Part>) -> Result<()> {
        loop {
            match parts.blocking_recv() {
                Some(Part::Chunk(bytes)) => {
                    let tag = self.held().add(bytes.clone());
                    self.produce(&Chunk::read(&bytes)?, tag, parts)?;
                    self.client.poll(Duration::ZERO);
                    self.held().release(self.client.heard().oldest());
                    if let Some(e) = self.undelivered() {
                        return Err(e);
                    }
                }
                Some(Part::End) => return Ok(()),
                None => return Err(Error::cancelled()),
            }
        }
    }

    /// Waits until the broker has taken or refused every message, or they have waited too long for it.
    fn flush(&self, parts: &Receiver<Part>) -> Result<()> {
        loop {
            // SAFETY: the client is valid. It serves what librdkafka wants to say meanwhile.
            let code = unsafe { sys::rd_kafka_flush(self.client.rk(), millis(FLUSH_STEP)) };
            if let Some(e) = self.undelivered() {
                return Err(e);
            }
            match code {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => return Ok(()),
                _ if parts.is_closed() => return Err(Error::cancelled()),
                Code::RD_KAFKA_RESP_ERR__TIMED_OUT => {}
                _ => return Err(self.failed_with(&Failure::of(code), "messages cannot be sent")),
            }
        }
    }

    fn produce(&self, chunk: &Chunk<'_>, tag: usize, parts: &Receiver<Part>) -> Result<()> {
        if !chunk.is_plain() {
            return (0..chunk.len()).try_for_each(|i| self.produce_one(&chunk.get(i), tag, parts));
        }
        let mut messages: Vec<sys::rd_kafka_message_t> = Vec::with_capacity(CALL_MESSAGES.min(chunk.len()));
        let mut next = 0;
        while next < chunk.len() {
            messages.clear();
            let end = chunk.len().min(next + CALL_MESSAGES);
            messages.extend((next..end).map(|i| message(&chunk.get(i), tag)));
            self.client.heard().sending(tag, messages.len());
            // SAFETY: values stay where they are until they are confirmed or the producer is destroyed, as `Held` holds the
            // chunk; keys are copied.
            let taken = unsafe {
                sys::rd_kafka_produce_batch(
                    self.topic.0.as_ptr(),
                    -1,
                    sys::RD_KAFKA_MSG_F_PARTITION,
                    messages.as_mut_ptr(),
                    messages.len() as c_int,
                )
            };
            let taken = usize::try_from(taken).unwrap_or(0);
            if taken < messages.len() {
                self.client.heard().not_sent(tag, messages.len() - taken);
                // What comes behind the first that was not taken was not taken either if the queue is full.
                let first = messages.iter().position(|m| m.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap_or(taken);
                let code = messages.get(first).map_or(Code::RD_KAFKA_RESP_ERR__QUEUE_FULL, |m| m.err);
                if code != Code::RD_KAFKA_RESP_ERR__QUEUE_FULL || first != taken {
                    return Err(self.not_taken(code, &chunk.get(next + first)));
                }
                self.wait_for_space(parts)?;
            }
            next += taken;
        }
        Ok(())
    }

    /// A message with a timestamp or headers.
    fn produce_one(&self, record: &Record<'_>, tag: usize, parts: &Receiver<Part>) -> Result<()> {
        use sys::rd_kafka_vtype_t as V;
        loop {
            let m = message(record, tag);
            let mut values: [sys::rd_kafka_vu_t; 8] = [vu(V::RD_KAFKA_VTYPE_END); 8];
            let mut count = 0;
            let mut add = |v: sys::rd_kafka_vu_t| {
                values[count] = v;
                count += 1;
            };
            // SAFETY: plain C unions; the fields are those of their types. Of headers librdkafka takes possession if it takes
            // the message. As to values and keys see `produce`.
            let error = unsafe {
                let mut v = vu(V::RD_KAFKA_VTYPE_RKT);
                v.u.rkt = self.topic.0.as_ptr();
                add(v);
                let mut v = vu(V::RD_KAFKA_VTYPE_PARTITION);
                v.u.i32_ = m.partition;
                add(v);
                let mut v = vu(V::RD_KAFKA_VTYPE_VALUE);
                v.u.mem.ptr = m.payload;
                v.u.mem.size = m.len;
                add(v);
                let mut v = vu(V::RD_KAFKA_VTYPE_KEY);
                v.u.mem.ptr = m.key;
                v.u.mem.size = m.key_len;
                add(v);
                let mut v = vu(V::RD_KAFKA_VTYPE_OPAQUE);
                v.u.ptr = m._private;
                add(v);
                if let Some(ms) = record.timestamp {
                    let mut v = vu(V::RD_KAFKA_VTYPE_TIMESTAMP);
                    v.u.i64_ = ms;
                    add(v);
                }
                let headers = if record.has_headers() { headers(record)? } else { ptr::null_mut() };
                if !headers.is_null() {
                    let mut v = vu(V::RD_KAFKA_VTYPE_HEADERS);
                    v.u.headers = headers;
                    add(v);
                }
                self.client.heard().sending(tag, 1);
                let error = take_error(sys::rd_kafka_produceva(self.client.rk(), values.as_ptr(), count));
                if error.is_some() {
                    self.client.heard().not_sent(tag, 1);
                    if !headers.is_null() {
                        sys::rd_kafka_headers_destroy(headers);
                    }
                }
                error
            };
            match error {
                None => return Ok(()),
                Some(e) if e.failure.code == Code::RD_KAFKA_RESP_ERR__QUEUE_FULL => self.wait_for_space(parts)?,
                Some(e) => return Err(self.not_taken(e.failure.code, record)),
            }
        }
    }

    fn wait_for_space(&self, parts: &Receiver<Part>) -> Result<()> {
        self.client.poll(FULL);
        if let Some(e) = self.undelivered() {
            return Err(e);
        }
        if parts.is_closed() { Err(Error::cancelled()) } else { Ok(()) }
    }

    fn send_mark(self: &Arc<Self>, parts: &Receiver<Part>, mut mark: MarkOffset) -> Result<()> {
        let began = Instant::now();
        let wait = MARK_WAIT.min(self.timeout);
        loop {
            let answer = self.begin_mark(mark)?;
            let result = loop {
                match answer.recv_timeout(MARK_STEP) {
                    Ok((result, back)) => {
                        mark = back;
                        break result;
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(Error::internal("the thread that writes the mark has ended").transient());
                    }
                    Err(RecvTimeoutError::Timeout) => self.client.poll(Duration::ZERO),
                }
                if parts.is_closed() {
                    return Err(Error::cancelled());
                }
                if began.elapsed() >= wait {
                    let late = self.client.failure(Failure::of(Code::RD_KAFKA_RESP_ERR__TIMED_OUT));
                    return Err(self.failed_with(&late, "the mark cannot be written"));
                }
            };
            match result {
                None => return Ok(()),
                Some(_) if parts.is_closed() => return Err(Error::cancelled()),
                Some(e) if e.is_retriable && began.elapsed() < wait => self.client.poll(Duration::from_millis(20)),
                Some(e) => return Err(self.failed("the mark cannot be written", &e)),
            }
        }
    }

    /// Puts the mark into the transaction, on a thread of its own: librdkafka can neither be called off nor take the call
    /// up again, and it waits beyond its time-out for a coordinator that is away
    /// (<https://github.com/confluentinc/librdkafka/issues/5456>). Whoever stops waiting leaves the producer to that thread:
    /// the next one shuts it out and ends its transaction, as it does with that of a process that was killed.
    fn begin_mark(self: &Arc<Self>, mark: MarkOffset) -> Result<MarkAnswer> {
        let (done, answer) = sync_channel(1);
        let producer = self.clone();
        let call = move || {
            // SAFETY: all of it is valid; the error is taken over.
            let result = unsafe {
                take_error(sys::rd_kafka_send_offsets_to_transaction(
                    producer.client.rk(),
                    mark.offsets.0.as_ptr(),
                    mark.group.0,
                    millis(producer.timeout),
                ))
            };
            // So that the one who waits is the last to hold it.
            drop(producer);
            let _ = done.send((result, mark));
        };
        std::thread::Builder::new()
            .name("kafka-mark".to_owned())
            .spawn(call)
            .map_err(|e| Error::io(format!("a thread for the mark cannot be started: {e}")))?;
        Ok(answer)
    }

    /// A topic that was deleted and made anew takes messages as if nothing had happened. What the old one had is gone, and
    /// changes that build on it must not go on in the new one. Asked when all messages have arrived: those of a topic that
    /// is deleted later go with it.
    fn check_same_topic(&self, parts: &Receiver<Part>) -> Result<()> {
        let Some(before) = &self.topic_id else { return Ok(()) };
        let began = Instant::now();
        let mut missing_since: Option<Instant> = None;
        loop {
            let left = self.timeout.saturating_sub(began.elapsed());
            let found = self.client.topics(slice::from_ref(&self.topic_name), left.min(COMMIT_STEP));
            let failure = match found.map(|mut topics| topics.pop()) {
                Ok(Some(Topic { error: None, id, .. })) => {
                    return match id {
                        Some(now) if now != *before => Err(made_anew(&self.of, &self.topic_name, before, &now)),
                        _ => Ok(()),
                    };
                }
                Ok(topic) => {
                    topic.and_then(|t| t.error).unwrap_or_else(|| Failure::of(Code::RD_KAFKA_RESP_ERR__BAD_MSG))
                }
                Err(failure) => failure,
            };
            if parts.is_closed() {
                return Err(Error::cancelled());
            }
            if failure.code == Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART {
                let since = *missing_since.get_or_insert_with(Instant::now);
                if since.elapsed() > MISSING || left.is_zero() {
                    return Err(self.deleted());
                }
            } else if failure.class() == Class::Retriable && !left.is_zero() {
                missing_since = None;
            } else {
                return Err(self.failed_with(&failure, "it cannot be looked up"));
            }
            self.client.poll(Duration::from_millis(20));
        }
    }

    fn deleted(&self) -> Error {
        Error::checkpoint(format!("{}: topic {} was deleted while the job ran", self.of, self.topic_name))
            .permanent()
            .note("make it again and begin anew with --fresh, which writes everything again")
    }

    /// A commit that timed out may have happened or not; only calling it again can tell.
    fn commit(&self, parts: &Receiver<Part>) -> Result<()> {
        let mut tries = 0u32;
        loop {
            // SAFETY: the client is valid; the error is taken over.
            let result = unsafe { take_error(sys::rd_kafka_commit_transaction(self.client.rk(), millis(COMMIT_STEP))) };
            match result {
                None => {
                    self.client.heard().works();
                    return Ok(());
                }
                Some(_) if parts.is_closed() => return Err(Error::cancelled()),
                Some(e) if e.is_retriable => {
                    tries += 1;
                    if tries.is_power_of_two() {
                        let why = self.client.failure(e.failure).text;
                        tracing::warn!(
                            "{}: topic {}: the commit is not confirmed yet, asking again: {why}",
                            self.of,
                            self.topic_name
                        );
                    }
                    self.client.poll(Duration::from_millis(20));
                }
                Some(e) => return Err(self.failed("the transaction cannot be committed", &e)),
            }
        }
    }

    /// Nothing of an open transaction is to be seen, and nothing more is to be sent. The next producer aborts what this one
    /// could not.
    fn give_up(&self) {
        // SAFETY: the client is valid; the error is taken over.
        unsafe {
            sys::rd_kafka_purge(self.client.rk(), sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT);
            self.client.poll(Duration::ZERO);
            let _ = take_error(sys::rd_kafka_abort_transaction(self.client.rk(), millis(STEP / 5)));
        }
    }

    /// The error of a message that the broker refused for good.
    fn undelivered(&self) -> Option<Error> {
        let u = self.client.heard().undelivered()?;
        let Class::Permanent(code) = class(u.code) else { return None };
        Some(self.refused(u.code, code, u.partition, u.key.as_deref()))
    }

    fn refused(&self, code: Code, error: ErrorCode, partition: i32, key: Option<&[u8]>) -> Error {
        let Producer { of, topic_name, .. } = self;
        let why = Failure::of(code);
        let e = Error::new(
            error,
            format!("{of}: topic {topic_name}, partition {partition}, {}: {}", shown_key(key), why.text),
        );
        let cure = match code {
            Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE | Code::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE => {
                "the topic's max.message.bytes was lowered after the row had been staged: raise it again, then start the job again"
            }
            Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP => {
                "the topic's message.timestamp.before.max.ms or …after.max.ms does not allow it: change them, then start the job again"
            }
            Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => {
                "the topic was deleted, or has fewer partitions than when the job began: make it again as it was, or begin anew with --fresh"
            }
            Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => "grant Write on the topic, then start the job again",
            _ => {
                "see the broker's log; the row is staged and goes out when the broker takes it and the job is started again"
            }
        };
        e.permanent().note(cure)
    }

    fn not_taken(&self, code: Code, record: &Record<'_>) -> Error {
        match class(code) {
            Class::Permanent(error) => self.refused(code, error, record.partition as i32, record.key),
            _ => self.failed_with(&Failure::of(code), "a message cannot be sent"),
        }
    }

    /// What a transactional call's error means.
    fn failed(&self, what: &str, e: &TakenError) -> Error {
        self.client.poll(Duration::ZERO);
        if let Some(e) = self.undelivered() {
            return e;
        }
        if !e.is_fatal {
            return self.failed_with(&self.client.failure(e.failure.clone()), what);
        }
        let mut text = [0 as c_char; 512];
        // SAFETY: the client and the buffer are valid.
        let code = unsafe { sys::rd_kafka_fatal_error(self.client.rk(), text.as_mut_ptr(), text.len()) };
        let code = if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { e.failure.code } else { code };
        self.failed_with(&Failure::new(code, e.failure.text.clone()), what)
    }

    fn failed_with(&self, failure: &Failure, what: &str) -> Error {
        failure.to_error(&format!("{}: topic {}: {what}", self.of, self.topic_name))
    }
}

fn vu(kind: sys::rd_kafka_vtype_t) -> sys::rd_kafka_vu_t {
    sys::rd_kafka_vu_t { vtype: kind, u: sys::rd_kafka_vu_s__bindgen_ty_1 { i64_: 0 } }
}

fn message(record: &Record<'_>, tag: usize) -> sys::rd_kafka_message_t {
    let pointer = |b: Option<&[u8]>| b.map_or(ptr::null_mut(), |b| b.as_ptr().cast_mut().cast::<c_void>());
    sys::rd_kafka_message_t {
        err: Code::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: ptr::null_mut(),
        partition: record.partition as i32,
        payload: pointer(record.value),
        len: record.value.map_or(0, <[u8]>::len),
        key: pointer(record.key),
        key_len: record.key.map_or(0, <[u8]>::len),
        offset: 0,
        _private: ptr::without_provenance_mut(tag),
    }
}

/// # Safety
/// The result is given to librdkafka or destroyed.
unsafe fn headers(record: &Record<'_>) -> Result<*mut sys::rd_kafka_headers_t> {
    // SAFETY: names and values are copied.
    unsafe {
        let headers = sys::rd_kafka_headers_new(4);
        for (name, value) in record.headers() {
            let added = CString::new(name).ok().map(|name| {
                let (value, size) = value.map_or((ptr::null(), -1), |v| (v.as_ptr().cast(), v.len() as isize));
                sys::rd_kafka_header_add(headers, name.as_ptr(), -1, value, size)
            });
            if added != Some(Code::RD_KAFKA_RESP_ERR_NO_ERROR) {
                sys::rd_kafka_headers_destroy(headers);
                return Err(Error::row(format!("the header '{}' cannot be written", name.escape_default())));
            }
        }
        Ok(headers)
    }
}

/// Chunks whose messages may still be read by librdkafka.
#[derive(Default)]
struct Held {
    chunks: VecDeque<(usize, Bytes)>,
    tags: usize,
}

impl Held {
    fn add(&mut self, bytes: Bytes) -> usize {
        self.tags += 1;
        self.chunks.push_back((self.tags, bytes));
        self.tags
    }

    /// `oldest`: the lowest tag of which something is on its way.
    fn release(&mut self, oldest: Option<usize>) {
        while self.chunks.front().is_some_and(|(tag, _)| oldest.is_none_or(|o| *tag < o)) {
            self.chunks.pop_front();
        }
    }
}
