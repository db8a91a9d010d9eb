//! Staged records: what one call of the encoder appends to a segment, from which messages are sent without a copy of
//! their values.
//!
//! A chunk, all numbers little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | v | the values, one behind another, as the format wrote them |
//! | k | the keys |
//! | h | the headers: per header the name's length (u32) and bytes, the value's length (u32, `NONE` for null) and bytes |
//! | 4 n | per record where its value ends; with the highest bit: it has none |
//! | 4 n | per record where its key ends; with the highest bit: it has none |
//! | 4 n | per record its partition |
//! | 8 n | with `TIMESTAMPS`: per record its timestamp, ms since 1970; `i64::MIN`: none |
//! | 4 n | with `HEADERS`: per record where its headers end |
//! | 20 | v, k, h, n (u32 each), flags, 0, 0, version |

use thalweg_core::{Error, Result};

const VERSION: u8 = 1;
const TIMESTAMPS: u8 = 1;
const HEADERS: u8 = 2;
const TRAILER_BYTES: usize = 20;
/// The highest bit of an end: there is nothing, not even an empty one.
const ABSENT: u32 = 1 << 31;
const NO_TIMESTAMP: i64 = i64::MIN;
const NONE: u32 = u32::MAX;
/// Values, keys or headers of one chunk, each.
pub const SECTION_BYTES_MAX: usize = ABSENT as usize - 1;

/// The sections of a chunk but for the values, while it is being written.
#[derive(Debug, Default)]
pub struct ChunkWriter {
    pub keys: Vec<u8>,
    headers: Vec<u8>,
    value_ends: Vec<u32>,
    key_ends: Vec<u32>,
    partitions: Vec<u32>,
    timestamps: Vec<i64>,
    header_ends: Vec<u32>,
}

/// One record that is appended; its value and key end where their buffers end now.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord {
    /// Where the value ends in the buffer of values; `None`: there is no value.
    pub value_end: Option<usize>,
    /// Where the value before it ended.
    pub value_begin: usize,
    /// Whether there is a key, which ends where `keys` ends.
    pub has_key: bool,
    pub partition: u32,
    pub timestamp: Option<i64>,
}

impl ChunkWriter {
    pub fn clear(&mut self) {
        self.keys.clear();
        self.headers.clear();
        self.value_ends.clear();
        self.key_ends.clear();
        self.partitions.clear();
        self.timestamps.clear();
        self.header_ends.clear();
    }

    pub fn push(&mut self, record: NewRecord) {
        let end = record.value_end.unwrap_or(record.value_begin) as u32;
        self.value_ends.push(if record.value_end.is_some() { end } else { end | ABSENT });
        let key_end = self.keys.len() as u32;
        self.key_ends.push(if record.has_key { key_end } else { key_end | ABSENT });
        self.partitions.push(record.partition);
        self.timestamps.push(record.timestamp.unwrap_or(NO_TIMESTAMP));
        self.header_ends.push(self.headers.len() as u32);
    }

    /// A header of the record that is pushed next.
    pub fn header(&mut self, name: &str, value: Option<&[u8]>) {
        let length = |n: usize| (n as u32).to_le_bytes();
        self.headers.extend(length(name.len()));
        self.headers.extend_from_slice(name.as_bytes());
        match value {
            Some(value) => {
                self.headers.extend(length(value.len()));
                self.headers.extend_from_slice(value);
            }
            None => self.headers.extend(NONE.to_le_bytes()),
        }
    }

    pub fn header_bytes(&self) -> usize {
        self.headers.len()
    }

    /// Appends all sections to the values, which begin at the start of `out`.
    ///
    /// # Errors
    /// More than 2 GiB in one section.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let values = out.len();
        if values.max(self.keys.len()).max(self.headers.len()) > SECTION_BYTES_MAX {
            return Err(Error::row("the encoded rows of one tick's batch take more than 2 GiB"));
        }
        let records = self.value_ends.len();
        let mut flags = 0;
        if self.timestamps.iter().any(|t| *t != NO_TIMESTAMP) {
            flags |= TIMESTAMPS;
        }
        if !self.headers.is_empty() {
            flags |= HEADERS;
        }
        out.reserve(self.keys.len() + self.headers.len() + records * 24 + TRAILER_BYTES);
        out.extend_from_slice(&self.keys);
        out.extend_from_slice(&self.headers);
        for list in [&self.value_ends, &self.key_ends, &self.partitions] {
            out.extend(list.iter().flat_map(|n| n.to_le_bytes()));
        }
        if flags & TIMESTAMPS != 0 {
            out.extend(self.timestamps.iter().flat_map(|n| n.to_le_bytes()));
        }
        if flags & HEADERS != 0 {
            out.extend(self.header_ends.iter().flat_map(|n| n.to_le_bytes()));
        }
        for n in [values, self.keys.len(), self.headers.len(), records] {
            out.extend((n as u32).to_le_bytes());
        }
        out.extend([flags, 0, 0, VERSION]);
        self.clear();
        Ok(())
    }
}

/// A chunk, to be read.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    values: &'a [u8],
    keys: &'a [u8],
    headers: &'a [u8],
    value_ends: &'a [[u8; 4]],
    key_ends: &'a [[u8; 4]],
    partitions: &'a [[u8; 4]],
    timestamps: Option<&'a [[u8; 8]]>,
    header_ends: Option<&'a [[u8; 4]]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub partition: u32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub timestamp: Option<i64>,
    /// To be read with `headers`.
    headers: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// # Errors
    /// It is none, or of a later version.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        Self::parse(bytes).ok_or_else(|| {
            Error::checkpoint("staged output is not what this version of the kafka sink writes")
                .note("deliver it with the version that staged it")
        })
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (rest, trailer) = bytes.split_at_checked(bytes.len().checked_sub(TRAILER_BYTES)?)?;
        let (counts, &[flags, _, _, version]) = trailer.split_last_chunk::<4>()?;
        let (counts, _) = counts.as_chunks::<4>();
        let [values, keys, headers, records] = counts else { return None };
        let [values, keys, headers, records] =
            [values, keys, headers, records].map(|n| u32::from_le_bytes(*n) as usize);
        if version != VERSION || flags & !(TIMESTAMPS | HEADERS) != 0 {
            return None;
        }
        let mut rest = rest;
        let mut take = |n: usize| {
            let (taken, left) = rest.split_at_checked(n)?;
            rest = left;
            Some(taken)
        };
        let (values, keys, headers) = (take(values)?, take(keys)?, take(headers)?);
        let four = records.checked_mul(4)?;
        let (value_ends, key_ends, partitions) = (take(four)?, take(four)?, take(four)?);
        let timestamps = if flags & TIMESTAMPS != 0 { Some(take(records.checked_mul(8)?)?) } else { None };
        let header_ends = if flags & HEADERS != 0 { Some(take(four)?) } else { None };
        if !rest.is_empty() {
            return None;
        }
        let chunk = Chunk {
            values,
            keys,
            headers,
            value_ends: value_ends.as_chunks().0,
            key_ends: key_ends.as_chunks().0,
            partitions: partitions.as_chunks().0,
            timestamps: timestamps.map(|t| t.as_chunks().0),
            header_ends: header_ends.map(|h| h.as_chunks().0),
        };
        let ascend = |ends: &[[u8; 4]], length: usize| {
            let mut before = 0;
            ends.iter().all(|e| {
                let end = u32::from_le_bytes(*e) & !ABSENT;
                let good = end >= before && end as usize <= length;
                before = end;
                good
            })
        };
        let good = ascend(chunk.value_ends, values.len())
            && ascend(chunk.key_ends, keys.len())
            && chunk.header_ends.is_none_or(|h| ascend(h, headers.len()));
        good.then_some(chunk)
    }

    pub fn len(&self) -> usize {
        self.value_ends.len()
    }

    /// No record has a timestamp or headers.
    pub fn is_plain(&self) -> bool {
        self.timestamps.is_none() && self.header_ends.is_none()
    }

    pub fn get(&self, i: usize) -> Record<'a> {
        let range = |ends: &[[u8; 4]]| {
            let end = u32::from_le_bytes(ends[i]);
            let begin = if i == 0 { 0 } else { u32::from_le_bytes(ends[i - 1]) & !ABSENT };
            (begin as usize..(end & !ABSENT) as usize, end & ABSENT == 0)
        };
        let ((value, has_value), (key, has_key)) = (range(self.value_ends), range(self.key_ends));
        let timestamp = self.timestamps.map(|t| i64::from_le_bytes(t[i])).filter(|t| *t != NO_TIMESTAMP);
        Record {
            partition: u32::from_le_bytes(self.partitions[i]),
            key: has_key.then(|| &self.keys[key]),
            value: has_value.then(|| &self.values[value]),
            timestamp,
            headers: self.header_ends.map_or(&[], |h| &self.headers[range(h).0]),
        }
    }
}

impl<'a> Record<'a> {
    /// Name and value of each header; ends early if they are damaged, which the chunk's checksum rules out.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.headers;
        std::iter::from_fn(move || {
            let mut take = |n: usize| {
                let (taken, left) = rest.split_at_checked(n)?;
                rest = left;
                Some(taken)
            };
            let length = |take: &mut dyn FnMut(usize) -> Option<&'a [u8]>| {
                Some(u32::from_le_bytes(*take(4)?.first_chunk::<4>()?))
            };
            let name_length = length(&mut take)?;
            let name = std::str::from_utf8(take(name_length as usize)?).ok()?;
            let value = match length(&mut take)? {
                NONE => None,
                n => Some(take(n as usize)?),
            };
            Some((name, value))
        })
    }

    pub fn has_headers(&self) -> bool {
        !self.headers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Plain = (u32, Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>, Vec<(String, Option<Vec<u8>>)>);

    fn chunk(records: &[Plain]) -> Vec<u8> {
        let (mut out, mut w) = (vec![], ChunkWriter::default());
        for (partition, key, value, timestamp, headers) in records {
            let value_begin = out.len();
            out.extend(value.iter().flatten());
            w.keys.extend(key.iter().flatten());
            for (name, value) in headers {
                w.header(name, value.as_deref());
            }
            w.push(NewRecord {
                value_end: value.as_ref().map(|_| out.len()),
                value_begin,
                has_key: key.is_some(),
                partition: *partition,
                timestamp: *timestamp,
            });
        }
        w.finish(&mut out).unwrap();
        out
    }

    fn read(bytes: &[u8]) -> Vec<Plain> {
        let chunk = Chunk::read(bytes).unwrap();
        let owned = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
        (0..chunk.len())
            .map(|i| {
                let r = chunk.get(i);
                let headers = r.headers().map(|(n, v)| (n.to_owned(), owned(v))).collect();
                (r.partition, owned(r.key), owned(r.value), r.timestamp, headers)
            })
            .collect()
    }

    #[test]
    fn records_come_back_as_they_were() {
        let b = |s: &str| Some(s.as_bytes().to_vec());
        let plain = [
            (0, b("k1"), b("value one"), None, vec![]),
            (3, None, b(""), None, vec![]),
            (1, b(""), None, None, vec![]),
            (2, b("k"), b("v"), None, vec![]),
        ];
        assert_eq!(read(&chunk(&plain)), plain);
        assert!(Chunk::read(&chunk(&plain)).unwrap().is_plain());
        assert_eq!(read(&chunk(&[])), []);
        let full = [
            (0, b("k"), b("v"), Some(-5), vec![("a".to_owned(), b("1")), ("".to_owned(), None)]),
            (0, b("k"), b("v"), None, vec![]),
            (9, None, None, Some(1_700_000_000_000), vec![("b".to_owned(), b(""))]),
        ];
        assert_eq!(read(&chunk(&full)), full);
    }

    /// The bytes are stored: a later version must read them.
    #[test]
    fn the_bytes_are_these() {
        let bytes = chunk(&[(7, Some(b"k".to_vec()), Some(b"ab".to_vec()), None, vec![])]);
        let expected = [
            b"abk".as_slice(),
            &[2, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0],
            &[2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
            &[0, 0, 0, 1],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let good = chunk(&[(0, Some(b"k".to_vec()), Some(b"v".to_vec()), Some(1), vec![("h".to_owned(), None)])]);
        for i in 0..good.len() {
            let _ = Chunk::read(&good[..i]);
            for flip in [1u8, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[i] ^= flip;
                if let Ok(chunk) = Chunk::read(&bad) {
                    (0..chunk.len()).for_each(|i| {
                        let _ = chunk.get(i).headers().count();
                    });
                }
            }
        }
    }
}
