//! Who may write. Every start of a job, also a restart inside the process, is an attempt with a random id; its first act
//! is to put the next number of the job's log. From then on an older attempt cannot commit: its next number is taken, or
//! lies below one that is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thalweg_core::mark::JobId;
use thalweg_core::{Error, Result};
use thalweg_graph::OperatorId;

use crate::fail_points;
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
        AttemptId { claim, random: random() }
    }

    /// For an attempt that goes on from this manifest, the newest of its job; `None`: the first of a new job.
    pub fn after(newest: Option<&Manifest>) -> Self {
        Self::new(newest.map_or(0, |m| m.number) + 1)
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
    JobId(format!("{:016x}{:016x}", random(), random()))
}

/// Which attempt owns the job, as far as this one knows.
#[derive(Debug)]
pub struct Owner {
    storage: Arc<Storage>,
    job: JobId,
    id: AttemptId,
    /// Number of the attempt's newest manifest.
    newest: AtomicU64,
}

impl Owner {
    /// Whether the job is still this attempt's: an error of code `Ownership` if another one has taken it over. To be asked
    /// before anything that is not a manifest is written; manifests find out by themselves. What comes between the
    /// question and the write is why everything that is written bears the attempt's name, or is the same for both.
    pub async fn check(&self) -> Result<()> {
        let known = self.newest.load(Ordering::Acquire);
        let Some(newest) = self.storage.manifests().await?.last().copied().filter(|n| *n > known) else {
            return Ok(());
        };
        // It may be this attempt's own, just being put.
        let by = self.storage.manifest(newest).await?.attempt;
        if by == self.id { Ok(()) } else { Err(self.overtaken(newest, Some(&by))) }
    }

    async fn fail_if_above(&self, number: u64) -> Result<()> {
        match self.storage.manifests().await?.last() {
            Some(newest) if *newest > number => Err(self.overtaken(*newest, None)),
            _ => Ok(()),
        }
    }

    /// Records that a sink's target has its segments up to `segment`.
    pub async fn record_delivered(&self, sink: OperatorId, segment: u64) -> Result<()> {
        self.check().await?;
        self.storage.create(&layout::delivered(sink, segment), self.id.to_string().into()).await.map(drop)
    }

    /// Deletes the records that a later one has made needless.
    pub async fn forget_delivered_below(&self, sink: OperatorId, segment: u64) -> Result<()> {
        self.check().await?;
        self.forget_below(&layout::delivered_dir(sink), &layout::delivered(sink, segment)).await
    }

    /// Records that segments up to this one may be given to a target from now on, which the manifests deny: they were put
    /// before the target had said what it has.
    pub async fn record_attempted(&self, sink: OperatorId, segment: u64) -> Result<()> {
        self.check().await?;
        let record = layout::attempted(sink, segment);
        self.storage.create(&record, self.id.to_string().into()).await?;
        self.forget_below(&layout::attempted_dir(sink), &record).await
    }

    /// What is recorded as attempted; 0: nothing. To be read after the target was fenced: an older process can give it
    /// nothing more then.
    pub async fn recorded_attempted(&self, sink: OperatorId) -> Result<u64> {
        newest_record(&self.storage, &layout::attempted_dir(sink)).await
    }

    async fn forget_below(&self, folder: &str, newest: &str) -> Result<()> {
        let records = self.storage.list(folder).await?.into_iter().map(|l| l.object);
        self.storage.delete(&records.filter(|o| o.as_str() < newest).collect::<Vec<_>>()).await
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
        .note("the job goes on in the process that took it over")
    }
}

/// What a commit came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// The manifest as it stands in the log now.
    Done(Manifest),
    /// An earlier commit of this attempt, which was reported as failed, had succeeded: it holds the number, and is the
    /// newest manifest. Nothing else was put. Take it in, and commit again what it does not have.
    Earlier(Manifest),
}

/// The running attempt of a job: the only one that can commit.
#[derive(Debug)]
pub struct Attempt {
    owner: Arc<Owner>,
}

impl Attempt {
    /// The first attempt of a new job: puts number 1. `manifest` says what the job is; its number, kind and attempt are
    /// set here. A job that exists already is an error of code `Ownership`.
    pub async fn first(storage: Arc<Storage>, id: AttemptId, manifest: Manifest) -> Result<(Attempt, Manifest)> {
        Self::begin(storage, id, manifest, 1).await
    }

    /// Takes the job over: puts the number after `restore_from`, as a copy of it. The caller read `restore_from` as the
    /// newest manifest; if another attempt was faster, that is an error of code `Ownership`, and nothing was changed.
    pub async fn take_over(
        storage: Arc<Storage>,
        id: AttemptId,
        restore_from: &Manifest,
    ) -> Result<(Attempt, Manifest)> {
        Self::begin(storage, id, restore_from.clone(), restore_from.number + 1).await
    }

    async fn begin(
        storage: Arc<Storage>,
        id: AttemptId,
        manifest: Manifest,
        number: u64,
    ) -> Result<(Attempt, Manifest)> {
        let owner = Owner { storage, job: manifest.job.clone(), id, newest: AtomicU64::new(number - 1) };
        let mut attempt = Attempt { owner: Arc::new(owner) };
        match attempt.commit(Manifest { kind: Kind::Claim, ..manifest }).await? {
            Put::Done(manifest) => Ok((attempt, manifest)),
            Put::Earlier(_) => Err(Error::internal("an attempt that begins has committed before")),
        }
    }

    pub fn id(&self) -> &AttemptId {
        &self.owner.id
    }

    pub fn job(&self) -> &JobId {
        &self.owner.job
    }

    pub fn storage(&self) -> &Arc<Storage> {
        &self.owner.storage
    }

    /// For those who write beside the manifests.
    pub fn owner(&self) -> Arc<Owner> {
        self.owner.clone()
    }

    /// The number that the next commit gets.
    pub fn next_number(&self) -> u64 {
        self.owner.newest.load(Ordering::Acquire) + 1
    }

    /// Commits: puts the next manifest of the log, durably, with everything that was put before it.
    ///
    /// # Errors
    /// Of code `Ownership`: this attempt must stop and delete nothing. A transient one: whether the manifest was put may
    /// be unknown; the next commit finds out, see `Put::Earlier`.
    pub async fn commit(&mut self, mut manifest: Manifest) -> Result<Put> {
        let number = self.next_number();
        let owner = self.owner.clone();
        manifest.number = number;
        manifest.attempt = owner.id.clone();
        manifest.engine = crate::manifest::engine_version().to_owned();
        debug_assert_eq!(manifest.job, owner.job);
        // Retention may have deleted the number that an attempt which slept for long tries to put: whatever is above
        // tells too. Looked at before, so that such an attempt writes nothing, and after, for one that got in between.
        owner.fail_if_above(number).await?;
        let there = self.put(number, &manifest).await?;
        if let Some(there) = &there
            && there.attempt != owner.id
        {
            return Err(owner.overtaken(number, Some(&there.attempt)));
        }
        owner.fail_if_above(number + 1).await?;
        owner.newest.store(number, Ordering::Release);
        Ok(match there {
            Some(there) if there != manifest => Put::Earlier(there),
            _ => Put::Done(manifest),
        })
    }

    /// `Some`: what stands under the number instead, or already.
    async fn put(&self, number: u64, manifest: &Manifest) -> Result<Option<Manifest>> {
        let storage = self.storage();
        let name = layout::manifest(number);
        let bytes = Bytes::from(manifest.to_bytes());
        let mut created = storage.create(&name, bytes.clone()).await;
        if created.as_ref().is_ok_and(|new| *new)
            && let Err(e) = fail_points::pass("manifest-put")
        {
            created = Err(e);
        }
        match created {
            Ok(true) => Ok(None),
            Ok(false) => storage.manifest(number).await.map(Some),
            // A store may report as failed what it has done.
            Err(failed) => {
                let read_back = fail_points::pass("manifest-read-back");
                let Ok(there) = (match read_back {
                    Ok(()) => storage.manifest(number).await,
                    Err(e) => Err(e),
                }) else {
                    return Err(failed);
                };
                // It is there, but whether it is there to stay only a call that succeeds can tell.
                storage.create(&name, bytes).await?;
                Ok(Some(there))
            }
        }
    }

    /// Deletes what no checkpoint needs any more: manifests beyond `num_retained`, objects that only they named, and of
    /// `loose`, which this attempt stored, what no manifest names. Call it after a commit; errors can be logged and left to
    /// the next call.
    pub async fn collect_garbage(&self, num_retained: usize, loose: &[String]) -> Result<()> {
        let storage = self.storage();
        let own = self.owner.newest.load(Ordering::Acquire);
        let numbers = storage.manifests().await?;
        if let Some(newer) = numbers.last().filter(|n| **n > own) {
            return Err(self.owner.overtaken(*newer, None));
        }
        let mut manifests = vec![];
        for number in numbers {
            // One that cannot be read may name anything: nothing is deleted beside it.
            manifests.push(storage.manifest(number).await?);
        }
        let garbage = retention::garbage(&manifests, num_retained);
        // Manifests first: one that names deleted files must never be found.
        let names: Vec<String> = garbage.manifests.iter().map(|n| layout::manifest(*n)).collect();
        storage.delete(&names).await?;
        storage.delete(&garbage.objects).await?;
        let named: BTreeSet<&str> = manifests.iter().flat_map(Manifest::objects).collect();
        let loose: Vec<String> = loose.iter().filter(|o| !named.contains(o.as_str())).cloned().collect();
        storage.delete(&loose).await
    }

    /// Deletes what earlier attempts stored and never committed. Once, after the claim.
    pub async fn collect_orphans(&self) -> Result<()> {
        let storage = self.storage();
        let mut named = BTreeSet::new();
        for number in storage.manifests().await? {
            named.extend(storage.manifest(number).await?.objects().map(str::to_owned));
        }
        let mut stored: Vec<String> = vec![];
        let mut half_put: Vec<String> = vec![];
        for folder in ["state", "segments"] {
            stored.extend(storage.list(folder).await?.into_iter().map(|l| l.object));
            half_put.extend(storage.temporaries(folder).await?);
        }
        storage.delete_temporaries(retention::orphans(&half_put, &named, self.id().claim())).await?;
        storage.delete(&retention::orphans(&stored, &named, self.id().claim())).await
    }
}

/// What is recorded as delivered, per sink: the greater of the manifest's word and the records beside it.
pub async fn recorded_delivered(storage: &Storage, manifest: &Manifest) -> Result<BTreeMap<OperatorId, u64>> {
    let mut delivered = BTreeMap::new();
    for log in &manifest.sinks {
        let newest = newest_record(storage, &layout::delivered_dir(log.sink)).await?;
        delivered.insert(log.sink, newest.max(log.delivered));
    }
    Ok(delivered)
}

/// The highest segment that a record in this folder names; 0: none.
async fn newest_record(storage: &Storage, folder: &str) -> Result<u64> {
    let records = storage.list(folder).await?;
    Ok(records.iter().filter_map(|r| r.object.rsplit('/').next()?.parse().ok()).max().unwrap_or(0))
}

/// The manifest with the segments that are recorded as delivered taken out of what waits.
pub async fn without_delivered(storage: &Storage, mut manifest: Manifest) -> Result<Manifest> {
    let recorded = recorded_delivered(storage, &manifest).await?;
    for log in &mut manifest.sinks {
        log.mark_delivered(recorded.get(&log.sink).copied().unwrap_or(0));
    }
    Ok(manifest)
}

/// Copies (by hard link where possible) everything that the state of `from` needs into another job's storage, for a new
/// job that begins with it (`--from`), whose first attempt is `to`. Gives the shards under their new names. Pending output
/// stays with the old job. Nothing of it counts before the new job's first manifest, which lists it: until then
/// `layout::ADOPTING` says that there is no job yet.
pub async fn adopt_state(
    from: &Storage,
    manifest: &Manifest,
    storage: &Storage,
    to: &AttemptId,
) -> Result<Vec<thalweg_core::stored::StoredShard>> {
    from.check_files(manifest).await?;
    storage.put(layout::ADOPTING, from.describe(&layout::manifest(manifest.number)).into()).await?;
    let mut shards = manifest.shards.clone();
    for (i, shard) in shards.iter_mut().enumerate() {
        for file in &mut shard.files {
            let object = layout::adopted_file(to, i, &file.name);
            let stored = storage.put_file(&from.local_path(&file.object), &file.name, object).await?;
            if (stored.size, stored.crc32) != (file.size, file.crc32) {
                return Err(Error::checkpoint(format!("{} is damaged", from.describe(&file.object)))
                    .note(crate::manifest::WHAT_TO_DO));
            }
            *file = stored;
        }
    }
    Ok(shards)
}

/// From the operating system: never the same in two processes, also not in copies of one machine.
pub(crate) fn random() -> u64 {
    getrandom::u64().expect("an operating system that Thalweg runs on gives random numbers")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use thalweg_core::ErrorCode;

    use super::*;
    use crate::manifest::tests::manifest;
    use crate::segments::{self, Part, SinkLog};

    async fn first(s: &Arc<Storage>) -> (Attempt, Manifest) {
        Attempt::first(s.clone(), AttemptId::after(None), manifest("j", 0)).await.unwrap()
    }

    async fn take_over(s: &Arc<Storage>, from: &Manifest) -> Result<(Attempt, Manifest)> {
        Attempt::take_over(s.clone(), AttemptId::after(Some(from)), from).await
    }

    async fn commit(a: &mut Attempt, m: Manifest) -> Manifest {
        match a.commit(m).await.unwrap() {
            Put::Done(m) => m,
            Put::Earlier(m) => panic!("{} was there", m.number),
        }
    }

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
        let (mut old, first) = first(&s).await;
        assert_eq!((first.number, first.kind), (1, Kind::Claim));
        let m2 = commit(&mut old, manifest("j", 0)).await;
        // Two want to take over at once: one does.
        let (mut new, claimed) = take_over(&s, &m2).await.unwrap();
        assert_eq!((claimed.number, claimed.tick), (3, m2.tick));
        assert_eq!(take_over(&s, &m2).await.unwrap_err().code(), ErrorCode::Ownership);

        let e = old.commit(manifest("j", 0)).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Ownership);
        assert!(!e.is_transient());
        // Also when its number has been deleted meanwhile.
        for _ in 0..3 {
            let m = Manifest { kind: Kind::Checkpoint, ..manifest("j", 0) };
            commit(&mut new, m).await;
        }
        new.collect_garbage(1, &[]).await.unwrap();
        assert_eq!(s.manifests().await.unwrap(), [6]);
        assert_eq!(old.commit(manifest("j", 0)).await.unwrap_err().code(), ErrorCode::Ownership);
        assert_eq!(s.manifests().await.unwrap(), [6]);
        // What it believes to be garbage is not, and what it believes to be delivered is not for it to say.
        assert_eq!(old.collect_garbage(1, &[]).await.unwrap_err().code(), ErrorCode::Ownership);
        assert_eq!(old.owner().check().await.unwrap_err().code(), ErrorCode::Ownership);
        new.owner().check().await.unwrap();
        old.collect_orphans().await.unwrap();
        assert_eq!(s.manifests().await.unwrap(), [6]);
    }

    #[tokio::test]
    async fn a_commit_that_seemed_to_fail_can_be_put_again() {
        let dir = tempfile::tempdir().unwrap();
        let s = storage(dir.path()).await;
        let (mut a, _) = first(&s).await;
        let m = commit(&mut a, manifest("j", 0)).await;
        let forget = |a: &Attempt| a.owner.newest.fetch_sub(1, Ordering::AcqRel);
        forget(&a);
        assert_eq!(commit(&mut a, manifest("j", 0)).await, m);
        assert_eq!(a.next_number(), 3);
        // With other content: what was put stands, and the new content gets the next number.
        forget(&a);
        let later = Manifest { tick: 7, ..manifest("j", 0) };
        assert_eq!(a.commit(later.clone()).await.unwrap(), Put::Earlier(m));
        assert_eq!(s.manifest(2).await.unwrap().tick, 0);
        assert_eq!(commit(&mut a, later).await.number, 3);
        assert_eq!(s.manifests().await.unwrap(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn files_of_a_checkpoint_that_was_given_up_go_unless_a_manifest_names_them() {
        let dir = tempfile::tempdir().unwrap();
        let s = storage(dir.path()).await;
        let (mut a, _) = first(&s).await;
        let local = dir.path().join("CURRENT");
        std::fs::write(&local, "x").unwrap();
        let mut stored = vec![];
        for checkpoint in [2, 3] {
            let object = layout::state_file(a.id(), 0, 0, Some(checkpoint), "CURRENT");
            stored.push(s.put_file(&local, "CURRENT", object).await.unwrap());
        }
        let files = vec![stored[1].clone()];
        let shards = vec![thalweg_core::stored::StoredShard { groups: 0..256, files, tables: vec![] }];
        commit(&mut a, Manifest { shards, ..manifest("j", 0) }).await;
        let loose: Vec<String> = stored.iter().map(|f| f.object.clone()).collect();
        a.collect_garbage(1, &loose).await.unwrap();
        let left: Vec<String> = s.list("state").await.unwrap().into_iter().map(|l| l.object).collect();
        assert_eq!(left, [stored[1].object.clone()]);
    }

    #[tokio::test]
    async fn segments_are_deleted_when_delivered_and_in_no_retained_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let s = storage(dir.path()).await;
        let sink = OperatorId([3; 16]);
        let (mut a, _) = first(&s).await;
        let mut log = SinkLog::new(sink, "out");
        for n in 1..=3u64 {
            let part = Part { chunks: vec![format!("row {n}\n").into()], rows: 1, first_tick: n, last_tick: n };
            let stored = segments::stage(&s, a.id(), sink, 0, n, &part).await.unwrap();
            log.close(vec![stored], 1 << 20);
            let mut m = manifest("j", n);
            m.sinks = vec![log.clone()];
            commit(&mut a, m).await;
            if n > 1 {
                a.owner().record_delivered(sink, n - 1).await.unwrap();
                a.owner().forget_delivered_below(sink, n - 1).await.unwrap();
                log.mark_delivered(n - 1);
            }
            a.collect_garbage(2, &[]).await.unwrap();
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
        commit(&mut a, m).await;
        a.collect_garbage(1, &[]).await.unwrap();
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
        let (a, first) = first(&s).await;
        s.put(&layout::state_file(a.id(), 0, 0, None, "000001.sst"), "x".into()).await.unwrap();
        let (b, _) = take_over(&s, &first).await.unwrap();
        s.put(&layout::state_file(b.id(), 0, 0, None, "000001.sst"), "y".into()).await.unwrap();
        // As a kill in the middle of a put leaves them.
        for id in [a.id(), b.id()] {
            let half = layout::segment_part(id, OperatorId([3; 16]), 0, 1) + "#17";
            std::fs::create_dir_all(s.local_path(&half).parent().unwrap()).unwrap();
            std::fs::write(s.local_path(&half), "z").unwrap();
        }
        a.collect_orphans().await.unwrap();
        assert_eq!(s.list("state").await.unwrap().len(), 2, "an older attempt deletes nothing of a newer one");
        assert_eq!(s.temporaries("segments").await.unwrap().len(), 2);
        b.collect_orphans().await.unwrap();
        assert_eq!(s.list("state").await.unwrap().len(), 1);
        assert_eq!(s.temporaries("segments").await.unwrap().len(), 1, "only its own");
    }
}
