//! Statements: what kind a text is, and the parsers of all that is neither DDL nor a query.

use sqlparser::ast::Expr;
use sqlparser::tokenizer::Token;
use thalweg_core::nearest::did_you_mean;
use thalweg_core::{Error, Place, Result};

use crate::sql::cursor::{Cursor, Name, Reading};
use crate::sql::ddl::{self, CreateTable, CreateView};
use crate::sql::hints::{Hints, TableHint, check_all_used};
use crate::sql::limits;
use crate::sql::query::{Query, begins_query, check_expr, query};
use crate::sql::show::show;
use crate::sql::tokens::{Source, fingerprint, split_script};

/// A statement. Its places count from the beginning of its own text.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    CreateTable(Box<CreateTable>),
    CreateView(Box<CreateView>),
    Drop(DropObject),
    Insert(Box<Insert>),
    StatementSet(StatementSet),
    Update(Update),
    Delete(Delete),
    Query(Query),
    Explain(Explain),
    Show(Show),
    /// `DESCRIBE t`
    Describe(Name),
    /// `SET 'key' = 'value'`; places of both.
    Set {
        key: Name,
        value: Name,
    },
    /// `SET`: lists all.
    SetList,
    /// `RESET 'key'`
    Reset(Name),
    /// `RESET`: all.
    ResetAll,
    StopJob(StopJob),
}

/// `INSERT INTO target [(columns)] query`.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    pub target: Name,
    /// Options of the target for this statement.
    pub target_hint: Option<TableHint>,
    pub columns: Option<Vec<Name>>,
    /// Also plain `VALUES`, see `Query::values`.
    pub query: Query,
    /// Of the word INSERT.
    pub place: Place,
    pub text: String,
}

/// `EXECUTE STATEMENT SET BEGIN insert; … END`.
#[derive(Debug, Clone, PartialEq)]
pub struct StatementSet {
    pub inserts: Vec<Insert>,
    pub place: Place,
}

/// `UPDATE target SET column = value, … [WHERE condition]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    pub target: Name,
    pub assignments: Vec<(Name, Expr)>,
    pub condition: Option<Expr>,
}

/// `DELETE FROM target [WHERE condition]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    pub target: Name,
    pub condition: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    pub verbose: bool,
    /// A query, an insert or a statement set.
    pub statement: Box<Statement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropKind {
    Table,
    View,
}

/// `DROP [TEMPORARY] TABLE | VIEW [IF EXISTS] name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropObject {
    pub kind: DropKind,
    pub temporary: bool,
    pub if_exists: bool,
    pub name: Name,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// With `LIKE 'pattern'`.
    Tables {
        like: Option<String>,
    },
    Views {
        like: Option<String>,
    },
    Functions {
        like: Option<String>,
    },
    Jobs,
    Columns(Name),
    CreateTable(Name),
    CreateView(Name),
}

/// `STOP JOB 'name' [WITH SAVEPOINT]`; the name also without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopJob {
    pub job: Name,
    pub with_savepoint: bool,
}

/// A statement of a script, with where it begins there (both from 1): `error.map_place(|p| p.offset_by(line, column))`
/// moves a place into the script.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub statement: Statement,
    pub text: String,
    /// See `fingerprint`; secrets by their names only (`names_secret`).
    pub fingerprint: String,
    pub line: u32,
    pub column: u32,
}

/// All statements of a script. The first error ends it, with its place in the script.
pub fn parse_script(script: &str) -> Result<Vec<Parsed>> {
    split_script(script)
        .into_iter()
        .map(|s| {
            let statement = parse_statement(s.text).map_err(|e| e.map_place(|p| p.offset_by(s.line, s.column)))?;
            Ok(Parsed {
                statement,
                text: s.text.to_owned(),
                fingerprint: fingerprint(s.text, &|_, _| false),
                line: s.line,
                column: s.column,
            })
        })
        .collect()
}

/// One statement, with or without its semicolon.
pub fn parse_statement(text: &str) -> Result<Statement> {
    let source = Source::new(text)?;
    limits::check(&source.tokens)?;
    let mut cursor = Cursor::new(&source);
    let mut used = vec![];
    let parsed = statement(&mut cursor, &mut used)?;
    cursor.expect_end()?;
    check_all_used(&source, &used)?;
    Ok(parsed)
}

/// Words with which a statement can begin, for proposals.
const BEGINNINGS: &[&str] = &[
    "SELECT", "WITH", "VALUES", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "EXECUTE", "BEGIN", "EXPLAIN", "SHOW",
    "DESCRIBE", "DESC", "SET", "RESET", "STOP",
];

/// Words with which statements of Flink begin that are not here, and what to say of them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("ALTER", "drop the table and create it anew"),
    ("USE", "there is one catalog with one database: name tables without them"),
    ("TRUNCATE", "DELETE FROM without WHERE empties a table"),
    ("ANALYZE", "the planner needs no statistics"),
    ("CALL", "there are no procedures"),
    ("COMPILE", "a job's plan is kept in its checkpoints"),
    ("LOAD", "there are no modules"),
    ("UNLOAD", "there are no modules"),
    ("ADD", "there are no jars"),
    ("REMOVE", "there are no jars"),
    ("MERGE", "UPDATE and INSERT do it in two statements"),
    ("REPLACE", "drop the table and create it anew"),
    ("GRANT", "there are no users"),
    ("COMMIT", "each statement is one transaction"),
    ("ROLLBACK", "each statement is one transaction"),
    ("START", "each statement is one transaction"),
];

/// `used` takes the ranges of tokens whose hints have been read.
fn statement(cursor: &mut Cursor, used: &mut Vec<(usize, usize)>) -> Result<Statement> {
    let from = cursor.position();
    if begins_query(cursor) {
        let query = query(cursor)?;
        used.push((from, cursor.position()));
        return Ok(Statement::Query(query));
    }
    let parser = &mut cursor.parser;
    let place = parser.here();
    let Token::Word(word) = &parser.peek_token_ref().token else { return Err(parser.expected_here("a statement")) };
    if word.quote_style.is_some() {
        return Err(parser.expected_here("a statement"));
    }
    let word = word.value.to_ascii_uppercase();
    match word.as_str() {
        "CREATE" => ddl::create(cursor, used),
        "DROP" => drop_object(cursor).map(Statement::Drop),
        "INSERT" => insert(cursor, used).map(|i| Statement::Insert(Box::new(i))),
        "EXECUTE" | "BEGIN" | "STATEMENT" => execute(cursor, used),
        "UPDATE" => update(cursor).map(Statement::Update),
        "DELETE" => delete(cursor).map(Statement::Delete),
        "EXPLAIN" => explain(cursor, used).map(Statement::Explain),
        "SHOW" => show(cursor).map(Statement::Show),
        "DESCRIBE" | "DESC" => {
            parser.advance_token();
            parser.eat_word("TABLE");
            if parser.eat_word("EXTENDED") {
                return Err(Error::unsupported("DESCRIBE EXTENDED is not supported").at(place).note("DESCRIBE is"));
            }
            table_name(cursor, "the name of a table or view").map(Statement::Describe)
        }
        "SET" => set(cursor),
        "RESET" => reset(cursor),
        "STOP" => stop_job(cursor).map(Statement::StopJob),
        _ => Err(match ELSEWHERE.iter().find(|(w, _)| *w == word) {
            Some((_, note)) => Error::unsupported(format!("{word} is not supported")).at(place).note(*note),
            None => Error::syntax(format!("no statement begins with \"{word}\""))
                .at(place)
                .propose(did_you_mean(&word, BEGINNINGS.iter().copied())),
        }),
    }
}

/// A table's name: one part, since there is one catalog with one database.
pub(crate) fn table_name(cursor: &mut Cursor, what: &str) -> Result<Name> {
    let name = cursor.parser.name(what)?;
    if cursor.parser.is_symbol(&Token::Period) {
        return Err(Error::unsupported("there is one catalog with one database")
            .at(name.place)
            .note("name the table without them"));
    }
    Ok(name)
}

/// `(a, b)`
pub(crate) fn name_list(cursor: &mut Cursor, what: &str) -> Result<Vec<Name>> {
    let parser = &mut cursor.parser;
    parser.expect_symbol(&Token::LParen)?;
    let mut names = vec![parser.name(what)?];
    while parser.eat_symbol(&Token::Comma) {
        names.push(parser.name(what)?);
    }
    if !parser.eat_symbol(&Token::RParen) {
        return Err(parser.expected_here("\",\" or \")\""));
    }
    Ok(names)
}

pub(crate) fn if_not_exists(cursor: &mut Cursor) -> Result<bool> {
    let parser = &mut cursor.parser;
    if !parser.eat_word("IF") {
        return Ok(false);
    }
    parser.expect_word("NOT")?;
    parser.expect_word("EXISTS")?;
    Ok(true)
}

fn drop_object(cursor: &mut Cursor) -> Result<DropObject> {
    let parser = &mut cursor.parser;
    parser.advance_token();
    let temporary = parser.eat_word("TEMPORARY");
    let place = parser.here();
    let kind = if parser.eat_word("TABLE") {
        DropKind::Table
    } else if parser.eat_word("VIEW") {
        DropKind::View
    } else {
        for kind in ["CATALOG", "DATABASE", "FUNCTION", "SYSTEM", "MODEL", "MATERIALIZED", "CONNECTION", "JOB"] {
            if parser.is_word(kind) {
                return Err(Error::unsupported(format!("DROP {kind} is not supported")).at(place));
            }
        }
        return Err(parser.expected_one_of(&["TABLE", "VIEW"]));
    };
    let if_exists = parser.eat_word("IF");
    if if_exists {
        parser.expect_word("EXISTS")?;
    }
    let what = if kind == DropKind::Table { "the name of a table" } else { "the name of a view" };
    Ok(DropObject { kind, temporary, if_exists, name: table_name(cursor, what)? })
}

fn insert(cursor: &mut Cursor, used: &mut Vec<(usize, usize)>) -> Result<Insert> {
    let from = cursor.position();
    let place = cursor.parser.expect_word("INSERT")?;
    let parser = &mut cursor.parser;
    if parser.is_word("OVERWRITE") {
        return Err(Error::unsupported("INSERT OVERWRITE is not supported").at(parser.here()));
    }
    parser.expect_word("INTO")?;
    parser.eat_word("TABLE");
    let at = cursor.position();
    let target = table_name(cursor, "the name of a table")?;
    let target_hint =
        Hints::read(cursor.source, at, at + 1, &[cursor.source.tokens[at].span.start])?.behind(target.place).cloned();
    used.push((at, at + 1));
    if cursor.parser.is_word("PARTITION") {
        return Err(Error::unsupported("INSERT INTO … PARTITION is not supported")
            .at(cursor.parser.here())
            .note("give the partition's values as columns of the query"));
    }
    // A parenthesis is a list of columns, unless a query begins in it.
    let is_query = ["SELECT", "WITH", "VALUES"].iter().any(|w| cursor.parser.is_word_at(1, w))
        || cursor.parser.peek_nth_token_ref(1).token == Token::LParen;
    let columns = if cursor.parser.is_symbol(&Token::LParen) && !is_query {
        let columns = name_list(cursor, "the name of a column")?;
        for (i, c) in columns.iter().enumerate() {
            if columns[..i].iter().any(|other| other.value == c.value) {
                return Err(Error::name(format!("column \"{}\" is listed twice", c.value)).at(c.place));
            }
        }
        Some(columns)
    } else {
        None
    };
    if !begins_query(cursor) {
        return Err(cursor.parser.expected_one_of(&["SELECT", "VALUES", "WITH"]));
    }
    let query_from = cursor.position();
    let query = query(cursor)?;
    used.push((query_from, cursor.position()));
    let text = cursor.source.text_of(from, cursor.position()).to_owned();
    Ok(Insert { target, target_hint, columns, query, place, text })
}

/// `EXECUTE STATEMENT SET BEGIN … END`, `BEGIN STATEMENT SET; … END`, and `EXECUTE insert`.
fn execute(cursor: &mut Cursor, used: &mut Vec<(usize, usize)>) -> Result<Statement> {
    let place = cursor.parser.here();
    let older_form = cursor.parser.eat_word("BEGIN");
    if !older_form && cursor.parser.eat_word("EXECUTE") {
        if cursor.parser.is_word("INSERT") {
            return insert(cursor, used).map(|i| Statement::Insert(Box::new(i)));
        }
        if cursor.parser.is_word("PLAN") {
            return Err(Error::unsupported("EXECUTE PLAN is not supported")
                .at(cursor.parser.here())
                .note("a job's plan is kept in its checkpoints"));
        }
    }
    cursor.parser.expect_word("STATEMENT")?;
    cursor.parser.expect_word("SET")?;
    if older_form {
        cursor.parser.eat_symbol(&Token::SemiColon);
    } else {
        cursor.parser.expect_word("BEGIN")?;
    }
    let mut inserts = vec![];
    loop {
        while cursor.parser.eat_symbol(&Token::SemiColon) {}
        if cursor.parser.is_word("END") {
            break;
        }
        if !cursor.parser.is_word("INSERT") {
            return Err(cursor
                .parser
                .expected_one_of(&["INSERT", "END"])
                .note("a statement set consists of INSERT statements, each with its semicolon"));
        }
        inserts.push(insert(cursor, used)?);
        if !cursor.parser.is_symbol(&Token::SemiColon) {
            return Err(cursor.parser.expected_here("\";\""));
        }
    }
    let end = cursor.parser.expect_word("END")?;
    if inserts.is_empty() {
        return Err(Error::syntax("the statement set is empty").at(end).note("it needs at least one INSERT"));
    }
    Ok(Statement::StatementSet(StatementSet { inserts, place }))
}

fn condition(cursor: &mut Cursor) -> Result<Option<Expr>> {
    if !cursor.parser.eat_word("WHERE") {
        return Ok(None);
    }
    let (expr, _) = cursor.expr()?;
    check_expr(&expr, &cursor.source.tokens)?;
    Ok(Some(expr))
}

fn update(cursor: &mut Cursor) -> Result<Update> {
    cursor.parser.advance_token();
    let target = table_name(cursor, "the name of a table")?;
    cursor.parser.expect_word("SET")?;
    let mut assignments: Vec<(Name, Expr)> = vec![];
    loop {
        let column = cursor.parser.name("the name of a column")?;
        if assignments.iter().any(|(c, _)| c.value == column.value) {
            return Err(Error::name(format!("column \"{}\" is set twice", column.value)).at(column.place));
        }
        cursor.parser.expect_symbol(&Token::Eq)?;
        let (value, _) = cursor.expr()?;
        check_expr(&value, &cursor.source.tokens)?;
        assignments.push((column, value));
        if !cursor.parser.eat_symbol(&Token::Comma) {
            break;
        }
    }
    Ok(Update { target, assignments, condition: condition(cursor)? })
}

fn delete(cursor: &mut Cursor) -> Result<Delete> {
    cursor.parser.advance_token();
    cursor.parser.expect_word("FROM")?;
    let target = table_name(cursor, "the name of a table")?;
    Ok(Delete { target, condition: condition(cursor)? })
}

fn explain(cursor: &mut Cursor, used: &mut Vec<(usize, usize)>) -> Result<Explain> {
    let parser = &mut cursor.parser;
    parser.advance_token();
    parser.eat_words(&["PLAN", "FOR"]);
    let verbose = parser.eat_word("VERBOSE");
    for detail in ["ESTIMATED_COST", "CHANGELOG_MODE", "PLAN_ADVICE", "JSON_EXECUTION_PLAN", "ANALYZED_PLAN"] {
        if parser.is_word(detail) {
            return Err(Error::unsupported(format!("EXPLAIN {detail} is not supported"))
                .at(parser.here())
                .note("EXPLAIN and EXPLAIN VERBOSE show all that is known"));
        }
    }
    let place = parser.here();
    let explained = statement(cursor, used)?;
    match explained {
        Statement::Query(_) | Statement::Insert(_) | Statement::StatementSet(_) => {
            Ok(Explain { verbose, statement: Box::new(explained) })
        }
        _ => Err(Error::syntax("EXPLAIN is for queries, INSERT and statement sets").at(place)),
    }
}

/// `SET 'key' = 'value'`, and both without quotes: `SET parallelism.default = 4`.
fn set(cursor: &mut Cursor) -> Result<Statement> {
    cursor.parser.advance_token();
    if at_end_of_statement(cursor) {
        return Ok(Statement::SetList);
    }
    let key = setting(cursor, "the name of a setting", &|t| *t == Token::Eq)?;
    cursor.parser.expect_symbol(&Token::Eq)?;
    let value = setting(cursor, "a value", &|_| false)?;
    Ok(Statement::Set { key, value })
}

fn reset(cursor: &mut Cursor) -> Result<Statement> {
    cursor.parser.advance_token();
    if at_end_of_statement(cursor) {
        return Ok(Statement::ResetAll);
    }
    setting(cursor, "the name of a setting", &|_| false).map(Statement::Reset)
}

fn at_end_of_statement(cursor: &Cursor) -> bool {
    cursor.parser.at_end() || cursor.parser.is_symbol(&Token::SemiColon)
}

/// A string, or the text of the tokens up to the end of the statement or a token at which to stop.
fn setting(cursor: &mut Cursor, what: &str, stop: &dyn Fn(&Token) -> bool) -> Result<Name> {
    if matches!(cursor.parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
        return cursor.parser.string(what);
    }
    let place = cursor.parser.here();
    let from = cursor.position();
    while !at_end_of_statement(cursor) && !stop(&cursor.parser.peek_token_ref().token) {
        cursor.parser.advance_token();
    }
    let value = cursor.source.text_of(from, cursor.position());
    if value.is_empty() {
        return Err(cursor.parser.expected_here(what));
    }
    let length = if value.contains('\n') { 1 } else { value.chars().count() as u32 };
    Ok(Name { value: value.to_owned(), place: Place::new(place.line, place.column, length) })
}

fn stop_job(cursor: &mut Cursor) -> Result<StopJob> {
    let parser = &mut cursor.parser;
    parser.advance_token();
    parser.expect_word("JOB")?;
    let job = match parser.peek_token_ref().token {
        Token::SingleQuotedString(_) => parser.string("the name of a job")?,
        _ => parser.name("the name of a job")?,
    };
    let with_savepoint = parser.eat_words(&["WITH", "SAVEPOINT"]);
    Ok(StopJob { job, with_savepoint })
}
