//! The command line: what goes to which stream, exit statuses, places of errors, formats of answers.

mod support;

use support::engine::{Ended, thalweg};

fn query(sql: &str) -> Ended {
    thalweg(["-c", sql]).succeeds()
}

const ORDERS: &str = "CREATE TABLE orders (id BIGINT, customer STRING, amount DECIMAL(10, 2));
INSERT INTO orders VALUES (1, 'Ada', 12.50), (2, NULL, 0.99), (3, 'a \"b\", c', 7.00);\n";

#[test]
fn an_answer_goes_to_stdout_and_nothing_else() {
    let ended = query(&format!("{ORDERS}SELECT id, amount FROM orders ORDER BY amount DESC;"));
    assert_eq!(ended.stderr, "", "{ended}");
    let places: Vec<_> = ["12.50", "7.00", "0.99"].iter().map(|n| ended.stdout.find(n)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{ended}");
    assert!(ended.stdout.contains("id") && ended.stdout.contains("amount"), "{ended}");
}

#[test]
fn csv_and_json_are_for_programs() {
    let sql = format!("{ORDERS}SELECT id, customer, amount FROM orders ORDER BY id;");
    let csv = thalweg(["--format", "csv", "-c", &sql]).succeeds();
    let lines: Vec<&str> = csv.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{csv}");
    assert_eq!(lines[0], "id,customer,amount");
    assert_eq!(lines[1], "1,Ada,12.50");
    assert!(lines[2].starts_with("2,") && lines[2].ends_with(",0.99"), "{csv}");
    assert_eq!(lines[3], "3,\"a \"\"b\"\", c\",7.00");

    let json = thalweg(["--format", "json", "-c", &sql]).succeeds();
    let rows: Vec<serde_json::Value> = json.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.len(), 3, "{json}");
    assert_eq!(rows[0]["customer"], "Ada");
    assert!(rows[1].get("customer").is_none_or(serde_json::Value::is_null));
    assert_eq!(rows[2]["customer"], "a \"b\", c");
}

#[test]
fn statements_come_from_a_pipe() {
    let ended = thalweg::<&str>([]).input(&format!("{ORDERS}SELECT COUNT(*) AS n FROM orders;")).succeeds();
    assert!(ended.stdout.contains('3'), "{ended}");
    // Nothing to do is no error.
    thalweg::<&str>([]).input("").succeeds();
    thalweg::<&str>([]).input("-- only a word\n").succeeds();
    let ended = thalweg::<&str>([]).input("SELECT 1;\nSELEC 2;").fails();
    ended.says(&["error"]);
}

#[test]
fn an_error_points_at_its_place_and_proposes_the_nearest_name() {
    let sql = "CREATE TABLE orders (id INT, amount INT);\nSELECT o.amuont\nFROM orders o;";
    let typed = thalweg(["-c", sql]).fails();
    typed.says(&["line 2, column", "amuont", "did you mean", "amount"]);
    assert_eq!(typed.stdout, "", "{typed}");

    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("job.sql"), sql).unwrap();
    thalweg(["run", "job.sql"]).current_dir(place.path()).fails().says(&["job.sql:2:", "^^^^^^", "did you mean"]);
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let cases: &[(&str, &[&str])] = &[
        (
            "CREATE TABLE t (a INT) WITH ('connector' = 'filesistem'); SELECT * FROM t;",
            &[
                "unknown connector 'filesistem'",
                "did you mean 'filesystem'?",
                "blackhole, datagen, filesystem, kafka, mysql-cdc, print, upsert-kafka",
            ],
        ),
        (
            "CREATE TABLE t (a INT) WITH ('connector' = 'datagen', 'rows-per-secnd' = '5'); SELECT * FROM t;",
            &["rows-per-secnd", "rows-per-second"],
        ),
        ("CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'format' = 'json'); SELECT * FROM t;", &["path"]),
        (
            "CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'path' = '/x', 'format' = 'jason'); SELECT * FROM t;",
            &["jason", "json"],
        ),
        ("SET 'execution.checkpointing.intervall' = '1 s';", &["execution.checkpointing.interval"]),
        ("SET 'execution.checkpointing.interval' = 'soon';", &["soon"]),
        ("CREATE TABLE orders (a INT); SELECT * FROM order_s;", &["order_s", "orders"]),
        ("SELECT UPER('a');", &["UPER", "UPPER"]),
    ];
    for (sql, parts) in cases {
        let ended = thalweg(["-c", sql]).fails();
        let said = ended.stderr.to_lowercase();
        for part in *parts {
            assert!(said.contains(&part.to_lowercase()), "{part:?} is not said of {sql}\n{ended}");
        }
        assert!(said.contains("line 1, column") || said.contains("line"), "no place: {sql}\n{ended}");
    }
}

#[test]
fn a_script_that_is_not_there_and_one_that_is_empty() {
    let place = tempfile::tempdir().unwrap();
    thalweg(["run", "nothing.sql"]).current_dir(place.path()).fails().says(&["nothing.sql"]);
    std::fs::write(place.path().join("empty.sql"), "").unwrap();
    let ended = thalweg(["run", "empty.sql"]).current_dir(place.path()).succeeds();
    assert_eq!(ended.stdout, "", "{ended}");
}

#[test]
fn wrong_arguments_are_status_2() {
    for args in [
        &["--wrokers", "3"][..],
        &["run"],
        &["run", "a.sql", "--workers", "0"],
        &["run", "a", "--fresh", "--from", "b"],
    ] {
        let ended = thalweg(args).ended();
        assert_eq!(ended.status.code(), Some(2), "{ended}");
        assert_eq!(ended.stdout, "", "{ended}");
    }
    assert!(thalweg(["--version"]).succeeds().stdout.starts_with("thalweg "));
    assert!(thalweg(["--help"]).succeeds().stdout.contains("checkpoint"));
}

#[test]
fn statements_before_a_wrong_one_run_and_those_behind_it_do_not() {
    let ended = thalweg(["-c", "SELECT 11111; SELECT nothing FROM nowhere; SELECT 22222;"]).fails();
    assert!(ended.stdout.contains("11111") && !ended.stdout.contains("22222"), "{ended}");
}

#[test]
fn an_input_file_that_is_empty_has_no_rows_and_one_that_is_missing_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("in.json");
    let sql = format!(
        "CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         SELECT COUNT(*) AS n FROM t;",
        path.display()
    );
    thalweg(["-c", &sql]).fails().says(&["in.json"]);
    std::fs::write(&path, "").unwrap();
    let ended = thalweg(["--format", "csv", "-c", &sql]).succeeds();
    assert_eq!(ended.stdout, "n\n0\n");
    std::fs::write(&path, "{\"a\": 1}\n{\"a\": \"x\"}\n").unwrap();
    thalweg(["-c", &sql.replace("COUNT(*)", "SUM(a)")]).fails().says(&["in.json, line 2", "column a"]);
}

#[test]
fn a_job_in_a_scratch_directory_says_so() {
    let place = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE n (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '100');
      CREATE TABLE o (a INT) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');
      INSERT INTO o SELECT a FROM n;";
    std::fs::write(place.path().join("job.sql"), sql).unwrap();
    let ended = thalweg(["run", "job.sql", "--workers", "2"]).current_dir(place.path()).succeeds();
    ended.says(&["scratch", "--dir DIR", "finished: 100 changes in, 100 out"]);
    assert_eq!(ended.stdout, "", "{ended}");
    assert_eq!(support::changelog::lines(&place.path().join("out")).len(), 100);
}

#[test]
fn checkpoints_are_listed_and_inspected() {
    let place = tempfile::tempdir().unwrap();
    let sql = "SET 'pipeline.name' = 'counts';
      CREATE TABLE n (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '1000', 'fields.a.min' = '0', 'fields.a.max' = '9');
      CREATE TABLE o (a INT, n BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH (
        'connector' = 'filesystem', 'path' = 'out', 'format' = 'debezium-json');
      INSERT INTO o SELECT a, COUNT(*) FROM n GROUP BY a;";
    std::fs::write(place.path().join("job.sql"), sql).unwrap();
    thalweg(["run", "job.sql", "--dir", "state"]).current_dir(place.path()).succeeds();
    let list = thalweg(["checkpoint", "list", "state"]).current_dir(place.path()).succeeds();
    assert!(list.stdout.starts_with("counts  state/checkpoints/") && list.stdout.contains("finished"), "{list}");
    assert!(!list.stdout.contains("claim") && list.stdout.contains("nothing"), "{list}");
    assert!(list.stdout.lines().skip(1).all(|l| l.chars().count() < 80), "{list}");
    let shown = thalweg(["checkpoint", "inspect", "state", "--verify"]).current_dir(place.path()).succeeds();
    for part in ["job counts", "Aggregate", "read 1,000 rows", "state ", "sink o: delivered up to segment"] {
        assert!(shown.stdout.contains(part), "{part}\n{shown}");
    }
    thalweg(["checkpoint", "inspect", "state", "--job", "cuonts"]).current_dir(place.path()).fails().says(&["counts"]);
    thalweg(["checkpoint", "list", "nowhere"]).current_dir(place.path()).fails().says(&["nowhere"]);
}

#[test]
fn secrets_are_not_shown() {
    let sql = "CREATE TABLE t (a INT) WITH ('connector' = 'datagen', 'password' = 'hunter2'); SELECT * FROM t;";
    let ended = thalweg(["-c", sql]).fails();
    assert!(!ended.stderr.contains("hunter2") && !ended.stdout.contains("hunter2"), "{ended}");
}

#[test]
fn a_query_without_end_ends_with_a_signal() {
    let sql = "CREATE TABLE n (a INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'fields.a.min' = '1', 'fields.a.max' = '3');
      SELECT a, COUNT(*) AS n FROM n GROUP BY a;";
    let place = tempfile::tempdir().unwrap();
    let mut engine = thalweg(["--format", "csv", "-c", sql]).current_dir(place.path()).start();
    assert!(engine.wait_until("changes", |e| e.stdout_so_far().lines().count() > 20), "{}", engine.stderr_so_far());
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    assert!(ended.stdout.contains("+I") && ended.stdout.contains("-U") && ended.stdout.contains("+U"), "{ended}");
}

#[test]
fn a_bounded_query_that_a_signal_cuts_short_is_not_passed_over() {
    let sql =
        "CREATE TABLE n (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '1000000', 'rows-per-second' = '10');
      SELECT 11111; SELECT COUNT(*) FROM n; SELECT 22222;";
    let place = tempfile::tempdir().unwrap();
    let mut engine = thalweg(["--format", "csv", "-c", sql]).current_dir(place.path()).start();
    assert!(engine.wait_until("answer", |e| e.stdout_so_far().contains("11111")), "{}", engine.stderr_so_far());
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(130), "{ended}");
    ended.says(&["interrupted: a SELECT has no answer"]);
    assert!(!ended.stdout.contains("22222"), "{ended}");
}

#[test]
fn a_change_of_an_own_table_that_a_signal_cuts_short_is_not_passed_over() {
    let sql =
        "CREATE TABLE n (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '1000000', 'rows-per-second' = '10');
      CREATE TABLE own (a INT); SELECT 11111; INSERT INTO own SELECT a FROM n; SELECT 22222;";
    let place = tempfile::tempdir().unwrap();
    let mut engine = thalweg(["--format", "csv", "-c", sql]).current_dir(place.path()).start();
    assert!(engine.wait_until("answer", |e| e.stdout_so_far().contains("11111")), "{}", engine.stderr_so_far());
    engine.signal("INT");
    let ended = engine.wait();
    assert_eq!(ended.status.code(), Some(130), "{ended}");
    ended.says(&["interrupted: a table was not changed"]);
    assert!(!ended.stdout.contains("22222"), "{ended}");
}

#[test]
fn a_slip_in_a_command_makes_no_directory() {
    let place = tempfile::tempdir().unwrap();
    for (args, parts) in [
        (&["rnu", "job.sql"][..], &["no command rnu", "`thalweg run`"][..]),
        (&["job.sql"], &["no file job.sql", "thalweg run FILE.sql"]),
    ] {
        let ended = thalweg(args).current_dir(place.path()).ended();
        assert_eq!(ended.status.code(), Some(2), "{ended}");
        ended.says(parts);
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    std::fs::write(place.path().join("file"), "").unwrap();
    let ended = thalweg(["run", "empty.sql", "--dir", "file"]).current_dir(place.path());
    std::fs::write(place.path().join("empty.sql"), "").unwrap();
    ended.fails().says(&["file is a file", "give a directory"]);
}

#[test]
fn a_job_that_would_read_its_own_output_is_refused() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("both")).unwrap();
    std::fs::write(place.path().join("both/a.json"), "{\"a\": 1}\n").unwrap();
    let script = |target: &str| {
        format!(
            "CREATE TABLE s (a INT) WITH ('connector' = 'filesystem', 'path' = 'both', 'format' = 'json');
CREATE TABLE t (a INT) WITH ('connector' = 'filesystem', 'path' = '{target}', 'format' = 'json');
INSERT INTO t SELECT a + 1 FROM s;"
        )
    };
    std::fs::write(place.path().join("job.sql"), script("./both/")).unwrap();
    let ended = thalweg(["run", "job.sql"]).current_dir(place.path()).fails();
    ended.says(&["would read what it writes", "job.sql:3:13", "^", "write into a folder that is not read"]);
    assert_eq!(std::fs::read_dir(place.path().join("both")).unwrap().count(), 1, "nothing was written");
    std::fs::write(place.path().join("job.sql"), script("other")).unwrap();
    thalweg(["run", "job.sql"]).current_dir(place.path()).succeeds();
}

#[test]
fn what_a_file_seems_to_be_is_said_with_what_cannot_be_read() {
    let place = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], &[&str]); 7] = [
        ("head.csv", b"a,b\n1,x\n", &["head.csv, line 1", "'csv.header' = 'true'"]),
        ("few.csv", b"1,x\n2\n", &["few.csv, line 2", "1 field for 2 columns"]),
        ("array.json", b"[{\"a\": 1},\n{\"a\": 2}]\n", &["array.json, line 1", "each line must be whole"]),
        ("pretty.json", b"{\n\"a\": 1\n}\n", &["pretty.json, line 1", "jq -c ."]),
        ("zipped.json", b"\x1f\x8b\x08\x00", &["'compression' = 'gzip'"]),
        (
            "plain.json.gz",
            b"{\"a\": 1, \"b\": \"as it is\"}\n",
            &["table t", "plain.json.gz", "'compression' = 'none'"],
        ),
        ("wide.csv", b"\xff\xfe1\x00,\x00x\x00\n\x00", &["UTF-16"]),
    ];
    for (name, content, parts) in cases {
        std::fs::write(place.path().join(name), content).unwrap();
        let format = if name.contains("json") { "json" } else { "csv" };
        let sql = format!(
            "CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'filesystem', 'path' = '{name}', 'format' = '{format}');
             SELECT a, b FROM t;"
        );
        thalweg(["-c", &sql]).current_dir(place.path()).fails().says(parts);
    }
    // A byte order mark is no part of the first field.
    std::fs::write(place.path().join("mark.csv"), b"\xef\xbb\xbf1,x\n2,y\n").unwrap();
    let sql =
        "CREATE TABLE t (a INT, b STRING) WITH ('connector' = 'filesystem', 'path' = 'mark.csv', 'format' = 'csv');
      SELECT a, b FROM t ORDER BY a;";
    let ended = thalweg(["--format", "csv", "-c", sql]).current_dir(place.path()).succeeds();
    assert_eq!(ended.stdout, "a,b\n1,x\n2,y\n");
}

#[test]
fn a_suite_that_fails_is_shown_with_place_and_difference() {
    let place = tempfile::tempdir().unwrap();
    let suite = "query I\nSELECT 1\n----\n2\n\nquery I\nSELECT 2\n----\n2\n\nstatement ok\nSELECT nothing\n";
    std::fs::write(place.path().join("a.slt"), suite).unwrap();
    let ended = thalweg(["test", "a.slt"]).current_dir(place.path()).ended();
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    ended.says(&["a.slt:1: query result mismatch", "-   2", "+   1", "a.slt:11: ", "way 0 of 4", "--seed 1"]);
    assert_eq!(ended.stdout, "0 passed, 1 failed\n");
    std::fs::create_dir(place.path().join("none")).unwrap();
    thalweg(["test", "none"]).current_dir(place.path()).fails().says(&["no *.slt file in none"]);
}

#[test]
fn statements_of_the_command_line_may_begin_with_a_comment() {
    let ended = thalweg(["--format", "csv", "-c", "-- what is it?\nSELECT 1 AS one;"]).succeeds();
    assert_eq!(ended.stdout, "one\n1\n");
}
