//! What goes on from a checkpoint and what is refused: names, layout and neighbours of a statement do not matter, its
//! meaning does; and nothing that is stored is touched by a refusal.

mod support;

use std::path::{Path, PathBuf};

use support::changelog::{fold, lines};
use support::engine::{Thalweg, run, thalweg};
use support::files::{assert_untouched, contents, find, newest_checkpoint, newest_manifest};
use support::in_parallel;
use support::workload::{Script, Workload, inserts, statement_set};

const JOBS_AT_A_TIME: usize = 4;

/// A folder with a state directory, the sinks' folders, and scripts.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn dir(&self) -> PathBuf {
        self.path("state")
    }

    fn out(&self) -> PathBuf {
        self.path("out")
    }

    fn script(&self, name: &str, sql: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, sql).unwrap();
        path
    }

    /// Runs a script until it has taken some checkpoints and its sinks hold something, and ends it with `kill -9`.
    fn killed_in_the_middle(&self, sql: &str, workers: usize) {
        let script = self.script("first.sql", sql);
        let mut engine = run(&script, &self.dir(), workers).start();
        let out = self.out();
        let has_output = || find_or_none(&out, "part-").iter().any(|p| !p.starts_with(out.join("copied")));
        let is_there = |dir: &Path| newest_checkpoint(dir) >= 4 && has_output();
        assert!(engine.wait_until("checkpoint", |_| is_there(&self.dir())), "{}", engine.stderr_so_far());
        assert!(engine.kill(), "it ended before it was killed: {}", engine.stderr_so_far());
    }

    fn run(&self, sql: &str, workers: usize) -> Thalweg {
        run(&self.script("again.sql", sql), &self.dir(), workers)
    }
}

fn find_or_none(folder: &Path, word: &str) -> Vec<PathBuf> {
    if folder.is_dir() { find(folder, word) } else { vec![] }
}

/// A script before the kill and after it.
struct Edit {
    name: &'static str,
    before: fn(&str, &Path) -> String,
    after: fn(&str, &Path) -> String,
    /// What the job's restore must say.
    says: &'static str,
}

fn plain(tables: &str, _: &Path) -> String {
    tables.to_owned() + &statement_set(&inserts("o", "c"))
}

/// Behind other queries of the same session, Top-N among them.
fn plain_behind_others(tables: &str, folder: &Path) -> String {
    let others = "EXPLAIN SELECT COUNT(*) FROM orders;
      CREATE TEMPORARY VIEW v AS SELECT region, COUNT(*) AS n FROM customers GROUP BY region;
      SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY n ORDER BY region) AS rn FROM v) WHERE rn <= 2;
      EXPLAIN SELECT o.id FROM orders o JOIN customers c ON o.id = c.id;\n";
    plain(&(tables.to_owned() + others), folder)
}

/// Another table and sink that have nothing to do with the rest.
fn unrelated(folder: &Path) -> (String, String) {
    let folder = folder.display();
    let tables = format!(
        "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'fields.n.kind' = 'sequence',
           'fields.n.start' = '1', 'fields.n.end' = '50');
         CREATE TABLE copied (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{folder}/copied', 'format' = 'json');\n"
    );
    (tables, "INSERT INTO copied SELECT n FROM numbers WHERE n > 10;".to_owned())
}

const EDITS: &[Edit] = &[
    Edit { name: "nothing", before: plain, after: plain, says: "0 new, 0 dropped" },
    Edit {
        name: "aliases and layout",
        before: plain,
        after: |tables, _| {
            let text = statement_set(&inserts("purchase", "buyer"));
            tables.to_owned() + &text.replace("\n  ", "\n\t-- why\n /* and\n how */ ").replace(" AS ", "\n  as\n")
        },
        says: "0 new, 0 dropped",
    },
    Edit {
        name: "order of statements",
        before: plain,
        after: |tables, _| {
            let mut all = inserts("o", "c");
            all.reverse();
            let mut tables: Vec<&str> = tables.split_inclusive(";\n").collect();
            tables.reverse();
            tables.concat() + &statement_set(&all)
        },
        says: "0 new, 0 dropped",
    },
    Edit { name: "queries planned before", before: plain, after: plain_behind_others, says: "0 new, 0 dropped" },
    Edit { name: "no queries planned before", before: plain_behind_others, after: plain, says: "0 new, 0 dropped" },
    Edit {
        name: "a job more",
        before: plain,
        after: |tables, f| {
            let (more, insert) = unrelated(f);
            plain(&(tables.to_owned() + &more + &insert), f)
        },
        says: "0 new, 0 dropped",
    },
    Edit {
        name: "a job less",
        before: |tables, f| {
            let (more, insert) = unrelated(f);
            plain(&(tables.to_owned() + &more + &insert), f)
        },
        after: plain,
        says: "0 new, 0 dropped",
    },
    Edit {
        name: "an insert more in the set",
        before: plain,
        after: |tables, f| {
            let (more, insert) = unrelated(f);
            let mut all = inserts("o", "c").to_vec();
            all.insert(0, insert);
            tables.to_owned() + &more + &statement_set(&all)
        },
        says: "0 dropped",
    },
];

#[test]
fn what_does_not_change_the_meaning_goes_on_from_the_checkpoint() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 8_000);
    let cases: Vec<(&Edit, bool)> = EDITS.iter().flat_map(|e| [(e, false), (e, true)]).collect();
    in_parallel(
        JOBS_AT_A_TIME,
        &cases,
        |(e, replan)| format!("{}, replan: {replan}", e.name),
        |(edit, replan)| {
            let place = Place::new();
            let tables = workload.tables(&place.out(), Script { keys: true, rate: 8_000 });
            place.killed_in_the_middle(&(edit.before)(&tables, &place.out()), 2);
            let flags: &[&str] = if *replan { &["--replan"] } else { &[] };
            let ended = place.run(&(edit.after)(&tables, &place.out()), 2).args(flags).succeeds();
            ended.says(&["restored checkpoint", edit.says]);
            workload.assert_answers(&place.out(), true);
        },
    );
}

#[test]
fn a_set_goes_on_without_the_insert_that_was_taken_out() {
    let inputs = tempfile::tempdir().unwrap();
    let workload = Workload::generate(inputs.path(), support::seed(), 8_000);
    let cases: [&[&str]; 2] = [&[], &["--replan"]];
    in_parallel(JOBS_AT_A_TIME, &cases, |c| format!("{c:?}"), |flags| goes_on_without_an_insert(&workload, flags));
}

fn goes_on_without_an_insert(workload: &Workload, flags: &[&str]) {
    let place = Place::new();
    let tables = workload.tables(&place.out(), Script { keys: true, rate: 8_000 });
    let (more, insert) = unrelated(&place.out());
    let mut all = inserts("o", "c").to_vec();
    all.push(insert);
    let script = place.script("first.sql", &(tables.clone() + &more + &statement_set(&all)));
    let mut engine = run(&script, &place.dir(), 2).start();
    assert!(engine.wait_until("checkpoint", |_| newest_checkpoint(&place.dir()) >= 4));
    // An orderly stop: nothing waits for the sink that goes.
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    // Its source's position goes with it: nothing that goes on ever read it. That is said, and needs no flag.
    let ended = place.run(&plain(&tables, &place.out()), 2).args(flags).succeeds();
    ended.says(&["restored checkpoint", "0 new, 3 dropped"]);
    let dropped: Vec<&str> = ended.stderr.lines().filter(|l| l.starts_with("  dropped  ")).collect();
    assert_eq!(dropped.len(), 2, "{ended}");
    assert!(dropped.iter().any(|l| l.contains("Source numbers") && l.contains("after 50 rows")), "{ended}");
    assert!(dropped.iter().any(|l| l.contains("Sink copied")), "{ended}");
    workload.assert_answers(&place.out(), true);
    assert_eq!(lines(&place.out().join("copied")).len(), 40);
}

/// Events that are only added, and one aggregate of them.
const EVENTS: usize = 6_000;
const KEYS: usize = 40;

fn write_events(folder: &Path) {
    let text: String = (0..EVENTS).map(|i| format!("{{\"id\":{i},\"k\":{},\"v\":{}}}\n", i % KEYS, i % 97)).collect();
    std::fs::write(folder.join("events.json"), text).unwrap();
}

fn events(place: &Place, v: &str, rate: usize) -> String {
    let folder = place.folder.path().display();
    format!(
        "SET 'execution.checkpointing.interval' = '50 ms'; SET 'restart-strategy.type' = 'none';
         CREATE TABLE events (id BIGINT, k INT, v {v}) WITH ('connector' = 'filesystem', 'format' = 'json',
           'path' = '{folder}/events.json', 'scan.rate-limit' = '{rate}');
         CREATE TABLE totals (k INT, n BIGINT, total BIGINT, most BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH (
           'connector' = 'filesystem', 'path' = '{folder}/out/totals', 'format' = 'debezium-json');
         CREATE TABLE passed (id BIGINT, v BIGINT) WITH (
           'connector' = 'filesystem', 'path' = '{folder}/out/passed', 'format' = 'json');\n"
    )
}

fn aggregate(place: &Place) -> String {
    events(place, "BIGINT", 6_000) + "INSERT INTO totals SELECT k, COUNT(*), SUM(v), MAX(v) FROM events GROUP BY k;"
}

/// The aggregate job, killed in the middle: every key has rows that are still to be read.
fn killed_aggregate() -> Place {
    let place = Place::new();
    write_events(place.folder.path());
    place.killed_in_the_middle(&aggregate(&place), 2);
    // On a busy machine the kill may come late.
    if rows_read(&place) as usize + KEYS > EVENTS { killed_aggregate() } else { place }
}

fn assert_aggregate(place: &Place) {
    let fold = fold(&place.out().join("totals"), Some(&["k"])).unwrap();
    let answer = (0..KEYS)
        .map(|k| {
            let values: Vec<usize> = (0..EVENTS).filter(|i| i % KEYS == k).map(|i| i % 97).collect();
            let (n, total, most) = (values.len(), values.iter().sum::<usize>(), values.iter().max().unwrap());
            format!("[{k},{n},{total},{most}]")
        })
        .collect();
    assert_eq!(fold.rows, answer);
}

/// The two best of each key, as `type` and with the names and conditions that are given.
fn best(place: &Place, v: &str, tables: &str, condition: &str) -> String {
    let folder = place.folder.path().display();
    events(place, v, 6_000)
        + tables
        + &format!(
            "CREATE TABLE best (k INT, rn BIGINT, id BIGINT, v BIGINT) WITH (
               'connector' = 'filesystem', 'path' = '{folder}/out/best', 'format' = 'debezium-json');
INSERT INTO best SELECT k, rn, id, v FROM (
  SELECT k, id, v,
         ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC, id) AS rn
    FROM events {condition})
 WHERE rn <= 2;
"
        )
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A change of the script that is refused.
struct Refused {
    name: &'static str,
    before: fn(&Place) -> String,
    after: fn(&Place) -> String,
    /// With `LINE:` for the line of the script that holds the text behind it: `LINE:ROW_NUMBER`.
    says: &'static [&'static str],
    /// What it takes to go on nevertheless; empty: nothing does.
    flags: &'static [&'static str],
}

const DROPS: &str = "--allow-non-restored-state";
const MISSES: &str = "--allow-partial-history";

const REFUSED: &[Refused] = &[
    Refused {
        name: "a key of another type",
        before: |p| best(p, "BIGINT", "", ""),
        after: |p| best(p, "DECIMAL(12, 4)", "", ""),
        says: &[
            "again.sql:LINE:ROW_NUMBER:10 TopN ROW_NUMBER <= 2 PER k ORDER BY v DESC, id",
            "state table \"rows\": checkpoint",
            "key 1 k INT k INT",
            "key 2 v BIGINT DESC v DECIMAL(12, 4) DESC ← type differs",
            "key 3 id BIGINT id BIGINT",
            "set the script back to what it was goes on from checkpoint",
        ],
        flags: &[DROPS, MISSES],
    },
    Refused {
        name: "a column more",
        before: |p| best(p, "BIGINT", "", "").replace("best SELECT k, rn, id, v", "best SELECT k, rn, id, id"),
        after: |p| {
            best(p, "BIGINT, note STRING", "", "")
                .replace("best SELECT k, rn, id, v", "best SELECT k, rn, id, CHAR_LENGTH(note)")
                .replace("SELECT k, id, v,", "SELECT k, id, v, note,")
        },
        says: &["again.sql:LINE:ROW_NUMBER:10 TopN", "— note STRING ← not in the checkpoint"],
        flags: &[DROPS, MISSES],
    },
    Refused {
        name: "another filter below state",
        before: |p| best(p, "BIGINT", "", ""),
        after: |p| best(p, "BIGINT", "", "WHERE v > 10"),
        says: &[
            "again.sql:LINE:ROW_NUMBER:10 TopN ROW_NUMBER <= 2",
            "is new and has no state, but its source events goes on from tick",
            "rows read before, and its answers would be wrong.",
            "again.sql:LINE:INSERT INTO best:13 Sink best",
            "gets its rows another way than before",
            "is not in this script: its state (rows",
            "drops the state named above; what is new answers for new rows only",
        ],
        flags: &[DROPS, MISSES],
    },
    Refused {
        name: "a new insert that reads an old source",
        before: |p| {
            events(p, "BIGINT", 6_000)
                + "SET 'pipeline.name' = 'j';\nEXECUTE STATEMENT SET BEGIN\nINSERT INTO totals SELECT k, COUNT(*), SUM(v), MAX(v) FROM events GROUP BY k;\nEND;"
        },
        after: |p| {
            events(p, "BIGINT", 6_000)
                + "SET 'pipeline.name' = 'j';\nEXECUTE STATEMENT SET BEGIN\nINSERT INTO totals SELECT k, COUNT(*), SUM(v), MAX(v) FROM events GROUP BY k;\nINSERT INTO passed SELECT id, v FROM events;\nEND;"
        },
        says: &[
            "again.sql:LINE:INSERT INTO passed:13 Sink passed",
            "is new, but its source events goes on from tick",
            "and the target would lack what they gave.",
        ],
        flags: &[MISSES],
    },
    Refused {
        name: "an insert with state taken out of a set",
        before: |p| {
            events(p, "BIGINT", 6_000)
                + "SET 'pipeline.name' = 'j';\nEXECUTE STATEMENT SET BEGIN\nINSERT INTO totals SELECT k, COUNT(*), SUM(v), MAX(v) FROM events GROUP BY k;\nINSERT INTO passed SELECT id, v FROM events;\nEND;"
        },
        after: |p| {
            events(p, "BIGINT", 6_000)
                + "SET 'pipeline.name' = 'j';\nEXECUTE STATEMENT SET BEGIN\nINSERT INTO passed SELECT id, v FROM events;\nEND;"
        },
        says: &["Aggregate", "is not in this script: its state (", "drops the state named above"],
        flags: &[DROPS],
    },
    Refused {
        name: "another source before an old sink",
        before: |p| events(p, "BIGINT", 6_000) + "INSERT INTO passed SELECT id, v FROM events;",
        after: |p| {
            events(p, "BIGINT", 6_000).replace("events.json", "others.json")
                + "INSERT INTO passed SELECT id, v FROM events;"
        },
        says: &["Source events (filesystem)", "is not in this script: its position, after", "would be dropped."],
        flags: &[DROPS],
    },
    Refused {
        name: "another number of key groups",
        before: |p| best(p, "BIGINT", "", ""),
        after: |p| "SET 'pipeline.max-parallelism' = '512';\n".to_owned() + &best(p, "BIGINT", "", ""),
        says: &["pipeline.max-parallelism is 512, but the state is stored in 256 key groups"],
        flags: &[],
    },
    Refused {
        name: "two stored jobs for one",
        before: |p| {
            events(p, "BIGINT", 6_000)
                + "INSERT INTO totals SELECT k, COUNT(*), SUM(v), MAX(v) FROM events GROUP BY k;\nINSERT INTO passed SELECT id, v FROM events;"
        },
        after: |p| {
            events(p, "BIGINT", 6_000)
                + "EXECUTE STATEMENT SET BEGIN\nINSERT INTO totals SELECT k, COUNT(*), SUM(v), MAX(v) FROM events GROUP BY k;\nINSERT INTO passed SELECT id, v FROM events;\nEND;"
        },
        says: &["could go on from two stored jobs: passed (", ") and totals (", "SET 'pipeline.name'", "STATEMENT SET"],
        flags: &[],
    },
    Refused {
        name: "a sink of another stored job",
        before: |p| {
            events(p, "BIGINT", 6_000)
                + "SET 'pipeline.name' = 'a'; INSERT INTO totals SELECT k, COUNT(*), SUM(v), MAX(v) FROM events GROUP BY k;\nSET 'pipeline.name' = 'b'; INSERT INTO passed SELECT id, v FROM events;"
        },
        after: |p| {
            events(p, "BIGINT", 6_000) + "SET 'pipeline.name' = 'a'; INSERT INTO passed SELECT id, v FROM events;"
        },
        says: &["job a writes to sink passed, which belongs to the stored job b (", "give the sink another target"],
        flags: &[],
    },
];

#[test]
fn every_refusal_says_where_and_what_can_be_chosen_and_leaves_no_trace() {
    in_parallel(
        JOBS_AT_A_TIME,
        REFUSED,
        |r| r.name.to_owned(),
        |refused| {
            let place = Place::new();
            write_events(place.folder.path());
            std::fs::copy(place.path("events.json"), place.path("others.json")).unwrap();
            let script = place.script("first.sql", &(refused.before)(&place));
            let mut engine = run(&script, &place.dir(), 2).start();
            // Of two jobs each has got somewhere.
            assert!(
                engine.wait_until("checkpoint", |_| newest_checkpoint(&place.dir()) >= 5),
                "{}",
                engine.stderr_so_far()
            );
            engine.signal("INT");
            let ended = engine.wait();
            assert_eq!(ended.status.code(), Some(0), "{ended}");
            let (stored, written) = (contents(&place.dir().join("checkpoints")), contents(&place.out()));
            let untouched = || {
                assert_untouched(&stored, &place.dir().join("checkpoints"));
                assert_untouched(&written, &place.out());
            };

            let sql = (refused.after)(&place);
            place.script("again.sql", &sql);
            let again = || run(Path::new("again.sql"), &place.dir(), 2).current_dir(place.folder.path());
            let ended = again().fails();
            let said = words(&ended.stderr);
            for part in refused.says {
                let part = match part.split_once("LINE:") {
                    Some((before, rest)) => {
                        let (text, after) = rest.split_once(':').unwrap();
                        let line = sql.lines().position(|l| l.contains(text)).unwrap() + 1;
                        format!("{before}{line}:{after}")
                    }
                    None => (*part).to_owned(),
                };
                assert!(said.contains(&words(&part)), "{part:?} is not said\n{ended}");
            }
            if !said.contains("two stored jobs") && !said.contains("belongs to the stored job") {
                assert!(said.contains("(nothing was started or changed)"), "{ended}");
                assert!(said.contains("Choose one:") && said.contains("--fresh reads all sources again"), "{ended}");
                assert_eq!(said.contains(DROPS), refused.flags.contains(&DROPS), "{ended}");
                assert_eq!(said.contains(MISSES), refused.flags.contains(&MISSES), "{ended}");
            }
            untouched();
            // Each flag alone is not enough where both are needed; and none helps where none is offered.
            let fewer: Vec<&[&str]> = match refused.flags {
                [] => vec![&[DROPS, MISSES]],
                [_] => vec![],
                both => both.chunks(1).collect(),
            };
            for flags in fewer {
                again().args(flags).fails();
                untouched();
            }
            if !refused.flags.is_empty() {
                let ended = again().args(refused.flags).succeeds();
                ended.says(&["restored checkpoint"]);
                let has = |what: &str| ended.stderr.lines().any(|l| l.starts_with(&format!("  {what:<8} ")));
                assert!(has("reused"), "{ended}");
                assert_eq!(has("dropped"), refused.flags.contains(&DROPS), "{ended}");
                assert_eq!(ended.stderr.contains("(partial history)"), refused.flags.contains(&MISSES), "{ended}");
            }
        },
    );
}

#[test]
fn another_meaning_is_refused_without_a_trace_and_flags_allow_it() {
    let place = killed_aggregate();
    let before = contents(place.folder.path().join("state/checkpoints").as_path());
    let written = contents(&place.out());
    let untouched = || {
        assert_untouched(&before, &place.dir().join("checkpoints"));
        assert_untouched(&written, &place.out());
    };

    let other_type =
        events(&place, "INT", 6_000) + "INSERT INTO totals SELECT k, COUNT(*), SUM(v), MAX(v) FROM events GROUP BY k;";
    place.run(&other_type, 2).fails().says(&["does not fit checkpoint", "nothing was started or changed", "--fresh"]);
    untouched();

    let filtered = events(&place, "BIGINT", 6_000)
        + "INSERT INTO totals SELECT k, COUNT(*), SUM(v), MAX(v) FROM events WHERE v > 10 GROUP BY k;";
    place.run(&filtered, 2).fails().says(&[
        "does not fit checkpoint",
        "Aggregate",
        "is new and has no state",
        "rows read before",
        "is not in this script",
        "--allow-non-restored-state --allow-partial-history",
    ]);
    untouched();
    place.run(&filtered, 2).arg("--allow-partial-history").fails().says(&["--allow-non-restored-state"]);
    untouched();
    place.run(&filtered, 2).arg("--allow-non-restored-state").fails().says(&["--allow-partial-history"]);
    untouched();

    // The stored job still goes on as if nothing had been tried.
    place.run(&aggregate(&place), 1).succeeds().says(&["restored checkpoint", "2 → 1 workers"]);
    assert_aggregate(&place);
}

#[test]
fn with_both_flags_another_aggregate_goes_on_from_the_position() {
    let place = killed_aggregate();
    let filtered = events(&place, "BIGINT", 6_000)
        + "INSERT INTO totals SELECT k, COUNT(*), SUM(v), MAX(v) FROM events WHERE v > 10 GROUP BY k;";
    let ended = place.run(&filtered, 2).args(&["--allow-partial-history", "--allow-non-restored-state"]).succeeds();
    ended.says(&["restored checkpoint", "partial history"]);
}

#[test]
fn another_filter_without_state_goes_on_and_orphans_no_output() {
    let place = Place::new();
    write_events(place.folder.path());
    let with = |filter: &str| {
        events(&place, "BIGINT", 6_000) + &format!("INSERT INTO passed SELECT id, v FROM events WHERE {filter};")
    };
    place.killed_in_the_middle(&with("v >= 0"), 2);
    place.run(&with("v >= 0 AND v < 1000"), 2).succeeds().says(&["restored checkpoint"]);
    let mut ids: Vec<u64> = lines(&place.out().join("passed"))
        .iter()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["id"].as_u64().unwrap())
        .collect();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..EVENTS as u64), "{} rows", ids.len());
}

#[test]
fn fresh_begins_anew_and_sets_the_old_job_aside() {
    let place = killed_aggregate();
    std::fs::remove_dir_all(place.out()).unwrap();
    place.run(&aggregate(&place), 2).arg("--fresh").succeeds().says(&["begins anew", "set aside"]);
    assert_aggregate(&place);
}

#[test]
fn a_fresh_job_that_cannot_begin_leaves_the_stored_one_as_it_was() {
    let place = killed_aggregate();
    let old = contents(&place.dir().join("checkpoints"));
    let away = events(&place, "BIGINT", 6_000)
        + "CREATE TABLE away (k BIGINT, v BIGINT) WITH ('connector' = 'mysql-cdc', 'hostname' = '127.0.0.1', 'port' = '1',
             'username' = 'root', 'database-name' = 'd', 'table-name' = 't');
           INSERT INTO totals SELECT k, COUNT(*), SUM(v), MAX(v) FROM away GROUP BY k;";
    place.run(&away, 2).arg("--fresh").fails().says(&["127.0.0.1:1", "the stored job is as it was"]);
    assert_untouched(&old, &place.dir().join("checkpoints"));
    place.run(&aggregate(&place), 1).succeeds().says(&["restored checkpoint"]);
    assert_aggregate(&place);
}

#[test]
fn from_a_checkpoint_a_new_job_goes_on_with_its_state() {
    let place = killed_aggregate();
    let old = contents(&place.dir().join("checkpoints"));
    let manifest = newest_manifest(&place.dir()).unwrap();
    std::fs::remove_dir_all(place.out()).unwrap();
    let other_dir = place.path("other");
    let ended = run(&place.script("again.sql", &aggregate(&place)), &other_dir, 3)
        .arg("--from")
        .arg(manifest.display())
        .succeeds();
    ended.says(&["is a new job with the state of"]);
    assert_untouched(&old, &place.dir().join("checkpoints"));
    // Every key changed after the checkpoint: its last row is the whole answer, though the target saw only its changes.
    let text: String =
        find(&place.out().join("totals"), "part-").iter().map(|p| std::fs::read_to_string(p).unwrap()).collect();
    for k in 0..KEYS {
        let n = (0..EVENTS).filter(|i| i % KEYS == k).count();
        assert!(text.contains(&format!("\"after\":{{\"k\":{k},\"n\":{n},")), "no full count of key {k}");
    }
}

#[test]
fn a_checkpoint_of_another_job_is_refused() {
    let place = killed_aggregate();
    let before = contents(&place.dir().join("checkpoints"));
    let manifest = newest_manifest(&place.dir()).unwrap();
    let passed = events(&place, "BIGINT", 6_000) + "INSERT INTO passed SELECT id, v FROM events;";
    // One needs state that is not there, the other none of what is.
    for (sql, reasons) in [
        (best(&place, "BIGINT", "", ""), ["TopN ROW_NUMBER <= 2", "is new and has no state"]),
        (passed, ["Aggregate", "is not in this script: its state ("]),
    ] {
        let script = place.script("other.sql", &sql);
        let ended = run(&script, &place.path("other"), 2).arg("--from").arg(manifest.display()).fails();
        ended.says(&["does not fit checkpoint"]).says(&reasons);
    }
    run(&place.path("other.sql"), &place.path("other"), 2)
        .arg("--from")
        .arg(place.path("nowhere").display())
        .fails()
        .says(&["there is no checkpoint at"]);
    assert_untouched(&before, &place.dir().join("checkpoints"));
}

/// Killed before the new job has begun, there is none, and the old one goes on; killed after it, it has all of the state.
#[test]
fn from_is_one_step() {
    for (point, begun) in [("state-adopted", false), ("manifest-put", true), ("from-begun", true)] {
        let place = killed_aggregate();
        let manifest = newest_manifest(&place.dir()).unwrap();
        let copy = place.path("copy");
        copy_folder(&place.dir().join("checkpoints"), &copy);
        let manifest = copy.join(manifest.strip_prefix(place.dir().join("checkpoints")).unwrap());
        let jobs_before = job_folders(&place.dir());
        let (written, read) = (contents(&place.out()), rows_read(&place));
        let from = |place: &Place| place.run(&aggregate(place), 2).arg("--from").arg(manifest.display());
        let ended = from(&place).fail_point(point).ended();
        assert!(ended.was_killed(), "{ended}");
        assert_untouched(&written, &place.out());
        if begun {
            // Without the flag too: the new job is the stored one now, and not one row is read twice.
            let ended = place.run(&aggregate(&place), 2).succeeds();
            let rest = EVENTS as u64 - read;
            ended.says(&["restored checkpoint", &format!("finished: {} changes in", count(rest))]);
            assert_ne!(job_folders(&place.dir()), jobs_before);
            assert_last_counts(&place);
        } else {
            // What was copied is no job: the old one goes on.
            let ended = place.run(&aggregate(&place), 2).succeeds();
            ended.says(&["restored checkpoint", "0 new, 0 dropped"]);
            assert_eq!(job_folders(&place.dir()), jobs_before, "what never began is cleared away");
            assert_aggregate(&place);
        }
        // And again, from the same checkpoint, in a directory of its own.
        let other = run(&place.script("again.sql", &aggregate(&place)), &place.path("other"), 2);
        let ended = other.arg("--from").arg(manifest.display()).fail_point(point).ended();
        assert!(ended.was_killed(), "{ended}");
        let mut other = run(&place.path("again.sql"), &place.path("other"), 3);
        if !begun {
            other = other.arg("--from").arg(manifest.display());
        }
        other.succeeds().says(&["restored checkpoint"]);
        assert_last_counts(&place);
    }
}

/// Every key changed after the checkpoint: its last row is the whole answer, though the target saw only its changes.
fn assert_last_counts(place: &Place) {
    let parts = find(&place.out().join("totals"), "part-");
    let text: String = parts.iter().map(|p| std::fs::read_to_string(p).unwrap()).collect();
    for k in 0..KEYS {
        let n = (0..EVENTS).filter(|i| i % KEYS == k).count();
        assert!(text.contains(&format!("\"after\":{{\"k\":{k},\"n\":{n},")), "no full count of key {k}");
    }
}

/// `5,450`
fn count(n: u64) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", n / 1000, n % 1000) }
}

/// Rows that the newest checkpoint has read.
fn rows_read(place: &Place) -> u64 {
    let text = std::fs::read_to_string(newest_manifest(&place.dir()).unwrap()).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    manifest["manifest"]["sources"][0]["rows"].as_u64().unwrap()
}

fn job_folders(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<String> = names.map(|n| n.to_string_lossy().into_owned()).filter(|n| n.len() == 32).collect();
    names.sort();
    names
}

/// Copies, and links nothing.
fn copy_folder(from: &Path, to: &Path) {
    for (path, bytes) in contents(from) {
        let to = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
}

/// How a file is damaged.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Missing,
    Shortened,
    Empty,
    Flipped,
}

fn damage(file: &Path, how: Damage) {
    let mut bytes = std::fs::read(file).unwrap();
    match how {
        Damage::Missing => return std::fs::remove_file(file).unwrap(),
        Damage::Shortened => bytes.truncate(bytes.len() / 2),
        Damage::Empty => bytes.clear(),
        Damage::Flipped => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
        }
    }
    // State files are linked: the copy that is damaged must be this one only.
    std::fs::remove_file(file).unwrap();
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_damaged_manifest_is_an_error_and_nothing_is_overwritten() {
    let cases = [Damage::Shortened, Damage::Empty, Damage::Flipped];
    in_parallel(
        JOBS_AT_A_TIME,
        &cases,
        |d| format!("{d:?}"),
        |how| {
            let place = killed_aggregate();
            let manifest = newest_manifest(&place.dir()).unwrap();
            damage(&manifest, *how);
            let before = contents(&place.dir().join("checkpoints"));
            let name = manifest.file_name().unwrap().to_string_lossy().into_owned();
            let ended = place.run(&aggregate(&place), 2).fails();
            ended.says(&[&name, "is damaged"]);
            assert_untouched(&before, &place.dir().join("checkpoints"));
        },
    );
}

/// A new job needs nothing of the old one, so it begins whatever is left of that, touches nothing of it, and is the one
/// that later runs go on with.
#[test]
fn fresh_begins_over_whatever_is_left_of_the_old_job() {
    let cases = [Damage::Missing, Damage::Shortened, Damage::Empty, Damage::Flipped];
    in_parallel(
        JOBS_AT_A_TIME,
        &cases,
        |d| format!("{d:?}"),
        |how| {
            let place = killed_aggregate();
            for manifest in find(&place.dir().join("checkpoints"), "MANIFEST-") {
                if manifest.extension().is_some_and(|e| e == "json") {
                    damage(&manifest, *how);
                }
            }
            std::fs::remove_dir_all(place.out()).unwrap();
            let before = contents(&place.dir().join("checkpoints"));
            let stays = || {
                let after = contents(&place.dir().join("checkpoints"));
                let differs: Vec<_> = before.iter().filter(|(p, b)| after.get(*p) != Some(b)).map(|(p, _)| p).collect();
                assert!(differs.is_empty(), "changed: {differs:?}");
            };
            let mut engine = place.run(&aggregate(&place), 2).arg("--fresh").start();
            let has_output = |_: &_| !find_or_none(&place.out(), "part-").is_empty();
            assert!(engine.wait_until("output", has_output), "{}", engine.stderr_so_far());
            assert!(
                engine.stderr_so_far().contains("cannot be read and is left as it is"),
                "{}",
                engine.stderr_so_far()
            );
            assert!(engine.kill());
            stays();
            // The damaged one is in nobody's way any more.
            place.run(&aggregate(&place), 1).succeeds();
            assert_aggregate(&place);
            stays();
            // But for another job it might be the one.
            let other = events(&place, "BIGINT", 6_000) + "INSERT INTO passed SELECT id, v FROM events;";
            place.run(&other, 1).fails();
            stays();
        },
    );
}

#[test]
fn a_job_whose_manifests_are_missing_is_not_begun_anew() {
    let place = killed_aggregate();
    for manifest in find(&place.dir().join("checkpoints"), "MANIFEST-") {
        if manifest.extension().is_some_and(|e| e == "json") {
            std::fs::remove_file(manifest).unwrap();
        }
    }
    let before = contents(&place.dir().join("checkpoints"));
    let written = contents(&place.out());
    place.run(&aggregate(&place), 2).fails().says(&["all manifests of the job in", "are missing"]);
    assert_untouched(&before, &place.dir().join("checkpoints"));
    assert_untouched(&written, &place.out());
}

#[test]
fn a_damaged_state_file_is_an_error_and_nothing_is_overwritten() {
    let cases = [Damage::Missing, Damage::Shortened, Damage::Empty];
    in_parallel(
        JOBS_AT_A_TIME,
        &cases,
        |d| format!("{d:?}"),
        |how| {
            let place = killed_aggregate();
            let manifest = std::fs::read_to_string(newest_manifest(&place.dir()).unwrap()).unwrap();
            // One that the newest manifest lists.
            let files = find(&place.dir().join("checkpoints"), ".sst");
            let listed = |p: &PathBuf| manifest.contains(&p.file_name().unwrap().to_string_lossy().into_owned());
            let file = files.into_iter().rfind(listed).expect("the state is in files");
            damage(&file, *how);
            let before = contents(&place.dir().join("checkpoints"));
            let ended = place.run(&aggregate(&place), 2).fails();
            ended.says(&[&file.file_name().unwrap().to_string_lossy()]);
            let manifests = |all: &std::collections::BTreeMap<PathBuf, Vec<u8>>| {
                all.iter()
                    .filter(|(p, _)| p.extension().is_none_or(|e| e != "json"))
                    .map(|(p, b)| (p.clone(), b.clone()))
                    .collect()
            };
            // The attempt's claim may have been put; no file of the state or of the output is touched.
            let kept: std::collections::BTreeMap<_, _> = manifests(&before);
            let after = contents(&place.dir().join("checkpoints"));
            for (path, bytes) in &kept {
                assert!(after.get(path) == Some(bytes), "{} was changed", path.display());
            }
            let inspected = thalweg(["checkpoint", "inspect"]).arg(place.dir().display()).arg("--verify").ended();
            assert_eq!(inspected.status.code(), Some(1), "{inspected}");
        },
    );
}

#[test]
fn a_flipped_bit_in_a_state_file_is_found_by_verify() {
    let place = killed_aggregate();
    let verify = || thalweg(["checkpoint", "inspect"]).arg(place.dir().display()).arg("--verify").ended();
    let whole = verify();
    assert_eq!(whole.status.code(), Some(0), "{whole}");
    assert!(whole.stdout.contains("checksums are right"), "{whole}");
    let manifest = std::fs::read_to_string(newest_manifest(&place.dir()).unwrap()).unwrap();
    let files = find(&place.dir().join("checkpoints"), ".sst");
    let listed = |p: &PathBuf| manifest.contains(&p.file_name().unwrap().to_string_lossy().into_owned());
    damage(&files.into_iter().rfind(listed).unwrap(), Damage::Flipped);
    let ended = verify();
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    // It is an error when it is read; never another answer.
    let again = place.run(&aggregate(&place), 2).ended();
    match again.status.code() {
        Some(0) => assert_aggregate(&place),
        _ => assert_eq!(again.status.code(), Some(1), "{again}"),
    }
}

#[test]
fn a_second_process_on_the_same_directory_says_so_at_once() {
    let place = Place::new();
    write_events(place.folder.path());
    let sql = events(&place, "BIGINT", 2_000) + "INSERT INTO passed SELECT id, v FROM events;";
    let script = place.script("job.sql", &sql);
    let mut first = run(&script, &place.dir(), 1).start();
    assert!(first.wait_until("checkpoint", |_| newest_checkpoint(&place.dir()) >= 2));
    run(&script, &place.dir(), 1).fails().says(&["is in use by process", "use another directory"]);
    thalweg([place.dir()]).args(&["-c", "SHOW JOBS"]).fails().says(&["is in use by process"]);
    assert!(first.is_running());
    first.signal("TERM");
    let ended = first.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    ended.says(&["stopped: checkpoint"]);
    run(&script, &place.dir(), 1).succeeds();
    assert_eq!(lines(&place.out().join("passed")).len(), EVENTS);
}

#[test]
fn two_jobs_of_a_script_with_one_sink_are_refused() {
    let place = Place::new();
    write_events(place.folder.path());
    let sql = events(&place, "BIGINT", 100)
        + "INSERT INTO passed SELECT id, v FROM events; INSERT INTO passed SELECT v, id FROM events;";
    place.run(&sql, 1).fails().says(&["STATEMENT SET"]);
}
