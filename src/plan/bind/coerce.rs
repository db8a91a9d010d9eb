//! Operators over typed expressions: which types they take, what they are cast to, and what comes out.

use thalweg_core::{Error, Result, SqlType};
use thalweg_functions::types::{Purpose, as_decimal, common_type};
use thalweg_graph::{Expr, Literal, LiteralValue};

use crate::literal;

/// The zone in which a session shows points in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zone<'a>(pub &'a str);

/// `e` as a value of `ty`; a literal is cast at once where that cannot fail.
pub(crate) fn cast(e: Expr, ty: &SqlType, zone: Zone) -> Expr {
    if e.ty() == ty {
        return e;
    }
    if let Expr::Literal(l) = &e
        && !crosses_zone(&l.ty, ty)
        && let Some(folded) = literal::cast(l, ty)
    {
        return Expr::Literal(folded);
    }
    to_type(e, ty, false, zone)
}

/// Whether the wall clock of a zone enters a cast: between a point in time and what is local.
fn crosses_zone(from: &SqlType, to: &SqlType) -> bool {
    let is_instant = |t: &SqlType| matches!(t, SqlType::TimestampLtz(_));
    let is_local = |t: &SqlType| t.is_string() || matches!(t, SqlType::Date | SqlType::Time(_) | SqlType::Timestamp(_));
    (is_instant(from) && is_local(to)) || (is_local(from) && is_instant(to))
}

/// A cast as written or implied. Where a zone enters it stands in the expression: it is part of what is computed.
pub(crate) fn to_type(e: Expr, ty: &SqlType, safe: bool, zone: Zone) -> Expr {
    let from = e.ty().clone();
    if !crosses_zone(&from, ty) || zone.0 == "UTC" {
        return Expr::Cast { expr: Box::new(e), ty: ty.clone(), safe };
    }
    // Between TIMESTAMP_LTZ and TIMESTAMP the zone's clock; the rest is a cast of the TIMESTAMP.
    let zone = literal::string(zone.0);
    let digits = |t: &SqlType| crate::types::fraction_digits(t).unwrap_or(6);
    if matches!(from, SqlType::TimestampLtz(_)) {
        let local = SqlType::Timestamp(digits(&from));
        let e = Expr::call("ltz_to_timestamp", vec![e, zone], local.clone());
        return if local == *ty { e } else { Expr::Cast { expr: Box::new(e), ty: ty.clone(), safe } };
    }
    let local = SqlType::Timestamp(digits(ty));
    let e = if from == local { e } else { Expr::Cast { expr: Box::new(e), ty: local, safe } };
    Expr::call("timestamp_to_ltz", vec![e, zone], ty.clone())
}

/// An integer literal takes the other side's type if it fits: `smallint_column < 5` needs no cast of the column.
fn fit_literal(e: Expr, other: &SqlType) -> Expr {
    let Some(i) = literal::integer_of(&e) else { return e };
    if other.is_integer() {
        let Expr::Literal(l) = &e else { return e };
        return literal::cast(l, other).map_or(e, Expr::Literal);
    }
    if matches!(other, SqlType::Decimal { .. }) {
        let digits = i.unsigned_abs().to_string().len() as u8;
        let ty = SqlType::Decimal { precision: digits, scale: 0 };
        return Expr::Literal(Literal { ty, value: LiteralValue::Decimal(i.to_string()) });
    }
    e
}

fn fitted(l: Expr, r: Expr) -> (Expr, Expr) {
    let (lt, rt) = (l.ty().clone(), r.ty().clone());
    if literal::integer_of(&l).is_some() && literal::integer_of(&r).is_some() {
        return (l, r);
    }
    (fit_literal(l, &rt), fit_literal(r, &lt))
}

/// `e` to be compared with values of `ty`.
pub(crate) fn as_comparable(e: Expr, ty: &SqlType, zone: Zone) -> Expr {
    if e.ty().is_string() && ty.is_string() { e } else { cast(e, ty, zone) }
}

/// Both sides as values of one type, to be compared.
pub(crate) fn comparable(l: Expr, r: Expr, zone: Zone) -> Result<(Expr, Expr)> {
    let (l, r) = fitted(l, r);
    // Lengths do not matter.
    if l.ty().is_string() && r.ty().is_string() {
        return Ok((l, r));
    }
    let ty = common_type(l.ty(), r.ty(), Purpose::Compare).filter(|t| t.is_orderable() || *t == SqlType::Interval);
    let Some(ty) = ty else {
        return Err(Error::type_(format!("cannot compare {} with {}", l.ty(), r.ty()))
            .note("CAST one side to the type of the other"));
    };
    Ok((cast(l, &ty, zone), cast(r, &ty, zone)))
}

/// `=`, `<>`, `<`, `<=`, `>`, `>=`, `is_distinct_from`, `is_not_distinct_from`.
pub(crate) fn compare(op: &str, l: Expr, r: Expr, zone: Zone) -> Result<Expr> {
    let (l, r) = comparable(l, r, zone)?;
    Ok(Expr::call(op, vec![l, r], SqlType::Boolean))
}

/// All as values of one type that holds them, for CASE, COALESCE, ARRAY, UNION.
pub(crate) fn unite(exprs: Vec<Expr>, what: &str, zone: Zone) -> Result<(Vec<Expr>, SqlType)> {
    let mut ty = SqlType::Null;
    for e in &exprs {
        let Some(wider) = common_type(&ty, e.ty(), Purpose::Unite) else {
            return Err(Error::type_(format!("{what} has values of type {ty} and of type {}", e.ty()))
                .note("CAST one of them to the type of the other"));
        };
        ty = wider;
    }
    Ok((exprs.into_iter().map(|e| cast(e, &ty, zone)).collect(), ty))
}

/// A BOOLEAN, or a NULL made one.
pub(crate) fn condition(e: Expr, what: &str, zone: Zone) -> Result<Expr> {
    match e.ty() {
        SqlType::Boolean => Ok(e),
        SqlType::Null => Ok(cast(e, &SqlType::Boolean, zone)),
        other => Err(Error::type_(format!("{what} must be BOOLEAN, it is {other}"))),
    }
}

/// `+ - * / %`.
pub(crate) fn arithmetic(op: &str, l: Expr, r: Expr, zone: Zone) -> Result<Expr> {
    use SqlType::*;
    let not_for = |l: &Expr, r: &Expr| {
        let e = Error::type_(format!("cannot compute {} {op} {}", l.ty(), r.ty()));
        let is_time = |t: &SqlType| matches!(t, Date | Time(_) | Timestamp(_) | TimestampLtz(_));
        if is_time(l.ty()) && is_time(r.ty()) {
            e.note("TIMESTAMPDIFF(unit, from, to) gives the time between two points")
        } else if is_time(l.ty()) || is_time(r.ty()) {
            e.note("add an INTERVAL, as in ts + INTERVAL '10' MINUTE")
        } else {
            e.note("CAST to a number first")
        }
    };
    // NULL takes the other side's type.
    let (l, r) = match (l.ty().clone(), r.ty().clone()) {
        (Null, Null) => (cast(l, &Int, zone), cast(r, &Int, zone)),
        (Null, t) if t.is_numeric() => (cast(l, &t, zone), r),
        (t, Null) if t.is_numeric() => (l, cast(r, &t, zone)),
        (Null, Interval) if op == "+" => (cast(l, &Timestamp(6), zone), r),
        _ => (l, r),
    };
    if l.ty().is_numeric() && r.ty().is_numeric() {
        return numbers(op, l, r, zone);
    }
    let is_time = |t: &SqlType| matches!(t, Date | Time(_) | Timestamp(_) | TimestampLtz(_));
    match (l.ty(), r.ty()) {
        (t, Interval | Null) if is_time(t) && matches!(op, "+" | "-") => {
            let ty = sum_type(t, &r);
            let r = cast(r, &Interval, zone);
            Ok(Expr::call(op, vec![l, r], ty))
        }
        (Interval, t) if is_time(t) && op == "+" => {
            let ty = sum_type(t, &l);
            Ok(Expr::call(op, vec![r, l], ty))
        }
        (Interval, Interval) if matches!(op, "+" | "-") => Ok(Expr::call(op, vec![l, r], Interval)),
        _ => Err(not_for(&l, &r)),
    }
}

/// A time and an interval: a DATE and hours, or what may be hours, are a TIMESTAMP.
fn sum_type(time: &SqlType, interval: &Expr) -> SqlType {
    if *time == SqlType::Date && !is_whole_days(interval) { SqlType::Timestamp(6) } else { time.clone() }
}

/// Whether an interval certainly has no part below a day.
fn is_whole_days(interval: &Expr) -> bool {
    match interval {
        Expr::Literal(Literal { value: LiteralValue::Interval { nanos, .. }, .. }) => *nanos == 0,
        Expr::Literal(Literal { value: LiteralValue::Null, .. }) => true,
        Expr::Call { function, args, .. } => {
            matches!(function.as_str(), "+" | "-" | "negative") && args.iter().all(is_whole_days)
        }
        _ => false,
    }
}

fn numbers(op: &str, l: Expr, r: Expr, zone: Zone) -> Result<Expr> {
    let ty = common_type(l.ty(), r.ty(), Purpose::Compare).expect("numbers have a common type");
    let (Some((p, s)), Some((q, t)), SqlType::Decimal { .. }) = (as_decimal(l.ty()), as_decimal(r.ty()), &ty) else {
        return Ok(Expr::call(op, vec![cast(l, &ty, zone), cast(r, &ty, zone)], ty));
    };
    let side = |precision: u8, scale: i8| SqlType::Decimal { precision, scale };
    Ok(Expr::call(op, vec![cast(l, &side(p, s), zone), cast(r, &side(q, t), zone)], decimal_result(op, (p, s), (q, t))))
}

/// The DECIMAL of a sum, product or quotient, as in Flink: with enough digits for every value, up to the most that there
/// are; then digits behind the point give way, down to six. Beyond 38 digits only if an operand has them.
fn decimal_result(op: &str, (p, s): (u8, i8), (q, t): (u8, i8)) -> SqlType {
    let (p, s, q, t) = (i32::from(p), i32::from(s), i32::from(q), i32::from(t));
    let (precision, scale) = match op {
        "*" => (p + q + 1, s + t),
        "/" => {
            let scale = (s + q + 1).max(6);
            (p - s + t + scale, scale)
        }
        "%" => ((p - s).min(q - t) + s.max(t), s.max(t)),
        _ => ((p - s).max(q - t) + s.max(t) + 1, s.max(t)),
    };
    let most = if p <= 38 && q <= 38 { 38 } else { 76 };
    let (precision, scale) = if precision <= most {
        (precision.max(1), scale)
    } else {
        (most, (most - (precision - scale)).max(scale.min(6)))
    };
    SqlType::Decimal { precision: precision as u8, scale: scale as i8 }
}

/// `||`: of strings, or of bytes.
pub(crate) fn concat(l: Expr, r: Expr, zone: Zone) -> Result<Expr> {
    let is_bytes = |e: &Expr| matches!(e.ty(), SqlType::Binary(_) | SqlType::VarBinary(_));
    let ty = if is_bytes(&l) || is_bytes(&r) { SqlType::BYTES } else { SqlType::STRING };
    for e in [&l, &r] {
        let fits = *e.ty() == SqlType::Null || if ty == SqlType::BYTES { is_bytes(e) } else { e.ty().is_string() };
        if !fits {
            return Err(Error::type_(format!("|| is for strings, not for {}", e.ty())).note("CAST it to STRING"));
        }
    }
    Ok(Expr::call("||", vec![cast(l, &ty, zone), cast(r, &ty, zone)], ty))
}

/// Minus sign.
pub(crate) fn negative(e: Expr) -> Result<Expr> {
    if let Expr::Literal(Literal { ty, value }) = &e {
        let value = match value {
            LiteralValue::Integer(i) if ty.is_integer() => i.checked_neg().map(LiteralValue::Integer),
            LiteralValue::Float(bits) => Some(LiteralValue::Float((-f64::from_bits(*bits)).to_bits())),
            LiteralValue::Decimal(d) => Some(LiteralValue::Decimal(match d.strip_prefix('-') {
                Some(positive) => positive.to_owned(),
                None if d == "0" => d.clone(),
                None => format!("-{d}"),
            })),
            LiteralValue::Interval { months, days, nanos } => {
                Some(LiteralValue::Interval { months: -months, days: -days, nanos: -nanos })
            }
            _ => None,
        };
        if let Some(value) = value {
            return Ok(Expr::Literal(Literal { ty: ty.clone(), value }));
        }
    }
    let ty = e.ty().clone();
    if ty.is_numeric() || ty == SqlType::Interval {
        return Ok(Expr::call("negative", vec![e], ty));
    }
    Err(Error::type_(format!("- is for numbers, not for {ty}")))
}

/// `e` in a column of type `to`: widened, or checked so that nothing is lost but digits behind the point and behind the
/// second. `None`: the types do not go together.
pub(crate) fn store(e: Expr, to: &SqlType, zone: Zone) -> Option<Expr> {
    if e.ty() == to {
        return Some(e);
    }
    let from = e.ty().clone();
    // A string literal is read as a time, as in `VALUES ('2020-01-01')`.
    if let Expr::Literal(l) = &e
        && l.ty.is_string()
        && matches!(to, SqlType::Date | SqlType::Time(_) | SqlType::Timestamp(_))
        && let Some(folded) = literal::cast(l, to)
    {
        return Some(Expr::Literal(folded));
    }
    if !crate::types::can_store(&from, to) {
        return None;
    }
    let length = |ty: &SqlType| match ty {
        SqlType::Char(n) | SqlType::VarChar(n) | SqlType::Binary(n) | SqlType::VarBinary(n) => Some(*n),
        _ => None,
    };
    let Some(n) = length(to) else { return Some(cast(e, to, zone)) };
    if let Expr::Literal(Literal { value: LiteralValue::String(s), .. }) = &e
        && s.chars().count() as u64 <= u64::from(n)
    {
        return Some(Expr::Literal(Literal { ty: to.clone(), value: LiteralValue::String(s.clone()) }));
    }
    if literal::is_null(&e) {
        return Some(literal::null(to.clone()));
    }
    if length(&from).is_some_and(|m| m <= n) || n == thalweg_core::types::LENGTH_MAX {
        return Some(Expr::Cast { expr: Box::new(e), ty: to.clone(), safe: false });
    }
    let n = literal::integer(n.into(), SqlType::BigInt);
    Some(Expr::call("check_length", vec![e, n], to.clone()))
}
