//! A view: a query with a name.

use crate::sql::{CreateView, Query};

/// A view as created; its query's places are those of its `CREATE VIEW`.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub name: String,
    pub temporary: bool,
    /// Names in place of the query's own; the planner checks that there are as many.
    pub columns: Option<Vec<String>>,
    pub comment: Option<String>,
    pub query: Query,
}

impl View {
    pub(crate) fn from_statement(v: &CreateView) -> View {
        View {
            name: v.name.value.clone(),
            temporary: v.temporary,
            columns: v.columns.as_ref().map(|c| c.iter().map(|n| n.value.clone()).collect()),
            comment: v.comment.clone(),
            query: v.query.clone(),
        }
    }
}
