//! Patterns of dates and times as Java writes them: `yyyy-MM-dd HH:mm:ss.SSS`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::rc::Rc;

use thalweg_core::{Error, Result};

use crate::calendar::{self, Civil, Instant, Zone};

/// Compiled patterns that a thread keeps.
const PATTERNS_MAX: usize = 64;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A compiled pattern.
#[derive(Debug)]
pub struct Pattern(Vec<Item>);

#[derive(Debug)]
enum Item {
    Literal(String),
    /// A letter and how often it stands.
    Field(char, usize),
}

/// A compiled pattern, kept by the thread.
///
/// # Errors
/// A letter that has no meaning, a quote without end.
pub fn pattern(text: &str) -> Result<Rc<Pattern>> {
    thread_local! {
        static PATTERNS: RefCell<HashMap<String, Rc<Pattern>>> = RefCell::default();
    }
    PATTERNS.with_borrow_mut(|patterns| {
        if let Some(p) = patterns.get(text) {
            return Ok(p.clone());
        }
        let compiled = Rc::new(Pattern::parse(text)?);
        if patterns.len() >= PATTERNS_MAX {
            patterns.clear();
        }
        patterns.insert(text.to_owned(), compiled.clone());
        Ok(compiled)
    })
}

impl Pattern {
    fn parse(text: &str) -> Result<Self> {
        let mut items = vec![];
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.next_if_eq(&'\'').is_some() => literal.push('\''),
                '\'' => loop {
                    match chars.next() {
                        Some('\'') if chars.next_if_eq(&'\'').is_some() => literal.push('\''),
                        Some('\'') => break,
                        Some(c) => literal.push(c),
                        None => return Err(Error::row(format!("the format '{text}' has a quote without end"))),
                    }
                },
                c if c.is_ascii_alphabetic() => {
                    if !"yuMLdDHhKkmsSnaEeQqwGzVZXx".contains(c) {
                        return Err(Error::row(format!("the format '{text}' has the unknown letter '{c}'"))
                            .note("letters: y year, M month, d day, H hour, m minute, s second, S fraction, a AM/PM, E day of week, D day of year; text stands in '…'"));
                    }
                    if !literal.is_empty() {
                        items.push(Item::Literal(std::mem::take(&mut literal)));
                    }
                    let mut n = 1;
                    while chars.next_if_eq(&c).is_some() {
                        n += 1;
                    }
                    items.push(Item::Field(c, n));
                }
                c => literal.push(c),
            }
        }
        if !literal.is_empty() {
            items.push(Item::Literal(literal));
        }
        Ok(Pattern(items))
    }

    /// Writes a local time; `utc` is the same in UTC, for the letters of zones.
    pub fn write(&self, out: &mut String, local: Instant, zone: Zone, utc: Instant) {
        let c = local.civil();
        let days = local.days();
        for item in &self.0 {
            // Writing to a String cannot fail.
            let _ = match item {
                Item::Literal(s) => out.write_str(s),
                Item::Field('y' | 'u', 2) => write!(out, "{:02}", c.year.rem_euclid(100)),
                Item::Field('y' | 'u', n) => {
                    let sign = if c.year < 0 { "-" } else { "" };
                    write!(out, "{sign}{:0n$}", c.year.abs())
                }
                Item::Field('M' | 'L', 3) => out.write_str(&MONTHS[c.month as usize - 1][..3]),
                Item::Field('M' | 'L', 4) => out.write_str(MONTHS[c.month as usize - 1]),
                Item::Field('M' | 'L', 5) => out.write_str(&MONTHS[c.month as usize - 1][..1]),
                Item::Field('M' | 'L', n) => write!(out, "{:0n$}", c.month),
                Item::Field('d', n) => write!(out, "{:0n$}", c.day),
                Item::Field('D', n) => write!(out, "{:0n$}", calendar::day_of_year(days)),
                Item::Field('H', n) => write!(out, "{:0n$}", c.hour),
                Item::Field('k', n) => write!(out, "{:0n$}", (c.hour + 23) % 24 + 1),
                Item::Field('h', n) => write!(out, "{:0n$}", (c.hour + 11) % 12 + 1),
                Item::Field('K', n) => write!(out, "{:0n$}", c.hour % 12),
                Item::Field('m', n) => write!(out, "{:0n$}", c.minute),
                Item::Field('s', n) => write!(out, "{:0n$}", c.second),
                Item::Field('S', n) => {
                    let digits = format!("{:09}", c.nanos);
                    out.write_str(&digits[..(*n).min(9)])
                }
                Item::Field('n', n) => write!(out, "{:0n$}", c.nanos),
                Item::Field('a', _) => out.write_str(if c.hour < 12 { "AM" } else { "PM" }),
                Item::Field('E', n) | Item::Field('e', n @ 3..) => {
                    let day = DAYS[calendar::iso_day_of_week(days) as usize - 1];
                    out.write_str(if *n == 4 { day } else { &day[..3] })
                }
                Item::Field('e', n) => write!(out, "{:0n$}", calendar::iso_day_of_week(days)),
                Item::Field('Q' | 'q', n) => write!(out, "{:0n$}", (c.month - 1) / 3 + 1),
                Item::Field('w', n) => write!(out, "{:0n$}", calendar::iso_week(days).1),
                Item::Field('G', _) => out.write_str(if c.year > 0 { "AD" } else { "BC" }),
                Item::Field('V' | 'z', _) => match zone {
                    Zone::Fixed(0) => out.write_str("UTC"),
                    Zone::Fixed(s) => write_offset(out, s, true),
                    Zone::Named(tz) => out.write_str(tz.name()),
                },
                Item::Field('Z', _) => write_offset(out, zone.offset_at(utc), false),
                Item::Field(x @ ('X' | 'x'), n) => match (zone.offset_at(utc), x, n) {
                    (0, 'X', _) => out.write_char('Z'),
                    (s, _, 1) if s % 3600 == 0 => write!(out, "{}{:02}", if s < 0 { '-' } else { '+' }, s.abs() / 3600),
                    (s, _, n) => write_offset(out, s, n % 2 == 1 && *n > 1),
                },
                Item::Field(..) => Ok(()),
            };
        }
    }

    /// Reads a text whole; parts that the pattern does not have are those of 1970-01-01 00:00:00. Gives the local time
    /// and, if the pattern has a zone, its offset in seconds. `None` if it does not fit.
    pub fn read(&self, text: &str) -> Option<(Instant, Option<i64>)> {
        let mut rest = text;
        let mut c = Civil { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, nanos: 0 };
        let (mut pm, mut offset, mut day_of_year) = (None, None, None);
        for (at, item) in self.0.iter().enumerate() {
            match item {
                Item::Literal(s) => rest = rest.strip_prefix(s.as_str())?,
                Item::Field('M' | 'L', n @ 3..) => {
                    let month = MONTHS.iter().position(|m| eat(&mut rest, if *n == 3 { &m[..3] } else { m }))?;
                    c.month = month as u32 + 1;
                }
                Item::Field('E', n) => {
                    DAYS.iter().position(|d| eat(&mut rest, if *n == 4 { d } else { &d[..3] }))?;
                }
                Item::Field('a', _) => pm = Some(["AM", "PM"].iter().position(|h| eat(&mut rest, h))? == 1),
                Item::Field('G', _) => {
                    eat(&mut rest, "AD").then_some(())?;
                }
                Item::Field('z' | 'V' | 'Z' | 'X' | 'x', _) => {
                    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                    let Zone::Fixed(seconds) = Zone::parse(&rest[..end]).ok()? else { return None };
                    offset = Some(seconds);
                    rest = &rest[end..];
                }
                Item::Field('S', n) => {
                    let digits = digits(rest, *n, *n)?;
                    c.nanos = digits.get(..digits.len().min(9))?.parse::<u32>().ok()?
                        * 10_u32.pow(9 - digits.len().min(9) as u32);
                    rest = &rest[digits.len()..];
                }
                Item::Field(letter, n) => {
                    let negative = matches!(letter, 'y' | 'u') && rest.starts_with('-');
                    if negative {
                        rest = &rest[1..];
                    }
                    // Next to another number a field has its width, else as many digits as there are.
                    let next_is_number = matches!(self.0.get(at + 1), Some(Item::Field(l, n)) if is_number(*l, *n));
                    let max = match (letter, n) {
                        ('y' | 'u', 2) => 2,
                        (_, n) if next_is_number => *n,
                        ('y' | 'u', _) => 9,
                        _ => 9.max(*n),
                    };
                    let min = if *n == 2 && max == 2 { 2 } else { 1 };
                    let digits = digits(rest, min, max)?;
                    rest = &rest[digits.len()..];
                    let v = digits.parse::<u32>().ok()?;
                    match letter {
                        'y' | 'u' if *n == 2 => c.year = 2000 + i64::from(v),
                        'y' | 'u' => c.year = if negative { -i64::from(v) } else { i64::from(v) },
                        'M' | 'L' => c.month = v,
                        'd' => c.day = v,
                        'D' => day_of_year = Some(v),
                        'H' => c.hour = v,
                        'k' => c.hour = v % 24,
                        'h' => c.hour = v % 12,
                        'K' => c.hour = v,
                        'm' => c.minute = v,
                        's' => c.second = v,
                        'n' => c.nanos = v,
                        _ => {}
                    }
                }
            }
        }
        if pm == Some(true) {
            c.hour += 12;
        }
        let is_date = (1..=12).contains(&c.month) && c.day >= 1 && c.day <= calendar::days_in_month(c.year, c.month);
        if !rest.is_empty() || !is_date || c.hour > 23 || c.minute > 59 || c.second > 59 {
            return None;
        }
        let mut instant = c.instant()?;
        if let Some(day) = day_of_year {
            if day < 1 || day > 365 + u32::from(calendar::is_leap(c.year)) {
                return None;
            }
            let start = Civil { month: 1, day: 1, ..c }.instant()?;
            instant = start.add_seconds(i64::from(day - 1) * calendar::SECONDS_PER_DAY)?;
        }
        Some((instant, offset))
    }
}

fn is_number(letter: char, n: usize) -> bool {
    match letter {
        'M' | 'L' => n < 3,
        'E' | 'a' | 'G' | 'z' | 'V' | 'Z' | 'X' | 'x' => false,
        _ => true,
    }
}

/// Takes a word off the start, in any case.
fn eat(rest: &mut &str, word: &str) -> bool {
    match rest.get(..word.len()) {
        Some(start) if start.eq_ignore_ascii_case(word) => {
            *rest = &rest[word.len()..];
            true
        }
        _ => false,
    }
}

fn digits(text: &str, min: usize, max: usize) -> Option<&str> {
    let n = text.bytes().take(max).take_while(u8::is_ascii_digit).count();
    (n >= min).then(|| &text[..n])
}

fn write_offset(out: &mut String, seconds: i64, colon: bool) -> std::fmt::Result {
    let (sign, s) = (if seconds < 0 { '-' } else { '+' }, seconds.abs());
    write!(out, "{sign}{:02}{}{:02}", s / 3600, if colon { ":" } else { "" }, s / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        calendar::parse_timestamp(text).unwrap()
    }

    fn format(text: &str, format: &str) -> String {
        let mut out = String::new();
        let zone = Zone::parse("+02:00").unwrap();
        let local = at(text);
        pattern(format).unwrap().write(&mut out, local, zone, local.add_seconds(-7200).unwrap());
        out
    }

    #[test]
    fn patterns_are_written() {
        let t = "2024-03-05 17:04:09.0123";
        for (pattern, text) in [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2024-03-05 17:04:09.012"),
            ("yy/M/d h:m:s a", "24/3/5 5:4:9 PM"),
            ("EEE, dd MMM yyyy", "Tue, 05 Mar 2024"),
            ("EEEE d MMMM", "Tuesday 5 March"),
            ("yyyyMMdd'T'HHmmss''", "20240305T170409'"),
            ("D Q", "65 1"),
            ("Z X XXX", "+0200 +02 +02:00"),
            ("SSSSSS", "012300"),
        ] {
            assert_eq!(format(t, pattern), text);
        }
        assert!(pattern("yyyy-bb").is_err());
        assert!(pattern("'open").is_err());
    }

    #[test]
    fn patterns_are_read() {
        for (format, text, is) in [
            ("yyyy-MM-dd HH:mm:ss", "2024-03-05 17:04:09", Some("2024-03-05 17:04:09")),
            ("yyyyMMddHHmmss", "20240305170409", Some("2024-03-05 17:04:09")),
            ("d.M.yyyy", "5.12.2024", Some("2024-12-05 00:00:00")),
            ("dd MMM yy hh:mm a", "05 mar 24 05:04 pm", Some("2024-03-05 17:04:00")),
            ("yyyy-MM-dd'T'HH:mm:ss.SSS", "2024-03-05T17:04:09.120", Some("2024-03-05 17:04:09.12")),
            ("HH:mm", "12:30", Some("1970-01-01 12:30:00")),
            ("yyyy DDD", "2024 060", Some("2024-02-29 00:00:00")),
            ("yyyy-MM-dd", "2024-02-30", None),
            ("yyyy-MM-dd", "2024-02-03 and more", None),
            ("yyyy-MM-dd", "nonsense", None),
        ] {
            assert_eq!(pattern(format).unwrap().read(text).map(|(t, _)| t), is.map(at), "{text}");
        }
        let (t, offset) = pattern("yyyy-MM-dd HH:mm:ssXXX").unwrap().read("2024-01-01 00:00:00+02:00").unwrap();
        assert_eq!((t, offset), (at("2024-01-01"), Some(7200)));
    }
}
