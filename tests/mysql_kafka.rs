//! MySQL to Kafka, exactly once, on real servers: the engine killed at random moments, in the windows of a chunk and at
//! each step of the protocol, MySQL and the broker stopped, killed and started meanwhile, restored with other numbers of
//! workers. What a read-committed consumer sees is a strict changelog at every look, and at the end the table.

#[path = "../connectors/mysql/tests/support/writer.rs"]
mod writer;

mod support;

/// As the writer knows it.
mod mysqld {
    pub use super::support::mysqld::Session;
}

use std::fmt::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use support::changelog::Rows;
use support::engine::Engine;
use support::files::{newest_checkpoint, newest_manifest};
use support::kafka::{Job, Kafka};
use support::mysqld::{Mysqld, Session};
use support::topic::TopicFold;
use thalweg_core::fail_points::{POINTS, SINK_POINTS, SOURCE_POINTS};
use writer::{Keys, Plan, Writer, fill};

/// Longer than a job needs for what it has to catch up with, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 4;

/// A table in MySQL, a topic, and the job from one into the other.
struct Copy {
    keys: Keys,
    table: String,
    fold: TopicFold,
    job: Job,
}

impl Copy {
    /// A database of its own with the table `t`, filled.
    fn new(name: &str, server: &Mysqld, kafka: &Kafka, keys: Keys, rows: u64, chunk: u64) -> Copy {
        let mut root = server.session();
        root.run(&format!("CREATE DATABASE {name}"));
        let table = format!("{name}.t");
        fill(&mut root, &table, keys, rows);
        let topic = kafka.topic(name, PARTITIONS, &[]);
        let key_type = if keys == Keys::Number { "BIGINT" } else { "STRING" };
        let at = if keys == Keys::TextAndTime { "at TIMESTAMP(3), " } else { "" };
        let columns = format!("id {key_type}, {at}n INT, name STRING, PRIMARY KEY ({}) NOT ENFORCED", keys.names());
        let options = format!("'scan.incremental.snapshot.chunk.size' = '{chunk}', 'connect.max-retries' = '60'");
        let job = Job::new(&format!(
            "SET 'restart-strategy.type' = 'exponential-delay';
             SET 'restart-strategy.exponential-delay.initial-backoff' = '200 ms';
             CREATE TABLE t ({columns}) {};
             CREATE TABLE copy ({columns}) {};
             INSERT INTO copy SELECT * FROM t;",
            server.with(name, "t", &options),
            kafka.with(&topic, "'format' = 'debezium-json'"),
        ));
        let key: Vec<&str> = keys.names().split(", ").collect();
        Copy { keys, table, fold: TopicFold::new(&topic, &key), job }
    }

    fn look(&mut self, kafka: &Kafka, when: &str) {
        self.fold.look(kafka).unwrap_or_else(|e| panic!("{}, {when}: {e}", self.table));
    }

    /// The table's rows as the fold has them.
    fn answer(&self, session: &mut Session) -> Rows {
        let micros = "DATE_FORMAT(at, '%Y-%m-%d %H:%i:%s.%f')";
        let at = match self.keys {
            // As short as it is.
            Keys::TextAndTime => format!("TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM {micros})), "),
            _ => String::new(),
        };
        let rows = session.rows(&format!("SELECT JSON_ARRAY(id, {at}n, name) FROM {}", self.table));
        let compact = |json: &String| serde_json::from_str::<serde_json::Value>(json).expect("JSON").to_string();
        rows.iter().map(|r| compact(&r[0])).collect()
    }

    /// Runs until the topic is the table, which nobody changes any more; then to an orderly end, which adds nothing.
    fn ends_as_the_table(&mut self, server: &Mysqld, kafka: &Kafka, workers: usize) {
        let answer = self.answer(&mut server.session());
        let mut engine = self.job.run(workers).start();
        let began = Instant::now();
        loop {
            self.look(kafka, "at the end");
            if self.fold.len() == answer.len() && self.fold.rows() == answer {
                break;
            }
            if !engine.is_running() || began.elapsed() > PATIENCE {
                self.differs(&answer, &engine);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        engine.signal("INT");
        let ended = engine.wait();
        assert_eq!(ended.status.code(), Some(0), "{ended}");
        self.look(kafka, "after the end");
        assert_eq!(self.fold.len(), answer.len());
        assert!(self.fold.rows() == answer, "{}: the topic was the table, and then was not", self.table);
    }

    fn differs(&self, answer: &Rows, engine: &Engine) -> ! {
        let rows = self.fold.rows();
        let missing: Vec<_> = answer.difference(&rows).take(3).collect();
        let wrong: Vec<_> = rows.difference(answer).take(3).collect();
        panic!(
            "{}: {} rows of {}; missing {missing:?}; wrong {wrong:?}\n{}",
            self.table,
            rows.len(),
            answer.len(),
            engine.stderr_so_far()
        )
    }
}

fn plan(server: &Mysqld, copy: &Copy, numbers: u64, seed: u64) -> Plan {
    Plan {
        port: server.port(),
        table: copy.table.clone(),
        keys: copy.keys,
        numbers,
        threads: 3,
        pause: Duration::from_millis(2),
        seed,
    }
}

// ------------------------------------------------------------------------------------------------- random moments

/// The whole story of one kind of keys.
struct Story {
    name: &'static str,
    keys: Keys,
    rows: u64,
    chunk: u64,
    kills: usize,
    /// Kills at least that must have come while the snapshot ran.
    within_snapshot: usize,
    /// MySQL and the broker are stopped and killed too.
    servers: bool,
}

/// Kills of a story that must come at random moments.
const KILLS_AT_RANDOM: usize = 20;

/// The windows of a chunk.
const WINDOWS: [&str; 3] = ["mysql-chunk-selected", "mysql-chunk-folded", "mysql-chunk-emitted"];

/// In the window of every chunk, between SELECT and fold, the writer gets this much time.
fn slow_chunks(random: &mut SmallRng, most_ms: u64) -> String {
    let mut points = String::new();
    for passage in 1..200 {
        let _ = write!(points, "mysql-chunk-selected=stall:{}@{passage};", random.random_range(1..=most_ms));
    }
    points
}

fn tell(story: &Story) {
    let seed = support::seed();
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut server, kafka) = (Mysqld::start(&[]), Kafka::start(&[]));
    let mut copy = Copy::new(story.name, &server, &kafka, story.keys, story.rows, story.chunk);
    let writer = Writer::start(&plan(&server, &copy, story.rows * 11 / 10, seed));
    let dir = copy.job.dir();
    let (mut within_snapshot, mut in_windows) = (0, 0);
    for life in 0..story.kills {
        // So that most kills come while the snapshot runs, and some behind it.
        let slow = if life < story.kills * 2 / 3 { slow_chunks(&mut random, 200) } else { String::new() };
        let command = copy.job.run(life % 3 + 1);
        let moment = Duration::from_millis(random.random_range(0..800));
        if life % 4 == 2 {
            // In a window of a chunk, unless the snapshot is through.
            let armed = format!("{slow}{}=kill@{}", WINDOWS[life / 4 % 3], random.random_range(1..5));
            let mut engine = command.fail_point(&armed).start();
            wait_while(Duration::from_secs(3), || engine.is_running());
            in_windows += usize::from(!engine.kill());
        } else {
            let before = newest_checkpoint(&dir);
            let mut engine = command.fail_point(&slow).start();
            if life % 2 == 0 {
                engine.wait_until("checkpoint", |_| newest_checkpoint(&dir) > before + 1);
            }
            wait_while(moment, || engine.is_running());
            // Now and then the engine is killed while a server is away; else it must outlive that.
            let outlives = random.random_bool(0.5);
            let meanwhile = |engine: &mut Engine| {
                if outlives { assert_alive(engine, life) } else { assert_killed(engine, life) }
            };
            match if story.servers { life } else { 0 } {
                3 | 13 => {
                    if life == 3 {
                        server.kill()
                    } else {
                        server.stop()
                    }
                    meanwhile(&mut engine);
                    server.start_again(&[]);
                }
                8 | 17 => {
                    if life == 8 {
                        kafka.kill()
                    } else {
                        kafka.stop()
                    }
                    meanwhile(&mut engine);
                    kafka.start_again();
                }
                _ => assert_alive(&mut engine, life),
            }
            if story.servers && [3, 8, 13, 17].contains(&life) && outlives {
                wait_while(moment, || engine.is_running());
                assert_alive(&mut engine, life);
            }
            engine.kill();
        }
        copy.look(&kafka, &format!("life {life}"));
        within_snapshot += usize::from(!is_snapshot_done(&dir));
    }
    let transactions = writer.stop();
    copy.ends_as_the_table(&server, &kafka, 2);
    assert!(is_snapshot_done(&dir), "the manifest says otherwise than the topic");
    println!(
        "{:?}: {} kills, {within_snapshot} within the snapshot, {in_windows} in windows of chunks, {transactions} transactions, {} changes",
        story.keys, story.kills, copy.fold.changes
    );
    assert!(
        story.kills - in_windows >= KILLS_AT_RANDOM,
        "only {} kills came at random moments",
        story.kills - in_windows
    );
    assert!(within_snapshot >= story.within_snapshot, "only {within_snapshot} kills came while the snapshot ran");
    assert!(in_windows > 0, "no kill came in a window of a chunk");
}

/// Whether the newest checkpoint has the whole table.
fn is_snapshot_done(dir: &Path) -> bool {
    let Some(manifest) = newest_manifest(dir) else { return false };
    let text = std::fs::read_to_string(manifest).expect("a manifest can be read");
    text.split_whitespace().collect::<String>().contains(r#""snapshot":"done""#)
}

fn assert_alive(engine: &mut Engine, life: usize) {
    assert!(engine.is_running(), "life {life}: the engine has ended by itself\n{}", engine.stderr_so_far());
}

fn assert_killed(engine: &mut Engine, life: usize) {
    assert!(engine.kill(), "life {life}: the engine has ended by itself\n{}", engine.stderr_so_far());
}

fn wait_while(most: Duration, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + most;
    while Instant::now() < until && condition() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_table_is_in_the_topic_once_though_engine_server_and_broker_die() {
    tell(&Story {
        name: "number",
        keys: Keys::Number,
        rows: 200_000,
        chunk: 2_000,
        kills: 28,
        within_snapshot: 5,
        servers: true,
    });
}

#[test]
fn a_table_by_text_and_time_is_in_the_topic_once_though_the_engine_dies() {
    let keys = Keys::TextAndTime;
    tell(&Story { name: "time", keys, rows: 200_000, chunk: 8_000, kills: 28, within_snapshot: 5, servers: false });
}

#[test]
fn a_table_by_text_is_in_the_topic_once_though_the_engine_dies() {
    let keys = Keys::Text;
    tell(&Story { name: "text", keys, rows: 200_000, chunk: 8_000, kills: 28, within_snapshot: 5, servers: false });
}

// --------------------------------------------------------------------------------------------------- at each step

/// Servers of the cases that stop none. Killed with this process, which does not drop what is static.
fn shared() -> &'static (Mysqld, Kafka) {
    static SHARED: OnceLock<(Mysqld, Kafka)> = OnceLock::new();
    SHARED.get_or_init(|| (Mysqld::start(&[]), Kafka::start(&[])))
}

#[test]
fn killed_at_each_step_a_table_is_in_the_topic_once() {
    let (server, kafka) = shared();
    let seed = support::seed();
    let all = POINTS.iter().chain(SINK_POINTS).chain(SOURCE_POINTS);
    let points: Vec<(usize, &str)> = all.copied().enumerate().collect();
    support::in_parallel(
        3,
        &points,
        |p| format!("{p:?}"),
        |(i, point)| {
            let mut copy = Copy::new(&format!("step{i}"), server, kafka, Keys::Number, 6_000, 300);
            let mut writer = Plan { threads: 1, ..plan(server, &copy, 7_000, seed ^ *i as u64) };
            writer.pause = Duration::from_millis(5);
            let writer = Writer::start(&writer);
            let armed = support::engine::kill_at(point, 0);
            let mut engine = copy.job.run(i % 3 + 1).fail_point(&armed).start();
            if *point == "mysql-within-transaction" {
                let table = copy.table.clone();
                let mut root = server.session();
                // More rows than a piece has.
                while engine.is_running() {
                    root.run(&format!("UPDATE {table} SET n = n + 1"));
                }
            }
            let ended = engine.wait();
            assert!(ended.was_killed(), "{armed} did not kill\n{ended}");
            copy.look(kafka, point);
            writer.stop();
            copy.ends_as_the_table(server, kafka, (i + 1) % 3 + 1);
        },
    );
}
