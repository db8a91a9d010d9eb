//! Names of objects. Every job has a folder of its own; in it every object that is not a manifest is named by the attempt
//! that wrote it, so that two attempts never write the same name.
//!
//! ```text
//! DIR/LOCK                                            held by the process that runs DIR's jobs; holds its pid
//! DIR/checkpoints/<job id>/                           root of the job's storage; object names are relative to it
//!     MANIFEST-0000000042.json                        one numbered log: checkpoints, savepoints, claims of attempts
//!     state/<attempt>/w0-s0/000012.sst                a state file that never changes: stored once for many checkpoints
//!     state/<attempt>/w0-s0/chk-42/MANIFEST-000004    a small one that belongs to one checkpoint, or to one that was given up
//!     state/<attempt>/from-0/000012.sst               adopted from another job by `--from`
//!     ADOPTING                                        `--from` has not begun: there is no job here yet
//!     segments/<attempt>/<sink>/w0-00000017.seg       one worker's part of a sink's staged output
//!     delivered/<sink>/00000000000000000041           the sink's target has its segments up to 41
//!     attempted/<sink>/00000000000000000041           those up to 41 may have been given to it, whatever a manifest says
//! ```
//!
//! An attempt is written as `<number of the manifest that it began with>-<random>`: attempts sort by age.

use std::path::{Path, PathBuf};

use thalweg_core::mark::JobId;
use thalweg_graph::OperatorId;

use crate::attempt::AttemptId;

/// Where a lasting directory keeps its jobs' checkpoints, unless `execution.checkpointing.dir` says otherwise.
pub fn checkpoints_dir(dir: &Path) -> PathBuf {
    dir.join("checkpoints")
}

/// Root of one job's storage.
pub fn job_root(checkpoints: &Path, job: &JobId) -> PathBuf {
    checkpoints.join(&job.0)
}

pub fn manifest(number: u64) -> String {
    format!("MANIFEST-{number:010}.json")
}

/// The number of a manifest's name.
pub fn manifest_number(name: &str) -> Option<u64> {
    name.strip_prefix("MANIFEST-")?.strip_suffix(".json")?.parse().ok()
}

/// Stands where a job is about to begin with another one's state, until its first manifest is put.
pub const ADOPTING: &str = "ADOPTING";

/// A file of another job's shard.
pub fn adopted_file(attempt: &AttemptId, shard: usize, name: &str) -> String {
    format!("state/{attempt}/from-{shard}/{name}")
}

/// A file of a worker's shard. `checkpoint` (its id within the attempt) for files that belong to one checkpoint only.
pub fn state_file(attempt: &AttemptId, worker: usize, shard: usize, checkpoint: Option<u64>, name: &str) -> String {
    let chk = checkpoint.map(|c| format!("chk-{c}/")).unwrap_or_default();
    format!("state/{attempt}/w{worker}-s{shard}/{chk}{name}")
}

pub fn segment_part(attempt: &AttemptId, sink: OperatorId, worker: usize, seq: u64) -> String {
    format!("segments/{attempt}/{sink}/w{worker}-{seq:08}.seg")
}

pub fn delivered_dir(sink: OperatorId) -> String {
    format!("delivered/{sink}")
}

pub fn delivered(sink: OperatorId, segment: u64) -> String {
    format!("delivered/{sink}/{segment:020}")
}

pub fn attempted_dir(sink: OperatorId) -> String {
    format!("attempted/{sink}")
}

pub fn attempted(sink: OperatorId, segment: u64) -> String {
    format!("attempted/{sink}/{segment:020}")
}

/// The number of the manifest with which the attempt began that wrote this state file or segment part.
pub fn claim_of(object: &str) -> Option<u64> {
    let mut parts = object.split('/');
    match parts.next()? {
        "state" | "segments" => parts.next()?.split('-').next()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_numbers() {
        assert_eq!(manifest(42), "MANIFEST-0000000042.json");
        assert_eq!(manifest_number(&manifest(42)), Some(42));
        assert_eq!(manifest_number("MANIFEST-x.json"), None);
        let attempt = AttemptId::new(7);
        assert_eq!(claim_of(&state_file(&attempt, 0, 1, Some(9), "CURRENT")), Some(7));
        assert_eq!(claim_of(&segment_part(&attempt, OperatorId([1; 16]), 0, 3)), Some(7));
        assert_eq!(claim_of("MANIFEST-0000000042.json"), None);
        assert_eq!(claim_of(&delivered(OperatorId([1; 16]), 3)), None);
    }
}
