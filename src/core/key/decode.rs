//! Key bytes → columns. Every function gives `None` for damaged bytes.

use super::fixed::{FixedKey, for_fixed};
use super::{ARRAY_END, ARRAY_NULL, ARRAY_VALUE, KeyOrder, NULL_FIRST, STRING_END, STRING_ESCAPE, VALUE};
use crate::cells::{CellsBuilder, ShapeBuilder, push_end};
use crate::types::SqlType;

pub(super) fn decode_column(order: &KeyOrder, keys: &mut [&[u8]], builder: &mut CellsBuilder) -> Option<()> {
    let decoded = match &mut builder.shape {
        ShapeBuilder::I64(v) => decode_all_valid(order.mask(), keys, v),
        ShapeBuilder::I32(v) => decode_all_valid(order.mask(), keys, v),
        _ => None,
    };
    if decoded.is_some() {
        builder.push_all_valid(keys.len());
        return Some(());
    }
    let (null, mask) = (order.null_marker(), order.mask());
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

pub(super) fn skip_column(order: &KeyOrder, rest: &mut &[u8]) -> Option<()> {
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
