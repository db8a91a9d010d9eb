//! Per kind of operator: its parameters, what they mean (canonical form), its state tables, and what its output is.

pub mod aggregate;
pub mod deduplicate;
pub mod filter;
pub mod join;
pub mod memoize;
pub mod normalize;
pub mod project;
pub mod sink;
pub mod source;
pub mod top_n;
pub mod union;
pub mod upsert_materialize;

use serde::{Deserialize, Serialize};
use thalweg_core::cells::has_floats;
use thalweg_core::state::{KeyColumn, StateTableSpec, ValueColumn};

use crate::id::{Canonical, OperatorId};
use crate::node::Output;

/// What an operator means, apart from how it runs.
pub trait Meaning {
    /// Kind and version of the canonical form: `filter/1`. Raised when the same parameters come to mean another thing.
    fn kind(&self) -> &'static str;

    /// Writes what enters the id: semantic parameters, columns by their provenance. Neither ordinals, nor names given
    /// by aliases, nor carried columns.
    fn canonical(&self, c: &mut Canonical, inputs: &[&Output]);

    /// What of the rest makes two operators different though id and output columns are equal.
    fn variant(&self, c: &mut Canonical, inputs: &[&Output]) {
        let _ = (c, inputs);
    }

    /// A sink takes its identity from its target, everything else also from its inputs.
    fn is_identified_by_inputs(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &[&Output], id: OperatorId) -> Vec<Output>;

    fn state(&self, inputs: &[&Output]) -> Vec<StateTableSpec> {
        let _ = inputs;
        vec![]
    }

    /// The line of EXPLAIN, without the id: `Filter amount > 3`.
    fn title(&self, inputs: &[&Output]) -> String;
}

/// One column of an ORDER BY.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SortKey {
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
}

/// Key columns of a state table, in ascending order, NULL first.
pub(crate) fn key_columns(input: &Output, ordinals: &[usize]) -> Vec<KeyColumn> {
    ordinals.iter().map(|&o| key_column(input, o, false, true)).collect()
}

pub(crate) fn key_column(input: &Output, ordinal: usize, descending: bool, nulls_first: bool) -> KeyColumn {
    let c = &input.columns[ordinal];
    KeyColumn {
        name: c.column.name.clone(),
        ty: c.column.ty.clone(),
        descending,
        nulls_first,
        exact: false,
        provenance: c.provenance.to_string(),
    }
}

/// The same for columns that tell rows apart: -0.0 is not 0.0 in them, and they may be of a type without an order.
pub(crate) fn exact(columns: Vec<KeyColumn>) -> impl Iterator<Item = KeyColumn> {
    columns.into_iter().map(|c| KeyColumn { exact: has_floats(&c.ty.to_arrow()) || !c.ty.is_orderable(), ..c })
}

pub(crate) fn value_columns(input: &Output, ordinals: &[usize]) -> Vec<ValueColumn> {
    ordinals
        .iter()
        .map(|&o| {
            let c = &input.columns[o];
            ValueColumn { name: c.column.name.clone(), ty: c.column.ty.clone(), provenance: c.provenance.to_string() }
        })
        .collect()
}

/// A value column of the operator's own (a count, a weight): its provenance is its name.
pub(crate) fn own_value(name: &str, ty: thalweg_core::SqlType) -> ValueColumn {
    ValueColumn { name: name.to_owned(), ty, provenance: name.to_owned() }
}

/// Ordinals of `input` that are not among `taken`, ascending.
pub(crate) fn rest(input: &Output, taken: &[usize]) -> Vec<usize> {
    (0..input.columns.len()).filter(|o| !taken.contains(o)).collect()
}

/// The names of columns, for titles.
pub(crate) fn names(input: &Output, ordinals: &[usize]) -> String {
    ordinals.iter().map(|&o| input.columns[o].column.name.as_str()).collect::<Vec<_>>().join(", ")
}
