//! A column being written: its type is looked at once a batch, not once a cell.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, i256,
};
use thalweg_core::{Error, Result, SqlType};

use crate::time::nanos_per_unit;

/// The cells of a column, typed.
pub struct View<'a> {
    nulls: Option<&'a NullBuffer>,
    pub cells: CellsOf<'a>,
}

pub enum CellsOf<'a> {
    Boolean(&'a BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Decimal128 { values: &'a [i128], scale: u8 },
    Decimal256 { values: &'a [i256], scale: u8 },
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a [i32]),
    Time { values: &'a [i64], nanos_per_unit: i64 },
    Timestamp { values: &'a [i64], nanos_per_unit: i64, zoned: bool },
    Array { offsets: &'a [i32], items: Box<View<'a>> },
    Map { offsets: &'a [i32], keys: Box<View<'a>>, values: Box<View<'a>> },
    Row { names: Vec<&'a str>, columns: Vec<View<'a>> },
}

impl<'a> View<'a> {
    /// # Errors
    /// The array does not lie as the type does.
    pub fn new(array: &'a ArrayRef, ty: &'a SqlType) -> Result<Self> {
        macro_rules! values {
            ($t:ty) => {
                array.as_primitive_opt::<$t>().map(|a| a.values().as_ref())
            };
        }
        let cells = match ty {
            SqlType::Boolean => array.as_boolean_opt().map(CellsOf::Boolean),
            SqlType::TinyInt => values!(Int8Type).map(CellsOf::I8),
            SqlType::SmallInt => values!(Int16Type).map(CellsOf::I16),
            SqlType::Int => values!(Int32Type).map(CellsOf::I32),
            SqlType::BigInt => values!(Int64Type).map(CellsOf::I64),
            SqlType::Float => values!(Float32Type).map(CellsOf::F32),
            SqlType::Double => values!(Float64Type).map(CellsOf::F64),
            SqlType::Decimal { precision, scale } => {
                let scale = u8::try_from(*scale).unwrap_or(0);
                match precision {
                    ..=38 => values!(Decimal128Type).map(|values| CellsOf::Decimal128 { values, scale }),
                    _ => values!(Decimal256Type).map(|values| CellsOf::Decimal256 { values, scale }),
                }
            }
            SqlType::Char(_) | SqlType::VarChar(_) => array.as_string_opt().map(CellsOf::Text),
            SqlType::Binary(_) | SqlType::VarBinary(_) => array.as_binary_opt().map(CellsOf::Bytes),
            SqlType::Date => values!(Date32Type).map(CellsOf::Date),
            SqlType::Time(0..=6) => {
                values!(Time64MicrosecondType).map(|values| CellsOf::Time { values, nanos_per_unit: 1000 })
            }
            SqlType::Time(_) => values!(Time64NanosecondType).map(|values| CellsOf::Time { values, nanos_per_unit: 1 }),
            SqlType::Timestamp(p) | SqlType::TimestampLtz(p) => {
                let zoned = matches!(ty, SqlType::TimestampLtz(_));
                let values = match p {
                    0..=3 => values!(TimestampMillisecondType),
                    4..=6 => values!(TimestampMicrosecondType),
                    _ => values!(TimestampNanosecondType),
                };
                values.map(|values| CellsOf::Timestamp { values, nanos_per_unit: nanos_per_unit(*p), zoned })
            }
            SqlType::Array(e) => match array.as_list_opt::<i32>() {
                None => None,
                Some(list) => {
                    let items = Box::new(View::new(list.values(), &e.ty)?);
                    Some(CellsOf::Array { offsets: list.offsets(), items })
                }
            },
            SqlType::Map(key, e) => match array.as_map_opt() {
                None => None,
                Some(map) => Some(CellsOf::Map {
                    offsets: map.offsets(),
                    keys: Box::new(View::new(map.keys(), key)?),
                    values: Box::new(View::new(map.values(), &e.ty)?),
                }),
            },
            SqlType::Row(fields) => match array.as_struct_opt() {
                Some(row) if row.num_columns() == fields.len() => {
                    let columns = row.columns().iter().zip(fields).map(|(c, f)| View::new(c, &f.ty));
                    let names = fields.iter().map(|f| f.name.as_str()).collect();
                    Some(CellsOf::Row { names, columns: columns.collect::<Result<_>>()? })
                }
                _ => None,
            },
            SqlType::Null | SqlType::Interval => None,
        };
        let cells = cells.ok_or_else(|| Error::internal(format!("a column of {ty} lies as {}", array.data_type())))?;
        Ok(View { nulls: array.nulls(), cells })
    }

    #[inline(always)]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|n| n.is_null(row))
    }
}
