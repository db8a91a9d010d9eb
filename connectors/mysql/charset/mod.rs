//! MySQL's character sets → UTF-8.
//!
//! UTF-8, UTF-16, UTF-32 and their kin are computed. The others are tables, made by asking MySQL itself for every code
//! (`tests/charsets.rs` asks again), so that a text is read as the server reads it: its `latin1` is Windows-1252 with the
//! five free places as control characters, its `sjis` differs from `cp932`, and so on. A code without a character is an
//! error: nothing becomes `?` in silence.

use std::fmt;
use std::sync::LazyLock;

use thalweg_core::nearest::nearest;
use thalweg_core::{Error, Result};

/// The tables of all character sets, as 16-bit differences from one entry to the next (so that they compress), in the
/// order of `TABLES`: of each set its single bytes; of those with several bytes the pairs from 0x8000; of `ujis` and
/// `eucjpms` the pairs from A1 A1 behind 8F; of `gb18030` the first codes of four bytes.
static PACKED: &[u8] = include_bytes!("tables.zst");

/// No character: also the one code point that no table holds.
const NONE: u16 = 0xffff;
const SINGLE_CODES: usize = 256;
const PAIR_CODES: usize = 0x8000;
/// Bytes from A1 to FE.
const TRIPLE_BYTES: usize = 94;
const TRIPLE_CODES: usize = TRIPLE_BYTES * TRIPLE_BYTES;
/// Codes of four bytes of `gb18030` that stand for characters up to U+FFFE, in the order of the codes.
const QUAD_CODES: usize = 39_420;
/// The four-byte code, counted as the others, that stands for U+10000; all above it follow in order.
const QUAD_SUPPLEMENTARY: usize = 189_000;

/// Bytes of a code at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Utf8,
    /// Up to U+FFFF.
    Utf8Mb3,
    Ucs2,
    Utf16,
    Utf16Le,
    Utf32,
    /// One byte a character.
    Single,
    /// Two bytes behind a byte from 0x80 that is no character by itself.
    Pairs,
    /// And three bytes behind 8F.
    Triples,
    /// And four bytes, told by their second, a digit.
    Quads,
}

/// A character set of the server.
#[derive(PartialEq, Eq)]
pub struct Charset {
    name: &'static str,
    coding: Coding,
}

const fn charset(name: &'static str, coding: Coding) -> Charset {
    Charset { name, coding }
}

static COMPUTED: [Charset; 7] = [
    charset("utf8mb4", Coding::Utf8),
    charset("utf8mb3", Coding::Utf8Mb3),
    charset("utf8", Coding::Utf8Mb3),
    charset("ucs2", Coding::Ucs2),
    charset("utf16", Coding::Utf16),
    charset("utf16le", Coding::Utf16Le),
    charset("utf32", Coding::Utf32),
];

/// In the order of `PACKED`.
static TABLES: [Charset; 34] = [
    charset("armscii8", Coding::Single),
    charset("ascii", Coding::Single),
    charset("cp1250", Coding::Single),
    charset("cp1251", Coding::Single),
    charset("cp1256", Coding::Single),
    charset("cp1257", Coding::Single),
    charset("cp850", Coding::Single),
    charset("cp852", Coding::Single),
    charset("cp866", Coding::Single),
    charset("dec8", Coding::Single),
    charset("geostd8", Coding::Single),
    charset("greek", Coding::Single),
    charset("hebrew", Coding::Single),
    charset("hp8", Coding::Single),
    charset("keybcs2", Coding::Single),
    charset("koi8r", Coding::Single),
    charset("koi8u", Coding::Single),
    charset("latin1", Coding::Single),
    charset("latin2", Coding::Single),
    charset("latin5", Coding::Single),
    charset("latin7", Coding::Single),
    charset("macce", Coding::Single),
    charset("macroman", Coding::Single),
    charset("swe7", Coding::Single),
    charset("tis620", Coding::Single),
    charset("big5", Coding::Pairs),
    charset("cp932", Coding::Pairs),
    charset("eucjpms", Coding::Triples),
    charset("euckr", Coding::Pairs),
    charset("gb18030", Coding::Quads),
    charset("gb2312", Coding::Pairs),
    charset("gbk", Coding::Pairs),
    charset("sjis", Coding::Pairs),
    charset("ujis", Coding::Triples),
];

/// (first, last, name): the numbers of collations that belong to a set; numbers between that no server uses may be in.
static COLLATIONS: &[(u16, u16, &str)] = &[
    (1, 1, "big5"),
    (2, 2, "latin2"),
    (3, 3, "dec8"),
    (4, 4, "cp850"),
    (5, 5, "latin1"),
    (6, 6, "hp8"),
    (7, 7, "koi8r"),
    (8, 8, "latin1"),
    (9, 9, "latin2"),
    (10, 10, "swe7"),
    (11, 11, "ascii"),
    (12, 12, "ujis"),
    (13, 13, "sjis"),
    (14, 14, "cp1251"),
    (15, 15, "latin1"),
    (16, 16, "hebrew"),
    (18, 18, "tis620"),
    (19, 19, "euckr"),
    (20, 20, "latin7"),
    (21, 21, "latin2"),
    (22, 22, "koi8u"),
    (23, 23, "cp1251"),
    (24, 24, "gb2312"),
    (25, 25, "greek"),
    (26, 26, "cp1250"),
    (27, 27, "latin2"),
    (28, 28, "gbk"),
    (29, 29, "cp1257"),
    (30, 30, "latin5"),
    (31, 31, "latin1"),
    (32, 32, "armscii8"),
    (33, 33, "utf8mb3"),
    (34, 34, "cp1250"),
    (35, 35, "ucs2"),
    (36, 36, "cp866"),
    (37, 37, "keybcs2"),
    (38, 38, "macce"),
    (39, 39, "macroman"),
    (40, 40, "cp852"),
    (41, 42, "latin7"),
    (43, 43, "macce"),
    (44, 44, "cp1250"),
    (45, 46, "utf8mb4"),
    (47, 49, "latin1"),
    (50, 52, "cp1251"),
    (53, 53, "macroman"),
    (54, 55, "utf16"),
    (56, 56, "utf16le"),
    (57, 57, "cp1256"),
    (58, 59, "cp1257"),
    (60, 61, "utf32"),
    (62, 62, "utf16le"),
    (63, 63, "binary"),
    (64, 64, "armscii8"),
    (65, 65, "ascii"),
    (66, 66, "cp1250"),
    (67, 67, "cp1256"),
    (68, 68, "cp866"),
    (69, 69, "dec8"),
    (70, 70, "greek"),
    (71, 71, "hebrew"),
    (72, 72, "hp8"),
    (73, 73, "keybcs2"),
    (74, 74, "koi8r"),
    (75, 75, "koi8u"),
    (76, 76, "utf8mb3"),
    (77, 77, "latin2"),
    (78, 78, "latin5"),
    (79, 79, "latin7"),
    (80, 80, "cp850"),
    (81, 81, "cp852"),
    (82, 82, "swe7"),
    (83, 83, "utf8mb3"),
    (84, 84, "big5"),
    (85, 85, "euckr"),
    (86, 86, "gb2312"),
    (87, 87, "gbk"),
    (88, 88, "sjis"),
    (89, 89, "tis620"),
    (90, 90, "ucs2"),
    (91, 91, "ujis"),
    (92, 93, "geostd8"),
    (94, 94, "latin1"),
    (95, 96, "cp932"),
    (97, 98, "eucjpms"),
    (99, 99, "cp1250"),
    (101, 124, "utf16"),
    (128, 159, "ucs2"),
    (160, 183, "utf32"),
    (192, 223, "utf8mb3"),
    (224, 247, "utf8mb4"),
    (248, 250, "gb18030"),
    (255, 323, "utf8mb4"),
];

/// The tables of one set.
struct Tables {
    single: Box<[u16]>,
    pairs: Box<[u16]>,
    /// Of three or four bytes.
    long: Box<[u16]>,
    /// The first 128 codes are ASCII.
    is_ascii: bool,
}

static UNPACKED: LazyLock<Result<Vec<Tables>>> = LazyLock::new(unpack);

fn unpack() -> Result<Vec<Tables>> {
    let broken = |e: &dyn fmt::Display| Error::internal(format!("the tables of character sets are broken: {e}"));
    let bytes = zstd::decode_all(PACKED).map_err(|e| broken(&e))?;
    let (entries, _) = bytes.as_chunks::<2>();
    let mut entries = entries.iter().map(|b| u16::from_le_bytes(*b));
    let mut array = |n: usize| -> Result<Box<[u16]>> {
        let mut last = 0_u16;
        let mut next = || {
            entries.next().map(|difference| {
                last = last.wrapping_add(difference);
                last
            })
        };
        let array: Option<Box<[u16]>> = (0..n).map(|_| next()).collect();
        array.ok_or_else(|| broken(&"too short"))
    };
    let single: Vec<_> = TABLES.iter().map(|_| array(SINGLE_CODES)).collect::<Result<_>>()?;
    let with_pairs = |c: &Charset| c.coding != Coding::Single;
    let pairs: Vec<_> =
        TABLES.iter().map(|c| if with_pairs(c) { array(PAIR_CODES) } else { array(0) }).collect::<Result<_>>()?;
    // `ujis` stands before `eucjpms` here.
    let (ujis, eucjpms, gb18030) = (array(TRIPLE_CODES)?, array(TRIPLE_CODES)?, array(QUAD_CODES)?);
    let tables = TABLES.iter().zip(single.into_iter().zip(pairs)).map(|(charset, (single, pairs))| {
        let long = match charset.name {
            "ujis" => ujis.clone(),
            "eucjpms" => eucjpms.clone(),
            "gb18030" => gb18030.clone(),
            _ => Box::default(),
        };
        let is_ascii = single.iter().take(128).enumerate().all(|(i, c)| usize::from(*c) == i);
        Tables { single, pairs, long, is_ascii }
    });
    Ok(tables.collect())
}

impl Charset {
    /// The set of a name as `information_schema.COLUMNS.CHARACTER_SET_NAME` has it.
    pub fn of_name(name: &str) -> Result<&'static Charset> {
        let all = || COMPUTED.iter().chain(&TABLES);
        all().find(|c| c.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names = all().map(|c| c.name);
            Error::unsupported(format!("the character set {name} is unknown"))
                .propose(nearest(name, names).map(|n| format!("did you mean {n}?")))
        })
    }

    /// The set that a collation of this number belongs to; `None`: bytes (63), or a number that we do not know.
    pub fn of_collation(number: u32) -> Option<&'static Charset> {
        let number = u16::try_from(number).ok()?;
        let at = COLLATIONS.partition_point(|(first, ..)| *first <= number).checked_sub(1)?;
        let (_, last, name) = COLLATIONS[at];
        let charset = (number <= last).then(|| COMPUTED.iter().chain(&TABLES).find(|c| c.name == name));
        charset.flatten()
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// It has characters beyond U+FFFF.
    pub fn has_supplementary(&self) -> bool {
        matches!(self.coding, Coding::Utf8 | Coding::Utf16 | Coding::Utf16Le | Coding::Utf32 | Coding::Quads)
    }

    /// Codes mean the same: `utf8` is `utf8mb3`.
    pub fn is(&self, other: &Charset) -> bool {
        self.coding == other.coding && (self.name == other.name || self.coding == Coding::Utf8Mb3)
    }

    /// Appends a text of this character set as UTF-8. What it appended before it found a wrong code stays, as UTF-8.
    #[inline]
    pub fn decode(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), NotInCharset> {
        match self.coding {
            Coding::Utf8 => match std::str::from_utf8(text) {
                Ok(_) => {
                    out.extend_from_slice(text);
                    Ok(())
                }
                Err(e) => Err(self.wrong(text, e.valid_up_to(), e.error_len().unwrap_or(text.len()))),
            },
            _ => self.decode_other(text, out),
        }
    }

    #[cold]
    fn wrong(&self, text: &[u8], at: usize, length: usize) -> NotInCharset {
        let end = text.len().min(at + length.max(1));
        NotInCharset { charset: self.name, at, code: text[at.min(end)..end].to_vec() }
    }

    fn decode_other(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), NotInCharset> {
        match self.coding {
            Coding::Utf8 | Coding::Utf8Mb3 => match std::str::from_utf8(text) {
                Ok(_) => out.extend_from_slice(text),
                Err(e) => return Err(self.wrong(text, e.valid_up_to(), e.error_len().unwrap_or(text.len()))),
            },
            Coding::Ucs2 => self.units(text, 2, out, |unit| char::from_u32(big_endian(unit)))?,
            Coding::Utf32 => self.units(text, 4, out, |unit| char::from_u32(big_endian(unit)))?,
            Coding::Utf16 => self.utf16(text, out, u16::from_be_bytes)?,
            Coding::Utf16Le => self.utf16(text, out, u16::from_le_bytes)?,
            Coding::Single | Coding::Pairs | Coding::Triples | Coding::Quads => {
                let Some(tables) = self.tables() else { return Err(self.wrong(text, 0, 0)) };
                if tables.is_ascii && text.is_ascii() {
                    out.extend_from_slice(text);
                } else {
                    self.by_tables(tables, text, out)?;
                }
            }
        }
        Ok(())
    }

    fn tables(&self) -> Option<&'static Tables> {
        let place = TABLES.iter().position(|c| c.name == self.name)?;
        UNPACKED.as_ref().ok()?.get(place)
    }

    fn units(
        &self,
        text: &[u8],
        bytes: usize,
        out: &mut Vec<u8>,
        of: impl Fn(&[u8]) -> Option<char>,
    ) -> Result<(), NotInCharset> {
        for (i, unit) in text.chunks(bytes).enumerate() {
            let character = if unit.len() == bytes { of(unit) } else { None };
            push(character.ok_or_else(|| self.wrong(text, i * bytes, bytes))?, out);
        }
        Ok(())
    }

    fn utf16(&self, text: &[u8], out: &mut Vec<u8>, unit: impl Fn([u8; 2]) -> u16) -> Result<(), NotInCharset> {
        let (units, rest) = text.as_chunks::<2>();
        let mut at = 0;
        for character in char::decode_utf16(units.iter().map(|u| unit(*u))) {
            let character = character.map_err(|_| self.wrong(text, at, 2))?;
            push(character, out);
            at += 2 * character.len_utf16();
        }
        if rest.is_empty() { Ok(()) } else { Err(self.wrong(text, at, 1)) }
    }

    fn by_tables(&self, tables: &Tables, text: &[u8], out: &mut Vec<u8>) -> Result<(), NotInCharset> {
        let mut at = 0;
        while at < text.len() {
            let (character, length) = self.one(tables, &text[at..]);
            push(character.ok_or_else(|| self.wrong(text, at, length))?, out);
            at += length;
        }
        Ok(())
    }

    /// The character at the begin of a text, and how many bytes its code has.
    #[inline]
    fn one(&self, tables: &Tables, text: &[u8]) -> (Option<char>, usize) {
        let first = text[0];
        let of = |entry: Option<&u16>| entry.filter(|c| **c != NONE).and_then(|c| char::from_u32(u32::from(*c)));
        let single = tables.single[usize::from(first)];
        if single != NONE || self.coding == Coding::Single {
            return (of(Some(&single)), 1);
        }
        let Some(&second) = text.get(1) else { return (None, 1) };
        match self.coding {
            Coding::Triples if first == 0x8f => {
                let place = |byte: Option<&u8>| byte?.checked_sub(0xa1).map(usize::from).filter(|p| *p < TRIPLE_BYTES);
                let entry = place(Some(&second)).zip(place(text.get(2)));
                (entry.and_then(|(a, b)| of(tables.long.get(a * TRIPLE_BYTES + b))), 3)
            }
            Coding::Quads if second.is_ascii_digit() => {
                let Some(&[a, b, c, d]) = text.first_chunk::<4>() else { return (None, text.len()) };
                if a < 0x81 || c < 0x81 || c == 0xff || !d.is_ascii_digit() {
                    return (None, 4);
                }
                let [a, c] = [a - 0x81, c - 0x81].map(usize::from);
                let [b, d] = [b - b'0', d - b'0'].map(usize::from);
                let place = ((a * 10 + b) * 126 + c) * 10 + d;
                let character = match place {
                    QUAD_SUPPLEMENTARY.. => char::from_u32((place - QUAD_SUPPLEMENTARY + 0x10000) as u32),
                    // What `NONE` stands for in the tables.
                    39_419 => Some('\u{ffff}'),
                    _ => of(tables.long.get(place)),
                };
                (character, 4)
            }
            _ => {
                let code = usize::from(first) << 8 | usize::from(second);
                (code.checked_sub(0x8000).and_then(|place| of(tables.pairs.get(place))), 2)
            }
        }
    }
}

fn big_endian(unit: &[u8]) -> u32 {
    unit.iter().fold(0, |v, b| v << 8 | u32::from(*b))
}

#[inline]
fn push(character: char, out: &mut Vec<u8>) {
    let mut bytes = [0; 4];
    out.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
}

impl fmt::Debug for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A code that is no character of its set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotInCharset {
    charset: &'static str,
    at: usize,
    code: Vec<u8>,
}

/// `is not utf8mb4: no character is x'ff' at byte 3`: follows the value.
impl fmt::Display for NotInCharset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code: String = self.code.iter().take(4).map(|b| format!("{b:02x}")).collect();
        write!(f, "is not {}: no character is x'{code}' at byte {}", self.charset, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(charset: &str, text: &[u8]) -> Result<String, String> {
        let mut out = vec![];
        let charset = Charset::of_name(charset).map_err(|e| e.to_string())?;
        charset.decode(text, &mut out).map_err(|e| e.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_kind_of_coding() {
        for (charset, bytes, text) in [
            ("utf8mb4", "aé😀".as_bytes(), "aé😀"),
            ("utf8", "aé".as_bytes(), "aé"),
            ("ascii", b"abc", "abc"),
            ("latin1", b"\xe4\x80\x81", "ä€\u{81}"),
            ("swe7", b"{}[", "äåÄ"),
            ("ucs2", b"\0a\x20\xac", "a€"),
            ("utf16", b"\0a\xd8\x3d\xde\x00", "a😀"),
            ("utf16le", b"a\0\x3d\xd8\x00\xde", "a😀"),
            ("utf32", b"\0\x01\xf6\0", "😀"),
            ("sjis", b"a\x93\xfa\xb1", "a日ｱ"),
            ("cp932", b"\x87\x40", "①"),
            ("ujis", b"\x8f\xb0\xa1\xc6\xfc\x8e\xb1", "丂日ｱ"),
            ("gbk", b"\xd6\xd0a", "中a"),
            ("gb18030", b"\xd6\xd0\x81\x30\x81\x30\x94\x39\xfc\x36\x84\x31\xa4\x39", "中\u{80}😀\u{ffff}"),
            ("big5", b"\xa4\xa4", "中"),
            ("euckr", b"\xb0\xa1", "가"),
        ] {
            assert_eq!(decode(charset, bytes).as_deref(), Ok(text), "{charset}");
        }
    }

    #[test]
    fn a_code_without_a_character_is_an_error() {
        for (charset, bytes, at) in [
            ("utf8mb4", &b"ab\xff"[..], 2),
            ("ascii", b"a\x80", 1),
            ("ucs2", b"\0a\xd8\x00", 2),
            ("utf16", b"\0a\xd8\x00", 2),
            ("utf16", b"\0a\0", 2),
            ("utf32", b"\0\x11\0\0", 0),
            ("cp1250", b"\x81", 0),
            ("gbk", b"a\x81", 1),
            ("ujis", b"\x8f\xb0", 0),
            ("gb18030", b"\x81\x30\x81", 0),
            ("gb18030", b"\x85\x30\x81\x30", 0),
        ] {
            let error = decode(charset, bytes).unwrap_err();
            assert!(error.ends_with(&format!("at byte {at}")), "{charset}: {error}");
        }
        assert!(decode("utf9", b"").unwrap_err().contains("utf8"));
    }

    #[test]
    fn collations_by_number() {
        let name = |n| Charset::of_collation(n).map(Charset::name);
        for (number, expected) in
            [(8, "latin1"), (255, "utf8mb4"), (46, "utf8mb4"), (33, "utf8mb3"), (11, "ascii"), (248, "gb18030")]
        {
            assert_eq!(name(number), Some(expected));
        }
        for number in [0, 17, 63, 100, 324, 100_000] {
            assert_eq!(name(number), None, "{number}");
        }
        assert!(COLLATIONS.windows(2).all(|w| w[0].1 < w[1].0));
    }
}
