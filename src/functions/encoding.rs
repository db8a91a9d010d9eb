//! Functions of encodings: Base64, charsets, digests, URLs.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder};
use arrow::datatypes::DataType;
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use md5::Digest;
use thalweg_core::{Error, Result};

use crate::function::{Arg, Call, Function, Ret};

pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "from_base64",
        &[Arg::Str],
        Ret::Str,
        from_base64,
        "FROM_BASE64(string)",
        "The text that is encoded in Base64.",
    ),
    Function::new("to_base64", &[Arg::StrOrBytes], Ret::Str, to_base64, "TO_BASE64(string)", "In Base64."),
    Function::new(
        "parse_url",
        &[Arg::Str, Arg::Str, Arg::Str],
        Ret::Str,
        parse_url,
        "PARSE_URL(url, part[, key])",
        "HOST, PATH, QUERY, REF, PROTOCOL, FILE, AUTHORITY or USERINFO of a URL; of QUERY the value of a key.",
    )
    .optional(1),
    Function::new(
        "encode",
        &[Arg::Str, Arg::Str],
        Ret::Bytes,
        encode,
        "ENCODE(string, charset)",
        "Bytes of a text in US-ASCII, ISO-8859-1, UTF-8, UTF-16, UTF-16BE or UTF-16LE.",
    ),
    Function::new(
        "decode",
        &[Arg::StrOrBytes, Arg::Str],
        Ret::Str,
        decode,
        "DECODE(bytes, charset)",
        "Text of bytes in a charset, see ENCODE.",
    ),
    Function::new(
        "md5",
        &[Arg::StrOrBytes],
        Ret::Str,
        |c| digest(c, |b| hex(&md5::Md5::digest(b))),
        "MD5(string)",
        "MD5 hash, in hexadecimal digits.",
    ),
    Function::new(
        "sha1",
        &[Arg::StrOrBytes],
        Ret::Str,
        |c| digest(c, |b| hex(&crate::sha1::sha1(b))),
        "SHA1(string)",
        "SHA-1 hash, in hexadecimal digits.",
    ),
    Function::new(
        "sha224",
        &[Arg::StrOrBytes],
        Ret::Str,
        |c| digest(c, |b| hex(&sha2::Sha224::digest(b))),
        "SHA224(string)",
        "SHA-224 hash, in hexadecimal digits.",
    ),
    Function::new(
        "sha256",
        &[Arg::StrOrBytes],
        Ret::Str,
        |c| digest(c, |b| hex(&sha2::Sha256::digest(b))),
        "SHA256(string)",
        "SHA-256 hash, in hexadecimal digits.",
    ),
    Function::new(
        "sha384",
        &[Arg::StrOrBytes],
        Ret::Str,
        |c| digest(c, |b| hex(&sha2::Sha384::digest(b))),
        "SHA384(string)",
        "SHA-384 hash, in hexadecimal digits.",
    ),
    Function::new(
        "sha512",
        &[Arg::StrOrBytes],
        Ret::Str,
        |c| digest(c, |b| hex(&sha2::Sha512::digest(b))),
        "SHA512(string)",
        "SHA-512 hash, in hexadecimal digits.",
    ),
    Function::new(
        "sha2",
        &[Arg::StrOrBytes, Arg::Int],
        Ret::Str,
        sha2,
        "SHA2(string, bits)",
        "SHA-2 hash of 224, 256, 384 or 512 bits, in hexadecimal digits.",
    ),
    Function::new(
        "url_encode",
        &[Arg::Str],
        Ret::Str,
        url_encode,
        "URL_ENCODE(string)",
        "As application/x-www-form-urlencoded.",
    ),
    Function::new(
        "url_decode",
        &[Arg::Str],
        Ret::Str,
        url_decode,
        "URL_DECODE(string)",
        "From application/x-www-form-urlencoded; NULL if it is not.",
    ),
];

fn from_base64(c: &Call) -> Result<ArrayRef> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    let s = c.str(0);
    c.try_strings(|i, out| {
        let Some(s) = s.get(i) else { return Ok(None) };
        let bytes =
            engine.decode(s.trim()).map_err(|_| Error::row(format!("{} is not Base64", crate::cast::shown(s))))?;
        out.push_str(&String::from_utf8_lossy(&bytes));
        Ok(Some(()))
    })
}

/// Calls `f` with the bytes of the first argument, a text or bytes.
fn with_bytes(c: &Call, mut f: impl FnMut(&[u8], &mut String)) -> Result<ArrayRef> {
    if *c.array(0).data_type() == DataType::Utf8 {
        let s = c.str(0);
        c.strings(|i, out| s.get(i).map(|s| f(s.as_bytes(), out)))
    } else {
        let b = c.bytes(0);
        c.strings(|i, out| b.get(i).map(|b| f(b, out)))
    }
}

fn to_base64(c: &Call) -> Result<ArrayRef> {
    with_bytes(c, |b, out| STANDARD.encode_string(b, out))
}

fn parse_url(c: &Call) -> Result<ArrayRef> {
    let (url, part) = (c.str(0), c.str(1));
    c.strings(|i, out| {
        let (url, part) = (url.get(i)?, part.get(i)?);
        let (protocol, rest) = url.split_once("://")?;
        let (rest, reference) = match rest.split_once('#') {
            Some((r, f)) => (r, Some(f)),
            None => (rest, None),
        };
        let (rest, query) = match rest.split_once('?') {
            Some((r, q)) => (r, Some(q)),
            None => (rest, None),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(u), h));
        if c.len() > 2 {
            let key = c.str(2).get(i)?;
            if part != "QUERY" {
                return None;
            }
            let value = query?.split('&').find_map(|p| p.split_once('=').filter(|(k, _)| *k == key))?.1;
            out.push_str(value);
            return Some(());
        }
        match part {
            "PROTOCOL" => out.push_str(protocol),
            "HOST" => out.push_str(match host.rsplit_once(':') {
                Some((h, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => h,
                _ => host,
            }),
            "PATH" => out.push_str(path),
            "QUERY" => out.push_str(query?),
            "REF" => out.push_str(reference?),
            "AUTHORITY" => out.push_str(authority),
            "USERINFO" => out.push_str(user?),
            "FILE" => {
                out.push_str(path);
                if let Some(q) = query {
                    let _ = write!(out, "?{q}");
                }
            }
            _ => return None,
        }
        Some(())
    })
}

#[derive(Clone, Copy)]
enum Charset {
    Ascii,
    Latin1,
    Utf8,
    /// Big endian or not; with a byte order mark.
    Utf16 {
        big: bool,
        mark: bool,
    },
}

fn charset(name: &str) -> Result<Charset> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "US-ASCII" | "ASCII" => Charset::Ascii,
        "ISO-8859-1" | "LATIN1" => Charset::Latin1,
        "UTF-8" | "UTF8" => Charset::Utf8,
        "UTF-16BE" => Charset::Utf16 { big: true, mark: false },
        "UTF-16LE" => Charset::Utf16 { big: false, mark: false },
        "UTF-16" => Charset::Utf16 { big: true, mark: true },
        _ => {
            return Err(Error::row(format!("unknown charset '{name}'"))
                .note("charsets: US-ASCII, ISO-8859-1, UTF-8, UTF-16, UTF-16BE, UTF-16LE"));
        }
    })
}

fn encode(c: &Call) -> Result<ArrayRef> {
    let (s, name) = (c.str(0), c.str(1));
    let mut out = BinaryBuilder::new();
    for i in 0..c.rows {
        let (Some(s), Some(name)) = (s.get(i), name.get(i)) else {
            out.append_null();
            continue;
        };
        let single =
            |max: u32| s.chars().map(|c| if u32::from(c) <= max { u32::from(c) as u8 } else { b'?' }).collect();
        out.append_value(match charset(name)? {
            Charset::Utf8 => s.as_bytes().to_vec(),
            Charset::Ascii => single(0x7F),
            Charset::Latin1 => single(0xFF),
            Charset::Utf16 { big, mark } => {
                let mark = if mark { Some(0xFEFF) } else { None };
                let units = mark.into_iter().chain(s.encode_utf16());
                units.flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }).collect::<Vec<u8>>()
            }
        });
    }
    Ok(Arc::new(out.finish()))
}

fn decode(c: &Call) -> Result<ArrayRef> {
    let name = c.str(1);
    let is_text = *c.array(0).data_type() == DataType::Utf8;
    c.try_strings(|i, out| {
        let bytes = if is_text { c.str(0).get(i).map(str::as_bytes) } else { c.bytes(0).get(i) };
        let (Some(b), Some(name)) = (bytes, name.get(i)) else { return Ok(None) };
        match charset(name)? {
            Charset::Utf8 => out.push_str(&String::from_utf8_lossy(b)),
            Charset::Ascii => {
                out.extend(b.iter().map(|&b| if b < 0x80 { char::from(b) } else { char::REPLACEMENT_CHARACTER }))
            }
            Charset::Latin1 => out.extend(b.iter().map(|&b| char::from(b))),
            Charset::Utf16 { big, mark } => {
                let (b, big) = match b {
                    [0xFE, 0xFF, rest @ ..] if mark => (rest, true),
                    [0xFF, 0xFE, rest @ ..] if mark => (rest, false),
                    _ => (b, big),
                };
                let units = b
                    .chunks_exact(2)
                    .map(|u| if big { u16::from_be_bytes([u[0], u[1]]) } else { u16::from_le_bytes([u[0], u[1]]) });
                out.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
            }
        }
        Ok(Some(()))
    })
}

/// Lower case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

fn digest(c: &Call, f: impl Fn(&[u8]) -> String) -> Result<ArrayRef> {
    with_bytes(c, |b, out| out.push_str(&f(b)))
}

fn sha2(c: &Call) -> Result<ArrayRef> {
    let bits = c.int(1);
    let is_text = *c.array(0).data_type() == DataType::Utf8;
    c.try_strings(|i, out| {
        let bytes = if is_text { c.str(0).get(i).map(str::as_bytes) } else { c.bytes(0).get(i) };
        let (Some(b), Some(bits)) = (bytes, bits.get(i)) else { return Ok(None) };
        out.push_str(&match bits {
            224 => hex(&sha2::Sha224::digest(b)),
            256 => hex(&sha2::Sha256::digest(b)),
            384 => hex(&sha2::Sha384::digest(b)),
            512 => hex(&sha2::Sha512::digest(b)),
            _ => return Err(Error::row(format!("SHA2 with {bits} bits")).note("bits: 224, 256, 384, 512")),
        });
        Ok(Some(()))
    })
}

fn url_encode(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    c.strings(|i, out| {
        for b in s.get(i)?.bytes() {
            match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => out.push(char::from(b)),
                b' ' => out.push('+'),
                _ => {
                    let _ = write!(out, "%{b:02X}");
                }
            }
        }
        Some(())
    })
}

fn url_decode(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    c.strings(|i, out| {
        let s = s.get(i)?.as_bytes();
        let mut bytes = Vec::with_capacity(s.len());
        let mut at = 0;
        while at < s.len() {
            match s[at] {
                b'+' => bytes.push(b' '),
                b'%' => {
                    let digits = std::str::from_utf8(s.get(at + 1..at + 3)?).ok()?;
                    bytes.push(u8::from_str_radix(digits, 16).ok()?);
                    at += 2;
                }
                b => bytes.push(b),
            }
            at += 1;
        }
        out.push_str(&String::from_utf8_lossy(&bytes));
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{call, is};

    const NULL: Option<()> = None;

    #[test]
    fn encodings() {
        is! {
            to_base64("hello world") => "aGVsbG8gd29ybGQ=";
            from_base64("aGVsbG8gd29ybGQ=") => "hello world";
            from_base64("aGVsbG8gd29ybGQ") => "hello world";
            from_base64(NULL) => "NULL";
            ascii("abc") => "97";
            ascii("") => "0";
            chr(97) => "a";
            chr(353) => "a";
            chr(-1) => "";
            decode(&b"\xe9"[..], "ISO-8859-1") => "é";
            decode(&b"\0a"[..], "UTF-16BE") => "a";
            encode("abc", "utf-8") => "abc";
            url_encode("a b/ü") => "a+b%2F%C3%BC";
            url_decode("a+b%2F%C3%BC") => "a b/ü";
            url_decode("%zz") => "NULL";
        }
        assert!(call("from_base64", &[&"*"]).is_err());
        assert!(call("encode", &[&"a", &"EBCDIC"]).is_err());
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        is! {
            md5("abc") => "900150983cd24fb0d6963f7d28e17f72";
            sha1("abc") => "a9993e364706816aba3e25717850c26c9cd0d89d";
            sha256("abc") => "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
            sha2("abc", 224) => "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7";
            sha1(NULL) => "NULL";
            sha2("abc", NULL) => "NULL";
        }
        assert!(call("sha2", &[&"abc", &1]).is_err());
    }

    #[test]
    fn urls_have_parts() {
        let url = "https://user:pw@example.com:80/a/b?x=1&y=2#top";
        is! {
            parse_url(url, "HOST") => "example.com";
            parse_url(url, "PROTOCOL") => "https";
            parse_url(url, "PATH") => "/a/b";
            parse_url(url, "QUERY") => "x=1&y=2";
            parse_url(url, "QUERY", "y") => "2";
            parse_url(url, "QUERY", "z") => "NULL";
            parse_url(url, "REF") => "top";
            parse_url(url, "FILE") => "/a/b?x=1&y=2";
            parse_url(url, "USERINFO") => "user:pw";
            parse_url("no url", "HOST") => "NULL";
            parse_url(NULL, "HOST") => "NULL";
        }
    }
}
