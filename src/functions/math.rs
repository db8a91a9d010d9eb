//! Functions of numbers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::*;
use datafusion_common::ScalarValue;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_core::{Error, Result, SqlType};

use crate::cast::cast;
use crate::decimal;
use crate::function::{Arg, Call, Function, Ret};

/// Generators of RAND(seed) that a thread keeps.
const SEEDS_MAX: usize = 1024;

macro_rules! doubles {
    ($($name:literal, $f:expr, $usage:literal, $help:literal;)*) => {
        &[$(Function::new($name, &[Arg::Double], Ret::Double, |c| double(c, $f), $usage, $help)),*]
    };
}

/// Functions of one DOUBLE.
pub const DOUBLES: &[Function] = doubles! {
    "sqrt", f64::sqrt, "SQRT(x)", "Square root; NaN of a negative number.";
    "cbrt", f64::cbrt, "CBRT(x)", "Cube root.";
    "exp", f64::exp, "EXP(x)", "e to the power of x.";
    "ln", f64::ln, "LN(x)", "Natural logarithm.";
    "log2", f64::log2, "LOG2(x)", "Logarithm to base 2.";
    "log10", f64::log10, "LOG10(x)", "Logarithm to base 10.";
    "sin", f64::sin, "SIN(x)", "Sine of radians.";
    "cos", f64::cos, "COS(x)", "Cosine of radians.";
    "tan", f64::tan, "TAN(x)", "Tangent of radians.";
    "cot", |x: f64| 1.0 / x.tan(), "COT(x)", "Cotangent of radians.";
    "asin", f64::asin, "ASIN(x)", "Arc sine, in radians.";
    "acos", f64::acos, "ACOS(x)", "Arc cosine, in radians.";
    "atan", f64::atan, "ATAN(x)", "Arc tangent, in radians.";
    "sinh", f64::sinh, "SINH(x)", "Hyperbolic sine.";
    "cosh", f64::cosh, "COSH(x)", "Hyperbolic cosine.";
    "tanh", f64::tanh, "TANH(x)", "Hyperbolic tangent.";
    "degrees", f64::to_degrees, "DEGREES(x)", "Radians in degrees.";
    "radians", f64::to_radians, "RADIANS(x)", "Degrees in radians.";
};

pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "power",
        &[Arg::Double, Arg::Double],
        Ret::Double,
        |c| doubles2(c, f64::powf),
        "POWER(x, y)",
        "x to the power of y.",
    )
    .aliases(&["pow"]),
    Function::new(
        "atan2",
        &[Arg::Double, Arg::Double],
        Ret::Double,
        |c| doubles2(c, f64::atan2),
        "ATAN2(y, x)",
        "Arc tangent of y/x in its quadrant, in radians.",
    ),
    Function::new(
        "log",
        &[Arg::Double, Arg::Double],
        Ret::Double,
        log,
        "LOG([base, ]x)",
        "Logarithm; natural without a base.",
    )
    .optional(1),
    Function::new("pi", &[], Ret::Double, |c| c.values::<Float64Type>(|_| Some(std::f64::consts::PI)), "PI()", "π."),
    Function::new(
        "e",
        &[],
        Ret::Double,
        |c| c.values::<Float64Type>(|_| Some(std::f64::consts::E)),
        "E()",
        "Euler's number.",
    ),
    Function::new("abs", &[Arg::Number], Ret::Arg(0), abs, "ABS(x)", "Without sign."),
    Function::new("sign", &[Arg::Number], Ret::Arg(0), sign, "SIGN(x)", "-1, 0 or 1.").aliases(&["signum"]),
    Function::new(
        "ceil",
        &[Arg::Number],
        Ret::By(whole_type),
        |c| to_whole(c, true),
        "CEIL(x)",
        "The smallest whole number that is not less.",
    )
    .aliases(&["ceiling"]),
    Function::new(
        "floor",
        &[Arg::Number],
        Ret::By(whole_type),
        |c| to_whole(c, false),
        "FLOOR(x)",
        "The largest whole number that is not greater.",
    ),
    Function::new(
        "round",
        &[Arg::Number, Arg::Int],
        Ret::By(round_type),
        |c| round(c, false),
        "ROUND(x[, digits])",
        "Rounded half up to digits behind the point (default 0).",
    )
    .optional(1),
    Function::new(
        "truncate",
        &[Arg::Number, Arg::Int],
        Ret::By(round_type),
        |c| round(c, true),
        "TRUNCATE(x[, digits])",
        "Cut to digits behind the point (default 0).",
    )
    .optional(1)
    .aliases(&["trunc"]),
    Function::new(
        "mod",
        &[Arg::Same, Arg::Same],
        Ret::Arg(0),
        modulo,
        "MOD(x, y)",
        "Remainder of x / y, with the sign of x.",
    ),
    Function::new("rand", &[Arg::Int], Ret::Double, rand, "RAND([seed])", "A random number, 0 ≤ x < 1.")
        .optional(1)
        .volatile()
        .aliases(&["random"]),
    Function::new(
        "rand_integer",
        &[Arg::Int, Arg::Int],
        Ret::Int,
        rand_integer,
        "RAND_INTEGER([seed, ]bound)",
        "A random integer, 0 ≤ x < bound.",
    )
    .optional(1)
    .volatile(),
    Function::new("uuid", &[], Ret::Str, uuid, "UUID()", "A random UUID (version 4).").volatile(),
    Function::new("bin", &[Arg::Int], Ret::Str, bin, "BIN(n)", "In binary digits."),
    Function::new("hex", &[Arg::IntOrStr], Ret::Str, hex, "HEX(n or string)", "In hexadecimal digits, upper case.")
        .aliases(&["to_hex"]),
    Function::new(
        "unhex",
        &[Arg::Str],
        Ret::Bytes,
        unhex,
        "UNHEX(string)",
        "Bytes of hexadecimal digits; NULL if it is not such.",
    ),
];

fn double(c: &Call, f: fn(f64) -> f64) -> Result<ArrayRef> {
    let x = c.double(0);
    c.values::<Float64Type>(|i| x.get(i).map(f))
}

fn doubles2(c: &Call, f: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (x, y) = (c.double(0), c.double(1));
    c.values::<Float64Type>(|i| Some(f(x.get(i)?, y.get(i)?)))
}

fn log(c: &Call) -> Result<ArrayRef> {
    if c.len() == 1 {
        return double(c, f64::ln);
    }
    doubles2(c, |base, x| x.ln() / base.ln())
}

fn sql_type(ty: &DataType) -> Result<SqlType> {
    SqlType::from_arrow(ty).ok_or_else(|| Error::internal(format!("{ty} has no SQL type")))
}

/// Decimals of any width as unscaled 256-bit integers.
fn decimals(array: &ArrayRef) -> Result<Vec<Option<i256>>> {
    Ok(match array.data_type() {
        DataType::Decimal128(..) => {
            array.as_primitive::<Decimal128Type>().iter().map(|v| v.map(i256::from_i128)).collect()
        }
        DataType::Decimal256(..) => array.as_primitive::<Decimal256Type>().iter().collect(),
        other => return Err(Error::internal(format!("{other} is not a decimal"))),
    })
}

/// # Errors
/// A value with more digits than the type.
fn to_decimals(values: Vec<Option<i256>>, ty: &DataType) -> Result<ArrayRef> {
    let (precision, scale) = decimal::parts(ty).ok_or_else(|| Error::internal(format!("{ty} is not a decimal")))?;
    if let Some(v) = values.iter().flatten().find(|v| !decimal::fits(**v, precision)) {
        let mut text = String::new();
        let _ = decimal::write(&mut text, *v, scale);
        return Err(Error::row(format!("{text} is out of the range of DECIMAL({precision}, {scale})")));
    }
    Ok(match ty {
        DataType::Decimal128(..) => {
            let narrow: PrimitiveArray<Decimal128Type> =
                values.into_iter().map(|v| v.and_then(|v| v.to_i128())).collect();
            Arc::new(narrow.with_data_type(ty.clone()))
        }
        _ => Arc::new(values.into_iter().collect::<PrimitiveArray<Decimal256Type>>().with_data_type(ty.clone())),
    })
}

/// Integers in 64 bits, through `f`, in their own type.
fn integers(c: &Call, f: impl Fn(i64) -> Option<i64>) -> Result<ArrayRef> {
    let array = c.expanded(0)?;
    let ty = sql_type(array.data_type())?;
    let wide = cast(&array, &ty, &SqlType::BigInt, false)?;
    let out: PrimitiveArray<Int64Type> = wide
        .as_primitive::<Int64Type>()
        .try_unary(|v| f(v).ok_or_else(|| Error::row(format!("the result for {v} is out of the range of {ty}"))))?;
    cast(&(Arc::new(out) as ArrayRef), &SqlType::BigInt, &ty, false)
}

fn floats(c: &Call, f: impl Fn(f64) -> f64) -> Result<ArrayRef> {
    let array = c.expanded(0)?;
    Ok(match array.data_type() {
        DataType::Float32 => {
            Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| f(f64::from(v)) as f32))
        }
        _ => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(f)),
    })
}

/// Decimals at another scale, through `f` (which gets the scale of the argument).
fn rescaled(c: &Call, f: impl Fn(i256, i8) -> Option<i256>) -> Result<ArrayRef> {
    let array = c.expanded(0)?;
    let (_, scale) = decimal::parts(array.data_type()).unwrap_or((0, 0));
    let values = decimals(&array)?
        .into_iter()
        .map(|v| v.map(|v| f(v, scale).ok_or_else(|| Error::row("a decimal has too many digits"))).transpose())
        .collect::<Result<Vec<_>>>()?;
    to_decimals(values, &c.ret)
}

fn abs(c: &Call) -> Result<ArrayRef> {
    match c.array(0).data_type() {
        t if t.is_integer() => integers(c, i64::checked_abs),
        t if t.is_floating() => floats(c, f64::abs),
        _ => rescaled(c, |v, _| Some(v.wrapping_abs())),
    }
}

fn sign(c: &Call) -> Result<ArrayRef> {
    match c.array(0).data_type() {
        t if t.is_integer() => integers(c, |v| Some(v.signum())),
        // The signs of NaN and of zeros stay.
        t if t.is_floating() => floats(c, |v| if v == 0.0 || v.is_nan() { v } else { v.signum() }),
        _ => rescaled(c, |v, scale| {
            let one = decimal::pow10(scale.max(0) as u32);
            Some(match v.cmp(&i256::ZERO) {
                std::cmp::Ordering::Less => one.wrapping_neg(),
                std::cmp::Ordering::Equal => i256::ZERO,
                std::cmp::Ordering::Greater => one,
            })
        }),
    }
}

fn decimal_type(precision: i32, scale: i8) -> DataType {
    SqlType::Decimal { precision: precision.clamp(1, i32::from(decimal::DIGITS_MAX)) as u8, scale }.to_arrow()
}

/// CEIL and FLOOR of DECIMAL(p, s) are DECIMAL(p - s + 1, 0): rounding can carry.
fn whole_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let ty = types.first().cloned().unwrap_or(DataType::Null);
    Ok(match decimal::parts(&ty) {
        Some((p, s)) if s > 0 => decimal_type(i32::from(p) - i32::from(s) + 1, 0),
        _ => ty,
    })
}

fn to_whole(c: &Call, up: bool) -> Result<ArrayRef> {
    match c.array(0).data_type() {
        t if t.is_integer() => c.expanded(0),
        t if t.is_floating() => floats(c, if up { f64::ceil } else { f64::floor }),
        _ => rescaled(c, |v, scale| {
            let one = decimal::pow10(scale.max(0) as u32);
            let (q, r) = (v.wrapping_div(one), v.wrapping_rem(one));
            Some(match r.cmp(&i256::ZERO) {
                std::cmp::Ordering::Greater if up => q.wrapping_add(i256::ONE),
                std::cmp::Ordering::Less if !up => q.wrapping_sub(i256::ONE),
                _ => q,
            })
        }),
    }
}

/// ROUND(x, n) of DECIMAL(p, s) with a constant n < s is DECIMAL(p - s + 1 + n, n); else of the type of x.
fn round_type(types: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
    let ty = types.first().cloned().unwrap_or(DataType::Null);
    let digits = match (types.len(), values.get(1)) {
        (1, _) => Some(0),
        (_, Some(Some(ScalarValue::Int64(Some(n))))) => Some(*n),
        _ => None,
    };
    Ok(match (decimal::parts(&ty), digits) {
        (Some((p, s)), Some(n)) if n < i64::from(s) => {
            let scale = n.max(0) as i8;
            decimal_type(i32::from(p) - i32::from(s) + 1 + i32::from(scale), scale)
        }
        _ => ty,
    })
}

fn round(c: &Call, cut: bool) -> Result<ArrayRef> {
    let array = c.expanded(0)?;
    let ty = sql_type(array.data_type())?;
    let digits: Vec<Option<i64>> = (0..c.rows).map(|i| c.int_or(1, i, 0)).collect();
    let divide = |v: i256, by: u32| {
        // All digits go: to 0, or to 1 at the place before the first one.
        if by > u32::from(decimal::DIGITS_MAX) {
            return i256::ZERO;
        }
        if cut { v.wrapping_div(decimal::pow10(by)) } else { decimal::div_round(v, decimal::pow10(by)) }
    };
    if let Some((_, scale)) = decimal::parts(array.data_type()) {
        let (_, to) = decimal::parts(&c.ret).unwrap_or((0, scale));
        let values = decimals(&array)?
            .into_iter()
            .zip(&digits)
            .map(|(v, n)| {
                let (Some(v), Some(n)) = (v, n) else { return Ok(None) };
                let n = (*n).clamp(-100, i64::from(scale));
                let by = (i64::from(scale) - n) as u32;
                let rounded = divide(v, by);
                // Now at scale n; then at that of the result.
                let up = i64::from(to) - n;
                let back = if up <= 0 || rounded == i256::ZERO {
                    Some(rounded)
                } else {
                    u32::try_from(up).ok().filter(|u| *u <= 76).and_then(|u| rounded.checked_mul(decimal::pow10(u)))
                };
                back.map(Some).ok_or_else(|| Error::row("ROUND gives a decimal with too many digits"))
            })
            .collect::<Result<Vec<_>>>()?;
        return to_decimals(values, &c.ret);
    }
    if ty.is_integer() {
        let wide = cast(&array, &ty, &SqlType::BigInt, false)?;
        let values = wide
            .as_primitive::<Int64Type>()
            .iter()
            .zip(&digits)
            .map(|(v, n)| {
                let (Some(v), Some(n)) = (v, n) else { return Ok(None) };
                if *n >= 0 {
                    return Ok(Some(v));
                }
                let by = n.unsigned_abs().min(100) as u32;
                let whole = divide(i256::from_i128(i128::from(v)), by).to_i128().unwrap_or(0);
                let back =
                    if whole == 0 { Some(0) } else { 10_i128.checked_pow(by).and_then(|p| whole.checked_mul(p)) };
                back.and_then(|v| i64::try_from(v).ok())
                    .map(Some)
                    .ok_or_else(|| Error::row(format!("ROUND({v}, {n}) is out of the range of {ty}")))
            })
            .collect::<Result<PrimitiveArray<Int64Type>>>()?;
        return cast(&(Arc::new(values) as ArrayRef), &SqlType::BigInt, &ty, false);
    }
    let wide = cast(&array, &ty, &SqlType::Double, false)?;
    let out: PrimitiveArray<Float64Type> = wide
        .as_primitive::<Float64Type>()
        .iter()
        .zip(&digits)
        .map(|(v, n)| Some(round_double(v?, (*n)?, cut)))
        .collect();
    cast(&(Arc::new(out) as ArrayRef), &SqlType::Double, &ty, false)
}

/// By the decimal text of the number, so that ROUND(1.005, 2) is 1.01.
fn round_double(v: f64, digits: i64, cut: bool) -> f64 {
    // Beyond these places a double has no digits, or only such.
    if !v.is_finite() || digits > 330 {
        return v;
    }
    if digits < -310 {
        return 0.0;
    }
    let text = format!("{:e}", v.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let mut kept: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
    // How many digits stay: those up to the place of 10^-digits.
    let keep = exponent + 1 + digits;
    if keep < 0 {
        return 0.0_f64.copysign(v);
    }
    let keep = keep as usize;
    if keep >= kept.len() {
        return v;
    }
    let up = !cut && kept[keep] >= 5;
    kept.truncate(keep);
    let mut value = String::from("0");
    value.extend(kept.iter().map(|d| char::from(b'0' + d)));
    if up {
        // Carry from the right; the leading 0 takes the last one.
        let mut digits: Vec<u8> = value.bytes().collect();
        for d in digits.iter_mut().rev() {
            if *d == b'9' {
                *d = b'0';
            } else {
                *d += 1;
                break;
            }
        }
        value = digits.into_iter().map(char::from).collect();
    }
    let _ = write!(value, "e{}", -digits);
    value.parse::<f64>().unwrap_or(v).copysign(v)
}

fn modulo(c: &Call) -> Result<ArrayRef> {
    let (x, y) = (c.expanded(0)?, c.expanded(1)?);
    Ok(arrow::compute::kernels::numeric::rem(&x, &y)?)
}

thread_local! {
    static GENERATOR: RefCell<SmallRng> = RefCell::new(SmallRng::from_os_rng());
    static SEEDED: RefCell<HashMap<i64, SmallRng>> = RefCell::default();
}

/// Calls `f` with the generator of a seed; each goes on where it stood.
fn seeded<T>(seed: i64, f: impl FnOnce(&mut SmallRng) -> T) -> T {
    SEEDED.with_borrow_mut(|all| {
        if all.len() >= SEEDS_MAX && !all.contains_key(&seed) {
            all.clear();
        }
        f(all.entry(seed).or_insert_with(|| SmallRng::seed_from_u64(seed as u64)))
    })
}

fn rand(c: &Call) -> Result<ArrayRef> {
    c.values::<Float64Type>(|i| {
        if c.len() == 0 {
            return Some(GENERATOR.with_borrow_mut(|r| r.random()));
        }
        Some(seeded(c.int(0).get(i)?, |r| r.random()))
    })
}

fn rand_integer(c: &Call) -> Result<ArrayRef> {
    c.try_values::<Int32Type>(|i| {
        let bound = c.int(c.len() - 1).get(i);
        let Some(bound) = bound else { return Ok(None) };
        let bound = i32::try_from(bound).ok().filter(|b| *b > 0).ok_or_else(|| {
            Error::row(format!("RAND_INTEGER with the bound {bound}")).note("the bound is an INT above 0")
        })?;
        if c.len() == 1 {
            return Ok(Some(GENERATOR.with_borrow_mut(|r| r.random_range(0..bound))));
        }
        Ok(c.int(0).get(i).map(|seed| seeded(seed, |r| r.random_range(0..bound))))
    })
}

fn uuid(c: &Call) -> Result<ArrayRef> {
    c.strings(|_, out| {
        let bytes = GENERATOR.with_borrow_mut(|r| r.random());
        let _ = write!(out, "{}", uuid::Builder::from_random_bytes(bytes).into_uuid());
        Some(())
    })
}

fn bin(c: &Call) -> Result<ArrayRef> {
    let n = c.int(0);
    c.strings(|i, out| {
        let _ = write!(out, "{:b}", n.get(i)?);
        Some(())
    })
}

fn hex(c: &Call) -> Result<ArrayRef> {
    let is_text = *c.array(0).data_type() == DataType::Utf8;
    c.strings(|i, out| {
        if is_text {
            for b in c.str(0).get(i)?.bytes() {
                let _ = write!(out, "{b:02X}");
            }
        } else {
            let _ = write!(out, "{:X}", c.int(0).get(i)?);
        }
        Some(())
    })
}

fn unhex(c: &Call) -> Result<ArrayRef> {
    let s = c.str(0);
    let decode = |s: &str| {
        let s = if s.len() % 2 == 1 { format!("0{s}") } else { s.to_owned() };
        (0..s.len()).step_by(2).map(|i| u8::from_str_radix(s.get(i..i + 2)?, 16).ok()).collect::<Option<Vec<u8>>>()
    };
    let out: arrow::array::BinaryArray = (0..c.rows).map(|i| s.get(i).and_then(decode)).collect();
    Ok(Arc::new(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{call, is};

    const NULL: Option<()> = None;

    fn dec(text: &str, precision: u8, scale: i8) -> ScalarValue {
        ScalarValue::Decimal128(decimal::parse(text, scale).unwrap().to_i128(), precision, scale)
    }

    #[test]
    fn doubles() {
        is! {
            sqrt(4) => "2.0";
            sqrt(-1) => "NaN";
            ln(1) => "0.0";
            log(8) => "2.0794415416798357";
            log(2, 8) => "3.0";
            log10(1000) => "3.0";
            power(2, 10) => "1024.0";
            power(NULL, 10) => "NULL";
            exp(0) => "1.0";
            pi() => "3.141592653589793";
            cot(NULL) => "NULL";
            degrees(NULL) => "NULL";
        }
    }

    #[test]
    fn numbers_keep_their_type() {
        is! {
            abs(-5) => "5";
            abs(-1.5) => "1.5";
            abs(dec("-1.50", 5, 2)) => "1.50";
            abs(NULL) => "NULL";
            sign(-3) => "-1";
            sign(dec("-1.50", 5, 2)) => "-1.00";
            sign(0.0) => "0.0";
            ceil(3) => "3";
            ceil(1.2) => "2.0";
            ceil(dec("1.20", 5, 2)) => "2";
            ceil(dec("-1.20", 5, 2)) => "-1";
            floor(dec("-1.20", 5, 2)) => "-2";
            floor(NULL) => "NULL";
            r#mod(7, 3) => "1";
            r#mod(-7, 3) => "-1";
        }
        assert!(call("abs", &[&i64::MIN]).is_err());
        assert!(call("mod", &[&1, &0]).is_err());
    }

    #[test]
    fn rounding_is_half_up() {
        is! {
            round(1.005, 2) => "1.01";
            round(2.5) => "3.0";
            round(-2.5) => "-3.0";
            round(9.99, 1) => "10.0";
            round(1234.5, -2) => "1200.0";
            round(0.4) => "0.0";
            round(155, -1) => "160";
            round(155, 3) => "155";
            round(dec("12.345", 5, 3), 2) => "12.35";
            round(dec("12.345", 5, 3)) => "12";
            round(dec("99.9", 3, 1)) => "100";
            round(dec("155.5", 4, 1), -1) => "160";
            round(NULL, 2) => "NULL";
            round(1.5, NULL) => "NULL";
            truncate(1.999, 2) => "1.99";
            truncate(-1.999) => "-1.0";
            truncate(dec("12.349", 5, 3), 2) => "12.34";
            truncate(159, -1) => "150";
        }
        assert!(call("round", &[&i64::MAX, &-1]).is_err());
    }

    #[test]
    fn digits() {
        is! {
            bin(5) => "101";
            bin(NULL) => "NULL";
            hex(255) => "FF";
            hex("hello") => "68656C6C6F";
            unhex("68656C6C6F") => "hello";
            unhex("x") => "NULL";
            hex(NULL) => "NULL";
        }
    }

    fn column(name: &str, args: &[i64], rows: usize) -> ArrayRef {
        let udf = crate::registry::registry().get(name).unwrap();
        let fields: Vec<FieldRef> = args.iter().map(|_| Arc::new(Field::new("a", DataType::Int64, true))).collect();
        let types = vec![DataType::Int64; args.len()];
        udf.invoke_with_args(datafusion_expr::ScalarFunctionArgs {
            args: args.iter().map(|v| datafusion_expr::ColumnarValue::Scalar(ScalarValue::Int64(Some(*v)))).collect(),
            arg_fields: fields,
            number_rows: rows,
            return_field: Arc::new(Field::new("r", udf.return_type(&types).unwrap(), true)),
            config_options: Arc::default(),
        })
        .unwrap()
        .into_array(rows)
        .unwrap()
    }

    #[test]
    fn dice_are_thrown_for_every_row() {
        let rand = column("rand", &[], 3);
        let rand = rand.as_primitive::<Float64Type>();
        assert!(rand.values().iter().all(|v| (0.0..1.0).contains(v)) && rand.value(0) != rand.value(1));
        let seeded = column("rand", &[7], 2);
        assert_ne!(seeded.as_primitive::<Float64Type>().value(0), seeded.as_primitive::<Float64Type>().value(1));
        let ints = column("rand_integer", &[10], 100);
        assert!(ints.as_primitive::<Int32Type>().values().iter().all(|v| (0..10).contains(v)));
        let ids = column("uuid", &[], 2);
        let ids = ids.as_string::<i32>();
        assert_ne!(ids.value(0), ids.value(1));
        assert_eq!((ids.value(0).len(), &ids.value(0)[14..15]), (36, "4"));
    }
}
