//! What costs time is counted: a tick is started for rows that it takes, and takes no more than it may.

mod support;

use support::engine::thalweg;

/// The number of the last tick of a job over `rows` generated rows, on two workers.
fn ticks(settings: &str, rows: u64, rows_per_second: u64) -> u64 {
    let sql = format!(
        "{settings}
        SET 'execution.checkpointing.interval' = '0';
        CREATE TABLE src (k BIGINT, v BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '{rows}',
          'rows-per-second' = '{rows_per_second}', 'fields.k.min' = '0', 'fields.k.max' = '9');
        CREATE TABLE dst (k BIGINT, n BIGINT) WITH ('connector' = 'blackhole');
        INSERT INTO dst SELECT k, COUNT(*) FROM src WHERE v > 0 GROUP BY k;"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("job.sql");
    std::fs::write(&file, sql).unwrap();
    let ended = thalweg(["run"]).arg(file.display()).args(&["--workers", "2"]).succeeds();
    let tick = |line: &str| line.split_once(" tick=")?.1.split(' ').next()?.parse().ok();
    ended.stderr.lines().filter_map(tick).next_back().unwrap_or_else(|| panic!("no tick is logged: {ended}"))
}

#[test]
fn a_tick_takes_no_more_rows_than_it_may() {
    // Each worker has half of the rows, in pieces of 8; one may be ahead of the other. The first tick may be without
    // rows, and the last one is.
    let ticks = ticks("SET 'execution.tick.rows-max' = '8';", 800, 0);
    assert!((50..=102).contains(&ticks), "{ticks} ticks for 100 pieces");
}

#[test]
fn rows_that_come_slowly_make_no_ticks_without_rows() {
    // Pieces are of 8 rows: what comes in a twentieth of a second, 10 rows, in whole rounds of a worker's four splits.
    let ticks = ticks("", 80, 200);
    assert!(ticks <= 12, "{ticks} ticks for 10 pieces");
}

#[test]
fn a_tick_of_no_rows_is_refused() {
    let ended = thalweg(["-c", "SET 'execution.tick.rows-max' = '0';"]).fails();
    ended.says(&["execution.tick.rows-max", "at least 1"]);
}
