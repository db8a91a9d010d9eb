//! SELECT: a bounded one runs to its end and is folded; an unbounded one gives its changes as they come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use thalweg_core::mark::JobId;
use thalweg_core::{Column, Error, Result};
use thalweg_functions::calendar::Zone;
use thalweg_graph::Graph;
use thalweg_plan::SelectPlan;
use thalweg_runtime::{Disturb, InstanceConfig, InstanceHandle, Metrics, Outcome, Phase, start};

use crate::collect::{Collector, Folded, TickChanges};
use crate::session::{Session, build_operator};
use crate::sources::Opener;

/// A running query. Dropping it ends the query.
pub struct Changelog {
    pub columns: Vec<Column>,
    /// In which points in time are shown.
    pub time_zone: Zone,
    handle: InstanceHandle,
    collector: Arc<Collector>,
    pub started: Instant,
}

impl Changelog {
    /// The changes of the next tick that has some; `None` when the query has ended.
    ///
    /// # Errors
    /// What ended the query.
    pub async fn next(&mut self) -> Result<Option<TickChanges>> {
        loop {
            if let Some(tick) = self.collector.try_next() {
                return Ok(Some(tick));
            }
            tokio::select! {
                () = self.collector.changed() => {}
                result = self.handle.wait() => {
                    result?;
                    return Ok(self.collector.try_next());
                }
            }
        }
    }

    /// Ends the query; `next` gives what is left and then `None`.
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    pub fn metrics(&self) -> &Metrics {
        &self.handle.metrics
    }
}

impl Session {
    fn start_graph(&mut self, graph: Graph) -> Result<(InstanceHandle, Arc<Collector>)> {
        let mut options = self.runtime_options();
        let collector = Arc::new(Collector::default());
        let graph = Arc::new(graph);
        let job = JobId(format!("{:032x}", 0));
        if let Some(disturb) = &mut options.disturb {
            self.queries_disturbed += 1;
            *disturb = disturb_query(disturb, self.queries_disturbed, statements(&graph, &self.own_tables));
        }
        let opener = Opener {
            registry: &self.registry,
            own_tables: &self.own_tables,
            definition: &|def| self.definition(def),
            disturb: options.disturb.as_ref(),
        };
        let sources = opener.sources(&graph, &job)?;
        let sinks = opener.sinks(&graph, &job, &collector)?;
        // Small inputs need no second worker, and start faster without.
        if options.disturb.is_none() && graph.sources().all(|(_, s)| is_small(s, &self.own_tables)) {
            options.workers = 1;
        }
        let durable = match &options.disturb {
            Some(d) if d.checkpoint_one_in > 0 => Some(self.directory.disturbed_storage(&job)?),
            _ => None,
        };
        let rewinding = collector.clone();
        let handle = start(InstanceConfig {
            job_name: "query".to_owned(),
            graph,
            sources,
            sinks,
            build: build_operator(),
            options,
            durable,
            on_rewind: Some(Arc::new(move |tick| rewinding.rewind(tick))),
        });
        Ok((handle, collector))
    }

    /// Runs a bounded graph to its end.
    pub(crate) async fn run_to_end(&mut self, graph: Graph) -> Result<Folded> {
        let schema = collected_schema(&graph)?;
        let (handle, collector) = self.start_graph(graph)?;
        // Ticks are folded only up to where no attempt can begin anew, so all are kept until the end.
        let keep_all = self.runtime_options().disturb.is_some();
        let mut folded = Folded::new(schema);
        loop {
            if !keep_all {
                while let Some(tick) = collector.try_next() {
                    folded.add(tick)?;
                }
            }
            tokio::select! {
                () = collector.changed() => {}
                outcome = handle.wait() => {
                    if outcome? == Outcome::Cancelled {
                        return Err(Error::cancelled());
                    }
                    while let Some(tick) = collector.try_next() {
                        folded.add(tick)?;
                    }
                    return Ok(folded);
                }
            }
        }
    }

    pub(crate) fn start_query(&mut self, plan: SelectPlan) -> Result<Changelog> {
        let (handle, collector) = self.start_graph(plan.graph)?;
        let time_zone = self.settings.zone();
        Ok(Changelog { columns: plan.columns, time_zone, handle, collector, started: Instant::now() })
    }
}

/// The input of the one sink.
fn collected_schema(graph: &Graph) -> Result<arrow::datatypes::SchemaRef> {
    let (ix, _) = graph.sinks().next().ok_or_else(|| Error::internal("a query without a result"))?;
    let node = &graph.nodes[ix];
    let input = graph.inputs(node).first().copied().ok_or_else(|| Error::internal("a result without an input"))?;
    Ok(input.schema())
}

/// Transactions of the longest input that is known.
fn statements(graph: &Graph, own: &HashMap<String, crate::own_table::OwnTable>) -> u64 {
    let tables = graph.sources().flat_map(|(_, s)| &s.tables);
    tables.filter_map(|t| own.get(&t.def.name)).map(|t| t.statements() as u64).max().unwrap_or(1)
}

/// One of a session's queries: each has draws of its own, other workers first, and most are killed whether they have two
/// ticks or fifty.
fn disturb_query(all: &Disturb, query: u64, statements: u64) -> Disturb {
    let mut one = all.clone();
    one.seed = all.seed.wrapping_add(query.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    if let n @ 1.. = one.workers.len() {
        one.workers.rotate_left(query as usize % n);
    }
    if one.kill_one_in > 0 {
        one.kill_one_in = one.kill_one_in.max(statements / (2 * one.kills_max.max(1)));
    }
    one
}

fn is_small(spec: &thalweg_graph::ops::source::SourceSpec, own: &HashMap<String, crate::own_table::OwnTable>) -> bool {
    use thalweg_graph::ops::source::{OWN, VALUES};
    match spec.connector.as_str() {
        VALUES => true,
        OWN => spec.tables.iter().all(|t| own.get(&t.def.name).is_none_or(|t| t.rows() < 100_000)),
        _ => false,
    }
}

/// What an instance is doing, in a word.
pub(crate) fn phase_word(phase: &Phase) -> String {
    match phase {
        Phase::Starting => "starting".to_owned(),
        Phase::Running => "running".to_owned(),
        Phase::Restarting(_) => "restarting".to_owned(),
        Phase::Ended(Ok(Outcome::Finished)) => "finished".to_owned(),
        Phase::Ended(Ok(Outcome::Stopped)) => "stopped".to_owned(),
        Phase::Ended(Ok(Outcome::Cancelled)) => "cancelled".to_owned(),
        Phase::Ended(Err(_)) => "failed".to_owned(),
    }
}
