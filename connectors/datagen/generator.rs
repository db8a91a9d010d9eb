//! One column's values for given row indices, by type.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Int64Array, ListArray, MapArray, PrimitiveArray,
    StringArray, StructArray, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, i256,
};
use arrow::row::{RowConverter, SortField};
use thalweg_core::types::{Column, LENGTH_MAX};
use thalweg_core::{Result, SqlType};

use crate::lanes::Range;
use crate::mix::{Stream, below, unit};
use crate::options::FieldOptions;

/// Length of STRING and BYTES where none is given, as in Flink.
const TEXT_LENGTH_DEFAULT: u64 = 100;
/// Elements of ARRAY and MAP where no length is given, as in Flink.
const COLLECTION_LENGTH_DEFAULT: u64 = 3;
/// Longest text, bytes or collection that is generated.
const LENGTH_GENERATED_MAX: u64 = 1 << 20;

/// The time of a row: `start + index * step`.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    pub start_us: i64,
    pub step_ns: i64,
}

impl Clock {
    fn at_us(self, index: u64) -> i64 {
        let passed = if self.step_ns % 1000 == 0 {
            (index as i64).wrapping_mul(self.step_ns / 1000)
        } else {
            (i128::from(index) * i128::from(self.step_ns) / 1000) as i64
        };
        self.start_us.wrapping_add(passed)
    }
}

/// Generates one column. Every value is a function of the row index.
pub struct Generator {
    kind: Kind,
    /// Below this number of its stream (of 2^64) a row is NULL.
    nulls: Option<(Stream, u64)>,
    ty: DataType,
}

enum Kind {
    Boolean(Stream),
    Integer {
        range: Range,
        ty: SqlType,
    },
    Sequence {
        start: i64,
        end: i64,
        ty: SqlType,
    },
    Float {
        stream: Stream,
        min: f64,
        max: f64,
        ty: SqlType,
    },
    /// Unscaled.
    Decimal128 {
        stream: Stream,
        min: i128,
        width: u128,
    },
    /// Up to 38 digits below as many more as the precision has.
    Decimal256 {
        low: Stream,
        high: Stream,
        high_width: u128,
    },
    Text {
        stream: Stream,
        length: u64,
        lengths: Option<Stream>,
    },
    Bytes {
        stream: Stream,
        length: u64,
        lengths: Option<Stream>,
    },
    Date(Clock),
    Time {
        clock: Clock,
        precision: u8,
    },
    Timestamp {
        clock: Clock,
        stream: Stream,
        past_us: u64,
        precision: u8,
    },
    Array {
        length: u64,
        items: Box<Generator>,
    },
    Map {
        length: u64,
        keys: Box<Generator>,
        values: Box<Generator>,
    },
    Row(Vec<Generator>),
}

const PURPOSE_NULL: u64 = 1;
const PURPOSE_LENGTH: u64 = 2;
const PURPOSE_HIGH: u64 = 3;

impl Generator {
    pub fn new(field: &mut FieldOptions<'_>, ty: &SqlType, nullable: bool) -> Result<Self> {
        let stream = Stream::new(field.seed, &field.path);
        let nulls = match field.parse::<f64>("null-rate", "a number from 0 to 1")? {
            None => None,
            Some(rate) if !(0.0..=1.0).contains(&rate) => {
                return Err(field.refuse("null-rate", &rate.to_string(), "a number from 0 to 1"));
            }
            Some(rate) if rate > 0.0 && !nullable => {
                return Err(field.refuse("null-rate", &rate.to_string(), "possible: the column is NOT NULL"));
            }
            Some(0.0) => None,
            Some(rate) => Some((stream.derive(PURPOSE_NULL), (rate * 18_446_744_073_709_551_616.0) as u64)),
        };
        let kind = match field.take("kind").as_deref() {
            None | Some("random") => random(field, ty, stream)?,
            Some("sequence") => sequence(field, ty)?,
            Some(other) => return Err(field.refuse("kind", other, "random or sequence")),
        };
        Ok(Generator { kind, nulls, ty: ty.to_arrow() })
    }

    /// How many rows a sequence has; `None` for other kinds.
    pub fn sequence_rows(&self) -> Option<u64> {
        match &self.kind {
            Kind::Sequence { start, end, .. } => Some(end.wrapping_sub(*start).wrapping_add(1) as u64),
            Kind::Row(columns) => columns.iter().filter_map(Generator::sequence_rows).min(),
            _ => None,
        }
    }

    /// Estimated bytes of a value in memory.
    pub fn row_bytes(&self) -> usize {
        match &self.kind {
            Kind::Boolean(_) => 1,
            Kind::Decimal128 { .. } => 16,
            Kind::Decimal256 { .. } => 32,
            Kind::Text { length, .. } | Kind::Bytes { length, .. } => *length as usize + 4,
            Kind::Array { length, items } => *length as usize * items.row_bytes() + 4,
            Kind::Map { length, keys, values } => *length as usize * (keys.row_bytes() + values.row_bytes()) + 4,
            Kind::Row(columns) => columns.iter().map(Generator::row_bytes).sum(),
            Kind::Sequence { ty: SqlType::Char(_) | SqlType::VarChar(_), .. } => 24,
            _ => 8,
        }
    }

    fn nulls_of(&self, indices: &[u64]) -> Option<NullBuffer> {
        let (stream, threshold) = self.nulls?;
        let valid = BooleanBuffer::collect_bool(indices.len(), |i| stream.at(indices[i]) >= threshold);
        Some(NullBuffer::new(valid))
    }

    /// The values of the given rows.
    pub fn fill(&self, indices: &[u64]) -> Result<ArrayRef> {
        let nulls = self.nulls_of(indices);
        Ok(match &self.kind {
            Kind::Boolean(stream) => {
                let values = BooleanBuffer::collect_bool(indices.len(), |i| stream.at(indices[i]) >> 63 == 1);
                Arc::new(BooleanArray::new(values, nulls))
            }
            Kind::Integer { range, ty: SqlType::BigInt } => {
                Arc::new(Int64Array::new(range.fill(indices).into(), nulls))
            }
            Kind::Integer { range, ty } => integers(ty, indices, nulls, |i| range.at(i)),
            Kind::Sequence { start, ty, .. } => {
                let start = *start;
                self.sequence(start, ty, indices, nulls)?
            }
            Kind::Float { stream, min, max, ty } => {
                let (stream, min, max) = (*stream, *min, *max);
                let value = move |i: u64| {
                    let u = unit(stream.at(i));
                    min * (1.0 - u) + max * u
                };
                match ty {
                    SqlType::Float => primitive::<Float32Type>(indices, nulls, |i| value(i) as f32),
                    _ => primitive::<Float64Type>(indices, nulls, value),
                }
            }
            Kind::Decimal128 { stream, min, width } => {
                let (stream, min, width, high) = (*stream, *min, *width, stream.derive(PURPOSE_HIGH));
                let values = primitive_array::<Decimal128Type>(indices, nulls, |i| {
                    let offset = match u64::try_from(width) {
                        Ok(width) => u128::from(below(stream.at(i), width)),
                        Err(_) => (u128::from(high.at(i)) << 64 | u128::from(stream.at(i))) % width,
                    };
                    min.wrapping_add(offset as i128)
                });
                Arc::new(values.with_data_type(self.ty.clone()))
            }
            Kind::Decimal256 { low, high, high_width } => {
                let (low, high, high_width) = (*low, *high, *high_width);
                let base = 10u128.pow(38);
                let wide = |s: Stream, i| u128::from(s.derive(PURPOSE_HIGH).at(i)) << 64 | u128::from(s.at(i));
                let values = primitive_array::<Decimal256Type>(indices, nulls, |i| {
                    let (low, high) = (wide(low, i) % base, wide(high, i) % high_width);
                    i256::from_parts(high, 0)
                        .wrapping_mul(i256::from_parts(base, 0))
                        .wrapping_add(i256::from_parts(low, 0))
                });
                Arc::new(values.with_data_type(self.ty.clone()))
            }
            Kind::Text { stream, length, lengths } => {
                let (offsets, data) = hex(indices, *stream, *length, *lengths);
                Arc::new(StringArray::try_new(offsets, data.into(), nulls)?)
            }
            Kind::Bytes { stream, length, lengths } => {
                let (offsets, data) = bytes(indices, *stream, *length, *lengths);
                Arc::new(BinaryArray::try_new(offsets, data.into(), nulls)?)
            }
            Kind::Date(clock) => {
                primitive::<Date32Type>(indices, nulls, |i| clock.at_us(i).div_euclid(US_PER_DAY) as i32)
            }
            Kind::Time { clock, precision } => {
                let of_day = |i| truncate(clock.at_us(i).rem_euclid(US_PER_DAY), *precision);
                match precision {
                    0..=6 => primitive::<Time64MicrosecondType>(indices, nulls, of_day),
                    _ => primitive::<Time64NanosecondType>(indices, nulls, |i| of_day(i) * 1000),
                }
            }
            Kind::Timestamp { clock, stream, past_us, precision } => {
                let (clock, stream, past) = (*clock, *stream, *past_us);
                let at = move |i: u64| {
                    let back = if past == 0 { 0 } else { below(stream.at(i), past.wrapping_add(1)) };
                    truncate(clock.at_us(i).wrapping_sub(back as i64), *precision)
                };
                let ty = self.ty.clone();
                match precision {
                    0..=3 => {
                        let ms = |i| at(i).div_euclid(1000);
                        Arc::new(primitive_array::<TimestampMillisecondType>(indices, nulls, ms).with_data_type(ty))
                    }
                    4..=6 => {
                        Arc::new(primitive_array::<TimestampMicrosecondType>(indices, nulls, at).with_data_type(ty))
                    }
                    _ => {
                        let ns = |i| at(i).wrapping_mul(1000);
                        Arc::new(primitive_array::<TimestampNanosecondType>(indices, nulls, ns).with_data_type(ty))
                    }
                }
            }
            Kind::Array { length, items } => {
                let DataType::List(field) = &self.ty else { unreachable!("made from an ARRAY") };
                let offsets = OffsetBuffer::from_repeated_length(*length as usize, indices.len());
                Arc::new(ListArray::try_new(field.clone(), offsets, items.fill(&parts(indices, *length))?, nulls)?)
            }
            Kind::Map { length, keys, values } => self.map(*length, keys, values, indices, nulls)?,
            Kind::Row(columns) => {
                let DataType::Struct(fields) = &self.ty else { unreachable!("made from a ROW") };
                let columns = columns.iter().map(|c| c.fill(indices)).collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, indices.len())?)
            }
        })
    }

    fn sequence(&self, start: i64, ty: &SqlType, indices: &[u64], nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let value = move |i: u64| start.wrapping_add(i as i64);
        Ok(match ty {
            SqlType::Char(_) | SqlType::VarChar(_) => {
                let mut array = StringArray::from_iter_values(indices.iter().map(|&i| value(i).to_string()));
                if nulls.is_some() {
                    let (offsets, values, _) = array.into_parts();
                    array = StringArray::try_new(offsets, values, nulls)?;
                }
                Arc::new(array)
            }
            SqlType::Float => primitive::<Float32Type>(indices, nulls, |i| value(i) as f32),
            SqlType::Double => primitive::<Float64Type>(indices, nulls, |i| value(i) as f64),
            SqlType::Decimal { precision, scale } if *precision <= 38 => {
                let unit = 10i128.pow(*scale as u32);
                let array = primitive_array::<Decimal128Type>(indices, nulls, |i| i128::from(value(i)) * unit);
                Arc::new(array.with_data_type(self.ty.clone()))
            }
            SqlType::Decimal { scale, .. } => {
                let unit = i256::from_i128(10).wrapping_pow(*scale as u32);
                let wide = |i| i256::from_i128(i128::from(value(i))).wrapping_mul(unit);
                Arc::new(primitive_array::<Decimal256Type>(indices, nulls, wide).with_data_type(self.ty.clone()))
            }
            ty => integers(ty, indices, nulls, value),
        })
    }

    /// Keys that come twice in one map are left out the second time.
    fn map(
        &self,
        length: u64,
        keys: &Generator,
        values: &Generator,
        indices: &[u64],
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef> {
        let DataType::Map(entries, sorted) = &self.ty else { unreachable!("made from a MAP") };
        let DataType::Struct(fields) = entries.data_type() else { unreachable!("a map's entries are a struct") };
        let parts = parts(indices, length);
        let (keys, values) = (keys.fill(&parts)?, values.fill(&parts)?);
        let converter = RowConverter::new(vec![SortField::new(keys.data_type().clone())])?;
        let comparable = converter.convert_columns(std::slice::from_ref(&keys))?;
        let (mut kept, mut ends) = (Vec::with_capacity(parts.len()), vec![0i32]);
        let length = length as usize;
        for map in 0..indices.len() {
            let begin = kept.len();
            for entry in map * length..(map + 1) * length {
                if kept[begin..].iter().all(|&k: &u64| comparable.row(k as usize) != comparable.row(entry)) {
                    kept.push(entry as u64);
                }
            }
            ends.push(kept.len() as i32);
        }
        let kept = UInt64Array::from(kept);
        let columns = vec![arrow::compute::take(&keys, &kept, None)?, arrow::compute::take(&values, &kept, None)?];
        let rows = StructArray::try_new(fields.clone(), columns, None)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, rows, nulls, *sorted)?))
    }
}

const US_PER_DAY: i64 = 86_400_000_000;

/// Cut to `precision` digits of a second (of at most 6).
fn truncate(us: i64, precision: u8) -> i64 {
    match 6u32.saturating_sub(u32::from(precision)) {
        0 => us,
        digits => us - us.rem_euclid(10i64.pow(digits)),
    }
}

/// The indices of the elements of collections.
fn parts(indices: &[u64], length: u64) -> Vec<u64> {
    indices.iter().flat_map(|i| (0..length).map(move |j| i.wrapping_mul(length).wrapping_add(j))).collect()
}

fn primitive_array<T: ArrowPrimitiveType>(
    indices: &[u64],
    nulls: Option<NullBuffer>,
    value: impl Fn(u64) -> T::Native,
) -> PrimitiveArray<T> {
    let values: Vec<T::Native> = indices.iter().map(|&i| value(i)).collect();
    PrimitiveArray::new(values.into(), nulls)
}

fn primitive<T: ArrowPrimitiveType>(
    indices: &[u64],
    nulls: Option<NullBuffer>,
    value: impl Fn(u64) -> T::Native,
) -> ArrayRef {
    Arc::new(primitive_array::<T>(indices, nulls, value))
}

fn integers(ty: &SqlType, indices: &[u64], nulls: Option<NullBuffer>, value: impl Fn(u64) -> i64) -> ArrayRef {
    match ty {
        SqlType::TinyInt => primitive::<Int8Type>(indices, nulls, |i| value(i) as i8),
        SqlType::SmallInt => primitive::<Int16Type>(indices, nulls, |i| value(i) as i16),
        SqlType::Int => primitive::<Int32Type>(indices, nulls, |i| value(i) as i32),
        _ => primitive::<Int64Type>(indices, nulls, value),
    }
}

fn length_of(index: u64, length: u64, lengths: Option<Stream>) -> usize {
    lengths.map_or(length, |s| 1 + below(s.at(index), length)) as usize
}

/// Hex digits, 16 of a random number.
fn hex(indices: &[u64], stream: Stream, length: u64, lengths: Option<Stream>) -> (OffsetBuffer<i32>, Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let numbers = length.div_ceil(16);
    let mut data = Vec::with_capacity(indices.len() * length as usize + 16);
    let mut ends = Vec::with_capacity(indices.len() + 1);
    ends.push(0i32);
    for &i in indices {
        let end = data.len() + length_of(i, length, lengths);
        let mut number = 0;
        while data.len() < end {
            let random = stream.at(i.wrapping_mul(numbers).wrapping_add(number));
            let digits: [u8; 16] = std::array::from_fn(|d| DIGITS[(random >> (4 * d)) as usize & 15]);
            data.extend_from_slice(&digits);
            number += 1;
        }
        data.truncate(end);
        ends.push(end as i32);
    }
    (OffsetBuffer::new(ScalarBuffer::from(ends)), data)
}

fn bytes(indices: &[u64], stream: Stream, length: u64, lengths: Option<Stream>) -> (OffsetBuffer<i32>, Vec<u8>) {
    let numbers = length.div_ceil(8);
    let mut data = Vec::with_capacity(indices.len() * length as usize + 8);
    let mut ends = Vec::with_capacity(indices.len() + 1);
    ends.push(0i32);
    for &i in indices {
        let end = data.len() + length_of(i, length, lengths);
        let mut number = 0;
        while data.len() < end {
            data.extend_from_slice(&stream.at(i.wrapping_mul(numbers).wrapping_add(number)).to_le_bytes());
            number += 1;
        }
        data.truncate(end);
        ends.push(end as i32);
    }
    (OffsetBuffer::new(ScalarBuffer::from(ends)), data)
}

fn range_of(ty: &SqlType) -> (i64, i64) {
    match ty {
        SqlType::TinyInt => (i8::MIN.into(), i8::MAX.into()),
        SqlType::SmallInt => (i16::MIN.into(), i16::MAX.into()),
        SqlType::Int => (i32::MIN.into(), i32::MAX.into()),
        _ => (i64::MIN, i64::MAX),
    }
}

fn random(field: &mut FieldOptions<'_>, ty: &SqlType, stream: Stream) -> Result<Kind> {
    Ok(match ty {
        SqlType::Boolean => Kind::Boolean(stream),
        SqlType::TinyInt | SqlType::SmallInt | SqlType::Int | SqlType::BigInt => {
            let range = range_of(ty);
            let expected = format!("a value of {ty}");
            let mut bound = |key: &str, default: i64| -> Result<i64> {
                let value = field.parse(key, &expected)?.unwrap_or(default);
                if value < range.0 || value > range.1 {
                    return Err(field.refuse(key, &value.to_string(), &expected));
                }
                Ok(value)
            };
            let (min, max) = (bound("min", range.0)?, bound("max", range.1)?);
            if min > max {
                return Err(field.refuse("max", &max.to_string(), &format!("at least the minimum, {min}")));
            }
            let width = max.wrapping_sub(min).wrapping_add(1) as u64;
            Kind::Integer { range: Range { stream, min, width }, ty: ty.clone() }
        }
        SqlType::Float | SqlType::Double => {
            let max = if *ty == SqlType::Float { f64::from(f32::MAX) } else { f64::MAX };
            let min = field.parse("min", "a number")?.unwrap_or(0.0);
            let max = field.parse("max", "a number")?.unwrap_or(max);
            // Also false for NaN.
            if !(min <= max && f64::is_finite(min) && f64::is_finite(max)) {
                return Err(field.refuse("max", &max.to_string(), &format!("at least the minimum, {min}")));
            }
            Kind::Float { stream, min, max, ty: ty.clone() }
        }
        SqlType::Decimal { precision, scale } => decimal(field, ty, *precision, *scale, stream)?,
        SqlType::Char(n) => Kind::Text { stream, length: fixed(field, ty, *n)?, lengths: None },
        SqlType::Binary(n) => Kind::Bytes { stream, length: fixed(field, ty, *n)?, lengths: None },
        SqlType::VarChar(n) => {
            let (length, lengths) = varying(field, *n, stream)?;
            Kind::Text { stream, length, lengths }
        }
        SqlType::VarBinary(n) => {
            let (length, lengths) = varying(field, *n, stream)?;
            Kind::Bytes { stream, length, lengths }
        }
        SqlType::Date => Kind::Date(field.clock),
        SqlType::Time(p) => Kind::Time { clock: field.clock, precision: *p },
        SqlType::Timestamp(p) | SqlType::TimestampLtz(p) => {
            let past_us = field.duration("max-past")?.as_micros() as u64;
            Kind::Timestamp { clock: field.clock, stream, past_us, precision: *p }
        }
        SqlType::Array(element) => {
            let length = length(field, COLLECTION_LENGTH_DEFAULT)?;
            let items = Box::new(part(field, "element", &element.ty, element.nullable)?);
            Kind::Array { length, items }
        }
        SqlType::Map(key, element) => {
            let length = length(field, COLLECTION_LENGTH_DEFAULT)?;
            let keys = Box::new(part(field, "key", key, false)?);
            if !key.is_orderable() {
                return Err(field.unsupported(ty, "cannot be generated: its keys cannot be compared"));
            }
            Kind::Map { length, keys, values: Box::new(part(field, "value", &element.ty, element.nullable)?) }
        }
        SqlType::Row(columns) => {
            let one = |c: &Column| part(field, &c.name, &c.ty, c.nullable);
            Kind::Row(columns.iter().map(one).collect::<Result<_>>()?)
        }
        SqlType::Null | SqlType::Interval => return Err(field.unsupported(ty, "cannot be generated")),
    })
}

fn part(field: &mut FieldOptions<'_>, name: &str, ty: &SqlType, nullable: bool) -> Result<Generator> {
    let mut inner = field.part(name);
    let generator = Generator::new(&mut inner, ty, nullable)?;
    inner.nothing_left()?;
    Ok(generator)
}

fn length(field: &mut FieldOptions<'_>, default: u64) -> Result<u64> {
    let expected = format!("a length from 0 to {LENGTH_GENERATED_MAX}");
    let n = field.parse("length", &expected)?.unwrap_or(default);
    if n > LENGTH_GENERATED_MAX { Err(field.refuse("length", &n.to_string(), &expected)) } else { Ok(n) }
}

fn fixed(field: &mut FieldOptions<'_>, ty: &SqlType, n: u32) -> Result<u64> {
    let length = length(field, u64::from(n))?;
    if length != u64::from(n) {
        return Err(field.refuse("length", &length.to_string(), &format!("the length of {ty}")));
    }
    Ok(length)
}

fn varying(field: &mut FieldOptions<'_>, n: u32, stream: Stream) -> Result<(u64, Option<Stream>)> {
    let default = if n == LENGTH_MAX { TEXT_LENGTH_DEFAULT } else { u64::from(n).min(LENGTH_GENERATED_MAX) };
    let length = length(field, default)?;
    if length > u64::from(n) {
        return Err(field.refuse("length", &length.to_string(), &format!("at most {n}")));
    }
    let varies = field.bool("var-len")? && length > 0;
    Ok((length, varies.then(|| stream.derive(PURPOSE_LENGTH))))
}

fn decimal(field: &mut FieldOptions<'_>, ty: &SqlType, precision: u8, scale: i8, stream: Stream) -> Result<Kind> {
    let digits_low = precision.min(38);
    let largest = 10i128.pow(u32::from(digits_low)) - 1;
    let (min, max) = (field.take("min"), field.take("max"));
    if precision > 38 && min.is_none() && max.is_none() {
        let high_width = 10u128.pow(u32::from(precision) - 38);
        return Ok(Kind::Decimal256 { low: stream, high: stream.derive(PURPOSE_HIGH), high_width });
    }
    if precision > 38 {
        return Err(
            field.unsupported(ty, "is generated over its whole range only: 'min' and 'max' need at most 38 digits")
        );
    }
    let expected = format!("a value of {ty}");
    let bound = |key: &str, text: Option<String>, default: i128| match text {
        None => Ok(default),
        Some(text) => {
            arrow::compute::kernels::cast_utils::parse_decimal::<Decimal128Type>(text.trim(), precision, scale)
                .map_err(|_| field.refuse(key, &text, &expected))
        }
    };
    let (min, max) = (bound("min", min, 0)?, bound("max", max, largest)?);
    if min > max {
        return Err(field.refuse("max", &max.to_string(), "at least the minimum"));
    }
    Ok(Kind::Decimal128 { stream, min, width: (max - min) as u128 + 1 })
}

fn sequence(field: &mut FieldOptions<'_>, ty: &SqlType) -> Result<Kind> {
    let text_fits = |digits: usize, n: u32| digits <= n as usize;
    let range = match ty {
        SqlType::TinyInt | SqlType::SmallInt | SqlType::Int | SqlType::BigInt => range_of(ty),
        // Beyond 2^24 and 2^53 neighbours would be the same number.
        SqlType::Float => (-(1 << 24), 1 << 24),
        SqlType::Double => (-(1 << 53), 1 << 53),
        SqlType::Decimal { precision, scale } => {
            let largest = 10i128.checked_pow((i32::from(*precision) - i32::from(*scale)).max(0) as u32);
            let largest = largest.map_or(i64::MAX, |n| i64::try_from(n - 1).unwrap_or(i64::MAX));
            (-largest, largest)
        }
        SqlType::Char(_) | SqlType::VarChar(_) => (i64::MIN, i64::MAX),
        _ => return Err(field.unsupported(ty, "cannot be a sequence")),
    };
    let expected = format!("a number within {ty}");
    let mut bound = |key: &str| -> Result<i64> {
        let value: i64 = field.parse(key, "a whole number")?.ok_or_else(|| {
            field.unsupported(ty, &format!("as a sequence needs the option '{}'", field.name_of(key)))
        })?;
        let fits = match ty {
            SqlType::Char(n) | SqlType::VarChar(n) => text_fits(value.to_string().len(), *n),
            _ => (range.0..=range.1).contains(&value),
        };
        if fits { Ok(value) } else { Err(field.refuse(key, &value.to_string(), &expected)) }
    };
    let (start, end) = (bound("start")?, bound("end")?);
    if start > end {
        return Err(field.refuse("end", &end.to_string(), &format!("at least the start, {start}")));
    }
    if end.checked_sub(start).is_none_or(|n| n == i64::MAX) {
        return Err(field.refuse("end", &end.to_string(), "possible: the sequence is longer than a BIGINT can count"));
    }
    Ok(Kind::Sequence { start, end, ty: ty.clone() })
}
