//! The examples and the demo's scripts run, and give what they promise.

use std::path::Path;
use std::process::{Command, Output};

/// A folder in which the examples' relative paths are right, without writing into the tree.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a temporary folder can be made");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    std::os::unix::fs::symlink(examples, place.path().join("examples")).expect("the folder is empty");
    place
}

fn succeeds(place: &Path, program: &str, args: &[&str]) -> String {
    let Output { status, stdout, stderr } =
        Command::new(program).args(args).current_dir(place).output().expect("the program is there");
    assert!(status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

fn fails(place: &Path, program: &str, args: &[&str], because: &str) {
    let out = Command::new(program).args(args).current_dir(place).output().expect("the program is there");
    let why = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && why.contains(because), "{program} {args:?}, expected {because:?}: {out:?}");
}

fn run(place: &Path, args: &[&str]) -> String {
    succeeds(place, env!("CARGO_BIN_EXE_thalweg"), &[&["run"], args].concat())
}

#[test]
fn generated_orders_have_two_dearest_ones_per_shop() {
    let place = place();
    let answer = run(place.path(), &["examples/datagen_top_n.sql", "--format", "csv"]);
    assert_eq!(answer.lines().count(), 1 + 3 * 2, "{answer}");
}

#[test]
fn files_are_read_and_written() {
    let place = place();
    let answer = run(place.path(), &["examples/files.sql", "--format", "csv"]);
    assert!(answer.contains("south,6,Alan"), "{answer}");
    let written = succeeds(place.path(), "sh", &["-c", "cat target/examples/regions/part-*.json"]);
    assert_eq!(written.lines().count(), 4, "{written}");
}

#[test]
fn the_demo_gives_what_its_generator_has_counted() {
    let place = place();
    let place = place.path();
    succeeds(place, "examples/demo/generate", &["4000", "target/demo"]);
    run(place, &["examples/demo.sql", "--dir", "target/demo/state"]);
    let expected = std::fs::read_to_string(place.join("target/demo/expected.csv")).expect("the generator writes it");
    let header = "region,rn,customer,total\n";
    let batch = run(place, &["examples/demo/batch.sql", "--format", "csv"]);
    let answer = run(place, &["examples/demo/answer.sql", "--workers", "1", "--format", "csv"]);
    assert_eq!(batch, format!("{header}{expected}"));
    assert_eq!(answer, batch);
    let folded = succeeds(place, "examples/demo/fold", &["target/demo/out"]);
    assert!(folded.trim_end().ends_with(" 12"), "changes and rows: {folded}");
}

#[test]
fn the_demos_proofs_see_what_is_lost_doubled_or_out_of_order() {
    let place = place();
    let place = place.path();
    std::fs::create_dir(place.join("out")).expect("a folder can be made");
    // Key 1 comes, changes and goes; key 2 stays.
    let row = |rn: u32, name: &str| format!(r#"{{"region":"north","rn":{rn},"name":"{name}"}}"#);
    let event = |before: &str, after: &str, op: &str| format!(r#"{{"before":{before},"after":{after},"op":"{op}"}}"#);
    let (a, b, c) = (row(1, "a"), row(1, "b"), row(2, "c"));
    let good = [event("null", &a, "c"), event("null", &c, "c"), event(&a, &b, "u"), event(&b, "null", "d")];
    let damaged = |change: fn(&mut Vec<String>)| {
        let mut events = good.to_vec();
        change(&mut events);
        events
    };
    let write = |events: &[String], last_partition: u32| {
        std::fs::write(place.join("out/part-1.json"), events.join("\n") + "\n").expect("a file can be written");
        let message = |(i, e): (usize, &String)| {
            let key = if e.contains("\"rn\":2") { 2 } else { 1 };
            let partition = if i + 1 == events.len() { last_partition } else { key };
            format!("Partition:{partition}\t{{\"rn\":{key}}}\t{e}\n")
        };
        let topic: String = events.iter().enumerate().map(message).collect();
        std::fs::write(place.join("topic"), topic).expect("a file can be written");
    };
    let (files, topic) = ("examples/demo/fold", "examples/mysql_kafka/fold");
    write(&good, 1);
    assert_eq!(succeeds(place, files, &["out"]).trim(), "4 1");
    assert_eq!(succeeds(place, topic, &["orders", "topic"]).trim(), "4\nnorth\t2\tc");
    // An insert, a change or a delete that comes twice; one that is lost; two that have changed places.
    for (events, because) in [
        (damaged(|e| e.insert(1, e[0].clone())), "of a key that is there"),
        (damaged(|e| e.insert(3, e[2].clone())), "of a row that is not"),
        (damaged(|e| e.push(e[3].clone())), "of a row that is not"),
        (damaged(|e| drop(e.remove(0))), "of a row that is not"),
        (damaged(|e| drop(e.remove(2))), "of a row that is not"),
        (damaged(|e| e.swap(2, 3)), "of a row that is not"),
    ] {
        write(&events, 1);
        fails(place, files, &["out"], because);
        fails(place, topic, &["orders", "topic"], because);
    }
    write(&good, 3);
    fails(place, topic, &["orders", "topic"], "a key in two partitions");
    // The end of the stream that is lost shows in the rows, which are compared with the table.
    write(&damaged(|e| drop(e.pop())), 1);
    assert_eq!(succeeds(place, files, &["out"]).trim(), "3 2");
    assert_eq!(succeeds(place, topic, &["orders", "topic"]).trim(), "3\nnorth\t1\tb\nnorth\t2\tc");
}
