//! Where a session keeps things: a lasting directory with its lock, or a scratch one that goes with the process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thalweg_checkpoint::{DirLock, Storage, layout};
use thalweg_core::mark::JobId;
use thalweg_core::{Error, Result};
use thalweg_runtime::{DurableConfig, RestoreFlags};

const SCRATCH_PREFIX: &str = "thalweg-";
/// A scratch directory is not looked at before this age: its process may be about to lock it.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// A session's directory.
pub struct Directory {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Lasting(#[expect(dead_code, reason = "held for as long as the session lives")] DirLock),
    Scratch(
        #[expect(dead_code, reason = "removed when the session ends")] tempfile::TempDir,
        #[expect(dead_code, reason = "says that the folder is in use")] DirLock,
    ),
}

impl Directory {
    /// `None`: a scratch directory in the system's folder for temporary files.
    ///
    /// # Errors
    /// A folder that cannot be made, or one that another process holds: that is said at once, with its pid.
    pub fn open(dir: Option<PathBuf>) -> Result<Self> {
        match dir {
            Some(path) => {
                let lock = DirLock::acquire(&path)?;
                let directory = Directory { path, kind: Kind::Lasting(lock) };
                directory.clear_working();
                Ok(directory)
            }
            None => {
                let dir = tempfile::Builder::new()
                    .prefix(SCRATCH_PREFIX)
                    .tempdir()
                    .map_err(|e| Error::from(e).context("making a scratch directory (TMPDIR says where)"))?;
                let lock = DirLock::acquire(dir.path())?;
                let all = dir.path().parent().map(Path::to_owned);
                // Beside the work: nobody waits for it, and what it cannot remove stays.
                let _ = std::thread::Builder::new().name("sweep".to_owned()).spawn(move || {
                    all.iter().for_each(|all| remove_abandoned(all, ABANDONED_AFTER));
                });
                Ok(Directory { path: dir.path().to_owned(), kind: Kind::Scratch(dir, lock) })
            }
        }
    }

    pub fn is_lasting(&self) -> bool {
        matches!(self.kind, Kind::Lasting(_))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where attempts keep their local state; on the file system of the checkpoints, so that files are hard-linked.
    pub fn working(&self) -> PathBuf {
        self.path.join("work")
    }

    /// Removes the local state of attempts that were killed: it is of no use to anyone. Beside the start, for there may be
    /// much of it.
    fn clear_working(&self) {
        let entries = std::fs::read_dir(self.working()).into_iter().flatten().flatten();
        let left: Vec<PathBuf> = entries.map(|e| e.path()).collect();
        if !left.is_empty() {
            std::thread::spawn(move || left.iter().for_each(|dir| drop(std::fs::remove_dir_all(dir))));
        }
    }

    /// Where jobs' checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        layout::checkpoints_dir(&self.path)
    }

    /// A storage of its own for one disturbed run of a test.
    pub fn disturbed_storage(&self, job: &JobId) -> Result<DurableConfig> {
        let root = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&self.path)
            .map_err(|e| Error::from(e).context("making a folder for a test's checkpoints"))?
            .keep();
        Ok(DurableConfig {
            storage: Storage::open(&root)?,
            job: job.clone(),
            is_named: false,
            statement: Default::default(),
            flags: RestoreFlags::default(),
            from: None,
            replaces: vec![],
            assume_delivered: None,
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Attempts have removed what they made; the folder itself goes if it is empty.
        let _ = std::fs::remove_dir(self.working());
    }
}

/// Removes scratch directories whose process was killed: they have a lock that nobody holds.
fn remove_abandoned(temporary: &Path, age: Duration) {
    let Ok(entries) = std::fs::read_dir(temporary) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
            continue;
        }
        let Ok(lock) = File::options().read(true).write(true).open(entry.path().join("LOCK")) else { continue };
        let modified = lock.metadata().and_then(|m| m.modified()).ok();
        let is_old = modified.and_then(|t| t.elapsed().ok()).is_some_and(|passed| passed >= age);
        if is_old && lock.try_lock().is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scratch_directories_that_nobody_holds_are_removed() {
        let all = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let dir = all.path().join(name);
            let lock = DirLock::acquire(&dir).unwrap();
            (dir, lock)
        };
        let (held, lock) = make("thalweg-held");
        let (abandoned, gone) = make("thalweg-killed");
        let (other, _) = make("else");
        drop(gone);
        std::fs::create_dir(all.path().join("thalweg-without-lock")).unwrap();
        remove_abandoned(all.path(), Duration::from_secs(3600));
        assert!(abandoned.exists(), "too young");
        remove_abandoned(all.path(), Duration::ZERO);
        assert!(!abandoned.exists());
        assert!(held.exists() && other.exists() && all.path().join("thalweg-without-lock").exists());
        drop(lock);
    }
}
