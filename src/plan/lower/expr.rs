//! Small helpers over graph expressions.

use thalweg_core::Column;
use thalweg_graph::Expr;
use thalweg_graph::ops::project::ProjectColumn;

/// A projection's column that gives column `ordinal` of the input.
pub(super) fn pass(ordinal: usize, of: &Column) -> ProjectColumn {
    ProjectColumn { expr: Expr::column(ordinal, of.ty.clone()), name: of.name.clone(), nullable: of.nullable }
}
