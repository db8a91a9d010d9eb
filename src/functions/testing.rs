//! Tests call functions by name, over scalars, and compare the text of the result.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field};
use datafusion_common::ScalarValue;
use datafusion_common::config::ConfigOptions;
use datafusion_expr::type_coercion::functions::fields_with_udf;
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};
use thalweg_core::{Result, SqlType};

use crate::cast::to_text;
use crate::function::to_error;
use crate::registry::registry;

/// A literal: texts, integers, doubles, booleans; `None` is NULL.
pub trait Value {
    fn scalar(&self) -> ScalarValue;
}

macro_rules! value {
    ($($ty:ty => $variant:ident),*) => {$(
        impl Value for $ty {
            fn scalar(&self) -> ScalarValue {
                ScalarValue::$variant(Some((*self).into()))
            }
        }
    )*};
}

value!(&str => Utf8, i64 => Int64, i32 => Int64, f64 => Float64, bool => Boolean);

impl Value for &[u8] {
    fn scalar(&self) -> ScalarValue {
        ScalarValue::Binary(Some(self.to_vec()))
    }
}

impl Value for Option<()> {
    fn scalar(&self) -> ScalarValue {
        ScalarValue::Null
    }
}

impl Value for ScalarValue {
    fn scalar(&self) -> ScalarValue {
        self.clone()
    }
}

/// Calls a function; constant arguments are also given as columns of two rows, which must give the same.
pub fn call(name: &str, args: &[&dyn Value]) -> Result<String> {
    let scalars: Vec<ScalarValue> = args.iter().map(|a| a.scalar()).collect();
    let udf = registry().get(name).unwrap_or_else(|| panic!("no function {name}"));
    let fields: Vec<_> = scalars.iter().map(|s| Arc::new(Field::new("a", s.data_type(), true))).collect();
    let fields = fields_with_udf(&fields, udf.as_ref()).map_err(to_error)?;
    let scalars = scalars
        .into_iter()
        .zip(&fields)
        .map(|(s, f)| {
            let from = SqlType::from_arrow(&s.data_type()).unwrap();
            let to = SqlType::from_arrow(f.data_type()).unwrap();
            let cast = crate::cast::cast(&s.to_array().unwrap(), &from, &to, false)?;
            Ok(ScalarValue::try_from_array(&cast, 0).unwrap())
        })
        .collect::<Result<Vec<_>>>()?;
    let literals: Vec<Option<&ScalarValue>> = scalars.iter().map(Some).collect();
    let field = udf
        .return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &literals })
        .map_err(to_error)?;
    let ty = SqlType::from_arrow(field.data_type()).unwrap();
    let mut answers = vec![];
    for rows in [1, 2] {
        let args = scalars
            .iter()
            .map(|s| match rows {
                1 => ColumnarValue::Scalar(s.clone()),
                _ => ColumnarValue::Array(s.to_array_of_size(rows).unwrap()),
            })
            .collect();
        let out = udf
            .invoke_with_args(ScalarFunctionArgs {
                args,
                arg_fields: fields.clone(),
                number_rows: rows,
                return_field: field.clone(),
                config_options: Arc::new(ConfigOptions::default()),
            })
            .map_err(to_error)?
            .into_array(rows)
            .unwrap();
        assert_eq!(out.data_type(), field.data_type());
        let text = if *out.data_type() == DataType::Utf8 { out } else { to_text(&out, &ty)? };
        let text = text.as_string::<i32>();
        answers.extend(text.iter().map(|t| t.unwrap_or("NULL").to_owned()));
    }
    assert!(answers.windows(2).all(|w| w[0] == w[1]), "{name}: {answers:?}");
    Ok(answers.remove(0))
}

/// `is!(upper("a") => "A")`; NULL is written as `None::<()>`, and comes as `NULL`.
macro_rules! is {
    ($($name:ident ( $($arg:expr),* ) => $out:expr;)*) => {$(
        assert_eq!(
            $crate::testing::call(stringify!($name).trim_start_matches("r#"), &[$(&$arg),*]).unwrap(),
            $out,
            "{}", stringify!($name($($arg),*))
        );
    )*};
}

pub(crate) use is;
