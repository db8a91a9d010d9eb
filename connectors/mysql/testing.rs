//! For tests: layouts and events without a server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thalweg_connector_api::SourceTable;
use thalweg_core::secret::Secret;
use thalweg_core::table::{ColumnKind, TableColumn, TableDef};
use thalweg_core::types::Column;

use crate::layout::{ServerColumn, TableLayout, TableSpec, ValueOptions};
use crate::options::ServerOptions;
use crate::wire::Login;
use crate::wire::tls::{TlsMode, TlsOptions};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A column of the server, of utf8mb4 if it has text, nullable.
pub fn server_column(name: &str, column_type: &str) -> ServerColumn {
    let text = ["char", "varchar", "text", "tinytext", "mediumtext", "longtext", "enum", "set"];
    let is_text = text.contains(&column_type.split('(').next().unwrap_or_default());
    ServerColumn {
        name: name.to_owned(),
        column_type: column_type.to_owned(),
        charset: is_text.then(|| "utf8mb4".to_owned()),
        collation: is_text.then(|| "utf8mb4_0900_ai_ci".to_owned()),
        collation_id: is_text.then_some(255),
        nullable: true,
        generated: false,
    }
}

/// What `SourceTable` says of a table of which all declared columns are read.
pub fn source_table(name: &str, declared: &[Column]) -> SourceTable {
    let column = |c: &Column| TableColumn { column: c.clone(), kind: ColumnKind::Physical };
    let def = TableDef {
        name: name.to_owned(),
        columns: declared.iter().map(column).collect(),
        primary_key: vec![0],
        partitioned_by: vec![],
        options: BTreeMap::new(),
    };
    SourceTable { def, columns: (0..declared.len()).collect(), with_order: false }
}

/// A table whose primary key is its first column.
pub fn layout_of(database: &str, table: &str, declared: &[Column], columns: Vec<ServerColumn>) -> Arc<TableLayout> {
    let spec = TableSpec {
        source: source_table(table, declared),
        database: database.to_owned(),
        table: table.to_owned(),
        columns,
        primary_key: vec![0],
        allows_cascades: false,
        options: ValueOptions::default(),
    };
    Arc::new(TableLayout::new(spec).expect("the declaration fits"))
}

/// Options of a server on this machine, without TLS.
pub fn server_options(port: u16) -> ServerOptions {
    let user = "root".to_owned();
    ServerOptions {
        login: Login { host: "127.0.0.1".to_owned(), port, user, password: Secret::new("") },
        tls: TlsOptions { mode: TlsMode::Disabled, ca: None, certificate: None, key: None },
        server_ids: (1, 1),
        connect_timeout: PATIENCE,
        connect_retries_max: 0,
        heartbeat_interval: PATIENCE,
    }
}

/// An event as it stands in a log: header, body, checksum.
pub fn event(code: u8, body: &[u8]) -> Vec<u8> {
    let size = (19 + body.len() + 4) as u32;
    let mut bytes = vec![];
    bytes.extend_from_slice(&1_700_000_000_u32.to_le_bytes());
    bytes.push(code);
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&[0; 6]);
    bytes.extend_from_slice(body);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// A TABLE_MAP event of table 7: per column the type's number and its metadata; all nullable.
pub fn table_map_event(database: &str, table: &str, columns: &[(u8, &[u8])]) -> Vec<u8> {
    table_map_event_with(database, table, columns, &[])
}

/// The same, with fields of optional metadata.
pub fn table_map_event_with(database: &str, table: &str, columns: &[(u8, &[u8])], optional: &[u8]) -> Vec<u8> {
    let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0];
    for name in [database, table] {
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        body.push(0);
    }
    body.push(columns.len() as u8);
    body.extend(columns.iter().map(|(code, _)| *code));
    let metas: Vec<u8> = columns.iter().flat_map(|(_, meta)| meta.iter().copied()).collect();
    body.push(metas.len() as u8);
    body.extend_from_slice(&metas);
    body.extend(std::iter::repeat_n(0xff, columns.len().div_ceil(8)));
    body.extend_from_slice(optional);
    event(crate::binlog::event::code::TABLE_MAP, &body)
}

/// A rows event of table 7 with all columns present; `code` says which.
pub fn rows_event(code: u8, columns: usize, rows: &[u8]) -> Vec<u8> {
    let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 2, 0, columns as u8];
    let images = if code == crate::binlog::event::code::UPDATE_ROWS { 2 } else { 1 };
    body.extend(std::iter::repeat_n(0xff, images * columns.div_ceil(8)));
    body.extend_from_slice(rows);
    event(code, &body)
}
