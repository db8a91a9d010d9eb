//! Whole expressions over batches: meaning, types, and that a row's fate is its own.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::Schema;
use proptest::prelude::*;
use thalweg_core::{Column, Error, Result, SqlType};
use thalweg_functions::cast::to_text;
use thalweg_graph::{Expr, Literal, LiteralValue, OutColumn, Output, Provenance};

use super::ExprSet;

fn output(columns: &[(&str, SqlType)]) -> Output {
    Output {
        columns: columns
            .iter()
            .map(|(name, ty)| OutColumn {
                column: Column::new(*name, ty.clone(), true),
                provenance: Provenance([0; 16]),
                stable: true,
            })
            .collect(),
        append_only: true,
        unique_keys: vec![],
        bounded: true,
        order: None,
    }
}

/// Evaluates one expression; gives the texts of its values and the errors of the rows that failed.
fn run(expr: &Expr, columns: &[(&str, SqlType, ArrayRef)]) -> Result<(Vec<String>, Vec<Error>)> {
    let input = output(&columns.iter().map(|(n, t, _)| (*n, t.clone())).collect::<Vec<_>>());
    let set = ExprSet::compile(std::slice::from_ref(expr), &input)?;
    let rows = columns.first().map_or(1, |c| c.2.len());
    let batch = super::to_batch(input.schema(), columns.iter().map(|c| c.2.clone()).collect(), rows)?;
    let mut errors = vec![];
    let out = set.evaluate_with(&batch, &mut |e| {
        errors.push(e);
        Ok(())
    })?;
    assert_eq!(out.columns[0].data_type(), &expr.ty().to_arrow());
    assert_eq!(out.columns[0].len() + errors.len(), rows);
    if let Some(kept) = out.kept {
        assert_eq!(kept.true_count(), out.columns[0].len());
    }
    let text = to_text(&out.columns[0], expr.ty())?;
    let text = text.as_string_opt::<i32>().expect("a text");
    Ok((text.iter().map(|t| t.unwrap_or("NULL").to_owned()).collect(), errors))
}

/// The one value of an expression without columns.
fn value(expr: Expr) -> Result<String> {
    let (values, mut errors) = run(&expr, &[])?;
    match errors.pop() {
        Some(e) => Err(e),
        None => Ok(values[0].clone()),
    }
}

fn col(ordinal: usize, ty: SqlType) -> Expr {
    Expr::column(ordinal, ty)
}

fn lit(ty: SqlType, value: LiteralValue) -> Expr {
    Expr::Literal(Literal { ty, value })
}

fn int(v: i64) -> Expr {
    lit(SqlType::BigInt, LiteralValue::Integer(v))
}

fn text(v: &str) -> Expr {
    lit(SqlType::STRING, LiteralValue::String(v.into()))
}

fn double(v: f64) -> Expr {
    lit(SqlType::Double, LiteralValue::Float(v.to_bits()))
}

fn dec(digits: &str, precision: u8, scale: i8) -> Expr {
    lit(SqlType::Decimal { precision, scale }, LiteralValue::Decimal(digits.into()))
}

fn null() -> Expr {
    lit(SqlType::Null, LiteralValue::Null)
}

fn call(function: &str, args: Vec<Expr>, ty: SqlType) -> Expr {
    Expr::call(function, args, ty)
}

fn truth(function: &str, args: Vec<Expr>) -> Expr {
    call(function, args, SqlType::Boolean)
}

fn cast(e: Expr, ty: SqlType) -> Expr {
    Expr::Cast { expr: Box::new(e), ty, safe: false }
}

fn try_cast(e: Expr, ty: SqlType) -> Expr {
    Expr::Cast { expr: Box::new(e), ty, safe: true }
}

fn longs(v: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from(v))
}

#[test]
fn a_guard_keeps_rows_from_failing() {
    let b = || col(0, SqlType::BigInt);
    let columns = [("b", SqlType::BigInt, longs(vec![Some(0), Some(4), None, Some(5), Some(0)]))];
    let quotient = call("/", vec![int(10), b()], SqlType::BigInt);
    let large = truth(">", vec![quotient.clone(), int(2)]);
    let guarded = truth("and", vec![truth("<>", vec![b(), int(0)]), large.clone()]);
    let (values, errors) = run(&guarded, &columns).unwrap();
    assert_eq!(values, ["FALSE", "FALSE", "NULL", "FALSE", "FALSE"]);
    assert!(errors.is_empty());

    let or = truth("or", vec![truth("=", vec![b(), int(0)]), large]);
    let (values, errors) = run(&or, &columns).unwrap();
    assert_eq!(values, ["TRUE", "FALSE", "NULL", "FALSE", "TRUE"]);
    assert!(errors.is_empty());

    let case = Expr::Case {
        operand: None,
        branches: vec![(truth("=", vec![b(), int(0)]), int(-1))],
        otherwise: Some(Box::new(quotient.clone())),
        ty: SqlType::BigInt,
    };
    let (values, errors) = run(&case, &columns).unwrap();
    assert_eq!(values, ["-1", "2", "NULL", "2", "-1"]);
    assert!(errors.is_empty());

    let checked = call("if", vec![truth("=", vec![b(), int(0)]), int(7), quotient.clone()], SqlType::BigInt);
    assert_eq!(run(&checked, &columns).unwrap().0, ["7", "2", "NULL", "2", "7"]);

    let fallback = call("coalesce", vec![b(), call("/", vec![int(1), int(0)], SqlType::BigInt)], SqlType::BigInt);
    let (values, errors) = run(&fallback, &columns).unwrap();
    assert_eq!(values, ["0", "4", "5", "0"]);
    assert_eq!(errors.len(), 1);
}

#[test]
fn a_row_that_fails_takes_no_other_with_it_and_says_why() {
    let columns = [("b", SqlType::BigInt, longs(vec![Some(0), Some(4), None, Some(5), Some(0)]))];
    let quotient = call("/", vec![int(10), col(0, SqlType::BigInt)], SqlType::BigInt);
    let (values, errors) = run(&quotient, &columns).unwrap();
    assert_eq!(values, ["2", "NULL", "2"]);
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0].message(), "division by zero");
    assert!(errors[0].notes().iter().any(|n| n.contains("b = 0")), "{}", errors[0]);
}

#[test]
fn a_mask_is_true_for_true_only() {
    let input = output(&[("b", SqlType::BigInt)]);
    let b = || col(0, SqlType::BigInt);
    let large = truth(">", vec![call("/", vec![int(10), b()], SqlType::BigInt), int(2)]);
    let set = ExprSet::compile(&[large], &input).unwrap();
    let batch =
        RecordBatch::try_new(input.schema(), vec![longs(vec![Some(3), Some(0), None, Some(9), Some(1)])]).unwrap();
    let mut errors = 0;
    let mask = set
        .mask_with(&batch, &mut |_| {
            errors += 1;
            Ok(())
        })
        .unwrap()
        .0;
    assert_eq!(mask, BooleanArray::from(vec![true, false, false, false, true]));
    assert_eq!(errors, 1);
    let always = ExprSet::compile(&[lit(SqlType::Boolean, LiteralValue::Boolean(true))], &input).unwrap();
    assert_eq!(always.mask_with(&batch, &mut Err).unwrap().0.true_count(), 5);
}

#[test]
fn an_error_that_is_not_of_a_row_ends_it() {
    let input = output(&[("b", SqlType::BigInt)]);
    let set = ExprSet::compile(&[call("/", vec![int(1), col(0, SqlType::BigInt)], SqlType::BigInt)], &input).unwrap();
    let batch = RecordBatch::try_new(input.schema(), vec![longs(vec![Some(0), Some(0)])]).unwrap();
    let mut seen = 0;
    let failed = set.evaluate_with(&batch, &mut |e| {
        seen += 1;
        Err(e)
    });
    assert!(failed.is_err());
    assert_eq!(seen, 1);
}

#[test]
fn plain_columns_are_not_copied() {
    let input = output(&[("a", SqlType::BigInt), ("b", SqlType::STRING)]);
    let set = ExprSet::compile(&[col(1, SqlType::STRING), col(0, SqlType::BigInt)], &input).unwrap();
    let a = longs(vec![Some(1), Some(2)]);
    let b: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let batch = RecordBatch::try_new(input.schema(), vec![a.clone(), b.clone()]).unwrap();
    let out = set.evaluate_with(&batch, &mut Err).unwrap();
    assert!(Arc::ptr_eq(&out.columns[0], &b) && Arc::ptr_eq(&out.columns[1], &a));
}

#[test]
fn arithmetic_of_numbers() {
    use SqlType::*;
    for (expr, is) in [
        (call("+", vec![int(1), int(2)], BigInt), "3"),
        (call("/", vec![int(7), int(2)], BigInt), "3"),
        (call("/", vec![int(-7), int(2)], BigInt), "-3"),
        (call("%", vec![int(-7), int(2)], BigInt), "-1"),
        (call("/", vec![double(1.0), double(0.0)], Double), "Infinity"),
        (call("+", vec![int(1), double(0.5)], Double), "1.5"),
        (call("*", vec![dec("150", 3, 2), int(2)], Decimal { precision: 23, scale: 2 }), "3.00"),
        (call("+", vec![dec("150", 3, 2), dec("25", 2, 1)], Decimal { precision: 5, scale: 2 }), "4.00"),
        (call("/", vec![dec("1", 1, 0), dec("3", 1, 0)], Decimal { precision: 7, scale: 6 }), "0.333333"),
        (call("+", vec![int(1), null()], BigInt), "NULL"),
        (call("negative", vec![int(5)], BigInt), "-5"),
        (call("negative", vec![dec("150", 3, 2)], Decimal { precision: 3, scale: 2 }), "-1.50"),
        (call("&", vec![int(6), int(3)], BigInt), "2"),
        (call("mod", vec![int(7), int(4)], BigInt), "3"),
    ] {
        assert_eq!(value(expr.clone()).unwrap(), is, "{expr:?}");
    }
    let max = || int(i64::MAX);
    for expr in [
        call("+", vec![max(), int(1)], BigInt),
        call("negative", vec![int(i64::MIN)], BigInt),
        call("*", vec![max(), max()], BigInt),
        call("/", vec![int(1), int(0)], BigInt),
        call("/", vec![dec("1", 1, 0), dec("0", 1, 0)], Decimal { precision: 7, scale: 6 }),
        call("*", vec![dec("999", 3, 0), dec("999", 3, 0)], Decimal { precision: 3, scale: 0 }),
    ] {
        assert_eq!(value(expr.clone()).unwrap_err().code(), thalweg_core::ErrorCode::Row, "{expr:?}");
    }
    let tiny = |v| lit(TinyInt, LiteralValue::Integer(v));
    assert!(value(call("+", vec![tiny(100), tiny(100)], TinyInt)).is_err());
    assert_eq!(value(call("+", vec![tiny(100), tiny(100)], Int)).unwrap(), "200");
}

#[test]
fn comparisons_and_truth() {
    use SqlType::*;
    let boolean = |b: Option<bool>| lit(Boolean, b.map_or(LiteralValue::Null, LiteralValue::Boolean));
    for (expr, is) in [
        (truth("=", vec![double(-0.0), double(0.0)]), "TRUE"),
        (truth("=", vec![double(f64::NAN), double(-f64::NAN)]), "TRUE"),
        (truth(">", vec![double(f64::NAN), double(f64::INFINITY)]), "TRUE"),
        (truth("=", vec![int(1), dec("100", 3, 2)]), "TRUE"),
        (truth("<", vec![int(1), double(1.5)]), "TRUE"),
        (truth("=", vec![text("5"), int(5)]), "TRUE"),
        (truth("=", vec![int(1), null()]), "NULL"),
        (truth("is_distinct_from", vec![int(1), null()]), "TRUE"),
        (truth("is_not_distinct_from", vec![null(), null()]), "TRUE"),
        (truth("is_null", vec![null()]), "TRUE"),
        (truth("is_not_null", vec![int(1)]), "TRUE"),
        (truth("is_true", vec![boolean(None)]), "FALSE"),
        (truth("is_not_true", vec![boolean(None)]), "TRUE"),
        (truth("is_false", vec![boolean(Some(false))]), "TRUE"),
        (truth("is_unknown", vec![boolean(None)]), "TRUE"),
        (truth("not", vec![boolean(None)]), "NULL"),
        (truth("and", vec![boolean(None), boolean(Some(false))]), "FALSE"),
        (truth("and", vec![boolean(None), boolean(Some(true))]), "NULL"),
        (truth("or", vec![boolean(None), boolean(Some(true))]), "TRUE"),
        (truth("and", vec![boolean(Some(true)), boolean(Some(true)), boolean(Some(false))]), "FALSE"),
        (truth("in", vec![int(2), int(1), int(2)]), "TRUE"),
        (truth("in", vec![int(3), int(1), null()]), "NULL"),
        (truth("not_in", vec![int(3), int(1), int(2)]), "TRUE"),
        (truth("in", vec![double(0.0), double(-0.0), double(1.0)]), "TRUE"),
        (truth("like", vec![text("a%b"), text("a!%_"), text("!")]), "TRUE"),
        (truth("like", vec![text("axb"), text("a!%_"), text("!")]), "FALSE"),
        (truth("like", vec![text("a\\b"), text("a\\b")]), "TRUE"),
        (truth("not_like", vec![text("abc"), text("a_c")]), "FALSE"),
        (truth("ilike", vec![text("ABC"), text("a%")]), "TRUE"),
        (truth("~", vec![text("abc"), text("b.")]), "TRUE"),
        (truth("like", vec![null(), text("a")]), "NULL"),
    ] {
        assert_eq!(value(expr.clone()).unwrap(), is, "{expr:?}");
    }
}

#[test]
fn casts_are_checked_and_try_cast_gives_null() {
    use SqlType::*;
    assert_eq!(value(cast(text(" 42 "), Int)).unwrap(), "42");
    assert_eq!(value(cast(double(-1.9), Int)).unwrap(), "-1");
    assert_eq!(value(cast(text("abcdef"), VarChar(3))).unwrap(), "abc");
    assert_eq!(value(cast(lit(Boolean, LiteralValue::Boolean(true)), SqlType::STRING)).unwrap(), "TRUE");
    assert_eq!(value(try_cast(text("x"), Int)).unwrap(), "NULL");
    assert_eq!(value(cast(text("2024-02-29"), Timestamp(3))).unwrap(), "2024-02-29 00:00:00.000");
    let e = value(cast(text("x"), Int)).unwrap_err();
    assert_eq!(e.message(), "'x' is not a value of type INT");
    assert!(value(cast(int(1), Date)).unwrap_err().message().contains("there is no CAST"));
}

#[test]
fn texts_functions_and_nested_values() {
    use SqlType::*;
    assert_eq!(value(call("||", vec![text("a"), int(1)], SqlType::STRING)).unwrap(), "a1");
    assert_eq!(value(call("||", vec![text("a"), null()], SqlType::STRING)).unwrap(), "NULL");
    assert_eq!(value(call("upper", vec![text("a")], SqlType::STRING)).unwrap(), "A");
    assert_eq!(value(call("substr", vec![text("hello"), int(2)], SqlType::STRING)).unwrap(), "ello");
    assert_eq!(value(call("nullif", vec![int(1), int(1)], BigInt)).unwrap(), "NULL");
    assert!(value(call("upper", vec![int(1)], SqlType::STRING)).unwrap_err().message().contains("UPPER(string)"));
    assert!(value(call("no_such", vec![], BigInt)).unwrap_err().message().contains("NO_SUCH"));
    let ints = SqlType::Array(Box::new(thalweg_core::types::ElementType { ty: BigInt, nullable: true }));
    let list = || {
        let items = vec![LiteralValue::Integer(4), LiteralValue::Null, LiteralValue::Integer(6)];
        lit(ints.clone(), LiteralValue::List(items))
    };
    assert_eq!(value(list()).unwrap(), "[4, NULL, 6]");
    assert_eq!(value(call("cardinality", vec![list()], Int)).unwrap(), "3");
    assert_eq!(value(call("array_element", vec![list(), int(3)], BigInt)).unwrap(), "6");
    assert_eq!(value(call("make_array", vec![int(1), int(2)], ints.clone())).unwrap(), "[1, 2]");
    let row = SqlType::Row(vec![Column::new("a", Int, true), Column::new("b", SqlType::STRING, true)]);
    let one = lit(row, LiteralValue::List(vec![LiteralValue::Integer(1), LiteralValue::String("x".into())]));
    assert_eq!(value(call("get_field", vec![one, text("b")], SqlType::STRING)).unwrap(), "x");
}

#[test]
fn constructors_and_look_ups_of_nested_values() {
    use SqlType::*;
    let element = |ty: SqlType, nullable| thalweg_core::types::ElementType { ty, nullable };
    let keys = call("make_array", vec![text("x"), text("y")], Array(Box::new(element(SqlType::STRING, false))));
    let values = call("make_array", vec![int(1), null()], Array(Box::new(element(BigInt, true))));
    let map_type = Map(Box::new(SqlType::STRING), Box::new(element(BigInt, true)));
    let map = || call("map", vec![keys.clone(), values.clone()], map_type.clone());
    assert_eq!(value(map()).unwrap(), "{x=1, y=NULL}");
    let found = call("map_extract", vec![map(), text("x")], Array(Box::new(element(BigInt, true))));
    assert_eq!(value(call("array_element", vec![found, int(1)], BigInt)).unwrap(), "1");
    let none = call("map_extract", vec![map(), text("z")], Array(Box::new(element(BigInt, true))));
    assert_eq!(value(call("array_element", vec![none, int(1)], BigInt)).unwrap(), "NULL");
    assert_eq!(
        value(call("map_keys", vec![map()], Array(Box::new(element(SqlType::STRING, false))))).unwrap(),
        "[x, y]"
    );
    assert_eq!(value(call("cardinality", vec![map()], Int)).unwrap(), "2");

    let row_type = SqlType::Row(vec![Column::new("a", BigInt, true), Column::new("b", SqlType::STRING, true)]);
    let row = call("named_struct", vec![text("a"), int(1), text("b"), text("x")], row_type);
    assert_eq!(value(row.clone()).unwrap(), "(1, x)");
    assert_eq!(value(call("get_field", vec![row, text("a")], BigInt)).unwrap(), "1");
    let both = call("||", vec![values.clone(), values], Array(Box::new(element(BigInt, true))));
    assert_eq!(value(both).unwrap(), "[1, NULL, 1, NULL]");
}

#[test]
fn functions_over_columns_keep_their_rows() {
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("ada"), None, Some("bo")]));
    let columns = [("n", SqlType::STRING, names), ("i", SqlType::BigInt, longs(vec![Some(1), Some(2), None]))];
    let (n, i) = (|| col(0, SqlType::STRING), || col(1, SqlType::BigInt));
    for (expr, is) in [
        (call("upper", vec![n()], SqlType::STRING), ["ADA", "NULL", "BO"]),
        (call("concat", vec![n(), text("-"), i()], SqlType::STRING), ["ada-1", "NULL", "NULL"]),
        (call("substr", vec![n(), i()], SqlType::STRING), ["ada", "NULL", "NULL"]),
        (call("coalesce", vec![n(), cast(i(), SqlType::STRING), text("?")], SqlType::STRING), ["ada", "2", "bo"]),
        (call("nullif", vec![i(), int(2)], SqlType::BigInt), ["1", "NULL", "NULL"]),
        (call("greatest", vec![i(), int(1)], SqlType::BigInt), ["1", "2", "NULL"]),
        (
            call(
                "array_length",
                vec![call(
                    "make_array",
                    vec![i(), i()],
                    SqlType::Array(Box::new(thalweg_core::types::ElementType { ty: SqlType::BigInt, nullable: true })),
                )],
                SqlType::BigInt,
            ),
            ["2", "2", "2"],
        ),
    ] {
        assert_eq!(run(&expr, &columns).unwrap().0, is, "{expr:?}");
    }
}

#[test]
fn times_and_intervals() {
    use SqlType::*;
    let day = || lit(Interval, LiteralValue::Interval { months: 0, days: 1, nanos: 0 });
    let hour = || lit(Interval, LiteralValue::Interval { months: 0, days: 0, nanos: 3_600_000_000_000 });
    let ts = |s: &str| cast(text(s), Timestamp(3));
    let date = |s: &str| cast(text(s), Date);
    for (expr, is) in [
        (call("+", vec![ts("2024-02-28 12:00:00"), day()], Timestamp(3)), "2024-02-29 12:00:00.000"),
        (call("-", vec![date("2024-03-01"), day()], Date), "2024-02-29"),
        (call("+", vec![date("2024-03-01"), hour()], Timestamp(3)), "2024-03-01 01:00:00.000"),
        (truth("<", vec![date("2024-03-01"), ts("2024-03-01 00:00:01")]), "TRUE"),
        (truth("=", vec![ts("2024-03-01"), text("2024-03-01")]), "TRUE"),
        (truth(">", vec![call("-", vec![ts("2024-03-02"), ts("2024-03-01")], Interval), hour()]), "TRUE"),
    ] {
        assert_eq!(value(expr.clone()).unwrap(), is, "{expr:?}");
    }
}

#[test]
fn case_with_an_operand_and_of_mixed_types() {
    use SqlType::*;
    let case = Expr::Case {
        operand: Some(Box::new(col(0, Int))),
        branches: vec![(int(1), text("one")), (int(2), text("two"))],
        otherwise: None,
        ty: SqlType::STRING,
    };
    let columns = [("a", Int, Arc::new(Int32Array::from(vec![Some(2), None, Some(3), Some(1)])) as ArrayRef)];
    assert_eq!(run(&case, &columns).unwrap().0, ["two", "NULL", "NULL", "one"]);
    let mixed = Expr::Case {
        operand: None,
        branches: vec![(truth(">", vec![col(0, Int), int(1)]), int(1))],
        otherwise: Some(Box::new(double(0.5))),
        ty: Double,
    };
    assert_eq!(run(&mixed, &columns).unwrap().0, ["1.0", "0.5", "1.0", "0.5"]);
}

#[test]
fn floats_in_columns_compare_as_sql_does() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(1.0), None, Some(f64::NAN)]));
    let columns = [("x", SqlType::Double, floats)];
    let zero = truth("=", vec![col(0, SqlType::Double), double(0.0)]);
    assert_eq!(run(&zero, &columns).unwrap().0, ["TRUE", "FALSE", "NULL", "FALSE"]);
    let among = truth("in", vec![col(0, SqlType::Double), double(0.0), double(f64::NAN)]);
    assert_eq!(run(&among, &columns).unwrap().0, ["TRUE", "FALSE", "NULL", "TRUE"]);
}

/// Expressions over two BIGINT columns that may fail.
fn number() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        Just(col(0, SqlType::BigInt)),
        Just(col(1, SqlType::BigInt)),
        (-2..4_i64).prop_map(int),
        Just(int(i64::MAX)),
        Just(lit(SqlType::BigInt, LiteralValue::Null)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let condition =
            (prop_oneof!["=", "<", "<>"], inner.clone(), inner.clone()).prop_map(|(op, a, b)| truth(&op, vec![a, b]));
        let logic = (prop_oneof!["and", "or"], condition.clone(), condition.clone())
            .prop_map(|(op, a, b)| truth(&op, vec![a, b]));
        let condition = prop_oneof![condition, logic];
        prop_oneof![
            (prop_oneof!["\\+", "-", "\\*", "/", "%"], inner.clone(), inner.clone()).prop_map(|(op, a, b)| call(
                &op,
                vec![a, b],
                SqlType::BigInt
            )),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| call("coalesce", vec![a, b], SqlType::BigInt)),
            (condition, inner.clone(), inner).prop_map(|(when, then, otherwise)| Expr::Case {
                operand: None,
                branches: vec![(when, then)],
                otherwise: Some(Box::new(otherwise)),
                ty: SqlType::BigInt,
            }),
        ]
    })
}

/// What an expression means for one row, without any of the machinery.
fn model(e: &Expr, row: &[Option<i64>; 2]) -> std::result::Result<Option<i64>, ()> {
    let both = |args: &[Expr]| Ok::<_, ()>((model(&args[0], row)?, model(&args[1], row)?));
    match e {
        Expr::Column { ordinal, .. } => Ok(row[*ordinal]),
        Expr::Literal(Literal { value: LiteralValue::Integer(i), .. }) => Ok(Some(*i)),
        Expr::Literal(_) => Ok(None),
        Expr::Call { function, args, .. } => match function.as_str() {
            "and" | "or" => {
                let decides = i64::from(function == "or");
                let l = model(&args[0], row)?;
                if l == Some(decides) {
                    return Ok(l);
                }
                let r = model(&args[1], row)?;
                Ok(if r == Some(decides) { r } else { l.and(r).map(|_| 1 - decides) })
            }
            "coalesce" => match model(&args[0], row)? {
                None => model(&args[1], row),
                some => Ok(some),
            },
            op => {
                let (Some(a), Some(b)) = both(args)? else { return Ok(None) };
                match op {
                    "=" => Ok(Some(i64::from(a == b))),
                    "<" => Ok(Some(i64::from(a < b))),
                    "<>" => Ok(Some(i64::from(a != b))),
                    "+" => a.checked_add(b).map(Some).ok_or(()),
                    "-" => a.checked_sub(b).map(Some).ok_or(()),
                    "*" => a.checked_mul(b).map(Some).ok_or(()),
                    "/" => a.checked_div(b).map(Some).ok_or(()),
                    _ if b == 0 => Err(()),
                    _ => Ok(Some(a.wrapping_rem(b))),
                }
            }
        },
        Expr::Case { branches, otherwise, .. } => {
            if model(&branches[0].0, row)? == Some(1) {
                return model(&branches[0].1, row);
            }
            otherwise.as_ref().map_or(Ok(None), |e| model(e, row))
        }
        Expr::Cast { expr, .. } => model(expr, row),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_batch_gives_what_its_rows_give_alone(
        e in number(),
        rows in prop::collection::vec((prop::option::of(-2..3_i64), prop::option::of(-2..3_i64)), 1..40),
    ) {
        let columns = [
            ("a", SqlType::BigInt, longs(rows.iter().map(|r| r.0).collect())),
            ("b", SqlType::BigInt, longs(rows.iter().map(|r| r.1).collect())),
        ];
        let (values, errors) = run(&e, &columns).unwrap();
        let models: Vec<_> = rows.iter().map(|r| model(&e, &[r.0, r.1])).collect();
        let wanted: Vec<String> =
            models.iter().flatten().map(|v| v.map_or_else(|| "NULL".to_owned(), |v| v.to_string())).collect();
        prop_assert_eq!(values, wanted);
        prop_assert_eq!(errors.len(), models.iter().filter(|m| m.is_err()).count());
    }
}

/// `cargo test --release -p thalweg-operators throughput -- --ignored --nocapture`
#[test]
#[ignore = "prints a measure"]
fn throughput() {
    let input = output(&[("a", SqlType::BigInt), ("b", SqlType::BigInt), ("c", SqlType::BigInt)]);
    let rows = 8192;
    let column = |f: fn(i64) -> i64| Arc::new((0..rows).map(|i| Some(f(i))).collect::<Int64Array>()) as ArrayRef;
    let columns = vec![
        column(|i| i.wrapping_mul(2_654_435_761) % 1_000_003),
        column(|i| i.wrapping_mul(40_503) % 200),
        column(|i| i),
    ];
    let batch = RecordBatch::try_new(Arc::new(Schema::clone(&input.schema())), columns).unwrap();
    let (a, b, c) = (col(0, SqlType::BigInt), col(1, SqlType::BigInt), col(2, SqlType::BigInt));
    let predicate = truth(
        "and",
        vec![
            truth("<", vec![call("%", vec![a.clone(), int(10)], SqlType::BigInt), int(5)]),
            truth(">", vec![b.clone(), int(100)]),
        ],
    );
    let filter = ExprSet::compile(&[predicate], &input).unwrap();
    let project = ExprSet::compile(&[a, call("+", vec![b, c], SqlType::BigInt)], &input).unwrap();
    let rounds = 4000;
    let start = std::time::Instant::now();
    let mut kept = 0;
    for _ in 0..rounds {
        kept += filter.mask_with(&batch, &mut Err).unwrap().0.true_count();
    }
    let mask = start.elapsed().as_secs_f64();
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        kept += project.evaluate_with(&batch, &mut Err).unwrap().columns.len();
    }
    let projected = start.elapsed().as_secs_f64();
    let mask_of = filter.mask_with(&batch, &mut Err).unwrap().0;
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        let f = arrow::compute::FilterBuilder::new(&mask_of).optimize().build();
        for column in batch.columns() {
            kept += f.filter(column).unwrap().len();
        }
    }
    let filtered = start.elapsed().as_secs_f64();
    let million = (rounds * rows) as f64 / 1e6;
    println!(
        "mask {:.0} M rows/s, project {:.0} M rows/s, filter 3 columns {:.0} M rows/s ({kept})",
        million / mask,
        million / projected,
        million / filtered
    );
}
