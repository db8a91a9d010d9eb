//! Division and remainder of integers by a constant: a multiplication and a shift instead of a division
//! (Warren, Hacker's Delight, 10-1).

/// A divisor other than 0, 1 and -1.
#[derive(Debug, Clone, Copy)]
pub struct Divisor {
    d: i64,
    magic: i64,
    shift: u32,
}

impl Divisor {
    /// `None` for 0, 1 and -1.
    pub fn new(d: i64) -> Option<Self> {
        if (-1..=1).contains(&d) {
            return None;
        }
        const TWO_63: u64 = 1 << 63;
        let ad = d.unsigned_abs();
        let t = TWO_63 + ((d as u64) >> 63);
        let anc = t - 1 - t % ad;
        let mut p = 63;
        let (mut q1, mut r1) = (TWO_63 / anc, TWO_63 % anc);
        let (mut q2, mut r2) = (TWO_63 / ad, TWO_63 % ad);
        loop {
            p += 1;
            q1 = q1.wrapping_mul(2);
            r1 = r1.wrapping_mul(2);
            if r1 >= anc {
                q1 = q1.wrapping_add(1);
                r1 = r1.wrapping_sub(anc);
            }
            q2 = q2.wrapping_mul(2);
            r2 = r2.wrapping_mul(2);
            if r2 >= ad {
                q2 = q2.wrapping_add(1);
                r2 = r2.wrapping_sub(ad);
            }
            let delta = ad - r2;
            if !(q1 < delta || (q1 == delta && r1 == 0)) {
                break;
            }
        }
        let magic = q2.wrapping_add(1) as i64;
        Some(Divisor { d, magic: if d < 0 { magic.wrapping_neg() } else { magic }, shift: p - 64 })
    }

    /// `n / d`, rounded toward zero.
    #[inline(always)]
    pub fn quotient(self, n: i64) -> i64 {
        let mut q = ((i128::from(self.magic) * i128::from(n)) >> 64) as i64;
        if self.d > 0 && self.magic < 0 {
            q = q.wrapping_add(n);
        } else if self.d < 0 && self.magic > 0 {
            q = q.wrapping_sub(n);
        }
        q >>= self.shift;
        q.wrapping_add(((q as u64) >> 63) as i64)
    }

    /// `n % d`, with the sign of `n`.
    #[inline(always)]
    pub fn remainder(self, n: i64) -> i64 {
        n.wrapping_sub(self.quotient(n).wrapping_mul(self.d))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EDGES: [i64; 14] =
        [2, -2, 3, -3, 5, 7, 10, -10, 1000, 1 << 62, i64::MAX, i64::MIN, i64::MIN + 1, i64::MAX - 1];

    #[test]
    fn edges_divide_as_the_machine_does() {
        for d in EDGES {
            let by = Divisor::new(d).unwrap();
            for n in EDGES.into_iter().chain([0, 1, -1]) {
                assert_eq!(by.quotient(n), n / d, "{n} / {d}");
                assert_eq!(by.remainder(n), n % d, "{n} % {d}");
            }
        }
        assert!(Divisor::new(0).is_none() && Divisor::new(1).is_none() && Divisor::new(-1).is_none());
    }

    proptest! {
        #[test]
        fn all_divide_as_the_machine_does(n: i64, d: i64, small in 2..2000_i64) {
            for d in [d, small, -small].into_iter().filter(|d| !(-1..=1).contains(d)) {
                let by = Divisor::new(d).unwrap();
                prop_assert_eq!(by.quotient(n), n / d);
                prop_assert_eq!(by.remainder(n), n % d);
            }
        }
    }
}
