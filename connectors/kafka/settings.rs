//! The settings of the clients: the user's, and over them what the connector relies on.

use std::time::Duration;

use crate::client::Settings;
use crate::options::KafkaOptions;

/// Of a consumer's queue in memory, before the fetcher waits.
const AHEAD_KIB: &str = "32768";
const AHEAD_MESSAGES: &str = "100000";
/// Of messages that are sent and not confirmed.
const IN_FLIGHT_KIB: &str = "65536";
const IN_FLIGHT_MESSAGES: &str = "500000";
/// A broker's answer to a fetch, at most, unless one message is larger.
const FETCH_BYTES: &str = "16777216";
/// How soon a fetcher whose queue was full looks again, and how soon a call is tried again. librdkafka's defaults (1 s, 100 ms)
/// are most of the time that a small transaction takes.
const SOON_MS: &str = "5";

fn given(options: &KafkaOptions) -> Settings {
    let mut s = options.properties.settings.clone();
    let mut or = |name: &str, value: &str| {
        s.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    };
    or("client.id", "thalweg");
    or("socket.nagle.disable", "true");
    or("socket.keepalive.enable", "true");
    or("reconnect.backoff.max.ms", "2000");
    or("topic.metadata.refresh.interval.ms", "30000");
    // Else a producer's look at a topic that was deleted makes it again.
    or("allow.auto.create.topics", "false");
    s
}

/// A consumer that assigns partitions to itself, never as a member of a group. `group`: whose offsets it reads and commits.
pub fn consumer(options: &KafkaOptions, group: &str) -> Settings {
    let mut s = given(options);
    let mut or = |name: &str, value: &str| {
        s.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    };
    if !options.properties.settings.contains_key("max.partition.fetch.bytes") {
        or("fetch.message.max.bytes", "1048576");
    }
    or("fetch.max.bytes", FETCH_BYTES);
    or("queued.min.messages", AHEAD_MESSAGES);
    or("queued.max.messages.kbytes", AHEAD_KIB);
    or("fetch.queue.backoff.ms", SOON_MS);
    or("check.crcs", "true");
    let mut set = |name: &str, value: &str| s.insert(name.to_owned(), value.to_owned());
    set("group.id", group);
    set("enable.auto.commit", "false");
    set("enable.auto.offset.store", "false");
    set("auto.offset.reset", "error");
    set("enable.partition.eof", "true");
    set("isolation.level", "read_committed");
    // Nobody is a member, but the client looks at it all the same.
    set("max.poll.interval.ms", "86400000");
    topic_watch(&mut s);
    s
}

/// The only way in which librdkafka says that a topic was deleted and made anew is a line of its log; see `client::heard`.
fn topic_watch(s: &mut Settings) {
    let debug = match s.get("debug") {
        Some(user) => format!("{user},metadata"),
        None => "metadata".to_owned(),
    };
    s.insert("debug".to_owned(), debug);
    s.insert("log_level".to_owned(), "7".to_owned());
}

/// A producer, transactional if there is an id. `message_bytes_max`: what the topic takes.
pub fn producer(options: &KafkaOptions, transactional_id: Option<&str>, message_bytes_max: u64) -> Settings {
    let mut s = given(options);
    let has = |name: &str| options.properties.settings.contains_key(name);
    let mut or = |name: &str, value: &str| {
        s.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    };
    if !has("compression.type") && !has("compression.codec") {
        or("compression.codec", "lz4");
    }
    or("queue.buffering.max.messages", IN_FLIGHT_MESSAGES);
    or("queue.buffering.max.kbytes", IN_FLIGHT_KIB);
    if !has("queue.buffering.max.ms") {
        or("linger.ms", "5");
    }
    or("retry.backoff.ms", SOON_MS);
    or("retry.backoff.max.ms", "500");
    // The topic was there when the producer was made: that a broker does not know it means soon that it was deleted.
    or("topic.metadata.propagation.max.ms", "10000");
    // In librdkafka's range. What is larger than the topic takes was refused when it was staged.
    let message_bytes = message_bytes_max.clamp(1000, 1_000_000_000);
    or("batch.size", &message_bytes.min(1_000_000).to_string());
    or("batch.num.messages", "100000");
    let mut set = |name: &str, value: &str| s.insert(name.to_owned(), value.to_owned());
    set("message.max.bytes", &message_bytes.to_string());
    set("enable.idempotence", "true");
    set("acks", "all");
    if let Some(id) = transactional_id {
        set("transactional.id", id);
    }
    s
}

/// A client that only asks.
pub fn asking(options: &KafkaOptions) -> Settings {
    given(options)
}

/// How long a transaction may be open before the broker ends it.
pub fn transaction_timeout(options: &KafkaOptions) -> Duration {
    let given = options.properties.settings.get("transaction.timeout.ms").and_then(|v| v.parse().ok());
    Duration::from_millis(given.unwrap_or(60_000))
}
