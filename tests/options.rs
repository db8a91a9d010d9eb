//! Settings have the effect that they promise.

mod support;

use std::path::{Path, PathBuf};

use support::engine::{run, thalweg};
use support::files::{find, newest_checkpoint};
use support::workload::{Script, Workload, inserts, statement_set};

/// A folder with a job whose settings are varied.
struct Place {
    folder: tempfile::TempDir,
    workload: Workload,
}

impl Place {
    fn new(changes: usize) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let workload = Workload::generate(folder.path(), support::seed(), changes);
        Place { folder, workload }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn dir(&self) -> PathBuf {
        self.path("state")
    }

    fn script(&self, settings: &str) -> PathBuf {
        let script = self.path("job.sql");
        let tables = self.workload.tables(&self.path("out"), Script { keys: true, rate: 1_500 });
        std::fs::write(&script, tables + settings + &statement_set(&inserts("o", "c"))).unwrap();
        script
    }
}

fn manifests(dir: &Path) -> Vec<PathBuf> {
    find(dir, "MANIFEST-").into_iter().filter(|p| p.extension().is_some_and(|e| e == "json")).collect()
}

#[test]
fn so_many_checkpoints_are_retained() {
    for retained in [1, 3] {
        let place = tempfile::tempdir().unwrap();
        let (script, dir) = (place.path().join("job.sql"), place.path().join("state"));
        let text = format!(
            "SET 'execution.checkpointing.interval' = '20 ms'; SET 'execution.checkpointing.num-retained' = '{retained}';
             CREATE TABLE made (k BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000');
             CREATE TABLE o (k BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
             INSERT INTO o SELECT k FROM made;",
            place.path().join("out").display()
        );
        std::fs::write(&script, text).unwrap();
        let mut engine = run(&script, &dir, 1).start();
        assert!(engine.wait_until("checkpoints", |_| newest_checkpoint(&dir) >= 8), "{}", engine.stderr_so_far());
        engine.signal("INT");
        let ended = engine.wait();
        assert_eq!(ended.status.code(), Some(0), "{ended}");
        let left = manifests(&dir);
        assert_eq!(left.len(), retained, "{left:?}");
    }
}

#[test]
fn between_two_checkpoints_is_at_least_the_pause() {
    let place = Place::new(6_000);
    let settings =
        "SET 'execution.checkpointing.interval' = '10 ms'; SET 'execution.checkpointing.min-pause' = '1 h';\n";
    run(&place.script(settings), &place.dir(), 2).succeeds();
    place.workload.assert_answers(&place.path("out"), true);
    // The claim, the first one, the final one, and the word that all is delivered.
    assert_eq!(newest_checkpoint(&place.dir()), 4);
}

#[test]
fn checkpoints_are_where_they_are_wanted() {
    let place = Place::new(6_000);
    let elsewhere = place.path("elsewhere");
    let script = place.script(&format!(
        "SET 'execution.checkpointing.dir' = 'file://{}';\n",
        elsewhere.join("checkpoints").display()
    ));
    let mut engine = run(&script, &place.dir(), 2).start();
    assert!(engine.wait_until("checkpoints", |_| newest_checkpoint(&elsewhere) > 3), "{}", engine.stderr_so_far());
    assert!(engine.kill());
    assert!(manifests(&place.dir()).is_empty());
    run(&script, &place.dir(), 1).succeeds().says(&["restored checkpoint", "2 → 1 workers"]);
    place.workload.assert_answers(&place.path("out"), true);
}

#[test]
fn state_in_memory_leaves_it_for_checkpoints_only() {
    let keys = 400_000;
    for (backend, leaves) in [("rocksdb", true), ("memory", false)] {
        let place = tempfile::tempdir().unwrap();
        let sql = format!(
            "SET 'state.memory-budget' = '8 mb'; SET 'state.backend.type' = '{backend}';
             CREATE TABLE src (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '0',
               'fields.id.kind' = 'sequence', 'fields.id.start' = '0', 'fields.id.end' = '{}');
             SELECT COUNT(*) AS n, MIN(m) AS least FROM (SELECT id % {keys} AS k, COUNT(*) AS m FROM src GROUP BY id % {keys});",
            2 * keys - 1
        );
        let mut engine = thalweg([place.path()]).args(&["--format", "csv", "-c", &sql]).start();
        let work = place.path().join("work");
        let has_files = |_: &_| work.is_dir() && !find(&work, ".sst").is_empty();
        assert_eq!(engine.wait_until("state on disk, or an end", has_files), leaves, "{backend}");
        let ended = engine.wait();
        assert_eq!(ended.status.code(), Some(0), "{ended}");
        assert_eq!(ended.stdout.lines().last(), Some(format!("{keys},2").as_str()), "{ended}");
    }
}
