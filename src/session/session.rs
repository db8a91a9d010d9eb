//! A session: catalog, settings, own tables and jobs, and `execute`, which runs one statement. The library that the
//! shell, `run` and `test` call, and the embedding API.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use thalweg_connector_api::Registry;
use thalweg_core::table::{SinkInfo, SourceInfo, TableDef};
use thalweg_core::{Error, Result};
use thalweg_plan::{Catalog, Connectors, OwnTableInfo, Parsed, PlanSettings, Planner};
use thalweg_runtime::{BuildOperator, Disturb, OperatorCx, RuntimeOptions};
use thalweg_state::Budget;

use crate::directory::Directory;
use crate::jobs::{Job, RestoreFlags};
use crate::own_table::OwnTable;
use crate::settings::Settings;

/// How a session is opened.
#[derive(Default)]
pub struct SessionOptions {
    pub registry: Registry,
    /// Lasting directory for jobs; `None`: scratch, gone at the end.
    pub dir: Option<PathBuf>,
    /// `--workers`: stands before `parallelism.default`.
    pub workers: Option<usize>,
    pub flags: RestoreFlags,
    /// For tests: cut and disturb every query and job.
    pub disturb: Option<Disturb>,
}

/// Everything that statements see and change.
pub struct Session {
    pub(crate) catalog: Catalog,
    pub(crate) settings: Settings,
    pub(crate) own_tables: HashMap<String, OwnTable>,
    pub(crate) jobs: Vec<Arc<Job>>,
    pub(crate) registry: Registry,
    pub(crate) directory: Directory,
    pub(crate) flags: RestoreFlags,
    workers: Option<usize>,
    disturb: Option<Disturb>,
    /// How many were.
    pub(crate) queries_disturbed: u64,
    budget: Option<Arc<Budget>>,
}

impl Session {
    /// # Errors
    /// A directory that cannot be made, or that another process holds.
    pub fn open(options: SessionOptions) -> Result<Self> {
        Ok(Session {
            catalog: Catalog::default(),
            settings: Settings::default(),
            own_tables: HashMap::new(),
            jobs: vec![],
            registry: options.registry,
            directory: Directory::open(options.dir)?,
            flags: options.flags,
            workers: options.workers,
            disturb: options.disturb,
            queries_disturbed: 0,
            budget: None,
        })
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Jobs of this session, in the order in which they were started.
    pub fn jobs(&self) -> &[Arc<Job>] {
        &self.jobs
    }

    /// Whether jobs go on from their checkpoints in a later process.
    pub fn is_lasting(&self) -> bool {
        self.directory.is_lasting()
    }

    /// Whether the checkpoints of jobs stay: in a lasting directory, or where a setting puts them.
    pub fn keeps_checkpoints(&self) -> bool {
        self.is_lasting() || self.settings.checkpoint_dir().is_some()
    }

    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whether a table's option is not to be shown.
    pub fn is_secret(&self, connector: &str, key: &str) -> bool {
        let options = [("connector".to_owned(), connector.to_owned())].into();
        let def =
            TableDef { name: String::new(), columns: vec![], primary_key: vec![], partitioned_by: vec![], options };
        self.registry.is_secret(&def, key)
    }

    /// A statement's text as it may be shown.
    pub fn masked(&self, parsed: &Parsed) -> String {
        thalweg_plan::mask_secrets(&parsed.text, &|connector, key| self.is_secret(connector, key))
    }

    pub(crate) fn runtime_options(&mut self) -> RuntimeOptions {
        let budget = match (&self.budget, self.settings.memory_budget()) {
            // Shared by all jobs of the process, so the first that needs it decides.
            (Some(budget), bytes) if bytes.is_none_or(|b| b as usize == budget.total_bytes()) => budget.clone(),
            (_, Some(bytes)) => Budget::new(bytes as usize),
            (_, None) => Budget::default_for_machine(),
        };
        self.budget = Some(budget.clone());
        let mut options = self.settings.runtime_options(self.directory.working(), budget);
        if let Some(workers) = self.workers {
            options.workers = workers.min(usize::from(options.max_parallelism));
        }
        options.disturb = self.disturb.clone();
        options
    }

    pub(crate) fn plan_settings(&self) -> PlanSettings {
        PlanSettings { time_zone: self.settings.time_zone() }
    }

    /// Runs `f` with a planner over the catalog as it is.
    pub(crate) fn planned<R>(&self, f: impl FnOnce(&Planner<'_>) -> Result<R>) -> Result<R> {
        let connectors = Known { registry: &self.registry, own_tables: &self.own_tables };
        let settings = self.plan_settings();
        f(&Planner::new(&self.catalog, &connectors, &settings))
    }

    /// The definition of a table with the values of its secret options.
    pub(crate) fn definition(&self, def: &TableDef) -> TableDef {
        let mut def = def.clone();
        if let Ok(table) = self.catalog.table(&def.name, thalweg_core::Place::new(1, 1, 1)) {
            for (key, value) in &table.options {
                let key = key.to_lowercase();
                if def.options.get(&key).is_some_and(|v| v == thalweg_core::secret::MASK) {
                    def.options.insert(key, value.clone());
                }
            }
        }
        def
    }
}

/// `thalweg_operators::build`, as the runtime wants it.
pub(crate) fn build_operator() -> BuildOperator {
    Arc::new(|cx: OperatorCx<'_>| {
        thalweg_operators::build(thalweg_operators::BuildCx {
            graph: cx.graph,
            node: cx.node,
            tables: cx.tables,
            max_parallelism: cx.max_parallelism,
            worker: cx.worker,
            workers: cx.workers,
        })
    })
}

/// What the planner asks of connectors and own tables.
struct Known<'a> {
    registry: &'a Registry,
    own_tables: &'a HashMap<String, OwnTable>,
}

impl Known<'_> {
    fn connector(&self, table: &TableDef) -> Result<&Arc<dyn thalweg_connector_api::Connector>> {
        let name = table.option("connector").ok_or_else(|| Error::internal("an own table has no connector"))?;
        self.registry.get(name)
    }
}

impl Connectors for Known<'_> {
    fn source_info(&self, table: &TableDef) -> Result<SourceInfo> {
        self.connector(table)?.source_info(table)
    }

    fn source_group(&self, table: &TableDef) -> Result<Option<String>> {
        self.connector(table)?.source_group(table)
    }

    fn sink_info(&self, table: &TableDef) -> Result<SinkInfo> {
        self.connector(table)?.sink_info(table)
    }

    fn is_secret(&self, table: &TableDef, key: &str) -> bool {
        self.registry.is_secret(table, key)
    }

    fn own_table(&self, name: &str) -> Result<OwnTableInfo> {
        Ok(OwnTableInfo { append_only: self.own_tables.get(name).is_none_or(OwnTable::is_append_only) })
    }
}
