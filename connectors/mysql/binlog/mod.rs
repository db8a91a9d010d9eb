//! The binlog: bytes of events → what they say. But for `stream`, which fetches
//! them, nothing in here does I/O or knows of a server; nothing trusts a byte.
//!
//! `event::Event::parse` takes one whole event as the server sends it (without the network packet's leading `00`),
//! verifies its checksum and gives a borrowed view. Damage of any kind is an `Error` that says at which byte of the
//! event it is; the caller adds the file and the position of the event.

pub mod bytes;
pub mod ddl;
pub mod event;
pub mod json;
pub mod payload;
pub mod rows_event;
pub(crate) mod stream;
pub mod table_map;
