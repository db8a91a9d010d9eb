//! Checkpoints as the coordinator makes them: when one is due, its commit beside the stream, and what becomes of one that
//! could not be made.

use std::sync::atomic::Ordering;
use std::time::Duration;

use thalweg_core::clock::now_us;
use thalweg_core::{Error, Result, Tick};
use tokio::time::Instant;

use super::{Coordinator, State};
use crate::command::{CheckpointPart, Command};
use crate::durable::{Commit, Committed};
use crate::metrics::Metrics;
use crate::source::ReaderCommand;

/// After a checkpoint that was given up no other one starts for so long: what is wrong may pass, and the log stays readable.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// A checkpoint whose tick is started.
pub(super) struct Barrier {
    /// Its id within the attempt.
    pub(super) checkpoint: u64,
    pub(super) tick: Tick,
    pub(super) parts: Vec<CheckpointPart>,
    /// The time-out counts from here.
    pub(super) began: Instant,
    pub(super) is_last: bool,
}

impl Coordinator {
    pub(super) fn checkpoint_due(&self, s: &State) -> bool {
        let Some(durable) = &self.durable else { return false };
        let now = Instant::now();
        if s.last_commit.is_some_and(|c| now < c + self.options.checkpoint_min_pause) {
            return false;
        }
        if durable.staged_bytes() > self.options.staged_bytes_max {
            return true;
        }
        s.dirty && self.options.checkpoint_interval.is_some_and(|i| s.last_checkpoint.is_none_or(|c| now >= c + i))
    }

    /// All parts of a checkpoint are there: upload and commit beside the stream.
    pub(super) fn commit(&mut self, barrier: Barrier, s: &mut State) {
        let Some(durable) = self.durable.clone() else { return };
        let stall = barrier.parts.iter().map(|p| p.tick_ended.elapsed()).min().unwrap_or_default();
        self.metrics.checkpoint_stall_us.store(stall.as_micros() as u64, Ordering::Relaxed);
        for part in &barrier.parts {
            for (node, moved) in &part.positions {
                self.positions.entry(*node).or_default().extend(moved.clone());
            }
        }
        let commit = Commit {
            checkpoint: barrier.checkpoint,
            began: barrier.began,
            tick: barrier.tick,
            positions: self.positions.clone(),
            parts: barrier.parts,
        };
        (s.committing_id, s.commit_is_last) = (barrier.checkpoint, barrier.is_last);
        s.committing = Some(tokio::spawn(async move { durable.commit(commit).await }));
    }

    pub(super) fn on_commit(&mut self, result: Result<Result<Committed>, tokio::task::JoinError>, s: &mut State) {
        s.committing = None;
        let result =
            result.unwrap_or_else(|e| Err(Error::internal(format!("the checkpoint task failed: {e}")).transient()));
        match result {
            Ok(committed) => {
                s.pinning = false;
                s.last_commit = Some(Instant::now());
                let took = s.last_checkpoint.map_or(0, |c| c.elapsed().as_millis() as u64);
                self.metrics.checkpoint.store(committed.checkpoint, Ordering::Relaxed);
                self.metrics.checkpoint_ms.store(took, Ordering::Relaxed);
                self.metrics.checkpoint_bytes.store(committed.bytes, Ordering::Relaxed);
                self.metrics.checkpoint_at_ms.store(now_us() / 1000, Ordering::Relaxed);
                tracing::debug!(
                    job = %self.job_name, event = %"checkpoint", checkpoint = committed.checkpoint, ms = took,
                    stall_us = Metrics::load(&self.metrics.checkpoint_stall_us), bytes = committed.bytes,
                    rows_in = Metrics::load(&self.metrics.rows_in)
                );
                self.workers.iter().for_each(|w| w.send(Command::ReleaseSnapshot(s.committing_id)));
                s.not_before = None;
                for source in &self.sources {
                    let positions = self.positions.get(&source.node).cloned().unwrap_or_default();
                    let positions: Vec<_> = positions.into_iter().collect();
                    for reader in &source.readers {
                        let _ = reader.send(ReaderCommand::Committed(positions.clone()));
                    }
                }
                s.ended |= s.commit_is_last;
            }
            Err(e) if e.is_transient() => self.abort_checkpoint(e, s.committing_id, s.commit_is_last, s),
            Err(e) => self.attempt.fail(e),
        }
    }

    /// A checkpoint that could not be made: nothing of it is lost, the next one carries all.
    pub(super) fn abort_checkpoint(&mut self, error: Error, id: u64, is_last: bool, s: &mut State) {
        if s.pinning || self.options.checkpoint_interval.is_none() {
            return self.attempt.fail(error);
        }
        if is_last && s.stop_requested.is_some_and(|at| at.elapsed() >= self.options.checkpoint_timeout) {
            // Whoever asked for the end does not wait for ever. The last checkpoint stands.
            let error = error.context("the final checkpoint could not be taken").permanent();
            return self
                .attempt
                .fail(error.note("what was read since the last one is read again when the same command is run again"));
        }
        tracing::warn!(job = %self.job_name, event = "checkpoint_aborted", "{error}; its output waits for the next one");
        self.workers.iter().for_each(|w| w.send(Command::ReleaseSnapshot(id)));
        s.dirty = true;
        let now = Instant::now();
        (s.last_commit, s.not_before) = (Some(now), Some(now + RETRY_PAUSE));
        if is_last {
            // The final one is tried again with the next tick.
            s.ending = false;
        }
    }
}

/// A part that no checkpoint takes. What goes wrong with its writes the worker's next use of its state tells.
pub(super) fn give_up(part: CheckpointPart) {
    tokio::task::spawn_blocking(move || drop(part.snapshot.give_up()));
}
