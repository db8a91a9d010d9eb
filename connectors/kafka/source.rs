//! The source: finds partitions and where they begin and end; hands them to reading threads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use thalweg_connector_api::{Piece, Position, RateLimit, Reader, ReaderCx, Source, SourceTable, Split, SplitId};
use thalweg_core::{Error, ErrorCode, Result};
use tokio::sync::mpsc;

use crate::client::{Client, EARLIEST, Kind, LATEST, Sees};
use crate::columns::Layout;
use crate::errors::Class;
use crate::options::{End, Flavor, KafkaOptions, Start};
use crate::position::{Partition, PartitionPosition, recreated};
use crate::properties::Reset;
use crate::reader::{Assigned, Command, Output, ReaderParts, ReaderThread};
use crate::settings;
use crate::topics::{Use, failed, look_up};

/// Pieces that are read ahead of the runtime's queue.
const AHEAD_MAX: usize = 2;
const RETRY: Duration = Duration::from_millis(100);

pub struct KafkaSource {
    inner: Arc<Inner>,
    rate: Arc<RateLimit>,
}

/// What also the threads see.
pub struct Inner {
    pub flavor: Flavor,
    pub table: SourceTable,
    pub options: KafkaOptions,
    pub layout: Layout,
    /// The table comes as upserts.
    pub upserts: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    asking: Option<Arc<Client>>,
    /// What was found the last time.
    found: Vec<Partition>,
}

impl KafkaSource {
    pub fn open(flavor: Flavor, table: &SourceTable) -> Result<Self> {
        let options = KafkaOptions::of(flavor, &table.def)?;
        let layout = Layout::of(flavor, &table.def)?;
        let rate = Arc::new(RateLimit::new(options.rows_per_second));
        let upserts = crate::comes_as_upserts(flavor, &table.def, &options, &layout);
        let inner = Inner { flavor, table: table.clone(), options, layout, upserts, state: Mutex::default() };
        Ok(KafkaSource { inner: Arc::new(inner), rate })
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|e| Error::internal(format!("asking kafka: {e}")).transient())?
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn splits(&self) -> Result<Vec<Split>> {
        let found = self.blocking(Inner::partitions).await?;
        Ok(found.iter().map(Partition::to_split).collect())
    }

    async fn start(&self, splits: &[Split], found_later: bool) -> Result<Vec<Option<Position>>> {
        let partitions = splits.iter().map(Partition::of).collect::<Result<Vec<_>>>()?;
        let starts = self.blocking(move |inner| inner.starts(&partitions, found_later)).await?;
        Ok(starts.iter().map(|p| Some(p.to_position())).collect())
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.inner.options.discovery
    }

    fn reader(&self, splits: Vec<(Split, Option<Position>)>, cx: ReaderCx) -> Result<Box<dyn Reader>> {
        let assigned = splits.iter().map(assigned).collect::<Result<Vec<_>>>()?;
        let (pieces_in, pieces) = mpsc::channel(AHEAD_MAX);
        let (commands, commands_out) = std::sync::mpsc::channel();
        let name = format!("kafka-{}", cx.worker);
        let thread = ReaderThread::new(ReaderParts {
            source: self.inner.clone(),
            rate: self.rate.clone(),
            cx,
            output: pieces_in,
            commands: commands_out,
        })?;
        std::thread::Builder::new()
            .name(name)
            .spawn(move || thread.run(assigned))
            .map_err(|e| Error::io(format!("a thread for reading kafka cannot be started: {e}")))?;
        Ok(Box::new(KafkaReader {
            pieces,
            commands,
            ended: false,
            commits: self.inner.options.properties.group.is_some(),
        }))
    }
}

fn assigned((split, position): &(Split, Option<Position>)) -> Result<Assigned> {
    let partition = Partition::of(split)?;
    let position = match position {
        Some(p) => PartitionPosition::of(p, &split.id)?,
        None => return Err(Error::internal(format!("split {} has no position", split.id))),
    };
    Ok(Assigned { id: split.id.clone(), partition, position })
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client for questions, kept as they come again.
    pub fn asking(&self) -> Result<Arc<Client>> {
        let mut state = self.state();
        if let Some(client) = &state.asking {
            return Ok(client.clone());
        }
        let settings = match &self.options.properties.group {
            Some(group) => settings::consumer(&self.options, group),
            None => settings::asking(&self.options),
        };
        let client = Arc::new(Client::new(Kind::Consumer, &settings, &self.options.of)?);
        state.asking = Some(client.clone());
        Ok(client)
    }

    /// The partitions of all topics, as they are now.
    fn partitions(&self) -> Result<Vec<Partition>> {
        let client = self.asking()?;
        let before = self.state().found.clone();
        let topics = match look_up(&client, &self.options, &self.options.topics, Use::Read) {
            Ok(topics) => topics,
            // Readers wait for the cluster by themselves; what is not there cannot have new partitions.
            Err(e) if e.is_transient() && !before.is_empty() => {
                tracing::debug!("{}: {e}", self.options.of);
                return Ok(before);
            }
            Err(e) => return Err(e),
        };
        let mut found = vec![];
        for topic in topics {
            if let Some(old) = before.iter().find(|p| p.topic == topic.name)
                && let (Some(old), Some(new)) = (&old.topic_id, &topic.id)
                && old != new
            {
                return Err(recreated(&self.options.of, &topic.name, old, new));
            }
            let one = |p: &i32| Partition { topic: topic.name.clone(), partition: *p, topic_id: topic.id.clone() };
            found.extend(topic.partitions.iter().map(one));
        }
        self.state().found.clone_from(&found);
        Ok(found)
    }

    fn offsets(&self, client: &Client, wanted: &[(&str, i32, i64)], sees: Sees) -> Result<Vec<i64>> {
        let deadline = Instant::now() + self.options.properties.api_timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match client.offsets(wanted, sees, left) {
                Ok(offsets) => return Ok(offsets),
                // A new partition may not have its leader yet.
                Err(f) if f.class() == Class::Retriable && !left.is_zero() => std::thread::sleep(RETRY.min(left)),
                Err(f) => return Err(failed(&self.options, "offsets cannot be looked up", &f)),
            }
        }
    }

    /// Where new partitions begin, and end: looked up once, and kept from then on.
    fn starts(&self, partitions: &[Partition], found_later: bool) -> Result<Vec<PartitionPosition>> {
        let client = self.asking()?;
        let all = |spec: i64| partitions.iter().map(|p| (p.topic.as_str(), p.partition, spec)).collect::<Vec<_>>();
        let earliest = self.offsets(&client, &all(EARLIEST), Sees::Committed)?;
        let at = |offset: i64, end: Option<i64>, p: &Partition| PartitionPosition {
            offset,
            end,
            topic_id: p.topic_id.clone(),
            leader_epoch: None,
        };
        if found_later {
            // They came to be after the job, so all of them is new; a bounded read has its end already.
            let bounded = self.options.end != End::Never;
            return Ok(partitions.iter().zip(earliest).map(|(p, e)| at(e, bounded.then_some(e), p)).collect());
        }
        let latest = self.offsets(&client, &all(LATEST), Sees::Committed)?;
        let by_time = |ms: i64| -> Result<Vec<i64>> {
            let found = self.offsets(&client, &all(ms), Sees::Committed)?;
            // No message is so young.
            Ok(found.into_iter().zip(&latest).map(|(o, l)| if o < 0 { *l } else { o }).collect())
        };
        let starts = match &self.options.start {
            Start::Earliest => earliest.clone(),
            Start::Latest => latest.clone(),
            Start::Time(ms) => by_time(*ms)?,
            Start::Offsets(given) => self.specific(given, partitions, "scan.startup.specific-offsets")?,
            Start::Group => {
                let committed = self.committed(&client, partitions)?;
                let reset = |i: usize| match self.options.properties.reset {
                    Some(Reset::Earliest) => Some(earliest[i]),
                    Some(Reset::Latest) => Some(latest[i]),
                    None => None,
                };
                let mut starts = vec![];
                for (i, committed) in committed.into_iter().enumerate() {
                    let found = committed.or_else(|| reset(i)).ok_or_else(|| self.nothing_committed(&partitions[i]))?;
                    starts.push(found);
                }
                starts
            }
        };
        // An offset within a transaction that is open is a place to wait at: a group may have been committed by a consumer
        // that reads what is not committed. Asked last: what the group has, or the messages of a time, may be younger.
        let highest = self.offsets(&client, &all(LATEST), Sees::All)?;
        for ((start, p), (first, last)) in starts.iter().zip(partitions).zip(earliest.iter().zip(&highest)) {
            if start < first || start > last {
                return Err(gone(&self.options.of, p, *start, *first, *last).permanent());
            }
        }
        let ends: Option<Vec<i64>> = match &self.options.end {
            End::Never => None,
            End::Latest => Some(latest),
            End::Time(ms) => Some(by_time(*ms)?),
            End::Offsets(given) => Some(self.specific(given, partitions, "scan.bounded.specific-offsets")?),
            End::Group => {
                let committed = self.committed(&client, partitions)?;
                let mut ends = vec![];
                for (p, committed) in partitions.iter().zip(committed) {
                    ends.push(committed.ok_or_else(|| self.nothing_committed(p))?);
                }
                Some(ends)
            }
        };
        let end = |i: usize| ends.as_ref().map(|e| e[i]);
        Ok(partitions.iter().enumerate().map(|(i, p)| at(starts[i], end(i), p)).collect())
    }

    fn specific(&self, given: &BTreeMap<i32, i64>, partitions: &[Partition], option: &str) -> Result<Vec<i64>> {
        if let Some(unknown) = given.keys().find(|g| !partitions.iter().any(|p| p.partition == **g)) {
            return Err(Error::option(format!(
                "{}: '{option}' names partition {unknown}, which is not there",
                self.options.of
            )));
        }
        let of = |p: &Partition| {
            given.get(&p.partition).copied().ok_or_else(|| {
                Error::option(format!("{}: '{option}' does not name partition {}", self.options.of, p.partition))
                    .note(format!("{} has {} partitions; give an offset for each", p.topic, partitions.len()))
            })
        };
        partitions.iter().map(of).collect()
    }

    fn committed(&self, client: &Client, partitions: &[Partition]) -> Result<Vec<Option<i64>>> {
        let wanted: Vec<_> = partitions.iter().map(|p| (p.topic.as_str(), p.partition)).collect();
        if self.options.properties.group.is_none() {
            return Ok(vec![None; partitions.len()]);
        }
        let found = client
            .committed(&wanted, self.options.properties.api_timeout)
            .map_err(|f| failed(&self.options, "the group's offsets cannot be looked up", &f))?;
        Ok(found.into_iter().map(|c| c.map(|(offset, _)| offset)).collect())
    }

    fn nothing_committed(&self, p: &Partition) -> Error {
        let of = &self.options.of;
        let e = match &self.options.properties.group {
            Some(group) => Error::option(format!(
                "{of}: group {group} has no offset of partition {} of topic {}",
                p.partition, p.topic
            )),
            None => Error::option(format!("{of}: where is reading to begin?")),
        };
        e.note("'scan.startup.mode' = 'earliest-offset' or 'latest-offset'; or group-offsets (the default) with 'properties.group.id' and 'properties.auto.offset.reset' = 'earliest' or 'latest'")
    }
}

/// An offset that is not in the partition.
pub fn gone(of: &str, p: &Partition, stored: i64, earliest: i64, latest: i64) -> Error {
    let Partition { topic, partition, .. } = p;
    let what = if stored < earliest {
        format!("{} offsets are missing", earliest - stored)
    } else {
        "the partition was made anew, or its end was cut off".to_owned()
    };
    Error::new(
        ErrorCode::Checkpoint,
        format!(
            "{of}: topic {topic}, partition {partition}: offset {stored} is to be read next, but the partition has offsets {earliest} to {latest}: {what}"
        ),
    )
    .note("keep messages longer (retention.ms, retention.bytes) than a job may stand still; begin anew with --fresh, which reads what is there and writes everything again")
}

/// The end of a reading thread that the runtime holds. The thread ends when this is dropped.
struct KafkaReader {
    pieces: mpsc::Receiver<Output>,
    commands: std::sync::mpsc::Sender<Command>,
    ended: bool,
    /// A group's offsets are kept for whoever watches it.
    commits: bool,
}

#[async_trait]
impl Reader for KafkaReader {
    async fn assign(&mut self, splits: Vec<(Split, Option<Position>)>) -> Result<()> {
        let assigned = splits.iter().map(assigned).collect::<Result<Vec<_>>>()?;
        self.ended &= assigned.is_empty();
        // If the thread has ended it has said why, and `next` will tell.
        let _ = self.commands.send(Command::Assign(assigned));
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Piece>> {
        if self.ended {
            return Ok(None);
        }
        match self.pieces.recv().await {
            Some(Output::Piece(piece)) => Ok(Some(piece)),
            Some(Output::Failed(e)) => Err(e),
            Some(Output::End) => {
                self.ended = true;
                Ok(None)
            }
            None => Err(Error::internal("the thread that reads kafka has ended").transient()),
        }
    }

    async fn committed(&mut self, positions: &[(SplitId, Position)]) -> Result<()> {
        if self.commits {
            let offset = |(id, p): &(SplitId, Position)| Some((id.clone(), PartitionPosition::of(p, id).ok()?.offset));
            let _ = self.commands.send(Command::Commit(positions.iter().filter_map(offset).collect()));
        }
        Ok(())
    }
}
