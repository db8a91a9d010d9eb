//! A pull parser over the bytes of one record. It builds nothing: whoever calls it knows what should come.

use crate::scan::find2;

/// Nesting of values that are skipped or kept as text, at most.
pub const NESTING_MAX: u32 = 128;

/// Where and why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syntax {
    pub at: usize,
    pub why: &'static str,
}

pub struct Json<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Json<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Json { bytes, at: 0 }
    }

    #[cold]
    pub fn syntax<T>(&self, why: &'static str) -> Result<T, Syntax> {
        Err(Syntax { at: self.at, why })
    }

    /// The next byte; 0 at the end (and for a zero byte, which JSON has nowhere).
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
    }

    #[inline(always)]
    pub fn expect(&mut self, byte: u8, why: &'static str) -> Result<(), Syntax> {
        if self.peek() == byte {
            self.at += 1;
            Ok(())
        } else {
            self.syntax(why)
        }
    }

    #[inline]
    pub fn literal(&mut self, text: &'static str) -> Result<(), Syntax> {
        if self.bytes[self.at..].starts_with(text.as_bytes()) {
            self.at += text.len();
            Ok(())
        } else {
            self.syntax("unexpected character")
        }
    }

    /// The characters of a number, unchecked.
    #[inline]
    pub fn number(&mut self) -> &'a [u8] {
        let begin = self.at;
        while matches!(self.peek(), b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') {
            self.at += 1;
        }
        &self.bytes[begin..self.at]
    }

    /// A string, at its opening quote: appends what it stands for to `out`; whether all of it is ASCII. What is not
    /// ASCII has still to be checked for UTF-8.
    #[inline(always)]
    pub fn string_into(&mut self, out: &mut Vec<u8>) -> Result<bool, Syntax> {
        let begin = self.at + 1;
        let (end, ascii) = find2(self.bytes, begin, b'"', b'\\');
        if self.bytes.get(end) == Some(&b'"') {
            out.extend_from_slice(&self.bytes[begin..end]);
            self.at = end + 1;
            return Ok(ascii);
        }
        self.escaped_into(begin, out)
    }

    #[inline(never)]
    fn escaped_into(&mut self, begin: usize, out: &mut Vec<u8>) -> Result<bool, Syntax> {
        let mut at = begin;
        let mut all_ascii = true;
        loop {
            let (end, ascii) = find2(self.bytes, at, b'"', b'\\');
            all_ascii &= ascii;
            out.extend_from_slice(&self.bytes[at..end]);
            match self.bytes.get(end) {
                Some(b'"') => {
                    self.at = end + 1;
                    return Ok(all_ascii);
                }
                Some(_) => {
                    self.at = end + 1;
                    let c = match self.peek() {
                        b'"' => '"',
                        b'\\' => '\\',
                        b'/' => '/',
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => self.unicode()?,
                        _ => return self.syntax("unknown escape in a string"),
                    };
                    self.at += 1;
                    at = self.at;
                    all_ascii &= c.is_ascii();
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                None => {
                    self.at = self.bytes.len();
                    return self.syntax("a string does not end");
                }
            }
        }
    }

    /// At the `u` of `\u0041`; ends on the last digit.
    fn unicode(&mut self) -> Result<char, Syntax> {
        let high = self.hex4()?;
        let code = match high {
            0xd800..=0xdbff => {
                if self.bytes.get(self.at + 1..self.at + 3) != Some(b"\\u") {
                    return self.syntax("half of a surrogate pair in a string");
                }
                self.at += 2;
                let low = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return self.syntax("half of a surrogate pair in a string");
                }
                0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
            }
            code => code,
        };
        char::from_u32(code).map_or_else(|| self.syntax("half of a surrogate pair in a string"), Ok)
    }

    fn hex4(&mut self) -> Result<u32, Syntax> {
        let digits = self.bytes.get(self.at + 1..self.at + 5).unwrap_or(b"");
        let mut code = 0;
        for d in digits {
            match (*d as char).to_digit(16) {
                Some(d) => code = code * 16 + d,
                None => return self.syntax("\\u needs four hex digits"),
            }
        }
        if digits.len() < 4 {
            return self.syntax("\\u needs four hex digits");
        }
        self.at += 4;
        Ok(code)
    }

    /// Passes over a string, at its opening quote.
    #[inline(always)]
    pub fn skip_string(&mut self) -> Result<(), Syntax> {
        let mut at = self.at + 1;
        loop {
            let (end, _) = find2(self.bytes, at, b'"', b'\\');
            match self.bytes.get(end) {
                Some(b'"') => {
                    self.at = end + 1;
                    return Ok(());
                }
                Some(_) => at = end + 2,
                None => {
                    self.at = self.bytes.len();
                    return self.syntax("a string does not end");
                }
            }
        }
    }

    /// Passes over any value. Strings and nesting are checked; what stands between the brackets is not.
    #[inline]
    pub fn skip_value(&mut self) -> Result<(), Syntax> {
        match self.peek() {
            b'"' => self.skip_string(),
            b'{' | b'[' => self.skip_nested(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => {
                self.number();
                Ok(())
            }
            0 if self.at >= self.bytes.len() => self.syntax("the record ends too early"),
            _ => self.syntax("unexpected character"),
        }
    }

    /// Bits of `open` say of every level that is open whether it is an object.
    fn skip_nested(&mut self) -> Result<(), Syntax> {
        let (mut open, mut depth) = (0u128, 0u32);
        loop {
            match self.peek() {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                c @ (b'{' | b'[') => {
                    if depth == NESTING_MAX {
                        return self.syntax("nested too deeply (more than 128 levels)");
                    }
                    open = open << 1 | u128::from(c == b'{');
                    depth += 1;
                }
                c @ (b'}' | b']') => {
                    if (open & 1 == 1) != (c == b'}') {
                        return self.syntax("brackets do not match");
                    }
                    open >>= 1;
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                0 if self.at >= self.bytes.len() => return self.syntax("the record ends too early"),
                _ => {}
            }
            self.at += 1;
            while self.bytes.get(self.at).is_some_and(|b| !STRUCTURAL[*b as usize]) {
                self.at += 1;
            }
        }
    }
}

const STRUCTURAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 5 {
        table[b"\"{}[]"[i] as usize] = true;
        i += 1;
    }
    table
};

/// Appends a JSON text without the white space between its tokens.
pub fn compact_into(json: &[u8], out: &mut Vec<u8>) {
    let mut rest = Json::new(json);
    while rest.at < json.len() {
        let begin = rest.at;
        match json[begin] {
            b'"' => {
                if rest.skip_string().is_err() {
                    rest.at = json.len();
                }
                out.extend_from_slice(&json[begin..rest.at]);
            }
            b' ' | b'\t' | b'\r' | b'\n' => rest.at += 1,
            c => {
                out.push(c);
                rest.at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(text: &str) -> Result<usize, &'static str> {
        let mut json = Json::new(text.as_bytes());
        json.skip_value().map(|()| json.at).map_err(|e| e.why)
    }

    #[test]
    fn values_are_skipped_whole() {
        for value in ["{\"a\":[1,{\"b\":\"}]\\\"\"}],\"c\":null}", "[]", "\"x\\\\\"", "-1.5e3", "true", "null"] {
            assert_eq!(skipped(&format!("{value},")), Ok(value.len()), "{value}");
        }
        assert_eq!(skipped("[}"), Err("brackets do not match"));
        assert_eq!(skipped("[1"), Err("the record ends too early"));
        assert_eq!(skipped("\"a\\"), Err("a string does not end"));
        assert_eq!(skipped(""), Err("the record ends too early"));
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(skipped(&nested(128)), Ok(256));
        assert_eq!(skipped(&nested(129)), Err("nested too deeply (more than 128 levels)"));
    }

    #[test]
    fn escapes_stand_for_what_they_stand_for() {
        let mut out = vec![];
        let text = r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z""#;
        Json::new(text.as_bytes()).string_into(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\"\\/\u{8}\u{c}\n\r\té😀z");
        for bad in [r#""\x""#, r#""\u12""#, r#""\ud83d""#, r#""\ud83dA""#, r#""\udc00""#, r#""\"#] {
            assert!(Json::new(bad.as_bytes()).string_into(&mut vec![]).is_err(), "{bad}");
        }
    }

    #[test]
    fn compacting_keeps_strings() {
        let mut out = vec![];
        compact_into(b"{ \"a b\" : [ 1 ,\t2 ] }", &mut out);
        assert_eq!(out, b"{\"a b\":[1,2]}");
    }
}
