//! `SHOW CREATE TABLE`, `SHOW CREATE VIEW`, `DESCRIBE`.

use thalweg_core::SqlType;
use thalweg_core::secret::{MASK, names_secret};

use crate::catalog::table::{Column, ColumnKind, Table};
use crate::catalog::view::View;
use crate::sql::{mask_parsed, quoted_name, text_of_type};

/// A statement that makes the same table again, but for the values of secret options: `is_secret` is asked with the
/// connector (empty for an own table) and the option's name.
pub fn show_create_table(table: &Table, is_secret: &dyn Fn(&str, &str) -> bool) -> String {
    let temporary = if table.temporary { "TEMPORARY " } else { "" };
    let mut elements: Vec<String> = table.columns.iter().map(column_text).collect();
    if let Some(w) = &table.watermark {
        elements.push(format!("WATERMARK FOR {} AS {}", quoted_name(&table.columns[w.column].name), w.text));
    }
    if let Some(key) = &table.primary_key {
        let constraint =
            key.constraint.as_ref().map_or_else(String::new, |c| format!("CONSTRAINT {} ", quoted_name(c)));
        let enforced = if key.enforced { "" } else { " NOT ENFORCED" };
        elements.push(format!("{constraint}PRIMARY KEY ({}){enforced}", names(table, &key.columns)));
    }
    let mut text = format!("CREATE {temporary}TABLE {} (\n  {}\n)", quoted_name(&table.name), elements.join(",\n  "));
    if let Some(comment) = &table.comment {
        text.push_str(&format!("\nCOMMENT {}", literal(comment)));
    }
    if !table.partitioned_by.is_empty() {
        text.push_str(&format!("\nPARTITIONED BY ({})", names(table, &table.partitioned_by)));
    }
    if !table.options.is_empty() {
        let connector = table.connector().unwrap_or_default();
        let options: Vec<String> = table
            .options
            .iter()
            .map(|(k, v)| {
                let hidden = names_secret(k) || is_secret(connector, &k.to_lowercase());
                format!("{} = {}", literal(k), literal(if hidden { MASK } else { v }))
            })
            .collect();
        text.push_str(&format!("\nWITH (\n  {}\n)", options.join(",\n  ")));
    }
    text
}

pub fn show_create_view(view: &View, is_secret: &dyn Fn(&str, &str) -> bool) -> String {
    let temporary = if view.temporary { "TEMPORARY " } else { "" };
    let columns = view.columns.as_ref().map_or_else(String::new, |c| {
        let names: Vec<String> = c.iter().map(|n| quoted_name(n)).collect();
        format!(" ({})", names.join(", "))
    });
    let comment = view.comment.as_ref().map_or_else(String::new, |c| format!("\nCOMMENT {}", literal(c)));
    let query = mask_parsed(&view.query.text, is_secret);
    format!("CREATE {temporary}VIEW {}{columns}{comment} AS\n{query}", quoted_name(&view.name))
}

fn column_text(c: &Column) -> String {
    let not_null = |nullable: bool| if nullable { "" } else { " NOT NULL" };
    let name = quoted_name(&c.name);
    let declared = match &c.kind {
        ColumnKind::Physical { ty, nullable } => format!("{name} {}{}", text_of_type(ty), not_null(*nullable)),
        ColumnKind::Metadata { ty, nullable, .. } => {
            format!("{name} {}{} {}", text_of_type(ty), not_null(*nullable), extras(c).unwrap_or_default())
        }
        ColumnKind::Computed { text, .. } => format!("{name} AS {text}"),
    };
    match &c.comment {
        Some(comment) => format!("{declared} COMMENT {}", literal(comment)),
        None => declared,
    }
}

fn names(table: &Table, columns: &[usize]) -> String {
    let names: Vec<String> = columns.iter().map(|i| quoted_name(&table.columns[*i].name)).collect();
    names.join(", ")
}

fn literal(text: &str) -> String {
    crate::sql::tokens::string_literal(text)
}

/// `METADATA FROM 'key' VIRTUAL`, `AS expr`.
fn extras(c: &Column) -> Option<String> {
    match &c.kind {
        ColumnKind::Physical { .. } => None,
        ColumnKind::Metadata { key, is_virtual, .. } => {
            let from = if *key == c.name { String::new() } else { format!(" FROM {}", literal(key)) };
            Some(format!("METADATA{from}{}", if *is_virtual { " VIRTUAL" } else { "" }))
        }
        ColumnKind::Computed { text, .. } => Some(format!("AS {text}")),
    }
}

/// The columns of what `DESCRIBE` prints.
pub const DESCRIBE_COLUMNS: [&str; 7] = ["name", "type", "null", "key", "extras", "watermark", "comment"];

/// A column of a table, as `DESCRIBE` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeRow {
    pub name: String,
    pub ty: String,
    pub nullable: bool,
    /// `PRI(id, name)`
    pub key: Option<String>,
    pub extras: Option<String>,
    /// The expression, at the column that the watermark is for.
    pub watermark: Option<String>,
    pub comment: Option<String>,
}

/// The rows of a relation of which only the columns are known, such as a view.
pub fn describe_columns(columns: &[thalweg_core::Column]) -> Vec<DescribeRow> {
    columns
        .iter()
        .map(|c| DescribeRow {
            name: c.name.clone(),
            ty: text_of_type(&c.ty),
            nullable: c.nullable,
            key: None,
            extras: None,
            watermark: None,
            comment: None,
        })
        .collect()
}

/// `computed` gives type and nullability of a computed column by its ordinal.
pub fn describe_table(table: &Table, computed: &dyn Fn(usize) -> Option<(SqlType, bool)>) -> Vec<DescribeRow> {
    let key_text = table.primary_key.as_ref().map(|key| {
        let names: Vec<&str> = key.columns.iter().map(|i| table.columns[*i].name.as_str()).collect();
        format!("PRI({})", names.join(", "))
    });
    let in_key = |i| table.primary_key.as_ref().is_some_and(|k| k.columns.contains(&i));
    table
        .columns
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let (ty, nullable) = match &c.kind {
                ColumnKind::Physical { ty, nullable } | ColumnKind::Metadata { ty, nullable, .. } => {
                    (Some(ty.clone()), *nullable)
                }
                ColumnKind::Computed { .. } => match computed(i) {
                    Some((ty, nullable)) => (Some(ty), nullable),
                    None => (None, true),
                },
            };
            DescribeRow {
                name: c.name.clone(),
                ty: ty.map_or_else(|| "computed".to_owned(), |t| text_of_type(&t)),
                nullable,
                key: key_text.clone().filter(|_| in_key(i)),
                extras: extras(c),
                watermark: table.watermark.as_ref().filter(|w| w.column == i).map(|w| w.text.clone()),
                comment: c.comment.clone(),
            }
        })
        .collect()
}
