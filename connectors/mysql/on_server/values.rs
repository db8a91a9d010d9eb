//! For each type: a row that a snapshot selects, an update of another column, and the delete that is logged net to
//! nothing; the row as it was inserted is the row that is selected; and as STRING it is the text that the server shows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use thalweg_core::consolidate::consolidate;
use thalweg_core::types::{Column, ElementType};
use thalweg_core::{Changes, SqlType};

use super::{Session, block_on};
use crate::binlog::event::{Checksums, Event, EventData};
use crate::binlog::payload::PayloadReader;
use crate::layout::{ImagePlan, ServerColumn, TableLayout, TableSpec, ValueOptions, ZeroDates};
use crate::rows::{RowMeta, RowsBuilder};
use crate::testing::source_table;

/// A column type, the types that it is declared as, and values as SQL writes them.
struct Case {
    ty: String,
    declared: Vec<SqlType>,
    values: Vec<String>,
}

fn case(ty: &str, declared: &[SqlType], values: &[&str]) -> Case {
    let values = values.iter().map(|v| (*v).to_owned()).collect();
    Case { ty: ty.to_owned(), declared: declared.to_vec(), values }
}

fn array(ty: SqlType) -> SqlType {
    SqlType::Array(Box::new(ElementType { ty, nullable: true }))
}

const fn decimal(precision: u8, scale: i8) -> SqlType {
    SqlType::Decimal { precision, scale }
}

fn numbers() -> Vec<Case> {
    use SqlType::*;
    let string = SqlType::STRING;
    let mut cases = vec![
        case("tinyint", &[TinyInt, SmallInt, Int, BigInt, decimal(3, 0), string.clone()], &["-128", "-1", "0", "127"]),
        case("tinyint unsigned", &[SmallInt, Int, BigInt, decimal(5, 2), string.clone()], &["0", "128", "255"]),
        case("tinyint(1)", &[Boolean, TinyInt, string.clone()], &["0", "1", "-1", "2"]),
        // Newer servers forget the width of an unsigned one unless it is filled with zeros.
        case("tinyint(1) unsigned zerofill", &[Boolean, SmallInt, string.clone()], &["0", "1", "2", "255"]),
        case("smallint", &[SmallInt, Int, BigInt, string.clone()], &["-32768", "-1", "0", "32767"]),
        case("smallint unsigned", &[Int, BigInt, string.clone()], &["0", "32768", "65535"]),
        case("mediumint", &[Int, BigInt, string.clone()], &["-8388608", "-1", "0", "8388607"]),
        case("mediumint unsigned", &[Int, BigInt, string.clone()], &["0", "8388608", "16777215"]),
        case("int", &[Int, BigInt, decimal(10, 0), string.clone()], &["-2147483648", "-1", "0", "2147483647"]),
        case("int unsigned", &[BigInt, decimal(12, 2), string.clone()], &["0", "2147483648", "4294967295"]),
        case("int(6) unsigned zerofill", &[BigInt, string.clone()], &["0", "42", "123456", "4294967295"]),
        case(
            "bigint",
            &[BigInt, decimal(19, 0), decimal(40, 3), string.clone()],
            &["-9223372036854775808", "-1", "0", "9223372036854775807"],
        ),
        case(
            "bigint unsigned",
            &[decimal(20, 0), decimal(38, 5), decimal(60, 9), string.clone()],
            &["0", "9223372036854775808", "18446744073709551615"],
        ),
        case("bigint unsigned", &[BigInt], &["0", "9223372036854775807"]),
        case("year", &[SmallInt, Int, BigInt, string.clone()], &["'0000'", "1901", "1999", "2155"]),
        case("bit(1)", &[Boolean, BigInt, SqlType::BYTES], &["b'0'", "b'1'"]),
        case("bit(8)", &[BigInt, SqlType::BYTES, Binary(1)], &["b'0'", "b'11111111'"]),
        case("bit(13)", &[BigInt, SqlType::BYTES, VarBinary(2)], &["b'0'", "b'1'", "b'1000000000001'"]),
        case("bit(63)", &[BigInt], &["b'0'", "9223372036854775807"]),
        case("bit(64)", &[decimal(20, 0), Binary(8)], &["b'0'", "18446744073709551615"]),
        case("float", &[Float, Double], &["0", "-0e0", "1.5", "0.1", "3.402823466e38", "-1.175494351e-38", "1e-45"]),
        case("float(7,3)", &[Float, Double], &["1234.567", "-0.001"]),
        case(
            "double",
            &[Double],
            &["0", "-0e0", "0.1", "1.7976931348623157e308", "-2.2250738585072014e-308", "5e-324"],
        ),
        case("double(10,2) unsigned", &[Double], &["12345678.91", "0.01"]),
    ];
    for (precision, scale) in
        [(1, 0), (1, 1), (9, 0), (10, 2), (18, 9), (19, 10), (38, 0), (38, 30), (39, 0), (65, 30), (65, 0)]
    {
        let before = usize::from(precision - scale);
        let nines = match scale {
            0 => "9".repeat(before),
            _ => format!("{}.{}", "9".repeat(before), "9".repeat(usize::from(scale))),
        };
        let small = if scale == 0 { "1".to_owned() } else { format!("0.{}1", "0".repeat(usize::from(scale) - 1)) };
        let mut declared = vec![decimal(precision, scale as i8), decimal(65, scale as i8), string.clone()];
        if precision < 38 {
            declared.push(decimal(38, scale as i8));
        }
        if scale <= 28 && precision - scale <= 36 {
            declared.push(decimal(65, 28));
        }
        let values = vec!["0".to_owned(), nines.clone(), format!("-{nines}"), small.clone(), format!("-{small}")];
        cases.push(Case { ty: format!("decimal({precision},{scale})"), declared, values });
    }
    cases
}

fn temporals() -> Vec<Case> {
    use SqlType::*;
    let string = SqlType::STRING;
    let mut cases = vec![case(
        "date",
        &[Date, string.clone()],
        &[
            "'0000-00-00'",
            "'1000-01-01'",
            "'1970-01-01'",
            "'1969-12-31'",
            "'2024-02-29'",
            "'9999-12-31'",
            "'2020-00-15'",
            "'2023-02-31'",
        ],
    )];
    for p in 0..=6_u8 {
        cases.push(case(
            &format!("datetime({p})"),
            &[Timestamp(6), Timestamp(p.max(3)), Timestamp(p), string.clone()],
            &[
                "'0000-00-00 00:00:00'",
                "'1000-01-01 00:00:00'",
                "'1969-12-31 23:59:59.999999'",
                "'2024-02-29 12:34:56.789012'",
                "'9999-12-31 23:59:59'",
                "'2020-12-00 10:00:00.5'",
            ],
        ));
        cases.push(case(
            &format!("datetime({p})"),
            &[Timestamp(9)],
            &["'1678-01-01 00:00:00.5'", "'2262-01-01 23:59:59.123456'"],
        ));
        cases.push(case(
            &format!("timestamp({p})"),
            &[TimestampLtz(p), TimestampLtz(6), TimestampLtz(9), Timestamp(p), Timestamp(6), string.clone()],
            &[
                "'0000-00-00 00:00:00'",
                "'1970-01-01 00:00:01'",
                "'2024-02-29 12:34:56.789012'",
                "'2038-01-19 03:14:07'",
                "'2024-07-01 00:00:00.000001'",
            ],
        ));
        cases.push(case(
            &format!("time({p})"),
            &[string.clone(), BigInt],
            &[
                "'-838:59:59'",
                "'838:59:59'",
                "'00:00:00'",
                "'-00:00:00.000001'",
                "'-00:00:01.1'",
                "'-100:00:00.999999'",
                "'24:00:00'",
                "'99:59:59.5'",
                "'100:00:00.05'",
            ],
        ));
        cases.push(case(
            &format!("time({p})"),
            &[Time(p), Time(6), Time(9)],
            &["'00:00:00'", "'12:34:56.789012'", "'23:59:59.4'"],
        ));
    }
    cases
}

fn texts() -> Vec<Case> {
    let string = SqlType::STRING;
    let long = format!("repeat('aé', {})", 40_000);
    let unicode = ["''", "'a'", "'a  '", "' \\t\\n'", "'äöü€'", "'日本語'", "'😀'", "'a\\0b'", "'\\'\"\\\\'"];
    let mut cases = vec![
        case("char(10)", &[string.clone(), SqlType::Char(10), SqlType::VarChar(20)], &unicode),
        case("char(255)", std::slice::from_ref(&string), &["''", "'x'", "repeat('😀', 255)", "repeat('a', 255)"]),
        case("varchar(10)", &[string.clone(), SqlType::VarChar(10)], &unicode),
        case("varchar(63)", std::slice::from_ref(&string), &["repeat('😀', 63)"]),
        case("varchar(64)", std::slice::from_ref(&string), &["repeat('😀', 64)", "''"]),
        case("varchar(3000)", std::slice::from_ref(&string), &["repeat('😀', 3000)", "'x'"]),
        case("tinytext", &[string.clone(), SqlType::VarChar(9)], &unicode),
        case("text", std::slice::from_ref(&string), &["''", "'é'", "repeat('x', 65535)"]),
        case("mediumtext", std::slice::from_ref(&string), &["''", &long]),
        case("longtext", std::slice::from_ref(&string), &["''", &long]),
        case(
            "binary(4)",
            &[SqlType::Binary(4), SqlType::BYTES],
            &["''", "x'00000000'", "x'41004200'", "x'20202020'", "x'ff'"],
        ),
        case("binary(255)", &[SqlType::BYTES], &["''", "x'01'", "repeat(x'ff', 255)"]),
        case("varbinary(4)", &[SqlType::VarBinary(4), SqlType::BYTES], &["''", "x'0000'", "x'4100'", "x'ff20'"]),
        case("varbinary(300)", &[SqlType::BYTES], &["''", "repeat(x'00', 300)"]),
        case("tinyblob", &[SqlType::BYTES], &["''", "x'00ff'", "repeat(x'01', 255)"]),
        case("blob", &[SqlType::BYTES], &["''", "repeat(x'01', 256)"]),
        case("mediumblob", &[SqlType::BYTES], &["''", "repeat(x'01', 65536)"]),
        case("longblob", &[SqlType::BYTES], &["''", "repeat(x'01', 70000)"]),
    ];
    // Text that many sets hold, and some of their own.
    for (charset, own) in [
        ("armscii8", "B2"),
        ("ascii", "7E"),
        ("big5", "A4A4"),
        ("cp1250", "8C"),
        ("cp1251", "C0"),
        ("cp1256", "C7"),
        ("cp1257", "C0"),
        ("cp850", "84"),
        ("cp852", "84"),
        ("cp866", "80"),
        ("cp932", "8740"),
        ("dec8", "E4"),
        ("eucjpms", "8FB0A1C6FC8EB1"),
        ("euckr", "B0A1"),
        ("gb18030", "D6D08130813094 39FC36"),
        ("gb2312", "D6D0"),
        ("gbk", "D65C8140"),
        ("geostd8", "C0"),
        ("greek", "C1"),
        ("hebrew", "E0"),
        ("hp8", "CC"),
        ("keybcs2", "84"),
        ("koi8r", "C1"),
        ("koi8u", "A4"),
        ("latin1", "80E4819D"),
        ("latin2", "B1"),
        ("latin5", "DD"),
        ("latin7", "C0"),
        ("macce", "8A"),
        ("macroman", "8ACA"),
        ("sjis", "93FAB1835C"),
        ("swe7", "7B5B"),
        ("tis620", "A1"),
        ("ucs2", "20AC0061"),
        ("ujis", "8FB0A1C6FC8EB1"),
        ("utf16", "0061D83DDE00"),
        ("utf16le", "61003DD800DE"),
        ("utf32", "0001F600"),
        ("utf8mb3", "E697A5C3A4"),
        ("utf8mb4", "F09F9880"),
    ] {
        let own = format!("convert(unhex('{}') using {charset})", own.replace(' ', ""));
        let mixed = format!("concat('ab ', {own}, 'c  ')");
        for ty in ["varchar(20)", "char(20)", "text"] {
            let ty = format!("{ty} character set {charset}");
            cases.push(case(&ty, std::slice::from_ref(&string), &["''", "'plain'", "' '", &own, &mixed]));
        }
    }
    cases
}

fn others() -> Vec<Case> {
    let string = SqlType::STRING;
    let many = |n: usize| (0..n).map(|i| format!("'l{i}'")).collect::<Vec<_>>().join(",");
    let mut cases = vec![
        case(
            r#"enum('a','it''s','back\\slash','new\nline','é','','q,"x')"#,
            &[string.clone(), SqlType::VarChar(20)],
            &["'a'", "2", "3", "4", "'é'", "6", "7", "'wrong'"],
        ),
        case(
            &format!("enum({})", many(300)),
            std::slice::from_ref(&string),
            &["'l0'", "'l254'", "'l255'", "'l256'", "'l299'", "'wrong'"],
        ),
        case("enum('ä','ß') character set latin1", std::slice::from_ref(&string), &["1", "2"]),
        case("enum('日','本') character set sjis", std::slice::from_ref(&string), &["1", "2"]),
        case("set('a','b c','é')", &[string.clone(), array(SqlType::STRING)], &["''", "'a'", "'b c,é'", "'a,b c,é'"]),
        case("set('ä','ß') character set latin1", &[string.clone(), array(SqlType::STRING)], &["''", "3"]),
        case(&format!("set({})", many(9)), std::slice::from_ref(&string), &["'l8'", "511"]),
        case(
            &format!("set({})", many(64)),
            &[string.clone(), array(SqlType::STRING)],
            &["'l63'", "'l0,l31,l32'", "18446744073709551615"],
        ),
        case(
            "vector(3)",
            &[array(SqlType::Float), SqlType::BYTES],
            &["string_to_vector('[1,-0.5,3e30]')", "string_to_vector('[7]')"],
        ),
    ];
    let shapes = [
        "ST_GeomFromText('POINT(1 2)')",
        "ST_GeomFromText('POINT(10 20)', 4326)",
        "ST_GeomFromText('LINESTRING(0 0,1 1,2 0.5)')",
        "ST_GeomFromText('POLYGON((0 0,10 0,10 10,0 10,0 0),(2 2,4 2,4 4,2 4,2 2))')",
        "ST_GeomFromText('MULTIPOINT(0 0,1 1)')",
        "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')",
        "ST_GeomFromText('GEOMETRYCOLLECTION EMPTY')",
    ];
    cases.push(case("geometry", &[SqlType::BYTES], &shapes));
    cases.push(case("point", &[SqlType::BYTES], &shapes[..2]));
    cases
}

/// Documents of every kind of value, in small and large containers.
fn documents() -> Vec<Case> {
    let mut values: Vec<String> = [
        "null",
        "true",
        "false",
        "0",
        "-1",
        "32767",
        "-32768",
        "32768",
        "65535",
        "65536",
        "2147483647",
        "-2147483648",
        "2147483648",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "1.0",
        "1.5",
        "-0.0",
        "1e15",
        "1e14",
        "1e-5",
        "1e-14",
        "1e-15",
        "1e-16",
        "123456789012345678901234567890",
        "0.1",
        "1e300",
        "1.7976931348623157e308",
        "5e-324",
        "2.2250738585072014e-308",
        "100",
        "1e2",
        "12345678901234567e0",
        r#""""#,
        r#""a""#,
        r#""äöü€日本😀""#,
        r#""\"\\\/\b\f\n\r\t\u0000\u001f\u007f""#,
        "[]",
        "{}",
        "[[]]",
        "[{}]",
        r#"{"": ""}"#,
        r#"{"bb": 1, "a": 2, "aaa": [1, 2.0, null, true], "é": {"x": {}}}"#,
        r#"[1, -1, 70000, -70000, 5000000000, -5000000000, 1.25, "s", null, true, false, [], {}]"#,
        r#"{"a": 1, "a": 2}"#,
    ]
    .iter()
    .map(|d| format!("'{}'", d.replace('\\', "\\\\")))
    .collect();
    values.extend(
        [
            "json_array(cast('2015-01-15' as date), cast('0000-00-00' as date))",
            "json_array(cast('23:24:25.12' as time(2)), cast('-838:59:59' as time), cast('-00:00:00.000001' as time(6)))",
            "json_array(cast('2015-01-15 23:24:25.5' as datetime(1)), timestamp'9999-12-31 23:59:59.999999')",
            "json_array(1.50, -0.000001, cast(1 as decimal(65,30)), 99999999999999999999999999999999999999999999999999999999999999999)",
            "json_array(cast('a' as binary), x'00ff', repeat(x'61', 57), repeat(x'61', 58), repeat(x'61', 200), x'')",
            "json_array(b'101', cast(2024 as year), cast(7 as unsigned), repeat('x', 127), repeat('x', 128), repeat('é', 20000))",
            "json_array(ST_GeomFromText('POINT(1 2)'))",
            // Large containers: offsets of four bytes.
            "json_object('k', repeat('x', 70000), 'n', 1, 'i', 100000, 'u', 4000000000)",
            "cast(concat('[', repeat('123456,', 20000), '-1]') as json)",
            "cast(concat(repeat('[', 99), '1', repeat(']', 99)) as json)",
            "cast(concat('{', (select group_concat(concat('\"k', n, '\": ', n)) from (select row_number() over () n from information_schema.columns limit 600) t), '}') as json)",
        ]
        .map(str::to_owned),
    );
    // Doubles of all magnitudes, by a fixed sequence.
    let mut seed = 42_u64;
    for chunk in 0..20 {
        let mut list = String::from("json_array(");
        for i in 0..50 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let bits = if chunk < 10 { seed } else { (seed >> 12) | (1023 + (seed % 120) - 60) << 52 };
            let value = f64::from_bits(bits);
            let value = if value.is_finite() { value } else { f64::from(i) };
            let _ = write!(list, "{}{value:e}", if i > 0 { "," } else { "" });
        }
        values.push(list + ")");
    }
    vec![Case { ty: "json".to_owned(), declared: vec![SqlType::STRING], values }]
}

/// Cases of which the columns stand in one table, each among others that are moved over.
const CASES_PER_TABLE: usize = 8;

/// The table of some cases: a column for each, with others around.
fn create(table: &str, cases: &[Case]) -> String {
    let mut sql = format!("CREATE TABLE {table} (id INT PRIMARY KEY, other INT");
    for (i, case) in cases.iter().enumerate() {
        let _ = write!(sql, ", c{i} {} NULL", case.ty);
    }
    sql + ", tail INT NOT NULL)"
}

/// A row for each value, and one of NULLs.
fn insert(table: &str, cases: &[Case]) -> String {
    let count = cases.iter().map(|c| c.values.len()).max().unwrap_or(0) + 1;
    let row = |id: usize| {
        let values: Vec<_> = cases.iter().map(|c| c.values.get(id).map_or("NULL", String::as_str)).collect();
        format!("({id}, NULL, {}, {})", values.join(", "), id * 7)
    };
    let rows: Vec<String> = (0..count).map(row).collect();
    format!("INSERT INTO {table} VALUES {}", rows.join(", "))
}

pub(super) async fn server_columns(session: &mut Session, database: &str, table: &str) -> Vec<ServerColumn> {
    let sql = format!(
        "SELECT column_name, column_type, character_set_name, collation_name, is_nullable, generation_expression, \
         (SELECT id FROM information_schema.collations k WHERE k.collation_name = c.collation_name) \
         FROM information_schema.columns c WHERE table_schema = '{database}' AND table_name = '{table}' ORDER BY ordinal_position"
    );
    let text = |v: &Option<Vec<u8>>| v.as_ref().map(|b| String::from_utf8_lossy(b).into_owned());
    let columns = session.rows(&sql).await.into_iter().map(|row| ServerColumn {
        name: text(&row[0]).unwrap(),
        column_type: text(&row[1]).unwrap(),
        charset: text(&row[2]),
        collation: text(&row[3]),
        collation_id: text(&row[6]).map(|id| id.parse().unwrap()),
        nullable: text(&row[4]).unwrap() == "YES",
        generated: text(&row[5]).is_some_and(|e| !e.is_empty()),
    });
    columns.collect()
}

fn layout(table: &str, declared: &[Column], columns: Vec<ServerColumn>, zone: &str) -> Arc<TableLayout> {
    let options = ValueOptions { zone: zone.parse().unwrap(), zero_dates: ZeroDates::Null };
    let spec = TableSpec {
        source: source_table(table, declared),
        database: "vals".to_owned(),
        table: table.to_owned(),
        columns,
        primary_key: vec![0],
        allows_cascades: false,
        options,
    };
    Arc::new(TableLayout::new(spec).unwrap_or_else(|e| panic!("{table}: {e}")))
}

/// One case with one declared type.
struct Subject {
    name: String,
    layout: Arc<TableLayout>,
    plan: Option<Arc<ImagePlan>>,
    /// What the snapshot selected; what the log says by kind.
    selected: Changes,
    logged: BTreeMap<&'static str, RowsBuilder>,
}

/// Runs the cases; `settings` are statements of the session that writes.
fn check(cases: &[Case], settings: &[&str], zone: &str) {
    block_on(async {
        let mut session = Session::open().await;
        session.run("DROP DATABASE IF EXISTS vals").await;
        session.run("CREATE DATABASE vals CHARACTER SET utf8mb4").await;
        session.run("USE vals").await;
        session.run("SET sql_mode = 'ALLOW_INVALID_DATES', group_concat_max_len = 1000000").await;
        for setting in settings {
            session.run(setting).await;
        }
        let file = session.new_file().await;
        let mut subjects: Vec<Vec<Subject>> = vec![];
        for (n, group) in cases.chunks(CASES_PER_TABLE).enumerate() {
            let table = format!("t{n}");
            session.run(&create(&table, group)).await;
            session.run(&insert(&table, group)).await;
            let columns = server_columns(&mut session, "vals", &table).await;
            let mut of_table = vec![];
            for (i, case) in group.iter().enumerate() {
                for ty in &case.declared {
                    let declared = [
                        Column::new("id", SqlType::Int, false),
                        Column::new(format!("c{i}"), ty.clone(), true),
                        Column::new("tail", SqlType::Int, false),
                    ];
                    let layout = layout(&table, &declared, columns.clone(), zone);
                    let name = format!("{} as {ty}", case.ty);
                    let selected = select(&mut session, &layout).await;
                    if *ty == SqlType::STRING && zone == "UTC" {
                        as_shown(&mut session, &format!("SELECT c{i} FROM {table} ORDER BY id"), &selected, &name)
                            .await;
                    }
                    of_table.push(Subject { name, layout, plan: None, selected, logged: BTreeMap::new() });
                }
            }
            subjects.push(of_table);
            session.run(&format!("UPDATE {table} SET other = 1")).await;
            session.run(&format!("DELETE FROM {table}")).await;
        }
        for event in Session::events_from(&file).await {
            take(&event, Checksums::Crc32, &mut subjects);
        }
        for subject in subjects.iter_mut().flatten() {
            let name = &subject.name;
            let mut logged: BTreeMap<&str, Changes> = BTreeMap::new();
            for (kind, builder) in &mut subject.logged {
                logged.insert(kind, builder.finish().unwrap());
            }
            let kinds: Vec<_> = logged.keys().copied().collect();
            assert_eq!(kinds, ["+I", "+U", "-D", "-U"], "{name}");
            let nets = |parts: &[&Changes], what: &str| {
                let parts: Vec<Changes> = parts.iter().map(|c| (*c).clone()).collect();
                let net = consolidate(&parts).unwrap();
                assert_eq!(net.num_rows(), 0, "{name}, {what}:\n{}", thalweg_core::testing::print(&net));
            };
            let selected = &subject.selected;
            nets(&[selected, &logged["-D"]], "selected and deleted");
            nets(&[selected, &logged["-U"]], "selected and updated");
            nets(&[&logged["+I"], &logged["-U"]], "inserted and updated");
            nets(&[&logged["+U"], &logged["-D"]], "updated and deleted");
        }
    });
}

async fn select(session: &mut Session, layout: &Arc<TableLayout>) -> Changes {
    session.run("SET character_set_results = NULL").await;
    let sql = format!("SELECT {} FROM {} ORDER BY id", layout.select_list().join(", "), layout.table());
    let columns = session.conn.select(&sql).await.unwrap();
    let codes: Vec<u8> = columns.iter().map(|c| c.type_code).collect();
    let plan = layout.row_plan(&codes).unwrap();
    let mut builder = RowsBuilder::new(layout).unwrap();
    while let Some(row) = session.conn.next_row().await.unwrap() {
        builder.push_row(&plan, row, RowMeta::default()).unwrap();
    }
    session.run("SET character_set_results = utf8mb4").await;
    builder.finish().unwrap()
}

/// The column as STRING is what the server shows in the text protocol.
async fn as_shown(session: &mut Session, sql: &str, selected: &Changes, name: &str) {
    use arrow::array::{Array, AsArray};
    let shown = session.rows(sql).await;
    let ours = selected.batch.column(1).as_string::<i32>();
    assert_eq!(ours.len(), shown.len());
    for (row, shown) in shown.iter().enumerate() {
        let shown = shown[0].as_ref().map(|b| String::from_utf8(b.clone()).unwrap());
        let ours = (!ours.is_null(row)).then(|| ours.value(row).to_owned());
        assert_eq!(ours, shown, "{name}, row {row}");
    }
}

fn take(event: &[u8], checksums: Checksums, subjects: &mut [Vec<Subject>]) {
    match Event::parse(event, checksums).unwrap().data {
        EventData::TableMap(map) => {
            subjects.iter_mut().flatten().for_each(|subject| subject.plan = None);
            // Other tests write to the same log.
            if map.database != b"vals" {
                return;
            }
            let n: usize = std::str::from_utf8(&map.table[1..]).unwrap().parse().unwrap();
            for subject in &mut subjects[n] {
                let plan = subject.layout.image_plan(&map);
                subject.plan = Some(plan.unwrap_or_else(|e| panic!("{}: {e}", subject.name)));
            }
        }
        EventData::Rows(rows) => {
            for subject in subjects.iter_mut().flatten() {
                let Some(plan) = &subject.plan else { continue };
                let mut cursor = rows.images();
                while let Some(image) = cursor.next_image(plan).unwrap_or_else(|e| panic!("{}: {e}", subject.name)) {
                    let key = plan.key(&image).unwrap();
                    assert!(matches!(key.0[..], [crate::key::KeyPart::Int(0..)]), "{key}");
                    let layout = &subject.layout;
                    let builder =
                        subject.logged.entry(image.kind.symbol()).or_insert_with(|| RowsBuilder::new(layout).unwrap());
                    let pushed = builder.push_image(plan, &image, RowMeta::default());
                    pushed.unwrap_or_else(|e| panic!("{}: {e}", subject.name));
                }
            }
        }
        EventData::TransactionPayload(payload) => {
            let mut reader = PayloadReader::new(&payload, bytes::Bytes::copy_from_slice(payload.bytes)).unwrap();
            while let Some(event) = reader.next_event().unwrap() {
                take(event, Checksums::Off, subjects);
            }
        }
        _ => {}
    }
}

/// All cases, also for the corpus.
fn all() -> Vec<Case> {
    [numbers(), temporals(), texts(), others(), documents()].into_iter().flatten().collect()
}

// One test: the settings of the server are those of all.
#[test]
fn a_selected_row_and_its_logged_delete_net_to_nothing() {
    let minimal = "SET GLOBAL binlog_row_metadata = MINIMAL";
    let full = "SET GLOBAL binlog_row_metadata = FULL";
    check(&all(), &[minimal], "UTC");
    // What the catalog shows as `?` is in the log.
    let emoji = case("enum('😀','?','é😀')", &[SqlType::STRING], &["1", "2", "3"]);
    let emojis = case("set('😀','?','é😀')", &[SqlType::STRING, array(SqlType::STRING)], &["1", "3", "6"]);
    let with_emoji: Vec<Case> = all().into_iter().chain([emoji, emojis]).collect();
    check(&with_emoji, &[full, "SET binlog_transaction_compression = ON"], "UTC");
    check(&temporals(), &[minimal], "America/New_York");
}

/// Writes the logs that `tests/fuzz.rs` damages:
/// `cargo test --release -p thalweg-mysql write_testdata -- --ignored`
#[test]
#[ignore = "writes into the source tree"]
fn write_testdata() {
    const VALUE_CHARS_MAX: usize = 120;
    block_on(async {
        let mut cases = all();
        for case in &mut cases {
            case.values.retain(|v| v.len() <= VALUE_CHARS_MAX && !v.contains("repeat("));
        }
        cases.retain(|case| !case.values.is_empty() && case.ty.len() < 400);
        // Of types with a charset one form each.
        let mut seen = std::collections::BTreeSet::new();
        cases.retain(|case| match case.ty.split_once("character set ") {
            Some((_, charset)) => seen.insert(charset.to_owned()),
            None => true,
        });
        for (file, metadata, compression) in [("plain", "MINIMAL", "OFF"), ("compressed", "FULL", "ON")] {
            let mut session = Session::open().await;
            session.run("DROP DATABASE IF EXISTS testdata").await;
            session.run("CREATE DATABASE testdata CHARACTER SET utf8mb4").await;
            session.run("USE testdata").await;
            session.run("SET sql_mode = 'ALLOW_INVALID_DATES', timestamp = 1700000000").await;
            session.run(&format!("SET GLOBAL binlog_row_metadata = {metadata}")).await;
            session.run(&format!("SET binlog_transaction_compression = {compression}")).await;
            for (n, group) in cases.chunks(CASES_PER_TABLE).enumerate() {
                session.run(&create(&format!("t{n}"), group)).await;
            }
            let log = session.new_file().await;
            for (n, group) in cases.chunks(CASES_PER_TABLE).enumerate() {
                session.run("BEGIN").await;
                session.run(&insert(&format!("t{n}"), group)).await;
                session.run(&format!("UPDATE t{n} SET other = 1 WHERE id > 1")).await;
                session.run(&format!("DELETE FROM t{n} WHERE id = 1")).await;
                session.run("COMMIT").await;
            }
            for sql in [
                "SET gtid_next = 'AUTOMATIC:tagged'",
                "INSERT INTO t0 (id, tail) VALUES (100, 1)",
                "SET gtid_next = 'AUTOMATIC'",
                "XA START 'x'",
                "INSERT INTO t0 (id, tail) VALUES (101, 1)",
                "XA END 'x'",
                "XA PREPARE 'x'",
                "XA COMMIT 'x'",
                "SET binlog_rows_query_log_events = ON",
                "INSERT INTO t0 (id, tail) VALUES (102, 1)",
                "DROP TABLE t1",
                "FLUSH BINARY LOGS",
            ] {
                session.run(sql).await;
            }
            let mut bytes = b"\xfebin".to_vec();
            for event in Session::events_from(&log).await {
                if !crate::binlog::event::Header::parse(&event).unwrap().is_artificial() {
                    bytes.extend_from_slice(&event);
                }
            }
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(format!("{file}.binlog"));
            println!("{}: {} bytes", path.display(), bytes.len());
            std::fs::write(path, bytes).unwrap();
        }
        let mut session = Session::open().await;
        session.run("SET GLOBAL binlog_row_metadata = MINIMAL").await;
    });
}
