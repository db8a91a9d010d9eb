//! Speed and latency from MySQL to Kafka and from Kafka to Kafka, with real servers on the same cores: `scripts/bench
//! mysql-kafka`. Prints one line per job; benches/README.md says what the numbers mean.
//!
//! usage: mysql_kafka [--workers N] [--rows N] [JOB …]     JOB: kafka, snapshot, binlog, latency; default: all

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use support::engine::{Engine, run};
use support::kafka::Kafka;
use support::mysqld::{Mysqld, Session};

/// What a job may take here.
const PATIENCE: Duration = Duration::from_secs(600);
const PARTITIONS: i32 = 4;
/// A topic that has not grown for so long is complete.
const QUIET: Duration = Duration::from_secs(3);

struct Settings {
    workers: usize,
    rows: u64,
    jobs: Vec<String>,
}

fn main() {
    let mut settings = Settings { workers: 2, rows: 2_000_000, jobs: vec![] };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok()).expect("a number");
        match arg.as_str() {
            "--workers" => settings.workers = number() as usize,
            "--rows" => settings.rows = number(),
            job => settings.jobs.push(job.to_owned()),
        }
    }
    let wanted = |job: &str| settings.jobs.is_empty() || settings.jobs.iter().any(|j| j == job);
    println!(
        "{:<10} {:>10} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7}",
        "job", "rows", "seconds", "rows/s", "must", "aim", "CPU s", "RSS MB"
    );
    if wanted("kafka") {
        kafka_group_by(&settings);
    }
    if wanted("snapshot") {
        snapshot(&settings);
    }
    if wanted("binlog") {
        binlog(&settings);
    }
    if wanted("latency") {
        latency(&settings);
    }
}

/// What a process has used.
#[derive(Default)]
struct Used {
    cpu: f64,
    rss_bytes: u64,
}

impl Used {
    fn of(engine: &Engine) -> Option<Used> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", engine.pid())).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        // Linux counts in hundredths of a second.
        Some(Used { cpu: ticks / 100.0, rss_bytes: engine.peak_rss()? })
    }
}

fn report(job: &str, rows: u64, took: Duration, must: &str, aim: &str, used: &Used) {
    println!(
        "{job:<10} {rows:>10} {:>8.2} {:>7.0}k {must:>7} {aim:>7} {:>7.1} {:>7}",
        took.as_secs_f64(),
        rows as f64 / took.as_secs_f64() / 1e3,
        used.cpu,
        used.rss_bytes >> 20
    );
}

/// Runs a bounded job to its end.
fn timed(sql: &str, workers: usize) -> (Duration, Used) {
    let place = tempfile::tempdir().expect("a folder can be made");
    let script = place.path().join("job.sql");
    std::fs::write(&script, sql).expect("a script can be written");
    let began = Instant::now();
    let mut engine = run(&script, &place.path().join("state"), workers).patience(PATIENCE).start();
    let mut used = Used::default();
    while engine.is_running() {
        used = Used::of(&engine).unwrap_or(used);
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = began.elapsed();
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    // Who sets what is to be logged wants to see it.
    if std::env::var_os("THALWEG_LOG").is_some() {
        eprint!("{}", ended.stderr);
    }
    (took, used)
}

/// A broker that has its own topics: it makes them at the first transaction, which takes a second.
fn broker() -> Kafka {
    let kafka = Kafka::start(&["--fast", "--heap", "1g"]);
    let topic = kafka.topic("first", 1, &[]);
    kafka.transaction(&topic, &[support::kafka::to(0, "first")], true);
    kafka
}

// ------------------------------------------------------------------------------------------------- Kafka to Kafka

fn kafka_group_by(settings: &Settings) {
    let rows = settings.rows * 2;
    let kafka = broker();
    let from = kafka.topic("events", PARTITIONS, &[]);
    let to = kafka.topic("counts", PARTITIONS, &[("cleanup.policy", "compact")]);
    let columns = "k BIGINT, a BIGINT, b BIGINT, c INT, text VARCHAR";
    timed(
        &format!(
            "CREATE TABLE made ({columns}) WITH ('connector' = 'datagen', 'rows-per-second' = '1000000000',
               'number-of-rows' = '{rows}', 'fields.k.min' = '0', 'fields.k.max' = '99999',
               'fields.text.length' = '190');
             CREATE TABLE events ({columns}) {};
             INSERT INTO events SELECT * FROM made;",
            kafka.with(&from, "'format' = 'json', 'sink.delivery-guarantee' = 'at-least-once'")
        ),
        settings.workers,
    );
    let (took, used) = timed(
        &format!(
            "SET 'execution.checkpointing.interval' = '1 s';
             CREATE TABLE events ({columns}) {};
             CREATE TABLE counts (k BIGINT, n BIGINT, most BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (
               'connector' = 'upsert-kafka', 'topic' = '{to}', 'properties.bootstrap.servers' = '{}',
               'key.format' = 'json', 'value.format' = 'json');
             INSERT INTO counts SELECT k, COUNT(*), MAX(a) FROM events GROUP BY k;",
            kafka.with(
                &from,
                "'format' = 'json', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'"
            ),
            kafka.address
        ),
        settings.workers,
    );
    report("kafka", rows, took, "500k", "1000k", &used);
}

// ------------------------------------------------------------------------------------------------- MySQL to Kafka

/// Five columns, about 100 bytes a row.
const COLUMNS: &str = "id BIGINT, customer INT, amount DECIMAL(10, 2), at TIMESTAMP(3), note STRING";

/// An empty table, and what it is filled from.
fn create(session: &mut Session) {
    session.run(
        "CREATE DATABASE bench;
         CREATE TABLE bench.digits (d INT PRIMARY KEY);
         INSERT INTO bench.digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9);
         CREATE TABLE bench.thousand (n INT PRIMARY KEY);
         INSERT INTO bench.thousand SELECT 100 * a.d + 10 * b.d + c.d FROM bench.digits a, bench.digits b, bench.digits c;
         CREATE TABLE bench.t (id BIGINT PRIMARY KEY, customer INT, amount DECIMAL(10, 2), at DATETIME(3), note VARCHAR(100))",
    );
}

/// Rows `1 ..= rows`, a thousand in each transaction.
fn fill(session: &mut Session, rows: u64) {
    for from in (0..rows).step_by(1000) {
        session.run(&format!(
            "INSERT INTO bench.t SELECT {from} + n + 1, (n * 7919 + {from}) % 100003, (n * 31 % 100000) / 100,
               '2024-01-01' + INTERVAL {from} + n SECOND, CONCAT('note ', REPEAT(CHAR(97 + n % 26), 60), {from} + n)
             FROM bench.thousand"
        ));
    }
}

fn copy(server: &Mysqld, kafka: &Kafka, topic: &str, options: &str, settings: &str) -> String {
    format!(
        "{settings}
         CREATE TABLE t ({COLUMNS}, PRIMARY KEY (id) NOT ENFORCED) {};
         CREATE TABLE copy ({COLUMNS}, PRIMARY KEY (id) NOT ENFORCED) {};
         INSERT INTO copy SELECT * FROM t;",
        server.with("bench", "t", options),
        kafka.with(topic, "'format' = 'debezium-json'")
    )
}

fn snapshot(settings: &Settings) {
    let (kafka, server) = (broker(), Mysqld::start(&["--innodb-buffer-pool-size=1G"]));
    let topic = kafka.topic("copy", PARTITIONS, &[]);
    let mut session = server.session();
    create(&mut session);
    fill(&mut session, settings.rows);
    let sql = copy(&server, &kafka, &topic, "'scan.startup.mode' = 'snapshot'", "");
    let (took, used) = timed(&sql, settings.workers);
    report("snapshot", settings.rows, took, "250k", "500k", &used);
}

/// What came while a job stood still.
fn binlog(settings: &Settings) {
    let (kafka, server) = (broker(), Mysqld::start(&["--innodb-buffer-pool-size=1G"]));
    let topic = kafka.topic("copy", PARTITIONS, &[]);
    let mut session = server.session();
    create(&mut session);
    session.run("INSERT INTO bench.t (id) VALUES (0)");
    let place = tempfile::tempdir().expect("a folder can be made");
    let script = place.path().join("job.sql");
    std::fs::write(&script, copy(&server, &kafka, &topic, "", "")).expect("a script can be written");
    let start = || run(&script, &place.path().join("state"), settings.workers).patience(PATIENCE).start();
    // Through with the snapshot, of one row.
    let mut engine = start();
    engine.wait_until("the snapshot", |_| kafka.count(&topic) == 1);
    engine.signal("INT");
    engine.wait();
    fill(&mut session, settings.rows);
    let rows_all = settings.rows + 1;
    let began = Instant::now();
    let mut engine = start();
    let consumer = reader(&kafka);
    let (mut rows, mut grown) = (0, began);
    let mut used = Used::default();
    loop {
        let now = stable(&consumer, &topic);
        if now > rows {
            (rows, grown) = (now, Instant::now());
            used = Used::of(&engine).unwrap_or(used);
        }
        // The offsets count the ends of transactions too.
        if rows >= rows_all && grown.elapsed() > QUIET {
            break;
        }
        assert!(engine.is_running() && began.elapsed() < PATIENCE, "{rows} rows\n{}", engine.stderr_so_far());
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = grown.duration_since(began);
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    let found = kafka.count(&topic);
    assert_eq!(found as u64, rows_all, "committed events");
    report("binlog", settings.rows, took, "200k", "350k", &used);
}

fn reader(kafka: &Kafka) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.address)
        .set("group.id", "bench")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "5")
        .set("fetch.queue.backoff.ms", "1");
    config.create().expect("a client can be made")
}

/// Offsets up to which everything is committed, of all partitions.
fn stable(consumer: &BaseConsumer, topic: &str) -> u64 {
    let of = |p| consumer.fetch_watermarks(topic, p, Duration::from_secs(10)).map_or(0, |(_, high)| high as u64);
    (0..PARTITIONS).map(of).sum()
}

// --------------------------------------------------------------------------------------------------------- latency

const TRANSACTIONS_A_SECOND: u64 = 1_000;
const SESSIONS: u64 = 4;
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as u64
}

fn latency(settings: &Settings) {
    let (kafka, server) = (broker(), Mysqld::start(&[]));
    let topic = kafka.topic("copy", PARTITIONS, &[]);
    let mut session = server.session();
    session.run("CREATE DATABASE bench; CREATE TABLE bench.t (id BIGINT PRIMARY KEY, us BIGINT)");
    let place = tempfile::tempdir().expect("a folder can be made");
    let script = place.path().join("job.sql");
    let sql = format!(
        "SET 'execution.checkpointing.interval' = '100 ms';
         CREATE TABLE t (id BIGINT, us BIGINT, PRIMARY KEY (id) NOT ENFORCED) {};
         CREATE TABLE copy (id BIGINT, us BIGINT, PRIMARY KEY (id) NOT ENFORCED) {};
         INSERT INTO copy SELECT * FROM t;",
        server.with("bench", "t", ""),
        kafka.with(&topic, "'format' = 'debezium-json'")
    );
    std::fs::write(&script, sql).expect("a script can be written");
    let mut engine = run(&script, &place.path().join("state"), settings.workers).patience(PATIENCE).start();

    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..SESSIONS)
        .map(|w| {
            let (stop, mut session) = (stop.clone(), server.session());
            std::thread::spawn(move || {
                let (began, mut sent) = (Instant::now(), HashMap::new());
                for i in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let due = began + Duration::from_secs(i) / (TRANSACTIONS_A_SECOND / SESSIONS) as u32;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let id = i * SESSIONS + w;
                    session.run(&format!("INSERT INTO bench.t VALUES ({id}, {})", now_us()));
                    // When the commit was answered.
                    sent.insert(id, now_us());
                }
                sent
            })
        })
        .collect();

    let consumer = reader(&kafka);
    let mut list = TopicPartitionList::new();
    for p in 0..PARTITIONS {
        list.add_partition_offset(&topic, p, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("partitions");
    let began = Instant::now();
    let mut arrived: Vec<(u64, u64)> = vec![];
    while began.elapsed() < WARM_UP + MEASURED {
        assert!(engine.is_running(), "{}", engine.stderr_so_far());
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message.expect("the broker answers");
        let event: serde_json::Value = serde_json::from_slice(message.payload().expect("an event")).expect("JSON");
        let id = event["after"]["id"].as_u64().expect("an id");
        if began.elapsed() > WARM_UP {
            arrived.push((id, now_us()));
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut sent = HashMap::new();
    for writer in writers {
        sent.extend(writer.join().expect("the writer writes"));
    }
    let used = Used::of(&engine).unwrap_or_default();
    engine.signal("INT");
    engine.wait();
    // The rows of the time before are of the snapshot, or waited for the start.
    let mut ms: Vec<f64> =
        arrived.iter().filter_map(|(id, at)| Some(at.saturating_sub(*sent.get(id)?) as f64 / 1e3)).collect();
    ms.sort_by(f64::total_cmp);
    assert!(!ms.is_empty(), "nothing arrived");
    let at = |share: f64| ms[((ms.len() - 1) as f64 * share) as usize];
    println!(
        "latency    {} transactions a second: p50 {:.0} ms (must 250), p99 {:.0} ms (must 500), at most {:.0} ms; CPU {:.1} s, {} MB",
        ms.len() as u64 / MEASURED.as_secs(),
        at(0.5),
        at(0.99),
        at(1.0),
        used.cpu,
        used.rss_bytes >> 20
    );
}
