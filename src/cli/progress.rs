//! What is said of running jobs: a line each that is redrawn on a terminal, log lines now and then elsewhere, and a
//! word at every event.

use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use thalweg_session::checkpoint::restore::Fate;
use thalweg_session::core::Result;
use thalweg_session::{Job, Metrics, Outcome, Phase, RestoreReport};

use crate::render::error::{Source, render_error};
use crate::render::value::timestamp_text;
use crate::render::{bytes, count};

/// How often lines are redrawn and events looked for.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// How often a log line says how far a job is.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

static LINES: OnceLock<MultiProgress> = OnceLock::new();

/// Runs `f`, which writes to standard error, with the progress lines out of the way.
pub fn around<R>(f: impl FnOnce() -> R) -> R {
    match LINES.get() {
        Some(lines) => lines.suspend(f),
        None => f(),
    }
}

/// A line on standard error.
pub fn say(text: &str) {
    around(|| eprintln!("{text}"));
}

/// Follows a job to its end and says everything about it. `is_run`: the command is `run`; else only events are said.
/// Gives whether the job ended well.
pub async fn follow(job: Arc<Job>, is_run: bool) -> bool {
    let is_terminal = std::io::stderr().is_terminal();
    let mut monitor = Monitor::new(job.clone(), is_run && is_terminal, is_run && !is_terminal);
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
    logged: Instant,
    rate: Rate,
    restarts: u64,
    has_started: bool,
}

impl Monitor {
    fn new(job: Arc<Job>, draws: bool, logs: bool) -> Self {
        let line = draws.then(|| {
            let lines = LINES.get_or_init(MultiProgress::new);
            let style = ProgressStyle::with_template("{prefix}  {spinner} {wide_msg}").expect("the template is valid");
            let line = lines.add(ProgressBar::new_spinner().with_style(style));
            line.set_prefix(job.name.clone());
            line
        });
        if let Some(notice) = &job.notice {
            say(notice);
        }
        Monitor { job, line, logs, logged: Instant::now(), rate: Rate::new(), restarts: 0, has_started: false }
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
            match self.logs {
                true => tracing::warn!(job = %self.job.name, event = %"restart", restarts, cause = %e),
                false => say(&format!("{}  restarts from its last checkpoint: {e}", self.job.name)),
            }
        }
        self.rate.add(Metrics::load(&metrics.rows_in));
        if let Some(line) = &self.line {
            line.set_message(line_text(&self.job, &phase, self.rate.per_s()));
            line.tick();
        }
        if self.logs && self.logged.elapsed() >= LOG_INTERVAL {
            self.logged = Instant::now();
            tracing::info!(
                job = %self.job.name,
                tick = Metrics::load(&metrics.tick),
                rows_in = Metrics::load(&metrics.rows_in),
                rows_in_per_s = self.rate.per_s(),
                rows_out = Metrics::load(&metrics.rows_out),
                lag_ms = metrics.lag_ms.load(Ordering::Relaxed),
                checkpoint = Metrics::load(&metrics.checkpoint),
                checkpoint_ms = Metrics::load(&metrics.checkpoint_ms),
                state_bytes = Metrics::load(&metrics.state_bytes),
            );
        }
    }

    fn end(&mut self, result: &Result<Outcome>) -> bool {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
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
                let waiting = job.handle.undelivered();
                let tick = count(Metrics::load(&metrics.tick));
                match waiting.is_empty() {
                    true => say(&format!(
                        "{}  stopped: checkpoint {checkpoint} at tick {tick} delivered. The same command goes on from here.",
                        job.name
                    )),
                    false => say(&format!(
                        "{}  stopped: checkpoint {checkpoint} at tick {tick}; output of {} waits for the next start",
                        job.name,
                        waiting.join(", ")
                    )),
                }
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

/// `in 1,240,000 410k/s │ out 18,204 │ chk 17 0.6 s ago, 12 ms, 1.4 MB │ state 212 MB`
fn line_text(job: &Job, phase: &Phase, rows_per_s: u64) -> String {
    let metrics = job.metrics();
    let lag = metrics.lag_ms.load(Ordering::Relaxed);
    let doing = match phase {
        Phase::Running if lag > 0 => format!("lag {lag} ms"),
        _ => job.state(),
    };
    let mut text = format!(
        "{doing} │ in {} {}/s │ out {}",
        count(Metrics::load(&metrics.rows_in)),
        short(rows_per_s),
        count(Metrics::load(&metrics.rows_out))
    );
    let checkpoint = Metrics::load(&metrics.checkpoint);
    if checkpoint > 0 {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let ago = (now_ms - metrics.checkpoint_at_ms.load(Ordering::Relaxed)).max(0) as f64 / 1000.0;
        text.push_str(&format!(
            " │ chk {checkpoint} {ago:.1} s ago, {} ms, {}",
            Metrics::load(&metrics.checkpoint_ms),
            bytes(Metrics::load(&metrics.checkpoint_bytes))
        ));
    }
    let state = Metrics::load(&metrics.state_bytes);
    if state > 0 {
        text.push_str(&format!(" │ state {}", bytes(state)));
    }
    text
}

/// `410k`
fn short(n: u64) -> String {
    match n {
        0..10_000 => count(n),
        10_000..10_000_000 => format!("{}k", count(n / 1000)),
        _ => format!("{}M", count(n / 1_000_000)),
    }
}

fn restored_text(job: &str, report: &RestoreReport) -> String {
    let fates = &report.plan.nodes;
    let new = fates.iter().filter(|f| matches!(f, Fate::New { .. })).count();
    let took = report.took.as_secs_f64();
    let took = if took < 1.0 { format!("{:.0} ms", took * 1000.0) } else { format!("{took:.1} s") };
    let (then, now) = report.workers;
    let workers = if then == now { String::new() } else { format!(", {then} → {now} workers") };
    let when = timestamp_text(i128::from(report.wall_clock_us / 1_000_000) * 1_000_000_000, ' ');
    let changed = new + report.plan.dropped.len() > 0;
    let when = if changed { format!(", {when} UTC") } else { String::new() };
    let mut text = format!(
        "{job}  restored checkpoint {} (tick {}{when}{workers}) in {took}: {} operators reused, {new} new, {} dropped",
        report.checkpoint,
        count(report.tick),
        fates.len() - new,
        report.plan.dropped.len(),
    );
    let partial = fates.iter().filter(|f| matches!(f, Fate::New { partial_history: true })).count();
    if partial > 0 {
        let see = if partial == 1 { "operator sees" } else { "operators see" };
        text.push_str(&format!(
            "\n  warning: {partial} new {see} only changes after tick {} (partial history)",
            count(report.tick)
        ));
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
