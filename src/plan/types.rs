//! What a column can store, and how precise times are.

use thalweg_core::SqlType;

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
