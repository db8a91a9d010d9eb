//! The engine is killed at every step of checkpoint and delivery, and at random moments, and restored with another
//! number of workers: what the file sinks hold is at every moment a strict changelog, and at the end the answer.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use support::engine::{kill_at, run};
use support::files::newest_checkpoint;
use support::workload::{Script, Workload};
use thalweg_core::fail_points::POINTS;

const CHANGES: usize = 20_000;
/// Jobs at a time: they mostly wait for their rate limit.
const JOBS_AT_A_TIME: usize = 4;

#[test]
fn killed_at_each_step_of_the_protocol_everything_is_written_exactly_once() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), CHANGES);
    let cases: Vec<(usize, &str, bool)> =
        POINTS.iter().enumerate().flat_map(|(i, p)| [(i, *p, true), (i, *p, false)]).collect();
    support::in_parallel(
        JOBS_AT_A_TIME,
        &cases,
        |c| format!("{c:?}"),
        |&(i, point, keys)| {
            let place = tempfile::tempdir().unwrap();
            let (dir, out) = (place.path().join("state"), place.path().join("out"));
            let script = workload.script(&place.path().join("job.sql"), &out, Script { keys, rate: 5_000 });
            let workers = |n: usize| (i + usize::from(keys) + n) % 3 + 1;
            // The first time in a new job, the second time in a restored one.
            for life in [0, 1] {
                let armed = kill_at(point, life);
                let ended = run(&script, &dir, workers(life)).fail_point(&armed).ended();
                assert!(ended.was_killed(), "{armed} in life {life} did not kill\n{ended}");
                ended.says(&[&format!("fail point {point}")]);
                workload.delivered(&out, keys);
            }
            run(&script, &dir, workers(2)).succeeds();
            workload.assert_answers(&out, keys);
        },
    );
}

#[test]
fn killed_at_random_moments_everything_is_written_exactly_once() {
    let seed = support::seed();
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), seed, CHANGES);
    let killed = AtomicUsize::new(0);
    let cases: Vec<(usize, bool)> = (1..=3).flat_map(|w| [(w, true), (w, false)]).collect();
    support::in_parallel(
        JOBS_AT_A_TIME,
        &cases,
        |c| format!("{c:?}, seed {seed}"),
        |&(first, keys)| {
            let mut random = SmallRng::seed_from_u64(seed ^ (first as u64 * 2 + u64::from(keys)));
            let place = tempfile::tempdir().unwrap();
            let (dir, out) = (place.path().join("state"), place.path().join("out"));
            let script = workload.script(&place.path().join("job.sql"), &out, Script { keys, rate: 6_000 });
            let mut workers = first;
            for life in 0..6 {
                let moment = Duration::from_millis(random.random_range(20..600));
                if kill_after(&script, &dir, workers, moment) {
                    killed.fetch_add(1, Ordering::Relaxed);
                }
                workload.delivered(&out, keys);
                workers = (workers + life % 2) % 3 + 1;
            }
            run(&script, &dir, workers).succeeds();
            workload.assert_answers(&out, keys);
            // Finished stays finished: nothing is written again.
            let before = support::files::contents(&out.join("joined"));
            run(&script, &dir, first).succeeds();
            support::files::assert_untouched(&before, &out.join("joined"));
        },
    );
    let killed = killed.into_inner();
    assert!(killed >= 20, "only {killed} processes were killed while they ran");
}

/// Kills the engine some time after it has got further than it was; whether it still ran.
fn kill_after(script: &Path, dir: &Path, workers: usize, moment: Duration) -> bool {
    let before = newest_checkpoint(dir);
    let mut engine = run(script, dir, workers).start();
    // The moment is what is tested, not a condition; every other life is killed before it has done anything.
    let until = Instant::now() + moment;
    if !moment.as_millis().is_multiple_of(3) {
        engine.wait_until("checkpoint", |_| newest_checkpoint(dir) > before + 1);
    }
    while Instant::now() < until && engine.is_running() {
        std::thread::sleep(Duration::from_millis(1));
    }
    engine.kill()
}
