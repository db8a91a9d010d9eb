//! The options of a table of files.

use std::path::PathBuf;
use std::time::Duration;

use thalweg_connector_api::options_of;
use thalweg_core::options::{OptionKind, OptionSpec, Options};
use thalweg_core::table::TableDef;
use thalweg_core::{Error, Result};

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::required(
        "path",
        OptionKind::Text,
        "reading: a file, a folder with all below it, or a glob; writing: a folder",
    ),
    OptionSpec::required("format", OptionKind::Text, "how rows stand in the files: csv, json, debezium-json or raw"),
    OptionSpec::optional(
        "source.monitor-interval",
        OptionKind::Duration,
        "reading: look for new files and for what was appended this often; the input then never ends",
    ),
    OptionSpec::optional(
        "scan.rate-limit",
        OptionKind::Number,
        "reading: at most so many rows per second over all workers; for demos and tests",
    ),
    OptionSpec::with_default(
        "compression",
        OptionKind::OneOf(thalweg_formats::compression::NAMES),
        "auto",
        "reading: how the files are compressed; auto goes by their ending (.gz, .zst)",
    ),
];

/// All options that a table of files has: those of its format, too. Which of them are for reading their text says:
/// one table may be both read and written.
pub fn declared(table: &TableDef) -> Vec<OptionSpec> {
    let format = table.option("format").map(thalweg_formats::options).unwrap_or_default();
    OPTIONS.iter().copied().chain(format).collect()
}

/// The checked options.
#[derive(Debug, Clone)]
pub struct FileOptions {
    /// Without `file://` and slashes at its end.
    pub path: String,
    pub format: String,
    pub compression: String,
    /// Given: the input never ends.
    pub monitor_interval: Option<Duration>,
    pub rows_per_second: Option<f64>,
}

impl FileOptions {
    pub fn of(table: &TableDef) -> Result<Self> {
        let of = format!("table {} (connector 'filesystem')", table.name);
        if let Some(format) = table.option("format") {
            thalweg_formats::format(format).map_err(|e| e.context(&of))?;
        }
        let values = options_of(table);
        let options = Options::check(&values, &declared(table), of.as_str())?;
        let rows_per_second = options.number("scan.rate-limit");
        if rows_per_second.is_some_and(|r| r <= 0.0) {
            return Err(Error::option(format!("'scan.rate-limit' of {of} must be above 0")));
        }
        let monitor_interval = options.duration("source.monitor-interval");
        if monitor_interval == Some(Duration::ZERO) {
            return Err(Error::option(format!("'source.monitor-interval' of {of} must be above 0")));
        }
        Ok(FileOptions {
            path: local_path(options.text_must("path")).map_err(|e| e.context(&of))?,
            format: options.text_must("format").to_owned(),
            compression: options.text_must("compression").to_owned(),
            monitor_interval,
            rows_per_second,
        })
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from(&self.path)
    }

    pub fn not_partitioned(&self, table: &TableDef) -> Result<()> {
        match table.partitioned_by.first() {
            None => Ok(()),
            Some(c) => Err(Error::unsupported(format!(
                "table {} is PARTITIONED BY {}: the filesystem connector does not know partitions yet",
                table.name, table.columns[*c].column.name
            ))
            .note("leave PARTITIONED BY out; a folder and all below it is read as one table")),
        }
    }
}

/// `file:///a/b/` → `/a/b`.
fn local_path(text: &str) -> Result<String> {
    let path = match text.split_once("://") {
        Some(("file", path)) => path,
        Some((scheme, _)) => {
            return Err(Error::unsupported(format!(
                "'path' = '{text}': only local files can be read and written, not {scheme}"
            )));
        }
        None => text,
    };
    if path.is_empty() {
        return Err(Error::option(format!("'path' = '{text}' is empty")));
    }
    let trimmed = path.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_may_be_given_as_local_urls() {
        assert_eq!(local_path("file:///a/b/").unwrap(), "/a/b");
        assert_eq!(local_path("a//").unwrap(), "a");
        assert_eq!(local_path("/").unwrap(), "/");
        assert!(local_path("s3://bucket/a").unwrap_err().to_string().contains("not s3"));
        assert!(local_path("").is_err());
    }
}
