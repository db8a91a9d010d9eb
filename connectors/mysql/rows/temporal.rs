//! Dates and times: the binlog's packed forms, MySQL's text, and numbers since 1970.

use thalweg_core::Result;
use thalweg_core::calendar::{civil_of_days, days_of_civil};

use super::raw::Raw;
use crate::binlog::bytes::{Bytes, damaged};
use crate::key::DateTime;

/// Three bytes, little-endian: 5 bits day, 4 bits month, 15 bits year.
#[inline]
pub fn read_date<'a>(rest: &mut Bytes<'a>) -> Result<Raw<'a>> {
    let v = rest.u24()?;
    Ok(Raw::Date((v >> 9) as u16, (v >> 5 & 15) as u8, (v & 31) as u8))
}

/// Big-endian fraction of 0 to 3 bytes, two digits a byte, as microseconds.
#[inline]
fn fraction(bytes: &[u8]) -> Result<u32> {
    let v = bytes.iter().fold(0, |v, b| v << 8 | u32::from(*b));
    let micros = match bytes.len() {
        0 => 0,
        1 => v.saturating_mul(10_000),
        2 => v.saturating_mul(100),
        _ => v,
    };
    if micros >= 1_000_000 { Err(damaged("a fraction of a second or more")) } else { Ok(micros) }
}

/// Five bytes, big-endian: sign (set), 17 bits year * 13 + month, 5 day, 5 hour, 6 minute, 6 second; the fraction.
#[inline]
pub fn read_datetime<'a>(rest: &mut Bytes<'a>, digits: u8) -> Result<Raw<'a>> {
    let bytes = rest.take(5)?;
    let v = bytes.iter().fold(0_u64, |v, b| v << 8 | u64::from(*b));
    let v = v.checked_sub(1 << 39).ok_or_else(|| damaged("a DATETIME before the year 0"))?;
    let micros = fraction(rest.take(usize::from(digits.div_ceil(2)))?)?;
    let year_month = v >> 22;
    let moment = DateTime {
        year: (year_month / 13) as u16,
        month: (year_month % 13) as u8,
        day: (v >> 17 & 31) as u8,
        hour: (v >> 12 & 31) as u8,
        minute: (v >> 6 & 63) as u8,
        second: (v & 63) as u8,
        micros,
    };
    if moment.hour > 23 || moment.minute > 59 || moment.second > 59 {
        return Err(damaged(format!("the DATETIME {moment}")));
    }
    Ok(Raw::DateTime(moment))
}

/// Four bytes, big-endian: seconds since 1970; the fraction.
#[inline]
pub fn read_timestamp<'a>(rest: &mut Bytes<'a>, digits: u8) -> Result<Raw<'a>> {
    let seconds = i64::from(rest.u32()?.swap_bytes());
    let micros = fraction(rest.take(usize::from(digits.div_ceil(2)))?)?;
    Ok(Raw::Timestamp { seconds, micros })
}

/// Big-endian, seconds and fraction one number, offset by half its range so that negative ones order: 1 bit sign, 1
/// unused, 10 hour, 6 minute, 6 second; the fraction of as many bytes as its digits need. A negative time is the number
/// negated, fraction and all.
#[inline]
pub fn read_time<'a>(rest: &mut Bytes<'a>, digits: u8) -> Result<Raw<'a>> {
    let fraction_bytes = usize::from(digits.div_ceil(2));
    let bytes = rest.take(3 + fraction_bytes)?;
    let bits = 8 * fraction_bytes as u32;
    let v = bytes.iter().fold(0_i64, |v, b| v << 8 | i64::from(*b)) - (0x0080_0000 << bits);
    let (negative, v) = (v < 0, v.abs());
    let whole = v >> bits;
    let fraction = v & ((1 << bits) - 1);
    let micros = match fraction_bytes {
        1 => fraction * 10_000,
        2 => fraction * 100,
        _ => fraction,
    };
    let (hour, minute, second) = (whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63);
    if minute > 59 || second > 59 || micros > 999_999 {
        return Err(damaged(format!("the TIME {hour:02}:{minute:02}:{second:02}.{micros:06}")));
    }
    let micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
    Ok(Raw::Time(if negative { -micros } else { micros }))
}

pub fn days_of(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

/// Days since 1970; `None`: no day of the calendar.
#[inline]
pub fn days(year: u16, month: u8, day: u8) -> Option<i64> {
    if day == 0 || day > days_of(year, month) {
        return None;
    }
    Some(days_of_civil(i64::from(year), u32::from(month), u32::from(day)))
}

/// Microseconds since 1970 of a moment without a zone; `None`: no day of the calendar.
#[inline]
pub fn micros(t: &DateTime) -> Option<i64> {
    let days = days(t.year, t.month, t.day)?;
    let seconds = days * 86_400 + i64::from(t.hour) * 3600 + i64::from(t.minute) * 60 + i64::from(t.second);
    Some(seconds * 1_000_000 + i64::from(t.micros))
}

/// The moment so many seconds and microseconds after 1970, in UTC. The zero value of a TIMESTAMP is that of a DATETIME.
pub fn utc(seconds: i64, micros: u32) -> DateTime {
    if seconds == 0 && micros == 0 {
        return DateTime::default();
    }
    civil(seconds, micros)
}

/// The moment so many seconds and microseconds after 1970.
pub fn civil(seconds: i64, micros: u32) -> DateTime {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_of_days(days);
    DateTime {
        year: year.clamp(0, i64::from(u16::MAX)) as u16,
        month: month as u8,
        day: day as u8,
        hour: (second / 3600) as u8,
        minute: (second / 60 % 60) as u8,
        second: (second % 60) as u8,
        micros,
    }
}

fn two(v: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + v / 10 % 10, b'0' + v % 10]);
}

/// `2024-02-29`.
pub fn write_date(year: u16, month: u8, day: u8, out: &mut Vec<u8>) {
    two((year / 100 % 100) as u8, out);
    two((year % 100) as u8, out);
    out.push(b'-');
    two(month, out);
    out.push(b'-');
    two(day, out);
}

/// `2024-02-29 10:00:00.123`, with as many fractional digits as the type has.
pub fn write_datetime(t: &DateTime, digits: u8, out: &mut Vec<u8>) {
    write_date(t.year, t.month, t.day, out);
    out.push(b' ');
    two(t.hour, out);
    out.push(b':');
    two(t.minute, out);
    out.push(b':');
    two(t.second, out);
    write_fraction(t.micros, digits, out);
}

/// `-838:59:59.000000`.
pub fn write_time(micros: i64, digits: u8, out: &mut Vec<u8>) {
    if micros < 0 {
        out.push(b'-');
    }
    let v = micros.unsigned_abs();
    let (seconds, micros) = (v / 1_000_000, (v % 1_000_000) as u32);
    let hours = seconds / 3600;
    if hours > 99 {
        out.push(b'0' + (hours / 100 % 10) as u8);
    }
    two((hours % 100) as u8, out);
    out.push(b':');
    two((seconds / 60 % 60) as u8, out);
    out.push(b':');
    two((seconds % 60) as u8, out);
    write_fraction(micros, digits, out);
}

fn write_fraction(micros: u32, digits: u8, out: &mut Vec<u8>) {
    if digits > 0 {
        let text = format!(".{micros:06}");
        out.extend_from_slice(&text.as_bytes()[..=usize::from(digits.min(6))]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_back_over_all_of_mysqls_range() {
        let mut seconds = micros(&DateTime { year: 0, month: 1, day: 1, ..DateTime::default() }).unwrap() / 1_000_000;
        let end = micros(&DateTime { year: 9999, month: 12, day: 31, ..DateTime::default() }).unwrap() / 1_000_000;
        let mut checked = 0;
        while seconds <= end {
            let t = civil(seconds, 5);
            assert_eq!(micros(&t), Some(seconds * 1_000_000 + 5), "{t}");
            seconds += 86_400 * 13 + 3_601;
            checked += 1;
        }
        assert!(checked > 200_000);
        assert_eq!(days(1970, 1, 1), Some(0));
        assert_eq!(days(2000, 2, 29), Some(11_016));
        for (y, m, d) in [(0, 0, 0), (2023, 2, 29), (1900, 2, 29), (2024, 13, 1), (2024, 4, 31), (2024, 1, 0)] {
            assert_eq!(days(y, m, d), None, "{y}-{m}-{d}");
        }
    }

    #[test]
    fn negative_times_with_fractions() {
        // From the server's description: -00:00:00.01 is 7FFFFF FF, -00:00:01.10 is 7FFFFE F6.
        for (bytes, digits, expected) in [
            (&[0x80, 0, 0, 0][..], 2, 0),
            (&[0x7f, 0xff, 0xff, 0xff], 2, -10_000),
            (&[0x7f, 0xff, 0xfe, 0xf6], 2, -1_100_000),
            (&[0x7f, 0xff, 0xff], 0, -1_000_000),
            (&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff], 6, -1),
            (&[0x80, 0, 1, 0, 0, 1], 6, 1_000_001),
        ] {
            let read = read_time(&mut Bytes::new(bytes, 0), digits).unwrap();
            assert_eq!(read, Raw::Time(expected), "{bytes:x?}");
        }
    }

    #[test]
    fn texts_are_mysqls() {
        let time = |v, digits| {
            let mut out = vec![];
            write_time(v, digits, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(time(-3_020_399_000_000, 0), "-838:59:59");
        assert_eq!(time(1_500_000, 3), "00:00:01.500");
        assert_eq!(time(-1, 6), "-00:00:00.000001");
    }
}
