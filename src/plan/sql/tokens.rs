//! From lexemes to statements: a script is cut at its semicolons, a statement becomes the parser's tokens (with places) or
//! its fingerprint.

use std::ops::Range;

use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};
use thalweg_core::secret::MASK;
use thalweg_core::{Error, Place, Result};

use crate::sql::lexer::{Lexeme, LexemeKind, lex};
use crate::sql::secrets::{SecretValue, mask_parsed, shown_values};

/// One statement of a script: its text without the semicolon and without the comments around it, and where in the
/// script it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementText<'a> {
    pub text: &'a str,
    /// Bytes before it in the script.
    pub offset: usize,
    pub line: u32,
    pub column: u32,
    /// Whether its `;` was there.
    pub terminated: bool,
}

/// Whether a text that is being typed can be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// Nothing but white space and comments.
    Empty,
    /// Every statement in it ends with `;`.
    Complete,
    NeedsSemicolon,
    OpenString,
    OpenName,
    OpenComment,
    /// `EXECUTE STATEMENT SET BEGIN …` without its `END`.
    OpenStatementSet,
}

/// Cuts a script at the semicolons between statements; those within strings, comments, quoted names and statement sets
/// do not count. Empty statements are left out.
pub fn split_script(script: &str) -> Vec<StatementText<'_>> {
    let lexemes = lex(script);
    split(script, &lexemes).0
}

/// Says whether a text that is being typed is finished.
pub fn is_complete(text: &str) -> Completeness {
    let lexemes = lex(text);
    if let Some(last) = lexemes.last().filter(|l| !l.closed) {
        return match last.kind {
            LexemeKind::String | LexemeKind::HexString | LexemeKind::UnicodeString => Completeness::OpenString,
            LexemeKind::QuotedName => Completeness::OpenName,
            LexemeKind::BlockComment | LexemeKind::Hint => Completeness::OpenComment,
            _ => Completeness::NeedsSemicolon,
        };
    }
    let (statements, set_is_open) = split(text, &lexemes);
    match statements.last() {
        None => Completeness::Empty,
        Some(_) if set_is_open => Completeness::OpenStatementSet,
        Some(last) if last.terminated => Completeness::Complete,
        Some(_) => Completeness::NeedsSemicolon,
    }
}

/// The statements, and whether the last one is a statement set whose `END` is missing.
fn split<'a>(script: &'a str, lexemes: &[Lexeme]) -> (Vec<StatementText<'a>>, bool) {
    let mut statements = vec![];
    let mut from = 0;
    let mut set_is_open = false;
    while let Some(skipped) = lexemes[from..].iter().position(|l| !l.is_trivia()) {
        from += skipped;
        if lexemes[from].is_symbol(script, ";") {
            from += 1;
            continue;
        }
        let (end, open) = end_of_statement(script, &lexemes[from..]);
        let of = &lexemes[from..from + end];
        let last = of.iter().rposition(|l| !l.is_trivia()).expect("begins with a lexeme that counts");
        let (first, last) = (&of[0], &of[last]);
        statements.push(StatementText {
            text: &script[first.range.start..last.range.end],
            offset: first.range.start,
            line: first.line,
            column: first.column,
            terminated: from + end < lexemes.len(),
        });
        set_is_open = open;
        from += end;
        if from < lexemes.len() {
            from += 1; // the semicolon
        }
    }
    (statements, set_is_open)
}

/// How many lexemes the first statement has, and whether it is a statement set that does not end.
fn end_of_statement(script: &str, lexemes: &[Lexeme]) -> (usize, bool) {
    let mut significant = lexemes.iter().enumerate().filter(|(_, l)| !l.is_trivia());
    let semicolon = |l: &Lexeme| l.is_symbol(script, ";");
    if !begins_statement_set(script, lexemes) {
        return (significant.find(|(_, l)| semicolon(l)).map_or(lexemes.len(), |(i, _)| i), false);
    }
    // `END` closes the set, unless it closes a CASE.
    let mut open_cases = 0_usize;
    let mut closed = false;
    for (i, l) in significant {
        if closed && semicolon(l) {
            return (i, false);
        } else if l.is_word(script, "CASE") {
            open_cases += 1;
        } else if l.is_word(script, "END") {
            closed = open_cases == 0;
            open_cases = open_cases.saturating_sub(1);
        }
    }
    (lexemes.len(), !closed)
}

/// `[EXPLAIN …] [EXECUTE] STATEMENT SET BEGIN`, and Flink's older `BEGIN STATEMENT SET;`.
fn begins_statement_set(script: &str, lexemes: &[Lexeme]) -> bool {
    let words: Vec<&str> = lexemes
        .iter()
        .filter(|l| !l.is_trivia())
        .take(6)
        .take_while(|l| l.kind == LexemeKind::Word)
        .map(|l| l.text(script))
        .collect();
    let begins = |words: &[&str], with: &[&str]| {
        words.len() >= with.len() && words.iter().zip(with).all(|(w, expected)| w.eq_ignore_ascii_case(expected))
    };
    if begins(&words, &["BEGIN", "STATEMENT", "SET"]) || begins(&words, &["EXECUTE", "STATEMENT", "SET"]) {
        return true;
    }
    begins(&words, &["EXPLAIN"])
        && (1..words.len().min(4)).any(|i| {
            begins(&words[i..], &["STATEMENT", "SET"]) || begins(&words[i..], &["EXECUTE", "STATEMENT", "SET"])
        })
}

/// The tokens of a statement, comments and white space left out, with one space between them: equal if and only if
/// nothing but these two differ. Values of options that hold secrets are masked (see `mask_parsed`), so that it can be
/// stored and a changed password is not a changed statement.
pub fn fingerprint(statement: &str, is_secret: &dyn Fn(&str, &str) -> bool) -> String {
    let masked = mask_parsed(statement, is_secret);
    let lexemes = lex(&masked);
    let mut parts: Vec<&str> = lexemes.iter().filter(|l| !l.is_trivia()).map(|l| l.text(&masked)).collect();
    while parts.last() == Some(&";") {
        parts.pop();
    }
    parts.join(" ")
}

/// The value of a string literal or quoted name: without its quotes, doubled ones single.
pub(crate) fn string_value(literal: &str) -> String {
    let quote = literal.chars().next().unwrap_or('\'');
    let inner = literal.strip_prefix(quote).unwrap_or(literal);
    let inner = inner.strip_suffix(quote).unwrap_or(inner);
    let doubled: String = [quote, quote].iter().collect();
    inner.replace(&doubled, &quote.to_string())
}

/// A string literal with this value.
pub(crate) fn string_literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// The place of a span; of one over several lines, its first character.
pub fn place_of(span: Span) -> Place {
    let length = if span.start.line == span.end.line { span.end.column.saturating_sub(span.start.column) } else { 1 };
    Place::new(span.start.line as u32, span.start.column as u32, length as u32)
}

/// A hint as it stands in the text, and the token behind which it stands.
#[derive(Debug, Clone)]
pub(crate) struct HintText {
    /// What is between `/*+` and `*/`.
    pub text: String,
    pub place: Place,
    /// Where `text` begins, to move places found in it.
    pub text_line: u32,
    pub text_column: u32,
    /// Ordinal of the token before it.
    pub behind: Option<usize>,
    /// In bytes, the whole hint.
    range: Range<usize>,
}

/// A statement as the parser's tokens, each with the bytes that it stands for.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub text: &'a str,
    pub tokens: Vec<TokenWithSpan>,
    ranges: Vec<Range<usize>>,
    pub hints: Vec<HintText>,
}

impl<'a> Source<'a> {
    /// Fails on what can be no token: unknown characters, strings and comments without an end. What stands where the
    /// value of a secret option belongs and is no string becomes `****` here, before any error can quote it.
    pub fn new(text: &'a str) -> Result<Self> {
        let mut source = Source { text, tokens: vec![], ranges: vec![], hints: vec![] };
        let mut number_before: Option<usize> = None;
        let lexemes = lex(text);
        let secrets = shown_values(text, &lexemes);
        for l in &lexemes {
            if l.is_trivia() && l.closed {
                continue;
            }
            if l.kind == LexemeKind::Hint && l.closed {
                source.hints.push(HintText {
                    text: text[l.range.start + 3..(l.range.end - 2).max(l.range.start + 3)].to_owned(),
                    place: l.place(),
                    text_line: l.line,
                    text_column: l.column + 3,
                    behind: source.tokens.len().checked_sub(1),
                    range: l.range.clone(),
                });
                continue;
            }
            let secret = secrets.iter().find(|s| s.range.contains(&l.range.start));
            if l.kind == LexemeKind::Word && number_before == Some(l.range.start) && secret.is_none() {
                let name = format!("{}{}", source.tokens.last().expect("the number").token, l.text(text));
                return Err(Error::syntax(format!("a name that begins with a digit needs backticks: `{name}`"))
                    .at(place_of(source.tokens.last().expect("the number").span)));
            }
            number_before = (l.kind == LexemeKind::Number).then_some(l.range.end);
            let span = Span::new(
                Location::new(l.line.into(), l.column.into()),
                Location::new(l.end_line.into(), l.end_column.into()),
            );
            let token = to_token(l, text, secret).map_err(|e| e.at(l.place()))?;
            source.tokens.push(TokenWithSpan::new(token, span));
            source.ranges.push(l.range.clone());
        }
        Ok(source)
    }

    /// The text from token `from` to before token `to`, and of the hints behind these.
    pub fn text_of(&self, from: usize, to: usize) -> &'a str {
        match (self.ranges.get(from), self.ranges.get(to.wrapping_sub(1))) {
            (Some(first), Some(last)) if from < to => {
                let hint = self.hints.iter().rev().find(|h| h.behind == Some(to - 1));
                &self.text[first.start..hint.map_or(last.end, |h| h.range.end)]
            }
            _ => "",
        }
    }
}

fn to_token(l: &Lexeme, text: &str, secret: Option<&SecretValue>) -> Result<Token> {
    let lexeme = l.text(text);
    if l.closed && secret.is_some_and(|s| s.is_misplaced) {
        return Ok(Token::Placeholder(MASK.to_owned()));
    }
    if !l.closed {
        return Err(match l.kind {
            LexemeKind::QuotedName => Error::syntax("the name that begins here has no closing backtick")
                .note("a backtick within a name is written twice: ``"),
            LexemeKind::BlockComment | LexemeKind::Hint => {
                Error::syntax("the comment that begins here does not end").note("it ends with */")
            }
            LexemeKind::DoubleQuoted => double_quoted(None),
            _ => Error::syntax("the string that begins here does not end")
                .note("a single quote within a string is written twice: ''"),
        });
    }
    Ok(match l.kind {
        LexemeKind::Word => Token::make_word(lexeme, None),
        LexemeKind::QuotedName => {
            let name = string_value(lexeme);
            if name.is_empty() {
                return Err(Error::syntax("a name must have at least one character"));
            }
            Token::make_word(&name, Some('`'))
        }
        LexemeKind::String => Token::SingleQuotedString(string_value(lexeme)),
        LexemeKind::HexString => {
            let digits = string_value(&lexeme[1..]);
            if !digits.chars().all(|c| c.is_ascii_hexdigit()) || !digits.len().is_multiple_of(2) {
                let shown = if secret.is_some() { MASK } else { lexeme };
                return Err(Error::syntax(format!("{shown} is not an even number of hexadecimal digits")));
            }
            Token::HexStringLiteral(digits)
        }
        LexemeKind::UnicodeString => Token::SingleQuotedString(unescape_unicode(&string_value(&lexeme[2..]))?),
        LexemeKind::DoubleQuoted => return Err(double_quoted(Some(lexeme).filter(|_| secret.is_none()))),
        LexemeKind::Number => Token::Number(lexeme.to_owned(), false),
        LexemeKind::Symbol => symbol(lexeme)?,
        LexemeKind::Space | LexemeKind::LineComment | LexemeKind::BlockComment | LexemeKind::Hint => {
            return Err(Error::internal("a comment is not a token"));
        }
    })
}

fn double_quoted(lexeme: Option<&str>) -> Error {
    let e = Error::syntax("double quotes are not used in this dialect")
        .note("names are quoted with backticks (`a name`), strings with single quotes ('a string')");
    match lexeme.map(|l| l.trim_matches('"')) {
        Some(name) if !name.is_empty() && !name.contains('`') => e.propose(Some(format!("did you mean `{name}`?"))),
        _ => e,
    }
}

fn symbol(symbol: &str) -> Result<Token> {
    Ok(match symbol {
        "," => Token::Comma,
        ";" => Token::SemiColon,
        "(" => Token::LParen,
        ")" => Token::RParen,
        "[" => Token::LBracket,
        "]" => Token::RBracket,
        "." => Token::Period,
        "=" => Token::Eq,
        "<>" | "!=" => Token::Neq,
        "<" => Token::Lt,
        "<=" => Token::LtEq,
        ">" => Token::Gt,
        ">=" => Token::GtEq,
        "+" => Token::Plus,
        "-" => Token::Minus,
        "*" => Token::Mul,
        "/" => Token::Div,
        "%" => Token::Mod,
        "||" => Token::StringConcat,
        "=>" => Token::RArrow,
        "&" => Token::Ampersand,
        "|" => Token::Pipe,
        "^" => Token::Caret,
        "==" => return Err(Error::syntax("there is no operator \"==\"").propose(Some("did you mean \"=\"?"))),
        "&&" => return Err(Error::syntax("there is no operator \"&&\"").propose(Some("did you mean \"AND\"?"))),
        "::" => {
            return Err(Error::syntax("there is no operator \"::\"").note("a type is changed with CAST(value AS type)"));
        }
        "!" => return Err(Error::syntax("there is no operator \"!\"").propose(Some("did you mean \"NOT\"?"))),
        "?" => return Err(Error::syntax("\"?\" is no value: there are no statement parameters")),
        other => return Err(Error::syntax(format!("the character \"{other}\" means nothing here"))),
    })
}

/// `\0041` and `\+000041` are characters by their number, `\\` is a backslash.
fn unescape_unicode(value: &str) -> Result<String> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('\\') {
            out.push('\\');
            rest = after;
            continue;
        }
        let (skip, digits) = if rest.starts_with('+') { (1, 6) } else { (0, 4) };
        let escape = rest.get(skip..skip + digits);
        let c = escape.and_then(|d| u32::from_str_radix(d, 16).ok()).and_then(char::from_u32);
        let Some(c) = c else {
            return Err(Error::syntax("\"\\\" in this string must be followed by the number of a character")
                .note("four hexadecimal digits (\\00e4), or + and six (\\+01f600); a backslash is written \\\\"));
        };
        out.push(c);
        rest = &rest[skip + digits..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<(&str, u32, u32, bool)> {
        split_script(script).into_iter().map(|s| (s.text, s.line, s.column, s.terminated)).collect()
    }

    fn never(_: &str, _: &str) -> bool {
        false
    }

    #[test]
    fn a_script_is_cut_at_its_semicolons_with_places() {
        let script = "-- first\nSELECT 1;\n  /* ; */ SELECT ';' ; ; SELECT `;`";
        assert_eq!(
            texts(script),
            [("SELECT 1", 2, 1, true), ("SELECT ';'", 3, 11, true), ("SELECT `;`", 3, 26, false)]
        );
    }

    #[test]
    fn comments_behind_the_last_statement_are_no_statement() {
        assert_eq!(texts("SELECT 1; -- done\n").len(), 1);
        assert_eq!(texts(" /* nothing */ ;;"), []);
    }

    #[test]
    fn a_statement_set_is_one_statement() {
        let script = "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT CASE WHEN x THEN 1 END FROM t; INSERT INTO b SELECT 2; END; SELECT 1;";
        let parts = texts(script);
        assert_eq!(parts.len(), 2);
        assert!(parts[0].0.ends_with("END"));
        let old = "BEGIN STATEMENT SET; INSERT INTO a SELECT 1; END; SELECT 1";
        assert_eq!(texts(old).len(), 2);
        let explained = "EXPLAIN VERBOSE STATEMENT SET BEGIN INSERT INTO a SELECT 1; END; SELECT 2;";
        assert_eq!(texts(explained).len(), 2);
    }

    #[test]
    fn what_is_typed_is_complete_when_every_statement_is_closed() {
        assert_eq!(is_complete(""), Completeness::Empty);
        assert_eq!(is_complete(" -- hm"), Completeness::Empty);
        assert_eq!(is_complete("SELECT 1"), Completeness::NeedsSemicolon);
        assert_eq!(is_complete("SELECT 1;"), Completeness::Complete);
        assert_eq!(is_complete("SELECT 1; SELECT 2"), Completeness::NeedsSemicolon);
        assert_eq!(is_complete("SELECT 1; -- done"), Completeness::Complete);
        assert_eq!(is_complete("SELECT ';"), Completeness::OpenString);
        assert_eq!(is_complete("SELECT `;"), Completeness::OpenName);
        assert_eq!(is_complete("SELECT 1; /* "), Completeness::OpenComment);
        assert_eq!(is_complete("EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1;"), Completeness::OpenStatementSet);
        assert_eq!(
            is_complete("EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; END"),
            Completeness::NeedsSemicolon
        );
        assert_eq!(is_complete("EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; END;"), Completeness::Complete);
    }

    #[test]
    fn a_fingerprint_ignores_white_space_and_comments_only() {
        let a = fingerprint("SELECT a,b /* x */ FROM t -- y\n;", &never);
        assert_eq!(a, fingerprint("SELECT  a ,\n b FROM t", &never));
        assert_ne!(a, fingerprint("SELECT a, b FROM T", &never));
        assert_ne!(a, fingerprint("SELECT a, b FROM t /*+ OPTIONS('x'='y') */", &never));
        assert_ne!(fingerprint("SELECT 'a  b'", &never), fingerprint("SELECT 'a b'", &never));
    }

    #[test]
    fn a_changed_password_does_not_change_the_fingerprint() {
        let with = |p: &str| format!("CREATE TABLE t (a INT) WITH ('connector' = 'x', 'password' = '{p}')");
        assert_eq!(fingerprint(&with("a"), &never), fingerprint(&with("b''c"), &never));
        assert!(!fingerprint(&with("hidden"), &never).contains("hidden"));
    }

    #[test]
    fn unknown_characters_and_open_strings_have_their_place() {
        let place = |t: &str| Source::new(t).unwrap_err().place().unwrap();
        assert_eq!(place("SELECT\n a ? b"), Place::new(2, 4, 1));
        assert_eq!(place("SELECT 'abc"), Place::new(1, 8, 4));
        assert_eq!(place("SELECT \"a\""), Place::new(1, 8, 3));
        assert_eq!(place("SELECT 1abc"), Place::new(1, 8, 1));
        assert_eq!(Source::new("SELECT \"a b\"").unwrap_err().proposal(), Some("did you mean `a b`?"));
    }

    #[test]
    fn unicode_strings_are_unescaped() {
        let token = |t: &str| Source::new(t).unwrap().tokens[0].token.clone();
        assert_eq!(token("U&'\\00e4\\\\\\+01f600'"), Token::SingleQuotedString("\u{e4}\\\u{1f600}".into()));
        assert!(Source::new("U&'\\zz'").is_err());
        assert!(Source::new("X'abc'").is_err());
    }
}
