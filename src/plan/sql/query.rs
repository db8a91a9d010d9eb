//! Queries: parsed by sqlparser, with what it lets pass and we do not, and with errors at the place where they are.

use std::ops::ControlFlow;

use sqlparser::ast::{self, DataType, Expr, Ident, SelectItem, SetExpr, TableFactor, Visit, Visitor};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use thalweg_core::{Error, Place, Result};

use crate::sql::cursor::{Cursor, END_OF_STATEMENT, Reading, is_reserved, parser_over, token_is_word};
use crate::sql::hints::Hints;
use crate::sql::tokens::place_of;

/// A query as sqlparser's tree. Spans and places count from the beginning of the statement that it stands in.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub ast: Box<ast::Query>,
    pub hints: Hints,
    /// As written, hints included.
    pub text: String,
    pub place: Place,
}

impl Query {
    /// The rows of a plain `VALUES (…), (…)`.
    pub fn values(&self) -> Option<&ast::Values> {
        match &*self.ast.body {
            SetExpr::Values(values) if self.ast.with.is_none() && self.ast.order_by.is_none() => Some(values),
            _ => None,
        }
    }
}

/// Whether a query begins at the parser's position.
pub(crate) fn begins_query(cursor: &Cursor) -> bool {
    let parser = &cursor.parser;
    ["SELECT", "WITH", "VALUES"].iter().any(|w| parser.is_word(w)) || parser.is_symbol(&Token::LParen)
}

/// A query up to the end of the statement (or of the part of a statement set).
pub(crate) fn query(cursor: &mut Cursor) -> Result<Query> {
    let from = cursor.position();
    let place = cursor.parser.here();
    let tokens = &cursor.source.tokens;
    let failed = match cursor.parser.parse_query() {
        Ok(ast) if cursor.parser.at_end() || cursor.parser.is_symbol(&Token::SemiColon) => {
            let to = cursor.position();
            let tables = check(&ast, &tokens[from..to])?;
            let hints = Hints::read(cursor.source, from, to, &tables)?;
            return Ok(Query { ast, hints, text: cursor.source.text_of(from, to).to_owned(), place });
        }
        Ok(_) => cursor.parser.expected_here("the end of the statement"),
        Err(e) => cursor.parser.error_of(e),
    };
    let length = tokens[from..].iter().position(|t| t.token == Token::SemiColon).unwrap_or(tokens.len() - from);
    Err(closer_error(&tokens[from..from + length], failed))
}

/// sqlparser tries a parenthesis first as a query, then as something else, and tells of the last failure only. So look
/// for the innermost query that fails by itself, and for parentheses that are not closed.
fn closer_error(tokens: &[TokenWithSpan], outer: Error) -> Error {
    let mut open = vec![];
    let mut pairs = vec![];
    for (i, t) in tokens.iter().enumerate() {
        match t.token {
            Token::LParen => open.push(i),
            Token::RParen => {
                if let Some(from) = open.pop() {
                    pairs.push((from + 1, i));
                }
            }
            _ => {}
        }
    }
    for (from, to) in pairs {
        if let Some(e) = error_within(&tokens[from..to]) {
            return e;
        }
    }
    let Some(&unclosed) = open.last() else { return outer };
    let place = place_of(tokens[unclosed].span);
    let within = &tokens[unclosed + 1..];
    if let Some(e) = error_within(within).filter(|e| !e.message().ends_with(END_OF_STATEMENT)) {
        return e;
    }
    let found_within = !begins_like_query(within)
        && outer.message().starts_with("expected \")\"")
        && !outer.message().ends_with(END_OF_STATEMENT);
    match outer.place() {
        // Of two faults the first one counts.
        Some(p) if (p.line, p.column) < (place.line, place.column) || found_within => outer,
        _ => Error::syntax("this \"(\" is not closed").at(place),
    }
}

fn begins_like_query(tokens: &[TokenWithSpan]) -> bool {
    let is = |t: &TokenWithSpan| ["SELECT", "WITH", "VALUES"].iter().any(|w| token_is_word(&t.token, w));
    tokens.first().is_some_and(is)
}

/// What is wrong with these tokens, if they begin like a query.
fn error_within(tokens: &[TokenWithSpan]) -> Option<Error> {
    if !begins_like_query(tokens) {
        return None;
    }
    let mut parser = parser_over(tokens.to_vec());
    match parser.parse_query() {
        Ok(_) if parser.at_end() => None,
        Ok(_) => Some(parser.expected_here("\")\"")),
        Err(e) => Some(parser.error_of(e)),
    }
}

/// Refuses what sqlparser takes and the dialect does not have; gives the beginnings of tables' names.
fn check(query: &ast::Query, tokens: &[TokenWithSpan]) -> Result<Vec<Location>> {
    let mut check = Check { tokens, tables: vec![] };
    match query.visit(&mut check) {
        ControlFlow::Continue(()) => Ok(check.tables),
        ControlFlow::Break(e) => Err(e),
    }
}

/// As `check`, for an expression outside of a query.
pub(crate) fn check_expr(expr: &Expr, tokens: &[TokenWithSpan]) -> Result<()> {
    match expr.visit(&mut Check { tokens, tables: vec![] }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

struct Check<'a> {
    tokens: &'a [TokenWithSpan],
    tables: Vec<Location>,
}

impl Check<'_> {
    /// sqlparser forgets where a string stood that it took for a name.
    fn place(&self, name: &Ident) -> Place {
        let is_it = |t: &&TokenWithSpan| matches!(&t.token, Token::SingleQuotedString(s) if *s == name.value);
        let found = || self.tokens.iter().find(is_it).map_or(name.span, |t| t.span);
        place_of(if name.span.start.line == 0 { found() } else { name.span })
    }

    /// A name must not be a string, and no keyword without backticks.
    fn name(&self, name: &Ident) -> ControlFlow<Error> {
        match name.quote_style {
            Some('\'') => ControlFlow::Break(
                Error::syntax(format!("the string '{}' stands where a name or an operator belongs", name.value))
                    .at(self.place(name))
                    .note("names are quoted with backticks"),
            ),
            None if is_reserved(&name.value) => ControlFlow::Break(
                Error::syntax(format!("expected a name, found \"{}\"", name.value))
                    .at(self.place(name))
                    .note(format!("it is a keyword; as a name it needs backticks: `{}`", name.value)),
            ),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Check<'_> {
    type Break = Error;

    fn pre_visit_relation(&mut self, relation: &ast::ObjectName) -> ControlFlow<Error> {
        if let Some(last) = relation.0.last().and_then(|p| p.as_ident()) {
            self.tables.push(last.span.start);
        }
        for part in relation.0.iter().filter_map(|p| p.as_ident()) {
            self.name(part)?;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        let alias = match factor {
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => alias,
            _ => return ControlFlow::Continue(()),
        };
        for ident in alias.iter().flat_map(|a| std::iter::once(&a.name).chain(a.columns.iter().map(|c| &c.name))) {
            self.name(ident)?;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<Error> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                self.name(alias)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Identifier(i) => self.name(i),
            Expr::CompoundIdentifier(parts) => parts.iter().try_for_each(|i| self.name(i)),
            Expr::TypedString(s)
                if !matches!(s.data_type, DataType::Date | DataType::Time(..) | DataType::Timestamp(..)) =>
            {
                ControlFlow::Break(
                    Error::unsupported(format!("there are no literals of type {}", s.data_type))
                        .at(place_of(s.value.span))
                        .note(format!("write CAST({} AS {})", s.value, s.data_type)),
                )
            }
            Expr::Convert { .. } => {
                let is_it = |t: &&TokenWithSpan| token_is_word(&t.token, "CONVERT");
                let place = self.tokens.iter().find(is_it).map_or(Place::new(1, 1, 1), |t| place_of(t.span));
                ControlFlow::Break(
                    Error::unsupported("CONVERT is not supported").at(place).note("write CAST(value AS type)"),
                )
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
