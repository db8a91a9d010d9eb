//! What a QUERY event says of the captured tables: the borders of transactions, DDL that they do not feel, and what a job
//! must not pass by: DDL that changes them, and statements whose rows are not in the log.
//!
//! DDL is allowed by a list. What is not on it and names a captured table, and what cannot be understood, is an error:
//! rows that a TRUNCATE, a DROP PARTITION or a RENAME took away have no events.

mod alter;
mod lexer;

use std::sync::Arc;

use thalweg_core::{Error, Result};

use self::lexer::{Quotes, Token};
use super::event::Query;
use crate::charset::Charset;
use crate::layout::{ServerColumn, TableLayout};

/// Characters of a statement that an error shows.
const SHOWN_CHARS_MAX: usize = 200;

/// The tables of one server that are read.
#[derive(Debug, Clone, Copy)]
pub struct Captured<'a> {
    pub layouts: &'a [Arc<TableLayout>],
    /// `lower_case_table_names` is not 0: names of databases and tables are without case.
    pub names_without_case: bool,
}

/// What a statement in the log does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Rows follow, up to an XID event, a commit or a rollback. Also a CREATE TABLE … SELECT.
    Begin,
    Commit,
    /// The rows since the begin did not happen.
    Rollback,
    Savepoint(String),
    /// The rows since the savepoint did not happen.
    RollbackTo(String),
    /// `XA START`, with the name of the distributed transaction, `X'61',X'',1`: as a begin, up to an XA_PREPARE event.
    XaStart(String),
    XaEnd,
    /// The transaction that was prepared under this name is committed.
    XaCommit(String),
    XaRollback(String),
    /// Nothing that a captured table feels.
    Nothing,
    /// Captured tables (by their place among the layouts) with other columns than before, which the declared ones do not
    /// feel. A transaction of its own.
    Columns(Vec<(usize, Vec<ServerColumn>)>),
}

impl<'a> Captured<'a> {
    fn same(&self, a: &str, b: &str) -> bool {
        if self.names_without_case { a.to_lowercase() == b.to_lowercase() } else { a == b }
    }

    fn find(&self, name: &TableName) -> Vec<(usize, &'a TableLayout)> {
        let found = self.layouts.iter().enumerate().filter(|(_, layout)| {
            self.same(layout.table(), &name.table) && self.same(layout.database(), &name.database)
        });
        found.map(|(i, layout)| (i, layout.as_ref())).collect()
    }

    fn in_database(&self, database: &str) -> Option<&'a TableLayout> {
        self.layouts.iter().map(Arc::as_ref).find(|layout| self.same(layout.database(), database))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct TableName {
    database: String,
    table: String,
}

/// What the statement does.
///
/// # Errors
/// It changes a captured table in a way that rows of the log do not show, or we cannot tell.
pub fn effect(query: &Query<'_>, captured: &Captured<'_>) -> Result<Effect> {
    match query.text {
        b"BEGIN" => return Ok(Effect::Begin),
        b"COMMIT" => return Ok(Effect::Commit),
        _ => {}
    }
    let text = text_of(query)?;
    let quotes = Quotes::of_mode(query.sql_mode);
    let tokens = lexer::tokens(&text, quotes).ok_or_else(|| unreadable(&text))?;
    let database = String::from_utf8_lossy(query.database).into_owned();
    let statement = Statement { text: &text, tokens: &tokens, at: 0, database, captured };
    statement.effect()
}

fn text_of(query: &Query<'_>) -> Result<String> {
    let charset = Charset::of_collation(u32::from(query.client_collation));
    let charset = match charset {
        Some(charset) => charset,
        None => Charset::of_name("utf8mb4")?,
    };
    let mut text = vec![];
    let decoded = charset.decode(query.text, &mut text).map_err(|e| e.to_string());
    decoded.and_then(|()| String::from_utf8(text).map_err(|e| e.to_string())).map_err(|why| {
        let text = String::from_utf8_lossy(query.text);
        unreadable(&text).note(format!("its text {why}"))
    })
}

fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cold]
fn unreadable(text: &str) -> Error {
    Error::unsupported(format!("the binlog holds a statement that cannot be understood: {}", shown(text)))
        .note("it may change captured tables; start with --fresh, or from a position behind it")
}

/// A statement in words, read from the front.
struct Statement<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
    /// Default of names without a database.
    database: String,
    captured: &'a Captured<'a>,
}

impl<'a> Statement<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.at);
        self.at += 1;
        token
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|t| t.is(word));
        self.at += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: char) -> bool {
        let found = self.peek().is_some_and(|t| t.is_sign(sign));
        self.at += usize::from(found);
        found
    }

    fn take_all(&mut self, words: &[&str]) -> bool {
        let begin = self.at;
        let found = words.iter().all(|w| self.take(w));
        if !found {
            self.at = begin;
        }
        found
    }

    fn unreadable(&self) -> Error {
        unreadable(self.text)
    }

    fn name(&mut self) -> Result<String> {
        self.next().and_then(Token::name).map(str::to_owned).ok_or_else(|| self.unreadable())
    }

    /// `table` or `database.table`.
    fn table_name(&mut self) -> Result<TableName> {
        let first = self.name()?;
        if !self.take_sign('.') {
            return Ok(TableName { database: self.database.clone(), table: first });
        }
        Ok(TableName { database: first, table: self.name()? })
    }

    fn if_exists(&mut self) {
        let _ = self.take_all(&["IF", "EXISTS"]) || self.take_all(&["IF", "NOT", "EXISTS"]);
    }

    #[cold]
    fn refused(&self, layout: &TableLayout, why: &str) -> Error {
        let (database, table) = (layout.database(), layout.table());
        Error::unsupported(format!("table {}: {database}.{table} {why}: {}", layout.name(), shown(self.text)))
            .note("what it did to rows is not in the binlog as rows")
            .note("start with --fresh, which reads the table anew, and with a new or emptied target: it gets all rows as inserts again, and no delete of rows that are gone")
    }

    fn refuse_if_captured(&self, name: &TableName, why: &str) -> Result<()> {
        match self.captured.find(name).first() {
            Some((_, layout)) => Err(self.refused(layout, why)),
            None => Ok(()),
        }
    }

    fn effect(mut self) -> Result<Effect> {
        let Some(Token::Word(first)) = self.next() else { return Err(self.unreadable()) };
        match first.to_ascii_uppercase().as_str() {
            "BEGIN" => Ok(Effect::Begin),
            "COMMIT" => Ok(Effect::Commit),
            "START" if self.take("TRANSACTION") => Ok(Effect::Begin),
            "ROLLBACK" => {
                self.take("WORK");
                if !self.take("TO") {
                    return Ok(Effect::Rollback);
                }
                self.take("SAVEPOINT");
                Ok(Effect::RollbackTo(self.name()?))
            }
            "SAVEPOINT" => Ok(Effect::Savepoint(self.name()?)),
            "RELEASE" if self.take("SAVEPOINT") => Ok(Effect::Nothing),
            "XA" => self.xa(),
            "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "WITH" | "CALL" | "DO" | "SELECT" | "VALUES"
            | "TABLE" => Err(self.statement_format()),
            "CREATE" => self.create(),
            "DROP" => self.drop(),
            "ALTER" => self.alter(),
            "RENAME" => self.rename(),
            "TRUNCATE" => {
                self.take("TABLE");
                let name = self.table_name()?;
                self.refuse_if_captured(&name, "was emptied")?;
                Ok(Effect::Nothing)
            }
            "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECK" | "CHECKSUM" | "FLUSH" | "CACHE" | "GRANT" | "REVOKE"
            | "SET" | "INSTALL" | "UNINSTALL" | "RESET" | "PURGE" | "UNLOCK" | "LOCK" | "USE" | "KILL" | "SHUTDOWN" => {
                Ok(Effect::Nothing)
            }
            _ => Err(self.unreadable()),
        }
    }

    #[cold]
    fn statement_format(&self) -> Error {
        Error::unsupported(format!(
            "the binlog holds a change as a statement, without its rows: {}",
            shown(self.text)
        ))
        .note("a session wrote with binlog_format = STATEMENT or MIXED: SET GLOBAL binlog_format = ROW, and see that no session sets it for itself")
        .note("whether it changed captured tables (by triggers too) is not in the log: start with --fresh, or from a position behind it")
    }

    /// `XA START X'61',X'',1`.
    fn xa(mut self) -> Result<Effect> {
        let verb = self.name()?.to_ascii_uppercase();
        let name = || {
            let begin = self.text.to_ascii_uppercase().find(&verb).map_or(0, |at| at + verb.len());
            self.text[begin..].trim().trim_end_matches(|c: char| c.is_alphabetic() || c.is_whitespace()).to_owned()
        };
        match verb.as_str() {
            "START" | "BEGIN" => Ok(Effect::XaStart(name())),
            "END" => Ok(Effect::XaEnd),
            "COMMIT" => Ok(Effect::XaCommit(name())),
            "ROLLBACK" => Ok(Effect::XaRollback(name())),
            _ => Err(self.unreadable()),
        }
    }

    fn create(mut self) -> Result<Effect> {
        let temporary = self.take("TEMPORARY");
        if !self.take("TABLE") {
            // Indexes, databases, views, triggers, routines, users: no rows. A unique index refuses, it never removes.
            return Ok(Effect::Nothing);
        }
        // A captured table that is made here was not there before, or was dropped, which stops the job.
        let selects = self.tokens.windows(2).any(|w| w[0].is("START") && w[1].is("TRANSACTION"));
        Ok(if selects && !temporary { Effect::Begin } else { Effect::Nothing })
    }

    fn drop(mut self) -> Result<Effect> {
        let what = self.name()?.to_ascii_uppercase();
        match what.as_str() {
            "TABLE" | "TABLES" => {
                self.if_exists();
                loop {
                    let name = self.table_name()?;
                    self.refuse_if_captured(&name, "was dropped")?;
                    if !self.take_sign(',') {
                        return Ok(Effect::Nothing);
                    }
                }
            }
            "DATABASE" | "SCHEMA" => {
                self.if_exists();
                let database = self.name()?;
                match self.captured.in_database(&database) {
                    Some(layout) => Err(self.refused(layout, "was dropped")),
                    None => Ok(Effect::Nothing),
                }
            }
            "INDEX" => {
                let index = self.name()?;
                if index.eq_ignore_ascii_case("PRIMARY") && self.take("ON") {
                    let name = self.table_name()?;
                    self.refuse_if_captured(&name, "lost its primary key")?;
                }
                Ok(Effect::Nothing)
            }
            // Temporary tables, views, triggers, routines, users.
            _ => Ok(Effect::Nothing),
        }
    }

    fn rename(mut self) -> Result<Effect> {
        if !self.take("TABLE") && !self.take("TABLES") {
            return Ok(Effect::Nothing);
        }
        loop {
            let from = self.table_name()?;
            self.refuse_if_captured(&from, "was renamed")?;
            if !self.take("TO") {
                return Err(self.unreadable());
            }
            let to = self.table_name()?;
            self.refuse_if_captured(&to, "was replaced by another table")?;
            if !self.take_sign(',') {
                return Ok(Effect::Nothing);
            }
        }
    }

    fn alter(mut self) -> Result<Effect> {
        self.take("IGNORE");
        if !self.take("TABLE") {
            return Ok(Effect::Nothing);
        }
        let name = self.table_name()?;
        let found = self.captured.find(&name);
        // Another table may become a captured one, or give its rows to one.
        let actions = alter::actions(&self.tokens[self.at.min(self.tokens.len())..]);
        if found.is_empty() {
            for action in &actions {
                if let Some(new) = alter::renamed_to(action, &self.database) {
                    self.refuse_if_captured(&new, "was replaced by another table")?;
                }
                if let Some(other) = alter::exchanged_with(action, &self.database) {
                    self.refuse_if_captured(&other, "was exchanged for a partition of another table")?;
                }
            }
            return Ok(Effect::Nothing);
        }
        let mut changed = vec![];
        for (place, layout) in found {
            let columns = alter::apply(layout, &actions).map_err(|why| self.refused(layout, &why))?;
            if columns != layout.columns() {
                changed.push((place, columns));
            }
        }
        Ok(if changed.is_empty() { Effect::Nothing } else { Effect::Columns(changed) })
    }
}

#[cfg(test)]
mod tests;
