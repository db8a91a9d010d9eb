//! What a format writes it reads back as the same rows: all types, NULLs, extreme values, any text.

use std::fmt::Write;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use proptest::prelude::*;

use super::*;
use crate::json::encode::write_string;

/// A value of a simple type, as JSON, out of a few random numbers and a text.
fn value(ty: &SqlType, a: u64, b: u64, text: &str) -> String {
    let extreme = a.is_multiple_of(5);
    let signed = |min: i64, max: i64| match (extreme, b % 3) {
        (true, 0) => min,
        (true, 1) => max,
        (true, _) => 0,
        _ => (b as i64).clamp(min, max),
    };
    let digits = |n: usize| {
        let digits: String = format!("{a:020}{b:020}{:020}{:020}", a ^ b, a.wrapping_add(b)).chars().take(n).collect();
        if extreme { "9".repeat(n) } else { digits }
    };
    let time = |precision: u8| {
        let seconds = if extreme { 86_399 } else { b % 86_400 };
        let fraction: String = digits(9).chars().take(usize::from(precision)).collect();
        let point = if precision == 0 { "" } else { "." };
        format!("{:02}:{:02}:{:02}{point}{fraction}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    };
    let date = |from: u64, years: u64| format!("{:04}-{:02}-{:02}", from + b % years, 1 + a % 12, 1 + (a >> 8) % 28);
    let string = |text: &str| {
        let mut out = vec![];
        write_string(text, &mut out);
        String::from_utf8(out).unwrap()
    };
    let mut bytes = vec![];
    match ty {
        SqlType::Boolean => a.is_multiple_of(2).to_string(),
        SqlType::TinyInt => signed(i8::MIN.into(), i8::MAX.into()).to_string(),
        SqlType::SmallInt => signed(i16::MIN.into(), i16::MAX.into()).to_string(),
        SqlType::Int => signed(i32::MIN.into(), i32::MAX.into()).to_string(),
        SqlType::BigInt => signed(i64::MIN, i64::MAX).to_string(),
        SqlType::Float | SqlType::Double if extreme => {
            let max = if *ty == SqlType::Float { "3.4028235e38" } else { "1.7976931348623157e308" };
            let values = ["\"NaN\"", "\"Infinity\"", "\"-Infinity\"", "-0.0", "5e-45", "2.2250738585072014e-308", max];
            values[(b % 7) as usize].to_owned()
        }
        SqlType::Float => format!("{:?}", f32::from_bits(b as u32 & 0xbfff_ffff)),
        SqlType::Double => format!("{:?}", f64::from_bits(b & 0xbfff_ffff_ffff_ffff)),
        SqlType::Decimal { precision, scale } => {
            let (p, s) = (usize::from(*precision), *scale as usize);
            let all = digits(p);
            let sign = if a.is_multiple_of(2) { "-" } else { "" };
            let whole = all[..p - s].trim_start_matches('0');
            format!("{sign}{}.{}", if whole.is_empty() { "0" } else { whole }, &all[p - s..])
        }
        SqlType::Char(n) | SqlType::VarChar(n) => string(&text.chars().take(*n as usize).collect::<String>()),
        SqlType::Binary(n) | SqlType::VarBinary(n) => {
            let length = (*n as usize).min((b % 20) as usize);
            let raw: Vec<u8> = a.to_le_bytes().into_iter().chain(b.to_le_bytes()).cycle().take(length).collect();
            crate::base64::encode(&raw, &mut bytes);
            string(std::str::from_utf8(&bytes).unwrap())
        }
        SqlType::Date => string(&date(1, 9999)),
        SqlType::Time(p) => string(&time(*p)),
        SqlType::Timestamp(p) if *p > 6 => string(&format!("{} {}", date(1700, 500), time(*p))),
        SqlType::Timestamp(p) => string(&format!("{} {}", date(1, 9999), time(*p))),
        SqlType::TimestampLtz(p) if *p > 6 => string(&format!("{} {}Z", date(1700, 500), time(*p))),
        SqlType::TimestampLtz(p) => string(&format!("{} {}Z", date(1, 9999), time(*p))),
        SqlType::Array(e) => {
            let one = |i: u64| cell(&e.ty, a.rotate_left(7 * i as u32), b.wrapping_add(i), text);
            format!("[{}]", (0..a % 4).map(one).collect::<Vec<_>>().join(","))
        }
        SqlType::Map(key, e) => {
            let one = |i: u64| {
                let key = if key.is_string() { string(&format!("{text}{i}")) } else { format!("\"{i}\"") };
                format!("{key}:{}", cell(&e.ty, a.rotate_left(9 * i as u32), b.wrapping_add(i), text))
            };
            format!("{{{}}}", (0..a % 4).map(one).collect::<Vec<_>>().join(","))
        }
        SqlType::Row(fields) => {
            let one =
                |(i, f): (u32, &Column)| format!("{}:{}", string(&f.name), cell(&f.ty, a.rotate_left(11 * i), b, text));
            format!("{{{}}}", (0..).zip(fields).map(one).collect::<Vec<_>>().join(","))
        }
        SqlType::Null | SqlType::Interval => "null".to_owned(),
    }
}

fn cell(ty: &SqlType, a: u64, b: u64, text: &str) -> String {
    if (a >> 20).is_multiple_of(6) { "null".to_owned() } else { value(ty, a, b, text) }
}

fn json_of(columns: &[(&str, SqlType)], seeds: &[(u64, u64, String)]) -> String {
    let mut lines = String::new();
    for (a, b, text) in seeds {
        let field = |(i, (name, ty)): (u32, &(&str, SqlType))| {
            format!(
                "\"{name}\":{}",
                cell(ty, a.rotate_left(5 * i).wrapping_mul(0x9e37_79b9_7f4a_7c15), b.rotate_left(3 * i), text)
            )
        };
        writeln!(lines, "{{{}}}", (0..).zip(columns).map(field).collect::<Vec<_>>().join(",")).unwrap();
    }
    lines
}

fn seeds() -> impl Strategy<Value = Vec<(u64, u64, String)>> {
    prop::collection::vec(
        (any::<u64>(), any::<u64>(), "\\PC{0,30}|[\\x00-\\x7f]{0,20}|[a,;\"\\\\#'\n\r\t|]{0,12}"),
        0..20,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn json_and_debezium_json_of_all_types(seeds in seeds(), iso: bool) {
        let mut columns = simple_types();
        columns.extend(nested_types());
        let sql = table(&columns, &[]);
        let first = decode(&sql, "json", json_of(&columns, &seeds).as_bytes()).unwrap();
        prop_assert_eq!(first.num_rows(), seeds.len());
        for format in ["json", "debezium-json"] {
            let standard = if iso { "ISO-8601" } else { "SQL" };
            let t = table(&columns, &[(&format!("{format}.timestamp-format.standard"), standard)]);
            let text = encode(&t, format, &first.batch);
            let again = decode(&t, format, &text).unwrap();
            same(&first.batch, &again.batch);
            prop_assert_eq!(encode(&t, format, &again.batch), text);
        }
    }

    #[test]
    fn csv_of_all_simple_types(seeds in seeds(), which in 0usize..4) {
        let columns = simple_types();
        let options: &[(&str, &str)] = match which {
            0 => &[("csv.null-literal", "null")],
            1 => &[("csv.null-literal", ""), ("csv.quote-character", "'"), ("csv.field-delimiter", "|")],
            2 => &[("csv.null-literal", "\\N"), ("csv.escape-character", "\\"), ("csv.allow-comments", "true")],
            _ => &[("csv.null-literal", "1"), ("csv.field-delimiter", "-")],
        };
        let t = table(&columns, options);
        let first = decode(&t, "json", json_of(&columns, &seeds).as_bytes()).unwrap();
        let text = encode(&t, "csv", &first.batch);
        same(&first.batch, &decode(&t, "csv", &text).unwrap().batch);
    }

    /// Against another JSON library: any nesting around the fields, any white space between the tokens.
    #[test]
    fn json_reads_what_another_library_writes(fields in prop::collection::vec(field(), 0..12), pretty: bool) {
        let t = table(&[("s", SqlType::STRING), ("i", SqlType::BigInt), ("d", SqlType::Double)], &[]);
        let mut object = serde_json::Map::new();
        fields.into_iter().for_each(|(k, v)| {
            object.insert(k, v);
        });
        let value = serde_json::Value::Object(object);
        let text = if pretty {
            serde_json::to_string_pretty(&value).unwrap().replace('\n', "\t")
        } else {
            value.to_string()
        };
        let batch = decode(&t, "json", text.as_bytes()).unwrap().batch;
        let string = batch.column(0).as_string::<i32>();
        prop_assert_eq!(string.is_valid(0).then(|| string.value(0)), value["s"].as_str());
        let integer = batch.column(1).as_primitive::<Int64Type>();
        prop_assert_eq!(integer.is_valid(0).then(|| integer.value(0)), value["i"].as_i64());
        let double = batch.column(2).as_primitive::<Float64Type>();
        prop_assert_eq!(double.is_valid(0).then(|| double.value(0)), value["d"].as_f64());
    }
}

/// A field of one of the columns, with a value of its type, or another one with anything.
fn field() -> impl Strategy<Value = (String, serde_json::Value)> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let anything = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|f| Value::Object(f.into_iter().collect())),
        ]
    });
    prop_oneof![
        any::<String>().prop_map(|s| ("s".to_owned(), Value::from(s))),
        any::<i64>().prop_map(|i| ("i".to_owned(), Value::from(i))),
        prop::num::f64::NORMAL.prop_map(|d| ("d".to_owned(), Value::from(d))),
        (any::<String>(), anything).prop_filter("not a column", |(k, _)| !["s", "i", "d"].contains(&k.as_str())),
    ]
}
