//! When a tick starts, and how many rows it takes.
//!
//! It starts as soon as there is something, and takes as many rows as it may, unless ticks then take long. State that is
//! read back from disk, a join with many partners or a busy machine make a row cost a thousand times what it costs elsewhere;
//! answers, checkpoints and an orderly stop wait for the ticks in flight.
//!
//! Where rows become fewer on their way (groups, Top-N), every tick gives each answer that it changes. Of a dense stream,
//! most of all of a backlog, the rows of a while are gathered for one tick: fewer answers that nobody sees.

use std::time::Duration;

use tokio::time::Instant;

/// Of the first tick: nothing is known, and after a restore all state is cold.
const FIRST_ROWS: usize = 64 * 1024;
const ROWS_MIN: usize = 4 * 1024;
/// A tick that takes all rows that it may and is done sooner: the next may take twice as many.
const QUICK: Duration = Duration::from_millis(100);
/// A tick that takes longer: the next may take half as many.
const SLOW: Duration = Duration::from_millis(400);
/// A stream becomes dense that brings so many rows in a tick …
const DENSE_ROWS: u64 = 16 * 1024;
/// … and so many a second; it stays so while it brings as many a second.
const DENSE_ROWS_PER_S: f64 = 250_000.0;
/// From the start of one tick of a dense stream to that of the next.
const GATHER: Duration = Duration::from_millis(200);

/// Of one attempt.
#[derive(Debug)]
pub struct Pace {
    rows: usize,
    rows_max: usize,
    /// When the last tick was done: the next one's work began then, if it was started before.
    done: Option<Instant>,
    /// Rows of a dense stream are gathered.
    gathers: bool,
    is_dense: bool,
    /// When the last tick was started.
    started: Option<Instant>,
}

impl Pace {
    /// `rows_max`: per source and worker. `gathers`: fewer ticks give fewer changes.
    pub fn new(rows_max: usize, gathers: bool) -> Self {
        Pace { rows: FIRST_ROWS.min(rows_max), rows_max, done: None, gathers, is_dense: false, started: None }
    }

    /// Until when the next tick waits for more rows, unless there is enough for it or another reason to start it.
    pub fn gathers_until(&self) -> Option<Instant> {
        if self.gathers && self.is_dense { self.started.map(|at| at + GATHER) } else { None }
    }

    /// A tick is started; how long after the one before it.
    pub fn tick_started(&mut self, now: Instant) -> Duration {
        self.started.replace(now).map_or(Duration::MAX, |before| now.duration_since(before))
    }

    /// Rows that a tick takes of a source on a worker, at most.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A tick is done that was to take at most `limit` rows of each source and worker, and took `rows` of all; it was
    /// started `gap` after the one before.
    pub fn tick_done(&mut self, began: Instant, now: Instant, gap: Duration, limit: usize, rows: u64) {
        let from = self.done.map_or(began, |done| done.max(began));
        self.done = Some(now);
        let took = now.duration_since(from);
        if limit == 0 {
            return; // it was for something else than rows
        }
        // A checkpoint's tick comes soon after another, and has few rows of a stream that is as dense as before.
        let is_fast = rows as f64 >= DENSE_ROWS_PER_S * gap.as_secs_f64();
        self.is_dense = is_fast && (self.is_dense || rows >= DENSE_ROWS);
        // By the tick's own limit: those in flight were started with another one.
        if took > SLOW {
            self.rows = self.rows.min(limit / 2).max(ROWS_MIN.min(self.rows_max));
        } else if took < QUICK && rows >= limit as u64 {
            self.rows = self.rows.max(limit.saturating_mul(2)).min(self.rows_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn quick_ticks_grow_to_the_limit_and_slow_ones_shrink() {
        let mut pace = Pace::new(500_000, true);
        let mut now = Instant::now();
        let mut tick = |pace: &mut Pace, took| {
            let began = now;
            now += took;
            let limit = pace.rows();
            pace.tick_done(began, now, took, limit, limit as u64);
            pace.rows()
        };
        assert_eq!(tick(&mut pace, ms(10)), 2 * FIRST_ROWS);
        (0..5).for_each(|_| _ = tick(&mut pace, ms(10)));
        assert_eq!(pace.rows(), 500_000);
        assert_eq!(tick(&mut pace, ms(200)), 500_000, "neither quick nor slow");
        assert_eq!(tick(&mut pace, ms(500)), 250_000);
        (0..20).for_each(|_| _ = tick(&mut pace, ms(500)));
        assert_eq!(pace.rows(), ROWS_MIN);
    }

    #[test]
    fn a_tick_that_waits_behind_others_is_not_slow_and_one_without_rows_not_quick() {
        let mut pace = Pace::new(500_000, true);
        let began = Instant::now();
        for n in 1..10 {
            pace.tick_done(began, began + ms(300 * n), ms(300), FIRST_ROWS, FIRST_ROWS as u64);
        }
        assert_eq!(pace.rows(), FIRST_ROWS, "each took 300 ms");
        let now = began + ms(5000);
        pace.tick_done(now, now + ms(1), ms(1), FIRST_ROWS, 10);
        assert_eq!(pace.rows(), FIRST_ROWS, "it had few rows");
        pace.tick_done(now, now + ms(9000), ms(1), 0, 0);
        assert_eq!(pace.rows(), FIRST_ROWS, "it was not for rows");
    }

    #[test]
    fn a_small_limit_is_kept() {
        let mut pace = Pace::new(8, true);
        let now = Instant::now();
        pace.tick_done(now, now + ms(1), ms(1), 8, 16);
        pace.tick_done(now, now + ms(9000), ms(1), 8, 16);
        assert_eq!(pace.rows(), 8);
    }

    #[test]
    fn rows_of_a_dense_stream_are_gathered_and_others_are_not() {
        let mut pace = Pace::new(500_000, true);
        let mut now = Instant::now();
        let mut tick = |pace: &mut Pace, gap, rows| {
            now += gap;
            let gap = pace.tick_started(now);
            pace.tick_done(now, now + ms(1), gap, 500_000, rows);
            pace.gathers_until().map(|until| until - now)
        };
        assert_eq!(tick(&mut pace, ms(0), 100_000), None, "nothing is known of the first tick");
        assert_eq!(tick(&mut pace, ms(20), 16_000), None, "few rows");
        assert_eq!(tick(&mut pace, ms(20), 20_000), Some(GATHER));
        assert_eq!(tick(&mut pace, ms(200), 60_000), Some(GATHER), "300,000 a second");
        assert_eq!(tick(&mut pace, ms(10), 3_000), Some(GATHER), "so it is here, at a checkpoint");
        assert_eq!(tick(&mut pace, ms(200), 40_000), None, "200,000 a second");
        let mut as_they_come = Pace::new(500_000, false);
        assert_eq!([tick(&mut as_they_come, ms(1), 1), tick(&mut as_they_come, ms(1), 50_000)], [None, None]);
    }
}
