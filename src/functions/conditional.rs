//! Functions that choose among their arguments. Called as functions they evaluate all arguments; the operators evaluate
//! IF, IFNULL and COALESCE only as far as a row needs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringArray};
use arrow::compute::interleave;
use arrow::compute::kernels::cmp;
use arrow::datatypes::DataType;
use thalweg_core::{Result, SqlType};

use crate::function::{Arg, Call, Function, Ret};

pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "if",
        &[Arg::Bool, Arg::Same, Arg::Same],
        Ret::Arg(1),
        if_,
        "IF(condition, a, b)",
        "a if the condition is true, else b.",
    ),
    Function::new("ifnull", &[Arg::Same, Arg::Same], Ret::Arg(0), coalesce, "IFNULL(a, b)", "a, or b if a is NULL.")
        .aliases(&["nvl"]),
    Function::new("coalesce", &[Arg::Same], Ret::Arg(0), coalesce, "COALESCE(a, …)", "The first that is not NULL.")
        .rest(Arg::Same),
    Function::new("nullif", &[Arg::Same, Arg::Same], Ret::Arg(0), nullif, "NULLIF(a, b)", "NULL if a = b, else a."),
    Function::new(
        "greatest",
        &[Arg::Same],
        Ret::Arg(0),
        |c| extreme(c, true),
        "GREATEST(a, …)",
        "The greatest; NULL if one is NULL.",
    )
    .rest(Arg::Same),
    Function::new(
        "least",
        &[Arg::Same],
        Ret::Arg(0),
        |c| extreme(c, false),
        "LEAST(a, …)",
        "The least; NULL if one is NULL.",
    )
    .rest(Arg::Same),
    Function::new("typeof", &[Arg::Any], Ret::Str, type_of, "TYPEOF(a)", "Its type."),
];

/// Per row the value of one of the arguments; `None`: NULL.
fn choose(c: &Call, mut f: impl FnMut(usize) -> Option<usize>) -> Result<ArrayRef> {
    let null = arrow::array::new_null_array(&c.ret, 1);
    let mut arrays: Vec<&dyn Array> = vec![&null];
    // Arguments of another type (a condition) are not chosen; the NULL stands in for them.
    arrays.extend(
        (0..c.len()).map(|i| if *c.array(i).data_type() == c.ret { &**c.array(i) } else { &*null as &dyn Array }),
    );
    let rows: Vec<(usize, usize)> =
        (0..c.rows).map(|row| f(row).map_or((0, 0), |arg| (arg + 1, c.index(arg, row)))).collect();
    Ok(interleave(&arrays, &rows)?)
}

fn if_(c: &Call) -> Result<ArrayRef> {
    let condition = c.bool(0);
    choose(c, |i| Some(if condition.get(i) == Some(true) { 1 } else { 2 }))
}

fn coalesce(c: &Call) -> Result<ArrayRef> {
    choose(c, |i| (0..c.len()).find(|a| !c.is_null(*a, i)))
}

fn compare(
    c: &Call,
    a: usize,
    b: usize,
    f: fn(&dyn arrow::array::Datum, &dyn arrow::array::Datum) -> Result<BooleanArray, arrow::error::ArrowError>,
) -> Result<BooleanArray> {
    Ok(f(&c.expanded(a)?, &c.expanded(b)?)?)
}

fn nullif(c: &Call) -> Result<ArrayRef> {
    if c.ret == DataType::Null {
        return Ok(arrow::array::new_null_array(&c.ret, c.rows));
    }
    let equal = compare(c, 0, 1, cmp::eq)?;
    choose(c, |i| if equal.is_valid(i) && equal.value(i) { None } else { Some(0) })
}

fn extreme(c: &Call, greatest: bool) -> Result<ArrayRef> {
    if c.ret == DataType::Null {
        return Ok(arrow::array::new_null_array(&c.ret, c.rows));
    }
    let compare = if greatest { cmp::gt } else { cmp::lt };
    let mut best = vec![0; c.rows];
    let mut values = c.expanded(0)?;
    for arg in 1..c.len() {
        let next = c.expanded(arg)?;
        let better = compare(&next, &values)?;
        for (row, best) in best.iter_mut().enumerate() {
            if better.is_valid(row) && better.value(row) {
                *best = arg;
            }
        }
        values = choose(c, |i| Some(best[i]))?;
    }
    choose(c, |i| (0..c.len()).all(|a| !c.is_null(a, i)).then_some(best[i]))
}

fn type_of(c: &Call) -> Result<ArrayRef> {
    let ty = c.array(0).data_type();
    let name = SqlType::from_arrow(ty).map_or_else(|| ty.to_string(), |t| t.to_string());
    Ok(Arc::new(StringArray::from(vec![name; c.rows])))
}

#[cfg(test)]
mod tests {
    use crate::testing::is;

    const NULL: Option<()> = None;

    #[test]
    fn choices() {
        is! {
            r#if(true, 1, 2) => "1";
            r#if(NULL, 1, 2) => "2";
            r#if(true, NULL, "x") => "NULL";
            ifnull(NULL, 5) => "5";
            ifnull(3, 5) => "3";
            ifnull(NULL, NULL) => "NULL";
            coalesce(NULL, NULL, "a", "b") => "a";
            coalesce(1, 2.5) => "1.0";
            nullif(5, 5) => "NULL";
            nullif(5, 0) => "5";
            nullif(5, NULL) => "5";
            nullif(NULL, 5) => "NULL";
            greatest(1, 3, 2) => "3";
            greatest("a", "b") => "b";
            greatest(1, NULL) => "NULL";
            least(2, 1.5) => "1.5";
            least(NULL, NULL) => "NULL";
            r#typeof(1) => "BIGINT";
            r#typeof("a") => "STRING";
        }
    }
}
