//! Projections over projections become one; those that change nothing go.

use thalweg_core::Result;
use thalweg_graph::Expr;

use crate::logical::{Op, Rel, substitute};

pub(super) fn merge(rel: Rel) -> Result<Rel> {
    let Rel { op, columns, facts, place } = rel.map_inputs(&mut merge)?;
    let (input, exprs) = match op {
        Op::Project { input, exprs } => (*input, exprs),
        op => return Ok(Rel { op, columns, facts, place }),
    };
    let (input, exprs) = match input {
        Rel { op: Op::Project { input: below, exprs: inner }, .. } if computes_once(&exprs, &inner) => {
            (*below, exprs.iter().map(|e| substitute(e, &inner)).collect())
        }
        input => (input, exprs),
    };
    // What gives its input's columns as they are is not needed; names do not matter below the top.
    let passes = |(i, e): (usize, &Expr)| matches!(e, Expr::Column { ordinal, .. } if *ordinal == i);
    if exprs.len() == input.columns.len() && exprs.iter().enumerate().all(passes) {
        return Ok(input);
    }
    Ok(Rel { op: Op::Project { input: Box::new(input), exprs }, columns, facts, place })
}

/// Whether no computation of `inner` is done twice when it is put in the place of its column.
fn computes_once(outer: &[Expr], inner: &[Expr]) -> bool {
    let mut uses = vec![0usize; inner.len()];
    for e in outer {
        e.any(&mut |e| {
            if let Expr::Column { ordinal, .. } = e {
                uses[*ordinal] += 1;
            }
            false
        });
    }
    inner.iter().zip(uses).all(|(e, n)| n <= 1 || matches!(e, Expr::Column { .. } | Expr::Literal(_)))
}
