//! A limit in rows per second over all readers of a source (`rows-per-second`, `scan.rate-limit`).

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How far a reader that fell behind (a slow consumer, a late timer) may catch up.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);
/// Pieces per second at which a limited source aims, so that rows come evenly.
const PIECES_PER_SECOND: f64 = 20.0;

/// Shared by all readers of one opened source. Exact on average: late timers are made up for.
#[derive(Debug)]
pub struct RateLimit {
    rows_per_second: Option<f64>,
    /// When the next row may go out.
    next: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// `None` or 0: no limit.
    pub fn new(rows_per_second: Option<f64>) -> Self {
        RateLimit { rows_per_second: rows_per_second.filter(|r| *r > 0.0), next: Mutex::new(None) }
    }

    /// Books `rows` and says when they may go out; `None`: at once.
    pub fn reserve(&self, rows: u64) -> Option<Instant> {
        let rate = self.rows_per_second?;
        let now = Instant::now();
        let mut next = self.next.lock().expect("nothing panics under this lock");
        let floor = now.checked_sub(CATCH_UP_MAX).unwrap_or(now);
        let at = next.map_or(now, |n| n.max(floor));
        *next = Some(at + Duration::from_secs_f64((rows as f64 / rate).min(1e9)));
        (at > now).then_some(at)
    }

    /// How many rows a piece should hold so that the rows come evenly; at least 1, at most `piece_rows_max`.
    pub fn piece_rows(&self, piece_rows_max: usize) -> usize {
        match self.rows_per_second {
            Some(rate) => ((rate / PIECES_PER_SECOND) as usize).min(piece_rows_max).max(1),
            None => piece_rows_max.max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_exact_on_average() {
        let limit = RateLimit::new(Some(1000.0));
        let start = Instant::now();
        let last = (0..10).filter_map(|_| limit.reserve(100)).last().unwrap();
        let took = last - start;
        assert!((Duration::from_millis(890)..Duration::from_millis(950)).contains(&took), "{took:?}");
    }

    #[test]
    fn no_limit_never_waits_and_small_rates_make_small_pieces() {
        assert_eq!(RateLimit::new(None).reserve(u64::MAX), None);
        assert_eq!(RateLimit::new(Some(0.0)).piece_rows(8192), 8192);
        assert_eq!(RateLimit::new(Some(5.0)).piece_rows(8192), 1);
        assert_eq!(RateLimit::new(Some(2000.0)).piece_rows(8192), 100);
        assert_eq!(RateLimit::new(Some(1e15)).piece_rows(8192), 8192);
    }
}
