//! Which key group, and so which worker and shard, a key belongs to. The hash is ours and frozen: it routes every
//! exchange into a stateful operator and stands in every stored key, so it must never change.

use std::ops::Range;

use arrow::array::ArrayRef;

use crate::error::Result;

/// Every key in a state table begins with its key group, big-endian.
pub const PREFIX_BYTES: usize = 2;
/// Version of the hash, stored in manifests.
pub const HASH_VERSION: u32 = 1;
/// `pipeline.max-parallelism`, unless set.
pub const MAX_PARALLELISM_DEFAULT: u16 = 256;

/// One 64-bit hash per row over the given columns, in order; `hashes` is cleared first. NULL is a value of its own;
/// -0.0 and 0.0, and all NaNs, hash alike. No columns: 0 for every one of `rows`.
pub fn hash_rows(columns: &[ArrayRef], rows: usize, hashes: &mut Vec<u64>) -> Result<()> {
    let _ = (columns, rows, hashes);
    todo!()
}

/// The key group of a hash.
pub fn key_group(hash: u64, max_parallelism: u16) -> u16 {
    // Multiply-shift on the upper half: uniform, no division.
    (((hash >> 32) * u64::from(max_parallelism)) >> 32) as u16
}

/// The worker that owns a key group.
pub fn worker_of(group: u16, max_parallelism: u16, workers: usize) -> usize {
    usize::from(group) * workers / usize::from(max_parallelism)
}

/// The key groups that a worker owns: exactly those that `worker_of` gives to it.
pub fn groups_of(worker: usize, max_parallelism: u16, workers: usize) -> Range<u16> {
    let max = usize::from(max_parallelism);
    let from = (worker * max).div_ceil(workers);
    let to = ((worker + 1) * max).div_ceil(workers);
    from as u16..to as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_the_one_worker_whose_range_it_is_in() {
        for max in [1, 7, 256, 1024] {
            for workers in 1..=9 {
                for group in 0..max {
                    let w = worker_of(group, max, workers);
                    assert!(groups_of(w, max, workers).contains(&group), "{group} of {max} on {workers}");
                }
            }
        }
    }
}
