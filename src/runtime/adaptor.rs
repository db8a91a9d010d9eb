//! The one place where operators meet timely: drives the `Operator` trait for every tick in order.
//!
//! The adaptor holds one capability per operator, of the tick that is to be ended next. It calls `end_tick` for every
//! tick, also for those without rows; a frontier only says that a tick's input is complete, never that a tick is over.
//! On an error it keeps its capability, so that no frontier moves on, raises the attempt's failure flag and does
//! nothing more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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

use crate::attempt::Attempt;
use crate::container::{Message, Routed};
use crate::exchange::Router;

pub type Messages<'scope> = Stream<'scope, u64, Vec<Routed>>;
type Output = OutputBuilder<u64, CapacityContainerBuilder<Vec<Routed>>>;

/// Bytes on their way between workers, over which operators with more to emit wait for their consumers.
const EXCHANGE_BYTES_MAX: usize = 64 << 20;

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
    /// Operators on this worker; each reports every tick.
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

/// One input of an operator, before its exchange.
pub struct InputEdge<'scope> {
    pub stream: Messages<'scope>,
    pub route: Partitioning,
}

struct Cx<'a> {
    tick: Tick,
    watermarks: &'a [Watermark],
    out: &'a mut Vec<Changes>,
    held: &'a mut Watermark,
    waker: &'a Waker,
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

struct Driver {
    cx: Rc<WorkerCx>,
    operator: SharedOperator,
    name: String,
    /// The tick to be ended next.
    current: u64,
    /// Messages of later ticks: (input, message).
    stash: BTreeMap<u64, Vec<(usize, Message)>>,
    marks: Vec<InputMarks>,
    watermarks: Vec<Watermark>,
    held: Watermark,
    sent: Watermark,
    out: Vec<Changes>,
    waker: Waker,
    held_bytes: usize,
}

impl Driver {
    fn with_cx<R>(&mut self, f: impl FnOnce(&mut dyn Operator, &mut dyn TickCx) -> Result<R>) -> Result<R> {
        let tick = self.cx.tick(self.current).ok_or_else(|| Error::internal("changes of a tick that did not start"))?;
        let mut cx =
            Cx { tick, watermarks: &self.watermarks, out: &mut self.out, held: &mut self.held, waker: &self.waker };
        let mut operator = self.operator.borrow_mut();
        match catch_unwind(AssertUnwindSafe(|| f(&mut **operator, &mut cx))) {
            Ok(result) => result,
            Err(panic) => Err(panicked(&self.name, &panic)),
        }
    }

    fn take(&mut self, input: usize, message: Message) -> Result<()> {
        match message {
            Message::Mark { sender, watermark } => {
                self.marks[input].senders[sender] = watermark;
                self.watermarks[input] = self.marks[input].min();
                Ok(())
            }
            Message::Changes(changes) => self.with_cx(|op, cx| op.push(input, changes, cx)),
        }
    }

    fn take_stashed(&mut self) -> Result<()> {
        for (input, message) in self.stash.remove(&self.current).unwrap_or_default() {
            self.take(input, message)?;
        }
        Ok(())
    }

    /// After a tick: what is held in memory, and eviction if the process holds too much.
    fn account(&mut self) -> Result<()> {
        if self.cx.budget.is_none() {
            return Ok(());
        }
        let held = self.operator.borrow_mut().shrink(usize::MAX)?;
        let others = self.cx.typed_bytes.held() - self.held_bytes;
        self.cx.typed_bytes.set(others + held);
        self.held_bytes = held;
        if held > 0
            && let Some(worker_max) = self.cx.typed_bytes.shrink_to()
        {
            // Every operator of the worker gives in proportion; a tenth more, so that this is not done every tick.
            let worker_held = (others + held).max(1);
            let max = (worker_max as u128 * held as u128 / worker_held as u128) as usize / 10 * 9;
            if max < held {
                let held = self.operator.borrow_mut().shrink(max)?;
                self.cx.typed_bytes.set(others + held);
                self.held_bytes = held;
            }
        }
        Ok(())
    }
}

/// A panic is a transient error of the attempt: another attempt may meet other timing.
pub fn panicked(who: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Error::internal(format!("{who} panicked: {what}")).transient()
}

/// Sends what was emitted; marks go to every worker.
fn send(output: &mut Output, cap: &Capability<u64>, out: &mut Vec<Changes>, mark: Option<(&WorkerCx, Watermark)>) {
    if out.is_empty() && mark.is_none() {
        return;
    }
    let mut active = output.activate();
    let mut session = active.session(cap);
    for changes in out.drain(..) {
        session.give(Routed { to: 0, message: Message::Changes(changes) });
    }
    if let Some((cx, watermark)) = mark {
        session.give(Routed { to: 0, message: Message::Mark { sender: cx.worker, watermark } });
    }
}

/// Puts an exchange before an input, where rows must change their worker.
fn exchange<'scope>(scope: Scope<'scope, u64>, edge: InputEdge<'scope>, cx: &Rc<WorkerCx>) -> (Messages<'scope>, bool) {
    if cx.workers == 1 || edge.route == Partitioning::Same {
        return (edge.stream, false);
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
                for container in data {
                    for routed in container.drain(..) {
                        match routed.message {
                            Message::Changes(changes) => {
                                let result = router.split(changes, |to, part| {
                                    cx.in_exchange.fetch_add(part.bytes(), Ordering::Relaxed);
                                    session.give(Routed { to: to as u64, message: Message::Changes(part) });
                                });
                                if let Err(e) = result {
                                    cx.attempt.fail(e);
                                }
                            }
                            mark @ Message::Mark { .. } => {
                                (0..cx.workers as u64).for_each(|to| session.give(Routed { to, message: mark.clone() }))
                            }
                        }
                    }
                }
            });
        }
    });
    (stream, true)
}

/// Builds an operator into the dataflow; gives its output.
pub fn operator<'scope>(
    scope: Scope<'scope, u64>,
    name: &str,
    operator: SharedOperator,
    inputs: Vec<InputEdge<'scope>>,
    cx: &Rc<WorkerCx>,
) -> Messages<'scope> {
    *cx.operators.borrow_mut() += 1;
    let routed: Vec<(Messages<'scope>, bool)> = inputs.into_iter().map(|e| exchange(scope, e, cx)).collect();
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
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
    let mut output = Output::from(output);
    let mut d = Driver {
        watermarks: vec![Watermark::NONE; marks.len()],
        cx: cx.clone(),
        operator,
        name: name.to_owned(),
        current: cx.first_tick,
        stash: BTreeMap::new(),
        marks,
        held: Watermark::END,
        sent: Watermark::NONE,
        out: vec![],
        waker,
        held_bytes: 0,
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
                send(&mut output, &cap, &mut d.out, None);
                while frontiers.iter().all(|f| !f.less_equal(&d.current)) && d.cx.tick(d.current).is_some() {
                    if d.cx.in_exchange.load(Ordering::Relaxed) > EXCHANGE_BYTES_MAX {
                        // Consumers first: they lower this with every message that they take.
                        activator.activate_after(Duration::from_micros(100));
                        break;
                    }
                    let step = d.with_cx(|op, cx| op.end_tick(cx))?;
                    match step {
                        Step::More => {
                            send(&mut output, &cap, &mut d.out, None);
                            activator.activate();
                            break;
                        }
                        Step::Waiting => {
                            send(&mut output, &cap, &mut d.out, None);
                            break;
                        }
                        Step::Done => {
                            let inputs = d.watermarks.iter().copied().min().unwrap_or(Watermark::NONE);
                            let watermark = inputs.min(d.held);
                            let mark = (watermark > d.sent).then(|| {
                                d.sent = watermark;
                                (&*d.cx, watermark)
                            });
                            send(&mut output, &cap, &mut d.out, mark);
                            d.held = Watermark::END;
                            d.account()?;
                            d.cx.operator_done(d.current);
                            d.current += 1;
                            cap.downgrade(&d.current);
                            if d.cx.tick(d.current).is_some() {
                                d.take_stashed()?;
                            }
                            send(&mut output, &cap, &mut d.out, None);
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
