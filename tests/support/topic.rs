//! The strict fold of a changelog in a topic (`debezium-json` with keys), look by look, as a consumer that reads
//! committed messages sees it.

use std::collections::{BTreeMap, HashMap};

use rdkafka::message::Message;
use serde_json::{Map, Value};

use super::changelog::{Rows, row_text};
use super::kafka::Kafka;

/// What is there after the messages that were looked at. A row that is inserted must not be there, one that is deleted
/// must be there exactly so, every message must have the key of its row, and no key may be in two partitions.
pub struct TopicFold {
    topic: String,
    key: Vec<String>,
    next: BTreeMap<i32, i64>,
    /// Rows by their keys.
    there: HashMap<String, String>,
    /// The partition of each key that ever came.
    homes: HashMap<String, i32>,
    pub changes: usize,
}

impl TopicFold {
    /// `key`: the names of the columns that make up the messages' keys.
    pub fn new(topic: &str, key: &[&str]) -> TopicFold {
        TopicFold {
            topic: topic.to_owned(),
            key: key.iter().map(|k| (*k).to_owned()).collect(),
            next: BTreeMap::new(),
            there: HashMap::new(),
            homes: HashMap::new(),
            changes: 0,
        }
    }

    /// Takes in what is committed since the last look; the first message that breaks a rule is the error.
    pub fn look(&mut self, kafka: &Kafka) -> Result<(), String> {
        let (mut next, mut broken) = (std::mem::take(&mut self.next), None);
        kafka.each_from(&self.topic.clone(), &mut next, |m| {
            if broken.is_some() {
                return;
            }
            let text = |b: Option<&[u8]>| b.map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default();
            let (key, value) = (text(m.key()), text(m.payload()));
            if let Err(e) = self.apply(m.partition(), &key, &value) {
                let place = format!("{} partition {} offset {}", self.topic, m.partition(), m.offset());
                broken = Some(format!("{place}: {e}; key {key}, value {value}"));
            }
        });
        self.next = next;
        broken.map_or(Ok(()), Err)
    }

    fn apply(&mut self, partition: i32, key: &str, value: &str) -> Result<(), String> {
        let event: Value = serde_json::from_str(value).map_err(|e| e.to_string())?;
        let (before, after) = (&event["before"], &event["after"]);
        match (event["op"].as_str(), before.is_null(), after.is_null()) {
            (Some("c"), true, false) | (Some("u"), false, false) | (Some("d"), false, true) => {}
            _ => return Err("op, before and after do not fit".to_owned()),
        }
        let home = *self.homes.entry(key.to_owned()).or_insert(partition);
        if home != partition {
            return Err(format!("earlier messages of the key are in partition {home}"));
        }
        let own = serde_json::from_str::<Value>(key).map_err(|e| e.to_string())?;
        for row in [before, after].into_iter().filter(|r| !r.is_null()) {
            let of_row: Map<_, _> = self.key.iter().map(|k| (k.clone(), row[k].clone())).collect();
            if own != Value::Object(of_row) {
                return Err("the key is not that of the row".to_owned());
            }
        }
        if !before.is_null() {
            match self.there.remove(key) {
                Some(old) if old == row_text(before) => {}
                Some(old) => return Err(format!("deleted, but it is {old}")),
                None => return Err("deleted, but it is not there".to_owned()),
            }
        }
        if !after.is_null()
            && let Some(old) = self.there.insert(key.to_owned(), row_text(after))
        {
            return Err(format!("inserted, but there is {old}"));
        }
        self.changes += 1;
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.there.len()
    }

    pub fn rows(&self) -> Rows {
        self.there.values().cloned().collect()
    }
}
