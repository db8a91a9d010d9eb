//! Whole plans over fake connectors: what is built of a statement, what is refused and where, and that ids mean what
//! they should.

mod errors;
mod fuzz;
mod ids;
mod meaning;
mod plans;
mod random;

use thalweg_core::table::{ChangelogMode, Delivery, SinkInfo, SinkMode, SourceInfo, TableDef};
use thalweg_core::{Column, Error, Result, SqlType};
use thalweg_graph::explain::{ExplainOptions, explain};
use thalweg_graph::{Graph, OperatorSpec};

use crate::planner::{Connectors, OwnTableInfo, PlanSettings, Planner, SelectPlan};
use crate::sql::{Insert, Statement, parse_script, parse_statement};
use crate::{Catalog, Relation};

/// `'connector' = 'fake'`: `mode` is append, retract or upsert for reading and for writing; `bounded` ends.
pub struct Fake;

impl Connectors for Fake {
    fn source_info(&self, table: &TableDef) -> Result<SourceInfo> {
        let changelog = match table.option("mode") {
            None | Some("append") => ChangelogMode::Append,
            Some("retract") => ChangelogMode::Retract,
            Some("upsert") => ChangelogMode::Upsert,
            Some(other) => return Err(Error::option(format!("mode {other}"))),
        };
        Ok(SourceInfo {
            identity: [("path".to_owned(), table.option("path").unwrap_or(&table.name).to_owned())].into(),
            variant: Default::default(),
            changelog,
            bounded: table.option("bounded") == Some("true"),
            metadata: vec![Column::new("op_ts", SqlType::TimestampLtz(3), true)],
            unstable_metadata: vec!["op_ts".to_owned()],
            note: table.option("note").map(str::to_owned),
        })
    }

    fn source_group(&self, table: &TableDef) -> Result<Option<String>> {
        Ok(table.option("server").map(str::to_owned))
    }

    fn sink_info(&self, table: &TableDef) -> Result<SinkInfo> {
        Ok(SinkInfo {
            identity: [("path".to_owned(), table.option("path").unwrap_or(&table.name).to_owned())].into(),
            accepts: match table.option("mode") {
                Some("retract") => SinkMode::Retract,
                Some("upsert") => SinkMode::Upsert,
                _ => SinkMode::Append,
            },
            delivery: Delivery::ExactlyOnce,
            needs_net: true,
            key: None,
            metadata: vec![],
        })
    }

    fn is_secret(&self, _: &TableDef, key: &str) -> bool {
        key == "password"
    }

    fn own_table(&self, name: &str) -> Result<OwnTableInfo> {
        Ok(OwnTableInfo { append_only: !name.contains("changed") })
    }
}

pub const TABLES: &str = "
    CREATE TABLE orders (id BIGINT, customer_id INT, amount DECIMAL(10, 2), created_at TIMESTAMP(3), note STRING)
      WITH ('connector' = 'fake', 'password' = 'hidden');
    CREATE TABLE customers (id INT, name STRING, region VARCHAR(20), op_ts TIMESTAMP_LTZ(3) METADATA VIRTUAL,
      PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'fake', 'mode' = 'retract');
    CREATE TABLE changes (id BIGINT, customer_id INT, amount DECIMAL(10, 2), PRIMARY KEY (id) NOT ENFORCED)
      WITH ('connector' = 'fake', 'mode' = 'retract');
    CREATE TABLE prices (item STRING, price DOUBLE, PRIMARY KEY (item) NOT ENFORCED)
      WITH ('connector' = 'fake', 'mode' = 'upsert');
    CREATE TABLE events (user_id BIGINT, kind STRING, p AS PROCTIME(), twice AS user_id * 2)
      WITH ('connector' = 'fake');
    CREATE TABLE bounded_t (a INT, b INT, s STRING) WITH ('connector' = 'fake', 'bounded' = 'true');
    CREATE TABLE own_t (k INT PRIMARY KEY NOT ENFORCED, v STRING);
    CREATE TABLE own_changed (k INT, v STRING);
    CREATE TABLE out_append (a BIGINT, b STRING) WITH ('connector' = 'fake');
    CREATE TABLE out_narrow (a TINYINT NOT NULL, b VARCHAR(3)) WITH ('connector' = 'fake');
    CREATE TABLE out_retract (a BIGINT, b STRING) WITH ('connector' = 'fake', 'mode' = 'retract');
    CREATE TABLE out_upsert (a BIGINT, b STRING, PRIMARY KEY (a) NOT ENFORCED)
      WITH ('connector' = 'fake', 'mode' = 'upsert');
    CREATE TABLE out_top (region VARCHAR(20), rn BIGINT, name STRING, amount DECIMAL(10, 2),
      PRIMARY KEY (region, rn) NOT ENFORCED) WITH ('connector' = 'fake', 'mode' = 'upsert');
    CREATE TABLE m1 (a INT, b INT, PRIMARY KEY (a) NOT ENFORCED)
      WITH ('connector' = 'fake', 'mode' = 'retract', 'server' = 'x');
    CREATE TABLE m2 (a INT, c INT, PRIMARY KEY (a) NOT ENFORCED)
      WITH ('connector' = 'fake', 'mode' = 'retract', 'server' = 'x');
    CREATE TABLE keyed (id INT, x INT, s STRING, PRIMARY KEY (id) NOT ENFORCED)
      WITH ('connector' = 'fake', 'mode' = 'retract', 'bounded' = 'true');
    CREATE TABLE logged (id INT, x INT, s STRING) WITH ('connector' = 'fake', 'bounded' = 'true');
    CREATE TABLE noted (v INT) WITH ('connector' = 'fake', 'mode' = 'retract', 'note' = 'mind this');
    CREATE VIEW big_orders AS SELECT id, customer_id, amount FROM orders WHERE amount > 100;
    CREATE VIEW named (x, y) AS SELECT id, name FROM customers;
";

pub fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for parsed in parse_script(TABLES).unwrap() {
        match parsed.statement {
            Statement::CreateTable(t) => {
                catalog.create_table(&t).unwrap();
            }
            Statement::CreateView(v) => {
                catalog.create_view(&v).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    catalog
}

pub fn with_planner<T>(f: impl FnOnce(&Planner) -> T) -> T {
    let (catalog, settings) = (catalog(), PlanSettings::default());
    f(&Planner::new(&catalog, &Fake, &settings))
}

fn inserts(sql: &str) -> Result<Vec<Insert>> {
    Ok(match parse_statement(sql)? {
        Statement::Insert(i) => vec![*i],
        Statement::StatementSet(s) => s.inserts,
        other => panic!("{other:?}"),
    })
}

pub fn insert(sql: &str) -> Result<Graph> {
    let inserts = inserts(sql)?;
    with_planner(|p| p.plan_inserts(&inserts))
}

pub fn select(sql: &str) -> Result<SelectPlan> {
    match parse_statement(sql)? {
        Statement::Query(q) => with_planner(|p| p.plan_select(&q)),
        other => panic!("{other:?}"),
    }
}

/// The plan of a query or insert, without ids.
pub fn plan(sql: &str) -> String {
    let graph = if sql.trim_start().starts_with("INSERT") || sql.trim_start().starts_with("EXECUTE") {
        insert(sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
    } else {
        select(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).graph
    };
    shown(&graph)
}

pub fn shown(graph: &Graph) -> String {
    let text = explain(graph, ExplainOptions::default());
    let line = |l: &str| {
        let (before, last) = l.rsplit_once("  ").unwrap_or((l, ""));
        let is_id = last.len() == 8 && last.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id { before.trim_end().to_owned() } else { l.to_owned() }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Ids of the operators with state, by kind, without the sources'.
pub fn state_ids(graph: &Graph) -> Vec<(String, String)> {
    let mut ids: Vec<(String, String)> = graph
        .nodes
        .iter()
        .filter(|n| !n.state.is_empty() && !matches!(n.spec, OperatorSpec::Source(_)))
        .map(|n| (n.spec.meaning().kind().to_owned(), n.id.to_string()))
        .collect();
    ids.sort();
    ids
}

#[test]
fn the_catalog_of_the_tests_is_right() {
    let catalog = catalog();
    with_planner(|p| {
        for r in catalog.relations() {
            if let Relation::Table(t) = r {
                p.check_table(t).unwrap();
            }
        }
    });
}
