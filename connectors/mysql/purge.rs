//! How long the server still keeps the binlog that was not read yet.

use std::time::Duration;

use thalweg_core::clock::now_us;
use thalweg_core::{Error, Result};
use tokio::time::Instant;

use crate::check;
use crate::server::Server;

/// How often the server is asked.
pub const PURGE_CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Of the time for which the server keeps its binlog, what must be left without a warning.
const PURGE_WARNING_SHARE: f64 = 0.25;

/// Where the stream is in time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Read {
    /// When the last transaction that was read was committed, µs since 1970; 0: none was read.
    pub commit_us: u64,
    /// There was nothing to be read behind it when the server was heard last.
    pub is_idle: bool,
}

impl Read {
    /// Age of the oldest transaction that may wait to be read, in s; `None`: nobody knows.
    fn lag_s(self, now_us: u64) -> Option<u64> {
        match self {
            Read { is_idle: true, .. } => Some(0),
            Read { commit_us: 0, .. } => None,
            Read { commit_us, .. } => Some(now_us.saturating_sub(commit_us) / 1_000_000),
        }
    }
}

/// What is left of the time for which the server keeps its binlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub left_s: u64,
    pub lag_s: u64,
    pub kept_s: u64,
}

impl Left {
    fn new(kept_s: u64, lag_s: u64) -> Self {
        Left { left_s: kept_s.saturating_sub(lag_s), lag_s, kept_s }
    }

    pub fn is_short(self) -> bool {
        (self.left_s as f64) < self.kept_s as f64 * PURGE_WARNING_SHARE
    }
}

/// When the server was asked.
#[derive(Debug, Default)]
pub struct PurgeWatch {
    asked: Option<Instant>,
    /// A transaction had been read by then.
    had_read: bool,
}

impl PurgeWatch {
    pub fn is_due(&self, read: Read) -> bool {
        let again = self.asked.is_none_or(|at| at.elapsed() >= PURGE_CHECK_INTERVAL);
        (again && read.lag_s(0).is_some()) || (!self.had_read && read.commit_us > 0)
    }

    /// Asks the server; `None`: it purges nothing by itself, or cannot be asked now.
    pub async fn ask(&mut self, server: &Server, read: Read) -> Option<Left> {
        (self.asked, self.had_read) = (Some(Instant::now()), read.commit_us > 0);
        let kept_s = kept_s(server).await.ok().flatten()?;
        read.lag_s(now_us() as u64).map(|lag_s| Left::new(kept_s, lag_s))
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
    fn what_was_read_last_says_how_long_the_rest_is_kept() {
        let now = 10 * HOUR * 1_000_000;
        let read = |hours_ago: u64, is_idle| Read { commit_us: now - hours_ago * HOUR * 1_000_000, is_idle };
        let left = |read: Read| read.lag_s(now).map(|lag| Left::new(4 * HOUR, lag));
        assert_eq!(left(read(1, false)), Some(Left { left_s: 3 * HOUR, lag_s: HOUR, kept_s: 4 * HOUR }));
        assert!(!left(read(3, false)).unwrap().is_short(), "a quarter is left");
        assert!(Left::new(4 * HOUR, 3 * HOUR + 1).is_short());
        assert_eq!(left(read(9, false)).unwrap().left_s, 0, "it may be purged at any moment");
        assert_eq!(left(read(9, true)).unwrap().left_s, 4 * HOUR, "nothing waits");
        assert_eq!(left(Read::default()), None, "nothing was read yet");
    }

    #[test]
    fn the_server_is_asked_again_when_the_first_transaction_tells_how_old_the_rest_is() {
        let nothing = Read::default();
        let mut watch = PurgeWatch::default();
        assert!(!watch.is_due(nothing));
        assert!(watch.is_due(Read { is_idle: true, ..nothing }));
        watch.asked = Some(Instant::now());
        assert!(!watch.is_due(Read { is_idle: true, ..nothing }));
        let read = Read { commit_us: 1, is_idle: false };
        assert!(watch.is_due(read));
        watch.had_read = true;
        assert!(!watch.is_due(read));
    }
}
