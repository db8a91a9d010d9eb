//! Who may write. Every start of a job, also a restart inside the process, is an attempt with a random id; its first act
//! is to put the next number of the job's log. From then on an older attempt cannot commit: its next number is taken, or
//! lies below one that is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thalweg_core::mark::JobId;
use thalweg_core::{Error, ErrorCode, Result};
use thalweg_graph::OperatorId;

use crate::layout;
use crate::manifest::{Kind, Manifest};
use crate::retention;
use crate::storage::Storage;

/// Names an attempt: the number of the manifest that it began with, and random bits. Sorts by age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    claim: u64,
    random: u64,
}

impl AttemptId {
    pub(crate) fn new(claim: u64) -> Self {
        AttemptId { claim, random: rand::random() }
    }

    /// Stands in a manifest that is yet to be claimed: `Attempt::first` sets the real one.
    pub fn unclaimed() -> Self {
        AttemptId { claim: 0, random: 0 }
    }

    /// Number of the manifest that the attempt began with.
    pub fn claim(&self) -> u64 {
        self.claim
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}-{:016x}", self.claim, self.random)
    }
}

impl Serialize for AttemptId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AttemptId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let parsed = text.split_once('-').and_then(|(claim, random)| {
            Some(AttemptId { claim: claim.parse().ok()?, random: u64::from_str_radix(random, 16).ok()? })
        });
        parsed.ok_or_else(|| serde::de::Error::custom(format!("'{text}' is not an attempt")))
    }
}

/// A new job's id.
pub fn new_job_id() -> JobId {
    JobId(format!("{:032x}", rand::random::<u128>()))
}

/// The running attempt of a job: the only one that can commit.
#[derive(Debug)]
pub struct Attempt {
    storage: Arc<Storage>,
    job: JobId,
    id: AttemptId,
    /// Number of this attempt's newest manifest.
    newest: u64,
}

impl Attempt {
    /// The first attempt of a new job: puts number 1. `manifest` says what the job is; its number, kind and attempt are
    /// set here. A job that exists already is an error of code `Ownership`.
    pub async fn first(storage: Arc<Storage>, manifest: Manifest) -> Result<(Attempt, Manifest)> {
        Self::claim(storage, manifest, 1).await
    }

    /// Takes the job over: puts the number after `restore_from`, as a copy of it. The caller read `restore_from` as the
    /// newest manifest; if another attempt was faster, that is an error of code `Ownership`, and nothing was changed.
    pub async fn take_over(storage: Arc<Storage>, restore_from: &Manifest) -> Result<(Attempt, Manifest)> {
        Self::claim(storage, restore_from.clone(), restore_from.number + 1).await
    }

    async fn claim(storage: Arc<Storage>, mut manifest: Manifest, number: u64) -> Result<(Attempt, Manifest)> {
        manifest.engine = crate::manifest::engine_version().to_owned();
        let id = AttemptId::new(number);
        let mut attempt = Attempt { storage, job: manifest.job.clone(), id, newest: number - 1 };
        let manifest = attempt.commit(Manifest { kind: Kind::Claim, ..manifest }).await?;
        Ok((attempt, manifest))
    }

    pub fn id(&self) -> &AttemptId {
        &self.id
    }

    pub fn job(&self) -> &JobId {
        &self.job
    }

    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// The number that the next commit gets.
    pub fn next_number(&self) -> u64 {
        self.newest + 1
    }

    /// Commits: puts the next manifest of the log, durably, with everything that was put before it. Gives it back as
    /// written. After an error of code `Ownership` this attempt must stop and delete nothing; after a transient one the
    /// same manifest can be put again.
    pub async fn commit(&mut self, mut manifest: Manifest) -> Result<Manifest> {
        let number = self.next_number();
        manifest.number = number;
        manifest.attempt = self.id.clone();
        manifest.engine = crate::manifest::engine_version().to_owned();
        debug_assert_eq!(manifest.job, self.job);
        // Retention may have deleted the number that an attempt which slept for long tries to put: whatever is above
        // tells too. Looked at before, so that such an attempt writes nothing, and after, for one that got in between.
        self.fail_if_overtaken(number).await?;
        let name = layout::manifest(number);
        if !self.storage.create(&name, manifest.to_bytes().into()).await? {
            let there = self.storage.manifest(number).await?;
            // Put by this attempt, by a call that seemed to fail.
            if there.attempt != self.id {
                return Err(self.overtaken(number, Some(&there.attempt)));
            }
            if there != manifest {
                return Err(Error::internal(format!("manifest {number} is there with another content")));
            }
        }
        self.fail_if_overtaken(number + 1).await?;
        self.newest = number;
        Ok(manifest)
    }

    async fn fail_if_overtaken(&self, from: u64) -> Result<()> {
        match self.storage.manifests().await?.last() {
            // Number `from` itself may be this attempt's own, of a call that seemed to fail: `commit` looks.
            Some(newest) if *newest > from => Err(self.overtaken(*newest, None)),
            _ => Ok(()),
        }
    }

    fn overtaken(&self, number: u64, by: Option<&AttemptId>) -> Error {
        let by = by.map(|a| format!(" by attempt {a}")).unwrap_or_default();
        Error::ownership(format!(
            "job {} was taken over{by}: {} is there, put after attempt {} began",
            self.job,
            self.storage.describe(&layout::manifest(number)),
            self.id
        ))
        .note("this attempt stops; it has written nothing since and deletes nothing")
    }

    /// Records that a sink's target has its segments up to `segment`. Only ever goes up.
    pub async fn record_delivered(&self, sink: OperatorId, segment: u64) -> Result<()> {
        self.storage.create(&layout::delivered(sink, segment), self.id.to_string().into()).await?;
        let old: Vec<String> =
            self.storage.list(&layout::delivered_dir(sink)).await?.into_iter().map(|l| l.object).collect();
        let newest = layout::delivered(sink, segment);
        self.storage.delete(&old.into_iter().filter(|o| *o < newest).collect::<Vec<_>>()).await
    }

    /// Deletes what no checkpoint needs any more: manifests beyond `num_retained`, and objects that only they named.
    /// Call it after a commit; errors can be logged and left to the next call.
    pub async fn collect_garbage(&self, num_retained: usize) -> Result<()> {
        let mut manifests = vec![];
        for number in self.storage.manifests().await?.into_iter().filter(|n| *n <= self.newest) {
            match self.storage.manifest(number).await {
                Ok(m) => manifests.push(m),
                // Who cannot be read may name anything: nothing is deleted beside it.
                Err(e) => return Err(e),
            }
        }
        let garbage = retention::garbage(&manifests, num_retained);
        // Manifests first: one that names deleted files must never be found.
        let names: Vec<String> = garbage.manifests.iter().map(|n| layout::manifest(*n)).collect();
        self.storage.delete(&names).await?;
        self.storage.delete(&garbage.objects).await
    }

    /// Deletes what earlier attempts stored and never committed. Once, after the claim.
    pub async fn collect_orphans(&self) -> Result<()> {
        let mut named = BTreeSet::new();
        for number in self.storage.manifests().await? {
            named.extend(self.storage.manifest(number).await?.objects().map(str::to_owned));
        }
        let mut stored: Vec<String> = vec![];
        for folder in ["state", "segments"] {
            stored.extend(self.storage.list(folder).await?.into_iter().map(|l| l.object));
        }
        self.storage.delete(&retention::orphans(&stored, &named, self.id.claim())).await
    }
}

/// What is recorded as delivered, per sink: the greater of the manifest's word and the records beside it.
pub async fn recorded_delivered(storage: &Storage, manifest: &Manifest) -> Result<BTreeMap<OperatorId, u64>> {
    let mut delivered = BTreeMap::new();
    for log in &manifest.sinks {
        let records = storage.list(&layout::delivered_dir(log.sink)).await?;
        let newest = records.iter().filter_map(|r| r.object.rsplit('/').next()?.parse().ok()).max().unwrap_or(0);
        delivered.insert(log.sink, newest.max(log.delivered));
    }
    Ok(delivered)
}

/// Copies (by hard link where possible) everything that the state of `from` needs into another job's storage, for a new
/// job that begins with it (`--from`). Gives the shards under their new names. Pending output stays with the old job.
pub async fn adopt_state(
    from: &Storage,
    manifest: &Manifest,
    to: &Attempt,
) -> Result<Vec<thalweg_core::stored::StoredShard>> {
    from.check_files(manifest).await?;
    let mut shards = manifest.shards.clone();
    for (i, shard) in shards.iter_mut().enumerate() {
        for file in &mut shard.files {
            let object = format!("state/{}/from-{i}/{}", to.id, file.name);
            let stored = to.storage.put_file(&from.local_path(&file.object), &file.name, object).await?;
            if (stored.size, stored.crc32) != (file.size, file.crc32) {
                return Err(Error::checkpoint(format!("{} is damaged", from.describe(&file.object)))
                    .note(crate::manifest::WHAT_TO_DO));
            }
            *file = stored;
        }
    }
    Ok(shards)
}

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
            let code = if e.kind() == std::io::ErrorKind::PermissionDenied { ErrorCode::Access } else { ErrorCode::Io };
            Error::new(code, format!("locking {}: {e}", path.display())).permanent()
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
    use crate::manifest::tests::manifest;
    use crate::segments::{self, PartBuilder, SinkLog};

    async fn storage(dir: &Path) -> Arc<Storage> {
        Storage::open(dir).unwrap()
    }

    #[test]
    fn an_attempt_s_id_comes_back() {
        let id = AttemptId::new(12);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<AttemptId>(&json).unwrap(), id);
        assert!(AttemptId::new(2) < AttemptId::new(10));
    }

    #[tokio::test]
    async fn a_stale_attempt_writes_nothing_and_deletes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let s = storage(dir.path()).await;
        let (mut old, first) = Attempt::first(s.clone(), manifest("j", 0)).await.unwrap();
        assert_eq!((first.number, first.kind), (1, Kind::Claim));
        let m2 = old.commit(manifest("j", 0)).await.unwrap();
        // Two want to take over at once: one does.
        let (mut new, claimed) = Attempt::take_over(s.clone(), &m2).await.unwrap();
        assert_eq!((claimed.number, claimed.tick), (3, m2.tick));
        assert_eq!(Attempt::take_over(s.clone(), &m2).await.unwrap_err().code(), ErrorCode::Ownership);

        let e = old.commit(manifest("j", 0)).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Ownership);
        assert!(!e.is_transient());
        // Also when its number has been deleted meanwhile.
        for _ in 0..3 {
            let m = Manifest { kind: Kind::Checkpoint, ..manifest("j", 0) };
            new.commit(m).await.unwrap();
        }
        new.collect_garbage(1).await.unwrap();
        assert_eq!(s.manifests().await.unwrap(), [6]);
        assert_eq!(old.commit(manifest("j", 0)).await.unwrap_err().code(), ErrorCode::Ownership);
        assert_eq!(s.manifests().await.unwrap(), [6]);
        // What it believes to be garbage is not.
        old.collect_garbage(1).await.unwrap();
        old.collect_orphans().await.unwrap();
        assert_eq!(s.manifests().await.unwrap(), [6]);
    }

    #[tokio::test]
    async fn a_commit_that_seemed_to_fail_can_be_put_again() {
        let dir = tempfile::tempdir().unwrap();
        let s = storage(dir.path()).await;
        let (mut a, _) = Attempt::first(s.clone(), manifest("j", 0)).await.unwrap();
        let m = a.commit(manifest("j", 0)).await.unwrap();
        a.newest -= 1;
        assert_eq!(a.commit(manifest("j", 0)).await.unwrap(), m);
        assert_eq!(a.next_number(), 3);
    }

    #[tokio::test]
    async fn segments_are_deleted_when_delivered_and_in_no_retained_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let s = storage(dir.path()).await;
        let sink = OperatorId([3; 16]);
        let (mut a, _) = Attempt::first(s.clone(), manifest("j", 0)).await.unwrap();
        let mut log = SinkLog::new(sink, "out");
        for n in 1..=3u64 {
            let mut part = PartBuilder::default();
            part.push(n, 1, format!("row {n}\n").as_bytes()).unwrap();
            let stored = segments::stage(&s, a.id(), sink, 0, n, part.take().unwrap()).await.unwrap();
            log.close(vec![stored], 1 << 20);
            let mut m = manifest("j", n);
            m.sinks = vec![log.clone()];
            a.commit(m).await.unwrap();
            if n > 1 {
                a.record_delivered(sink, n - 1).await.unwrap();
                log.mark_delivered(n - 1);
            }
            a.collect_garbage(2).await.unwrap();
        }
        // Manifests 3 (pending 1, 2) and 4 (pending 2, 3) are retained.
        assert_eq!(s.manifests().await.unwrap(), [3, 4]);
        assert_eq!(s.list("segments").await.unwrap().len(), 3);
        let newest = s.newest().await.unwrap().unwrap();
        assert_eq!(recorded_delivered(&s, &newest).await.unwrap()[&sink], 2);
        assert_eq!(s.list("delivered").await.unwrap().len(), 1);
        let chunks: Vec<_> = futures::StreamExt::collect(segments::read(s.clone(), &newest.sinks[0].pending[1])).await;
        assert_eq!(chunks[0].as_ref().unwrap(), "row 3\n");

        let mut m = manifest("j", 4);
        m.sinks = vec![log.clone()];
        a.commit(m).await.unwrap();
        a.collect_garbage(1).await.unwrap();
        assert_eq!(s.list("segments").await.unwrap().len(), 1);
        // A damaged part is named before a chunk of it is given.
        let path = s.local_path(&log.pending[0].parts[0].object);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let read: Vec<_> = futures::StreamExt::collect(segments::read(s.clone(), &log.pending[0])).await;
        let e = read[0].as_ref().unwrap_err();
        assert!(e.code() == ErrorCode::Checkpoint && e.message().contains(".seg"), "{e:?}");
    }

    #[tokio::test]
    async fn what_an_aborted_attempt_stored_goes_with_the_next_but_one() {
        let dir = tempfile::tempdir().unwrap();
        let s = storage(dir.path()).await;
        let (a, first) = Attempt::first(s.clone(), manifest("j", 0)).await.unwrap();
        s.put(&layout::state_file(a.id(), 0, 0, None, "000001.sst"), "x".into()).await.unwrap();
        let (b, _) = Attempt::take_over(s.clone(), &first).await.unwrap();
        s.put(&layout::state_file(b.id(), 0, 0, None, "000001.sst"), "y".into()).await.unwrap();
        a.collect_orphans().await.unwrap();
        assert_eq!(s.list("state").await.unwrap().len(), 2, "an older attempt deletes nothing of a newer one");
        b.collect_orphans().await.unwrap();
        assert_eq!(s.list("state").await.unwrap().len(), 1);
    }

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
