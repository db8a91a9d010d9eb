//! The oracle: the final answer of a query over bounded input is the answer of a batch engine to the same query over
//! the rows that the inserts, updates and deletes have left. Tables and queries are random, out of a grammar of what
//! both engines support with one meaning (`grammar.rs` says what is left out, and why); the batch engine is DataFusion,
//! with which only the kernels of some functions are shared. Where its optimiser changes its own answer, its answer without it counts.
//!
//! `THALWEG_ORACLE_QUERIES` is how many queries are asked (default 300), `THALWEG_ORACLE_SEED` the first seed.

mod grammar;
mod random;
mod tables;
mod value;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::execution::SessionStateBuilder;
use datafusion::optimizer::Optimizer;
use datafusion::prelude::{SessionConfig, SessionContext};
use thalweg_session::plan::parse_script;
use thalweg_session::{Answer, Disturb, DisturbCounts, Session, SessionOptions};

use grammar::{Grammar, Query};
use random::Random;
use tables::{Table, tables};

const QUERIES_DEFAULT: u64 = 300;
/// So many queries are asked of the same tables.
const QUERIES_PER_TABLES: u64 = 15;
/// Most of the time of a disturbed query is waiting for the disk.
const SEEDS_AT_A_TIME: usize = 6;
const FAILURES_SHOWN_MAX: usize = 20;

/// The kinds of the columns, and the rows.
type Comparable = (Vec<&'static str>, Vec<value::Row>);

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is not a number")))
}

/// How a query is run: as it is, in small ticks and parts, and with checkpoints, kills and other numbers of workers.
fn ways(seed: u64, counts: &Arc<DisturbCounts>) -> Vec<Option<Disturb>> {
    let disturb = |slice_rows_max, checkpoint_one_in, kill_one_in, workers| {
        let (piece_rows_max, kills_max, counts) = (3, 2, counts.clone());
        Some(Disturb {
            seed,
            slice_rows_max,
            piece_rows_max,
            checkpoint_one_in,
            kill_one_in,
            kills_max,
            workers,
            counts,
        })
    };
    vec![None, disturb(2, 0, 0, vec![2]), disturb(4, 2, 2, vec![1, 3, 2])]
}

/// One engine with its tables, in one way of running.
struct Engine {
    session: Session,
    way: Option<Disturb>,
}

impl Engine {
    async fn new(script: &str, way: Option<Disturb>) -> Self {
        let options = SessionOptions { workers: Some(2), disturb: way.clone(), ..Default::default() };
        let mut session = Session::open(options).expect("a scratch session");
        let done = session.execute_script(script, &mut |_, _| Ok(())).await;
        done.unwrap_or_else(|e| panic!("{e}\n{script}"));
        Engine { session, way }
    }

    async fn answer(&mut self, sql: &str) -> Result<RecordBatch, String> {
        let parsed = parse_script(&format!("{sql};")).map_err(|e| e.to_string())?;
        match self.session.execute(&parsed[0]).await {
            Ok(Answer::Rows(rows)) => Ok(rows.batch),
            Ok(_) => Err("no rows".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// DataFusion cannot run every plan without some of its rules, and others change the answer.
const FEW_RULES: [&[&str]; 3] =
    [&[], &["replace_distinct_aggregate"], &["replace_distinct_aggregate", "simplify_expressions"]];

/// `rules`: those that rewrite a plan; `None`: all of them.
fn batch_engine(tables: &[Table], rules: Option<&[&str]>) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1);
    // Number literals with a point are DECIMAL.
    config.options_mut().sql_parser.parse_float_as_decimal = true;
    let mut state = SessionStateBuilder::new_with_default_features().with_config(config);
    if let Some(names) = rules {
        let mut rules = Optimizer::new().rules;
        rules.retain(|r| names.contains(&r.name()));
        state = state.with_optimizer_rules(rules);
    }
    let context = SessionContext::new_with_state(state.build());
    for t in tables {
        context.register_batch(t.name, t.batch()).expect("a table of its own name");
    }
    context
}

async fn batch_answer(context: &SessionContext, sql: &str) -> Result<RecordBatch, String> {
    let frame = context.sql(sql).await.map_err(|e| e.to_string())?;
    let schema = std::sync::Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.map_err(|e| e.to_string())?;
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    concat_batches(&schema, &batches).map_err(|e| e.to_string())
}

/// What is to be equal: the kinds of the columns, and the rows, in their order if the query has one.
fn comparable(batch: &RecordBatch, query: &Query) -> Comparable {
    let mut rows = value::rows(batch);
    if !query.is_ordered {
        rows.sort();
    }
    (value::kinds(batch), rows)
}

fn differ(a: &Comparable, b: &Comparable) -> bool {
    let kinds_differ = a.0.iter().zip(&b.0).any(|(x, y)| x != y && *x != "NULL" && *y != "NULL");
    kinds_differ || a.0.len() != b.0.len() || a.1 != b.1
}

/// Whether the batch engine gives this answer with few of its rules.
async fn agrees(tables: &[Table], query: &Query, answer: &Comparable) -> bool {
    for rules in FEW_RULES {
        let plain = batch_answer(&batch_engine(tables, Some(rules)), &query.sql).await;
        if plain.is_ok_and(|batch| !differ(answer, &comparable(&batch, query))) {
            return true;
        }
    }
    false
}

/// What came of the queries over some tables.
#[derive(Default)]
struct Outcome {
    asked: u64,
    with_rows: u64,
    /// What the batch engine cannot do says nothing about this one.
    refused: Vec<String>,
    failures: Vec<String>,
}

/// Asks random queries of the random tables of a seed.
async fn ask(seed: u64, counts: &Arc<DisturbCounts>) -> Outcome {
    let mut random = Random::new(seed);
    let tables = tables(&mut random);
    let script: String = tables.iter().flat_map(|t| &t.statements).map(|s| format!("{s};\n")).collect();
    let context = batch_engine(&tables, None);
    let mut engines = vec![];
    for way in ways(seed, counts) {
        engines.push(Engine::new(&script, way).await);
    }
    let mut outcome = Outcome::default();
    for _ in 0..QUERIES_PER_TABLES {
        let query = Grammar::new(&tables, &mut random).query();
        outcome.asked += 1;
        let mut expected = match batch_answer(&context, &query.sql).await {
            Ok(batch) => comparable(&batch, &query),
            Err(e) => {
                outcome.refused.push(format!("{e}\n{}", query.sql));
                continue;
            }
        };
        outcome.with_rows += u64::from(!expected.1.is_empty());
        for engine in &mut engines {
            let answer = engine.answer(&query.sql).await.map(|batch| comparable(&batch, &query));
            let problem = match &answer {
                Ok(answer) if !differ(answer, &expected) => None,
                Ok(answer) => Some(format!("here {}\nthere {}", text(answer), text(&expected))),
                Err(e) => Some(e.clone()),
            };
            if let Some(problem) = problem {
                // Its own rules change its answer now and then; what it says with few of them counts then.
                if let Ok(answer) = answer
                    && agrees(&tables, &query, &answer).await
                {
                    outcome.refused.push(format!("its optimiser changes its answer\n{}", query.sql));
                    expected = answer;
                    continue;
                }
                let way = &engine.way;
                outcome.failures.push(format!("seed {seed}, {way:?}\n{script}{};\n{problem}\n", query.sql));
                break;
            }
        }
    }
    outcome
}

/// Several seeds at a time, each in a runtime of its own.
fn ask_all(seeds: std::ops::Range<u64>, counts: &Arc<DisturbCounts>) -> Vec<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let worker = || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let seeds = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|s| *s < seeds.end));
        seeds.map(|seed| runtime.block_on(ask(seed, counts))).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SEEDS_AT_A_TIME).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().flat_map(|t| t.join().expect("a thread that ends")).collect()
    })
}

#[test]
fn final_answers_are_those_of_a_batch_engine_over_the_folded_rows() {
    let queries = from_environment("THALWEG_ORACLE_QUERIES", QUERIES_DEFAULT);
    let first = from_environment("THALWEG_ORACLE_SEED", 1);
    println!("THALWEG_ORACLE_SEED={first} THALWEG_ORACLE_QUERIES={queries}");
    let counts = Arc::default();
    let outcomes = ask_all(first..first + queries.div_ceil(QUERIES_PER_TABLES), &counts);
    let asked: u64 = outcomes.iter().map(|o| o.asked).sum();
    let with_rows: u64 = outcomes.iter().map(|o| o.with_rows).sum();
    let refused: Vec<&String> = outcomes.iter().flat_map(|o| &o.refused).collect();
    let reasons: BTreeSet<&str> = refused.iter().filter_map(|r| r.lines().next()).collect();
    let failures: Vec<&str> = outcomes.iter().flat_map(|o| &o.failures).map(String::as_str).collect();
    println!("{asked} queries, {with_rows} with rows, {} that the batch engine refuses:", refused.len());
    reasons.iter().for_each(|r| println!("  {r}"));
    let shown = failures[..failures.len().min(FAILURES_SHOWN_MAX)].join("\n");
    assert!(failures.is_empty(), "{} of {asked} queries differ:\n{shown}", failures.len());
    assert!(refused.len() as u64 * 20 < asked, "the batch engine refuses too many: {refused:#?}");
    assert!(with_rows * 3 > asked, "only {with_rows} answers have rows");
    println!("{counts:?}");
    let least = |count: &AtomicU64, least: u64| {
        let n = count.load(Ordering::Relaxed);
        assert!(n >= least, "{n} where {least} are the least: {counts:?}");
    };
    // A proof of what survives kills needs kills.
    least(&counts.kills, asked / 2);
    least(&counts.restores, asked / 4);
    least(&counts.rescales, asked / 8);
    least(&counts.cuts, asked);
}

/// For whoever looks into a difference: `THALWEG_ORACLE_SEED=18 THALWEG_ORACLE_SQL='SELECT …'`, asked of the tables of
/// that seed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a query in THALWEG_ORACLE_SQL"]
async fn one_query() {
    let tables = tables(&mut Random::new(from_environment("THALWEG_ORACLE_SEED", 1)));
    let script: String = tables.iter().flat_map(|t| &t.statements).map(|s| format!("{s};\n")).collect();
    let sql = std::env::var("THALWEG_ORACLE_SQL").expect("THALWEG_ORACLE_SQL");
    let query = Query { sql, is_ordered: true };
    let show = |answer: Result<RecordBatch, String>| answer.map_or_else(|e| e, |a| text(&comparable(&a, &query)));
    println!("{script}");
    println!("here {}", show(Engine::new(&script, None).await.answer(&query.sql).await));
    let context = batch_engine(&tables, None);
    println!("there {}", show(batch_answer(&context, &query.sql).await));
    for rules in FEW_RULES {
        println!("there, with {rules:?} {}", show(batch_answer(&batch_engine(&tables, Some(rules)), &query.sql).await));
    }
    if let Ok(frame) = context.sql(&query.sql).await {
        println!("{}", frame.into_optimized_plan().map_or_else(|e| e.to_string(), |p| p.display_indent().to_string()));
    }
}

fn text((kinds, rows): &Comparable) -> String {
    let rows: String = rows.iter().map(|r| format!("\n  {r:?}")).collect();
    format!("{kinds:?}{rows}")
}
