//! Equalities between the two sides of a join become its keys. Where the order of a FROM list would multiply tables that
//! only a later one connects, the first one that is connected comes next; otherwise the order stays as it is written.

use thalweg_core::Result;
use thalweg_graph::Expr;

use super::fallible::is_infallible;
use crate::logical::{Op, Rel};

/// Joins as they can be keyed, then keyed.
pub(super) fn find_keys(rel: Rel) -> Result<Rel> {
    keyed(connect(rel)?)
}

/// Rewrites every tree of joins in which one multiplies though another order would connect its sides.
fn connect(rel: Rel) -> Result<Rel> {
    if !matches!(rel.op, Op::Join { .. }) {
        return rel.map_inputs(&mut connect);
    }
    let rel = below_joins(rel)?;
    if !multiplies(&rel) {
        return Ok(rel);
    }
    let (mut ranges, mut conjuncts) = (vec![], vec![]);
    flatten(&rel, 0, &mut ranges, &mut conjuncts);
    // Two tables have no other order; a condition that can fail keeps its place.
    if ranges.len() < 3 || !conjuncts.iter().all(is_infallible) {
        return Ok(rel);
    }
    let order = connected_order(&ranges, &conjuncts);
    if order.iter().enumerate().all(|(i, &t)| i == t) {
        return Ok(rel);
    }
    let columns = rel.columns.clone();
    let mut tables = vec![];
    take_tables(rel, &mut tables);
    Ok(in_order(tables, &ranges, &order, conjuncts, columns))
}

/// `connect` for what is joined, not for the joins themselves.
fn below_joins(rel: Rel) -> Result<Rel> {
    if matches!(rel.op, Op::Join { .. }) { rel.map_inputs(&mut below_joins) } else { connect(rel) }
}

/// Where the columns of a table stand among those of all.
#[derive(Debug, Clone, Copy)]
struct Range {
    from: usize,
    to: usize,
}

impl Range {
    fn has(self, o: usize) -> bool {
        (self.from..self.to).contains(&o)
    }
}

/// Whether a join in the tree has no equality between its sides.
fn multiplies(rel: &Rel) -> bool {
    match &rel.op {
        Op::Join { left, right, conjuncts } => {
            let width = left.columns.len();
            !conjuncts.iter().any(|c| equality(c, width).is_some()) || multiplies(left) || multiplies(right)
        }
        _ => false,
    }
}

/// The tables of a tree of joins in their order, and all conditions over the columns of all.
fn flatten(rel: &Rel, from: usize, tables: &mut Vec<Range>, conjuncts: &mut Vec<Expr>) {
    if let Op::Join { left, right, conjuncts: own } = &rel.op {
        flatten(left, from, tables, conjuncts);
        flatten(right, from + left.columns.len(), tables, conjuncts);
        conjuncts.extend(own.iter().map(|c| c.map_columns(&|o| o + from)));
    } else {
        tables.push(Range { from, to: from + rel.columns.len() });
    }
}

fn take_tables(rel: Rel, tables: &mut Vec<Rel>) {
    match rel.op {
        Op::Join { left, right, .. } => {
            take_tables(*left, tables);
            take_tables(*right, tables);
        }
        _ => tables.push(rel),
    }
}

/// From the first table on, always the first of the rest that an equality connects with those before it.
fn connected_order(tables: &[Range], conjuncts: &[Expr]) -> Vec<usize> {
    let mut order = vec![0];
    let mut rest: Vec<usize> = (1..tables.len()).collect();
    while !rest.is_empty() {
        let connects = |&&t: &&usize| {
            conjuncts.iter().any(|c| {
                let Expr::Call { function, args, .. } = c else { return false };
                let [a, b] = args.as_slice() else { return false };
                let of = |e: &Expr, within: &dyn Fn(usize) -> bool| {
                    let columns = e.columns();
                    !columns.is_empty() && columns.into_iter().all(within)
                };
                let before = |o: usize| order.iter().any(|&t| tables[t].has(o));
                let here = |o: usize| tables[t].has(o);
                function == "=" && ((of(a, &before) && of(b, &here)) || (of(b, &before) && of(a, &here)))
            })
        };
        let next = rest.iter().find(connects).copied().unwrap_or(rest[0]);
        rest.retain(|&t| t != next);
        order.push(next);
    }
    order
}

/// The tables joined in this order, each condition as soon as its columns are there; columns as they were.
fn in_order(
    tables: Vec<Rel>,
    ranges: &[Range],
    order: &[usize],
    mut conjuncts: Vec<Expr>,
    columns: Vec<thalweg_core::Column>,
) -> Rel {
    let mut tables: Vec<Option<Rel>> = tables.into_iter().map(Some).collect();
    // Old ordinal → where it stands now.
    let mut place = vec![None; columns.len()];
    let mut joined: Option<Rel> = None;
    for &t in order {
        let Some(table) = tables[t].take() else { continue };
        let from = joined.as_ref().map_or(0, |r| r.columns.len());
        for o in ranges[t].from..ranges[t].to {
            place[o] = Some(from + o - ranges[t].from);
        }
        joined = Some(match joined {
            None => table,
            Some(left) => {
                let is_ready = |c: &Expr| c.columns().into_iter().all(|o| place[o].is_some());
                let (ready, later): (Vec<Expr>, Vec<Expr>) = conjuncts.into_iter().partition(is_ready);
                conjuncts = later;
                let moved = ready.iter().map(|c| c.map_columns(&|o| place[o].unwrap_or(o))).collect();
                Rel::join(left, table, moved)
            }
        });
    }
    let joined = joined.expect("a join has tables");
    let exprs = columns.into_iter().enumerate().map(|(o, c)| (joined.column(place[o].unwrap_or(o)), c.name)).collect();
    Rel::project(joined, exprs)
}

fn keyed(rel: Rel) -> Result<Rel> {
    let rel = rel.map_inputs(&mut keyed)?;
    let Rel { op: Op::Join { left, right, conjuncts }, columns, facts, place } = rel else { return Ok(rel) };
    let (left, right) = (*left, *right);
    let width = left.columns.len();
    let pairs: Vec<Option<(Expr, Expr)>> = conjuncts.iter().map(|c| equality(c, width)).collect();
    // An expression that can fail is a key only if there is no other: as a key it is computed for every row of its side.
    let is_safe = |p: &Option<(Expr, Expr)>| p.as_ref().is_some_and(|(l, r)| is_infallible(l) && is_infallible(r));
    let some_safe = pairs.iter().any(is_safe);
    let mut keys: Vec<(Expr, Expr)> = vec![];
    let mut residual = vec![];
    for (pair, c) in pairs.into_iter().zip(conjuncts) {
        let usable = is_safe(&pair) || (!some_safe && residual.is_empty());
        match pair {
            Some(pair) if usable => {
                if !keys.contains(&pair) {
                    keys.push(pair);
                }
            }
            _ => residual.push(c),
        }
    }
    let named = |e: &Expr, rel: &Rel| (e.clone(), thalweg_graph::explain::expr_over(e, &rel.columns));
    let left_exprs = keys.iter().map(|(l, _)| named(l, &left)).collect();
    let right_exprs = keys.iter().map(|(_, r)| named(r, &right)).collect();
    let (right_width, old_width) = (right.columns.len(), width);
    let (left, left_keys) = left.with_columns(left_exprs);
    let (right, right_keys) = right.with_columns(right_exprs);
    let width = left.columns.len();
    let shifted = |o: usize| if o < old_width { o } else { o - old_width + width };
    let residual = residual.iter().map(|c| c.map_columns(&shifted)).collect();
    let is_as_before = width == old_width && right.columns.len() == right_width;
    let keys = left_keys.into_iter().zip(right_keys).collect();
    let joined = Rel::equi_join(left, right, keys, residual).written_at(place);
    if is_as_before {
        return Ok(Rel { columns, facts, ..joined });
    }
    let exprs = (0..columns.len()).map(|o| (joined.column(shifted(o)), columns[o].name.clone())).collect();
    Ok(Rel::project(joined, exprs))
}

/// An equality of an expression of the left side and one of the right, over their own columns.
fn equality(c: &Expr, width: usize) -> Option<(Expr, Expr)> {
    let Expr::Call { function, args, .. } = c else { return None };
    let [a, b] = args.as_slice() else { return None };
    if function != "=" || c.is_volatile() || !a.ty().is_orderable() {
        return None;
    }
    let side = |e: &Expr| {
        let columns = e.columns();
        match (columns.first(), columns.last()) {
            (Some(_), Some(&last)) if last < width => Some(0),
            (Some(&first), Some(_)) if first >= width => Some(1),
            _ => None,
        }
    };
    let (l, r) = match (side(a)?, side(b)?) {
        (0, 1) => (a, b),
        (1, 0) => (b, a),
        _ => return None,
    };
    Some((l.clone(), r.map_columns(&|o| o - width)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_core::SqlType;

    #[test]
    fn a_table_that_is_connected_comes_before_one_that_is_not() {
        let ranges = [Range { from: 0, to: 2 }, Range { from: 2, to: 4 }, Range { from: 4, to: 6 }];
        let equal = |a, b| {
            let column = |o| Expr::column(o, SqlType::Int);
            Expr::call("=", vec![column(a), column(b)], SqlType::Boolean)
        };
        assert_eq!(connected_order(&ranges, &[equal(0, 4), equal(5, 2)]), [0, 2, 1]);
        assert_eq!(connected_order(&ranges, &[equal(0, 2), equal(5, 3)]), [0, 1, 2]);
        assert_eq!(connected_order(&ranges, &[]), [0, 1, 2]);
    }
}
