//! One output column being built: typed values, and how a value of the server becomes one.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, ListArray, PrimitiveArray, StringArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, i256,
};
use thalweg_core::types::{Column, LENGTH_MAX};
use thalweg_core::{Error, Result, SqlType};

use super::raw::Raw;
use super::temporal;
use crate::binlog::json;
use crate::decimal;
use crate::key::DateTime;
use crate::layout::{Meaning, ZeroDates};
use crate::types::MySqlType;

/// Characters of a value that an error shows.
const SHOWN_CHARS_MAX: usize = 60;
/// Bytes of the spatial reference system's number in front of a geometry's WKB.
const SRID_BYTES: usize = 4;

/// Why a value has no place in its column: `'0000-00-00' is no day of the calendar`.
#[derive(Debug)]
pub struct Why {
    message: String,
    note: Option<&'static str>,
}

impl Why {
    #[cold]
    fn new(message: impl Into<String>) -> Why {
        Why { message: message.into(), note: None }
    }

    #[cold]
    pub fn into_error(self, table: &str, column: &str) -> Error {
        let error = Error::row(format!("table {table}, column \"{column}\": {}", self.message));
        match self.note {
            Some(note) => error.note(note),
            None => error,
        }
    }
}

pub struct Cells {
    pub name: String,
    ty: SqlType,
    nullable: bool,
    len: usize,
    /// Rows that are NULL, ascending: nothing to do for the others.
    null_rows: Vec<u32>,
    values: Values,
}

enum Values {
    Boolean(Vec<bool>),
    TinyInt(Vec<i8>),
    SmallInt(Vec<i16>),
    Int(Vec<i32>),
    BigInt(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal128 {
        precision: u8,
        scale: u8,
        values: Vec<i128>,
    },
    Decimal256 {
        precision: u8,
        scale: u8,
        values: Vec<i256>,
    },
    Text(Strings),
    Binary(Strings),
    Date(Vec<i32>),
    Time {
        precision: u8,
        values: Vec<i64>,
    },
    Timestamp {
        precision: u8,
        zoned: bool,
        values: Vec<i64>,
    },
    /// ARRAY<STRING>: of each row where its items end, and the items.
    Texts {
        ends: Vec<i32>,
        items: Strings,
        item: Arc<Field>,
    },
    /// ARRAY<FLOAT>.
    Floats {
        ends: Vec<i32>,
        items: Vec<f32>,
        item: Arc<Field>,
    },
}

struct Strings {
    /// Characters of a text, bytes of bytes.
    length_max: u32,
    /// Begins with 0 and has one more than there are cells.
    ends: Vec<i32>,
    data: Vec<u8>,
}

impl Strings {
    fn new(length_max: u32) -> Strings {
        Strings { length_max, ends: vec![0], data: vec![] }
    }

    fn begin(&self) -> usize {
        self.ends.last().map_or(0, |e| *e as usize)
    }

    #[inline]
    fn end(&mut self) -> Result<(), Why> {
        match i32::try_from(self.data.len()) {
            Ok(end) => {
                self.ends.push(end);
                Ok(())
            }
            Err(_) => Err(Why::new("more than 2 GiB in one batch")),
        }
    }

    /// Ends a text that was appended to `data` and is UTF-8.
    #[inline]
    fn end_text(&mut self, ty: &SqlType) -> Result<(), Why> {
        let text = &self.data[self.begin()..];
        if text.len() > self.length_max as usize {
            // Bytes that begin a character.
            let chars = text.iter().filter(|b| (**b as i8) >= -0x40).count();
            if chars > self.length_max as usize {
                return Err(Why::new(format!("{} has {chars} characters, more than {ty} holds", shown(text))));
            }
        }
        self.end()
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, arrow::buffer::Buffer) {
        let ends = take(&mut self.ends);
        self.ends.push(0);
        let data = take(&mut self.data);
        (OffsetBuffer::new(ScalarBuffer::from(ends)), arrow::buffer::Buffer::from_vec(data))
    }
}

/// A value for a message: text in quotes, shortened, other bytes as hexadecimal digits.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().count() <= SHOWN_CHARS_MAX => format!("'{text}'"),
        Ok(text) => format!("'{}…'", text.chars().take(SHOWN_CHARS_MAX).collect::<String>()),
        Err(_) => {
            let hex: String = bytes.iter().take(SHOWN_CHARS_MAX / 2).map(|b| format!("{b:02x}")).collect();
            format!("x'{hex}{}'", if bytes.len() > SHOWN_CHARS_MAX / 2 { "…" } else { "" })
        }
    }
}

impl Cells {
    pub fn new(column: &Column) -> Result<Cells> {
        let values = match &column.ty {
            SqlType::Boolean => Values::Boolean(vec![]),
            SqlType::TinyInt => Values::TinyInt(vec![]),
            SqlType::SmallInt => Values::SmallInt(vec![]),
            SqlType::Int => Values::Int(vec![]),
            SqlType::BigInt => Values::BigInt(vec![]),
            SqlType::Float => Values::Float(vec![]),
            SqlType::Double => Values::Double(vec![]),
            SqlType::Decimal { precision, scale } => {
                let (precision, scale) = (*precision, u8::try_from(*scale).unwrap_or(0));
                match precision <= decimal::DIGITS_MAX_128 {
                    true => Values::Decimal128 { precision, scale, values: vec![] },
                    false => Values::Decimal256 { precision, scale, values: vec![] },
                }
            }
            SqlType::Char(n) | SqlType::VarChar(n) => Values::Text(Strings::new(*n)),
            SqlType::Binary(n) | SqlType::VarBinary(n) => Values::Binary(Strings::new(*n)),
            SqlType::Date => Values::Date(vec![]),
            SqlType::Time(p) => Values::Time { precision: *p, values: vec![] },
            SqlType::Timestamp(p) => Values::Timestamp { precision: *p, zoned: false, values: vec![] },
            SqlType::TimestampLtz(p) => Values::Timestamp { precision: *p, zoned: true, values: vec![] },
            SqlType::Array(e) => {
                let DataType::List(item) = column.ty.to_arrow() else {
                    return Err(Error::internal("an ARRAY that is no list"));
                };
                match &e.ty {
                    SqlType::Float => Values::Floats { ends: vec![0], items: vec![], item },
                    SqlType::Char(n) | SqlType::VarChar(n) => {
                        Values::Texts { ends: vec![0], items: Strings::new(*n), item }
                    }
                    other => return Err(Error::internal(format!("a column of type ARRAY<{other}>"))),
                }
            }
            other => return Err(Error::internal(format!("a column of type {other}"))),
        };
        let (name, ty, nullable) = (column.name.clone(), column.ty.clone(), column.nullable);
        Ok(Cells { name, ty, nullable, len: 0, null_rows: vec![], values })
    }

    /// Bytes of the values so far.
    pub fn bytes(&self) -> usize {
        let strings = |s: &Strings| s.data.len() + 4 * s.ends.len();
        4 * self.null_rows.len()
            + match &self.values {
                Values::Boolean(v) => v.len(),
                Values::TinyInt(v) => v.len(),
                Values::SmallInt(v) => 2 * v.len(),
                Values::Int(v) | Values::Date(v) => 4 * v.len(),
                Values::BigInt(v) | Values::Time { values: v, .. } | Values::Timestamp { values: v, .. } => 8 * v.len(),
                Values::Float(v) => 4 * v.len(),
                Values::Double(v) => 8 * v.len(),
                Values::Decimal128 { values, .. } => 16 * values.len(),
                Values::Decimal256 { values, .. } => 32 * values.len(),
                Values::Text(s) | Values::Binary(s) => strings(s),
                Values::Texts { ends, items, .. } => 4 * ends.len() + strings(items),
                Values::Floats { ends, items, .. } => 4 * ends.len() + 4 * items.len(),
            }
    }

    fn put_null(&mut self) -> Result<(), Why> {
        if !self.nullable {
            return Err(Why::new("NULL in a column that is declared NOT NULL"));
        }
        if self.null_rows.len() >= u32::MAX as usize {
            return Err(Why::new("too many rows in one batch"));
        }
        self.null_rows.push(self.len as u32);
        match &mut self.values {
            Values::Boolean(v) => v.push(false),
            Values::TinyInt(v) => v.push(0),
            Values::SmallInt(v) => v.push(0),
            Values::Int(v) | Values::Date(v) => v.push(0),
            Values::BigInt(v) | Values::Time { values: v, .. } | Values::Timestamp { values: v, .. } => v.push(0),
            Values::Float(v) => v.push(0.0),
            Values::Double(v) => v.push(0.0),
            Values::Decimal128 { values, .. } => values.push(0),
            Values::Decimal256 { values, .. } => values.push(i256::ZERO),
            Values::Text(s) | Values::Binary(s) => s.ends.push(s.begin() as i32),
            Values::Texts { ends, .. } | Values::Floats { ends, .. } => {
                ends.push(ends.last().copied().unwrap_or(0));
            }
        }
        self.len += 1;
        Ok(())
    }

    /// Appends a value.
    #[inline]
    pub fn put(&mut self, raw: Raw<'_>, meaning: &Meaning) -> Result<(), Why> {
        match (&mut self.values, raw) {
            // What most columns are, first.
            (Values::BigInt(v), Raw::Int(value)) => v.push(value),
            (Values::Int(v), Raw::Int(value)) => v.push(narrow(value)?),
            (Values::Text(s), Raw::Bytes(bytes)) if is_plain_text(meaning) => {
                decode(s, bytes, meaning)?;
                s.end_text(&self.ty)?;
            }
            (Values::Binary(s), Raw::Bytes(bytes)) => put_bytes(s, bytes, meaning, &self.ty)?,
            (_, Raw::Null) => return self.put_null(),
            _ => return self.put_rare(raw, meaning),
        }
        self.len += 1;
        Ok(())
    }

    fn put_rare(&mut self, raw: Raw<'_>, meaning: &Meaning) -> Result<(), Why> {
        match (&mut self.values, raw) {
            (Values::Boolean(v), Raw::Int(value)) => v.push(value != 0),
            (Values::Boolean(v), Raw::Unsigned(value) | Raw::Bits(value)) => v.push(value != 0),
            (Values::TinyInt(v), Raw::Int(value)) => v.push(narrow(value)?),
            (Values::SmallInt(v), Raw::Int(value)) => v.push(narrow(value)?),
            (Values::SmallInt(v), Raw::Unsigned(value)) => v.push(narrow(value)?),
            (Values::Int(v), Raw::Unsigned(value)) => v.push(narrow(value)?),
            (Values::BigInt(v), Raw::Unsigned(value) | Raw::Bits(value)) => {
                v.push(i64::try_from(value).map_err(|_| Why {
                    message: format!("{value} is out of range of BIGINT"),
                    note: Some("declare the column DECIMAL(20, 0)"),
                })?)
            }
            (Values::BigInt(v), Raw::Time(micros)) => v.push(micros),
            (Values::Float(v), Raw::Float(value)) => v.push(value),
            (Values::Double(v), Raw::Float(value)) => v.push(f64::from(value)),
            (Values::Double(v), Raw::Double(value)) => v.push(value),
            (Values::Decimal128 { scale, values, .. }, Raw::Int(value)) => {
                values.push(scaled_128(i128::from(value), *scale)?);
            }
            (Values::Decimal128 { scale, values, .. }, Raw::Unsigned(value) | Raw::Bits(value)) => {
                values.push(scaled_128(i128::from(value), *scale)?);
            }
            (Values::Decimal128 { scale, values, .. }, Raw::Decimal(value)) => {
                values.push(scaled_128(value, more_digits(*scale, meaning)?)?);
            }
            (Values::Decimal256 { scale, values, .. }, Raw::Int(value)) => {
                values.push(scaled_256(i256::from_i128(i128::from(value)), *scale)?);
            }
            (Values::Decimal256 { scale, values, .. }, Raw::Unsigned(value) | Raw::Bits(value)) => {
                values.push(scaled_256(i256::from_i128(i128::from(value)), *scale)?);
            }
            (Values::Decimal256 { scale, values, .. }, Raw::Decimal(value)) => {
                values.push(scaled_256(i256::from_i128(value), more_digits(*scale, meaning)?)?);
            }
            (Values::Decimal256 { scale, values, .. }, Raw::WideDecimal(value)) => {
                values.push(scaled_256(value, more_digits(*scale, meaning)?)?);
            }
            (Values::Date(v), Raw::Date(year, month, day)) => match temporal::days(year, month, day) {
                Some(days) => v.push(days as i32),
                None => return self.no_day(raw, meaning),
            },
            (Values::Time { precision, values }, Raw::Time(micros)) => {
                if !(0..86_400_000_000).contains(&micros) {
                    let mut text = vec![];
                    temporal::write_time(micros, digits_of(meaning), &mut text);
                    return Err(Why {
                        message: format!("{} is not a time of day", shown(&text)),
                        note: Some("declare the column STRING, or BIGINT for microseconds"),
                    });
                }
                values.push(if *precision > 6 { micros * 1000 } else { micros });
            }
            (Values::Timestamp { precision, values, .. }, Raw::DateTime(t)) => match temporal::micros(&t) {
                Some(micros) => values.push(in_unit(micros, *precision, &t)?),
                None => return self.no_day(raw, meaning),
            },
            (Values::Timestamp { precision, zoned, values }, Raw::Timestamp { seconds, micros }) => {
                if (seconds, micros) == (0, 0) {
                    return self.no_day(raw, meaning);
                }
                let local = if *zoned { seconds } else { seconds + meaning.zone.offset_seconds(seconds) };
                let value = local * 1_000_000 + i64::from(micros);
                values.push(in_unit(value, *precision, &temporal::civil(seconds, micros))?);
            }
            (Values::Text(s), _) => {
                put_text(s, raw, meaning)?;
                s.end_text(&self.ty)?;
            }
            (Values::Binary(s), Raw::Bits(value)) => {
                let MySqlType::Bit(bits) = meaning.ty else { return Err(unexpected(&self.ty, meaning)) };
                let bytes = value.to_be_bytes();
                put_bytes(s, &bytes[8 - usize::from(bits.div_ceil(8).min(8))..], meaning, &self.ty)?;
            }
            (Values::Texts { ends, items, .. }, _) => {
                put_texts(items, raw, meaning)?;
                ends.push(
                    i32::try_from(items.ends.len() - 1).map_err(|_| Why::new("more than 2^31 items in a batch"))?,
                );
            }
            (Values::Floats { ends, items, .. }, Raw::Bytes(bytes)) => {
                let (floats, rest) = bytes.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(Why::new(format!("a VECTOR of {} bytes", bytes.len())));
                }
                items.extend(floats.iter().map(|b| f32::from_le_bytes(*b)));
                ends.push(i32::try_from(items.len()).map_err(|_| Why::new("more than 2^31 items in a batch"))?);
            }
            _ => return Err(unexpected(&self.ty, meaning)),
        }
        self.len += 1;
        Ok(())
    }

    /// A date that is no day of the calendar.
    #[cold]
    fn no_day(&mut self, raw: Raw<'_>, meaning: &Meaning) -> Result<(), Why> {
        match meaning.zero_dates {
            ZeroDates::Null if self.nullable => self.put_null(),
            _ => {
                let mut text = vec![];
                write_temporal(raw, meaning, &mut text);
                let note = match meaning.zero_dates {
                    ZeroDates::Null => "the column is declared NOT NULL, so it cannot become NULL",
                    ZeroDates::Error => "declare the column STRING, or set 'zero-dates' = 'null'",
                };
                Err(Why { message: format!("{} is no day of the calendar", shown(&text)), note: Some(note) })
            }
        }
    }

    /// The values so far as an array; the column begins anew.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let len = std::mem::take(&mut self.len);
        let null_rows = std::mem::take(&mut self.null_rows);
        let nulls = (!null_rows.is_empty()).then(|| {
            let mut bits = arrow::array::BooleanBufferBuilder::new(len);
            bits.append_n(len, true);
            null_rows.iter().for_each(|row| bits.set_bit(*row as usize, false));
            NullBuffer::new(bits.finish())
        });
        Ok(match &mut self.values {
            Values::Boolean(v) => Arc::new(BooleanArray::new(BooleanBuffer::from(std::mem::take(v)), nulls)),
            Values::TinyInt(v) => primitive::<Int8Type>(v, nulls),
            Values::SmallInt(v) => primitive::<Int16Type>(v, nulls),
            Values::Int(v) => primitive::<Int32Type>(v, nulls),
            Values::BigInt(v) => primitive::<Int64Type>(v, nulls),
            Values::Float(v) => primitive::<Float32Type>(v, nulls),
            Values::Double(v) => primitive::<Float64Type>(v, nulls),
            Values::Decimal128 { precision, scale, values } => Arc::new(
                Decimal128Array::new(take(values).into(), nulls).with_precision_and_scale(*precision, *scale as i8)?,
            ),
            Values::Decimal256 { precision, scale, values } => Arc::new(
                Decimal256Array::new(std::mem::take(values).into(), nulls)
                    .with_precision_and_scale(*precision, *scale as i8)?,
            ),
            Values::Text(s) => {
                let (ends, data) = s.finish();
                debug_assert!(std::str::from_utf8(&data).is_ok());
                // SAFETY: every text was checked or made as UTF-8 by the decoder of its character set, and ends at the
                // end of one; the offsets rise and end at the data's end.
                Arc::new(unsafe { StringArray::new_unchecked(ends, data, nulls) })
            }
            Values::Binary(s) => {
                let (ends, data) = s.finish();
                Arc::new(BinaryArray::try_new(ends, data, nulls)?)
            }
            Values::Date(v) => primitive::<Date32Type>(v, nulls),
            Values::Time { precision: ..=6, values } => primitive::<Time64MicrosecondType>(values, nulls),
            Values::Time { values, .. } => primitive::<Time64NanosecondType>(values, nulls),
            Values::Timestamp { precision, zoned, values } => match precision {
                ..=3 => timestamp::<TimestampMillisecondType>(values, nulls, *zoned),
                ..=6 => timestamp::<TimestampMicrosecondType>(values, nulls, *zoned),
                _ => timestamp::<TimestampNanosecondType>(values, nulls, *zoned),
            },
            Values::Texts { ends, items, item } => {
                let (item_ends, data) = items.finish();
                let ends = std::mem::replace(ends, vec![0]);
                let items = Arc::new(StringArray::try_new(item_ends, data, None)?);
                Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::new(ends.into()), items, nulls)?)
            }
            Values::Floats { ends, items, item } => {
                let ends = std::mem::replace(ends, vec![0]);
                let items = primitive::<Float32Type>(items, None);
                Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::new(ends.into()), items, nulls)?)
            }
        })
    }
}

/// What was built, and room for as much in the next batch: values that grow from nothing are copied again and again.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(take(values).into(), nulls))
}

fn timestamp<T: arrow::datatypes::ArrowTimestampType>(
    values: &mut Vec<i64>,
    nulls: Option<NullBuffer>,
    zoned: bool,
) -> ArrayRef {
    let array = PrimitiveArray::<T>::new(take(values).into(), nulls);
    Arc::new(if zoned { array.with_timezone("UTC") } else { array })
}

#[cold]
fn unexpected(ty: &SqlType, meaning: &Meaning) -> Why {
    Why::new(format!("a value that {} does not have came for {ty}", meaning.ty))
}

#[inline]
fn narrow<T, U: TryFrom<T>>(value: T) -> Result<U, Why>
where
    T: Copy + std::fmt::Display,
{
    U::try_from(value).map_err(|_| Why::new(format!("{value} is out of range of the declared type")))
}

fn is_plain_text(meaning: &Meaning) -> bool {
    matches!(meaning.ty, MySqlType::VarChar(_) | MySqlType::Char(_) | MySqlType::Text)
}

/// Appends text of the column's character set as UTF-8.
#[inline]
fn decode(s: &mut Strings, bytes: &[u8], meaning: &Meaning) -> Result<(), Why> {
    let Some(charset) = meaning.charset else { return Err(Why::new("bytes came where text was expected")) };
    charset.decode(bytes, &mut s.data).map_err(|e| Why::new(format!("{} {e}", shown_raw(bytes))))
}

/// Bytes in a character set that we could not read.
fn shown_raw(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().take(SHOWN_CHARS_MAX / 2).map(|b| format!("{b:02x}")).collect();
    format!("x'{hex}{}'", if bytes.len() > SHOWN_CHARS_MAX / 2 { "…" } else { "" })
}

#[inline]
fn put_bytes(s: &mut Strings, bytes: &[u8], meaning: &Meaning, ty: &SqlType) -> Result<(), Why> {
    let bytes = match &meaning.ty {
        MySqlType::Geometry => bytes.get(SRID_BYTES..).ok_or_else(|| Why::new("a GEOMETRY without its system"))?,
        _ => bytes,
    };
    s.data.extend_from_slice(bytes);
    // Zero bytes at the end of a BINARY(n) are not in the binlog.
    if let MySqlType::Binary(n) = meaning.ty {
        let missing = (n as usize).saturating_sub(bytes.len());
        s.data.extend(std::iter::repeat_n(0, missing));
    }
    let length = s.data.len() - s.begin();
    if length > s.length_max as usize && s.length_max != LENGTH_MAX {
        return Err(Why::new(format!("{} has {length} bytes, more than {ty} holds", shown(bytes))));
    }
    s.end()
}

fn digits_of(meaning: &Meaning) -> u8 {
    match meaning.ty {
        MySqlType::Time(p) | MySqlType::DateTime(p) | MySqlType::Timestamp(p) => p,
        _ => 0,
    }
}

/// Appends a date or time as MySQL prints it.
fn write_temporal(raw: Raw<'_>, meaning: &Meaning, out: &mut Vec<u8>) {
    let digits = digits_of(meaning);
    match raw {
        Raw::Date(year, month, day) => temporal::write_date(year, month, day, out),
        Raw::DateTime(t) => temporal::write_datetime(&t, digits, out),
        Raw::Timestamp { seconds: 0, micros: 0 } => temporal::write_datetime(&DateTime::default(), digits, out),
        Raw::Timestamp { seconds, micros } => {
            let local = seconds + meaning.zone.offset_seconds(seconds);
            temporal::write_datetime(&temporal::civil(local, micros), digits, out);
        }
        Raw::Time(micros) => temporal::write_time(micros, digits, out),
        _ => {}
    }
}

/// Appends a value as MySQL's text protocol shows it.
fn put_text(s: &mut Strings, raw: Raw<'_>, meaning: &Meaning) -> Result<(), Why> {
    let out = &mut s.data;
    match (raw, &meaning.ty) {
        (Raw::Int(value), _) => out.extend_from_slice(value.to_string().as_bytes()),
        (Raw::Unsigned(value), MySqlType::Int { zerofill: true, width, .. }) => {
            out.extend_from_slice(format!("{value:0width$}", width = usize::from(*width)).as_bytes());
        }
        (Raw::Unsigned(value), MySqlType::Year) => out.extend_from_slice(format!("{value:04}").as_bytes()),
        (Raw::Unsigned(value), _) => out.extend_from_slice(value.to_string().as_bytes()),
        (Raw::Decimal(value), MySqlType::Decimal { scale, .. }) => {
            decimal::write_scaled(&value.to_string(), *scale, out);
        }
        (Raw::WideDecimal(value), MySqlType::Decimal { scale, .. }) => {
            decimal::write_scaled(&value.to_string(), *scale, out);
        }
        (Raw::Date(..) | Raw::DateTime(_) | Raw::Timestamp { .. } | Raw::Time(_), _) => {
            write_temporal(raw, meaning, out);
        }
        (Raw::Choice(0), MySqlType::Enum(_)) => {}
        (Raw::Choice(n), MySqlType::Enum(labels)) => {
            let label = usize::try_from(n - 1).ok().and_then(|i| labels.get(i));
            let label =
                label.ok_or_else(|| Why::new(format!("{n} is the number of none of {} labels", labels.len())))?;
            certain(label, meaning)?;
            out.extend_from_slice(label.as_bytes());
        }
        (Raw::Choice(mask), MySqlType::Set(labels)) => {
            for (i, label) in chosen(mask, labels)?.enumerate() {
                certain(label, meaning)?;
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(label.as_bytes());
            }
        }
        (Raw::BinaryJson(document), _) => {
            json::print(document, out)
                .map_err(|e| Why::new(format!("its JSON document is damaged: {}", e.message())))?;
        }
        (Raw::Bytes(bytes), MySqlType::Json) => {
            let text = std::str::from_utf8(bytes).map_err(|_| Why::new(format!("{} is not UTF-8", shown(bytes))))?;
            out.extend_from_slice(text.as_bytes());
        }
        (Raw::Bytes(bytes), MySqlType::Enum(_) | MySqlType::Set(_)) => return decode(s, bytes, meaning),
        _ => return Err(unexpected(&SqlType::STRING, meaning)),
    }
    Ok(())
}

/// The label is known to the last character.
fn certain(label: &str, meaning: &Meaning) -> Result<(), Why> {
    if meaning.labels_in_doubt && label.contains('?') {
        return Err(Why {
            message: format!(
                "the label {} may have a character that the server's catalog cannot show",
                shown(label.as_bytes())
            ),
            note: Some("SET GLOBAL binlog_row_metadata = FULL writes labels into the binlog as they are"),
        });
    }
    Ok(())
}

/// The labels of a SET's mask, in order.
fn chosen(mask: u64, labels: &[String]) -> Result<impl Iterator<Item = &String>, Why> {
    if labels.len() < 64 && mask >> labels.len() != 0 {
        return Err(Why::new(format!("{mask:#x} has bits beyond its {} labels", labels.len())));
    }
    Ok(labels.iter().enumerate().filter(move |(i, _)| mask >> i & 1 != 0).map(|(_, label)| label))
}

/// Appends the items of a SET.
fn put_texts(items: &mut Strings, raw: Raw<'_>, meaning: &Meaning) -> Result<(), Why> {
    let item_type = SqlType::VarChar(items.length_max);
    match (raw, &meaning.ty) {
        (Raw::Choice(mask), MySqlType::Set(labels)) => {
            for label in chosen(mask, labels)? {
                certain(label, meaning)?;
                items.data.extend_from_slice(label.as_bytes());
                items.end_text(&item_type)?;
            }
        }
        (Raw::Bytes([]), MySqlType::Set(_)) => {}
        (Raw::Bytes(bytes), MySqlType::Set(_)) => {
            // Labels hold no comma.
            let mut all = Strings::new(LENGTH_MAX);
            decode(&mut all, bytes, meaning)?;
            for label in all.data.split(|b| *b == b',') {
                items.data.extend_from_slice(label);
                items.end_text(&item_type)?;
            }
        }
        _ => return Err(unexpected(&item_type, meaning)),
    }
    Ok(())
}

/// By how many digits the declared scale exceeds the server's.
fn more_digits(scale: u8, meaning: &Meaning) -> Result<u8, Why> {
    match meaning.ty {
        MySqlType::Decimal { scale: server, .. } if server <= scale => Ok(scale - server),
        _ => Err(Why::new(format!("{} does not go into a scale of {scale}", meaning.ty))),
    }
}

fn scaled_128(value: i128, digits: u8) -> Result<i128, Why> {
    let power = 10_i128.checked_pow(u32::from(digits));
    power.and_then(|p| value.checked_mul(p)).ok_or_else(|| Why::new(format!("{value} is out of range")))
}

fn scaled_256(value: i256, digits: u8) -> Result<i256, Why> {
    let power = i256::from_i128(10).checked_pow(u32::from(digits));
    power.and_then(|p| value.checked_mul(p)).ok_or_else(|| Why::new(format!("{value} is out of range")))
}

/// Microseconds in the unit of TIMESTAMP(precision).
fn in_unit(micros: i64, precision: u8, t: &DateTime) -> Result<i64, Why> {
    match precision {
        ..=3 => Ok(micros.div_euclid(1000)),
        4..=6 => Ok(micros),
        _ => micros.checked_mul(1000).ok_or_else(|| Why {
            message: format!("'{t}' is out of range of TIMESTAMP({precision})"),
            note: Some("nanoseconds reach from 1677 to 2262: declare the column TIMESTAMP(6)"),
        }),
    }
}
