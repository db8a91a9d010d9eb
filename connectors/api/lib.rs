//! What a connector is: the traits that sources, sinks and formats implement, and the registry that names them.
//!
//! A connector is a crate of its own that sees `thalweg-core` and this crate (and `thalweg-formats`), nothing else.

pub mod conformance;
pub mod format;
pub mod rate;
pub mod registry;
pub mod sink;
pub mod source;

pub use format::{Decoder, Format, RecordEnd, RowEncoder};
pub use rate::RateLimit;
pub use registry::{Connector, Registry, options_of};
pub use sink::{DirectWriter, EncodeCx, Encoder, Segment, Sink};
pub use source::{Piece, Position, Reader, ReaderCx, Source, SourceTable, Split, SplitId, Status};
