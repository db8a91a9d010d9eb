//! Finished answers in every format.

use arrow::array::{Array, RecordBatch};
use thalweg_session::calendar::Zone;
use thalweg_session::core::{Column, SqlType};

use super::table::{Table, cells};
use super::value::{Form, write};
use super::width_of_answers;
use crate::args::OutputFormat;

/// A whole answer; in a table points in time are shown as the clock of `zone` does.
pub fn render_rows(batch: &RecordBatch, columns: &[Column], format: OutputFormat, zone: Zone) -> String {
    match format {
        OutputFormat::Table => Table::new(&[], columns).fit(width_of_answers()).lines(&cells(batch, columns, zone)),
        OutputFormat::Csv => {
            let mut out = csv_header(&[], columns);
            for row in 0..batch.num_rows() {
                csv_line(&[], batch, columns, row, &mut out);
            }
            out
        }
        OutputFormat::Json => {
            let mut out = String::new();
            for row in 0..batch.num_rows() {
                json_line(&[], batch, columns, row, &mut out);
            }
            out
        }
    }
}

/// The names, as the first line of CSV.
pub fn csv_header(before: &[&str], columns: &[Column]) -> String {
    let names = before.iter().copied().chain(columns.iter().map(|c| c.name.as_str()));
    names.map(|n| quoted(n, false)).collect::<Vec<_>>().join(",") + "\n"
}

/// One line of CSV: NULL is empty, an empty string `""`.
pub fn csv_line(before: &[&str], batch: &RecordBatch, columns: &[Column], row: usize, out: &mut String) {
    let mut is_first = true;
    let mut next = |out: &mut String| {
        if !std::mem::take(&mut is_first) {
            out.push(',');
        }
    };
    for text in before {
        next(out);
        out.push_str(text);
    }
    for (i, column) in columns.iter().enumerate() {
        next(out);
        let array = batch.column(i);
        if array.is_null(row) || column.ty == SqlType::Null {
            continue;
        }
        let mut text = String::new();
        write(array.as_ref(), &column.ty, row, Form::Text, &mut text);
        out.push_str(&quoted(&text, text.is_empty()));
    }
    out.push('\n');
}

fn quoted(text: &str, always: bool) -> String {
    if always || text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// One object on one line.
pub fn json_line(before: &[(&str, &str)], batch: &RecordBatch, columns: &[Column], row: usize, out: &mut String) {
    let key = |name: &str| serde_json::to_string(name).expect("a string is JSON");
    let mut fields: Vec<String> = before.iter().map(|(k, v)| format!("{}: {}", key(k), key(v))).collect();
    for (i, column) in columns.iter().enumerate() {
        let mut text = format!("{}: ", key(&column.name));
        write(batch.column(i).as_ref(), &column.ty, row, Form::Json, &mut text);
        fields.push(text);
    }
    out.push('{');
    out.push_str(&fields.join(", "));
    out.push_str("}\n");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, StringArray};

    use super::*;

    #[test]
    fn csv_quotes_and_json_has_plain_numbers() {
        let ty = SqlType::Decimal { precision: 10, scale: 2 };
        let columns = [Column::new("a,b", SqlType::STRING, true), Column::new("d", ty, true)];
        let decimals = Decimal128Array::from(vec![Some(123_456), None]).with_precision_and_scale(10, 2).unwrap();
        let batch = RecordBatch::try_new(
            thalweg_session::core::types::to_schema(&columns),
            vec![Arc::new(StringArray::from(vec!["x\"y", ""])), Arc::new(decimals)],
        )
        .unwrap();
        assert_eq!(
            render_rows(&batch, &columns, OutputFormat::Csv, Zone::UTC),
            "\"a,b\",d\n\"x\"\"y\",1234.56\n\"\",\n"
        );
        let json = render_rows(&batch, &columns, OutputFormat::Json, Zone::UTC);
        assert_eq!(json, "{\"a,b\": \"x\\\"y\", \"d\": 1234.56}\n{\"a,b\": \"\", \"d\": null}\n");
    }
}
