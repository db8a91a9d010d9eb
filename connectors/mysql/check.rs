//! What must hold at the server before anything is read, and the SQL that makes it so.

use std::collections::HashMap;

use thalweg_core::error::ErrorCode;
use thalweg_core::nearest::did_you_mean;
use thalweg_core::{Error, Result};

use crate::key::quote_name;
use crate::layout::ServerColumn;
use crate::server::{ACCOUNT_NOTE, Server, code, grant_select, literal, text};
use crate::wire::{Conn, TextRow, WireError};

/// A table as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTable {
    /// As the server writes them.
    pub database: String,
    pub table: String,
    pub columns: Vec<ServerColumn>,
    /// Ordinals within `columns`, in the key's order.
    pub primary_key: Vec<usize>,
    /// What cascading foreign keys change is in the binlog.
    pub logs_cascades: bool,
    /// As the server estimates.
    pub rows: u64,
    /// Bytes of a row on average, as the server estimates.
    pub row_bytes: u64,
}

impl ServerTable {
    pub fn key_names(&self) -> Vec<String> {
        self.primary_key.iter().map(|&k| self.columns[k].name.clone()).collect()
    }
}

/// What of a table is needed.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// As the user calls it.
    pub name: &'a str,
    pub database: &'a str,
    pub table: &'a str,
    pub has_snapshot: bool,
    pub ignore_cascades: bool,
}

/// Settings of the server that everything stands on. A session can change some of them for itself, so rows events are
/// looked at one by one all the same.
pub async fn settings(server: &Server, conn: &mut Conn) -> Result<()> {
    let address = server.address();
    if conn.version().contains("MariaDB") {
        return Err(Error::unsupported(format!("{address} is MariaDB {}, which is not supported yet", conn.version()))
            .note("MySQL 8.0 and later are"));
    }
    let variables = variables(
        server,
        conn,
        &[
            "log_bin",
            "gtid_mode",
            "binlog_format",
            "binlog_row_image",
            "binlog_row_value_options",
            "log_replica_updates",
        ],
    )
    .await?;
    let is = |name: &str, value: &str| variables.get(name).is_none_or(|v| v.eq_ignore_ascii_case(value));
    let value = |name: &str| variables.get(name).map_or("", String::as_str);
    let wrong = |name: &str, needed: &str, why: &str| {
        Error::new(ErrorCode::Access, format!("MySQL {address} has {name} = {}, needed is {needed}", value(name)))
            .note(why)
    };
    if !is("log_bin", "ON") {
        return Err(wrong("log_bin", "ON", "without a binlog there is nothing to read changes from")
            .note("start the server with --log-bin (log_bin cannot be set while it runs)"));
    }
    if !is("gtid_mode", "ON") {
        return Err(wrong("gtid_mode", "ON", "positions are sets of GTIDs: only they mean the same on every server").note(
            "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON;",
        ));
    }
    if !is("binlog_format", "ROW") {
        return Err(wrong("binlog_format", "ROW", "statements do not say which rows they change")
            .note("SET PERSIST binlog_format = ROW; sessions that are open keep theirs until they reconnect"));
    }
    if !is("binlog_row_image", "FULL") {
        return Err(wrong("binlog_row_image", "FULL", "rows must have all their columns")
            .note("SET PERSIST binlog_row_image = FULL; sessions that are open keep theirs until they reconnect"));
    }
    if !value("binlog_row_value_options").is_empty() {
        return Err(wrong("binlog_row_value_options", "''", "parts of JSON documents are not rows").note(
            "SET PERSIST binlog_row_value_options = ''; sessions that are open keep theirs until they reconnect",
        ));
    }
    if !is("log_replica_updates", "ON") && is_replica(conn).await {
        return Err(wrong(
            "log_replica_updates",
            "ON",
            "this replica does not write down what it gets from its source",
        )
        .note("start it with --log-replica-updates"));
    }
    Ok(())
}

/// Rights, as far as using them shows it.
pub async fn grants(server: &Server, conn: &mut Conn) -> Result<()> {
    server.end_of_log(conn).await?;
    conn.query("SHOW REPLICAS").await.map(drop).or_else(|e| match e.code() {
        // Before 8.0.22 by another name.
        Some(code::PARSE_ERROR) => Ok(()),
        _ => Err(server.failed("reading the binlog", e)),
    })
}

/// The server's filters keep none of the tables out of its log.
pub async fn is_logged(server: &Server, conn: &mut Conn, tables: &[ServerTable], without_case: bool) -> Result<()> {
    let status = server.log_status(conn).await?;
    for table in tables {
        let database = &table.database;
        let is_it =
            |name: &String| name == database || (without_case && name.to_lowercase() == database.to_lowercase());
        let (filter, list) = match status.only.is_empty() {
            false if !status.only.iter().any(is_it) => ("--binlog-do-db", &status.only),
            true if status.without.iter().any(is_it) => ("--binlog-ignore-db", &status.without),
            _ => continue,
        };
        let list = list.join(", ");
        return Err(Error::new(
            ErrorCode::Access,
            format!(
                "MySQL {} keeps database {database} out of its binlog ({filter}: {list}): changes of {database}.{} would never come",
                server.address(),
                table.table
            ),
        )
        .note(match filter {
            "--binlog-do-db" => format!("start the server with --binlog-do-db={database} too, or without such options"),
            _ => format!("start the server without --binlog-ignore-db={database}"),
        })
        .note("changes that were made meanwhile are not in the binlog either: begin with a snapshot"));
    }
    Ok(())
}

/// Another replica must not have a number of ours. A number that is taken is no error as long as another one is free.
pub async fn replica_numbers(conn: &mut Conn) -> Vec<(u32, String)> {
    // Server id, host, port, source id, UUID.
    let Ok(rows) = conn.query("SHOW REPLICAS").await else { return vec![] };
    let row = |r: TextRow| {
        let mut r = r.into_iter();
        let id = text(r.next()??).parse().ok()?;
        let uuid = text(r.nth(3)??);
        Some((id, uuid))
    };
    rows.into_iter().filter_map(row).collect()
}

/// Global variables by name; what the server does not know is left out.
pub async fn variables(server: &Server, conn: &mut Conn, names: &[&str]) -> Result<HashMap<String, String>> {
    let list: Vec<String> = names.iter().map(|n| format!("'{n}'")).collect();
    let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", list.join(", "));
    let rows = server.query(conn, &sql).await?;
    let pair = |r: TextRow| {
        let mut r = r.into_iter();
        Some((text(r.next()??), text(r.next()??)))
    };
    Ok(rows.into_iter().filter_map(pair).collect())
}

async fn is_replica(conn: &mut Conn) -> bool {
    // Without the right to ask, it is taken for none.
    conn.query("SHOW REPLICA STATUS").await.is_ok_and(|rows| !rows.is_empty())
}

/// Transactions that are prepared and wait: their rows are in the binlog before the position where reading begins, and
/// will be visible behind it.
pub async fn nothing_prepared(server: &Server, conn: &mut Conn) -> Result<()> {
    let rows = match conn.query("XA RECOVER CONVERT XID").await {
        Ok(rows) => rows,
        // Not allowed to ask: a commit of an unknown one is noticed when it comes.
        Err(WireError::Server { .. }) => return Ok(()),
        Err(e) => return Err(server.failed("XA RECOVER", e)),
    };
    if rows.is_empty() {
        return Ok(());
    }
    let xid = |r: TextRow| r.into_iter().nth(3).flatten().map(text);
    let xids: Vec<String> = rows.into_iter().filter_map(xid).collect();
    Err(Error::io(format!(
        "MySQL {} has transactions that are prepared and not committed: {}",
        server.address(),
        xids.join(", ")
    ))
    .note("their rows would be missed; commit or roll them back (XA COMMIT …, XA ROLLBACK …), then start again"))
}

/// Columns and key of a table, and whether it can be read.
pub async fn table(server: &Server, conn: &mut Conn, wanted: Wanted<'_>) -> Result<ServerTable> {
    let Wanted { name, database, table, .. } = wanted;
    let of = format!("table {name}: {database}.{table} of MySQL {}", server.address());
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_ROWS, AVG_ROW_LENGTH FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        literal(database),
        literal(table)
    );
    let rows = server.query(conn, &sql).await?;
    let Some(found) = rows.into_iter().next() else { return Err(missing_table(server, conn, wanted).await) };
    let mut found = found.into_iter().map(|v| v.map(text).unwrap_or_default());
    let mut next = || found.next().unwrap_or_default();
    let (database, table) = (next(), next());
    let (kind, engine) = (next(), next());
    let (rows, row_bytes) = (next().parse().unwrap_or(0), next().parse().unwrap_or(0));
    if kind != "BASE TABLE" {
        return Err(Error::unsupported(format!(
            "{of} is a {}, whose changes are not in the binlog",
            kind.to_lowercase()
        ))
        .note("declare the tables that it is made of"));
    }
    if wanted.has_snapshot && !engine.eq_ignore_ascii_case("InnoDB") {
        return Err(Error::unsupported(format!(
            "{of} is kept by {engine}: only InnoDB shows a SELECT one moment of a table"
        ))
        .note(format!("ALTER TABLE {}.{} ENGINE = InnoDB;", quote_name(&database), quote_name(&table)))
        .note("or start without a snapshot, for example 'scan.startup.mode' = 'latest-offset'"));
    }

    let place = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(&database), literal(&table));
    let sql = format!(
        "SELECT COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, \
         (SELECT ID FROM information_schema.COLLATIONS k WHERE k.COLLATION_NAME = c.COLLATION_NAME), \
         IS_NULLABLE, GENERATION_EXPRESSION FROM information_schema.COLUMNS c WHERE {place} ORDER BY ORDINAL_POSITION"
    );
    let mut columns = vec![];
    for row in server.query(conn, &sql).await? {
        let mut row = row.into_iter().map(|v| v.map(text));
        let mut next = || row.next().flatten();
        columns.push(ServerColumn {
            name: next().unwrap_or_default(),
            column_type: next().unwrap_or_default(),
            charset: next(),
            collation: next(),
            collation_id: next().and_then(|id| id.parse().ok()),
            nullable: next().as_deref() == Some("YES"),
            generated: next().is_some_and(|expression| !expression.is_empty()),
        });
    }
    if columns.is_empty() {
        return Err(Error::new(ErrorCode::Access, format!("{of} shows no columns to '{}'", server.options.login.user))
            .note(grant_select(&database, &table, &server.options.login.user)));
    }

    let sql = format!(
        "SELECT COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
         WHERE {place} AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX"
    );
    let mut primary_key = vec![];
    for row in server.query(conn, &sql).await? {
        let mut row = row.into_iter().map(|v| v.map(text));
        let column = row.next().flatten().unwrap_or_default();
        if wanted.has_snapshot && row.next().flatten().is_some() {
            return Err(Error::unsupported(format!(
                "{of} has only a prefix of column \"{column}\" in its primary key, by which no snapshot can be cut"
            ))
            .note("start without a snapshot, for example 'scan.startup.mode' = 'latest-offset'"));
        }
        let ordinal = columns.iter().position(|c| c.name == column);
        primary_key
            .push(ordinal.ok_or_else(|| Error::io(format!("{of}: key column \"{column}\" is not among its columns")))?);
    }
    if primary_key.is_empty() {
        return Err(Error::unsupported(format!("{of} has no primary key"))
            .note("without one nothing tells two equal rows apart, and no chunk of a snapshot can be cut")
            .note(format!("ALTER TABLE {}.{} ADD PRIMARY KEY (…);", quote_name(&database), quote_name(&table))));
    }
    // The right to read it, before anything waits for it.
    if wanted.has_snapshot {
        let sql = format!("SELECT 1 FROM {}.{} LIMIT 0", quote_name(&database), quote_name(&table));
        if let Err(e) = conn.query(&sql).await {
            let denied = matches!(e.code(), Some(code::TABLE_ACCESS_DENIED | code::DATABASE_ACCESS_DENIED));
            let failed = server.failed(&sql, e);
            let grant = grant_select(&database, &table, &server.options.login.user);
            return Err(if denied { Error::new(ErrorCode::Access, failed.message()).note(grant) } else { failed });
        }
    }
    let logs_cascades = logs_cascades(server, conn).await?;
    if !logs_cascades && !wanted.ignore_cascades {
        no_cascades(server, conn, &of, &database, &table).await?;
    }
    Ok(ServerTable { database, table, columns, primary_key, logs_cascades, rows, row_bytes })
}

/// Before MySQL 9.6 (or with `innodb_native_foreign_keys`), InnoDB changes the child of a cascading foreign key by itself,
/// and nothing of it is in the binlog.
async fn logs_cascades(server: &Server, conn: &mut Conn) -> Result<bool> {
    let known = variables(server, conn, &["innodb_native_foreign_keys"]).await?;
    Ok(known.get("innodb_native_foreign_keys").is_some_and(|v| v.eq_ignore_ascii_case("OFF")))
}

async fn no_cascades(server: &Server, conn: &mut Conn, of: &str, database: &str, table: &str) -> Result<()> {
    let sql = format!(
        "SELECT CONSTRAINT_NAME, REFERENCED_TABLE_NAME, UPDATE_RULE, DELETE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS \
         WHERE CONSTRAINT_SCHEMA = {} AND TABLE_NAME = {} \
         AND (UPDATE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT') OR DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT'))",
        literal(database),
        literal(table)
    );
    let Some(row) = server.query(conn, &sql).await?.into_iter().next() else { return Ok(()) };
    let row: Vec<String> = row.into_iter().map(|v| v.map(text).unwrap_or_default()).collect();
    Err(Error::unsupported(format!(
        "{of} is changed through foreign key {} (to {}, ON UPDATE {}, ON DELETE {}), of which MySQL {} writes nothing into the binlog",
        row[0], row[1], row[2], row[3], conn.version()
    ))
    .note("MySQL 9.6 and later write it; or make the constraint RESTRICT")
    .note("'foreign-key-cascades' = 'ignore' reads the table without these changes"))
}

async fn missing_table(server: &Server, conn: &mut Conn, wanted: Wanted<'_>) -> Error {
    let Wanted { name, database, table, .. } = wanted;
    let user = &server.options.login.user;
    let first = |rows: Vec<TextRow>| {
        rows.into_iter().filter_map(|r| r.into_iter().next().flatten().map(text)).collect::<Vec<_>>()
    };
    let sql = format!(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} ORDER BY 1 LIMIT 1000",
        literal(database)
    );
    let tables = server.query(conn, &sql).await.map(first).unwrap_or_default();
    let error = if tables.is_empty() {
        let databases = server.query(conn, "SHOW DATABASES").await.map(first).unwrap_or_default();
        Error::name(format!(
            "table {name}: user '{user}' of MySQL {} sees no table in a database {database}",
            server.address()
        ))
        .propose(did_you_mean(database, databases.iter().map(String::as_str)))
    } else {
        Error::name(format!(
            "table {name}: user '{user}' of MySQL {} sees no table {database}.{table}",
            server.address()
        ))
        .propose(did_you_mean(table, tables.iter().map(String::as_str)))
    };
    error.note(format!("if it is there: {}", grant_select(database, table, user))).note(ACCOUNT_NOTE)
}
