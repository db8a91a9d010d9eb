//! Time zones by name or offset.

use std::str::FromStr;

use chrono::{Offset, TimeZone};
use thalweg_core::Error;

/// A zone in which moments are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zone {
    #[default]
    Utc,
    /// Seconds east of UTC.
    Fixed(i32),
    Named(chrono_tz::Tz),
}

impl Zone {
    /// Seconds to add to a moment (seconds since 1970) for the local time.
    #[inline]
    pub fn offset_seconds(&self, seconds: i64) -> i64 {
        match self {
            Zone::Utc => 0,
            Zone::Fixed(offset) => i64::from(*offset),
            Zone::Named(zone) => match chrono::DateTime::from_timestamp(seconds, 0) {
                Some(moment) => i64::from(zone.offset_from_utc_datetime(&moment.naive_utc()).fix().local_minus_utc()),
                None => 0,
            },
        }
    }
}

/// `UTC`, `Europe/Berlin`, `+05:30`.
impl FromStr for Zone {
    type Err = Error;

    fn from_str(text: &str) -> Result<Zone, Error> {
        let name = text.trim();
        if ["utc", "z", "gmt"].contains(&name.to_ascii_lowercase().as_str()) {
            return Ok(Zone::Utc);
        }
        if let Some(offset) = fixed(name) {
            return Ok(if offset == 0 { Zone::Utc } else { Zone::Fixed(offset) });
        }
        let known = chrono_tz::TZ_VARIANTS.into_iter().find(|z| z.name().eq_ignore_ascii_case(name));
        known.map(Zone::Named).ok_or_else(|| {
            Error::option(format!("'{text}' is no time zone"))
                .note("a zone is written as 'UTC', 'Europe/Berlin' or '+02:00'")
        })
    }
}

fn fixed(name: &str) -> Option<i32> {
    let (sign, rest) = match name.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=14).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_by_name_and_offset() {
        assert_eq!("utc".parse::<Zone>().unwrap(), Zone::Utc);
        assert_eq!("+05:30".parse::<Zone>().unwrap().offset_seconds(0), 19_800);
        assert_eq!("-01:00".parse::<Zone>().unwrap().offset_seconds(0), -3600);
        let berlin: Zone = "europe/berlin".parse().unwrap();
        assert_eq!(berlin.offset_seconds(1_720_000_000), 7200);
        assert_eq!(berlin.offset_seconds(1_700_000_000), 3600);
        assert!("Mars".parse::<Zone>().is_err());
    }
}
