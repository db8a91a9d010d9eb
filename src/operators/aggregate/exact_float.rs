//! Sums of floats without any rounding, so that the order of additions does not matter and a removal undoes an
//! addition; rounded once when read.
//!
//! Every finite f64 is an integer multiple of 2^-1074. The sum is kept as such an integer, in two's complement: three
//! 64-bit words at a place chosen by the first number, which holds numbers from 2^32 times smaller to 2^44 times larger;
//! only what does not fit there takes the whole range of 36 words (a superaccumulator, see Kulisch and Miranker, "The
//! arithmetic of the digital computer", 1986). Against an expansion of floats (Shewchuk, 1997) this has no intermediate
//! overflow, whose outcome would depend on the order (1e308 + 1e308 - 1e308), takes weights other than ±1 exactly, and
//! equal sums have equal bytes. NaN and infinities are counted beside.

use super::column::{put_varint, take_varint, trim_signed};

/// Words of the whole range: 2098 bits of f64, 63 of a weight, 64 for carries.
const WORDS: usize = 36;
const NEAR: usize = 3;

/// An exact sum of floats with weights.
#[derive(Debug, Clone, Default)]
pub(super) struct ExactFloat {
    /// Two's complement, the lowest first; not used beside `far`.
    near: [u64; NEAR],
    /// The place of `near[0]` in the whole range.
    low: u8,
    far: Option<Box<Far>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Far {
    words: [u64; WORDS],
    nans: i64,
    infinities: i64,
    negative_infinities: i64,
}

/// How wide the output's mantissa is, and the place (in units of 2^-1074) of its smallest unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Precision {
    mantissa_bits: i64,
    unit: i64,
}

pub(super) const DOUBLE: Precision = Precision { mantissa_bits: 53, unit: 0 };
pub(super) const FLOAT: Precision = Precision { mantissa_bits: 24, unit: 1074 - 149 };

/// Sign-extension word.
fn sign_of(word: u64) -> u64 {
    ((word as i64) >> 63) as u64
}

impl ExactFloat {
    /// Adds `x` `weight` times.
    #[inline]
    pub fn add(&mut self, x: f64, weight: i64) {
        let bits = x.to_bits();
        let exponent = (bits >> 52) as usize & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        if exponent == 0x7ff {
            return self.add_special(x, weight);
        }
        let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        if mantissa == 0 {
            return;
        }
        let signed = if x < 0.0 { -(mantissa as i128) } else { mantissa as i128 };
        self.add_product(signed * i128::from(weight), exponent.max(1) - 1);
    }

    /// Adds `v` × 2^place units.
    #[inline]
    fn add_product(&mut self, v: i128, place: usize) {
        let (word, shift) = (place / 64, place % 64);
        // v << shift in three words.
        let low = u128::from(v as u64) << shift;
        let high = (v >> 64) << shift;
        let middle = (low >> 64) | (high as u64 as u128);
        let addend = [low as u64, middle as u64, (high >> 64) as u64];
        if self.far.is_none() {
            if self.near == [0; NEAR] {
                // Room below for small numbers, above for sums.
                self.low = if shift >= 32 { word } else { word.saturating_sub(1) } as u8;
            }
            if self.add_near(addend, word) {
                return;
            }
        }
        self.make_far().add_words(&addend, word);
    }

    /// False, and nothing has changed, if the sum does not fit.
    #[inline]
    fn add_near(&mut self, addend: [u64; NEAR], word: usize) -> bool {
        let place = word.wrapping_sub(usize::from(self.low));
        let sign = sign_of(addend[2]);
        let shifted = match place {
            0 => addend,
            1 if addend[2] == sign && sign_of(addend[1]) == sign => [0, addend[0], addend[1]],
            2 if addend[2] == sign && addend[1] == sign && sign_of(addend[0]) == sign => [0, 0, addend[0]],
            _ => return false,
        };
        let (w0, c0) = self.near[0].overflowing_add(shifted[0]);
        let (w1, c1) = carrying_add(self.near[1], shifted[1], c0);
        let (w2, _) = carrying_add(self.near[2], shifted[2], c1);
        // Overflow: both had one sign and the sum has the other.
        if sign_of((self.near[2] ^ w2) & (shifted[2] ^ w2)) != 0 {
            return false;
        }
        self.near = [w0, w1, w2];
        true
    }

    #[cold]
    fn add_special(&mut self, x: f64, weight: i64) {
        let far = self.make_far();
        let count = match x {
            _ if x.is_nan() => &mut far.nans,
            f64::INFINITY => &mut far.infinities,
            _ => &mut far.negative_infinities,
        };
        *count = count.wrapping_add(weight);
    }

    fn make_far(&mut self) -> &mut Far {
        let (near, low) = (self.near, usize::from(self.low));
        self.far.get_or_insert_with(|| {
            let mut far = Far { words: [0; WORDS], nans: 0, infinities: 0, negative_infinities: 0 };
            far.add_words(&near, low);
            Box::new(far)
        })
    }

    pub fn merge(&mut self, other: &ExactFloat) {
        match &other.far {
            None if other.near == [0; NEAR] => {}
            None if self.far.is_none() && self.near == [0; NEAR] => *self = other.clone(),
            None if self.far.is_none()
                && self.low == other.low
                && self.add_near(other.near, usize::from(other.low)) => {}
            None => self.make_far().add_words(&other.near, usize::from(other.low)),
            Some(from) => {
                let far = self.make_far();
                far.add_words(&from.words, 0);
                far.nans = far.nans.wrapping_add(from.nans);
                far.infinities = far.infinities.wrapping_add(from.infinities);
                far.negative_infinities = far.negative_infinities.wrapping_add(from.negative_infinities);
            }
        }
    }

    pub fn is_zero(&self) -> bool {
        match &self.far {
            None => self.near == [0; NEAR],
            Some(far) => far.words == [0; WORDS] && far.specials() == [0; 3],
        }
    }

    pub fn heap_bytes(&self) -> usize {
        if self.far.is_some() { size_of::<Far>() } else { 0 }
    }

    /// The words and the place of the first.
    fn words(&self) -> (&[u64], usize) {
        match &self.far {
            None => (&self.near, usize::from(self.low)),
            Some(far) => (&far.words, 0),
        }
    }

    /// The sum divided by `divisor`, rounded once (to nearest, ties to even) to the given precision.
    pub fn quotient(&self, divisor: u64, to: Precision) -> f64 {
        if let Some(far) = &self.far {
            match far.specials().map(|n| n != 0) {
                [true, _, _] | [_, true, true] => return f64::NAN,
                [_, true, _] => return f64::INFINITY,
                [_, _, true] => return f64::NEG_INFINITY,
                _ => {}
            }
        }
        match &self.far {
            None => divide(&self.near, usize::from(self.low), &mut [0; NEAR + BELOW], divisor, to),
            Some(far) => divide(&far.words, 0, &mut [0; WORDS + BELOW], divisor, to),
        }
    }

    /// Frozen bytes: the counts of NaN, ∞ and -∞ as varints if there is any (first byte 1, else 0), then, unless the
    /// rest is 0, the place of the lowest word that is not 0 and the little-endian two's complement bytes from
    /// there, as few as keep the value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let specials = self.far.as_ref().map_or([0; 3], |f| f.specials());
        let has_specials = specials != [0; 3];
        out.push(u8::from(has_specials));
        if has_specials {
            specials.iter().for_each(|&n| put_varint(n, out));
        }
        let (words, low) = self.words();
        if let Some(first) = words.iter().position(|w| *w != 0) {
            out.push((low + first) as u8);
            let bytes: Vec<u8> = words[first..].iter().flat_map(|w| w.to_le_bytes()).collect();
            out.extend_from_slice(trim_signed(&bytes));
        }
    }

    /// `None`: damaged.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut sum = ExactFloat::default();
        let (&has_specials, rest) = bytes.split_first()?;
        bytes = rest;
        if has_specials == 1 {
            let far = sum.make_far();
            far.nans = take_varint(&mut bytes)?;
            far.infinities = take_varint(&mut bytes)?;
            far.negative_infinities = take_varint(&mut bytes)?;
        }
        let Some((&low, bytes)) = bytes.split_first() else { return Some(sum) };
        let fill = sign_of(u64::from(*bytes.last()?) << 56);
        let words: Vec<u64> = bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = fill.to_le_bytes();
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_le_bytes(word)
            })
            .collect();
        if words.len() + usize::from(low) > WORDS {
            return None;
        }
        // One empty word below, for smaller numbers to come.
        let below = usize::from(low > 0);
        if sum.far.is_none() && words.len() + below <= NEAR {
            sum.near = [fill; NEAR];
            sum.near[..below].fill(0);
            sum.near[below..below + words.len()].copy_from_slice(&words);
            sum.low = low - below as u8;
        } else {
            sum.make_far().add_words(&words, usize::from(low));
        }
        Some(sum)
    }
}

impl Far {
    fn specials(&self) -> [i64; 3] {
        [self.nans, self.infinities, self.negative_infinities]
    }

    /// Adds a two's complement number at a place.
    fn add_words(&mut self, addend: &[u64], place: usize) {
        let sign = sign_of(addend[addend.len() - 1]);
        let mut carry = false;
        for (i, word) in self.words[place..].iter_mut().enumerate() {
            let add = match addend.get(i) {
                Some(&a) => a,
                // 0 without, or -1 with a carry: nothing changes from here on.
                None if (sign == 0) != carry => return,
                None => sign,
            };
            (*word, carry) = carrying_add(*word, add, carry);
        }
    }
}

#[inline]
fn carrying_add(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (sum, first) = a.overflowing_add(b);
    let (sum, second) = sum.overflowing_add(u64::from(carry));
    (sum, first | second)
}

/// Empty words below a dividend, for the digits of its quotient.
const BELOW: usize = 2;

/// `digits` is room for the quotient, of zeros.
fn divide(words: &[u64], low: usize, digits: &mut [u64], divisor: u64, to: Precision) -> f64 {
    let negative = sign_of(words[words.len() - 1]) != 0;
    let mut carry = negative;
    for (digit, word) in digits[BELOW..].iter_mut().zip(words) {
        (*digit, carry) = if negative { (!word).overflowing_add(u64::from(carry)) } else { (*word, false) };
    }
    let mut rest = 0u128;
    if divisor != 1 {
        for digit in digits.iter_mut().rev() {
            let part = rest << 64 | u128::from(*digit);
            *digit = (part / u128::from(divisor)) as u64;
            rest = part % u128::from(divisor);
        }
    }
    let magnitude = round(digits, (low as i64 - BELOW as i64) * 64, rest != 0, to);
    // What is too small for a number is 0.0, also from below.
    if negative { -magnitude + 0.0 } else { magnitude }
}

/// The float nearest to `digits` × 2^place units (plus something less than the last digit's unit if `more`).
fn round(digits: &[u64], place: i64, more: bool, to: Precision) -> f64 {
    let Some(top_word) = digits.iter().rposition(|d| *d != 0) else { return 0.0 };
    let top = top_word as i64 * 64 + 63 - i64::from(digits[top_word].leading_zeros());
    // The lowest bit that the mantissa keeps, counted in the digits.
    let lowest = (top + 1 - to.mantissa_bits).max(to.unit - place);
    let bit = |at: i64| at >= 0 && digits.get((at / 64) as usize).is_some_and(|d| d >> (at % 64) & 1 == 1);
    // Bits lowest ..= top, at most 53, lie in two words.
    let mut mantissa = if lowest < 0 {
        digits[0] << -lowest
    } else {
        let word = (lowest / 64) as usize;
        let digit = |i: usize| u128::from(digits.get(i).copied().unwrap_or(0));
        ((digit(word + 1) << 64 | digit(word)) >> (lowest % 64)) as u64
    };
    let below = lowest - 1;
    if bit(below) {
        let rest = more
            || digits.iter().take((below / 64) as usize).any(|d| *d != 0)
            || digits[(below / 64) as usize] & ((1 << (below % 64)) - 1) != 0;
        mantissa += u64::from(rest || mantissa & 1 == 1);
    }
    // mantissa × 2^unit units, as the bits of an f64.
    let mut unit = lowest + place;
    if mantissa == 0 {
        return 0.0;
    }
    let length = 64 - i64::from(mantissa.leading_zeros());
    if unit + length <= 53 {
        // Below or among the smallest normal numbers, where the bits are the number of units.
        return f64::from_bits(mantissa << unit);
    }
    mantissa <<= 53 - length.min(53);
    unit -= 53 - length.min(53);
    if length > 53 {
        mantissa >>= 1;
        unit += 1;
    }
    if unit + 1 >= 0x7ff {
        return f64::INFINITY;
    }
    f64::from_bits(((unit + 1) as u64) << 52 | mantissa & ((1 << 52) - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(parts: &[(f64, i64)]) -> ExactFloat {
        let mut s = ExactFloat::default();
        parts.iter().for_each(|&(x, w)| s.add(x, w));
        s
    }

    fn value(parts: &[(f64, i64)]) -> f64 {
        sum(parts).quotient(1, DOUBLE)
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        assert_eq!(value(&[(1e16, 1), (1.0, 1), (-1e16, 1)]), 1.0);
        assert_eq!(value(&[(1e308, 1), (1e308, 1), (-1e308, 1)]), 1e308);
        assert_eq!(value(&[(1e308, 1), (5e-324, 3), (-1e308, 1)]), 1.5e-323);
        assert_eq!(value(&[(0.1, 10)]), 1.0);
        assert_eq!(value(&[(f64::MAX, 2)]), f64::INFINITY);
        assert_eq!(value(&[(f64::MAX, i64::MAX), (f64::MAX, -i64::MAX), (3.5, -2)]), -7.0);
        assert_eq!(value(&[]), 0.0);
    }

    #[test]
    fn infinities_and_nans_come_and_go() {
        assert_eq!(value(&[(f64::INFINITY, 1), (1.0, 1)]), f64::INFINITY);
        assert!(value(&[(f64::INFINITY, 1), (f64::NEG_INFINITY, 1)]).is_nan());
        assert_eq!(value(&[(f64::INFINITY, 1), (f64::NAN, 1), (2.0, 1), (f64::NAN, -1), (f64::INFINITY, -1)]), 2.0);
        assert!(sum(&[(f64::NAN, 1), (f64::NAN, -1)]).is_zero());
    }

    #[test]
    fn a_quotient_is_rounded_once() {
        assert_eq!(sum(&[(1.0, 1)]).quotient(3, DOUBLE), 1.0 / 3.0);
        assert_eq!(sum(&[(-2.0, 1)]).quotient(7, DOUBLE), -2.0 / 7.0);
        assert_eq!(sum(&[(5e-324, 1)]).quotient(2, DOUBLE), 0.0, "ties to even");
        assert_eq!(sum(&[(5e-324, 3)]).quotient(2, DOUBLE), 1e-323);
        // Rounding to f64 first would give a tie, and then the even neighbour.
        let x = 1.0 + f64::from(f32::EPSILON) / 2.0;
        assert_eq!(sum(&[(x, 1), (1e-20, 1)]).quotient(1, FLOAT) as f32, 1.0 + f32::EPSILON);
        assert_eq!(sum(&[(x, 1)]).quotient(1, FLOAT) as f32, 1.0);
        assert_eq!(sum(&[(1e-46, 1)]).quotient(1, FLOAT) as f32, 0.0);
        assert_eq!(sum(&[(1e-45, 1)]).quotient(1, FLOAT) as f32, 1e-45);
        assert_eq!(sum(&[(f64::from(f32::MAX), 2)]).quotient(1, FLOAT) as f32, f32::INFINITY);
    }

    #[test]
    fn the_bytes_are_frozen() {
        let bytes = |parts: &[(f64, i64)]| {
            let mut out = vec![];
            sum(parts).encode(&mut out);
            out
        };
        assert_eq!(bytes(&[]), [0]);
        assert_eq!(bytes(&[(5e-324, 1)]), [0, 0, 1]);
        assert_eq!(bytes(&[(1.0, 1)]), [0, 16, 0, 0, 0, 0, 0, 0, 4], "1074 = 16 · 64 + 50");
        assert_eq!(bytes(&[(-1.0, 1)]), [0, 16, 0, 0, 0, 0, 0, 0, 0xfc]);
        assert_eq!(bytes(&[(f64::NAN, 1)]), [1, 2, 0, 0]);
        assert_eq!(bytes(&[(1e300, 1), (1.0, 1), (1e300, -1)]), bytes(&[(1.0, 1)]), "whatever came before");
        assert!(ExactFloat::decode(&[]).is_none());
        assert!(ExactFloat::decode(&[0, 36, 1]).is_none());
        assert!(ExactFloat::decode(&[0, 3]).is_none());
    }

    fn floats() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => -1000.0..1000.0f64,
            2 => any::<f64>().prop_filter("finite", |x| x.is_finite()),
            1 => prop::sample::select(vec![5e-324, -5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN, 1.0, -0.0, 0.5]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_sum_of_two_is_the_machines(a in floats(), b in floats()) {
            prop_assert_eq!(value(&[(a, 1), (b, 1)]), a + b);
            prop_assert_eq!(sum(&[(a, 1)]).quotient(1, FLOAT) as f32, a as f32);
            prop_assert_eq!(value(&[(a, 1)]), a);
        }

        #[test]
        fn a_quotient_is_the_machines(a in floats(), n in 1u64..1 << 53) {
            prop_assert_eq!(sum(&[(a, 1)]).quotient(n, DOUBLE), a / n as f64);
        }

        #[test]
        fn order_and_parts_do_not_matter(
            mut parts in prop::collection::vec((floats(), prop_oneof![Just(1i64), Just(-1), any::<i64>()]), 0..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = sum(&parts);
            let mut bytes = vec![];
            whole.encode(&mut bytes);
            let (mut left, right) = {
                let (l, r) = parts.split_at(cut.index(parts.len() + 1));
                (sum(l), sum(r))
            };
            left.merge(&right);
            parts.reverse();
            for other in [sum(&parts), ExactFloat::decode(&bytes).unwrap(), left] {
                let mut again = vec![];
                other.encode(&mut again);
                prop_assert_eq!(&again, &bytes);
                prop_assert_eq!(other.quotient(1, DOUBLE), whole.quotient(1, DOUBLE));
            }
            let mut back = whole.clone();
            parts.iter().for_each(|&(x, w)| back.add(x, w.wrapping_neg()));
            if parts.iter().all(|p| p.1 != i64::MIN) {
                prop_assert!(back.is_zero());
            }
        }
    }
}
