//! Delivery: committed segments go to their target in order, each sink by a task of its own, so that one target that is
//! down does not hold up the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use thalweg_checkpoint::deliver::{Decision, Facts, decide};
use thalweg_checkpoint::segments::{self, Segment as StoredSegment, SinkLog};
use thalweg_checkpoint::{Storage, layout};
use thalweg_connector_api::sink::SegmentChunks;
use thalweg_connector_api::{Segment, Sink};
use thalweg_core::Result;
use thalweg_core::mark::{JobId, Mark};
use thalweg_core::table::Delivery;
use thalweg_graph::OperatorId;

use crate::attempt::Attempt;
use crate::fail_points;
use crate::metrics::Metrics;

const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// A sink with nothing to deliver writes its mark anew this often: some targets forget what is not touched.
const MARK_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Segments that go to the target at once, at most, and their bytes.
const SEGMENTS_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: u64 = 64 << 20;

/// What waits for delivery, of all sinks of an attempt.
pub struct Logs {
    logs: Mutex<BTreeMap<OperatorId, SinkLog>>,
    /// Something was committed or delivered.
    changed: tokio::sync::watch::Sender<u64>,
    metrics: Arc<Metrics>,
}

impl Logs {
    pub fn new(logs: Vec<SinkLog>, metrics: Arc<Metrics>) -> Self {
        let logs = logs.into_iter().map(|l| (l.sink, l)).collect();
        Logs { logs: Mutex::new(logs), changed: tokio::sync::watch::channel(0).0, metrics }
    }

    pub fn ensure(&self, sink: OperatorId, name: &str) {
        let mut logs = self.logs.lock();
        logs.entry(sink).or_insert_with(|| SinkLog::new(sink, name)).name = name.to_owned();
    }

    pub fn snapshot(&self) -> Vec<SinkLog> {
        self.logs.lock().values().cloned().collect()
    }

    /// A manifest with these logs was put: what it adds may be delivered. Deliveries since the snapshot are kept.
    pub fn committed(&self, committed: Vec<SinkLog>) {
        let mut logs = self.logs.lock();
        for mut log in committed {
            let delivered = logs.get(&log.sink).map_or(0, |l| l.delivered);
            log.mark_delivered(delivered);
            logs.insert(log.sink, log);
        }
        drop(logs);
        self.changed.send_modify(|n| *n += 1);
    }

    fn delivered(&self, sink: OperatorId, segment: u64) {
        if let Some(log) = self.logs.lock().get_mut(&sink) {
            log.mark_delivered(segment);
        }
        self.metrics.pending_bytes.store(self.pending_bytes(), Ordering::Relaxed);
        self.changed.send_modify(|n| *n += 1);
    }

    pub fn pending_bytes(&self) -> u64 {
        self.logs.lock().values().map(SinkLog::pending_bytes).sum()
    }

    fn log(&self, sink: OperatorId) -> Option<SinkLog> {
        self.logs.lock().get(&sink).cloned()
    }

    /// Waits until nothing is pending.
    pub async fn delivered_all(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.logs.lock().values().all(|l| l.pending.is_empty()) {
                return;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Delivers one sink's segments.
pub struct Deliverer {
    pub sink: Arc<dyn Sink>,
    pub id: OperatorId,
    pub name: String,
    pub job: JobId,
    pub job_name: String,
    pub storage: Arc<Storage>,
    pub logs: Arc<Logs>,
    pub assume_delivered: Option<u64>,
    pub attempt: Arc<Attempt>,
}

impl Deliverer {
    pub async fn run(self) {
        let mut changed = self.logs.changed.subscribe();
        let mut wait = RETRY;
        let mut fenced = false;
        loop {
            changed.borrow_and_update();
            match self.step(&mut fenced).await {
                Ok(()) => {
                    if wait > RETRY {
                        tracing::info!(job = %self.job_name, sink = %self.name, event = "target_up", "delivering again");
                    }
                    wait = RETRY;
                    tokio::select! {
                        changed = changed.changed() => if changed.is_err() {
                            return;
                        },
                        () = tokio::time::sleep(MARK_EVERY) => fenced = false,
                    }
                }
                Err(e) if e.is_transient() => {
                    fenced = false;
                    let log = self.logs.log(self.id);
                    let (segments, bytes) = log.map_or((0, 0), |l| (l.pending.len(), l.pending_bytes()));
                    tracing::warn!(
                        job = %self.job_name, sink = %self.name, event = "target_down",
                        retry_in_ms = wait.as_millis() as u64,
                        "{e}; {segments} segments wait ({bytes} bytes), reading goes on"
                    );
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
                Err(e) => return self.attempt.fail(e.context(format_args!("sink {}", self.name))),
            }
        }
    }

    /// Fences and decides, if that has to be done (again), then delivers all that is pending.
    async fn step(&self, fenced: &mut bool) -> Result<()> {
        if !*fenced {
            self.fence_and_decide().await?;
            *fenced = true;
        }
        loop {
            let Some(log) = self.logs.log(self.id) else { return Ok(()) };
            if log.pending.is_empty() {
                return Ok(());
            }
            let mut take = vec![];
            let mut bytes = 0;
            for segment in log.pending.iter().take(SEGMENTS_AT_ONCE) {
                bytes += segment.bytes;
                if !take.is_empty() && bytes > BYTES_AT_ONCE {
                    break;
                }
                take.push(self.open(segment));
            }
            let last = take.last().map_or(0, |s| s.number);
            fail_points::pass("before-deliver")?;
            self.sink.deliver(&take, &Mark::At { job: self.job.clone(), segment: last }).await?;
            fail_points::pass("after-deliver")?;
            self.record(last).await?;
        }
    }

    async fn fence_and_decide(&self) -> Result<()> {
        fail_points::pass("before-fence")?;
        let mark = self.sink.fence(&self.job).await?;
        fail_points::pass("after-fence")?;
        let Some(log) = self.logs.log(self.id) else { return Ok(()) };
        let held = match (log.pending.first(), log.pending.last()) {
            (Some(first), Some(last)) => Some(first.number..=last.number),
            _ => None,
        };
        let has = match &mark {
            Mark::At { segment, .. } => *segment,
            Mark::Absent => 0,
        };
        let decision = decide(&Facts {
            job: self.job.clone(),
            sink: self.name.clone(),
            recorded: log.delivered,
            last_staged: log.last_staged,
            held,
            mark,
            keeps_mark: self.sink.delivery() == Delivery::ExactlyOnce,
            assume_delivered: self.assume_delivered,
        });
        match decision {
            Decision::Refuse(refusal) => Err(refusal.to_error(&self.name)),
            Decision::Deliver { from } => {
                if from > log.delivered + 1 {
                    self.record(from - 1).await?;
                }
                Ok(())
            }
            Decision::Nothing { write_mark } => {
                if write_mark {
                    let mark = Mark::At { job: self.job.clone(), segment: log.last_staged };
                    self.sink.deliver(&[], &mark).await?;
                }
                if has.max(self.assume_delivered.unwrap_or(0)) > log.delivered {
                    self.record(log.last_staged).await?;
                }
                Ok(())
            }
        }
    }

    /// The target has everything up to this segment.
    async fn record(&self, segment: u64) -> Result<()> {
        let object = layout::delivered(self.id, segment);
        self.storage.create(&object, Bytes::from(self.job.0.clone())).await?;
        fail_points::pass("after-delivered-record")?;
        self.logs.delivered(self.id, segment);
        let old = self.storage.list(&layout::delivered_dir(self.id)).await?;
        let old: Vec<String> = old.into_iter().map(|l| l.object).filter(|o| *o < object).collect();
        self.storage.delete(&old).await
    }

    fn open(&self, segment: &StoredSegment) -> Segment {
        Segment {
            number: segment.number,
            ticks: segment.ticks(),
            rows: segment.rows,
            bytes: segment.bytes,
            chunks: Box::new(Chunks { storage: self.storage.clone(), segment: segment.clone() }),
        }
    }
}

struct Chunks {
    storage: Arc<Storage>,
    segment: StoredSegment,
}

impl SegmentChunks for Chunks {
    fn read(&self) -> BoxStream<'_, Result<Bytes>> {
        segments::read(self.storage.clone(), &self.segment)
    }
}
