//! The options of a generated table, checked, and what they say of each column.

use std::collections::BTreeMap;
use std::time::Duration;

use thalweg_connector_api::options_of;
use thalweg_core::nearest::did_you_mean;
use thalweg_core::options::{OptionKind, OptionSpec, Options, parse_bool, parse_duration};
use thalweg_core::table::{ColumnKind, TableDef};
use thalweg_core::{Error, Result, SqlType};

use crate::generator::{Clock, Generator};

pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::with_default(
        "rows-per-second",
        OptionKind::Number,
        "10000",
        "rows per second over all workers; 0: no limit",
    ),
    OptionSpec::optional(
        "number-of-rows",
        OptionKind::Integer,
        "how many rows in all; without it the input never ends, unless a field is a sequence",
    ),
    OptionSpec::with_default(
        "seed",
        OptionKind::Integer,
        "42",
        "another seed, other rows; the same seed, the same rows",
    ),
    OptionSpec::with_default(
        "start-time",
        OptionKind::Text,
        "2025-01-01 00:00:00",
        "time (UTC) of row 0, for DATE, TIME and TIMESTAMP columns",
    ),
    OptionSpec::with_default(
        "time-step",
        OptionKind::Duration,
        "1 ms",
        "time between a row and the next, for DATE, TIME and TIMESTAMP columns",
    ),
    OptionSpec::optional(
        "fields.",
        OptionKind::Prefix,
        "fields.NAME.kind (random, sequence), .min, .max, .length, .var-len, .start, .end, .max-past, .null-rate",
    ),
];

/// Everything that a field of the name `fields.NAME.…` may say.
const FIELD_OPTIONS: &[&str] =
    &["kind", "min", "max", "length", "var-len", "start", "end", "max-past", "null-rate", "element", "key", "value"];

/// A checked table.
pub struct Plan {
    pub rows_per_second: f64,
    /// `None`: without end.
    pub rows: Option<u64>,
    /// One per column of the table.
    pub generators: Vec<Generator>,
    seed: u64,
    clock: Clock,
}

impl Plan {
    pub fn of(table: &TableDef) -> Result<Self> {
        let of = format!("table {} (connector 'datagen')", table.name);
        let values = options_of(table);
        let options = Options::check(&values, OPTIONS, of.as_str())?;
        if !table.partitioned_by.is_empty() {
            return Err(Error::unsupported(format!("{of} cannot be PARTITIONED BY")));
        }
        let rows_per_second = options.number("rows-per-second").expect("has a default");
        if rows_per_second < 0.0 {
            return Err(Error::option(format!("'rows-per-second' = '{rows_per_second}' of {of} is below 0"))
                .note("0: no limit"));
        }
        let start = options.text_must("start-time");
        let start_us = parse_time(start).ok_or_else(|| {
            Error::option(format!("'start-time' = '{start}' of {of} is not a time"))
                .note("write it as '2025-01-01 00:00:00' (UTC)")
        })?;
        let step = options.duration("time-step").expect("checked, has a default");
        let clock = Clock { start_us, step_ns: step.as_nanos() as i64 };
        let seed = options.integer("seed").expect("checked, has a default");

        let mut given: BTreeMap<String, String> =
            options.with_prefix("fields.").map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let mut rows = options.integer("number-of-rows");
        let mut generators = vec![];
        for column in &table.columns {
            if let ColumnKind::Metadata { key, .. } = &column.kind {
                return Err(Error::option(format!(
                    "{of} has no metadata; column {} asks for '{key}'",
                    column.column.name
                )));
            }
            let c = &column.column;
            let prefix = format!("{}.", c.name.to_lowercase());
            let own = take_prefix(&mut given, &prefix);
            let mut field = FieldOptions { path: c.name.clone(), given: own, of: &of, seed, clock };
            let generator = Generator::new(&mut field, &c.ty, c.nullable)?;
            field.nothing_left()?;
            if let Some(n) = generator.sequence_rows() {
                rows = Some(rows.map_or(n, |r| r.min(n)));
            }
            generators.push(generator);
        }
        if let Some(key) = given.keys().next() {
            let names: Vec<_> = table.columns.iter().map(|c| c.column.name.as_str()).collect();
            let name = key.rsplit_once('.').map_or(key.as_str(), |(name, _)| name);
            return Err(Error::option(format!("{of} has no column for the option 'fields.{key}'"))
                .propose(did_you_mean(name, names.iter().copied()))
                .note(format!("columns: {}", names.join(", "))));
        }
        Ok(Plan { rows_per_second, rows, generators, seed, clock })
    }

    /// What is generated is what the table is: its columns with all that decides their values.
    pub fn identity(&self, table: &TableDef) -> BTreeMap<String, String> {
        let mut parts: BTreeMap<String, String> = table
            .options
            .iter()
            .filter(|(k, _)| k.starts_with("fields."))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for c in &table.columns {
            parts.insert(format!("column {}", c.column.name), c.column.ty.to_string());
        }
        parts.insert("clock".to_owned(), format!("{}+{}", self.clock.start_us, self.clock.step_ns));
        parts.insert("seed".to_owned(), self.seed.to_string());
        BTreeMap::from([("datagen".to_owned(), crate::canonical(&parts))])
    }
}

fn take_prefix(given: &mut BTreeMap<String, String>, prefix: &str) -> BTreeMap<String, String> {
    let keys: Vec<_> = given.keys().filter(|k| k.starts_with(prefix)).cloned().collect();
    keys.into_iter().filter_map(|k| Some((k[prefix.len()..].to_owned(), given.remove(&k)?))).collect()
}

/// The options of one field, each taken as it is used, so that what is left over was for nothing.
pub struct FieldOptions<'a> {
    pub path: String,
    given: BTreeMap<String, String>,
    of: &'a str,
    pub seed: u64,
    pub clock: Clock,
}

impl<'a> FieldOptions<'a> {
    /// Options of a part of this field: of `element`, `key`, `value`, or of a ROW's column.
    pub fn part(&mut self, name: &str) -> FieldOptions<'a> {
        let given = take_prefix(&mut self.given, &format!("{}.", name.to_lowercase()));
        FieldOptions { path: format!("{}.{name}", self.path), given, of: self.of, seed: self.seed, clock: self.clock }
    }

    pub fn nothing_left(&self) -> Result<()> {
        match self.given.keys().next() {
            None => Ok(()),
            Some(key) => Err(Error::option(format!("{} has no use for the option '{}'", self.of, self.name_of(key)))
                .propose(did_you_mean(key, FIELD_OPTIONS.iter().copied().filter(|o| o != key)))
                .note("which options a field has depends on its type and on its kind (random, sequence)")),
        }
    }

    pub fn name_of(&self, key: &str) -> String {
        format!("fields.{}.{key}", self.path)
    }

    pub fn refuse(&self, key: &str, value: &str, expected: &str) -> Error {
        Error::option(format!("'{}' = '{value}' of {} is not {expected}", self.name_of(key), self.of))
    }

    pub fn unsupported(&self, ty: &SqlType, what: &str) -> Error {
        Error::option(format!("column {} of {}: {ty} {what}", self.path, self.of))
    }

    pub fn take(&mut self, key: &str) -> Option<String> {
        self.given.remove(key)
    }

    pub fn parse<T: std::str::FromStr>(&mut self, key: &str, expected: &str) -> Result<Option<T>> {
        let Some(text) = self.take(key) else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| self.refuse(key, &text, expected))
    }

    pub fn bool(&mut self, key: &str) -> Result<bool> {
        let Some(text) = self.take(key) else { return Ok(false) };
        parse_bool(&text).ok_or_else(|| self.refuse(key, &text, "true or false"))
    }

    pub fn duration(&mut self, key: &str) -> Result<Duration> {
        let Some(text) = self.take(key) else { return Ok(Duration::ZERO) };
        parse_duration(&text).ok_or_else(|| self.refuse(key, &text, "a duration such as '10 s'"))
    }
}

/// `2025-01-01 00:00:00` as µs since 1970 (UTC).
fn parse_time(text: &str) -> Option<i64> {
    let array: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(vec![text.trim()]));
    let ty = SqlType::Timestamp(6).to_arrow();
    let options = arrow::compute::CastOptions { safe: false, ..Default::default() };
    let cast = arrow::compute::cast_with_options(&array, &ty, &options).ok()?;
    let times = cast.as_any().downcast_ref::<arrow::array::TimestampMicrosecondArray>()?;
    Some(times.value(0))
}
