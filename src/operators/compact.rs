//! Leaves out rows: what filters do with every column. Columns of 4 or 8 bytes a value without NULL, the most frequent
//! by far, are moved together in vector registers where the processor can; Arrow's kernel does all others.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, make_array};
use arrow::buffer::Buffer;
use arrow::compute::{FilterBuilder, FilterPredicate, SlicesIterator};
use arrow::datatypes::{Int64Type, SchemaRef};
use std::cell::OnceCell;
use thalweg_core::{Changes, Result};

use crate::expr::to_batch;

/// The rows for which `mask` is true, with their weights; the mask has no NULL.
///
/// # Errors
/// Columns that do not fit the schema.
pub(crate) fn compact(changes: Changes, mask: &BooleanArray, schema: &SchemaRef) -> Result<Changes> {
    let rows = mask.true_count();
    if rows == changes.num_rows() {
        return Ok(changes);
    }
    if rows == 0 {
        return Ok(changes.slice(0, 0));
    }
    // A mask of one run keeps the buffers.
    let mut runs = SlicesIterator::new(mask);
    if let (Some((start, end)), None) = (runs.next(), runs.next()) {
        return Ok(changes.slice(start, end - start));
    }
    let kept = Kept { mask, bytes: mask.values().sliced(), rows, arrow: OnceCell::new() };
    let columns = changes.batch.columns().iter().map(|c| kept.column(c)).collect::<Result<_>>()?;
    let weights = match changes.weights {
        None => None,
        Some(w) => Some(kept.column(&(std::sync::Arc::new(w) as ArrayRef))?.as_primitive::<Int64Type>().clone()),
    };
    Ok(Changes::new(to_batch(schema.clone(), columns, rows)?, weights as Option<Int64Array>))
}

struct Kept<'a> {
    mask: &'a BooleanArray,
    /// The mask's bits from the first byte on.
    bytes: Buffer,
    rows: usize,
    arrow: OnceCell<FilterPredicate>,
}

impl Kept<'_> {
    fn column(&self, column: &ArrayRef) -> Result<ArrayRef> {
        let width = column.data_type().primitive_width();
        if let (Some(width @ (4 | 8)), 0) = (width, column.null_count()) {
            let data = column.to_data();
            let values = data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
            let moved = match width {
                4 => lanes::words::<u32>(values.typed_data(), &self.bytes, self.rows).map(Buffer::from_vec),
                _ => lanes::words::<u64>(values.typed_data(), &self.bytes, self.rows).map(Buffer::from_vec),
            };
            if let Some(moved) = moved {
                let data = data.into_builder().offset(0).len(self.rows).nulls(None).buffers(vec![moved]);
                return Ok(make_array(data.build()?));
            }
        }
        let filter = self.arrow.get_or_init(|| FilterBuilder::new(self.mask).optimize().build());
        Ok(filter.filter(column)?)
    }
}

#[cfg(target_arch = "x86_64")]
mod lanes {
    use std::arch::x86_64::*;

    /// A value of 4 or 8 bytes.
    pub(super) trait Word: Copy + Default {
        /// How many of the values that begin at `from` are kept, by `bits`; they are written from `to` on. Eight values
        /// are read, and eight are written whatever is kept.
        ///
        /// # Safety
        /// The processor has AVX-512 F and VL; both pointers have eight values.
        unsafe fn avx512(from: *const Self, bits: u8, to: *mut Self);

        /// The same with AVX2.
        ///
        /// # Safety
        /// As above.
        unsafe fn avx2(from: *const Self, bits: u8, to: *mut Self);
    }

    /// Per set of bits the places of those that are set, in front.
    const fn places<const SETS: usize>() -> [[u32; 8]; SETS] {
        let mut all = [[0; 8]; SETS];
        let mut bits = 0;
        while bits < SETS {
            let (mut place, mut n) = (0, 0);
            while place < 8 {
                if bits >> place & 1 == 1 {
                    all[bits][n] = place;
                    n += 1;
                }
                place += 1;
            }
            bits += 1;
        }
        all
    }

    static PLACES_OF_8: [[u32; 8]; 256] = places();

    /// Of four values of 8 bytes, as places of their halves.
    static PLACES_OF_4: [[u32; 8]; 16] = {
        let of_4 = places::<16>();
        let mut all = [[0; 8]; 16];
        let mut bits = 0;
        while bits < 16 {
            let mut n = 0;
            while n < 4 {
                all[bits][2 * n] = 2 * of_4[bits][n];
                all[bits][2 * n + 1] = 2 * of_4[bits][n] + 1;
                n += 1;
            }
            bits += 1;
        }
        all
    };

    impl Word for u32 {
        #[inline]
        #[target_feature(enable = "avx512f,avx512vl")]
        unsafe fn avx512(from: *const u32, bits: u8, to: *mut u32) {
            // SAFETY: the caller's.
            unsafe {
                let values = _mm256_loadu_si256(from.cast());
                _mm256_storeu_si256(to.cast(), _mm256_maskz_compress_epi32(bits, values));
            }
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        unsafe fn avx2(from: *const u32, bits: u8, to: *mut u32) {
            // SAFETY: the caller's.
            unsafe {
                let places = _mm256_loadu_si256(PLACES_OF_8[bits as usize].as_ptr().cast());
                let values = _mm256_loadu_si256(from.cast());
                _mm256_storeu_si256(to.cast(), _mm256_permutevar8x32_epi32(values, places));
            }
        }
    }

    impl Word for u64 {
        #[inline]
        #[target_feature(enable = "avx512f,avx512vl")]
        unsafe fn avx512(from: *const u64, bits: u8, to: *mut u64) {
            // SAFETY: the caller's.
            unsafe {
                let values = _mm512_loadu_si512(from.cast());
                _mm512_storeu_si512(to.cast(), _mm512_maskz_compress_epi64(bits, values));
            }
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        unsafe fn avx2(from: *const u64, bits: u8, to: *mut u64) {
            // SAFETY: the caller's; the second half begins where the first one's last kept value ends.
            unsafe {
                let half = |from: *const u64, bits: u8, to: *mut u64| {
                    let places = _mm256_loadu_si256(PLACES_OF_4[bits as usize].as_ptr().cast());
                    let values = _mm256_loadu_si256(from.cast());
                    _mm256_storeu_si256(to.cast(), _mm256_permutevar8x32_epi32(values, places));
                };
                half(from, bits & 15, to);
                half(from.add(4), bits >> 4, to.add((bits & 15).count_ones() as usize));
            }
        }
    }

    /// The `kept` values whose bits are set; `None` if the processor has no instructions for it.
    pub(super) fn words<T: Word>(values: &[T], bits: &[u8], kept: usize) -> Option<Vec<T>> {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the processor has the features.
            return Some(unsafe { with_avx512(values, bits, kept) });
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return Some(unsafe { with_avx2(values, bits, kept) });
        }
        None
    }

    #[target_feature(enable = "avx512f,avx512vl,popcnt")]
    fn with_avx512<T: Word>(values: &[T], bits: &[u8], kept: usize) -> Vec<T> {
        // SAFETY: this function has the features.
        run(values, bits, kept, |from, bits, to| unsafe { T::avx512(from, bits, to) })
    }

    #[target_feature(enable = "avx2,popcnt")]
    pub(super) fn with_avx2<T: Word>(values: &[T], bits: &[u8], kept: usize) -> Vec<T> {
        // SAFETY: this function has the feature.
        run(values, bits, kept, |from, bits, to| unsafe { T::avx2(from, bits, to) })
    }

    #[inline(always)]
    fn run<T: Word>(values: &[T], bits: &[u8], kept: usize, step: impl Fn(*const T, u8, *mut T)) -> Vec<T> {
        let (chunks, rest) = values.as_chunks::<8>();
        assert!(bits.len() >= values.len().div_ceil(8), "a bit for every value");
        // The last step writes eight values, however few it keeps.
        let mut out: Vec<T> = Vec::with_capacity(values.len() + 8);
        let mut len = 0;
        for (chunk, &bits) in chunks.iter().zip(bits) {
            // SAFETY: so far at most as many values were kept as were read: there is room for eight more.
            step(chunk.as_ptr(), bits, unsafe { out.as_mut_ptr().add(len) });
            len += bits.count_ones() as usize;
        }
        if !rest.is_empty() {
            let mut last = [T::default(); 8];
            last[..rest.len()].copy_from_slice(rest);
            let bits = bits[chunks.len()] & ((1 << rest.len()) - 1);
            // SAFETY: as above.
            step(last.as_ptr(), bits, unsafe { out.as_mut_ptr().add(len) });
            len += bits.count_ones() as usize;
        }
        assert_eq!(len, kept, "as many values as bits are set");
        // SAFETY: so many were written.
        unsafe { out.set_len(len) };
        out
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod lanes {
    pub(super) fn words<T>(_: &[T], _: &[u8], _: usize) -> Option<Vec<T>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Date32Array, Float64Array, Int16Array, Int32Array, RecordBatch, StringArray};
    use arrow::compute::filter_record_batch;
    use arrow::datatypes::{Field, Schema};
    use proptest::prelude::*;

    use super::*;

    fn table(rows: usize) -> RecordBatch {
        let n = rows as i32;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values((0..n).map(|i| i64::from(i) << 33 | 7))),
            Arc::new(Int32Array::from_iter_values(0..n)),
            Arc::new(Int16Array::from_iter_values((0..n).map(|i| i as i16))),
            Arc::new(Float64Array::from_iter_values((0..n).map(f64::from))),
            Arc::new(Date32Array::from_iter_values(0..n)),
            Arc::new((0..n).map(|i| (i % 3 > 0).then_some(i64::from(i))).collect::<Int64Array>()),
            Arc::new((0..n).map(|i| (i % 5 > 0).then(|| i.to_string())).collect::<StringArray>()),
        ];
        let fields = columns.iter().zip('a'..).map(|(c, n)| Field::new(n.to_string(), c.data_type().clone(), true));
        RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn rows_are_left_out_as_arrow_does_it(
            mask in prop::collection::vec(any::<bool>(), 0..300), skip in 0usize..20, density in 0u32..3
        ) {
            let mask: Vec<bool> = mask.iter().enumerate().map(|(i, m)| match density {
                0 => *m,
                1 => *m && i % 5 == 0,
                _ => *m || i % 5 != 0,
            }).collect();
            let skip = skip.min(mask.len());
            // Slices: neither the values nor the bits begin at the beginning of their buffer.
            let batch = table(mask.len()).slice(skip, mask.len() - skip);
            let mask = BooleanArray::from(mask).slice(skip, batch.num_rows());
            let weights = Int64Array::from_iter_values(0..batch.num_rows() as i64);
            let out = compact(Changes::new(batch.clone(), Some(weights.clone())), &mask, &batch.schema()).unwrap();
            prop_assert_eq!(&out.batch, &filter_record_batch(&batch, &mask).unwrap());
            let kept: Vec<i64> = weights.values().iter().zip(mask.values()).filter(|w| w.1).map(|w| *w.0).collect();
            let weights = out.weights.unwrap();
            prop_assert_eq!(weights.values().as_ref(), &kept[..]);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_narrower_instructions_keep_the_same_values() {
        if !is_x86_feature_detected!("avx2") {
            return;
        }
        for bits in 0..=255u8 {
            let values: Vec<u64> = (0..8).map(|i| i << 40 | 3).collect();
            let kept: Vec<u64> = values.iter().zip(0..).filter(|(_, i)| bits >> i & 1 == 1).map(|(v, _)| *v).collect();
            let small = |v: &[u64]| v.iter().map(|v| (v >> 38) as u32).collect::<Vec<_>>();
            // SAFETY: the processor has the feature.
            unsafe {
                assert_eq!(lanes::with_avx2(&values, &[bits], kept.len()), kept);
                assert_eq!(lanes::with_avx2(&small(&values), &[bits], kept.len()), small(&kept));
            }
        }
    }

    #[test]
    fn one_run_of_rows_keeps_the_buffers() {
        let batch = table(100);
        let mask = BooleanArray::from((0..100).map(|i| (10..60).contains(&i)).collect::<Vec<_>>());
        let out = compact(Changes::inserts(batch.clone()), &mask, &batch.schema()).unwrap();
        assert_eq!(out.batch, batch.slice(10, 50));
        let at = |b: &RecordBatch| b.column(0).as_primitive::<Int64Type>().values().as_ptr() as usize;
        assert_eq!(at(&out.batch), at(&batch) + 10 * size_of::<i64>(), "not copied");
    }
}
