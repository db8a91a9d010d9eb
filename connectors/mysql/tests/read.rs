//! Reading a real server: snapshot, stream, both at once; stopped anywhere and gone on with.

#[path = "support/harness.rs"]
mod harness;
#[path = "../../../tests/support/mysqld.rs"]
mod mysqld;
#[path = "support/writer.rs"]
mod writer;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use harness::{Job, seed, table};
use mysqld::Mysqld;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_core::SqlType;
use writer::{Keys, Plan, Writer, fill};

static SERVER: LazyLock<Mysqld> = LazyLock::new(|| Mysqld::start(&[]));

fn id_and_name() -> Vec<(&'static str, SqlType)> {
    vec![("id", SqlType::BigInt), ("name", SqlType::STRING)]
}

#[test]
fn a_table_is_read_and_then_followed() {
    let mut root = SERVER.session();
    root.run("CREATE DATABASE follow");
    root.run("CREATE TABLE follow.t (id BIGINT PRIMARY KEY, name VARCHAR(20))");
    root.run("INSERT INTO follow.t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i, CONCAT('n', i) FROM n");
    let tables = [table(&SERVER, "follow", "t", &id_and_name(), &[("scan.incremental.snapshot.chunk.size", "100")])];
    let mut job = Job::start(&tables, "follow").unwrap();
    job.snapshot();
    assert_eq!(job.fold.of(0).len(), 1000);
    root.run("INSERT INTO follow.t VALUES (5000, 'new'), (-1, NULL)");
    root.run("UPDATE follow.t SET name = 'changed' WHERE id <= 10");
    root.run("DELETE FROM follow.t WHERE id = 500");
    root.run("BEGIN; UPDATE follow.t SET id = id + 10000 WHERE id BETWEEN 600 AND 610; COMMIT");
    job.until_same(0, &mut root, "SELECT id, name FROM follow.t");
}

/// The whole story of one kind of keys: a snapshot under a mad writer, stopped at random pieces.
fn torture(database: &str, keys: Keys, rows: u64) {
    let seed = seed();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut root = SERVER.session();
    root.run(&format!("CREATE DATABASE {database}"));
    let name = format!("{database}.t");
    fill(&mut root, &name, keys, rows);
    let mut columns = vec![("id", if keys == Keys::Number { SqlType::BigInt } else { SqlType::STRING })];
    if keys == Keys::TextAndTime {
        columns.push(("at", SqlType::Timestamp(3)));
    }
    columns.extend([("n", SqlType::Int), ("name", SqlType::STRING)]);
    let tables = [table(&SERVER, database, "t", &columns, &[("scan.incremental.snapshot.chunk.size", "60")])];
    let mut job = Job::start(&tables, database).unwrap();
    let plan = Plan {
        port: SERVER.port(),
        table: name.clone(),
        keys,
        numbers: rows * 3 / 2,
        threads: 3,
        pause: Duration::from_millis(1),
        seed,
    };
    let writer = Writer::start(&plan);
    let (began, mut stops) = (Instant::now(), 0);
    // Until the snapshot is through, and for some time behind it.
    let mut behind = None;
    while behind.is_none_or(|b: Instant| b.elapsed() < Duration::from_secs(1)) {
        job.limits = (random.random_range(1..300), random.random_range(200..100_000));
        for _ in 0..random.random_range(0..12) {
            // Now and then a tick is cut, as one that is too large.
            let pieces_max = if random.random_range(0..6) == 0 { 1 } else { usize::MAX };
            job.tick_of(pieces_max).unwrap_or_else(|e| panic!("{e}"));
        }
        job.stop();
        stops += 1;
        if behind.is_none() && job.is_done() {
            behind = Some(Instant::now());
        }
        assert!(
            began.elapsed() < harness::PATIENCE,
            "the snapshot is not through after {stops} stops: {:?}",
            job.position
        );
    }
    let transactions = writer.stop();
    // Whole seconds without a fraction, others with three digits.
    let digits = "LEFT(DATE_FORMAT(at, '%Y-%m-%dT%H:%i:%s.%f'), IF(MICROSECOND(at) = 0, 19, 23))";
    let at = if keys == Keys::TextAndTime { digits } else { "" };
    let list = if at.is_empty() { "id, n, name".to_owned() } else { format!("id, {at}, n, name") };
    job.until_same(0, &mut root, &format!("SELECT {list} FROM {name}"));
    println!("{keys:?}: {stops} stops, {transactions} transactions, {} changes", job.fold.changes);
    assert!(stops > 20, "only {stops} stops");
}

#[test]
fn nothing_is_lost_or_doubled_by_number() {
    torture("by_number", Keys::Number, 6_000);
}

#[test]
fn nothing_is_lost_or_doubled_by_text() {
    torture("by_text", Keys::Text, 6_000);
}

#[test]
fn nothing_is_lost_or_doubled_by_text_and_time() {
    torture("by_text_and_time", Keys::TextAndTime, 6_000);
}
