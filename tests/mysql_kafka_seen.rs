//! What a person and other programs see of MySQL and Kafka: what is written is read by Kafka's own consumer and as
//! Debezium's format, queries in the shell show rows and then changes, passwords show nowhere.

mod support;

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::Value;
use support::engine::{Engine, Thalweg, thalweg};
use support::files::{contents, newest_checkpoint};
use support::kafka::{Job, Kafka, rows, to};
use support::mysqld::{Mysqld, Session};
use support::topic::TopicFold;

/// Servers that no test stops. Ended with this process, which does not drop what is static.
fn shared() -> &'static (Mysqld, Kafka) {
    static SHARED: OnceLock<(Mysqld, Kafka)> = OnceLock::new();
    SHARED.get_or_init(|| (Mysqld::start(&[]), Kafka::start(&[])))
}

// ------------------------------------------------------------------------------------------------- other readers

const ORDERS: &str = "id BIGINT, customer STRING, amount DECIMAL(10, 2), at TIMESTAMP(3), note STRING";

/// Orders in MySQL, copied into a topic while they are changed; the session and the topic.
fn copied_orders(name: &str) -> (Session, String) {
    let (server, kafka) = shared();
    let mut root = server.session();
    root.run(&format!(
        "CREATE DATABASE {name}; USE {name}; CREATE TABLE orders (id BIGINT PRIMARY KEY, customer VARCHAR(40), \
         amount DECIMAL(10, 2), at DATETIME(3), note TEXT)"
    ));
    let text = |i: u64| ["Ada", "Ünal \"Ü\"", "名前", "back\\slash\ttab", "🦀"][i as usize % 5];
    for i in 0..200 {
        let note = if i % 3 == 0 { "NULL" } else { "'a\nb'" };
        let customer = text(i).replace('\\', "\\\\");
        root.run(&format!(
            "INSERT INTO orders VALUES ({i}, '{customer}', {i}.5, '2024-02-29 12:00:00' + INTERVAL {i} * 1234567 MICROSECOND, {note})"
        ));
    }
    let topic = kafka.topic(name, 3, &[]);
    let job = Job::new(&format!(
        "CREATE TABLE orders ({ORDERS}, PRIMARY KEY (id) NOT ENFORCED) {};
         CREATE TABLE copy ({ORDERS}, PRIMARY KEY (id) NOT ENFORCED) {};
         INSERT INTO copy SELECT * FROM orders;",
        server.with(name, "orders", ""),
        kafka.with(&topic, "'format' = 'debezium-json'"),
    ));
    let mut fold = TopicFold::new(&topic, &["id"]);
    let mut has = |engine: &mut Engine, rows: usize, changes: usize| {
        let arrived = engine.wait_until("rows", |_| {
            fold.look(kafka).unwrap_or_else(|e| panic!("{e}"));
            fold.len() == rows && fold.changes >= changes
        });
        assert!(arrived, "{}", engine.stderr_so_far());
    };
    let mut engine = job.run(2).start();
    has(&mut engine, 200, 200);
    // 10 deletes, 20 updates, and 30 changes of keys, each of which is a delete and an insert.
    root.run("DELETE FROM orders WHERE id < 10");
    root.run("UPDATE orders SET amount = amount * 2, note = CONCAT('changed ', id) WHERE id BETWEEN 20 AND 39");
    root.run("UPDATE orders SET id = id + 1000 WHERE id BETWEEN 50 AND 79");
    has(&mut engine, 190, 200 + 10 + 20 + 60);
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    (root, topic)
}

#[test]
fn kafkas_own_consumer_reads_keys_and_events_with_debeziums_fields() {
    let (_, kafka) = shared();
    let (mut root, topic) = copied_orders("console");
    let count = kafka.count(&topic).to_string();
    let printed = kafka.tool(&[
        "kafka-console-consumer",
        "--topic",
        &topic,
        "--from-beginning",
        "--max-messages",
        &count,
        "--timeout-ms",
        "30000",
        "--isolation-level",
        "read_committed",
        "--property",
        "print.key=true",
        "--property",
        "key.separator= => ",
    ]);
    let (mut there, mut ops) = (BTreeSet::new(), BTreeSet::new());
    // Messages of one row are in one partition, whatever order the partitions come in.
    for line in printed.lines().filter(|l| l.contains(" => ")) {
        let (key, event) = line.split_once(" => ").expect("a key");
        let (key, event): (Value, Value) =
            (serde_json::from_str(key).expect("JSON"), serde_json::from_str(event).expect("JSON"));
        let fields: Vec<&String> = event.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["before", "after", "op"], "{line}");
        for row in ["before", "after"].map(|f| &event[f]).into_iter().filter(|r| !r.is_null()) {
            let columns: Vec<&String> = row.as_object().expect("an object").keys().collect();
            assert_eq!(columns, ["id", "customer", "amount", "at", "note"], "{line}");
            assert_eq!(key, serde_json::json!({"id": row["id"]}), "{line}");
        }
        ops.insert(event["op"].as_str().expect("a text").to_owned());
        if !event["before"].is_null() {
            assert!(there.remove(&event["before"].to_string()), "{line}");
        }
        if !event["after"].is_null() {
            assert!(there.insert(event["after"].to_string()), "{line}");
        }
    }
    assert_eq!(ops.iter().collect::<Vec<_>>(), ["c", "d", "u"]);
    let names = |r: &String| serde_json::from_str::<Value>(r).expect("JSON")["customer"].as_str().map(str::to_owned);
    let mut read: Vec<_> = there.iter().filter_map(names).collect();
    let mut written: Vec<String> =
        root.rows("SELECT customer FROM console.orders").into_iter().map(|mut r| r.remove(0)).collect();
    read.sort();
    written.sort();
    assert_eq!(read, written);
}

#[test]
fn a_reader_of_debeziums_format_gets_exactly_the_table() {
    let (_, kafka) = shared();
    let (mut root, topic) = copied_orders("debezium");
    let json = "CAST(JSON_ARRAY(id, customer, CAST(amount * 100 AS SIGNED), DATE_FORMAT(at, '%Y-%m-%d %H:%i:%s.%f'), note) AS CHAR)";
    let compact = |text: &str| serde_json::from_str::<Value>(text).expect("JSON").to_string();
    let mut table: Vec<String> =
        root.rows(&format!("SELECT {json} FROM debezium.orders")).iter().map(|r| compact(&r[0])).collect();
    table.sort();
    // Flink's decoder takes the events as they are; one that does not trust them keeps the current row of each key.
    for key in ["", ", PRIMARY KEY (id) NOT ENFORCED"] {
        let read = "'format' = 'debezium-json', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'";
        let sql = format!("CREATE TABLE t ({ORDERS}{key}) {}; SELECT * FROM t;", kafka.with(&topic, read));
        let answer = thalweg(["--format", "json", "-c", &sql]).succeeds();
        let row = |line: &str| {
            let row: Value = serde_json::from_str(line).expect("JSON");
            let at = row["at"].as_str().expect("a text").replace('T', " ");
            // Both with six digits of a second's fraction.
            let at = match at.split_once('.') {
                Some((whole, part)) => format!("{whole}.{part:0<6}"),
                None => format!("{at}.000000"),
            };
            let amount = row["amount"].as_f64().expect("a number") * 100.0;
            serde_json::json!([row["id"], row["customer"], amount as i64, at, row["note"]]).to_string()
        };
        let mut found: Vec<String> = answer.stdout.lines().map(row).collect();
        found.sort();
        assert!(found == table, "with {key:?}: {found:?}, the table is {table:?}");
    }
    let tombstones = kafka.read_all(&topic).iter().filter(|m| m.value.is_none()).count();
    assert_eq!(tombstones, 0, "Flink's decoder skips them, and does not write them");
}

// ------------------------------------------------------------------------------------------------------ the shell

/// Lines of answers so far, without those that are no change.
fn changes(engine: &Engine) -> Vec<String> {
    let out = engine.stdout_so_far();
    let whole = out.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let is_change = |l: &&str| ["+I", "-U", "+U", "-D"].iter().any(|op| l.starts_with(op));
    whole.lines().filter(is_change).map(str::to_owned).collect()
}

/// Waits for the changes, which stand in any order within one tick; they must be the next ones.
fn shows(engine: &mut Engine, seen: &mut usize, wanted: &[&str]) {
    let complete = engine.wait_until("changes", |e| changes(e).len() >= *seen + wanted.len());
    let mut now = changes(engine).split_off(*seen);
    assert!(complete, "{now:?}\n{}", engine.stderr_so_far());
    if wanted.iter().all(|w| w.starts_with("+I")) {
        now.sort();
    }
    assert_eq!(now, wanted, "\n{}", engine.stdout_so_far());
    *seen += wanted.len();
}

fn ctrl_c(engine: Engine) {
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    assert!(!ended.stderr.contains("error"), "{ended}");
}

/// The same statements as `-c` and from a pipe.
fn both_ways(sql: &str) -> [Thalweg; 2] {
    [thalweg(["--format", "csv", "-c", sql]), thalweg(["--format", "csv"]).input(sql)]
}

#[test]
fn a_query_of_a_mysql_table_shows_rows_and_then_changes_until_ctrl_c() {
    let (server, _) = shared();
    let mut root = server.session();
    root.run("CREATE DATABASE shown; USE shown");
    for (i, way) in ["typed", "piped"].into_iter().enumerate() {
        root.run(&format!("CREATE TABLE {way} (id INT PRIMARY KEY, name VARCHAR(20))"));
        root.run(&format!("INSERT INTO {way} VALUES (1, 'one'), (2, 'two'), (3, 'three')"));
        let columns = "id INT, name STRING, PRIMARY KEY (id) NOT ENFORCED";
        let sql = format!("CREATE TABLE t ({columns}) {}; SELECT id, name FROM t;", server.with("shown", way, ""));
        let [typed, piped] = both_ways(&sql);
        let mut engine = if i == 0 { typed } else { piped }.start();
        let mut seen = 0;
        shows(&mut engine, &mut seen, &["+I,1,one", "+I,2,two", "+I,3,three"]);
        root.run(&format!("UPDATE {way} SET name = 'zwei' WHERE id = 2"));
        shows(&mut engine, &mut seen, &["-U,2,two", "+U,2,zwei"]);
        root.run(&format!("DELETE FROM {way} WHERE id = 1"));
        shows(&mut engine, &mut seen, &["-D,1,one"]);
        root.run(&format!("BEGIN; INSERT INTO {way} VALUES (9, 'never'); ROLLBACK"));
        root.run(&format!("INSERT INTO {way} VALUES (4, 'four')"));
        shows(&mut engine, &mut seen, &["+I,4,four"]);
        ctrl_c(engine);
    }
}

#[test]
fn a_query_of_a_topic_shows_rows_and_then_changes_until_ctrl_c() {
    let (_, kafka) = shared();
    let event = |before: &str, after: &str, op: &str| format!(r#"{{"before":{before},"after":{after},"op":"{op}"}}"#);
    let row = |id: i32, name: &str| format!(r#"{{"id":{id},"name":"{name}"}}"#);
    for i in 0..2 {
        let topic = kafka.topic("shown", 1, &[]);
        let send = |events: &[String]| kafka.produce(&topic, &events.iter().map(|e| to(0, e)).collect::<Vec<_>>());
        let columns = "id INT, name STRING, PRIMARY KEY (id) NOT ENFORCED";
        let read = "'format' = 'debezium-json', 'scan.startup.mode' = 'earliest-offset'";
        let sql = format!("CREATE TABLE t ({columns}) {}; SELECT id, name FROM t;", kafka.with(&topic, read));
        send(&[event("null", &row(1, "one"), "c"), event("null", &row(2, "two"), "c")]);
        let [typed, piped] = both_ways(&sql);
        let mut engine = if i == 0 { typed } else { piped }.start();
        let mut seen = 0;
        shows(&mut engine, &mut seen, &["+I,1,one", "+I,2,two"]);
        send(&[event(&row(2, "two"), &row(2, "zwei"), "u")]);
        shows(&mut engine, &mut seen, &["-U,2,two", "+U,2,zwei"]);
        send(&[event(&row(1, "one"), "null", "d")]);
        shows(&mut engine, &mut seen, &["-D,1,one"]);
        send(&[event("null", &row(4, "four"), "c")]);
        shows(&mut engine, &mut seen, &["+I,4,four"]);
        ctrl_c(engine);
    }
    // Without keys rows only come.
    let topic = kafka.topic("shown-json", 1, &[]);
    kafka.produce(&topic, &[to(0, &row(1, "one"))]);
    let read = "'format' = 'json', 'scan.startup.mode' = 'earliest-offset'";
    let sql = format!("CREATE TABLE t (id INT, name STRING) {}; SELECT id, name FROM t;", kafka.with(&topic, read));
    let mut engine = thalweg(["--format", "csv", "-c", &sql]).start();
    let mut seen = 0;
    shows(&mut engine, &mut seen, &["+I,1,one"]);
    kafka.produce(&topic, &[to(0, &row(2, "two"))]);
    shows(&mut engine, &mut seen, &["+I,2,two"]);
    ctrl_c(engine);
}

// ------------------------------------------------------------------------------------------------------ passwords

const PASSWORD: &str = "pw-of-mysql-31";
const OTHER: &str = "pw-of-kafka-32";

#[test]
fn passwords_show_nowhere_and_are_in_no_file() {
    let (server, kafka) = shared();
    let mut root = server.session();
    root.run(
        "CREATE DATABASE hidden; CREATE TABLE hidden.t (id INT PRIMARY KEY); INSERT INTO hidden.t VALUES (1), (2)",
    );
    root.run(&format!(
        "CREATE USER guarded IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON hidden.t TO guarded;
         GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO guarded"
    ));
    let topic = kafka.topic("hidden", 1, &[]);
    let port = server.port();
    let table = |password: &str, more: &str| {
        format!(
            "CREATE TABLE t (id INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'mysql-cdc', 'hostname' = '127.0.0.1',
               'port' = '{port}', 'username' = 'guarded', 'password' = '{password}', 'database-name' = 'hidden', 'table-name' = 't'{more});"
        )
    };
    // A broker without users takes no password, but its table has one all the same.
    let target = |more: &str| {
        format!(
            "CREATE TABLE target (id INT, PRIMARY KEY (id) NOT ENFORCED) {};",
            kafka.with(&topic, &format!("'format' = 'debezium-json'{more}"))
        )
    };
    let sasl = format!(
        ", 'properties.security.protocol' = 'SASL_PLAINTEXT', 'properties.sasl.mechanism' = 'PLAIN', \
         'properties.sasl.username' = 'me', 'properties.sasl.password' = '{OTHER}'"
    );
    let jaas = format!(
        ", 'properties.security.protocol' = 'SASL_PLAINTEXT', 'properties.sasl.mechanism' = 'PLAIN', \
         'properties.sasl.jaas.config' = 'org.apache.kafka.common.security.plain.PlainLoginModule required username=\"me\" password=\"{OTHER}\";'"
    );
    let hidden = |text: &str| {
        assert!(!text.contains(PASSWORD) && !text.contains(OTHER), "a password is shown:\n{text}");
    };
    for secrets in [&sasl, &jaas] {
        let both = table(PASSWORD, "") + &target(secrets);
        let shown = thalweg(["-c"])
            .arg(format!(
                "{both} SHOW CREATE TABLE t; SHOW CREATE TABLE target; EXPLAIN INSERT INTO target SELECT id FROM t;
                 EXPLAIN VERBOSE INSERT INTO target SELECT id FROM t; DESCRIBE t; SHOW TABLES; SHOW JOBS;"
            ))
            .succeeds();
        hidden(&shown.to_string());
        assert!(shown.stdout.matches("****").count() >= 2, "{shown}");
    }
    // Errors, also those that show the line that the password stands in.
    let select = "SELECT id FROM t;";
    for sql in [
        table(&format!("not-{PASSWORD}"), "") + select,
        table(PASSWORD, ", 'table-nmae' = 'x'") + select,
        table(PASSWORD, "") + "SELECT idd FROM t;",
        table(PASSWORD, "").replace("'table-name' = 't'", "'table-name' 't'"),
        table(PASSWORD, "").replace("'hidden'", "'nowhere'") + select,
        table(PASSWORD, "").replace(&format!("'port' = '{port}'"), "'port' = '1', 'connect.max-retries' = '0'")
            + select,
        table(PASSWORD, "").replace("'password'", "'pasword'") + select,
        target(&format!("{sasl}, 'properties.sasl.passwort' = '{OTHER}'")) + "INSERT INTO target VALUES (1);",
        target(&jaas.replace("required", "")) + "INSERT INTO target VALUES (1);",
        target(&jaas).replace("PLAINTEXT'", "PLAINTXT'") + "INSERT INTO target VALUES (1);",
    ] {
        let ended = thalweg(["-c", &sql]).fails();
        hidden(&ended.to_string());
    }
    // A job that runs, with all that it says and keeps.
    let job = Job::new(&format!("{}{}INSERT INTO target SELECT id FROM t;", table(PASSWORD, ""), target("")));
    let mut engine = job.run(2).start();
    engine.wait_until("rows", |_| kafka.count(&topic) == 2);
    engine.wait_until("checkpoints", |_| newest_checkpoint(&job.dir()) > 1);
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    hidden(&ended.to_string());
    for (file, content) in contents(&job.dir()) {
        let found = content.windows(PASSWORD.len()).any(|w| w == PASSWORD.as_bytes());
        assert!(!found, "the password is in {}", file.display());
    }
    assert_eq!(
        rows(&format!("{}SELECT id FROM t;", table(PASSWORD, ", 'scan.startup.mode' = 'snapshot'"))),
        ["1", "2"]
    );
}
