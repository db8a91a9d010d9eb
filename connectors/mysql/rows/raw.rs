//! Values as the server sends them: what row images and rows of the binary protocol are read into, one at a time, on
//! the stack.

use arrow::datatypes::i256;
use thalweg_core::Result;

use super::temporal;
use crate::binlog::bytes::{Bytes, damaged};
use crate::binlog::table_map::{MapColumn, column_code as code};
use crate::decimal;
use crate::key::DateTime;
use crate::types::MySqlType;

/// A value before it is put into its column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Raw<'a> {
    Null,
    Int(i64),
    /// Unsigned integers, YEAR.
    Unsigned(u64),
    Float(f32),
    Double(f64),
    /// Unscaled, of the server's scale.
    Decimal(i128),
    WideDecimal(i256),
    /// Year, month, day: may be no day of the calendar.
    Date(u16, u8, u8),
    DateTime(DateTime),
    /// Since 1970; both 0: the zero value.
    Timestamp {
        seconds: i64,
        micros: u32,
    },
    /// Microseconds.
    Time(i64),
    /// Texts in the column's character set, and bytes.
    Bytes(&'a [u8]),
    /// BIT.
    Bits(u64),
    /// The number of an ENUM's label, or the mask of a SET's.
    Choice(u64),
    /// A document as the binlog has it.
    BinaryJson(&'a [u8]),
}

/// How a column's value is read from a row image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    Int8,
    Int16,
    Int24,
    Int32,
    Int64,
    Unsigned8,
    Unsigned16,
    Unsigned24,
    Unsigned32,
    Unsigned64,
    Year,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
        bytes: u8,
    },
    WideDecimal {
        precision: u8,
        scale: u8,
        bytes: u8,
    },
    Bits {
        bytes: u8,
    },
    Date,
    /// Temporal types with their fractional digits.
    DateTime(u8),
    Timestamp(u8),
    Time(u8),
    /// Bytes behind their length of 1 to 4 bytes.
    Bytes {
        prefix: u8,
    },
    Json {
        prefix: u8,
    },
    Choice {
        bytes: u8,
    },
    /// Of a type that is only skipped.
    Other {
        bytes: u8,
    },
}

impl Read {
    /// How to move over a column of which only the table map is known.
    pub fn of_map(column: &MapColumn<'_>) -> Result<Read> {
        let meta = column.meta;
        Ok(match column.code {
            code::TINY => Read::Int8,
            code::SHORT => Read::Int16,
            code::INT24 => Read::Int24,
            code::LONG => Read::Int32,
            code::LONGLONG => Read::Int64,
            code::YEAR => Read::Year,
            code::FLOAT => Read::Float,
            code::DOUBLE => Read::Double,
            code::NEWDECIMAL => {
                let (precision, scale) = ((meta >> 8) as u8, meta as u8);
                if !(1..=65).contains(&precision) || scale > precision {
                    return Err(damaged(format!("a DECIMAL({precision}, {scale})")));
                }
                Read::Other { bytes: decimal::binary_bytes(precision, scale) as u8 }
            }
            code::BIT => Read::Other { bytes: u8::try_from(meta.div_ceil(8)).map_err(|_| damaged("a long BIT"))? },
            code::DATE | code::NEWDATE | code::TIME => Read::Other { bytes: 3 },
            code::TIMESTAMP => Read::Other { bytes: 4 },
            code::DATETIME => Read::Other { bytes: 8 },
            code::DATETIME2 => Read::Other { bytes: 5 + fraction_bytes(meta)? },
            code::TIMESTAMP2 => Read::Other { bytes: 4 + fraction_bytes(meta)? },
            code::TIME2 => Read::Other { bytes: 3 + fraction_bytes(meta)? },
            code::VARCHAR | code::VAR_STRING | code::STRING => Read::Bytes { prefix: if meta > 255 { 2 } else { 1 } },
            code::BLOB | code::GEOMETRY | code::VECTOR | code::JSON | code::TYPED_ARRAY => match meta {
                1..=4 => Read::Bytes { prefix: meta as u8 },
                _ => return Err(damaged(format!("a length of {meta} bytes"))),
            },
            code::ENUM if (1..=2).contains(&meta) => Read::Choice { bytes: meta as u8 },
            code::SET if (1..=8).contains(&meta) => Read::Choice { bytes: meta as u8 },
            code::NULL => Read::Other { bytes: 0 },
            other => return Err(damaged(format!("a column of type {other} ({meta})"))),
        })
    }

    /// How to read a column of a known type, which the table map was found to agree with.
    pub fn of_type(ty: &MySqlType, column: &MapColumn<'_>) -> Result<Read> {
        Ok(match ty {
            MySqlType::Int { bytes, unsigned, .. } => match (bytes, unsigned) {
                (1, false) => Read::Int8,
                (2, false) => Read::Int16,
                (3, false) => Read::Int24,
                (4, false) => Read::Int32,
                (_, false) => Read::Int64,
                (1, true) => Read::Unsigned8,
                (2, true) => Read::Unsigned16,
                (3, true) => Read::Unsigned24,
                (4, true) => Read::Unsigned32,
                (_, true) => Read::Unsigned64,
            },
            MySqlType::Decimal { precision, scale, .. } => {
                let (precision, scale) = (*precision, *scale);
                let bytes = decimal::binary_bytes(precision, scale) as u8;
                match precision <= decimal::DIGITS_MAX_128 {
                    true => Read::Decimal { precision, scale, bytes },
                    false => Read::WideDecimal { precision, scale, bytes },
                }
            }
            MySqlType::Bit(bits) => Read::Bits { bytes: bits.div_ceil(8) },
            MySqlType::Date => Read::Date,
            MySqlType::DateTime(p) => Read::DateTime(*p),
            MySqlType::Timestamp(p) => Read::Timestamp(*p),
            MySqlType::Time(p) => Read::Time(*p),
            MySqlType::Json => match Read::of_map(column)? {
                Read::Bytes { prefix } => Read::Json { prefix },
                other => other,
            },
            _ => Read::of_map(column)?,
        })
    }

    #[inline]
    pub fn read<'a>(&self, rest: &mut Bytes<'a>) -> Result<Raw<'a>> {
        Ok(match *self {
            Read::Int8 => Raw::Int(i64::from(rest.u8()? as i8)),
            Read::Int16 => Raw::Int(i64::from(rest.u16()? as i16)),
            Read::Int24 => Raw::Int(i64::from((rest.u24()? << 8) as i32 >> 8)),
            Read::Int32 => Raw::Int(i64::from(rest.u32()? as i32)),
            Read::Int64 => Raw::Int(rest.u64()? as i64),
            Read::Unsigned8 => Raw::Unsigned(u64::from(rest.u8()?)),
            Read::Unsigned16 => Raw::Unsigned(u64::from(rest.u16()?)),
            Read::Unsigned24 => Raw::Unsigned(u64::from(rest.u24()?)),
            Read::Unsigned32 => Raw::Unsigned(u64::from(rest.u32()?)),
            Read::Unsigned64 => Raw::Unsigned(rest.u64()?),
            // 0 is the year 0000.
            Read::Year => Raw::Unsigned(match rest.u8()? {
                0 => 0,
                year => 1900 + u64::from(year),
            }),
            Read::Float => Raw::Float(f32::from_bits(rest.u32()?)),
            Read::Double => Raw::Double(f64::from_bits(rest.u64()?)),
            Read::Decimal { precision, scale, bytes } => {
                let bytes = rest.take(usize::from(bytes))?;
                Raw::Decimal(decimal::from_binary(bytes, precision, scale).ok_or_else(no_decimal)?)
            }
            Read::WideDecimal { precision, scale, bytes } => {
                let bytes = rest.take(usize::from(bytes))?;
                Raw::WideDecimal(decimal::from_binary(bytes, precision, scale).ok_or_else(no_decimal)?)
            }
            Read::Bits { bytes } => Raw::Bits(big_endian(rest.take(usize::from(bytes))?)),
            Read::Date => temporal::read_date(rest)?,
            Read::DateTime(p) => temporal::read_datetime(rest, p)?,
            Read::Timestamp(p) => temporal::read_timestamp(rest, p)?,
            Read::Time(p) => temporal::read_time(rest, p)?,
            Read::Bytes { prefix } => Raw::Bytes(prefixed(rest, prefix)?),
            Read::Json { prefix } => Raw::BinaryJson(prefixed(rest, prefix)?),
            Read::Choice { bytes } => {
                let bytes = rest.take(usize::from(bytes))?;
                Raw::Choice(bytes.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
            }
            Read::Other { bytes } => Raw::Bytes(rest.take(usize::from(bytes))?),
        })
    }

    /// Moves behind a value.
    #[inline]
    pub fn skip(&self, rest: &mut Bytes<'_>) -> Result<()> {
        let bytes = match *self {
            Read::Int8 | Read::Unsigned8 | Read::Year => 1,
            Read::Int16 | Read::Unsigned16 => 2,
            Read::Int24 | Read::Unsigned24 | Read::Date => 3,
            Read::Int32 | Read::Unsigned32 | Read::Float => 4,
            Read::Int64 | Read::Unsigned64 | Read::Double => 8,
            Read::Decimal { bytes, .. }
            | Read::WideDecimal { bytes, .. }
            | Read::Bits { bytes }
            | Read::Choice { bytes }
            | Read::Other { bytes } => usize::from(bytes),
            Read::DateTime(p) => 5 + usize::from(p.div_ceil(2)),
            Read::Timestamp(p) => 4 + usize::from(p.div_ceil(2)),
            Read::Time(p) => 3 + usize::from(p.div_ceil(2)),
            Read::Bytes { prefix } | Read::Json { prefix } => return prefixed(rest, prefix).map(drop),
        };
        rest.take(bytes).map(drop)
    }
}

fn fraction_bytes(digits: u16) -> Result<u8> {
    match digits {
        0..=6 => Ok(digits.div_ceil(2) as u8),
        _ => Err(damaged(format!("{digits} fractional digits"))),
    }
}

#[cold]
fn no_decimal() -> thalweg_core::Error {
    damaged("the bytes of a DECIMAL hold no digits")
}

pub(super) fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |v, b| v << 8 | u64::from(*b))
}

#[inline]
fn prefixed<'a>(rest: &mut Bytes<'a>, prefix: u8) -> Result<&'a [u8]> {
    let length = match prefix {
        1 => u32::from(rest.u8()?),
        2 => u32::from(rest.u16()?),
        3 => rest.u24()?,
        _ => rest.u32()?,
    };
    rest.take(length as usize)
}
