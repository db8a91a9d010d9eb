//! Aggregate: groups and their aggregate calls. Without calls it is DISTINCT; without group columns a global aggregate
//! with one row, also for empty input.

use serde::{Deserialize, Serialize};
use thalweg_core::state::{StateTableSpec, ValueColumn};
use thalweg_core::{Column, SqlType};

use super::{Meaning, key_columns, names, own_value};
use crate::id::{Canonical, OperatorId, Provenance};
use crate::node::{OutColumn, Output};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AggregateSpec {
    /// Ordinals of the input; the first output columns, in this order.
    pub group: Vec<usize>,
    /// The output columns behind the group's.
    pub calls: Vec<AggregateCall>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AggregateCall {
    pub function: AggregateFunction,
    /// `None` for COUNT(*) only.
    pub arg: Option<usize>,
    pub distinct: bool,
    /// A BOOLEAN column of the input: only rows for which it is true count.
    pub filter: Option<usize>,
    pub name: String,
    pub ty: SqlType,
    pub nullable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AggregateFunction {
    Count,
    Sum,
    Avg,
    Min,
    Max,
}

impl AggregateFunction {
    pub fn name(self) -> &'static str {
        match self {
            AggregateFunction::Count => "COUNT",
            AggregateFunction::Sum => "SUM",
            AggregateFunction::Avg => "AVG",
            AggregateFunction::Min => "MIN",
            AggregateFunction::Max => "MAX",
        }
    }
}

impl AggregateCall {
    /// Needs every value with its count, not only a running accumulator.
    pub fn needs_values(&self, append_only: bool) -> bool {
        let min_max = matches!(self.function, AggregateFunction::Min | AggregateFunction::Max);
        (min_max && !append_only) || (self.distinct && !min_max)
    }

    pub fn provenance(&self, input: &Output) -> Provenance {
        let mut c = Canonical::new("aggregate call/1");
        // MIN(DISTINCT x) is MIN(x).
        let distinct = self.distinct && !matches!(self.function, AggregateFunction::Min | AggregateFunction::Max);
        c.text(self.function.name()).flag(distinct).text(&self.ty.to_string());
        c.list(self.arg.iter(), |c, &a| {
            c.provenance(input.provenance(a));
        });
        c.list(self.filter.iter(), |c, &f| {
            c.provenance(input.provenance(f));
        });
        c.to_provenance()
    }

    /// As in titles and messages: `SUM(amount) FILTER f`.
    pub fn text(&self, input: &Output) -> String {
        let name = |o: usize| input.columns[o].column.name.clone();
        let arg = self.arg.map_or("*".to_owned(), name);
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        let filter = self.filter.map_or(String::new(), |f| format!(" FILTER {}", name(f)));
        format!("{}({distinct}{arg}){filter}", self.function.name())
    }
}

/// State table of groups.
pub const GROUPS: &str = "groups";

/// State table of the values of one call, see `AggregateCall::needs_values`: `values-` and 8 hex digits of the call's
/// provenance.
pub fn values_table(call: &AggregateCall, input: &Output) -> String {
    format!("values-{}", &call.provenance(input).to_string()[..8])
}

impl Meaning for AggregateSpec {
    fn kind(&self) -> &'static str {
        "aggregate/1"
    }

    /// The calls do not enter: they are columns that can be carried or not; state is compared column by column.
    fn canonical(&self, c: &mut Canonical, inputs: &[&Output]) {
        c.list(self.group.iter(), |c, &g| {
            c.provenance(inputs[0].provenance(g));
        });
    }

    fn outputs(&self, inputs: &[&Output], _: OperatorId) -> Vec<Output> {
        let input = inputs[0];
        let mut columns: Vec<OutColumn> =
            self.group.iter().map(|&g| OutColumn { stable: true, ..input.columns[g].clone() }).collect();
        columns.extend(self.calls.iter().map(|call| OutColumn {
            column: Column::new(&call.name, call.ty.clone(), call.nullable),
            provenance: call.provenance(input),
            stable: true,
        }));
        let mut output = Output {
            columns,
            append_only: self.calls.is_empty() && input.append_only,
            unique_keys: vec![],
            bounded: input.bounded,
            order: None,
        };
        output.add_key((0..self.group.len()).collect());
        vec![output]
    }

    /// `groups`: group → weight of all its rows (0 or more), then per call its accumulator (opaque bytes in the
    /// call's own frozen form) under the call's provenance. `values-…`: (group, value) → count, per call that needs it.
    fn state(&self, inputs: &[&Output]) -> Vec<StateTableSpec> {
        let input = inputs[0];
        let group_columns = key_columns(input, &self.group);
        let mut value = vec![own_value("rows", SqlType::BigInt)];
        value.extend(self.calls.iter().map(|call| ValueColumn {
            name: call.text(input),
            ty: SqlType::BYTES,
            provenance: call.provenance(input).to_string(),
        }));
        let mut tables = vec![StateTableSpec {
            name: GROUPS.to_owned(),
            key: group_columns.clone(),
            value,
            routing_columns: self.group.len(),
            version: 1,
        }];
        for call in self.calls.iter().filter(|c| c.needs_values(input.append_only)) {
            let name = values_table(call, input);
            if tables.iter().any(|t| t.name == name) {
                continue;
            }
            let mut key = group_columns.clone();
            key.extend(key_columns(input, &[call.arg.expect("only COUNT(*) has no argument")]));
            tables.push(StateTableSpec {
                name,
                key,
                value: vec![own_value("count", SqlType::BigInt)],
                routing_columns: self.group.len(),
                version: 1,
            });
        }
        tables
    }

    fn title(&self, inputs: &[&Output]) -> String {
        let input = inputs[0];
        let calls: Vec<String> = self.calls.iter().map(|c| c.text(input)).collect();
        match (self.group.is_empty(), calls.is_empty()) {
            (_, true) => format!("Distinct {}", names(input, &self.group)),
            (true, false) => format!("Aggregate {}", calls.join(", ")),
            (false, false) => format!("Aggregate {} PER {}", calls.join(", "), names(input, &self.group)),
        }
    }
}
