//! Where a reader stands: what was *emitted*, in a form that people can read in a checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};
use thalweg_connector_api::Position;
use thalweg_core::{Error, Result};

use crate::gtid::{Gtid, GtidSet};
use crate::key::Key;
use crate::layout::ServerColumn;

/// The position of a server's split. After it everything of the transactions in `gtid_set` was emitted that concerns
/// finished parts of tables, and of each transaction `within` the rows that it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServerPosition {
    /// Transactions that are through.
    pub gtid_set: GtidSet,
    /// Where their last one ends in the log of `server`: for people, and to order what was read against a chunk.
    pub file: String,
    pub pos: u64,
    /// UUID of the server that `file` and `pos` are of.
    pub server: String,
    /// Transactions that a tick had to cut: one, or several behind a failover to a server that has them in another order.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_more")]
    pub within: Vec<Within>,
    /// Rows emitted since the begin: the order of arrival of the next one.
    #[serde(default)]
    pub rows: u64,
    /// By `database.table`, and how it is read if otherwise than as a table with its snapshot.
    pub tables: BTreeMap<String, TablePosition>,
    /// Distributed transactions that are prepared, hold no row of a captured table, and wait for their commit.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub prepared: BTreeSet<String>,
}

/// A transaction that is through in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Within {
    pub gtid: Gtid,
    /// Per table, row images that were taken (an update has two): not events, since a replica packs rows into others.
    pub rows: BTreeMap<String, u64>,
}

/// Where a table stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TablePosition {
    pub snapshot: TableState,
    /// The table's columns on the server at this position: rows in the binlog have those of their time.
    pub columns: Vec<ServerColumn>,
    /// Names, in the key's order.
    pub primary_key: Vec<String>,
}

/// How far a table's snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableState {
    /// No chunk is finished.
    Empty,
    /// All keys up to this one are.
    UpTo(Key),
    /// The whole table.
    Done,
}

/// What was stored first is one, not in a list.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Within>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Found {
        One(Within),
        More(Vec<Within>),
    }
    Ok(match Found::deserialize(deserializer)? {
        Found::One(within) => vec![within],
        Found::More(list) => list,
    })
}

impl ServerPosition {
    /// Transactions that were read, whole or in part.
    pub fn seen(&self) -> GtidSet {
        let mut seen = self.gtid_set.clone();
        for within in &self.within {
            seen.add(&within.gtid);
        }
        seen
    }

    /// Sets how much of a transaction is through.
    pub fn put_within(&mut self, within: Within) {
        match self.within.iter_mut().find(|w| w.gtid == within.gtid) {
            Some(known) => *known = within,
            None => self.within.push(within),
        }
    }

    pub fn to_stored(&self) -> Position {
        Position(serde_json::to_value(self).expect("plain data"))
    }

    pub fn from_stored(position: &Position) -> Result<Self> {
        serde_json::from_value(position.0.clone())
            .map_err(|e| Error::checkpoint(format!("the stored position of a mysql-cdc source cannot be read: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyPart;

    fn table(snapshot: TableState) -> TablePosition {
        let column = crate::testing::server_column("id", "int");
        TablePosition { snapshot, columns: vec![column], primary_key: vec!["id".to_owned()] }
    }

    #[test]
    fn a_position_survives_a_checkpoint_and_can_be_read() {
        let position = ServerPosition {
            gtid_set: "3e11fa47-9b1c-11ef-8a3d-0242ac110002:1-5".parse().unwrap(),
            file: "binlog.000002".to_owned(),
            pos: 1 << 33,
            server: "3e11fa47-9b1c-11ef-8a3d-0242ac110002".to_owned(),
            within: vec![Within {
                gtid: "3e11fa47-9b1c-11ef-8a3d-0242ac110002:6".parse().unwrap(),
                rows: BTreeMap::from([("shop.orders".to_owned(), 7)]),
            }],
            rows: 12,
            tables: BTreeMap::from([
                ("shop.a".to_owned(), table(TableState::Empty)),
                (
                    "shop.b".to_owned(),
                    table(TableState::UpTo(Key(vec![KeyPart::Int(-3), KeyPart::Text(b"x".to_vec())]))),
                ),
                ("shop.c".to_owned(), table(TableState::Done)),
            ]),
            prepared: BTreeSet::new(),
        };
        let stored = position.to_stored();
        assert_eq!(ServerPosition::from_stored(&stored).unwrap(), position);
        assert_eq!(stored.0["tables"]["shop.b"]["snapshot"]["up-to"][0], "int:-3");
        // Without a list, as it was stored first.
        let mut earlier = stored;
        earlier.0["within"] = earlier.0["within"][0].take();
        assert_eq!(ServerPosition::from_stored(&earlier).unwrap(), position);
    }

    #[test]
    fn what_is_no_position_is_an_error() {
        let e = ServerPosition::from_stored(&Position(serde_json::json!({"offset": 3}))).unwrap_err();
        assert!(e.to_string().contains("mysql-cdc"), "{e}");
    }
}
