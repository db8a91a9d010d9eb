//! librdkafka, as far as it is needed here, behind a safe face. All calls that wait are for threads that may wait.
//!
//! rdkafka's own consumers and producers are not used: they make an event, and a lock, of every message; here messages
//! come and go in batches.

mod admin;
mod committed;
mod handles;
mod heard;

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;
use sys::rd_kafka_resp_err_t as Code;
use thalweg_core::{Error, Result};

pub use self::admin::{EARLIEST, LATEST, Sees, Topic};
use self::handles::text_of;
pub use self::handles::{INVALID_OFFSET, Partitions, Queue, TakenError, take_error};
use self::heard::Heard;
use crate::errors::Failure;

/// How long a wait is at most before it is looked whether it still makes sense.
const STEP: Duration = Duration::from_millis(50);
const ERROR_TEXT_BYTES: usize = 512;

/// Settings by librdkafka's names.
pub type Settings = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Consumer,
    Producer,
}

pub fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::option(format!("'{}' holds a zero byte", text.escape_default())))
}

pub fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
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

/// Names of librdkafka's settings, but for those that are another name of one.
pub fn setting_names() -> Vec<String> {
    let mut count = 0;
    // SAFETY: made and destroyed here; the list has `count` strings, names and values in turn.
    unsafe {
        let conf = sys::rd_kafka_conf_new();
        let list = sys::rd_kafka_conf_dump(conf, &mut count);
        let names = (0..count).step_by(2).map(|i| text_of(*list.add(i))).collect();
        sys::rd_kafka_conf_dump_free(list, count);
        sys::rd_kafka_conf_destroy(conf);
        names
    }
}

impl Client {
    /// `of`: for messages, `table orders`. Does not wait for a connection.
    pub fn new(kind: Kind, settings: &Settings, of: &str) -> Result<Self> {
        let servers = settings.get("bootstrap.servers").cloned().unwrap_or_default();
        let heard = Arc::new(Heard::new(of, servers));
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
            sys::rd_kafka_conf_set_error_cb(conf, Some(heard::on_error));
            sys::rd_kafka_conf_set_log_cb(conf, Some(heard::on_log));
            let kind = match kind {
                Kind::Consumer => sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
                Kind::Producer => {
                    sys::rd_kafka_conf_set_dr_msg_cb(conf, Some(heard::on_delivery));
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
}
