//! The snapshot of a table: chunks by primary key, each read without a lock while the binlog's stream waits, then brought
//! to one position by what the stream has of its range.
//!
//! For one chunk, let S be the transactions that were routed so far. `chunk` waits until all of S is visible, reads the
//! rows of the range in one statement, and takes the end of the log as the high position H: what the statement saw is
//! before it. Everything behind S up to H is then routed as ever: changes to keys of the finished part are emitted,
//! changes beyond the chunk are dropped (their chunk will be read later), changes within it are put into `fold`. A key
//! that is in the fold is what its last change says; any other is as the statement saw it. So at H the chunk is what the
//! table's range is at H, and it is emitted there, in one piece.

pub mod chunk;
pub mod fold;
pub mod key_order;
