//! The Kafka connectors on a real Apache Kafka.

mod support;

use support::kafka::{Job, Kafka, Sent, refused, rows, to};

const ALL: &str = "'format' = 'json', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'";

#[test]
fn a_bounded_read_ends_where_the_topic_ended_when_it_began() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("bounded", 3, &[]);
    // Partition 2 is empty; 1 ends with an aborted transaction, 0 with a committed one's marker.
    kafka.produce(&topic, &[to(0, r#"{"i":1}"#), to(1, r#"{"i":2}"#)]);
    kafka.transaction(&topic, &[to(0, r#"{"i":3}"#)], true);
    kafka.transaction(&topic, &[to(1, r#"{"i":4}"#), to(1, r#"{"i":5}"#)], false);
    let table = format!("CREATE TABLE t (i INT) {};", kafka.with(&topic, ALL));
    assert_eq!(rows(&format!("{table} SELECT i FROM t;")), ["1", "2", "3"]);
    // What belongs to a transaction that is open is behind the end.
    let open = kafka.open_transaction(&topic, &[to(0, r#"{"i":6}"#)]);
    assert_eq!(rows(&format!("{table} SELECT i FROM t;")), ["1", "2", "3"]);
    drop(open);
}

#[test]
fn several_topics_are_read_as_one_table() {
    let kafka = Kafka::shared();
    let (a, b) = (kafka.topic("several-a", 2, &[]), kafka.topic("several-b", 1, &[]));
    kafka.produce(&a, &[to(0, r#"{"i":1}"#), to(1, r#"{"i":2}"#)]);
    kafka.produce(&b, &[to(0, r#"{"i":3}"#)]);
    let columns = "(i INT, topic STRING METADATA VIRTUAL, p INT METADATA FROM 'partition' VIRTUAL)";
    let read =
        |topics: &str| format!("CREATE TABLE t {columns} {}; SELECT i, topic, p FROM t;", kafka.with(topics, ALL));
    assert_eq!(rows(&read(&format!("{a};{b}"))), [format!("1,{a},0"), format!("2,{a},1"), format!("3,{b},0")]);
    let e = refused(&read(&format!("{a};no-such-topic")));
    assert!(e.contains("topic no-such-topic") && e.contains("kafka-topics --create"), "{e}");
    let e = refused(&format!(
        "CREATE TABLE t {columns} {}; INSERT INTO t VALUES (1);",
        kafka.with(&format!("{a};{b}"), ALL)
    ));
    assert!(e.contains("names 2 topics"), "{e}");
}

#[test]
fn metadata_and_keys_become_columns() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("metadata", 2, &[]);
    let sent = Sent {
        partition: 1,
        key: Some(r#"{"id":7}"#),
        value: Some("{\"name\":\n\"a\"}"),
        timestamp: Some(1_700_000_000_123),
        header: Some(("h", "x")),
    };
    kafka.produce(&topic, &[sent, Sent { key: None, header: None, ..sent }]);
    let table = kafka.with(
        &topic,
        &format!("{}, 'key.format' = 'json', 'key.fields' = 'k_id', 'key.fields-prefix' = 'k_', 'value.fields-include' = 'EXCEPT_KEY'", ALL),
    );
    let found = rows(&format!(
        "CREATE TABLE t (k_id INT, name STRING, p INT METADATA FROM 'partition', o BIGINT METADATA FROM 'offset',
           ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', kind STRING METADATA FROM 'timestamp-type',
           topic STRING METADATA, e INT METADATA FROM 'leader-epoch') {table};
         SELECT k_id, name, p, o, CAST(ts AS STRING), kind, topic, e FROM t;"
    ));
    assert_eq!(found[0], format!(",a,1,1,2023-11-14 22:13:20.123,CreateTime,{topic},0"));
    assert_eq!(found[1], format!("7,a,1,0,2023-11-14 22:13:20.123,CreateTime,{topic},0"));
}

#[test]
fn a_bad_row_is_named_with_its_place_and_text() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("bad", 2, &[]);
    kafka.produce(&topic, &[to(1, r#"{"i":1}"#), to(1, r#"{"i":"x"}"#), to(1, "nonsense"), to(1, r#"{"i":4}"#)]);
    let table = |more: &str| {
        format!("CREATE TABLE t (i INT) {}; SELECT i FROM t;", kafka.with(&topic, &format!("{ALL}{more}")))
    };
    let e = refused(&table(""));
    for part in [&format!("topic {topic}, partition 1, offset 1"), "'x' is not an INT", r#"{"i":"x"}"#] {
        assert!(e.contains(part), "{part}: {e}");
    }
    assert_eq!(rows(&table(", 'json.ignore-parse-errors' = 'true'")), ["", "1", "4"]);
}

#[test]
fn reading_begins_where_the_options_say() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("starts", 1, &[]);
    let at = |value: &'static str, ms: i64| Sent { timestamp: Some(ms), ..to(0, value) };
    kafka.produce(
        &topic,
        &[at(r#"{"i":0}"#, 1_000), at(r#"{"i":1}"#, 2_000), at(r#"{"i":2}"#, 3_000), at(r#"{"i":3}"#, 4_000)],
    );
    let read = |more: &str| {
        let table = kafka.with(&topic, &format!("'format' = 'json', {more}"));
        format!("CREATE TABLE t (i INT) {table}; SELECT i FROM t;")
    };
    let end = "'scan.bounded.mode' = 'latest-offset'";
    let start = |mode: &str| read(&format!("'scan.startup.mode' = '{mode}', {end}"));
    assert_eq!(rows(&start("earliest-offset")), ["0", "1", "2", "3"]);
    assert!(rows(&start("latest-offset")).is_empty());
    let time =
        |ms: i64| read(&format!("'scan.startup.mode' = 'timestamp', 'scan.startup.timestamp-millis' = '{ms}', {end}"));
    assert_eq!(rows(&time(2_500)), ["2", "3"]);
    assert!(rows(&time(9_000)).is_empty());
    let offsets = "'scan.startup.mode' = 'specific-offsets', 'scan.startup.specific-offsets' = 'partition:0,offset:1'";
    let until = "'scan.bounded.mode' = 'specific-offsets', 'scan.bounded.specific-offsets' = 'partition:0,offset:3'";
    assert_eq!(rows(&read(&format!("{offsets}, {until}"))), ["1", "2"]);
    let until = "'scan.bounded.mode' = 'timestamp', 'scan.bounded.timestamp-millis' = '2500'";
    assert_eq!(rows(&read(&format!("{offsets}, {until}"))), ["1"]);

    // A group without offsets: an error that says what to do, or what the option says.
    let e = refused(&read(&format!("'properties.group.id' = 'new-group', {end}")));
    assert!(e.contains("has no offset of partition 0") && e.contains("earliest-offset"), "{e}");
    let group = "'properties.group.id' = 'new-group', 'properties.auto.offset.reset' = 'earliest'";
    assert_eq!(rows(&read(&format!("{group}, {end}"))), ["0", "1", "2", "3"]);
}

#[test]
fn a_group_s_offsets_say_where_reading_begins_and_where_it_ends() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("group", 2, &[]);
    let messages: Vec<String> = (0..8).map(|i| format!(r#"{{"i":{i}}}"#)).collect();
    kafka.produce(&topic, &(0..).zip(&messages).map(|(i, m)| to(i / 4, m)).collect::<Vec<_>>());
    let read = |more: &str| {
        let table = kafka.with(&topic, &format!("'format' = 'json', 'properties.group.id' = 'mine-{topic}', {more}"));
        format!("CREATE TABLE t (i INT) {table}; SELECT i FROM t;")
    };
    kafka.commit(&format!("mine-{topic}"), &topic, 1, 3, "");
    let from = "'scan.startup.mode' = 'group-offsets', 'scan.bounded.mode' = 'latest-offset'";
    let e = refused(&read(from));
    assert!(e.contains("has no offset of partition 0"), "{e}");
    assert_eq!(rows(&read(&format!("{from}, 'properties.auto.offset.reset' = 'latest'"))), ["7"]);
    kafka.commit(&format!("mine-{topic}"), &topic, 0, 2, "");
    assert_eq!(rows(&read(from)), ["2", "3", "7"]);
    let until = "'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'group-offsets'";
    assert_eq!(rows(&read(until)), ["0", "1", "4", "5", "6"]);
}

#[test]
fn offsets_of_checkpoints_are_committed_to_the_group_and_a_restart_does_not_look_at_them() {
    let kafka = Kafka::shared();
    let (from, target) = (kafka.topic("lag", 1, &[]), kafka.topic("lag-to", 1, &[]));
    let group = format!("lag-{from}");
    let read = format!("'format' = 'json', 'scan.startup.mode' = 'earliest-offset', 'properties.group.id' = '{group}'");
    let job = Job::new(&format!(
        "CREATE TABLE source (i INT) {}; CREATE TABLE target (i INT) {}; INSERT INTO target SELECT i FROM source;",
        kafka.with(&from, &read),
        kafka.with(&target, "'format' = 'json'"),
    ));
    let mut engine = job.run(1).start();
    kafka.produce(&from, &[to(0, r#"{"i":0}"#), to(0, r#"{"i":1}"#)]);
    engine.wait_until("offset", |_| kafka.committed(&group, &from, 0).is_some_and(|(offset, _)| offset == 2));
    engine.wait_until("rows", |_| values(kafka, &target).len() == 2);
    engine.kill();
    kafka.commit(&group, &from, 0, 0, "");
    let mut engine = job.run(1).start();
    kafka.produce(&from, &[to(0, r#"{"i":2}"#)]);
    engine.wait_until("row", |_| values(kafka, &target).len() >= 3);
    assert_eq!(values(kafka, &target), [r#"{"i":0}"#, r#"{"i":1}"#, r#"{"i":2}"#]);
}

#[test]
fn offsets_that_are_gone_are_named() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("gone", 1, &[]);
    let messages: Vec<String> = (0..10).map(|i| format!(r#"{{"i":{i}}}"#)).collect();
    kafka.produce(&topic, &messages.iter().map(|m| to(0, m)).collect::<Vec<_>>());
    kafka.truncate(&topic, 0, 7);
    let table = kafka.with(
        &topic,
        "'format' = 'json', 'scan.startup.mode' = 'specific-offsets', 'scan.startup.specific-offsets' = 'partition:0,offset:2', 'scan.bounded.mode' = 'latest-offset'",
    );
    let e = refused(&format!("CREATE TABLE t (i INT) {table}; SELECT i FROM t;"));
    for part in ["offset 2", "offsets 7 to 10", "5 offsets are missing"] {
        assert!(e.contains(part), "{part}: {e}");
    }
}

/// A job that follows a topic and writes each row into another.
fn follow(kafka: &Kafka, from: &str, to: &str, more: &str) -> Job {
    let read = format!("'format' = 'json', 'scan.startup.mode' = 'latest-offset', {more}");
    Job::new(&format!(
        "CREATE TABLE source (i INT) {}; CREATE TABLE target (i INT) {}; INSERT INTO target SELECT i FROM source;",
        kafka.with(from, &read),
        kafka.with(to, "'format' = 'json'"),
    ))
}

fn values(kafka: &Kafka, topic: &str) -> Vec<String> {
    let mut all: Vec<String> = kafka.read(topic).into_iter().filter_map(|m| m.value).collect();
    all.sort();
    all
}

#[test]
fn new_partitions_are_read_from_their_beginning_and_silent_ones_are_kept() {
    let kafka = Kafka::shared();
    let (from, target) = (kafka.topic("grows", 2, &[]), kafka.topic("grown", 1, &[]));
    kafka.produce(&from, &[to(0, r#"{"i":0}"#)]);
    let job = follow(kafka, &from, &target, "'scan.topic-partition-discovery.interval' = '200 ms'");
    let mut engine = job.run(2).start();
    engine.wait_until("checkpoint", |_| support::files::newest_checkpoint(&job.dir()) > 1);
    // Before the latest offset: not read. A partition that is new: read from its first message.
    kafka.grow(&from, 3);
    kafka.produce(&from, &[to(2, r#"{"i":2}"#)]);
    engine.wait_until("new partition", |_| values(kafka, &target) == [r#"{"i":2}"#]);
    engine.kill();
    // Written while nobody reads: into one that was silent, and into one that did not exist.
    kafka.grow(&from, 4);
    kafka.produce(&from, &[to(1, r#"{"i":1}"#), to(3, r#"{"i":3}"#)]);
    let engine = &mut job.run(1).start();
    engine.wait_until("all", |_| values(kafka, &target).len() == 3);
    assert_eq!(values(kafka, &target), [r#"{"i":1}"#, r#"{"i":2}"#, r#"{"i":3}"#]);
}

#[test]
fn a_topic_that_is_made_anew_stops_the_job_while_it_runs_and_when_it_starts() {
    let kafka = Kafka::shared();
    let (from, target) = (kafka.topic("anew", 1, &[]), kafka.topic("anew-to", 1, &[]));
    // The reader must notice it by itself, before the first row of the new topic.
    let job = follow(kafka, &from, &target, "'scan.topic-partition-discovery.interval' = '1 h'");
    let mut engine = job.run(1).start();
    engine.wait_until("checkpoint", |_| support::files::newest_checkpoint(&job.dir()) > 1);
    kafka.produce(&from, &[to(0, r#"{"i":1}"#)]);
    engine.wait_until("row", |_| values(kafka, &target).len() == 1);
    kafka.delete(&from);
    kafka.create(&from, 1, &[]);
    // It has outgrown the offset that the job stands at.
    kafka.produce(&from, &[to(0, r#"{"i":7}"#), to(0, r#"{"i":8}"#), to(0, r#"{"i":9}"#)]);
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    assert_eq!(values(kafka, &target), [r#"{"i":1}"#], "rows of the new topic at offsets of the old one");
    job.run(1).fails().says(&[&from, "made anew"]);
}

#[test]
fn what_is_missing_or_forbidden_is_said_at_the_start() {
    let kafka = Kafka::shared();
    let table = kafka.with("no-such-topic", ALL);
    let e = refused(&format!("CREATE TABLE t (i INT) {table}; SELECT i FROM t;"));
    assert!(e.contains("no-such-topic") && e.contains("kafka-topics --create"), "{e}");
    let e = refused(&format!(
        "CREATE TABLE t (i INT) WITH ('connector' = 'kafka', 'topic' = 'a', 'properties.bootstrap.servers' = '127.0.0.1:1', 'properties.default.api.timeout.ms' = '2000', {ALL});
         SELECT i FROM t;"
    ));
    assert!(e.contains("127.0.0.1:1") && e.contains("refused"), "{e}");
    // The same of a target.
    let write = |with: &str| {
        let job = Job::new(&format!(
            "CREATE TABLE source (i INT) WITH ('connector' = 'datagen', 'number-of-rows' = '3');
             CREATE TABLE target (i INT) {with};
             INSERT INTO target SELECT i FROM source;"
        ));
        job.run(1).fails()
    };
    let api_timeout = "'format' = 'json', 'properties.default.api.timeout.ms' = '2000'";
    write(&kafka.with("no-such-topic", api_timeout)).says(&["no-such-topic", "kafka-topics --create"]);
    let nowhere = kafka.with("a", api_timeout).replace(&kafka.address, "127.0.0.1:1");
    write(&nowhere).says(&["127.0.0.1:1", "refused"]);
}

#[test]
fn debezium_events_that_come_twice_count_once_with_a_primary_key() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("twice", 1, &[]);
    let create = r#"{"before":null,"after":{"id":1,"n":5},"op":"c"}"#;
    // The before-image has the key alone, as PostgreSQL sends it.
    let update = r#"{"before":{"id":1},"after":{"id":1,"n":6},"op":"u"}"#;
    let delete = r#"{"before":{"id":2},"after":null,"op":"d"}"#;
    let other = r#"{"before":null,"after":{"id":2,"n":9},"op":"c"}"#;
    let null = Sent { key: Some("x"), value: None, ..Sent::default() };
    kafka.produce(
        &topic,
        &[to(0, create), to(0, create), null, to(0, update), to(0, other), to(0, delete), to(0, update), to(0, delete)],
    );
    let options = ALL.replace("'json'", "'debezium-json'");
    let table = kafka.with(&topic, &options);
    let sum = "SELECT SUM(n), COUNT(*) FROM t;";
    assert_eq!(
        rows(&format!("CREATE TABLE t (id INT, n INT NOT NULL, PRIMARY KEY (id) NOT ENFORCED) {table}; {sum}")),
        ["6,1"]
    );
}

#[test]
fn an_upsert_topic_is_read_as_its_current_rows() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("upserts", 1, &[]);
    let m = |key, value| Sent { key: Some(key), value, ..Sent::default() };
    let key = [r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3}"#];
    kafka.produce(
        &topic,
        &[
            m(key[0], Some(r#"{"id":1,"n":5}"#)),
            m(key[1], Some(r#"{"id":2,"n":6}"#)),
            m(key[0], Some(r#"{"id":1,"n":7}"#)),
            m(key[1], None),
            m(key[2], None),
        ],
    );
    let address = &kafka.address;
    assert_eq!(
        rows(&format!(
            "CREATE TABLE t (id INT, n INT NOT NULL, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'upsert-kafka', 'topic' = '{topic}',
               'properties.bootstrap.servers' = '{address}', 'key.format' = 'json', 'value.format' = 'json', 'scan.bounded.mode' = 'latest-offset');
             SELECT id, n FROM t;"
        )),
        ["1,7"]
    );
}

#[test]
fn credentials_and_rights_are_checked_at_the_start_and_passwords_never_shown() {
    let kafka = Kafka::start(&["--secure"]);
    let topic = kafka.topic("secured", 1, &[]);
    kafka.produce(&topic, &[to(0, r#"{"i":1}"#)]);
    let secure = kafka.secure();
    let with = |user: &str, password: &str, more: &str| {
        format!(
            "WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{secure}',
               'properties.security.protocol' = 'SASL_PLAINTEXT', 'properties.sasl.mechanism' = 'PLAIN',
               'properties.sasl.jaas.config' = 'org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{user}\" password=\"{password}\";',
               {more})"
        )
    };
    let read =
        |user: &str, password: &str| format!("CREATE TABLE t (i INT) {}; SELECT i FROM t;", with(user, password, ALL));
    let e = refused(&read("reader", "wrong-secret"));
    assert!(e.to_lowercase().contains("authentication") && e.contains("properties.sasl"), "{e}");
    assert!(!e.contains("wrong-secret"), "{e}");
    // Without any right.
    let e = refused(&read("reader", "reader-secret"));
    assert!(e.contains(&topic) && e.to_lowercase().contains("authoriz"), "{e}");
    let grant = |user: &str, operations: &[&str], resources: &[&str]| {
        let principal = format!("User:{user}");
        let mut args = vec!["kafka-acls", "--add", "--allow-principal", &principal];
        operations.iter().for_each(|o| args.extend(["--operation", o]));
        args.extend(resources);
        kafka.tool(&args);
    };
    // No right to a group is needed where none is named.
    grant("reader", &["Read", "Describe"], &["--topic", &topic]);
    assert_eq!(rows(&read("reader", "reader-secret")), ["1"]);
    let shown = support::engine::thalweg(["-c"])
        .arg(format!(
            "CREATE TABLE t (i INT) {}; SHOW CREATE TABLE t; EXPLAIN VERBOSE SELECT i FROM t;",
            with("reader", "reader-secret", ALL)
        ))
        .succeeds();
    assert!(!shown.stdout.contains("reader-secret") && shown.stdout.contains("****"), "{shown}");

    let write = |guarantee: &str| {
        Job::new(&format!(
            "CREATE TABLE source (i INT) WITH ('connector' = 'datagen', 'number-of-rows' = '3');
             CREATE TABLE target (i INT) {};
             INSERT INTO target SELECT i FROM source;",
            with("writer", "writer-secret", &format!("'format' = 'json', 'sink.delivery-guarantee' = '{guarantee}'"))
        ))
    };
    let job = write("exactly-once");
    let script = std::fs::read_to_string(&job.script).unwrap();
    std::fs::write(&job.script, script.replace("writer-secret", "wrong-secret")).unwrap();
    let ended = job.run(1).fails();
    ended.says(&["uthentication", "properties.sasl"]);
    assert!(!ended.stderr.contains("wrong-secret"), "{ended}");
    grant("writer", &["Write", "Describe", "Read"], &["--topic", &topic]);
    let ended = write("exactly-once").run(1).fails();
    ended.says(&["--transactional-id"]);
    assert!(!ended.stderr.contains("writer-secret"), "{ended}");
    // Without transactions none of that is needed.
    write("at-least-once").run(1).succeeds();
    assert_eq!(kafka.read_all(&topic).len(), 4);
    grant("writer", &["Write", "Describe"], &["--transactional-id", "thalweg-", "--resource-pattern-type", "prefixed"]);
    write("exactly-once").run(1).fails().says(&["--group"]);
    grant("writer", &["Read", "Describe"], &["--group", "thalweg-", "--resource-pattern-type", "prefixed"]);
    write("exactly-once").run(1).succeeds();
    assert_eq!(kafka.read_all(&topic).len(), 7);
}

#[test]
fn what_retention_took_while_a_job_stood_still_is_said() {
    let kafka = Kafka::shared();
    let (from, target) = (kafka.topic("retention", 1, &[]), kafka.topic("retention-to", 1, &[]));
    let job = follow(kafka, &from, &target, "'scan.topic-partition-discovery.interval' = '1 h'");
    let mut engine = job.run(1).start();
    engine.wait_until("checkpoint", |_| support::files::newest_checkpoint(&job.dir()) > 1);
    kafka.produce(&from, &[to(0, r#"{"i":0}"#)]);
    engine.wait_until("row", |_| values(kafka, &target).len() == 1);
    engine.kill();
    kafka.produce(&from, &[to(0, r#"{"i":1}"#), to(0, r#"{"i":2}"#), to(0, r#"{"i":3}"#)]);
    kafka.truncate(&from, 0, 3);
    job.run(1).fails().says(&["offset 1 is to be read next", "offsets 3 to 4", "2 offsets are missing"]);
    assert_eq!(values(kafka, &target).len(), 1, "read on behind the gap");
}
