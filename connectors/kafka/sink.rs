//! The sink: staged records go to the topic in transactions that also hold the mark.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use futures::StreamExt;
use thalweg_connector_api::{EncodeCx, Encoder, Segment, Sink};
use thalweg_core::mark::{JobId, Mark};
use thalweg_core::table::{Delivery, TableDef};
use thalweg_core::{Error, Result};
use tokio::sync::mpsc;

use crate::client::{Client, Kind};
use crate::columns::Layout;
use crate::encode::{KafkaEncoder, Target};
use crate::facts::{TopicFacts, made_anew};
use crate::mark::{self, MarkOffset};
use crate::options::{Flavor, KafkaOptions};
use crate::producer::{Part, Producer};
use crate::settings;

/// Producers that are given up and in whose calls librdkafka still waits for a broker, at most.
const WAITING_MAX: usize = 4;
/// Chunks that are read ahead of the producer.
const AHEAD_MAX: usize = 4;

pub struct KafkaSink {
    flavor: Flavor,
    table: TableDef,
    layout: Layout,
    inner: Arc<Inner>,
}

/// What also blocking tasks see.
struct Inner {
    options: KafkaOptions,
    topic: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    facts: Option<TopicFacts>,
    /// Of the last `fence`.
    producer: Option<Arc<Producer>>,
    /// All that were made and may still be there.
    made: Vec<Weak<Producer>>,
}

impl KafkaSink {
    pub fn open(flavor: Flavor, table: &TableDef) -> Result<Self> {
        let options = KafkaOptions::of(flavor, table)?;
        let layout = Layout::of(flavor, table)?;
        let topic = options.sink_topic()?.to_owned();
        let inner = Arc::new(Inner { options, topic, state: Mutex::default() });
        Ok(KafkaSink { flavor, table: table.clone(), layout, inner })
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|e| Error::internal(format!("writing to kafka: {e}")).transient())?
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, stored: Option<&TopicFacts>) -> Result<TopicFacts> {
        let client = Client::new(Kind::Producer, &settings::asking(&self.options), &self.options.of)?;
        let facts = TopicFacts::look(&client, &self.options, stored)?;
        let known = self.state().facts.replace(facts.clone());
        // Of an attempt before this one, in the same process.
        if let (Some(before), Some(now)) = (known.and_then(|k| k.topic_id), &facts.topic_id)
            && before != *now
        {
            return Err(made_anew(&self.options.of, &self.topic, &before, now));
        }
        Ok(facts)
    }

    fn fence(&self, job: &JobId) -> Result<Mark> {
        let known = self.state().facts.clone();
        let facts = match known {
            Some(facts) => facts,
            None => self.look(None)?,
        };
        // The old one goes before the new one comes: its destruction waits for its threads.
        let old = self.state().producer.take();
        drop(old);
        self.state().made.retain(|p| p.strong_count() > 0);
        let waiting = self.state().made.len();
        if waiting >= WAITING_MAX {
            let Inner { options, topic, .. } = self;
            return Err(Error::io(format!(
                "{}: topic {topic}: {waiting} producers before this one still wait for a broker",
                options.of
            )));
        }
        let name = mark::name_of(&self.options, job, &self.topic);
        let exactly_once = self.options.delivery == Delivery::ExactlyOnce;
        let settings =
            settings::producer(&self.options, exactly_once.then_some(name.as_str()), facts.message_bytes_max);
        let timeout = settings::transaction_timeout(&self.options);
        let producer = Arc::new(Producer::new(&settings, &self.options.of, &self.topic, facts.topic_id, timeout)?);
        self.state().made.push(Arc::downgrade(&producer));
        let mark = if exactly_once {
            producer.init(self.options.properties.api_timeout)?;
            mark::read(&self.options, &name, &self.topic)?
        } else {
            Mark::Absent
        };
        self.state().producer = Some(producer);
        Ok(mark)
    }

    fn deliver(&self, mut parts: mpsc::Receiver<Part>, job: &JobId, segment: u64) -> Result<()> {
        let producer = self.state().producer.take().ok_or_else(|| {
            Error::io(format!("{}: topic {}: the producer has to be made anew", self.options.of, self.topic))
        })?;
        if self.options.delivery == Delivery::ExactlyOnce {
            let name = mark::name_of(&self.options, job, &self.topic);
            producer.transaction(&mut parts, MarkOffset::new(&name, &self.topic, job, segment)?)?;
        } else {
            producer.send(&mut parts)?;
        }
        // After an error it is of no use.
        self.state().producer = Some(producer);
        Ok(())
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn delivery(&self) -> Delivery {
        self.inner.options.delivery
    }

    async fn prepare(&self, stored: Option<&serde_json::Value>) -> Result<serde_json::Value> {
        let stored: Option<TopicFacts> = stored
            .map(|s| serde_json::from_value(s.clone()))
            .transpose()
            .map_err(|e| Error::checkpoint(format!("what is stored of topic {}: {e}", self.inner.topic)))?;
        let has_key = self.layout.key.is_some();
        let facts = self.blocking(move |inner| inner.look(stored.as_ref())).await?;
        if facts.compacted && !has_key {
            return Err(Error::option(format!(
                "table {}: topic {} is compacted (cleanup.policy), which needs messages with keys",
                self.table.name, self.inner.topic
            ))
            .note("set 'key.format' and 'key.fields', or declare PRIMARY KEY (…) NOT ENFORCED"));
        }
        serde_json::to_value(&facts).map_err(|e| Error::internal(e.to_string()))
    }

    fn encoder(&self, cx: EncodeCx) -> Result<Box<dyn Encoder>> {
        let facts: TopicFacts = serde_json::from_value(cx.facts)
            .map_err(|e| Error::internal(format!("table {}: the topic was not looked at: {e}", self.table.name)))?;
        let target = Target { flavor: self.flavor, table: &self.table, topic: &self.inner.topic, layout: &self.layout };
        Ok(Box::new(KafkaEncoder::new(&target, facts, cx.worker, cx.changes)?))
    }

    async fn fence(&self, job: &JobId) -> Result<Mark> {
        let job = job.clone();
        self.blocking(move |inner| inner.fence(&job)).await
    }

    async fn deliver(&self, segments: &[Segment], mark: &Mark) -> Result<()> {
        let Mark::At { job, segment } = mark else {
            return Err(Error::internal("a delivery without a mark"));
        };
        let (job, segment) = (job.clone(), *segment);
        let (parts, parts_out) = mpsc::channel(AHEAD_MAX);
        let task = self.blocking(move |inner| inner.deliver(parts_out, &job, segment));
        let feed = async {
            for segment in segments {
                let mut chunks = segment.chunks.read();
                while let Some(chunk) = chunks.next().await {
                    let chunk = chunk?;
                    if !chunk.is_empty() && parts.send(Part::Chunk(chunk)).await.is_err() {
                        // The task has ended, and says why.
                        return Ok(None);
                    }
                }
            }
            let _ = parts.send(Part::End).await;
            // Kept open until the task has ended: if this future is dropped before, the task gives up.
            Ok(Some(parts))
        };
        let (fed, done) = tokio::join!(feed, task);
        // What could not be read from the storage says more than the delivery that was given up for it.
        let fed: Result<Option<mpsc::Sender<Part>>> = fed;
        fed?;
        done
    }
}
