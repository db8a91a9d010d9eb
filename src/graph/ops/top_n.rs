//! Top-N: the rows of ranks `from ..= to` by ROW_NUMBER in each partition, with or without the rank as a column.
//! LIMIT is Top-N of one partition without rank.

use serde::{Deserialize, Serialize};
use thalweg_core::state::StateTableSpec;
use thalweg_core::{Column, SqlType};

use super::{Meaning, SortKey, exact, key_column, key_columns, names, own_value, rest, value_columns};
use crate::id::{Canonical, OperatorId};
use crate::node::{OutColumn, Output};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopNSpec {
    pub partition: Vec<usize>,
    /// As written; ties are broken by `ties`, ascending, NULL first.
    pub order: Vec<SortKey>,
    /// What makes the order total: `Output::ties` of the input, without columns that are in `partition` or `order`; then
    /// those of `order` that hold floats, since in the order -0.0 is 0.0.
    pub ties: Vec<usize>,
    /// First rank that is kept, from 1.
    pub from: u64,
    /// Last rank that is kept; `None`: all from `from` on (OFFSET without LIMIT).
    pub to: Option<u64>,
    /// Name of the BIGINT NOT NULL rank column, which stands last; `None`: not in the output.
    pub rank: Option<String>,
}

/// State table of rows.
pub const ROWS: &str = "rows";

impl TopNSpec {
    /// Key columns of the state table, in order: partition, order, ties.
    pub fn key(&self) -> Vec<SortKey> {
        let ascending = |&column: &usize| SortKey { column, descending: false, nulls_first: true };
        self.partition
            .iter()
            .map(ascending)
            .chain(self.order.iter().cloned())
            .chain(self.ties.iter().map(ascending))
            .collect()
    }

    fn ranks(&self) -> String {
        match (self.from, self.to) {
            (1, Some(to)) => format!("<= {to}"),
            (from, Some(to)) if from == to => format!("= {from}"),
            (from, Some(to)) => format!("BETWEEN {from} AND {to}"),
            (from, None) => format!(">= {from}"),
        }
    }
}

impl Meaning for TopNSpec {
    fn kind(&self) -> &'static str {
        "top-n row_number/1"
    }

    fn canonical(&self, c: &mut Canonical, inputs: &[&Output]) {
        let input = inputs[0];
        c.list(self.partition.iter(), |c, &p| {
            c.provenance(input.provenance(p));
        });
        c.list(self.order.iter(), |c, k| {
            c.provenance(input.provenance(k.column)).flag(k.descending).flag(k.nulls_first);
        });
        c.number(self.from).list(self.to.iter(), |c, &to| {
            c.number(to);
        });
    }

    fn outputs(&self, inputs: &[&Output], id: OperatorId) -> Vec<Output> {
        let input = inputs[0];
        let mut output = Output { append_only: false, order: None, ..input.clone() };
        for c in &mut output.columns {
            c.stable = true;
        }
        if let Some(rank) = &self.rank {
            output.columns.push(OutColumn {
                column: Column::new(rank, SqlType::BigInt, false),
                provenance: Canonical::new("rank/1").id(id).to_provenance(),
                stable: true,
            });
            output.add_key(self.partition.iter().copied().chain([input.columns.len()]).collect());
        }
        if self.to == Some(self.from) {
            output.add_key(self.partition.clone());
        }
        vec![output]
    }

    /// `rows`: (partition, order, ties) → the other columns, weight. On append-only input only ranks up to `to`.
    fn state(&self, inputs: &[&Output]) -> Vec<StateTableSpec> {
        let input = inputs[0];
        let key = self.key();
        let taken: Vec<usize> = key.iter().map(|k| k.column).collect();
        let mut value = value_columns(input, &rest(input, &taken));
        value.push(own_value("weight", SqlType::BigInt));
        let mut columns = key_columns(input, &self.partition);
        columns.extend(self.order.iter().map(|k| key_column(input, k.column, k.descending, k.nulls_first)));
        columns.extend(exact(key_columns(input, &self.ties)));
        vec![StateTableSpec {
            name: ROWS.to_owned(),
            key: columns,
            value,
            routing_columns: self.partition.len(),
            version: 1,
        }]
    }

    fn title(&self, inputs: &[&Output]) -> String {
        let input = inputs[0];
        let order: Vec<String> = self
            .order
            .iter()
            .map(|k| {
                let nulls = match (k.descending, k.nulls_first) {
                    (false, false) => " NULLS LAST",
                    (true, true) => " NULLS FIRST",
                    _ => "",
                };
                format!("{}{}{nulls}", names(input, &[k.column]), if k.descending { " DESC" } else { "" })
            })
            .collect();
        let mut title = format!("TopN ROW_NUMBER {}", self.ranks());
        if !self.partition.is_empty() {
            title += &format!(" PER {}", names(input, &self.partition));
        }
        if !order.is_empty() {
            title += &format!(" ORDER BY {}", order.join(", "));
        }
        let is_ordered_by = |o: &usize| self.order.iter().any(|k| k.column == *o);
        let ties: Vec<usize> = self.ties.iter().copied().filter(|o| !is_ordered_by(o)).collect();
        if !ties.is_empty() {
            title += &format!(", ties by {}", names(input, &ties));
        }
        title
    }
}
