//! What each format reads and writes, and what it says of what it cannot.

use thalweg_core::fold::{RowChanges, RowKind};
use thalweg_core::table::ColumnKind;
use thalweg_core::{Column, SqlType};

use super::*;

fn two() -> Vec<(&'static str, SqlType)> {
    vec![("id", SqlType::Int), ("name", SqlType::STRING)]
}

#[test]
fn json_fields_may_come_in_any_order_twice_or_not_at_all() {
    let t = table(&two(), &[]);
    let text = r#"{"id":1,"name":"a"}
{"name":"b","id":2}
{ "x" : {"id": [1, {"name": "}"}]} , "id" : 3 , "id" : 33 }

{"n\u0061me":"esc","y":null}
null
[{"id":5},{"id":6,"name":"z"}]
{}
"#;
    let expected = ["1 | a", "2 | b", "33 | NULL", "NULL | esc", "5 | NULL", "6 | z", "NULL | NULL"];
    assert_eq!(rows(&t, "json", text), expected);
}

#[test]
fn json_scalars_are_read_as_flink_does() {
    let columns = [
        ("i", SqlType::Int),
        ("d", SqlType::Double),
        ("b", SqlType::Boolean),
        ("n", decimal(10, 2)),
        ("s", SqlType::STRING),
        ("ts", SqlType::Timestamp(3)),
    ];
    let t = table(&columns, &[]);
    let text = r#"{"i":" 12 ","d":"NaN","b":"TRUE","n":"1.005","s":{ "a": [1, "x y"] },"ts":"2026-01-02 03:04:05.6789"}
{"i":1e2,"d":1,"b":false,"n":12345678.994,"s":1.50,"ts":"2026-01-02 03:04"}
{"s":true}"#;
    let expected = [
        "12 | NaN | true | 1.01 | {\"a\":[1,\"x y\"]} | 2026-01-02T03:04:05.678",
        "100 | 1.0 | false | 12345678.99 | 1.50 | 2026-01-02T03:04:00",
        "NULL | NULL | NULL | NULL | true | NULL",
    ];
    assert_eq!(rows(&t, "json", text), expected);
}

#[test]
fn json_errors_name_column_value_and_type_and_what_to_do() {
    let columns = [
        ("amount", decimal(10, 2)),
        ("i", SqlType::Int),
        ("c", SqlType::VarChar(3)),
        ("ts", SqlType::Timestamp(3)),
        ("x", SqlType::Binary(2)),
        ("arr", SqlType::Array(element(SqlType::TinyInt))),
        ("b", SqlType::Boolean),
    ];
    let t = table(&columns, &[]);
    for (text, expected) in [
        (r#"{"amount":"x"}"#, "column amount: 'x' is not a DECIMAL(10, 2)"),
        (r#"{"amount":123456789}"#, "column amount: '123456789' is out of range of DECIMAL(10, 2)"),
        (r#"{"i":2147483648}"#, "column i: '2147483648' is out of range of INT"),
        (r#"{"i":1.5}"#, "column i: '1.5' is not an INT"),
        (r#"{"i":true}"#, "column i: 'true' is not an INT"),
        (r#"{"i":[1]}"#, "column i: '[1]' is not an INT"),
        (r#"{"c":"äöüß"}"#, "column c: 'äöüß' is longer than VARCHAR(3)"),
        (r#"{"ts":"2026-01-02T03:04:05"}"#, "'timestamp-format.standard' = 'ISO-8601'"),
        (r#"{"ts":"2026-02-30 03:04:05"}"#, "column ts: '2026-02-30 03:04:05' is not a TIMESTAMP(3)"),
        (r#"{"x":"!!"}"#, "column x: '!!' is not Base64"),
        (r#"{"x":"AAAA"}"#, "column x: 3 bytes are more than BINARY(2)"),
        (r#"{"arr":[1,300]}"#, "column arr[]: '300' is out of range of TINYINT"),
        (r#"{"b":"yes"}"#, "column b: 'yes' is not a BOOLEAN"),
        (r#"{"i":1"#, "not valid JSON: ',' or '}' must stand here (character 7)"),
        (r#"{"i":1}}"#, "not valid JSON: text behind the record"),
        (r#"{"i" 1}"#, "':' must stand here"),
        (r#"{i:1}"#, "a field name in quotes"),
        ("[1]", "an object must stand here"),
        ("x", "an object must stand here"),
        (r#"{"c":"abc"#, "a string does not end"),
        (r#"{"i":nul}"#, "unexpected character"),
    ] {
        let found = refused(&t, "json", text);
        assert!(found.contains(expected), "{text}: {found}");
        assert!(found.contains("'json.ignore-parse-errors' = 'true'"), "{found}");
    }
    let bad = decode(&t, "json", b"{\"i\":1}\n\n{\"i\":x}\n").unwrap_err();
    assert_eq!((bad.offset, bad.records_before), (9, 2));
    let not_utf8 = decode(&t, "json", b"{\"c\":\"\xff\"}").unwrap_err();
    assert!(not_utf8.error.to_string().contains("is not UTF-8"));
}

#[test]
fn json_ignoring_errors_sets_fields_to_null_and_skips_what_is_no_json() {
    let mut t = table(&two(), &[("json.ignore-parse-errors", "true")]);
    let text = "{\"id\":\"x\",\"name\":\"a\"}\n{\"id\":1,\n{\"id\":2,\"name\":\"b\"}\n";
    assert_eq!(rows(&t, "json", text), ["NULL | a", "2 | b"]);
    t.columns[0].column.nullable = false;
    let mut d = decoder(&t, "json");
    d.decode(text.as_bytes(), true, 100).unwrap();
    assert_eq!((d.rows(), d.skipped(), d.records()), (1, 2, 3));
    assert_eq!(d.finish().unwrap().1, [2]);
}

#[test]
fn null_in_not_null_and_missing_fields_are_errors_where_asked() {
    let mut t = table(&two(), &[("json.fail-on-missing-field", "true")]);
    assert!(refused(&t, "json", "{\"id\":1}").contains("column name: the field is missing"));
    t.options.clear();
    t.columns[0].column.nullable = false;
    assert!(refused(&t, "json", "{\"name\":\"a\"}").contains("column id: NULL in a NOT NULL column"));
    t.options.insert("json.fail-on-missing-field".to_owned(), "true".to_owned());
    t.options.insert("json.ignore-parse-errors".to_owned(), "true".to_owned());
    assert!(crate::format("json").unwrap().decoder(&t, &[0]).is_err());
}

#[test]
fn iso_timestamps_and_nested_values_are_read() {
    let mut columns = nested_types();
    columns.push(("ltz", SqlType::TimestampLtz(3)));
    let t = table(&columns, &[("json.timestamp-format.standard", "ISO-8601")]);
    let text = r#"{"arr":[1,null,3],"arr2":[["a"],[],null],"map":{"k":1,"l":null,"k":2},"imap":{"7":"AQI="},"row":{"b":"x","in":{"z":"2026-01-02T00:00:00"},"a":1,"q":[]},"ltz":"2026-01-02T00:00:00Z"}"#;
    let found = rows(&t, "json", text).remove(0);
    let expected = "[1, , 3] | [[a], [], ] | {k: 2.00, l: } | {7: 0102} | {a: 1, b: x, in: {z: 2026-01-02T00:00:00}} | 2026-01-02T00:00:00Z";
    assert_eq!(found.replace("NULL", ""), expected);
}

#[test]
fn records_stay_whole_however_the_bytes_are_cut() {
    let t = table(&two(), &[]);
    for (format, text) in [
        ("json", "{\"id\":1,\"name\":\"a\"}\r\n\n{\"id\":2,\"name\":\"b\\n\"}\n{\"id\":3}"),
        ("csv", "1,a\r\n\n2,\"b\nb\"\"\"\n3,c"),
        (
            "debezium-json",
            "{\"after\":{\"id\":1},\"op\":\"c\"}\n{\"before\":{\"id\":1},\"after\":{\"id\":2},\"op\":\"u\"}",
        ),
    ] {
        let whole = shown(&decode(&t, format, text.as_bytes()).unwrap());
        for step in 1..text.len() {
            let mut d = decoder(&t, format);
            let (mut at, mut end, mut found) = (0, 0, vec![]);
            while at < text.len() {
                end = (end + step).min(text.len());
                at += d.decode(&text.as_bytes()[at..end], end == text.len(), 2).unwrap();
                found.extend(shown(&d.finish().unwrap().0));
            }
            assert_eq!(found, whole, "{format}, {step} bytes at a time");
        }
    }
}

#[test]
fn csv_quotes_escapes_comments_and_nulls() {
    let t = table(&two(), &[]);
    assert_eq!(
        rows(&t, "csv", "1,a\n2,\"x, \"\"y\"\"\nz\"\n,\n 4 ,\"\"\n"),
        ["1 | a", "2 | x, \"y\"\nz", "NULL | ", "4 | "]
    );
    let options = [
        ("csv.field-delimiter", "\\t"),
        ("csv.quote-character", "'"),
        ("csv.escape-character", "\\"),
        ("csv.allow-comments", "true"),
        ("csv.null-literal", "n/a"),
    ];
    let t = table(&two(), &options);
    let text = "# comment\n1\t'it\\'s'\n2\ta\\tb\\\\\nn/a\tn/a\n3\t'n/a'\n4\tx\\\ty\n";
    assert_eq!(rows(&t, "csv", text), ["1 | it's", "2 | a\tb\\", "NULL | NULL", "3 | n/a", "4 | x\ty"]);
    let t = table(&two(), &[("csv.disable-quote-character", "true"), ("csv.field-delimiter", ";")]);
    assert_eq!(rows(&t, "csv", "1;\"a\"\n"), ["1 | \"a\""]);
}

#[test]
fn csv_arrays_and_rows_use_their_own_delimiter() {
    let row = SqlType::Row(vec![Column::new("a", SqlType::Int, true), Column::new("b", SqlType::STRING, true)]);
    let columns = [("arr", SqlType::Array(element(SqlType::Int))), ("row", row)];
    let t = table(&columns, &[("csv.array-element-delimiter", "|")]);
    assert_eq!(rows(&t, "csv", "1|2|,3|x\n\"\",\n"), ["[1, 2, NULL] | {a: 3, b: x}", "[] | NULL"]);
    let map = [("m", SqlType::Map(Box::new(SqlType::STRING), element(SqlType::Int)))];
    let e = crate::format("csv").unwrap().decoder(&table(&map, &[]), &[0]).err().unwrap();
    assert!(e.to_string().contains("csv cannot hold MAP<STRING, INT>"), "{e}");
}

#[test]
fn csv_errors_name_what_is_wrong_and_can_be_skipped() {
    let t = table(&two(), &[]);
    for (text, expected) in [
        ("1\n", "1 field for 2 columns"),
        ("1,a,b\n", "more fields than the 2 columns"),
        ("x,a\n", "column id: 'x' is not an INT"),
        ("1,\"a\"b\n", "text behind a quoted field"),
        ("1,\"a\n2,b\n", "a quoted field does not end"),
    ] {
        let found = refused(&t, "csv", text);
        assert!(found.contains(expected) && found.contains("'csv.ignore-parse-errors'"), "{text}: {found}");
    }
    let t = table(&two(), &[("csv.ignore-parse-errors", "true")]);
    assert_eq!(
        rows(&t, "csv", "1\n1,a,b\nx,y\n2,\"a\"b\n3,c\n4,\"d\n5,e\n"),
        ["1 | NULL", "NULL | y", "3 | c", "5 | e"]
    );
}

#[test]
fn csv_headers_find_columns_by_name() {
    let t = table(&two(), &[("csv.header", "true")]);
    let mut d = decoder(&t, "csv");
    assert!(d.has_header());
    let text = b"\xef\xbb\xbfextra,\"name\",ID\nq,a,1\n";
    assert_eq!(d.read_header(&text[..8], false).unwrap(), None);
    let used = d.read_header(text, true).unwrap().unwrap();
    d.decode(&text[used..], true, 10).unwrap();
    assert_eq!(shown(&d.finish().unwrap().0), [("1 | a".to_owned(), 1)]);
    let e = d.read_header(b"id,nme\n", true).unwrap_err().to_string();
    assert!(e.contains("does not name column name exactly once; did you mean \"nme\"?"), "{e}");
    let encoder = crate::format("csv").unwrap().encoder(&t).unwrap();
    assert_eq!(encoder.header().unwrap(), b"id,name\n");
}

#[test]
fn debezium_events_become_changes_with_their_images() {
    let t = table(&two(), &[]);
    let text = r#"{"before":null,"after":{"id":1,"name":"a"},"source":{"x":[1]},"op":"r","ts_ms":5,"transaction":null}
{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"b"},"op":"u"}
{"op":"u","after":{"id":1,"name":"c"},"before":{"id":1,"name":"b"}}
null
{"before":{"id":1,"name":"c"},"after":null,"op":"d"}
{"before":{"id":9},"after":{"id":2},"op":"c"}
"#;
    let found = shown(&decode(&t, "debezium-json", text.as_bytes()).unwrap());
    let expected =
        [("1 | a", 1), ("1 | a", -1), ("1 | b", 1), ("1 | b", -1), ("1 | c", 1), ("1 | c", -1), ("2 | NULL", 1)];
    assert_eq!(found, expected.map(|(r, w)| (r.to_owned(), w)));
    let mut d = decoder(&t, "debezium-json");
    d.decode(text.as_bytes(), true, usize::MAX).unwrap();
    assert_eq!(d.finish().unwrap().1, [0, 1, 1, 2, 2, 4, 5]);
}

#[test]
fn debezium_events_with_schema_are_read_from_their_payload() {
    let t = table(&two(), &[("debezium-json.schema-include", "true")]);
    let text = r#"{"schema":{"type":"struct","fields":[{"op":"z"}]},"payload":{"before":null,"after":{"id":1},"op":"c"}}
{"schema":null,"payload":null}"#;
    assert_eq!(rows(&t, "debezium-json", text), ["1 | NULL"]);
    assert!(
        refused(&t, "debezium-json", r#"{"after":{"id":1},"op":"c"}"#)
            .contains("'debezium-json.schema-include' = 'false'")
    );
    let without = table(&two(), &[]);
    assert!(refused(&without, "debezium-json", text).contains("'debezium-json.schema-include' = 'true'"));
}

#[test]
fn debezium_events_without_before_image_say_how_to_get_it() {
    let t = table(&two(), &[]);
    for op in ["u", "d"] {
        let found = refused(&t, "debezium-json", &format!(r#"{{"before":null,"after":{{"id":1}},"op":"{op}"}}"#));
        assert!(found.contains("no before-image") && found.contains("REPLICA IDENTITY FULL"), "{found}");
    }
    for (text, expected) in [
        (r#"{"after":{"id":1},"op":"t"}"#, "operation \"t\" is none of c, r, u, d"),
        (r#"{"after":{"id":1}}"#, "no field op"),
        (r#"{"after":null,"op":"c"}"#, "no field after"),
        (r#"{"after":{"id":"x"},"op":"c"}"#, "column id: 'x' is not an INT"),
        (r#"{"after":{"id":1},"op":"c"} x"#, "text behind the record"),
    ] {
        let found = refused(&t, "debezium-json", text);
        assert!(found.contains(expected), "{text}: {found}");
    }
    let t = table(&two(), &[("debezium-json.ignore-parse-errors", "true")]);
    assert_eq!(rows(&t, "debezium-json", "{\"op\":\"d\"}\n{\"after\":{\"id\":1},\"op\":\"c\"}\n"), ["1 | NULL"]);
}

#[test]
fn an_update_is_written_with_before_and_after() {
    let t = table(&two(), &[]);
    let batch = decode(&t, "json", b"{\"id\":1,\"name\":\"a\"}\n{\"id\":1}\n{\"id\":2,\"name\":\"\\u0001\\\"\\n\"}")
        .unwrap()
        .batch;
    let mut out = vec![];
    let kinds = Some(vec![RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete]);
    let rows = RowChanges { batch: batch.clone(), kinds };
    crate::format("debezium-json").unwrap().encoder(&t).unwrap().encode(&rows, &mut out).unwrap();
    let expected = r#"{"before":{"id":1,"name":"a"},"after":{"id":1,"name":null},"op":"u"}
{"before":{"id":2,"name":"\u0001\"\n"},"after":null,"op":"d"}
"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert!(crate::format("json").unwrap().encoder(&t).unwrap().encode(&rows, &mut vec![]).is_err());
    let t = table(&two(), &[("json.encode.ignore-null-fields", "true")]);
    assert_eq!(encode(&t, "json", &batch.slice(1, 1)), b"{\"id\":1}\n");
}

#[test]
fn records_have_the_bytes_that_flink_writes() {
    let columns = [("s", SqlType::STRING), ("d", SqlType::Double), ("f", SqlType::Float)];
    let t = table(&columns, &[]);
    let text =
        "{\"s\":\"\u{1f}\u{7f}é€😂/\\\"\u{ffff}\u{10ffff}\\n\",\"d\":1e10,\"f\":\"NaN\"}\n{\"d\":1e-5,\"f\":100}\n";
    let text = text.replace('\u{1f}', "\\u001f");
    let batch = decode(&t, "json", text.as_bytes()).unwrap().batch;
    let written = String::from_utf8(encode(&t, "json", &batch)).unwrap();
    let expected = concat!(
        "{\"s\":\"\\u001F\u{7f}é€\\uD83D\\uDE02/\\\"\u{ffff}\\uDBFF\\uDFFF\\n\",\"d\":1.0E10,\"f\":\"NaN\"}\n",
        "{\"s\":null,\"d\":1.0E-5,\"f\":100.0}\n"
    );
    assert_eq!(written, expected);
    same(&batch, &decode(&t, "json", written.as_bytes()).unwrap().batch);
    let numbers = table(&[("d", SqlType::Double), ("f", SqlType::Float)], &[]);
    let batch = decode(&numbers, "csv", b"1e10,NaN\n1e-5,100\n").unwrap().batch;
    assert_eq!(String::from_utf8(encode(&numbers, "csv", &batch)).unwrap(), "1.0E10,NaN\n1.0E-5,100.0\n");
}

#[test]
fn decimals_are_plain_numbers_only_if_asked() {
    let columns = [("n", decimal(20, 10))];
    let batch = decode(&table(&columns, &[]), "json", b"{\"n\":0.00000012}").unwrap().batch;
    assert_eq!(encode(&table(&columns, &[]), "json", &batch), b"{\"n\":1.200E-7}\n");
    let plain = table(&columns, &[("json.encode.decimal-as-plain-number", "true")]);
    assert_eq!(encode(&plain, "json", &batch), b"{\"n\":0.0000001200}\n");
}

#[test]
fn csv_refuses_to_write_what_could_not_be_read_back() {
    let columns = [("s", SqlType::STRING), ("arr", SqlType::Array(element(SqlType::STRING)))];
    let write = |options: &[(&str, &str)], json: &str| {
        let t = table(&columns, options);
        let batch = decode(&t, "json", json.as_bytes()).unwrap().batch;
        let mut out = vec![];
        let mut encoder = crate::format("csv").unwrap().encoder(&t).unwrap();
        encoder.encode(&RowChanges { batch, kinds: None }, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    let no_quotes = ("csv.disable-quote-character", "true");
    assert!(write(&[no_quotes], r#"{"s":"a,b"}"#).unwrap_err().to_string().contains("needs quotes"));
    assert_eq!(write(&[no_quotes, ("csv.escape-character", "\\")], r#"{"s":"a,b"}"#).unwrap(), "a\\,b,\n");
    assert!(write(&[], r#"{"s":"a","arr":["x;y"]}"#).is_err());
    assert!(write(&[], r#"{"s":"a","arr":[null]}"#).is_err());
    assert!(write(&[], r#"{"s":"a","arr":[""]}"#).is_err());
    assert_eq!(write(&[], r#"{"s":"","arr":[]}"#).unwrap(), "\"\",\"\"\n");
}

#[test]
fn unknown_formats_and_options_propose_the_nearest() {
    assert!(crate::format("jason").err().unwrap().to_string().contains("did you mean 'json'?"));
    let t = table(&two(), &[("csv.field-delimeter", ";")]);
    let e = crate::format("csv").unwrap().decoder(&t, &[0]).err().unwrap().to_string();
    assert!(e.contains("did you mean \"field-delimiter\"?"), "{e}");
    let t = table(&two(), &[("csv.field-delimiter", "ab")]);
    assert!(crate::format("csv").unwrap().decoder(&t, &[0]).is_err());
    assert!(crate::options("csv").iter().any(|o| o.name == "csv.null-literal"));
    assert!(crate::options("nothing").is_empty());
}

#[test]
fn only_the_columns_that_are_asked_for_are_read_and_metadata_is_not_in_the_bytes() {
    let mut t = table(&[("a", SqlType::Int), ("m", SqlType::STRING), ("b", SqlType::Int)], &[]);
    t.columns[1].kind = ColumnKind::Metadata { key: "file.path".to_owned(), is_virtual: true };
    for (format, text) in [("json", "{\"a\":\"x\",\"m\":1,\"b\":2}"), ("csv", "x,2\n")] {
        let mut d = crate::format(format).unwrap().decoder(&t, &[2]).unwrap();
        d.decode(text.as_bytes(), true, 10).unwrap();
        assert_eq!(shown(&d.finish().unwrap().0), [("2".to_owned(), 1)]);
        let mut none = crate::format(format).unwrap().decoder(&t, &[]).unwrap();
        none.decode(text.as_bytes(), true, 10).unwrap();
        assert_eq!(none.finish().unwrap().0.num_rows(), 1);
    }
    assert!(crate::format("json").unwrap().decoder(&t, &[1]).is_err());
}
