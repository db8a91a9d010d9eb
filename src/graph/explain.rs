//! EXPLAIN: the graph as a tree, from the sinks up the edges.

use crate::expr::{Expr, Literal, LiteralValue};
use crate::node::Output;

/// An expression as SQL, columns by the names of the inputs (of a join: left, then right).
pub fn expr(e: &Expr, inputs: &[&Output]) -> String {
    match e {
        Expr::Column { ordinal, .. } => inputs
            .iter()
            .flat_map(|i| &i.columns)
            .nth(*ordinal)
            .map_or_else(|| format!("${ordinal}"), |c| c.column.name.clone()),
        Expr::Literal(l) => literal(l),
        Expr::Call { function, args, .. } => {
            let args: Vec<String> = args.iter().map(|a| expr(a, inputs)).collect();
            format!("{}({})", function.to_uppercase(), args.join(", "))
        }
        Expr::Cast { expr: inner, ty, safe } => {
            format!("{}({} AS {ty})", if *safe { "TRY_CAST" } else { "CAST" }, expr(inner, inputs))
        }
        Expr::Case { .. } => "CASE".to_owned(),
    }
}

fn literal(l: &Literal) -> String {
    match &l.value {
        LiteralValue::Null => "NULL".to_owned(),
        LiteralValue::Boolean(b) => b.to_string().to_uppercase(),
        LiteralValue::Integer(i) => i.to_string(),
        LiteralValue::Float(bits) => f64::from_bits(*bits).to_string(),
        LiteralValue::Decimal(d) => d.clone(),
        LiteralValue::String(s) => format!("'{}'", s.replace('\'', "''")),
        other => format!("{other:?}"),
    }
}
