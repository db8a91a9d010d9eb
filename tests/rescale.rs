//! Jobs that go on with another number of workers: shards are split, and several are owned by one.

mod support;

use support::engine::run;
use support::files::newest_checkpoint;
use support::workload::{Script, Workload};

#[test]
fn from_one_worker_to_four_and_to_two_the_answer_stays() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 16_000);
    // Killed or stopped, in every order, between 1, 4, 2, 3 workers; with the stored graph, or planned anew each time.
    let cases = [
        ([true, true, true], true, false),
        ([false, false, false], false, false),
        ([true, false, true], false, true),
        ([false, true, false], true, true),
    ];
    support::in_parallel(
        3,
        &cases,
        |c| format!("{c:?}"),
        |(kills, keys, replan)| {
            let flags: &[&str] = if *replan { &["--replan"] } else { &[] };
            let place = tempfile::tempdir().unwrap();
            let (dir, out) = (place.path().join("state"), place.path().join("out"));
            let script = workload.script(&place.path().join("job.sql"), &out, Script { keys: *keys, rate: 2_500 });
            for (kill, workers) in kills.iter().zip([1, 4, 2]) {
                let before = newest_checkpoint(&dir);
                let mut engine = run(&script, &dir, workers).args(flags).start();
                let more = |_: &_| newest_checkpoint(&dir) >= before + 3;
                assert!(engine.wait_until("checkpoints", more), "{}", engine.stderr_so_far());
                if *kill {
                    assert!(engine.kill(), "{}", engine.stderr_so_far());
                } else {
                    engine.signal("INT");
                    let ended = engine.wait();
                    assert_eq!(ended.status.code(), Some(0), "{ended}");
                    ended.says(&["stopped: checkpoint", "goes on from here"]);
                }
                workload.delivered(&out, *keys);
            }
            run(&script, &dir, 3).args(flags).succeeds().says(&["restored checkpoint", "2 → 3 workers"]);
            workload.assert_answers(&out, *keys);
        },
    );
}
