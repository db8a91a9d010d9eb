//! What `thalweg checkpoint list | inspect DIR` shows; the command line prints it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use thalweg_core::mark::JobId;
use thalweg_core::stored::TableName;
use thalweg_core::{Error, Result};
use thalweg_graph::OperatorSpec;

use crate::attempt::recorded_delivered;
use crate::job;
use crate::layout;
use crate::manifest::{Kind, Manifest};
use crate::segments::SinkLog;
use crate::storage::Storage;

/// One job of a directory.
#[derive(Debug, Clone, Serialize)]
pub struct JobListing {
    pub job: JobId,
    /// Of its newest readable manifest.
    pub name: Option<String>,
    /// Ascending.
    pub checkpoints: Vec<CheckpointListing>,
}

/// One entry of a job's log.
#[derive(Debug, Clone, Serialize)]
pub struct CheckpointListing {
    pub number: u64,
    /// The manifest, as a path.
    pub file: String,
    /// `Err`: it cannot be read, and why.
    pub content: std::result::Result<CheckpointSummary, String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct CheckpointSummary {
    pub kind: Kind,
    pub tick: u64,
    /// µs since 1970-01-01 UTC.
    pub wall_clock_us: i64,
    pub engine: String,
    pub workers: usize,
    pub state_bytes: u64,
    /// Not known to be delivered, as of now.
    pub pending_segments: usize,
    pub finished: bool,
}

/// One checkpoint in full.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    pub file: String,
    pub manifest: Manifest,
    pub operators: Vec<OperatorListing>,
    /// Per sink, by name: delivered up to, as recorded.
    pub delivered: BTreeMap<String, u64>,
    /// What is wrong with its files, in words; without `verify` presence and size only.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct OperatorListing {
    /// 32 hex digits.
    pub id: String,
    pub variant: u64,
    pub title: String,
    pub tables: Vec<TableListing>,
    /// Of a source: split → position.
    pub positions: BTreeMap<String, serde_json::Value>,
    pub rows_read: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct TableListing {
    pub name: String,
    /// `amount DECIMAL(10, 2) DESC`
    pub key: Vec<String>,
    pub value: Vec<String>,
    pub version: u32,
    /// Approximate.
    pub rows: u64,
    pub bytes: u64,
}

/// All checkpoints of all jobs below a checkpoints directory. What cannot be read is listed with the reason.
pub async fn list(checkpoints: &Path) -> Result<Vec<JobListing>> {
    let mut jobs = vec![];
    for id in job::job_ids(checkpoints)? {
        let storage = Storage::open_existing(&layout::job_root(checkpoints, &id))?;
        let mut listing = JobListing { job: id, name: None, checkpoints: vec![] };
        for number in storage.manifests().await? {
            let content = match storage.manifest(number).await {
                Ok(m) => {
                    listing.name = Some(m.job_name.clone());
                    // Delivered since the manifest was written.
                    let delivered = recorded_delivered(&storage, &m).await.unwrap_or_default();
                    let waits = |s: &SinkLog| {
                        let delivered = delivered.get(&s.sink).copied().unwrap_or(0);
                        s.pending.iter().filter(|p| p.number > delivered).count()
                    };
                    Ok(CheckpointSummary {
                        kind: m.kind,
                        tick: m.tick,
                        wall_clock_us: m.wall_clock_us,
                        engine: m.engine.clone(),
                        workers: m.workers,
                        state_bytes: m.state_bytes(),
                        pending_segments: m.sinks.iter().map(waits).sum(),
                        finished: m.finished,
                    })
                }
                Err(e) => Err(e.message().to_owned()),
            };
            let file = storage.describe(&layout::manifest(number));
            listing.checkpoints.push(CheckpointListing { number, file, content });
        }
        jobs.push(listing);
    }
    jobs.sort_by(|a, b| (&a.name, &a.job).cmp(&(&b.name, &b.job)));
    Ok(jobs)
}

/// One checkpoint of a job; `number`: the newest if not given. With `verify` every file is read and its checksum
/// compared.
pub async fn inspect(checkpoints: &Path, job: &JobId, number: Option<u64>, verify: bool) -> Result<Inspection> {
    let storage = Storage::open_existing(&layout::job_root(checkpoints, job))?;
    let number =
        match number {
            Some(n) => n,
            None => *storage.manifests().await?.last().ok_or_else(|| {
                Error::checkpoint(format!("job {job} in {} has no checkpoint", checkpoints.display()))
            })?,
        };
    let manifest = storage.manifest(number).await?;
    let problems = if verify {
        storage.verify_files(&manifest).await?
    } else {
        storage.check_files(&manifest).await.err().map(|e| e.message().to_owned()).into_iter().collect()
    };
    let recorded = recorded_delivered(&storage, &manifest).await?;
    let delivered = manifest.sinks.iter().map(|s| (s.name.clone(), recorded[&s.sink])).collect();
    Ok(Inspection {
        file: storage.describe(&layout::manifest(number)),
        operators: operators(&manifest),
        delivered,
        problems,
        manifest,
    })
}

/// A checkpoint for `--from`: a manifest's path, a job's folder (its newest), or a directory with one job.
pub async fn open_path(path: &Path) -> Result<(std::sync::Arc<Storage>, Manifest)> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(number) = layout::manifest_number(&name) {
        let root = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let storage = Storage::open_existing(root)?;
        let manifest = storage.manifest(number).await?;
        return Ok((storage, manifest));
    }
    let none = || {
        Error::checkpoint(format!("there is no checkpoint at {}", path.display()))
            .note("give a manifest file, the folder of a job, or a directory with one job")
            .note("`thalweg checkpoint list DIR` shows them")
    };
    if !path.is_dir() {
        return Err(none());
    }
    let mut candidates = vec![];
    for dir in [path.to_owned(), layout::checkpoints_dir(path)] {
        candidates.extend(job::job_ids(&dir)?.into_iter().map(|id| layout::job_root(&dir, &id)));
    }
    let root = match &candidates[..] {
        [] => path.to_owned(),
        [one] => one.clone(),
        many => {
            let all: Vec<String> = many.iter().map(|p| p.display().to_string()).collect();
            return Err(Error::checkpoint(format!("{} has the checkpoints of {} jobs", path.display(), many.len()))
                .note(format!("give the folder of one: {}", all.join(", "))));
        }
    };
    let storage = Storage::open_existing(&root)?;
    match storage.newest().await? {
        Some(manifest) => Ok((storage, manifest)),
        None => Err(none()),
    }
}

fn operators(manifest: &Manifest) -> Vec<OperatorListing> {
    let graph = &manifest.graph;
    let of_node = |node: &thalweg_graph::Node| {
        let id = node.id.to_string();
        let source =
            matches!(node.spec, OperatorSpec::Source(_)).then(|| manifest.source(node.id, node.variant)).flatten();
        OperatorListing {
            title: node.spec.meaning().title(&graph.inputs(node)),
            tables: node
                .state
                .iter()
                .map(|spec| table(manifest, &TableName::new(&id, node.variant, &spec.name), spec))
                .collect(),
            id,
            variant: node.variant,
            positions: source.map(|s| s.positions.clone()).unwrap_or_default(),
            rows_read: source.map(|s| s.rows),
        }
    };
    graph.nodes.iter().map(of_node).collect()
}

fn table(manifest: &Manifest, name: &TableName, spec: &thalweg_core::state::StateTableSpec) -> TableListing {
    let stored = || manifest.shards.iter().flat_map(|s| &s.tables).filter(|t| t.name == *name);
    let key = spec.key.iter().map(|c| format!("{} {}{}", c.name, c.ty, if c.descending { " DESC" } else { "" }));
    TableListing {
        name: spec.name.clone(),
        key: key.collect(),
        value: spec.value.iter().map(|c| format!("{} {}", c.name, c.ty)).collect(),
        version: spec.version,
        rows: stored().map(|t| t.rows).sum(),
        bytes: stored().map(|t| t.bytes).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::{Attempt, AttemptId, new_job_id};
    use crate::manifest::tests::manifest;

    async fn job(dir: &Path, name: &str) -> (JobId, Attempt) {
        let id = new_job_id();
        let storage = Storage::open(&layout::job_root(&layout::checkpoints_dir(dir), &id)).unwrap();
        let first = Manifest { job_name: name.into(), job: id.clone(), ..manifest("", 1) };
        let (mut attempt, first) = Attempt::first(storage, AttemptId::after(None), first).await.unwrap();
        let file = dir.join("file");
        std::fs::write(&file, b"state").unwrap();
        let object = layout::state_file(attempt.id(), 0, 0, None, "000012.sst");
        let stored = attempt.storage().put_file(&file, "000012.sst", object).await.unwrap();
        let shard = thalweg_core::stored::StoredShard { groups: 0..256, files: vec![stored], tables: vec![] };
        attempt.commit(Manifest { kind: Kind::Checkpoint, shards: vec![shard], ..first }).await.unwrap();
        (id, attempt)
    }

    #[tokio::test]
    async fn damaged_checkpoints_are_listed_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        assert!(list(&layout::checkpoints_dir(dir.path())).await.unwrap().is_empty());
        let (id, attempt) = job(dir.path(), "b").await;
        job(dir.path(), "a").await;
        std::fs::write(attempt.storage().local_path(&layout::manifest(1)), b"not a manifest").unwrap();
        let listed = list(&layout::checkpoints_dir(dir.path())).await.unwrap();
        assert_eq!(listed.iter().map(|j| j.name.as_deref().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(listed[1].job, id);
        let contents: Vec<bool> = listed[1].checkpoints.iter().map(|c| c.content.is_ok()).collect();
        assert_eq!(contents, [false, true]);
        assert_eq!(listed[1].checkpoints[1].content.as_ref().unwrap().state_bytes, 5);
    }

    #[tokio::test]
    async fn inspect_tells_what_is_wrong_with_files() {
        let dir = tempfile::tempdir().unwrap();
        let (id, attempt) = job(dir.path(), "a").await;
        let checkpoints = layout::checkpoints_dir(dir.path());
        let problems = async |verify| inspect(&checkpoints, &id, None, verify).await.unwrap().problems;
        assert!(problems(true).await.is_empty());
        let newest = attempt.storage().newest().await.unwrap().unwrap();
        let path = attempt.storage().local_path(&newest.shards[0].files[0].object);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"stAte").unwrap();
        assert!(problems(false).await.is_empty(), "sizes fit");
        assert!(problems(true).await[0].contains("000012.sst: the checksum"));
        std::fs::remove_file(&path).unwrap();
        assert!(problems(false).await[0].contains("missing"));
        assert!(
            inspect(&checkpoints, &id, Some(9), false).await.unwrap_err().message().contains("MANIFEST-0000000009")
        );
    }

    #[tokio::test]
    async fn a_checkpoint_is_opened_by_directory_job_or_file() {
        let dir = tempfile::tempdir().unwrap();
        let (id, attempt) = job(dir.path(), "a").await;
        let root = layout::job_root(&layout::checkpoints_dir(dir.path()), &id);
        for path in
            [dir.path().to_owned(), layout::checkpoints_dir(dir.path()), root.clone(), root.join(layout::manifest(2))]
        {
            assert_eq!(open_path(&path).await.unwrap().1.number, 2, "{}", path.display());
        }
        assert_eq!(open_path(&root.join(layout::manifest(1))).await.unwrap().1.kind, Kind::Claim);
        // Into a new job: files of its own, which stay when the old job's go.
        let (storage, from) = open_path(&root).await.unwrap();
        let (_, to) = job(dir.path(), "b").await;
        let shards = crate::attempt::adopt_state(&storage, &from, to.storage(), to.id()).await.unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(to.storage().get(&shards[0].files[0].object).await.unwrap(), "state");
        drop(attempt);
        job(dir.path(), "c").await;
        let e = open_path(dir.path()).await.err().unwrap();
        assert!(e.message().contains("2 jobs"), "{e:?}");
    }
}
