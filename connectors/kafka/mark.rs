//! The mark of a sink in Kafka: a committed offset of a consumer group of the sink's own, in the same transaction as the
//! rows. The offset is the number of the last segment; its metadata names the job. The partition that it is committed for is the
//! first of the topic that is written; nobody reads by it.

use rdkafka::bindings as sys;
use thalweg_core::mark::{JobId, Mark};
use thalweg_core::{Error, Result};

use crate::client::{Client, Kind, Partitions, c_string};
use crate::errors::Failure;
use crate::options::KafkaOptions;
use crate::settings;

/// The partition that the mark's offset is committed for.
const PARTITION: i32 = 0;
/// What the metadata of a mark begins with.
const MAGIC: &str = "thalweg/1 job=";

/// The name of a sink at the cluster: its transactional id, and its consumer group.
pub fn name_of(options: &KafkaOptions, job: &JobId, topic: &str) -> String {
    format!("{}-{job}-{topic}", options.id_prefix)
}

/// Reads the mark as it is after all transactions that were begun before.
pub fn read(options: &KafkaOptions, name: &str, topic: &str) -> Result<Mark> {
    // As `read_committed`: only then does librdkafka ask for offsets of which no transaction is pending.
    let client = Client::new(Kind::Consumer, &settings::consumer(options, name), &options.of)?;
    let failed = |f: Failure| f.to_error(&format!("{}: the mark in group {name} cannot be read", options.of));
    let found = client.committed(&[(topic, PARTITION)], options.properties.api_timeout).map_err(failed)?;
    match found.into_iter().next().flatten() {
        None => Ok(Mark::Absent),
        Some((offset, metadata)) => parse(offset, &metadata).ok_or_else(|| {
            Error::checkpoint(format!(
                "{}: group {name} has offset {offset} with the metadata '{metadata}', which is no mark of Thalweg",
                options.of
            ))
            .note("somebody else commits to this group: set another 'sink.transactional-id-prefix'")
        }),
    }
}

fn parse(offset: i64, metadata: &str) -> Option<Mark> {
    let job = metadata.strip_prefix(MAGIC)?;
    Some(Mark::At { job: JobId(job.to_owned()), segment: u64::try_from(offset).ok()? })
}

/// What a transaction commits so that the mark is with its rows.
pub struct MarkOffset {
    pub offsets: Partitions,
    pub group: GroupMetadata,
}

impl MarkOffset {
    pub fn new(name: &str, topic: &str, job: &JobId, segment: u64) -> Result<Self> {
        let offset = i64::try_from(segment).map_err(|_| Error::internal("so many segments there cannot be"))?;
        let mut offsets = Partitions::new();
        offsets.add(topic, PARTITION, offset, Some(&format!("{MAGIC}{job}"))).map_err(|f| f.to_error("the mark"))?;
        let name = c_string(name)?;
        // SAFETY: the name is copied; allocation does not fail.
        let group = unsafe { sys::rd_kafka_consumer_group_metadata_new(name.as_ptr()) };
        Ok(MarkOffset { offsets, group: GroupMetadata(group) })
    }
}

/// The name of a group, in librdkafka's form.
pub struct GroupMetadata(pub *mut sys::rd_kafka_consumer_group_metadata_t);

// SAFETY: plain memory.
unsafe impl Send for GroupMetadata {}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: made by `MarkOffset::new`, destroyed once.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_job_and_segment() {
        let job = JobId("0123456789abcdef0123456789abcdef".to_owned());
        assert_eq!(parse(7, &format!("{MAGIC}{job}")), Some(Mark::At { job, segment: 7 }));
        assert_eq!(parse(7, ""), None);
        assert_eq!(parse(-1, MAGIC), None);
    }
}
