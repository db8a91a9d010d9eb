//! The options of a `mysql-cdc` table, and what they mean together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use thalweg_connector_api::options_of;
use thalweg_core::options::{OptionKind, OptionSpec, Options};
use thalweg_core::secret::Secret;
use thalweg_core::table::{ColumnKind, TableDef};
use thalweg_core::{Error, Result};

use crate::gtid::GtidSet;
use crate::layout::{ValueOptions, ZeroDates};
use crate::rows::zone::Zone;
use crate::wire::Login;
use crate::wire::tls::{TlsMode, TlsOptions};

/// Rows of a chunk at most that may be asked for.
const CHUNK_ROWS_MAX: u64 = 1 << 20;
/// A heartbeat is asked for so often where the option says 0: it is needed to find dead connections.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(100);
const HEARTBEAT_INTERVAL_UNSET: Duration = Duration::from_secs(10);

pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::required("hostname", OptionKind::Text, "name or address of the MySQL server"),
    OptionSpec::with_default("port", OptionKind::Integer, "3306", "port of the MySQL server"),
    OptionSpec::required(
        "username",
        OptionKind::Text,
        "user to log in as; the page mysql-cdc of the documents lists its grants",
    ),
    OptionSpec::with_default("password", OptionKind::Secret, "", "the user's password"),
    OptionSpec::required("database-name", OptionKind::Text, "database of the table"),
    OptionSpec::required("table-name", OptionKind::Text, "the table"),
    OptionSpec::with_default(
        "server-id",
        OptionKind::Text,
        "5400-6400",
        "the number, or the range of numbers, from which each running reader takes one to be a replica of the server by; no other replica may have it",
    ),
    OptionSpec::optional(
        "server-time-zone",
        OptionKind::Text,
        "zone in which a TIMESTAMP column of the server that is declared as TIMESTAMP is written ('+01:00', 'Europe/Berlin'); default: UTC",
    ),
    OptionSpec::with_default(
        "scan.startup.mode",
        OptionKind::OneOf(&["initial", "snapshot", "latest-offset", "earliest-offset", "specific-offset", "timestamp"]),
        "initial",
        "initial: the table as it is, then its changes; snapshot: the table as it is, then the input ends; the others: changes only, from there on",
    ),
    OptionSpec::optional(
        "scan.startup.specific-offset.gtid-set",
        OptionKind::Text,
        "for specific-offset: the transactions that are not to be read",
    ),
    OptionSpec::optional(
        "scan.startup.specific-offset.file",
        OptionKind::Text,
        "for specific-offset, with '…pos': the binlog file to begin in, for example 'binlog.000003'",
    ),
    OptionSpec::optional(
        "scan.startup.specific-offset.pos",
        OptionKind::Integer,
        "for specific-offset, with '…file': the first transaction at or behind this position is the first to be read",
    ),
    OptionSpec::optional(
        "scan.startup.timestamp-millis",
        OptionKind::Integer,
        "for timestamp: what was committed at this time or later is read (milliseconds since 1970)",
    ),
    OptionSpec::with_default(
        "scan.incremental.snapshot.chunk.size",
        OptionKind::Integer,
        "32768",
        "rows that the snapshot reads at a time",
    ),
    OptionSpec::with_default(
        "connect.timeout",
        OptionKind::Duration,
        "30 s",
        "how long connecting and logging in may take; also how long a replica may need to catch up with the position",
    ),
    OptionSpec::with_default(
        "connect.max-retries",
        OptionKind::Integer,
        "10",
        "how often a lost connection is tried to be made again (at growing intervals, up to 10 s) before the job is restarted from its last checkpoint",
    ),
    OptionSpec::with_default(
        "heartbeat.interval",
        OptionKind::Duration,
        "10 s",
        "how often the server says that it lives when nothing happens, which also moves the position; three that are missed are a lost connection; 0: every 10 s",
    ),
    OptionSpec::with_default(
        "zero-dates",
        OptionKind::OneOf(&["error", "null"]),
        "error",
        "what becomes of dates that are no day of the calendar ('0000-00-00', '2023-02-29')",
    ),
    OptionSpec::with_default(
        "foreign-key-cascades",
        OptionKind::OneOf(&["refuse", "ignore"]),
        "refuse",
        "what to do with a table that a cascading foreign key changes without a trace in the binlog (MySQL before 9.6)",
    ),
    OptionSpec::with_default(
        "tls.mode",
        OptionKind::OneOf(&["disabled", "preferred", "required", "verify-ca", "verify-identity"]),
        "preferred",
        "as ssl-mode of MySQL's own clients",
    ),
    OptionSpec::optional(
        "tls.ca-file",
        OptionKind::Text,
        "for verify-ca and verify-identity: certificates of authorities, in PEM",
    ),
    OptionSpec::optional(
        "tls.certificate-file",
        OptionKind::Text,
        "our certificate, in PEM, where the server asks for one",
    ),
    OptionSpec::optional("tls.key-file", OptionKind::Text, "the key of our certificate, in PEM"),
];

/// Where reading begins without a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup {
    Initial,
    Snapshot,
    Latest,
    Earliest,
    GtidSet(GtidSet),
    File {
        file: String,
        position: u64,
    },
    /// Milliseconds since 1970.
    Timestamp(u64),
}

impl Startup {
    pub fn has_snapshot(&self) -> bool {
        matches!(self, Startup::Initial | Startup::Snapshot)
    }

    /// Tables of one server that begin together share a reader; those that begin elsewhere in the binlog, or end, need
    /// one of their own.
    pub fn group(&self) -> String {
        match self {
            Startup::Initial | Startup::Latest => String::new(),
            Startup::Snapshot => " snapshot".to_owned(),
            Startup::Earliest => " from the earliest".to_owned(),
            Startup::GtidSet(set) => format!(" from {set}"),
            Startup::File { file, position } => format!(" from {file}:{position}"),
            Startup::Timestamp(ms) => format!(" from {ms}"),
        }
    }
}

/// What the readers of a server need to know; equal for all tables of one source.
#[derive(Clone)]
pub struct ServerOptions {
    pub login: Login,
    pub tls: TlsOptions,
    /// Lowest and highest.
    pub server_ids: (u32, u32),
    pub connect_timeout: Duration,
    pub connect_retries_max: u64,
    pub heartbeat_interval: Duration,
}

/// A table's options, checked.
#[derive(Clone)]
pub struct TableOptions {
    pub server: ServerOptions,
    pub database: String,
    pub table: String,
    pub startup: Startup,
    pub values: ValueOptions,
    pub chunk_rows_max: u64,
    pub ignore_cascades: bool,
    /// `row_kind` is among the columns: the table is a log of changes.
    pub is_log: bool,
}

impl TableOptions {
    pub fn new(def: &TableDef) -> Result<Self> {
        let values = options_of(def);
        let of = format!("table {} (connector 'mysql-cdc')", def.name);
        let options = Options::check(&values, OPTIONS, of.clone())?;
        let port = options.integer("port").unwrap_or_default();
        let port = u16::try_from(port).ok().filter(|p| *p > 0);
        let port = port.ok_or_else(|| Error::option(format!("'port' of {of} is not between 1 and 65535")))?;
        let chunk_rows_max = options.integer("scan.incremental.snapshot.chunk.size").unwrap_or_default();
        if !(1..=CHUNK_ROWS_MAX).contains(&chunk_rows_max) {
            return Err(Error::option(format!(
                "'scan.incremental.snapshot.chunk.size' = '{chunk_rows_max}' of {of} is not between 1 and {CHUNK_ROWS_MAX}"
            )));
        }
        let heartbeat_interval = match options.duration("heartbeat.interval").unwrap_or_default() {
            Duration::ZERO => HEARTBEAT_INTERVAL_UNSET,
            given => given.max(HEARTBEAT_INTERVAL_MIN),
        };
        let text = |name: &str| options.text_must(name).to_owned();
        let path = |name: &str| options.text(name).map(PathBuf::from);
        for name in ["database-name", "table-name"] {
            if options.text_must(name).contains(['*', '?', '|', '[', '(', '\\']) {
                return Err(Error::option(format!(
                    "'{name}' = '{}' of {of} looks like a pattern",
                    options.text_must(name)
                ))
                .note("one declared table reads one table of the server; declare one for each"));
            }
        }
        Ok(TableOptions {
            server: ServerOptions {
                login: Login {
                    host: text("hostname"),
                    port,
                    user: text("username"),
                    password: Secret::new(options.text("password").unwrap_or_default()),
                },
                tls: TlsOptions {
                    mode: match options.text_must("tls.mode") {
                        "disabled" => TlsMode::Disabled,
                        "required" => TlsMode::Required,
                        "verify-ca" => TlsMode::VerifyCa,
                        "verify-identity" => TlsMode::VerifyIdentity,
                        _ => TlsMode::Preferred,
                    },
                    ca: path("tls.ca-file"),
                    certificate: path("tls.certificate-file"),
                    key: path("tls.key-file"),
                },
                server_ids: server_ids(options.text_must("server-id"), &of)?,
                connect_timeout: options
                    .duration("connect.timeout")
                    .unwrap_or_default()
                    .max(Duration::from_millis(250)),
                connect_retries_max: options.integer("connect.max-retries").unwrap_or_default(),
                heartbeat_interval,
            },
            database: text("database-name"),
            table: text("table-name"),
            startup: startup(&options, &of)?,
            values: ValueOptions {
                zone: match options.text("server-time-zone") {
                    None => Zone::default(),
                    Some(zone) => zone.parse().map_err(|e: Error| e.context(format!("'server-time-zone' of {of}")))?,
                },
                zero_dates: match options.text("zero-dates") {
                    Some("null") => ZeroDates::Null,
                    _ => ZeroDates::Error,
                },
            },
            chunk_rows_max,
            ignore_cascades: options.text("foreign-key-cascades") == Some("ignore"),
            is_log: def
                .columns
                .iter()
                .any(|c| matches!(&c.kind, ColumnKind::Metadata { key, .. } if key == "row_kind")),
        })
    }

    /// `db1:3306`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.server.login.host, self.server.login.port)
    }
}

/// `5400` or `5400-5408`.
fn server_ids(text: &str, of: &str) -> Result<(u32, u32)> {
    let number = |t: &str| t.trim().parse::<u32>().ok().filter(|n| *n > 0);
    let range = match text.split_once('-') {
        Some((low, high)) => number(low).zip(number(high)),
        None => number(text).map(|n| (n, n)),
    };
    range.filter(|(low, high)| low <= high).ok_or_else(|| {
        Error::option(format!(
            "'server-id' = '{text}' of {of} is neither a number above 0 nor a range such as '5400-5408'"
        ))
    })
}

fn startup(options: &Options<'_>, of: &str) -> Result<Startup> {
    const GTID_SET: &str = "scan.startup.specific-offset.gtid-set";
    const FILE: &str = "scan.startup.specific-offset.file";
    const POS: &str = "scan.startup.specific-offset.pos";
    const TIMESTAMP: &str = "scan.startup.timestamp-millis";
    let mode = options.text_must("scan.startup.mode");
    let belongs: BTreeMap<&str, &str> = BTreeMap::from([
        (GTID_SET, "specific-offset"),
        (FILE, "specific-offset"),
        (POS, "specific-offset"),
        (TIMESTAMP, "timestamp"),
    ]);
    if let Some((name, needed)) = belongs.iter().find(|(name, needed)| options.given(name) && **needed != mode) {
        return Err(Error::option(format!(
            "'{name}' of {of} goes with 'scan.startup.mode' = '{needed}', not '{mode}'"
        )));
    }
    Ok(match mode {
        "snapshot" => Startup::Snapshot,
        "latest-offset" => Startup::Latest,
        "earliest-offset" => Startup::Earliest,
        "timestamp" => {
            Startup::Timestamp(options.integer(TIMESTAMP).ok_or_else(|| {
                Error::option(format!("'scan.startup.mode' = 'timestamp' of {of} needs '{TIMESTAMP}'"))
            })?)
        }
        "specific-offset" => match (options.text(GTID_SET), options.text(FILE), options.integer(POS)) {
            (Some(set), None, None) => {
                let set = set.parse().map_err(|e: Error| e.context(format!("'{GTID_SET}' of {of}")))?;
                Startup::GtidSet(set)
            }
            (None, Some(file), Some(position)) => Startup::File { file: file.to_owned(), position },
            _ => {
                return Err(Error::option(format!(
                    "'scan.startup.mode' = 'specific-offset' of {of} needs either '{GTID_SET}' or both '{FILE}' and '{POS}'"
                )));
            }
        },
        _ => Startup::Initial,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(options: &[(&str, &str)]) -> TableDef {
        let mut all = BTreeMap::from([
            ("connector".to_owned(), "mysql-cdc".to_owned()),
            ("hostname".to_owned(), "db1".to_owned()),
            ("username".to_owned(), "u".to_owned()),
            ("database-name".to_owned(), "shop".to_owned()),
            ("table-name".to_owned(), "orders".to_owned()),
        ]);
        all.extend(options.iter().map(|(k, v)| (k.to_string(), v.to_string())));
        TableDef {
            name: "orders".to_owned(),
            columns: vec![],
            primary_key: vec![],
            partitioned_by: vec![],
            options: all,
        }
    }

    fn error(options: &[(&str, &str)]) -> String {
        TableOptions::new(&def(options)).err().expect("refused").to_string()
    }

    #[test]
    fn what_is_not_given_has_flinks_meaning() {
        let o = TableOptions::new(&def(&[])).unwrap();
        assert_eq!(
            (o.address().as_str(), &o.startup, o.server.server_ids),
            ("db1:3306", &Startup::Initial, (5400, 6400))
        );
        assert_eq!(o.server.tls.mode, TlsMode::Preferred);
    }

    #[test]
    fn server_ids_are_a_number_or_a_range() {
        let ids = |text| TableOptions::new(&def(&[("server-id", text)])).map(|o| o.server.server_ids);
        assert_eq!(ids("7").unwrap(), (7, 7));
        assert_eq!(ids(" 5400 - 5408 ").unwrap(), (5400, 5408));
        for bad in ["", "0", "9-8", "a", "1-", "4294967296"] {
            assert!(ids(bad).unwrap_err().to_string().contains("server-id"), "{bad}");
        }
    }

    #[test]
    fn an_offset_belongs_to_its_mode() {
        let e = error(&[("scan.startup.timestamp-millis", "1")]);
        assert!(e.contains("'scan.startup.mode' = 'timestamp', not 'initial'"), "{e}");
        let e =
            error(&[("scan.startup.mode", "specific-offset"), ("scan.startup.specific-offset.file", "binlog.000001")]);
        assert!(e.contains("both"), "{e}");
        let e = error(&[("scan.startup.mode", "timestamp")]);
        assert!(e.contains("needs 'scan.startup.timestamp-millis'"), "{e}");
        let o = TableOptions::new(&def(&[
            ("scan.startup.mode", "specific-offset"),
            ("scan.startup.specific-offset.file", "binlog.000003"),
            ("scan.startup.specific-offset.pos", "4"),
        ]));
        assert_eq!(o.unwrap().startup, Startup::File { file: "binlog.000003".to_owned(), position: 4 });
    }

    #[test]
    fn a_pattern_is_refused() {
        assert!(error(&[("table-name", "orders_.*")]).contains("pattern"));
    }

    #[test]
    fn a_heartbeat_that_is_turned_off_still_finds_dead_connections() {
        let o = TableOptions::new(&def(&[("heartbeat.interval", "0")])).unwrap();
        assert_eq!(o.server.heartbeat_interval, HEARTBEAT_INTERVAL_UNSET);
    }
}
