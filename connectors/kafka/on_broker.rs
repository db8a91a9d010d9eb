//! Against a real broker whose address is in `THALWEG_KAFKA`; without it these tests say so and do nothing. The tests of whole
//! programs (`tests/kafka.rs`) start a broker themselves.

use std::time::{Duration, Instant};

use bytes::Bytes;
use thalweg_connector_api::Sink;
use thalweg_connector_api::conformance::segment;
use thalweg_core::SqlType;
use thalweg_core::mark::{JobId, Mark};

use crate::options::Flavor;
use crate::options::tests::table;
use crate::record::{ChunkWriter, NewRecord};
use crate::sink::KafkaSink;

fn chunk(records: usize, bytes: usize) -> Bytes {
    let (mut out, mut w) = (vec![], ChunkWriter::default());
    for i in 0..records {
        let value_begin = out.len();
        let text = format!("{{\"i\":{i},\"t\":\"");
        out.extend(text.as_bytes());
        out.resize(value_begin + bytes - 2, b'a' + (i % 23) as u8);
        out.extend(b"\"}");
        w.keys.extend(format!("{i}").as_bytes());
        let value_end = Some(out.len());
        w.push(NewRecord { value_end, value_begin, has_key: true, partition: (i % 4) as u32, timestamp: None });
    }
    w.finish(&mut out).unwrap();
    out.into()
}

/// Prints how long small transactions take, and how fast a large one is. Needs a topic `speed` with 4 partitions.
#[test]
fn speed_of_transactions() {
    let Ok(servers) = std::env::var("THALWEG_KAFKA") else {
        println!("THALWEG_KAFKA is not set");
        return;
    };
    let given = [("topic", "speed"), ("properties.bootstrap.servers", servers.as_str()), ("format", "json")];
    let mut options = given.to_vec();
    let more = std::env::var("THALWEG_KAFKA_PROPERTIES").unwrap_or_default();
    options.extend(more.split(';').filter_map(|p| p.split_once('=')));
    let t = table(&[("i", SqlType::Int)], &[], &options);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sink = KafkaSink::open(Flavor::Kafka, &t).unwrap();
        let job = JobId(format!("{:032x}", std::process::id()));
        sink.prepare(None).await.unwrap();
        let begin = Instant::now();
        sink.fence(&job).await.unwrap();
        println!("fence: {:?}", begin.elapsed());
        let mark = |segment| Mark::At { job: job.clone(), segment };
        for (what, pause) in [("at once", 0), ("every 100 ms", 100)] {
            let mut took = vec![];
            for n in 1..40 {
                let begin = Instant::now();
                sink.deliver(&[segment(n, vec![chunk(10, 100)])], &mark(n)).await.unwrap();
                took.push(begin.elapsed());
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            took.sort();
            println!(
                "small transactions {what}: p50 {:?}, p95 {:?}",
                took[took.len() / 2],
                took[took.len() * 95 / 100]
            );
        }
        for bytes in [80, 280] {
            let chunks: Vec<Bytes> = (0..64).map(|_| chunk(8192, bytes)).collect();
            let begin = Instant::now();
            sink.deliver(&[segment(100, chunks)], &mark(100)).await.unwrap();
            let rows = 64.0 * 8192.0;
            println!("{bytes} bytes: {:.2} M rows/s", rows / begin.elapsed().as_secs_f64() / 1e6);
        }
    });
}
