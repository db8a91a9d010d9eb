//! Where a partition stands, as it is kept in checkpoints.

use serde::{Deserialize, Serialize};
use thalweg_connector_api::{Position, Split, SplitId};
use thalweg_core::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPosition {
    /// The next offset to be read.
    pub offset: i64,
    /// Bounded: the first offset that is not read, found out at the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// Of the topic, where the broker gives one: a topic that was made anew has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// Of the last message that was read: a log that was cut off (an unclean election of a leader) is noticed by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<i32>,
}

impl PartitionPosition {
    pub fn to_position(&self) -> Position {
        Position(serde_json::to_value(self).expect("plain data"))
    }

    pub fn of(position: &Position, split: &SplitId) -> Result<Self> {
        serde_json::from_value(position.0.clone())
            .map_err(|e| Error::checkpoint(format!("{split}: {} is not a position in a partition: {e}", position.0)))
    }
}

/// A partition of a topic, as a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    pub topic: String,
    pub partition: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
}

impl Partition {
    pub fn to_split(&self) -> Split {
        Split {
            id: SplitId(format!("{}-{}", self.topic, self.partition)),
            detail: serde_json::to_value(self).expect("plain data"),
        }
    }

    pub fn of(split: &Split) -> Result<Self> {
        serde_json::from_value(split.detail.clone())
            .map_err(|e| Error::internal(format!("split {} is no partition: {e}", split.id)))
    }

    /// # Errors
    /// The topic is not the one that was read before.
    pub fn check_same_topic(&self, position: &PartitionPosition, of: &str) -> Result<()> {
        match (&self.topic_id, &position.topic_id) {
            (Some(now), Some(before)) if now != before => Err(recreated(of, &self.topic, before, now)),
            _ => Ok(()),
        }
    }
}

/// A topic of the same name that is another one.
pub fn recreated(of: &str, topic: &str, before: &str, now: &str) -> Error {
    Error::checkpoint(format!(
        "{of}: topic {topic} was deleted and made anew since it was read (its id was {before}, and is {now})"
    ))
    .note("offsets of the old topic mean nothing in the new one: begin anew with --fresh, or read the topic under another table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_plain_numbers() {
        let p = PartitionPosition { offset: 42, end: None, topic_id: None, leader_epoch: None };
        assert_eq!(p.to_position().0.to_string(), r#"{"offset":42}"#);
        let all = PartitionPosition { end: Some(50), topic_id: Some("x".to_owned()), leader_epoch: Some(3), ..p };
        let id = SplitId("t-0".to_owned());
        assert_eq!(PartitionPosition::of(&all.to_position(), &id).unwrap(), all);
        assert!(PartitionPosition::of(&Position(serde_json::json!({"bytes": 1})), &id).is_err());
    }

    #[test]
    fn a_topic_made_anew_is_noticed() {
        let p = Partition { topic: "t".to_owned(), partition: 0, topic_id: Some("new".to_owned()) };
        let at = |id: Option<&str>| PartitionPosition {
            offset: 1,
            end: None,
            topic_id: id.map(str::to_owned),
            leader_epoch: None,
        };
        assert!(p.check_same_topic(&at(Some("old")), "table t").unwrap_err().to_string().contains("made anew"));
        assert!(p.check_same_topic(&at(Some("new")), "table t").is_ok());
        // A broker that gave none.
        assert!(p.check_same_topic(&at(None), "table t").is_ok());
        assert_eq!(Partition::of(&p.to_split()).unwrap(), p);
        assert_eq!(p.to_split().id.0, "t-0");
    }
}
