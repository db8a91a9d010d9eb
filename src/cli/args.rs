//! The arguments.

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use thalweg_session::core::nearest::nearest;

const EXAMPLES: &str = "\
Examples:
  thalweg                                a shell; type help
  thalweg -c 'SELECT 1 + 1 AS two'       one answer
  thalweg < queries.sql                  statements from a pipe
  thalweg run orders.sql --dir state     jobs that go on where they were

Answers go to standard output, everything else to standard error.
Exit status: 0; 1 after an error; 2 for wrong arguments; 130 after a second Ctrl-C,
or after one that cuts a bounded SELECT short.";

const RUN_EXAMPLES: &str = "\
Examples:
  thalweg run orders.sql                        in a scratch directory, gone at the end
  thalweg run orders.sql --dir state            again: goes on from the last checkpoint
  thalweg run orders.sql --dir state --workers 4
  thalweg run orders2.sql --dir state2 --from state

Ctrl-C takes a final checkpoint, delivers, and ends; a second one ends at once, and loses
nothing that --dir keeps.";

const TEST_EXAMPLES: &str = "\
Examples:
  thalweg test suite.slt                 in four ways, one after the other
  thalweg test tests/ --ways 20 --seed 7
  thalweg test suite.slt --override      takes the actual results for the expected ones

Exit status: 0 if all passed, else 1. The format is that of sqllogictest.";

const CHECKPOINT_EXAMPLES: &str = "\
Examples:
  thalweg checkpoint list state
  thalweg checkpoint inspect state --job top_customers
  thalweg checkpoint inspect state --verify       reads every file";

/// Streaming SQL: jobs that are restored exactly, sinks that get everything once.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Keep jobs in this directory; without it all is gone at exit
    pub dir: Option<PathBuf>,
    /// Run these statements instead of a shell
    // They may begin with a comment, `-- …`.
    #[arg(short = 'c', value_name = "SQL", allow_hyphen_values = true)]
    pub sql: Option<String>,
    /// How answers are written
    #[arg(long, value_enum, default_value = "table")]
    pub format: OutputFormat,
    /// Worker threads of a query or job (default: all cores)
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroU16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Csv,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a script; every INSERT and STATEMENT SET is a job
    Run(RunArguments),
    /// Run sqllogictest files, each in several ways that must give the same answers
    Test(TestArguments),
    /// Show checkpoints
    Checkpoint(CheckpointArguments),
}

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArguments {
    /// The script
    #[arg(value_name = "FILE.sql")]
    pub file: PathBuf,
    /// Keep jobs in this directory: run again, they go on from their last checkpoint (default: a
    /// scratch directory, gone at the end)
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Begin anew, whatever is stored; sinks get everything again
    #[arg(long, conflicts_with = "from")]
    pub fresh: bool,
    /// Begin new jobs with the state of a checkpoint: a manifest, or the folder of a job
    #[arg(long, value_name = "PATH")]
    pub from: Option<PathBuf>,
    /// Plan anew, though the statement is the one of the checkpoint
    #[arg(long)]
    pub replan: bool,
    /// Drop stored state that no operator goes on with
    #[arg(long)]
    pub allow_non_restored_state: bool,
    /// Let new operators begin without the rows that their sources have read before
    #[arg(long)]
    pub allow_partial_history: bool,
    /// Take the output up to segment N for delivered
    #[arg(long, value_name = "N")]
    pub assume_delivered: Option<u64>,
    /// Worker threads of a job (default: all cores)
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroU16>,
    /// How answers are written
    #[arg(long, value_enum, default_value = "table")]
    pub format: OutputFormat,
}

#[derive(Debug, Args)]
#[command(after_help = TEST_EXAMPLES)]
pub struct TestArguments {
    /// Files, and directories of *.slt
    #[arg(required = true, value_name = "FILE|DIR")]
    pub paths: Vec<PathBuf>,
    /// Ways to run every file: the first undisturbed, the others cut, checkpointed and killed at random
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub ways: u64,
    /// Decides everything that is random
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
    /// Write the actual results into the files
    #[arg(long = "override")]
    pub override_: bool,
}

#[derive(Debug, Args)]
#[command(after_help = CHECKPOINT_EXAMPLES)]
pub struct CheckpointArguments {
    #[command(subcommand)]
    pub command: CheckpointCommand,
}

#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// List the jobs of a directory and their checkpoints
    List {
        /// The directory of `run --dir DIR`
        dir: PathBuf,
    },
    /// Show operators, state tables, positions and pending output of a checkpoint
    Inspect {
        /// The directory of `run --dir DIR`, or the manifest of a checkpoint
        #[arg(value_name = "DIR|MANIFEST")]
        path: PathBuf,
        /// The job, by name or id (default: the only one)
        #[arg(long, value_name = "NAME")]
        job: Option<String>,
        /// The checkpoint's number (default: the newest)
        #[arg(long, value_name = "N")]
        number: Option<u64>,
        /// Read every file and compare its checksum
        #[arg(long)]
        verify: bool,
    },
}

/// What is wrong with a first argument that can only be a slip: a command misspelt, a script without `run`. Else
/// the name would be taken for a directory, and made.
pub fn slip(arguments: &[OsString]) -> Option<String> {
    let first = arguments.get(1)?.to_str()?;
    let commands: Vec<String> = Arguments::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let path = Path::new(first);
    if first.starts_with('-') || commands.iter().any(|c| c == first) || first == "help" || path.is_dir() {
        return None;
    }
    if path.is_file() {
        let proposal = format!("{first} is a file: `thalweg run {first}` runs a script");
        return Some(format!("{proposal}; a shell takes a directory"));
    }
    if first.contains('/') {
        return None;
    }
    if first.ends_with(".sql") {
        return Some(format!("there is no file {first}; `thalweg run FILE.sql` runs a script"));
    }
    let list = commands.join(", ");
    if let Some(near) = nearest(first, commands.iter().map(String::as_str)) {
        return Some(format!(
            "there is no command {first}: did you mean `thalweg {near}`? commands: {list} (a directory of that name: ./{first})"
        ));
    }
    // A word behind it: it was meant as a command.
    let next = arguments.get(2)?.to_str()?;
    (!next.starts_with('-')).then(|| format!("there is no command {first}; commands: {list}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_no_directory() {
        let slip = |line: &str| slip(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(slip("thalweg rnu a.sql").unwrap().contains("did you mean `thalweg run`?"));
        assert!(slip("thalweg chekpoint list d").unwrap().contains("`thalweg checkpoint`"));
        assert!(slip("thalweg list d").unwrap().contains("no command list"));
        assert!(slip("thalweg nothing-here.sql").unwrap().contains("thalweg run FILE.sql"));
        for good in
            ["thalweg", "thalweg state", "thalweg ./rnu", "thalweg run a.sql", "thalweg -c x", "thalweg help run"]
        {
            assert_eq!(slip(good), None, "{good}");
        }
    }

    fn parsed(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn a_directory_opens_a_shell_and_a_command_is_no_directory() {
        let a = parsed("thalweg ./state --workers 3");
        assert!(a.command.is_none() && a.dir.is_some() && a.workers.unwrap().get() == 3);
        let Some(Command::Run(run)) = parsed("thalweg run a.sql --dir d --replan --format csv").command else {
            panic!("no run")
        };
        assert!(run.replan && run.format == OutputFormat::Csv);
        assert_eq!(parsed("thalweg -c SELECT").sql.as_deref(), Some("SELECT"));
    }

    #[test]
    fn no_workers_and_fresh_with_from_are_refused() {
        assert!(Arguments::try_parse_from(["thalweg", "--workers", "0"]).is_err());
        assert!(Arguments::try_parse_from(["thalweg", "run", "a", "--fresh", "--from", "b"]).is_err());
    }
}
