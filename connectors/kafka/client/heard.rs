//! What librdkafka says while it works, through its callbacks: trouble with connections, deliveries, topics made anew.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::bindings as sys;
use sys::rd_kafka_resp_err_t as Code;

use super::handles::text_of;
use crate::errors::Failure;

/// What a topic changes from when it is seen for the first time.
const NO_TOPIC_ID: &str = "changed id from AAAAAAAAAAAAAAAAAAAAAA to";

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
    /// A tag, and how many messages of it have arrived that `on_their_way` still counts: they come many at a time.
    arrived: (usize, usize),
}

impl HeardState {
    /// Messages of a tag are no longer on their way.
    fn settle(&mut self, tag: usize, messages: usize) {
        if let Some(count) = self.on_their_way.get_mut(&tag) {
            *count -= messages.min(*count);
            if *count == 0 {
                self.on_their_way.remove(&tag);
            }
        }
    }

    fn settle_arrived(&mut self) {
        let (tag, messages) = std::mem::take(&mut self.arrived);
        if messages > 0 {
            self.settle(tag, messages);
        }
    }
}

/// A message that the broker did not take.
#[derive(Debug, Clone)]
pub struct Undelivered {
    pub code: Code,
    pub partition: i32,
    pub key: Option<Vec<u8>>,
}

impl Heard {
    pub fn new(of: &str, servers: String) -> Self {
        Heard { of: of.to_owned(), servers, state: Mutex::default() }
    }

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
        self.state().settle(tag, messages);
    }

    /// The lowest tag whose messages are not all delivered.
    pub fn oldest(&self) -> Option<usize> {
        let mut state = self.state();
        state.settle_arrived();
        state.on_their_way.keys().next().copied()
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

pub unsafe extern "C" fn on_error(_: *mut sys::rd_kafka_t, code: c_int, text: *const c_char, opaque: *mut c_void) {
    // SAFETY: the opaque pointer is the client's `Heard`, which outlives the client.
    let heard = unsafe { &*opaque.cast::<Heard>() };
    heard.on_error(code_of(code), text_of(text));
}

pub unsafe extern "C" fn on_log(
    rk: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    text: *const c_char,
) {
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

pub unsafe extern "C" fn on_delivery(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: as in `on_error`; the message lives as long as the call.
    let (heard, message) = unsafe { (&*opaque.cast::<Heard>(), &*message) };
    let mut state = heard.state();
    let tag = message._private as usize;
    if state.arrived.0 != tag {
        state.settle_arrived();
        state.arrived.0 = tag;
    }
    state.arrived.1 += 1;
    if message.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR && state.undelivered.is_none() {
        // SAFETY: the key has this many bytes.
        let key = (!message.key.is_null())
            .then(|| unsafe { std::slice::from_raw_parts(message.key.cast::<u8>(), message.key_len) }.to_vec());
        state.undelivered = Some(Undelivered { code: message.err, partition: message.partition, key });
    }
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
