//! What a cluster says of its topics: partitions, settings, offsets.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use sys::rd_kafka_resp_err_t as Code;
use thalweg_core::{Error, Result};

use super::handles::{Event, slice, text_of};
use super::{Client, ERROR_TEXT_BYTES, Partitions, Queue, STEP, Settings, c_string, millis};
use crate::errors::{Failure, describe};

/// Instead of a time: the first offset of a partition.
pub const EARLIEST: i64 = -2;
/// Instead of a time: the end of a partition.
pub const LATEST: i64 = -1;

/// Where a partition ends for somebody who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// Before the first transaction that is open: what a `read_committed` consumer gets.
    Committed,
    /// Behind all messages (the high watermark).
    All,
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

impl Client {
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
}
