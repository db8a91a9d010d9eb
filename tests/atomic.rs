//! Transactions are never seen in part: a source moves amounts between accounts, each transfer one transaction that
//! comes in pieces; however pieces and slices are cut, the sum of all balances is one constant in every tick.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_connector_api::sink::Sink;
use thalweg_connector_api::{
    Connector, Piece, Position, Reader, ReaderCx, Registry, Source, SourceTable, Split, SplitId,
};
use thalweg_session::core::mark::JobId;
use thalweg_session::core::options::OptionSpec;
use thalweg_session::core::table::{ChangelogMode, SinkInfo, SourceInfo, TableDef};
use thalweg_session::core::{Changes, Error, Result};
use thalweg_session::plan::parse_script;
use thalweg_session::{Answer, Disturb, Session, SessionOptions};

const ACCOUNTS: i64 = 50;
const BALANCE: i64 = 1_000;
const TRANSFERS: usize = 400;

/// What `async_trait` makes of an async function's result.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// A row of the table and its weight: account, balance, transfers so far.
type Row = ([i64; 3], i64);

/// All transactions: the first opens the accounts, each other one moves an amount between several accounts.
fn transactions(seed: u64) -> Vec<Vec<Row>> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut accounts: Vec<[i64; 3]> = (0..ACCOUNTS).map(|id| [id, BALANCE, 0]).collect();
    let mut all = vec![accounts.iter().map(|row| (*row, 1)).collect::<Vec<_>>()];
    for _ in 0..TRANSFERS {
        let mut rows = vec![];
        // Some transactions make several transfers.
        for _ in 0..random.random_range(1..6) {
            let (from, to) = (random.random_range(0..ACCOUNTS) as usize, random.random_range(0..ACCOUNTS) as usize);
            let amount = random.random_range(1..500);
            for (account, change) in [(from, -amount), (to, amount)] {
                rows.push((accounts[account], -1));
                accounts[account][1] += change;
                accounts[account][2] += 1;
                rows.push((accounts[account], 1));
            }
        }
        all.push(rows);
    }
    all
}

/// `'connector' = 'accounts'`.
struct Accounts {
    seed: u64,
    transactions: Arc<Vec<Vec<Row>>>,
}

impl Connector for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn source_options(&self, _: &TableDef) -> Option<Vec<OptionSpec>> {
        Some(vec![])
    }

    fn sink_options(&self, _: &TableDef) -> Option<Vec<OptionSpec>> {
        None
    }

    fn source_info(&self, _: &TableDef) -> Result<SourceInfo> {
        Ok(SourceInfo {
            identity: BTreeMap::from([("seed".to_owned(), self.seed.to_string())]),
            variant: BTreeMap::new(),
            changelog: ChangelogMode::Retract,
            bounded: false,
            metadata: vec![],
            unstable_metadata: vec![],
            note: None,
        })
    }

    fn sink_info(&self, _: &TableDef) -> Result<SinkInfo> {
        Err(Error::option("accounts cannot be written"))
    }

    fn open_source(&self, tables: &[SourceTable], _: &JobId) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(AccountsSource {
            seed: self.seed,
            table: tables[0].clone(),
            transactions: self.transactions.clone(),
        }))
    }

    fn open_sink(&self, _: &TableDef, _: &JobId) -> Result<Arc<dyn Sink>> {
        Err(Error::option("accounts cannot be written"))
    }
}

struct AccountsSource {
    seed: u64,
    table: SourceTable,
    transactions: Arc<Vec<Vec<Row>>>,
}

impl Source for AccountsSource {
    fn splits<'life, 'async_trait>(&'life self) -> Boxed<'async_trait, Vec<Split>>
    where
        'life: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async { Ok(vec![Split { id: SplitId("log".to_owned()), detail: serde_json::Value::Null }]) })
    }

    fn reader(&self, splits: Vec<(Split, Option<Position>)>, _: ReaderCx) -> Result<Box<dyn Reader>> {
        let number = |p: &Position, i: usize| p.0[i].as_u64().unwrap_or(0) as usize;
        let at = splits.first().map(|(_, p)| p.as_ref().map_or((0, 0), |p| (number(p, 0), number(p, 1))));
        Ok(Box::new(AccountsReader {
            random: SmallRng::seed_from_u64(self.seed),
            at,
            table: self.table.clone(),
            transactions: self.transactions.clone(),
        }))
    }
}

struct AccountsReader {
    random: SmallRng,
    /// The transaction and the row in it that are next; `None`: another worker has the split.
    at: Option<(usize, usize)>,
    table: SourceTable,
    transactions: Arc<Vec<Vec<Row>>>,
}

impl AccountsReader {
    /// Some rows on from here: a part of a transaction, or several.
    fn piece(&mut self) -> Option<Piece> {
        let (mut transaction, mut row) = self.at?;
        let wanted = self.random.random_range(1..40);
        let mut rows: Vec<Row> = vec![];
        while rows.len() < wanted && transaction < self.transactions.len() {
            let all = &self.transactions[transaction];
            rows.push(all[row]);
            row += 1;
            if row == all.len() {
                (transaction, row) = (transaction + 1, 0);
            }
        }
        if rows.is_empty() {
            return None;
        }
        self.at = Some((transaction, row));
        let column = |i: &usize| Arc::new(rows.iter().map(|(r, _)| r[*i]).collect::<Int64Array>()) as Arc<dyn Array>;
        let schema = self.table.def.schema().project(&self.table.columns).expect("the columns are the table's");
        let batch = RecordBatch::try_new(Arc::new(schema), self.table.columns.iter().map(column).collect());
        let weights = rows.iter().map(|(_, w)| *w).collect::<Int64Array>();
        Some(Piece {
            changes: vec![(0, Changes::new(batch.expect("columns of one length"), Some(weights)))],
            continues: row > 0,
            positions: vec![(SplitId("log".to_owned()), Position(serde_json::json!([transaction, row])))],
            ..Piece::default()
        })
    }
}

impl Reader for AccountsReader {
    fn assign<'life, 'async_trait>(&'life mut self, _: Vec<(Split, Option<Position>)>) -> Boxed<'async_trait, ()>
    where
        'life: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async { Ok(()) })
    }

    fn next<'life, 'async_trait>(&'life mut self) -> Boxed<'async_trait, Option<Piece>>
    where
        'life: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            // Between pieces other tasks run, so that ticks may start anywhere.
            if self.random.random_range(0..3) == 0 {
                tokio::task::yield_now().await;
            }
            match self.piece() {
                Some(piece) => Ok(Some(piece)),
                None => std::future::pending().await,
            }
        })
    }
}

/// Runs the query and gives every row that it ever showed, until the one whose last column is `last`.
async fn shown(seed: u64, query: &str, workers: usize, disturb: Option<Disturb>, last: i64) -> Vec<Vec<i64>> {
    let transactions = Arc::new(transactions(seed));
    let accounts: Arc<dyn Connector> = Arc::new(Accounts { seed, transactions });
    let options =
        SessionOptions { registry: Registry::new([accounts]), workers: Some(workers), disturb, ..Default::default() };
    let mut session = Session::open(options).unwrap();
    let script = format!(
        "CREATE TABLE accounts (id BIGINT, balance BIGINT, transfers BIGINT, PRIMARY KEY (id) NOT ENFORCED)
           WITH ('connector' = 'accounts'); {query};"
    );
    let mut all = vec![];
    for parsed in parse_script(&script).unwrap() {
        let Answer::Changes(mut log) = session.execute(&parsed).await.unwrap() else { continue };
        'query: while let Some(tick) = log.next().await.unwrap() {
            for rows in tick.rows {
                for row in 0..rows.num_rows() {
                    let columns = rows.batch.columns().iter().map(|c| c.as_primitive::<Int64Type>());
                    let values: Vec<i64> = columns.filter(|c| c.is_valid(row)).map(|c| c.value(row)).collect();
                    all.push(values);
                    if rows.kind(row).adds() && all.last().and_then(|v| v.last()) == Some(&last) {
                        log.cancel();
                        break 'query;
                    }
                }
            }
        }
    }
    all
}

/// What the counters of all accounts add up to at the end.
fn counted(seed: u64) -> i64 {
    transactions(seed).iter().skip(1).map(|t| t.len() as i64 / 2).sum()
}

fn cut(seed: u64, slice_rows_max: usize) -> Disturb {
    let nothing_else = (0, 0, 0);
    let (checkpoint_one_in, kill_one_in, kills_max) = nothing_else;
    let piece_rows_max = slice_rows_max;
    let counts = Arc::default();
    Disturb { seed, slice_rows_max, piece_rows_max, checkpoint_one_in, kill_one_in, kills_max, workers: vec![], counts }
}

fn assert_constant(rows: &[Vec<i64>], seed: u64, end: i64) {
    let constant = ACCOUNTS * BALANCE;
    // The empty input's row has no sum.
    let sums: Vec<_> = rows.iter().filter(|r| r.len() == 3).collect();
    assert_eq!(sums.last().map(|r| r[2]), Some(end), "seed {seed}: the query ended early");
    let wrong = sums.iter().find(|r| r[0] != constant || r[1] != ACCOUNTS);
    assert!(wrong.is_none(), "seed {seed}: {wrong:?} was shown, the sum is {constant}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sum_of_all_balances_is_constant_however_the_input_is_sliced() {
    let query = "SELECT SUM(balance), COUNT(*), SUM(transfers) FROM accounts";
    for seed in 1..=12_u64 {
        let end = counted(seed);
        for (workers, disturb) in
            [(1, None), (2, Some(cut(seed, 1))), (3, Some(cut(seed, 7))), (2, Some(cut(seed, 100)))]
        {
            let rows = shown(seed, query, workers, disturb, end).await;
            assert_constant(&rows, seed, end);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sum_is_constant_through_a_join_of_the_table_with_itself() {
    // Both sides see the same transactions: half a transaction of one side would give another sum.
    let query = "SELECT SUM(a.balance), COUNT(*), SUM(b.transfers) FROM accounts a JOIN accounts b ON a.id = b.id";
    for seed in 21..=26_u64 {
        let end = counted(seed);
        for (workers, slice) in [(1, 3), (2, 1), (3, 50)] {
            let rows = shown(seed, query, workers, Some(cut(seed, slice)), end).await;
            assert_constant(&rows, seed, end);
        }
    }
}
