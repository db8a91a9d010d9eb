//! A value as Java prints it (and therefore Flink's `print`): `2026-01-02T03:04`, `[1, 2]`, `{a=1}`, `+I[1, x]`.

use std::fmt::Write;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use arrow::datatypes::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType,
};
use thalweg_core::SqlType;

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// Appends one value; `array` lies as `ty.to_arrow()`.
pub fn write(array: &dyn Array, ty: &SqlType, row: usize, out: &mut String) {
    if array.is_null(row) || *ty == SqlType::Null {
        out.push_str("null");
        return;
    }
    macro_rules! put {
        ($($arg:tt)*) => { write!(out, $($arg)*).expect("writing to a String cannot fail") };
    }
    match ty {
        SqlType::Null | SqlType::Interval => put!("?"),
        SqlType::Boolean => put!("{}", array.as_boolean().value(row)),
        SqlType::TinyInt => put!("{}", array.as_primitive::<Int8Type>().value(row)),
        SqlType::SmallInt => put!("{}", array.as_primitive::<Int16Type>().value(row)),
        SqlType::Int => put!("{}", array.as_primitive::<Int32Type>().value(row)),
        SqlType::BigInt => put!("{}", array.as_primitive::<Int64Type>().value(row)),
        SqlType::Float => {
            let v = array.as_primitive::<Float32Type>().value(row);
            float(f64::from(v), format!("{v}"), format!("{v:E}"), out);
        }
        SqlType::Double => {
            let v = array.as_primitive::<Float64Type>().value(row);
            float(v, format!("{v}"), format!("{v:E}"), out);
        }
        SqlType::Decimal { precision, .. } if *precision <= 38 => {
            out.push_str(&array.as_primitive::<Decimal128Type>().value_as_string(row));
        }
        SqlType::Decimal { .. } => out.push_str(&array.as_primitive::<Decimal256Type>().value_as_string(row)),
        SqlType::Char(_) | SqlType::VarChar(_) => out.push_str(array.as_string::<i32>().value(row)),
        SqlType::Binary(_) | SqlType::VarBinary(_) => {
            let bytes = array.as_binary::<i32>().value(row);
            list(bytes.iter(), out, |b, out| write!(out, "{}", **b as i8).expect("writing to a String cannot fail"));
        }
        SqlType::Date => date(i64::from(array.as_primitive::<Date32Type>().value(row)), out),
        SqlType::Time(_) => {
            let nanos = match array.data_type() {
                DataType::Time64(TimeUnit::Microsecond) => {
                    array.as_primitive::<Time64MicrosecondType>().value(row) * 1000
                }
                _ => array.as_primitive::<Time64NanosecondType>().value(row),
            };
            time(nanos, out);
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
            let is_instant = matches!(ty, SqlType::TimestampLtz(_));
            date(nanos.div_euclid(NANOS_PER_DAY) as i64, out);
            out.push('T');
            let of_day = nanos.rem_euclid(NANOS_PER_DAY) as i64;
            time(of_day, out);
            if is_instant {
                // An Instant always shows its seconds, a LocalDateTime only if it has any.
                out.push_str(if of_day % 60_000_000_000 == 0 { ":00Z" } else { "Z" });
            }
        }
        SqlType::Array(element) => {
            let items = array.as_list::<i32>().value(row);
            list(0..items.len(), out, |i, out| write_one(items.as_ref(), &element.ty, *i, out));
        }
        SqlType::Map(key, element) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            out.push('{');
            for i in 0..entries.len() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_one(keys.as_ref(), key, i, out);
                out.push('=');
                write_one(values.as_ref(), &element.ty, i, out);
            }
            out.push('}');
        }
        SqlType::Row(columns) => {
            let fields = array.as_struct();
            out.push_str("+I[");
            for (i, column) in columns.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_one(fields.column(i).as_ref(), &column.ty, row, out);
            }
            out.push(']');
        }
    }
}

fn write_one(array: &dyn Array, ty: &SqlType, row: usize, out: &mut String) {
    write(array, ty, row, out);
}

fn list<T>(items: impl Iterator<Item = T>, out: &mut String, mut one: impl FnMut(&T, &mut String)) {
    out.push('[');
    for (i, item) in items.enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        one(&item, out);
    }
    out.push(']');
}

/// Java's `Double.toString`: plain from 1e-3 to below 1e7, else with an exponent; always with a point.
fn float(value: f64, plain: String, scientific: String, out: &mut String) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        out.push_str(&plain);
        if !plain.contains('.') {
            out.push_str(".0");
        }
    } else {
        let (digits, exponent) = scientific.split_once('E').unwrap_or((&scientific, "0"));
        out.push_str(digits);
        if !digits.contains('.') {
            out.push_str(".0");
        }
        out.push('E');
        out.push_str(exponent);
    }
}

/// Days since 1970-01-01 as `2026-01-02` (proleptic Gregorian; algorithm of H. Hinnant).
fn date(days: i64, out: &mut String) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let sign = if year > 9999 {
        "+"
    } else if year < 0 {
        "-"
    } else {
        ""
    };
    write!(out, "{sign}{:04}-{month:02}-{:02}", year.abs(), doy - (153 * mp + 2) / 5 + 1)
        .expect("writing to a String cannot fail");
}

/// Java's `LocalTime.toString`: seconds only if there are any, fractions in groups of three digits.
fn time(nanos: i64, out: &mut String) {
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let mut put = |text: String| out.push_str(&text);
    put(format!("{:02}:{:02}", seconds / 3600, seconds / 60 % 60));
    if seconds % 60 != 0 || fraction != 0 {
        put(format!(":{:02}", seconds % 60));
    }
    if fraction == 0 {
    } else if fraction % 1_000_000 == 0 {
        put(format!(".{:03}", fraction / 1_000_000));
    } else if fraction % 1000 == 0 {
        put(format!(".{:06}", fraction / 1000));
    } else {
        put(format!(".{fraction:09}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, Decimal128Array, Float64Array, TimestampMicrosecondArray, TimestampMillisecondArray,
    };

    fn shown(array: &dyn Array, ty: &SqlType) -> String {
        let mut out = String::new();
        for row in 0..array.len() {
            if row > 0 {
                out.push(' ');
            }
            write(array, ty, row, &mut out);
        }
        out
    }

    #[test]
    fn values_print_as_in_java() {
        let doubles = Float64Array::from(vec![1.0, 0.1, 1e7, 1.5e-4, -0.0, f64::NAN, f64::NEG_INFINITY]);
        assert_eq!(shown(&doubles, &SqlType::Double), "1.0 0.1 1.0E7 1.5E-4 -0.0 NaN -Infinity");
        let times = TimestampMillisecondArray::from(vec![0, 1_500, -1, 253_402_300_800_000]);
        assert_eq!(
            shown(&times, &SqlType::Timestamp(3)),
            "1970-01-01T00:00 1970-01-01T00:00:01.500 1969-12-31T23:59:59.999 +10000-01-01T00:00"
        );
        let instants = TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("UTC");
        assert_eq!(shown(&instants, &SqlType::TimestampLtz(6)), "1970-01-01T00:00:00Z 1970-01-01T00:00:00.000001Z");
        let decimal = Decimal128Array::from(vec![1230, -5]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(shown(&decimal, &SqlType::Decimal { precision: 10, scale: 2 }), "12.30 -0.05");
        let bytes = BinaryArray::from_vec(vec![&[1u8, 255][..]]);
        assert_eq!(shown(&bytes, &SqlType::BYTES), "[1, -1]");
    }
}
