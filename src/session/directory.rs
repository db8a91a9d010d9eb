//! Where a session keeps things: a lasting directory with its lock, or a scratch one that goes with the process.

use std::path::{Path, PathBuf};

use thalweg_checkpoint::{DirLock, Storage, layout};
use thalweg_core::mark::JobId;
use thalweg_core::{Error, Result};
use thalweg_runtime::{DurableConfig, RestoreFlags};

/// A session's directory.
pub struct Directory {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Lasting(#[expect(dead_code, reason = "held for as long as the session lives")] DirLock),
    Scratch(#[expect(dead_code, reason = "removed when the session ends")] tempfile::TempDir),
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
                Ok(Directory { path, kind: Kind::Lasting(lock) })
            }
            None => {
                let dir = tempfile::Builder::new()
                    .prefix("thalweg-")
                    .tempdir()
                    .map_err(|e| Error::from(e).context("making a scratch directory (TMPDIR says where)"))?;
                Ok(Directory { path: dir.path().to_owned(), kind: Kind::Scratch(dir) })
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
