//! What "latest" means is found out once: a job that restarts before it has read a row begins where it first began, and
//! what a sink found out of its target at the first start is given to it at every later one, and used while the target is
//! down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use arrow::array::{Int64Array, RecordBatch};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use thalweg_connector_api::sink::{EncodeCx, Encoder, Segment, Sink};
use thalweg_connector_api::{
    Connector, Piece, Position, Reader, ReaderCx, Registry, Source, SourceTable, Split, SplitId,
};
use thalweg_session::core::fold::RowChanges;
use thalweg_session::core::mark::{JobId, Mark};
use thalweg_session::core::options::OptionSpec;
use thalweg_session::core::table::{ChangelogMode, Delivery, SinkInfo, SinkMode, SourceInfo, TableDef};
use thalweg_session::core::{Changes, Error, Result, Tick};
use thalweg_session::plan::parse_script;
use thalweg_session::{Answer, Session, SessionOptions};

/// Rows of a run.
const ROWS: i64 = 50;

/// A log that grows whenever somebody asks for its end, and the target that its rows go to.
#[derive(Default)]
struct World {
    end: AtomicI64,
    /// First numbers that readers were told to begin at.
    begun: Mutex<Vec<i64>>,
    /// What `prepare` was given.
    stored: Mutex<Vec<Option<Value>>>,
    /// How often the target is down when it is looked at again.
    down: AtomicUsize,
    /// What encoders were given.
    facts: Mutex<Vec<Value>>,
    delivered: Mutex<(Vec<u8>, Option<Mark>)>,
}

struct Growing(Arc<World>);

impl Connector for Growing {
    fn name(&self) -> &'static str {
        "growing"
    }

    fn source_options(&self, _: &TableDef) -> Option<Vec<OptionSpec>> {
        Some(vec![])
    }

    fn sink_options(&self, _: &TableDef) -> Option<Vec<OptionSpec>> {
        Some(vec![])
    }

    fn source_info(&self, _: &TableDef) -> Result<SourceInfo> {
        Ok(SourceInfo {
            identity: BTreeMap::new(),
            variant: BTreeMap::new(),
            changelog: ChangelogMode::Append,
            bounded: true,
            metadata: vec![],
            unstable_metadata: vec![],
            note: None,
        })
    }

    fn sink_info(&self, _: &TableDef) -> Result<SinkInfo> {
        Ok(SinkInfo {
            identity: BTreeMap::new(),
            accepts: SinkMode::Retract,
            delivery: Delivery::ExactlyOnce,
            needs_net: true,
            key: None,
            metadata: vec![],
        })
    }

    fn open_source(&self, _: &[SourceTable], _: &JobId) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(Growing(self.0.clone())))
    }

    fn open_sink(&self, _: &TableDef, _: &JobId) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(Growing(self.0.clone())))
    }
}

#[async_trait]
impl Source for Growing {
    async fn splits(&self) -> Result<Vec<Split>> {
        Ok(vec![Split { id: SplitId("log".to_owned()), detail: Value::Null }])
    }

    async fn start(&self, splits: &[Split], found_later: bool) -> Result<Vec<Option<Position>>> {
        assert!(!found_later, "the split is there from the first start");
        let end = self.0.end.fetch_add(1_000, Ordering::SeqCst);
        Ok(splits.iter().map(|_| Some(Position(json!(end)))).collect())
    }

    fn reader(&self, splits: Vec<(Split, Option<Position>)>, _: ReaderCx) -> Result<Box<dyn Reader>> {
        let at = splits.first().map(|(_, p)| p.as_ref().and_then(|p| p.0.as_i64()).expect("a start was found out"));
        let attempt = at.map(|at| {
            let mut begun = self.0.begun.lock();
            begun.push(at);
            begun.len()
        });
        Ok(Box::new(GrowingReader {
            at,
            first: self.0.begun.lock().first().copied().unwrap_or(0),
            attempt,
            committed: false,
        }))
    }
}

struct GrowingReader {
    at: Option<i64>,
    first: i64,
    attempt: Option<usize>,
    committed: bool,
}

#[async_trait]
impl Reader for GrowingReader {
    async fn assign(&mut self, _: Vec<(Split, Option<Position>)>) -> Result<()> {
        Ok(())
    }

    async fn committed(&mut self, _: &[(SplitId, Position)]) -> Result<()> {
        self.committed = true;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Piece>> {
        let Some(at) = self.at else { return Ok(None) };
        if self.attempt == Some(1) {
            if !self.committed {
                std::future::pending::<()>().await;
            }
            // The start is durable, and no row was read.
            return Err(Error::io("the connection is lost"));
        }
        if at >= self.first + ROWS {
            return Ok(None);
        }
        let schema = Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new(
            "n",
            arrow::datatypes::DataType::Int64,
            true,
        )]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![at]))])?;
        self.at = Some(at + 1);
        Ok(Some(Piece {
            changes: vec![(0, Changes::inserts(batch))],
            positions: vec![(SplitId("log".to_owned()), Position(json!(at + 1)))],
            ..Piece::default()
        }))
    }
}

#[async_trait]
impl Sink for Growing {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn prepare(&self, stored: Option<&Value>) -> Result<Value> {
        self.0.stored.lock().push(stored.cloned());
        let is_down = |left: usize| stored.and(left.checked_sub(1));
        if self.0.down.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_down).is_ok() {
            return Err(Error::io("the target is down"));
        }
        Ok(stored.cloned().unwrap_or_else(|| json!({ "partitions": 4 })))
    }

    fn encoder(&self, cx: EncodeCx) -> Result<Box<dyn Encoder>> {
        self.0.facts.lock().push(cx.facts);
        Ok(Box::new(Numbers))
    }

    async fn fence(&self, _: &JobId) -> Result<Mark> {
        Ok(self.0.delivered.lock().1.clone().unwrap_or(Mark::Absent))
    }

    async fn deliver(&self, segments: &[Segment], mark: &Mark) -> Result<()> {
        use futures::StreamExt;
        let mut bytes = vec![];
        for segment in segments {
            let mut chunks = segment.chunks.read();
            while let Some(chunk) = chunks.next().await {
                bytes.extend(chunk?);
            }
        }
        let mut delivered = self.0.delivered.lock();
        delivered.0.extend(bytes);
        delivered.1 = Some(mark.clone());
        Ok(())
    }
}

struct Numbers;

impl Encoder for Numbers {
    fn encode(&mut self, _: &Tick, rows: &RowChanges, out: &mut Vec<u8>) -> Result<()> {
        use arrow::array::AsArray;
        for n in rows.batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values() {
            out.extend(format!("{n}\n").bytes());
        }
        Ok(())
    }
}

/// Runs the job to its end, with one restart; every row is in the target then.
async fn run(world: &Arc<World>) {
    let connector: Arc<dyn Connector> = Arc::new(Growing(world.clone()));
    let dir = tempfile::tempdir().unwrap();
    let mut session = Session::open(SessionOptions {
        registry: Registry::new([connector]),
        workers: Some(2),
        dir: Some(dir.path().join("state")),
        ..Default::default()
    })
    .unwrap();
    let script = "SET 'execution.checkpointing.interval' = '1 h';
        SET 'restart-strategy.type' = 'fixed-delay'; SET 'restart-strategy.fixed-delay.delay' = '1 ms';
        SET 'restart-strategy.fixed-delay.attempts' = '1';
        CREATE TABLE source (n BIGINT) WITH ('connector' = 'growing');
        CREATE TABLE target (n BIGINT) WITH ('connector' = 'growing');
        INSERT INTO target SELECT n FROM source;";
    for parsed in parse_script(script).unwrap() {
        if let Answer::Job(job) = session.execute(&parsed).await.unwrap() {
            job.handle.wait().await.unwrap();
        }
    }
    let numbers = String::from_utf8(world.delivered.lock().0.clone()).unwrap();
    let mut numbers: Vec<i64> = numbers.lines().map(|l| l.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..ROWS).collect::<Vec<_>>());
    assert_eq!(*world.begun.lock(), [0, 0], "the second attempt begins where the first one was to begin");
    assert!(world.facts.lock().iter().all(|f| *f == facts()), "{:?}", world.facts.lock());
}

fn facts() -> Value {
    json!({ "partitions": 4 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_and_a_targets_facts_are_found_out_once() {
    let world = Arc::new(World::default());
    run(&world).await;
    assert_eq!(*world.stored.lock(), [None, Some(facts())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_down_at_a_restart_holds_up_nobody() {
    let world = Arc::new(World::default());
    world.down.store(3, Ordering::SeqCst);
    run(&world).await;
    // The second attempt, and what it asks before it delivers: none of it is a further attempt.
    assert_eq!(*world.stored.lock(), [None, Some(facts()), Some(facts()), Some(facts()), Some(facts())]);
}
