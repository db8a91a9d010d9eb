//! How a function of ours is declared: arguments, result and a body over columns, as data in a table per topic. One type
//! makes a DataFusion function of it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, BooleanBuilder, PrimitiveArray,
    PrimitiveBuilder, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, TimeUnit};
use datafusion_common::{DataFusionError, Result as DfResult, ScalarValue, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use thalweg_core::{Error, ErrorCode, Result, SqlType};

use crate::types::{Purpose, common_type};

/// What an argument must be, and what it comes as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arg {
    /// A text, as `Utf8`.
    Str,
    /// A text or any value that has one, as `Utf8`.
    Text,
    /// Bytes, as `Binary`.
    Bytes,
    StrOrBytes,
    Bool,
    /// Any integer, as `Int64`.
    Int,
    /// Any number, as `Float64`.
    Double,
    /// Any number, as it is.
    Number,
    /// An integer or a text, as `Int64` or `Utf8`.
    IntOrStr,
    /// DATE, TIME, TIMESTAMP or TIMESTAMP_LTZ, as it is.
    Time,
    /// As `Time`, or a text.
    TimeOrStr,
    /// Anything, as it is.
    Any,
    /// Of the type that all arguments with this word have in common.
    Same,
    Array,
}

/// The type of the result.
#[derive(Clone, Copy)]
pub enum Ret {
    Str,
    Bytes,
    Bool,
    Int,
    BigInt,
    Double,
    Date,
    /// TIME(0).
    Time,
    /// TIMESTAMP(3).
    Timestamp,
    /// TIMESTAMP_LTZ(3).
    TimestampLtz,
    /// That of the argument at this place.
    Arg(usize),
    /// From the types and, where they are constant, the values of the arguments.
    By(fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType>),
}

/// One function. Its name is in lower case.
#[derive(Clone, Copy)]
pub struct Function {
    pub name: &'static str,
    /// Other names of the same function.
    pub aliases: &'static [&'static str],
    pub args: &'static [Arg],
    /// How many of `args`, from the last, may be left out.
    pub optional: usize,
    /// Any number of further arguments.
    pub rest: Option<Arg>,
    pub ret: Ret,
    /// Its value changes from call to call or with the tick's clock.
    pub volatile: bool,
    pub body: fn(&Call) -> Result<ArrayRef>,
    /// `UPPER(string)`
    pub usage: &'static str,
    /// One line.
    pub help: &'static str,
}

impl Function {
    pub const fn new(
        name: &'static str,
        args: &'static [Arg],
        ret: Ret,
        body: fn(&Call) -> Result<ArrayRef>,
        usage: &'static str,
        help: &'static str,
    ) -> Self {
        Function { name, aliases: &[], args, optional: 0, rest: None, ret, volatile: false, body, usage, help }
    }

    pub const fn optional(mut self, n: usize) -> Self {
        self.optional = n;
        self
    }

    pub const fn rest(mut self, arg: Arg) -> Self {
        self.rest = Some(arg);
        self
    }

    pub const fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// What the arguments are cast to.
    ///
    /// # Errors
    /// `ErrorCode::Type` for a wrong number of arguments or one of a wrong type.
    pub fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let n = types.len();
        if n < self.args.len() - self.optional || (n > self.args.len() && self.rest.is_none()) {
            return Err(Error::type_(format!("{} does not take {n} arguments", self.usage)));
        }
        let kinds: Vec<Arg> = (0..n).map(|i| self.args.get(i).copied().or(self.rest).unwrap_or(Arg::Any)).collect();
        let mut same = SqlType::Null;
        for (i, ty) in types.iter().enumerate().filter(|(i, _)| kinds[*i] == Arg::Same) {
            let sql = SqlType::from_arrow(ty).ok_or_else(|| self.bad(i, ty))?;
            same = common_type(&same, &sql, Purpose::Compare).ok_or_else(|| self.bad(i, ty))?;
        }
        types
            .iter()
            .zip(&kinds)
            .enumerate()
            .map(|(i, (ty, kind))| match kind {
                Arg::Same => Ok(same.to_arrow()),
                kind => kind.coerce(ty).ok_or_else(|| self.bad(i, ty)),
            })
            .collect()
    }

    fn bad(&self, i: usize, ty: &DataType) -> Error {
        let ty = SqlType::from_arrow(ty).map_or_else(|| ty.to_string(), |t| t.to_string());
        Error::type_(format!("argument {} of {} is of type {ty}", i + 1, self.usage))
    }

    pub fn into_udf(self) -> ScalarUDF {
        let volatility = if self.volatile { Volatility::Volatile } else { Volatility::Immutable };
        ScalarUDF::new_from_impl(Udf { function: self, signature: Signature::user_defined(volatility) })
    }
}

impl Arg {
    fn coerce(self, ty: &DataType) -> Option<DataType> {
        let is_str = matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
        let is_bytes = matches!(
            ty,
            DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
                | DataType::Null
        );
        let is_decimal = matches!(
            ty,
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..)
        );
        let is_int = ty.is_integer() || *ty == DataType::Null;
        let is_time = matches!(ty, DataType::Date32 | DataType::Time64(_) | DataType::Timestamp(..));
        let null_as = |t: DataType| if *ty == DataType::Null { t } else { ty.clone() };
        match self {
            Arg::Str => is_str.then_some(DataType::Utf8),
            Arg::Text => {
                (!matches!(ty, DataType::List(_) | DataType::Map(..) | DataType::Struct(_))).then_some(DataType::Utf8)
            }
            Arg::Bytes => is_bytes.then_some(DataType::Binary),
            Arg::StrOrBytes if is_str => Some(DataType::Utf8),
            Arg::StrOrBytes => is_bytes.then_some(DataType::Binary),
            Arg::Bool => matches!(ty, DataType::Boolean | DataType::Null).then_some(DataType::Boolean),
            Arg::Int => is_int.then_some(DataType::Int64),
            Arg::IntOrStr if is_int => Some(DataType::Int64),
            Arg::IntOrStr => is_str.then_some(DataType::Utf8),
            Arg::Double => (is_int || is_decimal || ty.is_floating()).then_some(DataType::Float64),
            Arg::Number => match ty {
                DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Some(DataType::Int64),
                DataType::UInt64 => Some(DataType::Decimal128(20, 0)),
                _ => (is_int || is_decimal || ty.is_floating()).then(|| null_as(DataType::Float64)),
            },
            Arg::Time => {
                (is_time || *ty == DataType::Null).then(|| null_as(DataType::Timestamp(TimeUnit::Millisecond, None)))
            }
            Arg::TimeOrStr if is_str => Some(DataType::Utf8),
            Arg::TimeOrStr => is_time.then(|| ty.clone()),
            Arg::Any | Arg::Same => Some(ty.clone()),
            Arg::Array => matches!(ty, DataType::List(_)).then(|| ty.clone()),
        }
    }
}

impl Ret {
    fn of(self, types: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
        Ok(match self {
            Ret::Str => DataType::Utf8,
            Ret::Bytes => DataType::Binary,
            Ret::Bool => DataType::Boolean,
            Ret::Int => DataType::Int32,
            Ret::BigInt => DataType::Int64,
            Ret::Double => DataType::Float64,
            Ret::Date => DataType::Date32,
            Ret::Time => SqlType::Time(0).to_arrow(),
            Ret::Timestamp => SqlType::Timestamp(3).to_arrow(),
            Ret::TimestampLtz => SqlType::TimestampLtz(3).to_arrow(),
            Ret::Arg(i) => types.get(i).cloned().unwrap_or(DataType::Null),
            Ret::By(f) => f(types, values)?,
        })
    }
}

/// One call over a batch.
pub struct Call {
    args: Vec<Operand>,
    /// Rows of the result.
    pub rows: usize,
    /// Type of the result.
    pub ret: DataType,
}

struct Operand {
    array: ArrayRef,
    /// 0: one value for all rows.
    step: usize,
}

/// An argument's values, by row.
#[derive(Clone, Copy)]
pub struct Column<'a, A> {
    array: &'a A,
    step: usize,
}

macro_rules! getters {
    ($($array:ty => $value:ty),*) => {$(
        impl<'a> Column<'a, $array> {
            pub fn get(&self, row: usize) -> Option<$value> {
                let i = row * self.step;
                self.array.is_valid(i).then(|| self.array.value(i))
            }
        }
    )*};
}

getters!(StringArray => &'a str, BinaryArray => &'a [u8], BooleanArray => bool);

impl<T: ArrowPrimitiveType> Column<'_, PrimitiveArray<T>> {
    pub fn get(&self, row: usize) -> Option<T::Native> {
        let i = row * self.step;
        self.array.is_valid(i).then(|| self.array.value(i))
    }
}

impl Call {
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// The argument as a column of `rows` values or, if it is constant, of one.
    pub fn array(&self, i: usize) -> &ArrayRef {
        &self.args[i].array
    }

    /// Index of a row in `array(i)`.
    pub fn index(&self, i: usize, row: usize) -> usize {
        row * self.args[i].step
    }

    pub fn is_null(&self, i: usize, row: usize) -> bool {
        let array = self.array(i);
        *array.data_type() == DataType::Null || array.is_null(self.index(i, row))
    }

    pub fn str(&self, i: usize) -> Column<'_, StringArray> {
        Column { array: self.args[i].array.as_string(), step: self.args[i].step }
    }

    pub fn bytes(&self, i: usize) -> Column<'_, BinaryArray> {
        Column { array: self.args[i].array.as_binary(), step: self.args[i].step }
    }

    pub fn bool(&self, i: usize) -> Column<'_, BooleanArray> {
        Column { array: self.args[i].array.as_boolean(), step: self.args[i].step }
    }

    pub fn int(&self, i: usize) -> Column<'_, PrimitiveArray<Int64Type>> {
        self.primitive(i)
    }

    pub fn double(&self, i: usize) -> Column<'_, PrimitiveArray<Float64Type>> {
        self.primitive(i)
    }

    pub fn primitive<T: ArrowPrimitiveType>(&self, i: usize) -> Column<'_, PrimitiveArray<T>> {
        Column { array: self.args[i].array.as_primitive(), step: self.args[i].step }
    }

    /// The text of an optional argument, or a default.
    pub fn str_or(&self, i: usize, row: usize, default: &'static str) -> Option<&str> {
        if i < self.len() { self.str(i).get(row) } else { Some(default) }
    }

    /// The integer of an optional argument, or a default.
    pub fn int_or(&self, i: usize, row: usize, default: i64) -> Option<i64> {
        if i < self.len() { self.int(i).get(row) } else { Some(default) }
    }

    /// The argument with `rows` values.
    pub fn expanded(&self, i: usize) -> Result<ArrayRef> {
        let operand = &self.args[i];
        if operand.step == 1 || self.rows == 1 {
            return Ok(operand.array.clone());
        }
        let one = ScalarValue::try_from_array(&operand.array, 0).map_err(to_error)?;
        one.to_array_of_size(self.rows).map_err(to_error)
    }

    /// A text per row, written into the buffer; `None` is NULL.
    pub fn strings(&self, mut f: impl FnMut(usize, &mut String) -> Option<()>) -> Result<ArrayRef> {
        self.try_strings(|row, out| Ok(f(row, out)))
    }

    /// # Errors
    /// The first of `f`.
    pub fn try_strings(&self, mut f: impl FnMut(usize, &mut String) -> Result<Option<()>>) -> Result<ArrayRef> {
        let mut out = StringBuilder::with_capacity(self.rows, self.rows * 16);
        let mut buffer = String::new();
        for row in 0..self.rows {
            buffer.clear();
            match f(row, &mut buffer)? {
                Some(()) => out.append_value(&buffer),
                None => out.append_null(),
            }
        }
        Ok(Arc::new(out.finish()))
    }

    /// A value per row; `None` is NULL.
    pub fn values<T: ArrowPrimitiveType>(&self, mut f: impl FnMut(usize) -> Option<T::Native>) -> Result<ArrayRef> {
        self.try_values::<T>(|row| Ok(f(row)))
    }

    /// # Errors
    /// The first of `f`.
    pub fn try_values<T: ArrowPrimitiveType>(
        &self,
        mut f: impl FnMut(usize) -> Result<Option<T::Native>>,
    ) -> Result<ArrayRef> {
        let mut out = PrimitiveBuilder::<T>::with_capacity(self.rows);
        for row in 0..self.rows {
            out.append_option(f(row)?);
        }
        let out = out.finish();
        Ok(if *out.data_type() == self.ret { Arc::new(out) } else { Arc::new(out.with_data_type(self.ret.clone())) })
    }

    pub fn bools(&self, mut f: impl FnMut(usize) -> Option<bool>) -> Result<ArrayRef> {
        let mut out = BooleanBuilder::with_capacity(self.rows);
        for row in 0..self.rows {
            out.append_option(f(row));
        }
        Ok(Arc::new(out.finish()))
    }
}

struct Udf {
    function: Function,
    signature: Signature,
}

impl std::fmt::Debug for Udf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.function.name)
    }
}

impl PartialEq for Udf {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for Udf {}

impl Hash for Udf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Udf {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.function.ret.of(types, &vec![None; types.len()]).map_err(from_error)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let ty = self.function.ret.of(&types, args.scalar_arguments).map_err(from_error)?;
        // Nothing is known of NULLs but that a clock and a dice have none.
        let nullable = !(self.function.volatile && types.is_empty());
        Ok(Arc::new(Field::new(self.function.name, ty, nullable)))
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.function.coerce(types).map_err(from_error)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        // A volatile function without arguments answers per row.
        let constant = !self.function.volatile && args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let operands = args
            .args
            .into_iter()
            .map(|a| {
                Ok(match a {
                    ColumnarValue::Array(array) => Operand { array, step: 1 },
                    ColumnarValue::Scalar(s) => Operand { array: s.to_array()?, step: 0 },
                })
            })
            .collect::<DfResult<Vec<_>>>()?;
        let call = Call { args: operands, rows, ret: args.return_field.data_type().clone() };
        let out = (self.function.body)(&call).map_err(from_error)?;
        if out.data_type() != &call.ret {
            return plan_err!("{} gives {} instead of {}", self.function.name, out.data_type(), call.ret);
        }
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&out, 0)?)
        } else {
            ColumnarValue::Array(out)
        })
    }
}

/// Our error in DataFusion's hands; what is about types is a planning error there.
pub fn from_error(e: Error) -> DataFusionError {
    if e.code() == ErrorCode::Type {
        DataFusionError::Plan(e.to_string())
    } else {
        DataFusionError::External(Box::new(e))
    }
}

/// DataFusion's error in ours.
pub fn to_error(e: DataFusionError) -> Error {
    match e {
        DataFusionError::ArrowError(e, _) => (*e).into(),
        DataFusionError::Execution(m) => Error::row(m),
        DataFusionError::External(e) => match e.downcast::<Error>() {
            Ok(e) => *e,
            Err(e) => Error::row(e.to_string()),
        },
        DataFusionError::Context(_, e) | DataFusionError::Diagnostic(_, e) => to_error(*e),
        DataFusionError::Plan(m) => Error::type_(m),
        DataFusionError::NotImplemented(m) => Error::unsupported(m),
        e => Error::internal(e.to_string()),
    }
}
