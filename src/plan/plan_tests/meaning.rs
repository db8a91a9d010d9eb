//! The rewrites keep the meaning: random queries give the same answer as bound and as rewritten, both computed by a plain
//! interpreter that looks at every row one by one.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use thalweg_graph::ops::SortKey;
use thalweg_graph::ops::aggregate::AggregateFunction;
use thalweg_graph::ops::deduplicate::Keep;
use thalweg_graph::{Expr, LiteralValue};

use super::random::Random;
use super::{Fake, catalog};
use crate::bind::Binder;
use crate::logical::{Op, Rel, TopN};
use crate::lower::prepare;
use crate::planner::PlanSettings;
use crate::sql::{Statement, parse_statement};

const QUERIES: u64 = 4000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    /// The smallest, as in ORDER BY.
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
}

type Row = Vec<Value>;

fn data(table: &str) -> Vec<Row> {
    let row = |id: i64, x: Option<i64>, s: Option<&str>| {
        let s = s.map_or(Value::Null, |s| Value::Text(s.to_owned()));
        vec![Value::Int(id), x.map_or(Value::Null, Value::Int), s]
    };
    match table {
        "keyed" => vec![
            row(1, Some(5), Some("a")),
            row(2, Some(5), Some("b")),
            row(3, None, Some("a")),
            row(4, Some(0), None),
            row(5, Some(3), Some("B")),
        ],
        _ => vec![
            row(1, Some(1), Some("a")),
            row(1, Some(1), Some("a")),
            row(2, None, Some("c")),
            row(5, Some(2), Some("b")),
            row(7, Some(5), None),
        ],
    }
}

fn truth(v: &Value) -> Option<bool> {
    match v {
        Value::Bool(b) => Some(*b),
        _ => None,
    }
}

fn of_truth(b: Option<bool>) -> Value {
    b.map_or(Value::Null, Value::Bool)
}

fn eval(e: &Expr, row: &[Value]) -> Value {
    match e {
        Expr::Column { ordinal, .. } => row[*ordinal].clone(),
        Expr::Literal(l) => match &l.value {
            LiteralValue::Null => Value::Null,
            LiteralValue::Boolean(b) => Value::Bool(*b),
            LiteralValue::Integer(i) => Value::Int(*i),
            LiteralValue::String(s) => Value::Text(s.clone()),
            other => panic!("{other:?}"),
        },
        Expr::Cast { expr, .. } => eval(expr, row),
        Expr::Case { operand: None, branches, otherwise, .. } => branches
            .iter()
            .find(|(when, _)| truth(&eval(when, row)) == Some(true))
            .map(|(_, then)| eval(then, row))
            .or_else(|| otherwise.as_ref().map(|o| eval(o, row)))
            .unwrap_or(Value::Null),
        Expr::Case { .. } => panic!("CASE with an operand"),
        Expr::Call { function, args, .. } => {
            let v: Vec<Value> = args.iter().map(|a| eval(a, row)).collect();
            let some_null = v.contains(&Value::Null);
            match (function.as_str(), v.as_slice()) {
                ("and", [l, r]) => of_truth(match (truth(l), truth(r)) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                }),
                ("or", [l, r]) => of_truth(match (truth(l), truth(r)) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                }),
                ("not", [x]) => of_truth(truth(x).map(|b| !b)),
                ("is_null", [x]) => Value::Bool(*x == Value::Null),
                ("is_not_null", [x]) => Value::Bool(*x != Value::Null),
                ("coalesce", all) => all.iter().find(|v| **v != Value::Null).cloned().unwrap_or(Value::Null),
                ("in", [x, list @ ..]) => {
                    if *x == Value::Null {
                        Value::Null
                    } else if list.contains(x) {
                        Value::Bool(true)
                    } else {
                        of_truth((!list.contains(&Value::Null)).then_some(false))
                    }
                }
                _ if some_null => Value::Null,
                ("=", [l, r]) => Value::Bool(l == r),
                ("<>", [l, r]) => Value::Bool(l != r),
                ("<", [l, r]) => Value::Bool(l < r),
                ("<=", [l, r]) => Value::Bool(l <= r),
                (">", [l, r]) => Value::Bool(l > r),
                (">=", [l, r]) => Value::Bool(l >= r),
                ("+", [Value::Int(l), Value::Int(r)]) => Value::Int(l + r),
                ("||", [Value::Text(l), Value::Text(r)]) => Value::Text(format!("{l}{r}")),
                ("upper", [Value::Text(s)]) => Value::Text(s.to_uppercase()),
                ("like", [Value::Text(s), Value::Text(p)]) => {
                    Value::Bool(s.starts_with(p.strip_suffix('%').expect("all patterns end so")))
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn passes(conjuncts: &[Expr], row: &[Value]) -> bool {
    conjuncts.iter().all(|c| truth(&eval(c, row)) == Some(true))
}

/// Sorted by the keys, then by all columns.
fn sorted(mut rows: Vec<Row>, order: &[SortKey]) -> Vec<Row> {
    rows.sort_by(|a, b| {
        let by_key = order.iter().map(|k| {
            let (x, y) = (&a[k.column], &b[k.column]);
            match (x == &Value::Null, y == &Value::Null) {
                (true, true) => Ordering::Equal,
                (true, false) if k.nulls_first => Ordering::Less,
                (true, false) => Ordering::Greater,
                (false, true) if k.nulls_first => Ordering::Greater,
                (false, true) => Ordering::Less,
                _ if k.descending => y.cmp(x),
                _ => x.cmp(y),
            }
        });
        by_key.fold(Ordering::Equal, Ordering::then).then_with(|| a.cmp(b))
    });
    rows
}

fn ranked(rows: Vec<Row>, partition: &[usize], order: &[SortKey]) -> Vec<(u64, Row)> {
    let mut groups: BTreeMap<Vec<Value>, Vec<Row>> = BTreeMap::new();
    for row in rows {
        groups.entry(partition.iter().map(|&p| row[p].clone()).collect()).or_default().push(row);
    }
    groups.into_values().flat_map(|rows| (1..).zip(sorted(rows, order))).collect()
}

fn run(rel: &Rel) -> Vec<Row> {
    match &rel.op {
        Op::Scan(scan) => data(&scan.table.def.name)
            .into_iter()
            .enumerate()
            .map(|(i, row)| {
                let mut out: Row = scan.table.columns.iter().map(|&o| row[o].clone()).collect();
                if scan.table.with_order {
                    out.push(Value::Int(i as i64));
                }
                out
            })
            .collect(),
        Op::Values(rows) => {
            rows.iter().map(|r| r.iter().map(|l| eval(&Expr::Literal(l.clone()), &[])).collect()).collect()
        }
        Op::Project { input, exprs } => {
            run(input).iter().map(|row| exprs.iter().map(|e| eval(e, row)).collect()).collect()
        }
        Op::Filter { input, conjuncts } => run(input).into_iter().filter(|r| passes(conjuncts, r)).collect(),
        Op::Join { left, right, conjuncts } => joined(left, right, &[], &[], conjuncts),
        Op::EquiJoin { left, right, left_keys, right_keys, residual } => {
            joined(left, right, left_keys, right_keys, residual)
        }
        Op::Union(inputs) => inputs.iter().flat_map(run).collect(),
        Op::Aggregate { input, group, calls } => {
            let mut groups: BTreeMap<Vec<Value>, Vec<Row>> = BTreeMap::new();
            if group.is_empty() {
                groups.insert(vec![], vec![]);
            }
            for row in run(input) {
                groups.entry(group.iter().map(|&g| row[g].clone()).collect()).or_default().push(row);
            }
            let call = |c: &crate::logical::Call, rows: &[Row]| {
                let rows = rows.iter().filter(|r| c.filter.is_none_or(|f| r[f] == Value::Bool(true)));
                let Some(arg) = c.arg else { return Value::Int(rows.count() as i64) };
                let mut values: Vec<Value> = rows.map(|r| r[arg].clone()).filter(|v| *v != Value::Null).collect();
                values.sort();
                if c.distinct {
                    values.dedup();
                }
                let ints = || values.iter().map(|v| if let Value::Int(i) = v { *i } else { panic!("{v:?}") });
                match c.function {
                    AggregateFunction::Count => Value::Int(values.len() as i64),
                    AggregateFunction::Min => values.first().cloned().unwrap_or(Value::Null),
                    AggregateFunction::Max => values.last().cloned().unwrap_or(Value::Null),
                    _ if values.is_empty() => Value::Null,
                    AggregateFunction::Sum => Value::Int(ints().sum()),
                    AggregateFunction::Avg => Value::Int(ints().sum::<i64>() / values.len() as i64),
                }
            };
            let of = |(key, rows): (Vec<Value>, Vec<Row>)| {
                key.into_iter().chain(calls.iter().map(|c| call(c, &rows))).collect()
            };
            groups.into_iter().map(of).collect()
        }
        Op::RowNumber { input, partition, order, .. } => ranked(run(input), partition, order)
            .into_iter()
            .map(|(rank, mut row)| {
                row.push(Value::Int(rank as i64));
                row
            })
            .collect(),
        Op::TopN(TopN { input, partition, order, from, to, rank: with_rank }) => ranked(run(input), partition, order)
            .into_iter()
            .filter(|(rank, _)| rank >= from && to.is_none_or(|to| *rank <= to))
            .map(|(rank, mut row)| {
                if *with_rank {
                    row.push(Value::Int(rank as i64));
                }
                row
            })
            .collect(),
        Op::Deduplicate { input, key, order, keep } => {
            let key_of = [SortKey { column: *order, descending: *keep == Keep::Last, nulls_first: true }];
            ranked(run(input), key, &key_of).into_iter().filter(|(rank, _)| *rank == 1).map(|(_, row)| row).collect()
        }
    }
}

fn joined(left: &Rel, right: &Rel, left_keys: &[usize], right_keys: &[usize], conjuncts: &[Expr]) -> Vec<Row> {
    let right = run(right);
    let mut out = vec![];
    for l in run(left) {
        for r in &right {
            let equal = left_keys.iter().zip(right_keys).all(|(&x, &y)| l[x] == r[y] && l[x] != Value::Null);
            let row: Row = l.iter().chain(r).cloned().collect();
            if equal && passes(conjuncts, &row) {
                out.push(row);
            }
        }
    }
    out
}

#[test]
fn a_rewritten_query_gives_the_same_answer() {
    let (catalog, settings) = (catalog(), PlanSettings::default());
    let mut with_rows = 0;
    for seed in 0..QUERIES {
        let mut random = Random::over_whole_numbers(seed);
        let sql = random.query();
        let Ok(Statement::Query(query)) = parse_statement(&sql) else { panic!("seed {seed}: {sql}") };
        let binder = Binder::new(&catalog, &Fake, &settings, &query.hints);
        let bound = binder.query(&query.ast, &vec![]).unwrap_or_else(|e| panic!("seed {seed}: {sql}\n{e}"));
        let width = bound.rel.columns.len();
        let expected = sorted(run(&bound.rel), &[]);
        let rewritten = prepare(bound.rel, width).unwrap_or_else(|e| panic!("seed {seed}: {sql}\n{e}"));
        assert_eq!(rewritten.columns.len(), width);
        let found = sorted(run(&rewritten), &[]);
        assert_eq!(found, expected, "seed {seed}: {sql}\n{rewritten:#?}");
        with_rows += usize::from(!found.is_empty());
    }
    assert!(with_rows > QUERIES as usize / 5, "only {with_rows} answers have rows");
}
