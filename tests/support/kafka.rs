//! A real Apache Kafka (`scripts/servers/kafka`) and a plain client for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::Offset;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker in a folder of its own, ended when this is dropped, or when the test's process is gone.
pub struct Kafka {
    dir: tempfile::TempDir,
    pub address: String,
}

fn script(args: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/servers/kafka");
    let out = Command::new(path).args(args).stderr(Stdio::inherit()).output().expect("the script is there");
    assert!(out.status.success(), "scripts/servers/kafka {args:?}: {}", out.status);
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

impl Kafka {
    /// A broker for the caller alone.
    pub fn start(options: &[&str]) -> Kafka {
        let dir = tempfile::tempdir().expect("a folder can be made");
        let owner = std::process::id().to_string();
        let path = dir.path().display().to_string();
        let args: Vec<&str> = [&["start", &path, "--owner", &owner], options].concat();
        let address = script(&args);
        Kafka { dir, address }
    }

    /// The broker of all tests of this process that do not stop it.
    pub fn shared() -> &'static Kafka {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| Kafka::start(&[]))
    }

    fn path(&self) -> String {
        self.dir.path().display().to_string()
    }

    /// Address of the listener with users and rights.
    pub fn secure(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("secure")).expect("started with --secure").trim().to_owned()
    }

    pub fn stop(&self) {
        script(&["stop", &self.path()]);
    }

    /// `kill -9`.
    pub fn kill(&self) {
        script(&["kill", &self.path()]);
    }

    pub fn start_again(&self) {
        script(&["start", &self.path(), "--owner", &std::process::id().to_string()]);
    }

    /// One of Kafka's own programs; what it prints.
    pub fn tool(&self, args: &[&str]) -> String {
        let path = self.path();
        script(&[&["tool", path.as_str()], args].concat())
    }

    /// The same with a file as standard input.
    pub fn tool_with_input(&self, args: &[&str], input: &Path) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/servers/kafka");
        let input = std::fs::File::open(input).expect("the file is there");
        let path = self.path();
        let status =
            Command::new(program).args(["tool", path.as_str()]).args(args).stdin(input).stdout(Stdio::null()).status();
        assert!(status.expect("the script is there").success(), "{args:?}");
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("a client can be made")
    }

    /// A new topic with a name of its own.
    pub fn topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.create(&name, partitions, settings);
        name
    }

    pub fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let made =
                block_on(self.admin().create_topics([&topic], &AdminOptions::new())).expect("the broker answers");
            match &made[0] {
                Ok(_) => break,
                // One of this name is still being deleted.
                Err((_, code)) => assert!(Instant::now() < deadline, "topic {name}: {code:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.wait_for(name, |found| found == Some(partitions as usize));
    }

    pub fn delete(&self, name: &str) {
        block_on(self.admin().delete_topics(&[name], &AdminOptions::new())).expect("the broker answers");
        self.wait_for(name, |found| found.is_none());
    }

    pub fn grow(&self, name: &str, partitions: usize) {
        let new = NewPartitions::new(name, partitions);
        block_on(self.admin().create_partitions([&new], &AdminOptions::new())).expect("the broker answers");
        self.wait_for(name, |found| found == Some(partitions));
    }

    /// Gives a topic this setting, and its defaults for all others.
    pub fn set(&self, topic: &str, name: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        let done = block_on(self.admin().alter_configs([&change], &AdminOptions::new())).expect("the broker answers");
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }

    /// Whether the broker takes a message. One that it takes is in the topic.
    fn takes(&self, topic: &str, message: Sent<'_>) -> bool {
        struct Taken(AtomicBool);
        impl ClientContext for Taken {}
        impl ProducerContext for Taken {
            type DeliveryOpaque = ();
            fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
                self.0.store(result.is_ok(), Ordering::SeqCst);
            }
        }
        let taken = Taken(AtomicBool::new(false));
        let producer: BaseProducer<Taken> = self.config().create_with_context(taken).expect("a client can be made");
        send(&producer, topic, &[message]);
        producer.flush(PATIENCE).expect("the broker answers");
        producer.context().0.load(Ordering::SeqCst)
    }

    /// Waits until the broker takes, or refuses, such a message.
    pub fn wait_until_it_takes(&self, takes: bool, topic: &str, message: Sent<'_>) {
        let deadline = Instant::now() + PATIENCE;
        while self.takes(topic, message) != takes {
            assert!(Instant::now() < deadline, "topic {topic}: it is {} that it takes the message", !takes);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Deletes the messages before an offset, as retention does.
    pub fn truncate(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("an offset");
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).expect("the broker answers");
    }

    fn wait_for(&self, topic: &str, done: impl Fn(Option<usize>) -> bool) {
        let consumer: BaseConsumer = self.config().create().expect("a client can be made");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let all = consumer.fetch_metadata(None, Duration::from_secs(10)).expect("the broker answers");
            let found = all.topics().iter().find(|t| t.name() == topic && t.error().is_none());
            let ready = found.is_none_or(|t| t.partitions().iter().all(|p| p.error().is_none()));
            if ready && done(found.map(|t| t.partitions().len())) {
                return;
            }
            assert!(Instant::now() < deadline, "topic {topic}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The options of a table on this broker.
    pub fn with(&self, topic: &str, more: &str) -> String {
        let address = &self.address;
        format!(
            "WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{address}', {more})"
        )
    }

    pub fn produce(&self, topic: &str, messages: &[Sent<'_>]) {
        let producer: BaseProducer = self.config().set("linger.ms", "1").create().expect("a client can be made");
        send(&producer, topic, messages);
        producer.flush(PATIENCE).expect("the broker takes the messages");
    }

    /// In one transaction, which is committed or aborted.
    pub fn transaction(&self, topic: &str, messages: &[Sent<'_>], commit: bool) {
        let producer = self.open_transaction(topic, messages);
        if commit {
            producer.commit_transaction(PATIENCE).expect("a commit");
        } else {
            producer.abort_transaction(PATIENCE).expect("an abort");
        }
    }

    /// A transaction whose messages are in the log, and that is not ended.
    pub fn open_transaction(&self, topic: &str, messages: &[Sent<'_>]) -> BaseProducer {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut config = self.config();
        let producer: BaseProducer = config.set("transactional.id", id).create().expect("a client can be made");
        producer.init_transactions(PATIENCE).expect("transactions");
        producer.begin_transaction().expect("a transaction");
        send(&producer, topic, messages);
        producer.flush(PATIENCE).expect("the broker takes the messages");
        producer
    }

    /// Everything that consumers see by now, in the order of partitions and offsets.
    pub fn read(&self, topic: &str) -> Vec<Received> {
        let mut all = vec![];
        self.each(topic, |m| all.push(Received::of(m)));
        all.sort_by_key(|r| (r.partition, r.offset));
        all
    }

    /// Everything, when nobody writes any more: a commit is confirmed before consumers see it, so the end of every
    /// transaction is waited for. One that a killed producer has left open is ended by the next.
    pub fn read_all(&self, topic: &str) -> Vec<Received> {
        self.wait_for_ends(topic);
        self.read(topic)
    }

    /// Waits until everything that is in the topic now is behind the end of its transaction.
    fn wait_for_ends(&self, topic: &str) {
        let client = |isolation: &str| -> BaseConsumer {
            self.config().set("isolation.level", isolation).create().expect("a client can be made")
        };
        let (committed, all) = (client("read_committed"), client("read_uncommitted"));
        let metadata = all.fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
        let end = |of: &BaseConsumer, p: i32| of.fetch_watermarks(topic, p, PATIENCE).expect("the broker answers").1;
        let deadline = Instant::now() + PATIENCE;
        for p in metadata.topics()[0].partitions().iter().map(|p| p.id()) {
            let now = end(&all, p);
            while end(&committed, p) < now {
                assert!(Instant::now() < deadline, "topic {topic}, partition {p}: a transaction is not ended");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Takes every message that is committed; those of a partition in order.
    fn each(&self, topic: &str, take: impl FnMut(&BorrowedMessage<'_>)) {
        self.each_from(topic, &mut BTreeMap::new(), take);
    }

    /// Takes every message that is committed, of each partition from the offset that is given (else the first) on; puts
    /// the offsets there from which to go on.
    pub fn each_from(&self, topic: &str, next: &mut BTreeMap<i32, i64>, mut take: impl FnMut(&BorrowedMessage<'_>)) {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "test-reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            // The end of a partition shows in an answer without messages.
            .set("fetch.wait.max.ms", "20")
            .create()
            .expect("a client can be made");
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
        let partitions = metadata.topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        let mut ends = vec![];
        for p in 0..partitions as i32 {
            ends.push(consumer.fetch_watermarks(topic, p, PATIENCE).expect("the broker answers").1);
            let from = next.get(&p).map_or(Offset::Beginning, |o| Offset::Offset(*o));
            list.add_partition_offset(topic, p, from).expect("an offset");
        }
        consumer.assign(&list).expect("partitions");
        let mut ended = std::collections::BTreeSet::new();
        let deadline = Instant::now() + PATIENCE;
        while ended.len() < partitions {
            assert!(Instant::now() < deadline, "topic {topic} does not end");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(m)) => {
                    take(&m);
                    next.insert(m.partition(), m.offset() + 1);
                    // Where somebody writes all the time every answer has messages.
                    if m.offset() + 1 >= ends[m.partition() as usize] {
                        ended.insert(m.partition());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(p))) => {
                    ended.insert(p);
                }
                Some(Err(e)) => panic!("topic {topic}: {e}"),
                None => {}
            }
        }
    }

    /// How many messages are committed in a topic.
    pub fn count(&self, topic: &str) -> usize {
        let mut count = 0;
        self.each(topic, |_| count += 1);
        count
    }

    /// The committed offset and its metadata of a group. What a transaction that nobody ends holds is not waited for.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<(i64, String)> {
        let mut config = self.config();
        let consumer: BaseConsumer = config
            .set("group.id", group)
            .set("isolation.level", "read_uncommitted")
            .create()
            .expect("a client can be made");
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let found = consumer.committed_offsets(list, PATIENCE).expect("the broker answers");
        let found = found.find_partition(topic, partition).expect("it was asked for");
        found.offset().to_raw().filter(|o| *o >= 0).map(|o| (o, found.metadata().to_owned()))
    }

    /// Commits an offset for a group that nobody is a member of.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let consumer: BaseConsumer = self.config().set("group.id", group).create().expect("a client can be made");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        list.find_partition(topic, partition).expect("it was added").set_metadata(metadata);
        consumer.commit(&list, CommitMode::Sync).expect("the broker takes the offset");
    }

    pub fn delete_group(&self, group: &str) {
        block_on(self.admin().delete_groups(&[group], &AdminOptions::new())).expect("the broker answers");
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // It must not panic while a test does.
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/servers/kafka");
        let _ = Command::new(path).args(["kill", &self.path()]).status();
    }
}

/// A message to be sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent<'a> {
    pub partition: i32,
    pub key: Option<&'a str>,
    pub value: Option<&'a str>,
    pub timestamp: Option<i64>,
    pub header: Option<(&'a str, &'a str)>,
}

/// Into a partition, without key.
pub fn to(partition: i32, value: &str) -> Sent<'_> {
    Sent { partition, value: Some(value), ..Sent::default() }
}

fn send<C: ProducerContext<DeliveryOpaque = ()>>(producer: &BaseProducer<C>, topic: &str, messages: &[Sent<'_>]) {
    for m in messages {
        loop {
            let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(m.partition);
            record.key = m.key;
            record.payload = m.value;
            record.timestamp = m.timestamp;
            if let Some((key, value)) = m.header {
                record.headers = Some(OwnedHeaders::new().insert(Header { key, value: Some(value) }));
            }
            match producer.send(record) {
                Ok(()) => break,
                Err(_) => {
                    producer.poll(Duration::from_millis(5));
                }
            }
        }
    }
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub timestamp: Option<i64>,
    pub headers: BTreeMap<String, String>,
}

impl Received {
    fn of(m: &impl Message) -> Self {
        let text = |b: Option<&[u8]>| b.map(|b| String::from_utf8_lossy(b).into_owned());
        let headers = m.headers().into_iter().flat_map(|h| h.iter());
        Received {
            partition: m.partition(),
            offset: m.offset(),
            key: text(m.key()),
            value: text(m.payload()),
            timestamp: m.timestamp().to_millis(),
            headers: headers.map(|h| (h.key.to_owned(), text(h.value).unwrap_or_default())).collect(),
        }
    }
}

/// What an upsert topic holds: the last value of each key, without what was deleted.
pub fn compacted(messages: &[Received]) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for m in messages {
        let key = m.key.clone().expect("every message of an upsert topic has a key");
        match &m.value {
            Some(value) => rows.insert(key, value.clone()),
            None => rows.remove(&key),
        };
    }
    rows
}

/// The rows of a bounded query as CSV lines, sorted, without the header.
pub fn rows(sql: &str) -> Vec<String> {
    let ended = super::engine::thalweg(["--format", "csv", "-c"]).arg(sql).succeeds();
    let mut lines: Vec<String> = ended.stdout.lines().skip(1).map(str::to_owned).collect();
    lines.sort();
    lines
}

pub fn refused(sql: &str) -> String {
    super::engine::thalweg(["--format", "csv", "-c"]).arg(sql).fails().stderr
}

/// A job in a folder of its own.
pub struct Job {
    pub place: tempfile::TempDir,
    pub script: std::path::PathBuf,
}

impl Job {
    pub fn new(sql: &str) -> Job {
        let place = tempfile::tempdir().unwrap();
        let script = place.path().join("job.sql");
        let settings = "SET 'execution.checkpointing.interval' = '50 ms';\nSET 'restart-strategy.type' = 'none';\n";
        std::fs::write(&script, format!("{settings}{sql}")).unwrap();
        Job { place, script }
    }

    pub fn dir(&self) -> std::path::PathBuf {
        self.place.path().join("state")
    }

    pub fn run(&self, workers: usize) -> super::engine::Thalweg {
        super::engine::run(&self.script, &self.dir(), workers)
    }
}
