//! Keys: the same from a snapshot's row and from the log's image, ordered as the server orders them, and found again by
//! the statements that name them.

use std::sync::Arc;

use thalweg_core::SqlType;
use thalweg_core::types::Column;

use super::values::server_columns;
use super::{Session, block_on};
use crate::binlog::event::{Checksums, Event, EventData};
use crate::key::Key;
use crate::layout::{TableLayout, TableSpec, ValueOptions};
use crate::snapshot::key_order::question;
use crate::testing::source_table;

/// A column's type, and values in the server's order.
const KEYS: &[(&str, &[&str])] = &[
    ("INT", &["-2147483648", "-1", "0", "7", "2147483647"]),
    ("BIGINT UNSIGNED", &["0", "9223372036854775808", "18446744073709551615"]),
    ("DECIMAL(20,5)", &["-999999999999999.99999", "-0.5", "0", "0.00001", "12.3"]),
    ("DECIMAL(65,30)", &["-99999999999999999999999999999999999.5", "0", "1e-30"]),
    ("DATE", &["'0000-00-00'", "'1000-01-01'", "'2024-02-29'", "'9999-12-31'"]),
    ("DATETIME(6)", &["'0000-00-00 00:00:00'", "'2024-02-29 12:34:56'", "'2024-02-29 12:34:56.000001'"]),
    ("TIMESTAMP(3)", &["'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'", "'2024-02-29 12:34:56.789'"]),
    ("TIME(2)", &["'-838:59:59'", "'-00:00:00.01'", "'00:00:00'", "'100:00:00.5'"]),
    ("YEAR", &["'0000'", "1901", "2155"]),
    ("BINARY(4)", &["''", "x'00000001'", "x'41'", "x'ff'"]),
    ("VARBINARY(300)", &["''", "x'00'", "x'0000'", "x'41'", "x'4100'", "x'ff'"]),
    ("VARCHAR(20) COLLATE utf8mb4_0900_ai_ci", &["''", "'a'", "'B'", "'c'", "'日本'"]),
    ("VARCHAR(20) COLLATE utf8mb4_bin", &["''", "'A'", "'a'", "'日本'", "'😀'"]),
    ("CHAR(20) CHARACTER SET latin1 COLLATE latin1_german1_ci", &["''", "'ä'", "'b'", "'it''s'"]),
    ("VARCHAR(20) CHARACTER SET sjis", &["'a'", "'日'", "_sjis x'835C'"]),
    ("VARCHAR(20) CHARACTER SET utf16", &["'a'", "'😀'"]),
    ("ENUM('z','a','m')", &["1", "2", "3"]),
    ("SET('z','a','m')", &["0", "1", "2", "3", "7"]),
];

#[test]
fn keys_are_the_same_both_ways_and_order_as_the_servers() {
    block_on(async {
        let mut session = Session::open().await;
        session.run("DROP DATABASE IF EXISTS keyed").await;
        session.run("CREATE DATABASE keyed").await;
        session.run("USE keyed").await;
        let log = session.new_file().await;
        let mut tables: Vec<(Arc<TableLayout>, Vec<Key>)> = vec![];
        for (n, (ty, values)) in KEYS.iter().enumerate() {
            let table = format!("k{n}");
            session.run(&format!("CREATE TABLE {table} (before_it INT, k {ty}, n INT, PRIMARY KEY (k, n))")).await;
            let rows: Vec<String> = values.iter().rev().map(|v| format!("(NULL, {v}, 5), (1, {v}, -5)")).collect();
            session.run(&format!("INSERT INTO {table} VALUES {}", rows.join(", "))).await;
            let columns = server_columns(&mut session, "keyed", &table).await;
            let spec = TableSpec {
                source: source_table(&table, &[Column::new("n", SqlType::Int, false)]),
                database: "keyed".to_owned(),
                table: table.clone(),
                columns,
                primary_key: vec![1, 2],
                allows_cascades: false,
                options: ValueOptions::default(),
            };
            let layout = Arc::new(TableLayout::new(spec).unwrap());
            let keys = select(&mut session, &layout).await;
            assert_eq!(keys.len(), 2 * values.len(), "{ty}");
            for pair in keys.windows(2) {
                assert_ne!(
                    pair[0].compare(&pair[1]),
                    Some(std::cmp::Ordering::Greater),
                    "{ty}: {} {}",
                    pair[0],
                    pair[1]
                );
                let by_server = layout.key()[0].by_server && pair[0].0[0] != pair[1].0[0];
                assert_eq!(pair[0].compare(&pair[1]).is_none(), by_server, "{ty}");
            }
            for key in &keys {
                let conditions = layout.key().iter().zip(&key.0).map(|(column, part)| {
                    let value = column.placeholder.replace('?', &format!("'{}'", part.parameter()));
                    format!("{} = {value}", column.expression)
                });
                let condition = conditions.collect::<Vec<_>>().join(" AND ");
                let found = session.value(&format!("SELECT count(*) FROM {table} WHERE {condition}")).await;
                assert_eq!(found, "1", "{ty}: {condition}");
            }
            session.run(&format!("DELETE FROM {table}")).await;
            tables.push((layout, keys));
        }
        let mut plan = None;
        let mut deleted: Vec<Vec<Key>> = vec![vec![]; tables.len()];
        for event in Session::events_from(&log).await {
            match Event::parse(&event, Checksums::Crc32).unwrap().data {
                EventData::TableMap(map) => {
                    plan = (map.database == b"keyed").then(|| {
                        let n: usize = std::str::from_utf8(&map.table[1..]).unwrap().parse().unwrap();
                        (n, tables[n].0.image_plan(&map).unwrap())
                    });
                }
                EventData::Rows(rows) => {
                    let Some((n, plan)) = &plan else { continue };
                    let mut images = rows.images();
                    while let Some(image) = images.next_image(plan).unwrap() {
                        if !image.kind.adds() {
                            deleted[*n].push(plan.key(&image).unwrap());
                        }
                    }
                }
                _ => {}
            }
        }
        for (n, (_, selected)) in tables.iter().enumerate() {
            let sorted = |keys: &[Key]| {
                let mut texts: Vec<_> = keys.iter().map(|k| serde_json::to_string(k).unwrap()).collect();
                texts.sort();
                texts
            };
            assert_eq!(sorted(&deleted[n]), sorted(selected), "{}", KEYS[n].0);
        }
    });
}

#[test]
fn where_a_key_is_that_is_null_to_the_server_is_not_decided() {
    block_on(async {
        let mut session = Session::open().await;
        let parts = ["'a'", "NULL", "'B'", "'c'"].map(str::to_owned);
        assert_eq!(session.value(&question(&parts, "'b'")).await, "0312");
        assert_eq!(session.value(&question(&parts, "NULL")).await, "3333");
    });
}

async fn select(session: &mut Session, layout: &Arc<TableLayout>) -> Vec<Key> {
    session.run("SET character_set_results = NULL").await;
    let order: Vec<_> = layout.key().iter().map(|k| k.expression.clone()).collect();
    let list = layout.select_list().join(", ");
    let sql = format!("SELECT {list} FROM {} ORDER BY {}", layout.table(), order.join(", "));
    let columns = session.conn.select(&sql).await.unwrap();
    let codes: Vec<u8> = columns.iter().map(|c| c.type_code).collect();
    let plan = layout.row_plan(&codes).unwrap();
    let mut keys = vec![];
    while let Some(row) = session.conn.next_row().await.unwrap() {
        keys.push(plan.key(row).unwrap());
    }
    session.run("SET character_set_results = utf8mb4").await;
    keys
}
