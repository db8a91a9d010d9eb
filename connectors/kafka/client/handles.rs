//! librdkafka's objects and texts, owned.

use std::ffi::{CStr, c_char};
use std::ptr::{self, NonNull};

use rdkafka::bindings as sys;
use sys::rd_kafka_resp_err_t as Code;

use super::{Client, c_string};
use crate::errors::Failure;

/// An offset that is none.
pub const INVALID_OFFSET: i64 = -1001;

pub fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka gives texts that end with zero and live as long as the call.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

/// What librdkafka gives as an array.
///
/// # Safety
/// `first` points to `count` elements that live as long as `'a`, or `count` is 0.
pub unsafe fn slice<'a, T>(first: *mut T, count: usize) -> &'a [T] {
    // SAFETY: the caller's word.
    if first.is_null() || count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(first, count) } }
}

/// A queue of the client's.
pub struct Queue(pub NonNull<sys::rd_kafka_queue_t>);

// SAFETY: as for `Client`.
unsafe impl Send for Queue {}

impl Queue {
    pub fn new(client: &Client) -> Self {
        // SAFETY: the handle is valid; allocation does not fail.
        Queue(NonNull::new(unsafe { sys::rd_kafka_queue_new(client.rk()) }).expect("a queue can always be made"))
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

/// What librdkafka answers on a queue.
pub struct Event(pub NonNull<sys::rd_kafka_event_t>);

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
