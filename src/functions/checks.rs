//! Checks that the planner puts before a sink: they give their first argument, or an error of the row.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use thalweg_core::{Error, Result};

use crate::cast::shown;
use crate::function::{Arg, Call, Function, Ret};

pub const FUNCTIONS: &[Function] = &[
    Function::new(
        "check_length",
        &[Arg::StrOrBytes, Arg::Int],
        Ret::Arg(0),
        check_length,
        "CHECK_LENGTH(value, n)",
        "The value; an error if it is longer than n characters or bytes.",
    ),
    Function::new(
        "check_not_null",
        &[Arg::Any, Arg::Str],
        Ret::Arg(0),
        check_not_null,
        "CHECK_NOT_NULL(value, name)",
        "The value; an error if it is NULL.",
    ),
];

fn check_length(c: &Call) -> Result<ArrayRef> {
    let n = c.int(1);
    let is_text = *c.array(0).data_type() == DataType::Utf8;
    for row in 0..c.rows {
        let i = c.index(0, row);
        let Some(n) = n.get(row).and_then(|n| usize::try_from(n).ok()) else { continue };
        if c.is_null(0, row) {
            continue;
        }
        if is_text {
            let s = c.array(0).as_string::<i32>().value(i);
            // Bytes are at least characters.
            if s.len() > n && s.chars().count() > n {
                return Err(Error::row(format!("{} is longer than {n} characters", shown(s))));
            }
        } else {
            let bytes = c.array(0).as_binary::<i32>().value(i).len();
            if bytes > n {
                return Err(Error::row(format!("a value of {bytes} bytes is longer than {n} bytes")));
            }
        }
    }
    c.expanded(0)
}

fn check_not_null(c: &Call) -> Result<ArrayRef> {
    let value = c.array(0);
    if (*value.data_type() == DataType::Null || value.null_count() > 0)
        && let Some(row) = (0..c.rows).find(|row| c.is_null(0, *row))
    {
        let name = c.str(1).get(row).unwrap_or("?");
        return Err(Error::row(format!("NULL for column \"{name}\", which is NOT NULL")));
    }
    c.expanded(0)
}

#[cfg(test)]
mod tests {
    use crate::testing::{call, is};

    const NULL: Option<()> = None;

    #[test]
    fn checks_give_the_value_or_an_error() {
        is! {
            check_length("abc", 3) => "abc";
            check_length("äöü", 3) => "äöü";
            check_length(NULL, 3) => "NULL";
            check_length(&b"abc"[..], 3) => "abc";
            check_not_null(5, "a") => "5";
        }
        let e = call("check_length", &[&"abcd", &3]).unwrap_err();
        assert_eq!(e.message(), "'abcd' is longer than 3 characters");
        assert!(call("check_length", &[&&b"abcd"[..], &3]).is_err());
        let e = call("check_not_null", &[&NULL, &"total"]).unwrap_err();
        assert_eq!(e.message(), "NULL for column \"total\", which is NOT NULL");
    }
}
