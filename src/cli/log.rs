//! Log lines on standard error: `2026-11-21T08:01:00.004Z INFO  job=top_customers event=started`.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

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

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, cx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "{} {:<5} ", now_text(), event.metadata().level())?;
        cx.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Now, in milliseconds, as RFC 3339.
fn now_text() -> String {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let text = timestamp_text(ms as i128 * 1_000_000, 'T');
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
