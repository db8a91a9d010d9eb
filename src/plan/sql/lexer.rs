//! A SQL text cut into lexemes, losslessly and without ever failing: what the parser, the script splitter, the shell
//! (highlighting, completion, "is this statement finished?"), fingerprints and the hiding of secrets all work on.

use std::ops::Range;

use thalweg_core::Place;

/// What a stretch of the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LexemeKind {
    /// A keyword or a name without quotes.
    Word,
    /// A name in backticks.
    QuotedName,
    /// `'…'`
    String,
    /// `X'…'`
    HexString,
    /// `U&'…'`
    UnicodeString,
    /// `"…"`: neither a name nor a string here; kept as one piece for a good message.
    DoubleQuoted,
    Number,
    /// An operator or punctuation, one or two characters.
    Symbol,
    /// `-- …` to the end of the line.
    LineComment,
    /// `/* … */`
    BlockComment,
    /// `/*+ … */`
    Hint,
    Space,
}

/// A stretch of a text. `range` counts bytes, lines and columns count from 1 (columns in characters); the end column is
/// the one behind the last character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lexeme {
    pub kind: LexemeKind,
    pub range: Range<usize>,
    pub line: u32,
    pub column: u32,
    pub end_line: u32,
    pub end_column: u32,
    /// False for a string, name or comment whose end is missing.
    pub closed: bool,
}

impl Lexeme {
    pub fn text<'a>(&self, of: &'a str) -> &'a str {
        &of[self.range.clone()]
    }

    /// Where it stands; of one over several lines, its first character.
    pub fn place(&self) -> Place {
        let length = if self.line == self.end_line { self.end_column - self.column } else { 1 };
        Place::new(self.line, self.column, length)
    }

    /// White space or a comment (a hint is none).
    pub fn is_trivia(&self) -> bool {
        matches!(self.kind, LexemeKind::Space | LexemeKind::LineComment | LexemeKind::BlockComment)
    }

    /// Whether it is this word, in any case and without quotes.
    pub fn is_word(&self, of: &str, word: &str) -> bool {
        self.kind == LexemeKind::Word && self.text(of).eq_ignore_ascii_case(word)
    }

    pub fn is_symbol(&self, of: &str, symbol: &str) -> bool {
        self.kind == LexemeKind::Symbol && self.text(of) == symbol
    }
}

const TWO_CHARACTER_SYMBOLS: &[&str] = &["<=", ">=", "<>", "!=", "||", "=>", "->", "==", "::", ":=", "&&"];

/// Cuts a text into lexemes that cover all of it.
pub fn lex(text: &str) -> Vec<Lexeme> {
    let mut scanner = Scanner { text, at: 0, line: 1, column: 1 };
    let mut lexemes = Vec::with_capacity(text.len() / 4);
    while scanner.at < text.len() {
        let (from, line, column) = (scanner.at, scanner.line, scanner.column);
        let (kind, closed) = scanner.next_lexeme();
        lexemes.push(Lexeme {
            kind,
            range: from..scanner.at,
            line,
            column,
            end_line: scanner.line,
            end_column: scanner.column,
            closed,
        });
    }
    lexemes
}

pub(crate) fn starts_name(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

pub(crate) fn continues_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    column: u32,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn bump(&mut self) {
        if let Some(c) = self.peek() {
            self.at += c.len_utf8();
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
    }

    fn bump_while(&mut self, test: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&test) {
            self.bump();
        }
    }

    fn bump_over(&mut self, prefix: &str) {
        for _ in prefix.chars() {
            self.bump();
        }
    }

    /// Up to and over `quote`; a doubled one stands for itself. False at the end of the text.
    fn quoted(&mut self, quote: char) -> bool {
        while let Some(c) = self.peek() {
            self.bump();
            if c == quote {
                if self.peek() == Some(quote) {
                    self.bump();
                } else {
                    return true;
                }
            }
        }
        false
    }

    fn next_lexeme(&mut self) -> (LexemeKind, bool) {
        let c = self.peek().expect("called before the end of the text");
        let rest = self.rest();
        match c {
            c if is_space(c) => {
                self.bump_while(is_space);
                (LexemeKind::Space, true)
            }
            '-' if rest.starts_with("--") => {
                self.bump_while(|c| c != '\n');
                (LexemeKind::LineComment, true)
            }
            '/' if rest.starts_with("/*") => {
                let kind = if rest.starts_with("/*+") { LexemeKind::Hint } else { LexemeKind::BlockComment };
                self.bump_over("/*");
                (kind, self.block_comment())
            }
            '\'' => {
                self.bump();
                (LexemeKind::String, self.quoted('\''))
            }
            '`' => {
                self.bump();
                (LexemeKind::QuotedName, self.quoted('`'))
            }
            'x' | 'X' if rest[1..].starts_with('\'') => {
                self.bump_over("x'");
                (LexemeKind::HexString, self.quoted('\''))
            }
            'u' | 'U' if rest[1..].starts_with("&'") => {
                self.bump_over("u&'");
                (LexemeKind::UnicodeString, self.quoted('\''))
            }
            '"' => {
                // Only if it ends on its line: a stray one must not swallow the rest of a script.
                let closing = rest[1..].find(['"', '\n']).filter(|i| rest[1 + i..].starts_with('"'));
                match closing {
                    Some(i) => {
                        let end = self.at + i + 2;
                        while self.at < end {
                            self.bump();
                        }
                        (LexemeKind::DoubleQuoted, true)
                    }
                    None => {
                        self.bump();
                        (LexemeKind::DoubleQuoted, false)
                    }
                }
            }
            c if c.is_ascii_digit() => {
                self.number();
                (LexemeKind::Number, true)
            }
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.number();
                (LexemeKind::Number, true)
            }
            c if starts_name(c) => {
                self.bump_while(continues_name);
                (LexemeKind::Word, true)
            }
            _ => {
                match TWO_CHARACTER_SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                    Some(symbol) => self.bump_over(symbol),
                    None => self.bump(),
                }
                (LexemeKind::Symbol, true)
            }
        }
    }

    fn block_comment(&mut self) -> bool {
        while self.peek().is_some() {
            if self.rest().starts_with("*/") {
                self.bump_over("*/");
                return true;
            }
            self.bump();
        }
        false
    }

    /// Digits, a point with digits, an exponent with digits.
    fn number(&mut self) {
        let digits = |c: char| c.is_ascii_digit();
        self.bump_while(digits);
        let rest = self.rest();
        if rest.starts_with('.') && !rest[1..].starts_with(|c: char| starts_name(c) || c == '.') {
            self.bump();
            self.bump_while(digits);
        }
        let rest = self.rest();
        if rest.starts_with(['e', 'E']) {
            let signed = usize::from(rest[1..].starts_with(['+', '-']));
            if rest[1 + signed..].starts_with(digits) {
                self.bump_over(&"e+"[..1 + signed]);
                self.bump_while(digits);
            }
        }
    }
}

/// White space, and the mark that some editors put at the head of a file.
fn is_space(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(LexemeKind, &str)> {
        lex(text).iter().filter(|l| l.kind != LexemeKind::Space).map(|l| (l.kind, l.text(text))).collect()
    }

    #[test]
    fn every_character_belongs_to_exactly_one_lexeme() {
        let text = "SELECT 'a''b', `x``y` /* c */ -- d\n, 1.5e-3<=2 \u{fc}ber";
        let lexemes = lex(text);
        assert_eq!(lexemes.iter().map(|l| l.text(text)).collect::<String>(), text);
        assert!(lexemes.windows(2).all(|w| w[0].range.end == w[1].range.start));
    }

    #[test]
    fn doubled_quotes_do_not_end_a_string_or_a_name() {
        assert_eq!(kinds("'a''b' `c``d`"), [(LexemeKind::String, "'a''b'"), (LexemeKind::QuotedName, "`c``d`")]);
    }

    #[test]
    fn numbers_end_where_names_begin() {
        assert_eq!(kinds("1.5e3").len(), 1);
        assert_eq!(kinds(".5").len(), 1);
        assert_eq!(kinds("1.e"), [(LexemeKind::Number, "1"), (LexemeKind::Symbol, "."), (LexemeKind::Word, "e")]);
        assert_eq!(kinds("1e"), [(LexemeKind::Number, "1"), (LexemeKind::Word, "e")]);
    }

    #[test]
    fn a_comment_with_a_plus_is_a_hint() {
        assert_eq!(kinds("/*+ X */")[0].0, LexemeKind::Hint);
        assert_eq!(kinds("/* + X */")[0].0, LexemeKind::BlockComment);
    }

    #[test]
    fn columns_count_characters_and_lines_from_one() {
        let text = "\u{fc}\u{fc} a\n  b";
        let words: Vec<_> = lex(text).into_iter().filter(|l| l.kind == LexemeKind::Word).collect();
        assert_eq!((words[1].line, words[1].column), (1, 4));
        assert_eq!((words[2].line, words[2].column), (2, 3));
    }

    #[test]
    fn what_is_not_closed_says_so() {
        assert!(!lex("'abc")[0].closed);
        assert!(!lex("/* abc")[0].closed);
        assert!(!lex("`abc")[0].closed);
        assert!(lex("'abc'")[0].closed);
    }

    #[test]
    fn a_stray_double_quote_does_not_swallow_the_next_line() {
        assert_eq!(kinds("\"a\nb")[1], (LexemeKind::Word, "a"));
        assert_eq!(kinds("\"a\" b")[0], (LexemeKind::DoubleQuoted, "\"a\""));
    }
}
