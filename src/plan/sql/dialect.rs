//! Flink's dialect for sqlparser: which optional syntax is on, and the expressions that sqlparser does not know, parsed
//! here into the nodes of its tree that come closest.
//!
//! What a reader of the tree needs to know:
//! - every type in `CAST`, `TRY_CAST` and `RETURNING` is a `DataType::Custom` that `sql_type_of` turns into a `SqlType`;
//! - `TIMESTAMPDIFF(DAY, a, b)` and `TIMESTAMPADD` have their unit as a string literal in upper case;
//! - `MAP['a', 1]` is `Expr::Map`;
//! - `TABLE t` as an argument of a table function is `Expr::Prefixed { prefix: TABLE, … }`;
//! - `JSON_VALUE(x, p RETURNING T)` is `TRY_CAST(JSON_VALUE(x, p) AS T)`, since without ON ERROR a value that does not
//!   convert is NULL.

use sqlparser::ast::{
    CastKind, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, Interval,
    Map, MapEntry, ObjectName, TrimWhereField, Value, ValueWithSpan,
};
use sqlparser::dialect::{Dialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Span, Token};
use thalweg_core::nearest::did_you_mean;
use thalweg_core::{Error, Result};

use crate::sql::cursor::{Reading, to_parser_error};
use crate::sql::flink_types::{custom_type, parse_type};

#[derive(Debug)]
pub(crate) struct FlinkDialect;

impl Dialect for FlinkDialect {
    fn is_delimited_identifier_start(&self, c: char) -> bool {
        c == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn is_identifier_start(&self, c: char) -> bool {
        crate::sql::lexer::starts_name(c)
    }

    fn is_identifier_part(&self, c: char) -> bool {
        crate::sql::lexer::continues_name(c)
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_left_associative_joins_without_parens(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_rarrow_operator(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }

    // As names of columns these need backticks. Were they not reserved, an error within `CAST(…)` would be looked for
    // twice, once as a call of a function: a time exponential in the nesting.
    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        matches!(
            keyword,
            Keyword::ARRAY
                | Keyword::CASE
                | Keyword::CAST
                | Keyword::CEIL
                | Keyword::CONVERT
                | Keyword::EXISTS
                | Keyword::EXTRACT
                | Keyword::FLOOR
                | Keyword::INTERVAL
                | Keyword::NOT
                | Keyword::NULL
                | Keyword::OVERLAY
                | Keyword::SAFE_CAST
                | Keyword::STRUCT
                | Keyword::SUBSTR
                | Keyword::SUBSTRING
                | Keyword::TRIM
                | Keyword::TRY_CAST
        )
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<std::result::Result<Expr, ParserError>> {
        let Token::Word(word) = &parser.peek_token_ref().token else { return None };
        if word.quote_style.is_some() {
            return None;
        }
        let name = word.value.to_ascii_uppercase();
        let next = &parser.peek_nth_token_ref(1).token;
        let parsed = match (name.as_str(), next) {
            ("CAST", Token::LParen) => cast(parser, CastKind::Cast),
            ("TRY_CAST", Token::LParen) => cast(parser, CastKind::TryCast),
            ("TIMESTAMPDIFF" | "TIMESTAMPADD", Token::LParen) => with_unit(parser),
            ("JSON_VALUE" | "JSON_QUERY" | "JSON_EXISTS", Token::LParen) => json_function(parser, &name),
            ("POSITION", Token::LParen) => position(parser),
            ("TRIM", Token::LParen) if parser.is_word_at(3, "FROM") => return trim(parser),
            ("MAP", Token::LBracket) => map(parser),
            ("INTERVAL", Token::SingleQuotedString(_) | Token::Minus | Token::Plus | Token::Number(..)) => {
                interval(parser)
            }
            ("TABLE", Token::Word(_)) if begins_argument(parser) => table_argument(parser),
            _ => return None,
        };
        Some(parsed.map_err(to_parser_error))
    }
}

fn expr(parser: &mut Parser) -> Result<Expr> {
    parser.parse_expr().map_err(|e| parser.error_of(e))
}

/// Whether the token before is one that an argument follows.
fn begins_argument(parser: &Parser) -> bool {
    parser.index() > 0 && matches!(parser.get_current_token().token, Token::LParen | Token::Comma | Token::RArrow)
}

fn cast(parser: &mut Parser, kind: CastKind) -> Result<Expr> {
    parser.advance_token();
    parser.expect_symbol(&Token::LParen)?;
    let value = expr(parser)?;
    parser.expect_word("AS")?;
    let data_type = custom_type(&parse_type(parser)?);
    parser.expect_symbol(&Token::RParen)?;
    Ok(Expr::Cast { kind, expr: Box::new(value), data_type, array: false, format: None })
}

pub(crate) const UNITS: &[&str] = &[
    "NANOSECOND",
    "MICROSECOND",
    "MILLISECOND",
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    "WEEK",
    "MONTH",
    "QUARTER",
    "YEAR",
];

/// `TIMESTAMPDIFF(unit, from, to)` and `TIMESTAMPADD(unit, count, to)`.
fn with_unit(parser: &mut Parser) -> Result<Expr> {
    let name = parser.next_token();
    parser.expect_symbol(&Token::LParen)?;
    let unit = parser.next_token();
    let place = crate::sql::place_of(unit.span);
    let Token::Word(word) = &unit.token else {
        return Err(Error::syntax(format!("the first argument of {} is a unit such as DAY", name.token))
            .at(if unit.token == Token::EOF { parser.here() } else { place })
            .note(format!("units: {}", UNITS.join(", "))));
    };
    let text = word.value.to_ascii_uppercase();
    let text = text.strip_prefix("SQL_TSI_").unwrap_or(&text);
    let singular = text.strip_suffix('S').filter(|t| UNITS.contains(t)).unwrap_or(text);
    if !UNITS.contains(&singular) {
        return Err(Error::name(format!("\"{}\" is not a unit of time", word.value))
            .at(place)
            .propose(did_you_mean(text, UNITS.iter().copied()))
            .note(format!("units: {}", UNITS.join(", "))));
    }
    let value = Value::SingleQuotedString(singular.to_owned());
    let mut args = vec![Expr::Value(ValueWithSpan { value, span: unit.span })];
    while parser.eat_symbol(&Token::Comma) {
        args.push(expr(parser)?);
    }
    parser.expect_symbol(&Token::RParen)?;
    Ok(call(ident_of(&name.token, name.span), args))
}

fn json_function(parser: &mut Parser, name: &str) -> Result<Expr> {
    let word = parser.next_token();
    parser.expect_symbol(&Token::LParen)?;
    let mut args = vec![expr(parser)?];
    while parser.eat_symbol(&Token::Comma) {
        args.push(expr(parser)?);
    }
    let returning = if name == "JSON_VALUE" && parser.eat_word("RETURNING") {
        Some(custom_type(&parse_type(parser)?))
    } else {
        None
    };
    // The defaults may be written out; anything else changes the meaning.
    let defaults: &[&[&str]] = match name {
        "JSON_VALUE" => &[&["NULL", "ON", "EMPTY"], &["NULL", "ON", "ERROR"]],
        "JSON_QUERY" => &[
            &["WITHOUT", "ARRAY", "WRAPPER"],
            &["WITHOUT", "WRAPPER"],
            &["NULL", "ON", "EMPTY"],
            &["NULL", "ON", "ERROR"],
        ],
        _ => &[&["FALSE", "ON", "ERROR"]],
    };
    while defaults.iter().any(|words| parser.eat_words(words)) {}
    if parser.peek_token_ref().token != Token::RParen {
        if let Token::Word(w) = &parser.peek_token_ref().token {
            let clause = w.value.to_ascii_uppercase();
            if ["DEFAULT", "ERROR", "NULL", "WITH", "WITHOUT", "EMPTY", "TRUE", "UNKNOWN", "RETURNING", "CONDITIONAL"]
                .contains(&clause.as_str())
            {
                return Err(Error::unsupported(format!("{clause} … in {name} is not supported yet"))
                    .at(parser.here())
                    .note(match name {
                        "JSON_VALUE" => "a value that is missing or does not convert is NULL; COALESCE(…) replaces it",
                        _ => "only the defaults are supported",
                    }));
            }
        }
        return Err(parser.expected_here("\",\" or \")\""));
    }
    parser.expect_symbol(&Token::RParen)?;
    let function = call(ident_of(&word.token, word.span), args);
    Ok(match returning {
        Some(data_type) => {
            Expr::Cast { kind: CastKind::TryCast, expr: Box::new(function), data_type, array: false, format: None }
        }
        None => function,
    })
}

/// `POSITION(a IN b)`.
fn position(parser: &mut Parser) -> Result<Expr> {
    parser.advance_token();
    parser.expect_symbol(&Token::LParen)?;
    let precedence = FlinkDialect.prec_value(Precedence::Between);
    let what = parser.parse_subexpr(precedence).map_err(|e| parser.error_of(e))?;
    parser.expect_word("IN")?;
    let within = expr(parser)?;
    parser.expect_symbol(&Token::RParen)?;
    Ok(Expr::Position { expr: Box::new(what), r#in: Box::new(within) })
}

/// `TRIM(LEADING FROM a)`, without the characters: sqlparser wants them. None for any other form.
fn trim(parser: &mut Parser) -> Option<std::result::Result<Expr, ParserError>> {
    let Token::Word(side) = &parser.peek_nth_token_ref(2).token else { return None };
    let trim_where = match side.value.to_ascii_uppercase().as_str() {
        "BOTH" => TrimWhereField::Both,
        "LEADING" => TrimWhereField::Leading,
        "TRAILING" => TrimWhereField::Trailing,
        _ => return None,
    };
    (0..4).for_each(|_| parser.advance_token());
    let parsed = parser.parse_expr().and_then(|e| {
        parser.expect_token(&Token::RParen)?;
        Ok(Expr::Trim { expr: Box::new(e), trim_where: Some(trim_where), trim_what: None, trim_characters: None })
    });
    Some(parsed)
}

/// `MAP[key, value, …]`.
fn map(parser: &mut Parser) -> Result<Expr> {
    parser.advance_token();
    parser.expect_symbol(&Token::LBracket)?;
    let mut entries = vec![];
    if !parser.eat_symbol(&Token::RBracket) {
        loop {
            let key = Box::new(expr(parser)?);
            parser.expect_symbol(&Token::Comma)?;
            let value = Box::new(expr(parser)?);
            entries.push(MapEntry { key, value });
            if !parser.eat_symbol(&Token::Comma) {
                break;
            }
        }
        parser.expect_symbol(&Token::RBracket)?;
    }
    Ok(Expr::Map(Map { entries }))
}

/// `INTERVAL '1' DAY`, `INTERVAL '1-6' YEAR TO MONTH`; the unit must be there.
fn interval(parser: &mut Parser) -> Result<Expr> {
    let start = parser.here();
    parser.advance_token();
    if !matches!(parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
        return Err(parser.expected_here("a number in single quotes").note("as in INTERVAL '10' MINUTE"));
    }
    let parsed = parser.parse_interval().map_err(|e| parser.error_of(e))?;
    match &parsed {
        Expr::Interval(Interval { leading_field: None, .. }) if near_unit(parser).is_some() => {
            Err(parser.expected_here("a unit of time").propose(near_unit(parser)))
        }
        Expr::Interval(Interval { leading_field: None, .. }) => Err(Error::syntax("an INTERVAL needs a unit")
            .at(start)
            .note("as in INTERVAL '10' MINUTE; units: SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER, YEAR")),
        _ => Ok(parsed),
    }
}

/// A proposal if the next word is nearly a unit.
fn near_unit(parser: &Parser) -> Option<String> {
    match &parser.peek_token_ref().token {
        Token::Word(w) if w.quote_style.is_none() => did_you_mean(&w.value, UNITS.iter().copied()),
        _ => None,
    }
}

/// `TABLE t`, the argument of a table function.
fn table_argument(parser: &mut Parser) -> Result<Expr> {
    let word = parser.next_token();
    let name = parser.parse_object_name(false).map_err(|e| parser.error_of(e))?;
    let parts = name.0.into_iter().filter_map(|p| p.as_ident().cloned()).collect();
    Ok(Expr::Prefixed { prefix: ident_of(&word.token, word.span), value: Box::new(Expr::CompoundIdentifier(parts)) })
}

fn ident_of(token: &Token, span: Span) -> Ident {
    match token {
        Token::Word(w) => w.to_ident(span),
        other => Ident::with_span(span, other.to_string()),
    }
}

fn call(name: Ident, args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(name),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}
