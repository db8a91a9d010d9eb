//! A column being read: typed values, appended cell by cell, taken back when a record turns out to be bad.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Decimal128Array, Decimal256Array, ListArray, MapArray,
    PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, i256,
};
use thalweg_core::types::LENGTH_MAX;
use thalweg_core::{Error, Result, SqlType};

use crate::bad_row::shorten;
use crate::base64;
use crate::number::{NotA, parse_decimal128, parse_decimal256, parse_float, parse_integer};
use crate::time::{Standard, parse_date, parse_time, parse_timestamp};

/// Why a cell cannot be taken: the whole message, `column amount: 'x' is not a DECIMAL(10, 2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject(pub Box<str>);

/// The cells of one column (or of a part of a nested one).
pub struct Cells {
    /// For messages: `amount`, `tags[]`, `address.city`.
    pub path: String,
    pub ty: SqlType,
    nullable: bool,
    /// NULL for NOT NULL is a value that nobody looks at, no error.
    pub may_be_meaningless: bool,
    len: usize,
    /// Rows that are NULL, ascending: nothing to do for the others.
    null_rows: Vec<u32>,
    pub values: Values,
}

pub enum Values {
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
    /// `ends` begins with 0 and has one more than there are cells.
    Text {
        chars_max: u32,
        ends: Vec<i32>,
        data: Vec<u8>,
    },
    Bytes {
        bytes_max: u32,
        ends: Vec<i32>,
        data: Vec<u8>,
    },
    Date(Vec<i32>),
    Time {
        precision: u8,
        values: Vec<i64>,
    },
    Timestamp {
        precision: u8,
        zoned: bool,
        standard: Standard,
        values: Vec<i64>,
    },
    Array {
        ends: Vec<i32>,
        items: Box<Cells>,
    },
    Map {
        ends: Vec<i32>,
        keys: Box<Cells>,
        values: Box<Cells>,
    },
    Row(Vec<Cells>),
}

impl Cells {
    /// # Errors
    /// Types that no column has.
    pub fn new(path: impl Into<String>, ty: &SqlType, nullable: bool, standard: Standard) -> Result<Self> {
        let path = path.into();
        let begin = || vec![0i32];
        let values = match ty {
            SqlType::Boolean => Values::Boolean(vec![]),
            SqlType::TinyInt => Values::TinyInt(vec![]),
            SqlType::SmallInt => Values::SmallInt(vec![]),
            SqlType::Int => Values::Int(vec![]),
            SqlType::BigInt => Values::BigInt(vec![]),
            SqlType::Float => Values::Float(vec![]),
            SqlType::Double => Values::Double(vec![]),
            SqlType::Decimal { precision, scale } => {
                let Ok(scale) = u8::try_from(*scale) else {
                    return Err(Error::unsupported(format!("column {path}: {ty} with a negative scale")));
                };
                match *precision {
                    precision @ ..=38 => Values::Decimal128 { precision, scale, values: vec![] },
                    precision => Values::Decimal256 { precision, scale, values: vec![] },
                }
            }
            SqlType::Char(n) | SqlType::VarChar(n) => Values::Text { chars_max: *n, ends: begin(), data: vec![] },
            SqlType::Binary(n) | SqlType::VarBinary(n) => Values::Bytes { bytes_max: *n, ends: begin(), data: vec![] },
            SqlType::Date => Values::Date(vec![]),
            SqlType::Time(p) => Values::Time { precision: *p, values: vec![] },
            SqlType::Timestamp(p) => Values::Timestamp { precision: *p, zoned: false, standard, values: vec![] },
            SqlType::TimestampLtz(p) => Values::Timestamp { precision: *p, zoned: true, standard, values: vec![] },
            SqlType::Array(e) => {
                let items = Cells::new(format!("{path}[]"), &e.ty, e.nullable, standard)?;
                Values::Array { ends: begin(), items: Box::new(items) }
            }
            SqlType::Map(key, e) => Values::Map {
                ends: begin(),
                keys: Box::new(Cells::new(format!("{path} (key)"), key, false, standard)?),
                values: Box::new(Cells::new(format!("{path} (value)"), &e.ty, e.nullable, standard)?),
            },
            SqlType::Row(columns) => {
                let one =
                    |c: &thalweg_core::Column| Cells::new(format!("{path}.{}", c.name), &c.ty, c.nullable, standard);
                Values::Row(columns.iter().map(one).collect::<Result<_>>()?)
            }
            SqlType::Null | SqlType::Interval => {
                return Err(Error::unsupported(format!("column {path}: {ty} cannot be read or written")));
            }
        };
        Ok(Cells { path, ty: ty.clone(), nullable, may_be_meaningless: false, len: 0, null_rows: vec![], values })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// `column amount: 'x' is not a DECIMAL(10, 2)`.
    #[cold]
    pub fn not_a(&self, text: &[u8]) -> Reject {
        let article = if matches!(self.ty, SqlType::Int | SqlType::Array(_)) { "an" } else { "a" };
        let mut message = format!("column {}: '{}' is not {article} {}", self.path, shorten(text), self.ty);
        if let Values::Timestamp { standard, .. } = &self.values {
            let other = match standard {
                Standard::Sql if text.get(10) == Some(&b'T') => "ISO-8601",
                Standard::Iso8601 if text.get(10) == Some(&b' ') => "SQL",
                _ => return Reject(message.into()),
            };
            message.push_str(&format!(" (times in this form need 'timestamp-format.standard' = '{other}')"));
        }
        Reject(message.into())
    }

    #[cold]
    fn numeric(&self, text: &[u8], why: NotA) -> Reject {
        match why {
            NotA::Number => self.not_a(text),
            NotA::InRange => {
                Reject(format!("column {}: '{}' is out of range of {}", self.path, shorten(text), self.ty).into())
            }
        }
    }

    /// Counts the cell whose value the caller pushed to `values`.
    #[inline(always)]
    pub fn pushed(&mut self) {
        self.len += 1;
    }

    /// # Errors
    /// The column is NOT NULL.
    #[inline]
    pub fn push_null(&mut self) -> Result<(), Reject> {
        if !self.nullable {
            if self.may_be_meaningless {
                self.push_meaningless();
                return Ok(());
            }
            return Err(Reject(format!("column {}: NULL in a NOT NULL column", self.path).into()));
        }
        self.push_filler();
        Ok(())
    }

    /// NULL, also into NOT NULL: beneath a NULL row.
    fn push_filler(&mut self) {
        self.null_rows.push(self.len as u32);
        self.push_zero();
    }

    /// NULL, or zero if the column is NOT NULL: a value that nobody looks at.
    pub fn push_meaningless(&mut self) {
        if self.nullable {
            return self.push_filler();
        }
        if let Values::Row(columns) = &mut self.values {
            self.len += 1;
            return columns.iter_mut().for_each(Cells::push_meaningless);
        }
        self.push_zero();
    }

    fn push_zero(&mut self) {
        self.len += 1;
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
            Values::Text { ends, .. }
            | Values::Bytes { ends, .. }
            | Values::Array { ends, .. }
            | Values::Map { ends, .. } => {
                ends.push(*ends.last().expect("begins with 0"));
            }
            Values::Row(columns) => columns.iter_mut().for_each(Cells::push_filler),
        }
    }

    /// Takes back all cells from `len` on, and what was begun of a nested one.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        while self.null_rows.last().is_some_and(|r| *r as usize >= len) {
            self.null_rows.pop();
        }
        match &mut self.values {
            Values::Boolean(v) => v.truncate(len),
            Values::TinyInt(v) => v.truncate(len),
            Values::SmallInt(v) => v.truncate(len),
            Values::Int(v) | Values::Date(v) => v.truncate(len),
            Values::BigInt(v) | Values::Time { values: v, .. } | Values::Timestamp { values: v, .. } => v.truncate(len),
            Values::Float(v) => v.truncate(len),
            Values::Double(v) => v.truncate(len),
            Values::Decimal128 { values, .. } => values.truncate(len),
            Values::Decimal256 { values, .. } => values.truncate(len),
            Values::Text { ends, data, .. } | Values::Bytes { ends, data, .. } => {
                ends.truncate(len + 1);
                data.truncate(*ends.last().expect("begins with 0") as usize);
            }
            Values::Array { ends, items } => {
                ends.truncate(len + 1);
                items.truncate(*ends.last().expect("begins with 0") as usize);
            }
            Values::Map { ends, keys, values } => {
                ends.truncate(len + 1);
                let entries = *ends.last().expect("begins with 0") as usize;
                keys.truncate(entries);
                values.truncate(entries);
            }
            Values::Row(columns) => columns.iter_mut().for_each(|c| c.truncate(len)),
        }
    }

    /// Ends a text whose bytes were appended to `data`; they are UTF-8 if `ascii`, else checked here.
    #[inline]
    pub fn end_text(&mut self, ascii: bool) -> Result<(), Reject> {
        let Values::Text { chars_max, ends, data } = &mut self.values else {
            unreachable!("called for text only");
        };
        let begin = *ends.last().expect("begins with 0") as usize;
        let Ok(end) = i32::try_from(data.len()) else {
            return Err(Reject(format!("column {}: more than 2 GiB of text in one batch", self.path).into()));
        };
        let text = &data[begin..];
        let chars = if ascii {
            text.len()
        } else {
            match std::str::from_utf8(text) {
                Ok(text) if *chars_max == LENGTH_MAX => text.len().min(LENGTH_MAX as usize),
                Ok(text) => text.chars().count(),
                Err(_) => {
                    let text = shorten(text);
                    return Err(Reject(format!("column {}: '{text}' is not UTF-8", self.path).into()));
                }
            }
        };
        if chars > *chars_max as usize {
            let text = shorten(text);
            return Err(Reject(format!("column {}: '{text}' is longer than {}", self.path, self.ty).into()));
        }
        ends.push(end);
        self.len += 1;
        Ok(())
    }

    /// Ends an ARRAY or MAP whose elements were appended.
    pub fn end_collection(&mut self) -> Result<(), Reject> {
        let (ends, elements) = match &mut self.values {
            Values::Array { ends, items } => (ends, items.len()),
            Values::Map { ends, keys, .. } => (ends, keys.len()),
            _ => unreachable!("called for collections only"),
        };
        let Ok(end) = i32::try_from(elements) else {
            return Err(Reject(format!("column {}: more than 2^31 elements in one batch", self.path).into()));
        };
        ends.push(end);
        self.len += 1;
        Ok(())
    }

    /// Appends a scalar from its text (white space around numbers, dates and booleans is ignored, as in Flink).
    /// On an error nothing was appended that `truncate` does not take back.
    pub fn push_text(&mut self, text: &[u8]) -> Result<(), Reject> {
        if let Values::Text { data, .. } = &mut self.values {
            data.extend_from_slice(text);
            return self.end_text(text.is_ascii());
        }
        let text = text.trim_ascii();
        match &mut self.values {
            Values::Boolean(v) => {
                let value = match text {
                    b"true" => true,
                    b"false" => false,
                    _ if text.eq_ignore_ascii_case(b"true") => true,
                    _ if text.eq_ignore_ascii_case(b"false") => false,
                    _ => return Err(self.not_a(text)),
                };
                v.push(value);
            }
            Values::TinyInt(_) | Values::SmallInt(_) | Values::Int(_) | Values::BigInt(_) => {
                return match parse_integer(text) {
                    Ok(value) => self.push_integer(value, text),
                    Err(why) => Err(self.numeric(text, why)),
                };
            }
            Values::Float(v) => match parse_float(text) {
                Ok(value) => v.push(value),
                Err(why) => return Err(self.numeric(text, why)),
            },
            Values::Double(v) => match parse_float(text) {
                Ok(value) => v.push(value),
                Err(why) => return Err(self.numeric(text, why)),
            },
            Values::Decimal128 { precision, scale, values } => match parse_decimal128(text, *precision, *scale) {
                Ok(value) => values.push(value),
                Err(why) => return Err(self.numeric(text, why)),
            },
            Values::Decimal256 { precision, scale, values } => match parse_decimal256(text, *precision, *scale) {
                Ok(value) => values.push(value),
                Err(why) => return Err(self.numeric(text, why)),
            },
            Values::Bytes { bytes_max, ends, data } => {
                let begin = data.len();
                if base64::decode(text, data).is_none() {
                    let text = shorten(text);
                    return Err(Reject(format!("column {}: '{text}' is not Base64", self.path).into()));
                }
                let Ok(end) = i32::try_from(data.len()) else {
                    return Err(Reject(format!("column {}: more than 2 GiB of bytes in one batch", self.path).into()));
                };
                if data.len() - begin > *bytes_max as usize {
                    let bytes = data.len() - begin;
                    return Err(Reject(
                        format!("column {}: {bytes} bytes are more than {}", self.path, self.ty).into(),
                    ));
                }
                ends.push(end);
            }
            Values::Date(v) => match parse_date(text) {
                Some(value) => v.push(value),
                None => return Err(self.not_a(text)),
            },
            Values::Time { precision, values } => match parse_time(text, *precision) {
                Some(value) => values.push(value),
                None => return Err(self.not_a(text)),
            },
            Values::Timestamp { precision, zoned, standard, values } => {
                match parse_timestamp(text, *precision, *standard, *zoned) {
                    Some(value) => values.push(value),
                    None => return Err(self.not_a(text)),
                }
            }
            Values::Text { .. } => unreachable!("done above"),
            Values::Array { .. } | Values::Map { .. } | Values::Row(_) => return Err(self.not_a(text)),
        }
        self.len += 1;
        Ok(())
    }

    /// Appends a whole number to an integer column; `text` is for the message.
    #[inline]
    pub fn push_integer(&mut self, value: i64, text: &[u8]) -> Result<(), Reject> {
        let fits = match &mut self.values {
            Values::BigInt(v) => {
                v.push(value);
                true
            }
            Values::Int(v) => i32::try_from(value).map(|n| v.push(n)).is_ok(),
            Values::SmallInt(v) => i16::try_from(value).map(|n| v.push(n)).is_ok(),
            Values::TinyInt(v) => i8::try_from(value).map(|n| v.push(n)).is_ok(),
            _ => unreachable!("called for integers only"),
        };
        if !fits {
            return Err(self.numeric(text, NotA::InRange));
        }
        self.len += 1;
        Ok(())
    }

    /// The cells as an array of the type's layout; empty after.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let rows = std::mem::take(&mut self.len);
        let null_rows = std::mem::take(&mut self.null_rows);
        let nulls = (!null_rows.is_empty()).then(|| {
            let mut valid = BooleanBufferBuilder::new(rows);
            valid.append_n(rows, true);
            null_rows.iter().for_each(|r| valid.set_bit(*r as usize, false));
            NullBuffer::new(valid.finish())
        });
        let ty = self.ty.to_arrow();
        Ok(match &mut self.values {
            Values::Boolean(v) => {
                let bits = BooleanBuffer::from(v.as_slice());
                v.clear();
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Values::TinyInt(v) => primitive::<Int8Type>(v, nulls, ty),
            Values::SmallInt(v) => primitive::<Int16Type>(v, nulls, ty),
            Values::Int(v) => primitive::<Int32Type>(v, nulls, ty),
            Values::Date(v) => primitive::<Date32Type>(v, nulls, ty),
            Values::BigInt(v) => primitive::<Int64Type>(v, nulls, ty),
            Values::Float(v) => primitive::<Float32Type>(v, nulls, ty),
            Values::Double(v) => primitive::<Float64Type>(v, nulls, ty),
            Values::Decimal128 { values, .. } => {
                Arc::new(Decimal128Array::new(take(values).into(), nulls).with_data_type(ty))
            }
            Values::Decimal256 { values, .. } => {
                Arc::new(Decimal256Array::new(take(values).into(), nulls).with_data_type(ty))
            }
            Values::Time { precision, values } if *precision <= 6 => {
                primitive::<Time64MicrosecondType>(values, nulls, ty)
            }
            Values::Time { values, .. } => primitive::<Time64NanosecondType>(values, nulls, ty),
            Values::Timestamp { precision: ..=3, values, .. } => {
                primitive::<TimestampMillisecondType>(values, nulls, ty)
            }
            Values::Timestamp { precision: ..=6, values, .. } => {
                primitive::<TimestampMicrosecondType>(values, nulls, ty)
            }
            Values::Timestamp { values, .. } => primitive::<TimestampNanosecondType>(values, nulls, ty),
            Values::Text { ends, data, .. } => Arc::new(StringArray::try_new(offsets(ends), take(data).into(), nulls)?),
            Values::Bytes { ends, data, .. } => {
                Arc::new(BinaryArray::try_new(offsets(ends), take(data).into(), nulls)?)
            }
            Values::Array { ends, items } => {
                let DataType::List(field) = ty else { unreachable!("an ARRAY lies as a list") };
                Arc::new(ListArray::try_new(field, offsets(ends), items.finish()?, nulls)?)
            }
            Values::Map { ends, keys, values } => {
                let DataType::Map(entries, sorted) = ty else { unreachable!("a MAP lies as a map") };
                let DataType::Struct(fields) = entries.data_type() else {
                    unreachable!("a map's entries are a struct")
                };
                let rows = StructArray::try_new(fields.clone(), vec![keys.finish()?, values.finish()?], None)?;
                Arc::new(MapArray::try_new(entries, offsets(ends), rows, nulls, sorted)?)
            }
            Values::Row(columns) => {
                let DataType::Struct(fields) = ty else { unreachable!("a ROW lies as a struct") };
                let columns = columns.iter_mut().map(Cells::finish).collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new_with_length(fields, columns, nulls, rows)?)
            }
        })
    }
}

/// The values, with as much room left as they took: the next batch is of about the same size.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = values.len();
    std::mem::replace(values, Vec::with_capacity(room))
}

fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let taken = take(ends);
    ends.push(0);
    OffsetBuffer::new(ScalarBuffer::from(taken))
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>, ty: DataType) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(take(values).into(), nulls).with_data_type(ty))
}
