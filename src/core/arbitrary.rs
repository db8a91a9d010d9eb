//! For the tests of hash and codecs: any SQL type, any values of it, and SQL's order written down plainly.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{IntervalMonthDayNano, i256};
use proptest::prelude::*;

use crate::cells::{Cells, CellsBuilder, Shape, ShapeBuilder, bytes_at, items_at, push_end};
use crate::types::{Column, ElementType, SqlType};

#[derive(Debug, Clone)]
pub enum Cell {
    Null,
    Bool(bool),
    /// All integers, DATE, TIME, TIMESTAMP.
    Int(i64),
    /// FLOAT too.
    Float(f64),
    Decimal(i256),
    /// Strings and bytes.
    Bytes(Vec<u8>),
    Interval(i32, i32, i64),
    List(Vec<Cell>),
    Map(Vec<(Cell, Cell)>),
    Row(Vec<Cell>),
}

/// As SQL keys: -0.0 is 0.0, NaN is NaN.
impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Cell::Map(a), Cell::Map(b)) => a == b,
            (Cell::Interval(a, b, c), Cell::Interval(d, e, f)) => (a, b, c) == (d, e, f),
            (Cell::List(a), Cell::List(b)) | (Cell::Row(a), Cell::Row(b)) => a == b,
            _ => compare(self, other, false, true) == Ordering::Equal,
        }
    }
}

pub fn compare(a: &Cell, b: &Cell, descending: bool, nulls_first: bool) -> Ordering {
    let null = |first: bool| if first { Ordering::Less } else { Ordering::Greater };
    let order = match (a, b) {
        (Cell::Null, Cell::Null) => return Ordering::Equal,
        (Cell::Null, _) => return null(nulls_first),
        (_, Cell::Null) => return null(!nulls_first),
        (Cell::Bool(a), Cell::Bool(b)) => a.cmp(b),
        (Cell::Int(a), Cell::Int(b)) => a.cmp(b),
        (Cell::Float(a), Cell::Float(b)) => match (a.is_nan(), b.is_nan()) {
            (false, false) => a.partial_cmp(b).expect("numbers"),
            (a, b) => a.cmp(&b),
        },
        (Cell::Decimal(a), Cell::Decimal(b)) => a.cmp(b),
        (Cell::Bytes(a), Cell::Bytes(b)) => a.cmp(b),
        (Cell::List(a), Cell::List(b)) => {
            let first = a.iter().zip(b).map(|(a, b)| compare(a, b, false, true)).find(|o| o.is_ne());
            first.unwrap_or(a.len().cmp(&b.len()))
        }
        (Cell::Row(a), Cell::Row(b)) => {
            let first = a.iter().zip(b).map(|(a, b)| compare(a, b, false, true)).find(|o| o.is_ne());
            first.unwrap_or(Ordering::Equal)
        }
        _ => panic!("no order between {a:?} and {b:?}"),
    };
    if descending { order.reverse() } else { order }
}

pub fn array_of(ty: &SqlType, cells: &[Cell]) -> ArrayRef {
    let mut builder = CellsBuilder::new(&ty.to_arrow(), cells.len()).unwrap();
    cells.iter().for_each(|c| push(&mut builder, c));
    builder.finish().unwrap()
}

fn push(builder: &mut CellsBuilder, cell: &Cell) {
    match (&mut builder.shape, cell) {
        (_, Cell::Null) => return builder.push_null(),
        (ShapeBuilder::Boolean(v), Cell::Bool(b)) => v.append(*b),
        (ShapeBuilder::I8(v), Cell::Int(i)) => v.push(*i as i8),
        (ShapeBuilder::I16(v), Cell::Int(i)) => v.push(*i as i16),
        (ShapeBuilder::I32(v), Cell::Int(i)) => v.push(*i as i32),
        (ShapeBuilder::I64(v), Cell::Int(i)) => v.push(*i),
        (ShapeBuilder::I128(v), Cell::Decimal(d)) => v.push(d.to_i128().unwrap()),
        (ShapeBuilder::I256(v), Cell::Decimal(d)) => v.push(*d),
        (ShapeBuilder::F32(v), Cell::Float(f)) => v.push(*f as f32),
        (ShapeBuilder::F64(v), Cell::Float(f)) => v.push(*f),
        (ShapeBuilder::Bytes { ends, data }, Cell::Bytes(bytes)) => {
            data.extend_from_slice(bytes);
            push_end(ends, data.len()).unwrap();
        }
        (ShapeBuilder::Interval(v), Cell::Interval(months, days, ns)) => {
            v.push(IntervalMonthDayNano::new(*months, *days, *ns));
        }
        (ShapeBuilder::List { ends, items }, Cell::List(cells)) => {
            cells.iter().for_each(|c| push(items, c));
            push_end(ends, items.len()).unwrap();
        }
        (ShapeBuilder::Map { ends, keys, values }, Cell::Map(entries)) => {
            for (k, v) in entries {
                push(keys, k);
                push(values, v);
            }
            push_end(ends, keys.len()).unwrap();
        }
        (ShapeBuilder::Row(fields), Cell::Row(cells)) => {
            fields.iter_mut().zip(cells).for_each(|(f, c)| push(f, c));
        }
        (_, cell) => panic!("{cell:?} does not fit the type"),
    }
    builder.push_valid();
}

pub fn cells_of(ty: &SqlType, array: &dyn Array) -> Vec<Cell> {
    let cells = Cells::of(array).unwrap();
    (0..array.len()).map(|row| cell(ty, &cells, row)).collect()
}

fn cell(ty: &SqlType, cells: &Cells, row: usize) -> Cell {
    if cells.is_null(row) {
        return Cell::Null;
    }
    match (&cells.shape, ty) {
        (Shape::Boolean(v), _) => Cell::Bool(v.value(row)),
        (Shape::I8(v), _) => Cell::Int(v[row].into()),
        (Shape::I16(v), _) => Cell::Int(v[row].into()),
        (Shape::I32(v), _) => Cell::Int(v[row].into()),
        (Shape::I64(v), _) => Cell::Int(v[row]),
        (Shape::I128(v), _) => Cell::Decimal(i256::from_i128(v[row])),
        (Shape::I256(v), _) => Cell::Decimal(v[row]),
        (Shape::F32(v), _) => Cell::Float(v[row].into()),
        (Shape::F64(v), _) => Cell::Float(v[row]),
        (Shape::Bytes { offsets, data }, _) => Cell::Bytes(bytes_at(offsets, data, row).to_vec()),
        (Shape::Interval(v), _) => Cell::Interval(v[row].months, v[row].days, v[row].nanoseconds),
        (Shape::List { offsets, items }, SqlType::Array(e)) => {
            Cell::List(items_at(offsets, row).map(|i| cell(&e.ty, items, i)).collect())
        }
        (Shape::Map { offsets, keys, values }, SqlType::Map(k, v)) => {
            Cell::Map(items_at(offsets, row).map(|i| (cell(k, keys, i), cell(&v.ty, values, i))).collect())
        }
        (Shape::Row(fields), SqlType::Row(columns)) => {
            Cell::Row(fields.iter().zip(columns).map(|(f, c)| cell(&c.ty, f, row)).collect())
        }
        _ => panic!("not a {ty}"),
    }
}

/// A type and up to 12 values of it; with `unordered`, also types without an order (MAP, INTERVAL).
pub fn typed_cells(unordered: bool) -> impl Strategy<Value = (SqlType, Vec<Cell>)> {
    sql_type(unordered).prop_flat_map(|ty| {
        let cells = prop::collection::vec(any_cell(&ty), 1..12);
        (Just(ty), cells)
    })
}

fn sql_type(unordered: bool) -> BoxedStrategy<SqlType> {
    let decimal = (1u8..=65).prop_map(|precision| SqlType::Decimal { precision, scale: 2.min(precision as i8) });
    let mut leaves = vec![
        Just(SqlType::Null).boxed(),
        Just(SqlType::Boolean).boxed(),
        Just(SqlType::TinyInt).boxed(),
        Just(SqlType::SmallInt).boxed(),
        Just(SqlType::Int).boxed(),
        Just(SqlType::BigInt).boxed(),
        Just(SqlType::Float).boxed(),
        Just(SqlType::Double).boxed(),
        decimal.boxed(),
        Just(SqlType::STRING).boxed(),
        Just(SqlType::BYTES).boxed(),
        Just(SqlType::Date).boxed(),
        (0u8..=9).prop_map(SqlType::Time).boxed(),
        (0u8..=9).prop_map(SqlType::Timestamp).boxed(),
        (0u8..=9).prop_map(SqlType::TimestampLtz).boxed(),
    ];
    if unordered {
        leaves.push(Just(SqlType::Interval).boxed());
    }
    prop::strategy::Union::new(leaves)
        .prop_recursive(2, 8, 3, move |inner| {
            let element = inner.clone().prop_map(|ty| Box::new(ElementType { ty, nullable: true }));
            let array = element.clone().prop_map(SqlType::Array).boxed();
            let row = prop::collection::vec(inner.clone(), 0..3).prop_map(|types| {
                let name = |i: usize| format!("f{i}");
                SqlType::Row(types.into_iter().enumerate().map(|(i, ty)| Column::new(name(i), ty, true)).collect())
            });
            let keys = prop_oneof![Just(SqlType::Int), Just(SqlType::STRING), Just(SqlType::Double)];
            let map = (keys, element).prop_map(|(k, v)| SqlType::Map(Box::new(k), v)).boxed();
            let mut nested = vec![array, row.boxed()];
            if unordered {
                nested.push(map);
            }
            prop::strategy::Union::new(nested)
        })
        .boxed()
}

fn any_cell(ty: &SqlType) -> BoxedStrategy<Cell> {
    if *ty == SqlType::Null {
        return Just(Cell::Null).boxed();
    }
    prop_oneof![1 => Just(Cell::Null), 4 => any_value(ty)].boxed()
}

fn any_value(ty: &SqlType) -> BoxedStrategy<Cell> {
    fn int(min: i64, max: i64) -> BoxedStrategy<Cell> {
        prop_oneof![min..=max, -2i64..=2, Just(min), Just(max)].prop_map(Cell::Int).boxed()
    }
    let float = prop_oneof![
        any::<f64>(),
        Just(0.0),
        Just(-0.0),
        Just(f64::NAN),
        Just(-f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        -2.0..2.0
    ];
    match ty {
        SqlType::Null => Just(Cell::Null).boxed(),
        SqlType::Boolean => any::<bool>().prop_map(Cell::Bool).boxed(),
        SqlType::TinyInt => int(i8::MIN.into(), i8::MAX.into()),
        SqlType::SmallInt => int(i16::MIN.into(), i16::MAX.into()),
        SqlType::Int | SqlType::Date => int(i32::MIN.into(), i32::MAX.into()),
        SqlType::BigInt | SqlType::Time(_) | SqlType::Timestamp(_) | SqlType::TimestampLtz(_) => {
            int(i64::MIN, i64::MAX)
        }
        SqlType::Float => float.prop_map(|f| Cell::Float((f as f32).into())).boxed(),
        SqlType::Double => float.prop_map(Cell::Float).boxed(),
        SqlType::Decimal { precision, .. } if *precision <= 38 => {
            prop_oneof![any::<i128>(), -300i128..300].prop_map(|d| Cell::Decimal(i256::from_i128(d))).boxed()
        }
        SqlType::Decimal { .. } => {
            let wide = (any::<u128>(), any::<i128>()).prop_map(|(low, high)| i256::from_parts(low, high));
            prop_oneof![wide, (-300i128..300).prop_map(i256::from_i128)].prop_map(Cell::Decimal).boxed()
        }
        SqlType::Char(_) | SqlType::VarChar(_) => {
            "[\u{0}\u{1}\u{2}abé\u{10ffff}]{0,6}".prop_map(|s| Cell::Bytes(s.into_bytes())).boxed()
        }
        SqlType::Binary(_) | SqlType::VarBinary(_) => {
            prop::collection::vec(prop_oneof![any::<u8>(), 0u8..3], 0..6).prop_map(Cell::Bytes).boxed()
        }
        SqlType::Interval => {
            (any::<i32>(), any::<i32>(), any::<i64>()).prop_map(|(m, d, n)| Cell::Interval(m, d, n)).boxed()
        }
        SqlType::Array(e) => prop::collection::vec(any_cell(&e.ty), 0..4).prop_map(Cell::List).boxed(),
        SqlType::Map(k, v) => prop::collection::vec((any_value(k), any_cell(&v.ty)), 0..4).prop_map(Cell::Map).boxed(),
        SqlType::Row(columns) => {
            let fields: Vec<_> = columns.iter().map(|c| any_cell(&c.ty)).collect();
            fields.prop_map(Cell::Row).boxed()
        }
    }
}
