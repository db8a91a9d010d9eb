//! MySQL's column types, and which SQL type a column of each may be declared as.

use std::fmt;

use thalweg_core::{Error, Result, SqlType};

/// A column's type as `information_schema.COLUMNS.COLUMN_TYPE` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MySqlType {
    /// TINYINT 1, SMALLINT 2, MEDIUMINT 3, INT 4, BIGINT 8 bytes.
    Int {
        bytes: u8,
        unsigned: bool,
        /// Digits in brackets, 0: none. `tinyint(1)` is what BOOL makes.
        width: u8,
        zerofill: bool,
    },
    Year,
    /// 1 to 64 bits.
    Bit(u8),
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
        zerofill: bool,
    },
    Date,
    /// Temporal types with the number of fractional digits, 0 to 6.
    DateTime(u8),
    Timestamp(u8),
    Time(u8),
    /// CHAR and VARCHAR with their length in characters.
    Char(u32),
    VarChar(u32),
    Text,
    /// BINARY and VARBINARY with their length in bytes.
    Binary(u32),
    VarBinary(u32),
    Blob,
    /// Labels in order; number 0 is the empty text of an invalid value.
    Enum(Vec<String>),
    Set(Vec<String>),
    Json,
    Geometry,
    Vector,
}

impl MySqlType {
    /// Reads a `COLUMN_TYPE`: `bigint unsigned`, `enum('a','b')`, `datetime(6)`.
    pub fn parse(column_type: &str) -> Result<MySqlType> {
        parse(column_type).ok_or_else(|| {
            Error::unsupported(format!("the type {column_type} of a column of the server is unknown"))
                .note("leave the column out of the table's declaration")
        })
    }

    /// The SQL type that holds every value of this type: what is proposed when a declaration does not fit.
    pub fn natural(&self) -> SqlType {
        match self {
            MySqlType::Int { bytes: 1, unsigned: false, width: 1, .. } => SqlType::Boolean,
            MySqlType::Int { bytes, unsigned, .. } => match bytes + u8::from(*unsigned) {
                1 => SqlType::TinyInt,
                2 => SqlType::SmallInt,
                3 if !unsigned => SqlType::Int,
                3 | 4 => SqlType::Int,
                5 | 8 => SqlType::BigInt,
                _ => SqlType::Decimal { precision: 20, scale: 0 },
            },
            MySqlType::Year => SqlType::SmallInt,
            MySqlType::Bit(1) => SqlType::Boolean,
            MySqlType::Bit(bits) => SqlType::Binary(u32::from(bits.div_ceil(8))),
            MySqlType::Float => SqlType::Float,
            MySqlType::Double => SqlType::Double,
            MySqlType::Decimal { precision, scale, .. } => {
                SqlType::Decimal { precision: *precision, scale: *scale as i8 }
            }
            MySqlType::Date => SqlType::Date,
            MySqlType::DateTime(p) => SqlType::Timestamp(*p),
            MySqlType::Timestamp(p) => SqlType::TimestampLtz(*p),
            MySqlType::Time(p) => SqlType::Time(*p),
            MySqlType::Char(n) if *n > 0 => SqlType::Char(*n),
            MySqlType::VarChar(n) if *n > 0 => SqlType::VarChar(*n),
            MySqlType::Binary(n) if *n > 0 => SqlType::Binary(*n),
            MySqlType::VarBinary(n) if *n > 0 => SqlType::VarBinary(*n),
            MySqlType::Char(_) | MySqlType::VarChar(_) | MySqlType::Text => SqlType::STRING,
            MySqlType::Enum(_) | MySqlType::Set(_) | MySqlType::Json => SqlType::STRING,
            MySqlType::Binary(_) | MySqlType::VarBinary(_) | MySqlType::Blob | MySqlType::Geometry => SqlType::BYTES,
            MySqlType::Vector => array_of(SqlType::Float),
        }
    }

    /// Whether a column of this type may be declared as `declared`: every value of the column has a place in it, but
    /// for those that the documents name (each of which is an error when it comes).
    pub fn fits(&self, declared: &SqlType) -> bool {
        match self {
            MySqlType::Int { bytes, unsigned, width, .. } => match declared {
                SqlType::Boolean => (*bytes, *width) == (1, 1),
                SqlType::TinyInt => *bytes == 1 && !unsigned,
                SqlType::SmallInt => *bytes < 2 + u8::from(!unsigned),
                SqlType::Int => *bytes < 4 + u8::from(!unsigned),
                // An unsigned BIGINT above i64::MAX is an error when it comes.
                SqlType::BigInt => true,
                SqlType::Decimal { precision, scale } => {
                    let digits = [3, 3, 5, 8, 10, 0, 0, 0, 20][usize::from(*bytes)];
                    i32::from(*precision) - i32::from(*scale) >= digits - i32::from(*bytes == 8 && !unsigned)
                }
                _ => is_text(declared),
            },
            MySqlType::Year => {
                matches!(declared, SqlType::SmallInt | SqlType::Int | SqlType::BigInt) || is_text(declared)
            }
            MySqlType::Bit(bits) => match declared {
                SqlType::Boolean => *bits == 1,
                SqlType::BigInt => *bits < 64,
                SqlType::Decimal { precision, scale } => i32::from(*precision) - i32::from(*scale) >= 20,
                _ => is_binary(declared),
            },
            MySqlType::Float => matches!(declared, SqlType::Float | SqlType::Double),
            MySqlType::Double => matches!(declared, SqlType::Double),
            MySqlType::Decimal { precision, scale, zerofill } => match declared {
                SqlType::Decimal { precision: p, scale: s } => {
                    let (before, after) = (i32::from(*precision) - i32::from(*scale), i32::from(*scale));
                    i32::from(*p) - i32::from(*s) >= before && i32::from(*s) >= after
                }
                _ => is_text(declared) && !zerofill,
            },
            MySqlType::Date => *declared == SqlType::Date || is_text(declared),
            MySqlType::DateTime(digits) => match declared {
                SqlType::Timestamp(p) => p >= digits,
                _ => is_text(declared),
            },
            MySqlType::Timestamp(digits) => match declared {
                SqlType::TimestampLtz(p) | SqlType::Timestamp(p) => p >= digits,
                _ => is_text(declared),
            },
            // Below 00:00:00 and from 24:00:00 on only text and BIGINT (microseconds) hold a TIME.
            MySqlType::Time(digits) => match declared {
                SqlType::Time(p) => p >= digits,
                SqlType::BigInt => true,
                _ => is_text(declared),
            },
            // Lengths are looked at when a value comes: a TEXT column may hold short texts only.
            MySqlType::Char(_) | MySqlType::VarChar(_) | MySqlType::Text => is_text(declared),
            MySqlType::Enum(_) | MySqlType::Json => is_text(declared),
            MySqlType::Set(_) => is_text(declared) || matches!(declared, SqlType::Array(e) if is_text(&e.ty)),
            MySqlType::Binary(_) | MySqlType::VarBinary(_) | MySqlType::Blob | MySqlType::Geometry => {
                is_binary(declared)
            }
            MySqlType::Vector => is_binary(declared) || matches!(declared, SqlType::Array(e) if e.ty == SqlType::Float),
        }
    }
}

fn is_text(declared: &SqlType) -> bool {
    matches!(declared, SqlType::Char(_) | SqlType::VarChar(_))
}

fn is_binary(declared: &SqlType) -> bool {
    matches!(declared, SqlType::Binary(_) | SqlType::VarBinary(_))
}

fn array_of(ty: SqlType) -> SqlType {
    SqlType::Array(Box::new(thalweg_core::types::ElementType { ty, nullable: true }))
}

fn parse(text: &str) -> Option<MySqlType> {
    let text = text.trim();
    let name_end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let name = text[..name_end].to_ascii_lowercase();
    let rest = text[name_end..].trim_start();
    if name == "enum" || name == "set" {
        let labels = parse_labels(rest.strip_prefix('(')?)?;
        return Some(if name == "enum" { MySqlType::Enum(labels) } else { MySqlType::Set(labels) });
    }
    let (numbers, words) = match rest.strip_prefix('(') {
        Some(inner) => inner.split_once(')')?,
        None => ("", rest),
    };
    let numbers: Vec<u32> = match numbers.trim() {
        "" => vec![],
        list => list.split(',').map(|n| n.trim().parse().ok()).collect::<Option<_>>()?,
    };
    let first = numbers.first().copied();
    let words = words.to_ascii_lowercase();
    let has = |word: &str| words.split_whitespace().any(|w| w == word);
    let zerofill = has("zerofill");
    let int = |bytes| MySqlType::Int {
        bytes,
        unsigned: has("unsigned") || zerofill,
        width: first.unwrap_or(0).min(255) as u8,
        zerofill,
    };
    let digits = || u8::try_from(first.unwrap_or(0)).ok().filter(|d| *d <= 6);
    Some(match name.as_str() {
        "tinyint" => int(1),
        "smallint" => int(2),
        "mediumint" => int(3),
        "int" => int(4),
        "bigint" => int(8),
        "year" => MySqlType::Year,
        "bit" => MySqlType::Bit(u8::try_from(first.unwrap_or(1)).ok().filter(|b| (1..=64).contains(b))?),
        "float" => MySqlType::Float,
        "double" => MySqlType::Double,
        "decimal" => MySqlType::Decimal {
            precision: u8::try_from(first.unwrap_or(10)).ok().filter(|p| (1..=65).contains(p))?,
            scale: u8::try_from(numbers.get(1).copied().unwrap_or(0)).ok().filter(|s| *s <= 30)?,
            zerofill,
        },
        "date" => MySqlType::Date,
        "datetime" => MySqlType::DateTime(digits()?),
        "timestamp" => MySqlType::Timestamp(digits()?),
        "time" => MySqlType::Time(digits()?),
        "char" => MySqlType::Char(first.unwrap_or(1)),
        "varchar" => MySqlType::VarChar(first?),
        "tinytext" | "text" | "mediumtext" | "longtext" => MySqlType::Text,
        "binary" => MySqlType::Binary(first.unwrap_or(1)),
        "varbinary" => MySqlType::VarBinary(first?),
        "tinyblob" | "blob" | "mediumblob" | "longblob" => MySqlType::Blob,
        "json" => MySqlType::Json,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
        | "geomcollection" | "geometrycollection" => MySqlType::Geometry,
        "vector" => MySqlType::Vector,
        _ => return None,
    })
}

/// `'a','b''c')`: quotes doubled, and what `SHOW CREATE TABLE` escapes with a backslash.
fn parse_labels(text: &str) -> Option<Vec<String>> {
    let mut labels = vec![];
    let mut chars = text.chars().peekable();
    loop {
        if chars.next()? != '\'' {
            return None;
        }
        let mut label = String::new();
        loop {
            match chars.next()? {
                '\'' if chars.peek() == Some(&'\'') => label.push(chars.next()?),
                '\'' => break,
                '\\' => label.push(match chars.next()? {
                    '0' => '\0',
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                }),
                c => label.push(c),
            }
        }
        labels.push(label);
        match chars.next()? {
            ',' => {}
            ')' => return Some(labels),
            _ => return None,
        }
    }
}

/// As in DDL, without what makes no difference to values.
impl fmt::Display for MySqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = |f: &mut fmt::Formatter<'_>, name: &str, labels: &[String]| {
            let quoted: Vec<_> = labels.iter().map(|l| format!("'{}'", l.replace('\'', "''"))).collect();
            write!(f, "{name}({})", quoted.join(","))
        };
        match self {
            MySqlType::Int { bytes, unsigned, width, zerofill } => {
                f.write_str(match bytes {
                    1 => "tinyint",
                    2 => "smallint",
                    3 => "mediumint",
                    4 => "int",
                    _ => "bigint",
                })?;
                if *width > 0 {
                    write!(f, "({width})")?;
                }
                f.write_str(if *unsigned { " unsigned" } else { "" })?;
                f.write_str(if *zerofill { " zerofill" } else { "" })
            }
            MySqlType::Year => f.write_str("year"),
            MySqlType::Bit(n) => write!(f, "bit({n})"),
            MySqlType::Float => f.write_str("float"),
            MySqlType::Double => f.write_str("double"),
            MySqlType::Decimal { precision, scale, .. } => write!(f, "decimal({precision},{scale})"),
            MySqlType::Date => f.write_str("date"),
            MySqlType::DateTime(p) => write!(f, "datetime({p})"),
            MySqlType::Timestamp(p) => write!(f, "timestamp({p})"),
            MySqlType::Time(p) => write!(f, "time({p})"),
            MySqlType::Char(n) => write!(f, "char({n})"),
            MySqlType::VarChar(n) => write!(f, "varchar({n})"),
            MySqlType::Text => f.write_str("text"),
            MySqlType::Binary(n) => write!(f, "binary({n})"),
            MySqlType::VarBinary(n) => write!(f, "varbinary({n})"),
            MySqlType::Blob => f.write_str("blob"),
            MySqlType::Enum(l) => labels(f, "enum", l),
            MySqlType::Set(l) => labels(f, "set", l),
            MySqlType::Json => f.write_str("json"),
            MySqlType::Geometry => f.write_str("geometry"),
            MySqlType::Vector => f.write_str("vector"),
        }
    }
}
