//! A transaction of MySQL is seen whole or not at all, through the whole engine, also while it is killed and restarted:
//! money moves between accounts, and each movement is a line of a ledger, in one transaction over both tables. What a
//! query over one or both tables writes is right in every row from the tick on that completes the snapshot.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use support::files::newest_checkpoint;
use support::kafka::{Job, Kafka};
use support::mysqld::{Mysqld, Session};

const PATIENCE: Duration = Duration::from_secs(90);
const ACCOUNTS: i64 = 2_000;
const BALANCE: i64 = 100;
/// Rows that must be seen behind the snapshot before the test has seen enough.
const LOOKS: usize = 60;
const KILLS: usize = 8;

/// Accounts with an opening line of the ledger each. Lines are numbered by account.
fn open(root: &mut Session) {
    root.run("CREATE DATABASE bank");
    root.run("CREATE TABLE bank.account (id BIGINT PRIMARY KEY, balance BIGINT, movements BIGINT)");
    root.run("CREATE TABLE bank.ledger (account BIGINT, line BIGINT, amount BIGINT, PRIMARY KEY (account, line))");
    let of_all = |row: &dyn Fn(i64) -> String| (0..ACCOUNTS).map(row).collect::<Vec<_>>().join(",");
    let accounts = of_all(&|i| format!("({i}, {BALANCE}, 1)"));
    root.run(&format!("INSERT INTO bank.account VALUES {accounts}"));
    let lines = of_all(&|i| format!("({i}, 1, {BALANCE})"));
    root.run(&format!("INSERT INTO bank.ledger VALUES {lines}"));
}

/// Moves money until it is told to stop: some transactions make several transfers, some are rolled back.
fn clerk(mut session: Session, seed: u64, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut random = SmallRng::seed_from_u64(seed);
        while !stop.load(Ordering::Relaxed) {
            let mut sql = "BEGIN".to_owned();
            for _ in 0..random.random_range(1..4) {
                let (from, to) = (random.random_range(0..ACCOUNTS), random.random_range(0..ACCOUNTS));
                let amount = random.random_range(1..50);
                for (account, amount) in [(from, -amount), (to, amount)] {
                    sql += &format!(
                        "; UPDATE bank.account SET balance = balance + {amount}, movements = movements + 1 WHERE id = {account}
                         ; INSERT INTO bank.ledger SELECT id, movements, {amount} FROM bank.account WHERE id = {account}"
                    );
                }
            }
            sql += if random.random_range(0..8) == 0 { "; ROLLBACK" } else { "; COMMIT" };
            // Two clerks may lock each other out: then the transaction did not happen.
            if session.try_run(&sql).is_err() {
                session.run("ROLLBACK");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

/// Every row that was ever written, in order.
fn shown(kafka: &Kafka, topic: &str) -> Vec<Value> {
    let event = |text: Option<String>| serde_json::from_str::<Value>(&text.expect("a value")).expect("JSON");
    let after = kafka.read(topic).into_iter().map(|m| event(m.value)["after"].take());
    after.filter(|row| !row.is_null()).collect()
}

/// How many rows there are from the first on of which `complete` holds, each of which must be right.
fn looks(rows: &[Value], what: &str, complete: impl Fn(&Value) -> bool, right: impl Fn(&Value) -> bool) -> usize {
    let first = rows.iter().position(complete).unwrap_or(rows.len());
    if let Some(half) = rows[first..].iter().find(|r| !right(r)) {
        panic!("{what}: half a transaction was seen: {half}");
    }
    rows.len() - first
}

#[test]
fn transfers_are_never_seen_by_half_in_what_is_written() {
    let seed = support::seed();
    let mut random = SmallRng::seed_from_u64(seed);
    let (server, kafka) = (Mysqld::start(&[]), Kafka::start(&[]));
    open(&mut server.session());
    let (sums, books) = (kafka.topic("sums", 1, &[]), kafka.topic("books", 1, &[]));
    let chunks = "'scan.incremental.snapshot.chunk.size' = '150'";
    let sink = "'format' = 'debezium-json'";
    let job = Job::new(&format!(
        "CREATE TABLE account (id BIGINT, balance BIGINT, movements BIGINT, PRIMARY KEY (id) NOT ENFORCED) {};
         CREATE TABLE ledger (account BIGINT, line BIGINT, amount BIGINT, PRIMARY KEY (account, line) NOT ENFORCED) {};
         CREATE TABLE sums (accounts BIGINT, total BIGINT, movements BIGINT) {};
         CREATE TABLE books (accounts BIGINT, wrong BIGINT, total BIGINT, movements BIGINT, line_count BIGINT) {};
         EXECUTE STATEMENT SET BEGIN
           INSERT INTO sums SELECT COUNT(*), SUM(balance), SUM(movements) FROM account;
           INSERT INTO books
             SELECT COUNT(*), SUM(CASE WHEN a.balance = l.total THEN 0 ELSE 1 END), SUM(l.total), SUM(a.movements), SUM(l.line_count)
             FROM account a JOIN (
               SELECT account, SUM(amount) AS total, COUNT(*) AS line_count FROM ledger GROUP BY account
             ) l ON a.id = l.account;
         END;",
        server.with("bank", "account", chunks),
        server.with("bank", "ledger", chunks),
        kafka.with(&sums, sink),
        kafka.with(&books, sink),
    ));
    let stop = Arc::new(AtomicBool::new(false));
    let clerks: Vec<_> = (1..3).map(|c| clerk(server.session(), seed ^ c, stop.clone())).collect();

    // Once all accounts are there the sum is one constant. The lines come by account as the accounts do: once no account
    // differs from its lines, both tables are there, and none may differ again.
    let all = |row: &Value| row["accounts"] == ACCOUNTS;
    let whole = |row: &Value| all(row) && row["total"] == ACCOUNTS * BALANCE;
    let balanced = |row: &Value| whole(row) && row["wrong"] == 0 && row["movements"] == row["line_count"];
    let seen = || {
        let sums = looks(&shown(&kafka, &sums), "the sum of all accounts", all, whole);
        let books = shown(&kafka, &books);
        (sums, looks(&books, "accounts and their lines", |r| all(r) && r["wrong"] == 0, balanced))
    };
    for life in 0..KILLS {
        let before = newest_checkpoint(&job.dir());
        let mut engine = job.run(life % 3 + 1).start();
        engine.wait_until("checkpoints", |_| newest_checkpoint(&job.dir()) > before + 2);
        // The moment is what is tested.
        std::thread::sleep(Duration::from_millis(random.random_range(0..300)));
        assert!(engine.kill(), "life {life}: the engine had ended\n{}", engine.stderr_so_far());
        seen();
    }
    let mut engine = job.run(2).start();
    let began = Instant::now();
    loop {
        let (sums, books) = seen();
        if sums > LOOKS && books > LOOKS {
            println!("{sums} sums and {books} comparisons of both tables behind the snapshot");
            break;
        }
        let stuck = !engine.is_running() || began.elapsed() > PATIENCE;
        assert!(!stuck, "{sums} sums, {books} comparisons\n{}", engine.stderr_so_far());
        std::thread::sleep(Duration::from_millis(100));
    }
    stop.store(true, Ordering::Relaxed);
    clerks.into_iter().for_each(|c| c.join().expect("a clerk does not panic"));
    // In the end everything is there, and it is what MySQL has.
    let movements = server.session().value("SELECT SUM(movements) FROM bank.account");
    let movements: i64 = movements.parse().expect("a number");
    let arrived = |topic: &str| shown(&kafka, topic).last().is_some_and(|r| r["movements"] == movements);
    assert!(engine.wait_until("all movements", |_| arrived(&sums) && arrived(&books)), "{}", engine.stderr_so_far());
    seen();
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
}

/// A transaction changes every account, and takes several pieces of the stream; many of them wait.
#[test]
fn large_transactions_of_a_backlog_are_never_seen_by_half() {
    let (server, kafka) = (Mysqld::start(&[]), Kafka::start(&[]));
    let mut root = server.session();
    root.run("CREATE DATABASE bank; USE bank");
    root.run("CREATE TABLE account (id BIGINT PRIMARY KEY, balance BIGINT, movements BIGINT, note TEXT)");
    let rows: Vec<String> = (0..ACCOUNTS).map(|i| format!("({i}, {BALANCE}, 1, '')")).collect();
    root.run(&format!("INSERT INTO account VALUES {}", rows.join(",")));
    let sums = kafka.topic("sums", 1, &[]);
    let job = Job::new(&format!(
        "CREATE TABLE account (id BIGINT, balance BIGINT, movements BIGINT, note STRING, PRIMARY KEY (id) NOT ENFORCED) {};
         CREATE TABLE sums (accounts BIGINT, total BIGINT, movements BIGINT, notes BIGINT) {};
         INSERT INTO sums SELECT COUNT(*), SUM(balance), SUM(movements), COUNT(note) FROM account;",
        server.with("bank", "account", ""),
        kafka.with(&sums, "'format' = 'debezium-json'"),
    ));
    let mut engine = job.run(2).start();
    let accounts = |rows: Vec<Value>| rows.last().is_some_and(|r| r["accounts"] == ACCOUNTS);
    assert!(engine.wait_until("snapshot", |_| accounts(shown(&kafka, &sums))), "{}", engine.stderr_so_far());
    engine.kill();
    let transactions = 24;
    for _ in 0..transactions {
        // What even accounts get the odd ones give.
        root.run(
            "UPDATE account SET balance = balance + IF(id % 2 = 0, 7, -7), movements = movements + 1, note = REPEAT('x', 2000)",
        );
    }
    let mut engine = job.run(2).start();
    let movements = ACCOUNTS * (transactions + 1);
    let last = |rows: Vec<Value>| rows.last().is_some_and(|r| r["movements"] == movements);
    assert!(engine.wait_until("all movements", |_| last(shown(&kafka, &sums))), "{}", engine.stderr_so_far());
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    for row in shown(&kafka, &sums).iter().filter(|r| r["accounts"] == ACCOUNTS) {
        let whole = row["total"] == ACCOUNTS * BALANCE && row["movements"].as_i64().is_some_and(|m| m % ACCOUNTS == 0);
        assert!(whole, "half a transaction was seen: {row}\n{ended}");
    }
}
