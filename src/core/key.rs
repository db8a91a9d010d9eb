//! The order-preserving key codec: columns ↔ bytes whose unsigned comparison is the SQL order. Ours and frozen.
//!
//! # Bytes
//!
//! A key is its columns one after another. A column is a marker byte and, unless NULL, the value:
//!
//! | | NULLS FIRST | NULLS LAST |
//! | --- | --- | --- |
//! | NULL | `00` | `02` |
//! | a value | `01` value | `01` value |
//!
//! The value bytes, ascending; for a descending column every value byte is inverted (the marker is not):
//!
//! | type | bytes | example |
//! | --- | --- | --- |
//! | BOOLEAN | 1 | false `00`, true `01` |
//! | TINYINT, SMALLINT, INT, BIGINT | 1, 2, 4, 8: big-endian, sign bit flipped | INT 1 `80 00 00 01` |
//! | DATE; TIME, TIMESTAMP, TIMESTAMP_LTZ | as INT; as BIGINT, in the unit of `SqlType::to_arrow` | |
//! | FLOAT, DOUBLE | 4, 8: IEEE bits, big-endian; positive: sign bit flipped, negative: all bits flipped | 1.0 `BF F0 00 …` |
//! | DECIMAL to 38 digits, above | 16, 32: the unscaled value big-endian, sign bit flipped | |
//! | strings, bytes | each byte as it is, but `00` as `01 01` and `01` as `01 02`; then `00` | 'a' `61 00` |
//! | ARRAY | per element `01` if NULL, else `02` value; then `00` | |
//! | ROW | per field `00` if NULL, else `01` value | |
//!
//! -0.0 is written as 0.0, and every NaN as the one that is greater than all numbers. Strings compare by their UTF-8
//! bytes. Inside of arrays and rows NULL comes first; a shorter array comes before its continuations. MAP and
//! INTERVAL have no order and are refused.
//!
//! Why the order holds: each form is such that of two different values neither is a prefix of the other, so the first
//! differing byte lies within the first differing column, and there it decides as SQL does. It follows that keys of a
//! shorter column list are prefixes of those of a longer one, and that within one list no key is a proper prefix of
//! another.

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, i256};

use crate::cells::{
    Cells, CellsBuilder, Shape, ShapeBuilder, bytes_at, canonical_f32, canonical_f64, copy_short, items_at, push_end,
};
use crate::error::{Error, Result};
use crate::key_group::PREFIX_BYTES;
use crate::state::KeyBatch;
use crate::types::SqlType;

/// Version of the byte format, stored in manifests.
pub const KEY_CODEC_VERSION: u32 = 1;

const NULL_FIRST: u8 = 0;
const VALUE: u8 = 1;
const NULL_LAST: u8 = 2;

/// Within strings and bytes.
const STRING_END: u8 = 0;
const STRING_ESCAPE: u8 = 1;

/// Within arrays.
const ARRAY_END: u8 = 0;
const ARRAY_NULL: u8 = 1;
const ARRAY_VALUE: u8 = 2;

/// One key column: type and order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOrder {
    pub ty: SqlType,
    pub descending: bool,
    pub nulls_first: bool,
}

impl KeyOrder {
    pub fn ascending(ty: SqlType) -> Self {
        KeyOrder { ty, descending: false, nulls_first: true }
    }

    #[inline]
    fn null_marker(&self) -> u8 {
        if self.nulls_first { NULL_FIRST } else { NULL_LAST }
    }

    /// What value bytes are xored with.
    #[inline]
    fn mask(&self) -> u8 {
        if self.descending { 0xff } else { 0 }
    }
}

/// Encodes and decodes keys of a fixed list of columns. Equal values (also -0.0 and 0.0, all NaNs) give equal bytes;
/// the encoding of a column list is a prefix of that of a longer list, and no key is a proper prefix of another of
/// the same list.
#[derive(Debug, Clone)]
pub struct KeyCodec {
    columns: Vec<KeyOrder>,
}

impl KeyCodec {
    pub fn new(columns: Vec<KeyOrder>) -> Self {
        KeyCodec { columns }
    }

    pub fn columns(&self) -> &[KeyOrder] {
        &self.columns
    }

    /// Appends one key per row to `out`. With `groups`, each key begins with its key group (big-endian).
    /// `columns` may be shorter than the codec's list: then prefixes are encoded.
    ///
    /// # Errors
    /// MAP and INTERVAL columns, and arrays that do not lie as `SqlType::to_arrow` says or have not `rows` rows.
    /// Nothing was appended then.
    pub fn encode(&self, groups: Option<&[u16]>, columns: &[ArrayRef], rows: usize, out: &mut KeyBatch) -> Result<()> {
        let orders = self.first_columns(columns.len())?;
        let types: Vec<&SqlType> = orders.iter().map(|o| &o.ty).collect();
        let cells = Cells::of_columns(columns, &types, rows)?;
        if groups.is_some_and(|g| g.len() != rows) {
            return Err(Error::internal("a key batch needs one key group per row"));
        }
        if out.ends.is_empty() {
            out.ends.push(0);
        }
        let prefix = if groups.is_some() { PREFIX_BYTES } else { 0 };
        match fixed_stride(&cells, prefix) {
            Some(stride) => encode_fixed(groups, &cells, orders, stride, rows, out),
            None => encode_variable(groups, &cells, orders, rows, out),
        }
        Ok(())
    }

    /// The columns of the given keys (without the key group), of the types that `SqlType::to_arrow` gives.
    /// A damaged key is an error.
    pub fn decode<'a>(&self, keys: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Result<Vec<ArrayRef>> {
        let types: Vec<DataType> = self.columns.iter().map(|c| c.ty.to_arrow()).collect();
        self.decode_as(&types, keys.collect())
    }

    /// As `decode`, into arrays of types that lie alike but may differ in the names and nullability of nested fields.
    pub(crate) fn decode_as(&self, types: &[DataType], mut keys: Vec<&[u8]>) -> Result<Vec<ArrayRef>> {
        let rows = keys.len();
        let mut arrays = Vec::with_capacity(types.len());
        for (i, (order, ty)) in self.columns.iter().zip(types).enumerate() {
            let damaged = || Error::checkpoint(format!("damaged key: column {i} is not a {}", order.ty));
            let mut builder = CellsBuilder::new(ty, rows)?;
            decode_column(order, &mut keys, &mut builder).ok_or_else(damaged)?;
            arrays.push(builder.finish().map_err(|e| damaged().note(e.message()))?);
        }
        match keys.iter().all(|k| k.is_empty()) {
            true => Ok(arrays),
            false => Err(Error::checkpoint("damaged key: bytes behind the last column")),
        }
    }

    /// How many bytes the first `columns` columns of `key` take (a key without its key group). Operators find the
    /// routing prefix of a stored key by it.
    ///
    /// # Errors
    /// A damaged key.
    pub fn encoded_prefix_len(&self, key: &[u8], columns: usize) -> Result<usize> {
        let mut rest = key;
        for (i, order) in self.first_columns(columns)?.iter().enumerate() {
            skip_column(order, &mut rest)
                .ok_or_else(|| Error::checkpoint(format!("damaged key: column {i} is not a {}", order.ty)))?;
        }
        Ok(key.len() - rest.len())
    }

    fn first_columns(&self, columns: usize) -> Result<&[KeyOrder]> {
        let orders = self.columns.get(..columns).ok_or_else(|| {
            Error::internal(format!("{columns} key columns where at most {} are expected", self.columns.len()))
        })?;
        match orders.iter().find(|o| !o.ty.is_orderable()) {
            Some(o) => Err(Error::type_(format!("values of type {} have no order and cannot be a key", o.ty))),
            None => Ok(orders),
        }
    }
}

// ---- fixed-size values ----

/// A value whose key form always has `N` bytes. Taking the mask here lets the compiler keep it in a register.
trait FixedKey<const N: usize>: Copy {
    fn to_key(self, mask: u8) -> [u8; N];
    fn from_key(bytes: [u8; N], mask: u8) -> Self;
}

macro_rules! fixed_key_of_integer {
    ($signed:ty, $unsigned:ty, $bytes:literal) => {
        impl FixedKey<$bytes> for $signed {
            #[inline]
            fn to_key(self, mask: u8) -> [u8; $bytes] {
                let mask = <$unsigned>::from_ne_bytes([mask; $bytes]);
                ((self ^ <$signed>::MIN) as $unsigned ^ mask).to_be_bytes()
            }

            #[inline]
            fn from_key(bytes: [u8; $bytes], mask: u8) -> Self {
                let mask = <$unsigned>::from_ne_bytes([mask; $bytes]);
                (<$unsigned>::from_be_bytes(bytes) ^ mask) as $signed ^ <$signed>::MIN
            }
        }
    };
}

fixed_key_of_integer!(i8, u8, 1);
fixed_key_of_integer!(i16, u16, 2);
fixed_key_of_integer!(i32, u32, 4);
fixed_key_of_integer!(i64, u64, 8);
fixed_key_of_integer!(i128, u128, 16);

/// The low half has no sign to flip.
impl FixedKey<32> for i256 {
    fn to_key(self, mask: u8) -> [u8; 32] {
        let (low, high) = self.to_parts();
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&high.to_key(mask));
        bytes[16..].copy_from_slice(&(low as i128 ^ i128::MIN).to_key(mask));
        bytes
    }

    fn from_key(bytes: [u8; 32], mask: u8) -> Self {
        let (high, low) = bytes.split_at(16);
        let high = i128::from_key(high.try_into().expect("16 bytes"), mask);
        let low = i128::from_key(low.try_into().expect("16 bytes"), mask) ^ i128::MIN;
        i256::from_parts(low as u128, high)
    }
}

macro_rules! fixed_key_of_float {
    ($float:ty, $signed:ty, $canonical:ident, $bytes:literal) => {
        /// The integer that orders as the float does: a negative float's other bits are inverted, so that the greater
        /// magnitude is the lesser number.
        impl FixedKey<$bytes> for $float {
            #[inline]
            fn to_key(self, mask: u8) -> [u8; $bytes] {
                let bits = $canonical(self).to_bits() as $signed;
                (bits ^ ((bits >> (<$signed>::BITS - 1)) & <$signed>::MAX)).to_key(mask)
            }

            #[inline]
            fn from_key(bytes: [u8; $bytes], mask: u8) -> Self {
                let ordered = <$signed>::from_key(bytes, mask);
                <$float>::from_bits((ordered ^ ((ordered >> (<$signed>::BITS - 1)) & <$signed>::MAX)) as _)
            }
        }
    };
}

fixed_key_of_float!(f32, i32, canonical_f32, 4);
fixed_key_of_float!(f64, i64, canonical_f64, 8);

/// Calls `$f!(values, width)` for the shapes that are slices of `FixedKey`.
macro_rules! for_fixed {
    ($shape:expr, $kind:ident, |$values:ident| $body:expr, $otherwise:expr) => {
        match $shape {
            $kind::I8($values) => $body,
            $kind::I16($values) => $body,
            $kind::I32($values) => $body,
            $kind::I64($values) => $body,
            $kind::I128($values) => $body,
            $kind::I256($values) => $body,
            $kind::F32($values) => $body,
            $kind::F64($values) => $body,
            _ => $otherwise,
        }
    };
}

fn fixed_width(shape: &Shape) -> Option<usize> {
    match shape {
        Shape::Boolean(_) | Shape::I8(_) => Some(1),
        Shape::I16(_) => Some(2),
        Shape::I32(_) | Shape::F32(_) => Some(4),
        Shape::I64(_) | Shape::F64(_) => Some(8),
        Shape::I128(_) => Some(16),
        Shape::I256(_) => Some(32),
        _ => None,
    }
}

// ---- encoding ----

/// Bytes of every key, if all keys have the same.
fn fixed_stride(cells: &[Cells], prefix: usize) -> Option<usize> {
    let widths = cells.iter().map(|c| if c.nulls.is_none() { fixed_width(&c.shape) } else { None });
    widths.map(|w| w.map(|w| 1 + w)).try_fold(prefix, |sum, w| Some(sum + w?))
}

/// Keys of equal length: column by column at fixed places.
fn encode_fixed(
    groups: Option<&[u16]>,
    cells: &[Cells],
    orders: &[KeyOrder],
    stride: usize,
    rows: usize,
    out: &mut KeyBatch,
) {
    let base = out.bytes.len();
    out.ends.extend((1..=rows).map(|i| base + i * stride));
    if stride == 0 {
        return;
    }
    out.bytes.resize(base + rows * stride, 0);
    let keys = &mut out.bytes[base..];
    let mut at = 0;
    if let Some(groups) = groups {
        for (i, group) in groups.iter().enumerate() {
            *keys[i * stride..].first_chunk_mut().expect("room for the group") = group.to_be_bytes();
        }
        at = PREFIX_BYTES;
    }
    for (cells, order) in cells.iter().zip(orders) {
        let mask = order.mask();
        for_fixed!(&cells.shape, Shape, |v| put_strided(v, mask, keys, stride, at), {
            let Shape::Boolean(v) = &cells.shape else { unreachable!("all others have no fixed width") };
            for (key, v) in keys.chunks_exact_mut(stride).zip(v.iter()) {
                key[at] = VALUE;
                key[at + 1] = u8::from(v) ^ mask;
            }
        });
        at += 1 + fixed_width(&cells.shape).expect("checked before");
    }
}

#[inline]
fn put_strided<const N: usize, T: FixedKey<N>>(values: &[T], mask: u8, keys: &mut [u8], stride: usize, at: usize) {
    // Indices and array assignments: iterators and slice copies of the standard library are calls here unless the
    // whole crate is one code generation unit.
    let mut from = at;
    for v in values {
        put_cell(*v, mask, keys, from);
        from += stride;
    }
}

/// Marker and value at `from`.
#[inline]
fn put_cell<const N: usize, T: FixedKey<N>>(v: T, mask: u8, out: &mut [u8], from: usize) {
    let (marker, rest) = out[from..].split_first_mut().expect("room for the marker");
    *marker = VALUE;
    *rest.first_chunk_mut().expect("room for the value") = v.to_key(mask);
}

/// Keys of different lengths: first all lengths, column by column; then all bytes, column by column.
fn encode_variable(groups: Option<&[u16]>, cells: &[Cells], orders: &[KeyOrder], rows: usize, out: &mut KeyBatch) {
    let mut places = vec![if groups.is_some() { PREFIX_BYTES } else { 0 }; rows];
    let prepared: Vec<Prepared> = cells.iter().map(|c| Prepared::new(c, rows, &mut places)).collect();
    let mut end = out.bytes.len();
    out.ends.reserve(rows);
    for place in &mut places {
        let length = *place;
        *place = end;
        end += length;
        out.ends.push(end);
    }
    out.bytes.resize(end, 0);
    if let Some(groups) = groups {
        for (place, group) in places.iter_mut().zip(groups) {
            *out.bytes[*place..].first_chunk_mut().expect("room for the group") = group.to_be_bytes();
            *place += PREFIX_BYTES;
        }
    }
    for ((cells, prepared), order) in cells.iter().zip(prepared).zip(orders) {
        put_column(cells, &prepared, order, &mut out.bytes, &mut places);
    }
}

/// What the first pass over a column finds out for the second.
enum Prepared {
    Fixed,
    /// Strings without bytes to escape.
    Plain,
    Escaped,
    /// The value bytes, ascending, of the rows that are not NULL (empty for the others).
    Nested(KeyBatch),
}

impl Prepared {
    /// Adds each row's bytes, marker included, to `lengths`.
    fn new(cells: &Cells, rows: usize, lengths: &mut [usize]) -> Self {
        let mut add = |length: &dyn Fn(usize) -> usize| {
            for (row, sum) in lengths.iter_mut().enumerate() {
                *sum += 1 + if cells.is_null(row) { 0 } else { length(row) };
            }
        };
        if let Some(width) = fixed_width(&cells.shape) {
            match cells.nulls {
                None => lengths.iter_mut().for_each(|sum| *sum += 1 + width),
                Some(nulls) => {
                    for (sum, valid) in lengths.iter_mut().zip(nulls) {
                        *sum += if valid { 1 + width } else { 1 };
                    }
                }
            }
            return Prepared::Fixed;
        }
        match &cells.shape {
            Shape::Bytes { offsets, data } => {
                let all = &data[offsets[0] as usize..offsets[rows] as usize];
                let plain = !needs_escape(all);
                match (plain, cells.nulls) {
                    (true, None) => {
                        for (sum, ends) in lengths.iter_mut().zip(offsets.windows(2)) {
                            *sum += (ends[1] - ends[0]) as usize + 2;
                        }
                    }
                    (true, _) => add(&|row| (offsets[row + 1] - offsets[row]) as usize + 1),
                    (false, _) => add(&|row| escaped_len(bytes_at(offsets, data, row))),
                }
                if plain { Prepared::Plain } else { Prepared::Escaped }
            }
            _ => {
                let mut values = KeyBatch::new();
                for row in 0..rows {
                    if !cells.is_null(row) {
                        append_value(cells, row, &mut values.bytes);
                    }
                    values.finish_key();
                }
                add(&|row| values.get(row).len());
                Prepared::Nested(values)
            }
        }
    }
}

/// Writes each row's cell at its place and moves the place behind it.
fn put_column(cells: &Cells, prepared: &Prepared, order: &KeyOrder, out: &mut [u8], places: &mut [usize]) {
    let (null, mask) = (order.null_marker(), order.mask());
    for_fixed!(&cells.shape, Shape, |v| put_placed(v, cells.nulls, null, mask, out, places), {
        for (row, place) in places.iter_mut().enumerate() {
            if cells.is_null(row) {
                out[*place] = null;
                *place += 1;
                continue;
            }
            out[*place] = VALUE;
            *place += 1;
            let from = *place;
            match (&cells.shape, prepared) {
                (Shape::Boolean(v), _) => {
                    out[from] = u8::from(v.value(row));
                    *place += 1;
                }
                (Shape::Bytes { offsets, data }, Prepared::Plain) => {
                    let bytes = bytes_at(offsets, data, row);
                    copy_short(bytes, &mut out[from..]);
                    out[from + bytes.len()] = STRING_END;
                    *place += bytes.len() + 1;
                }
                (Shape::Bytes { offsets, data }, _) => {
                    *place += put_escaped(bytes_at(offsets, data, row), &mut out[from..]);
                }
                (_, Prepared::Nested(values)) => {
                    let bytes = values.get(row);
                    out[from..from + bytes.len()].copy_from_slice(bytes);
                    *place += bytes.len();
                }
                _ => unreachable!("all other shapes are fixed or nested"),
            }
            if mask != 0 {
                out[from..*place].iter_mut().for_each(|b| *b = !*b);
            }
        }
    });
}

#[inline]
fn put_placed<const N: usize, T: FixedKey<N>>(
    values: &[T],
    nulls: Option<&NullBuffer>,
    null: u8,
    mask: u8,
    out: &mut [u8],
    places: &mut [usize],
) {
    let put = |place: &mut usize, v: T, out: &mut [u8]| {
        put_cell(v, mask, out, *place);
        *place += 1 + N;
    };
    match nulls {
        None => places.iter_mut().zip(values).for_each(|(place, v)| put(place, *v, out)),
        Some(nulls) => {
            for ((place, v), valid) in places.iter_mut().zip(values).zip(nulls) {
                if valid {
                    put(place, *v, out);
                } else {
                    out[*place] = null;
                    *place += 1;
                }
            }
        }
    }
}

#[inline]
fn needs_escape(bytes: &[u8]) -> bool {
    // In blocks without an early exit: the compiler makes vector code of it.
    bytes.chunks(1024).any(|block| block.iter().fold(false, |any, b| any | (*b <= STRING_ESCAPE)))
}

fn escaped_len(bytes: &[u8]) -> usize {
    bytes.len() + 1 + bytes.iter().filter(|b| **b <= STRING_ESCAPE).count()
}

#[inline]
fn put_escaped(bytes: &[u8], out: &mut [u8]) -> usize {
    let mut at = 0;
    for b in bytes {
        if *b <= STRING_ESCAPE {
            out[at] = STRING_ESCAPE;
            out[at + 1] = *b + 1;
            at += 2;
        } else {
            out[at] = *b;
            at += 1;
        }
    }
    out[at] = STRING_END;
    at + 1
}

/// The value bytes, ascending, of a cell that is not NULL; for what lies within arrays and rows.
fn append_value(cells: &Cells, row: usize, out: &mut Vec<u8>) {
    for_fixed!(&cells.shape, Shape, |v| out.extend_from_slice(&v[row].to_key(0)), {
        match &cells.shape {
            Shape::Boolean(v) => out.push(u8::from(v.value(row))),
            Shape::Bytes { offsets, data } => {
                let bytes = bytes_at(offsets, data, row);
                let from = out.len();
                out.resize(from + escaped_len(bytes), 0);
                put_escaped(bytes, &mut out[from..]);
            }
            Shape::List { offsets, items } => {
                for item in items_at(offsets, row) {
                    if items.is_null(item) {
                        out.push(ARRAY_NULL);
                    } else {
                        out.push(ARRAY_VALUE);
                        append_value(items, item, out);
                    }
                }
                out.push(ARRAY_END);
            }
            Shape::Row(fields) => {
                for field in fields {
                    if field.is_null(row) {
                        out.push(NULL_FIRST);
                    } else {
                        out.push(VALUE);
                        append_value(field, row, out);
                    }
                }
            }
            _ => unreachable!("not orderable types are refused, and NULL has no value"),
        }
    });
}

// ---- decoding: every function gives `None` for damaged bytes ----

fn decode_column(order: &KeyOrder, keys: &mut [&[u8]], builder: &mut CellsBuilder) -> Option<()> {
    match &mut builder.shape {
        ShapeBuilder::I64(v) => {
            if decode_all_valid(order.mask(), keys, v).is_some() {
                builder.push_all_valid(keys.len());
                return Some(());
            }
        }
        ShapeBuilder::I32(v) => {
            if decode_all_valid(order.mask(), keys, v).is_some() {
                builder.push_all_valid(keys.len());
                return Some(());
            }
        }
        _ => {}
    }
    let (null, mask) = (order.null_marker(), order.mask());
    // Goes on behind what the fast path has decoded: nothing, or a part that it has not counted.
    for key in keys {
        let (marker, rest) = key.split_first()?;
        *key = rest;
        match *marker {
            VALUE => decode_value(key, mask, builder)?,
            m if m == null => builder.push_null(),
            _ => return None,
        }
    }
    Some(())
}

/// The common case of a fixed column without NULL; `None`, with nothing changed, if it is not that.
#[inline]
fn decode_all_valid<const N: usize, T: FixedKey<N>>(mask: u8, keys: &mut [&[u8]], out: &mut Vec<T>) -> Option<()> {
    for key in keys.iter() {
        match key.split_first_chunk::<1>() {
            Some(([VALUE], rest)) if rest.len() >= N => {
                out.push(T::from_key(rest[..N].try_into().expect("N bytes"), mask));
            }
            _ => {
                out.clear();
                return None;
            }
        }
    }
    keys.iter_mut().for_each(|key| *key = &key[1 + N..]);
    Some(())
}

#[inline]
fn take_fixed<const N: usize, T: FixedKey<N>>(rest: &mut &[u8], mask: u8) -> Option<T> {
    let (bytes, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(T::from_key(*bytes, mask))
}

#[inline]
fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, after) = rest.split_first()?;
    *rest = after;
    Some(*byte)
}

/// Pushes the value at the begin of `rest` and moves `rest` behind it.
fn decode_value(rest: &mut &[u8], mask: u8, builder: &mut CellsBuilder) -> Option<()> {
    for_fixed!(&mut builder.shape, ShapeBuilder, |v| v.push(take_fixed(rest, mask)?), {
        match &mut builder.shape {
            ShapeBuilder::Boolean(v) => match take_byte(rest)? ^ mask {
                0 => v.append(false),
                1 => v.append(true),
                _ => return None,
            },
            ShapeBuilder::Bytes { ends, data } => {
                take_string(rest, mask, data)?;
                push_end(ends, data.len())?;
            }
            ShapeBuilder::List { ends, items } => {
                loop {
                    match take_byte(rest)? ^ mask {
                        ARRAY_END => break,
                        ARRAY_NULL => items.push_null(),
                        ARRAY_VALUE => decode_value(rest, mask, items)?,
                        _ => return None,
                    }
                }
                push_end(ends, items.len())?;
            }
            ShapeBuilder::Row(fields) => {
                for field in fields {
                    match take_byte(rest)? ^ mask {
                        NULL_FIRST => field.push_null(),
                        VALUE => decode_value(rest, mask, field)?,
                        _ => return None,
                    }
                }
            }
            _ => return None,
        }
    });
    builder.push_valid();
    Some(())
}

fn take_string(rest: &mut &[u8], mask: u8, out: &mut Vec<u8>) -> Option<()> {
    loop {
        let plain = rest.iter().position(|b| *b ^ mask <= STRING_ESCAPE)?;
        let from = out.len();
        out.extend_from_slice(&rest[..plain]);
        if mask != 0 {
            out[from..].iter_mut().for_each(|b| *b = !*b);
        }
        let special = rest[plain] ^ mask;
        *rest = &rest[plain + 1..];
        if special == STRING_END {
            return Some(());
        }
        match take_byte(rest)? ^ mask {
            escaped @ 1..=2 => out.push(escaped - 1),
            _ => return None,
        }
    }
}

fn skip_column(order: &KeyOrder, rest: &mut &[u8]) -> Option<()> {
    match take_byte(rest)? {
        VALUE => skip_value(&order.ty, order.mask(), rest),
        m if m == order.null_marker() => Some(()),
        _ => None,
    }
}

fn skip_value(ty: &SqlType, mask: u8, rest: &mut &[u8]) -> Option<()> {
    let width = match ty {
        SqlType::Boolean | SqlType::TinyInt => 1,
        SqlType::SmallInt => 2,
        SqlType::Int | SqlType::Date | SqlType::Float => 4,
        SqlType::BigInt | SqlType::Double => 8,
        SqlType::Time(_) | SqlType::Timestamp(_) | SqlType::TimestampLtz(_) => 8,
        SqlType::Decimal { precision, .. } => {
            if *precision <= 38 {
                16
            } else {
                32
            }
        }
        SqlType::Char(_) | SqlType::VarChar(_) | SqlType::Binary(_) | SqlType::VarBinary(_) => {
            // Neither form of an escaped byte is the end.
            1 + rest.iter().position(|b| *b ^ mask == STRING_END)?
        }
        SqlType::Array(element) => loop {
            match take_byte(rest)? ^ mask {
                ARRAY_END => break 0,
                ARRAY_NULL => {}
                ARRAY_VALUE => skip_value(&element.ty, mask, rest)?,
                _ => return None,
            }
        },
        SqlType::Row(fields) => {
            for field in fields {
                match take_byte(rest)? ^ mask {
                    NULL_FIRST => {}
                    VALUE => skip_value(&field.ty, mask, rest)?,
                    _ => return None,
                }
            }
            0
        }
        SqlType::Null | SqlType::Map(..) | SqlType::Interval => return None,
    };
    *rest = rest.get(width..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{Cell, array_of, cells_of, compare, typed_cells};
    use crate::types::{Column, ElementType};

    fn encode(codec: &KeyCodec, groups: Option<&[u16]>, columns: &[ArrayRef]) -> KeyBatch {
        let mut out = KeyBatch::new();
        let rows = columns.first().map_or(0, |c| c.len());
        codec.encode(groups, columns, rows, &mut out).unwrap();
        out
    }

    fn order(ty: &SqlType, descending: bool, nulls_first: bool) -> KeyOrder {
        KeyOrder { ty: ty.clone(), descending, nulls_first }
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
        let wide_minus_one = format!("017f{}", "ff".repeat(31));
        let golden: Vec<(SqlType, Cell, &str)> = vec![
            (SqlType::Null, Null, "00"),
            (SqlType::Boolean, Bool(true), "0101"),
            (SqlType::TinyInt, Int(-1), "017f"),
            (SqlType::SmallInt, Int(1), "018001"),
            (SqlType::Int, Int(1), "0180000001"),
            (SqlType::BigInt, Int(-2), "017ffffffffffffffe"),
            (SqlType::BigInt, Null, "00"),
            (SqlType::Float, Float(1.0), "01bf800000"),
            (SqlType::Double, Float(1.0), "01bff0000000000000"),
            (SqlType::Double, Float(-1.0), "01400fffffffffffff"),
            (SqlType::Double, Float(-0.0), "018000000000000000"),
            (SqlType::Double, Float(f64::NAN), "01fff8000000000000"),
            (decimal(10), Decimal(i256::from_i128(100)), "0180000000000000000000000000000064"),
            (decimal(38), Decimal(i256::from_i128(-1)), "017fffffffffffffffffffffffffffffff"),
            (decimal(39), Decimal(i256::from_i128(-1)), &wide_minus_one),
            (SqlType::STRING, text("ab"), "01616200"),
            (SqlType::STRING, text(""), "0100"),
            (SqlType::BYTES, Bytes(vec![0, 1, 2, 255]), "010101010202ff00"),
            (SqlType::Date, Int(1), "0180000001"),
            (SqlType::Time(3), Int(1), "018000000000000001"),
            (SqlType::Timestamp(3), Int(1), "018000000000000001"),
            (SqlType::TimestampLtz(6), Int(1), "018000000000000001"),
            (SqlType::Array(element(SqlType::TinyInt)), List(vec![Int(1), Null]), "0102810100"),
            (row, Row(vec![Null, text("a")]), "0100016100"),
        ];
        for (ty, cell, expected) in golden {
            let column = [array_of(&ty, std::slice::from_ref(&cell))];
            let ascending = encode(&KeyCodec::new(vec![order(&ty, false, true)]), None, &column);
            assert_eq!(hex(ascending.get(0)), expected, "{ty} {cell:?}");
            let descending = encode(&KeyCodec::new(vec![order(&ty, true, false)]), Some(&[258]), &column);
            let key = descending.get(0);
            assert_eq!(key[..2], [1, 2]);
            let expected: Vec<u8> = ascending.get(0)[1..].iter().map(|b| !b).collect();
            assert_eq!(key[2], if cell == Null { 2 } else { 1 });
            assert_eq!(key[3..], expected, "{ty} {cell:?}");
        }
    }

    #[test]
    fn maps_and_intervals_are_refused() {
        let map = SqlType::Map(Box::new(SqlType::Int), Box::new(ElementType { ty: SqlType::Int, nullable: true }));
        let in_row = SqlType::Row(vec![Column::new("m", map.clone(), true)]);
        for ty in [map, in_row, SqlType::Interval] {
            let codec = KeyCodec::new(vec![KeyOrder::ascending(ty.clone())]);
            let e = codec.encode(None, &[array_of(&ty, &[Cell::Null])], 1, &mut KeyBatch::new()).unwrap_err();
            assert!(e.message().contains(&ty.to_string()), "{e}");
        }
    }

    #[test]
    fn a_column_of_another_layout_is_an_error() {
        let codec = KeyCodec::new(vec![KeyOrder::ascending(SqlType::Decimal { precision: 10, scale: 2 })]);
        let other = SqlType::Decimal { precision: 10, scale: 3 };
        assert!(codec.encode(None, &[array_of(&other, &[Cell::Null])], 1, &mut KeyBatch::new()).is_err());
        assert!(codec.encode(None, &[array_of(&SqlType::BigInt, &[Cell::Null])], 1, &mut KeyBatch::new()).is_err());
        assert!(codec.encode(None, &[array_of(&codec.columns[0].ty, &[Cell::Null])], 2, &mut KeyBatch::new()).is_err());
    }

    #[test]
    fn without_columns_a_key_is_its_group() {
        let mut out = KeyBatch::default();
        KeyCodec::new(vec![]).encode(Some(&[1, 2]), &[], 2, &mut out).unwrap();
        assert_eq!(out.iter().collect::<Vec<_>>(), [[0, 1], [0, 2]]);
        let mut out = KeyBatch::default();
        KeyCodec::new(vec![]).encode(None, &[], 2, &mut out).unwrap();
        assert_eq!(out.len(), 2);
        assert_eq!(KeyCodec::new(vec![]).decode(out.iter().collect::<Vec<_>>().into_iter()).unwrap().len(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn byte_order_is_sql_order_and_nothing_is_lost(
            (a, b) in (typed_cells(false), typed_cells(false)),
            flags in any::<[bool; 4]>(),
            grouped in any::<bool>(),
        ) {
            let rows = a.1.len().min(b.1.len());
            let columns = [array_of(&a.0, &a.1[..rows]), array_of(&b.0, &b.1[..rows])];
            let codec = KeyCodec::new(vec![order(&a.0, flags[0], flags[1]), order(&b.0, flags[2], flags[3])]);
            let groups = vec![7; rows];
            let mut keys = KeyBatch::new();
            keys.push(b"before");
            codec.encode(grouped.then_some(&groups), &columns, rows, &mut keys).unwrap();
            let skip = if grouped { 2 } else { 0 };
            let keys: Vec<&[u8]> = keys.iter().skip(1).map(|k| &k[skip..]).collect();
            for i in 0..rows {
                for j in 0..rows {
                    let expected = compare(&a.1[i], &a.1[j], flags[0], flags[1])
                        .then_with(|| compare(&b.1[i], &b.1[j], flags[2], flags[3]));
                    prop_assert_eq!(keys[i].cmp(keys[j]), expected, "rows {} and {} of {:?} {:?}", i, j, &a, &b);
                    prop_assert!(keys[i] == keys[j] || !keys[i].starts_with(keys[j]));
                }
            }
            // Prefixes.
            let first = encode(&codec, None, &columns[..1]);
            for i in 0..rows {
                prop_assert!(keys[i].starts_with(first.get(i)));
                prop_assert_eq!(codec.encoded_prefix_len(keys[i], 1).unwrap(), first.get(i).len());
                prop_assert_eq!(codec.encoded_prefix_len(keys[i], 2).unwrap(), keys[i].len());
                prop_assert_eq!(codec.encoded_prefix_len(keys[i], 0).unwrap(), 0);
            }
            // And back; -0.0 comes back as 0.0, which `Cell` says is equal.
            let decoded = codec.decode(keys.iter().copied()).unwrap();
            for (array, (ty, cells)) in decoded.iter().zip([&a, &b]) {
                prop_assert_eq!(array.data_type(), &ty.to_arrow());
                prop_assert_eq!(&cells_of(ty, array)[..], &cells[..rows]);
            }
            // Cut or lengthened keys are damaged.
            for key in &keys {
                for end in 0..key.len() {
                    prop_assert!(codec.decode([&key[..end]].into_iter()).is_err());
                }
                let longer = [key, &[0u8][..]].concat();
                prop_assert!(codec.decode([&longer[..]].into_iter()).is_err());
            }
        }

        #[test]
        fn damaged_keys_never_panic((ty, _) in typed_cells(false), bytes in prop::collection::vec(any::<u8>(), 0..40), descending in any::<bool>()) {
            let codec = KeyCodec::new(vec![order(&ty, descending, true)]);
            let _ = codec.decode([&bytes[..]].into_iter());
            let _ = codec.encoded_prefix_len(&bytes, 1);
        }
    }
}
