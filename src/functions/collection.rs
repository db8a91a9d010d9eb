//! Functions of arrays and maps that Flink has under a name or with a meaning of its own; DataFusion's others are there
//! beside them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, MapBuilder, StringBuilder};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type, UInt64Type};
use datafusion_common::ScalarValue;
use thalweg_core::types::ElementType;
use thalweg_core::{Error, Result, SqlType};

use crate::function::{Arg, Call, Function, Ret};
use crate::regex::pattern;

pub const FUNCTIONS: &[Function] = &[
    Function::new("cardinality", &[Arg::Any], Ret::Int, cardinality, "CARDINALITY(array or map)", "Number of elements."),
    Function::new("element", &[Arg::Array], Ret::By(element_type), element, "ELEMENT(array)", "The only element; NULL of an empty array; an error if there are several."),
    Function::new("array_contains", &[Arg::Array, Arg::Any], Ret::Bool, array_contains, "ARRAY_CONTAINS(array, value)", "Whether the value (also NULL) is in the array."),
    Function::new("map_keys", &[Arg::Any], Ret::By(keys_type), |c| side(c, true), "MAP_KEYS(map)", "The keys, as an array."),
    Function::new("map_values", &[Arg::Any], Ret::By(values_type), |c| side(c, false), "MAP_VALUES(map)", "The values, as an array."),
    Function::new("str_to_map", &[Arg::Str, Arg::Str, Arg::Str], Ret::By(str_to_map_type), str_to_map, "STR_TO_MAP(string[, separator1, separator2])", "A map of texts: separator1 (',') between entries, separator2 ('=') between key and value; both are regular expressions.").optional(2),
];

fn bad(what: &str, ty: Option<&DataType>) -> Error {
    let ty = ty.map_or_else(String::new, |t| SqlType::from_arrow(t).map_or_else(|| t.to_string(), |t| t.to_string()));
    Error::type_(format!("{what}, not {ty}"))
}

fn cardinality(c: &Call) -> Result<ArrayRef> {
    let array = c.array(0);
    let offsets = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value_offsets(),
        DataType::Map(..) => array.as_map().value_offsets(),
        DataType::Null => return c.values::<Int32Type>(|_| None),
        other => return Err(bad("CARDINALITY takes an array or a map", Some(other))),
    };
    c.values::<Int32Type>(|row| {
        let i = c.index(0, row);
        array.is_valid(i).then(|| offsets[i + 1] - offsets[i])
    })
}

fn element_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    match types.first() {
        Some(DataType::List(f)) => Ok(f.data_type().clone()),
        other => Err(bad("ELEMENT takes an array", other)),
    }
}

fn element(c: &Call) -> Result<ArrayRef> {
    let list = c.array(0).as_list::<i32>();
    let offsets = list.value_offsets();
    let indices = (0..c.rows)
        .map(|row| {
            let i = c.index(0, row);
            match offsets[i + 1] - offsets[i] {
                _ if list.is_null(i) => Ok(None),
                0 => Ok(None),
                1 => Ok(Some(offsets[i] as u64)),
                n => Err(Error::row(format!("ELEMENT of an array with {n} elements"))),
            }
        })
        .collect::<Result<arrow::array::PrimitiveArray<UInt64Type>>>()?;
    Ok(take(list.values(), &indices, None)?)
}

fn array_contains(c: &Call) -> Result<ArrayRef> {
    let list = c.array(0).as_list::<i32>();
    let element = SqlType::from_arrow(list.values().data_type());
    let value = SqlType::from_arrow(c.array(1).data_type());
    let (Some(element), Some(value)) = (element, value) else {
        return Err(bad("ARRAY_CONTAINS cannot look for a value", Some(c.array(1).data_type())));
    };
    let values = crate::cast::cast(c.array(1), &value, &element, false)?;
    // Every element next to the value that is looked for in its row.
    let offsets = list.value_offsets();
    let mut at = Vec::new();
    let mut beside = Vec::new();
    for row in 0..c.rows {
        let i = c.index(0, row);
        for e in offsets[i]..offsets[i + 1] {
            at.push(e as u64);
            beside.push(c.index(1, row) as u64);
        }
    }
    let elements = take(list.values(), &arrow::array::UInt64Array::from(at), None)?;
    let looked_for = take(&values, &arrow::array::UInt64Array::from(beside), None)?;
    let same = arrow::compute::kernels::cmp::not_distinct(&elements, &looked_for)?;
    let mut next = 0;
    let out: BooleanArray = (0..c.rows)
        .map(|row| {
            let i = c.index(0, row);
            let n = (offsets[i + 1] - offsets[i]) as usize;
            let found = (next..next + n).any(|e| same.value(e));
            next += n;
            list.is_valid(i).then_some(found)
        })
        .collect();
    Ok(Arc::new(out))
}

fn entry_type(types: &[DataType], key: bool) -> Result<DataType> {
    match types.first().and_then(SqlType::from_arrow) {
        Some(SqlType::Map(k, v)) => {
            let element = if key { ElementType { ty: *k, nullable: false } } else { *v };
            Ok(SqlType::Array(Box::new(element)).to_arrow())
        }
        _ => Err(bad("MAP_KEYS and MAP_VALUES take a map", types.first())),
    }
}

fn keys_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    entry_type(types, true)
}

fn values_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    entry_type(types, false)
}

fn side(c: &Call, keys: bool) -> Result<ArrayRef> {
    let array = c.expanded(0)?;
    let map = array.as_map();
    let DataType::List(field) = &c.ret else { return Err(bad("MAP_KEYS gives an array", Some(&c.ret))) };
    let values = if keys { map.keys() } else { map.values() };
    Ok(Arc::new(ListArray::try_new(field.clone(), map.offsets().clone(), values.clone(), map.nulls().cloned())?))
}

fn text_map() -> SqlType {
    SqlType::Map(Box::new(SqlType::STRING), Box::new(ElementType { ty: SqlType::STRING, nullable: true }))
}

fn str_to_map_type(_: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(text_map().to_arrow())
}

fn str_to_map(c: &Call) -> Result<ArrayRef> {
    let DataType::Map(entries, _) = text_map().to_arrow() else { return Err(bad("STR_TO_MAP gives a map", None)) };
    let DataType::Struct(fields) = entries.data_type() else { return Err(bad("STR_TO_MAP gives a map", None)) };
    let names = arrow::array::builder::MapFieldNames {
        entry: entries.name().clone(),
        key: fields[0].name().clone(),
        value: fields[1].name().clone(),
    };
    let mut out = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(fields[0].clone())
        .with_values_field(fields[1].clone());
    let s = c.str(0);
    for i in 0..c.rows {
        let (Some(s), Some(first), Some(second)) = (s.get(i), c.str_or(1, i, ","), c.str_or(2, i, "=")) else {
            out.append(false)?;
            continue;
        };
        let (first, second) = (pattern(first)?, pattern(second)?);
        // Of equal keys the last one counts, at the place of the first.
        let mut pairs: Vec<(&str, Option<&str>)> = vec![];
        for entry in first.split(s).filter(|_| !s.is_empty()) {
            let mut parts = second.splitn(entry, 2);
            let (key, value) = (parts.next().unwrap_or_default(), parts.next());
            match pairs.iter_mut().find(|(k, _)| *k == key) {
                Some(pair) => pair.1 = value,
                None => pairs.push((key, value)),
            }
        }
        for (key, value) in pairs {
            out.keys().append_value(key);
            out.values().append_option(value);
        }
        out.append(true)?;
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{call, is};

    const NULL: Option<()> = None;

    fn list(values: &[Option<i32>]) -> ScalarValue {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(values.to_vec())]);
        ScalarValue::List(Arc::new(list))
    }

    #[test]
    fn collections() {
        is! {
            cardinality(list(&[Some(1), None])) => "2";
            cardinality(NULL) => "NULL";
            element(list(&[Some(7)])) => "7";
            element(list(&[])) => "NULL";
            array_contains(list(&[Some(1), Some(2)]), 2) => "TRUE";
            array_contains(list(&[Some(1), Some(2)]), 3) => "FALSE";
            array_contains(list(&[Some(1), None]), NULL) => "TRUE";
            str_to_map("a=1,b=2,a=3,c") => "{a=3, b=2, c=NULL}";
            str_to_map("a:1;b:2", ";", ":") => "{a=1, b=2}";
            str_to_map(NULL) => "NULL";
        }
        assert!(call("element", &[&list(&[Some(1), Some(2)])]).is_err());
        assert!(call("cardinality", &[&1]).is_err());
    }
}
