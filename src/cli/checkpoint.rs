//! `checkpoint list` and `checkpoint inspect`.

use std::path::Path;

use thalweg_session::checkpoint::inspect::{Inspection, JobListing, inspect, list};
use thalweg_session::checkpoint::{Kind, layout};
use thalweg_session::core::mark::JobId;
use thalweg_session::core::nearest::did_you_mean;
use thalweg_session::core::{Error, Result};

use crate::Status;
use crate::args::CheckpointCommand;
use crate::render::table::Table;
use crate::render::value::timestamp_text;
use crate::render::{bytes, count, print};

pub async fn run(command: CheckpointCommand) -> Result<Status> {
    match command {
        CheckpointCommand::List { dir } => {
            let jobs = list(&checkpoints_of(&dir)?).await?;
            if jobs.is_empty() {
                return Err(Error::checkpoint(format!("there is no job in {}", dir.display()))
                    .note("give the directory of `thalweg run --dir DIR`, or its folder checkpoints"));
            }
            print(&listing_text(&jobs));
            Ok(0)
        }
        CheckpointCommand::Inspect { path, job, number, verify } => {
            let (checkpoints, job, number) = find(&path, job, number).await?;
            let inspection = inspect(&checkpoints, &job, number, verify).await?;
            print(&inspection_text(&inspection, verify));
            Ok(u8::from(!inspection.problems.is_empty()))
        }
    }
}

/// The checkpoints of a directory, given by itself or by its folder of them.
fn checkpoints_of(dir: &Path) -> Result<std::path::PathBuf> {
    if !dir.is_dir() {
        return Err(Error::checkpoint(format!("there is no directory {}", dir.display())));
    }
    let inner = layout::checkpoints_dir(dir);
    Ok(if inner.is_dir() { inner } else { dir.to_owned() })
}

async fn find(
    path: &Path,
    job: Option<String>,
    number: Option<u64>,
) -> Result<(std::path::PathBuf, JobId, Option<u64>)> {
    let file_name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if let (Some(n), Some(root)) = (layout::manifest_number(&file_name), path.parent())
        && let (Some(id), Some(checkpoints)) = (root.file_name(), root.parent())
    {
        return Ok((checkpoints.to_owned(), JobId(id.to_string_lossy().into_owned()), Some(n)));
    }
    let checkpoints = checkpoints_of(path)?;
    let jobs = list(&checkpoints).await?;
    let name_of = |j: &JobListing| j.name.clone().unwrap_or_else(|| j.job.0.clone());
    let names: Vec<String> = jobs.iter().map(name_of).collect();
    let found = match &job {
        Some(wanted) => jobs.iter().find(|j| j.name.as_deref() == Some(wanted) || j.job.0 == *wanted),
        None if jobs.len() == 1 => jobs.first(),
        None => None,
    };
    let found = found.ok_or_else(|| {
        let e = match &job {
            Some(wanted) => Error::checkpoint(format!("there is no job {wanted} in {}", path.display()))
                .propose(did_you_mean(wanted, names.iter().map(String::as_str))),
            None if jobs.is_empty() => Error::checkpoint(format!("there is no job in {}", path.display())),
            None => Error::checkpoint(format!("{} holds {} jobs", path.display(), jobs.len()))
                .note("choose one: --job NAME"),
        };
        e.note(format!("jobs: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") }))
    })?;
    Ok((checkpoints, found.job.clone(), number))
}

fn listing_text(jobs: &[JobListing]) -> String {
    let columns = ["job", "number", "kind", "tick", "when (UTC)", "workers", "state", "pending", "file"];
    let mut rows = vec![];
    for job in jobs {
        let name = job.name.clone().unwrap_or_else(|| job.job.0.clone());
        for checkpoint in &job.checkpoints {
            let mut row = vec![name.clone(), checkpoint.number.to_string()];
            match &checkpoint.content {
                Ok(c) => row.extend([
                    format!("{}{}", kind_word(c.kind), if c.finished { ", finished" } else { "" }),
                    count(c.tick),
                    when(c.wall_clock_us),
                    c.workers.to_string(),
                    bytes(c.state_bytes),
                    format!("{} segments", c.pending_segments),
                ]),
                Err(e) => {
                    row.push(format!("unreadable: {e}"));
                    row.extend((0..5).map(|_| String::new()));
                }
            }
            row.push(checkpoint.file.clone());
            rows.push(row);
        }
    }
    Table::new(&columns, &[]).lines(&rows)
}

fn kind_word(kind: Kind) -> String {
    format!("{kind:?}").to_lowercase()
}

fn when(us: i64) -> String {
    timestamp_text(i128::from(us / 1_000_000) * 1_000_000_000, ' ')
}

fn inspection_text(i: &Inspection, verified: bool) -> String {
    let m = &i.manifest;
    let mut out = format!(
        "job {} ({})\ncheckpoint {} ({}), tick {}, {} UTC, {} workers, {} key groups, engine {}\n{}\n",
        m.job_name,
        m.job,
        m.number,
        kind_word(m.kind),
        count(m.tick),
        when(m.wall_clock_us),
        m.workers,
        m.max_parallelism,
        m.engine,
        i.file
    );
    for operator in &i.operators {
        out.push_str(&format!("\n{}  {}\n", operator.id, operator.title));
        if let Some(rows) = operator.rows_read {
            out.push_str(&format!("  read {} rows\n", count(rows)));
        }
        for (split, position) in &operator.positions {
            out.push_str(&format!("  position of {split}: {position}\n"));
        }
        for table in &operator.tables {
            let value = if table.value.is_empty() { String::new() } else { format!(" → {}", table.value.join(", ")) };
            out.push_str(&format!(
                "  state {} (version {}): ({}){value}  about {} rows, {}\n",
                table.name,
                table.version,
                table.key.join(", "),
                count(table.rows),
                bytes(table.bytes)
            ));
        }
    }
    for sink in &m.sinks {
        let delivered = i.delivered.get(&sink.name).copied().unwrap_or(0);
        out.push_str(&format!(
            "\nsink {}: delivered up to segment {delivered}, {} segments pending\n",
            sink.name,
            sink.pending.len()
        ));
    }
    out.push('\n');
    match i.problems.as_slice() {
        [] if verified => out.push_str("all files are there, and their checksums are right\n"),
        [] => out.push_str("all files are there (--verify compares their checksums)\n"),
        problems => problems.iter().for_each(|p| out.push_str(&format!("problem: {p}\n"))),
    }
    out
}
