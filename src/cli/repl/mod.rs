//! The shell.

mod complete;
mod help;
mod history;

use std::time::Instant;

use rustyline::error::ReadlineError;
use rustyline::{CompletionType, Config, Editor};
use thalweg_session::core::{Error, ErrorCode, Result};
use thalweg_session::plan::parse_script;
use thalweg_session::{Answer, Session, SessionOptions};
use tokio::runtime::Runtime;

use crate::Status;
use crate::args::OutputFormat;
use crate::render::error::{Source, render_error};
use crate::run::{show, stop};
use crate::signals::Signals;

use complete::SqlHelper;

/// Reads and runs statements until the user leaves.
pub fn run(options: SessionOptions, format: OutputFormat, runtime: &Runtime) -> Result<Status> {
    let _inside = runtime.enter();
    let mut session = Session::open(options)?;
    let mut signals = Signals::for_shell()?;
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(false).build();
    let failed = |e: ReadlineError| Error::io(format!("the terminal cannot be read: {e}"));
    let mut editor: Editor<SqlHelper, _> = Editor::with_config(config).map_err(failed)?;
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
    println!("Thalweg {}, {place} help for help, \\q to leave.", env!("CARGO_PKG_VERSION"));
    loop {
        if let Some(helper) = editor.helper_mut() {
            helper.catalog = session.catalog().clone();
        }
        let text = match editor.readline("thalweg> ") {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(failed(e)),
        };
        if text.trim().is_empty() {
            continue;
        }
        if history::is_kept(&text, &session) {
            let _ = editor.add_history_entry(text.trim_end());
            if let Some(path) = &history {
                let _ = editor.save_history(path);
            }
        }
        match help::command(&text) {
            Some(help::Command::Quit) => break,
            Some(help::Command::Help(topic)) => print!("{}", help::text(topic)),
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
    runtime.block_on(leave(&session, &mut signals));
    Ok(0)
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

/// Ends running jobs with a final checkpoint; Ctrl-C ends the waiting.
async fn leave(session: &Session, signals: &mut Signals) {
    let jobs = session.jobs();
    let running: Vec<_> =
        jobs.iter().filter(|j| ["starting", "running", "restarting"].contains(&j.state().as_str())).collect();
    if running.is_empty() {
        return;
    }
    let names = running.iter().map(|j| j.name.as_str()).collect::<Vec<_>>().join(", ");
    eprintln!("stopping {names} with a final checkpoint; Ctrl-C ends at once");
    stop(jobs);
    signals.forget();
    for job in running {
        tokio::select! {
            result = job.handle.wait() => match result {
                Ok(_) => eprintln!("{}  {}", job.name, job.state()),
                Err(e) => eprint!("{}", render_error(&e.context(format_args!("job {}", job.name)), Source::None)),
            },
            () = signals.next() => return,
        }
        let waiting = job.handle.undelivered();
        if !waiting.is_empty() {
            let fate = if session.is_lasting() { "waits for the next start" } else { "is lost with this directory" };
            eprintln!("{}  output of {} {fate}", job.name, waiting.join(", "));
        }
    }
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
