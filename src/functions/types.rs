//! Which type values of two types have in common.

use thalweg_core::types::ElementType;
use thalweg_core::{Column, SqlType};

use crate::decimal::DIGITS_MAX;

/// Why a common type is sought: what may be cast differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `=`, `<`, IN, BETWEEN, CASE operand: a string is read as the other side's type.
    Compare,
    /// UNION, CASE results, array elements: both sides keep their values.
    Unite,
}

/// The type to which both are cast without loss of meaning; `None`: they do not go together.
pub fn common_type(a: &SqlType, b: &SqlType, purpose: Purpose) -> Option<SqlType> {
    use SqlType::*;
    if a == b {
        return Some(a.clone());
    }
    Some(match (a, b) {
        (Null, other) | (other, Null) => other.clone(),
        _ if a.is_numeric() && b.is_numeric() => common_number(a, b),
        (Char(n), Char(m)) | (Char(n), VarChar(m)) | (VarChar(n), Char(m)) | (VarChar(n), VarChar(m)) => {
            VarChar(*n.max(m))
        }
        (Binary(n), Binary(m))
        | (Binary(n), VarBinary(m))
        | (VarBinary(n), Binary(m))
        | (VarBinary(n), VarBinary(m)) => VarBinary(*n.max(m)),
        (Date, Timestamp(p)) | (Timestamp(p), Date) => Timestamp(*p),
        (Date, TimestampLtz(p)) | (TimestampLtz(p), Date) => TimestampLtz(*p),
        (Timestamp(p), Timestamp(q)) => Timestamp(*p.max(q)),
        (TimestampLtz(p), TimestampLtz(q)) => TimestampLtz(*p.max(q)),
        (Timestamp(p), TimestampLtz(q)) | (TimestampLtz(q), Timestamp(p)) => TimestampLtz(*p.max(q)),
        (Time(p), Time(q)) => Time(*p.max(q)),
        (s, other) | (other, s) if s.is_string() && purpose == Purpose::Compare && is_simple(other) => {
            match other {
                // The text can have more digits than the other side.
                Timestamp(p) => Timestamp((*p).max(6)),
                TimestampLtz(p) => TimestampLtz((*p).max(6)),
                Time(p) => Time((*p).max(6)),
                other => other.clone(),
            }
        }
        (Array(x), Array(y)) => Array(Box::new(common_element(x, y, purpose)?)),
        (Map(k, x), Map(l, y)) => Map(Box::new(common_type(k, l, purpose)?), Box::new(common_element(x, y, purpose)?)),
        (Row(x), Row(y)) if x.len() == y.len() => Row(x
            .iter()
            .zip(y)
            .map(|(x, y)| Some(Column::new(&x.name, common_type(&x.ty, &y.ty, purpose)?, x.nullable || y.nullable)))
            .collect::<Option<_>>()?),
        _ => return None,
    })
}

fn common_element(x: &ElementType, y: &ElementType, purpose: Purpose) -> Option<ElementType> {
    Some(ElementType { ty: common_type(&x.ty, &y.ty, purpose)?, nullable: x.nullable || y.nullable })
}

fn is_simple(ty: &SqlType) -> bool {
    use SqlType::*;
    ty.is_numeric() || matches!(ty, Boolean | Date | Time(_) | Timestamp(_) | TimestampLtz(_))
}

fn integer_rank(ty: &SqlType) -> u8 {
    match ty {
        SqlType::TinyInt => 1,
        SqlType::SmallInt => 2,
        SqlType::Int => 3,
        _ => 4,
    }
}

/// The DECIMAL that holds every value of an exact number type.
pub fn as_decimal(ty: &SqlType) -> Option<(u8, i8)> {
    Some(match ty {
        SqlType::TinyInt => (3, 0),
        SqlType::SmallInt => (5, 0),
        SqlType::Int => (10, 0),
        SqlType::BigInt => (19, 0),
        SqlType::Decimal { precision, scale } => (*precision, *scale),
        _ => return None,
    })
}

fn common_number(a: &SqlType, b: &SqlType) -> SqlType {
    if a.is_integer() && b.is_integer() {
        return if integer_rank(a) >= integer_rank(b) { a.clone() } else { b.clone() };
    }
    match (as_decimal(a), as_decimal(b)) {
        (Some((p, s)), Some((q, t))) => {
            let scale = s.max(t);
            let whole = (i16::from(p) - i16::from(s)).max(i16::from(q) - i16::from(t));
            SqlType::Decimal { precision: (whole + i16::from(scale)).clamp(1, i16::from(DIGITS_MAX)) as u8, scale }
        }
        _ => {
            // FLOAT holds 24 bits: with anything wider it is DOUBLE.
            let small = |t: &SqlType| matches!(t, SqlType::Float | SqlType::TinyInt | SqlType::SmallInt);
            if small(a) && small(b) { SqlType::Float } else { SqlType::Double }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(precision: u8, scale: i8) -> SqlType {
        SqlType::Decimal { precision, scale }
    }

    #[test]
    fn the_common_type_holds_both() {
        for (a, b, c) in [
            (SqlType::Int, SqlType::BigInt, SqlType::BigInt),
            (SqlType::Float, SqlType::Int, SqlType::Double),
            (SqlType::Float, SqlType::SmallInt, SqlType::Float),
            (decimal(10, 2), decimal(5, 4), decimal(12, 4)),
            (decimal(38, 0), decimal(10, 10), decimal(48, 10)),
            (SqlType::Int, decimal(5, 2), decimal(12, 2)),
            (decimal(10, 2), SqlType::BigInt, decimal(21, 2)),
            (decimal(5, 2), SqlType::Double, SqlType::Double),
            (SqlType::Date, SqlType::Timestamp(3), SqlType::Timestamp(3)),
            (SqlType::Char(3), SqlType::STRING, SqlType::STRING),
            (SqlType::Null, SqlType::Boolean, SqlType::Boolean),
        ] {
            for purpose in [Purpose::Compare, Purpose::Unite] {
                assert_eq!(common_type(&a, &b, purpose), Some(c.clone()));
                assert_eq!(common_type(&b, &a, purpose), Some(c.clone()));
            }
        }
        assert_eq!(common_type(&SqlType::Int, &SqlType::Date, Purpose::Compare), None);
    }

    #[test]
    fn a_string_is_read_as_the_other_side_only_to_compare() {
        let common = |a, b, purpose| common_type(&a, &b, purpose);
        assert_eq!(common(SqlType::STRING, SqlType::Int, Purpose::Compare), Some(SqlType::Int));
        assert_eq!(common(SqlType::Date, SqlType::STRING, Purpose::Compare), Some(SqlType::Date));
        assert_eq!(common(SqlType::STRING, SqlType::Int, Purpose::Unite), None);
    }
}
