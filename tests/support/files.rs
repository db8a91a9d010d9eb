//! What lies in a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Every file below a folder with its content, but for the lock. What a running engine takes away meanwhile is not there.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Some(entries) = unless_gone(std::fs::read_dir(&folder)) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_name() != "LOCK"
                && let Some(content) = unless_gone(std::fs::read(&path))
            {
                all.insert(path, content);
            }
        }
    }
    all
}

fn unless_gone<T>(found: std::io::Result<T>) -> Option<T> {
    match found {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        found => Some(found.expect("it can be read")),
    }
}

/// The same files with the same bytes; else the names that differ.
pub fn assert_untouched(before: &BTreeMap<PathBuf, Vec<u8>>, folder: &Path) {
    let after = contents(folder);
    let differs: Vec<_> = before.keys().chain(after.keys()).filter(|p| before.get(*p) != after.get(*p)).collect();
    assert!(differs.is_empty(), "changed: {differs:?}");
}

/// The files below a folder whose path (as text) contains a word, oldest name first.
pub fn find(folder: &Path, word: &str) -> Vec<PathBuf> {
    contents(folder).into_keys().filter(|p| p.to_string_lossy().contains(word)).collect()
}

/// The newest manifest below a folder.
pub fn newest_manifest(folder: &Path) -> Option<PathBuf> {
    find(folder, "MANIFEST-").into_iter().rfind(|p| p.extension().is_some_and(|e| e == "json"))
}

/// The number of the newest manifest in a directory; of several jobs, of the one that is least far.
pub fn newest_checkpoint(dir: &Path) -> u64 {
    let jobs = std::fs::read_dir(dir.join("checkpoints")).into_iter().flatten().flatten();
    let number = |n: &str| n.strip_prefix("MANIFEST-")?.strip_suffix(".json")?.parse::<u64>().ok();
    let newest = |job: std::fs::DirEntry| {
        let names = std::fs::read_dir(job.path()).into_iter().flatten().flatten().map(|m| m.file_name());
        names.filter_map(|n| number(&n.to_string_lossy())).max().unwrap_or(0)
    };
    jobs.map(newest).min().unwrap_or(0)
}
