//! Columns that nobody reads are dropped, from the sinks down to the sources. What identifies rows is kept where it
//! matters: a unique key decides ties of a Top-N, and tells which row a deletion means where values are memoized.

use std::collections::BTreeSet;

use thalweg_core::SqlType;
use thalweg_core::table::ChangelogMode;
use thalweg_graph::Expr;

use crate::edges::{identity, is_unstable};
use crate::logical::{Op, Rel, Scan, TopN};

/// Stands for a column that is no more.
const GONE: usize = usize::MAX;

/// A relation with fewer columns, and for each of its earlier ordinals the new one (or `GONE`).
type Pruned = (Rel, Vec<usize>);

/// The given columns of `rel` and no others, in this order.
pub(crate) fn exactly(rel: Rel, wanted: &[usize]) -> Rel {
    let mut required: BTreeSet<usize> = wanted.iter().copied().collect();
    keep_identity(&rel, &mut required);
    let (rel, map) = prune(rel, &required);
    narrow(rel, &wanted.iter().map(|&o| map[o]).collect::<Vec<_>>())
}

/// As `exactly`, for the input of an operator with state; with the map of ordinals.
fn input_of_state(rel: Rel, mut required: BTreeSet<usize>) -> Pruned {
    keep_identity(&rel, &mut required);
    let old = rel.columns.len();
    let (rel, map) = prune(rel, &required);
    let wanted: Vec<usize> = required.iter().map(|&o| map[o]).collect();
    if wanted.is_empty() {
        // Nothing is read but that there are rows.
        return (rel, vec![GONE; old]);
    }
    let mut narrowed = vec![GONE; old];
    for (i, &o) in required.iter().enumerate() {
        narrowed[o] = i;
    }
    (narrow(rel, &wanted), narrowed)
}

/// If values that are not stable are used here, what identifies the row must be there to memoize them.
fn keep_identity(input: &Rel, required: &mut BTreeSet<usize>) {
    let Some(facts) = &input.facts else { return };
    if !facts.append_only && required.iter().any(|&o| !facts.columns[o].stable) {
        required.extend(identity(facts));
    }
}

fn narrow(rel: Rel, wanted: &[usize]) -> Rel {
    let is_all = wanted.len() == rel.columns.len() && wanted.iter().enumerate().all(|(i, &o)| i == o);
    if is_all { rel } else { Rel::pick(rel, wanted) }
}

fn mapped(ordinals: &[usize], map: &[usize]) -> Vec<usize> {
    ordinals.iter().map(|&o| map[o]).collect()
}

fn columns_of<'e>(exprs: impl IntoIterator<Item = &'e Expr>) -> BTreeSet<usize> {
    exprs.into_iter().flat_map(Expr::columns).collect()
}

/// How many bytes a value of a column has, to find the cheapest one.
fn width(ty: &SqlType) -> usize {
    match ty {
        SqlType::Boolean | SqlType::TinyInt => 1,
        SqlType::SmallInt => 2,
        SqlType::Int | SqlType::Float | SqlType::Date => 4,
        SqlType::BigInt | SqlType::Double | SqlType::Time(_) | SqlType::Timestamp(_) | SqlType::TimestampLtz(_) => 8,
        SqlType::Decimal { .. } => 16,
        _ => 100,
    }
}

fn prune(rel: Rel, required: &BTreeSet<usize>) -> Pruned {
    let place = rel.place;
    let (pruned, map) = prune_columns(rel, required);
    (pruned.written_at(place), map)
}

fn prune_columns(rel: Rel, required: &BTreeSet<usize>) -> Pruned {
    let Rel { op, columns, facts, place } = rel;
    let old = columns.len();
    match op {
        Op::Scan(scan) => prune_scan(scan, required),
        Op::Values(rows) => {
            let kept: Vec<usize> = if required.is_empty() { vec![0] } else { required.iter().copied().collect() };
            let rows = rows.into_iter().map(|r| kept.iter().map(|&o| r[o].clone()).collect()).collect();
            let columns = kept.iter().map(|&o| columns[o].clone()).collect();
            (Rel::values(rows, columns), positions(&kept, old))
        }
        Op::Project { input, exprs } => {
            if required.is_empty() {
                let (input, _) = prune(*input, required);
                return (input, vec![GONE; old]);
            }
            let kept: Vec<usize> = required.iter().copied().collect();
            let mut below = columns_of(kept.iter().map(|&o| &exprs[o]));
            if let Some(of) = input.facts.as_deref().filter(|f| !f.append_only) {
                let computes = |e: &Expr| !matches!(e, Expr::Column { .. }) && is_unstable(e, of);
                let loses_key = facts.as_ref().is_some_and(|f| {
                    !f.unique_keys.iter().any(|k| k.iter().all(|c| required.contains(c) && f.columns[*c].stable))
                });
                let passes = |e: &Expr| matches!(e, Expr::Column { .. }) && is_unstable(e, of);
                if kept.iter().any(|&o| computes(&exprs[o]) || (loses_key && passes(&exprs[o]))) {
                    below.extend(identity(of));
                }
            }
            let (input, map) = prune(*input, &below);
            let exprs = kept.iter().map(|&o| (exprs[o].map_columns(&|c| map[c]), columns[o].name.clone())).collect();
            (Rel::project(input, exprs), positions(&kept, old))
        }
        Op::Filter { input, conjuncts } => {
            let mut below = required.clone();
            below.extend(columns_of(&conjuncts));
            if let Some(of) = input.facts.as_deref().filter(|f| !f.append_only)
                && conjuncts.iter().any(|c| is_unstable(c, of))
            {
                below.extend(identity(of));
            }
            let (input, map) = prune(*input, &below);
            let conjuncts = conjuncts.iter().map(|c| c.map_columns(&|o| map[o])).collect();
            (Rel::filter(input, conjuncts), map)
        }
        Op::EquiJoin { left, right, left_keys, right_keys, residual } => {
            let split = left.columns.len();
            let mut below = required.clone();
            below.extend(columns_of(&residual));
            let mut left_required: BTreeSet<usize> = below.iter().copied().filter(|&o| o < split).collect();
            let mut right_required: BTreeSet<usize> =
                below.iter().filter(|&&o| o >= split).map(|&o| o - split).collect();
            left_required.extend(&left_keys);
            right_required.extend(&right_keys);
            let (left, left_map) = input_of_state(*left, left_required);
            let (right, right_map) = input_of_state(*right, right_required);
            let new_split = left.columns.len();
            let shifted = |&o: &usize| if o == GONE { GONE } else { o + new_split };
            let map: Vec<usize> = left_map.iter().copied().chain(right_map.iter().map(shifted)).collect();
            let keys = mapped(&left_keys, &left_map).into_iter().zip(mapped(&right_keys, &right_map)).collect();
            let residual = residual.iter().map(|c| c.map_columns(&|o| map[o])).collect();
            (Rel::equi_join(left, right, keys, residual), map)
        }
        Op::Join { left, right, conjuncts } => {
            // Keys are found before columns are pruned.
            (Rel { op: Op::Join { left, right, conjuncts }, columns, facts, place }, (0..old).collect())
        }
        Op::Union(inputs) => {
            let kept: Vec<usize> =
                if required.is_empty() { vec![cheapest(&columns)] } else { required.iter().copied().collect() };
            let inputs = inputs.into_iter().map(|i| exactly(i, &kept)).collect();
            (Rel::union(inputs), positions(&kept, old))
        }
        Op::Aggregate { input, group, calls } => {
            let groups = group.len();
            let mut kept: Vec<usize> = (0..calls.len()).filter(|i| required.contains(&(groups + i))).collect();
            // A global aggregate has a row, whatever is read of it.
            if groups == 0 && kept.is_empty() {
                kept.push(0);
            }
            let below =
                group.iter().copied().chain(kept.iter().flat_map(|&i| calls[i].arg.into_iter().chain(calls[i].filter)));
            let (input, map) = input_of_state(*input, below.collect());
            let group = mapped(&group, &map);
            let calls_kept = kept.iter().map(|&i| {
                let mut call = calls[i].clone();
                call.arg = call.arg.map(|o| map[o]);
                call.filter = call.filter.map(|o| map[o]);
                call
            });
            let rel = Rel::aggregate(input, group, calls_kept.collect());
            let outputs: Vec<usize> = (0..groups).chain(kept.iter().map(|i| groups + i)).collect();
            (rel, positions(&outputs, old))
        }
        Op::TopN(TopN { input, partition, order, from, to, rank }) => {
            let width = input.columns.len();
            let mut below: BTreeSet<usize> = required.iter().copied().filter(|&o| o < width).collect();
            below.extend(&partition);
            below.extend(order.iter().map(|k| k.column));
            if let Some(key) = input.facts.as_ref().and_then(|f| f.unique_keys.first()) {
                below.extend(key);
            }
            if below.is_empty() {
                below.insert(cheapest(&input.columns));
            }
            let (input, mut map) = input_of_state(*input, below);
            let mut order = order;
            for k in &mut order {
                k.column = map[k.column];
            }
            let partition = mapped(&partition, &map);
            let rank = rank && required.contains(&width);
            let name = columns[columns.len() - 1].name.clone();
            let new_width = input.columns.len();
            if old > width {
                map.push(if rank { new_width } else { GONE });
            }
            (Rel::top_n(TopN { input: Box::new(input), partition, order, from, to, rank }, &name), map)
        }
        Op::Deduplicate { input, key, order, keep } => {
            let mut below = required.clone();
            below.extend(&key);
            below.insert(order);
            let (input, map) = input_of_state(*input, below);
            (Rel::deduplicate(input, mapped(&key, &map), map[order], keep), map)
        }
        op @ Op::RowNumber { .. } => {
            // Rewritten before columns are pruned.
            (Rel { op, columns, facts, place }, (0..old).collect())
        }
    }
}

fn cheapest(columns: &[thalweg_core::Column]) -> usize {
    (0..columns.len()).min_by_key(|&o| width(&columns[o].ty)).unwrap_or(0)
}

fn prune_scan(mut scan: Scan, required: &BTreeSet<usize>) -> Pruned {
    let table = &scan.table;
    let all = table.columns.len();
    let old = all + usize::from(table.with_order);
    let mut kept: BTreeSet<usize> = required.iter().copied().filter(|&o| o < all).collect();
    if table.changelog == ChangelogMode::Upsert {
        let position = |k: &usize| table.columns.iter().position(|c| c == k);
        kept.extend(table.def.primary_key.iter().filter_map(position));
    }
    if kept.is_empty() {
        let of = |&o: &usize| width(&table.def.columns[table.columns[o]].column.ty);
        kept.extend((0..all).min_by_key(of));
    }
    let kept: Vec<usize> = kept.into_iter().collect();
    let mut map = positions(&kept, old);
    let with_order = table.with_order && required.contains(&all);
    if with_order {
        map[all] = kept.len();
    }
    scan.table.columns = kept.iter().map(|&o| scan.table.columns[o]).collect();
    scan.table.with_order = with_order;
    (Rel::scan(scan), map)
}

fn positions(kept: &[usize], old: usize) -> Vec<usize> {
    let mut map = vec![GONE; old];
    for (i, &o) in kept.iter().enumerate() {
        map[o] = i;
    }
    map
}
