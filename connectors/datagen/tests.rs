use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use thalweg_connector_api::conformance::{Limits, read, source_resumes_anywhere};
use thalweg_connector_api::{Connector, Source, SourceTable};
use thalweg_core::mark::JobId;
use thalweg_core::table::{ColumnKind, TableColumn, TableDef};
use thalweg_core::types::ElementType;
use thalweg_core::{Column, SqlType};

use crate::Datagen;

fn table(columns: &[(&str, SqlType)], options: &[(&str, &str)]) -> TableDef {
    let column = |(name, ty): &(&str, SqlType)| TableColumn {
        column: Column::new(*name, ty.clone(), true),
        kind: ColumnKind::Physical,
    };
    let mut options: BTreeMap<_, _> = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    options.insert("connector".to_owned(), "datagen".to_owned());
    options.entry("rows-per-second".to_owned()).or_insert_with(|| "0".to_owned());
    TableDef {
        name: "t".to_owned(),
        columns: columns.iter().map(column).collect(),
        primary_key: vec![],
        partitioned_by: vec![],
        options,
    }
}

fn open(def: &TableDef, columns: &[usize], with_order: bool) -> Arc<dyn Source> {
    Datagen
        .open_source(&[SourceTable { def: def.clone(), columns: columns.to_vec(), with_order }], &JobId("j".to_owned()))
        .unwrap()
}

fn all_types() -> Vec<(&'static str, SqlType)> {
    let element = |ty| Box::new(ElementType { ty, nullable: true });
    vec![
        ("b", SqlType::Boolean),
        ("t", SqlType::TinyInt),
        ("s", SqlType::SmallInt),
        ("i", SqlType::Int),
        ("l", SqlType::BigInt),
        ("f", SqlType::Float),
        ("d", SqlType::Double),
        ("n", SqlType::Decimal { precision: 10, scale: 2 }),
        ("n30", SqlType::Decimal { precision: 30, scale: 0 }),
        ("n65", SqlType::Decimal { precision: 65, scale: 30 }),
        ("c", SqlType::Char(5)),
        ("v", SqlType::VarChar(20)),
        ("x", SqlType::Binary(3)),
        ("y", SqlType::VarBinary(9)),
        ("date", SqlType::Date),
        ("t0", SqlType::Time(0)),
        ("t9", SqlType::Time(9)),
        ("ts3", SqlType::Timestamp(3)),
        ("ts6", SqlType::Timestamp(6)),
        ("ltz", SqlType::TimestampLtz(9)),
        ("arr", SqlType::Array(element(SqlType::Int))),
        ("map", SqlType::Map(Box::new(SqlType::Boolean), element(SqlType::STRING))),
        ("row", SqlType::Row(vec![Column::new("a", SqlType::Int, true), Column::new("b", SqlType::STRING, false)])),
    ]
}

#[tokio::test]
async fn every_type_resumes_anywhere_and_gives_the_same_rows_to_any_number_of_workers() {
    let options = [("number-of-rows", "203"), ("fields.l.null-rate", "0.5"), ("fields.v.var-len", "true")];
    let def = table(&all_types(), &options);
    let columns: Vec<usize> = (0..def.columns.len()).collect();
    for piece_rows_max in [1, 7, 16, 1000] {
        let limits = Limits { piece_rows_max, piece_bytes_max: 1 << 20 };
        let rows = source_resumes_anywhere(&|| open(&def, &columns, true), limits, 40).await.unwrap();
        assert_eq!(rows.len(), 203);
    }
}

#[tokio::test]
async fn a_sequence_bounds_the_table_and_one_reader_gives_it_in_order() {
    let columns = [("id", SqlType::BigInt), ("x", SqlType::Double)];
    let options = [("fields.id.kind", "sequence"), ("fields.id.start", "5"), ("fields.id.end", "1004")];
    let def = table(&columns, &options);
    assert!(Datagen.source_info(&def).unwrap().bounded);
    let limits = Limits { piece_rows_max: 100, piece_bytes_max: 1 << 20 };
    let (_, _, pieces) = read(&open(&def, &[0], false), &BTreeMap::new(), 1, limits, usize::MAX).await.unwrap();
    let ids: Vec<i64> = pieces
        .iter()
        .flat_map(|p| p.changes[0].1.batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(ids, (5..=1004).collect::<Vec<_>>());
}

#[tokio::test]
async fn values_do_not_depend_on_which_columns_are_asked_for_and_keep_to_their_range() {
    let columns = [("a", SqlType::BigInt), ("b", SqlType::BigInt)];
    let options = [("number-of-rows", "1000"), ("fields.b.min", "-3"), ("fields.b.max", "3")];
    let def = table(&columns, &options);
    let limits = Limits { piece_rows_max: 1000, piece_bytes_max: 1 << 20 };
    let (both, ..) = read(&open(&def, &[0, 1], false), &BTreeMap::new(), 1, limits, usize::MAX).await.unwrap();
    let (one, ..) = read(&open(&def, &[1], false), &BTreeMap::new(), 1, limits, usize::MAX).await.unwrap();
    let second: Vec<_> = both.iter().map(|(r, _)| r.rsplit(" | ").next().unwrap().to_owned()).collect();
    let alone: Vec<_> = one.iter().map(|(r, _)| r.trim_start_matches("0: ").to_owned()).collect();
    assert_eq!(second, alone);
    assert!(alone.iter().all(|v| (-3..=3).contains(&v.parse::<i64>().unwrap())));
    assert!(["-3", "3"].iter().all(|v| alone.iter().any(|a| a == v)), "both bounds are drawn");
}

#[tokio::test]
async fn counting_needs_no_column() {
    let def = table(&[("a", SqlType::STRING)], &[("number-of-rows", "100")]);
    let limits = Limits { piece_rows_max: 64, piece_bytes_max: 1 << 20 };
    let (rows, ..) = read(&open(&def, &[], false), &BTreeMap::new(), 2, limits, usize::MAX).await.unwrap();
    assert_eq!(rows.len(), 100);
}

#[tokio::test]
async fn the_rate_holds_over_all_workers() {
    let def = table(&[("a", SqlType::Int)], &[("number-of-rows", "300"), ("rows-per-second", "1000")]);
    let limits = Limits { piece_rows_max: 8192, piece_bytes_max: 1 << 20 };
    let start = std::time::Instant::now();
    read(&open(&def, &[0], false), &BTreeMap::new(), 2, limits, usize::MAX).await.unwrap();
    let took = start.elapsed().as_millis();
    assert!((200..600).contains(&took), "{took} ms for 300 rows of 1000 a second");
}

#[test]
fn wrong_options_are_refused_with_what_is_wrong() {
    let columns = [("Id", SqlType::TinyInt), ("s", SqlType::VarChar(5))];
    let refused = |options: &[(&str, &str)]| Datagen.source_info(&table(&columns, options)).unwrap_err().to_string();
    for (options, expected) in [
        (&[("fields.idd.min", "1")][..], "did you mean \"Id\"?"),
        (&[("fields.id.mim", "1")], "did you mean \"min\"?"),
        (
            &[("fields.id.min", "200")],
            "'fields.Id.min' = '200' of table t (connector 'datagen') is not a value of TINYINT",
        ),
        (&[("fields.id.min", "5"), ("fields.id.max", "4")], "is not at least the minimum, 5"),
        (&[("fields.id.kind", "sequence")], "needs the option 'fields.Id.start'"),
        (&[("fields.id.kind", "serial")], "is not random or sequence"),
        (&[("fields.s.length", "6")], "is not at most 5"),
        (&[("fields.s.null-rate", "2")], "is not a number from 0 to 1"),
        (&[("rows-per-sec", "1")], "did you mean \"rows-per-second\"?"),
        (&[("start-time", "noon")], "is not a time"),
    ] {
        let found = refused(options);
        assert!(found.contains(expected), "{found}");
    }
}

/// Run with `--nocapture` to see the speed.
#[tokio::test]
async fn three_bigint_columns_are_fast() {
    let ty = || SqlType::BigInt;
    let columns = [("a", ty()), ("b", ty()), ("c", ty())];
    let def = table(&columns, &[("number-of-rows", "20000000"), ("fields.a.min", "0"), ("fields.a.max", "99999")]);
    let limits = thalweg_connector_api::ReaderCx {
        job_name: "j".to_owned(),
        status: Default::default(),
        worker: 0,
        workers: 1,
        piece_rows_max: 8192,
        piece_bytes_max: 1 << 20,
    };
    let source = open(&def, &[0, 1, 2], false);
    let splits = source.splits().await.unwrap().into_iter().map(|s| (s, None)).collect();
    let mut reader = source.reader(splits, limits).unwrap();
    let start = std::time::Instant::now();
    let mut rows = 0;
    while let Some(piece) = reader.next().await.unwrap() {
        rows += piece.changes[0].1.num_rows();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("datagen: {:.0} M values/s", 3.0 * rows as f64 / seconds / 1e6);
    assert_eq!(rows, 20_000_000);
}
