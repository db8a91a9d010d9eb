//! Tests over whole formats.

mod fuzz;
mod meaning;
mod records;
mod round_trip;
mod speed;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use thalweg_connector_api::Decoder;
use thalweg_connector_api::conformance::{Rows, rows_of};
use thalweg_connector_api::format::BadRecord;
use thalweg_core::fold::RowChanges;
use thalweg_core::table::{ColumnKind, TableColumn, TableDef};
use thalweg_core::types::ElementType;
use thalweg_core::{Changes, Column, SqlType};

pub fn table(columns: &[(&str, SqlType)], options: &[(&str, &str)]) -> TableDef {
    let column = |(name, ty): &(&str, SqlType)| TableColumn {
        column: Column::new(*name, ty.clone(), true),
        kind: ColumnKind::Physical,
    };
    TableDef {
        name: "t".to_owned(),
        columns: columns.iter().map(column).collect(),
        primary_key: vec![],
        partitioned_by: vec![],
        options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<BTreeMap<_, _>>(),
    }
}

pub fn decoder(table: &TableDef, format: &str) -> Box<dyn Decoder> {
    let columns: Vec<usize> = (0..table.columns.len()).collect();
    crate::format(format).unwrap().decoder(table, &columns).unwrap()
}

pub fn decode(table: &TableDef, format: &str, text: &[u8]) -> Result<Changes, BadRecord> {
    let mut decoder = decoder(table, format);
    let used = decoder.decode(text, true, usize::MAX)?;
    assert_eq!(used, text.len());
    Ok(decoder.finish().unwrap().0)
}

/// The rows as text, without the index of the table.
pub fn shown(changes: &Changes) -> Rows {
    rows_of(0, changes).into_iter().map(|(row, w)| (row[3..].to_owned(), w)).collect()
}

pub fn rows(table: &TableDef, format: &str, text: &str) -> Vec<String> {
    shown(&decode(table, format, text.as_bytes()).unwrap()).into_iter().map(|(r, _)| r).collect()
}

pub fn refused(table: &TableDef, format: &str, text: &str) -> String {
    decode(table, format, text.as_bytes()).map(|c| format!("{:?}", shown(&c))).unwrap_err().error.to_string()
}

pub fn encode(table: &TableDef, format: &str, batch: &RecordBatch) -> Vec<u8> {
    let mut encoder = crate::format(format).unwrap().encoder(table).unwrap();
    let mut out = vec![];
    encoder.encode(&RowChanges { batch: batch.clone(), kinds: None }, &mut out).unwrap();
    out
}

pub fn element(ty: SqlType) -> Box<ElementType> {
    Box::new(ElementType { ty, nullable: true })
}

pub fn decimal(precision: u8, scale: i8) -> SqlType {
    SqlType::Decimal { precision, scale }
}

pub fn simple_types() -> Vec<(&'static str, SqlType)> {
    vec![
        ("b", SqlType::Boolean),
        ("t", SqlType::TinyInt),
        ("s", SqlType::SmallInt),
        ("i", SqlType::Int),
        ("l", SqlType::BigInt),
        ("f", SqlType::Float),
        ("d", SqlType::Double),
        ("n", decimal(10, 2)),
        ("n38", decimal(38, 10)),
        ("n65", decimal(65, 30)),
        ("c", SqlType::Char(5)),
        ("v", SqlType::VarChar(20)),
        ("str", SqlType::STRING),
        ("x", SqlType::Binary(3)),
        ("y", SqlType::BYTES),
        ("date", SqlType::Date),
        ("t0", SqlType::Time(0)),
        ("t6", SqlType::Time(6)),
        ("t9", SqlType::Time(9)),
        ("ts0", SqlType::Timestamp(0)),
        ("ts3", SqlType::Timestamp(3)),
        ("ts6", SqlType::Timestamp(6)),
        ("ts9", SqlType::Timestamp(9)),
        ("ltz3", SqlType::TimestampLtz(3)),
        ("ltz9", SqlType::TimestampLtz(9)),
    ]
}

pub fn nested_types() -> Vec<(&'static str, SqlType)> {
    let row = SqlType::Row(vec![
        Column::new("a", SqlType::Int, true),
        Column::new("b", SqlType::STRING, true),
        Column::new("in", SqlType::Row(vec![Column::new("z", SqlType::Timestamp(3), true)]), true),
    ]);
    vec![
        ("arr", SqlType::Array(element(SqlType::Int))),
        ("arr2", SqlType::Array(element(SqlType::Array(element(SqlType::STRING))))),
        ("map", SqlType::Map(Box::new(SqlType::STRING), element(decimal(10, 2)))),
        ("imap", SqlType::Map(Box::new(SqlType::Int), element(SqlType::BYTES))),
        ("row", row),
    ]
}

pub fn same(a: &RecordBatch, b: &RecordBatch) {
    assert_eq!(a.schema(), b.schema());
    if a != b {
        let one = |batch: &RecordBatch| shown(&Changes::inserts(batch.clone()));
        for (a, b) in one(a).into_iter().zip(one(b)) {
            assert_eq!(a, b);
        }
        panic!("batches differ, though not as text");
    }
}
