//! Events → rows that wait to be emitted, transaction by transaction, and the position behind them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use thalweg_connector_api::{Piece, SplitId};
use thalweg_core::clock::now_us;
use thalweg_core::{Changes, Error, Result};

use crate::binlog::ddl::{self, Effect};
use crate::binlog::event::{Event, EventData, GtidEvent, Query};
use crate::binlog::payload::PayloadReader;
use crate::binlog::rows_event::RowsEvent;
use crate::binlog::table_map::TableMap;
use crate::captured::{Captured, Mark};
use crate::gtid::Gtid;
use crate::layout::{ImagePlan, TableLayout};
use crate::position::{ServerPosition, TableState, Within};
use crate::rows::RowMeta;
use crate::server::{LogPosition, Server};
use crate::wire::Conn;

/// What an event asks of the one who reads on.
pub enum Routed {
    Nothing,
    /// The events of a compressed transaction, to be routed one by one.
    Payload(PayloadReader),
}

/// Routes the events of one server.
pub struct Router {
    pub tables: Vec<Captured>,
    /// The tables' layouts, in their order.
    layouts: Vec<Arc<TableLayout>>,
    names_without_case: bool,
    /// By the numbers that rows events use: which captured tables they are for.
    maps: HashMap<u64, Vec<(usize, Arc<ImagePlan>)>>,
    /// Behind the last complete transaction.
    position: ServerPosition,
    split: SplitId,
    transaction: Option<Transaction>,
    meta: RowMeta,
    /// The position has moved since the last piece.
    moved: bool,
    /// A transaction of which a part was emitted is committed, and no piece has said so yet.
    owes_end: bool,
    /// When the last routed transaction was committed (µs since 1970).
    commit_us: u64,
}

struct Transaction {
    gtid: Gtid,
    /// `BEGIN` was there: a commit follows. Else the statement that comes is all.
    is_open: bool,
    /// The name of a distributed transaction, from its `XA START` on.
    xid: Option<String>,
    /// It has rows of captured tables.
    has_rows: bool,
    /// Some of its rows are emitted.
    is_cut: bool,
    savepoints: Vec<(String, Vec<Mark>)>,
    order: i64,
    commit_us: u64,
}

impl Router {
    pub fn new(tables: Vec<Captured>, names_without_case: bool, mut position: ServerPosition, split: SplitId) -> Self {
        // The tables know themselves where they stand.
        position.tables.clear();
        Router {
            layouts: tables.iter().map(|t| t.layout.clone()).collect(),
            names_without_case,
            tables,
            maps: HashMap::new(),
            meta: RowMeta { op_ts_ms: 0, order: position.rows as i64 },
            position,
            split,
            transaction: None,
            moved: false,
            owes_end: false,
            commit_us: 0,
        }
    }

    /// A piece must come before the next transaction begins, or their ticks become one: with every transaction larger
    /// than a piece, no tick would ever end.
    pub fn owes_end(&self) -> bool {
        self.owes_end
    }

    /// Behind what was routed of complete transactions.
    pub fn position(&self) -> &ServerPosition {
        &self.position
    }

    /// Between two transactions, and none is half.
    pub fn is_between(&self) -> bool {
        !self.is_in_transaction() && self.position.within.is_empty()
    }

    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    pub fn commit_us(&self) -> u64 {
        self.commit_us
    }

    /// Bytes and rows that wait to be emitted.
    pub fn waiting(&self) -> (usize, usize) {
        self.tables.iter().map(Captured::waiting).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    pub fn has_moved(&self) -> bool {
        self.moved
    }

    /// The order of the next row.
    pub fn next_order(&self) -> i64 {
        self.meta.order
    }

    /// Rows that came another way were given orders up to this.
    pub fn set_next_order(&mut self, order: i64) {
        self.meta.order = order;
    }

    /// The stream begins anew behind the position: of a transaction that was being read, what is not emitted comes again.
    pub fn restart(&mut self, server_uuid: &str) {
        self.maps.clear();
        // Its high position is a place in the other stream's log.
        self.tables.iter_mut().for_each(|t| t.chunk = None);
        if let Some(t) = self.transaction.take() {
            if t.is_cut {
                self.position.put_within(self.within(&t));
            } else {
                self.tables.iter_mut().for_each(Captured::drop_transaction);
                self.meta.order = t.order;
            }
        }
        if self.position.server != server_uuid {
            self.position.server = server_uuid.to_owned();
            (self.position.file, self.position.pos) = (String::new(), 0);
        }
    }

    fn within(&self, t: &Transaction) -> Within {
        // What is still to be skipped was emitted too.
        let taken = self.tables.iter().map(|c| (c.name.clone(), c.taken + c.skip)).filter(|(_, taken)| *taken > 0);
        Within { gtid: t.gtid.clone(), rows: taken.collect::<BTreeMap<_, _>>() }
    }

    /// Takes an event in. `at` is the place in the log behind it (or behind the payload that it is in).
    pub fn route(&mut self, event: &Event<'_>, at: &LogPosition) -> Result<Routed> {
        match &event.data {
            EventData::Gtid(e) => self.begin(e, event.header.timestamp)?,
            EventData::TableMap(map) => self.map(map)?,
            EventData::Rows(rows) => self.rows(rows)?,
            EventData::Xid(_) => self.commit(at),
            EventData::Query(query) => self.query(query, at)?,
            EventData::XaPrepare(prepare) => {
                let xid = prepare.to_string().to_lowercase();
                let has_rows = self.transaction.as_ref().is_some_and(|t| t.has_rows);
                if !prepare.one_phase && has_rows {
                    return Err(Error::unsupported(format!(
                        "the distributed transaction {xid} was prepared (XA PREPARE) with rows of captured tables"
                    ))
                    .note("whether they will ever be visible is not known yet, which is not supported")
                    .note("leave these tables out of distributed transactions, or start with --fresh after it is committed"));
                }
                if !prepare.one_phase {
                    self.position.prepared.insert(xid);
                }
                self.commit(at);
            }
            EventData::TransactionPayload(payload) => {
                let bytes = bytes::Bytes::copy_from_slice(payload.bytes);
                return Ok(Routed::Payload(PayloadReader::new(payload, bytes)?));
            }
            EventData::PartialUpdateRows { table_id } => {
                if let Some((table, _)) = self.maps.get(table_id).and_then(|m| m.first()) {
                    return Err(Error::unsupported(format!(
                        "the binlog holds an update of table {} with a part of a JSON document only",
                        self.tables[*table].layout.name()
                    ))
                    .note("a session wrote with binlog_row_value_options = PARTIAL_JSON: SET PERSIST binlog_row_value_options = ''")
                    .note("and see that no session sets it for itself; then start with --fresh"));
                }
            }
            EventData::Incident { number, message } => {
                return Err(Error::changelog(format!(
                    "the server says that its binlog lacks something (incident {number}: {})",
                    String::from_utf8_lossy(message)
                ))
                .note("start with --fresh, so that the tables are read again"));
            }
            EventData::ExecuteLoadQuery => {
                return Err(Error::unsupported("the binlog holds a LOAD DATA statement in place of its rows")
                    .note("a session wrote with binlog_format = STATEMENT or MIXED: SET PERSIST binlog_format = ROW; then start with --fresh"));
            }
            EventData::Rotate { .. } | EventData::FormatDescription(_) => {
                // A new file, or the server was started anew: table numbers begin again.
                self.maps.clear();
                self.stand(at);
            }
            EventData::Heartbeat { .. } | EventData::Stop => self.stand(at),
            EventData::RowsQuery(_) | EventData::PreviousGtids(_) | EventData::Other => {}
        }
        Ok(Routed::Nothing)
    }

    /// The position moves though there is no transaction.
    fn stand(&mut self, at: &LogPosition) {
        if self.transaction.is_none() && (self.position.pos, &self.position.file) != (at.pos, &at.file) {
            self.position.pos = at.pos;
            self.position.file.clone_from(&at.file);
            self.moved = true;
        }
    }

    fn begin(&mut self, event: &GtidEvent, timestamp: u32) -> Result<()> {
        if let Some(t) = &self.transaction {
            return Err(Error::changelog(format!("the binlog has no end of transaction {}", t.gtid)));
        }
        let Some(gtid) = event.gtid.clone() else {
            return Err(Error::unsupported("the binlog holds a transaction without a GTID").note(
                "gtid_mode was not ON when it was written: SET PERSIST gtid_mode = ON; then start with --fresh",
            ));
        };
        let commit_us =
            if event.immediate_commit_us > 0 { event.immediate_commit_us } else { u64::from(timestamp) * 1_000_000 };
        let original = if event.original_commit_us > 0 { event.original_commit_us } else { commit_us };
        self.meta.op_ts_ms = (original / 1000) as i64;
        self.tables.iter_mut().for_each(Captured::begin_transaction);
        let within = self.position.within.iter().find(|w| w.gtid == gtid);
        if let Some(within) = within {
            for table in &mut self.tables {
                table.skip = within.rows.get(&table.name).copied().unwrap_or(0);
            }
        }
        self.transaction = Some(Transaction {
            is_cut: within.is_some(),
            gtid,
            is_open: false,
            xid: None,
            has_rows: false,
            savepoints: vec![],
            order: self.meta.order,
            commit_us,
        });
        Ok(())
    }

    fn map(&mut self, map: &TableMap<'_>) -> Result<()> {
        let mut targets = vec![];
        for (i, table) in self.tables.iter().enumerate() {
            if table.layout.table().as_bytes() == map.table && table.layout.database().as_bytes() == map.database {
                targets.push((i, table.layout.image_plan(map)?));
            }
        }
        self.maps.insert(map.table_id, targets);
        Ok(())
    }

    fn rows(&mut self, rows: &RowsEvent<'_>) -> Result<()> {
        let Some(targets) = self.maps.get(&rows.table_id) else {
            return Err(Error::changelog(format!("rows of table number {}, which no event has named", rows.table_id)));
        };
        let Some(transaction) = &mut self.transaction else {
            return Err(Error::changelog("rows outside of a transaction"));
        };
        transaction.has_rows |= !targets.is_empty();
        for (table, plan) in targets {
            self.tables[*table].take_images(plan, &mut rows.images(), &mut self.meta)?;
        }
        if rows.ends_statement {
            // The next statement names its tables anew.
            self.maps.clear();
        }
        Ok(())
    }

    fn commit(&mut self, at: &LogPosition) {
        if let Some(t) = self.transaction.take() {
            self.position.within.retain(|w| w.gtid != t.gtid);
            self.owes_end |= t.is_cut;
            self.position.gtid_set.add(&t.gtid);
            self.commit_us = t.commit_us;
        }
        self.position.rows = self.meta.order as u64;
        self.position.pos = at.pos;
        self.position.file.clone_from(&at.file);
        self.moved = true;
    }

    /// The rows of the running transaction are void.
    fn rollback(&mut self, at: &LogPosition) -> Result<()> {
        let Some(t) = &self.transaction else { return Ok(()) };
        if t.is_cut {
            return Err(Error::unsupported(format!(
                "transaction {} was rolled back after a part of it was emitted, since it is larger than a tick may be",
                t.gtid
            ))
            .note("such transactions change tables that are not transactional; start with --fresh"));
        }
        self.void_since_begin();
        self.commit(at);
        Ok(())
    }

    fn void_since_begin(&mut self) {
        for table in &mut self.tables {
            table.drop_transaction();
            // What was folded cannot be taken out again.
            table.chunk = None;
        }
    }
}

impl Router {
    fn query(&mut self, query: &Query<'_>, at: &LogPosition) -> Result<()> {
        match self.effect(query)? {
            Effect::Begin => {
                if let Some(t) = &mut self.transaction {
                    t.is_open = true;
                }
            }
            Effect::XaStart(xid) => {
                if let Some(t) = &mut self.transaction {
                    t.is_open = true;
                    t.xid = Some(xid.to_lowercase());
                }
            }
            Effect::Commit => self.commit(at),
            Effect::Rollback => self.rollback(at)?,
            Effect::Savepoint(name) => {
                let marks = self.tables.iter().map(Captured::mark).collect();
                if let Some(t) = &mut self.transaction {
                    t.savepoints.push((name, marks));
                }
            }
            Effect::RollbackTo(name) => self.rollback_to(&name)?,
            Effect::XaEnd => {}
            Effect::XaCommit(xid) => self.xa_commit(&xid.to_lowercase(), at)?,
            Effect::XaRollback(xid) => {
                self.position.prepared.remove(&xid.to_lowercase());
                self.commit(at);
            }
            Effect::Nothing => self.end_statement(at),
            Effect::Columns(changed) => {
                for (table, columns) in changed {
                    self.tables[table].change_layout(columns)?;
                    self.layouts[table] = self.tables[table].layout.clone();
                }
                self.end_statement(at);
            }
        }
        Ok(())
    }

    fn effect(&self, query: &Query<'_>) -> Result<Effect> {
        let captured = ddl::Captured { layouts: &self.layouts, names_without_case: self.names_without_case };
        ddl::effect(query, &captured)
    }

    /// Whether what waits must be emitted before a statement is routed: it changes captured tables, or begins a
    /// distributed transaction, in which nothing can be emitted.
    pub fn ends_piece(&self, query: &Query<'_>) -> bool {
        match self.effect(query) {
            Ok(Effect::Columns(_)) => true,
            Ok(Effect::XaStart(_)) => self.waiting().1 > 0,
            _ => false,
        }
    }

    /// Before a piece that ends here, perhaps within a transaction.
    ///
    /// # Errors
    /// The transaction is a distributed one: whether its rows will be visible is not known before its end.
    pub fn may_cut(&self) -> Result<()> {
        let Some(Transaction { xid: Some(xid), has_rows: true, .. }) = &self.transaction else { return Ok(()) };
        Err(Error::unsupported(format!(
            "the distributed transaction {xid} has more rows of captured tables than can be held until its end"
        ))
        .note("whether they will ever be visible is not known before, so that none of them was emitted")
        .note("leave these tables out of distributed transactions, or start with --fresh after it is committed"))
    }

    /// A statement outside of `BEGIN` is a transaction of its own.
    fn end_statement(&mut self, at: &LogPosition) {
        if self.transaction.as_ref().is_none_or(|t| !t.is_open) {
            self.commit(at);
        }
    }

    /// What came since a savepoint is void: the server has written it down all the same, since the transaction also
    /// changed what is not transactional.
    fn rollback_to(&mut self, name: &str) -> Result<()> {
        let Some(t) = &mut self.transaction else { return Ok(()) };
        let Some(at) = t.savepoints.iter().rposition(|(n, _)| n.eq_ignore_ascii_case(name)) else {
            return Err(Error::changelog(format!(
                "transaction {} goes back to savepoint {name}, which is not in it",
                t.gtid
            )));
        };
        t.savepoints.truncate(at + 1);
        let marks = t.savepoints[at].1.clone();
        if t.is_cut {
            return Err(Error::unsupported(format!(
                "transaction {} goes back to a savepoint after a part of it was emitted, since it is larger than a tick may be",
                t.gtid
            ))
            .note("such transactions change tables that are not transactional; start with --fresh"));
        }
        for (table, mark) in self.tables.iter_mut().zip(marks) {
            table.drop_since(mark);
            table.chunk = None;
        }
        Ok(())
    }

    fn xa_commit(&mut self, xid: &str, at: &LogPosition) -> Result<()> {
        // One that was prepared before reading began may hold rows that nobody has seen.
        if !self.position.prepared.remove(xid) && self.position_has_rows() {
            return Err(Error::unsupported(format!(
                "the distributed transaction {xid} is committed, which was prepared before reading began: its rows may be missed"
            ))
            .note("start with --fresh, so that the tables are read again"));
        }
        self.commit(at);
        Ok(())
    }

    /// Rows of a table were emitted, or read and not emitted yet.
    fn position_has_rows(&self) -> bool {
        self.tables.iter().any(|t| t.state != TableState::Empty || t.chunk.is_some())
    }

    /// What waits, as a piece with the position behind it; `None` if there is neither.
    ///
    /// Within a transaction the piece says that it goes on. `conn` is asked about keys whose order only the server knows.
    pub async fn take_piece(&mut self, server: &Server, conn: &mut Option<Conn>) -> Result<Option<Piece>> {
        // What can fail comes first: nothing is taken out of the tables until all is known.
        for table in &mut self.tables {
            if table.has_undecided() {
                if conn.is_none() {
                    *conn = Some(server.connect_for_snapshot().await?);
                }
                let Some(conn) = conn.as_mut() else { continue };
                table.decide(server, conn).await?;
            }
        }
        let mut changes: Vec<(usize, Changes)> = vec![];
        for (i, table) in self.tables.iter_mut().enumerate() {
            changes.extend(table.finish()?.into_iter().map(|c| (i, c)));
        }
        if changes.is_empty() && !self.moved {
            return Ok(None);
        }
        if let Some(t) = &mut self.transaction {
            t.is_cut |= t.has_rows;
        }
        // A transaction of which nothing is in here may begin a tick of its own.
        let is_within = self.transaction.as_ref().is_some_and(|t| t.is_cut);
        let continues = is_within || !self.position.within.is_empty();
        Ok(Some(self.piece(changes, continues)))
    }

    /// A piece with the position behind what was routed.
    pub fn piece(&mut self, changes: Vec<(usize, Changes)>, continues: bool) -> Piece {
        self.moved = false;
        self.owes_end &= continues;
        let mut position = self.position.clone();
        position.rows = self.meta.order as u64;
        if let Some(t) = self.transaction.as_ref().filter(|t| t.is_cut) {
            position.put_within(self.within(t));
        }
        position.tables = self.tables.iter().map(|t| (t.name.clone(), t.position())).collect();
        let event_time_lag_ms =
            (!changes.is_empty() && self.commit_us > 0).then(|| (now_us() - self.commit_us as i64) / 1000);
        Piece {
            changes,
            continues,
            positions: vec![(self.split.clone(), position.to_stored())],
            watermark: None,
            event_time_lag_ms,
        }
    }
}

#[cfg(test)]
mod tests;
