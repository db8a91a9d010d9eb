//! Functions of JSON in texts. A small parser of our own: numbers keep the digits that are written, so that nothing is
//! lost between a text and a DECIMAL; objects keep their order.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::*;
use thalweg_core::{Error, Result, SqlType};

use crate::cast::{shown, to_text};
use crate::function::{Arg, Call, Function, Ret};

/// Arrays and objects within one another.
const DEPTH_MAX: usize = 128;
/// Compiled paths that a thread keeps.
const PATHS_MAX: usize = 64;

pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "json_value",
        &[Arg::Str, Arg::Str, Arg::Str, Arg::Str, Arg::Str, Arg::Str],
        Ret::Str,
        json_value,
        "JSON_VALUE(json, path [RETURNING type])",
        "The scalar at a path.",
    )
    .optional(4),
    Function::new(
        "json_query",
        &[Arg::Str, Arg::Str, Arg::Str, Arg::Str, Arg::Str],
        Ret::Str,
        json_query,
        "JSON_QUERY(json, path)",
        "The object or array at a path, as JSON.",
    )
    .optional(3),
    Function::new(
        "json_exists",
        &[Arg::Str, Arg::Str, Arg::Str],
        Ret::Bool,
        json_exists,
        "JSON_EXISTS(json, path)",
        "Whether there is something at a path.",
    )
    .optional(1),
    Function::new(
        "is_json",
        &[Arg::Str, Arg::Str],
        Ret::Bool,
        is_json,
        "IS_JSON(string [, kind])",
        "Whether a text is JSON.",
    )
    .optional(1),
    Function::new("json_string", &[Arg::Any], Ret::Str, json_string, "JSON_STRING(value)", "The value as JSON."),
    Function::new("json_quote", &[Arg::Str], Ret::Str, json_quote, "JSON_QUOTE(string)", "The text as a JSON string."),
    Function::new(
        "json_object",
        &[],
        Ret::Str,
        json_object,
        "JSON_OBJECT(key, value, …)",
        "A JSON object; NULL values are null.",
    )
    .rest(Arg::Any),
    Function::new("json_array", &[], Ret::Str, json_array, "JSON_ARRAY(value, …)", "A JSON array without the NULLs.")
        .rest(Arg::Any),
];

#[derive(Debug, Clone, PartialEq)]
enum Json<'a> {
    Null,
    Boolean(bool),
    /// As it is written.
    Number(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Json<'a> {
    /// `None`: the text is not JSON.
    fn parse(text: &'a str) -> Option<Self> {
        let mut p = Parser { text, at: 0, depth: 0 };
        let value = p.value()?;
        p.blanks();
        (p.at == text.len()).then_some(value)
    }

    fn is_scalar(&self) -> bool {
        !matches!(self, Json::Array(_) | Json::Object(_))
    }

    fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Boolean(b) => out.push_str(if *b { "true" } else { "false" }),
            Json::Number(n) => out.push_str(n),
            Json::String(s) => quote(s, out),
            Json::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(fields) => {
                out.push('{');
                for (i, (key, value)) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    quote(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// Writes a JSON string.
fn quote(s: &str, out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

impl<'a> Parser<'a> {
    fn blanks(&mut self) {
        self.at += self.text[self.at..].bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        self.blanks();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Option<Json<'a>> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            value
        })
    }

    fn value(&mut self) -> Option<Json<'a>> {
        self.blanks();
        match self.peek()? {
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Boolean(true)),
            b'f' => self.word("false", Json::Boolean(false)),
            b'"' => self.string().map(Json::String),
            open @ (b'[' | b'{') => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return None;
                }
                self.at += 1;
                let value = if open == b'[' { self.array() } else { self.object() };
                self.depth -= 1;
                value
            }
            _ => self.number(),
        }
    }

    fn array(&mut self) -> Option<Json<'a>> {
        let mut items = vec![];
        if self.eat(b']').is_some() {
            return Some(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            if self.eat(b',').is_none() {
                self.eat(b']')?;
                return Some(Json::Array(items));
            }
        }
    }

    fn object(&mut self) -> Option<Json<'a>> {
        let mut fields = vec![];
        if self.eat(b'}').is_some() {
            return Some(Json::Object(fields));
        }
        loop {
            self.blanks();
            let key = self.string()?;
            self.eat(b':')?;
            fields.push((key, self.value()?));
            if self.eat(b',').is_none() {
                self.eat(b'}')?;
                return Some(Json::Object(fields));
            }
        }
    }

    fn number(&mut self) -> Option<Json<'a>> {
        let start = self.at;
        let digits = |p: &mut Self| {
            let n = p.text[p.at..].bytes().take_while(u8::is_ascii_digit).count();
            p.at += n;
            (n > 0).then_some(n)
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let zero = self.peek() == Some(b'0');
        if digits(self)? > 1 && zero {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        Some(Json::Number(&self.text[start..self.at]))
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        loop {
            let rest = &self.text[self.at..];
            let n = rest.bytes().position(|b| b == b'"' || b == b'\\' || b < 0x20)?;
            if let Some(s) = &mut owned {
                s.push_str(&rest[..n]);
            }
            self.at += n;
            match self.peek()? {
                b'"' => {
                    let end = self.at;
                    self.at += 1;
                    return Some(owned.map_or(Cow::Borrowed(&self.text[start..end]), Cow::Owned));
                }
                b'\\' => {
                    let s = owned.get_or_insert_with(|| self.text[start..self.at].to_owned());
                    self.at += 1;
                    let escaped = self.text.as_bytes().get(self.at)?;
                    self.at += 1;
                    s.push(match escaped {
                        b'"' => '"',
                        b'\\' => '\\',
                        b'/' => '/',
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => {
                            let unit = |text: &str, at: usize| u32::from_str_radix(text.get(at..at + 4)?, 16).ok();
                            let high = unit(self.text, self.at)?;
                            self.at += 4;
                            match high {
                                0xD800..0xDC00 if self.text[self.at..].starts_with("\\u") => {
                                    let low = unit(self.text, self.at + 2)?;
                                    self.at += 6;
                                    let code = 0x1_0000 + ((high - 0xD800) << 10) + low.checked_sub(0xDC00)?;
                                    char::from_u32(code)?
                                }
                                code => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
                            }
                        }
                        _ => return None,
                    });
                }
                _ => return None,
            }
        }
    }
}

/// One step of a path.
#[derive(Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
    /// `.*` and `[*]`
    All,
}

#[derive(Debug)]
struct Path {
    steps: Vec<Step>,
    /// In strict mode a step that finds nothing is an error.
    strict: bool,
}

/// A compiled path, kept by the thread.
fn path(text: &str) -> Result<Rc<Path>> {
    thread_local! {
        static PATHS: RefCell<HashMap<String, Rc<Path>>> = RefCell::default();
    }
    PATHS.with_borrow_mut(|paths| {
        if let Some(p) = paths.get(text) {
            return Ok(p.clone());
        }
        let compiled = Path::parse(text).ok_or_else(|| {
            Error::row(format!("{} is not a JSON path that is supported", shown(text)))
                .note("paths: $.key.other[0]['key'], $.*, $[*], with lax or strict before")
        })?;
        if paths.len() >= PATHS_MAX {
            paths.clear();
        }
        let compiled = Rc::new(compiled);
        paths.insert(text.to_owned(), compiled.clone());
        Ok(compiled)
    })
}

impl Path {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (strict, text) = match (text.strip_prefix("lax "), text.strip_prefix("strict ")) {
            (Some(rest), _) => (false, rest.trim_start()),
            (_, Some(rest)) => (true, rest.trim_start()),
            _ => (false, text),
        };
        let mut rest = text.strip_prefix('$')?;
        let mut steps = vec![];
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                if let Some(after) = after.strip_prefix('*') {
                    steps.push(Step::All);
                    rest = after;
                    continue;
                }
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let key = &after[..end];
                if key.is_empty() || key.contains(['(', '?', '@', ' ', '\'', '"']) {
                    return None;
                }
                steps.push(Step::Key(key.to_owned()));
                rest = &after[end..];
            } else {
                let after = rest.strip_prefix('[')?.trim_start();
                if let Some(quote) = after.chars().next().filter(|c| matches!(c, '\'' | '"')) {
                    let (key, after) = after[1..].split_once(quote)?;
                    steps.push(Step::Key(key.to_owned()));
                    rest = after.trim_start().strip_prefix(']')?;
                } else {
                    let (inside, after) = after.split_once(']')?;
                    steps.push(match inside.trim() {
                        "*" => Step::All,
                        digits => Step::Index(digits.parse().ok()?),
                    });
                    rest = after;
                }
            }
        }
        Some(Path { steps, strict })
    }

    /// What is at the path; `Err` in strict mode if a step finds nothing.
    fn find<'j, 'a>(&self, root: &'j Json<'a>) -> Result<Vec<&'j Json<'a>>, ()> {
        let mut found = vec![root];
        for step in &self.steps {
            let mut next = vec![];
            for value in found {
                let before = next.len();
                match (step, value) {
                    // Of equal keys the last one counts.
                    (Step::Key(key), Json::Object(fields)) => {
                        next.extend(fields.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v));
                    }
                    (Step::Index(i), Json::Array(items)) => next.extend(items.get(*i)),
                    (Step::All, Json::Array(items)) => next.extend(items),
                    (Step::All, Json::Object(fields)) => next.extend(fields.iter().map(|(_, v)| v)),
                    // Lax mode looks into arrays, and takes a value for an array of one.
                    (Step::Index(0), value) if !self.strict => next.push(value),
                    _ => {}
                }
                if self.strict && next.len() == before && *step != Step::All {
                    return Err(());
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// There can be several values at the path.
    fn is_many(&self) -> bool {
        self.steps.contains(&Step::All)
    }
}

/// What to do where there is no value: `NULL`, `ERROR`, `DEFAULT` with a text, …
fn otherwise(
    c: &Call,
    row: usize,
    behaviour: usize,
    default: Option<usize>,
    what: &str,
    out: &mut String,
) -> Result<Option<()>> {
    match c.str_or(behaviour, row, "NULL").unwrap_or("NULL").to_ascii_uppercase().as_str() {
        "NULL" => Ok(None),
        "ERROR" => Err(Error::row(format!("{what} in {}", shown(c.str(0).get(row).unwrap_or_default())))),
        "EMPTY ARRAY" => {
            out.push_str("[]");
            Ok(Some(()))
        }
        "EMPTY OBJECT" => {
            out.push_str("{}");
            Ok(Some(()))
        }
        "DEFAULT" => Ok(default.and_then(|d| c.str_or(d, row, "")).map(|text| out.push_str(text))),
        other => Err(Error::row(format!("'{other}' is not NULL, ERROR or DEFAULT"))),
    }
}

/// `json_value(json, path [, on_empty, default_on_empty, on_error, default_on_error])`: behaviours are `NULL`, `ERROR`,
/// `DEFAULT`.
fn json_value(c: &Call) -> Result<ArrayRef> {
    let (s, p) = (c.str(0), c.str(1));
    c.try_strings(|i, out| {
        let (Some(s), Some(p)) = (s.get(i), p.get(i)) else { return Ok(None) };
        let path = path(p)?;
        let on_error = |out: &mut String, what: &str| otherwise(c, i, 4, Some(5), what, out);
        let Some(json) = Json::parse(s) else { return on_error(out, "no JSON") };
        let Ok(found) = path.find(&json) else { return on_error(out, "nothing at the path") };
        match found.as_slice() {
            [] => otherwise(c, i, 2, Some(3), &format!("nothing at {p}"), out),
            [Json::Null] => Ok(None),
            [Json::String(text)] => {
                out.push_str(text);
                Ok(Some(()))
            }
            [value] if value.is_scalar() => {
                value.write(out);
                Ok(Some(()))
            }
            [_] => on_error(out, &format!("no scalar at {p}")),
            _ => on_error(out, &format!("several values at {p}")),
        }
    })
}

/// `json_query(json, path [, wrapper, on_empty, on_error])`: wrapper `WITHOUT`, `CONDITIONAL`, `UNCONDITIONAL`;
/// behaviours `NULL`, `ERROR`, `EMPTY ARRAY`, `EMPTY OBJECT`.
fn json_query(c: &Call) -> Result<ArrayRef> {
    let (s, p) = (c.str(0), c.str(1));
    c.try_strings(|i, out| {
        let (Some(s), Some(p)) = (s.get(i), p.get(i)) else { return Ok(None) };
        let path = path(p)?;
        let wrapper = c.str_or(2, i, "WITHOUT").unwrap_or("WITHOUT").to_ascii_uppercase();
        let on_error = |out: &mut String, what: &str| otherwise(c, i, 4, None, what, out);
        let Some(json) = Json::parse(s) else { return on_error(out, "no JSON") };
        let Ok(found) = path.find(&json) else { return on_error(out, "nothing at the path") };
        let wrap = |out: &mut String, found: &[&Json]| {
            Json::Array(found.iter().map(|j| (*j).clone()).collect()).write(out);
            Ok(Some(()))
        };
        match (found.as_slice(), wrapper.as_str()) {
            ([], _) => otherwise(c, i, 3, None, &format!("nothing at {p}"), out),
            (found, "UNCONDITIONAL") => wrap(out, found),
            ([Json::Null], _) => Ok(None),
            ([value], "CONDITIONAL") if value.is_scalar() => wrap(out, &[*value]),
            ([value], _) if !value.is_scalar() && !path.is_many() => {
                value.write(out);
                Ok(Some(()))
            }
            ([value], "CONDITIONAL") => {
                value.write(out);
                Ok(Some(()))
            }
            (found, "CONDITIONAL") => wrap(out, found),
            ([value], _) if !value.is_scalar() => {
                value.write(out);
                Ok(Some(()))
            }
            ([_], _) => on_error(out, &format!("no object or array at {p}")),
            _ => on_error(out, &format!("several values at {p}")),
        }
    })
}

/// `json_exists(json, path [, on_error])`: `TRUE`, `FALSE`, `UNKNOWN`, `ERROR`.
fn json_exists(c: &Call) -> Result<ArrayRef> {
    let (s, p) = (c.str(0), c.str(1));
    let mut out = arrow::array::BooleanBuilder::with_capacity(c.rows);
    for i in 0..c.rows {
        let (Some(s), Some(p)) = (s.get(i), p.get(i)) else {
            out.append_null();
            continue;
        };
        let path = path(p)?;
        // In strict mode a step that finds nothing is an error, as is a text that is no JSON.
        let found = Json::parse(s).and_then(|json| path.find(&json).ok().map(|f| !f.is_empty()));
        let found = match found {
            Some(found) => Some(found),
            None => match c.str_or(2, i, "FALSE").unwrap_or("FALSE").to_ascii_uppercase().as_str() {
                "TRUE" => Some(true),
                "UNKNOWN" => None,
                "ERROR" => return Err(Error::row(format!("nothing at {p} in {}", shown(s)))),
                _ => Some(false),
            },
        };
        out.append_option(found);
    }
    Ok(std::sync::Arc::new(out.finish()))
}

fn is_json(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    c.bools(|i| {
        let kind = c.str_or(1, i, "VALUE")?;
        // As Flink, NULL is not JSON.
        let Some(s) = s.get(i) else { return Some(false) };
        Some(match (Json::parse(s), kind.to_ascii_uppercase().as_str()) {
            (None, _) => false,
            (Some(j), "OBJECT") => matches!(j, Json::Object(_)),
            (Some(j), "ARRAY") => matches!(j, Json::Array(_)),
            (Some(j), "SCALAR") => j.is_scalar(),
            _ => true,
        })
    })
}

/// Writes one value of a column as JSON.
///
/// # Errors
/// A type that has no JSON.
fn write_value(array: &ArrayRef, i: usize, out: &mut String) -> Result<()> {
    if *array.data_type() == DataType::Null || array.is_null(i) {
        out.push_str("null");
        return Ok(());
    }
    let ty = SqlType::from_arrow(array.data_type())
        .ok_or_else(|| Error::internal(format!("{} has no SQL type", array.data_type())))?;
    match &ty {
        SqlType::Boolean => out.push_str(if array.as_boolean().value(i) { "true" } else { "false" }),
        SqlType::Array(_) => {
            let items = array.as_list::<i32>().value(i);
            out.push('[');
            for j in 0..items.len() {
                if j > 0 {
                    out.push(',');
                }
                write_value(&items, j, out)?;
            }
            out.push(']');
        }
        SqlType::Map(..) => {
            let entries = array.as_map().value(i);
            let keys = text(entries.column(0))?;
            out.push('{');
            for j in 0..entries.len() {
                if j > 0 {
                    out.push(',');
                }
                quote(keys.as_string::<i32>().value(j), out);
                out.push(':');
                write_value(entries.column(1), j, out)?;
            }
            out.push('}');
        }
        SqlType::Row(columns) => {
            let row = array.as_struct();
            out.push('{');
            for (j, (column, values)) in columns.iter().zip(row.columns()).enumerate() {
                if j > 0 {
                    out.push(',');
                }
                quote(&column.name, out);
                out.push(':');
                write_value(values, i, out)?;
            }
            out.push('}');
        }
        ty => {
            let text = text(&array.slice(i, 1))?;
            let text = text.as_string::<i32>().value(0);
            // JSON has no NaN and no infinities.
            if ty.is_numeric() && text.ends_with(|c: char| c.is_ascii_digit()) {
                out.push_str(text);
            } else {
                quote(text, out);
            }
        }
    }
    Ok(())
}

fn text(array: &ArrayRef) -> Result<ArrayRef> {
    let ty = SqlType::from_arrow(array.data_type())
        .ok_or_else(|| Error::internal(format!("{} has no SQL type", array.data_type())))?;
    to_text(array, &ty)
}

fn json_string(c: &Call) -> Result<ArrayRef> {
    c.try_strings(|row, out| {
        if c.is_null(0, row) {
            return Ok(None);
        }
        write_value(c.array(0), c.index(0, row), out).map(Some)
    })
}

fn json_quote(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    c.strings(|i, out| s.get(i).map(|s| quote(s, out)))
}

fn json_object(c: &Call) -> Result<ArrayRef> {
    if c.len() % 2 == 1 {
        return Err(Error::type_("JSON_OBJECT takes keys and values in pairs"));
    }
    let keys = (0..c.len()).step_by(2).map(|a| text(c.array(a))).collect::<Result<Vec<_>>>()?;
    c.try_strings(|row, out| {
        out.push('{');
        for (n, keys) in keys.iter().enumerate() {
            let (keys, at) = (keys.as_string::<i32>(), c.index(2 * n, row));
            if keys.is_null(at) {
                return Err(Error::row("JSON_OBJECT with the key NULL"));
            }
            if n > 0 {
                out.push(',');
            }
            quote(keys.value(at), out);
            out.push(':');
            write_value(c.array(2 * n + 1), c.index(2 * n + 1, row), out)?;
        }
        out.push('}');
        Ok(Some(()))
    })
}

fn json_array(c: &Call) -> Result<ArrayRef> {
    c.try_strings(|row, out| {
        out.push('[');
        let mut first = true;
        for a in 0..c.len() {
            if c.is_null(a, row) {
                continue;
            }
            if !first {
                out.push(',');
            }
            first = false;
            write_value(c.array(a), c.index(a, row), out)?;
        }
        out.push(']');
        Ok(Some(()))
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{call, is};

    const NULL: Option<()> = None;
    const DOC: &str = r#"{"a": {"b": [10, 2.50, "x\ny"]}, "c d": true, "n": null, "big": 123456789012345678901234567890, "a": {"b": [1, 2.50, "é\u00e9"]}}"#;

    #[test]
    fn values_at_paths() {
        is! {
            json_value(DOC, "$.a.b[0]") => "1";
            json_value(DOC, "lax $.a['b'][1]") => "2.50";
            json_value(DOC, "$.a.b[2]") => "éé";
            json_value(DOC, "$['c d']") => "true";
            json_value(DOC, "$.big") => "123456789012345678901234567890";
            json_value(DOC, "$.n") => "NULL";
            json_value(DOC, "$.none") => "NULL";
            json_value(DOC, "$.a") => "NULL";
            json_value("{bad", "$.a") => "NULL";
            json_value(DOC, "$.none", "DEFAULT", "d", "NULL", "") => "d";
            json_value("{bad", "$.a", "NULL", "", "DEFAULT", "e") => "e";
            json_value(NULL, "$.a") => "NULL";
            json_value("\"s\"", "$") => "s";
        }
        assert!(call("json_value", &[&DOC, &"$.none", &"ERROR", &"", &"NULL", &""]).is_err());
        assert!(call("json_value", &[&DOC, &"strict $.none", &"NULL", &"", &"ERROR", &""]).is_err());
        assert!(call("json_value", &[&DOC, &"a.b"]).is_err());
        assert!(call("json_value", &[&DOC, &"$..b"]).is_err());
    }

    #[test]
    fn parts_of_documents() {
        is! {
            json_query(DOC, "$.a") => "{\"b\":[1,2.50,\"éé\"]}";
            json_query(DOC, "$.a.b[0]") => "NULL";
            json_query(DOC, "$.a.b[0]", "CONDITIONAL") => "[1]";
            json_query(DOC, "$.a.b", "UNCONDITIONAL") => "[[1,2.50,\"éé\"]]";
            json_query(DOC, "$.a.b[*]", "CONDITIONAL") => "[1,2.50,\"éé\"]";
            json_query(DOC, "$.none", "WITHOUT", "EMPTY ARRAY", "NULL") => "[]";
            json_query(NULL, "$.a") => "NULL";
            json_exists(DOC, "$.a.b[2]") => "TRUE";
            json_exists(DOC, "$.a.b[3]") => "FALSE";
            json_exists(DOC, "$.n") => "TRUE";
            json_exists("{bad", "$.n", "UNKNOWN") => "NULL";
            json_exists(NULL, "$.n") => "NULL";
            is_json("[1, 2]") => "TRUE";
            is_json("[1, 2]", "OBJECT") => "FALSE";
            is_json("01") => "FALSE";
            is_json("1 2") => "FALSE";
            is_json(NULL) => "FALSE";
        }
        let deep = "[".repeat(100_000);
        assert_eq!(call("is_json", &[&deep.as_str()]).unwrap(), "FALSE");
    }

    #[test]
    fn json_is_made() {
        is! {
            json_string("a\"b\n") => "\"a\\\"b\\n\"";
            json_string(1.5) => "1.5";
            json_string(NULL) => "NULL";
            json_quote("a") => "\"a\"";
            json_object("a", 1, "b", NULL) => "{\"a\":1,\"b\":null}";
            json_array(1, NULL, true, "x") => "[1,true,\"x\"]";
        }
    }
}
