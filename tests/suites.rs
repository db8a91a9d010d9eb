//! What the suites in `sql-tests` must have. `thalweg test` runs them.

use std::path::{Path, PathBuf};

fn suites(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder of suites is there").flatten().map(|e| e.path());
    entries
        .flat_map(|path| if path.is_dir() { suites(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|e| e == "slt"))
        .collect()
}

/// Any error would do otherwise, of a misspelled word too.
#[test]
fn every_error_that_is_expected_is_named() {
    let all = suites(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sql-tests"));
    assert!(all.len() > 40, "{} suites", all.len());
    let mut expected = 0;
    for path in all {
        let text = std::fs::read_to_string(&path).expect("a suite can be read");
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let Some(named) = line.strip_prefix("statement error").or_else(|| line.strip_prefix("query error")) else {
                continue;
            };
            expected += 1;
            // On the same line, or behind the statement.
            let behind = lines[i..].iter().take_while(|l| !l.trim().is_empty()).any(|l| *l == "----");
            assert!(!named.trim().is_empty() || behind, "{}:{}: which error?", path.display(), i + 1);
        }
    }
    assert!(expected > 150, "{expected} errors");
}
