//! Where in a statement the option stands that an error is about.

use thalweg_core::{Error, Place};

use crate::sql::ddl::{CreateTable, TableOption};
use crate::sql::hints::TableHint;

impl CreateTable {
    /// An error of a connector's about this table's options with the place of the option in question: its value where
    /// the error quotes that, else its name; of an option that is missing, the connector's or the table's name.
    pub fn place_option_error(&self, e: Error) -> Error {
        place_option_error(e, &self.options, self.name.place)
    }
}

impl TableHint {
    /// As `CreateTable::place_option_error`, for the options of the hint.
    pub fn place_option_error(&self, e: Error) -> Error {
        place_option_error(e, &self.options, self.place)
    }
}

fn place_option_error(e: Error, options: &[TableOption], otherwise: Place) -> Error {
    let message = e.message();
    let quotes = |text: &str| !text.is_empty() && message.contains(&format!("'{text}'"));
    let key = |o: &&TableOption| quotes(&o.key.value) || quotes(&o.key.value.to_lowercase());
    let value = |o: &&TableOption| quotes(&o.value.value);
    let place = options
        .iter()
        .find(|o| key(o) && value(o))
        .map(|o| o.value.place)
        .or_else(|| options.iter().find(key).map(|o| o.key.place))
        .or_else(|| options.iter().find(value).map(|o| o.value.place))
        .unwrap_or(otherwise);
    e.at(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Statement, parse_statement};

    #[test]
    fn an_option_s_error_stands_at_its_value_or_its_name() {
        let text = "CREATE TABLE t (a INT) WITH ('connector' = 'kafak', 'Path' = 'x', 'rate' = 'fast')";
        let Ok(Statement::CreateTable(t)) = parse_statement(text) else { panic!("is a table") };
        let marked = |message: &str| {
            let p = t.place_option_error(Error::option(message)).place().expect("has one");
            text[p.column as usize - 1..(p.column + p.length) as usize - 1].to_owned()
        };
        assert_eq!(marked("unknown connector 'kafak'"), "'kafak'");
        assert_eq!(marked("table t (connector 'kafak') has no option 'path'"), "'Path'");
        assert_eq!(marked("'rate' = 'fast' of table t is not a whole number"), "'fast'");
        assert_eq!(marked("table t (connector 'kafak') needs the option 'topic'"), "'kafak'");
        assert_eq!(marked("table t needs the option 'topic'"), "t");
    }
}
