//! MySQL: snapshot and binlog as a source of changes.
//!
//! Bytes and values: what a table's columns are and mean (`types`, `layout`), the binlog's events (`binlog`), rows into
//! Arrow batches (`rows`), keys, GTID sets and character sets.
//!
//! Servers: the protocol (`wire`), what must hold at the server (`check`), the stream of its binlog (`binlog::stream`), the
//! chunks of a snapshot (`snapshot`), and how both become one reader (`pump`, `router`, `captured`).

pub mod binlog;
mod captured;
pub mod charset;
mod check;
mod connector;
pub mod decimal;
pub mod gtid;
pub mod key;
pub mod layout;
mod options;
mod plan;
mod position;
mod pump;
mod purge;
mod reader;
mod router;
pub mod rows;
mod server;
mod snapshot;
mod source;
pub mod types;
mod wire;

#[cfg(test)]
mod on_server;
#[cfg(test)]
mod testing;

pub use connector::MysqlCdc;
