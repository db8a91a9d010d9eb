//! Values whose key form always has the same number of bytes.

use arrow::datatypes::i256;

use crate::cells::{Shape, canonical_f32, canonical_f64};

/// A value whose key form always has `N` bytes. Taking the mask here lets the compiler keep it in a register.
pub(super) trait FixedKey<const N: usize>: Copy {
    fn to_key(self, mask: u8) -> [u8; N];
    fn from_key(bytes: [u8; N], mask: u8) -> Self;
}

macro_rules! fixed_key_of_integer {
    ($signed:ty, $unsigned:ty, $bytes:literal) => {
        impl FixedKey<$bytes> for $signed {
            #[inline]
            fn to_key(self, mask: u8) -> [u8; $bytes] {
                let mask = <$unsigned>::from_ne_bytes([mask; $bytes]);
                ((self ^ <$signed>::MIN) as $unsigned ^ mask).to_be_bytes()
            }

            #[inline]
            fn from_key(bytes: [u8; $bytes], mask: u8) -> Self {
                let mask = <$unsigned>::from_ne_bytes([mask; $bytes]);
                (<$unsigned>::from_be_bytes(bytes) ^ mask) as $signed ^ <$signed>::MIN
            }
        }
    };
}

fixed_key_of_integer!(i8, u8, 1);
fixed_key_of_integer!(i16, u16, 2);
fixed_key_of_integer!(i32, u32, 4);
fixed_key_of_integer!(i64, u64, 8);
fixed_key_of_integer!(i128, u128, 16);

/// The low half has no sign to flip.
impl FixedKey<32> for i256 {
    fn to_key(self, mask: u8) -> [u8; 32] {
        let (low, high) = self.to_parts();
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&high.to_key(mask));
        bytes[16..].copy_from_slice(&(low as i128 ^ i128::MIN).to_key(mask));
        bytes
    }

    fn from_key(bytes: [u8; 32], mask: u8) -> Self {
        let (high, low) = bytes.split_at(16);
        let high = i128::from_key(high.try_into().expect("16 bytes"), mask);
        let low = i128::from_key(low.try_into().expect("16 bytes"), mask) ^ i128::MIN;
        i256::from_parts(low as u128, high)
    }
}

macro_rules! fixed_key_of_float {
    ($float:ty, $signed:ty, $canonical:ident, $bytes:literal) => {
        /// The integer that orders as the float does: a negative float's other bits are inverted, so that the greater
        /// magnitude is the lesser number.
        impl FixedKey<$bytes> for $float {
            #[inline]
            fn to_key(self, mask: u8) -> [u8; $bytes] {
                let bits = $canonical(self).to_bits() as $signed;
                (bits ^ ((bits >> (<$signed>::BITS - 1)) & <$signed>::MAX)).to_key(mask)
            }

            #[inline]
            fn from_key(bytes: [u8; $bytes], mask: u8) -> Self {
                let ordered = <$signed>::from_key(bytes, mask);
                <$float>::from_bits((ordered ^ ((ordered >> (<$signed>::BITS - 1)) & <$signed>::MAX)) as _)
            }
        }
    };
}

fixed_key_of_float!(f32, i32, canonical_f32, 4);
fixed_key_of_float!(f64, i64, canonical_f64, 8);

/// `$body` with `$values` for the shapes that hold `FixedKey` values, `$otherwise` for the others.
macro_rules! for_fixed {
    ($shape:expr, $kind:ident, |$values:ident| $body:expr, $otherwise:expr) => {
        match $shape {
            $kind::I8($values) => $body,
            $kind::I16($values) => $body,
            $kind::I32($values) => $body,
            $kind::I64($values) => $body,
            $kind::I128($values) => $body,
            $kind::I256($values) => $body,
            $kind::F32($values) => $body,
            $kind::F64($values) => $body,
            _ => $otherwise,
        }
    };
}

pub(super) fn fixed_width(shape: &Shape) -> Option<usize> {
    match shape {
        Shape::Boolean(_) | Shape::I8(_) => Some(1),
        Shape::I16(_) => Some(2),
        Shape::I32(_) | Shape::F32(_) => Some(4),
        Shape::I64(_) | Shape::F64(_) => Some(8),
        Shape::I128(_) => Some(16),
        Shape::I256(_) => Some(32),
        _ => None,
    }
}

pub(super) use for_fixed;
