//! The strict fold of what the file sink wrote: part files in the order of their names, line by line; a row that is
//! inserted must not be there, one that is deleted must be there, exactly as it is deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// A row as JSON text of the values of its columns, in the order of the columns.
pub type Rows = BTreeSet<String>;

/// Folds by key: at most one row of each key at any time.
pub struct Fold {
    pub rows: Rows,
    pub changes: usize,
    pub files: usize,
}

/// Folds a sink's folder. `key`: the sink's primary key; without one every row is there at most once (so must be
/// the answers that are tested).
pub fn fold(folder: &Path, key: Option<&[&str]>) -> Result<Fold, String> {
    let mut names: Vec<_> = match std::fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|e| e.map(|e| e.file_name().to_string_lossy().into_owned()).map_err(|e| e.to_string()))
            .collect::<Result<_, _>>()?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => vec![],
        Err(e) => return Err(e.to_string()),
    };
    names.retain(|n| n.starts_with("part-"));
    names.sort();
    let mut there: BTreeMap<String, String> = BTreeMap::new();
    let mut changes = 0;
    for name in &names {
        let text = std::fs::read_to_string(folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(format!("{name} ends within a line"));
        }
        for (i, line) in text.lines().enumerate() {
            apply(&mut there, line, key)
                .map_err(|e| format!("{}/{name}, line {}: {e}: {line}", folder.display(), i + 1))?;
            changes += 1;
        }
    }
    Ok(Fold { rows: there.into_values().collect(), changes, files: names.len() })
}

fn apply(there: &mut BTreeMap<String, String>, line: &str, key: Option<&[&str]>) -> Result<(), String> {
    let event: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let place = |row: &Value| match key {
        None => Ok(row_text(row)),
        Some(key) => {
            let values = key.iter().map(|k| row.get(k).cloned().ok_or(format!("no column {k}")));
            Ok::<_, String>(Value::Array(values.collect::<Result<_, _>>()?).to_string())
        }
    };
    let (deletes, inserts) = match event["op"].as_str() {
        Some("c") => (false, true),
        Some("u") => (true, true),
        Some("d") => (true, false),
        _ => return Err("no such op".to_owned()),
    };
    if deletes {
        let row = &event["before"];
        match there.remove(&place(row)?) {
            Some(old) if old == row_text(row) => {}
            Some(old) => return Err(format!("deleted, but it is {old}")),
            None => return Err("deleted, but it is not there".to_owned()),
        }
    }
    if inserts {
        let row = &event["after"];
        if let Some(old) = there.insert(place(row)?, row_text(row)) {
            return Err(format!("inserted, but there is {old}"));
        }
    }
    Ok(())
}

pub fn row_text(row: &Value) -> String {
    match row {
        Value::Object(fields) => Value::Array(fields.values().cloned().collect()).to_string(),
        other => other.to_string(),
    }
}

/// Rows of an append-only JSON sink, as a multiset in canonical order.
pub fn lines(folder: &Path) -> Vec<String> {
    let mut all = vec![];
    if let Ok(entries) = std::fs::read_dir(folder) {
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with("part-") {
                let text = std::fs::read_to_string(entry.path()).expect("a part can be read");
                all.extend(text.lines().map(str::to_owned));
            }
        }
    }
    all.sort();
    all
}

/// Folds, and fails the test with the first difference to the answer.
pub fn assert_folds_to(folder: &Path, key: Option<&[&str]>, answer: &Rows) -> Fold {
    let fold = fold(folder, key).unwrap_or_else(|e| panic!("{e}"));
    let missing: Vec<_> = answer.difference(&fold.rows).take(3).collect();
    let wrong: Vec<_> = fold.rows.difference(answer).take(3).collect();
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "{}: {} rows of {}; missing {missing:?}; wrong {wrong:?}",
        folder.display(),
        fold.rows.len(),
        answer.len()
    );
    fold
}
