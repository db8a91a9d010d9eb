//! Equalities between the two sides of a join become its keys.

use thalweg_core::Result;
use thalweg_graph::Expr;

use super::fallible::is_infallible;
use crate::logical::{Op, Rel};

pub(super) fn find_keys(rel: Rel) -> Result<Rel> {
    let rel = rel.map_inputs(&mut find_keys)?;
    let Rel { op: Op::Join { left, right, conjuncts }, columns, facts } = rel else { return Ok(rel) };
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
    let joined = Rel::equi_join(left, right, left_keys.into_iter().zip(right_keys).collect(), residual);
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
