//! What the stream says of keys of the chunk that is being read: per key its last change.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::interleave_record_batch;
use thalweg_core::{Changes, Result};

use super::chunk::Chunk;
use crate::binlog::rows_event::Image;
use crate::key::Key;
use crate::layout::{ImagePlan, TableLayout};
use crate::rows::{RowMeta, RowsBuilder};

/// Bytes of images and keys at which a chunk is given up for a smaller one.
pub const FOLD_BYTES_MAX: usize = 24 << 20;

/// The changes within a chunk's range since the transactions that its SELECT saw for sure.
pub struct Fold {
    /// Rows that keys were given, some of them replaced since.
    builder: RowsBuilder,
    batches: Vec<RecordBatch>,
    batch_bytes: usize,
    /// By equality of values, whatever a collation says of them; `None`: deleted.
    last: HashMap<Key, Option<Place>>,
    key_bytes: usize,
}

#[derive(Clone, Copy)]
struct Place {
    batch: u32,
    row: u32,
}

impl Fold {
    pub fn new(layout: &Arc<TableLayout>) -> Result<Self> {
        Ok(Fold {
            builder: RowsBuilder::new(layout)?,
            batches: vec![],
            batch_bytes: 0,
            last: HashMap::new(),
            key_bytes: 0,
        })
    }

    /// The key is gone.
    pub fn delete(&mut self, key: Key) {
        self.set(key, None);
    }

    /// The key has the image's row.
    pub fn put(&mut self, key: Key, plan: &ImagePlan, image: &Image<'_>, meta: RowMeta) -> Result<()> {
        let place = Place { batch: self.batches.len() as u32, row: self.builder.rows() as u32 };
        self.builder.push_image(plan, image, meta)?;
        self.set(key, Some(place));
        Ok(())
    }

    /// Takes over rows that were built elsewhere: (key, its row of the batch, or that it is gone), in order.
    pub fn extend(&mut self, batch: RecordBatch, changes: impl Iterator<Item = (Key, Option<usize>)>) -> Result<()> {
        self.close_builder()?;
        let number = self.batches.len() as u32;
        for (key, row) in changes {
            self.set(key, row.map(|row| Place { batch: number, row: row as u32 }));
        }
        self.add(batch);
        Ok(())
    }

    fn set(&mut self, key: Key, place: Option<Place>) {
        let bytes = key.bytes();
        if self.last.insert(key, place).is_none() {
            self.key_bytes += bytes;
        }
    }

    fn add(&mut self, batch: RecordBatch) {
        self.batch_bytes += batch.get_array_memory_size();
        self.batches.push(batch);
    }

    fn close_builder(&mut self) -> Result<()> {
        if self.builder.rows() > 0 {
            let batch = self.builder.finish()?.batch;
            self.add(batch);
        }
        Ok(())
    }

    pub fn is_too_large(&self) -> bool {
        self.batch_bytes + self.builder.bytes() + self.key_bytes > FOLD_BYTES_MAX
    }

    /// The chunk with everything folded in: all rows +1.
    pub fn apply(mut self, chunk: Chunk) -> Result<Vec<Changes>> {
        if self.last.is_empty() {
            return Ok(chunk.batches);
        }
        self.close_builder()?;
        let mut all = vec![];
        let mut before = 0;
        for batch in chunk.batches {
            let rows = batch.num_rows();
            let mut kept = vec![];
            for row in 0..rows {
                if !self.last.contains_key(&chunk.keys.get(before + row)?) {
                    kept.push(row as u32);
                }
            }
            before += rows;
            let kept = UInt32Array::from(kept);
            match kept.len() {
                0 => {}
                n if n == rows => all.push(batch),
                _ => all.push(batch.take(&kept)?),
            }
        }
        let mut places: Vec<(usize, usize)> =
            self.last.values().flatten().map(|p| (p.batch as usize, p.row as usize)).collect();
        // In the order in which they came, so that a chunk is the same whenever it is read.
        places.sort_unstable();
        if !places.is_empty() {
            let batches: Vec<&RecordBatch> = self.batches.iter().collect();
            all.push(Changes::inserts(interleave_record_batch(&batches, &places)?));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use thalweg_core::{Column, SqlType};

    use super::super::chunk::ChunkKeys;
    use super::*;
    use crate::binlog::table_map::column_code;
    use crate::key::KeyPart;
    use crate::server::LogPosition;
    use crate::testing::{layout_of, server_column};

    fn layout() -> Arc<TableLayout> {
        let declared = [Column::new("id", SqlType::BigInt, false), Column::new("name", SqlType::STRING, true)];
        layout_of("db", "t", &declared, vec![server_column("id", "bigint"), server_column("name", "varchar(9)")])
    }

    fn batch(layout: &TableLayout, rows: &[(i64, &str)]) -> RecordBatch {
        let ids = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
        let names = StringArray::from_iter_values(rows.iter().map(|r| r.1));
        RecordBatch::try_new(layout.schema(), vec![Arc::new(ids), Arc::new(names)]).unwrap()
    }

    fn key(id: i64) -> Key {
        Key(vec![KeyPart::Int(id)])
    }

    fn chunk(layout: &TableLayout) -> Chunk {
        let batches = [&[(1, "one"), (2, "two")][..], &[(3, "three"), (4, "four")][..]];
        let codes = [column_code::LONGLONG, column_code::LONGLONG, column_code::VAR_STRING];
        let mut keys = ChunkKeys::new(layout.row_plan(&codes).unwrap());
        (1..5i64).for_each(|id| keys.push(&[&[0][..], &id.to_le_bytes()].concat()).unwrap());
        Chunk {
            batches: batches.iter().map(|rows| Changes::inserts(batch(layout, rows))).collect(),
            keys,
            upper: Some(key(4)),
            high: LogPosition::default(),
        }
    }

    fn rows(changes: &[Changes]) -> Vec<(i64, String)> {
        let mut all = vec![];
        for c in changes {
            assert!(c.weights.is_none(), "a chunk's rows come");
            let (ids, names) = (c.batch.column(0).as_primitive::<Int64Type>(), c.batch.column(1).as_string::<i32>());
            all.extend((0..c.num_rows()).map(|i| (ids.value(i), names.value(i).to_owned())));
        }
        all.sort();
        all
    }

    #[test]
    fn a_key_is_what_its_last_change_says() {
        let layout = layout();
        let mut fold = Fold::new(&layout).unwrap();
        let first = batch(&layout, &[(2, "zwei"), (9, "new"), (4, "vier")]);
        let changes = [(key(2), Some(0)), (key(9), Some(1)), (key(4), Some(2)), (key(7), None)];
        fold.extend(first, changes.into_iter()).unwrap();
        // Later changes of the same keys: one that goes, one that is something else again.
        fold.delete(key(4));
        fold.delete(key(3));
        fold.extend(batch(&layout, &[(2, "deux")]), [(key(2), Some(0))].into_iter()).unwrap();
        let folded = rows(&fold.apply(chunk(&layout)).unwrap());
        let expected = [(1, "one"), (2, "deux"), (9, "new")].map(|(id, name)| (id, name.to_owned()));
        assert_eq!(folded, expected);
    }

    #[test]
    fn without_changes_a_chunk_is_as_it_was_read() {
        let layout = layout();
        let fold = Fold::new(&layout).unwrap();
        assert!(!fold.is_too_large());
        assert_eq!(rows(&fold.apply(chunk(&layout)).unwrap()).len(), 4);
    }
}
