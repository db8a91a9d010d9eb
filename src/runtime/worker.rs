//! The worker: a thread with a timely worker and a small loop that obeys the coordinator.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use thalweg_checkpoint::fail_points;
use thalweg_connector_api::{EncodeCx, Sink};
use thalweg_core::operator::Operator;
use thalweg_core::state::StateTable;
use thalweg_core::table::{Delivery, SinkMode};
use thalweg_core::{Error, Result};
use thalweg_graph::ops::sink::SinkSpec;
use thalweg_graph::{Graph, Node, NodeIx, OperatorSpec, Partitioning};
use thalweg_state::{Backend, Restore, StateConfig, WorkerState};
use timely::CommunicationConfig;
use timely::WorkerConfig;
use timely::communication::{Allocator, WorkerGuards, initialize_from};
use tokio::sync::mpsc;

use crate::adaptor::{self, Chain, InputEdge, Messages, SharedOperator, TickProgress, WorkerCx, needs_exchange};
use crate::attempt::{Attempt, panicked};
use crate::command::{Answer, CheckpointPart, Command, Stage};
use crate::exchange::Router;
use crate::metrics::Metrics;
use crate::sink::{SinkCx, SinkOperator, Target, waiting_bytes_max};
use crate::source::{Slice, SourceHandle, SourceQueue, source};

/// Builds an operator: `thalweg_operators::build`, handed in so that the runtime does not see the operators.
pub type BuildOperator = Arc<dyn Fn(OperatorCx<'_>) -> Result<Box<dyn Operator>> + Send + Sync>;

/// What an operator is built from.
pub struct OperatorCx<'a> {
    pub graph: &'a Graph,
    pub node: NodeIx,
    /// In the order of the node's `state`.
    pub tables: Vec<Box<dyn StateTable>>,
    pub max_parallelism: u16,
    pub worker: usize,
    pub workers: usize,
}

/// How long a worker sleeps at most before it looks at the failure flag again.
const PARK_MAX: Duration = Duration::from_millis(100);

pub struct WorkerTask {
    pub worker: usize,
    pub workers: usize,
    pub job_name: String,
    pub graph: Arc<Graph>,
    pub build: BuildOperator,
    pub state: StateConfig,
    pub restore: Restore,
    pub sinks: HashMap<NodeIx, Arc<dyn Sink>>,
    /// What the sinks found out of their targets.
    pub facts: HashMap<NodeIx, serde_json::Value>,
    pub queues: HashMap<NodeIx, Arc<SourceQueue>>,
    pub stage: Option<mpsc::Sender<Stage>>,
    pub attempt: Arc<Attempt>,
    pub commands: std_mpsc::Receiver<Command>,
    pub answers: mpsc::UnboundedSender<Answer>,
    pub metrics: Arc<Metrics>,
    pub first_tick: u64,
    pub in_exchange: Arc<AtomicUsize>,
    pub spill_dir: PathBuf,
}

/// Starts one thread per task. They end by themselves when the attempt fails or is cancelled; the guards join in their
/// destructor and so must be dropped where waiting does no harm.
pub fn spawn(tasks: Vec<WorkerTask>) -> Result<WorkerGuards<()>> {
    let cannot = |e: String| Error::io(format!("starting the worker threads: {e}"));
    let (builders, others) = CommunicationConfig::Process(tasks.len()).try_build().map_err(cannot)?;
    let tasks: Vec<_> = tasks.into_iter().map(|t| Mutex::new(Some(t))).collect();
    initialize_from(builders, others, move |allocator| {
        let task = tasks[allocator.index()].lock().take().expect("one thread per worker");
        let attempt = task.attempt.clone();
        let worker = task.worker;
        // Held until the error is told: the coordinator takes the end of all answers for an error of its own.
        let _answers = task.answers.clone();
        match catch_unwind(AssertUnwindSafe(|| run(allocator, task))) {
            Ok(Ok(())) => {}
            Ok(Err(e)) => attempt.fail(e),
            Err(panic) => attempt.fail(panicked(&format!("worker {worker}"), &*panic)),
        }
    })
    .map_err(cannot)
}

fn run(allocator: Allocator, task: WorkerTask) -> Result<()> {
    let state = WorkerState::new(task.state.clone(), &task.restore)?;
    let budget = task.state.budget.clone();
    let cx = Rc::new(WorkerCx {
        worker: task.worker,
        workers: task.workers,
        max_parallelism: task.state.max_parallelism,
        attempt: task.attempt.clone(),
        ticks: RefCell::new(BTreeMap::new()),
        first_tick: task.first_tick,
        operators: RefCell::new(0),
        in_exchange: task.in_exchange.clone(),
        typed_bytes: budget.account(),
        budget: (task.state.backend == Backend::RocksDb).then_some(budget),
    });
    let mut timely = timely::worker::Worker::new(WorkerConfig::default(), allocator, Some(Instant::now()));
    let built = build(&mut timely, &task, &state, &cx)?;
    let lost = |_| Error::cancelled();
    task.answers.send(Answer::Ready).map_err(lost)?;

    let mut slice_of: HashMap<u64, Slice> = HashMap::new();
    'run: while !task.attempt.has_failed() {
        loop {
            match task.commands.try_recv() {
                Ok(Command::Tick { tick, slice_rows_max }) => {
                    cx.ticks.borrow_mut().insert(tick.id, TickProgress { tick, operators_done: 0 });
                    let sources = built.sources.iter().map(|(_, s)| s);
                    let slices = sources.map(|s| s.start_tick(tick.id, slice_rows_max, &task.metrics));
                    let all = slices
                        .fold(Slice::default(), |all, s| Slice { rows: all.rows + s.rows, moved: all.moved | s.moved });
                    slice_of.insert(tick.id, all);
                }
                Ok(Command::ReleaseSnapshot(checkpoint)) => state.release_snapshot(checkpoint)?,
                Ok(Command::Cancel) | Err(std_mpsc::TryRecvError::Disconnected) => break 'run,
                Err(std_mpsc::TryRecvError::Empty) => break,
            }
        }
        timely.step_or_park(Some(PARK_MAX));
        while let Some(tick) = complete_tick(&cx) {
            if task.attempt.has_failed() {
                break 'run;
            }
            fail_points::pass("tick")?;
            if let Some(checkpoint) = tick.kind.checkpoint() {
                let part = take_part(&task, &state, &built, checkpoint)?;
                task.answers.send(Answer::CheckpointPart(part)).map_err(lost)?;
            }
            let wants_tick_at = built.operators.iter().filter_map(|o| o.borrow().wants_tick_at()).min();
            let Slice { rows, moved } = slice_of.remove(&tick.id).unwrap_or_default();
            let done = Answer::TickDone { tick: tick.id, rows_in: rows, moved, wants_tick_at };
            task.answers.send(done).map_err(lost)?;
        }
    }
    for dataflow in timely.installed_dataflows() {
        timely.drop_dataflow(dataflow);
    }
    Ok(())
}

/// The next tick, in order, that every operator of the worker has ended.
fn complete_tick(cx: &WorkerCx) -> Option<thalweg_core::Tick> {
    let mut ticks = cx.ticks.borrow_mut();
    let first = ticks.first_entry()?;
    if first.get().operators_done < *cx.operators.borrow() {
        return None;
    }
    Some(first.remove().tick)
}

/// Flushes all operators; what they write is written, and the state's files are linked, beside the stream. Nothing of a
/// later tick is there: a checkpoint tick is a barrier.
fn take_part(task: &WorkerTask, state: &WorkerState, built: &Built, checkpoint: u64) -> Result<CheckpointPart> {
    let tick_ended = Instant::now();
    fail_points::pass("operator-flush")?;
    state.put_off_writes()?;
    for operator in &built.operators {
        operator.borrow_mut().flush()?;
    }
    fail_points::pass("state-snapshot")?;
    let snapshot = state.begin_snapshot(checkpoint);
    let positions = built.sources.iter().map(|(node, s)| (*node, s.positions())).collect();
    let rows = built.sources.iter().map(|(node, s)| (*node, s.rows())).collect();
    Ok(CheckpointPart { worker: task.worker, checkpoint, snapshot, positions, rows, tick_ended })
}

struct Built {
    sources: Vec<(NodeIx, SourceHandle)>,
    operators: Vec<SharedOperator>,
}

/// How nodes are joined into chains, see `adaptor`.
struct Chains {
    /// Per node: the only node that reads it, if that reads nothing else and rows stay on their worker.
    next: Vec<Option<NodeIx>>,
    /// Per node: it is the next one of another.
    is_inner: Vec<bool>,
}

impl Chains {
    fn of(graph: &Graph, cx: &WorkerCx) -> Self {
        let nodes = graph.nodes.len();
        let mut chains = Chains { next: vec![None; nodes], is_inner: vec![false; nodes] };
        for (ix, node) in graph.nodes.iter().enumerate() {
            if let [edge] = &node.inputs[..]
                && !matches!(graph.nodes[edge.from].spec, OperatorSpec::Source(_))
                && !needs_exchange(&edge.route, cx)
                && only_route(graph, edge.from, edge.output).is_some()
            {
                chains.next[edge.from] = Some(ix);
                chains.is_inner[ix] = true;
            }
        }
        chains
    }

    /// A node and all that follow it.
    fn members(&self, first: NodeIx) -> impl Iterator<Item = NodeIx> {
        std::iter::successors(Some(first), |ix| self.next[*ix])
    }
}

/// The route from an output to its consumer, if it has one only.
fn only_route(graph: &Graph, from: NodeIx, output: usize) -> Option<&Partitioning> {
    let mut edges = graph.nodes.iter().flat_map(|n| &n.inputs).filter(|e| (e.from, e.output) == (from, output));
    match (edges.next(), edges.next()) {
        (Some(edge), None) => Some(&edge.route),
        _ => None,
    }
}

fn build(
    timely: &mut timely::worker::Worker,
    task: &WorkerTask,
    state: &WorkerState,
    cx: &Rc<WorkerCx>,
) -> Result<Built> {
    let graph = &*task.graph;
    let chains = Chains::of(graph, cx);
    // One that the producer applies.
    let route = |ix, output| only_route(graph, ix, output).filter(|r| needs_exchange(r, cx));
    let router = |ix, output| route(ix, output).map(|r| Router::new(r.clone(), cx.workers, cx.max_parallelism));
    timely.dataflow::<u64, _, _>(|scope| {
        let mut built = Built { sources: vec![], operators: vec![] };
        // By (node, output).
        let mut streams: HashMap<(NodeIx, usize), Messages<'_>> = HashMap::new();
        for (ix, node) in graph.nodes.iter().enumerate() {
            if chains.is_inner[ix] {
                continue;
            }
            let title = |node: &Node| node.spec.meaning().title(&graph.inputs(node));
            if let OperatorSpec::Source(spec) = &node.spec {
                let queue = task.queues.get(&ix).ok_or_else(|| Error::internal("a source without a reader"))?;
                let tables = (0..spec.tables.len()).map(|table| router(ix, table)).collect();
                let (outputs, handle) = source(scope, &title(node), tables, queue.clone(), cx);
                built.sources.push((ix, handle));
                streams.extend(outputs.into_iter().enumerate().map(|(table, s)| ((ix, table), s)));
                continue;
            }
            let inputs = node.inputs.iter().map(|e| InputEdge {
                stream: streams[&(e.from, e.output)].clone(),
                route: e.route.clone(),
                is_routed: route(e.from, e.output).is_some(),
            });
            let mut operators = vec![];
            let mut last = ix;
            for member in chains.members(ix) {
                let operator = Rc::new(RefCell::new(build_operator(task, state, cx, member)?));
                built.operators.push(operator.clone());
                operators.push((title(&graph.nodes[member]), operator));
                last = member;
            }
            let chain = Chain { operators, inputs: inputs.collect(), router: router(last, 0) };
            streams.insert((last, 0), adaptor::chain(scope, chain, cx));
        }
        Ok(built)
    })
}

fn build_operator(task: &WorkerTask, state: &WorkerState, cx: &WorkerCx, ix: NodeIx) -> Result<Box<dyn Operator>> {
    let node = &task.graph.nodes[ix];
    if let OperatorSpec::Sink(_) = &node.spec {
        return sink_operator(task, ix);
    }
    let id = node.id.to_string();
    let tables = node.state.iter().map(|spec| state.table(&id, node.variant, spec));
    (task.build)(OperatorCx {
        graph: &task.graph,
        node: ix,
        tables: tables.collect::<Result<Vec<_>>>()?,
        max_parallelism: cx.max_parallelism,
        worker: task.worker,
        workers: task.workers,
    })
}

fn sink_operator(task: &WorkerTask, ix: NodeIx) -> Result<Box<dyn Operator>> {
    let node = &task.graph.nodes[ix];
    let OperatorSpec::Sink(spec) = &node.spec else { return Err(Error::internal("not a sink")) };
    let sink = task.sinks.get(&ix).ok_or_else(|| Error::internal("a sink that was not opened"))?;
    let inputs = task.graph.inputs(node);
    let encode = EncodeCx {
        worker: task.worker,
        workers: task.workers,
        job_name: task.job_name.clone(),
        changes: inputs.iter().any(|i| !i.append_only),
        facts: task.facts.get(&ix).cloned().unwrap_or_default(),
    };
    let target = match (spec.delivery, &task.stage) {
        (Delivery::None, _) => Target::Direct(sink.direct(encode)?),
        (_, Some(stage)) => Target::Staged { encoder: sink.encoder(encode)?, stage: stage.clone() },
        (_, None) => {
            let message = format!("sink {} is fed from checkpoints, and there are none", spec.def.name);
            return Err(Error::option(message).note("SET 'execution.checkpointing.interval' = '1 s'"));
        }
    };
    let is_staged = matches!(target, Target::Staged { .. });
    let is_upsert = |sink: &SinkSpec| sink.accepts == SinkMode::Upsert;
    let upserts = task.graph.sinks().filter(|(_, sink)| is_upsert(sink)).count();
    Ok(Box::new(SinkOperator::new(SinkCx {
        name: spec.def.name.clone(),
        node: ix,
        worker: task.worker,
        target,
        key: spec.key.clone(),
        one_row: spec.one_row,
        as_they_come: !spec.needs_net || inputs.iter().all(|i| i.append_only),
        waiting_bytes_max: (is_staged && is_upsert(spec)).then(|| waiting_bytes_max(upserts)),
        spill_dir: task.spill_dir.clone(),
        metrics: task.metrics.clone(),
    })))
}

#[cfg(test)]
mod tests {
    use thalweg_graph::Canonical;
    use thalweg_graph::ops::union::UnionSpec;
    use thalweg_state::Budget;

    use super::*;

    /// Whoever sees that there will be no more answers finds the reason.
    #[test]
    fn the_error_is_told_before_the_answers_end() {
        let node = Node {
            id: Canonical::new("test").to_operator_id(),
            variant: 0,
            spec: OperatorSpec::Union(UnionSpec {}),
            inputs: vec![],
            state: vec![],
            outputs: vec![],
        };
        let graph = Arc::new(Graph { nodes: vec![node] });
        for _ in 0..200 {
            let attempt = Arc::new(Attempt::new());
            let (answers, mut seen) = mpsc::unbounded_channel();
            let (_commands, commands) = std_mpsc::channel();
            let task = WorkerTask {
                worker: 0,
                workers: 1,
                job_name: "job".into(),
                graph: graph.clone(),
                build: Arc::new(|_| Err(Error::io("cannot build"))),
                state: StateConfig {
                    dir: PathBuf::new(),
                    groups: 0..128,
                    max_parallelism: 128,
                    backend: Backend::Memory,
                    budget: Budget::new(1 << 20),
                },
                restore: Restore::default(),
                sinks: HashMap::new(),
                facts: HashMap::new(),
                queues: HashMap::new(),
                stage: None,
                attempt: attempt.clone(),
                commands,
                answers,
                metrics: Arc::new(Metrics::default()),
                first_tick: 1,
                in_exchange: Arc::default(),
                spill_dir: PathBuf::new(),
            };
            let guards = spawn(vec![task]).unwrap();
            // Looked at without a pause, or the thread has the time to tell it late.
            while !matches!(seen.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)) {
                std::hint::spin_loop();
            }
            assert_eq!(attempt.error().expect("no reason is told").to_string(), "cannot build");
            drop(guards);
        }
    }
}
