//! INTERVAL literals: `INTERVAL '10' MINUTE`, `INTERVAL '1-6' YEAR TO MONTH`, `INTERVAL '1 02:03:04.5' DAY TO SECOND`.

use sqlparser::ast::{self, DateTimeField, Spanned};
use thalweg_core::{Error, Result, SqlType};
use thalweg_graph::{Expr, Literal, LiteralValue};

use crate::refuse::place_of_span;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// How many months, days and nanoseconds one of a unit is; `None`: not a unit of an INTERVAL.
fn unit(field: &DateTimeField) -> Option<(i64, i64, i64)> {
    use DateTimeField::*;
    Some(match field {
        Year | Years => (12, 0, 0),
        Quarter => (3, 0, 0),
        Month | Months => (1, 0, 0),
        Week(None) | Weeks => (0, 7, 0),
        Day | Days => (0, 1, 0),
        Hour | Hours => (0, 0, 3600 * NANOS_PER_SECOND),
        Minute | Minutes => (0, 0, 60 * NANOS_PER_SECOND),
        Second | Seconds => (0, 0, NANOS_PER_SECOND),
        Millisecond | Milliseconds => (0, 0, 1_000_000),
        Microsecond | Microseconds => (0, 0, 1_000),
        Nanosecond | Nanoseconds => (0, 0, 1),
        _ => return None,
    })
}

pub(crate) fn bind(i: &ast::Interval) -> Result<Expr> {
    let ast::Interval { value, leading_field, leading_precision: _, last_field, fractional_seconds_precision: _ } = i;
    let ast::Expr::Value(v) = &**value else {
        return Err(Error::syntax("an INTERVAL needs a string: INTERVAL '10' MINUTE"));
    };
    let ast::Value::SingleQuotedString(text) = &v.value else {
        return Err(Error::syntax("an INTERVAL needs a string: INTERVAL '10' MINUTE"));
    };
    let Some(leading) = leading_field else {
        return Err(Error::syntax("an INTERVAL needs a unit: INTERVAL '10' MINUTE"));
    };
    let wrong = || {
        let to = last_field.as_ref().map_or(String::new(), |l| format!(" TO {l}"));
        let e = Error::syntax(format!("'{text}' is not an INTERVAL of {leading}{to}"));
        match place_of_span(v.span()) {
            Some(p) => e.at(p),
            None => e,
        }
    };
    let (negative, digits) = match text.trim().strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.trim().trim_start_matches('+')),
    };
    let parts = match last_field {
        None => single(digits, leading),
        Some(last) => range(digits, leading, last),
    };
    let (months, days, nanos) = parts.ok_or_else(wrong)?;
    let sign = if negative { -1 } else { 1 };
    let value = LiteralValue::Interval {
        months: i32::try_from(sign * months).map_err(|_| wrong())?,
        days: i32::try_from(sign * days).map_err(|_| wrong())?,
        nanos: sign * nanos,
    };
    Ok(Expr::Literal(Literal { ty: SqlType::Interval, value }))
}

fn single(text: &str, field: &DateTimeField) -> Option<(i64, i64, i64)> {
    let (m, d, n) = unit(field)?;
    if matches!(field, DateTimeField::Second | DateTimeField::Seconds) {
        return Some((0, 0, seconds(text)?));
    }
    let count: i64 = whole(text)?;
    Some((count.checked_mul(m)?, count.checked_mul(d)?, count.checked_mul(n)?))
}

fn whole(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Seconds with a fraction, in nanoseconds.
fn seconds(text: &str) -> Option<i64> {
    let (whole_part, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    whole(whole_part)?.checked_mul(NANOS_PER_SECOND)?.checked_add(nanos)
}

/// Years and months, or days to seconds from a first to a last unit.
fn range(text: &str, leading: &DateTimeField, last: &DateTimeField) -> Option<(i64, i64, i64)> {
    use DateTimeField::*;
    if matches!((leading, last), (Year | Years, Month | Months)) {
        let (years, months) = text.split_once('-')?;
        let months = whole(months).filter(|m| *m < 12)?;
        return Some((whole(years)?.checked_mul(12)?.checked_add(months)?, 0, 0));
    }
    let rank = |f: &DateTimeField| {
        Some(match f {
            Day | Days => 0,
            Hour | Hours => 1,
            Minute | Minutes => 2,
            Second | Seconds => 3,
            _ => return None,
        })
    };
    let (from, to): (usize, usize) = (rank(leading)?, rank(last)?);
    if from >= to {
        return None;
    }
    let (days, clock) = if from == 0 { text.split_once(' ').map(|(d, c)| (d, c.trim()))? } else { ("0", text) };
    let fields: Vec<&str> = clock.split(':').collect();
    let first = from.max(1);
    if fields.len() != to - first + 1 {
        return None;
    }
    let mut nanos = 0i64;
    for (i, field) in fields.iter().enumerate() {
        let n = match first + i {
            1 => whole(field)?.checked_mul(3600 * NANOS_PER_SECOND)?,
            2 => whole(field)?.checked_mul(60 * NANOS_PER_SECOND)?,
            _ => seconds(field)?,
        };
        nanos = nanos.checked_add(n)?;
    }
    Some((0, whole(days)?, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read() {
        use DateTimeField::*;
        let s = NANOS_PER_SECOND;
        assert_eq!(single("10", &Minute), Some((0, 0, 600 * s)));
        assert_eq!(single("1.5", &Second), Some((0, 0, 1_500_000_000)));
        assert_eq!(single("x", &Day), None);
        assert_eq!(range("1-6", &Year, &Month), Some((18, 0, 0)));
        assert_eq!(range("1 02:03:04.5", &Day, &Second), Some((0, 1, (2 * 3600 + 3 * 60 + 4) * s + s / 2)));
        assert_eq!(range("02:03", &Hour, &Minute), Some((0, 0, (2 * 3600 + 3 * 60) * s)));
        assert_eq!(range("02:03", &Hour, &Second), None);
    }
}
