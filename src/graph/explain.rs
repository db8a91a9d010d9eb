//! EXPLAIN: the graph as a tree, from the sinks up the edges; and expressions as SQL.

use std::collections::HashSet;
use std::fmt::Write;

use thalweg_core::SqlType;
use thalweg_core::calendar::civil_of_days;
use thalweg_core::state::{KeyColumn, StateTableSpec, ValueColumn};

use crate::expr::{Expr, Literal, LiteralValue};
use crate::node::{Edge, Graph, Node, NodeIx, OperatorSpec, Output, Partitioning};

/// How EXPLAIN prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExplainOptions {
    /// Ids in full, columns with types, state tables with types, orders and versions.
    pub verbose: bool,
}

/// Width from which on the ids are not pushed further right by long lines, in characters.
const ID_COLUMN_MAX: usize = 100;

/// The graph as a tree: per operator its line with its id, its state tables, and under `▲` what flows up the edge. A node
/// with several consumers is printed once.
pub fn explain(graph: &Graph, options: ExplainOptions) -> String {
    let mut tree = Tree { graph, options, lines: vec![], printed: HashSet::new() };
    let consumed: HashSet<NodeIx> = graph.nodes.iter().flat_map(|n| n.inputs.iter().map(|e| e.from)).collect();
    for root in (0..graph.nodes.len()).filter(|ix| !consumed.contains(ix)) {
        tree.node(root, None, "", "");
    }
    tree.finish()
}

struct Tree<'g> {
    graph: &'g Graph,
    options: ExplainOptions,
    /// Text, and the id that stands right of it.
    lines: Vec<(String, Option<String>)>,
    /// With the table, if it is a source of several.
    printed: HashSet<(NodeIx, usize)>,
}

impl Tree<'_> {
    fn id(&self, node: &Node) -> String {
        if self.options.verbose { node.id.to_string() } else { node.id.short() }
    }

    /// `edge`: the one by which this node was reached (it says which table of a source).
    fn node(&mut self, ix: NodeIx, edge: Option<&Edge>, first: &str, rest: &str) {
        let graph = self.graph;
        let node = &graph.nodes[ix];
        let id = self.id(node);
        let title = match (&node.spec, edge) {
            // One reader of several tables: this is the one that is meant.
            (OperatorSpec::Source(s), Some(e)) => s.table_title(e.output),
            (spec, _) => spec.meaning().title(&graph.inputs(node)),
        };
        if !self.printed.insert((ix, edge.map_or(0, |e| e.output))) {
            let kind: String = title.split(' ').take(2).collect::<Vec<_>>().join(" ");
            self.lines.push((format!("{first}{kind} (… see {id})"), None));
            return;
        }
        self.lines.push((format!("{first}{title}"), Some(id)));
        let is_leaf = node.inputs.is_empty();
        let bar = if is_leaf { format!("{rest}  ") } else { format!("{rest}│ ") };
        if self.options.verbose {
            self.details(node, edge, &bar);
        }
        if let OperatorSpec::Source(s) = &node.spec {
            let tables = edge.map_or(&s.tables[..], |e| std::slice::from_ref(&s.tables[e.output]));
            let notes = tables.iter().filter_map(|t| t.note.as_ref());
            self.lines.extend(notes.map(|note| (format!("{bar}note {note}"), None)));
        }
        let name_width = node.state.iter().map(|t| t.name.chars().count()).max().unwrap_or(0);
        for table in &node.state {
            let text = self.state(table, name_width);
            self.lines.push((format!("{bar}{text}"), None));
        }
        if let OperatorSpec::Source(s) = &node.spec
            && s.connector != crate::ops::source::VALUES
        {
            self.lines.push((format!("{bar}state positions"), None));
        }
        for (i, e) in node.inputs.iter().enumerate() {
            let text = self.edge(e);
            if node.inputs.len() == 1 {
                self.lines.push((format!("{rest}▲ {text}"), None));
                self.node(e.from, Some(e), &format!("{rest}└ "), &format!("{rest}  "));
                continue;
            }
            let is_last = i + 1 == node.inputs.len();
            let (branch, below) = if is_last { ("└ ", "  ") } else { ("├ ", "│ ") };
            self.lines.push((format!("{rest}{branch}▲ {text}"), None));
            self.node(e.from, Some(e), &format!("{rest}{below}└ "), &format!("{rest}{below}  "));
        }
    }

    fn details(&mut self, node: &Node, edge: Option<&Edge>, bar: &str) {
        let outputs: Vec<&Output> = match edge {
            Some(e) if node.outputs.len() > 1 => vec![&node.outputs[e.output]],
            _ => node.outputs.iter().collect(),
        };
        for o in outputs {
            let columns: Vec<String> = o
                .columns
                .iter()
                .map(|c| {
                    let null = if c.column.nullable { "" } else { " NOT NULL" };
                    let unstable = if c.stable || o.append_only { "" } else { " (not repeatable)" };
                    format!("{} {}{null}{unstable}", c.column.name, c.column.ty)
                })
                .collect();
            self.lines.push((format!("{bar}columns {}", columns.join(", ")), None));
        }
        let identity = match &node.spec {
            OperatorSpec::Source(s) => s.tables.iter().flat_map(|t| t.identity.iter().chain(&t.variant)).collect(),
            OperatorSpec::Sink(s) => s.identity.iter().collect::<Vec<_>>(),
            _ => vec![],
        };
        if !identity.is_empty() {
            let identity: Vec<String> = identity.into_iter().map(|(k, v)| format!("{k} = {v}")).collect();
            self.lines.push((format!("{bar}identity {}", identity.join(", ")), None));
        }
    }

    fn edge(&self, e: &Edge) -> String {
        let o = self.graph.output(e);
        let mut text = if o.append_only { "append-only" } else { "changes" }.to_owned();
        match o.unique_keys.first() {
            None => {}
            Some(key) if key.is_empty() => text += " · one row",
            Some(key) => {
                let _ = write!(text, " · key ({})", crate::ops::names(o, key));
            }
        }
        match &e.route {
            Partitioning::Same => text += " · same worker",
            Partitioning::One => text += " · one worker",
            Partitioning::Broadcast => text += " · to all workers",
            Partitioning::Hash(columns) => {
                let _ = write!(text, " · by hash({})", crate::ops::names(o, columns));
            }
        }
        text
    }

    fn state(&self, t: &StateTableSpec, name_width: usize) -> String {
        let verbose = self.options.verbose;
        let key: Vec<String> = t.key.iter().map(|k| key_column(k, verbose)).collect();
        let value: Vec<String> =
            t.value.iter().filter(|v| verbose || v.provenance != v.name).map(|v| value_column(v, verbose)).collect();
        let name = format!("{}:", t.name);
        let mut text = format!("state {name:<width$} ({})", key.join(", "), width = name_width + 1);
        if !value.is_empty() {
            let _ = write!(text, " → {}", value.join(", "));
        }
        if verbose {
            let routing: Vec<&str> = t.key[..t.routing_columns].iter().map(|k| k.name.as_str()).collect();
            let groups = if routing.is_empty() {
                "key group 0".to_owned()
            } else {
                format!("key group of ({})", routing.join(", "))
            };
            let _ = write!(text, " · {groups} · version {}", t.version);
        }
        text
    }

    fn finish(self) -> String {
        let width = |s: &str| s.chars().count();
        let widest = self.lines.iter().filter(|(_, id)| id.is_some()).map(|(t, _)| width(t)).max().unwrap_or(0);
        let column = widest.min(ID_COLUMN_MAX) + 2;
        let mut out = String::new();
        for (text, id) in self.lines {
            out.push_str(text.trim_end());
            if let Some(id) = id {
                out.push_str(&" ".repeat(column.saturating_sub(width(text.trim_end())).max(2)));
                out.push_str(&id);
            }
            out.push('\n');
        }
        out
    }
}

fn key_column(k: &KeyColumn, verbose: bool) -> String {
    let mut text = k.name.clone();
    if verbose {
        let _ = write!(text, " {}", k.ty);
    }
    if k.descending {
        text += " DESC";
    }
    match (k.descending, k.nulls_first) {
        (false, false) => text += " NULLS LAST",
        (true, true) => text += " NULLS FIRST",
        _ => {}
    }
    text
}

fn value_column(v: &ValueColumn, verbose: bool) -> String {
    if verbose { format!("{} {}", v.name, v.ty) } else { v.name.clone() }
}

/// An expression as SQL, columns by the names of the inputs (see `column_names`), with no more parentheses than it needs.
pub fn expr(e: &Expr, inputs: &[&Output]) -> String {
    let names = column_names(inputs);
    text(e, &|ordinal| names.get(ordinal).cloned(), 0)
}

/// The names of the columns of an operator's inputs, behind one another. A name that both inputs of a join have is
/// told apart: `left.id`, `right.id`.
pub fn column_names(inputs: &[&Output]) -> Vec<String> {
    let own = |i: &Output| i.columns.iter().map(|c| c.column.name.clone()).collect::<Vec<_>>();
    let [left, right] = inputs else { return inputs.iter().flat_map(|i| own(i)).collect() };
    let (left, right) = (own(left), own(right));
    let told_apart = |side: &str, names: &[String], others: &[String]| -> Vec<String> {
        names.iter().map(|n| if others.contains(n) { format!("{side}.{n}") } else { n.clone() }).collect()
    };
    [told_apart("left", &left, &right), told_apart("right", &right, &left)].concat()
}

/// An expression over columns that are no operator's output yet.
pub fn expr_over(e: &Expr, columns: &[thalweg_core::Column]) -> String {
    text(e, &|ordinal| columns.get(ordinal).map(|c| c.name.clone()), 0)
}

/// How strongly an operator binds; what stands in it and binds less gets parentheses.
fn strength(function: &str) -> u8 {
    match function {
        "or" => 1,
        "and" => 2,
        "not" => 3,
        "="
        | "<>"
        | "<"
        | "<="
        | ">"
        | ">="
        | "is_distinct_from"
        | "is_not_distinct_from"
        | "like"
        | "not_like"
        | "ilike"
        | "not_ilike"
        | "in"
        | "not_in"
        | "~"
        | "~*"
        | "!~"
        | "!~*"
        | "is_null"
        | "is_not_null"
        | "is_true"
        | "is_not_true"
        | "is_false"
        | "is_not_false"
        | "is_unknown"
        | "is_not_unknown" => 4,
        "|" | "#" | "&" | "<<" | ">>" => 5,
        "+" | "-" | "||" => 6,
        "*" | "/" | "%" => 7,
        "negative" => 8,
        _ => 9,
    }
}

fn text(e: &Expr, name: &dyn Fn(usize) -> Option<String>, within: u8) -> String {
    match e {
        Expr::Column { ordinal, .. } => name(*ordinal).unwrap_or_else(|| format!("${ordinal}")),
        Expr::Literal(l) => literal(l),
        Expr::Call { function, args, .. } => {
            let own = strength(function);
            let called = call(function, args, name, own);
            if own < within { format!("({called})") } else { called }
        }
        Expr::Cast { expr, ty, safe } => {
            format!("{}({} AS {ty})", if *safe { "TRY_CAST" } else { "CAST" }, text(expr, name, 0))
        }
        Expr::Case { operand, branches, otherwise, .. } => {
            let mut out = "CASE".to_owned();
            if let Some(o) = operand {
                let _ = write!(out, " {}", text(o, name, 0));
            }
            for (when, then) in branches {
                let _ = write!(out, " WHEN {} THEN {}", text(when, name, 0), text(then, name, 0));
            }
            if let Some(o) = otherwise {
                let _ = write!(out, " ELSE {}", text(o, name, 0));
            }
            out + " END"
        }
    }
}

fn call(function: &str, args: &[Expr], name: &dyn Fn(usize) -> Option<String>, own: u8) -> String {
    let of = |i: usize, within: u8| text(&args[i], name, within);
    let list = |args: &[Expr]| args.iter().map(|a| text(a, name, 0)).collect::<Vec<_>>().join(", ");
    let words = || function.replace('_', " ").to_uppercase();
    match (function, args.len()) {
        ("and" | "or" | "||" | "+" | "*", 2) => {
            // Associative with itself only: a * (b / c).
            let same = matches!(&args[1], Expr::Call { function: inner, .. } if inner == function);
            format!("{} {} {}", of(0, own), words(), of(1, if same { own } else { own + 1 }))
        }
        ("is_distinct_from" | "is_not_distinct_from" | "like" | "not_like" | "ilike" | "not_ilike", 2) => {
            format!("{} {} {}", of(0, own + 1), words(), of(1, own + 1))
        }
        ("like" | "not_like" | "ilike" | "not_ilike", 3) => {
            format!("{} {} {} ESCAPE {}", of(0, own + 1), words(), of(1, own + 1), of(2, own + 1))
        }
        // Not associative on the right: a - (b - c).
        ("-" | "/" | "%" | "&" | "|" | "#" | "<<" | ">>", 2) => {
            format!("{} {function} {}", of(0, own), of(1, own + 1))
        }
        ("=" | "<>" | "<" | "<=" | ">" | ">=" | "~" | "~*" | "!~" | "!~*", 2) => {
            format!("{} {function} {}", of(0, own + 1), of(1, own + 1))
        }
        ("not", 1) => format!("NOT {}", of(0, own)),
        ("negative", 1) => format!("-{}", of(0, own + 1)),
        (
            "is_null" | "is_not_null" | "is_true" | "is_not_true" | "is_false" | "is_not_false" | "is_unknown"
            | "is_not_unknown",
            1,
        ) => format!("{} {}", of(0, own + 1), words()),
        ("in" | "not_in", 2..) => format!("{} {} ({})", of(0, own + 1), words(), list(&args[1..])),
        ("get_field", 2) => match &args[1] {
            Expr::Literal(Literal { value: LiteralValue::String(field), .. }) => format!("{}.{field}", of(0, 9)),
            _ => format!("{}[{}]", of(0, 9), of(1, 0)),
        },
        ("array_element" | "map_element", 2) => format!("{}[{}]", of(0, 9), of(1, 0)),
        ("make_array", _) => format!("ARRAY[{}]", list(args)),
        ("named_struct", _) => {
            let values: Vec<String> = args.iter().skip(1).step_by(2).map(|a| text(a, name, 0)).collect();
            format!("ROW({})", values.join(", "))
        }
        _ => format!("{}({})", function.to_uppercase(), list(args)),
    }
}

fn literal(l: &Literal) -> String {
    match (&l.value, &l.ty) {
        (LiteralValue::Null, _) => "NULL".to_owned(),
        (LiteralValue::Boolean(b), _) => b.to_string().to_uppercase(),
        (LiteralValue::Integer(days), SqlType::Date) => format!("DATE '{}'", date(*days)),
        (LiteralValue::Integer(t), SqlType::Time(p)) => format!("TIME '{}'", time(*t, if *p <= 6 { 6 } else { 9 }, *p)),
        (LiteralValue::Integer(t), SqlType::Timestamp(p) | SqlType::TimestampLtz(p)) => {
            let digits = match p {
                0..=3 => 3,
                4..=6 => 6,
                _ => 9,
            };
            let per_day = 86_400 * 10i64.pow(digits);
            let kind = if matches!(l.ty, SqlType::Timestamp(_)) { "TIMESTAMP" } else { "TIMESTAMP_LTZ" };
            format!("{kind} '{} {}'", date(t.div_euclid(per_day)), time(t.rem_euclid(per_day), digits, *p))
        }
        (LiteralValue::Integer(i), _) => i.to_string(),
        (LiteralValue::Float(bits), _) => {
            let text = f64::from_bits(*bits).to_string();
            if text.contains(['.', 'e', 'N', 'i']) { text } else { text + "e0" }
        }
        (LiteralValue::Decimal(d), SqlType::Decimal { scale, .. }) if *scale > 0 => decimal(d, *scale as usize),
        (LiteralValue::Decimal(d), _) => d.clone(),
        (LiteralValue::String(s), _) => format!("'{}'", s.replace('\'', "''")),
        (LiteralValue::Bytes(b), _) => {
            let digits: String = b.iter().map(|b| format!("{b:02x}")).collect();
            format!("X'{digits}'")
        }
        (LiteralValue::Interval { months, days, nanos }, _) => interval(*months, *days, *nanos),
        (LiteralValue::List(parts), _) => format!("{parts:?}"),
    }
}

fn decimal(digits: &str, scale: usize) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |d| ("-", d));
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

fn interval(months: i32, days: i32, nanos: i64) -> String {
    let mut parts = vec![];
    if months != 0 {
        parts.push(format!("INTERVAL '{months}' MONTH"));
    }
    if days != 0 {
        parts.push(format!("INTERVAL '{days}' DAY"));
    }
    if nanos != 0 || parts.is_empty() {
        let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let (count, unit) = match seconds {
            s if fraction == 0 && s % 3600 == 0 => ((s / 3600).to_string(), "HOUR"),
            s if fraction == 0 && s % 60 == 0 => ((s / 60).to_string(), "MINUTE"),
            s if fraction == 0 => (s.to_string(), "SECOND"),
            _ => (decimal(&nanos.to_string(), 9).trim_end_matches('0').to_owned(), "SECOND"),
        };
        parts.push(format!("INTERVAL '{count}' {unit}"));
    }
    parts.join(" + ")
}

/// `2026-11-21`, of days since 1970.
fn date(days: i64) -> String {
    let (year, month, day) = civil_of_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `12:00:00.123` with `shown` digits behind the second, of a time of day in units of 10^-`digits` seconds.
fn time(t: i64, digits: u32, shown: u8) -> String {
    let unit = 10i64.pow(digits);
    let (seconds, fraction) = (t / unit, t % unit);
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if shown == 0 {
        return clock;
    }
    let fraction = format!("{fraction:0>width$}", width = digits as usize);
    format!("{clock}.{}", &fraction[..usize::from(shown)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_core::Column;

    fn shown(e: &Expr) -> String {
        let columns = [Column::new("a", SqlType::Int, true), Column::new("b", SqlType::Int, true)];
        expr_over(e, &columns)
    }

    fn call(f: &str, args: Vec<Expr>) -> Expr {
        Expr::call(f, args, SqlType::Boolean)
    }

    #[test]
    fn parentheses_stand_only_where_they_must() {
        let a = || Expr::column(0, SqlType::Int);
        let b = || Expr::column(1, SqlType::Int);
        let or = call("or", vec![call("=", vec![a(), b()]), call("is_null", vec![a()])]);
        assert_eq!(shown(&call("and", vec![or, call(">", vec![a(), b()])])), "(a = b OR a IS NULL) AND a > b");
        let minus = call("-", vec![a(), call("-", vec![b(), a()])]);
        assert_eq!(shown(&minus), "a - (b - a)");
        let product = call("*", vec![call("+", vec![a(), b()]), call("negative", vec![a()])]);
        assert_eq!(shown(&product), "(a + b) * -a");
        assert_eq!(shown(&call("not", vec![call("in", vec![a(), b(), a()])])), "NOT a IN (b, a)");
        assert_eq!(shown(&call("upper", vec![a()])), "UPPER(a)");
    }

    #[test]
    fn literals_print_as_they_are_written() {
        let l = |ty, value| literal(&Literal { ty, value });
        let decimal = SqlType::Decimal { precision: 5, scale: 2 };
        assert_eq!(l(decimal.clone(), LiteralValue::Decimal("-5".into())), "-0.05");
        assert_eq!(l(decimal, LiteralValue::Decimal("12345".into())), "123.45");
        assert_eq!(l(SqlType::Date, LiteralValue::Integer(18263)), "DATE '2020-01-02'");
        assert_eq!(l(SqlType::Date, LiteralValue::Integer(-1)), "DATE '1969-12-31'");
        let t = LiteralValue::Integer(1_577_934_245_678);
        assert_eq!(l(SqlType::Timestamp(3), t), "TIMESTAMP '2020-01-02 03:04:05.678'");
        let i = LiteralValue::Interval { months: 0, days: 0, nanos: 600_000_000_000 };
        assert_eq!(l(SqlType::Interval, i), "INTERVAL '10' MINUTE");
        assert_eq!(l(SqlType::STRING, LiteralValue::String("it's".into())), "'it''s'");
    }
}
