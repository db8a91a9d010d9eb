//! Restart strategies: whether and when a failed instance is started again from its last checkpoint.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// `restart-strategy.type` with its options, by Flink's names.
#[derive(Debug, Clone, PartialEq)]
pub enum RestartStrategy {
    None,
    FixedDelay {
        attempts: u32,
        delay: Duration,
    },
    ExponentialDelay {
        initial_backoff: Duration,
        max_backoff: Duration,
        multiplier: f64,
        /// A run of this length makes the next failure the first one.
        reset_after: Duration,
        /// `None`: without end.
        attempts: Option<u32>,
    },
    FailureRate {
        failures_per_interval: u32,
        interval: Duration,
        delay: Duration,
    },
}

impl Default for RestartStrategy {
    fn default() -> Self {
        RestartStrategy::ExponentialDelay {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            multiplier: 1.5,
            reset_after: Duration::from_secs(600),
            attempts: Some(10),
        }
    }
}

/// Keeps count of an instance's failures.
#[derive(Debug)]
pub struct Restarts {
    strategy: RestartStrategy,
    failures: u32,
    recent: VecDeque<Instant>,
}

impl Restarts {
    pub fn new(strategy: RestartStrategy) -> Self {
        Restarts { strategy, failures: 0, recent: VecDeque::new() }
    }

    /// An attempt that began at `began` failed at `now`: how long to wait before the next; `None`: no further one.
    pub fn next(&mut self, began: Instant, now: Instant) -> Option<Duration> {
        match &self.strategy {
            RestartStrategy::None => None,
            RestartStrategy::FixedDelay { attempts, delay } => {
                self.failures += 1;
                (self.failures <= *attempts).then_some(*delay)
            }
            RestartStrategy::ExponentialDelay { initial_backoff, max_backoff, multiplier, reset_after, attempts } => {
                if now.duration_since(began) >= *reset_after {
                    self.failures = 0;
                }
                self.failures += 1;
                if attempts.is_some_and(|max| self.failures > max) {
                    return None;
                }
                let factor = multiplier.powi(self.failures.min(64) as i32 - 1);
                let backoff = initial_backoff.as_secs_f64() * factor;
                Some(Duration::from_secs_f64(backoff.min(max_backoff.as_secs_f64())))
            }
            RestartStrategy::FailureRate { failures_per_interval, interval, delay } => {
                self.recent.push_back(now);
                while self.recent.front().is_some_and(|t| now.duration_since(*t) > *interval) {
                    self.recent.pop_front();
                }
                (self.recent.len() as u64 <= u64::from(*failures_per_interval)).then_some(*delay)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_delay_grows_to_its_limit_and_resets_after_a_stable_run() {
        let mut r = Restarts::new(RestartStrategy::ExponentialDelay {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(3),
            multiplier: 2.0,
            reset_after: Duration::from_secs(100),
            attempts: Some(3),
        });
        let t = Instant::now();
        let waits: Vec<_> = (0..4).map(|_| r.next(t, t).map(|d| d.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(3), None]);
        assert_eq!(r.next(t, t + Duration::from_secs(100)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn failure_rate_counts_within_its_interval() {
        let mut r = Restarts::new(RestartStrategy::FailureRate {
            failures_per_interval: 2,
            interval: Duration::from_secs(10),
            delay: Duration::ZERO,
        });
        let t = Instant::now();
        assert!(r.next(t, t).is_some());
        assert!(r.next(t, t + Duration::from_secs(1)).is_some());
        assert!(r.next(t, t + Duration::from_secs(2)).is_none());
        assert!(r.next(t, t + Duration::from_secs(60)).is_some());
    }

    #[test]
    fn fixed_delay_gives_up_after_its_attempts() {
        let mut r = Restarts::new(RestartStrategy::FixedDelay { attempts: 1, delay: Duration::from_secs(5) });
        let t = Instant::now();
        assert_eq!(r.next(t, t), Some(Duration::from_secs(5)));
        assert_eq!(r.next(t, t), None);
    }
}
