//! `blackhole`: takes everything and keeps nothing. For measuring how fast a query runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use thalweg_connector_api::{Connector, DirectWriter, EncodeCx, Encoder, Sink, Source, SourceTable, options_of};
use thalweg_core::fold::RowChanges;
use thalweg_core::mark::{JobId, Mark};
use thalweg_core::options::{OptionSpec, Options};
use thalweg_core::table::{Delivery, SinkInfo, SinkMode, SourceInfo, TableDef};
use thalweg_core::{Error, Result, Tick};

/// `'connector' = 'blackhole'`; no options. What a job wrote is counted where all rows are counted: the progress
/// line and `SHOW JOBS`.
pub struct Blackhole;

impl Connector for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn source_options(&self, _table: &TableDef) -> Option<Vec<OptionSpec>> {
        None
    }

    fn sink_options(&self, _table: &TableDef) -> Option<Vec<OptionSpec>> {
        Some(vec![])
    }

    fn source_info(&self, table: &TableDef) -> Result<SourceInfo> {
        Err(cannot_be_read(table))
    }

    fn sink_info(&self, table: &TableDef) -> Result<SinkInfo> {
        if !table.partitioned_by.is_empty() {
            return Err(Error::unsupported(format!(
                "table {} (connector 'blackhole') cannot be PARTITIONED BY: nothing is stored",
                table.name
            )));
        }
        Options::check(&options_of(table), &[], format!("table {} (connector 'blackhole')", table.name))?;
        Ok(SinkInfo {
            identity: BTreeMap::from([("blackhole".to_owned(), table.name.clone())]),
            accepts: SinkMode::Retract,
            delivery: Delivery::None,
            needs_net: false,
            key: None,
            metadata: vec![],
        })
    }

    fn open_source(&self, tables: &[SourceTable], _: &JobId) -> Result<Arc<dyn Source>> {
        Err(tables.first().map_or_else(|| Error::internal("no table to read"), |t| cannot_be_read(&t.def)))
    }

    fn open_sink(&self, _table: &TableDef, _job: &JobId) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(BlackholeSink))
    }
}

fn cannot_be_read(table: &TableDef) -> Error {
    Error::unsupported(format!("table {} (connector 'blackhole') can be written only, not read", table.name))
}

struct BlackholeSink;

#[async_trait]
impl Sink for BlackholeSink {
    fn delivery(&self) -> Delivery {
        Delivery::None
    }

    fn encoder(&self, _cx: EncodeCx) -> Result<Box<dyn Encoder>> {
        Err(Error::internal("blackhole gets its ticks directly"))
    }

    fn direct(&self, _cx: EncodeCx) -> Result<Box<dyn DirectWriter>> {
        Ok(Box::new(Nothing))
    }

    async fn fence(&self, _job: &JobId) -> Result<Mark> {
        Ok(Mark::Absent)
    }

    async fn deliver(&self, _segments: &[thalweg_connector_api::Segment], _mark: &Mark) -> Result<()> {
        Ok(())
    }
}

struct Nothing;

impl DirectWriter for Nothing {
    fn write(&mut self, _tick: &Tick, _rows: &RowChanges) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(options: &[(&str, &str)]) -> TableDef {
        TableDef {
            name: "t".to_owned(),
            columns: vec![],
            primary_key: vec![],
            partitioned_by: vec![],
            options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        }
    }

    #[test]
    fn it_takes_every_change_and_no_option() {
        let info = Blackhole.sink_info(&table(&[("connector", "blackhole")])).unwrap();
        assert_eq!((info.accepts, info.delivery, info.needs_net), (SinkMode::Retract, Delivery::None, false));
        assert!(Blackhole.sink_info(&table(&[("connector", "blackhole"), ("path", "x")])).is_err());
        assert!(Blackhole.source_info(&table(&[])).is_err());
    }
}
