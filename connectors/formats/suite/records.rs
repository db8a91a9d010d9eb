//! Records that come and go one by one, as messages: without line ends, with nothing at all, or with line ends within.

use arrow::array::{Array, AsArray};
use thalweg_connector_api::RecordEnd;
use thalweg_core::fold::RowKind;

use super::*;

fn two() -> [(&'static str, SqlType); 2] {
    [("id", SqlType::Int), ("s", SqlType::STRING)]
}

fn finish(mut d: Box<dyn Decoder>) -> (Vec<(String, i64)>, Vec<u32>) {
    let (changes, record_of) = d.finish().unwrap();
    (shown(&changes), record_of)
}

#[test]
fn a_record_may_hold_line_ends_and_no_second_record() {
    let t = table(&two(), &[]);
    let mut d = decoder(&t, "json");
    d.decode_record(b"{\n\"id\":\n1}\n").unwrap();
    d.decode_null().unwrap();
    d.decode_record(b"[{\"id\":2},{\"id\":3}]").unwrap();
    assert_eq!(d.records(), 3);
    assert!(
        d.decode_record(b"{\"id\":4}\n{\"id\":5}").unwrap_err().error.to_string().contains("text behind the record")
    );
    assert!(d.decode_record(b" ").unwrap_err().error.to_string().contains("empty"));
    let (rows, record_of) = finish(d);
    assert_eq!(rows.iter().map(|r| r.0.as_str()).collect::<Vec<_>>(), ["1 | NULL", "2 | NULL", "3 | NULL"]);
    assert_eq!(record_of, [0, 2, 2]);

    let mut d = decoder(&t, "csv");
    d.decode_record(b"1,\"a\nb\"").unwrap();
    d.decode_record(b"2,c\n").unwrap();
    assert!(d.decode_record(b"3,d\n4,e").unwrap_err().error.to_string().contains("holds one record"));
    let (rows, record_of) = finish(d);
    assert_eq!(rows.iter().map(|r| r.0.as_str()).collect::<Vec<_>>(), ["1 | a\nb", "2 | c"]);
    assert_eq!(record_of, [0, 1]);
}

#[test]
fn bad_records_that_are_ignored_are_counted_like_the_others() {
    for format in ["json", "csv", "debezium-json"] {
        let t = table(&two(), &[(&format!("{format}.ignore-parse-errors"), "true")]);
        let mut d = decoder(&t, format);
        let good: &[u8] = match format {
            "json" => b"{\"id\":1}",
            "csv" => b"1,",
            _ => b"{\"after\":{\"id\":1},\"op\":\"c\"}",
        };
        d.decode_record(b"\"").unwrap();
        d.decode_record(good).unwrap();
        d.decode_record(b"\"").unwrap();
        d.decode_record(good).unwrap();
        assert_eq!((d.rows(), d.records(), d.skipped()), (2, 4, 2), "{format}");
        assert_eq!(finish(d).1, [1, 3], "{format}");
    }
}

#[test]
fn a_filler_is_a_row_of_any_types() {
    let mut columns = simple_types();
    columns.extend(nested_types());
    for nullable in [true, false] {
        let mut t = table(&columns, &[]);
        t.columns.iter_mut().for_each(|c| c.column.nullable = nullable);
        let mut d = decoder(&t, "json");
        d.push_filler();
        let (changes, record_of) = d.finish().unwrap();
        assert_eq!((changes.num_rows(), record_of), (1, vec![0]));
        assert!(changes.batch.columns().iter().all(|c| c.is_null(0) == nullable));
    }
}

#[test]
fn upserts_need_no_before_image_but_the_key_of_what_is_deleted() {
    let mut t = table(&two(), &[]);
    t.primary_key = vec![0];
    t.columns.iter_mut().for_each(|c| c.column.nullable = false);
    let mut d = crate::format("debezium-json").unwrap().upsert_decoder(&t, &[0, 1]).unwrap().unwrap();
    for event in [
        r#"{"before":null,"after":{"id":1,"s":"a"},"op":"u"}"#,
        r#"{"after":{"id":1,"s":"b"},"op":"u"}"#,
        r#"{"before":{"id":1},"after":{"id":2,"s":"c"},"op":"u"}"#,
        r#"{"before":{"id":2,"s":null},"after":null,"op":"d"}"#,
    ] {
        d.decode_record(event.as_bytes()).unwrap();
    }
    let e = d.decode_record(br#"{"before":{"s":"x"},"op":"d"}"#).unwrap_err().error.to_string();
    assert!(e.contains("column id"), "{e}");
    let e = d.decode_record(br#"{"before":{"id":1},"after":{"id":1},"op":"u"}"#).unwrap_err().error.to_string();
    assert!(e.contains("column s"), "{e}");
    let (rows, record_of) = finish(d);
    let expected = [("1 | a", 1), ("1 | b", 1), ("1 | ", -1), ("2 | c", 1), ("2 | ", -1)];
    assert_eq!(rows, expected.map(|(r, w)| (r.to_owned(), w)));
    assert_eq!(record_of, [0, 1, 2, 2, 3]);
    assert!(crate::format("json").unwrap().upsert_decoder(&t, &[0]).unwrap().is_none());
}

#[test]
fn records_are_written_without_line_ends() {
    let t = table(&two(), &[]);
    let batch = decode(&t, "json", b"{\"id\":1,\"s\":\"a\"}\n{\"id\":1}\n{\"id\":2}").unwrap().batch;
    let kinds = Some(vec![RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete]);
    for (format, kinds, expected) in [
        ("json", None, vec![(0, r#"{"id":1,"s":"a"}"#), (1, r#"{"id":1,"s":null}"#), (2, r#"{"id":2,"s":null}"#)]),
        ("csv", None, vec![(0, "1,a"), (1, "1,"), (2, "2,")]),
        (
            "debezium-json",
            kinds,
            vec![
                (1, r#"{"before":{"id":1,"s":"a"},"after":{"id":1,"s":null},"op":"u"}"#),
                (2, r#"{"before":{"id":2,"s":null},"after":null,"op":"d"}"#),
            ],
        ),
    ] {
        let (mut out, mut records) = (vec![], vec![]);
        let mut encoder = crate::format(format).unwrap().encoder(&t).unwrap();
        encoder.encode_records(&RowChanges { batch: batch.clone(), kinds }, &mut out, &mut records).unwrap();
        let mut begin = 0;
        let found: Vec<(u32, &str)> = records
            .iter()
            .map(|r: &RecordEnd| {
                let text = std::str::from_utf8(&out[begin..r.end]).unwrap();
                begin = r.end;
                (r.row, text)
            })
            .collect();
        assert_eq!(found, expected, "{format}");
    }
}

#[test]
fn raw_bytes_are_the_value_of_the_only_column() {
    for (ty, little, bytes, shown_as) in [
        (SqlType::STRING, false, "é\n".as_bytes(), "é\n"),
        (SqlType::BigInt, false, &[0, 0, 0, 0, 0, 0, 1, 2], "258"),
        (SqlType::BigInt, true, &[2, 1, 0, 0, 0, 0, 0, 0], "258"),
        (SqlType::SmallInt, false, &[0xff, 0xfe], "-2"),
        (SqlType::Double, false, &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0], "1.5"),
        (SqlType::Boolean, false, &[1], "true"),
    ] {
        let endianness = if little { "little-endian" } else { "big-endian" };
        let t = table(&[("v", ty.clone())], &[("raw.endianness", endianness)]);
        let mut d = decoder(&t, "raw");
        d.decode_record(bytes).unwrap();
        d.decode_null().unwrap();
        let (changes, record_of) = d.finish().unwrap();
        assert_eq!(shown(&changes)[0].0, shown_as, "{ty}");
        assert!(changes.batch.column(0).is_null(1));
        assert_eq!(record_of, [0, 1]);
        let (mut out, mut records) = (vec![], vec![]);
        let mut encoder = crate::format("raw").unwrap().encoder(&t).unwrap();
        encoder.encode_records(&RowChanges::inserts(changes.batch), &mut out, &mut records).unwrap();
        assert_eq!(out, bytes, "{ty}");
        let end = bytes.len();
        assert_eq!(records, [RecordEnd { end, row: 0, is_null: false }, RecordEnd { end, row: 1, is_null: true }]);
    }
}

#[test]
fn raw_refuses_what_does_not_fit() {
    let refuse = |ty: SqlType, bytes: &[u8]| {
        decoder(&table(&[("v", ty)], &[]), "raw").decode_record(bytes).unwrap_err().error.to_string()
    };
    assert!(refuse(SqlType::BigInt, b"12").contains("2 bytes are no BIGINT"));
    assert!(refuse(SqlType::STRING, &[0xff]).contains("not UTF-8"));
    assert!(refuse(SqlType::VarChar(2), b"abc").contains("longer than"));
    let two = table(&two(), &[]);
    assert!(crate::format("raw").unwrap().decoder(&two, &[0]).err().unwrap().to_string().contains("for one column"));
    let latin = table(&[("v", SqlType::STRING)], &[("raw.charset", "ISO-8859-1")]);
    let mut d = decoder(&latin, "raw");
    d.decode_record(&[0xe9]).unwrap();
    let batch = d.finish().unwrap().0.batch;
    assert_eq!(batch.column(0).as_string::<i32>().value(0), "é");
    let mut out = vec![];
    let mut encoder = crate::format("raw").unwrap().encoder(&latin).unwrap();
    encoder.encode_records(&RowChanges::inserts(batch), &mut out, &mut vec![]).unwrap();
    assert_eq!(out, [0xe9]);
    // In files a record is a line.
    let t = table(&[("v", SqlType::STRING)], &[]);
    assert_eq!(rows(&t, "raw", "a\nb\n"), ["a", "b"]);
    let batch = decode(&t, "raw", b"a").unwrap().batch;
    assert_eq!(encode(&t, "raw", &batch), b"a\n");
}
