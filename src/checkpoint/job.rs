//! Which stored job a job of a script is.

use std::path::Path;

use thalweg_core::mark::JobId;
use thalweg_core::{Error, Result};
use thalweg_graph::OperatorId;

use crate::layout;
use crate::manifest::Manifest;
use crate::storage::Storage;

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

/// All jobs below a checkpoints directory, by name. One whose newest manifest cannot be read is an error of code
/// `Checkpoint`: it might be the one that is looked for.
pub async fn stored_jobs(checkpoints: &Path) -> Result<Vec<StoredJob>> {
    let mut jobs = vec![];
    for id in job_ids(checkpoints)? {
        let storage = Storage::open_existing(&layout::job_root(checkpoints, &id))?;
        let Some(manifest) = storage.newest().await? else {
            // Empty: a first attempt ended before its claim. What else is there was written after one.
            for folder in ["state", "segments", "delivered"] {
                if !storage.list(folder).await?.is_empty() {
                    let root = layout::job_root(checkpoints, &id);
                    return Err(Error::checkpoint(format!(
                        "all manifests of the job in {} are missing",
                        root.display()
                    ))
                    .note("restore the newest MANIFEST-….json from a backup")
                    .note("or move that folder away: the job then begins anew, and its sinks get everything again"));
                }
            }
            continue;
        };
        jobs.push(StoredJob {
            id,
            name: manifest.job_name.clone(),
            is_named: manifest.is_named,
            sinks: manifest.sinks.iter().map(|s| s.sink).collect(),
            manifest,
        });
    }
    jobs.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(jobs)
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

/// The stored job that goes on as `wanted`: the one of its `pipeline.name`, else the one that shares a sink with it. Two
/// candidates are an error that names both.
pub fn find<'a>(stored: &'a [StoredJob], wanted: &WantedJob) -> Result<Option<&'a StoredJob>> {
    let shares = |job: &&StoredJob| wanted.sinks.iter().any(|(s, _)| job.sinks.contains(s));
    let named: Vec<&StoredJob> =
        wanted.name.iter().flat_map(|n| stored.iter().filter(move |j| j.is_named && j.name == *n)).collect();
    let candidates = if named.is_empty() { stored.iter().filter(shares).collect() } else { named };
    match candidates[..] {
        [] => Ok(None),
        [one] => {
            if let Some(other) = stored.iter().filter(shares).find(|j| j.id != one.id) {
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
    fn jobs_of_one_script_are_told_apart() {
        assert!(check_distinct(&[wanted(Some("a"), &[1]), wanted(Some("b"), &[2]), wanted(None, &[3])]).is_ok());
        assert!(check_distinct(&[wanted(Some("a"), &[1]), wanted(Some("a"), &[2])]).is_err());
        let e = check_distinct(&[wanted(None, &[1, 2]), wanted(None, &[2])]).unwrap_err();
        assert!(e.notes()[0].contains("STATEMENT SET"));
    }
}
