//! The order-preserving key codec: columns ↔ bytes whose unsigned comparison is the SQL order. Ours and frozen.
//!
//! # Bytes
//!
//! A key is its columns one after another. A column is a marker byte and, unless NULL, the value:
//!
//! | | NULLS FIRST | NULLS LAST |
//! | --- | --- | --- |
//! | NULL | `00` | `02` |
//! | a value | `01` value | `01` value |
//!
//! The value bytes, ascending; for a descending column every value byte is inverted (the marker is not):
//!
//! | type | bytes | example |
//! | --- | --- | --- |
//! | BOOLEAN | 1 | false `00`, true `01` |
//! | TINYINT, SMALLINT, INT, BIGINT | 1, 2, 4, 8: big-endian, sign bit flipped | INT 1 `80 00 00 01` |
//! | DATE; TIME, TIMESTAMP, TIMESTAMP_LTZ | as INT; as BIGINT, in the unit of `SqlType::to_arrow` | |
//! | FLOAT, DOUBLE | 4, 8: IEEE bits, big-endian; positive: sign bit flipped, negative: all bits flipped | 1.0 `BF F0 00 …` |
//! | DECIMAL to 38 digits, above | 16, 32: the unscaled value big-endian, sign bit flipped | |
//! | strings, bytes | each byte as it is, but `00` as `01 01` and `01` as `01 02`; then `00` | 'a' `61 00` |
//! | ARRAY | per element `01` if NULL, else `02` value; then `00` | |
//! | ROW | per field `00` if NULL, else `01` value | |
//!
//! -0.0 is written as 0.0, and every NaN as the one that is greater than all numbers; in an *exact* column -0.0 has bytes
//! of its own, those right before 0.0's (`7F FF …`). Strings compare by their UTF-8 bytes. Inside of arrays and rows NULL comes first; a shorter array comes before its continuations. MAP and
//! INTERVAL have no order and are refused, except in exact columns.
//!
//! Why the order holds: each form is such that of two different values neither is a prefix of the other, so the first
//! differing byte lies within the first differing column, and there it decides as SQL does. It follows that keys of a
//! shorter column list are prefixes of those of a longer one, and that within one list no key is a proper prefix of
//! another.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use crate::cells::{Cells, CellsBuilder};
use crate::error::{Error, Result};
use crate::key_group::PREFIX_BYTES;
use crate::state::KeyBatch;
use crate::types::SqlType;

mod decode;
mod encode;
mod exact;
mod fixed;

use decode::{decode_column, skip_column};
use encode::{encode_fixed, encode_variable, fixed_stride};
use exact::Form;

/// Version of the byte format, stored in manifests.
pub const KEY_CODEC_VERSION: u32 = 1;

const NULL_FIRST: u8 = 0;
const VALUE: u8 = 1;
const NULL_LAST: u8 = 2;

/// Within strings and bytes.
const STRING_END: u8 = 0;
const STRING_ESCAPE: u8 = 1;

/// Within arrays.
const ARRAY_END: u8 = 0;
const ARRAY_NULL: u8 = 1;
const ARRAY_VALUE: u8 = 2;

/// One key column: type and order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOrder {
    pub ty: SqlType,
    pub descending: bool,
    pub nulls_first: bool,
    /// The column tells rows apart and is compared with nothing, see `key::exact`: -0.0 is not 0.0.
    pub exact: bool,
}

impl KeyOrder {
    pub fn ascending(ty: SqlType) -> Self {
        KeyOrder { ty, descending: false, nulls_first: true, exact: false }
    }

    /// The same as a column that tells rows apart.
    #[must_use]
    pub fn exact(self) -> Self {
        KeyOrder { exact: true, ..self }
    }

    #[inline]
    fn null_marker(&self) -> u8 {
        if self.nulls_first { NULL_FIRST } else { NULL_LAST }
    }

    /// What value bytes are xored with.
    #[inline]
    fn mask(&self) -> u8 {
        if self.descending { 0xff } else { 0 }
    }
}

/// Encodes and decodes keys of a fixed list of columns. Equal values (also -0.0 and 0.0 but in exact columns, all NaNs)
/// give equal bytes; the encoding of a column list is a prefix of that of a longer list, and no key is a proper prefix of another of
/// the same list.
#[derive(Debug, Clone)]
pub struct KeyCodec {
    columns: Vec<KeyOrder>,
    /// How each is written, and as what.
    forms: Vec<Form>,
    written: Vec<KeyOrder>,
}

impl KeyCodec {
    pub fn new(columns: Vec<KeyOrder>) -> Self {
        let forms: Vec<Form> = columns.iter().map(Form::of).collect();
        let written = forms.iter().zip(&columns).map(|(f, c)| f.written(c)).collect();
        KeyCodec { columns, forms, written }
    }

    pub fn columns(&self) -> &[KeyOrder] {
        &self.columns
    }

    /// Appends one key per row to `out`. With `groups`, each key begins with its key group (big-endian).
    /// `columns` may be shorter than the codec's list: then prefixes are encoded.
    ///
    /// # Errors
    /// MAP and INTERVAL columns that are not exact, and arrays that do not lie as `SqlType::to_arrow` says or have not `rows` rows.
    /// Nothing was appended then.
    pub fn encode(&self, groups: Option<&[u16]>, columns: &[ArrayRef], rows: usize, out: &mut KeyBatch) -> Result<()> {
        self.first_columns(columns.len())?;
        let orders = &self.written[..columns.len()];
        let types: Vec<&SqlType> = orders.iter().map(|o| &o.ty).collect();
        let written: Vec<ArrayRef>;
        let columns = if self.forms[..columns.len()].iter().all(|f| matches!(f, Form::Plain)) {
            columns
        } else {
            written = columns.iter().zip(&self.forms).map(|(c, f)| f.encode(c)).collect::<Result<_>>()?;
            &written
        };
        let cells = Cells::of_columns(columns, &types, rows)?;
        if groups.is_some_and(|g| g.len() != rows) {
            return Err(Error::internal("a key batch needs one key group per row"));
        }
        if out.ends.is_empty() {
            out.ends.push(0);
        }
        let prefix = if groups.is_some() { PREFIX_BYTES } else { 0 };
        match fixed_stride(&cells, prefix) {
            Some(stride) => encode_fixed(groups, &cells, orders, stride, rows, out),
            None => encode_variable(groups, &cells, orders, rows, out),
        }
        Ok(())
    }

    /// The columns of the given keys (without the key group), of the types that `SqlType::to_arrow` gives.
    /// A damaged key is an error.
    pub fn decode<'a>(&self, keys: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Result<Vec<ArrayRef>> {
        let types: Vec<DataType> = self.columns.iter().map(|c| c.ty.to_arrow()).collect();
        self.decode_as(&types, keys.collect())
    }

    /// As `decode`, into arrays of types that lie alike but may differ in the names and nullability of nested fields.
    pub(crate) fn decode_as(&self, types: &[DataType], mut keys: Vec<&[u8]>) -> Result<Vec<ArrayRef>> {
        let rows = keys.len();
        let mut arrays = Vec::with_capacity(types.len());
        for (i, ((form, order), ty)) in self.forms.iter().zip(&self.written).zip(types).enumerate() {
            let damaged = || Error::checkpoint(format!("damaged key: column {i} is not a {}", self.columns[i].ty));
            let mut builder = CellsBuilder::new(&form.written_type(ty), rows)?;
            decode_column(order, &mut keys, &mut builder).ok_or_else(damaged)?;
            let array = builder.finish().map_err(|e| damaged().note(e.message()))?;
            arrays.push(form.decode(array, ty)?);
        }
        match keys.iter().all(|k| k.is_empty()) {
            true => Ok(arrays),
            false => Err(Error::checkpoint("damaged key: bytes behind the last column")),
        }
    }

    /// How many bytes the first `columns` columns of `key` take (a key without its key group). Operators find the
    /// routing prefix of a stored key by it.
    ///
    /// # Errors
    /// A damaged key.
    pub fn encoded_prefix_len(&self, key: &[u8], columns: usize) -> Result<usize> {
        let mut rest = key;
        for (i, order) in self.first_columns(columns)?.iter().enumerate() {
            skip_column(&self.written[i], &mut rest)
                .ok_or_else(|| Error::checkpoint(format!("damaged key: column {i} is not a {}", order.ty)))?;
        }
        Ok(key.len() - rest.len())
    }

    fn first_columns(&self, columns: usize) -> Result<&[KeyOrder]> {
        let orders = self.columns.get(..columns).ok_or_else(|| {
            Error::internal(format!("{columns} key columns where at most {} are expected", self.columns.len()))
        })?;
        match orders.iter().find(|o| !o.exact && !o.ty.is_orderable()) {
            Some(o) => Err(Error::type_(format!("values of type {} have no order and cannot be a key", o.ty))),
            None => Ok(orders),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::i256;
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{Cell, array_of, cells_of, compare, typed_cells};
    use crate::types::{Column, ElementType};

    fn encode(codec: &KeyCodec, groups: Option<&[u16]>, columns: &[ArrayRef]) -> KeyBatch {
        let mut out = KeyBatch::new();
        let rows = columns.first().map_or(0, |c| c.len());
        codec.encode(groups, columns, rows, &mut out).unwrap();
        out
    }

    fn order(ty: &SqlType, descending: bool, nulls_first: bool) -> KeyOrder {
        KeyOrder { ty: ty.clone(), descending, nulls_first, exact: false }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_bytes_are_frozen() {
        use Cell::*;
        let element = |ty| Box::new(ElementType { ty, nullable: true });
        let decimal = |precision| SqlType::Decimal { precision, scale: 2 };
        let row = SqlType::Row(vec![Column::new("a", SqlType::Int, true), Column::new("b", SqlType::STRING, true)]);
        let text = |s: &str| Bytes(s.as_bytes().to_vec());
        let wide_minus_one = format!("017f{}", "ff".repeat(31));
        let golden: Vec<(SqlType, Cell, &str)> = vec![
            (SqlType::Null, Null, "00"),
            (SqlType::Boolean, Bool(true), "0101"),
            (SqlType::TinyInt, Int(-1), "017f"),
            (SqlType::SmallInt, Int(1), "018001"),
            (SqlType::Int, Int(1), "0180000001"),
            (SqlType::BigInt, Int(-2), "017ffffffffffffffe"),
            (SqlType::BigInt, Null, "00"),
            (SqlType::Float, Float(1.0), "01bf800000"),
            (SqlType::Double, Float(1.0), "01bff0000000000000"),
            (SqlType::Double, Float(-1.0), "01400fffffffffffff"),
            (SqlType::Double, Float(-0.0), "018000000000000000"),
            (SqlType::Double, Float(f64::NAN), "01fff8000000000000"),
            (decimal(10), Decimal(i256::from_i128(100)), "0180000000000000000000000000000064"),
            (decimal(38), Decimal(i256::from_i128(-1)), "017fffffffffffffffffffffffffffffff"),
            (decimal(39), Decimal(i256::from_i128(-1)), &wide_minus_one),
            (SqlType::STRING, text("ab"), "01616200"),
            (SqlType::STRING, text(""), "0100"),
            (SqlType::BYTES, Bytes(vec![0, 1, 2, 255]), "010101010202ff00"),
            (SqlType::Date, Int(1), "0180000001"),
            (SqlType::Time(3), Int(1), "018000000000000001"),
            (SqlType::Timestamp(3), Int(1), "018000000000000001"),
            (SqlType::TimestampLtz(6), Int(1), "018000000000000001"),
            (SqlType::Array(element(SqlType::TinyInt)), List(vec![Int(1), Null]), "0102810100"),
            (row, Row(vec![Null, text("a")]), "0100016100"),
        ];
        for (ty, cell, expected) in golden {
            let column = [array_of(&ty, std::slice::from_ref(&cell))];
            let ascending = encode(&KeyCodec::new(vec![order(&ty, false, true)]), None, &column);
            assert_eq!(hex(ascending.get(0)), expected, "{ty} {cell:?}");
            let descending = encode(&KeyCodec::new(vec![order(&ty, true, false)]), Some(&[258]), &column);
            let key = descending.get(0);
            assert_eq!(key[..2], [1, 2]);
            let expected: Vec<u8> = ascending.get(0)[1..].iter().map(|b| !b).collect();
            assert_eq!(key[2], if cell == Null { 2 } else { 1 });
            assert_eq!(key[3..], expected, "{ty} {cell:?}");
        }
    }

    #[test]
    fn an_exact_column_tells_the_zeros_apart_and_gives_them_back() {
        use Cell::*;
        let element = |ty| Box::new(ElementType { ty, nullable: true });
        let row = SqlType::Row(vec![Column::new("f", SqlType::Float, true), Column::new("s", SqlType::STRING, true)]);
        let zeros = [f64::NEG_INFINITY, -5e-324, -0.0, 0.0, 5e-324, f64::INFINITY, f64::NAN].map(Float);
        let rows = zeros.clone().map(|z| Row(vec![z, Null]));
        let arrays = zeros.clone().map(|z| List(vec![z, Null]));
        for (ty, cells) in
            [(SqlType::Double, &zeros), (SqlType::Array(element(SqlType::Double)), &arrays), (row, &rows)]
        {
            for descending in [false, true] {
                let column = array_of(&ty, cells);
                let codec = KeyCodec::new(vec![order(&ty, descending, true).exact()]);
                let keys = encode(&codec, None, std::slice::from_ref(&column));
                let mut sorted: Vec<&[u8]> = keys.iter().collect();
                if descending {
                    sorted.reverse();
                }
                let is_float = matches!(ty, SqlType::Row(_));
                // As FLOAT the smallest DOUBLE is a zero too.
                assert!(sorted.windows(2).all(|w| w[0] < w[1] || (is_float && w[0] == w[1])), "{ty}");
                let back = codec.decode(keys.iter().collect::<Vec<_>>().into_iter()).unwrap();
                assert_eq!(format!("{:?}", back[0]), format!("{column:?}"), "{ty}");
            }
        }
    }

    #[test]
    fn maps_and_intervals_are_refused() {
        let map = SqlType::Map(Box::new(SqlType::Int), Box::new(ElementType { ty: SqlType::Int, nullable: true }));
        let in_row = SqlType::Row(vec![Column::new("m", map.clone(), true)]);
        for ty in [map, in_row, SqlType::Interval] {
            let codec = KeyCodec::new(vec![KeyOrder::ascending(ty.clone())]);
            let e = codec.encode(None, &[array_of(&ty, &[Cell::Null])], 1, &mut KeyBatch::new()).unwrap_err();
            assert!(e.message().contains(&ty.to_string()), "{e}");
            // But in an exact column, NULL is a value as others.
            let codec = KeyCodec::new(vec![KeyOrder::ascending(ty.clone()).exact()]);
            let column = array_of(&ty, &[Cell::Null]);
            let keys = encode(&codec, None, std::slice::from_ref(&column));
            assert_eq!(codec.encoded_prefix_len(keys.get(0), 1).unwrap(), keys.get(0).len());
            assert_eq!(&codec.decode(keys.iter().collect::<Vec<_>>().into_iter()).unwrap()[0], &column);
        }
    }

    #[test]
    fn a_column_of_another_layout_is_an_error() {
        let codec = KeyCodec::new(vec![KeyOrder::ascending(SqlType::Decimal { precision: 10, scale: 2 })]);
        let other = SqlType::Decimal { precision: 10, scale: 3 };
        assert!(codec.encode(None, &[array_of(&other, &[Cell::Null])], 1, &mut KeyBatch::new()).is_err());
        assert!(codec.encode(None, &[array_of(&SqlType::BigInt, &[Cell::Null])], 1, &mut KeyBatch::new()).is_err());
        assert!(codec.encode(None, &[array_of(&codec.columns[0].ty, &[Cell::Null])], 2, &mut KeyBatch::new()).is_err());
    }

    #[test]
    fn without_columns_a_key_is_its_group() {
        let mut out = KeyBatch::default();
        KeyCodec::new(vec![]).encode(Some(&[1, 2]), &[], 2, &mut out).unwrap();
        assert_eq!(out.iter().collect::<Vec<_>>(), [[0, 1], [0, 2]]);
        let mut out = KeyBatch::default();
        KeyCodec::new(vec![]).encode(None, &[], 2, &mut out).unwrap();
        assert_eq!(out.len(), 2);
        assert_eq!(KeyCodec::new(vec![]).decode(out.iter().collect::<Vec<_>>().into_iter()).unwrap().len(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn byte_order_is_sql_order_and_nothing_is_lost(
            (a, b) in (typed_cells(false), typed_cells(false)),
            flags in any::<[bool; 4]>(),
            grouped in any::<bool>(),
        ) {
            let rows = a.1.len().min(b.1.len());
            let columns = [array_of(&a.0, &a.1[..rows]), array_of(&b.0, &b.1[..rows])];
            let codec = KeyCodec::new(vec![order(&a.0, flags[0], flags[1]), order(&b.0, flags[2], flags[3])]);
            let groups = vec![7; rows];
            let mut keys = KeyBatch::new();
            keys.push(b"before");
            codec.encode(grouped.then_some(&groups), &columns, rows, &mut keys).unwrap();
            let skip = if grouped { 2 } else { 0 };
            let keys: Vec<&[u8]> = keys.iter().skip(1).map(|k| &k[skip..]).collect();
            for i in 0..rows {
                for j in 0..rows {
                    let expected = compare(&a.1[i], &a.1[j], flags[0], flags[1])
                        .then_with(|| compare(&b.1[i], &b.1[j], flags[2], flags[3]));
                    prop_assert_eq!(keys[i].cmp(keys[j]), expected, "rows {} and {} of {:?} {:?}", i, j, &a, &b);
                    prop_assert!(keys[i] == keys[j] || !keys[i].starts_with(keys[j]));
                }
            }
            // Prefixes.
            let first = encode(&codec, None, &columns[..1]);
            for (i, key) in keys.iter().enumerate() {
                prop_assert!(key.starts_with(first.get(i)));
                prop_assert_eq!(codec.encoded_prefix_len(key, 1).unwrap(), first.get(i).len());
                prop_assert_eq!(codec.encoded_prefix_len(key, 2).unwrap(), key.len());
                prop_assert_eq!(codec.encoded_prefix_len(key, 0).unwrap(), 0);
            }
            // And back; -0.0 comes back as 0.0, which `Cell` says is equal.
            let decoded = codec.decode(keys.iter().copied()).unwrap();
            for (array, (ty, cells)) in decoded.iter().zip([&a, &b]) {
                prop_assert_eq!(array.data_type(), &ty.to_arrow());
                prop_assert_eq!(&cells_of(ty, array)[..], &cells[..rows]);
            }
            // Cut or lengthened keys are damaged.
            for key in &keys {
                for end in 0..key.len() {
                    prop_assert!(codec.decode([&key[..end]].into_iter()).is_err());
                }
                let longer = [key, &[0u8][..]].concat();
                prop_assert!(codec.decode([&longer[..]].into_iter()).is_err());
            }
        }

        #[test]
        fn damaged_keys_never_panic((ty, _) in typed_cells(false), bytes in prop::collection::vec(any::<u8>(), 0..40), descending in any::<bool>()) {
            let codec = KeyCodec::new(vec![order(&ty, descending, true)]);
            let _ = codec.decode([&bytes[..]].into_iter());
            let _ = codec.encoded_prefix_len(&bytes, 1);
        }
    }
}
