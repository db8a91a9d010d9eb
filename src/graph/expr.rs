//! Typed expressions over SQL types. Columns are ordinals of the operator's input (for a join's residual condition: of
//! left then right). `operators::expr` turns them into DataFusion's physical expressions.

use serde::{Deserialize, Serialize};
use thalweg_core::SqlType;

use crate::id::{Canonical, Provenance};

/// An expression with its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Expr {
    Column {
        ordinal: usize,
        ty: SqlType,
    },
    Literal(Literal),
    /// A function or an operator by its name in lower case. Operators: `= <> < <= > >= + - * / % || & | # << >>`,
    /// `and or not negative`, `is_null is_not_null is_true is_not_true is_false is_not_false is_unknown
    /// is_not_unknown`, `is_distinct_from is_not_distinct_from`, `like not_like ilike not_ilike` (third argument: the
    /// escape character, if given), `~ ~* !~ !~*`, `in not_in` (first argument among the rest), `get_field`. All else is
    /// looked up in `functions::registry`.
    Call {
        function: String,
        args: Vec<Expr>,
        ty: SqlType,
    },
    /// `safe`: TRY_CAST, NULL where the value does not convert.
    Cast {
        expr: Box<Expr>,
        ty: SqlType,
        safe: bool,
    },
    /// `operand = when` if there is an operand, else `when` is a condition.
    Case {
        operand: Option<Box<Expr>>,
        branches: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
        ty: SqlType,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Literal {
    pub ty: SqlType,
    pub value: LiteralValue,
}

/// The value, in the unit of its type's Arrow layout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LiteralValue {
    Null,
    Boolean(bool),
    /// TINYINT … BIGINT; DATE (days), TIME and TIMESTAMP (ms, µs or ns, see `SqlType::to_arrow`).
    Integer(i64),
    /// FLOAT and DOUBLE, as the bits of an f64, so that every value survives JSON.
    Float(u64),
    /// DECIMAL: the unscaled integer in decimal digits.
    Decimal(String),
    String(String),
    Bytes(Vec<u8>),
    Interval {
        months: i32,
        days: i32,
        nanos: i64,
    },
    /// ARRAY, MAP (as ROW pairs) and ROW: in order.
    List(Vec<LiteralValue>),
}

/// Functions whose value differs between two calls with the same arguments, or depends on the tick's wall clock.
pub const VOLATILE: &[&str] = &[
    "now",
    "proctime",
    "current_timestamp",
    "localtimestamp",
    "current_date",
    "current_time",
    "localtime",
    "current_row_timestamp",
    "unix_timestamp",
    "rand",
    "random",
    "rand_integer",
    "uuid",
];

impl Expr {
    pub fn column(ordinal: usize, ty: SqlType) -> Self {
        Expr::Column { ordinal, ty }
    }

    pub fn call(function: impl Into<String>, args: Vec<Expr>, ty: SqlType) -> Self {
        Expr::Call { function: function.into(), args, ty }
    }

    pub fn ty(&self) -> &SqlType {
        match self {
            Expr::Column { ty, .. } | Expr::Call { ty, .. } | Expr::Cast { ty, .. } | Expr::Case { ty, .. } => ty,
            Expr::Literal(l) => &l.ty,
        }
    }

    /// The direct parts of this expression.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Column { .. } | Expr::Literal(_) => vec![],
            Expr::Call { args, .. } => args.iter().collect(),
            Expr::Cast { expr, .. } => vec![expr],
            Expr::Case { operand, branches, otherwise, .. } => operand
                .iter()
                .map(|e| &**e)
                .chain(branches.iter().flat_map(|(w, t)| [w, t]))
                .chain(otherwise.iter().map(|e| &**e))
                .collect(),
        }
    }

    pub fn any(&self, test: &mut dyn FnMut(&Expr) -> bool) -> bool {
        test(self) || self.children().into_iter().any(|c| c.any(test))
    }

    /// Whether a call among `VOLATILE` is in it.
    pub fn is_volatile(&self) -> bool {
        self.any(&mut |e| match e {
            Expr::Call { function, args, .. } if function == "unix_timestamp" => args.is_empty(),
            Expr::Call { function, .. } => VOLATILE.contains(&function.as_str()),
            _ => false,
        })
    }

    /// Input ordinals that it reads, ascending, each once.
    pub fn columns(&self) -> Vec<usize> {
        let mut ordinals = vec![];
        self.any(&mut |e| {
            if let Expr::Column { ordinal, .. } = e {
                ordinals.push(*ordinal);
            }
            false
        });
        ordinals.sort_unstable();
        ordinals.dedup();
        ordinals
    }

    /// The same expression over other ordinals.
    #[must_use]
    pub fn map_columns(&self, f: &dyn Fn(usize) -> usize) -> Expr {
        match self {
            Expr::Column { ordinal, ty } => Expr::Column { ordinal: f(*ordinal), ty: ty.clone() },
            Expr::Literal(_) => self.clone(),
            Expr::Call { function, args, ty } => Expr::Call {
                function: function.clone(),
                args: args.iter().map(|a| a.map_columns(f)).collect(),
                ty: ty.clone(),
            },
            Expr::Cast { expr, ty, safe } => {
                Expr::Cast { expr: Box::new(expr.map_columns(f)), ty: ty.clone(), safe: *safe }
            }
            Expr::Case { operand, branches, otherwise, ty } => Expr::Case {
                operand: operand.as_ref().map(|e| Box::new(e.map_columns(f))),
                branches: branches.iter().map(|(w, t)| (w.map_columns(f), t.map_columns(f))).collect(),
                otherwise: otherwise.as_ref().map(|e| Box::new(e.map_columns(f))),
                ty: ty.clone(),
            },
        }
    }

    /// The column whose value this is, unchanged (a check may let it through or fail).
    pub fn same_value_as(&self) -> Option<usize> {
        match self {
            Expr::Column { ordinal, .. } => Some(*ordinal),
            Expr::Call { function, args, .. } if matches!(function.as_str(), "check_not_null" | "check_length") => {
                args[0].same_value_as()
            }
            Expr::Cast { expr, ty: SqlType::VarChar(thalweg_core::types::LENGTH_MAX), .. } if expr.ty().is_string() => {
                expr.same_value_as()
            }
            _ => None,
        }
    }

    /// The column of which this is another value for every other value, so that a unique key stays one. A value that
    /// the cast refuses is an error, so what passes is told apart.
    pub fn keeps_unique(&self) -> Option<usize> {
        use SqlType::*;
        match self {
            Expr::Cast { expr, ty, safe: false } => {
                let injective = match (expr.ty(), ty) {
                    (from, to) if from.is_integer() && to.is_integer() => true,
                    (from, Decimal { scale, .. }) if from.is_integer() => *scale >= 0,
                    (Decimal { scale: from, .. }, Decimal { scale: to, .. }) => from <= to,
                    (Time(p), Time(q)) | (Timestamp(p), Timestamp(q)) | (TimestampLtz(p), TimestampLtz(q)) => p <= q,
                    (Date, Timestamp(_)) => true,
                    _ => return self.same_value_as(),
                };
                if injective { expr.keeps_unique() } else { None }
            }
            Expr::Call { function, args, .. } if matches!(function.as_str(), "check_not_null" | "check_length") => {
                args[0].keeps_unique()
            }
            _ => self.same_value_as(),
        }
    }

    /// Writes what the expression means, columns by their provenance.
    pub fn canonical(&self, c: &mut Canonical, provenance: &dyn Fn(usize) -> Provenance) {
        match self {
            Expr::Column { ordinal, .. } => {
                c.text("column").provenance(provenance(*ordinal));
            }
            Expr::Literal(l) => {
                let value = serde_json::to_string(&l.value).expect("a literal is plain data");
                c.text("literal").text(&l.ty.to_string()).text(&value);
            }
            Expr::Call { function, args, ty } => {
                c.text("call").text(function).text(&ty.to_string());
                c.list(args.iter(), |c, a| a.canonical(c, provenance));
            }
            Expr::Cast { expr, ty, safe } => {
                c.text("cast").text(&ty.to_string()).flag(*safe);
                expr.canonical(c, provenance);
            }
            Expr::Case { operand, branches, otherwise, ty } => {
                c.text("case").text(&ty.to_string());
                c.list(operand.iter(), |c, e| e.canonical(c, provenance));
                c.list(branches.iter(), |c, (w, t)| {
                    w.canonical(c, provenance);
                    t.canonical(c, provenance);
                });
                c.list(otherwise.iter(), |c, e| e.canonical(c, provenance));
            }
        }
    }

    /// Where the values come from: a bare column's own provenance, else the hash of the canonical expression.
    pub fn provenance(&self, of: &dyn Fn(usize) -> Provenance) -> Provenance {
        if let Expr::Column { ordinal, .. } = self {
            return of(*ordinal);
        }
        let mut c = Canonical::new("expr/1");
        self.canonical(&mut c, of);
        c.to_provenance()
    }
}
