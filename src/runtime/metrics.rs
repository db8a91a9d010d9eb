//! Counters of an instance that the progress line, logs and `SHOW JOBS` read.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thalweg_connector_api::Status;
use thalweg_core::clock::now_us;

/// A pause between rows of a stream that is not idle.
const IDLE_MS: i64 = 1000;

fn now_ms() -> i64 {
    now_us() / 1000
}

/// Written by workers and coordinator, read by anyone at any time; each figure alone is exact.
#[derive(Debug, Default)]
pub struct Metrics {
    pub rows_in: AtomicU64,
    pub rows_out: AtomicU64,
    /// The last complete tick.
    pub tick: AtomicU64,
    /// From a tick's start to the last worker's word that it is done.
    pub tick_took: Durations,
    /// Of the last rows that came.
    pub lag_ms: AtomicI64,
    /// Milliseconds since 1970 since which there are no rows to be read or worked on, 0: there are.
    pub idle_since_ms: AtomicI64,
    /// The last committed checkpoint, 0: none.
    pub checkpoint: AtomicU64,
    /// Milliseconds since 1970 at which it was committed.
    pub checkpoint_at_ms: AtomicI64,
    /// From its tick to its commit.
    pub checkpoint_ms: AtomicU64,
    /// How long it held up the stream, µs: from the end of its tick's work to the moment at which the next could start.
    pub checkpoint_stall_us: AtomicU64,
    pub checkpoint_bytes: AtomicU64,
    pub state_bytes: AtomicU64,
    pub restarts: AtomicU64,
    /// Output that is committed and not delivered.
    pub pending_bytes: AtomicU64,
    pub ended: AtomicBool,
    /// What the readers tell of themselves.
    pub status: Mutex<Vec<Status>>,
}

impl Metrics {
    /// For one more reader.
    pub fn new_status(&self) -> Status {
        let status = Status::default();
        self.status.lock().unwrap_or_else(PoisonError::into_inner).push(status.clone());
        status
    }

    /// What the readers are busy with, in words: `snapshot orders 62 %`; empty: they read.
    pub fn status(&self) -> String {
        let mut words: Vec<String> =
            self.status.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Status::get).collect();
        words.retain(|w| !w.is_empty());
        words.dedup();
        words.join(", ")
    }

    /// For how many seconds more the servers keep what was not read yet, the one that keeps it for the shortest time;
    /// `None`: for ever, or nobody knows.
    pub fn purged_in_s(&self) -> Option<u64> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Status::purged_in_s).min()
    }

    /// Whether there are no rows to be read or worked on.
    pub fn set_idle(&self, idle: bool) {
        if !idle {
            self.idle_since_ms.store(0, Ordering::Relaxed);
        } else if self.idle_since_ms.load(Ordering::Relaxed) == 0 {
            self.idle_since_ms.store(now_ms(), Ordering::Relaxed);
        }
    }

    /// How old rows are when they come, in ms; 0 if none came for a second, unless a reader says what it waits for.
    pub fn lag(&self) -> i64 {
        let since = self.idle_since_ms.load(Ordering::Relaxed);
        let idle = since > 0 && now_ms() - since >= IDLE_MS && self.status().is_empty();
        if idle { 0 } else { self.lag_ms.load(Ordering::Relaxed) }
    }

    pub fn load(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Every power of two is cut into so many buckets: a figure is at most an eighth too large.
const BUCKETS_PER_DOUBLING: usize = 8;
const BUCKETS: usize = 40 * BUCKETS_PER_DOUBLING;

/// How long something took, how often: counted in buckets of µs, so that any quantile can be told.
#[derive(Debug)]
pub struct Durations {
    buckets: Box<[AtomicU64]>,
}

impl Default for Durations {
    fn default() -> Self {
        Durations { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Durations {
    /// The bucket of a number of µs: its highest bit and the three below it.
    fn bucket(us: u64) -> usize {
        let us = us as usize;
        match us.checked_ilog2() {
            None | Some(0..=2) => us,
            Some(log) => {
                let log = log as usize;
                ((log - 2) * BUCKETS_PER_DOUBLING + (us >> (log - 3)) - BUCKETS_PER_DOUBLING).min(BUCKETS - 1)
            }
        }
    }

    /// The first number of µs of a bucket.
    fn floor_us(bucket: usize) -> u64 {
        let (doubling, step) = (bucket / BUCKETS_PER_DOUBLING, bucket % BUCKETS_PER_DOUBLING);
        if doubling == 0 { step as u64 } else { ((BUCKETS_PER_DOUBLING + step) as u64) << (doubling - 1) }
    }

    pub fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[Self::bucket(us)].fetch_add(1, Ordering::Relaxed);
    }

    /// So many µs it took at most in `share` (0 to 1) of all cases, up to an eighth more; 0 if there were none.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let counts: Vec<u64> = self.buckets.iter().map(Metrics::load).collect();
        let all: u64 = counts.iter().sum();
        let wanted = ((all as f64 * share).ceil() as u64).clamp(1, all.max(1));
        let mut sum = 0;
        let reaches = |n: &u64| {
            sum += n;
            sum >= wanted
        };
        counts.iter().position(reaches).map_or(0, |bucket| Self::floor_us(bucket + 1) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_an_eighth_of_its_numbers_wide() {
        for us in (0..5000).chain([1 << 20, (1 << 30) + 12345, (1 << 42) - 1]) {
            let bucket = Durations::bucket(us);
            let (from, to) = (Durations::floor_us(bucket), Durations::floor_us(bucket + 1));
            assert!(from <= us && us < to, "{us} is not in {from} .. {to}");
            assert!(to - from <= 1 + from / 8, "{from} .. {to}");
        }
        assert_eq!(Durations::bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_source_without_rows_does_not_lag_unless_its_reader_waits() {
        let metrics = Metrics::default();
        metrics.lag_ms.store(70, Ordering::Relaxed);
        metrics.set_idle(true);
        assert_eq!(metrics.lag(), 70, "a short pause");
        metrics.idle_since_ms.fetch_sub(IDLE_MS, Ordering::Relaxed);
        metrics.set_idle(true);
        assert_eq!(metrics.lag(), 0);
        let status = metrics.new_status();
        status.set("waits for kafka");
        assert_eq!(metrics.lag(), 70);
        status.set("");
        metrics.set_idle(false);
        assert_eq!(metrics.lag(), 70);
    }

    #[test]
    fn quantiles_tell_what_most_took() {
        let durations = Durations::default();
        assert_eq!(durations.quantile_us(0.5), 0);
        (0..99).for_each(|_| durations.add(Duration::from_micros(100)));
        durations.add(Duration::from_millis(50));
        assert!((100..113).contains(&durations.quantile_us(0.5)));
        assert!((100..113).contains(&durations.quantile_us(0.99)));
        assert!((50_000..56_300).contains(&durations.quantile_us(1.0)));
    }
}
