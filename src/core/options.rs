//! Declarations of options: name, type, default and a line of text. One list serves parsing, errors and documents.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::nearest::did_you_mean;

/// The declaration of one option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionSpec {
    pub name: &'static str,
    pub kind: OptionKind,
    pub default: OptionDefault,
    /// What it is for, in one sentence.
    pub text: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionDefault {
    /// Must be given.
    Required,
    /// May be missing; what then happens is in the text.
    Absent,
    Value(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    Text,
    /// Never shown, never stored.
    Secret,
    Bool,
    /// Non-negative.
    Integer,
    Number,
    /// `1 s`, `500ms`, `2 min`, `1 h`, `1 d`; a bare number is milliseconds, as in Flink.
    Duration,
    /// `64mb`, `1 GiB`; powers of 1024, as in Flink; a bare number is bytes.
    MemorySize,
    OneOf(&'static [&'static str]),
    /// Every option whose name begins with `name` (which ends in `.`): `properties.*`, `fields.*`.
    Prefix,
}

impl OptionSpec {
    pub const fn required(name: &'static str, kind: OptionKind, text: &'static str) -> Self {
        OptionSpec { name, kind, default: OptionDefault::Required, text }
    }

    pub const fn optional(name: &'static str, kind: OptionKind, text: &'static str) -> Self {
        OptionSpec { name, kind, default: OptionDefault::Absent, text }
    }

    pub const fn with_default(name: &'static str, kind: OptionKind, default: &'static str, text: &'static str) -> Self {
        OptionSpec { name, kind, default: OptionDefault::Value(default), text }
    }

    fn covers(&self, key: &str) -> bool {
        match self.kind {
            OptionKind::Prefix => key.starts_with(self.name),
            _ => key == self.name,
        }
    }
}

/// Options checked against their declarations; every value can be read with its type.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    values: &'a BTreeMap<String, String>,
    specs: Vec<OptionSpec>,
    of: String,
}

impl<'a> Options<'a> {
    /// Checks that every given option is declared, every required one given, and every value of its type.
    /// `of` names whose options these are in errors: `table orders (connector 'filesystem')`.
    pub fn check(values: &'a BTreeMap<String, String>, specs: &[OptionSpec], of: impl Into<String>) -> Result<Self> {
        let options = Options { values, specs: specs.to_vec(), of: of.into() };
        for key in values.keys() {
            let Some(spec) = options.specs.iter().find(|s| s.covers(key)) else {
                let names = options.specs.iter().map(|s| s.name);
                let mut known: Vec<String> = options
                    .specs
                    .iter()
                    .map(|s| if s.kind == OptionKind::Prefix { format!("{}*", s.name) } else { s.name.to_owned() })
                    .collect();
                known.sort();
                return Err(Error::option(format!("{} has no option '{key}'", options.of))
                    .propose(did_you_mean(key, names))
                    .note(format!("options: {}", known.join(", "))));
            };
            options.check_value(spec, key, &values[key])?;
        }
        for spec in &options.specs {
            if spec.default == OptionDefault::Required && !values.contains_key(spec.name) {
                return Err(Error::option(format!("{} needs the option '{}'", options.of, spec.name)).note(spec.text));
            }
        }
        Ok(options)
    }

    fn check_value(&self, spec: &OptionSpec, key: &str, value: &str) -> Result<()> {
        let expected = match spec.kind {
            OptionKind::Text | OptionKind::Secret | OptionKind::Prefix => return Ok(()),
            OptionKind::Bool if parse_bool(value).is_some() => return Ok(()),
            OptionKind::Bool => "true or false".to_owned(),
            OptionKind::Integer if value.trim().parse::<u64>().is_ok() => return Ok(()),
            OptionKind::Integer => "a whole number, 0 or more".to_owned(),
            OptionKind::Number if value.trim().parse::<f64>().is_ok_and(f64::is_finite) => return Ok(()),
            OptionKind::Number => "a number".to_owned(),
            OptionKind::Duration if parse_duration(value).is_some() => return Ok(()),
            OptionKind::Duration => "a duration such as '500 ms', '10 s' or '1 min'".to_owned(),
            OptionKind::MemorySize if parse_memory_size(value).is_some() => return Ok(()),
            OptionKind::MemorySize => "a size such as '64 mb' or '1 gb'".to_owned(),
            OptionKind::OneOf(values) if values.contains(&value) => return Ok(()),
            OptionKind::OneOf(values) => {
                return Err(Error::option(format!("'{key}' = '{value}' is not possible for {}", self.of))
                    .propose(did_you_mean(value, values.iter().copied()))
                    .note(format!("one of: {}", values.join(", "))));
            }
        };
        Err(Error::option(format!("'{key}' = '{value}' of {} is not {expected}", self.of)).note(spec.text))
    }

    fn text_of(&self, name: &str) -> Option<&str> {
        debug_assert!(self.specs.iter().any(|s| s.covers(name)), "undeclared option {name}");
        self.values.get(name).map(String::as_str).or_else(|| {
            self.specs.iter().find(|s| s.name == name).and_then(|s| match s.default {
                OptionDefault::Value(v) => Some(v),
                _ => None,
            })
        })
    }

    /// Whether the user gave it.
    pub fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.text_of(name)
    }

    /// The value of a required option, or of one with a default.
    pub fn text_must(&self, name: &str) -> &str {
        self.text_of(name).expect("required option or one with a default, checked by `check`")
    }

    pub fn bool(&self, name: &str) -> bool {
        self.text_of(name).and_then(parse_bool).unwrap_or(false)
    }

    pub fn integer(&self, name: &str) -> Option<u64> {
        self.text_of(name).and_then(|v| v.trim().parse().ok())
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.text_of(name).and_then(|v| v.trim().parse().ok())
    }

    pub fn duration(&self, name: &str) -> Option<Duration> {
        self.text_of(name).and_then(parse_duration)
    }

    pub fn memory_size(&self, name: &str) -> Option<u64> {
        self.text_of(name).and_then(parse_memory_size)
    }

    /// All given options that begin with `prefix`, without it.
    pub fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().filter_map(move |(k, v)| Some((k.strip_prefix(prefix)?, v.as_str())))
    }
}

pub fn parse_bool(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// `1 s`, `500ms`, `2 min`, `1 h`, `1 d`, with Flink's unit names; a bare number is milliseconds.
pub fn parse_duration(value: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(value)?;
    let ns_per_unit: u64 = match unit.as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        _ => return None,
    };
    Some(Duration::from_nanos(number.checked_mul(ns_per_unit)?))
}

/// `64mb`, `1 GiB`; powers of 1024; a bare number is bytes.
pub fn parse_memory_size(value: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(value)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kib" | "kibibytes" => 10,
        "m" | "mb" | "mib" | "mebibytes" => 20,
        "g" | "gb" | "gib" | "gibibytes" => 30,
        "t" | "tb" | "tib" | "tebibytes" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn number_and_unit(value: &str) -> Option<(u64, String)> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    Some((value[..digits].parse().ok()?, value[digits..].trim().to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[OptionSpec] = &[
        OptionSpec::required("path", OptionKind::Text, "file, folder or glob to read"),
        OptionSpec::with_default("rate", OptionKind::Integer, "7", "rows per second"),
        OptionSpec::optional("fields.", OptionKind::Prefix, "per field"),
    ];

    fn values(v: &[(&str, &str)]) -> BTreeMap<String, String> {
        v.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn an_unknown_option_is_named_with_the_nearest_and_the_known_ones() {
        let e = Options::check(&values(&[("pathh", "x")]), SPECS, "table t").unwrap_err();
        assert_eq!(
            e.to_string(),
            "table t has no option 'pathh'; did you mean \"path\"?; options: fields.*, path, rate"
        );
    }

    #[test]
    fn a_missing_option_is_named_with_what_it_is_for() {
        let e = Options::check(&values(&[]), SPECS, "table t").unwrap_err();
        assert_eq!(e.to_string(), "table t needs the option 'path'; file, folder or glob to read");
    }

    #[test]
    fn values_are_read_with_their_type_and_default() {
        let v = values(&[("path", "x"), ("fields.a.kind", "random")]);
        let o = Options::check(&v, SPECS, "table t").unwrap();
        assert_eq!(o.integer("rate"), Some(7));
        assert_eq!(o.with_prefix("fields.").collect::<Vec<_>>(), [("a.kind", "random")]);
    }

    #[test]
    fn durations_and_sizes_as_in_flink() {
        assert_eq!(parse_duration("1 s"), Some(Duration::from_secs(1)));
        assert_eq!(parse_duration("250"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("soon"), None);
        assert_eq!(parse_memory_size("64mb"), Some(64 << 20));
        assert_eq!(parse_memory_size("1 GiB"), Some(1 << 30));
        assert_eq!(parse_memory_size("-1"), None);
    }
}
