//! Tests of `restore`: small graphs against stored ones.

use std::collections::BTreeMap;

use thalweg_core::stored::{StoredShard, StoredTable};
use thalweg_core::table::{ChangelogMode, ColumnKind, Delivery, SinkMode, TableColumn, TableDef};
use thalweg_core::{Column, ErrorCode, SqlType};
use thalweg_graph::ops::SortKey;
use thalweg_graph::ops::filter::FilterSpec;
use thalweg_graph::ops::join::JoinSpec;
use thalweg_graph::ops::sink::SinkSpec;
use thalweg_graph::ops::source::{SourceSpec, SourceTableSpec};
use thalweg_graph::ops::top_n::TopNSpec;
use thalweg_graph::{Edge, Expr, GraphBuilder, Literal, LiteralValue, Partitioning};

use super::*;
use crate::manifest::tests::manifest;
use crate::segments::{Segment, SinkLog};

/// What a test's query looks like.
#[derive(Clone)]
struct Query {
    amount: SqlType,
    /// Columns of orders that are carried: of id, region, amount, note.
    columns: Vec<usize>,
    top: u64,
    joined: bool,
    filter: Option<i64>,
    append_only: bool,
    sink: &'static str,
}

const QUERY: fn() -> Query = || Query {
    amount: SqlType::Decimal { precision: 10, scale: 2 },
    columns: vec![0, 1, 2, 3],
    top: 3,
    joined: false,
    filter: None,
    append_only: false,
    sink: "out",
};

fn table(name: &str, columns: Vec<Column>) -> TableDef {
    let physical = |column| TableColumn { column, kind: ColumnKind::Physical };
    TableDef {
        name: name.into(),
        columns: columns.into_iter().map(physical).collect(),
        primary_key: vec![0],
        partitioned_by: vec![],
        options: BTreeMap::new(),
    }
}

fn source(b: &mut GraphBuilder, def: TableDef, columns: Vec<usize>, append_only: bool) -> NodeIx {
    let tables = vec![SourceTableSpec {
        identity: BTreeMap::from([("path".into(), format!("/data/{}.json", def.name))]),
        def,
        columns,
        with_order: false,
        variant: BTreeMap::new(),
        changelog: if append_only { ChangelogMode::Append } else { ChangelogMode::Retract },
        bounded: true,
        unstable_metadata: vec![],
        key_guaranteed: true,
        rows: vec![],
        note: None,
    }];
    b.add(OperatorSpec::Source(SourceSpec { connector: "filesystem".into(), group: None, tables }), vec![]).unwrap()
}

fn edge(from: NodeIx, route: Partitioning) -> Edge {
    Edge { from, output: 0, route }
}

fn graph(queries: &[Query]) -> Graph {
    let mut b = GraphBuilder::new();
    for q in queries {
        let orders = table(
            "orders",
            vec![
                Column::new("id", SqlType::BigInt, false),
                Column::new("region", SqlType::VarChar(20), true),
                Column::new("amount", q.amount.clone(), true),
                Column::new("note", SqlType::STRING, true),
            ],
        );
        let mut node = source(&mut b, orders, q.columns.clone(), q.append_only);
        if let Some(limit) = q.filter {
            let limit = Literal { ty: SqlType::BigInt, value: LiteralValue::Integer(limit) };
            let args = vec![Expr::column(0, SqlType::BigInt), Expr::Literal(limit)];
            let predicate = Expr::call("<", args, SqlType::Boolean);
            node = b.add(OperatorSpec::Filter(FilterSpec { predicate }), vec![edge(node, Partitioning::Same)]).unwrap();
        }
        if q.joined {
            let customers = table("customers", vec![Column::new("id", SqlType::BigInt, false)]);
            let right = source(&mut b, customers, vec![0], q.append_only);
            let join = JoinSpec { left_keys: vec![0], right_keys: vec![0], residual: None };
            let by_id = |n| edge(n, Partitioning::Hash(vec![0]));
            node = b.add(OperatorSpec::Join(join), vec![by_id(node), by_id(right)]).unwrap();
        }
        if q.top > 0 {
            let top = TopNSpec {
                partition: vec![1],
                order: vec![SortKey { column: 2, descending: true, nulls_first: false }],
                ties: vec![0],
                from: 1,
                to: Some(q.top),
                rank: None,
            };
            node = b.add(OperatorSpec::TopN(top), vec![edge(node, Partitioning::Hash(vec![1]))]).unwrap();
        }
        let sink = SinkSpec {
            connector: "filesystem".into(),
            def: table(q.sink, vec![]),
            identity: BTreeMap::from([("path".into(), format!("/out/{}", q.sink))]),
            accepts: SinkMode::Retract,
            delivery: Delivery::ExactlyOnce,
            needs_net: true,
            key: vec![],
            one_row: false,
        };
        b.add(OperatorSpec::Sink(sink), vec![edge(node, Partitioning::Same)]).unwrap();
    }
    b.finish()
}

/// Checkpoint 18 of a job that ran `queries` for a while.
fn stored(queries: &[Query]) -> Manifest {
    let graph = graph(queries);
    let mut m = Manifest { graph: graph.clone(), tick: 3981, job_name: "top_customers".into(), ..manifest("j", 18) };
    let mut tables = vec![];
    for node in &graph.nodes {
        for spec in &node.state {
            let name = table_name(node, &spec.name);
            tables.push(StoredTable { column_family: name.to_string(), name, rows: 10, bytes: 212_000_000 });
        }
        match &node.spec {
            OperatorSpec::Source(s) => m.sources.push(SourceLog {
                operator: node.id,
                variant: node.variant,
                name: s.tables[0].def.name.clone(),
                positions: BTreeMap::from([("f".into(), serde_json::json!(5))]),
                rows: 2_000_000,
            }),
            OperatorSpec::Sink(s) => m.sinks.push(SinkLog::new(node.id, &s.def.name)),
            _ => {}
        }
    }
    m.shards = vec![StoredShard { groups: 0..256, files: vec![], tables }];
    m
}

fn request<'a>(manifest: &'a Manifest, graph: &'a Graph, flags: [bool; 2]) -> Request<'a> {
    Request {
        manifest,
        graph,
        places: &[],
        place: "./state",
        max_parallelism: None,
        allow_non_restored_state: flags[0],
        allow_partial_history: flags[1],
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn refused(manifest: &Manifest, graph: &Graph, flags: [bool; 2]) -> Error {
    let e = plan(&request(manifest, graph, flags)).unwrap_err();
    assert_eq!(e.code(), ErrorCode::Checkpoint);
    assert!(!e.is_transient() && e.notes().last().unwrap().starts_with("Choose one:"), "{e:?}");
    e
}

#[test]
fn the_same_query_is_reused_whole() {
    let m = stored(&[Query { joined: true, ..QUERY() }]);
    let p = plan(&request(&m, &m.graph, [false; 2])).unwrap();
    assert!(p.nodes.iter().all(|f| matches!(f, Fate::Reused { .. })) && p.dropped.is_empty());
    assert_eq!(p.tables.len(), 3);
    assert!(p.tables.iter().all(|t| t.narrow.is_none() && t.stored == t.table));
    assert_eq!(p.sources.len(), 2);
    let report = p.report(&request(&m, &m.graph, [false; 2]));
    assert_eq!((report.reused, report.new, report.dropped, report.lines.len()), (5, 0, 0, 0));
}

#[test]
fn fewer_columns_are_reuse_and_more_name_the_column() {
    let wide = QUERY();
    let narrow = Query { columns: vec![0, 1, 2], ..QUERY() };
    let (m, g) = (stored(std::slice::from_ref(&wide)), graph(std::slice::from_ref(&narrow)));
    let p = plan(&request(&m, &g, [false; 2])).unwrap();
    let t = &p.tables[0];
    assert_ne!(t.stored.variant, t.table.variant);
    let n = t.narrow.as_ref().unwrap();
    assert_eq!((n.types.as_slice(), n.keep.as_slice()), (&[SqlType::STRING, SqlType::BigInt][..], &[1][..]));
    assert_eq!(p.sources.len(), 1, "a source goes on whatever columns it carries");

    let (m, g) = (stored(&[narrow]), graph(&[wide]));
    let e = refused(&m, &g, [false; 2]);
    let table = &e.notes()[0];
    assert!(table.contains("state table \"rows\":\n"), "{table}");
    assert!(table.lines().any(|l| words(l) == "value 2 — note STRING ← not in the checkpoint"), "{table}");
}

#[test]
fn a_difference_is_shown_for_both_sides_column_by_column() {
    let m = stored(&[QUERY()]);
    let g = graph(&[Query { amount: SqlType::Decimal { precision: 12, scale: 4 }, ..QUERY() }]);
    let e = refused(&m, &g, [false; 2]);
    assert!(e.message().contains("job top_customers does not fit checkpoint 18 in ./state"), "{e:?}");
    let lines: Vec<&str> = e.notes()[0].lines().collect();
    assert!(lines[0].starts_with("TopN ROW_NUMBER <= 3"), "{lines:#?}");
    assert_eq!(
        lines[1..5].iter().map(|l| words(l)).collect::<Vec<_>>(),
        [
            "checkpoint 18 this script",
            "key 1 region VARCHAR(20) region VARCHAR(20)",
            "key 2 amount DECIMAL(10, 2) DESC amount DECIMAL(12, 4) DESC ← type differs",
            "key 3 id BIGINT id BIGINT"
        ]
    );
    // Where it stands in the script is said with it.
    let places: Vec<_> = (0..g.nodes.len()).map(|i| Some(Place::new(i as u32 + 1, 8, 1))).collect();
    let placed = plan(&Request { places: &places, ..request(&m, &g, [false; 2]) }).unwrap_err();
    let top = g.nodes.iter().position(|n| matches!(n.spec, OperatorSpec::TopN(_))).unwrap();
    let (place, note) = placed.placed_notes().next().unwrap();
    assert_eq!((place, note), (places[top], e.notes()[0].as_str()));
    assert!(placed.placed_notes().last().unwrap().0.is_none());
    // Dropped by one flag, it is new, and misses what was read.
    let e = refused(&m, &g, [true, false]);
    assert!(e.notes()[0].contains("is new and has no state, but its source orders goes on from tick 3,981: it would never see the 2,000,000 rows read before"), "{e:?}");
    let p = plan(&request(&m, &g, [true, true])).unwrap();
    assert!(p.tables.is_empty() && p.nodes.contains(&Fate::New { partial_history: true }));
    let lines = p.report(&request(&m, &g, [true, true])).lines;
    assert!(
        lines.iter().any(|l| l.starts_with("new      ") && l.contains("after tick 3,981 (partial history)")),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|l| l.starts_with("dropped  ") && l.contains("rows 212 MB, still in checkpoint 18")),
        "{lines:#?}"
    );
}

#[test]
fn dropping_state_needs_its_flag() {
    let m = stored(&[QUERY(), Query { top: 5, sink: "other", ..QUERY() }]);
    let g = graph(&[QUERY()]);
    let e = refused(&m, &g, [false, true]);
    assert!(e.notes()[0].contains("TopN ROW_NUMBER <= 5") && e.notes()[0].contains("its state (rows 212 MB)"), "{e:?}");
    assert!(words(e.notes().last().unwrap()).contains("--allow-non-restored-state drops the state"), "{e:?}");
    let p = plan(&request(&m, &g, [true, false])).unwrap();
    assert_eq!((p.dropped.len(), p.tables.len()), (2, 1));
}

#[test]
fn output_that_waits_is_not_dropped_silently() {
    let mut m = stored(&[QUERY(), Query { sink: "other", ..QUERY() }]);
    let g = graph(&[QUERY()]);
    plan(&request(&m, &g, [false; 2])).unwrap();
    let log = m.sinks.iter_mut().find(|s| s.name == "other").unwrap();
    log.last_staged = 1;
    log.pending = vec![Segment { number: 1, first_tick: 1, last_tick: 2, rows: 7, bytes: 70, parts: vec![] }];
    assert!(refused(&m, &g, [false; 2]).notes()[0].contains("7 rows that wait for the target"));
    plan(&request(&m, &g, [true, false])).unwrap();
}

#[test]
fn an_unrelated_insert_comes_and_goes() {
    let unrelated = Query { joined: false, top: 0, sink: "copy", append_only: true, ..QUERY() };
    let other_source = |q: &Query| {
        let mut g = graph(std::slice::from_ref(q));
        // Another file: its own position, at its start.
        let OperatorSpec::Source(s) = &mut g.nodes[0].spec else { panic!() };
        s.tables[0].identity.insert("path".into(), "/data/elsewhere".into());
        g
    };
    let m = stored(&[QUERY()]);
    // With a source of its own nothing is missed.
    let mut b = GraphBuilder::new();
    for g in [graph(&[QUERY()]), other_source(&unrelated)] {
        let first = b.graph().nodes.len();
        for n in g.nodes {
            let inputs = n.inputs.into_iter().map(|e| Edge { from: e.from + first, ..e }).collect();
            b.add(n.spec, inputs).unwrap();
        }
    }
    let g = b.finish();
    let p = plan(&request(&m, &g, [false; 2])).unwrap();
    assert_eq!(p.nodes.iter().filter(|f| **f == Fate::New { partial_history: false }).count(), 2);
    // Taken out again, its source's position goes with it: nothing that goes on ever read that source.
    let mut both = stored(&[QUERY()]);
    both.graph = g.clone();
    let (elsewhere, copy) = (&g.nodes[g.nodes.len() - 2], &g.nodes[g.nodes.len() - 1]);
    both.sources.push(SourceLog { operator: elsewhere.id, variant: elsewhere.variant, ..both.sources[0].clone() });
    both.sinks.push(SinkLog::new(copy.id, "copy"));
    let without = graph(&[QUERY()]);
    let r = request(&both, &without, [false; 2]);
    let p = plan(&r).unwrap();
    assert_eq!((p.dropped.len(), p.sources.len(), p.tables.len()), (2, 1, 1));
    let lines = p.report(&r).lines;
    assert!(
        lines.iter().any(|l| l.starts_with("dropped  ") && l.contains("position after 2,000,000 rows")),
        "{lines:#?}"
    );
    // On the same source the new sink would lack what was read.
    let g = graph(&[QUERY(), Query { append_only: false, ..unrelated }]);
    let e = refused(&m, &g, [false; 2]);
    assert!(e.notes()[0].contains("Sink copy") && e.notes()[0].contains("the target would lack"), "{e:?}");
    plan(&request(&m, &g, [false, true])).unwrap();
}

#[test]
fn another_source_before_a_sink_that_goes_on_is_no_small_change() {
    let plain = Query { top: 0, append_only: true, ..QUERY() };
    let m = stored(std::slice::from_ref(&plain));
    let mut b = GraphBuilder::new();
    for mut node in graph(&[plain]).nodes {
        if let OperatorSpec::Source(s) = &mut node.spec {
            s.tables[0].identity.insert("path".into(), "/data/elsewhere".into());
        }
        b.add(node.spec, node.inputs).unwrap();
    }
    let g = b.finish();
    let e = refused(&m, &g, [false; 2]);
    assert!(
        e.notes()[0].contains("Source orders") && e.notes()[0].contains("its position, after 2,000,000 rows"),
        "{e:?}"
    );
    plan(&request(&m, &g, [true, false])).unwrap();
}

#[test]
fn tables_that_were_never_written_fit_whatever_they_are() {
    let mut m = stored(&[QUERY()]);
    m.shards.clear();
    m.sources.clear();
    let g = graph(&[Query { amount: SqlType::Decimal { precision: 12, scale: 4 }, ..QUERY() }]);
    let p = plan(&request(&m, &g, [false; 2])).unwrap();
    assert!(p.nodes.contains(&Fate::New { partial_history: false }), "{p:?}");
}

#[test]
fn a_source_at_its_start_has_nothing_to_be_missed() {
    let mut m = stored(&[QUERY()]);
    m.sources[0].rows = 0;
    m.sources[0].positions.clear();
    plan(&request(&m, &graph(&[Query { top: 5, ..QUERY() }]), [true, false])).unwrap();
}

#[test]
fn a_changed_path_to_an_old_sink_matters_on_changing_edges_only() {
    for append_only in [true, false] {
        let plain = Query { top: 0, append_only, ..QUERY() };
        let m = stored(std::slice::from_ref(&plain));
        let g = graph(&[Query { filter: Some(9), ..plain }]);
        let result = plan(&request(&m, &g, [false; 2]));
        if append_only {
            assert!(result.is_ok());
        } else {
            let e = result.unwrap_err();
            assert!(e.notes()[0].contains("gets its rows another way than before"), "{e:?}");
            plan(&request(&m, &g, [false, true])).unwrap();
        }
    }
}

#[test]
fn state_is_never_given_to_two_nodes() {
    let narrow = Query { columns: vec![0, 1, 2], sink: "other", ..QUERY() };
    let m = stored(&[QUERY()]);
    // Two variants want the one that is stored: the equal one gets it, the other is new.
    let g = graph(&[narrow.clone(), QUERY()]);
    let e = refused(&m, &g, [false; 2]);
    assert!(e.notes().iter().any(|n| n.contains("is new and has no state")), "{e:?}");
    let p = plan(&request(&m, &g, [false, true])).unwrap();
    assert_eq!(p.tables.len(), 1);
    assert_eq!(p.tables[0].stored, p.tables[0].table);
    assert_eq!(p.sources.len(), 2, "but both may go on from the source's position");
    // Two stored variants would do for one new: nobody can tell which.
    let m = stored(&[QUERY(), narrow]);
    let g = graph(&[Query { columns: vec![0, 2, 1], ..QUERY() }]);
    if plan(&request(&m, &g, [true, true])).is_err() {
        let e = refused(&m, &g, [true, true]);
        assert!(e.notes()[0].contains("could go on from 2 stored variants"), "{e:?}");
    }
}

#[test]
fn changed_options_of_a_source_are_told() {
    let m = stored(&[QUERY()]);
    let mut b = GraphBuilder::new();
    for mut node in m.graph.nodes.clone() {
        if let OperatorSpec::Source(s) = &mut node.spec {
            s.tables[0].variant.insert("json.ignore-parse-errors".into(), "true".into());
        }
        b.add(node.spec, node.inputs).unwrap();
    }
    let g = b.finish();
    let r = request(&m, &g, [false; 2]);
    let p = plan(&r).unwrap();
    assert_eq!((p.tables.len(), p.sources.len()), (1, 1));
    assert!(
        p.report(&r).lines[0].contains(
            "position after 2,000,000 rows: f 5; from there on with changed options: json.ignore-parse-errors"
        )
    );
}

#[test]
fn the_number_of_key_groups_cannot_change() {
    let m = stored(&[QUERY()]);
    let r = Request { max_parallelism: Some(512), ..request(&m, &m.graph, [true; 2]) };
    let e = plan(&r).unwrap_err();
    assert!(e.notes()[0].contains("512") && e.notes()[0].contains("256"), "{e:?}");
    assert!(!e.notes().last().unwrap().contains("--allow"), "no flag helps");
    plan(&Request { max_parallelism: Some(256), ..r }).unwrap();
}
