//! Arbitrary bytes never panic, whatever they look like, and reading goes on behind them.

use proptest::prelude::*;

use super::*;

/// Text that nearly is what the format wants.
fn nearly(alphabet: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        8 => prop::sample::select(alphabet).prop_map(|t| t.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\n",
    " ",
    "\"",
    "\\",
    "\\u12",
    "\\ud800",
    "null",
    "true",
    "false",
    "-",
    "1",
    "1e9",
    "0.5",
    "\"i\"",
    "\"str\"",
    "\"arr\":[1",
    "\"map\":{",
    "\"row\":{\"a\":",
    "\"n\":",
    "\"before\":{",
    "\"after\":{",
    "\"op\":\"u\"",
    "\"op\":\"d\"}",
    "{\"i\":1,",
    "\"ts3\":\"2026-01-02 03:04:05\"",
    "\"date\":\"2026-",
    "\"2026-01-01\"",
    "\"AQ==\"",
    "99999999999999999999",
];
const CSV: &[&str] =
    &[",", "\n", "\r\n", "\"", "\"\"", "\\", "#", "1", "-1", "a", "null", "2026-01-02", ";", " ", "é", "1.5", "true"];

fn check(format: &str, columns: &[(&str, SqlType)], options: &[(&str, &str)], bytes: &[u8], cut: usize) {
    let t = table(columns, options);
    let strict = decode(&t, format, bytes);
    if let Err(bad) = &strict {
        assert!(bad.offset <= bytes.len());
    }
    let ignore = format!("{format}.ignore-parse-errors");
    let mut all: Vec<_> = options.to_vec();
    all.push((&ignore, "true"));
    let t = table(columns, &all);
    // Everything is used up, in whatever pieces it comes.
    let mut d = decoder(&t, format);
    let cut = cut.min(bytes.len());
    let mut at = d.decode(&bytes[..cut], false, 3).unwrap();
    d.finish().unwrap();
    while at < bytes.len() {
        let used = d.decode(&bytes[at..], true, 3).unwrap();
        assert!(used > 0, "the last bytes are always taken");
        at += used;
        d.finish().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn json(bytes in nearly(JSON), cut in 0usize..300) {
        let mut columns = simple_types();
        columns.extend(nested_types());
        check("json", &columns, &[], &bytes, cut);
        check("debezium-json", &columns, &[], &bytes, cut);
        check("debezium-json", &columns, &[("debezium-json.schema-include", "true")], &bytes, cut);
    }

    #[test]
    fn csv(bytes in nearly(CSV), cut in 0usize..100, which in 0usize..3) {
        let columns = [("i", SqlType::Int), ("s", SqlType::STRING), ("a", SqlType::Array(element(SqlType::Date)))];
        let options: &[(&str, &str)] = match which {
            0 => &[],
            1 => &[("csv.escape-character", "\\"), ("csv.allow-comments", "true"), ("csv.null-literal", "a")],
            _ => &[("csv.disable-quote-character", "true"), ("csv.escape-character", "\"")],
        };
        check("csv", &columns, options, &bytes, cut);
        check("csv", &columns[..1], options, &bytes, cut);
        let header = table(&columns, &[("csv.header", "true")]);
        let _ = decoder(&header, "csv").read_header(&bytes, true);
    }

    #[test]
    fn anything(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
        for format in ["json", "csv", "debezium-json"] {
            check(format, &simple_types()[..12], &[], &bytes, cut);
        }
    }
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let t = table(&[("s", SqlType::STRING)], &[]);
    for deep in [format!("{{\"x\":{}", "[".repeat(1_000_000)), format!("{{\"s\":{}", "{\"a\":".repeat(1_000_000))] {
        assert!(refused(&t, "json", &deep).contains("nested too deeply"));
    }
}
