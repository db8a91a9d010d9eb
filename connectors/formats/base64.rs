//! Base64 (RFC 4648, standard alphabet, padded): how binary values stand in JSON and CSV.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const VALUES: [u8; 256] = {
    let mut values = [0xff; 256];
    let mut i = 0;
    while i < 64 {
        values[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// Appends `bytes`, encoded.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let n = u32::from(chunk[0]) << 16
            | u32::from(chunk.get(1).copied().unwrap_or(0)) << 8
            | u32::from(chunk.get(2).copied().unwrap_or(0));
        let digit = |shift: u32| ALPHABET[(n >> shift) as usize & 63];
        out.push(digit(18));
        out.push(digit(12));
        out.push(if chunk.len() > 1 { digit(6) } else { b'=' });
        out.push(if chunk.len() > 2 { digit(0) } else { b'=' });
    }
}

/// Appends what `text` stands for; `None` (with `out` as it was) if it is not Base64. Padding may be missing.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let begin = out.len();
    let digits = match text {
        [head @ .., b'=', b'='] | [head @ .., b'='] if text.len().is_multiple_of(4) => head,
        _ => text,
    };
    let done = digits.chunks(4).all(|chunk| {
        let mut n = 0u32;
        for &c in chunk {
            let value = VALUES[c as usize];
            if value == 0xff {
                return false;
            }
            n = n << 6 | u32::from(value);
        }
        let bytes = (n << (6 * (4 - chunk.len()))).to_be_bytes();
        match chunk.len() {
            4 => out.extend_from_slice(&bytes[1..]),
            3 => out.extend_from_slice(&bytes[1..3]),
            2 => out.push(bytes[1]),
            _ => return false,
        }
        true
    });
    if !done {
        out.truncate(begin);
    }
    done.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_goes_round() {
        for length in 0..20u8 {
            let bytes: Vec<u8> = (0..length).map(|i| i.wrapping_mul(77)).collect();
            let (mut text, mut back) = (vec![], vec![]);
            encode(&bytes, &mut text);
            decode(&text, &mut back).unwrap();
            assert_eq!(back, bytes);
        }
        let mut out = vec![];
        encode(b"any carnal pleas", &mut out);
        assert_eq!(out, b"YW55IGNhcm5hbCBwbGVhcw==");
        assert_eq!(decode(b"a", &mut out), None);
        assert_eq!(decode(b"a-==", &mut out), None);
    }
}
