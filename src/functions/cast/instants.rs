//! Columns of dates, times and timestamps as points in time.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::*;
use thalweg_core::{Error, Result};

use crate::calendar::Instant;

/// A column of dates, times or timestamps as points in time (in UTC).
pub enum Instants<'a> {
    Date(&'a PrimitiveArray<Date32Type>),
    /// Values, their nulls and their unit. Times are of 1970-01-01.
    Ticks(&'a [i64], Option<&'a NullBuffer>, TimeUnit),
}

impl<'a> Instants<'a> {
    /// # Errors
    /// A type that is none of time.
    pub fn new(array: &'a ArrayRef) -> Result<Self> {
        use TimeUnit::*;
        fn ticks<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef, unit: TimeUnit) -> Instants<'_> {
            let array = array.as_primitive::<T>();
            Instants::Ticks(array.values(), array.nulls(), unit)
        }
        Ok(match array.data_type() {
            DataType::Date32 => Instants::Date(array.as_primitive()),
            DataType::Time64(Microsecond) => ticks::<Time64MicrosecondType>(array, Microsecond),
            DataType::Time64(Nanosecond) => ticks::<Time64NanosecondType>(array, Nanosecond),
            DataType::Timestamp(Second, _) => ticks::<TimestampSecondType>(array, Second),
            DataType::Timestamp(Millisecond, _) => ticks::<TimestampMillisecondType>(array, Millisecond),
            DataType::Timestamp(Microsecond, _) => ticks::<TimestampMicrosecondType>(array, Microsecond),
            DataType::Timestamp(Nanosecond, _) => ticks::<TimestampNanosecondType>(array, Nanosecond),
            other => return Err(Error::internal(format!("{other} is not a type of time"))),
        })
    }

    pub fn get(&self, i: usize) -> Option<Instant> {
        match self {
            Instants::Date(a) => a.is_valid(i).then(|| Instant::from_days(a.value(i))),
            Instants::Ticks(v, nulls, unit) => nulls.is_none_or(|n| n.is_valid(i)).then(|| Instant::new(v[i], *unit)),
        }
    }
}
