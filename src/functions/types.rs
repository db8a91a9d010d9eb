//! Which type values of two types have in common.

use thalweg_core::types::ElementType;
use thalweg_core::{Column, SqlType};

use crate::decimal::DIGITS_MAX;

/// The type that values of both convert to without loss, but for integers and decimals next to a float (which
/// are doubles then) and for texts next to other values (which are read as those). `None`: there is none.
pub fn common_type(a: &SqlType, b: &SqlType) -> Option<SqlType> {
    use SqlType::*;
    if a == b {
        return Some(a.clone());
    }
    Some(match (a, b) {
        (Null, t) | (t, Null) => t.clone(),
        (Char(x), Char(y)) => {
            // Of two lengths, without filling up the shorter one.
            VarChar(*x.max(y))
        }
        (Char(x) | VarChar(x), Char(y) | VarChar(y)) => VarChar(*x.max(y)),
        (Binary(x) | VarBinary(x), Binary(y) | VarBinary(y)) => VarBinary(*x.max(y)),
        (x, y) if x.is_integer() && y.is_integer() => {
            if rank(x) >= rank(y) {
                x.clone()
            } else {
                y.clone()
            }
        }
        (Float, Float) => Float,
        (Float | Double, t) | (t, Float | Double) if t.is_numeric() => Double,
        (Decimal { precision: p, scale: s }, Decimal { precision: q, scale: t }) => {
            let whole = (i32::from(*p) - i32::from(*s)).max(i32::from(*q) - i32::from(*t));
            let scale = (*s).max(*t);
            let precision = (whole + i32::from(scale)).clamp(1, i32::from(DIGITS_MAX)) as u8;
            Decimal { precision, scale }
        }
        (d @ Decimal { .. }, i) | (i, d @ Decimal { .. }) if i.is_integer() => {
            return common_type(d, &Decimal { precision: integer_digits(i), scale: 0 });
        }
        (Date, t @ (Timestamp(_) | TimestampLtz(_))) | (t @ (Timestamp(_) | TimestampLtz(_)), Date) => t.clone(),
        (Time(p), Time(q)) => Time(*p.max(q)),
        (Timestamp(p), Timestamp(q)) => Timestamp(*p.max(q)),
        (TimestampLtz(p), TimestampLtz(q) | Timestamp(q)) | (Timestamp(p), TimestampLtz(q)) => TimestampLtz(*p.max(q)),
        (Array(x), Array(y)) => Array(Box::new(common_element(x, y)?)),
        (Map(k, v), Map(l, w)) => Map(Box::new(common_type(k, l)?), Box::new(common_element(v, w)?)),
        (Row(x), Row(y)) if x.len() == y.len() => Row(x
            .iter()
            .zip(y)
            .map(|(x, y)| Some(Column::new(&x.name, common_type(&x.ty, &y.ty)?, x.nullable || y.nullable)))
            .collect::<Option<_>>()?),
        // A text next to a value of another type is read as one.
        (Char(_) | VarChar(_), t) | (t, Char(_) | VarChar(_))
            if !matches!(t, Array(_) | Map(..) | Row(_) | Interval) =>
        {
            t.clone()
        }
        _ => return None,
    })
}

fn common_element(a: &ElementType, b: &ElementType) -> Option<ElementType> {
    Some(ElementType { ty: common_type(&a.ty, &b.ty)?, nullable: a.nullable || b.nullable })
}

fn rank(ty: &SqlType) -> u8 {
    match ty {
        SqlType::TinyInt => 1,
        SqlType::SmallInt => 2,
        SqlType::Int => 3,
        _ => 4,
    }
}

/// Decimal digits of an integer type.
pub fn integer_digits(ty: &SqlType) -> u8 {
    match ty {
        SqlType::TinyInt => 3,
        SqlType::SmallInt => 5,
        SqlType::Int => 10,
        _ => 19,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_type_holds_both() {
        let d = |precision, scale| SqlType::Decimal { precision, scale };
        for (a, b, c) in [
            (SqlType::Int, SqlType::BigInt, SqlType::BigInt),
            (SqlType::Float, SqlType::Int, SqlType::Double),
            (d(10, 2), d(5, 4), d(12, 4)),
            (d(10, 2), SqlType::BigInt, d(21, 2)),
            (SqlType::Date, SqlType::Timestamp(3), SqlType::Timestamp(3)),
            (SqlType::Char(3), SqlType::STRING, SqlType::STRING),
            (SqlType::STRING, SqlType::Int, SqlType::Int),
            (SqlType::Null, SqlType::Boolean, SqlType::Boolean),
        ] {
            assert_eq!(common_type(&a, &b), Some(c.clone()));
            assert_eq!(common_type(&b, &a), Some(c));
        }
        assert_eq!(common_type(&SqlType::Int, &SqlType::Date), None);
    }
}
