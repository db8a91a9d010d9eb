//! Statements from text to answer, on own tables: no connector is linked here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thalweg_runtime::{Disturb, DisturbCounts};

use crate::{Answer, Session, SessionOptions};

/// Runs a script and gives the rows of its last statement, cells joined by a blank, one row a line.
async fn last_answer(script: &str, disturb: Option<Disturb>) -> String {
    let mut session = Session::open(SessionOptions { workers: Some(2), disturb, ..Default::default() }).unwrap();
    let mut last = String::new();
    let mut each = |_: &thalweg_plan::Parsed, answer: Answer| {
        last = match answer {
            Answer::Rows(rows) => (0..rows.batch.num_rows())
                .map(|row| {
                    let cells = rows
                        .batch
                        .columns()
                        .iter()
                        .map(|c| arrow::util::display::array_value_to_string(c, row).unwrap());
                    cells.map(|c| if c.is_empty() { "NULL".into() } else { c }).collect::<Vec<String>>().join(" ")
                })
                .collect::<Vec<_>>()
                .join("\n"),
            Answer::Done(text) | Answer::Text(text) => text,
            Answer::Changes(_) | Answer::Job(_) => "started".to_owned(),
        };
        Ok(())
    };
    match session.execute_script(script, &mut each).await {
        Ok(()) => last,
        Err(e) => format!("error: {e}"),
    }
}

const ORDERS: &str = "
    CREATE TABLE customers (id INT PRIMARY KEY, name STRING, region STRING);
    CREATE TABLE orders (id INT PRIMARY KEY, customer INT, amount DECIMAL(10, 2));
    INSERT INTO customers VALUES (1, 'Ada', 'north'), (2, 'Edgar', 'north'), (3, 'Grace', 'south');
    INSERT INTO orders VALUES (1, 1, 10.50), (2, 1, 20), (3, 2, 5), (4, 3, 7);
    UPDATE orders SET amount = amount + 1 WHERE customer = 2;
    DELETE FROM orders WHERE id = 2;
    INSERT INTO orders VALUES (5, 2, 100), (6, 3, NULL);
";

fn script(query: &str) -> String {
    format!("{ORDERS}{query}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_an_aggregate_and_a_top_n_follow_updates_and_deletes() {
    let aggregate = "SELECT c.name, COUNT(*) AS n, SUM(o.amount) AS total FROM orders o
        JOIN customers c ON o.customer = c.id GROUP BY c.name ORDER BY c.name;";
    let expected = "Ada 1 10.50\nEdgar 2 106.00\nGrace 2 7.00";
    assert_eq!(last_answer(&script(aggregate), None).await, expected);
    let top = "SELECT region, rn, name, amount FROM (
            SELECT c.region, c.name, o.amount,
                   ROW_NUMBER() OVER (PARTITION BY c.region ORDER BY o.amount DESC) AS rn
              FROM orders o JOIN customers c ON o.customer = c.id WHERE o.amount IS NOT NULL)
        WHERE rn <= 2 ORDER BY region, rn;";
    let expected = "north 1 Edgar 100.00\nnorth 2 Ada 10.50\nsouth 1 Grace 7.00";
    assert_eq!(last_answer(&script(top), None).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_depend_on_slices_checkpoints_kills_and_workers() {
    let query = "SELECT c.region, COUNT(*), MIN(o.amount), MAX(o.amount), AVG(o.amount) FROM orders o
        JOIN customers c ON o.customer = c.id GROUP BY c.region;";
    let expected = last_answer(&script(query), None).await;
    assert!(expected.starts_with("north 3 6.00 100.00"), "{expected}");
    let counts = Arc::<DisturbCounts>::default();
    for seed in 0..12 {
        let disturb = Disturb {
            seed,
            slice_rows_max: 2,
            piece_rows_max: 2,
            checkpoint_one_in: 2,
            kill_one_in: 2,
            kills_max: 3,
            workers: vec![1, 4, 2],
            counts: counts.clone(),
        };
        assert_eq!(last_answer(&script(query), Some(disturb)).await, expected, "seed {seed}");
    }
    // Of each seed three INSERTs and the query run.
    let many = |count: &AtomicU64, least: u64| assert!(count.load(Ordering::Relaxed) >= least, "{counts:?}");
    many(&counts.kills, 24);
    many(&counts.restores, 12);
    many(&counts.rescales, 6);
    many(&counts.cuts, 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_key_of_an_own_table_is_enforced() {
    let error = last_answer(&script("INSERT INTO orders VALUES (1, 1, 1);"), None).await;
    assert!(error.contains("two rows with the key (id = 1)"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_select_without_from_and_values_have_answers() {
    assert_eq!(last_answer("SELECT 1 + 1 AS two, 'a' AS a;", None).await, "2 a");
    assert_eq!(last_answer("SELECT COUNT(*) FROM (VALUES (1), (2)) AS t(x) WHERE x > 5;", None).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_stands_at_its_place_in_the_script() {
    let error = last_answer("SELECT 1;\n  SELECT amuont FROM (VALUES (1)) AS t(amount);", None).await;
    assert!(error.contains("(line 2, column 10)") && error.contains("did you mean \"amount\"?"), "{error}");
}
