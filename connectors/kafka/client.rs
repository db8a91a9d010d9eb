//! librdkafka, as far as it is needed here, behind a safe face. All calls that wait are for threads that may wait.
//!
//! rdkafka's own consumers and producers are not used: they make an event, and a lock, of every message; here messages
//! come and go in batches.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use sys::rd_kafka_resp_err_t as Code;
use thalweg_core::{Error, Result};

use crate::errors::{Failure, describe};

/// How long a wait is at most before it is looked whether it still makes sense.
const STEP: Duration = Duration::from_millis(50);
const ERROR_TEXT_BYTES: usize = 512;
/// What a topic changes from when it is seen for the first time.
const NO_TOPIC_ID: &str = "changed id from AAAAAAAAAAAAAAAAAAAAAA to";

/// Settings by librdkafka's names.
pub type Settings = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Consumer,
    Producer,
}

/// Where a partition ends for somebody who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// Before the first transaction that is open: what a `read_committed` consumer gets.
    Committed,
    /// Behind all messages (the high watermark).
    All,
}

/// What librdkafka says of its connections while it works.
pub struct Heard {
    /// For messages: `table orders`.
    of: String,
    /// `bootstrap.servers`
    servers: String,
    state: Mutex<HeardState>,
}

#[derive(Default)]
struct HeardState {
    /// The last trouble with a connection, until something works again.
    trouble: Option<Failure>,
    /// How often there was trouble.
    troubles: u64,
    /// All brokers are out of reach, and it was said.
    is_down: bool,
    /// A topic is another one than it was; librdkafka's words.
    topic_changed: Option<String>,
    /// The first message that could not be delivered.
    undelivered: Option<Undelivered>,
    /// Messages that are on their way, by the tag that they were given.
    on_their_way: BTreeMap<usize, usize>,
}

/// A message that the broker did not take.
#[derive(Debug, Clone)]
pub struct Undelivered {
    pub code: Code,
    pub partition: i32,
    pub key: Option<Vec<u8>>,
}

impl Heard {
    fn state(&self) -> MutexGuard<'_, HeardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often there was trouble so far.
    pub fn troubles(&self) -> u64 {
        self.state().troubles
    }

    /// Something came from a broker: it is there.
    pub fn works(&self) {
        self.works_if_no_trouble_since(u64::MAX);
    }

    /// Something came from a broker, and may have been fetched before there was trouble: it is there unless there was more
    /// trouble than these `troubles`.
    pub fn works_if_no_trouble_since(&self, troubles: u64) {
        let mut state = self.state();
        if state.troubles > troubles {
            return;
        }
        state.trouble = None;
        if std::mem::take(&mut state.is_down) {
            tracing::info!("{}: kafka at {} answers again", self.of, self.servers);
        }
    }

    /// All brokers are out of reach; why.
    pub fn is_down(&self) -> Option<String> {
        let state = self.state();
        state.is_down.then(|| state.trouble.as_ref().map_or_else(String::new, |t| t.text.clone()))
    }

    pub fn trouble(&self) -> Option<Failure> {
        self.state().trouble.clone()
    }

    pub fn topic_changed(&self) -> Option<String> {
        self.state().topic_changed.clone()
    }

    pub fn undelivered(&self) -> Option<Undelivered> {
        self.state().undelivered.clone()
    }

    /// Counts messages that are about to be sent under a tag.
    pub fn sending(&self, tag: usize, messages: usize) {
        if messages > 0 {
            *self.state().on_their_way.entry(tag).or_default() += messages;
        }
    }

    /// Takes back what `sending` counted and was not taken.
    pub fn not_sent(&self, tag: usize, messages: usize) {
        let mut state = self.state();
        if let Some(count) = state.on_their_way.get_mut(&tag) {
            *count -= messages.min(*count);
            if *count == 0 {
                state.on_their_way.remove(&tag);
            }
        }
    }

    /// The lowest tag whose messages are not all delivered.
    pub fn oldest(&self) -> Option<usize> {
        self.state().on_their_way.keys().next().copied()
    }

    fn on_error(&self, code: Code, text: String) {
        let mut state = self.state();
        state.troubles += 1;
        match code {
            Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN => {
                if !std::mem::replace(&mut state.is_down, true) {
                    let why = state.trouble.as_ref().map_or(text, |t| t.text.clone());
                    tracing::warn!("{}: kafka at {} cannot be reached, trying on: {why}", self.of, self.servers);
                }
            }
            _ => {
                tracing::debug!("{}: {text}", self.of);
                // Wrong credentials say more than the connection that is lost by them.
                let is_access =
                    |c: Code| matches!(c, Code::RD_KAFKA_RESP_ERR__AUTHENTICATION | Code::RD_KAFKA_RESP_ERR__SSL);
                if is_access(code) || !state.trouble.as_ref().is_some_and(|t| is_access(t.code)) {
                    state.trouble = Some(Failure::new(code, text));
                }
            }
        }
    }
}

unsafe extern "C" fn on_error(_: *mut sys::rd_kafka_t, code: c_int, text: *const c_char, opaque: *mut c_void) {
    // SAFETY: the opaque pointer is the client's `Heard`, which outlives the client.
    let heard = unsafe { &*opaque.cast::<Heard>() };
    heard.on_error(code_of(code), text_of(text));
}

unsafe extern "C" fn on_log(rk: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, text: *const c_char) {
    let (facility, text) = (text_of(facility), text_of(text));
    // The only word that librdkafka has for a topic that was deleted and made anew; it comes before the first message of
    // the new topic, from the thread that will ask for it.
    if facility == "METADATA" && text.contains(" changed id from ") && !text.contains(NO_TOPIC_ID) && !rk.is_null() {
        // SAFETY: as in `on_error`.
        let heard = unsafe { sys::rd_kafka_opaque(rk).cast::<Heard>().as_ref() };
        if let Some(heard) = heard {
            heard.state().topic_changed.get_or_insert_with(|| text.clone());
        }
    }
    match level {
        // What is worth a warning comes through `on_error` too, once and not with every attempt.
        0..=6 => tracing::debug!("librdkafka: {facility}: {text}"),
        _ => tracing::trace!("librdkafka: {facility}: {text}"),
    }
}

unsafe extern "C" fn on_delivery(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: as in `on_error`; the message lives as long as the call.
    let (heard, message) = unsafe { (&*opaque.cast::<Heard>(), &*message) };
    let mut state = heard.state();
    let tag = message._private as usize;
    if let Some(count) = state.on_their_way.get_mut(&tag) {
        *count -= 1;
        if *count == 0 {
            state.on_their_way.remove(&tag);
        }
    }
    if message.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR && state.undelivered.is_none() {
        // SAFETY: the key has this many bytes.
        let key = (!message.key.is_null())
            .then(|| unsafe { std::slice::from_raw_parts(message.key.cast::<u8>(), message.key_len) }.to_vec());
        state.undelivered = Some(Undelivered { code: message.err, partition: message.partition, key });
    }
}

fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka gives texts that end with zero and live as long as the call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

/// The codes of error callbacks that mean something here.
fn code_of(code: c_int) -> Code {
    [
        Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
        Code::RD_KAFKA_RESP_ERR__AUTHENTICATION,
        Code::RD_KAFKA_RESP_ERR__SSL,
        Code::RD_KAFKA_RESP_ERR__RESOLVE,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
        Code::RD_KAFKA_RESP_ERR__FATAL,
        Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
    ]
    .into_iter()
    .find(|c| *c as c_int == code)
    .unwrap_or(Code::RD_KAFKA_RESP_ERR__TRANSPORT)
}

pub fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::option(format!("'{}' holds a zero byte", text.escape_default())))
}

/// A `rd_kafka_t`.
pub struct Client {
    rk: NonNull<sys::rd_kafka_t>,
    heard: Arc<Heard>,
}

// SAFETY: librdkafka's handles may be used by any thread, and by several at once.
unsafe impl Send for Client {}
unsafe impl Sync for Client {}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: nothing else uses the handle; queues and messages that borrow from it are gone before. A consumer here
        // is no member of a group, so there is nothing to leave.
        unsafe { sys::rd_kafka_destroy_flags(self.rk.as_ptr(), sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) };
    }
}

/// A setting of `rd_kafka_conf_t` or why it is not one. The value is not in the message if the name tells of a secret.
fn set(conf: *mut sys::rd_kafka_conf_t, name: &str, value: &str) -> Result<(), String> {
    let mut text = [0 as c_char; ERROR_TEXT_BYTES];
    let (Ok(c_name), Ok(c_value)) = (CString::new(name), CString::new(value)) else {
        return Err(format!("'{}' holds a zero byte", name.escape_default()));
    };
    // SAFETY: all pointers are valid for the call.
    let result =
        unsafe { sys::rd_kafka_conf_set(conf, c_name.as_ptr(), c_value.as_ptr(), text.as_mut_ptr(), text.len()) };
    if result == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK { Ok(()) } else { Err(text_of(text.as_ptr())) }
}

/// Whether librdkafka knows a setting and takes the value; its words if not.
pub fn check_setting(name: &str, value: &str) -> Result<(), String> {
    // SAFETY: made and destroyed here.
    unsafe {
        let conf = sys::rd_kafka_conf_new();
        let result = set(conf, name, value);
        sys::rd_kafka_conf_destroy(conf);
        result
    }
}

impl Client {
    /// `of`: for messages, `table orders`. Does not wait for a connection.
    pub fn new(kind: Kind, settings: &Settings, of: &str) -> Result<Self> {
        let servers = settings.get("bootstrap.servers").cloned().unwrap_or_default();
        let heard = Arc::new(Heard { of: of.to_owned(), servers, state: Mutex::default() });
        let mut text = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: `rd_kafka_new` takes the configuration over only if it succeeds. `heard` is at the same place as long as
        // an Arc of it lives, which the client holds.
        let rk = unsafe {
            let conf = sys::rd_kafka_conf_new();
            for (name, value) in settings {
                if let Err(why) = set(conf, name, value) {
                    sys::rd_kafka_conf_destroy(conf);
                    return Err(Error::option(format!("{of}: {why}")));
                }
            }
            sys::rd_kafka_conf_set_opaque(conf, Arc::as_ptr(&heard).cast_mut().cast());
            sys::rd_kafka_conf_set_error_cb(conf, Some(on_error));
            sys::rd_kafka_conf_set_log_cb(conf, Some(on_log));
            let kind = match kind {
                Kind::Consumer => sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                Kind::Producer => {
                    sys::rd_kafka_conf_set_dr_msg_cb(conf, Some(on_delivery));
                    sys::rd_kafka_type_t::RD_KAFKA_PRODUCER
                }
            };
            let rk = sys::rd_kafka_new(kind, conf, text.as_mut_ptr(), text.len());
            if rk.is_null() {
                sys::rd_kafka_conf_destroy(conf);
            }
            rk
        };
        let rk = NonNull::new(rk).ok_or_else(|| Error::option(format!("{of}: {}", text_of(text.as_ptr()))))?;
        Ok(Client { rk, heard })
    }

    pub fn rk(&self) -> *mut sys::rd_kafka_t {
        self.rk.as_ptr()
    }

    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Serves what librdkafka wants to say: errors, deliveries.
    pub fn poll(&self, wait: Duration) {
        // SAFETY: the handle is valid.
        unsafe { sys::rd_kafka_poll(self.rk(), millis(wait)) };
    }

    /// Makes a call that may wait for a broker that is away; what librdkafka has to say of it meanwhile is served.
    pub fn serving<T>(&self, call: impl FnOnce() -> T) -> T {
        /// Ends the other thread, also if the call panics.
        struct End<'a>(&'a Mutex<bool>, &'a Condvar);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                self.1.notify_one();
            }
        }
        let (done, wake) = (Mutex::new(false), Condvar::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut is_done = done.lock().unwrap_or_else(PoisonError::into_inner);
                while !*is_done {
                    is_done = wake.wait_timeout(is_done, STEP).unwrap_or_else(PoisonError::into_inner).0;
                    self.poll(Duration::ZERO);
                }
            });
            let _end = End(&done, &wake);
            call()
        })
    }

    /// Whether a broker answers within this time.
    pub fn is_answered(&self, wait: Duration) -> bool {
        let mut metadata = ptr::null();
        // SAFETY: the handle is valid; what is found is destroyed.
        unsafe {
            let code = sys::rd_kafka_metadata(self.rk(), 0, ptr::null_mut(), &mut metadata, millis(wait));
            let answered = code == Code::RD_KAFKA_RESP_ERR_NO_ERROR;
            if answered {
                sys::rd_kafka_metadata_destroy(metadata);
            }
            answered
        }
    }

    /// What a failed call means, with what is known of the connection if that is why.
    pub fn failure(&self, failure: Failure) -> Failure {
        match failure.code {
            Code::RD_KAFKA_RESP_ERR__TIMED_OUT
            | Code::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
            | Code::RD_KAFKA_RESP_ERR__TRANSPORT
            | Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN => self.heard.trouble().unwrap_or(failure),
            _ => failure,
        }
    }

    /// Waits for the answer of an admin request on its own queue.
    fn answer(&self, queue: &Queue, deadline: Instant) -> Result<Event, Failure> {
        loop {
            self.poll(Duration::ZERO);
            let left = deadline.saturating_duration_since(Instant::now());
            // SAFETY: queue and handle are valid.
            let event = unsafe { sys::rd_kafka_queue_poll(queue.0.as_ptr(), millis(left.min(STEP))) };
            if let Some(event) = NonNull::new(event) {
                let event = Event(event);
                // SAFETY: the event is valid.
                let (code, text) = unsafe {
                    (sys::rd_kafka_event_error(event.0.as_ptr()), sys::rd_kafka_event_error_string(event.0.as_ptr()))
                };
                if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    let text = text_of(text);
                    let text = if text.is_empty() { describe(code) } else { text };
                    return Err(self.failure(Failure::new(code, text)));
                }
                self.heard.works();
                return Ok(event);
            }
            if let Some(trouble) = self.heard.trouble()
                && matches!(trouble.code, Code::RD_KAFKA_RESP_ERR__AUTHENTICATION | Code::RD_KAFKA_RESP_ERR__SSL)
            {
                return Err(trouble);
            }
            if left.is_zero() {
                return Err(self.failure(Failure::of(Code::RD_KAFKA_RESP_ERR__TIMED_OUT)));
            }
        }
    }

    /// What the cluster says of topics.
    pub fn topics(&self, names: &[String], wait: Duration) -> Result<Vec<Topic>, Failure> {
        let deadline = Instant::now() + wait;
        let invalid = |e: Error| Failure::new(Code::RD_KAFKA_RESP_ERR__INVALID_ARG, e.to_string());
        let c_names = names.iter().map(|n| c_string(n)).collect::<Result<Vec<_>>>().map_err(invalid)?;
        let mut pointers: Vec<*const c_char> = c_names.iter().map(|n| n.as_ptr()).collect();
        let queue = Queue::new(self);
        // SAFETY: the collection copies the names; options and collection are destroyed after the call, which copies them;
        // what the event gives lives as long as the event.
        unsafe {
            let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let options = self.options(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, wait);
            let error = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !error.is_null() {
                sys::rd_kafka_error_destroy(error);
            }
            sys::rd_kafka_DescribeTopics(self.rk(), collection, options, queue.0.as_ptr());
            sys::rd_kafka_TopicCollection_destroy(collection);
            sys::rd_kafka_AdminOptions_destroy(options);
            let event = self.answer(&queue, deadline)?;
            let result = sys::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
            if result.is_null() {
                return Err(Failure::of(Code::RD_KAFKA_RESP_ERR__BAD_MSG));
            }
            let mut count = 0;
            let described = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            Ok(slice(described, count).iter().map(|t| Topic::of(*t)).collect())
        }
    }

    unsafe fn options(&self, operation: sys::rd_kafka_admin_op_t, wait: Duration) -> *mut sys::rd_kafka_AdminOptions_t {
        let mut text = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: the handle is valid. A time-out out of librdkafka's range leaves its default, which `answer` cuts short.
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(self.rk(), operation);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, millis(wait), text.as_mut_ptr(), text.len());
            options
        }
    }

    /// The settings of a topic that are in force.
    pub fn topic_settings(&self, topic: &str, wait: Duration) -> Result<Settings, Failure> {
        let deadline = Instant::now() + wait;
        let name = c_string(topic).map_err(|e| Failure::new(Code::RD_KAFKA_RESP_ERR__INVALID_ARG, e.to_string()))?;
        let queue = Queue::new(self);
        // SAFETY: as in `topics`.
        unsafe {
            let mut resource =
                sys::rd_kafka_ConfigResource_new(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name.as_ptr());
            let options = self.options(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, wait);
            sys::rd_kafka_DescribeConfigs(self.rk(), &mut resource, 1, options, queue.0.as_ptr());
            sys::rd_kafka_ConfigResource_destroy(resource);
            sys::rd_kafka_AdminOptions_destroy(options);
            let event = self.answer(&queue, deadline)?;
            let result = sys::rd_kafka_event_DescribeConfigs_result(event.0.as_ptr());
            if result.is_null() {
                return Err(Failure::of(Code::RD_KAFKA_RESP_ERR__BAD_MSG));
            }
            let mut count = 0;
            let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
            let mut settings = Settings::new();
            for resource in slice(resources, count) {
                let code = sys::rd_kafka_ConfigResource_error(*resource);
                if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return Err(Failure::of(code));
                }
                let mut count = 0;
                let entries = sys::rd_kafka_ConfigResource_configs(*resource, &mut count);
                for entry in slice(entries, count) {
                    let (name, value) =
                        (sys::rd_kafka_ConfigEntry_name(*entry), sys::rd_kafka_ConfigEntry_value(*entry));
                    settings.insert(text_of(name), text_of(value));
                }
            }
            Ok(settings)
        }
    }

    /// Offsets by `EARLIEST`, `LATEST` or a time in ms; for a time behind all messages: -1.
    pub fn offsets(&self, wanted: &[(&str, i32, i64)], sees: Sees, wait: Duration) -> Result<Vec<i64>, Failure> {
        if wanted.is_empty() {
            return Ok(vec![]);
        }
        let deadline = Instant::now() + wait;
        let mut list = Partitions::new();
        for (topic, partition, spec) in wanted {
            list.add(topic, *partition, *spec, None)?;
        }
        let queue = Queue::new(self);
        // SAFETY: as in `topics`.
        unsafe {
            let options = self.options(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, wait);
            let level = match sees {
                Sees::Committed => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
                Sees::All => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
            };
            let error = sys::rd_kafka_AdminOptions_set_isolation_level(options, level);
            if !error.is_null() {
                sys::rd_kafka_error_destroy(error);
            }
            sys::rd_kafka_ListOffsets(self.rk(), list.0.as_ptr(), options, queue.0.as_ptr());
            sys::rd_kafka_AdminOptions_destroy(options);
            let event = self.answer(&queue, deadline)?;
            let result = sys::rd_kafka_event_ListOffsets_result(event.0.as_ptr());
            if result.is_null() {
                return Err(Failure::of(Code::RD_KAFKA_RESP_ERR__BAD_MSG));
            }
            let mut count = 0;
            let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
            let mut found = BTreeMap::new();
            for info in slice(infos, count) {
                let p = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*info);
                let topic = text_of(p.topic);
                if p.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return Err(Failure::new(p.err, format!("{topic}-{}: {}", p.partition, describe(p.err))));
                }
                found.insert((topic, p.partition), p.offset);
            }
            let of = |(topic, partition, _): &(&str, i32, i64)| {
                found.get(&((*topic).to_owned(), *partition)).copied().ok_or_else(|| {
                    Failure::new(
                        Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
                        format!("{topic}-{partition} was left out"),
                    )
                })
            };
            wanted.iter().map(of).collect()
        }
    }

    /// What the client's group has committed: offset (`None`: nothing) and metadata. A consumer's call.
    pub fn committed(&self, wanted: &[(&str, i32)], wait: Duration) -> Result<Vec<Option<(i64, String)>>, Failure> {
        let deadline = Instant::now() + wait;
        let mut list = Partitions::new();
        for (topic, partition) in wanted {
            list.add(topic, *partition, INVALID_OFFSET, None)?;
        }
        // SAFETY: the handle is valid.
        let refused = NonNull::new(unsafe { sys::rd_kafka_queue_get_consumer(self.rk()) }).map(Queue);
        loop {
            self.poll(Duration::ZERO);
            // A right that lacks is said to the group's members only; whoever asks for offsets is left waiting.
            if let Some(failure) = refused.as_ref().and_then(Queue::refusal) {
                return Err(failure);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // SAFETY: handle and list are valid.
            let code =
                unsafe { sys::rd_kafka_committed(self.rk(), list.0.as_ptr(), millis(left.clamp(STEP, STEP * 40))) };
            let first_bad = list.get().iter().map(|p| p.err).find(|c| *c != Code::RD_KAFKA_RESP_ERR_NO_ERROR);
            let code = if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { first_bad.unwrap_or(code) } else { code };
            if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                self.heard.works();
                return Ok(list.get().iter().map(committed_of).collect());
            }
            let failure = self.failure(Failure::of(code));
            if failure.class() != crate::errors::Class::Retriable || left.is_zero() {
                return Err(failure);
            }
            std::thread::sleep(STEP.min(left));
        }
    }
}

pub const EARLIEST: i64 = -2;
pub const LATEST: i64 = -1;
pub const INVALID_OFFSET: i64 = -1001;

pub fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
}

fn committed_of(p: &sys::rd_kafka_topic_partition_t) -> Option<(i64, String)> {
    if p.offset < 0 {
        return None;
    }
    let metadata = if p.metadata.is_null() {
        String::new()
    } else {
        // SAFETY: the metadata has this many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(p.metadata.cast::<u8>(), p.metadata_size) };
        String::from_utf8_lossy(bytes).into_owned()
    };
    Some((p.offset, metadata))
}

/// What librdkafka gives as an array.
///
/// # Safety
/// `first` points to `count` elements that live as long as `'a`, or `count` is 0.
unsafe fn slice<'a, T>(first: *mut T, count: usize) -> &'a [T] {
    // SAFETY: the caller's word.
    if first.is_null() || count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(first, count) } }
}

/// A topic, as a cluster describes it.
#[derive(Debug, Clone)]
pub struct Topic {
    pub name: String,
    /// As text; `None`: the broker gives none.
    pub id: Option<String>,
    /// Ascending.
    pub partitions: Vec<i32>,
    pub error: Option<Failure>,
    /// `None`: the broker does not say.
    pub may_read: Option<bool>,
    pub may_write: Option<bool>,
}

impl Topic {
    /// # Safety
    /// The description is valid for the call.
    unsafe fn of(t: *const sys::rd_kafka_TopicDescription_t) -> Self {
        use sys::rd_kafka_AclOperation_t as Acl;
        // SAFETY: all of it belongs to the description.
        unsafe {
            let error = sys::rd_kafka_TopicDescription_error(t);
            let error = (!error.is_null() && sys::rd_kafka_error_code(error) != Code::RD_KAFKA_RESP_ERR_NO_ERROR)
                .then(|| Failure::of(sys::rd_kafka_error_code(error)));
            let mut count = 0;
            let partitions = sys::rd_kafka_TopicDescription_partitions(t, &mut count);
            let mut partitions: Vec<i32> =
                slice(partitions, count).iter().map(|p| sys::rd_kafka_TopicPartitionInfo_partition(*p)).collect();
            partitions.sort_unstable();
            let id = sys::rd_kafka_TopicDescription_topic_id(t);
            let is_none = id.is_null()
                || (sys::rd_kafka_Uuid_most_significant_bits(id) == 0
                    && sys::rd_kafka_Uuid_least_significant_bits(id) == 0);
            let id = (!is_none).then(|| text_of(sys::rd_kafka_Uuid_base64str(id)));
            let mut count = 0;
            let operations = sys::rd_kafka_TopicDescription_authorized_operations(t, &mut count);
            let operations = slice(operations.cast_mut(), count);
            let may = |o: Acl| {
                (!operations.is_empty())
                    .then(|| operations.contains(&o) || operations.contains(&Acl::RD_KAFKA_ACL_OPERATION_ALL))
            };
            Topic {
                name: text_of(sys::rd_kafka_TopicDescription_name(t)),
                id,
                partitions,
                error,
                may_read: may(Acl::RD_KAFKA_ACL_OPERATION_READ),
                may_write: may(Acl::RD_KAFKA_ACL_OPERATION_WRITE),
            }
        }
    }
}

/// A queue of the client's.
pub struct Queue(pub NonNull<sys::rd_kafka_queue_t>);

// SAFETY: as for `Client`.
unsafe impl Send for Queue {}

impl Queue {
    fn new(client: &Client) -> Self {
        // SAFETY: the handle is valid; allocation does not fail.
        Queue(NonNull::new(unsafe { sys::rd_kafka_queue_new(client.rk()) }).expect("a queue can always be made"))
    }

    /// A right that lacks, if the next event says so.
    fn refusal(&self) -> Option<Failure> {
        // SAFETY: the queue is valid.
        let event = Event(NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.0.as_ptr(), 0) })?);
        // SAFETY: the event is valid.
        let (code, text) = unsafe {
            (sys::rd_kafka_event_error(event.0.as_ptr()), sys::rd_kafka_event_error_string(event.0.as_ptr()))
        };
        (code == Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED).then(|| Failure::new(code, text_of(text)))
    }

    /// Where all messages of a consumer come, and all else that is to be served. `None`: it has no group.
    pub fn of_consumer(client: &Client) -> Option<Self> {
        // SAFETY: the handle is valid.
        unsafe {
            sys::rd_kafka_poll_set_consumer(client.rk());
            NonNull::new(sys::rd_kafka_queue_get_consumer(client.rk())).map(Queue)
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by this type, destroyed once.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

struct Event(NonNull<sys::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// A list of partitions with offsets.
pub struct Partitions(pub NonNull<sys::rd_kafka_topic_partition_list_t>);

// SAFETY: plain memory.
unsafe impl Send for Partitions {}

impl Default for Partitions {
    fn default() -> Self {
        Self::new()
    }
}

impl Partitions {
    pub fn new() -> Self {
        // SAFETY: allocation does not fail.
        Partitions(
            NonNull::new(unsafe { sys::rd_kafka_topic_partition_list_new(4) }).expect("a list can always be made"),
        )
    }

    /// `metadata` goes with a committed offset.
    pub fn add(&mut self, topic: &str, partition: i32, offset: i64, metadata: Option<&str>) -> Result<(), Failure> {
        let topic = c_string(topic).map_err(|e| Failure::new(Code::RD_KAFKA_RESP_ERR__INVALID_ARG, e.to_string()))?;
        // SAFETY: the list copies the topic. It frees the metadata itself, so that is made with librdkafka's allocator.
        unsafe {
            let p = &mut *sys::rd_kafka_topic_partition_list_add(self.0.as_ptr(), topic.as_ptr(), partition);
            p.offset = offset;
            if let Some(metadata) = metadata {
                let copy = sys::rd_kafka_mem_calloc(ptr::null_mut(), 1, metadata.len().max(1));
                if copy.is_null() {
                    return Err(Failure::new(Code::RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE, "out of memory"));
                }
                ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len());
                p.metadata = copy;
                p.metadata_size = metadata.len();
            }
        }
        Ok(())
    }

    pub fn get(&self) -> &[sys::rd_kafka_topic_partition_t] {
        // SAFETY: the list owns its elements and is borrowed.
        unsafe {
            let list = self.0.as_ref();
            slice(list.elems, usize::try_from(list.cnt).unwrap_or(0))
        }
    }
}

impl Drop for Partitions {
    fn drop(&mut self) {
        // SAFETY: made by this type, destroyed once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0.as_ptr()) }
    }
}

/// An error object of librdkafka's, taken over.
///
/// # Safety
/// `error` is null or an error that nobody else destroys.
pub unsafe fn take_error(error: *mut sys::rd_kafka_error_t) -> Option<TakenError> {
    let error = NonNull::new(error)?;
    // SAFETY: the caller's word.
    unsafe {
        let e = error.as_ptr();
        let taken = TakenError {
            failure: Failure::new(sys::rd_kafka_error_code(e), text_of(sys::rd_kafka_error_string(e))),
            is_retriable: sys::rd_kafka_error_is_retriable(e) != 0,
            is_fatal: sys::rd_kafka_error_is_fatal(e) != 0,
        };
        sys::rd_kafka_error_destroy(e);
        Some(taken)
    }
}

/// What a transactional call says.
#[derive(Debug, Clone)]
pub struct TakenError {
    pub failure: Failure,
    pub is_retriable: bool,
    pub is_fatal: bool,
}
