//! Log lines on standard error: `2026-11-21T08:01:00.004Z INFO  job=top_customers event=started`.

use std::fmt;
use std::io::{IsTerminal, Write};

use thalweg_session::core::clock::now_us;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::args::{Arguments, Command};
use crate::render::value::timestamp_text;

/// `THALWEG_LOG` filters; by default warnings, and everything that happens to the jobs of `run` in a pipe or a file.
pub fn init(arguments: &Arguments) {
    let to_file = !std::io::stderr().is_terminal();
    let default = match &arguments.command {
        Some(Command::Run(_)) if to_file => "warn,thalweg=info,thalweg_cli=info",
        Some(Command::Test(_)) => "error,thalweg_runtime=off",
        _ => "warn",
    };
    let filter = EnvFilter::try_from_env("THALWEG_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .event_format(Line)
        .with_writer(AroundProgress)
        .try_init();
}

struct Line;

/// The fields of an event as `name=value`, and its message.
#[derive(Default)]
struct Fields {
    pairs: String,
    message: String,
}

impl Fields {
    fn add(&mut self, name: &str, value: String) {
        if name == "message" {
            self.message = value;
            return;
        }
        let is_plain = !value.is_empty() && !value.contains([' ', '"', '=', '\n']);
        let value = if is_plain { value } else { format!("{value:?}") };
        self.pairs.push_str(&format!("{name}={value} "));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), format!("{value:?}"));
    }
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    /// What it is about first, the words last.
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = format!("{}{}", fields.pairs, fields.message);
        writeln!(writer, "{} {:<5} {}", now_text(), event.metadata().level(), line.trim_end())
    }
}

/// Now, in milliseconds, as RFC 3339.
fn now_text() -> String {
    let text = timestamp_text(i128::from(now_us() / 1000) * 1_000_000, 'T');
    let (seconds, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{seconds}.{fraction:0<3}Z")
}

/// Lines go between progress lines that are redrawn.
struct AroundProgress;

impl<'a> MakeWriter<'a> for AroundProgress {
    type Writer = AroundProgress;

    fn make_writer(&'a self) -> AroundProgress {
        AroundProgress
    }
}

impl Write for AroundProgress {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        crate::progress::around(|| std::io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_before_the_words_and_are_quoted_where_they_must_be() {
        let mut fields = Fields::default();
        fields.add("message", "the target is down".to_owned());
        fields.add("job", "top_customers".to_owned());
        fields.add("cause", "connection lost".to_owned());
        assert_eq!(
            format!("{}{}", fields.pairs, fields.message),
            "job=top_customers cause=\"connection lost\" the target is down"
        );
    }
}
