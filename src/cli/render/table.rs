//! Rows as a table: `│ ─ ┼`, numbers on the right.

use arrow::array::RecordBatch;
use thalweg_session::core::{Column, SqlType};
use unicode_width::UnicodeWidthStr;

use super::grouped;
use super::value::{Form, write};

/// A table whose columns may grow as rows come.
pub struct Table {
    widths: Vec<usize>,
    right: Vec<bool>,
    header: Vec<String>,
    has_begun: bool,
}

impl Table {
    /// `before`: columns of text before those of the answer.
    pub fn new(before: &[&str], columns: &[Column]) -> Self {
        let header: Vec<String> =
            before.iter().map(|s| (*s).to_owned()).chain(columns.iter().map(|c| visible(&c.name))).collect();
        let right = before.iter().map(|_| false).chain(columns.iter().map(|c| is_number(&c.ty))).collect();
        Table { widths: header.iter().map(|h| h.width()).collect(), right, header, has_begun: false }
    }

    /// The lines of some rows; the first have the header before them. Widths never shrink.
    pub fn lines(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut out = String::new();
        if !self.has_begun {
            self.has_begun = true;
            self.line(&self.header, &mut out);
            let rules: Vec<String> = self.widths.iter().map(|w| "─".repeat(w + 2)).collect();
            out.push_str(&rules.join("┼"));
            out.push('\n');
        }
        for row in rows {
            self.line(row, &mut out);
        }
        out
    }

    fn line(&self, cells: &[String], out: &mut String) {
        let mut line = String::new();
        for (i, cell) in cells.iter().enumerate() {
            line.push_str(if i == 0 { " " } else { " │ " });
            let pad = " ".repeat(self.widths[i].saturating_sub(cell.width()));
            let (before, after) = if self.right[i] { (pad.as_str(), "") } else { ("", pad.as_str()) };
            line.extend([before, cell, after]);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// The cells of all rows of a batch, to be seen by a person.
pub fn cells(batch: &RecordBatch, columns: &[Column]) -> Vec<Vec<String>> {
    let one = |row: usize| {
        let cell = |(i, c): (usize, &Column)| {
            let mut text = String::new();
            write(batch.column(i).as_ref(), &c.ty, row, Form::Text, &mut text);
            match &c.ty {
                ty if is_exact(ty) && !batch.column(i).is_null(row) => grouped(&text),
                _ => visible(&text),
            }
        };
        columns.iter().enumerate().map(cell).collect()
    };
    (0..batch.num_rows()).map(one).collect()
}

/// Line ends and other control characters as escapes, so that a row stays a line.
pub fn visible(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn is_exact(ty: &SqlType) -> bool {
    ty.is_integer() || matches!(ty, SqlType::Decimal { .. })
}

fn is_number(ty: &SqlType) -> bool {
    is_exact(ty) || matches!(ty, SqlType::Float | SqlType::Double)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn numbers_stand_on_the_right_with_grouped_digits() {
        let columns = [Column::new("region", SqlType::STRING, true), Column::new("n", SqlType::BigInt, true)];
        let batch = RecordBatch::try_new(
            thalweg_session::core::types::to_schema(&columns),
            vec![
                Arc::new(StringArray::from(vec![Some("北"), None, Some("a\nb")])),
                Arc::new(Int64Array::from(vec![812, 1003, -1])),
            ],
        )
        .unwrap();
        let text = Table::new(&[], &columns).lines(&cells(&batch, &columns));
        let expected = " region │     n\n────────┼───────\n 北     │   812\n NULL   │ 1,003\n a\\nb   │    -1\n";
        assert_eq!(text, expected);
    }
}
