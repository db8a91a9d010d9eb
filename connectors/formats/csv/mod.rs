//! `csv`: fields between delimiters, quoted where needed (RFC 4180 and Flink's options).

mod decode;
mod encode;

use thalweg_connector_api::{Decoder, Format, RowEncoder};
use thalweg_core::options::{OptionKind, OptionSpec, Options};
use thalweg_core::table::{ChangelogMode, SinkMode, TableDef};
use thalweg_core::{Error, Result, SqlType};

use crate::{checked, no_such_columns, physical};

pub struct Csv;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::with_default("field-delimiter", OptionKind::Text, ",", "one character; '\\t' is a tab"),
    OptionSpec::with_default("quote-character", OptionKind::Text, "\"", "one character, around fields"),
    OptionSpec::with_default("disable-quote-character", OptionKind::Bool, "false", "no field is quoted"),
    OptionSpec::with_default("allow-comments", OptionKind::Bool, "false", "lines that begin with # are skipped"),
    OptionSpec::with_default(
        "ignore-parse-errors",
        OptionKind::Bool,
        "false",
        "skip records that cannot be read, and set fields that do not fit their column to NULL",
    ),
    OptionSpec::optional("escape-character", OptionKind::Text, "one character: the next one stands for itself"),
    OptionSpec::optional(
        "null-literal",
        OptionKind::Text,
        "what stands for NULL, unquoted; without it an empty field is NULL, but the empty text for strings",
    ),
    OptionSpec::with_default("array-element-delimiter", OptionKind::Text, ";", "between elements of ARRAY and ROW"),
    OptionSpec::with_default(
        "header",
        OptionKind::Bool,
        "false",
        "files begin with a line of column names: columns are found by name when reading, the line is written",
    ),
];

/// The checked options.
#[derive(Debug, Clone)]
struct Rules {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    comments: bool,
    ignore_parse_errors: bool,
    null_literal: Option<Vec<u8>>,
    element_delimiter: Vec<u8>,
    header: bool,
}

impl Rules {
    fn of(table: &TableDef, options: &Options<'_>) -> Result<Self> {
        let one = |name: &str| -> Result<Option<u8>> {
            let Some(text) = options.text(name) else { return Ok(None) };
            match unescape(text).as_deref() {
                Some([c]) if c.is_ascii() && !matches!(c, b'\n' | b'\r') => Ok(Some(*c)),
                _ => Err(Error::option(format!(
                    "'csv.{name}' = '{text}' of table {} is not one ASCII character",
                    table.name
                ))
                .note("a tab is written '\\t', other control characters as '\\u0001'")),
            }
        };
        let quote = if options.bool("disable-quote-character") { None } else { one("quote-character")? };
        let rules = Rules {
            delimiter: one("field-delimiter")?.expect("has a default"),
            quote,
            escape: one("escape-character")?,
            comments: options.bool("allow-comments"),
            ignore_parse_errors: options.bool("ignore-parse-errors"),
            null_literal: options.text("null-literal").map(|t| t.as_bytes().to_vec()),
            element_delimiter: options.text_must("array-element-delimiter").as_bytes().to_vec(),
            header: options.bool("header"),
        };
        let clash = rules.quote == Some(rules.delimiter)
            || rules.escape.is_some_and(|e| e == rules.delimiter || rules.quote == Some(e))
            || rules.element_delimiter.is_empty()
            || rules.null_literal.as_ref().is_some_and(|n| {
                let delimits = |c: &u8| *c == rules.delimiter || matches!(c, b'\n' | b'\r');
                n.iter().any(delimits) || rules.quote.is_some_and(|q| n.first() == Some(&q))
            });
        if clash {
            return Err(Error::option(format!(
                "table {}: delimiter, quote and escape character of csv must differ, no delimiter be empty, and \
                 'csv.null-literal' neither hold the delimiter nor begin with a quote",
                table.name
            )));
        }
        for i in physical(table) {
            let c = &table.columns[i].column;
            let nested_ok = match &c.ty {
                SqlType::Array(e) => is_scalar(&e.ty),
                SqlType::Row(fields) => fields.iter().all(|f| is_scalar(&f.ty)),
                ty => is_scalar(ty),
            };
            if !nested_ok {
                return Err(Error::unsupported(format!(
                    "column {} of table {}: csv cannot hold {}",
                    c.name, table.name, c.ty
                ))
                .note("csv knows simple types, and ARRAY and ROW of them; format 'json' holds all"));
            }
        }
        Ok(rules)
    }
}

fn is_scalar(ty: &SqlType) -> bool {
    !matches!(ty, SqlType::Array(_) | SqlType::Map(..) | SqlType::Row(_))
}

/// `\t`, `\\`, `\u0001` as Java would read them.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = vec![];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' if text.len() > 1 => match chars.next()? {
                't' => '\t',
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                other => other,
            },
            c => c,
        };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(out)
}

impl Format for Csv {
    fn name(&self) -> &'static str {
        "csv"
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
            Ok(Box::new(decode::CsvDecoder::new(table, columns, Rules::of(table, options)?)?) as Box<dyn Decoder>)
        })
    }

    fn encoder(&self, table: &TableDef) -> Result<Box<dyn RowEncoder>> {
        checked(self, table, |options| {
            Ok(Box::new(encode::CsvEncoder::new(table, Rules::of(table, options)?)) as Box<dyn RowEncoder>)
        })
    }
}
