//! Random queries that both engines read, and whose meaning is the same in both.
//!
//! Left out, because the meanings differ on purpose (`docs/src/sql/flink.md`, `functions.md`):
//! - arithmetic that could overflow or divide by zero (an error here; the other engine wraps), so every number has a
//!   bound that its arithmetic keeps;
//! - division of DECIMAL (rounded here, cut there), AVG of whole numbers and DECIMAL (other types), sums of DOUBLE that
//!   are not exact (here they are, there the order of the rows decides);
//! - -0.0 and NaN (see `Content::Double`), so no product of DOUBLE but with a positive constant;
//! - the order of NULL where it is not said (here the smallest value, there the greatest);
//! - ROW_NUMBER, LIMIT and OFFSET without a total order (ties are broken by the input here, by chance there);
//! - functions whose NULLs or texts differ: CONCAT, GREATEST, LEAST, CAST of BOOLEAN, DOUBLE and TIMESTAMP to STRING, of
//!   texts to numbers, negative positions; LIKE with a backslash;
//! - aliases of the SELECT list in WHERE, GROUP BY and HAVING.

use super::random::Random;
use super::tables::{Content, Table};

/// What decides where an expression can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Decimal,
    Double,
    Text,
    Boolean,
    Date,
    Timestamp,
}

const KINDS: [Kind; 7] =
    [Kind::Integer, Kind::Decimal, Kind::Double, Kind::Text, Kind::Boolean, Kind::Date, Kind::Timestamp];

/// An expression, and what its absolute value is at most: `None` for numbers that are not computed with.
#[derive(Debug, Clone)]
struct Scalar {
    sql: String,
    kind: Kind,
    bound: Option<f64>,
}

/// Something that stands in FROM.
#[derive(Debug, Clone)]
struct Relation {
    /// `name alias` or `(query) alias`
    sql: String,
    columns: Vec<Scalar>,
    /// Rows at most.
    rows: f64,
}

pub struct Query {
    pub sql: String,
    /// The rows come in this order; else in any.
    pub is_ordered: bool,
}

/// Beyond these an INT, a DECIMAL of few digits could overflow, and a sum of quarters would not be exact.
const INTEGER_MAX: f64 = 1e9;
const DECIMAL_MAX: f64 = 1e9;
const QUARTER_MAX: f64 = 1e12;
/// Rows of a join at most.
const ROWS_MAX: f64 = 5_000.0;
const NESTING_MAX: usize = 3;

pub struct Grammar<'a> {
    random: &'a mut Random,
    tables: &'a [Table],
    /// Relations of WITH.
    common: Vec<Relation>,
    aliases: usize,
}

impl<'a> Grammar<'a> {
    pub fn new(tables: &'a [Table], random: &'a mut Random) -> Self {
        Grammar { random, tables, common: vec![], aliases: 0 }
    }

    pub fn query(mut self) -> Query {
        let mut with = vec![];
        for i in 0..self.random.below(8).saturating_sub(5) {
            let (sql, relation) = self.select(NESTING_MAX - 1);
            let name = format!("cte{i}");
            with.push(format!("{name} AS ({sql})"));
            self.common.push(Relation { sql: name, ..relation });
        }
        let (mut sql, relation) = self.select(NESTING_MAX);
        let is_ordered = self.random.one_in(3);
        if is_ordered {
            let names = relation.columns.iter().map(|c| c.sql.clone()).collect();
            sql = format!("SELECT * FROM ({sql}) AS answer ORDER BY {}", self.total_order(names));
            match self.random.below(4) {
                0 => sql.push_str(&format!(" LIMIT {}", self.random.below(6))),
                1 => sql.push_str(&format!(" LIMIT {} OFFSET {}", self.random.below(4), self.random.below(4))),
                _ => {}
            }
        }
        if !with.is_empty() {
            sql = format!("WITH {} {sql}", with.join(", "));
        }
        Query { sql, is_ordered }
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("r{}", self.aliases)
    }

    /// A relation under a new alias, its columns with the alias before them.
    fn named(&mut self, sql: &str, columns: &[Scalar], rows: f64) -> Relation {
        let alias = self.alias();
        let columns = columns.iter().map(|c| Scalar { sql: format!("{alias}.{}", c.sql), ..c.clone() }).collect();
        Relation { sql: format!("{sql} AS {alias}"), columns, rows }
    }

    fn relation(&mut self, depth: usize) -> Relation {
        if depth == 0 || self.random.one_in(3) {
            let n = self.common.len();
            if n > 0 && self.random.one_in(2) {
                let c = self.common[self.random.below(n)].clone();
                return self.named(&c.sql, &c.columns, c.rows);
            }
            let t = &self.tables[self.random.below(self.tables.len())];
            let columns: Vec<Scalar> = t.columns.iter().map(|(name, content)| of_content(name, *content)).collect();
            return self.named(t.name, &columns, t.rows.len() as f64);
        }
        let (sql, r) = self.select(depth - 1);
        self.named(&format!("({sql})"), &r.columns, r.rows)
    }

    /// A SELECT, and what it gives, its columns under their bare names.
    fn select(&mut self, depth: usize) -> (String, Relation) {
        match self.random.below(10) {
            0..=2 => self.project(depth, false),
            3 => self.project(depth, true),
            4 | 5 => self.aggregate(depth),
            6 => self.join(depth),
            7 => self.union(depth),
            8 => self.top_n(depth),
            _ => self.limit(depth),
        }
    }

    /// Items with aliases c0, c1, …
    fn items(&mut self, exprs: &[Scalar]) -> (String, Vec<Scalar>) {
        let items = exprs.iter().enumerate().map(|(i, e)| format!("{} AS c{i}", e.sql)).collect::<Vec<_>>();
        let columns = exprs.iter().enumerate().map(|(i, e)| Scalar { sql: format!("c{i}"), ..e.clone() });
        (items.join(", "), columns.collect())
    }

    fn some_exprs(&mut self, from: &[Scalar], most: usize) -> Vec<Scalar> {
        (0..1 + self.random.below(most)).map(|_| self.any(from, 2)).collect()
    }

    fn project(&mut self, depth: usize, is_distinct: bool) -> (String, Relation) {
        let from = self.relation(depth);
        let exprs = self.some_exprs(&from.columns, 4);
        let (items, columns) = self.items(&exprs);
        let distinct = if is_distinct { "DISTINCT " } else { "" };
        let condition = self.where_clause(&from.columns);
        (
            format!("SELECT {distinct}{items} FROM {}{condition}", from.sql),
            Relation { sql: String::new(), columns, rows: from.rows },
        )
    }

    fn where_clause(&mut self, columns: &[Scalar]) -> String {
        if self.random.one_in(3) { format!(" WHERE {}", self.boolean(columns, 2)) } else { String::new() }
    }

    fn aggregate(&mut self, depth: usize) -> (String, Relation) {
        let from = self.relation(depth);
        let condition = self.where_clause(&from.columns);
        let keys: Vec<Scalar> = match self.random.below(4) {
            0 => vec![],
            n => (0..n.min(2)).map(|_| self.any(&from.columns, 1)).collect(),
        };
        // A literal is a position in the SELECT list.
        let has_column = |k: &Scalar| from.columns.iter().any(|c| k.sql.contains(&c.sql));
        let keys: Vec<Scalar> = keys.into_iter().filter(has_column).collect();
        let mut exprs = keys.clone();
        for _ in 0..1 + self.random.below(3) {
            let call = self.call(&from.columns, from.rows);
            exprs.push(call);
        }
        let having = if self.random.one_in(5) {
            let calls: Vec<Scalar> = (0..2).map(|_| self.call(&from.columns, from.rows)).collect();
            format!(" HAVING {}", self.boolean(&calls, 1))
        } else {
            String::new()
        };
        let group = if keys.is_empty() {
            String::new()
        } else {
            format!(" GROUP BY {}", keys.iter().map(|k| k.sql.as_str()).collect::<Vec<_>>().join(", "))
        };
        let (items, columns) = self.items(&exprs);
        let rows = from.rows.max(1.0);
        (
            format!("SELECT {items} FROM {}{condition}{group}{having}", from.sql),
            Relation { sql: String::new(), columns, rows },
        )
    }

    /// An aggregate call.
    fn call(&mut self, columns: &[Scalar], rows: f64) -> Scalar {
        let filter =
            if self.random.one_in(4) { format!(" FILTER (WHERE {})", self.boolean(columns, 1)) } else { String::new() };
        let distinct = if self.random.one_in(4) { "DISTINCT " } else { "" };
        let count = Scalar { sql: format!("COUNT(*){filter}"), kind: Kind::Integer, bound: Some(rows) };
        match self.random.below(8) {
            0 => count,
            1 => Scalar { sql: format!("COUNT({distinct}{}){filter}", self.any(columns, 1).sql), ..count },
            2..=4 => {
                let of = self.any(columns, 1);
                let name = self.random.pick(&["MIN", "MAX"]);
                Scalar { sql: format!("{name}({distinct}{}){filter}", of.sql), ..of }
            }
            5 => {
                let of = self.double(columns, 1);
                match of.bound {
                    Some(b) if b * rows < QUARTER_MAX => {
                        let name = self.random.pick(&["SUM", "AVG"]);
                        let bound = if name == "SUM" { Some(b * rows.max(1.0)) } else { None };
                        Scalar { sql: format!("{name}({distinct}{}){filter}", of.sql), kind: Kind::Double, bound }
                    }
                    _ => count,
                }
            }
            _ => {
                let of = if self.random.one_in(2) { self.integer(columns, 1) } else { self.decimal(columns, 1) };
                match of.bound {
                    Some(b) if b * rows < INTEGER_MAX => {
                        // The digits of a DECIMAL sum differ (38 here), and so would those of what is computed with it.
                        let bound = (of.kind == Kind::Integer).then_some(b * rows.max(1.0));
                        Scalar { sql: format!("SUM({distinct}{}){filter}", of.sql), kind: of.kind, bound }
                    }
                    _ => count,
                }
            }
        }
    }

    fn join(&mut self, depth: usize) -> (String, Relation) {
        let depth = depth.saturating_sub(1);
        let (left, right) = (self.relation(depth), self.relation(depth));
        let rows = left.rows * right.rows;
        if rows > ROWS_MAX {
            return self.project(0, false);
        }
        let both: Vec<Scalar> = left.columns.iter().chain(&right.columns).cloned().collect();
        let mut conditions = vec![];
        for _ in 0..self.random.below(3) {
            let pairs: Vec<(&Scalar, &Scalar)> = left
                .columns
                .iter()
                .flat_map(|l| right.columns.iter().map(move |r| (l, r)))
                .filter(|(l, r)| l.kind == r.kind)
                .collect();
            if !pairs.is_empty() {
                let (l, r) = pairs[self.random.below(pairs.len())];
                conditions.push(format!("{} = {}", l.sql, r.sql));
            }
        }
        if self.random.one_in(3) {
            conditions.push(self.boolean(&both, 2));
        }
        let join = match conditions.is_empty() {
            true => format!("{} CROSS JOIN {}", left.sql, right.sql),
            false => format!("{} JOIN {} ON {}", left.sql, right.sql, conditions.join(" AND ")),
        };
        let exprs = self.some_exprs(&both, 4);
        let (items, columns) = self.items(&exprs);
        let condition = self.where_clause(&both);
        (format!("SELECT {items} FROM {join}{condition}"), Relation { sql: String::new(), columns, rows })
    }

    fn union(&mut self, depth: usize) -> (String, Relation) {
        let from = self.relation(depth);
        let exprs = self.some_exprs(&from.columns, 3);
        let (items, mut columns) = self.items(&exprs);
        let mut sql = format!("SELECT {items} FROM {}{}", from.sql, self.where_clause(&from.columns));
        let mut rows = from.rows;
        for _ in 0..1 + self.random.below(2) {
            let other = self.relation(depth.saturating_sub(1));
            let exprs: Vec<Scalar> = columns.iter().map(|c| self.of(c.kind, &other.columns, 1)).collect();
            let items: Vec<&str> = exprs.iter().map(|e| e.sql.as_str()).collect();
            let condition = self.where_clause(&other.columns);
            sql.push_str(&format!(" UNION ALL SELECT {} FROM {}{condition}", items.join(", "), other.sql));
            for (column, e) in columns.iter_mut().zip(&exprs) {
                column.bound = column.bound.zip(e.bound).map(|(a, b)| a.max(b));
            }
            rows += other.rows;
        }
        (sql, Relation { sql: String::new(), columns, rows })
    }

    /// All of some columns in a random order: rows that tie are equal in them.
    fn total_order(&mut self, mut names: Vec<String>) -> String {
        self.random.shuffle(&mut names);
        let items = names.into_iter().map(|n| {
            let direction = self.random.pick(&["", " ASC", " DESC"]);
            let nulls = self.random.pick(&["FIRST", "LAST"]);
            format!("{n}{direction} NULLS {nulls}")
        });
        items.collect::<Vec<_>>().join(", ")
    }

    fn top_n(&mut self, depth: usize) -> (String, Relation) {
        let (inner, r) = self.select(depth.saturating_sub(1));
        let inner = self.named(&format!("({inner})"), &r.columns, r.rows);
        let names: Vec<String> = inner.columns.iter().map(|c| c.sql.clone()).collect();
        let partition = match self.random.below(3) {
            0 => String::new(),
            _ => format!("PARTITION BY {} ", names[self.random.below(names.len())]),
        };
        let order = self.total_order(names);
        let (items, mut columns) = self.items(&inner.columns);
        let alias = self.alias();
        let k = 1 + self.random.below(4);
        let rank = match self.random.below(5) {
            0 => format!("rn = {k}"),
            1 => format!("rn BETWEEN {k} AND {}", k + self.random.below(3)),
            2 => format!("rn < {}", k + 1),
            _ => format!("rn <= {k}"),
        };
        // The rank in the output or not is not one plan.
        let shown = if self.random.one_in(2) {
            columns.push(Scalar { sql: "rn".to_owned(), kind: Kind::Integer, bound: Some(1e3) });
            // The other engine counts in unsigned numbers.
            format!("{}, CAST({alias}.rn AS BIGINT) AS rn", names_of(&alias, &columns[..columns.len() - 1]))
        } else {
            names_of(&alias, &columns)
        };
        let more = if self.random.one_in(3) {
            let columns: Vec<Scalar> =
                columns.iter().map(|c| Scalar { sql: format!("{alias}.{}", c.sql), ..c.clone() }).collect();
            format!(" AND {}", self.boolean(&columns[..inner.columns.len()], 1))
        } else {
            String::new()
        };
        let sql = format!(
            "SELECT {shown} FROM (SELECT {items}, ROW_NUMBER() OVER ({partition}ORDER BY {order}) AS rn FROM {}) AS \
             {alias} WHERE {alias}.{rank}{more}",
            inner.sql
        );
        (sql, Relation { sql: String::new(), columns, rows: r.rows })
    }

    fn limit(&mut self, depth: usize) -> (String, Relation) {
        let from = self.relation(depth);
        let exprs = self.some_exprs(&from.columns, 3);
        let (items, columns) = self.items(&exprs);
        let order = self.total_order(columns.iter().map(|c| c.sql.clone()).collect());
        let condition = self.where_clause(&from.columns);
        let limit = self.random.below(7);
        let sql = format!("SELECT {items} FROM {}{condition} ORDER BY {order} LIMIT {limit}", from.sql);
        // In parentheses: it can stand before UNION ALL.
        (
            format!("SELECT * FROM ({sql}) AS {}", self.alias()),
            Relation { sql: String::new(), columns, rows: from.rows.min(limit as f64) },
        )
    }

    // Expressions ------------------------------------------------------------------------------------------------

    fn any(&mut self, from: &[Scalar], depth: usize) -> Scalar {
        let kind = match self.random.below(3) {
            0 => KINDS[self.random.below(KINDS.len())],
            _ => from[self.random.below(from.len())].kind,
        };
        self.of(kind, from, depth)
    }

    fn of(&mut self, kind: Kind, from: &[Scalar], depth: usize) -> Scalar {
        if depth > 0 && self.random.one_in(5) {
            return self.conditional(kind, from, depth);
        }
        match kind {
            Kind::Integer => self.integer(from, depth),
            Kind::Decimal => self.decimal(from, depth),
            Kind::Double => self.double(from, depth),
            Kind::Text => Scalar { sql: self.text(from, depth), kind, bound: None },
            Kind::Boolean => Scalar { sql: self.boolean(from, depth), kind, bound: None },
            Kind::Date => Scalar { sql: self.date(from, depth), kind, bound: None },
            Kind::Timestamp => Scalar { sql: self.timestamp(from, depth), kind, bound: None },
        }
    }

    /// CASE, COALESCE and NULLIF, of every kind.
    fn conditional(&mut self, kind: Kind, from: &[Scalar], depth: usize) -> Scalar {
        let (a, b) = (self.of(kind, from, depth - 1), self.of(kind, from, depth - 1));
        let (x, y) = (&a.sql, &b.sql);
        let sql = match self.random.below(5) {
            0 => format!("CASE WHEN {} THEN {x} ELSE {y} END", self.boolean(from, depth - 1)),
            1 => format!("CASE WHEN {} THEN {x} END", self.boolean(from, depth - 1)),
            2 => {
                let operand = self.column(Kind::Integer, from).map_or("1".to_owned(), |c| c.sql);
                format!("CASE {operand} WHEN 1 THEN {x} WHEN {} THEN {y} END", self.random.between(-1, 3))
            }
            3 => format!("COALESCE({x}, {y})"),
            _ => format!("NULLIF({x}, {y})"),
        };
        Scalar { sql, kind, bound: a.bound.zip(b.bound).map(|(a, b)| a.max(b)) }
    }

    fn column(&mut self, kind: Kind, from: &[Scalar]) -> Option<Scalar> {
        let of_kind: Vec<&Scalar> = from.iter().filter(|c| c.kind == kind).collect();
        (!of_kind.is_empty()).then(|| of_kind[self.random.below(of_kind.len())].clone())
    }

    fn integer(&mut self, from: &[Scalar], depth: usize) -> Scalar {
        let literal = |i: i64| Scalar { sql: i.to_string(), kind: Kind::Integer, bound: Some(i.abs() as f64) };
        let leaf = match self.column(Kind::Integer, from) {
            Some(c) if !self.random.one_in(5) => c,
            _ => literal(self.random.between(0, 5)),
        };
        if depth == 0 {
            return leaf;
        }
        let other = self.integer(from, depth - 1);
        let within = |sql: String, bound: Option<f64>| match bound {
            Some(b) if b < INTEGER_MAX => Scalar { sql, kind: Kind::Integer, bound },
            _ => leaf.clone(),
        };
        let both = leaf.bound.zip(other.bound);
        let (x, y) = (&leaf.sql, &other.sql);
        match self.random.below(12) {
            0 => within(format!("({x} + {y})"), both.map(|(a, b)| a + b)),
            1 => within(format!("({x} - {y})"), both.map(|(a, b)| a + b)),
            2 => within(format!("({x} * {y})"), both.map(|(a, b)| a * b)),
            3 => within(format!("CASE WHEN {y} <> 0 THEN {x} / {y} END"), both.map(|(a, _)| a)),
            4 => within(format!("CASE WHEN {y} <> 0 THEN {x} % {y} ELSE {x} END"), both.map(|(a, _)| a)),
            5 => within(format!("ABS({x})"), leaf.bound),
            6 => within(format!("(-{x})").replace("--", "- -"), leaf.bound),
            7 => within(format!("CHAR_LENGTH({})", self.text(from, depth - 1)), Some(1e3)),
            8 => {
                let unit = self.random.pick(&["YEAR", "MONTH", "DAY", "QUARTER"]);
                let of = self.date(from, 0);
                within(format!("EXTRACT({unit} FROM {of})"), Some(1e4))
            }
            9 => within(format!("POSITION('a' IN {})", self.text(from, depth - 1)), Some(1e3)),
            10 => {
                let of = self.decimal(from, 0);
                within(format!("CAST({} AS INT)", of.sql), of.bound.map(|b| b + 1.0))
            }
            _ => leaf,
        }
    }

    /// DECIMAL; all that is computed with has at most 20 digits, of which at most 4 behind the point.
    fn decimal(&mut self, from: &[Scalar], depth: usize) -> Scalar {
        let kind = Kind::Decimal;
        let leaf = match self.column(kind, from) {
            Some(c) if !self.random.one_in(5) => c,
            _ => {
                Scalar { sql: self.random.pick(&["0.00", "1.25", "-7.5", "99.99"]).to_owned(), kind, bound: Some(1e2) }
            }
        };
        if depth == 0 {
            return leaf;
        }
        let bounded = |sql: String, bound: f64| Scalar { sql, kind, bound: Some(bound) };
        let Some(b) = leaf.bound.filter(|b| *b < DECIMAL_MAX) else { return leaf };
        let (x, n) = (&leaf.sql, self.random.between(1, 4));
        match self.random.below(8) {
            0 => bounded(format!("CAST({x} + {n}.5 AS DECIMAL(18, 4))"), b + 5.0),
            1 => bounded(format!("CAST({x} * {n} AS DECIMAL(18, 4))"), b * 4.0),
            2 => bounded(format!("CAST({x} AS DECIMAL(18, 1))"), b + 1.0),
            3 => bounded(
                format!("CAST(CAST({x} AS DECIMAL(12, 2)) * CAST({x} AS DECIMAL(12, 2)) AS DECIMAL(38, 4))"),
                b * b,
            ),
            4 => bounded(format!("ABS({x})"), b),
            5 => {
                let of = self.integer(from, depth - 1);
                match of.bound {
                    Some(b) if b < DECIMAL_MAX => bounded(format!("CAST({} AS DECIMAL(14, 2))", of.sql), b),
                    _ => leaf,
                }
            }
            6 => bounded(format!("(-{x})").replace("--", "- -"), b),
            _ => leaf,
        }
    }

    fn double(&mut self, from: &[Scalar], depth: usize) -> Scalar {
        let kind = Kind::Double;
        let leaf = match self.column(kind, from) {
            Some(c) if !self.random.one_in(5) => c,
            _ => Scalar {
                sql: self.random.pick(&["CAST(0 AS DOUBLE)", "CAST(0.25 AS DOUBLE)", "CAST(-1 AS DOUBLE)"]).to_owned(),
                kind,
                bound: Some(1.0),
            },
        };
        if depth == 0 {
            return leaf;
        }
        let other = self.double(from, depth - 1);
        let exact = |sql: String, bound: Option<f64>| match bound {
            Some(b) if b < QUARTER_MAX => Scalar { sql, kind, bound },
            _ => leaf.clone(),
        };
        let both = leaf.bound.zip(other.bound);
        let (x, y) = (&leaf.sql, &other.sql);
        match self.random.below(7) {
            0 => exact(format!("({x} + {y})"), both.map(|(a, b)| a + b)),
            1 => exact(format!("({x} - {y})"), both.map(|(a, b)| a + b)),
            2 => exact(format!("({x} * CAST(2 AS DOUBLE))"), leaf.bound.map(|b| b * 2.0)),
            // Rounded, so it is not summed up any more.
            3 if leaf.bound.is_some() => Scalar { sql: format!("({x} / CAST(3 AS DOUBLE))"), kind, bound: None },
            4 => exact(format!("ABS({x})"), leaf.bound),
            5 => {
                let of = self.integer(from, depth - 1);
                exact(format!("CAST({} AS DOUBLE)", of.sql), of.bound)
            }
            _ => leaf,
        }
    }

    fn text(&mut self, from: &[Scalar], depth: usize) -> String {
        let leaf = match self.column(Kind::Text, from) {
            Some(c) if !self.random.one_in(5) => c.sql,
            _ => self.random.pick(&["''", "'a'", "'Äb'", "'x y'"]).to_owned(),
        };
        if depth == 0 {
            return leaf;
        }
        let x = leaf;
        let (n, m) = (self.random.between(1, 3), self.random.between(0, 3));
        match self.random.below(16) {
            0 => format!("({x} || {})", self.text(from, depth - 1)),
            1 => format!("UPPER({x})"),
            2 => format!("LOWER({x})"),
            3 => format!("SUBSTRING({x} FROM {n} FOR {m})"),
            4 => format!("SUBSTRING({x} FROM {n})"),
            5 => format!("REPLACE({x}, 'a', 'bc')"),
            6 => format!("REVERSE({x})"),
            7 => format!("LEFT({x}, {m})"),
            8 => format!("RIGHT({x}, {m})"),
            9 => format!("LPAD({x}, {m}, 'xy')"),
            10 => format!("RPAD({x}, {n}, '-')"),
            11 => format!("TRIM({x})"),
            12 => format!("TRIM(LEADING 'a' FROM {x})"),
            13 => format!("CONCAT_WS('-', {x}, {})", self.text(from, depth - 1)),
            14 => format!("CAST({} AS STRING)", self.integer(from, depth - 1).sql),
            _ => format!("REPEAT({x}, {m})"),
        }
    }

    fn date(&mut self, from: &[Scalar], depth: usize) -> String {
        let leaf = match self.column(Kind::Date, from) {
            Some(c) if !self.random.one_in(5) => c.sql,
            _ => self.random.pick(&["DATE '2022-01-31'", "DATE '2022-01-09'", "DATE '1600-02-29'"]).to_owned(),
        };
        match self.random.below(if depth == 0 { 1 } else { 3 }) {
            1 => format!("CAST({} AS DATE)", self.timestamp(from, depth - 1)),
            _ => leaf,
        }
    }

    fn timestamp(&mut self, from: &[Scalar], depth: usize) -> String {
        let leaf = match self.column(Kind::Timestamp, from) {
            Some(c) if !self.random.one_in(5) => c.sql,
            _ => self
                .random
                .pick(&["TIMESTAMP '1970-01-01 23:59:59.999999'", "TIMESTAMP '2022-01-31 00:00:00'"])
                .to_owned(),
        };
        match self.random.below(if depth == 0 { 1 } else { 4 }) {
            1 => format!("({leaf} + INTERVAL '36' HOUR)"),
            2 => format!("({leaf} - INTERVAL '1' MONTH)"),
            _ => leaf,
        }
    }

    fn boolean(&mut self, from: &[Scalar], depth: usize) -> String {
        if depth == 0 {
            return match self.column(Kind::Boolean, from) {
                Some(c) if self.random.one_in(2) => c.sql,
                _ => self.comparison(from, 0),
            };
        }
        let of = |g: &mut Self| g.boolean(from, depth - 1);
        match self.random.below(14) {
            0 | 1 => format!("({} AND {})", of(self), of(self)),
            2 => format!("({} OR {})", of(self), of(self)),
            3 => format!("(NOT {})", of(self)),
            4 => {
                let not = self.random.pick(&["", "NOT "]);
                format!("({} IS {not}NULL)", self.any(from, depth - 1).sql)
            }
            5 => {
                let what = self.random.pick(&["TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN", "NOT UNKNOWN"]);
                format!("({} IS {what})", of(self))
            }
            6 => {
                let not = self.random.pick(&["", "NOT "]);
                let x = self.integer(from, depth - 1).sql;
                let nothing = if self.random.one_in(4) { ", NULL" } else { "" };
                format!("({x} {not}IN (1, 2, {}{nothing}))", self.random.between(-3, 9))
            }
            7 => {
                let not = self.random.pick(&["", "NOT "]);
                let kind = [Kind::Integer, Kind::Decimal, Kind::Date, Kind::Text][self.random.below(4)];
                let [x, y, z] = [(); 3].map(|()| self.of(kind, from, 0).sql);
                format!("({x} {not}BETWEEN {y} AND {z})")
            }
            8 => {
                let not = self.random.pick(&["", "NOT "]);
                let pattern = self.random.pick(&["a%", "%b", "_", "%", "", "a_", "%北%"]);
                format!("({} {not}LIKE '{pattern}')", self.text(from, depth - 1))
            }
            9 => {
                let not = self.random.pick(&["", "NOT "]);
                let kind = KINDS[self.random.below(KINDS.len())];
                let (x, y) = (self.of(kind, from, depth - 1), self.of(kind, from, depth - 1));
                format!("({} IS {not}DISTINCT FROM {})", x.sql, y.sql)
            }
            _ => self.comparison(from, depth - 1),
        }
    }

    fn comparison(&mut self, from: &[Scalar], depth: usize) -> String {
        let op = self.random.pick(&["=", "<>", "<", "<=", ">", ">="]);
        let x = self.any(from, depth);
        let y = self.of(x.kind, from, depth);
        // The other engine takes `x = x` for a constant also where x is NULL.
        if x.sql == y.sql {
            return format!("({} IS NULL)", x.sql);
        }
        format!("({} {op} {})", x.sql, y.sql)
    }
}

fn names_of(alias: &str, columns: &[Scalar]) -> String {
    columns.iter().map(|c| format!("{alias}.{}", c.sql)).collect::<Vec<_>>().join(", ")
}

fn of_content(name: &str, content: Content) -> Scalar {
    let (kind, bound) = match content {
        Content::Id => (Kind::Integer, Some(100.0)),
        Content::SmallInt => (Kind::Integer, Some(10.0)),
        Content::BigInt => (Kind::Integer, None),
        Content::SmallDecimal => (Kind::Decimal, Some(100.0)),
        Content::BigDecimal => (Kind::Decimal, None),
        Content::Quarter => (Kind::Double, Some(10.0)),
        Content::Double => (Kind::Double, None),
        Content::Text => (Kind::Text, None),
        Content::Boolean => (Kind::Boolean, None),
        Content::Date => (Kind::Date, None),
        Content::Timestamp => (Kind::Timestamp, None),
    };
    Scalar { sql: name.to_owned(), kind, bound }
}
