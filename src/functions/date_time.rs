//! Functions of dates and times. What depends on the session's time zone takes it as a last argument, which the planner
//! adds (`zone_arguments`); without it the zone is UTC.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::*;
use datafusion_common::ScalarValue;
use thalweg_core::{Error, Result, SqlType};

use crate::calendar::{
    self, Civil, Instant, NANOS_PER_DAY, NANOS_PER_SECOND, SECONDS_PER_DAY, Zone, civil_of_days, days_of_civil,
};
use crate::cast::{Instants, cast, shown};
use crate::clock::wall_clock_us;
use crate::function::{Arg, Call, Function, Ret};
use crate::java_format;

/// The format of texts where none is given.
const DEFAULT_FORMAT: &str = "yyyy-MM-dd HH:mm:ss";

pub const FUNCTIONS: &[Function] = &[
    Function::new("now", &[], Ret::TimestampLtz, now, "NOW()", "The wall clock of the tick, as TIMESTAMP_LTZ(3).").volatile(),
    Function::new("proctime", &[], Ret::TimestampLtz, now, "PROCTIME()", "The wall clock of the tick, as TIMESTAMP_LTZ(3).").volatile(),
    Function::new("current_timestamp", &[], Ret::TimestampLtz, now, "CURRENT_TIMESTAMP", "The wall clock of the tick, as TIMESTAMP_LTZ(3).").volatile(),
    Function::new("current_row_timestamp", &[], Ret::TimestampLtz, now, "CURRENT_ROW_TIMESTAMP()", "The wall clock of the tick, as TIMESTAMP_LTZ(3).").volatile(),
    Function::new("localtimestamp", &[Arg::Str], Ret::Timestamp, local_timestamp, "LOCALTIMESTAMP", "The wall clock of the tick in the session's zone, as TIMESTAMP(3).").optional(1).volatile(),
    Function::new("current_date", &[Arg::Str], Ret::Date, current_date, "CURRENT_DATE", "The day of the tick in the session's zone.").optional(1).volatile(),
    Function::new("current_time", &[Arg::Str], Ret::Time, local_time, "CURRENT_TIME", "The time of day of the tick in the session's zone, as TIME(0).").optional(1).volatile(),
    Function::new("localtime", &[Arg::Str], Ret::Time, local_time, "LOCALTIME", "The time of day of the tick in the session's zone, as TIME(0).").optional(1).volatile(),
    Function::new("unix_timestamp", &[Arg::Str, Arg::Str, Arg::Str], Ret::BigInt, unix_timestamp, "UNIX_TIMESTAMP([string[, format]])", "Seconds since 1970 of the tick, or of a text in the session's zone; -9223372036854775808 if it does not fit the format.").optional(3).volatile(),
    Function::new("from_unixtime", &[Arg::Int, Arg::Str, Arg::Str], Ret::Str, from_unixtime, "FROM_UNIXTIME(seconds[, format])", "Text of seconds since 1970 in the session's zone.").optional(2),
    Function::new("date_format", &[Arg::TimeOrStr, Arg::Str, Arg::Str], Ret::Str, date_format, "DATE_FORMAT(timestamp, format)", "Text in a format of Java: yyyy-MM-dd HH:mm:ss.SSS.").optional(1),
    Function::new("to_date", &[Arg::Str, Arg::Str], Ret::Date, to_date, "TO_DATE(string[, format])", "The day that a text gives; NULL if it does not fit the format (yyyy-MM-dd).").optional(1),
    Function::new("to_timestamp", &[Arg::Str, Arg::Str], Ret::Timestamp, to_timestamp, "TO_TIMESTAMP(string[, format])", "The TIMESTAMP(3) that a text gives; NULL if it does not fit the format (yyyy-MM-dd HH:mm:ss).").optional(1),
    Function::new("to_timestamp_ltz", &[Arg::IntOrStr, Arg::IntOrStr, Arg::Str], Ret::TimestampLtz, to_timestamp_ltz, "TO_TIMESTAMP_LTZ(number[, precision]) or (string[, format[, zone]])", "TIMESTAMP_LTZ(3) of seconds (precision 0) or milliseconds (3, the default) since 1970, or of a text.").optional(2),
    Function::new("convert_tz", &[Arg::Str, Arg::Str, Arg::Str], Ret::Str, convert_tz, "CONVERT_TZ(string, zone1, zone2)", "A text yyyy-MM-dd HH:mm:ss of zone1 in zone2."),
    Function::new("timestampadd", &[Arg::Str, Arg::Int, Arg::Time], Ret::By(timestampadd_type), timestampadd, "TIMESTAMPADD(unit, n, time)", "n units later."),
    Function::new("timestampdiff", &[Arg::Str, Arg::Time, Arg::Time], Ret::Int, timestampdiff, "TIMESTAMPDIFF(unit, time1, time2)", "Whole units from time1 to time2."),
    Function::new("extract", &[Arg::Str, Arg::Time, Arg::Str], Ret::BigInt, extract, "EXTRACT(unit FROM time)", "A part: YEAR, QUARTER, MONTH, WEEK, DAY, DOY, DOW, ISODOW, ISOYEAR, HOUR, MINUTE, SECOND, MILLISECOND, MICROSECOND, NANOSECOND, EPOCH, DECADE, CENTURY, MILLENNIUM.").optional(1).aliases(&["date_part", "datepart"]),
    Function::new("year", &[Arg::Time, Arg::Str], Ret::BigInt, |c| part(c, Unit::Year), "YEAR(time)", "The year.").optional(1),
    Function::new("quarter", &[Arg::Time, Arg::Str], Ret::BigInt, |c| part(c, Unit::Quarter), "QUARTER(time)", "1 to 4.").optional(1),
    Function::new("month", &[Arg::Time, Arg::Str], Ret::BigInt, |c| part(c, Unit::Month), "MONTH(time)", "1 to 12.").optional(1),
    Function::new("week", &[Arg::Time, Arg::Str], Ret::BigInt, |c| part(c, Unit::Week), "WEEK(time)", "The week of the year (ISO 8601), 1 to 53.").optional(1),
    Function::new("dayofyear", &[Arg::Time, Arg::Str], Ret::BigInt, |c| part(c, Unit::DayOfYear), "DAYOFYEAR(time)", "1 to 366.").optional(1),
    Function::new("dayofmonth", &[Arg::Time, Arg::Str], Ret::BigInt, |c| part(c, Unit::Day), "DAYOFMONTH(time)", "1 to 31.").optional(1),
    Function::new("dayofweek", &[Arg::Time, Arg::Str], Ret::BigInt, |c| part(c, Unit::DayOfWeek), "DAYOFWEEK(time)", "1 (Sunday) to 7.").optional(1),
    Function::new("hour", &[Arg::Time, Arg::Str], Ret::BigInt, |c| part(c, Unit::Hour), "HOUR(time)", "0 to 23.").optional(1),
    Function::new("minute", &[Arg::Time, Arg::Str], Ret::BigInt, |c| part(c, Unit::Minute), "MINUTE(time)", "0 to 59.").optional(1),
    Function::new("second", &[Arg::Time, Arg::Str], Ret::BigInt, |c| part(c, Unit::Second), "SECOND(time)", "0 to 59.").optional(1),
    Function::new("floor_to", &[Arg::Time, Arg::Str, Arg::Str], Ret::Arg(0), |c| round_to(c, false), "FLOOR(time TO unit)", "Cut down to a unit.").optional(1),
    Function::new("ceil_to", &[Arg::Time, Arg::Str, Arg::Str], Ret::Arg(0), |c| round_to(c, true), "CEIL(time TO unit)", "Rounded up to a unit.").optional(1),
    Function::new("ltz_to_timestamp", &[Arg::Time, Arg::Str], Ret::By(without_zone), ltz_to_timestamp, "LTZ_TO_TIMESTAMP(timestamp_ltz, zone)", "What clocks in the zone show then."),
    Function::new("timestamp_to_ltz", &[Arg::Time, Arg::Str], Ret::By(with_zone), timestamp_to_ltz, "TIMESTAMP_TO_LTZ(timestamp, zone)", "When clocks in the zone show that."),
];

/// The arguments (texts) that a call gets behind its own for the session's time zone. `types` are those of its own
/// arguments.
pub fn zone_arguments(function: &str, types: &[SqlType], zone: &str) -> Vec<String> {
    let is_ltz = |i: usize| matches!(types.get(i), Some(SqlType::TimestampLtz(_)));
    let zone_only = || vec![zone.to_owned()];
    match function {
        "localtimestamp" | "current_date" | "current_time" | "localtime" if types.is_empty() => zone_only(),
        "unix_timestamp" | "from_unixtime" if types.len() == 1 => vec![DEFAULT_FORMAT.to_owned(), zone.to_owned()],
        "unix_timestamp" | "from_unixtime" if types.len() == 2 => zone_only(),
        "date_format" if types.len() == 2 && is_ltz(0) => zone_only(),
        "to_timestamp_ltz" if types.len() == 1 && types[0].is_string() => {
            vec![DEFAULT_FORMAT.to_owned(), zone.to_owned()]
        }
        "to_timestamp_ltz" if types.len() == 2 && types[0].is_string() => zone_only(),
        "extract" | "date_part" | "datepart" if types.len() == 2 && is_ltz(1) => zone_only(),
        "year" | "quarter" | "month" | "week" | "dayofyear" | "dayofmonth" | "dayofweek" | "hour" | "minute"
        | "second"
            if types.len() == 1 && is_ltz(0) =>
        {
            zone_only()
        }
        "floor_to" | "ceil_to" if types.len() == 2 && is_ltz(0) => zone_only(),
        _ => vec![],
    }
}

/// The zone in an optional last argument.
struct Zones<'a> {
    call: &'a Call,
    arg: usize,
    last: Option<(&'a str, Zone)>,
}

impl<'a> Zones<'a> {
    fn new(call: &'a Call, arg: usize) -> Self {
        Zones { call, arg, last: None }
    }

    fn get(&mut self, row: usize) -> Result<Option<Zone>> {
        let Some(name) = self.call.str_or(self.arg, row, "UTC") else { return Ok(None) };
        if let Some((last, zone)) = self.last
            && last == name
        {
            return Ok(Some(zone));
        }
        let zone = Zone::parse(name)?;
        self.last = Some((name, zone));
        Ok(Some(zone))
    }
}

fn clock() -> Instant {
    Instant::new(wall_clock_us(), TimeUnit::Microsecond)
}

fn now(c: &Call) -> Result<ArrayRef> {
    c.values::<TimestampMillisecondType>(|_| clock().to(TimeUnit::Millisecond))
}

fn local_timestamp(c: &Call) -> Result<ArrayRef> {
    let mut zones = Zones::new(c, 0);
    c.try_values::<TimestampMillisecondType>(|i| {
        Ok(zones.get(i)?.and_then(|z| z.to_local(clock()).to(TimeUnit::Millisecond)))
    })
}

fn current_date(c: &Call) -> Result<ArrayRef> {
    let mut zones = Zones::new(c, 0);
    c.try_values::<Date32Type>(|i| Ok(zones.get(i)?.and_then(|z| i32::try_from(z.to_local(clock()).days()).ok())))
}

fn local_time(c: &Call) -> Result<ArrayRef> {
    let mut zones = Zones::new(c, 0);
    c.try_values::<Time64MicrosecondType>(|i| {
        Ok(zones.get(i)?.map(|z| z.to_local(clock()).nanos_of_day() / NANOS_PER_SECOND * 1_000_000))
    })
}

fn unix_timestamp(c: &Call) -> Result<ArrayRef> {
    if c.len() == 0 {
        return c.values::<Int64Type>(|_| Some(clock().seconds));
    }
    let s = c.str(0);
    let mut zones = Zones::new(c, 2);
    c.try_values::<Int64Type>(|i| {
        let (Some(s), Some(format), Some(zone)) = (s.get(i), c.str_or(1, i, DEFAULT_FORMAT), zones.get(i)?) else {
            return Ok(None);
        };
        Ok(Some(match java_format::pattern(format)?.read(s) {
            None => i64::MIN,
            Some((local, Some(offset))) => local.seconds - offset,
            Some((local, None)) => zone.to_utc(local).seconds,
        }))
    })
}

fn from_unixtime(c: &Call) -> Result<ArrayRef> {
    let n = c.int(0);
    let mut zones = Zones::new(c, 2);
    c.try_strings(|i, out| {
        let (Some(n), Some(format), Some(zone)) = (n.get(i), c.str_or(1, i, DEFAULT_FORMAT), zones.get(i)?) else {
            return Ok(None);
        };
        let utc = in_range(Instant { seconds: n, nanos: 0 }, n)?;
        java_format::pattern(format)?.write(out, zone.to_local(utc), zone, utc);
        Ok(Some(()))
    })
}

/// Years of up to nine digits.
fn in_range(at: Instant, shown: i64) -> Result<Instant> {
    if at.seconds.abs() > 9_000_000_000_000_000 {
        return Err(Error::row(format!("{shown} is out of the range of TIMESTAMP")));
    }
    Ok(at)
}

fn date_format(c: &Call) -> Result<ArrayRef> {
    let format = c.str(1);
    let mut zones = Zones::new(c, 2);
    if *c.array(0).data_type() == DataType::Utf8 {
        let s = c.str(0);
        return c.try_strings(|i, out| {
            let (Some(s), Some(format)) = (s.get(i), format.get(i)) else { return Ok(None) };
            let Some(at) = calendar::parse_timestamp(s) else {
                return Err(Error::row(format!("{} is not a timestamp", shown(s))));
            };
            java_format::pattern(format)?.write(out, at, Zone::UTC, at);
            Ok(Some(()))
        });
    }
    let is_ltz = matches!(c.array(0).data_type(), DataType::Timestamp(_, Some(_)));
    let times = Instants::new(c.array(0))?;
    c.try_strings(|i, out| {
        let (Some(at), Some(format), Some(zone)) = (times.get(c.index(0, i)), format.get(i), zones.get(i)?) else {
            return Ok(None);
        };
        let local = if is_ltz { zone.to_local(at) } else { at };
        java_format::pattern(format)?.write(out, local, zone, at);
        Ok(Some(()))
    })
}

/// Reads a text by the format in argument `format`, or as a cast does if there is none.
fn read(c: &Call, row: usize, format: usize) -> Result<Option<(Instant, Option<i64>)>> {
    let Some(s) = c.str(0).get(row) else { return Ok(None) };
    if format >= c.len() {
        return Ok(calendar::parse_with_offset(s));
    }
    let Some(format) = c.str(format).get(row) else { return Ok(None) };
    Ok(java_format::pattern(format)?.read(s))
}

fn to_date(c: &Call) -> Result<ArrayRef> {
    c.try_values::<Date32Type>(|i| Ok(read(c, i, 1)?.and_then(|(at, _)| i32::try_from(at.days()).ok())))
}

fn to_timestamp(c: &Call) -> Result<ArrayRef> {
    c.try_values::<TimestampMillisecondType>(|i| Ok(read(c, i, 1)?.and_then(|(at, _)| at.to(TimeUnit::Millisecond))))
}

fn to_timestamp_ltz(c: &Call) -> Result<ArrayRef> {
    if *c.array(0).data_type() == DataType::Utf8 {
        if c.len() > 1 && *c.array(1).data_type() != DataType::Utf8 {
            return Err(Error::type_("TO_TIMESTAMP_LTZ(string, format): the format is a string"));
        }
        let mut zones = Zones::new(c, 2);
        // The default format, given because a zone follows it, is read as leniently as if it were not given.
        return c.try_values::<TimestampMillisecondType>(|i| {
            let Some(zone) = zones.get(i)? else { return Ok(None) };
            let is_default = c.len() > 1 && c.str(1).get(i) == Some(DEFAULT_FORMAT);
            let format = if is_default { c.len() } else { 1 };
            Ok(read(c, i, format)?.and_then(|(local, offset)| {
                let utc = match offset {
                    Some(offset) => local.add_seconds(-offset)?,
                    None => zone.to_utc(local),
                };
                utc.to(TimeUnit::Millisecond)
            }))
        });
    }
    if c.len() > 1 && *c.array(1).data_type() == DataType::Utf8 {
        return Err(Error::type_("TO_TIMESTAMP_LTZ(number, precision): the precision is 0 or 3"));
    }
    let n = c.int(0);
    c.try_values::<TimestampMillisecondType>(|i| {
        let (Some(n), Some(precision)) = (n.get(i), c.int_or(1, i, 3)) else { return Ok(None) };
        match precision {
            0 => n
                .checked_mul(1000)
                .map(Some)
                .ok_or_else(|| Error::row(format!("{n} seconds are out of the range of TIMESTAMP_LTZ(3)"))),
            3 => Ok(Some(n)),
            p => Err(Error::row(format!("TO_TIMESTAMP_LTZ with precision {p}"))
                .note("precisions: 0 (seconds) and 3 (milliseconds)")),
        }
    })
}

fn convert_tz(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    let (mut from, mut to) = (Zones::new(c, 1), Zones::new(c, 2));
    c.try_strings(|i, out| {
        let (Some(s), Some(from), Some(to)) = (s.get(i), from.get(i)?, to.get(i)?) else { return Ok(None) };
        let pattern = java_format::pattern(DEFAULT_FORMAT)?;
        let Some((local, _)) = pattern.read(s) else { return Ok(None) };
        let utc = from.to_utc(local);
        pattern.write(out, to.to_local(utc), to, utc);
        Ok(Some(()))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Millennium,
    Century,
    Decade,
    Year,
    IsoYear,
    Quarter,
    Month,
    Week,
    Day,
    DayOfYear,
    DayOfWeek,
    IsoDayOfWeek,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    Epoch,
}

impl Unit {
    fn parse(text: &str) -> Result<Self> {
        let upper = text.trim().to_ascii_uppercase();
        let upper = upper.strip_prefix("SQL_TSI_").unwrap_or(&upper);
        Ok(match upper.strip_suffix('S').filter(|u| !u.is_empty()).unwrap_or(upper) {
            "MILLENNIUM" => Unit::Millennium,
            "CENTURY" => Unit::Century,
            "DECADE" => Unit::Decade,
            "YEAR" => Unit::Year,
            "ISOYEAR" => Unit::IsoYear,
            "QUARTER" => Unit::Quarter,
            "MONTH" => Unit::Month,
            "WEEK" => Unit::Week,
            "DAY" => Unit::Day,
            "DOY" => Unit::DayOfYear,
            "DOW" => Unit::DayOfWeek,
            "ISODOW" => Unit::IsoDayOfWeek,
            "HOUR" => Unit::Hour,
            "MINUTE" => Unit::Minute,
            "SECOND" => Unit::Second,
            "MILLISECOND" => Unit::Millisecond,
            "MICROSECOND" => Unit::Microsecond,
            "NANOSECOND" => Unit::Nanosecond,
            "EPOCH" => Unit::Epoch,
            _ => {
                return Err(Error::row(format!("unknown unit of time '{text}'")).note(
                    "units: YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, MILLISECOND, MICROSECOND, NANOSECOND",
                ));
            }
        })
    }

    /// Months of a unit of months.
    fn months(self) -> Option<i64> {
        Some(match self {
            Unit::Millennium => 12_000,
            Unit::Century => 1_200,
            Unit::Decade => 120,
            Unit::Year => 12,
            Unit::Quarter => 3,
            Unit::Month => 1,
            _ => return None,
        })
    }

    /// Nanoseconds of a unit of fixed length.
    fn nanos(self) -> Option<i64> {
        Some(match self {
            Unit::Week => 7 * NANOS_PER_DAY,
            Unit::Day => NANOS_PER_DAY,
            Unit::Hour => 3_600 * NANOS_PER_SECOND,
            Unit::Minute => 60 * NANOS_PER_SECOND,
            Unit::Second => NANOS_PER_SECOND,
            Unit::Millisecond => 1_000_000,
            Unit::Microsecond => 1_000,
            Unit::Nanosecond => 1,
            _ => return None,
        })
    }

    fn of(self, at: Instant) -> i64 {
        let c = at.civil();
        let days = at.days();
        match self {
            Unit::Millennium => (c.year + 999).div_euclid(1000),
            Unit::Century => (c.year + 99).div_euclid(100),
            Unit::Decade => c.year.div_euclid(10),
            Unit::Year => c.year,
            Unit::IsoYear => calendar::iso_week(days).0,
            Unit::Quarter => i64::from((c.month - 1) / 3 + 1),
            Unit::Month => i64::from(c.month),
            Unit::Week => i64::from(calendar::iso_week(days).1),
            Unit::Day => i64::from(c.day),
            Unit::DayOfYear => i64::from(calendar::day_of_year(days)),
            Unit::DayOfWeek => i64::from(calendar::iso_day_of_week(days) % 7 + 1),
            Unit::IsoDayOfWeek => i64::from(calendar::iso_day_of_week(days)),
            Unit::Hour => i64::from(c.hour),
            Unit::Minute => i64::from(c.minute),
            Unit::Second => i64::from(c.second),
            Unit::Millisecond => i64::from(c.second) * 1_000 + i64::from(c.nanos) / 1_000_000,
            Unit::Microsecond => i64::from(c.second) * 1_000_000 + i64::from(c.nanos) / 1_000,
            Unit::Nanosecond => i64::from(c.second) * NANOS_PER_SECOND + i64::from(c.nanos),
            Unit::Epoch => at.seconds,
        }
    }
}

/// A part of argument 0, in the zone of argument 1.
fn part(c: &Call, unit: Unit) -> Result<ArrayRef> {
    parts(c, 0, |_| Ok(Some(unit)))
}

fn extract(c: &Call) -> Result<ArrayRef> {
    let units = c.str(0);
    let mut last = None;
    parts(c, 1, |i| {
        let Some(text) = units.get(i) else { return Ok(None) };
        let unit = match last {
            Some((t, unit)) if t == text => unit,
            _ => Unit::parse(text)?,
        };
        last = Some((text, unit));
        Ok(Some(unit))
    })
}

fn parts(c: &Call, time: usize, mut unit: impl FnMut(usize) -> Result<Option<Unit>>) -> Result<ArrayRef> {
    let is_ltz = matches!(c.array(time).data_type(), DataType::Timestamp(_, Some(_)));
    let times = Instants::new(c.array(time))?;
    let mut zones = Zones::new(c, time + 1);
    c.try_values::<Int64Type>(|i| {
        let (Some(at), Some(unit), Some(zone)) = (times.get(c.index(time, i)), unit(i)?, zones.get(i)?) else {
            return Ok(None);
        };
        // Seconds since 1970 are the same everywhere.
        Ok(Some(unit.of(if is_ltz && unit != Unit::Epoch { zone.to_local(at) } else { at })))
    })
}

fn timestampadd_type(types: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
    let unit = match values.first() {
        Some(Some(ScalarValue::Utf8(Some(u)))) => Some(Unit::parse(u)?),
        _ => None,
    };
    Ok(match types.get(2) {
        // Hours and less make a timestamp of a date.
        Some(DataType::Date32) if unit.is_some_and(|u| u.nanos().is_some_and(|n| n < NANOS_PER_DAY)) => {
            SqlType::Timestamp(3).to_arrow()
        }
        Some(t) => t.clone(),
        None => DataType::Null,
    })
}

fn timestampadd(c: &Call) -> Result<ArrayRef> {
    let (unit, n) = (c.str(0), c.int(1));
    let times = Instants::new(c.array(2))?;
    let is_time = matches!(c.array(2).data_type(), DataType::Time64(_));
    let to = c.ret.clone();
    finish(c, &to, |i| {
        let (Some(unit), Some(n), Some(at)) = (unit.get(i), n.get(i), times.get(c.index(2, i))) else {
            return Ok(None);
        };
        let unit = Unit::parse(unit)?;
        let overflow = || Error::row(format!("TIMESTAMPADD({unit:?}, {n}, …) leaves the range of its type"));
        let later = match (unit.months(), unit.nanos()) {
            (Some(months), _) => months.checked_mul(n).and_then(|m| at.add_months(m)),
            (None, Some(nanos)) => add_nanos(at, i128::from(nanos) * i128::from(n)),
            _ => return Err(Error::row(format!("TIMESTAMPADD does not take the unit {unit:?}"))),
        };
        let mut later = later.ok_or_else(overflow)?;
        if is_time {
            later.seconds = later.seconds.rem_euclid(SECONDS_PER_DAY);
        }
        Ok(Some(later))
    })
}

fn add_nanos(at: Instant, nanos: i128) -> Option<Instant> {
    let total = i128::from(at.seconds) * i128::from(NANOS_PER_SECOND) + i128::from(at.nanos) + nanos;
    let per = i128::from(NANOS_PER_SECOND);
    Some(Instant { seconds: i64::try_from(total.div_euclid(per)).ok()?, nanos: total.rem_euclid(per) as u32 })
}

/// Points in time as a column of a type of time.
fn finish(c: &Call, ty: &DataType, mut f: impl FnMut(usize) -> Result<Option<Instant>>) -> Result<ArrayRef> {
    let range = |at: Option<Instant>, v: Option<i64>| match (at, v) {
        (Some(_), None) => Err(Error::row("a time leaves the range of its type")),
        (_, v) => Ok(v),
    };
    if *ty == DataType::Date32 {
        return c.try_values::<Date32Type>(|i| {
            let at = f(i)?;
            Ok(range(at, at.and_then(|at| i32::try_from(at.days()).ok().map(i64::from)))?.map(|d| d as i32))
        });
    }
    let (unit, is_time) = match ty {
        DataType::Timestamp(unit, _) => (*unit, false),
        DataType::Time64(unit) => (*unit, true),
        other => return Err(Error::internal(format!("{other} is not a type of time"))),
    };
    let mut out = Vec::with_capacity(c.rows);
    for i in 0..c.rows {
        let at = f(i)?;
        let v = at.and_then(|at| {
            if is_time {
                Some(at.nanos_of_day() / (NANOS_PER_SECOND / calendar::per_second(unit)))
            } else {
                at.to(unit)
            }
        });
        out.push(range(at, v)?);
    }
    let array = arrow::array::Int64Array::from(out);
    let data = array.to_data().into_builder().data_type(ty.clone()).build()?;
    Ok(arrow::array::make_array(data))
}

fn timestampdiff(c: &Call) -> Result<ArrayRef> {
    let unit = c.str(0);
    let (from, to) = (Instants::new(c.array(1))?, Instants::new(c.array(2))?);
    c.try_values::<Int32Type>(|i| {
        let (Some(unit), Some(a), Some(b)) = (unit.get(i), from.get(c.index(1, i)), to.get(c.index(2, i))) else {
            return Ok(None);
        };
        let unit = Unit::parse(unit)?;
        let n = match (unit.months(), unit.nanos()) {
            (Some(months), _) => i128::from(months_between(a, b) / months),
            (None, Some(nanos)) => {
                let whole = i128::from(b.seconds) - i128::from(a.seconds);
                let rest = i128::from(b.nanos) - i128::from(a.nanos);
                (whole * i128::from(NANOS_PER_SECOND) + rest) / i128::from(nanos)
            }
            _ => return Err(Error::row(format!("TIMESTAMPDIFF does not take the unit {unit:?}"))),
        };
        let n = i32::try_from(n);
        n.map(Some).map_err(|_| {
            Error::row(format!("TIMESTAMPDIFF({unit:?}, …) is out of the range of INT")).note("take a longer unit")
        })
    })
}

/// Whole months from `a` to `b`.
fn months_between(a: Instant, b: Instant) -> i64 {
    let (ca, cb) = (a.civil(), b.civil());
    let months = (cb.year - ca.year) * 12 + i64::from(cb.month) - i64::from(ca.month);
    // The day and time within the month decide whether the last month is whole.
    let rest = |c: Civil| (c.day, c.hour, c.minute, c.second, c.nanos);
    match months {
        1.. if rest(cb) < rest(ca) => months - 1,
        ..=-1 if rest(cb) > rest(ca) => months + 1,
        _ => months,
    }
}

fn round_to(c: &Call, up: bool) -> Result<ArrayRef> {
    let is_ltz = matches!(c.array(0).data_type(), DataType::Timestamp(_, Some(_)));
    let times = Instants::new(c.array(0))?;
    let unit = c.str(1);
    let mut zones = Zones::new(c, 2);
    let ty = c.ret.clone();
    finish(c, &ty, |i| {
        let (Some(at), Some(unit), Some(zone)) = (times.get(c.index(0, i)), unit.get(i), zones.get(i)?) else {
            return Ok(None);
        };
        let unit = Unit::parse(unit)?;
        let local = if is_ltz { zone.to_local(at) } else { at };
        let floor = floor(local, unit)?;
        let rounded = if up && floor < local { next(floor, unit) } else { Some(floor) };
        let rounded = rounded.ok_or_else(|| Error::row("CEIL leaves the range of its type"))?;
        Ok(Some(if is_ltz { zone.to_utc(rounded) } else { rounded }))
    })
}

fn floor(at: Instant, unit: Unit) -> Result<Instant> {
    let day = |year: i64, month: u32, day: u32| Instant {
        seconds: days_of_civil(year, month, day) * SECONDS_PER_DAY,
        nanos: 0,
    };
    let (year, month, _) = civil_of_days(at.days());
    Ok(match unit {
        Unit::Millennium => day((year - 1).div_euclid(1000) * 1000 + 1, 1, 1),
        Unit::Century => day((year - 1).div_euclid(100) * 100 + 1, 1, 1),
        Unit::Decade => day(year.div_euclid(10) * 10, 1, 1),
        Unit::Year => day(year, 1, 1),
        Unit::Quarter => day(year, (month - 1) / 3 * 3 + 1, 1),
        Unit::Month => day(year, month, 1),
        // Weeks begin on Sunday, as in Flink.
        Unit::Week => {
            let days = at.days() - i64::from(calendar::iso_day_of_week(at.days()) % 7);
            Instant { seconds: days * SECONDS_PER_DAY, nanos: 0 }
        }
        unit => {
            let nanos =
                unit.nanos().ok_or_else(|| Error::row(format!("FLOOR and CEIL do not take the unit {unit:?}")))?;
            if nanos >= NANOS_PER_SECOND {
                let seconds = nanos / NANOS_PER_SECOND;
                Instant { seconds: at.seconds.div_euclid(seconds) * seconds, nanos: 0 }
            } else {
                Instant { seconds: at.seconds, nanos: (i64::from(at.nanos) / nanos * nanos) as u32 }
            }
        }
    })
}

/// The start of the next unit.
fn next(floor: Instant, unit: Unit) -> Option<Instant> {
    match (unit.months(), unit.nanos()) {
        (Some(months), _) => floor.add_months(months),
        (None, Some(nanos)) => add_nanos(floor, i128::from(nanos)),
        _ => None,
    }
}

fn without_zone(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    match types.first() {
        Some(DataType::Timestamp(unit, _)) => Ok(DataType::Timestamp(*unit, None)),
        _ => Err(Error::type_("a conversion between zones takes a timestamp")),
    }
}

fn with_zone(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    match types.first() {
        Some(DataType::Timestamp(unit, _)) => Ok(DataType::Timestamp(*unit, Some("UTC".into()))),
        _ => Err(Error::type_("a conversion between zones takes a timestamp")),
    }
}

fn ltz_to_timestamp(c: &Call) -> Result<ArrayRef> {
    shift(c, |zone, at| zone.to_local(at))
}

fn timestamp_to_ltz(c: &Call) -> Result<ArrayRef> {
    shift(c, |zone, at| zone.to_utc(at))
}

fn shift(c: &Call, f: impl Fn(Zone, Instant) -> Instant) -> Result<ArrayRef> {
    let times = Instants::new(c.array(0))?;
    let mut zones = Zones::new(c, 1);
    let ty = c.ret.clone();
    finish(c, &ty, |i| match (times.get(c.index(0, i)), zones.get(i)?) {
        (Some(at), Some(zone)) => Ok(Some(f(zone, at))),
        _ => Ok(None),
    })
}

/// A text as a scalar of a type, for tests and defaults.
///
/// # Errors
/// A text that is not a value of the type.
pub fn scalar(text: &str, ty: &SqlType) -> Result<ScalarValue> {
    let array: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![text]));
    let array = cast(&array, &SqlType::STRING, ty, false)?;
    ScalarValue::try_from_array(&array, 0).map_err(crate::function::to_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::set_wall_clock_us;
    use crate::testing::{call, is};

    const NULL: Option<()> = None;

    fn ts(text: &str) -> ScalarValue {
        scalar(text, &SqlType::Timestamp(3)).unwrap()
    }

    fn ltz(text: &str) -> ScalarValue {
        scalar(text, &SqlType::TimestampLtz(3)).unwrap()
    }

    fn date(text: &str) -> ScalarValue {
        scalar(text, &SqlType::Date).unwrap()
    }

    fn time(text: &str) -> ScalarValue {
        scalar(text, &SqlType::Time(6)).unwrap()
    }

    #[test]
    fn the_clock_is_that_of_the_tick() {
        set_wall_clock_us(1_700_000_000_123_456);
        is! {
            now() => "2023-11-14 22:13:20.123";
            proctime() => "2023-11-14 22:13:20.123";
            current_timestamp() => "2023-11-14 22:13:20.123";
            localtimestamp() => "2023-11-14 22:13:20.123";
            localtimestamp("Asia/Tokyo") => "2023-11-15 07:13:20.123";
            current_date("Asia/Tokyo") => "2023-11-15";
            current_date() => "2023-11-14";
            localtime("Asia/Tokyo") => "07:13:20.000000";
            unix_timestamp() => "1700000000";
        }
        assert!(registry_says_volatile());
    }

    fn registry_says_volatile() -> bool {
        let r = crate::registry::registry();
        r.is_volatile("now") && r.is_volatile("uuid") && !r.is_volatile("upper") && !r.is_volatile("date_format")
    }

    #[test]
    fn unix_times() {
        is! {
            unix_timestamp("2023-11-14 22:13:20") => "1700000000";
            unix_timestamp("14.11.2023", "dd.MM.yyyy") => "1699920000";
            unix_timestamp("2023-11-14 22:13:20", "yyyy-MM-dd HH:mm:ss", "Europe/Berlin") => "1699996400";
            unix_timestamp("nonsense") => "-9223372036854775808";
            unix_timestamp(NULL) => "NULL";
            from_unixtime(1700000000) => "2023-11-14 22:13:20";
            from_unixtime(0, "yyyy", "America/New_York") => "1969";
            from_unixtime(NULL) => "NULL";
        }
        assert!(call("from_unixtime", &[&i64::MAX]).is_err());
    }

    #[test]
    fn formats() {
        is! {
            date_format(ts("2024-02-29 13:04:05.678"), "yyyy/MM/dd hh:mm:ss.SSS a") => "2024/02/29 01:04:05.678 PM";
            date_format(ltz("2024-02-29 23:00:00"), "dd HH", "Europe/Berlin") => "01 00";
            date_format("2024-02-29 13:04:05", "HH") => "13";
            date_format(NULL, "HH") => "NULL";
            date_format(ts("2024-02-29"), NULL) => "NULL";
            to_date("2024-02-29") => "2024-02-29";
            to_date("29.2.24", "d.M.yy") => "2024-02-29";
            to_date("30.2.24", "d.M.yy") => "NULL";
            to_timestamp("2024-02-29 13:04:05.6789") => "2024-02-29 13:04:05.678";
            to_timestamp("20240229", "yyyyMMdd") => "2024-02-29 00:00:00.000";
            to_timestamp("nonsense") => "NULL";
            to_timestamp(NULL) => "NULL";
            to_timestamp_ltz(1700000000, 0) => "2023-11-14 22:13:20.000";
            to_timestamp_ltz(1700000000123i64, 3) => "2023-11-14 22:13:20.123";
            to_timestamp_ltz(1700000000123i64) => "2023-11-14 22:13:20.123";
            to_timestamp_ltz("2024-02-29 00:00:00", "yyyy-MM-dd HH:mm:ss", "Asia/Tokyo") => "2024-02-28 15:00:00.000";
            to_timestamp_ltz(NULL, 0) => "NULL";
            convert_tz("1970-01-01 00:00:00", "UTC", "America/Los_Angeles") => "1969-12-31 16:00:00";
            convert_tz(NULL, "UTC", "UTC") => "NULL";
        }
        assert!(call("to_timestamp_ltz", &[&1, &7]).is_err());
        assert!(call("date_format", &[&ts("2024-02-29"), &"bb"]).is_err());
    }

    #[test]
    fn adding_and_subtracting() {
        is! {
            timestampadd("MONTH", 1, ts("2024-01-31 10:00:00")) => "2024-02-29 10:00:00.000";
            timestampadd("DAY", -1, date("2024-03-01")) => "2024-02-29";
            timestampadd("HOUR", 25, date("2024-02-28")) => "2024-02-29 01:00:00.000";
            timestampadd("HOUR", 2, time("23:00:00")) => "01:00:00.000000";
            timestampadd("DAY", NULL, ts("2024-01-31")) => "NULL";
            timestampdiff("DAY", ts("2024-01-01 12:00:00"), ts("2024-01-03 11:00:00")) => "1";
            timestampdiff("DAY", ts("2024-01-03 11:00:00"), ts("2024-01-01 12:00:00")) => "-1";
            timestampdiff("MONTH", ts("2024-01-31"), ts("2024-02-29")) => "0";
            timestampdiff("MONTH", ts("2024-02-29"), ts("2024-01-29")) => "-1";
            timestampdiff("YEAR", date("2000-02-29"), date("2024-02-28")) => "23";
            timestampdiff("SECOND", ts("2024-01-01"), date("2024-01-02")) => "86400";
            timestampdiff("DAY", NULL, ts("2024-01-31")) => "NULL";
        }
        assert!(call("timestampdiff", &[&"SECOND", &date("1900-01-01"), &date("2000-01-01")]).is_err());
        assert!(call("timestampadd", &[&"FORTNIGHT", &1, &date("1900-01-01")]).is_err());
    }

    #[test]
    fn parts_of_times() {
        let t = ts("2024-02-29 13:04:05.678");
        is! {
            extract("YEAR", t) => "2024";
            extract("QUARTER", t) => "1";
            extract("WEEK", t) => "9";
            extract("DOY", t) => "60";
            extract("DOW", t) => "5";
            extract("EPOCH", t) => "1709211845";
            extract("MILLISECOND", t) => "5678";
            extract("CENTURY", t) => "21";
            extract("HOUR", ltz("2024-02-29 13:04:05"), "Asia/Tokyo") => "22";
            extract("DAY", NULL) => "NULL";
            year(date("2024-02-29")) => "2024";
            month(t) => "2";
            dayofmonth(t) => "29";
            dayofweek(date("2024-03-03")) => "1";
            hour(time("13:04:05")) => "13";
            minute(t) => "4";
            second(t) => "5";
            second(NULL) => "NULL";
        }
    }

    #[test]
    fn rounding() {
        let t = ts("2024-02-29 13:04:05.678");
        is! {
            floor_to(t, "DAY") => "2024-02-29 00:00:00.000";
            ceil_to(t, "DAY") => "2024-03-01 00:00:00.000";
            ceil_to(ts("2024-03-01"), "DAY") => "2024-03-01 00:00:00.000";
            floor_to(t, "WEEK") => "2024-02-25 00:00:00.000";
            floor_to(date("2024-05-29"), "QUARTER") => "2024-04-01";
            ceil_to(date("2024-05-29"), "YEAR") => "2025-01-01";
            floor_to(t, "SECOND") => "2024-02-29 13:04:05.000";
            floor_to(time("13:04:05"), "HOUR") => "13:00:00.000000";
            floor_to(ltz("2024-02-29 23:30:00"), "DAY", "Europe/Berlin") => "2024-02-29 23:00:00.000";
            floor_to(NULL, "DAY") => "NULL";
        }
    }

    #[test]
    fn zones() {
        is! {
            ltz_to_timestamp(ltz("2024-07-01 00:00:00"), "Europe/Berlin") => "2024-07-01 02:00:00.000";
            timestamp_to_ltz(ts("2024-07-01 02:00:00"), "Europe/Berlin") => "2024-07-01 00:00:00.000";
        }
        assert!(call("ltz_to_timestamp", &[&ltz("2024-07-01"), &"Mars"]).is_err());
        let zone = |f: &str, types: &[SqlType]| zone_arguments(f, types, "Asia/Tokyo").join("|");
        assert_eq!(zone("current_date", &[]), "Asia/Tokyo");
        assert_eq!(zone("unix_timestamp", &[SqlType::STRING]), "yyyy-MM-dd HH:mm:ss|Asia/Tokyo");
        assert_eq!(zone("year", &[SqlType::TimestampLtz(3)]), "Asia/Tokyo");
        assert_eq!(zone("year", &[SqlType::Date]), "");
    }
}
