//! Rows kept in memory, columnar, in pages: appended in batches, addressed by ascending numbers, gathered into new
//! batches by number, given back page by page from the oldest on. For the operators whose output is made of stored rows.
//!
//! Fixed-size columns are plain vectors; strings and bytes lie behind one another in their page; nested types as their
//! `core::value` bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray, make_array,
    new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, SchemaRef, i256};
use thalweg_core::state::KeyBatch;
use thalweg_core::value::ValueCodec;
use thalweg_core::{Error, Result, SqlType};

use crate::key_index::prefetch_at;
use crate::layout::batch_of;

/// Rows of a page: 2 to this power.
pub(crate) const PAGE_BITS: u32 = 13;
pub(crate) const PAGE_ROWS: usize = 1 << PAGE_BITS;
const IN_PAGE: u32 = PAGE_ROWS as u32 - 1;

/// Values by row number, in pages.
#[derive(Debug)]
pub(crate) struct Paged<T> {
    pages: VecDeque<Vec<T>>,
    /// Number of the first page.
    first: u32,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Paged { pages: VecDeque::new(), first: 0 }
    }
}

impl<T: Copy> Paged<T> {
    /// The first number that is there (or will be).
    pub fn start(&self) -> u32 {
        self.first << PAGE_BITS
    }

    /// The number that the next value gets.
    pub fn end(&self) -> u32 {
        match self.pages.back() {
            None => self.start(),
            Some(last) => ((self.first + self.pages.len() as u32 - 1) << PAGE_BITS) + last.len() as u32,
        }
    }

    pub fn push(&mut self, value: T) {
        self.extend(&[value]);
    }

    pub fn extend(&mut self, mut values: &[T]) {
        while !values.is_empty() {
            if self.pages.back().is_none_or(|p| p.len() == PAGE_ROWS) {
                // The first page grows with what there is.
                let room = if self.pages.is_empty() { 0 } else { PAGE_ROWS };
                self.pages.push_back(Vec::with_capacity(room));
            }
            let page = self.pages.back_mut().expect("pushed if there was none");
            let n = values.len().min(PAGE_ROWS - page.len());
            page.extend_from_slice(&values[..n]);
            values = &values[n..];
        }
    }

    pub fn extend_with(&mut self, value: T, n: usize) {
        let chunk = [value; 256];
        for from in (0..n).step_by(256) {
            self.extend(&chunk[..(n - from).min(256)]);
        }
    }

    #[inline]
    pub fn get(&self, row: u32) -> T {
        self.pages[((row >> PAGE_BITS) - self.first) as usize][(row & IN_PAGE) as usize]
    }

    /// Starts to bring a value into the caches.
    #[inline]
    pub fn prefetch(&self, row: u32) {
        if let Some(page) = self.pages.get((row >> PAGE_BITS).wrapping_sub(self.first) as usize) {
            prefetch_at(page, (row & IN_PAGE) as usize);
        }
    }

    #[inline]
    pub fn get_mut(&mut self, row: u32) -> &mut T {
        &mut self.pages[((row >> PAGE_BITS) - self.first) as usize][(row & IN_PAGE) as usize]
    }

    /// All pages with the number of their first value.
    pub fn pages(&self) -> impl Iterator<Item = (u32, &[T])> {
        self.pages.iter().enumerate().map(|(i, p)| ((self.first + i as u32) << PAGE_BITS, p.as_slice()))
    }

    pub fn gather(&self, rows: &[u32], out: &mut Vec<T>) {
        let pages: Vec<&[T]> = self.pages.iter().map(Vec::as_slice).collect();
        let first = self.first;
        out.extend(rows.iter().map(|&r| pages[((r >> PAGE_BITS) - first) as usize][(r & IN_PAGE) as usize]));
    }

    pub fn drop_first_page(&mut self) {
        self.pages.pop_front();
        self.first += 1;
    }

    pub fn bytes(&self) -> usize {
        self.pages.iter().map(|p| p.capacity() * size_of::<T>()).sum()
    }

    fn len_of_last(&self) -> usize {
        self.pages.back().map_or(0, Vec::len)
    }
}

/// Byte strings by row number.
#[derive(Debug, Default)]
pub(crate) struct PagedBytes {
    /// Where each value ends in its page.
    ends: Paged<u32>,
    data: VecDeque<Vec<u8>>,
}

impl PagedBytes {
    pub fn push(&mut self, value: &[u8]) -> Result<()> {
        let len = self.ends.len_of_last();
        if len == 0 || len == PAGE_ROWS {
            self.data.push_back(vec![]);
        }
        let page = self.data.back_mut().expect("pushed with the first value");
        let end = u32::try_from(page.len() + value.len())
            .map_err(|_| Error::row(format!("{PAGE_ROWS} rows with more than 4 GiB in one column")))?;
        page.extend_from_slice(value);
        self.ends.push(end);
        Ok(())
    }

    pub fn get(&self, row: u32) -> &[u8] {
        let page = ((row >> PAGE_BITS) - self.ends.first) as usize;
        let (ends, in_page) = (&self.ends.pages[page], (row & IN_PAGE) as usize);
        let from = if in_page == 0 { 0 } else { ends[in_page - 1] };
        &self.data[page][from as usize..ends[in_page] as usize]
    }

    pub fn drop_first_page(&mut self) {
        self.ends.drop_first_page();
        self.data.pop_front();
    }

    pub fn bytes(&self) -> usize {
        self.ends.bytes() + self.data.iter().map(Vec::capacity).sum::<usize>()
    }
}

#[derive(Debug)]
enum Values {
    /// Only NULLs.
    Null,
    Boolean(Paged<bool>),
    W1(Paged<u8>),
    W2(Paged<u16>),
    W4(Paged<u32>),
    W8(Paged<u64>),
    W16(Paged<u128>),
    W32(Paged<i256>),
    Utf8(PagedBytes),
    Binary(PagedBytes),
    Nested(PagedBytes, ValueCodec),
}

#[derive(Debug)]
struct StoredColumn {
    ty: DataType,
    values: Values,
    /// Made when the first NULL comes.
    valid: Option<Paged<bool>>,
}

macro_rules! for_fixed {
    ($values:expr, |$v:ident| $fixed:expr, $($rest:tt)*) => {
        match $values {
            Values::W1($v) => $fixed,
            Values::W2($v) => $fixed,
            Values::W4($v) => $fixed,
            Values::W8($v) => $fixed,
            Values::W16($v) => $fixed,
            Values::W32($v) => $fixed,
            $($rest)*
        }
    };
}

impl StoredColumn {
    fn new(ty: &DataType) -> Result<Self> {
        let values = match ty {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Boolean(Paged::default()),
            DataType::Utf8 => Values::Utf8(PagedBytes::default()),
            DataType::Binary => Values::Binary(PagedBytes::default()),
            ty => match ty.primitive_width() {
                Some(1) => Values::W1(Paged::default()),
                Some(2) => Values::W2(Paged::default()),
                Some(4) => Values::W4(Paged::default()),
                Some(8) => Values::W8(Paged::default()),
                Some(16) => Values::W16(Paged::default()),
                Some(32) => Values::W32(Paged::default()),
                _ => {
                    let sql = SqlType::from_arrow(ty);
                    let sql = sql.ok_or_else(|| Error::internal(format!("no SQL type lies in memory as {ty}")))?;
                    Values::Nested(PagedBytes::default(), ValueCodec::new(vec![sql]))
                }
            },
        };
        Ok(StoredColumn { ty: ty.clone(), values, valid: None })
    }

    /// `end`: number of the first of these rows; `start`: of the first row that there is.
    fn append(&mut self, array: &ArrayRef, start: u32, end: u32) -> Result<()> {
        if array.data_type() != &self.ty {
            return Err(Error::internal(format!("a column of {} where {} is expected", array.data_type(), self.ty)));
        }
        let rows = array.len();
        if array.null_count() > 0 && self.valid.is_none() && !matches!(self.values, Values::Null) {
            let mut valid = Paged { pages: VecDeque::new(), first: start >> PAGE_BITS };
            valid.extend_with(true, (end - start) as usize);
            self.valid = Some(valid);
        }
        if let Some(valid) = &mut self.valid {
            match array.nulls() {
                None => valid.extend_with(true, rows),
                Some(nulls) => valid.extend(&nulls.iter().collect::<Vec<_>>()),
            }
        }
        for_fixed!(
            &mut self.values,
            |v| append_fixed(v, array),
            Values::Null => {}
            Values::Boolean(v) => v.extend(&array.as_boolean().values().iter().collect::<Vec<_>>()),
            Values::Utf8(v) => {
                let strings = array.as_string::<i32>();
                for i in 0..rows {
                    v.push(if strings.is_null(i) { &[] } else { strings.value(i).as_bytes() })?;
                }
            }
            Values::Binary(v) => {
                let strings = array.as_binary::<i32>();
                for i in 0..rows {
                    v.push(if strings.is_null(i) { &[] } else { strings.value(i) })?;
                }
            }
            Values::Nested(v, codec) => {
                let mut encoded = KeyBatch::new();
                codec.encode(std::slice::from_ref(array), rows, &mut encoded)?;
                for value in encoded.iter() {
                    v.push(value)?;
                }
            }
        );
        Ok(())
    }

    fn gather(&self, rows: &[u32]) -> Result<ArrayRef> {
        let nulls = self.valid.as_ref().and_then(|valid| {
            let mut bits = Vec::with_capacity(rows.len());
            valid.gather(rows, &mut bits);
            Some(NullBuffer::from(bits)).filter(|n| n.null_count() > 0)
        });
        let bytes = |v: &PagedBytes| {
            let mut data = Vec::new();
            let mut offsets = Vec::with_capacity(rows.len() + 1);
            offsets.push(0);
            for &r in rows {
                data.extend_from_slice(v.get(r));
                offsets.push(i32::try_from(data.len()).map_err(|_| Error::row("more than 2 GiB in one batch"))?);
            }
            Ok::<_, Error>((OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(data)))
        };
        Ok(for_fixed!(
            &self.values,
            |v| gather_fixed(v, rows, &self.ty, nulls)?,
            Values::Null => new_null_array(&DataType::Null, rows.len()),
            Values::Boolean(v) => {
                let mut bits = Vec::with_capacity(rows.len());
                v.gather(rows, &mut bits);
                Arc::new(BooleanArray::new(BooleanBuffer::from(bits), nulls))
            }
            Values::Utf8(v) => {
                let (offsets, data) = bytes(v)?;
                // SAFETY: the values are whole strings of Utf8 arrays; the offsets are where they end.
                Arc::new(unsafe { StringArray::new_unchecked(offsets, data, nulls) })
            }
            Values::Binary(v) => {
                let (offsets, data) = bytes(v)?;
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Values::Nested(v, codec) => {
                let values: Vec<&[u8]> = rows.iter().map(|&r| v.get(r)).collect();
                let column = codec.decode(values.iter().copied())?.remove(0);
                // Names and nullability inside of the type are the column's own.
                if column.data_type() == &self.ty { column } else { arrow::compute::cast(&column, &self.ty)? }
            }
        ))
    }

    /// Whether the stored cell equals the cell of an array: NaNs are one value, -0.0 and 0.0 are two.
    fn equals(&self, row: u32, array: &ArrayRef, i: usize) -> bool {
        let valid = self.valid.as_ref().is_none_or(|v| v.get(row)) && !matches!(self.values, Values::Null);
        if !valid || array.is_null(i) {
            return valid == array.is_valid(i);
        }
        match &self.values {
            Values::Null => true,
            Values::Boolean(v) => v.get(row) == array.as_boolean().value(i),
            Values::Utf8(v) => v.get(row) == array.as_string::<i32>().value(i).as_bytes(),
            Values::Binary(v) => v.get(row) == array.as_binary::<i32>().value(i),
            Values::Nested(v, codec) => {
                let mut encoded = KeyBatch::new();
                codec.encode(&[array.slice(i, 1)], 1, &mut encoded).is_ok() && encoded.get(0) == v.get(row)
            }
            Values::W4(v) if self.ty == DataType::Float32 => {
                let (a, b) =
                    (f32::from_bits(v.get(row)), array.as_primitive::<arrow::datatypes::Float32Type>().value(i));
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
            }
            Values::W8(v) if self.ty == DataType::Float64 => {
                let (a, b) =
                    (f64::from_bits(v.get(row)), array.as_primitive::<arrow::datatypes::Float64Type>().value(i));
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
            }
            Values::W1(v) => v.get(row) == fixed_values::<u8>(array)[i],
            Values::W2(v) => v.get(row) == fixed_values::<u16>(array)[i],
            Values::W4(v) => v.get(row) == fixed_values::<u32>(array)[i],
            Values::W8(v) => v.get(row) == fixed_values::<u64>(array)[i],
            Values::W16(v) => v.get(row) == fixed_values::<u128>(array)[i],
            Values::W32(v) => v.get(row) == fixed_values::<i256>(array)[i],
        }
    }

    fn drop_first_page(&mut self) {
        for_fixed!(
            &mut self.values,
            |v| v.drop_first_page(),
            Values::Null => {}
            Values::Boolean(v) => v.drop_first_page(),
            Values::Utf8(v) | Values::Binary(v) | Values::Nested(v, _) => v.drop_first_page(),
        );
        if let Some(valid) = &mut self.valid {
            valid.drop_first_page();
        }
    }

    fn bytes(&self) -> usize {
        let values = for_fixed!(
            &self.values,
            |v| v.bytes(),
            Values::Null => 0,
            Values::Boolean(v) => v.bytes(),
            Values::Utf8(v) | Values::Binary(v) | Values::Nested(v, _) => v.bytes(),
        );
        values + self.valid.as_ref().map_or(0, Paged::bytes)
    }
}

/// The values of a primitive array as they lie, reinterpreted as plain words of their width.
fn fixed_values<T: ArrowNativeType>(array: &dyn Array) -> ScalarBuffer<T> {
    let data = array.to_data();
    ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
}

fn append_fixed<T: WordOf>(column: &mut Paged<T>, array: &ArrayRef) {
    column.extend(&fixed_values::<T::Native>(array).iter().map(|&v| T::from_native(v)).collect::<Vec<_>>());
}

fn gather_fixed<T: WordOf>(
    column: &Paged<T>,
    rows: &[u32],
    ty: &DataType,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let mut values = Vec::with_capacity(rows.len());
    column.gather(rows, &mut values);
    let buffer = Buffer::from_vec(values.into_iter().map(T::to_native).collect::<Vec<_>>());
    Ok(make_array(ArrayData::builder(ty.clone()).len(rows.len()).add_buffer(buffer).nulls(nulls).build()?))
}

/// A word and the native type of Arrow's that lies alike.
trait WordOf: Copy {
    type Native: ArrowNativeType;
    fn from_native(v: Self::Native) -> Self;
    fn to_native(self) -> Self::Native;
}

macro_rules! word_of {
    ($($word:ty => $native:ty),*) => {
        $(impl WordOf for $word {
            type Native = $native;
            #[inline]
            fn from_native(v: $native) -> Self {
                v as $word
            }
            #[inline]
            fn to_native(self) -> $native {
                self as $native
            }
        })*
    };
}

word_of!(u8 => u8, u16 => u16, u32 => u32, u64 => u64, u128 => i128);

impl WordOf for i256 {
    type Native = i256;
    fn from_native(v: i256) -> Self {
        v
    }
    fn to_native(self) -> i256 {
        self
    }
}

/// Rows of one schema.
#[derive(Debug)]
pub(crate) struct RowStore {
    schema: SchemaRef,
    columns: Vec<StoredColumn>,
    start: u32,
    end: u32,
}

impl RowStore {
    pub fn new(schema: SchemaRef) -> Result<Self> {
        let columns = schema.fields().iter().map(|f| StoredColumn::new(f.data_type())).collect::<Result<_>>()?;
        Ok(RowStore { schema, columns, start: 0, end: 0 })
    }

    /// The number of the oldest row that is there (or will be).
    pub fn start(&self) -> u32 {
        self.start
    }

    /// The number that the next row gets.
    pub fn end(&self) -> u32 {
        self.end
    }

    pub fn rows(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Appends all rows; the number of the first.
    pub fn append(&mut self, batch: &RecordBatch) -> Result<u32> {
        let first = self.end;
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            column.append(array, self.start, first)?;
        }
        let end = u64::from(first) + batch.num_rows() as u64;
        self.end = u32::try_from(end).map_err(|_| Error::internal("row numbers are used up"))?;
        Ok(first)
    }

    pub fn gather_columns(&self, rows: &[u32], columns: impl Iterator<Item = usize>) -> Result<Vec<ArrayRef>> {
        columns.map(|c| self.columns[c].gather(rows)).collect()
    }

    /// The rows of these numbers.
    pub fn gather(&self, rows: &[u32]) -> Result<RecordBatch> {
        let columns = self.gather_columns(rows, 0..self.columns.len())?;
        batch_of(self.schema.clone(), columns, rows.len())
    }

    /// Whether all columns are equal (as keys are).
    pub fn equals(&self, row: u32, batch: &RecordBatch, i: usize) -> bool {
        self.columns.iter().zip(batch.columns()).all(|(c, array)| c.equals(row, array, i))
    }

    /// Whether some columns are equal.
    pub fn equals_in(&self, row: u32, batch: &RecordBatch, i: usize, columns: &[usize]) -> bool {
        columns.iter().all(|&c| self.columns[c].equals(row, batch.column(c), i))
    }

    /// Frees the oldest page. A page that is not full ends here: the next row's number is that of the next page.
    pub fn drop_first_page(&mut self) {
        self.columns.iter_mut().for_each(StoredColumn::drop_first_page);
        self.start = (self.start & !IN_PAGE) + PAGE_ROWS as u32;
        self.end = self.end.max(self.start);
    }

    pub fn bytes(&self) -> usize {
        self.columns.iter().map(StoredColumn::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_core::testing::{changes, columns};

    #[test]
    fn rows_come_back_as_they_were_appended() {
        let types = columns("t s i I f F D L B T X d P Q Z");
        let text = "+ 1 2 3 4 1.5 -0.5 1.25 1.5 true 'a b' 6162 2024-02-29 2024-02-29T10:00:00 2024-02-29T10:00:00 2024-02-29T10:00:00
                    + . . . . . . . . . . . . . . .
                    + -1 -2 -3 -4 NaN inf -9.75 -1 false '' . 1969-01-01 1969-01-01T00:00:00 1969-01-01T00:00:00 .";
        let rows = changes(text, &types).batch;
        let mut store = RowStore::new(rows.schema()).unwrap();
        let mut expected = vec![];
        // Over several pages; the first ones without NULL.
        store.append(&rows.slice(0, 1)).unwrap();
        for _ in 0..PAGE_ROWS {
            store.append(&rows).unwrap();
        }
        let picked = [0, 1, 3 * 8000, 3 * 8000 + 1, 2];
        expected.extend([0, 0, 2, 0, 1]);
        let found = store.gather(&picked).unwrap();
        for (i, &e) in expected.iter().enumerate() {
            assert_eq!(found.slice(i, 1), rows.slice(e, 1), "row {i}");
            assert!(store.equals(picked[i], &rows, e), "row {i}");
            assert!(!store.equals(picked[i], &rows, (e + 1) % 3), "row {i}");
        }
        store.drop_first_page();
        assert_eq!(store.start(), PAGE_ROWS as u32);
        assert_eq!(store.gather(&[3 * 8000 + 1]).unwrap(), rows.slice(0, 1));
        while store.rows() > 0 {
            store.drop_first_page();
        }
        let at = store.append(&rows).unwrap();
        assert_eq!(at % PAGE_ROWS as u32, 0);
        assert_eq!(store.gather(&[at + 1, at]).unwrap().slice(1, 1), rows.slice(0, 1));
    }
}
