//! How long the server still keeps the binlog that was not read yet.

use std::time::Duration;

use thalweg_core::{Error, Result};
use tokio::time::Instant;

use crate::check;
use crate::server::Server;

/// How often the server is asked.
pub const PURGE_CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// How long it may take to answer: reading waits for it.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Of the time for which the server keeps its binlog, what must be left without a warning.
const PURGE_WARNING_SHARE: f64 = 0.25;

/// What is left of the time for which the server keeps its binlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub left_s: u64,
    pub lag_s: u64,
    pub kept_s: u64,
}

impl Left {
    pub fn is_short(self) -> bool {
        (self.left_s as f64) < self.kept_s as f64 * PURGE_WARNING_SHARE
    }
}

/// What is known of the time for which the server keeps its binlog, and of how far it was read.
#[derive(Debug, Default)]
pub struct PurgeWatch {
    /// Everything that was committed before was read, µs since 1970; 0: nobody knows.
    read_until_us: u64,
    asked: Option<Instant>,
    kept_s: Option<u64>,
}

impl PurgeWatch {
    /// A transaction that was committed then was read, or the server had nothing more to send.
    pub fn read_until(&mut self, us: u64) {
        self.read_until_us = self.read_until_us.max(us);
    }

    pub fn is_due(&self) -> bool {
        self.read_until_us > 0 && self.asked.is_none_or(|at| at.elapsed() >= PURGE_CHECK_INTERVAL)
    }

    /// Asks the server. One that does not answer keeps its binlog for as long as it said last.
    pub async fn ask(&mut self, server: &Server) {
        self.asked = Some(Instant::now());
        if let Ok(Ok(kept_s)) = tokio::time::timeout(ANSWER_WAIT, kept_s(server)).await {
            self.kept_s = kept_s;
        }
    }

    /// `None`: the server purges nothing by itself, or nothing is known yet.
    pub fn left(&self, now_us: u64) -> Option<Left> {
        let kept_s = self.kept_s?;
        let lag_s = (self.read_until_us > 0).then(|| now_us.saturating_sub(self.read_until_us) / 1_000_000)?;
        Some(Left { left_s: kept_s.saturating_sub(lag_s), lag_s, kept_s })
    }
}

/// For how long the server keeps a file of its binlog; `None`: until somebody purges it.
async fn kept_s(server: &Server) -> Result<Option<u64>> {
    let mut conn = server.connect().await?;
    let names = ["binlog_expire_logs_seconds", "binlog_expire_logs_auto_purge"];
    let found = check::variables(server, &mut conn, &names).await?;
    conn.close().await;
    if found.get(names[1]).is_some_and(|v| v == "OFF" || v == "0") {
        return Ok(None);
    }
    let kept = found.get(names[0]).map_or(Ok(0), |v| v.parse::<u64>());
    Ok(Some(kept.map_err(|e| Error::io(format!("binlog_expire_logs_seconds: {e}")))?).filter(|s| *s > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    #[test]
    fn what_was_read_says_how_long_the_rest_is_kept() {
        let now = 10 * HOUR * 1_000_000;
        let left = |hours_ago: u64| {
            let read_until_us = now - hours_ago * HOUR * 1_000_000;
            PurgeWatch { read_until_us, asked: None, kept_s: Some(4 * HOUR) }.left(now)
        };
        assert_eq!(left(1), Some(Left { left_s: 3 * HOUR, lag_s: HOUR, kept_s: 4 * HOUR }));
        assert!(!left(3).unwrap().is_short(), "a quarter is left");
        assert!(left(4).unwrap().is_short());
        assert_eq!(left(9).unwrap().left_s, 0, "it may be purged at any moment");
        assert_eq!(left(10), None, "nothing was read yet");
        assert_eq!(PurgeWatch { read_until_us: 1, ..PurgeWatch::default() }.left(now), None, "it purges nothing");
    }

    #[test]
    fn the_server_is_asked_when_something_was_read_and_then_now_and_then() {
        let mut watch = PurgeWatch::default();
        assert!(!watch.is_due());
        watch.read_until(7);
        watch.read_until(3);
        assert_eq!(watch.read_until_us, 7, "it never goes back");
        assert!(watch.is_due());
        watch.asked = Some(Instant::now());
        assert!(!watch.is_due());
    }
}
