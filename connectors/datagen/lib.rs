//! `datagen`: rows made up from a seed. For trying things out, for tests and for measuring.
//!
//! Every row is a pure function of (seed, column, row index): the same whatever the number of workers, the size of
//! pieces and the restarts. The index space is dealt to a fixed number of splits, row i to split i mod 8, so that a
//! position is one number and work is spread over any number of workers.

mod generator;
mod lanes;
mod mix;
mod options;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use thalweg_connector_api::{
    Connector, Position, RateLimit, Reader, ReaderCx, Sink, Source, SourceTable, Split, SplitId,
};
use thalweg_core::mark::JobId;
use thalweg_core::options::OptionSpec;
use thalweg_core::table::{ChangelogMode, SinkInfo, SourceInfo, TableDef};
use thalweg_core::{Error, Result};

use crate::options::Plan;
use crate::reader::{Generators, SplitReader};

/// `'connector' = 'datagen'`.
pub struct Datagen;

/// Into how many splits the index space is dealt; part of the positions' meaning.
pub(crate) const SPLITS: u64 = 8;

impl Connector for Datagen {
    fn name(&self) -> &'static str {
        "datagen"
    }

    fn source_options(&self, _table: &TableDef) -> Option<Vec<OptionSpec>> {
        Some(options::OPTIONS.to_vec())
    }

    fn sink_options(&self, _table: &TableDef) -> Option<Vec<OptionSpec>> {
        None
    }

    fn source_info(&self, table: &TableDef) -> Result<SourceInfo> {
        let plan = Plan::of(table)?;
        Ok(SourceInfo {
            identity: plan.identity(table),
            variant: plan.rows.map(|n| ("number-of-rows".to_owned(), n.to_string())).into_iter().collect(),
            changelog: ChangelogMode::Append,
            bounded: plan.rows.is_some(),
            metadata: vec![],
            unstable_metadata: vec![],
            note: None,
        })
    }

    fn sink_info(&self, table: &TableDef) -> Result<SinkInfo> {
        Err(cannot_be_written(table))
    }

    fn open_source(&self, tables: &[SourceTable], _: &JobId) -> Result<Arc<dyn Source>> {
        let [table] = tables else {
            return Err(Error::internal("datagen reads one table a source"));
        };
        let plan = Plan::of(&table.def)?;
        Ok(Arc::new(DatagenSource {
            rate: Arc::new(RateLimit::new(Some(plan.rows_per_second))),
            generators: Arc::new(Generators::new(plan, table)?),
        }))
    }

    fn open_sink(&self, table: &TableDef, _job: &JobId) -> Result<Arc<dyn Sink>> {
        Err(cannot_be_written(table))
    }
}

fn cannot_be_written(table: &TableDef) -> Error {
    Error::unsupported(format!("table {} (connector 'datagen') can be read only, not written", table.name))
}

struct DatagenSource {
    generators: Arc<Generators>,
    /// Over all workers.
    rate: Arc<RateLimit>,
}

#[async_trait]
impl Source for DatagenSource {
    async fn splits(&self) -> Result<Vec<Split>> {
        Ok((0..SPLITS).map(|i| Split { id: split_id(i), detail: serde_json::Value::Null }).collect())
    }

    fn reader(&self, splits: Vec<(Split, Option<Position>)>, cx: ReaderCx) -> Result<Box<dyn Reader>> {
        let splits = splits.iter().map(|(s, p)| start_of(s, p.as_ref())).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(SplitReader::new(self.generators.clone(), self.rate.clone(), splits, &cx)))
    }
}

pub(crate) fn split_id(split: u64) -> SplitId {
    SplitId(format!("rows-{split}-of-{SPLITS}"))
}

/// The next row index of a split.
pub(crate) fn start_of(split: &Split, position: Option<&Position>) -> Result<u64> {
    let number = (0..SPLITS)
        .find(|&i| split_id(i) == split.id)
        .ok_or_else(|| Error::checkpoint(format!("datagen has no split {}", split.id)))?;
    let Some(position) = position else {
        return Ok(number);
    };
    position
        .0
        .get("next")
        .and_then(serde_json::Value::as_u64)
        .filter(|n| n % SPLITS == number)
        .ok_or_else(|| Error::checkpoint(format!("datagen: {} is not a position of split {}", position.0, split.id)))
}

pub(crate) fn position_of(next: u64) -> Position {
    Position(serde_json::json!({ "next": next }))
}

/// What the identity of a generated table is made of, beside its columns.
pub(crate) fn canonical(parts: &BTreeMap<String, String>) -> String {
    parts.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
}
