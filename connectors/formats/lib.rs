//! Formats: bytes ↔ columns, straight into and out of Arrow buffers. For every connector that moves bytes.

mod bad_row;
mod base64;
mod cells;
pub mod compression;
mod csv;
mod debezium_json;
mod json;
mod number;
mod raw;
mod scan;
mod time;
mod view;

#[cfg(test)]
mod suite;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use thalweg_connector_api::{Format, options_of};
use thalweg_core::fold::{RowChanges, RowKind};
use thalweg_core::nearest::nearest;
use thalweg_core::options::{OptionSpec, Options};
use thalweg_core::table::{ColumnKind, TableDef};
use thalweg_core::{Error, Result};

static FORMATS: &[&(dyn Format + 'static)] = &[&csv::Csv, &debezium_json::DebeziumJson, &json::Json, &raw::Raw];

/// The names of all formats.
pub fn names() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().map(|f| f.name())
}

/// The format of a name; the error proposes the nearest and lists all.
pub fn format(name: &str) -> Result<&'static dyn Format> {
    FORMATS.iter().find(|f| f.name() == name).copied().ok_or_else(|| {
        Error::option(format!("unknown format '{name}'"))
            .propose(nearest(name, names()).map(|n| format!("did you mean '{n}'?")))
            .note(format!("formats: {}", names().collect::<Vec<_>>().join(", ")))
    })
}

/// The options of a format as a table has them, with the format's name before each: `json.ignore-parse-errors`.
/// None for a name that is no format.
pub fn options(name: &str) -> Vec<OptionSpec> {
    static PREFIXED: OnceLock<BTreeMap<&'static str, Vec<OptionSpec>>> = OnceLock::new();
    let all = PREFIXED.get_or_init(|| {
        // Names of declarations live as long as the program; these are made once.
        let prefixed = |f: &dyn Format, spec: &OptionSpec| OptionSpec {
            name: Box::leak(format!("{}.{}", f.name(), spec.name).into_boxed_str()),
            ..*spec
        };
        FORMATS.iter().map(|f| (f.name(), f.options().iter().map(|s| prefixed(*f, s)).collect())).collect()
    });
    all.get(name).cloned().unwrap_or_default()
}

/// The given options of the format, as they decide what rows come out; for a source's variant.
pub fn given_options(table: &TableDef, format: &str) -> BTreeMap<String, String> {
    let prefix = format!("{format}.");
    options_of(table).into_iter().filter(|(k, _)| k.starts_with(&prefix)).collect()
}

/// Checks the format's own options of a table and hands them, without prefix, to `build`.
fn checked<T>(format: &dyn Format, table: &TableDef, build: impl FnOnce(&Options<'_>) -> Result<T>) -> Result<T> {
    let prefix = format!("{}.", format.name());
    let values: BTreeMap<String, String> =
        table.options.iter().filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone()))).collect();
    let of = format!("table {} (format '{}')", table.name, format.name());
    build(&Options::check(&values, format.options(), of)?)
}

/// Ordinals of the physical columns.
fn physical(table: &TableDef) -> Vec<usize> {
    (0..table.columns.len()).filter(|i| table.columns[*i].kind == ColumnKind::Physical).collect()
}

/// A decoder's caller asks for physical columns that are there.
fn no_such_columns(table: &TableDef, columns: &[usize]) -> Result<()> {
    let physical = physical(table);
    match columns.iter().find(|c| !physical.contains(c)) {
        Some(c) => Err(Error::internal(format!("table {} has no physical column {c}", table.name))),
        None => Ok(()),
    }
}

/// A format of inserts only.
fn only_inserts(rows: &RowChanges, format: &str) -> Result<()> {
    match rows.kinds.as_ref().and_then(|k| k.iter().find(|k| **k != RowKind::Insert)) {
        Some(kind) => Err(Error::internal(format!("{} cannot be written in format '{format}'", kind.symbol()))),
        None => Ok(()),
    }
}
