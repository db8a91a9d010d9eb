//! What is said of running jobs: a line each that is redrawn on a terminal, log lines now and then elsewhere, and a
//! word at every event.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use thalweg_session::core::Result;
use thalweg_session::core::clock::now_us;
use thalweg_session::{Job, Metrics, Outcome, Phase, RestoreReport};
use unicode_width::UnicodeWidthStr;

use crate::render::error::{Source, render_error};
use crate::render::value::timestamp_text;
use crate::render::{bytes, count, width_of};

/// How often lines are redrawn and events looked for.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// How often a log line says how far a job is.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

static LINES: OnceLock<MultiProgress> = OnceLock::new();
/// The longest name of a job that has a line, in columns: all lines begin their text behind it.
static NAME_WIDTH: AtomicUsize = AtomicUsize::new(0);
/// Left free at the end of a line: one that wraps could not be redrawn.
const FREE_COLUMNS: usize = 3;

/// Runs `f`, which writes to standard error, with the progress lines out of the way.
pub fn around<R>(f: impl FnOnce() -> R) -> R {
    match LINES.get() {
        Some(lines) => lines.suspend(f),
        None => f(),
    }
}

/// The terminal has written `^C` behind the last line, which reaches to its right edge: back to that line.
pub fn undo_echo() {
    if LINES.get().is_some() && std::io::stdin().is_terminal() {
        eprint!("\x1b[A");
    }
}

/// A line on standard error.
pub fn say(text: &str) {
    around(|| eprintln!("{text}"));
}

/// Follows a job to its end and says everything about it. `is_run`: the command is `run`; else only events are said.
/// `lasts`: its checkpoints are there for the next start. Gives whether the job ended well.
pub async fn follow(job: Arc<Job>, is_run: bool, lasts: bool) -> bool {
    let is_terminal = std::io::stderr().is_terminal();
    let mut monitor = Monitor::new(job.clone(), is_run && is_terminal, is_run && !is_terminal, lasts);
    let mut ticker = tokio::time::interval(REDRAW_INTERVAL);
    let result = loop {
        tokio::select! {
            result = job.handle.wait() => break result,
            _ = ticker.tick() => monitor.look(),
        }
    };
    monitor.look();
    monitor.end(&result)
}

struct Monitor {
    job: Arc<Job>,
    line: Option<ProgressBar>,
    logs: bool,
    lasts: bool,
    logged: Instant,
    rate: Rate,
    restarts: u64,
    has_started: bool,
}

impl Monitor {
    fn new(job: Arc<Job>, draws: bool, logs: bool, lasts: bool) -> Self {
        let line = draws.then(|| {
            let lines = LINES.get_or_init(MultiProgress::new);
            let style = ProgressStyle::with_template("{prefix}  {spinner} {msg}").expect("the template is valid");
            let line = lines.add(ProgressBar::new_spinner().with_style(style));
            NAME_WIDTH.fetch_max(job.name.width(), Ordering::Relaxed);
            line
        });
        if let Some(notice) = &job.notice {
            say(notice);
        }
        Monitor { job, line, logs, lasts, logged: Instant::now(), rate: Rate::new(), restarts: 0, has_started: false }
    }

    fn look(&mut self) {
        let phase = self.job.handle.phase();
        let metrics = self.job.metrics();
        if !self.has_started && !matches!(phase, Phase::Starting) {
            self.has_started = true;
            let restored = self.job.restored();
            if self.logs {
                let checkpoint = restored.as_ref().map_or("none".to_owned(), |r| r.checkpoint.to_string());
                let workers = self.job.workers;
                tracing::info!(job = %self.job.name, event = %"started", workers, checkpoint = %checkpoint);
            }
            if let Some(report) = restored {
                say(&restored_text(&self.job.name, &report));
            }
        }
        let restarts = Metrics::load(&metrics.restarts);
        if let Phase::Restarting(e) = &phase
            && (restarts > self.restarts || self.restarts == 0)
        {
            self.restarts = restarts.max(1);
            // In a log the runtime has said it already.
            if !self.logs {
                say(&format!("{}  restarts from its last checkpoint: {e}", self.job.name));
            }
        }
        self.rate.add(Metrics::load(&metrics.rows_in));
        if let Some(line) = &self.line {
            let name_width = NAME_WIDTH.load(Ordering::Relaxed);
            let room = width_of(std::io::stderr()).saturating_sub(name_width + 4 + FREE_COLUMNS);
            line.set_prefix(format!("{}{}", self.job.name, " ".repeat(name_width - self.job.name.width())));
            line.set_message(first_that_fit(&line_parts(&self.job, &phase, self.rate.per_s()), room));
            line.tick();
        }
        if self.logs && self.logged.elapsed() >= LOG_INTERVAL {
            self.logged = Instant::now();
            self.log();
        }
    }

    /// How far the job is, as a log line.
    fn log(&self) {
        let metrics = self.job.metrics();
        tracing::info!(
            job = %self.job.name,
            tick = Metrics::load(&metrics.tick),
            tick_p50_us = metrics.tick_took.quantile_us(0.5),
            tick_p99_us = metrics.tick_took.quantile_us(0.99),
            rows_in = Metrics::load(&metrics.rows_in),
            rows_in_per_s = self.rate.per_s(),
            rows_out = Metrics::load(&metrics.rows_out),
            lag_ms = metrics.lag(),
            purged_in_s = metrics.purged_in_s(),
            checkpoint = Metrics::load(&metrics.checkpoint),
            checkpoint_ms = Metrics::load(&metrics.checkpoint_ms),
            checkpoint_stall_ms = Metrics::load(&metrics.checkpoint_stall_us) as f64 / 1000.0,
            state_bytes = Metrics::load(&metrics.state_bytes),
            pending_bytes = Metrics::load(&metrics.pending_bytes),
        );
    }

    fn end(&mut self, result: &Result<Outcome>) -> bool {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
        if self.logs && result.is_ok() {
            self.log();
        }
        let (job, metrics) = (&self.job, self.job.metrics());
        let checkpoint = Metrics::load(&metrics.checkpoint);
        let took = job.started.elapsed().as_secs_f64();
        match result {
            Ok(Outcome::Finished) => {
                let mut text = format!(
                    "{}  finished: {} changes in, {} out, ",
                    job.name,
                    count(Metrics::load(&metrics.rows_in)),
                    count(Metrics::load(&metrics.rows_out))
                );
                if checkpoint > 0 {
                    text.push_str(&format!("checkpoint {checkpoint}, "));
                }
                say(&format!("{text}{took:.1} s"));
            }
            Ok(Outcome::Stopped) => {
                let tick = Metrics::load(&metrics.tick);
                say(&stopped_text(&job.name, checkpoint, tick, &job.handle.undelivered(), self.lasts));
            }
            Ok(Outcome::Cancelled) => say(&format!("{}  ended", job.name)),
            Err(e) => {
                let e = e.clone().context(format_args!("job {}", job.name));
                around(|| eprint!("{}", render_error(&e, Source::None)));
                return false;
            }
        }
        true
    }
}

/// How a job ended that was asked to. `checkpoint` 0: it takes none.
fn stopped_text(name: &str, checkpoint: u64, tick: u64, waiting: &[String], lasts: bool) -> String {
    let at = match checkpoint {
        0 => format!("tick {}", count(tick)),
        n => format!("checkpoint {n} at tick {}", count(tick)),
    };
    match (waiting, checkpoint, lasts) {
        ([], 0, _) => format!("{name}  stopped at {at}"),
        ([], _, true) => format!("{name}  stopped: {at} delivered. The same command goes on from here."),
        ([], _, false) => format!("{name}  stopped: {at} delivered"),
        (sinks, _, true) => format!("{name}  stopped: {at}; output of {} waits for the next start", sinks.join(", ")),
        (sinks, _, false) => format!("{name}  stopped: {at}; output of {} was not delivered", sinks.join(", ")),
    }
}

/// `streaming`, `in 1,240,000 410k/s`, `out 18,204`, `chk 17 0.6 s ago, 12 ms, 1.4 MB`, `state 212 MB`
fn line_parts(job: &Job, phase: &Phase, rows_per_s: u64) -> Vec<String> {
    let metrics = job.metrics();
    let lag = metrics.lag();
    let doing = match phase {
        Phase::Running if !metrics.status().is_empty() => metrics.status(),
        Phase::Running if lag > 0 => format!("lag {lag} ms"),
        _ => job.state(),
    };
    let mut parts = vec![
        doing,
        format!("in {} {}/s", count(Metrics::load(&metrics.rows_in)), short(rows_per_s)),
        format!("out {}", count(Metrics::load(&metrics.rows_out))),
    ];
    let checkpoint = Metrics::load(&metrics.checkpoint);
    if checkpoint > 0 {
        let ago = (now_us() / 1000 - metrics.checkpoint_at_ms.load(Ordering::Relaxed)).max(0) as f64 / 1000.0;
        parts.push(format!(
            "chk {checkpoint} {ago:.1} s ago, {} ms, {}",
            Metrics::load(&metrics.checkpoint_ms),
            bytes(Metrics::load(&metrics.checkpoint_bytes))
        ));
    }
    let state = Metrics::load(&metrics.state_bytes);
    if state > 0 {
        parts.push(format!("state {}", bytes(state)));
    }
    parts
}

/// As many parts as a line of `room` columns has room for; the first one in any case, cut if it must be.
fn first_that_fit(parts: &[String], room: usize) -> String {
    let mut line: String = parts.first().map_or("", String::as_str).chars().take(room).collect();
    for part in parts.iter().skip(1) {
        if line.width() + 3 + part.width() > room {
            break;
        }
        line.push_str(" │ ");
        line.push_str(part);
    }
    line
}

/// `410k`
fn short(n: u64) -> String {
    match n {
        0..10_000 => count(n),
        10_000..10_000_000 => format!("{}k", count(n / 1000)),
        _ => format!("{}M", count(n / 1_000_000)),
    }
}

/// `top  restored checkpoint 18 (tick 3,981) in 31 ms: 6 operators reused, 0 new, 0 dropped`; with changes a line for every
/// part below it.
fn restored_text(job: &str, report: &RestoreReport) -> String {
    let parts = &report.parts;
    let took = report.took.as_secs_f64();
    let took = if took < 1.0 { format!("{:.0} ms", took * 1000.0) } else { format!("{took:.1} s") };
    let (then, now) = report.workers;
    let workers = if then == now { String::new() } else { format!(", {then} → {now} workers") };
    let when = timestamp_text(i128::from(report.wall_clock_us / 1_000_000) * 1_000_000_000, ' ');
    let when = if parts.lines.is_empty() { String::new() } else { format!(", {when} UTC") };
    let mut text = format!(
        "{job}  restored checkpoint {} (tick {}{when}{workers}) in {took}: {} operators reused, {} new, {} dropped",
        report.checkpoint,
        count(report.tick),
        parts.reused,
        parts.new,
        parts.dropped,
    );
    for line in &parts.lines {
        text.push_str(&format!("\n  {line}"));
    }
    text
}

/// Rows per second over the last seconds.
pub struct Rate {
    points: std::collections::VecDeque<(Instant, u64)>,
}

impl Rate {
    const WINDOW: Duration = Duration::from_secs(3);

    pub fn new() -> Self {
        Rate { points: [(Instant::now(), 0)].into() }
    }

    pub fn add(&mut self, rows: u64) {
        let now = Instant::now();
        self.points.push_back((now, rows));
        while self.points.len() > 2 && now.duration_since(self.points[0].0) > Self::WINDOW {
            self.points.pop_front();
        }
    }

    pub fn per_s(&self) -> u64 {
        let (Some(first), Some(last)) = (self.points.front(), self.points.back()) else { return 0 };
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        if seconds > 0.0 { (last.1.saturating_sub(first.1) as f64 / seconds) as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use thalweg_session::checkpoint::restore::Report;

    use super::*;

    #[test]
    fn parts_that_do_not_fit_are_left_out_whole() {
        let parts = ["running", "in 10 5/s", "out 3", "chk 1"].map(str::to_owned);
        assert_eq!(first_that_fit(&parts, 80), "running │ in 10 5/s │ out 3 │ chk 1");
        assert_eq!(first_that_fit(&parts, 30), "running │ in 10 5/s │ out 3");
        assert_eq!(first_that_fit(&parts, 4), "runn");
    }

    #[test]
    fn only_a_job_that_lasts_is_said_to_go_on() {
        assert!(
            stopped_text("j", 3, 1200, &[], true).contains("checkpoint 3 at tick 1,200 delivered. The same command")
        );
        assert_eq!(stopped_text("j", 3, 1200, &[], false), "j  stopped: checkpoint 3 at tick 1,200 delivered");
        assert_eq!(stopped_text("j", 0, 7, &[], false), "j  stopped at tick 7");
        assert!(stopped_text("j", 3, 7, &["o".to_owned()], true).ends_with("output of o waits for the next start"));
        assert!(stopped_text("j", 3, 7, &["o".to_owned()], false).ends_with("output of o was not delivered"));
    }

    fn report(lines: &[&str]) -> RestoreReport {
        RestoreReport {
            checkpoint: 18,
            tick: 3981,
            wall_clock_us: 1_795_248_123_000_000,
            workers: (2, 4),
            took: Duration::from_millis(400),
            parts: Report { reused: 3, new: 1, dropped: 0, lines: lines.iter().map(|l| (*l).to_owned()).collect() },
        }
    }

    #[test]
    fn a_restore_is_one_line_and_with_changes_one_for_every_part() {
        assert_eq!(
            restored_text("top", &report(&[])),
            "top  restored checkpoint 18 (tick 3,981, 2 → 4 workers) in 400 ms: 3 operators reused, 1 new, 0 dropped"
        );
        let with_changes = restored_text("top", &report(&["reused   5c0a88e1 Join", "new      c2e8410b TopN"]));
        let lines: Vec<&str> = with_changes.lines().collect();
        assert!(lines[0].starts_with("top  restored checkpoint 18 (tick 3,981, 2026-11-21 0"), "{with_changes}");
        assert_eq!(lines[1..], ["  reused   5c0a88e1 Join", "  new      c2e8410b TopN"]);
    }
}
