//! Failures inside a process that goes on: the restart strategy decides, nothing is half, nobody else notices.

mod support;

use std::path::{Path, PathBuf};

use support::engine::run;
use support::workload::{Script, Workload, inserts, statement_set};

const RESTARTS: &str = "SET 'restart-strategy.type' = 'fixed-delay'; SET 'restart-strategy.fixed-delay.attempts' = '3';
  SET 'restart-strategy.fixed-delay.delay' = '100 ms';\n";

fn script(workload: &Workload, place: &Path, jobs: &str, restarts: bool) -> PathBuf {
    let tables = workload.tables(&place.join("out"), Script { keys: true, rate: 6_000 });
    let file = place.join("job.sql");
    std::fs::write(&file, tables + if restarts { RESTARTS } else { "" } + jobs).unwrap();
    file
}

#[test]
fn a_job_that_fails_in_a_tick_goes_on_from_its_last_checkpoint() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 10_000);
    let mut cases: Vec<(&str, usize)> = vec![];
    for workers in [2, 4] {
        for point in [
            "tick=error@6",
            "tick=panic@6",
            "operator-flush=error@4",
            "operator-flush=panic@5",
            "state-snapshot=error@4",
            "stage-output=full@2",
            "stage-output=full@7",
            "upload-state=full@3",
            "before-manifest=error@2",
            "before-manifest=error@4",
            "after-manifest=error@3",
            "before-deliver=error@2",
            "after-deliver=error@2",
            "after-delivered-record=error@2",
            "before-fence=error@1",
            "before-cleanup=error@3",
        ] {
            cases.push((point, workers));
        }
    }
    support::in_parallel(
        4,
        &cases,
        |c| format!("{c:?}"),
        |(point, workers)| {
            let place = tempfile::tempdir().unwrap();
            let script = script(&workload, place.path(), &statement_set(&inserts("o", "c")), true);
            run(&script, &place.path().join("state"), *workers).fail_point(point).succeeds();
            workload.assert_answers(&place.path().join("out"), true);
        },
    );
}

#[test]
fn another_job_of_the_process_does_not_notice() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 10_000);
    support::in_parallel(
        2,
        &["tick=error@6", "tick=panic@6"],
        |c| (*c).to_owned(),
        |point| {
            let place = tempfile::tempdir().unwrap();
            let script = script(&workload, place.path(), &inserts("o", "c").join("\n"), true);
            let ended = run(&script, &place.path().join("state"), 2).fail_point(point).succeeds();
            workload.assert_answers(&place.path().join("out"), true);
            let restarts = ended.stderr.lines().filter(|l| l.contains("event=restart")).count();
            assert_eq!(restarts, 1, "one job restarts, once\n{ended}");
        },
    );
}

#[test]
fn without_a_strategy_the_job_ends_with_its_error_and_can_go_on_later() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 8_000);
    support::in_parallel(
        2,
        &["tick=error@6", "tick=panic@6"],
        |c| (*c).to_owned(),
        |point| {
            let place = tempfile::tempdir().unwrap();
            let script = script(&workload, place.path(), &statement_set(&inserts("o", "c")), false);
            let dir = place.path().join("state");
            run(&script, &dir, 2).fail_point(point).fails().says(&["fail point tick"]);
            workload.delivered(&place.path().join("out"), true);
            run(&script, &dir, 4).succeeds();
            workload.assert_answers(&place.path().join("out"), true);
        },
    );
}
