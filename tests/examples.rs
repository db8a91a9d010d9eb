//! Every example runs, as it stands, in a folder of its own.

mod support;

use std::path::Path;
use std::process::Command;

use support::engine::thalweg;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

#[test]
fn every_example_runs() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<String> = std::fs::read_dir(&examples)
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.ends_with(".sql"))
        .collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let place = tempfile::tempdir().unwrap();
        copy(&examples, &place.path().join("examples"));
        // The input of the main job is generated, as `scripts/demo` does it.
        let generated =
            Command::new("examples/demo/generate").args(["5000", "target/demo"]).current_dir(place.path()).status();
        assert!(generated.unwrap().success());
        let ended = thalweg(["run"]).arg(format!("examples/{name}")).current_dir(place.path()).ended();
        assert_eq!(ended.status.code(), Some(0), "{name}\n{ended}");
    }
}
