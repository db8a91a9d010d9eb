//! The mark: what a target says of how far it was delivered to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Random, made when a job starts for the first time (or with `--fresh`, `--from`); 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub String);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Stored in the target in the same transaction as the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    Absent,
    At {
        job: JobId,
        /// The last segment that the target holds; 0: none yet.
        segment: u64,
    },
}
