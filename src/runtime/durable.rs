//! What an attempt keeps in the checkpoint storage: it claims the job's log, stages output, commits checkpoints, and lets
//! the committed output be delivered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_checkpoint::manifest::{SourceLog, Statement};
use thalweg_checkpoint::restore::{self, RestorePlan};
use thalweg_checkpoint::segments::{self, PartBuilder, StoredPart};
use thalweg_checkpoint::{Attempt as Claim, AttemptId, Kind, Manifest, Storage, attempt, layout, manifest};
use thalweg_connector_api::{Position, SplitId};
use thalweg_core::mark::JobId;
use thalweg_core::stored::{StoredFile, StoredShard};
use thalweg_core::table::Delivery;
use thalweg_core::{Error, Result, Tick};
use thalweg_graph::{Graph, NodeIx, OperatorId};
use thalweg_state::{Restore, RestoredShard, ShardSnapshot};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::command::{CheckpointPart, Stage, StagedChunks};
use crate::delivery::{Deliverer, Logs};
use crate::fail_points;
use crate::instance::InstanceConfig;
use crate::metrics::Metrics;

/// Where a job's checkpoints are, and how it begins.
#[derive(Clone)]
pub struct DurableConfig {
    pub storage: Arc<Storage>,
    pub job: JobId,
    /// `pipeline.name` was given.
    pub is_named: bool,
    pub statement: Statement,
    pub flags: RestoreFlags,
    /// `--from`: a new job begins with the state of this one.
    pub from: Option<(Arc<Storage>, Manifest)>,
    /// `--assume-delivered`: the user's word on what a target has.
    pub assume_delivered: Option<u64>,
}

/// What the user allows a restore to do.
#[derive(Debug, Clone, Default)]
pub struct RestoreFlags {
    /// `--allow-non-restored-state`
    pub allow_non_restored_state: bool,
    /// `--allow-partial-history`
    pub allow_partial_history: bool,
    /// `pipeline.max-parallelism`, if it was set.
    pub max_parallelism: Option<u16>,
    /// Where the checkpoints are, as the user calls it.
    pub place: String,
}

impl RestoreFlags {
    /// What of a checkpoint goes on in a graph.
    ///
    /// # Errors
    /// Of code `Checkpoint`: all reasons why it does not fit, and what can be done.
    pub fn plan(&self, manifest: &Manifest, graph: &Graph) -> Result<RestorePlan> {
        restore::plan(&restore::Request {
            manifest,
            graph,
            place: &self.place,
            max_parallelism: self.max_parallelism,
            allow_non_restored_state: self.allow_non_restored_state,
            allow_partial_history: self.allow_partial_history,
        })
    }
}

/// What the attempt went on from.
#[derive(Debug, Clone)]
pub struct RestoreReport {
    pub checkpoint: u64,
    pub tick: u64,
    pub wall_clock_us: i64,
    /// Workers then and now.
    pub workers: (usize, usize),
    pub took: Duration,
    pub plan: RestorePlan,
}

/// Where an attempt begins.
pub struct RestorePoint {
    pub tick: u64,
    pub wall_clock_us: i64,
    pub max_parallelism: u16,
    pub positions: BTreeMap<NodeIx, BTreeMap<SplitId, Position>>,
    pub restore: Restore,
    pub report: Option<RestoreReport>,
}

/// All of a checkpoint that the workers gave.
pub struct Commit {
    pub checkpoint: u64,
    pub tick: Tick,
    pub positions: BTreeMap<NodeIx, BTreeMap<SplitId, Position>>,
    pub parts: Vec<CheckpointPart>,
}

#[derive(Debug)]
pub struct Committed {
    pub checkpoint: u64,
    /// Bytes that were newly stored.
    pub bytes: u64,
}

/// Staged chunks on their way to the storage, of all workers: with the encoders' own buffers the bound on staged memory.
const STAGE_QUEUE: usize = 4;
const STAGE_RETRY: Duration = Duration::from_millis(200);
const STAGE_RETRY_MAX: Duration = Duration::from_secs(5);

/// The storage of one attempt.
pub struct Durable {
    claim: tokio::sync::Mutex<Claim>,
    storage: Arc<Storage>,
    attempt_id: AttemptId,
    /// As committed last.
    newest: Mutex<Manifest>,
    next_checkpoint: AtomicU64,
    stage: mpsc::Sender<Stage>,
    staged: Arc<Staged>,
    logs: Arc<Logs>,
    graph: Arc<Graph>,
    statement: Statement,
    is_named: bool,
    timeout: Duration,
    retained: usize,
    segment_bytes_max: u64,
    metrics: Arc<Metrics>,
    job_name: String,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// Per source node: rows that earlier attempts have read.
    rows_before: BTreeMap<NodeIx, u64>,
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Output that is in the storage and in no manifest.
#[derive(Default)]
struct Staged {
    parts: Mutex<Vec<(OperatorId, StoredPart)>>,
    bytes: AtomicU64,
}

impl Durable {
    /// Claims the job and reads where it stands.
    ///
    /// # Errors
    /// A damaged checkpoint, one that does not fit the graph, a job that another process has taken over.
    pub async fn begin(
        config: &DurableConfig,
        instance: &InstanceConfig,
        workers: usize,
        metrics: Arc<Metrics>,
        attempt: Arc<Attempt>,
    ) -> Result<(Self, RestorePoint)> {
        let began = Instant::now();
        let storage = config.storage.clone();
        let graph = instance.graph.clone();
        let (claim, mut newest, plan) = match storage.newest().await? {
            Some(found) => {
                storage.check_files(&found).await?;
                let plan = config.flags.plan(&found, &graph)?;
                let (claim, newest) = Claim::take_over(storage.clone(), &found).await?;
                (claim, newest, Some(plan))
            }
            None => {
                let mut first = first_manifest(config, instance, workers);
                let plan = match &config.from {
                    None => None,
                    Some((_, from)) => {
                        first.max_parallelism = from.max_parallelism;
                        Some(config.flags.plan(from, &graph)?)
                    }
                };
                let (mut claim, mut newest) = Claim::first(storage.clone(), first).await?;
                if let Some((from_storage, from)) = &config.from {
                    let shards = attempt::adopt_state(from_storage, from, &claim).await?;
                    // State and positions become the new job's together.
                    newest = claim
                        .commit(Manifest {
                            shards,
                            tick: from.tick,
                            wall_clock_us: from.wall_clock_us,
                            sources: from.sources.clone(),
                            graph: from.graph.clone(),
                            kind: Kind::Checkpoint,
                            ..newest
                        })
                        .await?;
                }
                (claim, newest, plan)
            }
        };
        if let Err(e) = claim.collect_orphans().await {
            tracing::warn!(job = %instance.job_name, event = "cleanup", "{e}");
        }
        let recorded = attempt::recorded_delivered(&storage, &newest).await?;
        for log in &mut newest.sinks {
            log.mark_delivered(recorded.get(&log.sink).copied().unwrap_or(0));
        }
        // What is dropped was allowed to be.
        newest.sinks.retain(|l| graph.sinks().any(|(ix, _)| graph.nodes[ix].id == l.sink));
        let positions = positions_of(plan.as_ref());
        let rows_before = plan.iter().flat_map(|p| &p.sources).map(|(node, log)| (*node, log.rows)).collect();
        let restore = Restore {
            shards: newest.shards.iter().map(|s| local(&storage, s.clone())).collect(),
            matches: plan.as_ref().map(|p| p.tables.clone()).unwrap_or_default(),
        };
        let report = plan.map(|plan| RestoreReport {
            checkpoint: newest.number - 1,
            tick: newest.tick,
            wall_clock_us: newest.wall_clock_us,
            workers: (newest.workers, workers),
            took: began.elapsed(),
            plan,
        });
        let point = RestorePoint {
            tick: newest.tick,
            wall_clock_us: newest.wall_clock_us,
            max_parallelism: newest.max_parallelism,
            positions,
            restore,
            report,
        };

        let logs = Arc::new(Logs::new(newest.sinks.clone(), metrics.clone()));
        let staged = Arc::new(Staged::default());
        let (stage, receiver) = mpsc::channel(STAGE_QUEUE);
        let attempt_id = claim.id().clone();
        let stager = Stager {
            storage: storage.clone(),
            attempt_id: attempt_id.clone(),
            graph: graph.clone(),
            staged: staged.clone(),
            job_name: instance.job_name.clone(),
            seqs: HashMap::new(),
        };
        let mut tasks = vec![tokio::spawn(stager.run(receiver))];
        let options = &instance.options;
        let claim = tokio::sync::Mutex::new(claim);
        for (ix, spec) in graph.sinks() {
            // Sinks that promise nothing have no segments, but a job is found by them too.
            logs.ensure(graph.nodes[ix].id, &spec.def.name);
            // A job that is done has delivered everything: it leaves its targets alone.
            if spec.delivery == Delivery::None || newest.finished {
                continue;
            }
            let sink = instance.sinks.get(&ix).ok_or_else(|| Error::internal("a sink that was not opened"))?;
            let deliverer = Deliverer {
                sink: sink.clone(),
                id: graph.nodes[ix].id,
                name: spec.def.name.clone(),
                job: config.job.clone(),
                job_name: instance.job_name.clone(),
                storage: storage.clone(),
                logs: logs.clone(),
                assume_delivered: config.assume_delivered,
                attempt: attempt.clone(),
            };
            tasks.push(tokio::spawn(deliverer.run()));
        }
        let durable = Durable {
            next_checkpoint: AtomicU64::new(newest.number + 1),
            claim,
            storage,
            attempt_id,
            newest: Mutex::new(newest),
            stage,
            staged,
            logs,
            graph,
            statement: config.statement.clone(),
            is_named: config.is_named,
            timeout: options.checkpoint_timeout,
            retained: options.checkpoints_retained,
            segment_bytes_max: options.staged_bytes_max,
            metrics,
            job_name: instance.job_name.clone(),
            tasks,
            rows_before,
        };
        Ok((durable, point))
    }

    /// The input ended and all was delivered, in an earlier attempt.
    pub fn is_finished(&self) -> bool {
        self.newest.lock().finished
    }

    /// The number that the next checkpoint has.
    pub fn next_checkpoint(&self) -> u64 {
        self.next_checkpoint.load(Ordering::Relaxed)
    }

    /// Output that is staged and in no checkpoint.
    pub fn staged_bytes(&self) -> u64 {
        self.staged.bytes.load(Ordering::Relaxed)
    }

    /// Committed output that waits for its target.
    pub fn pending_bytes(&self) -> u64 {
        self.logs.pending_bytes()
    }

    pub fn stage(&self) -> mpsc::Sender<Stage> {
        self.stage.clone()
    }

    /// Stores the parts and commits. A transient error means: nothing was committed, and nothing of the output is lost.
    pub async fn commit(&self, commit: Commit) -> Result<Committed> {
        let workers = commit.parts.len();
        let mut rows_read = self.rows_before.clone();
        for (node, rows) in commit.parts.iter().flat_map(|p| &p.rows) {
            *rows_read.entry(*node).or_default() += rows;
        }
        // First of all, for workers that must write wait for it.
        let snapshots = tokio::task::spawn_blocking(move || {
            let run = |p: CheckpointPart| Ok((p.worker, p.snapshot.run()?));
            commit.parts.into_iter().map(run).collect::<Result<Vec<(usize, Vec<ShardSnapshot>)>>>()
        });
        let snapshots = snapshots.await.map_err(|e| Error::internal(e.to_string()).transient())??;
        let upload = async {
            // Everything that was staged before the parts came is in the storage after this.
            let (done, stored) = oneshot::channel();
            let gone = |_| Error::internal("the stager is gone").transient();
            self.stage
                .send(Stage::Barrier(done))
                .await
                .map_err(|_| Error::internal("the stager is gone").transient())?;
            stored.await.map_err(gone)?;
            fail_points::pass("upload-state")?;
            let mut shards = vec![];
            let mut bytes = 0;
            for (worker, snapshots) in &snapshots {
                for snapshot in snapshots {
                    shards.push(self.store(*worker, commit.checkpoint, snapshot, &mut bytes).await?);
                }
            }
            Ok::<_, Error>((shards, bytes))
        };
        let (mut shards, mut bytes) = tokio::time::timeout(self.timeout, upload).await.map_err(|_| {
            Error::io(format!("checkpoint {} took longer than {:?}", commit.checkpoint, self.timeout))
                .note("raise 'execution.checkpointing.timeout'")
        })??;
        shards.sort_by_key(|s| s.groups.start);

        let of_this = |p: &StoredPart| p.last_tick <= commit.tick.id;
        let parts: Vec<(OperatorId, StoredPart)> =
            self.staged.parts.lock().iter().filter(|(_, p)| of_this(p)).cloned().collect();
        bytes += parts.iter().map(|(_, p)| p.bytes).sum::<u64>();
        let mut by_sink: HashMap<OperatorId, Vec<StoredPart>> = HashMap::new();
        for (sink, part) in parts {
            by_sink.entry(sink).or_default().push(part);
        }
        let mut claim = self.claim.lock().await;
        // Deliveries that end meanwhile are in the next manifest; the record beside the manifests knows them at once.
        let mut sinks = self.logs.snapshot();
        for log in &mut sinks {
            if log.close(by_sink.remove(&log.sink).unwrap_or_default(), self.segment_bytes_max) {
                tracing::warn!(
                    job = %self.job_name, sink = %log.name, event = "large_tick",
                    "the output of one tick is larger than {} bytes: the target sees it in several steps",
                    self.segment_bytes_max
                );
            }
        }
        let newest = self.newest.lock().clone();
        fail_points::pass("before-manifest")?;
        let committed = claim
            .commit(Manifest {
                kind: Kind::Checkpoint,
                tick: commit.tick.id,
                wall_clock_us: commit.tick.wall_clock_us,
                workers,
                statement: self.statement.clone(),
                is_named: self.is_named,
                job_name: self.job_name.clone(),
                graph: (*self.graph).clone(),
                shards,
                sources: source_logs(&self.graph, &commit.positions, &rows_read),
                sinks: sinks.clone(),
                finished: false,
                ..newest
            })
            .await?;
        fail_points::pass("after-manifest")?;
        {
            let mut staged = self.staged.parts.lock();
            staged.retain(|(_, p)| !of_this(p));
            self.staged.bytes.store(staged.iter().map(|(_, p)| p.bytes).sum(), Ordering::Relaxed);
        }
        self.next_checkpoint.store(committed.number + 1, Ordering::Relaxed);
        let number = committed.number;
        self.metrics.state_bytes.store(committed.state_bytes(), Ordering::Relaxed);
        *self.newest.lock() = committed;
        self.logs.committed(sinks);
        self.metrics.pending_bytes.store(self.logs.pending_bytes(), Ordering::Relaxed);
        fail_points::pass("before-cleanup")?;
        if let Err(e) = claim.collect_garbage(self.retained).await {
            tracing::warn!(job = %self.job_name, event = "cleanup", "{e}");
        }
        fail_points::pass("after-cleanup")?;
        Ok(Committed { checkpoint: number, bytes })
    }

    async fn store(
        &self,
        worker: usize,
        checkpoint: u64,
        shard: &ShardSnapshot,
        bytes: &mut u64,
    ) -> Result<StoredShard> {
        let mut files: Vec<StoredFile> = vec![];
        for file in &shard.files {
            if let Some(stored) = &file.stored {
                files.push(stored.clone());
                continue;
            }
            let of = (!file.immutable).then_some(checkpoint);
            let object = layout::state_file(&self.attempt_id, worker, shard.ordinal, of, &file.name);
            let stored = self.storage.put_file(&file.path, &file.name, object).await?;
            *bytes += stored.size;
            shard.mark_stored(stored.clone());
            files.push(stored);
        }
        Ok(shard.to_stored(files))
    }

    /// Waits until all committed output is in its targets, for at most `limit`.
    ///
    /// # Errors
    /// Of a delivery that can never succeed.
    pub async fn deliver_all(&self, limit: Option<Duration>) -> Result<()> {
        let done = self.logs.delivered_all();
        match limit {
            None => done.await,
            Some(limit) => {
                // What is left waits for the next start; the caller names it.
                let _ = tokio::time::timeout(limit, done).await;
            }
        }
        Ok(())
    }

    /// Records that the job is done: everything read, everything delivered.
    pub async fn finish(&self) -> Result<()> {
        let mut claim = self.claim.lock().await;
        let newest = self.newest.lock().clone();
        let sinks = self.logs.snapshot();
        let done = claim.commit(Manifest { kind: Kind::Checkpoint, finished: true, sinks, ..newest }).await?;
        *self.newest.lock() = done;
        if let Err(e) = claim.collect_garbage(self.retained).await {
            tracing::warn!(job = %self.job_name, event = "cleanup", "{e}");
        }
        Ok(())
    }

    /// Sinks with output that waits for the next start, in words.
    pub fn undelivered(&self) -> Vec<String> {
        self.logs
            .snapshot()
            .iter()
            .filter(|l| !l.pending.is_empty())
            .map(|l| {
                let (first, last) = (l.pending[0].number, l.last_staged);
                format!(
                    "{}: {} rows in segments {first} to {last} ({} bytes)",
                    l.name,
                    l.pending_rows(),
                    l.pending_bytes()
                )
            })
            .collect()
    }
}

fn first_manifest(config: &DurableConfig, instance: &InstanceConfig, workers: usize) -> Manifest {
    Manifest {
        engine: manifest::engine_version().to_owned(),
        job: config.job.clone(),
        job_name: instance.job_name.clone(),
        is_named: config.is_named,
        attempt: AttemptId::unclaimed(),
        number: 0,
        kind: Kind::Claim,
        tick: 0,
        wall_clock_us: crate::coordinator::now_us(),
        workers,
        max_parallelism: instance.options.max_parallelism,
        codecs: manifest::CodecVersions::CURRENT,
        statement: config.statement.clone(),
        graph: (*instance.graph).clone(),
        shards: vec![],
        sources: vec![],
        sinks: vec![],
        finished: false,
    }
}

/// The stored positions by the new graph's nodes.
fn positions_of(plan: Option<&RestorePlan>) -> BTreeMap<NodeIx, BTreeMap<SplitId, Position>> {
    let of = |log: &SourceLog| log.positions.iter().map(|(id, p)| (SplitId(id.clone()), Position(p.clone()))).collect();
    plan.into_iter().flat_map(|p| &p.sources).map(|(node, log)| (*node, of(log))).collect()
}

fn source_logs(
    graph: &Graph,
    positions: &BTreeMap<NodeIx, BTreeMap<SplitId, Position>>,
    rows_read: &BTreeMap<NodeIx, u64>,
) -> Vec<SourceLog> {
    graph
        .sources()
        .map(|(ix, spec)| {
            let node = &graph.nodes[ix];
            let splits = positions.get(&ix).into_iter().flatten();
            SourceLog {
                operator: node.id,
                variant: node.variant,
                name: spec.tables.iter().map(|t| t.def.name.as_str()).collect::<Vec<_>>().join(", "),
                positions: splits.map(|(id, p)| (id.0.clone(), p.0.clone())).collect(),
                rows: rows_read.get(&ix).copied().unwrap_or(0),
            }
        })
        .collect()
}

fn local(storage: &Storage, shard: StoredShard) -> RestoredShard {
    RestoredShard::new(shard, |file| storage.local_path(&file.object))
}

/// Writes staged chunks to the storage, one after another.
struct Stager {
    storage: Arc<Storage>,
    attempt_id: AttemptId,
    graph: Arc<Graph>,
    staged: Arc<Staged>,
    job_name: String,
    /// Of the next part, per sink and worker.
    seqs: HashMap<(NodeIx, usize), u64>,
}

impl Stager {
    async fn run(mut self, mut receiver: mpsc::Receiver<Stage>) {
        while let Some(message) = receiver.recv().await {
            match message {
                Stage::Barrier(done) => {
                    let _ = done.send(());
                }
                Stage::Chunks(chunks) => self.stage(chunks).await,
            }
        }
    }

    /// Tries until it succeeds: encoded rows are never given up, and behind them reading waits.
    async fn stage(&mut self, chunks: StagedChunks) {
        let mut wait = STAGE_RETRY;
        let seq = self.seqs.entry((chunks.sink, chunks.worker)).or_default();
        *seq += 1;
        let seq = *seq;
        let sink = self.graph.nodes[chunks.sink].id;
        loop {
            match self.try_stage(&chunks, sink, seq).await {
                Ok(part) => {
                    self.staged.bytes.fetch_add(part.bytes, Ordering::Relaxed);
                    self.staged.parts.lock().push((sink, part));
                    return;
                }
                Err(e) => {
                    tracing::warn!(
                        job = %self.job_name, event = "staging_failed", retry_in_ms = wait.as_millis() as u64,
                        "{e}; reading waits, nothing is lost"
                    );
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(STAGE_RETRY_MAX);
                }
            }
        }
    }

    async fn try_stage(&self, chunks: &StagedChunks, sink: OperatorId, seq: u64) -> Result<StoredPart> {
        fail_points::pass("stage-output")?;
        let mut builder = PartBuilder::default();
        for (i, chunk) in chunks.chunks.iter().enumerate() {
            // The rows are counted once, for the part.
            let rows = if i == 0 { chunks.rows } else { 0 };
            let tick = if i == 0 { chunks.first_tick } else { chunks.last_tick };
            builder.push(tick, rows, chunk)?;
        }
        let mut part = builder.take().ok_or_else(|| Error::internal("staged output without a row"))?;
        part.last_tick = chunks.last_tick;
        segments::stage(&self.storage, &self.attempt_id, sink, chunks.worker, seq, part).await
    }
}
