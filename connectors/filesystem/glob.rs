//! Which files a path stands for.

use std::path::{Path, PathBuf};

use thalweg_core::{Error, Result};

/// Folders within folders, at most (links may lead in circles).
const DEPTH_MAX: usize = 64;

/// A file found, named by its path below the root: the same name in every attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub id: String,
    pub path: PathBuf,
}

/// The files that `path` stands for, in the order of their names: itself, all below it, or what it matches. Files
/// and folders whose name begins with `.` or `_` are left out.
///
/// # Errors
/// There is no such file or folder; `may_be_empty` says whether a pattern may match nothing.
pub fn files(path: &str, may_be_empty: bool) -> Result<Vec<Found>> {
    let as_is = Path::new(path);
    let mut found = vec![];
    if as_is.is_dir() {
        walk(as_is, as_is, 0, &mut found)?;
    } else if as_is.exists() {
        found.push(Found { id: name_of(as_is), path: as_is.to_owned() });
    } else if path.contains(['*', '?', '[']) {
        let root = fixed_part(path);
        let pattern = glob::glob(path).map_err(|e| {
            Error::option(format!("'path' = '{path}' is not a pattern: {}", e.msg)).note("* ? [a-z] and ** are known")
        })?;
        for entry in pattern {
            let entry = entry.map_err(|e| Error::from(std::io::Error::from(e)).context(path))?;
            if below(&root, &entry).split('/').any(is_hidden) {
                continue;
            }
            if entry.is_dir() {
                walk(&root, &entry, 0, &mut found)?;
            } else {
                found.push(Found { id: below(&root, &entry), path: entry });
            }
        }
        if found.is_empty() && !may_be_empty {
            return Err(Error::io(format!("'path' = '{path}': no file matches")).permanent());
        }
    } else {
        let parent = as_is.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let there = if parent.is_dir() { "" } else { ", nor its folder" };
        let e = Error::io(format!("'path' = '{path}': there is no such file or folder{there}")).permanent();
        let here = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default();
        return Err(if as_is.is_absolute() { e } else { e.note(format!("it is looked for below {here}")) });
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Whether a file that is written into `folder` would be among those that `path` stands for.
pub fn covers(path: &str, folder: &str) -> bool {
    let written = real(Path::new(folder)).join("part-0-0.json");
    let is_pattern = path.contains(['*', '?', '[']) && !Path::new(path).exists();
    let root = if is_pattern { fixed_part(path) } else { PathBuf::from(path) };
    let root = real(&root);
    let Ok(inner) = written.strip_prefix(&root) else { return false };
    if inner.components().any(|c| is_hidden(&c.as_os_str().to_string_lossy())) {
        return false;
    }
    if !is_pattern {
        return true;
    }
    // What stands behind the fixed part, below the real root; a folder that matches is read with all below it.
    let wild = path.strip_prefix(&*fixed_part(path).to_string_lossy()).unwrap_or(path).trim_start_matches('/');
    let Ok(pattern) = glob::Pattern::new(wild) else { return false };
    let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
    let ends_as = |ending: &str| inner.with_extension(ending);
    ["json", "csv"].iter().any(|ending| {
        ends_as(ending).ancestors().any(|p| !p.as_os_str().is_empty() && pattern.matches_path_with(p, options))
    })
}

/// A path without links and `..`, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in path.ancestors() {
        if let Ok(found) = there.canonicalize() {
            return found.join(path.strip_prefix(there).unwrap_or(Path::new("")));
        }
    }
    path
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_']) && name != "." && name != ".."
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The folders of a pattern before its first wildcard.
fn fixed_part(pattern: &str) -> PathBuf {
    let wild = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    match pattern[..wild].rfind('/') {
        Some(0) => PathBuf::from("/"),
        Some(end) => PathBuf::from(&pattern[..end]),
        None => PathBuf::new(),
    }
}

fn below(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

fn walk(root: &Path, folder: &Path, depth: usize, found: &mut Vec<Found>) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(
            Error::io(format!("{}: more than {DEPTH_MAX} folders within one another", folder.display())).permanent()
        );
    }
    let fail = |e: std::io::Error| Error::from(e).context(format!("{} cannot be listed", folder.display()));
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if is_hidden(&name_of(&path)) {
            continue;
        }
        // A file that went away between listing and looking is not there.
        match std::fs::metadata(&path) {
            Ok(m) if m.is_dir() => walk(root, &path, depth + 1, found)?,
            Ok(_) => found.push(Found { id: below(root, &path), path }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::from(e).context(path.display())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(path: &str) -> Vec<String> {
        files(path, true).unwrap().into_iter().map(|f| f.id).collect()
    }

    #[test]
    fn a_path_covers_a_folder_that_it_would_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("in/sub")).unwrap();
        std::fs::write(dir.path().join("in/one.json"), "").unwrap();
        std::os::unix::fs::symlink(dir.path().join("in"), dir.path().join("link")).unwrap();
        let at = |path: &str| format!("{}/{path}", dir.path().display());
        let covered = |path: &str, folder: &str| covers(&at(path), &at(folder));
        for (path, folder) in [
            ("in", "in"),
            ("in", "./in"),
            ("in", "in/sub"),
            ("in", "in/new/deep"),
            ("link", "in/sub"),
            ("in/*", "in"),
            ("in/*.json", "in"),
            ("in/**/*.csv", "in/sub"),
            ("*", "in"),
            ("i?/part-*", "in"),
            ("in/s*", "in/sub"),
        ] {
            assert!(covered(path, folder), "{path} reads what goes into {folder}");
        }
        for (path, folder) in [
            ("in", "out"),
            ("in/sub", "in"),
            ("in/one.json", "in"),
            ("in", "in/.hidden"),
            ("in/*.json", "in/sub"),
            ("in/a*", "in"),
            ("in/*.txt", "in"),
        ] {
            assert!(!covered(path, folder), "{path} does not read what goes into {folder}");
        }
    }

    #[test]
    fn folders_files_and_patterns_give_sorted_names_without_hidden_ones() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [
            "b.json",
            "a.json",
            ".hidden.json",
            "_tmp.json",
            "sub/c.json",
            "sub/.x/d.json",
            ".thalweg/e.json",
            "sub/f.csv",
        ] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let root = root.to_str().unwrap();
        assert_eq!(ids(root), ["a.json", "b.json", "sub/c.json", "sub/f.csv"]);
        assert_eq!(ids(&format!("{root}/b.json")), ["b.json"]);
        assert_eq!(ids(&format!("{root}/*.json")), ["a.json", "b.json"]);
        assert_eq!(ids(&format!("{root}/**/*.json")), ["a.json", "b.json", "sub/c.json"]);
        assert_eq!(ids(&format!("{root}/s*")), ["sub/c.json", "sub/f.csv"]);
        assert_eq!(ids(&format!("{root}/*.parquet")), Vec::<String>::new());
        assert!(files(&format!("{root}/*.parquet"), false).unwrap_err().to_string().contains("no file matches"));
        let e = files(&format!("{root}/x/y.json"), true).unwrap_err();
        assert!(!e.is_transient() && e.to_string().contains("no such file or folder, nor its folder"), "{e}");
    }
}
