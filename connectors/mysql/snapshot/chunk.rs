//! Reads one chunk: a range of keys behind the last finished one.

use std::sync::Arc;
use std::time::Duration;

use thalweg_core::{Changes, Error, Result};

use crate::gtid::GtidSet;
use crate::key::{Key, KeyColumn, KeyPart, quote_name};
use crate::layout::TableLayout;
use crate::rows::binary_row::RowPlan;
use crate::rows::{RowMeta, RowsBuilder};
use crate::server::{LogPosition, Server, text};
use crate::wire::Conn;

/// How long a transaction that is in the binlog may take to become visible: a semi-synchronous replica that does not
/// acknowledge holds it up.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of rows at which a chunk is cut. With what is folded it stays well below what a tick may hold.
pub const CHUNK_BYTES_MAX: usize = 24 << 20;
/// Rows behind the cut that are read and thrown away rather than to connect anew.
const DRAINED_BYTES_MAX: usize = 16 << 20;

/// Rows of a chunk, as the SELECT saw them.
pub struct Chunk {
    /// All +1, in the key's order.
    pub batches: Vec<Changes>,
    /// One per row of all batches.
    pub keys: ChunkKeys,
    /// The chunk's last key; `None`: the table ends with it.
    pub upper: Option<Key>,
    /// Everything that the SELECT saw is before it.
    pub high: LogPosition,
}

/// Keys of rows: bytes until one is asked for. Most chunks are read and emitted without a look at any but the last.
#[derive(Debug)]
pub struct ChunkKeys {
    plan: RowPlan,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl ChunkKeys {
    pub fn new(plan: RowPlan) -> Self {
        ChunkKeys { plan, bytes: vec![], ends: vec![] }
    }

    /// Of a row as the SELECT gave it, or of its first bytes.
    pub fn push(&mut self, row: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(self.plan.key_bytes(row)?);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, row: usize) -> Result<Key> {
        let begin = if row == 0 { 0 } else { self.ends[row - 1] };
        self.plan.key(&self.bytes[begin..self.ends[row]])
    }

    fn last(&self) -> Result<Option<Key>> {
        self.len().checked_sub(1).map(|row| self.get(row)).transpose()
    }
}

/// What is to be read.
pub struct Ask<'a> {
    pub layout: &'a Arc<TableLayout>,
    /// The last finished key; `None`: from the begin.
    pub after: Option<&'a Key>,
    pub rows_max: u64,
    /// Transactions that the SELECT must see.
    pub visible: &'a GtidSet,
    /// The server that the stream comes from.
    pub server_uuid: &'a str,
    /// Order of the first row.
    pub order: i64,
    pub batch_rows_max: usize,
}

pub enum Answer {
    Chunk(Chunk),
    /// The connection leads to another server than the stream's.
    OtherServer,
}

/// Reads a chunk. The connection is of no use after an error; `keep` is cleared when it is not after a chunk either.
pub async fn read(server: &Server, conn: &mut Conn, ask: Ask<'_>, keep: &mut bool) -> Result<Answer> {
    if !wait_until_visible(server, conn, &ask).await? {
        return Ok(Answer::OtherServer);
    }
    if let Some(after) = ask.after {
        check_bound(server, conn, ask.layout, after).await?;
    }
    let sql = select(ask.layout, ask.after, ask.rows_max);
    let doing = format!("reading a chunk of {}", ask.layout.name());
    let columns = conn.select(&sql).await.map_err(|e| server.failed(&doing, e))?;
    let codes: Vec<u8> = columns.iter().map(|c| c.type_code).collect();
    let mut keys = ChunkKeys::new(ask.layout.row_plan(&codes)?);
    let mut builder = RowsBuilder::new(ask.layout)?;
    let (mut batches, mut bytes) = (vec![], 0);
    let mut meta = RowMeta { op_ts_ms: 0, order: ask.order };
    let mut is_cut = false;
    let mut drained = 0;
    while let Some(row) = conn.next_row().await.map_err(|e| server.failed(&doing, e))? {
        if is_cut {
            drained += row.len();
            if drained > DRAINED_BYTES_MAX {
                *keep = false;
                break;
            }
            continue;
        }
        builder.push_row(&keys.plan, row, meta).map_err(|e| in_row(e, server, &keys.plan, row))?;
        keys.push(row)?;
        meta.order += 1;
        if builder.rows() >= ask.batch_rows_max {
            bytes += builder.bytes();
            batches.push(builder.finish()?);
        }
        is_cut = bytes + builder.bytes() + keys.bytes.len() >= CHUNK_BYTES_MAX;
    }
    if builder.rows() > 0 {
        batches.push(builder.finish()?);
    }
    let is_last = !is_cut && (keys.len() as u64) < ask.rows_max;
    let upper = if is_last { None } else { keys.last()? };
    let mut fresh;
    let conn = if *keep {
        conn
    } else {
        // The rest of the rows still comes on the old one.
        fresh = server.connect().await?;
        &mut fresh
    };
    // What is committed from here on to the high position is only in the log.
    thalweg_core::fail_points::pass("mysql-chunk-selected")?;
    // After the SELECT: whatever it saw was in the log by then.
    let high = server.end_of_log(conn).await?;
    match server.value(conn, "SELECT @@GLOBAL.server_uuid").await? {
        Some(uuid) if uuid == ask.server_uuid => Ok(Answer::Chunk(Chunk { batches, keys, upper, high })),
        _ => Ok(Answer::OtherServer),
    }
}

/// Which row an error is about.
#[cold]
fn in_row(e: Error, server: &Server, plan: &RowPlan, row: &[u8]) -> Error {
    match plan.key(row) {
        Ok(key) => e.context(format!("MySQL {}, snapshot, row with primary key {key}", server.address())),
        Err(_) => e,
    }
}

/// Waits until the server shows all of `visible`; false if it is another one than the stream's.
async fn wait_until_visible(server: &Server, conn: &mut Conn, ask: &Ask<'_>) -> Result<bool> {
    let sql = format!(
        "SELECT @@GLOBAL.server_uuid, WAIT_FOR_EXECUTED_GTID_SET('{}', {})",
        ask.visible,
        VISIBLE_TIMEOUT.as_secs()
    );
    let rows = server.query(conn, &sql).await?;
    let Some([Some(uuid), waited]) = rows.first().map(Vec::as_slice) else {
        return Err(Error::io(format!("MySQL {} does not say what is visible", server.address())));
    };
    if text(uuid.clone()) != ask.server_uuid {
        return Ok(false);
    }
    match waited.as_deref() {
        Some(b"0") => Ok(true),
        _ => Err(Error::io(format!(
            "MySQL {}: transactions that are in the binlog are not visible after {} s: {}",
            server.address(),
            VISIBLE_TIMEOUT.as_secs(),
            ask.visible
        ))
        .note("a semi-synchronous replica that does not acknowledge holds them up (rpl_semi_sync_source_timeout)")),
    }
}

/// Every part of the bound must be a value to the server: a comparison with NULL is true of no row, which would look
/// like the end of the table.
async fn check_bound(server: &Server, conn: &mut Conn, layout: &TableLayout, bound: &Key) -> Result<()> {
    // A number always is one.
    let may_be_null = |part: &KeyPart| !matches!(part, KeyPart::Int(_) | KeyPart::Unsigned(_) | KeyPart::Decimal(..));
    let parts = || layout.key().iter().zip(&bound.0).filter(|(_, part)| may_be_null(part));
    let questions: Vec<String> = parts().map(|(c, part)| format!("{} IS NULL", value(c, &part.parameter()))).collect();
    if questions.is_empty() {
        return Ok(());
    }
    let rows = server.query(conn, &format!("SELECT {}", questions.join(", "))).await?;
    let answers = rows.into_iter().next().unwrap_or_default();
    let mut answers = answers.iter().map(Option::as_deref);
    match parts().find(|_| answers.next() != Some(Some(&b"0"[..]))) {
        Some((column, part)) => Err(no_value(layout, column, part)),
        None => Ok(()),
    }
}

/// A part of a key that the server takes for NULL.
#[cold]
pub(super) fn no_value(layout: &TableLayout, column: &KeyColumn, part: &KeyPart) -> Error {
    Error::row(format!(
        "table {}, column \"{}\" of the primary key: {part} is a value that the server orders nothing by",
        layout.name(),
        column.name
    ))
    .note("it is no day of the calendar, or no text of its character set: correct it on the server")
    .note("or start without a snapshot, for example 'scan.startup.mode' = 'latest-offset'")
}

/// The statement for the rows behind a key, in the key's order.
fn select(layout: &TableLayout, after: Option<&Key>, rows_max: u64) -> String {
    let table = format!("{}.{}", quote_name(layout.database()), quote_name(layout.table()));
    let key = layout.key();
    let list = layout.select_list().join(", ");
    let order: Vec<&str> = key.iter().map(|k| k.expression.as_str()).collect();
    let condition = after.map(|k| format!(" WHERE {}", behind(key, k))).unwrap_or_default();
    format!(
        "SELECT {list} FROM {table} FORCE INDEX (PRIMARY){condition} ORDER BY {} LIMIT {rows_max}",
        order.join(", ")
    )
}

/// `a > x OR (a = x AND b > y)`.
fn behind(columns: &[KeyColumn], key: &Key) -> String {
    let values: Vec<String> = columns.iter().zip(&key.0).map(|(c, part)| value(c, &part.parameter())).collect();
    let one = |last: usize| {
        let equal = (0..last).map(|i| format!("{} = {}", columns[i].expression, values[i]));
        let greater = format!("{} > {}", columns[last].expression, values[last]);
        equal.chain([greater]).collect::<Vec<_>>().join(" AND ")
    };
    (0..columns.len()).map(|last| format!("({})", one(last))).collect::<Vec<_>>().join(" OR ")
}

/// A key part's value in a statement. Parameters are digits and punctuation, or hexadecimal digits: nothing to escape.
pub(super) fn value(column: &KeyColumn, parameter: &str) -> String {
    debug_assert!(parameter.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+:. ".contains(&b)), "{parameter}");
    column.placeholder.replacen('?', &format!("'{parameter}'"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, placeholder: &str) -> KeyColumn {
        KeyColumn {
            name: name.to_owned(),
            expression: quote_name(name),
            placeholder: placeholder.to_owned(),
            by_server: false,
        }
    }

    #[test]
    fn chunks_are_paged_over_the_whole_key() {
        let columns = [column("a", "CAST(? AS SIGNED)"), column("b", "UNHEX(?)")];
        let key = Key(vec![KeyPart::Int(-7), KeyPart::Binary(vec![0x27, 0xff])]);
        assert_eq!(
            behind(&columns, &key),
            "(`a` > CAST('-7' AS SIGNED)) OR (`a` = CAST('-7' AS SIGNED) AND `b` > UNHEX('27FF'))"
        );
    }
}
