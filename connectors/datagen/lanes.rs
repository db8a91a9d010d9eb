//! Whole numbers of a range for many indices at once: the loop of the generators that are asked for most, compiled for
//! several processors, of which the one at hand is chosen when the program runs. All give the same numbers.

use crate::mix::{Stream, below};

/// What a column of whole numbers is drawn from: `width` numbers from `min` on (0: all of 64 bits).
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub stream: Stream,
    pub min: i64,
    pub width: u64,
}

impl Range {
    #[inline(always)]
    pub fn at(self, index: u64) -> i64 {
        self.min.wrapping_add(below(self.stream.at(index), self.width) as i64)
    }

    /// The numbers of `indices`.
    pub fn fill(self, indices: &[u64]) -> Vec<i64> {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
                // SAFETY: the processor has the features that the function is compiled for.
                return unsafe { avx512(self, indices) };
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: as above.
                return unsafe { avx2(self, indices) };
            }
        }
        fill(self, indices)
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn avx512(range: Range, indices: &[u64]) -> Vec<i64> {
    fill(range, indices)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(range: Range, indices: &[u64]) -> Vec<i64> {
    fill(range, indices)
}

/// Without a branch and, for ranges of less than 2^32 numbers, without a multiplication of more than 64 bits, so that it
/// runs in lanes.
#[inline(always)]
fn fill(range: Range, indices: &[u64]) -> Vec<i64> {
    let Range { stream, min, width } = range;
    match u32::try_from(width) {
        Ok(0) => indices.iter().map(|&i| min.wrapping_add(stream.at(i) as i64)).collect(),
        Ok(width) => indices.iter().map(|&i| min.wrapping_add(below_u32(stream.at(i), width) as i64)).collect(),
        Err(_) => indices.iter().map(|&i| range.at(i)).collect(),
    }
}

/// `below`, by two multiplications of 32 bits: the upper half of the 96-bit product.
#[inline(always)]
fn below_u32(random: u64, width: u32) -> u64 {
    let (high, low) = (random >> 32, random & 0xffff_ffff);
    let width = u64::from(width);
    (high * width + ((low * width) >> 32)) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_compute_the_numbers_gives_the_same() {
        let mut indices: Vec<u64> = (0..1003).map(|i| 5 + 2 * i).collect();
        indices.extend([u64::MAX, 0, 1 << 63]);
        for width in [0, 1, 2, 3, 1000, 1_000_001, (1 << 31) + 7, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, u64::MAX] {
            for min in [0, -5, i64::MIN] {
                let range = Range { stream: Stream::new(42, "c"), min, width };
                let expected: Vec<i64> = indices.iter().map(|&i| range.at(i)).collect();
                assert_eq!(fill(range, &indices), expected, "width {width}");
                assert_eq!(range.fill(&indices), expected, "width {width}");
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the feature.
                    assert_eq!(unsafe { avx2(range, &indices) }, expected, "width {width}");
                }
            }
        }
    }
}
