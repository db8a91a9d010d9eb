//! What is decided on the edges: where values must be memoized because a deletion could not repeat them, and how rows are
//! spread over the workers. Append-only or changing, unique keys and stability themselves are the operators' own
//! (`thalweg_graph::ops`).

use thalweg_core::{Error, Result};
use thalweg_graph::ops::memoize::{MemoizeSpec, MemoizedExpr};
use thalweg_graph::ops::project::ProjectSpec;
use thalweg_graph::{Edge, Expr, GraphBuilder, NodeIx, OperatorSpec, Output, Partitioning};

/// Whether a deletion could come with another value than the insertion.
pub(crate) fn is_unstable(e: &Expr, input: &Output) -> bool {
    !input.append_only && (e.is_volatile() || e.columns().iter().any(|&o| !input.columns[o].stable))
}

/// What tells which row a deletion means: a unique key of stable columns, else all stable columns.
pub(crate) fn identity(input: &Output) -> Vec<usize> {
    let is_stable = |k: &&Vec<usize>| k.iter().all(|&c| input.columns[c].stable);
    match input.unique_keys.iter().find(is_stable) {
        Some(key) => key.clone(),
        None => (0..input.columns.len()).filter(|&o| input.columns[o].stable).collect(),
    }
}

/// Where the rows of an output are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Anywhere: where their source's split is read.
    Any,
    /// All on the worker of key group 0.
    One,
    Hash {
        /// By the hash of these columns; each list alone decides.
        exact: Vec<Vec<usize>>,
        /// Rows equal in these columns are on one worker, though it is not by the hash of these values.
        together: Vec<Vec<usize>>,
    },
}

impl Spread {
    /// By the hash of these columns; without columns all on one worker.
    pub fn by(columns: &[usize]) -> Self {
        if columns.is_empty() { Spread::One } else { Spread::Hash { exact: vec![columns.to_vec()], together: vec![] } }
    }
}

/// A node's output while the graph is built.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub node: NodeIx,
    pub output: usize,
    pub spread: Spread,
}

impl Flow {
    pub fn edge(&self, route: Partitioning) -> Edge {
        Edge { from: self.node, output: self.output, route }
    }

    pub fn same(&self) -> Edge {
        self.edge(Partitioning::Same)
    }

    /// To the worker that owns the key group of these columns; without columns to that of key group 0.
    pub fn by(&self, columns: &[usize]) -> Edge {
        let route = match &self.spread {
            Spread::One if columns.is_empty() => Partitioning::Same,
            Spread::Hash { exact, .. } if exact.iter().any(|l| l == columns) => Partitioning::Same,
            _ if columns.is_empty() => Partitioning::One,
            _ => Partitioning::Hash(columns.to_vec()),
        };
        self.edge(route)
    }

    /// Rows that are equal in these columns meet on one worker; without columns: equal rows.
    pub fn together(&self, columns: &[usize], output: &Output) -> Edge {
        let together = match &self.spread {
            Spread::One => true,
            Spread::Any => false,
            Spread::Hash { exact, together } => {
                let mut lists = exact.iter().chain(together);
                lists.any(|l| columns.is_empty() || l.iter().all(|c| columns.contains(c)))
            }
        };
        if together {
            return self.same();
        }
        if !columns.is_empty() {
            return self.by(columns);
        }
        self.by(&(0..output.columns.len()).collect::<Vec<_>>())
    }

    pub fn out<'b>(&self, builder: &'b GraphBuilder) -> &'b Output {
        builder.output(&self.same())
    }
}

/// The spread behind a projection: columns that keep their value keep their place.
pub(crate) fn spread_behind(spread: &Spread, spec: &ProjectSpec) -> Spread {
    let Spread::Hash { exact, together } = spread else { return spread.clone() };
    let same = |o: &usize| spec.columns.iter().position(|c| c.expr.same_value_as() == Some(*o));
    let apart = |o: &usize| spec.columns.iter().position(|c| c.expr.keeps_unique() == Some(*o));
    let mut kept = vec![];
    let mut changed: Vec<Vec<usize>> = vec![];
    for list in exact {
        match list.iter().map(same).collect::<Option<Vec<_>>>() {
            Some(list) => kept.push(list),
            None => changed.extend(list.iter().map(apart).collect::<Option<Vec<_>>>()),
        }
    }
    changed.extend(together.iter().filter_map(|l| l.iter().map(apart).collect::<Option<Vec<_>>>()));
    if kept.is_empty() && changed.is_empty() { Spread::Any } else { Spread::Hash { exact: kept, together: changed } }
}

/// A memoize operator over `flow`: `columns` keep the value of their insertion, `computed` are appended.
pub(crate) fn memoize(
    builder: &mut GraphBuilder,
    flow: &Flow,
    columns: Vec<usize>,
    computed: Vec<MemoizedExpr>,
) -> Result<Flow> {
    let key = identity(flow.out(builder));
    if key.is_empty()
        && !flow.out(builder).columns.is_empty()
        && flow.out(builder).unique_keys.iter().all(|k| !k.is_empty())
    {
        return Err(Error::unsupported(
            "values that change from call to call are computed over rows that nothing tells apart when they are deleted",
        )
        .note("give the source a primary key"));
    }
    let edge = flow.by(&key);
    let spread = Spread::by(&key);
    let node = builder.add(OperatorSpec::Memoize(MemoizeSpec { key, columns, computed }), vec![edge])?;
    Ok(Flow { node, output: 0, spread })
}

/// Before state, a sink or whatever compares rows: no column that is not stable on a changing edge.
pub(crate) fn settle(builder: &mut GraphBuilder, flow: Flow) -> Result<Flow> {
    let out = flow.out(builder);
    if out.append_only {
        return Ok(flow);
    }
    let unstable: Vec<usize> = (0..out.columns.len()).filter(|&o| !out.columns[o].stable).collect();
    if unstable.is_empty() { Ok(flow) } else { memoize(builder, &flow, unstable, vec![]) }
}
