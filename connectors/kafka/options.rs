//! The options of tables with connector `kafka` and `upsert-kafka`, checked.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use thalweg_connector_api::options_of;
use thalweg_core::options::{OptionDefault, OptionKind, OptionSpec, Options};
use thalweg_core::table::{Delivery, TableDef};
use thalweg_core::{Error, Result};

use crate::properties::Properties;

/// How often new partitions are looked for, as in Flink.
const DISCOVERY: &str = "5 min";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// Rows as they are.
    Kafka,
    /// The topic holds the current row of each key.
    Upsert,
}

const TOPIC: OptionSpec = OptionSpec::required(
    "topic",
    OptionKind::Text,
    "reading: one topic or several with ';' between them; writing: one topic, which must exist",
);
const PROPERTIES: OptionSpec = OptionSpec::optional(
    "properties.",
    OptionKind::Prefix,
    "settings of the Kafka client by Java's or librdkafka's names; properties.bootstrap.servers is needed",
);
const FORMAT: OptionSpec = OptionSpec::optional(
    "format",
    OptionKind::Text,
    "how rows stand in the messages' values: json, csv, debezium-json or raw (the same as value.format)",
);
const VALUE_FORMAT: OptionSpec = OptionSpec::optional(
    "value.format",
    OptionKind::Text,
    "how rows stand in the messages' values (the same as format)",
);
const KEY_FORMAT: OptionSpec = OptionSpec::optional(
    "key.format",
    OptionKind::Text,
    "how the key's columns stand in the messages' keys: json, csv or raw",
);
const KEY_FIELDS: OptionSpec = OptionSpec::optional(
    "key.fields",
    OptionKind::Text,
    "columns in the messages' keys, with ';' between them; writing, without it: the primary key, if there is one",
);
const KEY_PREFIX: OptionSpec = OptionSpec::with_default(
    "key.fields-prefix",
    OptionKind::Text,
    "",
    "what the names of the key's columns begin with in the table, but not in the messages",
);
const VALUE_INCLUDE: OptionSpec = OptionSpec::with_default(
    "value.fields-include",
    OptionKind::OneOf(&["ALL", "EXCEPT_KEY"]),
    "ALL",
    "whether the key's columns stand in the value too",
);
const STARTUP: OptionSpec = OptionSpec::with_default(
    "scan.startup.mode",
    OptionKind::OneOf(&["earliest-offset", "latest-offset", "group-offsets", "timestamp", "specific-offsets"]),
    "group-offsets",
    "reading: where a new job begins",
);
const STARTUP_OFFSETS: OptionSpec = OptionSpec::optional(
    "scan.startup.specific-offsets",
    OptionKind::Text,
    "for specific-offsets: 'partition:0,offset:42;partition:1,offset:300'",
);
const STARTUP_TIME: OptionSpec = OptionSpec::optional(
    "scan.startup.timestamp-millis",
    OptionKind::Integer,
    "for timestamp: begin with the first message of this time or later, in ms since 1970",
);
const BOUNDED: OptionSpec = OptionSpec::with_default(
    "scan.bounded.mode",
    OptionKind::OneOf(&["unbounded", "latest-offset", "group-offsets", "timestamp", "specific-offsets"]),
    "unbounded",
    "reading: where the input ends",
);
const BOUNDED_OFFSETS: OptionSpec = OptionSpec::optional(
    "scan.bounded.specific-offsets",
    OptionKind::Text,
    "for specific-offsets: the first offset of each partition that is not read",
);
const BOUNDED_TIME: OptionSpec = OptionSpec::optional(
    "scan.bounded.timestamp-millis",
    OptionKind::Integer,
    "for timestamp: end before the first message of this time or later, in ms since 1970",
);
const DISCOVERY_INTERVAL: OptionSpec = OptionSpec::with_default(
    "scan.topic-partition-discovery.interval",
    OptionKind::Duration,
    DISCOVERY,
    "reading: look this often for new partitions; 0: never",
);
const RATE_LIMIT: OptionSpec = OptionSpec::optional(
    "scan.rate-limit",
    OptionKind::Number,
    "reading: at most so many rows per second over all workers; for demos and tests",
);
const DUPLICATE: OptionSpec = OptionSpec::with_default(
    "scan.cdc-events-duplicate",
    OptionKind::Bool,
    "true",
    "reading debezium-json into a table with a primary key: events may come twice, so the current rows are kept to tell",
);
const PARTITIONER: OptionSpec = OptionSpec::with_default(
    "sink.partitioner",
    OptionKind::Text,
    "default",
    "writing: default (by the key, as Java's producer; without key in turn) or round-robin (in turn; only without key)",
);
const GUARANTEE: OptionSpec = OptionSpec::with_default(
    "sink.delivery-guarantee",
    OptionKind::OneOf(&["exactly-once", "at-least-once", "none"]),
    "exactly-once",
    "writing: exactly-once, in transactions of Kafka, or at-least-once",
);
const ID_PREFIX: OptionSpec = OptionSpec::with_default(
    "sink.transactional-id-prefix",
    OptionKind::Text,
    "thalweg",
    "writing: what the transactional id and the consumer group of the mark begin with; for ACLs",
);

const KAFKA: &[OptionSpec] = &[
    TOPIC,
    PROPERTIES,
    FORMAT,
    VALUE_FORMAT,
    KEY_FORMAT,
    KEY_FIELDS,
    KEY_PREFIX,
    VALUE_INCLUDE,
    STARTUP,
    STARTUP_OFFSETS,
    STARTUP_TIME,
    BOUNDED,
    BOUNDED_OFFSETS,
    BOUNDED_TIME,
    DISCOVERY_INTERVAL,
    RATE_LIMIT,
    DUPLICATE,
    PARTITIONER,
    GUARANTEE,
    ID_PREFIX,
];

const UPSERT: &[OptionSpec] = &[
    TOPIC,
    PROPERTIES,
    OptionSpec { default: OptionDefault::Required, ..VALUE_FORMAT },
    OptionSpec { default: OptionDefault::Required, ..KEY_FORMAT },
    KEY_PREFIX,
    VALUE_INCLUDE,
    BOUNDED,
    BOUNDED_OFFSETS,
    BOUNDED_TIME,
    DISCOVERY_INTERVAL,
    RATE_LIMIT,
    GUARANTEE,
    ID_PREFIX,
];

/// All options of a table, those of its formats included. Which are for reading and which for writing their text says:
/// one table may be both.
pub fn declared(flavor: Flavor, table: &TableDef) -> Vec<OptionSpec> {
    let own = match flavor {
        Flavor::Kafka => KAFKA,
        Flavor::Upsert => UPSERT,
    };
    let mut all = own.to_vec();
    let bare = |name: &str| table.option(name).map(thalweg_formats::options).unwrap_or_default();
    all.extend(bare("format"));
    // What a format says of its own options has no prefix, so both are understood.
    all.extend(bare("value.format"));
    all.extend(prefixed("value.", table.option("value.format")));
    all.extend(prefixed("key.", table.option("key.format")));
    all
}

/// The options of a format with a prefix: `key.json.ignore-parse-errors`.
fn prefixed(prefix: &'static str, format: Option<&str>) -> Vec<OptionSpec> {
    static ALL: OnceLock<BTreeMap<(&'static str, &'static str), Vec<OptionSpec>>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        // Names of declarations live as long as the program; these are made once.
        let with = |prefix: &str, s: OptionSpec| OptionSpec {
            name: Box::leak(format!("{prefix}{}", s.name).into_boxed_str()),
            ..s
        };
        let formats: Vec<&'static str> = thalweg_formats::names().collect();
        let pairs = ["key.", "value."].into_iter().flat_map(|p| formats.iter().map(move |f| (p, *f)));
        pairs.map(|(p, f)| ((p, f), thalweg_formats::options(f).into_iter().map(|s| with(p, s)).collect())).collect()
    });
    let found = all.iter().find(|((p, f), _)| *p == prefix && Some(*f) == format);
    found.map(|(_, specs)| specs.clone()).unwrap_or_default()
}

/// Where reading begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    Group,
    Time(i64),
    /// By partition.
    Offsets(BTreeMap<i32, i64>),
}

/// Where reading ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Never,
    Latest,
    Group,
    Time(i64),
    Offsets(BTreeMap<i32, i64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    Default,
    RoundRobin,
}

/// The checked options but for those of columns and formats, which are in `columns`.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// For messages: `table orders`.
    pub of: String,
    pub topics: Vec<String>,
    pub properties: Properties,
    pub start: Start,
    pub end: End,
    /// `None`: new partitions are not looked for.
    pub discovery: Option<Duration>,
    pub rows_per_second: Option<f64>,
    pub duplicates: bool,
    pub partitioner: Partitioner,
    pub delivery: Delivery,
    pub id_prefix: String,
}

impl KafkaOptions {
    pub fn of(flavor: Flavor, table: &TableDef) -> Result<Self> {
        let connector = match flavor {
            Flavor::Kafka => "kafka",
            Flavor::Upsert => "upsert-kafka",
        };
        let of = format!("table {} (connector '{connector}')", table.name);
        for name in ["format", "value.format", "key.format"] {
            if let Some(format) = table.option(name) {
                thalweg_formats::format(format).map_err(|e| e.context(format!("{of}: '{name}'")))?;
            }
        }
        if let Some(pattern) = table.option("topic-pattern") {
            return Err(Error::unsupported(format!("{of}: 'topic-pattern' = '{pattern}' is not there yet"))
                .note("'topic' takes several topics with ';' between them"));
        }
        if !table.partitioned_by.is_empty() {
            return Err(Error::unsupported(format!("{of}: PARTITIONED BY means nothing for a topic"))
                .note("'key.fields' says what partitions go by"));
        }
        let values = options_of(table);
        let options = Options::check(&values, &declared(flavor, table), of.as_str())?;
        let topics: Vec<String> =
            options.text_must("topic").split(';').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect();
        if topics.is_empty() {
            return Err(Error::option(format!("'topic' of {of} is empty")));
        }
        let properties = Properties::of(options.with_prefix("properties."), &of)?;
        let rows_per_second = options.number("scan.rate-limit");
        if rows_per_second.is_some_and(|r| r <= 0.0) {
            return Err(Error::option(format!("'scan.rate-limit' of {of} must be above 0")));
        }
        let is_upsert = flavor == Flavor::Upsert;
        let start = if is_upsert { Start::Earliest } else { start(&options, &properties, &of)? };
        let end = end(&options, &properties, &of)?;
        let by_partition = matches!(start, Start::Offsets(_)) || matches!(end, End::Offsets(_));
        if by_partition && topics.len() > 1 {
            return Err(Error::option(format!(
                "{of}: specific-offsets are for one topic, and there are {}",
                topics.len()
            )));
        }
        let discovery = options.duration("scan.topic-partition-discovery.interval").filter(|d| !d.is_zero());
        let delivery = match options.text_must("sink.delivery-guarantee") {
            "exactly-once" => Delivery::ExactlyOnce,
            "at-least-once" => Delivery::AtLeastOnce,
            _ => {
                return Err(Error::unsupported(format!("'sink.delivery-guarantee' = 'none' of {of}"))
                    .note("it would lose rows in silence when a broker or the process ends; at-least-once costs the same, as output is staged with checkpoints anyway"));
            }
        };
        let partitioner = match (is_upsert, options.given("sink.partitioner")) {
            (true, _) | (_, false) => Partitioner::Default,
            _ => partitioner(options.text_must("sink.partitioner"), &of)?,
        };
        let id_prefix = options.text_must("sink.transactional-id-prefix").to_owned();
        if id_prefix.is_empty() {
            return Err(Error::option(format!("'sink.transactional-id-prefix' of {of} is empty")));
        }
        Ok(KafkaOptions {
            of: format!("table {}", table.name),
            topics,
            properties,
            start,
            discovery: discovery.filter(|_| end == End::Never),
            end,
            rows_per_second,
            duplicates: !is_upsert && options.bool("scan.cdc-events-duplicate"),
            partitioner,
            delivery,
            id_prefix,
        })
    }

    /// The one topic that is written.
    pub fn sink_topic(&self) -> Result<&str> {
        match self.topics.as_slice() {
            [one] => Ok(one),
            all => {
                Err(Error::option(format!("{} names {} topics, and can be written to one only", self.of, all.len()))
                    .note("make a table for each topic"))
            }
        }
    }

    /// The servers, in an order that is always the same.
    pub fn servers(&self) -> String {
        let servers = self.properties.settings.get("bootstrap.servers").map_or("", String::as_str);
        let mut all: Vec<String> =
            servers.split(',').map(|s| s.trim().to_lowercase()).filter(|s| !s.is_empty()).collect();
        all.sort();
        all.join(",")
    }
}

fn start(options: &Options<'_>, properties: &Properties, of: &str) -> Result<Start> {
    let mode = options.text_must("scan.startup.mode");
    let start = match mode {
        "earliest-offset" => Start::Earliest,
        "latest-offset" => Start::Latest,
        "timestamp" => Start::Time(needed_time(options, "scan.startup", mode, of)?),
        "specific-offsets" => Start::Offsets(needed_offsets(options, "scan.startup", of)?),
        _ if properties.group.is_none() && options.given("scan.startup.mode") => {
            return Err(Error::option(format!(
                "'scan.startup.mode' = 'group-offsets' of {of} needs 'properties.group.id'"
            )));
        }
        _ => Start::Group,
    };
    unused(options, "scan.startup", mode, of)?;
    Ok(start)
}

fn end(options: &Options<'_>, properties: &Properties, of: &str) -> Result<End> {
    let mode = options.text_must("scan.bounded.mode");
    let end = match mode {
        "latest-offset" => End::Latest,
        "timestamp" => End::Time(needed_time(options, "scan.bounded", mode, of)?),
        "specific-offsets" => End::Offsets(needed_offsets(options, "scan.bounded", of)?),
        "group-offsets" if properties.group.is_none() => {
            return Err(Error::option(format!(
                "'scan.bounded.mode' = 'group-offsets' of {of} needs 'properties.group.id'"
            )));
        }
        "group-offsets" => End::Group,
        _ => End::Never,
    };
    unused(options, "scan.bounded", mode, of)?;
    Ok(end)
}

/// An option that the mode does not look at was meant to do something.
fn unused(options: &Options<'_>, scan: &str, mode: &str, of: &str) -> Result<()> {
    for (name, for_mode) in [("specific-offsets", "specific-offsets"), ("timestamp-millis", "timestamp")] {
        let option = format!("{scan}.{name}");
        if mode != for_mode && options.given(&option) {
            return Err(Error::option(format!("'{option}' of {of} is for '{scan}.mode' = '{for_mode}'")));
        }
    }
    Ok(())
}

fn needed_time(options: &Options<'_>, scan: &str, mode: &str, of: &str) -> Result<i64> {
    let name = format!("{scan}.timestamp-millis");
    let value = options.integer(&name).ok_or_else(|| {
        Error::option(format!("{of} needs the option '{name}'"))
            .note(format!("for '{scan}.mode' = '{mode}': ms since 1970"))
    })?;
    i64::try_from(value).map_err(|_| Error::option(format!("'{name}' = '{value}' of {of} is too large")))
}

fn needed_offsets(options: &Options<'_>, scan: &str, of: &str) -> Result<BTreeMap<i32, i64>> {
    let name = format!("{scan}.specific-offsets");
    let form = "it is written 'partition:0,offset:42;partition:1,offset:300'";
    let text =
        options.text(&name).ok_or_else(|| Error::option(format!("{of} needs the option '{name}'")).note(form))?;
    let mut offsets = BTreeMap::new();
    for part in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
        let (mut partition, mut offset) = (None, None);
        for pair in part.split(',') {
            match pair.split_once(':').map(|(k, v)| (k.trim(), v.trim())) {
                Some(("partition", v)) => partition = v.parse::<i32>().ok().filter(|p| *p >= 0),
                Some(("offset", v)) => offset = v.parse::<i64>().ok().filter(|o| *o >= 0),
                _ => {}
            }
        }
        let (Some(partition), Some(offset)) = (partition, offset) else {
            return Err(Error::option(format!("'{name}' of {of}: '{part}' cannot be understood")).note(form));
        };
        if offsets.insert(partition, offset).is_some() {
            return Err(Error::option(format!("'{name}' of {of} names partition {partition} twice")));
        }
    }
    if offsets.is_empty() {
        return Err(Error::option(format!("'{name}' of {of} is empty")).note(form));
    }
    Ok(offsets)
}

fn partitioner(name: &str, of: &str) -> Result<Partitioner> {
    match name {
        "default" => Ok(Partitioner::Default),
        "round-robin" => Ok(Partitioner::RoundRobin),
        "fixed" => Err(Error::unsupported(format!("'sink.partitioner' = 'fixed' of {of}"))
            .note("a row's partition would depend on the number of workers, and changes of one key could overtake each other; default keeps them in order")),
        other => Err(Error::option(format!("'sink.partitioner' = '{other}' of {of} is not possible"))
            .note("one of: default, round-robin; classes of Java cannot be loaded")),
    }
}

#[cfg(test)]
pub mod tests {
    use thalweg_core::table::{ColumnKind, TableColumn};
    use thalweg_core::{Column, SqlType};

    use super::*;

    pub fn table(columns: &[(&str, SqlType)], key: &[usize], given: &[(&str, &str)]) -> TableDef {
        let column = |(i, (name, ty)): (usize, &(&str, SqlType))| TableColumn {
            column: Column::new(*name, ty.clone(), !key.contains(&i)),
            kind: ColumnKind::Physical,
        };
        TableDef {
            name: "t".to_owned(),
            columns: columns.iter().enumerate().map(column).collect(),
            primary_key: key.to_vec(),
            partitioned_by: vec![],
            options: given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        }
    }

    const NEEDED: [(&str, &str); 3] = [("topic", "a"), ("properties.bootstrap.servers", "b:1"), ("format", "json")];

    fn of(given: &[(&str, &str)]) -> Result<KafkaOptions> {
        let all: Vec<_> = NEEDED.iter().chain(given).copied().collect();
        KafkaOptions::of(Flavor::Kafka, &table(&[("i", SqlType::Int)], &[], &all))
    }

    #[test]
    fn every_start_and_end_of_flink_is_understood() {
        let o = of(&[
            ("scan.startup.mode", "specific-offsets"),
            ("scan.startup.specific-offsets", "partition:0,offset:42; partition:1,offset:300;"),
            ("scan.bounded.mode", "timestamp"),
            ("scan.bounded.timestamp-millis", "1700000000000"),
        ])
        .unwrap();
        assert_eq!(o.start, Start::Offsets(BTreeMap::from([(0, 42), (1, 300)])));
        assert_eq!((o.end, o.discovery), (End::Time(1_700_000_000_000), None));
        let o = of(&[("properties.group.id", "g")]).unwrap();
        assert_eq!((o.start, o.end), (Start::Group, End::Never));
        assert_eq!(o.discovery, Some(Duration::from_secs(300)));
        assert_eq!(of(&[("scan.topic-partition-discovery.interval", "0")]).unwrap().discovery, None);
    }

    #[test]
    fn what_is_wrong_with_an_option_is_said() {
        for (given, why) in [
            (("scan.startup.mode", "timestamp"), "scan.startup.timestamp-millis"),
            (("scan.startup.mode", "group-offsets"), "properties.group.id"),
            (("scan.startup.timestamp-millis", "5"), "is for 'scan.startup.mode' = 'timestamp'"),
            (("scan.bounded.mode", "specific-offsets"), "partition:0,offset:42"),
            (("sink.delivery-guarantee", "none"), "lose rows"),
            (("sink.partitioner", "fixed"), "overtake"),
            (("sink.partitioner", "org.x.Y"), "Java"),
            (("topic-pattern", "a.*"), "not there yet"),
            (("sink.paralelism", "2"), "has no option"),
            (("scan.startup.mode", "earliest"), "earliest-offset"),
            (("key.format", "jsonn"), "did you mean 'json'"),
        ] {
            let e = of(&[given]).unwrap_err().to_string();
            assert!(e.contains(why), "{given:?}: {e}");
        }
        let e = of(&[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", "0:5")]).unwrap_err();
        assert!(e.to_string().contains("'0:5' cannot be understood"), "{e}");
    }

    #[test]
    fn servers_are_the_same_in_any_order() {
        let with = |s: &str| {
            let t = table(
                &[("i", SqlType::Int)],
                &[],
                &[("topic", "a"), ("format", "json"), ("properties.bootstrap.servers", s)],
            );
            KafkaOptions::of(Flavor::Kafka, &t).unwrap().servers()
        };
        assert_eq!(with("B2:9092, b1:9092"), with("b1:9092,b2:9092"));
    }
}
