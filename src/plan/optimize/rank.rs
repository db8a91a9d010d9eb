//! ROW_NUMBER with bounds: Top-N, or deduplication if it is the first row by arrival.

use thalweg_core::{Error, Place, Result, SqlType};
use thalweg_graph::Expr;
use thalweg_graph::ops::SortKey;
use thalweg_graph::ops::deduplicate::Keep;

use crate::literal;
use crate::logical::{Op, Rel, Scan, TopN};
use crate::refuse::at;

/// Ranks that pass, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub from: i64,
    pub to: Option<i64>,
}

/// Takes the conditions on the rank out of the conjuncts.
pub(super) fn bounds(conjuncts: Vec<Expr>, rank: usize) -> (Bounds, Vec<Expr>) {
    let mut bounds = Bounds { from: 1, to: None };
    let mut rest = vec![];
    for c in conjuncts {
        match bound(&c, rank) {
            Some(b) => {
                bounds.from = bounds.from.max(b.from);
                bounds.to = match (bounds.to, b.to) {
                    (Some(x), Some(y)) => Some(x.min(y)),
                    (x, y) => x.or(y),
                };
            }
            None => rest.push(c),
        }
    }
    (bounds, rest)
}

fn bound(c: &Expr, rank: usize) -> Option<Bounds> {
    let Expr::Call { function, args, .. } = c else { return None };
    let [l, r] = args.as_slice() else { return None };
    let is_rank = |e: &Expr| matches!(e, Expr::Column { ordinal, .. } if *ordinal == rank);
    let (n, op) = if is_rank(l) {
        (literal::integer_value(r)?, function.as_str())
    } else if is_rank(r) {
        let flipped = match function.as_str() {
            "<" => ">",
            "<=" => ">=",
            ">" => "<",
            ">=" => "<=",
            other => other,
        };
        (literal::integer_value(l)?, flipped)
    } else {
        return None;
    };
    Some(match op {
        "=" | "in" => Bounds { from: n, to: Some(n) },
        "<" => Bounds { from: 1, to: Some(n.saturating_sub(1)) },
        "<=" => Bounds { from: 1, to: Some(n) },
        ">" => Bounds { from: n.saturating_add(1), to: None },
        ">=" => Bounds { from: n, to: None },
        _ => return None,
    })
}

/// The rows of these ranks, with the rank as the last column.
pub(super) fn recognise(
    input: Rel,
    partition: Vec<usize>,
    order: Vec<SortKey>,
    bounds: Bounds,
    name: &str,
    place: Option<Place>,
) -> Result<Rel> {
    if bounds.to.is_none() && !input.is_bounded() {
        let e = Error::unsupported("ROW_NUMBER over unbounded input needs an upper bound");
        return Err(at(e, place).note("filter by it around the query: … WHERE rn <= 10; = k and BETWEEN do too"));
    }
    let is_empty = bounds.to.is_some_and(|to| to < bounds.from.max(1));
    let (from, to) = if is_empty { (1, Some(1)) } else { (bounds.from.max(1) as u64, bounds.to.map(|to| to as u64)) };
    let rel = match (from, to, order.as_slice()) {
        (1, Some(1), [key]) if is_arrival(&input, key.column) => deduplicate(input, &partition, key, name),
        _ => Err(input),
    };
    let rel = rel.unwrap_or_else(|input| {
        Rel::top_n(TopN { input: Box::new(input), partition, order, from, to, rank: true }, name)
    });
    let rel = rel.written_at(place);
    Ok(if is_empty { Rel::filter(rel, vec![literal::boolean(false)]) } else { rel })
}

/// Whether a column is the time at which rows arrive, `PROCTIME()`.
fn is_arrival(rel: &Rel, column: usize) -> bool {
    match &rel.op {
        Op::Filter { input, .. } => is_arrival(input, column),
        Op::Project { input, exprs } => match &exprs[column] {
            Expr::Column { ordinal, .. } => is_arrival(input, *ordinal),
            Expr::Call { function, .. } => function == "proctime",
            _ => false,
        },
        _ => false,
    }
}

/// The first or last row by arrival; gives the input back if its order of arrival is not known.
fn deduplicate(input: Rel, partition: &[usize], key: &SortKey, name: &str) -> std::result::Result<Rel, Rel> {
    let width = input.columns.len();
    let (input, order) = carry_order(input)?;
    let keep = if key.descending { Keep::Last } else { Keep::First };
    let rel = Rel::deduplicate(input, partition.to_vec(), order, keep);
    let mut exprs: Vec<(Expr, String)> = (0..width).map(|o| (rel.column(o), rel.columns[o].name.clone())).collect();
    exprs.push((literal::integer(1, SqlType::BigInt), name.to_owned()));
    Ok(Rel::project(rel, exprs))
}

/// The same relation with the hidden order column behind its others, and that one's ordinal; the relation itself if
/// arrival has no order in it: after a join, a union, any state.
pub(crate) fn carry_order(rel: Rel) -> std::result::Result<(Rel, usize), Rel> {
    let place = rel.place;
    let carried = match rel.op {
        Op::Scan(Scan { ref table, .. }) if table.with_order => {
            let order = rel.columns.len() - 1;
            Ok((rel, order))
        }
        Op::Filter { input, conjuncts } => match carry_order(*input) {
            Ok((input, order)) => Ok((Rel::filter(input, conjuncts), order)),
            Err(input) => Err(Rel::filter(input, conjuncts)),
        },
        Op::Project { input, mut exprs } => match carry_order(*input) {
            Ok((input, order)) => {
                let mut columns = rel.columns;
                columns.push(input.columns[order].clone());
                exprs.push(input.column(order));
                let ordinal = exprs.len() - 1;
                Ok((Rel { op: Op::Project { input: Box::new(input), exprs }, columns, facts: None, place }, ordinal))
            }
            Err(input) => {
                let op = Op::Project { input: Box::new(input), exprs };
                Err(Rel { op, columns: rel.columns, facts: rel.facts, place })
            }
        },
        op => Err(Rel { op, columns: rel.columns, facts: rel.facts, place }),
    };
    match carried {
        Ok((rel, order)) => Ok((rel.written_at(place), order)),
        Err(rel) => Err(rel.written_at(place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_on_the_rank_become_bounds() {
        let rank = || Expr::column(3, SqlType::BigInt);
        let n = |i| literal::integer(i, SqlType::BigInt);
        let c = |op: &str, l, r| Expr::call(op, vec![l, r], SqlType::Boolean);
        let b = |conjuncts| bounds(conjuncts, 3).0;
        assert_eq!(b(vec![c("<=", rank(), n(5))]), Bounds { from: 1, to: Some(5) });
        assert_eq!(b(vec![c("<", rank(), n(5))]), Bounds { from: 1, to: Some(4) });
        assert_eq!(b(vec![c(">=", n(5), rank())]), Bounds { from: 1, to: Some(5) });
        assert_eq!(b(vec![c("=", rank(), n(2))]), Bounds { from: 2, to: Some(2) });
        let both = vec![c(">=", rank(), n(2)), c("<=", rank(), n(4)), c("<=", rank(), n(9))];
        assert_eq!(b(both), Bounds { from: 2, to: Some(4) });
        let (_, rest) = bounds(vec![c("<", Expr::column(0, SqlType::BigInt), n(1))], 3);
        assert_eq!(rest.len(), 1);
    }
}
