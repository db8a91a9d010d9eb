//! CAST between SQL types over whole columns, with Flink's meaning and checked: what does not fit is an error (CAST) or
//! NULL (TRY_CAST), never another value. A cast to CHAR(n), VARCHAR(n), BINARY(n), VARBINARY(n) cuts to n, to a lower
//! precision of time cuts off digits, to a smaller scale rounds half up, from a fraction to an integer cuts off the
//! fraction.

mod instants;
mod text;

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, ListArray,
    MapArray, PrimitiveArray, PrimitiveBuilder, StringArray, StringBuilder, StructArray, new_null_array,
};
use arrow::datatypes::*;
use num_traits::ToPrimitive;
use thalweg_core::types::LENGTH_MAX;
use thalweg_core::{Error, Result, SqlType};

use crate::calendar::{self, Instant};
use crate::decimal;
use crate::types::as_decimal;

pub use self::instants::Instants;
pub use self::text::{shown, to_text, write_double, write_single};

/// Whether there is a cast between the types.
pub fn is_supported(from: &SqlType, to: &SqlType) -> bool {
    use SqlType::*;
    if from == to || *from == Null {
        return true;
    }
    match (from, to) {
        (f, t) if f.is_string() && t.is_string() => true,
        (f, t) if f.is_string() => !matches!(t, Null | Interval | Array(_) | Map(..) | Row(_)),
        (Array(f), Array(t)) => is_supported(&f.ty, &t.ty),
        (Map(fk, fv), Map(tk, tv)) => is_supported(fk, tk) && is_supported(&fv.ty, &tv.ty),
        (Row(f), Row(t)) => f.len() == t.len() && f.iter().zip(t).all(|(f, t)| is_supported(&f.ty, &t.ty)),
        (Array(f), t) if t.is_string() => is_supported(&f.ty, &SqlType::STRING),
        (Map(k, v), t) if t.is_string() => is_supported(k, &SqlType::STRING) && is_supported(&v.ty, &SqlType::STRING),
        (Row(f), t) if t.is_string() => f.iter().all(|f| is_supported(&f.ty, &SqlType::STRING)),
        (_, t) if t.is_string() => true,
        (f, t) if f.is_numeric() && t.is_numeric() => true,
        (Boolean, t) => t.is_numeric(),
        (f, Boolean) => f.is_numeric(),
        (Binary(_) | VarBinary(_), Binary(_) | VarBinary(_)) => true,
        (Date, Timestamp(_) | TimestampLtz(_)) => true,
        (Time(_), Time(_) | Timestamp(_) | TimestampLtz(_)) => true,
        (Timestamp(_) | TimestampLtz(_), Date | Time(_) | Timestamp(_) | TimestampLtz(_)) => true,
        (Interval, Interval) => true,
        _ => false,
    }
}

/// Whether the cast can fail for some value.
pub fn is_fallible(from: &SqlType, to: &SqlType) -> bool {
    use SqlType::*;
    if from == to || *from == Null {
        return false;
    }
    match (from, to) {
        (_, Char(_) | VarChar(_)) => false,
        (Binary(_) | VarBinary(_), _) => false,
        (TinyInt, SmallInt | Int | BigInt) | (SmallInt, Int | BigInt) | (Int, BigInt) => false,
        (f, Float | Double) => !f.is_numeric() && *f != Boolean,
        (f, Boolean) => !f.is_numeric(),
        (Boolean, f) => !f.is_integer(),
        (f, Decimal { precision, scale }) => as_decimal(f).is_none_or(|(fp, fs)| {
            *scale < fs || i32::from(*precision) - i32::from(*scale) < i32::from(fp) - i32::from(fs)
        }),
        (Timestamp(f) | TimestampLtz(f), Timestamp(t) | TimestampLtz(t)) => *t > 6 && *f <= 6,
        (Timestamp(_) | TimestampLtz(_), Time(_)) | (Time(_), Time(_)) => false,
        _ => true,
    }
}

/// Casts a column of type `from` to `to`.
///
/// # Errors
/// `ErrorCode::Row` for the first value that does not convert, unless `safe` (then it is NULL); `ErrorCode::Type` if
/// there is no such cast.
pub fn cast(array: &ArrayRef, from: &SqlType, to: &SqlType, safe: bool) -> Result<ArrayRef> {
    use SqlType::*;
    if from == to {
        return Ok(array.clone());
    }
    if *from == Null {
        return Ok(new_null_array(&to.to_arrow(), array.len()));
    }
    if !is_supported(from, to) {
        return Err(unsupported(from, to));
    }
    let c = Cast { from, to, safe };
    match (from, to) {
        (f, Char(_) | VarChar(_)) => {
            let text = if f.is_string() { array.clone() } else { to_text(array, from)? };
            Ok(fit_text(text, from, to))
        }
        (Char(_) | VarChar(_), _) => c.from_text(array.as_string()),
        (Binary(_) | VarBinary(_), _) => Ok(fit_bytes(array, to)),
        (Boolean, _) => {
            let ints: ArrayRef =
                Arc::new(array.as_boolean().iter().map(|b| b.map(i8::from)).collect::<PrimitiveArray<Int8Type>>());
            cast(&ints, &TinyInt, to, safe)
        }
        (f, t) if f.is_numeric() => match t {
            Boolean => to_boolean(array),
            _ => c.numeric(array),
        },
        (Array(f), Array(t)) => {
            let DataType::List(field) = to.to_arrow() else { return Err(unsupported(from, to)) };
            let list = array.as_list::<i32>();
            let values = cast(list.values(), &f.ty, &t.ty, safe)?;
            Ok(Arc::new(ListArray::try_new(field, list.offsets().clone(), values, list.nulls().cloned())?))
        }
        (Map(fk, fv), Map(tk, tv)) => {
            let DataType::Map(field, sorted) = to.to_arrow() else { return Err(unsupported(from, to)) };
            let DataType::Struct(fields) = field.data_type() else { return Err(unsupported(from, to)) };
            let map = array.as_map();
            let keys = cast(map.keys(), fk, tk, safe)?;
            let values = cast(map.values(), &fv.ty, &tv.ty, safe)?;
            let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
            Ok(Arc::new(MapArray::try_new(field, map.offsets().clone(), entries, map.nulls().cloned(), sorted)?))
        }
        (Row(f), Row(t)) => {
            let DataType::Struct(fields) = to.to_arrow() else { return Err(unsupported(from, to)) };
            let row = array.as_struct();
            let columns = f.iter().zip(t).zip(row.columns());
            let columns = columns.map(|((f, t), a)| cast(a, &f.ty, &t.ty, safe)).collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new(fields, columns, row.nulls().cloned())?))
        }
        _ => c.temporal(array),
    }
}

fn unsupported(from: &SqlType, to: &SqlType) -> Error {
    let e = Error::type_(format!("there is no CAST from {from} to {to}"));
    match (from, to) {
        (f, SqlType::Timestamp(_) | SqlType::TimestampLtz(_)) if f.is_numeric() => {
            e.note("use TO_TIMESTAMP_LTZ(number, 0) for seconds or TO_TIMESTAMP_LTZ(number, 3) for milliseconds")
        }
        (SqlType::Timestamp(_) | SqlType::TimestampLtz(_), t) if t.is_numeric() => {
            e.note("use EXTRACT(EPOCH FROM x) for seconds")
        }
        _ => e,
    }
}

struct Cast<'a> {
    from: &'a SqlType,
    to: &'a SqlType,
    safe: bool,
}

impl Cast<'_> {
    /// The value of a row did not convert: NULL, or the error.
    fn failed<T>(&self, value: &dyn std::fmt::Display, out_of_range: bool) -> Result<Option<T>> {
        if self.safe {
            return Ok(None);
        }
        Err(Error::row(if out_of_range {
            format!("{value} is out of the range of {}", self.to)
        } else {
            format!("{} is not a value of type {}", shown(&value.to_string()), self.to)
        }))
    }

    fn text_to<T: ArrowPrimitiveType>(
        &self,
        array: &StringArray,
        parse: impl Fn(&str) -> Option<T::Native>,
    ) -> Result<ArrayRef> {
        let mut out = PrimitiveBuilder::<T>::with_capacity(array.len());
        for s in array {
            out.append_option(match s {
                None => None,
                Some(s) => match parse(s) {
                    None => self.failed(&s, false)?,
                    some => some,
                },
            });
        }
        Ok(Arc::new(out.finish().with_data_type(self.to.to_arrow())))
    }

    fn from_text(&self, array: &StringArray) -> Result<ArrayRef> {
        use SqlType::*;
        match self.to {
            Boolean => {
                let mut out = BooleanBuilder::with_capacity(array.len());
                for s in array {
                    out.append_option(match s {
                        None => None,
                        Some(s) => match parse_boolean(s) {
                            None => self.failed(&s, false)?,
                            some => some,
                        },
                    });
                }
                Ok(Arc::new(out.finish()))
            }
            TinyInt => self.text_to::<Int8Type>(array, |s| i8::try_from(parse_integer(s)?).ok()),
            SmallInt => self.text_to::<Int16Type>(array, |s| i16::try_from(parse_integer(s)?).ok()),
            Int => self.text_to::<Int32Type>(array, |s| i32::try_from(parse_integer(s)?).ok()),
            BigInt => self.text_to::<Int64Type>(array, parse_integer),
            Float => self.text_to::<Float32Type>(array, |s| s.trim().parse().ok()),
            Double => self.text_to::<Float64Type>(array, |s| s.trim().parse().ok()),
            Decimal { precision, scale } if *precision <= 38 => self.text_to::<Decimal128Type>(array, |s| {
                decimal::parse(s, *scale).filter(|v| decimal::fits(*v, *precision)).and_then(|v| v.to_i128())
            }),
            Decimal { precision, scale } => self.text_to::<Decimal256Type>(array, |s| {
                decimal::parse(s, *scale).filter(|v| decimal::fits(*v, *precision))
            }),
            Binary(_) | VarBinary(_) => {
                let bytes: BinaryArray = array.clone().into();
                Ok(fit_bytes(&(Arc::new(bytes) as ArrayRef), self.to))
            }
            Date => self.text_to::<Date32Type>(array, calendar::parse_date),
            Time(p) => {
                let per = if *p <= 6 { 1_000 } else { 1 };
                let cut = cut_of(*p, if *p <= 6 { 6 } else { 9 });
                let parse = |s: &str| calendar::parse_time(s).map(|n| n / per / cut * cut);
                if *p <= 6 {
                    self.text_to::<Time64MicrosecondType>(array, parse)
                } else {
                    self.text_to::<Time64NanosecondType>(array, parse)
                }
            }
            Timestamp(p) => self.text_to_timestamp(array, *p, calendar::parse_timestamp),
            TimestampLtz(p) => self.text_to_timestamp(array, *p, calendar::parse_timestamp_ltz),
            _ => Err(unsupported(self.from, self.to)),
        }
    }

    fn text_to_timestamp(
        &self,
        array: &StringArray,
        precision: u8,
        parse: impl Fn(&str) -> Option<Instant>,
    ) -> Result<ArrayRef> {
        let (unit, digits) = unit_of(precision);
        let cut = cut_of(precision, digits);
        let parse = |s: &str| parse(s).and_then(|at| at.to(unit)).map(|v| v.div_euclid(cut) * cut);
        match unit {
            TimeUnit::Millisecond => self.text_to::<TimestampMillisecondType>(array, parse),
            TimeUnit::Microsecond => self.text_to::<TimestampMicrosecondType>(array, parse),
            _ => self.text_to::<TimestampNanosecondType>(array, parse),
        }
    }

    /// Between numeric types.
    fn numeric(&self, array: &ArrayRef) -> Result<ArrayRef> {
        use SqlType::*;
        match (self.from, self.to) {
            (Decimal { .. }, Decimal { .. }) => self.decimal_to_decimal(array),
            (Decimal { .. }, _) => self.decimal_to_number(array),
            (Float | Double, Decimal { precision, scale }) => {
                // A FLOAT through its own shortest text, so that 0.1 stays 0.1.
                let texts: Vec<Option<i256>> = if *self.from == Float {
                    self.values(array.as_primitive::<Float32Type>(), |v| {
                        v.is_finite().then(|| decimal::parse(&format!("{v:e}"), *scale))?
                    })?
                } else {
                    self.values(array.as_primitive::<Float64Type>(), |v| decimal::from_f64(v, *scale))?
                };
                self.finish_decimal(texts, *precision)
            }
            (_, Decimal { precision, scale }) => {
                let wide = arrow::compute::cast(array, &DataType::Int64)?;
                if *precision <= 38 && *scale >= 0 {
                    let by = decimal::pow10_128(*scale as u32);
                    let ints = wide.as_primitive::<Int64Type>();
                    return self.map::<Int64Type, Decimal128Type>(ints, |v| {
                        i128::from(v).checked_mul(by).filter(|v| decimal::fits_128(*v, *precision))
                    });
                }
                let values = self.values(wide.as_primitive::<Int64Type>(), |v| {
                    decimal::rescale(i256::from_i128(i128::from(v)), 0, *scale)
                })?;
                self.finish_decimal(values, *precision)
            }
            // A wider integer or a float holds it (a float rounds).
            (TinyInt | SmallInt | Int | BigInt | Float, Double) | (TinyInt | SmallInt | Int | BigInt, Float) => {
                Ok(arrow::compute::cast(array, &self.to.to_arrow())?)
            }
            (Double, Float) => Ok(Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float32Type>(|v| v as f32))),
            (f, t) if !is_fallible(f, t) => Ok(arrow::compute::cast(array, &self.to.to_arrow())?),
            _ => match array.data_type() {
                DataType::Int8 => self.number_to_integer::<Int8Type>(array),
                DataType::Int16 => self.number_to_integer::<Int16Type>(array),
                DataType::Int32 => self.number_to_integer::<Int32Type>(array),
                DataType::Int64 => self.number_to_integer::<Int64Type>(array),
                DataType::Float32 => self.number_to_integer::<Float32Type>(array),
                DataType::Float64 => self.number_to_integer::<Float64Type>(array),
                _ => Err(unsupported(self.from, self.to)),
            },
        }
    }

    fn number_to_integer<F: ArrowPrimitiveType>(&self, array: &ArrayRef) -> Result<ArrayRef>
    where
        F::Native: ToPrimitive + std::fmt::Display,
    {
        let array = array.as_primitive::<F>();
        match self.to {
            SqlType::TinyInt => self.map::<F, Int8Type>(array, |v| v.to_i8()),
            SqlType::SmallInt => self.map::<F, Int16Type>(array, |v| v.to_i16()),
            SqlType::Int => self.map::<F, Int32Type>(array, |v| v.to_i32()),
            SqlType::BigInt => self.map::<F, Int64Type>(array, |v| v.to_i64()),
            _ => Err(unsupported(self.from, self.to)),
        }
    }

    /// One value at a time; `None` from `f` is a value that is out of range.
    fn map<F: ArrowPrimitiveType, T: ArrowPrimitiveType>(
        &self,
        array: &PrimitiveArray<F>,
        f: impl Fn(F::Native) -> Option<T::Native>,
    ) -> Result<ArrayRef>
    where
        F::Native: std::fmt::Display,
    {
        let out: PrimitiveArray<T> = if self.safe {
            array.unary_opt(f)
        } else {
            array.try_unary(|v| match f(v) {
                Some(v) => Ok(v),
                None => Err(Error::row(format!("{v} is out of the range of {}", self.to))),
            })?
        };
        Ok(Arc::new(out.with_data_type(self.to.to_arrow())))
    }

    fn values<F: ArrowPrimitiveType>(
        &self,
        array: &PrimitiveArray<F>,
        f: impl Fn(F::Native) -> Option<i256>,
    ) -> Result<Vec<Option<i256>>>
    where
        F::Native: std::fmt::Display,
    {
        array
            .iter()
            .map(|v| match v {
                None => Ok(None),
                Some(v) => match f(v) {
                    None => self.failed(&v, true),
                    some => Ok(some),
                },
            })
            .collect()
    }

    /// Checks the precision and picks the layout.
    fn finish_decimal(&self, values: Vec<Option<i256>>, precision: u8) -> Result<ArrayRef> {
        let scale = match self.to {
            SqlType::Decimal { scale, .. } => *scale,
            _ => 0,
        };
        let mut checked = Vec::with_capacity(values.len());
        for v in values {
            checked.push(match v {
                Some(v) if !decimal::fits(v, precision) => {
                    let mut text = String::new();
                    let _ = decimal::write(&mut text, v, scale);
                    self.failed(&text, true)?
                }
                v => v,
            });
        }
        Ok(if precision <= 38 {
            let narrow = checked.into_iter().map(|v| v.and_then(|v| v.to_i128()));
            Arc::new(narrow.collect::<PrimitiveArray<Decimal128Type>>().with_data_type(self.to.to_arrow()))
        } else {
            let wide: PrimitiveArray<Decimal256Type> = checked.into_iter().collect();
            Arc::new(wide.with_data_type(self.to.to_arrow()))
        })
    }

    fn decimal_to_decimal(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let (SqlType::Decimal { scale: from, .. }, SqlType::Decimal { precision, scale }) = (self.from, self.to) else {
            return Err(unsupported(self.from, self.to));
        };
        if let (DataType::Decimal128(..), true) = (array.data_type(), *precision <= 38) {
            let array = array.as_primitive::<Decimal128Type>();
            if from == scale && !is_fallible(self.from, self.to) {
                return Ok(Arc::new(array.clone().with_data_type(self.to.to_arrow())));
            }
            let convert = |v| decimal::rescale_128(v, *from, *scale).filter(|v| decimal::fits_128(*v, *precision));
            let out: PrimitiveArray<Decimal128Type> = if self.safe {
                array.unary_opt(convert)
            } else {
                array.try_unary(|v| convert(v).ok_or_else(|| self.out_of_range(i256::from_i128(v), *from)))?
            };
            return Ok(Arc::new(out.with_data_type(self.to.to_arrow())));
        }
        let values = wide_decimals(array)
            .into_iter()
            .map(|v| match v {
                None => Ok(None),
                Some(v) => match decimal::rescale(v, *from, *scale) {
                    None if self.safe => Ok(None),
                    None => Err(self.out_of_range(v, *from)),
                    some => Ok(some),
                },
            })
            .collect::<Result<Vec<_>>>()?;
        self.finish_decimal(values, *precision)
    }

    fn out_of_range(&self, v: i256, scale: i8) -> Error {
        let mut text = String::new();
        let _ = decimal::write(&mut text, v, scale);
        Error::row(format!("{text} is out of the range of {}", self.to))
    }

    fn decimal_to_number(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let SqlType::Decimal { scale, .. } = self.from else { return Err(unsupported(self.from, self.to)) };
        let values = wide_decimals(array).into_iter();
        let by = decimal::pow10((*scale).max(0) as u32);
        Ok(match self.to {
            SqlType::Float => Arc::new(
                values.map(|v| v.map(|v| decimal::to_f64(v, *scale) as f32)).collect::<PrimitiveArray<Float32Type>>(),
            ),
            SqlType::Double => {
                Arc::new(values.map(|v| v.map(|v| decimal::to_f64(v, *scale))).collect::<PrimitiveArray<Float64Type>>())
            }
            _ => {
                let (low, high) = match self.to {
                    SqlType::TinyInt => (i64::from(i8::MIN), i64::from(i8::MAX)),
                    SqlType::SmallInt => (i64::from(i16::MIN), i64::from(i16::MAX)),
                    SqlType::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
                    _ => (i64::MIN, i64::MAX),
                };
                let ints = values
                    .map(|v| match v {
                        None => Ok(None),
                        Some(v) => match v.wrapping_div(by).to_i128().and_then(|v| i64::try_from(v).ok()) {
                            Some(v) if (low..=high).contains(&v) => Ok(Some(v)),
                            _ if self.safe => Ok(None),
                            _ => Err(self.out_of_range(v, *scale)),
                        },
                    })
                    .collect::<Result<PrimitiveArray<Int64Type>>>()?;
                arrow::compute::cast(&ints, &self.to.to_arrow())?
            }
        })
    }

    /// Between DATE, TIME, TIMESTAMP and TIMESTAMP_LTZ (in UTC).
    fn temporal(&self, array: &ArrayRef) -> Result<ArrayRef> {
        use SqlType::*;
        if let (Timestamp(f) | TimestampLtz(f), Timestamp(t) | TimestampLtz(t)) = (self.from, self.to)
            && t >= f
            && unit_of(*f) == unit_of(*t)
        {
            // The same numbers under another type.
            let data = array.to_data().into_builder().data_type(self.to.to_arrow()).build()?;
            return Ok(arrow::array::make_array(data));
        }
        let instants = Instants::new(array)?;
        let mut out = PrimitiveBuilder::<Int64Type>::with_capacity(array.len());
        let target = self.to.to_arrow();
        for i in 0..array.len() {
            let Some(at) = instants.get(i) else {
                out.append_null();
                continue;
            };
            let v = match self.to {
                Date => i32::try_from(at.days()).ok().map(i64::from),
                Time(p) if *p <= 6 => Some(at.nanos_of_day() / 1_000 / cut_of(*p, 6) * cut_of(*p, 6)),
                Time(p) => Some(at.nanos_of_day() / cut_of(*p, 9) * cut_of(*p, 9)),
                Timestamp(p) | TimestampLtz(p) => {
                    let (unit, digits) = unit_of(*p);
                    let cut = cut_of(*p, digits);
                    at.to(unit).map(|v| v.div_euclid(cut) * cut)
                }
                _ => return Err(unsupported(self.from, self.to)),
            };
            match v {
                Some(v) => out.append_value(v),
                None => {
                    let mut text = String::new();
                    let _ = calendar::write_timestamp(&mut text, at, 0);
                    out.append_option(self.failed(&text, true)?);
                }
            }
        }
        let out = out.finish();
        if target == DataType::Date32 {
            return Ok(Arc::new(out.unary::<_, Date32Type>(|v| v as i32)));
        }
        let data = out.to_data().into_builder().data_type(target).build()?;
        Ok(arrow::array::make_array(data))
    }
}

/// Unit of TIMESTAMP(p) and the digits of its fraction.
fn unit_of(precision: u8) -> (TimeUnit, u8) {
    match precision {
        0..=3 => (TimeUnit::Millisecond, 3),
        4..=6 => (TimeUnit::Microsecond, 6),
        _ => (TimeUnit::Nanosecond, 9),
    }
}

/// What a value with `digits` digits of fraction is a multiple of at a precision.
fn cut_of(precision: u8, digits: u8) -> i64 {
    10_i64.pow(u32::from(digits.saturating_sub(precision)))
}

fn wide_decimals(array: &ArrayRef) -> Vec<Option<i256>> {
    match array.data_type() {
        DataType::Decimal128(..) => {
            array.as_primitive::<Decimal128Type>().iter().map(|v| v.map(i256::from_i128)).collect()
        }
        _ => array.as_primitive::<Decimal256Type>().iter().collect(),
    }
}

/// As Flink: `t true y yes 1`, `f false n no 0`, in any case.
fn parse_boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// An integer; digits behind a point are cut off, as Flink does.
fn parse_integer(text: &str) -> Option<i64> {
    let text = text.trim();
    let whole = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|b| b.is_ascii_digit()) && !whole.is_empty() => whole,
        Some(_) => return None,
        None => text,
    };
    whole.parse().ok()
}

fn to_boolean(array: &ArrayRef) -> Result<ArrayRef> {
    fn not_zero<T: ArrowPrimitiveType>(array: &ArrayRef) -> ArrayRef {
        Arc::new(BooleanArray::from_unary(array.as_primitive::<T>(), |v| v != T::Native::default()))
    }
    Ok(match array.data_type() {
        DataType::Int8 => not_zero::<Int8Type>(array),
        DataType::Int16 => not_zero::<Int16Type>(array),
        DataType::Int32 => not_zero::<Int32Type>(array),
        DataType::Int64 => not_zero::<Int64Type>(array),
        DataType::Float32 => not_zero::<Float32Type>(array),
        DataType::Float64 => not_zero::<Float64Type>(array),
        DataType::Decimal128(..) => not_zero::<Decimal128Type>(array),
        DataType::Decimal256(..) => not_zero::<Decimal256Type>(array),
        other => return Err(Error::internal(format!("{other} is not a numeric type"))),
    })
}

/// Cuts to the length of VARCHAR(n) and CHAR(n); CHAR(n) is also filled with blanks.
fn fit_text(array: ArrayRef, from: &SqlType, to: &SqlType) -> ArrayRef {
    let (n, pad) = match (from, to) {
        (_, SqlType::Char(n)) => (*n as usize, true),
        (SqlType::Char(f) | SqlType::VarChar(f), SqlType::VarChar(n)) if f <= n => return array,
        (_, SqlType::VarChar(LENGTH_MAX)) => return array,
        (_, SqlType::VarChar(n)) => (*n as usize, false),
        _ => return array,
    };
    let texts = array.as_string::<i32>();
    // Bytes are at least characters: most columns need no look into the texts.
    if !pad && texts.value_offsets().windows(2).all(|w| (w[1] - w[0]) as usize <= n) {
        return array;
    }
    let mut out = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    for s in texts {
        let Some(s) = s else {
            out.append_null();
            continue;
        };
        let chars = s.chars().count();
        let end = if chars > n { s.char_indices().nth(n).map_or(s.len(), |(at, _)| at) } else { s.len() };
        let _ = out.write_str(&s[..end]);
        if pad {
            let _ = (chars..n).try_for_each(|_| out.write_char(' '));
        }
        out.append_value("");
    }
    Arc::new(out.finish())
}

/// Cuts to the length of VARBINARY(n) and BINARY(n); BINARY(n) is also filled with zeros.
fn fit_bytes(array: &ArrayRef, to: &SqlType) -> ArrayRef {
    let (n, pad) = match to {
        SqlType::Binary(n) => (*n as usize, true),
        SqlType::VarBinary(n) if *n < LENGTH_MAX => (*n as usize, false),
        _ => return array.clone(),
    };
    let mut out = BinaryBuilder::with_capacity(array.len(), 0);
    for b in array.as_binary::<i32>() {
        match b {
            None => out.append_null(),
            Some(b) if b.len() >= n => out.append_value(&b[..n]),
            Some(b) if pad => {
                let mut filled = b.to_vec();
                filled.resize(n, 0);
                out.append_value(filled);
            }
            Some(b) => out.append_value(b),
        }
    }
    Arc::new(out.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_cast(values: &[&str], to: &SqlType, safe: bool) -> Result<Vec<String>> {
        let array: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        let cast = cast(&array, &SqlType::STRING, to, safe)?;
        let text = to_text(&cast, to)?;
        Ok(text.as_string::<i32>().iter().map(|s| s.unwrap_or("NULL").to_owned()).collect())
    }

    fn ok(value: &str, to: SqlType) -> String {
        text_cast(&[value], &to, false).unwrap().remove(0)
    }

    #[test]
    fn texts_become_values_and_texts_again() {
        assert_eq!(ok(" 42 ", SqlType::BigInt), "42");
        assert_eq!(ok("12.9", SqlType::Int), "12");
        assert_eq!(ok("-128", SqlType::TinyInt), "-128");
        assert_eq!(ok("1.5e3", SqlType::Double), "1500.0");
        assert_eq!(ok("1e20", SqlType::Double), "1.0E20");
        assert_eq!(ok("0.1", SqlType::Float), "0.1");
        assert_eq!(ok("NaN", SqlType::Double), "NaN");
        assert_eq!(ok("12.345", SqlType::Decimal { precision: 10, scale: 2 }), "12.35");
        assert_eq!(ok("-0.004", SqlType::Decimal { precision: 10, scale: 2 }), "0.00");
        assert_eq!(ok("7", SqlType::Decimal { precision: 65, scale: 30 }), format!("7.{}", "0".repeat(30)));
        assert_eq!(ok("Yes", SqlType::Boolean), "TRUE");
        assert_eq!(ok("2024-02-29", SqlType::Date), "2024-02-29");
        assert_eq!(ok("12:34:56.789", SqlType::Time(3)), "12:34:56.789");
        assert_eq!(ok("12:34:56.789", SqlType::Time(0)), "12:34:56");
        assert_eq!(ok("2024-02-29 12:34:56.789", SqlType::Timestamp(3)), "2024-02-29 12:34:56.789");
        assert_eq!(ok("2024-02-29 12:34:56.789", SqlType::Timestamp(0)), "2024-02-29 12:34:56");
        assert_eq!(ok("2024-02-29", SqlType::Timestamp(6)), "2024-02-29 00:00:00.000000");
        assert_eq!(ok("2024-02-29T00:00:00Z", SqlType::TimestampLtz(3)), "2024-02-29 00:00:00.000");
        assert_eq!(ok("ab€cd", SqlType::VarChar(3)), "ab€");
        assert_eq!(ok("ab", SqlType::Char(4)), "ab  ");
        assert_eq!(ok("abc", SqlType::BYTES), "abc");
    }

    #[test]
    fn what_does_not_convert_is_an_error_or_null() {
        for (value, to) in [
            ("x", SqlType::Int),
            ("", SqlType::BigInt),
            ("128", SqlType::TinyInt),
            ("9223372036854775808", SqlType::BigInt),
            ("1000", SqlType::Decimal { precision: 3, scale: 0 }),
            ("maybe", SqlType::Boolean),
            ("2023-02-29", SqlType::Date),
            ("2300-01-01", SqlType::Timestamp(9)),
            ("1,5", SqlType::Double),
        ] {
            let e = text_cast(&[value], &to, false).unwrap_err();
            assert_eq!(e.code(), thalweg_core::ErrorCode::Row, "{value}");
            assert!(e.message().contains(&to.to_string()), "{e}");
            assert_eq!(text_cast(&[value], &to, true).unwrap(), ["NULL"], "{value}");
        }
    }

    fn numeric(array: ArrayRef, from: SqlType, to: SqlType) -> Result<String> {
        let out = cast(&array, &from, &to, false)?;
        let text = to_text(&out, &to)?;
        Ok(text.as_string::<i32>().value(0).to_owned())
    }

    #[test]
    fn numbers_are_checked_cut_and_rounded() {
        let double = |v: f64| Arc::new(PrimitiveArray::<Float64Type>::from(vec![v])) as ArrayRef;
        let int = |v: i64| Arc::new(PrimitiveArray::<Int64Type>::from(vec![v])) as ArrayRef;
        assert_eq!(numeric(double(-1.9), SqlType::Double, SqlType::Int).unwrap(), "-1");
        assert!(numeric(double(1e10), SqlType::Double, SqlType::Int).is_err());
        assert!(numeric(double(f64::NAN), SqlType::Double, SqlType::BigInt).is_err());
        assert!(numeric(double(9_223_372_036_854_775_808.0), SqlType::Double, SqlType::BigInt).is_err());
        assert_eq!(numeric(int(300), SqlType::BigInt, SqlType::SmallInt).unwrap(), "300");
        let e = numeric(int(300), SqlType::BigInt, SqlType::TinyInt).unwrap_err();
        assert_eq!(e.message(), "300 is out of the range of TINYINT");
        let decimal = SqlType::Decimal { precision: 5, scale: 2 };
        assert_eq!(numeric(int(123), SqlType::BigInt, decimal.clone()).unwrap(), "123.00");
        assert!(numeric(int(1234), SqlType::BigInt, decimal.clone()).is_err());
        assert_eq!(numeric(double(1.005), SqlType::Double, decimal.clone()).unwrap(), "1.01");
        let d: ArrayRef =
            Arc::new(PrimitiveArray::<Decimal128Type>::from(vec![12_375]).with_precision_and_scale(5, 3).unwrap());
        let from = SqlType::Decimal { precision: 5, scale: 3 };
        assert_eq!(numeric(d.clone(), from.clone(), decimal).unwrap(), "12.38");
        assert_eq!(numeric(d.clone(), from.clone(), SqlType::Int).unwrap(), "12");
        assert_eq!(numeric(d.clone(), from.clone(), SqlType::Double).unwrap(), "12.375");
        assert_eq!(numeric(d.clone(), from.clone(), SqlType::Boolean).unwrap(), "TRUE");
        assert_eq!(
            numeric(d, from, SqlType::Decimal { precision: 60, scale: 40 }).unwrap(),
            format!("12.375{}", "0".repeat(37))
        );
        let b: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        assert_eq!(numeric(b.clone(), SqlType::Boolean, SqlType::BigInt).unwrap(), "1");
        assert!(numeric(b, SqlType::Boolean, SqlType::Date).is_err());
    }

    #[test]
    fn times_change_their_precision_and_type() {
        let ts: ArrayRef = Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from(vec![-1]));
        let from = SqlType::Timestamp(6);
        assert_eq!(numeric(ts.clone(), from.clone(), SqlType::Date).unwrap(), "1969-12-31");
        assert_eq!(numeric(ts.clone(), from.clone(), SqlType::Timestamp(3)).unwrap(), "1969-12-31 23:59:59.999");
        assert_eq!(numeric(ts.clone(), from.clone(), SqlType::Timestamp(9)).unwrap(), "1969-12-31 23:59:59.999999000");
        assert_eq!(numeric(ts.clone(), from.clone(), SqlType::Time(6)).unwrap(), "23:59:59.999999");
        assert_eq!(numeric(ts.clone(), from.clone(), SqlType::TimestampLtz(6)).unwrap(), "1969-12-31 23:59:59.999999");
        assert!(numeric(ts, from, SqlType::BigInt).unwrap_err().notes()[0].contains("EPOCH"));
    }
}
