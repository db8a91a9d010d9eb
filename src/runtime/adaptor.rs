//! The one place where operators meet timely: drives the `Operator` trait for every tick in order.
//!
//! The adaptor holds one capability per operator, of the tick that is to be ended next. It calls `end_tick` for every
//! tick, also for those without rows; a frontier only says that a tick's input is complete, never that a tick is over.
//! On an error it keeps its capability, so that no frontier moves on, raises the attempt's failure flag and does
//! nothing more.
//!
//! Operators of which each has the one before it as its only input, and that on its own worker, are a *chain*: one node of
//! timely, in which changes go from one to the next while they are in the processor's cache. A tick then costs what it
//! costs to make progress known between chains, not between operators.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use thalweg_core::fail_points;
use thalweg_core::operator::{Operator, Step, TickCx, Waker};
use thalweg_core::{Changes, Error, Result, Tick, Watermark};
use thalweg_graph::Partitioning;
use thalweg_state::{Budget, TypedBytes};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::SyncActivator;

use crate::attempt::{Attempt, panicked};
use crate::container::{Message, Routed};
use crate::exchange::Router;

pub type Messages<'scope> = Stream<'scope, u64, Vec<Routed>>;
pub type Output = OutputBuilder<u64, CapacityContainerBuilder<Vec<Routed>>>;

/// Bytes on their way between workers, over which operators with more to emit wait for their consumers.
const EXCHANGE_BYTES_MAX: usize = 64 << 20;
/// Fail points.
const PUSH: &str = "operator-push";
const END_TICK: &str = "operator-end-tick";

/// What all operators of one worker share.
pub struct WorkerCx {
    pub worker: usize,
    pub workers: usize,
    pub max_parallelism: u16,
    pub attempt: Arc<Attempt>,
    /// Ticks that were started and are not over on this worker.
    pub ticks: RefCell<BTreeMap<u64, TickProgress>>,
    /// The first tick of this attempt.
    pub first_tick: u64,
    /// Sources and chains on this worker; each reports every tick.
    pub operators: RefCell<usize>,
    /// Bytes between workers of this attempt.
    pub in_exchange: Arc<AtomicUsize>,
    /// `None`: nothing is ever evicted (`state.backend.type = memory`).
    pub budget: Option<Arc<Budget>>,
    pub typed_bytes: TypedBytes,
}

pub struct TickProgress {
    pub tick: Tick,
    pub operators_done: usize,
}

impl WorkerCx {
    fn tick(&self, id: u64) -> Option<Tick> {
        self.ticks.borrow().get(&id).map(|p| p.tick)
    }

    pub fn operator_done(&self, tick: u64) {
        if let Some(p) = self.ticks.borrow_mut().get_mut(&tick) {
            p.operators_done += 1;
        }
    }
}

/// An operator with what the worker loop needs of it between ticks.
pub type SharedOperator = Rc<RefCell<Box<dyn Operator>>>;

/// One input of an operator.
pub struct InputEdge<'scope> {
    pub stream: Messages<'scope>,
    pub route: Partitioning,
    /// The producer has addressed its messages by this route: there is no other consumer.
    pub is_routed: bool,
}

/// The output of a source or a chain: addresses changes to workers if it has one consumer and that is not on the same
/// worker. Marks go to every worker.
pub struct Outbox {
    output: Output,
    router: Option<Router>,
    cx: Rc<WorkerCx>,
}

impl Outbox {
    pub fn new(output: Output, router: Option<Router>, cx: &Rc<WorkerCx>) -> Self {
        Outbox { output, router, cx: cx.clone() }
    }

    /// Sends changes, and then the watermark if there is a new one.
    pub fn send(
        &mut self,
        cap: &Capability<u64>,
        changes: impl ExactSizeIterator<Item = Changes>,
        mark: Option<Watermark>,
    ) {
        if changes.len() == 0 && mark.is_none() {
            return;
        }
        let mut active = self.output.activate();
        let mut session = active.session(cap);
        for changes in changes {
            let message = Message::Changes(changes);
            route(&self.cx, self.router.as_mut(), message, &mut |routed| session.give(routed));
        }
        if let Some(watermark) = mark {
            let message = Message::Mark { sender: self.cx.worker, watermark };
            route(&self.cx, self.router.as_mut(), message, &mut |routed| session.give(routed));
        }
    }
}

/// Addresses a message to workers; without a router it stays on its own.
fn route(cx: &WorkerCx, router: Option<&mut Router>, message: Message, give: &mut dyn FnMut(Routed)) {
    let Some(router) = router else { return give(Routed { to: 0, message }) };
    match message {
        Message::Changes(changes) => {
            let result = router.split(changes, |to, part| {
                cx.in_exchange.fetch_add(part.bytes(), Ordering::Relaxed);
                give(Routed { to: to as u64, message: Message::Changes(part) });
            });
            if let Err(e) = result {
                cx.attempt.fail(e);
            }
        }
        mark @ Message::Mark { .. } => {
            (0..cx.workers as u64).for_each(|to| give(Routed { to, message: mark.clone() }));
        }
    }
}

struct Cx<'a> {
    tick: Tick,
    watermarks: &'a [Watermark],
    out: &'a mut Vec<Changes>,
    held: &'a mut Watermark,
    waker: &'a Waker,
    budget: Option<&'a Budget>,
}

impl TickCx for Cx<'_> {
    fn tick(&self) -> &Tick {
        &self.tick
    }

    fn watermark(&self, input: usize) -> Watermark {
        self.watermarks[input]
    }

    fn hold_watermark(&mut self, at_most: Watermark) {
        *self.held = (*self.held).min(at_most);
    }

    fn emit(&mut self, changes: Changes) {
        if !changes.is_empty() {
            self.out.push(changes);
        }
    }

    // The one place that decides what a row error does: it fails the attempt.
    fn row_error(&mut self, error: Error) -> Result<()> {
        Err(error)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn memory_max(&self) -> usize {
        self.budget.map_or(usize::MAX, Budget::tick_bytes_max)
    }
}

/// Watermarks of one input, per sending worker.
struct InputMarks {
    senders: Vec<Watermark>,
}

impl InputMarks {
    fn min(&self) -> Watermark {
        self.senders.iter().copied().min().unwrap_or(Watermark::END)
    }
}

/// An operator of a chain.
struct Stage {
    operator: SharedOperator,
    name: String,
    /// Of its inputs; of all but a chain's first operator: of the one before it.
    watermarks: Vec<Watermark>,
    held: Watermark,
    held_bytes: usize,
    /// What it has emitted and the next one has not got.
    out: Vec<Changes>,
}

struct Driver {
    cx: Rc<WorkerCx>,
    stages: Vec<Stage>,
    /// The tick to be ended next.
    current: u64,
    /// The first stage that has not ended it.
    at: usize,
    /// Messages of later ticks: (input, message).
    stash: BTreeMap<u64, Vec<(usize, Message)>>,
    marks: Vec<InputMarks>,
    sent: Watermark,
    waker: Waker,
}

impl Driver {
    /// Calls a stage's operator, and then those behind it with what comes out. `point`: the fail point within the call.
    fn call<R>(
        &mut self,
        stage: usize,
        point: &'static str,
        f: impl FnOnce(&mut dyn Operator, &mut dyn TickCx) -> Result<R>,
    ) -> Result<R> {
        let tick = self.cx.tick(self.current).ok_or_else(|| Error::internal("changes of a tick that did not start"))?;
        let budget = self.cx.budget.as_deref();
        let result = self.stages[stage].call(tick, &self.waker, budget, point, f)?;
        for next in stage + 1..self.stages.len() {
            if self.stages[next - 1].out.is_empty() {
                break;
            }
            let mut changes = std::mem::take(&mut self.stages[next - 1].out);
            for changes in changes.drain(..) {
                self.stages[next].call(tick, &self.waker, budget, PUSH, |op, cx| op.push(0, changes, cx))?;
            }
            self.stages[next - 1].out = changes;
        }
        Ok(result)
    }

    fn take(&mut self, input: usize, message: Message) -> Result<()> {
        match message {
            Message::Mark { sender, watermark } => {
                self.marks[input].senders[sender] = watermark;
                self.stages[0].watermarks[input] = self.marks[input].min();
                Ok(())
            }
            Message::Changes(changes) => self.call(0, PUSH, |op, cx| op.push(input, changes, cx)),
        }
    }

    fn take_stashed(&mut self) -> Result<()> {
        for (input, message) in self.stash.remove(&self.current).unwrap_or_default() {
            self.take(input, message)?;
        }
        Ok(())
    }

    /// The running stage has ended the tick. `Some`: it was the last one; the watermark behind it.
    fn end_stage(&mut self) -> Result<Option<Watermark>> {
        self.account(self.at)?;
        let stage = &mut self.stages[self.at];
        let inputs = stage.watermarks.iter().copied().min().unwrap_or(Watermark::NONE);
        let watermark = inputs.min(std::mem::replace(&mut stage.held, Watermark::END));
        self.at += 1;
        let Some(next) = self.stages.get_mut(self.at) else {
            self.at = 0;
            return Ok(Some(watermark));
        };
        next.watermarks[0] = next.watermarks[0].max(watermark);
        Ok(None)
    }

    /// Sends what has come out of the chain.
    fn send(&mut self, outbox: &mut Outbox, cap: &Capability<u64>, mark: Option<Watermark>) {
        let last = self.stages.last_mut().expect("a chain has at least one operator");
        outbox.send(cap, last.out.drain(..), mark);
    }

    /// After a tick: what is held in memory, and eviction if the process holds too much.
    fn account(&mut self, stage: usize) -> Result<()> {
        if self.cx.budget.is_none() {
            return Ok(());
        }
        let stage = &mut self.stages[stage];
        let held = stage.operator.borrow_mut().shrink(usize::MAX)?;
        let others = self.cx.typed_bytes.held() - stage.held_bytes;
        self.cx.typed_bytes.set(others + held);
        stage.held_bytes = held;
        if held > 0
            && let Some(worker_max) = self.cx.typed_bytes.shrink_to()
        {
            // Every operator of the worker gives in proportion; a tenth more, so that this is not done every tick.
            let worker_held = (others + held).max(1);
            let max = (worker_max as u128 * held as u128 / worker_held as u128) as usize / 10 * 9;
            if max < held {
                let held = stage.operator.borrow_mut().shrink(max)?;
                self.cx.typed_bytes.set(others + held);
                stage.held_bytes = held;
            }
        }
        Ok(())
    }
}

impl Stage {
    fn call<R>(
        &mut self,
        tick: Tick,
        waker: &Waker,
        budget: Option<&Budget>,
        point: &'static str,
        f: impl FnOnce(&mut dyn Operator, &mut dyn TickCx) -> Result<R>,
    ) -> Result<R> {
        let mut cx = Cx { tick, watermarks: &self.watermarks, out: &mut self.out, held: &mut self.held, waker, budget };
        let mut operator = self.operator.borrow_mut();
        // Behind the operator: it has taken something in that nobody behind it has seen.
        let call = || f(&mut **operator, &mut cx).and_then(|result| fail_points::pass(point).map(|()| result));
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(result) => result,
            Err(panic) => Err(panicked(&self.name, &*panic)),
        }
    }
}

/// Puts an exchange before an input, where rows must change their worker and the producer has not seen to it.
fn exchange<'scope>(scope: Scope<'scope, u64>, edge: InputEdge<'scope>, cx: &Rc<WorkerCx>) -> (Messages<'scope>, bool) {
    if edge.is_routed || !needs_exchange(&edge.route, cx) {
        return (edge.stream, edge.is_routed);
    }
    let mut builder = OperatorBuilder::new("exchange".to_owned(), scope);
    let mut input = builder.new_input(edge.stream, Pipeline);
    let (output, stream) = builder.new_output::<Vec<Routed>>();
    let mut output = Output::from(output);
    let mut router = Router::new(edge.route, cx.workers, cx.max_parallelism);
    let cx = cx.clone();
    builder.build(move |_| {
        move |_frontiers: &[MutableAntichain<u64>]| {
            let mut active = output.activate();
            input.for_each_time(|time, data| {
                if cx.attempt.has_failed() {
                    return;
                }
                let mut session = active.session(&time);
                for routed in data.flat_map(|c| c.drain(..)) {
                    route(&cx, Some(&mut router), routed.message, &mut |routed| session.give(routed));
                }
            });
        }
    });
    (stream, true)
}

/// Whether rows leave their worker on an edge.
pub fn needs_exchange(route: &Partitioning, cx: &WorkerCx) -> bool {
    cx.workers > 1 && *route != Partitioning::Same
}

/// What a chain is built from.
pub struct Chain<'scope> {
    /// With their names, each the only consumer of the one before it. At least one.
    pub operators: Vec<(String, SharedOperator)>,
    /// Of the first one.
    pub inputs: Vec<InputEdge<'scope>>,
    /// To the only consumer of the last one, if rows leave their worker on the way.
    pub router: Option<Router>,
}

/// Builds a chain of operators into the dataflow; gives its output.
pub fn chain<'scope>(scope: Scope<'scope, u64>, chain: Chain<'scope>, cx: &Rc<WorkerCx>) -> Messages<'scope> {
    let Chain { operators, inputs, router } = chain;
    *cx.operators.borrow_mut() += 1;
    let name = operators.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" → ");
    let routed: Vec<(Messages<'scope>, bool)> = inputs.into_iter().map(|e| exchange(scope, e, cx)).collect();
    let mut builder = OperatorBuilder::new(name, scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    let sync = SyncWaker(scope.worker().sync_activator_for(info.address.to_vec()));
    let waker: Waker = Arc::new(move || sync.wake());

    // A sender on an edge that stays on its worker is that worker alone.
    let marks = routed
        .iter()
        .map(|(_, exchanged)| {
            let mut senders = vec![Watermark::END; cx.workers];
            for (sender, mark) in senders.iter_mut().enumerate() {
                if *exchanged || sender == cx.worker {
                    *mark = Watermark::NONE;
                }
            }
            InputMarks { senders }
        })
        .collect::<Vec<_>>();
    let mut handles: Vec<_> = Vec::with_capacity(routed.len());
    for (stream, exchanged) in routed {
        let handle: Box<dyn FnMut(&mut dyn FnMut(u64, Message))> = if exchanged {
            let mut handle = builder.new_input(stream, Exchange::new(|r: &Routed| r.to));
            let in_exchange = cx.in_exchange.clone();
            Box::new(move |take| {
                handle.for_each_time(|time, data| {
                    for routed in data.flat_map(|c| c.drain(..)) {
                        if let Message::Changes(c) = &routed.message {
                            in_exchange.fetch_sub(c.bytes(), Ordering::Relaxed);
                        }
                        take(*time.time(), routed.message);
                    }
                });
            })
        } else {
            let mut handle = builder.new_input(stream, Pipeline);
            Box::new(move |take| {
                handle.for_each_time(|time, data| {
                    for routed in data.flat_map(|c| c.drain(..)) {
                        take(*time.time(), routed.message);
                    }
                });
            })
        };
        handles.push(handle);
    }
    let (output, stream) = builder.new_output::<Vec<Routed>>();
    let mut outbox = Outbox::new(Output::from(output), router, cx);
    let stage = |(at, (name, operator)): (usize, (String, SharedOperator))| Stage {
        operator,
        name,
        watermarks: vec![Watermark::NONE; if at == 0 { marks.len() } else { 1 }],
        held: Watermark::END,
        held_bytes: 0,
        out: vec![],
    };
    let mut d = Driver {
        stages: operators.into_iter().enumerate().map(stage).collect(),
        cx: cx.clone(),
        current: cx.first_tick,
        at: 0,
        stash: BTreeMap::new(),
        marks,
        sent: Watermark::NONE,
        waker,
    };
    builder.build(move |mut capabilities| {
        let mut cap = capabilities.pop().expect("one output, one capability");
        cap.downgrade(&d.current);
        move |frontiers: &[MutableAntichain<u64>]| {
            if d.cx.attempt.has_failed() {
                return;
            }
            let mut run = || -> Result<()> {
                // Another worker may have begun a tick that this one had not been told of.
                if d.cx.tick(d.current).is_some() {
                    d.take_stashed()?;
                }
                for (input, handle) in handles.iter_mut().enumerate() {
                    let mut result = Ok(());
                    handle(&mut |time, message| {
                        if result.is_err() {
                        } else if time == d.current && d.cx.tick(time).is_some() {
                            result = d.take(input, message);
                        } else {
                            d.stash.entry(time).or_default().push((input, message));
                        }
                    });
                    result?;
                }
                d.send(&mut outbox, &cap, None);
                while frontiers.iter().all(|f| !f.less_equal(&d.current)) && d.cx.tick(d.current).is_some() {
                    if d.cx.in_exchange.load(Ordering::Relaxed) > EXCHANGE_BYTES_MAX {
                        // Consumers first: they lower this with every message that they take.
                        activator.activate_after(Duration::from_micros(100));
                        break;
                    }
                    match d.call(d.at, END_TICK, |op, cx| op.end_tick(cx))? {
                        Step::More => {
                            d.send(&mut outbox, &cap, None);
                            activator.activate();
                            break;
                        }
                        Step::Waiting => {
                            d.send(&mut outbox, &cap, None);
                            break;
                        }
                        Step::Done => {
                            let Some(watermark) = d.end_stage()? else { continue };
                            let mark = (watermark > d.sent).then_some(watermark);
                            d.sent = d.sent.max(watermark);
                            d.send(&mut outbox, &cap, mark);
                            d.cx.operator_done(d.current);
                            d.current += 1;
                            cap.downgrade(&d.current);
                            if d.cx.tick(d.current).is_some() {
                                d.take_stashed()?;
                            }
                            d.send(&mut outbox, &cap, None);
                        }
                    }
                }
                Ok(())
            };
            if let Err(e) = run() {
                d.cx.attempt.fail(e);
            }
        }
    });
    stream
}

/// Wakes an operator from another thread. `SyncActivator` is `Send` but not `Sync`.
struct SyncWaker(SyncActivator);

impl SyncWaker {
    fn wake(&self) {
        // An error says that the worker is gone; then nobody waits.
        let _ = self.0.activate();
    }
}
