//! Changes of an unbounded query: a whole tick at once, `op` first.

use thalweg_session::TickChanges;
use thalweg_session::calendar::Zone;
use thalweg_session::core::Column;
use thalweg_session::core::fold::RowKind;

use super::rows::{csv_header, csv_line, json_line};
use super::table::{Table, cells};
use super::width_of_answers;
use crate::args::OutputFormat;

/// Renders tick after tick.
pub struct ChangesText {
    columns: Vec<Column>,
    format: OutputFormat,
    zone: Zone,
    table: Table,
    has_begun: bool,
    /// Changes so far.
    pub rows: u64,
}

impl ChangesText {
    pub fn new(columns: Vec<Column>, format: OutputFormat, zone: Zone) -> Self {
        let table = Table::new(&["op"], &columns).fit(width_of_answers());
        ChangesText { columns, format, zone, table, has_begun: false, rows: 0 }
    }

    pub fn tick(&mut self, tick: &TickChanges) -> String {
        let mut out = String::new();
        if !std::mem::replace(&mut self.has_begun, true) && self.format == OutputFormat::Csv {
            out.push_str(&csv_header(&["op"], &self.columns));
        }
        let mut table_rows = vec![];
        for part in &tick.rows {
            let op = |row: usize| part.kinds.as_ref().map_or(RowKind::Insert, |k| k[row]).symbol();
            let rows = part.batch.num_rows();
            self.rows += rows as u64;
            match self.format {
                OutputFormat::Table => {
                    for (row, mut cells) in cells(&part.batch, &self.columns, self.zone).into_iter().enumerate() {
                        cells.insert(0, op(row).to_owned());
                        table_rows.push(cells);
                    }
                }
                OutputFormat::Csv => {
                    (0..rows).for_each(|row| csv_line(&[op(row)], &part.batch, &self.columns, row, &mut out));
                }
                OutputFormat::Json => {
                    (0..rows).for_each(|row| json_line(&[("op", op(row))], &part.batch, &self.columns, row, &mut out));
                }
            }
        }
        if self.format == OutputFormat::Table {
            out.push_str(&self.table.lines(&table_rows));
        }
        out
    }
}
