//! A server with the tables that a job reads from it, on the coordinator: checks, and where reading begins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use thalweg_connector_api::{Position, Reader, ReaderCx, Source, SourceTable, Split, SplitId};
use thalweg_core::mark::JobId;
use thalweg_core::{Error, Result};

use crate::binlog::stream::{created_at, executed_before, replica_uuid};
use crate::check::{self, ServerTable, Wanted};
use crate::layout::{ServerColumn, TableLayout, TableSpec};
use crate::options::{Startup, TableOptions};
use crate::position::{ServerPosition, TablePosition, TableState};
use crate::pump::PumpConfig;
use crate::reader::MysqlReader;
use crate::server::{Server, ServerState, text};
use crate::wire::Conn;

/// How often a position is asked for anew, since a DDL came in between.
const BEGIN_ATTEMPTS_MAX: usize = 5;

/// A declared table of the source.
#[derive(Clone)]
pub struct TableConfig {
    /// As positions name it: `shop.orders`, with how it is read if a job may read the same table twice.
    pub name: String,
    pub source: SourceTable,
    pub options: TableOptions,
}

impl TableConfig {
    fn new(source: &SourceTable) -> Result<Self> {
        let options = TableOptions::new(&source.def)?;
        let how = match (options.is_log, options.startup.has_snapshot()) {
            (true, _) => " as a log",
            (false, true) => "",
            (false, false) => " as changes",
        };
        let name = format!("{}.{}{how}", options.database, options.table);
        Ok(TableConfig { name, source: source.clone(), options })
    }

    pub fn first_state(&self) -> TableState {
        if self.options.startup.has_snapshot() { TableState::Empty } else { TableState::Done }
    }

    /// The table with columns as a position or the server has them.
    pub fn layout(
        &self,
        found: &ServerTable,
        columns: Vec<ServerColumn>,
        primary_key: &[String],
    ) -> Result<TableLayout> {
        // Without a snapshot nothing is cut by the key, so it may be of any type.
        let key = if self.options.startup.has_snapshot() { primary_key } else { &[] };
        let place = |name: &String| {
            let found = columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
            found.ok_or_else(|| {
                let table = &self.source.def.name;
                Error::checkpoint(format!("table {table}: key column \"{name}\" is not among its columns"))
            })
        };
        let primary_key = key.iter().map(place).collect::<Result<Vec<_>>>()?;
        TableLayout::new(TableSpec {
            source: self.source.clone(),
            database: found.database.clone(),
            table: found.table.clone(),
            columns,
            primary_key,
            allows_cascades: found.logs_cascades || self.options.ignore_cascades,
            options: self.options.values.clone(),
        })
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            name: &self.source.def.name,
            database: &self.options.database,
            table: &self.options.table,
            has_snapshot: self.options.startup.has_snapshot(),
            ignore_cascades: self.options.ignore_cascades,
        }
    }

    /// The declared key must be the server's: of it the job believes that it holds.
    fn check_key(&self, found: &ServerTable) -> Result<()> {
        let def = &self.source.def;
        if def.primary_key.is_empty() {
            return Ok(());
        }
        let declared: BTreeSet<String> =
            def.primary_key.iter().map(|&k| def.columns[k].column.name.to_lowercase()).collect();
        let theirs: BTreeSet<String> = found.key_names().iter().map(|n| n.to_lowercase()).collect();
        if theirs.is_subset(&declared) {
            return Ok(());
        }
        let list = found.key_names().join(", ");
        Err(Error::option(format!(
            "table {}: the declared primary key ({}) does not contain the server's ({list})",
            def.name,
            def.primary_key.iter().map(|&k| def.columns[k].column.name.as_str()).collect::<Vec<_>>().join(", ")
        ))
        .note(format!("declare PRIMARY KEY ({list}) NOT ENFORCED, or none")))
    }
}

/// One MySQL server.
pub struct MysqlSource {
    server: Server,
    tables: Vec<TableConfig>,
    split: SplitId,
    replica_uuid: String,
    /// What the server said when it was asked last.
    found: Mutex<Found>,
}

#[derive(Clone, Default)]
struct Found {
    tables: Vec<ServerTable>,
    names_without_case: bool,
}

impl MysqlSource {
    pub fn new(tables: &[SourceTable], job: &JobId) -> Result<Self> {
        let tables = tables.iter().map(TableConfig::new).collect::<Result<Vec<_>>>()?;
        let first = tables.first().ok_or_else(|| Error::internal("a source without tables"))?;
        for other in &tables[1..] {
            same_server_options(first, other)?;
        }
        let mut names: HashMap<&str, &str> = HashMap::new();
        for table in &tables {
            if let Some(before) = names.insert(&table.name, &table.source.def.name) {
                return Err(Error::option(format!(
                    "tables {before} and {} of one job read the same table of the server",
                    table.source.def.name
                ))
                .note("use one of them in all places; a view can give it another name"));
            }
        }
        let split = SplitId(format!("{}{}", first.options.address(), first.options.startup.group()));
        Ok(MysqlSource {
            server: Server::new(first.options.server.clone())?,
            replica_uuid: replica_uuid(job, &split.0),
            split,
            tables,
            found: Mutex::default(),
        })
    }

    fn startup(&self) -> &Startup {
        &self.tables[0].options.startup
    }

    /// Asks the server whether it has what is needed, and what it knows of the tables.
    async fn check(&self, conn: &mut Conn) -> Result<Found> {
        check::settings(&self.server, conn).await?;
        check::grants(&self.server, conn).await?;
        let mut tables = vec![];
        for table in &self.tables {
            let known = check::table(&self.server, conn, table.wanted()).await?;
            table.check_key(&known)?;
            // Whether the declared columns fit.
            table.layout(&known, known.columns.clone(), &known.key_names())?;
            tables.push(known);
        }
        let variables = check::variables(&self.server, conn, &["lower_case_table_names"]).await?;
        let names_without_case = variables.get("lower_case_table_names").is_some_and(|v| v != "0");
        check::is_logged(&self.server, conn, &tables, names_without_case).await?;
        Ok(Found { tables, names_without_case })
    }

    /// A position, with the columns that the tables have at it: a DDL between the two questions would be before the one and
    /// not in the other.
    async fn begin_with_columns(&self, conn: &mut Conn) -> Result<ServerPosition> {
        for _ in 0..BEGIN_ATTEMPTS_MAX {
            let position = self.begin(conn).await?;
            let now = self.check(conn).await?;
            let columns = |t: &ServerTable| (t.columns.clone(), t.primary_key.clone());
            let is_same = {
                let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                let is_same = found.tables.iter().map(columns).eq(now.tables.iter().map(columns));
                *found = now;
                is_same
            };
            if is_same {
                return Ok(position);
            }
        }
        Err(Error::io(format!(
            "MySQL {}: the tables are being changed while reading is to begin",
            self.server.address()
        )))
    }

    /// The position before the first transaction that is to be read.
    async fn begin(&self, conn: &mut Conn) -> Result<ServerPosition> {
        check::nothing_prepared(&self.server, conn).await?;
        let state = self.server.state(conn).await?;
        if matches!(
            self.startup(),
            Startup::Earliest | Startup::GtidSet(_) | Startup::File { .. } | Startup::Timestamp(_)
        ) {
            self.warn_of_old_columns(conn).await?;
        }
        let gtid_set = match self.startup() {
            // The log's end, read after what is visible: both name the same transactions, or the log's end some more.
            Startup::Initial | Startup::Snapshot | Startup::Latest => state.executed.clone(),
            Startup::Earliest => state.purged.clone(),
            Startup::GtidSet(set) => known_set(&self.server, set, &state)?,
            Startup::File { file, position } => {
                let files = self.files(conn).await?;
                if !files.contains(file) {
                    return Err(Error::option(format!("MySQL {} has no binlog {file}", self.server.address()))
                        .note(format!("it has: {}", files.join(", "))));
                }
                executed_before(&self.server, file, &self.replica_uuid, |at, _| at.file != *file || at.pos >= *position)
                    .await?
            }
            Startup::Timestamp(ms) => self.before_time(conn, *ms).await?,
        };
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tables = self.tables.iter().zip(&found.tables).map(|(table, found)| {
            let position = TablePosition {
                snapshot: table.first_state(),
                columns: found.columns.clone(),
                primary_key: found.key_names(),
            };
            (table.name.clone(), position)
        });
        Ok(ServerPosition {
            gtid_set,
            file: String::new(),
            pos: 0,
            server: state.uuid,
            within: vec![],
            rows: 0,
            tables: tables.collect::<BTreeMap<_, _>>(),
            prepared: BTreeSet::new(),
        })
    }

    /// Rows of the past are read by the columns of today.
    async fn warn_of_old_columns(&self, conn: &mut Conn) -> Result<()> {
        const NAME: &str = "binlog_row_metadata";
        let found = check::variables(&self.server, conn, &[NAME]).await?;
        if found.get(NAME).is_none_or(|v| !v.eq_ignore_ascii_case("FULL")) {
            let tables: Vec<&str> = self.tables.iter().map(|t| t.name.as_str()).collect();
            tracing::warn!(
                event = "old_columns",
                "MySQL {}: {NAME} is not FULL, so rows in the binlog name no columns: they are read as the columns that {} has now; a column that was moved or renamed since is noticed only if its type differs",
                self.server.address(),
                tables.join(", ")
            );
        }
        Ok(())
    }

    async fn files(&self, conn: &mut Conn) -> Result<Vec<String>> {
        let rows = self.server.query(conn, "SHOW BINARY LOGS").await?;
        Ok(rows.into_iter().filter_map(|r| r.into_iter().next().flatten().map(text)).collect())
    }

    /// What was executed before a time: the last file that was begun before it is read up to there.
    async fn before_time(&self, conn: &mut Conn, ms: u64) -> Result<crate::gtid::GtidSet> {
        let files = self.files(conn).await?;
        let (mut low, mut high) = (0, files.len());
        // Invariant: files below `low` were begun before the time, those from `high` on were not.
        while low < high {
            let middle = (low + high) / 2;
            let begun_s = created_at(&self.server, &files[middle], &self.replica_uuid).await?;
            // The file says it in whole seconds.
            if (u64::from(begun_s) + 1) * 1000 <= ms { low = middle + 1 } else { high = middle }
        }
        let Some(file) = files.get(low.saturating_sub(1)) else {
            return Err(Error::io(format!("MySQL {} lists no binlog", self.server.address())));
        };
        executed_before(&self.server, file, &self.replica_uuid, |_, commit_us| commit_us >= ms.saturating_mul(1000))
            .await
    }
}

fn known_set(server: &Server, set: &crate::gtid::GtidSet, state: &ServerState) -> Result<crate::gtid::GtidSet> {
    let unknown = set.subtract(&state.executed);
    if unknown.is_empty() {
        return Ok(set.clone());
    }
    Err(Error::option(format!("MySQL {} has never executed {unknown}", server.address()))
        .note("'scan.startup.specific-offset.gtid-set' names the transactions that are not to be read"))
}

/// One reader reads all tables of a server, so it can log in in one way only.
fn same_server_options(a: &TableConfig, b: &TableConfig) -> Result<()> {
    let of = |t: &TableConfig| {
        let s = &t.options.server;
        [
            ("username", s.login.user.clone()),
            ("password", s.login.password.expose().to_owned()),
            ("server-id", format!("{:?}", s.server_ids)),
            ("connect.timeout", format!("{:?}", s.connect_timeout)),
            ("connect.max-retries", s.connect_retries_max.to_string()),
            ("heartbeat.interval", format!("{:?}", s.heartbeat_interval)),
            ("tls.mode", format!("{:?}", s.tls.mode)),
            ("tls.ca-file", format!("{:?}", s.tls.ca)),
            ("tls.certificate-file", format!("{:?}", s.tls.certificate)),
            ("tls.key-file", format!("{:?}", s.tls.key)),
        ]
    };
    let differs = of(a).into_iter().zip(of(b)).find(|(a, b)| a != b);
    let Some(((option, _), _)) = differs else { return Ok(()) };
    Err(Error::option(format!(
        "tables {} and {} are read from one server by one reader, but their '{option}' differs",
        a.source.def.name, b.source.def.name
    ))
    .note("give both the same; CREATE TABLE … LIKE helps to write it once"))
}

#[async_trait]
impl Source for MysqlSource {
    async fn splits(&self) -> Result<Vec<Split>> {
        let mut conn = self.server.connect().await?;
        let found = self.check(&mut conn).await?;
        conn.close().await;
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(vec![Split { id: self.split.clone(), detail: serde_json::Value::Null }])
    }

    async fn start(&self, splits: &[Split], _: bool) -> Result<Vec<Option<Position>>> {
        let mut positions = vec![];
        for _ in splits {
            let mut conn = self.server.connect().await?;
            positions.push(Some(self.begin_with_columns(&mut conn).await?.to_stored()));
            conn.close().await;
        }
        Ok(positions)
    }

    fn reader(&self, splits: Vec<(Split, Option<Position>)>, cx: ReaderCx) -> Result<Box<dyn Reader>> {
        let bounded = *self.startup() == Startup::Snapshot;
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let config = PumpConfig {
            server: self.server.clone(),
            tables: self.tables.clone(),
            found: found.tables,
            names_without_case: found.names_without_case,
            replica_uuid: self.replica_uuid.clone(),
            bounded,
            cx,
        };
        Ok(Box::new(MysqlReader::new(config, splits, bounded)?))
    }
}
