//! Finding bytes eight at a time. For the short runs between delimiters, where a call to a library costs more than
//! the search.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8).map(|w| u64::from_le_bytes(w.try_into().expect("eight bytes")))
}

/// The high bit of every byte that is 0. Exact up to and including the lowest such byte, which is all that is used.
#[inline(always)]
fn zeros(w: u64) -> u64 {
    w.wrapping_sub(ONES) & !w & HIGHS
}

#[inline(always)]
fn first(mask: u64) -> usize {
    (mask.trailing_zeros() / 8) as usize
}

/// From `at` on, where the first of two bytes stands (or the end), and whether all before it is ASCII.
#[inline(always)]
pub fn find2(bytes: &[u8], mut at: usize, a: u8, b: u8) -> (usize, bool) {
    let (wa, wb) = (ONES * u64::from(a), ONES * u64::from(b));
    let mut high = 0u64;
    while let Some(w) = word(bytes, at) {
        let hit = zeros(w ^ wa) | zeros(w ^ wb);
        if hit != 0 {
            let n = first(hit);
            let before = w & ((1u64 << (8 * n)) - 1);
            return (at + n, (high | before) & HIGHS == 0);
        }
        high |= w;
        at += 8;
    }
    let mut ascii = high & HIGHS == 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == a || byte == b {
            break;
        }
        ascii &= byte < 0x80;
        at += 1;
    }
    (at, ascii)
}

/// As `find2`, for three bytes.
#[inline(always)]
pub fn find3(bytes: &[u8], mut at: usize, a: u8, b: u8, c: u8) -> (usize, bool) {
    let (wa, wb, wc) = (ONES * u64::from(a), ONES * u64::from(b), ONES * u64::from(c));
    let mut high = 0u64;
    while let Some(w) = word(bytes, at) {
        let hit = zeros(w ^ wa) | zeros(w ^ wb) | zeros(w ^ wc);
        if hit != 0 {
            let n = first(hit);
            let before = w & ((1u64 << (8 * n)) - 1);
            return (at + n, (high | before) & HIGHS == 0);
        }
        high |= w;
        at += 8;
    }
    let mut ascii = high & HIGHS == 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == a || byte == b || byte == c {
            break;
        }
        ascii &= byte < 0x80;
        at += 1;
    }
    (at, ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hit_is_found_at_every_place() {
        for length in 0..40 {
            for place in 0..=length {
                for (fill, ascii) in [(b'x', true), (0x80, false), (0xa2, false), (0x23, true), (0x5d, true)] {
                    let mut bytes = vec![fill; length];
                    if place < length {
                        bytes[place] = b'"';
                        bytes[length - 1] = b'"';
                    }
                    assert_eq!(find2(&bytes, 0, b'"', b'\\'), (place, ascii || place == 0));
                    assert_eq!(find3(&bytes, 0, b',', b'\n', b'"'), (place, ascii || place == 0));
                }
            }
        }
    }
}
