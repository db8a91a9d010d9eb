//! Columns → key bytes, column by column.

use arrow::buffer::NullBuffer;

use super::fixed::{FixedKey, fixed_width, for_fixed};
use super::{ARRAY_END, ARRAY_NULL, ARRAY_VALUE, KeyOrder, NULL_FIRST, STRING_END, STRING_ESCAPE, VALUE};
use crate::cells::{Cells, Shape, bytes_at, copy_short, items_at};
use crate::key_group::PREFIX_BYTES;
use crate::state::KeyBatch;

/// Bytes of every key, if all keys have the same.
pub(super) fn fixed_stride(cells: &[Cells], prefix: usize) -> Option<usize> {
    let widths = cells.iter().map(|c| if c.nulls.is_none() { fixed_width(&c.shape) } else { None });
    widths.map(|w| w.map(|w| 1 + w)).try_fold(prefix, |sum, w| Some(sum + w?))
}

/// Keys of equal length: column by column at fixed places.
pub(super) fn encode_fixed(
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
pub(super) fn encode_variable(
    groups: Option<&[u16]>,
    cells: &[Cells],
    orders: &[KeyOrder],
    rows: usize,
    out: &mut KeyBatch,
) {
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
