//! Runs that are disturbed by a seed, for `thalweg test`: at which ticks a checkpoint is taken and the attempt is ended.

use thalweg_core::{Error, Result};

use super::Coordinator;
use crate::source::random_slice_rows;

/// Where a disturbed run ends an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kill {
    /// Before the tick begins; those before it are done.
    Before,
    /// While the workers are at it.
    Within,
}

impl Coordinator {
    /// For disturbed runs: whether the attempt ends with the next tick, if rows have come by then: before there is nothing
    /// that could be lost or repeated.
    pub(super) fn kill_due(&self) -> Option<Kill> {
        let disturb = self.options.disturb.as_ref()?;
        if self.kills_left == 0 || self.durable.is_none() {
            return None;
        }
        // Another draw after each kill, or a job without a checkpoint would die at one tick again and again.
        let salt = self.kills_left.wrapping_mul(0x6b69_6c6c);
        self.draws(salt, disturb.kill_one_in).then(|| if self.draws(!salt, 2) { Kill::Before } else { Kill::Within })
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.kills_left -= 1;
        Err(Error::io(crate::instance::KILLED))
    }

    /// For disturbed runs: whether the next tick takes a checkpoint.
    pub(super) fn draws_checkpoint(&self) -> bool {
        let disturb = self.options.disturb.as_ref().filter(|_| self.durable.is_some());
        disturb.is_some_and(|d| self.draws(0x6368_6b70, d.checkpoint_one_in))
    }

    /// One next tick in so many, by the seed.
    fn draws(&self, salt: u64, one_in: u64) -> bool {
        let seed = self.options.disturb.as_ref().map_or(0, |d| d.seed);
        one_in > 0 && random_slice_rows(seed ^ salt, self.next_tick, one_in as usize) == 1
    }
}
