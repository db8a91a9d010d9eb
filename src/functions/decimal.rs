//! DECIMAL as unscaled integers: reading, printing, scaling, rounding half up, as Java's `BigDecimal` does.

use arrow::datatypes::{DataType, i256};

/// Digits that 256 bits hold in any case.
pub const DIGITS_MAX: u8 = 76;

/// 10^n for n ≤ 76.
pub fn pow10(n: u32) -> i256 {
    if n <= 38 { i256::from_i128(10_i128.pow(n)) } else { i256::from_i128(10_i128.pow(38)).wrapping_mul(pow10(n - 38)) }
}

/// 10^n for n ≤ 38.
pub fn pow10_128(n: u32) -> i128 {
    10_i128.pow(n)
}

/// `a / b` rounded half away from zero. `b` is not 0.
pub fn div_round(a: i256, b: i256) -> i256 {
    let q = a.wrapping_div(b);
    let r = a.wrapping_rem(b);
    // |r| * 2 >= |b|, without overflow.
    if r.wrapping_abs() >= b.wrapping_abs().wrapping_sub(r.wrapping_abs()) && r != i256::ZERO {
        let negative = a.is_negative() != b.is_negative();
        return q.wrapping_add(if negative { i256::MINUS_ONE } else { i256::ONE });
    }
    q
}

/// As `div_round`, in 128 bits.
pub fn div_round_128(a: i128, b: i128) -> i128 {
    let (q, r) = (a.wrapping_div(b), a.wrapping_rem(b));
    if r != 0 && r.unsigned_abs() >= b.unsigned_abs() - r.unsigned_abs() {
        return q + if (a < 0) != (b < 0) { -1 } else { 1 };
    }
    q
}

/// The value at another scale, rounded half up; `None` if it does not fit.
pub fn rescale(v: i256, from: i8, to: i8) -> Option<i256> {
    let by = i32::from(to) - i32::from(from);
    match by {
        0 => Some(v),
        1..=76 => v.checked_mul(pow10(by as u32)),
        77.. => (v == i256::ZERO).then_some(v),
        -76..=-1 => Some(div_round(v, pow10(-by as u32))),
        _ => Some(i256::ZERO),
    }
}

/// As `rescale`, in 128 bits.
pub fn rescale_128(v: i128, from: i8, to: i8) -> Option<i128> {
    let by = i32::from(to) - i32::from(from);
    match by {
        0 => Some(v),
        1..=38 => v.checked_mul(pow10_128(by as u32)),
        39.. => (v == 0).then_some(v),
        -38..=-1 => Some(div_round_128(v, pow10_128(-by as u32))),
        _ => Some(0),
    }
}

/// Whether it has at most `precision` digits.
pub fn fits(v: i256, precision: u8) -> bool {
    let max = pow10(u32::from(precision.min(DIGITS_MAX)));
    v < max && v > max.wrapping_neg()
}

pub fn fits_128(v: i128, precision: u8) -> bool {
    precision > 38 || v.unsigned_abs() < 10_u128.pow(u32::from(precision))
}

/// Reads `-12.50`, `1e3`, `.5` at a scale, rounded half up; blanks around it are allowed. `None` if it is not a number
/// or has more than 76 digits.
pub fn parse(text: &str, scale: i8) -> Option<i256> {
    let text = text.trim().as_bytes();
    let (negative, text) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let exponent_at = text.iter().position(|b| matches!(b, b'e' | b'E'));
    let (digits, exponent) = match exponent_at {
        None => (text, 0),
        Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i32>().ok()?),
    };
    let point = digits.iter().position(|&b| b == b'.').unwrap_or(digits.len());
    let whole = &digits[..point];
    let fraction = digits.get(point + 1..).unwrap_or(&[]);
    if whole.len() + fraction.len() == 0 || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    // Digits that stay: those up to the last place of the scale; the next one rounds.
    let keep = (whole.len() as i64) + i64::from(exponent) + i64::from(scale);
    let mut v = i256::ZERO;
    let mut small: i128 = 0;
    let mut small_digits = 0;
    let mut taken: i64 = 0;
    let mut round_up = false;
    for &b in whole.iter().chain(fraction) {
        if taken >= keep {
            round_up = taken == keep && b >= b'5';
            break;
        }
        taken += 1;
        if small_digits == 37 {
            v = v.checked_mul(pow10(small_digits))?.checked_add(i256::from_i128(small))?;
            (small, small_digits) = (0, 0);
        }
        small = small * 10 + i128::from(b - b'0');
        small_digits += 1;
    }
    v = v.checked_mul(pow10(small_digits))?.checked_add(i256::from_i128(small))?;
    if keep > taken && v != i256::ZERO {
        v = v.checked_mul(pow10(u32::try_from(keep - taken).ok().filter(|n| *n <= 76)?))?;
    }
    if round_up {
        v = v.checked_add(i256::ONE)?;
    }
    Some(if negative { v.wrapping_neg() } else { v })
}

/// As Java's `toPlainString`: `12.50`, with all digits of the scale.
pub fn write(out: &mut impl std::fmt::Write, v: i256, scale: i8) -> std::fmt::Result {
    match v.to_i128() {
        Some(v) => write_digits(out, v < 0, &v.unsigned_abs().to_string(), scale),
        None => {
            let text = v.to_string();
            write_digits(out, v.is_negative(), text.trim_start_matches('-'), scale)
        }
    }
}

fn write_digits(out: &mut impl std::fmt::Write, negative: bool, digits: &str, scale: i8) -> std::fmt::Result {
    if negative {
        out.write_char('-')?;
    }
    if scale <= 0 {
        out.write_str(digits)?;
        return if digits == "0" { Ok(()) } else { (0..-i32::from(scale)).try_for_each(|_| out.write_char('0')) };
    }
    let scale = scale as usize;
    if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        write!(out, "{whole}.{fraction}")
    } else {
        write!(out, "0.{digits:0>scale$}")
    }
}

/// The nearest double.
pub fn to_f64(v: i256, scale: i8) -> f64 {
    if let Some(small) = v.to_i128()
        && small.unsigned_abs() < 1 << 53
        && (0..=22).contains(&scale)
    {
        // Both are exact, so the quotient is rounded once.
        return small as f64 / 10_f64.powi(i32::from(scale));
    }
    let mut text = String::new();
    // Writing to a String cannot fail, and what is written is a number.
    let _ = write(&mut text, v, scale);
    text.parse().unwrap_or(f64::NAN)
}

/// A double as the decimal of its shortest text, as `BigDecimal.valueOf`; `None` for NaN, infinities, overflow.
pub fn from_f64(v: f64, scale: i8) -> Option<i256> {
    v.is_finite().then(|| parse(&format!("{v:e}"), scale))?
}

/// Precision and scale of a decimal type.
pub fn parts(ty: &DataType) -> Option<(u8, i8)> {
    match ty {
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => Some((*p, *s)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(v: i256, scale: i8) -> String {
        let mut s = String::new();
        write(&mut s, v, scale).unwrap();
        s
    }

    #[test]
    fn texts_are_read_and_rounded_half_up() {
        for (text, scale, is) in [
            ("12.345", 2, "12.35"),
            ("-12.345", 2, "-12.35"),
            ("12.344", 2, "12.34"),
            ("0.5", 0, "1"),
            ("0.05", 0, "0"),
            ("-.5", 1, "-0.5"),
            ("1e3", 2, "1000.00"),
            ("12e-1", 1, "1.2"),
            (" 7 ", 0, "7"),
            ("0", 10, "0.0000000000"),
            (
                "99999999999999999999999999999999999999999999999999999999999999999",
                0,
                "99999999999999999999999999999999999999999999999999999999999999999",
            ),
        ] {
            assert_eq!(shown(parse(text, scale).unwrap(), scale), is, "{text}");
        }
        for bad in ["", "-", ".", "1.2.3", "1e", "x", "1e999999"] {
            assert_eq!(parse(bad, 2), None, "{bad}");
        }
    }

    #[test]
    fn rounding_is_half_away_from_zero() {
        let i = |v: i128| i256::from_i128(v);
        for (a, b, q) in [(5, 2, 3), (-5, 2, -3), (4, 3, 1), (5, 3, 2), (-1, 2, -1), (0, 7, 0), (6, -4, -2)] {
            assert_eq!(div_round(i(a), i(b)), i(q), "{a}/{b}");
            assert_eq!(div_round_128(a, b), q, "{a}/{b}");
        }
        assert_eq!(rescale_128(12_345, 3, 2), Some(1_235));
        assert_eq!(rescale(i(1), 0, 70), Some(pow10(70)));
    }

    #[test]
    fn doubles_go_through_their_shortest_text() {
        assert_eq!(shown(from_f64(0.1, 20).unwrap(), 20), "0.10000000000000000000");
        assert_eq!(from_f64(f64::NAN, 2), None);
        assert_eq!(to_f64(i256::from_i128(125), 2), 1.25);
        assert_eq!(to_f64(parse("12345678901234567890.123", 3).unwrap(), 3), 12_345_678_901_234_567_890.123);
    }
}
