//! A quick hash of bytes, for memory only: it may change from release to release. What is stored or routes rows is hashed
//! by `key_group`.

/// 64 good bits of any bytes.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    #[inline]
    fn mix(a: u64, b: u64) -> u64 {
        let p = u128::from(a) * u128::from(b);
        p as u64 ^ (p >> 64) as u64
    }
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut h = K ^ bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for w in &mut words {
        h = mix(h ^ u64::from_le_bytes(w.try_into().expect("8 bytes")), K);
    }
    let rest = words.remainder();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(h ^ u64::from_le_bytes(last), 0xA076_1D64_78BD_642F)
}
