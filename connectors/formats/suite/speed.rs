//! How fast formats decode and encode; `cargo test --release -p thalweg-formats speed -- --nocapture` prints it.

use std::time::Instant;

use super::*;

/// Kept small: these are tests. The figures hold for larger input too, which does not stay in the cache either.
const BYTES: usize = 24 << 20;

fn orders(format: &str) -> (TableDef, Vec<u8>) {
    let columns = [
        ("order_id", SqlType::BigInt),
        ("customer", SqlType::STRING),
        ("amount", decimal(10, 2)),
        ("quantity", SqlType::Int),
        ("weight", SqlType::Double),
        ("paid", SqlType::Boolean),
        ("created_at", SqlType::Timestamp(3)),
    ];
    let t = table(&columns, &[]);
    let mut text = String::new();
    let mut i = 0u64;
    while text.len() < 1 << 20 {
        i += 1;
        let r = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        text.push_str(&format!(
            "{{\"order_id\":{},\"customer\":\"customer {}\",\"amount\":{}.{:02},\"quantity\":{},\"weight\":{},\"paid\":{},\"created_at\":\"2026-0{}-1{} 12:{:02}:05.123\"}}\n",
            1_000_000 + i, r % 100_000, r >> 45, i % 100, r % 100, (r >> 40) as f64 / 1000.0, r.is_multiple_of(2), 1 + i % 9, i % 10, i % 60
        ));
    }
    let batch = decode(&t, "json", text.as_bytes()).unwrap().batch;
    let block = encode(&t, format, &batch);
    (t, block.repeat(BYTES / block.len() + 1))
}

fn measure(format: &str) {
    let (t, text) = orders(format);
    let mut d = decoder(&t, format);
    let (mut at, mut rows, mut batches) = (0, 0, vec![]);
    let start = Instant::now();
    while at < text.len() {
        at += d.decode(&text[at..], true, 8192).unwrap();
        let batch = d.finish().unwrap().0;
        rows += batch.num_rows();
        if batches.len() < 100 {
            batches.push(batch);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let mb = text.len() as f64 / 1e6;
    println!("{format}: decode {:.0} MB/s, {:.1} M rows/s", mb / seconds, rows as f64 / seconds / 1e6);
    let mut encoder = crate::format(format).unwrap().encoder(&t).unwrap();
    let mut out = Vec::with_capacity(text.len());
    let start = Instant::now();
    for batch in batches {
        encoder.encode(&RowChanges { batch: batch.batch, kinds: None }, &mut out).unwrap();
    }
    println!("{format}: encode {:.0} MB/s", out.len() as f64 / 1e6 / start.elapsed().as_secs_f64());
    assert!(rows > 0);
}

#[test]
fn speed_of_json() {
    measure("json");
}

#[test]
fn speed_of_csv() {
    measure("csv");
}

#[test]
fn speed_of_debezium_json() {
    measure("debezium-json");
}
