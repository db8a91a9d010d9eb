//! Statements in words: enough of MySQL's lexical rules to tell names from texts.

/// A word of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A key word or a name that is not quoted, as it was written.
    Word(String),
    /// A quoted name.
    Name(String),
    Text(String),
    Number(String),
    /// Any other character.
    Sign(char),
}

/// What quotes mean, by the session's `sql_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotes {
    /// ANSI_QUOTES: `"a"` is a name.
    pub double_is_name: bool,
    /// NO_BACKSLASH_ESCAPES is not set.
    pub backslash_escapes: bool,
}

impl Quotes {
    pub fn of_mode(sql_mode: u64) -> Quotes {
        const ANSI_QUOTES: u64 = 1 << 2;
        const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;
        Quotes { double_is_name: sql_mode & ANSI_QUOTES != 0, backslash_escapes: sql_mode & NO_BACKSLASH_ESCAPES == 0 }
    }
}

impl Token {
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    pub fn is_sign(&self, sign: char) -> bool {
        *self == Token::Sign(sign)
    }

    /// A name, quoted or not.
    pub fn name(&self) -> Option<&str> {
        match self {
            Token::Word(name) | Token::Name(name) => Some(name),
            _ => None,
        }
    }
}

/// The words of a statement, comments left out; what stands in `/*! … */` counts. `None`: a quote without an end.
pub fn tokens(text: &str, quotes: Quotes) -> Option<Vec<Token>> {
    let mut lexer = Lexer { rest: text, quotes, versioned: false, tokens: vec![] };
    lexer.run()?;
    Some(lexer.tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    quotes: Quotes,
    /// Within `/*!`.
    versioned: bool,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn run(&mut self) -> Option<()> {
        while let Some(first) = self.rest.chars().next() {
            match first {
                c if c.is_whitespace() || c == '\0' => self.skip(c.len_utf8()),
                '#' => self.skip_line(),
                '-' if self.is_dash_comment() => self.skip_line(),
                '/' if self.rest.starts_with("/*!") || self.rest.starts_with("/*+") => {
                    self.versioned = true;
                    self.skip(3);
                    let digits = self.rest.bytes().take_while(u8::is_ascii_digit).count();
                    self.skip(digits);
                }
                '/' if self.rest.starts_with("/*") => {
                    let end = self.rest[2..].find("*/")?;
                    self.skip(end + 4);
                }
                '*' if self.versioned && self.rest.starts_with("*/") => {
                    self.versioned = false;
                    self.skip(2);
                }
                '`' => {
                    let name = self.quoted('`', false)?;
                    self.tokens.push(Token::Name(name));
                }
                '"' if self.quotes.double_is_name => {
                    let name = self.quoted('"', false)?;
                    self.tokens.push(Token::Name(name));
                }
                '\'' | '"' => {
                    let text = self.quoted(first, self.quotes.backslash_escapes)?;
                    self.tokens.push(Token::Text(text));
                }
                c if c.is_ascii_digit() => {
                    let end = self.rest.find(|c: char| !is_word(c) && c != '.').unwrap_or(self.rest.len());
                    let word = self.rest[..end].to_owned();
                    self.skip(end);
                    // Names may begin with a digit.
                    let is_number =
                        word.starts_with("0x") || word.chars().all(|c| c.is_ascii_digit() || ".eE".contains(c));
                    self.tokens.push(if is_number { Token::Number(word) } else { Token::Word(word) });
                }
                c if is_word(c) => {
                    let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
                    self.tokens.push(Token::Word(self.rest[..end].to_owned()));
                    self.skip(end);
                }
                c => {
                    self.tokens.push(Token::Sign(c));
                    self.skip(c.len_utf8());
                }
            }
        }
        Some(())
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn skip_line(&mut self) {
        self.skip(self.rest.find('\n').map_or(self.rest.len(), |end| end + 1));
    }

    /// `--` begins a comment only before white space.
    fn is_dash_comment(&self) -> bool {
        let after = self.rest.strip_prefix("--").map(|rest| rest.chars().next());
        after.is_some_and(|c| c.is_none_or(|c| c.is_whitespace() || c.is_control()))
    }

    /// What stands between two quotes; a doubled quote is one.
    fn quoted(&mut self, quote: char, escapes: bool) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                if chars.next_if(|(_, c)| *c == quote).is_none() {
                    self.skip(at + 1);
                    return Some(text);
                }
                text.push(quote);
            } else if c == '\\' && escapes {
                text.push(match chars.next()?.1 {
                    '0' => '\0',
                    'b' => '\u{8}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'Z' => '\u{1a}',
                    other => other,
                });
            } else {
                text.push(c);
            }
        }
        None
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, sql_mode: u64) -> Vec<Token> {
        tokens(text, Quotes::of_mode(sql_mode)).unwrap()
    }

    #[test]
    fn quotes_mean_what_the_session_said() {
        let plain = words(r#"a `b``c` 'it''s\n' "x" 12.5 1a,"#, 0);
        let text = |t: &str| Token::Text(t.to_owned());
        let word = |t: &str| Token::Word(t.to_owned());
        let name = |t: &str| Token::Name(t.to_owned());
        let number = |t: &str| Token::Number(t.to_owned());
        assert_eq!(
            plain,
            [word("a"), name("b`c"), text("it's\n"), text("x"), number("12.5"), word("1a"), Token::Sign(',')]
        );
        assert_eq!(words(r#""x" '\'"#, 1 << 2 | 1 << 20), [name("x"), text("\\")]);
    }

    #[test]
    fn comments_are_left_out_but_for_those_that_count() {
        let found = words("a -- b `\n/* c ' */ d # e\n/*!50100 f */ g--h /* generated */", 0);
        let found: Vec<_> = found.iter().filter_map(Token::name).collect();
        assert_eq!(found, ["a", "d", "f", "g", "h"]);
    }

    #[test]
    fn a_quote_without_an_end_is_no_statement() {
        for text in ["a 'b", "`", "\"x", "/* a", "'\\"] {
            assert_eq!(tokens(text, Quotes::of_mode(0)), None, "{text}");
        }
    }
}
