//! What an attempt keeps in the checkpoint storage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use thalweg_connector_api::{Position, SplitId};
use thalweg_core::{Error, Result, Tick};
use thalweg_graph::NodeIx;
use thalweg_state::Restore;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::attempt::Attempt;
use crate::command::{CheckpointPart, Stage};
use crate::instance::InstanceConfig;
use crate::metrics::Metrics;

#[derive(Clone)]
pub struct DurableConfig {}

#[derive(Debug, Clone)]
pub struct RestoreReport {}

pub struct RestorePoint {
    pub tick: u64,
    pub wall_clock_us: i64,
    pub positions: BTreeMap<NodeIx, BTreeMap<SplitId, Position>>,
    pub restore: Restore,
    pub report: Option<RestoreReport>,
}

pub struct Commit {
    pub checkpoint: u64,
    pub tick: Tick,
    pub positions: BTreeMap<NodeIx, BTreeMap<SplitId, Position>>,
    pub finished: bool,
    pub parts: Vec<CheckpointPart>,
    pub began: Instant,
}

#[derive(Debug)]
pub struct Committed {
    pub checkpoint: u64,
    pub bytes: u64,
}

pub struct Durable {}

impl Durable {
    pub async fn begin(
        _: &DurableConfig,
        _: &InstanceConfig,
        _: Arc<Metrics>,
        _: Arc<Attempt>,
    ) -> Result<(Self, RestorePoint)> {
        Err(Error::internal("no checkpoints yet"))
    }
    pub fn is_finished(&self) -> bool {
        false
    }
    pub fn next_checkpoint(&self) -> u64 {
        0
    }
    pub fn staged_bytes(&self) -> u64 {
        0
    }
    pub fn pending_bytes(&self) -> u64 {
        0
    }
    pub fn stage(&self) -> mpsc::Sender<Stage> {
        mpsc::channel(1).0
    }
    pub async fn commit(&self, _: Commit) -> Result<Committed> {
        Err(Error::internal("no checkpoints yet"))
    }
    pub async fn deliver_all(&self, _: Option<Duration>) -> Result<()> {
        Ok(())
    }
    pub fn undelivered(&self) -> Vec<String> {
        vec![]
    }
}
