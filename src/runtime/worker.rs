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
use thalweg_connector_api::{EncodeCx, Sink};
use thalweg_core::operator::Operator;
use thalweg_core::state::StateTable;
use thalweg_core::table::Delivery;
use thalweg_core::{Error, Result};
use thalweg_graph::{Graph, NodeIx, OperatorSpec};
use thalweg_state::{Backend, Restore, StateConfig, WorkerState};
use timely::CommunicationConfig;
use timely::WorkerConfig;
use timely::communication::{Allocator, WorkerGuards, initialize_from};
use tokio::sync::mpsc;

use crate::adaptor::{InputEdge, Messages, SharedOperator, TickProgress, WorkerCx, operator, panicked};
use crate::attempt::Attempt;
use crate::command::{Answer, CheckpointPart, Command, Stage};
use crate::fail_points;
use crate::metrics::Metrics;
use crate::sink::{SinkCx, SinkOperator, Target};
use crate::source::{SourceHandle, SourceQueue, source};

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

    let mut rows_of_tick: HashMap<u64, u64> = HashMap::new();
    'run: while !task.attempt.has_failed() {
        loop {
            match task.commands.try_recv() {
                Ok(Command::Tick { tick, slice_rows_max }) => {
                    cx.ticks.borrow_mut().insert(tick.id, TickProgress { tick, operators_done: 0 });
                    let sources = built.sources.iter().map(|(_, s)| s);
                    let rows = sources.map(|s| s.start_tick(tick.id, slice_rows_max, &task.metrics)).sum();
                    rows_of_tick.insert(tick.id, rows);
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
            let rows_in = rows_of_tick.remove(&tick.id).unwrap_or(0);
            let done = Answer::TickDone { tick: tick.id, rows_in, wants_tick_at };
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

/// Flushes all operators and links the state's files. Nothing of a later tick is there: a checkpoint tick is a barrier.
fn take_part(task: &WorkerTask, state: &WorkerState, built: &Built, checkpoint: u64) -> Result<CheckpointPart> {
    fail_points::pass("operator-flush")?;
    for operator in &built.operators {
        operator.borrow_mut().flush()?;
    }
    fail_points::pass("state-snapshot")?;
    let snapshot = state.begin_snapshot(checkpoint);
    let positions = built.sources.iter().map(|(node, s)| (*node, s.positions())).collect();
    let rows = built.sources.iter().map(|(node, s)| (*node, s.rows())).collect();
    Ok(CheckpointPart { worker: task.worker, checkpoint, snapshot, positions, rows })
}

struct Built {
    sources: Vec<(NodeIx, SourceHandle)>,
    operators: Vec<SharedOperator>,
}

fn build(
    timely: &mut timely::worker::Worker,
    task: &WorkerTask,
    state: &WorkerState,
    cx: &Rc<WorkerCx>,
) -> Result<Built> {
    timely.dataflow::<u64, _, _>(|scope| {
        let mut built = Built { sources: vec![], operators: vec![] };
        let mut streams: Vec<Vec<Messages<'_>>> = vec![];
        for (ix, node) in task.graph.nodes.iter().enumerate() {
            let inputs: Vec<InputEdge<'_>> = node
                .inputs
                .iter()
                .map(|e| InputEdge { stream: streams[e.from][e.output].clone(), route: e.route.clone() })
                .collect();
            let name = node.spec.meaning().title(&task.graph.inputs(node));
            let outputs = match &node.spec {
                OperatorSpec::Source(spec) => {
                    let queue = task.queues.get(&ix).ok_or_else(|| Error::internal("a source without a reader"))?;
                    let (outputs, handle) = source(scope, &name, spec.tables.len(), queue.clone(), cx);
                    built.sources.push((ix, handle));
                    outputs
                }
                OperatorSpec::Sink(_) => {
                    let sink = Rc::new(RefCell::new(sink_operator(task, ix)?));
                    built.operators.push(sink.clone());
                    vec![operator(scope, &name, sink, inputs, cx)]
                }
                _ => {
                    let id = node.id.to_string();
                    let tables = node.state.iter().map(|spec| state.table(&id, node.variant, spec));
                    let op = (task.build)(OperatorCx {
                        graph: &task.graph,
                        node: ix,
                        tables: tables.collect::<Result<Vec<_>>>()?,
                        max_parallelism: cx.max_parallelism,
                        worker: task.worker,
                        workers: task.workers,
                    })?;
                    let op = Rc::new(RefCell::new(op));
                    built.operators.push(op.clone());
                    vec![operator(scope, &name, op, inputs, cx)]
                }
            };
            streams.push(outputs);
        }
        Ok(built)
    })
}

fn sink_operator(task: &WorkerTask, ix: NodeIx) -> Result<Box<dyn Operator>> {
    let node = &task.graph.nodes[ix];
    let OperatorSpec::Sink(spec) = &node.spec else { return Err(Error::internal("not a sink")) };
    let sink = task.sinks.get(&ix).ok_or_else(|| Error::internal("a sink that was not opened"))?;
    let encode = EncodeCx { worker: task.worker, workers: task.workers, job_name: task.job_name.clone() };
    let target = match (spec.delivery, &task.stage) {
        (Delivery::None, _) => Target::Direct(sink.direct(encode)?),
        (_, Some(stage)) => Target::Staged { encoder: sink.encoder(encode)?, stage: stage.clone() },
        (_, None) => {
            let message = format!("sink {} is fed from checkpoints, and there are none", spec.def.name);
            return Err(Error::option(message).note("SET 'execution.checkpointing.interval' = '1 s'"));
        }
    };
    let inputs = task.graph.inputs(node);
    Ok(Box::new(SinkOperator::new(SinkCx {
        name: spec.def.name.clone(),
        node: ix,
        worker: task.worker,
        target,
        key: spec.key.clone(),
        as_they_come: !spec.needs_net || inputs.iter().all(|i| i.append_only),
        spill_dir: task.spill_dir.clone(),
        metrics: task.metrics.clone(),
    })))
}
