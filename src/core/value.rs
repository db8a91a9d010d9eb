//! The value codec: columns ↔ bytes, compact, in no order. Ours and frozen.

use arrow::array::ArrayRef;

use crate::error::Result;
use crate::state::KeyBatch;
use crate::types::SqlType;

/// Version of the byte format, stored in manifests.
pub const VALUE_CODEC_VERSION: u32 = 1;

/// Encodes and decodes rows of a fixed list of column types.
#[derive(Debug, Clone)]
pub struct ValueCodec {
    types: Vec<SqlType>,
}

impl ValueCodec {
    pub fn new(types: Vec<SqlType>) -> Self {
        ValueCodec { types }
    }

    /// Appends one value per row to `out`.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize, out: &mut KeyBatch) -> Result<()> {
        let _ = (columns, rows, out, &self.types);
        todo!()
    }

    /// The columns of the given values. Damaged bytes are an error.
    pub fn decode<'a>(&self, values: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Result<Vec<ArrayRef>> {
        let _ = values;
        todo!()
    }
}
