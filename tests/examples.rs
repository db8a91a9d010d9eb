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
