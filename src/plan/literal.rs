//! Literals of the graph ↔ DataFusion's scalar values, and casts that are done at planning.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use thalweg_core::{Error, SqlType};
use thalweg_graph::{Expr, Literal, LiteralValue};

pub(crate) fn null(ty: SqlType) -> Expr {
    Expr::Literal(Literal { ty, value: LiteralValue::Null })
}

pub(crate) fn boolean(value: bool) -> Expr {
    Expr::Literal(Literal { ty: SqlType::Boolean, value: LiteralValue::Boolean(value) })
}

pub(crate) fn string(value: impl Into<String>) -> Expr {
    Expr::Literal(Literal { ty: SqlType::STRING, value: LiteralValue::String(value.into()) })
}

pub(crate) fn integer(value: i64, ty: SqlType) -> Expr {
    Expr::Literal(Literal { ty, value: LiteralValue::Integer(value) })
}

/// The value of an integer literal.
pub(crate) fn integer_of(e: &Expr) -> Option<i64> {
    match e {
        Expr::Literal(Literal { ty, value: LiteralValue::Integer(i) }) if ty.is_integer() => Some(*i),
        _ => None,
    }
}

/// The value of whole numbers that are added, subtracted and multiplied: `10 + 1`.
pub(crate) fn integer_value(e: &Expr) -> Option<i64> {
    match e {
        Expr::Call { function, args, ty } if ty.is_integer() && args.len() == 2 => {
            let (l, r) = (integer_value(&args[0])?, integer_value(&args[1])?);
            match function.as_str() {
                "+" => l.checked_add(r),
                "-" => l.checked_sub(r),
                "*" => l.checked_mul(r),
                _ => None,
            }
        }
        Expr::Cast { expr, ty, .. } if ty.is_integer() => integer_value(expr),
        e => integer_of(e),
    }
}

/// The literal NULL without a type, as an INT.
pub(crate) fn typed(e: Expr) -> Expr {
    if is_null(&e) && *e.ty() == SqlType::Null { null(SqlType::Int) } else { e }
}

pub(crate) fn is_null(e: &Expr) -> bool {
    matches!(e, Expr::Literal(Literal { value: LiteralValue::Null, .. }))
}

/// An integer with the smallest of INT, BIGINT and DECIMAL that holds it; a number with a point is DECIMAL, with an
/// exponent DOUBLE. `None`: not a number, more than 76 digits, or beyond DOUBLE.
pub(crate) fn number(text: &str) -> Option<Literal> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if unsigned.contains(['e', 'E']) {
        let value = text.parse::<f64>().ok().filter(|v| v.is_finite())?;
        return Some(Literal { ty: SqlType::Double, value: LiteralValue::Float(value.to_bits()) });
    }
    if !unsigned.contains('.')
        && let Ok(i) = text.parse::<i64>()
    {
        let ty = if i32::try_from(i).is_ok() { SqlType::Int } else { SqlType::BigInt };
        return Some(Literal { ty, value: LiteralValue::Integer(i) });
    }
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let scale = fraction.len();
    let digits = digits.trim_start_matches('0');
    let precision = digits.len().max(scale).max(1);
    if precision > 76 {
        return None;
    }
    let sign = if text.starts_with('-') && !digits.is_empty() { "-" } else { "" };
    let digits = if digits.is_empty() { "0" } else { digits };
    Some(Literal {
        ty: SqlType::Decimal { precision: precision as u8, scale: scale as i8 },
        value: LiteralValue::Decimal(format!("{sign}{digits}")),
    })
}

/// The literal as DataFusion's value; `None` for nested types.
pub(crate) fn to_scalar(l: &Literal) -> Option<ScalarValue> {
    let arrow = l.ty.to_arrow();
    Some(match &l.value {
        LiteralValue::Null => ScalarValue::try_from(&arrow).ok()?,
        LiteralValue::Boolean(b) => ScalarValue::Boolean(Some(*b)),
        LiteralValue::Integer(i) => {
            let scalar = |s: Option<ScalarValue>| s;
            scalar(match &arrow {
                DataType::Int8 => Some(ScalarValue::Int8(Some(i8::try_from(*i).ok()?))),
                DataType::Int16 => Some(ScalarValue::Int16(Some(i16::try_from(*i).ok()?))),
                DataType::Int32 => Some(ScalarValue::Int32(Some(i32::try_from(*i).ok()?))),
                DataType::Int64 => Some(ScalarValue::Int64(Some(*i))),
                DataType::Date32 => Some(ScalarValue::Date32(Some(i32::try_from(*i).ok()?))),
                DataType::Time64(arrow::datatypes::TimeUnit::Microsecond) => {
                    Some(ScalarValue::Time64Microsecond(Some(*i)))
                }
                DataType::Time64(_) => Some(ScalarValue::Time64Nanosecond(Some(*i))),
                DataType::Timestamp(unit, zone) => {
                    use arrow::datatypes::TimeUnit::*;
                    Some(match unit {
                        Second => ScalarValue::TimestampSecond(Some(*i), zone.clone()),
                        Millisecond => ScalarValue::TimestampMillisecond(Some(*i), zone.clone()),
                        Microsecond => ScalarValue::TimestampMicrosecond(Some(*i), zone.clone()),
                        Nanosecond => ScalarValue::TimestampNanosecond(Some(*i), zone.clone()),
                    })
                }
                _ => None,
            })?
        }
        LiteralValue::Float(bits) => match arrow {
            DataType::Float32 => ScalarValue::Float32(Some(f64::from_bits(*bits) as f32)),
            _ => ScalarValue::Float64(Some(f64::from_bits(*bits))),
        },
        LiteralValue::Decimal(d) => match arrow {
            DataType::Decimal128(p, s) => ScalarValue::Decimal128(Some(d.parse().ok()?), p, s),
            DataType::Decimal256(p, s) => ScalarValue::Decimal256(Some(arrow::datatypes::i256::from_string(d)?), p, s),
            _ => return None,
        },
        LiteralValue::String(s) => ScalarValue::Utf8(Some(s.clone())),
        LiteralValue::Bytes(b) => ScalarValue::Binary(Some(b.clone())),
        LiteralValue::Interval { months, days, nanos } => {
            ScalarValue::IntervalMonthDayNano(Some(arrow::datatypes::IntervalMonthDayNano::new(*months, *days, *nanos)))
        }
        LiteralValue::List(_) => return None,
    })
}

/// DataFusion's value as a literal of a type with the same Arrow layout; `None` for nested types.
fn from_scalar(value: &ScalarValue, ty: &SqlType) -> Option<Literal> {
    use ScalarValue::*;
    if value.is_null() {
        return Some(Literal { ty: ty.clone(), value: LiteralValue::Null });
    }
    let value = match value {
        Boolean(Some(b)) => LiteralValue::Boolean(*b),
        Int8(Some(i)) => LiteralValue::Integer((*i).into()),
        Int16(Some(i)) => LiteralValue::Integer((*i).into()),
        Int32(Some(i)) | Date32(Some(i)) => LiteralValue::Integer((*i).into()),
        Int64(Some(i))
        | Time64Microsecond(Some(i))
        | Time64Nanosecond(Some(i))
        | TimestampMillisecond(Some(i), _)
        | TimestampMicrosecond(Some(i), _)
        | TimestampNanosecond(Some(i), _) => LiteralValue::Integer(*i),
        Float32(Some(f)) => LiteralValue::Float(f64::from(*f).to_bits()),
        Float64(Some(f)) => LiteralValue::Float(f.to_bits()),
        Decimal128(Some(d), ..) => LiteralValue::Decimal(d.to_string()),
        Decimal256(Some(d), ..) => LiteralValue::Decimal(d.to_string()),
        Utf8(Some(s)) => LiteralValue::String(s.clone()),
        Binary(Some(b)) => LiteralValue::Bytes(b.clone()),
        _ => return None,
    };
    Some(Literal { ty: ty.clone(), value })
}

/// A literal cast at planning. `None`: left to the running engine, where it fails for the rows that get there.
pub(crate) fn cast(l: &Literal, ty: &SqlType) -> Option<Literal> {
    if l.value == LiteralValue::Null {
        return Some(Literal { ty: ty.clone(), value: LiteralValue::Null });
    }
    let array = to_scalar(l)?.to_array_of_size(1).ok()?;
    let folded = thalweg_functions::cast::cast(&array, &l.ty, ty, false).ok()?;
    from_scalar(&ScalarValue::try_from_array(&folded, 0).ok()?, ty).filter(|l| l.value != LiteralValue::Null)
}

/// Why a literal does not fit where it is stored, if it does not.
pub(crate) fn error_of(stored: &Expr) -> Option<Error> {
    match stored {
        Expr::Cast { expr, ty, safe: false } => {
            let Expr::Literal(l) = &**expr else { return None };
            let array = to_scalar(l)?.to_array_of_size(1).ok()?;
            thalweg_functions::cast::cast(&array, &l.ty, ty, false).err()
        }
        Expr::Call { function, args, .. } if function == "check_length" => match &args[..] {
            [Expr::Literal(Literal { value: LiteralValue::String(s), .. }), n] => {
                let n = integer_of(n)?;
                (s.chars().count() as i64 > n).then(|| Error::row(format!("'{s}' is longer than {n} characters")))
            }
            _ => None,
        },
        Expr::Call { function, args, .. } if function == "check_not_null" => error_of(&args[0]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(precision: u8, scale: i8, digits: &str) -> Literal {
        Literal { ty: SqlType::Decimal { precision, scale }, value: LiteralValue::Decimal(digits.to_owned()) }
    }

    #[test]
    fn a_number_has_the_smallest_type_that_holds_it() {
        assert_eq!(number("7").unwrap().ty, SqlType::Int);
        assert_eq!(number("2147483648").unwrap().ty, SqlType::BigInt);
        assert_eq!(number("9223372036854775808").unwrap(), decimal(19, 0, "9223372036854775808"));
        assert_eq!(number("0.50").unwrap(), decimal(2, 2, "50"));
        assert_eq!(number("-12.5").unwrap(), decimal(3, 1, "-125"));
        assert_eq!(number("1e3").unwrap().ty, SqlType::Double);
        assert_eq!(number(&"9".repeat(77)), None);
        assert_eq!((number("1e400"), number("-1e400")), (None, None));
    }

    #[test]
    fn casts_of_literals_are_exact_or_left_to_run() {
        let five = number("5").unwrap();
        assert_eq!(cast(&five, &SqlType::Decimal { precision: 10, scale: 2 }), Some(decimal(10, 2, "500")));
        assert_eq!(cast(&number("300").unwrap(), &SqlType::TinyInt), None);
        let date = Literal { ty: SqlType::STRING, value: LiteralValue::String("2020-01-02".into()) };
        assert_eq!(cast(&date, &SqlType::Date).unwrap().value, LiteralValue::Integer(18263));
        let bad = Literal { ty: SqlType::STRING, value: LiteralValue::String("soon".into()) };
        assert_eq!(cast(&bad, &SqlType::Date), None);
    }
}
