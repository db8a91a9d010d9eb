//! The logical plan: relational operators over typed expressions, columns by ordinal, before it is decided how changes
//! flow. What the binder makes of a query, what the optimiser rewrites, and what is lowered to the operator graph.

use std::rc::Rc;

use thalweg_core::{Column, Place, SqlType};
use thalweg_graph::ops::SortKey;
use thalweg_graph::ops::aggregate::AggregateFunction;
use thalweg_graph::ops::deduplicate::Keep;
use thalweg_graph::ops::source::{ORDER_COLUMN, SourceTableSpec};
use thalweg_graph::{Expr, Literal, Output};

/// A relation: an operator and the columns that it gives.
#[derive(Debug, Clone)]
pub(crate) struct Rel {
    pub op: Op,
    pub columns: Vec<Column>,
    /// What lowering found out of its changes, before columns are pruned.
    pub facts: Option<Rc<Output>>,
    /// Where it is written, if that is known: what is lowered from it, and from what is made of it, comes from there.
    pub place: Option<Place>,
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Scan(Scan),
    Values(Vec<Vec<Literal>>),
    Project {
        input: Box<Rel>,
        exprs: Vec<Expr>,
    },
    /// Conjuncts, evaluated in this order: an earlier one guards the later.
    Filter {
        input: Box<Rel>,
        conjuncts: Vec<Expr>,
    },
    /// Inner join, over the columns of left, then right.
    Join {
        left: Box<Rel>,
        right: Box<Rel>,
        conjuncts: Vec<Expr>,
    },
    /// What becomes of `Join`: pairs of equal columns, and the rest of the condition.
    EquiJoin {
        left: Box<Rel>,
        right: Box<Rel>,
        left_keys: Vec<usize>,
        right_keys: Vec<usize>,
        residual: Vec<Expr>,
    },
    Union(Vec<Rel>),
    /// Without calls: DISTINCT.
    Aggregate {
        input: Box<Rel>,
        group: Vec<usize>,
        calls: Vec<Call>,
    },
    /// Appends ROW_NUMBER. The optimiser makes a `TopN` of it, or it is refused at `place`.
    RowNumber {
        input: Box<Rel>,
        partition: Vec<usize>,
        order: Vec<SortKey>,
        place: Option<Place>,
    },
    TopN(TopN),
    /// As ROW_NUMBER ordered by arrival = 1; appends nothing. `order` is the hidden order column.
    Deduplicate {
        input: Box<Rel>,
        key: Vec<usize>,
        order: usize,
        keep: Keep,
    },
}

/// A table that is read, with all its columns in declaration order and then the hidden order column.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    pub connector: String,
    pub group: Option<String>,
    /// `columns` and `with_order` are what is read after pruning; before, all.
    pub table: SourceTableSpec,
}

#[derive(Debug, Clone)]
pub(crate) struct TopN {
    pub input: Box<Rel>,
    pub partition: Vec<usize>,
    pub order: Vec<SortKey>,
    pub from: u64,
    pub to: Option<u64>,
    /// Whether the rank is a column, the last one.
    pub rank: bool,
}

/// An aggregate call over columns of the input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub function: AggregateFunction,
    pub arg: Option<usize>,
    pub distinct: bool,
    pub filter: Option<usize>,
    pub name: String,
    pub ty: SqlType,
    pub nullable: bool,
}

/// Whether an expression over these columns can be NULL.
pub(crate) fn nullable(e: &Expr, columns: &[Column]) -> bool {
    match e {
        Expr::Column { ordinal, .. } => columns.get(*ordinal).is_none_or(|c| c.nullable),
        Expr::Literal(l) => l.value == thalweg_graph::LiteralValue::Null,
        Expr::Cast { safe: true, .. } => true,
        Expr::Cast { expr, .. } => nullable(expr, columns),
        Expr::Case { branches, otherwise, .. } => {
            otherwise.as_ref().is_none_or(|e| nullable(e, columns))
                || branches.iter().any(|(_, t)| nullable(t, columns))
        }
        Expr::Call { function, args, .. } => match function.as_str() {
            "is_null"
            | "is_not_null"
            | "is_true"
            | "is_not_true"
            | "is_false"
            | "is_not_false"
            | "is_unknown"
            | "is_not_unknown"
            | "is_distinct_from"
            | "is_not_distinct_from"
            | "check_not_null"
            | "proctime"
            | "now"
            | "current_timestamp"
            | "current_date"
            | "localtimestamp"
            | "uuid"
            | "rand" => false,
            "coalesce" => args.iter().all(|a| nullable(a, columns)),
            "=" | "<>" | "<" | "<=" | ">" | ">=" | "+" | "-" | "*" | "/" | "%" | "||" | "and" | "or" | "not"
            | "negative" | "like" | "not_like" | "ilike" | "not_ilike" | "in" | "not_in" | "check_length"
            | "char_length" | "upper" | "lower" | "concat" | "abs" => args.iter().any(|a| nullable(a, columns)),
            _ => true,
        },
    }
}

impl Rel {
    fn new(op: Op, columns: Vec<Column>) -> Rel {
        Rel { op, columns, facts: None, place: None }
    }

    /// At this place, unless it has one.
    pub fn written_at(mut self, place: Option<Place>) -> Rel {
        self.place = self.place.or(place);
        self
    }

    /// Everything in it at this place: it stands in another text.
    pub fn moved_to(self, place: Place) -> Rel {
        let inputs = &mut |input: Rel| Ok(input.moved_to(place));
        let moved = self.map_inputs(inputs).expect("nothing here fails");
        Rel { place: Some(place), ..moved }
    }

    pub fn scan(scan: Scan) -> Rel {
        let table = &scan.table;
        let mut columns: Vec<Column> = table.columns.iter().map(|&o| table.def.columns[o].column.clone()).collect();
        if table.with_order {
            columns.push(Column::new(ORDER_COLUMN, SqlType::BigInt, false));
        }
        Rel::new(Op::Scan(scan), columns)
    }

    pub fn values(rows: Vec<Vec<Literal>>, columns: Vec<Column>) -> Rel {
        Rel::new(Op::Values(rows), columns)
    }

    /// One row, with a column that nobody reads.
    pub fn one_row() -> Rel {
        let cell = Literal { ty: SqlType::Boolean, value: thalweg_graph::LiteralValue::Boolean(true) };
        Rel::values(vec![vec![cell]], vec![Column::new("$row", SqlType::Boolean, false)])
    }

    pub fn project(input: Rel, exprs: Vec<(Expr, String)>) -> Rel {
        let columns = exprs.iter().map(|(e, n)| Column::new(n, e.ty().clone(), nullable(e, &input.columns))).collect();
        Rel::new(Op::Project { input: Box::new(input), exprs: exprs.into_iter().map(|(e, _)| e).collect() }, columns)
    }

    /// The columns of these ordinals, with their names.
    pub fn pick(input: Rel, ordinals: &[usize]) -> Rel {
        let exprs = ordinals.iter().map(|&o| (input.column(o), input.columns[o].name.clone())).collect();
        Rel::project(input, exprs)
    }

    pub fn filter(input: Rel, conjuncts: Vec<Expr>) -> Rel {
        if conjuncts.is_empty() {
            return input;
        }
        let columns = input.columns.clone();
        Rel::new(Op::Filter { input: Box::new(input), conjuncts }, columns)
    }

    pub fn join(left: Rel, right: Rel, conjuncts: Vec<Expr>) -> Rel {
        let columns = left.columns.iter().chain(&right.columns).cloned().collect();
        Rel::new(Op::Join { left: Box::new(left), right: Box::new(right), conjuncts }, columns)
    }

    pub fn equi_join(left: Rel, right: Rel, keys: Vec<(usize, usize)>, residual: Vec<Expr>) -> Rel {
        let columns = left.columns.iter().chain(&right.columns).cloned().collect();
        let (left_keys, right_keys) = keys.into_iter().unzip();
        let op = Op::EquiJoin { left: Box::new(left), right: Box::new(right), left_keys, right_keys, residual };
        Rel::new(op, columns)
    }

    /// Inputs have the same column types; names are the first one's.
    pub fn union(inputs: Vec<Rel>) -> Rel {
        let mut columns = inputs[0].columns.clone();
        for (o, c) in columns.iter_mut().enumerate() {
            c.nullable = inputs.iter().any(|i| i.columns[o].nullable);
        }
        Rel::new(Op::Union(inputs), columns)
    }

    pub fn aggregate(input: Rel, group: Vec<usize>, calls: Vec<Call>) -> Rel {
        let columns = group
            .iter()
            .map(|&g| input.columns[g].clone())
            .chain(calls.iter().map(|c| Column::new(&c.name, c.ty.clone(), c.nullable)))
            .collect();
        Rel::new(Op::Aggregate { input: Box::new(input), group, calls }, columns)
    }

    pub fn row_number(
        input: Rel,
        partition: Vec<usize>,
        order: Vec<SortKey>,
        name: String,
        place: Option<Place>,
    ) -> Rel {
        let mut columns = input.columns.clone();
        columns.push(Column::new(name, SqlType::BigInt, false));
        Rel::new(Op::RowNumber { input: Box::new(input), partition, order, place }, columns)
    }

    /// `rank`: the name of the rank column, if it is to be one.
    pub fn top_n(top: TopN, rank: &str) -> Rel {
        let mut columns = top.input.columns.clone();
        if top.rank {
            columns.push(Column::new(rank, SqlType::BigInt, false));
        }
        Rel::new(Op::TopN(top), columns)
    }

    pub fn deduplicate(input: Rel, key: Vec<usize>, order: usize, keep: Keep) -> Rel {
        let columns = input.columns.clone();
        Rel::new(Op::Deduplicate { input: Box::new(input), key, order, keep }, columns)
    }

    /// Column `ordinal` as an expression.
    pub fn column(&self, ordinal: usize) -> Expr {
        Expr::column(ordinal, self.columns[ordinal].ty.clone())
    }

    /// The same relation with every given expression as a column; the ordinals of those, in order. Columns of the
    /// relation keep their ordinals.
    pub fn with_columns(self, exprs: Vec<(Expr, String)>) -> (Rel, Vec<usize>) {
        let mut all: Vec<(Expr, String)> =
            (0..self.columns.len()).map(|o| (self.column(o), self.columns[o].name.clone())).collect();
        let own = all.len();
        let mut ordinals = vec![];
        for (e, name) in exprs {
            if let Expr::Column { ordinal, .. } = e {
                ordinals.push(ordinal);
            } else if let Some(o) = all[own..].iter().position(|(other, _)| *other == e && !e.is_volatile()) {
                ordinals.push(own + o);
            } else {
                ordinals.push(all.len());
                all.push((e, name));
            }
        }
        if all.len() == own { (self, ordinals) } else { (Rel::project(self, all), ordinals) }
    }

    pub fn inputs(&self) -> Vec<&Rel> {
        match &self.op {
            Op::Scan(_) | Op::Values(_) => vec![],
            Op::Project { input, .. }
            | Op::Filter { input, .. }
            | Op::Aggregate { input, .. }
            | Op::RowNumber { input, .. }
            | Op::TopN(TopN { input, .. })
            | Op::Deduplicate { input, .. } => vec![input],
            Op::Join { left, right, .. } | Op::EquiJoin { left, right, .. } => vec![left, right],
            Op::Union(inputs) => inputs.iter().collect(),
        }
    }

    /// The same operator over rewritten inputs with the same columns.
    pub fn map_inputs(self, f: &mut dyn FnMut(Rel) -> thalweg_core::Result<Rel>) -> thalweg_core::Result<Rel> {
        let mut one = |input: Box<Rel>| f(*input).map(Box::new);
        let op = match self.op {
            op @ (Op::Scan(_) | Op::Values(_)) => op,
            Op::Project { input, exprs } => Op::Project { input: one(input)?, exprs },
            Op::Filter { input, conjuncts } => Op::Filter { input: one(input)?, conjuncts },
            Op::Join { left, right, conjuncts } => Op::Join { left: one(left)?, right: one(right)?, conjuncts },
            Op::EquiJoin { left, right, left_keys, right_keys, residual } => {
                Op::EquiJoin { left: one(left)?, right: one(right)?, left_keys, right_keys, residual }
            }
            Op::Union(inputs) => Op::Union(inputs.into_iter().map(f).collect::<thalweg_core::Result<_>>()?),
            Op::Aggregate { input, group, calls } => Op::Aggregate { input: one(input)?, group, calls },
            Op::RowNumber { input, partition, order, place } => {
                Op::RowNumber { input: one(input)?, partition, order, place }
            }
            Op::TopN(top) => Op::TopN(TopN { input: one(top.input)?, ..top }),
            Op::Deduplicate { input, key, order, keep } => Op::Deduplicate { input: one(input)?, key, order, keep },
        };
        Ok(Rel { op, columns: self.columns, facts: self.facts, place: self.place })
    }

    /// Whether every row comes with its own insert only, and the input behind it ends; read off the scans.
    pub fn is_bounded(&self) -> bool {
        match &self.op {
            Op::Scan(s) => s.table.bounded,
            _ => self.inputs().iter().all(|i| i.is_bounded()),
        }
    }
}

/// The parts of a conjunction, in order.
pub(crate) fn conjuncts(e: Expr) -> Vec<Expr> {
    match e {
        Expr::Call { function, args, .. } if function == "and" => args.into_iter().flat_map(conjuncts).collect(),
        Expr::Literal(Literal { value: thalweg_graph::LiteralValue::Boolean(true), .. }) => vec![],
        other => vec![other],
    }
}

/// The conjunction of at least one part, evaluated from the first on.
pub(crate) fn conjunction(parts: Vec<Expr>) -> Option<Expr> {
    parts.into_iter().reduce(|a, b| Expr::call("and", vec![a, b], SqlType::Boolean))
}

/// `e` with every column replaced by the expression of that ordinal.
pub(crate) fn substitute(e: &Expr, by: &[Expr]) -> Expr {
    let sub = |e: &Expr| substitute(e, by);
    let boxed = |e: &Expr| Box::new(substitute(e, by));
    match e {
        Expr::Column { ordinal, .. } => by[*ordinal].clone(),
        Expr::Literal(_) => e.clone(),
        Expr::Call { function, args, ty } => {
            Expr::Call { function: function.clone(), args: args.iter().map(sub).collect(), ty: ty.clone() }
        }
        Expr::Cast { expr, ty, safe } => Expr::Cast { expr: boxed(expr), ty: ty.clone(), safe: *safe },
        Expr::Case { operand, branches, otherwise, ty } => Expr::Case {
            operand: operand.as_deref().map(boxed),
            branches: branches.iter().map(|(w, t)| (sub(w), sub(t))).collect(),
            otherwise: otherwise.as_deref().map(boxed),
            ty: ty.clone(),
        },
    }
}
