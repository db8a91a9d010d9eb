//! State tables over RocksDB: what one worker of one attempt holds on its local disk, and the snapshots that
//! checkpoints are made of.
//!
//! A worker owns a range of key groups and keeps them in one or several **shards**, each a RocksDB of its own with one
//! column family per table. The local files are a cache of the running attempt: no write-ahead log, nothing is kept
//! over a restart; a restart begins from the files of a committed checkpoint. Everything is lazy: without restored
//! state no file and no directory is made before the first write.
//!
//! ```text
//! Budget                    one per process: block cache, memtables, and the count of typed state
//! WorkerState::new(config, Restore { shards, matches })
//!   .table(operator, variant, spec)     → Box<dyn StateTable>, one per table of the graph
//!   .snapshot(n)                        → per shard: files (hard-linked to dir/chk-n), which of them are new, tables
//!   .begin_snapshot(n) … task.run()       the same, while the stream goes on
//!   .release_snapshot(n)                  when they are in the checkpoint storage, or the checkpoint was given up
//! ```

pub mod budget;
mod errors;
mod filter;
mod narrow;
mod options;
mod shard;
pub mod snapshot;
mod split;
mod table;
mod worker;

#[cfg(test)]
mod tests;

pub use budget::{Budget, TypedBytes};
pub use snapshot::{ShardSnapshot, SnapshotFile};
pub use worker::{Backend, Restore, RestoredShard, SnapshotTask, StateConfig, TableSize, WorkerState};
