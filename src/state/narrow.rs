//! Values with fewer columns: a new graph that no longer carries all of them goes on with what is stored. The table is
//! rewritten once, when it is restored; so later nobody has to know how it came to be.

use std::ops::Range;
use std::path::Path;

use thalweg_core::Result;
use thalweg_core::state::KeyBatch;
use thalweg_core::stored::NarrowValues;
use thalweg_core::value::ValueCodec;

use crate::shard::Db;
use crate::{errors, options};

/// Values that are decoded at a time.
const ROWS: usize = 8192;

/// Fills the column family `to` with the rows of `from` whose key groups are in `groups`.
pub(crate) fn rewrite(db: &Db, from: &str, to: &str, groups: &Range<u16>, narrow: &NarrowValues) -> Result<()> {
    let family = |name| db.cf_handle(name).expect("opened with this database");
    let (source, target) = (family(from), family(to));
    let kept = narrow.keep.iter().map(|i| narrow.types[*i].clone()).collect();
    let (wide, narrowed) = (ValueCodec::new(narrow.types.clone()), ValueCodec::new(kept));
    let error = |doing: &str, e| errors::rocks(Path::new(db.path()), doing, &e);

    let mut read = options::read_options();
    read.fill_cache(false);
    read.set_iterate_lower_bound(groups.start.to_be_bytes());
    read.set_iterate_upper_bound(groups.end.to_be_bytes());
    let mut rows = db.raw_iterator_cf_opt(&source, read);
    rows.seek_to_first();
    let write_options = options::write_options();
    let (mut keys, mut values, mut out) = (KeyBatch::new(), KeyBatch::new(), KeyBatch::new());
    loop {
        while let Some((key, value)) = rows.item() {
            keys.push(key);
            values.push(value);
            rows.next();
            if keys.len() == ROWS {
                break;
            }
        }
        rows.status().map_err(|e| error("reading restored state", e))?;
        if keys.is_empty() {
            return Ok(());
        }
        let columns = wide.decode(values.iter())?;
        let columns: Vec<_> = narrow.keep.iter().map(|i| columns[*i].clone()).collect();
        narrowed.encode(&columns, keys.len(), &mut out)?;
        let mut batch = rocksdb::WriteBatch::default();
        keys.iter().zip(out.iter()).for_each(|(key, value)| batch.put_cf(&target, key, value));
        db.write_opt(batch, &write_options).map_err(|e| error("writing restored state", e))?;
        [&mut keys, &mut values, &mut out].into_iter().for_each(KeyBatch::clear);
    }
}
