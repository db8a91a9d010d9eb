//! Events by hand: what waits, what is refused, and where the position stands.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_core::{Column, SqlType};

use super::*;
use crate::binlog::event::{Checksums, Header, code};
use crate::binlog::table_map::column_code;
use crate::captured::ActiveChunk;
use crate::snapshot::fold::Fold;
use crate::testing::{layout_of, rows_event, server_column, server_options, table_map_event};

const UUID: &str = "3e11fa47-9b1c-11ef-8a3d-0242ac110002";

fn gtid(number: u64) -> Gtid {
    format!("{UUID}:{number}").parse().unwrap()
}

/// Of `shop.t` with one column `id`.
fn router(state: TableState) -> Router {
    let declared = [Column::new("id", SqlType::BigInt, false)];
    let layout = layout_of("shop", "t", &declared, vec![server_column("id", "bigint")]);
    let table = Captured::new("shop.t".to_owned(), Arc::into_inner(layout).unwrap(), state).unwrap();
    let position = ServerPosition {
        gtid_set: format!("{UUID}:1-4").parse().unwrap(),
        file: String::new(),
        pos: 0,
        server: UUID.to_owned(),
        within: vec![],
        rows: 0,
        tables: BTreeMap::new(),
        prepared: Default::default(),
    };
    Router::new(vec![table], false, position, SplitId("db1".to_owned()))
}

fn route(router: &mut Router, data: EventData<'_>) -> Result<()> {
    let header = Header { timestamp: 1, code: 0, server_id: 1, size: 0, log_pos: 0, flags: 0 };
    let at = LogPosition { file: "binlog.000001".to_owned(), pos: 4 };
    router.route(&Event { header, data }, &at).map(drop)
}

fn begin(router: &mut Router, number: u64) {
    let gtid = Some(gtid(number));
    let event = GtidEvent { gtid, original_commit_us: 1, immediate_commit_us: 1, transaction_bytes: 0 };
    route(router, EventData::Gtid(event)).unwrap();
}

fn query(text: &str) -> Query<'_> {
    let text = text.as_bytes();
    Query { thread_id: 1, error: 0, database: b"shop", text, sql_mode: 0, client_collation: 255, ddl_xid: None }
}

fn run(router: &mut Router, text: &str) -> Result<()> {
    route(router, EventData::Query(query(text)))
}

fn route_bytes(router: &mut Router, event: &[u8]) -> Result<()> {
    route(router, Event::parse(event, Checksums::Crc32).unwrap().data)
}

/// The last rows event of a statement.
fn inserted(ids: std::ops::RangeInclusive<i64>) -> Vec<u8> {
    let rows: Vec<u8> = ids.flat_map(|id| [&[0][..], &id.to_le_bytes()].concat()).collect();
    rows_event(code::WRITE_ROWS, 1, &rows)
}

/// A statement that inserts.
fn insert(router: &mut Router, ids: std::ops::RangeInclusive<i64>) {
    route_bytes(router, &table_map_event("shop", "t", &[(column_code::LONGLONG, &[])])).unwrap();
    route_bytes(router, &inserted(ids)).unwrap();
}

/// The ids of the next piece, and the position behind it.
fn piece(router: &mut Router) -> (Vec<i64>, ServerPosition) {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let server = Server::new(server_options(0)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let piece = runtime.block_on(router.take_piece(&server, &mut None)).unwrap().expect("a piece");
    let ids = piece.changes.iter().flat_map(|(_, c)| c.batch.column(0).as_primitive::<Int64Type>().values().to_vec());
    (ids.collect(), ServerPosition::from_stored(&piece.positions[0].1).unwrap())
}

#[test]
fn rows_in_the_log_that_were_rolled_back_never_were() {
    // The server writes them down where the transaction also changed what cannot be rolled back.
    let mut router = router(TableState::Done);
    begin(&mut router, 5);
    run(&mut router, "BEGIN").unwrap();
    insert(&mut router, 1..=2);
    run(&mut router, "ROLLBACK").unwrap();
    begin(&mut router, 6);
    run(&mut router, "BEGIN").unwrap();
    insert(&mut router, 3..=4);
    run(&mut router, "SAVEPOINT `s`").unwrap();
    insert(&mut router, 5..=6);
    run(&mut router, "ROLLBACK TO `s`").unwrap();
    insert(&mut router, 7..=7);
    route(&mut router, EventData::Xid(1)).unwrap();
    let (ids, position) = piece(&mut router);
    assert_eq!(ids, [3, 4, 7]);
    assert_eq!(position.gtid_set.to_string(), format!("{UUID}:1-6"));
    assert!(router.is_between());
}

#[test]
fn a_distributed_transaction_is_not_cut() {
    let mut router = router(TableState::Done);
    let start = "XA START X'61',X'62',1";
    begin(&mut router, 5);
    assert!(!router.ends_piece(&query(start)), "nothing waits");
    run(&mut router, "BEGIN").unwrap();
    insert(&mut router, 1..=2);
    router.may_cut().unwrap();
    route(&mut router, EventData::Xid(1)).unwrap();
    begin(&mut router, 6);
    assert!(router.ends_piece(&query(start)), "what waits is of another transaction");
    assert_eq!(piece(&mut router).0, [1, 2]);
    run(&mut router, start).unwrap();
    router.may_cut().unwrap();
    insert(&mut router, 3..=4);
    let error = router.may_cut().unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("x'61',x'62',1"), "{error}");
    run(&mut router, "XA END X'61',X'62',1").unwrap();
    let prepare = crate::binlog::event::XaPrepare { one_phase: true, format_id: 1, gtrid: b"a", bqual: b"b" };
    route(&mut router, EventData::XaPrepare(prepare)).unwrap();
    router.may_cut().unwrap();
    assert_eq!(piece(&mut router).0, [3, 4]);
}

#[test]
fn a_commit_of_what_was_prepared_before_reading_began_is_refused_once_rows_were_read() {
    let commit = |router: &mut Router| {
        begin(router, 5);
        run(router, "XA COMMIT X'61',X'',1")
    };
    // The first SELECT comes later and will see its rows.
    commit(&mut router(TableState::Empty)).unwrap();
    let mut reading = router(TableState::Empty);
    let fold = Fold::new(&reading.tables[0].layout).unwrap();
    reading.tables[0].chunk = Some(ActiveChunk { upper: None, fold });
    for router in [&mut reading, &mut router(TableState::Done)] {
        let error = commit(router).unwrap_err().to_string();
        assert!(error.contains("x'61',x'',1") && error.contains("prepared before reading began"), "{error}");
    }
}

#[test]
fn tables_are_named_anew_for_each_statement() {
    let mut router = router(TableState::Done);
    begin(&mut router, 5);
    run(&mut router, "BEGIN").unwrap();
    insert(&mut router, 1..=2);
    assert!(router.maps.is_empty(), "of what is over nothing is kept");
    let error = route_bytes(&mut router, &inserted(3..=3)).unwrap_err().to_string();
    assert!(error.contains("table number 7, which no event has named"), "{error}");
}

#[test]
fn a_transaction_that_was_cut_is_not_forgotten_while_another_is_read() {
    let mut router = router(TableState::Done);
    let within = |number, taken| Within { gtid: gtid(number), rows: BTreeMap::from([("shop.t".to_owned(), taken)]) };
    router.position.within = vec![within(6, 3)];
    // The connection is lost while what was emitted is skipped.
    begin(&mut router, 6);
    run(&mut router, "BEGIN").unwrap();
    insert(&mut router, 1..=2);
    router.restart("00000000-0000-0000-0000-000000000002");
    assert_eq!(router.position().within, [within(6, 3)]);
    assert_eq!(router.position().seen().to_string(), format!("{UUID}:1-4:6"));
    // The other server has another transaction before it, which is cut too.
    begin(&mut router, 7);
    run(&mut router, "BEGIN").unwrap();
    insert(&mut router, 11..=12);
    let (ids, position) = piece(&mut router);
    assert_eq!((ids, position.within), (vec![11, 12], vec![within(6, 3), within(7, 2)]));
    insert(&mut router, 13..=13);
    route(&mut router, EventData::Xid(1)).unwrap();
    assert!(!router.is_between(), "the first one is still half");
    begin(&mut router, 6);
    run(&mut router, "BEGIN").unwrap();
    insert(&mut router, 1..=4);
    route(&mut router, EventData::Xid(1)).unwrap();
    let (ids, position) = piece(&mut router);
    assert_eq!((ids, position.within), (vec![13, 4], vec![]));
    assert!(router.is_between());
    assert_eq!(position.gtid_set.to_string(), format!("{UUID}:1-4:6-7"));
}

#[test]
fn what_comes_without_its_rows_is_refused() {
    let refused = |what: &str, data: &dyn Fn() -> EventData<'static>, says: &[&str]| {
        let mut router = router(TableState::Done);
        begin(&mut router, 5);
        run(&mut router, "BEGIN").unwrap();
        route_bytes(&mut router, &table_map_event("shop", "t", &[(column_code::LONGLONG, &[])])).unwrap();
        let error = route(&mut router, data()).expect_err(what);
        assert!(!error.is_transient(), "{what}");
        let text = error.to_string();
        says.iter().for_each(|s| assert!(text.contains(s), "{what}, {s}: {text}"));
    };
    refused(
        "a part of a document",
        &|| EventData::PartialUpdateRows { table_id: 7 },
        &["table t ", "binlog_row_value_options", "--fresh"],
    );
    refused(
        "an incident",
        &|| EventData::Incident { number: 1, message: b"LOST_EVENTS" },
        &["incident 1: LOST_EVENTS", "--fresh"],
    );
    refused("a file that is loaded", &|| EventData::ExecuteLoadQuery, &["LOAD DATA", "binlog_format = ROW"]);
    refused("a statement", &|| EventData::Query(query("UPDATE t SET id = id + 1")), &["UPDATE t", "binlog_format"]);
    // Of a table that nobody reads.
    let mut router = router(TableState::Done);
    begin(&mut router, 5);
    route(&mut router, EventData::PartialUpdateRows { table_id: 9 }).unwrap();
    // Nor is an event skipped that nobody knows, unless it says that it may be.
    let error = Event::parse(&crate::testing::event(99, &[1, 2, 3, 4]), Checksums::Crc32).unwrap_err().to_string();
    assert!(error.contains("type 99") && error.contains("could lose rows"), "{error}");
    let mut ignorable = crate::testing::event(99, &[1, 2, 3, 4]);
    ignorable[17] |= 0x80;
    let body = ignorable.len() - 4;
    let checksum = crc32fast::hash(&ignorable[..body]);
    ignorable[body..].copy_from_slice(&checksum.to_le_bytes());
    assert!(matches!(Event::parse(&ignorable, Checksums::Crc32).unwrap().data, EventData::Other));
}

/// Whatever order a server sends sound events in: rows, or an error for good, and never a row of a transaction without end.
#[test]
fn events_in_any_order_are_rows_or_errors() {
    let sound = [
        table_map_event("shop", "t", &[(column_code::LONGLONG, &[])]),
        table_map_event("shop", "other", &[(column_code::LONG, &[])]),
        table_map_event("shop", "t", &[(column_code::LONG, &[])]),
        inserted(1..=3),
        rows_event(code::UPDATE_ROWS, 1, &[&[0][..], &1i64.to_le_bytes(), &[0], &9i64.to_le_bytes()].concat()),
        rows_event(code::DELETE_ROWS, 1, &[&[0][..], &2i64.to_le_bytes()].concat()),
        rows_event(code::WRITE_ROWS, 1, &[0, 1, 2]),
        rows_event(code::WRITE_ROWS, 2, &[0; 18]),
    ];
    let statements = [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT `s`",
        "ROLLBACK TO `s`",
        "XA START X'61',X'',1",
        "XA END X'61',X'',1",
        "XA COMMIT X'61',X'',1",
        "XA ROLLBACK X'61',X'',1",
        "CREATE TABLE other (id INT)",
        "ALTER TABLE t ADD COLUMN x INT",
        "DROP TABLE t",
    ];
    let mut random = SmallRng::seed_from_u64(1);
    let mut below = |n: usize| random.random_range(0..n);
    let (mut committed, mut refused) = (0, 0);
    for _ in 0..3000 {
        let state = if below(2) == 0 { TableState::Done } else { TableState::Empty };
        let reads = state == TableState::Empty && below(2) == 0;
        let mut router = router(state);
        if reads {
            let fold = Fold::new(&router.tables[0].layout).unwrap();
            router.tables[0].chunk = Some(ActiveChunk { upper: None, fold });
        }
        let (mut number, mut step) = (4, 0);
        for _ in 0..30 {
            // Mostly what comes next in a sound log: a transaction, its begin, a table, rows, the end.
            let what = if below(6) > 0 { step % 5 } else { below(10) };
            step += 1;
            let result = match what {
                0 => {
                    number += 1;
                    let event = GtidEvent {
                        gtid: Some(gtid(number)),
                        original_commit_us: 1,
                        immediate_commit_us: 1,
                        transaction_bytes: 0,
                    };
                    route(&mut router, EventData::Gtid(event))
                }
                1 => run(&mut router, "BEGIN"),
                2 => route_bytes(&mut router, &sound[0]),
                3 => route_bytes(&mut router, &sound[3]),
                4 => route(&mut router, EventData::Xid(1)),
                5 => run(&mut router, statements[below(statements.len())]),
                _ => route_bytes(&mut router, &sound[below(sound.len())]),
            };
            if let Err(e) = result {
                assert!(!e.is_transient(), "{e}");
                refused += 1;
                break;
            }
            committed += usize::from(router.is_between() && router.waiting().1 > 0);
        }
    }
    assert!(committed > 100 && refused > 1000, "{committed} with rows, {refused} refused");
}
