//! A MySQL server as the source sees it: connections with their session settings, what the server says of itself, and
//! its errors with what to do about them.

use std::time::Duration;

use thalweg_core::error::ErrorCode;
use thalweg_core::{Error, Result};

use crate::gtid::GtidSet;
use crate::key::quote_name;
use crate::options::ServerOptions;
use crate::wire::tls::Tls;
use crate::wire::{Conn, TextRow, WireError};

/// What `failed` is told of a connection that does not come about.
const CONNECTING: &str = "connecting";
/// The longest silence within the answer to a statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);

/// A server that can be connected to.
#[derive(Clone)]
pub struct Server {
    pub options: ServerOptions,
    tls: Tls,
}

/// What a server says of itself at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    pub uuid: String,
    pub server_id: u32,
    /// Transactions that are visible to a SELECT that begins now.
    pub executed: GtidSet,
    /// Transactions whose events the log does not have any more.
    pub purged: GtidSet,
    /// The end of the log: everything that is visible is before it.
    pub end: LogPosition,
}

/// What `SHOW BINARY LOG STATUS` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    pub end: LogPosition,
    /// `--binlog-do-db`: if there are some, no other databases are in the log.
    pub only: Vec<String>,
    /// `--binlog-ignore-db`: databases that are not in the log. Of no effect if `only` has some.
    pub without: Vec<String>,
}

/// A place in a server's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPosition {
    pub file: String,
    pub pos: u64,
}

impl LogPosition {
    /// Whether this place is at or behind `other` in the log of one server. Files are numbered; beyond 999999 with more
    /// digits.
    pub fn has_reached(&self, other: &LogPosition) -> bool {
        let number = |file: &str| {
            let digits = file.rsplit('.').next().unwrap_or_default();
            (digits.len(), digits.to_owned())
        };
        match number(&self.file).cmp(&number(&other.file)) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => self.pos >= other.pos,
            std::cmp::Ordering::Greater => true,
        }
    }
}

impl std::fmt::Display for LogPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.pos)
    }
}

impl Server {
    pub fn new(options: ServerOptions) -> Result<Self> {
        let tls = Tls::new(&options.tls)?;
        Ok(Server { options, tls })
    }

    /// `db1:3306`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.options.login.host, self.options.login.port)
    }

    /// A connection for questions.
    pub async fn connect(&self) -> Result<Conn> {
        let connected = Conn::connect(&self.options.login, &self.tls, self.options.connect_timeout, STATEMENT_TIMEOUT);
        let mut conn = connected.await.map_err(|e| self.failed(CONNECTING, e))?;
        // Statements of ours must mean the same whatever the server's defaults are.
        let settings = "SET SESSION sql_mode='', time_zone='+00:00', autocommit=1, transaction_read_only=1, \
             transaction_isolation='REPEATABLE-READ', wait_timeout=28800, net_write_timeout=600";
        conn.execute(settings).await.map_err(|e| self.failed("setting up the session", e))?;
        Ok(conn)
    }

    /// A connection that reads chunks: it gives every value as the binlog would.
    pub async fn connect_for_snapshot(&self) -> Result<Conn> {
        let mut conn = self.connect().await?;
        // Text comes in the bytes of its column, not in those of a connection.
        let settings = "SET SESSION character_set_results=NULL, max_execution_time=0, sql_big_selects=1";
        conn.execute(settings).await.map_err(|e| self.failed("setting up the session", e))?;
        Ok(conn)
    }

    pub async fn query(&self, conn: &mut Conn, sql: &str) -> Result<Vec<TextRow>> {
        conn.query(sql).await.map_err(|e| self.failed(sql, e))
    }

    /// The only value of an answer, as text.
    pub async fn value(&self, conn: &mut Conn, sql: &str) -> Result<Option<String>> {
        let rows = self.query(conn, sql).await?;
        Ok(rows.into_iter().next().and_then(|r| r.into_iter().next().flatten()).map(text))
    }

    /// The end of the log, which is read after what is visible: then it is behind all of it.
    pub async fn end_of_log(&self, conn: &mut Conn) -> Result<LogPosition> {
        Ok(self.log_status(conn).await?.end)
    }

    pub async fn log_status(&self, conn: &mut Conn) -> Result<LogStatus> {
        let rows = match conn.query("SHOW BINARY LOG STATUS").await {
            // Before 8.2 by another name.
            Err(WireError::Server { code: code::PARSE_ERROR, .. }) => conn.query("SHOW MASTER STATUS").await,
            other => other,
        };
        let rows = rows.map_err(|e| self.failed("SHOW BINARY LOG STATUS", e))?;
        // File, position, databases that are logged, databases that are not.
        let Some([Some(file), Some(pos), only, without, ..]) = rows.first().map(Vec::as_slice) else {
            return Err(Error::new(ErrorCode::Access, format!("MySQL {} writes no binlog", self.address()))
                .note("start it with --log-bin (log_bin cannot be set while it runs)"));
        };
        let pos = text(pos.clone()).parse().map_err(|_| Error::io("SHOW BINARY LOG STATUS gives no position"))?;
        let names = |list: &Option<Vec<u8>>| {
            let list = text(list.clone().unwrap_or_default());
            list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let end = LogPosition { file: text(file.clone()), pos };
        Ok(LogStatus { end, only: names(only), without: names(without) })
    }

    pub async fn state(&self, conn: &mut Conn) -> Result<ServerState> {
        let sql = "SELECT @@GLOBAL.server_uuid, @@GLOBAL.server_id, @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged";
        let rows = self.query(conn, sql).await?;
        let Some([Some(uuid), Some(server_id), Some(executed), Some(purged)]) = rows.first().map(Vec::as_slice) else {
            return Err(Error::io(format!("MySQL {} does not say what it has executed", self.address())));
        };
        let set = |bytes: &[u8]| String::from_utf8_lossy(bytes).parse::<GtidSet>();
        Ok(ServerState {
            uuid: text(uuid.clone()),
            server_id: text(server_id.clone()).parse().unwrap_or(0),
            executed: set(executed)?,
            purged: set(purged)?,
            end: self.end_of_log(conn).await?,
        })
    }

    /// What went wrong while `doing`, with what cures it.
    pub fn failed(&self, doing: &str, error: WireError) -> Error {
        let login = &self.options.login;
        let context = format!("MySQL {}: {}", self.address(), shortened(doing));
        let user = account(&login.user);
        let of_server = |code, message: &str| Error::new(code, format!("{context}: {message}"));
        match error {
            WireError::Server { code, message } => {
                let with_code = format!("{message} (MySQL error {code})");
                match code {
                    code::ACCESS_DENIED | code::HOST_NOT_ALLOWED | code::HOST_BLOCKED | code::ACCESS_DENIED_NO_PASSWORD => {
                        of_server(ErrorCode::Access, &with_code)
                            .note(format!("check 'username' ('{}') and 'password', and that the user may come from here", login.user))
                    }
                    code::DATABASE_ACCESS_DENIED | code::TABLE_ACCESS_DENIED | code::COLUMN_ACCESS_DENIED => {
                        of_server(ErrorCode::Access, &with_code)
                            .note(format!("GRANT SELECT ON <database>.<table> TO {user};"))
                            .note(ACCOUNT_NOTE)
                    }
                    code::PRIVILEGE_NEEDED => of_server(ErrorCode::Access, &with_code)
                        .note(format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user};"))
                        .note(ACCOUNT_NOTE),
                    code::UNKNOWN_DATABASE | code::NO_SUCH_TABLE => of_server(ErrorCode::Name, &with_code),
                    code::PARSE_ERROR | code::UNKNOWN_COLUMN | code::UNKNOWN_VARIABLE => {
                        of_server(ErrorCode::Unsupported, &with_code)
                    }
                    _ => of_server(ErrorCode::Io, &with_code),
                }
            }
            WireError::Login(message) => of_server(ErrorCode::Access, &message),
            WireError::Tls(message) => of_server(ErrorCode::Access, &format!("TLS: {message}"))
                .note("'tls.mode' says what is demanded of the server: disabled, preferred, required, verify-ca, verify-identity"),
            other if doing == CONNECTING => of_server(ErrorCode::Io, &other.to_string())
                .note("check 'hostname' and 'port', and that the server listens on an address that is reached from here"),
            other => of_server(ErrorCode::Io, &other.to_string()),
        }
    }
}

/// The user in a GRANT. Which host an account is for only the server knows.
fn account(user: &str) -> String {
    format!("'{}'@'%'", user.replace('\\', "\\\\").replace('\'', "''"))
}

pub fn grant_select(database: &str, table: &str, user: &str) -> String {
    format!("GRANT SELECT ON {}.{} TO {};", quote_name(database), quote_name(table), account(user))
}

/// Behind a statement with `account`.
pub const ACCOUNT_NOTE: &str =
    "an account may be for another host than '%': SELECT CURRENT_USER() as this user says it";

/// Numbers of server errors.
pub mod code {
    pub const DATABASE_ACCESS_DENIED: u16 = 1044;
    pub const ACCESS_DENIED: u16 = 1045;
    pub const UNKNOWN_DATABASE: u16 = 1049;
    pub const UNKNOWN_COLUMN: u16 = 1054;
    pub const PARSE_ERROR: u16 = 1064;
    pub const HOST_BLOCKED: u16 = 1129;
    pub const HOST_NOT_ALLOWED: u16 = 1130;
    pub const TABLE_ACCESS_DENIED: u16 = 1142;
    pub const COLUMN_ACCESS_DENIED: u16 = 1143;
    pub const NO_SUCH_TABLE: u16 = 1146;
    pub const UNKNOWN_VARIABLE: u16 = 1193;
    pub const PRIVILEGE_NEEDED: u16 = 1227;
    /// Everything that ends a stream of the binlog.
    pub const BINLOG_FATAL: u16 = 1236;
    pub const ACCESS_DENIED_NO_PASSWORD: u16 = 1698;
}

fn shortened(sql: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut one_line: String = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if one_line.chars().count() > CHARS_MAX {
        one_line = one_line.chars().take(CHARS_MAX).chain("…".chars()).collect();
    }
    one_line
}

/// A value of the text protocol as text.
pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// A text literal that means the same under every `sql_mode` and character set of the connection.
pub fn literal(value: &str) -> String {
    let hex: String = value.bytes().map(|b| format!("{b:02x}")).collect();
    if hex.is_empty() { "''".to_owned() } else { format!("_utf8mb4 0x{hex}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, pos: u64) -> LogPosition {
        LogPosition { file: file.to_owned(), pos }
    }

    #[test]
    fn places_in_a_log_order_by_file_number_then_byte() {
        assert!(at("binlog.000002", 4).has_reached(&at("binlog.000001", 999)));
        assert!(at("binlog.000002", 4).has_reached(&at("binlog.000002", 4)));
        assert!(!at("binlog.000002", 4).has_reached(&at("binlog.000002", 5)));
        assert!(at("binlog.1000000", 4).has_reached(&at("binlog.999999", 4)));
        assert!(!at("binlog.999999", 4).has_reached(&at("binlog.1000000", 4)));
    }

    #[test]
    fn a_literal_needs_no_quotes() {
        assert_eq!(literal("a'b"), "_utf8mb4 0x612762");
        assert_eq!(literal(""), "''");
    }
}
