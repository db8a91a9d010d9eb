//! A mad writer: transactions of inserts, updates, deletes, changes of keys and bulk statements over one table, several at
//! once, some rolled back, on one or more threads.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::mysqld::Session;

/// How a table's keys are made of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// `id BIGINT`.
    Number,
    /// `id VARCHAR(40) COLLATE utf8mb4_0900_ai_ci`: with accents and in both cases.
    Text,
    /// `(id VARCHAR(40) COLLATE utf8mb4_0900_ai_ci, at DATETIME(3))`: texts that differ in case and accents only.
    TextAndTime,
}

impl Keys {
    pub fn columns(self) -> &'static str {
        match self {
            Keys::Number => "id BIGINT, n INT, name VARCHAR(40), PRIMARY KEY (id)",
            Keys::Text => "id VARCHAR(40) COLLATE utf8mb4_0900_ai_ci, n INT, name VARCHAR(40), PRIMARY KEY (id)",
            Keys::TextAndTime => {
                "id VARCHAR(40) COLLATE utf8mb4_0900_ai_ci, at DATETIME(3), n INT, name VARCHAR(40), PRIMARY KEY (id, at)"
            }
        }
    }

    /// Names of the key's columns.
    pub fn names(self) -> &'static str {
        if self == Keys::TextAndTime { "id, at" } else { "id" }
    }

    /// The key of a number, as SQL values. Spread all over the order.
    pub fn of(self, number: u64) -> String {
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match self {
            Keys::Number => format!("{}", number as i64),
            Keys::Text => {
                let letters = ["a", "B", "ä", "Ö", "e", "É", "ß", "z", "Z", "ñ"];
                let first = letters[(spread >> 60) as usize % letters.len()];
                let second = letters[(spread >> 52) as usize % letters.len()];
                format!("'{first}{second}-{number}'")
            }
            Keys::TextAndTime => {
                let words = ["alpha", "Alpha", "älpha", "ALPHA", "beta", "Beta", "bêta", "gamma"];
                let word = words[(spread >> 58) as usize % words.len()];
                format!("'{word}', '2024-01-01 00:00:00.000' + INTERVAL {number}00 * 1000 MICROSECOND")
            }
        }
    }

    /// `WHERE` for a number.
    pub fn is(self, number: u64) -> String {
        match self {
            Keys::TextAndTime => {
                let key = self.of(number);
                let (id, at) = key.split_once(", ").expect("two parts");
                format!("id = {id} AND at = {at}")
            }
            _ => format!("id = {}", self.of(number)),
        }
    }

    /// `SET` of the key to itself in the other case; numbers have none.
    pub fn set_case(self) -> &'static str {
        match self {
            Keys::Number => "id = id",
            _ => "id = IF(BINARY id = BINARY UPPER(id), LOWER(id), UPPER(id))",
        }
    }

    /// `SET` of the key to that of another number.
    pub fn set(self, number: u64) -> String {
        match self {
            Keys::TextAndTime => {
                let key = self.of(number);
                let (id, at) = key.split_once(", ").expect("two parts");
                format!("id = {id}, at = {at}")
            }
            _ => format!("id = {}", self.of(number)),
        }
    }
}

/// Fills a table with the keys of `0 .. rows`.
pub fn fill(session: &mut Session, table: &str, keys: Keys, rows: u64) {
    session.run(&format!("CREATE TABLE {table} ({})", keys.columns()));
    let mut from = 0;
    while from < rows {
        let to = rows.min(from + 5_000);
        let values: Vec<String> = (from..to).map(|i| format!("({}, {}, 'row {i}')", keys.of(i), i % 1000)).collect();
        session.run(&format!("INSERT INTO {table} VALUES {}", values.join(",")));
        from = to;
    }
}

/// Writes until it is stopped; threads write to disjoint and to common keys.
pub struct Writer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Transactions that were tried.
    pub transactions: Arc<AtomicU64>,
}

/// What a writer does.
#[derive(Debug, Clone)]
pub struct Plan {
    pub port: u16,
    pub table: String,
    pub keys: Keys,
    /// Numbers of keys are below.
    pub numbers: u64,
    pub threads: u64,
    /// Between two transactions of a thread.
    pub pause: Duration,
    pub seed: u64,
}

impl Writer {
    pub fn start(plan: &Plan) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let transactions = Arc::new(AtomicU64::new(0));
        let threads = (0..plan.threads)
            .map(|thread| {
                let (plan, stop, count) = (plan.clone(), stop.clone(), transactions.clone());
                std::thread::spawn(move || write(&plan, thread, &stop, &count))
            })
            .collect();
        Writer { stop, threads, transactions }
    }

    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a writer does not panic");
        }
        self.transactions.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn write(plan: &Plan, thread: u64, stop: &AtomicBool, count: &AtomicU64) {
    let mut random = SmallRng::seed_from_u64(plan.seed ^ (thread + 1).wrapping_mul(0x51ed_270b));
    let mut session: Option<Session> = None;
    while !stop.load(Ordering::Relaxed) {
        // The server may be away for a while.
        let Some(open) = &mut session else {
            session = Session::connect(plan.port, "root", "").ok();
            if session.is_none() {
                std::thread::sleep(Duration::from_millis(20));
            }
            continue;
        };
        if transaction(plan, &mut random, open).is_err() {
            // A deadlock, a key that is there already, a dead server: the transaction did not happen.
            if open.try_run("ROLLBACK").is_err() {
                session = None;
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
        if !plan.pause.is_zero() {
            std::thread::sleep(plan.pause);
        }
    }
}

fn transaction(plan: &Plan, random: &mut SmallRng, session: &mut Session) -> Result<(), mysql_async::Error> {
    let Plan { table, keys, .. } = plan;
    session.try_run("BEGIN")?;
    for _ in 0..random.random_range(1..6) {
        let number = random.random_range(0..plan.numbers);
        let other = random.random_range(0..plan.numbers);
        let n = random.random_range(0..1000);
        let sql = match random.random_range(0..100) {
            0..30 => format!("UPDATE {table} SET n = n + 1, name = 'changed {n}' WHERE {}", keys.is(number)),
            30..50 => format!("REPLACE INTO {table} VALUES ({}, {n}, 'replaced')", keys.of(number)),
            50..65 => format!("INSERT IGNORE INTO {table} VALUES ({}, {n}, NULL)", keys.of(number)),
            65..78 => format!("DELETE FROM {table} WHERE {}", keys.is(number)),
            78..86 => format!("UPDATE IGNORE {table} SET {} WHERE {}", keys.set(other), keys.is(number)),
            86..90 => format!("UPDATE {table} SET {}, n = n + 1 WHERE {}", keys.set_case(), keys.is(number)),
            90..94 => format!("UPDATE {table} SET n = n + 1 WHERE n BETWEEN {n} AND {}", n + 2),
            94..96 => format!("DELETE FROM {table} WHERE n = {n} LIMIT 40"),
            96..98 => {
                let rows: Vec<String> = (0..200u64)
                    .map(|i| format!("({}, {n}, 'bulk')", keys.of((number + i * 37) % plan.numbers)))
                    .collect();
                format!("INSERT IGNORE INTO {table} VALUES {}", rows.join(","))
            }
            _ => format!("UPDATE {table} SET name = LOWER(name), n = n + 1 WHERE n = {n}"),
        };
        session.try_run(&sql)?;
    }
    match random.random_range(0..10) {
        0 => session.try_run("ROLLBACK"),
        1 => {
            session.try_run("SAVEPOINT here")?;
            session.try_run(&format!(
                "UPDATE {table} SET n = -1 WHERE {}",
                keys.is(random.random_range(0..plan.numbers))
            ))?;
            session.try_run("ROLLBACK TO here")?;
            session.try_run("COMMIT")
        }
        _ => session.try_run("COMMIT"),
    }
}
