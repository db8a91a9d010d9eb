//! Exact key columns: those that tell rows apart and are compared with nothing. In them -0.0 is not 0.0, and a type
//! without an order (MAP) is allowed. They are written as columns of another type:
//!
//! | | written as | decoded |
//! | --- | --- | --- |
//! | FLOAT, DOUBLE, at any depth | INT, BIGINT that order alike, -0.0 right before 0.0, one NaN behind all | with one NaN |
//! | a type without an order | the bytes of its `core::value` | as it was, with one NaN |
//! | others | as they are | |

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, new_null_array};
use arrow::datatypes::DataType;

use super::KeyOrder;
use crate::cells::{floats_to_integers, has_floats, integers_for_floats, integers_to_floats, with_one_nan};
use crate::error::Result;
use crate::state::KeyBatch;
use crate::types::{Column, ElementType, SqlType};
use crate::value::ValueCodec;

/// How a key column is written.
#[derive(Debug, Clone)]
pub(super) enum Form {
    Plain,
    /// Integers for floats.
    Integers,
    /// Value bytes.
    Opaque(ValueCodec),
}

impl Form {
    pub fn of(order: &KeyOrder) -> Self {
        match order.exact {
            true if !order.ty.is_orderable() => Form::Opaque(ValueCodec::new(vec![order.ty.clone()])),
            true if has_floats(&order.ty.to_arrow()) => Form::Integers,
            _ => Form::Plain,
        }
    }

    /// The column as it is written.
    pub fn written(&self, order: &KeyOrder) -> KeyOrder {
        let ty = match self {
            Form::Plain => order.ty.clone(),
            Form::Integers => integer_type(&order.ty),
            Form::Opaque(_) => SqlType::BYTES,
        };
        KeyOrder { ty, ..order.clone() }
    }

    pub fn encode(&self, array: &ArrayRef) -> Result<ArrayRef> {
        match self {
            Form::Plain => Ok(array.clone()),
            Form::Integers => floats_to_integers(array),
            Form::Opaque(codec) => {
                let mut values = KeyBatch::new();
                codec.encode(&[with_one_nan(array)?], array.len(), &mut values)?;
                let cell = |(row, bytes)| array.is_valid(row).then_some(bytes);
                Ok(Arc::new(values.iter().enumerate().map(cell).collect::<BinaryArray>()))
            }
        }
    }

    /// The type to decode into, for a column of type `ty`.
    pub fn written_type(&self, ty: &DataType) -> DataType {
        match self {
            Form::Plain => ty.clone(),
            Form::Integers => integers_for_floats(ty),
            Form::Opaque(_) => DataType::Binary,
        }
    }

    /// `array`, of `written_type(ty)`, as a column of type `ty`.
    pub fn decode(&self, array: ArrayRef, ty: &DataType) -> Result<ArrayRef> {
        match self {
            Form::Plain => Ok(array),
            Form::Integers => integers_to_floats(&array, ty),
            Form::Opaque(codec) => {
                let values = array.as_binary::<i32>();
                let mut null = KeyBatch::new();
                codec.encode(&[new_null_array(ty, 1)], 1, &mut null)?;
                let bytes = |row| if values.is_null(row) { null.get(0) } else { values.value(row) };
                let values = (0..values.len()).map(bytes).collect();
                Ok(codec.decode_as(std::slice::from_ref(ty), values)?.pop().expect("one type, one column"))
            }
        }
    }
}

/// The type with INT and BIGINT for FLOAT and DOUBLE, at any depth.
fn integer_type(ty: &SqlType) -> SqlType {
    match ty {
        SqlType::Float => SqlType::Int,
        SqlType::Double => SqlType::BigInt,
        SqlType::Array(e) => SqlType::Array(Box::new(ElementType { ty: integer_type(&e.ty), nullable: e.nullable })),
        SqlType::Row(columns) => {
            SqlType::Row(columns.iter().map(|c| Column::new(&c.name, integer_type(&c.ty), c.nullable)).collect())
        }
        other => other.clone(),
    }
}
