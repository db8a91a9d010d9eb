//! The coordinator of one attempt: starts ticks while sources have data, makes checkpoints of them, and knows when the
//! input has ended. A tokio task beside the workers.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use thalweg_connector_api::{Position, Source, Split, SplitId};
use thalweg_core::clock::now_us;
use thalweg_core::{Error, Result, Tick, TickKind};
use thalweg_graph::NodeIx;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::command::{Answer, CheckpointPart, Command};
use crate::durable::{Commit, Committed, Durable};
use crate::metrics::Metrics;
use crate::options::RuntimeOptions;
use crate::pace::Pace;
use crate::source::{ReaderCommand, SourceQueue, random_slice_rows};

/// After a checkpoint that was given up no other one starts for so long: what is wrong may pass, and the log stays readable.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Ticks that are started and not done: the next one's slice is taken while the workers are busy with these.
const TICKS_IN_FLIGHT: usize = 3;

/// How often it is looked whether there is room again for output that waits for its target.
const BLOCKED_RETRY: Duration = Duration::from_millis(50);

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
    /// Some of them were found out just now: they must be durable before a row is taken.
    pub pin_start: bool,
    pub durable: Option<Arc<Durable>>,
    pub control: tokio::sync::watch::Receiver<Control>,
    pub metrics: Arc<Metrics>,
    pub pace: Pace,
    /// The first tick of this attempt.
    pub first_tick: u64,
    /// The next tick.
    pub next_tick: u64,
    pub wall_clock_us: i64,
    /// Kills of a disturbed run that are left.
    pub kills_left: u64,
    pub job_name: String,
}

/// A checkpoint whose tick is started.
struct Barrier {
    /// Its id within the attempt.
    checkpoint: u64,
    tick: Tick,
    parts: Vec<CheckpointPart>,
    /// The time-out counts from here.
    began: Instant,
    is_last: bool,
}

/// Where a disturbed run ends an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    /// Before the tick begins; those before it are done.
    Before,
    /// While the workers are at it.
    Within,
}

/// A tick that is started.
struct InFlight {
    tick: u64,
    began: Instant,
    /// After the start of the tick before.
    gap: Duration,
    /// Of each source, on each worker.
    rows_max: usize,
    /// Taken, of those workers that are done.
    rows: u64,
    /// Workers that are not done.
    left: usize,
}

#[derive(Default)]
struct State {
    in_flight: VecDeque<InFlight>,
    barrier: Option<Barrier>,
    committing: Option<JoinHandle<Result<Committed>>>,
    /// Of the one that is being committed: its id, and whether it is the final one.
    committing_id: u64,
    commit_is_last: bool,
    /// One was given up: the next one starts not earlier.
    not_before: Option<Instant>,
    last_checkpoint: Option<Instant>,
    last_commit: Option<Instant>,
    /// Something happened since the last checkpoint.
    dirty: bool,
    /// A tick of this attempt that is done has taken rows.
    has_rows: bool,
    wants_tick_at: Option<i64>,
    /// The last tick is started.
    ending: bool,
    /// The last tick is done (and committed, if there is a storage).
    ended: bool,
    stop_requested: Option<Instant>,
    discovering: Option<JoinHandle<Vec<(usize, Result<Found>)>>>,
    /// The checkpoint that makes start positions durable is being made.
    pinning: bool,
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
                Control::Stop => drop(s.stop_requested.get_or_insert_with(Instant::now)),
                Control::Run => {}
            }
            if s.ended {
                return self.finish(s).await;
            }
            if let Some(late) = s.barrier.take_if(|b| b.began.elapsed() >= self.options.checkpoint_timeout)
                && let Some(durable) = &self.durable
            {
                let error = durable.too_late();
                late.parts.into_iter().for_each(give_up);
                self.abort_checkpoint(error, late.checkpoint, late.is_last, &mut s);
                continue;
            }
            if self.sources.iter().any(|s| s.queues.iter().any(|q| q.has_rows())) {
                self.metrics.set_idle(false);
            } else if s.in_flight.is_empty() {
                self.metrics.set_idle(true);
            }
            if let Err(e) = self.start_ticks(&mut s) {
                self.attempt.fail(e);
                continue;
            }
            // Looked at every time, for a busy job never comes to the end of its wait.
            if let Some((every, at)) = &mut discovery
                && Instant::now() >= *at
                && s.discovering.is_none()
            {
                *at = Instant::now() + *every;
                s.discovering = Some(self.discover());
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
                () = tokio::time::sleep_until(deadline) => {}
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
        let mut stopped = s.stop_requested.is_some() && !self.inputs_ended();
        if let Some(durable) = &self.durable {
            // A finished input waits until everything is out; whoever asks for the end, before or now, for at most the
            // time-out. What is left waits for the next start.
            let raised_to = |to| raised_to(self.control.clone(), to);
            let patience = async {
                raised_to(Control::Stop).await;
                tokio::time::sleep(self.options.checkpoint_timeout).await;
            };
            tokio::select! {
                biased;
                () = durable.delivered_all() => {}
                () = self.failed.notified() => {
                    return self.fail(s).await;
                }
                () = raised_to(Control::Cancel) => {
                    self.workers.iter().for_each(|w| w.send(Command::Cancel));
                    return AttemptEnd::Cancelled;
                }
                () = patience => stopped = true,
            }
        }
        self.workers.iter().for_each(|w| w.send(Command::Cancel));
        if stopped {
            return AttemptEnd::Stopped;
        }
        match &self.durable {
            Some(durable) => match durable.finish().await {
                Ok(()) => AttemptEnd::Finished,
                Err(e) => AttemptEnd::Failed(e),
            },
            None => AttemptEnd::Finished,
        }
    }

    fn inputs_ended(&self) -> bool {
        self.sources.iter().all(|s| s.source.discovery_interval().is_none() && s.queues.iter().all(|q| q.is_drained()))
    }

    fn has_data(&self) -> bool {
        self.sources.iter().any(|s| s.queues.iter().any(|q| q.has_data()))
    }

    /// Until when the rows that are there wait for more.
    fn gathers_until(&self) -> Option<Instant> {
        let until = self.pace.gathers_until().filter(|until| Instant::now() < *until)?;
        let queues = || self.sources.iter().flat_map(|s| &s.queues);
        let waits =
            self.options.disturb.is_none() && !queues().any(|q| q.has_enough()) && !queues().all(|q| q.has_ended());
        waits.then_some(until)
    }

    fn start_ticks(&mut self, s: &mut State) -> Result<()> {
        while s.ready == self.workers.len()
            && s.in_flight.len() < TICKS_IN_FLIGHT
            && s.barrier.is_none()
            && !s.ending
            && !s.pinning
        {
            let now_us = now_us();
            let ended = self.inputs_ended();
            let last = ended || s.stop_requested.is_some();
            let pauses = s.not_before.is_some_and(|at| Instant::now() < at);
            let may_checkpoint = self.durable.is_some() && s.committing.is_none() && !pauses;
            let kill = self.kill_due();
            if kill.is_some() && !s.in_flight.is_empty() {
                break; // whether there is anything to lose is known when they are done
            }
            if kill == Some(Kill::Before) && s.has_rows {
                return self.kill();
            }
            let drawn = self.draws_checkpoint();
            if drawn && s.committing.is_some() {
                break; // it is taken with this tick, or it depends on the disk what is restored
            }
            let pin = std::mem::take(&mut self.pin_start) && may_checkpoint && !last;
            let checkpoint_due = may_checkpoint && (drawn || pin || self.checkpoint_due(s));
            let timer = s.wants_tick_at.is_some_and(|at| at <= now_us);
            // What is staged counts too: it is about to wait, and piles up while checkpoints fail.
            let blocked = self
                .durable
                .as_ref()
                .is_some_and(|d| d.pending_bytes() + d.staged_bytes() > self.options.pending_bytes_max);
            let rows = self.has_data() && !blocked && self.gathers_until().is_none();
            let wanted = rows || timer || checkpoint_due || last || self.next_tick == 1;
            if !wanted {
                break;
            }
            if last && self.durable.is_some() && !may_checkpoint {
                break; // the final checkpoint comes after the running one, or is tried again after a pause
            }
            self.wall_clock_us = self.wall_clock_us.max(now_us);
            let kind = match &self.durable {
                Some(d) if last => TickKind::Stop(d.begin_checkpoint()),
                Some(d) if checkpoint_due => TickKind::Checkpoint(d.begin_checkpoint()),
                _ => TickKind::Plain,
            };
            let tick = Tick { id: self.next_tick, kind, wall_clock_us: self.wall_clock_us };
            self.next_tick += 1;
            s.ending = last;
            s.pinning = pin;
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
                _ if pin => 0,
                (Some(d), _) => random_slice_rows(d.seed, tick.id, d.slice_rows_max),
                (None, _) => self.pace.rows(),
            };
            let began = Instant::now();
            s.in_flight.push_back(InFlight {
                tick: tick.id,
                began,
                gap: self.pace.tick_started(began),
                rows_max: slice_rows_max,
                rows: 0,
                left: self.workers.len(),
            });
            self.sources.iter().flat_map(|s| &s.queues).for_each(|q| q.ask(slice_rows_max));
            self.workers.iter().for_each(|w| w.send(Command::Tick { tick, slice_rows_max }));
            if kill == Some(Kill::Within) && (rows || s.has_rows) {
                return self.kill();
            }
        }
        Ok(())
    }

    /// For disturbed runs: whether the attempt ends with the next tick, if rows have come by then: before there is nothing
    /// that could be lost or repeated.
    fn kill_due(&self) -> Option<Kill> {
        let disturb = self.options.disturb.as_ref()?;
        if self.kills_left == 0 || self.durable.is_none() {
            return None;
        }
        // Another draw after each kill, or a job without a checkpoint would die at one tick again and again.
        let salt = self.kills_left.wrapping_mul(0x6b69_6c6c);
        self.draws(salt, disturb.kill_one_in).then(|| if self.draws(!salt, 2) { Kill::Before } else { Kill::Within })
    }

    fn kill(&mut self) -> Result<()> {
        self.kills_left -= 1;
        Err(Error::io(crate::instance::KILLED))
    }

    /// For disturbed runs: whether the next tick takes a checkpoint.
    fn draws_checkpoint(&self) -> bool {
        let disturb = self.options.disturb.as_ref().filter(|_| self.durable.is_some());
        disturb.is_some_and(|d| self.draws(0x6368_6b70, d.checkpoint_one_in))
    }

    /// One next tick in so many, by the seed.
    fn draws(&self, salt: u64, one_in: u64) -> bool {
        let seed = self.options.disturb.as_ref().map_or(0, |d| d.seed);
        one_in > 0 && random_slice_rows(seed ^ salt, self.next_tick, one_in as usize) == 1
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
        if let Some(barrier) = &s.barrier {
            deadline = deadline.min(barrier.began + self.options.checkpoint_timeout);
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
            deadline = deadline.min(due.max(pause).max(s.not_before.unwrap_or(now)));
        }
        if let Some(at) = s.not_before.filter(|at| *at > now) {
            deadline = deadline.min(at);
        }
        if let Some(until) = self.gathers_until() {
            deadline = deadline.min(until);
        } else if self.has_data() {
            // It waits for room behind a target that is down: deliveries wake nobody.
            deadline = deadline.min(now + BLOCKED_RETRY);
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
            Answer::TickDone { tick, rows_in, moved, wants_tick_at } => {
                if let Some(t) = s.in_flight.iter_mut().find(|t| t.tick == tick) {
                    t.left -= 1;
                    t.rows += rows_in;
                }
                if rows_in > 0 {
                    self.metrics.set_idle(false);
                    s.has_rows = true;
                }
                // A checkpoint tick's own rows are in that checkpoint.
                let in_checkpoint = s.barrier.as_ref().is_some_and(|b| b.tick.id >= tick);
                s.dirty |= moved && !in_checkpoint;
                s.wants_tick_at = [s.wants_tick_at, wants_tick_at].into_iter().flatten().min();
                while let Some(done) = s.in_flight.pop_front_if(|t| t.left == 0) {
                    self.metrics.tick.store(done.tick, Ordering::Relaxed);
                    let now = Instant::now();
                    self.metrics.tick_took.add(now.duration_since(done.began));
                    self.pace.tick_done(done.began, now, done.gap, done.rows_max, done.rows);
                    if done.tick == self.first_tick {
                        tracing::debug!(job = %self.job_name, event = %"first_tick", tick = done.tick);
                    }
                    if s.ending && s.in_flight.is_empty() && self.durable.is_none() {
                        s.ended = true;
                    }
                }
            }
            Answer::CheckpointPart(part) => {
                // Of a checkpoint that was given up meanwhile.
                let Some(barrier) = s.barrier.as_mut().filter(|b| b.checkpoint == part.checkpoint) else {
                    return give_up(part);
                };
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
        let stall = barrier.parts.iter().map(|p| p.tick_ended.elapsed()).min().unwrap_or_default();
        self.metrics.checkpoint_stall_us.store(stall.as_micros() as u64, Ordering::Relaxed);
        for part in &barrier.parts {
            for (node, moved) in &part.positions {
                self.positions.entry(*node).or_default().extend(moved.clone());
            }
        }
        let commit = Commit {
            checkpoint: barrier.checkpoint,
            began: barrier.began,
            tick: barrier.tick,
            positions: self.positions.clone(),
            parts: barrier.parts,
        };
        (s.committing_id, s.commit_is_last) = (barrier.checkpoint, barrier.is_last);
        s.committing = Some(tokio::spawn(async move { durable.commit(commit).await }));
    }

    fn on_commit(&mut self, result: Result<Result<Committed>, tokio::task::JoinError>, s: &mut State) {
        s.committing = None;
        let result =
            result.unwrap_or_else(|e| Err(Error::internal(format!("the checkpoint task failed: {e}")).transient()));
        match result {
            Ok(committed) => {
                s.pinning = false;
                s.last_commit = Some(Instant::now());
                let took = s.last_checkpoint.map_or(0, |c| c.elapsed().as_millis() as u64);
                self.metrics.checkpoint.store(committed.checkpoint, Ordering::Relaxed);
                self.metrics.checkpoint_ms.store(took, Ordering::Relaxed);
                self.metrics.checkpoint_bytes.store(committed.bytes, Ordering::Relaxed);
                self.metrics.checkpoint_at_ms.store(now_us() / 1000, Ordering::Relaxed);
                tracing::debug!(
                    job = %self.job_name, event = %"checkpoint", checkpoint = committed.checkpoint, ms = took,
                    stall_us = Metrics::load(&self.metrics.checkpoint_stall_us), bytes = committed.bytes,
                    rows_in = Metrics::load(&self.metrics.rows_in)
                );
                self.workers.iter().for_each(|w| w.send(Command::ReleaseSnapshot(s.committing_id)));
                s.not_before = None;
                for source in &self.sources {
                    let positions = self.positions.get(&source.node).cloned().unwrap_or_default();
                    let positions: Vec<_> = positions.into_iter().collect();
                    for reader in &source.readers {
                        let _ = reader.send(ReaderCommand::Committed(positions.clone()));
                    }
                }
                s.ended |= s.commit_is_last;
            }
            Err(e) if e.is_transient() => self.abort_checkpoint(e, s.committing_id, s.commit_is_last, s),
            Err(e) => self.attempt.fail(e),
        }
    }

    /// A checkpoint that could not be made: nothing of it is lost, the next one carries all.
    fn abort_checkpoint(&mut self, error: Error, id: u64, is_last: bool, s: &mut State) {
        if s.pinning || self.options.checkpoint_interval.is_none() {
            return self.attempt.fail(error);
        }
        if is_last && s.stop_requested.is_some_and(|at| at.elapsed() >= self.options.checkpoint_timeout) {
            // Whoever asked for the end does not wait for ever. The last checkpoint stands.
            let error = error.context("the final checkpoint could not be taken").permanent();
            return self
                .attempt
                .fail(error.note("what was read since the last one is read again when the same command is run again"));
        }
        tracing::warn!(job = %self.job_name, event = "checkpoint_aborted", "{error}; its output waits for the next one");
        self.workers.iter().for_each(|w| w.send(Command::ReleaseSnapshot(id)));
        s.dirty = true;
        let now = Instant::now();
        (s.last_commit, s.not_before) = (Some(now), Some(now + RETRY_PAUSE));
        if is_last {
            // The final one is tried again with the next tick.
            s.ending = false;
        }
    }

    fn discovery_timer(&self) -> Option<(Duration, Instant)> {
        let every = self.sources.iter().filter_map(|s| s.source.discovery_interval()).min()?;
        Some((every, Instant::now() + every))
    }

    /// Looks for new splits of every source that may get some.
    fn discover(&self) -> JoinHandle<Vec<(usize, Result<Found>)>> {
        let sources: Vec<(usize, Arc<dyn Source>, BTreeSet<SplitId>)> = self
            .sources
            .iter()
            .enumerate()
            .filter(|(_, s)| s.source.discovery_interval().is_some())
            .map(|(ix, s)| (ix, s.source.clone(), s.known.clone()))
            .collect();
        tokio::spawn(async move {
            let mut found = vec![];
            for (ix, source, known) in sources {
                found.push((ix, find_splits(&*source, |id| known.contains(id), true).await));
            }
            found
        })
    }

    fn on_splits(&mut self, found: Discovered) -> Result<()> {
        for (ix, found) in found.map_err(|e| Error::internal(e.to_string()).transient())? {
            let source = &mut self.sources[ix];
            let positions = self.positions.entry(source.node).or_default();
            let (splits, starts) = match found {
                Ok(found) => found,
                // What is read already goes on; the next look may do better.
                Err(e) if e.is_transient() => {
                    tracing::warn!(job = %self.job_name, event = "discovery_failed", "{e}; it is looked again");
                    continue;
                }
                Err(e) => return Err(e),
            };
            positions.extend(starts);
            for (worker, splits) in source.assign(splits, positions).into_iter().enumerate() {
                if !splits.is_empty() {
                    let _ = source.readers[worker].send(ReaderCommand::Assign(splits));
                }
            }
        }
        Ok(())
    }
}

/// A part that no checkpoint takes. What goes wrong with its writes the worker's next use of its state tells.
fn give_up(part: CheckpointPart) {
    tokio::task::spawn_blocking(move || drop(part.snapshot.give_up()));
}

/// All splits of a source, and where those that are new begin.
pub type Found = (Vec<Split>, Vec<(SplitId, Position)>);

type Discovered = Result<Vec<(usize, Result<Found>)>, tokio::task::JoinError>;

/// Asks a source for its splits, and where those begin that are not known.
///
/// # Errors
/// Of the source.
pub async fn find_splits(source: &dyn Source, is_known: impl Fn(&SplitId) -> bool, found_later: bool) -> Result<Found> {
    let splits = source.splits().await?;
    let new: Vec<Split> = splits.iter().filter(|s| !is_known(&s.id)).cloned().collect();
    if new.is_empty() {
        return Ok((splits, vec![]));
    }
    let starts = source.start(&new, found_later).await?;
    let starts = new.into_iter().zip(starts).filter_map(|(s, p)| Some((s.id, p?))).collect();
    Ok((splits, starts))
}

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

/// Waits until this much, or more, is asked for; who can ask for nothing any more wants the end.
async fn raised_to(mut control: tokio::sync::watch::Receiver<Control>, to: Control) {
    let _ = control.wait_for(|c| *c >= to).await;
}

/// Queues of one worker, by source node.
pub fn queues_of(sources: &[RunningSource], worker: usize) -> HashMap<NodeIx, Arc<SourceQueue>> {
    sources.iter().map(|s| (s.node, s.queues[worker].clone())).collect()
}
