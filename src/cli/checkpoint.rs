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
            print(&listing_text(&checkpoints_of(&dir)?, &jobs));
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

/// Per job its name, its folder and a table of its checkpoints. Entries with which an attempt only took over are left
/// out.
fn listing_text(checkpoints: &Path, jobs: &[JobListing]) -> String {
    let mut out = String::new();
    for job in jobs {
        if !out.is_empty() {
            out.push('\n');
        }
        let folder = layout::job_root(checkpoints, &job.job);
        out.push_str(&format!("{}  {}\n", job.name.as_deref().unwrap_or("(without a name)"), folder.display()));
        let mut rows = vec![];
        let mut notes = String::new();
        for checkpoint in &job.checkpoints {
            match &checkpoint.content {
                Ok(c) if c.kind == Kind::Claim => {}
                Ok(c) => rows.push(vec![
                    checkpoint.number.to_string(),
                    if c.finished { "finished".to_owned() } else { kind_word(c.kind) },
                    count(c.tick),
                    when(c.wall_clock_us),
                    c.workers.to_string(),
                    bytes(c.state_bytes),
                    segments(c.pending_segments),
                ]),
                Err(e) => notes.push_str(&format!("  {} cannot be read: {e}\n", layout::manifest(checkpoint.number))),
            }
        }
        match rows.is_empty() {
            true => out.push_str("  no checkpoint yet\n"),
            false => {
                let columns = ["number", "kind", "tick", "when (UTC)", "workers", "state", "waiting"];
                out.push_str(&Table::new(&columns, &[]).lines(&rows));
            }
        }
        out.push_str(&notes);
    }
    out
}

/// Output that waits to be delivered.
fn segments(n: usize) -> String {
    match n {
        0 => "nothing".to_owned(),
        1 => "1 segment".to_owned(),
        n => format!("{} segments", count(n as u64)),
    }
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
            let key = table.key.join(", ");
            // RocksDB's guess of a small table is 0.
            let rows = if table.rows > 0 { format!("about {} rows, ", count(table.rows)) } else { String::new() };
            out.push_str(&format!("  state {} (version {}): ({key}){value}\n", table.name, table.version));
            out.push_str(&format!("    {rows}{}\n", bytes(table.bytes)));
        }
    }
    for sink in &m.sinks {
        let delivered = i.delivered.get(&sink.name).copied().unwrap_or(0);
        let waiting = sink.pending.iter().filter(|s| s.number > delivered).count();
        out.push_str(&format!(
            "\nsink {}: delivered up to segment {delivered}, {} waiting\n",
            sink.name,
            segments(waiting)
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
