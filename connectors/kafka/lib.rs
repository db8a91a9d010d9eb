//! Kafka: `kafka` as a source and as an exactly-once sink, `upsert-kafka` for topics that hold the current row of each
//! key.

mod assemble;
mod client;
mod columns;
mod encode;
mod errors;
mod facts;
mod mark;
mod message;
mod murmur2;
#[cfg(test)]
mod on_broker;
mod options;
mod position;
mod producer;
mod properties;
mod reader;
mod record;
mod settings;
mod sink;
mod source;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_connector_api::{Connector, Sink, Source, SourceTable};
use thalweg_core::mark::JobId;
use thalweg_core::options::OptionSpec;
use thalweg_core::table::{ChangelogMode, SinkInfo, SinkMode, SourceInfo, TableDef};
use thalweg_core::{Error, Result};

use crate::columns::Layout;
use crate::options::{End, Flavor, KafkaOptions, Partitioner};

/// `'connector' = 'kafka'`.
pub struct Kafka;

/// `'connector' = 'upsert-kafka'`.
pub struct UpsertKafka;

/// Whether a normalize operator keeps the current rows: of a topic of upserts, and of a changelog of a table with a
/// primary key whose events may come twice (Debezium writes at least once).
fn comes_as_upserts(flavor: Flavor, table: &TableDef, options: &KafkaOptions, layout: &Layout) -> bool {
    flavor == Flavor::Upsert
        || (options.duplicates
            && !table.primary_key.is_empty()
            && layout.value.format.changelog() == ChangelogMode::Retract)
}

fn source_info(flavor: Flavor, table: &TableDef) -> Result<SourceInfo> {
    let options = KafkaOptions::of(flavor, table)?;
    let layout = Layout::of(flavor, table)?;
    let changelog = match comes_as_upserts(flavor, table, &options, &layout) {
        true => ChangelogMode::Upsert,
        false => layout.value.format.changelog(),
    };
    // What decides which rows come out: formats, keys, start and end. The servers are here and not in the identity, so
    // that a job goes on when they get other names.
    let decides = |name: &str| {
        name.starts_with("scan.startup.")
            || name.starts_with("scan.bounded.")
            || name.starts_with("key.")
            || name.starts_with("value.")
            || name == "format"
            || name == "scan.cdc-events-duplicate"
            || thalweg_formats::names().any(|f| name.strip_prefix(f).is_some_and(|r| r.starts_with('.')))
    };
    let given = table.options.iter().filter(|(name, _)| decides(name));
    let mut variant: BTreeMap<String, String> = given.map(|(k, v)| (k.clone(), v.clone())).collect();
    variant.insert("servers".to_owned(), options.servers());
    let metadata = columns::readable();
    let counts_twice = changelog == ChangelogMode::Retract && table.primary_key.is_empty();
    let note = counts_twice
        .then(|| "events that come twice count twice; with PRIMARY KEY (…) NOT ENFORCED they count once".to_owned());
    Ok(SourceInfo {
        identity: BTreeMap::from([("topic".to_owned(), options.topics.join(";"))]),
        variant,
        // A delete comes in another message than its insert.
        unstable_metadata: match changelog {
            ChangelogMode::Retract => metadata.iter().map(|c| c.name.clone()).collect(),
            ChangelogMode::Append | ChangelogMode::Upsert => vec![],
        },
        changelog,
        bounded: options.end != End::Never,
        metadata,
        note,
    })
}

fn sink_info(flavor: Flavor, table: &TableDef) -> Result<SinkInfo> {
    let options = KafkaOptions::of(flavor, table)?;
    let layout = Layout::of(flavor, table)?;
    columns::check_written_metadata(table)?;
    for part in layout.key.iter().chain([&layout.value]) {
        part.encoder()?;
    }
    if options.partitioner == Partitioner::RoundRobin && layout.key.is_some() {
        return Err(Error::option(format!(
            "table {}: 'sink.partitioner' = 'round-robin' is for messages without keys",
            table.name
        ))
        .note(
            "leave it out: keys are spread as Java's producer spreads them, so that changes of one key stay in order",
        ));
    }
    let accepts = match flavor {
        Flavor::Upsert => SinkMode::Upsert,
        Flavor::Kafka => layout.value.format.accepts(),
    };
    let key = layout.key_ordinals().to_vec();
    Ok(SinkInfo {
        identity: BTreeMap::from([
            ("topic".to_owned(), options.sink_topic()?.to_owned()),
            ("servers".to_owned(), options.servers()),
        ]),
        accepts,
        delivery: options.delivery,
        needs_net: true,
        key: (!key.is_empty() && key != table.primary_key).then_some(key),
        metadata: columns::writable(),
    })
}

macro_rules! connector {
    ($type:ty, $name:literal, $flavor:expr) => {
        impl Connector for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn source_options(&self, table: &TableDef) -> Option<Vec<OptionSpec>> {
                Some(options::declared($flavor, table))
            }

            fn sink_options(&self, table: &TableDef) -> Option<Vec<OptionSpec>> {
                Some(options::declared($flavor, table))
            }

            fn source_info(&self, table: &TableDef) -> Result<SourceInfo> {
                source_info($flavor, table)
            }

            fn sink_info(&self, table: &TableDef) -> Result<SinkInfo> {
                sink_info($flavor, table)
            }

            fn open_source(&self, tables: &[SourceTable], _job: &JobId) -> Result<Arc<dyn Source>> {
                let [table] = tables else {
                    return Err(Error::internal("a kafka source reads one table"));
                };
                Ok(Arc::new(source::KafkaSource::open($flavor, table)?))
            }

            fn open_sink(&self, table: &TableDef, _job: &JobId) -> Result<Arc<dyn Sink>> {
                Ok(Arc::new(sink::KafkaSink::open($flavor, table)?))
            }
        }
    };
}

connector!(Kafka, "kafka", Flavor::Kafka);
connector!(UpsertKafka, "upsert-kafka", Flavor::Upsert);
