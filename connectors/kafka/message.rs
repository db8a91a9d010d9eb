//! One message, as it lies in librdkafka's memory.

use std::ffi::{CStr, c_void};
use std::ptr;

use rdkafka::bindings as sys;
use sys::rd_kafka_resp_err_t as Code;
use sys::rd_kafka_timestamp_type_t as TimestampType;
use thalweg_core::{Error, Result};

/// Borrows a message; nothing of it is copied.
pub struct Message<'a>(&'a sys::rd_kafka_message_t);

impl<'a> Message<'a> {
    pub fn code(&self) -> Code {
        self.0.err
    }

    pub fn partition(&self) -> i32 {
        self.0.partition
    }

    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Tells topics apart as long as the client lives; null: not about a topic.
    pub fn topic_handle(&self) -> *mut sys::rd_kafka_topic_t {
        self.0.rkt
    }

    pub fn topic(&self) -> String {
        if self.0.rkt.is_null() {
            return String::new();
        }
        // SAFETY: the topic lives as long as the message.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.0.rkt)) }.to_string_lossy().into_owned()
    }

    pub fn value(&self) -> Option<&'a [u8]> {
        bytes(self.0.payload, self.0.len)
    }

    pub fn key(&self) -> Option<&'a [u8]> {
        bytes(self.0.key, self.0.key_len)
    }

    /// Of a message with an error: librdkafka's words.
    pub fn error_text(&self) -> String {
        self.value().map_or_else(|| crate::errors::describe(self.code()), |t| String::from_utf8_lossy(t).into_owned())
    }

    /// In ms since 1970, if there is one, and of which kind, in Flink's words.
    pub fn timestamp(&self) -> (Option<i64>, &'static str) {
        let mut kind = TimestampType::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid.
        let ms = unsafe { sys::rd_kafka_message_timestamp(self.0, &mut kind) };
        let kind = match kind {
            TimestampType::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => return (None, "NoTimestampType"),
            TimestampType::RD_KAFKA_TIMESTAMP_CREATE_TIME => "CreateTime",
            TimestampType::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => "LogAppendTime",
        };
        (Some(ms), kind)
    }

    pub fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is valid.
        let epoch = unsafe { sys::rd_kafka_message_leader_epoch(self.0) };
        (epoch >= 0).then_some(epoch)
    }

    /// In the order in which they stand in the message.
    pub fn headers(&self) -> Result<Vec<(String, Option<Vec<u8>>)>> {
        let mut headers = ptr::null_mut();
        let mut all = vec![];
        // SAFETY: what is given lives as long as the message, and is copied here.
        unsafe {
            match sys::rd_kafka_message_headers(self.0, &mut headers) {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                Code::RD_KAFKA_RESP_ERR__NOENT => return Ok(all),
                code => {
                    let why = crate::errors::describe(code);
                    return Err(Error::row(format!("the message's headers cannot be read: {why}")));
                }
            }
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            while sys::rd_kafka_header_get_all(headers, all.len(), &mut name, &mut value, &mut size)
                == Code::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                let name = CStr::from_ptr(name).to_string_lossy().into_owned();
                all.push((name, bytes(value, size).map(<[u8]>::to_vec)));
            }
        }
        Ok(all)
    }
}

fn bytes<'a>(first: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: librdkafka's pointers and lengths belong together and live as long as the message.
    (!first.is_null()).then(|| unsafe { std::slice::from_raw_parts(first.cast::<u8>(), length) })
}

/// Messages that a consumer has given, destroyed when they are dropped.
pub struct Batch {
    messages: Vec<*mut sys::rd_kafka_message_t>,
    len: usize,
}

// SAFETY: messages may be read and destroyed by any thread.
unsafe impl Send for Batch {}

impl Batch {
    pub fn new(size_max: usize) -> Self {
        Batch { messages: vec![ptr::null_mut(); size_max.max(1)], len: 0 }
    }

    /// Fills the batch with what is there. If nothing is, waits for the first message.
    pub fn fill(&mut self, queue: &crate::client::Queue, wait_ms: i32) {
        self.clear();
        self.add(queue, 0, self.messages.len());
        if self.len == 0 {
            // A call for many messages would wait until it has so many.
            self.add(queue, wait_ms, 1);
            if self.len > 0 {
                self.add(queue, 0, self.messages.len() - self.len);
            }
        }
    }

    fn add(&mut self, queue: &crate::client::Queue, wait_ms: i32, count: usize) {
        let free = &mut self.messages[self.len..];
        let count = count.min(free.len());
        // SAFETY: there is room for so many pointers; the messages belong to the batch from now on.
        let got = unsafe { sys::rd_kafka_consume_batch_queue(queue.0.as_ptr(), wait_ms, free.as_mut_ptr(), count) };
        self.len += usize::try_from(got).unwrap_or(0);
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, i: usize) -> Message<'_> {
        assert!(i < self.len);
        // SAFETY: below `len` are messages that were given and are not destroyed.
        Message(unsafe { &*self.messages[i] })
    }

    pub fn clear(&mut self) {
        for message in &self.messages[..std::mem::take(&mut self.len)] {
            // SAFETY: each is destroyed once.
            unsafe { sys::rd_kafka_message_destroy(*message) };
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}
