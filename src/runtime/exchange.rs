//! Exchange: which worker a row goes to.

use arrow::array::UInt32Array;
use thalweg_core::key_group::{hash_rows, key_group, worker_of};
use thalweg_core::{Changes, Result};
use thalweg_graph::Partitioning;

/// Splits changes by worker, for one edge.
pub struct Router {
    route: Partitioning,
    workers: usize,
    max_parallelism: u16,
    /// Worker of each key group, so that a row needs a look-up and no division.
    worker_of_group: Vec<u32>,
    hashes: Vec<u64>,
    rows_of: Vec<Vec<u32>>,
}

impl Router {
    pub fn new(route: Partitioning, workers: usize, max_parallelism: u16) -> Self {
        let worker_of_group = (0..max_parallelism).map(|g| worker_of(g, max_parallelism, workers) as u32).collect();
        Router { route, workers, max_parallelism, worker_of_group, hashes: vec![], rows_of: vec![vec![]; workers] }
    }

    /// Calls `give(worker, part)` with every part that is not empty.
    pub fn split(&mut self, changes: Changes, mut give: impl FnMut(usize, Changes)) -> Result<()> {
        match &self.route {
            // Key group 0 is always worker 0's.
            Partitioning::One => give(0, changes),
            Partitioning::Broadcast => (0..self.workers).for_each(|w| give(w, changes.clone())),
            Partitioning::Same => unreachable!("such an edge has no exchange"),
            Partitioning::Hash(columns) => {
                let keys: Vec<_> = columns.iter().map(|&c| changes.batch.column(c).clone()).collect();
                hash_rows(&keys, changes.num_rows(), &mut self.hashes)?;
                for (row, &hash) in self.hashes.iter().enumerate() {
                    let worker = self.worker_of_group[usize::from(key_group(hash, self.max_parallelism))];
                    self.rows_of[worker as usize].push(row as u32);
                }
                for worker in 0..self.workers {
                    let rows = std::mem::take(&mut self.rows_of[worker]);
                    if rows.len() == changes.num_rows() {
                        if !rows.is_empty() {
                            give(worker, changes.clone());
                        }
                    } else if !rows.is_empty() {
                        self.rows_of[worker] = Vec::with_capacity(rows.len() + rows.len() / 8);
                        give(worker, changes.take(&UInt32Array::from(rows))?);
                    }
                }
            }
        }
        Ok(())
    }
}
