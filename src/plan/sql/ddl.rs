//! `CREATE TABLE` and `CREATE VIEW`, read by hand: sqlparser knows neither metadata columns nor computed ones,
//! watermarks, `NOT ENFORCED`, or Flink's `LIKE`.

use sqlparser::ast::Expr;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;
use thalweg_core::{Error, Place, Result, SqlType};

use crate::sql::cursor::{Cursor, Name, Reading};
use crate::sql::flink_types::parse_type;
use crate::sql::query::{Query, begins_query, check_expr, query};
use crate::sql::statement::{Statement, if_not_exists, name_list, table_name};

/// `CREATE [TEMPORARY] TABLE [IF NOT EXISTS] name (…) …` as written; `Catalog` checks it and applies `LIKE`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    pub temporary: bool,
    pub if_not_exists: bool,
    pub name: Name,
    pub columns: Vec<ColumnDecl>,
    pub primary_key: Option<PrimaryKeyDecl>,
    pub watermarks: Vec<WatermarkDecl>,
    pub comment: Option<String>,
    pub partitioned_by: Vec<Name>,
    pub options: Vec<TableOption>,
    pub like: Option<LikeClause>,
    /// As written; secrets are in it.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDecl {
    pub name: Name,
    pub kind: ColumnDeclKind,
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ColumnDeclKind {
    Physical {
        ty: SqlType,
        nullable: bool,
        ty_place: Place,
    },
    /// `METADATA [FROM 'key'] [VIRTUAL]`; without a key it is the column's name.
    Metadata {
        ty: SqlType,
        nullable: bool,
        ty_place: Place,
        key: Option<Name>,
        is_virtual: bool,
    },
    /// `AS expr`, with its text.
    Computed {
        expr: Box<Expr>,
        text: String,
    },
}

/// `[CONSTRAINT name] PRIMARY KEY (columns) [NOT ENFORCED]`, or behind a column.
#[derive(Debug, Clone, PartialEq)]
pub struct PrimaryKeyDecl {
    pub constraint: Option<Name>,
    pub columns: Vec<Name>,
    /// False with `NOT ENFORCED`.
    pub enforced: bool,
    pub place: Place,
}

/// `WATERMARK FOR column AS expr`.
#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkDecl {
    pub column: Name,
    pub expr: Box<Expr>,
    pub text: String,
    pub place: Place,
}

/// `'key' = 'value'` of `WITH` or a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOption {
    pub key: Name,
    pub value: Name,
}

/// `LIKE table [(option …)]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeClause {
    pub table: Name,
    pub options: Vec<LikeOption>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LikeOption {
    pub strategy: LikeStrategy,
    pub feature: LikeFeature,
    pub place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeStrategy {
    /// Taken; a clash is an error.
    Including,
    /// Left out.
    Excluding,
    /// Taken; in a clash the new table's wins.
    Overwriting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikeFeature {
    All,
    /// The primary key.
    Constraints,
    /// Computed columns.
    Generated,
    Metadata,
    Options,
    Partitions,
    Watermarks,
}

/// `CREATE [TEMPORARY] VIEW [IF NOT EXISTS] name [(columns)] [COMMENT '…'] AS query`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    pub temporary: bool,
    pub if_not_exists: bool,
    pub name: Name,
    pub columns: Option<Vec<Name>>,
    pub comment: Option<String>,
    pub query: Query,
}

pub(crate) fn create(cursor: &mut Cursor, used: &mut Vec<(usize, usize)>) -> Result<Statement> {
    let from = cursor.position();
    let parser = &mut cursor.parser;
    parser.advance_token();
    let place = parser.here();
    if parser.eat_words(&["OR", "REPLACE"]) || parser.eat_words(&["OR", "ALTER"]) {
        return Err(Error::unsupported("CREATE OR REPLACE is not supported").at(place).note("drop it first"));
    }
    let temporary = parser.eat_word("TEMPORARY");
    let place = parser.here();
    if parser.eat_word("TABLE") {
        create_table(cursor, temporary, from).map(|t| Statement::CreateTable(Box::new(t)))
    } else if parser.eat_word("VIEW") {
        create_view(cursor, temporary, used).map(|v| Statement::CreateView(Box::new(v)))
    } else {
        for kind in ["CATALOG", "DATABASE", "FUNCTION", "SYSTEM", "MODEL", "MATERIALIZED", "CONNECTION", "INDEX"] {
            if parser.is_word(kind) {
                return Err(Error::unsupported(format!("CREATE {kind} is not supported")).at(place));
            }
        }
        Err(parser.expected_one_of(&["TABLE", "VIEW", "TEMPORARY"]))
    }
}

fn create_view(cursor: &mut Cursor, temporary: bool, used: &mut Vec<(usize, usize)>) -> Result<CreateView> {
    let if_not_exists = if_not_exists(cursor)?;
    let name = table_name(cursor, "the name of a view")?;
    let columns = match cursor.parser.is_symbol(&Token::LParen) {
        true => Some(name_list(cursor, "the name of a column")?),
        false => None,
    };
    let comment = comment(&mut cursor.parser)?;
    cursor.parser.expect_word("AS")?;
    if !begins_query(cursor) {
        return Err(cursor.parser.expected_one_of(&["SELECT", "WITH", "VALUES"]));
    }
    let from = cursor.position();
    let query = query(cursor)?;
    used.push((from, cursor.position()));
    Ok(CreateView { temporary, if_not_exists, name, columns, comment, query })
}

fn create_table(cursor: &mut Cursor, temporary: bool, from: usize) -> Result<CreateTable> {
    let if_not_exists = if_not_exists(cursor)?;
    let name = table_name(cursor, "the name of a table")?;
    let mut table = CreateTable {
        temporary,
        if_not_exists,
        name,
        columns: vec![],
        primary_key: None,
        watermarks: vec![],
        comment: None,
        partitioned_by: vec![],
        options: vec![],
        like: None,
        text: String::new(),
    };
    let has_body = cursor.parser.eat_symbol(&Token::LParen);
    // `()` is how one writes "nothing more than LIKE gives".
    if has_body && !cursor.parser.eat_symbol(&Token::RParen) {
        loop {
            table_element(cursor, &mut table)?;
            if !cursor.parser.eat_symbol(&Token::Comma) {
                break;
            }
        }
        if !cursor.parser.eat_symbol(&Token::RParen) {
            return Err(cursor.parser.expected_here("\",\" or \")\""));
        }
    }
    if !has_body && (cursor.parser.at_end() || cursor.parser.is_symbol(&Token::SemiColon)) {
        return Err(cursor.parser.expected_here("\"(\""));
    }
    table_clauses(cursor, &mut table, has_body)?;
    if table.columns.is_empty() && table.like.is_none() {
        return Err(Error::syntax(format!("table {} has no columns", table.name.value)).at(table.name.place));
    }
    table.text = cursor.source.text_of(from, cursor.position()).to_owned();
    Ok(table)
}

/// What may follow the columns, each at most once, in Flink's order.
fn table_clauses(cursor: &mut Cursor, table: &mut CreateTable, has_body: bool) -> Result<()> {
    table.comment = comment(&mut cursor.parser)?;
    let parser = &mut cursor.parser;
    if parser.is_word("DISTRIBUTED") {
        return Err(Error::unsupported("DISTRIBUTED is not supported").at(parser.here()));
    }
    if parser.eat_word("PARTITIONED") {
        parser.expect_word("BY")?;
        table.partitioned_by = name_list(cursor, "the name of a column")?;
    }
    if cursor.parser.eat_word("WITH") {
        table.options = table_options(&mut cursor.parser)?;
    }
    if cursor.parser.eat_word("LIKE") {
        table.like = Some(like(cursor)?);
    }
    let parser = &mut cursor.parser;
    if parser.is_word("AS") {
        return Err(Error::unsupported("CREATE TABLE … AS is not supported")
            .at(parser.here())
            .note("create the table with its columns, then INSERT INTO it"));
    }
    if parser.at_end() || parser.is_symbol(&Token::SemiColon) {
        return Ok(());
    }
    let mut possible = vec![];
    if table.like.is_none() {
        possible.push("LIKE");
        if table.options.is_empty() {
            possible.insert(0, "WITH");
            if table.partitioned_by.is_empty() {
                possible.insert(0, "PARTITIONED BY");
                if table.comment.is_none() {
                    possible.insert(0, "COMMENT");
                }
            }
        }
    }
    for (word, given) in
        [("COMMENT", table.comment.is_some()), ("WITH", !table.options.is_empty()), ("PARTITIONED", true)]
    {
        if parser.is_word(word) && (given || !possible.iter().any(|p| p.starts_with(word))) {
            return Err(parser
                .expected_here("the end of the statement")
                .note("the order is: columns, COMMENT, PARTITIONED BY, WITH, LIKE"));
        }
    }
    if has_body || table.like.is_some() {
        possible.push("the end of the statement");
        Err(parser.expected_one_of(&possible))
    } else {
        Err(parser.expected_here("\"(\""))
    }
}

/// A column, a primary key or a watermark.
fn table_element(cursor: &mut Cursor, table: &mut CreateTable) -> Result<()> {
    let parser = &mut cursor.parser;
    let place = parser.here();
    if parser.is_word("WATERMARK") && parser.is_word_at(1, "FOR") {
        parser.eat_words(&["WATERMARK", "FOR"]);
        let column = parser.name("the name of a column")?;
        if parser.is_symbol(&Token::Period) {
            return Err(Error::unsupported("a watermark for a field of a ROW is not supported")
                .at(column.place)
                .note("make the field a computed column"));
        }
        parser.expect_word("AS")?;
        let (expr, text) = cursor.expr()?;
        check_expr(&expr, &cursor.source.tokens)?;
        table.watermarks.push(WatermarkDecl { column, expr: Box::new(expr), text: text.to_owned(), place });
        return Ok(());
    }
    let constraint = if parser.eat_word("CONSTRAINT") { Some(parser.name("the name of a constraint")?) } else { None };
    if parser.is_word("PRIMARY") && parser.is_word_at(1, "KEY") {
        parser.eat_words(&["PRIMARY", "KEY"]);
        let columns = name_list(cursor, "the name of a column")?;
        let enforced = enforced(&mut cursor.parser)?;
        return set_primary_key(table, PrimaryKeyDecl { constraint, columns, enforced, place });
    }
    for word in ["UNIQUE", "CHECK", "FOREIGN"] {
        let is_constraint = constraint.is_some()
            || parser.peek_nth_token_ref(1).token == Token::LParen
            || (word == "FOREIGN" && parser.is_word_at(1, "KEY"));
        if parser.is_word(word) && is_constraint {
            return Err(Error::unsupported(format!("{word} constraints are not supported"))
                .at(parser.here())
                .note("the one constraint is PRIMARY KEY"));
        }
    }
    if constraint.is_some() {
        return Err(parser.expected_one_of(&["PRIMARY KEY"]));
    }
    let column = column(cursor, table)?;
    table.columns.push(column);
    Ok(())
}

fn set_primary_key(table: &mut CreateTable, key: PrimaryKeyDecl) -> Result<()> {
    if table.primary_key.is_some() {
        return Err(Error::name(format!("table {} has two primary keys", table.name.value)).at(key.place));
    }
    table.primary_key = Some(key);
    Ok(())
}

/// `NOT ENFORCED`, `ENFORCED` or nothing, which is enforced.
fn enforced(parser: &mut Parser) -> Result<bool> {
    if parser.is_word("NOT") && !parser.is_word_at(1, "NULL") {
        parser.advance_token();
        parser.expect_word("ENFORCED")?;
        return Ok(false);
    }
    parser.eat_word("ENFORCED");
    Ok(true)
}

fn column(cursor: &mut Cursor, table: &mut CreateTable) -> Result<ColumnDecl> {
    let name = cursor.parser.name("the name of a column")?;
    if cursor.parser.eat_word("AS") {
        let (expr, text) = cursor.expr()?;
        check_expr(&expr, &cursor.source.tokens)?;
        let kind = ColumnDeclKind::Computed { expr: Box::new(expr), text: text.to_owned() };
        return Ok(ColumnDecl { name, kind, comment: comment(&mut cursor.parser)? });
    }
    let parser = &mut cursor.parser;
    let ty_place = parser.here();
    let ty = parse_type(parser)?;
    let mut attributes = Attributes::default();
    while attribute(parser, &name, table, &mut attributes)? {}
    let nullable = attributes.nullable.unwrap_or(true);
    let kind = match attributes.metadata {
        Some((key, is_virtual)) => ColumnDeclKind::Metadata { ty, nullable, ty_place, key, is_virtual },
        None => ColumnDeclKind::Physical { ty, nullable, ty_place },
    };
    Ok(ColumnDecl { name, kind, comment: attributes.comment })
}

#[derive(Default)]
struct Attributes {
    nullable: Option<bool>,
    /// Key and VIRTUAL.
    metadata: Option<(Option<Name>, bool)>,
    comment: Option<String>,
}

/// One attribute behind a column's type; false if there is none.
fn attribute(parser: &mut Parser, column: &Name, table: &mut CreateTable, of: &mut Attributes) -> Result<bool> {
    let place = parser.here();
    let twice = |what: &str| Error::syntax(format!("column \"{}\" has {what} twice", column.value)).at(place);
    if parser.is_word("NOT") || parser.is_word("NULL") {
        let not_null = parser.eat_word("NOT");
        parser.expect_word("NULL")?;
        if of.nullable.replace(!not_null).is_some() {
            return Err(twice("NULL or NOT NULL"));
        }
        return Ok(true);
    }
    if parser.eat_word("METADATA") {
        let key = if parser.eat_word("FROM") { Some(parser.string("the name of a metadata key")?) } else { None };
        let is_virtual = parser.eat_word("VIRTUAL");
        if of.metadata.replace((key, is_virtual)).is_some() {
            return Err(twice("METADATA"));
        }
        return Ok(true);
    }
    if parser.is_word("COMMENT") {
        let text = comment(parser)?.unwrap_or_default();
        if of.comment.replace(text).is_some() {
            return Err(twice("COMMENT"));
        }
        return Ok(true);
    }
    if parser.is_word("PRIMARY") || parser.is_word("CONSTRAINT") {
        let constraint =
            if parser.eat_word("CONSTRAINT") { Some(parser.name("the name of a constraint")?) } else { None };
        parser.expect_word("PRIMARY")?;
        parser.expect_word("KEY")?;
        let enforced = enforced(parser)?;
        set_primary_key(table, PrimaryKeyDecl { constraint, columns: vec![column.clone()], enforced, place })?;
        return Ok(true);
    }
    for word in ["UNIQUE", "DEFAULT", "CHECK", "REFERENCES", "GENERATED", "AUTO_INCREMENT", "COLLATE", "ON"] {
        if parser.is_word(word) {
            return Err(Error::unsupported(format!("{word} of a column is not supported")).at(place));
        }
    }
    if parser.is_symbol(&Token::Comma) || parser.is_symbol(&Token::RParen) {
        return Ok(false);
    }
    Err(parser.expected_here("\",\" or \")\""))
}

fn comment(parser: &mut Parser) -> Result<Option<String>> {
    if !parser.eat_word("COMMENT") {
        return Ok(None);
    }
    parser.eat_symbol(&Token::Eq);
    parser.string("a comment").map(|c| Some(c.value))
}

/// `('key' = 'value', …)`
pub(crate) fn table_options(parser: &mut Parser) -> Result<Vec<TableOption>> {
    parser.expect_symbol(&Token::LParen)?;
    let mut options: Vec<TableOption> = vec![];
    if parser.eat_symbol(&Token::RParen) {
        return Ok(options);
    }
    loop {
        let key = parser.string("the name of an option")?;
        if options.iter().any(|o| o.key.value == key.value) {
            return Err(Error::option(format!("the option '{}' is given twice", key.value)).at(key.place));
        }
        parser.expect_symbol(&Token::Eq)?;
        let value = parser.string("the value of the option")?;
        options.push(TableOption { key, value });
        if !parser.eat_symbol(&Token::Comma) {
            break;
        }
    }
    if !parser.eat_symbol(&Token::RParen) {
        return Err(parser.expected_here("\",\" or \")\""));
    }
    Ok(options)
}

fn like(cursor: &mut Cursor) -> Result<LikeClause> {
    let table = table_name(cursor, "the name of a table")?;
    let parser = &mut cursor.parser;
    let mut options: Vec<LikeOption> = vec![];
    if parser.eat_symbol(&Token::LParen) {
        while !parser.eat_symbol(&Token::RParen) {
            let place = parser.here();
            let strategy = if parser.eat_word("INCLUDING") {
                LikeStrategy::Including
            } else if parser.eat_word("EXCLUDING") {
                LikeStrategy::Excluding
            } else if parser.eat_word("OVERWRITING") {
                LikeStrategy::Overwriting
            } else {
                return Err(parser.expected_one_of(&["INCLUDING", "EXCLUDING", "OVERWRITING", "\")\""]));
            };
            let feature = like_feature(parser, strategy)?;
            if options.iter().any(|o| o.feature == feature) {
                return Err(Error::syntax("this part of the table is mentioned twice").at(place));
            }
            options.push(LikeOption { strategy, feature, place });
            parser.eat_symbol(&Token::Comma);
        }
    }
    Ok(LikeClause { table, options })
}

fn like_feature(parser: &mut Parser, strategy: LikeStrategy) -> Result<LikeFeature> {
    const FEATURES: &[(&str, LikeFeature)] = &[
        ("ALL", LikeFeature::All),
        ("CONSTRAINTS", LikeFeature::Constraints),
        ("GENERATED", LikeFeature::Generated),
        ("METADATA", LikeFeature::Metadata),
        ("OPTIONS", LikeFeature::Options),
        ("PARTITIONS", LikeFeature::Partitions),
        ("WATERMARKS", LikeFeature::Watermarks),
    ];
    // What a table has once at most can be replaced only by leaving it out.
    let possible: Vec<&str> = FEATURES
        .iter()
        .filter(|(_, f)| {
            strategy != LikeStrategy::Overwriting
                || !matches!(f, LikeFeature::All | LikeFeature::Constraints | LikeFeature::Partitions)
        })
        .map(|(name, _)| *name)
        .collect();
    match FEATURES.iter().find(|(name, _)| possible.contains(name) && parser.is_word(name)) {
        Some((_, feature)) => {
            parser.advance_token();
            Ok(*feature)
        }
        None => Err(parser.expected_one_of(&possible)),
    }
}
