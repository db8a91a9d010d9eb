//! `SET` and `RESET`: settings by Flink's names, checked when they are set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use thalweg_core::options::{OptionDefault, OptionKind, OptionSpec, Options};
use thalweg_core::{Error, Result};
use thalweg_functions::calendar::Zone;
use thalweg_runtime::{RestartStrategy, RuntimeOptions};
use thalweg_state::{Backend, Budget};

/// Every setting.
pub const SETTINGS: &[OptionSpec] = &[
    OptionSpec::optional("pipeline.name", OptionKind::Text, "name of the next job; its checkpoints are found by it"),
    OptionSpec::with_default(
        "pipeline.max-parallelism",
        OptionKind::Integer,
        "256",
        "number of key groups: how many workers a job can ever use; fixed by its first checkpoint",
    ),
    OptionSpec::optional("parallelism.default", OptionKind::Integer, "worker threads of a job; default: all cores"),
    OptionSpec::with_default(
        "execution.checkpointing.interval",
        OptionKind::Duration,
        "1 s",
        "time between checkpoints; 0: none",
    ),
    OptionSpec::optional("execution.checkpointing.dir", OptionKind::Text, "where checkpoints are kept; default: DIR"),
    OptionSpec::with_default(
        "execution.checkpointing.num-retained",
        OptionKind::Integer,
        "1",
        "checkpoints that are kept",
    ),
    OptionSpec::with_default(
        "execution.checkpointing.timeout",
        OptionKind::Duration,
        "10 min",
        "a checkpoint that takes longer is given up; an orderly stop waits for as long for its output to be delivered",
    ),
    OptionSpec::with_default(
        "execution.checkpointing.min-pause",
        OptionKind::Duration,
        "0",
        "time between the end of one checkpoint and the start of the next",
    ),
    OptionSpec::with_default(
        "execution.tick.rows-max",
        OptionKind::Integer,
        "524288",
        "rows that a tick takes of each source on each worker; fewer: answers change in smaller steps, and sooner",
    ),
    OptionSpec::with_default(
        "sink.staged-bytes-max",
        OptionKind::MemorySize,
        "256 mb",
        "output of a job that is in no checkpoint yet, over which one is taken before its time",
    ),
    OptionSpec::with_default(
        "sink.pending-bytes-max",
        OptionKind::MemorySize,
        "1 gb",
        "output of a job that waits for its targets, over which reading waits too",
    ),
    OptionSpec::with_default(
        "sink.mark-interval",
        OptionKind::Duration,
        "1 d",
        "a sink with nothing to write renews its mark this often; shorter than Kafka's offsets.retention.minutes",
    ),
    OptionSpec::with_default(
        "state.backend.type",
        OptionKind::OneOf(&["rocksdb", "memory"]),
        "rocksdb",
        "memory: nothing is evicted, whatever the budget",
    ),
    OptionSpec::optional(
        "state.memory-budget",
        OptionKind::MemorySize,
        "memory for the state of all jobs of the process; default: half of the machine's",
    ),
    OptionSpec::with_default(
        "restart-strategy.type",
        OptionKind::OneOf(&["none", "fixed-delay", "exponential-delay", "failure-rate"]),
        "exponential-delay",
        "whether and when a failed job is started again from its last checkpoint",
    ),
    OptionSpec::with_default("restart-strategy.fixed-delay.attempts", OptionKind::Integer, "1", "restarts at most"),
    OptionSpec::with_default("restart-strategy.fixed-delay.delay", OptionKind::Duration, "1 s", "wait before each"),
    OptionSpec::with_default(
        "restart-strategy.exponential-delay.initial-backoff",
        OptionKind::Duration,
        "1 s",
        "wait before the first restart",
    ),
    OptionSpec::with_default(
        "restart-strategy.exponential-delay.max-backoff",
        OptionKind::Duration,
        "1 min",
        "longest wait",
    ),
    OptionSpec::with_default(
        "restart-strategy.exponential-delay.backoff-multiplier",
        OptionKind::Number,
        "1.5",
        "by which each wait is longer than the one before",
    ),
    OptionSpec::with_default(
        "restart-strategy.exponential-delay.reset-backoff-threshold",
        OptionKind::Duration,
        "10 min",
        "a run of this length makes the next failure the first one",
    ),
    OptionSpec::with_default(
        "restart-strategy.exponential-delay.attempts-before-reset-backoff",
        OptionKind::Integer,
        "10",
        "restarts at most without such a run",
    ),
    OptionSpec::with_default(
        "restart-strategy.failure-rate.max-failures-per-interval",
        OptionKind::Integer,
        "1",
        "failures within the interval that are borne",
    ),
    OptionSpec::with_default(
        "restart-strategy.failure-rate.failure-rate-interval",
        OptionKind::Duration,
        "1 min",
        "the interval",
    ),
    OptionSpec::with_default("restart-strategy.failure-rate.delay", OptionKind::Duration, "1 s", "wait before each"),
    OptionSpec::with_default(
        "table.local-time-zone",
        OptionKind::Text,
        "UTC",
        "zone in which TIMESTAMP_LTZ is shown, cast and taken apart: a name such as Europe/Berlin, or an offset such as +02:00",
    ),
    OptionSpec::with_default(
        "execution.runtime-mode",
        OptionKind::OneOf(&["streaming"]),
        "streaming",
        "there is no other",
    ),
];

/// Each renewal is a transaction of the target.
const MARK_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The settings of a session.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: BTreeMap<String, String>,
}

impl Settings {
    /// Sets one; an unknown name or a bad value is an error that names it.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        if key == "table.exec.source.cdc-events-duplicate" {
            return Err(Error::option(format!("'{key}' is no setting of the session here")).note(
                "a kafka table with a primary key counts events that come twice once, unless it has the option 'scan.cdc-events-duplicate' = 'false'",
            ));
        }
        let one = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Options::check(&one, SETTINGS, "the session")?;
        let positive = ["parallelism.default", "pipeline.max-parallelism", "execution.checkpointing.num-retained"];
        if positive.contains(&key) && value.trim().parse::<u64>().is_ok_and(|n| n == 0 || n > 32_768) {
            return Err(Error::option(format!("'{key}' = '{value}' is not between 1 and 32768")));
        }
        if key == "execution.tick.rows-max" && value.trim() == "0" {
            return Err(Error::option(format!("'{key}' = '{value}' is not at least 1")));
        }
        if key == "table.local-time-zone" {
            Zone::parse(value).map_err(|e| {
                let error = Error::option(format!("'{key}' = '{value}': {}", e.message()));
                e.notes().iter().fold(error, |error, note| error.note(note))
            })?;
        }
        self.values.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// Back to the default.
    pub fn reset(&mut self, key: &str) -> Result<()> {
        let one = BTreeMap::from([(key.to_owned(), String::new())]);
        if !SETTINGS.iter().any(|s| s.name == key) {
            Options::check(&one, SETTINGS, "the session")?;
        }
        self.values.remove(key);
        Ok(())
    }

    pub fn reset_all(&mut self) {
        self.values.clear();
    }

    /// Name, value in force (empty: none), what it is for; in alphabetical order.
    pub fn list(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut all: Vec<_> = SETTINGS
            .iter()
            .map(|s| {
                let default = match s.default {
                    OptionDefault::Value(v) => v,
                    _ => "",
                };
                (s.name, self.values.get(s.name).map_or(default, String::as_str).to_owned(), s.text)
            })
            .collect();
        all.sort();
        all
    }

    fn options(&self) -> Options<'_> {
        Options::check(&self.values, SETTINGS, "the session").expect("every setting was checked when it was set")
    }

    pub fn pipeline_name(&self) -> Option<String> {
        self.options().text("pipeline.name").map(str::to_owned)
    }

    pub fn checkpoint_dir(&self) -> Option<PathBuf> {
        self.options().text("execution.checkpointing.dir").map(|d| d.strip_prefix("file://").unwrap_or(d).into())
    }

    pub fn time_zone(&self) -> String {
        self.options().text_must("table.local-time-zone").to_owned()
    }

    /// `time_zone`, as what converts.
    pub fn zone(&self) -> Zone {
        Zone::parse(&self.time_zone()).expect("the zone was checked when it was set")
    }

    /// `pipeline.max-parallelism`, if it was set.
    pub fn max_parallelism_given(&self) -> Option<u16> {
        let options = self.options();
        options
            .given("pipeline.max-parallelism")
            .then(|| options.integer("pipeline.max-parallelism"))
            .flatten()
            .map(|n| n as u16)
    }

    /// Bytes of `state.memory-budget`, if set.
    pub fn memory_budget(&self) -> Option<u64> {
        self.options().memory_size("state.memory-budget")
    }

    /// The options of an instance started now.
    pub fn runtime_options(&self, working_dir: PathBuf, budget: std::sync::Arc<Budget>) -> RuntimeOptions {
        let o = self.options();
        let duration = |name| o.duration(name).unwrap_or_default();
        let integer = |name| o.integer(name).unwrap_or_default();
        let mut r = RuntimeOptions::new(working_dir);
        r.budget = budget;
        if let Some(n) = o.integer("parallelism.default") {
            r.workers = n as usize;
        }
        r.max_parallelism = integer("pipeline.max-parallelism") as u16;
        // A worker without a key group would have nothing to do.
        r.workers = r.workers.min(usize::from(r.max_parallelism));
        r.checkpoint_interval =
            Some(duration("execution.checkpointing.interval")).filter(|interval| *interval > Duration::ZERO);
        r.checkpoint_min_pause = duration("execution.checkpointing.min-pause");
        r.checkpoint_timeout = duration("execution.checkpointing.timeout");
        r.checkpoints_retained = integer("execution.checkpointing.num-retained") as usize;
        r.tick_rows_max = integer("execution.tick.rows-max") as usize;
        r.staged_bytes_max = o.memory_size("sink.staged-bytes-max").unwrap_or(r.staged_bytes_max);
        r.pending_bytes_max = o.memory_size("sink.pending-bytes-max").unwrap_or(r.pending_bytes_max);
        r.mark_interval = duration("sink.mark-interval").max(MARK_INTERVAL_MIN);
        r.backend = match o.text_must("state.backend.type") {
            "memory" => Backend::Memory,
            _ => Backend::RocksDb,
        };
        r.restart = match o.text_must("restart-strategy.type") {
            "none" => RestartStrategy::None,
            "fixed-delay" => RestartStrategy::FixedDelay {
                attempts: integer("restart-strategy.fixed-delay.attempts") as u32,
                delay: duration("restart-strategy.fixed-delay.delay"),
            },
            "failure-rate" => RestartStrategy::FailureRate {
                failures_per_interval: integer("restart-strategy.failure-rate.max-failures-per-interval") as u32,
                interval: duration("restart-strategy.failure-rate.failure-rate-interval"),
                delay: duration("restart-strategy.failure-rate.delay"),
            },
            _ => RestartStrategy::ExponentialDelay {
                initial_backoff: duration("restart-strategy.exponential-delay.initial-backoff"),
                max_backoff: duration("restart-strategy.exponential-delay.max-backoff"),
                multiplier: o.number("restart-strategy.exponential-delay.backoff-multiplier").unwrap_or(1.5).max(1.0),
                reset_after: duration("restart-strategy.exponential-delay.reset-backoff-threshold"),
                attempts: Some(integer("restart-strategy.exponential-delay.attempts-before-reset-backoff") as u32),
            },
        };
        r
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_checked_when_it_is_set() {
        let mut s = Settings::default();
        assert!(s.set("parallelism.default", "4").is_ok());
        let e = s.set("paralellism.default", "4").unwrap_err();
        assert!(e.to_string().contains("did you mean \"parallelism.default\"?"), "{e}");
        assert!(s.set("parallelism.default", "0").is_err());
        assert!(s.set("execution.checkpointing.interval", "soon").is_err());
    }

    #[test]
    fn reset_gives_the_default_back() {
        let mut s = Settings::default();
        s.set("execution.checkpointing.interval", "5 s").unwrap();
        s.reset("execution.checkpointing.interval").unwrap();
        let r = s.runtime_options("/tmp".into(), Budget::new(1 << 30));
        assert_eq!(r.checkpoint_interval, Some(Duration::from_secs(1)));
        assert!(s.reset("no.such").is_err());
    }

    #[test]
    fn an_interval_of_0_means_no_checkpoints() {
        let mut s = Settings::default();
        s.set("execution.checkpointing.interval", "0").unwrap();
        assert_eq!(s.runtime_options("/tmp".into(), Budget::new(1 << 30)).checkpoint_interval, None);
    }
}
