//! Which stored job a job of a script is.

use std::collections::BTreeSet;
use std::path::Path;

use thalweg_core::mark::JobId;
use thalweg_core::{Error, Result};
use thalweg_graph::OperatorId;

use crate::layout;
use crate::manifest::Manifest;
use crate::storage::Storage;

/// Folder of the jobs that others have replaced, below the checkpoints directory.
const REPLACED: &str = "replaced";

/// A job in a directory, as its newest manifest tells.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredJob {
    pub id: JobId,
    pub name: String,
    /// `pipeline.name` was given.
    pub is_named: bool,
    pub sinks: Vec<OperatorId>,
    pub manifest: Manifest,
}

/// A job of the script that is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedJob {
    /// `pipeline.name`.
    pub name: Option<String>,
    /// What messages call it.
    pub title: String,
    /// Its sinks, with what messages call them.
    pub sinks: Vec<(OperatorId, String)>,
}

/// All jobs below a checkpoints directory.
#[derive(Debug, Clone, Default)]
pub struct StoredJobs {
    /// By name.
    pub jobs: Vec<StoredJob>,
    /// Those whose newest manifest cannot be read, or that have lost all of theirs, and why.
    pub unreadable: Vec<(JobId, Error)>,
    /// Those that another one of `jobs` has replaced: they are not to go on.
    pub replaced: Vec<JobId>,
}

impl StoredJobs {
    /// The stored job that goes on as `wanted`, see `find`. If a job that cannot be read might be it, that is the error.
    pub fn find(&self, wanted: &WantedJob) -> Result<Option<&StoredJob>> {
        let found = find(&self.jobs, wanted)?;
        let has_all = found.is_some_and(|f| wanted.sinks.iter().all(|(s, _)| f.sinks.contains(s)));
        match self.unreadable.first() {
            Some((_, e)) if !has_all => Err(e.clone()),
            _ => Ok(found),
        }
    }
}

/// Reads the newest manifests of all jobs below a checkpoints directory.
///
/// # Errors
/// The directory cannot be listed. What is wrong with a job is in the answer.
pub async fn stored_jobs(checkpoints: &Path) -> Result<StoredJobs> {
    let mut stored = StoredJobs::default();
    for id in job_ids(checkpoints)? {
        match read_job(checkpoints, &id).await {
            Ok(job) => stored.jobs.extend(job),
            Err(e) => stored.unreadable.push((id, e)),
        }
    }
    let replaced: BTreeSet<JobId> = stored.jobs.iter().flat_map(|j| j.manifest.replaces.clone()).collect();
    for list in
        [stored.jobs.iter().map(|j| &j.id).collect::<Vec<_>>(), stored.unreadable.iter().map(|u| &u.0).collect()]
    {
        stored.replaced.extend(list.into_iter().filter(|id| replaced.contains(id)).cloned());
    }
    stored.jobs.retain(|j| !replaced.contains(&j.id));
    stored.unreadable.retain(|(id, _)| !replaced.contains(id));
    stored.jobs.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(stored)
}

/// `None`: no job has begun there.
async fn read_job(checkpoints: &Path, id: &JobId) -> Result<Option<StoredJob>> {
    let root = layout::job_root(checkpoints, id);
    let storage = Storage::open_existing(&root)?;
    let Some(manifest) = storage.newest().await? else {
        // A first attempt ended before its claim, with or without another job's state. What else is there was written
        // after a claim.
        if storage.local_path(layout::ADOPTING).exists() {
            return Ok(None);
        }
        for folder in ["state", "segments", "delivered"] {
            if !storage.list(folder).await?.is_empty() {
                return Err(Error::checkpoint(format!("all manifests of the job in {} are missing", root.display()))
                    .note("restore the newest MANIFEST-….json from a backup")
                    .note("or move that folder away: the job then begins anew, and its sinks get everything again"));
            }
        }
        return Ok(None);
    };
    Ok(Some(StoredJob {
        id: id.clone(),
        name: manifest.job_name.clone(),
        is_named: manifest.is_named,
        sinks: manifest.sinks.iter().map(|s| s.sink).collect(),
        manifest,
    }))
}

/// Moves a job that another one has replaced out of the way; nothing of it is deleted. One that is not there is fine.
pub fn set_aside(checkpoints: &Path, job: &JobId) -> Result<()> {
    let to = checkpoints.join(REPLACED);
    let moved = || -> std::io::Result<()> {
        std::fs::create_dir_all(&to)?;
        std::fs::rename(layout::job_root(checkpoints, job), to.join(&job.0))
    };
    match moved() {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::from(e).context(format!("setting job {job} aside in {}", to.display())))
        }
        _ => Ok(()),
    }
}

/// Removes what `--from` copied for jobs that never began. Only where nobody else can be about to begin one.
pub fn remove_unbegun(checkpoints: &Path) -> Result<()> {
    for id in job_ids(checkpoints)? {
        let root = layout::job_root(checkpoints, &id);
        if !root.join(layout::ADOPTING).exists() {
            continue;
        }
        let names = std::fs::read_dir(&root)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned()));
        let names = names.collect::<Result<Vec<String>>>()?;
        if names.iter().any(|n| layout::manifest_number(n).is_some()) {
            // It has begun, and was killed before it could say so.
            std::fs::remove_file(root.join(layout::ADOPTING))?;
        } else {
            std::fs::remove_dir_all(&root)?;
        }
    }
    Ok(())
}

/// Ids of all jobs below a checkpoints directory; none there is fine.
pub fn job_ids(checkpoints: &Path) -> Result<Vec<JobId>> {
    let failed = |e: std::io::Error| Error::from(e).context(format!("listing {}", checkpoints.display()));
    let entries = match std::fs::read_dir(checkpoints) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(failed)?,
    };
    let mut ids = vec![];
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            ids.push(JobId(name.into_owned()));
        }
    }
    ids.sort();
    Ok(ids)
}

/// The stored jobs that could go on as `wanted`: those of its `pipeline.name`, else those that share a sink with it.
pub fn candidates<'a>(stored: &'a [StoredJob], wanted: &WantedJob) -> Vec<&'a StoredJob> {
    let named: Vec<&StoredJob> =
        wanted.name.iter().flat_map(|n| stored.iter().filter(move |j| j.is_named && j.name == *n)).collect();
    if named.is_empty() { stored.iter().filter(|j| shares_sink(j, wanted)).collect() } else { named }
}

fn shares_sink(job: &StoredJob, wanted: &WantedJob) -> bool {
    wanted.sinks.iter().any(|(s, _)| job.sinks.contains(s))
}

/// The one stored job that goes on as `wanted`. Two candidates are an error that names both.
pub fn find<'a>(stored: &'a [StoredJob], wanted: &WantedJob) -> Result<Option<&'a StoredJob>> {
    match candidates(stored, wanted)[..] {
        [] => Ok(None),
        [one] => {
            if let Some(other) = stored.iter().find(|j| j.id != one.id && shares_sink(j, wanted)) {
                let (_, sink) = wanted.sinks.iter().find(|(s, _)| other.sinks.contains(s)).expect("it shares one");
                return Err(Error::checkpoint(format!(
                    "job {} writes to sink {sink}, which belongs to the stored job {} ({})",
                    wanted.title, other.name, other.id
                ))
                .note("give the sink another target, or run it in the job that it belongs to"));
            }
            Ok(Some(one))
        }
        [a, b, ..] => Err(Error::checkpoint(format!(
            "job {} could go on from two stored jobs: {} ({}) and {} ({})",
            wanted.title, a.name, a.id, b.name, b.id
        ))
        .note("SET 'pipeline.name' to the name of the one that is meant; or run both inserts in one STATEMENT SET")),
    }
}

/// Two jobs of one script with the same name or the same sink are an error that names both.
pub fn check_distinct(wanted: &[WantedJob]) -> Result<()> {
    for (i, a) in wanted.iter().enumerate() {
        for b in &wanted[i + 1..] {
            if let (Some(x), Some(y)) = (&a.name, &b.name)
                && x == y
            {
                return Err(Error::option(format!(
                    "two jobs of this script have the name '{x}': {} and {}",
                    a.title, b.title
                ))
                .note("SET 'pipeline.name' before each INSERT, or put them into one STATEMENT SET"));
            }
            if let Some((_, sink)) = a.sinks.iter().find(|(s, _)| b.sinks.iter().any(|(t, _)| s == t)) {
                return Err(Error::option(format!(
                    "two jobs of this script write to {sink}: {} and {}",
                    a.title, b.title
                ))
                .note("put both INSERTs into one EXECUTE STATEMENT SET: it is one job with one sink"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::manifest;

    fn sink(n: u8) -> (OperatorId, String) {
        (OperatorId([n; 16]), format!("out{n}"))
    }

    fn stored(id: &str, name: &str, is_named: bool, sinks: &[u8]) -> StoredJob {
        StoredJob {
            id: JobId(id.into()),
            name: name.into(),
            is_named,
            sinks: sinks.iter().map(|n| sink(*n).0).collect(),
            manifest: manifest(id, 1),
        }
    }

    fn wanted(name: Option<&str>, sinks: &[u8]) -> WantedJob {
        WantedJob { name: name.map(Into::into), title: "w".into(), sinks: sinks.iter().map(|n| sink(*n)).collect() }
    }

    #[test]
    fn a_name_finds_a_job_before_a_sink_does() {
        let jobs = [stored("1", "a", true, &[1]), stored("2", "out2", false, &[2, 3])];
        let id = |w: WantedJob| find(&jobs, &w).map(|j| j.map(|j| j.id.0.clone()));
        assert_eq!(id(wanted(Some("a"), &[9])).unwrap().as_deref(), Some("1"));
        assert_eq!(id(wanted(None, &[3])).unwrap().as_deref(), Some("2"));
        assert_eq!(id(wanted(Some("new name"), &[3])).unwrap().as_deref(), Some("2"));
        assert_eq!(id(wanted(Some("out2"), &[9])).unwrap(), None, "not a name that the user gave");
        assert_eq!(id(wanted(None, &[9])).unwrap(), None);
    }

    #[test]
    fn two_candidates_are_both_named() {
        let jobs = [stored("1", "a", true, &[1]), stored("2", "b", false, &[2])];
        let e = find(&jobs, &wanted(None, &[1, 2])).unwrap_err();
        assert!(e.message().contains("a (1) and b (2)"), "{e:?}");
        let e = find(&jobs, &wanted(Some("a"), &[2])).unwrap_err();
        assert!(e.message().contains("out2") && e.message().contains("b (2)"), "{e:?}");
    }

    #[test]
    fn a_job_that_cannot_be_read_matters_only_where_it_might_be_the_one() {
        let jobs = StoredJobs {
            jobs: vec![stored("1", "a", false, &[1, 2])],
            unreadable: vec![(JobId("9".into()), Error::checkpoint("damaged"))],
            replaced: vec![],
        };
        let found = |w: WantedJob| jobs.find(&w).map(|j| j.map(|j| j.id.0.clone()));
        assert_eq!(found(wanted(None, &[2])).unwrap().as_deref(), Some("1"));
        assert_eq!(found(wanted(None, &[2, 3])).unwrap_err().message(), "damaged", "sink 3 might be its");
        assert_eq!(found(wanted(None, &[3])).unwrap_err().message(), "damaged");
    }

    #[tokio::test]
    async fn a_replaced_job_does_not_go_on_and_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (JobId("0".repeat(32)), JobId("1".repeat(32)));
        for (id, replaces) in [(&old, vec![]), (&new, vec![old.clone()])] {
            let storage = Storage::open(&layout::job_root(dir.path(), id)).unwrap();
            let m = Manifest { replaces, ..manifest(&id.0, 1) };
            storage.create(&layout::manifest(1), m.to_bytes().into()).await.unwrap();
        }
        let found = stored_jobs(dir.path()).await.unwrap();
        assert_eq!(found.jobs.iter().map(|j| &j.id).collect::<Vec<_>>(), [&new]);
        assert_eq!(found.replaced, std::slice::from_ref(&old));
        set_aside(dir.path(), &old).unwrap();
        set_aside(dir.path(), &old).unwrap();
        assert!(stored_jobs(dir.path()).await.unwrap().replaced.is_empty());
        assert!(dir.path().join(REPLACED).join(&old.0).join(layout::manifest(1)).exists());
    }

    #[tokio::test]
    async fn a_job_that_never_began_is_none_and_can_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        for (id, begun) in [("0", false), ("1", true)] {
            let storage = Storage::open(&dir.path().join(id.repeat(32))).unwrap();
            storage.put(layout::ADOPTING, "x".into()).await.unwrap();
            storage.put("state/0000000001-x/from-0/000001.sst", "x".into()).await.unwrap();
            if begun {
                let m = manifest(&id.repeat(32), 1);
                storage.create(&layout::manifest(1), m.to_bytes().into()).await.unwrap();
            }
        }
        let found = stored_jobs(dir.path()).await.unwrap();
        assert_eq!((found.jobs.len(), found.unreadable.len()), (1, 0));
        remove_unbegun(dir.path()).unwrap();
        assert_eq!(job_ids(dir.path()).unwrap(), [JobId("1".repeat(32))]);
        assert!(!dir.path().join("1".repeat(32)).join(layout::ADOPTING).exists());
        assert!(dir.path().join("1".repeat(32)).join("state").exists());
        assert!(remove_unbegun(&dir.path().join("nowhere")).is_ok());
    }

    #[test]
    fn jobs_of_one_script_are_told_apart() {
        assert!(check_distinct(&[wanted(Some("a"), &[1]), wanted(Some("b"), &[2]), wanted(None, &[3])]).is_ok());
        assert!(check_distinct(&[wanted(Some("a"), &[1]), wanted(Some("a"), &[2])]).is_err());
        let e = check_distinct(&[wanted(None, &[1, 2]), wanted(None, &[2])]).unwrap_err();
        assert!(e.notes()[0].contains("STATEMENT SET"));
    }
}
