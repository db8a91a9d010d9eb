//! What is read, from where on, and what a table's options change about it.

#[path = "support/harness.rs"]
mod harness;
#[path = "../../../tests/support/mysqld.rs"]
mod mysqld;

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use harness::{Job, table};
use mysqld::{Mysqld, Session};
use thalweg_core::SqlType;

static SERVER: LazyLock<Mysqld> = LazyLock::new(|| Mysqld::start(&[]));

fn columns() -> Vec<(&'static str, SqlType)> {
    vec![("id", SqlType::BigInt), ("name", SqlType::STRING)]
}

/// A database with a table `t` of three rows.
fn database(name: &str) -> Session {
    let mut root = SERVER.session();
    root.run(&format!("CREATE DATABASE {name}"));
    root.run(&format!("USE {name}"));
    root.run("CREATE TABLE t (id BIGINT PRIMARY KEY, name VARCHAR(20))");
    root.run("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    root
}

fn job(database: &str, options: &[(&str, &str)]) -> Job {
    Job::start(&[table(&SERVER, database, "t", &columns(), options)], database).unwrap_or_else(|e| panic!("{e}"))
}

const ALL: &str = "SELECT id, name FROM t";

#[test]
fn a_snapshot_alone_ends() {
    let mut root = database("bounded");
    let mut job = job("bounded", &[("scan.startup.mode", "snapshot"), ("scan.incremental.snapshot.chunk.size", "2")]);
    while job.tick().unwrap() {}
    job.until_same(0, &mut root, ALL);
    // Again from the last position: through at once, without a row.
    let changes = job.fold.changes;
    job.stop();
    assert!(!job.tick().unwrap());
    assert_eq!(job.fold.changes, changes);
}

#[test]
fn an_empty_table_is_a_snapshot_too() {
    let mut root = database("nothing");
    root.run("TRUNCATE t");
    let mut job = job("nothing", &[]);
    job.snapshot();
    assert!(job.fold.rows.is_empty());
    root.run("INSERT INTO t VALUES (7, 'seven')");
    job.until_same(0, &mut root, ALL);
}

#[test]
fn reading_begins_where_the_mode_says() {
    let mut root = database("begin");
    root.run("FLUSH BINARY LOGS");
    root.run("INSERT INTO t VALUES (4, 'd')");
    let log = root.rows("SHOW BINARY LOG STATUS").remove(0);
    let executed = root.value("SELECT @@GLOBAL.gtid_executed").replace('\n', "");
    // Commit times have microseconds; the two sides of the moment are milliseconds apart.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().to_string();
    std::thread::sleep(std::time::Duration::from_millis(20));
    root.run("INSERT INTO t VALUES (5, 'e')");
    root.run("FLUSH BINARY LOGS");

    let behind = ["0: 5 | e", "0: 6 | f"];
    let mode = ("scan.startup.mode", "specific-offset");
    let specific_set = job("begin", &[mode, ("scan.startup.specific-offset.gtid-set", &executed)]);
    let specific_file = job(
        "begin",
        &[mode, ("scan.startup.specific-offset.file", &log[0]), ("scan.startup.specific-offset.pos", &log[1])],
    );
    let at_time = job("begin", &[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", &moment)]);
    let latest = job("begin", &[("scan.startup.mode", "latest-offset")]);
    let earliest = job("begin", &[("scan.startup.mode", "earliest-offset")]);
    root.run("INSERT INTO t VALUES (6, 'f')");
    let sets = [("gtid-set", specific_set), ("file", specific_file), ("timestamp", at_time)];
    for (name, mut job) in sets {
        job.until(name, |j| j.fold.rows.contains_key("0: 6 | f"));
        assert_eq!(job.fold.rows.keys().collect::<Vec<_>>(), behind, "{name}");
    }
    let mut latest = latest;
    latest.until("latest", |j| j.fold.rows.contains_key("0: 6 | f"));
    assert_eq!(latest.fold.rows.len(), 1);
    let mut earliest = earliest;
    earliest.until_same(0, &mut root, ALL);
}

#[test]
fn offsets_that_the_server_does_not_know_are_refused() {
    database("unknown");
    let start = |options: &[(&str, &str)]| {
        let tables = [table(&SERVER, "unknown", "t", &columns(), options)];
        Job::start(&tables, "unknown").err().expect("refused").to_string()
    };
    let mode = ("scan.startup.mode", "specific-offset");
    let e = start(&[mode, ("scan.startup.specific-offset.gtid-set", "00000000-0000-0000-0000-000000000001:1-5")]);
    assert!(e.contains("has never executed 00000000-0000-0000-0000-000000000001:1-5"), "{e}");
    let e = start(&[
        mode,
        ("scan.startup.specific-offset.file", "binlog.999999"),
        ("scan.startup.specific-offset.pos", "4"),
    ]);
    assert!(e.contains("has no binlog binlog.999999") && e.contains("binlog.000001"), "{e}");
}

#[test]
fn row_kind_makes_a_log_of_changes() {
    let mut root = database("log");
    let mut declared = columns();
    declared.extend([
        ("row_kind", SqlType::STRING),
        ("database_name", SqlType::STRING),
        ("table_name", SqlType::STRING),
    ]);
    let mut job = Job::start(&[table(&SERVER, "log", "t", &declared, &[])], "log").unwrap();
    job.snapshot();
    root.run("UPDATE t SET name = 'x' WHERE id = 1");
    root.run("DELETE FROM t WHERE id = 2");
    job.until("the changes", |j| j.fold.rows.len() == 6);
    let rows = job.fold.of(0);
    assert_eq!(
        rows,
        [
            "1 | a | +I | log | t",
            "1 | a | -U | log | t",
            "1 | x | +U | log | t",
            "2 | b | +I | log | t",
            "2 | b | -D | log | t",
            "3 | c | +I | log | t"
        ]
    );
}

#[test]
fn a_row_knows_when_it_was_committed() {
    let mut root = database("times");
    let mut declared = columns();
    declared.push(("op_ts", SqlType::TimestampLtz(3)));
    let mut job = Job::start(&[table(&SERVER, "times", "t", &declared, &[])], "times").unwrap();
    job.snapshot();
    assert!(job.fold.of(0).iter().all(|r| r.contains("1970-01-01T00:00:00")), "{:?}", job.fold.of(0));
    root.run("INSERT INTO t VALUES (9, 'now')");
    job.until("the row", |j| j.fold.rows.len() == 4);
    let year = root.value("SELECT YEAR(UTC_TIMESTAMP())");
    assert!(job.fold.of(0).iter().any(|r| r.starts_with(&format!("9 | now | {year}-"))), "{:?}", job.fold.of(0));
}

#[test]
fn two_tables_of_a_server_are_one_source() {
    let mut root = database("pair");
    root.run("CREATE TABLE u (id BIGINT PRIMARY KEY, name VARCHAR(20))");
    let tables = ["t", "u"].map(|t| table(&SERVER, "pair", t, &columns(), &[]));
    let mut job = Job::start(&tables, "pair").unwrap();
    job.snapshot();
    root.run("BEGIN; DELETE FROM t WHERE id = 1; INSERT INTO u VALUES (1, 'a'); COMMIT");
    job.until("the move", |j| {
        let (t, u) = (j.fold.of(0).contains(&"1 | a".to_owned()), j.fold.of(1).contains(&"1 | a".to_owned()));
        assert_ne!(t, u, "half a transaction");
        u
    });
    let mut twice = tables.to_vec();
    twice[1] = twice[0].clone();
    twice[1].def.name = "again".to_owned();
    let e = Job::start(&twice, "pair").err().expect("refused").to_string();
    assert!(e.contains("tables t and again of one job read the same table"), "{e}");
    let mut other = tables.to_vec();
    other[1].def.options.insert("server-id".to_owned(), "7".to_owned());
    let e = Job::start(&other, "pair").err().expect("refused").to_string();
    assert!(e.contains("'server-id' differs"), "{e}");
}

#[test]
fn compressed_and_large_transactions_come_as_the_others_do() {
    let mut root = database("large");
    let mut job = job("large", &[]);
    job.limits = (500, 20_000);
    job.snapshot();
    root.run("SET SESSION cte_max_recursion_depth = 100000");
    for compression in ["OFF", "ON"] {
        root.run(&format!("SET SESSION binlog_transaction_compression = {compression}"));
        root.run("BEGIN");
        root.run("INSERT INTO t WITH RECURSIVE n AS (SELECT 10 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i, CONCAT('n', i) FROM n");
        root.run("UPDATE t SET name = CONCAT(name, '!') WHERE id > 10000");
        root.run("DELETE FROM t WHERE id BETWEEN 100 AND 5000");
        root.run("COMMIT");
        // Cut here and there, as an engine does with transactions that are too large for a tick.
        for _ in 0..7 {
            job.tick_of(2).unwrap();
            job.stop();
        }
        job.until_same(0, &mut root, ALL);
        root.run("DELETE FROM t WHERE id > 3");
        job.until_same(0, &mut root, ALL);
    }
}

#[test]
fn the_position_moves_on_while_much_of_other_tables_is_read() {
    let mut root = database("others");
    root.run("CREATE TABLE other (id INT PRIMARY KEY, doc LONGTEXT)");
    let mut job = job("others", &[]);
    job.snapshot();
    job.stop();
    for i in 0..8 {
        root.run(&format!("INSERT INTO other VALUES ({i}, REPEAT('x', 20 << 20))"));
    }
    let executed = root.value("SELECT @@GLOBAL.gtid_executed").replace('\n', "");
    job.tick().unwrap();
    let position = job.position.as_ref().unwrap().0["gtid-set"].as_str().unwrap().to_owned();
    assert_eq!(root.value(&format!("SELECT GTID_SUBSET('{executed}', '{position}')")), "0", "it is read at one go");
    root.run("INSERT INTO t VALUES (4, 'd')");
    job.until_same(0, &mut root, ALL);
}

#[test]
fn rows_larger_than_a_packet_of_the_protocol() {
    let mut root = database("packets");
    root.run("CREATE TABLE docs (id BIGINT PRIMARY KEY, name LONGTEXT)");
    root.run("INSERT INTO docs VALUES (1, REPEAT('a', 17 << 20)), (2, 'small'), (3, REPEAT('b', (1 << 24) - 1))");
    let mut job = Job::start(&[table(&SERVER, "packets", "docs", &columns(), &[])], "packets").unwrap();
    job.until_same(0, &mut root, "SELECT id, name FROM docs");
    for compression in ["OFF", "ON"] {
        root.run(&format!("SET SESSION binlog_transaction_compression = {compression}"));
        root.run("INSERT INTO docs VALUES (4, REPEAT('d', 33 << 20))");
        root.run("UPDATE docs SET name = CONCAT(name, '!') WHERE id <> 2");
        root.run("DELETE FROM docs WHERE id IN (1, 4)");
        job.until_same(0, &mut root, "SELECT id, name FROM docs");
    }
}

#[test]
fn what_is_rolled_back_never_was() {
    let mut root = database("undone");
    let mut job = job("undone", &[]);
    job.snapshot();
    root.run("BEGIN; INSERT INTO t VALUES (10, 'no'); UPDATE t SET name = 'no'; ROLLBACK");
    root.run("BEGIN; INSERT INTO t VALUES (11, 'yes'); SAVEPOINT s; INSERT INTO t VALUES (12, 'no'); ROLLBACK TO s; INSERT INTO t VALUES (13, 'yes'); COMMIT");
    job.until("the last row", |j| j.fold.rows.contains_key("0: 13 | yes"));
    job.until_same(0, &mut root, ALL);
}

#[test]
fn a_ddl_that_the_columns_do_not_feel_is_passed() {
    let mut root = database("ddl");
    let mut job = job("ddl", &[]);
    job.snapshot();
    root.run("ALTER TABLE t ADD COLUMN extra INT DEFAULT 5 FIRST");
    root.run("INSERT INTO t (id, name) VALUES (30, 'thirty')");
    root.run("CREATE INDEX by_name ON t (name)");
    root.run("ALTER TABLE t DROP COLUMN extra, ADD COLUMN later VARCHAR(9)");
    root.run("UPDATE t SET later = 'x', name = 'all'");
    job.until_same(0, &mut root, ALL);
    // The position knows the columns of its time.
    root.run("ALTER TABLE t ADD COLUMN third INT AFTER id");
    root.run("INSERT INTO t (id, name) VALUES (31, 'more')");
    job.stop();
    job.until_same(0, &mut root, ALL);
    root.run("TRUNCATE TABLE t");
    let e = job.error();
    let said = e.to_string();
    assert!(!e.is_transient() && said.contains("TRUNCATE TABLE t") && said.contains("binlog binlog."), "{said}");
}

#[test]
fn a_key_that_takes_another_collation_stops_the_job() {
    let mut root = database("collations");
    root.run("CREATE TABLE tags (id VARCHAR(10) COLLATE utf8mb4_bin PRIMARY KEY, name VARCHAR(20))");
    root.run("INSERT INTO tags VALUES ('a', 'x'), ('B', 'y')");
    let columns = [("id", SqlType::STRING), ("name", SqlType::STRING)];
    let mut job = Job::start(&[table(&SERVER, "collations", "tags", &columns, &[])], "collations").unwrap();
    job.snapshot();
    root.run("ALTER TABLE tags MODIFY id VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, MODIFY name VARCHAR(40)");
    root.run("INSERT INTO tags VALUES ('b', 'another')");
    job.until_same(0, &mut root, "SELECT id, name FROM tags");
    root.run("DELETE FROM tags WHERE id = 'b'");
    root.run("ALTER TABLE tags MODIFY id VARCHAR(30) NOT NULL");
    let e = job.error();
    let said = e.to_string();
    assert!(!e.is_transient() && said.contains("without COLLATE utf8mb4_bin"), "{said}");
    assert!(said.contains("MODIFY id VARCHAR(30)") && said.contains("binlog binlog."), "{said}");
}

#[test]
fn a_foreign_key_that_comes_while_a_table_is_read_is_passed_where_cascades_are_logged() {
    let mut root = database("cascades");
    root.run("CREATE TABLE parent (id BIGINT PRIMARY KEY)");
    root.run("INSERT INTO parent VALUES (1), (2), (3)");
    let mut job = job("cascades", &[]);
    job.snapshot();
    root.run("ALTER TABLE t ADD FOREIGN KEY (id) REFERENCES parent (id) ON DELETE CASCADE");
    root.run("DELETE FROM parent WHERE id = 2");
    let logged = root.rows("SHOW VARIABLES LIKE 'innodb_native_foreign_keys'").iter().any(|v| v[1] == "OFF");
    if logged {
        job.until_same(0, &mut root, ALL);
    } else {
        assert!(job.error().to_string().contains("foreign key"));
    }
}

#[test]
fn a_key_by_which_the_server_orders_nothing_stops_the_snapshot() {
    let mut root = database("dates");
    root.run("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'");
    let columns = [("d", SqlType::STRING), ("n", SqlType::Int)];
    for (name, ty, fits, no_day) in [
        ("by_date", "DATE", ["0000-00-00", "2020-00-15", "2023-02-28"], "2023-02-31"),
        (
            "by_time",
            "DATETIME",
            ["0000-00-00 00:00:00", "2020-05-00 10:00:00", "2023-02-28 23:59:59"],
            "2023-02-30 10:00:00",
        ),
    ] {
        root.run(&format!("CREATE TABLE {name} (d {ty} PRIMARY KEY, n INT)"));
        let rows: Vec<String> = fits.iter().map(|d| format!("('{d}', 1)")).collect();
        root.run(&format!("INSERT INTO {name} VALUES {}, ('2024-05-05', 2)", rows.join(", ")));
        let start = || {
            let options = [("scan.incremental.snapshot.chunk.size", "1")];
            Job::start(&[table(&SERVER, "dates", name, &columns, &options)], name).unwrap()
        };
        let mut job = start();
        job.snapshot();
        job.until_same(0, &mut root, &format!("SELECT d, n FROM {name}"));
        root.run(&format!("INSERT INTO {name} VALUES ('{no_day}', 3)"));
        let e = start().error();
        let said = format!("table {name}, column \"d\" of the primary key: {no_day}");
        assert!(!e.is_transient() && e.to_string().contains(&said), "{e}");
    }
}

#[test]
fn a_value_that_cannot_be_converted_is_named_with_its_place() {
    let mut root = database("cells");
    root.run("SET SESSION sql_mode = ''");
    root.run("CREATE TABLE d (id BIGINT, part VARCHAR(5), day DATE, PRIMARY KEY (id, part))");
    root.run("INSERT INTO d VALUES (1, 'a', '2024-02-29'), (7, 'b', '0000-00-00')");
    let start = |mode| {
        let declared = [("id", SqlType::BigInt), ("day", SqlType::Date)];
        Job::start(&[table(&SERVER, "cells", "d", &declared, &[("scan.startup.mode", mode)])], mode).unwrap()
    };
    let mut streamed = start("latest-offset");
    let said = start("initial").error().to_string();
    for part in ["table d", "\"day\"", "0000-00-00", "snapshot, row with primary key (7, ", "zero-dates"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    root.run("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'");
    root.run("UPDATE d SET day = '2024-02-31' WHERE id = 1");
    let e = streamed.error();
    let said = e.to_string();
    for part in ["table d", "\"day\"", "binlog binlog.0"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!e.is_transient(), "{said}");
}

#[test]
fn tables_that_cannot_be_read_are_refused_with_what_to_do() {
    let mut root = database("refused");
    root.run("CREATE TABLE no_key (id BIGINT)");
    root.run("CREATE TABLE my (id BIGINT PRIMARY KEY) ENGINE = MyISAM");
    root.run("CREATE TABLE real_key (id DOUBLE PRIMARY KEY)");
    root.run("CREATE TABLE prefixed (id TEXT, PRIMARY KEY (id(4)))");
    root.run("CREATE VIEW v AS SELECT * FROM t");
    let refused = |name: &str, columns: &[(&str, SqlType)]| {
        Job::start(&[table(&SERVER, "refused", name, columns, &[])], "refused").err().expect("refused").to_string()
    };
    let id = [("id", SqlType::BigInt)];
    for (name, said) in
        [("no_key", "no primary key"), ("my", "only InnoDB"), ("v", "is a view"), ("nothing", "sees no table")]
    {
        let e = refused(name, &id);
        assert!(e.contains(said), "{name}: {e}");
    }
    let e = refused("real_key", &[("id", SqlType::Double)]);
    assert!(e.contains("primary key"), "{e}");
    let e = refused("prefixed", &[("id", SqlType::STRING)]);
    assert!(e.contains("only a prefix"), "{e}");
    let e = refused("t", &[("id", SqlType::Int), ("name", SqlType::STRING)]);
    assert!(e.contains("does not go into INT"), "{e}");
    let e = refused("tt", &id);
    assert!(e.contains("did you mean \"t\""), "{e}");
}

#[test]
fn connections_are_encrypted_as_asked() {
    let mut root = database("tls");
    let ca = SERVER.folder().join("data/ca.pem").display().to_string();
    for options in [
        vec![("tls.mode", "disabled")],
        vec![("tls.mode", "required")],
        vec![("tls.mode", "verify-ca"), ("tls.ca-file", ca.as_str())],
    ] {
        let mut job = job("tls", &options);
        job.until_same(0, &mut root, ALL);
    }
    let options = [("tls.mode", "verify-identity"), ("tls.ca-file", ca.as_str())];
    let e =
        Job::start(&[table(&SERVER, "tls", "t", &columns(), &options)], "tls").err().expect("another name").to_string();
    assert!(e.contains("TLS"), "{e}");
}

#[test]
fn users_log_in_with_every_kind_of_password() {
    let mut root = database("login");
    root.run("CREATE USER cached IDENTIFIED WITH caching_sha2_password BY 'pass ä'");
    root.run("CREATE USER sha IDENTIFIED WITH sha256_password BY 'secret'");
    for user in ["cached", "sha"] {
        root.run(&format!("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user}"));
    }
    for (user, password) in [("cached", "pass ä"), ("sha", "secret")] {
        for mode in ["disabled", "required", "disabled"] {
            let mut job = job("login", &[("username", user), ("password", password), ("tls.mode", mode)]);
            job.until_same(0, &mut root, ALL);
        }
        let tables = [table(&SERVER, "login", "t", &columns(), &[("username", user), ("password", "wrong")])];
        let e = Job::start(&tables, "login").err().expect("refused");
        assert!(!e.is_transient() && e.to_string().contains("'username'"), "{e}");
    }
}
