//! Nodes, edges and the builder that gives every node its id and finds equal nodes.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use thalweg_core::state::StateTableSpec;
use thalweg_core::{Column, Error, Result};

use crate::id::{Canonical, OperatorId, Provenance};
use crate::ops::{self, Meaning};

/// Index of a node in `Graph::nodes`.
pub type NodeIx = usize;

/// What one instance runs: one `INSERT`, one `STATEMENT SET`, one `SELECT`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Inputs stand before their consumers.
    pub nodes: Vec<Node>,
}

/// One operator. Identity is (id, variant): see `OperatorId` and `variant`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub id: OperatorId,
    /// Hash of what the id leaves out: carried columns, formats, the options that change which rows come out.
    pub variant: u64,
    pub spec: OperatorSpec,
    pub inputs: Vec<Edge>,
    pub state: Vec<StateTableSpec>,
    /// One, but for a source: one per table.
    pub outputs: Vec<Output>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Edge {
    pub from: NodeIx,
    /// Which output of `from`: the table of a source, else 0.
    pub output: usize,
    pub route: Partitioning,
}

/// How changes are spread over the workers on their way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Partitioning {
    /// They stay on their worker.
    Same,
    /// By the key group of these columns (ordinals of the producer's output).
    Hash(Vec<usize>),
    /// To all workers.
    Broadcast,
    /// All to the worker of key group 0.
    One,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum OperatorSpec {
    Source(ops::source::SourceSpec),
    Sink(ops::sink::SinkSpec),
    Project(ops::project::ProjectSpec),
    Filter(ops::filter::FilterSpec),
    Union(ops::union::UnionSpec),
    Aggregate(ops::aggregate::AggregateSpec),
    Join(ops::join::JoinSpec),
    TopN(ops::top_n::TopNSpec),
    Deduplicate(ops::deduplicate::DeduplicateSpec),
    Memoize(ops::memoize::MemoizeSpec),
    Normalize(ops::normalize::NormalizeSpec),
    UpsertMaterialize(ops::upsert_materialize::UpsertMaterializeSpec),
}

/// What is known of the changes that leave a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    pub columns: Vec<OutColumn>,
    /// No -1 ever.
    pub append_only: bool,
    /// Guaranteed: at every tick at most one row per value of these columns. Each list ascending; an empty list
    /// means at most one row. The shortest first.
    pub unique_keys: Vec<Vec<usize>>,
    /// The input behind it ends by itself.
    pub bounded: bool,
    /// The hidden arrival-order column, if the source was asked for one.
    pub order: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutColumn {
    pub column: Column,
    pub provenance: Provenance,
    /// A -1 row has the value of its +1 row. On an append-only edge all are.
    pub stable: bool,
}

impl OperatorSpec {
    pub fn meaning(&self) -> &dyn Meaning {
        match self {
            OperatorSpec::Source(s) => s,
            OperatorSpec::Sink(s) => s,
            OperatorSpec::Project(s) => s,
            OperatorSpec::Filter(s) => s,
            OperatorSpec::Union(s) => s,
            OperatorSpec::Aggregate(s) => s,
            OperatorSpec::Join(s) => s,
            OperatorSpec::TopN(s) => s,
            OperatorSpec::Deduplicate(s) => s,
            OperatorSpec::Memoize(s) => s,
            OperatorSpec::Normalize(s) => s,
            OperatorSpec::UpsertMaterialize(s) => s,
        }
    }
}

impl Output {
    pub fn types(&self) -> Vec<thalweg_core::SqlType> {
        self.columns.iter().map(|c| c.column.ty.clone()).collect()
    }

    pub fn schema(&self) -> arrow::datatypes::SchemaRef {
        thalweg_core::types::to_schema(self.columns.iter().map(|c| &c.column))
    }

    pub fn provenance(&self, ordinal: usize) -> Provenance {
        self.columns[ordinal].provenance
    }

    /// The columns by which rows of equal rank are ordered, so that every order is total: the shortest unique key,
    /// else all columns in declaration order.
    pub fn ties(&self) -> Vec<usize> {
        self.unique_keys.first().cloned().unwrap_or_else(|| (0..self.columns.len()).collect())
    }

    /// Adds a unique key, keeping the list free of supersets and the shortest first.
    pub fn add_key(&mut self, mut key: Vec<usize>) {
        key.sort_unstable();
        key.dedup();
        if self.unique_keys.iter().any(|k| k.iter().all(|c| key.contains(c))) {
            return;
        }
        self.unique_keys.retain(|k| !key.iter().all(|c| k.contains(c)));
        self.unique_keys.push(key);
        self.unique_keys.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    }
}

impl Graph {
    /// The output that an edge carries.
    pub fn output(&self, edge: &Edge) -> &Output {
        &self.nodes[edge.from].outputs[edge.output]
    }

    pub fn inputs(&self, node: &Node) -> Vec<&Output> {
        node.inputs.iter().map(|e| self.output(e)).collect()
    }

    pub fn sources(&self) -> impl Iterator<Item = (NodeIx, &ops::source::SourceSpec)> {
        self.nodes.iter().enumerate().filter_map(|(i, n)| match &n.spec {
            OperatorSpec::Source(s) => Some((i, s)),
            _ => None,
        })
    }

    pub fn sinks(&self) -> impl Iterator<Item = (NodeIx, &ops::sink::SinkSpec)> {
        self.nodes.iter().enumerate().filter_map(|(i, n)| match &n.spec {
            OperatorSpec::Sink(s) => Some((i, s)),
            _ => None,
        })
    }

    /// All sources end by themselves.
    pub fn is_bounded(&self) -> bool {
        self.nodes.iter().all(|n| n.outputs.iter().all(|o| o.bounded))
    }
}

/// Builds a graph bottom-up. A node that is equal to an earlier one (id, variant, inputs) is that one.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    graph: Graph,
    by_identity: HashMap<(OperatorId, u64), NodeIx>,
}

impl GraphBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub fn output(&self, edge: &Edge) -> &Output {
        self.graph.output(edge)
    }

    /// Adds an operator over inputs that are there already; gives the index of the equal one if there is one.
    pub fn add(&mut self, spec: OperatorSpec, inputs: Vec<Edge>) -> Result<NodeIx> {
        if inputs.iter().any(|e| self.graph.nodes.get(e.from).is_none_or(|n| e.output >= n.outputs.len())) {
            return Err(Error::internal("an edge from a node that is not in the graph"));
        }
        let meaning = spec.meaning();
        let of: Vec<&Output> = inputs.iter().map(|e| self.graph.output(e)).collect();
        let mut c = Canonical::new(meaning.kind());
        meaning.canonical(&mut c, &of);
        if meaning.is_identified_by_inputs() {
            c.list(inputs.iter(), |c, e| {
                let e = self.behind_projections(e);
                c.id(self.graph.nodes[e.from].id);
                // A table of a source that has several: its own identity, not its place in the reader.
                if let OperatorSpec::Source(s) = &self.graph.nodes[e.from].spec {
                    s.tables[e.output].canonical_identity(c);
                }
            });
        }
        let id = c.to_operator_id();
        let outputs = meaning.outputs(&of, id);
        let state = meaning.state(&of);

        let mut v = Canonical::new("variant/1");
        v.id(id);
        v.list(inputs.iter(), |c, e| {
            let origin = self.behind_projections(e);
            let from = &self.graph.nodes[origin.from];
            c.id(from.id);
            match &from.spec {
                // Which columns it reads for other consumers, and what else, is not seen here.
                OperatorSpec::Source(s) => s.tables[origin.output].canonical_variant(c),
                _ => {
                    c.number(from.variant);
                }
            }
            c.text(&format!("{:?}", e.route));
            let seen = self.graph.output(e);
            c.list(seen.columns.iter(), |c, col| {
                c.provenance(col.provenance);
            });
        });
        v.list(outputs.iter(), |c, o| {
            c.list(o.columns.iter(), |c, col| {
                c.provenance(col.provenance).text(&col.column.ty.to_string()).flag(col.column.nullable);
            });
        });
        meaning.variant(&mut v, &of);
        let variant = v.to_variant();

        if let Some(&ix) = self.by_identity.get(&(id, variant)) {
            return Ok(ix);
        }
        let ix = self.graph.nodes.len();
        self.graph.nodes.push(Node { id, variant, spec, inputs, state, outputs });
        self.by_identity.insert((id, variant), ix);
        Ok(ix)
    }

    /// The edge below all projections: those change neither which rows there are nor, since columns are known by their
    /// provenance, what an operator above them means.
    fn behind_projections<'e>(&'e self, edge: &'e Edge) -> &'e Edge {
        let mut edge = edge;
        while let Node { spec: OperatorSpec::Project(_), inputs, .. } = &self.graph.nodes[edge.from] {
            edge = &inputs[0];
        }
        edge
    }

    pub fn finish(self) -> Graph {
        self.graph
    }
}
