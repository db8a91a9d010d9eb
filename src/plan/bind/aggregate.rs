//! Aggregate calls: which types they take and give.

use sqlparser::ast::{self, FunctionArg, FunctionArgExpr, FunctionArguments};
use thalweg_core::{Error, Place, Result, SqlType};
use thalweg_graph::Expr;
use thalweg_graph::ops::aggregate::AggregateFunction;

use super::expr::{AGGREGATES, BoundAggregate, ExprBinder};
use crate::refuse::{at, place, refuse, unsupported};

/// Digits of a DECIMAL in 128 and 256 bits.
const DIGITS_128: u8 = 38;
const DIGITS_256: u8 = 76;

pub(super) fn function_named(lower: &str) -> Option<AggregateFunction> {
    Some(match lower {
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "avg" => AggregateFunction::Avg,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        _ => return None,
    })
}

/// The type of a call's value. SUM of whole numbers is BIGINT, AVG of them a whole number, as in Flink.
pub(crate) fn result_type(function: AggregateFunction, arg: &SqlType) -> Option<SqlType> {
    use SqlType::*;
    let wide = |p: u8| if p <= DIGITS_128 { DIGITS_128 } else { DIGITS_256 };
    Some(match (function, arg) {
        (AggregateFunction::Count, _) => BigInt,
        (AggregateFunction::Sum, t) if t.is_integer() => BigInt,
        (AggregateFunction::Sum, Decimal { precision, scale }) => {
            Decimal { precision: wide(*precision), scale: *scale }
        }
        (AggregateFunction::Avg, Decimal { precision, scale }) => {
            Decimal { precision: wide(*precision), scale: (*scale).max(6) }
        }
        (AggregateFunction::Avg, t) if t.is_integer() => t.clone(),
        (AggregateFunction::Sum | AggregateFunction::Avg, Float) => Float,
        (AggregateFunction::Sum | AggregateFunction::Avg, Double) => Double,
        (AggregateFunction::Min | AggregateFunction::Max, t) if t.is_orderable() && *t != Null => t.clone(),
        _ => return None,
    })
}

/// What stands in the parentheses of a call, with its place, and in its FILTER.
struct Parts {
    arg: Option<(Expr, Option<Place>)>,
    filter: Option<Expr>,
}

impl ExprBinder<'_, '_> {
    pub(super) fn aggregate(&mut self, function: AggregateFunction, f: &ast::Function, name: Place) -> Result<Expr> {
        let here = place(f);
        let upper = function.name();
        if self.within_aggregate {
            return Err(Error::syntax(format!("{upper} cannot stand within another aggregate function")).at(name));
        }
        if !self.clause.allows_aggregates() {
            let e = Error::syntax(format!("{upper} cannot stand in {}", self.clause.name())).at(name);
            return Err(if self.clause == super::Clause::Where {
                e.note("a condition on groups stands in HAVING")
            } else {
                e
            });
        }
        let FunctionArguments::List(ast::FunctionArgumentList { duplicate_treatment, args, clauses }) = &f.args else {
            return Err(at(Error::type_(format!("{upper} needs an argument")), here));
        };
        refuse(!clauses.is_empty(), &format!("a clause behind the argument of {upper}"), here)?;
        let distinct = matches!(duplicate_treatment, Some(ast::DuplicateTreatment::Distinct));
        self.within_aggregate = true;
        let parts = self.aggregate_parts(function, args, distinct, f.filter.as_deref(), here);
        self.within_aggregate = false;
        let Parts { arg, filter } = parts?;
        let ty = match &arg {
            None => SqlType::BigInt,
            Some((a, p)) => result_type(function, a.ty()).ok_or_else(|| {
                let wants = match function {
                    AggregateFunction::Sum | AggregateFunction::Avg => "a number",
                    _ => "a type with an order",
                };
                at(Error::type_(format!("{upper} needs {wants}, not {}", a.ty())), *p)
            })?,
        };
        if distinct && let Some((a, p)) = &arg {
            super::function::check_order(a, "DISTINCT", *p)?;
        }
        let call = BoundAggregate {
            function,
            arg: arg.map(|(a, _)| a),
            distinct,
            filter,
            name: f.to_string(),
            ty: ty.clone(),
        };
        let same = |c: &BoundAggregate| {
            (c.function, &c.arg, c.distinct, &c.filter) == (call.function, &call.arg, call.distinct, &call.filter)
        };
        let i = self.aggregates.iter().position(same).unwrap_or_else(|| {
            self.aggregates.push(call.clone());
            self.aggregates.len() - 1
        });
        Ok(Expr::column(AGGREGATES + i, ty))
    }

    fn aggregate_parts(
        &mut self,
        function: AggregateFunction,
        args: &[FunctionArg],
        distinct: bool,
        filter: Option<&ast::Expr>,
        here: Option<Place>,
    ) -> Result<Parts> {
        let upper = function.name();
        let arg = match args {
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] if function == AggregateFunction::Count && !distinct => {
                None
            }
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(e))] => Some((crate::literal::typed(self.bind(e)?), place(e))),
            [] => return Err(at(Error::type_(format!("{upper} needs an argument")), here)),
            [FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. }] => {
                return Err(unsupported("an argument by name", here));
            }
            [_] => return Err(at(Error::type_(format!("{upper} does not take \"*\" here")), here)),
            _ => return Err(unsupported(format!("{upper} of several values"), here)),
        };
        let filter = filter.map(|e| self.condition(e, "the condition of FILTER")).transpose()?;
        Ok(Parts { arg, filter })
    }
}
