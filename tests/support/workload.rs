//! Orders that are inserted, updated and deleted, customers, and three queries over them, with the answers computed
//! in plain Rust.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::changelog::{Rows, assert_folds_to, fold};

const REGIONS: [&str; 5] = ["north", "south", "east", "west", "far"];
const CUSTOMERS: i64 = 300;
/// Rows of Top-N per region.
const TOP: usize = 3;

/// Input files in a folder, and the answers.
pub struct Workload {
    pub folder: PathBuf,
    pub changes: usize,
    pub joined: Rows,
    pub totals: Rows,
    pub top: Rows,
}

#[derive(Clone, Copy)]
struct Order {
    customer: i64,
    amount: i64,
}

/// How the script runs it.
#[derive(Clone, Copy)]
pub struct Script {
    /// With PRIMARY KEY at the sinks.
    pub keys: bool,
    /// Rows per second of the orders.
    pub rate: usize,
}

impl Workload {
    pub fn generate(folder: &Path, seed: u64, changes: usize) -> Workload {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut orders: BTreeMap<i64, Order> = BTreeMap::new();
        let mut ids: Vec<i64> = vec![];
        let mut text = String::new();
        let row = |id: i64, o: Order| json!({"id": id, "customer_id": o.customer, "amount": o.amount});
        for id in 0..changes as i64 {
            // Few amounts, so that ties are common; some customers that do not exist.
            let new = Order { customer: random.random_range(0..CUSTOMERS + 20), amount: random.random_range(-5..200) };
            let chosen = ids.choose(&mut random).copied();
            let event = match (random.random_range(0..100), chosen) {
                (0..50, _) | (_, None) => {
                    orders.insert(id, new);
                    ids.push(id);
                    json!({"before": null, "after": row(id, new), "op": "c"})
                }
                (50..85, Some(old)) => {
                    let before = orders.insert(old, new).expect("it is there");
                    json!({"before": row(old, before), "after": row(old, new), "op": "u"})
                }
                (_, Some(old)) => {
                    ids.swap_remove(ids.iter().position(|i| *i == old).expect("it is there"));
                    let before = orders.remove(&old).expect("it is there");
                    json!({"before": row(old, before), "after": null, "op": "d"})
                }
            };
            let _ = writeln!(text, "{event}");
        }
        let customers: Vec<(i64, String, &str)> = (0..CUSTOMERS)
            .map(|id| (id, format!("customer {id}"), *REGIONS.choose(&mut random).expect("there are some")))
            .collect();
        let lines: String = customers
            .iter()
            .map(|(id, name, region)| format!("{}\n", json!({"id": id, "name": name, "region": region})))
            .collect();
        std::fs::create_dir_all(folder).expect("a folder can be made");
        std::fs::write(folder.join("orders.json"), text).expect("a file can be written");
        std::fs::write(folder.join("customers.json"), lines).expect("a file can be written");

        let mut workload =
            Workload { folder: folder.to_owned(), changes, joined: Rows::new(), totals: Rows::new(), top: Rows::new() };
        let mut by_region: BTreeMap<&str, Vec<(i64, i64)>> = BTreeMap::new();
        for (id, o) in &orders {
            if let Some((_, name, region)) = customers.get(o.customer as usize) {
                workload.joined.insert(json!([id, name, region, o.amount]).to_string());
                by_region.entry(region).or_default().push((-o.amount, *id));
            }
        }
        for (region, rows) in &mut by_region {
            rows.sort_unstable();
            let sum: i64 = rows.iter().map(|(amount, _)| -amount).sum();
            let (max, min) = (-rows[0].0, -rows[rows.len() - 1].0);
            let distinct = rows.iter().map(|(a, _)| a).collect::<std::collections::BTreeSet<_>>().len();
            workload.totals.insert(json!([region, rows.len(), sum, max, min, distinct]).to_string());
            for (i, (amount, id)) in rows.iter().take(TOP).enumerate() {
                workload.top.insert(json!([region, i + 1, id, -amount]).to_string());
            }
        }
        workload
    }

    /// The tables, into `out` below the given folder.
    pub fn tables(&self, out: &Path, script: Script) -> String {
        let folder = self.folder.display();
        let rate = script.rate;
        let mut sql = format!(
            "SET 'execution.checkpointing.interval' = '50 ms';
             SET 'restart-strategy.type' = 'none';
             CREATE TABLE orders (id BIGINT, customer_id BIGINT, amount BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH (
               'connector' = 'filesystem', 'path' = '{folder}/orders.json', 'format' = 'debezium-json',
               'scan.rate-limit' = '{rate}');
             CREATE TABLE customers (id BIGINT, name STRING, region STRING) WITH (
               'connector' = 'filesystem', 'path' = '{folder}/customers.json', 'format' = 'json');\n"
        );
        let sinks = [
            ("joined", "id BIGINT, name STRING, region STRING, amount BIGINT", JOINED_KEY),
            ("totals", "region STRING, n BIGINT, total BIGINT, most BIGINT, least BIGINT, amounts BIGINT", TOTALS_KEY),
            ("top", "region STRING, rn BIGINT, id BIGINT, amount BIGINT", TOP_KEY),
        ];
        for (name, columns, key) in sinks {
            let key =
                if script.keys { format!(", PRIMARY KEY ({}) NOT ENFORCED", key.join(", ")) } else { String::new() };
            let _ = writeln!(
                sql,
                "CREATE TABLE {name} ({columns}{key}) WITH ('connector' = 'filesystem', 'path' = '{}/{name}', 'format' = 'debezium-json');",
                out.display()
            );
        }
        sql
    }

    /// The whole script, written into a file.
    pub fn script(&self, file: &Path, out: &Path, script: Script) -> PathBuf {
        let sql = self.tables(out, script) + &statement_set(&inserts("o", "c"));
        std::fs::write(file, sql).expect("a script can be written");
        file.to_owned()
    }

    /// Each sink folds strictly to its answer.
    pub fn assert_answers(&self, out: &Path, keys: bool) {
        let key = |k: &'static [&'static str]| keys.then_some(k);
        assert_folds_to(&out.join("joined"), key(JOINED_KEY), &self.joined);
        assert_folds_to(&out.join("totals"), key(TOTALS_KEY), &self.totals);
        assert_folds_to(&out.join("top"), key(TOP_KEY), &self.top);
    }

    /// Changes that were delivered so far, all sinks together; also folds them strictly.
    pub fn delivered(&self, out: &Path, keys: bool) -> usize {
        let sinks = [("joined", JOINED_KEY), ("totals", TOTALS_KEY), ("top", TOP_KEY)];
        let folded = sinks.map(|(name, key)| fold(&out.join(name), keys.then_some(key)));
        folded.into_iter().map(|f| f.unwrap_or_else(|e| panic!("{e}")).changes).sum()
    }
}

pub const JOINED_KEY: &[&str] = &["id"];
pub const TOTALS_KEY: &[&str] = &["region"];
pub const TOP_KEY: &[&str] = &["region", "rn"];

/// The three inserts, with the aliases that are given for the two tables.
pub fn inserts(o: &str, c: &str) -> [String; 3] {
    let join = format!("FROM orders AS {o} JOIN customers AS {c} ON {o}.customer_id = {c}.id");
    [
        format!("INSERT INTO joined\n  SELECT {o}.id, {c}.name, {c}.region, {o}.amount\n  {join};"),
        format!(
            "INSERT INTO totals\n  SELECT {c}.region, COUNT(*), SUM({o}.amount), MAX({o}.amount), MIN({o}.amount), \
             COUNT(DISTINCT {o}.amount)\n  {join}\n  GROUP BY {c}.region;"
        ),
        format!(
            "INSERT INTO top\n  SELECT region, rn, id, amount FROM (\n  SELECT {c}.region, {o}.id, {o}.amount, \
             ROW_NUMBER() OVER (PARTITION BY {c}.region ORDER BY {o}.amount DESC, {o}.id) AS rn\n  {join}\n  ) \
             WHERE rn <= {TOP};"
        ),
    ]
}

/// Inserts as one job.
pub fn statement_set(inserts: &[String]) -> String {
    format!("EXECUTE STATEMENT SET BEGIN\n{}\nEND;\n", inserts.join("\n"))
}
