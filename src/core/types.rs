//! SQL types (Flink's) and how they lie in Arrow.

use std::fmt;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// Length of STRING and BYTES: no limit.
pub const LENGTH_MAX: u32 = i32::MAX as u32;
/// Digits of DECIMAL at most (MySQL's limit).
pub const DECIMAL_PRECISION_MAX: u8 = 65;

/// A SQL type. Lengths and precisions that Arrow does not know are kept here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SqlType {
    /// The type of the literal NULL.
    Null,
    Boolean,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Char(u32),
    /// `VarChar(LENGTH_MAX)` is STRING.
    VarChar(u32),
    Binary(u32),
    /// `VarBinary(LENGTH_MAX)` is BYTES.
    VarBinary(u32),
    Date,
    Time(u8),
    Timestamp(u8),
    TimestampLtz(u8),
    /// In expressions only: no column has it.
    Interval,
    Array(Box<ElementType>),
    Map(Box<SqlType>, Box<ElementType>),
    Row(Vec<Column>),
}

/// Type of an array's element or a map's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ElementType {
    pub ty: SqlType,
    pub nullable: bool,
}

/// A named, typed column.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub ty: SqlType,
    pub nullable: bool,
}

impl Column {
    pub fn new(name: impl Into<String>, ty: SqlType, nullable: bool) -> Self {
        Column { name: name.into(), ty, nullable }
    }

    pub fn to_field(&self) -> Field {
        Field::new(&self.name, self.ty.to_arrow(), self.nullable)
    }
}

/// The Arrow schema of a list of columns.
pub fn to_schema<'a>(columns: impl IntoIterator<Item = &'a Column>) -> SchemaRef {
    std::sync::Arc::new(Schema::new(columns.into_iter().map(Column::to_field).collect::<Vec<_>>()))
}

impl SqlType {
    pub const STRING: SqlType = SqlType::VarChar(LENGTH_MAX);
    pub const BYTES: SqlType = SqlType::VarBinary(LENGTH_MAX);

    /// How values lie in memory. Strings are `Utf8`, bytes `Binary`; DECIMAL up to 38 digits `Decimal128`, above
    /// `Decimal256`; TIMESTAMP(p) ms for p ≤ 3, µs for p ≤ 6, else ns; TIME(p) µs for p ≤ 6, else ns;
    /// TIMESTAMP_LTZ the same with zone "UTC".
    pub fn to_arrow(&self) -> DataType {
        match self {
            SqlType::Null => DataType::Null,
            SqlType::Boolean => DataType::Boolean,
            SqlType::TinyInt => DataType::Int8,
            SqlType::SmallInt => DataType::Int16,
            SqlType::Int => DataType::Int32,
            SqlType::BigInt => DataType::Int64,
            SqlType::Float => DataType::Float32,
            SqlType::Double => DataType::Float64,
            SqlType::Decimal { precision, scale } if *precision <= 38 => DataType::Decimal128(*precision, *scale),
            SqlType::Decimal { precision, scale } => DataType::Decimal256(*precision, *scale),
            SqlType::Char(_) | SqlType::VarChar(_) => DataType::Utf8,
            SqlType::Binary(_) | SqlType::VarBinary(_) => DataType::Binary,
            SqlType::Date => DataType::Date32,
            SqlType::Time(p) if *p <= 6 => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Time(_) => DataType::Time64(TimeUnit::Nanosecond),
            SqlType::Timestamp(p) => DataType::Timestamp(unit_of(*p), None),
            SqlType::TimestampLtz(p) => DataType::Timestamp(unit_of(*p), Some("UTC".into())),
            SqlType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            SqlType::Array(e) => DataType::List(e.to_field("item")),
            SqlType::Map(key, value) => {
                let key = Field::new("key", key.to_arrow(), false);
                let entries = Fields::from(vec![std::sync::Arc::new(key), value.to_field("value")]);
                DataType::Map(Field::new("entries", DataType::Struct(entries), false).into(), false)
            }
            SqlType::Row(columns) => DataType::Struct(columns.iter().map(Column::to_field).collect()),
        }
    }

    /// The SQL type of values that lie in memory as `ty`; `None` for what no SQL type maps to. Types that hold the
    /// same values in another layout (`Utf8View`, `UInt8`, dictionaries) give the type to cast them to.
    pub fn from_arrow(ty: &DataType) -> Option<SqlType> {
        Some(match ty {
            DataType::Null => SqlType::Null,
            DataType::Boolean => SqlType::Boolean,
            DataType::Int8 => SqlType::TinyInt,
            DataType::Int16 | DataType::UInt8 => SqlType::SmallInt,
            DataType::Int32 | DataType::UInt16 => SqlType::Int,
            DataType::Int64 | DataType::UInt32 => SqlType::BigInt,
            DataType::UInt64 => SqlType::Decimal { precision: 20, scale: 0 },
            DataType::Float16 | DataType::Float32 => SqlType::Float,
            DataType::Float64 => SqlType::Double,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
                SqlType::Decimal { precision: *p, scale: *s }
            }
            DataType::Decimal256(p, s) => SqlType::Decimal { precision: *p, scale: *s },
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => SqlType::STRING,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                SqlType::BYTES
            }
            DataType::Date32 | DataType::Date64 => SqlType::Date,
            DataType::Time32(TimeUnit::Second) => SqlType::Time(0),
            DataType::Time32(_) => SqlType::Time(3),
            DataType::Time64(TimeUnit::Nanosecond) => SqlType::Time(9),
            DataType::Time64(_) => SqlType::Time(6),
            DataType::Timestamp(unit, None) => SqlType::Timestamp(precision_of(*unit)),
            DataType::Timestamp(unit, Some(_)) => SqlType::TimestampLtz(precision_of(*unit)),
            DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval,
            DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::ListView(f) => {
                SqlType::Array(Box::new(ElementType::from_field(f)?))
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(f) if f.len() == 2 => SqlType::Map(
                    Box::new(SqlType::from_arrow(f[0].data_type())?),
                    Box::new(ElementType::from_field(&f[1])?),
                ),
                _ => return None,
            },
            DataType::Struct(fields) => SqlType::Row(
                fields
                    .iter()
                    .map(|f| Some(Column::new(f.name(), SqlType::from_arrow(f.data_type())?, f.is_nullable())))
                    .collect::<Option<_>>()?,
            ),
            DataType::Dictionary(_, value) => SqlType::from_arrow(value)?,
            _ => return None,
        })
    }

    pub fn is_numeric(&self) -> bool {
        self.is_integer() || matches!(self, SqlType::Float | SqlType::Double | SqlType::Decimal { .. })
    }

    pub fn is_integer(&self) -> bool {
        matches!(self, SqlType::TinyInt | SqlType::SmallInt | SqlType::Int | SqlType::BigInt)
    }

    pub fn is_string(&self) -> bool {
        matches!(self, SqlType::Char(_) | SqlType::VarChar(_))
    }

    /// Types with a total order, which may be keys: all but MAP, INTERVAL and what contains them.
    pub fn is_orderable(&self) -> bool {
        match self {
            SqlType::Map(..) | SqlType::Interval => false,
            SqlType::Array(e) => e.ty.is_orderable(),
            SqlType::Row(columns) => columns.iter().all(|c| c.ty.is_orderable()),
            _ => true,
        }
    }
}

impl ElementType {
    fn to_field(&self, name: &str) -> FieldRef {
        std::sync::Arc::new(Field::new(name, self.ty.to_arrow(), self.nullable))
    }

    fn from_field(field: &Field) -> Option<Self> {
        Some(ElementType { ty: SqlType::from_arrow(field.data_type())?, nullable: field.is_nullable() })
    }
}

fn unit_of(precision: u8) -> TimeUnit {
    match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

fn precision_of(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// As in DDL: `DECIMAL(10, 2)`, `VARCHAR(20)`, `ROW<a INT, b STRING NOT NULL>`.
impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlType::Null => f.write_str("NULL"),
            SqlType::Boolean => f.write_str("BOOLEAN"),
            SqlType::TinyInt => f.write_str("TINYINT"),
            SqlType::SmallInt => f.write_str("SMALLINT"),
            SqlType::Int => f.write_str("INT"),
            SqlType::BigInt => f.write_str("BIGINT"),
            SqlType::Float => f.write_str("FLOAT"),
            SqlType::Double => f.write_str("DOUBLE"),
            SqlType::Decimal { precision, scale } => write!(f, "DECIMAL({precision}, {scale})"),
            SqlType::Char(n) => write!(f, "CHAR({n})"),
            SqlType::VarChar(LENGTH_MAX) => f.write_str("STRING"),
            SqlType::VarChar(n) => write!(f, "VARCHAR({n})"),
            SqlType::Binary(n) => write!(f, "BINARY({n})"),
            SqlType::VarBinary(LENGTH_MAX) => f.write_str("BYTES"),
            SqlType::VarBinary(n) => write!(f, "VARBINARY({n})"),
            SqlType::Date => f.write_str("DATE"),
            SqlType::Time(p) => write!(f, "TIME({p})"),
            SqlType::Timestamp(p) => write!(f, "TIMESTAMP({p})"),
            SqlType::TimestampLtz(p) => write!(f, "TIMESTAMP_LTZ({p})"),
            SqlType::Interval => f.write_str("INTERVAL"),
            SqlType::Array(e) => write!(f, "ARRAY<{}{}>", e.ty, not_null(e.nullable)),
            SqlType::Map(k, v) => write!(f, "MAP<{k}, {}{}>", v.ty, not_null(v.nullable)),
            SqlType::Row(columns) => {
                f.write_str("ROW<")?;
                for (i, c) in columns.iter().enumerate() {
                    write!(f, "{}{} {}{}", if i == 0 { "" } else { ", " }, c.name, c.ty, not_null(c.nullable))?;
                }
                f.write_str(">")
            }
        }
    }
}

fn not_null(nullable: bool) -> &'static str {
    if nullable { "" } else { " NOT NULL" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrow_and_back_keeps_what_arrow_knows() {
        for ty in [
            SqlType::Boolean,
            SqlType::BigInt,
            SqlType::Decimal { precision: 10, scale: 2 },
            SqlType::Decimal { precision: 65, scale: 30 },
            SqlType::STRING,
            SqlType::BYTES,
            SqlType::Date,
            SqlType::Time(6),
            SqlType::Timestamp(3),
            SqlType::TimestampLtz(9),
            SqlType::Array(Box::new(ElementType { ty: SqlType::Int, nullable: true })),
            SqlType::Map(Box::new(SqlType::STRING), Box::new(ElementType { ty: SqlType::Int, nullable: false })),
            SqlType::Row(vec![Column::new("a", SqlType::Int, true)]),
        ] {
            assert_eq!(SqlType::from_arrow(&ty.to_arrow()), Some(ty));
        }
    }

    #[test]
    fn types_print_as_in_ddl() {
        let row = SqlType::Row(vec![Column::new("a", SqlType::Int, true), Column::new("b", SqlType::STRING, false)]);
        assert_eq!(row.to_string(), "ROW<a INT, b STRING NOT NULL>");
        assert_eq!(SqlType::Timestamp(3).to_string(), "TIMESTAMP(3)");
    }
}
