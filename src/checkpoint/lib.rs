//! Checkpoints: what is durable of a job, who may write it, and what it means for restore and delivery.
//!
//! The **manifest** is the commit: one numbered log per job, put with create-if-absent. All else (state files, staged
//! output) is written before it and means nothing until a manifest names it. Decisions (what may be deleted, what is to be
//! delivered, what of the stored state fits a new graph) are pure functions over facts already read; I/O is in `storage`.
//!
//! ```text
//! Storage ─ Attempt::first | Attempt::take_over     put the next number: from now on this attempt is the one that writes
//!         ─ put_state_file, segments::stage         parts of the running checkpoint, durable when they return
//!         ─ Attempt::commit(manifest)               the commit
//!         ─ deliver::decide, Owner::record_delivered
//!         ─ Attempt::collect_garbage                retention
//! ```

pub mod attempt;
pub mod deliver;
mod dir_lock;
pub mod fail_points;
pub mod inspect;
pub mod job;
pub mod layout;
pub mod manifest;
pub mod restore;
pub mod retention;
pub mod segments;
pub mod storage;
mod text;

pub use attempt::{Attempt, AttemptId, Owner, Put};
pub use dir_lock::DirLock;
pub use manifest::{Kind, Manifest};
pub use segments::{Segment, SinkLog};
pub use storage::Storage;
