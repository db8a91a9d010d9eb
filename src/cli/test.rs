//! `test`: sqllogictest files, each in several ways that must give the same answers.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Record, Runner, TestError};
use thalweg_session::core::{Error, Result, SqlType};
use thalweg_session::plan::parse_script;
use thalweg_session::{Answer, AnswerRows, Disturb, DisturbCounts, Registry, Session, SessionOptions};

use crate::Status;
use crate::args::TestArguments;
use crate::render::table::visible;
use crate::render::value::{Form, write};

/// Failures of one file in one way that are shown.
const FAILURES_SHOWN_MAX: usize = 5;
/// Most of the time of a disturbed query is waiting for the disk.
const FILES_AT_A_TIME: usize = 4;
/// Of one query in one way.
const KILLS_MAX: u64 = 3;

/// Runs all files; the last line is `N passed, N failed`.
pub async fn run(registry: Registry, arguments: &TestArguments) -> Result<Status> {
    let mut files = vec![];
    for path in &arguments.paths {
        collect_files(path, &mut files)?;
    }
    if files.is_empty() {
        let places = arguments.paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(Error::io(format!("there is no *.slt file in {places}")).permanent());
    }
    let counts = Arc::new(DisturbCounts::default());
    let (mut passed, mut failed) = (0, 0);
    let results = files.iter().map(|file| run_file(&registry, arguments, file, &counts));
    let mut results = futures::stream::iter(results).buffered(FILES_AT_A_TIME);
    while let Some(text) = results.next().await {
        match text? {
            None => passed += 1,
            Some(text) => {
                eprint!("{text}");
                failed += 1;
            }
        }
    }
    eprintln!("{}, --seed {}", disturbed_text(&counts), arguments.seed);
    println!("{passed} passed, {failed} failed");
    Ok(u8::from(failed > 0))
}

/// Runs one file in every way; what failed, in the first way in which something did.
async fn run_file(
    registry: &Registry,
    arguments: &TestArguments,
    file: &Path,
    counts: &Arc<DisturbCounts>,
) -> Result<Option<String>> {
    if arguments.override_ {
        let mut runner = runner(registry, None);
        let result = runner
            .update_test_file(
                file,
                " ",
                sqllogictest::default_validator,
                sqllogictest::default_normalizer,
                sqllogictest::default_column_validator,
            )
            .await;
        result.map_err(|e| Error::io(format!("writing the results of {}: {e}", file.display())))?;
        runner.shutdown_async().await;
    }
    let ways = arguments.ways.max(1);
    let mut text = String::new();
    for way in 0..ways {
        let disturb = disturb(way, arguments.seed, file, counts);
        let mut runner = runner(registry, disturb.clone());
        let failures = failures(&mut runner, file).await;
        runner.shutdown_async().await;
        if failures.is_empty() {
            continue;
        }
        failures.iter().take(FAILURES_SHOWN_MAX).for_each(|e| text.push_str(&failure_text(e)));
        if failures.len() > FAILURES_SHOWN_MAX {
            text.push_str(&format!("  … and {} more\n", failures.len() - FAILURES_SHOWN_MAX));
        }
        let way_text = way_text(disturb.as_ref());
        text.push_str(&format!("  in way {way} of {ways} ({way_text}), --seed {}\n\n", arguments.seed));
        // What fails undisturbed fails in every way.
        if way == 0 {
            break;
        }
    }
    Ok(Some(text).filter(|t| !t.is_empty()))
}

/// What the disturbed ways came to.
fn disturbed_text(counts: &DisturbCounts) -> String {
    let count = |c: &AtomicU64, one: &str, many: &str| {
        let n = c.load(Ordering::Relaxed);
        format!("{n} {}", if n == 1 { one } else { many })
    };
    format!(
        "disturbed: {}, {} from a checkpoint, {}, {}",
        count(&counts.kills, "kill", "kills"),
        count(&counts.restores, "restore", "restores"),
        count(&counts.rescales, "with another number of workers", "with another number of workers"),
        count(&counts.cuts, "cut within a statement", "cuts within a statement"),
    )
}

/// What failed in a file: every record is run, whether or not those before it failed.
async fn failures<M, C>(runner: &mut Runner<Database, M>, file: &Path) -> Vec<TestError>
where
    M: FnMut() -> C + Send + 'static,
    C: Future<Output = std::result::Result<Database, Error>> + Send + 'static,
{
    let records = match sqllogictest::parse_file::<DefaultColumnType>(file) {
        Ok(records) => records,
        Err(e) => return vec![e.into()],
    };
    let mut failures = vec![];
    for record in records {
        if let Record::Halt { .. } = record {
            break;
        }
        failures.extend(runner.run_async(record).await.err());
    }
    failures
}

/// `file:line: what is wrong`, and below it the statement and the difference.
fn failure_text(e: &TestError) -> String {
    let has_colour = std::io::stderr().is_terminal() && crate::render::has_colour();
    let text = e.kind().display(has_colour).to_string();
    let mut lines = text.trim_end().lines();
    let mut out = format!("{}: {}\n", e.location(), lines.next().unwrap_or_default());
    for line in lines {
        out.push_str(format!("  {line}").trim_end());
        out.push('\n');
    }
    out
}

fn collect_files(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |e: std::io::Error| Error::from(e).context(format!("reading {}", path.display()));
    if !path.is_dir() {
        std::fs::metadata(path).map_err(failed)?;
        files.push(path.to_owned());
        return Ok(());
    }
    let entries: std::io::Result<Vec<_>> =
        std::fs::read_dir(path).map_err(failed)?.map(|e| e.map(|e| e.path())).collect();
    let mut entries = entries.map_err(failed)?;
    entries.sort();
    for entry in entries {
        if entry.is_dir() || entry.extension().is_some_and(|e| e == "slt") {
            collect_files(&entry, files)?;
        }
    }
    Ok(())
}

/// The ways: undisturbed; small ticks; small ticks with checkpoints and kills; the whole input in one tick, with checkpoints
/// and kills; and so on. All but the first hand over statements in parts, and restore with another number of workers. All
/// is decided by the seed.
fn disturb(way: u64, seed: u64, file: &Path, counts: &Arc<DisturbCounts>) -> Option<Disturb> {
    // Every file has draws of its own, wherever it lies.
    let name = file.file_name().unwrap_or_default().as_encoded_bytes();
    let seed = name.iter().fold(seed.wrapping_add(way << 32), |h, b| h.wrapping_mul(31).wrapping_add(u64::from(*b)));
    let mut random = StdRng::seed_from_u64(seed);
    let mut workers = vec![1, 2, 4];
    workers.shuffle(&mut random);
    let piece_rows_max = random.random_range(1..5);
    let (slice_rows_max, checkpoint_one_in, kill_one_in) = match way {
        0 => return None,
        1 => {
            workers = vec![2];
            (3, 0, 0)
        }
        2 => (4, 2, 2),
        3 => {
            workers = vec![4, 1];
            (1 << 20, 1, 2)
        }
        _ => (random.random_range(1..40), random.random_range(1..4), random.random_range(1..5)),
    };
    let counts = counts.clone();
    Some(Disturb {
        seed,
        slice_rows_max,
        piece_rows_max,
        checkpoint_one_in,
        kill_one_in,
        kills_max: KILLS_MAX,
        workers,
        counts,
    })
}

fn way_text(disturb: Option<&Disturb>) -> String {
    match disturb {
        None => "undisturbed".to_owned(),
        Some(d) => format!(
            "ticks of at most {} rows, pieces of at most {}, a checkpoint in {} ticks, a kill in {}, workers {:?}",
            d.slice_rows_max, d.piece_rows_max, d.checkpoint_one_in, d.kill_one_in, d.workers
        ),
    }
}

type Made = std::future::Ready<std::result::Result<Database, Error>>;

fn runner(registry: &Registry, disturb: Option<Disturb>) -> Runner<Database, impl FnMut() -> Made + use<>> {
    let registry = registry.clone();
    let label = if disturb.is_some() { "disturbed" } else { "undisturbed" };
    let mut runner = Runner::new(move || {
        let options = SessionOptions { registry: registry.clone(), disturb: disturb.clone(), ..Default::default() };
        std::future::ready(Session::open(options).map(|session| Database { session }))
    });
    runner.add_label(label);
    runner
}

/// A session as what sqllogictest runs on.
struct Database {
    session: Session,
}

type Output = DBOutput<DefaultColumnType>;

#[async_trait]
impl AsyncDB for Database {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<Output> {
        let mut output = DBOutput::StatementComplete(0);
        for parsed in parse_script(sql)? {
            output = match self.session.execute(&parsed).await? {
                Answer::Done(text) => {
                    let rows = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                    DBOutput::StatementComplete(rows)
                }
                Answer::Text(text) => DBOutput::Rows {
                    types: vec![DefaultColumnType::Text],
                    rows: text.lines().map(|l| vec![l.trim_end().to_owned()]).collect(),
                },
                Answer::Rows(rows) => rows_of(&rows),
                Answer::Job(job) => {
                    job.handle.wait().await?;
                    DBOutput::StatementComplete(0)
                }
                Answer::Changes(_) => {
                    return Err(Error::unsupported("the input of this query never ends: it has no answer to test"));
                }
            };
        }
        Ok(output)
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "thalweg"
    }

    async fn sleep(duration: std::time::Duration) {
        tokio::time::sleep(duration).await;
    }
}

fn rows_of(answer: &AnswerRows) -> Output {
    let type_of = |ty: &SqlType| match ty {
        ty if ty.is_integer() => DefaultColumnType::Integer,
        SqlType::Float | SqlType::Double | SqlType::Decimal { .. } => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    };
    let cell = |column: usize, row: usize| {
        let mut text = String::new();
        write(
            answer.batch.column(column).as_ref(),
            &answer.columns[column].ty,
            row,
            Form::Local(answer.time_zone),
            &mut text,
        );
        if text.is_empty() { "(empty)".to_owned() } else { visible(&text) }
    };
    let rows = (0..answer.batch.num_rows()).map(|row| (0..answer.columns.len()).map(|c| cell(c, row)).collect());
    DBOutput::Rows { types: answer.columns.iter().map(|c| type_of(&c.ty)).collect(), rows: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_decided_by_the_seed() {
        let of = |way, seed, file: &str| disturb(way, seed, Path::new(file), &Arc::default());
        assert!(of(0, 7, "a.slt").is_none());
        for way in 1..8 {
            assert_eq!(format!("{:?}", of(way, 7, "a.slt")), format!("{:?}", of(way, 7, "x/a.slt")));
        }
        assert_ne!(format!("{:?}", of(5, 7, "a.slt")), format!("{:?}", of(5, 8, "a.slt")));
        assert_ne!(format!("{:?}", of(5, 7, "a.slt")), format!("{:?}", of(5, 7, "b.slt")));
    }
}
