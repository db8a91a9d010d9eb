//! Servers that die, move, lag, forget or are set up wrongly.

#[path = "support/harness.rs"]
mod harness;
#[path = "../../../tests/support/mysqld.rs"]
mod mysqld;
#[path = "support/writer.rs"]
mod writer;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::{Job, PATIENCE, seed, table};
use mysqld::{Mysqld, Session};
use thalweg_connector_api::SourceTable;
use thalweg_core::SqlType;
use writer::{Keys, Plan, Writer, fill};

fn columns() -> Vec<(&'static str, SqlType)> {
    vec![("id", SqlType::BigInt), ("n", SqlType::Int), ("name", SqlType::STRING)]
}

const ALL: &str = "SELECT id, n, name FROM db.t";

/// A server with `db.t`, and a session of its root.
fn filled(options: &[&str], rows: u64) -> (Mysqld, Session) {
    let server = Mysqld::start(options);
    let mut root = server.session();
    root.run("CREATE DATABASE db");
    fill(&mut root, "db.t", Keys::Number, rows);
    (server, root)
}

/// `db.t` as a job reads it.
fn t(server: &Mysqld, options: &[(&str, &str)]) -> SourceTable {
    table(server, "db", "t", &columns(), options)
}

fn plan(server: &Mysqld, seed: u64) -> Plan {
    let pause = Duration::from_millis(1);
    Plan { port: server.port(), table: "db.t".to_owned(), keys: Keys::Number, numbers: 4_000, threads: 2, pause, seed }
}

#[test]
fn a_server_that_is_stopped_or_killed_is_read_on_when_it_is_back() {
    let seed = seed();
    let (mut server, _) = filled(&[], 3_000);
    let small = [("scan.incremental.snapshot.chunk.size", "40")];
    let mut job = Job::start(&[t(&server, &small)], "dies").unwrap();
    let writer = Writer::start(&plan(&server, seed));
    for killed in [true, false, true] {
        for _ in 0..15 {
            job.tick().unwrap_or_else(|e| panic!("{e}"));
        }
        if killed {
            server.kill()
        } else {
            server.stop()
        }
        server.start_again(&[]);
    }
    job.snapshot();
    writer.stop();
    let mut root = server.session();
    job.until_same(0, &mut root, ALL);
}

#[test]
fn transfers_are_never_seen_by_half() {
    let server = Mysqld::start(&[]);
    let mut root = server.session();
    root.run("CREATE DATABASE db");
    root.run("CREATE TABLE db.account (id BIGINT PRIMARY KEY, balance BIGINT)");
    root.run("CREATE TABLE db.ledger (id BIGINT PRIMARY KEY AUTO_INCREMENT, account BIGINT, amount BIGINT)");
    let rows: Vec<String> = (0..2000).map(|i| format!("({i}, 100)")).collect();
    root.run(&format!("INSERT INTO db.account VALUES {}", rows.join(",")));
    let options = [("scan.incremental.snapshot.chunk.size", "150")];
    let account = table(&server, "db", "account", &[("id", SqlType::BigInt), ("balance", SqlType::BigInt)], &options);
    let ledger = [("id", SqlType::BigInt), ("account", SqlType::BigInt), ("amount", SqlType::BigInt)];
    let ledger = table(&server, "db", "ledger", &ledger, &options);
    let mut job = Job::start(&[account, ledger], "bank").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2u64)
        .map(|w| {
            let (stop, mut session) = (stop.clone(), server.session());
            std::thread::spawn(move || {
                let mut x = w * 7919 + 1;
                while !stop.load(Ordering::Relaxed) {
                    x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (from, to, amount) = ((x >> 33) % 2000, (x >> 13) % 2000, (x >> 50) % 30);
                    // Both in one order, so that they do not lock each other out.
                    let (a, b) = (from.min(to), from.max(to));
                    let sql = format!(
                        "BEGIN; UPDATE db.account SET balance = balance - {amount} WHERE id = {a};
                         INSERT INTO db.ledger (account, amount) VALUES ({a}, -{amount});
                         UPDATE db.account SET balance = balance + {amount} WHERE id = {b};
                         INSERT INTO db.ledger (account, amount) VALUES ({b}, {amount}); COMMIT"
                    );
                    if session.try_run(&sql).is_err() {
                        session.run("ROLLBACK");
                    }
                }
            })
        })
        .collect();
    let (mut looked, began) = (0, Instant::now());
    while looked < 300 {
        job.tick().unwrap_or_else(|e| panic!("{e}"));
        assert!(began.elapsed() < PATIENCE);
        if !job.is_done() {
            continue;
        }
        looked += 1;
        let numbers = |row: &String| row.split(" | ").map(|n| n.parse::<i64>().unwrap()).collect::<Vec<_>>();
        let accounts: Vec<_> = job.fold.of(0).iter().map(numbers).collect();
        assert_eq!(accounts.iter().map(|a| a[1]).sum::<i64>(), 200_000);
        // Joined: every account is what its ledger says.
        let mut balances = vec![100i64; 2000];
        job.fold.of(1).iter().map(numbers).for_each(|l| balances[l[1] as usize] += l[2]);
        assert!(accounts.iter().all(|a| balances[a[0] as usize] == a[1]), "half a transfer");
    }
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|w| w.join().unwrap());
}

#[test]
fn rows_that_become_visible_late_are_not_lost() {
    let seed = seed();
    let (server, mut root) = filled(&[], 2_000);
    // A semi-synchronous source without replica: what it commits is in the binlog, and visible only after the time-out.
    root.run("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'");
    root.run("SET GLOBAL rpl_semi_sync_source_timeout = 150");
    let stop = Arc::new(AtomicBool::new(false));
    let late = {
        let (stop, mut session) = (stop.clone(), server.session());
        std::thread::spawn(move || {
            let mut count = 0u64;
            while !stop.load(Ordering::Relaxed) {
                // It gives up after one time-out; then it is told to wait again.
                session.run("SET GLOBAL rpl_semi_sync_source_enabled = OFF");
                session.run("SET GLOBAL rpl_semi_sync_source_enabled = ON");
                let id = (count * 613 + 7) % 2_500;
                session.run(&format!("REPLACE INTO db.t VALUES ({id}, 1, 'late {count}')"));
                session.run(&format!("DELETE FROM db.t WHERE id = {}", (id * 31) % 2_500));
                count += 1;
            }
            count
        })
    };
    let writer = Writer::start(&Plan { threads: 1, ..plan(&server, seed) });
    let small = [("scan.incremental.snapshot.chunk.size", "50")];
    let mut job = Job::start(&[t(&server, &small)], "late").unwrap();
    job.snapshot();
    stop.store(true, Ordering::Relaxed);
    let late = late.join().unwrap();
    root.run("SET GLOBAL rpl_semi_sync_source_enabled = OFF");
    writer.stop();
    job.until_same(0, &mut root, ALL);
    assert!(late > 3, "only {late} late transactions");
}

/// A name that can be pointed at another server.
struct Name {
    port: u16,
    target: Arc<AtomicU16>,
    /// Connections made before this was raised carry nothing any more, and do not end.
    frozen: Arc<AtomicBool>,
    /// Bytes that servers may still send; the connection that sends more is cut, once.
    left: Arc<AtomicI64>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Name {
    fn of(server: &Mysqld) -> Name {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (target, open) = (Arc::new(AtomicU16::new(server.port())), Arc::new(Mutex::new(vec![])));
        let (frozen, left) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(i64::MAX)));
        let (to, list, cold, budget) = (target.clone(), open.clone(), frozen.clone(), left.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to.load(Ordering::Relaxed))) else { continue };
                // Those that come after a frost are warm.
                let cold = if cold.load(Ordering::Relaxed) { Arc::default() } else { cold.clone() };
                let ends = [client.try_clone().unwrap(), server.try_clone().unwrap()];
                list.lock().unwrap().extend(ends);
                for (mut from, mut into, is_server) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap(), false), (server, client, true)]
                {
                    let (cold, budget) = (cold.clone(), budget.clone());
                    std::thread::spawn(move || {
                        let mut buffer = [0; 16 * 1024];
                        while let Ok(n @ 1..) = from.read(&mut buffer) {
                            while cold.load(Ordering::Relaxed) {
                                std::thread::sleep(Duration::from_millis(20));
                            }
                            let is_over =
                                is_server && (0..n as i64).contains(&budget.fetch_sub(n as i64, Ordering::Relaxed));
                            if is_over || into.write_all(&buffer[..n]).is_err() {
                                break;
                            }
                        }
                        let _ = (into.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Name { port, target, frozen, left, open }
    }

    fn point_at(&self, server: &Mysqld) {
        self.target.store(server.port(), Ordering::Relaxed);
        for connection in self.open.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

/// What makes a server a replica of another one.
fn replicate(source: &Mysqld) -> String {
    format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, SOURCE_USER = 'root', \
         SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1; START REPLICA",
        source.port()
    )
}

/// Waits until the replica has all that its source has executed.
fn catch_up(at_replica: &mut Session, at_source: &mut Session) {
    let executed = at_source.value("SELECT @@GLOBAL.gtid_executed").replace('\n', "");
    at_replica.wait_for(&format!("SELECT GTID_SUBSET('{executed}', @@GLOBAL.gtid_executed)"), |v| v == "1");
}

#[test]
fn reading_goes_on_at_a_replica_by_gtid() {
    let seed = seed();
    let (source, mut root) = filled(&[], 2_000);
    let replica = Mysqld::start(&[]);
    let mut at_replica = replica.session();
    at_replica.run(&replicate(&source));
    let name = Name::of(&source);
    let port = name.port.to_string();
    let options = [("scan.incremental.snapshot.chunk.size", "40"), ("port", port.as_str())];
    let mut job = Job::start(&[t(&source, &options)], "moves").unwrap();
    let writer = Writer::start(&plan(&source, seed));
    for to in [&replica, &source, &replica] {
        for _ in 0..12 {
            job.tick().unwrap_or_else(|e| panic!("{e}"));
        }
        name.point_at(to);
    }
    job.snapshot();
    writer.stop();
    catch_up(&mut at_replica, &mut root);
    job.until_same(0, &mut root, ALL);
    let uuid = at_replica.value("SELECT @@server_uuid");
    assert_eq!(job.position.as_ref().unwrap().0["server"], uuid.as_str(), "it reads the replica");
}

#[test]
fn a_transaction_that_was_cut_is_read_on_at_a_replica_that_packs_it_otherwise() {
    let (source, mut root) = filled(&[], 10);
    // A few rows an event instead of hundreds.
    let replica = Mysqld::start(&["--binlog-row-event-max-size=256"]);
    let mut at_replica = replica.session();
    at_replica.run(&replicate(&source));
    let name = Name::of(&source);
    let port = name.port.to_string();
    let mut job = Job::start(&[t(&source, &[("port", port.as_str())])], "packed").unwrap();
    job.limits = (700, 1 << 20);
    job.snapshot();
    job.stop();
    root.run("SET SESSION cte_max_recursion_depth = 100000");
    root.run("INSERT INTO db.t WITH RECURSIVE n AS (SELECT 1000 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 6000) SELECT i, i, 'bulk' FROM n");
    root.run("UPDATE db.t SET n = n + 1 WHERE id >= 1000");
    catch_up(&mut at_replica, &mut root);
    // Each server reads on where the other was stopped.
    let mut moves = 0;
    for to in [&replica, &source].into_iter().cycle().take(40) {
        job.tick_of(1).unwrap_or_else(|e| panic!("{e}"));
        let is_within = job.position.as_ref().unwrap().0["within"].is_array();
        moves += usize::from(is_within);
        job.stop();
        name.point_at(to);
        if !is_within && moves > 0 {
            break;
        }
    }
    assert!(moves >= 5, "stopped only {moves} times within a transaction; at {:?}", job.position);
    job.until_same(0, &mut root, ALL);
}

#[test]
fn a_chunk_whose_changes_outgrow_their_limit_is_read_anew_and_smaller() {
    let server = Mysqld::start(&["--general-log=ON", "--log-output=TABLE"]);
    let mut root = server.session();
    root.run("CREATE DATABASE db");
    root.run("CREATE TABLE db.docs (id BIGINT PRIMARY KEY, doc LONGTEXT)");
    root.run("SET SESSION cte_max_recursion_depth = 100000");
    root.run("INSERT INTO db.docs WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 1500) SELECT i, 'small' FROM n");
    let docs = [("id", SqlType::BigInt), ("doc", SqlType::STRING)];
    let mut job = Job::start(&[table(&server, "db", "docs", &docs, &[])], "outgrown").unwrap();
    // What the chunk sees for sure is fixed before its first question, which waits for the lock.
    root.run("LOCK TABLES db.docs WRITE");
    let mut other = server.session();
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| job.snapshot());
        let waiting =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'Waiting for table metadata lock'";
        other.wait_for(waiting, |n| n == "1");
        root.run("UPDATE db.docs SET doc = CONCAT(id, REPEAT('x', 30000))");
        root.run("UNLOCK TABLES");
        reads.join().unwrap();
    });
    job.until_same(0, &mut root, "SELECT id, doc FROM db.docs");
    let reads =
        "SELECT COUNT(*) FROM mysql.general_log WHERE command_type = 'Execute' AND argument LIKE '%FORCE INDEX%'";
    let reads: u64 = root.value(reads).parse().unwrap();
    assert!(reads > 1, "no chunk was given up");
}

#[test]
fn a_connection_that_is_silent_is_a_lost_one() {
    let (server, mut root) = filled(&[], 10);
    let name = Name::of(&server);
    let port = name.port.to_string();
    let mut job = Job::start(&[t(&server, &[("port", port.as_str())])], "silent").unwrap();
    job.until_same(0, &mut root, ALL);
    name.frozen.store(true, Ordering::Relaxed);
    root.run("INSERT INTO db.t VALUES (100, 1, 'after the frost')");
    // Three heartbeats of 300 ms are missed; nothing else tells.
    job.until_same(0, &mut root, ALL);
}

#[test]
fn a_connection_that_is_lost_while_it_is_made_is_made_again() {
    let (server, mut root) = filled(&[], 10);
    let name = Name::of(&server);
    let port = name.port.to_string();
    let mut job = Job::start(&[t(&server, &[("port", port.as_str()), ("tls.mode", "required")])], "lost").unwrap();
    job.snapshot();
    // Within the greeting, the handshake of TLS, the login.
    for (id, bytes) in (100..).zip([0, 20, 60, 100, 150, 300, 700, 1200, 1800]) {
        name.left.store(bytes, Ordering::Relaxed);
        name.point_at(&server);
        root.run(&format!("INSERT INTO db.t VALUES ({id}, 1, 'x')"));
        job.until_same(0, &mut root, ALL);
        assert!(name.left.load(Ordering::Relaxed) < 0, "nothing was cut after {bytes} bytes");
    }
}

#[test]
fn a_connection_is_lost_within_a_compressed_transaction() {
    let server = Mysqld::start(&[]);
    let mut root = server.session();
    root.run("CREATE DATABASE db; SET SESSION binlog_transaction_compression = ON, cte_max_recursion_depth = 100000");
    root.run("CREATE TABLE db.docs (id BIGINT PRIMARY KEY, doc LONGTEXT)");
    let name = Name::of(&server);
    let port = name.port.to_string();
    let docs = [("id", SqlType::BigInt), ("doc", SqlType::STRING)];
    let mut job = Job::start(&[table(&server, "db", "docs", &docs, &[("port", port.as_str())])], "cut").unwrap();
    job.limits = (500, 1 << 20);
    job.snapshot();
    job.stop();
    // What is random stays large.
    root.run("INSERT INTO db.docs WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 4000) SELECT i, HEX(RANDOM_BYTES(1000)) FROM n");
    let cut = || name.left.store(1 << 20, Ordering::Relaxed);
    cut();
    job.tick_of(2).unwrap();
    assert!(name.left.load(Ordering::Relaxed) < 0, "nothing was cut");
    job.stop();
    let rows = job.fold.rows.len();
    assert!((1..4000).contains(&rows), "{rows} rows of a part");
    // And again while that part is skipped.
    cut();
    job.until_same(0, &mut root, "SELECT id, doc FROM db.docs");
    assert!(name.left.load(Ordering::Relaxed) < 0, "nothing was cut");
}

#[test]
fn lost_connections_are_counted_anew_behind_what_was_read_compressed() {
    let (server, mut root) = filled(&[], 10);
    let name = Name::of(&server);
    let port = name.port.to_string();
    // No heartbeat comes between,
    let options = [("port", port.as_str()), ("connect.max-retries", "3"), ("heartbeat.interval", "60 s")];
    let mut job = Job::start(&[t(&server, &options)], "counted").unwrap();
    job.snapshot();
    root.run("SET SESSION binlog_transaction_compression = ON");
    for id in 100..110 {
        // nor for transactions that the server passes by at the begin of a stream.
        root.run("FLUSH BINARY LOGS");
        name.point_at(&server);
        root.run(&format!("INSERT INTO db.t VALUES ({id}, 1, 'compressed')"));
        job.until_same(0, &mut root, ALL);
    }
}

#[test]
fn a_position_that_the_binlog_has_lost_is_an_error() {
    let (server, mut root) = filled(&[], 10);
    let mut job = Job::start(&[t(&server, &[])], "purged").unwrap();
    job.snapshot();
    job.stop();
    root.run("INSERT INTO db.t VALUES (100, 1, 'x')");
    root.run("FLUSH BINARY LOGS");
    let file = root.rows("SHOW BINARY LOG STATUS").remove(0).remove(0);
    root.run(&format!("PURGE BINARY LOGS TO '{file}'"));
    let e = job.error();
    assert!(!e.is_transient(), "{e}");
    let said = e.to_string();
    let uuid = root.value("SELECT @@server_uuid");
    assert!(said.contains("has purged") && said.contains(&uuid) && said.contains("--fresh"), "{said}");
    assert!(said.contains("binlog_expire_logs_seconds"), "{said}");
}

#[test]
fn a_reader_tells_for_how_long_the_server_keeps_what_it_has_not_read() {
    let tells = |job: &Job, what: &dyn Fn(Option<u64>) -> bool| {
        let began = Instant::now();
        while !what(job.status.purged_in_s()) {
            assert!(began.elapsed() < PATIENCE, "it tells {:?}", job.status.purged_in_s());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let (server, mut root) = filled(&[], 10);
    root.run("SET GLOBAL binlog_expire_logs_seconds = 7200");
    let mut job = Job::start(&[t(&server, &[])], "kept").unwrap();
    job.snapshot();
    root.run("INSERT INTO db.t VALUES (100, 1, 'x')");
    job.until_same(0, &mut root, ALL);
    tells(&job, &|left| left.is_some_and(|s| (7000..=7200).contains(&s)));

    // Behind by longer than the server promises to keep it.
    job.stop();
    root.run("INSERT INTO db.t VALUES (101, 1, 'x')");
    root.run("SET GLOBAL binlog_expire_logs_seconds = 1");
    root.run("SELECT SLEEP(2)");
    job.until_same(0, &mut root, ALL);
    tells(&job, &|left| left == Some(0));

    job.stop();
    root.run("SET GLOBAL binlog_expire_logs_auto_purge = OFF");
    root.run("INSERT INTO db.t VALUES (102, 1, 'x')");
    job.until_same(0, &mut root, ALL);
    tells(&job, &|left| left.is_none());
}

#[test]
fn a_server_that_lacks_what_was_read_is_an_error_that_lists_it() {
    let server = Mysqld::start(&[]);
    let other = Mysqld::start(&[]);
    for s in [&server, &other] {
        let mut root = s.session();
        root.run("CREATE DATABASE db");
        fill(&mut root, "db.t", Keys::Number, 10);
    }
    let name = Name::of(&server);
    let port = name.port.to_string();
    let options = [("port", port.as_str()), ("connect.timeout", "500 ms"), ("connect.max-retries", "1")];
    let mut job = Job::start(&[t(&server, &options)], "lacks").unwrap();
    job.snapshot();
    name.point_at(&other);
    let said = job.error().to_string();
    let read = server.session().value("SELECT @@GLOBAL.gtid_executed");
    assert!(said.contains(&format!("lacks transactions that were read before: {read}")), "{said}");
}

#[test]
fn wrong_settings_are_named_with_the_statement_that_cures() {
    let mut server = Mysqld::start(&[]);
    let mut root = server.session();
    root.run("CREATE DATABASE db");
    root.run("CREATE TABLE db.t (id BIGINT PRIMARY KEY, n INT, name VARCHAR(40))");
    let refused = |server: &Mysqld, said: &str, cure: &str| {
        let e = Job::start(&[t(server, &[])], "settings").err().expect(said);
        let text = e.to_string();
        assert!(!e.is_transient() && text.contains(said) && text.contains(cure), "{said}: {text}");
    };
    for (name, wrong, right) in [
        ("binlog_format", "STATEMENT", "ROW"),
        ("binlog_row_image", "MINIMAL", "FULL"),
        ("binlog_row_value_options", "PARTIAL_JSON", "''"),
    ] {
        root.run(&format!("SET GLOBAL {name} = {wrong}"));
        refused(&server, &format!("{name} = {wrong}"), &format!("SET PERSIST {name} = {right}"));
        root.run(&format!("SET GLOBAL {name} = {right}"));
    }
    for mode in ["ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF"] {
        root.run(&format!("SET GLOBAL gtid_mode = {mode}"));
        refused(&server, &format!("gtid_mode = {mode}"), "SET PERSIST gtid_mode = ON");
    }
    drop(root);
    server.stop();
    server.start_again(&["--skip-log-bin"]);
    refused(&server, "log_bin = OFF", "--log-bin");
    for (filters, cure) in [
        (&["--binlog-do-db=other"][..], "--binlog-do-db=db"),
        (&["--binlog-ignore-db=other", "--binlog-ignore-db=db"], "without --binlog-ignore-db=db"),
    ] {
        server.stop();
        server.start_again(filters);
        refused(&server, "keeps database db out of its binlog", cure);
    }
    server.stop();
    server.start_again(&["--binlog-do-db=other", "--binlog-do-db=db", "--binlog-ignore-db=db"]);
    let mut root = server.session();
    let mut job = Job::start(&[t(&server, &[])], "settings").unwrap();
    job.snapshot();
    root.run("INSERT INTO db.t VALUES (1, 1, 'logged')");
    job.until_same(0, &mut root, ALL);
}

#[test]
fn settings_of_the_server_change_no_value() {
    let server = Mysqld::start(&[
        "--default-time-zone=+05:00",
        "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE,IGNORE_SPACE,NO_UNSIGNED_SUBTRACTION",
        "--character-set-server=latin1",
        "--transaction-isolation=READ-UNCOMMITTED",
        "--autocommit=OFF",
        "--binlog-checksum=NONE",
    ]);
    let mut root = server.session();
    root.run("SET SESSION autocommit = ON");
    root.run("CREATE DATABASE db");
    root.run("CREATE TABLE db.t (id CHAR(12) PRIMARY KEY, name VARCHAR(40), at TIMESTAMP(3) NULL, clock DATETIME(3), n INT UNSIGNED)");
    let values = r"'2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789', 7)";
    let names = [r"back\slash", "double\"quote", "it''s", "pipe||", "ä€"];
    let rows = names.iter().enumerate().map(|(i, name)| format!("('k{i}', '{name}', {values}"));
    root.run(&format!("INSERT INTO db.t VALUES {}", rows.collect::<Vec<_>>().join(", ")));
    let columns = [
        ("id", SqlType::Char(12)),
        ("name", SqlType::STRING),
        ("at", SqlType::TimestampLtz(3)),
        ("clock", SqlType::Timestamp(3)),
        ("n", SqlType::BigInt),
    ];
    let small = [("scan.incremental.snapshot.chunk.size", "2")];
    let mut job = Job::start(&[table(&server, "db", "t", &columns, &small)], "odd").unwrap();
    job.snapshot();
    let selected = job.fold.of(0);
    assert_eq!(selected.len(), names.len());
    for (row, name) in selected.iter().zip(names) {
        let name = name.replace("''", "'");
        // The moment was written in the server's zone.
        let fits = row.contains(&format!(" | {name} | 2024-02-29T07:34:56.789")) && row.contains("T12:34:56.789");
        assert!(fits && row.starts_with('k') && !row.contains("  "), "{row}");
    }
    // Taken away by the log with the very values that the snapshot gave.
    for alters in [
        "UPDATE db.t SET n = n + 1",
        "DELETE FROM db.t",
        "INSERT INTO db.t VALUES ('k', 'k', NOW(3), NOW(3), 1)",
        // The log goes on in another file, with checksums.
        "SET GLOBAL binlog_checksum = CRC32",
        "INSERT INTO db.t VALUES ('l', 'l', NULL, NULL, 2)",
    ] {
        root.run(alters);
        job.until_same(0, &mut root, "SELECT TRIM(id), name, CONCAT(DATE_FORMAT(CONVERT_TZ(at, '+05:00', '+00:00'), '%Y-%m-%dT%H:%i:%s.'), LPAD(MICROSECOND(at) DIV 1000, 3, '0'), 'Z'), CONCAT(DATE_FORMAT(clock, '%Y-%m-%dT%H:%i:%s.'), LPAD(MICROSECOND(clock) DIV 1000, 3, '0')), n FROM db.t");
    }
}

#[test]
fn names_are_without_case_where_the_server_has_them_so() {
    let server = Mysqld::start(&["--lower-case-table-names=1", "--binlog-do-db=DB"]);
    let mut root = server.session();
    root.run("CREATE DATABASE Db");
    fill(&mut root, "DB.T", Keys::Number, 10);
    let mut job = Job::start(&[table(&server, "dB", "T", &columns(), &[])], "case").unwrap();
    job.snapshot();
    root.run("ALTER TABLE DB.T ADD COLUMN later INT FIRST");
    root.run("INSERT INTO Db.T (id, n, name) VALUES (100, 1, 'x')");
    root.run("DELETE FROM dB.t WHERE id < 5");
    job.until_same(0, &mut root, ALL);
    root.run("TRUNCATE TABLE DB.T");
    let e = job.error().to_string();
    assert!(e.contains("db.t was emptied") && e.contains("binlog binlog."), "{e}");
}

#[test]
fn what_a_session_sets_for_itself_is_noticed() {
    let server = Mysqld::start(&[]);
    for (setting, sql, said) in [
        ("binlog_row_image = MINIMAL", "UPDATE db.t SET name = 'z' WHERE id = 1", "binlog_row_image"),
        ("binlog_format = STATEMENT", "UPDATE db.t SET name = 'z' WHERE id = 1", "binlog_format"),
        ("binlog_row_value_options = PARTIAL_JSON", "UPDATE db.j SET doc = JSON_SET(doc, '$.a', 2)", "PARTIAL_JSON"),
    ] {
        let mut root = server.session();
        root.run("DROP DATABASE IF EXISTS db; CREATE DATABASE db");
        fill(&mut root, "db.t", Keys::Number, 10);
        root.run("CREATE TABLE db.j (id BIGINT PRIMARY KEY, doc JSON)");
        let long = "a long text, so that a part of the document is shorter than the whole of it";
        root.run(&format!(r#"INSERT INTO db.j VALUES (1, '{{"a": 1, "b": "{long}"}}')"#));
        let json = [("id", SqlType::BigInt), ("doc", SqlType::STRING)];
        let tables = [t(&server, &[]), table(&server, "db", "j", &json, &[])];
        let mut job = Job::start(&tables, "traps").unwrap();
        job.snapshot();
        root.run(&format!("SET SESSION {setting}"));
        root.run(sql);
        let e = job.error();
        assert!(!e.is_transient() && e.to_string().contains(said), "{setting}: {e}");
    }
}

// What is prepared is seen by every job that begins at its server: these tests have servers of their own.

#[test]
fn distributed_transactions_are_refused_if_they_hold_captured_rows() {
    let server = Mysqld::start(&[]);
    let mut root = server.session();
    root.run("CREATE DATABASE db; USE db");
    fill(&mut root, "db.t", Keys::Number, 10);
    root.run("CREATE TABLE other (a INT PRIMARY KEY)");
    let start = || Job::start(&[t(&server, &[])], "xa");
    let mut job = start().unwrap();
    job.snapshot();
    // Of another table: passed by, prepared and committed.
    root.run("XA START 'o'; INSERT INTO other VALUES (1); XA END 'o'; XA PREPARE 'o'");
    let e = start().err().expect("something is prepared").to_string();
    assert!(e.contains("prepared and not committed") && e.contains("6F"), "{e}");
    root.run("XA COMMIT 'o'");
    // Committed in one phase: as any other.
    root.run("XA START 'one'; INSERT INTO t VALUES (20, 1, 'one'); XA END 'one'; XA COMMIT 'one' ONE PHASE");
    job.until_same(0, &mut root, ALL);
    root.run("XA START 'two'; INSERT INTO t VALUES (21, 1, 'two'); XA END 'two'; XA PREPARE 'two'");
    let e = job.error().to_string();
    root.run("XA ROLLBACK 'two'");
    assert!(e.contains("distributed transaction") && e.contains("x'74776f'") && e.contains("binlog binlog."), "{e}");
}

#[test]
fn nothing_of_a_large_distributed_transaction_is_emitted() {
    let server = Mysqld::start(&[]);
    let mut root = server.session();
    root.run("CREATE DATABASE db; USE db; SET SESSION cte_max_recursion_depth = 100000");
    fill(&mut root, "db.t", Keys::Number, 10);
    let insert = |from: u64, to: u64| {
        format!(
            "INSERT INTO t WITH RECURSIVE n AS (SELECT {from} AS i UNION ALL SELECT i + 1 FROM n WHERE i < {to}) SELECT i, 1, 'x' FROM n"
        )
    };
    for compression in ["OFF", "ON"] {
        root.run(&format!("SET SESSION binlog_transaction_compression = {compression}"));
        root.run("TRUNCATE t");
        let mut job = Job::start(&[t(&server, &[])], "xa").unwrap();
        job.limits = (500, 4 << 20);
        job.snapshot();
        job.stop();
        // What came before it takes none of its room.
        root.run(&insert(1, 400));
        root.run(&format!("XA START 'fits'; {}; XA END 'fits'; XA COMMIT 'fits' ONE PHASE", insert(401, 700)));
        job.until_same(0, &mut root, ALL);
        job.stop();
        root.run(&format!("XA START 'large'; {}; XA END 'large'; XA PREPARE 'large'", insert(1001, 3000)));
        let mut error = None;
        while error.is_none() {
            // Piece by piece.
            error = job.tick_of(1).err();
        }
        root.run("XA ROLLBACK 'large'");
        let e = error.unwrap().to_string();
        assert!(e.contains("distributed transaction x'6c61726765'") && e.contains("binlog binlog."), "{e}");
        assert_eq!(job.fold.of(0).len(), 700, "{compression}");
    }
}

#[test]
fn rights_that_are_missing_are_named_with_the_grant_that_cures() {
    let (server, mut root) = filled(&[], 10);
    root.run("CREATE USER reader IDENTIFIED BY 'secret'");
    let options = [("username", "reader"), ("password", "secret")];
    let start = || Job::start(&[t(&server, &options)], "grants");
    let refused = |said: &str| {
        let e = start().err().expect(said);
        assert!(!e.is_transient() && e.to_string().contains(said), "{said}: {e}");
    };
    refused("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'reader'@'%'");
    root.run("GRANT REPLICATION CLIENT ON *.* TO reader");
    refused("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'reader'@'%'");
    root.run("GRANT REPLICATION SLAVE ON *.* TO reader");
    refused("GRANT SELECT ON `db`.`t` TO 'reader'@'%'");
    root.run("GRANT SELECT ON db.t TO reader");
    let mut job = start().unwrap_or_else(|e| panic!("{e}"));
    job.until_same(0, &mut root, ALL);
}

#[test]
fn every_reader_has_a_number_of_its_own() {
    let (server, _) = filled(&[], 10);
    let start = |ids: &str, name: &str| {
        let mut job = Job::start(&[t(&server, &[("server-id", ids)])], name).unwrap();
        job.tick().map(|_| job)
    };
    let first = start("7001-7002", "one").unwrap();
    let second = start("7001-7002", "two").unwrap();
    let e = start("7001-7002", "three").err().expect("no number is left");
    assert!(e.to_string().contains("every number of 'server-id' = '7001-7002' is taken"), "{e}");
    drop((first, second));
    // Free again, once the server has noticed.
    let began = Instant::now();
    while let Err(e) = start("7001", "four") {
        assert!(began.elapsed() < PATIENCE, "{e}");
    }
}

#[test]
fn two_readers_with_one_identity_do_not_take_turns_unnoticed() {
    let (server, mut root) = filled(&[], 10);
    let tables = [t(&server, &[])];
    let mut first = Job::start(&tables, "copied").unwrap();
    first.snapshot();
    let mut second = Job::start(&tables, "copied").unwrap();
    second.snapshot();
    let e = first.error();
    assert!(!e.is_transient() && e.to_string().contains("another reader has taken this one's place"), "{e}");
    root.run("INSERT INTO db.t VALUES (50, 1, 'on')");
    second.until_same(0, &mut root, ALL);
}
