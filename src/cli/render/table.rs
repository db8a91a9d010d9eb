//! Rows as a table: `│ ─ ┼`, numbers on the right. On a terminal that is too narrow, long cells go on in further lines;
//! where even that is no help, each row is a block of lines.

use arrow::array::RecordBatch;
use thalweg_session::calendar::Zone;
use thalweg_session::core::{Column, SqlType};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::grouped;
use super::value::{Form, write};

/// A column of text is made no narrower than this to fit a terminal.
const COLUMN_WIDTH_MIN: usize = 12;

/// A table whose columns may grow as rows come.
pub struct Table {
    /// What each column would need.
    widths: Vec<usize>,
    right: Vec<bool>,
    header: Vec<String>,
    has_begun: bool,
    /// Of the terminal; `None`: lines may be as long as they are.
    width_max: Option<usize>,
    /// Each row is a block of lines.
    in_blocks: bool,
    blocks: u64,
}

impl Table {
    /// `before`: columns of text before those of the answer.
    pub fn new(before: &[&str], columns: &[Column]) -> Self {
        let header: Vec<String> =
            before.iter().map(|s| (*s).to_owned()).chain(columns.iter().map(|c| visible(&c.name))).collect();
        let right = before.iter().map(|_| false).chain(columns.iter().map(|c| is_number(&c.ty))).collect();
        let widths = header.iter().map(|h| h.width()).collect();
        Table { widths, right, header, has_begun: false, width_max: None, in_blocks: false, blocks: 0 }
    }

    /// No line shall be longer than this.
    pub fn fit(mut self, width_max: Option<usize>) -> Self {
        self.width_max = width_max;
        self
    }

    /// The lines of some rows; the first have the header before them. Widths never shrink.
    pub fn lines(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let widths = match self.width_max {
            None => self.widths.clone(),
            Some(max) => fitted(&self.widths, &self.right, max).unwrap_or_else(|| {
                self.in_blocks |= !self.has_begun;
                self.widths.clone()
            }),
        };
        let mut out = String::new();
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        if self.in_blocks {
            rows.iter().for_each(|row| self.block(row, &mut out));
            return out;
        }
        if is_first {
            self.line(&self.header, &widths, &mut out);
            let rules: Vec<String> = widths.iter().map(|w| "─".repeat(w + 2)).collect();
            out.push_str(&rules.join("┼"));
            out.push('\n');
        }
        for row in rows {
            self.line(row, &widths, &mut out);
        }
        out
    }

    fn line(&self, cells: &[String], widths: &[usize], out: &mut String) {
        if cells.iter().zip(widths).all(|(cell, width)| cell.width() <= *width) {
            return self.one_line(cells, widths, out);
        }
        let parts: Vec<Vec<String>> = cells.iter().zip(widths).map(|(cell, width)| wrapped(cell, *width)).collect();
        for i in 0..parts.iter().map(Vec::len).max().unwrap_or(0) {
            let line: Vec<String> = parts.iter().map(|p| p.get(i).cloned().unwrap_or_default()).collect();
            self.one_line(&line, widths, out);
        }
    }

    fn one_line(&self, cells: &[String], widths: &[usize], out: &mut String) {
        let mut line = String::new();
        for (i, cell) in cells.iter().enumerate() {
            line.push_str(if i == 0 { " " } else { " │ " });
            let pad = " ".repeat(widths[i].saturating_sub(cell.width()));
            let (before, after) = if self.right[i] { (pad.as_str(), "") } else { ("", pad.as_str()) };
            line.extend([before, cell, after]);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }

    /// A row as lines `name │ value` below a rule with its number.
    fn block(&mut self, cells: &[String], out: &mut String) {
        self.blocks += 1;
        let names = self.header.iter().map(|h| h.width()).max().unwrap_or(0);
        let width = self.width_max.unwrap_or(usize::MAX).saturating_sub(names + 4).max(COLUMN_WIDTH_MIN);
        out.push_str(&format!("── row {} {}\n", self.blocks, "─".repeat(names)));
        for (name, cell) in self.header.iter().zip(cells) {
            for (i, part) in wrapped(cell, width).iter().enumerate() {
                let name = if i == 0 { name.as_str() } else { "" };
                let pad = " ".repeat(names - name.width());
                out.push_str(format!(" {name}{pad} │ {part}").trim_end());
                out.push('\n');
            }
        }
    }
}

/// Widths with which the lines are no longer than `max`: the widest columns of text give way. `None`: there are too
/// many columns.
fn fitted(widths: &[usize], right: &[bool], max: usize) -> Option<Vec<usize>> {
    // Each column has a space on both sides, and a rule between it and the next.
    let around = 3 * widths.len();
    if widths.iter().sum::<usize>() + around <= max + 1 {
        return Some(widths.to_vec());
    }
    let total = |cap: usize| {
        let widths = widths.iter().zip(right).map(|(&w, right)| if *right { w } else { w.min(cap) });
        widths.sum::<usize>() + around <= max + 1
    };
    let cap = (COLUMN_WIDTH_MIN..=max).rev().find(|cap| total(*cap))?;
    Some(widths.iter().zip(right).map(|(&w, right)| if *right { w } else { w.min(cap) }).collect())
}

/// A text in lines of at most `width` columns, cut at spaces where there are some.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![];
    let mut rest = text;
    loop {
        let mut columns = 0;
        let over = rest.char_indices().find(|(_, c)| {
            columns += c.width().unwrap_or(0);
            columns > width
        });
        let Some((hard, first)) = over else { break };
        // At least one character, however wide.
        let hard = hard.max(if hard == 0 { first.len_utf8() } else { 0 });
        // A space right behind the cut is as good as one before it.
        let end = hard + rest[hard..].chars().next().map_or(0, char::len_utf8);
        let soft = rest[..end].rfind(' ').filter(|at| *at > hard / 2);
        let (line, next) = match soft {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => rest.split_at(hard),
        };
        lines.push(line.to_owned());
        rest = next;
    }
    if lines.is_empty() || !rest.is_empty() {
        lines.push(rest.to_owned());
    }
    lines
}

/// The cells of all rows of a batch, to be seen by a person whose clock is in this zone.
pub fn cells(batch: &RecordBatch, columns: &[Column], zone: Zone) -> Vec<Vec<String>> {
    let one = |row: usize| {
        let cell = |(i, c): (usize, &Column)| {
            let mut text = String::new();
            write(batch.column(i).as_ref(), &c.ty, row, Form::Local(zone), &mut text);
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
        let text = Table::new(&[], &columns).lines(&cells(&batch, &columns, Zone::UTC));
        let expected = " region │     n\n────────┼───────\n 北     │   812\n NULL   │ 1,003\n a\\nb   │    -1\n";
        assert_eq!(text, expected);
    }

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|c| (*c).to_owned()).collect()
    }

    #[test]
    fn long_cells_go_on_in_further_lines_of_a_narrow_terminal() {
        let columns = [Column::new("n", SqlType::Int, true), Column::new("meaning", SqlType::STRING, true)];
        let rows = [row(&["1", "short"]), row(&["2", "how many workers a job can use, at most"])];
        let text = Table::new(&[], &columns).fit(Some(24)).lines(&rows);
        let expected = " n │ meaning\n───┼────────────────────\n 1 │ short\n 2 │ how many workers a\n   │ job can use, at\n   │ most\n";
        assert_eq!(text, expected);
        assert!(text.lines().all(|l| l.width() <= 24));
        // Wide enough: as ever.
        assert_eq!(Table::new(&[], &columns).fit(Some(80)).lines(&rows).lines().count(), 4);
    }

    #[test]
    fn too_many_columns_make_a_block_of_each_row() {
        let columns: Vec<Column> = (0..9).map(|i| Column::new(format!("c{i}"), SqlType::BigInt, true)).collect();
        let mut table = Table::new(&["op"], &columns).fit(Some(40));
        let text = table.lines(&[row(&["+I", "1000", "2", "3", "4", "5", "6", "7", "8", "9"])]);
        assert!(text.starts_with("── row 1 ──\n op │ +I\n c0 │ 1000\n"), "{text}");
        assert!(table.lines(&[row(&["-D", "1", "2", "3", "4", "5", "6", "7", "8", "9"])]).starts_with("── row 2 "));
    }

    #[test]
    fn text_is_cut_at_spaces_and_without_them_anywhere() {
        assert_eq!(wrapped("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrapped("abcdefgh", 5), ["abcde", "fgh"]);
        assert_eq!(wrapped("北京北京", 5), ["北京", "北京"]);
        assert_eq!(wrapped("", 5), [""]);
        // A character that is wider than the column still comes.
        assert_eq!(wrapped("北京", 1), ["北", "京"]);
    }
}
