//! Dates and times as numbers and as text: the proleptic Gregorian calendar, ISO-like texts as Flink reads and prints
//! them, and time zones. Used by casts and by the functions of dates.

use std::fmt::Write;

use arrow::datatypes::TimeUnit;
use chrono::{Offset, TimeZone};
pub use thalweg_core::calendar::{civil_of_days, days_of_civil};
use thalweg_core::{Error, Result};

pub const NANOS_PER_SECOND: i64 = 1_000_000_000;
pub const SECONDS_PER_DAY: i64 = 86_400;
pub const NANOS_PER_DAY: i64 = SECONDS_PER_DAY * NANOS_PER_SECOND;

/// A point in time without a zone: seconds since 1970-01-01 00:00:00 and nanoseconds in the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    pub seconds: i64,
    pub nanos: u32,
}

/// The parts of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub nanos: u32,
}

/// Units of a `TimeUnit` in a second.
pub fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => NANOS_PER_SECOND,
    }
}

impl Instant {
    pub fn new(value: i64, unit: TimeUnit) -> Self {
        let per = per_second(unit);
        let nanos = value.rem_euclid(per) * (NANOS_PER_SECOND / per);
        Instant { seconds: value.div_euclid(per), nanos: nanos as u32 }
    }

    pub fn from_days(days: i32) -> Self {
        Instant { seconds: i64::from(days) * SECONDS_PER_DAY, nanos: 0 }
    }

    /// In a unit; finer parts are cut off. `None` if it is out of the unit's range.
    pub fn to(self, unit: TimeUnit) -> Option<i64> {
        let per = per_second(unit);
        let fraction = i64::from(self.nanos) / (NANOS_PER_SECOND / per);
        // In 128 bits: the seconds alone may be below the range where the sum is not.
        i64::try_from(i128::from(self.seconds) * i128::from(per) + i128::from(fraction)).ok()
    }

    /// Whole days since 1970-01-01.
    pub fn days(self) -> i64 {
        self.seconds.div_euclid(SECONDS_PER_DAY)
    }

    pub fn nanos_of_day(self) -> i64 {
        self.seconds.rem_euclid(SECONDS_PER_DAY) * NANOS_PER_SECOND + i64::from(self.nanos)
    }

    pub fn civil(self) -> Civil {
        let (year, month, day) = civil_of_days(self.days());
        let s = self.seconds.rem_euclid(SECONDS_PER_DAY) as u32;
        Civil { year, month, day, hour: s / 3600, minute: s / 60 % 60, second: s % 60, nanos: self.nanos }
    }

    /// `self + seconds`, `None` on overflow.
    pub fn add_seconds(self, seconds: i64) -> Option<Self> {
        Some(Instant { seconds: self.seconds.checked_add(seconds)?, nanos: self.nanos })
    }

    /// Months later, the day cut to the length of the month.
    pub fn add_months(self, months: i64) -> Option<Self> {
        let mut c = self.civil();
        let m = c.year.checked_mul(12)?.checked_add(i64::from(c.month) - 1)?.checked_add(months)?;
        c.year = m.div_euclid(12);
        c.month = m.rem_euclid(12) as u32 + 1;
        c.day = c.day.min(days_in_month(c.year, c.month));
        c.instant()
    }
}

impl Civil {
    /// `None` if it is further from 1970 than any type reaches.
    pub fn instant(&self) -> Option<Instant> {
        if self.year.abs() > 300_000_000 {
            return None;
        }
        let of_day = i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        Some(Instant {
            seconds: days_of_civil(self.year, self.month, self.day) * SECONDS_PER_DAY + of_day,
            nanos: self.nanos,
        })
    }
}

pub fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// 1 (Monday) to 7 (Sunday).
pub fn iso_day_of_week(days: i64) -> u32 {
    (days + 3).rem_euclid(7) as u32 + 1
}

/// 1 to 366.
pub fn day_of_year(days: i64) -> u32 {
    let (year, ..) = civil_of_days(days);
    (days - days_of_civil(year, 1, 1)) as u32 + 1
}

/// ISO 8601: the year that the week belongs to, and the week, 1 to 53.
pub fn iso_week(days: i64) -> (i64, u32) {
    let thursday = days - i64::from(iso_day_of_week(days)) + 4;
    (civil_of_days(thursday).0, (day_of_year(thursday) - 1) / 7 + 1)
}

// Text ----------------------------------------------------------------------------------------------------------------

/// `2024-02-29`.
pub fn write_date(out: &mut impl Write, days: i64) -> std::fmt::Result {
    let (y, m, d) = civil_of_days(days);
    write_year(out, y)?;
    write!(out, "-{m:02}-{d:02}")
}

fn write_year(out: &mut impl Write, year: i64) -> std::fmt::Result {
    match year {
        0..=9999 => write!(out, "{year:04}"),
        ..0 => write!(out, "-{:04}", -year),
        _ => write!(out, "{year}"),
    }
}

/// `12:34:56.789`, the fraction with `digits` digits.
pub fn write_time(out: &mut impl Write, nanos_of_day: i64, digits: u8) -> std::fmt::Result {
    let s = nanos_of_day / NANOS_PER_SECOND;
    write!(out, "{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)?;
    if digits > 0 {
        let fraction = nanos_of_day % NANOS_PER_SECOND / 10_i64.pow(9 - u32::from(digits.min(9)));
        write!(out, ".{fraction:0width$}", width = usize::from(digits.min(9)))?;
    }
    Ok(())
}

/// `2024-02-29 12:34:56.789`, the fraction with `digits` digits.
pub fn write_timestamp(out: &mut impl Write, at: Instant, digits: u8) -> std::fmt::Result {
    write_date(out, at.days())?;
    out.write_char(' ')?;
    write_time(out, at.nanos_of_day(), digits)
}

/// A reader over the bytes of a text.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        let hit = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(hit);
        hit
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Between `min` and `max` digits.
    fn number(&mut self, min: usize, max: usize) -> Option<u32> {
        let digits = self.bytes[self.at..].iter().take(max).take_while(|b| b.is_ascii_digit()).count();
        if digits < min {
            return None;
        }
        let n = self.bytes[self.at..self.at + digits].iter().fold(0, |n, b| n * 10 + u32::from(b - b'0'));
        self.at += digits;
        Some(n)
    }

    fn date(&mut self) -> Option<i64> {
        let negative = self.eat(b'-');
        let year = i64::from(self.number(1, 9)?);
        let year = if negative { -year } else { year };
        let (mut month, mut day) = (1, 1);
        if self.eat(b'-') {
            month = self.number(1, 2)?;
            if self.eat(b'-') {
                day = self.number(1, 2)?;
            }
        }
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        Some(days_of_civil(year, month, day))
    }

    /// Nanoseconds of the day.
    fn time(&mut self) -> Option<i64> {
        let hour = self.number(1, 2)?;
        let (mut minute, mut second, mut nanos) = (0, 0, 0);
        if self.eat(b':') {
            minute = self.number(1, 2)?;
            if self.eat(b':') {
                second = self.number(1, 2)?;
                if self.eat(b'.') {
                    let from = self.at;
                    let n = self.number(1, 9)?;
                    nanos = i64::from(n) * 10_i64.pow(9 - (self.at - from) as u32);
                    // Digits below the nanosecond are cut off.
                    while self.peek().is_some_and(|b| b.is_ascii_digit()) {
                        self.at += 1;
                    }
                }
            }
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        Some(i64::from(hour * 3600 + minute * 60 + second) * NANOS_PER_SECOND + nanos)
    }

    /// `Z`, `+02`, `+02:00`, `+0200`: seconds east of UTC.
    fn offset(&mut self) -> Option<i64> {
        if self.eat(b'Z') || self.eat(b'z') {
            return Some(0);
        }
        let sign = if self.eat(b'+') {
            1
        } else if self.eat(b'-') {
            -1
        } else {
            return None;
        };
        let hours = self.number(1, 2)?;
        self.eat(b':');
        let minutes = if self.peek().is_some() { self.number(2, 2)? } else { 0 };
        (hours <= 18 && minutes <= 59).then_some(sign * i64::from(hours * 3600 + minutes * 60))
    }

    fn is_end(&self) -> bool {
        self.at == self.bytes.len()
    }
}

fn scan(text: &str) -> Scan<'_> {
    Scan { bytes: text.trim().as_bytes(), at: 0 }
}

/// Days since 1970 of `2024-02-29`, `2024-2-9`, `2024-02`, `2024`; a time behind it is read over.
pub fn parse_date(text: &str) -> Option<i32> {
    let mut s = scan(text);
    let days = s.date()?;
    if !s.is_end() {
        (s.eat(b' ') || s.eat(b'T')).then_some(())?;
        s.time()?;
    }
    if !s.is_end() {
        s.offset()?;
    }
    s.is_end().then(|| i32::try_from(days).ok())?
}

/// Nanoseconds of the day of `12:34:56.789`, `12:34:56`, `12:34`, `12`.
pub fn parse_time(text: &str) -> Option<i64> {
    let mut s = scan(text);
    let nanos = s.time()?;
    s.is_end().then_some(nanos)
}

/// A date, then optionally `T` or a blank and a time.
pub fn parse_timestamp(text: &str) -> Option<Instant> {
    match parse_with_offset(text)? {
        (at, None) => Some(at),
        // A zone in a text for a type without zone: the local time is meant, as in ISO 8601.
        (at, Some(_)) => Some(at),
    }
}

/// As `parse_timestamp`, in UTC or with a zone at the end (`Z`, `+02:00`).
pub fn parse_timestamp_ltz(text: &str) -> Option<Instant> {
    let (at, offset) = parse_with_offset(text)?;
    at.add_seconds(-offset.unwrap_or(0))
}

/// A timestamp as `parse_timestamp` and the offset from UTC in seconds if there is one.
pub fn parse_with_offset(text: &str) -> Option<(Instant, Option<i64>)> {
    let mut s = scan(text);
    let days = s.date()?;
    let mut nanos = 0;
    let mut offset = None;
    if !s.is_end() {
        (s.eat(b' ') || s.eat(b'T')).then_some(())?;
        nanos = s.time()?;
        s.eat(b' ');
        if !s.is_end() {
            offset = Some(s.offset()?);
        }
    }
    s.is_end().then_some(())?;
    let seconds = days * SECONDS_PER_DAY + nanos / NANOS_PER_SECOND;
    Some((Instant { seconds, nanos: (nanos % NANOS_PER_SECOND) as u32 }, offset))
}

// Zones ---------------------------------------------------------------------------------------------------------------

/// A time zone: `UTC`, `Europe/Berlin`, `+02:00`, `GMT+2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Seconds east of UTC.
    Fixed(i64),
    Named(chrono_tz::Tz),
}

impl Zone {
    pub const UTC: Zone = Zone::Fixed(0);

    /// # Errors
    /// A name that the IANA time zone database does not have.
    pub fn parse(name: &str) -> Result<Zone> {
        let trimmed = name.trim();
        let upper = trimmed.to_ascii_uppercase();
        if matches!(upper.as_str(), "UTC" | "Z" | "GMT" | "UT") {
            return Ok(Zone::UTC);
        }
        let offset = upper.strip_prefix("UTC").or_else(|| upper.strip_prefix("GMT")).unwrap_or(&upper);
        if offset.starts_with(['+', '-']) {
            let mut s = scan(offset);
            if let Some(seconds) = s.offset()
                && s.is_end()
            {
                return Ok(Zone::Fixed(seconds));
            }
        }
        let named = trimmed
            .parse()
            .ok()
            .or_else(|| chrono_tz::TZ_VARIANTS.into_iter().find(|tz| tz.name().eq_ignore_ascii_case(trimmed)));
        named.map(Zone::Named).ok_or_else(|| {
            Error::row(format!("'{name}' is not a time zone")).note("use a name such as 'Europe/Berlin' or '+02:00'")
        })
    }

    /// What to add to UTC to get local time, in seconds.
    pub fn offset_at(self, utc: Instant) -> i64 {
        match self {
            Zone::Fixed(seconds) => seconds,
            Zone::Named(tz) => chrono::DateTime::from_timestamp(utc.seconds, 0)
                .map_or(0, |t| i64::from(tz.offset_from_utc_datetime(&t.naive_utc()).fix().local_minus_utc())),
        }
    }

    pub fn to_local(self, utc: Instant) -> Instant {
        Instant { seconds: utc.seconds.saturating_add(self.offset_at(utc)), nanos: utc.nanos }
    }

    /// The instant at which clocks in the zone show `local`: of two (clocks set back) the earlier, in a gap (clocks
    /// set forward) as far behind the gap as the time was in it, as Java does.
    pub fn to_utc(self, local: Instant) -> Instant {
        let offset = match self {
            Zone::Fixed(seconds) => seconds,
            Zone::Named(tz) => match chrono::DateTime::from_timestamp(local.seconds, 0) {
                None => 0,
                Some(t) => match tz.offset_from_local_datetime(&t.naive_utc()) {
                    chrono::LocalResult::Single(o) => i64::from(o.fix().local_minus_utc()),
                    chrono::LocalResult::Ambiguous(a, b) => {
                        i64::from(a.fix().local_minus_utc().max(b.fix().local_minus_utc()))
                    }
                    // The offset before the gap holds.
                    chrono::LocalResult::None => {
                        self.offset_at(Instant { seconds: local.seconds - SECONDS_PER_DAY, nanos: 0 })
                    }
                },
            },
        };
        Instant { seconds: local.seconds.saturating_sub(offset), nanos: local.nanos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(at: Instant, digits: u8) -> String {
        let mut s = String::new();
        write_timestamp(&mut s, at, digits).unwrap();
        s
    }

    #[test]
    fn texts_are_read_and_printed() {
        assert_eq!(text(parse_timestamp("2024-02-29 12:34:56.789").unwrap(), 3), "2024-02-29 12:34:56.789");
        assert_eq!(text(parse_timestamp("2024-02-29T01:02:03").unwrap(), 0), "2024-02-29 01:02:03");
        assert_eq!(text(parse_timestamp("1969-12-31 23:59:59.5").unwrap(), 6), "1969-12-31 23:59:59.500000");
        assert_eq!(text(parse_timestamp_ltz("2024-01-01 00:00:00+02:00").unwrap(), 0), "2023-12-31 22:00:00");
        assert_eq!(parse_date(" 2024-2-9 "), Some(19_762));
        assert_eq!(parse_date("2024"), parse_date("2024-01-01"));
        assert_eq!(parse_time("01:02"), Some(3_720 * NANOS_PER_SECOND));
        for bad in ["", "x", "2024-02-30", "2024-13-01", "2024-01-01 25:00:00", "2024-01-01x"] {
            assert_eq!(parse_timestamp(bad), None, "{bad}");
        }
    }

    #[test]
    fn weeks_are_iso() {
        assert_eq!(iso_week(days_of_civil(2021, 1, 3)), (2020, 53));
        assert_eq!(iso_week(days_of_civil(2024, 12, 30)), (2025, 1));
        assert_eq!(iso_day_of_week(0), 4);
    }

    #[test]
    fn zones_know_summer_and_winter_gaps_and_overlaps() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let at = |s: &str| parse_timestamp(s).unwrap();
        assert_eq!(berlin.to_local(at("2024-07-01 00:00:00")), at("2024-07-01 02:00:00"));
        assert_eq!(berlin.to_utc(at("2024-01-01 01:00:00")), at("2024-01-01 00:00:00"));
        assert_eq!(berlin.to_utc(at("2024-03-31 02:30:00")), at("2024-03-31 01:30:00"));
        assert_eq!(berlin.to_utc(at("2024-10-27 02:30:00")), at("2024-10-27 00:30:00"));
        assert_eq!(Zone::parse("GMT-08:00").unwrap(), Zone::Fixed(-28_800));
        assert!(Zone::parse("Nowhere/City").is_err());
    }

    #[test]
    fn months_are_cut_to_their_length() {
        let at = parse_timestamp("2024-01-31 10:00:00").unwrap();
        assert_eq!(text(at.add_months(1).unwrap(), 0), "2024-02-29 10:00:00");
        assert_eq!(text(at.add_months(-2).unwrap(), 0), "2023-11-30 10:00:00");
    }
}
