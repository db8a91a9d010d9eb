//! The value codec: columns ↔ bytes, compact, in no order. Ours and frozen.
//!
//! # Bytes
//!
//! A value is a bitmap of one bit per column (lowest bit of the first byte first; 1: NULL; unused bits 0), then the
//! columns that are not NULL, one after another:
//!
//! | type | bytes |
//! | --- | --- |
//! | BOOLEAN | `00` or `01` |
//! | TINYINT | 1 |
//! | other integers, DATE, TIME, TIMESTAMP, TIMESTAMP_LTZ | varint of zigzag |
//! | FLOAT, DOUBLE | 4 or 8, little-endian, the very bits |
//! | DECIMAL | number of bytes n (1 byte), then the unscaled value in n bytes, little-endian two's complement, n least; 0 has n = 0 |
//! | strings, bytes | varint of the length, the bytes |
//! | ARRAY | varint of the number of elements, bitmap of NULL elements, the other elements |
//! | MAP | varint of the number of entries, bitmap of NULL values, per entry key and, unless NULL, value |
//! | ROW | as a value of its fields |
//! | INTERVAL | varints of zigzag: months, days, nanoseconds |
//!
//! A varint has 7 bits in each byte, lowest first, and the top bit set in all bytes but the last. zigzag(v) is
//! (v << 1) ^ (v >> 63).

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, IntervalMonthDayNano, i256};

use crate::cells::{Cells, CellsBuilder, Shape, ShapeBuilder, bytes_at, copy_short, items_at, push_end};
use crate::error::{Error, Result};
use crate::state::KeyBatch;
use crate::types::SqlType;

/// Version of the byte format, stored in manifests.
pub const VALUE_CODEC_VERSION: u32 = 1;

/// Bytes of a varint of 64 bits at most.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Encodes and decodes rows of a fixed list of column types.
#[derive(Debug, Clone)]
pub struct ValueCodec {
    types: Vec<SqlType>,
}

impl ValueCodec {
    pub fn new(types: Vec<SqlType>) -> Self {
        ValueCodec { types }
    }

    pub fn types(&self) -> &[SqlType] {
        &self.types
    }

    /// Appends one value per row to `out`.
    ///
    /// # Errors
    /// Another number of columns than of types, arrays that do not lie as `SqlType::to_arrow` says or have not `rows`
    /// rows. Nothing was appended then.
    pub fn encode(&self, columns: &[ArrayRef], rows: usize, out: &mut KeyBatch) -> Result<()> {
        if columns.len() != self.types.len() {
            let expected = self.types.len();
            return Err(Error::internal(format!("{} value columns where {expected} are expected", columns.len())));
        }
        let types: Vec<&SqlType> = self.types.iter().collect();
        let cells = Cells::of_columns(columns, &types, rows)?;
        if out.ends.is_empty() {
            out.ends.push(0);
        }
        let bitmap = columns.len().div_ceil(8);
        // First all lengths, column by column; then all bytes, column by column.
        let mut places = vec![bitmap; rows];
        let prepared: Vec<Option<KeyBatch>> = cells.iter().map(|c| add_lengths(c, &mut places)).collect();
        let mut end = out.bytes.len();
        out.ends.reserve(rows);
        for place in &mut places {
            let length = *place;
            *place = end;
            end += length;
            out.ends.push(end);
        }
        out.bytes.resize(end, 0);
        for (i, column) in cells.iter().enumerate() {
            put_nulls(column, i, &mut out.bytes, &places);
        }
        places.iter_mut().for_each(|place| *place += bitmap);
        for (column, prepared) in cells.iter().zip(&prepared) {
            put_column(column, prepared.as_ref(), &mut out.bytes, &mut places);
        }
        Ok(())
    }

    /// The columns of the given values, of the types that `SqlType::to_arrow` gives. Damaged bytes are an error.
    pub fn decode<'a>(&self, values: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Result<Vec<ArrayRef>> {
        let types: Vec<DataType> = self.types.iter().map(SqlType::to_arrow).collect();
        self.decode_as(&types, values.collect())
    }

    /// As `decode`, into arrays of types that lie alike but may differ in the names and nullability of nested fields.
    pub(crate) fn decode_as(&self, types: &[DataType], mut values: Vec<&[u8]>) -> Result<Vec<ArrayRef>> {
        let rows = values.len();
        let mut bitmaps = Vec::with_capacity(rows);
        for value in &mut values {
            let bitmap = take_bitmap(value, self.types.len())
                .ok_or_else(|| Error::checkpoint("damaged value: it does not begin with the bitmap of NULLs"))?;
            bitmaps.push(bitmap);
        }
        let mut arrays = Vec::with_capacity(types.len());
        for (i, (sql, ty)) in self.types.iter().zip(types).enumerate() {
            let damaged = || Error::checkpoint(format!("damaged value: column {i} is not a {sql}"));
            let mut builder = CellsBuilder::new(ty, rows)?;
            decode_column(i, &bitmaps, &mut values, &mut builder).ok_or_else(damaged)?;
            arrays.push(builder.finish().map_err(|e| damaged().note(e.message()))?);
        }
        match values.iter().all(|v| v.is_empty()) {
            true => Ok(arrays),
            false => Err(Error::checkpoint("damaged value: bytes behind the last column")),
        }
    }
}

#[inline]
fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

#[inline]
fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

#[inline]
fn varint_len(v: u64) -> usize {
    (64 - (v | 1).leading_zeros() as usize).div_ceil(7)
}

#[inline]
fn put_varint(mut v: u64, out: &mut [u8], at: &mut usize) {
    while v >= 0x80 {
        out[*at] = v as u8 | 0x80;
        *at += 1;
        v >>= 7;
    }
    out[*at] = v as u8;
    *at += 1;
}

#[inline]
pub(crate) fn append_varint(mut v: u64, out: &mut Vec<u8>) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

#[inline]
pub(crate) fn append_signed(v: i64, out: &mut Vec<u8>) {
    append_varint(zigzag(v), out);
}

#[inline]
pub(crate) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let (first, after) = rest.split_first()?;
    if *first < 0x80 {
        *rest = after;
        return Some(u64::from(*first));
    }
    let mut v = u64::from(first & 0x7f);
    let mut shift = 7;
    let mut bytes = after;
    while let [byte, after @ ..] = bytes {
        bytes = after;
        if shift == 63 && *byte > 1 {
            return None;
        }
        v |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            *rest = bytes;
            return Some(v);
        }
        shift += 7;
    }
    None
}

#[inline]
pub(crate) fn take_signed(rest: &mut &[u8]) -> Option<i64> {
    take_varint(rest).map(unzigzag)
}

/// Bytes of the least two's complement.
#[inline]
fn i128_len(v: i128) -> usize {
    if v == 0 { 0 } else { (129 - (v ^ (v >> 127)).leading_zeros() as usize).div_ceil(8) }
}

fn i256_len(v: i256) -> usize {
    let (low, high) = v.to_parts();
    match high {
        0 if low as i128 >= 0 => i128_len(low as i128),
        -1 if (low as i128) < 0 => i128_len(low as i128),
        // The low half is full, and its sign needs one byte more.
        0 | -1 => 17,
        _ => 16 + i128_len(high),
    }
}

// ---- encoding ----

/// Adds the bytes of each cell that is not NULL to `lengths`. Gives the bytes of nested values, made once.
fn add_lengths(cells: &Cells, lengths: &mut [usize]) -> Option<KeyBatch> {
    #[inline]
    fn add<T: Copy>(values: &[T], nulls: Option<&NullBuffer>, lengths: &mut [usize], length: impl Fn(T) -> usize) {
        match nulls {
            None => lengths.iter_mut().zip(values).for_each(|(sum, v)| *sum += length(*v)),
            Some(nulls) => {
                for ((sum, v), valid) in lengths.iter_mut().zip(values).zip(nulls) {
                    *sum += if valid { length(*v) } else { 0 };
                }
            }
        }
    }
    match &cells.shape {
        Shape::I16(v) => add(v, cells.nulls, lengths, |v| varint_len(zigzag(v.into()))),
        Shape::I32(v) => add(v, cells.nulls, lengths, |v| varint_len(zigzag(v.into()))),
        Shape::I64(v) => add(v, cells.nulls, lengths, |v| varint_len(zigzag(v))),
        Shape::I8(v) => add(v, cells.nulls, lengths, |_| 1),
        Shape::F32(v) => add(v, cells.nulls, lengths, |_| 4),
        Shape::F64(v) => add(v, cells.nulls, lengths, |_| 8),
        Shape::I128(v) => add(v, cells.nulls, lengths, |v| 1 + i128_len(v)),
        Shape::I256(v) => add(v, cells.nulls, lengths, |v| 1 + i256_len(v)),
        Shape::Bytes { offsets, .. } => {
            for (row, (sum, ends)) in lengths.iter_mut().zip(offsets.windows(2)).enumerate() {
                let length = (ends[1] - ends[0]) as usize;
                *sum += if cells.is_null(row) { 0 } else { varint_len(length as u64) + length };
            }
        }
        _ => {
            let mut nested = KeyBatch::new();
            for (row, sum) in lengths.iter_mut().enumerate() {
                if !cells.is_null(row) {
                    append_value(cells, row, &mut nested.bytes);
                }
                nested.finish_key();
                *sum += nested.get(row).len();
            }
            return Some(nested);
        }
    }
    None
}

/// Sets the bits of column `i` in the bitmaps, which begin at `places`.
fn put_nulls(cells: &Cells, i: usize, out: &mut [u8], places: &[usize]) {
    if matches!(cells.shape, Shape::Null) || cells.nulls.is_some() {
        for (row, place) in places.iter().enumerate() {
            out[place + i / 8] |= u8::from(cells.is_null(row)) << (i % 8);
        }
    }
}

/// Writes each row's cell at its place and moves the place behind it.
fn put_column(cells: &Cells, nested: Option<&KeyBatch>, out: &mut [u8], places: &mut [usize]) {
    #[inline]
    fn put<T: Copy>(
        values: &[T],
        nulls: Option<&NullBuffer>,
        out: &mut [u8],
        places: &mut [usize],
        f: impl Fn(T, &mut [u8], &mut usize),
    ) {
        match nulls {
            None => places.iter_mut().zip(values).for_each(|(place, v)| f(*v, out, place)),
            Some(nulls) => {
                for ((place, v), valid) in places.iter_mut().zip(values).zip(nulls) {
                    if valid {
                        f(*v, out, place);
                    }
                }
            }
        }
    }
    #[inline]
    fn raw(bytes: &[u8], out: &mut [u8], place: &mut usize) {
        copy_short(bytes, &mut out[*place..]);
        *place += bytes.len();
    }
    match &cells.shape {
        Shape::I8(v) => put(v, cells.nulls, out, places, |v, out, place| raw(&v.to_le_bytes(), out, place)),
        Shape::I16(v) => put(v, cells.nulls, out, places, |v, out, place| put_varint(zigzag(v.into()), out, place)),
        Shape::I32(v) => put(v, cells.nulls, out, places, |v, out, place| put_varint(zigzag(v.into()), out, place)),
        Shape::I64(v) => put(v, cells.nulls, out, places, |v, out, place| put_varint(zigzag(v), out, place)),
        Shape::F32(v) => put(v, cells.nulls, out, places, |v, out, place| raw(&v.to_le_bytes(), out, place)),
        Shape::F64(v) => put(v, cells.nulls, out, places, |v, out, place| raw(&v.to_le_bytes(), out, place)),
        Shape::I128(v) => put(v, cells.nulls, out, places, |v, out, place| {
            let length = i128_len(v);
            raw(&[length as u8], out, place);
            raw(&v.to_le_bytes()[..length], out, place);
        }),
        Shape::I256(v) => put(v, cells.nulls, out, places, |v, out, place| {
            let length = i256_len(v);
            raw(&[length as u8], out, place);
            raw(&v.to_le_bytes()[..length], out, place);
        }),
        Shape::Bytes { offsets, data } => {
            for (row, place) in places.iter_mut().enumerate() {
                if !cells.is_null(row) {
                    let bytes = bytes_at(offsets, data, row);
                    put_varint(bytes.len() as u64, out, place);
                    raw(bytes, out, place);
                }
            }
        }
        _ => {
            let nested = nested.expect("prepared for all other shapes");
            places.iter_mut().enumerate().for_each(|(row, place)| raw(nested.get(row), out, place));
        }
    }
}

/// The bytes of a cell that is not NULL.
fn append_value(cells: &Cells, row: usize, out: &mut Vec<u8>) {
    match &cells.shape {
        Shape::Null => unreachable!("NULL has no value"),
        Shape::Boolean(v) => out.push(u8::from(v.value(row))),
        Shape::I8(v) => out.push(v[row] as u8),
        Shape::I16(v) => append_signed(v[row].into(), out),
        Shape::I32(v) => append_signed(v[row].into(), out),
        Shape::I64(v) => append_signed(v[row], out),
        Shape::F32(v) => out.extend_from_slice(&v[row].to_le_bytes()),
        Shape::F64(v) => out.extend_from_slice(&v[row].to_le_bytes()),
        Shape::I128(v) => {
            let length = i128_len(v[row]);
            out.push(length as u8);
            out.extend_from_slice(&v[row].to_le_bytes()[..length]);
        }
        Shape::I256(v) => {
            let length = i256_len(v[row]);
            out.push(length as u8);
            out.extend_from_slice(&v[row].to_le_bytes()[..length]);
        }
        Shape::Bytes { offsets, data } => {
            let bytes = bytes_at(offsets, data, row);
            append_varint(bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        }
        Shape::Interval(v) => {
            append_signed(v[row].months.into(), out);
            append_signed(v[row].days.into(), out);
            append_signed(v[row].nanoseconds, out);
        }
        Shape::List { offsets, items } => {
            let range = items_at(offsets, row);
            append_varint(range.len() as u64, out);
            append_bitmap(range.clone().map(|item| items.is_null(item)), out);
            for item in range.filter(|item| !items.is_null(*item)) {
                append_value(items, item, out);
            }
        }
        Shape::Map { offsets, keys, values } => {
            let range = items_at(offsets, row);
            append_varint(range.len() as u64, out);
            append_bitmap(range.clone().map(|entry| values.is_null(entry)), out);
            for entry in range {
                append_value(keys, entry, out);
                if !values.is_null(entry) {
                    append_value(values, entry, out);
                }
            }
        }
        Shape::Row(fields) => {
            append_bitmap(fields.iter().map(|f| f.is_null(row)), out);
            for field in fields.iter().filter(|f| !f.is_null(row)) {
                append_value(field, row, out);
            }
        }
    }
}

fn append_bitmap(nulls: impl Iterator<Item = bool>, out: &mut Vec<u8>) {
    for (i, null) in nulls.enumerate() {
        if i % 8 == 0 {
            out.push(0);
        }
        *out.last_mut().expect("pushed before the first bit") |= u8::from(null) << (i % 8);
    }
}

// ---- decoding: every function gives `None` for damaged bytes ----

#[inline]
fn take_bytes<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

#[inline]
fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*bytes)
}

fn take_bitmap<'a>(rest: &mut &'a [u8], bits: usize) -> Option<&'a [u8]> {
    let bitmap = take_bytes(rest, bits.div_ceil(8))?;
    let unused_are_0 = bits.is_multiple_of(8) || bitmap.last().is_none_or(|last| last >> (bits % 8) == 0);
    unused_are_0.then_some(bitmap)
}

/// The bitmap of an array or map, which bounds the number of items by the bytes that are there.
fn take_items<'a>(rest: &mut &'a [u8]) -> Option<(usize, &'a [u8])> {
    let items = usize::try_from(take_varint(rest)?).ok()?;
    Some((items, take_bitmap(rest, items)?))
}

#[inline]
fn bit(bitmap: &[u8], i: usize) -> bool {
    bitmap[i / 8] >> (i % 8) & 1 == 1
}

#[inline]
fn take_decimal<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let [length] = take_array(rest)?;
    let least = take_bytes(rest, usize::from(length))?;
    let fill = if least.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
    let mut bytes = [fill; N];
    bytes.get_mut(..least.len())?.copy_from_slice(least);
    Some(bytes)
}

fn decode_column(i: usize, bitmaps: &[&[u8]], values: &mut [&[u8]], builder: &mut CellsBuilder) -> Option<()> {
    let no_nulls = bitmaps.iter().all(|b| !bit(b, i));
    match &mut builder.shape {
        ShapeBuilder::I64(v) if no_nulls => {
            for value in values.iter_mut() {
                v.push(take_signed(value)?);
            }
            builder.push_all_valid(values.len());
        }
        ShapeBuilder::Bytes { ends, data } if no_nulls => {
            for value in values.iter_mut() {
                let length = usize::try_from(take_varint(value)?).ok()?;
                data.extend_from_slice(take_bytes(value, length)?);
                push_end(ends, data.len())?;
            }
            builder.push_all_valid(values.len());
        }
        _ => {
            for (value, bitmap) in values.iter_mut().zip(bitmaps) {
                if bit(bitmap, i) {
                    builder.push_null();
                } else {
                    decode_value(value, builder)?;
                }
            }
        }
    }
    Some(())
}

/// Pushes the value at the begin of `rest` and moves `rest` behind it.
fn decode_value(rest: &mut &[u8], builder: &mut CellsBuilder) -> Option<()> {
    match &mut builder.shape {
        ShapeBuilder::Null => return None,
        ShapeBuilder::Boolean(v) => match take_array(rest)? {
            [0] => v.append(false),
            [1] => v.append(true),
            _ => return None,
        },
        ShapeBuilder::I8(v) => v.push(i8::from_le_bytes(take_array(rest)?)),
        ShapeBuilder::I16(v) => v.push(take_signed(rest)?.try_into().ok()?),
        ShapeBuilder::I32(v) => v.push(take_signed(rest)?.try_into().ok()?),
        ShapeBuilder::I64(v) => v.push(take_signed(rest)?),
        ShapeBuilder::F32(v) => v.push(f32::from_le_bytes(take_array(rest)?)),
        ShapeBuilder::F64(v) => v.push(f64::from_le_bytes(take_array(rest)?)),
        ShapeBuilder::I128(v) => v.push(i128::from_le_bytes(take_decimal(rest)?)),
        ShapeBuilder::I256(v) => v.push(i256::from_le_bytes(take_decimal(rest)?)),
        ShapeBuilder::Bytes { ends, data } => {
            let length = usize::try_from(take_varint(rest)?).ok()?;
            data.extend_from_slice(take_bytes(rest, length)?);
            push_end(ends, data.len())?;
        }
        ShapeBuilder::Interval(v) => {
            let months = take_signed(rest)?.try_into().ok()?;
            let days = take_signed(rest)?.try_into().ok()?;
            v.push(IntervalMonthDayNano::new(months, days, take_signed(rest)?));
        }
        ShapeBuilder::List { ends, items } => {
            let (count, nulls) = take_items(rest)?;
            for i in 0..count {
                if bit(nulls, i) {
                    items.push_null();
                } else {
                    decode_value(rest, items)?;
                }
            }
            push_end(ends, items.len())?;
        }
        ShapeBuilder::Map { ends, keys, values } => {
            let (count, nulls) = take_items(rest)?;
            for i in 0..count {
                decode_value(rest, keys)?;
                if bit(nulls, i) {
                    values.push_null();
                } else {
                    decode_value(rest, values)?;
                }
            }
            push_end(ends, keys.len())?;
        }
        ShapeBuilder::Row(fields) => {
            let nulls = take_bitmap(rest, fields.len())?;
            for (i, field) in fields.iter_mut().enumerate() {
                if bit(nulls, i) {
                    field.push_null();
                } else {
                    decode_value(rest, field)?;
                }
            }
        }
    }
    builder.push_valid();
    Some(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray, Float64Array};
    use arrow::datatypes::Float64Type;
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{Cell, array_of, cells_of, typed_cells};
    use crate::types::{Column, ElementType};

    fn encode(types: &[SqlType], columns: &[ArrayRef]) -> KeyBatch {
        let mut out = KeyBatch::default();
        ValueCodec::new(types.to_vec()).encode(columns, columns[0].len(), &mut out).unwrap();
        out
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_bytes_are_frozen() {
        use Cell::*;
        let element = |ty| Box::new(ElementType { ty, nullable: true });
        let decimal = |precision| SqlType::Decimal { precision, scale: 2 };
        let row = SqlType::Row(vec![Column::new("a", SqlType::Int, true), Column::new("b", SqlType::STRING, true)]);
        let text = |s: &str| Bytes(s.as_bytes().to_vec());
        let map = SqlType::Map(Box::new(SqlType::STRING), element(SqlType::Int));
        let golden: Vec<(SqlType, Cell, &str)> = vec![
            (SqlType::Null, Null, "01"),
            (SqlType::Boolean, Bool(true), "0001"),
            (SqlType::TinyInt, Int(-1), "00ff"),
            (SqlType::SmallInt, Int(-1), "0001"),
            (SqlType::Int, Int(64), "008001"),
            (SqlType::BigInt, Int(i64::MIN), "00ffffffffffffffffff01"),
            (SqlType::BigInt, Null, "01"),
            (SqlType::Float, Float(1.0), "000000803f"),
            (SqlType::Double, Float(-0.0), "000000000000000080"),
            (decimal(10), Decimal(i256::from_i128(0)), "0000"),
            (decimal(10), Decimal(i256::from_i128(127)), "00017f"),
            (decimal(10), Decimal(i256::from_i128(128)), "00028000"),
            (decimal(10), Decimal(i256::from_i128(-128)), "000180"),
            (decimal(39), Decimal(i256::from_i128(-1)), "0001ff"),
            (decimal(39), Decimal(i256::from_parts(1 << 127, 0)), "00110000000000000000000000000000008000"),
            (SqlType::STRING, text("ab"), "00026162"),
            (SqlType::BYTES, Bytes(vec![]), "0000"),
            (SqlType::Date, Int(1), "0002"),
            (SqlType::Timestamp(6), Int(1), "0002"),
            (SqlType::Interval, Interval(1, -1, 64), "0002018001"),
            (SqlType::Array(element(SqlType::TinyInt)), List(vec![Int(1), Null, Int(2)]), "0003020102"),
            (map, Map(vec![(text("a"), Int(1)), (text("b"), Null)]), "0002020161020162"),
            (row, Row(vec![Null, text("a")]), "00010161"),
        ];
        for (ty, cell, expected) in golden {
            let found = encode(std::slice::from_ref(&ty), &[array_of(&ty, std::slice::from_ref(&cell))]);
            assert_eq!(hex(found.get(0)), expected, "{ty} {cell:?}");
        }
    }

    #[test]
    fn nine_columns_have_two_bytes_of_nulls() {
        let null = array_of(&SqlType::Int, &[Cell::Null]);
        let one = array_of(&SqlType::Int, &[Cell::Int(-1)]);
        let mut columns = vec![null.clone(); 9];
        columns[3] = one;
        let types = vec![SqlType::Int; 9];
        let found = encode(&types, &columns);
        assert_eq!(hex(found.get(0)), "f70101");
        assert!(ValueCodec::new(types).decode([&[0xf7, 3, 1][..]].into_iter()).is_err(), "an unused bit is set");
    }

    #[test]
    fn floats_keep_their_bits() {
        let bits = [0x8000_0000_0000_0000, 0xfff8_0000_0000_0007, 1];
        let column: ArrayRef = Arc::new(Float64Array::from_iter_values(bits.map(f64::from_bits)));
        let codec = ValueCodec::new(vec![SqlType::Double]);
        let values = encode(&codec.types, &[column]);
        let back = codec.decode(values.iter().collect::<Vec<_>>().into_iter()).unwrap();
        let back = back[0].as_primitive::<Float64Type>();
        assert_eq!((0..3).map(|i| back.value(i).to_bits()).collect::<Vec<_>>(), bits);
    }

    #[test]
    fn numbers_out_of_range_and_varints_that_do_not_end_are_damage() {
        let decode = |ty: SqlType, bytes: &[u8]| ValueCodec::new(vec![ty]).decode([bytes].into_iter());
        assert!(decode(SqlType::SmallInt, &[0, 0xff, 0xff, 0xff, 0x01]).is_err());
        assert!(decode(SqlType::BigInt, &[&[0][..], &[0xff; 10]].concat()).is_err());
        assert!(decode(SqlType::BigInt, &[&[0][..], &[0xff; 9], &[2]].concat()).is_err());
        assert!(decode(SqlType::Decimal { precision: 10, scale: 0 }, &[&[0, 17][..], &[0; 17]].concat()).is_err());
        assert!(decode(SqlType::STRING, &[0, 1, 0xff]).is_err(), "not UTF-8");
        assert!(decode(SqlType::BYTES, &[0, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err(), "longer than what is there");
        let int = Box::new(ElementType { ty: SqlType::Int, nullable: false });
        assert!(decode(SqlType::Array(int), &[0, 1, 1]).is_err(), "NULL in NOT NULL");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn nothing_is_lost((a, b) in (typed_cells(true), typed_cells(true))) {
            let rows = a.1.len().min(b.1.len());
            let codec = ValueCodec::new(vec![a.0.clone(), b.0.clone()]);
            let columns = [array_of(&a.0, &a.1[..rows]), array_of(&b.0, &b.1[..rows])];
            let mut values = KeyBatch::new();
            values.push(b"before");
            codec.encode(&columns, rows, &mut values).unwrap();
            let values: Vec<&[u8]> = values.iter().skip(1).collect();
            let decoded = codec.decode(values.iter().copied()).unwrap();
            for (array, (ty, cells)) in decoded.iter().zip([&a, &b]) {
                prop_assert_eq!(array.data_type(), &ty.to_arrow());
                prop_assert_eq!(&cells_of(ty, array)[..], &cells[..rows]);
            }
            // A slice encodes as its rows do in the whole.
            let sliced: Vec<ArrayRef> = columns.iter().map(|c| c.slice(rows - 1, 1)).collect();
            let mut last = KeyBatch::new();
            codec.encode(&sliced, 1, &mut last).unwrap();
            prop_assert_eq!(last.get(0), values[rows - 1]);
            for value in &values {
                for end in 0..value.len() {
                    prop_assert!(codec.decode([&value[..end]].into_iter()).is_err());
                }
            }
        }

        #[test]
        fn damaged_values_never_panic((ty, _) in typed_cells(true), bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..4], 0..40)) {
            let _ = ValueCodec::new(vec![ty]).decode([&bytes[..]].into_iter());
        }
    }
}
