//! Which shards a worker opens: stored shards that its key groups touch, whole or in part, and new ones for the rest.

use std::ops::Range;

use rocksdb::AsColumnFamilyRef;
use thalweg_core::{Error, Result};

use crate::errors;
use crate::options;
use crate::shard::Db;

/// One shard to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// What the worker owns of it.
    pub groups: Range<u16>,
    /// Index of the stored shard that it is opened from.
    pub stored: Option<usize>,
}

/// Covers `owned` with parts, ascending and without a gap: one for every stored shard that touches it, one new one for
/// every gap between them.
pub(crate) fn parts(owned: &Range<u16>, stored: &[Range<u16>]) -> Result<Vec<Part>> {
    let mut order: Vec<usize> = (0..stored.len()).collect();
    order.sort_by_key(|i| (stored[*i].start, stored[*i].end));
    let mut parts = vec![];
    let mut next = owned.start;
    for i in order {
        let groups = stored[i].start.max(owned.start)..stored[i].end.min(owned.end);
        if groups.is_empty() {
            continue;
        }
        if groups.start < next {
            return Err(Error::checkpoint(format!(
                "key groups {} to {} are in two shards of the checkpoint",
                groups.start,
                next.min(groups.end) - 1
            ))
            .note(errors::WHAT_TO_DO));
        }
        if groups.start > next {
            parts.push(Part { groups: next..groups.start, stored: None });
        }
        next = groups.end;
        parts.push(Part { groups, stored: Some(i) });
    }
    if next < owned.end {
        parts.push(Part { groups: next..owned.end, stored: None });
    }
    Ok(parts)
}

/// Drops what lies outside of `groups`: files that hold nothing else at once, the rest when it is compacted. Reads never
/// see it either way, since they go by key group.
pub(crate) fn drop_outside<'a>(
    db: &Db,
    column_families: impl Iterator<Item = &'a str>,
    groups: &Range<u16>,
    stored: &Range<u16>,
) -> Result<(), rocksdb::Error> {
    let write = options::write_options();
    for name in column_families {
        let cf = db.cf_handle(name).expect("opened with this database");
        if stored.start < groups.start {
            drop_range(db, &cf, &[0, 0], &groups.start.to_be_bytes(), &write)?;
        }
        if groups.end < stored.end {
            // No key group is 65535: `max_parallelism` itself fits 16 bits.
            drop_range(db, &cf, &groups.end.to_be_bytes(), &[0xff, 0xff], &write)?;
        }
    }
    Ok(())
}

fn drop_range(
    db: &Db,
    cf: &impl AsColumnFamilyRef,
    from: &[u8],
    to: &[u8; 2],
    write: &rocksdb::WriteOptions,
) -> Result<(), rocksdb::Error> {
    // `delete_file_in_range` takes its end as included; a key may be the bare key group `to`. One below it, with the
    // longest tail that is cheap: what it spares is left to the range delete.
    let mut last = (u16::from_be_bytes(*to) - 1).to_be_bytes().to_vec();
    last.extend([0xff; 30]);
    db.delete_file_in_range_cf(cf, from, &last)?;
    db.delete_range_cf_opt(cf, from, to.as_slice(), write)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(groups: Range<u16>, stored: Option<usize>) -> Part {
        Part { groups, stored }
    }

    #[test]
    fn a_worker_opens_what_it_touches_and_fills_the_gaps() {
        assert_eq!(parts(&(0..256), &[]).unwrap(), [part(0..256, None)]);
        assert_eq!(parts(&(64..128), &[0..256]).unwrap(), [part(64..128, Some(0))]);
        assert_eq!(parts(&(0..256), &[128..256, 0..128]).unwrap(), [part(0..128, Some(1)), part(128..256, Some(0))]);
        assert_eq!(
            parts(&(0..128), &[192..256, 32..64, 100..140]).unwrap(),
            [part(0..32, None), part(32..64, Some(1)), part(64..100, None), part(100..128, Some(2))]
        );
        assert_eq!(parts(&(5..5), &[0..256]).unwrap(), []);
    }

    #[test]
    fn shards_that_overlap_are_refused() {
        assert!(parts(&(0..256), &[0..130, 128..256]).is_err());
    }
}
