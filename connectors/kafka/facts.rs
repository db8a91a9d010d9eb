//! What encoders must know of the topic that is written, and what must stay as it was at the first start.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use thalweg_core::{Error, Result};

use crate::client::{Client, Settings, Topic};
use crate::errors::Class;
use crate::options::KafkaOptions;
use crate::topics::{Use, failed, look_up};

/// What a broker takes if nothing else is known (`message.max.bytes`).
const MESSAGE_BYTES_DEFAULT: u64 = 1_048_588;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicFacts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// Keys are spread over so many, also if the topic has grown since.
    pub partitions: NonZeroU32,
    /// Of a batch of messages, as the topic takes it.
    pub message_bytes_max: u64,
    /// Messages without key would be lost.
    pub compacted: bool,
    /// The broker sets timestamps itself.
    pub log_append_time: bool,
    /// How far a timestamp may lie behind, or ahead of, the broker's clock, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_before_max_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_after_max_ms: Option<i64>,
}

impl TopicFacts {
    /// Looks at the topic. `stored`: what was found at earlier starts.
    pub fn look(client: &Client, options: &KafkaOptions, stored: Option<&TopicFacts>) -> Result<Self> {
        let topic = options.sink_topic()?;
        let found = look_up(client, options, &[topic.to_owned()], Use::Write)?
            .pop()
            .ok_or_else(|| Error::internal(format!("no answer about topic {topic}")))?;
        let settings = match client.topic_settings(topic, options.properties.api_timeout) {
            Ok(settings) => settings,
            // Without the right to see them: the broker's defaults.
            Err(f) if matches!(f.class(), Class::Permanent(_)) => {
                tracing::info!(
                    "{}: the settings of topic {topic} cannot be seen ({}); defaults are assumed",
                    options.of,
                    f.text
                );
                Settings::new()
            }
            Err(f) => return Err(failed(options, &format!("the settings of topic {topic}"), &f)),
        };
        let now = Self::of(&found, &settings, options)?;
        match stored {
            Some(stored) => now.kept(stored, options, topic),
            None => Ok(now),
        }
    }

    fn of(topic: &Topic, settings: &Settings, options: &KafkaOptions) -> Result<Self> {
        let number = |name: &str| settings.get(name).and_then(|v| v.parse::<i64>().ok());
        let bytes = number("max.message.bytes").and_then(|n| u64::try_from(n).ok()).unwrap_or(MESSAGE_BYTES_DEFAULT);
        // Some brokers say "no limit" by the largest number that there is.
        let limit = |name: &str| number(name).filter(|n| (0..i64::MAX).contains(n));
        let partitions = u32::try_from(topic.partitions.len()).ok().and_then(NonZeroU32::new);
        Ok(TopicFacts {
            topic_id: topic.id.clone(),
            partitions: partitions
                .ok_or_else(|| Error::io(format!("{}: topic {} has no partitions (yet)", options.of, topic.name)))?,
            message_bytes_max: options.properties.message_bytes_max.map_or(bytes, |b| b.min(bytes)),
            compacted: settings.get("cleanup.policy").is_some_and(|p| p.split(',').any(|p| p.trim() == "compact")),
            log_append_time: settings.get("message.timestamp.type").is_some_and(|t| t == "LogAppendTime"),
            timestamp_before_max_ms: limit("message.timestamp.before.max.ms")
                .or(limit("message.timestamp.difference.max.ms")),
            timestamp_after_max_ms: limit("message.timestamp.after.max.ms")
                .or(limit("message.timestamp.difference.max.ms")),
        })
    }

    /// What must stay of what was found at the first start.
    fn kept(self, stored: &TopicFacts, options: &KafkaOptions, topic: &str) -> Result<Self> {
        let of = &options.of;
        if let (Some(before), Some(now)) = (&stored.topic_id, &self.topic_id)
            && before != now
        {
            tracing::warn!(
                "{of}: topic {topic} was deleted and made anew since the last start (its id was {before}, and is {now})"
            );
        }
        // Also of a topic that was made anew: output that waits was staged for so many.
        if self.partitions < stored.partitions {
            return Err(Error::checkpoint(format!(
                "{of}: topic {topic} has {} partitions, and had {} when the job began",
                self.partitions, stored.partitions
            ))
            .note("make it again with as many, or begin anew with --fresh"));
        }
        if self.partitions > stored.partitions {
            tracing::warn!(
                "{of}: topic {topic} has grown from {} to {} partitions; keys stay in the first {0}, as a key must not change its partition (--fresh spreads them anew)",
                stored.partitions,
                self.partitions
            );
        }
        Ok(TopicFacts { partitions: stored.partitions, ..self })
    }
}

/// A topic that is written and is another one than when the job began.
pub fn made_anew(of: &str, topic: &str, before: &str, now: &str) -> Error {
    Error::checkpoint(format!(
        "{of}: topic {topic} was deleted and made anew while the job ran (its id was {before}, and is {now})"
    ))
    .permanent()
    .note("what it had is gone with the old one: begin anew with --fresh, which writes everything again")
}

#[cfg(test)]
mod tests {
    use thalweg_core::SqlType;

    use super::*;
    use crate::options::{Flavor, tests::table};

    fn options(given: &[(&str, &str)]) -> KafkaOptions {
        let needed = [("topic", "a"), ("properties.bootstrap.servers", "b:1"), ("format", "json")];
        let all: Vec<_> = needed.iter().chain(given).copied().collect();
        KafkaOptions::of(Flavor::Kafka, &table(&[("i", SqlType::Int)], &[], &all)).unwrap()
    }

    fn facts(partitions: i32, id: Option<&str>, settings: &[(&str, &str)], given: &[(&str, &str)]) -> TopicFacts {
        let topic = Topic {
            name: "a".to_owned(),
            id: id.map(str::to_owned),
            partitions: (0..partitions).collect(),
            error: None,
            may_read: None,
            may_write: None,
        };
        let settings = settings.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        TopicFacts::of(&topic, &settings, &options(given)).unwrap()
    }

    #[test]
    fn a_topics_settings_are_limits() {
        let found = facts(
            3,
            Some("x"),
            &[
                ("max.message.bytes", "5000"),
                ("cleanup.policy", "compact,delete"),
                ("message.timestamp.after.max.ms", "3600000"),
                ("message.timestamp.before.max.ms", "9223372036854775807"),
            ],
            &[],
        );
        assert_eq!((found.partitions.get(), found.message_bytes_max, found.compacted), (3, 5000, true));
        assert_eq!((found.timestamp_after_max_ms, found.timestamp_before_max_ms), (Some(3_600_000), None));
        let unseen = facts(1, None, &[], &[("properties.max.request.size", "1000000")]);
        assert_eq!((unseen.message_bytes_max, unseen.compacted), (1_000_000, false));
        let stored = serde_json::to_value(&found).unwrap();
        assert_eq!(serde_json::from_value::<TopicFacts>(stored).unwrap(), found);
    }

    #[test]
    fn a_topic_that_grows_keeps_its_keys_where_they_are() {
        let o = options(&[]);
        let of = |n, id| facts(n, Some(id), &[], &[]);
        assert_eq!(of(8, "x").kept(&of(4, "x"), &o, "a").unwrap().partitions.get(), 4);
        let e = |found: Result<TopicFacts>| found.unwrap_err().to_string();
        assert!(e(of(2, "x").kept(&of(4, "x"), &o, "a")).contains("has 2 partitions, and had 4"));
    }

    #[test]
    fn a_topic_made_anew_has_its_keys_where_the_old_one_had_them() {
        let o = options(&[]);
        let of = |n, id| facts(n, Some(id), &[], &[]);
        let kept = of(8, "new").kept(&of(4, "x"), &o, "a").unwrap();
        assert_eq!((kept.partitions.get(), kept.topic_id.as_deref()), (4, Some("new")));
        let e = of(2, "new").kept(&of(4, "x"), &o, "a").unwrap_err().to_string();
        assert!(e.contains("has 2 partitions, and had 4"), "{e}");
    }
}
