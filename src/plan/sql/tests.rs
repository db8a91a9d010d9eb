//! Statements as a user writes them: what they become, and where their errors are.

use proptest::prelude::*;
use sqlparser::ast::{Expr, FunctionArguments, SetExpr, TableFactor};
use thalweg_core::{ErrorCode, SqlType};

use super::*;

fn parse(text: &str) -> Statement {
    parse_statement(text).unwrap_or_else(|e| panic!("{text}\n{e:?}"))
}

fn query(text: &str) -> Query {
    match parse(text) {
        Statement::Query(q) => q,
        other => panic!("{text} is {other:?}"),
    }
}

fn table(text: &str) -> CreateTable {
    match parse(text) {
        Statement::CreateTable(t) => *t,
        other => panic!("{text} is {other:?}"),
    }
}

/// The first expression of a SELECT's list.
fn expr(text: &str) -> Expr {
    let q = query(&format!("SELECT {text} FROM t"));
    let SetExpr::Select(select) = *q.ast.body else { panic!("no select") };
    match select.projection.into_iter().next() {
        Some(sqlparser::ast::SelectItem::UnnamedExpr(e)) => e,
        other => panic!("{text} is {other:?}"),
    }
}

/// An error's place and the text that it marks.
#[track_caller]
fn fails(text: &str, line: u32, column: u32, marked: &str, message: &str) -> thalweg_core::Error {
    let e = parse_statement(text).err().unwrap_or_else(|| panic!("parses: {text}"));
    let place = e.place().unwrap_or_else(|| panic!("no place: {text}: {e}"));
    assert_eq!((place.line, place.column), (line, column), "{text}\n{e}");
    let of_line: String = text.lines().nth(line as usize - 1).unwrap_or("").to_owned();
    let at: String = of_line.chars().skip(column as usize - 1).take(place.length as usize).collect();
    assert_eq!(at.trim(), marked, "{text}\n{e}");
    assert!(e.message().contains(message), "{text}\n{e}");
    e
}

#[test]
fn queries_of_flink_s_dialect_are_read() {
    for text in [
        "SELECT 1",
        "select a, b from t where a > 1 and b is not null;",
        "SELECT * FROM `a table` AS t",
        "SELECT t.* FROM t",
        "SELECT DISTINCT a FROM t",
        "SELECT a, COUNT(*), SUM(DISTINCT b) FILTER (WHERE c > 0) FROM t GROUP BY a HAVING COUNT(*) > 1",
        "SELECT a FROM t ORDER BY a DESC NULLS LAST LIMIT 10 OFFSET 5",
        "SELECT a FROM t FETCH FIRST 3 ROWS ONLY",
        "SELECT o.a, c.b FROM orders o JOIN customers AS c ON o.id = c.id AND o.x > 1",
        "SELECT * FROM a LEFT JOIN b ON a.x = b.x FULL OUTER JOIN c USING (x) CROSS JOIN d NATURAL JOIN e",
        "SELECT * FROM a, b WHERE a.x = b.x",
        "SELECT a FROM t UNION ALL SELECT b FROM u",
        "(SELECT a FROM t) UNION (SELECT b FROM u) EXCEPT SELECT 1 INTERSECT SELECT 2",
        "WITH x AS (SELECT 1 AS a), y (b) AS (SELECT a FROM x) SELECT * FROM y",
        "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY a ORDER BY b DESC) AS rn FROM t) WHERE rn <= 3",
        "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS t (x, y)",
        "VALUES (1, 'a'), (2, NULL)",
        "SELECT CASE WHEN a THEN 1 ELSE 2 END, CASE a WHEN 1 THEN 'x' END FROM t",
        "SELECT a IS TRUE, a IS NOT FALSE, a IS UNKNOWN, a IS NOT DISTINCT FROM b, a IS DISTINCT FROM b FROM t",
        "SELECT a BETWEEN 1 AND 2, a NOT IN (1, 2), a LIKE 'x\\_%' ESCAPE '\\', a NOT LIKE 'y' FROM t",
        "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a) AND b IN (SELECT b FROM v)",
        "SELECT a SIMILAR TO 'x|y' FROM t",
        "SELECT IF(a > 1, 'x', 'y'), COALESCE(a, b), NULLIF(a, b) FROM t",
        "SELECT LEFT(a, 2), RIGHT(a, 2), REPLACE(a, 'x', 'y'), CONCAT(a, b), a || b FROM t",
        "SELECT SUBSTRING(a FROM 1 FOR 2), SUBSTRING(a, 1), SUBSTR(a, 1, 2), POSITION('x' IN a) FROM t",
        "SELECT TRIM(a), TRIM(BOTH ' ' FROM a), TRIM(LEADING 'x' FROM a), TRIM(TRAILING FROM a) FROM t",
        "SELECT OVERLAY(a PLACING 'x' FROM 1 FOR 2), UPPER(a), CHAR_LENGTH(a) FROM t",
        "SELECT EXTRACT(YEAR FROM ts), CEIL(ts TO DAY), FLOOR(ts TO HOUR), CEIL(1.5), FLOOR(a) FROM t",
        "SELECT DATE '2020-01-01', TIME '10:00:00', TIMESTAMP '2020-01-01 00:00:00.123' FROM t",
        "SELECT ts + INTERVAL '1' DAY, ts - INTERVAL '1-6' YEAR TO MONTH, INTERVAL '10:05' MINUTE TO SECOND FROM t",
        "SELECT CURRENT_TIMESTAMP, LOCALTIMESTAMP, CURRENT_DATE, PROCTIME(), NOW() FROM t",
        "SELECT ARRAY[1, 2][1], MAP['a', 1]['a'], ROW(1, 'x'), (1, 2), a.b.c, t.r.f[1] FROM t",
        "SELECT -a, +a, NOT a, a % 2, a <> b, a != b, 1e3, .5, 1., X'00ff' FROM t",
        "SELECT 'it''s', U&'\\00e4' FROM t",
        "SELECT SUM(a) OVER (PARTITION BY b ORDER BY c ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM t",
        "SELECT SUM(a) OVER w FROM t WINDOW w AS (PARTITION BY b)",
        "SELECT value, timestamp, date, time, user, key, `offset`, position, count FROM t",
        "SELECT TUMBLE_START(ts, INTERVAL '1' MINUTE) FROM t GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE)",
        "SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTES))",
        "SELECT * FROM TABLE(HOP(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '5' MINUTE, SIZE => INTERVAL '10' MINUTE))",
        "SELECT * FROM t, LATERAL TABLE(split(a)) AS s (word)",
        "SELECT * FROM t CROSS JOIN UNNEST(a) AS u (x)",
        "SELECT * FROM o JOIN c FOR SYSTEM_TIME AS OF o.proctime ON o.id = c.id",
        "SELECT a, b, SUM(c) FROM t GROUP BY GROUPING SETS ((a), (b), ())",
        "SELECT a, SUM(c) FROM t GROUP BY ROLLUP (a), CUBE (b)",
        "SELECT YEAR(ts), MOD(a, 2), POWER(a, 2), DATE_FORMAT(ts, 'yyyy'), SPLIT_INDEX(a, ',', 0) FROM t",
        "SELECT JSON_VALUE(a, '$.x'), JSON_VALUE(a, 'lax $.x' RETURNING INT NULL ON EMPTY NULL ON ERROR), JSON_EXISTS(a, '$.y'), JSON_QUERY(a, '$.z' WITHOUT ARRAY WRAPPER) FROM t",
    ] {
        query(text);
    }
}

#[test]
fn casts_keep_their_type() {
    for (text, ty) in [
        ("CAST(a AS STRING)", SqlType::STRING),
        ("CAST(a AS BYTES)", SqlType::BYTES),
        ("TRY_CAST(a AS DECIMAL(50, 10))", SqlType::Decimal { precision: 50, scale: 10 }),
        ("CAST(a AS TIMESTAMP_LTZ(3))", SqlType::TimestampLtz(3)),
        ("CAST(a AS TIMESTAMP(3))", SqlType::Timestamp(3)),
        ("CAST(a AS ROW<x INT, y ARRAY<STRING>>)", type_of_text("ROW<x INT, y ARRAY<STRING>>").unwrap()),
        ("JSON_VALUE(a, '$.x' RETURNING INT)", SqlType::Int),
    ] {
        let Expr::Cast { data_type, .. } = expr(text) else { panic!("{text}") };
        assert_eq!(sql_type_of(&data_type).unwrap(), ty, "{text}");
    }
}

#[test]
fn units_of_time_become_strings_in_the_singular() {
    for text in ["TIMESTAMPDIFF(DAY, a, b)", "timestampdiff(days, a, b)", "TIMESTAMPADD(SQL_TSI_DAY, 1, a)"] {
        let Expr::Function(f) = expr(text) else { panic!("{text}") };
        let FunctionArguments::List(list) = f.args else { panic!("{text}") };
        assert_eq!(list.args[0].to_string(), "'DAY'");
        assert_eq!(list.args.len(), 3);
    }
}

#[test]
fn places_of_names_within_a_query_are_those_of_the_text() {
    let q = query("SELECT a\n  FROM  orders");
    let SetExpr::Select(select) = &*q.ast.body else { panic!() };
    let TableFactor::Table { name, .. } = &select.from[0].relation else { panic!() };
    let place = place_of_ident(name.0[0].as_ident().unwrap());
    assert_eq!((place.line, place.column, place.length), (2, 9, 6));
}

#[test]
fn syntax_errors_mark_the_offending_token() {
    fails("SELECT a FROM t WHERE", 1, 22, "", "expected an expression, found the end");
    fails("SELECT a,\n FROM t", 2, 2, "FROM", "expected an expression");
    fails("SELECT a FROM t x y", 1, 19, "y", "expected the end of the statement, found \"y\"");
    fails("SELECT (a + b FROM t", 1, 15, "FROM", "expected \")\"");
    fails("SELECT f(a FROM t", 1, 12, "FROM", "expected \")\"");
    fails("SELECT * FROM (SELECT a FROM t", 1, 15, "(", "this \"(\" is not closed");
    fails("SELECT * FROM (SELECT a FROM t WHERE) x", 1, 37, ")", "expected an expression");
    fails("SELECT * FROM (SELECT a, FROM t) x", 1, 26, "FROM", "expected an expression");
    fails("SELECT a FROM t WHERE b IN (SELECT x FROM u GROUP x)", 1, 51, "x", "expected BY");
    fails("SELECT CAST(a AS INTT) FROM t", 1, 18, "INTT", "there is no type INTT");
    fails("SELECT CAST(a INT) FROM t", 1, 15, "INT", "expected AS");
    fails("SELECT CAST(a AS DECIMAL(70, 2)) FROM t", 1, 26, "70", "between 1 and 65");
    fails("SELECT TIMESTAMPDIFF(FORTNIGHT, a, b)", 1, 22, "FORTNIGHT", "not a unit of time");
    fails("SELECT INTERVAL '1' FROM t", 1, 8, "INTERVAL", "needs a unit");
    fails("SELECT a 'x' FROM t", 1, 10, "'x'", "stands where a name or an operator belongs");
    fails("SELECT a FROM t 'x'", 1, 17, "'x'", "stands where a name or an operator belongs");
    fails("SELECT INT '5'", 1, 12, "'5'", "no literals of type");
    fails("SELECT a::INT", 1, 9, "::", "no operator \"::\"");
    fails("SELECT a == b", 1, 10, "==", "no operator \"==\"");
    fails("SELECT \"a\"", 1, 8, "\"a\"", "double quotes");
    fails("SELECT 'abc", 1, 8, "'abc", "does not end");
    fails("SELECT 1 /* abc", 1, 10, "/* abc", "does not end");
    fails("SELECT JSON_VALUE(a, '$' DEFAULT 1 ON EMPTY)", 1, 26, "DEFAULT", "not supported yet");
    fails("SELECT a. FROM t", 1, 11, "FROM", "expected a name");
    fails("SELECT * FROM order", 1, 15, "order", "expected a name");
    fails("SELECT a AS select FROM t", 1, 13, "select", "expected a name");
    fails("SELECT a FROM t AS where", 1, 20, "where", "expected a name");
    fails("SELECT ROW_NUMBER() OVER (PARTITION a) FROM t", 1, 37, "a", "expected BY");
    fails("SELECT a IS 5", 1, 13, "5", "behind IS");
    fails("SELECT a; SELECT b", 1, 11, "SELECT", "expected the end of the statement");
    fails("", 1, 1, "", "expected a statement");
    fails("'x'", 1, 1, "'x'", "expected a statement");
}

#[test]
fn misspelt_keywords_are_proposed() {
    let proposal = |t: &str, line, column, marked: &str| {
        fails(t, line, column, marked, "").proposal().unwrap_or_else(|| panic!("no proposal: {t}")).to_owned()
    };
    assert_eq!(proposal("SELCT a FROM t", 1, 1, "SELCT"), "did you mean \"SELECT\"?");
    assert_eq!(proposal("SELECT a FORM t", 1, 10, "FORM"), "did you mean \"FROM\"?");
    assert_eq!(proposal("SELECT a FROM t WHER a = 1", 1, 17, "WHER"), "did you mean \"WHERE\"?");
    assert_eq!(proposal("SELECT a FROM t GRUOP BY a", 1, 17, "GRUOP"), "did you mean \"GROUP\"?");
    assert_eq!(proposal("SELECT * FROM (SELECT a FORM t) x", 1, 25, "FORM"), "did you mean \"FROM\"?");
    assert_eq!(proposal("INSRET INTO t SELECT 1", 1, 1, "INSRET"), "did you mean \"INSERT\"?");
    assert_eq!(proposal("INSERT INOT t SELECT 1", 1, 8, "INOT"), "did you mean \"INTO\"?");
    assert_eq!(proposal("CREATE TABEL t (a INT)", 1, 8, "TABEL"), "did you mean \"TABLE\"?");
    assert_eq!(proposal("CREATE TABLE t (a INT METADTA)", 1, 23, "METADTA"), "did you mean \"METADATA\"?");
    assert_eq!(proposal("SHOW TABELS", 1, 6, "TABELS"), "did you mean \"TABLES\"?");
    assert_eq!(proposal("SELECT INTERVAL '1' DYA", 1, 21, "DYA"), "did you mean \"DAY\"?");
    assert_eq!(proposal("SELECT EXTRACT(YAER FROM a)", 1, 16, "YAER"), "did you mean \"YEAR\"?");
    assert_eq!(proposal("SELECT TIMESTAMPDIFF(DYA, a, b)", 1, 22, "DYA"), "did you mean \"DAY\"?");
}

#[test]
fn nesting_too_deep_is_an_error_and_no_crash() {
    for text in
        ["(".repeat(5000), "CAST(".repeat(5000), "f(".repeat(5000), "NOT ".repeat(5000), "CASE WHEN ".repeat(5000)]
    {
        assert!(parse_statement(&format!("SELECT {text}")).is_err());
    }
    assert!(parse_statement(&"SELECT * FROM (".repeat(3000)).is_err());
    assert!(parse_statement(&format!("SELECT {}a{}", "(".repeat(40), ")".repeat(40))).is_ok());
    for (chain, ends) in
        [(" + a", ""), (" OR b = 1", ""), (" UNION ALL SELECT a", ""), (", -a", " FROM t"), (" JOIN u USING (a)", "")]
    {
        let of = |n: usize| {
            parse_statement(&format!(
                "SELECT a{}{}{ends}",
                if chain.contains("JOIN") { " FROM t" } else { "" },
                chain.repeat(n)
            ))
        };
        assert!(of(450).is_ok(), "{chain}");
        assert_eq!(of(50_000).is_ok(), chain.starts_with(','), "{chain}");
    }
    assert!(parse_statement(&format!("INSERT INTO t VALUES {}(1, 'a')", "(1, 'a'), ".repeat(20_000))).is_ok());
}

#[test]
fn a_table_with_everything_is_read() {
    let t = table(
        "CREATE TEMPORARY TABLE IF NOT EXISTS `my orders` (
            id BIGINT NOT NULL COMMENT 'the ''id''',
            `order` STRING,
            price DECIMAL(65, 30) NULL,
            r ROW<a INT, b ARRAY<STRING NOT NULL>>,
            total AS price * 2 COMMENT 'twice',
            p AS PROCTIME(),
            ts TIMESTAMP(3) METADATA FROM 'value.ingestion-timestamp' VIRTUAL,
            `partition` INT METADATA VIRTUAL COMMENT 'of kafka',
            headers MAP<STRING, BYTES> METADATA,
            WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
            CONSTRAINT pk PRIMARY KEY (id, `order`) NOT ENFORCED
        )
        COMMENT 'all of them'
        PARTITIONED BY (id)
        WITH ('connector' = 'kafka', 'topic' = 'it''s')",
    );
    assert!(t.temporary && t.if_not_exists);
    assert_eq!(t.name.value, "my orders");
    assert_eq!(t.columns.len(), 9);
    assert_eq!(t.columns[0].comment.as_deref(), Some("the 'id'"));
    assert!(matches!(t.columns[0].kind, ColumnDeclKind::Physical { nullable: false, .. }));
    assert!(matches!(&t.columns[4].kind, ColumnDeclKind::Computed { text, .. } if text == "price * 2"));
    assert!(matches!(&t.columns[5].kind, ColumnDeclKind::Computed { text, .. } if text == "PROCTIME()"));
    assert!(
        matches!(&t.columns[6].kind, ColumnDeclKind::Metadata { key: Some(k), is_virtual: true, .. } if k.value == "value.ingestion-timestamp")
    );
    assert!(matches!(&t.columns[7].kind, ColumnDeclKind::Metadata { key: None, is_virtual: true, .. }));
    assert!(matches!(&t.columns[8].kind, ColumnDeclKind::Metadata { is_virtual: false, .. }));
    assert_eq!(t.watermarks[0].text, "ts - INTERVAL '5' SECOND");
    let key = t.primary_key.unwrap();
    assert!(!key.enforced && key.constraint.is_some() && key.columns.len() == 2);
    assert_eq!(t.comment.as_deref(), Some("all of them"));
    assert_eq!(t.options[1].value.value, "it's");
    assert!(t.text.starts_with("CREATE TEMPORARY") && t.text.ends_with("'it''s')"));
}

#[test]
fn inline_keys_and_short_forms_are_read() {
    assert!(
        !table("CREATE TABLE t (a INT PRIMARY KEY NOT ENFORCED, b INT) WITH ('connector' = 'x')")
            .primary_key
            .unwrap()
            .enforced
    );
    assert!(table("CREATE TABLE t (a INT NOT NULL PRIMARY KEY)").primary_key.unwrap().enforced);
    assert!(table("CREATE TABLE t (a INT PRIMARY KEY NOT NULL COMMENT 'x')").primary_key.unwrap().enforced);
    assert!(table("CREATE TABLE t (a INT, PRIMARY KEY (a))").primary_key.unwrap().enforced);
    assert!(table("CREATE TABLE t (a INT, PRIMARY KEY (a) ENFORCED)").primary_key.unwrap().enforced);
    assert!(table("CREATE TABLE t (watermark INT, key INT, metadata STRING, comment STRING)").columns.len() == 4);
    let like = table("CREATE TABLE t LIKE u").like.unwrap();
    assert!(like.options.is_empty());
    let like = table(
        "CREATE TABLE t (b INT) WITH ('a'='b') LIKE u (EXCLUDING OPTIONS INCLUDING GENERATED OVERWRITING WATERMARKS)",
    )
    .like
    .unwrap();
    assert_eq!(like.options.len(), 3);
}

#[test]
fn errors_in_create_table_mark_the_offending_token() {
    fails("CREATE TABLE t (a INTT)", 1, 19, "INTT", "there is no type INTT");
    fails("CREATE TABLE t (a INT b INT)", 1, 23, "b", "expected \",\" or \")\"");
    fails("CREATE TABLE t (a INT,)", 1, 23, ")", "expected the name of a column");
    fails("CREATE TABLE t (a INT", 1, 22, "", "expected \",\" or \")\"");
    fails("CREATE TABLE t", 1, 15, "", "expected \"(\"");
    fails("CREATE TABLE t ()", 1, 14, "t", "no columns");
    fails("CREATE TABLE t (order INT)", 1, 17, "order", "expected the name of a column");
    fails("CREATE TABLE 't' (a INT)", 1, 14, "'t'", "expected the name of a table");
    fails("CREATE TABLE a.t (a INT)", 1, 14, "a", "one catalog");
    fails("CREATE TABLE t (a INT) AS SELECT 1", 1, 24, "AS", "CREATE TABLE … AS is not supported");
    fails("CREATE TABLE t AS SELECT 1", 1, 16, "AS", "CREATE TABLE … AS is not supported");
    fails(
        "CREATE TABLE t (a INT) WITH (connector = 'x')",
        1,
        30,
        "connector",
        "expected the name of an option in single quotes",
    );
    fails("CREATE TABLE t (a INT) WITH ('a' = 5)", 1, 36, "5", "in single quotes");
    fails("CREATE TABLE t (a INT) WITH ('a' = 'b' 'c' = 'd')", 1, 40, "'c'", "expected \",\" or \")\"");
    fails("CREATE TABLE t (a INT) WITH ('a' = 'b', 'a' = 'c')", 1, 41, "'a'", "given twice");
    fails("CREATE TABLE t (a INT) WITH ('a' = 'b') COMMENT 'x'", 1, 41, "COMMENT", "the end of the statement");
    fails("CREATE TABLE t (a INT) DISTRIBUTED BY (a)", 1, 24, "DISTRIBUTED", "not supported");
    fails("CREATE TABLE t (a INT DEFAULT 5)", 1, 23, "DEFAULT", "not supported");
    fails("CREATE TABLE t (a INT UNIQUE)", 1, 23, "UNIQUE", "not supported");
    fails("CREATE TABLE t (a INT, UNIQUE (a))", 1, 24, "UNIQUE", "not supported");
    fails("CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES u (a))", 1, 24, "FOREIGN", "not supported");
    fails("CREATE TABLE t (a INT NOT NULL NOT NULL)", 1, 32, "NOT", "twice");
    fails("CREATE TABLE t (a INT PRIMARY KEY, PRIMARY KEY (a))", 1, 36, "PRIMARY", "two primary keys");
    fails("CREATE TABLE t (a INT METADATA FROM key)", 1, 37, "key", "in single quotes");
    fails("CREATE TABLE t (a INT, WATERMARK FOR a b)", 1, 40, "b", "expected AS");
    fails("CREATE TABLE t (a INT, c AS )", 1, 29, ")", "expected an expression");
    fails("CREATE TABLE t (a INT, PRIMARY KEY (a) NOT ENFORCD)", 1, 44, "ENFORCD", "");
    fails("CREATE TABLE t (a MULTISET<INT>)", 1, 19, "MULTISET", "not supported");
    fails("CREATE TABLE t (b INT) LIKE u (INCLUDING EVERYTHING)", 1, 42, "EVERYTHING", "expected ALL, CONSTRAINTS");
    fails("CREATE TABLE t (b INT) LIKE u (OVERWRITING CONSTRAINTS)", 1, 44, "CONSTRAINTS", "expected GENERATED");
    fails("CREATE OR REPLACE TABLE t (a INT)", 1, 8, "OR", "not supported");
    fails("CREATE CATALOG c WITH ('type' = 'x')", 1, 8, "CATALOG", "not supported");
    fails("CREATE TEMPORARY FUNCTION f AS 'x'", 1, 18, "FUNCTION", "not supported");
    fails(
        "CREATE TABLE t (a INT) /*+ OPTIONS('a'='b') */",
        1,
        24,
        "/*+ OPTIONS('a'='b') */",
        "directly behind the name of a table",
    );
}

#[test]
fn views_are_read() {
    let Statement::CreateView(v) = parse("CREATE TEMPORARY VIEW IF NOT EXISTS v (a, b) COMMENT 'x' AS SELECT 1,\n 2;")
    else {
        panic!()
    };
    assert!(v.temporary && v.if_not_exists);
    assert_eq!(v.columns.as_ref().map(Vec::len), Some(2));
    assert_eq!(v.query.text, "SELECT 1,\n 2");
    fails("CREATE VIEW v SELECT 1", 1, 15, "SELECT", "expected AS");
    fails("CREATE VIEW v AS INSERT INTO t SELECT 1", 1, 18, "INSERT", "expected SELECT");
}

#[test]
fn inserts_are_read() {
    let insert = |text: &str| match parse(text) {
        Statement::Insert(i) => *i,
        other => panic!("{text} is {other:?}"),
    };
    assert_eq!(insert("INSERT INTO t VALUES (1, 'a'), (2, 'b')").query.values().unwrap().rows.len(), 2);
    assert_eq!(insert("INSERT INTO t (a, b) SELECT 1, 2").columns.unwrap().len(), 2);
    assert!(insert("INSERT INTO t (SELECT 1)").columns.is_none());
    assert!(insert("INSERT INTO TABLE t WITH x AS (SELECT 1) SELECT * FROM x").columns.is_none());
    assert_eq!(insert("EXECUTE INSERT INTO t SELECT 1").target.value, "t");
    let hinted = insert("INSERT INTO t /*+ OPTIONS('a' = 'b') */ (x) SELECT 1 FROM u /*+ OPTIONS('c' = 'd') */");
    assert_eq!(hinted.target_hint.unwrap().options[0].value.value, "b");
    assert_eq!(hinted.query.hints.iter().count(), 1);
    fails("INSERT OVERWRITE t SELECT 1", 1, 8, "OVERWRITE", "not supported");
    fails("INSERT INTO t PARTITION (a = 1) SELECT 1", 1, 15, "PARTITION", "not supported");
    fails("INSERT INTO t (a, a) SELECT 1, 2", 1, 19, "a", "listed twice");
    fails("INSERT INTO t (a)", 1, 18, "", "expected SELECT, VALUES or WITH");
    fails("INSERT INTO t", 1, 14, "", "expected SELECT, VALUES or WITH");
    fails("INSERT INTO t SELECT a FROM", 1, 28, "", "expected a name");
}

#[test]
fn hints_change_the_options_of_one_occurrence_of_a_table() {
    let q = query("SELECT * FROM t /*+ OPTIONS('scan.mode' = 'latest', 'a'='it''s') */ AS x JOIN t AS y ON x.a = y.a");
    let SetExpr::Select(select) = &*q.ast.body else { panic!() };
    let TableFactor::Table { name, .. } = &select.from[0].relation else { panic!() };
    let hint = q.hints.of(name).unwrap();
    assert_eq!(hint.options[1].value.value, "it's");
    assert_eq!(hint.options[0].key.place.column, 29);
    let merged = hint.over(&[("a".to_owned(), "old".to_owned()), ("z".to_owned(), "y".to_owned())].into());
    assert_eq!(merged["a"], "it's");
    assert_eq!(merged.len(), 3);
    let TableFactor::Table { name, .. } = &select.from[0].joins[0].relation else { panic!() };
    assert!(q.hints.of(name).is_none());
}

#[test]
fn other_hints_are_refused_by_name() {
    fails("SELECT /*+ BROADCAST(t) */ a FROM t", 1, 12, "BROADCAST", "the hint BROADCAST is not supported");
    fails("SELECT a FROM t /*+ STATE_TTL('t'='1d') */", 1, 21, "STATE_TTL", "the hint STATE_TTL is not supported");
    fails("SELECT a /*+ OPTIONS('a'='b') */ FROM t", 1, 10, "/*+ OPTIONS('a'='b') */", "directly behind");
    fails("SELECT a FROM t AS x /*+ OPTIONS('a'='b') */", 1, 22, "/*+ OPTIONS('a'='b') */", "directly behind");
    fails("SELECT a FROM t /*+ OPTIONS('a'=b) */", 1, 33, "b", "in single quotes");
    fails("SELECT a FROM t /*+ OPTIONS('a'='b'), LOOKUP('x'='y') */", 1, 39, "LOOKUP", "LOOKUP is not supported");
    fails("/*+ OPTIONS('a'='b') */ SELECT a FROM t", 1, 1, "/*+ OPTIONS('a'='b') */", "directly behind");
    fails("SELECT a FROM t /*+ */", 1, 17, "/*+ */", "the hint is empty");
    fails("SHOW TABLES /*+ X */", 1, 17, "X", "the hint X is not supported");
}

#[test]
fn statement_sets_are_read() {
    let Statement::StatementSet(set) = parse(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; INSERT INTO b /*+ OPTIONS('x'='y') */ SELECT 2 FROM t; END;",
    ) else {
        panic!()
    };
    assert_eq!(set.inserts.len(), 2);
    assert_eq!(set.inserts[1].text, "INSERT INTO b /*+ OPTIONS('x'='y') */ SELECT 2 FROM t");
    assert_eq!(set.inserts[1].place.column, 53);
    assert!(matches!(parse("BEGIN STATEMENT SET; INSERT INTO a SELECT 1; END"), Statement::StatementSet(_)));
    fails("EXECUTE STATEMENT SET BEGIN END", 1, 29, "END", "empty");
    fails("EXECUTE STATEMENT SET BEGIN SELECT 1; END", 1, 29, "SELECT", "expected INSERT or END");
    fails("EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; ", 1, 52, "", "expected INSERT or END");
    fails("EXECUTE STATEMENT SET INSERT INTO a SELECT 1", 1, 23, "INSERT", "expected BEGIN");
}

#[test]
fn the_other_statements_are_read() {
    let name_of = |s: &Statement| match s {
        Statement::Describe(n) | Statement::Reset(n) => n.value.clone(),
        Statement::Show(Show::CreateTable(n) | Show::CreateView(n) | Show::Columns(n)) => n.value.clone(),
        Statement::Drop(d) => d.name.value.clone(),
        other => panic!("{other:?}"),
    };
    for text in [
        "DESCRIBE t",
        "DESC t",
        "DESCRIBE TABLE t",
        "RESET t",
        "RESET 't'",
        "SHOW CREATE TABLE t",
        "SHOW CREATE VIEW `t`",
        "SHOW COLUMNS FROM t",
        "DROP TABLE t",
        "DROP VIEW IF EXISTS t",
        "DROP TEMPORARY TABLE t",
    ] {
        assert_eq!(name_of(&parse(text)), "t", "{text}");
    }
    assert_eq!(parse("SHOW TABLES"), Statement::Show(Show::Tables { like: None }));
    assert_eq!(parse("SHOW TABLES LIKE 'a%'"), Statement::Show(Show::Tables { like: Some("a%".into()) }));
    assert_eq!(parse("SHOW VIEWS"), Statement::Show(Show::Views { like: None }));
    assert_eq!(parse("SHOW USER FUNCTIONS"), Statement::Show(Show::Functions { like: None }));
    assert_eq!(parse("SHOW JOBS;"), Statement::Show(Show::Jobs));
    assert_eq!(parse("SET"), Statement::SetList);
    assert_eq!(parse("RESET;"), Statement::ResetAll);
    assert!(
        matches!(parse("STOP JOB 'my job' WITH SAVEPOINT"), Statement::StopJob(s) if s.with_savepoint && s.job.value == "my job")
    );
    assert!(matches!(parse("STOP JOB j"), Statement::StopJob(s) if !s.with_savepoint));
    assert!(
        matches!(parse("UPDATE t SET a = a + 1, b = 'x' WHERE c IS NULL"), Statement::Update(u) if u.assignments.len() == 2 && u.condition.is_some())
    );
    assert!(matches!(parse("DELETE FROM t"), Statement::Delete(d) if d.condition.is_none()));
    assert!(matches!(parse("DELETE FROM t WHERE a = 1"), Statement::Delete(d) if d.condition.is_some()));
    fails("UPDATE t SET a = 1, a = 2", 1, 21, "a", "set twice");
    fails("UPDATE t a = 1", 1, 10, "a", "expected SET");
    fails("DELETE t", 1, 8, "t", "expected FROM");
    fails("DROP DATABASE d", 1, 6, "DATABASE", "not supported");
    fails("DROP TABLE", 1, 11, "", "expected the name of a table");
    fails("SHOW CATALOGS", 1, 6, "CATALOGS", "not supported");
    fails("USE CATALOG c", 1, 1, "USE", "not supported");
    fails("ALTER TABLE t ADD c INT", 1, 1, "ALTER", "not supported");
    fails("DESCRIBE EXTENDED t", 1, 1, "DESCRIBE", "not supported");
}

#[test]
fn settings_are_read_with_and_without_quotes() {
    for (text, k, v) in [
        ("SET 'parallelism.default' = '4'", "parallelism.default", "4"),
        ("SET parallelism.default = 4", "parallelism.default", "4"),
        ("SET execution.checkpointing.min-pause=10 s;", "execution.checkpointing.min-pause", "10 s"),
        ("SET 'a' = 'it''s'", "a", "it's"),
        ("SET 'a' = ''", "a", ""),
    ] {
        let Statement::Set { key, value } = parse(text) else { panic!("{text}") };
        assert_eq!((key.value.as_str(), value.value.as_str()), (k, v), "{text}");
    }
    fails("SET a", 1, 6, "", "expected \"=\"");
    fails("SET a = ", 1, 8, "", "expected a value");
    fails("SET = 5", 1, 5, "=", "expected the name of a setting");
}

#[test]
fn explain_is_for_what_has_a_plan() {
    assert!(matches!(parse("EXPLAIN SELECT 1"), Statement::Explain(e) if !e.verbose));
    assert!(matches!(parse("EXPLAIN VERBOSE INSERT INTO t SELECT 1"), Statement::Explain(e) if e.verbose));
    assert!(matches!(parse("EXPLAIN PLAN FOR SELECT 1"), Statement::Explain(_)));
    assert!(matches!(parse("EXPLAIN STATEMENT SET BEGIN INSERT INTO t SELECT 1; END"), Statement::Explain(_)));
    fails("EXPLAIN DROP TABLE t", 1, 9, "DROP", "EXPLAIN is for");
    fails("EXPLAIN ESTIMATED_COST SELECT 1", 1, 9, "ESTIMATED_COST", "not supported");
}

#[test]
fn a_script_s_error_has_its_place_in_the_script() {
    let script = "SET 'a' = 'b';\n-- next\n  SELECT a\n  FORM t;\nSELECT 1;";
    let e = parse_script(script).unwrap_err();
    assert_eq!((e.place().unwrap().line, e.place().unwrap().column), (4, 3));
    let e = parse_script("SELECT 1; SELECT a,;").unwrap_err();
    assert_eq!((e.place().unwrap().line, e.place().unwrap().column), (1, 20));
    let parsed = parse_script("-- c\nSELECT 1;\n\n SELECT  2 /* x */ ;").unwrap();
    assert_eq!(parsed.len(), 2);
    assert_eq!((parsed[1].line, parsed[1].column), (4, 2));
    assert_eq!(parsed[1].fingerprint, "SELECT 2");
}

#[test]
fn errors_of_the_dialect_keep_code_and_notes() {
    let e = parse_statement("SELECT CAST(a AS TEXT) FROM t").unwrap_err();
    assert_eq!(e.code(), ErrorCode::Name);
    assert_eq!(e.proposal(), Some("did you mean \"STRING\"?"));
    assert!(e.notes()[0].starts_with("types: "));
}

#[test]
fn no_error_quotes_the_value_of_a_secret_option() {
    for value in crate::sql::secrets::WRONG_VALUES {
        for (before, after) in [
            ("CREATE TABLE t (a INT) WITH ('password' ", ", 'x' = 'y')"),
            ("CREATE TABLE t (a INT) WIHT ('password' ", ")"),
            ("SELECT 1 FROM t /*+ OPTIONS('sasl.jaas.config' ", ") */"),
        ] {
            let text = format!("{before}{value}{after}");
            let e = parse_statement(&text).expect_err(&text);
            let said = format!("{} {:?} {:?}", e.message(), e.proposal(), e.notes());
            assert!(!said.contains("hunter2"), "{text}: {said}");
        }
    }
    let e = parse_statement("CREATE TABLE t (a INT) WITH ('password' = hunter2)").unwrap_err();
    assert_eq!(e.message(), "expected the value of the option in single quotes, found \"****\"");
    assert_eq!(e.place(), Some(thalweg_core::Place::new(1, 43, 7)));
}

/// Pieces from which random texts are made: half of them make sense beside one another.
const SOUP: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "JOIN",
    "ON",
    "AS",
    "WITH",
    "VALUES",
    "INSERT INTO",
    "CREATE TABLE",
    "CREATE VIEW",
    "EXECUTE STATEMENT SET BEGIN",
    "END",
    "SET",
    "DROP TABLE",
    "EXPLAIN",
    "CASE",
    "WHEN",
    "THEN",
    "CAST",
    "TRY_CAST",
    "INTERVAL",
    "TIMESTAMPDIFF",
    "JSON_VALUE",
    "MAP",
    "ARRAY",
    "ROW",
    "TABLE",
    "POSITION",
    "TRIM",
    "EXTRACT",
    "DAY",
    "IN",
    "NOT",
    "NULL",
    "EXISTS",
    "BETWEEN",
    "LIKE",
    "PRIMARY KEY",
    "WATERMARK FOR",
    "METADATA",
    "LATERAL",
    "UNNEST",
    "OVER",
    "PARTITION BY",
    "INT",
    "STRING",
    "DECIMAL",
    "a",
    "b",
    "t",
    "`x y`",
    "'s'",
    "1",
    "2.5",
    "(",
    ")",
    "[",
    "]",
    "<",
    ">",
    ",",
    ".",
    ";",
    "=",
    "+",
    "-",
    "*",
    "/",
    "||",
    "=>",
    "::",
    "\"q\"",
    "'",
    "`",
    "/*",
    "*/",
    "/*+ OPTIONS('a'='b') */",
    "--",
    "\n",
    "é",
    "\u{feff}",
    "?",
    "U&'\\0041'",
    "X'ff'",
    "UNION ALL",
    "IF",
    "FLOOR",
    "TO",
    "FOR SYSTEM_TIME AS OF",
    "MATCH_RECOGNIZE",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn no_soup_of_tokens_panics(pieces in proptest::collection::vec(0..SOUP.len(), 0..40), head in 0..6_usize) {
        let head = ["", "SELECT ", "CREATE TABLE t (", "INSERT INTO t SELECT ", "SELECT * FROM ", "SELECT a FROM t WHERE "][head];
        let text: Vec<&str> = pieces.iter().map(|i| SOUP[*i]).collect();
        let text = format!("{head}{}", text.join(" "));
        if let Err(e) = parse_script(&text) {
            let place = e.place();
            prop_assert!(place.is_some_and(|p| p.line > 0 && p.column > 0), "no place: {text}\n{e}");
        }
        is_complete(&text);
        fingerprint(&text, &|_, _| true);
        prop_assert_eq!(classify(&text).iter().map(|(r, _)| r.len()).sum::<usize>(), text.len());
        complete(&text, &crate::Catalog::default(), CompletionWords::default());
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,80}") {
        let _ = parse_script(&text);
        is_complete(&text);
        mask_secrets(&text, &|_, _| true);
        complete(&text, &crate::Catalog::default(), CompletionWords::default());
    }
}
