//! Answers as typed values, so that two engines can be compared whose types for the same thing differ in width.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Float64Type, Int32Type, Int64Type, TimeUnit, i256};

/// A value of any width of its kind. The order has no meaning; it makes multisets comparable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Digits and how many of them are behind the point, without zeros at the end.
    Decimal(i256, u8),
    /// The bits; of NaN one form.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    /// Days since 1970.
    Date(i32),
    /// Nanoseconds since 1970.
    Timestamp(i128),
}

pub type Row = Vec<Value>;

/// The kinds of a batch's columns: what must be the same in both answers besides the values.
pub fn kinds(batch: &RecordBatch) -> Vec<&'static str> {
    batch.columns().iter().map(|c| kind(c.data_type())).collect()
}

fn kind(ty: &DataType) -> &'static str {
    use DataType::*;
    match ty {
        Null => "NULL",
        Boolean => "BOOLEAN",
        t if t.is_integer() => "integer",
        Decimal128(..) | Decimal256(..) => "DECIMAL",
        t if t.is_floating() => "float",
        Utf8 | LargeUtf8 | Utf8View => "text",
        Binary | LargeBinary | BinaryView => "bytes",
        Date32 => "DATE",
        Timestamp(..) => "TIMESTAMP",
        other => panic!("the grammar has no values of type {other}"),
    }
}

pub fn rows(batch: &RecordBatch) -> Vec<Row> {
    let columns: Vec<Vec<Value>> = batch.columns().iter().map(|c| column(c.as_ref())).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| c[row].clone()).collect()).collect()
}

fn column(array: &dyn Array) -> Vec<Value> {
    let as_type = |ty: &DataType| cast(array, ty).expect("a cast to a wider type of the same kind");
    let values = |f: &dyn Fn(usize) -> Value| -> Vec<Value> {
        (0..array.len()).map(|i| if array.is_null(i) { Value::Null } else { f(i) }).collect()
    };
    match kind(array.data_type()) {
        "NULL" => vec![Value::Null; array.len()],
        "BOOLEAN" => values(&|i| Value::Boolean(array.as_boolean().value(i))),
        "integer" => {
            let wide = as_type(&DataType::Int64);
            values(&|i| Value::Integer(wide.as_primitive::<Int64Type>().value(i)))
        }
        "DECIMAL" => match array.data_type() {
            DataType::Decimal128(_, scale) => values(&|i| {
                let v = array.as_primitive::<Decimal128Type>().value(i);
                decimal(i256::from_i128(v), *scale)
            }),
            DataType::Decimal256(_, scale) => {
                values(&|i| decimal(array.as_primitive::<Decimal256Type>().value(i), *scale))
            }
            other => unreachable!("{other} is no DECIMAL"),
        },
        "float" => {
            let wide = as_type(&DataType::Float64);
            values(&|i| float(wide.as_primitive::<Float64Type>().value(i)))
        }
        "text" => {
            let plain = as_type(&DataType::Utf8);
            values(&|i| Value::Text(plain.as_string::<i32>().value(i).to_owned()))
        }
        "bytes" => {
            let plain = as_type(&DataType::Binary);
            values(&|i| Value::Bytes(plain.as_binary::<i32>().value(i).to_vec()))
        }
        "DATE" => {
            let days = as_type(&DataType::Int32);
            values(&|i| Value::Date(days.as_primitive::<Int32Type>().value(i)))
        }
        "TIMESTAMP" => {
            let DataType::Timestamp(unit, _) = array.data_type() else { unreachable!("it is a TIMESTAMP") };
            let nanos = match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1_000,
                TimeUnit::Nanosecond => 1,
            };
            let ticks = as_type(&DataType::Int64);
            values(&|i| Value::Timestamp(i128::from(ticks.as_primitive::<Int64Type>().value(i)) * nanos))
        }
        other => unreachable!("{other} is no kind"),
    }
}

pub fn float(v: f64) -> Value {
    Value::Float(if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() })
}

pub fn decimal(mut digits: i256, scale: i8) -> Value {
    let ten = i256::from_i128(10);
    let mut scale = u8::try_from(scale).expect("no negative scales here");
    while scale > 0 && digits % ten == i256::ZERO {
        digits /= ten;
        scale -= 1;
    }
    Value::Decimal(digits, scale)
}
