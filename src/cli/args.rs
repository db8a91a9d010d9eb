//! The arguments.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Streaming SQL: jobs that are restored exactly, sinks that get everything once.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Keep jobs in this directory; without it all is gone at exit
    pub dir: Option<PathBuf>,
    /// Run these statements instead of a shell
    #[arg(short = 'c', value_name = "SQL")]
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
pub struct RunArguments {
    /// The script
    #[arg(value_name = "FILE.sql")]
    pub file: PathBuf,
    /// Keep jobs in this directory: run again, they go on from their last checkpoint
    #[arg(long)]
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
pub struct CheckpointArguments {
    #[command(subcommand)]
    pub command: CheckpointCommand,
}

#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// List the jobs of a directory and their checkpoints
    List { dir: PathBuf },
    /// Show operators, state tables, positions and pending output of a checkpoint
    Inspect {
        /// A directory, or the manifest of a checkpoint
        #[arg(value_name = "DIR|MANIFEST")]
        path: PathBuf,
        /// The job, by name or id
        #[arg(long)]
        job: Option<String>,
        /// The checkpoint's number (default: the newest)
        #[arg(long)]
        number: Option<u64>,
        /// Read every file and compare its checksum
        #[arg(long)]
        verify: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

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
