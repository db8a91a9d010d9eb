//! Delivery: committed segments go to their target in order, each sink by a task of its own, so that one target that is
//! down does not hold up the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use thalweg_checkpoint::deliver::{Decision, Facts, decide};
use thalweg_checkpoint::segments::{self, Segment as StoredSegment, SinkLog};
use thalweg_checkpoint::{Owner, Storage, fail_points};
use thalweg_connector_api::sink::SegmentChunks;
use thalweg_connector_api::{Segment, Sink};
use thalweg_core::mark::{JobId, Mark};
use thalweg_core::table::Delivery;
use thalweg_core::{ErrorCode, Result};
use thalweg_graph::OperatorId;
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::metrics::Metrics;

const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// After the start of an attempt a mark is first written anew after this part of the interval: a job that is started
/// often must not wait for a whole one each time.
const FIRST_MARK_PART: u32 = 24;
/// Segments that go to the target at once, at most, and their bytes.
const SEGMENTS_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: u64 = 64 << 20;

/// What waits for delivery, of all sinks of an attempt.
pub struct Logs {
    logs: Mutex<BTreeMap<OperatorId, SinkLog>>,
    /// Something was committed or delivered.
    changed: tokio::sync::watch::Sender<u64>,
    /// Sinks whose targets have not said in this attempt what they have. What is committed meanwhile is marked as kept
    /// from them. Otherwise, if the directory is an older copy, it would reach beyond the target's mark, and the next start
    /// would take the copy for the newer one.
    silent: Mutex<BTreeSet<OperatorId>>,
    metrics: Arc<Metrics>,
}

impl Logs {
    pub fn new(logs: Vec<SinkLog>, metrics: Arc<Metrics>) -> Self {
        let logs = logs.into_iter().map(|l| (l.sink, l)).collect();
        Logs { logs: Mutex::new(logs), changed: tokio::sync::watch::channel(0).0, silent: Mutex::default(), metrics }
    }

    pub fn ensure(&self, sink: OperatorId, name: &str) {
        let mut logs = self.logs.lock();
        logs.entry(sink).or_insert_with(|| SinkLog::new(sink, name)).name = name.to_owned();
    }

    /// A target is about to be asked for its mark.
    pub fn ask(&self, sink: OperatorId) {
        self.silent.lock().insert(sink);
    }

    fn answered(&self, sink: OperatorId) {
        self.silent.lock().remove(&sink);
    }

    /// What a sink knows of its target from earlier attempts.
    pub fn facts(&self, sink: OperatorId) -> Option<serde_json::Value> {
        self.logs.lock().get(&sink).map(|l| l.facts.clone()).filter(|f| !f.is_null())
    }

    pub fn set_facts(&self, sink: OperatorId, facts: serde_json::Value) {
        if let Some(log) = self.logs.lock().get_mut(&sink) {
            log.facts = facts;
        }
    }

    pub fn snapshot(&self) -> Vec<SinkLog> {
        self.logs.lock().values().cloned().collect()
    }

    /// For the next manifest, which is to add segments to these: whether they may be given to the targets.
    pub fn to_extend(&self) -> Vec<SinkLog> {
        let silent = self.silent.lock();
        let mut logs = self.snapshot();
        for log in &mut logs {
            if silent.contains(&log.sink) {
                log.keep_back();
            } else {
                log.attempted = None;
            }
        }
        logs
    }

    /// A manifest with these logs was put: what it adds may be delivered. What was delivered and found out since the
    /// snapshot is kept.
    pub fn committed(&self, committed: Vec<SinkLog>) {
        let mut logs = self.logs.lock();
        for mut log in committed {
            if let Some(known) = logs.get(&log.sink) {
                log.mark_delivered(known.delivered);
                log.facts = known.facts.clone();
            }
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

    /// Recorded beside the manifests.
    fn attempted(&self, sink: OperatorId, segment: u64) {
        if let Some(log) = self.logs.lock().get_mut(&sink) {
            log.mark_attempted(segment);
        }
    }

    pub fn pending_bytes(&self) -> u64 {
        self.logs.lock().values().map(SinkLog::pending_bytes).sum()
    }

    pub fn log(&self, sink: OperatorId) -> Option<SinkLog> {
        self.logs.lock().get(&sink).cloned()
    }

    /// Waits until nothing is pending.
    pub async fn delivered_all(&self) {
        let none_waits = || self.logs.lock().values().all(|l| l.pending.is_empty());
        // It does not fail: `self` has the sender.
        let _ = self.changed.subscribe().wait_for(|_| none_waits()).await;
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
    /// A sink with nothing to deliver writes its mark anew this often: some targets forget what is not touched.
    pub mark_interval: Duration,
    /// The last segment that may ever have been given to the target, by this attempt or an earlier one. What was staged and
    /// not given to it is certainly not there, and is never in doubt.
    pub attempted: AtomicU64,
    pub owner: Arc<Owner>,
    pub attempt: Arc<Attempt>,
}

/// How far the talk with a target is.
struct Progress {
    /// It was looked at in this attempt (`Sink::prepare`).
    prepared: bool,
    /// Older processes are shut out, and it is decided what is to be delivered.
    fenced: bool,
    mark_due: Instant,
}

impl Deliverer {
    /// `prepared`: the target was there when the attempt began; else it is looked at as soon as it is.
    pub async fn run(self, prepared: bool) {
        let mut changed = self.logs.changed.subscribe();
        let mut wait = RETRY;
        let first_mark = Instant::now() + self.mark_interval / FIRST_MARK_PART;
        let mut done = Progress { prepared, fenced: false, mark_due: first_mark };
        loop {
            changed.borrow_and_update();
            match self.step(&mut done).await {
                Ok(()) => {
                    if wait > RETRY {
                        tracing::info!(job = %self.job_name, sink = %self.name, event = "target_up", "delivering again");
                    }
                    wait = RETRY;
                    tokio::select! {
                        changed = changed.changed() => if changed.is_err() {
                            return;
                        },
                        () = tokio::time::sleep_until(done.mark_due) => {}
                    }
                }
                // An older process that woke up in the middle of its fencing shut this one out. It delivers nothing, for it
                // looks at the manifests first; so this one fences again.
                Err(e) if e.code() == ErrorCode::Ownership && self.owner.check().await.is_ok() => {
                    done.fenced = false;
                    tracing::warn!(job = %self.job_name, sink = %self.name, event = "fenced_again", "{e}");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
                Err(e) if e.is_transient() => {
                    done.fenced = false;
                    let log = self.logs.log(self.id);
                    let (segments, bytes) = log.map_or((0, 0), |l| (l.pending.len(), l.pending_bytes()));
                    let noun = if segments == 1 { "segment" } else { "segments" };
                    tracing::warn!(
                        job = %self.job_name, sink = %self.name, event = "target_down",
                        retry_in_ms = wait.as_millis() as u64,
                        "{e}; waiting to be written: {segments} {noun}, {:.1} MB; reading goes on",
                        bytes as f64 / 1e6
                    );
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
                Err(e) => {
                    return self.attempt.fail(e.context(format_args!("sink {}", self.name)));
                }
            }
        }
    }

    /// Looks at the target, fences and decides, if that has to be done (again), then delivers all that is pending; writes the
    /// mark anew when that is due.
    async fn step(&self, done: &mut Progress) -> Result<()> {
        if !done.prepared {
            let stored = self.logs.facts(self.id);
            self.logs.set_facts(self.id, self.sink.prepare(stored.as_ref()).await?);
            done.prepared = true;
        }
        if !done.fenced {
            self.fence_and_decide().await?;
            done.fenced = true;
            self.logs.answered(self.id);
        }
        loop {
            let Some(log) = self.logs.log(self.id) else { return Ok(()) };
            if log.pending.is_empty() {
                if Instant::now() >= done.mark_due {
                    self.write_mark(log.delivered).await?;
                    done.mark_due = Instant::now() + self.mark_interval;
                }
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
            fail_points::reach("before-deliver").await?;
            // The target may have no way to tell an older process.
            self.owner.check().await?;
            if last > log.attempted() {
                // Committed while the target was silent. It has spoken since, and what it said was right.
                self.owner.record_attempted(self.id, last).await?;
                fail_points::reach("after-attempted-record").await?;
                self.logs.attempted(self.id, last);
            }
            self.attempted.fetch_max(last, Ordering::AcqRel);
            self.sink.deliver(&take, &Mark::At { job: self.job.clone(), segment: last }).await?;
            fail_points::reach("after-deliver").await?;
            self.record(last).await?;
            done.mark_due = Instant::now() + self.mark_interval;
        }
    }

    /// Writes the mark of a target that has everything up to `delivered`, as it is.
    async fn write_mark(&self, delivered: u64) -> Result<()> {
        if delivered == 0 || self.sink.delivery() != Delivery::ExactlyOnce {
            return Ok(());
        }
        self.owner.check().await?;
        self.sink.deliver(&[], &Mark::At { job: self.job.clone(), segment: delivered }).await
    }

    async fn fence_and_decide(&self) -> Result<()> {
        fail_points::reach("before-fence").await?;
        // An older process that wakes up here would shut out the newer one.
        self.owner.check().await?;
        let mark = self.sink.fence(&self.job).await?;
        fail_points::reach("after-fence").await?;
        let Some(log) = self.logs.log(self.id) else { return Ok(()) };
        if log.attempted() < log.last_staged {
            let recorded = self.owner.recorded_attempted(self.id).await?;
            self.logs.attempted(self.id, recorded);
            self.attempted.fetch_max(recorded, Ordering::AcqRel);
        }
        let attempted = self.attempted.load(Ordering::Acquire);
        let held = match (log.pending.first(), log.pending.last()) {
            (Some(first), Some(last)) => Some(first.number..=last.number),
            _ => None,
        };
        let decision = decide(&Facts {
            job: self.job.clone(),
            sink: self.name.clone(),
            recorded: log.delivered,
            last_staged: attempted,
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
                    self.write_mark(attempted).await?;
                }
                if attempted > log.delivered {
                    self.record(attempted).await?;
                }
                Ok(())
            }
        }
    }

    /// The target has everything up to this segment.
    async fn record(&self, segment: u64) -> Result<()> {
        self.owner.record_delivered(self.id, segment).await?;
        fail_points::reach("after-delivered-record").await?;
        self.logs.delivered(self.id, segment);
        self.owner.forget_delivered_below(self.id, segment).await
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
