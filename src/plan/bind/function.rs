//! Calls: scalar functions by the registry, aggregate calls, ROW_NUMBER.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::ScalarValue;
use datafusion_expr::type_coercion::functions::fields_with_udf;
use datafusion_expr::{ReturnFieldArgs, ScalarUDF};
use sqlparser::ast::{self, FunctionArg, FunctionArgExpr, FunctionArguments};
use thalweg_core::nearest::did_you_mean;
use thalweg_core::{Error, Place, Result, SqlType};
use thalweg_functions::function::to_error;
use thalweg_functions::{registry, zone_arguments};
use thalweg_graph::Expr;

use super::coerce;

use super::expr::{BoundSort, BoundWindow, ExprBinder, WINDOWS, row};
use crate::literal;
use crate::refuse::{at, place, refuse, unsupported};
use crate::sql::place_of_ident;

/// Functions over groups or windows that are known and not supported, so that they are not called unknown.
const OTHER_AGGREGATES: &[&str] = &[
    "array_agg",
    "collect",
    "listagg",
    "string_agg",
    "group_concat",
    "json_objectagg",
    "json_arrayagg",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "var_pop",
    "var_samp",
    "variance",
    "covar_pop",
    "covar_samp",
    "corr",
    "any_value",
    "every",
    "some",
    "bool_and",
    "bool_or",
    "approx_count_distinct",
    "median",
    "grouping",
    "grouping_id",
    "group_id",
    "percentile",
];
const OTHER_WINDOWS: &[&str] = &[
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "lag",
    "lead",
    "first_value",
    "last_value",
    "nth_value",
];

impl ExprBinder<'_, '_> {
    pub(super) fn function(&mut self, f: &ast::Function) -> Result<Expr> {
        let ast::Function { name, uses_odbc_syntax, parameters, args, filter, null_treatment, over, within_group } = f;
        let here = place(f);
        refuse(*uses_odbc_syntax, "the syntax {fn …}", here)?;
        refuse(!matches!(parameters, FunctionArguments::None), "parameters before a function's arguments", here)?;
        refuse(!within_group.is_empty(), "WITHIN GROUP", here)?;
        refuse(null_treatment.is_some(), "IGNORE NULLS and RESPECT NULLS", here)?;
        let ident = match name.0.as_slice() {
            [ast::ObjectNamePart::Identifier(i)] => i,
            _ => return Err(unsupported("a function's name with a catalog or database", here)),
        };
        let lower = ident.value.to_lowercase();
        let name_place = place_of_ident(ident);
        if over.is_none()
            && let Some(function) = super::aggregate::function_named(&lower)
        {
            return self.aggregate(function, f, name_place);
        }
        if OTHER_AGGREGATES.contains(&lower.as_str()) && registry().get(&lower).is_none() {
            return Err(unsupported(format!("the aggregate function {}", lower.to_uppercase()), Some(name_place))
                .note("aggregate functions: AVG, COUNT, MAX, MIN, SUM"));
        }
        if let Some(over) = over {
            refuse(filter.is_some(), "FILTER of a window function", here)?;
            if lower != "row_number" {
                return Err(unsupported(format!("the window function {}", lower.to_uppercase()), Some(name_place))
                    .note(
                        "window functions: ROW_NUMBER, as Top-N (… WHERE rn <= 10) and deduplication (… WHERE rn = 1)",
                    ));
            }
            let no_args = match args {
                FunctionArguments::None => true,
                FunctionArguments::List(l) => {
                    l.args.is_empty() && l.clauses.is_empty() && l.duplicate_treatment.is_none()
                }
                FunctionArguments::Subquery(_) => false,
            };
            if !no_args {
                return Err(at(Error::type_("ROW_NUMBER has no arguments"), here));
            }
            return self.row_number(over, here);
        }
        if lower == "row_number" || OTHER_WINDOWS.contains(&lower.as_str()) {
            if lower == "row_number" {
                return Err(Error::syntax("ROW_NUMBER needs OVER (… ORDER BY …)").at(name_place));
            }
            return Err(unsupported(format!("the window function {}", lower.to_uppercase()), Some(name_place)));
        }
        if filter.is_some() {
            return Err(at(
                Error::syntax(format!("FILTER is for aggregate functions, {} is none", ident.value.to_uppercase())),
                here,
            ));
        }
        let args = self.plain_args(args, &ident.value, here)?;
        if lower == "row" {
            return Ok(row(args));
        }
        if registry().get(&lower).is_none() {
            let known: Vec<String> = registry().names().map(str::to_uppercase).collect();
            let known = known.iter().map(String::as_str).chain(["AVG", "COUNT", "MAX", "MIN", "SUM"]);
            let upper = ident.value.to_uppercase();
            return Err(Error::name(format!("there is no function {upper}"))
                .at(name_place)
                .propose(did_you_mean(&upper, known))
                .note("SHOW FUNCTIONS lists all"));
        }
        self.call(&lower, args)
    }

    /// The arguments of a scalar function.
    fn plain_args(&mut self, args: &FunctionArguments, name: &str, here: Option<Place>) -> Result<Vec<Expr>> {
        let list = match args {
            FunctionArguments::None => return Ok(vec![]),
            FunctionArguments::Subquery(_) => return Err(unsupported("a subquery as an argument", here)),
            FunctionArguments::List(list) => list,
        };
        let ast::FunctionArgumentList { duplicate_treatment, args, clauses } = list;
        let upper = name.to_uppercase();
        refuse(duplicate_treatment.is_some(), &format!("DISTINCT or ALL in {upper}"), here)?;
        refuse(!clauses.is_empty(), &format!("a clause behind the arguments of {upper}"), here)?;
        args.iter()
            .map(|a| match a {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => self.bind(e),
                FunctionArg::Unnamed(_) => Err(at(Error::type_(format!("{upper} does not take \"*\"")), here)),
                FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. } => {
                    Err(unsupported("an argument by name", here))
                }
            })
            .collect()
    }

    /// A call of a scalar function that is in the registry, arguments cast to what it takes.
    pub(super) fn call(&self, name: &str, args: Vec<Expr>) -> Result<Expr> {
        let zone = self.zone();
        match name {
            // Results are brought to one type here; NULLs take it too.
            "coalesce" | "ifnull" | "greatest" | "least" if !args.is_empty() => {
                let (args, ty) = coerce::unite(args, &name.to_uppercase(), zone)?;
                return Ok(Expr::call(name, args, ty));
            }
            "nullif" if args.len() == 2 => {
                let ty = args[0].ty().clone();
                let mut args = args.into_iter();
                let (l, r) = (args.next().expect("two"), args.next().expect("two"));
                let (l, r) = coerce::comparable(l, r, zone)?;
                let call_type = l.ty().clone();
                let e = Expr::call(name, vec![l, r], call_type);
                return Ok(coerce::cast(e, &ty, zone));
            }
            "if" if args.len() == 3 => {
                let mut args = args.into_iter();
                let condition = coerce::condition(args.next().expect("three"), "the first argument of IF", zone)?;
                let (mut results, ty) = coerce::unite(args.collect(), "IF", zone)?;
                let otherwise = results.pop().map(Box::new);
                let then = results.pop().expect("three arguments");
                return Ok(Expr::Case { operand: None, branches: vec![(condition, then)], otherwise, ty });
            }
            _ => {}
        }
        let udf = registry()
            .get(name)
            .ok_or_else(|| Error::unsupported(format!("the function {} is not supported yet", name.to_uppercase())))?;
        // Functions that show or read local time take the session's zone behind their own arguments.
        let mut args = args;
        let types: Vec<SqlType> = args.iter().map(|a| a.ty().clone()).collect();
        args.extend(zone_arguments(name, &types, zone.0).into_iter().map(literal::string));
        let (args, ty) = resolve(name, udf, args, zone)?;
        Ok(Expr::call(name, args, ty))
    }

    fn row_number(&mut self, over: &ast::WindowType, here: Option<Place>) -> Result<Expr> {
        if !self.clause.allows_windows() || self.within_aggregate || self.within_window {
            let within = match (self.within_aggregate, self.within_window) {
                (true, _) => "an aggregate function",
                (_, true) => "a window function",
                _ => self.clause.name(),
            };
            return Err(at(Error::syntax(format!("ROW_NUMBER cannot stand in {within}")), here)
                .note("give it a name in a subquery and use that: SELECT … FROM (SELECT …, ROW_NUMBER() … AS rn FROM …) WHERE rn <= 10"));
        }
        let spec = match over {
            ast::WindowType::WindowSpec(spec) => spec.clone(),
            ast::WindowType::NamedWindow(name) => self.named_window(name)?,
        };
        let ast::WindowSpec { window_name, partition_by, order_by, window_frame } = spec;
        refuse(window_name.is_some(), "a window that extends a named one", here)?;
        refuse(window_frame.is_some(), "a frame (ROWS, RANGE) of ROW_NUMBER", here)?;
        if order_by.is_empty() {
            return Err(at(Error::syntax("ROW_NUMBER needs ORDER BY in its OVER (…)"), here));
        }
        self.within_window = true;
        let bound = (|| -> Result<BoundWindow> {
            let partition = partition_by.iter().map(|e| self.bind(e)).collect::<Result<Vec<_>>>()?;
            for (e, written) in partition.iter().zip(&partition_by) {
                check_order(e, "PARTITION BY", place(written))?;
            }
            let order = order_by.iter().map(|o| self.sort(o)).collect::<Result<Vec<_>>>()?;
            Ok(BoundWindow { partition, order, place: here })
        })();
        self.within_window = false;
        let bound = bound?;
        // The same window written twice is one.
        let same = |w: &BoundWindow| w.partition == bound.partition && w.order == bound.order;
        let i = self.windows.iter().position(same).unwrap_or_else(|| {
            self.windows.push(bound.clone());
            self.windows.len() - 1
        });
        Ok(Expr::column(WINDOWS + i, SqlType::BigInt))
    }

    fn named_window(&self, name: &ast::Ident) -> Result<ast::WindowSpec> {
        use crate::names::{Lookup, look_up, no_such};
        let names = || self.named_windows.iter().map(|(n, _)| n.value.as_str());
        match look_up(&name.value, names()) {
            Lookup::Found(i) => Ok(self.named_windows[i].1.clone()),
            _ => Err(no_such(
                format!("there is no window \"{}\"", name.value),
                &name.value,
                place_of_ident(name),
                "windows",
                names(),
            )),
        }
    }

    /// One item of ORDER BY. NULL is the smallest value, as in Flink.
    pub fn sort(&mut self, o: &ast::OrderByExpr) -> Result<BoundSort> {
        let ast::OrderByExpr { expr, options: ast::OrderByOptions { asc, nulls_first }, with_fill } = o;
        refuse(with_fill.is_some(), "WITH FILL", place(o))?;
        let bound = self.bind(expr)?;
        check_order(&bound, "ORDER BY", place(expr))?;
        let descending = *asc == Some(false);
        Ok(BoundSort { expr: bound, descending, nulls_first: nulls_first.unwrap_or(!descending) })
    }
}

/// Values that are sorted, grouped or joined must have an order.
pub(crate) fn check_order(e: &Expr, what: &str, here: Option<Place>) -> Result<()> {
    if e.ty().is_orderable() {
        return Ok(());
    }
    Err(at(Error::type_(format!("{what} cannot be of type {}: it has no order", e.ty())), here))
}

/// The arguments cast to what the function takes, and the type of its value.
fn resolve(name: &str, udf: &Arc<ScalarUDF>, args: Vec<Expr>, zone: coerce::Zone) -> Result<(Vec<Expr>, SqlType)> {
    let upper = name.to_uppercase();
    let given = || args.iter().map(|a| a.ty().to_string()).collect::<Vec<_>>().join(", ");
    let fields: Vec<FieldRef> = args.iter().map(|a| Arc::new(Field::new("", a.ty().to_arrow(), true))).collect();
    let usage = || match registry().doc(name) {
        Some((usage, help)) if !usage.is_empty() => format!("{usage}: {help}"),
        _ => format!("see the documentation of {upper}"),
    };
    let coerced = fields_with_udf(&fields, udf.as_ref()).map_err(|_| {
        let message = if args.is_empty() {
            format!("{upper} needs arguments")
        } else {
            format!("{upper} does not take ({})", given())
        };
        Error::type_(message).note(usage())
    })?;
    let args: Vec<Expr> = args
        .into_iter()
        .zip(&coerced)
        .map(|(a, field)| {
            let wanted = field.data_type();
            if a.ty().to_arrow() == *wanted {
                return a;
            }
            // A layout that no SQL type has (unsigned, view, dictionary) is left to whoever runs the function.
            match SqlType::from_arrow(wanted) {
                Some(ty) if ty.to_arrow() == *wanted && *a.ty() != ty => coerce::cast(a, &ty, zone),
                _ => a,
            }
        })
        .collect();
    let scalars: Vec<Option<ScalarValue>> = args
        .iter()
        .zip(&coerced)
        .map(|(a, field)| match a {
            Expr::Literal(l) => literal::to_scalar(l).and_then(|s| s.cast_to(field.data_type()).ok()),
            _ => None,
        })
        .collect();
    let scalars: Vec<Option<&ScalarValue>> = scalars.iter().map(Option::as_ref).collect();
    let returned = udf
        .return_field_from_args(ReturnFieldArgs { arg_fields: &coerced, scalar_arguments: &scalars })
        .map_err(|e| {
            let e = to_error(e);
            Error::type_(format!("{upper}: {}", e.message())).note(usage())
        })?;
    let ty =
        SqlType::from_arrow(returned.data_type()).filter(|_| !matches!(returned.data_type(), DataType::Duration(_)));
    let ty = ty.ok_or_else(|| {
        Error::unsupported(format!("{upper} gives {}, which is no type of SQL here", returned.data_type()))
    })?;
    Ok((args, ty))
}
