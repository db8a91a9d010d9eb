//! Functions of regular expressions. The syntax is that of the `regex` crate: Java's without look-around and
//! back-references, so that every match takes linear time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use arrow::array::ArrayRef;
use regex::Regex;
use thalweg_core::{Error, Result};

use crate::function::{Arg, Call, Function, Ret};

/// Compiled patterns that a thread keeps.
const PATTERNS_MAX: usize = 64;

pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "regexp_replace",
        &[Arg::Str, Arg::Str, Arg::Str],
        Ret::Str,
        regexp_replace,
        "REGEXP_REPLACE(string, pattern, replacement)",
        "Every match replaced; $1 is the first group.",
    ),
    Function::new(
        "regexp_extract",
        &[Arg::Str, Arg::Str, Arg::Int],
        Ret::Str,
        regexp_extract,
        "REGEXP_EXTRACT(string, pattern[, group])",
        "The first match, or a group of it; NULL if there is none.",
    )
    .optional(1),
    Function::new(
        "regexp",
        &[Arg::Str, Arg::Str],
        Ret::Bool,
        regexp,
        "REGEXP(string, pattern)",
        "Whether the pattern matches anywhere in the text.",
    )
    .aliases(&["rlike"]),
];

/// A compiled pattern, kept by the thread.
///
/// # Errors
/// A pattern that is not one.
pub fn pattern(text: &str) -> Result<Rc<Regex>> {
    thread_local! {
        static PATTERNS: RefCell<HashMap<String, Rc<Regex>>> = RefCell::default();
    }
    PATTERNS.with_borrow_mut(|patterns| {
        if let Some(p) = patterns.get(text) {
            return Ok(p.clone());
        }
        let compiled = Regex::new(text).map_err(|e| {
            let reason = e.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Error::row(format!("'{text}' is not a regular expression: {reason}"))
        })?;
        if patterns.len() >= PATTERNS_MAX {
            patterns.clear();
        }
        let compiled = Rc::new(compiled);
        patterns.insert(text.to_owned(), compiled.clone());
        Ok(compiled)
    })
}

/// The patterns of a column: looked up when they change from row to row.
struct Patterns<'a> {
    last: Option<(&'a str, Rc<Regex>)>,
}

impl<'a> Patterns<'a> {
    fn get(&mut self, text: &'a str) -> Result<Rc<Regex>> {
        if let Some((last, p)) = &self.last
            && *last == text
        {
            return Ok(p.clone());
        }
        let p = pattern(text)?;
        self.last = Some((text, p.clone()));
        Ok(p)
    }
}

/// Java's replacement text as the crate's: `$1` is a group also before a letter, `\$` is a dollar.
fn replacement(java: &str) -> String {
    let mut out = String::with_capacity(java.len() + 4);
    let mut chars = java.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('$') => out.push_str("$$"),
                Some(c) => out.push(c),
                None => out.push('\\'),
            },
            '$' if chars.peek().is_some_and(char::is_ascii_digit) => {
                out.push_str("${");
                while let Some(d) = chars.next_if(char::is_ascii_digit) {
                    out.push(d);
                }
                out.push('}');
            }
            '$' if chars.peek() == Some(&'{') => out.push('$'),
            '$' => out.push_str("$$"),
            c => out.push(c),
        }
    }
    out
}

fn regexp_replace(c: &Call) -> Result<ArrayRef> {
    let (s, p, r) = (c.str(0), c.str(1), c.str(2));
    let mut patterns = Patterns { last: None };
    let mut last: Option<(&str, String)> = None;
    c.try_strings(|i, out| {
        let (Some(s), Some(p), Some(r)) = (s.get(i), p.get(i), r.get(i)) else { return Ok(None) };
        if last.as_ref().is_none_or(|(l, _)| *l != r) {
            last = Some((r, replacement(r)));
        }
        let r = last.as_ref().map_or("", |(_, r)| r);
        out.push_str(&patterns.get(p)?.replace_all(s, r));
        Ok(Some(()))
    })
}

fn regexp_extract(c: &Call) -> Result<ArrayRef> {
    let (s, p) = (c.str(0), c.str(1));
    let mut patterns = Patterns { last: None };
    c.try_strings(|i, out| {
        let (Some(s), Some(p), Some(group)) = (s.get(i), p.get(i), c.int_or(2, i, 0)) else { return Ok(None) };
        let p = patterns.get(p)?;
        let found = usize::try_from(group).ok().and_then(|g| p.captures(s)?.get(g).map(|m| m.as_str()));
        Ok(found.map(|m| out.push_str(m)))
    })
}

fn regexp(c: &Call) -> Result<ArrayRef> {
    let (s, p) = (c.str(0), c.str(1));
    let mut patterns = Patterns { last: None };
    let mut out = arrow::array::BooleanBuilder::with_capacity(c.rows);
    for i in 0..c.rows {
        out.append_option(match (s.get(i), p.get(i)) {
            (Some(s), Some(p)) => Some(patterns.get(p)?.is_match(s)),
            _ => None,
        });
    }
    Ok(std::sync::Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use crate::testing::{call, is};

    const NULL: Option<()> = None;

    #[test]
    fn regular_expressions() {
        is! {
            regexp_replace("foobar", "oo|ar", "") => "fb";
            regexp_replace("a1b2", "([a-z])([0-9])", "$2$1x") => "1ax2bx";
            regexp_replace("a", "a", "\\$1") => "$1";
            regexp_replace(NULL, "a", "b") => "NULL";
            regexp_extract("foothebar", "foo(.*?)(bar)", 2) => "bar";
            regexp_extract("foothebar", "the") => "the";
            regexp_extract("foothebar", "x") => "NULL";
            regexp_extract("foothebar", "(the)", 5) => "NULL";
            regexp_extract("foothebar", NULL) => "NULL";
            regexp("foothebar", "t.e") => "TRUE";
            regexp("foothebar", "^t") => "FALSE";
            regexp(NULL, "^t") => "NULL";
        }
        let e = call("regexp", &[&"a", &"("]).unwrap_err();
        assert!(e.message().starts_with("'(' is not a regular expression"), "{e}");
    }
}
