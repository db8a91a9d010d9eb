//! Reading a statement token by token: what the parsers of DDL and types, and the dialect's hooks, share. Errors are
//! ours, with the place of the offending token; sqlparser's are translated.

use sqlparser::ast::Expr;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use thalweg_core::nearest::{did_you_mean, nearest};
use thalweg_core::{Error, ErrorCode, Place, Result};

use crate::sql::dialect::{FlinkDialect, UNITS};
use crate::sql::shell::is_keyword;
use crate::sql::tokens::{Source, place_of};

/// A name as written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub value: String,
    pub place: Place,
}

static DIALECT: FlinkDialect = FlinkDialect;

/// Depth of nested expressions and queries at most.
const NESTING_MAX: usize = 64;
/// How an error calls the place behind the last token.
pub(crate) const END_OF_STATEMENT: &str = "the end of the statement";
const NESTED_TOO_DEEPLY: &str = "the statement is nested too deeply";
/// Characters of a token that an error shows at most.
const SHOWN_CHARACTERS_MAX: usize = 40;

/// A parser over a statement's tokens.
pub(crate) struct Cursor<'s> {
    pub source: &'s Source<'s>,
    pub parser: Parser<'static>,
}

impl<'s> Cursor<'s> {
    pub fn new(source: &'s Source<'s>) -> Self {
        Cursor { source, parser: parser_over(source.tokens.clone()) }
    }

    /// Ordinal of the next token; sqlparser's own may lie beyond the end.
    pub fn position(&self) -> usize {
        self.parser.index().min(self.source.tokens.len())
    }

    /// An expression and its text.
    pub fn expr(&mut self) -> Result<(Expr, &'s str)> {
        let from = self.position();
        let expr = self.parser.parse_expr().map_err(|e| self.parser.error_of(e))?;
        Ok((expr, self.source.text_of(from, self.position())))
    }

    /// Nothing may follow but semicolons.
    pub fn expect_end(&mut self) -> Result<()> {
        while self.parser.eat_symbol(&Token::SemiColon) {}
        if self.parser.at_end() { Ok(()) } else { Err(self.parser.expected_here(END_OF_STATEMENT)) }
    }
}

pub(crate) fn parser_over(tokens: Vec<TokenWithSpan>) -> Parser<'static> {
    Parser::new(&DIALECT).with_recursion_limit(NESTING_MAX).with_tokens_with_locations(tokens)
}

/// What parsing by hand needs of a parser. Words are compared in any case and only without quotes.
pub(crate) trait Reading {
    fn at_end(&self) -> bool;
    /// Place of the next token; at the end, the character behind the last one.
    fn here(&self) -> Place;
    fn is_word(&self, word: &str) -> bool;
    fn is_word_at(&self, n: usize, word: &str) -> bool;
    /// Skips these words if all of them come next.
    fn eat_words(&mut self, words: &[&str]) -> bool;
    fn eat_word(&mut self, word: &str) -> bool;
    fn expect_word(&mut self, word: &str) -> Result<Place>;
    fn is_symbol(&self, symbol: &Token) -> bool;
    fn eat_symbol(&mut self, symbol: &Token) -> bool;
    fn expect_symbol(&mut self, symbol: &Token) -> Result<Place>;
    /// A name of one part; `what` it is for: "the name of a column".
    fn name(&mut self, what: &str) -> Result<Name>;
    /// The value of a string literal.
    fn string(&mut self, what: &str) -> Result<Name>;
    /// `expected WHAT, found …` at the next token, with a proposal if it looks like a misspelt keyword.
    fn expected_here(&self, what: &str) -> Error;
    /// As `expected_here`, when one of these words must come.
    fn expected_one_of(&self, words: &[&str]) -> Error;
    /// Ours for an error of sqlparser's.
    fn error_of(&self, e: ParserError) -> Error;
}

impl Reading for Parser<'_> {
    fn at_end(&self) -> bool {
        self.peek_token_ref().token == Token::EOF
    }

    fn here(&self) -> Place {
        place_at(self, self.index())
    }

    fn is_word(&self, word: &str) -> bool {
        self.is_word_at(0, word)
    }

    fn is_word_at(&self, n: usize, word: &str) -> bool {
        token_is_word(&self.peek_nth_token_ref(n).token, word)
    }

    fn eat_words(&mut self, words: &[&str]) -> bool {
        let all = words.iter().enumerate().all(|(i, w)| self.is_word_at(i, w));
        if all {
            words.iter().for_each(|_| self.advance_token());
        }
        all
    }

    fn eat_word(&mut self, word: &str) -> bool {
        self.eat_words(&[word])
    }

    fn expect_word(&mut self, word: &str) -> Result<Place> {
        let place = self.here();
        if self.eat_word(word) { Ok(place) } else { Err(self.expected_one_of(&[word])) }
    }

    fn is_symbol(&self, symbol: &Token) -> bool {
        self.peek_token_ref().token == *symbol
    }

    fn eat_symbol(&mut self, symbol: &Token) -> bool {
        let there = self.is_symbol(symbol);
        if there {
            self.advance_token();
        }
        there
    }

    fn expect_symbol(&mut self, symbol: &Token) -> Result<Place> {
        let place = self.here();
        if self.eat_symbol(symbol) { Ok(place) } else { Err(self.expected_here(&format!("\"{symbol}\""))) }
    }

    fn name(&mut self, what: &str) -> Result<Name> {
        let place = self.here();
        match &self.peek_token_ref().token {
            Token::Word(w) if w.quote_style.is_none() && is_reserved(&w.value) => {
                let word = w.value.clone();
                Err(self
                    .expected_here(what)
                    .note(format!("\"{word}\" is a keyword; as a name it needs backticks: `{word}`")))
            }
            Token::Word(w) => {
                let value = w.value.clone();
                self.advance_token();
                Ok(Name { value, place })
            }
            Token::SingleQuotedString(s) => {
                let proposal = format!("did you mean `{s}`?");
                Err(self.expected_here(what).propose(Some(proposal)).note("names are quoted with backticks"))
            }
            _ => Err(self.expected_here(what)),
        }
    }

    fn string(&mut self, what: &str) -> Result<Name> {
        let place = self.here();
        match &self.peek_token_ref().token {
            Token::SingleQuotedString(s) => {
                let value = s.clone();
                self.advance_token();
                Ok(Name { value, place })
            }
            _ => Err(self.expected_here(&format!("{what} in single quotes"))),
        }
    }

    fn expected_here(&self, what: &str) -> Error {
        expected_at(self, self.index(), what)
    }

    fn expected_one_of(&self, words: &[&str]) -> Error {
        let list = match words {
            [one] => (*one).to_owned(),
            [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
            [] => "nothing".to_owned(),
        };
        if let Token::Word(w) = &self.peek_token_ref().token
            && w.quote_style.is_none()
            && let Some(proposal) = did_you_mean(&w.value, words.iter().copied())
        {
            let e = Error::syntax(format!("expected {list}, found \"{}\"", w.value));
            return e.at(self.here()).propose(Some(proposal));
        }
        expected_at(self, self.index(), &list)
    }

    fn error_of(&self, e: ParserError) -> Error {
        let message = match e {
            ParserError::RecursionLimitExceeded => {
                return Error::unsupported(NESTED_TOO_DEEPLY)
                    .at(self.here())
                    .note("WITH gives names to the inner parts");
            }
            ParserError::ParserError(m) | ParserError::TokenizerError(m) => m,
        };
        if let Some(own) = own_error(&message) {
            return own;
        }
        let (message, location) = split_location(&message);
        let index = location.and_then(|l| index_at(self, l));
        if message.starts_with("Expected an expression, found: ") {
            // It has read FROM as a name and gives the place behind it.
            let behind = index.unwrap_or_else(|| token_count(self));
            return expected_at(self, behind.saturating_sub(1), "an expression");
        }
        // Without a location sqlparser found the end of the text, or complains of what it has just read.
        let found = message.strip_prefix("Expected: ").and_then(|m| m.rsplit_once(", found: "));
        match found {
            Some((expected, _)) => {
                let index = index.unwrap_or_else(|| token_count(self));
                let e = expected_at(self, index, &in_our_words(expected));
                match &self.token_at(index).token {
                    Token::Word(w) if expected == "date/time field" => {
                        e.propose(did_you_mean(&w.value, UNITS.iter().copied()))
                    }
                    _ => e,
                }
            }
            None => {
                let mut characters = message.chars();
                let first = characters.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
                Error::syntax(format!("{first}{}", characters.as_str()))
                    .at(place_at(self, index.unwrap_or_else(|| self.index())))
            }
        }
    }
}

pub(crate) fn token_is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn token_count(parser: &Parser) -> usize {
    (0..).find(|i| parser.token_at(*i).token == Token::EOF).expect("tokens end")
}

fn index_at(parser: &Parser, location: Location) -> Option<usize> {
    (0..).take_while(|i| parser.token_at(*i).token != Token::EOF).find(|i| parser.token_at(*i).span.start == location)
}

fn place_at(parser: &Parser, index: usize) -> Place {
    let token = parser.token_at(index);
    if token.token != Token::EOF {
        return place_of(token.span);
    }
    // The parser may have gone past the end.
    match (0..index).rev().map(|i| parser.token_at(i)).find(|t| t.token != Token::EOF) {
        Some(last) => Place::new(last.span.end.line as u32, last.span.end.column as u32, 1),
        None => Place::new(1, 1, 1),
    }
}

fn expected_at(parser: &Parser, index: usize, what: &str) -> Error {
    let lacks_by = !what.starts_with("the name")
        && !what.starts_with("a name")
        && ["GROUP", "ORDER", "PARTITION"].iter().any(|w| token_is_word(&parser.token_at(index).token, w))
        && !token_is_word(&parser.token_at(index + 1).token, "BY");
    let (index, what) = if lacks_by { (index + 1, "BY") } else { (index, what) };
    if let Some((misspelt, keyword)) = misspelt_keyword(parser, index) {
        let word = &parser.token_at(misspelt).token;
        return Error::syntax(format!("\"{word}\" is not understood here"))
            .at(place_at(parser, misspelt))
            .propose(Some(format!("did you mean \"{keyword}\"?")));
    }
    let found = match &parser.token_at(index).token {
        Token::EOF => END_OF_STATEMENT.to_owned(),
        Token::SingleQuotedString(s) => format!("'{}'", shortened(s)),
        Token::Word(w) if w.quote_style.is_some() => format!("`{}`", shortened(&w.value)),
        other => format!("\"{}\"", shortened(&other.to_string())),
    };
    Error::syntax(format!("expected {what}, found {found}")).at(place_at(parser, index))
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARACTERS_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_CHARACTERS_MAX - 1).chain(['…']).collect()
}

/// The words that begin clauses: where one of them is missing, a word that is nearly one is a slip of the keys.
const CLAUSE_WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "JOIN",
    "INNER",
    "OUTER",
    "CROSS",
    "VALUES",
    "INTO",
    "PRIMARY",
    "ENFORCED",
    "WATERMARK",
    "METADATA",
    "VIRTUAL",
    "COMMENT",
    "PARTITION",
    "PARTITIONED",
    "WITH",
    "LIKE",
    "INCLUDING",
    "EXCLUDING",
    "DISTINCT",
    "BETWEEN",
    "EXISTS",
];

/// The token at `index` or the one before it (which may have passed as an alias), if it is nearly a keyword.
fn misspelt_keyword(parser: &Parser, index: usize) -> Option<(usize, &'static str)> {
    let near = |i: usize| {
        let Token::Word(w) = &parser.token_at(i).token else { return None };
        let length = w.value.chars().count();
        if w.quote_style.is_some() || length < 4 || is_keyword(&w.value) {
            return None;
        }
        // Of several the one that begins like it.
        let word = w.value.to_uppercase();
        let common = |k: &str| k.chars().zip(word.chars()).take_while(|(a, b)| a == b).count();
        let close = |k: &&&str| k.len().abs_diff(length) <= 1 && nearest(&word, [**k]).is_some();
        CLAUSE_WORDS.iter().filter(close).max_by_key(|k| common(k)).map(|k| (i, *k))
    };
    near(index).or_else(|| index.checked_sub(1).and_then(near))
}

/// sqlparser's words for what it expected, in ours.
fn in_our_words(expected: &str) -> String {
    match expected {
        "end of statement" => END_OF_STATEMENT.to_owned(),
        "identifier" => "a name".to_owned(),
        "literal string" => "a string in single quotes".to_owned(),
        "literal int" => "a whole number".to_owned(),
        "joined table" => "a table".to_owned(),
        "date/time field" => "a unit such as DAY or HOUR".to_owned(),
        "a concrete value" => "a value".to_owned(),
        "an identifier after AS" => "a name behind AS".to_owned(),
        "ROWS, RANGE, GROUPS" => "PARTITION BY, ORDER BY, ROWS, RANGE or \")\"".to_owned(),
        is if is.ends_with(" after IS") => "NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM behind IS".to_owned(),
        "SELECT, VALUES, or a subquery in the query body" => {
            "a query (SELECT, VALUES or a query in parentheses)".to_owned()
        }
        symbol if !symbol.is_empty() && symbol.chars().all(|c| c.is_ascii_punctuation()) => format!("\"{symbol}\""),
        other => other.to_owned(),
    }
}

/// `MESSAGE at Line: 1, Column: 5`.
fn split_location(message: &str) -> (&str, Option<Location>) {
    let Some((before, location)) = message.rsplit_once(" at Line: ") else { return (message, None) };
    let parsed = location
        .split_once(", Column: ")
        .and_then(|(line, column)| Some(Location::new(line.trim().parse().ok()?, column.trim().parse().ok()?)));
    if parsed.is_some() { (before, parsed) } else { (message, None) }
}

/// Words that no name can be without backticks: behind or in front of a name they begin a clause.
pub(crate) fn is_reserved(word: &str) -> bool {
    const RESERVED: &[&str] = &[
        "ALL",
        "AND",
        "AS",
        "BETWEEN",
        "BY",
        "CASE",
        "CAST",
        "CONSTRAINT",
        "CREATE",
        "CROSS",
        "DELETE",
        "DISTINCT",
        "DROP",
        "ELSE",
        "END",
        "EXCEPT",
        "EXISTS",
        "FROM",
        "FULL",
        "GROUP",
        "HAVING",
        "IN",
        "INNER",
        "INSERT",
        "INTERSECT",
        "INTERVAL",
        "INTO",
        "IS",
        "JOIN",
        "LEFT",
        "LIKE",
        "LIMIT",
        "NATURAL",
        "NOT",
        "NULL",
        "ON",
        "OR",
        "ORDER",
        "OUTER",
        "OVER",
        "PRIMARY",
        "RIGHT",
        "SELECT",
        "SET",
        "TABLE",
        "THEN",
        "UNION",
        "UPDATE",
        "USING",
        "VALUES",
        "WHEN",
        "WHERE",
        "WITH",
    ];
    RESERVED.iter().any(|r| r.eq_ignore_ascii_case(word))
}

/// Marks an error of ours on its way through sqlparser, which knows errors as texts only.
const OWN: char = '\u{1}';

/// Our error as one that sqlparser's functions can return; `error_of` gives it back.
pub(crate) fn to_parser_error(e: Error) -> ParserError {
    if e.message() == NESTED_TOO_DEEPLY {
        return ParserError::RecursionLimitExceeded;
    }
    let code = match e.code() {
        ErrorCode::Name => "name",
        ErrorCode::Type => "type",
        ErrorCode::Unsupported => "unsupported",
        ErrorCode::Option => "option",
        _ => "syntax",
    };
    let place = e.place().unwrap_or(Place::new(1, 1, 1));
    let mut fields = vec![
        code.to_owned(),
        place.line.to_string(),
        place.column.to_string(),
        place.length.to_string(),
        e.proposal().unwrap_or_default().to_owned(),
        e.message().to_owned(),
    ];
    fields.extend(e.notes().iter().cloned());
    ParserError::ParserError(fields.iter().map(|f| format!("{OWN}{f}")).collect())
}

fn own_error(message: &str) -> Option<Error> {
    let mut fields = message.strip_prefix(OWN)?.split(OWN);
    let code = match fields.next()? {
        "name" => ErrorCode::Name,
        "type" => ErrorCode::Type,
        "unsupported" => ErrorCode::Unsupported,
        "option" => ErrorCode::Option,
        _ => ErrorCode::Syntax,
    };
    let mut number = || fields.next()?.parse::<u32>().ok();
    let place = Place::new(number()?, number()?, number()?);
    let proposal = fields.next().filter(|p| !p.is_empty());
    let e = Error::new(code, fields.next()?).at(place).propose(proposal);
    Some(fields.fold(e, |e, note| e.note(note)))
}
