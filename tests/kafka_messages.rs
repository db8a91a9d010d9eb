//! What stands in the messages of Kafka: formats, keys, headers and timestamps, written and read back; and what may not.

mod support;

use support::engine::Ended;
use support::kafka::{Job, Kafka, rows};

const ALL: &str = "'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'";

/// Lines of JSON with these columns into a table of Kafka.
fn insert(columns: &str, target: &str, lines: &str) -> Ended {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("in.json"), lines).unwrap();
    let path = place.path().display();
    let job = Job::new(&format!(
        "CREATE TABLE source ({columns}) WITH ('connector' = 'filesystem', 'path' = '{path}/in.json', 'format' = 'json');
         CREATE TABLE target {target};
         INSERT INTO target SELECT * FROM source;"
    ));
    job.run(1).ended()
}

fn inserted(columns: &str, target: &str, lines: &str) {
    let ended = insert(columns, target, lines);
    assert_eq!(ended.status.code(), Some(0), "{ended}");
}

fn refused(columns: &str, target: &str, lines: &str, says: &[&str]) {
    let ended = insert(columns, target, lines);
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    ended.says(says);
}

fn upsert(kafka: &Kafka, topic: &str) -> String {
    kafka
        .with(topic, "'key.format' = 'json', 'value.format' = 'json'")
        .replace("'connector' = 'kafka'", "'connector' = 'upsert-kafka'")
}

/// Key and value of all messages.
fn messages(kafka: &Kafka, topic: &str) -> Vec<(Option<String>, Option<String>)> {
    kafka.read_all(topic).into_iter().map(|m| (m.key, m.value)).collect()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn csv_is_written_and_read() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("csv", 1, &[]);
    let columns = "id INT, s STRING, n DECIMAL(10, 2)";
    let with = kafka.with(
        &topic,
        &format!(
            "'value.format' = 'csv', 'value.csv.field-delimiter' = '|', 'value.csv.null-literal' = '-',
             'key.format' = 'csv', 'key.fields' = 's;id', 'key.csv.field-delimiter' = ';', {ALL}"
        ),
    );
    let lines = "{\"id\":1,\"s\":\"a|b;\\nc\",\"n\":1.5}\n{\"id\":2,\"s\":\"x\"}\n";
    inserted(columns, &format!("({columns}) {with}"), lines);
    assert_eq!(
        messages(kafka, &topic),
        [(text("\"a|b;\nc\";1"), text("1|\"a|b;\nc\"|1.50")), (text("x;2"), text("2|x|-"))]
    );
    let found = rows(&format!("CREATE TABLE t ({columns}) {with}; SELECT id, REPLACE(s, '\n', '/') AS s, n FROM t;"));
    assert_eq!(found, ["1,a|b;/c,1.50", "2,x,"]);
}

#[test]
fn raw_is_written_and_read() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("raw", 1, &[]);
    let columns = "k BIGINT, v STRING";
    let with = kafka.with(
        &topic,
        &format!(
            "'value.format' = 'raw', 'key.format' = 'raw', 'key.fields' = 'k', 'value.fields-include' = 'EXCEPT_KEY', {ALL}"
        ),
    );
    // NULL is a message without value, the empty text one of no bytes.
    let lines = "{\"k\":1,\"v\":\"a\\u0000,\\\"\"}\n{\"k\":2,\"v\":\"\"}\n{\"k\":3}\n";
    inserted(columns, &format!("({columns}) {with}"), lines);
    let key = |n: u8| text(&format!("\0\0\0\0\0\0\0{}", char::from(n)));
    assert_eq!(messages(kafka, &topic), [(key(1), text("a\0,\"")), (key(2), text("")), (key(3), None)]);
    let read = "SELECT k, CHAR_LENGTH(v), v IS NULL FROM t;";
    let found = rows(&format!("CREATE TABLE t ({columns}) {with}; {read}"));
    assert_eq!(found, ["1,4,false", "2,0,false", "3,,true"]);
}

#[test]
fn a_key_s_columns_stand_in_the_key_alone_without_their_prefix() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("prefix", 1, &[]);
    let columns = "k_id INT, id STRING, k_at DATE";
    let with = kafka.with(
        &topic,
        &format!(
            "'format' = 'json', 'key.format' = 'json', 'key.fields' = 'k_at;k_id', 'key.fields-prefix' = 'k_',
             'value.fields-include' = 'EXCEPT_KEY', {ALL}"
        ),
    );
    inserted(columns, &format!("({columns}) {with}"), r#"{"k_id":7,"id":"a","k_at":"2026-01-02"}"#);
    assert_eq!(messages(kafka, &topic), [(text(r#"{"at":"2026-01-02","id":7}"#), text(r#"{"id":"a"}"#))]);
    let found = rows(&format!("CREATE TABLE t ({columns}) {with}; SELECT k_id, id, k_at FROM t;"));
    assert_eq!(found, ["7,a,2026-01-02"]);
}

#[test]
fn keys_have_the_bytes_that_flink_gives_them() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("bytes", 1, &[]);
    let columns = "d DOUBLE, s STRING";
    let target = format!("(d DOUBLE, s STRING, PRIMARY KEY (d, s) NOT ENFORCED) {}", upsert(kafka, &topic));
    inserted(columns, &target, "{\"d\":1e10,\"s\":\"\\u001f😂\"}\n");
    let found = messages(kafka, &topic);
    assert_eq!(found[0].0, text(r#"{"d":1.0E10,"s":"\u001F\uD83D\uDE02"}"#));
}

#[test]
fn headers_and_timestamps_are_read_as_they_were_written() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("metadata", 1, &[]);
    let columns =
        "(i INT, h MAP<STRING, BYTES> METADATA FROM 'headers', ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp')";
    let with = kafka.with(&topic, &format!("'format' = 'json', {ALL}"));
    // No headers and no timestamp: Kafka's own.
    let lines = "{\"i\":1,\"h\":{\"a\":\"eA==\",\"none\":null},\"ts\":\"2023-11-14 22:13:20.123Z\"}\n{\"i\":2}\n";
    inserted("i INT, h MAP<STRING, BYTES>, ts TIMESTAMP_LTZ(3)", &format!("{columns} {with}"), lines);
    let found = rows(&format!(
        "CREATE TABLE t {columns} {with};
         SELECT i, CARDINALITY(h), CAST(h['a'] AS STRING), h['none'] IS NULL,
           ts = TO_TIMESTAMP_LTZ(1700000000123, 3), ts > TO_TIMESTAMP_LTZ(1700000000123, 3) FROM t;"
    ));
    assert_eq!(found, ["1,2,x,true,true,false", "2,0,,true,false,true"]);
}

#[test]
fn the_transactional_id_and_the_mark_s_group_begin_with_the_prefix() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("prefixed", 1, &[]);
    let with = kafka.with(&topic, "'format' = 'json', 'sink.transactional-id-prefix' = 'my own'");
    inserted("i INT", &format!("(i INT) {with}"), "{\"i\":1}\n");
    let ids = kafka.tool(&["kafka-transactions", "list"]);
    let id = ids.lines().find(|l| l.contains(&topic)).unwrap_or_else(|| panic!("no id with {topic}: {ids}"));
    let end = id.find(&topic).unwrap() + topic.len();
    let id = &id[..end];
    assert!(id.starts_with("my own-"), "{id}");
    assert!(kafka.committed(id, &topic, 0).is_some(), "no mark in group {id}");
}

#[test]
fn a_timestamp_that_the_topic_does_not_take_is_named_when_the_row_is_staged() {
    let kafka = Kafka::shared();
    let hour = [("message.timestamp.before.max.ms", "3600000"), ("message.timestamp.after.max.ms", "3600000")];
    let topic = kafka.topic("times", 1, &hour);
    let columns = "k INT, ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'";
    let with = kafka.with(&topic, "'format' = 'json', 'key.format' = 'json', 'key.fields' = 'k'");
    for (at, why) in [
        ("1969-12-31 23:59:59.999Z", "before 1970"),
        ("2001-01-01 00:00:00Z", "message.timestamp.before.max.ms"),
        ("9999-01-01 00:00:00Z", "message.timestamp.after.max.ms"),
    ] {
        let line = format!("{{\"k\":7,\"ts\":\"{at}\"}}\n");
        refused("k INT, ts TIMESTAMP_LTZ(3)", &format!("({columns}) {with}"), &line, &[&topic, r#"key {"k":7}"#, why]);
    }
    assert!(kafka.read_all(&topic).is_empty());
}

#[test]
fn null_where_none_may_stand_is_named_when_the_row_is_staged() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("nulls", 1, &[]);
    let with = kafka.with(&topic, "'format' = 'json'");
    let lines = "{\"k\":1,\"v\":\"a\"}\n{\"k\":2}\n";
    refused("k INT, v STRING", &format!("(k INT, v STRING NOT NULL) {with}"), lines, &["NULL", "v", "NOT NULL"]);
    assert!(kafka.read_all(&topic).is_empty());
    let topic = kafka.topic("null-keys", 1, &[("cleanup.policy", "compact")]);
    let target = format!("(k INT, v STRING, PRIMARY KEY (k) NOT ENFORCED) {}", upsert(kafka, &topic));
    refused("k INT, v STRING", &target, "{\"k\":1,\"v\":\"a\"}\n{\"v\":\"b\"}\n", &["NULL", "k", "NOT NULL"]);
    assert!(kafka.read_all(&topic).is_empty());
    // Rows without key into a topic that would lose them.
    let with = kafka.with(&topic, "'value.format' = 'json', 'key.format' = 'raw', 'key.fields' = 'v'");
    refused("k INT, v STRING", &format!("(k INT, v STRING) {with}"), "{\"k\":1}\n", &["no key", "compacted"]);
}
