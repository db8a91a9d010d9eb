//! Source and sink over real files.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thalweg_connector_api::conformance::{Limits, Rows, read, rows_of, sink_delivers_once, source_resumes_anywhere};
use thalweg_connector_api::{Connector, EncodeCx, ReaderCx, Source, SourceTable};
use thalweg_core::fold::{RowChanges, RowKind};
use thalweg_core::mark::JobId;
use thalweg_core::table::{ColumnKind, SinkMode, TableColumn, TableDef};
use thalweg_core::{Column, Error, SqlType, Tick, TickKind};

use crate::Filesystem;

const LIMITS: Limits = Limits { piece_rows_max: 7, piece_bytes_max: 200 };
const WIDE: Limits = Limits { piece_rows_max: 8192, piece_bytes_max: 1 << 20 };

fn table(path: &Path, format: &str, options: &[(&str, &str)]) -> TableDef {
    let column = |name: &str, ty| TableColumn { column: Column::new(name, ty, true), kind: ColumnKind::Physical };
    let mut all = BTreeMap::from([
        ("connector".to_owned(), "filesystem".to_owned()),
        ("path".to_owned(), path.to_str().unwrap().to_owned()),
        ("format".to_owned(), format.to_owned()),
    ]);
    all.extend(options.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    TableDef {
        name: "orders".to_owned(),
        columns: vec![column("id", SqlType::Int), column("name", SqlType::STRING)],
        primary_key: vec![],
        partitioned_by: vec![],
        options: all,
    }
}

fn open(def: &TableDef, columns: &[usize], with_order: bool) -> Arc<dyn Source> {
    Filesystem
        .open_source(&[SourceTable { def: def.clone(), columns: columns.to_vec(), with_order }], &JobId("j".to_owned()))
        .unwrap()
}

async fn rows(def: &TableDef) -> Result<Rows, Error> {
    let source = open(def, &(0..def.columns.len()).collect::<Vec<_>>(), false);
    read(&source, &BTreeMap::new(), 2, WIDE, usize::MAX).await.map(|(mut rows, ..)| {
        rows.sort();
        rows
    })
}

fn json_lines(from: u32, to: u32) -> String {
    (from..to).map(|i| format!("{{\"id\":{i},\"name\":\"n{i}\"}}\n")).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut child = std::process::Command::new("gzip")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[tokio::test]
async fn every_format_resumes_after_any_piece_with_any_number_of_workers() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(dir.path().join(name), content).unwrap();
    // JSON in several files, plain and compressed, with blank lines and without a line end at the end of a file.
    write("a.json", format!("\n{}\n", json_lines(0, 40)).as_bytes());
    write("b.json.gz", &gzip(&json_lines(40, 75)));
    write("c.json", json_lines(75, 90).trim_end().as_bytes());
    write("empty.json", b"");
    write("_hidden.json", b"not json");
    let def = table(dir.path(), "json", &[]);
    let found = source_resumes_anywhere(&|| open(&def, &[0, 1], true), LIMITS, 30).await.unwrap();
    assert_eq!(found.len(), 90);

    let dir = tempfile::tempdir().unwrap();
    let csv = |from: u32, to: u32| -> String { (from..to).map(|i| format!("\"n,\n{i}\",{i}\n")).collect() };
    std::fs::write(dir.path().join("a.csv"), format!("name,id\n{}", csv(0, 30))).unwrap();
    std::fs::write(dir.path().join("b.csv.gz"), gzip(&format!("name,id\n{}", csv(30, 60)))).unwrap();
    let def = table(dir.path(), "csv", &[("csv.header", "true")]);
    let found = source_resumes_anywhere(&|| open(&def, &[0, 1], true), LIMITS, 30).await.unwrap();
    assert_eq!(found.len(), 60);

    let dir = tempfile::tempdir().unwrap();
    let event = |i: u32| match i % 3 {
        0 => format!("{{\"before\":null,\"after\":{{\"id\":{i}}},\"op\":\"c\"}}\n"),
        1 => format!("{{\"before\":{{\"id\":{i}}},\"after\":{{\"id\":{i},\"name\":\"x\"}},\"op\":\"u\"}}\n"),
        _ => format!("{{\"before\":{{\"id\":{i}}},\"after\":null,\"op\":\"d\"}}\n"),
    };
    std::fs::write(dir.path().join("a.json"), (0..60).map(event).collect::<String>()).unwrap();
    let def = table(&dir.path().join("a.json"), "debezium-json", &[]);
    let found = source_resumes_anywhere(&|| open(&def, &[0, 1], true), LIMITS, 30).await.unwrap();
    assert_eq!(found.len(), 80);
    assert_eq!(found.iter().map(|(_, w)| w).sum::<i64>(), 0);
}

#[tokio::test]
async fn a_record_longer_than_a_piece_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(3 << 20);
    std::fs::write(dir.path().join("a.csv"), format!("1,{long}\n2,b\n")).unwrap();
    let found = rows(&table(dir.path(), "csv", &[])).await.unwrap();
    assert_eq!(found.iter().map(|(r, _)| r.len()).collect::<Vec<_>>(), [(3 << 20) + 7, 8]);
}

#[tokio::test]
async fn nothing_gives_no_rows_and_a_missing_path_says_so() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(rows(&table(dir.path(), "json", &[])).await.unwrap(), []);
    std::fs::write(dir.path().join("a.json"), "").unwrap();
    assert_eq!(rows(&table(dir.path(), "json", &[])).await.unwrap(), []);
    let e = rows(&table(&dir.path().join("nope.json"), "json", &[])).await.unwrap_err();
    assert!(!e.is_transient() && e.to_string().contains("no such file or folder"), "{e}");
}

#[tokio::test]
async fn a_bad_record_is_named_with_file_and_line_or_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    std::fs::write(&path, format!("{}{{\"id\":\"x\"}}\n{}", json_lines(0, 20), json_lines(30, 32))).unwrap();
    let def = table(dir.path(), "json", &[]);
    for limits in [LIMITS, WIDE] {
        let e =
            read(&open(&def, &[0, 1], false), &BTreeMap::new(), 1, limits, usize::MAX).await.unwrap_err().to_string();
        assert!(e.contains(&format!("{}, line 21: column id: 'x' is not an INT", path.display())), "{e}");
        assert!(e.contains("record: {\"id\":\"x\"}") && e.contains("'json.ignore-parse-errors' = 'true'"), "{e}");
    }
    let def = table(dir.path(), "json", &[("json.ignore-parse-errors", "true")]);
    assert_eq!(rows(&def).await.unwrap().len(), 23);
}

#[tokio::test]
async fn a_file_that_became_another_one_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    std::fs::write(&path, json_lines(0, 40)).unwrap();
    let def = table(dir.path(), "json", &[]);
    let (_, positions, _) = read(&open(&def, &[0, 1], false), &BTreeMap::new(), 1, LIMITS, 3).await.unwrap();
    for (content, expected) in
        [(json_lines(0, 2), "but "), (json_lines(0, 40).replace("n3\"", "m3\""), "begins with other bytes")]
    {
        std::fs::write(&path, content).unwrap();
        let e = read(&open(&def, &[0, 1], false), &positions, 1, LIMITS, usize::MAX).await.unwrap_err();
        assert!(!e.is_transient());
        let e = e.to_string();
        assert!(e.contains("a.json") && e.contains(expected) && e.contains("--fresh"), "{e}");
    }
    // Growing is not becoming another one.
    std::fs::write(&path, json_lines(0, 50)).unwrap();
    let (rest, ..) = read(&open(&def, &[0, 1], false), &positions, 1, LIMITS, usize::MAX).await.unwrap();
    assert_eq!(rest.len(), 50 - 21);
}

#[tokio::test]
async fn followed_files_are_read_on_in_whole_lines_and_new_ones_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    std::fs::write(&path, "{\"id\":1}\n{\"id\":").unwrap();
    let def = table(dir.path(), "json", &[("source.monitor-interval", "10 ms")]);
    assert!(!Filesystem.source_info(&def).unwrap().bounded);
    let source = open(&def, &[0], false);
    assert_eq!(source.discovery_interval(), Some(Duration::from_millis(10)));
    let splits = source.splits().await.unwrap();
    let cx = ReaderCx {
        job_name: "j".to_owned(),
        status: Default::default(),
        worker: 0,
        workers: 1,
        piece_rows_max: 100,
        piece_bytes_max: 1000,
    };
    let mut reader = source.reader(splits.iter().cloned().map(|s| (s, None)).collect(), cx).unwrap();
    let mut append = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    let next = async |reader: &mut Box<dyn thalweg_connector_api::Reader>| {
        let piece = tokio::time::timeout(Duration::from_secs(10), reader.next()).await.unwrap().unwrap().unwrap();
        let rows: Vec<_> = piece.changes.iter().flat_map(|(t, c)| rows_of(*t, c)).map(|(r, _)| r).collect();
        rows.join(" ")
    };
    assert_eq!(next(&mut reader).await, "0: 1");
    assert!(tokio::time::timeout(Duration::from_millis(50), reader.next()).await.is_err(), "half a line waits");
    append.write_all(b"2}\n").unwrap();
    assert_eq!(next(&mut reader).await, "0: 2");
    std::fs::write(dir.path().join("b.json"), "{\"id\":3}\n").unwrap();
    let new = source.splits().await.unwrap().into_iter().filter(|s| !splits.contains(s)).map(|s| (s, None)).collect();
    reader.assign(new).await.unwrap();
    assert_eq!(next(&mut reader).await, "0: 3");
    append.write_all(b"{\"id\":4}\n").unwrap();
    assert_eq!(next(&mut reader).await, "0: 4");
    std::fs::write(&path, "").unwrap();
    let e = tokio::time::timeout(Duration::from_secs(10), reader.next()).await.unwrap().unwrap_err();
    assert!(e.to_string().contains("has 0 bytes"), "{e}");
}

#[tokio::test]
async fn the_rate_holds_over_the_whole_source() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..4 {
        std::fs::write(dir.path().join(format!("{i}.json")), json_lines(0, 75)).unwrap();
    }
    let def = table(dir.path(), "json", &[("scan.rate-limit", "1000")]);
    let start = Instant::now();
    assert_eq!(rows(&def).await.unwrap().len(), 300);
    let took = start.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_millis(900)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn metadata_and_order_are_added_to_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.json"), "{\"id\":1}\n\n[{\"id\":2},{\"id\":3}]\n").unwrap();
    let mut def = table(dir.path(), "json", &[]);
    let metadata = |name: &str, key: &str, ty| TableColumn {
        column: Column::new(name, ty, false),
        kind: ColumnKind::Metadata { key: key.to_owned(), is_virtual: true },
    };
    def.columns.insert(0, metadata("file", "file.name", SqlType::STRING));
    def.columns.push(metadata("size", "file.size", SqlType::BigInt));
    def.columns.push(metadata("at", "file.modification-time", SqlType::TimestampLtz(3)));
    def.columns.push(metadata("path", "file.path", SqlType::STRING));
    assert!(Filesystem.source_info(&def).unwrap().unstable_metadata.is_empty());
    let source = open(&def, &[0, 1, 3], true);
    let (found, ..) = read(&source, &BTreeMap::new(), 1, WIDE, usize::MAX).await.unwrap();
    let expected = ["0: a.json | 1 | 30 | 0", "0: a.json | 2 | 30 | 16777216", "0: a.json | 3 | 30 | 16777217"];
    assert_eq!(found.iter().map(|(r, _)| r.as_str()).collect::<Vec<_>>(), expected);
    let (found, ..) = read(&open(&def, &[0, 4, 5], false), &BTreeMap::new(), 1, WIDE, usize::MAX).await.unwrap();
    assert!(found[0].0.contains("T") && found[0].0.ends_with("/a.json"), "{found:?}");
    let (found, ..) = read(&open(&def, &[], false), &BTreeMap::new(), 1, WIDE, usize::MAX).await.unwrap();
    assert_eq!(found.len(), 3);

    def.columns[0].kind = ColumnKind::Metadata { key: "file.nam".to_owned(), is_virtual: true };
    assert!(Filesystem.source_info(&def).unwrap_err().to_string().contains("did you mean \"file.name\"?"));
    def.columns[0] = metadata("size", "file.size", SqlType::Int);
    assert!(
        Filesystem.source_info(&def).unwrap_err().to_string().contains("is INT, but metadata 'file.size' is BIGINT")
    );
}

#[test]
fn wrong_options_are_refused() {
    let path = Path::new("/nowhere");
    let refused = |def: &TableDef| Filesystem.source_info(def).unwrap_err().to_string();
    assert!(refused(&table(path, "jsno", &[])).contains("did you mean 'json'?"));
    assert!(refused(&table(path, "json", &[("json.ignore-parse-error", "true")])).contains("did you mean"));
    assert!(refused(&table(path, "json", &[("csv.header", "true")])).contains("has no option 'csv.header'"));
    assert!(refused(&table(path, "json", &[("scan.rate-limit", "0")])).contains("must be above 0"));
    assert!(refused(&table(Path::new("s3://b/x"), "json", &[])).contains("only local files"));
    let written = |compression: &str| {
        let def = table(path, "json", &[("compression", compression)]);
        Filesystem.open_sink(&def, &JobId("j".to_owned())).err().map(|e| e.to_string())
    };
    assert!(written("gzip").unwrap().contains("'compression' = 'gzip' is for reading"));
    assert_eq!((written("none"), written("auto")), (None, None));
    let mut def = table(path, "json", &[]);
    def.options.remove("format");
    assert!(refused(&def).contains("needs the option 'format'"));
    def = table(path, "json", &[]);
    def.partitioned_by = vec![0];
    assert!(refused(&def).contains("PARTITIONED BY id"));
    assert!(Filesystem.sink_info(&def).unwrap_err().to_string().contains("PARTITIONED BY id"));
    let accepts = |format| Filesystem.sink_info(&table(path, format, &[])).unwrap().accepts;
    assert_eq!(
        [accepts("json"), accepts("csv"), accepts("debezium-json")],
        [SinkMode::Append, SinkMode::Append, SinkMode::Retract]
    );
    assert_eq!(Filesystem.source_info(&table(path, "debezium-json", &[])).unwrap().unstable_metadata.len(), 4);
}

fn parts(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| !n.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn segments_become_files_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("new/out");
    let def = table(&target, "json", &[]);
    let content = || parts(&target).iter().flat_map(|n| std::fs::read(target.join(n)).unwrap()).collect();
    let chunk = |n: u64| Bytes::from(format!("{{\"id\":{n}}}\n"));
    sink_delivers_once(&|job: &JobId| Filesystem.open_sink(&def, job).unwrap(), &chunk, &content).await.unwrap();
    assert_eq!(parts(&target)[0], "part-01234567-0000000001.json");
    assert_eq!(parts(&target).len(), 4, "a segment without rows has no file");
    let found = rows(&def).await.unwrap();
    assert_eq!(found.len(), 4, "the folder can be read, and what is hidden is not read");
}

#[tokio::test]
async fn a_crash_between_file_and_mark_is_cured_by_the_next_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let def = table(dir.path(), "csv", &[("csv.header", "true")]);
    let job = JobId("aaaaaaaabbbbbbbbccccccccdddddddd".to_owned());
    let mark = |segment| thalweg_core::mark::Mark::At { job: job.clone(), segment };
    let segment =
        |n| thalweg_connector_api::conformance::segment(n, vec![Bytes::from(format!("{n},x\n")), Bytes::from("9,y\n")]);
    let sink = Filesystem.open_sink(&def, &job).unwrap();
    sink.fence(&job).await.unwrap();
    sink.deliver(&[segment(1)], &mark(1)).await.unwrap();
    let hidden = dir.path().join(".thalweg");
    let before = std::fs::read(hidden.join(format!("{job}.json"))).unwrap();
    sink.deliver(&[segment(2)], &mark(2)).await.unwrap();
    std::fs::write(hidden.join(format!("{job}.json")), before).unwrap();
    std::fs::write(hidden.join(format!("{job}-part.tmp")), "half").unwrap();
    std::fs::write(hidden.join("other-part.tmp"), "another job's").unwrap();

    let sink = Filesystem.open_sink(&def, &job).unwrap();
    assert_eq!(sink.fence(&job).await.unwrap(), mark(1));
    assert!(!hidden.join(format!("{job}-part.tmp")).exists() && hidden.join("other-part.tmp").exists());
    sink.deliver(&[segment(2)], &mark(2)).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.path().join("part-aaaaaaaa-0000000002.csv")).unwrap(),
        "id,name\n2,x\n9,y\n"
    );
    assert_eq!(parts(dir.path()).len(), 2);
    std::fs::write(hidden.join(format!("{job}.json")), "{").unwrap();
    assert!(sink.fence(&job).await.unwrap_err().to_string().contains("is damaged"));
}

/// A segment in whose middle another process takes the temporary files away.
struct Taken {
    hidden: std::path::PathBuf,
}

impl thalweg_connector_api::sink::SegmentChunks for Taken {
    fn read(&self) -> futures::stream::BoxStream<'_, thalweg_core::Result<Bytes>> {
        let chunk = |n: usize| {
            if n == 1 {
                let files = std::fs::read_dir(&self.hidden).unwrap().map(|f| f.unwrap().path());
                files
                    .filter(|f| f.extension().is_some_and(|e| e == "tmp"))
                    .for_each(|f| std::fs::remove_file(f).unwrap());
            }
            Ok(Bytes::from("1,x\n".repeat(1 << 20)))
        };
        futures::StreamExt::boxed(futures::stream::iter((0..2).map(chunk)))
    }
}

#[tokio::test]
async fn a_temporary_file_that_another_process_takes_away_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let job = JobId("aaaaaaaabbbbbbbbccccccccdddddddd".to_owned());
    let mark = thalweg_core::mark::Mark::At { job: job.clone(), segment: 1 };
    let sink = Filesystem.open_sink(&table(dir.path(), "csv", &[]), &job).unwrap();
    sink.fence(&job).await.unwrap();
    let segment = || thalweg_connector_api::conformance::segment(1, vec![Bytes::from("1,x\n")]);
    let taken = Taken { hidden: dir.path().join(".thalweg") };
    let taken = thalweg_connector_api::Segment { chunks: Box::new(taken), ..segment() };
    let e = sink.deliver(&[taken], &mark).await.unwrap_err();
    assert!(e.is_transient(), "{e}");
    sink.fence(&job).await.unwrap();
    sink.deliver(&[segment()], &mark).await.unwrap();
    assert_eq!(parts(dir.path()).len(), 1);
}

#[tokio::test]
async fn output_into_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    std::fs::write(&path, "").unwrap();
    let job = JobId("a".to_owned());
    let sink = Filesystem.open_sink(&table(&path, "json", &[]), &job).unwrap();
    assert!(sink.fence(&job).await.unwrap_err().to_string().contains("is a file, but output needs a folder"));
}

#[tokio::test]
async fn rows_are_encoded_and_null_in_not_null_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.json"), "{\"id\":1,\"name\":\"a\"}\n{\"id\":null}\n").unwrap();
    let mut def = table(dir.path(), "debezium-json", &[]);
    let mut source = def.clone();
    source.options.insert("format".to_owned(), "json".to_owned());
    let (_, _, pieces) = read(&open(&source, &[0, 1], false), &BTreeMap::new(), 1, WIDE, usize::MAX).await.unwrap();
    let batch = pieces[0].changes[0].1.batch.clone();
    let rows = RowChanges { batch, kinds: Some(vec![RowKind::Insert, RowKind::Delete]) };
    let tick = Tick { id: 1, kind: TickKind::Plain, wall_clock_us: 0 };
    let cx =
        || EncodeCx { worker: 0, workers: 1, job_name: "j".to_owned(), changes: false, facts: serde_json::Value::Null };
    let job = JobId("a".to_owned());
    let mut out = vec![];
    Filesystem.open_sink(&def, &job).unwrap().encoder(cx()).unwrap().encode(&tick, &rows, &mut out).unwrap();
    assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 2);
    def.columns[0].column.nullable = false;
    let sink = Filesystem.open_sink(&def, &job).unwrap();
    let e = sink.encoder(cx()).unwrap().encode(&tick, &rows, &mut out).unwrap_err().to_string();
    assert!(e.contains("NULL for column id, which is NOT NULL"), "{e}");
}

/// Run with `--nocapture` to see the speed.
#[tokio::test]
async fn files_are_read_fast() {
    let dir = tempfile::tempdir().unwrap();
    let text = json_lines(1_000_000, 1_020_000).repeat(20);
    std::fs::write(dir.path().join("a.json"), &text).unwrap();
    let def = table(dir.path(), "json", &[]);
    let source = open(&def, &[0, 1], false);
    let splits = source.splits().await.unwrap().into_iter().map(|s| (s, None)).collect();
    let cx = ReaderCx {
        job_name: "j".to_owned(),
        status: Default::default(),
        worker: 0,
        workers: 1,
        piece_rows_max: 8192,
        piece_bytes_max: 1 << 20,
    };
    let start = Instant::now();
    let mut reader = source.reader(splits, cx).unwrap();
    let mut rows = 0;
    while let Some(piece) = reader.next().await.unwrap() {
        rows += piece.changes[0].1.num_rows();
    }
    println!("filesystem, json: {:.0} MB/s", text.len() as f64 / 1e6 / start.elapsed().as_secs_f64());
    assert_eq!(rows, 400_000);
}
