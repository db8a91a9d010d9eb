//! The coordinator of one attempt: starts ticks while sources have data, makes checkpoints of them, and knows when the
//! input has ended. A tokio task beside the workers.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thalweg_connector_api::{Position, Source, Split, SplitId};
use thalweg_core::{Error, Result, Tick, TickKind};
use thalweg_graph::NodeIx;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::command::{Answer, CheckpointPart, Command};
use crate::durable::{Commit, Committed, Durable};
use crate::metrics::Metrics;
use crate::options::{Disturb, RuntimeOptions};
use crate::source::{ReaderCommand, SourceQueue, random_slice_rows};

/// Ticks that are started and not done: the next one's slice is taken while the workers are busy with these.
const TICKS_IN_FLIGHT: usize = 3;

/// How an attempt ended.
#[derive(Debug)]
pub enum AttemptEnd {
    /// The input has ended and everything is delivered.
    Finished,
    /// Stopped on request, with a final checkpoint.
    Stopped,
    Cancelled,
    Failed(Error),
}

/// What an instance is told while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Control {
    Run,
    /// A final checkpoint, then deliver and end.
    Stop,
    /// End at once.
    Cancel,
}

/// A worker, as the coordinator reaches it.
pub struct WorkerLink {
    pub commands: std_mpsc::Sender<Command>,
    pub thread: std::thread::Thread,
}

impl WorkerLink {
    fn send(&self, command: Command) {
        // A worker that is gone has raised the failure flag.
        let _ = self.commands.send(command);
        self.thread.unpark();
    }
}

/// A source with its readers on all workers.
pub struct RunningSource {
    pub node: NodeIx,
    pub source: Arc<dyn Source>,
    /// Per worker.
    pub queues: Vec<Arc<SourceQueue>>,
    pub readers: Vec<mpsc::UnboundedSender<ReaderCommand>>,
    pub known: BTreeSet<SplitId>,
}

impl RunningSource {
    /// Splits go to the workers in turn, in the order in which they are found.
    pub fn assign(
        &mut self,
        splits: Vec<Split>,
        positions: &BTreeMap<SplitId, Position>,
    ) -> Vec<Vec<(Split, Option<Position>)>> {
        let workers = self.queues.len();
        let mut of_worker = vec![vec![]; workers];
        for split in splits {
            if self.known.insert(split.id.clone()) {
                let position = positions.get(&split.id).cloned();
                of_worker[(self.known.len() - 1) % workers].push((split, position));
            }
        }
        of_worker
    }
}

pub struct Coordinator {
    pub options: RuntimeOptions,
    pub attempt: Arc<Attempt>,
    pub failed: Arc<Notify>,
    pub workers: Vec<WorkerLink>,
    pub answers: mpsc::UnboundedReceiver<Answer>,
    pub has_data: Arc<Notify>,
    pub sources: Vec<RunningSource>,
    /// Where all splits stand, of all source nodes, as of the last checkpoint.
    pub positions: BTreeMap<NodeIx, BTreeMap<SplitId, Position>>,
    pub durable: Option<Arc<Durable>>,
    pub control: tokio::sync::watch::Receiver<Control>,
    pub metrics: Arc<Metrics>,
    /// The next tick.
    pub next_tick: u64,
    pub wall_clock_us: i64,
    /// Kills of a disturbed run that are left.
    pub kills_left: u64,
    pub job_name: String,
}

/// A checkpoint whose tick is started.
struct Barrier {
    checkpoint: u64,
    tick: Tick,
    parts: Vec<CheckpointPart>,
    began: Instant,
    is_last: bool,
}

#[derive(Default)]
struct State {
    /// Started ticks, with the workers that are not done.
    in_flight: VecDeque<(u64, usize)>,
    barrier: Option<Barrier>,
    committing: Option<JoinHandle<Result<Committed>>>,
    commit_is_last: bool,
    last_checkpoint: Option<Instant>,
    last_commit: Option<Instant>,
    /// Something happened since the last checkpoint.
    dirty: bool,
    wants_tick_at: Option<i64>,
    /// The last tick is started.
    ending: bool,
    /// The last tick is done (and committed, if there is a storage).
    ended: bool,
    stop_requested: bool,
    discovering: Option<JoinHandle<Vec<(usize, Result<Vec<Split>>)>>>,
    ready: usize,
}

impl Coordinator {
    /// Runs the attempt to its end.
    pub async fn run(mut self) -> AttemptEnd {
        let failed = self.failed.clone();
        let mut s = State { dirty: true, ..State::default() };
        let mut discovery = self.discovery_timer();
        loop {
            if self.attempt.has_failed() {
                return self.fail(s).await;
            }
            match *self.control.borrow_and_update() {
                Control::Cancel => {
                    self.workers.iter().for_each(|w| w.send(Command::Cancel));
                    return AttemptEnd::Cancelled;
                }
                Control::Stop => s.stop_requested = true,
                Control::Run => {}
            }
            if s.ended {
                return self.finish(s).await;
            }
            if let Err(e) = self.start_ticks(&mut s) {
                self.attempt.fail(e);
                continue;
            }
            let deadline = self.deadline(&s);
            tokio::select! {
                biased;
                () = failed.notified() => {}
                answer = self.answers.recv() => match answer {
                    Some(answer) => {
                        self.on_answer(answer, &mut s);
                        while let Ok(answer) = self.answers.try_recv() {
                            self.on_answer(answer, &mut s);
                        }
                    }
                    None => self.attempt.fail(Error::internal("all workers are gone").transient()),
                },
                committed = join(&mut s.committing) => self.on_commit(committed, &mut s),
                found = join(&mut s.discovering) => {
                    if let Err(e) = self.on_splits(found) {
                        self.attempt.fail(e);
                    }
                }
                () = self.has_data.notified() => {}
                changed = self.control.changed() => {
                    if changed.is_err() {
                        self.workers.iter().for_each(|w| w.send(Command::Cancel));
                        return AttemptEnd::Cancelled;
                    }
                }
                () = tokio::time::sleep_until(deadline) => {
                    if let Some((every, at)) = &mut discovery
                        && Instant::now() >= *at
                        && s.discovering.is_none()
                    {
                        *at = Instant::now() + *every;
                        s.discovering = Some(self.discover());
                    }
                }
            }
        }
    }

    async fn fail(&self, s: State) -> AttemptEnd {
        self.workers.iter().for_each(|w| w.send(Command::Cancel));
        if let Some(commit) = s.committing {
            // Whether it commits or not, it must be decided before the next attempt reads where the job stands.
            let _ = commit.await;
        }
        AttemptEnd::Failed(self.attempt.error().unwrap_or_else(|| Error::internal("failed without an error")))
    }

    /// After the last tick: deliver what is committed.
    async fn finish(&mut self, s: State) -> AttemptEnd {
        let stopped = s.stop_requested && !self.inputs_ended();
        if let Some(durable) = &self.durable {
            // An orderly stop waits for at most the time-out; a finished input until everything is out.
            let limit = stopped.then_some(self.options.checkpoint_timeout);
            let mut control = self.control.clone();
            tokio::select! {
                result = durable.deliver_all(limit) => if let Err(e) = result {
                    self.workers.iter().for_each(|w| w.send(Command::Cancel));
                    return AttemptEnd::Failed(e);
                },
                () = self.failed.notified() => {
                    return self.fail(s).await;
                }
                () = cancelled(&mut control) => {}
            }
        }
        self.workers.iter().for_each(|w| w.send(Command::Cancel));
        if stopped {
            return AttemptEnd::Stopped;
        }
        match &self.durable {
            Some(durable) if durable.pending_bytes() == 0 => match durable.finish().await {
                Ok(()) => AttemptEnd::Finished,
                Err(e) => AttemptEnd::Failed(e),
            },
            _ => AttemptEnd::Finished,
        }
    }

    fn inputs_ended(&self) -> bool {
        self.sources.iter().all(|s| s.source.discovery_interval().is_none() && s.queues.iter().all(|q| q.is_drained()))
    }

    fn has_data(&self) -> bool {
        self.sources.iter().any(|s| s.queues.iter().any(|q| q.has_data()))
    }

    fn start_ticks(&mut self, s: &mut State) -> Result<()> {
        while s.ready == self.workers.len() && s.in_flight.len() < TICKS_IN_FLIGHT && s.barrier.is_none() && !s.ending {
            let now_us = now_us();
            let ended = self.inputs_ended();
            let last = ended || s.stop_requested;
            let may_checkpoint = self.durable.is_some() && s.committing.is_none();
            let disturbed = self.disturbed(s)?;
            let checkpoint_due = may_checkpoint && (disturbed || self.checkpoint_due(s));
            let timer = s.wants_tick_at.is_some_and(|at| at <= now_us);
            let blocked = self.durable.as_ref().is_some_and(|d| d.pending_bytes() > self.options.pending_bytes_max);
            let wanted = (self.has_data() && !blocked) || timer || checkpoint_due || last || self.next_tick == 1;
            if !wanted {
                break;
            }
            if last && self.durable.is_some() && !may_checkpoint {
                break; // the final checkpoint comes after the running one
            }
            self.wall_clock_us = self.wall_clock_us.max(now_us);
            let kind = match &self.durable {
                Some(d) if last => TickKind::Stop(d.next_checkpoint()),
                Some(d) if checkpoint_due => TickKind::Checkpoint(d.next_checkpoint()),
                _ => TickKind::Plain,
            };
            let tick = Tick { id: self.next_tick, kind, wall_clock_us: self.wall_clock_us };
            self.next_tick += 1;
            s.in_flight.push_back((tick.id, self.workers.len()));
            s.ending = last;
            s.wants_tick_at = None;
            if let Some(checkpoint) = kind.checkpoint() {
                s.last_checkpoint = Some(Instant::now());
                s.dirty = false;
                let parts = Vec::with_capacity(self.workers.len());
                s.barrier = Some(Barrier { checkpoint, tick, parts, began: Instant::now(), is_last: last });
            }
            let slice_rows_max = match (&self.options.disturb, last && !ended) {
                // An orderly stop takes no more input.
                (_, true) => 0,
                (Some(d), _) => random_slice_rows(d.seed, tick.id, d.slice_rows_max),
                (None, _) => self.options.slices.rows_max,
            };
            self.workers.iter().for_each(|w| w.send(Command::Tick { tick, slice_rows_max }));
        }
        Ok(())
    }

    /// For disturbed runs: whether this tick takes a checkpoint, or an error to end the attempt.
    fn disturbed(&mut self, s: &State) -> Result<bool> {
        let Some(Disturb { seed, checkpoint_one_in, kill_one_in, .. }) = self.options.disturb else { return Ok(false) };
        let draw =
            |salt: u64, one_in: u64| one_in > 0 && random_slice_rows(seed ^ salt, self.next_tick, one_in as usize) == 1;
        if self.kills_left > 0
            && self.durable.is_some()
            && self.next_tick > 1
            && draw(0x6b69_6c6c, kill_one_in)
            && s.in_flight.is_empty()
        {
            self.kills_left -= 1;
            return Err(Error::io(crate::instance::KILLED));
        }
        Ok(draw(0x6368_6b70, checkpoint_one_in))
    }

    fn checkpoint_due(&self, s: &State) -> bool {
        let Some(durable) = &self.durable else { return false };
        let now = Instant::now();
        if s.last_commit.is_some_and(|c| now < c + self.options.checkpoint_min_pause) {
            return false;
        }
        if durable.staged_bytes() > self.options.staged_bytes_max {
            return true;
        }
        s.dirty && self.options.checkpoint_interval.is_some_and(|i| s.last_checkpoint.is_none_or(|c| now >= c + i))
    }

    fn deadline(&self, s: &State) -> Instant {
        let now = Instant::now();
        let mut deadline = now + Duration::from_secs(3600);
        for source in &self.sources {
            if let Some(every) = source.source.discovery_interval() {
                deadline = deadline.min(now + every);
            }
        }
        // While no tick can start, only an answer of the workers brings the attempt on.
        if s.ready < self.workers.len() || s.in_flight.len() >= TICKS_IN_FLIGHT || s.barrier.is_some() || s.ending {
            return deadline;
        }
        if self.durable.is_some()
            && s.dirty
            && s.committing.is_none()
            && let Some(interval) = self.options.checkpoint_interval
        {
            let due = s.last_checkpoint.map_or(now, |c| c + interval);
            let pause = s.last_commit.map_or(now, |c| c + self.options.checkpoint_min_pause);
            deadline = deadline.min(due.max(pause));
        }
        if let Some(at) = s.wants_tick_at {
            let wait = u64::try_from(at - now_us()).unwrap_or(0);
            deadline = deadline.min(now + Duration::from_micros(wait));
        }
        deadline
    }

    fn on_answer(&mut self, answer: Answer, s: &mut State) {
        match answer {
            Answer::Ready => s.ready += 1,
            Answer::TickDone { tick, rows_in, wants_tick_at, .. } => {
                if let Some(t) = s.in_flight.iter_mut().find(|(t, _)| *t == tick) {
                    t.1 -= 1;
                }
                // A checkpoint tick's own rows are in that checkpoint.
                let in_checkpoint = s.barrier.as_ref().is_some_and(|b| b.tick.id >= tick);
                s.dirty |= rows_in > 0 && !in_checkpoint;
                s.wants_tick_at = [s.wants_tick_at, wants_tick_at].into_iter().flatten().min();
                while s.in_flight.front().is_some_and(|(_, left)| *left == 0) {
                    let (done, _) = s.in_flight.pop_front().expect("just seen");
                    self.metrics.tick.store(done, Ordering::Relaxed);
                    if s.ending && s.in_flight.is_empty() && self.durable.is_none() {
                        s.ended = true;
                    }
                }
            }
            Answer::CheckpointPart(part) => {
                let Some(barrier) = &mut s.barrier else { return };
                if barrier.checkpoint != part.checkpoint {
                    return;
                }
                barrier.parts.push(part);
                if barrier.parts.len() == self.workers.len() {
                    let barrier = s.barrier.take().expect("just seen");
                    self.commit(barrier, s);
                }
            }
        }
    }

    /// All parts of a checkpoint are there: upload and commit beside the stream.
    fn commit(&mut self, barrier: Barrier, s: &mut State) {
        let Some(durable) = self.durable.clone() else { return };
        let pause = barrier.began.elapsed();
        self.metrics.checkpoint_pause_us.store(pause.as_micros() as u64, Ordering::Relaxed);
        for part in &barrier.parts {
            for (node, moved) in &part.positions {
                self.positions.entry(*node).or_default().extend(moved.clone());
            }
        }
        let commit = Commit {
            checkpoint: barrier.checkpoint,
            tick: barrier.tick,
            positions: self.positions.clone(),
            parts: barrier.parts,
        };
        s.commit_is_last = barrier.is_last;
        s.committing = Some(tokio::spawn(async move { durable.commit(commit).await }));
    }

    fn on_commit(&mut self, result: Result<Result<Committed>, tokio::task::JoinError>, s: &mut State) {
        s.committing = None;
        let result =
            result.unwrap_or_else(|e| Err(Error::internal(format!("the checkpoint task failed: {e}")).transient()));
        match result {
            Ok(committed) => {
                s.last_commit = Some(Instant::now());
                let took = s.last_checkpoint.map_or(0, |c| c.elapsed().as_millis() as u64);
                self.metrics.checkpoint.store(committed.checkpoint, Ordering::Relaxed);
                self.metrics.checkpoint_ms.store(took, Ordering::Relaxed);
                self.metrics.checkpoint_bytes.store(committed.bytes, Ordering::Relaxed);
                self.metrics.checkpoint_at_ms.store(now_us() / 1000, Ordering::Relaxed);
                self.workers.iter().for_each(|w| w.send(Command::ReleaseSnapshot(committed.checkpoint)));
                for source in &self.sources {
                    let positions = self.positions.get(&source.node).cloned().unwrap_or_default();
                    let positions: Vec<_> = positions.into_iter().collect();
                    for reader in &source.readers {
                        let _ = reader.send(ReaderCommand::Committed(positions.clone()));
                    }
                }
                s.ended |= s.commit_is_last;
            }
            Err(e) if e.is_transient() => self.abort_checkpoint(&e, s),
            Err(e) => self.attempt.fail(e),
        }
    }

    /// A checkpoint that could not be made: nothing of it is lost, the next one carries all.
    fn abort_checkpoint(&mut self, error: &Error, s: &mut State) {
        tracing::warn!(job = %self.job_name, event = "checkpoint_aborted", "{error}; its output waits for the next one");
        if let Some(durable) = &self.durable {
            self.workers.iter().for_each(|w| w.send(Command::ReleaseSnapshot(durable.next_checkpoint() - 1)));
        }
        s.dirty = true;
        s.last_commit = Some(Instant::now());
        if s.commit_is_last && s.ending {
            // The final one is tried again with the next tick.
            s.ending = false;
        }
        if self.options.checkpoint_interval.is_none() {
            self.attempt.fail(error.clone());
        }
    }

    fn discovery_timer(&self) -> Option<(Duration, Instant)> {
        let every = self.sources.iter().filter_map(|s| s.source.discovery_interval()).min()?;
        Some((every, Instant::now() + every))
    }

    /// Looks for new splits of every source that may get some.
    fn discover(&self) -> JoinHandle<Vec<(usize, Result<Vec<Split>>)>> {
        let sources: Vec<(usize, Arc<dyn Source>)> = self
            .sources
            .iter()
            .enumerate()
            .filter(|(_, s)| s.source.discovery_interval().is_some())
            .map(|(ix, s)| (ix, s.source.clone()))
            .collect();
        tokio::spawn(async move {
            let mut found = vec![];
            for (ix, source) in sources {
                found.push((ix, source.splits().await));
            }
            found
        })
    }

    fn on_splits(&mut self, found: Discovered) -> Result<()> {
        let empty = BTreeMap::new();
        for (ix, splits) in found.map_err(|e| Error::internal(e.to_string()).transient())? {
            let source = &mut self.sources[ix];
            let positions = self.positions.get(&source.node).unwrap_or(&empty);
            for (worker, splits) in source.assign(splits?, positions).into_iter().enumerate() {
                if !splits.is_empty() {
                    let _ = source.readers[worker].send(ReaderCommand::Assign(splits));
                }
            }
        }
        Ok(())
    }
}

type Discovered = Result<Vec<(usize, Result<Vec<Split>>)>, tokio::task::JoinError>;

/// Waits for a task, if there is one; else for ever.
async fn join<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(handle) => {
            let result = handle.await;
            *task = None;
            result
        }
        None => std::future::pending().await,
    }
}

async fn cancelled(control: &mut tokio::sync::watch::Receiver<Control>) {
    loop {
        if *control.borrow_and_update() == Control::Cancel || control.changed().await.is_err() {
            return;
        }
    }
}

pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// Queues of one worker, by source node.
pub fn queues_of(sources: &[RunningSource], worker: usize) -> HashMap<NodeIx, Arc<SourceQueue>> {
    sources.iter().map(|s| (s.node, s.queues[worker].clone())).collect()
}
