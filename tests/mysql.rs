//! MySQL into files: killed at random moments, restored with other numbers of workers. What the file sink holds is at every
//! moment a strict changelog, and at the end the table. The long stories are in `mysql_kafka.rs`.

#[path = "../connectors/mysql/tests/support/writer.rs"]
mod writer;

mod support;

/// As the writer knows it.
mod mysqld {
    pub use super::support::mysqld::Session;
}

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use support::changelog::{Rows, assert_folds_to, fold};
use support::engine::run;
use support::files::newest_checkpoint;
use support::mysqld::Mysqld;
use writer::{Keys, Plan, Writer, fill};

/// A script that copies `db.t` into files below `out`.
fn copies(place: &Path, server: &Mysqld, columns: &str, interval_ms: u64, options: &str) -> PathBuf {
    let columns = format!("{columns}, PRIMARY KEY (id) NOT ENFORCED");
    let sql = format!(
        "SET 'execution.checkpointing.interval' = '{interval_ms} ms';
         CREATE TABLE t ({columns}) {};
         CREATE TABLE copy ({columns}) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'debezium-json');
         INSERT INTO copy SELECT * FROM t;",
        server.with("db", "t", options),
        place.join("out").display()
    );
    let script = place.join("job.sql");
    std::fs::write(&script, sql).unwrap();
    script
}

#[test]
fn killed_at_random_moments_a_table_is_in_the_files_once() {
    let (rows, kills, key) = (20_000, 9, Some(&["id"][..]));
    let seed = support::seed();
    let mut random = SmallRng::seed_from_u64(seed);
    let server = Mysqld::start(&[]);
    let mut root = server.session();
    root.run("CREATE DATABASE db");
    fill(&mut root, "db.t", Keys::Text, rows);
    let place = tempfile::tempdir().unwrap();
    let (dir, out) = (place.path().join("state"), place.path().join("out"));
    let script = copies(
        place.path(),
        &server,
        "id STRING, n INT, name STRING",
        100,
        "'scan.incremental.snapshot.chunk.size' = '500'",
    );
    let writer = Writer::start(&Plan {
        port: server.port(),
        table: "db.t".to_owned(),
        keys: Keys::Text,
        numbers: rows * 11 / 10,
        threads: 3,
        pause: Duration::from_millis(2),
        seed,
    });
    for life in 0..kills {
        let before = newest_checkpoint(&dir);
        let mut engine = run(&script, &dir, life % 3 + 1).start();
        if life % 2 == 0 {
            engine.wait_until("checkpoint", |_| newest_checkpoint(&dir) > before + 1);
        }
        // The moment is what is tested.
        std::thread::sleep(Duration::from_millis(random.random_range(0..500)));
        assert!(engine.kill(), "the engine has ended by itself\n{}", engine.stderr_so_far());
        fold(&out, key).unwrap_or_else(|e| panic!("life {life}: {e}"));
    }
    writer.stop();
    let compact = |json: &String| serde_json::from_str::<serde_json::Value>(json).expect("JSON").to_string();
    let answer: Rows = root.rows("SELECT JSON_ARRAY(id, n, name) FROM db.t").iter().map(|r| compact(&r[0])).collect();
    let mut engine = run(&script, &dir, 2).start();
    let began = Instant::now();
    while engine.is_running() && began.elapsed() < Duration::from_secs(90) {
        if fold(&out, key).unwrap_or_else(|e| panic!("{e}")).rows == answer {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    assert_folds_to(&out, key, &answer);
}

/// Rows that were there before reading began come with their first change.
#[test]
fn without_a_snapshot_changes_of_rows_never_seen_make_a_strict_changelog() {
    let key = Some(&["id"][..]);
    let server = Mysqld::start(&[]);
    let mut root = server.session();
    root.run("CREATE DATABASE db; USE db; CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(20))");
    root.run("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (5, 'e')");
    let place = tempfile::tempdir().unwrap();
    let (dir, out) = (place.path().join("state"), place.path().join("out"));
    let script = copies(place.path(), &server, "id INT, name STRING", 50, "'scan.startup.mode' = 'latest-offset'");
    let holds = |rows: &[&str]| rows.iter().map(|r| (*r).to_owned()).collect::<Rows>();
    // Each step in a life of its own: what was seen is state.
    let steps: [(&str, Rows); 4] = [
        ("UPDATE t SET name = 'x' WHERE id = 1; DELETE FROM t WHERE id = 2", holds(&["[1,\"x\"]"])),
        (
            "UPDATE t SET id = 6 WHERE id = 5; INSERT INTO t VALUES (4, 'd')",
            holds(&["[1,\"x\"]", "[4,\"d\"]", "[6,\"e\"]"]),
        ),
        ("UPDATE t SET name = 'dd' WHERE id = 4; DELETE FROM t WHERE id = 1", holds(&["[4,\"dd\"]", "[6,\"e\"]"])),
        (
            "DELETE FROM t WHERE id IN (3, 6); INSERT INTO t VALUES (2, 'again')",
            holds(&["[2,\"again\"]", "[4,\"dd\"]"]),
        ),
    ];
    for (life, (change, answer)) in steps.into_iter().enumerate() {
        let mut engine = run(&script, &dir, life % 3 + 1).start();
        // Where the job begins is in its first checkpoint; the first manifest is its name only.
        engine.wait_until("checkpoint", |_| newest_checkpoint(&dir) > 1);
        root.run(change);
        engine.wait_until("the answer", |_| fold(&out, key).unwrap_or_else(|e| panic!("{change}: {e}")).rows == answer);
        assert!(engine.kill(), "the engine has ended by itself\n{}", engine.stderr_so_far());
    }
}

#[test]
fn a_server_that_is_not_there_is_an_error_at_start() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("job.sql");
    let sql = "CREATE TABLE t (id BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'mysql-cdc', 'hostname' = '127.0.0.1', \
               'port' = '1', 'username' = 'root', 'database-name' = 'db', 'table-name' = 't');
               CREATE TABLE out1 (id BIGINT) WITH ('connector' = 'blackhole');
               INSERT INTO out1 SELECT * FROM t;";
    std::fs::write(&file, sql).unwrap();
    run(&file, &place.path().join("state"), 1).fails().says(&["127.0.0.1:1", "refused"]);
}
