//! A job without an engine: reads a source group by group, folds strictly, can stop anywhere and go on from a position.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_connector_api::conformance::rows_of;
use thalweg_connector_api::{Connector, Piece, Position, Reader, ReaderCx, Source, SourceTable, Status};
use thalweg_core::mark::JobId;
use thalweg_core::table::{ColumnKind, TableColumn, TableDef};
use thalweg_core::{Column, Error, Result, SqlType};
use thalweg_mysql::MysqlCdc;
use tokio::runtime::Runtime;

use crate::mysqld::{Mysqld, Session};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A declared table of a server.
pub fn table(
    server: &Mysqld,
    database: &str,
    name: &str,
    columns: &[(&str, SqlType)],
    options: &[(&str, &str)],
) -> SourceTable {
    let metadata = ["op_ts", "row_kind", "database_name", "table_name"];
    let column = |(name, ty): &(&str, SqlType)| TableColumn {
        column: Column::new(*name, ty.clone(), true),
        kind: match metadata.contains(name) {
            true => ColumnKind::Metadata { key: (*name).to_owned(), is_virtual: true },
            false => ColumnKind::Physical,
        },
    };
    let mut all: BTreeMap<String, String> = [
        ("connector", "mysql-cdc"),
        ("hostname", "127.0.0.1"),
        ("port", &server.port().to_string()),
        ("username", "root"),
        ("database-name", database),
        ("table-name", name),
        ("heartbeat.interval", "300 ms"),
        ("connect.timeout", "5 s"),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect();
    all.extend(options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    SourceTable {
        def: TableDef {
            name: name.to_owned(),
            columns: columns.iter().map(column).collect(),
            primary_key: vec![],
            partitioned_by: vec![],
            options: all,
        },
        columns: (0..columns.len()).collect(),
        with_order: false,
    }
}

/// Rows by their text, `0: 1 | a`, with weights that must stay 0 or 1.
#[derive(Default, Clone)]
pub struct Fold {
    pub rows: BTreeMap<String, i64>,
    pub changes: usize,
}

impl Fold {
    /// Takes in everything of one tick.
    pub fn apply(&mut self, group: &[Piece]) -> Result<(), String> {
        let mut net: BTreeMap<String, i64> = BTreeMap::new();
        for piece in group {
            for (table, changes) in &piece.changes {
                for (row, weight) in rows_of(*table, changes) {
                    self.changes += 1;
                    *net.entry(row).or_default() += weight;
                }
            }
        }
        for (row, change) in net {
            let weight = self.rows.entry(row.clone()).or_default();
            *weight += change;
            match *weight {
                0 => drop(self.rows.remove(&row)),
                1 => {}
                other => return Err(format!("{row} is there {other} times")),
            }
        }
        Ok(())
    }

    /// The rows of one table.
    pub fn of(&self, table: usize) -> Vec<String> {
        let prefix = format!("{table}: ");
        self.rows.keys().filter_map(|r| r.strip_prefix(&prefix)).map(str::to_owned).collect()
    }
}

/// A job that reads.
pub struct Job {
    pub source: Arc<dyn Source>,
    pub position: Option<Position>,
    pub fold: Fold,
    /// Rows and bytes of a piece.
    pub limits: (usize, usize),
    pub status: Status,
    runtime: Arc<Runtime>,
    reader: Option<Box<dyn Reader>>,
}

fn runtime() -> Arc<Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    Arc::new(built.expect("a runtime starts"))
}

impl Job {
    /// Asks the server whether all is well, and where to begin.
    pub fn start(tables: &[SourceTable], name: &str) -> Result<Job> {
        let runtime = runtime();
        let source = MysqlCdc.open_source(tables, &JobId(name.to_owned()))?;
        let position = runtime.block_on(async {
            let splits = source.splits().await?;
            Ok::<_, Error>(source.start(&splits, false).await?.pop().flatten())
        })?;
        let (fold, limits, status) = (Fold::default(), (8192, 4 << 20), Status::default());
        Ok(Job { source, position, fold, limits, status, runtime, reader: None })
    }

    /// Whatever the reader has read ahead is gone; the next one goes on from the position.
    pub fn stop(&mut self) {
        let _in_runtime = self.runtime.enter();
        self.reader = None;
    }

    async fn open(&self) -> Result<Box<dyn Reader>> {
        let splits = self.source.splits().await?;
        let cx = ReaderCx {
            job_name: "test".to_owned(),
            status: self.status.clone(),
            worker: 0,
            workers: 1,
            piece_rows_max: self.limits.0,
            piece_bytes_max: self.limits.1,
        };
        let split = splits.into_iter().next().expect("a server is a split");
        self.source.reader(vec![(split, self.position.clone())], cx)
    }

    /// The pieces of the next tick, at most so many; `None` at the end of the input.
    async fn group(&mut self, pieces_max: usize) -> Result<Option<Vec<Piece>>> {
        if self.reader.is_none() {
            self.reader = Some(self.open().await?);
        }
        let reader = self.reader.as_mut().expect("just opened");
        let mut group = vec![];
        loop {
            let Some(piece) = reader.next().await? else { return Ok(None) };
            let continues = piece.continues;
            group.push(piece);
            if !continues || group.len() >= pieces_max {
                return Ok(Some(group));
            }
        }
    }

    fn take(&mut self, group: &[Piece]) {
        self.fold.apply(group).unwrap_or_else(|e| panic!("{e}; at {:?}", group.last().map(|p| &p.positions)));
        for (_, position) in group.iter().flat_map(|p| &p.positions) {
            self.position = Some(position.clone());
        }
    }

    /// Takes in the next tick; false at the end of the input.
    pub fn tick(&mut self) -> Result<bool> {
        self.tick_of(usize::MAX)
    }

    /// Takes in the next tick, which is cut after so many pieces.
    pub fn tick_of(&mut self, pieces_max: usize) -> Result<bool> {
        let runtime = self.runtime.clone();
        let group = runtime.block_on(async { tokio::time::timeout(PATIENCE, self.group(pieces_max)).await });
        let group = group.unwrap_or_else(|_| panic!("nothing for {PATIENCE:?}; at {:?}", self.position))?;
        if let Some(group) = &group {
            self.take(group);
        }
        Ok(group.is_some())
    }

    /// Reads on while the condition does not hold.
    pub fn until(&mut self, what: &str, mut condition: impl FnMut(&Job) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            match self.tick() {
                Ok(true) => {}
                Ok(false) => return assert!(condition(self), "the input has ended without: {what}"),
                Err(e) => panic!("{e}"),
            }
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; at {:?}", self.position);
        }
    }

    /// Reads until the snapshot of every table is through.
    pub fn snapshot(&mut self) {
        self.until("the snapshot", Job::is_done);
    }

    /// Reads until the rows of a table are those of the server, by a SELECT of the declared columns.
    pub fn until_same(&mut self, table: usize, session: &mut Session, sql: &str) {
        let mut expected: Vec<String> = session.rows(sql).into_iter().map(|r| r.join(" | ")).collect();
        expected.sort();
        let began = Instant::now();
        loop {
            let rows = self.fold.of(table);
            if rows == expected {
                return;
            }
            if began.elapsed() > PATIENCE {
                let missing: Vec<_> = expected.iter().filter(|r| !rows.contains(r)).take(5).collect();
                let wrong: Vec<_> = rows.iter().filter(|r| !expected.contains(r)).take(5).collect();
                panic!(
                    "{} rows of {}; missing {missing:?}; wrong {wrong:?}; at {:?}",
                    rows.len(),
                    expected.len(),
                    self.position
                );
            }
            self.tick().unwrap_or_else(|e| panic!("{e}"));
        }
    }

    pub fn is_done(&self) -> bool {
        let tables = self.position.as_ref().and_then(|p| p.0["tables"].as_object());
        tables.is_some_and(|t| t.values().all(|t| t["snapshot"] == "done"))
    }

    /// The first error of the reader.
    pub fn error(&mut self) -> Error {
        loop {
            match self.tick() {
                Ok(true) => {}
                Ok(false) => panic!("the input has ended"),
                Err(e) => return e,
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Decides everything that is random; printed, and given back by `THALWEG_TEST_SEED`.
pub fn seed() -> u64 {
    let given = std::env::var("THALWEG_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = given.unwrap_or_else(|| now.map_or(1, |d| u64::from(d.subsec_nanos())));
    println!("THALWEG_TEST_SEED={seed}");
    seed
}
