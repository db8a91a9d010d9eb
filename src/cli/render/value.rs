//! One cell as text, as SQL writes it, or as JSON.

use std::fmt::Write;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use thalweg_session::calendar::{Instant, Zone};
use thalweg_session::core::SqlType;
use thalweg_session::core::calendar::civil_of_days;

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// How values within values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `[1, 2]`, `{a=1}`, `(1, x)`; NULL as `NULL`; a TIMESTAMP_LTZ in UTC, with a `Z`. For programs.
    Text,
    /// As `Text`, but a TIMESTAMP_LTZ as the clock of a zone shows it, as Flink's client does. For people.
    Local(Zone),
    Json,
}

/// Appends the cell of a row; `array` lies as `ty.to_arrow()`.
pub fn write(array: &dyn Array, ty: &SqlType, row: usize, form: Form, out: &mut String) {
    if array.is_null(row) || *ty == SqlType::Null {
        out.push_str(if form == Form::Json { "null" } else { "NULL" });
        return;
    }
    macro_rules! put {
        ($($arg:tt)*) => { write!(out, $($arg)*).expect("writing to a String cannot fail") };
    }
    match ty {
        SqlType::Boolean => put!("{}", array.as_boolean().value(row)),
        SqlType::TinyInt => put!("{}", array.as_primitive::<Int8Type>().value(row)),
        SqlType::SmallInt => put!("{}", array.as_primitive::<Int16Type>().value(row)),
        SqlType::Int => put!("{}", array.as_primitive::<Int32Type>().value(row)),
        SqlType::BigInt => put!("{}", array.as_primitive::<Int64Type>().value(row)),
        SqlType::Float => {
            let v = array.as_primitive::<Float32Type>().value(row);
            float(f64::from(v), &format!("{v:?}"), form, out);
        }
        SqlType::Double => {
            let v = array.as_primitive::<Float64Type>().value(row);
            float(v, &format!("{v:?}"), form, out);
        }
        SqlType::Decimal { precision, .. } if *precision <= 38 => {
            out.push_str(&array.as_primitive::<Decimal128Type>().value_as_string(row));
        }
        SqlType::Decimal { .. } => out.push_str(&array.as_primitive::<Decimal256Type>().value_as_string(row)),
        SqlType::Char(_) | SqlType::VarChar(_) => string(array.as_string::<i32>().value(row), form, out),
        SqlType::Binary(_) | SqlType::VarBinary(_) => {
            let mut hex = String::from("x'");
            for byte in array.as_binary::<i32>().value(row) {
                write!(hex, "{byte:02X}").expect("writing to a String cannot fail");
            }
            hex.push('\'');
            string(if form == Form::Json { &hex[2..hex.len() - 1] } else { &hex }, form, out);
        }
        SqlType::Date => string(&date_text(i64::from(array.as_primitive::<Date32Type>().value(row))), form, out),
        SqlType::Time(_) => {
            let nanos = match array.data_type() {
                DataType::Time64(TimeUnit::Microsecond) => {
                    array.as_primitive::<Time64MicrosecondType>().value(row) * 1000
                }
                _ => array.as_primitive::<Time64NanosecondType>().value(row),
            };
            string(&time_text(nanos), form, out);
        }
        SqlType::Timestamp(_) | SqlType::TimestampLtz(_) => {
            let nanos = match array.data_type() {
                DataType::Timestamp(TimeUnit::Millisecond, _) => {
                    i128::from(array.as_primitive::<TimestampMillisecondType>().value(row)) * 1_000_000
                }
                DataType::Timestamp(TimeUnit::Microsecond, _) => {
                    i128::from(array.as_primitive::<TimestampMicrosecondType>().value(row)) * 1000
                }
                _ => i128::from(array.as_primitive::<TimestampNanosecondType>().value(row)),
            };
            let text = match (ty, form) {
                (SqlType::Timestamp(_), _) => timestamp_text(nanos, ' '),
                (_, Form::Local(zone)) => timestamp_text(local_nanos(nanos, zone), ' '),
                _ => timestamp_text(nanos, ' ') + "Z",
            };
            string(&text, form, out);
        }
        SqlType::Array(element) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            for i in 0..items.len() {
                out.push_str(if i == 0 { "" } else { ", " });
                write(items.as_ref(), &element.ty, i, form, out);
            }
            out.push(']');
        }
        SqlType::Map(key, element) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            out.push('{');
            for i in 0..entries.len() {
                out.push_str(if i == 0 { "" } else { ", " });
                if form == Form::Json {
                    let mut text = String::new();
                    write(keys.as_ref(), key, i, Form::Text, &mut text);
                    string(&text, form, out);
                    out.push_str(": ");
                } else {
                    write(keys.as_ref(), key, i, form, out);
                    out.push('=');
                }
                write(values.as_ref(), &element.ty, i, form, out);
            }
            out.push('}');
        }
        SqlType::Row(columns) => {
            let fields = array.as_struct();
            out.push(if form == Form::Json { '{' } else { '(' });
            for (i, column) in columns.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                if form == Form::Json {
                    string(&column.name, form, out);
                    out.push_str(": ");
                }
                write(fields.column(i).as_ref(), &column.ty, row, form, out);
            }
            out.push(if form == Form::Json { '}' } else { ')' });
        }
        SqlType::Null | SqlType::Interval => {
            let text = arrow::util::display::array_value_to_string(array, row).unwrap_or_default();
            string(&text, form, out);
        }
    }
}

/// A string, quoted in JSON.
fn string(text: &str, form: Form, out: &mut String) {
    match form {
        Form::Text | Form::Local(_) => out.push_str(text),
        Form::Json => out.push_str(&serde_json::to_string(text).expect("a string is JSON")),
    }
}

/// The shortest digits that give the value back. JSON has no number for what is not finite.
fn float(value: f64, shortest: &str, form: Form, out: &mut String) {
    let special = if value.is_nan() {
        "NaN"
    } else if value == f64::INFINITY {
        "Infinity"
    } else if value == f64::NEG_INFINITY {
        "-Infinity"
    } else {
        out.push_str(shortest);
        return;
    };
    string(special, form, out);
}

/// Days since 1970-01-01 as `2026-01-02`.
pub fn date_text(days: i64) -> String {
    let (year, month, day) = civil_of_days(days);
    let sign = if year < 0 { "-" } else { "" };
    format!("{sign}{:04}-{month:02}-{day:02}", year.abs())
}

/// `HH:MM:SS`, and a fraction without zeros at its end.
pub fn time_text(nanos: i64) -> String {
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!("{fraction:09}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text
}

/// What the clock of a zone shows at a point in time, both as nanoseconds since 1970.
fn local_nanos(nanos: i128, zone: Zone) -> i128 {
    let second = Instant { seconds: nanos.div_euclid(1_000_000_000) as i64, nanos: 0 };
    nanos + i128::from(zone.offset_at(second)) * 1_000_000_000
}

/// Nanoseconds since 1970 as date, separator, time.
pub fn timestamp_text(nanos: i128, separator: char) -> String {
    let days = nanos.div_euclid(NANOS_PER_DAY) as i64;
    format!("{}{separator}{}", date_text(days), time_text(nanos.rem_euclid(NANOS_PER_DAY) as i64))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;
    use thalweg_session::core::types::ElementType;

    use super::*;

    fn text(array: &dyn Array, ty: &SqlType, row: usize, form: Form) -> String {
        let mut out = String::new();
        write(array, ty, row, form, &mut out);
        out
    }

    #[test]
    fn floats_are_shortest_and_always_floats() {
        let a = Float64Array::from(vec![1.0, 0.1, 1e300, f64::NAN]);
        let texts: Vec<String> = (0..4).map(|i| text(&a, &SqlType::Double, i, Form::Text)).collect();
        assert_eq!(texts, ["1.0", "0.1", "1e300", "NaN"]);
        assert_eq!(text(&a, &SqlType::Double, 3, Form::Json), "\"NaN\"");
    }

    #[test]
    fn nested_values_are_json_in_json() {
        let a = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]);
        let ty = SqlType::Array(Box::new(ElementType { ty: SqlType::Int, nullable: true }));
        assert_eq!(text(&a, &ty, 0, Form::Text), "[1, NULL]");
        assert_eq!(text(&a, &ty, 0, Form::Json), "[1, null]");
        let s: Arc<dyn Array> = Arc::new(StringArray::from(vec!["a\"b"]));
        assert_eq!(text(s.as_ref(), &SqlType::STRING, 0, Form::Json), r#""a\"b""#);
    }

    #[test]
    fn a_point_in_time_is_shown_as_the_clock_of_the_zone() {
        let a = arrow::array::TimestampMillisecondArray::from(vec![0, 1_700_000_000_500]).with_timezone("UTC");
        let shown = |row, form| text(&a, &SqlType::TimestampLtz(3), row, form);
        let zone = |name| Form::Local(Zone::parse(name).unwrap());
        assert_eq!(shown(0, Form::Text), "1970-01-01 00:00:00Z");
        assert_eq!(shown(0, zone("UTC")), "1970-01-01 00:00:00");
        assert_eq!(shown(1, zone("Asia/Kolkata")), "2023-11-15 03:43:20.5");
        assert_eq!(shown(0, zone("America/New_York")), "1969-12-31 19:00:00");
    }

    #[test]
    fn timestamps_show_seconds_and_no_empty_digits() {
        assert_eq!(timestamp_text(0, ' '), "1970-01-01 00:00:00");
        assert_eq!(timestamp_text(-1_500_000_000, ' '), "1969-12-31 23:59:58.5");
    }
}
