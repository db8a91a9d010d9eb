//! DECIMAL in the binlog and as text → one integer of the column's scale, and back to text.
//!
//! The binlog's form: nine digits take four bytes, fewer take fewer; digits before and after the point are packed for
//! themselves, so that only the outermost groups are short; the first bit is inverted, and so are all bits of negative
//! values.

use arrow::datatypes::i256;

/// Digits that an `i128` holds.
pub const DIGITS_MAX_128: u8 = 38;

/// Bytes of a group of so many digits.
const GROUP_BYTES: [u8; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

const POWERS_U32: [u32; 10] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// Bytes that a DECIMAL(precision, scale) takes in the binlog; scale ≤ precision.
pub fn binary_bytes(precision: u8, scale: u8) -> usize {
    let part = |digits: u8| usize::from(digits / 9 * 4 + GROUP_BYTES[usize::from(digits % 9)]);
    part(precision - scale) + part(scale)
}

/// A number that digits are appended to.
pub trait Digits: Copy {
    fn zero() -> Self;
    /// self * 10^digits + group; digits ≤ 9. Wraps where the type is too small.
    fn append(self, group: u32, digits: u8) -> Self;
    fn negated(self) -> Self;
}

impl Digits for i128 {
    fn zero() -> Self {
        0
    }

    #[inline]
    fn append(self, group: u32, digits: u8) -> Self {
        self.wrapping_mul(i128::from(POWERS_U32[usize::from(digits)])).wrapping_add(i128::from(group))
    }

    fn negated(self) -> Self {
        self.wrapping_neg()
    }
}

impl Digits for i256 {
    fn zero() -> Self {
        i256::ZERO
    }

    fn append(self, group: u32, digits: u8) -> Self {
        let power = i256::from_i128(i128::from(POWERS_U32[usize::from(digits)]));
        self.wrapping_mul(power).wrapping_add(i256::from_i128(i128::from(group)))
    }

    fn negated(self) -> Self {
        self.wrapping_neg()
    }
}

/// The unscaled value of `bytes`, which are `binary_bytes(precision, scale)`; `None` if a group holds more than its
/// digits. `i128` needs precision ≤ 38, `i256` takes all.
#[inline]
pub fn from_binary<D: Digits>(bytes: &[u8], precision: u8, scale: u8) -> Option<D> {
    let (&first, _) = bytes.split_first()?;
    let negative = first & 0x80 == 0;
    let flip = if negative { 0xff } else { 0 };
    let (mut value, mut at) = (D::zero(), 0);
    let mut group = |digits: u8| {
        let length = usize::from(GROUP_BYTES[usize::from(digits)]);
        let mut number = 0_u32;
        for (i, &byte) in bytes.get(at..at + length)?.iter().enumerate() {
            let sign_bit = if at + i == 0 { 0x80 } else { 0 };
            number = number << 8 | u32::from((byte ^ sign_bit) ^ flip);
        }
        at += length;
        if number >= POWERS_U32[usize::from(digits)] {
            return None;
        }
        value = value.append(number, digits);
        Some(())
    };
    let before = precision - scale;
    if !before.is_multiple_of(9) {
        group(before % 9)?;
    }
    for _ in 0..before / 9 + scale / 9 {
        group(9)?;
    }
    if !scale.is_multiple_of(9) {
        group(scale % 9)?;
    }
    Some(if negative { value.negated() } else { value })
}

/// The unscaled value of a text such as `-12.30` in the given scale; `None` if it is no such text or has more digits
/// behind the point.
pub fn from_text<D: Digits>(text: &[u8], scale: u8) -> Option<D> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    let point = digits.iter().position(|b| *b == b'.').unwrap_or(digits.len());
    let after = digits.get(point + 1..).unwrap_or_default();
    if after.len() > usize::from(scale) || digits.len() > 100 || (point == 0 && after.is_empty()) {
        return None;
    }
    let mut value = D::zero();
    for digit in digits[..point].iter().chain(after) {
        value = value.append(char::from(*digit).to_digit(10)?, 1);
    }
    for _ in after.len()..usize::from(scale) {
        value = value.append(0, 1);
    }
    Some(if negative { value.negated() } else { value })
}

/// Appends an unscaled value, given as its decimal digits with sign, with the point at the scale: as MySQL prints it.
pub fn write_scaled(unscaled: &str, scale: u8, out: &mut Vec<u8>) {
    let scale = usize::from(scale);
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => (&b"-"[..], digits),
        None => (&b""[..], unscaled),
    };
    out.extend_from_slice(sign);
    if scale == 0 {
        out.extend_from_slice(digits.as_bytes());
        return;
    }
    let before = digits.len().saturating_sub(scale);
    out.extend_from_slice(if before == 0 { b"0" } else { &digits.as_bytes()[..before] });
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', scale.saturating_sub(digits.len())));
    out.extend_from_slice(&digits.as_bytes()[before..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The binlog's form, written down from its description.
    fn to_binary(text: &str, precision: u8, scale: u8) -> Vec<u8> {
        let negative = text.starts_with('-');
        let (before, after) =
            text.trim_start_matches('-').split_once('.').unwrap_or((text.trim_start_matches('-'), ""));
        let before = format!("{before:0>width$}", width = usize::from(precision - scale));
        let before = &before[before.len() - usize::from(precision - scale)..];
        let after = format!("{after:0<width$}", width = usize::from(scale));
        let mut bytes = vec![];
        let mut put = |digits: &str| {
            let length = usize::from(GROUP_BYTES[digits.len()]);
            let number: u32 = digits.parse().unwrap_or(0);
            bytes.extend_from_slice(&number.to_be_bytes()[4 - length..]);
        };
        let short = before.len() % 9;
        put(&before[..short]);
        (short..before.len()).step_by(9).for_each(|i| put(&before[i..i + 9]));
        (0..after.len()).step_by(9).for_each(|i| put(&after[i..after.len().min(i + 9)]));
        bytes[0] ^= 0x80;
        if negative {
            bytes.iter_mut().for_each(|b| *b = !*b);
        }
        bytes
    }

    #[test]
    fn text_and_binary_give_the_same_number_and_text_again() {
        let cases = [
            ("0", 1, 0),
            ("0.00", 10, 2),
            ("1234567890.1234", 14, 4),
            ("-1234567890.1234", 14, 4),
            ("-0.000000001", 20, 9),
            ("0.1", 1, 1),
            ("-9", 1, 0),
            ("99999999999999999999999999999999999999", 38, 0),
            ("-12345678901234567890123456789012345.678901234567890123456789012345", 65, 30),
            ("99999999999999999999999999999999999999999999999999999999999999999", 65, 0),
            ("-0.999999999999999999999999999999", 30, 30),
        ];
        for (text, precision, scale) in cases {
            let bytes = to_binary(text, precision, scale);
            assert_eq!(bytes.len(), binary_bytes(precision, scale), "{text}");
            let wide: i256 = from_binary(&bytes, precision, scale).unwrap();
            assert_eq!(from_text::<i256>(text.as_bytes(), scale).unwrap(), wide, "{text}");
            let mut printed = vec![];
            write_scaled(&wide.to_string(), scale, &mut printed);
            assert_eq!(String::from_utf8(printed).unwrap(), text);
            if precision <= DIGITS_MAX_128 {
                let narrow: i128 = from_binary(&bytes, precision, scale).unwrap();
                assert_eq!(i256::from_i128(narrow), wide, "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_decimal_is_none() {
        for text in ["", "-", ".", "1.234", "1e5", "a", "--1", "1.2.3"] {
            assert_eq!(from_text::<i128>(text.as_bytes(), 2), None, "{text}");
        }
        // Four bytes that hold more than nine digits, and too few bytes.
        assert_eq!(from_binary::<i128>(&[0xff, 0xff, 0xff, 0xff], 9, 0), None);
        assert_eq!(from_binary::<i128>(&[0x80], 9, 0), None);
        assert_eq!(from_binary::<i128>(&[], 9, 0), None);
    }
}
