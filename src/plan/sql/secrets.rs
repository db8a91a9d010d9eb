//! Where the values of secret options stand in a text, to hide them from errors, the shell's history and what is stored.
//! The text may be no valid statement: a value that is written wrongly is a secret all the same.

use std::ops::Range;

use thalweg_core::secret::{MASK, names_secret};

use crate::sql::lexer::{Lexeme, LexemeKind, lex};
use crate::sql::shell::is_keyword;
use crate::sql::tokens::string_value;

/// Asked with the connector (empty where the text does not name it) and the option's name, for options that their
/// connector declares as secret; names that say so themselves (`names_secret`) are always secrets.
pub type IsSecret<'a> = &'a dyn Fn(&str, &str) -> bool;

/// The text with the values of secret options as `'****'`, wherever they stand: in `WITH`, hints, `SET`. Also in a text
/// that is no valid statement, where everything behind such an option's name is hidden up to the `,` or `)`.
pub fn mask_secrets(text: &str, is_secret: IsSecret) -> String {
    let values = values(text, &lex(text), 0, is_secret, Reading::Shown);
    replaced(text, values.into_iter().map(|v| v.range))
}

/// As `mask_secrets` for a statement that has been parsed, in which a secret's value is a string: nothing else is
/// replaced, so that the text still says all that it means.
pub fn mask_parsed(text: &str, is_secret: IsSecret) -> String {
    let values = values(text, &lex(text), 0, is_secret, Reading::Parsed);
    replaced(text, values.into_iter().map(|v| v.range))
}

fn replaced(text: &str, ranges: impl Iterator<Item = Range<usize>>) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut copied = 0;
    for range in ranges {
        masked.push_str(&text[copied..range.start]);
        masked.push_str(&format!("'{MASK}'"));
        // Lines keep their numbers.
        masked.extend(text[range.clone()].chars().filter(|c| *c == '\n'));
        copied = range.end;
    }
    masked.push_str(&text[copied..]);
    masked
}

/// The value of a secret option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretValue {
    pub range: Range<usize>,
    /// It stands in a list of options and is not `= '…'`: no valid statement has it.
    pub is_misplaced: bool,
}

/// The values that no error about this text may quote.
pub(crate) fn shown_values(text: &str, lexemes: &[Lexeme]) -> Vec<SecretValue> {
    values(text, lexemes, 0, &|_, _| false, Reading::Shown)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Shown,
    Parsed,
}

/// What the parentheses are in which a lexeme stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    /// `WITH (`, `OPTIONS (`, `SET (`: of options.
    Options,
    /// Their first element looks like an option.
    Likely,
    Other,
    /// The statement `SET key = value`, up to its end.
    Setting,
}

/// The values, in order and without overlap, moved by `offset`.
fn values(text: &str, lexemes: &[Lexeme], offset: usize, is_secret: IsSecret, reading: Reading) -> Vec<SecretValue> {
    let significant: Vec<&Lexeme> = lexemes.iter().filter(|l| !l.is_trivia()).collect();
    let lists = lists(text, &significant);
    let mut found: Vec<SecretValue> = vec![];
    for (i, l) in significant.iter().enumerate() {
        if found.last().is_some_and(|f| l.range.start + offset < f.range.end) {
            continue;
        }
        if l.kind == LexemeKind::Hint {
            let inner = l.range.start + 3..if l.closed { l.range.end - 2 } else { l.range.end };
            if !inner.is_empty() {
                let (hint, from) = (&text[inner.clone()], offset + inner.start);
                found.extend(values(hint, &lex(hint), from, is_secret, reading));
            }
            continue;
        }
        let Some(key) = key_that_ends_at(text, &significant, i) else { continue };
        // Only of what has a value it is asked to which connector it belongs: that is a look at the whole list.
        let is_declared = || {
            string_behind_eq(text, &significant, i).is_some()
                && is_secret(&connector_around(text, &significant, i), &key)
        };
        if !names_secret(&key) && !is_declared() {
            continue;
        }
        let value = match reading {
            Reading::Parsed => string_behind_eq(text, &significant, i).map(|range| (range, false)),
            Reading::Shown => value_behind(text, &significant, i, lists[i]),
        };
        found.extend(value.map(|(range, is_misplaced)| SecretValue {
            range: range.start + offset..range.end + offset,
            is_misplaced,
        }));
    }
    found
}

/// The value of `'connector'` within the same parentheses, empty if there is none.
fn connector_around(text: &str, significant: &[&Lexeme], at: usize) -> String {
    let is = |i: usize, s: &str| significant[i].is_symbol(text, s);
    let from = (0..at).rev().find(|&i| is(i, "(")).map_or(0, |i| i + 1);
    let to = (at..significant.len()).find(|&i| is(i, ")")).unwrap_or(significant.len());
    significant[from..to]
        .windows(3)
        .find(|w| {
            w[0].kind == LexemeKind::String
                && string_value(w[0].text(text)).eq_ignore_ascii_case("connector")
                && w[1].is_symbol(text, "=")
                && w[2].kind == LexemeKind::String
        })
        .map(|w| string_value(w[2].text(text)))
        .unwrap_or_default()
}

/// For every lexeme the list in which it stands.
fn lists(text: &str, significant: &[&Lexeme]) -> Vec<List> {
    let is_word = |i: usize, words: &[&str]| words.iter().any(|w| significant[i].is_word(text, w));
    let mut open = vec![];
    let mut base = List::Other;
    let mut lists = Vec::with_capacity(significant.len());
    for (i, l) in significant.iter().enumerate() {
        let begins = i == 0 || significant[i - 1].is_symbol(text, ";");
        if begins {
            base = if is_word(i, &["SET", "RESET"]) { List::Setting } else { List::Other };
            open.clear();
        }
        lists.push(open.last().copied().unwrap_or(base));
        if l.is_symbol(text, "(") {
            let first = significant.get(i + 1).is_some_and(|f| is_quoted(f));
            let second = significant.get(i + 2).is_some_and(|s| s.is_symbol(text, "=") || is_literal(s));
            open.push(if i > 0 && is_word(i - 1, &["WITH", "OPTIONS", "SET", "RESET"]) {
                List::Options
            } else if first && second {
                List::Likely
            } else {
                List::Other
            });
        } else if l.is_symbol(text, ")") {
            open.pop();
        }
    }
    lists
}

fn is_quoted(l: &Lexeme) -> bool {
    matches!(l.kind, LexemeKind::String | LexemeKind::DoubleQuoted)
}

fn is_literal(l: &Lexeme) -> bool {
    is_quoted(l) || matches!(l.kind, LexemeKind::Number | LexemeKind::HexString | LexemeKind::UnicodeString)
}

/// The option's name whose last lexeme this is: something in quotes, or words and points (`SET a.b-c = …`).
fn key_that_ends_at(text: &str, significant: &[&Lexeme], at: usize) -> Option<String> {
    let l = significant[at];
    if is_quoted(l) || l.kind == LexemeKind::QuotedName {
        return Some(string_value(l.text(text)));
    }
    let is_part = |l: &Lexeme| l.kind == LexemeKind::Word || l.is_symbol(text, ".") || l.is_symbol(text, "-");
    let touches = |i: usize| significant[i].range.end == significant[i + 1].range.start;
    if l.kind != LexemeKind::Word || significant.get(at + 1).is_some_and(|next| is_part(next) && touches(at)) {
        return None;
    }
    let mut from = at;
    while from > 0 && is_part(significant[from - 1]) && touches(from - 1) {
        from -= 1;
    }
    Some(text[significant[from].range.start..l.range.end].to_owned())
}

fn string_behind_eq(text: &str, significant: &[&Lexeme], key: usize) -> Option<Range<usize>> {
    let value = significant.get(key + 2).filter(|v| v.kind == LexemeKind::String)?;
    significant[key + 1].is_symbol(text, "=").then(|| value.range.clone())
}

/// What stands behind a secret's name in a text that need not be valid, and whether it is misplaced.
fn value_behind(text: &str, significant: &[&Lexeme], key: usize, list: List) -> Option<(Range<usize>, bool)> {
    let has_eq = significant.get(key + 1).is_some_and(|l| l.is_symbol(text, "="));
    let first = key + 1 + usize::from(has_eq);
    let is_end = |l: &Lexeme| {
        l.is_symbol(text, ";") || (list != List::Setting && (l.is_symbol(text, ",") || l.is_symbol(text, ")")))
    };
    let is_name_in_quotes = is_quoted(significant[key]);
    let one_string = string_behind_eq(text, significant, key);
    let is_whole = |to: usize| one_string.is_some() && to == first + 1;
    match list {
        List::Options | List::Setting => {}
        // `IF('token' IS NULL, …)` is none.
        List::Likely
            if is_name_in_quotes
                && (has_eq
                    || significant.get(first).is_some_and(|l| {
                        is_literal(l) || (l.kind == LexemeKind::Word && !is_keyword(l.text(text)))
                    })) => {}
        _ => {
            // A comparison, perhaps: `password = x` is none of our business, `password = "x"` is no comparison.
            let value = significant.get(first).filter(|l| !is_end(l))?;
            if has_eq && (is_quoted(value) || is_name_in_quotes) || is_name_in_quotes && is_literal(value) {
                let mut last = first;
                while significant
                    .get(last + 1)
                    .is_some_and(|l| !is_end(l) && l.range.start == significant[last].range.end)
                {
                    last += 1;
                }
                return Some((value.range.start..significant[last].range.end, false));
            }
            return None;
        }
    }
    let to = (first..significant.len()).find(|i| is_end(significant[*i])).unwrap_or(significant.len());
    // A value that looks like a comment is one to the lexer.
    let from = significant[first - 1].range.end;
    let from = from + text[from..].len() - text[from..].trim_start().len();
    let end = match (to > first, has_eq) {
        (true, _) => significant[to - 1].range.end,
        (false, true) => {
            let end = significant.get(to).map_or(text.len(), |l| l.range.start);
            text[..end].trim_end().len()
        }
        (false, false) => return None,
    };
    (from < end).then(|| (from..end, list != List::Likely && !is_whole(to)))
}

/// Behind an option's name: a value that is none, as people type it.
#[cfg(test)]
pub(crate) const WRONG_VALUES: &[&str] = &[
    "= \"hunter2\"",
    "= hunter2",
    "'hunter2'",
    "hunter2",
    "\"hunter2\"",
    "`hunter2`",
    "= `hunter2`",
    "= 2hunter2",
    "= hunter2-x.y",
    "= FRMO_hunter2",
    "= 'x' 'hunter2'",
    "= X'hunter2'",
    "= --hunter2\n",
    "= 'hunter2",
    "== 'hunter2'",
    "=> hunter2",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn never(_: &str, _: &str) -> bool {
        false
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let secret = |c: &str, k: &str| c == "kafka" && k == "properties.sasl";
        let mask = |t: &str| mask_secrets(t, &secret);
        assert_eq!(
            mask("CREATE TABLE t (a INT) WITH ('properties.sasl' = 'pw', 'connector'='kafka')"),
            "CREATE TABLE t (a INT) WITH ('properties.sasl' = '****', 'connector'='kafka')"
        );
        assert_eq!(mask("x WITH ('connector' = 'other', 'properties.sasl' = 'a')").matches("****").count(), 0);
        assert_eq!(mask("FROM t /*+ OPTIONS('password'='p''w') */"), "FROM t /*+ OPTIONS('password'='****') */");
        assert_eq!(mask("SET 'my.password' = 'a'"), "SET 'my.password' = '****'");
        assert_eq!(mask("SET my.password = 'a'"), "SET my.password = '****'");
        // A text that does not end hides the rest.
        assert_eq!(mask("WITH ('password' = 'abc, 'x' ="), "WITH ('password' = '****'");
        assert_eq!(mask("WITH ('password' = 'abc"), "WITH ('password' = '****'");
    }

    #[test]
    fn a_secret_that_is_written_wrongly_is_masked_too() {
        let mask = |t: &str| mask_secrets(t, &never);
        for value in WRONG_VALUES {
            for (before, after) in [
                ("CREATE TABLE t (a INT) WITH ('password' ", ", 'x' = 'y')"),
                ("CREATE TABLE t (a INT) WITH ('x' = 'y', \"password\" ", ")"),
                ("CREATE TABLE t (a INT) WITH (password ", ")"),
                ("SELECT 1 FROM t /*+ OPTIONS('password' ", ") */"),
                ("SET 'password' ", ";"),
                ("SET my.password ", ";"),
            ] {
                let text = format!("{before}{value}{after}");
                let masked = mask(&text);
                assert!(!masked.contains("hunter2"), "{text} -> {masked}");
                assert_eq!(masked.lines().count(), text.lines().count(), "{text}");
            }
        }
        assert_eq!(mask("CREATE TABLE t (a INT) WIHT ('password' = hunter2)").matches("hunter2").count(), 0);
        assert_eq!(mask("x ('x' = 'y', 'password' hunter2)").matches("hunter2").count(), 0);
        assert_eq!(mask("SET 'password' = a,b; SELECT 'x'"), "SET 'password' = '****'; SELECT 'x'");
    }

    #[test]
    fn a_query_about_secrets_stays_whole() {
        for text in [
            "SELECT password FROM users WHERE password = old AND a > 5",
            "SELECT a, 'password' AS what FROM t",
            "SELECT CAST('password' AS STRING), 'token' || a",
            "SELECT a FROM t WHERE kind IN ('password', 'token')",
        ] {
            assert_eq!(mask_secrets(text, &never), text);
        }
        let text = "SELECT IF('token' = kind, 1, 2) FROM t WHERE 'token' = kind AND a > 5";
        assert_eq!(mask_parsed(text, &never), text);
    }
}
