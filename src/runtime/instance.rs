//! An instance: what ticks together. Runs attempts one after another until the input ends, the user ends it, or the
//! restart strategy gives up.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::time::Instant;

use thalweg_checkpoint::fail_points;
use thalweg_connector_api::{Position, ReaderCx, Sink, Source, SplitId};
use thalweg_core::clock::now_us;
use thalweg_core::key_group::groups_of;
use thalweg_core::{Error, Result};
use thalweg_graph::{Graph, NodeIx, OperatorSpec};
use thalweg_state::{Restore, StateConfig};
use tokio::sync::{Notify, mpsc, watch};

use crate::attempt::Attempt;
use crate::coordinator::{AttemptEnd, Control, Coordinator, RunningSource, WorkerLink, find_splits, queues_of};
use crate::durable::{Durable, DurableConfig, Lineage, RestoreReport};
use crate::metrics::Metrics;
use crate::options::{DisturbCounts, RuntimeOptions};
use crate::pace::Pace;
use crate::restart::{RestartStrategy, Restarts};
use crate::source::{SourceQueue, read};
use crate::worker::{BuildOperator, WorkerTask, spawn};

/// Everything that an instance runs on.
pub struct InstanceConfig {
    pub job_name: String,
    pub graph: Arc<Graph>,
    /// By source node.
    pub sources: HashMap<NodeIx, Arc<dyn Source>>,
    /// By sink node.
    pub sinks: HashMap<NodeIx, Arc<dyn Sink>>,
    pub build: BuildOperator,
    pub options: RuntimeOptions,
    /// `None`: no checkpoints; a failure ends the instance.
    pub durable: Option<DurableConfig>,
    /// Called before an attempt begins anew, with the tick that it goes on from: what came later is void.
    pub on_rewind: Option<Arc<dyn Fn(u64) + Send + Sync>>,
}

/// How an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    Stopped,
    Cancelled,
}

/// What an instance is doing.
#[derive(Debug, Clone)]
pub enum Phase {
    Starting,
    Running,
    /// Waits before the next attempt; the error that ended the last one.
    Restarting(Error),
    Ended(Result<Outcome>),
}

/// A running instance. Dropping the handle cancels it.
pub struct InstanceHandle {
    control: watch::Sender<Control>,
    phase: watch::Receiver<Phase>,
    pub metrics: Arc<Metrics>,
    restored: Arc<Mutex<Option<RestoreReport>>>,
    pending: Arc<Mutex<Vec<String>>>,
}

impl InstanceHandle {
    /// Takes a final checkpoint, delivers, and ends.
    pub fn stop(&self) {
        self.raise(Control::Stop);
    }

    /// Ends at once.
    pub fn cancel(&self) {
        self.raise(Control::Cancel);
    }

    fn raise(&self, to: Control) {
        self.control.send_if_modified(|c| {
            let higher = to > *c;
            *c = to.max(*c);
            higher
        });
    }

    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Ends when the instance has.
    pub async fn wait(&self) -> Result<Outcome> {
        let mut phase = self.phase.clone();
        loop {
            if let Phase::Ended(result) = &*phase.borrow_and_update() {
                return result.clone();
            }
            if phase.changed().await.is_err() {
                return Err(Error::internal("the instance's task is gone"));
            }
        }
    }

    /// What the last attempt went on from; `None`: it began anew.
    pub fn restored(&self) -> Option<RestoreReport> {
        self.restored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After the end: sinks whose committed output waits for the next start.
    pub fn undelivered(&self) -> Vec<String> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for InstanceHandle {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Starts an instance on the current tokio runtime.
pub fn start(config: InstanceConfig) -> InstanceHandle {
    let (control, control_rx) = watch::channel(Control::Run);
    let (phase_tx, phase) = watch::channel(Phase::Starting);
    let metrics = Arc::new(Metrics::default());
    let restored = Arc::new(Mutex::new(None));
    let pending = Arc::new(Mutex::new(vec![]));
    let instance = Instance {
        config,
        control: control_rx,
        phase: phase_tx,
        metrics: metrics.clone(),
        restored: restored.clone(),
        pending: pending.clone(),
        attempts: 0,
        lineage: Lineage::default(),
        kills_left: None,
        workers_before: 0,
    };
    tokio::spawn(instance.run());
    InstanceHandle { control, phase, metrics, restored, pending }
}

struct Instance {
    config: InstanceConfig,
    control: watch::Receiver<Control>,
    phase: watch::Sender<Phase>,
    metrics: Arc<Metrics>,
    restored: Arc<Mutex<Option<RestoreReport>>>,
    pending: Arc<Mutex<Vec<String>>>,
    attempts: u64,
    lineage: Lineage,
    kills_left: Option<u64>,
    /// Of the attempt before.
    workers_before: usize,
}

/// Where an attempt begins.
struct Begin {
    tick: u64,
    max_parallelism: u16,
    wall_clock_us: i64,
    positions: BTreeMap<NodeIx, BTreeMap<SplitId, Position>>,
    restore: Restore,
    facts: HashMap<NodeIx, serde_json::Value>,
    durable: Option<Arc<Durable>>,
}

impl Instance {
    async fn run(mut self) {
        // Without a checkpoint there is nothing to start again from.
        let strategy =
            if self.config.durable.is_some() { self.config.options.restart.clone() } else { RestartStrategy::None };
        let mut restarts = Restarts::new(strategy);
        let result = loop {
            let began = Instant::now();
            let end = match self.attempt().await {
                Ok(end) => end,
                Err(e) => AttemptEnd::Failed(e),
            };
            let end = match end {
                AttemptEnd::Failed(e) => AttemptEnd::Failed(self.taken_over().await.unwrap_or(e)),
                end => end,
            };
            match end {
                AttemptEnd::Finished => break Ok(Outcome::Finished),
                AttemptEnd::Stopped => break Ok(Outcome::Stopped),
                AttemptEnd::Cancelled => break Ok(Outcome::Cancelled),
                AttemptEnd::Failed(e) if !e.is_transient() => break Err(e),
                AttemptEnd::Failed(e) => {
                    let disturbed = self.config.options.disturb.is_some();
                    let wait = match restarts.next(began, Instant::now()) {
                        _ if disturbed => std::time::Duration::ZERO,
                        Some(wait) => wait,
                        None => break Err(e),
                    };
                    self.metrics.restarts.fetch_add(1, Ordering::Relaxed);
                    if !disturbed {
                        tracing::warn!(
                            job = %self.config.job_name, event = "restart", attempt = self.attempts + 1,
                            in_ms = wait.as_millis() as u64, "{e}"
                        );
                    }
                    let _ = self.phase.send(Phase::Restarting(e.clone()));
                    let control = self.control.clone();
                    let mut changed = control.clone();
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        _ = changed.wait_for(|c| *c != Control::Run) => {}
                    }
                    if *control.borrow() != Control::Run {
                        // The last checkpoint stands; what came after is read again at the next start.
                        break Ok(Outcome::Stopped);
                    }
                }
            }
        };
        self.metrics.ended.store(true, Ordering::Relaxed);
        let _ = self.phase.send(Phase::Ended(result));
    }

    /// Whatever an attempt failed of: if another process has the job now, that is why.
    async fn taken_over(&mut self) -> Option<Error> {
        let storage = &self.config.durable.as_ref()?.storage;
        let newest = storage.newest().await.ok()?;
        self.lineage.check(storage, newest.as_ref()).err()
    }

    /// Workers of this attempt: as configured, or in turn in a disturbed run.
    fn workers(&self) -> usize {
        let turn = |d: &crate::options::Disturb| match d.workers.len() {
            0 => None,
            n => Some(d.workers[(self.attempts as usize - 1) % n]),
        };
        self.config.options.disturb.as_ref().and_then(turn).unwrap_or(self.config.options.workers).max(1)
    }

    /// What the storage says of where to begin.
    async fn begin(&mut self, attempt: &Arc<Attempt>) -> Result<Begin> {
        let Some(config) = &self.config.durable else {
            return Ok(Begin {
                tick: 1,
                wall_clock_us: now_us(),
                max_parallelism: self.config.options.max_parallelism,
                positions: BTreeMap::new(),
                restore: Restore::default(),
                facts: HashMap::new(),
                durable: None,
            });
        };
        fail_points::reach("attempt-begin").await?;
        let (durable, point) = Durable::begin(
            config,
            &self.config,
            self.workers(),
            self.metrics.clone(),
            attempt.clone(),
            &mut self.lineage,
        )
        .await?;
        *self.restored.lock().unwrap_or_else(PoisonError::into_inner) = point.report;
        Ok(Begin {
            tick: point.tick + 1,
            max_parallelism: point.max_parallelism,
            wall_clock_us: point.wall_clock_us,
            positions: point.positions,
            restore: point.restore,
            facts: point.facts,
            durable: Some(Arc::new(durable)),
        })
    }

    async fn attempt(&mut self) -> Result<AttemptEnd> {
        self.attempts += 1;
        let _ = self.phase.send(Phase::Starting);
        let attempt = Arc::new(Attempt::new());
        let mut begin = self.begin(&attempt).await?;
        if begin.durable.as_ref().is_some_and(|d| d.is_finished()) {
            // The input had ended before, and everything was delivered.
            return Ok(AttemptEnd::Finished);
        }
        if let Some(rewind) = &self.config.on_rewind {
            rewind(begin.tick - 1);
        }
        let options = &self.config.options;
        let workers = self.workers();
        if let Some(disturb) = options.disturb.as_ref().filter(|_| begin.tick > 1) {
            DisturbCounts::add(&disturb.counts.restores);
            if self.workers_before != workers {
                DisturbCounts::add(&disturb.counts.rescales);
            }
        }
        self.workers_before = workers;
        let dir = options.working_dir.join(format!("attempt-{}-{}", std::process::id(), random_name()));
        let guard = RemoveDir(dir.clone());
        let has_data = Arc::new(Notify::new());
        let mut tasks = AbortOnDrop::default();

        let mut sources = vec![];
        let mut pin_start = false;
        self.metrics.status.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for (node, _) in self.config.graph.sources() {
            let source =
                self.config.sources.get(&node).ok_or_else(|| Error::internal("a source that was not opened"))?.clone();
            let positions = begin.positions.entry(node).or_default();
            let found = find_splits(&*source, |id| positions.contains_key(id), !positions.is_empty()).await;
            // Whoever starts a job for the first time is there and wants to know.
            let (splits, starts) = found.map_err(|e| if begin.tick == 1 { e.permanent() } else { e })?;
            pin_start |= !starts.is_empty();
            positions.extend(starts);
            let queues: Vec<_> =
                (0..workers).map(|_| Arc::new(SourceQueue::new(options.slices, has_data.clone()))).collect();
            let mut running =
                RunningSource { node, source: source.clone(), queues, readers: vec![], known: Default::default() };
            let assigned = running.assign(splits, positions);
            for (worker, splits) in assigned.into_iter().enumerate() {
                let reader = source.reader(
                    splits,
                    ReaderCx {
                        job_name: self.config.job_name.clone(),
                        status: self.metrics.new_status(),
                        worker,
                        workers,
                        piece_rows_max: match &options.disturb {
                            Some(d) => d.piece_rows_max.min(d.slice_rows_max).min(options.piece_rows_max),
                            None => options.tick_rows_max.min(options.piece_rows_max),
                        },
                        piece_bytes_max: options.piece_bytes_max,
                    },
                )?;
                let (commands, receiver) = mpsc::unbounded_channel();
                let failing = attempt.clone();
                let task = read(reader, running.queues[worker].clone(), receiver, move |e| failing.fail(e));
                tasks.0.push(attempt.spawn("reading input", task));
                running.readers.push(commands);
            }
            sources.push(running);
        }

        let (answers_tx, answers) = mpsc::unbounded_channel();
        let in_exchange = Arc::new(AtomicUsize::new(0));
        let mut worker_tasks = vec![];
        let mut commands_of = vec![];
        for worker in 0..workers {
            let (commands_tx, commands) = std_mpsc::channel();
            commands_of.push(commands_tx);
            worker_tasks.push(WorkerTask {
                worker,
                workers,
                job_name: self.config.job_name.clone(),
                graph: self.config.graph.clone(),
                build: self.config.build.clone(),
                state: StateConfig {
                    dir: dir.join(format!("state-{worker}")),
                    groups: groups_of(worker, begin.max_parallelism, workers),
                    max_parallelism: begin.max_parallelism,
                    backend: options.backend,
                    budget: options.budget.clone(),
                },
                restore: begin.restore.clone(),
                sinks: self.config.sinks.clone(),
                facts: begin.facts.clone(),
                queues: queues_of(&sources, worker),
                stage: begin.durable.as_ref().map(|d| d.stage()),
                attempt: attempt.clone(),
                commands,
                answers: answers_tx.clone(),
                metrics: self.metrics.clone(),
                first_tick: begin.tick,
                in_exchange: in_exchange.clone(),
                spill_dir: dir.join(format!("spill-{worker}")),
            });
        }
        drop(answers_tx);
        let guards = spawn(worker_tasks)?;
        let links: Vec<WorkerLink> = commands_of
            .into_iter()
            .zip(guards.guards())
            .map(|(commands, guard)| WorkerLink { commands, thread: guard.thread().clone() })
            .collect();

        let failed = Arc::new(Notify::new());
        let (wake, unpark) = (failed.clone(), links.iter().map(|l| l.thread.clone()).collect::<Vec<_>>());
        attempt.on_failure(move || {
            wake.notify_one();
            unpark.iter().for_each(std::thread::Thread::unpark);
        });
        if attempt.has_failed() {
            failed.notify_one();
        }
        let _ = self.phase.send(Phase::Running);
        let coordinator = Coordinator {
            options: options.clone(),
            attempt: attempt.clone(),
            failed,
            workers: links,
            answers,
            has_data,
            sources,
            pin_start,
            positions: begin.positions,
            durable: begin.durable.clone(),
            control: self.control.clone(),
            metrics: self.metrics.clone(),
            pace: Pace::new(options.slice_rows_max(), reduces(&self.config.graph)),
            first_tick: begin.tick,
            next_tick: begin.tick,
            wall_clock_us: begin.wall_clock_us,
            kills_left: self.kills_left.unwrap_or_else(|| options.disturb.as_ref().map_or(0, |d| d.kills_max)),
            job_name: self.config.job_name.clone(),
        };
        let kills_before = coordinator.kills_left;
        let end = coordinator.run().await;
        if options.disturb.is_some() && matches!(&end, AttemptEnd::Failed(e) if e.message() == KILLED) {
            self.kills_left = Some(kills_before.saturating_sub(1));
            options.disturb.iter().for_each(|d| DisturbCounts::add(&d.counts.kills));
        }
        if let Some(durable) = &begin.durable {
            *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = durable.undelivered();
        }
        // The flag stops workers that are in the middle of something.
        attempt.fail(Error::cancelled());
        drop(tasks);
        // Workers look at the flag between operator calls; their files go when the last one has seen it.
        tokio::task::spawn_blocking(move || {
            drop(guards.join());
            drop(guard);
        })
        .await
        .map_err(|e| Error::internal(e.to_string()))?;
        Ok(end)
    }
}

/// Whether many rows of input can come to one row of output.
fn reduces(graph: &Graph) -> bool {
    let reduces = |spec: &OperatorSpec| {
        matches!(spec, OperatorSpec::Aggregate(_) | OperatorSpec::TopN(_) | OperatorSpec::Deduplicate(_))
    };
    graph.nodes.iter().any(|n| reduces(&n.spec))
}

/// Message of the error that ends an attempt of a disturbed run.
pub const KILLED: &str = "killed by the test";

#[derive(Default)]
struct AbortOnDrop(Vec<tokio::task::JoinHandle<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Removes an attempt's local folder.
struct RemoveDir(PathBuf);

impl Drop for RemoveDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn random_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}
