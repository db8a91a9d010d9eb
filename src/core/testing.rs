//! For tests: changes as text tables and back. One line per row: sign, weight unless it is 1, then the columns.
//!
//! ```
//! use thalweg_core::testing::{assert_changes_eq, assert_net_eq, changes, columns, print};
//!
//! let c = columns("I T"); // BIGINT "a", STRING "b"
//! let found = changes(
//!     "I T
//!      + 1 a
//!      +2 1 .
//!      - 2 'b c'",
//!     &c,
//! );
//! assert_eq!(found.num_rows(), 3);
//! assert_eq!((found.weight(0), found.weight(1), found.weight(2)), (1, 2, -1));
//! // In a canonical order: by the columns, NULL first, then by weight.
//! assert_eq!(print(&found), "I T\n+2 1 .\n+ 1 a\n- 2 'b c'\n");
//!
//! // The same net changes, in any order and in any number of parts.
//! assert_changes_eq(&found, &changes("- 2 'b c'\n+ 1 .\n+ 1 a\n+ 1 .", &c));
//! assert_net_eq(&[found.clone(), changes("- 1 a\n+ 2 'b c'", &c)], "+2 1 .");
//! ```
//!
//! The letters of a header, one per column, and how their values are written:
//!
//! | letter | type | value |
//! | --- | --- | --- |
//! | `t` `s` `i` `I` | TINYINT, SMALLINT, INT, BIGINT | `-12` |
//! | `f` `F` | FLOAT, DOUBLE | `1.5`, `NaN`, `-inf` |
//! | `D` `L` | DECIMAL(10, 2), DECIMAL(60, 4) | `1.5` |
//! | `B` | BOOLEAN | `true` |
//! | `T` | STRING | `a`; `'a b'` with spaces, `''` for none, `'.'` for a point, `''''` for a quote |
//! | `X` | BYTES | `6162` (hexadecimal) |
//! | `d` | DATE | `2024-02-29` |
//! | `P` `Q` `Z` | TIMESTAMP(3), TIMESTAMP(6), TIMESTAMP_LTZ(3) | `2024-02-29T10:00:00.123` |
//!
//! `.` is NULL. Whatever is malformed panics: these are helpers of tests.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use arrow::util::display::FormatOptions;

use crate::changes::Changes;
use crate::consolidate::{consolidate, weights_array};
use crate::fold::RowChanges;
use crate::row_key::{RowKeys, sorted};
use crate::state::KeyBatch;
use crate::types::{Column, SqlType, to_schema};

const LETTERS: [(char, SqlType); 15] = [
    ('t', SqlType::TinyInt),
    ('s', SqlType::SmallInt),
    ('i', SqlType::Int),
    ('I', SqlType::BigInt),
    ('f', SqlType::Float),
    ('F', SqlType::Double),
    ('D', SqlType::Decimal { precision: 10, scale: 2 }),
    ('L', SqlType::Decimal { precision: 60, scale: 4 }),
    ('B', SqlType::Boolean),
    ('T', SqlType::STRING),
    ('X', SqlType::BYTES),
    ('d', SqlType::Date),
    ('P', SqlType::Timestamp(3)),
    ('Q', SqlType::Timestamp(6)),
    ('Z', SqlType::TimestampLtz(3)),
];

/// Nullable columns with the names `a`, `b`, `c`, … of the types that the letters of a header say: `columns("I T")`.
pub fn columns(header: &str) -> Vec<Column> {
    let column = |(letter, name): (&str, char)| {
        let (_, ty) = LETTERS
            .into_iter()
            .find(|(l, _)| letter == l.to_string())
            .unwrap_or_else(|| panic!("\"{letter}\" in the header \"{header}\" is no type's letter"));
        Column::new(name, ty, true)
    };
    header.split_whitespace().zip('a'..).map(column).collect()
}

/// The changes that a text table says. A header is optional (it is checked), unless `columns` is empty: then it says
/// what the columns are. Columns of any type that Arrow casts from a string are possible, also without a letter.
///
/// # Panics
/// If the text is malformed.
#[track_caller]
pub fn changes(text: &str, columns: &[Column]) -> Changes {
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty()).peekable();
    let owned;
    let columns = match lines.next_if(|l| !l.starts_with(['+', '-'])) {
        Some(header) => {
            owned = self::columns(header);
            let same = owned.iter().map(|c| &c.ty).eq(columns.iter().map(|c| &c.ty));
            assert!(columns.is_empty() || same, "the header \"{header}\" does not say the types of {columns:?}");
            if columns.is_empty() { &owned } else { columns }
        }
        None => columns,
    };
    let mut cells: Vec<Vec<Option<String>>> = vec![vec![]; columns.len()];
    let mut weights = vec![];
    for line in lines {
        let (weight, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let weight: i64 = match weight {
            "+" => 1,
            "-" => -1,
            number => number.parse().unwrap_or_else(|_| panic!("\"{number}\" in \"{line}\" is no weight")),
        };
        assert_ne!(weight, 0, "the weight of \"{line}\"");
        weights.push(weight);
        let words = words(rest);
        assert_eq!(words.len(), columns.len(), "columns in \"{line}\"");
        cells.iter_mut().zip(words).for_each(|(column, word)| column.push(word));
    }
    let rows = weights.len();
    let arrays = columns.iter().zip(cells).map(|(c, words)| parse(&c.ty, words)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(to_schema(columns), arrays, &options)
        .unwrap_or_else(|e| panic!("{e} in\n{text}"));
    Changes::new(batch, weights_array(weights))
}

/// As a text table with a header, one line per row as it is (not net), in the order of the columns in declaration
/// order, NULL first, then of the weights.
pub fn print(changes: &Changes) -> String {
    let batch = &changes.batch;
    let mut keys = KeyBatch::new();
    let codec = RowKeys::new(batch.schema(), &[]).expect("columns of SQL types");
    codec.encode(batch, &mut keys).expect("columns of SQL types");
    let mut rows: Vec<usize> = sorted(&keys).into_iter().map(|e| e.row as usize).collect();
    for equal in rows.chunk_by_mut(|a, b| keys.get(*a) == keys.get(*b)) {
        equal.sort_by_key(|row| changes.weight(*row));
    }
    let mark = |row| match changes.weight(row) {
        1 => "+".to_string(),
        -1 => "-".to_string(),
        weight => format!("{weight:+}"),
    };
    print_lines(batch, rows.into_iter().map(|row| (mark(row), row)))
}

/// As a text table with a header and `+I`, `-U`, `+U`, `-D`, in the order in which the rows apply.
pub fn print_rows(rows: &RowChanges) -> String {
    print_lines(&rows.batch, (0..rows.num_rows()).map(|row| (rows.kind(row).symbol().to_string(), row)))
}

/// # Panics
/// If the two are not net the same; the message shows both nets.
#[track_caller]
pub fn assert_changes_eq(found: &Changes, expected: &Changes) {
    assert_eq_text(found, expected);
}

/// # Panics
/// If the net of the parts is not that of the text table (of the columns of the parts). No parts net to nothing.
#[track_caller]
pub fn assert_net_eq(found: &[Changes], expected: &str) {
    let Some(first) = found.first() else {
        assert!(!expected.lines().any(|l| l.trim().starts_with(['+', '-'])), "found nothing, expected\n{expected}");
        return;
    };
    let schema = first.batch.schema();
    let column = |f: &Arc<arrow::datatypes::Field>| {
        Column::new(f.name(), SqlType::from_arrow(f.data_type()).expect("a SQL type"), f.is_nullable())
    };
    let columns: Vec<Column> = schema.fields().iter().map(column).collect();
    let net = consolidate(found).expect("parts of one schema");
    assert_eq_text(&net, &changes(expected, &columns));
}

#[track_caller]
fn assert_eq_text(found: &Changes, expected: &Changes) {
    let [found, expected] = [found, expected].map(|c| print(&consolidate(std::slice::from_ref(c)).expect("SQL types")));
    assert!(found == expected, "found\n{found}\nexpected\n{expected}");
}

/// Words between spaces; quoted ones may hold spaces; a bare point is NULL.
fn words(line: &str) -> Vec<Option<String>> {
    let mut words = vec![];
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('\'') {
            let mut word = String::new();
            let mut chars = quoted.char_indices().peekable();
            let end = loop {
                match chars.next().unwrap_or_else(|| panic!("a quote without its end in \"{line}\"")) {
                    (_, '\'') if chars.next_if(|(_, c)| *c == '\'').is_some() => word.push('\''),
                    (at, '\'') => break at + 1,
                    (_, c) => word.push(c),
                }
            };
            words.push(Some(word));
            rest = quoted[end..].trim_start();
        } else {
            let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            words.push((word != ".").then(|| word.to_string()));
            rest = after.trim_start();
        }
    }
    words
}

fn parse(ty: &SqlType, words: Vec<Option<String>>) -> ArrayRef {
    match ty.to_arrow() {
        DataType::Binary => {
            let bytes = |hex: String| -> Vec<u8> {
                let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16);
                (0..hex.len()).step_by(2).map(|at| byte(at).unwrap_or_else(|e| panic!("{e} in {hex}"))).collect()
            };
            Arc::new(words.into_iter().map(|w| w.map(bytes)).collect::<BinaryArray>())
        }
        arrow_type => {
            let text: ArrayRef = Arc::new(StringArray::from(words));
            let options = CastOptions { safe: false, format_options: FormatOptions::default() };
            cast_with_options(&text, &arrow_type, &options).unwrap_or_else(|e| panic!("not a {ty}: {e}"))
        }
    }
}

fn print_lines(batch: &RecordBatch, rows: impl Iterator<Item = (String, usize)>) -> String {
    let mut out = String::new();
    for (i, field) in batch.schema().fields().iter().enumerate() {
        let ty = SqlType::from_arrow(field.data_type()).expect("a SQL type");
        let space = if i == 0 { "" } else { " " };
        match LETTERS.into_iter().find(|(_, t)| t.to_arrow() == ty.to_arrow()) {
            Some((letter, _)) => write!(out, "{space}{letter}"),
            None => write!(out, "{space}{}", ty.to_string().replace(' ', "")),
        }
        .expect("a string takes all");
    }
    out.push('\n');
    let columns: Vec<Vec<String>> = batch.columns().iter().map(print_column).collect();
    for (mark, row) in rows {
        out.push_str(&mark);
        for column in &columns {
            out.push(' ');
            out.push_str(&column[row]);
        }
        out.push('\n');
    }
    out
}

fn print_column(column: &ArrayRef) -> Vec<String> {
    let text = |row: usize| -> String {
        match column.data_type() {
            DataType::Binary if column.as_binary::<i32>().value(row).is_empty() => "''".into(),
            DataType::Binary => column.as_binary::<i32>().value(row).iter().map(|b| format!("{b:02x}")).collect(),
            DataType::Utf8 => {
                let s = column.as_string::<i32>().value(row);
                let plain = !s.is_empty() && s != "." && !s.contains(|c: char| c.is_whitespace() || c == '\'');
                if plain { s.to_string() } else { format!("'{}'", s.replace('\'', "''")) }
            }
            // UTC, and without the letter that says so.
            DataType::Timestamp(_, Some(_)) => display(column, row).trim_end_matches('Z').to_string(),
            _ => display(column, row),
        }
    };
    (0..column.len()).map(|row| if column.is_valid(row) { text(row) } else { ".".into() }).collect()
}

fn display(column: &ArrayRef, row: usize) -> String {
    let shown = arrow::util::display::array_value_to_string(column, row).expect("a value that can be shown");
    if shown.contains(char::is_whitespace) { format!("'{shown}'") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back_for_every_letter() {
        let text = "t s i I f F D L B T X d P Q Z
- . . . . . . . . . . . . . . .
+ -1 -2 -3 -4 1.5 -0.25 1.50 3.1415 true 'a ''b' 00ff 2024-02-29 2024-02-29T10:00:00.123 2024-02-29T10:00:00.000001 2024-02-29T10:00:00.500
+7 1 2 3 4 NaN inf -1.00 0.0000 false . '' 1969-12-31 1969-12-31T23:59:59 1969-12-31T23:59:59 1969-12-31T23:59:59
";
        let found = changes(text, &[]);
        assert_eq!(found.batch.schema().field(14).data_type(), &SqlType::TimestampLtz(3).to_arrow());
        assert_eq!(print(&found), text);
    }

    #[test]
    fn a_header_that_contradicts_the_columns_panics() {
        let result = std::panic::catch_unwind(|| changes("I\n+ 1", &columns("T")));
        assert!(result.is_err());
    }

    #[test]
    fn nets_that_differ_panic() {
        let c = columns("I");
        let result = std::panic::catch_unwind(|| assert_changes_eq(&changes("+ 1", &c), &changes("+2 1", &c)));
        assert!(result.is_err());
        assert_net_eq(&[], "I");
    }
}
