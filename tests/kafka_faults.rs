//! What happens to a topic, a producer and a commit while a job writes to Kafka.

mod support;

use support::engine::Engine;
use support::kafka::{Job, Kafka, to};
use support::proxy::{ADD_OFFSETS_TO_TXN, END_TXN, Proxy};

/// A job that follows a topic from its beginning and writes each row, with its number as key, into another.
struct Follow {
    from: String,
    target: String,
    job: Job,
}

impl Follow {
    fn new(kafka: &Kafka, address: &str, name: &str) -> Follow {
        Self::with(kafka, address, name, "")
    }

    /// `more`: options of the sink.
    fn with(kafka: &Kafka, address: &str, name: &str, more: &str) -> Follow {
        let (from, target) = (kafka.topic(name, 1, &[]), kafka.topic(&format!("{name}-to"), 2, &[]));
        let with = |topic: &str, more: &str| kafka.with(topic, more).replace(&kafka.address, address);
        let job = Job::new(&format!(
            "CREATE TABLE source (i INT) {};
             CREATE TABLE target (i INT) {};
             INSERT INTO target SELECT i FROM source;",
            with(&from, "'format' = 'json', 'scan.startup.mode' = 'earliest-offset'"),
            with(&target, &format!("'value.format' = 'json', 'key.format' = 'raw', 'key.fields' = 'i'{more}")),
        ));
        Follow { from, target, job }
    }

    fn send(&self, kafka: &Kafka, numbers: std::ops::Range<usize>) {
        let rows: Vec<String> = numbers.map(|i| format!(r#"{{"i":{i}}}"#)).collect();
        kafka.produce(&self.from, &rows.iter().map(|row| to(0, row)).collect::<Vec<_>>());
    }

    /// Waits until so many rows are to be read; each is there once.
    fn wait_for(&self, kafka: &Kafka, engine: &mut Engine, count: usize) {
        let came = engine.wait_until("rows", |_| kafka.read(&self.target).len() >= count);
        assert!(came, "{}", engine.stderr_so_far());
        let mut found: Vec<String> = kafka.read_all(&self.target).into_iter().filter_map(|m| m.value).collect();
        let mut expected: Vec<String> = (0..count).map(|i| format!(r#"{{"i":{i}}}"#)).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{}", engine.stderr_so_far());
    }
}

#[test]
fn a_topic_that_is_made_anew_while_the_job_runs_stops_it() {
    let kafka = Kafka::shared();
    let follow = Follow::new(kafka, &kafka.address, "anew");
    let mut engine = follow.job.run(2).start();
    follow.send(kafka, 0..3);
    follow.wait_for(kafka, &mut engine, 3);
    kafka.delete(&follow.target);
    kafka.create(&follow.target, 2, &[]);
    // The first rows since, and the last ones that could go on as if nothing had happened.
    follow.send(kafka, 3..6);
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    ended.says(&[&follow.target, "made anew while the job ran", "--fresh"]);
    assert!(kafka.read_all(&follow.target).is_empty(), "changes that build on the old topic are in the new one");
    // Nobody knows what of the output that waits was in the old topic.
    follow.job.run(1).fails().says(&["has no mark", "--assume-delivered"]);
    let mut engine = follow.job.run(1).arg("--fresh").start();
    follow.wait_for(kafka, &mut engine, 6);
}

#[test]
fn a_topic_that_is_made_anew_within_a_transaction_gets_nothing_of_it() {
    let kafka = Kafka::shared();
    for point in ["kafka-before-mark", "kafka-before-commit"] {
        // Its messages are sent no sooner than they must be: those that are late would go to the new one.
        let follow = Follow::with(kafka, &kafka.address, "within", ", 'properties.linger.ms' = '30000'");
        let mut engine = follow.job.run(1).fail_point(&format!("{point}=stop")).start();
        follow.send(kafka, 0..3);
        assert!(engine.wait_until("a stop", |e| e.is_stopped()), "{}", engine.stderr_so_far());
        kafka.delete(&follow.target);
        kafka.create(&follow.target, 2, &[]);
        engine.signal("CONT");
        follow.send(kafka, 3..6);
        let ended = engine.wait();
        assert_eq!(ended.status.code(), Some(1), "{point}: {ended}");
        ended.says(&[&follow.target, "made anew while the job ran"]);
        let found = kafka.read_all(&follow.target);
        assert!(found.is_empty(), "{point}: messages of the old topic are in the new one: {found:?}");
    }
}

#[test]
fn messages_that_waited_too_long_for_a_broker_are_sent_again() {
    let kafka = Kafka::start(&[]);
    let more = ", 'sink.delivery-guarantee' = 'at-least-once', 'properties.delivery.timeout.ms' = '2000'";
    let follow = Follow::with(&kafka, &kafka.address, "late", more);
    let mut engine = follow.job.run(1).fail_point("before-deliver=stop").start();
    follow.send(&kafka, 0..3);
    assert!(engine.wait_until("a stop", |e| e.is_stopped()), "{}", engine.stderr_so_far());
    kafka.kill();
    engine.signal("CONT");
    let late = engine.wait_until("an end of the wait", |e| e.stderr_so_far().contains("were not delivered"));
    assert!(late, "{}", engine.stderr_so_far());
    kafka.start_again();
    follow.wait_for(&kafka, &mut engine, 3);
}

#[test]
fn a_topic_that_is_deleted_while_the_job_runs_is_named() {
    // A broker that makes topics for whoever asks for them.
    let kafka = Kafka::start(&["auto.create.topics.enable=true"]);
    let follow = Follow::new(&kafka, &kafka.address, "deleted");
    let mut engine = follow.job.run(1).start();
    follow.send(&kafka, 0..3);
    follow.wait_for(&kafka, &mut engine, 3);
    kafka.delete(&follow.target);
    follow.send(&kafka, 3..6);
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    ended.says(&[&follow.target, "deleted while the job ran", "--fresh"]);
}

#[test]
fn a_topic_that_takes_less_than_when_a_row_was_staged_names_the_row() {
    let kafka = Kafka::shared();
    let (from, target) = (kafka.topic("lowered", 1, &[]), kafka.topic("lowered-to", 2, &[]));
    let job = Job::new(&format!(
        "CREATE TABLE source (k INT, v STRING) {};
         CREATE TABLE target (k INT, v STRING) {};
         INSERT INTO target SELECT k, v FROM source;",
        kafka.with(&from, "'format' = 'json', 'scan.startup.mode' = 'earliest-offset'"),
        kafka.with(
            &target,
            "'value.format' = 'json', 'key.format' = 'json', 'key.fields' = 'k', 'properties.compression.type' = 'none'"
        ),
    ));
    let value = |k: i32, bytes: usize| format!(r#"{{"k":{k},"v":"{}"}}"#, "x".repeat(bytes));
    let is_there = |k: i32| {
        let key = format!(r#"{{"k":{k}}}"#);
        kafka.read(&target).iter().any(|m| m.key.as_ref() == Some(&key))
    };
    let mut engine = job.run(1).start();
    kafka.produce(&from, &[to(0, &value(1, 10))]);
    assert!(engine.wait_until("row", |_| is_there(1)), "{}", engine.stderr_so_far());
    kafka.set(&target, "max.message.bytes", "1000");
    let large = "x".repeat(2_000);
    kafka.wait_until_it_takes(false, &target, to(0, &large));
    kafka.produce(&from, &[to(0, &value(2, 2_000))]);
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    ended.says(&[&target, r#"key {"k":2}"#, "max.message.bytes was lowered", "start the job again"]);
    assert!(!is_there(2));
    // What is staged goes out when it can.
    kafka.set(&target, "max.message.bytes", "100000");
    kafka.wait_until_it_takes(true, &target, to(0, &large));
    let mut engine = job.run(1).start();
    assert!(engine.wait_until("row", |_| is_there(2)), "{}", engine.stderr_so_far());
}

#[test]
fn a_topic_that_grows_keeps_its_keys_where_they_are() {
    let kafka = Kafka::shared();
    let follow = Follow::new(kafka, &kafka.address, "grows");
    let mut engine = follow.job.run(2).start();
    follow.send(kafka, 0..50);
    follow.wait_for(kafka, &mut engine, 50);
    let homes = || {
        let all = kafka.read_all(&follow.target).into_iter().map(|m| (m.key.expect("a key"), m.partition));
        all.collect::<std::collections::BTreeSet<_>>()
    };
    let before = homes();
    kafka.grow(&follow.target, 5);
    // While it runs, and after the next start, which says so.
    let again = |engine: &mut Engine, times: usize| {
        follow.send(kafka, 0..50);
        let came = engine.wait_until("rows", |_| kafka.read(&follow.target).len() == 50 * (times + 1));
        assert!(came, "{}", engine.stderr_so_far());
        assert_eq!(homes(), before, "a key is in two partitions");
    };
    again(&mut engine, 1);
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    let mut engine = follow.job.run(2).start();
    again(&mut engine, 2);
    assert!(engine.stderr_so_far().contains("has grown from 2 to 5 partitions"), "{}", engine.stderr_so_far());
}

#[test]
fn a_producer_that_the_broker_has_forgotten_is_made_anew() {
    let kafka = Kafka::start(&[
        "transactional.id.expiration.ms=5000",
        "transaction.remove.expired.transaction.cleanup.interval.ms=100",
        "producer.id.expiration.ms=5000",
        "producer.id.expiration.check.interval.ms=100",
    ]);
    let follow = Follow::new(&kafka, &kafka.address, "forgotten");
    let mut engine = follow.job.run(2).start();
    follow.send(&kafka, 0..3);
    follow.wait_for(&kafka, &mut engine, 3);
    let forgotten = engine.wait_until("end of the transactional id", |_| {
        !kafka.tool(&["kafka-transactions", "list"]).contains("thalweg-")
    });
    assert!(forgotten, "{}", engine.stderr_so_far());
    follow.send(&kafka, 3..6);
    follow.wait_for(&kafka, &mut engine, 6);
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
}

/// A broker that is reached through a proxy alone.
fn behind_proxy() -> (Proxy, Kafka) {
    let proxy = Proxy::new();
    let kafka = Kafka::start(&[&format!("advertised.listeners=PLAINTEXT://{}", proxy.address)]);
    proxy.forward_to(&kafka.address);
    (proxy, kafka)
}

#[test]
fn a_commit_whose_answer_is_lost_counts_once() {
    let (proxy, kafka) = behind_proxy();
    let follow = Follow::new(&kafka, &proxy.address, "lost");
    let mut engine = follow.job.run(2).start();
    follow.send(&kafka, 0..3);
    follow.wait_for(&kafka, &mut engine, 3);
    proxy.lose_answer(END_TXN, 1);
    follow.send(&kafka, 3..6);
    follow.wait_for(&kafka, &mut engine, 6);
    assert!(engine.wait_until("an answer that is lost", |_| proxy.has_lost()));
    follow.send(&kafka, 6..9);
    follow.wait_for(&kafka, &mut engine, 9);
}

#[test]
fn a_mark_that_is_not_answered_is_not_waited_for_until_the_end_of_the_transaction() {
    let (proxy, kafka) = behind_proxy();
    let follow = Follow::new(&kafka, &proxy.address, "unanswered");
    let mut engine = follow.job.run(2).start();
    follow.send(&kafka, 0..3);
    follow.wait_for(&kafka, &mut engine, 3);
    // Nobody closes the connection, and the time-outs of connections and transactions are a minute each.
    proxy.withhold_answer(ADD_OFFSETS_TO_TXN, 1);
    follow.send(&kafka, 3..6);
    follow.wait_for(&kafka, &mut engine, 6);
    assert!(engine.stderr_so_far().contains("the mark cannot be written"), "{}", engine.stderr_so_far());
    follow.send(&kafka, 6..9);
    follow.wait_for(&kafka, &mut engine, 9);
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
}
