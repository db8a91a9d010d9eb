//! Thousands of random queries: each is planned or refused for a reason that a user understands, never by a broken
//! invariant, and planned twice it is the same plan.

use thalweg_core::ErrorCode;

use super::{Fake, catalog};
use crate::planner::{PlanSettings, Planner};
use crate::sql::{Statement, parse_statement};

const QUERIES: u64 = 3000;
const NESTING_MAX: u32 = 3;

/// A relation in the making: its text and its columns' names by kind.
pub struct Made {
    sql: String,
    numbers: Vec<String>,
    texts: Vec<String>,
}

pub struct Random {
    state: u64,
    /// Only what the plain interpreter of the tests knows, and orders without ties.
    plain: bool,
}

impl Random {
    fn new(seed: u64) -> Self {
        Random { state: seed, plain: false }
    }

    pub fn over_whole_numbers(seed: u64) -> Self {
        Random { state: seed, plain: true }
    }

    pub fn query(&mut self) -> String {
        let of = self.relation(NESTING_MAX);
        let (n, t) = (self.number(&of, 2), self.text(&of));
        format!("SELECT {n}, {t} FROM {} WHERE {}", of.sql, self.condition(&of, 2))
    }

    /// SplitMix64.
    fn next(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below as u64) as usize
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.next(of.len())]
    }

    fn name<'a>(&mut self, of: &'a [String]) -> &'a str {
        &of[self.next(of.len())]
    }

    fn table(&mut self) -> Made {
        let made = |table: &str, numbers: &[&str], texts: &[&str]| Made {
            sql: table.to_owned(),
            numbers: numbers.iter().map(|c| c.to_string()).collect(),
            texts: texts.iter().map(|c| c.to_string()).collect(),
        };
        if self.plain {
            let name = self.pick(&["keyed", "logged"]);
            return made(name, &["id", "x"], &["s"]);
        }
        match self.next(7) {
            0 => made("orders", &["id", "customer_id", "amount"], &["note"]),
            1 => made("customers", &["id"], &["name", "region"]),
            2 => made("changes", &["id", "customer_id", "amount"], &["'c'"]),
            3 => made("prices", &["price"], &["item"]),
            4 => made("events", &["user_id", "twice"], &["kind"]),
            5 => made("own_changed", &["k"], &["v"]),
            _ => made("big_orders", &["id", "amount"], &["'b'"]),
        }
    }

    fn number(&mut self, of: &Made, depth: u32) -> String {
        let n = self.name(&of.numbers).to_owned();
        match self.next(if depth == 0 { 2 } else { 8 }) {
            0 | 1 => n,
            2 => self.next(100).to_string(),
            3 => format!("({} + {})", n, self.number(of, depth - 1)),
            4 if self.plain => n,
            4 => format!("({} / {})", n, self.number(of, depth - 1)),
            5 => {
                format!("CASE WHEN {} THEN {n} ELSE {} END", self.condition(of, depth - 1), self.number(of, depth - 1))
            }
            6 if self.plain => format!("COALESCE({n}, {})", self.next(5)),
            6 => format!("CAST({} AS {})", n, self.pick(&["BIGINT", "INT", "DOUBLE", "DECIMAL(20, 3)"])),
            _ if self.plain => format!("CAST({n} AS BIGINT)"),
            _ => self.pick(&["CHAR_LENGTH('abc')", "RAND()", "ABS(-2)", "COALESCE(NULL, 1)"]).to_owned(),
        }
    }

    fn text(&mut self, of: &Made) -> String {
        let t = self.name(&of.texts).to_owned();
        match self.next(4) {
            0 => format!("UPPER({t})"),
            1 => format!("{t} || 'x'"),
            _ => t,
        }
    }

    fn condition(&mut self, of: &Made, depth: u32) -> String {
        let op = self.pick(&["=", "<>", "<", ">="]);
        match self.next(if depth == 0 { 3 } else { 7 }) {
            0 => format!("{} {op} {}", self.number(of, depth), self.number(of, depth)),
            1 => format!("{} {op} 'b'", self.text(of)),
            2 => format!("{} IS NOT NULL", self.name(&of.numbers)),
            3 => format!("({} AND {})", self.condition(of, depth - 1), self.condition(of, depth - 1)),
            4 => format!("({} OR NOT {})", self.condition(of, depth - 1), self.condition(of, depth - 1)),
            5 => format!("{} IN (1, 2, {})", self.name(&of.numbers), self.next(9)),
            _ => format!("{} LIKE 'a%'", self.text(of)),
        }
    }

    fn relation(&mut self, depth: u32) -> Made {
        if depth == 0 || self.next(3) == 0 {
            return self.table();
        }
        let of = self.relation(depth - 1);
        let (n, t) = (self.number(&of, 1), self.text(&of));
        let condition = self.condition(&of, 2);
        let from = &of.sql;
        let sql = match self.next(8) {
            0 => format!("(SELECT {n} AS n, {t} AS t, {} AS n2 FROM {from} WHERE {condition})", self.number(&of, 2)),
            1 => format!(
                "(SELECT {t} AS t, {}({n}) AS n, COUNT(DISTINCT {n}) AS n2 FROM {from} WHERE {condition} GROUP BY {t})",
                self.pick(&["SUM", "MIN", "MAX", "AVG", "COUNT"])
            ),
            2 => format!("(SELECT DISTINCT {n} AS n, {t} AS t, {n} AS n2 FROM {from})"),
            3 => {
                // Without ties, which may be broken in several ways.
                let key = if self.plain { format!("{n} DESC, {t}") } else { self.name(&of.numbers).to_owned() };
                let rank = self.pick(&["<= 3", "= 1", "< 9", "BETWEEN 2 AND 4"]);
                format!(
                    "(SELECT n, t, rn AS n2 FROM (SELECT {n} AS n, {t} AS t, ROW_NUMBER() OVER (PARTITION BY {t} \
                     ORDER BY {key}) AS rn FROM {from}) x WHERE rn {rank} AND n > 1)"
                )
            }
            4 => {
                let other = self.relation(depth - 1);
                let (m, u) = (self.number(&other, 1), self.text(&other));
                format!(
                    "(SELECT {n} AS n, {t} AS t, {n} AS n2 FROM {from} UNION ALL SELECT {m}, {u}, 1 FROM {})",
                    other.sql
                )
            }
            5 => format!("(SELECT {n} AS n, {t} AS t, {n} AS n2 FROM {from} ORDER BY 1, 2 LIMIT {})", self.next(5)),
            _ => {
                let other = self.relation(depth - 1);
                let on = self.pick(&["l.n = r.n", "l.t = r.t", "l.n = r.n AND l.n < r.n2 + 1", "l.n < r.n"]);
                let (m, u) = (self.number(&other, 1), self.text(&other));
                format!(
                    "(SELECT l.n AS n, r.t AS t, r.n2 FROM (SELECT {n} AS n, {t} AS t FROM {from}) l JOIN \
                     (SELECT {m} AS n, {u} AS t, {m} AS n2 FROM {} x WHERE {}) r ON {on} WHERE l.n > 3)",
                    other.sql,
                    self.condition(&other, 2),
                )
            }
        };
        // Every derived table needs a name of its own only if it is named.
        Made { sql, numbers: vec!["n".to_owned(), "n2".to_owned()], texts: vec!["t".to_owned()] }
    }
}

#[test]
fn random_queries_are_planned_or_refused_with_a_reason() {
    let (catalog, settings) = (catalog(), PlanSettings::default());
    let planner = Planner::new(&catalog, &Fake, &settings);
    let mut planned = 0;
    for seed in 0..QUERIES {
        let sql = Random::new(seed).query();
        let query = match parse_statement(&sql) {
            Ok(Statement::Query(q)) => q,
            other => panic!("seed {seed}: {sql}\n{other:?}"),
        };
        match planner.plan_select(&query) {
            Ok(plan) => {
                planned += 1;
                assert_eq!(plan.graph, planner.plan_select(&query).unwrap().graph, "seed {seed}: {sql}");
            }
            Err(e) => {
                let understood = matches!(e.code(), ErrorCode::Type | ErrorCode::Unsupported | ErrorCode::Name);
                assert!(understood, "seed {seed}: {sql}\n{e}");
            }
        }
    }
    assert!(planned > QUERIES * 3 / 4, "only {planned} of {QUERIES} could be planned");
}
