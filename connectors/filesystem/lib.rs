//! `filesystem`: files as a source (bounded, or followed as they appear and grow) and as an exactly-once sink.

mod columns;
mod file;
mod glob;
mod options;
mod scan;
mod sink;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_connector_api::{Connector, Sink, Source, SourceTable};
use thalweg_core::mark::JobId;
use thalweg_core::options::OptionSpec;
use thalweg_core::table::{ChangelogMode, Delivery, SinkInfo, SourceInfo, TableDef};
use thalweg_core::{Error, Result};

use crate::options::FileOptions;

/// `'connector' = 'filesystem'`.
pub struct Filesystem;

impl Connector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn source_options(&self, table: &TableDef) -> Option<Vec<OptionSpec>> {
        Some(options::declared(table))
    }

    fn sink_options(&self, table: &TableDef) -> Option<Vec<OptionSpec>> {
        Some(options::declared(table))
    }

    fn source_info(&self, table: &TableDef) -> Result<SourceInfo> {
        let options = FileOptions::of(table)?;
        options.not_partitioned(table)?;
        columns::check_metadata(table)?;
        let format = thalweg_formats::format(&options.format)?;
        // Builds the decoder, so that wrong options of the format are found when the statement is planned.
        format.decoder(table, &columns::physical(table))?;
        let mut variant = thalweg_formats::given_options(table, &options.format);
        variant.insert("format".to_owned(), options.format.clone());
        if options.compression != "auto" {
            variant.insert("compression".to_owned(), options.compression.clone());
        }
        let changelog = format.changelog();
        let metadata = columns::metadata();
        Ok(SourceInfo {
            identity: BTreeMap::from([("path".to_owned(), options.path.clone())]),
            variant,
            // The delete of a row may stand in another file than its insert.
            unstable_metadata: match changelog {
                ChangelogMode::Append => vec![],
                _ => metadata.iter().map(|c| c.name.clone()).collect(),
            },
            changelog,
            bounded: options.monitor_interval.is_none(),
            metadata,
            note: None,
        })
    }

    fn sink_info(&self, table: &TableDef) -> Result<SinkInfo> {
        let options = FileOptions::of(table)?;
        options.not_partitioned(table)?;
        columns::check_metadata(table)?;
        let format = thalweg_formats::format(&options.format)?;
        format.encoder(table)?;
        Ok(SinkInfo {
            identity: BTreeMap::from([("path".to_owned(), options.path)]),
            accepts: format.accepts(),
            delivery: Delivery::ExactlyOnce,
            needs_net: true,
            key: None,
            metadata: vec![],
        })
    }

    fn reads_back(&self, source: &TableDef, sink: &TableDef) -> Result<bool> {
        let (source, sink) = (FileOptions::of(source)?, FileOptions::of(sink)?);
        Ok(glob::covers(&source.path, &sink.path))
    }

    fn open_source(&self, tables: &[SourceTable], _: &JobId) -> Result<Arc<dyn Source>> {
        let [table] = tables else {
            return Err(Error::internal("a filesystem source reads one table"));
        };
        Ok(Arc::new(source::FileSource::open(table)?))
    }

    fn open_sink(&self, table: &TableDef, _job: &JobId) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::FileSink::open(table)?))
    }
}
