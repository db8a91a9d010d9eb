//! What is not supported yet: every construct that the parser lets through and the binder does not take is refused here
//! by name and place. Structures of the syntax tree are taken apart field by field, so that a new field of a new parser
//! does not compile until somebody has decided what becomes of it.

use sqlparser::ast::{self, Spanned, TableFactor};
use sqlparser::tokenizer::Span;
use thalweg_core::{Error, Place, Result};

use crate::sql::place_of;

/// Where a part of the tree stands, if it has words of its own.
pub(crate) fn place(spanned: &impl Spanned) -> Option<Place> {
    place_of_span(spanned.span())
}

pub(crate) fn place_of_span(span: Span) -> Option<Place> {
    (span != Span::empty() && span.start.line > 0).then(|| place_of(span))
}

/// `WHAT is not supported`, at a place if there is one.
pub(crate) fn unsupported(what: impl std::fmt::Display, place: Option<Place>) -> Error {
    at(Error::unsupported(format!("{what} is not supported yet")), place)
}

pub(crate) fn at(e: Error, place: Option<Place>) -> Error {
    match place {
        Some(p) => e.at(p),
        None => e,
    }
}

/// Refuses a clause if it is there.
pub(crate) fn refuse(is_there: bool, what: &str, place: Option<Place>) -> Result<()> {
    if is_there { Err(unsupported(what, place)) } else { Ok(()) }
}

/// A kind of item in FROM that has no table in it.
pub(crate) fn table_factor(f: &TableFactor) -> Error {
    let what = match f {
        TableFactor::Table { .. } | TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => {
            return Error::internal("a table that is supported");
        }
        TableFactor::TableFunction { expr, .. } => {
            let name = match expr {
                ast::Expr::Function(f) => f.name.to_string().to_uppercase(),
                _ => String::new(),
            };
            return match name.as_str() {
                "TUMBLE" | "HOP" | "CUMULATE" | "SESSION" => {
                    unsupported(format!("the window table function {name}"), place(f))
                }
                _ => unsupported(format!("the table function {name}").trim_end(), place(f)),
            };
        }
        TableFactor::Function { name, .. } => {
            return unsupported(format!("the table function {name}"), place(f));
        }
        TableFactor::UNNEST { .. } => "UNNEST",
        TableFactor::JsonTable { .. } => "JSON_TABLE",
        TableFactor::OpenJsonTable { .. } => "OPENJSON",
        TableFactor::Pivot { .. } => "PIVOT",
        TableFactor::Unpivot { .. } => "UNPIVOT",
        TableFactor::MatchRecognize { .. } => "MATCH_RECOGNIZE",
        TableFactor::XmlTable { .. } => "XMLTABLE",
        TableFactor::SemanticView { .. } => "SEMANTIC_VIEW",
    };
    unsupported(what, place(f))
}

/// The name of a kind of expression that is refused.
pub(crate) fn expr(e: &ast::Expr) -> Error {
    use ast::Expr::*;
    let what = match e {
        InSubquery { .. } => "IN with a subquery",
        Exists { .. } => "EXISTS",
        Subquery(_) => "a subquery as a value",
        InUnnest { .. } => "IN UNNEST",
        AnyOp { .. } => "ANY",
        AllOp { .. } => "ALL",
        JsonAccess { .. } => "access to JSON with \":\"",
        IsNormalized { .. } => "IS NORMALIZED",
        SimilarTo { .. } => "SIMILAR TO",
        Convert { .. } => "CONVERT",
        AtTimeZone { .. } => "AT TIME ZONE",
        Collate { .. } => "COLLATE",
        GroupingSets(_) => "GROUPING SETS",
        Cube(_) => "CUBE",
        Rollup(_) => "ROLLUP",
        Struct { .. } => "STRUCT",
        Named { .. } => "a named value",
        Dictionary(_) => "a value in braces",
        MatchAgainst { .. } => "MATCH … AGAINST",
        Wildcard(_) | QualifiedWildcard(..) => "\"*\" in this place",
        OuterJoin(_) => "the outer join sign (+)",
        Prior(_) => "PRIOR",
        Lambda(_) => "a lambda function",
        MemberOf(_) => "MEMBER OF",
        Prefixed { .. } => "a value with a prefix",
        Tuple(_) => "a row value in this place",
        other => return unsupported(format!("\"{other}\""), place(e)),
    };
    unsupported(what, place(e))
}

/// What can stand around a SELECT and is not supported.
pub(crate) fn query_clauses(q: &ast::Query) -> Result<()> {
    let ast::Query {
        with: _,
        body: _,
        order_by: _,
        limit_clause: _,
        fetch: _,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = q;
    let p = place(q);
    refuse(!locks.is_empty(), "FOR UPDATE and FOR SHARE", p)?;
    refuse(for_clause.is_some(), "FOR XML, FOR JSON and FOR BROWSE", p)?;
    refuse(settings.is_some(), "SETTINGS in a query", p)?;
    refuse(format_clause.is_some(), "FORMAT in a query", p)?;
    refuse(!pipe_operators.is_empty(), "the pipe operator |>", p)
}

/// What can stand within a SELECT and is not supported.
pub(crate) fn select_clauses(s: &ast::Select) -> Result<()> {
    let ast::Select {
        select_token,
        optimizer_hints,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection: _,
        exclude,
        into,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window: _,
        qualify: _,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = s;
    let p = place_of_span(select_token.0.span);
    refuse(!optimizer_hints.is_empty(), "a hint behind SELECT", p)?;
    refuse(matches!(distinct, Some(ast::Distinct::On(_))), "DISTINCT ON", p)?;
    refuse(select_modifiers.is_some(), "a modifier behind SELECT", p)?;
    refuse(top.is_some(), "TOP", p)?;
    refuse(exclude.is_some(), "EXCLUDE", p)?;
    refuse(into.is_some(), "SELECT INTO", p)?;
    refuse(!lateral_views.is_empty(), "LATERAL VIEW", p)?;
    refuse(prewhere.is_some(), "PREWHERE", p)?;
    refuse(!connect_by.is_empty(), "CONNECT BY", p)?;
    refuse(!cluster_by.is_empty(), "CLUSTER BY", p)?;
    refuse(!distribute_by.is_empty(), "DISTRIBUTE BY", p)?;
    refuse(!sort_by.is_empty(), "SORT BY", p)?;
    refuse(value_table_mode.is_some(), "SELECT AS VALUE and AS STRUCT", p)?;
    refuse(*flavor != ast::SelectFlavor::Standard, "FROM before SELECT", p)?;
    let modifiers = match group_by {
        ast::GroupByExpr::All(_) => return Err(unsupported("GROUP BY ALL", p)),
        ast::GroupByExpr::Expressions(_, modifiers) => modifiers,
    };
    match modifiers.first() {
        None => Ok(()),
        Some(ast::GroupByWithModifier::Rollup) => Err(unsupported("ROLLUP", p)),
        Some(ast::GroupByWithModifier::Cube) => Err(unsupported("CUBE", p)),
        Some(ast::GroupByWithModifier::Totals) => Err(unsupported("WITH TOTALS", p)),
        Some(ast::GroupByWithModifier::GroupingSets(e)) => Err(unsupported("GROUPING SETS", place(e))),
    }
}
