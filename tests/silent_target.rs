//! A target that does not answer when its job starts: the job's other sinks get their output, and the target gets its own
//! when it is back, once. Behind an older copy of the directory it gets nothing.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::changelog::fold;
use support::engine::{Engine, run};
use support::files::{find, newest_checkpoint, newest_manifest};
use support::workload::{Script, TOTALS_KEY, Workload, inserts, statement_set};

/// A file sink that fails to fence itself, in a way that may pass, for as long as this lives.
struct Silent {
    /// A folder where its file should be.
    owner: PathBuf,
}

impl Silent {
    fn new(sink: &Path) -> Silent {
        let owner = find(&sink.join(".thalweg"), ".owner").pop().expect("it was delivered to");
        std::fs::remove_file(&owner).unwrap();
        std::fs::create_dir(&owner).unwrap();
        Silent { owner }
    }

    fn speaks(self) {
        std::fs::remove_dir(self.owner).unwrap();
    }
}

fn parts(sink: &Path) -> usize {
    let entries = std::fs::read_dir(sink).into_iter().flatten().flatten();
    entries.filter(|e| e.file_name().to_string_lossy().starts_with("part-")).count()
}

fn goes_on(engine: &mut Engine, what: &str, mut done: impl FnMut() -> bool) {
    let is_running = engine.wait_until(what, |_| done()) && engine.is_running();
    assert!(is_running, "{}", engine.stderr_so_far());
}

#[test]
fn a_target_that_does_not_answer_at_the_start_holds_up_nobody_and_gets_everything_once() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 20_000);
    // Where it is killed when the target has answered: a segment that was kept from it may be given to it, is given to one
    // of the targets, is recorded.
    let cases = [
        "after-attempted-record=kill@1",
        "after-deliver=kill@1",
        "after-deliver=kill@3",
        "after-delivered-record=kill@2",
    ];
    support::in_parallel(
        4,
        &cases,
        |c| (*c).to_owned(),
        |point| {
            let place = tempfile::tempdir().unwrap();
            let (dir, out) = (place.path().join("state"), place.path().join("out"));
            let script = workload.script(&place.path().join("job.sql"), &out, Script { keys: true, rate: 2_000 });
            let (joined, totals) = (out.join("joined"), out.join("totals"));
            let mut engine = run(&script, &dir, 2).start();
            goes_on(&mut engine, "output", || parts(&totals) >= 2);
            assert!(engine.kill());

            let silent = Silent::new(&totals);
            let before = fold(&totals, Some(TOTALS_KEY)).unwrap().files;
            for workers in [3, 1] {
                let (checkpoint, others) = (newest_checkpoint(&dir), parts(&joined));
                let mut engine = run(&script, &dir, workers).start();
                goes_on(&mut engine, "output of the other sinks", || {
                    parts(&joined) >= others + 2 && newest_checkpoint(&dir) >= checkpoint + 4
                });
                assert!(engine.kill());
                workload.delivered(&out, true);
            }
            assert_eq!(parts(&totals), before);
            silent.speaks();
            let ended = run(&script, &dir, 2).fail_point(point).ended();
            assert!(ended.was_killed(), "{ended}");
            workload.delivered(&out, true);
            run(&script, &dir, 3).succeeds();
            workload.assert_answers(&out, true);
        },
    );
}

/// The only sink, as the newest manifest has it.
fn sink_log(dir: &Path) -> serde_json::Value {
    let manifest = newest_manifest(dir).and_then(|m| std::fs::read(m).ok()).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap_or_default();
    manifest["manifest"]["sinks"][0].clone()
}

fn last_staged(dir: &Path) -> u64 {
    sink_log(dir)["last_staged"].as_u64().unwrap_or(0)
}

fn pending_bytes(dir: &Path) -> u64 {
    let log = sink_log(dir);
    log["pending"].as_array().into_iter().flatten().filter_map(|s| s["bytes"].as_u64()).sum()
}

#[test]
fn reading_waits_when_enough_output_waits_for_its_target() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 60_000);
    let place = tempfile::tempdir().unwrap();
    let (dir, out, script) = (place.path().join("state"), place.path().join("out"), place.path().join("job.sql"));
    let [_, insert, _] = inserts("o", "c");
    let limit = 64 << 10;
    let sql = workload.tables(&out, Script { keys: true, rate: 5_000 }) + &statement_set(&[insert]);
    std::fs::write(&script, format!("SET 'sink.pending-bytes-max' = '64 kb';\n{sql}")).unwrap();
    let totals = out.join("totals");
    let mut engine = run(&script, &dir, 2).start();
    goes_on(&mut engine, "output", || parts(&totals) >= 2);
    assert!(engine.kill());
    let silent = Silent::new(&totals);
    let mut engine = run(&script, &dir, 2).start();
    goes_on(&mut engine, "output that waits", || pending_bytes(&dir) > limit);
    // What was read by then still comes; then nothing, for longer than many checkpoints take.
    let look = || (pending_bytes(&dir), newest_checkpoint(&dir));
    let (mut seen, mut since) = (look(), Instant::now());
    goes_on(&mut engine, "an end of reading", || {
        let now = look();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(2)
    });
    let (waits, had) = (seen.0, fold(&totals, Some(TOTALS_KEY)).unwrap().changes);
    silent.speaks();
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    support::changelog::assert_folds_to(&totals, Some(TOTALS_KEY), &workload.totals);
    // It had not simply come to the end of its input.
    let (changes, bytes) = (fold(&totals, Some(TOTALS_KEY)).unwrap().changes, folder_bytes(&totals));
    assert!(
        waits * 2 < bytes && had * 2 < changes,
        "{waits} of {bytes} bytes waited behind {had} of {changes} changes"
    );
}

fn folder_bytes(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}

#[test]
fn an_older_copy_of_the_directory_that_went_on_without_its_target_writes_nothing_to_it() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 30_000);
    let place = tempfile::tempdir().unwrap();
    let (dir, copy, out) = (place.path().join("state"), place.path().join("copy"), place.path().join("out"));
    let script = place.path().join("job.sql");
    let [_, insert, _] = inserts("o", "c");
    let sql = workload.tables(&out, Script { keys: true, rate: 5_000 }) + &statement_set(&[insert]);
    std::fs::write(&script, sql).unwrap();
    let totals = out.join("totals");
    let go_on_by = |segments: usize| {
        let before = parts(&totals);
        let mut engine = run(&script, &dir, 2).start();
        goes_on(&mut engine, "output", || parts(&totals) >= before + segments);
        assert!(engine.kill());
    };
    go_on_by(3);
    assert!(Command::new("cp").arg("-a").arg(&dir).arg(&copy).status().unwrap().success());
    go_on_by(6);
    let had = fold(&totals, Some(TOTALS_KEY)).unwrap();

    let silent = Silent::new(&totals);
    // Until it has staged as much as the target has, and more.
    for workers in [1, 2] {
        let more = last_staged(&copy).max(had.files as u64) + 3;
        let mut engine = run(&script, &copy, workers).start();
        goes_on(&mut engine, "checkpoints of the copy", || last_staged(&copy) >= more);
        assert!(engine.kill());
    }
    silent.speaks();
    for _ in 0..2 {
        run(&script, &copy, 2).fails().says(&["totals", "older copy", "newest copy"]);
        assert_eq!(fold(&totals, Some(TOTALS_KEY)).unwrap().changes, had.changes, "the older copy wrote");
    }
    // The newer one goes on.
    run(&script, &dir, 1).succeeds();
    support::changelog::assert_folds_to(&totals, Some(TOTALS_KEY), &workload.totals);
}
