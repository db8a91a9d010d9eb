//! Our own nodes among DataFusion's physical expressions.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, RecordBatch, StringArray, new_empty_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::boolean::{and, and_kleene, or, or_kleene};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch, interleave, is_null};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Schema};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result as DfResult, ScalarValue};
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Literal;
use thalweg_core::{Error, Result, SqlType};
use thalweg_functions::cast::cast;
use thalweg_functions::function::to_error;

use super::arithmetic::{self, Op};
use super::compare::{self, Comparison};
use super::from_error;

/// A node: what it does, its parts, and the Arrow type that it gives.
#[derive(Debug, Clone)]
pub struct Native {
    pub kind: Kind,
    pub children: Vec<Arc<dyn PhysicalExpr>>,
    pub ty: DataType,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    Arithmetic(Op, SqlType),
    Compare(Comparison),
    Cast {
        from: SqlType,
        to: SqlType,
        safe: bool,
    },
    /// Arrow's own cast, between layouts of one SQL type.
    Layout,
    And,
    Or,
    Coalesce,
    /// -0.0 as 0.0 and every NaN as one, so that the total order of Arrow's comparisons is SQL's.
    PlainFloat,
    /// A LIKE pattern with this escape character as one whose escape character is `\`.
    LikePattern(Option<char>),
    Call(Arc<ScalarUDF>, CallFields),
}

/// Fields of a call's arguments and of its result.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallFields {
    args: Vec<FieldRef>,
    result: FieldRef,
}

impl CallFields {
    /// # Errors
    /// Arguments that the function does not take.
    pub fn new(udf: &ScalarUDF, args: &[Arc<dyn PhysicalExpr>], schema: &Schema) -> Result<Self> {
        let fields = args
            .iter()
            .enumerate()
            .map(|(i, a)| Ok(Arc::new(Field::new(format!("a{i}"), a.data_type(schema).map_err(to_error)?, true))))
            .collect::<Result<Vec<FieldRef>>>()?;
        let scalars: Vec<Option<&ScalarValue>> =
            args.iter().map(|a| a.downcast_ref::<Literal>().map(Literal::value)).collect();
        let result = udf
            .return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &scalars })
            .map_err(to_error)?;
        Ok(CallFields { args: fields, result })
    }

    pub fn result(&self) -> &DataType {
        self.result.data_type()
    }
}

impl PartialEq for Native {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.ty == other.ty && self.children.as_slice() == other.children.as_slice()
    }
}

impl Eq for Native {}

impl Hash for Native {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        self.ty.hash(state);
        self.children.hash(state);
    }
}

impl fmt::Display for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Call(udf, _) => f.write_str(udf.name())?,
            kind => write!(f, "{kind:?}")?,
        }
        f.write_str("(")?;
        for (i, c) in self.children.iter().enumerate() {
            write!(f, "{}{c}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(")")
    }
}

impl PhysicalExpr for Native {
    fn return_field(&self, _: &Schema) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new("", self.ty.clone(), true)))
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        let arg = |i: usize| self.children[i].evaluate(batch);
        match &self.kind {
            Kind::Arithmetic(op, ty) => {
                arithmetic::apply(*op, &arg(0)?, &arg(1)?, ty, batch.num_rows()).map_err(from_error)
            }
            Kind::Compare(op) => compare::apply(*op, &arg(0)?, &arg(1)?, batch.num_rows()).map_err(from_error),
            Kind::Cast { from, to, safe } => map(arg(0)?, |a| cast(a, from, to, *safe).map_err(from_error)),
            Kind::Layout => map(arg(0)?, |a| {
                let options = CastOptions { safe: false, ..CastOptions::default() };
                Ok(cast_with_options(a, &self.ty, &options)?)
            }),
            Kind::And => self.logic(batch, false),
            Kind::Or => self.logic(batch, true),
            Kind::Coalesce => self.coalesce(batch),
            Kind::PlainFloat => map(arg(0)?, |a| Ok(plain_float(a))),
            Kind::LikePattern(escape) => map(arg(0)?, |a| like_pattern(a, *escape).map_err(from_error)),
            Kind::Call(udf, fields) => {
                let args = self.children.iter().map(|c| c.evaluate(batch)).collect::<DfResult<Vec<_>>>()?;
                let value = udf.invoke_with_args(ScalarFunctionArgs {
                    args,
                    arg_fields: fields.args.clone(),
                    number_rows: batch.num_rows(),
                    return_field: fields.result.clone(),
                    config_options: config(),
                })?;
                match value {
                    // Some functions answer constants with one row.
                    ColumnarValue::Array(a) if a.len() == 1 && batch.num_rows() != 1 => {
                        Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&a, 0)?))
                    }
                    value => Ok(value),
                }
            }
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.children.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> DfResult<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Native { kind: self.kind.clone(), children, ty: self.ty.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Native {
    /// AND (`decides` is false) or OR (`decides` is true): if the left side of a row is `decides`, so is the answer,
    /// and the right side is not looked at. The right side is first tried over the whole batch, which is faster and
    /// usually does not fail.
    fn logic(&self, batch: &RecordBatch, decides: bool) -> DfResult<ColumnarValue> {
        let left = self.children[0].evaluate(batch)?;
        let right = &self.children[1];
        let left = match left {
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(v))) if v == decides => {
                return Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(v))));
            }
            ColumnarValue::Scalar(ScalarValue::Boolean(Some(_))) => return right.evaluate(batch),
            left => left.into_array(batch.num_rows())?,
        };
        let left = left.as_boolean();
        // Rows that the left side leaves open: not `decides`, or unknown.
        let decided = |left: &BooleanArray| -> BooleanBuffer {
            let bits = if decides { left.values().clone() } else { !left.values() };
            match left.nulls() {
                Some(n) => &bits & n.inner(),
                None => bits,
            }
        };
        if left.null_count() == 0 && (if decides { !left.has_false() } else { !left.has_true() }) {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        let combine = |l: &BooleanArray, r: &BooleanArray| {
            let nulls = l.null_count() + r.null_count() > 0;
            match (decides, nulls) {
                (false, false) => and(l, r),
                (false, true) => and_kleene(l, r),
                (true, false) => or(l, r),
                (true, true) => or_kleene(l, r),
            }
        };
        match right.evaluate(batch) {
            Ok(r) => {
                let r = r.into_array(batch.num_rows())?;
                Ok(ColumnarValue::Array(Arc::new(combine(left, r.as_boolean())?)))
            }
            Err(e) => {
                let open = BooleanArray::new(!&decided(left), None);
                if !open.has_false() {
                    return Err(e);
                }
                if !open.has_true() {
                    return Ok(ColumnarValue::Array(Arc::new(left.clone())));
                }
                let some = filter_record_batch(batch, &open)?;
                let r = right.evaluate(&some)?.into_array(some.num_rows())?;
                let mut r = r.as_boolean().iter();
                let spread: BooleanArray =
                    open.values().iter().map(|open| if open { r.next().flatten() } else { Some(decides) }).collect();
                Ok(ColumnarValue::Array(Arc::new(combine(left, &spread)?)))
            }
        }
    }

    /// The first value that is not NULL; later arguments are evaluated for the rows only that need them.
    fn coalesce(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        let mut values = match self.children[0].evaluate(batch)? {
            ColumnarValue::Scalar(s) if !s.is_null() => return Ok(ColumnarValue::Scalar(s)),
            v => v.into_array(batch.num_rows())?,
        };
        for child in &self.children[1..] {
            if values.null_count() == 0 && *values.data_type() != DataType::Null {
                break;
            }
            let missing = is_null(&values)?;
            if !missing.has_true() {
                break;
            }
            let some = filter_record_batch(batch, &missing)?;
            let next = child.evaluate(&some)?.into_array(some.num_rows())?;
            let mut taken = 0;
            let rows: Vec<(usize, usize)> = (0..values.len())
                .map(|i| {
                    if missing.value(i) {
                        taken += 1;
                        (1, taken - 1)
                    } else {
                        (0, i)
                    }
                })
                .collect();
            values = interleave(&[&values, &next], &rows)?;
        }
        Ok(ColumnarValue::Array(values))
    }
}

/// DataFusion's defaults, which the functions of its that we admit do not look at.
fn config() -> Arc<ConfigOptions> {
    static CONFIG: OnceLock<Arc<ConfigOptions>> = OnceLock::new();
    CONFIG.get_or_init(Arc::default).clone()
}

/// Applies `f` to a column, or to the one value of a scalar.
fn map(value: ColumnarValue, f: impl Fn(&ArrayRef) -> DfResult<ArrayRef>) -> DfResult<ColumnarValue> {
    Ok(match value {
        ColumnarValue::Array(a) if a.is_empty() => {
            let out = f(&new_empty_array(a.data_type()))?;
            ColumnarValue::Array(out)
        }
        ColumnarValue::Array(a) => ColumnarValue::Array(f(&a)?),
        ColumnarValue::Scalar(s) => ColumnarValue::Scalar(ScalarValue::try_from_array(&f(&s.to_array()?)?, 0)?),
    })
}

fn plain_float(a: &ArrayRef) -> ArrayRef {
    // Adding 0.0 makes -0.0 positive and changes no other value.
    match a.data_type() {
        DataType::Float64 => {
            let plain = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 };
            Arc::new(a.as_primitive::<Float64Type>().unary::<_, Float64Type>(plain)) as Arc<Float64Array>
        }
        DataType::Float32 => {
            let plain = |v: f32| if v.is_nan() { f32::NAN } else { v + 0.0 };
            Arc::new(a.as_primitive::<Float32Type>().unary::<_, Float32Type>(plain)) as Arc<Float32Array>
        }
        _ => a.clone(),
    }
}

fn like_pattern(a: &ArrayRef, escape: Option<char>) -> Result<ArrayRef> {
    let mut out = Vec::with_capacity(a.len());
    for p in a.as_string::<i32>() {
        out.push(p.map(|p| rewrite_pattern(p, escape)).transpose()?);
    }
    Ok(Arc::new(StringArray::from(out)))
}

/// # Errors
/// An escape character before another than `%`, `_` and itself.
pub fn rewrite_pattern(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut out = String::with_capacity(pattern.len() + 2);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            match chars.next() {
                Some(next) if next == '%' || next == '_' || Some(next) == escape => {
                    // Escaping is harmless for every character but a letter of the pattern language.
                    if matches!(next, '%' | '_' | '\\') {
                        out.push('\\');
                    }
                    out.push(next);
                }
                _ => return Err(Error::row(format!("'{pattern}' is not a LIKE pattern with escape character '{c}'"))),
            }
        } else {
            if c == '\\' {
                out.push('\\');
            }
            out.push(c);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_patterns_are_rewritten_to_the_escape_character_of_arrow() {
        assert_eq!(rewrite_pattern("a%b", None).unwrap(), "a%b");
        assert_eq!(rewrite_pattern(r"a\%b", None).unwrap(), r"a\\%b");
        assert_eq!(rewrite_pattern("a!%b", Some('!')).unwrap(), r"a\%b");
        assert_eq!(rewrite_pattern("a!!b", Some('!')).unwrap(), "a!b");
        assert!(rewrite_pattern("a!b", Some('!')).is_err());
        assert!(rewrite_pattern("a!", Some('!')).is_err());
    }
}
