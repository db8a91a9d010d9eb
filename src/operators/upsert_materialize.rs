//! Upsert materialize: of all rows with one sink key the last by the total order, so that a delete of one of them does
//! not delete another one's. It is Top-1 of each sink key in the reverse order.

use thalweg_core::Result;
use thalweg_core::operator::Operator;
use thalweg_graph::ops::SortKey;
use thalweg_graph::ops::upsert_materialize::UpsertMaterializeSpec;

use crate::BuildCx;
use crate::top_n::{TopN, TopNParts};

pub(crate) fn build(cx: BuildCx<'_>, spec: &UpsertMaterializeSpec) -> Result<Box<dyn Operator>> {
    let partition = spec.key.iter().map(|&column| SortKey { column, descending: false, nulls_first: true });
    let last_first = spec.order.iter().map(|&column| SortKey { column, descending: true, nulls_first: false });
    let parts = TopNParts {
        key: partition.chain(last_first).collect(),
        partition_columns: spec.key.len(),
        order_columns: spec.order.len(),
        from: 1,
        to: Some(1),
        with_rank: false,
    };
    Ok(Box::new(TopN::new(cx, parts)?))
}
