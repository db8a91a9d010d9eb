//! The command line: shell, `run`, `test` and `checkpoint`. Sees the session alone.

mod args;
mod checkpoint;
mod log;
mod progress;
mod render;
mod repl;
mod run;
mod signals;
mod test;

use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::path::Path;

use clap::Parser;
use thalweg_session::core::{Error, Result};
use thalweg_session::{Registry, RestoreFlags, SessionOptions};

use crate::args::{Arguments, Command};
use crate::render::error::{Source, render_error};

/// What a command gives to the caller: the exit status.
pub(crate) type Status = u8;

/// Of wrong arguments, as clap has it.
const STATUS_USAGE: Status = 2;

/// Runs the command that the process's arguments ask for, and ends the process.
pub fn main(registry: Registry) -> ! {
    let status = status(registry);
    let _ = std::io::stdout().flush();
    end_process(status)
}

/// Ends the process without the exit handlers of C and C++: a thread that still works (on a database that it closes, say)
/// would meet what these destroy, and RocksDB aborts then.
pub(crate) fn end_process(status: Status) -> ! {
    // SAFETY: it takes a number, and does not return.
    unsafe { nix::libc::_exit(status.into()) }
}

fn status(registry: Registry) -> Status {
    if let Some(slip) = args::slip(&std::env::args_os().collect::<Vec<_>>()) {
        eprintln!("error: {slip}");
        return STATUS_USAGE;
    }
    let arguments = Arguments::parse();
    log::init(&arguments);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: the threads of the runtime cannot be started: {e}");
            return 1;
        }
    };
    let result = dispatch(arguments, registry, &runtime);
    let status = result.unwrap_or_else(|e| {
        eprint!("{}", render_error(&e, Source::None));
        1
    });
    // Threads that wait for files or standard input must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    status
}

fn dispatch(arguments: Arguments, registry: Registry, runtime: &tokio::runtime::Runtime) -> Result<Status> {
    match arguments.command {
        None => {
            let options = SessionOptions {
                registry,
                dir: arguments.dir,
                workers: arguments.workers.map(|n| usize::from(n.get())),
                ..Default::default()
            };
            let text = match arguments.sql {
                Some(sql) => Some(sql),
                None if std::io::stdin().is_terminal() => None,
                None => {
                    let mut text = String::new();
                    let read = std::io::stdin().read_to_string(&mut text);
                    read.map_err(|e| Error::from(e).context("reading statements from standard input"))?;
                    Some(text)
                }
            };
            match text {
                Some(text) => {
                    let script = run::Script { text, file: None, is_run: false, format: arguments.format };
                    runtime.block_on(run::run(options, script))
                }
                None => repl::run(options, arguments.format, runtime),
            }
        }
        Some(Command::Run(run)) => {
            let text = script(&run.file)?;
            let options = SessionOptions {
                registry,
                dir: run.dir,
                workers: run.workers.map(|n| usize::from(n.get())),
                flags: RestoreFlags {
                    fresh: run.fresh,
                    from: run.from,
                    replan: run.replan,
                    allow_non_restored_state: run.allow_non_restored_state,
                    allow_partial_history: run.allow_partial_history,
                    assume_delivered: run.assume_delivered,
                },
                disturb: None,
            };
            let file = Some(run.file.display().to_string());
            runtime.block_on(run::run(options, run::Script { text, file, is_run: true, format: run.format }))
        }
        Some(Command::Test(test)) => runtime.block_on(test::run(registry, &test)),
        Some(Command::Checkpoint(command)) => runtime.block_on(checkpoint::run(command.command)),
    }
}

/// The text of a script.
fn script(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|e| {
        let name = file.display();
        match e.kind() {
            ErrorKind::NotFound => Error::io(format!("there is no file {name}")).permanent(),
            ErrorKind::IsADirectory => Error::io(format!("{name} is a directory: `run` takes a script")).permanent(),
            ErrorKind::InvalidData => Error::io(format!("{name} is no text: a script is UTF-8")).permanent(),
            _ => Error::from(e).context(format_args!("reading {name}")),
        }
    })
}
