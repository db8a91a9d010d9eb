//! A checkpoint that lies in the repository, written by an earlier build, is restored by this one: with its state tables,
//! positions and output that waits, and with further input it comes to the answer of one run over all of the input.
//!
//! How it was made, and how to make the one of the next release: `tests/golden/checkpoint-0.1/README.md`.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::changelog::{Rows, fold};
use support::engine::{Thalweg, run, thalweg};
use support::files::contents;

const GOLDEN: &str = "tests/golden/checkpoint-0.1";
/// What is of the checkpoint itself; the README lies beside it.
const PARTS: [&str; 4] = ["job.sql", "in", "out", "state"];
/// The sinks with their keys, and a column whose values are drawn anew in every run.
const SINKS: [(&str, &[&str], Option<&str>); 6] = [
    ("joined", &["id"], None),
    ("totals", &["region"], None),
    ("top", &["region", "rn"], None),
    ("newest", &["customer_id"], None),
    ("latest", &["customer_id"], None),
    ("stamped", &["id"], Some("stamp")),
];
/// State tables of one operator of each kind that keeps state.
const TITLES: [&str; 7] = ["Aggregate", "Join", "TopN", "Deduplicate", "Memoize", "UpsertMaterialize", "Source orders"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN)
}

/// A copy of the golden directory in another place.
fn copied() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for part in PARTS {
        copy(&golden().join(part), &place.path().join(part));
    }
    place
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        copy(&from.join(&name), &to.join(&name));
    }
}

fn job(place: &Path, workers: usize) -> Thalweg {
    run(Path::new("job.sql"), Path::new("state"), workers).current_dir(place)
}

/// What comes after the checkpoint: orders in a new file of the folder that the job reads, clicks behind those that there
/// are, for the last one of a customer counts.
fn further_input(place: &Path) {
    let order = |id: u64, customer: u64, amount: i64| serde_json::json!({ "id": id, "customer_id": customer, "amount": amount });
    let mut text = String::new();
    for id in 1_000..1_120 {
        let new = order(id, id % 17, (id % 23) as i64);
        text += &format!("{}\n", serde_json::json!({ "before": null, "after": new, "op": "c" }));
        if id % 3 == 0 {
            let newer = order(id, (id + 5) % 17, -(id as i64 % 11));
            text += &format!("{}\n", serde_json::json!({ "before": new, "after": newer, "op": "u" }));
        } else if id % 7 == 0 {
            text += &format!("{}\n", serde_json::json!({ "before": new, "after": null, "op": "d" }));
        }
    }
    std::fs::write(place.join("in/orders/orders-2.json"), text).unwrap();
    let clicks: String = (0..60)
        .map(|i| format!("{}\n", serde_json::json!({ "customer_id": i % 25, "page": format!("late {i}") })))
        .collect();
    let mut file = std::fs::File::options().append(true).open(place.join("in/clicks.json")).unwrap();
    file.write_all(clicks.as_bytes()).unwrap();
}

/// The folded answers of all sinks, without the column that is drawn anew.
fn answers(out: &Path) -> Vec<(&'static str, Rows)> {
    let one = |(name, key, drawn): (&'static str, &[&str], Option<&str>)| {
        let folded = fold(&out.join(name), Some(key)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let without = |row: String| {
            let mut cells: Vec<Value> = serde_json::from_str(&row).unwrap();
            // It is the last one.
            cells.truncate(cells.len() - usize::from(drawn.is_some()));
            Value::Array(cells).to_string()
        };
        (name, folded.rows.into_iter().map(without).collect())
    };
    SINKS.into_iter().map(one).collect()
}

#[test]
fn the_golden_checkpoint_is_restored_and_goes_on_to_the_answer() {
    // The stored plan as it is, and one of this build's planner, whose operators must have the ids of then.
    for (flags, workers) in [(&[][..], 1), (&[][..], 3), (&["--replan"][..], 2)] {
        let place = copied();
        let was = delivered_rows(place.path());
        let verified = thalweg(["checkpoint", "inspect", "state", "--verify"]).current_dir(place.path()).succeeds();
        assert!(verified.stdout.contains("checksums are right"), "{verified}");
        further_input(place.path());
        let ended = job(place.path(), workers).args(flags).succeeds();
        ended.says(&["restored checkpoint", " 0 new, 0 dropped"]);
        assert!(delivered_rows(place.path()) > was, "{ended}");

        let fresh = tempfile::tempdir().unwrap();
        std::fs::copy(golden().join("job.sql"), fresh.path().join("job.sql")).unwrap();
        copy(&place.path().join("in"), &fresh.path().join("in"));
        job(fresh.path(), 2).succeeds();
        let (found, wanted) = (answers(&place.path().join("out")), answers(&fresh.path().join("out")));
        for ((name, found), (_, wanted)) in found.into_iter().zip(wanted) {
            assert!(!wanted.is_empty() && found == wanted, "{name} with {flags:?}: {found:#?}\nwanted {wanted:#?}");
        }
    }
}

fn delivered_rows(place: &Path) -> usize {
    SINKS.iter().map(|(name, key, _)| fold(&place.join("out").join(name), Some(key)).unwrap().changes).sum()
}

#[test]
fn the_golden_checkpoint_holds_what_it_is_to_prove() {
    let place = copied();
    let shown = thalweg(["checkpoint", "inspect", "state"]).current_dir(place.path()).succeeds().stdout;
    for title in TITLES {
        assert!(shown.contains(&format!("  {title}")), "no {title}\n{shown}");
    }
    assert!(!shown.contains("about 0 rows"), "a state table without rows\n{shown}");
    let has_pending = shown.lines().any(|l| l.starts_with("sink ") && !l.ends_with(" 0 segments pending"));
    let has_delivered = shown.lines().any(|l| l.starts_with("sink ") && !l.contains("up to segment 0,"));
    assert!(has_pending && has_delivered, "{shown}");
    assert!(shown.contains("position of "), "{shown}");
    // It must not matter where it lies, nor on which machine it was made.
    for (path, bytes) in contents(&place.path().join("state")) {
        for word in ["/tmp/", "/root/", "/home/", "/work/"] {
            let found = bytes.windows(word.len()).any(|w| w == word.as_bytes());
            assert!(!found, "{} holds a path with {word}", path.display());
        }
    }
    let bytes: usize = contents(place.path()).values().map(Vec::len).sum();
    assert!(bytes < 400 << 10, "{bytes} bytes are too many for a repository");
}

/// Makes the golden directory of a release; never over one that is there.
#[test]
#[ignore = "makes a new golden checkpoint; see tests/golden/checkpoint-0.1/README.md"]
fn make() {
    let place = PathBuf::from(std::env::var("THALWEG_GOLDEN").expect("THALWEG_GOLDEN is the folder to make"));
    std::fs::create_dir(&place).expect("the folder is not there yet");
    std::fs::create_dir_all(place.join("in/orders")).unwrap();
    let order = |id: u64, version: u64| serde_json::json!({ "id": id, "customer_id": (id * 7 + version) % 20, "amount": (id * 13 + version * 5) % 31 });
    let mut orders = String::new();
    let mut versions: BTreeMap<u64, u64> = BTreeMap::new();
    for id in 0..150u64 {
        versions.insert(id, 0);
        orders += &format!("{}\n", serde_json::json!({ "before": null, "after": order(id, 0), "op": "c" }));
        if id % 4 == 1 {
            let event = serde_json::json!({ "before": order(id - 1, 0), "after": order(id - 1, 1), "op": "u" });
            versions.insert(id - 1, 1);
            orders += &format!("{event}\n");
        }
        if id % 9 == 5
            && let Some(version) = versions.remove(&(id - 5))
        {
            let event = serde_json::json!({ "before": order(id - 5, version), "after": null, "op": "d" });
            orders += &format!("{event}\n");
        }
    }
    std::fs::write(place.join("in/orders/orders-1.json"), orders).unwrap();
    let customers: String = (0..17)
        .map(|id| {
            let region = ["north", "south", "east"][id % 3];
            format!("{}\n", serde_json::json!({ "id": id, "name": format!("customer {id}"), "region": region }))
        })
        .collect();
    std::fs::write(place.join("in/customers.json"), customers).unwrap();
    let clicks: String = (0..150)
        .map(|i| format!("{}\n", serde_json::json!({ "customer_id": i % 20, "page": format!("page {i}") })))
        .collect();
    std::fs::write(place.join("in/clicks.json"), clicks).unwrap();
    std::fs::write(place.join("job.sql"), JOB).unwrap();
    // After the first checkpoint's deliveries, with output of the second that the targets do not have.
    let ended = job(&place, 1).fail_point("before-deliver=kill@8").ended();
    assert!(ended.was_killed(), "{ended}");
    std::fs::remove_dir_all(place.join("state/work")).unwrap();
    std::fs::remove_file(place.join("state/LOCK")).unwrap();
}

const JOB: &str = "-- One operator of every kind that keeps state. Paths are relative: it can lie anywhere.
SET 'pipeline.name' = 'golden';
SET 'execution.checkpointing.interval' = '400 ms';
CREATE TABLE orders (id BIGINT, customer_id BIGINT, amount BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'in/orders', 'format' = 'debezium-json', 'scan.rate-limit' = '100');
CREATE TABLE customers (id BIGINT, name STRING, region STRING) WITH (
  'connector' = 'filesystem', 'path' = 'in/customers.json', 'format' = 'json');
CREATE TABLE clicks (customer_id BIGINT, page STRING, at AS PROCTIME()) WITH (
  'connector' = 'filesystem', 'path' = 'in/clicks.json', 'format' = 'json', 'scan.rate-limit' = '100');
CREATE TABLE joined (id BIGINT, name STRING, region STRING, amount BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/joined', 'format' = 'debezium-json');
CREATE TABLE totals (region STRING, n BIGINT, total BIGINT, most BIGINT, least BIGINT, amounts BIGINT,
  PRIMARY KEY (region) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/totals', 'format' = 'debezium-json');
CREATE TABLE top (region STRING, rn BIGINT, id BIGINT, amount BIGINT, PRIMARY KEY (region, rn) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/top', 'format' = 'debezium-json');
CREATE TABLE newest (customer_id BIGINT, id BIGINT, amount BIGINT, PRIMARY KEY (customer_id) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/newest', 'format' = 'debezium-json');
CREATE TABLE latest (customer_id BIGINT, page STRING, PRIMARY KEY (customer_id) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/latest', 'format' = 'debezium-json');
CREATE TABLE stamped (id BIGINT, amount BIGINT, stamp DOUBLE, PRIMARY KEY (id) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/stamped', 'format' = 'debezium-json');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO joined
    SELECT o.id, c.name, c.region, o.amount FROM orders o JOIN customers c ON o.customer_id = c.id;
  INSERT INTO totals
    SELECT c.region, COUNT(*), SUM(o.amount), MAX(o.amount), MIN(o.amount), COUNT(DISTINCT o.amount)
      FROM orders o JOIN customers c ON o.customer_id = c.id GROUP BY c.region;
  INSERT INTO top
    SELECT region, rn, id, amount FROM (
      SELECT c.region, o.id, o.amount,
             ROW_NUMBER() OVER (PARTITION BY c.region ORDER BY o.amount DESC, o.id) AS rn
        FROM orders o JOIN customers c ON o.customer_id = c.id)
     WHERE rn <= 3;
  INSERT INTO newest
    SELECT customer_id, id, amount FROM orders;
  INSERT INTO latest
    SELECT customer_id, page FROM (
      SELECT customer_id, page, ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY at DESC) AS rn FROM clicks)
     WHERE rn = 1;
  INSERT INTO stamped
    SELECT id, amount, RAND() FROM orders;
END;
";
