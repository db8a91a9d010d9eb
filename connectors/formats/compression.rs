//! Compressed files: by their ending, or as the option `compression` says.

use std::io::{BufReader, Read};
use std::path::Path;

use thalweg_core::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Values of the option `compression`.
pub const NAMES: &[&str] = &["auto", "none", "gzip", "zstd"];

const BUFFER_BYTES: usize = 1 << 17;

impl Compression {
    /// What a name of `NAMES` means for a file; `auto` goes by the file's ending.
    pub fn of(name: &str, path: &Path) -> Self {
        match name {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            _ => match path.extension().and_then(|e| e.to_str()) {
                Some("gz" | "gzip") => Compression::Gzip,
                Some("zst" | "zstd") => Compression::Zstd,
                _ => Compression::None,
            },
        }
    }

    /// Reads what was compressed; several streams behind one another are read as one.
    pub fn reader(self, from: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>> {
        Ok(match self {
            Compression::None => Box::new(from),
            Compression::Gzip => {
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, from)))
            }
            Compression::Zstd => {
                let from = BufReader::with_capacity(BUFFER_BYTES, from);
                let reader = zstd::stream::read::Decoder::with_buffer(from)
                    .map_err(|e| Error::io(format!("zstd cannot begin: {e}")))?;
                Box::new(reader)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_was_compressed_is_read_back_also_from_several_streams() {
        let gzip = |text: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
            out.write_all(text).unwrap();
            out.finish().unwrap()
        };
        let zstd = |text: &[u8]| zstd::encode_all(text, 0).unwrap();
        for (compression, bytes) in [
            (Compression::None, b"ab".to_vec()),
            (Compression::Gzip, [gzip(b"a"), gzip(b"b")].concat()),
            (Compression::Zstd, [zstd(b"a"), zstd(b"b")].concat()),
        ] {
            let mut text = vec![];
            compression.reader(std::io::Cursor::new(bytes)).unwrap().read_to_end(&mut text).unwrap();
            assert_eq!(text, b"ab", "{compression:?}");
        }
        assert_eq!(Compression::of("auto", Path::new("a/b.json.gz")), Compression::Gzip);
        assert_eq!(Compression::of("auto", Path::new("a/b.json")), Compression::None);
        assert_eq!(Compression::of("zstd", Path::new("a/b.json")), Compression::Zstd);
    }
}
