//! What the catalog accepts, refuses and shows.

use thalweg_core::table::ColumnKind as CoreKind;
use thalweg_core::{Error, Place, SqlType};

use super::*;
use crate::sql::{Statement, parse_statement};

fn never(_: &str, _: &str) -> bool {
    false
}

fn try_run(catalog: &mut Catalog, text: &str) -> Result<(), Error> {
    match parse_statement(text)? {
        Statement::CreateTable(t) => catalog.create_table(&t).map(drop),
        Statement::CreateView(v) => catalog.create_view(&v).map(drop),
        Statement::Drop(d) => catalog.drop_object(&d).map(drop),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn with(statements: &[&str]) -> Catalog {
    let mut catalog = Catalog::default();
    for text in statements {
        try_run(&mut catalog, text).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
    }
    catalog
}

/// The last statement's error: column, and a part of the message.
#[track_caller]
fn fails(statements: &[&str], column: u32, message: &str) -> Error {
    let (last, before) = statements.split_last().unwrap();
    let mut catalog = with(before);
    let e = try_run(&mut catalog, last).err().unwrap_or_else(|| panic!("accepted: {last}"));
    assert!(e.message().contains(message), "{last}\n{e}");
    assert_eq!(e.place().map(|p| p.column), Some(column), "{last}\n{e}");
    e
}

fn at() -> Place {
    Place::new(1, 1, 1)
}

#[test]
fn a_table_definition_has_what_the_connector_reads() {
    let catalog = with(&["CREATE TABLE t (
        p AS id + 1,
        id INT,
        ts TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL,
        name STRING,
        PRIMARY KEY (name, id) NOT ENFORCED
    ) PARTITIONED BY (name) WITH ('Connector' = 'x', 'Fields.Id.Min' = '1')"]);
    let def = catalog.table("T", at()).unwrap().to_table_def(None);
    let names: Vec<&str> = def.columns.iter().map(|c| c.column.name.as_str()).collect();
    assert_eq!(names, ["id", "ts", "name"]);
    assert!(!def.columns[0].column.nullable && !def.columns[2].column.nullable);
    assert_eq!(def.columns[1].kind, CoreKind::Metadata { key: "timestamp".into(), is_virtual: true });
    assert_eq!(def.primary_key, [2, 0]);
    assert_eq!(def.partitioned_by, [2]);
    assert_eq!(def.option("fields.id.min"), Some("1"));
    assert_eq!(catalog.table("t", at()).unwrap().connector(), Some("x"));
}

#[test]
fn a_hint_s_options_win() {
    let catalog = with(&["CREATE TABLE t (a INT) WITH ('connector' = 'x', 'path' = 'old')"]);
    let Statement::Insert(i) = parse_statement("INSERT INTO t /*+ OPTIONS('path' = 'new') */ SELECT 1").unwrap() else {
        panic!()
    };
    let def = catalog.table("t", at()).unwrap().to_table_def(i.target_hint.as_ref());
    assert_eq!(def.option("path"), Some("new"));
    assert_eq!(def.option("connector"), Some("x"));
}

#[test]
fn names_are_found_exactly_then_without_case() {
    let catalog = with(&["CREATE TABLE Orders (a INT)", "CREATE TABLE ORDERS (b INT)", "CREATE TABLE one (c INT)"]);
    assert_eq!(catalog.table("Orders", at()).unwrap().name, "Orders");
    assert_eq!(catalog.table("ONE", at()).unwrap().name, "one");
    assert!(catalog.table("orders", at()).unwrap_err().message().contains("ambiguous: ORDERS, Orders"));
}

#[test]
fn what_is_not_there_is_an_error_with_the_nearest_name() {
    let catalog = with(&["CREATE TABLE orders (a INT)", "CREATE VIEW totals AS SELECT 1"]);
    let e = catalog.relation("ordres", Place::new(3, 4, 6)).unwrap_err();
    assert_eq!(e.message(), "there is no table or view \"ordres\"");
    assert_eq!(e.place(), Some(Place::new(3, 4, 6)));
    assert_eq!(e.proposal(), Some("did you mean \"orders\"?"));
    assert_eq!(e.notes(), ["tables and views: orders, totals"]);
    assert_eq!(catalog.table("totals", at()).unwrap_err().message(), "totals is a view, not a table");
    assert_eq!(catalog.view("orders", at()).unwrap_err().message(), "orders is a table, not a view");
    assert_eq!(catalog.table("x", at()).unwrap_err().notes(), ["tables: orders"]);
}

#[test]
fn creating_and_dropping_follow_if_exists() {
    let mut catalog = with(&["CREATE TABLE t (a INT)", "CREATE TABLE IF NOT EXISTS t (b INT)"]);
    assert_eq!(catalog.table("t", at()).unwrap().columns[0].name, "a");
    assert!(try_run(&mut catalog, "CREATE VIEW t AS SELECT 1").unwrap_err().message().contains("already"));
    assert!(try_run(&mut catalog, "DROP VIEW t").unwrap_err().message().contains("is a table"));
    assert!(try_run(&mut catalog, "DROP TEMPORARY TABLE t").unwrap_err().message().contains("not temporary"));
    try_run(&mut catalog, "DROP TABLE t").unwrap();
    assert!(try_run(&mut catalog, "DROP TABLE t").is_err());
    try_run(&mut catalog, "DROP TABLE IF EXISTS t").unwrap();
    try_run(&mut catalog, "CREATE TABLE t (b INT)").unwrap();
    assert_eq!(catalog.table("t", at()).unwrap().columns[0].name, "b");
}

#[test]
fn tables_that_contradict_themselves_are_refused_with_place() {
    fails(&["CREATE TABLE t (a INT, b INT, a STRING)"], 31, "two columns \"a\"");
    let e = fails(&["CREATE TABLE t (amount INT, PRIMARY KEY (amuont))"], 42, "no column \"amuont\"");
    assert_eq!(e.proposal(), Some("did you mean \"amount\"?"));
    assert_eq!(e.notes(), ["columns of t: amount"]);
    fails(&["CREATE TABLE t (a INT, PRIMARY KEY (a, a))"], 40, "listed twice");
    fails(&["CREATE TABLE t (a INT, b AS a, PRIMARY KEY (b))"], 45, "must be a physical column");
    fails(&["CREATE TABLE t (a INT METADATA, b INT, PRIMARY KEY (a))"], 53, "must be a physical column");
    fails(&["CREATE TABLE t (a ARRAY<INT>, PRIMARY KEY (a))"], 44, "cannot be compared");
    fails(&["CREATE TABLE t (a INT PRIMARY KEY) WITH ('connector' = 'x')"], 23, "cannot be enforced");
    fails(&["CREATE TABLE t (a INT, WATERMARK FOR a AS a)"], 38, "must be TIMESTAMP");
    fails(&["CREATE TABLE t (a TIMESTAMP(3), WATERMARK FOR b AS a)"], 47, "no column \"b\"");
    fails(&["CREATE TABLE t (a TIMESTAMP(3), WATERMARK FOR a AS b)"], 52, "no column \"b\"");
    fails(&["CREATE TABLE t (a TIMESTAMP(3), WATERMARK FOR a AS a, WATERMARK FOR a AS a)"], 55, "two watermarks");
    fails(&["CREATE TABLE t (a INT, b AS c + 1)"], 29, "no column \"c\"");
    fails(&["CREATE TABLE t (a INT, b AS a, c AS b)"], 37, "another computed column");
    fails(&["CREATE TABLE t (a AS 1)"], 14, "computed columns only");
    fails(&["CREATE TABLE t (a INT) PARTITIONED BY (b)"], 40, "no column \"b\"");
    fails(&["CREATE TABLE t (a INT, b AS a) PARTITIONED BY (b)"], 48, "must be a physical column");
    fails(&["CREATE TABLE t (a INT) PARTITIONED BY (a, a)"], 43, "listed twice");
    fails(&["CREATE TABLE t (a INT) WITH ('path' = 'x', 'PATH' = 'y')"], 44, "given twice");
    fails(&["CREATE VIEW v (a, a) AS SELECT 1, 2"], 19, "two columns \"a\"");
    fails(&["CREATE TABLE t (a INT)", "CREATE TABLE t (a INT)"], 14, "there is a table \"t\" already");
    fails(&["CREATE TABLE t (a INT) LIKE u"], 29, "there is no table \"u\"");
}

#[test]
fn computed_columns_and_watermarks_may_use_what_is_there() {
    with(&["CREATE TABLE t (
        r ROW<f BIGINT>, x BIGINT, m STRING METADATA,
        ts AS TO_TIMESTAMP_LTZ(X + t.x + r.f + t.r.f + CHAR_LENGTH(m), 3),
        day AS TIMESTAMPDIFF(DAY, CURRENT_DATE, PROCTIME()),
        WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
    )"]);
}

#[test]
fn own_tables_enforce_their_key_and_key_columns_are_not_null() {
    let catalog = with(&["CREATE TABLE t (a INT, b INT NULL, PRIMARY KEY (a, b) NOT ENFORCED)"]);
    let t = catalog.table("t", at()).unwrap();
    assert!(t.is_own() && t.primary_key.as_ref().unwrap().enforced);
    assert!(t.columns.iter().all(|c| matches!(c.kind, CatalogColumnKind::Physical { nullable: false, .. })));
}

const BASE: &str = "CREATE TABLE base (
    id INT, ts TIMESTAMP(3), m STRING METADATA, c AS id + 1,
    WATERMARK FOR ts AS ts, PRIMARY KEY (id) NOT ENFORCED
) PARTITIONED BY (id) WITH ('connector' = 'kafka', 'topic' = 'x')";

#[test]
fn like_takes_all_and_own_options_win() {
    let catalog = with(&[BASE, "CREATE TABLE t (extra STRING, d AS id) WITH ('topic' = 'y') LIKE base"]);
    let t = catalog.table("t", at()).unwrap();
    let names: Vec<&str> = t.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["id", "ts", "m", "c", "extra", "d"]);
    assert_eq!(t.options["topic"], "y");
    assert_eq!(t.connector(), Some("kafka"));
    assert_eq!(t.primary_key.as_ref().unwrap().columns, [0]);
    assert_eq!(t.watermark.as_ref().unwrap().column, 1);
    assert_eq!(t.partitioned_by, [0]);
}

#[test]
fn like_leaves_out_what_is_excluded() {
    let catalog = with(&[
        BASE,
        "CREATE TABLE bare LIKE base (EXCLUDING ALL)",
        "CREATE TABLE o LIKE base (EXCLUDING ALL INCLUDING OPTIONS)",
        "CREATE TABLE k (PRIMARY KEY (ts) NOT ENFORCED) LIKE base (EXCLUDING CONSTRAINTS, EXCLUDING PARTITIONS)",
        "CREATE TABLE g (c AS id + 2, m AS 'x') LIKE base (OVERWRITING GENERATED EXCLUDING METADATA)",
        "CREATE TABLE w (WATERMARK FOR ts AS ts - INTERVAL '1' HOUR) LIKE base (OVERWRITING WATERMARKS)",
    ]);
    let get = |n: &str| catalog.table(n, at()).unwrap();
    let bare = get("bare");
    assert_eq!(bare.columns.len(), 2);
    assert!(bare.is_own() && bare.primary_key.is_none() && bare.watermark.is_none() && bare.partitioned_by.is_empty());
    assert_eq!(get("o").connector(), Some("kafka"));
    assert_eq!(get("k").primary_key.as_ref().unwrap().columns, [1]);
    assert!(matches!(&get("g").columns[2].kind, CatalogColumnKind::Computed { text, .. } if text == "id + 2"));
    assert_eq!(get("w").watermark.as_ref().unwrap().text, "ts - INTERVAL '1' HOUR");
}

#[test]
fn like_refuses_clashes_with_the_word_that_cures() {
    fails(&[BASE, "CREATE TABLE t (id STRING) LIKE base"], 17, "has a column \"id\" already");
    let e = fails(&[BASE, "CREATE TABLE t (PRIMARY KEY (ts) NOT ENFORCED) LIKE base"], 17, "primary key");
    assert!(e.notes()[0].contains("EXCLUDING CONSTRAINTS"));
    fails(&[BASE, "CREATE TABLE t (WATERMARK FOR ts AS ts) LIKE base"], 17, "watermark");
    fails(&[BASE, "CREATE TABLE t (c AS 1) LIKE base"], 17, "column \"c\"");
    fails(&[BASE, "CREATE TABLE t WITH ('topic'='y') LIKE base (INCLUDING OPTIONS)"], 22, "option 'topic'");
    fails(&[BASE, "CREATE TABLE t PARTITIONED BY (ts) LIKE base"], 32, "partitions");
}

#[test]
fn show_create_table_parses_back_to_the_same_table() {
    let everything = "CREATE TEMPORARY TABLE `a ``table` (
        `order` INT NOT NULL COMMENT 'it''s', r ROW<`group` INT, b ARRAY<STRING>> , `total ` AS `order` * 2 COMMENT 'x',
        ts TIMESTAMP_LTZ(3) METADATA FROM 'time' VIRTUAL, m MAP<STRING, BYTES> METADATA NOT NULL COMMENT 'm',
        WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, CONSTRAINT k PRIMARY KEY (`order`) NOT ENFORCED
    ) COMMENT 'c' PARTITIONED BY (`order`) WITH ('connector' = 'kafka', 'a' = 'it''s')";
    for text in [everything, BASE, "CREATE TABLE t (a INT)", "CREATE TABLE t (a INT PRIMARY KEY)"] {
        let catalog = with(&[text]);
        let table = catalog.tables().next().unwrap();
        let shown = show_create_table(table, &never);
        let again = with(&[&shown]);
        // Places within expressions move; so compare what is shown.
        assert_eq!(show_create_table(again.tables().next().unwrap(), &never), shown);
        let back = again.tables().next().unwrap();
        assert_eq!((&back.primary_key, &back.options), (&table.primary_key, &table.options));
        assert_eq!(back.to_table_def(None), table.to_table_def(None));
    }
}

#[test]
fn secrets_are_never_shown() {
    let catalog = with(&[
        "CREATE TABLE t (a INT) WITH ('connector' = 'x', 'password' = 'pw1', 'Key' = 'pw2', 'user' = 'me')",
        "CREATE VIEW v AS SELECT * FROM t /*+ OPTIONS('password' = 'pw3') */",
    ]);
    let shown = show_create_table(catalog.table("t", at()).unwrap(), &|c, k| c == "x" && k == "key");
    assert!(shown.contains("'password' = '****'") && shown.contains("'Key' = '****'") && shown.contains("'me'"));
    let shown = show_create_view(catalog.view("v", at()).unwrap(), &never);
    assert_eq!(shown, "CREATE VIEW `v` AS\nSELECT * FROM t /*+ OPTIONS('password' = '****') */");
}

#[test]
fn describe_shows_a_row_for_each_column() {
    let catalog = with(&[BASE]);
    let rows = describe_table(catalog.table("base", at()).unwrap(), &|i| (i == 3).then_some((SqlType::BigInt, true)));
    let row = |i: usize| {
        let r: &DescribeRow = &rows[i];
        (r.name.as_str(), r.ty.as_str(), r.nullable, r.key.as_deref(), r.extras.as_deref(), r.watermark.as_deref())
    };
    assert_eq!(row(0), ("id", "INT", false, Some("PRI(id)"), None, None));
    assert_eq!(row(1), ("ts", "TIMESTAMP(3)", true, None, None, Some("ts")));
    assert_eq!(row(2), ("m", "STRING", true, None, Some("METADATA"), None));
    assert_eq!(row(3), ("c", "BIGINT", true, None, Some("AS id + 1"), None));
}
