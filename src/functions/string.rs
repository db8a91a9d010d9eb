//! Functions of texts and bytes. Positions and lengths count characters, from 1.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder};
use arrow::datatypes::{DataType, Int32Type};
use thalweg_core::{Error, Result};

use crate::function::{Arg, Call, Function, Ret};

/// Bytes that one call may make of short arguments (REPEAT, LPAD, RPAD).
const RESULT_BYTES_MAX: usize = 64 << 20;

pub const FUNCTIONS: &[Function] = &[
    Function::new("char_length", &[Arg::Str], Ret::Int, char_length, "CHAR_LENGTH(string)", "Number of characters.")
        .aliases(&["character_length", "length"]),
    Function::new("upper", &[Arg::Str], Ret::Str, upper, "UPPER(string)", "In upper case.").aliases(&["ucase"]),
    Function::new("lower", &[Arg::Str], Ret::Str, lower, "LOWER(string)", "In lower case.").aliases(&["lcase"]),
    Function::new(
        "btrim",
        &[Arg::Str, Arg::Str],
        Ret::Str,
        btrim,
        "BTRIM(string[, characters])",
        "Without the characters (default: blanks) at both ends.",
    )
    .optional(1)
    .aliases(&["trim"]),
    Function::new(
        "ltrim",
        &[Arg::Str, Arg::Str],
        Ret::Str,
        ltrim,
        "LTRIM(string[, characters])",
        "Without the characters (default: blanks) at the start.",
    )
    .optional(1),
    Function::new(
        "rtrim",
        &[Arg::Str, Arg::Str],
        Ret::Str,
        rtrim,
        "RTRIM(string[, characters])",
        "Without the characters (default: blanks) at the end.",
    )
    .optional(1),
    Function::new(
        "repeat",
        &[Arg::Str, Arg::Int],
        Ret::Str,
        repeat,
        "REPEAT(string, n)",
        "The text n times; '' for n ≤ 0.",
    ),
    Function::new(
        "overlay",
        &[Arg::Str, Arg::Str, Arg::Int, Arg::Int],
        Ret::Str,
        overlay,
        "OVERLAY(string1 PLACING string2 FROM start [FOR length])",
        "string1 with length characters from start replaced by string2.",
    )
    .optional(1),
    Function::new(
        "substr",
        &[Arg::Str, Arg::Int, Arg::Int],
        Ret::Str,
        substring,
        "SUBSTRING(string FROM start [FOR length])",
        "length characters from start; a negative start counts from the end.",
    )
    .optional(1)
    .aliases(&["substring"]),
    Function::new(
        "replace",
        &[Arg::Str, Arg::Str, Arg::Str],
        Ret::Str,
        replace,
        "REPLACE(string, from, to)",
        "Every from replaced by to.",
    ),
    Function::new(
        "initcap",
        &[Arg::Str],
        Ret::Str,
        initcap,
        "INITCAP(string)",
        "Every word with an upper case first letter, the rest in lower case.",
    ),
    Function::new(
        "concat",
        &[],
        Ret::Str,
        concat,
        "CONCAT(value, …)",
        "The texts of all values behind one another; NULL if one is NULL.",
    )
    .rest(Arg::Text),
    Function::new(
        "concat_ws",
        &[Arg::Str],
        Ret::Str,
        concat_ws,
        "CONCAT_WS(separator, value, …)",
        "The texts with the separator between them; NULLs are left out.",
    )
    .rest(Arg::Text),
    Function::new(
        "lpad",
        &[Arg::Str, Arg::Int, Arg::Str],
        Ret::Str,
        lpad,
        "LPAD(string, n, pad)",
        "Filled on the left, or cut, to n characters.",
    )
    .optional(1),
    Function::new(
        "rpad",
        &[Arg::Str, Arg::Int, Arg::Str],
        Ret::Str,
        rpad,
        "RPAD(string, n, pad)",
        "Filled on the right, or cut, to n characters.",
    )
    .optional(1),
    Function::new("ascii", &[Arg::Str], Ret::Int, ascii, "ASCII(string)", "Code of the first byte; 0 for ''."),
    Function::new("chr", &[Arg::Int], Ret::Str, chr, "CHR(n)", "The character with code n modulo 256."),
    Function::new("left", &[Arg::Str, Arg::Int], Ret::Str, left, "LEFT(string, n)", "The first n characters."),
    Function::new("right", &[Arg::Str, Arg::Int], Ret::Str, right, "RIGHT(string, n)", "The last n characters."),
    Function::new(
        "instr",
        &[Arg::Str, Arg::Str],
        Ret::Int,
        instr,
        "INSTR(string, part)",
        "Position of part in string; 0 if it is not there.",
    )
    .aliases(&["strpos"]),
    Function::new(
        "locate",
        &[Arg::Str, Arg::Str, Arg::Int],
        Ret::Int,
        locate,
        "LOCATE(part, string[, start])",
        "Position of part in string, from start on; 0 if it is not there.",
    )
    .optional(1),
    Function::new(
        "position",
        &[Arg::Str, Arg::Str],
        Ret::Int,
        locate,
        "POSITION(part IN string)",
        "Position of part in string; 0 if it is not there.",
    ),
    Function::new(
        "reverse",
        &[Arg::Str],
        Ret::Str,
        reverse,
        "REVERSE(string)",
        "The characters from the last to the first.",
    ),
    Function::new(
        "split_index",
        &[Arg::Str, Arg::IntOrStr, Arg::Int],
        Ret::Str,
        split_index,
        "SPLIT_INDEX(string, separator, i)",
        "The i-th part, from 0; NULL if there is none.",
    ),
    Function::new(
        "is_alpha",
        &[Arg::Text],
        Ret::Bool,
        |c| test(c, is_alpha),
        "IS_ALPHA(string)",
        "Whether all characters are letters.",
    ),
    Function::new(
        "is_digit",
        &[Arg::Text],
        Ret::Bool,
        |c| test(c, is_digit),
        "IS_DIGIT(string)",
        "Whether all characters are digits.",
    ),
    Function::new(
        "is_decimal",
        &[Arg::Text],
        Ret::Bool,
        |c| test(c, is_decimal),
        "IS_DECIMAL(string)",
        "Whether it is a number.",
    ),
    Function::new(
        "startswith",
        &[Arg::Str, Arg::Str],
        Ret::Bool,
        |c| compare(c, |s, p| s.starts_with(p)),
        "STARTSWITH(string, start)",
        "Whether string starts with start.",
    )
    .aliases(&["starts_with"]),
    Function::new(
        "endswith",
        &[Arg::Str, Arg::Str],
        Ret::Bool,
        |c| compare(c, |s, p| s.ends_with(p)),
        "ENDSWITH(string, end)",
        "Whether string ends with end.",
    )
    .aliases(&["ends_with"]),
    Function::new(
        "elt",
        &[Arg::Int],
        Ret::Str,
        elt,
        "ELT(i, string, …)",
        "The i-th of the texts, from 1; NULL if there is none.",
    )
    .rest(Arg::Str),
    Function::new(
        "binary_concat",
        &[Arg::Bytes, Arg::Bytes],
        Ret::Bytes,
        binary_concat,
        "bytes || bytes",
        "Bytes behind one another.",
    ),
];

fn char_length(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    c.values::<Int32Type>(|i| s.get(i).map(|s| s.chars().count() as i32))
}

fn upper(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    c.strings(|i, out| {
        s.get(i)?.chars().for_each(|c| out.extend(c.to_uppercase()));
        Some(())
    })
}

fn lower(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    c.strings(|i, out| {
        // As a whole: the last sigma of a Greek word has a form of its own.
        out.push_str(&s.get(i)?.to_lowercase());
        Some(())
    })
}

fn trim(c: &Call, start: bool, end: bool) -> Result<ArrayRef> {
    let s = c.str(0);
    c.strings(|i, out| {
        let mut s = s.get(i)?;
        let set = c.str_or(1, i, " ")?;
        if start {
            s = s.trim_start_matches(|c| set.contains(c));
        }
        if end {
            s = s.trim_end_matches(|c| set.contains(c));
        }
        out.push_str(s);
        Some(())
    })
}

fn btrim(c: &Call) -> Result<ArrayRef> {
    trim(c, true, true)
}

fn ltrim(c: &Call) -> Result<ArrayRef> {
    trim(c, true, false)
}

fn rtrim(c: &Call) -> Result<ArrayRef> {
    trim(c, false, true)
}

fn too_long(what: &str) -> Error {
    Error::row(format!("{what} would give more than {} MiB", RESULT_BYTES_MAX >> 20))
}

fn repeat(c: &Call) -> Result<ArrayRef> {
    let (s, n) = (c.str(0), c.int(1));
    c.try_strings(|i, out| {
        let (Some(s), Some(n)) = (s.get(i), n.get(i)) else { return Ok(None) };
        let n = n.max(0) as usize;
        if s.len().saturating_mul(n) > RESULT_BYTES_MAX {
            return Err(too_long("REPEAT"));
        }
        (0..n).for_each(|_| out.push_str(s));
        Ok(Some(()))
    })
}

/// Byte offset of the n-th character, or the end.
fn offset(s: &str, n: usize) -> usize {
    if s.is_ascii() { n.min(s.len()) } else { s.char_indices().nth(n).map_or(s.len(), |(at, _)| at) }
}

fn overlay(c: &Call) -> Result<ArrayRef> {
    let (s, r, start) = (c.str(0), c.str(1), c.int(2));
    c.strings(|i, out| {
        let (s, r, start) = (s.get(i)?, r.get(i)?, start.get(i)?);
        let length = if c.len() > 3 { c.int(3).get(i)? } else { r.chars().count() as i64 };
        let chars = s.chars().count() as i64;
        if start <= 0 || start > chars {
            out.push_str(s);
            return Some(());
        }
        out.push_str(&s[..offset(s, start as usize - 1)]);
        out.push_str(r);
        let rest = (start - 1).saturating_add(length).clamp(0, chars);
        out.push_str(&s[offset(s, rest as usize)..]);
        Some(())
    })
}

fn substring(c: &Call) -> Result<ArrayRef> {
    let (s, start) = (c.str(0), c.int(1));
    c.strings(|i, out| {
        let (s, start, length) = (s.get(i)?, start.get(i)?, c.int_or(2, i, i64::MAX)?);
        if length < 0 {
            return None;
        }
        let from = match start {
            1.. => start - 1,
            0 => 0,
            _ => {
                let from = s.chars().count() as i64 + start;
                if from < 0 {
                    return Some(());
                }
                from
            }
        };
        let rest = &s[offset(s, usize::try_from(from).ok()?)..];
        out.push_str(&rest[..offset(rest, usize::try_from(length).unwrap_or(usize::MAX))]);
        Some(())
    })
}

fn replace(c: &Call) -> Result<ArrayRef> {
    let (s, from, to) = (c.str(0), c.str(1), c.str(2));
    c.strings(|i, out| {
        let (s, from, to) = (s.get(i)?, from.get(i)?, to.get(i)?);
        if from.is_empty() {
            out.push_str(s);
            return Some(());
        }
        let mut rest = s;
        while let Some(at) = rest.find(from) {
            out.push_str(&rest[..at]);
            out.push_str(to);
            rest = &rest[at + from.len()..];
        }
        out.push_str(rest);
        Some(())
    })
}

fn initcap(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    c.strings(|i, out| {
        let mut inside = false;
        for c in s.get(i)?.chars() {
            if inside {
                out.extend(c.to_lowercase());
            } else {
                out.extend(c.to_uppercase());
            }
            inside = c.is_alphanumeric();
        }
        Some(())
    })
}

fn concat(c: &Call) -> Result<ArrayRef> {
    c.strings(|i, out| {
        for a in 0..c.len() {
            out.push_str(c.str(a).get(i)?);
        }
        Some(())
    })
}

fn concat_ws(c: &Call) -> Result<ArrayRef> {
    c.strings(|i, out| {
        let separator = c.str(0).get(i)?;
        let mut first = true;
        for s in (1..c.len()).filter_map(|a| c.str(a).get(i)) {
            if !first {
                out.push_str(separator);
            }
            first = false;
            out.push_str(s);
        }
        Some(())
    })
}

fn pad(c: &Call, left: bool) -> Result<ArrayRef> {
    let (s, n) = (c.str(0), c.int(1));
    c.try_strings(|i, out| {
        let (Some(s), Some(n), Some(pad)) = (s.get(i), n.get(i), c.str_or(2, i, " ")) else { return Ok(None) };
        if n < 0 || pad.is_empty() {
            return Ok(None);
        }
        let n = n as usize;
        if n > RESULT_BYTES_MAX {
            return Err(too_long("LPAD or RPAD"));
        }
        let chars = s.chars().count();
        if chars >= n {
            out.push_str(&s[..offset(s, n)]);
            return Ok(Some(()));
        }
        let fill = pad.chars().cycle().take(n - chars);
        if left {
            out.extend(fill);
            out.push_str(s);
        } else {
            out.push_str(s);
            out.extend(fill);
        }
        Ok(Some(()))
    })
}

fn lpad(c: &Call) -> Result<ArrayRef> {
    pad(c, true)
}

fn rpad(c: &Call) -> Result<ArrayRef> {
    pad(c, false)
}

fn ascii(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    c.values::<Int32Type>(|i| s.get(i).map(|s| s.as_bytes().first().map_or(0, |b| i32::from(*b))))
}

fn chr(c: &Call) -> Result<ArrayRef> {
    let n = c.int(0);
    c.strings(|i, out| {
        let n = n.get(i)?;
        if n >= 0 {
            out.push(char::from((n & 0xFF) as u8));
        }
        Some(())
    })
}

fn left(c: &Call) -> Result<ArrayRef> {
    let (s, n) = (c.str(0), c.int(1));
    c.strings(|i, out| {
        let (s, n) = (s.get(i)?, n.get(i)?);
        out.push_str(&s[..offset(s, usize::try_from(n).unwrap_or(0))]);
        Some(())
    })
}

fn right(c: &Call) -> Result<ArrayRef> {
    let (s, n) = (c.str(0), c.int(1));
    c.strings(|i, out| {
        let (s, n) = (s.get(i)?, n.get(i)?);
        let skip = s.chars().count().saturating_sub(usize::try_from(n).unwrap_or(0));
        out.push_str(&s[offset(s, skip)..]);
        Some(())
    })
}

/// Position of a part, from 1; 0 if it is not there.
fn find(s: &str, part: &str) -> i32 {
    s.find(part).map_or(0, |at| s[..at].chars().count() as i32 + 1)
}

fn instr(c: &Call) -> Result<ArrayRef> {
    let (s, part) = (c.str(0), c.str(1));
    c.values::<Int32Type>(|i| Some(find(s.get(i)?, part.get(i)?)))
}

fn locate(c: &Call) -> Result<ArrayRef> {
    let (part, s) = (c.str(0), c.str(1));
    c.values::<Int32Type>(|i| {
        let (part, s, start) = (part.get(i)?, s.get(i)?, c.int_or(2, i, 1)?);
        if start < 1 {
            return Some(0);
        }
        let skip = usize::try_from(start - 1).ok()?;
        if skip > s.chars().count() {
            return Some(0);
        }
        let at = find(&s[offset(s, skip)..], part);
        Some(if at == 0 { 0 } else { at + skip as i32 })
    })
}

fn reverse(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    c.strings(|i, out| {
        out.extend(s.get(i)?.chars().rev());
        Some(())
    })
}

fn split_index(c: &Call) -> Result<ArrayRef> {
    let (s, n) = (c.str(0), c.int(2));
    let by_code = *c.array(1).data_type() == DataType::Int64;
    c.strings(|i, out| {
        let mut buffer = [0; 4];
        let separator = if by_code {
            let code = u8::try_from(c.int(1).get(i)?).ok()?;
            char::from(code).encode_utf8(&mut buffer)
        } else {
            c.str(1).get(i)?
        };
        let (s, n) = (s.get(i)?, usize::try_from(n.get(i)?).ok()?);
        if separator.is_empty() {
            return None;
        }
        out.push_str(s.split(separator).nth(n)?);
        Some(())
    })
}

/// A test of a text that says false of NULL.
fn test(c: &Call, f: fn(&str) -> bool) -> Result<ArrayRef> {
    let s = c.str(0);
    c.bools(|i| Some(s.get(i).is_some_and(f)))
}

fn is_alpha(s: &str) -> bool {
    !s.is_empty() && s.chars().all(char::is_alphabetic)
}

fn is_digit(s: &str) -> bool {
    !s.is_empty() && s.chars().all(char::is_numeric)
}

fn is_decimal(s: &str) -> bool {
    s.trim().parse::<f64>().is_ok_and(f64::is_finite) && s.trim().bytes().any(|b| b.is_ascii_digit())
}

fn compare(c: &Call, f: fn(&str, &str) -> bool) -> Result<ArrayRef> {
    let (s, p) = (c.str(0), c.str(1));
    c.bools(|i| Some(f(s.get(i)?, p.get(i)?)))
}

fn elt(c: &Call) -> Result<ArrayRef> {
    let n = c.int(0);
    c.strings(|i, out| {
        let n = usize::try_from(n.get(i)?).ok().filter(|n| *n >= 1 && *n < c.len())?;
        out.push_str(c.str(n).get(i)?);
        Some(())
    })
}

fn binary_concat(c: &Call) -> Result<ArrayRef> {
    let (a, b) = (c.bytes(0), c.bytes(1));
    let mut out = BinaryBuilder::new();
    for i in 0..c.rows {
        match (a.get(i), b.get(i)) {
            (Some(a), Some(b)) => out.append_value([a, b].concat()),
            _ => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use crate::testing::{call, is};

    const NULL: Option<()> = None;

    #[test]
    fn lengths_and_cases() {
        is! {
            char_length("héllo") => "5";
            char_length("") => "0";
            char_length(NULL) => "NULL";
            upper("straße") => "STRASSE";
            lower("ABC") => "abc";
            upper(NULL) => "NULL";
            initcap("hello wORLD-x 1a") => "Hello World-X 1a";
            reverse("aé€") => "€éa";
            reverse(NULL) => "NULL";
        }
    }

    #[test]
    fn trims_and_pads() {
        is! {
            btrim("  a b ") => "a b";
            ltrim("xxaxx", "x") => "axx";
            rtrim("  a\t ") => "  a\t";
            btrim("abcxcba", "abc") => "x";
            btrim("a", NULL) => "NULL";
            lpad("hi", 4, "??") => "??hi";
            lpad("hi", 1, "??") => "h";
            lpad("hi", -1, "?") => "NULL";
            lpad("hi", 5, "") => "NULL";
            rpad("hi", 5, "ab") => "hiaba";
            rpad(NULL, 5, "ab") => "NULL";
            repeat("ab", 3) => "ababab";
            repeat("ab", -1) => "";
            repeat("ab", NULL) => "NULL";
        }
        assert!(call("repeat", &[&"ab", &i64::MAX]).is_err());
    }

    #[test]
    fn parts_of_texts() {
        is! {
            substr("hello", 2) => "ello";
            substr("hello", 2, 3) => "ell";
            substr("hello", 0, 2) => "he";
            substr("hello", -3) => "llo";
            substr("hello", -9, 2) => "";
            substr("hello", 9) => "";
            substr("hello", 2, -1) => "NULL";
            substr("h€llo", 2, 1) => "€";
            substr("hello", NULL) => "NULL";
            left("hello", 2) => "he";
            left("hello", -2) => "";
            right("h€llo", 4) => "€llo";
            right("hello", 9) => "hello";
            overlay("xxxxxtest", "xxxx", 6) => "xxxxxxxxx";
            overlay("xxxxxtest", "xxxx", 6, 2) => "xxxxxxxxxst";
            overlay("abc", "x", 0) => "abc";
            overlay("abc", NULL, 1) => "NULL";
            split_index("a,b,,c", ",", 1) => "b";
            split_index("a,b,,c", ",", 2) => "";
            split_index("a,b", ",", 5) => "NULL";
            split_index("a,b", ",", -1) => "NULL";
            split_index("a,b", 44, 0) => "a";
            split_index(NULL, ",", 0) => "NULL";
            elt(2, "a", "b") => "b";
            elt(3, "a", "b") => "NULL";
        }
    }

    #[test]
    fn finding_and_replacing() {
        is! {
            replace("hello world", "world", "x") => "hello x";
            replace("ababab", "abab", "z") => "zab";
            replace("abc", "", "z") => "abc";
            replace("abc", NULL, "z") => "NULL";
            instr("h€llo", "l") => "3";
            instr("hello", "z") => "0";
            instr("hello", NULL) => "NULL";
            locate("l", "hello") => "3";
            locate("l", "hello", 4) => "4";
            locate("l", "hello", 9) => "0";
            locate("l", "hello", 0) => "0";
            position("lo", "hello") => "4";
            startswith("hello", "he") => "TRUE";
            endswith("hello", "he") => "FALSE";
            endswith(NULL, "he") => "NULL";
        }
    }

    #[test]
    fn concat_of_null_is_null_and_concat_ws_leaves_it_out() {
        is! {
            concat("a", "b", 1) => "ab1";
            concat("a", NULL) => "NULL";
            concat_ws("~", "a", NULL, "", "b") => "a~~b";
            concat_ws(NULL, "a") => "NULL";
        }
    }

    #[test]
    fn tests_of_texts_are_false_for_null() {
        is! {
            is_alpha("abcÜ") => "TRUE";
            is_alpha("ab1") => "FALSE";
            is_alpha(NULL) => "FALSE";
            is_digit("123") => "TRUE";
            is_digit("1.2") => "FALSE";
            is_decimal("-1.2e3") => "TRUE";
            is_decimal("x") => "FALSE";
            is_decimal("inf") => "FALSE";
            is_decimal("") => "FALSE";
        }
    }
}
