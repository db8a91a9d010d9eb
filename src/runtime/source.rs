//! Sources: readers run ahead on tokio into a bounded queue per worker; at a tick the worker takes a slice of whole
//! pieces from it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thalweg_connector_api::{Piece, Position, Reader, Split, SplitId};
use thalweg_core::{Error, Watermark};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;
use tokio::sync::{Notify, mpsc};

use crate::adaptor::{Messages, WorkerCx};
use crate::container::{Message, Routed};
use crate::metrics::Metrics;

/// Limits of what is read ahead and of a tick's slice, per source and worker.
#[derive(Debug, Clone, Copy)]
pub struct SliceLimits {
    pub rows_max: usize,
    pub bytes_max: usize,
}

impl SliceLimits {
    pub const DEFAULT: SliceLimits = SliceLimits { rows_max: 512 * 1024, bytes_max: 64 << 20 };
}

/// What a reader has read and no tick has taken yet.
#[derive(Default)]
struct Ahead {
    pieces: VecDeque<Piece>,
    rows: usize,
    bytes: usize,
    /// Pieces at the front that end a transaction, all of which may be taken.
    whole: usize,
    ended: bool,
}

/// Between one reader and one worker.
pub struct SourceQueue {
    ahead: Mutex<Ahead>,
    space: Notify,
    limits: SliceLimits,
    /// Wakes the coordinator.
    has_data: Arc<Notify>,
}

fn rows_of(piece: &Piece) -> usize {
    piece.changes.iter().map(|(_, c)| c.num_rows()).sum()
}

fn bytes_of(piece: &Piece) -> usize {
    piece.changes.iter().map(|(_, c)| c.bytes()).sum()
}

impl SourceQueue {
    pub fn new(limits: SliceLimits, has_data: Arc<Notify>) -> Self {
        SourceQueue { ahead: Mutex::default(), space: Notify::new(), limits, has_data }
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something to take: a whole piece, or a transaction that outgrew the limits.
    pub fn has_data(&self) -> bool {
        let a = self.ahead();
        a.whole > 0 || self.is_full(&a)
    }

    /// The reader is through and everything was taken.
    pub fn is_drained(&self) -> bool {
        let a = self.ahead();
        a.ended && a.pieces.is_empty()
    }

    fn is_full(&self, a: &Ahead) -> bool {
        a.rows >= self.limits.rows_max || a.bytes >= self.limits.bytes_max
    }

    async fn wait_for_space(&self) {
        loop {
            let space = self.space.notified();
            if !self.is_full(&self.ahead()) {
                return;
            }
            space.await;
        }
    }

    fn put(&self, piece: Piece) {
        let mut a = self.ahead();
        a.rows += rows_of(&piece);
        a.bytes += bytes_of(&piece);
        let ends = !piece.continues;
        a.pieces.push_back(piece);
        if ends {
            a.whole = a.pieces.len();
        }
        let wake = a.whole == a.pieces.len() || self.is_full(&a);
        drop(a);
        if wake {
            self.has_data.notify_one();
        }
    }

    fn end(&self) {
        self.ahead().ended = true;
        self.has_data.notify_one();
    }

    /// The next slice: whole pieces, at most about `rows_max` rows. A transaction is cut only if it alone fills the
    /// queue, with a warning.
    fn take(&self, rows_max: usize) -> Vec<Piece> {
        let mut a = self.ahead();
        let oversized = a.whole == 0 && self.is_full(&a);
        if oversized {
            tracing::warn!(
                rows = a.rows,
                bytes = a.bytes,
                "a transaction is larger than a tick may be and is split over several ticks"
            );
        }
        let available = if oversized { a.pieces.len() } else { a.whole };
        let mut taken = vec![];
        let mut rows = 0;
        while taken.len() < available {
            // Stop only between transactions.
            let between = taken.last().is_none_or(|p: &Piece| !p.continues);
            let next = a.pieces.front().map_or(0, rows_of);
            if between && !taken.is_empty() && rows + next > rows_max {
                break;
            }
            let Some(piece) = a.pieces.pop_front() else { break };
            a.rows -= rows_of(&piece);
            a.bytes -= bytes_of(&piece);
            rows += next;
            taken.push(piece);
        }
        a.whole = a.whole.saturating_sub(taken.len());
        drop(a);
        if !taken.is_empty() {
            self.space.notify_one();
        }
        taken
    }
}

/// What the coordinator tells a reader.
pub enum ReaderCommand {
    Assign(Vec<(Split, Option<Position>)>),
    Committed(Vec<(SplitId, Position)>),
}

/// Reads until the input ends or the attempt is over.
pub async fn read(
    mut reader: Box<dyn Reader>,
    queue: Arc<SourceQueue>,
    mut commands: mpsc::UnboundedReceiver<ReaderCommand>,
    fail: impl Fn(Error),
) {
    let mut ended = false;
    loop {
        let next = async {
            if ended {
                std::future::pending::<()>().await;
            }
            queue.wait_for_space().await;
            reader.next().await
        };
        tokio::select! {
            biased;
            command = commands.recv() => {
                let result = match command {
                    None => return,
                    Some(ReaderCommand::Assign(splits)) => {
                        ended = false;
                        queue.ahead().ended = false;
                        reader.assign(splits).await
                    }
                    Some(ReaderCommand::Committed(positions)) => reader.committed(&positions).await,
                };
                if let Err(e) = result {
                    return fail(e);
                }
            }
            piece = next => match piece {
                Ok(Some(piece)) => queue.put(piece),
                Ok(None) => {
                    ended = true;
                    queue.end();
                }
                Err(e) => return fail(e),
            },
        }
    }
}

/// A source on one worker, as the worker loop sees it.
pub struct SourceHandle {
    state: Rc<RefCell<SourceState>>,
    activator: Activator,
}

struct SourceState {
    queue: Arc<SourceQueue>,
    /// Where each split stands after the last slice.
    positions: BTreeMap<SplitId, Position>,
    /// Rows taken in this attempt.
    rows: u64,
    /// Slices of ticks that were started and are not emitted yet.
    slices: VecDeque<(u64, VecDeque<Piece>, bool)>,
}

impl SourceHandle {
    /// Takes the slice of a tick; rows in it.
    pub fn start_tick(&self, tick: u64, rows_max: usize, metrics: &Metrics) -> u64 {
        let mut s = self.state.borrow_mut();
        let pieces = s.queue.take(rows_max);
        let mut rows = 0;
        for piece in &pieces {
            rows += rows_of(piece) as u64;
            s.positions.extend(piece.positions.iter().cloned());
            if let Some(lag) = piece.event_time_lag_ms {
                metrics.lag_ms.store(lag, Ordering::Relaxed);
            }
        }
        let drained = s.queue.is_drained();
        s.slices.push_back((tick, pieces.into(), drained));
        self.activator.activate();
        s.rows += rows;
        metrics.rows_in.fetch_add(rows, Ordering::Relaxed);
        rows
    }

    pub fn positions(&self) -> BTreeMap<SplitId, Position> {
        self.state.borrow().positions.clone()
    }

    /// Rows that were taken in this attempt.
    pub fn rows(&self) -> u64 {
        self.state.borrow().rows
    }
}

/// Pieces that are emitted before consumers get their turn: what they hold should still be in the cache.
const PIECES_AT_ONCE: usize = 4;

/// Builds a source into the dataflow: one output stream per table.
pub fn source<'scope>(
    scope: Scope<'scope, u64>,
    name: &str,
    tables: usize,
    queue: Arc<SourceQueue>,
    cx: &Rc<WorkerCx>,
) -> (Vec<Messages<'scope>>, SourceHandle) {
    *cx.operators.borrow_mut() += 1;
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let info = builder.operator_info();
    let activator = scope.activator_for(info.address.clone());
    let again = scope.activator_for(info.address.clone());
    let mut outputs = vec![];
    let mut streams = vec![];
    for _ in 0..tables {
        let (output, stream) = builder.new_output::<Vec<Routed>>();
        outputs.push(OutputBuilder::<u64, CapacityContainerBuilder<Vec<Routed>>>::from(output));
        streams.push(stream);
    }
    let state =
        Rc::new(RefCell::new(SourceState { queue, positions: BTreeMap::new(), rows: 0, slices: VecDeque::new() }));
    let shared = state.clone();
    let cx = cx.clone();
    builder.build(move |mut caps| {
        caps.iter_mut().for_each(|c| c.downgrade(&cx.first_tick));
        let mut sent = Watermark::NONE;
        move |_: &[MutableAntichain<u64>]| {
            if cx.attempt.has_failed() {
                return;
            }
            let mut s = state.borrow_mut();
            let mut emitted = 0;
            while let Some((tick, pieces, drained)) = s.slices.front_mut() {
                while emitted < PIECES_AT_ONCE
                    && let Some(piece) = pieces.pop_front()
                {
                    for (table, changes) in piece.changes {
                        if !changes.is_empty() {
                            give(&mut outputs[table], &caps[table], Message::Changes(changes));
                        }
                    }
                    emitted += 1;
                }
                if !pieces.is_empty() {
                    again.activate();
                    return;
                }
                if *drained && sent < Watermark::END {
                    sent = Watermark::END;
                    for (output, cap) in outputs.iter_mut().zip(&caps) {
                        give(output, cap, Message::Mark { sender: cx.worker, watermark: sent });
                    }
                }
                cx.operator_done(*tick);
                let next = *tick + 1;
                caps.iter_mut().for_each(|c| c.downgrade(&next));
                s.slices.pop_front();
            }
        }
    });
    (streams, SourceHandle { state: shared, activator })
}

fn give(
    output: &mut OutputBuilder<u64, CapacityContainerBuilder<Vec<Routed>>>,
    cap: &timely::dataflow::operators::Capability<u64>,
    message: Message,
) {
    output.activate().session(cap).give(Routed { to: 0, message });
}

/// Rows of a slice in tests that cut the input at random: a pure function of seed and tick.
pub fn random_slice_rows(seed: u64, tick: u64, rows_max: usize) -> usize {
    let mut x = seed ^ tick.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    1 + ((x ^ (x >> 31)) % rows_max.max(1) as u64) as usize
}
