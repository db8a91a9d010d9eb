//! Dates, times and timestamps from text and to text, in Flink's two standards:
//!
//! | standard | TIMESTAMP | TIMESTAMP_LTZ |
//! | --- | --- | --- |
//! | SQL | `2026-01-02 03:04:05.678` | `2026-01-02 03:04:05.678Z` |
//! | ISO-8601 | `2026-01-02T03:04:05.678` | `2026-01-02T03:04:05.678Z` |
//!
//! A fraction may have up to nine digits; those beyond the type's precision are cut off. Where Flink wants a `Z`, an
//! offset such as `+02:00` is read too.

pub const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// The option `timestamp-format.standard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    Sql,
    Iso8601,
}

impl Standard {
    pub fn of(option: &str) -> Self {
        if option == "ISO-8601" { Standard::Iso8601 } else { Standard::Sql }
    }

    fn separator(self) -> u8 {
        match self {
            Standard::Sql => b' ',
            Standard::Iso8601 => b'T',
        }
    }
}

#[inline(always)]
fn two(text: &[u8], at: usize) -> Option<u32> {
    let (a, b) = (text.get(at)?.wrapping_sub(b'0'), text.get(at + 1)?.wrapping_sub(b'0'));
    (a <= 9 && b <= 9).then(|| u32::from(a) * 10 + u32::from(b))
}

/// `2026-01-02`, years beyond four digits with a sign; the rest of the text.
#[inline]
fn date_prefix(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = match text.first()? {
        b'+' | b'-' => {
            let digits = text[1..].iter().take_while(|c| c.is_ascii_digit()).count();
            if !(4..=9).contains(&digits) {
                return None;
            }
            let year = text[1..=digits].iter().fold(0i64, |y, c| y * 10 + i64::from(c - b'0'));
            (if text[0] == b'-' { -year } else { year }, &text[digits + 1..])
        }
        _ => (i64::from(two(text, 0)? * 100 + two(text, 2)?), &text[4..]),
    };
    if rest.len() < 6 || rest[0] != b'-' || rest[3] != b'-' {
        return None;
    }
    let (month, day) = (two(rest, 1)?, two(rest, 4)?);
    if month == 0 || month > 12 || day == 0 || day > days_of(year, month) {
        return None;
    }
    Some((days_from_civil(year, month, day), &rest[6..]))
}

fn days_of(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// H. Hinnant, "chrono-compatible low-level date algorithms".
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = i64::from((month + 9) % 12);
    let doy = (153 * mp + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// `03:04:05.678` (seconds and fraction may be missing) as nanoseconds of the day; the rest of the text.
#[inline]
fn time_prefix(text: &[u8]) -> Option<(i64, &[u8])> {
    let (hour, minute) = (two(text, 0)?, two(text, 3)?);
    if text[2] != b':' || hour > 23 || minute > 59 {
        return None;
    }
    let mut nanos = i64::from(hour * 3600 + minute * 60) * 1_000_000_000;
    let mut rest = &text[5..];
    if rest.first() == Some(&b':') {
        let second = two(rest, 1).filter(|s| *s <= 59)?;
        nanos += i64::from(second) * 1_000_000_000;
        rest = &rest[3..];
        if rest.first() == Some(&b'.') {
            let (mut fraction, mut digits) = (0i64, 0);
            while let Some(d) = rest.get(1 + digits).map(|c| c.wrapping_sub(b'0')).filter(|d| *d <= 9) {
                fraction = fraction * 10 + i64::from(d);
                digits += 1;
                if digits > 9 {
                    return None;
                }
            }
            if digits == 0 {
                return None;
            }
            nanos += fraction * 10i64.pow(9 - digits as u32);
            rest = &rest[1 + digits..];
        }
    }
    Some((nanos, rest))
}

/// Days since 1970-01-01.
pub fn parse_date(text: &[u8]) -> Option<i32> {
    let (days, rest) = date_prefix(text)?;
    if rest.is_empty() { i32::try_from(days).ok() } else { None }
}

/// TIME(precision): µs of the day up to precision 6, else ns.
pub fn parse_time(text: &[u8], precision: u8) -> Option<i64> {
    let (nanos, rest) = time_prefix(text)?;
    if !rest.is_empty() {
        return None;
    }
    let nanos = nanos - nanos % 10i64.pow(9 - u32::from(precision.min(9)));
    Some(if precision <= 6 { nanos / 1000 } else { nanos })
}

/// TIMESTAMP(precision) in ms (precision ≤ 3), µs (≤ 6) or ns; `None` if it is none or beyond what these can hold.
/// With `zoned` a `Z` or an offset must follow.
pub fn parse_timestamp(text: &[u8], precision: u8, standard: Standard, zoned: bool) -> Option<i64> {
    let (days, rest) = date_prefix(text)?;
    if *rest.first()? != standard.separator() {
        return None;
    }
    let (nanos, rest) = time_prefix(&rest[1..])?;
    let offset_seconds = match (zoned, rest) {
        (false, []) => 0,
        (true, b"Z") => 0,
        (true, [sign @ (b'+' | b'-'), offset @ ..]) => {
            let minutes = match offset.len() {
                2 => 0,
                4 => two(offset, 2)?,
                5 if offset[2] == b':' => two(offset, 3)?,
                _ => return None,
            };
            let seconds = i64::from(two(offset, 0).filter(|h| *h <= 18)? * 3600 + minutes * 60);
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let nanos = nanos - nanos % 10i64.pow(9 - u32::from(precision.min(9)));
    let per_unit = nanos_per_unit(precision);
    let per_second = 1_000_000_000 / per_unit;
    days.checked_mul(86_400)?.checked_sub(offset_seconds)?.checked_mul(per_second)?.checked_add(nanos / per_unit)
}

/// Nanoseconds in the unit in which TIMESTAMP(precision) lies in memory.
pub fn nanos_per_unit(precision: u8) -> i64 {
    match precision {
        0..=3 => 1_000_000,
        4..=6 => 1000,
        _ => 1,
    }
}

#[inline(always)]
fn push_two(n: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (n / 10) as u8, b'0' + (n % 10) as u8]);
}

/// Appends a date of days since 1970-01-01.
pub fn write_date(days: i64, out: &mut Vec<u8>) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    if (0..=9999).contains(&year) {
        push_two(year as u32 / 100, out);
        push_two(year as u32 % 100, out);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        out.extend_from_slice(format!("{:04}", year.abs()).as_bytes());
    }
    out.push(b'-');
    push_two(month as u32, out);
    out.push(b'-');
    push_two(day as u32, out);
}

/// Appends a time of day; a fraction only as far as it is not 0.
pub fn write_time(nanos: i64, out: &mut Vec<u8>) {
    let seconds = (nanos / 1_000_000_000) as u32;
    push_two(seconds / 3600, out);
    out.push(b':');
    push_two(seconds / 60 % 60, out);
    out.push(b':');
    push_two(seconds % 60, out);
    let mut fraction = (nanos % 1_000_000_000) as u32;
    if fraction != 0 {
        let mut digits = [0u8; 9];
        for d in digits.iter_mut().rev() {
            *d = b'0' + (fraction % 10) as u8;
            fraction /= 10;
        }
        let used = 9 - digits.iter().rev().take_while(|d| **d == b'0').count();
        out.push(b'.');
        out.extend_from_slice(&digits[..used]);
    }
}

/// Appends a timestamp that lies in the unit of `per_unit` nanoseconds.
pub fn write_timestamp(value: i64, per_unit: i64, standard: Standard, zoned: bool, out: &mut Vec<u8>) {
    let per_day = NANOS_PER_DAY / per_unit;
    write_date(value.div_euclid(per_day), out);
    out.push(standard.separator());
    write_time(value.rem_euclid(per_day) * per_unit, out);
    if zoned {
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_round_over_all_kinds_of_years() {
        for days in (-3_000_000..3_000_000).step_by(97).chain([0, -1, 59, 60, i32::MIN / 4, i32::MAX / 4]) {
            let mut text = vec![];
            write_date(i64::from(days), &mut text);
            assert_eq!(parse_date(&text), Some(days), "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn what_is_no_date_or_time_is_none() {
        for not in [
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "2026-1-1",
            "26-01-01",
            "2026-01-01x",
            "",
            "+1-01-01",
        ] {
            assert_eq!(parse_date(not.as_bytes()), None, "{not}");
        }
        for not in ["24:00:00", "12:60:00", "12:00:60", "1:00:00", "12:00:00.", "12:00:00.1234567891", "12", ""] {
            assert_eq!(parse_time(not.as_bytes(), 3), None, "{not}");
        }
        let ts = |t: &str| parse_timestamp(t.as_bytes(), 3, Standard::Sql, false);
        assert_eq!(ts("2026-01-01T00:00:00"), None);
        assert_eq!(ts("2026-01-01 00:00:00Z"), None);
        assert_eq!(ts("2026-01-01"), None);
    }

    #[test]
    fn fractions_are_cut_to_the_precision_and_units_follow_it() {
        let ts = |p| parse_timestamp(b"1970-01-01 00:00:01.123456789", p, Standard::Sql, false);
        assert_eq!(
            (ts(0), ts(3), ts(5), ts(6), ts(9)),
            (Some(1000), Some(1123), Some(1_123_450), Some(1_123_456), Some(1_123_456_789))
        );
        assert_eq!(parse_time(b"00:00:01.9", 0), Some(1_000_000));
        assert_eq!(parse_time(b"12:30", 9), Some(45_000_000_000_000));
        assert_eq!(parse_timestamp(b"1969-12-31 23:59:59.9", 3, Standard::Sql, false), Some(-100));
    }

    #[test]
    fn zones_are_read_and_ranges_checked() {
        let ltz = |t: &str, p| parse_timestamp(t.as_bytes(), p, Standard::Iso8601, true);
        assert_eq!(ltz("1970-01-01T02:00:00+02:00", 3), Some(0));
        assert_eq!(ltz("1970-01-01T00:00:00Z", 3), Some(0));
        assert_eq!(ltz("1970-01-01T00:00:00-0030", 0), Some(1_800_000));
        assert_eq!(ltz("1970-01-01T00:00:00", 3), None);
        assert_eq!(ltz("2300-01-01T00:00:00Z", 9), None);
        assert!(ltz("9999-12-31T23:59:59.999999Z", 6).is_some());
    }

    #[test]
    fn timestamps_print_as_short_as_they_are() {
        let show = |v, per, standard, zoned| {
            let mut out = vec![];
            write_timestamp(v, per, standard, zoned, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(show(-100, 1_000_000, Standard::Sql, false), "1969-12-31 23:59:59.9");
        assert_eq!(show(0, 1000, Standard::Iso8601, true), "1970-01-01T00:00:00Z");
    }
}
