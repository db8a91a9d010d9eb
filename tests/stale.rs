//! A process that slept while another one took its job over: when it wakes up it writes nothing and deletes nothing, and
//! ends with the reason. The lock on the directory does not help here: it is lost, as on some network file systems.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use support::engine::{Engine, run};
use support::files::{contents, newest_checkpoint, newest_manifest};
use support::workload::{Script, Workload, inserts, statement_set};

const RESTARTS: &str = "SET 'restart-strategy.type' = 'fixed-delay'; SET 'restart-strategy.fixed-delay.attempts' = '3';
  SET 'restart-strategy.fixed-delay.delay' = '10 ms';\n";

/// Where the first process stops, and whether the second one is through when it wakes up.
const CASES: &[(&str, bool)] = &[
    ("tick=stop@9", true),
    ("operator-flush=stop@5", false),
    ("stage-output=stop@4", true),
    ("upload-state=stop@3", false),
    ("upload-state=stop@2", true),
    ("before-manifest=stop@3", true),
    ("before-manifest=stop@4", false),
    ("after-manifest=stop@3", true),
    ("before-fence=stop@1", true),
    ("before-deliver=stop@3", true),
    ("before-deliver=stop@4", false),
    ("after-deliver=stop@3", true),
    ("after-delivered-record=stop@3", true),
    ("before-cleanup=stop@3", true),
    ("after-cleanup=stop@4", false),
    // It fails when it wakes up, for a reason that may pass, and its restart strategy starts it again.
    ("tick=stop@9;tick=error@10", true),
    ("tick=stop@9;tick=error@10", false),
];

#[test]
fn a_process_that_wakes_up_after_another_has_taken_over_writes_nothing_and_deletes_nothing() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 12_000);
    support::in_parallel(3, CASES, |c| format!("{c:?}"), |(point, is_through)| wakes_up(&workload, point, *is_through));
}

fn wakes_up(workload: &Workload, point: &str, is_through: bool) {
    let place = tempfile::tempdir().unwrap();
    let (dir, out) = (place.path().join("state"), place.path().join("out"));
    let script = place.path().join("job.sql");
    let sql = workload.tables(&out, Script { keys: true, rate: 4_000 }) + RESTARTS + &statement_set(&inserts("o", "c"));
    std::fs::write(&script, sql).unwrap();

    let mut old = run(&script, &dir, 2).fail_point(point).start();
    assert!(old.wait_until("stop", Engine::is_stopped), "{}", old.stderr_so_far());
    // Gone from the directory, though the old process holds it still.
    std::fs::remove_file(dir.join("LOCK")).unwrap();
    let before = newest_checkpoint(&dir);
    let mut new = run(&script, &dir, 2).start();
    if is_through {
        let ended = new.wait();
        assert_eq!(ended.status.code(), Some(0), "{ended}");
        workload.assert_answers(&out, true);
        let stored = contents(&dir.join("checkpoints"));
        let written = contents(&out);
        old.signal("CONT");
        ends_with_the_reason(old);
        assert_untouched_but_for_steps(&stored, &dir.join("checkpoints"));
        assert_untouched_but_for_steps(&written, &out);
        // What it left goes with the next start.
        run(&script, &dir, 2).succeeds();
        let manifest = std::fs::read_to_string(newest_manifest(&dir).unwrap()).unwrap();
        let name = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().into_owned();
        let left: Vec<_> = contents(&dir.join("checkpoints"))
            .into_keys()
            .filter(|p| is_of_first_attempt(p) && !name(p).contains('#') && !manifest.contains(&name(p)))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    } else {
        assert!(new.wait_until("checkpoints", |_| newest_checkpoint(&dir) >= before + 4), "{}", new.stderr_so_far());
        old.signal("CONT");
        ends_with_the_reason(old);
        let ended = new.wait();
        assert_eq!(ended.status.code(), Some(0), "the one that took over was disturbed\n{ended}");
    }
    workload.assert_answers(&out, true);
}

fn ends_with_the_reason(old: Engine) {
    let ended = old.wait();
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    ended.says(&["error: job ", "was taken over by attempt"]);
}

/// Nothing that was there is changed or gone, and nothing is new. What a task was in the middle of when the process was
/// stopped may still end, and none of it means anything: a file under the first attempt's name, a hidden temporary file,
/// the token of who delivers, a record of a delivery that a later record includes.
fn assert_untouched_but_for_steps(before: &BTreeMap<PathBuf, Vec<u8>>, folder: &Path) {
    let is_step = |path: &Path| {
        let text = path.to_string_lossy();
        let is_hidden = text.contains("/.thalweg/") && (text.ends_with(".tmp") || text.ends_with(".owner"));
        let is_older_record = text.contains("/delivered/")
            && before.keys().any(|p| p.parent() == path.parent() && p.file_name() > path.file_name());
        is_of_first_attempt(path) || is_hidden || is_older_record
    };
    let after = contents(folder);
    let differs: Vec<_> =
        before.keys().chain(after.keys()).filter(|p| before.get(*p) != after.get(*p) && !is_step(p)).collect();
    assert!(differs.is_empty(), "written, changed or deleted: {differs:?}");
}

fn is_of_first_attempt(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str().to_string_lossy().starts_with("0000000001-"))
}
