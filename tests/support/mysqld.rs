//! Real MySQL servers, started and stopped by `scripts/servers/mysql`, and sessions at them by a driver that is not ours.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};
use tokio::runtime::Runtime;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of its own, with a data folder of its own, on a free port. Killed and removed when this is dropped, and also
/// when the test's process ends in another way.
pub struct Mysqld {
    folder: PathBuf,
    port: u16,
}

fn script() -> Command {
    // Also for tests of crates within the tree.
    let places = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|p| p.join("scripts/servers/mysql"));
    let script = places.into_iter().find(|p| p.is_file());
    Command::new(script.expect("scripts/servers/mysql is in the tree"))
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("scripts/servers/mysql can be started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Mysqld {
    /// With further options of `mysqld`.
    pub fn start(options: &[&str]) -> Mysqld {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("mysql-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut server = Mysqld { folder: std::env::temp_dir().join(name), port: 0 };
        // What is written survives the death of the process without waiting for the disk.
        let fast = ["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"];
        server.start_again(&fast.iter().chain(options).copied().collect::<Vec<_>>());
        server
    }

    /// After `stop` or `kill`: the same data on the same port; without options those of the last start.
    pub fn start_again(&mut self, options: &[&str]) {
        let owner = std::process::id().to_string();
        let mut start = script();
        start.arg("start").arg(&self.folder).args(["--owner", &owner, "--scratch"]).args(options);
        let address = succeeds(&mut start);
        let port = address.trim().rsplit(':').next().and_then(|p| p.parse().ok());
        self.port = port.unwrap_or_else(|| panic!("no port in {address:?}"));
    }

    /// In order.
    pub fn stop(&self) {
        succeeds(script().arg("stop").arg(&self.folder));
    }

    /// `kill -9`.
    pub fn kill(&self) {
        succeeds(script().arg("kill").arg(&self.folder));
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// As root, who has no password.
    pub fn session(&self) -> Session {
        Session::connect(self.port, "root", "").unwrap_or_else(|e| panic!("port {}: {e}", self.port))
    }

    /// The options with which a table of this server is declared.
    pub fn with(&self, database: &str, table: &str, more: &str) -> String {
        format!(
            "WITH ('connector' = 'mysql-cdc', 'hostname' = '127.0.0.1', 'port' = '{}', 'username' = 'root', \
             'database-name' = '{database}', 'table-name' = '{table}', 'heartbeat.interval' = '500 ms'{}{more})",
            self.port,
            if more.is_empty() { "" } else { ", " }
        )
    }
}

impl Drop for Mysqld {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of the server's log:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"));
        }
        let _ = script().arg("kill").arg(&self.folder).output();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A session at a server.
pub struct Session {
    runtime: Runtime,
    conn: Option<Conn>,
}

impl Session {
    pub fn connect(port: u16, user: &str, password: &str) -> Result<Session, mysql_async::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(port)
            .user(Some(user))
            .pass(Some(password))
            .prefer_socket(false);
        let conn = runtime.block_on(Conn::new(options))?;
        Ok(Session { runtime, conn: Some(conn) })
    }

    pub fn try_run(&mut self, sql: &str) -> Result<(), mysql_async::Error> {
        let conn = self.conn.as_mut().expect("it is open");
        self.runtime.block_on(conn.query_drop(sql))
    }

    /// One statement, or several with semicolons between them.
    pub fn run(&mut self, sql: &str) {
        self.try_run(sql).unwrap_or_else(|e| panic!("{e}: {sql}"));
    }

    /// Every row as texts; NULL is `NULL`.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        let conn = self.conn.as_mut().expect("it is open");
        let rows: Vec<Row> = self.runtime.block_on(conn.query(sql)).unwrap_or_else(|e| panic!("{e}: {sql}"));
        let text = |v: Value| match v {
            Value::NULL => "NULL".to_owned(),
            Value::Bytes(b) => String::from_utf8_lossy(&b).into_owned(),
            other => other.as_sql(true),
        };
        rows.into_iter().map(|r| r.unwrap().into_iter().map(text).collect()).collect()
    }

    pub fn value(&mut self, sql: &str) -> String {
        let rows = self.rows(sql);
        rows.into_iter().next().and_then(|r| r.into_iter().next()).unwrap_or_else(|| panic!("no row: {sql}"))
    }

    /// Waits until a value is as wanted.
    pub fn wait_for(&mut self, sql: &str, wanted: impl Fn(&str) -> bool) {
        let began = Instant::now();
        loop {
            let value = self.value(sql);
            if wanted(&value) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{sql} is still {value}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            let _ = self.runtime.block_on(conn.disconnect());
        }
    }
}
