//! What a real log holds beside rows: GTIDs with tags, sets of them, distributed transactions, savepoints, DDL.

use std::sync::Arc;

use thalweg_core::SqlType;
use thalweg_core::types::Column;

use super::values::server_columns;
use super::{Session, block_on};
use crate::binlog::ddl::{Captured, Effect, effect};
use crate::binlog::event::{Checksums, Event, EventData};
use crate::gtid::GtidSet;
use crate::layout::TableLayout;
use crate::testing::layout_of;

/// A database of the test's own, so that tests can run side by side on one server; the log is theirs together.
async fn database(session: &mut Session, name: &str) {
    session.run(&format!("DROP DATABASE IF EXISTS {name}")).await;
    session.run(&format!("CREATE DATABASE {name}")).await;
    session.run(&format!("USE {name}")).await;
}

#[test]
fn gtids_of_the_log_are_those_that_the_server_says() {
    block_on(async {
        let mut session = Session::open().await;
        database(&mut session, "gtids").await;
        session.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
        session.run("SET gtid_next = 'AUTOMATIC:some_tag'").await;
        session.run("INSERT INTO t VALUES (1)").await;
        session.run("SET gtid_next = 'AUTOMATIC:t'").await;
        session.run("INSERT INTO t VALUES (2)").await;
        session.run("SET gtid_next = 'AUTOMATIC'").await;
        let file = session.new_file().await;
        let before: GtidSet = session.value("SELECT @@gtid_executed").await.parse().unwrap();
        session.run("INSERT INTO t VALUES (3)").await;
        session.run("SET gtid_next = 'AUTOMATIC:some_tag'").await;
        session.run("INSERT INTO t VALUES (4)").await;
        session.run("SET gtid_next = '3e11fa47-9b1c-11ef-8a3d-0242ac110002:other:77'").await;
        session.run("INSERT INTO t VALUES (5)").await;
        session.run("SET gtid_next = 'AUTOMATIC'").await;
        let executed = session.value("SELECT @@gtid_executed").await;
        let after: GtidSet = executed.parse().unwrap();
        // MySQL parts servers by a comma and a new line.
        assert_eq!(after.to_string(), executed.replace('\n', ""));
        assert!(executed.contains(":some_tag:"), "{executed}");
        let (mut logged, mut previous) = (GtidSet::new(), None);
        for event in Session::events_from(&file).await {
            match Event::parse(&event, Checksums::Crc32).unwrap().data {
                EventData::PreviousGtids(set) => previous = previous.or(Some(set)),
                EventData::Gtid(event) => {
                    assert!(event.original_commit_us > 1_600_000_000_000_000, "{event:?}");
                    assert!(event.transaction_bytes > 100, "{event:?}");
                    assert!(logged.add(&event.gtid.unwrap()));
                }
                _ => {}
            }
        }
        let previous = previous.expect("every file begins with the set of the files before");
        assert!(before.is_subset_of(&previous.union(&logged)));
        assert!(after.is_subset_of(&previous.union(&logged)));
        assert!(after.subtract(&before).is_subset_of(&logged));
        // The server reads the sets that we write, tags and all.
        let text = after.to_string();
        assert_eq!(session.value(&format!("SELECT GTID_SUBSET('{text}', @@gtid_executed)")).await, "1");
        assert_eq!(GtidSet::from_bytes(&after.to_bytes()).unwrap(), after);
    });
}

/// What the statements of one database do, as text.
async fn effects(file: &str, database: &str, layouts: &[Arc<TableLayout>]) -> Vec<String> {
    let mut effects = vec![];
    // Other tests write to the same log.
    let mut is_ours = false;
    let mut begun = None;
    for event in Session::events_from(file).await {
        let event = Event::parse(&event, Checksums::Crc32).unwrap();
        match &event.data {
            EventData::Gtid(_) => (is_ours, begun) = (false, None),
            EventData::Query(query) => {
                let captured = Captured { layouts, names_without_case: false };
                let ours = query.database == database.as_bytes();
                let effect = match effect(query, &captured) {
                    Ok(Effect::Begin) => {
                        begun = Some(ours);
                        "Begin".to_owned()
                    }
                    Ok(effect) => format!("{effect:?}"),
                    Err(e) => e.message().split(": ").nth(1).unwrap_or_default().to_owned(),
                };
                // BEGIN and the like come with the session's database too.
                is_ours |= ours;
                if ours {
                    effects.push(effect);
                }
            }
            EventData::XaPrepare(xa) if is_ours => effects.push(format!("XaPrepare {xa} {}", xa.one_phase)),
            EventData::Xid(_) if is_ours => effects.push("Xid".to_owned()),
            EventData::TableMap(map) if map.database == database.as_bytes() => {
                effects.push(format!("Map {}", String::from_utf8_lossy(map.table)));
            }
            EventData::Rows(rows) if is_ours => effects.push(format!("{:?}", rows.kind)),
            _ => {}
        }
    }
    let _ = begun;
    effects
}

#[test]
fn distributed_transactions_and_savepoints() {
    block_on(async {
        let mut session = Session::open().await;
        database(&mut session, "xas").await;
        session.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
        session.run("CREATE TABLE m (id INT PRIMARY KEY) ENGINE = MyISAM").await;
        let file = session.new_file().await;
        for sql in [
            "XA START 'a','b',7",
            "INSERT INTO t VALUES (1)",
            "XA END 'a','b',7",
            "XA PREPARE 'a','b',7",
            "XA COMMIT 'a','b',7",
            "XA START 'c'",
            "INSERT INTO t VALUES (2)",
            "XA END 'c'",
            "XA COMMIT 'c' ONE PHASE",
            "XA START 'd'",
            "INSERT INTO t VALUES (3)",
            "XA END 'd'",
            "XA PREPARE 'd'",
            "XA ROLLBACK 'd'",
        ] {
            session.run(sql).await;
        }
        for sql in [
            "BEGIN",
            "INSERT INTO t VALUES (4)",
            "SAVEPOINT `a``b`",
            "INSERT INTO t VALUES (5)",
            "ROLLBACK TO `a``b`",
            "COMMIT",
        ] {
            session.run(sql).await;
        }
        let found = effects(&file, "xas", &[]).await;
        let expected = [
            "XaStart(\"X'61',X'62',7\")",
            "Map t",
            "Insert",
            "XaEnd",
            "XaPrepare X'61',X'62',7 false",
            "XaCommit(\"X'61',X'62',7\")",
            "XaStart(\"X'63',X'',1\")",
            "Map t",
            "Insert",
            "XaEnd",
            "XaPrepare X'63',X'',1 true",
            "XaStart(\"X'64',X'',1\")",
            "Map t",
            "Insert",
            "XaEnd",
            "XaPrepare X'64',X'',1 false",
            "XaRollback(\"X'64',X'',1\")",
            "Begin",
            "Map t",
            "Insert",
        ];
        assert_eq!(found[..expected.len()], expected);
        // Whether the log keeps what came after the savepoint is the server's matter; the transaction ends.
        assert_eq!(found.last().map(String::as_str), Some("Xid"), "{found:?}");
    });
}

async fn layout(session: &mut Session, database: &str, table: &str, declared: &[Column]) -> Arc<TableLayout> {
    let columns = server_columns(session, database, table).await;
    layout_of(database, table, declared, columns)
}

#[test]
fn the_columns_behind_an_alter_are_the_servers() {
    block_on(async {
        let mut session = Session::open().await;
        database(&mut session, "alters").await;
        session
            .run("CREATE TABLE t (id BIGINT PRIMARY KEY, s ENUM('a','b'), n VARCHAR(20), x INT, v INT AS (x + 1) VIRTUAL)")
            .await;
        let declared = [
            Column::new("id", SqlType::BigInt, false),
            Column::new("s", SqlType::STRING, true),
            Column::new("n", SqlType::STRING, true),
        ];
        let mut layout = layout(&mut session, "alters", "t", &declared).await;
        for sql in [
            "ALTER TABLE t ADD COLUMN a1 INTEGER(11) UNSIGNED NOT NULL DEFAULT 5 COMMENT 'x, y' AFTER id",
            "ALTER TABLE t ADD COLUMN (a2 BOOL, a3 DEC(12,3), a4 DOUBLE PRECISION, a5 NATIONAL VARCHAR(9), a6 CHARACTER VARYING(3))",
            "ALTER TABLE t ADD a7 FIXED, ADD a8 NUMERIC(5), ADD a9 REAL, ADD a10 LONG VARCHAR, ADD a11 BLOB, ADD a12 BIT FIRST",
            "ALTER TABLE t ADD b1 TIMESTAMP(3) NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), ADD b2 TEXT CHARACTER SET latin1",
            "ALTER TABLE t ADD c1 SET('x','y''z','é') CHARSET utf8mb4 COLLATE utf8mb4_bin, ADD c2 POINT SRID 4326, ADD c3 VECTOR(7)",
            "ALTER TABLE t ADD g1 VARCHAR(40) GENERATED ALWAYS AS (concat(n, '-', id)) STORED, ADD g2 JSON AS (json_array(id)) VIRTUAL",
            "ALTER TABLE t ADD i1 INT INVISIBLE, ADD KEY k1 ((x + 2)), ADD INDEX k2 (n(3)), ADD FULLTEXT INDEX k3 (n)",
            "ALTER TABLE t DROP KEY k1, DROP v, CHANGE x y BIGINT NULL, MODIFY s ENUM('a','b','c') AFTER a1",
            "ALTER TABLE t RENAME COLUMN a2 TO z2, DROP COLUMN a3, DROP a4",
            "ALTER TABLE t ALTER s SET DEFAULT 'a', ALTER COLUMN a1 DROP DEFAULT, ALTER i1 SET VISIBLE, COMMENT = 'c', ENGINE=InnoDB",
            "ALTER TABLE t CHANGE COLUMN id id BIGINT FIRST, MODIFY z2 CHAR AFTER id",
            "ALTER TABLE `alters`.`t` /* c */ ADD `na``me` /*!80000 INT */ -- x\n, DROP INDEX k2",
        ] {
            let file = session.new_file().await;
            session.run(sql).await;
            session.run("INSERT INTO t (id) SELECT count(*) FROM (SELECT id FROM t) AS before_it").await;
            let mut inserted = false;
            for event in Session::events_from(&file).await {
                match Event::parse(&event, Checksums::Crc32).unwrap().data {
                    EventData::Query(query) if query.database == b"alters" => {
                        let layouts = [layout];
                        let captured = Captured { layouts: &layouts, names_without_case: false };
                        let columns = match effect(&query, &captured).unwrap_or_else(|e| panic!("{sql}: {e}")) {
                            Effect::Columns(mut changed) => changed.remove(0).1,
                            _ => layouts[0].columns().to_vec(),
                        };
                        layout = Arc::new(layouts[0].with_columns(columns).unwrap());
                    }
                    EventData::TableMap(map) if map.database == b"alters" => {
                        layout.image_plan(&map).unwrap_or_else(|e| panic!("{sql}: {e}"));
                        inserted = true;
                    }
                    _ => {}
                }
            }
            assert!(inserted);
            let said = server_columns(&mut session, "alters", "t").await;
            let names = |columns: &[crate::layout::ServerColumn]| {
                columns.iter().map(|c| format!("{} {} {}", c.name, c.column_type, c.nullable)).collect::<Vec<_>>()
            };
            assert_eq!(names(layout.columns()), names(&said), "{sql}");
        }
    });
}

#[test]
fn statements_are_read_in_the_sessions_mode_and_character_set() {
    block_on(async {
        let mut session = Session::open().await;
        database(&mut session, "modes").await;
        session.run("CREATE TABLE t (id BIGINT PRIMARY KEY, s INT)").await;
        let declared = [Column::new("id", SqlType::BigInt, false), Column::new("s", SqlType::Int, true)];
        let layout = layout(&mut session, "modes", "t", &declared).await;
        let file = session.new_file().await;
        session.run("SET sql_mode = 'NO_BACKSLASH_ESCAPES'").await;
        session.run(r"ALTER TABLE t COMMENT 'a\', ADD a INT").await;
        session.run("SET sql_mode = 'ANSI_QUOTES'").await;
        session.run(r#"ALTER TABLE "t" ADD "b" INT"#).await;
        session.run("SET sql_mode = ''").await;
        session.run("SET NAMES gbk").await;
        let gbk = b"ALTER TABLE t ADD c INT COMMENT '\xd5\x5c', ADD d INT";
        let hex: String = gbk.iter().map(|b| format!("{b:02x}")).collect();
        session.run(&format!("SET @s = CONVERT(UNHEX('{hex}') USING gbk)")).await;
        session.run("PREPARE p FROM @s").await;
        session.run("EXECUTE p").await;
        session.run("SET NAMES utf8mb4").await;
        session.run("TRUNCATE t").await;
        let found = effects(&file, "modes", &[layout]).await;
        assert_eq!(found.len(), 4, "{found:?}");
        for (found, added) in found.iter().zip(["name: \"a\"", "name: \"b\"", "name: \"d\""]) {
            assert!(found.contains(added), "{found}");
        }
        assert!(found[3].contains("was emptied"), "{found:?}");
    });
}
