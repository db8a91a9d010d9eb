//! All scalar functions by name: ours, which have Flink's meaning where Flink has the name, and DataFusion's others.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::Result as DfResult;
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::{checks, collection, conditional, date_time, encoding, json, math, regex, string};

/// DataFusion's functions that have no place here: they look at Arrow's types, the plan, a file or the system's clock.
const LEFT_OUT: &[&str] = &[
    "arrow_cast",
    "arrow_try_cast",
    "arrow_typeof",
    "arrow_field",
    "arrow_metadata",
    "with_metadata",
    "cast_to_type",
    "try_cast_to_type",
    "input_file_name",
    "file_row_index",
    "version",
    "current_date",
    "current_time",
    "today",
    "now",
];

/// Not called by people: the planner makes them of other syntax, or puts them in.
const INTERNAL: &[&str] = &[
    "floor_to",
    "ceil_to",
    "ltz_to_timestamp",
    "timestamp_to_ltz",
    "check_length",
    "check_not_null",
    "binary_concat",
    "is_json",
];

/// One function under one name.
#[derive(Debug)]
pub struct Entry {
    pub udf: Arc<ScalarUDF>,
    pub volatile: bool,
    /// `UPPER(string)`
    pub usage: String,
    /// One line.
    pub help: String,
}

/// All functions by name in lower case.
#[derive(Debug)]
pub struct Registry {
    functions: BTreeMap<String, Entry>,
}

/// The registry.
pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::build)
}

impl Registry {
    /// By name, in any case.
    pub fn get(&self, name: &str) -> Option<&Arc<ScalarUDF>> {
        self.entry(name).map(|e| &e.udf)
    }

    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.functions.get(name).or_else(|| self.functions.get(&name.to_ascii_lowercase()))
    }

    /// Names that people call, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str).filter(|n| !INTERNAL.contains(n))
    }

    /// Its value changes from call to call or with the tick's clock.
    pub fn is_volatile(&self, name: &str) -> bool {
        self.entry(name).is_some_and(|e| e.volatile)
    }

    /// Usage and one line of help.
    pub fn doc(&self, name: &str) -> Option<(&str, &str)> {
        self.entry(name).map(|e| (e.usage.as_str(), e.help.as_str()))
    }

    fn build() -> Self {
        let mut functions = BTreeMap::new();
        let theirs = datafusion_functions::all_default_functions()
            .into_iter()
            .chain(datafusion_functions_nested::all_default_nested_functions());
        for udf in theirs.filter(|u| !LEFT_OUT.contains(&u.name())) {
            let udf =
                if gives_unsigned(&udf) { Arc::new(ScalarUDF::new_from_impl(Signed { inner: udf })) } else { udf };
            let (usage, help) = match udf.documentation() {
                Some(d) => (d.syntax_example.to_string(), first_sentence(&d.description)),
                None => (format!("{}(…)", udf.name()), String::new()),
            };
            let volatile = udf.signature().volatility == Volatility::Volatile;
            for name in std::iter::once(udf.name()).chain(udf.aliases().iter().map(String::as_str)) {
                let entry = Entry { udf: udf.clone(), volatile, usage: usage.clone(), help: help.clone() };
                functions.insert(name.to_owned(), entry);
            }
        }
        let ours = [
            string::FUNCTIONS,
            encoding::FUNCTIONS,
            regex::FUNCTIONS,
            date_time::FUNCTIONS,
            math::DOUBLES,
            math::FUNCTIONS,
            conditional::FUNCTIONS,
            collection::FUNCTIONS,
            json::FUNCTIONS,
            checks::FUNCTIONS,
        ];
        for function in ours.into_iter().flatten() {
            let udf = Arc::new(function.into_udf());
            for name in std::iter::once(&function.name).chain(function.aliases) {
                let entry = Entry {
                    udf: udf.clone(),
                    volatile: function.volatile,
                    usage: function.usage.to_owned(),
                    help: function.help.to_owned(),
                };
                functions.insert((*name).to_owned(), entry);
            }
        }
        Registry { functions }
    }
}

/// Up to the first full stop, on one line.
fn first_sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.find(". ") {
        Some(at) => text[..=at].to_owned(),
        None => text,
    }
}

/// Functions of arrays that count in unsigned integers, which SQL does not have.
fn gives_unsigned(udf: &ScalarUDF) -> bool {
    matches!(udf.name(), "array_length" | "array_position" | "array_ndims" | "array_positions" | "array_dims")
}

/// A function of DataFusion whose unsigned results become BIGINT.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Signed {
    inner: Arc<ScalarUDF>,
}

fn signed(ty: &DataType) -> DataType {
    match ty {
        DataType::UInt64 => DataType::Int64,
        DataType::List(f) => DataType::List(Arc::new(f.as_ref().clone().with_data_type(signed(f.data_type())))),
        other => other.clone(),
    }
}

impl ScalarUDFImpl for Signed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(signed(&self.inner.return_type(types)?))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let field = self.inner.return_field_from_args(args)?;
        Ok(Arc::new(field.as_ref().clone().with_data_type(signed(field.data_type()))))
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let to = args.return_field.data_type().clone();
        let inner = self.inner.return_field_from_args(ReturnFieldArgs {
            arg_fields: &args.arg_fields,
            scalar_arguments: &vec![None; args.arg_fields.len()],
        })?;
        args.return_field = Arc::new(Field::new(inner.name(), inner.data_type().clone(), true));
        self.inner.invoke_with_args(args)?.cast_to(&to, None)
    }

    fn documentation(&self) -> Option<&datafusion_expr::Documentation> {
        self.inner.documentation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_of_flink_are_there() {
        let r = registry();
        for name in "proctime now current_timestamp localtimestamp current_date current_time localtime \
                     current_row_timestamp unix_timestamp from_unixtime date_format to_date to_timestamp \
                     to_timestamp_ltz convert_tz timestampadd timestampdiff extract year quarter month week dayofyear \
                     dayofmonth dayofweek hour minute second floor_to ceil_to char_length character_length upper lower \
                     trim ltrim rtrim btrim repeat regexp_replace regexp_extract regexp rlike overlay substring substr \
                     replace initcap concat concat_ws lpad rpad from_base64 to_base64 ascii chr left right instr \
                     locate position reverse split_index str_to_map parse_url encode decode md5 sha1 sha224 sha256 \
                     sha384 sha512 sha2 if ifnull nullif coalesce greatest least is_alpha is_decimal is_digit \
                     json_value json_query json_exists is_json json_string json_object json_array abs power sqrt ln \
                     log10 log2 log exp ceil ceiling floor sin sinh cos cosh tan tanh cot asin acos atan atan2 mod pi e \
                     rand rand_integer uuid bin hex truncate round sign degrees radians cardinality element \
                     array_contains map_keys map_values typeof check_length check_not_null"
            .split_whitespace()
        {
            assert!(r.get(name).is_some(), "{name}");
            let (usage, help) = r.doc(name).unwrap();
            assert!(!usage.is_empty() && help.ends_with('.'), "{name}: {help}");
        }
        assert!(r.get("UPPER").is_some() && r.get("array_append").is_some() && r.get("arrow_cast").is_none());
        assert!(r.names().all(|n| n != "check_length"));
    }

    #[test]
    fn nothing_is_frozen_at_planning_that_changes() {
        for name in registry().names() {
            let e = registry().entry(name).unwrap();
            let immutable = e.udf.signature().volatility == Volatility::Immutable;
            assert!(e.volatile || immutable, "{name} depends on the session");
        }
    }
}
