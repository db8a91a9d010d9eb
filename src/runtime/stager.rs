//! Staging: encoded output goes to the checkpoint storage as it comes, beside the stream, long before a manifest names it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use thalweg_checkpoint::segments::{self, StoredPart};
use thalweg_checkpoint::{AttemptId, Owner, Storage, fail_points};
use thalweg_core::{Error, Result};
use thalweg_graph::{Graph, NodeIx, OperatorId};
use tokio::sync::mpsc;

use crate::attempt::Attempt;
use crate::command::{Stage, StagedChunks};

const STAGE_RETRY: Duration = Duration::from_millis(200);
const STAGE_RETRY_MAX: Duration = Duration::from_secs(5);

/// Output that is in the storage and in no manifest.
#[derive(Default)]
pub struct Staged {
    pub parts: Mutex<Vec<(OperatorId, StoredPart)>>,
    pub bytes: AtomicU64,
}

/// Writes staged chunks to the storage, one after another.
pub struct Stager {
    pub storage: Arc<Storage>,
    pub attempt_id: AttemptId,
    pub graph: Arc<Graph>,
    pub staged: Arc<Staged>,
    pub job_name: String,
    pub owner: Arc<Owner>,
    pub attempt: Arc<Attempt>,
    /// Of the next part, per sink and worker.
    pub seqs: HashMap<(NodeIx, usize), u64>,
}

impl Stager {
    pub async fn run(mut self, mut receiver: mpsc::Receiver<Stage>) {
        while let Some(message) = receiver.recv().await {
            match message {
                Stage::Barrier(done) => {
                    let _ = done.send(());
                }
                Stage::Chunks(chunks) => {
                    if let Err(e) = self.stage(chunks).await {
                        return self.attempt.fail(e);
                    }
                }
            }
        }
    }

    /// Tries until it succeeds or the attempt is over: encoded rows are never given up, and behind them reading waits. A
    /// permanent error ends the attempt.
    async fn stage(&mut self, chunks: StagedChunks) -> Result<()> {
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
                    return Ok(());
                }
                Err(e) if !e.is_transient() => return Err(e),
                Err(e) => {
                    tracing::warn!(
                        job = %self.job_name, event = "staging_failed", retry_in_ms = wait.as_millis() as u64,
                        "{e}; reading waits, nothing is lost"
                    );
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        // Workers wait for the end of this one before the next attempt, or the end of the job, can come.
                        () = self.attempt.failure() => return Err(Error::cancelled()),
                    }
                    wait = (wait * 2).min(STAGE_RETRY_MAX);
                }
            }
        }
    }

    async fn try_stage(&self, chunks: &StagedChunks, sink: OperatorId, seq: u64) -> Result<StoredPart> {
        fail_points::reach("stage-output").await?;
        self.owner.check().await?;
        segments::stage(&self.storage, &self.attempt_id, sink, chunks.worker, seq, &chunks.part).await
    }
}
