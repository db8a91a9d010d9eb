//! Checked arithmetic over columns: integers and decimals that leave their range and division by zero are errors, floats
//! follow IEEE 754 (division by zero gives an infinity). Operands have one type, or are decimals of any two.

use std::ops::BitOr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum, PrimitiveArray, PrimitiveBuilder, Scalar};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::kernels::numeric;
use arrow::datatypes::*;
use datafusion_common::ScalarValue;
use datafusion_expr::ColumnarValue;
use thalweg_core::{Error, Result, SqlType};
use thalweg_functions::decimal;
use thalweg_functions::function::to_error;

use super::divide::Divisor;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

impl Op {
    pub fn of(function: &str) -> Option<Op> {
        Some(match function {
            "+" => Op::Add,
            "-" => Op::Sub,
            "*" => Op::Mul,
            "/" => Op::Div,
            "%" | "mod" => Op::Rem,
            _ => return None,
        })
    }

    pub fn symbol(self) -> &'static str {
        match self {
            Op::Add => "+",
            Op::Sub => "-",
            Op::Mul => "*",
            Op::Div => "/",
            Op::Rem => "%",
        }
    }
}

/// `left op right`, of type `ty`: for decimals any, else the type of the operands.
pub fn apply(op: Op, left: &ColumnarValue, right: &ColumnarValue, ty: &SqlType, rows: usize) -> Result<ColumnarValue> {
    if is_null(left) || is_null(right) {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_new_null(&ty.to_arrow()).map_err(to_error)?));
    }
    if let (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)) = (left, right) {
        let one = |v: &ColumnarValue| Ok::<_, Error>(ColumnarValue::Array(v.to_array(1).map_err(to_error)?));
        let array = columns(op, &one(left)?, &one(right)?, ty, 1)?;
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0).map_err(to_error)?));
    }
    Ok(ColumnarValue::Array(columns(op, left, right, ty, rows)?))
}

fn is_null(v: &ColumnarValue) -> bool {
    matches!(v, ColumnarValue::Scalar(s) if s.is_null())
}

fn columns(op: Op, left: &ColumnarValue, right: &ColumnarValue, ty: &SqlType, rows: usize) -> Result<ArrayRef> {
    let (l, r) = (Operand::new(left)?, Operand::new(right)?);
    Ok(match l.array.data_type() {
        DataType::Int8 => integers::<Int8Type>(op, &l, &r, rows)?,
        DataType::Int16 => integers::<Int16Type>(op, &l, &r, rows)?,
        DataType::Int32 => integers::<Int32Type>(op, &l, &r, rows)?,
        DataType::Int64 => integers::<Int64Type>(op, &l, &r, rows)?,
        DataType::Decimal128(..) | DataType::Decimal256(..) => decimals(op, &l, &r, ty, rows)?,
        _ => by_arrow(op, &l, &r)?,
    })
}

/// A column, or one value for all rows.
struct Operand {
    array: ArrayRef,
    /// 0: one value.
    step: usize,
}

impl Operand {
    fn new(v: &ColumnarValue) -> Result<Self> {
        Ok(match v {
            ColumnarValue::Array(a) => Operand { array: a.clone(), step: 1 },
            ColumnarValue::Scalar(s) => Operand { array: s.to_array().map_err(to_error)?, step: 0 },
        })
    }
}

/// The kernels of Arrow: floats, dates and intervals.
fn by_arrow(op: Op, l: &Operand, r: &Operand) -> Result<ArrayRef> {
    let apply = |l: &dyn Datum, r: &dyn Datum| match op {
        Op::Add => numeric::add(l, r),
        Op::Sub => numeric::sub(l, r),
        Op::Mul => numeric::mul(l, r),
        Op::Div => numeric::div(l, r),
        Op::Rem => numeric::rem(l, r),
    };
    Ok(match (l.step, r.step) {
        (0, _) => apply(&Scalar::new(l.array.clone()), &r.array)?,
        (_, 0) => apply(&l.array, &Scalar::new(r.array.clone()))?,
        _ => apply(&l.array, &r.array)?,
    })
}

/// Integers that wrap and say so, for loops without a branch per row: behind the result stands a number that is
/// negative if it overflowed, so that one OR collects it.
trait Checked: ArrowPrimitiveType<Native: Copy + BitOr<Output = Self::Native> + Default> {
    fn add(a: Self::Native, b: Self::Native) -> (Self::Native, Self::Native);
    fn sub(a: Self::Native, b: Self::Native) -> (Self::Native, Self::Native);
    fn mul(a: Self::Native, b: Self::Native) -> (Self::Native, Self::Native);
    /// The caller has excluded 0; MIN / -1 overflows.
    fn div(a: Self::Native, b: Self::Native) -> (Self::Native, bool);
    fn rem(a: Self::Native, b: Self::Native) -> Self::Native;
    fn is_zero(a: Self::Native) -> bool;
    fn wide(a: Self::Native) -> i64;
    /// Of a value that is known to fit.
    fn narrow(a: i64) -> Self::Native;
}

macro_rules! checked {
    ($($ty:ident $native:ident),*) => {$(
        impl Checked for $ty {
            #[inline(always)]
            fn add(a: $native, b: $native) -> ($native, $native) {
                // The sign of both operands differs from that of the result.
                let r = a.wrapping_add(b);
                (r, (a ^ r) & (b ^ r))
            }
            #[inline(always)]
            fn sub(a: $native, b: $native) -> ($native, $native) {
                let r = a.wrapping_sub(b);
                (r, (a ^ b) & (a ^ r))
            }
            #[inline(always)]
            fn mul(a: $native, b: $native) -> ($native, $native) {
                let (r, overflowed) = a.overflowing_mul(b);
                (r, -$native::from(overflowed))
            }
            #[inline(always)]
            fn div(a: $native, b: $native) -> ($native, bool) {
                a.overflowing_div(b)
            }
            #[inline(always)]
            fn rem(a: $native, b: $native) -> $native {
                a.wrapping_rem(b)
            }
            fn is_zero(a: $native) -> bool {
                a == 0
            }
            #[inline(always)]
            fn wide(a: $native) -> i64 {
                i64::from(a)
            }
            #[inline(always)]
            fn narrow(a: i64) -> $native {
                a as $native
            }
        }
    )*};
}

checked!(Int8Type i8, Int16Type i16, Int32Type i32, Int64Type i64);

fn integers<T: Checked>(op: Op, l: &Operand, r: &Operand, rows: usize) -> Result<ArrayRef> {
    let (la, ra) = (l.array.as_primitive::<T>(), r.array.as_primitive::<T>());
    let (lv, rv) = (la.values(), ra.values());
    let nulls =
        NullBuffer::union(if l.step == 0 { None } else { la.nulls() }, if r.step == 0 { None } else { ra.nulls() });
    let (values, overflowed) = match op {
        Op::Add => zip::<T>(lv, l.step, rv, r.step, rows, T::add),
        Op::Sub => zip::<T>(lv, l.step, rv, r.step, rows, T::sub),
        Op::Mul => zip::<T>(lv, l.step, rv, r.step, rows, T::mul),
        Op::Div | Op::Rem if r.step == 0 => match Divisor::new(T::wide(rv[0])) {
            Some(d) if op == Op::Div => (lv.iter().map(|&a| T::narrow(d.quotient(T::wide(a)))).collect(), false),
            Some(d) => (lv.iter().map(|&a| T::narrow(d.remainder(T::wide(a)))).collect(), false),
            None => return divide_rows::<T>(op, la, l.step, ra, r.step, rows),
        },
        Op::Div | Op::Rem => return divide_rows::<T>(op, la, l.step, ra, r.step, rows),
    };
    if overflowed {
        // A slot under a NULL may hold anything: find a row that has both values.
        let f = match op {
            Op::Add => T::add,
            Op::Sub => T::sub,
            _ => T::mul,
        };
        let bad = (0..rows).find(|&i| {
            nulls.as_ref().is_none_or(|n| n.is_valid(i)) && T::wide(f(lv[i * l.step], rv[i * r.step]).1) < 0
        });
        if let Some(i) = bad {
            return Err(overflow::<T>(op, lv[i * l.step], rv[i * r.step]));
        }
    }
    Ok(Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls)))
}

/// All rows, and whether any of them overflowed.
#[inline(always)]
fn zip<T: Checked>(
    l: &[T::Native],
    l_step: usize,
    r: &[T::Native],
    r_step: usize,
    rows: usize,
    f: impl Fn(T::Native, T::Native) -> (T::Native, T::Native),
) -> (Vec<T::Native>, bool) {
    // A loop over places that are there, with its flag in a register: it runs in lanes.
    let mut out = vec![T::Native::default(); rows];
    let mut any = T::Native::default();
    match (l_step, r_step) {
        (0, _) => {
            let a = l[0];
            for (out, &b) in out.iter_mut().zip(&r[..rows]) {
                let (v, overflowed) = f(a, b);
                *out = v;
                any = any | overflowed;
            }
        }
        (_, 0) => {
            let b = r[0];
            for (out, &a) in out.iter_mut().zip(&l[..rows]) {
                let (v, overflowed) = f(a, b);
                *out = v;
                any = any | overflowed;
            }
        }
        _ => {
            for (out, (&a, &b)) in out.iter_mut().zip(l[..rows].iter().zip(&r[..rows])) {
                let (v, overflowed) = f(a, b);
                *out = v;
                any = any | overflowed;
            }
        }
    }
    (out, T::wide(any) < 0)
}

fn divide_rows<T: Checked>(
    op: Op,
    l: &PrimitiveArray<T>,
    l_step: usize,
    r: &PrimitiveArray<T>,
    r_step: usize,
    rows: usize,
) -> Result<ArrayRef> {
    let mut out = PrimitiveBuilder::<T>::with_capacity(rows);
    for i in 0..rows {
        let (li, ri) = (i * l_step, i * r_step);
        if l.is_null(li) || r.is_null(ri) {
            out.append_null();
            continue;
        }
        let (a, b) = (l.value(li), r.value(ri));
        if T::is_zero(b) {
            return Err(Error::row("division by zero"));
        }
        if op == Op::Rem {
            out.append_value(T::rem(a, b));
        } else {
            let (v, overflowed) = T::div(a, b);
            if overflowed {
                return Err(overflow::<T>(op, a, b));
            }
            out.append_value(v);
        }
    }
    Ok(Arc::new(out.finish()))
}

fn overflow<T: Checked>(op: Op, a: T::Native, b: T::Native) -> Error {
    let ty = SqlType::from_arrow(&T::DATA_TYPE).map_or_else(String::new, |t| t.to_string());
    let (a, b) = (T::wide(a), T::wide(b));
    // A minus sign is a difference too.
    let text = if op == Op::Sub && a == 0 { format!("-({b})") } else { format!("{a} {} {b}", op.symbol()) };
    Error::row(format!("{text} is out of the range of {ty}")).note("CAST an operand to a wider type")
}

/// The unscaled values of a decimal column.
enum Decimals<'a> {
    Narrow(&'a PrimitiveArray<Decimal128Type>),
    Wide(&'a PrimitiveArray<Decimal256Type>),
}

impl<'a> Decimals<'a> {
    fn new(array: &'a ArrayRef) -> (Self, i8) {
        match array.data_type() {
            DataType::Decimal128(_, s) => (Decimals::Narrow(array.as_primitive()), *s),
            DataType::Decimal256(_, s) => (Decimals::Wide(array.as_primitive()), *s),
            // `columns` has looked; an operand next to a decimal was cast to one.
            other => unreachable!("{other} is not a decimal"),
        }
    }

    fn get(&self, i: usize) -> Option<i256> {
        match self {
            Decimals::Narrow(a) => a.is_valid(i).then(|| i256::from_i128(a.value(i))),
            Decimals::Wide(a) => a.is_valid(i).then(|| a.value(i)),
        }
    }
}

fn decimals(op: Op, l: &Operand, r: &Operand, ty: &SqlType, rows: usize) -> Result<ArrayRef> {
    let SqlType::Decimal { precision, scale } = *ty else {
        return Err(Error::internal(format!("decimal arithmetic of type {ty}")));
    };
    let ((lv, ls), (rv, rs)) = (Decimals::new(&l.array), Decimals::new(&r.array));
    let fail = |a: i256, b: i256| {
        let (mut x, mut y) = (String::new(), String::new());
        // Writing to a String cannot fail.
        let _ = (decimal::write(&mut x, a, ls), decimal::write(&mut y, b, rs));
        Error::row(format!("{x} {} {y} is out of the range of {ty}", op.symbol()))
    };
    if let (Decimals::Narrow(a), Decimals::Narrow(b), true) = (&lv, &rv, precision <= 38) {
        let mut out = PrimitiveBuilder::<Decimal128Type>::with_capacity(rows);
        for i in 0..rows {
            let (li, ri) = (i * l.step, i * r.step);
            if a.is_null(li) || b.is_null(ri) {
                out.append_null();
                continue;
            }
            let (a, b) = (a.value(li), b.value(ri));
            let v = match narrow(op, a, ls, b, rs, scale)? {
                Some(v) => Some(v),
                // It may fit though a step on the way does not.
                None => wide(op, i256::from_i128(a), ls, i256::from_i128(b), rs, scale)?.and_then(|v| v.to_i128()),
            };
            match v.filter(|v| decimal::fits_128(*v, precision)) {
                Some(v) => out.append_value(v),
                None => return Err(fail(i256::from_i128(a), i256::from_i128(b))),
            }
        }
        return Ok(Arc::new(out.finish().with_data_type(ty.to_arrow())));
    }
    let mut out: Vec<Option<i256>> = Vec::with_capacity(rows);
    for i in 0..rows {
        out.push(match (lv.get(i * l.step), rv.get(i * r.step)) {
            (Some(a), Some(b)) => {
                let v = wide(op, a, ls, b, rs, scale)?.filter(|v| decimal::fits(*v, precision));
                Some(v.ok_or_else(|| fail(a, b))?)
            }
            _ => None,
        });
    }
    Ok(if precision <= 38 {
        let narrow = out.into_iter().map(|v| v.and_then(|v| v.to_i128()));
        Arc::new(narrow.collect::<PrimitiveArray<Decimal128Type>>().with_data_type(ty.to_arrow()))
    } else {
        let wide: PrimitiveArray<Decimal256Type> = out.into_iter().collect();
        Arc::new(wide.with_data_type(ty.to_arrow()))
    })
}

/// One operation in 128 bits; `None` if that is not enough.
fn narrow(op: Op, a: i128, ls: i8, b: i128, rs: i8, scale: i8) -> Result<Option<i128>> {
    let common = ls.max(rs);
    let (at, v) = match op {
        Op::Add | Op::Sub | Op::Rem => {
            let (Some(a), Some(b)) = (decimal::rescale_128(a, ls, common), decimal::rescale_128(b, rs, common)) else {
                return Ok(None);
            };
            let v = match op {
                Op::Add => a.checked_add(b),
                Op::Sub => a.checked_sub(b),
                _ if b == 0 => return Err(Error::row("division by zero")),
                _ => Some(a.wrapping_rem(b)),
            };
            (common, v)
        }
        Op::Mul => (ls + rs, a.checked_mul(b)),
        Op::Div => {
            if b == 0 {
                return Err(Error::row("division by zero"));
            }
            // a / 10^ls / (b / 10^rs) * 10^scale
            let by = i32::from(scale) + i32::from(rs) - i32::from(ls);
            let q = match by {
                0..=38 => a.checked_mul(decimal::pow10_128(by as u32)).map(|a| decimal::div_round_128(a, b)),
                -38..=-1 => b.checked_mul(decimal::pow10_128(-by as u32)).map(|b| decimal::div_round_128(a, b)),
                _ => None,
            };
            (scale, q)
        }
    };
    Ok(v.and_then(|v| decimal::rescale_128(v, at, scale)))
}

/// One operation in 256 bits; `None` if the result does not fit them.
fn wide(op: Op, a: i256, ls: i8, b: i256, rs: i8, scale: i8) -> Result<Option<i256>> {
    let common = ls.max(rs);
    let (at, v) = match op {
        Op::Add | Op::Sub | Op::Rem => {
            let (Some(a), Some(b)) = (decimal::rescale(a, ls, common), decimal::rescale(b, rs, common)) else {
                return Ok(None);
            };
            let v = match op {
                Op::Add => a.checked_add(b),
                Op::Sub => a.checked_sub(b),
                _ if b == i256::ZERO => return Err(Error::row("division by zero")),
                _ => Some(a.wrapping_rem(b)),
            };
            (common, v)
        }
        Op::Mul => (ls + rs, a.checked_mul(b)),
        Op::Div if b == i256::ZERO => return Err(Error::row("division by zero")),
        Op::Div => (scale, divide(a, b, i32::from(scale) + i32::from(rs) - i32::from(ls))),
    };
    Ok(v.and_then(|v| decimal::rescale(v, at, scale)))
}

/// `a * 10^by / b`, rounded half up.
fn divide(a: i256, b: i256, by: i32) -> Option<i256> {
    if by < 0 {
        let b = (by >= -76).then(|| b.checked_mul(decimal::pow10(-by as u32))).flatten();
        // A divisor that has no place here is larger than any dividend.
        return Some(b.map_or(i256::ZERO, |b| decimal::div_round(a, b)));
    }
    if by <= 76
        && let Some(a) = a.checked_mul(decimal::pow10(by as u32))
    {
        return Some(decimal::div_round(a, b));
    }
    // Digit by digit, as on paper; one more digit rounds.
    let negative = a.is_negative() != b.is_negative();
    let (a, b) = (a.checked_abs()?, b.checked_abs()?);
    let ten = i256::from_i128(10);
    let (mut q, mut r) = (a.wrapping_div(b), a.wrapping_rem(b));
    for _ in 0..by {
        r = r.checked_mul(ten)?;
        q = q.checked_mul(ten)?.checked_add(r.wrapping_div(b))?;
        r = r.wrapping_rem(b);
    }
    if r >= b.wrapping_sub(r) {
        q = q.checked_add(i256::ONE)?;
    }
    Some(if negative { q.wrapping_neg() } else { q })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int8Array, Int64Array};

    use super::*;

    fn array(a: impl Array + 'static) -> ColumnarValue {
        ColumnarValue::Array(Arc::new(a))
    }

    fn run(op: Op, l: ColumnarValue, r: ColumnarValue, ty: SqlType, rows: usize) -> Result<ArrayRef> {
        apply(op, &l, &r, &ty, rows).map(|v| v.into_array(rows).unwrap())
    }

    #[test]
    fn a_null_hides_what_lies_under_it() {
        let l = Int64Array::new(vec![i64::MAX, 1].into(), Some(NullBuffer::from(vec![false, true])));
        let out = run(Op::Add, array(l), array(Int64Array::from(vec![1, 1])), SqlType::BigInt, 2).unwrap();
        assert_eq!(out.as_primitive::<Int64Type>(), &Int64Array::from(vec![None, Some(2)]));
    }

    #[test]
    fn overflow_and_division_by_zero_are_errors() {
        let max = || array(Int64Array::from(vec![i64::MAX]));
        let min = || array(Int64Array::from(vec![i64::MIN]));
        let lit = |v: i64| ColumnarValue::Scalar(ScalarValue::Int64(Some(v)));
        for (op, l, r) in [
            (Op::Add, max(), lit(1)),
            (Op::Sub, min(), lit(1)),
            (Op::Mul, max(), lit(2)),
            (Op::Div, min(), lit(-1)),
            (Op::Div, max(), lit(0)),
            (Op::Rem, max(), lit(0)),
            (Op::Sub, lit(0), min()),
        ] {
            let e = run(op, l, r, SqlType::BigInt, 1).unwrap_err();
            assert_eq!(e.code(), thalweg_core::ErrorCode::Row);
        }
        let out = run(Op::Rem, min(), lit(-1), SqlType::BigInt, 1).unwrap();
        assert_eq!(out.as_primitive::<Int64Type>().value(0), 0);
        let e = run(Op::Add, array(Int8Array::from(vec![100])), array(Int8Array::from(vec![28])), SqlType::TinyInt, 1);
        assert_eq!(e.unwrap_err().message(), "100 + 28 is out of the range of TINYINT");
    }

    #[test]
    fn floats_follow_ieee() {
        let l = array(Float64Array::from(vec![1.0, -1.0, 0.0]));
        let out = run(Op::Div, l, ColumnarValue::Scalar(ScalarValue::Float64(Some(0.0))), SqlType::Double, 3).unwrap();
        let out = out.as_primitive::<Float64Type>();
        assert_eq!((out.value(0), out.value(1)), (f64::INFINITY, f64::NEG_INFINITY));
        assert!(out.value(2).is_nan());
    }

    fn dec(text: &str, p: u8, s: i8) -> ColumnarValue {
        let v = decimal::parse(text, s).unwrap();
        ColumnarValue::Scalar(if p <= 38 {
            ScalarValue::Decimal128(v.to_i128(), p, s)
        } else {
            ScalarValue::Decimal256(Some(v), p, s)
        })
    }

    fn decimal_text(op: Op, l: ColumnarValue, r: ColumnarValue, p: u8, s: i8) -> Result<String> {
        let ty = SqlType::Decimal { precision: p, scale: s };
        let out = run(op, l, r, ty.clone(), 1)?;
        Ok(thalweg_functions::cast::to_text(&out, &ty)?.as_string::<i32>().value(0).to_owned())
    }

    #[test]
    fn decimals_are_exact_and_rounded_half_up() {
        let (a, b) = (|| dec("10.00", 10, 2), || dec("3.000", 10, 3));
        assert_eq!(decimal_text(Op::Div, a(), b(), 20, 6).unwrap(), "3.333333");
        assert_eq!(decimal_text(Op::Div, dec("20", 10, 0), b(), 20, 6).unwrap(), "6.666667");
        assert_eq!(decimal_text(Op::Mul, a(), b(), 20, 5).unwrap(), "30.00000");
        assert_eq!(decimal_text(Op::Add, a(), b(), 12, 3).unwrap(), "13.000");
        assert_eq!(decimal_text(Op::Sub, b(), a(), 12, 3).unwrap(), "-7.000");
        assert_eq!(decimal_text(Op::Rem, a(), b(), 12, 3).unwrap(), "1.000");
        assert!(decimal_text(Op::Div, a(), dec("0", 3, 0), 12, 3).is_err());
        assert!(decimal_text(Op::Mul, a(), a(), 4, 2).is_err());
        let big = "12345678901234567890123456789012345678901234567890";
        assert_eq!(decimal_text(Op::Add, dec(big, 60, 0), dec("1", 3, 0), 61, 0).unwrap(), format!("{}1", &big[..49]));
        assert_eq!(
            decimal_text(Op::Div, dec(big, 50, 0), dec("4", 50, 0), 76, 26).unwrap(),
            format!("3086419725308641972530864197253086419725308641972.5{}", "0".repeat(25))
        );
        // The dividend, scaled up, has no place in 256 bits.
        assert_eq!(
            decimal_text(Op::Div, dec(&"9".repeat(60), 60, 0), dec(&"3".repeat(60), 60, 0), 60, 30).unwrap(),
            format!("3.{}", "0".repeat(30))
        );
    }
}
