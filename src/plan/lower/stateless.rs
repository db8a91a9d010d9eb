//! Project, filter, union: no state of their own. On changing edges, what a deletion could not repeat is memoized first.

use thalweg_core::{Column, Result, SqlType};
use thalweg_graph::ops::filter::FilterSpec;
use thalweg_graph::ops::memoize::MemoizedExpr;
use thalweg_graph::ops::project::{ProjectColumn, ProjectSpec};
use thalweg_graph::ops::union::UnionSpec;
use thalweg_graph::{Expr, OperatorSpec};

use super::Lowering;
use super::expr::pass;
use crate::edges::{Flow, Spread, is_unstable, memoize, settle, spread_behind};
use crate::logical::conjunction;

impl Lowering {
    pub(super) fn project(&mut self, mut from: Flow, exprs: &[Expr], columns: &[Column]) -> Result<Flow> {
        let mut exprs = exprs.to_vec();
        let input = from.out(&self.builder).clone();
        let is_bare = |e: &Expr| matches!(e, Expr::Column { .. });
        let computed: Vec<usize> =
            (0..exprs.len()).filter(|&i| !is_bare(&exprs[i]) && is_unstable(&exprs[i], &input)).collect();
        let passed = |e: &Expr| match e {
            Expr::Column { ordinal, .. } if is_unstable(e, &input) => Some(*ordinal),
            _ => None,
        };
        let mut passed: Vec<usize> = exprs.iter().filter_map(passed).collect();
        passed.sort_unstable();
        passed.dedup();
        let position = |of: usize| exprs.iter().any(|e| matches!(e, Expr::Column { ordinal, .. } if *ordinal == of));
        let keeps_key = input.unique_keys.iter().any(|k| k.iter().all(|&c| input.columns[c].stable && position(c)));
        if keeps_key {
            // Where they are used, the row is still known.
            passed.clear();
        }
        if !computed.is_empty() || !passed.is_empty() {
            let memoized = computed.iter().map(|&i| MemoizedExpr {
                expr: exprs[i].clone(),
                name: columns[i].name.clone(),
                nullable: columns[i].nullable,
            });
            from = memoize(&mut self.builder, &from, passed, memoized.collect())?;
            for (n, &i) in computed.iter().enumerate() {
                exprs[i] = Expr::column(input.columns.len() + n, exprs[i].ty().clone());
            }
        }
        let columns = exprs.into_iter().zip(columns).map(|(expr, c)| ProjectColumn {
            expr,
            name: c.name.clone(),
            nullable: c.nullable,
        });
        self.project_spec(from, ProjectSpec { columns: columns.collect() })
    }

    fn project_spec(&mut self, from: Flow, spec: ProjectSpec) -> Result<Flow> {
        let spread = spread_behind(&from.spread, &spec);
        let node = self.builder.add(OperatorSpec::Project(spec), vec![from.same()])?;
        Ok(Flow { node, output: 0, spread })
    }

    pub(super) fn filter(&mut self, from: Flow, conjuncts: &[Expr]) -> Result<Flow> {
        let Some(predicate) = conjunction(conjuncts.to_vec()) else { return Ok(from) };
        let input = from.out(&self.builder).clone();
        if !is_unstable(&predicate, &input) {
            let edge = from.same();
            let node = self.builder.add(OperatorSpec::Filter(FilterSpec { predicate }), vec![edge])?;
            return Ok(Flow { node, output: 0, ..from });
        }
        // A deletion passes if its row's insertion did.
        let name = thalweg_graph::explain::expr(&predicate, &[&input]);
        let computed = MemoizedExpr { expr: predicate, name, nullable: true };
        let from = memoize(&mut self.builder, &from, vec![], vec![computed])?;
        let predicate = Expr::column(input.columns.len(), SqlType::Boolean);
        let edge = from.same();
        let node = self.builder.add(OperatorSpec::Filter(FilterSpec { predicate }), vec![edge])?;
        let filtered = Flow { node, output: 0, spread: from.spread };
        let columns = input.columns.iter().enumerate().map(|(o, c)| pass(o, &c.column));
        self.project_spec(filtered, ProjectSpec { columns: columns.collect() })
    }

    pub(super) fn union(&mut self, flows: Vec<Flow>) -> Result<Flow> {
        let flows = flows.into_iter().map(|f| settle(&mut self.builder, f)).collect::<Result<Vec<_>>>()?;
        let spread = match &flows[0].spread {
            Spread::One if flows.iter().all(|f| f.spread == Spread::One) => Spread::One,
            Spread::Hash { exact, .. } => {
                let in_all = |l: &&Vec<usize>| {
                    flows.iter().all(|f| matches!(&f.spread, Spread::Hash { exact: other, .. } if other.contains(l)))
                };
                let exact: Vec<Vec<usize>> = exact.iter().filter(in_all).cloned().collect();
                if exact.is_empty() { Spread::Any } else { Spread::Hash { exact, together: vec![] } }
            }
            _ => Spread::Any,
        };
        let edges = flows.iter().map(Flow::same).collect();
        let node = self.builder.add(OperatorSpec::Union(UnionSpec {}), edges)?;
        Ok(Flow { node, output: 0, spread })
    }
}
