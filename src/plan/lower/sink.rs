//! Sinks: what stands before them so that deletes of one row never delete another's, and how rows get to them.

use thalweg_core::table::{ChangelogMode, SinkInfo, SinkMode, TableDef};
use thalweg_core::{Error, Place, Result};
use thalweg_graph::ops::deduplicate::Keep;
use thalweg_graph::ops::sink::SinkSpec;
use thalweg_graph::ops::upsert_materialize::UpsertMaterializeSpec;
use thalweg_graph::{Edge, Graph, OperatorSpec, Output};

use super::Lowering;
use crate::edges::{Flow, Spread, settle};
use crate::logical::Rel;
use crate::optimize::carry_order;

/// A target with what the connector says of it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub connector: String,
    pub def: TableDef,
    pub info: SinkInfo,
    /// Of its name in the (first) INSERT.
    pub place: Option<Place>,
    /// The primary key is enforced by whoever takes the rows, not folded here.
    pub keeps_key_itself: bool,
}

impl Target {
    fn primary_key(&self) -> &[usize] {
        if self.keeps_key_itself || self.info.accepts == SinkMode::Append { &[] } else { &self.def.primary_key }
    }

    fn place(&self, e: Error) -> Error {
        crate::refuse::at(e, self.place)
    }
}

/// Whether no two rows have equal values in these columns.
fn is_unique(out: &Output, columns: &[usize]) -> bool {
    out.unique_keys.iter().any(|k| k.iter().all(|c| columns.contains(c)))
}

/// If rows only ever come and several may have one key of the target, the last to arrive counts.
pub(crate) fn keep_last(rel: Rel, target: &Target, inputs: usize) -> Result<Rel> {
    let key = target.primary_key();
    let Some(facts) = &rel.facts else { return Ok(rel) };
    if key.is_empty() || inputs > 1 || !target.info.needs_net || !facts.append_only || is_unique(facts, key) {
        return Ok(rel);
    }
    let width = rel.columns.len();
    let rel = match carry_order(rel) {
        Ok((rel, order)) => Rel::deduplicate(rel, key.to_vec(), order, Keep::Last),
        Err(rel) => return Ok(rel),
    };
    let mut rel = Rel::pick(rel, &(0..width).collect::<Vec<_>>());
    Lowering::new([&rel])?.lower(&mut rel)?;
    Ok(rel)
}

impl Lowering {
    /// The sink of a target over all relations that are written to it.
    pub fn sink(&mut self, target: &Target, rels: &mut [Rel]) -> Result<()> {
        let mut flows = vec![];
        self.place = target.place;
        for rel in rels {
            let flow = self.lower(rel)?;
            flows.push(settle(&mut self.builder, flow)?);
        }
        let TableDef { name, primary_key, .. } = &target.def;
        if let Some(changing) = flows.iter().find(|f| !f.out(&self.builder).append_only) {
            match target.info.accepts {
                SinkMode::Append => {
                    let cause = changing_operator(self.builder.graph(), &changing.same());
                    return Err(target.place(
                        Error::unsupported(format!("table {name} takes inserts only, and {cause}"))
                            .note("a sink for changes is one with a primary key, or with a changelog format such as debezium-json"),
                    ));
                }
                SinkMode::Upsert if primary_key.is_empty() => {
                    let cause = changing_operator(self.builder.graph(), &changing.same());
                    return Err(target.place(
                        Error::unsupported(format!("table {name} needs a primary key to take changes, and {cause}"))
                            .note("declare PRIMARY KEY (…) NOT ENFORCED in its CREATE TABLE"),
                    ));
                }
                SinkMode::Retract | SinkMode::Upsert => {}
            }
        }
        let mut key = target.primary_key().to_vec();
        let contained = flows.len() == 1 && is_unique(flows[0].out(&self.builder), &key);
        if !key.is_empty() && !contained && target.info.needs_net {
            let from = if flows.len() == 1 { flows.remove(0) } else { self.union(flows)? };
            flows = vec![self.materialize(from, &key)?];
        }
        if key.is_empty()
            && let Some(declared) = &target.info.key
        {
            key = declared.clone();
        }
        let mut one_row = false;
        if key.is_empty()
            && flows.len() == 1
            && let Some(unique) = flows[0].out(&self.builder).unique_keys.first()
        {
            key = unique.clone();
            one_row = key.is_empty();
        }
        let edges: Vec<Edge> = flows
            .iter()
            .map(|f| {
                let out = f.out(&self.builder);
                let together = target.info.key.as_ref().unwrap_or(&key);
                let is_ordered = target.info.key.is_some() || !target.primary_key().is_empty();
                let is_free = !target.info.needs_net || (out.append_only && !is_ordered);
                if is_free { f.same() } else { f.together(together, out) }
            })
            .collect();
        let spec = SinkSpec {
            connector: target.connector.clone(),
            def: target.def.clone(),
            identity: target.info.identity.clone(),
            accepts: target.info.accepts,
            delivery: target.info.delivery,
            needs_net: target.info.needs_net,
            key,
            one_row,
        };
        self.builder.add(OperatorSpec::Sink(spec), edges)?;
        self.note_place();
        Ok(())
    }

    fn materialize(&mut self, from: Flow, key: &[usize]) -> Result<Flow> {
        let out = from.out(&self.builder);
        let order = out.ties().into_iter().filter(|o| !key.contains(o)).collect();
        let edge = from.by(key);
        let spec = UpsertMaterializeSpec { key: key.to_vec(), order };
        let node = self.builder.add(OperatorSpec::UpsertMaterialize(spec), vec![edge])?;
        Ok(Flow { node, output: 0, spread: Spread::by(key) })
    }
}

/// Which operator makes rows change: `the aggregate "…" changes rows that it gave before`.
fn changing_operator(graph: &Graph, edge: &Edge) -> String {
    let node = &graph.nodes[edge.from];
    if let Some(input) = node.inputs.iter().find(|i| !graph.output(i).append_only) {
        return changing_operator(graph, input);
    }
    match &node.spec {
        OperatorSpec::Source(s) => {
            let table = &s.tables[edge.output];
            let what = match table.changelog {
                ChangelogMode::Append => "inserts",
                ChangelogMode::Retract | ChangelogMode::Upsert => "updates and deletes",
            };
            format!("table {} comes with {what}", table.def.name)
        }
        spec => format!("\"{}\" changes rows that it gave before", spec.meaning().title(&graph.inputs(node))),
    }
}
