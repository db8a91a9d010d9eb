//! Topics that must be there, as the cluster describes them.

use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use thalweg_core::{Error, Result};

use crate::client::{Client, Topic};
use crate::errors::{Class, Failure};
use crate::options::KafkaOptions;

/// For so long a broker that has just come up may not know of a topic.
pub const MISSING: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(100);

/// What is to be done with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Read,
    Write,
}

/// An error of a question to the cluster.
pub fn failed(options: &KafkaOptions, what: &str, failure: &Failure) -> Error {
    let servers = options.properties.settings.get("bootstrap.servers").map_or("", String::as_str);
    failure.to_error(&format!("{}: {what} (kafka at {servers})", options.of))
}

/// Describes the topics; all of them are there and may be used so. Waits for a topic that
/// nobody knows (`MISSING`) and for one that has no leader yet (`default.api.timeout.ms`).
pub fn look_up(client: &Client, options: &KafkaOptions, names: &[String], used: Use) -> Result<Vec<Topic>> {
    let began = Instant::now();
    let mut missing_since: Option<Instant> = None;
    // What a broker said of a topic just now says more than that there was no time for its next answer.
    let mut said: Option<(String, Failure)> = None;
    loop {
        let left = options.properties.api_timeout.saturating_sub(began.elapsed());
        let named = || names.join(", ");
        let found = client.topics(names, left).map_err(|f| match &said {
            Some((topic, failure)) if left <= RETRY => failed(options, &format!("topic {topic}"), failure),
            _ => failed(options, &format!("topic {} cannot be looked up", named()), &f),
        })?;
        if found.len() != names.len() {
            return Err(Error::internal(format!("{}: no answer about topic {}", options.of, named())).transient());
        }
        let Some((topic, failure)) = found.iter().find_map(|t| Some((t, t.error.as_ref()?))) else {
            let (verb, may): (_, fn(&Topic) -> Option<bool>) = match used {
                Use::Read => ("read", |t| t.may_read),
                Use::Write => ("written", |t| t.may_write),
            };
            if let Some(topic) = found.iter().find(|t| may(t) == Some(false)) {
                let failure = Failure::of(Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
                return Err(failed(options, &format!("topic {} may not be {verb}", topic.name), &failure));
            }
            return Ok(found);
        };
        let is_worth_waiting = if failure.code == Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART {
            missing_since.get_or_insert_with(Instant::now).elapsed() < MISSING
        } else {
            missing_since = None;
            failure.class() == Class::Retriable
        };
        if !is_worth_waiting || left.is_zero() {
            return Err(failed(options, &format!("topic {}", topic.name), failure));
        }
        said = Some((topic.name.clone(), failure.clone()));
        std::thread::sleep(RETRY.min(left));
    }
}
