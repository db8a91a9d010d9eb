//! SQL values of one column as Rust values that compare as SQL does: what MIN, MAX and DISTINCT keep.
//!
//! | SQL type | lies as | why it orders |
//! | --- | --- | --- |
//! | BOOLEAN, TINYINT … BIGINT, DATE, TIME, TIMESTAMP | `u64` | sign bit flipped |
//! | FLOAT, DOUBLE | `u64` | total order of the bits; -0.0 is 0.0, one NaN, above all numbers |
//! | DECIMAL to 38 digits | `u128` | sign bit flipped |
//! | strings, bytes | `Box<[u8]>` | their bytes |
//! | DECIMAL above 38 digits, ARRAY, ROW | `Box<[u8]>` | their key bytes (`core::key`) |

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, BooleanArray, Decimal128Array, NullArray,
    StringBuilder, make_array,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use thalweg_core::key::{KeyCodec, KeyOrder};
use thalweg_core::state::KeyBatch;
use thalweg_core::{Error, Result, SqlType};

use super::index::hash_bytes;

/// Which of the three forms the values of a type have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Word,
    Wide,
    Bytes,
}

/// A column's type, with what it takes to convert its values.
#[derive(Debug)]
pub(super) struct Domain {
    pub ty: SqlType,
    arrow: DataType,
    codec: KeyCodec,
}

impl Domain {
    pub fn new(ty: &SqlType) -> Result<Self> {
        if !ty.is_orderable() {
            return Err(Error::type_(format!("values of type {ty} have no order: no MIN, MAX, DISTINCT or GROUP BY")));
        }
        let codec = KeyCodec::new(vec![KeyOrder::ascending(ty.clone())]);
        Ok(Domain { ty: ty.clone(), arrow: ty.to_arrow(), codec })
    }

    pub fn form(&self) -> Form {
        match &self.ty {
            SqlType::Decimal { precision, .. } if *precision <= 38 => Form::Wide,
            SqlType::Decimal { .. } | SqlType::Array(_) | SqlType::Row(_) => Form::Bytes,
            SqlType::Char(_) | SqlType::VarChar(_) | SqlType::Binary(_) | SqlType::VarBinary(_) => Form::Bytes,
            _ => Form::Word,
        }
    }

    /// Appends the key bytes (`core::key`, ascending, one column) of values to `out`, one key each.
    pub fn encode<'a, V: Value>(&self, values: impl Iterator<Item = &'a V> + Clone, out: &mut KeyBatch) -> Result<()> {
        let array = V::array(self, values.map(|v| Some(v.borrow())))?;
        let rows = array.len();
        self.codec.encode(None, &[array], rows, out)
    }

    /// The values of key bytes.
    pub fn decode<'a, V: Value>(&self, keys: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Result<Vec<V>> {
        let array = self.codec.decode(keys)?.pop().expect("the codec has one column");
        let mut buffer = V::Buffer::default();
        let column = V::read(self, &array, &mut buffer)?;
        Ok((0..array.len()).map(|row| V::own(V::get(&column, row))).collect())
    }

    fn mismatch(&self, array: &ArrayRef) -> Error {
        Error::internal(format!("a column of type {} lies in memory as {}", self.ty, array.data_type()))
    }
}

/// A value that orders as its SQL type does.
pub(super) trait Value: Clone + Ord + std::fmt::Debug + 'static {
    /// How a value is passed without owning it.
    type Ref<'a>: Copy;
    /// A readable column.
    type Column<'a>;
    /// Memory for `Column`, reused from batch to batch.
    type Buffer: Default + std::fmt::Debug;

    /// The column's values; those of NULL cells mean nothing.
    fn read<'a>(domain: &Domain, array: &'a ArrayRef, buffer: &'a mut Self::Buffer) -> Result<Self::Column<'a>>;
    fn get<'a>(column: &Self::Column<'a>, row: usize) -> Self::Ref<'a>;
    fn own(value: Self::Ref<'_>) -> Self;
    fn borrow(&self) -> Self::Ref<'_>;
    fn order(a: Self::Ref<'_>, b: Self::Ref<'_>) -> Ordering;
    fn same(a: Self::Ref<'_>, b: Self::Ref<'_>) -> bool;
    /// For memory only.
    fn hash(value: Self::Ref<'_>) -> u64;
    /// Bytes outside of the value itself.
    fn heap_bytes(&self) -> usize;
    /// An array of the domain's Arrow type.
    fn array<'a>(domain: &Domain, values: impl Iterator<Item = Option<Self::Ref<'a>>> + Clone) -> Result<ArrayRef>;
}

// ---- up to 8 bytes ----

const SIGN: u64 = 1 << 63;

fn ordered_f64(v: f64) -> u64 {
    let bits = if v.is_nan() { f64::NAN.to_bits() & !SIGN } else { (v + 0.0).to_bits() };
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn f64_of(word: u64) -> f64 {
    f64::from_bits(if word & SIGN == 0 { !word } else { word ^ SIGN })
}

/// Appends the ordered words of an array of a type of form `Word`; NULL cells get any word.
pub(super) fn read_words(array: &ArrayRef, out: &mut Vec<u64>) -> bool {
    fn signed<T: ArrowPrimitiveType>(array: &ArrayRef, out: &mut Vec<u64>)
    where
        T::Native: Into<i64>,
    {
        out.extend(array.as_primitive::<T>().values().iter().map(|&v| Into::<i64>::into(v) as u64 ^ SIGN));
    }
    match array.data_type() {
        DataType::Null => out.resize(out.len() + array.len(), 0),
        DataType::Boolean => out.extend(array.as_boolean().values().iter().map(u64::from)),
        DataType::Int8 => signed::<Int8Type>(array, out),
        DataType::Int16 => signed::<Int16Type>(array, out),
        DataType::Int32 => signed::<Int32Type>(array, out),
        DataType::Int64 => signed::<Int64Type>(array, out),
        DataType::Date32 => signed::<Date32Type>(array, out),
        DataType::Time64(TimeUnit::Microsecond) => signed::<Time64MicrosecondType>(array, out),
        DataType::Time64(TimeUnit::Nanosecond) => signed::<Time64NanosecondType>(array, out),
        DataType::Timestamp(TimeUnit::Millisecond, _) => signed::<TimestampMillisecondType>(array, out),
        DataType::Timestamp(TimeUnit::Microsecond, _) => signed::<TimestampMicrosecondType>(array, out),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => signed::<TimestampNanosecondType>(array, out),
        DataType::Float32 => {
            out.extend(array.as_primitive::<Float32Type>().values().iter().map(|&v| ordered_f64(f64::from(v))));
        }
        DataType::Float64 => out.extend(array.as_primitive::<Float64Type>().values().iter().map(|&v| ordered_f64(v))),
        _ => return false,
    }
    true
}

/// The array of ordered words (0 where NULL).
pub(super) fn words_array(ty: &DataType, words: Vec<u64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    fn native<T: ArrowNativeType>(words: Vec<u64>, f: impl Fn(i64) -> T) -> Buffer {
        // A vector of values of the same size takes over the memory.
        Buffer::from_vec(words.into_iter().map(|w| f((w ^ SIGN) as i64)).collect::<Vec<T>>())
    }
    let rows = words.len();
    let buffer = match ty {
        DataType::Null => return Ok(Arc::new(NullArray::new(words.len()))),
        DataType::Boolean => {
            return Ok(Arc::new(BooleanArray::new(words.iter().map(|&w| w == 1).collect::<Vec<_>>().into(), nulls)));
        }
        DataType::Int8 => native(words, |v| v as i8),
        DataType::Int16 => native(words, |v| v as i16),
        DataType::Int32 | DataType::Date32 => native(words, |v| v as i32),
        DataType::Int64 | DataType::Time64(_) | DataType::Timestamp(..) => native(words, |v| v),
        DataType::Float32 => Buffer::from_vec(words.iter().map(|&w| f64_of(w) as f32).collect::<Vec<_>>()),
        DataType::Float64 => Buffer::from_vec(words.iter().map(|&w| f64_of(w)).collect::<Vec<_>>()),
        other => return Err(Error::internal(format!("{other} is not a type of up to 8 bytes"))),
    };
    Ok(make_array(ArrayData::builder(ty.clone()).len(rows).add_buffer(buffer).nulls(nulls).build()?))
}

impl Value for u64 {
    type Ref<'a> = u64;
    type Column<'a> = &'a [u64];
    type Buffer = Vec<u64>;

    fn read<'a>(domain: &Domain, array: &'a ArrayRef, buffer: &'a mut Vec<u64>) -> Result<&'a [u64]> {
        buffer.clear();
        if array.data_type() != &domain.arrow || !read_words(array, buffer) {
            return Err(domain.mismatch(array));
        }
        Ok(buffer)
    }

    #[inline]
    fn get<'a>(column: &Self::Column<'a>, row: usize) -> Self::Ref<'a> {
        column[row]
    }

    #[inline]
    fn own(value: u64) -> u64 {
        value
    }

    #[inline]
    fn borrow(&self) -> u64 {
        *self
    }

    #[inline]
    fn order(a: u64, b: u64) -> Ordering {
        a.cmp(&b)
    }

    #[inline]
    fn same(a: u64, b: u64) -> bool {
        a == b
    }

    #[inline]
    fn hash(value: u64) -> u64 {
        value
    }

    fn heap_bytes(&self) -> usize {
        0
    }

    fn array<'a>(domain: &Domain, values: impl Iterator<Item = Option<Self::Ref<'a>>> + Clone) -> Result<ArrayRef> {
        let mut has_nulls = false;
        let words = values.clone().map(|v| {
            has_nulls |= v.is_none();
            v.unwrap_or(SIGN)
        });
        let words: Vec<u64> = words.collect();
        let nulls = has_nulls.then(|| values.map(|v| v.is_some()).collect());
        words_array(&domain.arrow, words, nulls.map(NullBuffer::new))
    }
}

// ---- 16 bytes ----

const WIDE_SIGN: u128 = 1 << 127;

impl Value for u128 {
    type Ref<'a> = u128;
    type Column<'a> = &'a [i128];
    type Buffer = ();

    fn read<'a>(domain: &Domain, array: &'a ArrayRef, (): &'a mut ()) -> Result<&'a [i128]> {
        match array.as_primitive_opt::<Decimal128Type>() {
            Some(a) if array.data_type() == &domain.arrow => Ok(a.values()),
            _ => Err(domain.mismatch(array)),
        }
    }

    #[inline]
    fn get<'a>(column: &Self::Column<'a>, row: usize) -> Self::Ref<'a> {
        column[row] as u128 ^ WIDE_SIGN
    }

    #[inline]
    fn own(value: u128) -> u128 {
        value
    }

    #[inline]
    fn borrow(&self) -> u128 {
        *self
    }

    #[inline]
    fn order(a: u128, b: u128) -> Ordering {
        a.cmp(&b)
    }

    #[inline]
    fn same(a: u128, b: u128) -> bool {
        a == b
    }

    #[inline]
    fn hash(value: u128) -> u64 {
        super::index::hash_pair(value as u64, (value >> 64) as u64)
    }

    fn heap_bytes(&self) -> usize {
        0
    }

    fn array<'a>(domain: &Domain, values: impl Iterator<Item = Option<Self::Ref<'a>>> + Clone) -> Result<ArrayRef> {
        let array: Decimal128Array = values.map(|v| v.map(|v| (v ^ WIDE_SIGN) as i128)).collect();
        Ok(Arc::new(array.with_data_type(domain.arrow.clone())))
    }
}

// ---- any length ----

/// Cells of any length: those of an Arrow array, or key bytes.
pub(super) enum BytesColumn<'a> {
    Cells { offsets: &'a [i32], data: &'a [u8] },
    Keys(&'a KeyBatch),
}

impl Value for Box<[u8]> {
    type Ref<'a> = &'a [u8];
    type Column<'a> = BytesColumn<'a>;
    type Buffer = KeyBatch;

    fn read<'a>(domain: &Domain, array: &'a ArrayRef, buffer: &'a mut KeyBatch) -> Result<BytesColumn<'a>> {
        Ok(match array.data_type() {
            DataType::Utf8 if domain.arrow == DataType::Utf8 => {
                let a = array.as_string::<i32>();
                BytesColumn::Cells { offsets: a.offsets(), data: a.values() }
            }
            DataType::Binary if domain.arrow == DataType::Binary => {
                let a = array.as_binary::<i32>();
                BytesColumn::Cells { offsets: a.offsets(), data: a.values() }
            }
            _ => {
                buffer.clear();
                domain.codec.encode(None, std::slice::from_ref(array), array.len(), buffer)?;
                BytesColumn::Keys(buffer)
            }
        })
    }

    #[inline]
    fn get<'a>(column: &Self::Column<'a>, row: usize) -> Self::Ref<'a> {
        match column {
            BytesColumn::Cells { offsets, data } => &data[offsets[row] as usize..offsets[row + 1] as usize],
            BytesColumn::Keys(keys) => keys.get(row),
        }
    }

    fn own(value: &[u8]) -> Box<[u8]> {
        value.into()
    }

    #[inline]
    fn borrow(&self) -> &[u8] {
        self
    }

    #[inline]
    fn order(a: &[u8], b: &[u8]) -> Ordering {
        a.cmp(b)
    }

    #[inline]
    fn same(a: &[u8], b: &[u8]) -> bool {
        a == b
    }

    #[inline]
    fn hash(value: &[u8]) -> u64 {
        hash_bytes(value)
    }

    fn heap_bytes(&self) -> usize {
        // What an allocator rounds up to.
        self.len().next_multiple_of(16)
    }

    fn array<'a>(domain: &Domain, values: impl Iterator<Item = Option<Self::Ref<'a>>> + Clone) -> Result<ArrayRef> {
        match domain.arrow {
            DataType::Utf8 => {
                let mut b = StringBuilder::new();
                for v in values {
                    let text = v.map(std::str::from_utf8).transpose();
                    b.append_option(text.map_err(|e| Error::internal(format!("a kept string is not UTF-8: {e}")))?);
                }
                Ok(Arc::new(b.finish()))
            }
            DataType::Binary => {
                let mut b = BinaryBuilder::new();
                values.for_each(|v| b.append_option(v));
                Ok(Arc::new(b.finish()))
            }
            _ => {
                // NULL as the codec writes it (NULLs first).
                let keys: Vec<&[u8]> = values.map(|v| v.unwrap_or(&[0])).collect();
                Ok(domain.codec.decode(keys.iter().copied())?.pop().expect("the codec has one column"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    fn round_trip<V: Value>(ty: &SqlType, array: ArrayRef) -> Vec<V> {
        let domain = Domain::new(ty).unwrap();
        let mut buffer = V::Buffer::default();
        let column = V::read(&domain, &array, &mut buffer).unwrap();
        let values: Vec<V> = (0..array.len()).map(|i| V::own(V::get(&column, i))).collect();
        assert_eq!(&V::array(&domain, values.iter().map(|v| Some(v.borrow()))).unwrap(), &array);
        let mut keys = KeyBatch::new();
        domain.encode(values.iter(), &mut keys).unwrap();
        assert_eq!(domain.decode::<V>(keys.iter().collect::<Vec<_>>().into_iter()).unwrap(), values);
        values
    }

    #[test]
    fn words_order_as_their_values() {
        let v = round_trip::<u64>(&SqlType::BigInt, Arc::new(Int64Array::from(vec![i64::MIN, -1, 0, 1, i64::MAX])));
        assert!(v.is_sorted());
        let floats = vec![f64::NEG_INFINITY, -1.5, -5e-324, 0.0, 5e-324, 1.0, f64::INFINITY];
        assert!(round_trip::<u64>(&SqlType::Double, Arc::new(Float64Array::from(floats))).is_sorted());
        assert!(ordered_f64(f64::NAN) > ordered_f64(f64::INFINITY));
        assert_eq!(ordered_f64(-f64::NAN), ordered_f64(f64::NAN));
        assert_eq!(ordered_f64(-0.0), ordered_f64(0.0));
        let floats: ArrayRef = Arc::new(arrow::array::Float32Array::from(vec![f32::MIN, -0.1, 1e-45, f32::MAX]));
        assert!(round_trip::<u64>(&SqlType::Float, floats).is_sorted());
        let booleans: ArrayRef = Arc::new(BooleanArray::from(vec![false, true]));
        assert!(round_trip::<u64>(&SqlType::Boolean, booleans).is_sorted());
    }

    #[test]
    fn wide_values_and_bytes_order_as_their_values() {
        let ty = SqlType::Decimal { precision: 20, scale: 2 };
        let array = Decimal128Array::from(vec![-(1 << 70), -1, 0, 1 << 70]).with_data_type(ty.to_arrow());
        assert!(round_trip::<u128>(&ty, Arc::new(array)).is_sorted());
        let array: ArrayRef = Arc::new(StringArray::from(vec!["", "a", "a\0", "ab", "é"]));
        assert!(round_trip::<Box<[u8]>>(&SqlType::STRING, array).is_sorted());
        let ty = SqlType::Decimal { precision: 50, scale: 0 };
        let array = arrow::array::Decimal256Array::from_iter_values([-5, 3].map(arrow::datatypes::i256::from_i128));
        assert!(round_trip::<Box<[u8]>>(&ty, Arc::new(array.with_data_type(ty.to_arrow()))).is_sorted());
    }
}
