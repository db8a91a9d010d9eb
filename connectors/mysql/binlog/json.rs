//! JSON documents: MySQL's binary form → the very text that the server prints, so that a row of the binlog equals the
//! row that a SELECT gives: its order of keys, spaces, numbers (`1.0`, `1e15`, `1.50`), dates, and `base64:` for bytes.
//!
//! The form (`sql-common/json_binary.h` of the server): a byte for the type and the value. Objects and arrays hold their
//! number of elements, their size in bytes, for objects where each key is and how long, and for every element its type
//! and where it is, or its value itself if it is small enough; offsets count from the begin of the object or array.
//! Offsets and sizes take two bytes in the small forms, four in the large ones.

use arrow::datatypes::i256;
use thalweg_core::Result;

use super::bytes::{Bytes, damaged};
use super::table_map::column_code;
use crate::decimal;
use crate::key::DateTime;
use crate::rows::temporal;

/// How deep values may be nested, as in the server.
const DEPTH_MAX: usize = 100;
/// Text that a byte of a document may become at most: what is damaged may name the same value again and again. The
/// most that a sound one makes is 6 for a control character.
const TEXT_PER_BYTE_MAX: usize = 16;

const SMALL_OBJECT: u8 = 0;
const LARGE_OBJECT: u8 = 1;
const SMALL_ARRAY: u8 = 2;
const LARGE_ARRAY: u8 = 3;
const LITERAL: u8 = 4;
const INT16: u8 = 5;
const UINT16: u8 = 6;
const INT32: u8 = 7;
const UINT32: u8 = 8;
const INT64: u8 = 9;
const UINT64: u8 = 10;
const DOUBLE: u8 = 11;
const STRING: u8 = 12;
const OPAQUE: u8 = 15;

/// Appends the text of a document. What it appended before it found damage stays.
pub fn print(document: &[u8], out: &mut Vec<u8>) -> Result<()> {
    // An empty document is what the server stores for the default of a column that was added: null.
    let Some((&kind, value)) = document.split_first() else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    let text_max = out.len() + 64 + document.len().saturating_mul(TEXT_PER_BYTE_MAX);
    Printer { out, text_max }.value(kind, value, 0)
}

struct Printer<'o> {
    out: &'o mut Vec<u8>,
    text_max: usize,
}

impl Printer<'_> {
    fn value(&mut self, kind: u8, value: &[u8], depth: usize) -> Result<()> {
        if self.out.len() > self.text_max {
            return Err(damaged("a JSON document whose parts overlap"));
        }
        let mut bytes = Bytes::new(value, 0);
        match kind {
            SMALL_OBJECT => self.container(bytes, Form { large: false, object: true }, depth)?,
            LARGE_OBJECT => self.container(bytes, Form { large: true, object: true }, depth)?,
            SMALL_ARRAY => self.container(bytes, Form { large: false, object: false }, depth)?,
            LARGE_ARRAY => self.container(bytes, Form { large: true, object: false }, depth)?,
            LITERAL => self.literal(bytes.u8()?)?,
            INT16 => self.number(bytes.u16()? as i16),
            UINT16 => self.number(bytes.u16()?),
            INT32 => self.number(bytes.u32()? as i32),
            UINT32 => self.number(bytes.u32()?),
            INT64 => self.number(bytes.u64()? as i64),
            UINT64 => self.number(bytes.u64()?),
            DOUBLE => write_double(f64::from_bits(bytes.u64()?), self.out),
            STRING => {
                let length = length(&mut bytes)?;
                self.quoted(bytes.take(length)?)?;
            }
            OPAQUE => {
                let code = bytes.u8()?;
                let length = length(&mut bytes)?;
                self.opaque(code, bytes.take(length)?)?;
            }
            _ => return Err(damaged(format!("a JSON value of type {kind}"))),
        }
        Ok(())
    }

    fn container(&mut self, begin: Bytes<'_>, form: Form, depth: usize) -> Result<()> {
        if depth >= DEPTH_MAX {
            return Err(damaged(format!("a JSON document of more than {DEPTH_MAX} levels")));
        }
        let mut head = begin;
        let (count, size) = (form.offset(&mut head)?, form.offset(&mut head)?);
        let whole = begin.rest();
        let whole = whole.get(..size).ok_or_else(|| damaged("a JSON value that is larger than its document"))?;
        // Every element has an entry, so that a count that is too large ends here.
        let entries = count.saturating_mul(form.value_entry() + if form.object { form.key_entry() } else { 0 });
        if entries > whole.len() {
            return Err(damaged(format!("a JSON value of {count} elements in {size} bytes")));
        }
        let mut keys = head;
        let mut values = head;
        if form.object {
            values.take(count * form.key_entry())?;
        }
        self.out.push(if form.object { b'{' } else { b'[' });
        for i in 0..count {
            if i > 0 {
                self.out.extend_from_slice(b", ");
            }
            if form.object {
                let (offset, length) = (form.offset(&mut keys)?, usize::from(keys.u16()?));
                let key = whole.get(offset..).and_then(|k| k.get(..length));
                self.quoted(key.ok_or_else(|| damaged("a JSON key beyond its object"))?)?;
                self.out.extend_from_slice(b": ");
            }
            let kind = values.u8()?;
            let inlined = values;
            let offset = form.offset(&mut values)?;
            if form.inlines(kind) {
                self.value(kind, &inlined.rest()[..form.offset_bytes()], depth + 1)?;
            } else {
                let value = whole.get(offset..).filter(|v| !v.is_empty());
                self.value(kind, value.ok_or_else(|| damaged("a JSON value beyond its container"))?, depth + 1)?;
            }
        }
        self.out.push(if form.object { b'}' } else { b']' });
        Ok(())
    }

    fn number(&mut self, number: impl std::fmt::Display) {
        // Writing to a vector does not fail.
        let _ = std::io::Write::write_fmt(self.out, format_args!("{number}"));
    }

    fn literal(&mut self, literal: u8) -> Result<()> {
        self.out.extend_from_slice(match literal {
            0 => b"null",
            1 => b"true",
            2 => b"false",
            _ => return Err(damaged(format!("the JSON literal {literal}"))),
        });
        Ok(())
    }

    fn quoted(&mut self, text: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(text).map_err(|_| damaged("a JSON string that is not UTF-8"))?;
        self.out.push(b'"');
        let mut plain = 0;
        let bytes = text.as_bytes();
        for (i, &byte) in bytes.iter().enumerate() {
            if byte >= b' ' && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.out.extend_from_slice(&bytes[plain..i]);
            plain = i + 1;
            match byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                8 => self.out.extend_from_slice(b"\\b"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                12 => self.out.extend_from_slice(b"\\f"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                other => self.out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
            }
        }
        self.out.extend_from_slice(&bytes[plain..]);
        self.out.push(b'"');
        Ok(())
    }

    /// A value of one of MySQL's own types.
    fn opaque(&mut self, code: u8, data: &[u8]) -> Result<()> {
        match code {
            column_code::NEWDECIMAL => {
                let (&[precision, scale], digits) =
                    data.split_first_chunk::<2>().ok_or_else(|| damaged("a JSON decimal without digits"))?;
                if !(1..=65).contains(&precision) || scale > precision || scale > 30 {
                    return Err(damaged(format!("a JSON DECIMAL({precision}, {scale})")));
                }
                let bytes = digits.get(..decimal::binary_bytes(precision, scale));
                let value: Option<i256> = bytes.and_then(|b| decimal::from_binary(b, precision, scale));
                let value = value.ok_or_else(|| damaged("a JSON decimal without its digits"))?;
                decimal::write_scaled(&value.to_string(), scale, self.out);
            }
            column_code::DATE => {
                let t = unpack_datetime(packed(data)?);
                self.out.push(b'"');
                temporal::write_date(t.year, t.month, t.day, self.out);
                self.out.push(b'"');
            }
            column_code::DATETIME | column_code::TIMESTAMP => {
                let t = unpack_datetime(packed(data)?);
                self.out.push(b'"');
                temporal::write_datetime(&t, 6, self.out);
                self.out.push(b'"');
            }
            column_code::TIME => {
                let packed = packed(data)?;
                let (whole, micros) = (packed.unsigned_abs() >> 24, packed.unsigned_abs() & 0xff_ffff);
                let (hour, minute, second) = (whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63);
                let micros = (((hour * 60 + minute) * 60 + second) * 1_000_000 + micros) as i64;
                self.out.push(b'"');
                temporal::write_time(if packed < 0 { -micros } else { micros }, 6, self.out);
                self.out.push(b'"');
            }
            _ => {
                self.out.extend_from_slice(format!("\"base64:type{code}:").as_bytes());
                write_base64(data, self.out);
                self.out.push(b'"');
            }
        }
        Ok(())
    }
}

/// One of the four forms of objects and arrays.
#[derive(Clone, Copy)]
struct Form {
    large: bool,
    object: bool,
}

impl Form {
    fn offset_bytes(self) -> usize {
        if self.large { 4 } else { 2 }
    }

    fn key_entry(self) -> usize {
        self.offset_bytes() + 2
    }

    fn value_entry(self) -> usize {
        self.offset_bytes() + 1
    }

    fn offset(self, bytes: &mut Bytes<'_>) -> Result<usize> {
        if self.large { Ok(bytes.u32()? as usize) } else { Ok(usize::from(bytes.u16()?)) }
    }

    /// Values of the type stand in the place of their offset.
    fn inlines(self, kind: u8) -> bool {
        matches!(kind, LITERAL | INT16 | UINT16) || self.large && matches!(kind, INT32 | UINT32)
    }
}

/// A length of seven bits a byte, lowest first, at most five bytes.
fn length(bytes: &mut Bytes<'_>) -> Result<usize> {
    let mut length = 0_u64;
    for i in 0..5 {
        let byte = bytes.u8()?;
        length |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return usize::try_from(length).map_err(|_| damaged("a JSON value's length"));
        }
    }
    Err(damaged("a JSON value's length has no end"))
}

fn packed(data: &[u8]) -> Result<i64> {
    Bytes::new(data, 0).u64().map(|v| v as i64)
}

/// From low to high: 24 bits microseconds, 6 second, 6 minute, 5 hour, 5 day, the rest year * 13 + month.
fn unpack_datetime(packed: i64) -> DateTime {
    let v = packed.unsigned_abs();
    let year_month = v >> 46;
    DateTime {
        year: (year_month / 13) as u16,
        month: (year_month % 13) as u8,
        day: (v >> 41 & 31) as u8,
        hour: (v >> 36 & 31) as u8,
        minute: (v >> 30 & 63) as u8,
        second: (v >> 24 & 63) as u8,
        micros: (v & 0xff_ffff) as u32,
    }
}

/// A double as the server's `my_gcvt` prints it, with `.0` behind a whole number: the shortest digits that read back as
/// the same number; with an exponent from 1e15 on and below 1e-15, unless there are digits behind the point.
fn write_double(value: f64, out: &mut Vec<u8>) {
    if !value.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    // The standard library breaks ties between two shortest texts in another way than the server.
    let mut buffer = ryu::Buffer::new();
    let shortest = buffer.format_finite(value);
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    out.extend_from_slice(sign.as_bytes());
    if value == 0.0 {
        out.extend_from_slice(b"0.0");
        return;
    }
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [before.as_bytes(), after.as_bytes()].concat();
    let zeros = all.iter().take_while(|d| **d == b'0').count();
    let digits = &all[zeros..];
    let end = digits.iter().rposition(|d| *d != b'0').map_or(0, |last| last + 1);
    let digits = &digits[..end];
    // The value is 0.DIGITS * 10^point.
    let point = exponent.parse::<i32>().unwrap_or(0) + before.len() as i32 - zeros as i32;
    let count = digits.len() as i32;
    if point < -14 || (point > 15 && count <= point) {
        out.push(digits[0]);
        if count > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(format!("e{}", point - 1).as_bytes());
    } else if point <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
        out.extend_from_slice(digits);
    } else if point < count {
        out.extend_from_slice(&digits[..point as usize]);
        out.push(b'.');
        out.extend_from_slice(&digits[point as usize..]);
    } else {
        out.extend_from_slice(digits);
        out.extend(std::iter::repeat_n(b'0', (point - count) as usize));
        out.extend_from_slice(b".0");
    }
}

/// Base64 with a line's end, which JSON writes as `\n`, behind every 76 characters but the last.
fn write_base64(data: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const LINE_BYTES: usize = 57;
    for (i, line) in data.chunks(LINE_BYTES).enumerate() {
        if i > 0 {
            out.extend_from_slice(b"\\n");
        }
        for group in line.chunks(3) {
            let bits = group.iter().fold(0_u32, |v, b| v << 8 | u32::from(*b)) << (8 * (3 - group.len()));
            for digit in 0..4 {
                out.push(match digit <= group.len() {
                    true => DIGITS[(bits >> (18 - 6 * digit) & 63) as usize],
                    false => b'=',
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(document: &[u8]) -> String {
        let mut out = vec![];
        print(document, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_are_printed_as_the_server_prints_them() {
        // What MySQL 9.7 answers to SELECT JSON_ARRAY(…).
        let cases = [
            (1.0, "1.0"),
            (1.5, "1.5"),
            (1e15, "1e15"),
            (1e14, "100000000000000.0"),
            (1.234_567_890_123_456_8e17, "1.2345678901234568e17"),
            (1e-5, "0.00001"),
            (1e-15, "0.000000000000001"),
            (1e-16, "1e-16"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (-1e300, "-1e300"),
            (f64::MAX, "1.7976931348623157e308"),
            (5e-324, "5e-324"),
            (0.1, "0.1"),
            (1_388_639_381_052_724.0 + 0.25, "1388639381052724.2"),
            (123.0, "123.0"),
            (-0.00125, "-0.00125"),
        ];
        for (value, expected) in cases {
            let document = [&[DOUBLE][..], &f64::to_le_bytes(value)].concat();
            assert_eq!(text(&document), expected);
        }
    }

    #[test]
    fn an_object_with_values_of_all_places() {
        // {"a": [1, "x\n"], "bb": 70000, "é": null}, by hand.
        let keys = ["a", "bb", "é"];
        let array = [&[2, 0, 15, 0, INT16, 1, 0, STRING, 10, 0, 2, b'x', b'\n'][..], &[0, 0]].concat();
        let mut object = vec![3, 0, 0, 0];
        let mut at = 4 + 3 * 4 + 3 * 3;
        for key in keys {
            object.extend_from_slice(&[at as u8, 0, key.len() as u8, 0]);
            at += key.len();
        }
        object.extend_from_slice(&[SMALL_ARRAY, at as u8, 0]);
        object.extend_from_slice(&[INT32, (at + array.len()) as u8, 0]);
        object.extend_from_slice(&[LITERAL, 0, 0]);
        keys.iter().for_each(|k| object.extend_from_slice(k.as_bytes()));
        object.extend_from_slice(&array);
        object.extend_from_slice(&70_000_i32.to_le_bytes());
        object[2] = object.len() as u8;
        let document = [&[SMALL_OBJECT][..], &object].concat();
        assert_eq!(text(&document), r#"{"a": [1, "x\n"], "bb": 70000, "é": null}"#);
        for end in 1..document.len() {
            let mut out = vec![];
            assert!(print(&document[..end], &mut out).is_err() || end == 0, "{end}");
        }
    }

    #[test]
    fn a_document_that_names_its_parts_again_and_again_ends() {
        // Arrays of 200 elements, each of which is the next array.
        let count = 200_usize;
        let levels = 6;
        let bytes = 4 + 3 * count;
        let mut document = vec![SMALL_ARRAY];
        for _ in 0..levels {
            document.extend_from_slice(&(count as u16).to_le_bytes());
            document.extend_from_slice(&(bytes as u16 * levels).to_le_bytes());
            for _ in 0..count {
                document.push(SMALL_ARRAY);
                document.extend_from_slice(&(bytes as u16).to_le_bytes());
            }
        }
        document.extend_from_slice(&[0; 4000]);
        let mut out = vec![];
        let error = print(&document, &mut out).unwrap_err();
        assert!(error.message().contains("overlap") || error.message().contains("larger"), "{error}");
        assert!(out.len() < 20 * document.len());
    }
}
