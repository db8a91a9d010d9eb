//! While a snapshot of text keys runs, the server is asked where keys are; the connection for it may end at any moment.

#[path = "support/harness.rs"]
mod harness;
#[path = "../../../tests/support/mysqld.rs"]
mod mysqld;
#[path = "support/writer.rs"]
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::{Job, seed, table};
use mysqld::Mysqld;
use thalweg_core::SqlType;
use writer::{Keys, Plan, Writer, fill};

#[test]
fn a_question_that_fails_loses_no_row_that_waits() {
    let seed = seed();
    let server = Mysqld::start(&[]);
    let mut root = server.session();
    root.run("CREATE DATABASE db");
    fill(&mut root, "db.t", Keys::Text, 3_000);
    fill(&mut root, "db.other", Keys::Number, 500);
    root.run("CREATE USER cdc; GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO cdc");
    let options =
        [("username", "cdc"), ("scan.incremental.snapshot.chunk.size", "60"), ("connect.max-retries", "100000")];
    let text = [("id", SqlType::STRING), ("n", SqlType::Int), ("name", SqlType::STRING)];
    let number = [("id", SqlType::BigInt), ("n", SqlType::Int), ("name", SqlType::STRING)];
    // The table that needs no questions stands first: its rows are ready when the other's are asked about.
    let tables = [table(&server, "db", "other", &number, &options), table(&server, "db", "t", &text, &options)];
    let mut job = Job::start(&tables, "questions").unwrap();
    // Asking the server how it is set up, at the start, is the engine's to repeat.
    assert!(job.tick().unwrap());
    let plan = |name: &str, keys, numbers| Plan {
        port: server.port(),
        table: name.to_owned(),
        keys,
        numbers,
        threads: 1,
        pause: Duration::from_millis(1),
        seed,
    };
    let writers =
        [Writer::start(&plan("db.t", Keys::Text, 4_000)), Writer::start(&plan("db.other", Keys::Number, 600))];
    let stop = Arc::new(AtomicBool::new(false));
    let killer = {
        let (stop, mut session) = (stop.clone(), server.session());
        std::thread::spawn(move || {
            let mut killed = 0;
            while !stop.load(Ordering::Relaxed) {
                let list =
                    "SELECT id FROM information_schema.processlist WHERE user = 'cdc' AND command NOT LIKE 'Binlog%'";
                for row in session.rows(list) {
                    // It may have ended by itself.
                    killed += u32::from(session.try_run(&format!("KILL {}", row[0])).is_ok());
                }
                std::thread::sleep(Duration::from_millis(150));
            }
            killed
        })
    };
    job.snapshot();
    stop.store(true, Ordering::Relaxed);
    assert!(killer.join().unwrap() > 0, "nothing was killed");
    for writer in writers {
        writer.stop();
    }
    job.until_same(0, &mut root, "SELECT id, n, name FROM db.other");
    job.until_same(1, &mut root, "SELECT id, n, name FROM db.t");
}
