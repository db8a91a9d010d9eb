//! What an attempt keeps in the checkpoint storage: it claims the job's log, stages output, commits checkpoints, and lets
//! the committed output be delivered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_checkpoint::manifest::{SourceLog, Statement};
use thalweg_checkpoint::restore::{self, Report, RestorePlan};
use thalweg_checkpoint::segments::StoredPart;
use thalweg_checkpoint::{
    Attempt as Claim, AttemptId, Kind, Manifest, Owner, Put, SinkLog, Storage, attempt, fail_points, job, layout,
    manifest,
};
use thalweg_connector_api::{Position, Sink, SplitId};
use thalweg_core::clock::now_us;
use thalweg_core::mark::JobId;
use thalweg_core::stored::{StoredFile, StoredShard};
use thalweg_core::table::Delivery;
use thalweg_core::{Error, Place, Result, Tick};
use thalweg_graph::ops::sink::SinkSpec;
use thalweg_graph::{Graph, NodeIx, OperatorId};
use thalweg_state::{Restore, RestoredShard, ShardSnapshot};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::command::{CheckpointPart, Stage};
use crate::coordinator::find_splits;
use crate::delivery::{Deliverer, Logs};
use crate::instance::InstanceConfig;
use crate::metrics::Metrics;
use crate::stager::{Staged, Stager};

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
    /// `--fresh`, `--from`: stored jobs that do not go on once this one has begun.
    pub replaces: Vec<JobId>,
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
    /// Where in the script each node of the graph comes from, if it was planned from one.
    pub node_places: Vec<Option<Place>>,
}

impl RestoreFlags {
    /// What of a checkpoint goes on in a graph, and how that is told.
    ///
    /// # Errors
    /// Of code `Checkpoint`: all reasons why it does not fit, and what can be done.
    pub fn plan(&self, manifest: &Manifest, graph: &Graph) -> Result<(RestorePlan, Report)> {
        let request = restore::Request {
            manifest,
            graph,
            places: &self.node_places,
            place: &self.place,
            max_parallelism: self.max_parallelism,
            allow_non_restored_state: self.allow_non_restored_state,
            allow_partial_history: self.allow_partial_history,
        };
        let plan = restore::plan(&request)?;
        let report = plan.report(&request);
        Ok((plan, report))
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
    /// What was reused, is new, was dropped.
    pub parts: Report,
}

/// What an instance knows of its own attempts, so that one that starts again inside the process does not take the job back
/// from another process that has taken it over meanwhile.
#[derive(Debug, Default)]
pub struct Lineage {
    /// Number of the manifest that the first attempt found; 0: none.
    found: Option<u64>,
    /// Attempts that may have put a manifest.
    attempts: Vec<AttemptId>,
}

impl Lineage {
    /// `newest`: what the storage holds now. An error of code `Ownership` if it is another process's.
    pub fn check(&mut self, storage: &Storage, newest: Option<&Manifest>) -> Result<()> {
        let number = newest.map_or(0, |m| m.number);
        let first = *self.found.get_or_insert(number);
        match newest {
            Some(m) if m.number > first && !self.attempts.contains(&m.attempt) => Err(Error::ownership(format!(
                "job {} was taken over by attempt {}: {} is there",
                m.job,
                m.attempt,
                storage.describe(&layout::manifest(number))
            ))
            .note("the job goes on in the process that took it over; this one does not start it again")),
            _ => Ok(()),
        }
    }
}

/// Where an attempt begins.
pub struct RestorePoint {
    pub tick: u64,
    pub wall_clock_us: i64,
    pub max_parallelism: u16,
    pub positions: BTreeMap<NodeIx, BTreeMap<SplitId, Position>>,
    pub restore: Restore,
    pub report: Option<RestoreReport>,
    /// What the sinks found out of their targets.
    pub facts: HashMap<NodeIx, serde_json::Value>,
}

/// All of a checkpoint that the workers gave.
pub struct Commit {
    /// Id of the checkpoint within the attempt.
    pub checkpoint: u64,
    /// When its tick was started.
    pub began: Instant,
    pub tick: Tick,
    pub positions: BTreeMap<NodeIx, BTreeMap<SplitId, Position>>,
    pub parts: Vec<CheckpointPart>,
}

#[derive(Debug)]
pub struct Committed {
    /// The manifest's number.
    pub checkpoint: u64,
    /// Bytes that were newly stored.
    pub bytes: u64,
}

/// Staged chunks on their way to the storage, of all workers: with the encoders' own buffers the bound on staged memory.
const STAGE_QUEUE: usize = 4;
/// How often the word that the job is done is put before it counts as failed: everything is delivered by then.
const FINISH_TRIES: u32 = 3;

/// The storage of one attempt.
pub struct Durable {
    claim: tokio::sync::Mutex<Claim>,
    storage: Arc<Storage>,
    attempt_id: AttemptId,
    owner: Arc<Owner>,
    /// As committed last.
    newest: Mutex<Manifest>,
    /// Id of the next checkpoint. One that is given up has used its id up, but no manifest's number.
    next_checkpoint: AtomicU64,
    /// Files stored by checkpoints since the last one that was committed. What a manifest does not name goes with the next
    /// clean-up: not earlier, for a put that was reported as failed may have succeeded.
    loose: Mutex<Vec<String>>,
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
        lineage: &mut Lineage,
    ) -> Result<(Self, RestorePoint)> {
        let began = Instant::now();
        let storage = config.storage.clone();
        let graph = instance.graph.clone();
        let found = storage.newest().await?;
        lineage.check(&storage, found.as_ref())?;
        let id = AttemptId::after(found.as_ref());
        lineage.attempts.push(id.clone());
        let (claim, mut newest, restored) = match found {
            Some(found) => {
                storage.check_files(&found).await?;
                let found = attempt::without_delivered(&storage, found).await?;
                let planned = config.flags.plan(&found, &graph)?;
                let (claim, newest) = Claim::take_over(storage.clone(), id, &found).await?;
                (claim, newest, Some((found.number, planned)))
            }
            None => begin_job(config, instance, workers, id).await?,
        };
        lineage.attempts = vec![claim.id().clone()];
        if let Err(e) = claim.collect_orphans().await {
            tracing::warn!(job = %instance.job_name, event = "cleanup", "{e}");
        }
        // What is dropped was allowed to be.
        newest.sinks.retain(|l| graph.sinks().any(|(ix, _)| graph.nodes[ix].id == l.sink));
        let (checkpoint, plan, parts) = match restored {
            Some((number, (plan, parts))) => (Some(number), Some(plan), parts),
            None => (None, None, Report::default()),
        };
        let positions = positions_of(plan.as_ref());
        let rows_before = plan.iter().flat_map(|p| &p.sources).map(|(node, log)| (*node, log.rows)).collect();
        let restore = Restore {
            shards: newest.shards.iter().map(|s| local(&storage, s.clone())).collect(),
            matches: plan.as_ref().map(|p| p.tables.clone()).unwrap_or_default(),
        };
        // A job that was ended before its first checkpoint begins anew, though it is found.
        let report = checkpoint.filter(|_| newest.tick > 0).map(|checkpoint| RestoreReport {
            checkpoint,
            tick: newest.tick,
            wall_clock_us: newest.wall_clock_us,
            workers: (newest.workers, workers),
            took: began.elapsed(),
            parts,
        });
        let mut point = RestorePoint {
            tick: newest.tick,
            wall_clock_us: newest.wall_clock_us,
            max_parallelism: newest.max_parallelism,
            positions,
            restore,
            report,
            facts: HashMap::new(),
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
            owner: claim.owner(),
            attempt: attempt.clone(),
            seqs: HashMap::new(),
        };
        let mut tasks = vec![attempt.spawn("staging output", stager.run(receiver))];
        let options = &instance.options;
        let owner = claim.owner();
        // Sinks that promise nothing have no segments, but a job is found by them too.
        graph.sinks().for_each(|(ix, spec)| logs.ensure(graph.nodes[ix].id, &spec.def.name));
        // A job that is done has delivered everything: it leaves its targets alone.
        let asked = if newest.finished { vec![] } else { ask_targets(instance, |id| logs.facts(id)).await? };
        for Asked { ix, spec, sink, stored, facts } in asked {
            let id = graph.nodes[ix].id;
            let (facts, prepared) = match (facts, stored) {
                (Ok(facts), _) => (facts, true),
                // Its output can be encoded and waits for it; the job's other sinks go on.
                (Err(e), Some(stored)) if e.is_transient() && newest.tick > 0 => {
                    tracing::warn!(
                        job = %instance.job_name, sink = %spec.def.name, event = "target_down",
                        "{e}; the job goes on with what is known of the target, its output waits"
                    );
                    (stored, false)
                }
                (Err(e), _) => {
                    let e = e.context(format_args!("sink {}", spec.def.name));
                    // Whoever starts a job for the first time is there and wants to know.
                    return Err(if newest.tick == 0 { e.permanent() } else { e });
                }
            };
            logs.set_facts(id, facts.clone());
            point.facts.insert(ix, facts);
            logs.ask(id);
            let deliverer = Deliverer {
                sink: sink.clone(),
                id,
                name: spec.def.name.clone(),
                job: config.job.clone(),
                job_name: instance.job_name.clone(),
                storage: storage.clone(),
                logs: logs.clone(),
                assume_delivered: config.assume_delivered,
                mark_interval: options.mark_interval,
                attempted: AtomicU64::new(logs.log(id).map_or(0, |l| l.attempted())),
                owner: owner.clone(),
                attempt: attempt.clone(),
            };
            tasks.push(attempt.spawn("delivering output", deliverer.run(prepared)));
        }
        let durable = Durable {
            next_checkpoint: AtomicU64::new(newest.number + 1),
            loose: Mutex::default(),
            claim: tokio::sync::Mutex::new(claim),
            owner,
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

    /// An id for a checkpoint that begins: never used before in this attempt.
    pub fn begin_checkpoint(&self) -> u64 {
        self.next_checkpoint.fetch_add(1, Ordering::Relaxed)
    }

    /// The error of a checkpoint that took too long.
    pub fn too_late(&self) -> Error {
        let number = self.newest.lock().number + 1;
        Error::io(format!("checkpoint {number} took longer than {}", text_of(self.timeout)))
            .note("raise 'execution.checkpointing.timeout' if it needs that long")
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

    /// Stores the parts and commits, within the time-out. After a transient error nothing of the output is lost: it is
    /// staged still, or in a manifest that the next checkpoint finds.
    pub async fn commit(&self, commit: Commit) -> Result<Committed> {
        let Commit { checkpoint, began, tick, positions, parts } = commit;
        let deadline = began + self.timeout;
        let workers = parts.len();
        let mut rows_read = self.rows_before.clone();
        for (node, rows) in parts.iter().flat_map(|p| &p.rows) {
            *rows_read.entry(*node).or_default() += rows;
        }
        let late = |_| self.too_late();
        let upload = self.upload(checkpoint, parts);
        let (shards, bytes) = tokio::time::timeout_at(deadline, upload).await.map_err(late)??;
        let newest = self.newest.lock().clone();
        let next = Manifest {
            kind: Kind::Checkpoint,
            tick: tick.id,
            wall_clock_us: tick.wall_clock_us,
            workers,
            statement: self.statement.clone(),
            is_named: self.is_named,
            job_name: self.job_name.clone(),
            graph: (*self.graph).clone(),
            shards,
            sources: source_logs(&self.graph, &positions, &rows_read),
            finished: false,
            ..newest
        };
        let (number, staged) = tokio::time::timeout_at(deadline, self.put(next)).await.map_err(late)??;
        fail_points::reach("after-manifest").await?;
        fail_points::reach("before-cleanup").await?;
        self.clean_up().await;
        fail_points::reach("after-cleanup").await?;
        Ok(Committed { checkpoint: number, bytes: bytes + staged })
    }

    /// Puts the next manifest, with the output that is staged up to its tick; gives its number, and the size of that output.
    /// From the moment in which the put has succeeded there is no `await` before everything knows of it.
    async fn put(&self, next: Manifest) -> Result<(u64, u64)> {
        fail_points::reach("before-manifest").await?;
        let mut claim = self.claim.lock().await;
        loop {
            let mut bytes = 0;
            let mut by_sink: HashMap<OperatorId, Vec<StoredPart>> = HashMap::new();
            for (sink, part) in self.staged.parts.lock().iter().filter(|(_, p)| p.last_tick <= next.tick) {
                bytes += part.bytes;
                by_sink.entry(*sink).or_default().push(part.clone());
            }
            // Deliveries that end meanwhile are in the next manifest; the record beside the manifests knows them at once.
            let mut sinks = self.logs.to_extend();
            for log in &mut sinks {
                if log.close(by_sink.remove(&log.sink).unwrap_or_default(), self.segment_bytes_max) {
                    tracing::warn!(
                        job = %self.job_name, sink = %log.name, event = "large_tick",
                        "the output of one tick is larger than {} bytes: the target sees it in several steps",
                        self.segment_bytes_max
                    );
                }
            }
            match claim.commit(Manifest { sinks, ..next.clone() }).await? {
                Put::Done(committed) => {
                    let number = committed.number;
                    self.take_in(committed);
                    return Ok((number, bytes));
                }
                Put::Earlier(committed) => {
                    tracing::info!(
                        job = %self.job_name, event = "checkpoint_found", checkpoint = committed.number,
                        "a checkpoint that was reported as failed is there"
                    );
                    self.take_in(committed);
                }
            }
        }
    }

    /// A manifest of this attempt stands: what it holds is staged no more, and may be delivered.
    fn take_in(&self, committed: Manifest) {
        {
            let mut staged = self.staged.parts.lock();
            staged.retain(|(_, p)| p.last_tick > committed.tick);
            self.staged.bytes.store(staged.iter().map(|(_, p)| p.bytes).sum(), Ordering::Relaxed);
        }
        self.metrics.state_bytes.store(committed.state_bytes(), Ordering::Relaxed);
        self.logs.committed(committed.sinks.clone());
        *self.newest.lock() = committed;
        self.metrics.pending_bytes.store(self.logs.pending_bytes(), Ordering::Relaxed);
    }

    /// After a commit. What goes wrong is left to the next one; it takes no longer than a checkpoint may.
    async fn clean_up(&self) {
        let loose = self.loose.lock().clone();
        let claim = self.claim.lock().await;
        match tokio::time::timeout(self.timeout, claim.collect_garbage(self.retained, &loose)).await {
            Ok(Ok(())) => drop(self.loose.lock().drain(..loose.len())),
            Ok(Err(e)) => tracing::warn!(job = %self.job_name, event = "cleanup", "{e}"),
            Err(_) => tracing::warn!(job = %self.job_name, event = "cleanup", "it took too long"),
        }
    }

    /// Makes everything durable that a manifest is to name: the shards, and the size of what was newly stored.
    async fn upload(&self, checkpoint: u64, parts: Vec<CheckpointPart>) -> Result<(Vec<StoredShard>, u64)> {
        // First of all, for workers that must write wait for it.
        let run =
            |p: CheckpointPart| tokio::task::spawn_blocking(move || Ok::<_, Error>((p.worker, p.snapshot.run()?)));
        let running: Vec<_> = parts.into_iter().map(run).collect();
        let mut snapshots: Vec<(usize, Vec<ShardSnapshot>)> = vec![];
        for snapshot in running {
            snapshots.push(snapshot.await.map_err(|e| Error::internal(e.to_string()).transient())??);
        }
        // Everything that was staged before the parts came is in the storage after this.
        let gone = || Error::internal("the stager is gone").transient();
        let (done, stored) = oneshot::channel();
        self.stage.send(Stage::Barrier(done)).await.map_err(|_| gone())?;
        stored.await.map_err(|_| gone())?;
        fail_points::reach("upload-state").await?;
        self.owner.check().await?;
        let mut shards = vec![];
        let mut bytes = 0;
        for (worker, snapshots) in &snapshots {
            for snapshot in snapshots {
                shards.push(self.store(*worker, checkpoint, snapshot, &mut bytes).await?);
            }
        }
        shards.sort_by_key(|s| s.groups.start);
        Ok((shards, bytes))
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
            self.loose.lock().push(object.clone());
            let stored = self.storage.put_file(&file.path, &file.name, object).await?;
            *bytes += stored.size;
            shard.mark_stored(stored.clone());
            files.push(stored);
        }
        Ok(shard.to_stored(files))
    }

    /// Waits until all committed output is in its targets.
    pub async fn delivered_all(&self) {
        self.logs.delivered_all().await;
    }

    /// Records that the job is done: everything read, everything delivered.
    pub async fn finish(&self) -> Result<()> {
        let mut tries = 0;
        loop {
            tries += 1;
            let newest = self.newest.lock().clone();
            let put = self.put(Manifest { kind: Kind::Checkpoint, finished: true, ..newest });
            let put = tokio::time::timeout(self.timeout, put).await.unwrap_or_else(|_| Err(self.too_late()));
            match put {
                Ok(_) => break,
                Err(e) if e.is_transient() && tries < FINISH_TRIES => {
                    tracing::warn!(job = %self.job_name, event = "finish_failed", "{e}; it is tried again");
                }
                Err(e) => return Err(e),
            }
        }
        self.clean_up().await;
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

/// The numbers of what is restored from, and how it fits.
type Restored = Option<(u64, (RestorePlan, Report))>;

/// Begins a new job by one put: with `--from`, its first manifest already holds the state and the positions.
async fn begin_job(
    config: &DurableConfig,
    instance: &InstanceConfig,
    workers: usize,
    id: AttemptId,
) -> Result<(Claim, Manifest, Restored)> {
    if !config.replaces.is_empty() {
        // Before the first manifest, with which the stored job ends.
        can_begin(instance)
            .await
            .map_err(|e| e.permanent().note("nothing was changed: the stored job is as it was"))?;
    }
    let storage = &config.storage;
    let mut first = first_manifest(config, instance, workers);
    let mut restored = None;
    if let Some((from_storage, from)) = &config.from {
        restored = Some((from.number, config.flags.plan(from, &instance.graph)?));
        let shards = attempt::adopt_state(from_storage, from, storage, &id).await?;
        // The graph that the state is of, and the statement that it was planned from: should this process end before the
        // first checkpoint, the next one finds out what fits as this one did.
        first = Manifest {
            shards,
            tick: from.tick,
            wall_clock_us: from.wall_clock_us,
            workers: from.workers,
            max_parallelism: from.max_parallelism,
            sources: from.sources.clone(),
            graph: from.graph.clone(),
            statement: from.statement.clone(),
            ..first
        };
        fail_points::reach("state-adopted").await?;
    }
    let (claim, newest) = Claim::first(storage.clone(), id, first).await?;
    if config.from.is_some() {
        fail_points::reach("from-begun").await?;
        storage.delete(&[layout::ADOPTING.to_owned()]).await?;
    }
    if let Some(checkpoints) = storage.root().parent() {
        for old in &config.replaces {
            if let Err(e) = job::set_aside(checkpoints, old) {
                tracing::warn!(job = %instance.job_name, event = "cleanup", "{e}");
            }
        }
    }
    Ok((claim, newest, restored))
}

/// A sink that is fed from checkpoints, and what its target says.
struct Asked<'a> {
    ix: NodeIx,
    spec: &'a SinkSpec,
    sink: &'a Arc<dyn Sink>,
    /// What was known of the target.
    stored: Option<serde_json::Value>,
    facts: Result<serde_json::Value>,
}

/// Asks all targets at once: one that is away is waited for.
async fn ask_targets<'a>(
    instance: &'a InstanceConfig,
    stored: impl Fn(OperatorId) -> Option<serde_json::Value>,
) -> Result<Vec<Asked<'a>>> {
    let stored = &stored;
    let fed = instance.graph.sinks().filter(|(_, spec)| spec.delivery != Delivery::None);
    let ask = fed.map(|(ix, spec)| async move {
        let sink = instance.sinks.get(&ix).ok_or_else(|| Error::internal("a sink that was not opened"))?;
        let stored = stored(instance.graph.nodes[ix].id);
        let facts = sink.prepare(stored.as_ref()).await;
        Ok(Asked { ix, spec, sink, stored, facts })
    });
    futures::future::join_all(ask).await.into_iter().collect()
}

/// Asks all targets and sources whether a new job could begin.
async fn can_begin(instance: &InstanceConfig) -> Result<()> {
    for Asked { spec, facts, .. } in ask_targets(instance, |_| None).await? {
        facts.map_err(|e| e.context(format_args!("sink {}", spec.def.name)))?;
    }
    for source in instance.sources.values() {
        find_splits(&**source, |_| false, false).await?;
    }
    Ok(())
}

fn first_manifest(config: &DurableConfig, instance: &InstanceConfig, workers: usize) -> Manifest {
    let graph = &instance.graph;
    Manifest {
        engine: manifest::engine_version().to_owned(),
        job: config.job.clone(),
        job_name: instance.job_name.clone(),
        is_named: config.is_named,
        attempt: AttemptId::unclaimed(),
        number: 0,
        kind: Kind::Claim,
        tick: 0,
        wall_clock_us: now_us(),
        workers,
        max_parallelism: instance.options.max_parallelism,
        codecs: manifest::CodecVersions::CURRENT,
        statement: config.statement.clone(),
        graph: (**graph).clone(),
        shards: vec![],
        sources: vec![],
        // By these the job is found.
        sinks: graph.sinks().map(|(ix, spec)| SinkLog::new(graph.nodes[ix].id, &spec.def.name)).collect(),
        finished: false,
        replaces: config.replaces.clone(),
    }
}

/// `500 ms`, `10 s`
fn text_of(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 != 0 => format!("{ms} ms"),
        ms => format!("{} s", ms / 1000),
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
