//! Sink: a target. Its identity is the target's, never its inputs'.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thalweg_core::table::{Delivery, SinkMode, TableDef};

use super::Meaning;
use crate::id::{Canonical, OperatorId};
use crate::node::Output;

/// Name of the connector by which the shell and the session collect a SELECT's changes.
pub const COLLECT: &str = "collect";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkSpec {
    pub connector: String,
    /// With secrets masked: the session opens the sink with the catalog's definition, found by `def.name`.
    pub def: TableDef,
    /// Which physical thing is written; enters the id.
    pub identity: BTreeMap<String, String>,
    pub accepts: SinkMode,
    pub delivery: Delivery,
    pub needs_net: bool,
    /// Ordinals of the input by which changes are folded: the declared primary key, else the query's unique key,
    /// else empty (the whole row).
    pub key: Vec<usize>,
    /// The input never has more than one row: `key` is empty because it needs no columns. Changes are folded by it; stored
    /// only if it is so, and no part of the id.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_row: bool,
}

impl Meaning for SinkSpec {
    fn kind(&self) -> &'static str {
        "sink/1"
    }

    fn canonical(&self, c: &mut Canonical, _: &[&Output]) {
        c.text(&self.connector);
        c.list(self.identity.iter(), |c, (k, v)| {
            c.text(k).text(v);
        });
    }

    fn is_identified_by_inputs(&self) -> bool {
        false
    }

    fn outputs(&self, _: &[&Output], _: OperatorId) -> Vec<Output> {
        vec![]
    }

    fn title(&self, _: &[&Output]) -> String {
        let delivery = match self.delivery {
            Delivery::ExactlyOnce => ", exactly-once",
            Delivery::AtLeastOnce => ", at-least-once",
            Delivery::None => "",
        };
        if self.connector == COLLECT {
            return "Result".to_owned();
        }
        format!("Sink {} ({}{delivery})", self.def.name, self.connector)
    }
}
