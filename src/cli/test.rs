//! `test`: sqllogictest files, each in several ways that must give the same answers.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use thalweg_session::core::{Error, Result, SqlType};
use thalweg_session::plan::parse_script;
use thalweg_session::{Answer, AnswerRows, Disturb, Registry, Session, SessionOptions};

use crate::Status;
use crate::args::TestArguments;
use crate::render::table::visible;
use crate::render::value::{Form, write};

/// Runs all files; the last line is `N passed, N failed`.
pub async fn run(registry: Registry, arguments: &TestArguments) -> Result<Status> {
    let mut files = vec![];
    for path in &arguments.paths {
        collect_files(path, &mut files)?;
    }
    let ways = arguments.ways.max(1);
    let (mut passed, mut failed) = (0, 0);
    for file in &files {
        if arguments.override_ {
            let mut runner = runner(&registry, None);
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
        let mut is_good = true;
        for way in 0..ways {
            let disturb = disturb(way, arguments.seed);
            let mut runner = runner(&registry, disturb.clone());
            let result = runner.run_file_async(file).await;
            runner.shutdown_async().await;
            if let Err(e) = result {
                is_good = false;
                eprintln!("{}: {}", file.display(), e.display(false));
                eprintln!("  way {way} of {ways} ({}), --seed {}\n", way_text(disturb.as_ref()), arguments.seed);
                // What fails undisturbed fails in every way.
                if way == 0 {
                    break;
                }
            }
        }
        match is_good {
            true => passed += 1,
            false => failed += 1,
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(u8::from(failed > 0))
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

/// The ways: undisturbed; small ticks; ticks, checkpoints and kills with other numbers of workers; and so on, all
/// decided by the seed.
fn disturb(way: u64, seed: u64) -> Option<Disturb> {
    let seed = seed.wrapping_add(way);
    let mut random = StdRng::seed_from_u64(seed);
    let mut workers = vec![1, 2, 4];
    workers.shuffle(&mut random);
    let (slice_rows_max, checkpoint_one_in, kill_one_in) = match way {
        0 => return None,
        1 => {
            workers = vec![2];
            (3, 0, 0)
        }
        2 => (5, 3, 5),
        3 => {
            workers = vec![4];
            (1 << 20, 0, 0)
        }
        _ => (random.random_range(1..40), random.random_range(1..5), random.random_range(2..9)),
    };
    Some(Disturb { seed, slice_rows_max, checkpoint_one_in, kill_one_in, kills_max: 3, workers })
}

fn way_text(disturb: Option<&Disturb>) -> String {
    match disturb {
        None => "undisturbed".to_owned(),
        Some(d) => format!(
            "ticks of at most {} rows, a checkpoint in {} ticks, a kill in {}, workers {:?}",
            d.slice_rows_max, d.checkpoint_one_in, d.kill_one_in, d.workers
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
        write(answer.batch.column(column).as_ref(), &answer.columns[column].ty, row, Form::Text, &mut text);
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
        assert!(disturb(0, 7).is_none());
        for way in 1..8 {
            assert_eq!(format!("{:?}", disturb(way, 7)), format!("{:?}", disturb(way, 7)));
        }
        assert_ne!(format!("{:?}", disturb(5, 7)), format!("{:?}", disturb(5, 8)));
    }
}
