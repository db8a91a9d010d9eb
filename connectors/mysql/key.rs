//! Primary keys of rows: what chunks of a snapshot are cut by.
//!
//! Keys of integers, decimals, temporal types and binary strings are compared here, as the server orders them. Text
//! is compared by the server alone: its order and its equality are those of a collation.

use std::cmp::Ordering;
use std::fmt;

use arrow::datatypes::i256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thalweg_core::{Error, Result};

use crate::decimal;
use crate::types::MySqlType;

/// The primary key of a row: one part per column.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key(pub Vec<KeyPart>);

/// A key column's value. Parts of one column are always of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// Signed integers.
    Int(i64),
    /// Unsigned integers, YEAR, numbers of ENUM labels, masks of SET.
    Unsigned(u64),
    /// The unscaled value and the column's scale.
    Decimal(i256, u8),
    /// Year, month, day; may be zero.
    Date(u16, u8, u8),
    /// DATETIME, and TIMESTAMP in UTC; may be zero.
    DateTime(DateTime),
    /// Microseconds.
    Time(i64),
    /// Bytes that order as bytes do.
    Binary(Vec<u8>),
    /// Text in the column's character set, which the server compares.
    Text(Vec<u8>),
}

/// A date with a time of day as MySQL has it: also what is no day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DateTime {
    pub year: u16,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub micros: u32,
}

/// A column of a primary key, and how statements are to name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// As the server calls it.
    pub name: String,
    /// What is selected, ordered and compared by: `` `id` ``, for ENUM and SET their number.
    pub expression: String,
    /// What stands for a value in a statement, with one `?` in it that `KeyPart::parameter` is bound to.
    pub placeholder: String,
    /// Only the server can compare values of it.
    pub by_server: bool,
}

impl KeyColumn {
    /// # Errors
    /// Types whose values cannot be paged by.
    pub(crate) fn new(table: &str, name: &str, ty: &MySqlType, charset: Option<(&str, &str)>) -> Result<Self> {
        let quoted = quote_name(name);
        let mut expression = quoted.clone();
        let mut by_server = false;
        let placeholder = match ty {
            MySqlType::Int { unsigned: true, .. } | MySqlType::Year => "CAST(? AS UNSIGNED)".to_owned(),
            MySqlType::Int { .. } => "CAST(? AS SIGNED)".to_owned(),
            MySqlType::Decimal { precision, scale, .. } => format!("CAST(? AS DECIMAL({precision},{scale}))"),
            MySqlType::Date => "CAST(? AS DATE)".to_owned(),
            MySqlType::DateTime(p) | MySqlType::Timestamp(p) => format!("CAST(? AS DATETIME({p}))"),
            MySqlType::Time(p) => format!("CAST(? AS TIME({p}))"),
            MySqlType::Binary(_) | MySqlType::VarBinary(_) | MySqlType::Blob => "UNHEX(?)".to_owned(),
            // Labels order by their number, but compare as text.
            MySqlType::Enum(_) | MySqlType::Set(_) => {
                expression = format!("CAST({quoted} AS UNSIGNED)");
                "CAST(? AS UNSIGNED)".to_owned()
            }
            MySqlType::Char(_) | MySqlType::VarChar(_) | MySqlType::Text => match charset {
                Some((charset, collation)) => {
                    by_server = true;
                    format!("CONVERT(UNHEX(?) USING {charset}) COLLATE {collation}")
                }
                None => "UNHEX(?)".to_owned(),
            },
            MySqlType::Float | MySqlType::Double | MySqlType::Bit(_) => {
                return Err(Error::unsupported(format!(
                    "table {table} has {ty} column \"{name}\" in its primary key, by which no snapshot can be cut"
                ))
                .note("start without a snapshot, for example 'scan.startup.mode' = 'latest-offset'"));
            }
            MySqlType::Json | MySqlType::Geometry | MySqlType::Vector => {
                return Err(Error::internal(format!("{ty} column \"{name}\" in a primary key")));
            }
        };
        Ok(KeyColumn { name: name.to_owned(), expression, placeholder, by_server })
    }
}

/// A name in backquotes.
pub fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

impl Key {
    /// How this key orders against another one of the same table; `None`: the server has to say.
    pub fn compare(&self, other: &Key) -> Option<Ordering> {
        for (a, b) in self.0.iter().zip(&other.0) {
            match a.compare(b)? {
                Ordering::Equal => {}
                order => return Some(order),
            }
        }
        Some(self.0.len().cmp(&other.0.len()))
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let part = |p: &KeyPart| match p {
            KeyPart::Binary(b) | KeyPart::Text(b) => b.len(),
            _ => 0,
        };
        self.0.len() * std::mem::size_of::<KeyPart>() + self.0.iter().map(part).sum::<usize>()
    }
}

impl KeyPart {
    /// As the column's values order; `None`: the server has to say. Equal bytes are equal text in every collation.
    pub fn compare(&self, other: &KeyPart) -> Option<Ordering> {
        Some(match (self, other) {
            (KeyPart::Int(a), KeyPart::Int(b)) => a.cmp(b),
            (KeyPart::Unsigned(a), KeyPart::Unsigned(b)) => a.cmp(b),
            (KeyPart::Decimal(a, _), KeyPart::Decimal(b, _)) => a.cmp(b),
            (KeyPart::Date(y1, m1, d1), KeyPart::Date(y2, m2, d2)) => (y1, m1, d1).cmp(&(y2, m2, d2)),
            (KeyPart::DateTime(a), KeyPart::DateTime(b)) => a.cmp(b),
            (KeyPart::Time(a), KeyPart::Time(b)) => a.cmp(b),
            (KeyPart::Binary(a), KeyPart::Binary(b)) => a.cmp(b),
            (KeyPart::Text(a), KeyPart::Text(b)) if a == b => Ordering::Equal,
            _ => return None,
        })
    }

    /// What is bound to the `?` of `KeyColumn::placeholder`: always text. Bytes and text as hexadecimal digits, so that
    /// no character set of the connection stands between.
    pub fn parameter(&self) -> String {
        match self {
            KeyPart::Binary(bytes) | KeyPart::Text(bytes) => bytes.iter().map(|b| format!("{b:02X}")).collect(),
            other => other.to_string(),
        }
    }
}

/// As SQL would have the value; text and bytes as hexadecimal digits unless they are plain.
impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyPart::Int(v) => write!(f, "{v}"),
            KeyPart::Unsigned(v) => write!(f, "{v}"),
            KeyPart::Decimal(unscaled, scale) => {
                let mut text = vec![];
                decimal::write_scaled(&unscaled.to_string(), *scale, &mut text);
                f.write_str(&String::from_utf8_lossy(&text))
            }
            KeyPart::Date(y, m, d) => write!(f, "{y:04}-{m:02}-{d:02}"),
            KeyPart::DateTime(t) => write!(f, "{t}"),
            KeyPart::Time(micros) => {
                let sign = if *micros < 0 { "-" } else { "" };
                let v = micros.unsigned_abs();
                let (seconds, micros) = (v / 1_000_000, v % 1_000_000);
                write!(f, "{sign}{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
            }
            KeyPart::Binary(bytes) | KeyPart::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !text.chars().any(char::is_control) => write!(f, "'{text}'"),
                _ => write!(f, "x'{}'", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
            },
        }
    }
}

/// `(1, 'a')`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, part) in self.0.iter().enumerate() {
            write!(f, "{}{part}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str(")")
    }
}

/// `2024-02-29 10:00:00.000000`.
impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DateTime { year, month, day, hour, minute, second, micros } = self;
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}")
    }
}

/// In positions a part is `kind:value`, with bytes and text as hexadecimal digits: `int:42`, `text:6162`.
impl Serialize for KeyPart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = match self {
            KeyPart::Int(_) => "int",
            KeyPart::Unsigned(_) => "unsigned",
            KeyPart::Decimal(..) => "decimal",
            KeyPart::Date(..) => "date",
            KeyPart::DateTime(_) => "datetime",
            KeyPart::Time(_) => "time",
            KeyPart::Binary(_) => "binary",
            KeyPart::Text(_) => "text",
        };
        serializer.collect_str(&format_args!("{kind}:{}", self.parameter()))
    }
}

impl<'de> Deserialize<'de> for KeyPart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        read_part(&text).ok_or_else(|| serde::de::Error::custom(format!("'{text}' is not part of a key")))
    }
}

fn read_part(text: &str) -> Option<KeyPart> {
    let (kind, value) = text.split_once(':')?;
    Some(match kind {
        "int" => KeyPart::Int(value.parse().ok()?),
        "unsigned" => KeyPart::Unsigned(value.parse().ok()?),
        "decimal" => {
            let scale = value.split_once('.').map_or(0, |(_, after)| after.len());
            let scale = u8::try_from(scale).ok()?;
            KeyPart::Decimal(decimal::from_text(value.as_bytes(), scale)?, scale)
        }
        "date" => {
            let t = read_datetime(&format!("{value} 00:00:00.0"))?;
            KeyPart::Date(t.year, t.month, t.day)
        }
        "datetime" => KeyPart::DateTime(read_datetime(value)?),
        "time" => {
            let (sign, rest) = value.strip_prefix('-').map_or((1, value), |rest| (-1, rest));
            let (hms, micros) = rest.split_once('.')?;
            let mut parts = hms.split(':').map(|p| p.parse::<i64>().ok());
            let (h, m, s) = (parts.next()??, parts.next()??, parts.next()??);
            KeyPart::Time(sign * (((h * 60 + m) * 60 + s) * 1_000_000 + micros.parse::<i64>().ok()?))
        }
        "binary" => KeyPart::Binary(read_hex(value)?),
        "text" => KeyPart::Text(read_hex(value)?),
        _ => return None,
    })
}

fn read_datetime(text: &str) -> Option<DateTime> {
    let (date, time) = text.split_once(' ')?;
    let (hms, micros) = time.split_once('.')?;
    let mut date = date.split('-');
    let mut hms = hms.split(':');
    Some(DateTime {
        year: date.next()?.parse().ok()?,
        month: date.next()?.parse().ok()?,
        day: date.next()?.parse().ok()?,
        hour: hms.next()?.parse().ok()?,
        minute: hms.next()?.parse().ok()?,
        second: hms.next()?.parse().ok()?,
        micros: micros.parse().ok()?,
    })
}

fn read_hex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let pairs = bytes.chunks(2).map(|pair| {
        let text = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?;
        u8::from_str_radix(text, 16).ok()
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_a_checkpoint() {
        let moment = DateTime { year: 2024, month: 2, day: 29, hour: 23, minute: 59, second: 58, micros: 7 };
        let key = Key(vec![
            KeyPart::Int(i64::MIN),
            KeyPart::Unsigned(u64::MAX),
            KeyPart::Decimal(i256::from_i128(-5), 2),
            KeyPart::Decimal(i256::from_i128(12), 0),
            KeyPart::Date(0, 0, 0),
            KeyPart::DateTime(moment),
            KeyPart::Time(-3_020_399_000_001),
            KeyPart::Binary(vec![0, 255]),
            KeyPart::Text("ä'".as_bytes().to_vec()),
        ]);
        let stored = serde_json::to_string(&key).unwrap();
        assert!(stored.contains("\"decimal:-0.05\""), "{stored}");
        assert!(stored.contains("\"time:-838:59:59.000001\""), "{stored}");
        assert_eq!(serde_json::from_str::<Key>(&stored).unwrap(), key);
        assert!(serde_json::from_str::<Key>(r#"["int:x"]"#).is_err());
    }

    #[test]
    fn text_that_differs_is_left_to_the_server() {
        let key = |text: &str, n: i64| Key(vec![KeyPart::Text(text.as_bytes().to_vec()), KeyPart::Int(n)]);
        assert_eq!(key("a", 1).compare(&key("a", 2)), Some(Ordering::Less));
        assert_eq!(key("a", 1).compare(&key("A", 2)), None);
        let key = |n: i64, text: &str| Key(vec![KeyPart::Int(n), KeyPart::Text(text.as_bytes().to_vec())]);
        assert_eq!(key(1, "a").compare(&key(2, "A")), Some(Ordering::Less));
    }
}
