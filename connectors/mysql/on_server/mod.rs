//! Tests of bytes and values on a real MySQL: what it selects, what it logs, and what it shows are the same.
//!
//! One server serves all tests of a run; it ends with the process.

mod charsets;
mod events;
mod keys;
mod values;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::testing::{PATIENCE, server_options};
use crate::wire::Conn;
use crate::wire::tls::Tls;

/// The server's port.
fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/servers/mysql");
        let owner = std::process::id().to_string();
        let folder = folder();
        let mut start = Command::new(script);
        start.arg("start").arg(&folder).args(["--owner", &owner, "--scratch"]);
        start.args(["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2", "--max-allowed-packet=64M"]);
        let output = start.output().expect("scripts/servers/mysql can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let address = String::from_utf8_lossy(&output.stdout).into_owned();
        address.trim().rsplit(':').next().and_then(|p| p.parse().ok()).expect("the script prints the address")
    })
}

fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("mysql-values-{}", std::process::id()))
}

/// A session at the server.
struct Session {
    conn: Conn,
}

impl Session {
    async fn open() -> Session {
        let options = server_options(port());
        let tls = Tls::new(&options.tls).expect("no certificates are needed");
        let mut conn = Conn::connect(&options.login, &tls, PATIENCE, PATIENCE).await.expect("the server is there");
        conn.execute("SET NAMES utf8mb4, sql_mode='', time_zone='+00:00'").await.expect("the session is set up");
        Session { conn }
    }

    async fn run(&mut self, sql: &str) {
        self.conn.execute(sql).await.unwrap_or_else(|e| panic!("{e}: {}", &sql[..sql.len().min(500)]));
    }

    async fn rows(&mut self, sql: &str) -> Vec<Vec<Option<Vec<u8>>>> {
        self.conn.query(sql).await.unwrap_or_else(|e| panic!("{e}: {sql}"))
    }

    /// The same, as texts; NULL is `NULL`.
    async fn texts(&mut self, sql: &str) -> Vec<Vec<String>> {
        let text = |v: Option<Vec<u8>>| v.map_or("NULL".to_owned(), |b| String::from_utf8_lossy(&b).into_owned());
        self.rows(sql).await.into_iter().map(|r| r.into_iter().map(text).collect()).collect()
    }

    async fn value(&mut self, sql: &str) -> String {
        self.texts(sql).await[0][0].clone()
    }

    /// A new file of the log; its name.
    async fn new_file(&mut self) -> String {
        self.run("FLUSH BINARY LOGS").await;
        self.value("SHOW BINARY LOG STATUS").await
    }

    /// All events from the begin of a file to the end of the log.
    async fn events_from(file: &str) -> Vec<Vec<u8>> {
        let mut session = Session::open().await;
        session.run("SET @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32'").await;
        let server_id = 1_000_000 + std::process::id();
        session.conn.register_replica(server_id).await.expect("a replica may register");
        let mut stream = session.conn.dump_file(server_id, file).await.expect("the log can be read");
        let mut events = vec![];
        while let Some(event) = stream.next().await.expect("the stream ends in order") {
            events.push(event.to_vec());
        }
        events
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts").block_on(future)
}
