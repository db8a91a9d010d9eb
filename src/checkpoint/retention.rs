//! What may be deleted: pure functions over manifests and names.
//!
//! A newer attempt may have taken the job over since the manifests were read. It began with the newest of them, or with a
//! later one, and needs nothing that this newest one does not name; what it stored itself is never named by these
//! manifests. So objects are deleted only because a deleted manifest named them, or because an *older* attempt wrote them.

use std::collections::BTreeSet;

use crate::layout;
use crate::manifest::{Kind, Manifest};

/// What may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Numbers. To be deleted first, so that no manifest is found that names deleted files.
    pub manifests: Vec<u64>,
    pub objects: Vec<String>,
}

/// Keeps the newest manifest, the `num_retained` newest checkpoints, and all savepoints; a claim stands for the
/// checkpoint that it copies. Deletes the others, and all objects that only they name: state files, and segments that are
/// in no kept manifest (a segment leaves the manifests when it is delivered). `manifests` ascending.
pub fn garbage(manifests: &[Manifest], num_retained: usize) -> Garbage {
    let mut kept_ticks = BTreeSet::new();
    let mut kept = vec![];
    let mut dropped = vec![];
    for (i, m) in manifests.iter().rev().enumerate() {
        let is_newest = i == 0;
        let is_recent = kept_ticks.len() < num_retained.max(1) && !kept_ticks.contains(&m.tick);
        if is_newest || m.kind == Kind::Savepoint || is_recent {
            if m.kind != Kind::Savepoint {
                kept_ticks.insert(m.tick);
            }
            kept.push(m);
        } else {
            dropped.push(m);
        }
    }
    let needed: BTreeSet<&str> = kept.iter().flat_map(|m| m.objects()).collect();
    let named: BTreeSet<&str> = dropped.iter().flat_map(|m| m.objects()).collect();
    Garbage {
        manifests: dropped.iter().rev().map(|m| m.number).collect(),
        objects: named.difference(&needed).map(|o| (*o).to_owned()).collect(),
    }
}

/// Objects that attempts older than `claim` stored and that no manifest names.
pub fn orphans(stored: &[String], named: &BTreeSet<String>, claim: u64) -> Vec<String> {
    let is_orphan = |o: &&String| layout::claim_of(o).is_some_and(|c| c < claim) && !named.contains(*o);
    stored.iter().filter(is_orphan).cloned().collect()
}

#[cfg(test)]
mod tests {
    use thalweg_core::stored::{StoredFile, StoredShard};

    use super::*;
    use crate::manifest::tests::manifest;

    fn with_files(number: u64, kind: Kind, files: &[&str]) -> Manifest {
        let files =
            files.iter().map(|f| StoredFile { name: (*f).into(), object: (*f).into(), size: 1, crc32: 0 }).collect();
        Manifest { kind, shards: vec![StoredShard { groups: 0..256, files, tables: vec![] }], ..manifest("j", number) }
    }

    #[test]
    fn files_go_with_the_last_manifest_that_names_them() {
        let log = [
            with_files(1, Kind::Checkpoint, &["a", "b"]),
            with_files(2, Kind::Savepoint, &["b", "c"]),
            with_files(3, Kind::Checkpoint, &["c", "d"]),
            with_files(4, Kind::Checkpoint, &["d", "e"]),
        ];
        let g = garbage(&log, 1);
        assert_eq!(g.manifests, [1, 3]);
        assert_eq!(g.objects, ["a"], "b and c are the savepoint's, d is still used");
        assert_eq!(garbage(&log, 2), Garbage { manifests: vec![1], objects: vec!["a".into()] });
        assert_eq!(garbage(&log, 10), Garbage::default());
        assert_eq!(garbage(&log[..1], 0), Garbage::default(), "the newest is always kept");
        assert_eq!(garbage(&[], 1), Garbage::default());
    }

    #[test]
    fn claims_do_not_push_checkpoints_out() {
        let mut log = vec![with_files(1, Kind::Checkpoint, &["a"]), with_files(2, Kind::Checkpoint, &["b"])];
        for number in 3..6 {
            // A job that fails at every start.
            log.push(Manifest { tick: log[1].tick, ..with_files(number, Kind::Claim, &["b"]) });
        }
        let g = garbage(&log, 2);
        assert_eq!(g.manifests, [2, 3, 4]);
        assert_eq!(g.objects, Vec::<String>::new());
    }

    #[test]
    fn orphans_are_those_of_older_attempts_only() {
        let stored: Vec<String> =
            ["state/0000000001-a/x", "state/0000000001-a/y", "segments/0000000005-b/z", "delivered/s/1"]
                .map(Into::into)
                .into();
        let named = BTreeSet::from(["state/0000000001-a/y".to_owned()]);
        assert_eq!(orphans(&stored, &named, 5), ["state/0000000001-a/x"]);
        assert_eq!(orphans(&stored, &named, 6).len(), 2);
    }
}
