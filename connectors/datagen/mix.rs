//! Counter-based random numbers: a number is a function of a stream and an index, without state.

/// 2^64 divided by the golden ratio, odd: the step of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of random numbers, one per index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream(u64);

impl Stream {
    /// The stream of a name (a column's path) under a seed.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a over the name, then mixed: short names must not give near streams.
        let hash =
            name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Stream(finish(finish(seed.wrapping_add(GOLDEN)) ^ hash))
    }

    /// The number of an index: SplitMix64's, which jumps to any index for free (Steele, Lea, Flood: Fast Splittable
    /// Pseudorandom Number Generators, 2014).
    #[inline(always)]
    pub fn at(self, index: u64) -> u64 {
        finish(self.0.wrapping_add(index.wrapping_mul(GOLDEN)))
    }

    /// A further stream, for the second number of an index.
    pub fn derive(self, purpose: u64) -> Self {
        Stream(finish(self.0 ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03)))
    }
}

#[inline(always)]
fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number below `width`, uniform but for 2^-64; the number itself for width 0 (all of u64).
#[inline(always)]
pub fn below(random: u64, width: u64) -> u64 {
    if width == 0 { random } else { ((u128::from(random) * u128::from(width)) >> 64) as u64 }
}

/// A number in [0, 1), of 53 bits.
#[inline(always)]
pub fn unit(random: u64) -> f64 {
    (random >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_frozen() {
        let stream = Stream::new(1, "id");
        let found = [stream.at(0), stream.at(1), stream.at(u64::MAX)];
        assert_eq!(found, [1_113_791_898_565_040_688, 14_883_822_475_516_541_654, 7_995_126_774_684_057_371]);
    }

    #[test]
    fn ranges_are_filled_evenly() {
        let stream = Stream::new(7, "c");
        let mut counts = [0u32; 10];
        (0..100_000).for_each(|i| counts[below(stream.at(i), 10) as usize] += 1);
        assert!(counts.iter().all(|c| (9_500..10_500).contains(c)), "{counts:?}");
        let mean: f64 = (0..100_000).map(|i| unit(stream.at(i))).sum::<f64>() / 100_000.0;
        assert!((0.495..0.505).contains(&mean), "{mean}");
    }
}
