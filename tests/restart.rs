//! Failures inside a process that goes on: the restart strategy decides, nothing is half, nobody else notices.

mod support;

use std::path::{Path, PathBuf};

use support::engine::{Ended, run, thalweg};
use support::files::newest_manifest;
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
            "operator-push=error@90",
            "operator-push=panic@100",
            "operator-end-tick=error@90",
            "operator-end-tick=panic@100",
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
            // Nobody waits for the tasks that stage and deliver: a panic in one must be noticed all the same.
            "stage-output=panic@2",
            "before-fence=panic@1",
            "before-deliver=panic@2",
            "after-deliver=panic@3",
            "after-delivered-record=panic@1",
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

/// A store can report as failed what it has done; whether it says so when it is asked again or not, and whether the
/// process lives to ask: nothing is lost, nothing repeated, and no file of a committed checkpoint is replaced.
#[test]
fn a_put_that_succeeded_and_was_reported_as_failed_loses_and_repeats_nothing() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 10_000);
    // What is armed, and what the next checkpoint says.
    let cases = [
        ("manifest-put=error@1", None),
        ("manifest-put=error@3", None),
        ("manifest-put=error@3;manifest-read-back=error@1", Some("checkpoint_found")),
        (
            "manifest-put=error@2;manifest-put=error@4;manifest-read-back=error@1;manifest-read-back=error@2",
            Some("checkpoint_found"),
        ),
        ("manifest-put=error@3;manifest-read-back=error@1;before-manifest=kill@3", None),
        ("manifest-put=error@3;manifest-read-back=error@1;before-manifest=error@3;manifest-put=kill@4", None),
    ];
    support::in_parallel(
        3,
        &cases,
        |c| format!("{c:?}"),
        |(point, says)| {
            let place = tempfile::tempdir().unwrap();
            let script = script(&workload, place.path(), &statement_set(&inserts("o", "c")), true);
            let dir = place.path().join("state");
            let ended = run(&script, &dir, 2).fail_point(point).ended();
            workload.delivered(&place.path().join("out"), true);
            if point.contains("kill") {
                assert!(ended.was_killed(), "{ended}");
                let inspected = thalweg(["checkpoint", "inspect"]).arg(dir.display()).arg("--verify").succeeds();
                assert!(inspected.stdout.contains("checksums are right"), "{inspected}");
                run(&script, &dir, 3).succeeds().says(&["restored checkpoint"]);
            } else {
                assert_eq!(ended.status.code(), Some(0), "{ended}");
            }
            ended.says(says.as_slice());
            workload.assert_answers(&place.path().join("out"), true);
            // What the checkpoints that were given up left behind is gone.
            let files = support::files::find(&dir.join("checkpoints"), "chk-");
            let manifest = std::fs::read_to_string(newest_manifest(&dir).unwrap()).unwrap();
            let name = |p: &PathBuf| p.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            let loose: Vec<_> = files.iter().filter(|p| !manifest.contains(&format!("/{}/", name(p)))).collect();
            assert!(loose.is_empty(), "{loose:?}");
        },
    );
}

const TIMEOUT: &str = "SET 'execution.checkpointing.timeout' = '1 s';\n";

#[test]
fn a_checkpoint_that_takes_too_long_is_given_up_and_the_next_one_carries_its_output() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 10_000);
    let points = [
        "upload-state=stall:60000@3",
        "before-manifest=stall:60000@3",
        "upload-state=stall:60000@2;before-manifest=stall:60000@4;upload-state=full@4",
        // The workers themselves, and what they wait for.
        "operator-flush=stall:2500@5",
        "state-snapshot=stall:2500@6",
        "stage-output=stall:2500@4",
        // The first one: there is no manifest but the claim.
        "upload-state=stall:60000@1",
    ];
    support::in_parallel(
        3,
        &points,
        |c| (*c).to_owned(),
        |point| {
            let place = tempfile::tempdir().unwrap();
            let jobs = TIMEOUT.to_owned() + &statement_set(&inserts("o", "c"));
            let script = script(&workload, place.path(), &jobs, false);
            let ended = run(&script, &place.path().join("state"), 2).fail_point(point).succeeds();
            ended.says(&["checkpoint_aborted", "took longer than 1 s", "execution.checkpointing.timeout"]);
            assert!(!ended.stderr.contains("event=restart"), "{ended}");
            workload.assert_answers(&place.path().join("out"), true);
        },
    );
}

/// A fail point that is armed for all passages from one on.
fn always(point: &str, from: usize) -> String {
    (from..2_000).map(|n| format!("{point}@{n};")).collect()
}

/// Asks a job that meets this fail point to stop once it has said `word`, and gives how it ended. What it has written is
/// in order then, and the same command brings it to the right answers.
fn stopped_after(changes: usize, point: &str, word: &str) -> Ended {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), changes);
    let place = tempfile::tempdir().unwrap();
    let (dir, out) = (place.path().join("state"), place.path().join("out"));
    let jobs = TIMEOUT.to_owned() + &statement_set(&inserts("o", "c"));
    let script = script(&workload, place.path(), &jobs, false);
    let mut engine = run(&script, &dir, 2).fail_point(point).start();
    assert!(engine.wait_until(word, |e| e.stderr_so_far().contains(word)));
    engine.signal("INT");
    let ended = engine.wait();
    workload.delivered(&out, true);
    run(&script, &dir, 2).succeeds();
    workload.assert_answers(&out, true);
    ended
}

#[test]
fn an_orderly_stop_gives_up_a_final_checkpoint_that_never_succeeds_and_says_so() {
    // From the third checkpoint on the disk is full.
    let ended = stopped_after(10_000, &always("upload-state=full", 3), "no space left");
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    ended.says(&["the final checkpoint could not be taken", "no space left", "is read again"]);
    let aborted = ended.stderr.lines().filter(|l| l.contains("checkpoint_aborted")).count();
    assert!(aborted < 100, "{aborted} checkpoints were tried without a pause\n{ended}");
}

#[test]
fn an_orderly_stop_does_not_wait_for_a_disk_that_takes_no_output() {
    let ended = stopped_after(10_000, &always("stage-output=full", 1), "staging_failed");
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    ended.says(&["the final checkpoint could not be taken", "is read again"]);
}

#[test]
fn a_job_that_has_read_everything_and_waits_for_its_target_can_be_stopped() {
    let ended = stopped_after(1_000, &always("before-deliver=error", 1), "target_down");
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    ended.says(&["waits for the next start"]);
}

#[test]
fn output_over_its_limit_is_a_checkpoint_before_its_time() {
    let place = tempfile::tempdir().unwrap();
    let (file, dir, out) = (place.path().join("job.sql"), place.path().join("state"), place.path().join("out"));
    let text = format!(
        "SET 'execution.checkpointing.interval' = '1 h'; SET 'sink.staged-bytes-max' = '1 mb';
         CREATE TABLE made (k BIGINT, text STRING) WITH ('connector' = 'datagen', 'rows-per-second' = '20000');
         CREATE TABLE o (k BIGINT, text STRING) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         INSERT INTO o SELECT * FROM made;",
        out.display()
    );
    std::fs::write(&file, text).unwrap();
    let mut engine = run(&file, &dir, 2).start();
    let delivered = || support::files::find(&out, "part-").len();
    assert!(engine.wait_until("output", |_| delivered() >= 3), "{}", engine.stderr_so_far());
    engine.signal("INT");
    assert_eq!(engine.wait().status.code(), Some(0));
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

/// What a strategy allows, and no more; then the job ends with its error, and goes on with the next command.
#[test]
fn a_strategy_restarts_as_often_as_it_says_and_gives_up() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 4_000);
    let rate = |interval: &str, delay: &str| {
        format!(
            "SET 'restart-strategy.type' = 'failure-rate';
             SET 'restart-strategy.failure-rate.max-failures-per-interval' = '2';
             SET 'restart-strategy.failure-rate.failure-rate-interval' = '{interval}';
             SET 'restart-strategy.failure-rate.delay' = '{delay}';\n"
        )
    };
    let cases = [
        (
            "SET 'restart-strategy.type' = 'fixed-delay'; SET 'restart-strategy.fixed-delay.attempts' = '4';
             SET 'restart-strategy.fixed-delay.delay' = '1 ms';\n"
                .to_owned(),
            2_000,
            4,
        ),
        (
            "SET 'restart-strategy.type' = 'exponential-delay';
             SET 'restart-strategy.exponential-delay.initial-backoff' = '1 ms';
             SET 'restart-strategy.exponential-delay.max-backoff' = '2 ms';
             SET 'restart-strategy.exponential-delay.attempts-before-reset-backoff' = '3';\n"
                .to_owned(),
            2_000,
            3,
        ),
        (rate("1 h", "1 ms"), 2_000, 2),
        // Failures that lie further apart do not add up.
        (rate("10 ms", "20 ms"), 6, 6),
    ];
    support::in_parallel(
        2,
        &cases,
        |c| format!("{c:?}"),
        |(strategy, failures, restarts)| {
            let place = tempfile::tempdir().unwrap();
            let jobs = strategy.clone() + &statement_set(&inserts("o", "c"));
            let script = script(&workload, place.path(), &jobs, false);
            let (dir, out) = (place.path().join("state"), place.path().join("out"));
            let armed: String = (1..=*failures).map(|n| format!("tick=error@{n};")).collect();
            let job = run(&script, &dir, 1).fail_point(&armed);
            let ended = if failures > restarts { job.fails() } else { job.succeeds() };
            ended.says(&["fail point tick"]);
            assert_eq!(ended.stderr.matches("event=restart").count(), *restarts, "{ended}");
            run(&script, &dir, 2).succeeds();
            workload.assert_answers(&out, true);
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
