//! Behaviour over several modules: tables against the model, snapshots, restore with other worker counts, damage.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, Int64Array, StringArray};
use proptest::prelude::*;
use thalweg_core::SqlType;
use thalweg_core::key::{KeyCodec, KeyOrder};
use thalweg_core::key_group::groups_of;
use thalweg_core::state::{KeyBatch, KeyColumn, MemoryTable, StateTable, StateTableSpec, WriteBatch};
use thalweg_core::stored::{NarrowValues, StoredFile, TableMatch, TableName};
use thalweg_core::value::ValueCodec;
use thalweg_core::{Error, ErrorCode};

use crate::*;

const GROUPS: u16 = 16;
const OPERATOR: &str = "00112233445566778899aabbccddeeff";

fn spec(name: &str) -> StateTableSpec {
    StateTableSpec { name: name.into(), key: vec![], value: vec![], routing_columns: 0, version: 1 }
}

fn state(dir: &Path, groups: Range<u16>, restore: &Restore) -> Result<WorkerState, Error> {
    state_of(dir, groups, restore, Budget::new(64 << 20))
}

fn state_of(dir: &Path, groups: Range<u16>, restore: &Restore, budget: Arc<Budget>) -> Result<WorkerState, Error> {
    let backend = Backend::RocksDb;
    let config = StateConfig { dir: dir.to_owned(), groups, max_parallelism: GROUPS, backend, budget };
    WorkerState::new(config, restore)
}

fn key(group: u16, rest: &[u8]) -> Box<[u8]> {
    [&group.to_be_bytes()[..], rest].concat().into()
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn scan(table: &dyn StateTable, prefix: &[u8], after: Option<&[u8]>, reverse: bool) -> Rows {
    let mut rows = vec![];
    table
        .scan(prefix, after, reverse, &mut |k, v| {
            rows.push((k.to_vec(), v.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

fn all(table: &dyn StateTable, groups: Range<u16>) -> Rows {
    groups.flat_map(|g| scan(table, &g.to_be_bytes(), None, false)).collect()
}

fn get(table: &dyn StateTable, keys: &KeyBatch) -> BTreeMap<usize, Vec<u8>> {
    let mut got = BTreeMap::new();
    table.get_many(keys, &mut |i, v| assert!(got.insert(i, v.to_vec()).is_none())).unwrap();
    got
}

/// Copies a snapshot to `storage` as the checkpoint crate does, and gives back how it is restored.
fn store(snapshots: Vec<ShardSnapshot>, storage: &Path, attempt: u64, checkpoint: u64) -> Vec<RestoredShard> {
    let mut shards = vec![];
    for s in snapshots {
        let mut files = vec![];
        for f in &s.files {
            if let Some(stored) = &f.stored {
                files.push(stored.clone());
                continue;
            }
            let chk = if f.immutable { String::new() } else { format!("{checkpoint}-") };
            let object = format!("{attempt}-{}-{}-{chk}{}", s.groups.start, s.ordinal, f.name);
            assert!(!storage.join(&object).exists(), "{object} is stored twice");
            std::fs::copy(&f.path, storage.join(&object)).unwrap();
            let stored = StoredFile { name: f.name.clone(), object, size: f.size, crc32: 0 };
            s.mark_stored(stored.clone());
            files.push(stored);
        }
        shards.push(RestoredShard::new(s.to_stored(files), |f| storage.join(&f.object)));
    }
    shards
}

fn goes_on(stored: &TableName, table: &TableName) -> TableMatch {
    TableMatch { stored: stored.clone(), table: table.clone(), narrow: None }
}

fn same_names(shards: &[RestoredShard]) -> Restore {
    let mut names: Vec<_> = shards.iter().flat_map(|s| &s.tables).map(|t| t.name.clone()).collect();
    names.sort();
    names.dedup();
    let matches = names.into_iter().map(|n| goes_on(&n, &n)).collect();
    Restore { shards: shards.to_vec(), matches }
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(u8, u16, Vec<u8>)>),
    DeleteRange(u16, Vec<u8>, Vec<u8>),
    /// Snapshot, then restore from it with this many workers.
    Restart(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = || prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff)], 0..4);
    let step = prop_oneof![
        6 => prop::collection::vec((any::<u8>(), 0..GROUPS, bytes()), 1..30).prop_map(Step::Write),
        1 => (0..GROUPS, bytes(), bytes()).prop_map(|(g, a, b)| Step::DeleteRange(g, a, b)),
        1 => (1usize..5).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn tables_are_the_model_whatever_the_workers(steps in steps()) {
        let root = tempfile::tempdir().unwrap();
        let storage = root.path().join("storage");
        std::fs::create_dir(&storage).unwrap();
        let mut model = MemoryTable::new(spec("t"));
        let mut attempt = 0;
        let mut workers = open(root.path(), attempt, 2, &Restore::default());
        for step in steps {
            match step {
                Step::Write(rows) => {
                    let mut batches: Vec<WriteBatch> = workers.iter().map(|_| WriteBatch::default()).collect();
                    let mut expected = WriteBatch::default();
                    for (op, group, rest) in rows {
                        let worker = workers.iter().position(|w| w.0.config().groups.contains(&group)).unwrap();
                        let key = key(group, &rest);
                        if op % 4 == 0 {
                            batches[worker].delete(key.clone());
                            expected.delete(key);
                        } else {
                            batches[worker].put(key.clone(), vec![op]);
                            expected.put(key, vec![op]);
                        }
                    }
                    model.write(expected).unwrap();
                    for (worker, batch) in workers.iter_mut().zip(batches) {
                        worker.1.write(batch).unwrap();
                    }
                }
                Step::DeleteRange(group, a, b) => {
                    let (from, to) = if a <= b { (key(group, &a), key(group, &b)) } else { (key(group, &b), key(group, &a)) };
                    let range = || {
                        let mut batch = WriteBatch::default();
                        batch.delete_range(&from, &to);
                        batch
                    };
                    model.write(range()).unwrap();
                    let worker = workers.iter_mut().find(|w| w.0.config().groups.contains(&group)).unwrap();
                    worker.1.write(range()).unwrap();
                }
                Step::Restart(n) => {
                    attempt += 1;
                    let snapshot = |w: &Worker| store(w.0.snapshot(1).unwrap(), &storage, attempt, 1);
                    let shards: Vec<_> = workers.iter().flat_map(snapshot).collect();
                    workers = open(root.path(), attempt, n, &same_names(&shards));
                }
            }
            for (worker, table) in &workers {
                let table = &**table;
                let groups = worker.config().groups.clone();
                prop_assert_eq!(all(table, groups.clone()), all(&model, groups.clone()));
                let prefixes: Vec<Box<[u8]>> = groups.rev().flat_map(|g| [key(g, &[0xff]), key(g, &[]), key(g, &[1, 0])]).collect();
                let mut keys = KeyBatch::new();
                prefixes.iter().for_each(|p| keys.push(p));
                prop_assert_eq!(get(table, &keys), get(&model, &keys));
                let mut many: Vec<Rows> = vec![vec![]; keys.len()];
                table.scan_many(&keys, &mut |i, k, v| {
                    many[i].push((k.to_vec(), v.to_vec()));
                    ControlFlow::Continue(())
                }).unwrap();
                for (i, p) in prefixes.iter().enumerate() {
                    let rows = scan(&model, p, None, false);
                    prop_assert_eq!(&many[i], &rows);
                    prop_assert_eq!(scan(table, p, None, true), scan(&model, p, None, true));
                    if let Some((middle, _)) = rows.get(rows.len() / 2) {
                        for reverse in [false, true] {
                            prop_assert_eq!(scan(table, p, Some(middle), reverse), scan(&model, p, Some(middle), reverse));
                        }
                    }
                }
            }
        }
    }
}

/// INT and STRING, of which the first routes.
fn keyed_spec() -> StateTableSpec {
    let column = |name: &str, ty| KeyColumn {
        name: name.into(),
        ty,
        descending: false,
        nulls_first: true,
        exact: false,
        provenance: String::new(),
    };
    let key = vec![column("a", SqlType::Int), column("b", SqlType::STRING)];
    StateTableSpec { name: "t".into(), key, value: vec![], routing_columns: 1, version: 1 }
}

/// Key group, then the columns; without `b` the routing prefix.
fn column_key(a: i32, b: Option<&str>) -> Box<[u8]> {
    let codec = KeyCodec::new(vec![KeyOrder::ascending(SqlType::Int), KeyOrder::ascending(SqlType::STRING)]);
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![a]))];
    columns.extend(b.map(|b| Arc::new(StringArray::from(vec![b])) as ArrayRef));
    let mut key = KeyBatch::new();
    codec.encode(Some(&[(a % i32::from(GROUPS)) as u16]), &columns, 1, &mut key).unwrap();
    key.get(0).into()
}

#[test]
fn a_table_knows_what_was_never_in_it_and_finds_all_that_is() {
    let root = tempfile::tempdir().unwrap();
    let budget = Budget::with_bulk_from(64 << 20, 2000);
    let state = state_of(&root.path().join("w0"), 0..GROUPS, &Restore::default(), budget).unwrap();
    let mut table = state.table(OPERATOR, 1, &keyed_spec()).unwrap();
    let mut model = MemoryTable::new(keyed_spec());
    let mut seed = 7u64;
    let mut draw = |max: i32| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) % max as u64) as i32
    };
    let mut prefixes = KeyBatch::new();
    (0..4000).for_each(|a| prefixes.push(&column_key(a, None)));
    assert!(table.may_hold(&prefixes).is_empty(), "nothing was written");
    for round in 0..60 {
        let (mut batch, mut same) = (WriteBatch::default(), WriteBatch::default());
        // Small ones and large ones, dense ones and sparse ones.
        let writes = if round % 3 == 0 { 20 } else { 400 };
        for _ in 0..writes {
            let a = 2 * draw(if round % 2 == 0 { 100 } else { 2000 });
            let key = column_key(a, Some(&"x".repeat(draw(5) as usize)));
            let delete = draw(4) == 0;
            for batch in [&mut batch, &mut same] {
                if delete { batch.delete(&key) } else { batch.put(&key, [round]) }
            }
        }
        table.write(batch).unwrap();
        model.write(same).unwrap();
        let may_hold = table.may_hold(&prefixes);
        let mut many: Vec<Rows> = vec![vec![]; prefixes.len()];
        table
            .scan_many(&prefixes, &mut |i, k, v| {
                many[i].push((k.to_vec(), v.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        let mut keys = KeyBatch::new();
        for (i, prefix) in prefixes.iter().enumerate() {
            let rows = scan(&model, prefix, None, false);
            assert!(rows.is_empty() || may_hold.contains(&(i as u32)), "{prefix:?} is denied");
            assert_eq!(many[i], rows, "{prefix:?} in round {round}");
            assert_eq!(scan(&*table, prefix, None, true), scan(&model, prefix, None, true));
            keys.push(&column_key(i as i32, Some("xx")));
        }
        assert_eq!(get(&*table, &keys), get(&model, &keys));
        // A few only are sought, many are come by.
        for i in (0..keys.len()).step_by(97) {
            let (mut key, mut prefix) = (KeyBatch::new(), KeyBatch::new());
            key.push(keys.get(i));
            prefix.push(prefixes.get(i));
            assert_eq!(get(&*table, &key), get(&model, &key));
            let mut rows = vec![];
            table
                .scan_many(&prefix, &mut |_, k, v| {
                    rows.push((k.to_vec(), v.to_vec()));
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(rows, many[i]);
        }
        assert!(may_hold.len() < 2100, "half of the prefixes were never written: {}", may_hold.len());
    }
}

type Worker = (WorkerState, Box<dyn StateTable>);

fn open(root: &Path, attempt: u64, workers: usize, restore: &Restore) -> Vec<Worker> {
    (0..workers)
        .map(|w| {
            let dir = root.join(format!("work-{attempt}-{w}"));
            // Larger batches become files, smaller ones go through the memtable.
            let budget = Budget::with_bulk_from(64 << 20, 50);
            let state = state_of(&dir, groups_of(w, GROUPS, workers), restore, budget).unwrap();
            let table = state.table(OPERATOR, 7, &spec("t")).unwrap();
            (state, table)
        })
        .collect()
}

fn fill(table: &mut dyn StateTable, rows: Range<u32>, value: &[u8]) {
    let mut batch = WriteBatch::default();
    for i in rows {
        batch.put(key((i % u32::from(GROUPS)) as u16, &i.to_be_bytes()), value);
    }
    table.write(batch).unwrap();
}

#[test]
fn nothing_is_on_disk_before_the_first_put() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("w0");
    let state = state(&dir, 0..GROUPS, &Restore::default()).unwrap();
    let mut table = state.table(OPERATOR, 1, &spec("rows")).unwrap();
    assert!(table.is_empty());
    let mut batch = WriteBatch::default();
    batch.delete(key(3, b"absent"));
    table.write(batch).unwrap();
    let mut keys = KeyBatch::new();
    keys.push(&key(3, b"absent"));
    assert!(get(&*table, &keys).is_empty());
    assert!(state.snapshot(1).unwrap().is_empty());
    assert!(table.is_empty() && !dir.exists() && state.bytes_on_disk() == 0);
    fill(&mut *table, 0..1, b"x");
    assert!(!table.is_empty() && dir.exists());
}

#[test]
fn one_then_four_then_two_workers_hold_the_same_rows() {
    let root = tempfile::tempdir().unwrap();
    let storage = root.path().join("storage");
    std::fs::create_dir(&storage).unwrap();
    let mut expected = None;
    let mut shards = vec![];
    for (attempt, n) in [1usize, 4, 2, 3, 1].into_iter().enumerate() {
        let attempt = attempt as u64;
        let mut workers = open(root.path(), attempt, n, &same_names(&shards));
        let rows: Rows = workers.iter().flat_map(|(s, t)| all(&**t, s.config().groups.clone())).collect();
        match &expected {
            None => fill(&mut *workers[0].1, 0..50_000, &[7; 20]),
            Some(expected) => assert!(rows == *expected, "{n} workers: {} rows", rows.len()),
        }
        // A few more on every worker, so that halves of one shard go apart.
        for (i, (state, table)) in workers.iter_mut().enumerate() {
            let mut batch = WriteBatch::default();
            batch.put(key(state.config().groups.start, format!("new {attempt} {i}").as_bytes()), b"y".as_slice());
            table.write(batch).unwrap();
        }
        expected = Some(workers.iter().flat_map(|(s, t)| all(&**t, s.config().groups.clone())).collect::<Rows>());
        shards = workers.iter().flat_map(|(s, _)| store(s.snapshot(1).unwrap(), &storage, attempt, 1)).collect();
        for (state, _) in &workers {
            state.release_snapshot(1).unwrap();
            assert!(!state.config().dir.join("chk-1").exists());
        }
    }
    assert!(shards.iter().all(|s| s.tables[0].bytes > 0));
}

#[test]
fn keys_outside_of_the_own_groups_are_errors_not_rows() {
    let root = tempfile::tempdir().unwrap();
    let storage = root.path().join("storage");
    std::fs::create_dir(&storage).unwrap();
    let shards = {
        let mut workers = open(root.path(), 0, 1, &Restore::default());
        fill(&mut *workers[0].1, 0..1000, b"x");
        store(workers[0].0.snapshot(1).unwrap(), &storage, 0, 1)
    };
    let mut half = open(root.path(), 1, 2, &same_names(&shards)).swap_remove(1);
    assert_eq!(all(&*half.1, 8..16).len(), 496);
    let mut keys = KeyBatch::new();
    keys.push(&key(0, &0u32.to_be_bytes()));
    assert_eq!(half.1.get_many(&keys, &mut |_, _| ()).unwrap_err().code(), ErrorCode::Internal);
    let mut batch = WriteBatch::default();
    batch.put(key(0, b"a"), b"b".as_slice());
    assert!(half.1.write(batch).is_err());
    // What was split off is not stored again as rows of this half.
    let again = store(half.0.snapshot(2).unwrap(), &storage, 1, 2);
    assert_eq!(again[0].groups, 8..16);
}

#[test]
fn writes_of_a_checkpoint_are_made_by_its_task_and_readers_wait_for_them() {
    let root = tempfile::tempdir().unwrap();
    let (state, mut table) = open(root.path(), 0, 1, &Restore::default()).swap_remove(0);
    state.put_off_writes().unwrap();
    fill(&mut *table, 0..1000, b"one");
    assert!(!table.is_empty(), "something may be stored");
    assert!(!state.config().dir.exists(), "not written yet");
    let task = state.begin_snapshot(1);
    let running = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        task.run().unwrap()
    });
    assert_eq!(all(&*table, 0..GROUPS).len(), 1000, "who reads waits for the writes");
    assert_eq!(running.join().unwrap()[0].tables.len(), 1);
    // Outside of a checkpoint they are made at once.
    fill(&mut *table, 1000..1500, b"two");
    assert_eq!(all(&*table, 0..GROUPS).len(), 1500);
}

#[test]
fn an_operator_that_reads_while_it_flushes_sees_its_writes() {
    let root = tempfile::tempdir().unwrap();
    let storage = root.path().join("storage");
    std::fs::create_dir(&storage).unwrap();
    let (state, mut table) = open(root.path(), 0, 1, &Restore::default()).swap_remove(0);
    state.put_off_writes().unwrap();
    fill(&mut *table, 0..1000, b"one");
    assert_eq!(all(&*table, 0..GROUPS).len(), 1000);
    fill(&mut *table, 500..1500, b"two");
    let shards = store(state.snapshot(1).unwrap(), &storage, 0, 1);
    let (_, restored) = open(root.path(), 1, 1, &same_names(&shards)).swap_remove(0);
    let rows = all(&*restored, 0..GROUPS);
    assert_eq!((rows.len(), rows.iter().filter(|(_, v)| v == b"two").count()), (1500, 1000));
}

#[test]
fn many_writes_of_a_checkpoint_are_made_before_they_fill_the_memory() {
    let root = tempfile::tempdir().unwrap();
    let (state, mut table) = open(root.path(), 0, 1, &Restore::default()).swap_remove(0);
    state.put_off_writes().unwrap();
    for n in 0..40 {
        fill(&mut *table, n * 1000..(n + 1) * 1000, &[7; 2000]);
    }
    assert!(state.config().dir.exists(), "80 MB are more than are put off of a budget of 64 MB");
    state.begin_snapshot(1).run().unwrap();
    assert_eq!(all(&*table, 0..GROUPS).len(), 40_000);
}

#[test]
fn after_a_checkpoint_whose_writes_are_lost_there_is_no_other() {
    let root = tempfile::tempdir().unwrap();
    let (state, mut table) = open(root.path(), 0, 1, &Restore::default()).swap_remove(0);
    state.put_off_writes().unwrap();
    fill(&mut *table, 0..10, b"one");
    drop(state.begin_snapshot(1));
    assert!(state.put_off_writes().unwrap_err().is_transient());
    let mut batch = WriteBatch::default();
    batch.put(key(0, b"k"), b"v");
    assert!(table.write(batch).is_err());
    assert!(table.scan(&[0, 0], None, false, &mut |_, _| ControlFlow::Continue(())).is_err());
}

#[test]
fn a_snapshot_is_of_the_moment_in_which_it_was_begun() {
    let root = tempfile::tempdir().unwrap();
    let storage = root.path().join("storage");
    std::fs::create_dir(&storage).unwrap();
    let (state, mut table) = open(root.path(), 0, 1, &Restore::default()).swap_remove(0);
    fill(&mut *table, 0..1000, b"before");
    let task = state.begin_snapshot(1);
    assert_eq!(all(&*table, 0..GROUPS).len(), 1000, "reads do not wait");
    let snapshot = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        task.run().unwrap()
    });
    fill(&mut *table, 0..2000, b"after");
    let shards = store(snapshot.join().unwrap(), &storage, 0, 1);
    let (_, restored) = open(root.path(), 1, 1, &same_names(&shards)).swap_remove(0);
    let rows = all(&*restored, 0..GROUPS);
    assert!(rows.len() == 1000 && rows.iter().all(|(_, v)| v == b"before"));
    // One that is given up does not keep writers out.
    drop(state.begin_snapshot(2));
    fill(&mut *table, 0..1, b"on");
}

#[test]
fn a_state_that_is_dropped_waits_for_its_snapshots() {
    let root = tempfile::tempdir().unwrap();
    let (state, mut table) = open(root.path(), 0, 1, &Restore::default()).swap_remove(0);
    fill(&mut *table, 0..1000, b"one");
    let task = state.begin_snapshot(1);
    let is_closed = state.is_closed();
    let snapshot = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        task.run().unwrap()
    });
    drop(table);
    drop(state);
    assert!(is_closed(), "their folder can go");
    assert_eq!(snapshot.join().unwrap().len(), 1);
}

#[test]
fn only_new_files_are_stored_and_links_outlive_compaction() {
    let root = tempfile::tempdir().unwrap();
    let storage = root.path().join("storage");
    std::fs::create_dir(&storage).unwrap();
    let (state, mut table) = open(root.path(), 0, 1, &Restore::default()).swap_remove(0);
    fill(&mut *table, 0..10_000, b"one");
    store(state.snapshot(1).unwrap(), &storage, 0, 1);
    fill(&mut *table, 0..10, b"two");
    let second = state.snapshot(2).unwrap();
    let sst: Vec<_> = second[0].files.iter().filter(|f| f.immutable).collect();
    assert_eq!(sst.iter().filter(|f| f.stored.is_some()).count(), sst.len() - 1);
    let new = sst.iter().find(|f| f.stored.is_none()).unwrap();
    assert!(new.size < 4096, "{}", new.size);
    // Taken, given up (never stored): the third carries its file.
    state.release_snapshot(2).unwrap();
    let third = state.snapshot(3).unwrap();
    assert!(third[0].files.iter().any(|f| f.name == new.name && f.stored.is_none()));
    assert!(third[0].files.iter().all(|f| f.path.exists()));
}

#[test]
fn state_goes_on_under_another_name_and_the_rest_is_dropped() {
    let root = tempfile::tempdir().unwrap();
    let storage = root.path().join("storage");
    std::fs::create_dir(&storage).unwrap();
    let (a, b, gone) =
        (TableName::new(OPERATOR, 1, "t"), TableName::new(OPERATOR, 2, "t"), TableName::new(OPERATOR, 3, "t"));
    let mut shards = {
        let state = state(&root.path().join("w0"), 0..GROUPS, &Restore::default()).unwrap();
        for name in [&a, &gone] {
            let mut table = state.table(OPERATOR, name.variant, &spec("t")).unwrap();
            fill(&mut *table, 0..100, &name.variant.to_be_bytes());
        }
        assert!(state.table(OPERATOR, a.variant, &spec("t")).is_err(), "state is never given to two");
        store(state.snapshot(1).unwrap(), &storage, 0, 1)
    };
    // Variant 1 goes on as 2; a new table comes as 1, whose column family's name is taken.
    for (attempt, from) in [(2, &a), (3, &b)] {
        let restore = Restore { shards: shards.clone(), matches: vec![goes_on(from, &b)] };
        let dir = root.path().join(format!("w{attempt}"));
        let state = state(&dir, 0..GROUPS, &restore).unwrap();
        let kept = state.table(OPERATOR, b.variant, &spec("t")).unwrap();
        let mut new = state.table(OPERATOR, a.variant, &spec("t")).unwrap();
        assert!(new.is_empty());
        assert_eq!(all(&*kept, 0..GROUPS).len(), 100);
        assert!(all(&*kept, 0..GROUPS).iter().all(|(_, v)| *v == 1u64.to_be_bytes()));
        assert!(state.table(OPERATOR, gone.variant, &spec("t")).unwrap().is_empty());
        fill(&mut *new, 0..3, b"new");
        assert_eq!(all(&*new, 0..GROUPS).len(), 3);
        assert_eq!(all(&*kept, 0..GROUPS).len(), 100);
        shards = store(state.snapshot(1).unwrap(), &storage, attempt, 1);
        let names: Vec<_> = shards[0].tables.iter().map(|t| t.name.clone()).collect();
        assert_eq!(names, [a.clone(), b.clone()]);
    }
}

#[test]
fn values_lose_the_columns_that_are_no_longer_carried() {
    let root = tempfile::tempdir().unwrap();
    let storage = root.path().join("storage");
    std::fs::create_dir(&storage).unwrap();
    let types = vec![SqlType::BigInt, SqlType::STRING, SqlType::Int];
    let encoded = |types: &[SqlType], columns: &[ArrayRef]| {
        let mut values = KeyBatch::new();
        ValueCodec::new(types.to_vec()).encode(columns, columns[0].len(), &mut values).unwrap();
        values
    };
    const ROWS: u32 = 20_000;
    let columns: [ArrayRef; 3] = [
        Arc::new(Int64Array::from_iter_values((0..ROWS).map(i64::from))),
        Arc::new(StringArray::from_iter((0..ROWS).map(|i| (i % 3 > 0).then(|| format!("name {i}"))))),
        Arc::new(Int32Array::from_iter((0..ROWS).map(|i| Some(i as i32 * 2)))),
    ];
    let put = |table: &mut dyn StateTable, values: &KeyBatch| {
        let mut batch = WriteBatch::default();
        for (i, value) in values.iter().enumerate() {
            batch.put(key(i as u16 % GROUPS, &(i as u32).to_be_bytes()), value);
        }
        table.write(batch).unwrap();
    };
    let name = TableName::new(OPERATOR, 7, "t");
    let shards = {
        let (state, mut table) = open(root.path(), 0, 1, &Restore::default()).swap_remove(0);
        put(&mut *table, &encoded(&types, &columns));
        store(state.snapshot(1).unwrap(), &storage, 0, 1)
    };
    let keep = vec![2, 0];
    let narrow = Some(NarrowValues { types: types.clone(), keep });
    let restore = Restore { shards, matches: vec![TableMatch { narrow, ..goes_on(&name, &name) }] };
    let mut expected = MemoryTable::new(spec("t"));
    put(&mut expected, &encoded(&[SqlType::Int, SqlType::BigInt], &[columns[2].clone(), columns[0].clone()]));
    for workers in open(root.path(), 1, 2, &restore) {
        let groups = workers.0.config().groups.clone();
        assert!(all(&*workers.1, groups.clone()) == all(&expected, groups));
    }
}

fn stored_rows(root: &Path, rows: u32) -> (PathBuf, Vec<RestoredShard>) {
    let storage = root.join("storage");
    std::fs::create_dir(&storage).unwrap();
    let (state, mut table) = open(root, 0, 1, &Restore::default()).swap_remove(0);
    fill(&mut *table, 0..rows, b"some value");
    let shards = store(state.snapshot(1).unwrap(), &storage, 0, 1);
    (storage, shards)
}

fn sst(storage: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(storage).unwrap().map(|f| f.unwrap().path());
    files.find(|f| f.extension().is_some_and(|e| e == "sst")).unwrap()
}

#[test]
fn a_flipped_byte_is_found_when_it_is_read() {
    let root = tempfile::tempdir().unwrap();
    let (storage, shards) = stored_rows(root.path(), 5000);
    let path = sst(&storage);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (_, table) = open(root.path(), 1, 1, &same_names(&shards)).swap_remove(0);
    let e = (0..GROUPS)
        .find_map(|g| table.scan(&g.to_be_bytes(), None, false, &mut |_, _| ControlFlow::Continue(())).err())
        .expect("a flipped byte");
    assert_eq!(e.code(), ErrorCode::Checkpoint, "{e:?}");
    assert!(!e.is_transient() && e.message().contains(".sst"), "{e:?}");
    assert!(e.notes().iter().any(|n| n.contains(path.file_name().unwrap().to_str().unwrap())), "{e:?}");
}

#[test]
fn missing_and_shortened_files_are_named_before_anything_is_opened() {
    let root = tempfile::tempdir().unwrap();
    let (storage, shards) = stored_rows(root.path(), 100);
    let path = sst(&storage);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let restore = same_names(&shards);
    let e = state(&root.path().join("a"), 0..GROUPS, &restore).err().unwrap();
    assert!(e.code() == ErrorCode::Checkpoint && e.message().contains(path.to_str().unwrap()), "{e:?}");
    std::fs::remove_file(&path).unwrap();
    let e = state(&root.path().join("b"), 0..GROUPS, &restore).err().unwrap();
    assert!(e.message().contains(path.to_str().unwrap()) && e.message().contains("missing"), "{e:?}");
}

#[test]
fn the_checkpoint_s_files_are_never_changed_by_who_restores_them() {
    let root = tempfile::tempdir().unwrap();
    let (storage, shards) = stored_rows(root.path(), 20_000);
    let before: BTreeMap<_, _> = std::fs::read_dir(&storage)
        .unwrap()
        .map(|f| f.unwrap().path())
        .map(|p| (p.clone(), std::fs::read(p).unwrap()))
        .collect();
    let (state, mut table) = open(root.path(), 1, 2, &same_names(&shards)).swap_remove(0);
    for n in 1..20 {
        let mut batch = WriteBatch::default();
        for i in 0..500u32 {
            batch.put(key((i % 8) as u16, &i.to_be_bytes()), vec![n as u8; 10]);
        }
        table.write(batch).unwrap();
        state.snapshot(n).unwrap();
        state.release_snapshot(n).unwrap();
    }
    drop((state, table));
    for (path, bytes) in before {
        assert!(std::fs::read(&path).unwrap() == bytes, "{} changed", path.display());
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let state = state(&file.join("w0"), 0..GROUPS, &Restore::default()).unwrap();
    let mut table = state.table(OPERATOR, 1, &spec("t")).unwrap();
    let mut batch = WriteBatch::default();
    batch.put(key(0, b"k"), b"v".as_slice());
    let e = table.write(batch).unwrap_err();
    assert!(e.message().contains(file.to_str().unwrap()), "{e:?}");
}

/// CPU time of this process so far, in milliseconds (steps of 10): on a busy machine it says more than the clock.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    fields.get(11..13).map_or(0, |f| f.iter().filter_map(|t| t.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// Not run by default: prints the delay of a checkpoint tick for 10 M keys of which 1 % are dirty.
#[test]
#[ignore = "a measurement, half a minute"]
fn measure_snapshot_of_10_m_keys() {
    let dir = std::env::var("THALWEG_BENCH_DIR").unwrap_or("/tmp".into());
    let root = tempfile::tempdir_in(dir).unwrap();
    let mut hash = 1u64;
    let mut random_key = move || {
        hash = hash.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (hash >> 33) % 10_000_000
    };
    let keyed = |i: u64| key((i % u64::from(GROUPS)) as u16, &i.to_be_bytes());
    let value = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().repeat(3);
    let config = |dir: &str| StateConfig {
        dir: root.path().join(dir),
        groups: 0..GROUPS,
        max_parallelism: GROUPS,
        backend: Backend::RocksDb,
        budget: Budget::new(1 << 30),
    };
    let timed = |what: &str, f: &mut dyn FnMut()| {
        let (start, cpu) = (std::time::Instant::now(), cpu_ms());
        f();
        println!("{what}: {} ms, {} ms of CPU", start.elapsed().as_millis(), cpu_ms() - cpu);
    };
    let s = WorkerState::new(config("w"), &Restore::default()).unwrap();
    let mut table = s.table(OPERATOR, 1, &spec("t")).unwrap();
    timed("write 10 M rows", &mut || {
        for chunk in 0..100u64 {
            let mut batch = WriteBatch::default();
            for i in 0..100_000 {
                batch.put(keyed(chunk * 100_000 + i), value(i));
            }
            table.write(batch).unwrap();
        }
    });
    let storage = root.path().join("storage");
    std::fs::create_dir(&storage).unwrap();
    let mut shards = vec![];
    for n in 1..8 {
        let mut batch = WriteBatch::default();
        for _ in 0..100_000 {
            batch.put(keyed(random_key()), value(n));
        }
        let mut batch = Some(batch);
        timed("checkpoint: write", &mut || table.write(batch.take().unwrap()).unwrap());
        let mut snapshot = None;
        let mut task = None;
        timed("            begin", &mut || task = Some(s.begin_snapshot(n)));
        timed("            snapshot", &mut || snapshot = Some(task.take().unwrap().run().unwrap()));
        let snapshot = snapshot.unwrap();
        let new: u64 = snapshot[0].files.iter().filter(|f| f.stored.is_none()).map(|f| f.size).sum();
        shards = store(snapshot, &storage, 0, n);
        println!("            {} kB new", new / 1000);
        s.release_snapshot(n).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let mut keys = KeyBatch::new();
    (0..100_000).for_each(|_| keys.push(&keyed(random_key())));
    let mut absent = KeyBatch::new();
    (0..100_000).for_each(|_| absent.push(&keyed(random_key() + 20_000_000)));
    for _ in 0..2 {
        timed("read 100,000 random keys", &mut || assert_eq!(get(&*table, &keys).len(), 100_000));
    }
    timed("read 100,000 absent keys", &mut || assert_eq!(get(&*table, &absent).len(), 0));
    timed("scan 100,000 prefixes", &mut || {
        table.scan_many(&keys, &mut |_, _, _| ControlFlow::Continue(())).unwrap();
    });
    drop((s, table));
    let mut again = None;
    timed("restore", &mut || again = Some(WorkerState::new(config("again"), &same_names(&shards)).unwrap()));
    let s = again.unwrap();
    println!("{} MB on disk", s.bytes_on_disk() / 1_000_000);
    let table = s.table(OPERATOR, 1, &spec("t")).unwrap();
    timed("read 100,000 random keys", &mut || assert_eq!(get(&*table, &keys).len(), 100_000));
}
