//! SQL values as they lie in Arrow, reduced to a dozen shapes: what the hash and the codecs read (`Cells`) and write
//! (`CellsBuilder`), so that each of them handles an INT, a DATE and a TIMESTAMP in one place.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, MapArray,
    NullArray, NullBufferBuilder, StringArray, StructArray, make_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Decimal128Type, Decimal256Type, FieldRef, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, i256,
};

use crate::error::{Error, Result};
use crate::types::SqlType;

/// One column, seen as values of a shape.
pub(crate) struct Cells<'a> {
    /// Only if there is a NULL.
    pub nulls: Option<&'a NullBuffer>,
    pub shape: Shape<'a>,
}

pub(crate) enum Shape<'a> {
    /// Every cell is NULL.
    Null,
    Boolean(&'a BooleanBuffer),
    I8(&'a [i8]),
    I16(&'a [i16]),
    /// INT and DATE.
    I32(&'a [i32]),
    /// BIGINT, TIME, TIMESTAMP, TIMESTAMP_LTZ.
    I64(&'a [i64]),
    I128(&'a [i128]),
    I256(&'a [i256]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    /// Strings and bytes: cell i is `data[offsets[i]..offsets[i + 1]]`.
    Bytes {
        offsets: &'a [i32],
        data: &'a [u8],
    },
    Interval(&'a [IntervalMonthDayNano]),
    List {
        offsets: &'a [i32],
        items: Box<Cells<'a>>,
    },
    Map {
        offsets: &'a [i32],
        keys: Box<Cells<'a>>,
        values: Box<Cells<'a>>,
    },
    Row(Vec<Cells<'a>>),
}

impl<'a> Cells<'a> {
    /// Any array that lies as `SqlType::to_arrow` says.
    pub fn of(array: &'a dyn Array) -> Result<Self> {
        let nulls = array.nulls().filter(|n| n.null_count() > 0);
        let shape = match array.data_type() {
            DataType::Null => Shape::Null,
            DataType::Boolean => Shape::Boolean(array.as_boolean().values()),
            DataType::Int8 => Shape::I8(array.as_primitive::<Int8Type>().values()),
            DataType::Int16 => Shape::I16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Shape::I32(array.as_primitive::<Int32Type>().values()),
            DataType::Date32 => Shape::I32(array.as_primitive::<Date32Type>().values()),
            DataType::Int64 => Shape::I64(array.as_primitive::<Int64Type>().values()),
            DataType::Time64(TimeUnit::Microsecond) => {
                Shape::I64(array.as_primitive::<Time64MicrosecondType>().values())
            }
            DataType::Time64(TimeUnit::Nanosecond) => Shape::I64(array.as_primitive::<Time64NanosecondType>().values()),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Shape::I64(array.as_primitive::<TimestampMillisecondType>().values())
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Shape::I64(array.as_primitive::<TimestampMicrosecondType>().values())
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                Shape::I64(array.as_primitive::<TimestampNanosecondType>().values())
            }
            DataType::Decimal128(..) => Shape::I128(array.as_primitive::<Decimal128Type>().values()),
            DataType::Decimal256(..) => Shape::I256(array.as_primitive::<Decimal256Type>().values()),
            DataType::Float32 => Shape::F32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Shape::F64(array.as_primitive::<Float64Type>().values()),
            DataType::Utf8 => {
                let a = array.as_string::<i32>();
                Shape::Bytes { offsets: a.offsets(), data: a.values() }
            }
            DataType::Binary => {
                let a = array.as_binary::<i32>();
                Shape::Bytes { offsets: a.offsets(), data: a.values() }
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Shape::Interval(array.as_primitive::<IntervalMonthDayNanoType>().values())
            }
            DataType::List(_) => {
                let a = array.as_list::<i32>();
                Shape::List { offsets: a.offsets(), items: Box::new(Cells::of(a.values().as_ref())?) }
            }
            DataType::Map(..) => {
                let a = array.as_map();
                Shape::Map {
                    offsets: a.offsets(),
                    keys: Box::new(Cells::of(a.keys().as_ref())?),
                    values: Box::new(Cells::of(a.values().as_ref())?),
                }
            }
            DataType::Struct(_) => {
                Shape::Row(array.as_struct().columns().iter().map(|c| Cells::of(c.as_ref())).collect::<Result<_>>()?)
            }
            other => return Err(Error::internal(format!("no SQL type lies in memory as {other}"))),
        };
        Ok(Cells { nulls, shape })
    }

    /// The columns of a codec, each checked to have `rows` rows and to lie as its type says.
    pub fn of_columns(columns: &'a [ArrayRef], types: &[&SqlType], rows: usize) -> Result<Vec<Self>> {
        let checked = columns.iter().zip(types).enumerate().map(|(i, (array, ty))| {
            if array.len() != rows {
                return Err(Error::internal(format!("column {i} has {} rows where {rows} are expected", array.len())));
            }
            if !lies_as(array.data_type(), ty) {
                let found = array.data_type();
                return Err(Error::internal(format!("column {i} is {ty} but lies in memory as {found}")));
            }
            Cells::of(array.as_ref())
        });
        checked.collect()
    }

    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.shape, Shape::Null) || self.nulls.is_some_and(|n| n.is_null(row))
    }
}

/// Cell `row` of a `Shape::Bytes`.
#[inline]
pub(crate) fn bytes_at<'a>(offsets: &[i32], data: &'a [u8], row: usize) -> &'a [u8] {
    &data[offsets[row] as usize..offsets[row + 1] as usize]
}

/// The items of cell `row` of a `Shape::List` or `Shape::Map`.
#[inline]
pub(crate) fn items_at(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

/// Whether an array of type `found` holds values of `ty` in the one layout that the codecs know. Names and
/// nullability inside of nested types, decimal precision and zone do not matter.
fn lies_as(found: &DataType, ty: &SqlType) -> bool {
    match (found, ty) {
        (DataType::Decimal128(_, s), SqlType::Decimal { precision, scale }) => *precision <= 38 && s == scale,
        (DataType::Decimal256(_, s), SqlType::Decimal { precision, scale }) => *precision > 38 && s == scale,
        (DataType::Timestamp(unit, _), SqlType::Timestamp(_) | SqlType::TimestampLtz(_)) => {
            matches!(ty.to_arrow(), DataType::Timestamp(expected, _) if expected == *unit)
        }
        (DataType::List(f), SqlType::Array(e)) => lies_as(f.data_type(), &e.ty),
        (DataType::Map(entries, _), SqlType::Map(key, value)) => match entries.data_type() {
            DataType::Struct(f) if f.len() == 2 => {
                lies_as(f[0].data_type(), key) && lies_as(f[1].data_type(), &value.ty)
            }
            _ => false,
        },
        (DataType::Struct(fields), SqlType::Row(columns)) => {
            fields.len() == columns.len() && fields.iter().zip(columns).all(|(f, c)| lies_as(f.data_type(), &c.ty))
        }
        (_, SqlType::Decimal { .. } | SqlType::Array(_) | SqlType::Map(..) | SqlType::Row(_)) => false,
        (found, ty) => *found == ty.to_arrow(),
    }
}

/// Collects decoded cells into an array of a given Arrow type.
pub(crate) struct CellsBuilder {
    ty: DataType,
    rows: usize,
    nulls: NullBufferBuilder,
    pub shape: ShapeBuilder,
}

pub(crate) enum ShapeBuilder {
    Null,
    Boolean(BooleanBufferBuilder),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    I128(Vec<i128>),
    I256(Vec<i256>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// `ends` has one more than cells; a cell's bytes are appended to `data`.
    Bytes {
        ends: Vec<i32>,
        data: Vec<u8>,
    },
    Interval(Vec<IntervalMonthDayNano>),
    List {
        ends: Vec<i32>,
        items: Box<CellsBuilder>,
    },
    Map {
        ends: Vec<i32>,
        keys: Box<CellsBuilder>,
        values: Box<CellsBuilder>,
    },
    Row(Vec<CellsBuilder>),
}

impl CellsBuilder {
    /// For about `rows` cells.
    pub fn new(ty: &DataType, rows: usize) -> Result<Self> {
        fn ends(rows: usize) -> Vec<i32> {
            let mut ends = Vec::with_capacity(rows + 1);
            ends.push(0);
            ends
        }
        let shape = match ty {
            DataType::Null => ShapeBuilder::Null,
            DataType::Boolean => ShapeBuilder::Boolean(BooleanBufferBuilder::new(rows)),
            DataType::Int8 => ShapeBuilder::I8(Vec::with_capacity(rows)),
            DataType::Int16 => ShapeBuilder::I16(Vec::with_capacity(rows)),
            DataType::Int32 | DataType::Date32 => ShapeBuilder::I32(Vec::with_capacity(rows)),
            DataType::Int64
            | DataType::Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond)
            | DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, _) => {
                ShapeBuilder::I64(Vec::with_capacity(rows))
            }
            DataType::Decimal128(..) => ShapeBuilder::I128(Vec::with_capacity(rows)),
            DataType::Decimal256(..) => ShapeBuilder::I256(Vec::with_capacity(rows)),
            DataType::Float32 => ShapeBuilder::F32(Vec::with_capacity(rows)),
            DataType::Float64 => ShapeBuilder::F64(Vec::with_capacity(rows)),
            DataType::Utf8 | DataType::Binary => ShapeBuilder::Bytes { ends: ends(rows), data: vec![] },
            DataType::Interval(IntervalUnit::MonthDayNano) => ShapeBuilder::Interval(Vec::with_capacity(rows)),
            DataType::List(item) => {
                ShapeBuilder::List { ends: ends(rows), items: Box::new(CellsBuilder::new(item.data_type(), rows)?) }
            }
            DataType::Map(entries, _) => {
                let (key, value) = map_fields(entries)?;
                ShapeBuilder::Map {
                    ends: ends(rows),
                    keys: Box::new(CellsBuilder::new(key.data_type(), rows)?),
                    values: Box::new(CellsBuilder::new(value.data_type(), rows)?),
                }
            }
            DataType::Struct(fields) => {
                ShapeBuilder::Row(fields.iter().map(|f| CellsBuilder::new(f.data_type(), rows)).collect::<Result<_>>()?)
            }
            other => return Err(Error::internal(format!("no SQL type lies in memory as {other}"))),
        };
        Ok(CellsBuilder { ty: ty.clone(), rows: 0, nulls: NullBufferBuilder::new(rows), shape })
    }

    /// A NULL, with the filler that Arrow wants below it.
    #[inline]
    pub fn push_null(&mut self) {
        self.rows += 1;
        self.nulls.append_null();
        match &mut self.shape {
            ShapeBuilder::Null => {}
            ShapeBuilder::Boolean(v) => v.append(false),
            ShapeBuilder::I8(v) => v.push(0),
            ShapeBuilder::I16(v) => v.push(0),
            ShapeBuilder::I32(v) => v.push(0),
            ShapeBuilder::I64(v) => v.push(0),
            ShapeBuilder::I128(v) => v.push(0),
            ShapeBuilder::I256(v) => v.push(i256::ZERO),
            ShapeBuilder::F32(v) => v.push(0.0),
            ShapeBuilder::F64(v) => v.push(0.0),
            ShapeBuilder::Interval(v) => v.push(IntervalMonthDayNano::ZERO),
            ShapeBuilder::Bytes { ends, .. } | ShapeBuilder::List { ends, .. } | ShapeBuilder::Map { ends, .. } => {
                ends.push(*ends.last().expect("begins with 0"));
            }
            ShapeBuilder::Row(fields) => fields.iter_mut().for_each(CellsBuilder::push_null),
        }
    }

    /// Counts a cell whose value the caller pushes to `shape`.
    #[inline]
    pub fn push_valid(&mut self) {
        self.rows += 1;
        self.nulls.append_non_null();
    }

    /// Counts many cells at once.
    #[inline]
    pub fn push_all_valid(&mut self, rows: usize) {
        self.rows += rows;
        self.nulls.append_n_non_nulls(rows);
    }

    /// Cells so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// # Errors
    /// What cannot be such an array: text that is not UTF-8, NULL where the type says NOT NULL.
    pub fn finish(mut self) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        let rows = self.rows;
        fn primitive<T: ArrowNativeType>(
            ty: DataType,
            rows: usize,
            values: Vec<T>,
            nulls: Option<NullBuffer>,
        ) -> Result<ArrayRef> {
            let data = ArrayData::builder(ty).len(rows).nulls(nulls).add_buffer(Buffer::from_vec(values)).build()?;
            Ok(make_array(data))
        }
        fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
            OffsetBuffer::new(ScalarBuffer::from(ends))
        }
        Ok(match self.shape {
            ShapeBuilder::Null => std::sync::Arc::new(NullArray::new(rows)),
            ShapeBuilder::Boolean(mut v) => std::sync::Arc::new(BooleanArray::new(v.finish(), nulls)),
            ShapeBuilder::I8(v) => primitive(self.ty, rows, v, nulls)?,
            ShapeBuilder::I16(v) => primitive(self.ty, rows, v, nulls)?,
            ShapeBuilder::I32(v) => primitive(self.ty, rows, v, nulls)?,
            ShapeBuilder::I64(v) => primitive(self.ty, rows, v, nulls)?,
            ShapeBuilder::I128(v) => primitive(self.ty, rows, v, nulls)?,
            ShapeBuilder::I256(v) => primitive(self.ty, rows, v, nulls)?,
            ShapeBuilder::F32(v) => primitive(self.ty, rows, v, nulls)?,
            ShapeBuilder::F64(v) => primitive(self.ty, rows, v, nulls)?,
            ShapeBuilder::Interval(v) => primitive(self.ty, rows, v, nulls)?,
            ShapeBuilder::Bytes { ends, data } if self.ty == DataType::Utf8 => {
                std::sync::Arc::new(StringArray::try_new(offsets(ends), Buffer::from_vec(data), nulls)?)
            }
            ShapeBuilder::Bytes { ends, data } => {
                std::sync::Arc::new(BinaryArray::try_new(offsets(ends), Buffer::from_vec(data), nulls)?)
            }
            ShapeBuilder::List { ends, items } => {
                let DataType::List(item) = self.ty else { unreachable!("the shape was made from this type") };
                std::sync::Arc::new(ListArray::try_new(item, offsets(ends), items.finish()?, nulls)?)
            }
            ShapeBuilder::Map { ends, keys, values } => {
                let DataType::Map(entries, sorted) = self.ty else { unreachable!("the shape was made from this type") };
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(Error::internal("a map's entries are a struct"));
                };
                let columns = vec![keys.finish()?, values.finish()?];
                let rows = StructArray::try_new(fields.clone(), columns, None)?;
                std::sync::Arc::new(MapArray::try_new(entries, offsets(ends), rows, nulls, sorted)?)
            }
            ShapeBuilder::Row(columns) => {
                let DataType::Struct(fields) = self.ty else { unreachable!("the shape was made from this type") };
                let columns = columns.into_iter().map(CellsBuilder::finish).collect::<Result<Vec<_>>>()?;
                std::sync::Arc::new(StructArray::try_new_with_length(fields, columns, nulls, rows)?)
            }
        })
    }
}

fn map_fields(entries: &FieldRef) -> Result<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(f) if f.len() == 2 => Ok((&f[0], &f[1])),
        other => Err(Error::internal(format!("a map's entries are {other}"))),
    }
}

/// Ends a cell of a `Bytes`, `List` or `Map` builder; `None` beyond what 32-bit offsets reach.
#[inline]
pub(crate) fn push_end(ends: &mut Vec<i32>, end: usize) -> Option<()> {
    ends.push(i32::try_from(end).ok()?);
    Some(())
}

/// Copies `from` to the begin of `to`. Most strings are short, and for those the call of a general copy is what
/// costs: up to 16 bytes are copied as two words that may overlap.
#[inline]
pub(crate) fn copy_short(from: &[u8], to: &mut [u8]) {
    #[inline]
    fn two<const N: usize>(from: &[u8], to: &mut [u8]) -> Option<()> {
        let (first, last) = (*from.first_chunk::<N>()?, *from.last_chunk::<N>()?);
        *to.first_chunk_mut()? = first;
        *to.last_chunk_mut()? = last;
        Some(())
    }
    let to = &mut to[..from.len()];
    match from.len() {
        0 => {}
        1..4 => {
            to[0] = from[0];
            to[from.len() / 2] = from[from.len() / 2];
            to[from.len() - 1] = from[from.len() - 1];
        }
        4..8 => two::<4>(from, to).expect("both are long enough"),
        8..=16 => two::<8>(from, to).expect("both are long enough"),
        _ => to.copy_from_slice(from),
    }
}

/// Equal floats have equal bits: 0.0 for -0.0, one NaN.
#[inline]
pub(crate) fn canonical_f32(v: f32) -> f32 {
    if v.is_nan() { f32::from_bits(0x7fc0_0000) } else { v + 0.0 }
}

/// Equal floats have equal bits: 0.0 for -0.0, one NaN.
#[inline]
pub(crate) fn canonical_f64(v: f64) -> f64 {
    if v.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { v + 0.0 }
}

/// The same values as keys that are equal have them, at any depth: 0.0 for -0.0, one NaN. The array itself if it has no
/// floats.
pub fn with_canonical_floats(array: &ArrayRef) -> Result<ArrayRef> {
    map_floats(array, array.data_type(), &|leaf, _| match leaf.data_type() {
        DataType::Float32 => Arc::new(leaf.as_primitive::<Float32Type>().unary::<_, Float32Type>(canonical_f32)),
        _ => Arc::new(leaf.as_primitive::<Float64Type>().unary::<_, Float64Type>(canonical_f64)),
    })
}

/// The same values with one NaN, at any depth; -0.0 stays.
pub(crate) fn with_one_nan(array: &ArrayRef) -> Result<ArrayRef> {
    let one = |v: f64| if v.is_nan() { canonical_f64(v) } else { v };
    let one_f32 = |v: f32| if v.is_nan() { canonical_f32(v) } else { v };
    map_floats(array, array.data_type(), &|leaf, _| match leaf.data_type() {
        DataType::Float32 => Arc::new(leaf.as_primitive::<Float32Type>().unary::<_, Float32Type>(one_f32)),
        _ => Arc::new(leaf.as_primitive::<Float64Type>().unary::<_, Float64Type>(one)),
    })
}

/// Floats, at any depth, as integers of the same width that order as they do, -0.0 right before 0.0, NaN behind all.
pub(crate) fn floats_to_integers(array: &ArrayRef) -> Result<ArrayRef> {
    let narrow = |v: f32| {
        let bits = (if v.is_nan() { canonical_f32(v) } else { v }).to_bits() as i32;
        bits ^ ((bits >> 31) & i32::MAX)
    };
    let wide = |v: f64| {
        let bits = (if v.is_nan() { canonical_f64(v) } else { v }).to_bits() as i64;
        bits ^ ((bits >> 63) & i64::MAX)
    };
    map_floats(array, &integers_for_floats(array.data_type()), &|leaf, _| match leaf.data_type() {
        DataType::Float32 => Arc::new(leaf.as_primitive::<Float32Type>().unary::<_, Int32Type>(narrow)),
        _ => Arc::new(leaf.as_primitive::<Float64Type>().unary::<_, Int64Type>(wide)),
    })
}

/// The floats of which `floats_to_integers` made integers; `ty`: their type.
pub(crate) fn integers_to_floats(array: &ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    map_floats(array, ty, &|leaf, to| match to {
        DataType::Float32 => Arc::new(
            leaf.as_primitive::<Int32Type>()
                .unary::<_, Float32Type>(|v| f32::from_bits((v ^ ((v >> 31) & i32::MAX)) as u32)),
        ),
        _ => Arc::new(
            leaf.as_primitive::<Int64Type>()
                .unary::<_, Float64Type>(|v| f64::from_bits((v ^ ((v >> 63) & i64::MAX)) as u64)),
        ),
    })
}

/// The type with INT and BIGINT for FLOAT and DOUBLE, at any depth.
pub(crate) fn integers_for_floats(ty: &DataType) -> DataType {
    let of = |f: &FieldRef| Arc::new(f.as_ref().clone().with_data_type(integers_for_floats(f.data_type())));
    match ty {
        DataType::Float32 => DataType::Int32,
        DataType::Float64 => DataType::Int64,
        DataType::List(f) => DataType::List(of(f)),
        DataType::Map(f, sorted) => DataType::Map(of(f), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(of).collect()),
        other => other.clone(),
    }
}

/// Replaces the floats of an array, or what becomes floats of type `to`, at any depth.
fn map_floats(array: &ArrayRef, to: &DataType, leaf: &dyn Fn(&ArrayRef, &DataType) -> ArrayRef) -> Result<ArrayRef> {
    if !has_floats(array.data_type()) && !has_floats(to) {
        return Ok(array.clone());
    }
    Ok(match (array.data_type(), to) {
        (DataType::List(_), DataType::List(item)) => {
            let a = array.as_list::<i32>();
            let items = map_floats(a.values(), item.data_type(), leaf)?;
            Arc::new(ListArray::try_new(item.clone(), a.offsets().clone(), items, a.nulls().cloned())?)
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let a = array.as_map();
            let rows: ArrayRef = Arc::new(a.entries().clone());
            let rows = map_floats(&rows, entries.data_type(), leaf)?.as_struct().clone();
            Arc::new(MapArray::try_new(entries.clone(), a.offsets().clone(), rows, a.nulls().cloned(), *sorted)?)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let a = array.as_struct();
            let columns = a.columns().iter().zip(fields).map(|(c, f)| map_floats(c, f.data_type(), leaf));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, a.nulls().cloned(), a.len())?)
        }
        _ => leaf(array, to),
    })
}

/// Whether there are FLOATs or DOUBLEs in a type, at any depth.
pub fn has_floats(ty: &DataType) -> bool {
    match ty {
        DataType::Float32 | DataType::Float64 => true,
        DataType::List(f) | DataType::Map(f, _) => has_floats(f.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_floats(f.data_type())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_copies_are_whole_and_touch_nothing_else() {
        let from: Vec<u8> = (1..=40).collect();
        for n in 0..=40 {
            let mut to = vec![0; 41];
            copy_short(&from[..n], &mut to);
            assert_eq!(to[..n], from[..n]);
            assert!(to[n..].iter().all(|b| *b == 0));
        }
    }
}
