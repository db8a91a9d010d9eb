//! The connector `mysql-cdc`: what a declared table is before any server is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_connector_api::{Connector, Sink, Source, SourceTable};
use thalweg_core::mark::JobId;
use thalweg_core::options::OptionSpec;
use thalweg_core::table::{ChangelogMode, SinkInfo, SourceInfo, TableDef};
use thalweg_core::{Error, Result};

use crate::layout::metadata_columns;
use crate::options::{OPTIONS, TableOptions};
use crate::source::MysqlSource;

/// MySQL's tables, with every change to them.
pub struct MysqlCdc;

impl Connector for MysqlCdc {
    fn name(&self) -> &'static str {
        "mysql-cdc"
    }

    fn source_options(&self, _: &TableDef) -> Option<Vec<OptionSpec>> {
        Some(OPTIONS.to_vec())
    }

    fn sink_options(&self, _: &TableDef) -> Option<Vec<OptionSpec>> {
        None
    }

    fn source_info(&self, table: &TableDef) -> Result<SourceInfo> {
        let options = TableOptions::new(table)?;
        let changelog = if options.is_log {
            ChangelogMode::Append
        } else if options.startup.has_snapshot() {
            ChangelogMode::Retract
        } else {
            // An update or delete may be of a row that was never seen.
            ChangelogMode::Upsert
        };
        let mode = table.option("scan.startup.mode").unwrap_or("initial");
        let mut variant =
            BTreeMap::from([("scan.startup.mode".to_owned(), format!("{mode}{}", options.startup.group()))]);
        variant.extend(
            ["server-time-zone", "zero-dates", "foreign-key-cascades"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), table.option(name)?.to_owned()))),
        );
        Ok(SourceInfo {
            identity: BTreeMap::from([
                ("server".to_owned(), options.address()),
                ("table".to_owned(), format!("{}.{}", options.database, options.table)),
            ]),
            variant,
            changelog,
            bounded: options.startup == crate::options::Startup::Snapshot,
            metadata: metadata_columns(),
            unstable_metadata: vec!["op_ts".to_owned()],
            note: None,
        })
    }

    fn sink_info(&self, table: &TableDef) -> Result<SinkInfo> {
        Err(read_only(table))
    }

    fn source_group(&self, table: &TableDef) -> Result<Option<String>> {
        let options = TableOptions::new(table)?;
        Ok(Some(format!("{}{}", options.address(), options.startup.group())))
    }

    fn open_source(&self, tables: &[SourceTable], job: &JobId) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(MysqlSource::new(tables, job)?))
    }

    fn open_sink(&self, table: &TableDef, _: &JobId) -> Result<Arc<dyn Sink>> {
        Err(read_only(table))
    }
}

fn read_only(table: &TableDef) -> Error {
    Error::unsupported(format!("table {} (connector 'mysql-cdc') can be read only", table.name))
}
