//! The reader of one server, as the runtime sees it: hands out what its task has read.

use async_trait::async_trait;
use thalweg_connector_api::{Piece, Position, Reader, Split};
use thalweg_core::{Error, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::pump::{Pump, PumpConfig};

/// Pieces that are ready and not taken.
const PIECES_AHEAD_MAX: usize = 2;

/// What the task sends: pieces, then that it is through, or why it ended.
pub type Sender = mpsc::Sender<Result<Option<Piece>>>;

pub struct MysqlReader {
    config: PumpConfig,
    /// Not started yet.
    pump: Option<Pump>,
    running: Option<Running>,
    bounded: bool,
    ended: bool,
}

struct Running {
    pieces: mpsc::Receiver<Result<Option<Piece>>>,
    task: JoinHandle<()>,
}

impl MysqlReader {
    /// At most one split: a source of a server has one.
    pub fn new(config: PumpConfig, splits: Vec<(Split, Option<Position>)>, bounded: bool) -> Result<Self> {
        let mut reader = MysqlReader { config, pump: None, running: None, bounded, ended: false };
        for (split, position) in splits {
            reader.take_split(split, position)?;
        }
        Ok(reader)
    }

    fn take_split(&mut self, split: Split, position: Option<Position>) -> Result<()> {
        if self.pump.is_some() || self.running.is_some() {
            return Err(Error::internal("a server has one split"));
        }
        let position = position.ok_or_else(|| Error::internal("a server is read from a position that is known"))?;
        self.pump = Some(Pump::new(self.config.clone(), split.id, &position)?);
        Ok(())
    }
}

#[async_trait]
impl Reader for MysqlReader {
    async fn assign(&mut self, splits: Vec<(Split, Option<Position>)>) -> Result<()> {
        splits.into_iter().try_for_each(|(split, position)| self.take_split(split, position))
    }

    async fn next(&mut self) -> Result<Option<Piece>> {
        if let Some(pump) = self.pump.take() {
            let (sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
            let task = tokio::spawn(async move {
                let result = pump.run(&sender).await;
                // If nobody hears it, nobody waits for it.
                let _ = sender.send(result.map(|()| None)).await;
            });
            self.running = Some(Running { pieces, task });
        }
        let Some(running) = &mut self.running else {
            if self.bounded {
                return Ok(None);
            }
            // Another worker reads the server; the input goes on.
            return std::future::pending().await;
        };
        if self.ended {
            return Ok(None);
        }
        match running.pieces.recv().await {
            Some(Ok(None)) => {
                self.ended = true;
                Ok(None)
            }
            Some(Ok(piece)) => Ok(piece),
            Some(Err(e)) => Err(e),
            None => {
                let why = (&mut running.task).await.err().map_or("gone".into(), |panicked| panicked.to_string());
                Err(Error::internal(format!("the task that reads MySQL: {why}")).transient())
            }
        }
    }
}

impl Drop for MysqlReader {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.task.abort();
        }
    }
}
