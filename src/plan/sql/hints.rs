//! Hints: `/*+ OPTIONS('key' = 'value', …) */` behind a table's name changes that table's options in this one place.
//! Every other hint is refused by name.

use std::collections::BTreeMap;

use sqlparser::ast::ObjectName;
use sqlparser::tokenizer::{Location, Token};
use thalweg_core::{Error, Place, Result};

use crate::sql::cursor::{Cursor, Name, Reading};
use crate::sql::ddl::{TableOption, table_options};
use crate::sql::tokens::{HintText, Source, place_of};

/// The `OPTIONS` hint behind one table's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableHint {
    /// Of the whole hint.
    pub place: Place,
    pub options: Vec<TableOption>,
    /// Where the last part of the table's name begins.
    behind: Place,
}

impl TableHint {
    /// The table's options with those of the hint over them.
    pub fn over(&self, options: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut merged = options.clone();
        merged.extend(self.options.iter().map(|o| (o.key.value.clone(), o.value.value.clone())));
        merged
    }
}

/// The hints of one query or target. Who resolves a table's name asks for its hint; a hint behind the name of a view or
/// of a `WITH` query must be refused there, since it changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    all: Vec<TableHint>,
}

impl Hints {
    /// The hint behind this occurrence of a table's name.
    pub fn of(&self, table: &ObjectName) -> Option<&TableHint> {
        let last = table.0.last()?.as_ident()?;
        self.behind(place_of(last.span))
    }

    pub(crate) fn behind(&self, name: Place) -> Option<&TableHint> {
        self.all.iter().find(|h| (h.behind.line, h.behind.column) == (name.line, name.column))
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &TableHint> {
        self.all.iter()
    }

    /// The hints that stand behind the tokens `from..to`. `tables` are the places at which the last parts of tables'
    /// names begin: elsewhere a hint is an error.
    pub(crate) fn read(source: &Source, from: usize, to: usize, tables: &[Location]) -> Result<Hints> {
        let mut hints = Hints::default();
        for text in source.hints.iter().filter(|h| h.behind.is_some_and(|b| (from..to).contains(&b))) {
            let behind = source.tokens[text.behind.expect("filtered")].span;
            let options = options_of(text)?;
            if !tables.contains(&behind.start) {
                return Err(misplaced(text));
            }
            if hints.behind(place_of(behind)).is_some() {
                return Err(Error::syntax("a table can have one OPTIONS hint only").at(text.place));
            }
            hints.all.push(TableHint { place: text.place, options, behind: place_of(behind) });
        }
        Ok(hints)
    }
}

/// Fails if the statement has a hint for which nobody has asked: it would be ignored.
pub(crate) fn check_all_used(source: &Source, used: &[(usize, usize)]) -> Result<()> {
    for text in &source.hints {
        if !text.behind.is_some_and(|b| used.iter().any(|(from, to)| (*from..*to).contains(&b))) {
            options_of(text)?;
            return Err(misplaced(text));
        }
    }
    Ok(())
}

fn misplaced(text: &HintText) -> Error {
    Error::syntax("the hint OPTIONS must stand directly behind the name of a table").at(text.place)
}

/// Reads `OPTIONS('key' = 'value', …)`.
fn options_of(text: &HintText) -> Result<Vec<TableOption>> {
    let in_statement = |e: Error| e.map_place(|p| p.offset_by(text.text_line, text.text_column)).at(text.place);
    let source = Source::new(&text.text).map_err(in_statement)?;
    let mut cursor = Cursor::new(&source);
    let read = |cursor: &mut Cursor| -> Result<Vec<TableOption>> {
        let parser = &mut cursor.parser;
        let place = parser.here();
        match &parser.peek_token_ref().token {
            Token::Word(w) if w.value.eq_ignore_ascii_case("OPTIONS") => {}
            Token::Word(w) => {
                return Err(Error::unsupported(format!("the hint {} is not supported", w.value.to_uppercase()))
                    .at(place)
                    .note("the one hint is OPTIONS('key' = 'value', …), behind the name of a table"));
            }
            Token::EOF => return Err(Error::syntax("the hint is empty").at(text.place)),
            _ => return Err(parser.expected_here("OPTIONS")),
        }
        parser.advance_token();
        let options = table_options(parser)?;
        parser.eat_symbol(&Token::Comma);
        if let Token::Word(w) = &parser.peek_token_ref().token {
            return Err(
                Error::unsupported(format!("the hint {} is not supported", w.value.to_uppercase())).at(parser.here())
            );
        }
        cursor.expect_end()?;
        Ok(options)
    };
    let options = match read(&mut cursor) {
        Err(e) if e.place() == Some(text.place) => return Err(e),
        read => read.map_err(in_statement)?,
    };
    let moved = |n: Name| Name { place: n.place.offset_by(text.text_line, text.text_column), ..n };
    Ok(options.into_iter().map(|o| TableOption { key: moved(o.key), value: moved(o.value) }).collect())
}
