//! What the tests of whole programs share: the engine as a process, its output folded, a workload with its answer.
#![allow(dead_code, reason = "every test program uses a part of it")]

pub mod changelog;
pub mod engine;
pub mod files;
pub mod kafka;
pub mod mysqld;
pub mod proxy;
pub mod topic;
pub mod workload;

/// Decides everything that is random; printed, and given back by `THALWEG_TEST_SEED`.
pub fn seed() -> u64 {
    let given = std::env::var("THALWEG_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |d| u64::from(d.subsec_nanos()))
    });
    println!("THALWEG_TEST_SEED={seed}");
    seed
}

/// Runs the cases on a few threads; the first failure is the test's, with the name of its case.
pub fn in_parallel<T: Sync>(threads: usize, cases: &[T], name: impl Fn(&T) -> String + Sync, case: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = std::sync::Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(cases.len()) {
            scope.spawn(|| {
                while let Some(c) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(c))).is_err() {
                        failed.lock().expect("no thread panics while it holds the list").push(name(c));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no thread panics while it holds the list");
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:?}", failed.len(), cases.len());
}
