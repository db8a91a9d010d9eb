//! The shell.

mod complete;
mod help;
mod history;

use std::path::Path;
use std::time::Instant;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};
use thalweg_session::core::{Error, ErrorCode, Result};
use thalweg_session::plan::sql::Completeness;
use thalweg_session::plan::{is_complete, parse_script};
use thalweg_session::{Answer, Job, Metrics, Session, SessionOptions};
use tokio::runtime::Runtime;

use crate::Status;
use crate::args::OutputFormat;
use crate::render::count;
use crate::render::error::{Source, render_error};
use crate::run::{show, stop};
use crate::signals::Signals;

use complete::SqlHelper;

const PROMPT: &str = "thalweg> ";
const PROMPT_GOES_ON: &str = "      -> ";

/// Reads and runs statements until the user leaves.
pub fn run(options: SessionOptions, format: OutputFormat, runtime: &Runtime) -> Result<Status> {
    let _inside = runtime.enter();
    let mut session = Session::open(options)?;
    let mut signals = Signals::for_shell()?;
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(false).build();
    let failed = |e: ReadlineError| Error::io(format!("the terminal cannot be read: {e}"));
    let mut editor: Editor<SqlHelper, DefaultHistory> = Editor::with_config(config).map_err(failed)?;
    let functions = functions(&mut session, runtime);
    editor.set_helper(Some(SqlHelper::new(&session, functions)));
    let history = history::file();
    if let Some(path) = &history {
        let _ = editor.load_history(path);
    }
    let place = match session.is_lasting() {
        true => format!("jobs are kept in {}.", session.directory().display()),
        false => "scratch: all is gone at exit (`thalweg DIR` keeps jobs).".to_owned(),
    };
    println!("Thalweg {}, {place}\nhelp for help, \\q to leave.", env!("CARGO_PKG_VERSION"));
    // The lines of a statement that goes on.
    let mut typed = String::new();
    while !signals.must_leave() {
        if let Some(helper) = editor.helper_mut() {
            helper.catalog = session.catalog().clone();
            helper.before.clone_from(&typed);
        }
        let line = match editor.readline(if typed.is_empty() { PROMPT } else { PROMPT_GOES_ON }) {
            Ok(line) => line,
            // What was typed is dropped, but can be recalled.
            Err(ReadlineError::Interrupted) => {
                remember(&mut editor, &typed, history.as_deref(), &session);
                typed.clear();
                continue;
            }
            Err(ReadlineError::Eof) if typed.is_empty() => break,
            Err(ReadlineError::Eof) => {
                eprintln!("a statement ends with ;   (Ctrl-C drops what is typed)");
                continue;
            }
            Err(e) => return Err(failed(e)),
        };
        let command = help::command(&line, !typed.is_empty());
        if command.is_none() {
            typed.push_str(&line);
            typed.push('\n');
            match is_complete(&typed) {
                Completeness::Complete => {}
                Completeness::Empty => {
                    typed.clear();
                    continue;
                }
                _ => continue,
            }
        }
        let text = if command.is_some() { line.clone() } else { std::mem::take(&mut typed) };
        remember(&mut editor, &text, history.as_deref(), &session);
        match command {
            Some(help::Command::Quit) => break,
            Some(help::Command::Help(topic)) => print!("{}", help::text(topic)),
            Some(help::Command::Unknown(word)) => {
                eprintln!(
                    "there is no {word}: \\h for help, \\q to leave; SHOW TABLES; and DESCRIBE t; show what there is"
                );
            }
            None => {
                signals.forget();
                if let Err(e) = runtime.block_on(execute(&mut session, &text, format, &mut signals)) {
                    match e.code() {
                        ErrorCode::Cancelled => eprintln!("^C ended"),
                        _ => eprint!("{}", render_error(&e, Source::Text(&text))),
                    }
                }
            }
        }
    }
    Ok(runtime.block_on(leave(&session, &mut signals)))
}

/// Puts a text into the history, unless it holds a secret.
fn remember(editor: &mut Editor<SqlHelper, DefaultHistory>, text: &str, file: Option<&Path>, session: &Session) {
    if text.trim().is_empty() || !history::is_kept(text, session) {
        return;
    }
    let _ = editor.add_history_entry(text.trim_end());
    if let Some(path) = file {
        let _ = editor.save_history(path);
    }
}

async fn execute(session: &mut Session, text: &str, format: OutputFormat, signals: &mut Signals) -> Result<()> {
    for parsed in parse_script(text)? {
        let began = Instant::now();
        let answer = tokio::select! {
            answer = session.execute(&parsed) => answer?,
            () = signals.next() => return Err(Error::cancelled()),
        };
        show(answer, format, began, signals).await?;
    }
    Ok(())
}

/// Ends running jobs with a final checkpoint; Ctrl-C ends the waiting. The exit status: 1 if one of them failed now, or if
/// its output is lost.
async fn leave(session: &Session, signals: &mut Signals) -> Status {
    let jobs = session.jobs();
    let running: Vec<_> =
        jobs.iter().filter(|j| ["starting", "running", "restarting"].contains(&j.state().as_str())).collect();
    if running.is_empty() {
        return 0;
    }
    let mut status = 0;
    let names = running.iter().map(|j| j.name.as_str()).collect::<Vec<_>>().join(", ");
    eprintln!("stopping {names} with a final checkpoint; Ctrl-C ends at once");
    stop(jobs);
    signals.forget();
    for job in running {
        tokio::select! {
            result = job.handle.wait() => match result {
                Ok(_) => eprintln!("{}  {}{}", job.name, job.state(), last_checkpoint(job)),
                Err(e) => {
                    status = 1;
                    eprint!("{}", render_error(&e.context(format_args!("job {}", job.name)), Source::None));
                }
            },
            () = signals.next() => return 1,
        }
        let waiting = job.handle.undelivered();
        if !waiting.is_empty() {
            let fate = if session.is_lasting() { "waits for the next start" } else { "is lost with this directory" };
            eprintln!("{}  output of {} {fate}", job.name, waiting.join(", "));
            status |= u8::from(!session.is_lasting());
        }
    }
    status
}

/// `: checkpoint 18 at tick 3,981`, if there is one.
fn last_checkpoint(job: &Job) -> String {
    let (checkpoint, tick) = (Metrics::load(&job.metrics().checkpoint), Metrics::load(&job.metrics().tick));
    if checkpoint == 0 { String::new() } else { format!(": checkpoint {checkpoint} at tick {}", count(tick)) }
}

/// The names of functions, for completion.
fn functions(session: &mut Session, runtime: &Runtime) -> Vec<String> {
    let Ok(Some(show)) = parse_script("SHOW FUNCTIONS").map(|mut s| s.pop()) else { return vec![] };
    match runtime.block_on(session.execute(&show)) {
        Ok(Answer::Rows(rows)) => {
            let names = rows.batch.column(0);
            (0..rows.batch.num_rows())
                .filter_map(|row| arrow::util::display::array_value_to_string(names, row).ok())
                .collect()
        }
        _ => vec![],
    }
}
