//! Values as text: what CAST to STRING gives, and what messages show.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder, new_null_array};
use arrow::compute::CastOptions;
use arrow::datatypes::*;
use thalweg_core::{Result, SqlType};

use super::Instants;
use crate::{calendar, decimal};

/// Longest piece of a bad value that an error shows, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// A cut-down value in quotes, for messages.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("'{}…'", &text[..at]),
        None => format!("'{text}'"),
    }
}

/// A double as Java prints it: `1.0`, `1.0E10`, `NaN`, `Infinity`.
pub fn write_double(out: &mut impl Write, v: f64) -> std::fmt::Result {
    write_float(
        out,
        v.is_nan(),
        v.is_infinite(),
        v.is_sign_negative(),
        v == 0.0,
        v.abs(),
        || format!("{:e}", v.abs()),
        || v.abs().to_string(),
    )
}

/// A FLOAT as Java prints it.
pub fn write_single(out: &mut impl Write, v: f32) -> std::fmt::Result {
    write_float(
        out,
        v.is_nan(),
        v.is_infinite(),
        v.is_sign_negative(),
        v == 0.0,
        f64::from(v.abs()),
        || format!("{:e}", v.abs()),
        || v.abs().to_string(),
    )
}

#[expect(clippy::too_many_arguments, reason = "what differs between the two widths of floats")]
fn write_float(
    out: &mut impl Write,
    nan: bool,
    infinite: bool,
    negative: bool,
    zero: bool,
    size: f64,
    scientific: impl Fn() -> String,
    plain: impl Fn() -> String,
) -> std::fmt::Result {
    if nan {
        return out.write_str("NaN");
    }
    if negative {
        out.write_char('-')?;
    }
    if infinite {
        return out.write_str("Infinity");
    }
    if zero {
        return out.write_str("0.0");
    }
    if (1e-3..1e7).contains(&size) {
        let text = plain();
        out.write_str(&text)?;
        return if text.contains('.') { Ok(()) } else { out.write_str(".0") };
    }
    let text = scientific();
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    out.write_str(digits)?;
    if !digits.contains('.') {
        out.write_str(".0")?;
    }
    write!(out, "E{exponent}")
}

/// The text of every value, as CAST to STRING gives it.
///
/// # Errors
/// A type that has no text.
pub fn to_text(array: &ArrayRef, ty: &SqlType) -> Result<ArrayRef> {
    use SqlType::*;
    let mut out = StringBuilder::with_capacity(array.len(), array.len() * 8);
    macro_rules! each {
        ($array:expr, |$v:ident| $write:expr) => {
            for i in 0..array.len() {
                if array.is_null(i) {
                    out.append_null();
                } else {
                    let $v = $array.value(i);
                    // Writing into a builder cannot fail.
                    let _: std::fmt::Result = $write;
                    out.append_value("");
                }
            }
        };
    }
    match ty {
        Char(_) | VarChar(_) => return Ok(array.clone()),
        Null => return Ok(new_null_array(&DataType::Utf8, array.len())),
        Boolean => {
            let a = array.as_boolean();
            each!(a, |v| out.write_str(if v { "TRUE" } else { "FALSE" }));
        }
        TinyInt | SmallInt | Int | BigInt => return Ok(arrow::compute::cast(array, &DataType::Utf8)?),
        Float => {
            let a = array.as_primitive::<Float32Type>();
            each!(a, |v| write_single(&mut out, v));
        }
        Double => {
            let a = array.as_primitive::<Float64Type>();
            each!(a, |v| write_double(&mut out, v));
        }
        Decimal { scale, precision } if *precision <= 38 => {
            let a = array.as_primitive::<Decimal128Type>();
            each!(a, |v| decimal::write(&mut out, i256::from_i128(v), *scale));
        }
        Decimal { scale, .. } => {
            let a = array.as_primitive::<Decimal256Type>();
            each!(a, |v| decimal::write(&mut out, v, *scale));
        }
        Binary(_) | VarBinary(_) => {
            let a = array.as_binary::<i32>();
            each!(a, |v| out.write_str(&String::from_utf8_lossy(v)));
        }
        Date => {
            let a = array.as_primitive::<Date32Type>();
            each!(a, |v| calendar::write_date(&mut out, i64::from(v)));
        }
        Time(p) => {
            let instants = Instants::new(array)?;
            for i in 0..array.len() {
                match instants.get(i) {
                    None => out.append_null(),
                    Some(at) => {
                        let _ = calendar::write_time(&mut out, at.nanos_of_day(), *p);
                        out.append_value("");
                    }
                }
            }
        }
        Timestamp(p) | TimestampLtz(p) => {
            let instants = Instants::new(array)?;
            for i in 0..array.len() {
                match instants.get(i) {
                    None => out.append_null(),
                    Some(at) => {
                        let _ = calendar::write_timestamp(&mut out, at, *p);
                        out.append_value("");
                    }
                }
            }
        }
        Interval => {
            let options = CastOptions::default();
            return Ok(arrow::compute::cast_with_options(array, &DataType::Utf8, &options)?);
        }
        Array(e) => {
            let list = array.as_list::<i32>();
            let texts = to_text(list.values(), &e.ty)?;
            let texts = texts.as_string::<i32>();
            for i in 0..array.len() {
                if array.is_null(i) {
                    out.append_null();
                    continue;
                }
                let (from, to) = (list.value_offsets()[i] as usize, list.value_offsets()[i + 1] as usize);
                let _ = out.write_char('[');
                for j in from..to {
                    let _ = write!(out, "{}{}", if j > from { ", " } else { "" }, text_at(texts, j));
                }
                let _ = out.write_char(']');
                out.append_value("");
            }
        }
        Map(k, v) => {
            let map = array.as_map();
            let (keys, values) = (to_text(map.keys(), k)?, to_text(map.values(), &v.ty)?);
            let (keys, values) = (keys.as_string::<i32>(), values.as_string::<i32>());
            for i in 0..array.len() {
                if array.is_null(i) {
                    out.append_null();
                    continue;
                }
                let (from, to) = (map.value_offsets()[i] as usize, map.value_offsets()[i + 1] as usize);
                let _ = out.write_char('{');
                for j in from..to {
                    let comma = if j > from { ", " } else { "" };
                    let _ = write!(out, "{comma}{}={}", text_at(keys, j), text_at(values, j));
                }
                let _ = out.write_char('}');
                out.append_value("");
            }
        }
        Row(columns) => {
            let row = array.as_struct();
            let texts =
                columns.iter().zip(row.columns()).map(|(c, a)| to_text(a, &c.ty)).collect::<Result<Vec<_>>>()?;
            for i in 0..array.len() {
                if array.is_null(i) {
                    out.append_null();
                    continue;
                }
                let _ = out.write_char('(');
                for (n, t) in texts.iter().enumerate() {
                    let _ = write!(out, "{}{}", if n > 0 { ", " } else { "" }, text_at(t.as_string::<i32>(), i));
                }
                let _ = out.write_char(')');
                out.append_value("");
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

fn text_at(texts: &StringArray, i: usize) -> &str {
    if texts.is_null(i) { "NULL" } else { texts.value(i) }
}

#[cfg(test)]
mod tests {
    use arrow::array::ListArray;

    use super::*;

    #[test]
    fn doubles_print_as_in_java() {
        for (v, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (1234567.0, "1234567.0"),
            (1e7, "1.0E7"),
            (1.5e-5, "1.5E-5"),
            (0.001, "0.001"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut s = String::new();
            write_double(&mut s, v).unwrap();
            assert_eq!(s, text);
        }
    }

    #[test]
    fn nested_values_have_a_text() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let list: ArrayRef = Arc::new(list);
        let ty = SqlType::from_arrow(list.data_type()).unwrap();
        let text = to_text(&list, &ty).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "[1, NULL]");
        assert!(text.is_null(1));
    }
}
