//! Flink's types: their text ↔ `SqlType`.

use sqlparser::ast::{DataType, Ident, ObjectName, ObjectNamePart, TimezoneInfo};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;
use thalweg_core::nearest::did_you_mean;
use thalweg_core::types::{DECIMAL_PRECISION_MAX, ElementType, LENGTH_MAX};
use thalweg_core::{Column, Error, Place, Result, SqlType};

use crate::sql::cursor::{Reading, is_reserved, parser_over};
use crate::sql::lexer::{continues_name, starts_name};
use crate::sql::tokens::{Source, place_of};

/// Types within types at most.
const NESTING_MAX: usize = 32;
/// Digits of the seconds' fraction at most.
const FRACTION_DIGITS_MAX: u8 = 9;

const TYPE_NAMES: &[&str] = &[
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "DEC",
    "NUMERIC",
    "CHAR",
    "VARCHAR",
    "STRING",
    "BINARY",
    "VARBINARY",
    "BYTES",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "ARRAY",
    "MAP",
    "ROW",
];

/// The names under which other systems know our types.
const FOREIGN_NAMES: &[(&str, &str)] = &[
    ("BOOL", "BOOLEAN"),
    ("TEXT", "STRING"),
    ("CLOB", "STRING"),
    ("JSON", "STRING"),
    ("JSONB", "STRING"),
    ("UUID", "STRING"),
    ("NVARCHAR", "VARCHAR"),
    ("CHARACTER", "CHAR"),
    ("REAL", "FLOAT"),
    ("FLOAT4", "FLOAT"),
    ("FLOAT8", "DOUBLE"),
    ("INT2", "SMALLINT"),
    ("INT4", "INT"),
    ("INT8", "BIGINT"),
    ("LONG", "BIGINT"),
    ("MEDIUMINT", "INT"),
    ("SERIAL", "BIGINT"),
    ("NUMBER", "DECIMAL"),
    ("DATETIME", "TIMESTAMP"),
    ("TIMESTAMPTZ", "TIMESTAMP_LTZ"),
    ("BLOB", "BYTES"),
    ("BYTEA", "BYTES"),
    ("STRUCT", "ROW"),
    ("LIST", "ARRAY"),
];

/// A type at the parser's position: `DECIMAL(10, 2)`, `ROW<a INT, b STRING NOT NULL>`, `INT ARRAY`.
pub(crate) fn parse_type(parser: &mut Parser) -> Result<SqlType> {
    nested_type(parser, 0)
}

/// The type that a text is; all of it must be one.
pub fn type_of_text(text: &str) -> Result<SqlType> {
    let mut parser = parser_over(Source::new(text)?.tokens);
    let ty = parse_type(&mut parser)?;
    if parser.at_end() { Ok(ty) } else { Err(parser.expected_here("the end of the type")) }
}

fn nested_type(parser: &mut Parser, depth: usize) -> Result<SqlType> {
    let place = parser.here();
    if depth > NESTING_MAX {
        return Err(
            Error::unsupported(format!("a type has more than {NESTING_MAX} types within one another")).at(place)
        );
    }
    let Token::Word(word) = &parser.peek_token_ref().token else { return Err(parser.expected_here("a type")) };
    let name = word.value.to_ascii_uppercase();
    if word.quote_style.is_some() {
        return Err(parser.expected_here("a type"));
    }
    parser.advance_token();
    let mut ty = match name.as_str() {
        "BOOLEAN" => SqlType::Boolean,
        "TINYINT" => SqlType::TinyInt,
        "SMALLINT" => SqlType::SmallInt,
        "INT" | "INTEGER" => SqlType::Int,
        "BIGINT" => SqlType::BigInt,
        "FLOAT" => SqlType::Float,
        "DOUBLE" => {
            parser.eat_word("PRECISION");
            SqlType::Double
        }
        "DECIMAL" | "DEC" | "NUMERIC" => decimal(parser)?,
        "CHAR" => SqlType::Char(length(parser, &name)?.unwrap_or(1)),
        "VARCHAR" => SqlType::VarChar(length(parser, &name)?.unwrap_or(LENGTH_MAX)),
        "STRING" => SqlType::STRING,
        "BINARY" => SqlType::Binary(length(parser, &name)?.unwrap_or(1)),
        "VARBINARY" => SqlType::VarBinary(length(parser, &name)?.unwrap_or(LENGTH_MAX)),
        "BYTES" => SqlType::BYTES,
        "DATE" => SqlType::Date,
        "TIME" => {
            let p = fraction_digits(parser, &name)?.unwrap_or(0);
            parser.eat_words(&["WITHOUT", "TIME", "ZONE"]);
            SqlType::Time(p)
        }
        "TIMESTAMP" => timestamp(parser, place)?,
        "TIMESTAMP_LTZ" => SqlType::TimestampLtz(fraction_digits(parser, &name)?.unwrap_or(6)),
        "ARRAY" => {
            parser.expect_symbol(&Token::Lt)?;
            let element = element(parser, depth)?;
            parser.expect_symbol(&Token::Gt)?;
            SqlType::Array(Box::new(element))
        }
        "MAP" => {
            parser.expect_symbol(&Token::Lt)?;
            let key = nested_type(parser, depth + 1)?;
            nullable(parser);
            parser.expect_symbol(&Token::Comma)?;
            let value = element(parser, depth)?;
            parser.expect_symbol(&Token::Gt)?;
            SqlType::Map(Box::new(key), Box::new(value))
        }
        "ROW" => row(parser, depth)?,
        "MULTISET" | "RAW" | "VARIANT" | "INTERVAL" | "DESCRIPTOR" | "SYMBOL" => {
            return Err(Error::unsupported(format!("the type {name} is not supported")).at(place));
        }
        _ => return Err(unknown_type(&name, place)),
    };
    loop {
        // `INT ARRAY` is `ARRAY<INT>`.
        if parser.is_word("ARRAY") {
            ty = SqlType::Array(Box::new(ElementType { ty, nullable: true }));
        } else if parser.is_word("MULTISET") {
            return Err(Error::unsupported("the type MULTISET is not supported").at(parser.here()));
        } else {
            return Ok(ty);
        }
        parser.advance_token();
    }
}

fn unknown_type(name: &str, place: Place) -> Error {
    let e = Error::name(format!("there is no type {name}")).at(place);
    let proposal = match FOREIGN_NAMES.iter().find(|(foreign, _)| *foreign == name) {
        Some((_, ours)) => Some(format!("did you mean \"{ours}\"?")),
        None => did_you_mean(name, TYPE_NAMES.iter().copied()),
    };
    e.propose(proposal).note(format!("types: {}", TYPE_NAMES.join(", ")))
}

fn element(parser: &mut Parser, depth: usize) -> Result<ElementType> {
    let ty = nested_type(parser, depth + 1)?;
    Ok(ElementType { ty, nullable: nullable(parser) })
}

/// `NOT NULL` or `NULL` behind a type within a type.
fn nullable(parser: &mut Parser) -> bool {
    if parser.eat_words(&["NOT", "NULL"]) {
        return false;
    }
    parser.eat_word("NULL");
    true
}

/// A whole number in parentheses, and its place.
fn number(parser: &mut Parser) -> Result<(u64, Place)> {
    let place = parser.here();
    match &parser.peek_token_ref().token {
        Token::Number(n, _) => match n.parse() {
            Ok(n) => {
                parser.advance_token();
                Ok((n, place))
            }
            Err(_) => Err(parser.expected_here("a whole number")),
        },
        _ => Err(parser.expected_here("a whole number")),
    }
}

fn in_parentheses(parser: &mut Parser) -> Result<Option<(u64, Place)>> {
    if !parser.eat_symbol(&Token::LParen) {
        return Ok(None);
    }
    let n = number(parser)?;
    parser.expect_symbol(&Token::RParen)?;
    Ok(Some(n))
}

fn length(parser: &mut Parser, of: &str) -> Result<Option<u32>> {
    match in_parentheses(parser)? {
        Some((n, place)) if n == 0 || n > LENGTH_MAX.into() => {
            Err(Error::type_(format!("the length of {of} must be between 1 and {LENGTH_MAX}, {n} is not")).at(place))
        }
        length => Ok(length.map(|(n, _)| n as u32)),
    }
}

fn fraction_digits(parser: &mut Parser, of: &str) -> Result<Option<u8>> {
    match in_parentheses(parser)? {
        Some((n, place)) if n > FRACTION_DIGITS_MAX.into() => Err(Error::type_(format!(
            "{of} has between 0 and {FRACTION_DIGITS_MAX} digits behind the second, {n} is not between them"
        ))
        .at(place)),
        digits => Ok(digits.map(|(n, _)| n as u8)),
    }
}

fn decimal(parser: &mut Parser) -> Result<SqlType> {
    if !parser.eat_symbol(&Token::LParen) {
        return Ok(SqlType::Decimal { precision: 10, scale: 0 });
    }
    let (precision, place) = number(parser)?;
    if precision == 0 || precision > DECIMAL_PRECISION_MAX.into() {
        return Err(Error::type_(format!(
            "DECIMAL has between 1 and {DECIMAL_PRECISION_MAX} digits, {precision} is not between them"
        ))
        .at(place));
    }
    let mut scale = 0;
    if parser.eat_symbol(&Token::Comma) {
        let (n, place) = number(parser)?;
        if n > precision {
            return Err(Error::type_(format!("the scale of DECIMAL({precision}, {n}) is greater than its precision"))
                .at(place)
                .note("DECIMAL(p, s) has p digits, s of them behind the point"));
        }
        scale = n;
    }
    parser.expect_symbol(&Token::RParen)?;
    Ok(SqlType::Decimal { precision: precision as u8, scale: scale as i8 })
}

fn timestamp(parser: &mut Parser, place: Place) -> Result<SqlType> {
    let p = fraction_digits(parser, "TIMESTAMP")?.unwrap_or(6);
    if parser.eat_words(&["WITH", "LOCAL", "TIME", "ZONE"]) {
        return Ok(SqlType::TimestampLtz(p));
    }
    if parser.eat_words(&["WITH", "TIME", "ZONE"]) {
        return Err(Error::unsupported("TIMESTAMP WITH TIME ZONE is not supported")
            .at(place)
            .note("TIMESTAMP_LTZ is a point in time, shown in the session's zone"));
    }
    parser.eat_words(&["WITHOUT", "TIME", "ZONE"]);
    Ok(SqlType::Timestamp(p))
}

/// `ROW<a INT, b STRING>`, also with parentheses; fields may have a comment.
fn row(parser: &mut Parser, depth: usize) -> Result<SqlType> {
    let closing = if parser.eat_symbol(&Token::Lt) {
        Token::Gt
    } else if parser.eat_symbol(&Token::LParen) {
        Token::RParen
    } else {
        return Err(parser.expected_here("\"<\""));
    };
    let mut fields: Vec<Column> = vec![];
    loop {
        let name = parser.name("the name of a field")?;
        if fields.iter().any(|f| f.name == name.value) {
            return Err(Error::name(format!("the ROW has two fields \"{}\"", name.value)).at(name.place));
        }
        let ty = nested_type(parser, depth + 1)?;
        let nullable = nullable(parser);
        if matches!(parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
            parser.advance_token();
        }
        fields.push(Column::new(name.value, ty, nullable));
        if !parser.eat_symbol(&Token::Comma) {
            break;
        }
    }
    parser.expect_symbol(&closing)?;
    Ok(SqlType::Row(fields))
}

/// A type's text, such that `type_of_text` gives it back: fields' names in backticks where they need them.
pub fn text_of_type(ty: &SqlType) -> String {
    let not_null = |nullable: bool| if nullable { "" } else { " NOT NULL" };
    match ty {
        SqlType::Array(e) => format!("ARRAY<{}{}>", text_of_type(&e.ty), not_null(e.nullable)),
        SqlType::Map(k, v) => format!("MAP<{}, {}{}>", text_of_type(k), text_of_type(&v.ty), not_null(v.nullable)),
        SqlType::Row(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|f| format!("{} {}{}", name_text(&f.name), text_of_type(&f.ty), not_null(f.nullable)))
                .collect();
            format!("ROW<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// A name as it is written in SQL: in backticks if it must be.
pub fn name_text(name: &str) -> String {
    let plain = name.starts_with(starts_name) && name.chars().all(continues_name);
    let is = |words: &[&str]| words.iter().any(|w| w.eq_ignore_ascii_case(name));
    let reserved = is_reserved(name) || is(TYPE_NAMES) || is(&["OFFSET", "PARTITION"]);
    if plain && !reserved { name.to_owned() } else { quoted_name(name) }
}

/// A name in backticks.
pub fn quoted_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// How types of casts stand in sqlparser's tree: as their text.
pub(crate) fn custom_type(ty: &SqlType) -> DataType {
    DataType::Custom(ObjectName::from(Ident::new(text_of_type(ty))), vec![])
}

/// The SQL type of a type in sqlparser's tree: of a cast, or in front of a literal (`DATE '2020-01-01'`).
pub fn sql_type_of(ty: &DataType) -> Result<SqlType> {
    match ty {
        DataType::Custom(name, modifiers) if modifiers.is_empty() => match name.0.as_slice() {
            [ObjectNamePart::Identifier(i)] => type_of_text(&i.value),
            _ => Err(Error::name(format!("there is no type {name}"))),
        },
        DataType::Date => Ok(SqlType::Date),
        DataType::Time(p, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            Ok(SqlType::Time(p.unwrap_or(0).min(FRACTION_DIGITS_MAX.into()) as u8))
        }
        DataType::Timestamp(p, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            Ok(SqlType::Timestamp(p.unwrap_or(6).min(FRACTION_DIGITS_MAX.into()) as u8))
        }
        other => type_of_text(&other.to_string()),
    }
}

/// Where a name of sqlparser's tree stands.
pub fn place_of_ident(ident: &Ident) -> Place {
    place_of(ident.span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_and_its_text_read_back() {
        let cases = [
            ("BOOLEAN", SqlType::Boolean),
            ("tinyint", SqlType::TinyInt),
            ("SMALLINT", SqlType::SmallInt),
            ("INT", SqlType::Int),
            ("INTEGER", SqlType::Int),
            ("BIGINT", SqlType::BigInt),
            ("FLOAT", SqlType::Float),
            ("DOUBLE", SqlType::Double),
            ("DOUBLE PRECISION", SqlType::Double),
            ("DECIMAL", SqlType::Decimal { precision: 10, scale: 0 }),
            ("DEC(5)", SqlType::Decimal { precision: 5, scale: 0 }),
            ("NUMERIC(65, 30)", SqlType::Decimal { precision: 65, scale: 30 }),
            ("CHAR", SqlType::Char(1)),
            ("CHAR(3)", SqlType::Char(3)),
            ("VARCHAR", SqlType::STRING),
            ("VARCHAR(20)", SqlType::VarChar(20)),
            ("STRING", SqlType::STRING),
            ("BINARY(4)", SqlType::Binary(4)),
            ("VARBINARY(4)", SqlType::VarBinary(4)),
            ("BYTES", SqlType::BYTES),
            ("DATE", SqlType::Date),
            ("TIME", SqlType::Time(0)),
            ("TIME(3) WITHOUT TIME ZONE", SqlType::Time(3)),
            ("TIMESTAMP", SqlType::Timestamp(6)),
            ("TIMESTAMP(3) WITHOUT TIME ZONE", SqlType::Timestamp(3)),
            ("TIMESTAMP(9) WITH LOCAL TIME ZONE", SqlType::TimestampLtz(9)),
            ("TIMESTAMP_LTZ(3)", SqlType::TimestampLtz(3)),
            ("TIMESTAMP_LTZ", SqlType::TimestampLtz(6)),
            ("ARRAY<INT NOT NULL>", SqlType::Array(Box::new(ElementType { ty: SqlType::Int, nullable: false }))),
            ("INT ARRAY", SqlType::Array(Box::new(ElementType { ty: SqlType::Int, nullable: true }))),
            (
                "MAP<STRING, ARRAY<ARRAY<INT>>>",
                SqlType::Map(
                    Box::new(SqlType::STRING),
                    Box::new(ElementType { ty: type_of_text("INT ARRAY ARRAY").unwrap(), nullable: true }),
                ),
            ),
            (
                "ROW<a INT, `order` STRING NOT NULL 'a comment'>",
                SqlType::Row(vec![Column::new("a", SqlType::Int, true), Column::new("order", SqlType::STRING, false)]),
            ),
            ("ROW(x DATE)", SqlType::Row(vec![Column::new("x", SqlType::Date, true)])),
        ];
        for (text, ty) in cases {
            assert_eq!(type_of_text(text).unwrap(), ty, "{text}");
            assert_eq!(type_of_text(&text_of_type(&ty)).unwrap(), ty, "{text}");
            assert_eq!(sql_type_of(&custom_type(&ty)).unwrap(), ty, "{text}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_named_with_their_place() {
        let cases = [
            ("DECIMAL(66, 2)", 9, "DECIMAL has between 1 and 65 digits"),
            ("DECIMAL(0)", 9, "between 1 and 65"),
            ("DECIMAL(3, 4)", 12, "scale"),
            ("CHAR(0)", 6, "length of CHAR"),
            ("VARCHAR(3000000000)", 9, "length of VARCHAR"),
            ("TIMESTAMP(10)", 11, "between 0 and 9"),
            ("TIME(12)", 6, "between 0 and 9"),
            ("TIMESTAMP_LTZ(10)", 15, "between 0 and 9"),
        ];
        for (text, column, message) in cases {
            let e = type_of_text(text).unwrap_err();
            assert!(e.message().contains(message), "{text}: {e}");
            assert_eq!(e.place().unwrap().column, column, "{text}");
        }
    }

    #[test]
    fn unknown_types_propose_ours() {
        let proposal = |t: &str| type_of_text(t).unwrap_err().proposal().map(str::to_owned);
        assert_eq!(proposal("TEXT").as_deref(), Some("did you mean \"STRING\"?"));
        assert_eq!(proposal("BIGIMT").as_deref(), Some("did you mean \"BIGINT\"?"));
        assert_eq!(proposal("DATETIME").as_deref(), Some("did you mean \"TIMESTAMP\"?"));
    }

    #[test]
    fn what_is_no_type_of_ours_is_refused() {
        for text in ["MULTISET<INT>", "INT MULTISET", "TIMESTAMP WITH TIME ZONE", "RAW('a', 'b')", "ROW<a INT, a INT>"]
        {
            assert!(type_of_text(text).is_err(), "{text}");
        }
        for text in ["", "ARRAY", "ARRAY<INT", "MAP<INT>", "ROW<>", "DECIMAL(", "DECIMAL(a)", "INT INT", "`INT`", "5"] {
            assert!(type_of_text(text).is_err(), "{text}");
        }
        assert!(type_of_text(&"ARRAY<".repeat(10_000)).is_err());
    }
}
