//! Projections over projections become one; those that change nothing go.

use thalweg_core::Result;
use thalweg_graph::Expr;

use crate::logical::{Op, Rel, substitute};

pub(super) fn merge(rel: Rel) -> Result<Rel> {
    let rel = rel.map_inputs(&mut merge)?;
    let Rel { op: Op::Project { input, exprs }, columns, facts } = rel else { return Ok(rel) };
    if let Op::Project { exprs: inner, .. } = &input.op
        && computes_once(&exprs, inner)
    {
        let Op::Project { input: below, exprs: inner } = input.op else { unreachable_project() };
        let exprs = exprs.iter().map(|e| substitute(e, &inner)).collect();
        return merge_once(Rel { op: Op::Project { input: below, exprs }, columns, facts });
    }
    merge_once(Rel { op: Op::Project { input, exprs }, columns, facts })
}

fn unreachable_project() -> ! {
    unreachable!("it was a projection one line above")
}

/// Drops a projection that gives its input's columns as they are. Names do not matter below the top.
fn merge_once(rel: Rel) -> Result<Rel> {
    if let Op::Project { input, exprs } = &rel.op
        && exprs.len() == input.columns.len()
        && exprs.iter().enumerate().all(|(i, e)| matches!(e, Expr::Column { ordinal, .. } if *ordinal == i))
    {
        let Op::Project { input, .. } = rel.op else { unreachable_project() };
        return Ok(*input);
    }
    Ok(rel)
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
