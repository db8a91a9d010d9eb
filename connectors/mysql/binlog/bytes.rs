//! Reading numbers and strings from the bytes of an event, never beyond their end.

use thalweg_core::{Error, Result};

/// The bytes of an event that are not read yet.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    rest: &'a [u8],
    /// Where the whole ends, in the event: for messages.
    end: usize,
}

impl<'a> Bytes<'a> {
    /// `offset`: where in the event `bytes` begins.
    pub fn new(bytes: &'a [u8], offset: usize) -> Self {
        Bytes { rest: bytes, end: offset + bytes.len() }
    }

    /// What is not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes into the event the next byte is.
    pub fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(n) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.too_short(n)),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.too_short(N)),
        }
    }

    #[cold]
    fn too_short(&self, n: usize) -> Error {
        damaged(format!("{n} bytes are to follow at byte {}, the event ends after {}", self.offset(), self.rest.len()))
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|b| b[0])
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub fn u24(&mut self) -> Result<u32> {
        self.array::<3>().map(|b| u32::from_le_bytes([b[0], b[1], b[2], 0]))
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub fn u48(&mut self) -> Result<u64> {
        self.array::<6>().map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], 0, 0]))
    }

    #[inline]
    pub fn u56(&mut self) -> Result<u64> {
        self.array::<7>().map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], 0]))
    }

    #[inline]
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The protocol's length-encoded integer: one byte up to 250, else a marker and 2, 3 or 8 bytes.
    #[inline]
    pub fn packed(&mut self) -> Result<u64> {
        match self.u8()? {
            first @ 0..=250 => Ok(u64::from(first)),
            252 => self.u16().map(u64::from),
            253 => self.u24().map(u64::from),
            254 => self.u64(),
            marker => Err(damaged(format!("{marker} begins no length at byte {}", self.offset() - 1))),
        }
    }

    /// A length-encoded integer that counts bytes or things of at least one byte, which must be there.
    #[inline]
    pub fn packed_length(&mut self) -> Result<usize> {
        let length = self.packed()?;
        match usize::try_from(length) {
            Ok(n) if n <= self.rest.len() => Ok(n),
            _ => Err(self.too_short(usize::try_from(length).unwrap_or(usize::MAX))),
        }
    }

    /// Bytes behind their length-encoded length.
    #[inline]
    pub fn packed_bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.packed_length()?;
        self.take(length)
    }

    /// An unsigned integer of MySQL's serialization library: the number of trailing ones of the first byte is the
    /// number of bytes that follow; the bits above them and the following bytes are the value.
    pub fn varlen(&mut self) -> Result<u64> {
        let first = self.u8()?;
        let following = first.trailing_ones() as usize;
        let mut value = [0; 8];
        value[..following].copy_from_slice(self.take(following)?);
        let value = u64::from_le_bytes(value);
        // Eight bytes follow 0xff; then nothing of the value is in the first byte.
        let bits = 7_usize.saturating_sub(following);
        Ok(value << bits | u64::from(first.checked_shr(following as u32 + 1).unwrap_or(0)))
    }

    /// A signed integer of the same library: the lowest bit is the sign, a negative v stands as -(v + 1).
    pub fn varlen_signed(&mut self) -> Result<i64> {
        let value = self.varlen()?;
        let half = (value >> 1) as i64;
        Ok(if value & 1 == 0 { half } else { -1 - half })
    }
}

/// The error of bytes that are not what they should be.
#[cold]
pub fn damaged(what: impl Into<String>) -> Error {
    Error::row(format!("damaged binlog event: {}", what.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_length_are_read() {
        let read = |bytes: &[u8]| Bytes::new(bytes, 0).packed();
        assert_eq!(read(&[250]).unwrap(), 250);
        assert_eq!(read(&[252, 1, 2]).unwrap(), 0x0201);
        assert_eq!(read(&[253, 1, 2, 3]).unwrap(), 0x030201);
        assert_eq!(read(&[254, 1, 0, 0, 0, 0, 0, 0, 1]).unwrap(), 0x0100_0000_0000_0001);
        for bad in [&[][..], &[251], &[255], &[252, 1], &[254, 1]] {
            assert!(read(bad).is_err());
        }
        assert!(Bytes::new(&[5, 1, 2], 0).packed_bytes().is_err());
    }

    #[test]
    fn variable_length_integers_of_the_serialization_library() {
        for value in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), (1 << 56) - 1, 1 << 56, u64::MAX] {
            let bits = 64 - value.leading_zeros() as usize;
            let bytes = bits.div_ceil(7).max(1);
            let coded = if bytes > 8 {
                [&[0xff][..], &value.to_le_bytes()].concat()
            } else {
                let marked = u128::from(value) << bytes | ((1 << (bytes - 1)) - 1);
                marked.to_le_bytes()[..bytes].to_vec()
            };
            let mut read = Bytes::new(&coded, 0);
            assert_eq!(read.varlen().unwrap(), value, "{coded:?}");
            assert!(read.is_empty());
            assert!(Bytes::new(&coded[..coded.len() - 1], 0).varlen().is_err());
        }
        assert_eq!(Bytes::new(&[0b10], 0).varlen_signed().unwrap(), -1);
        assert_eq!(Bytes::new(&[0b100], 0).varlen_signed().unwrap(), 1);
    }

    #[test]
    fn the_end_is_the_end() {
        let mut bytes = Bytes::new(&[1, 2, 3], 19);
        assert_eq!(bytes.u16().unwrap(), 0x0201);
        let error = bytes.u32().unwrap_err();
        assert!(error.message().contains("4 bytes are to follow at byte 21, the event ends after 1"), "{error}");
        assert_eq!(bytes.u8().unwrap(), 3);
    }
}
