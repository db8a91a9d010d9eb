//! Rows of a prepared SELECT, in the binary protocol, behind their first byte: a bitmap of NULLs that begins at its third
//! bit, and values.

use thalweg_core::{Error, Result};

use super::raw::{Raw, big_endian};
use super::temporal;
use crate::binlog::bytes::{Bytes, damaged};
use crate::binlog::table_map::column_code as code;
use crate::decimal;
use crate::key::{DateTime, Key};
use crate::layout::{Meaning, Output, TableLayout};
use crate::plan::part_of;
use crate::types::MySqlType;

/// How rows of a result of `TableLayout::select_list` are read.
#[derive(Debug)]
pub struct RowPlan {
    /// Number of columns of the key, which come first.
    key: usize,
    columns: Vec<RowColumn>,
}

#[derive(Debug)]
struct RowColumn {
    name: String,
    ty: MySqlType,
    /// Columns of the output that it goes to.
    targets: Vec<(usize, Meaning)>,
}

impl RowPlan {
    /// `codes`: the type of each column of the result, as the server numbers them.
    pub(crate) fn new(layout: &TableLayout, codes: &[u8]) -> Result<RowPlan> {
        let mut columns = vec![];
        for (column, ty) in layout.key().iter().zip(layout.key_types()) {
            // ENUM and SET are selected as numbers.
            let ty = match ty {
                MySqlType::Enum(_) | MySqlType::Set(_) => {
                    MySqlType::Int { bytes: 8, unsigned: true, width: 0, zerofill: false }
                }
                other => other.clone(),
            };
            columns.push(RowColumn { name: column.name.clone(), ty, targets: vec![] });
        }
        for &server in layout.selected() {
            let name = layout.columns()[server].name.clone();
            let mut targets = vec![];
            for (place, output) in layout.outputs().iter().enumerate() {
                match output {
                    Output::Column { server: s, meaning } if *s == server => {
                        targets.push((place, Meaning::clone(meaning)));
                    }
                    _ => {}
                }
            }
            let ty = match targets.first() {
                Some((_, meaning)) => meaning.ty.clone(),
                None => return Err(Error::internal("a selected column without an output")),
            };
            columns.push(RowColumn { name, ty, targets });
        }
        let fits = |column: &RowColumn, code: u8| codes_of(&column.ty).contains(&code);
        let misfit = columns.iter().zip(codes).find(|(column, code)| !fits(column, **code));
        if codes.len() != columns.len() || misfit.is_some() {
            let what = match misfit {
                Some((column, code)) => format!("column \"{}\" is {} and comes as type {code}", column.name, column.ty),
                None => format!("{} columns where {} were selected", codes.len(), columns.len()),
            };
            return Err(Error::unsupported(format!("table {} was changed while it was read: {what}", layout.name()))
                .note("start again, so that the table is looked at anew"));
        }
        Ok(RowPlan { key: layout.key().len(), columns })
    }

    /// Reads a row and hands on each value that the output needs.
    #[inline]
    pub(crate) fn read(&self, row: &[u8], mut put: impl FnMut(usize, Raw<'_>, &Meaning) -> Result<()>) -> Result<()> {
        let (nulls, mut rest) = self.split(row)?;
        for (i, column) in self.columns.iter().enumerate() {
            let is_null = nulls[(i + 2) / 8] & 1 << ((i + 2) % 8) != 0;
            let raw = if is_null { Raw::Null } else { read_value(&mut rest, &column.ty)? };
            for (place, meaning) in &column.targets {
                put(*place, raw, meaning)?;
            }
        }
        if !rest.is_empty() {
            return Err(damaged(format!("{} bytes behind a row of a result", rest.rest().len())));
        }
        Ok(())
    }

    /// The first bytes of a row, of which `key` makes its key.
    #[inline]
    pub(crate) fn key_bytes<'a>(&self, row: &'a [u8]) -> Result<&'a [u8]> {
        let (nulls, mut rest) = self.split(row)?;
        for (i, column) in self.columns[..self.key].iter().enumerate() {
            if nulls[(i + 2) / 8] & 1 << ((i + 2) % 8) == 0 {
                read_value(&mut rest, &column.ty)?;
            }
        }
        Ok(&row[..row.len() - rest.rest().len()])
    }

    pub(crate) fn key(&self, row: &[u8]) -> Result<Key> {
        let (nulls, mut rest) = self.split(row)?;
        let mut parts = Vec::with_capacity(self.key);
        for (i, column) in self.columns[..self.key].iter().enumerate() {
            if nulls[(i + 2) / 8] & 1 << ((i + 2) % 8) != 0 {
                return Err(damaged(format!("NULL in primary key column \"{}\"", column.name)));
            }
            parts.push(part_of(read_value(&mut rest, &column.ty)?, &column.ty)?);
        }
        Ok(Key(parts))
    }

    #[inline]
    fn split<'a>(&self, row: &'a [u8]) -> Result<(&'a [u8], Bytes<'a>)> {
        let mut rest = Bytes::new(row, 0);
        let nulls = rest.take((self.columns.len() + 2).div_ceil(8))?;
        Ok((nulls, rest))
    }
}

/// As which types a column may come in a result.
fn codes_of(ty: &MySqlType) -> &'static [u8] {
    match ty {
        MySqlType::Int { bytes: 1, .. } => &[code::TINY],
        MySqlType::Int { bytes: 2, .. } => &[code::SHORT],
        MySqlType::Int { bytes: 3, .. } => &[code::INT24],
        MySqlType::Int { bytes: 4, .. } => &[code::LONG],
        MySqlType::Int { .. } => &[code::LONGLONG],
        MySqlType::Year => &[code::YEAR],
        MySqlType::Bit(_) => &[code::BIT],
        MySqlType::Float => &[code::FLOAT],
        MySqlType::Double => &[code::DOUBLE],
        MySqlType::Decimal { .. } => &[code::NEWDECIMAL],
        MySqlType::Date => &[code::DATE, code::NEWDATE],
        MySqlType::DateTime(_) => &[code::DATETIME, code::DATETIME2],
        MySqlType::Timestamp(_) => &[code::TIMESTAMP, code::TIMESTAMP2],
        MySqlType::Time(_) => &[code::TIME, code::TIME2],
        MySqlType::Char(_) | MySqlType::Binary(_) => &[code::STRING],
        MySqlType::VarChar(_) | MySqlType::VarBinary(_) => &[code::VAR_STRING, code::VARCHAR],
        MySqlType::Text | MySqlType::Blob => &[code::BLOB, code::TINY_BLOB, code::MEDIUM_BLOB, code::LONG_BLOB],
        MySqlType::Enum(_) => &[code::STRING, code::ENUM],
        MySqlType::Set(_) => &[code::STRING, code::SET],
        MySqlType::Json => &[code::JSON],
        MySqlType::Geometry => &[code::GEOMETRY],
        MySqlType::Vector => &[code::VECTOR],
    }
}

#[inline]
fn read_value<'a>(rest: &mut Bytes<'a>, ty: &MySqlType) -> Result<Raw<'a>> {
    Ok(match ty {
        MySqlType::Int { bytes, unsigned: false, .. } => Raw::Int(match bytes {
            1 => i64::from(rest.u8()? as i8),
            2 => i64::from(rest.u16()? as i16),
            3 | 4 => i64::from(rest.u32()? as i32),
            _ => rest.u64()? as i64,
        }),
        MySqlType::Int { bytes, .. } => Raw::Unsigned(match bytes {
            1 => u64::from(rest.u8()?),
            2 => u64::from(rest.u16()?),
            3 | 4 => u64::from(rest.u32()?),
            _ => rest.u64()?,
        }),
        MySqlType::Year => Raw::Unsigned(u64::from(rest.u16()?)),
        MySqlType::Float => Raw::Float(f32::from_bits(rest.u32()?)),
        MySqlType::Double => Raw::Double(f64::from_bits(rest.u64()?)),
        MySqlType::Decimal { precision, scale, .. } => {
            let text = rest.packed_bytes()?;
            let damaged = || damaged(format!("'{}' is no DECIMAL", String::from_utf8_lossy(text)));
            match *precision <= decimal::DIGITS_MAX_128 {
                true => Raw::Decimal(decimal::from_text(text, *scale).ok_or_else(damaged)?),
                false => Raw::WideDecimal(decimal::from_text(text, *scale).ok_or_else(damaged)?),
            }
        }
        MySqlType::Bit(_) => {
            let bytes = rest.packed_bytes()?;
            if bytes.len() > 8 {
                return Err(damaged(format!("a BIT of {} bytes", bytes.len())));
            }
            Raw::Bits(big_endian(bytes))
        }
        MySqlType::Date => {
            let t = date_time(rest)?;
            Raw::Date(t.year, t.month, t.day)
        }
        MySqlType::DateTime(_) => Raw::DateTime(date_time(rest)?),
        MySqlType::Timestamp(_) => {
            let t = date_time(rest)?;
            match temporal::micros(&t) {
                Some(micros) => Raw::Timestamp { seconds: micros.div_euclid(1_000_000), micros: t.micros },
                None if t == DateTime::default() => Raw::Timestamp { seconds: 0, micros: 0 },
                None => return Err(damaged(format!("the TIMESTAMP {t}"))),
            }
        }
        MySqlType::Time(_) => Raw::Time(time(rest)?),
        _ => Raw::Bytes(rest.packed_bytes()?),
    })
}

/// Bytes that follow, then year, month, day, hour, minute, second, microseconds; zeros at the end are left out.
fn date_time(rest: &mut Bytes<'_>) -> Result<DateTime> {
    let length = rest.u8()?;
    let mut t = DateTime::default();
    if !matches!(length, 0 | 4 | 7 | 11) {
        return Err(damaged(format!("a date of {length} bytes")));
    }
    if length >= 4 {
        (t.year, t.month, t.day) = (rest.u16()?, rest.u8()?, rest.u8()?);
    }
    if length >= 7 {
        (t.hour, t.minute, t.second) = (rest.u8()?, rest.u8()?, rest.u8()?);
    }
    if length == 11 {
        t.micros = rest.u32()?;
    }
    if t.hour > 23 || t.minute > 59 || t.second > 59 || t.micros > 999_999 || t.month > 12 || t.day > 31 {
        return Err(damaged(format!("the date {t}")));
    }
    Ok(t)
}

/// Bytes that follow, then sign, days, hours, minutes, seconds, microseconds; zeros at the end are left out.
fn time(rest: &mut Bytes<'_>) -> Result<i64> {
    let length = rest.u8()?;
    if !matches!(length, 0 | 8 | 12) {
        return Err(damaged(format!("a time of {length} bytes")));
    }
    if length == 0 {
        return Ok(0);
    }
    let negative = rest.u8()? != 0;
    let days = i64::from(rest.u32()?);
    let (hours, minutes, seconds) = (i64::from(rest.u8()?), i64::from(rest.u8()?), i64::from(rest.u8()?));
    let micros = if length == 12 { i64::from(rest.u32()?) } else { 0 };
    let micros = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000 + micros;
    Ok(if negative { -micros } else { micros })
}
