//! The lock on a lasting directory: a second process is told at once. It is a courtesy; what keeps two processes from
//! writing one job is the numbered log of manifests, also where a file system has lost the lock.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use thalweg_core::{Error, ErrorCode, Result};

/// The lock on a lasting directory; held as long as this lives, given up by the system when the process ends.
#[derive(Debug)]
pub struct DirLock {
    _file: std::fs::File,
    path: PathBuf,
}

impl DirLock {
    /// Locks `dir` (made if it is not there). If another process holds it: an error of code `Ownership` that names its
    /// pid, at once.
    pub fn acquire(dir: &Path) -> Result<DirLock> {
        let path = dir.join("LOCK");
        let failed = |e: std::io::Error| {
            use std::io::ErrorKind::*;
            let (code, what, todo) = match e.kind() {
                AlreadyExists | NotADirectory => {
                    (ErrorCode::Io, "is a file".to_owned(), "give a directory; it is made if it is not there")
                }
                PermissionDenied | ReadOnlyFilesystem => (
                    ErrorCode::Access,
                    format!("cannot be written: {e}"),
                    "use a directory that this user may write, or change its rights",
                ),
                StorageFull | QuotaExceeded => {
                    (ErrorCode::Io, format!("cannot be written: {e}"), "free some space, or use another directory")
                }
                _ => (ErrorCode::Io, format!("cannot be locked: {e}"), "use another directory"),
            };
            Error::new(code, format!("{} {what}", dir.display())).permanent().note(todo)
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut file =
            std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(Error::ownership(format!("{} is in use by {holder}", dir.display()))
                    .note("end that process, or use another directory"));
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
        let write = |file: &mut std::fs::File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())?;
            file.flush()
        };
        write(&mut file).map_err(failed)?;
        Ok(DirLock { _file: file, path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        let e = DirLock::acquire(dir.path()).unwrap_err();
        assert_eq!(e.code(), ErrorCode::Ownership);
        assert!(e.message().contains(&format!("process {}", std::process::id())), "{e:?}");
        drop(lock);
        DirLock::acquire(dir.path()).unwrap();
    }
}
