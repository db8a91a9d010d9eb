//! Which key group, and so which worker and shard, a key belongs to. The hash is ours and frozen: it routes every
//! exchange into a stateful operator and stands in every stored key, so it must never change.
//!
//! # The hash
//!
//! A row's hash is a 64-bit state that begins as `SEED` and absorbs words of 64 bits, column by column:
//!
//! ```text
//! absorb(h, w):  x = h ^ w
//!                x ^= x >> 27;  x *= 0x3C79AC492BA7B653
//!                x ^= x >> 33;  x *= 0x1C69B3F74AC4AE35
//!                x ^= x >> 27
//! ```
//!
//! (the finaliser of splitmix64 with Pelle Evensen's "moremur" constants: every input bit flips every output bit with
//! a probability close to one half). What a value absorbs:
//!
//! | value | words |
//! | --- | --- |
//! | NULL of any type | `NULL_WORD` |
//! | BOOLEAN | 0 or 1 |
//! | integers, DATE, TIME, TIMESTAMP | the value, sign-extended |
//! | FLOAT, DOUBLE | the IEEE bits, zero-extended; 0.0 for -0.0, one NaN |
//! | DECIMAL to 38 digits, above | 2 or 4 words of the unscaled value, lowest first |
//! | strings, bytes | h ^= length; per 8 bytes (little-endian, the last filled up with 0) h = fold(h ^ word); then absorb 0 |
//! | ARRAY | the number of elements, then the elements |
//! | MAP | the number of entries, then the wrapping sum over entries of the hash of (key, value) begun at `SEED` |
//! | ROW | `ROW_WORD`, then the fields |
//! | INTERVAL | months, days, nanoseconds |
//!
//! where fold(x) is the low half of the 128-bit product x * 0x9E3779B97F4A7C15 xor its high half. Equal maps hash
//! alike whatever the order of their entries. Values of different types need not hash alike.

use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::i256;

use crate::cells::{Cells, Shape, bytes_at, canonical_f32, canonical_f64, items_at};
use crate::error::{Error, Result};

/// Every key in a state table begins with its key group, big-endian.
pub const PREFIX_BYTES: usize = 2;
/// Version of the hash, stored in manifests.
pub const HASH_VERSION: u32 = 1;
/// `pipeline.max-parallelism`, unless set.
pub const MAX_PARALLELISM_DEFAULT: u16 = 256;

const SEED: u64 = 0x5448_414C_5745_4701;
const NULL_WORD: u64 = 0xA076_1D64_78BD_642F;
const ROW_WORD: u64 = 0xE703_7ED1_A0B4_28DB;

/// One 64-bit hash per row over the given columns, in order; `hashes` is cleared first. NULL is a value of its own;
/// -0.0 and 0.0, and all NaNs, hash alike. No columns: 0 for every one of `rows`.
///
/// # Errors
/// A column that has not `rows` rows, or lies in memory in another way than `SqlType::to_arrow` says.
pub fn hash_rows(columns: &[ArrayRef], rows: usize, hashes: &mut Vec<u64>) -> Result<()> {
    hashes.clear();
    if columns.is_empty() {
        hashes.resize(rows, 0);
        return Ok(());
    }
    hashes.resize(rows, SEED);
    for (i, column) in columns.iter().enumerate() {
        if column.len() != rows {
            return Err(Error::internal(format!("key column {i} has {} rows where {rows} are expected", column.len())));
        }
        absorb_column(&Cells::of(column.as_ref())?, hashes);
    }
    Ok(())
}

#[inline]
fn absorb(h: u64, word: u64) -> u64 {
    let mut x = h ^ word;
    x = (x ^ (x >> 27)).wrapping_mul(0x3C79_AC49_2BA7_B653);
    x = (x ^ (x >> 33)).wrapping_mul(0x1C69_B3F7_4AC4_AE35);
    x ^ (x >> 27)
}

#[inline]
fn fold(x: u64) -> u64 {
    let product = u128::from(x) * 0x9E37_79B9_7F4A_7C15;
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn absorb_bytes(h: u64, bytes: &[u8]) -> u64 {
    let mut h = h ^ bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        h = fold(h ^ u64::from_le_bytes(word.try_into().expect("8 bytes")));
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        h = fold(h ^ short_word(rest));
    }
    absorb(h, 0)
}

/// 1 to 7 bytes as a little-endian word filled up with 0, by reads that overlap where bytes are equal: a copy of so
/// few bytes would cost more than the rest of the hash.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    let n = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (n - 4))
    } else {
        let at = |i: usize| u64::from(bytes[i]) << (8 * i);
        at(0) | at(n / 2) | at(n - 1)
    }
}

#[inline]
fn absorb_i128(h: u64, v: i128) -> u64 {
    absorb(absorb(h, v as u64), (v >> 64) as u64)
}

fn absorb_i256(h: u64, v: i256) -> u64 {
    let (low, high) = v.to_parts();
    absorb_i128(absorb_i128(h, low as i128), high)
}

/// `hashes[i]` absorbs cell i: one loop per shape, without a branch where there are no NULLs.
fn absorb_column(cells: &Cells, hashes: &mut [u64]) {
    match &cells.shape {
        Shape::I64(v) => absorb_values(v, cells.nulls, hashes, |h, v| absorb(h, v as u64)),
        Shape::I32(v) => absorb_values(v, cells.nulls, hashes, |h, v| absorb(h, i64::from(v) as u64)),
        Shape::I16(v) => absorb_values(v, cells.nulls, hashes, |h, v| absorb(h, i64::from(v) as u64)),
        Shape::I8(v) => absorb_values(v, cells.nulls, hashes, |h, v| absorb(h, i64::from(v) as u64)),
        Shape::F64(v) => absorb_values(v, cells.nulls, hashes, |h, v| absorb(h, canonical_f64(v).to_bits())),
        Shape::I128(v) => absorb_values(v, cells.nulls, hashes, absorb_i128),
        Shape::Bytes { offsets, data } if cells.nulls.is_none() => {
            for (h, ends) in hashes.iter_mut().zip(offsets.windows(2)) {
                *h = absorb_bytes(*h, &data[ends[0] as usize..ends[1] as usize]);
            }
        }
        _ => hashes.iter_mut().enumerate().for_each(|(row, h)| *h = absorb_cell(cells, row, *h)),
    }
}

#[inline]
fn absorb_values<T: Copy>(values: &[T], nulls: Option<&NullBuffer>, hashes: &mut [u64], f: impl Fn(u64, T) -> u64) {
    match nulls {
        None => hashes.iter_mut().zip(values).for_each(|(h, v)| *h = f(*h, *v)),
        Some(nulls) => {
            for ((h, v), valid) in hashes.iter_mut().zip(values).zip(nulls) {
                *h = if valid { f(*h, *v) } else { absorb(*h, NULL_WORD) };
            }
        }
    }
}

fn absorb_cell(cells: &Cells, row: usize, h: u64) -> u64 {
    if cells.is_null(row) {
        return absorb(h, NULL_WORD);
    }
    match &cells.shape {
        Shape::Null => absorb(h, NULL_WORD),
        Shape::Boolean(v) => absorb(h, u64::from(v.value(row))),
        Shape::I8(v) => absorb(h, i64::from(v[row]) as u64),
        Shape::I16(v) => absorb(h, i64::from(v[row]) as u64),
        Shape::I32(v) => absorb(h, i64::from(v[row]) as u64),
        Shape::I64(v) => absorb(h, v[row] as u64),
        Shape::I128(v) => absorb_i128(h, v[row]),
        Shape::I256(v) => absorb_i256(h, v[row]),
        Shape::F32(v) => absorb(h, u64::from(canonical_f32(v[row]).to_bits())),
        Shape::F64(v) => absorb(h, canonical_f64(v[row]).to_bits()),
        Shape::Bytes { offsets, data } => absorb_bytes(h, bytes_at(offsets, data, row)),
        Shape::Interval(v) => {
            let h = absorb(h, i64::from(v[row].months) as u64);
            absorb(absorb(h, i64::from(v[row].days) as u64), v[row].nanoseconds as u64)
        }
        Shape::List { offsets, items } => {
            let range = items_at(offsets, row);
            let h = absorb(h, range.len() as u64);
            range.fold(h, |h, item| absorb_cell(items, item, h))
        }
        Shape::Map { offsets, keys, values } => {
            let range = items_at(offsets, row);
            let h = absorb(h, range.len() as u64);
            let entries = range.map(|e| absorb_cell(values, e, absorb_cell(keys, e, SEED)));
            absorb(h, entries.fold(0, u64::wrapping_add))
        }
        Shape::Row(fields) => fields.iter().fold(absorb(h, ROW_WORD), |h, f| absorb_cell(f, row, h)),
    }
}

/// The key group of a hash.
#[inline]
pub fn key_group(hash: u64, max_parallelism: u16) -> u16 {
    // Multiply-shift on the upper half: uniform, no division.
    (((hash >> 32) * u64::from(max_parallelism)) >> 32) as u16
}

/// The worker that owns a key group.
#[inline]
pub fn worker_of(group: u16, max_parallelism: u16, workers: usize) -> usize {
    usize::from(group) * workers / usize::from(max_parallelism)
}

/// The key groups that a worker owns: exactly those that `worker_of` gives to it.
pub fn groups_of(worker: usize, max_parallelism: u16, workers: usize) -> Range<u16> {
    let max = usize::from(max_parallelism);
    let from = (worker * max).div_ceil(workers);
    let to = ((worker + 1) * max).div_ceil(workers);
    from as u16..to as u16
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{Cell, array_of, typed_cells};
    use crate::types::{Column, ElementType, SqlType};

    fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
        let mut out = vec![];
        hash_rows(columns, columns[0].len(), &mut out).unwrap();
        out
    }

    #[test]
    fn every_group_has_the_one_worker_whose_range_it_is_in() {
        for max in [1, 7, 256, 1024] {
            for workers in 1..=9 {
                for group in 0..max {
                    let w = worker_of(group, max, workers);
                    assert!(groups_of(w, max, workers).contains(&group), "{group} of {max} on {workers}");
                }
            }
        }
    }

    #[test]
    fn the_hash_is_frozen() {
        use Cell::*;
        let int_array = SqlType::Array(Box::new(ElementType { ty: SqlType::Int, nullable: true }));
        let int_map =
            SqlType::Map(Box::new(SqlType::STRING), Box::new(ElementType { ty: SqlType::Int, nullable: true }));
        let row = SqlType::Row(vec![Column::new("a", SqlType::Int, true), Column::new("b", SqlType::STRING, true)]);
        let decimal = |precision| SqlType::Decimal { precision, scale: 2 };
        let text = |s: &str| Bytes(s.as_bytes().to_vec());
        let golden: Vec<(SqlType, Vec<Cell>, Vec<u64>)> = vec![
            (SqlType::Null, vec![Null], vec![0x63dc_3cd8_4359_bfb3]),
            (
                SqlType::Boolean,
                vec![Null, Bool(false), Bool(true)],
                vec![0x63dc_3cd8_4359_bfb3, 0x8adf_51cb_ae99_bb85, 0x36db_ac75_7f39_1207],
            ),
            (SqlType::TinyInt, vec![Int(-1), Int(1)], vec![0xab0a_e021_786b_3548, 0x36db_ac75_7f39_1207]),
            (
                SqlType::BigInt,
                vec![Null, Int(0), Int(1), Int(-1), Int(i64::MAX)],
                vec![
                    0x63dc_3cd8_4359_bfb3,
                    0x8adf_51cb_ae99_bb85,
                    0x36db_ac75_7f39_1207,
                    0xab0a_e021_786b_3548,
                    0xecfa_1fce_bb14_e927,
                ],
            ),
            (SqlType::Timestamp(3), vec![Int(1)], vec![0x36db_ac75_7f39_1207]),
            (
                SqlType::Float,
                vec![Float(1.0), Float(-0.0), Float(f64::NAN)],
                vec![0x0974_194c_7357_9ac2, 0x8adf_51cb_ae99_bb85, 0x8f42_a175_5a0e_0c06],
            ),
            (
                SqlType::Double,
                vec![Float(1.0), Float(-0.0), Float(f64::NAN)],
                vec![0xebbc_4e69_9092_8e98, 0x8adf_51cb_ae99_bb85, 0xf76f_eddb_5694_bbfb],
            ),
            (
                decimal(10),
                vec![Decimal(i256::from_i128(1)), Decimal(i256::from_i128(-1))],
                vec![0x3497_eac2_8a92_b630, 0x04ce_6e8a_6cb5_ffd9],
            ),
            (
                decimal(60),
                vec![Decimal(i256::from_i128(1)), Decimal(i256::from_i128(-1))],
                vec![0x4fdd_94dc_64ab_0cd3, 0x4f02_cc51_8594_0242],
            ),
            (
                SqlType::STRING,
                vec![Null, text(""), text("a"), text("12345678"), text("123456789")],
                vec![
                    0x63dc_3cd8_4359_bfb3,
                    0x8adf_51cb_ae99_bb85,
                    0x2fb9_9252_09bd_4d64,
                    0xbad9_3bc9_3efa_02a9,
                    0x6292_0da4_1473_6e56,
                ],
            ),
            (
                SqlType::BYTES,
                vec![Bytes(vec![0]), Bytes(vec![0, 0])],
                vec![0x016d_7532_b708_3620, 0x8123_027a_31f8_b254],
            ),
            (SqlType::Interval, vec![Interval(1, 2, 3)], vec![0xa3c0_f1d1_3dbf_b5f4]),
            (
                int_array,
                vec![List(vec![]), List(vec![Int(1), Null])],
                vec![0x8adf_51cb_ae99_bb85, 0x528d_a9a4_378f_09c5],
            ),
            (
                int_map,
                vec![Map(vec![]), Map(vec![(text("a"), Int(1)), (text("b"), Null)])],
                vec![0xcc8c_e256_7395_5ab3, 0xf914_e4d2_eea0_5c4d],
            ),
            (
                row,
                vec![Null, Row(vec![Int(1), text("a")]), Row(vec![Null, Null])],
                vec![0x63dc_3cd8_4359_bfb3, 0x8cac_25ce_df04_5d47, 0xe03e_0ffa_951d_6952],
            ),
        ];
        for (ty, cells, expected) in golden {
            let found = hashes(&[array_of(&ty, &cells)]);
            assert_eq!(found, expected, "{ty}: {found:#018x?}");
        }
        let two: [ArrayRef; 2] =
            [Arc::new(Int64Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec![Some("a"), None]))];
        let found = hashes(&two);
        assert_eq!(found, [0x7571_3ec5_3518_fba7, 0x4deb_80b8_1746_8580], "{found:#018x?}");
    }

    #[test]
    fn no_columns_hash_to_0() {
        let mut out = vec![7];
        hash_rows(&[], 3, &mut out).unwrap();
        assert_eq!(out, [0, 0, 0]);
    }

    #[test]
    fn zeros_hash_alike_and_so_do_nans() {
        let nan = f64::from_bits(0xfff8_0000_0000_0001);
        let h = hashes(&[Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, nan, 1.0]))]);
        assert_eq!(h[0], h[1]);
        assert_eq!(h[2], h[3]);
        assert_ne!(h[0], h[4]);
    }

    #[test]
    fn the_order_of_a_maps_entries_does_not_matter() {
        let ty = SqlType::Map(Box::new(SqlType::Int), Box::new(ElementType { ty: SqlType::Int, nullable: true }));
        let entries = vec![(Cell::Int(1), Cell::Int(2)), (Cell::Int(3), Cell::Null)];
        let reversed = entries.iter().rev().cloned().collect();
        let h = hashes(&[array_of(&ty, &[Cell::Map(entries), Cell::Map(reversed)])]);
        assert_eq!(h[0], h[1]);
    }

    #[test]
    fn consecutive_numbers_spread_evenly_over_groups() {
        let h = hashes(&[Arc::new(Int64Array::from_iter_values(0..256_000))]);
        let mut counts = [0u32; 256];
        h.iter().for_each(|h| counts[usize::from(key_group(*h, 256))] += 1);
        // 1000 each; the deviation of a fair throw is 32.
        assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
    }

    #[test]
    fn a_wrong_row_count_or_layout_is_an_error() {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        assert!(hash_rows(&[column], 3, &mut vec![]).is_err());
        let column: ArrayRef = Arc::new(arrow::array::UInt8Array::from(vec![1, 2]));
        assert!(hash_rows(&[column], 2, &mut vec![]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn a_slice_and_a_single_row_hash_as_in_the_whole((ty, cells) in typed_cells(true)) {
            let array = array_of(&ty, &cells);
            let whole = hashes(std::slice::from_ref(&array));
            for i in 0..cells.len() {
                prop_assert_eq!(&hashes(&[array.slice(i, 1)]), &whole[i..=i]);
                prop_assert_eq!(&hashes(&[array_of(&ty, &cells[i..=i])]), &whole[i..=i]);
            }
        }
    }
}
