//! What a consumer group has committed.

use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use sys::rd_kafka_resp_err_t as Code;

use super::handles::{Event, text_of};
use super::{Client, INVALID_OFFSET, Partitions, Queue, STEP, millis};
use crate::errors::{Class, Failure};

impl Client {
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
            if failure.class() != Class::Retriable || left.is_zero() {
                return Err(failure);
            }
            std::thread::sleep(STEP.min(left));
        }
    }
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

impl Queue {
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
}
