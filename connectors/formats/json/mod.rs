//! `json`: one object a line.

pub mod decode;
pub mod encode;
pub mod parse;
pub mod rows;

use thalweg_connector_api::{Decoder, Format, RowEncoder};
use thalweg_core::options::{OptionKind, OptionSpec, Options};
use thalweg_core::table::{ChangelogMode, SinkMode, TableDef};
use thalweg_core::{Error, Result};

use self::decode::JsonDecoder;
use self::encode::{JsonEncoder, ObjectWriter, WriteRules};
use self::rows::{FieldRules, RowReader};
use crate::number::DecimalForm;
use crate::time::Standard;
use crate::{checked, no_such_columns};

pub struct Json;

pub const IGNORE_PARSE_ERRORS: OptionSpec = OptionSpec::with_default(
    "ignore-parse-errors",
    OptionKind::Bool,
    "false",
    "skip records that cannot be read, and set fields that do not fit their column to NULL",
);
pub const TIMESTAMP_FORMAT: OptionSpec = OptionSpec::with_default(
    "timestamp-format.standard",
    OptionKind::OneOf(&["SQL", "ISO-8601"]),
    "SQL",
    "SQL: '2026-01-02 03:04:05.678'; ISO-8601: '2026-01-02T03:04:05.678'; TIMESTAMP_LTZ with a Z behind",
);
pub const MAP_NULL_KEY_MODE: OptionSpec = OptionSpec::with_default(
    "map-null-key.mode",
    OptionKind::OneOf(&["FAIL", "DROP", "LITERAL"]),
    "FAIL",
    "what is written for a NULL key of a MAP; as no map has one, it is never needed",
);
pub const MAP_NULL_KEY_LITERAL: OptionSpec =
    OptionSpec::with_default("map-null-key.literal", OptionKind::Text, "null", "the key that LITERAL writes");
pub const PLAIN_DECIMALS: OptionSpec = OptionSpec::with_default(
    "encode.decimal-as-plain-number",
    OptionKind::Bool,
    "false",
    "write small decimals as 0.00000001, not as 1E-8",
);
pub const IGNORE_NULL_FIELDS: OptionSpec =
    OptionSpec::with_default("encode.ignore-null-fields", OptionKind::Bool, "false", "leave out fields that are NULL");

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::with_default(
        "fail-on-missing-field",
        OptionKind::Bool,
        "false",
        "a field that is not there is an error, not NULL",
    ),
    IGNORE_PARSE_ERRORS,
    TIMESTAMP_FORMAT,
    MAP_NULL_KEY_MODE,
    MAP_NULL_KEY_LITERAL,
    PLAIN_DECIMALS,
    IGNORE_NULL_FIELDS,
];

pub fn standard(options: &Options<'_>) -> Standard {
    Standard::of(options.text_must("timestamp-format.standard"))
}

pub fn write_rules(options: &Options<'_>) -> WriteRules {
    let plain = options.bool("encode.decimal-as-plain-number");
    WriteRules {
        standard: standard(options),
        decimals: if plain { DecimalForm::Plain } else { DecimalForm::Java },
        ignore_null_fields: options.bool("encode.ignore-null-fields"),
    }
}

impl Format for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn changelog(&self) -> ChangelogMode {
        ChangelogMode::Append
    }

    fn accepts(&self) -> SinkMode {
        SinkMode::Append
    }

    fn decoder(&self, table: &TableDef, columns: &[usize]) -> Result<Box<dyn Decoder>> {
        no_such_columns(table, columns)?;
        checked(self, table, |options| {
            let ignore_parse_errors = options.bool("ignore-parse-errors");
            let fail_on_missing_field = options.bool("fail-on-missing-field");
            if ignore_parse_errors && fail_on_missing_field {
                return Err(Error::option(format!(
                    "table {}: 'json.fail-on-missing-field' and 'json.ignore-parse-errors' cannot both be true",
                    table.name
                )));
            }
            let rules = FieldRules { ignore_parse_errors, fail_on_missing_field, standard: standard(options) };
            Ok(Box::new(JsonDecoder::new(RowReader::new(table, columns, rules)?, ignore_parse_errors))
                as Box<dyn Decoder>)
        })
    }

    fn encoder(&self, table: &TableDef) -> Result<Box<dyn RowEncoder>> {
        checked(self, table, |options| {
            Ok(Box::new(JsonEncoder(ObjectWriter::new(table, write_rules(options)))) as Box<dyn RowEncoder>)
        })
    }
}
