//! State of one table in memory, keyed by encoded key bytes.
