//! Rows events by hand, and how fast they become columns.

use std::sync::Arc;

use thalweg_core::types::Column;
use thalweg_core::{Changes, SqlType};

use super::*;
use crate::binlog::event::{Checksums, Event, EventData, code};
use crate::binlog::table_map::column_code;
use crate::testing::{layout_of, rows_event, server_column, table_map_event, table_map_event_with};

fn orders() -> (Arc<TableLayout>, Vec<u8>) {
    let decimal = SqlType::Decimal { precision: 10, scale: 2 };
    let declared = [
        Column::new("id", SqlType::BigInt, false),
        Column::new("customer", SqlType::Int, true),
        Column::new("amount", decimal, true),
        Column::new("created", SqlType::Timestamp(6), true),
        Column::new("note", SqlType::STRING, true),
    ];
    let columns = vec![
        server_column("id", "bigint"),
        server_column("customer", "int"),
        server_column("amount", "decimal(10,2)"),
        server_column("created", "datetime(6)"),
        server_column("note", "varchar(100)"),
    ];
    let map = table_map_event(
        "shop",
        "orders",
        &[
            (column_code::LONGLONG, &[]),
            (column_code::LONG, &[]),
            (column_code::NEWDECIMAL, &[10, 2]),
            (column_code::DATETIME2, &[6]),
            (column_code::VARCHAR, &[0x90, 1]),
        ],
    );
    (layout_of("shop", "orders", &declared, columns), map)
}

/// About 100 bytes.
fn order(id: i64) -> Vec<u8> {
    let mut row = vec![0];
    row.extend_from_slice(&id.to_le_bytes());
    row.extend_from_slice(&((id % 1000) as i32).to_le_bytes());
    let cents = (id % 100) as u8;
    row.extend_from_slice(&[0x80, 0, 0, (id % 200) as u8, cents]);
    // 2024-02-29 12:34:56.789012
    let packed = (1_u64 << 39) | ((2024 * 13 + 2) << 22) | (29 << 17) | (12 << 12) | (34 << 6) | 56;
    row.extend_from_slice(&packed.to_be_bytes()[3..]);
    row.extend_from_slice(&789_012_u32.to_be_bytes()[1..]);
    let note = format!("order {id:08} of somebody who wants it on his doorstep tomorrow");
    row.extend_from_slice(&(note.len() as u16).to_le_bytes());
    row.extend_from_slice(note.as_bytes());
    row
}

fn read(layout: &Arc<TableLayout>, map: &[u8], rows: &[u8]) -> Result<Changes> {
    let EventData::TableMap(map) = Event::parse(map, Checksums::Crc32)?.data else { panic!("no table map") };
    let plan = layout.image_plan(&map)?;
    let EventData::Rows(rows) = Event::parse(rows, Checksums::Crc32)?.data else { panic!("no rows") };
    let mut builder = RowsBuilder::new(layout)?;
    builder.push_images(&plan, &mut rows.images(), &mut RowMeta::default(), usize::MAX)?;
    builder.finish()
}

#[test]
fn an_update_takes_a_row_and_gives_one() {
    let (layout, map) = orders();
    let before = order(1);
    let mut after = order(2);
    after[0] = 0b10;
    after.drain(9..13);
    let changes = read(&layout, &map, &rows_event(code::UPDATE_ROWS, 5, &[before, after].concat())).unwrap();
    assert_eq!((changes.weight(0), changes.weight(1)), (-1, 1));
    let shown = arrow::util::pretty::pretty_format_batches(&[changes.batch]).unwrap().to_string();
    let rows: Vec<_> = shown.lines().skip(3).take(2).collect();
    assert!(rows[0].contains("| 1  | 1        | 1.01   | 2024-02-29T12:34:56.789012 | order 00000001"), "{shown}");
    assert!(rows[1].contains("| 2  |          | 2.02   | 2024-02-29T12:34:56.789012 | order 00000002"), "{shown}");
}

#[test]
fn an_unsigned_tinyint_of_width_1_is_a_boolean() {
    let declared = [Column::new("id", SqlType::BigInt, false), Column::new("is_new", SqlType::Boolean, true)];
    let columns = vec![server_column("id", "bigint"), server_column("is_new", "tinyint(1) unsigned")];
    let layout = layout_of("shop", "flags", &declared, columns);
    let map = table_map_event("shop", "flags", &[(column_code::LONGLONG, &[]), (column_code::TINY, &[])]);
    let rows: Vec<u8> =
        [0, 1, 255].iter().flat_map(|flag| [&[0][..], &7_i64.to_le_bytes(), &[*flag]].concat()).collect();
    let changes = read(&layout, &map, &rows_event(code::WRITE_ROWS, 2, &rows)).unwrap();
    let flags = arrow::array::AsArray::as_boolean(changes.batch.column(1)).clone();
    assert_eq!(flags, arrow::array::BooleanArray::from(vec![false, true, true]));
}

#[test]
fn rows_that_lack_columns_are_refused() {
    let (layout, map) = orders();
    let mut rows = rows_event(code::WRITE_ROWS, 5, &order(1));
    let length = rows.len();
    rows[19 + 11] = 0b10111;
    let checksum = crc32fast::hash(&rows[..length - 4]);
    rows[length - 4..].copy_from_slice(&checksum.to_le_bytes());
    let error = read(&layout, &map, &rows).unwrap_err();
    assert!(error.to_string().contains("\"created\""), "{error}");
    assert!(error.to_string().contains("SET GLOBAL binlog_row_image = FULL"), "{error}");
}

#[test]
fn a_table_that_was_changed_is_told_from_the_one_that_is_known() {
    let (layout, _) = orders();
    let long: (u8, &[u8]) = (column_code::LONG, &[]);
    let decimal: (u8, &[u8]) = (column_code::NEWDECIMAL, &[12, 2]);
    let text: (u8, &[u8]) = (column_code::VARCHAR, &[0x90, 1]);
    let time: (u8, &[u8]) = (column_code::DATETIME2, &[6]);
    for (columns, why) in [
        (vec![long; 4], "it has 4 columns in the binlog and 5 on the server"),
        (vec![long, text, decimal, time, text], "column \"customer\" is int on the server"),
        (
            vec![long, long, decimal, time, text],
            "column \"amount\" is decimal(12,2) in the binlog, which does not go into DECIMAL(10, 2)",
        ),
    ] {
        let map = table_map_event("shop", "orders", &columns);
        let error = read(&layout, &map, &rows_event(code::WRITE_ROWS, 5, &order(1))).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_key_of_text_has_the_collation_that_chunks_are_cut_by() {
    let declared = [Column::new("code", SqlType::STRING, false)];
    let layout = layout_of("shop", "tags", &declared, vec![server_column("code", "varchar(20)")]);
    let row = rows_event(code::WRITE_ROWS, 1, &[0, 1, b'a']);
    let read_with = |collation: &[u8]| {
        let field = [&[2, collation.len() as u8], collation].concat();
        let map = table_map_event_with("shop", "tags", &[(column_code::VARCHAR, &[80, 0])], &field);
        read(&layout, &map, &row)
    };
    assert_eq!(read_with(&[252, 255, 0]).unwrap().num_rows(), 1);
    // utf8mb4_bin
    let error = read_with(&[46]).unwrap_err().to_string();
    assert!(
        error.contains("\"code\"") && error.contains("utf8mb4_0900_ai_ci") && error.contains("number 46"),
        "{error}"
    );
}

/// Of this thread: other processes do not matter.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds first") / 1e9
}

/// `cargo test --release -p thalweg-mysql decoding_speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn decoding_speed() {
    const ROWS: i64 = 2_000_000;
    const ROWS_PER_EVENT: i64 = 80;
    let (layout, map) = orders();
    let events: Vec<Vec<u8>> = (0..1000)
        .map(|e| {
            let rows: Vec<u8> = (0..ROWS_PER_EVENT).flat_map(|r| order(e * ROWS_PER_EVENT + r)).collect();
            rows_event(code::WRITE_ROWS, 5, &rows)
        })
        .collect();
    let mut builder = RowsBuilder::new(&layout).unwrap();
    let (mut rows, mut bytes) = (0, 0);
    let began = cpu_seconds();
    for event in events.iter().cycle() {
        // A table map for each event, as small statements have it.
        let EventData::TableMap(map) = Event::parse(&map, Checksums::Crc32).unwrap().data else { panic!("no map") };
        let plan = layout.image_plan(&map).unwrap();
        let EventData::Rows(parsed) = Event::parse(event, Checksums::Crc32).unwrap().data else { panic!("no rows") };
        let mut meta = RowMeta::default();
        rows += builder.push_images(&plan, &mut parsed.images(), &mut meta, usize::MAX).unwrap();
        bytes += event.len();
        if builder.rows() >= 8192 {
            std::hint::black_box(builder.finish().unwrap());
        }
        if rows as i64 >= ROWS {
            break;
        }
    }
    let seconds = cpu_seconds() - began;
    println!(
        "{:.2} M rows/s, {:.0} MB/s ({} bytes a row)",
        rows as f64 / seconds / 1e6,
        bytes as f64 / seconds / 1e6,
        bytes / rows
    );
}
