//! The list of connectors by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_core::mark::JobId;
use thalweg_core::nearest::nearest;
use thalweg_core::options::{OptionKind, OptionSpec};
use thalweg_core::secret::names_secret;
use thalweg_core::table::{SinkInfo, SourceInfo, TableDef};
use thalweg_core::{Error, Result};

use crate::sink::Sink;
use crate::source::{Source, SourceTable};

/// A connector by name, `'connector' = '…'`. Everything before `open_…` is pure: no I/O, so that planning and
/// EXPLAIN need no server.
pub trait Connector: Send + Sync {
    fn name(&self) -> &'static str;

    /// All options for reading (formats' options with their prefix included); `None`: cannot be read.
    /// `connector` itself is not in the list.
    fn source_options(&self, table: &TableDef) -> Option<Vec<OptionSpec>>;

    /// All options for writing; `None`: cannot be written.
    fn sink_options(&self, table: &TableDef) -> Option<Vec<OptionSpec>>;

    /// Checks the table's options and says what it is as a source.
    fn source_info(&self, table: &TableDef) -> Result<SourceInfo>;

    /// Checks the table's options and says what it is as a sink.
    fn sink_info(&self, table: &TableDef) -> Result<SinkInfo>;

    /// Tables with equal `SourceInfo::identity` under the same key of this function share one source of an instance
    /// (all tables of a server); by default every table has a source of its own.
    fn source_group(&self, table: &TableDef) -> Result<Option<String>> {
        let _ = table;
        Ok(None)
    }

    /// Whether what is written into `sink` is read by `source`, another or the same table of this connector: a job
    /// with both would read its own output. Asked when a job starts, and may look at files.
    fn reads_back(&self, source: &TableDef, sink: &TableDef) -> Result<bool> {
        let _ = (source, sink);
        Ok(false)
    }

    /// `job`: what tells this job's readers from other jobs', in this process and at the server.
    fn open_source(&self, tables: &[SourceTable], job: &JobId) -> Result<Arc<dyn Source>>;

    fn open_sink(&self, table: &TableDef, job: &JobId) -> Result<Arc<dyn Sink>>;
}

/// A table's options but for `connector` itself: what `Options::check` takes with a connector's declarations.
pub fn options_of(table: &TableDef) -> BTreeMap<String, String> {
    table.options.iter().filter(|(k, _)| *k != "connector").map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The linked connectors.
#[derive(Clone, Default)]
pub struct Registry {
    connectors: BTreeMap<&'static str, Arc<dyn Connector>>,
}

impl Registry {
    pub fn new(connectors: impl IntoIterator<Item = Arc<dyn Connector>>) -> Self {
        Registry { connectors: connectors.into_iter().map(|c| (c.name(), c)).collect() }
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.connectors.keys().copied()
    }

    /// The connector of a name; the error proposes the nearest and lists all.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Connector>> {
        self.connectors.get(name).ok_or_else(|| {
            let proposal = nearest(name, self.names()).map(|n| format!("did you mean '{n}'?"));
            Error::option(format!("unknown connector '{name}'"))
                .propose(proposal)
                .note(format!("connectors: {}", self.names().collect::<Vec<_>>().join(", ")))
        })
    }

    /// Whether the value of an option of this connector must not be shown or stored: what the connector declares as a
    /// secret, and what a name says, also of options that are passed through (`properties.*`).
    pub fn is_secret(&self, table: &TableDef, key: &str) -> bool {
        let Some(connector) = table.option("connector").and_then(|c| self.connectors.get(c)) else {
            return names_secret(key);
        };
        let declared = |specs: Option<Vec<OptionSpec>>| {
            specs.into_iter().flatten().any(|s| s.kind == OptionKind::Secret && s.name == key)
        };
        declared(connector.source_options(table)) || declared(connector.sink_options(table)) || names_secret(key)
    }
}
