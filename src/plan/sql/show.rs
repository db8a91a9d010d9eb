//! `SHOW …`

use sqlparser::tokenizer::Token;
use thalweg_core::{Error, Result};

use crate::sql::cursor::{Cursor, Reading};
use crate::sql::statement::{Show, table_name};

const SHOWN: &[&str] = &["TABLES", "VIEWS", "FUNCTIONS", "JOBS", "COLUMNS", "CREATE"];
const NOT_SHOWN: &[&str] =
    &["CATALOGS", "DATABASES", "MODULES", "JARS", "PARTITIONS", "PROCEDURES", "CURRENT", "MODELS"];

pub(crate) fn show(cursor: &mut Cursor) -> Result<Show> {
    let parser = &mut cursor.parser;
    parser.advance_token();
    let place = parser.here();
    for what in NOT_SHOWN {
        if parser.is_word(what) {
            return Err(Error::unsupported(format!("SHOW {what} is not supported"))
                .at(place)
                .note(format!("what there is: SHOW {} TABLE", SHOWN.join(", SHOW "))));
        }
    }
    parser.eat_words(&["USER"]);
    if parser.eat_word("TABLES") {
        Ok(Show::Tables { like: like(cursor)? })
    } else if parser.eat_word("VIEWS") {
        Ok(Show::Views { like: like(cursor)? })
    } else if parser.eat_word("FUNCTIONS") {
        Ok(Show::Functions { like: like(cursor)? })
    } else if parser.eat_word("JOBS") {
        Ok(Show::Jobs)
    } else if parser.eat_word("COLUMNS") {
        if !parser.eat_word("FROM") && !parser.eat_word("IN") {
            return Err(parser.expected_one_of(&["FROM"]));
        }
        table_name(cursor, "the name of a table or view").map(Show::Columns)
    } else if parser.eat_word("CREATE") {
        if parser.eat_word("TABLE") {
            table_name(cursor, "the name of a table").map(Show::CreateTable)
        } else if parser.eat_word("VIEW") {
            table_name(cursor, "the name of a view").map(Show::CreateView)
        } else {
            Err(parser.expected_one_of(&["TABLE", "VIEW"]))
        }
    } else {
        Err(parser.expected_one_of(SHOWN))
    }
}

/// Whether a name fits the pattern of `SHOW … LIKE`: `%` any characters, `_` any one; upper and lower case are the same.
pub fn like_matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let name: Vec<char> = name.to_lowercase().chars().collect();
    // Where to go on when the part behind the last `%` does not fit: that `%` takes one more.
    let mut retry: Option<(usize, usize)> = None;
    let (mut p, mut n) = (0, 0);
    while n < name.len() {
        if pattern.get(p) == Some(&'%') {
            retry = Some((p, n));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '_' || *c == name[n]) {
            p += 1;
            n += 1;
        } else if let Some((at, taken)) = retry {
            retry = Some((at, taken + 1));
            p = at + 1;
            n = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '%')
}

/// `LIKE 'pattern'` with `%` and `_`.
fn like(cursor: &mut Cursor) -> Result<Option<String>> {
    let parser = &mut cursor.parser;
    if !parser.eat_word("LIKE") {
        return Ok(None);
    }
    match parser.peek_token_ref().token {
        Token::SingleQuotedString(_) => parser.string("a pattern").map(|p| Some(p.value)),
        _ => Err(parser.expected_here("a pattern in single quotes")),
    }
}

#[cfg(test)]
mod tests {
    use super::like_matches;

    #[test]
    fn patterns_fit_whole_names_without_regard_to_case() {
        for (pattern, name, fits) in [
            ("orders", "Orders", true),
            ("ord%", "orders", true),
            ("%r%s", "orders", true),
            ("o_ders", "orders", true),
            ("%", "", true),
            ("ord", "orders", false),
            ("_", "", false),
            ("%x%", "orders", false),
            ("a%b%c", "a-b-b-c", true),
        ] {
            assert_eq!(like_matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
