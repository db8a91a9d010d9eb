//! Which types go together: the common type of two, what a cast can do, what a column can store.

use thalweg_core::types::ElementType;
use thalweg_core::{Column, SqlType};

/// Why a common type is sought: what may be cast differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `=`, `<`, IN, BETWEEN, CASE operand: a string is read as the other side's type.
    Compare,
    /// UNION, CASE results, array elements: both sides keep their values.
    Unite,
}

/// The type to which both are cast without loss of meaning; `None`: they do not go together.
pub(crate) fn common(a: &SqlType, b: &SqlType, purpose: Purpose) -> Option<SqlType> {
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
        (Map(k, x), Map(l, y)) => Map(Box::new(common(k, l, purpose)?), Box::new(common_element(x, y, purpose)?)),
        (Row(x), Row(y)) if x.len() == y.len() => Row(x
            .iter()
            .zip(y)
            .map(|(x, y)| Some(Column::new(&x.name, common(&x.ty, &y.ty, purpose)?, x.nullable || y.nullable)))
            .collect::<Option<_>>()?),
        _ => return None,
    })
}

fn common_element(x: &ElementType, y: &ElementType, purpose: Purpose) -> Option<ElementType> {
    Some(ElementType { ty: common(&x.ty, &y.ty, purpose)?, nullable: x.nullable || y.nullable })
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
pub(crate) fn as_decimal(ty: &SqlType) -> Option<(u8, i8)> {
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
            SqlType::Decimal { precision: (whole + i16::from(scale)).clamp(1, 76) as u8, scale }
        }
        _ => {
            // FLOAT holds 24 bits: with anything wider it is DOUBLE.
            let small = |t: &SqlType| matches!(t, SqlType::Float | SqlType::TinyInt | SqlType::SmallInt);
            if small(a) && small(b) { SqlType::Float } else { SqlType::Double }
        }
    }
}

/// Whether a column of type `to` takes values of `from` without an explicit CAST (checked at run time: range, length).
pub(crate) fn can_store(from: &SqlType, to: &SqlType) -> bool {
    use SqlType::*;
    if from == to || *from == Null {
        return true;
    }
    match (from, to) {
        _ if from.is_numeric() && to.is_numeric() => true,
        (a, b) if a.is_string() && b.is_string() => true,
        (Binary(_) | VarBinary(_), Binary(_) | VarBinary(_)) => true,
        (Date, Timestamp(_)) | (Time(_), Time(_)) => true,
        (Timestamp(_) | TimestampLtz(_), Timestamp(_) | TimestampLtz(_)) => true,
        (Array(x), Array(y)) => can_store(&x.ty, &y.ty),
        (Map(k, x), Map(l, y)) => can_store(k, l) && can_store(&x.ty, &y.ty),
        (Row(x), Row(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| can_store(&x.ty, &y.ty)),
        _ => false,
    }
}

/// Digits behind the second of a TIME, TIMESTAMP or TIMESTAMP_LTZ.
pub(crate) fn fraction_digits(ty: &SqlType) -> Option<u8> {
    match ty {
        SqlType::Time(p) | SqlType::Timestamp(p) | SqlType::TimestampLtz(p) => Some(*p),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(precision: u8, scale: i8) -> SqlType {
        SqlType::Decimal { precision, scale }
    }

    #[test]
    fn numbers_meet_without_loss() {
        let c = |a: &SqlType, b: &SqlType| common(a, b, Purpose::Unite).unwrap();
        assert_eq!(c(&SqlType::Int, &SqlType::BigInt), SqlType::BigInt);
        assert_eq!(c(&SqlType::Int, &decimal(5, 2)), decimal(12, 2));
        assert_eq!(c(&decimal(38, 0), &decimal(10, 10)), decimal(48, 10));
        assert_eq!(c(&SqlType::Float, &SqlType::Int), SqlType::Double);
        assert_eq!(c(&decimal(5, 2), &SqlType::Double), SqlType::Double);
    }

    #[test]
    fn a_string_is_read_as_the_other_side_only_to_compare() {
        assert_eq!(common(&SqlType::STRING, &SqlType::Int, Purpose::Compare), Some(SqlType::Int));
        assert_eq!(common(&SqlType::Date, &SqlType::STRING, Purpose::Compare), Some(SqlType::Date));
        assert_eq!(common(&SqlType::STRING, &SqlType::Int, Purpose::Unite), None);
    }
}
