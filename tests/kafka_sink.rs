//! The Kafka sinks on a real Apache Kafka: exactly once, whatever dies.

mod support;

use support::kafka::{Job, Kafka, Sent, to};

/// Changes of orders, as Debezium writes them, and what is there after them.
fn changes(count: i64) -> (Vec<String>, std::collections::BTreeMap<String, String>) {
    let row = |id: i64, n: i64| format!(r#"{{"id":{id},"n":{n}}}"#);
    let mut there = std::collections::BTreeMap::new();
    let mut events = vec![];
    for i in 0..count {
        let id = i % 997;
        let key = format!(r#"{{"id":{id}}}"#);
        match there.get(&key).cloned() {
            None => {
                events.push(format!(r#"{{"before":null,"after":{},"op":"c"}}"#, row(id, i)));
                there.insert(key, row(id, i));
            }
            Some(before) if i % 7 == 0 => {
                events.push(format!(r#"{{"before":{before},"after":null,"op":"d"}}"#));
                there.remove(&key);
            }
            Some(before) => {
                events.push(format!(r#"{{"before":{before},"after":{},"op":"u"}}"#, row(id, i)));
                there.insert(key, row(id, i));
            }
        }
    }
    (events, there)
}

/// A job from one topic into two: the changes as debezium-json, and the current rows in an upsert topic.
struct Copy {
    kafka: &'static Kafka,
    from: String,
    changelog: String,
    upserts: String,
    there: std::collections::BTreeMap<String, String>,
    job: Job,
}

impl Copy {
    fn new(name: &str, count: i64, rate: usize) -> Copy {
        let kafka = Kafka::shared();
        let from = kafka.topic(&format!("{name}-in"), 3, &[]);
        let changelog = kafka.topic(&format!("{name}-log"), 4, &[]);
        let upserts = kafka.topic(&format!("{name}-rows"), 4, &[("cleanup.policy", "compact")]);
        let (events, there) = changes(count);
        // Events of one key stand in one partition, in order.
        let sent: Vec<Sent<'_>> = (0..).zip(&events).map(|(i, e)| to(i % 997 % 3, e)).collect();
        kafka.produce(&from, &sent);
        let columns = "(id BIGINT, n BIGINT, PRIMARY KEY (id) NOT ENFORCED)";
        let read = format!(
            "'format' = 'debezium-json', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'scan.rate-limit' = '{rate}'"
        );
        let address = &kafka.address;
        let job = Job::new(&format!(
            "CREATE TABLE source {columns} {};
             CREATE TABLE log {columns} {};
             CREATE TABLE rows {columns} WITH ('connector' = 'upsert-kafka', 'topic' = '{upserts}',
               'properties.bootstrap.servers' = '{address}', 'key.format' = 'json', 'value.format' = 'json');
             EXECUTE STATEMENT SET BEGIN
               INSERT INTO log SELECT id, n FROM source;
               INSERT INTO rows SELECT id, n FROM source;
             END;",
            kafka.with(&from, &read),
            kafka.with(&changelog, "'format' = 'debezium-json'"),
        ));
        Copy { kafka, from, changelog, upserts, there, job }
    }

    /// What is committed so far is a strict changelog, and no key is in two partitions.
    fn assert_strict(&self) {
        self.fold(self.kafka.read(&self.changelog));
    }

    fn fold(&self, messages: Vec<support::kafka::Received>) -> std::collections::BTreeMap<String, String> {
        let mut there = std::collections::BTreeMap::new();
        for m in messages {
            let event: serde_json::Value = serde_json::from_str(m.value.as_deref().unwrap()).unwrap();
            let place = format!("{}-{} offset {}", self.changelog, m.partition, m.offset);
            let key = m.key.unwrap();
            if !event["before"].is_null() {
                let found: Option<String> = there.remove(&key);
                assert_eq!(found, Some(event["before"].to_string()), "{place}: {event}");
            }
            if !event["after"].is_null() {
                let old = there.insert(key, event["after"].to_string());
                assert_eq!(old, None, "{place}: {event}");
            }
        }
        there
    }

    fn assert_done(&self) {
        assert_eq!(self.fold(self.kafka.read_all(&self.changelog)), self.there, "from {}", self.from);
        assert_eq!(support::kafka::compacted(&self.kafka.read_all(&self.upserts)), self.there);
    }
}

#[test]
fn changes_arrive_once_with_before_and_after_and_upserts_with_tombstones() {
    // Over several checkpoints: a row that comes and goes before one of them is not written as an upsert at all.
    let copy = Copy::new("copy", 20_000, 10_000);
    copy.job.run(2).succeeds();
    copy.assert_done();
    assert!(copy.kafka.read_all(&copy.upserts).iter().any(|m| m.value.is_none()), "no tombstone");
    // Finished stays finished.
    let before = copy.kafka.read_all(&copy.changelog).len();
    copy.job.run(1).succeeds();
    assert_eq!(copy.kafka.read_all(&copy.changelog).len(), before);
}

#[test]
fn killed_at_each_step_everything_is_in_the_topics_once() {
    use thalweg_core::fail_points::{POINTS, SINK_POINTS};
    let points: Vec<(usize, &str)> = POINTS.iter().chain(SINK_POINTS).copied().enumerate().collect();
    support::in_parallel(
        4,
        &points,
        |p| format!("{p:?}"),
        |(i, point)| {
            // Checkpoints go on while a target is asked what it has: each life must have rows left when it answers.
            let copy = Copy::new("step", 12_000, 4_000);
            for life in [0, 1] {
                let armed = support::engine::kill_at(point, life);
                let ended = copy.job.run((i + life) % 3 + 1).fail_point(&armed).ended();
                assert!(ended.was_killed(), "{armed} did not kill\n{ended}");
                copy.assert_strict();
            }
            copy.job.run(i % 2 + 1).succeeds();
            copy.assert_done();
        },
    );
}

#[test]
fn killed_at_random_moments_everything_is_in_the_topics_once() {
    use rand::{Rng, SeedableRng};
    let mut random = rand::rngs::SmallRng::seed_from_u64(support::seed());
    let copy = Copy::new("random", 20_000, 4_000);
    for life in 0..8 {
        let mut engine = copy.job.run(life % 3 + 1).start();
        // The moment is what is tested.
        std::thread::sleep(std::time::Duration::from_millis(random.random_range(100..1_200)));
        engine.kill();
        copy.assert_strict();
    }
    copy.job.run(2).succeeds();
    copy.assert_done();
}

/// One row a second of input is enough for what is tested here: what is written, not how much.
fn write(kafka: &Kafka, columns: &str, topic: &str, options: &str, values: &str) -> support::engine::Ended {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("in.json"), values).unwrap();
    let path = place.path().display();
    let physical: Vec<&str> = columns.split(", PRIMARY").next().unwrap().split(" METADATA").collect();
    let physical = physical.join("");
    let job = Job::new(&format!(
        "CREATE TABLE source ({physical}) WITH ('connector' = 'filesystem', 'path' = '{path}/in.json', 'format' = 'json');
         CREATE TABLE target ({columns}) {};
         INSERT INTO target SELECT * FROM source;",
        kafka.with(topic, options)
    ));
    job.run(1).ended()
}

#[test]
fn keys_are_spread_as_javas_producer_spreads_them() {
    let kafka = Kafka::shared();
    let (ours, javas) = (kafka.topic("ours", 7, &[]), kafka.topic("javas", 7, &[]));
    let values: String = (0..200).map(|i| format!("{{\"k\":\"key {i}\",\"v\":{i}}}\n")).collect();
    let options = "'key.format' = 'raw', 'key.fields' = 'k', 'value.format' = 'json'";
    let ended = write(kafka, "k STRING, v INT", &ours, options, &values);
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    let place = tempfile::tempdir().unwrap();
    let lines: String = (0..200).map(|i| format!("key {i}:{i}\n")).collect();
    let file = place.path().join("lines");
    std::fs::write(&file, lines).unwrap();
    let producer = [
        "org.apache.kafka.tools.ConsoleProducer",
        "--topic",
        javas.as_str(),
        "--property",
        "parse.key=true",
        "--property",
        "key.separator=:",
    ];
    kafka.tool_with_input(&producer, &file);
    let places = |topic: &str| {
        let all = kafka.read_all(topic).into_iter().map(|m| (m.key.unwrap(), m.partition));
        all.collect::<std::collections::BTreeMap<_, _>>()
    };
    let ours_at = places(&ours);
    assert_eq!(ours_at.len(), 200);
    assert_eq!(ours_at, places(&javas));
    // And Kafka's own consumer reads what we write.
    let count = kafka.tool(&[
        "kafka-console-consumer",
        "--topic",
        &ours,
        "--from-beginning",
        "--max-messages",
        "200",
        "--timeout-ms",
        "20000",
        "--isolation-level",
        "read_committed",
    ]);
    assert_eq!(count.lines().filter(|l| l.starts_with("{\"k\":\"key ")).count(), 200, "{count}");
}

#[test]
fn timestamps_and_headers_are_written() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("meta", 1, &[]);
    let columns = "i INT, h MAP<STRING, BYTES> METADATA FROM 'headers', ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'";
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("in.json"), r#"{"i":1,"h":{"a":"eA=="},"ts":"2023-11-14 22:13:20.123Z"}"#)
        .unwrap();
    let path = place.path().display();
    let job = Job::new(&format!(
        "CREATE TABLE source (i INT, h MAP<STRING, BYTES>, ts TIMESTAMP_LTZ(3)) WITH ('connector' = 'filesystem', 'path' = '{path}/in.json', 'format' = 'json');
         CREATE TABLE target ({columns}) {};
         INSERT INTO target SELECT i, h, ts FROM source;",
        kafka.with(&topic, "'format' = 'json'")
    ));
    job.run(1).succeeds();
    let found = kafka.read_all(&topic);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].value.as_deref(), found[0].timestamp), (Some(r#"{"i":1}"#), Some(1_700_000_000_123)));
    assert_eq!(found[0].headers.get("a").map(String::as_str), Some("x"));
}

#[test]
fn rows_that_the_topic_cannot_take_stop_the_job_before_anything_is_written() {
    let kafka = Kafka::shared();
    let small = kafka.topic("small", 1, &[("max.message.bytes", "1000")]);
    let long = format!("{{\"k\":1,\"v\":\"ok\"}}\n{{\"k\":2,\"v\":\"{}\"}}\n", "x".repeat(2_000));
    let keyed = "'key.format' = 'json', 'key.fields' = 'k', 'value.format' = 'json'";
    let ended = write(kafka, "k INT, v STRING", &small, keyed, &long);
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    ended.says(&[&small, r#"key {"k":2}"#, "takes 1000 at most", "max.message.bytes"]);
    assert!(kafka.read_all(&small).is_empty());

    let compacted = kafka.topic("compacted", 1, &[("cleanup.policy", "compact")]);
    let ended = write(kafka, "k INT, v STRING", &compacted, "'format' = 'json'", "{\"k\":1}\n");
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    ended.says(&["is compacted", "key.fields"]);
}

#[test]
fn a_changing_query_without_a_key_needs_one_partition() {
    let kafka = Kafka::shared();
    let sql = |topic: &str| {
        format!(
            "CREATE TABLE source (k INT) WITH ('connector' = 'datagen', 'number-of-rows' = '2000', 'rows-per-second' = '4000', 'fields.k.min' = '1', 'fields.k.max' = '3');
             CREATE TABLE target (n BIGINT) {};
             INSERT INTO target SELECT COUNT(*) FROM source;",
            kafka.with(topic, "'format' = 'debezium-json'")
        )
    };
    let many = kafka.topic("keyless", 2, &[]);
    Job::new(&sql(&many)).run(1).fails().says(&["have no keys", "2 partitions", "PRIMARY KEY"]);
    Job::new(&sql(&kafka.topic("keyless-one", 1, &[]))).run(1).succeeds();
}

#[test]
fn a_broker_that_goes_away_is_waited_for() {
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start(&[])));
    let (from, target) = (kafka.topic("away", 1, &[]), kafka.topic("away-to", 1, &[]));
    let events: Vec<String> = (0..4_000).map(|i| format!(r#"{{"i":{i}}}"#)).collect();
    kafka.produce(&from, &events.iter().map(|e| to(0, e)).collect::<Vec<_>>());
    let read = "'format' = 'json', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'scan.rate-limit' = '1000'";
    let job = Job::new(&format!(
        "CREATE TABLE source (i INT) {}; CREATE TABLE target (i INT) {}; INSERT INTO target SELECT i FROM source;",
        kafka.with(&from, read),
        kafka.with(&target, "'format' = 'json'"),
    ));
    let mut engine = job.run(2).patience(std::time::Duration::from_secs(180)).start();
    engine.wait_until("checkpoint", |_| support::files::newest_checkpoint(&job.dir()) > 2);
    kafka.kill();
    kafka.start_again();
    assert!(engine.is_running(), "{}", engine.stderr_so_far());
    kafka.stop();
    let word = format!("kafka at {} cannot be reached", kafka.address);
    engine.wait_until("word of it", |e| e.stderr_so_far().contains(&word));
    kafka.start_again();
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    let mut found: Vec<String> = kafka.read_all(&target).into_iter().filter_map(|m| m.value).collect();
    found.sort();
    let mut expected = events;
    expected.sort();
    assert_eq!(found, expected);
    kafka.kill();
}

/// The mark's group of the only job of a directory, and the topic.
fn group_of(job: &Job, topic: &str) -> String {
    let jobs = std::fs::read_dir(job.dir().join("checkpoints")).unwrap().flatten();
    let manifest = support::files::newest_manifest(&job.dir()).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    let id = find_job(&manifest).unwrap_or_else(|| panic!("no job id in a manifest of {} jobs", jobs.count()));
    format!("thalweg-{id}-{topic}")
}

fn find_job(v: &serde_json::Value) -> Option<String> {
    let is_id = |s: &str| s.len() == 32 && s.bytes().all(|b| b.is_ascii_hexdigit());
    match v {
        serde_json::Value::Object(fields) => fields
            .iter()
            .find_map(|(k, v)| (k == "job").then(|| v.as_str().filter(|s| is_id(s)).map(str::to_owned)).flatten())
            .or_else(|| fields.values().find_map(find_job)),
        serde_json::Value::Array(all) => all.iter().find_map(find_job),
        _ => None,
    }
}

#[test]
fn an_older_copy_of_the_directory_writes_nothing() {
    let copy = Copy::new("older", 60_000, 6_000);
    assert!(copy.job.run(1).fail_point("before-deliver=kill@4").ended().was_killed());
    let older = copy.job.place.path().join("older");
    let copied = std::process::Command::new("cp").arg("-a").arg(copy.job.dir()).arg(&older).status();
    assert!(copied.unwrap().success());
    let count = copy.kafka.read(&copy.changelog).len();
    assert!(copy.job.run(2).fail_point("before-deliver=kill@20").ended().was_killed());
    let before = copy.kafka.read(&copy.changelog).len();
    assert!(before > count + 500, "{count} rows, then {before}");
    // Also when the target takes its time to answer, and when it is tried again.
    let stalled = support::engine::run(&copy.job.script, &older, 1).fail_point("before-fence=stall:3000").fails();
    stalled.says(&["older copy"]);
    support::engine::run(&copy.job.script, &older, 1).fails().says(&["older copy"]);
    assert_eq!(copy.kafka.read_all(&copy.changelog).len(), before, "the older copy wrote");
    copy.job.run(2).succeeds();
    copy.assert_done();
}

#[test]
fn a_lost_mark_is_written_anew_if_nothing_waits_and_else_asked_about() {
    let copy = Copy::new("mark", 60_000, 6_000);
    // Something was delivered, and something is committed and was not delivered.
    let mut engine = copy.job.run(2).start();
    engine.wait_until("rows", |_| !copy.kafka.read(&copy.changelog).is_empty());
    engine.kill();
    let ended = copy.job.run(2).fail_point("after-manifest=kill@3").ended();
    assert!(ended.was_killed(), "{ended}");
    let group = group_of(&copy.job, &copy.changelog);
    let (segment, metadata) = copy.kafka.committed(&group, &copy.changelog, 0).expect("a mark");
    assert!(segment > 0 && metadata.starts_with("thalweg/1 job="), "{segment} {metadata}");
    copy.kafka.delete_group(&group);
    let before = copy.kafka.read(&copy.changelog).len();
    copy.job.run(1).fails().says(&["has no mark", "--assume-delivered"]);
    assert_eq!(copy.kafka.read_all(&copy.changelog).len(), before, "delivered in doubt");
    copy.job.run(1).args(&["--assume-delivered", &segment.to_string()]).succeeds();
    copy.assert_done();
    // Everything is delivered now, and on record.
    assert!(copy.kafka.committed(&group, &copy.changelog, 0).is_some(), "the mark was not written anew");
}

#[test]
fn a_mark_that_the_job_did_not_leave_so_stops_it() {
    let copy = Copy::new("moved-mark", 60_000, 6_000);
    // No transaction is open then.
    assert!(copy.job.run(2).fail_point("after-deliver=kill@6").ended().was_killed());
    let group = group_of(&copy.job, &copy.changelog);
    let (segment, metadata) = copy.kafka.committed(&group, &copy.changelog, 0).expect("a mark");
    assert!(segment > 1, "{segment}");
    let before = copy.kafka.read(&copy.changelog).len();
    let other = "thalweg/1 job=00000000000000000000000000000000";
    for (n, metadata, says) in [
        (0, metadata.as_str(), "the target has lost segments"),
        (segment, other, "the mark of another job, 00000000000000000000000000000000"),
        (segment, "", "which is no mark of Thalweg"),
    ] {
        copy.kafka.commit(&group, &copy.changelog, 0, n, metadata);
        copy.job.run(1).fails().says(&[says]);
        assert_eq!(copy.kafka.read_all(&copy.changelog).len(), before, "{says}: it wrote");
    }
    copy.kafka.commit(&group, &copy.changelog, 0, segment, &metadata);
    copy.job.run(2).succeeds();
    copy.assert_done();
}

#[test]
fn a_sink_with_nothing_to_write_renews_its_mark() {
    let kafka = Kafka::shared();
    let (from, target) = (kafka.topic("idle", 1, &[]), kafka.topic("idle-to", 1, &[]));
    kafka.produce(&from, &[to(0, r#"{"i":1}"#)]);
    let job = Job::new(&format!(
        "SET 'sink.mark-interval' = '1 s'; CREATE TABLE source (i INT) {}; CREATE TABLE target (i INT) {};
         INSERT INTO target SELECT i FROM source;",
        kafka.with(&from, "'format' = 'json', 'scan.startup.mode' = 'earliest-offset'"),
        kafka.with(&target, "'format' = 'json'"),
    ));
    let mut engine = job.run(1).start();
    engine.wait_until("a row", |_| !kafka.read(&target).is_empty());
    let group = group_of(&job, &target);
    let mark = || kafka.committed(&group, &target, 0);
    let before = mark().expect("a mark");
    // As the broker forgets it after its time.
    kafka.delete_group(&group);
    assert!(engine.wait_until("a new mark", |_| mark().is_some()), "{}", engine.stderr_so_far());
    assert_eq!(mark(), Some(before));
    engine.kill();
    kafka.produce(&from, &[to(0, r#"{"i":2}"#)]);
    let mut engine = job.run(1).start();
    engine.wait_until("the next row", |_| kafka.read(&target).len() == 2);
    engine.kill();
}

#[test]
fn at_least_once_loses_nothing() {
    let kafka = Kafka::shared();
    let (from, target) = (kafka.topic("least", 2, &[]), kafka.topic("least-to", 2, &[]));
    let events: Vec<String> = (0..20_000).map(|i| format!(r#"{{"i":{i}}}"#)).collect();
    kafka.produce(&from, &(0..).zip(&events).map(|(i, e)| to(i % 2, e)).collect::<Vec<_>>());
    let read = "'format' = 'json', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'scan.rate-limit' = '10000'";
    let job = Job::new(&format!(
        "CREATE TABLE source (i INT) {}; CREATE TABLE target (i INT) {}; INSERT INTO target SELECT i FROM source;",
        kafka.with(&from, read),
        kafka.with(&target, "'format' = 'json', 'sink.delivery-guarantee' = 'at-least-once'"),
    ));
    for point in ["after-deliver=kill@3", "after-manifest=kill@3"] {
        assert!(job.run(2).fail_point(point).ended().was_killed());
    }
    job.run(1).succeeds();
    let found: std::collections::BTreeSet<String> =
        kafka.read_all(&target).into_iter().filter_map(|m| m.value).collect();
    assert_eq!(found, events.into_iter().collect());
}

#[test]
fn a_transaction_that_the_broker_ends_for_its_length_is_written_again() {
    let kafka = Kafka::start(&["transaction.abort.timed.out.transaction.cleanup.interval.ms=200"]);
    let (from, target) = (kafka.topic("long", 1, &[]), kafka.topic("long-to", 1, &[]));
    let mut expected: Vec<String> = (0..8_000).map(|i| format!(r#"{{"i":{i}}}"#)).collect();
    kafka.produce(&from, &expected.iter().map(|e| to(0, e)).collect::<Vec<_>>());
    let read = "'format' = 'json', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'scan.rate-limit' = '8000'";
    let job = Job::new(&format!(
        "CREATE TABLE source (i INT) {}; CREATE TABLE target (i INT) {}; INSERT INTO target SELECT i FROM source;",
        kafka.with(&from, read),
        kafka.with(&target, "'format' = 'json', 'properties.transaction.timeout.ms' = '1000'"),
    ));
    let mut engine = job.run(1).fail_point("kafka-before-commit=stop").start();
    let stopped = engine.wait_until("a stop within a transaction", |e| e.is_stopped());
    assert!(stopped, "{}", engine.stderr_so_far());
    // Committed readers come to what is behind the transaction when it has been ended.
    kafka.produce(&target, &[to(0, "behind")]);
    let behind = || kafka.read(&target).iter().any(|m| m.value.as_deref() == Some("behind"));
    assert!(engine.wait_until("an end of the transaction", |_| behind()));
    engine.signal("CONT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    let mut found: Vec<String> = kafka.read_all(&target).into_iter().filter_map(|m| m.value).collect();
    found.retain(|v| v != "behind");
    found.sort();
    expected.sort();
    assert_eq!(found.len(), expected.len(), "{ended}");
    assert_eq!(found, expected);
}

#[test]
fn a_topic_that_was_made_anew_meanwhile_has_what_comes_from_now_on_or_nothing() {
    let copy = Copy::new("anew", 60_000, 4_000);
    let anew = || {
        copy.kafka.delete(&copy.changelog);
        copy.kafka.create(&copy.changelog, 4, &[]);
    };
    let until_rows = || {
        let mut engine = copy.job.run(2).start();
        engine.wait_until("rows", |_| !copy.kafka.read(&copy.changelog).is_empty());
        engine
    };
    let engine = until_rows();
    // The final checkpoint is delivered: nothing waits.
    engine.signal("INT");
    assert_eq!(engine.wait().status.code(), Some(0));
    anew();
    // The job goes on, with a new mark.
    let group = group_of(&copy.job, &copy.changelog);
    assert!(copy.kafka.committed(&group, &copy.changelog, 0).is_none(), "the mark did not go with the topic");
    let mut engine = until_rows();
    assert!(engine.wait_until("a mark", |_| copy.kafka.committed(&group, &copy.changelog, 0).is_some()));
    engine.kill();
    // Something is committed that was not delivered.
    assert!(copy.job.run(1).fail_point("after-manifest=kill@3").ended().was_killed());
    anew();
    copy.job.run(2).fails().says(&["has no mark", "--assume-delivered"]);
    assert!(copy.kafka.read_all(&copy.changelog).is_empty(), "delivered in doubt");
}

#[test]
fn a_clone_has_an_identity_of_its_own() {
    let copy = Copy::new("clone", 40_000, 6_000);
    assert!(copy.job.run(2).fail_point("after-manifest=kill@9").ended().was_killed());
    let manifest = support::files::newest_manifest(&copy.job.dir()).expect("a manifest");
    let before = support::files::contents(&copy.job.dir().join("checkpoints"));
    let mark = group_of(&copy.job, &copy.changelog);
    for topic in [&copy.changelog, &copy.upserts] {
        copy.kafka.delete(topic);
        copy.kafka.create(topic, 4, &[]);
    }
    let dir = copy.job.place.path().join("clone");
    support::engine::run(&copy.job.script, &dir, 3).arg("--from").arg(manifest.display()).succeeds();
    support::files::assert_untouched(&before, &copy.job.dir().join("checkpoints"));
    // What the checkpoint did not have yet is in the topics, and right.
    let cloned = support::kafka::compacted(&copy.kafka.read_all(&copy.upserts));
    assert!(!cloned.is_empty());
    for (key, row) in &cloned {
        assert_eq!(copy.there.get(key), Some(row), "{key}");
    }
    let newest = support::files::newest_manifest(&dir).expect("a manifest");
    let newest: serde_json::Value = serde_json::from_slice(&std::fs::read(newest).unwrap()).unwrap();
    let own = format!("thalweg-{}-{}", find_job(&newest).expect("a job id"), copy.changelog);
    assert_ne!(own, mark);
    assert!(copy.kafka.committed(&own, &copy.changelog, 0).is_some(), "the clone has no mark");
}
