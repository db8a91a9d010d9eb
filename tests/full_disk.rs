//! A disk that is really full: a small file system that others fill up. The job says so and waits, nothing is lost, and
//! when there is room it goes on.

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::engine::{Engine, run};
use support::files::newest_checkpoint;
use support::workload::{Script, Workload, inserts, statement_set};

/// A file system of its own, in memory; unmounted when it is dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// `None` where this user may not mount.
    fn mount(path: &Path, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path).stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|s| s.success());
        mounted.then(|| SmallDisk { path: path.to_owned() })
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Until nothing more fits.
    fn fill(&self) {
        let mut file = std::fs::File::options().create(true).append(true).open(self.ballast()).unwrap();
        for size in [64 << 10, 4 << 10, 1] {
            let bytes = vec![1u8; size];
            let full = loop {
                if let Err(e) = file.write_all(&bytes) {
                    break e;
                }
            };
            assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

const FULL: &str = "is full, found while";

/// Fills the disk until the job has noticed: what it removes itself meanwhile is filled too.
fn fill_until_noticed(disk: &SmallDisk, engine: &mut Engine) {
    let noticed = |e: &Engine| {
        disk.fill();
        e.stderr_so_far().contains(FULL)
    };
    assert!(engine.wait_until("word of the full disk", noticed), "{}", engine.stderr_so_far());
}

#[test]
fn a_full_disk_is_waited_for_and_loses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("disk");
    let Some(disk) = SmallDisk::mount(&dir, "64m") else {
        return eprintln!("skipped: this user may not mount a small file system");
    };
    let workload = Workload::generate(&place.path().join("in"), support::seed(), 20_000);
    let (script, out) = (place.path().join("job.sql"), place.path().join("out"));
    // Only the checkpoints are on the full disk: the local state, and what a killed process leaves of it, are elsewhere.
    let checkpoints = format!("SET 'execution.checkpointing.dir' = '{}';\n", dir.join("checkpoints").display());
    let sql = workload.tables(&out, Script { keys: true, rate: 1_500 }) + &checkpoints;
    std::fs::write(&script, sql + &statement_set(&inserts("o", "c"))).unwrap();
    let state = place.path().join("state");
    let start = |workers| {
        let before = newest_checkpoint(&dir);
        let mut engine = run(&script, &state, workers).start();
        let some = engine.wait_until("checkpoints", |_| newest_checkpoint(&dir) >= before + 2);
        assert!(some, "{}", engine.stderr_so_far());
        engine
    };

    // While it runs, and there is room again.
    let mut engine = start(2);
    fill_until_noticed(&disk, &mut engine);
    let full = newest_checkpoint(&dir);
    workload.delivered(&out, true);
    disk.make_room();
    let goes_on = engine.wait_until("checkpoints", |_| newest_checkpoint(&dir) >= full + 2);
    assert!(goes_on && engine.is_running(), "{}", engine.stderr_so_far());

    // Killed, and started, while it is full.
    fill_until_noticed(&disk, &mut engine);
    assert!(engine.kill());
    disk.fill();
    let stored = newest_checkpoint(&dir);
    run(&script, &state, 3).fails().says(&[FULL]);
    assert_eq!(newest_checkpoint(&dir), stored);
    workload.delivered(&out, true);
    disk.make_room();
    run(&script, &state, 1).succeeds().says(&["restored checkpoint"]);
    workload.assert_answers(&out, true);
}
