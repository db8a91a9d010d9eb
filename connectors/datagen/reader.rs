//! Reads splits of the index space: picks the next indices, has every column generated for them.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use thalweg_connector_api::{Piece, Position, RateLimit, Reader, ReaderCx, SourceTable, Split};
use thalweg_core::{Changes, Result};

use crate::generator::Generator;
use crate::options::Plan;
use crate::{SPLITS, position_of, split_id, start_of};

/// Makes the rows of given indices: only the columns that are asked for.
pub struct Generators {
    schema: SchemaRef,
    columns: Vec<Generator>,
    with_order: bool,
    /// How many there are in all; `None`: without end.
    rows: Option<u64>,
    /// Estimated, in memory.
    row_bytes: usize,
}

impl Generators {
    pub fn new(plan: Plan, table: &SourceTable) -> Result<Self> {
        let rows = plan.rows;
        let mut all: Vec<Option<Generator>> = plan.generators.into_iter().map(Some).collect();
        let mut fields = vec![];
        let mut columns = vec![];
        for &ordinal in &table.columns {
            let Some(generator) = all.get_mut(ordinal).and_then(Option::take) else {
                return Err(thalweg_core::Error::internal(format!("table {} has no column {ordinal}", table.def.name)));
            };
            fields.push(table.def.columns[ordinal].column.to_field());
            columns.push(generator);
        }
        if table.with_order {
            fields.push(Field::new("$order", DataType::Int64, false));
        }
        let row_bytes = columns.iter().map(Generator::row_bytes).sum::<usize>() + 8 * usize::from(table.with_order);
        Ok(Generators { schema: Arc::new(Schema::new(fields)), columns, with_order: table.with_order, rows, row_bytes })
    }

    fn fill(&self, indices: &[u64]) -> Result<RecordBatch> {
        let mut columns = self.columns.iter().map(|c| c.fill(indices)).collect::<Result<Vec<ArrayRef>>>()?;
        if self.with_order {
            columns.push(Arc::new(Int64Array::from_iter_values(indices.iter().map(|&i| i as i64))));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// The reader of one worker.
pub struct SplitReader {
    generators: Arc<Generators>,
    rate: Arc<RateLimit>,
    piece_rows_max: usize,
    /// Per split of this worker its next row index.
    next: Vec<u64>,
    indices: Vec<u64>,
    /// Generated, and not to be handed out before.
    held: Option<(Instant, Piece)>,
}

impl SplitReader {
    pub fn new(generators: Arc<Generators>, rate: Arc<RateLimit>, next: Vec<u64>, cx: &ReaderCx) -> Self {
        let by_bytes = (cx.piece_bytes_max / generators.row_bytes.max(1)).max(1);
        let piece_rows_max = rate.piece_rows(cx.piece_rows_max.min(by_bytes));
        SplitReader { generators, rate, piece_rows_max, next, indices: vec![], held: None }
    }

    /// The next piece: all own splits side by side, in the order of indices, as long as they stand at one height;
    /// else the split that is behind.
    fn generate(&mut self) -> Result<Option<Piece>> {
        self.next.sort_unstable();
        let end = self.generators.rows.unwrap_or(u64::MAX);
        let Some(&first) = self.next.first().filter(|n| **n < end) else {
            return Ok(None);
        };
        let row_of = first / SPLITS;
        let level = self.next.iter().take_while(|n| **n / SPLITS == row_of).count();
        // Splits above are joined as soon as the ones behind have reached them.
        let rounds_to_next = self.next.get(level).map_or(u64::MAX, |n| n / SPLITS - row_of);
        let rows_max = self.piece_rows_max;
        self.indices.clear();
        if rows_max < level {
            self.indices.extend(self.next[..rows_max].iter().copied().filter(|i| *i < end));
        } else {
            let rounds = rounds_to_next.min((rows_max / level) as u64).min((end - first).div_ceil(SPLITS));
            let step = SPLITS / level as u64;
            let is_even = step * level as u64 == SPLITS && self.next[..level].windows(2).all(|w| w[1] - w[0] == step);
            if is_even {
                self.indices.extend((0..rounds * level as u64).map(|i| first + i * step));
            } else {
                for round in 0..rounds {
                    self.indices.extend(self.next[..level].iter().map(|n| n + round * SPLITS));
                }
            }
            // Only the last round can be cut short: its first index is below the end.
            self.indices.truncate(self.indices.partition_point(|i| *i < end));
        }
        let batch = self.generators.fill(&self.indices)?;
        // Only the last rounds can be cut short, so every split's last index is among the last `level` ones.
        let mut positions = vec![];
        for next in &mut self.next[..level] {
            let split = *next % SPLITS;
            if let Some(last) = self.indices.iter().rev().take(level).find(|i| **i % SPLITS == split) {
                *next = last + SPLITS;
                positions.push((split_id(split), position_of(*next)));
            }
        }
        let changes = vec![(0, Changes::inserts(batch))];
        Ok(Some(Piece { changes, positions, ..Piece::default() }))
    }
}

#[async_trait]
impl Reader for SplitReader {
    async fn assign(&mut self, splits: Vec<(Split, Option<Position>)>) -> Result<()> {
        for (split, position) in &splits {
            self.next.push(start_of(split, position.as_ref())?);
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Piece>> {
        if self.held.is_none() {
            let Some(piece) = self.generate()? else {
                if self.generators.rows.is_none() {
                    // More workers than splits: this one has nothing to do, but the input goes on.
                    std::future::pending::<()>().await;
                }
                return Ok(None);
            };
            match self.rate.reserve(self.indices.len() as u64) {
                None => return Ok(Some(piece)),
                Some(at) => self.held = Some((at, piece)),
            }
        }
        if let Some((at, _)) = &self.held {
            tokio::time::sleep_until((*at).into()).await;
        }
        Ok(self.held.take().map(|(_, piece)| piece))
    }
}
