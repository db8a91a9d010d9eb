//! Scripts: `run`, `-c` and statements from a pipe; and the answers of one statement, for the shell too.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thalweg_session::core::{Error, ErrorCode, Result};
use thalweg_session::plan::{Parsed, Statement, parse_script};
use thalweg_session::{Answer, Changelog, Job, Metrics, Session, SessionOptions};

use crate::Status;
use crate::args::OutputFormat;
use crate::progress::{Rate, around, follow, say};
use crate::render::changes::ChangesText;
use crate::render::error::{Source, render_error};
use crate::render::rows::render_rows;
use crate::render::{count, print, width_of};
use crate::signals::{STATUS_INTERRUPTED, Signals};

/// How often the line below the changes is redrawn.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);

pub struct Script {
    pub text: String,
    /// The name for places in errors.
    pub file: Option<String>,
    /// The command is `run`: progress and log lines are wanted.
    pub is_run: bool,
    pub format: OutputFormat,
}

/// Runs all statements, waits for the jobs that they started, and says how everything ended.
pub async fn run(options: SessionOptions, script: Script) -> Result<Status> {
    let source = match &script.file {
        Some(name) => Source::File { name, text: &script.text },
        None => Source::Text(&script.text),
    };
    let failed = |e: &Error| {
        around(|| eprint!("{}", render_error(e, source)));
        1
    };
    let interrupted = |parsed: &Parsed| {
        let what = match parsed.statement {
            Statement::Query(_) => "a SELECT has no answer",
            _ => "a table was not changed",
        };
        say(&format!("interrupted: {what}, and what stands behind it did not run"));
        STATUS_INTERRUPTED
    };
    let statements = match parse_script(&script.text) {
        Ok(statements) => statements,
        Err(e) => return Ok(failed(&e)),
    };
    if let (true, Some(name)) = (statements.is_empty(), &script.file) {
        say(&format!("{name} holds no statement: there is nothing to run"));
    }
    let mut session = Session::open(options)?;
    let mut signals = Signals::for_script()?;
    let mut following: Vec<tokio::task::JoinHandle<bool>> = vec![];
    let mut status = 0;
    for (i, parsed) in statements.iter().enumerate() {
        let began = Instant::now();
        let answer = tokio::select! {
            answer = session.execute(parsed) => answer,
            () = signals.next() => Err(Error::cancelled()),
        };
        let ends_by_signal = matches!(answer, Ok(Answer::Changes(_)));
        let shown = match answer {
            Ok(Answer::Job(job)) => {
                if script.is_run && following.is_empty() {
                    say(&heading(&session, &script));
                }
                following.push(tokio::spawn(follow(job, script.is_run, session.keeps_checkpoints())));
                Ok(())
            }
            Ok(Answer::Done(_)) => Ok(()),
            Ok(answer) => show(answer, script.format, began, &mut signals).await,
            Err(e) => Err(e),
        };
        if let Err(e) = shown {
            if e.code() != ErrorCode::Cancelled {
                status = failed(&e);
            } else if session.is_waited_for(parsed) {
                status = interrupted(parsed);
            }
            stop(session.jobs());
            break;
        }
        if signals.has_come() {
            // A query without end is ended by a signal; what a signal leaves out otherwise is not passed over in silence.
            let left_out = statements[i + 1..].iter().find(|s| session.is_waited_for(s));
            if let (false, Some(left_out)) = (ends_by_signal, left_out) {
                status = interrupted(left_out);
            }
            break;
        }
    }
    let jobs = session.jobs().to_vec();
    if signals.has_come() {
        stop(&jobs);
    }
    let all = futures::future::join_all(following);
    tokio::pin!(all);
    let ended = loop {
        tokio::select! {
            ended = &mut all => break ended,
            () = signals.next() => {
                say("stopping: final checkpoint and delivery; once more ends at once");
                stop(&jobs);
            }
        }
    };
    if ended.iter().any(|ok| !matches!(ok, Ok(true))) {
        status = 1;
    }
    let waits = jobs.iter().any(|j| !j.handle.undelivered().is_empty());
    if waits && !session.keeps_checkpoints() {
        say("error: output that was not delivered is lost: this directory does not last (`--dir DIR` does)");
        status = 1;
    }
    Ok(status)
}

/// Asks all jobs to take a final checkpoint and to end.
pub fn stop(jobs: &[Arc<Job>]) {
    jobs.iter().for_each(|j| j.handle.stop());
}

fn heading(session: &Session, script: &Script) -> String {
    let name = script.file.as_deref().unwrap_or("script");
    let workers = session.jobs().first().map_or(1, |j| j.workers);
    let place = match session.is_lasting() {
        true => session.directory().display().to_string(),
        false => "scratch: all is gone at the end (`--dir DIR` keeps jobs)".to_owned(),
    };
    format!(
        "{name}: {workers} worker{}, {place}. Ctrl-C: final checkpoint and exit",
        if workers == 1 { "" } else { "s" }
    )
}

/// Prints an answer; of an unbounded query, for as long as it runs or until a signal.
pub async fn show(answer: Answer, format: OutputFormat, began: Instant, signals: &mut Signals) -> Result<()> {
    let is_terminal = std::io::stdout().is_terminal();
    match answer {
        Answer::Done(text) => print(&format!("{text}\n")),
        Answer::Text(text) => print(&format!("{}\n", text.trim_end())),
        Answer::Rows(rows) => {
            print(&render_rows(&rows.batch, &rows.columns, format, rows.time_zone));
            if is_terminal && rows.is_query {
                let n = rows.batch.num_rows();
                let rows = if n == 1 { "row" } else { "rows" };
                eprintln!("{} {rows}, {:.2} s", count(n as u64), began.elapsed().as_secs_f64());
            }
        }
        Answer::Job(job) => print(&format!("job {} started; SHOW JOBS shows how far it is\n", job.name)),
        Answer::Changes(changes) => follow_changes(changes, format, is_terminal, signals).await?,
    }
    Ok(())
}

async fn follow_changes(
    mut log: Changelog,
    format: OutputFormat,
    is_terminal: bool,
    signals: &mut Signals,
) -> Result<()> {
    let mut text = ChangesText::new(log.columns.clone(), format, log.time_zone);
    let mut rate = Rate::new();
    let mut ticker = tokio::time::interval(STATUS_INTERVAL);
    let mut is_cancelled = false;
    let result = loop {
        tokio::select! {
            tick = log.next() => match tick {
                Ok(Some(tick)) => {
                    if !is_cancelled {
                        clear_status(is_terminal);
                        print(&text.tick(&tick));
                        draw_status(is_terminal, &log, &text, &rate);
                    }
                }
                Ok(None) => break Ok(()),
                Err(e) if is_cancelled && e.code() == ErrorCode::Cancelled => break Ok(()),
                Err(e) => break Err(e),
            },
            _ = ticker.tick(), if is_terminal => {
                rate.add(Metrics::load(&log.metrics().rows_in));
                draw_status(is_terminal, &log, &text, &rate);
            }
            () = signals.next() => {
                is_cancelled = true;
                log.cancel();
            }
        }
    };
    clear_status(is_terminal);
    if is_terminal {
        let m = log.metrics();
        eprintln!(
            "{}ended: {} rows in, {} changes out, {} ticks, {:.1} s",
            if is_cancelled { "^C " } else { "" },
            count(Metrics::load(&m.rows_in)),
            count(text.rows),
            count(Metrics::load(&m.tick)),
            log.started.elapsed().as_secs_f64()
        );
    }
    result
}

fn clear_status(is_terminal: bool) {
    if is_terminal {
        eprint!("\r\x1b[K");
    }
}

/// `tick 214 │ in 61,440 rows, 20,480/s │ out 5 changes │ lag 120 ms │ Ctrl-C ends the query`
fn draw_status(is_terminal: bool, log: &Changelog, text: &ChangesText, rate: &Rate) {
    if !is_terminal {
        return;
    }
    let m = log.metrics();
    let lag = m.lag();
    let line = format!(
        "tick {} │ in {} rows, {}/s │ out {} changes │ lag {lag} ms │ Ctrl-C ends the query",
        count(Metrics::load(&m.tick)),
        count(Metrics::load(&m.rows_in)),
        count(rate.per_s()),
        count(text.rows),
    );
    // A line that wraps could not be redrawn in place.
    let line: String = line.chars().take(width_of(std::io::stderr()).saturating_sub(1)).collect();
    eprint!("\r\x1b[K{line}");
    let _ = std::io::stderr().flush();
}
