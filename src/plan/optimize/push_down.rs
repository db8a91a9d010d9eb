//! Filters move down, towards the sources. The order of conjuncts is kept: an earlier one guards the later. A conjunct
//! that can fail passes only operators that keep no row away; below a join, an aggregate or a rank it would be computed
//! for rows that never get there.

use thalweg_core::{Place, Result};
use thalweg_graph::Expr;

use super::fallible::is_infallible;
use super::rank;
use crate::logical::{Op, Rel, TopN, substitute};

/// `rel`, filtered by `above`.
pub(super) fn push(rel: Rel, above: Vec<Expr>) -> Result<Rel> {
    let Rel { op, columns, facts, place } = rel;
    let rebuild = |op: Op| Rel { op, columns: columns.clone(), facts: facts.clone(), place };
    match op {
        Op::Filter { input, mut conjuncts } => {
            conjuncts.extend(above);
            push(*input, conjuncts)
        }
        Op::Project { input, exprs } => {
            let (down, up) = split(above, |c| {
                let inner = substitute(c, &exprs);
                (!inner.is_volatile()).then_some((inner, true))
            });
            let input = Box::new(push(*input, down)?);
            Ok(Rel::filter(rebuild(Op::Project { input, exprs }), up))
        }
        Op::Union(inputs) => {
            let (down, up) = split(above, |c| (!c.is_volatile()).then(|| (c.clone(), true)));
            let inputs = inputs.into_iter().map(|i| push(i, down.clone())).collect::<Result<_>>()?;
            Ok(Rel::filter(rebuild(Op::Union(inputs)), up))
        }
        Op::Join { left, right, conjuncts } => join(*left, *right, conjuncts, above, place),
        Op::Aggregate { input, group, calls } => {
            let (down, up) = split(above, |c| {
                let of_groups = !group.is_empty() && c.columns().iter().all(|&o| o < group.len());
                (of_groups && !c.is_volatile()).then(|| (c.map_columns(&|o| group[o]), false))
            });
            let input = Box::new(push(*input, down)?);
            Ok(Rel::filter(rebuild(Op::Aggregate { input, group, calls }), up))
        }
        Op::RowNumber { input, partition, order, place } => {
            let rank_name = columns.last().map(|c| c.name.clone()).unwrap_or_default();
            let rank = columns.len() - 1;
            let (bounds, rest) = rank::bounds(above, rank);
            let (down, up) = split(rest, |c| {
                let of_partition = !partition.is_empty() && c.columns().iter().all(|o| partition.contains(o));
                (of_partition && !c.columns().is_empty() && !c.is_volatile()).then(|| (c.clone(), false))
            });
            let input = push(*input, down)?;
            Ok(Rel::filter(rank::recognise(input, partition, order, bounds, &rank_name, place)?, up))
        }
        Op::TopN(top) => {
            let input = Box::new(push(*top.input, vec![])?);
            Ok(Rel::filter(rebuild(Op::TopN(TopN { input, ..top })), above))
        }
        Op::Deduplicate { input, key, order, keep } => {
            let input = Box::new(push(*input, vec![])?);
            Ok(Rel::filter(rebuild(Op::Deduplicate { input, key, order, keep }), above))
        }
        op @ (Op::Scan(_) | Op::Values(_) | Op::EquiJoin { .. }) => Ok(Rel::filter(rebuild(op), above)),
    }
}

/// Which conjuncts go below an operator, as they read there, and which stay above. `below` says whether one may, and
/// whether it may also if it can fail.
fn split(conjuncts: Vec<Expr>, below: impl Fn(&Expr) -> Option<(Expr, bool)>) -> (Vec<Expr>, Vec<Expr>) {
    let (mut down, mut up) = (vec![], vec![]);
    for c in conjuncts {
        match below(&c) {
            // One that can fail stays behind what stays above and guards it.
            Some((inner, also_fallible)) if is_infallible(&inner) || (also_fallible && up.is_empty()) => {
                down.push(inner)
            }
            _ => up.push(c),
        }
    }
    (down, up)
}

fn join(left: Rel, right: Rel, own: Vec<Expr>, above: Vec<Expr>, place: Option<Place>) -> Result<Rel> {
    let width = left.columns.len();
    let (mut to_left, mut to_right, mut condition, mut up) = (vec![], vec![], vec![], vec![]);
    let from_on = own.len();
    for (i, c) in own.into_iter().chain(above).enumerate() {
        let columns = c.columns();
        let is_left = columns.iter().all(|&o| o < width);
        let is_right = !is_left && columns.iter().all(|&o| o >= width);
        let is_safe = is_infallible(&c);
        if c.is_volatile() || (!is_safe && !up.is_empty()) {
            up.push(c);
        } else if is_safe && is_left {
            to_left.push(c);
        } else if is_safe && is_right {
            to_right.push(c.map_columns(&|o| o - width));
        } else if i < from_on || !(is_left || is_right) {
            condition.push(c);
        } else {
            up.push(c);
        }
    }
    let (left, right) = (push(left, to_left)?, push(right, to_right)?);
    Ok(Rel::filter(Rel::join(left, right, condition).written_at(place), up))
}
