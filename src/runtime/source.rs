//! Sources: readers run ahead on tokio into a bounded queue per worker; at a tick the worker takes a slice of whole
//! pieces from it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thalweg_connector_api::{Piece, Position, Reader, Split, SplitId};
use thalweg_core::{Error, Watermark};
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;
use tokio::sync::{Notify, mpsc};

use crate::adaptor::{Messages, Outbox, Output, WorkerCx};
use crate::container::Routed;
use crate::exchange::Router;
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
    /// Rows that ticks may take which were started and have not taken theirs.
    asked: usize,
    /// As many as the last tick that was started could take.
    enough: usize,
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

    /// Something to take, beyond what ticks take that were started: a whole piece, or a transaction that outgrew the limits.
    pub fn has_data(&self) -> bool {
        let a = self.ahead();
        (a.whole > 0 || self.is_full(&a)) && (a.asked == 0 || a.rows > a.asked)
    }

    /// Rows, and not only a position that has moved, may they be taken or not.
    pub fn has_rows(&self) -> bool {
        self.ahead().rows > 0
    }

    /// A tick is started that takes at most so many rows.
    pub fn ask(&self, rows_max: usize) {
        let mut a = self.ahead();
        a.asked = a.asked.saturating_add(rows_max);
        if rows_max > 0 {
            a.enough = rows_max;
        }
    }

    /// As many rows as a tick takes, or as there is room for.
    pub fn has_enough(&self) -> bool {
        self.is_enough(&self.ahead())
    }

    /// Nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.ahead().ended
    }

    fn is_enough(&self, a: &Ahead) -> bool {
        a.rows >= a.asked.saturating_add(a.enough) || self.is_full(a)
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
        let had_data = a.whole > 0 || self.is_full(&a);
        let (had_rows, had_enough) = (a.rows > 0, self.is_enough(&a));
        a.rows += rows_of(&piece);
        a.bytes += bytes_of(&piece);
        let ends = !piece.continues;
        a.pieces.push_back(piece);
        if ends {
            a.whole = a.pieces.len();
        }
        // Whoever has seen that there is something looks again before it waits, or when the tick that it started for it
        // is done.
        let wake =
            !had_data && (ends || self.is_full(&a)) || !had_enough && self.is_enough(&a) || !had_rows && a.rows > 0;
        drop(a);
        if wake {
            self.has_data.notify_one();
        }
    }

    fn end(&self) {
        self.ahead().ended = true;
        self.has_data.notify_one();
    }

    /// The next slice: whole pieces, at most about `rows_max` rows, with 0 none; and whether nothing will come after it. A
    /// transaction is cut only if it alone fills the queue, with a warning.
    fn take(&self, rows_max: usize) -> (Vec<Piece>, bool) {
        let mut a = self.ahead();
        if rows_max == 0 {
            return (vec![], a.ended && a.pieces.is_empty());
        }
        a.asked = a.asked.saturating_sub(rows_max);
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
        let drained = a.ended && a.pieces.is_empty();
        drop(a);
        if !taken.is_empty() {
            self.space.notify_one();
        }
        (taken, drained)
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

/// What a tick has taken of sources.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slice {
    pub rows: u64,
    /// There is something: rows, or a position that has moved without any.
    pub moved: bool,
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
    /// Takes the slice of a tick.
    pub fn start_tick(&self, tick: u64, rows_max: usize, metrics: &Metrics) -> Slice {
        let mut s = self.state.borrow_mut();
        let (mut pieces, drained) = s.queue.take(rows_max);
        let mut rows = 0;
        for piece in &mut pieces {
            rows += rows_of(piece) as u64;
            s.positions.extend(piece.positions.drain(..));
            if let Some(lag) = piece.event_time_lag_ms {
                metrics.lag_ms.store(lag, Ordering::Relaxed);
            }
        }
        let moved = !pieces.is_empty();
        s.slices.push_back((tick, pieces.into(), drained));
        self.activator.activate();
        s.rows += rows;
        metrics.rows_in.fetch_add(rows, Ordering::Relaxed);
        Slice { rows, moved }
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

/// Builds a source into the dataflow: one output stream per table, which has a router if it has one consumer and rows
/// leave their worker on the way there.
pub fn source<'scope>(
    scope: Scope<'scope, u64>,
    name: &str,
    tables: Vec<Option<Router>>,
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
    for router in tables {
        let (output, stream) = builder.new_output::<Vec<Routed>>();
        outputs.push(Outbox::new(Output::from(output), router, cx));
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
                            outputs[table].send(&caps[table], std::iter::once(changes), None);
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
                        output.send(cap, std::iter::empty(), Some(sent));
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

/// Rows of a slice in tests that cut the input at random: a pure function of seed and tick.
pub fn random_slice_rows(seed: u64, tick: u64, rows_max: usize) -> usize {
    let mut x = seed ^ tick.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    1 + ((x ^ (x >> 31)) % rows_max.max(1) as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use thalweg_core::Changes;

    use super::*;

    fn piece(rows: i64, continues: bool) -> Piece {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(0..rows))]).unwrap();
        Piece { changes: vec![(0, Changes::inserts(batch))], continues, ..Piece::default() }
    }

    fn queue() -> SourceQueue {
        SourceQueue::new(SliceLimits { rows_max: 100, bytes_max: 1 << 20 }, Arc::new(Notify::new()))
    }

    fn rows(taken: &(Vec<Piece>, bool)) -> usize {
        taken.0.iter().map(rows_of).sum()
    }

    #[test]
    fn what_a_started_tick_will_take_is_no_reason_for_another() {
        let queue = queue();
        assert!(!queue.has_data());
        queue.put(piece(8, false));
        assert!(queue.has_data());
        queue.ask(20);
        assert!(!queue.has_data(), "the tick that was started takes it");
        queue.put(piece(8, false));
        queue.put(piece(8, false));
        assert!(queue.has_data(), "more than that tick takes");
        queue.ask(20);
        assert_eq!(rows(&queue.take(20)), 16);
        assert!(!queue.has_data(), "the second one takes the rest");
        assert_eq!(rows(&queue.take(20)), 8);
        assert!(!queue.has_data());
        queue.end();
        assert!(queue.take(20).1, "nothing will come");
    }

    #[test]
    fn enough_is_as_much_as_a_tick_takes_beyond_those_that_were_started() {
        let queue = queue();
        let wakes = || futures::FutureExt::now_or_never(queue.has_data.notified()).is_some();
        queue.ask(20);
        queue.put(piece(10, false));
        assert!(wakes(), "there is something");
        queue.put(piece(20, false));
        assert!(!queue.has_enough() && !wakes(), "20 of 30 are for the tick that was started");
        queue.put(piece(10, false));
        assert!(queue.has_enough() && wakes());
        queue.take(20);
        assert!(queue.has_enough(), "30 are left");
        queue.take(20);
        assert!(!queue.has_enough());
        queue.put(piece(80, true));
        assert!(queue.has_enough() && wakes(), "there is no room for more");
        assert!(!queue.has_ended());
        queue.end();
        assert!(queue.has_ended());
    }

    #[test]
    fn a_transaction_is_taken_whole() {
        let queue = queue();
        queue.put(piece(10, true));
        assert!(!queue.has_data(), "it goes on");
        queue.put(piece(10, false));
        queue.put(piece(10, false));
        assert!(queue.has_data());
        assert_eq!(rows(&queue.take(1)), 20);
        assert_eq!(rows(&queue.take(1)), 10);
    }
}
