//! What RocksDB and the file system say, as errors that a person can act on.

use std::path::Path;

use rocksdb::ErrorKind;
use thalweg_core::{Error, ErrorCode};

/// What to do about damaged state; the local files are a copy, the checkpoint's are what counts.
pub(crate) const WHAT_TO_DO: &str = "`thalweg checkpoint inspect DIR --verify` checks every file; start from another checkpoint with --from PATH, \
     or read all sources again with --fresh";

/// An error of the RocksDB in `dir`. Damage is permanent and names the file; all that can pass is transient and names
/// the directory.
pub(crate) fn rocks(dir: &Path, doing: &str, e: &rocksdb::Error) -> Error {
    let text = e.as_ref();
    match e.kind() {
        ErrorKind::Corruption | ErrorKind::NotFound | ErrorKind::NotSupported => {
            let file = file_in(text).unwrap_or_else(|| dir.display().to_string());
            Error::checkpoint(format!("state file {file} is damaged, found while {doing}: {text}")).note(WHAT_TO_DO)
        }
        ErrorKind::IOError if text.contains("No space left") => full(dir, doing),
        // A file that the manifest of RocksDB names and that is not there: repetition does not bring it back.
        ErrorKind::IOError if text.contains("No such file") => {
            let file = file_in(text).unwrap_or_else(|| dir.display().to_string());
            Error::checkpoint(format!("state file {file} is missing, found while {doing}: {text}")).note(WHAT_TO_DO)
        }
        ErrorKind::InvalidArgument => {
            Error::checkpoint(format!("the state in {} does not fit its description, {doing}: {text}", dir.display()))
                .note(WHAT_TO_DO)
        }
        _ => Error::io(format!("{doing} in {}: {text}", dir.display()))
            .note("the disk of this directory must be there and writable"),
    }
}

/// An error of the file system at `path`.
pub(crate) fn file(path: &Path, doing: &str, e: &std::io::Error) -> Error {
    use std::io::ErrorKind::*;
    match e.kind() {
        StorageFull | QuotaExceeded => full(path, doing),
        PermissionDenied | ReadOnlyFilesystem => {
            Error::new(ErrorCode::Access, format!("{doing} {}: {e}", path.display()))
                .note("the directory must be writable for this user")
        }
        _ => Error::io(format!("{doing} {}: {e}", path.display())),
    }
}

fn full(path: &Path, doing: &str) -> Error {
    Error::io(format!("the disk of {} is full, found while {doing}", path.display()))
        .note("free some space: the job tries again by its restart strategy, from its last checkpoint")
}

/// The path of the first state file that a message of RocksDB names.
fn file_in(text: &str) -> Option<String> {
    text.split([' ', '\'', '"', ',', ';'])
        .map(|word| word.trim_end_matches([':', '.', ')']).trim_start_matches('('))
        .find(|w| w.ends_with(".sst") || w.contains("MANIFEST-") || w.ends_with("/CURRENT"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_message_is_found() {
        let text = "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in /s/000012.sst offset 0";
        assert_eq!(file_in(text).as_deref(), Some("/s/000012.sst"));
        let text = "IO error: No such file or directory: While open a file for random read: /s/000012.sst: No such";
        assert_eq!(file_in(text).as_deref(), Some("/s/000012.sst"));
        assert_eq!(file_in("Busy"), None);
    }

    #[test]
    fn a_full_disk_is_transient_and_a_missing_right_is_not() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let e = file(Path::new("/data/state"), "writing", &full);
        assert!(e.is_transient() && e.message().contains("/data/state"));
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert!(!file(Path::new("/data"), "writing", &denied).is_transient());
    }
}
