//! The checkpoint storage of one job: objects by name. A local directory now; other object stores fit the same interface.
//!
//! `object_store` writes local files without `fsync`, and its create-if-absent makes a file visible before it is on disk.
//! Neither will do for a commit, so files are written here: content first to a temporary name and synced, then linked to
//! the final one; directories are synced before the next manifest is put.

use std::collections::BTreeSet;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::{GetResultPayload, ObjectStore, ObjectStoreExt};
use thalweg_core::stored::StoredFile;
use thalweg_core::{Error, ErrorCode, Result};
use tokio::sync::Mutex;

use crate::layout;
use crate::manifest::{Manifest, WHAT_TO_DO};

/// Small pieces of an object are written together.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// Storage of one job.
#[derive(Debug)]
pub struct Storage {
    root: PathBuf,
    store: Arc<dyn ObjectStore>,
    /// Directories with names that are not known to be on disk; synced before a manifest is put.
    unsynced: Mutex<BTreeSet<PathBuf>>,
}

/// A stored object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub object: String,
    pub size: u64,
}

impl Storage {
    /// Opens the storage below `root` (see `layout::job_root`), making the directory if it is not there.
    pub fn open(root: &Path) -> Result<Arc<Self>> {
        let made = make_dirs(root)?;
        let storage = Self::open_existing(root)?;
        storage.unsynced.try_lock().expect("not shared yet").extend(made);
        Ok(storage)
    }

    /// Opens the storage below `root` for reading; nothing is made.
    pub fn open_existing(root: &Path) -> Result<Arc<Self>> {
        let root = root.canonicalize().map_err(|e| io_error(root, "opening", &e))?;
        let store = LocalFileSystem::new_with_prefix(&root)
            .map_err(|e| Error::io(format!("opening the checkpoint storage {}: {e}", root.display())))?;
        Ok(Arc::new(Storage { root, store: Arc::new(store), unsynced: Mutex::default() }))
    }

    /// How messages call an object.
    pub fn describe(&self, object: &str) -> String {
        self.root.join(object).display().to_string()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an object is as a local file, for a hard link.
    pub fn local_path(&self, object: &str) -> PathBuf {
        self.root.join(object)
    }

    /// Puts an object; its content is durable when this returns, its name with the next manifest.
    pub async fn put(&self, object: &str, bytes: Bytes) -> Result<()> {
        self.put_pieces(object, vec![bytes]).await
    }

    /// As `put`, of an object that lies in memory in pieces.
    pub async fn put_pieces(&self, object: &str, pieces: Vec<Bytes>) -> Result<()> {
        let path = self.root.join(object);
        let dirs = blocking(move || {
            let dirs = make_parent(&path)?;
            write_synced(&path, &pieces)
                .and_then(|temp| replace(&temp, &path))
                .map_err(|e| io_error(&path, "writing", &e))?;
            Ok(dirs)
        })
        .await?;
        self.unsynced.lock().await.extend(dirs);
        Ok(())
    }

    /// Puts a local file that never changes: by a hard link where that is possible, else by a copy. Durable like `put`.
    pub async fn put_file(&self, local: &Path, name: &str, object: String) -> Result<StoredFile> {
        let path = self.root.join(&object);
        let (local, name) = (local.to_owned(), name.to_owned());
        let (dirs, file) = blocking(move || {
            let dirs = make_parent(&path)?;
            let linked = || -> std::io::Result<()> {
                let temp = temporary(&path);
                if std::fs::hard_link(&local, &temp).is_err() {
                    std::fs::copy(&local, &temp)?;
                }
                std::fs::File::open(&temp)?.sync_all()?;
                replace(&temp, &path)
            };
            linked().map_err(|e| io_error(&path, "storing", &e))?;
            let (size, crc32) = checksum(&path).map_err(|e| io_error(&path, "reading back", &e))?;
            Ok((dirs, StoredFile { name, object, size, crc32 }))
        })
        .await?;
        self.unsynced.lock().await.extend(dirs);
        Ok(file)
    }

    /// Puts the object if none of that name is there, durably: content, name, and all names put before. `false`: there
    /// was one, and it is as it was; it is durable too now.
    pub async fn create(&self, object: &str, bytes: Bytes) -> Result<bool> {
        // Held to the end: names that another call is still syncing are part of this commit too.
        let mut unsynced = self.unsynced.lock().await;
        let dirs = unsynced.clone();
        let path = self.root.join(object);
        let created = blocking(move || {
            let made = make_parent(&path)?;
            for dir in dirs.iter().chain(&made) {
                sync_dir(dir).map_err(|e| io_error(dir, "syncing", &e))?;
            }
            let put = || -> std::io::Result<bool> {
                let temp = write_synced(&path, &[bytes])?;
                let linked = std::fs::hard_link(&temp, &path);
                let _ = std::fs::remove_file(&temp);
                match linked {
                    // Its name may have been given by a call that failed before it was durable.
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                        sync_dir(path.parent().expect("below the root")).map(|()| false)
                    }
                    Err(e) => Err(e),
                    Ok(()) => sync_dir(path.parent().expect("below the root")).map(|()| true),
                }
            };
            put().map_err(|e| io_error(&path, "writing", &e))
        })
        .await?;
        unsynced.clear();
        Ok(created)
    }

    /// The whole object. A missing one is an error of code `Checkpoint` that names it.
    pub async fn get(&self, object: &str) -> Result<Bytes> {
        let error = |e: object_store::Error| match e {
            object_store::Error::NotFound { .. } => missing(&self.describe(object)),
            e => Error::io(format!("reading {}: {e}", self.describe(object))),
        };
        let found = self.store.get(&object.into()).await.map_err(error)?;
        let size = found.meta.size as usize;
        let GetResultPayload::File(mut file, path) = found.payload else { return found.bytes().await.map_err(error) };
        // As object_store reads it, but that does not clear the memory first.
        blocking(move || {
            let mut bytes = Vec::with_capacity(size);
            file.read_to_end(&mut bytes).map_err(|e| io_error(&path, "reading", &e))?;
            Ok(bytes.into())
        })
        .await
    }

    /// All objects below a folder (`""`: all), by name.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let prefix = object_store::path::Path::from(folder);
        let error = |e| Error::io(format!("listing {}: {e}", self.describe(folder)));
        let found: Vec<_> =
            self.store.list((!folder.is_empty()).then_some(&prefix)).try_collect().await.map_err(error)?;
        let mut listed: Vec<_> =
            found.into_iter().map(|m| Listed { object: m.location.to_string(), size: m.size }).collect();
        listed.sort_by(|a, b| a.object.cmp(&b.object));
        Ok(listed)
    }

    /// Temporary files below a folder, which listings leave out: what processes left that ended in the middle of a put.
    pub async fn temporaries(&self, folder: &str) -> Result<Vec<String>> {
        let (root, mut dirs) = (self.root.clone(), vec![self.root.join(folder)]);
        blocking(move || {
            let mut found = vec![];
            while let Some(dir) = dirs.pop() {
                let entries = match std::fs::read_dir(&dir) {
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    entries => entries.map_err(|e| io_error(&dir, "listing", &e))?,
                };
                for entry in entries {
                    let entry = entry.map_err(|e| io_error(&dir, "listing", &e))?;
                    let path = entry.path();
                    if entry.file_type().is_ok_and(|t| t.is_dir()) {
                        dirs.push(path);
                    } else if let (true, Ok(object)) = (is_temporary(&path), path.strip_prefix(&root)) {
                        found.push(object.to_string_lossy().into_owned());
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    /// Deletes some of `temporaries`; those that are gone already are fine.
    pub async fn delete_temporaries(&self, objects: Vec<String>) -> Result<()> {
        let root = self.root.clone();
        blocking(move || {
            for object in &objects {
                let path = root.join(object);
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != ErrorKind::NotFound => return Err(io_error(&path, "deleting", &e)),
                    _ => {}
                }
            }
            remove_empty_dirs(&root, &objects);
            Ok(())
        })
        .await
    }

    /// Numbers of all manifests, ascending.
    pub async fn manifests(&self) -> Result<Vec<u64>> {
        let error = |e| Error::io(format!("listing {}: {e}", self.root.display()));
        let found = self.store.list_with_delimiter(None).await.map_err(error)?;
        let mut numbers: Vec<u64> =
            found.objects.iter().filter_map(|m| layout::manifest_number(m.location.filename()?)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads and checks one manifest.
    pub async fn manifest(&self, number: u64) -> Result<Manifest> {
        let name = layout::manifest(number);
        let manifest = Manifest::from_bytes(&self.describe(&name), &self.get(&name).await?)?;
        if manifest.number != number {
            return Err(Error::checkpoint(format!(
                "{} is manifest {} under another name",
                self.describe(&name),
                manifest.number
            ))
            .note(WHAT_TO_DO));
        }
        Ok(manifest)
    }

    /// The newest manifest, if there is any. A damaged one is an error: an older one is never taken silently.
    pub async fn newest(&self) -> Result<Option<Manifest>> {
        match self.manifests().await?.last() {
            None => Ok(None),
            Some(number) => self.manifest(*number).await.map(Some),
        }
    }

    /// Deletes objects; those that are gone already are fine.
    pub async fn delete(&self, objects: &[String]) -> Result<()> {
        for object in objects {
            match self.store.delete(&object.as_str().into()).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(Error::io(format!("deleting {}: {e}", self.describe(object)))),
            }
        }
        let (root, objects) = (self.root.clone(), objects.to_vec());
        blocking(move || {
            remove_empty_dirs(&root, &objects);
            Ok(())
        })
        .await
    }

    /// Presence and size of every object that a manifest needs; errors name the file. Does not read them.
    pub async fn check_files(&self, manifest: &Manifest) -> Result<()> {
        let files = manifest.shards.iter().flat_map(|s| &s.files).map(|f| (f.object.clone(), f.size));
        let parts = manifest.sinks.iter().flat_map(|s| &s.pending).flat_map(|s| &s.parts);
        let needed: Vec<_> = files.chain(parts.map(|p| (p.object.clone(), p.bytes))).collect();
        let root = self.root.clone();
        blocking(move || {
            for (object, size) in needed {
                let path = root.join(object);
                match std::fs::metadata(&path) {
                    Ok(m) if m.len() == size => {}
                    Ok(m) => {
                        return Err(Error::checkpoint(format!(
                            "{} has {} bytes, the manifest says {size}",
                            path.display(),
                            m.len()
                        ))
                        .note(WHAT_TO_DO));
                    }
                    Err(e) if e.kind() == ErrorKind::NotFound => return Err(missing(&path.display().to_string())),
                    Err(e) => return Err(io_error(&path, "reading", &e)),
                }
            }
            Ok(())
        })
        .await
    }

    /// Reads every object that a manifest needs and compares sizes and checksums; what does not fit, in words.
    pub async fn verify_files(&self, manifest: &Manifest) -> Result<Vec<String>> {
        let files = manifest.shards.iter().flat_map(|s| &s.files).map(|f| (f.object.clone(), f.size, f.crc32));
        let parts = manifest.sinks.iter().flat_map(|s| &s.pending).flat_map(|s| &s.parts);
        let needed: Vec<_> = files.chain(parts.map(|p| (p.object.clone(), p.bytes, p.crc32))).collect();
        let root = self.root.clone();
        blocking(move || {
            let mut problems = vec![];
            for (object, size, crc32) in needed {
                match checksum(&root.join(&object)) {
                    Ok(found) if found == (size, crc32) => {}
                    Ok((found, _)) if found != size => {
                        problems.push(format!("{object}: {found} bytes, the manifest says {size}"));
                    }
                    Ok(_) => problems.push(format!("{object}: the checksum does not fit its content")),
                    Err(e) if e.kind() == ErrorKind::NotFound => problems.push(format!("{object}: missing")),
                    Err(e) => problems.push(format!("{object}: {e}")),
                }
            }
            Ok(problems)
        })
        .await
    }
}

/// Folders of these objects, such as those of attempts, that are empty now.
fn remove_empty_dirs(root: &Path, objects: &[String]) {
    let parents: BTreeSet<PathBuf> = objects.iter().filter_map(|o| Some(root.join(o).parent()?.to_owned())).collect();
    for dir in parents.iter().rev() {
        let below = dir.ancestors().take_while(|d| *d != root);
        // Not empty: ends here.
        below.map(std::fs::remove_dir).take_while(|r| r.is_ok()).for_each(drop);
    }
}

fn missing(what: &str) -> Error {
    Error::checkpoint(format!("{what} is missing")).note(WHAT_TO_DO)
}

/// I/O can pass; the message names the file.
fn io_error(path: &Path, doing: &str, e: &std::io::Error) -> Error {
    match e.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Error::new(ErrorCode::Access, format!("{doing} {}: {e}", path.display()))
                .note("the checkpoint storage must be writable for this user")
        }
        ErrorKind::NotFound => {
            Error::checkpoint(format!("{doing} {}: there is no such file or directory", path.display()))
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::io(format!("the disk of {} is full, found while {doing}", path.display()))
                .note("free some space: what is staged is kept, and the next checkpoint carries it")
        }
        _ => Error::io(format!("{doing} {}: {e}", path.display())),
    }
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|e| Err(Error::io(format!("a storage task ended early: {e}"))))
}

/// Makes a file's directory; gives the directories whose entries are new: its own, and those of directories made.
fn make_parent(path: &Path) -> Result<Vec<PathBuf>> {
    let parent = path.parent().expect("objects are below the root");
    let mut dirs = make_dirs(parent)?;
    dirs.push(parent.to_owned());
    Ok(dirs)
}

fn make_dirs(dir: &Path) -> Result<Vec<PathBuf>> {
    let absent: Vec<&Path> = dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists()).collect();
    std::fs::create_dir_all(dir).map_err(|e| io_error(dir, "making", &e))?;
    Ok(absent.into_iter().filter_map(Path::parent).map(Path::to_owned).collect())
}

/// A name beside `path` that listings leave out and nobody else takes.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("#{}", crate::attempt::random()));
    name.into()
}

fn is_temporary(path: &Path) -> bool {
    let number = path.file_name().and_then(|n| n.to_str()).and_then(|n| Some(n.rsplit_once('#')?.1));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn write_synced(path: &Path, pieces: &[Bytes]) -> std::io::Result<PathBuf> {
    let temp = temporary(path);
    let write = || {
        let mut file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, std::fs::File::create_new(&temp)?);
        pieces.iter().try_for_each(|piece| file.write_all(piece))?;
        file.into_inner()?.sync_all()
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    written.map(|()| temp)
}

fn replace(temp: &Path, path: &Path) -> std::io::Result<()> {
    let renamed = std::fs::rename(temp, path);
    // Renaming one of two links of a file to the other does nothing and leaves both.
    let _ = std::fs::remove_file(temp);
    renamed
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    match std::fs::File::open(dir) {
        // Removed since as empty: there is no name to lose.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        opened => opened?.sync_all(),
    }
}

/// Size and CRC-32 of a whole file.
fn checksum(path: &Path) -> std::io::Result<(u64, u32)> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let n = std::io::Read::read(&mut file, &mut buffer)?;
        if n == 0 {
            return Ok((size, hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::manifest;

    async fn storage(dir: &Path) -> Arc<Storage> {
        Storage::open(&dir.join("checkpoints").join("job")).unwrap()
    }

    #[tokio::test]
    async fn create_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let s = storage(dir.path()).await;
        assert!(s.create("a/MANIFEST-1", "one".into()).await.unwrap());
        assert!(!s.create("a/MANIFEST-1", "two".into()).await.unwrap());
        assert_eq!(s.get("a/MANIFEST-1").await.unwrap(), "one");
        assert_eq!(s.list("").await.unwrap(), [Listed { object: "a/MANIFEST-1".into(), size: 3 }]);
        assert_eq!(std::fs::read_dir(s.root().join("a")).unwrap().count(), 1, "no temporary file is left");
    }

    #[tokio::test]
    async fn files_are_linked_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let s = storage(dir.path()).await;
        let local = dir.path().join("000012.sst");
        std::fs::write(&local, b"123456789").unwrap();
        let file = s.put_file(&local, "000012.sst", "state/x/000012.sst".into()).await.unwrap();
        assert_eq!((file.size, file.crc32), (9, 0xcbf4_3926));
        // Again, as after an aborted checkpoint.
        assert_eq!(s.put_file(&local, "000012.sst", "state/x/000012.sst".into()).await.unwrap(), file);
        assert_eq!(s.list("state").await.unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(s.root().join("state/x")).unwrap().count(), 1);

        let mut m = manifest("job", 1);
        m.shards.push(thalweg_core::stored::StoredShard { groups: 0..256, files: vec![file], tables: vec![] });
        s.check_files(&m).await.unwrap();
        assert_eq!(s.verify_files(&m).await.unwrap(), Vec::<String>::new());
        std::fs::remove_file(&local).unwrap();
        std::fs::write(s.local_path("state/x/000012.sst"), b"123456780").unwrap();
        s.check_files(&m).await.unwrap();
        assert!(s.verify_files(&m).await.unwrap()[0].contains("checksum"));
        std::fs::write(s.local_path("state/x/000012.sst"), b"1234").unwrap();
        let e = s.check_files(&m).await.unwrap_err();
        assert!(e.code() == ErrorCode::Checkpoint && e.message().contains("000012.sst has 4 bytes"), "{e:?}");
        s.delete(&["state/x/000012.sst".into()]).await.unwrap();
        let e = s.check_files(&m).await.unwrap_err();
        assert!(e.message().contains("000012.sst is missing"), "{e:?}");
        assert!(!s.root().join("state").exists(), "empty folders go too");
    }

    #[tokio::test]
    async fn a_damaged_newest_manifest_is_an_error_and_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let s = storage(dir.path()).await;
        assert!(s.newest().await.unwrap().is_none());
        for n in [1, 2] {
            s.create(&layout::manifest(n), manifest("job", n).to_bytes().into()).await.unwrap();
        }
        assert_eq!(s.newest().await.unwrap().unwrap().number, 2);
        let path = s.local_path(&layout::manifest(2));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[200] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let e = s.newest().await.unwrap_err();
        assert!(e.code() == ErrorCode::Checkpoint && e.message().contains("MANIFEST-0000000002.json"), "{e:?}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        // Under another's name.
        std::fs::copy(s.local_path(&layout::manifest(1)), &path).unwrap();
        assert!(s.newest().await.unwrap_err().message().contains("another name"));
    }
}
