//! Sources and their splits: found at the start and while the attempt runs, handed to the workers' readers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use thalweg_connector_api::{Position, Source, Split, SplitId};
use thalweg_core::{Error, Result};
use thalweg_graph::NodeIx;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Coordinator;
use crate::source::{ReaderCommand, SourceQueue};

/// A source with its readers on all workers.
pub struct RunningSource {
    pub node: NodeIx,
    pub source: Arc<dyn Source>,
    /// Per worker.
    pub queues: Vec<Arc<SourceQueue>>,
    pub readers: Vec<mpsc::UnboundedSender<ReaderCommand>>,
    pub known: BTreeSet<SplitId>,
}

impl RunningSource {
    /// Splits go to the workers in turn, in the order in which they are found.
    pub fn assign(
        &mut self,
        splits: Vec<Split>,
        positions: &BTreeMap<SplitId, Position>,
    ) -> Vec<Vec<(Split, Option<Position>)>> {
        let workers = self.queues.len();
        let mut of_worker = vec![vec![]; workers];
        for split in splits {
            if self.known.insert(split.id.clone()) {
                let position = positions.get(&split.id).cloned();
                of_worker[(self.known.len() - 1) % workers].push((split, position));
            }
        }
        of_worker
    }
}

impl Coordinator {
    pub(super) fn discovery_timer(&self) -> Option<(Duration, Instant)> {
        let every = self.sources.iter().filter_map(|s| s.source.discovery_interval()).min()?;
        Some((every, Instant::now() + every))
    }

    /// Looks for new splits of every source that may get some.
    pub(super) fn discover(&self) -> JoinHandle<Vec<(usize, Result<Found>)>> {
        let sources: Vec<(usize, Arc<dyn Source>, BTreeSet<SplitId>)> = self
            .sources
            .iter()
            .enumerate()
            .filter(|(_, s)| s.source.discovery_interval().is_some())
            .map(|(ix, s)| (ix, s.source.clone(), s.known.clone()))
            .collect();
        tokio::spawn(async move {
            let mut found = vec![];
            for (ix, source, known) in sources {
                found.push((ix, find_splits(&*source, |id| known.contains(id), true).await));
            }
            found
        })
    }

    pub(super) fn on_splits(&mut self, found: Discovered) -> Result<()> {
        for (ix, found) in found.map_err(|e| Error::internal(e.to_string()).transient())? {
            let source = &mut self.sources[ix];
            let positions = self.positions.entry(source.node).or_default();
            let (splits, starts) = match found {
                Ok(found) => found,
                // What is read already goes on; the next look may do better.
                Err(e) if e.is_transient() => {
                    tracing::warn!(job = %self.job_name, event = "discovery_failed", "{e}; it is looked again");
                    continue;
                }
                Err(e) => return Err(e),
            };
            positions.extend(starts);
            for (worker, splits) in source.assign(splits, positions).into_iter().enumerate() {
                if !splits.is_empty() {
                    let _ = source.readers[worker].send(ReaderCommand::Assign(splits));
                }
            }
        }
        Ok(())
    }
}

/// All splits of a source, and where those that are new begin.
pub type Found = (Vec<Split>, Vec<(SplitId, Position)>);

type Discovered = Result<Vec<(usize, Result<Found>)>, tokio::task::JoinError>;

/// Asks a source for its splits, and where those begin that are not known.
///
/// # Errors
/// Of the source.
pub async fn find_splits(source: &dyn Source, is_known: impl Fn(&SplitId) -> bool, found_later: bool) -> Result<Found> {
    let splits = source.splits().await?;
    let new: Vec<Split> = splits.iter().filter(|s| !is_known(&s.id)).cloned().collect();
    if new.is_empty() {
        return Ok((splits, vec![]));
    }
    let starts = source.start(&new, found_later).await?;
    let starts = new.into_iter().zip(starts).filter_map(|(s, p)| Some((s.id, p?))).collect();
    Ok((splits, starts))
}

/// Queues of one worker, by source node.
pub fn queues_of(sources: &[RunningSource], worker: usize) -> HashMap<NodeIx, Arc<SourceQueue>> {
    sources.iter().map(|s| (s.node, s.queues[worker].clone())).collect()
}
