//! The coordinator of one attempt: starts ticks while sources have data, makes checkpoints of them, and knows when the
//! input has ended. A tokio task beside the workers.

mod checkpoint;
mod disturb;
mod splits;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use thalweg_connector_api::{Position, SplitId};
use thalweg_core::clock::now_us;
use thalweg_core::{Error, Result, Tick, TickKind};
use thalweg_graph::NodeIx;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::checkpoint::{Barrier, give_up};
use self::disturb::Kill;
use self::splits::Found;
pub use self::splits::{RunningSource, find_splits, queues_of};
use crate::attempt::Attempt;
use crate::command::{Answer, Command};
use crate::durable::{Committed, Durable};
use crate::metrics::Metrics;
use crate::options::RuntimeOptions;
use crate::pace::Pace;
use crate::source::random_slice_rows;

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
