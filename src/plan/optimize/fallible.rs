//! Which expressions can fail for a row: those must not be computed for rows that an earlier condition keeps away.

use thalweg_functions::cast;
use thalweg_graph::Expr;

/// Functions that have a value (or NULL) for all arguments.
const TOTAL: &[&str] = &[
    "=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "and",
    "or",
    "not",
    "is_null",
    "is_not_null",
    "is_true",
    "is_not_true",
    "is_false",
    "is_not_false",
    "is_unknown",
    "is_not_unknown",
    "is_distinct_from",
    "is_not_distinct_from",
    "like",
    "not_like",
    "ilike",
    "not_ilike",
    "in",
    "not_in",
    "||",
    "get_field",
    "make_array",
    "array_element",
    "map_element",
    "named_struct",
    "coalesce",
    "ifnull",
    "nullif",
    "greatest",
    "least",
    "upper",
    "lower",
    "btrim",
    "ltrim",
    "rtrim",
    "trim",
    "char_length",
    "character_length",
    "octet_length",
    "concat",
    "position",
    "substring",
    "reverse",
    "starts_with",
    "proctime",
    "now",
    "current_timestamp",
    "current_date",
    "localtimestamp",
    "is_digit",
    "is_alpha",
    "split_index",
    "json_value",
    "json_exists",
];

/// No row makes it fail.
pub(crate) fn is_infallible(e: &Expr) -> bool {
    let here = match e {
        Expr::Column { .. } | Expr::Literal(_) | Expr::Case { .. } => true,
        Expr::Call { function, .. } => TOTAL.contains(&function.as_str()),
        Expr::Cast { safe: true, .. } => true,
        Expr::Cast { expr, ty, .. } => !cast::is_fallible(expr.ty(), ty),
    };
    here && e.children().into_iter().all(is_infallible)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::literal;
    use thalweg_core::SqlType;

    #[test]
    fn division_and_narrowing_can_fail_and_comparison_cannot() {
        let a = Expr::column(0, SqlType::BigInt);
        let two = literal::integer(2, SqlType::BigInt);
        let compare = Expr::call(">", vec![a.clone(), two.clone()], SqlType::Boolean);
        assert!(is_infallible(&compare));
        let divide = Expr::call("/", vec![two.clone(), a.clone()], SqlType::BigInt);
        assert!(!is_infallible(&Expr::call(">", vec![divide, two], SqlType::Boolean)));
        let cast = |ty| Expr::Cast { expr: Box::new(a.clone()), ty, safe: false };
        assert!(!is_infallible(&cast(SqlType::Int)));
        assert!(is_infallible(&cast(SqlType::Double)));
    }
}
