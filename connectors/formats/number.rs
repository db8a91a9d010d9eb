//! Numbers from text and to text, without a detour over strings.

use std::fmt::LowerExp;

use arrow::datatypes::i256;

/// Why a text is not such a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotA {
    /// Not a number at all.
    Number,
    /// A number, outside of the type's range.
    InRange,
}

/// A whole number: digits with an optional sign; also `12.0` and `1e3`, which are whole.
pub fn parse_integer(text: &[u8]) -> Result<i64, NotA> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return Err(NotA::Number);
    }
    if digits.len() <= 18 {
        let mut n = 0i64;
        for &c in digits {
            let d = c.wrapping_sub(b'0');
            if d > 9 {
                return whole_decimal(text);
            }
            n = n * 10 + i64::from(d);
        }
        return Ok(if negative { -n } else { n });
    }
    whole_decimal(text)
}

/// The long way: any decimal text without a fraction.
#[cold]
fn whole_decimal(text: &[u8]) -> Result<i64, NotA> {
    let parts = Parts::of(text).ok_or(NotA::Number)?;
    if parts.has_fraction() {
        return Err(NotA::Number);
    }
    let n = parts.unscaled(0, 38).ok_or(NotA::InRange)?;
    n.to_i128().and_then(|n| i64::try_from(n).ok()).ok_or(NotA::InRange)
}

/// The unscaled value of a DECIMAL(precision, scale) of at most 38 digits; digits beyond the scale are rounded half
/// up (away from zero).
#[inline]
pub fn parse_decimal128(text: &[u8], precision: u8, scale: u8) -> Result<i128, NotA> {
    // At most 18 digits, no exponent, no more fraction than the scale: nearly all there is.
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if rest.len() <= 18 && !rest.is_empty() {
        let (mut n, mut fraction, mut point, mut plain) = (0i64, 0usize, false, true);
        for &c in rest {
            let d = c.wrapping_sub(b'0');
            if d <= 9 {
                n = n * 10 + i64::from(d);
                fraction += usize::from(point);
            } else if c == b'.' && !point && rest.len() > 1 {
                point = true;
            } else {
                plain = false;
                break;
            }
        }
        // 18 digits and 20 zeros fit into 128 bits.
        if plain && fraction <= usize::from(scale) && usize::from(scale) - fraction <= 20 {
            let value = i128::from(n) * POWERS[usize::from(scale) - fraction];
            if value >= POWERS[usize::from(precision)] {
                return Err(NotA::InRange);
            }
            return Ok(if negative { -value } else { value });
        }
    }
    let parts = Parts::of(text).ok_or(NotA::Number)?;
    parts.unscaled(scale, precision).and_then(i256::to_i128).ok_or(NotA::InRange)
}

/// As `parse_decimal128`, for up to 76 digits.
pub fn parse_decimal256(text: &[u8], precision: u8, scale: u8) -> Result<i256, NotA> {
    Parts::of(text).ok_or(NotA::Number)?.unscaled(scale, precision).ok_or(NotA::InRange)
}

/// 10^0 to 10^38.
pub const POWERS: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut i = 1;
    while i < 39 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// A decimal number taken apart: the value is 0.D1 D2 D3 … × 10^point, D1 not 0.
struct Parts<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    point: i64,
}

impl<'a> Parts<'a> {
    fn of(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.iter().position(|c| matches!(c, b'e' | b'E')) {
            None => (rest, 0),
            Some(at) => (&rest[..at], exponent(&rest[at + 1..])?),
        };
        let (integer, fraction) = match mantissa.iter().position(|c| *c == b'.') {
            None => (mantissa, &mantissa[..0]),
            Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        };
        let digits = |d: &[u8]| d.iter().all(u8::is_ascii_digit);
        if integer.len() + fraction.len() == 0 || !digits(integer) || !digits(fraction) {
            return None;
        }
        // Leading zeros go, also over the point.
        let zeros = integer.iter().take_while(|c| **c == b'0').count();
        let integer = &integer[zeros..];
        if !integer.is_empty() {
            return Some(Parts { negative, integer, fraction, point: integer.len() as i64 + exponent });
        }
        let zeros = fraction.iter().take_while(|c| **c == b'0').count();
        Some(Parts { negative, integer, fraction: &fraction[zeros..], point: exponent - zeros as i64 })
    }

    fn digits(&self) -> impl Iterator<Item = u8> + '_ {
        self.integer.iter().chain(self.fraction).map(|c| c - b'0')
    }

    fn has_fraction(&self) -> bool {
        self.digits().enumerate().any(|(i, d)| d != 0 && i as i64 >= self.point)
    }

    /// The value × 10^scale, rounded half up, if it has at most `precision` digits.
    fn unscaled(&self, scale: u8, precision: u8) -> Option<i256> {
        if self.digits().all(|d| d == 0) {
            return Some(i256::ZERO);
        }
        let wanted = self.point.checked_add(i64::from(scale))?;
        if wanted > i64::from(precision) {
            return None;
        }
        let Ok(wanted) = usize::try_from(wanted) else {
            return Some(i256::ZERO);
        };
        let mut digits = self.digits();
        let mut value = i256::ZERO;
        let mut left = wanted;
        while left > 0 {
            let n = left.min(18);
            let chunk = (0..n).fold(0i64, |c, _| c * 10 + i64::from(digits.next().unwrap_or(0)));
            value = value.wrapping_mul(i256::from_i128(POWERS[n])).wrapping_add(i256::from_i128(i128::from(chunk)));
            left -= n;
        }
        if digits.next().is_some_and(|d| d >= 5) {
            value = value.wrapping_add(i256::ONE);
        }
        let limit = i256::from_i128(10).wrapping_pow(u32::from(precision));
        if value >= limit {
            return None;
        }
        Some(if self.negative { value.wrapping_neg() } else { value })
    }
}

fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Beyond a million all are the same: 0 or out of range. Saturating keeps the sums exact.
    let n = digits.iter().fold(0i64, |n, c| (n * 10 + i64::from(c - b'0')).min(1_000_000_000));
    Some(if negative { -n } else { n })
}

/// A FLOAT or DOUBLE. A finite text beyond the range of the type is not in range, as a BIGINT would not be.
pub fn parse_float<T: std::str::FromStr + Into<f64> + Copy>(text: &[u8]) -> Result<T, NotA> {
    let parsed = std::str::from_utf8(text).ok().and_then(|t| t.parse::<T>().ok()).ok_or(NotA::Number)?;
    let value: f64 = parsed.into();
    if value.is_finite() || !text.iter().any(u8::is_ascii_digit) { Ok(parsed) } else { Err(NotA::InRange) }
}

/// Appends a finite FLOAT or DOUBLE in the form of Java's `toString`: `100.0`, `1.0E10`, `1.0E-5`. The digits are those of
/// Java 19 and later: as few as tell the value from its neighbours, but two where one would do.
pub fn write_float<T: ryu::Float + Into<f64> + LowerExp>(value: T, out: &mut Vec<u8>) {
    let magnitude: f64 = value.into().abs();
    // Ryu's form is the same in this range, and it is faster.
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        write_scientific(value, out);
    }
}

#[cold]
fn write_scientific(value: impl LowerExp, out: &mut Vec<u8>) {
    let mut text = format!("{value:e}");
    if !text.contains('.') {
        // The nearest of two digits: 4.9E-324, where 5E-324 would do.
        text = format!("{value:.1e}");
    }
    out.extend(text.bytes().map(|c| if c == b'e' { b'E' } else { c }));
}

/// How decimals are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalForm {
    /// `0.00000001`.
    Plain,
    /// As Java's `BigDecimal.toString`: `1E-8` where the value is below 10^-6.
    Java,
}

/// Appends an unscaled value of DECIMAL(_, scale).
pub fn write_decimal128(value: i128, scale: u8, form: DecimalForm, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    let digits = match u64::try_from(value.unsigned_abs()) {
        Ok(small) => digits.format(small),
        Err(_) => digits.format(value.unsigned_abs()),
    };
    write_digits(value < 0, digits.as_bytes(), scale, form, out);
}

/// Appends an unscaled value of DECIMAL(_, scale).
pub fn write_decimal256(value: i256, scale: u8, form: DecimalForm, out: &mut Vec<u8>) {
    match value.to_i128() {
        Some(small) => write_decimal128(small, scale, form, out),
        None => {
            let text = value.to_string();
            write_digits(value.is_negative(), text.trim_start_matches('-').as_bytes(), scale, form, out);
        }
    }
}

fn write_digits(negative: bool, digits: &[u8], scale: u8, form: DecimalForm, out: &mut Vec<u8>) {
    let scale = usize::from(scale);
    if negative {
        out.push(b'-');
    }
    // The exponent of the first digit; Java writes one below -6 with E.
    if form == DecimalForm::Java && scale > 0 && digits.len() + 6 <= scale {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(b"E-");
        out.extend_from_slice(itoa::Buffer::new().format(scale + 1 - digits.len()).as_bytes());
    } else if scale == 0 {
        out.extend_from_slice(digits);
    } else if digits.len() > scale {
        let (integer, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(integer);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + scale - digits.len(), b'0');
        out.extend_from_slice(digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_at_the_edges() {
        assert_eq!(parse_integer(b"9223372036854775807"), Ok(i64::MAX));
        assert_eq!(parse_integer(b"-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_integer(b"9223372036854775808"), Err(NotA::InRange));
        assert_eq!(parse_integer(b"1e3"), Ok(1000));
        assert_eq!(parse_integer(b"12.00"), Ok(12));
        assert_eq!(parse_integer(b"0.000"), Ok(0));
        for not in ["", "-", "+", "1.5", "x", "1-", "--1", "1e", ".", "1.2.3"] {
            assert_eq!(parse_integer(not.as_bytes()), Err(NotA::Number), "{not}");
        }
    }

    #[test]
    fn decimals_round_half_up_and_overflow_is_an_error() {
        let d = |t: &str, p, s| parse_decimal128(t.as_bytes(), p, s);
        assert_eq!(d("12.345", 10, 2), Ok(1235));
        assert_eq!(d("-12.345", 10, 2), Ok(-1235));
        assert_eq!(d("12.344999999999999999999999", 10, 2), Ok(1234));
        assert_eq!(d("0.005", 3, 2), Ok(1));
        assert_eq!(d("0.0049", 3, 2), Ok(0));
        assert_eq!(d("9.995", 3, 2), Err(NotA::InRange));
        assert_eq!(d("1e400000000000000000000", 38, 0), Err(NotA::InRange));
        assert_eq!(d("0e400000000000000000000", 38, 0), Ok(0));
        assert_eq!(d("1e-400000000000000000000", 38, 0), Ok(0));
        assert_eq!(d("1.5E2", 5, 1), Ok(1500));
        assert_eq!(d("99999999999999999999999999999999999999", 38, 0), Ok(POWERS[38] - 1));
        assert_eq!(d("100000000000000000000000000000000000000", 38, 0), Err(NotA::InRange));
        assert_eq!(d("1000", 3, 0), Err(NotA::InRange));
        assert_eq!(d("1.", 5, 1), Ok(10));
        assert_eq!(d(".5", 5, 1), Ok(5));
        for not in ["", ".", "-", "1..2", "1e", "abc", "1,5"] {
            assert_eq!(d(not, 10, 2), Err(NotA::Number), "{not}");
        }
        let wide = "9".repeat(65);
        assert_eq!(parse_decimal256(wide.as_bytes(), 65, 0).unwrap().to_string(), wide);
        assert_eq!(parse_decimal256(format!("{wide}.5").as_bytes(), 65, 0), Err(NotA::InRange));
    }

    #[test]
    fn decimals_print_plain_or_as_in_java() {
        let show = |v, s, form| {
            let mut out = vec![];
            write_decimal128(v, s, form, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(show(-1230, 2, DecimalForm::Plain), "-12.30");
        assert_eq!(show(5, 2, DecimalForm::Java), "0.05");
        assert_eq!(show(1, 8, DecimalForm::Plain), "0.00000001");
        assert_eq!(show(1, 8, DecimalForm::Java), "1E-8");
        assert_eq!(show(-15, 8, DecimalForm::Java), "-1.5E-7");
        assert_eq!(show(1, 6, DecimalForm::Java), "0.000001");
        assert_eq!(show(0, 10, DecimalForm::Java), "0E-10");
        assert_eq!(show(7, 0, DecimalForm::Java), "7");
    }

    #[test]
    fn floats_print_as_in_java() {
        fn show<T: ryu::Float + Into<f64> + LowerExp>(value: T) -> String {
            let mut out = vec![];
            write_float(value, &mut out);
            String::from_utf8(out).unwrap()
        }
        for (value, java) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (100.0, "100.0"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (-1e10, "-1.0E10"),
            (1.5e10, "1.5E10"),
            (123_456_789.125, "1.23456789125E8"),
            (1e23, "1.0E23"),
            (0.001, "0.001"),
            (0.000_999, "9.99E-4"),
            (1e-5, "1.0E-5"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (f64::from_bits(1), "4.9E-324"),
            (f64::from_bits(2), "9.9E-324"),
            (f64::from_bits(4), "2.0E-323"),
        ] {
            assert_eq!(show(value), java);
        }
        for (value, java) in [
            (0.1f32, "0.1"),
            (16_777_216.0, "1.6777216E7"),
            (1e10, "1.0E10"),
            (1e-3, "0.001"),
            (f32::MAX, "3.4028235E38"),
            (f32::MIN_POSITIVE, "1.1754944E-38"),
            (f32::from_bits(1), "1.4E-45"),
        ] {
            assert_eq!(show(value), java);
        }
    }

    #[test]
    fn floats_know_their_range() {
        assert_eq!(parse_float::<f64>(b"1.5e3"), Ok(1500.0));
        assert_eq!(parse_float::<f64>(b"1e400"), Err(NotA::InRange));
        assert_eq!(parse_float::<f32>(b"1e39"), Err(NotA::InRange));
        assert!(parse_float::<f64>(b"NaN").unwrap().is_nan());
        assert_eq!(parse_float::<f64>(b"-Infinity"), Ok(f64::NEG_INFINITY));
        assert_eq!(parse_float::<f64>(b"x"), Err(NotA::Number));
    }
}
